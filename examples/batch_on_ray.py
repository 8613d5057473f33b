"""A batch on a cluster with Ray: models, contexts and messages are pickled, each worker has one Registry of its own.

pip install ray
PI_AI_MODEL=openrouter/auto python examples/batch_on_ray.py
"""

import os

import anyio
import ray

from pi_ai import AssistantMessage, Context, Model, Registry, UserMessage
from pi_ai.testing import Sandbox

WORKERS = 2
AT_A_TIME = 20  # of each worker


@ray.remote
class Worker:
    """Lives on some machine of the cluster, as long as the batch does; its connections do, too."""

    def __init__(self) -> None:
        self.pi: Registry | None = None
        self.limit = anyio.Semaphore(AT_A_TIME)

    async def answer(self, model: Model, context: Context) -> AssistantMessage:
        if self.pi is None:
            self.pi = await Registry(max_connections=AT_A_TIME).__aenter__()
        async with self.limit:
            return await self.pi.complete(model, context)

    async def close(self) -> None:
        if self.pi is not None:
            await self.pi.__aexit__(None, None, None)


async def main() -> None:
    contexts = [Context([UserMessage(f"What is {number} + {number}?")]) for number in range(100)]
    async with Sandbox() as box, Registry() as pi:
        name = os.environ.get("PI_AI_MODEL", "")
        model = pi.get_model(name) if name else box.model()  # the sandbox repeats what it is told
        local = [(await pi.complete(model, context)).text for context in contexts]

        ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
        try:
            workers = [Worker.remote() for _ in range(WORKERS)]
            asked = [workers[n % WORKERS].answer.remote(model, context) for n, context in enumerate(contexts)]
            answers = await anyio.to_thread.run_sync(ray.get, asked)
            await anyio.to_thread.run_sync(ray.get, [worker.close.remote() for worker in workers])
        finally:
            ray.shutdown()
    print(len(answers), "answers")  # → 100 answers
    print([message.text for message in answers] == local)  # → True


if __name__ == "__main__":
    anyio.run(main)
