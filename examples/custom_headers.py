"""Send headers of your own with every request to a provider. Their values may come from the environment."""

import os

import anyio

from pi_ai import Context, Registry, UserMessage
from pi_ai.testing import Sandbox, Turn


async def main() -> None:
    os.environ["TEAM_TOKEN"] = "secret"
    async with Sandbox(Turn("Hello.")) as box, Registry() as pi:
        pi.register_provider("groq", headers={"X-Team": "search", "X-Token": "$TEAM_TOKEN", "User-Agent": None})

        model = pi.get_model("groq", "openai/gpt-oss-120b")
        model.base_url = box.base_url("openai-completions")  # only here: the request shall stay on this machine
        message = await pi.complete(model, Context([UserMessage("Hello")]), api_key="a key", headers={"X-Run": "7"})

        print(message.text)  # → Hello.
        headers = box.requests[0].headers
        print(headers["x-team"], headers["x-token"], headers["x-run"])  # → search secret 7
        print("user-agent" in headers)  # → False


if __name__ == "__main__":
    anyio.run(main)
