"""A gateway: another address, a header that it wants, and a key of its own."""

import anyio

from pi_ai import Context, Registry, UserMessage
from pi_ai.testing import Sandbox, Turn


async def main() -> None:
    async with Sandbox(Turn("Hello from the gateway.")) as gateway, Registry() as pi:
        pi.register_provider("openrouter", headers={"X-Gateway-Team": "search"})
        pi.register_provider(  # what is registered again is added
            "openrouter",
            base_url=gateway.base_url("openai-completions"),
            api_key="!echo gateway-key",  # the output of a command, for instance of a password manager
        )

        message = await pi.complete(pi.get_model("openrouter", "auto"), Context([UserMessage("Hello")]))

        print(message.text)  # → Hello from the gateway.
        headers = gateway.requests[0].headers
        print(headers["x-gateway-team"], headers["authorization"])  # → search Bearer gateway-key


if __name__ == "__main__":
    anyio.run(main)
