"""Anthropic (Claude Pro/Max): for applications that have a client id of their own (auth section 6, tier B).

The vendor issues client ids to its own applications and refuses subscription tokens in others. pi_ai ships none;
whoever is entitled to one gives it. API keys (``ANTHROPIC_API_KEY``) need nothing of this.
"""

from __future__ import annotations

import attrs

from pi_ai.auth.credentials import Credential
from pi_ai.auth.oauth.callback import wait_for_callback_or_manual_input
from pi_ai.auth.oauth.flows import AuthorizationCodeFlow, Encoding, Redirect
from pi_ai.auth.oauth.http import Fields
from pi_ai.auth.oauth.interaction import LoginCancelled, OAuthLoginCallbacks
from pi_ai.auth.oauth.pkce import generate_pkce, generate_state

COPY_REDIRECT = "https://platform.claude.com/oauth/code/callback"

_REDIRECT = Redirect(port=53692, name="localhost", fallback="port")
_CHOICES = (
    {"id": "browser", "label": "With a browser on this machine"},
    {"id": "copy_code", "label": "Copy a code from a browser anywhere"},
)


@attrs.frozen(kw_only=True)
class AnthropicFlow(AuthorizationCodeFlow):
    """The login of a Claude subscription.

    :ivar client_id: one that the vendor has issued to your application.
    """

    client_id: str | None = attrs.field(kw_only=True)
    name: str = "Anthropic (Claude Pro/Max)"
    authorize_url: str = "https://claude.ai/oauth/authorize"
    token_url: str = "https://platform.claude.com/v1/oauth/token"  # noqa: S105 - a URL
    scopes: tuple[str, ...] = (
        "org:create_api_key",
        "user:profile",
        "user:inference",
        "user:sessions:claude_code",
        "user:mcp_servers",
        "user:file_upload",
    )
    redirect: Redirect = _REDIRECT
    authorize_fields: dict[str, str] = attrs.field(factory=lambda: {"code": "true"})
    encoding: Encoding = "json"
    margin_s: float = 300.0
    is_subscription: bool = True

    async def login(self, callbacks: OAuthLoginCallbacks) -> Credential:
        """See :class:`Tokens`."""
        how = await callbacks.on_select(message=f"How do you want to log in to {self.name}?", options=_CHOICES)
        if how is None:
            raise LoginCancelled
        if how != "copy_code":
            return await super().login(callbacks)
        pkce, state = generate_pkce(), generate_state()
        self.show(callbacks, COPY_REDIRECT, pkce, state)
        pasted = await wait_for_callback_or_manual_input(callbacks.interaction, None, "Paste the code that it shows")
        return await self.pasted(pasted, COPY_REDIRECT, pkce, state)

    def code_fields(self, state: str) -> Fields:
        """See :class:`AuthorizationCodeFlow`."""
        return {"state": state}
