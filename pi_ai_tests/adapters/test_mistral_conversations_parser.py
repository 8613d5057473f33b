"""The answer of Mistral's API: as pi-ai reads it (goldens), and the rows of the spec's table."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_ai.adapters.mistral_conversations import MistralConversations
from pi_ai.types import Model
from pi_ai_tests.adapters.differences import DIFFERENCES
from pi_ai_tests.adapters.golden import answer_differences, cases, check, of_parts, streamed
from pi_ai_tests.adapters.reading import Read, pieces, read

API = "mistral-conversations"
ADAPTER = MistralConversations()


def model(**fields: Any) -> Model:
    return Model(**{"id": "mistral-test", "api": API, "provider": "mistral", "base_url": "https://x.example", **fields})


def encoded(*chunks: Any, done: bool = True) -> bytes:
    """A body: dicts are chunks, strings raw data."""
    data = [chunk if isinstance(chunk, str) else json.dumps(chunk, ensure_ascii=False) for chunk in chunks]
    return "".join(f"data: {line}\n\n" for line in [*data, *(["[DONE]"] if done else [])]).encode()


def stream(*chunks: Any, done: bool = True) -> Read:
    return read(ADAPTER, model(), [encoded(*chunks, done=done)])


def chunk(finish: str | None = None, *, index: int = 0, **delta: Any) -> dict[str, Any]:
    return {"id": "c1", "choices": [{"index": index, "delta": delta, "finish_reason": finish}]}


def thought(*texts: str) -> dict[str, Any]:
    """A chunk with a piece of a thought."""
    return chunk(content=[{"type": "thinking", "thinking": [{"type": "text", "text": text} for text in texts]}])


def call(told: str | None = None, name: str | None = None, arguments: Any = None, **fields: Any) -> dict[str, Any]:
    """A chunk with a piece of a call.

    :param told: the id.
    """
    function = {key: value for key, value in {"name": name, "arguments": arguments}.items() if value is not None}
    return chunk(tool_calls=[{"function": function, **({} if told is None else {"id": told}), **fields}])


def ids(found: Read) -> list[str]:
    return [call.id for call in found.message.tool_calls]


STOP = chunk("stop")
CALLED = chunk("tool_calls")
USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}


# ── as pi-ai reads it ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("golden", [case for case in cases(API) if streamed(case.values[0])])
def test_the_answer_is_read_as_pi_ai_reads_it(golden: dict[str, Any]) -> None:
    known = of_parts(DIFFERENCES[API].get(golden["name"]), "events", "message")
    check(answer_differences(ADAPTER, golden), known, golden["name"])


def test_every_entry_of_the_table_is_about_a_golden() -> None:
    names = {case.values[0]["name"] for case in cases(API)}
    assert DIFFERENCES[API].keys() <= names


# ── text and thought ─────────────────────────────────────────────────────────────────────────────────────────


def test_5_nothing_said_between_two_pieces_of_a_thought_does_not_part_them() -> None:
    found = stream(thought("a"), chunk(content=""), thought("b", "c"), chunk(content="d"), STOP)
    assert (found.message.thinking, found.message.text) == ("abc", "d")
    assert found.types == [
        *("start", "thinking_start", "thinking_delta", "thinking_delta", "thinking_end"),
        *("text_start", "text_delta", "text_end", "done"),
    ]


def test_a_turn_from_text_to_thought_and_back_makes_a_block_each_time() -> None:
    found = stream(chunk(content="a"), thought("b"), chunk(content="c"), chunk(content="d"), STOP)
    assert [block.type for block in found.message.content] == ["text", "thinking", "text"]
    assert found.deltas == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        None,
        [],
        [""],
        [{"type": "text", "text": ""}],
        [{"type": "thinking", "thinking": []}],
        [{"type": "thinking", "thinking": [{"type": "text", "text": ""}]}],
    ],
)
def test_what_says_nothing_opens_no_block(content: Any) -> None:
    found = stream(chunk(content=content), STOP)
    assert found.types == ["start", "done"]
    assert [note.type for note in found.message.diagnostics or ()] == ["empty"]


def test_content_may_be_a_list_of_texts_and_parts() -> None:
    parts = ["a", {"type": "text", "text": "b"}, {"type": "thinking", "thinking": "c"}, {"type": "reference"}, 7]
    found = stream(chunk(content=parts), STOP)
    assert [getattr(block, "text", None) or block.thinking for block in found.message.content] == ["ab", "c"]
    (note,) = found.message.diagnostics or ()
    assert (note.type, note.details) == ("ignored", {"content_parts": 2})


def test_an_answer_that_was_not_streamed_is_read() -> None:
    made = [{"id": "abcdefghi", "function": {"name": "a", "arguments": "{}"}}]
    message = {"role": "assistant", "content": "Hi", "tool_calls": made}
    found = stream({"id": "c1", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})
    assert (found.message.text, ids(found), found.message.stop_reason) == ("Hi", ["abcdefghi"], "toolUse")


def test_only_the_first_choice_is_read() -> None:
    assert stream(chunk(content="a"), chunk(index=1, content="x"), STOP).message.text == "a"


def test_the_id_and_the_model_that_answered_are_told() -> None:
    found = stream({**chunk(content="a"), "model": "mistral-test-2508"}, STOP)
    assert (found.message.response_id, found.message.response_model) == ("c1", "mistral-test-2508")


# ── calls ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_call_ends_the_text_and_text_behind_it_is_another_block() -> None:
    found = stream(chunk(content="a"), call("abcdefghi", "f", "{}", index=0), chunk(content="b"), CALLED)
    assert [block.type for block in found.message.content] == ["text", "toolCall", "text"]
    assert found.types[1:] == [
        *("text_start", "text_delta", "text_end", "toolcall_start", "toolcall_delta"),
        *("text_start", "text_delta", "text_end", "toolcall_end", "done"),
    ]


@pytest.mark.parametrize("told", ["null", None, ""])
def test_6_a_call_without_an_id_gets_one_that_mistral_takes(told: str | None) -> None:
    one, two = call(told, "f", '{"a":', index=0), call(told, "g", "{}", index=1)
    found = stream(one, call(told, None, "1}", index=0), two, CALLED)
    assert ids(found) == ["toolcall0", "toolcall1"]
    assert [call.arguments for call in found.message.tool_calls] == [{"a": 1}, {}]


def test_6_an_id_that_comes_late_is_the_calls_own() -> None:
    assert ids(stream(call("null", "f", index=0), call("abcdefghi", None, "{}", index=0), CALLED)) == ["abcdefghi"]


def test_an_id_that_is_taken_becomes_another_one_that_mistral_takes() -> None:
    told = "abcdefghi"
    found = stream(call(told, "f", "{}", index=0), call(told, "g", "{}", index=1), CALLED)
    first, second = ids(found)
    assert first == told
    assert second != told
    assert len(second) == 9
    assert second.isalnum()


def test_a_new_id_and_a_name_on_a_used_index_are_a_new_call() -> None:
    found = stream(call("aaaaaaaaa", "f", "{}", index=0), call("bbbbbbbbb", "g", "{}", index=0), CALLED)
    assert ids(found) == ["aaaaaaaaa", "bbbbbbbbb"]


def test_arguments_may_be_an_object() -> None:
    (made,) = stream(call("abcdefghi", "f", {"city": "Åbo"}), CALLED).message.tool_calls
    assert made.arguments == {"city": "Åbo"}


# ── usage ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("raw", "counts"),
    [
        ({"num_cached_tokens": 30}, (70, 30)),
        ({"prompt_token_details": {"cached_tokens": 20}, "num_cached_tokens": 30}, (80, 20)),
        ({"prompt_tokens_details": {"cached_tokens": 10}, "prompt_token_details": {"cached_tokens": 20}}, (90, 10)),
        ({"prompt_tokens_details": {"cached_tokens": 0}, "num_cached_tokens": 30}, (100, 0)),
        ({"prompt_tokens_details": None, "num_cached_tokens": 30}, (70, 30)),
        ({"num_cached_tokens": 101}, (0, 100)),
        ({"num_cached_tokens": -1}, (100, 0)),
        ({}, (100, 0)),
    ],
)
def test_8_what_was_cached_is_counted_apart(raw: dict[str, Any], counts: tuple[int, int]) -> None:
    usage = stream({**STOP, "usage": {**USAGE, **raw}}).message.usage
    assert ((usage.input, usage.cache_read), usage.output, usage.total_tokens) == (counts, 20, 120)


def test_the_total_is_the_servers_or_else_the_sum() -> None:
    assert stream({**STOP, "usage": {**USAGE, "total_tokens": 130}}).message.usage.total_tokens == 130
    assert stream({**STOP, "usage": {**USAGE, "total_tokens": None}}).message.usage.total_tokens == 120


# ── endings ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("finish", "reason"),
    [("stop", "stop"), ("STOP", "stop"), ("length", "length"), ("model_length", "length"), ("tool_calls", "toolUse")],
)
def test_the_reason_of_the_end(finish: str, reason: str) -> None:
    message = stream(chunk(content="a"), chunk(finish)).message
    assert (message.stop_reason, message.raw_stop_reason) == (reason, finish)


def test_stop_behind_a_call_means_that_it_is_to_be_run() -> None:
    assert stream(call("abcdefghi", "f", "{}"), STOP).message.stop_reason == "toolUse"


@pytest.mark.parametrize(
    ("finish", "text", "kind", "retryable"),
    [
        ("error", "Provider stopped with: error (server error)", "server", True),
        ("content_filter", "Provider stopped with: content_filter", "content_filter", False),
        ("weird", "Provider stopped with: weird", "protocol", False),
    ],
)
def test_7_a_reason_that_is_a_failure(finish: str, text: str, kind: str, retryable: bool) -> None:
    found = stream(chunk(content="a"), call("abcdefghi", "f", "{}"), chunk(finish), chunk(content="late"))
    assert found.error is not None
    assert (found.error.text, found.error.info.kind, found.error.info.retryable) == (text, kind, retryable)
    assert (found.message.text, found.message.raw_stop_reason) == ("a", finish)
    assert found.message.tool_calls[0].arguments_error  # reliability F19: not to be run


@pytest.mark.parametrize("done", [True, False])
def test_an_end_without_a_reason_is_no_end(done: bool) -> None:
    found = stream(chunk(content="a"), done=done)
    assert found.error is not None
    assert found.error.text == "Mistral stream ended without a finish reason"
    assert (found.error.info.kind, found.error.info.retryable) == ("truncated", True)
    assert not found.proven


def test_the_reason_proves_that_the_answer_is_whole() -> None:
    found = stream(chunk(content="a"), STOP, done=False)
    assert found.error is None
    assert found.proven


@pytest.mark.parametrize(
    "failure",
    [
        {"object": "error", "message": "boom", "type": "internal_server_error", "code": 500},
        {"error": {"message": "boom"}},
        {**chunk(content="x"), "error": "boom"},
    ],
)
def test_an_error_in_the_stream_is_told(failure: dict[str, Any]) -> None:
    found = stream(chunk(content="a"), failure, STOP)
    assert found.error is not None
    assert "boom" in found.error.text
    assert found.message.text == "a"


@pytest.mark.parametrize("nothing", [{}, {"id": "c1"}, {"choices": None}, {"choices": []}, {"choices": [{}]}])
def test_a_chunk_that_tells_nothing_is_skipped(nothing: dict[str, Any]) -> None:
    assert stream(nothing, chunk(content="a"), nothing, STOP).message.text == "a"


@pytest.mark.parametrize("delta", [[], "x", 7, {"content": 7}, {"content": {}}, {"tool_calls": [7]}, {"tool_calls": 7}])
def test_values_of_the_wrong_shape_do_no_harm(delta: Any) -> None:
    wrong = {"id": 7, "choices": [{"delta": delta, "finish_reason": 7}], "usage": [7]}
    assert stream(chunk(content="a"), wrong, STOP).message.text == "a"


# ── cuts ─────────────────────────────────────────────────────────────────────────────────────────────────────

ANSWER = encoded(
    thought("Hm. "),
    chunk(content=""),
    chunk(content="Grüße 🙂"),
    call("abcdefghi", "f", '{"a":', index=0),
    call(None, None, "1}", index=0),
    {**CALLED, "usage": USAGE},
)


@given(st.sets(st.integers(1, len(ANSWER) - 1)))
@settings(deadline=None, max_examples=60)
def test_any_cut_gives_the_same_events(ends: set[int]) -> None:
    whole, cut = read(ADAPTER, model(), [ANSWER]), read(ADAPTER, model(), pieces(ANSWER, sorted(ends)))
    assert (cut.types, cut.deltas) == (whole.types, whole.deltas)
    assert cut.message.content == whole.message.content


@given(st.integers(0, len(ANSWER)))
@settings(deadline=None, max_examples=60)
def test_a_body_that_is_cut_off_ends_well_only_if_it_was_proven(end: int) -> None:
    found = read(ADAPTER, model(), [ANSWER[:end]])
    assert (found.error is None) is found.proven
