"""OpenRouter: a browser login, open to any application, that makes an API key (auth section 6)."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import uuid4

import attrs

from pi_ai.auth.credentials import NEVER, Credential, Secret
from pi_ai.auth.oauth.flows import AuthorizationCodeFlow, Encoding, Redirect
from pi_ai.auth.oauth.interaction import OAuthLoginCallbacks
from pi_ai.auth.oauth.pkce import Pkce


@attrs.frozen(kw_only=True)
class OpenRouterFlow(AuthorizationCodeFlow):
    """There is no ``state``: the path that the browser comes back to is the secret."""

    name: str = "OpenRouter OAuth"
    authorize_url: str = "https://openrouter.ai/auth"
    token_url: str = "https://openrouter.ai/api/v1/auth/keys"  # noqa: S105 - a URL
    client_id: str | None = None
    encoding: Encoding = "json"

    async def login(self, callbacks: OAuthLoginCallbacks) -> Credential:
        """See :class:`Tokens`."""
        once = attrs.evolve(self, redirect=Redirect(path=f"/oauth/callback/{uuid4()}"))
        return await AuthorizationCodeFlow.login(once, callbacks)

    def checked_state(self, state: str) -> str | None:
        """There is none."""
        return None

    def page_fields(self, redirect_uri: str) -> Mapping[str, str | None]:
        """See :class:`AuthorizationCodeFlow`."""
        return {"callback_url": redirect_uri, **dict.fromkeys(("client_id", "response_type", "redirect_uri", "state"))}

    async def exchange_code(
        self, code: Secret, pkce: Pkce, redirect_uri: str, state: str, parameters: Mapping[str, str]
    ) -> Credential:
        """See :class:`AuthorizationCodeFlow`."""
        fields = {"code": code, "code_verifier": pkce.secret, "code_challenge_method": pkce.method}
        answer = await self.exchange("exchange", fields)
        key = answer.text("key", f"{self.name} token exchange")
        return Credential({"type": "oauth", "access": key, "refresh": "", "expires": NEVER})

    async def refresh(self, credential: Credential) -> Credential:
        """The key does not expire."""
        return credential
