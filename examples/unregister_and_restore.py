"""Take a registration back: everything is as it was before, and streams that have begun are not disturbed."""

import anyio

from pi_ai import Context, Registry, UserMessage
from pi_ai.testing import Sandbox, Turn


async def main() -> None:
    async with Sandbox(Turn("I was not disturbed.")) as box, Registry() as pi:
        before = pi.get_model("groq", "openai/gpt-oss-120b")

        pi.register_provider(
            "groq", base_url=box.base_url("openai-completions"), api="openai-completions", models=[{"id": "mine"}]
        )
        print([model.id for model in pi.get_models("groq")])  # → ['mine']

        async with pi.stream(pi.get_model("groq", "mine"), Context([UserMessage("Hello")]), api_key="key") as events:
            await anext(events)
            pi.unregister_provider("groq")
            message = await events.result()

        print(message.text)  # → I was not disturbed.
        print(pi.get_model("groq", "openai/gpt-oss-120b") == before)  # → True
        print(pi.find("groq", "mine"))  # → None


if __name__ == "__main__":
    anyio.run(main)
