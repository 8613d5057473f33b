"""The answer of Converse: as pi-ai reads it (goldens), and by the rows of the spec's table (section 7)."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_ai import AssistantMessage, Context, Model, ModelCost, Registry, UserMessage
from pi_ai.adapters.bedrock_converse_stream import BedrockConverseStream, BedrockOptions
from pi_ai.auth.aws import chain
from pi_ai.builder import MessageBuilder
from pi_ai.errors import ProtocolError
from pi_ai.overflow import is_context_overflow
from pi_ai.testing.server import Answer, Received, Server
from pi_ai.types import ThinkingContent, ToolCall
from pi_ai_tests.adapters.differences import DIFFERENCES
from pi_ai_tests.adapters.golden import answer_differences, cases, check, of_parts, streamed
from pi_ai_tests.adapters.reading import Read, check_grammar, pieces, read
from pi_ai_tests.aws_account import NO_BOTOCORE, no_account, profile
from pi_ai_tests.wire.frames import error, event, exception, frame

API = "bedrock-converse-stream"
ADAPTER = BedrockConverseStream()
CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
FRAMES = {"content-type": "application/vnd.amazon.eventstream", "x-amzn-requestid": "req-1"}


def model(**fields: Any) -> Model:
    own = {"id": CLAUDE, "api": API, "provider": "amazon-bedrock", "cost": ModelCost(input=1.0, output=10.0)}
    return Model(**{**own, **fields})


def delta(index: int | None, **holds: Any) -> bytes:
    place = {} if index is None else {"contentBlockIndex": index}
    return event("contentBlockDelta", {**place, "delta": holds, "p": "abcdefgh"})


def say(text: str, index: int = 0) -> bytes:
    return delta(index, text=text)


def think(index: int = 0, **holds: Any) -> bytes:
    return delta(index, reasoningContent=holds)


def arguments(text: Any, index: int = 0) -> bytes:
    return delta(index, toolUse={"input": text})


def start(index: int = 0, **tool: Any) -> bytes:
    use = {"toolUseId": "t1", "name": "get_weather", **tool}
    return event("contentBlockStart", {"contentBlockIndex": index, "start": {"toolUse": use}})


def end(index: int = 0) -> bytes:
    return event("contentBlockStop", {"contentBlockIndex": index})


def stop(reason: str = "end_turn") -> bytes:
    return event("messageStop", {"stopReason": reason})


def usage(**counts: Any) -> bytes:
    return event("metadata", {"usage": counts, "metrics": {"latencyMs": 1}})


BEGIN = event("messageStart", {"role": "assistant"})
USAGE = usage(inputTokens=12, outputTokens=7, totalTokens=19)
HELLO = BEGIN + say("Hel") + say("lo") + end() + stop() + USAGE


def stream(*frames: bytes, **fields: Any) -> Read:
    return read(ADAPTER, model(**fields), [b"".join(frames)], Context())


# ── as pi-ai reads it ────────────────────────────────────────────────────────────────────────────────────────

ANSWERS = [case for case in cases(API) if streamed(case.values[0]) and len(case.values[0]["responses"]) == 1]


@pytest.mark.parametrize("golden", ANSWERS)
def test_the_answer_is_read_as_pi_ai_reads_it(golden: dict[str, Any]) -> None:
    """Those of calls that need several requests are in ``test_goldens_end_to_end.py``."""
    known = of_parts(DIFFERENCES[API].get(golden["name"]), "events", "message")
    check(answer_differences(ADAPTER, golden), known, golden["name"])


# ── content ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_14_text() -> None:
    found = stream(HELLO)
    assert found.types == ["start", "text_start", "text_delta", "text_delta", "text_end", "done"]
    assert (found.message.text, found.message.stop_reason, found.message.raw_stop_reason) == (
        "Hello",
        "stop",
        "end_turn",
    )
    assert (found.message.usage.input, found.message.usage.output, found.message.usage.total_tokens) == (12, 7, 19)
    assert found.message.usage.cost.total == pytest.approx((12 * 1.0 + 7 * 10.0) / 1e6)
    assert found.message.diagnostics is None


@pytest.mark.parametrize("step", [1, 7, 100])
def test_10_frames_are_read_the_same_however_they_come_F2(step: int) -> None:
    whole = stream(HELLO)
    cut = read(ADAPTER, model(), pieces(HELLO, range(step, len(HELLO), step)))
    assert cut.events[:-1] == whole.events[:-1]
    assert cut.message.text == "Hello"


def test_15_a_block_that_is_not_stopped_is_ended_before_done_BR28() -> None:
    found = stream(BEGIN, say("Hi"), stop(), USAGE)
    assert found.types == ["start", "text_start", "text_delta", "text_end", "done"]


def test_16_start_comes_first_BR26() -> None:
    assert stream(say("Hi"), BEGIN, stop()).types[:2] == ["start", "text_start"]


def test_an_answer_is_no_ones_but_the_assistants() -> None:
    found = stream(event("messageStart", {"role": "user"}), say("Hi"))
    assert str(found.error) == "Unexpected assistant message start but got user message start instead"
    assert found.types == []
    assert stream(event("messageStart", {}), say("Hi"), stop()).error is None


def test_17_a_tool_call_in_pieces() -> None:
    found = stream(
        BEGIN, start(), arguments('{"ci'), arguments('ty": "Pa'), arguments('ris"}'), end(), stop("tool_use")
    )
    [call] = found.message.tool_calls
    assert call == ToolCall("t1", "get_weather", {"city": "Paris"})
    assert found.deltas == ['{"ci', 'ty": "Pa', 'ris"}']
    assert found.message.stop_reason == "toolUse"


def test_17_arguments_that_were_cut_off_are_none_J2() -> None:
    found = stream(BEGIN, start(), arguments('{"command":"rm -rf ./build'), stop("max_tokens"), USAGE)
    [call] = found.message.tool_calls
    assert call.arguments == {}
    assert 'Received arguments:\n{"command":"rm -rf ./build' in (call.arguments_error or "")
    assert (found.message.stop_reason, found.types[-2:]) == ("length", ["toolcall_end", "done"])


def test_a_call_without_arguments_is_one_with_none_F79() -> None:
    found = stream(BEGIN, start(), arguments(""), end(), stop("tool_use"))
    assert found.message.tool_calls == [ToolCall("t1", "get_weather", {})]
    assert found.types == ["start", "toolcall_start", "toolcall_end", "done"]


def test_ids_of_calls_are_unique_and_never_empty_F81() -> None:
    found = stream(start(0), end(0), start(1), end(1), start(2, toolUseId=""), end(2), stop("tool_use"))
    first, second, third = (call.id for call in found.message.tool_calls)
    assert (first, second) == ("t1", "t1_2")
    assert third.startswith("call_")


def test_blocks_may_take_turns() -> None:
    frames = (
        start(1),
        arguments("{", 1),
        say("Both", 0),
        start(2, toolUseId="t2"),
        arguments("{}", 2),
        arguments("}", 1),
    )
    found = stream(*frames, end(2), end(1), end(0), stop("tool_use"))
    assert [call.arguments for call in found.message.tool_calls] == [{}, {}]
    assert [call.arguments_error for call in found.message.tool_calls] == [None, None]
    assert found.message.text == "Both"


def test_18_thought_and_its_signature() -> None:
    found = stream(
        think(text="Let me "),
        think(text="see."),
        think(signature="c2ln"),
        think(signature="MQ=="),
        end(),
        say("x", 1),
        stop(),
    )
    assert found.message.content[0] == ThinkingContent("Let me see.", "c2lnMQ==")
    assert found.types[:5] == ["start", "thinking_start", "thinking_delta", "thinking_delta", "thinking_end"]


def test_a_signature_alone_is_a_thought_without_text() -> None:
    found = stream(think(signature="c2ln"), end(), stop())
    assert found.message.content == [ThinkingContent("", "c2ln")]
    assert found.types == ["start", "thinking_start", "thinking_end", "done"]


@pytest.mark.parametrize("cut", [range(0), range(1, 9), range(3, 9, 3), range(2, 9, 4)])
def test_18_a_hidden_thought_is_kept_whole(cut: range) -> None:
    """Its bytes may be cut anywhere: base64 of the pieces, one behind the other, is not base64 of the whole."""
    payload = b"opaque\xff\x00!"
    parts = [base64.b64encode(part).decode() for part in pieces(payload, cut)]
    found = stream(*(think(redactedContent=part) for part in parts), think(signature="ignored"), end(), stop())
    whole = base64.b64encode(payload).decode()
    assert found.message.content == [ThinkingContent("[Reasoning redacted]", whole, redacted=True)]
    assert found.deltas == ["[Reasoning redacted]"]


@pytest.mark.parametrize("rest", [b"", end()[:20], exception("internalServerException", {"message": "x"})])
def test_18_a_hidden_thought_is_whole_however_the_stream_ends(rest: bytes) -> None:
    found = stream(think(redactedContent="AA=="), think(redactedContent="AA=="), rest)
    assert found.error is not None
    assert found.message.content == [ThinkingContent("[Reasoning redacted]", "AAA=", redacted=True)]


def test_a_thought_may_be_hidden_in_its_midst() -> None:
    found = stream(think(text="Some "), think(signature="old"), think(redactedContent="b3A="), end(), stop())
    assert found.message.content == [ThinkingContent("Some [Reasoning redacted]", "b3A=", redacted=True)]


def test_a_hidden_thought_that_is_no_base64_is_refused() -> None:
    found = stream(say("x"), think(1, redactedContent="no!"))
    assert isinstance(found.error, ProtocolError)
    assert found.message.text == "x"


@settings(deadline=None, max_examples=60)
@given(st.binary(min_size=1, max_size=40), st.lists(st.integers(0, 40), max_size=6))
def test_pieces_of_a_hidden_thought_join(payload: bytes, cuts: list[int]) -> None:
    parts = [
        base64.b64encode(part).decode() for part in pieces(payload, sorted(min(cut, len(payload)) for cut in cuts))
    ]
    found = stream(*(think(redactedContent=part) for part in parts), end(), stop())
    assert found.message.content[0].thinking_signature == base64.b64encode(payload).decode()


# ── what is not understood ───────────────────────────────────────────────────────────────────────────────────


def test_calls_that_the_service_makes_itself_are_not_the_callers_X21() -> None:
    result = {"toolResult": {"toolUseId": "t1", "type": "nova_grounding_result", "status": "success"}}
    found = stream(
        start(type="server_tool_use"),
        arguments('{"query":"x"}'),
        end(),
        event("contentBlockStart", {"contentBlockIndex": 1, "start": result}),
        delta(1, toolResult=[{"json": {}}]),
        end(1),
        say("Done", 2),
        delta(2, citation={"title": "t"}),
        end(2),
        stop(),
    )
    assert found.message.tool_calls == []
    assert found.message.text == "Done"
    [note] = found.message.diagnostics or []
    assert (note.type, note.details) == ("ignored", {"blocks": 2, "deltas": 3})


def test_calls_may_be_told_to_be_the_clients() -> None:
    assert stream(start(type="tool_use"), end(), stop("tool_use")).message.tool_calls == [ToolCall("t1", "get_weather")]


def test_what_nobody_knows_is_ignored_and_counted_F8_BR15() -> None:
    found = stream(
        event("somethingNew", {"x": 1}),
        frame({":message-type": "event", ":event-type": "initial-response"}),
        frame({":message-type": "news"}, b"not json"),
        frame({}),
        event("contentBlockStart", {"contentBlockIndex": 0, "start": {}}),
        say("Hi"),
        delta(0, somethingNew="x"),
        arguments("{", 5),
        end(7),
        stop(),
    )
    assert found.message.text == "Hi"
    [note] = found.message.diagnostics or []
    assert note.details == {"events": 2, "frames": 2, "deltas": 2}


@pytest.mark.parametrize(
    "odd",
    [
        event("contentBlockDelta", "text"),
        event("contentBlockDelta", [1]),
        event("contentBlockDelta", {"delta": "x"}),
        event("contentBlockDelta", {"contentBlockIndex": [], "delta": {"text": 1}}),
        event("contentBlockStart", {"start": {"toolUse": []}}),
        event("contentBlockStop", None),
        event("messageStop", {"stopReason": None}),
        event("metadata", {"usage": [1], "metrics": None}),
        event("metadata", {"usage": {"inputTokens": "x", "outputTokens": -1, "cacheDetails": [1, {"ttl": []}]}}),
        frame([(":message-type", 5, 1), (":event-type", 0, None)]),
        frame([(":message-type", 7, b"event"), (":event-type", 5, 1)], b"{}"),
    ],
)
def test_values_of_any_shape_are_taken(odd: bytes) -> None:
    found = stream(say("a", 0), odd, say("b", 0), end(), stop())
    assert (found.error, found.message.text) == (None, "ab")


def test_what_is_no_json_is_quoted_in_short_F11() -> None:
    found = stream(BEGIN, say("Hi"), event("contentBlockDelta", b"{oops " + b"x" * 500), stop())
    assert isinstance(found.error, ProtocolError)
    assert "{oops xxx" in found.error.info.message
    assert len(found.error.info.message) < 400
    assert found.message.text == "Hi"


def test_lone_surrogates_and_broken_characters_are_no_reason_to_fail_F12() -> None:
    raw = b'{"contentBlockIndex":0,"delta":{"text":"a\\ud83d \xff b"}}'
    found = stream(BEGIN, event("contentBlockDelta", raw), stop())
    assert found.message.text == "a\ud83d \ufffd b"


def test_an_event_that_is_nested_too_deep_is_refused_F73() -> None:
    raw = b'{"contentBlockIndex":0,"delta":' + b"[" * 10_000 + b"]" * 10_000 + b"}"
    assert isinstance(stream(BEGIN, event("contentBlockDelta", raw)).error, ProtocolError)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text("ab", max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=2),
    max_leaves=4,
)
PAYLOADS = st.fixed_dictionaries(
    {},
    optional={
        "contentBlockIndex": st.integers(0, 2) | JSON,
        "role": st.just("assistant") | JSON,
        "start": st.just({"toolUse": {"toolUseId": "t", "name": "n"}}) | JSON,
        "stopReason": st.sampled_from(["end_turn", "tool_use", "odd"]) | JSON,
        "usage": st.dictionaries(st.sampled_from(["inputTokens", "outputTokens", "cacheDetails"]), JSON) | JSON,
        "delta": st.one_of(
            st.fixed_dictionaries({"text": st.text(max_size=3)}),
            st.fixed_dictionaries({"toolUse": st.fixed_dictionaries({"input": st.sampled_from(["{", "}", ""])})}),
            st.fixed_dictionaries({"reasoningContent": st.dictionaries(st.just("text"), st.text(max_size=2))}),
            JSON,
        ),
    },
)
NAMES = ["contentBlockDelta", "contentBlockDelta", "contentBlockStart", "contentBlockStop", "messageStop", "metadata"]


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.sampled_from([*NAMES, "messageStart", "odd"]), PAYLOADS), max_size=12))
def test_whatever_a_server_sends_the_events_are_in_order_T10(sent: list[tuple[str, Any]]) -> None:
    frames = [
        event(name, json.dumps(payload).replace("NaN", "0").replace("Infinity", "1").encode()) for name, payload in sent
    ]
    found = stream(*frames)  # checks the grammar
    assert (found.error is None) == ("done" in found.types)


# ── how it ends ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("reason", "ours"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "toolUse"),
    ],
)
def test_20_good_endings(reason: str, ours: str) -> None:
    found = stream(BEGIN, say("x"), end(), stop(reason), USAGE)
    assert (found.message.stop_reason, found.message.raw_stop_reason) == (ours, reason)


@pytest.mark.parametrize(
    ("reason", "kind", "retryable"),
    [
        ("guardrail_intervened", "content_filter", False),
        ("content_filtered", "content_filter", False),
        ("malformed_model_output", "server", True),
        ("malformed_tool_use", "server", True),
        ("brand_new", "protocol", False),
    ],
)
def test_20_bad_endings_keep_what_came_F34(reason: str, kind: str, retryable: bool) -> None:
    found = stream(BEGIN, say("x"), start(1), arguments('{"a":1}', 1), stop(reason), USAGE)
    assert found.error is not None
    assert str(found.error) == f"Provider stopped with: {reason}"
    assert (found.error.kind, found.error.info.retryable, found.error.info.provider_code) == (kind, retryable, reason)
    assert (found.message.text, found.message.raw_stop_reason, found.message.usage.output) == ("x", reason, 7)
    assert found.message.tool_calls[0].arguments_error
    assert "toolcall_end" not in found.types


def test_no_stop_reason_is_no_ending_BR27_F18() -> None:
    for frames in ([], [BEGIN], [BEGIN, say("x"), end()], [BEGIN, say("x"), USAGE]):
        found = stream(*frames)
        assert str(found.error) == "Bedrock stream ended without a stop reason"
        assert found.error is not None
        assert (found.error.kind, found.error.info.phase, found.error.info.retryable) == ("truncated", "end", True)
        assert not found.proven


def test_the_end_of_the_bytes_may_be_declared_to_be_the_end() -> None:
    found = stream(BEGIN, say("x"), compat={"completionProof": "eof"})
    assert (found.error, found.message.stop_reason, found.message.completion) == (None, "stop", "assumed")
    found = stream(BEGIN, start(), arguments("{}"), compat={"completion_proof": "eof"})
    assert found.message.stop_reason == "toolUse"


def test_usage_may_be_missing_BR27() -> None:
    found = stream(BEGIN, say("x"), end(), stop())
    assert (found.error, found.message.usage.total_tokens) == (None, 0)
    assert found.proven


def test_an_answer_ends_with_its_usage_S19() -> None:
    found = stream(HELLO, say("more"), exception("internalServerException", {}), b"\xff" * 100)
    assert (found.error, found.message.text) == (None, "Hello")


def test_an_answer_without_content_is_marked_F29() -> None:
    found = stream(BEGIN, stop(), USAGE)
    assert found.types == ["start", "done"]
    assert [note.type for note in found.message.diagnostics or []] == ["empty"]


def test_11_a_flipped_bit_ends_the_answer_F16() -> None:
    at = len(BEGIN + say("Hel")) + 60
    damaged = HELLO[:at] + bytes([HELLO[at] ^ 1]) + HELLO[at + 1 :]
    found = stream(damaged)
    assert isinstance(found.error, ProtocolError)
    assert found.message.text == "Hel"


# ── usage ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (
            {
                "inputTokens": 100,
                "outputTokens": 50,
                "totalTokens": 450,
                "cacheWriteInputTokens": 300,
                "cacheDetails": [
                    {"ttl": "5m", "inputTokens": 100},
                    {"ttl": "1h", "inputTokens": 150},
                    {"ttl": "1h", "inputTokens": 50},
                ],
            },
            (100, 50, 0, 300, 200, 450),
        ),
        ({"inputTokens": 1, "outputTokens": 2, "cacheDetails": []}, (1, 2, 0, 0, 0, 3)),
        (
            {"inputTokens": 1, "outputTokens": 2, "cacheReadInputTokens": 3, "cacheWriteInputTokens": 4},
            (1, 2, 3, 4, None, 10),
        ),
    ],
)
def test_19_tokens(counts: dict[str, Any], expected: tuple[int | None, ...]) -> None:
    assert tokens(stream(BEGIN, say("x"), stop(), usage(**counts)).message) == expected


def tokens(message: AssistantMessage) -> tuple[int | None, ...]:
    u = message.usage
    return u.input, u.output, u.cache_read, u.cache_write, u.cache_write_1h, u.total_tokens


def test_other_models_count_cached_tokens_twice_BR29() -> None:
    gross = usage(inputTokens=100, outputTokens=10, totalTokens=110, cacheReadInputTokens=60, cacheWriteInputTokens=50)
    net = usage(inputTokens=100, outputTokens=10, totalTokens=220, cacheReadInputTokens=60, cacheWriteInputTokens=50)
    nova = {"id": "amazon.nova-lite-v1:0", "name": "Nova Lite"}
    assert tokens(stream(say("x"), stop(), gross, **nova).message) == (0, 10, 60, 50, None, 110)
    assert tokens(stream(say("x"), stop(), net, **nova).message) == (100, 10, 60, 50, None, 220)
    assert tokens(stream(say("x"), stop(), gross).message) == (100, 10, 60, 50, None, 110)


# ── errors in the stream ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("frames", "text", "kind", "retryable"),
    [
        (
            exception("throttlingException", {"message": "Too many tokens"}),
            "Throttling error: Too many tokens",
            "rate_limited",
            True,
        ),
        (exception("ModelStreamErrorException", {"message": "no"}), "Model stream error: no", "server", True),
        (exception("internalServerException", {"message": "no"}), "Internal server error: no", "server", True),
        (exception("serviceUnavailableException", {"message": "no"}), "Service unavailable: no", "overloaded", True),
        (exception("validationException", {"Message": "bad"}), "Validation error: bad", "bad_request", False),
        (
            exception("validationException", {"message": "Input is too long for requested model."}),
            "Validation error: Input is too long for requested model.",
            "context_overflow",
            False,
        ),
        (exception("accessDeniedException", b"plain words"), "AccessDeniedException: plain words", "permission", False),
        (exception("throttlingException", b""), "Throttling error", "rate_limited", True),
        (error("InternalFailure", "boom"), "InternalFailure: boom", "server", True),
        (error("InternalFailure", ""), "InternalFailure", "server", True),
        (event("throttlingException", {"message": "slow"}), "Throttling error: slow", "rate_limited", True),
    ],
)
def test_12_13_exceptions_are_told_as_over_http_BR30_BR34_F31(
    frames: bytes, text: str, kind: str, retryable: bool
) -> None:
    found = stream(BEGIN, say("x"), frames, say("y"), stop())
    assert found.error is not None
    assert (str(found.error), found.error.kind, found.error.info.retryable) == (text, kind, retryable)
    assert found.message.text == "x"
    message = AssistantMessage(error_message=text, stop_reason="error")
    assert is_context_overflow(message) is (kind == "context_overflow")


@pytest.mark.parametrize("name", ["unheardOfException", "UnheardOfException"])
def test_exceptions_that_nobody_knows_are_errors_too_BR34(name: str) -> None:
    assert str(stream(exception(name, {"message": "odd"})).error) == "UnheardOfException: odd"


# ── answers that are no streams ──────────────────────────────────────────────────────────────────────────────

WHOLE = {
    "output": {
        "message": {
            "role": "assistant",
            "content": [
                {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "c2ln"}}},
                {"reasoningContent": {"redactedContent": "b3BhcXVl"}},
                {"text": "Hello"},
                {"toolUse": {"toolUseId": "t1", "name": "a", "input": {"city": "Oslo"}}},
            ],
        }
    },
    "stopReason": "tool_use",
    "usage": {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3},
    "metrics": {"latencyMs": 1},
}


def test_a_whole_answer_is_read_like_a_stream_F27() -> None:
    builder = MessageBuilder(model())
    parser = ADAPTER.parser(model(), BedrockOptions(), builder, Context())
    events = [*parser.feed(WHOLE), *parser.close()]
    check_grammar(events, ended=True)
    assert builder.message.content[0] == ThinkingContent("Hm.", "c2ln")
    assert builder.message.content[1] == ThinkingContent("[Reasoning redacted]", "b3BhcXVl", redacted=True)
    assert builder.message.text == "Hello"
    assert builder.message.tool_calls == [ToolCall("t1", "a", {"city": "Oslo"})]
    assert tokens(builder.message) == (1, 2, 0, 0, None, 3)
    assert builder.message.diagnostics is None


# ── the whole journey ────────────────────────────────────────────────────────────────────────────────────────


async def ask(
    *answers: tuple[int, dict[str, str], bytes], headers: dict[str, str] | None = None, **options: Any
) -> tuple[AssistantMessage, list[str], list[Received]]:
    """The message and the events that come of these HTTP answers, given one after the other; and the requests."""
    left = list(answers)

    async def handle(request: Received, answer: Answer) -> None:
        status, told, body = left.pop(0)
        await answer.whole(status, told, body)

    async with Server(handle) as server, Registry() as pi:
        chosen = BedrockOptions(**{"api_key": "test-token", "headers": headers, "max_retries": 1, **options})
        stream = pi.stream(model(base_url=server.url), Context([UserMessage("Hi")]), chosen)
        with anyio.fail_after(10):
            events = [event.type async for event in stream]
        return stream.message, events, server.requests


OK = (200, FRAMES, HELLO)


@pytest.mark.anyio
async def test_an_answer_over_http_has_the_id_of_its_head() -> None:
    message, events, [request] = await ask(OK)
    assert (message.text, message.response_id) == ("Hello", "req-1")
    assert events == ["start", "text_start", "text_delta", "text_delta", "text_end", "done"]
    assert request.path == "/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse-stream"
    assert request.headers["authorization"] == "Bearer test-token"
    assert request.headers["content-type"] == "application/json"
    assert request.json["messages"] == [
        {"role": "user", "content": [{"text": "Hi"}, {"cachePoint": {"type": "default"}}]}
    ]


@pytest.mark.anyio
@pytest.mark.parametrize("media_type", ["text/event-stream", "application/json", "application/vnd.amazon.eventstream"])
async def test_bytes_of_another_wire_are_shown_F16(media_type: str) -> None:
    body = b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\n'
    message, events, requests = await ask((200, {"content-type": media_type}, body))
    assert message.error_info is not None
    assert message.error_info.kind == "protocol"
    assert "got 64 61 74 61 3a 20 7b 22 63 68 6f 69 63 65 73 22: " in (message.error_message or "")
    assert (events, len(requests)) == (["error"], 1)


@pytest.mark.anyio
@pytest.mark.parametrize("media_type", ["text/html", "application/vnd.amazon.eventstream"])
async def test_a_web_page_is_named_F26(media_type: str) -> None:
    page = b"<!DOCTYPE html><html><title>Sign in</title></html>"
    message, _, requests = await ask((200, {"content-type": media_type}, page))
    assert message.error_info is not None
    assert message.error_info.kind == "protocol"
    assert message.error_message == f"Expected an event stream, got {media_type}: Sign in"
    assert len(requests) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("media_type", ["application/json", "text/plain", "text/html"])
async def test_frames_are_read_whatever_they_are_called(media_type: str) -> None:
    message, _, _ = await ask((200, {"content-type": media_type}, HELLO))
    assert (message.stop_reason, message.text) == ("stop", "Hello")


@pytest.mark.anyio
async def test_a_whole_answer_and_an_error_may_come_with_status_200_F27() -> None:
    document = {"content-type": "application/json"}
    message, _, _ = await ask((200, document, json.dumps(WHOLE).encode()))
    assert (message.stop_reason, message.text, message.thinking) == ("toolUse", "Hello", "Hm.")
    told = b'{"__type":"com.amazon.coral.service#AccessDeniedException","Message":"no"}'
    message, _, _ = await ask((200, document, told))
    assert message.error_info is not None
    assert (message.error_message, message.error_info.kind) == ("AccessDeniedException: no", "permission")
    message, _, _ = await ask((200, document, b'{"message":"blocked by gateway"}'), max_retries=0)
    assert message.error_message == "blocked by gateway"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("status", "head", "body", "text", "kind"),
    [
        (
            400,
            {"x-amzn-errortype": "ValidationException:http://internal.amazon.com/"},
            b'{"message":"Input is too long for requested model."}',
            "Validation error: Input is too long for requested model.",
            "context_overflow",
        ),
        (403, {"content-type": "text/html"}, b"<html>Forbidden</html>", "403: <html>Forbidden</html>", "permission"),
        (403, {}, b'{"error":"blocked by gateway"}', '403: {"error":"blocked by gateway"}', "permission"),
        (404, {"x-amzn-errortype": "ResourceNotFoundException"}, b'{"Message":"no model"}', None, "not_found"),
        (
            400,
            {},
            b'{"__type":"com.amazon#ValidationException","message":"bad"}',
            "Validation error: bad",
            "bad_request",
        ),
    ],
)
async def test_35_36_errors_over_http_BR31(
    status: int, head: dict[str, str], body: bytes, text: str | None, kind: str
) -> None:
    message, events, _ = await ask((status, {"x-amzn-requestid": "req-9", **head}, body))
    info = message.error_info
    assert info is not None
    assert (info.kind, info.status, info.request_id, events) == (kind, status, "req-9", ["error"])
    assert message.error_message == (text or "ResourceNotFoundException: no model")
    [note] = message.diagnostics or []
    assert note.type == "bedrock_response_failure"
    assert (note.details["status"], note.details["requestId"]) == (status, "req-9")


@pytest.mark.anyio
async def test_37_a_throttled_request_is_made_again_R2() -> None:
    throttled = (429, {"x-amzn-errortype": "ThrottlingException", "retry-after-ms": "1"}, b'{"message":"slow"}')
    message, events, requests = await ask(throttled, OK)
    assert (message.text, events[0], events.count("start"), len(requests)) == ("Hello", "start", 1, 2)
    assert message.diagnostics is None
    assert [attempt.error.kind for attempt in message.attempts or []] == ["rate_limited"]


@pytest.mark.anyio
async def test_an_exception_in_the_first_frame_is_made_again_F32() -> None:
    throttled = BEGIN + exception("throttlingException", {"message": "Please retry in 0.001s"})
    message, events, requests = await ask((200, FRAMES, throttled), OK, max_retry_delay_ms=5_000)
    assert (message.text, events.count("start"), len(requests)) == ("Hello", 1, 2)


@pytest.mark.anyio
async def test_a_failure_behind_the_first_content_is_final_and_noted_BR33_F48() -> None:
    broken = BEGIN + say("Half") + exception("modelStreamErrorException", {"message": "gone"})
    message, events, requests = await ask((200, FRAMES, broken), OK)
    assert (message.text, events, len(requests)) == ("Half", ["start", "text_start", "text_delta", "error"], 1)
    [note] = message.diagnostics or []
    assert note.type == "bedrock_response_failure"
    assert note.details == {"errorCode": "ModelStreamErrorException", "requestId": "req-1"}


@pytest.mark.anyio
async def test_what_a_server_repeats_of_a_signature_is_not_shown_X1() -> None:
    echoed = b"The Canonical String should have been 'POST x-amz-security-token:session-canary host:x'"
    body = json.dumps({"message": echoed.decode()}).encode()
    message, _, _ = await ask((403, {"x-amzn-errortype": "InvalidSignatureException"}, body))
    assert "canary" not in repr(message)
    assert "InvalidSignatureException" in (message.error_message or "")


@pytest.mark.anyio
async def test_every_attempt_is_signed_with_credentials_that_are_good_then_BR12(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("botocore", reason=NO_BOTOCORE)
    no_account(monkeypatch, tmp_path)
    profile(tmp_path, key="OLD")
    expired = (403, {"x-amzn-errortype": "ExpiredTokenException"}, b'{"message":"expired"}')

    assert (await chain("work", None).credentials()).access_key == "OLD"
    profile(tmp_path, key="NEW")
    message, _, requests = await ask(expired, OK, api_key=None, profile="work", region="eu-west-1")
    assert message.text == "Hello"
    assert [note.type for note in message.diagnostics or []] == ["bedrock_credentials_renewed"]
    keys = [request.headers["authorization"].partition("Credential=")[2].partition("/")[0] for request in requests]
    assert keys == ["OLD", "NEW"]
    assert all("/eu-west-1/bedrock/aws4_request" in request.headers["authorization"] for request in requests)


@pytest.mark.anyio
async def test_without_credentials_nothing_is_asked_F85_BR8(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("botocore", reason=NO_BOTOCORE)
    no_account(monkeypatch, tmp_path)
    async with Registry() as pi:
        message = await pi.complete(model(base_url="https://vpce.example"), Context([UserMessage("Hi")]))
    assert message.error_info is not None
    assert (message.error_info.kind, message.error_info.phase, message.error_info.attempts) == ("auth", "auth", 0)
    assert (message.error_message or "").startswith("No AWS credentials found")
    assert message.error_info.provider == "amazon-bedrock"


@pytest.mark.anyio
async def test_38_an_abort_keeps_what_came_A1() -> None:
    async def handle(_: Received, answer: Answer) -> None:
        await answer.head(200, FRAMES)
        await answer.send(BEGIN + say("Half"))
        await answer.stall()

    async with Server(handle) as server, Registry() as pi:
        stream = pi.stream(model(base_url=server.url), Context([UserMessage("Hi")]), BedrockOptions(api_key="t"))
        with anyio.fail_after(5):
            async for found in stream:
                if found.type == "text_delta":
                    stream.abort()
    assert (stream.message.stop_reason, stream.message.error_message) == ("aborted", "Request was aborted")
    assert stream.message.text == "Half"
    assert stream.message.diagnostics is None


@pytest.mark.anyio
async def test_an_abort_does_not_wait_for_credentials_BR7(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("botocore", reason=NO_BOTOCORE)
    no_account(monkeypatch, tmp_path)
    asked = anyio.Event()

    async def hand_out(_: Received, answer: Answer) -> None:
        asked.set()
        await answer.stall()

    async with Server(hand_out) as server, Registry() as pi:
        env = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": server.url}
        stream = pi.stream(
            model(base_url="https://vpce.example"), Context([UserMessage("Hi")]), BedrockOptions(env=env)
        )
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(stream.result)
                await asked.wait()
                stream.abort()
    assert stream.message.stop_reason == "aborted"


@pytest.mark.anyio
async def test_a_proof_that_came_is_enough_F24() -> None:
    async def handle(_: Received, answer: Answer) -> None:
        await answer.head(200, FRAMES)
        await answer.send(BEGIN + say("Hello") + end() + stop() + USAGE[:20])
        await answer.reset()

    async with Server(handle) as server, Registry() as pi:
        message = await pi.complete(
            model(base_url=server.url), Context([UserMessage("Hi")]), BedrockOptions(api_key="t")
        )
    assert (message.stop_reason, message.text) == ("stop", "Hello")


@pytest.mark.anyio
async def test_hooks_see_each_event_by_its_name() -> None:
    seen: list[dict[str, Any]] = []
    await ask(OK, on_provider_stream_event=lambda payload, _: seen.append(payload))
    assert [list(payload) for payload in seen] == [
        ["messageStart"],
        ["contentBlockDelta"],
        ["contentBlockDelta"],
        ["contentBlockStop"],
        ["messageStop"],
        ["metadata"],
    ]
