"""Send a built-in provider's requests through a proxy: its models, prices and key stay as they are."""

import anyio

from pi_ai import Context, Registry, UserMessage
from pi_ai.testing import Sandbox, Turn


async def main() -> None:
    async with Sandbox(Turn("Hello from behind the proxy.")) as proxy, Registry() as pi:
        pi.register_provider("anthropic", base_url=proxy.base_url("anthropic-messages"))

        model = pi.get_model("anthropic", "claude-sonnet-4-5")
        message = await pi.complete(model, Context([UserMessage("Hello")]), api_key="a key")

        print(message.text)  # → Hello from behind the proxy.
        print(proxy.requests[0].headers["x-api-key"])  # → a key


if __name__ == "__main__":
    anyio.run(main)
