"""Add a provider: a server with an API that is known, and its models."""

import os

import anyio

from pi_ai import Context, ProviderModelConfig, Registry, TextDeltaEvent, UserMessage
from pi_ai.testing import Sandbox, Turn


async def main() -> None:
    os.environ["MY_LLM_KEY"] = "secret"
    async with Sandbox(Turn("Nice to meet you.")) as box, Registry() as pi:
        pi.register_provider(
            "my-llm",
            name="My LLM",
            base_url=box.base_url("openai-completions"),
            api_key="$MY_LLM_KEY",
            api="openai-completions",
            models=[
                ProviderModelConfig("large", reasoning=True, input=["text", "image"], context_window=200_000),
                {"id": "small", "cost": {"input": 0.1, "output": 0.4}},  # a mapping will do
            ],
        )

        names = [model.id for model in pi.get_available() if model.provider == "my-llm"]
        print(names)  # → ['large', 'small']
        async with pi.stream(pi.get_model("my-llm", "large"), Context([UserMessage("Hello")])) as events:
            async for event in events:
                match event:
                    case TextDeltaEvent(delta=text):
                        print(text, end="", flush=True)
        print()
        print(events.message.text == "Nice to meet you.")  # → True


if __name__ == "__main__":
    anyio.run(main)
