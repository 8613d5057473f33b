"""Corporate single sign-on: log in once, the token is refreshed before it expires, and sent as the key.

``pi-ai login corporate-ai`` asks the same questions in a terminal. Where the server follows OAuth 2 to the letter, the
three functions are data: see ``AuthorizationCodeFlow`` and ``DeviceCodeFlow`` in ``pi_ai.oauth``.
"""

import json
import time

import anyio
import httpx

from pi_ai import Context, OAuthConfig, Registry, UserMessage
from pi_ai.oauth import AuthEvent, AuthPrompt, AuthUrl, InMemoryCredentialStore, OAuthLoginCallbacks
from pi_ai.testing import Sandbox
from pi_ai.testing.server import Answer, Received, Server


def corporate_login(sso: str) -> OAuthConfig:
    async def token(**form: str) -> dict[str, object]:
        async with httpx.AsyncClient() as client:
            answer = (await client.post(f"{sso}/token", data=form)).raise_for_status().json()
        expires = (time.time() + answer["expires_in"]) * 1000
        return {"access": answer["access_token"], "refresh": answer["refresh_token"], "expires": int(expires)}

    async def login(callbacks: OAuthLoginCallbacks) -> dict[str, object]:
        callbacks.on_auth(url=f"{sso}/authorize", instructions="Sign in with your badge.")
        code = await callbacks.on_prompt(message="The code that the page shows:")
        callbacks.on_progress("Asking for a token")
        return await token(grant_type="authorization_code", code=code)

    async def refresh_token(credentials: dict[str, str]) -> dict[str, object]:
        return await token(grant_type="refresh_token", refresh_token=credentials["refresh"])

    return OAuthConfig(
        name="Corporate AI (SSO)",
        login=login,
        refresh_token=refresh_token,
        get_api_key=lambda credentials: credentials["access"],
    )


class Employee:
    """Who logs in; in a program of yours a person at a terminal, or in a window."""

    def notify(self, event: AuthEvent) -> None:
        if isinstance(event, AuthUrl):
            print(event.instructions)

    async def prompt(self, prompt: AuthPrompt) -> str:
        return "4711"


class SingleSignOn:
    """The company's server, for this example. Its first token is as good as expired."""

    issued = 0

    async def serve(self, request: Received, answer: Answer) -> None:
        self.issued += 1
        token = {"access_token": f"token-{self.issued}", "refresh_token": "r", "expires_in": 3600 * (self.issued - 1)}
        await answer.whole(200, {"content-type": "application/json"}, json.dumps(token).encode())


async def main() -> None:
    store = InMemoryCredentialStore()
    async with Server(SingleSignOn().serve) as sso, Sandbox() as gateway, Registry(credentials=store) as pi:
        pi.register_provider(
            "corporate-ai",
            base_url=gateway.base_url("openai-completions"),
            api="openai-completions",
            models=[{"id": "corp-large"}],
            oauth=corporate_login(sso.url),
        )
        await pi.login("corporate-ai", "oauth", Employee())  # → Sign in with your badge.
        print((await pi.credentials.read("corporate-ai")).access)  # → token-1

        model = pi.get_model("corporate-ai", "corp-large")
        for _ in range(2):  # refreshed before the first request, and not before the second
            message = await pi.complete(model, Context([UserMessage("Hello")]))
            print(message.stop_reason, gateway.requests[-1].headers["authorization"])
        # → stop Bearer token-2
        # → stop Bearer token-2

        await pi.logout("corporate-ai")
        print(pi.has_configured_auth("corporate-ai"))  # → False


if __name__ == "__main__":
    anyio.run(main)
