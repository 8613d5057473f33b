"""The answer of the messages API: as pi-ai reads it (goldens), and the rows of the spec's table (section 7)."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_ai.adapters.anthropic_messages import AnthropicMessages, AnthropicOptions
from pi_ai.builder import MessageBuilder
from pi_ai.errors import RateLimited, Truncated
from pi_ai.types import Context, Model, TextContent, ThinkingContent, ToolCall, Usage
from pi_ai_tests.adapters.differences import DIFFERENCES
from pi_ai_tests.adapters.golden import answer_differences, cases, check, of_parts, streamed
from pi_ai_tests.adapters.reading import Read, check_grammar, pieces, read

API = "anthropic-messages"
ADAPTER = AnthropicMessages()
OPTIONS = AnthropicOptions()


def model(**fields: Any) -> Model:
    return Model(**{"id": "claude-test", "api": API, "provider": "p", "base_url": "https://x.example", **fields})


def wire(*events: Any, named: bool = True) -> bytes:
    """Events as they are sent: dicts with their ``type``, strings as they are."""
    lines = [event if isinstance(event, str) else json.dumps(event, ensure_ascii=False) for event in events]
    names = [event["type"] if named and isinstance(event, dict) else "" for event in events]
    pairs = zip(names, lines, strict=True)
    return "".join(f"event: {name}\ndata: {line}\n\n" if name else f"data: {line}\n\n" for name, line in pairs).encode()


def stream(*events: Any, named: bool = True, **fields: Any) -> Read:
    """Read events, whole and byte by byte, which must give the same."""
    body = wire(*events, named=named)
    whole = read(ADAPTER, model(**fields), [body])
    by_byte = read(ADAPTER, model(**fields), pieces(body, range(len(body))))
    assert by_byte.events[:-1] == whole.events[:-1]
    assert str(by_byte.error) == str(whole.error)
    return whole


def start(**message: Any) -> dict[str, Any]:
    own = {"id": "msg_1", "model": "claude-test", "usage": {"input_tokens": 12, "output_tokens": 1}}
    return {"type": "message_start", "message": {**own, **message}}


def opens(index: int, kind: str = "text", **content: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": {"type": kind, **content}}


def text(index: int, piece: str) -> dict[str, Any]:
    return delta(index, "text_delta", text=piece)


def delta(index: int, kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}


def arguments(index: int, piece: str) -> dict[str, Any]:
    return delta(index, "input_json_delta", partial_json=piece)


def ends(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def stops(reason: str | None = "end_turn", usage: Any = None, **fields: Any) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason, **fields}, "usage": usage or {"output_tokens": 5}}


STOP = {"type": "message_stop"}
HI = [opens(0, text=""), text(0, "Hi"), ends(0)]


def notes(found: Read) -> dict[str, Any]:
    return {note.type: note.details for note in found.message.diagnostics or ()}


def server(found: Read) -> dict[str, Any]:
    return notes(found)["anthropic_server_content"]


# ── as pi-ai reads it ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "golden", [case for case in cases(API) if streamed(case.values[0]) and len(case.values[0]["responses"]) == 1]
)
def test_the_answer_is_read_as_pi_ai_reads_it(golden: dict[str, Any]) -> None:
    known = of_parts(DIFFERENCES[API].get(golden["name"]), "events", "message")
    check(answer_differences(ADAPTER, golden), known, golden["name"])


# ── content ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_27_text() -> None:
    found = stream(start(), opens(0, text=""), text(0, "Hel"), text(0, "lo"), ends(0), stops(), STOP)
    assert found.types == ["start", "text_start", "text_delta", "text_delta", "text_end", "done"]
    message = found.message
    assert (message.text, message.stop_reason, message.raw_stop_reason) == ("Hello", "stop", "end_turn")
    assert (message.response_id, message.response_model) == ("msg_1", None)
    assert (message.usage.input, message.usage.output, message.usage.total_tokens) == (12, 5, 17)
    assert message.diagnostics is None


def test_28_text_that_comes_with_the_start_of_its_block_is_a_delta_E7() -> None:
    found = stream(start(), opens(0, text="Hel"), text(0, ""), text(0, "lo"), ends(0), stops(), STOP)
    assert found.deltas == ["Hel", "lo"]
    thought = stream(start(), opens(0, "thinking", thinking="H", signature="s"), ends(0), stops(), STOP)
    assert thought.deltas == ["H"]
    assert thought.message.content == [ThinkingContent("H", "s")]


def test_29_a_signature_comes_in_pieces_and_makes_no_events() -> None:
    found = stream(
        start(),
        opens(0, "thinking", thinking="", signature=""),
        delta(0, "thinking_delta", thinking="Hm"),
        delta(0, "signature_delta", signature="c2"),
        delta(0, "signature_delta", signature="ln"),
        ends(0),
        stops(),
        STOP,
    )
    assert found.types == ["start", "thinking_start", "thinking_delta", "thinking_end", "done"]
    assert found.message.content == [ThinkingContent("Hm", "c2ln")]


def test_30_a_redacted_thought_is_a_placeholder_with_its_payload_E8() -> None:
    odd = delta(0, "thinking_delta", thinking="no")
    found = stream(start(), opens(0, "redacted_thinking", data="b3Bh"), odd, ends(0), *moved(HI, 1), stops(), STOP)
    assert found.types[:3] == ["start", "thinking_start", "thinking_end"]
    assert found.message.content == [
        ThinkingContent("[Reasoning redacted]", "b3Bh", redacted=True),
        TextContent("Hi"),
    ]


def moved(events: list[dict[str, Any]], by: int) -> list[dict[str, Any]]:
    return [{**event, "index": event["index"] + by} for event in events]


def test_31_a_call_in_pieces() -> None:
    call = opens(0, "tool_use", id="toolu_1", name="f", input={})
    found = stream(
        start(), call, *(arguments(0, piece) for piece in ("", '{"a"', ":1}")), ends(0), stops("tool_use"), STOP
    )
    assert found.types == ["start", "toolcall_start", "toolcall_delta", "toolcall_delta", "toolcall_end", "done"]
    assert found.message.content == [ToolCall("toolu_1", "f", {"a": 1})]
    assert found.message.stop_reason == "toolUse"


@pytest.mark.parametrize("closed", [True, False])
def test_32_an_input_that_comes_with_the_start_of_its_block_is_kept(closed: bool) -> None:
    call = opens(0, "tool_use", id="toolu_1", name="f", input={"a": [1, "ä"]})
    found = stream(start(), call, *([ends(0)] if closed else []), stops("tool_use"), STOP)
    assert found.deltas == ['{"a":[1,"ä"]}']
    assert found.message.content == [ToolCall("toolu_1", "f", {"a": [1, "ä"]})]


def test_32_unless_its_pieces_follow() -> None:
    call = opens(0, "tool_use", id="toolu_1", name="f", input={"a": 1})
    found = stream(start(), call, arguments(0, '{"a":2}'), ends(0), stops("tool_use"), STOP)
    assert found.message.tool_calls[0].arguments == {"a": 2}


@pytest.mark.parametrize("closed", [True, False])
def test_33_a_call_that_the_limit_cut_off_is_ended_and_cannot_run(closed: bool) -> None:
    call = opens(0, "tool_use", id="toolu_1", name="f", input={})
    cut = [arguments(0, '{"command":"rm -rf ./build'), *([ends(0)] if closed else [])]
    found = stream(start(), call, *cut, stops("max_tokens"), STOP)
    assert found.types[-2:] == ["toolcall_end", "done"]
    assert found.message.stop_reason == "length"
    assert found.message.tool_calls[0].arguments == {}
    assert "rm -rf ./build" in (found.message.tool_calls[0].arguments_error or "")


def test_34_parallel_calls_may_interleave_AN30() -> None:
    calls = [opens(3, "tool_use", id="a", name="f"), opens(7, "tool_use", id="b", name="g")]
    some = [arguments(3, '{"x"'), arguments(7, '{"y"'), arguments(3, ":1}"), arguments(7, ":2}")]
    found = stream(start(), *calls, *some, ends(7), ends(3), stops("tool_use"), STOP)
    assert found.message.content == [ToolCall("a", "f", {"x": 1}), ToolCall("b", "g", {"y": 2})]
    assert [event.content_index for event in found.events if event.type == "toolcall_end"] == [1, 0]


def test_35_what_ran_on_the_server_is_no_content_but_is_told_whole() -> None:
    use = opens(1, "server_tool_use", id="srv_1", name="web_search", input={})
    result = opens(
        2, "web_search_tool_result", tool_use_id="srv_1", content=[{"type": "web_search_result", "url": "u"}]
    )
    found = stream(
        start(),
        *HI,
        *(use, arguments(1, '{"query"'), arguments(1, ':"x"}'), ends(1)),
        *(result, ends(2)),
        *moved(HI, 3),
        stops(),
        STOP,
    )
    assert [event.content_index for event in found.events if event.type == "text_start"] == [0, 1]
    assert server(found) == {
        "blocks": [
            {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"query": "x"}},
            result["content_block"],
        ]
    }


def test_blocks_of_kinds_to_come_are_told_with_what_their_deltas_add() -> None:
    block = opens(0, "compaction", content=None, encrypted=None, note="a", n=1)
    found = stream(
        start(),
        block,
        delta(0, "compaction_delta", content="Sum", encrypted="x", note="b", n=2, none=None),
        delta(0, "compaction_delta", content="med."),
        ends(0),
        opens(1, "server_tool_use", name="f"),
        arguments(1, '{"a'),
        *HI,
        stops(),
        STOP,
    )
    assert server(found)["blocks"] == [
        {"type": "compaction", "content": "Summed.", "encrypted": "x", "note": "ab", "n": 2},
        {"type": "server_tool_use", "name": "f", "input": '{"a'},
    ]


def test_citations_are_told_with_the_text_that_they_are_about() -> None:
    first, second = {"type": "char_location", "cited_text": "a"}, {"type": "char_location", "cited_text": "b"}
    found = stream(
        start(),
        *(opens(0, "thinking", thinking="Hm"), ends(0)),
        opens(1, text="", citations=[first]),
        delta(1, "citations_delta", citation=second),
        text(1, "Cited."),
        ends(1),
        stops(),
        STOP,
    )
    assert server(found) == {
        "citations": [{"contentIndex": 1, "citation": first}, {"contentIndex": 1, "citation": second}]
    }
    assert found.message.text == "Cited."


def test_a_model_may_take_over_before_anything_was_said() -> None:
    fallback = {"from": {"model": "a"}, "to": {"model": "b"}}
    found = stream(start(), opens(0, "fallback", **fallback), ends(0), *moved(HI, 1), stops(), STOP)
    assert found.message.text == "Hi"
    assert server(found)["blocks"] == [{"type": "fallback", **fallback}]
    late = stream(start(), *HI, opens(1, "fallback", **fallback), ends(1), stops(), STOP)
    assert str(late.error) == "Anthropic performed an unsupported mid-output model fallback"
    assert late.message.text == "Hi"


def test_E6_blocks_that_the_server_left_open_are_ended() -> None:
    found = stream(start(), opens(0, text=""), text(0, "a"), opens(1, "thinking"), stops(), STOP)
    assert found.types[-3:] == ["text_end", "thinking_end", "done"]


def test_F17_what_a_block_says_is_not_lost_with_its_start() -> None:
    thought = delta(1, "thinking_delta", thinking="Hm")
    found = stream(start(), text(0, "a"), text(0, "b"), ends(0), thought, text(0, "c"), ends(0), ends(5), stops(), STOP)
    assert found.message.content == [TextContent("ab"), ThinkingContent("Hm", ""), TextContent("c")]
    assert notes(found) == {"repaired": {"blocks": 3}, "ignored": {"events": 1}}


def test_F17_a_call_without_its_start_has_no_name_to_run() -> None:
    found = stream(start(), arguments(0, "{}"), delta(0, "signature_delta", signature="s"), *HI, stops(), STOP)
    assert found.message.content == [TextContent("Hi")]
    assert notes(found) == {"ignored": {"events": 2}}


def test_deltas_of_the_wrong_kind_are_ignored_and_counted_F8() -> None:
    odd = [
        delta(0, "thinking_delta", thinking="x"),
        arguments(0, "{}"),
        delta(0, "new_delta", new=1),
        delta(0, "text_delta"),
    ]
    found = stream(start(), opens(0, text=""), *odd, text(0, "Hi"), ends(0), stops(), STOP)
    assert found.message.content == [TextContent("Hi")]
    assert notes(found) == {"ignored": {"events": 4}}


def test_F81_calls_are_told_apart_whatever_their_ids() -> None:
    calls = [opens(index, "tool_use", name="f", **told) for index, told in enumerate([{}, {"id": "x"}, {"id": "x"}])]
    found = read(ADAPTER, model(), [wire(start(), *calls, stops("tool_use"), STOP)])
    first, second, third = [call.id for call in found.message.tool_calls]
    assert first.startswith("call_")
    assert (second, third) == ("x", "x_2")


def test_a_server_may_number_nothing() -> None:
    events = [
        start(),
        opens(0, text=""),
        text(0, "a"),
        ends(0),
        opens(1, text=""),
        text(1, "b"),
        ends(1),
        stops(),
        STOP,
    ]
    bare = [{key: value for key, value in event.items() if key != "index"} for event in events]
    assert stream(*bare).message.content == [TextContent("a"), TextContent("b")]


# ── the wire ─────────────────────────────────────────────────────────────────────────────────────────────────

WHOLE = [start(), *HI, stops(), STOP]


def test_38_json_is_repaired_before_it_is_given_up_S5() -> None:
    odd = wire(text(0, "a\\qb")).replace(b"a\\\\qb", b"a\tb\\q")
    assert (
        read(ADAPTER, model(), [wire(start(), opens(0, text="")), odd, wire(stops(), STOP)]).message.text == "a\tb\\q"
    )


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_39_lines_may_end_in_three_ways_AN23(end: str) -> None:
    said = "a\u2028b\u2029c\x85d\x0be"
    body = wire(start(), opens(0, text=""), text(0, said), stops(), STOP).decode().replace("\n", end).encode()
    for cuts in ([], range(len(body))):
        assert read(ADAPTER, model(), pieces(body, cuts)).message.text == said


def test_39_events_need_no_names_AN25() -> None:
    found = stream({"type": "ping"}, *WHOLE, {"type": "new"}, "[DONE]", named=False)
    assert found.types == ["start", "text_start", "text_delta", "text_end", "done"]
    assert stream("[DONE]", {"type": ["odd"]}, "5", *WHOLE, named=False).message.text == "Hi"


def test_39_the_name_counts_where_the_json_says_nothing_or_something_else() -> None:
    events = [{**event, "type": kind} for event, kind in zip(WHOLE, [None, "x", "y", "z", 5, []], strict=True)]
    lines = [f"event: {event['type']}\ndata: {json.dumps(odd)}\n\n" for event, odd in zip(WHOLE, events, strict=True)]
    assert read(ADAPTER, model(), ["".join(lines).encode()]).message.text == "Hi"


def test_39_pings_comments_and_events_to_come_mean_nothing() -> None:
    body = b"".join(
        [
            b"\xef\xbb\xbf: hello\n\nevent: ping\ndata: {}\n\nid: 1\n\nretry: 5\n\nevent: message_start\ndata:\n\n",
            wire(*WHOLE[:-1]),
            b"event: new\ndata: {oops\n\nevent: data\ndata: [DONE]\n\n",
            wire(STOP)[:-1],
        ]
    )
    found = read(ADAPTER, model(), [body])
    assert found.message.text == "Hi"
    assert notes(found) == {"ignored": {"events": 2}}


def test_pings_do_not_count_as_progress() -> None:
    """They feed only the idle clock: the driver is given nothing."""
    builder = MessageBuilder(model())
    parser, decoder = ADAPTER.parser(model(), OPTIONS, builder, Context()), ADAPTER.decoder(OPTIONS)
    body = wire({"type": "ping"}) + wire({"type": "ping"}, named=False)
    assert [parser.decode(event) for event in decoder.feed(body)] == [None, None]


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("before", [[], WHOLE[:3]])
def test_40_an_error_in_the_stream_ends_it_with_the_kind_of_its_http_form_F31(named: bool, before: Any) -> None:
    told = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    found = stream(*before, told, named=named)
    assert found.error is not None
    assert str(found.error) == "overloaded_error: Overloaded"
    info = found.error.info
    assert (info.kind, info.status, info.retryable, info.provider_code) == ("overloaded", 529, True, "overloaded_error")
    assert found.message.text == ("Hi" if before else "")
    assert found.types == (["start", "text_start", "text_delta"] if before else [])


def test_40_an_error_may_name_the_request() -> None:
    error = {"type": "error", "error": {"type": "api_error", "message": "No"}, "request_id": "req_1"}
    found = stream(start(), error)
    assert found.error is not None
    assert str(found.error) == "api_error: No (request req_1)"
    assert found.error.info.request_id == "req_1"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("oops", "oops"),
        ('{"error":{"code":500,"message":"m","type":"server_error"}}', "server_error: m"),
        ('{"error":{"code":500,"message":"m"}}', "500: m"),
        ('{"message":"m"}', "m"),
    ],
)
def test_an_event_that_is_called_error_is_one(data: str, said: str) -> None:
    assert str(read(ADAPTER, model(), [f"event: error\ndata: {data}\n\n".encode()]).error) == said


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([], "Anthropic stream ended without a stop reason"),
        ([{"type": "ping"}], "Anthropic stream ended without a stop reason"),
        ([start()], "Anthropic stream ended before message_stop"),
        (WHOLE[:3], "Anthropic stream ended before message_stop"),
        ([start(), *HI, stops(None)], "Anthropic stream ended before message_stop"),
        ([start(), *HI, STOP], "Anthropic stream ended without a stop reason"),
    ],
)
def test_41_an_answer_without_a_stop_reason_is_cut_off_F18(events: list[Any], said: str) -> None:
    found = stream(*events)
    assert found.error is not None
    assert str(found.error) == said
    assert (found.error.info.kind, found.error.info.phase, found.error.info.retryable) == ("truncated", "end", True)
    assert not found.proven


def test_F19_a_call_that_was_cut_off_is_kept_and_cannot_run() -> None:
    found = stream(start(), opens(0, "tool_use", id="x", name="f"), arguments(0, '{"a":1}'))
    assert found.types == ["start", "toolcall_start", "toolcall_delta"]
    assert found.message.tool_calls[0].arguments == {}
    assert found.message.tool_calls[0].arguments_error


def test_F21_the_answer_is_whole_once_its_stop_reason_was_seen() -> None:
    found = stream(*WHOLE[:-1])
    assert found.error is None
    assert found.proven
    assert found.message.completion is None


def test_a_server_may_be_declared_to_send_no_stop_reason() -> None:
    eof = {"completionProof": "eof"}
    message = stream(start(), *HI, compat=eof).message
    assert (message.stop_reason, message.completion, message.raw_stop_reason) == ("stop", "assumed", None)
    call = opens(0, "tool_use", id="x", name="f")
    assert stream(start(), call, ends(0), compat=eof).message.stop_reason == "toolUse"


@pytest.mark.parametrize(
    ("reason", "ours"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "toolUse"),
    ],
)
def test_42_good_stop_reasons(reason: str, ours: str) -> None:
    message = stream(start(), *HI, stops(reason), STOP).message
    assert (message.stop_reason, message.raw_stop_reason) == (ours, reason)


@pytest.mark.parametrize(
    ("reason", "details", "kind", "said"),
    [
        ("refusal", None, "content_filter", "The model refused to complete the request"),
        ("refusal", {"explanation": None}, "content_filter", "The model refused to complete the request"),
        ("refusal", {"explanation": "Not this."}, "content_filter", "Not this."),
        ("sensitive", None, "content_filter", "Provider stopped with: sensitive"),
        ("weird", None, "protocol", "Unhandled stop reason: weird"),
    ],
)
def test_42_bad_stop_reasons_are_errors_that_keep_what_came(reason: str, details: Any, kind: str, said: str) -> None:
    found = stream(start(), *HI, stops(reason, stop_details=details), STOP)
    assert found.error is not None
    assert str(found.error) == said
    assert (found.error.info.kind, found.error.info.provider_code) == (kind, reason)
    message = found.message
    assert (message.text, message.usage.output, message.raw_stop_reason) == ("Hi", 5, reason)


def test_48_the_model_that_answered_is_told_where_it_is_another_one() -> None:
    message = stream(start(model="claude-test-2"), *WHOLE[1:]).message
    assert (message.model, message.response_model) == ("claude-test", "claude-test-2")


def test_AN34_a_stop_reason_is_passed_on_whatever_came() -> None:
    call = opens(0, "tool_use", id="x", name="f")
    assert stream(start(), call, ends(0), stops("end_turn"), STOP).message.stop_reason == "stop"
    assert stream(start(), *HI, stops("tool_use"), STOP).message.stop_reason == "toolUse"


def test_F11_an_event_that_is_not_json_ends_the_stream_AN28() -> None:
    bad = '{"type": oops' + "x" * 1000
    body = wire(*WHOLE[:3]) + f"event: content_block_stop\ndata: {bad}\n\n".encode()
    found = read(ADAPTER, model(), [body])
    assert found.error is not None
    assert found.error.info.kind == "protocol"
    head, _, data = str(found.error).partition("; data=")
    assert head.startswith("Could not parse Anthropic SSE event content_block_stop: ")
    assert data == bad[:500]
    assert found.message.text == "Hi"


def test_F29_an_answer_that_says_nothing_is_marked() -> None:
    found = stream(start(), stops(), STOP)
    assert found.types == ["start", "done"]
    assert notes(found) == {"empty": None}


def test_what_comes_after_the_end_is_not_read_AN33() -> None:
    assert stream(*WHOLE, *moved(HI, 1), {"type": "error", "error": {"message": "late"}}).message.text == "Hi"


def test_the_start_is_held_back_until_there_is_content_D10() -> None:
    parser = ADAPTER.parser(model(), OPTIONS, MessageBuilder(model()), Context())
    assert parser.feed(start()) == []
    assert [event.type for event in parser.feed(opens(0, text=""))] == ["start", "text_start"]


@pytest.mark.parametrize("odd", [{}, {"type": "new"}, {"type": ["message"]}, {"type": "message_stop", "index": {}}])
def test_a_document_that_says_nothing_is_no_answer_F27(odd: dict[str, Any]) -> None:
    parser = ADAPTER.parser(model(), OPTIONS, MessageBuilder(model()), Context())
    assert parser.feed(odd) == []
    with pytest.raises(Truncated):
        parser.close()


def test_a_document_may_be_an_error_F27() -> None:
    parser = ADAPTER.parser(model(), OPTIONS, MessageBuilder(model()), Context())
    with pytest.raises(RateLimited, match=r"^rate_limit_error: slow down(\n|$)"):
        parser.feed({"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}})


def test_a_whole_answer_is_read_as_one_F27() -> None:
    content = [
        {"type": "thinking", "thinking": "Hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "d"},
        {"type": "text", "text": "Hi", "citations": [{"type": "c"}]},
        {"type": "server_tool_use", "name": "f", "input": {"q": 1}},
        {"type": "tool_use", "id": "x", "name": "f", "input": {"a": 1}},
        {"type": "tool_use", "id": "y", "name": "g", "input": {}},
    ]
    whole = {
        "type": "message",
        "id": "msg_1",
        "model": "other",
        "content": content,
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 3, "output_tokens": 4},
    }
    builder = MessageBuilder(model())
    parser = ADAPTER.parser(model(), OPTIONS, builder, Context())
    events = [*parser.feed(whole), *parser.close()]
    check_grammar(events, ended=True)
    message = builder.message
    assert [block.type for block in message.content] == ["thinking", "thinking", "text", "toolCall", "toolCall"]
    assert [call.arguments for call in message.tool_calls] == [{"a": 1}, {}]
    assert (message.response_id, message.response_model, message.usage.total_tokens) == ("msg_1", "other", 7)
    assert message.stop_reason == "toolUse"
    assert stream(whole).message.content == message.content


# ── usage ────────────────────────────────────────────────────────────────────────────────────────────────────


def usage(first: Any, *later: Any, **fields: Any) -> Usage:
    deltas = [{"type": "message_delta", "delta": {}, "usage": counts} for counts in later]
    return stream(start(usage=first), *HI, *deltas, {**stops(), "usage": None}, STOP, **fields).message.usage


def test_36_counts_replace_earlier_ones_field_by_field_AN31() -> None:
    found = usage(
        {"input_tokens": 9, "output_tokens": 1, "cache_read_input_tokens": 2, "cache_creation_input_tokens": None},
        {"output_tokens": 5, "input_tokens": None},
        {"cache_creation_input_tokens": 3},
        {},
        None,
    )
    assert (found.input, found.output, found.cache_read, found.cache_write) == (9, 5, 2, 3)
    assert (found.total_tokens, found.cache_write_1h, found.reasoning) == (19, 0, None)


@pytest.mark.parametrize("late", [True, False])
def test_37_what_is_cached_for_an_hour_is_told_apart(late: bool) -> None:
    counts = {"cache_creation_input_tokens": 8, "cache_creation": {"ephemeral_1h_input_tokens": 3}}
    found = usage({}, counts) if late else usage(counts)
    assert (found.cache_write, found.cache_write_1h) == (8, 3)


def test_thoughts_are_a_part_of_the_output() -> None:
    assert usage({}, {"output_tokens": 50, "output_tokens_details": {"thinking_tokens": 21}}).reasoning == 21


def test_K5_openrouters_bill_is_the_cost() -> None:
    found = usage({"input_tokens": 1}, {"cost": 0.01, "is_byok": False}, provider="openrouter")
    assert (found.cost.total, found.cost.total_from_provider) == (0.01, True)


@pytest.mark.parametrize("odd", ["5", -5, 1e300, [], {}, True])
def test_F97_counts_that_are_none_count_nothing(odd: Any) -> None:
    counts = {"input_tokens": odd, "cache_creation": odd, "output_tokens_details": odd}
    assert usage(counts).input in (0, 1)  # True is a 1 that somebody misspelled
    assert usage({"input_tokens": 5}, odd if isinstance(odd, dict) else {"output_tokens": [odd]}).input == 5


def test_AN35_what_the_server_did_to_the_conversation_is_told() -> None:
    first = [{"type": "a", "path": "p", "reason": "r", "x": 1}]
    latest = [{"type": "b"}, 5]
    found = stream(start(input_transformations=first), *HI, {**stops(), "input_transformations": latest}, STOP)
    assert notes(found) == {"anthropic_input_transformations": {"transformations": [{"type": "b"}, {}]}}
    found = stream(start(input_transformations=first), *HI, {**stops(), "input_transformations": []}, STOP)
    assert notes(found) == {
        "anthropic_input_transformations": {"transformations": [{"type": "a", "path": "p", "reason": "r"}]}
    }


# ── llama.cpp ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_local_servers_odd_order_is_read() -> None:
    """Block 1 starts before block 0 has stopped, and calls start without an input."""
    calls = [opens(0, "tool_use", id="a", name="f"), opens(1, "tool_use", id="b", name="f")]
    found = stream(
        start(id="chatcmpl-1"),
        *(calls[0], arguments(0, '{"a":1}')),
        *(calls[1], arguments(1, '{"b"')),
        *(ends(0), ends(1)),
        stops("max_tokens"),
        STOP,
    )
    assert found.message.response_id == "chatcmpl-1"
    assert found.message.tool_calls[0].arguments == {"a": 1}
    assert found.message.tool_calls[1].arguments_error


# ── whatever comes ───────────────────────────────────────────────────────────────────────────────────────────

WORDS = (
    "id index type delta content_block text thinking signature data name input partial_json citation citations message "
    "usage model stop_reason stop_details explanation content input_transformations error request_id input_tokens "
    "cache_creation ephemeral_1h_input_tokens output_tokens_details thinking_tokens"
)
KEYS = st.sampled_from(WORDS.split())
BLOCK_TYPES = (
    "text thinking redacted_thinking tool_use server_tool_use fallback text_delta thinking_delta signature_delta "
    "input_json_delta citations_delta end_turn tool_use max_tokens refusal"
)
TYPES = st.sampled_from(BLOCK_TYPES.split())
EVENT_TYPES = (
    "message_start content_block_start content_block_delta content_block_delta content_block_stop message_delta "
    "message_stop message ping new"
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | TYPES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=15,
)
BLOCK = st.fixed_dictionaries(
    {"type": TYPES | JSON},
    optional={
        "text": st.text(max_size=3) | JSON,
        "thinking": st.text(max_size=3) | JSON,
        "signature": st.text(max_size=2) | JSON,
        "partial_json": st.sampled_from(['{"a":', "1}", "{}", ""]) | JSON,
        "id": st.sampled_from(["a", "b", ""]) | JSON,
        "input": JSON,
        "citation": JSON,
        "citations": JSON,
    },
)
EVENT = st.fixed_dictionaries(
    {"type": st.sampled_from(EVENT_TYPES.split()) | JSON},
    optional={
        "index": st.integers(0, 2) | JSON,
        "content_block": BLOCK | JSON,
        "delta": BLOCK | JSON,
        "message": JSON,
        "usage": JSON,
        "content": st.lists(BLOCK | JSON, max_size=2),
    },
)


@settings(deadline=None, max_examples=150)
@given(st.lists(EVENT, max_size=8), st.booleans())
def test_no_json_at_all_breaks_the_parser(events: list[dict[str, Any]], named: bool) -> None:
    """F8, F17: it ends well or with an error of ours, and the events are in order (checked by ``read``)."""
    lines = [(event["type"] if named and isinstance(event["type"], str) else "", json.dumps(event)) for event in events]
    body = "".join(f"event: {name.strip() or 'message'}\ndata: {line}\n\n" for name, line in lines)
    read(ADAPTER, model(), [body.encode("utf-8", "replace")])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 2), max_size=30), st.randoms(use_true_random=False))
def test_any_interleaving_of_blocks_gives_the_same_blocks(order: list[int], by_chance: random.Random) -> None:
    texts = [json.dumps({"n": 0, "order": order}), "thought " * 5, "text " * 5]
    left = [
        pieces(said.encode(), sorted(by_chance.choices(range(1, len(said)), k=order.count(i))))
        for i, said in enumerate(texts)
    ]
    kinds = [("input_json_delta", "partial_json"), ("thinking_delta", "thinking"), ("text_delta", "text")]
    turns = [*order, *(i for i in range(3) for _ in range(40))]
    deltas = [delta(i, kinds[i][0], **{kinds[i][1]: left[i].pop(0).decode()}) for i in turns if left[i]]
    blocks = [opens(0, "tool_use", id="x", name="f"), opens(1, "thinking"), opens(2, text="")]
    message = read(ADAPTER, model(), [wire(start(), *blocks, *deltas, *map(ends, range(3)), stops(), STOP)]).message
    assert message.content == [
        ToolCall("x", "f", {"n": 0, "order": order}),
        ThinkingContent(texts[1], ""),
        TextContent(texts[2]),
    ]
