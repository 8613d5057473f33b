"""The answer of the Responses API: as pi-ai reads it (goldens), as other servers send it, and the spec's rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_ai.adapters.openai_responses import OpenAIResponses, OpenAIResponsesOptions
from pi_ai.builder import MessageBuilder
from pi_ai.errors import ContentFiltered, PiAIError, ProtocolError, QuotaExhausted, RateLimited, ServerError, Truncated
from pi_ai.types import Context, Model, ModelCost, TextContent, ThinkingContent, Tool, ToolCall
from pi_ai_tests.adapters.differences import DIFFERENCES
from pi_ai_tests.adapters.golden import answer_differences, cases, check, of_parts, streamed
from pi_ai_tests.adapters.reading import Read, check_grammar, read

API = "openai-responses"
ADAPTER = OpenAIResponses()


def model(**fields: Any) -> Model:
    return Model(**{"id": "gpt-test", "api": API, "provider": "p", "base_url": "https://x.example/v1", **fields})


def stream(*events: Any, done: bool = True, **fields: Any) -> Read:
    """Read events: dicts are events of the wire, strings raw data. Unless told otherwise the response is completed."""
    payloads = [*events, *([completed()] if done else [])]
    data = [event if isinstance(event, str) else json.dumps(event, ensure_ascii=False) for event in payloads]
    context = fields.pop("context", Context())
    return read(ADAPTER, model(**fields), ["".join(f"data: {line}\n\n" for line in data).encode()], context)


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", **{key: value for key, value in fields.items() if value is not None}}


def completed(status: str | None = "completed", **fields: Any) -> dict[str, Any]:
    return event("completed", response={"id": "resp_1", **({"status": status} if status else {}), **fields})


def added(place: int | None, **item: Any) -> dict[str, Any]:
    return event("output_item.added", output_index=place, item=item)


def done(place: int | None, **item: Any) -> dict[str, Any]:
    return event("output_item.done", output_index=place, item=item)


def text(place: int | None, delta: str, told: str | None = None) -> dict[str, Any]:
    return event("output_text.delta", output_index=place, item_id=told, delta=delta)


def message(*parts: Any, told: str | None = "msg_1", **more: Any) -> dict[str, Any]:
    content = [{"type": "output_text", "text": part} if isinstance(part, str) else part for part in parts]
    return {"type": "message", **({"id": told} if told else {}), "content": content, **more}


def call(arguments: Any = None, number: int = 1, **more: Any) -> dict[str, Any]:
    named = {"id": f"fc_{number}", "call_id": f"call_{number}", "name": "f"}
    given = {} if arguments is None else {"arguments": arguments}
    return {"type": "function_call", **named, **given, **more}


def piece(place: int | None, delta: str, told: str | None = None) -> dict[str, Any]:
    return event("function_call_arguments.delta", output_index=place, item_id=told, delta=delta)


def thought(*summary: str, told: str = "rs_1", **more: Any) -> dict[str, Any]:
    return {"type": "reasoning", "id": told, "summary": [{"type": "summary_text", "text": s} for s in summary], **more}


def notes(found: Read) -> dict[str, Any]:
    return {note.type: note.details for note in found.message.diagnostics or ()}


# ── as pi-ai reads it ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("golden", [case for case in cases(API) if streamed(case.values[0])])
def test_the_answer_is_read_as_pi_ai_reads_it(golden: dict[str, Any]) -> None:
    known = of_parts(DIFFERENCES[API].get(golden["name"]), "events", "message")
    check(answer_differences(ADAPTER, golden), known, golden["name"])


def test_every_entry_of_the_table_is_about_a_golden() -> None:
    names = {case.values[0]["name"] for case in cases(API)}
    assert DIFFERENCES[API].keys() <= names


# ── items (S1-S8) ────────────────────────────────────────────────────────────────────────────────────────────


def test_S1_parts_of_a_thought_are_told_apart_in_the_deltas_as_in_the_whole() -> None:
    part = {"item_id": "rs_1", "output_index": 0}
    found = stream(
        event("created", response={"id": "resp_0", "model": "gpt-real"}),
        added(0, **thought()),
        event("reasoning_summary_text.delta", summary_index=0, delta="A", **part),
        event("reasoning_summary_text.delta", summary_index=0, delta="a", **part),
        event("reasoning_summary_part.done", summary_index=0, **part),
        event("reasoning_summary_text.delta", summary_index=1, delta="B", **part),
        event("reasoning_summary_part.done", summary_index=1, **part),
        done(0, **thought("Aa", "B", encrypted_content="enc")),
        added(1, **message()),
        text(1, "Hi"),
        done(1, **message("Hi", phase="final_answer")),
    )
    assert found.deltas == ["A", "a", "\n\n", "B", "Hi"]
    signature = json.dumps(thought("Aa", "B", encrypted_content="enc"), separators=(",", ":"))
    assert found.message.content == [
        ThinkingContent("Aa\n\nB", signature),
        TextContent("Hi", '{"v":1,"id":"msg_1","phase":"final_answer"}'),
    ]
    assert (found.message.response_id, found.message.response_model) == ("resp_1", "gpt-real")
    assert (found.message.stop_reason, found.message.raw_stop_reason) == ("stop", "completed")  # S16


@pytest.mark.parametrize("numbered", [True, False])
@pytest.mark.parametrize("ended", [True, False])
def test_parts_are_told_apart_by_their_numbers_or_by_their_ends(numbered: bool, ended: bool) -> None:
    def number(n: int) -> dict[str, int]:
        return {"summary_index": n} if numbered else {}

    end = [event("reasoning_summary_part.done")] if ended else []
    kind = "reasoning_summary_text.delta"
    found = stream(
        added(0, **thought()),
        *end,
        event(kind, delta="A", **number(0)),
        event(kind, delta="a", **number(0)),
        *end,
        event(kind, delta="B", **number(1)),
        *end,
        done(0, **thought()),
    )
    assert found.message.thinking == ("Aa\n\nB" if numbered or ended else "AaB")


def test_a_thoughts_own_text_is_read_too_and_a_summary_is_worth_more() -> None:
    own = [{"type": "reasoning_text", "text": "raw"}, {"type": "reasoning_text", "text": "more"}]
    deltas = [
        event("reasoning_text.delta", output_index=0, content_index=n, delta=d) for n, d in ((0, "raw"), (1, "m"))
    ]
    found = stream(added(0, **thought()), *deltas, done(0, **thought(content=own)))
    assert found.message.thinking == "raw\n\nmore"
    assert stream(done(0, **thought("sum", content=own))).message.thinking == "sum"
    assert stream(done(0, **thought(content=own))).deltas == ["raw\n\nmore"]


def test_a_thought_that_is_not_shown_is_a_block_all_the_same() -> None:
    found = stream(added(0, **thought()), done(0, **thought(encrypted_content="enc")))
    assert found.types == ["start", "thinking_start", "thinking_end", "done"]
    assert '"encrypted_content":"enc"' in (found.message.content[0].thinking_signature or "")


def test_S2_a_call_is_known_by_both_of_its_ids() -> None:
    found = stream(
        added(0, **call("")),
        piece(0, '{"a":'),
        piece(0, "1}"),
        event("function_call_arguments.done", output_index=0, arguments='{"a":1}'),
        done(0, **call('{"a":1}')),
    )
    assert found.message.content == [ToolCall("call_1|fc_1", "f", {"a": 1})]
    assert found.deltas == ['{"a":', "1}"]
    assert found.message.stop_reason == "toolUse"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"id": None}, "call_1"),
        ({"call_id": None}, "fc_1"),
        ({"id": "", "call_id": "c"}, "c"),
        ({"id": 5, "call_id": "c"}, "c"),
    ],
)
def test_a_call_may_lack_one_of_its_ids(given: Any, told: str) -> None:
    item = {key: value for key, value in {**call("{}"), **given}.items() if value is not None}
    assert [block.id for block in stream(added(0, **item), done(0, **item)).message.tool_calls] == [told]


def test_F81_a_call_without_any_id_gets_one_and_equal_ids_are_told_apart() -> None:
    bare = {"type": "function_call", "name": "f", "arguments": "{}"}
    same = {**bare, "call_id": "c"}
    found = stream(done(0, **bare), done(1, **bare), done(2, **same), done(3, **same))
    ids = [block.id for block in found.message.tool_calls]
    assert ids[2:] == ["c", "c_2"]
    assert len(set(ids)) == 4
    assert ids[0].startswith("call_")


def test_S3_arguments_that_only_come_whole_are_one_delta() -> None:
    whole = event("function_call_arguments.done", output_index=0, item_id="fc_1", arguments='{"a":1}')
    found = stream(added(0, **call("")), whole, done(0, **call('{"a":1}')))
    assert found.deltas == ['{"a":1}']


def test_arguments_that_come_with_the_start_are_a_delta_and_stay_unless_the_whole_differs_J5() -> None:
    assert stream(added(0, **call('{"a"')), piece(0, ":1}"), done(0, **call())).deltas == ['{"a"', ":1}"]
    found = stream(added(0, **call('{"a":1}')), piece(0, '{"a":1}'), done(0, **call('{"a":1}')))
    assert found.message.tool_calls[0].arguments == {"a": 1}
    assert stream(done(0, **call({"a": 1}))).message.tool_calls[0].arguments == {"a": 1}


def test_arguments_that_are_no_json_are_told_so_J2() -> None:
    found = stream(added(0, **call("")), piece(0, '{"a'), done(0, **call('{"a')))
    assert (found.message.tool_calls[0].arguments, found.message.stop_reason) == ({}, "toolUse")
    assert '{"a' in (found.message.tool_calls[0].arguments_error or "")


def test_S4_an_item_that_only_comes_whole_is_begun_and_ended() -> None:
    found = stream(done(0, **message("Hi")), done(1, **call("{}")))
    assert found.types[1:-1] == [
        *("text_start", "text_delta", "text_end", "toolcall_start", "toolcall_delta", "toolcall_end")
    ]


def test_S5_interleaved_calls_get_their_own_arguments() -> None:
    found = stream(
        added(0, **call("", 1)),
        added(1, **call("", 2)),
        piece(1, '{"b":'),
        piece(0, '{"a":'),
        piece(1, "2}"),
        piece(0, "1}"),
        done(1, **call('{"b":2}', 2)),
        done(0, **call('{"a":1}', 1)),
    )
    assert [block.arguments for block in found.message.tool_calls] == [{"a": 1}, {"b": 2}]


@pytest.mark.parametrize("with_ids", [True, False])
def test_S6_without_places_ids_tell_or_the_order_does(with_ids: bool) -> None:
    def told(name: str) -> str | None:
        return name if with_ids else None

    summary = event("reasoning_summary_text.delta", item_id=told("rs_1"), delta="Hm")
    found = stream(
        added(None, **thought()),
        summary,
        done(None, **thought("Hm")),
        added(None, **message()),
        text(None, "a", told("msg_1")),
        text(None, "b", told("msg_1")),
        done(None, **message("ab")),
        added(None, **call("")),
        piece(None, "{}", told("fc_1")),
        done(None, **call("{}")),
        added(None, **message(told="msg_2")),
        text(None, "c", told("msg_2")),
        done(None, **message("c", told="msg_2")),
    )
    kinds = [getattr(b, "thinking", None) or getattr(b, "text", None) or b.name for b in found.message.content]
    assert kinds == ["Hm", "ab", "f", "c"]


def test_llama_cpp_ends_several_calls_at_once_and_names_no_places() -> None:
    found = stream(
        added(None, **call("", 1)),
        piece(None, '{"a":1}', "fc_1"),
        added(None, **call("", 2)),
        piece(None, '{"b":2}', "fc_2"),
        done(None, **call('{"a":1}', 1)),
        done(None, **call('{"b":2}', 2)),
    )
    assert [block.arguments for block in found.message.tool_calls] == [{"a": 1}, {"b": 2}]
    assert found.types.count("toolcall_end") == 2


def test_some_servers_give_an_item_another_id_in_every_event() -> None:
    found = stream(
        added(0, **message(told="x1")), text(0, "a", "x2"), text(0, "b", "x3"), done(0, **message("ab", told="x4"))
    )
    assert found.message.content == [TextContent("ab", '{"v":1,"id":"x4"}')]


def test_some_servers_give_all_items_the_place_0() -> None:
    found = stream(
        added(0, **thought()),
        added(0, **message()),
        event("reasoning_text.delta", output_index=0, delta="Hm"),
        text(0, "Hi"),
        done(0, **thought()),
        done(0, **message("Hi")),
        added(0, **message(told="msg_2")),
        text(0, "Ho"),
        done(0, **message("Ho", told="msg_2")),
    )
    assert (found.message.thinking, found.message.text) == ("Hm", "HiHo")
    assert len(found.message.content) == 3


def test_an_event_without_any_name_is_about_the_last_item_of_its_kind() -> None:
    found = stream(added(0, **message()), added(1, **thought()), text(None, "b"), done(None, type="message"))
    assert [block.text for block in found.message.content if isinstance(block, TextContent)] == ["b"]
    found = stream(added(None, type="message"), text(None, "a", "msg_9"), added(1, **message()), text(None, "b"))
    assert [block.text for block in found.message.content] == ["a", "b"]


def test_two_calls_at_one_place_are_two_and_neither_is_forgotten_F19() -> None:
    nameless = {"type": "function_call", "name": "f"}
    found = stream(added(0, **nameless, call_id="a"), added(0, **nameless, call_id="b", id="x"), done(0, **call("{}")))
    assert len(found.message.tool_calls) == 2
    assert found.error is not None
    ends = [done(0, **nameless, call_id="b", id="x"), done(0, **nameless, call_id="a")]
    both = stream(added(0, **nameless, call_id="a"), added(0, **nameless, call_id="b", id="x"), *ends)
    assert (both.error is not None, both.types.count("toolcall_end")) == (True, 1)


def test_S7_a_refusal_is_the_text_and_is_marked_F34() -> None:
    refusal = {"type": "refusal", "refusal": "I cannot."}
    pieces = [event("refusal.delta", output_index=0, delta=part) for part in ("I ", "cannot.")]
    found = stream(added(0, **message()), *pieces, done(0, **message(refusal)))
    assert (found.message.text, found.message.stop_reason, found.deltas) == ("I cannot.", "stop", ["I ", "cannot."])
    assert notes(found) == {"refusal": None}
    assert notes(stream(done(0, **message(refusal)))) == {"refusal": None}


@pytest.mark.parametrize("whole", [message(), message("other"), message("A"), {"type": "message", "content": None}])
def test_S8_what_was_streamed_stands_whatever_the_whole_item_says(whole: Any) -> None:
    found = stream(added(0, **message()), text(0, "Ab"), done(0, **whole))
    assert (found.message.text, found.deltas) == ("Ab", ["Ab"])


def test_a_piece_whose_item_never_began_begins_one_F17() -> None:
    found = stream(
        text(0, "Hi"),
        event("reasoning_text.delta", output_index=1, delta="Hm"),
        piece(2, '{"a":1}', "fc_1"),
        done(2, **call('{"a":1}')),
    )
    assert (found.message.text, found.message.thinking) == ("Hi", "Hm")
    assert found.message.tool_calls == [ToolCall("call_1|fc_1", "f", {"a": 1})]


def test_what_comes_for_an_item_that_has_ended_is_ignored_and_counted_F17() -> None:
    late = [text(0, "x", "msg_1"), done(0, **message("Hi")), added(1, **message(told="m2"))]
    found = stream(added(0, **message()), done(0, **message("Hi")), *late, added(1, **message(told="m2")), text(1, "!"))
    assert (found.message.text, notes(found)) == ("Hi!", {"ignored": {"events": 3}})


def test_unknown_events_and_items_are_ignored_and_counted_F8() -> None:
    known = [event("in_progress"), event("web_search_call.searching"), event("output_text.annotation.added")]
    items = [added(0, type="web_search_call", id="ws"), done(0, type="mcp_call"), done(1, type="compaction")]
    assert notes(stream(*known, *items, text(2, "x"))) == {}
    odd = [event("new"), {"type": "new"}, {"x": 1}, added(0, type="new"), added(0), {"type": 5}, {"type": [1]}]
    assert notes(stream(*odd, text(2, "x"))) == {"ignored": {"events": len(odd)}}


@pytest.mark.parametrize("odd", ["null", "5", '"x"', "[]"])
def test_data_that_is_no_object_means_nothing(odd: str) -> None:
    assert stream(odd, text(0, "Hi"), odd).message.text == "Hi"


def test_an_answer_without_content_is_marked_F29() -> None:
    assert (notes(stream()), stream().types) == ({"empty": None}, ["start", "done"])


def test_a_namespace_and_a_late_name_are_kept() -> None:
    found = stream(
        piece(0, "{}"),
        event("function_call_arguments.done", output_index=0, item_id="fc_1", arguments="{}", name="f"),
        done(0, **call("{}", namespace="ns")),
    )
    assert found.message.tool_calls == [ToolCall("call_1|fc_1", "f", {}, namespace="ns")]


# ── calls with plain text (section 7.1) ──────────────────────────────────────────────────────────────────────

SQL = Tool(
    "sql",
    "Run.",
    {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]},
    constrained_sampling={"type": "grammar", "variants": {"openai_lark": "start: /x/"}},
)
KNOWS: dict[str, Any] = {"compat": {"supportsOpenAIGrammarTools": True}, "context": Context([], tools=[SQL])}


def custom(text: str | None = None, **more: Any) -> dict[str, Any]:
    given = {} if text is None else {"input": text}
    return {"type": "custom_tool_call", "id": "ctc_1", "call_id": "call_1", "name": "sql", **given, **more}


def typed(kind: str, **fields: Any) -> dict[str, Any]:
    return event(f"custom_tool_call_input.{kind}", output_index=0, item_id="ctc_1", **fields)


def test_plain_text_becomes_the_argument_of_the_tool() -> None:
    found = stream(
        added(0, **custom("")),
        typed("delta", delta='say "'),
        typed("delta", delta="é\n"),
        typed("done", input='say "é\n'),
        done(0, **custom('say "é\n')),
        **KNOWS,
    )
    assert found.deltas == ['{"q":"say \\"', "é\\n", '"}']
    assert found.message.tool_calls == [ToolCall("call_1|ctc_1", "sql", {"q": 'say "é\n'})]
    assert found.message.stop_reason == "toolUse"


@pytest.mark.parametrize(
    "events",
    [
        [done(0, **custom("x"))],
        [added(0, **custom("x")), done(0, **custom("x"))],
        [added(0, **custom("")), typed("done", input="x"), done(0, **custom())],
        [added(0, **custom()), typed("delta", delta="x"), done(0, **custom())],
        [added(0, **custom()), typed("delta", delta="other"), typed("done", input="x"), done(0, **custom("x"))],
        [typed("done", input="x", name="sql"), done(0, **custom("x"))],
    ],
)
def test_plain_text_is_whole_however_it_comes(events: list[Any]) -> None:
    found = stream(*events, **KNOWS)
    assert [(block.name, block.arguments) for block in found.message.tool_calls] == [("sql", {"q": "x"})]


def test_an_unknown_tools_text_is_its_input_and_may_be_empty() -> None:
    assert stream(done(0, **custom(""))).message.tool_calls[0].arguments == {"input": ""}
    assert stream(added(0, **custom()), done(0, **custom())).message.tool_calls[0].arguments == {"input": ""}


def test_text_that_changes_after_it_was_complete_fails_the_answer() -> None:
    found = stream(added(0, **custom()), typed("done", input="SELECT"), done(0, **custom("DROP")), **KNOWS)
    assert isinstance(found.error, ProtocolError)
    assert found.error.text == 'grammar tool input for property "q" changed after it was closed'
    assert found.message.tool_calls[0].arguments == {}
    assert found.message.tool_calls[0].arguments_error


def test_text_that_is_cut_off_is_no_call_to_run() -> None:
    cut = event("incomplete", response={"incomplete_details": {"reason": "max_output_tokens"}})
    found = stream(added(0, **custom()), typed("delta", delta="DELETE FROM t"), cut, done=False, **KNOWS)
    assert (found.message.stop_reason, found.message.tool_calls[0].arguments) == ("length", {})
    assert found.message.tool_calls[0].arguments_error


# ── the end (S9-S14, S16) ────────────────────────────────────────────────────────────────────────────────────


def incomplete(reason: str | None, **fields: Any) -> dict[str, Any]:
    details = {"incomplete_details": {"reason": reason}} if reason else {}
    return event("incomplete", response={"status": "incomplete", **details, **fields})


def test_S9_a_call_that_the_limit_cuts_off_is_ended_but_not_to_be_run() -> None:
    found = stream(
        added(0, **message()),
        text(0, "Hi"),
        added(1, **call("")),
        piece(1, '{"a'),
        incomplete("max_output_tokens"),
        done=False,
    )
    assert found.types[-3:] == ["text_end", "toolcall_end", "done"]
    assert (found.message.stop_reason, found.message.raw_stop_reason) == ("length", "incomplete.max_output_tokens")
    assert found.message.tool_calls[0].arguments == {}
    assert found.message.tool_calls[0].arguments_error


@pytest.mark.parametrize("end", [[], [done(0, **call("", status="incomplete"))]])
def test_a_call_of_which_nothing_came_before_the_limit_is_not_one_without_arguments(end: list[Any]) -> None:
    found = stream(added(0, **call("")), *end, incomplete("max_output_tokens"), done=False)
    assert found.message.tool_calls[0].arguments_error
    whole = stream(added(0, **call("")), done(0, **call("")), incomplete("max_output_tokens"), done=False)
    assert whole.message.tool_calls[0].arguments_error is None


@pytest.mark.parametrize(
    ("last", "error", "text", "raw"),
    [
        (
            incomplete("content_filter"),
            ContentFiltered,
            "Response incomplete: content_filter",
            "incomplete.content_filter",
        ),
        (incomplete("other"), ServerError, "Response incomplete: other", "incomplete.other"),
        (incomplete(None), ServerError, "Response incomplete without a provider reason", "incomplete"),
        (completed("weird"), ProtocolError, "Unknown response status: weird", "weird"),
        (completed("cancelled"), ServerError, "An unknown error occurred", "cancelled"),
        (completed("failed"), ServerError, "An unknown error occurred", "failed"),
        (completed("failed", error={"code": "x", "message": "m"}), ServerError, "x: m", "failed"),
    ],
)
def test_S10_endings_that_are_failures(last: Any, error: type[PiAIError], text: str, raw: str) -> None:
    found = stream(added(0, **message()), last, done=False)
    assert type(found.error) is error
    assert (str(found.error), found.message.raw_stop_reason, found.proven) == (text, raw, True)


@pytest.mark.parametrize("status", [None, "completed", "in_progress", "queued"])
def test_endings_that_are_good(status: str | None) -> None:
    found = stream(text(0, "x"), completed(status), done=False)
    assert (found.message.stop_reason, found.message.raw_stop_reason) == ("stop", status)


def test_S11_a_call_that_never_ended_is_not_run() -> None:
    found = stream(added(0, **call("")), piece(0, '{"a":1}'))
    assert isinstance(found.error, ProtocolError)
    assert str(found.error) == "OpenAI Responses stream completed with an unfinished tool call: f (call_1|fc_1)"
    assert "toolcall_end" not in found.types
    assert found.message.tool_calls[0].arguments_error


@pytest.mark.parametrize(("arguments", "accepted"), [('{"a":1}', True), ("", True), ('{"a"', False), ("[]", False)])
def test_a_call_whose_arguments_are_said_to_be_complete_may_be_run(arguments: str, accepted: bool) -> None:
    told = event("function_call_arguments.done", output_index=0, arguments=arguments)
    found = stream(added(0, **call("")), told)
    assert (found.error is None) is accepted
    nameless = stream(added(0, type="function_call", call_id="c"), told)
    assert nameless.error is not None


def test_S12_a_failure_keeps_what_it_has_cost() -> None:
    usage = {"input_tokens": 12, "output_tokens": 7}
    error = {"code": "rate_limit_exceeded", "message": "Too fast"}
    found = stream(event("failed", response={"id": "r", "error": error, "usage": usage}), done=False)
    assert isinstance(found.error, RateLimited)
    assert str(found.error) == "rate_limit_exceeded: Too fast"
    assert (found.message.response_id, found.message.usage.total_tokens) == ("r", 19)
    assert found.message.raw_stop_reason == "failed"


@pytest.mark.parametrize(
    ("response", "text"),
    [
        ({"error": {"message": "m"}}, "unknown: m"),
        ({"error": {"code": "c"}}, "c: no message"),
        ({"error": None, "incomplete_details": {"reason": "max_output_tokens"}}, "incomplete: max_output_tokens"),
        ({}, "Unknown error (no error details in response)"),
        (None, "Unknown error (no error details in response)"),
    ],
)
def test_a_failure_is_told_as_well_as_it_can(response: Any, text: str) -> None:
    assert str(stream(event("failed", response=response), done=False).error) == text


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        ({"type": "error", "code": "server_error", "message": "Boom"}, "server_error: Boom"),
        ({"type": "error", "error": {"code": "server_error", "message": "Boom"}}, "server_error: Boom"),
        ({"type": "error", "code": None, "message": "Boom"}, "Boom"),
        ({"type": "error", "code": "server_error"}, "server_error"),
        ({"type": "error", "code": None, "param": None}, '{"type":"error","code":null,"param":null}'),
        ({"error": {"message": "Boom", "code": 500}}, "500: Boom"),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_S13_an_error_is_told_with_its_code(payload: Any, text: str, named: bool) -> None:
    line = f"{'event: error' if named else 'id: 1'}\ndata: {json.dumps(payload)}\n\n"
    found = read(ADAPTER, model(), [line.encode()], Context())
    assert isinstance(found.error, ServerError)
    assert str(found.error) == text


def test_an_error_event_that_is_no_json_is_quoted_and_other_events_are_refused_F11() -> None:
    assert str(read(ADAPTER, model(), [b"event: error\ndata: overloaded\n\n"], Context()).error) == "overloaded"
    found = read(ADAPTER, model(), [b"event: response.created\ndata: {\n\n"], Context())
    assert isinstance(found.error, ProtocolError)


def test_a_used_up_quota_is_not_tried_again_F35() -> None:
    error = {"code": "insufficient_quota", "message": "You exceeded your current quota"}
    found = stream({"type": "error", "error": error}, done=False)
    assert isinstance(found.error, QuotaExhausted)
    assert not found.error.info.retryable


@pytest.mark.parametrize("last", [(), ("[DONE]",)])
@pytest.mark.parametrize("first", [(), (added(0, **message()), text(0, "Hi"), done(0, **message("Hi")))])
def test_S14_bytes_that_end_are_no_end_of_the_answer(first: Any, last: Any) -> None:
    found = stream(*first, *last, done=False)
    assert isinstance(found.error, Truncated)
    assert str(found.error) == "OpenAI Responses stream ended before a terminal response event"
    assert found.error.info.retryable
    assert not found.proven


def test_the_end_of_the_bytes_is_the_end_where_that_is_declared() -> None:
    found = stream(text(0, "Hi"), done=False, compat={"completionProof": "eof"})
    assert (found.message.stop_reason, found.message.completion) == ("stop", "assumed")
    cut = stream(added(0, **call("")), piece(0, "{}"), done=False, compat={"completionProof": "eof"})
    assert cut.error is not None


def test_after_the_end_nothing_is_read() -> None:
    found = stream(text(0, "Hi"), completed(), text(0, "more"), "[DONE]", "{", done=False)
    assert (found.message.text, found.error) == ("Hi", None)


# ── what else a response tells ───────────────────────────────────────────────────────────────────────────────


def test_S15_what_thoughts_are_encrypted_to_may_come_at_the_end() -> None:
    late = [thought("Hm", encrypted_content="late"), thought(told="rs_2"), {"type": "message"}, None, thought(told="")]
    found = stream(done(0, **thought("Hm")), done(1, **thought(told="rs_2")), completed(output=late), done=False)
    first, second = (json.loads(block.thinking_signature or "") for block in found.message.content)
    assert first == thought("Hm", encrypted_content="late")
    assert "encrypted_content" not in second
    kept = stream(done(0, **thought(encrypted_content="own")), completed(output=late), done=False)
    assert json.loads(kept.message.content[0].thinking_signature or "")["encrypted_content"] == "own"


def usage(**fields: Any) -> dict[str, Any]:
    return completed(usage=fields)


def test_U1_cached_tokens_are_not_counted_twice() -> None:
    last = usage(
        input_tokens=1000,
        input_tokens_details={"cached_tokens": 600, "cache_write_tokens": 100},
        output_tokens=50,
        output_tokens_details={"reasoning_tokens": 30},
        total_tokens=1050,
    )
    counted = stream(last, done=False).message.usage
    assert (counted.input, counted.cache_read, counted.cache_write) == (300, 600, 100)
    assert (counted.output, counted.reasoning, counted.total_tokens) == (50, 30, 1050)


@pytest.mark.parametrize("odd", [{}, {"input_tokens": -5, "output_tokens": "x", "input_tokens_details": []}, None, [5]])
def test_a_usage_that_makes_no_sense_is_none(odd: Any) -> None:
    counted = stream(completed(usage=odd), done=False).message.usage
    assert (counted.total_tokens, counted.cost.total, counted.cost.total_from_provider) == (0, 0, False)
    assert stream(usage(input_tokens=5, output_tokens=2), done=False).message.usage.total_tokens == 7


PRICES = ModelCost(input=1.0, output=10.0)
COUNTS = {"input_tokens": 1_000_000, "output_tokens": 100_000}


@pytest.mark.parametrize(
    ("name", "asked", "told", "factor"),
    [
        ("gpt-test", None, None, 1),
        ("gpt-test", "flex", None, 0.5),
        ("gpt-test", "flex", "default", 1),  # U2
        ("gpt-test", None, "priority", 2),
        ("gpt-test", None, "fast", 2),
        ("gpt-5.5", None, "priority", 2.5),
        ("gpt-5.5", None, "flex", 0.5),
        ("gpt-5.5-pro", None, "priority", 2),
        ("gpt-test", "auto", "scale", 1),
    ],
)
def test_U2_the_price_is_that_of_the_tier_that_was_given(name: str, asked: Any, told: Any, factor: float) -> None:
    priced = model(id=name, cost=PRICES)
    builder = MessageBuilder(priced)
    parser = ADAPTER.parser(priced, OpenAIResponsesOptions(service_tier=asked), builder, Context())
    parser.feed(completed(usage=COUNTS, service_tier=told))
    cost = builder.message.usage.cost
    assert (cost.input, cost.output, cost.total) == (factor, factor, 2 * factor)


def test_the_prices_of_tiers_are_data_of_the_model() -> None:
    priced = stream(
        completed(usage=COUNTS, service_tier="x"), done=False, cost=PRICES, compat={"serviceTierPrices": {"x": 3}}
    )
    assert priced.message.usage.cost.total == 6


def test_openrouters_bill_counts_K5() -> None:
    bill = {**COUNTS, "cost": 0.5, "is_byok": False}
    assert stream(completed(usage=bill), done=False, provider="openrouter").message.usage.cost.total == 0.5


def test_the_model_is_told_only_where_it_is_another_one() -> None:
    same = event("created", response={"model": "gpt-test"})
    assert stream(same).message.response_model is None
    assert stream(same, completed(model="gpt-real"), done=False).message.response_model == "gpt-real"


def test_an_answer_that_was_not_streamed_is_read_F27() -> None:
    whole = {
        "id": "r",
        "object": "response",
        "status": "completed",
        "error": None,
        "output": [thought("Hm"), message("Hi"), call('{"a":1}'), {"type": "web_search_call"}, None],
        "usage": {"input_tokens": 1, "output_tokens": 2},
    }
    builder = MessageBuilder(model())
    parser = ADAPTER.parser(model(), OpenAIResponsesOptions(), builder, Context())
    events = [*parser.feed(whole), *parser.close()]
    check_grammar(events, ended=True)
    found = builder.message
    assert (found.thinking, found.text, found.stop_reason, found.response_id) == ("Hm", "Hi", "toolUse", "r")
    assert found.usage.total_tokens == 3


def test_a_proxy_may_send_only_the_end_of_the_stream() -> None:
    assert stream(completed(output=[message("Hi")]), done=False).message.text == "Hi"
    assert stream(text(0, "Ho"), completed(output=[message("Hi")]), done=False).message.text == "Ho"


def test_a_failed_response_that_was_not_streamed_is_a_failure() -> None:
    whole = {"status": "failed", "output": [], "error": {"code": "server_error", "message": "x"}}
    parser = ADAPTER.parser(model(), OpenAIResponsesOptions(), MessageBuilder(model()), Context())
    parser.feed(whole)
    with pytest.raises(ServerError, match="server_error: x"):
        parser.close()


# ── whatever comes ───────────────────────────────────────────────────────────────────────────────────────────

PIECES = st.lists(st.text("ab{é\n", min_size=1, max_size=4), max_size=4)


@st.composite
def answers(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[Any]]:
    """Items, their events interleaved, and what the content is to be; places, ids and whole texts may be missing."""
    with_places, with_ids, whole = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    with_ids = with_ids or not with_places  # something has to tell them apart
    streams: list[Iterator[dict[str, Any]]] = []
    wanted: list[Any] = []
    for place, (kind, pieces) in enumerate(draw(st.lists(st.tuples(st.sampled_from("tmc"), PIECES), max_size=4))):
        names: dict[str, Any] = {"output_index": place} if with_places else {}
        told = {"item_id": f"i{place}"} if with_ids else {}
        said = "".join(pieces)
        item: dict[str, Any] = {"id": f"i{place}"} if with_ids else {}
        if kind == "t":
            item |= {"type": "reasoning"}
            end = {**item, "summary": [{"text": said}] if whole else []}
            wanted.append(said)
        elif kind == "m":
            item |= {"type": "message"}
            end = {**item, "content": [{"type": "output_text", "text": said}] if whole else []}
            wanted.append(said)
        else:
            said, pieces = json.dumps({"x": said}), [*json.dumps({"x": said})]
            item |= {"type": "function_call", "call_id": f"c{place}", "name": "f"}
            end = {**item, "arguments": said if whole else ""}
            wanted.append(json.loads(said))
        delta = {
            "t": "reasoning_summary_text.delta",
            "m": "output_text.delta",
            "c": "function_call_arguments.delta",
        }[kind]
        streams.append(
            iter(
                [
                    {"type": "response.output_item.added", **names, "item": item},
                    *({"type": f"response.{delta}", **names, **told, "delta": piece} for piece in pieces),
                    {"type": "response.output_item.done", **names, "item": end},
                ]
            )
        )
    events: list[dict[str, Any]] = []
    started = [next(stream) for stream in streams]  # blocks are in the order in which they begin
    events += started
    open_ = list(range(len(streams)))
    while open_:
        which = draw(st.sampled_from(open_))
        following = next(streams[which], None)
        if following is None:
            open_.remove(which)
        else:
            events.append(following)
    return events, wanted


@settings(max_examples=150, deadline=None)
@given(answers())
def test_items_come_out_as_they_are_however_they_interleave(made: tuple[list[dict[str, Any]], list[Any]]) -> None:
    events, wanted = made
    found = stream(*events)
    assert found.error is None
    content = [
        getattr(b, "thinking", None) or getattr(b, "text", None) or getattr(b, "arguments", "")
        for b in found.message.content
    ]
    assert content == wanted


WORDS = st.sampled_from(
    [
        *(
            "response.output_item.added",
            "response.output_item.done",
            "response.output_text.delta",
            "error",
            "response.failed",
        ),
        *("response.function_call_arguments.delta", "response.function_call_arguments.done", "response.completed"),
        *("response.custom_tool_call_input.delta", "response.custom_tool_call_input.done", "response.refusal.delta"),
        *("response.reasoning_summary_text.delta", "response.reasoning_summary_part.done", "response.incomplete"),
        *("message", "reasoning", "function_call", "custom_tool_call", "completed", "incomplete", "a", "{", ""),
    ]
)
KEYS = st.sampled_from(
    [
        *("type", "item", "delta", "output_index", "item_id", "id", "response", "output", "content", "summary", "text"),
        *("status", "arguments", "input", "call_id", "name", "error", "incomplete_details", "reason", "usage"),
        *("encrypted_content", "service_tier", "input_tokens_details", "refusal", "model"),
    ]
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2) | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=12,
)
EVENT = st.builds(lambda kind, fields: {**fields, "type": kind}, WORDS, st.dictionaries(KEYS, ANYTHING, max_size=5))


@settings(max_examples=150, deadline=None)
@given(st.lists(EVENT | st.dictionaries(KEYS, ANYTHING, max_size=5), max_size=8))
def test_no_json_breaks_the_parser_or_the_order_of_events(events: list[dict[str, Any]]) -> None:
    stream(*events)  # checks the grammar; anything but a PiAIError comes out
