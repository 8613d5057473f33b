"""A server that understands chat completions in its own way: say how, in ``compat``, for all models or for one."""

import anyio

from pi_ai import Context, Registry, UserMessage
from pi_ai.testing import Sandbox, Turn


async def main() -> None:
    async with Sandbox(Turn("One."), Turn("Two.")) as box, Registry() as pi:
        pi.register_provider(
            "my-llm",
            base_url=box.base_url("openai-completions"),
            api_key="a key",
            api="openai-completions",
            compat={"supportsDeveloperRole": False, "maxTokensField": "max_tokens"},
            models=[
                {"id": "plain", "reasoning": True, "compat": {"supportsReasoningEffort": False}},
                {
                    "id": "qwen",
                    "reasoning": True,
                    "compat": {"thinkingFormat": "qwen"},
                    "thinking_level_map": {"minimal": None},
                },
            ],
        )

        context = Context([UserMessage("Hello")], system_prompt="Be brief.")
        for name in ("plain", "qwen"):
            await pi.complete(pi.get_model("my-llm", name), context, reasoning="high", max_tokens=100)
            body = box.requests[-1].body
            print(name, body["messages"][0]["role"], sorted(body.keys() - {"messages", "stream", "stream_options"}))
        # → plain system ['max_tokens', 'model']
        # → qwen system ['enable_thinking', 'max_tokens', 'model', 'reasoning_effort']


if __name__ == "__main__":
    anyio.run(main)
