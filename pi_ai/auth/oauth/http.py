"""Requests of logins, over the package's own connections: bounded, without redirects, without a trace of what was sent.

What fails is raised anew here, without the exception that came from below: the frames of that one hold the request.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast
from urllib.parse import quote_plus, urlencode, urlsplit

import attrs

from pi_ai.auth.credentials import Secret
from pi_ai.errors import ErrorKind, PiAIError, failure
from pi_ai.failures import redact
from pi_ai.text import decode_json, encode_json
from pi_ai.types import HttpClient, Timeouts
from pi_ai.urls import is_loopback

REQUEST_TIMEOUT_S = 30.0
MAX_ANSWER_BYTES = 1024 * 1024
MAX_REASON = 500

Fields = Mapping[str, "str | Secret | None"]


@attrs.frozen(kw_only=True)
class HttpSettings:
    """What an application wants of all connections.

    :ivar client: sends the requests instead. ``proxy``: URL of a proxy, ``""`` for none, None: the environment's.
    """

    client: HttpClient | None = None
    proxy: str | None = attrs.field(default=None, repr=False)

    @contextmanager
    def used(self) -> Generator[None]:
        """Send the requests of this context so."""
        before = _settings.set(self)
        try:
            yield
        finally:
            _settings.reset(before)


_DEFAULT = HttpSettings()
_settings: ContextVar[HttpSettings] = ContextVar("pi_ai_login_http", default=_DEFAULT)


@attrs.frozen(kw_only=True)
class Answer:
    """An answer.

    :ivar data: the JSON object that it is; empty where it is something else.
    :ivar secrets: what was sent; a server that repeats it is not quoted.
    """

    status: int
    data: Mapping[str, Any] = attrs.field(repr=False)
    secrets: Sequence[Secret] = attrs.field(default=(), repr=False)

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return 200 <= self.status < 300

    @property
    def error(self) -> str:
        """The error code of OAuth; ``""``: there is none."""
        error: Any = self.data.get("error")
        error = as_object(error).get("code") or as_object(error).get("type") or error
        return error if isinstance(error, str) else ""

    def failed(self, what: str) -> PiAIError:
        """The error that this answer is, in words that hold nothing secret (A85, D-8)."""
        description = self.data.get("error_description") or self.data.get("message")
        words = [self._quoted(text) for text in (self.error, description) if isinstance(text, str) and text]
        text = ": ".join([f"{what} failed (HTTP {self.status})", *words])
        return failure("oauth", text, status=self.status, provider_code=self._quoted(self.error) or None, phase="auth")

    def _quoted(self, text: str) -> str:
        return redact(text, [form for secret in self.secrets for form in _forms(secret)])[:MAX_REASON]

    def text(self, name: str, what: str) -> str:
        """A member that has to be a text.

        :raises PiAIError: kind ``oauth``: it is none.
        """
        value = self.data.get(name)
        if not isinstance(value, str) or not value:
            raise failure("oauth", f"{what} failed: the answer has no {name}", phase="auth")
        return value


def as_object(value: Any) -> Mapping[str, Any]:
    """A JSON object; an empty one where it is something else."""
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


async def request(
    method: str,
    url: str,
    what: str,
    *,
    form: Fields | None = None,
    json: Fields | None = None,
    bearer: Secret | str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Send a request of a login.

    :param what: what it is for: ``Example token exchange``.
    :param form: fields of the body; those that are None are left out. ``json``: the same, as JSON.
    :raises PiAIError: kind ``oauth``: the URL is not https. Another kind: there was no answer.
    """
    if urlsplit(url).scheme != "https" and not is_loopback(urlsplit(url).hostname or ""):
        raise failure("oauth", f"{what} failed: its URL must be https", phase="auth")
    values = (*(form or {}).values(), *(json or {}).values(), Secret(bearer) if isinstance(bearer, str) else bearer)
    secrets = [value for value in values if isinstance(value, Secret)]
    try:
        answer = await _exchange(_outgoing(method, url, form, json, bearer, headers or {}))
        return attrs.evolve(answer, secrets=secrets)
    except PiAIError as error:
        kind: ErrorKind = error.info.kind
        reason = redact(error.text)[:MAX_REASON]
    raise failure(kind, f"{what} failed: {reason}", retryable=True, phase="auth")


def _outgoing(
    method: str,
    url: str,
    form: Fields | None,
    json: Fields | None,
    bearer: Secret | str | None,
    headers: Mapping[str, str],
) -> Any:
    from pi_ai.transport import HttpRequest

    sent = {"accept": "application/json", **headers}
    body = b""
    if form is not None:
        sent["content-type"] = "application/x-www-form-urlencoded"
        body = urlencode(_revealed(form)).encode()
    elif json is not None:
        sent["content-type"] = "application/json"
        body = encode_json(_revealed(json))
    if bearer is not None:
        sent["authorization"] = f"Bearer {bearer.reveal() if isinstance(bearer, Secret) else bearer}"
    return HttpRequest(url=url, headers=sent, body=body, method=method)


def _forms(secret: Secret) -> tuple[str, str]:
    """A secret as it is, and as it stands in a form."""
    return secret.reveal(), quote_plus(secret.reveal())


def _revealed(fields: Fields) -> dict[str, str]:
    return {
        name: value.reveal() if isinstance(value, Secret) else value
        for name, value in fields.items()
        if value is not None
    }


async def _exchange(outgoing: Any) -> Answer:
    from pi_ai.clocks import Clocks
    from pi_ai.transport import Connections

    limit = int(REQUEST_TIMEOUT_S * 1000)
    clocks = Clocks(Timeouts(connect_ms=10_000, total_ms=limit))
    used = _settings.get()
    exchange = await Connections().open(outgoing, clocks, client=used.client, proxy=used.proxy)
    try:
        body = await exchange.read_all(MAX_ANSWER_BYTES)
    finally:
        await exchange.aclose()
    try:
        data = decode_json(body)
    except ValueError:
        data = None
    return Answer(status=exchange.status, data=as_object(data))
