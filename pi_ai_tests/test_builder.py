"""The builder of messages, as authors of custom streams use it (core section 5)."""

from __future__ import annotations

import pytest

from pi_ai import MessageBuilder, Model, Usage
from pi_ai.types import ModelCost

MODEL = Model(id="m", api="a", provider="p", cost=ModelCost(input=1, output=10))


def types(events: list) -> list[str]:
    return [event.type for event in events]


def test_an_empty_delta_opens_a_block_and_says_nothing_E10() -> None:
    out = MessageBuilder(MODEL)
    assert types(out.text("")) == ["text_start"]
    assert types(out.text("")) == []
    assert types(out.thinking("")) == ["text_end", "thinking_start"]
    assert types(out.tool_call("1", "f", "")) == ["thinking_end", "toolcall_start", "toolcall_end"]
    assert types(out.finish("toolUse")) == ["done"]
    assert [block.type for block in out.message.content] == ["text", "thinking", "toolCall"]
    assert (out.message.content[2].arguments, out.message.content[2].arguments_error) == ({}, None)


def test_deltas_of_a_kind_go_on_with_its_block_and_keep_its_signature() -> None:
    out = MessageBuilder(MODEL)
    events = [*out.thinking("a", signature="s"), *out.thinking("b"), *out.text("c"), *out.text("d"), *out.text("e")]
    assert types(events) == [
        *("thinking_start", "thinking_delta", "thinking_delta", "thinking_end"),
        *("text_start", "text_delta", "text_delta", "text_delta"),
    ]
    assert [event.content_index for event in events] == [0, 0, 0, 0, 1, 1, 1, 1]
    thought, text = out.message.content
    assert (thought.thinking, thought.thinking_signature, text.text) == ("ab", "s", "cde")


def test_a_whole_call_may_be_given_as_a_value_or_as_its_text() -> None:
    out = MessageBuilder(MODEL)
    for arguments in ({"name": "é"}, '{"name": "é"}'):
        _, delta, end = out.tool_call("1", "f", arguments)
        assert delta.delta == '{"name": "é"}'
        assert (end.tool_call.arguments, end.tool_call.arguments_error) == ({"name": "é"}, None)
    with pytest.raises(ValueError, match="JSON"):
        out.tool_call("1", "f", {"x": float("nan")})


def test_a_thought_that_was_being_written_is_kept_E14() -> None:
    out = MessageBuilder(MODEL)
    out.thinking("a")
    out.thinking("b")
    assert out.fail("broken").error.content[0].thinking == "ab"


def test_a_count_of_a_failed_attempt_is_not_asked_again() -> None:
    out = MessageBuilder(MODEL)
    out.defer_usage(lambda: Usage(input=3, total_tokens=3))
    out.reset()
    assert out.message.usage == Usage()


def test_a_failed_message_keeps_what_came_and_its_calls_cannot_run_E6_E14() -> None:
    out = MessageBuilder(MODEL, timestamp=17)
    out.text("a")
    call = out.add_tool_call("1", "f")
    call.delta('{"a": 1')
    assert out.message.content[1].arguments == {"a": 1}
    event = out.fail("broken")
    assert (event.type, event.reason, event.error) == ("error", "error", out.message)
    message = out.message
    assert (message.stop_reason, message.error_message, message.timestamp) == ("error", "broken", 17)
    assert message.text == "a"
    assert message.content[1].arguments == {}
    assert '{"a": 1' in message.content[1].arguments_error


def test_what_failed_attempts_used_is_on_the_bill_and_nothing_else_of_them_is_left_F53() -> None:
    out = MessageBuilder(MODEL)
    for tokens in (1_000_000, 2_000_000):
        out.text("lost")
        out.set_usage(Usage(input=tokens, total_tokens=tokens))
        out.note("odd")
        out.message.response_id = "r"
        out.reset()
        assert (out.message.content, out.message.usage, out.message.diagnostics) == ([], Usage(), None)
        assert out.message.response_id is None
    out.reset()
    out.text("kept")
    out.defer_usage(lambda: Usage(output=1_000_000, total_tokens=1_000_000))
    assert out.message.usage.cost.total == pytest.approx(10)
    out.finish("stop")
    usage = out.message.usage
    assert usage.wasted is not None
    assert (usage.wasted.input, usage.output) == (3_000_000, 1_000_000)
    assert usage.cost.total == pytest.approx(13)
    assert out.message.usage.cost.total == pytest.approx(13)
