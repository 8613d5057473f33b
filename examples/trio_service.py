"""A small service on trio: a question a line over TCP, and the answer streams back.

    PI_AI_MODEL=openrouter/auto python examples/trio_service.py 4000     # then: nc localhost 4000

So many answers at a time, the others wait. Who hangs up aborts his answer, because the task that reads from him ends
the nursery in which it streams. On Ctrl-C or SIGTERM nobody is let in any more, idle connections are closed, and the
answers that run have some seconds to end.
"""

import os
import signal
import sys

import trio

from pi_ai import Context, Model, Registry, TextDeltaEvent, UserMessage
from pi_ai.testing import Sandbox

AT_A_TIME = 10
GRACE_S = 10.0


class Service:
    def __init__(self, pi: Registry, model: Model) -> None:
        self.pi, self.model = pi, model
        self.limit = trio.CapacityLimiter(AT_A_TIME)
        self.stopping, self.accepting = trio.Event(), trio.CancelScope()

    async def serve(self, port: int, *, task_status: trio.TaskStatus = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as connections:
            self.connections = connections.cancel_scope
            with self.accepting:
                await trio.serve_tcp(
                    self.connection, port, host="127.0.0.1", handler_nursery=connections, task_status=task_status
                )

    def stop(self) -> None:
        self.stopping.set()
        self.accepting.cancel()
        self.connections.deadline = trio.current_time() + GRACE_S

    async def connection(self, client: trio.SocketStream) -> None:
        to_answers, questions = trio.open_memory_channel[str](0)
        async with client, trio.open_nursery() as nursery:
            nursery.start_soon(self.answers, client, questions, nursery.cancel_scope)
            rest = b""
            async for data in client:
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    await to_answers.send(line.decode(errors="replace"))
            nursery.cancel_scope.cancel()  # hung up

    async def answers(
        self, client: trio.SocketStream, questions: trio.MemoryReceiveChannel[str], connection: trio.CancelScope
    ) -> None:
        while not self.stopping.is_set():
            async with trio.open_nursery() as idle:
                idle.start_soon(self.until_stopping, idle.cancel_scope)
                question = await questions.receive()
                idle.cancel_scope.cancel()
            if self.stopping.is_set():
                break
            async with self.limit, self.pi.stream(self.model, Context([UserMessage(question)])) as events:
                async for event in events:
                    if isinstance(event, TextDeltaEvent):
                        await client.send_all(event.delta.encode())
            await client.send_all(b"\n")
        connection.cancel()

    async def until_stopping(self, scope: trio.CancelScope) -> None:
        await self.stopping.wait()
        scope.cancel()


async def stop_on_signal(service: Service) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            service.stop()
            return  # a second one ends the program at once


async def client(service: Service, port: int) -> None:
    """Who asks, while the service is about to stop."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(b"Are you there?\n")
        answer = await stream.receive_some()
        service.stop()
        async for data in stream:
            answer += data
        print(answer.decode(), end="")  # → This is the sandbox, which only repeats what it is told: Are you there?


async def main(port: int | None = None) -> None:
    async with Sandbox() as box, Registry() as pi:
        name = os.environ.get("PI_AI_MODEL", "")
        model = pi.get_model(name) if name else box.model()  # the sandbox repeats what it is told
        service = Service(pi, model)
        async with trio.open_nursery() as nursery:
            [listener] = await nursery.start(service.serve, port or 0)
            if port is None:
                await client(service, listener.socket.getsockname()[1])
            else:
                nursery.start_soon(stop_on_signal, service)


if __name__ == "__main__":
    trio.run(main, *map(int, sys.argv[1:2]))
