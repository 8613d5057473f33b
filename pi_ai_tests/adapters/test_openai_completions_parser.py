"""The answer of the chat completions API: as pi-ai reads it (goldens), as real servers send it, and the spec's rows."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_ai.adapters.openai_completions import OpenAICompletions, OpenAICompletionsOptions
from pi_ai.builder import MessageBuilder
from pi_ai.failures import http_failure
from pi_ai.types import AssistantMessage, Context, Model, ThinkingContent, Tool
from pi_ai_tests.adapters.differences import DIFFERENCES
from pi_ai_tests.adapters.golden import answer_differences, cases, check, of_parts, streamed
from pi_ai_tests.adapters.reading import Read, check_grammar, pieces, read

API = "openai-completions"
ADAPTER = OpenAICompletions()
OPTIONS = OpenAICompletionsOptions()


def model(**fields: Any) -> Model:
    return Model(**{"id": "gpt-test", "api": API, "provider": "p", "base_url": "https://x.example/v1", **fields})


def stream(*chunks: Any, done: bool = True, **fields: Any) -> Read:
    """Read chunks: dicts are chunks, strings raw data."""
    data = [chunk if isinstance(chunk, str) else json.dumps(chunk, ensure_ascii=False) for chunk in chunks]
    body = "".join(f"data: {line}\n\n" for line in [*data, *(["[DONE]"] if done else [])])
    context = fields.pop("context", None)
    return read(ADAPTER, model(**fields), [body.encode()], context)


def chunk(finish: str | None = None, *, index: int = 0, **delta: Any) -> dict[str, Any]:
    return {"id": "c1", "choices": [{"index": index, "delta": delta, "finish_reason": finish}]}


def call(index: int | None = None, told: str | None = None, name: str | None = None, arguments: Any = None) -> Any:
    """A chunk with a piece of a tool call; what is None is left out.

    :param told: the id.
    """
    function = {key: value for key, value in {"name": name, "arguments": arguments}.items() if value is not None}
    fields = {"index": index, "id": told, "function": function}
    return chunk(tool_calls=[{key: value for key, value in fields.items() if value is not None}])


STOP = chunk("stop")


# ── as pi-ai reads it ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("golden", [case for case in cases(API) if streamed(case.values[0])])
def test_the_answer_is_read_as_pi_ai_reads_it(golden: dict[str, Any]) -> None:
    known = of_parts(DIFFERENCES[API].get(golden["name"]), "events", "message")
    check(answer_differences(ADAPTER, golden), known, golden["name"])


def test_every_entry_of_the_table_is_about_a_golden() -> None:
    names = {case.values[0]["name"] for case in cases(API)}
    assert DIFFERENCES[API].keys() <= names


# ── content (S1-S4, S14, S16-S18) ────────────────────────────────────────────────────────────────────────────


def test_S1_azures_first_chunk_says_nothing_and_the_id_comes_later() -> None:
    first = {"id": "", "model": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]}
    usage = {"id": "c2", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 1}}
    found = stream(first, {**chunk(content="Hi"), "id": "c2", "model": "gpt-real"}, STOP, usage)
    assert found.types == ["start", "text_start", "text_delta", "text_end", "done"]
    assert (found.message.response_id, found.message.response_model) == ("c2", "gpt-real")
    assert found.message.usage.input == 5


def test_the_model_is_told_only_where_it_is_another_one() -> None:
    same = {"model": "gpt-test"}
    assert stream({**chunk(content="a"), **same}, {**STOP, **same}).message.response_model is None
    assert stream({**chunk(content="a"), **same}, {**STOP, "model": "other"}).message.response_model == "other"
    assert stream({"model": "other", "choices": []}, {**STOP, "id": "late"}).message.response_id == "late"


def test_S2_two_copies_of_a_thought_are_one() -> None:
    found = stream(chunk(reasoning="a", reasoning_content="a"), STOP)
    assert found.deltas == ["a"]
    assert found.message.content == [ThinkingContent("a", "reasoning_content")]


def test_a_thought_that_is_no_text_is_looked_for_in_the_next_field() -> None:
    found = stream(chunk(reasoning_content={"x": 1}, reasoning="", reasoning_text="a"), STOP)
    assert found.message.content == [ThinkingContent("a", "reasoning_text")]


def test_S3_a_thought_comes_before_the_text_of_the_same_delta() -> None:
    found = stream(chunk(content="Say", reasoning="Think"), STOP)
    assert [block.type for block in found.message.content] == ["thinking", "text"]


def test_S4_text_goes_on_in_its_block_after_a_call() -> None:
    found = stream(chunk(content="a"), call(0, "1", "f", "{}"), chunk(content="b"), STOP)
    assert found.types[1:] == [
        *("text_start", "text_delta", "toolcall_start", "toolcall_delta", "text_delta"),
        *("text_end", "toolcall_end", "done"),
    ]
    assert found.message.text == "ab"


def test_S14_a_refusal_is_the_text_and_is_marked() -> None:
    found = stream(chunk(refusal="I "), chunk(refusal="cannot"), STOP)
    assert found.message.text == "I cannot"
    assert found.message.stop_reason == "stop"
    assert [note.type for note in found.message.diagnostics or ()] == ["refusal"]


def test_content_may_be_a_list_of_parts() -> None:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "T"}, {"type": "x"}]}
    parts = [thought, {"type": "thinking", "thinking": "t"}, {"type": "text", "text": "A"}, {"type": "reference"}, 5]
    found = stream(chunk(content=parts), chunk(content=[{"type": "text", "text": ""}]), STOP)
    assert (found.message.thinking, found.message.text) == ("Tt", "A")
    assert found.message.content[0] == ThinkingContent("Tt")
    assert [(note.type, note.details) for note in found.message.diagnostics or ()] == [
        ("ignored", {"content_parts": 2})
    ]


def test_S16_what_other_readers_take_for_line_ends_is_text() -> None:
    text = "a\u2028b\u2029c\x85d"
    assert stream(chunk(content=text), STOP).message.text == text


def test_S17_comments_and_events_without_data_mean_nothing() -> None:
    body = (
        b": OPENROUTER PROCESSING\n\nevent: ping\n\nid: 1\nretry: 5\n\ndata:\n\ndata: %s\n\n"
        % json.dumps(STOP).encode()
    )
    found = read(ADAPTER, model(), [body])
    assert found.error is None
    assert found.types == ["start", "done"]


@pytest.mark.parametrize(
    "odd", ["null", "5", '"x"', "[]", "{}", '{"choices":null}', '{"choices":[]}', '{"choices":[null]}']
)
def test_a_payload_without_a_choice_means_nothing(odd: str) -> None:
    assert stream(odd, chunk(content="Hi"), odd, STOP).message.text == "Hi"


def test_of_several_choices_only_choice_0_is_read() -> None:
    other = {"index": 1, "delta": {"content": "no"}, "finish_reason": "length"}
    found = stream(
        {"choices": [other]}, {"choices": [other, chunk(content="yes")["choices"][0]]}, STOP, {"choices": [other]}
    )
    assert (found.message.text, found.message.stop_reason) == ("yes", "stop")


DETAILS = [
    {"type": "reasoning.text", "text": "a", "index": 0},
    {"type": "reasoning.text", "text": "b", "signature": "c2ln", "format": None},
    {"type": "reasoning.encrypted", "data": "ZW5j", "id": "r"},
]
MERGED = [{"type": "reasoning.text", "text": "ab", "index": 0, "signature": "c2ln"}, DETAILS[2]]


def test_S18_details_are_kept_as_one_list_beside_the_readable_thought() -> None:
    found = stream(
        chunk(reasoning="a", reasoning_details=DETAILS[:1]), chunk(reasoning="b", reasoning_details=DETAILS[1:]), STOP
    )
    assert found.deltas == ["a", "b"]
    assert found.message.content[0].thinking == "ab"
    assert json.loads(found.message.content[0].thinking_signature) == MERGED


def test_S18_details_without_a_readable_copy_are_shown() -> None:
    found = stream(*(chunk(reasoning_details=[detail]) for detail in DETAILS), STOP)
    assert found.deltas == ["a", "b"]
    summary = {"type": "reasoning.summary", "summary": "S"}
    assert stream(chunk(reasoning_details=[summary]), chunk(reasoning_details=[summary]), STOP).message.thinking == "SS"


@pytest.mark.parametrize("details", ["x", 5, [5], [{}], [{"type": "reasoning.text"}], [{**DETAILS[0], "id": 5}]])
def test_S18_details_that_cannot_be_sent_back_are_left_out(details: Any) -> None:
    assert stream(chunk(reasoning_details=details), STOP).message.content == []


def test_S18_details_are_kept_when_the_provider_reports_an_error() -> None:
    found = stream(chunk(reasoning_details=DETAILS), {"error": "x"})
    assert json.loads(found.message.content[0].thinking_signature) == MERGED


def think(*texts: str) -> AssistantMessage:
    found = stream(*(chunk(content=text) for text in texts), STOP, compat={"parseThinkTags": True})
    return found.message


@pytest.mark.parametrize(
    ("text", "thinking", "answer"),
    [
        ("<think>a</think>b", "a", "b"),
        (" \n<think>a\n</think>\n\r\n b", "a\n", " b"),
        ("<think>a", "a", ""),
        ("<think>a</thin", "a</thin", ""),
        ("a<think>b</think>", "", "a<think>b</think>"),
        ("  a", "", "  a"),
        ("<thin", "", "<thin"),
        ("<think></think>b<think>c", "", "b<think>c"),
        ("<think>a < b </ c</think></think>", "a < b </ c", "</think>"),
        (" ", "", " "),
    ],
)
def test_thoughts_in_tags_are_told_apart_in_any_pieces(text: str, thinking: str, answer: str) -> None:
    """Section 9.4."""
    for size in range(1, len(text) + 1):
        message = think(*(text[at : at + size] for at in range(0, len(text), size)))
        assert (message.thinking, message.text) == (thinking, answer)
        assert all(block.thinking_signature is None for block in message.content if isinstance(block, ThinkingContent))


def test_tags_are_text_unless_they_are_to_be_parsed() -> None:
    assert stream(chunk(content="<think>a</think>"), STOP).message.text == "<think>a</think>"


# ── tool calls (S5-S10) ──────────────────────────────────────────────────────────────────────────────────────


def calls_of(found: Read) -> list[tuple[str, str, Any]]:
    return [(block.id, block.name, block.arguments) for block in found.message.tool_calls]


def test_S5_parallel_calls_may_interleave() -> None:
    pieces_ = [(0, '{"a"'), (1, '{"b"'), (0, ":1}"), (1, ":2}")]
    found = stream(call(0, "x", "f"), call(1, "y", "g"), *(call(i, arguments=text) for i, text in pieces_), STOP)
    assert calls_of(found) == [("x", "f", {"a": 1}), ("y", "g", {"b": 2})]


def test_S6_two_calls_that_are_both_numbered_0_are_two() -> None:
    found = stream(call(0, "x", "f", "{}"), call(0, "y", "f", '{"a":'), call(0, arguments="1}"), STOP)
    assert calls_of(found) == [("x", "f", {}), ("y", "f", {"a": 1})]


def test_S6_calls_that_are_numbered_0_are_found_by_id_when_they_interleave() -> None:
    found = stream(
        call(0, "x", "f"), call(0, "y", "g"), call(0, "x", arguments='{"a":1}'), call(0, "y", arguments="{}"), STOP
    )
    assert calls_of(found) == [("x", "f", {"a": 1}), ("y", "g", {})]


def test_S7_an_id_and_a_name_that_are_repeated_are_one_call() -> None:
    found = stream(call(0, "x", "f", "{"), call(0, "x", "f", "}"), call(0, "other id, no name", arguments=" "), STOP)
    assert calls_of(found) == [("x", "f", {})]


def test_S8_a_call_without_an_id_gets_one() -> None:
    found = stream(call(0, "", "f", "{}"), call(1, None, "g", "{}"), STOP)
    one, other = (block.id for block in found.message.tool_calls)
    assert re.fullmatch("call_[a-z0-9]{12}", one)
    assert one != other


def test_S8_an_id_that_comes_late_is_the_calls_id() -> None:
    assert calls_of(stream(call(0, None, "f"), call(0, "x", arguments="{}"), STOP)) == [("x", "f", {})]


def test_F81_calls_that_share_an_id_are_told_apart() -> None:
    found = stream(
        call(0, "x", "f", '{"a":'),
        call(1, "x", "g", '{"b":'),
        call(0, "x", arguments="1}"),
        call(1, "x", arguments="2}"),
        STOP,
    )
    assert calls_of(found) == [("x", "f", {"a": 1}), ("x_2", "g", {"b": 2})]


def test_calls_without_numbers_follow_each_other() -> None:
    found = stream(call(None, None, "f", "{"), call(None, None, None, "}"), call(None, None, "g", "{}"), STOP)
    assert [(name, arguments) for _, name, arguments in calls_of(found)] == [("f", {}), ("g", {})]


def test_a_name_that_comes_late_is_the_calls_name_and_names_are_never_joined() -> None:
    found = stream(call(0, "x"), call(0, None, "f"), call(0, None, "g", "{}"), STOP)
    assert calls_of(found) == [("x", "f", {})]


def test_arguments_may_be_an_object() -> None:
    found = stream(call(0, "x", "f", {"a": "ä"}), STOP)
    assert found.deltas == ['{"a":"ä"}']
    assert calls_of(found) == [("x", "f", {"a": "ä"})]


def test_the_old_function_call_is_a_call() -> None:
    old = [chunk(function_call={"name": "f", "arguments": "{"}), chunk(function_call={"arguments": "}"})]
    found = stream(*old, chunk("function_call"))
    assert [(block.name, block.arguments) for block in found.message.tool_calls] == [("f", {})]
    assert found.message.stop_reason == "toolUse"


def test_S9_arguments_that_the_limit_cut_off_are_never_arguments() -> None:
    found = stream(call(0, "x", "f", '{"a":'), chunk("length"))
    block = found.message.tool_calls[0]
    assert found.message.stop_reason == "length"
    assert block.arguments == {}
    assert (block.arguments_error or "").endswith('Received arguments:\n{"a":')


def test_S10_stop_after_a_call_means_tool_use_and_length_stays() -> None:
    assert stream(call(0, "x", "f", "{}"), STOP).message.stop_reason == "toolUse"
    assert stream(call(0, "x", "f", "{}"), chunk("length")).message.stop_reason == "length"


SQL = Context(
    [],
    tools=[
        Tool(
            "sql",
            "Run.",
            {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
            constrained_sampling={"type": "grammar", "variants": {"openai_regex": ".+"}},
        )
    ],
)


def custom(name: str | None, text: str) -> dict[str, Any]:
    return chunk(tool_calls=[{"index": 0, "id": "x", "type": "custom", "custom": {"name": name, "input": text}}])


def test_a_call_with_plain_text_becomes_json_piece_by_piece() -> None:
    grammars = {"supportsOpenAIGrammarTools": True}
    found = stream(custom("sql", 'SELECT "'), custom(None, 'a"\n'), chunk("tool_calls"), context=SQL, compat=grammars)
    assert "".join(found.deltas) == r'{"query":"SELECT \"a\"\n"}'
    assert calls_of(found) == [("x", "sql", {"query": 'SELECT "a"\n'})]


def test_plain_text_that_the_limit_cut_off_does_not_look_whole() -> None:
    found = stream(
        custom("sql", "DROP TABLE a"), chunk("length"), context=SQL, compat={"supportsOpenAIGrammarTools": True}
    )
    assert calls_of(found) == [("x", "sql", {})]
    assert found.message.tool_calls[0].arguments_error


# ── the end (S11-S13, S19) ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("done", [True, False])
def test_S11_an_answer_without_a_finish_reason_is_cut_off(done: bool) -> None:
    found = stream(chunk(content="Hi"), call(0, "x", "f", "{}"), done=done)
    assert found.error is not None
    info = found.error.info
    assert found.error.text == "Stream ended without finish_reason"
    assert (info.kind, info.phase, info.retryable, info.provider) == ("truncated", "end", True, "p")
    assert found.types[-1] == "toolcall_delta"
    assert found.message.text == "Hi"
    assert found.message.tool_calls[0].arguments_error


@pytest.mark.parametrize("compat", [{"supportsFinishReason": False}, {"completion_proof": "eof"}])
def test_S12_a_server_may_be_declared_to_send_no_finish_reason(compat: dict[str, Any]) -> None:
    found = stream(chunk(content="Hi"), done=False, compat=compat)
    assert (found.message.stop_reason, found.message.completion) == ("stop", "assumed")
    found = stream(call(0, "x", "f", "{}"), compat=compat)
    assert (found.message.stop_reason, found.message.completion) == ("toolUse", None)
    assert found.message.raw_stop_reason is None


ERROR = {"code": 502, "message": "x", "metadata": {"raw": "y"}}


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        ({"error": ERROR}, "502: x\ny"),  # S13
        ({"error": ERROR, "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]}, "502: x\ny"),
        ({"error": "text"}, "text"),
        ({"object": "error", "message": "m", "code": 400}, "400: m"),
        ({"type": "error", "message": "m", "code": 400}, "400: m"),
        ({"x_groq": {"error": "text"}}, "text"),
        ({"base_resp": {"status_code": 1004, "status_msg": "m"}}, "1004: m"),
    ],
)
def test_S13_an_error_in_the_stream_ends_it_and_keeps_what_came(payload: Any, text: str) -> None:
    found = stream(chunk(content="Hi"), payload, chunk(content="no"), STOP)
    assert str(found.error) == text
    assert found.message.text == "Hi"
    assert found.types == ["start", "text_start", "text_delta"]


@pytest.mark.parametrize("payload", [{"error": None}, {"x_groq": {"id": "r"}}, {"base_resp": {"status_code": 0}}])
def test_what_only_looks_like_an_error_is_none(payload: dict[str, Any]) -> None:
    assert stream({**chunk(content="Hi"), **payload}, STOP).message.text == "Hi"


@pytest.mark.parametrize(
    ("data", "text"), [('{"error":{"message":"Boom"}}', "Boom"), ('{"message":"m"}', "m"), ("oops", "oops")]
)
def test_an_event_that_is_called_error_is_one(data: str, text: str) -> None:
    found = read(ADAPTER, model(), [f"event: error\ndata: {data}\n\n".encode()])
    assert str(found.error) == text
    assert found.types == []


def test_F31_an_error_in_the_stream_has_the_kind_of_its_http_form() -> None:
    found = stream({"error": {"code": 429, "message": "slow down"}})
    assert found.error is not None
    assert (found.error.info.kind, found.error.info.status) == ("rate_limited", 429)


def test_usage_that_comes_with_an_error_is_kept_E14() -> None:
    found = stream(chunk(content="Hi"), {"error": "x", "usage": {"prompt_tokens": 5, "completion_tokens": 1}})
    assert found.message.usage.total_tokens == 6


@pytest.mark.parametrize("bad", ['{"a":', "{oops}", '{"a":NaN}', "[" * 10_000])
def test_F11_an_event_that_is_not_json_ends_the_stream(bad: str) -> None:
    found = stream(chunk(content="Hi"), bad, STOP)
    assert found.error is not None
    assert found.error.text == "Could not parse provider stream event"
    assert found.error.info.kind == "protocol"
    assert repr(bad[:200]) in found.error.info.message
    assert found.message.text == "Hi"


def test_F12_lone_surrogates_and_bytes_that_are_no_text_never_raise() -> None:
    escaped = r'{"choices":[{"index":0,"delta":{"content":"a\ud83d"}}]}'
    assert stream(escaped, chunk(content="b"), STOP).message.text == "a\ud83db"
    broken = json.dumps(chunk(content="ab")).encode().replace(b"ab", b"a\xffb")
    body = b"data: %s\n\ndata: %s\n\n" % (broken, json.dumps(STOP).encode())
    assert read(ADAPTER, model(), [body]).message.text == "a\ufffdb"


@pytest.mark.parametrize(
    ("finish", "kind", "retryable"),
    [
        ("weird", "protocol", False),  # S19
        ("content_filter", "content_filter", False),
        ("sensitive", "content_filter", False),
        ("network_error", "server", True),
        ("insufficient_system_resource", "overloaded", True),
        ("model_context_window_exceeded", "context_overflow", False),
    ],
)
def test_S19_a_finish_reason_that_is_a_failure_ends_in_an_error(finish: str, kind: str, retryable: bool) -> None:
    found = stream(chunk(content="Hi"), call(0, "x", "f", "{}"), chunk(finish), chunk("stop", content="no"))
    assert found.error is not None
    assert found.error.text == f"Provider finish_reason: {finish}"
    assert (found.error.info.kind, found.error.info.retryable) == (kind, retryable)
    assert found.error.info.provider_code == finish
    assert found.message.raw_stop_reason == finish
    assert found.message.text == "Hi"
    assert found.types[-1] == "text_end"
    assert found.message.tool_calls[0].arguments_error  # F19: may be cut off, so it must not be run


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("stop", "stop end eos eos_token stop_sequence end_turn complete STOP"),
        ("length", "length max_tokens model_length MAX_TOKENS"),
        ("toolUse", "tool_calls function_call tool_use tool_call"),
    ],
)
def test_the_finish_reasons_of_other_servers_are_understood(reason: str, words: str) -> None:
    for word in words.split():
        message = stream(chunk(content="Hi"), chunk(word)).message
        assert (message.stop_reason, message.raw_stop_reason) == (reason, word)


def test_F21_F24_the_answer_is_whole_once_its_finish_reason_was_seen() -> None:
    found = stream(chunk("stop", content="Hi"), done=False)
    assert found.error is None
    assert found.proven
    assert found.message.completion is None


def test_F28_F29_nothing_is_an_error_and_an_empty_answer_is_marked() -> None:
    for nothing in (b"", b"data: [DONE]\n\n", b": ping\n\n"):
        assert str(read(ADAPTER, model(), [nothing]).error) == "Stream ended without finish_reason"
    message = stream(STOP).message
    assert message.content == []
    assert [note.type for note in message.diagnostics or ()] == ["empty"]


def test_what_comes_after_the_end_is_not_read() -> None:
    assert stream(chunk("stop", content="Hi"), "[DONE]", chunk(content="late"), {"error": "late"}).message.text == "Hi"


def test_the_start_is_held_back_until_there_is_content_D10() -> None:
    builder = MessageBuilder(model())
    parser = ADAPTER.parser(model(), OPTIONS, builder, Context())
    assert parser.feed(chunk(role="assistant", content="")) == []
    assert [event.type for event in parser.feed(chunk(content="Hi"))] == ["start", "text_start", "text_delta"]


def test_a_whole_answer_is_read_as_one_delta() -> None:
    """Section 9.1, F27."""
    message = {
        "role": "assistant",
        "reasoning_content": "Hm",
        "content": "Hi",
        "tool_calls": [
            {"id": "x", "type": "function", "function": {"name": "f", "arguments": "{}"}},
            {"id": "y", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
        ],
    }
    choices = [{"index": 0, "message": message, "finish_reason": "tool_calls"}]
    builder = MessageBuilder(model())
    parser = ADAPTER.parser(model(), OPTIONS, builder, Context())
    payload = {"id": "c", "object": "chat.completion", "choices": choices, "usage": {"prompt_tokens": 1}}
    events = [*parser.feed(payload), *parser.close()]
    check_grammar(events, ended=True)
    assert [block.type for block in builder.message.content] == ["thinking", "text", "toolCall", "toolCall"]
    assert [block.id for block in builder.message.tool_calls] == ["x", "y"]
    assert builder.message.usage.input == 1


# ── usage (S15, U1-U5) ───────────────────────────────────────────────────────────────────────────────────────


def usage(**raw: Any) -> Any:
    return stream(chunk(content="Hi"), {**STOP, "usage": raw}).message.usage


def details(**fields: int) -> dict[str, Any]:
    return {"prompt_tokens_details": fields}


def reasoned(tokens: int) -> dict[str, Any]:
    return {"completion_tokens_details": {"reasoning_tokens": tokens}}


@pytest.mark.parametrize("place", ["choice", "x_groq"])
def test_S15_usage_may_be_hidden(place: str) -> None:
    last = chunk("stop")
    (last["choices"][0] if place == "choice" else last.setdefault("x_groq", {}))["usage"] = {"prompt_tokens": 7}
    assert stream(chunk(content="Hi"), last).message.usage.input == 7


def test_U1_cached_tokens_are_not_input() -> None:
    found = usage(prompt_tokens=100, completion_tokens=20, **details(cached_tokens=60))
    assert (found.input, found.cache_read, found.output, found.total_tokens) == (40, 60, 20, 120)


def test_U2_thoughts_that_the_total_counts_beside_the_completion_are_output() -> None:
    assert usage(prompt_tokens=10_120, completion_tokens=1499, total_tokens=14_428, **reasoned(2809)).output == 4308


def test_U3_thoughts_are_a_part_of_the_completion() -> None:
    found = usage(prompt_tokens=10, completion_tokens=50, total_tokens=60, **reasoned(30))
    assert (found.output, found.reasoning) == (50, 30)


def test_thoughts_are_estimated_when_they_exceed_a_completion_that_makes_up_the_total() -> None:
    """Recorded at OpenRouter, whose bill shows that 107 tokens were made, not 225."""
    found = usage(prompt_tokens=21, completion_tokens=107, total_tokens=128, **reasoned(118))
    assert (found.output, found.reasoning) == (107, 107)
    assert usage(prompt_tokens=21, completion_tokens=107, **reasoned(118)).output == 225  # no total to judge by


def test_U4_more_cached_than_asked_is_no_negative_input() -> None:
    found = usage(prompt_tokens=100, **details(cached_tokens=120))
    assert (found.input, found.cache_read) == (0, 120)


def test_U5_openrouters_bill_is_the_cost() -> None:
    bill = {"prompt_tokens": 1, "cost": 0.01, "is_byok": False}
    found = stream(chunk(content="Hi"), {**STOP, "usage": bill}, provider="openrouter").message.usage.cost
    assert (found.total, found.total_from_provider) == (0.01, True)


@pytest.mark.parametrize("raw", [{"prompt_cache_hit_tokens": 4}, {"cached_tokens": 4}, details(cached_tokens=4)])
def test_cached_tokens_have_three_names(raw: dict[str, Any]) -> None:
    assert usage(prompt_tokens=10, **raw).cache_read == 4


@pytest.mark.parametrize("odd", [None, "5", -5, 1e300, [], True])
def test_F97_counts_that_are_none_count_nothing(odd: Any) -> None:
    found = usage(prompt_tokens=odd, completion_tokens=odd, prompt_tokens_details=odd, **reasoned(odd))
    assert found.total_tokens in (0, 2)  # True is a 1 that somebody misspelled
    assert stream(chunk(content="Hi"), {**STOP, "usage": odd}).message.usage.total_tokens == 0


def test_F97_a_count_that_is_too_large_for_a_float_counts_nothing() -> None:
    found = stream(chunk(content="Hi"), '{"choices":[],"usage":{"prompt_tokens":1e999}}', STOP)
    assert found.message.usage.total_tokens == 0


def test_the_last_usage_wins() -> None:
    first = {**chunk(content="Hi"), "usage": {"prompt_tokens": 5, "completion_tokens": 1}}
    assert stream(first, {**STOP, "usage": {"prompt_tokens": 5, "completion_tokens": 9}}).message.usage.output == 9


# ── errors of HTTP, without a socket (E1, E2) ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (400, b'{"error":{"message":"bad"}}', '400: {"error":{"message":"bad"}}'),  # E1
        (413, b"", "413 status code (no body)"),  # E2
    ],
)
def test_E1_E2_a_refusal_is_told_in_the_servers_words(status: int, body: bytes, text: str) -> None:
    error = http_failure(status, {}, body, provider="p", api=API, model="m")
    assert str(error) == text


# ── whatever comes ───────────────────────────────────────────────────────────────────────────────────────────

WORDS = (
    "id model object choices usage error delta message index finish_reason content reasoning reasoning_details refusal "
    "tool_calls function_call function custom name arguments input type text x_groq base_resp thinking"
)
KEYS = st.sampled_from(WORDS.split())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | st.just("stop"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


FUNCTION = st.fixed_dictionaries(
    {}, optional={"name": st.text(max_size=2) | JSON, "arguments": st.text(max_size=3) | JSON}
)
CALL = st.fixed_dictionaries(
    {},
    optional={
        "index": st.integers(0, 2) | JSON,
        "id": st.sampled_from(["a", "b", ""]) | JSON,
        "function": FUNCTION | JSON,
        "custom": JSON,
    },
)
DETAIL = st.fixed_dictionaries(
    {"type": st.sampled_from(["reasoning.text", "reasoning.summary", "reasoning.encrypted"]) | JSON},
    optional={
        "text": st.text(max_size=2) | JSON,
        "summary": st.text(max_size=2),
        "data": st.text(max_size=2),
        "id": JSON,
    },
)
DELTA = (
    st.dictionaries(KEYS, JSON, max_size=4)
    | st.builds(lambda calls: {"tool_calls": calls}, st.lists(CALL, max_size=3))
    | st.builds(lambda some: {"reasoning_details": some}, st.lists(DETAIL, max_size=3))
)
CHUNK = st.builds(
    lambda delta, finish, usage: {"choices": [{"delta": delta, "finish_reason": finish, "usage": usage}]},
    DELTA,
    JSON,
    JSON,
)


@settings(deadline=None, max_examples=300)
@given(st.lists(CHUNK | st.dictionaries(KEYS, JSON, max_size=4), max_size=6), st.booleans())
def test_no_json_at_all_breaks_the_parser(payloads: list[dict[str, Any]], tags: bool) -> None:
    """F8, F17: it ends well or with an error of ours, and the events are in order (checked by ``read``)."""
    stream(*payloads, compat={"parseThinkTags": tags})


PIECES = st.lists(
    st.tuples(st.sampled_from(["content", "reasoning", "reasoning_content"]), st.text(min_size=1, max_size=8)),
    max_size=12,
)


@settings(deadline=None, max_examples=100)
@given(PIECES)
def test_text_and_thought_come_out_as_they_went_in(deltas: list[tuple[str, str]]) -> None:
    message = stream(*(chunk(**{field: text}) for field, text in deltas), STOP).message
    assert message.text == "".join(text for field, text in deltas if field == "content")
    assert message.thinking == "".join(text for field, text in deltas if field != "content")


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 2), max_size=30), st.randoms(use_true_random=False))
def test_any_interleaving_of_calls_gives_the_same_calls(order: list[int], by_chance: random.Random) -> None:
    texts = [json.dumps({"n": index, "order": order}) for index in range(3)]
    left = [
        list(pieces(text.encode(), sorted(by_chance.choices(range(len(text)), k=order.count(i)))))
        for i, text in enumerate(texts)
    ]
    turns = [0, 1, 2, *order, *(i for i in range(3) for _ in range(40))]
    deltas = [call(i, f"id{i}", f"f{i}") for i in range(3)]
    deltas += [call(i, arguments=left[i].pop(0).decode()) for i in turns if left[i]]
    found = stream(*deltas, chunk("tool_calls"))
    assert calls_of(found) == [(f"id{i}", f"f{i}", {"n": i, "order": order}) for i in range(3)]


def test_S18_a_signature_that_comes_by_itself_belongs_to_the_thought_before_it() -> None:
    text = {"type": "reasoning.text", "text": "a", "signature": "", "index": 0}
    signature = {"type": "reasoning.text", "signature": "c2ln", "index": 0}
    found = stream(chunk(reasoning="a", reasoning_details=[text]), chunk(reasoning_details=[signature]), STOP)
    assert json.loads(found.message.content[0].thinking_signature) == [{**text, "signature": "c2ln"}]
