"""What a provider says about a failure, as one :class:`PiAIError` (reliability C; core sections 15.1 and 16).

The same words give the same kind and class whether they come as an HTTP error or inside a stream that began well
(F30-F36): they are found (:class:`ProviderWords`), recognised (``overflow.kind_of_failure``) and put into a sentence.
Nothing that is quoted holds a credential (X1): see :func:`redact`.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Collection, Iterator, Mapping
from itertools import chain, islice
from typing import Any, cast

import attrs

from pi_ai.errors import ErrorInfo, ErrorKind, PiAIError
from pi_ai.overflow import kind_of_failure, overflow_sizes, status_of_names
from pi_ai.text import decode_json

MAX_BODY_QUOTE = 4000
"""Characters of an answer's body in the text of its error (core ET1)."""
MAX_MESSAGE_QUOTE = 2048
"""Bytes of a provider's message in :attr:`ErrorInfo.message` (X29)."""


# ── finding the words ────────────────────────────────────────────────────────────────────────────────────────


@attrs.frozen(kw_only=True)
class ProviderWords:
    """What a provider says about an error.

    :ivar code: its word or number for the error. ``type``: its class of errors.
    :ivar status: the HTTP status that it names.
    :ivar raw: what the provider behind a gateway said (OpenRouter's ``metadata.raw``).
    :ivar request_id: the provider's id of the request, where it stands beside the error.
    :ivar names: every word that may tell what happened, those of nested details included, as spelled.
    :ivar body: the whole error, as JSON text.
    """

    message: str = ""
    code: str | None = None
    type: str | None = None
    status: int | None = None
    raw: str | None = None
    request_id: str | None = None
    names: tuple[str, ...] = ()
    body: str = ""

    @property
    def name(self) -> str | None:
        """The word to show and to compare: the code, unless that only repeats the status."""
        return self.code if self.code and not _status(self.code) else self.type or self.code

    @property
    def said(self) -> str:
        """The message, and on a line of its own what the provider behind a gateway said."""
        raw = self.raw if self.raw and self.raw not in self.message else None
        return "\n".join(filter(None, (self.message, raw)))

    @property
    def text(self) -> str:
        """A readable line, ``code: message`` (core ET3); for AWS with the words that patterns rely on (BR30)."""
        head = _AWS_PREFIXES.get(self.code or "", self.code)
        line = ": ".join(filter(None, (head, self.said))) or self.type or self.body[:500] or "unknown error"
        return line + _hint(line)


def error_in(payload: object) -> ProviderWords | None:
    """The error that an event of a stream carries; None: it is an ordinary event.

    Knows the shapes of OpenAI, Anthropic, Google, Responses (``error``, ``response.failed``), Groq, MiniMax, vLLM,
    Ollama and their gateways.
    """
    if isinstance(payload, list):
        return next(filter(None, map(error_in, cast("list[object]", payload))), None)
    event = _mapping(payload)
    for outer in (event, _mapping(event.get("response")), _mapping(event.get("x_groq"))):
        if error := outer.get("error"):
            return _read(error, event)
    if _mapping(event.get("base_resp")).get("status_code"):
        return _read(event["base_resp"], event)
    return _read(event, event) if "error" in (event.get("type"), event.get("object")) else None


def provider_words(payload: object) -> ProviderWords:
    """The words of what is known to be an error, whatever its shape: a body, or the data of an ``error`` event."""
    return error_in(payload) or _read(payload, _mapping(payload))


def aws_words(name: str, message: str) -> ProviderWords:
    """The words of an AWS exception, from an event-stream frame or an HTTP error (BR30, BR31).

    :param name: such as ``throttlingException`` or ``ValidationException:http://internal.amazon.com/…``.
    """
    name = name.partition(":")[0].rpartition("#")[2].strip()
    name = name[:1].upper() + name[1:]
    return ProviderWords(message=message, code=name, names=(name,))


_AWS_PREFIXES = {
    "InternalServerException": "Internal server error",
    "ModelStreamErrorException": "Model stream error",
    "ServiceUnavailableException": "Service unavailable",
    "ThrottlingException": "Throttling error",
    "ValidationException": "Validation error",
}
_MESSAGE_KEYS = ("message", "Message", "msg", "detail", "error", "errors", "error_message", "status_msg", "title")
_STATUS_KEYS = ("status_code", "raw_status_code", "status", "code")
_NAME_KEYS = ("code", "type", "status", "reason", "error_code", "quotaId", "quota_limit")
_DETAIL_KEYS = ("details", "errors", "innererror", "metadata", "violations")

# What comes from outside is looked at within limits: levels, names, characters of a name, characters of a text.
_DEPTH, _MAX_NAMES, _MAX_NAME, _MAX_TEXT = 4, 32, 200, 16_000


def _read(error: object, around: dict[str, Any]) -> ProviderWords:
    inner = _mapping(error)
    statuses = [_status(place.get(key)) for place in (inner, around) for key in _STATUS_KEYS]
    status_name = inner.get("status")
    raw = _mapping(inner.get("metadata")).get("raw")
    return ProviderWords(
        message=_message(error),
        code=_word(inner.get("code")) or _word(around.get("code")) or _word(inner.get("status_code")),
        type=_word(inner.get("type")) or (status_name if isinstance(status_name, str) else None),
        status=next(filter(None, statuses), None),
        raw=raw.strip() or None if isinstance(raw, str) else None,
        request_id=_id(around.get("request_id")),
        names=tuple(dict.fromkeys(islice(chain(_names(inner), _names(around, depth=0)), _MAX_NAMES))),
        body=_dump(error),
    )


def _message(error: object, depth: int = _DEPTH) -> str:
    """The part of an error that is meant for people."""
    if isinstance(error, str):
        return error.strip()
    if depth == 0:
        return ""
    if isinstance(error, list):
        return "; ".join(filter(None, (_message(item, depth - 1) for item in cast("list[object]", error))))
    fields = _mapping(error)
    return next(filter(None, (_message(fields.get(key), depth - 1) for key in _MESSAGE_KEYS)), "")


def _names(error: object, depth: int = _DEPTH) -> Iterator[str]:
    if isinstance(error, list):
        for item in cast("list[object]", error):
            yield from _names(_mapping(item), depth)
        return
    fields = _mapping(error)
    yield from filter(None, (_word(fields.get(key)) for key in _NAME_KEYS))
    if depth:
        for key in _DETAIL_KEYS:
            yield from _names(fields.get(key), depth - 1)


def _mapping(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _word(value: object) -> str | None:
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        return str(value)[:_MAX_NAME].strip() or None
    return None


def _id(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= _MAX_NAME else None  # core ET4


def _status(value: object) -> int | None:
    word = _word(value) or ""
    return int(word) if re.fullmatch("[45][0-9][0-9]", word) else None


def _dump(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return ""


# ── the failure ──────────────────────────────────────────────────────────────────────────────────────────────

_PASSING: tuple[ErrorKind, ...] = ("rate_limited", "overloaded", "server")
_REQUEST_IDS = (
    "x-request-id",
    "request-id",
    "x-amzn-requestid",
    "apim-request-id",
    "x-ms-request-id",
    "x-goog-request-id",
    "x-ds-trace-id",
    "mistral-correlation-id",
    "cf-ray",
)


def http_failure(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    provider: str,
    api: str,
    model: str,
    now: float | None = None,
    secrets: Collection[str] = (),
) -> PiAIError:
    """The failure in an HTTP answer that is no event stream.

    Its text is ``{status}: {body}`` (core ET1), or ``{exception}: {message}`` where AWS names one (BR30). It may be
    sent again if its kind passes with time, at the usual statuses or where ``x-should-retry`` says so (R2, F47, F50).

    :param headers: by lower-case name.
    :param body: what was read of it, decompressed.
    :param now: seconds since the epoch, to judge dates by (default: the clock's).
    :param secrets: credentials of the request; they are never quoted, whatever they look like.
    """
    about: dict[str, Any] = {"provider": provider, "api": api, "model": model, "status": status, "phase": "headers"}
    if status < 400:
        kind, sentence = _put_off(status, headers)
        return ErrorInfo(kind=kind, message=f"{provider} {sentence}", **about).exception()
    said = body.decode("utf-8-sig", "replace").strip()
    payload = _json(said)
    words = _quotable(provider_words(_title(said) if payload is None else payload), secrets)
    text = f"{status}: {_quote(said, secrets)}" if said else f"{status} status code (no body)"
    if words.raw and words.raw not in said:
        text += f"\n{_quote(words.raw)}"
    text += _hint(text)
    if exception := headers.get("x-amzn-errortype") or _word(_mapping(payload).get("__type")):
        words = aws_words(exception, words.message)
        text = words.text if words.message else text
    kind = kind_of_failure(words.names, status, words.said or text, provider)
    wish = headers.get("x-should-retry")
    again = wish == "true" or (wish != "false" and (status in (408, 409, 425, 429) or status >= 500))
    now = time.time() if now is None else now
    wait = _asked_wait(headers, now) if kind == "server" else retry_after(headers, body, now=now)
    return _failure(kind, words, text, again, wait, words.request_id or request_id(headers), **about)


def stream_failure(
    words: ProviderWords,
    *,
    provider: str,
    api: str,
    model: str,
    text: str | None = None,
    secrets: Collection[str] = (),
) -> PiAIError:
    """The failure that a provider reports inside a stream: same kind and class as its HTTP form (F31, F32).

    :param text: what becomes ``error_message``; default: ``words.text``.
    :param secrets: as for :func:`http_failure`.
    """
    text = _quote(text or words.text, secrets)
    words = _quotable(words, secrets)
    status = words.status or status_of_names(words.names)
    kind = kind_of_failure(words.names, status, words.said or text, provider)
    about: dict[str, Any] = {"provider": provider, "api": api, "model": model, "status": status, "phase": "stream"}
    return _failure(kind, words, text, True, _hinted_wait(words.body), words.request_id, **about)


def request_id(headers: Mapping[str, str]) -> str | None:
    """The provider's id of a request, for its support, from the answer's headers (by lower-case name)."""
    return next(filter(None, (_id(headers.get(name)) for name in _REQUEST_IDS)), None)


_SENTENCES: dict[ErrorKind, tuple[str, str]] = {
    "auth": ("refused the credential for", "check the API key, or log in again"),
    "permission": ("does not allow the use of", "check what this account and key may use, and from where"),
    "not_found": ("does not know", "check the model's id and base_url"),
    "bad_request": ("refused the request to", "change it before you send it again"),
    "context_overflow": ("cannot take a prompt of this length for", "shorten the conversation"),
    "content_filter": ("filtered the request to", "change what is asked"),
    "rate_limited": ("limits the rate of requests to", "wait, then try again"),
    "quota": ("reports a used-up quota or balance for", "check plan and billing"),
    "overloaded": ("has no capacity now for", "try again later"),
    "server": ("failed to answer for", "try again; if it goes on, tell the provider the request id"),
    "config": ("was not reached through the proxy for", "check the proxy's settings"),
}


def _failure(
    kind: ErrorKind,
    words: ProviderWords,
    text: str,
    again: bool,
    wait: float | None,
    told_id: str | None,
    **about: Any,
) -> PiAIError:
    what, advice = _SENTENCES[kind]
    place = f" (HTTP {about['status']})" if about["status"] else ""
    quote = " ".join((words.said or text).split()).encode(errors="ignore")[:MAX_MESSAGE_QUOTE].decode(errors="ignore")
    limit, used = (
        overflow_sizes(f"{words.message} {words.body[:_MAX_TEXT]}") if kind == "context_overflow" else (None, None)
    )
    return ErrorInfo(
        kind=kind,
        message=f"{about['provider']} {what} {about['model']}{place}: {quote.rstrip('.')}; {advice}",
        provider_code=words.name,
        request_id=told_id,
        retryable=again and kind in _PASSING,
        retry_after=wait if kind in (*_PASSING, "quota") else None,
        limit=limit,
        used=used,
        **about,
    ).exception(text)


def _put_off(status: int, headers: Mapping[str, str]) -> tuple[ErrorKind, str]:
    """Of an answer below 400 that is none: a redirect (X4), or a place in a queue."""
    if status < 300:
        return "protocol", (
            f"did not answer but queued the request (HTTP {status}); where it can, tell it to hold the connection "
            "until the answer is there (NVIDIA: header NVCF-POLL-SECONDS)"
        )
    from urllib.parse import urlsplit

    try:
        host = urlsplit(headers.get("location", "")).hostname or "another path of its own"
    except ValueError:
        host = "an address that cannot be read"
    return "config", f"redirects to {host} (HTTP {status}), which is not followed; correct the model's base_url"


def _json(text: str) -> object:
    try:
        return decode_json(text)
    except ValueError:
        return None


def _title(text: str) -> str:
    """What an HTML page says, in short; other text as it is."""
    text = text[:_MAX_TEXT]
    found = re.search(r"<title[^>]{0,200}>([^<]+)", text, re.IGNORECASE)
    return found[1] if found else re.sub(r"<[^>]{0,200}>", " ", text)


def _quote(text: str, secrets: Collection[str] = ()) -> str:
    """As much of a text as may be shown (core ET1). Redacted before it is cut: half a key does not look like one."""
    more = len(text) - MAX_BODY_QUOTE
    shown = redact(text[:_MAX_TEXT], secrets)
    return f"{shown[:MAX_BODY_QUOTE]}... [truncated {more} chars]" if more > 0 else shown


def _quotable(words: ProviderWords, secrets: Collection[str]) -> ProviderWords:
    message, raw = (redact((text or "")[:_MAX_TEXT], secrets) for text in (words.message, words.raw))
    return attrs.evolve(words, message=message, raw=raw or None)


_HINTS = {
    "data retention mode": (
        " See https://docs.aws.amazon.com/bedrock/latest/userguide/data-retention.html"
        " for supported data retention modes."
    ),
    "subscription_sharing_usage_limit_exceeded": "\nCheck your ChatGPT usage: https://chatgpt.com/settings/usage",
    "subscription_sharing_workplace_individual_usage_limit_exceeded": (
        "\nAsk the admin of your workspace to raise your usage limit."
    ),
}


def _hint(text: str) -> str:
    """What to add to some errors so that they can be understood."""
    return next((hint for words, hint in _HINTS.items() if words in text), "")


_CREDENTIAL = (
    r"((?:api[_-]?key|authorization|x-amz-security-token)[\\\"']*\s*[:=]\s*[\\\"']*(?:bearer\s+)?|\b(?:key|token|secret|password)=)[^\s&\"'\\<>,;}]+"
    r"|(\bbearer\s+)[\w.~+/=-]{8,}"
    r"|\b(?:sk|pk|rk)-[\w-]{16,}|\bAIza[\w-]{30,}|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\beyJ[\w-]{8,2000}\.[\w-]{8,2000}\.?[\w-]*"
    r"|\b(?:gsk|hf|xai|nvapi|pplx|ghp|gho|ghu|github_pat)[_-]\w{16,}"
)


def redact(text: str, secrets: Collection[str] = ()) -> str:
    """The text without ``secrets``, and without anything that looks like a credential (X1)."""
    for secret in secrets:
        if len(secret) >= 6:
            text = text.replace(secret, "[redacted]")
    return re.sub(_CREDENTIAL, lambda found: f"{found[1] or found[2] or ''}[redacted]", text, flags=re.IGNORECASE)


# ── how long to wait ─────────────────────────────────────────────────────────────────────────────────────────

_UNITS = {"ms": 0.001, "mil": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = r"(\d{1,9}(?:\.\d{1,9})?)\s*(ms|mil|[smhd])[a-z]*"
_WAITS = (r"\"retryDelay\":\s*\"", r"\b(?:retry|try again) (?:in|after) ", r"\breset (?:in|after) ")


def retry_after(headers: Mapping[str, str], body: bytes = b"", *, now: float) -> float | None:
    """Seconds that the server asks to wait; None: it does not say (R3, R7).

    ``retry-after-ms`` and ``retry-after`` (seconds, or a date) count exactly. Without them the first hint that lies
    ahead, in whole seconds and one more: ``x-ratelimit-reset``, ``x-ratelimit-reset-after``, Google's ``RetryInfo``,
    or words such as "Please retry in 34.07s" and "reset after 18h31m10s".

    :param headers: by lower-case name.
    :param now: seconds since the epoch.
    """
    asked = _asked_wait(headers, now)
    if asked is not None:
        return asked
    reset = _number(headers.get("x-ratelimit-reset")) or 0.0
    ahead = (reset / 1000 if reset > 1e11 else reset) - now  # OpenRouter counts milliseconds
    waits = (ahead, _number(headers.get("x-ratelimit-reset-after")) or 0.0)
    wait = next((wait for wait in waits if wait > 0), None)
    return _padded(wait) if wait else _hinted_wait(body.decode("utf-8", "replace"))


def _asked_wait(headers: Mapping[str, str], now: float) -> float | None:
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return max(0.0, milliseconds / 1000)
    value = headers.get("retry-after", "")
    seconds = _number(value)
    if seconds is None and value:
        from email.utils import parsedate_to_datetime

        try:
            seconds = parsedate_to_datetime(value).timestamp() - now
        except (ValueError, OverflowError):
            return None
    return None if seconds is None else max(0.0, seconds)


def _hinted_wait(text: str) -> float | None:
    for words in _WAITS:
        if found := re.search(rf"{words}((?:{_DURATION}[\s,]*)+)", text[:_MAX_TEXT], re.IGNORECASE):
            parts = re.findall(_DURATION, found[1].lower())
            if wait := sum(float(number) * _UNITS[unit] for number, unit in parts):
                return _padded(wait)
    return None


def _padded(wait: float) -> float:
    return float(math.ceil(wait + 1))


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None
