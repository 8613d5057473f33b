"""Radius, and every gateway that speaks its protocol, at any URL (auth section 6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from pi_ai.auth.credentials import Credential
from pi_ai.auth.oauth.config import OAuthConfig
from pi_ai.auth.oauth.flows import AuthorizationCodeFlow, DeviceCodeFlow, Redirect, access_token
from pi_ai.auth.oauth.http import request
from pi_ai.auth.oauth.interaction import LoginCancelled, OAuthLoginCallbacks, web_url

GATEWAY = "https://radius.pi.dev"
CLIENT_ID = "pi-gateway"
"""The one that gateways of this kind give to everybody."""
SCOPES = ("gateway", "offline_access")


def _scope(data: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"scope": data["scope"]} if "scope" in data else {}


@attrs.frozen(kw_only=True)
class RadiusFlow:
    """The login of a gateway, with a browser or with a code.

    :ivar base_url: of the gateway; a ``/v1`` at its end does not matter. ``name``: what people see.
    """

    base_url: str = GATEWAY
    name: str = "Radius"

    async def login(self, callbacks: OAuthLoginCallbacks) -> Credential:
        """Log in, in the way that the user chooses."""
        gateway = self._gateway
        how = await callbacks.on_select(message=f"How do you want to log in to {self.name}?", options=_CHOICES)
        if how is None:
            raise LoginCancelled
        if how == "device-code":
            flow = DeviceCodeFlow(
                **self._tokens(), device_url=f"{gateway}/v1/oauth/device", scopes=SCOPES, waits_first=False
            )
            return await flow.login(callbacks)
        what = f"{self.name} discovery"
        answer = await request("GET", f"{gateway}/v1/oauth", what)
        if not answer.ok:
            raise answer.failed(what)
        browser = AuthorizationCodeFlow(
            **self._tokens(),
            authorize_url=web_url(answer.text("authorizationEndpoint", what)),
            scopes=SCOPES,
            redirect=Redirect(port=1456, path="/oauth/callback"),
            authorize_fields={"handoff": "url"},
        )
        return await browser.login(callbacks)

    async def refresh(self, credential: Credential) -> Credential:
        """Exchange the refresh token."""
        return await DeviceCodeFlow(**self._tokens(), device_url="").refresh(credential)

    def config(self) -> OAuthConfig:
        """What a provider registers as its ``oauth``."""
        return OAuthConfig(
            name=self.name,
            login=self.login,
            refresh_token=self.refresh,
            get_api_key=access_token,
        )

    @property
    def _gateway(self) -> str:
        return self.base_url.rstrip("/").removesuffix("/v1").rstrip("/")

    def _tokens(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "token_url": f"{self._gateway}/v1/oauth/token",
            "client_id": CLIENT_ID,
            "extra": _scope,
        }


_CHOICES = (
    {"id": "browser", "label": "With a browser on this machine"},
    {"id": "device-code", "label": "With a code, on any device"},
)
