"""xAI, Kimi Code and Meta: logins with a device code, for applications with a client id of their own (tier B).

The vendors issue the client ids of these flows to their own applications. pi_ai ships none; whoever is entitled to one
gives it. API keys need nothing of this. Rules: auth section 6.
"""

from __future__ import annotations

import os
import time

import anyio
import attrs

from pi_ai.auth.base import Auth
from pi_ai.auth.credentials import Credential, Secret
from pi_ai.auth.oauth.flows import DeviceCodeFlow, Use
from pi_ai.auth.oauth.http import Answer, request
from pi_ai.errors import PiAIError, failure

KIMI_HOST = "https://auth.kimi.com"
META_KEY_LIFETIME_S = 24 * 3600


@attrs.frozen(kw_only=True)
class XaiFlow(DeviceCodeFlow):
    """The login of a Grok or X subscription.

    :ivar client_id: one that the vendor has issued to your application.
    """

    client_id: str | None = attrs.field(kw_only=True)
    name: str = "xAI (Grok/X subscription)"
    device_url: str = "https://auth.x.ai/oauth2/device/code"
    token_url: str = "https://auth.x.ai/oauth2/token"  # noqa: S105 - a URL
    scopes: tuple[str, ...] = ("openid", "profile", "email", "offline_access", "grok-cli:access", "api:access")
    margin_s: float = 300.0
    is_subscription: bool = True

    def page(self, answer: Answer, what: str) -> str:
        """It has to be https."""
        url = super().page(answer, what)
        if not url.startswith("https:"):
            raise failure("oauth", f"{what} failed: its page must be https", phase="auth")
        return url


def _kimi_host() -> str:
    return (os.environ.get("KIMI_CODE_OAUTH_HOST") or os.environ.get("KIMI_OAUTH_HOST") or KIMI_HOST).rstrip("/")


def _kimi_auth(credential: Credential) -> Auth:
    return Auth(headers={"Authorization": f"Bearer {credential.access}"})


@attrs.frozen(kw_only=True)
class KimiFlow(DeviceCodeFlow):
    """The login of a Kimi Code subscription.

    :ivar client_id: one that the vendor has issued to your application.
    """

    client_id: str | None = attrs.field(kw_only=True)
    name: str = "Kimi Code (subscription)"
    device_url: str = attrs.field(factory=lambda: f"{_kimi_host()}/api/oauth/device_authorization")
    token_url: str = attrs.field(factory=lambda: f"{_kimi_host()}/api/oauth/token")
    lifetime_s: float | None = 900.0
    margin_s: float = 0.0
    use: Use | None = _kimi_auth
    is_subscription: bool = True

    async def refresh(self, credential: Credential) -> Credential:
        """Exchange the refresh token; tried again after 1, 2 and 4 s where the server is out of order."""
        for delay in (1.0, 2.0, 4.0):
            try:
                return await super().refresh(credential)
            except PiAIError as error:
                status = error.info.status
                if status is not None and status != 429 and status < 500:
                    raise
            await anyio.sleep(delay)
        return await super().refresh(credential)


@attrs.frozen(kw_only=True)
class MetaFlow(DeviceCodeFlow):
    """The login of a Muse subscription: the identity token stays, and keys for a day are made with it.

    :ivar client_id: one that the vendor has issued to your application.
    """

    client_id: str | None = attrs.field(kw_only=True)
    name: str = "Meta (Muse subscription)"
    device_url: str = "https://auth.meta.com/oidc/device/authorization/"
    token_url: str = "https://auth.meta.com/oidc/device/token/"  # noqa: S105 - a URL
    key_url: str = "https://api.meta.ai/muse-code/key"
    is_subscription: bool = True

    async def made_of(self, answer: Answer) -> Credential:
        """A key, made with the identity token."""
        what = f"{self.name} token exchange"
        token = answer.data.get("id_token") or answer.text("access_token", what)
        return await self.refresh(Credential({"type": "oauth", "access": "", "refresh": token, "expires": 0}))

    async def refresh(self, credential: Credential) -> Credential:
        """Make another key."""
        what = f"{self.name} key"
        headers = {"x-api-version": "1.0.0"}
        answer = await request("POST", self.key_url, what, json={}, bearer=Secret(credential.refresh), headers=headers)
        if answer.status in (401, 403):
            raise failure("oauth", f"{self.name}: sign in again", status=answer.status, phase="auth")
        if not answer.ok:
            raise answer.failed(what)
        name = "key" if answer.data.get("key") else "api_key"
        key = answer.text(name, what)
        return credential.replaced(access=key, expires=int((time.time() + META_KEY_LIFETIME_S) * 1000))
