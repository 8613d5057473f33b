"""Failures recognised by their words: core sections 14 (CO) and 15.2 (R9, R10), reliability F33."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pi_ai.errors import ContextOverflow, ErrorInfo, ErrorKind
from pi_ai.failures import http_failure, provider_words, stream_failure
from pi_ai.overflow import (
    is_context_overflow,
    is_overflow_text,
    is_quota_text,
    is_recoverable_length,
    is_retryable_assistant_error,
    kind_of_failure,
    overflow_sizes,
    status_of_names,
)
from pi_ai.serialization import from_json
from pi_ai.types import AssistantMessage, Usage
from pi_ai_tests.data import table


def failed(text: str, provider: str = "p", info: ErrorInfo | None = None) -> AssistantMessage:
    return AssistantMessage(stop_reason="error", error_message=text, provider=provider, error_info=info)


def ended(stop: Any, **usage: int) -> AssistantMessage:
    return AssistantMessage(stop_reason=stop, usage=Usage(**usage))


def _typed(type: str, message: str) -> Any:  # noqa: A002 - the field's name
    return {"type": "error", "error": {"type": type, "message": message}}


def _coded(code: str | None, message: str) -> Any:
    return {"error": {"code": code, "type": "invalid_request_error", "message": message}}


# ── what pi does ─────────────────────────────────────────────────────────────────────────────────────────────

DIFFERENT = {
    "ThrottlingException: Too many tokens, please wait before trying again.": "core section 24, R10: throttling"
}


def _rows(name: str) -> list[Any]:
    rows = table(name)
    return [pytest.param(row, id=row["message"].get("errorMessage") or str(index)) for index, row in enumerate(rows)]


@pytest.mark.parametrize("row", _rows("context-overflow"))
def test_context_overflow_as_in_the_goldens(row: dict[str, Any]):
    message = from_json(AssistantMessage, row["message"])
    ours = is_context_overflow(message, row.get("contextWindow"))
    assert ours is (row["result"] if message.error_message not in DIFFERENT else not row["result"])


@pytest.mark.parametrize("row", _rows("retryable-error"))
def test_retryable_errors_as_in_the_goldens(row: dict[str, Any]):
    message = from_json(AssistantMessage, row["message"])
    ours = is_retryable_assistant_error(message)
    assert ours is (row["result"] if message.error_message not in DIFFERENT else not row["result"])


# ── the table of core section 14 ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "overflow", "transient"),
    [
        ("prompt is too long: 213462 tokens > 200000 maximum", True, False),
        ("Throttling error: Too many tokens, please wait before trying again.", False, True),
        ('413 {"error":{"type":"request_too_large"}}', True, False),
        ("Validation error: Input is too long for requested model.", True, False),
        ('{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}', False, True),
        ('429: {"error":{"code":"insufficient_quota"}}', False, False),
        ("req_500abc", False, False),
    ],
)
def test_overflow_and_transient_are_told_apart(text: str, overflow: bool, transient: bool):
    assert is_context_overflow(failed(text)) is overflow
    assert is_retryable_assistant_error(failed(text)) is transient


@pytest.mark.parametrize(
    "text",
    [
        "Prompt exceeds max length",
        "The request exceeds the model's maximum context length of 8,192 tokens",
        "Context window exceeded",
        "The input token count (1250074) exceeds the maximum number of tokens allowed (1048576).",
        "Please reduce the length of the messages or completion.",
        "The request exceeds the maximum allowed input length of 4096 tokens",
        "prompt token count of 140000 exceeds the limit of 128000",
        "the request exceeds the available context size, try increasing it",
        "context window exceeds limit (2013)",
        "Prompt contains 300000 tokens, too large for model with 262144 maximum context length",
        "The prompt has 9000 tokens, but the configured context size is 8192 tokens",
        "prompt too long; exceeded max context length by 1119046 tokens",
        "Context_length_exceeded",
        "413",
        "  413: nothing more",
        "openai API error (413): {}",
        "Input Tokens Exceeded: Number of input tokens exceeds maximum length.",
        "The total length of all messages is too long.",
    ],
)
def test_CO1_wordings_of_an_overflow(text: str):
    assert is_overflow_text(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Rate limit reached: prompt is too long",
        "Service unavailable: context length exceeded",
        "4130 things",
        "413abc",
        "image exceeds 5 MB maximum",
        "max_tokens is too large",
        "Token limit reached",
    ],
)
def test_CO1_other_failures_are_no_overflow(text: str):
    assert not is_overflow_text(text)


@pytest.mark.parametrize("status", [400, 413])
def test_CO1_an_answer_without_a_body_means_overflow_at_cerebras_only(status: int):
    text = f"{status} status code (no body)"
    assert is_context_overflow(failed(text, provider="cerebras"))
    assert is_context_overflow(failed(text, provider="other")) is (status == 413)


@pytest.mark.parametrize(
    ("stop", "usage", "overflow"),
    [
        ("stop", {"input": 1000}, False),
        ("stop", {"input": 1001}, True),
        ("stop", {"input": 1, "cache_read": 500, "cache_write": 500}, True),
        ("length", {"input": 989}, False),
        ("length", {"input": 990}, True),
        ("length", {"input": 90, "cache_write": 900}, True),
        ("length", {"input": 1000, "output": 1}, False),
        ("toolUse", {"input": 2000}, False),
        ("aborted", {"input": 2000}, False),
    ],
)
def test_CO2_to_CO4_silent_overflow_is_seen_by_the_window(stop: str, usage: dict[str, int], overflow: bool):
    assert is_context_overflow(ended(stop, **usage), 1000) is overflow
    assert not is_context_overflow(ended(stop, **usage))


@pytest.mark.parametrize(
    ("stop", "output", "desired", "recoverable"),
    [("length", 10, 100, True), ("length", 100, 100, False), ("length", 0, 0, False), ("stop", 10, 100, False)],
)
def test_CO5_an_answer_cut_by_a_full_window_can_be_asked_for_again(
    stop: str, output: int, desired: int, recoverable: bool
):
    assert is_recoverable_length(ended(stop, output=output), desired) is recoverable


# ── each provider's words, whichever way they come ────────────────────────────────────────────────────────────

# provider, HTTP status, body, tokens that fit, tokens of the prompt
TOO_LONG: list[tuple[str, int, Any, int | None, int | None]] = [
    (
        "anthropic",
        400,
        _typed("invalid_request_error", "prompt is too long: 213462 tokens > 200000 maximum"),
        200000,
        213462,
    ),
    ("anthropic-large", 413, _typed("request_too_large", "Request exceeds the maximum size"), None, None),
    (
        "openai",
        400,
        _coded("context_length_exceeded", "Your input exceeds the context window of this model."),
        None,
        None,
    ),
    (
        "openai-chat",
        400,
        _coded(
            "context_length_exceeded",
            "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
        ),
        8192,
        9000,
    ),
    (
        "google",
        400,
        {
            "error": {
                "code": 400,
                "status": "INVALID_ARGUMENT",
                "message": "The input token count (1250074) exceeds the maximum number of tokens allowed (1048576).",
            }
        },
        1048576,
        1250074,
    ),
    (
        "xai",
        400,
        {"error": "This model's maximum prompt length is 131072 but the request contains 537812 tokens."},
        131072,
        537812,
    ),
    ("groq", 400, _coded(None, "Please reduce the length of the messages or completion."), None, None),
    (
        "openrouter",
        400,
        {
            "error": {
                "code": 400,
                "message": "This endpoint's maximum context length is 32768 tokens. "
                "However, you requested about 40000 tokens",
            }
        },
        32768,
        40000,
    ),
    (
        "together",
        400,
        _coded(None, "The input (9000 tokens) is longer than the model's context length (8192 tokens)."),
        8192,
        9000,
    ),
    (
        "llama.cpp",
        400,
        {
            "error": {
                "code": 400,
                "type": "exceed_context_size_error",
                "message": "the request exceeds the available context size, try increasing it",
                "n_prompt_tokens": 9000,
                "n_ctx": 8192,
            }
        },
        8192,
        9000,
    ),
    ("lm-studio", 400, {"error": "The number of tokens to keep is greater than the context length"}, None, None),
    ("copilot", 400, _coded(None, "prompt token count of 140000 exceeds the limit of 128000"), 128000, 140000),
    ("minimax", 400, _coded(None, "invalid params, context window exceeds limit (2013)"), None, None),
    (
        "kimi",
        400,
        _coded(None, "Invalid request: Your request exceeded model token limit: 262144 (requested: 300000)"),
        262144,
        300000,
    ),
    (
        "mistral",
        400,
        {
            "object": "error",
            "type": "invalid_request_prompt",
            "code": "3051",
            "message": "Prompt contains 300000 tokens, too large for model with 262144 maximum context length",
        },
        262144,
        300000,
    ),
    ("ollama", 400, {"error": "prompt too long; exceeded max context length by 1119046 tokens"}, None, None),
    ("qwen", 400, _coded("invalid_parameter_error", "Range of input length should be [1, 129024]"), 129024, None),
    ("z.ai", 400, _coded("1261", "Prompt exceeds max length"), None, None),
    (
        "poolside",
        400,
        _coded(None, "The prompt has 9000 tokens, but the configured context size is 8192 tokens"),
        8192,
        9000,
    ),
    ("hosted-vllm", 400, _typed("BadRequestError", "maximum context length is 8192 tokens"), 8192, None),
    ("bedrock", 400, {"message": "Input is too long for requested model."}, None, None),
    ("bedrock-titan", 400, {"message": "Too many input tokens. Number of input tokens exceeds 8192"}, None, None),
]


@pytest.mark.parametrize(
    ("provider", "status", "body", "limit", "used"), [pytest.param(*row, id=row[0]) for row in TOO_LONG]
)
def test_CO1_F31_F33_each_providers_words_are_an_overflow_over_http_in_the_stream_and_as_a_text(
    provider: str, status: int, body: Any, limit: int | None, used: int | None
):
    about = {"provider": provider, "api": "an-api", "model": "m"}
    over_http = http_failure(status, {}, json.dumps(body).encode(), **about)
    in_stream = stream_failure(provider_words(body), **about)
    for error in (over_http, in_stream):
        assert isinstance(error, ContextOverflow)
        assert (error.info.limit, error.info.used, error.info.retryable) == (limit, used, False)
        assert is_context_overflow(failed(error.text, provider=provider, info=error.info))
    saved = failed(over_http.text, provider=provider)  # and read by who has no error_info
    assert is_context_overflow(saved)
    assert not is_retryable_assistant_error(saved)


@pytest.mark.parametrize("status", [400, 413])
def test_CO1_F33_cerebras_says_it_without_a_body(status: int):
    error = http_failure(status, {}, b"", provider="cerebras", api="an-api", model="m")
    assert isinstance(error, ContextOverflow)
    assert is_context_overflow(failed(error.text, provider="cerebras"))


# ── error_info goes first ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("kind", "retryable", "overflow"),
    [("context_overflow", False, True), ("rate_limited", True, False), ("bad_request", False, False)],
)
def test_what_pi_ai_knows_counts_more_than_the_text(kind: ErrorKind, retryable: bool, overflow: bool):
    message = failed("too many tokens, 503", info=ErrorInfo(kind=kind, message="m", retryable=retryable))
    assert is_context_overflow(message) is overflow
    assert is_retryable_assistant_error(message) is retryable


def test_the_text_decides_where_a_custom_provider_raised():
    info = ErrorInfo(kind="internal", message="m")
    assert is_context_overflow(failed("prompt is too long", info=info))
    assert is_retryable_assistant_error(failed("503 Service Unavailable", info=info))


@pytest.mark.parametrize("stop", ["stop", "length", "aborted", "pending"])
def test_R9_only_errors_are_retryable(stop: Any):
    message = AssistantMessage(stop_reason=stop, error_message="overloaded")
    assert not is_retryable_assistant_error(message)
    assert not is_context_overflow(AssistantMessage(stop_reason=stop, error_message="prompt is too long"))


@pytest.mark.parametrize(
    "text",
    [
        "GoUsageLimitError: x",
        "Monthly usage limit reached",
        "no available balance",
        "You are out of budget",
        "429 Quota exceeded",
        "503: check your billing",
        "subscription_sharing_usage_limit_exceeded",
        '429: {"error":{"code": 1308,"message":"limit"}}',
        "400: Your credit balance is too low to access the Anthropic API",
        "402: Insufficient Balance",
    ],
)
def test_R9_quota_and_billing_do_not_pass(text: str):
    assert is_quota_text(text)
    assert not is_retryable_assistant_error(failed(text))


@pytest.mark.parametrize(
    "text",
    [
        "model is at capacity",
        "Provider returned error",
        "rate_limit_error",
        "Connection error: [Errno 104] Connection reset by peer",
        "Connection error: All connection attempts failed",
        "Request timed out: idle",
        "Server disconnected without sending a response.",
        "peer closed connection without sending complete message body (incomplete chunked read)",
        "[Errno -2] Name or service not known",
        "Temporary failure in name resolution",
        "Stream ended without finish_reason",
        "OpenAI Responses stream ended before a terminal response event",
        "Model stream error: please wait",
        "Provider stopped with: error (server error)",
        *(f"{status}: x" for status in (408, 409, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529)),
    ],
)
def test_R9_and_R10_wordings_of_what_passes(text: str):
    assert is_retryable_assistant_error(failed(text))


@pytest.mark.parametrize("text", ["", "400: bad", "501: no", "x500", "500x", "1.500 tokens", "5000", "refused"])
def test_R9_other_failures_do_not_pass(text: str):
    assert not is_retryable_assistant_error(failed(text))


def test_an_overflow_does_not_pass_even_with_the_status_of_a_server_error():
    assert not is_retryable_assistant_error(failed("500: the request exceeds the available context size"))


# ── numbers and kinds ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "limit", "used"),
    [
        ("prompt is too long: 213462 tokens > 200000 maximum", 200000, 213462),
        ("exceeds model's maximum context length of 131,072 tokens", 131072, None),
        ("Input length (265330) exceeds model's maximum context length (262144).", 262144, 265330),
        ("maximum prompt length is 131072 but the request contains 537812 tokens", 131072, 537812),
        ("maximum context length is 8192 tokens. However, you requested about 9000 tokens", 8192, 9000),
        ("maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens", 8192, 9000),
        ("The input (9000 tokens) is longer than the model's context length (8192 tokens).", 8192, 9000),
        ("exceeded model token limit: 262144 (requested: 300000)", 262144, 300000),
        ("The input token count (1250074) exceeds the maximum number of tokens allowed (1048576).", 1048576, 1250074),
        ("prompt token count of 140000 exceeds the limit of 128000", 128000, 140000),
        ("contains 300000 tokens, too large for model with 262144 maximum context length", 262144, 300000),
        ("prompt has 9000 tokens, but the configured context size is 8192 tokens", 8192, 9000),
        ("request (9000 tokens) exceeds the available context size (8192 tokens), try increasing it", 8192, 9000),
        ("exceeds the maximum allowed input length of 4096 tokens", 4096, None),
        ("Range of input length should be [1, 129024]", 129024, None),
        ('{"n_prompt_tokens": 9000, "n_ctx": 8192}', 8192, 9000),
        ("prompt too long; exceeded max context length by 1119046 tokens", None, None),
        ("Input is too long for requested model.", None, None),
    ],
)
def test_F33_limit_and_use_are_read_where_they_are_told(text: str, limit: int | None, used: int | None):
    assert overflow_sizes(text) == (limit, used)


@pytest.mark.parametrize(
    ("names", "status", "text", "kind"),
    [
        (["rate_limit_error", "enforced_spend_limit_reached"], 429, "", "quota"),
        (["rate_limit_exceeded", "tokens"], 413, "Request too large", "context_overflow"),
        (
            ["rate_limit_exceeded"],
            429,
            "add a payment method: https://platform.openai.com/account/billing",
            "rate_limited",
        ),
        (["RESOURCE_EXHAUSTED"], 429, "Quota exceeded, check your plan and billing details", "rate_limited"),
        (["RESOURCE_EXHAUSTED", "GenerateRequestsPerDayPerProjectPerModel-FreeTier"], 429, "", "quota"),
        (["invalid_request_error"], 401, "", "auth"),
        (["invalid_request_error"], 400, "", "bad_request"),
        ([], 400, "overloaded", "bad_request"),
        ([], None, "overloaded", "overloaded"),
        ([], None, "429 Too Many Requests", "rate_limited"),
        ([], None, "", "server"),
        ([], 402, "", "quota"),
        ([], 418, "", "bad_request"),
        ([], 520, "", "server"),
    ],
)
def test_a_kind_is_told_by_name_then_wording_then_status(
    names: list[str], status: int | None, text: str, kind: ErrorKind
):
    assert kind_of_failure(names, status, text) == kind


@pytest.mark.parametrize(
    ("names", "status"),
    [
        (["overloaded_error"], 529),
        (["throttlingException"], 429),
        (["UNAVAILABLE"], 503),
        (["invalid_request_error", "authentication_error"], 401),
        (["invalid_request_error", "context_length_exceeded"], 400),
        (["never heard of"], None),
        ([], None),
    ],
)
def test_F31_names_stand_for_the_status_of_their_http_form(names: list[str], status: int | None):
    assert status_of_names(names) == status
