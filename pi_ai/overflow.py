"""Recognising failures by their words: context overflow, quota, what may pass, and every other kind.

``is_context_overflow`` and ``is_retryable_assistant_error`` judge finished messages (core sections 14 and 15.2): by
``error_info`` where pi_ai made one, else by the text (conversations saved by pi, custom providers that raise a text).
``kind_of_failure`` judges what a provider says. What decides there, in order:

1. a name that can mean only one thing, such as ``insufficient_quota`` (``_NAMES``);
2. the wording of the message, at statuses that leave it open (``_WORDINGS``);
3. the status: that of the answer, or the one that a general name such as ``NOT_FOUND`` stands for.

All of it is data: a new vendor word is a new entry in a table. Patterns ignore case.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from pi_ai.errors import ErrorKind
from pi_ai.types import AssistantMessage

# ── texts of finished messages ───────────────────────────────────────────────────────────────────────────────

_THROTTLED = (
    r"^throttling error:",
    r"^service unavailable:",
    r"(?<![a-z])rate limit",
    r"too many requests",
    # Unprefixed throttling says "Too many tokens", too (core section 24).
    r"throttl",
)

_TOO_LONG = (
    r"prompt (?:is )?too long",
    r"prompt exceeds max length",
    r"request_too_large",
    r"input is too long for requested model",
    r"exceeds the context window",
    r"exceeds (?:the )?(?:model's )?maximum context length(?: of [\d,]+ tokens| \([\d,]+\))",
    r"context window exceeded",
    r"input token count.{0,100}exceeds the maximum",
    r"maximum prompt length is \d+",
    r"reduce the length of the messages",
    r"maximum context length is [\d,]+ tokens",
    r"exceeds (?:the )?maximum allowed input length of [\d,]+ tokens?",
    r"input \([\d,]+ tokens\) is longer than the model's context length \([\d,]+ tokens\)",
    r"exceeds the limit of \d+",
    r"exceeds the available context size",
    r"greater than the context length",
    r"context window exceeds limit",
    r"exceeded model token limit",
    r"too large for model with [\d,]+ maximum context length",
    r"prompt has [\d,]+ tokens, but the configured context size is [\d,]+ tokens",
    r"model_context_window_exceeded",
    r"prompt too long; exceeded (?:max )?context length",
    r"range of input length should be",
    r"context[_ ]length[_ ]exceeded",
    r"too many tokens",
    r"token limit exceeded",
    r"^\s*413(?![^\s:])",
    r"^.{0,80} api error \(413\):",
    # Beyond core CO1: what Bedrock and Perplexity answer.
    r"number of input tokens exceeds",
    r"total length of all messages is too long",
)

_BODILESS = {"cerebras": (r"^\s*4(?:00|13) status code \(no body\)",)}
"""By provider: too long, said by an answer without a body."""

_EXHAUSTED = (
    r"gousagelimiterror",
    r"freeusagelimiterror",
    r"monthly usage limit reached",
    r"available balance",
    r"insufficient_quota",
    r"out of budget",
    r"quota exceeded",
    r"billing",
    r"subscription_sharing_usage_limit_exceeded",
    r"subscription_sharing_workplace_individual_usage_limit_exceeded",
    r'"code":\s*"?1308\b',
    # Beyond core R9: what Anthropic, OpenRouter, DeepSeek and MiniMax answer.
    r"enforced_spend_limit_reached",
    r"credit balance is too low",
    r"insufficient (?:balance|credits)",
)

_TRANSIENT = (
    r"overloaded",
    r"server_busy",
    r"servers are currently busy",
    r"currently experiencing high demand",
    r"model is at capacity",
    r"(?<![a-z])rate.?limit",
    r"too many requests",
    # A status that stands alone: no part of a longer word or number.
    r"(?<![\w.])(?:408|409|429|500|502|503|504|52[0-4]|529)(?!\w)",
    r"service (?:is )?(?:temporarily )?unavailable",
    r"server.?error",
    r"internal.?error",
    r"provider returned (?:an )?error",
    r"exceeded request buffer limit while retrying upstream",
    r"unable to forward upstream",
    r"upstream request failed",
    r"upstream_stream_read_error",
    r"upstream.?connect",
    r"stream was interrupted",
    r"http2 stream failed",
    r"network.?error",
    r"connection.?(?:error|refused|lost|reset)",
    r"other side closed",
    r"fetch failed",
    r"request to .{0,500} failed, reason:",
    r"getaddrinfo",
    r"\benotfound\b",
    r"eai_again",
    r"reset before headers",
    r"socket hang up",
    r"socket connection was closed",
    r"timed out",
    r"timeout",
    r"terminated",
    r"websocket.?(?:closed|error)",
    r"ended without",
    r"stream ended before (?:message_stop|a terminal response event)",
    r"http2 request did not get a response",
    r"stream disconnected before completion",
    r"cut short after the reply had begun",
    r"pending stream has been canceled",
    r"retry delay",
    r"you can retry your request",
    r"try your request again",
    r"please retry your request",
    r"resource.?exhausted",
    r"subscription_sharing_(?:usage|user)_unavailable",
    # What Python's network stack and AWS say (core R10).
    r"throttl",
    r"model stream error",
    r"all connection attempts failed",
    r"server disconnected",
    r"peer closed connection",
    r"incomplete chunked read",
    r"name or service not known",
    r"temporary failure in name resolution",
)


def is_context_overflow(message: AssistantMessage, context_window: int | None = None) -> bool:
    """Whether the conversation has become too long for the model.

    :param context_window: of the model, in tokens. When given, two silent cases are found as well: an answer to more
        tokens than fit (CO2), and an answer cut off at once because the prompt filled the window (CO3).
    """
    if message.stop_reason == "error":
        if (info := message.error_info) is not None and info.kind != "internal":
            return info.kind == "context_overflow"
        return is_overflow_text(message.error_message or "", message.provider)
    if not context_window:
        return False
    usage = message.usage
    prompt = usage.input + usage.cache_read + usage.cache_write  # with cache writes (CO4)
    if message.stop_reason == "length":
        return usage.output == 0 and prompt >= 0.99 * context_window
    return message.stop_reason == "stop" and prompt > context_window


def is_recoverable_length(message: AssistantMessage, desired_max: int) -> bool:
    """Whether an answer was cut off only because the window left too little room (CO5).

    :param desired_max: tokens of the answer that were wished for, before they were fitted into the window.
    """
    return message.stop_reason == "length" and 0 <= message.usage.output < desired_max


def is_retryable_assistant_error(message: AssistantMessage) -> bool:
    """Whether asking once more may help: rates, load, network; not quota, billing or overflow (R9, R10)."""
    if message.stop_reason != "error":
        return False
    if (info := message.error_info) is not None and info.kind != "internal":
        return info.retryable
    text = message.error_message or ""
    return _found(_TRANSIENT, text) and not is_quota_text(text) and not is_overflow_text(text, message.provider)


def is_overflow_text(text: str, provider: str = "") -> bool:
    """Whether an error text says that the prompt is too long (CO1)."""
    signatures = _TOO_LONG + _BODILESS.get(provider, ())
    return _found(signatures, text) and not _found(_THROTTLED, text)


def is_quota_text(text: str) -> bool:
    """Whether an error text says that a quota or a balance is used up, so that waiting a moment is no use (R9)."""
    return _found(_EXHAUSTED, text)


def _found(patterns: tuple[str, ...], text: str) -> bool:
    return _compiled(patterns).search(text) is not None


@cache
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


# ── numbers of an overflow ───────────────────────────────────────────────────────────────────────────────────

_NUMBER = r"(\d[\d,]*)"
_LIMITS = (
    rf"> {_NUMBER} maximum",
    rf"maximum (?:context|prompt) length (?:is |of |\(){_NUMBER}",
    rf"context length \({_NUMBER} tokens",
    rf"context size (?:is |\(){_NUMBER}",
    rf"token limit: {_NUMBER}",
    rf"too large for model with {_NUMBER}",
    rf"exceeds the limit of {_NUMBER}",
    rf"maximum allowed input length of {_NUMBER}",
    rf"length should be \[\d+, ?{_NUMBER}\]",
    rf"tokens allowed \({_NUMBER}\)",
    rf'"n_ctx":\s*{_NUMBER}',
)
_SIZES = (
    rf"too long: {_NUMBER} tokens",
    rf"(?:requested(?: about)?|resulted in|contains|prompt has) {_NUMBER} tokens",
    rf"requested: {_NUMBER}",
    rf"token count (?:of |\(){_NUMBER}",
    rf"(?:input|request|input length) \({_NUMBER}",
    rf'"n_prompt_tokens":\s*{_NUMBER}',
)


def overflow_sizes(text: str) -> tuple[int | None, int | None]:
    """Tokens that fit into the window, and tokens of the prompt, where an overflow text tells them (F33)."""
    return _number(_LIMITS, text), _number(_SIZES, text)


def _number(patterns: tuple[str, ...], text: str) -> int | None:
    found = _compiled(patterns).search(text)
    return int(next(filter(None, found.groups())).replace(",", "")) if found else None


# ── kinds of failure ─────────────────────────────────────────────────────────────────────────────────────────

_NAMES: dict[ErrorKind, tuple[str, ...]] = {
    "quota": (
        r"402|1308|insufficient_(?:quota|balance)|billing_.*|enforced_spend_limit_reached|service_quota_exceeded.*",
        r"usage_limit_reached|usage_not_included|(?:go|free)_usage_limit_error|subscription_.*usage_limit_exceeded",
        r".*_per_day_.*",  # Google's quotaId: no minute's wait will help
    ),
    "context_overflow": (
        r"413|context_length_exceeded|exceed_context_size_error|model_context_window_exceeded|request_too_large",
        r"too_many_prompt_tokens",
    ),
    "content_filter": (
        r"content_filter(?:ed)?|content_policy_violation|responsible_aipolicy_violation|moderation_blocked",
        r"data_inspection_failed",
    ),
    "auth": (
        r"invalid_api_key|api_key_invalid|access_token_.*|expired_token(?:_exception)?|invalid_client_token_id",
        r"unrecognized_client_exception|missing_authentication_token(?:_exception)?|.*_signature(?:_exception)?",
    ),
    "permission": (r"unsupported_country_region_territory|service_disabled",),
    "not_found": (r"model_not_found|deployment_not_found|unknown_model|model_not_supported",),
    "rate_limited": (
        r"rate_limit_.*|resource_exhausted|throttling_exception|too_many_requests|model_not_ready_exception",
    ),
    "overloaded": (r"overloaded.*|.*_overloaded|server_busy|slow_down",),
}
"""By kind: names that decide alone, in snake_case. The first kind that has one of the names counts."""

_OPEN = (None, 400)
_WORDINGS: dict[ErrorKind, tuple[tuple[int | None, ...], tuple[str, ...]]] = {
    "quota": ((*_OPEN, 403, 429), _EXHAUSTED),
    "context_overflow": ((*_OPEN, 422, 500), _TOO_LONG),
    "content_filter": (
        (*_OPEN, 403, 422),
        (r"violat.{0,60}usage (?:guidelines|polic)", r"violate .{0,20}responsible ai", r"(?:input|prompt) was flagged"),
    ),
    "auth": (
        (*_OPEN, 403),
        (r"(?:invalid|incorrect) api.?key", r"api.?key (?:is )?(?:not valid|invalid)", r"unregistered callers"),
    ),
    "permission": (_OPEN, (r"location is not supported",)),
    "not_found": (
        _OPEN,
        (
            r"not a valid model",
            r"supported api model names",
            r"model identifier is invalid",
            r"\bmodel\b.{0,200}\b(?:does not exist|not found)",
        ),
    ),
    # The model and the address exist; it is a parameter that nobody there takes.
    "bad_request": ((404,), (r"not supported (?:in|by|with) this model", r"endpoints found that support")),
    "rate_limited": ((None,), (r"(?<![a-z])rate.?limit", r"too many requests", r"throttl")),
    "overloaded": ((None,), (r"overloaded", r"at capacity", r"high demand", r"servers are .{0,20}busy")),
}
"""By kind: the statuses at which the wording counts (None: no status is known), and the wordings."""

_STATUSES = {
    400: "invalid_request_error invalid_argument failed_precondition out_of_range validation_exception content_filter "
    "context_length_exceeded",
    401: "authentication_error unauthenticated unauthorized invalid_api_key",
    403: "permission_error permission_denied access_denied_exception forbidden",
    404: "not_found_error not_found resource_not_found_exception model_not_found deployment_not_found",
    408: "model_timeout_exception",
    413: "request_too_large",
    424: "model_error_exception model_stream_error_exception",
    429: "rate_limit_error rate_limit_exceeded rate_limit_reached resource_exhausted throttling_exception "
    "model_not_ready_exception insufficient_quota",
    499: "cancelled",
    500: "api_error server_error internal internal_server_error internal_server_exception internal_failure",
    503: "unavailable unavailable_error service_unavailable_exception",
    504: "deadline_exceeded timeout_error",
    529: "overloaded_error overloaded_exception",
}
"""By HTTP status: names that stand for it."""

_KINDS: dict[ErrorKind, tuple[int, ...]] = {
    "auth": (401,),
    "permission": (403,),
    "not_found": (404, 405, 410),
    "config": (407,),
    "server": (408, 409, 424, 425, 499),
    "rate_limited": (429,),
    "overloaded": (503, 529),
}
"""By kind: its statuses. Of the others those from 500 are the server's fault, and those below are ours."""


def kind_of_failure(names: Iterable[str], status: int | None, text: str, provider: str = "") -> ErrorKind:
    """What kind of failure a provider means.

    :param names: the words that classify it: codes, types, reasons, exception names, in any spelling.
    :param status: of the answer, or the one that the error inside a stream stands for; None: nothing tells.
    :param text: the message for people.
    """
    known = [*map(_snake, names), str(status)]
    for kind, patterns in _NAMES.items():
        if any(_compiled(patterns).fullmatch(name) for name in known):
            return kind
    for kind, (statuses, patterns) in _WORDINGS.items():
        if status in statuses and (
            is_overflow_text(text, provider) if kind == "context_overflow" else _found(patterns, text)
        ):
            return kind
    for kind, statuses in _KINDS.items():
        if status in statuses:
            return kind
    return "server" if status is None or status >= 500 else "bad_request"


def status_of_names(names: Iterable[str]) -> int | None:
    """The HTTP status that an error inside a stream stands for (F31). A general 400 counts if nothing says more."""
    known = set(map(_snake, names))
    told = [status for status, general in _STATUSES.items() if not known.isdisjoint(general.split())]
    return told[-1] if told else None


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+", "_", name).lower()
