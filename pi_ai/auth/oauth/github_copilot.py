"""GitHub Copilot: for applications that have a client id of their own (auth section 6, tier B).

GitHub gives every OAuth application a client id, but serves Copilot to those that it knows. pi_ai ships none, and
sends no other product's identification.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import anyio
import attrs

from pi_ai.auth.base import Auth
from pi_ai.auth.credentials import Credential, Secret
from pi_ai.auth.oauth.config import OAuthConfig
from pi_ai.auth.oauth.flows import DeviceCodeFlow, access_token, seconds
from pi_ai.auth.oauth.http import Answer, as_object, request
from pi_ai.auth.oauth.interaction import OAuthLoginCallbacks
from pi_ai.errors import PiAIError, failure

GITHUB = "github.com"
MARGIN_S = 300.0
POLICY_LIMIT_S = 5.0
"""Longest that is waited for a model to be enabled."""


@attrs.frozen(kw_only=True)
class GitHubCopilotFlow:
    """The login of a Copilot subscription: the GitHub token stays, and is exchanged for short-lived ones.

    :ivar client_id: of your own OAuth application.
    :ivar headers: what identifies your application to Copilot.
    """

    client_id: str
    name: str = "GitHub Copilot"
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str])

    async def login(self, callbacks: OAuthLoginCallbacks) -> Credential:
        """Log in to github.com, or to an enterprise's own GitHub."""
        asked = await callbacks.on_prompt(
            message="GitHub Enterprise domain (blank: github.com)", placeholder="company.ghe.com", allow_empty=True
        )
        domain = _domain(asked)
        flow = DeviceCodeFlow(
            name=self.name,
            client_id=self.client_id,
            scopes=("read:user",),
            device_url=f"https://{domain}/login/device/code",
            token_url=f"https://{domain}/login/oauth/access_token",
        )
        token = await flow.login(callbacks)
        enterprise = {} if domain == GITHUB else {"enterpriseUrl": domain}
        github = Credential({"type": "oauth", "access": "", "refresh": token.access, "expires": 0, **enterprise})
        credential = await self.refresh(github)
        return credential.replaced(availableModelIds=await self._models(credential))

    async def refresh(self, credential: Credential) -> Credential:
        """Exchange the GitHub token for one of Copilot."""
        what = f"{self.name} token refresh"
        url = f"https://api.{credential.get('enterpriseUrl') or GITHUB}/copilot_internal/v2/token"
        answer = await request("GET", url, what, bearer=Secret(credential.refresh), headers=self.headers)
        if not answer.ok:
            raise answer.failed(what)
        ends = seconds(answer.data.get("expires_at"))
        if ends is None:
            raise failure("oauth", f"{what} failed: the answer has no expires_at", phase="auth")
        return credential.replaced(access=answer.text("token", what), expires=int((ends - MARGIN_S) * 1000))

    def config(self) -> OAuthConfig:
        """What a provider registers as its ``oauth``."""
        return OAuthConfig(
            name=self.name,
            login=self.login,
            refresh_token=self.refresh,
            get_api_key=access_token,
            request_auth=_auth,
            modify_models=_available,
            is_subscription=True,
        )

    async def _models(self, credential: Credential) -> list[str]:
        """The models that the account may use; those that wait for a yes get one, as far as that works."""
        base = _base_url(credential)
        access = Secret(credential.access)
        what = f"{self.name} models"
        answer = await request("GET", f"{base}/models", what, bearer=access, headers=self.headers)
        if not answer.ok:
            raise answer.failed(what)
        listed: list[Any] = answer.data.get("data") or []
        models = [model for model in map(as_object, listed) if _usable(model)]
        for model in models:
            if _policy(model) == "unconfigured":
                with anyio.move_on_after(POLICY_LIMIT_S):
                    await self._enable(f"{base}/models/{model['id']}/policy", access)
        return [model["id"] for model in models]

    async def _enable(self, url: str, access: Secret) -> None:
        for attempt in range(3):
            try:
                answer = await self._say_yes(url, access)
            except PiAIError:
                return
            if answer.status != 429:
                return
            await anyio.sleep(1.0 + attempt)

    async def _say_yes(self, url: str, access: Secret) -> Answer:
        state = {"state": "enabled"}
        return await request("POST", url, f"{self.name} policy", json=state, bearer=access, headers=self.headers)


def _domain(text: str) -> str:
    """The host of what was entered.

    :raises PiAIError: kind ``oauth``: it is none.
    """
    text = text.strip()
    host = urlsplit(text if "://" in text else f"https://{text}").hostname if text else GITHUB
    if not host or not re.fullmatch(r"[a-z0-9.-]+", host):
        raise failure("oauth", "The GitHub domain must be a host, such as company.ghe.com", phase="auth")
    return host


def _base_url(credential: Credential) -> str:
    """Where the requests of an account go; the token names a proxy."""
    found = re.search(r"(?:^|;)proxy-ep=([A-Za-z0-9.-]+)(?:;|$)", credential.access)
    if found and found[1].startswith("proxy."):
        return f"https://api.{found[1].removeprefix('proxy.')}"
    if credential.get("enterpriseUrl"):
        return f"https://copilot-api.{credential['enterpriseUrl']}"
    return "https://api.individual.githubcopilot.com"


def _auth(credential: Credential) -> Auth:
    return Auth(api_key=credential.access, base_url=_base_url(credential))


def _available(models: list[Any], credential: Credential) -> list[Any]:
    ids = credential.get("availableModelIds")
    return models if not ids else [model for model in models if model.id in ids]


def _usable(model: Mapping[str, Any]) -> bool:
    supports = as_object(as_object(model.get("capabilities")).get("supports"))
    picked = isinstance(model.get("id"), str) and bool(model.get("model_picker_enabled"))
    return picked and _policy(model) != "disabled" and supports.get("tool_calls") is not False


def _policy(model: Mapping[str, Any]) -> Any:
    return as_object(model.get("policy")).get("state")
