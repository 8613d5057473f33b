"""Errors that the provider tells, and what a caller learns of them, on every wire: parts C and E of the contract."""

from __future__ import annotations

import json
import pickle
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_ai import (
    AssistantMessage,
    Context,
    Registry,
    TextContent,
    Tool,
    ToolCall,
    ToolResultMessage,
    Usage,
    UserMessage,
    complete,
    from_json,
    to_json,
)
from pi_ai.errors import ErrorInfo, Truncated, failure
from pi_ai.history import loose_ends, transform_messages
from pi_ai.testing import Failure, Sandbox
from pi_ai.testing.wires.base import request_id
from pi_ai_tests.faults import (
    ASKED,
    CHAT,
    CLAUDE,
    STALL,
    WHOLE,
    WIRES,
    Script,
    Wire,
    called,
    event_streams,
    every_wire,
    model_at,
    serving,
    well,
)
from pi_ai_tests.rigs import CONTEXT, model

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def no_time_is_lost_between_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pi_ai.retries.RetryPolicy._wait", lambda policy, state: 0.0)


# ── what an exception says ───────────────────────────────────────────────────────────────────────────────────


def test_an_exception_has_the_advice_as_a_note_where_its_text_has_none() -> None:
    error = failure("auth", "No key. Set GROQ_API_KEY.", text="No key")
    for each in (error, pickle.loads(pickle.dumps(error))):
        assert (str(each), each.__notes__) == ("No key", ["No key. Set GROQ_API_KEY."])
    assert not hasattr(failure("auth", "No key. Set GROQ_API_KEY."), "__notes__")


# ── C. errors that the provider tells ────────────────────────────────────────────────────────────────────────


@every_wire
@pytest.mark.parametrize(
    ("status", "content_type", "body", "kind"),
    [
        (400, "application/json", b'{"error": {"message": "wrong field"}}', "bad_request"),
        (401, "text/plain", b"who are you", "auth"),
        (404, "text/html", b"<html><title>Not here</title></html>", "not_found"),
        (429, "application/json", b'{"error": {"message": "slow down"}}', "rate_limited"),
        (500, "application/json", b"", "server"),
        (529, "application/json", b'{"error": {"type": "overloaded_error", "message": "busy"}}', "overloaded"),
    ],
)
async def test_F30_an_http_error_has_its_kind_its_words_and_its_id(
    wire: Wire, status: int, content_type: str, body: bytes, kind: str
) -> None:
    headers = {"content-type": content_type, "x-request-id": "r7"}
    got = await called(wire, Script((body,), status, headers))
    assert (got.info.kind, got.info.status, got.info.request_id, got.info.phase) == (kind, status, "r7", "headers")
    words = body.decode() or "status code (no body)"
    assert words in (got.message.error_message or "")
    assert (got.message.error_message or "").startswith(str(status))


@every_wire
async def test_F30_everything_that_is_known_of_a_failure_is_told(wire: Wire) -> None:
    busy = wire.refusal(Failure(529, "Too busy", headers={"retry-after-ms": "1"}))
    got = await called(wire, busy, max_retries=1)
    info = got.info
    assert (info.provider, info.api, info.model) == ("test", wire.api, "test-model")
    assert (info.kind, info.status, info.phase, info.attempts) == ("overloaded", 529, "headers", 2)
    assert (info.retryable, info.retry_after, info.request_id) == (True, 0.001, request_id(ASKED))
    assert info.message.startswith("test has no capacity now for test-model (HTTP 529): Too busy; ")
    assert len(got.requests) == 2
    assert got.message.attempts is not None
    assert [attempt.error.kind for attempt in got.message.attempts] == ["overloaded"]
    assert from_json(ErrorInfo, to_json(info)) == info


@every_wire
async def test_F31_what_was_kept_is_told_with_a_failure_in_the_stream(wire: Wire) -> None:
    said = wire.letters("ab")
    headers = {**wire.headers, "x-request-id": "r7"}
    data = said.open + wire.error_event(Failure(529, "Too busy"))
    got = await called(wire, Script((data, STALL), headers=headers), max_retries=2)
    assert got.types == "start text_start text_delta text_delta error"
    info = got.info
    assert (info.provider, info.api, info.model) == ("test", wire.api, "test-model")
    assert (info.kind, info.phase, info.attempts, info.retryable) == ("overloaded", "stream", 1, True)
    assert info.status in (500, 503, 529)  # which of them, the provider's words tell
    assert info.request_id
    assert (info.bytes_seen, info.events_seen) == (len(data), said.open_events + 1)
    assert (got.message.text, len(got.requests)) == ("ab", 1)
    assert "Too busy" in (got.message.error_message or "")


UNNAMED = {
    # Here the provider's words are the same for several statuses, and tell less than the status of an HTTP error.
    "openai-completions": {403},
    "openai-responses": {403},
    "azure-openai-responses": {403},
    "anthropic-messages": {503},
    "mistral-conversations": {401},
}
TOLD = [
    pytest.param(wire, status, id=f"{wire.api}-{status}")
    for wire in WIRES.values()
    for status in (400, 401, 403, 404, 429, 500, 503, 529)
    if status not in UNNAMED.get(wire.api, ())
]


@pytest.mark.parametrize(("wire", "status"), TOLD)
async def test_F31_F32_an_error_is_of_one_class_over_http_as_the_first_event_and_after_content(
    wire: Wire, status: int
) -> None:
    fault = Failure(status, "It cannot be")
    event = wire.error_event(fault)
    over_http = await called(wire, wire.refusal(fault))
    first = await called(wire, wire.say().begin + event)
    later = await called(wire, wire.letters("a").open + event)
    assert (over_http.types, first.types) == ("error", "error")
    classes = {type(got.info.exception()) for got in (over_http, first, later)}
    assert len(classes) == 1, [got.info for got in (over_http, first, later)]
    assert {got.info.retryable for got in (over_http, first, later)} == {over_http.info.retryable}


@event_streams
async def test_F31_a_line_of_error_ends_the_answer(wire: Wire) -> None:
    line = b'error: {"detail": "failed to decode", "error": {"message": "failed to decode, try again"}}\n\n'
    got = await called(wire, wire.letters("a").open, line, STALL)
    assert (got.info.kind, got.message.text) == ("server", "a")
    assert "failed to decode, try again" in (got.message.error_message or "")


@every_wire
async def test_F32_an_error_as_the_first_event_is_before_the_commit_point(wire: Wire) -> None:
    first = Script((wire.say().begin, wire.error_event(Failure(529))))
    got = await called(wire, first, again=well(wire), max_retries=1)
    assert (got.types, len(got.requests)) == (WHOLE, 2)
    assert [attempt.error.kind for attempt in got.message.attempts or []] == ["overloaded"]
    final = Script((wire.error_event(Failure(400, "prompt is too long: 9 tokens > 5 maximum")),))
    assert len((await called(wire, final, max_retries=2)).requests) == 1


@every_wire
@pytest.mark.parametrize("where", ["http", "stream"])
async def test_F33_a_prompt_that_is_too_long_is_told_with_its_sizes(wire: Wire, where: str) -> None:
    fault = Failure(400, "prompt is too long: 201000 tokens > 200000 maximum")
    script = wire.refusal(fault) if where == "http" else Script((wire.error_event(fault),))
    got = await called(wire, script, max_retries=2)
    assert (got.info.kind, got.info.limit, got.info.used) == ("context_overflow", 200_000, 201_000)
    assert len(got.requests) == 1


async def test_F34_a_filtered_answer_keeps_what_came_and_is_not_asked_for_again() -> None:
    filtered = CHAT.say("a", raw_stop_reason="content_filter").whole
    got = await called(CHAT, filtered, max_retries=2)
    assert got.types == "start text_start text_delta text_end error"
    assert (got.info.kind, got.info.retryable, got.message.text) == ("content_filter", False, "a")
    alone = await called(CHAT, CHAT.say(raw_stop_reason="content_filter").whole, max_retries=2)
    assert (alone.info.kind, alone.types, len(alone.requests)) == ("content_filter", "error", 1)


async def test_F34_a_refusal_in_words_is_an_answer_that_says_so() -> None:
    refused = CHAT.say("I cannot.", piece_size=20).whole.replace(b'"content":"I', b'"refusal":"I')
    got = await called(CHAT, refused)
    assert (got.message.stop_reason, got.message.text) == ("stop", "I cannot.")
    assert got.note("refusal") is not None


@every_wire
async def test_F35_a_used_up_quota_is_not_asked_for_again_and_keeps_the_link(wire: Wire) -> None:
    words = "You exceeded your current quota, see https://example.com/billing"
    body = json.dumps({"error": {"message": words, "type": "insufficient_quota"}}).encode()
    got = await called(wire, Script((body,), 429, {"retry-after": "1"}), max_retries=2)
    assert (got.info.kind, got.info.retryable, len(got.requests)) == ("quota", False, 1)
    assert "https://example.com/billing" in got.info.message


@every_wire
@pytest.mark.parametrize(("status", "kind"), [(404, "not_found"), (403, "permission")])
async def test_F36_an_unknown_model_and_a_missing_right_have_their_kinds(wire: Wire, status: int, kind: str) -> None:
    got = await called(wire, Script((b'{"error": {"message": "no"}}',), status, {}), max_retries=2)
    assert (got.info.kind, len(got.requests)) == (kind, 1)
    assert "test-model" in got.info.message
    assert "closest" not in got.info.message  # nothing is known of this provider's models


@pytest.mark.parametrize("where", ["http", "stream"])
async def test_F36_the_three_closest_ids_that_are_known_stand_beside_an_unknown_one(where: str) -> None:
    fault = Failure(404, "No such model", code="model_not_found")
    script = CHAT.refusal(fault) if where == "http" else Script((CHAT.error_event(fault),))
    async with serving(CHAT, script) as server, Registry() as pi:
        pi.register_provider(
            "mine",
            base_url="https://mine.example",
            api="openai-completions",
            api_key="k",
            models=[{"id": name} for name in ("large-1", "large-2", "large-3", "small-9")],
        )
        wrong = model_at(CHAT, server, provider="mine", id="larg-2")
        message = await pi.complete(wrong, CONTEXT)
        assert message.error_info is not None
        assert message.error_info.message.endswith("; the closest ids that are known: large-2, large-3, large-1")
        right = model_at(CHAT, server, provider="mine", id="large-2")
        message = await pi.complete(right, CONTEXT)
        assert message.error_info is not None
        assert "closest" not in message.error_info.message


# ── kinds and what passes ────────────────────────────────────────────────────────────────────────────────────


def test_F47_F50_whether_a_failure_passes_follows_from_its_kind() -> None:
    assert failure("truncated", "m").info.retryable
    assert failure("overloaded", "m").info.retryable
    assert not failure("auth", "m").info.retryable
    assert not failure("timeout_total", "m").info.retryable
    assert not failure("server", "m", retryable=False).info.retryable
    assert isinstance(failure("truncated", "m"), Truncated)
    assert from_json(ErrorInfo, {"kind": "server", "message": "m", "retryable": False}).retryable is False


# ── E. sending again ─────────────────────────────────────────────────────────────────────────────────────────


@every_wire
async def test_F52_a_request_is_sent_again_as_it_was(wire: Wire) -> None:
    got = await called(wire, wire.refusal(Failure(500)), again=well(wire), max_retries=1)
    first, second = got.requests
    assert (got.types, first.body) == (WHOLE, second.body)
    assert first.headers == second.headers
    assert [(attempt.error.kind, attempt.delay_s) for attempt in got.message.attempts or []] == [("server", 0.0)]


@every_wire
@pytest.mark.parametrize("key", [None, "order-66"])
async def test_F52_a_request_that_may_have_run_is_sent_again_only_with_an_idempotency_key(
    wire: Wire, key: str | None
) -> None:
    async def leaves(request: Any, answer: Any) -> None:
        await answer.close()

    async with serving(wire, well(wire)) as server, Registry() as pi:
        answers = server.handler
        server.handler = lambda request, answer: (leaves if len(server.requests) == 1 else answers)(request, answer)
        message = await pi.complete(
            model_at(wire, server), CONTEXT, api_key="k", headers={"Idempotency-Key": key} if key else None
        )
        assert [request.headers.get("idempotency-key") for request in server.requests] == (
            [key, key] if key else [None]
        )
    assert message.text == ("ab" if key else "")
    assert key or message.error_info.kind == "disconnected"


async def test_F53_what_failed_attempts_used_is_billed_and_shown_apart() -> None:
    used = Usage(input=100, output=1)
    begin = CLAUDE.say(usage=used).begin
    script = Script((begin, CLAUDE.error_event(Failure(529))))
    done = Script((CLAUDE.say("a", usage=Usage(input=100, output=2, total_tokens=102)).whole,))
    got = await called(CLAUDE, script, again=done, max_retries=1)
    usage = got.message.usage
    assert (usage.input, usage.output) == (100, 2)
    wasted = usage.wasted
    assert wasted is not None
    assert wasted.input == 100
    price = got.message.usage.cost
    assert price.total == pytest.approx(price.input + price.output + wasted.cost.total)
    assert wasted.cost.total >= 100 * 1.0 / 1e6
    assert from_json(Usage, to_json(usage)) == usage


async def test_F53_what_several_attempts_used_is_added_up_also_where_none_succeeds() -> None:
    counted = b'data: {"id":"c1","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9}}\n\n'
    got = await called(CHAT, counted, CHAT.error_event(Failure(529)), max_retries=2)
    usage = got.message.usage
    assert (got.types, len(got.requests), usage.input) == ("error", 3, 7)
    assert usage.wasted is not None
    assert (usage.wasted.input, usage.wasted.output, usage.wasted.total_tokens) == (14, 4, 18)
    assert usage.cost.total == pytest.approx(3 * (7 * 1.0 + 2 * 10.0) / 1e6)


async def test_F53_nothing_is_wasted_where_nothing_was_told() -> None:
    got = await called(CHAT, CHAT.refusal(Failure(500)), again=well(CHAT), max_retries=1)
    assert got.message.usage.wasted is None
    assert "wasted" not in to_json(got.message.usage)


# ── H. history ───────────────────────────────────────────────────────────────────────────────────────────────


@every_wire
async def test_F83_what_was_repaired_of_a_conversation_is_told(wire: Wire) -> None:
    calls = [ToolCall("call_1", "look", {}), ToolCall("call_2", "look", {})]
    about = {"api": wire.api, "provider": "test", "model": "test-model"}
    context = Context(
        [
            UserMessage("Look.", timestamp=1),
            AssistantMessage(calls, stop_reason="toolUse", timestamp=2, **about),
            ToolResultMessage("call_1", "look", [TextContent("sun")], timestamp=3),
            ToolResultMessage("call_9", "look", [TextContent("moon")], timestamp=4),
            UserMessage("And?", timestamp=5),
        ]
    )
    async with serving(wire, well(wire)) as server, Registry() as pi:
        message = await pi.complete(model_at(wire, server), context, api_key="k")
        sent = json.dumps(server.requests[0].json)
    assert message.text == "ab"
    notes = {note.type: note.details for note in message.diagnostics or []}
    assert notes == {"history": {"results_made_up": 1, "results_left_out": 1}}
    assert "No result provided" in sent
    assert "sun" in sent
    assert "moon" not in sent


IDS = st.sampled_from(["a", "b", "c"])
MESSAGES = st.lists(
    st.one_of(
        st.just(UserMessage("x", timestamp=1)),
        st.builds(lambda name: ToolResultMessage(name, "look", [TextContent("sun")], timestamp=2), IDS),
        st.builds(
            lambda names, reason: AssistantMessage(
                [ToolCall(name, "look", {}) for name in names], api="a", stop_reason=reason, timestamp=3
            ),
            st.lists(IDS, max_size=3, unique=True),
            st.sampled_from(["toolUse", "stop", "error", "aborted"]),
        ),
    ),
    max_size=8,
)


@settings(deadline=None, max_examples=200)
@given(MESSAGES)
def test_F83_what_is_told_is_what_is_done(messages: list[Any]) -> None:
    sent = transform_messages(messages, model())
    results = [message for message in sent if isinstance(message, ToolResultMessage)]
    made_up = sum(message.is_error for message in results)
    left_out = sum(isinstance(message, ToolResultMessage) for message in messages) - (len(results) - made_up)
    assert loose_ends(messages) == (made_up, left_out)


# ── keys and plain http ──────────────────────────────────────────────────────────────────────────────────────

PLAIN = ["http://api.example/v1", "HTTP://10.0.0.7:8000/v1", "http://127.0.0.1.example/v1"]


@every_wire
@pytest.mark.parametrize("url", PLAIN)
async def test_X6_a_key_does_not_go_to_another_machine_over_plain_http(wire: Wire, url: str) -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(500)

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        options: Any = {"api_key": "k" * 20, "http_client": client, "max_retries": 2}
        message = await complete(model(url, api=wire.api), CONTEXT, **options)
        assert (message.error_info.kind, asked) == ("config", [])
        assert "allow_insecure=True" in message.error_info.message
        assert "k" * 20 not in repr(message.error_info)
        await complete(model(url, api=wire.api), CONTEXT, **{**options, "max_retries": 0, "allow_insecure": True})
        assert len(asked) == 1
        registry = Registry(allow_insecure=True, http_client=client)
        await registry.complete(model(url, api=wire.api), CONTEXT, api_key="k" * 20, max_retries=0)
        assert len(asked) == 2


async def test_X6_without_a_credential_plain_http_is_fine_and_loopback_always_is() -> None:
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda request: httpx.Response(500))) as client:
        for url, key, kind in [
            ("http://ollama.example/v1", None, "auth"),
            ("http://localhost:1/v1", "k", "server"),
            ("http://[::1]:1/v1", "k", "server"),
            ("https://api.example/v1", "k", "server"),
        ]:
            message = await complete(model(url), CONTEXT, api_key=key, http_client=client, max_retries=0)
            assert message.error_info.kind == kind
        given: Any = {"headers": {"Authorization": None, "X-Team": "blue"}, "api_key": "k"}
        message = await complete(model("http://a.example/v1"), CONTEXT, http_client=client, max_retries=0, **given)
        assert message.error_info.kind == "server"


async def test_X6_models_are_not_listed_with_a_key_over_plain_http() -> None:
    from pi_ai import discover_openai_models

    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json={"data": [{"id": "one"}]})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        for allow in (False, True):
            pi = Registry(http_client=client, allow_insecure=allow)
            pi.register_provider(
                "far",
                base_url="http://far.example/v1",
                api="openai-completions",
                api_key="k" * 20,
                models=[],
                refresh_models=discover_openai_models,
            )
            result = await pi.refresh(["far"])
            assert bool(result.errors) is not allow
            assert len(asked) == allow


LOOP = {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}
TREE = {"node": {"type": "object", "properties": {"left": {"$ref": "#/$defs/node"}}}, "same": {"$ref": "#/$defs/node"}}


@pytest.mark.parametrize("api", sorted(WIRES))
async def test_F84_a_schema_that_is_defined_by_itself_is_told_before_anything_is_sent(api: str) -> None:
    async with Sandbox() as box, Registry() as pi:
        for defs, kind in ((LOOP, "config"), (TREE, None)):
            schema = {"type": "object", "properties": {"v": {"$ref": f"#/$defs/{next(iter(defs))}"}}, "$defs": defs}
            context = Context([UserMessage("Hi")], tools=[Tool("look", "Looks", schema)])
            options = {"api_key": "k", "env": {"AWS_REGION": "eu-west-1"}}
            message = await pi.complete(box.model(api), context, **options)
            assert (message.error_info and message.error_info.kind) == kind
            told = "'look': the schema #/$defs/a is defined by itself" in str(message.error_message)
            assert told == (kind is not None)
    assert len(box.requests) == 1


async def test_F84_what_anthropic_does_not_take_of_a_schema_is_told() -> None:
    async with Sandbox() as box, Registry() as pi:
        schema = {"type": "object", "anyOf": [{"required": ["a"]}], "additionalProperties": False}
        context = Context([UserMessage("Hi")], tools=[Tool("look", "Looks", schema), Tool("see", "Sees", {})])
        message = await pi.complete(box.model("anthropic-messages"), context)
    assert "anyOf" not in box.requests[0].body["tools"][0]["input_schema"]
    assert [note.details for note in message.diagnostics or []] == [{"left_out": {"look": ["anyOf"]}}]
