"""What can go wrong, as data and as exceptions.

A failed stream never raises: its last event carries an :class:`ErrorInfo` beside the message
(rules D11, S5; reliability.md section 1). Callers who want exceptions get them from
``message.raise_for_error()`` or ``complete(..., raise_on_error=True)``; every kind has its own class::

    PiAIError
    ├── ConfigError            config            wrong or missing configuration, an extra that is not installed
    ├── AuthError              auth              no credential, or one that was refused
    │   └── OAuthError         oauth             a login that has to be made again
    ├── PermissionDenied       permission
    ├── NotFound               not_found
    ├── BadRequest             bad_request
    │   └── ContextOverflow    context_overflow
    ├── ContentFiltered        content_filter
    ├── RateLimited            rate_limited
    │   └── QuotaExhausted     quota
    ├── ServerError            server
    │   └── Overloaded         overloaded
    ├── ConnectFailed          connect
    ├── RequestTimeout
    │   ├── ConnectTimeout     timeout_connect
    │   ├── FirstEventTimeout  timeout_first
    │   ├── IdleTimeout        timeout_idle
    │   ├── ProgressTimeout    timeout_progress
    │   └── TotalTimeout       timeout_total
    ├── Disconnected           disconnected      the connection broke while the answer came
    ├── Truncated              truncated         the bytes ended without the wire's proof of completion
    ├── ProtocolError          protocol          the peer broke the protocol
    ├── TooLarge               too_large         a limit of ours was reached
    ├── Aborted                aborted           abort() was called, or the caller was cancelled
    └── InternalError          internal          a hook, a custom provider or pi_ai itself failed

Wrong Python types and unknown option names are the caller's mistakes: those raise :class:`TypeError` at once.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, TypeAlias, get_args

import attrs

ErrorKind: TypeAlias = Literal[
    "auth",
    "permission",
    "not_found",
    "bad_request",
    "context_overflow",
    "content_filter",
    "rate_limited",
    "quota",
    "overloaded",
    "server",
    "connect",
    "timeout_connect",
    "timeout_first",
    "timeout_idle",
    "timeout_progress",
    "timeout_total",
    "disconnected",
    "truncated",
    "protocol",
    "too_large",
    "config",
    "oauth",
    "aborted",
    "internal",
]
"""Why a stream failed. Those of reliability.md section 1, and ``aborted`` for exceptions made of aborted messages."""

Phase: TypeAlias = Literal["auth", "connect", "send", "headers", "stream", "end"]
"""How far a request had come when it failed."""


PASSING: frozenset[ErrorKind] = frozenset(
    {
        "rate_limited",
        "overloaded",
        "server",
        "connect",
        "timeout_connect",
        "timeout_first",
        "timeout_idle",
        "timeout_progress",
        "disconnected",
        "truncated",
    }
)
"""Kinds that pass with time: the same request may succeed later. The others want something to be changed first."""


def _passes(info: ErrorInfo) -> bool:
    return info.kind in PASSING


@attrs.frozen(kw_only=True)
class ErrorInfo:
    """Everything a program can know about a failure (``message.error_info``).

    :ivar kind: the class of failure; what to branch on.
    :ivar message: one sentence: what happened and what to do next. Never holds a credential.
    :ivar status: HTTP status of the answer, or the one that the in-stream error stands for.
    :ivar provider_code: the provider's own word or number for the error.
    :ivar request_id: the provider's id of the request, for its support.
    :ivar attempts: how many requests were sent (0: none).
    :ivar retryable: sending the same request again later may succeed. Default: what is usual for the kind.
    :ivar retry_after: seconds that the server asked to wait.
    :ivar events_seen: wire events read before the failure. ``bytes_seen``: bytes of the body.
    :ivar limit: tokens the model's window holds, where a ``context_overflow`` told it; ``used``: tokens of the prompt.
    :ivar cause: the original exception, if there was one. Not serialised, not compared.
    """

    kind: ErrorKind
    message: str
    provider: str | None = None
    api: str | None = None
    model: str | None = None
    status: int | None = None
    provider_code: str | None = None
    request_id: str | None = None
    phase: Phase | None = None
    attempts: int = 0
    retryable: bool = attrs.field(default=attrs.Factory(_passes, takes_self=True))
    retry_after: float | None = None
    events_seen: int = 0
    bytes_seen: int = 0
    limit: int | None = None
    used: int | None = None
    cause: BaseException | None = attrs.field(default=None, eq=False, repr=False, metadata={"json": False})

    def exception(self, text: str | None = None) -> PiAIError:
        """The exception for this failure: an instance of its kind's class.

        :param text: what ``str()`` of it says; default: ``message``.
        """
        error = _CLASSES[self.kind](self, text)
        error.__cause__ = self.cause
        return error


class PiAIError(Exception):
    """Root of everything that pi_ai raises for a failed request.

    ``str()`` is what pi says, as in ``message.error_message``. Where ``info.message`` says more, such as what to do, it
    is a note of the exception, which tracebacks show.

    :ivar info: the failure as data.
    """

    kind: ClassVar[ErrorKind] = "internal"
    info: ErrorInfo

    def __init__(self, info: ErrorInfo, text: str | None = None) -> None:
        super().__init__(info, text)
        self.info = info
        self.text = text or info.message
        if info.message != self.text:
            self.add_note(info.message)

    def __str__(self) -> str:
        return self.text


class ConfigError(PiAIError):
    """Configuration is wrong or missing, or an optional package is not installed."""

    kind = "config"


class AuthError(PiAIError):
    """No credential was found, or the provider refused the one that was sent (401)."""

    kind = "auth"


class OAuthError(AuthError):
    """A stored login does not work any more; log in again."""

    kind = "oauth"


class PermissionDenied(PiAIError):
    """The credential is good but may not do this (403)."""

    kind = "permission"


class NotFound(PiAIError):
    """No such model or endpoint (404)."""

    kind = "not_found"


class BadRequest(PiAIError):
    """The provider refused the request as it is (400, 422, …)."""

    kind = "bad_request"


class ContextOverflow(BadRequest):
    """The prompt does not fit into the model's context window."""

    kind = "context_overflow"


class ContentFiltered(PiAIError):
    """The provider's filter stopped the prompt or the answer."""

    kind = "content_filter"


class RateLimited(PiAIError):
    """Too many requests (429); wait and try again."""

    kind = "rate_limited"


class QuotaExhausted(RateLimited):
    """The account's budget or quota is used up; waiting a moment does not help."""

    kind = "quota"


class ServerError(PiAIError):
    """The provider failed (5xx)."""

    kind = "server"


class Overloaded(ServerError):
    """The provider has no capacity at the moment (503, 529)."""

    kind = "overloaded"


class ConnectFailed(PiAIError):
    """No connection could be made: name, network, proxy or TLS."""

    kind = "connect"


class RequestTimeout(PiAIError):
    """One of the clocks of a request ran out; the subclasses say which."""


class ConnectTimeout(RequestTimeout):
    """No connection within ``connect`` (name, TCP, TLS, or a free slot of the pool)."""

    kind = "timeout_connect"


class FirstEventTimeout(RequestTimeout):
    """The request was sent and nothing came back within ``first_event``."""

    kind = "timeout_first"


class IdleTimeout(RequestTimeout):
    """Not one byte came for ``idle``."""

    kind = "timeout_idle"


class ProgressTimeout(RequestTimeout):
    """Bytes came, but nothing meaningful for ``progress`` (keep-alives only)."""

    kind = "timeout_progress"


class TotalTimeout(RequestTimeout):
    """The whole request took longer than ``total``."""

    kind = "timeout_total"


class Disconnected(PiAIError):
    """The connection broke while the answer came."""

    kind = "disconnected"


class Truncated(PiAIError):
    """The answer ended without the wire's own proof of completion."""

    kind = "truncated"


class ProtocolError(PiAIError):
    """What came back is not what the API speaks."""

    kind = "protocol"


class TooLarge(PiAIError):
    """An answer exceeded one of the limits for what comes from outside."""

    kind = "too_large"


class Aborted(PiAIError):
    """The stream was aborted, or the task that drove it was cancelled."""

    kind = "aborted"


class InternalError(PiAIError):
    """A hook, a custom provider or pi_ai itself raised."""

    kind = "internal"


def _subclasses(cls: type[PiAIError]) -> list[type[PiAIError]]:
    return [cls, *(sub for child in cls.__subclasses__() for sub in _subclasses(child))]


_CLASSES: dict[ErrorKind, type[PiAIError]] = {
    cls.kind: cls for cls in _subclasses(PiAIError) if cls not in (PiAIError, RequestTimeout)
}
if _CLASSES.keys() != set(get_args(ErrorKind)):  # pragma: no cover - a guard for authors of this file
    raise AssertionError("every ErrorKind needs exactly one exception class")


def failure(kind: ErrorKind, message: str, *, text: str | None = None, **fields: Any) -> PiAIError:
    """Make an exception of a kind, to raise it: ``raise failure("truncated", "…", phase="end")``.

    :param text: what becomes ``error_message`` when it differs from the sentence in ``message``.
    :param fields: further fields of :class:`ErrorInfo`.
    """
    return ErrorInfo(kind=kind, message=message, **fields).exception(text)
