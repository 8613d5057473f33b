"""OpenAI, "Sign in with ChatGPT": an application is registered while its user logs in (auth section 6).

The token works for the Responses API only.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

import attrs

from pi_ai.auth.credentials import Credential, Secret
from pi_ai.auth.oauth.callback import Pasted
from pi_ai.auth.oauth.flows import AuthorizationCodeFlow, Redirect
from pi_ai.auth.oauth.http import Fields
from pi_ai.auth.oauth.interaction import OAuthLoginCallbacks
from pi_ai.auth.oauth.pkce import Pkce, generate_state, is_same
from pi_ai.errors import PiAIError, failure

RESOURCE = "https://api.openai.com/v1"
NEEDED_SCOPE = "chatgpt.tokens.use.direct"
_REDIRECT = Redirect(port=1455, path="/auth/callback", fallback=None)
_HOST = "https://auth.openai.com/api/accounts"


@attrs.frozen(kw_only=True)
class OpenAIFlow(AuthorizationCodeFlow):
    """The login of an installation.

    :ivar installation_id: a UUID that the application makes once and keeps.
    :ivar agent_name: what the page calls the application.
    """

    name: str = "OpenAI (Sign in with ChatGPT)"
    authorize_url: str = f"{_HOST}/authorize"
    token_url: str = f"{_HOST}/oauth/token"
    client_id: str | None = "dynamic_agent_client"
    scopes: tuple[str, ...] = ("openid", "profile", "email", "offline_access", "resource.invoke", NEEDED_SCOPE)
    redirect: Redirect = _REDIRECT
    margin_s: float = 180.0
    installation_id: str | None = None
    agent_name: str = "pi-ai-python"

    async def login(self, callbacks: OAuthLoginCallbacks) -> Credential:
        """See :class:`Tokens`."""
        self._host_id()
        return await super().login(callbacks)

    def _host_id(self) -> str:
        try:
            return f"urn:uuid:{UUID(self.installation_id or '')}"
        except ValueError:
            way_out = "make one with uuid.uuid4(), keep it, and give it as OpenAIFlow(installation_id=…)"
            raise failure("oauth", f"{self.name} needs a stable installation id (a UUID): {way_out}") from None

    def page_fields(self, redirect_uri: str) -> Mapping[str, str | None]:
        """See :class:`AuthorizationCodeFlow`."""
        return {
            "agent_name_hint": self.agent_name,
            "ext_agent_host_id": self._host_id(),
            "resource": RESOURCE,
            "nonce": generate_state(),
        }

    async def pasted(self, pasted: Pasted, redirect_uri: str, pkce: Pkce, state: str) -> Credential:
        """The whole URL has to be pasted, because the issued client id is in it."""
        given, wanted = urlsplit(pasted.text.strip()), urlsplit(redirect_uri)
        if (given.scheme, given.netloc, given.path) != (wanted.scheme, wanted.netloc, wanted.path):
            raise failure("oauth", f"Paste the whole URL that the browser shows, which begins with {redirect_uri}")
        parameters = dict(reversed(parse_qsl(given.query)))
        if not is_same(parameters.get("state", ""), state):
            raise failure("oauth", "OAuth state mismatch", phase="auth")
        return await self.exchange_code(Secret(parameters.get("code", "")), pkce, redirect_uri, state, parameters)

    async def exchange_code(
        self, code: Secret, pkce: Pkce, redirect_uri: str, state: str, parameters: Mapping[str, str]
    ) -> Credential:
        """See :class:`AuthorizationCodeFlow`."""
        issued = parameters.get("client_id")
        if not code or not issued:
            raise self._incomplete("the callback has no " + ("client_id" if code else "code"))
        fields: Fields = {
            "grant_type": "authorization_code",
            "client_id": issued,
            "code": code,
            "code_verifier": pkce.secret,
            "redirect_uri": redirect_uri,
            "resource": RESOURCE,
        }
        answer = await self.exchange("exchange", fields)
        answer.text("id_token", f"{self.name} token exchange")
        granted = str(answer.data.get("scope") or "").split()
        if NEEDED_SCOPE not in granted:
            raise self._incomplete(f"{NEEDED_SCOPE} was not granted")
        return self.credential(answer, "exchange").replaced(clientId=issued, scopes=granted)

    async def refresh(self, credential: Credential) -> Credential:
        """See :class:`Tokens`."""
        issued = credential.get("clientId")
        if not issued:
            raise failure("oauth", f"The stored login of {self.name} has no clientId; connect again", phase="auth")
        fields: Fields = {
            "grant_type": "refresh_token",
            "client_id": issued,
            "refresh_token": Secret(credential.refresh),
            "resource": RESOURCE,
        }
        return self.credential(await self.exchange("refresh", fields), "refresh", credential)

    def _incomplete(self, why: str) -> PiAIError:
        return failure("oauth", f"{self.name} login failed: {why}", phase="auth")
