"""What a provider says about a failure: reliability part C (F30-F36), core R2-R8 and ET1-ET4, X1, X4, X29."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_ai import errors
from pi_ai.errors import ErrorKind, PiAIError
from pi_ai.failures import (
    MAX_BODY_QUOTE,
    MAX_MESSAGE_QUOTE,
    aws_words,
    error_in,
    http_failure,
    provider_words,
    redact,
    request_id,
    retry_after,
    stream_failure,
)
from pi_ai.overflow import is_context_overflow, is_retryable_assistant_error
from pi_ai.types import AssistantMessage
from pi_ai_tests.data import recordings

NOW = 1759845376.0  # Tue, 07 Oct 2025 13:56:16 GMT
WHO = {"provider": "acme", "api": "openai-completions", "model": "large"}
PASSING = ("rate_limited", "overloaded", "server")


def http(status: int, body: Any = b"", headers: dict[str, str] | None = None, **about: Any) -> PiAIError:
    raw = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
    return http_failure(status, headers or {}, raw, **{**WHO, "now": NOW, **about})


def in_stream(payload: Any, **more: Any) -> PiAIError:
    words = error_in(payload)
    assert words is not None
    return stream_failure(words, **WHO, **more)


# ── every recorded error ─────────────────────────────────────────────────────────────────────────────────────

KIND_OF: dict[int, ErrorKind] = {
    400: "bad_request",
    401: "auth",
    403: "permission",
    404: "not_found",
    422: "bad_request",
    429: "rate_limited",
    500: "server",
    529: "overloaded",
}
SAID_OTHERWISE: dict[str, ErrorKind] = {
    # The status says one thing, the provider's words say more.
    "anthropic--400--invalid-request-error--e154cd": "context_overflow",
    "amazon-bedrock--400--error--f56e12": "context_overflow",
    "google-vertex--400--invalid-argument--bcede1": "context_overflow",
    "ollama--400--invalid-request-error--593fa9": "context_overflow",
    "perplexity--400--too-many-prompt-tokens--8fb0ef": "context_overflow",
    "openai--400--context-length-exceeded--8da585": "context_overflow",
    "amazon-bedrock--403--error--5bdfd5": "auth",  # an expired token
    "amazon-bedrock--403--error--b5af0e": "auth",  # an unknown key
    "google--400--invalid-argument--d86810": "auth",
    "google--403--permission-denied--da4b1c": "auth",  # no key at all
    "xai--400--invalid-argument--d3e5d9": "auth",
    "google-vertex--400--failed-precondition--fa935b": "permission",  # the region
    "google-vertex--400--invalid-argument--f9eb99": "content_filter",
    "openrouter--403--error--ca09d4": "content_filter",
    "deepseek--400--invalid-request-error--ff5e86": "not_found",
    "openrouter--400--error--2c9b78": "not_found",
    "openai--400--model-not-found--b4d6fc": "not_found",
    "openai--404--invalid-request-error--f124cd": "bad_request",  # the model is there and takes no tools
    "openrouter--404--error--c16299": "bad_request",  # nobody takes this tool_choice
}
WAITS = {
    "google--429--resource-exhausted--c7c89c": 49.0,  # RetryInfo 48 s
    "azure--429--ratelimitreached--aafd46": 0.0,  # retry-after-ms goes before retry-after
    "openai--429--rate-limit-exceeded--67206b": 28.0,  # "Please try again in 26.604s"
    "openrouter--429--error--fe348d": 45.0,  # x-ratelimit-reset in milliseconds, 44 s ahead
}
SIZES = {
    "anthropic--400--invalid-request-error--e154cd": (200000, 3333404),
    "google-vertex--400--invalid-argument--bcede1": (1048576, 1250074),
}
NAMED_BY_STATUS_ONLY = {
    # Bodies that name no kind: inside a stream nothing would tell the status that came with them.
    "amazon-bedrock--400--error--67e14e",
    "amazon-bedrock--400--error--9fc6b9",
    "amazon-bedrock--403--error--5bdfd5",  # AWS names the exception in a header, and in a frame's header
    "amazon-bedrock--403--error--b5af0e",
    "amazon-bedrock--404--error--10ca58",
    "openai--403--invalid-request-error--7168dd",
    "xai--404--some-requested-entity-was-not-found--02c878",
}
MISLEADING = {
    # Google calls every limit a quota, in the words that others use for one that is used up.
    "google--429--resource-exhausted--c7c89c",
    "google-vertex--429--resource-exhausted--1db583",
    # "Provider returned error" passes by R9, whatever the error was.
    "openrouter--400--error--eba1fe",
    "openrouter--403--error--ca09d4",
}
APIS = (
    "anthropic-messages",
    "bedrock-converse-stream",
    "google-generative-ai",
    "google-vertex",
    "openai-completions",
    "openai-responses",
)
RECORDED = [
    pytest.param(meta, body, id=meta["file"].removesuffix(".json"))
    for api in APIS
    for meta, body in recordings(f"errors/{api}")
]
recorded = pytest.mark.parametrize(("meta", "body"), RECORDED)


def _name(meta: dict[str, Any]) -> str:
    return meta["file"].removesuffix(".json")


def _failure(meta: dict[str, Any], body: bytes) -> PiAIError:
    headers = {name.lower(): value for name, value in (meta.get("response_headers") or {}).items()}
    about = {"provider": meta["provider"], "api": meta["api"], "model": meta.get("model") or "m"}
    return http_failure(meta["http_status"], headers, body, now=NOW, **about)


def _one_line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")


@recorded
def test_F30_a_recorded_error_has_its_kind_class_and_status(meta: dict[str, Any], body: bytes):
    error = _failure(meta, body)
    kind = SAID_OTHERWISE.get(_name(meta), KIND_OF[meta["http_status"]])
    assert error.info.kind == kind
    assert type(error).kind == kind
    assert error.info.status == meta["http_status"]
    assert error.info.retryable is (kind in PASSING)
    assert error.info.retry_after == WAITS.get(_name(meta))
    assert (error.info.limit, error.info.used) == SIZES.get(_name(meta), (None, None))
    assert (error.info.provider, error.info.api, error.info.phase) == (meta["provider"], meta["api"], "headers")


@recorded
def test_F30_a_recorded_error_keeps_the_providers_words_and_its_request_id(meta: dict[str, Any], body: bytes):
    error, expect = _failure(meta, body), meta["expect"]
    assert _one_line(expect["message"]) in error.info.message
    headers = meta.get("response_headers") or {}
    names = ("x-request-id", "request-id", "x-amzn-requestid", "apim-request-id", "x-ds-trace-id", "cf-ray")
    ids = {json.loads(body).get("request_id")} | {headers[name] for name in names if name in headers}
    assert error.info.request_id in (ids - {None} or {None})
    told = {str(word) for word in (expect.get("code"), expect.get("type")) if word} - {"error"}
    exception = headers.get("x-amzn-errortype", "").partition(":")[0]
    assert error.info.provider_code in ({exception} if exception else told or {None})


@recorded
def test_ET1_the_text_is_the_status_and_the_body_as_received(meta: dict[str, Any], body: bytes):
    error = _failure(meta, body)
    if "x-amzn-errortype" in (meta.get("response_headers") or {}):
        assert error.text.endswith(f": {meta['expect']['message']}")
    else:
        assert error.text.startswith(f"{meta['http_status']}: {body.decode().strip()}")


@recorded
def test_F31_the_same_words_inside_a_stream_are_the_same_kind(meta: dict[str, Any], body: bytes):
    payload = json.loads(body)
    words = error_in(payload) or provider_words(payload)
    same = stream_failure(words, **WHO).info.kind == _failure(meta, body).info.kind
    assert same is (_name(meta) not in NAMED_BY_STATUS_ONLY)


@recorded
def test_the_text_alone_still_tells_what_can_be_done(meta: dict[str, Any], body: bytes):
    """Conversations may be saved and read by others, without ``error_info`` (R9, CO1)."""
    error = _failure(meta, body)
    message = AssistantMessage(stop_reason="error", error_message=error.text, provider=meta["provider"])
    assert is_context_overflow(message) is (error.info.kind == "context_overflow")
    assert is_retryable_assistant_error(message) is (error.info.retryable is not (_name(meta) in MISLEADING))


# ── forms of errors ──────────────────────────────────────────────────────────────────────────────────────────


def openai(message: str = "m", **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, **fields}}


def google(status: str, code: int, message: str = "m", *details: dict[str, Any]) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (429, openai(type="insufficient_quota", code="insufficient_quota"), "quota"),
        (429, openai("You exceeded your current quota, please check your plan and billing details."), "quota"),
        (429, openai("Add a payment method: https://x/account/billing", code="rate_limit_exceeded"), "rate_limited"),
        (429, openai(type="rate_limit_error", details={"error_code": "enforced_spend_limit_reached"}), "quota"),
        (400, openai("Your credit balance is too low to access the Anthropic API."), "quota"),
        (402, openai("Insufficient Balance"), "quota"),
        (429, openai("limit", code="1308"), "quota"),
        (429, openai(code="subscription_sharing_usage_limit_exceeded"), "quota"),
        (429, google("RESOURCE_EXHAUSTED", 429, "You exceeded your current quota, check billing"), "rate_limited"),
        (
            429,
            google("RESOURCE_EXHAUSTED", 429, "m", {"violations": [{"quotaId": "RequestsPerDayPerModel-FreeTier"}]}),
            "quota",
        ),
        (400, openai(code="context_length_exceeded"), "context_overflow"),
        (413, openai(type="request_too_large"), "context_overflow"),
        (413, openai("Request too large on tokens per minute", code="rate_limit_exceeded"), "context_overflow"),
        (500, openai("the request exceeds the available context size"), "context_overflow"),
        (429, openai("Rate limit: too many tokens per minute"), "rate_limited"),
        (400, openai(code="content_filter", innererror={"code": "ResponsibleAIPolicyViolation"}), "content_filter"),
        (400, openai(innererror={"code": "ResponsibleAIPolicyViolation"}), "content_filter"),
        (400, openai("Your prompt was flagged as potentially violating our usage policy."), "content_filter"),
        (403, openai("Your chosen model requires moderation and your input was flagged"), "content_filter"),
        (400, openai(code="DataInspectionFailed"), "content_filter"),
        (401, openai(type="authentication_error"), "auth"),
        (400, google("INVALID_ARGUMENT", 400, "m", {"reason": "API_KEY_INVALID"}), "auth"),
        (403, openai(type="permission_error"), "permission"),
        (403, openai(code="unsupported_country_region_territory"), "permission"),
        (404, openai(type="not_found_error"), "not_found"),
        (405, b"", "not_found"),
        (400, openai("The provided model identifier is invalid."), "not_found"),
        (529, openai(type="overloaded_error"), "overloaded"),
        (500, openai(type="overloaded_error"), "overloaded"),
        (503, google("UNAVAILABLE", 503, "The model is overloaded."), "overloaded"),
        (503, openai("Loading model", type="unavailable_error", code=503), "overloaded"),
        (500, google("INTERNAL", 500), "server"),
        (504, google("DEADLINE_EXCEEDED", 504), "server"),
        (408, b"", "server"),
        (409, b"", "server"),
        (425, b"", "server"),
        (502, b"<html><head><title>Bad gateway</title></head></html>", "server"),
        (400, {"detail": [{"msg": "bad field"}]}, "bad_request"),
        (422, {"object": "error", "message": {"detail": [{"msg": "bad field"}]}}, "bad_request"),
        (400, [google("INVALID_ARGUMENT", 400)], "bad_request"),
        (407, b"", "config"),
    ],
)
def test_kinds_of_http_errors(status: int, body: Any, kind: ErrorKind):
    assert http(status, body).info.kind == kind


@pytest.mark.parametrize(
    ("exception", "status", "kind", "text"),
    [
        ("ValidationException", 400, "bad_request", "Validation error: m"),
        ("ThrottlingException", 429, "rate_limited", "Throttling error: m"),
        ("ServiceUnavailableException", 503, "overloaded", "Service unavailable: m"),
        ("InternalServerException", 500, "server", "Internal server error: m"),
        ("ModelStreamErrorException", 424, "server", "Model stream error: m"),
        ("ModelTimeoutException", 408, "server", "ModelTimeoutException: m"),
        ("ModelErrorException", 424, "server", "ModelErrorException: m"),
        ("ModelNotReadyException", 429, "rate_limited", "ModelNotReadyException: m"),
        ("AccessDeniedException", 403, "permission", "AccessDeniedException: m"),
        ("ResourceNotFoundException", 404, "not_found", "ResourceNotFoundException: m"),
        ("ServiceQuotaExceededException", 400, "quota", "ServiceQuotaExceededException: m"),
        ("ExpiredTokenException", 403, "auth", "ExpiredTokenException: m"),
        ("UnrecognizedClientException", 403, "auth", "UnrecognizedClientException: m"),
        ("InvalidSignatureException", 403, "auth", "InvalidSignatureException: m"),
    ],
)
def test_F31_aws_exceptions_over_http_and_in_frames(exception: str, status: int, kind: ErrorKind, text: str):
    by_header = http(status, {"message": "m"}, {"x-amzn-errortype": f"{exception}:http://internal.amazon.com/coral/"})
    by_body = http(status, {"__type": f"com.amazon.coral#{exception}", "Message": "m"})
    framed = stream_failure(aws_words(exception[0].lower() + exception[1:], "m"), **WHO)
    for error in (by_header, by_body, framed):
        assert (error.info.kind, error.text, error.info.provider_code) == (kind, text, exception)
    assert by_header.info.status == by_body.info.status == status
    assert framed.info.status in (status, None)


def test_BR30_throttling_that_says_too_many_tokens_is_no_overflow():
    error = stream_failure(aws_words("throttlingException", "Too many tokens, please wait"), **WHO)
    assert (error.info.kind, error.info.status, error.info.retryable) == ("rate_limited", 429, True)
    assert error.text == "Throttling error: Too many tokens, please wait"


def test_BR31_without_a_message_the_body_stays_visible():
    error = http(403, b"<html>blocked by gateway</html>")
    assert error.text == "403: <html>blocked by gateway</html>"
    named = http(403, b"", {"x-amzn-errortype": "ExpiredTokenException:"})
    assert (named.info.kind, named.text) == ("auth", "403 status code (no body)")


def test_BR32_the_data_retention_page_is_named():
    error = http(400, {"message": "data retention mode x"}, {"x-amzn-errortype": "ValidationException"})
    assert error.text.startswith("Validation error: data retention mode x See https://docs.aws.amazon.com/")


def test_the_usage_page_of_a_shared_subscription_is_named():
    error = http(429, openai("limit", code="subscription_sharing_usage_limit_exceeded"))
    assert error.text.endswith("\nCheck your ChatGPT usage: https://chatgpt.com/settings/usage")


@pytest.mark.parametrize(
    ("payload", "kind", "status", "text"),
    [
        (openai("Overloaded", type="overloaded_error") | {"type": "error"}, "overloaded", 529, "Overloaded"),
        ({"type": "error", "code": "server_error", "message": "Boom"}, "server", 500, "server_error: Boom"),
        ({"type": "error", "error": {"code": "server_error", "message": "Boom"}}, "server", 500, "server_error: Boom"),
        (
            {"type": "response.failed", "response": {"error": {"code": "rate_limit_exceeded", "message": "Too fast"}}},
            "rate_limited",
            429,
            "rate_limit_exceeded: Too fast",
        ),
        (google("UNAVAILABLE", 503, "busy"), "overloaded", 503, "503: busy"),
        (
            [google("CANCELLED", 499, "The operation was cancelled.")],
            "server",
            499,
            "499: The operation was cancelled.",
        ),
        (
            {"error": {"code": 502, "message": "x", "metadata": {"raw": "y"}}, "choices": []},
            "server",
            502,
            "502: x\ny",
        ),
        ({"error": "model crashed"}, "server", None, "model crashed"),
        ({"object": "error", "message": "bad", "code": 400}, "bad_request", 400, "400: bad"),
        ({"x_groq": {"error": "over capacity: rate limit"}}, "rate_limited", None, "over capacity: rate limit"),
        (
            {"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}},
            "quota",
            None,
            "1008: insufficient balance",
        ),
        (
            openai("Tool choice is required", code="tool_use_failed", status_code=400),
            "bad_request",
            400,
            "tool_use_failed: Tool choice is required",
        ),
        (openai("m", code="insufficient_quota"), "quota", 429, "insufficient_quota: m"),
    ],
)
def test_F31_errors_inside_a_stream(payload: Any, kind: ErrorKind, status: int | None, text: str):
    error = in_stream(payload)
    assert (error.info.kind, error.info.status, error.text) == (kind, status, text)
    assert type(error).kind == kind
    assert error.info.phase == "stream"
    assert error.info.retryable is (kind in PASSING)


@pytest.mark.parametrize(
    "payload",
    [
        {"choices": [{"delta": {"content": "error"}}]},
        {"choices": [], "error": None},
        {"choices": [], "x_groq": {"usage": {}}},
        {"base_resp": {"status_code": 0, "status_msg": ""}},
        {"type": "response.completed", "response": {"error": None}},
        {"type": "message_start", "message": {}},
        {"candidates": []},
        {},
        [],
        None,
        "error",
        7,
    ],
)
def test_ordinary_events_are_no_errors(payload: Any):
    assert error_in(payload) is None


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({"message": "m"}, "m"),
        ({"detail": "m"}, "m"),
        ({"errors": [{"message": "a"}, {"message": "b"}]}, "a; b"),
        ({"error": {"error": {"message": "deep"}}}, "deep"),
        ("just text", "just text"),
        ({}, ""),
        (None, ""),
    ],
)
def test_an_error_event_of_any_shape_gives_its_words(payload: Any, message: str):
    words = provider_words(payload)
    assert words.message == message
    assert stream_failure(words, **WHO).text


def test_an_adapter_may_word_the_text_itself():
    error = in_stream(openai("Overloaded", type="overloaded_error"), text="overloaded_error: Overloaded (request r)")
    assert str(error) == "overloaded_error: Overloaded (request r)"
    assert error.info.provider_code == "overloaded_error"


def test_F32_a_wait_is_also_told_inside_a_stream():
    payload = google("RESOURCE_EXHAUSTED", 429, "m", {"@type": "x/google.rpc.RetryInfo", "retryDelay": "2s"})
    assert in_stream(payload).info.retry_after == 3.0


@pytest.mark.parametrize(
    ("body", "limit", "used"),
    [
        (openai("prompt is too long: 213462 tokens > 200000 maximum"), 200000, 213462),
        (openai("m", type="exceed_context_size_error", n_prompt_tokens=9000, n_ctx=8192), 8192, 9000),
        (openai("too long", code="context_length_exceeded"), None, None),
    ],
)
def test_F33_overflow_tells_limit_and_use(body: Any, limit: int | None, used: int | None):
    for error in (http(400, body), in_stream(body)):
        assert isinstance(error, errors.ContextOverflow)
        assert (error.info.limit, error.info.used) == (limit, used)


@pytest.mark.parametrize("status", [400, 413])
def test_F33_an_answer_without_a_body_is_an_overflow_at_cerebras(status: int):
    assert http(status, provider="cerebras").info.kind == "context_overflow"


def test_F35_the_providers_link_stands_in_the_message():
    error = http(429, openai("Quota. See https://acme.example/billing.", code="insufficient_quota"))
    assert "https://acme.example/billing" in error.info.message
    assert not error.info.retryable


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            http(401, openai("no")),
            "acme refused the credential for large (HTTP 401): no; check the API key, or log in again",
        ),
        (http(500), "acme failed to answer for large (HTTP 500): 500 status code (no body); try again"),
        (http(502, b"<html><title>Bad gateway</title><p>x"), "(HTTP 502): Bad gateway; "),
        (http(502, b"<p>Bad\n\n gateway</p>"), "(HTTP 502): Bad gateway; "),
        (in_stream({"error": "boom"}), "acme failed to answer for large: boom; "),
    ],
)
def test_the_message_says_what_happened_and_what_to_do(error: PiAIError, words: str):
    assert words in error.info.message
    assert "\n" not in error.info.message


# ── no answer at all ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("https://user:pw@elsewhere.example:8443/v1?key=secret", "elsewhere.example"),
        ("/v2/chat", "another path"),
        ("http://[broken", "an address that cannot be read"),
        (None, "another path"),
    ],
)
def test_X4_a_redirect_is_a_config_error_that_names_the_host(location: str | None, words: str):
    error = http(307, b"moved", {"location": location} if location else {})
    assert isinstance(error, errors.ConfigError)
    assert words in str(error)
    assert "base_url" in str(error)
    assert "secret" not in str(error)
    assert "pw" not in str(error)
    assert not error.info.retryable


def test_a_queued_request_is_told_as_such():
    error = http(202)
    assert isinstance(error, errors.ProtocolError)
    assert "202" in str(error)
    assert "NVCF-POLL-SECONDS" in str(error)


# ── text ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (400, b'{"error":{"message":"bad"}}', '400: {"error":{"message":"bad"}}'),
        (413, b"", "413 status code (no body)"),
        (503, b" \n", "503 status code (no body)"),
        (400, "\ufeff é ".encode(), "400: é"),
        (400, b"\xff", "400: \ufffd"),
        (400, b"x" * 4001, f"400: {'x' * 4000}... [truncated 1 chars]"),
    ],
)
def test_ET1_text(status: int, body: bytes, text: str):
    assert str(http(status, body)) == text


def test_ET1_what_the_provider_behind_a_gateway_said_is_added_on_a_line_of_its_own():
    body = openai("Provider returned error", code=400, metadata={"raw": '{"error": "upstream"}'})
    assert http(400, body).text == f'400: {json.dumps(body)}\n{{"error": "upstream"}}'
    plain = openai("Provider returned error", code=400, metadata={"raw": "upstream"})
    assert http(400, plain).text == f"400: {json.dumps(plain)}"


def test_X29_quotes_are_bounded():
    error = http(400, openai("é" * 5000))
    assert len(error.text) < MAX_BODY_QUOTE + 100
    assert len(error.info.message.encode()) < MAX_MESSAGE_QUOTE + 200


@pytest.mark.parametrize(
    ("leak", "secret"),
    [
        ("Bearer abcdef.ghijkl-mnop", "abcdef.ghijkl-mnop"),
        ("Authorization: Bearer abc", "abc"),
        ("sk-proj-0123456789abcdefghij", "0123456789abcdefghij"),
        ("https://host/v1?key=0123&x=1", "0123"),
        ("AIzaSyA0123456789012345678901234567890", "0123456789"),
        ("api_key: 0123456789", "0123456789"),
        ('"x-api-key": "0123456789"', "0123456789"),
        ("AKIAIOSFODNN7EXAMPLE", "IOSFODNN7"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "eyJzdWIiOiIxIn0"),
        ("hf_abcdefghijklmnopqrst", "abcdefghij"),
        ("my very own key", "very own"),
    ],
)
def test_X1_credentials_are_never_quoted(leak: str, secret: str):
    payload, known = openai(f"refused {leak} here", metadata={"raw": leak}), ["my very own key"]
    for error in (
        http(401, payload, secrets=known),
        http(401, f"refused {leak}", secrets=known),
        in_stream(payload, secrets=known),
        in_stream(payload, text=f"refused {leak}", secrets=known),
    ):
        assert secret not in error.text
        assert secret not in error.info.message
        assert secret not in repr(error.info)
        assert "[redacted]" in error.text


@pytest.mark.parametrize(
    "text",
    [
        "Incorrect API key provided: sk-inval****************-key.",
        "a monkey=5",
        "task-force",
        "the key is missing",
        "bearer of news",
    ],
)
def test_X1_what_is_no_credential_stays(text: str):
    assert redact(text) == text


def test_a_short_secret_does_not_riddle_the_text():
    assert redact("a test of tests", ["test", ""]) == "a test of tests"


def test_lone_surrogates_do_no_harm():
    error = http(400, b'{"error":{"message":"a\\ud83d b"}}')
    assert error.info.message.encode()


# ── request ids, retries, waits ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"x-request-id": "a", "cf-ray": "b"}, "a"),
        ({"request-id": "a"}, "a"),
        ({"x-amzn-requestid": "a"}, "a"),
        ({"apim-request-id": "a"}, "a"),
        ({"cf-ray": "b"}, "b"),
        ({"x-request-id": "x" * 201, "cf-ray": "b"}, "b"),
        ({}, None),
    ],
)
def test_request_ids_are_found_in_the_usual_headers(headers: dict[str, str], expected: str | None):
    assert request_id(headers) == expected
    assert http(500, headers=headers).info.request_id == expected


def test_a_request_id_may_stand_in_the_body():
    assert http(400, {**openai(), "request_id": "req_1"}, {"cf-ray": "b"}).info.request_id == "req_1"


@pytest.mark.parametrize(
    ("status", "body", "header", "retryable"),
    [
        *((status, b"", None, True) for status in (408, 409, 425, 429, 500, 502, 503, 504, 520, 529)),
        *((status, b"", None, False) for status in (400, 401, 403, 404, 413, 422)),
        (500, b"", "false", False),
        (429, b"", "false", False),
        (424, openai(code="ModelErrorException"), None, False),
        (424, openai(code="ModelErrorException"), "true", True),
        (400, b"", "true", False),
        (429, openai(code="insufficient_quota"), "true", False),
    ],
)
def test_R2_F47_F50_what_may_be_sent_again(status: int, body: Any, header: str | None, retryable: bool):
    headers = {"x-should-retry": header} if header else {}
    assert http(status, body, headers).info.retryable is retryable


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"retry-after-ms": "1500", "retry-after": "9"}, "", 1.5),
        ({"retry-after-ms": "soon", "retry-after": "9"}, "", 9.0),
        ({"retry-after": "2.5"}, "Please retry in 40s", 2.5),
        ({"retry-after": "0"}, "", 0.0),
        ({"retry-after": "-3"}, "", 0.0),
        ({"retry-after": "Tue, 07 Oct 2025 13:56:46 GMT"}, "", 30.0),
        ({"retry-after": "Tue, 07 Oct 2025 13:56:06 GMT"}, "", 0.0),
        ({"retry-after": "tomorrow"}, "", None),
        ({"retry-after": "1e999"}, "", None),
        ({"retry-after": "nan"}, "", None),
        ({"x-ratelimit-reset": str(int(NOW) + 44)}, "", 45.0),
        ({"x-ratelimit-reset": str((int(NOW) + 44) * 1000)}, "", 45.0),
        ({"x-ratelimit-reset": "12", "x-ratelimit-reset-after": "7.2"}, "", 9.0),
        ({"x-ratelimit-reset-after": "-1"}, "", None),
        ({}, '{"retryDelay": "34.074824224s"} Please retry in 5s', 36.0),
        ({}, '{"retryDelay":"850ms"}', 2.0),
        ({}, "Please retry in 12.5s.", 14.0),
        ({}, "Please retry in 850ms", 2.0),
        ({}, "Please try again in 6m0s.", 361.0),
        ({}, "Please retry after 26 seconds.", 27.0),
        ({}, "Your quota will reset after 18h31m10s", 66671.0),
        ({}, "reset after 10m15s", 616.0),
        ({}, "reset after 39s", 40.0),
        ({}, "Please retry in 0s, reset after 5s", 6.0),
        ({}, "Please retry later", None),
        ({}, "", None),
    ],
)
def test_R3_R7_how_long_the_server_asks_to_wait(headers: dict[str, str], body: str, seconds: float | None):
    assert retry_after(headers, body.encode(), now=NOW) == seconds


@pytest.mark.parametrize(
    ("status", "headers", "body", "seconds"),
    [
        (429, {"x-ratelimit-reset-after": "5"}, b"", 6.0),
        (503, {"retry-after": "5"}, b"", 5.0),
        (500, {"retry-after": "5"}, b"", 5.0),
        (500, {"x-ratelimit-reset-after": "5"}, b"retry in 9s", None),
        (400, {"retry-after": "5"}, b"", None),
    ],
)
def test_waits_are_told_where_waiting_is_of_use(
    status: int, headers: dict[str, str], body: bytes, seconds: float | None
):
    assert http(status, body, headers).info.retry_after == seconds


def test_the_clock_is_the_default_for_now():
    assert http(429, headers={"retry-after": "Tue, 07 Oct 2025 13:56:46 GMT"}, now=None).info.retry_after == 0.0


# ── anything ─────────────────────────────────────────────────────────────────────────────────────────────────

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["error", "message", "code", "type", "status", "details", "metadata"]), inner)
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=200)
@given(JSON | st.binary(max_size=40), st.integers(100, 599))
def test_any_answer_becomes_a_failure(body: Any, status: int):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    error = http(status, raw)
    assert error.text
    assert error.info.message
    assert type(error).kind == error.info.kind
    payload = None if isinstance(body, bytes) else body
    assert stream_failure(provider_words(payload), **WHO).text


@pytest.mark.parametrize("piece", ["-eyJ", "<", "<title", "retry in 1s1s", "model ", "key=", 'api_key""', '[{"error":'])
def test_a_hostile_body_of_a_mebibyte_is_looked_at_within_limits(piece: str):
    """Anything quadratic here would take hours, and run into the time limit of the tests."""
    body = piece * (2**20 // len(piece))
    assert len(http(400, body).text) < MAX_BODY_QUOTE + 100
    assert len(stream_failure(provider_words({"error": {"message": body}}), **WHO).text) < MAX_BODY_QUOTE + 100


def test_F73_a_deeply_nested_body_is_only_text():
    body = b'{"error":' * 100_000
    assert http(400, body).info.kind == "bad_request"
    nested: Any = "m"
    for _ in range(5000):
        nested = {"error": nested, "details": [nested]}
    assert stream_failure(provider_words(nested), **WHO).info.kind == "server"
