"""The two kinds of login as data: with a browser (RFC 6749 with PKCE), and with a code on another device (RFC 8628).

A vendor's login is an instance, or a subclass that says what is different. ``flow.config()`` is what a provider
registers. Rules: auth A85, X12, X15.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias
from urllib.parse import urlencode, urlsplit

import attrs

from pi_ai.auth.base import Auth
from pi_ai.auth.credentials import Credential, Secret
from pi_ai.auth.oauth.callback import OAuthCallbackServer, Pasted, wait_for_callback_or_manual_input
from pi_ai.auth.oauth.config import OAuthConfig
from pi_ai.auth.oauth.device import Complete, Failed, Pending, Poll, SlowDown, poll_device_code
from pi_ai.auth.oauth.http import Answer, Fields, request
from pi_ai.auth.oauth.interaction import OAuthLoginCallbacks, web_url
from pi_ai.auth.oauth.pkce import Pkce, generate_pkce, generate_state, pasted_code
from pi_ai.errors import failure

LOGIN_TIMEOUT_S = 300.0
"""How long a browser is waited for."""
DEFAULT_LIFETIME_S = 3600.0
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"

Members: TypeAlias = Mapping[str, Any]
Encoding: TypeAlias = Literal["form", "json"]
Use: TypeAlias = Callable[[Credential], Auth]


@attrs.frozen(kw_only=True)
class Redirect:
    """Where the browser comes back to on this machine.

    :ivar port: 0: any free one. ``fallback``: what to do where it is taken: another port, or pasting only; None: fail.
    :ivar name: the host in the URL, where the provider knows it by name.
    """

    host: str = "127.0.0.1"
    port: int = 0
    path: str = "/callback"
    name: str | None = None
    fallback: Literal["port", "paste"] | None = "paste"

    @property
    def url(self) -> str:
        """The URL, where the port is known before."""
        return f"http://{self.name or self.host}:{self.port}{self.path}"


@attrs.frozen(kw_only=True)
class Tokens(ABC):
    """What both kinds have: where tokens come from, and what is kept of them.

    :ivar name: of the login, for people and errors.
    :ivar token_url: where codes and refresh tokens are exchanged.
    :ivar client_id: the application's own, as the vendor has issued it; None: the vendor wants none.
    :ivar client_secret: where an application of this kind has one.
    :ivar encoding: of token requests.
    :ivar margin_s: how much earlier a token counts as expired than the server says.
    :ivar extra: further members to store, from the answer of the token endpoint.
    :ivar use: how a request uses the login; default: the access token as the API key.
    :ivar is_subscription: requests are paid by a subscription.
    """

    name: str
    token_url: str
    client_id: str | None
    scopes: tuple[str, ...] = ()
    client_secret: Secret | None = None
    encoding: Encoding = "form"
    margin_s: float = 60.0
    extra: Callable[[Members], Members] = lambda _: {}
    use: Use | None = None
    is_subscription: bool = False

    @abstractmethod
    async def login(self, callbacks: OAuthLoginCallbacks) -> Credential:
        """Log in.

        :raises PiAIError: kind ``oauth``: it failed. ``LoginCancelled``: the user does not want to.
        """

    async def refresh(self, credential: Credential) -> Credential:
        """Exchange the refresh token.

        :raises PiAIError: kind ``oauth``: the server refuses it.
        """
        fields = {
            "grant_type": "refresh_token",
            "client_id": self.client_id,
            "client_secret": self.client_secret,
            "refresh_token": Secret(credential.refresh),
            **self.refresh_fields(credential),
        }
        answer = await self.exchange("refresh", fields)
        return self.credential(answer, "refresh", credential)

    def refresh_fields(self, credential: Credential) -> Fields:
        """Further fields of a refresh."""
        return {}

    def config(self) -> OAuthConfig:
        """What a provider registers as its ``oauth``."""
        return OAuthConfig(
            name=self.name,
            login=self.login,
            refresh_token=self.refresh,
            get_api_key=access_token,
            request_auth=self.use,
            is_subscription=self.is_subscription,
        )

    async def exchange(self, operation: str, fields: Fields) -> Answer:
        """Ask the token endpoint.

        :raises PiAIError: kind ``oauth``: it refuses. Another kind: there was no answer.
        """
        what = f"{self.name} token {operation}"
        as_json = self.encoding == "json"
        answer = await request(
            "POST", self.token_url, what, form=None if as_json else fields, json=fields if as_json else None
        )
        if not answer.ok:
            raise answer.failed(what)
        return answer

    def credential(self, answer: Answer, operation: str, before: Credential | None = None) -> Credential:
        """What is stored of an answer of the token endpoint.

        :raises PiAIError: kind ``oauth``: a token lacks.
        """
        what = f"{self.name} token {operation}"
        data = answer.data
        refresh = data.get("refresh_token") or (before.refresh if before else "")
        if not isinstance(refresh, str):
            raise failure("oauth", f"{what} failed: refresh_token must be a str", phase="auth")
        kept = {} if before is None else dict(before)
        return Credential(
            {
                **kept,
                "type": "oauth",
                "access": answer.text("access_token", what),
                "refresh": refresh,
                "expires": expires_at(data.get("expires_in"), self.margin_s),
                **self.extra(data),
            }
        )


def access_token(credential: Credential) -> str:
    """The access token as the API key."""
    return credential.access


def expires_at(expires_in: object, margin_s: float) -> int:
    """When a token expires, in milliseconds since the epoch; 1 h from now where the server does not say."""
    lifetime = DEFAULT_LIFETIME_S
    try:
        lifetime = min(max(float(expires_in), 0.0), 1e10) if isinstance(expires_in, (int, float, str)) else lifetime
    except ValueError:
        pass
    return int((time.time() + lifetime - margin_s) * 1000)


# ── with a browser ───────────────────────────────────────────────────────────────────────────────────────────


@attrs.frozen(kw_only=True)
class AuthorizationCodeFlow(Tokens):
    """A login with a browser, which comes back to this machine, or shows a code to paste.

    :ivar authorize_url: the page to open. ``redirect``: where it comes back to.
    :ivar authorize_fields: further parameters of that page.
    :ivar instructions: what people are told beside the URL.
    """

    authorize_url: str
    redirect: Redirect = attrs.field(factory=Redirect)
    authorize_fields: Mapping[str, str] = attrs.field(factory=dict[str, str])
    instructions: str | None = None

    async def login(self, callbacks: OAuthLoginCallbacks) -> Credential:
        """See :class:`Tokens`."""
        pkce, state = generate_pkce(), generate_state()
        server = self._server(pkce, state, self.redirect.port)
        try:
            await server.__aenter__()
        except OSError:
            if self.redirect.fallback is None:
                where = f"port {self.redirect.port} of this machine is taken; finish the other login first"
                raise failure("oauth", f"{self.name} login cannot begin: {where}", phase="auth") from None
            if self.redirect.fallback == "paste":
                self.show(callbacks, self.redirect.url, pkce, state)
                pasted = await wait_for_callback_or_manual_input(callbacks.interaction, None)
                return await self.pasted(pasted, self.redirect.url, pkce, state)
            server = await self._server(pkce, state, 0).__aenter__()
        try:
            self.show(callbacks, server.redirect_uri, pkce, state)
            result = await wait_for_callback_or_manual_input(callbacks.interaction, server)
            if isinstance(result, Pasted):
                return await self.pasted(result, server.redirect_uri, pkce, state)
            return result
        finally:
            await server.__aexit__(None, None, None)

    def _server(self, pkce: Pkce, state: str, port: int) -> OAuthCallbackServer[Credential]:
        async def complete(code: str) -> Credential:
            return await self.exchange_code(Secret(code), pkce, server.redirect_uri, state, server.parameters)

        where = self.redirect
        server: OAuthCallbackServer[Credential] = OAuthCallbackServer(
            self.name, where.host, port, where.path, where.name, self.checked_state(state), complete, LOGIN_TIMEOUT_S
        )
        return server

    def checked_state(self, state: str) -> str | None:
        """The state that the callback has to bring."""
        return state

    def show(self, callbacks: OAuthLoginCallbacks, redirect_uri: str, pkce: Pkce, state: str) -> None:
        """Show the page to open."""
        fields = {
            "client_id": self.client_id,
            "response_type": "code",
            "redirect_uri": redirect_uri,
            "scope": " ".join(self.scopes) or None,
            "code_challenge": pkce.challenge,
            "code_challenge_method": pkce.method,
            "state": state,
            **self.page_fields(redirect_uri),
        }
        query = urlencode({name: value for name, value in fields.items() if value is not None})
        separator = "&" if urlsplit(self.authorize_url).query else "?"
        callbacks.on_auth(url=f"{self.authorize_url}{separator}{query}", instructions=self.instructions)

    def page_fields(self, redirect_uri: str) -> Mapping[str, str | None]:
        """Further parameters of the page to open; None takes one away."""
        return self.authorize_fields

    async def pasted(self, pasted: Pasted, redirect_uri: str, pkce: Pkce, state: str) -> Credential:
        """Make a credential of what was pasted.

        :raises PiAIError: kind ``oauth``: it belongs to another login, or the server refuses it.
        """
        code = Secret(pasted_code(pasted.text, self.checked_state(state)))
        return await self.exchange_code(code, pkce, redirect_uri, state, {})

    async def exchange_code(
        self, code: Secret, pkce: Pkce, redirect_uri: str, state: str, parameters: Mapping[str, str]
    ) -> Credential:
        """Make a credential of the code.

        :param parameters: of the callback; empty where the code was pasted.
        :raises PiAIError: kind ``oauth``: the server refuses it.
        """
        fields = {
            "grant_type": "authorization_code",
            "client_id": self.client_id,
            "client_secret": self.client_secret,
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": pkce.secret,
            **self.code_fields(state),
        }
        return self.credential(await self.exchange("exchange", fields), "exchange")

    def code_fields(self, state: str) -> Fields:
        """Further fields of the exchange."""
        return {}


# ── with another device ──────────────────────────────────────────────────────────────────────────────────────


@attrs.frozen(kw_only=True)
class DeviceCodeFlow(Tokens):
    """A login with a code that is entered on a page, on any device.

    :ivar device_url: where the code comes from. ``device_fields``: further fields of that request.
    :ivar waits_first: wait an interval before the first poll.
    :ivar lifetime_s: of the code, where the server does not say.
    """

    device_url: str
    device_fields: Mapping[str, str] = attrs.field(factory=dict[str, str])
    waits_first: bool = True
    lifetime_s: float | None = None

    async def login(self, callbacks: OAuthLoginCallbacks) -> Credential:
        """See :class:`Tokens`."""
        what = f"{self.name} device authorization"
        fields = {"client_id": self.client_id, "scope": " ".join(self.scopes) or None, **self.device_fields}
        answer = await request("POST", self.device_url, what, form=fields)
        if not answer.ok:
            raise answer.failed(what)
        device_code = Secret(answer.text("device_code", what))
        interval, lifetime = seconds(answer.data.get("interval")), seconds(answer.data.get("expires_in"))
        lifetime = lifetime or self.lifetime_s
        callbacks.on_device_code(
            user_code=answer.text("user_code", what),
            verification_uri=self.page(answer, what),
            interval_seconds=interval,
            expires_in_seconds=lifetime,
        )
        token = await poll_device_code(lambda: self._poll(device_code), interval, lifetime, self.waits_first)
        return await self.made_of(token)

    def page(self, answer: Answer, what: str) -> str:
        """The page to open: the one that has the code in it already, where there is one."""
        name = "verification_uri_complete" if answer.data.get("verification_uri_complete") else "verification_uri"
        return web_url(answer.text(name, what))

    async def made_of(self, answer: Answer) -> Credential:
        """The credential that the answer of the last poll is."""
        return self.credential(answer, "exchange")

    async def _poll(self, device_code: Secret) -> Poll[Answer]:
        what = f"{self.name} token poll"
        fields = {
            "grant_type": DEVICE_GRANT,
            "client_id": self.client_id,
            "client_secret": self.client_secret,
            "device_code": device_code,
        }
        answer = await request("POST", self.token_url, what, form=fields)
        if answer.ok and not answer.error:
            return Complete(answer)
        if answer.status >= 500:
            raise failure("server", f"{what} failed (HTTP {answer.status})", retryable=True, phase="auth")
        if answer.error == "authorization_pending":
            return Pending()
        if answer.error == "slow_down":
            return SlowDown(seconds(answer.data.get("interval")))
        return Failed(_REFUSALS.get(answer.error, "{}: {}").format(self.name, answer.failed(what)))


_REFUSALS = {
    **dict.fromkeys(("access_denied", "authorization_denied"), "{} login was denied"),
    "expired_token": "{} login was not confirmed in time; log in again",
}


def seconds(value: object) -> float | None:
    """A number of seconds that a server has given, be it as a text."""
    try:
        return float(value) if isinstance(value, (int, float, str)) else None
    except ValueError:
        return None
