"""OpenAI (ChatGPT Plus/Pro): for applications that have a client id of their own (auth section 6, tier B).

The vendor issues the client id of this flow to its own application. pi_ai ships none; whoever is entitled to one gives
it. API keys (``OPENAI_API_KEY``) need nothing of this.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from typing import Any

import attrs

from pi_ai.auth.credentials import Credential, Secret
from pi_ai.auth.oauth.device import Complete, Failed, Pending, Poll, poll_device_code
from pi_ai.auth.oauth.flows import AuthorizationCodeFlow, Redirect, seconds
from pi_ai.auth.oauth.http import Answer, Fields, request
from pi_ai.auth.oauth.interaction import LoginCancelled, OAuthLoginCallbacks
from pi_ai.errors import failure

_DEVICE = "https://auth.openai.com/api/accounts/deviceauth"
_DEVICE_PAGE = "https://auth.openai.com/codex/device"
_DEVICE_REDIRECT = "https://auth.openai.com/deviceauth/callback"
_DEVICE_LIFETIME_S = 900.0
_REDIRECT = Redirect(port=1455, path="/auth/callback", name="localhost")
_CLAIM = "https://api.openai.com/auth"

_CHOICES = (
    {"id": "browser", "label": "With a browser on this machine"},
    {"id": "device_code", "label": "With a code, on any device"},
)


@attrs.frozen(kw_only=True)
class OpenAICodexFlow(AuthorizationCodeFlow):
    """The login of a ChatGPT subscription.

    :ivar client_id: one that the vendor has issued to your application.
    :ivar originator: the name of your application, as the vendor knows it.
    """

    client_id: str | None = attrs.field(kw_only=True)
    originator: str = "pi-ai-python"
    name: str = "OpenAI (ChatGPT Plus/Pro)"
    authorize_url: str = "https://auth.openai.com/oauth/authorize"
    token_url: str = "https://auth.openai.com/oauth/token"  # noqa: S105 - a URL
    scopes: tuple[str, ...] = ("openid", "profile", "email", "offline_access")
    redirect: Redirect = _REDIRECT
    margin_s: float = 0.0
    is_subscription: bool = True

    async def login(self, callbacks: OAuthLoginCallbacks) -> Credential:
        """See :class:`Tokens`."""
        how = await callbacks.on_select(message=f"How do you want to log in to {self.name}?", options=_CHOICES)
        if how is None:
            raise LoginCancelled
        if how == "device_code":
            return await self._login_elsewhere(callbacks)
        return await super().login(callbacks)

    def page_fields(self, redirect_uri: str) -> dict[str, str]:
        """See :class:`AuthorizationCodeFlow`."""
        return {
            "id_token_add_organizations": "true",
            "codex_cli_simplified_flow": "true",
            "originator": self.originator,
        }

    def credential(self, answer: Answer, operation: str, before: Credential | None = None) -> Credential:
        """See :class:`Tokens`."""
        made = super().credential(answer, operation, before)
        return made.replaced(accountId=self._account(made))

    def _account(self, credential: Credential) -> str:
        try:
            payload = credential.access.split(".")[1]
            claims: Any = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
            account = claims[_CLAIM]["chatgpt_account_id"]
            if isinstance(account, str) and account:
                return account
        except (ValueError, LookupError, TypeError):
            pass
        raise failure("oauth", f"{self.name} login failed: the access token names no account", phase="auth")

    async def _login_elsewhere(self, callbacks: OAuthLoginCallbacks) -> Credential:
        what = f"{self.name} device authorization"
        answer = await request("POST", f"{_DEVICE}/usercode", what, json={"client_id": self.client_id})
        if answer.status == 404:
            raise failure("oauth", f"{what} is not enabled for this account; use the browser", phase="auth")
        if not answer.ok:
            raise answer.failed(what)
        device, user_code = Secret(answer.text("device_auth_id", what)), answer.text("user_code", what)
        interval = seconds(answer.data.get("interval"))
        callbacks.on_device_code(
            user_code=user_code,
            verification_uri=_DEVICE_PAGE,
            interval_seconds=interval,
            expires_in_seconds=_DEVICE_LIFETIME_S,
        )

        async def poll() -> Poll[Answer]:
            told: Fields = {"device_auth_id": device, "user_code": user_code}
            answer = await request("POST", f"{_DEVICE}/token", f"{self.name} token poll", json=told)
            if answer.ok:
                return Complete(answer)
            if answer.status in (403, 404):
                return Pending()
            return Failed(str(answer.failed(f"{self.name} token poll")))

        given = await poll_device_code(poll, interval, _DEVICE_LIFETIME_S)
        fields: Fields = {
            "grant_type": "authorization_code",
            "client_id": self.client_id,
            "code": Secret(given.text("authorization_code", what)),
            "code_verifier": Secret(given.text("code_verifier", what)),
            "redirect_uri": _DEVICE_REDIRECT,
        }
        return self.credential(await self.exchange("exchange", fields), "exchange")
