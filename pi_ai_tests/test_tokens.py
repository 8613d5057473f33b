"""Core section 8 (TE1-TE3), and T7 of section 7."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_ai.serialization import from_json
from pi_ai.tokens import ContextEstimate, estimate_context_tokens, estimate_message_tokens, fit_max_tokens, fit_window
from pi_ai.types import (
    AssistantMessage,
    Context,
    ImageContent,
    Message,
    Model,
    StopReason,
    SystemMessage,
    TextContent,
    ThinkingContent,
    Tool,
    ToolCall,
    ToolReference,
    ToolResultMessage,
    Usage,
    UserMessage,
)
from pi_ai_tests.data import goldens, table

TOOL = Tool("t", "d", {"type": "object"})


def read_message(data: dict[str, Any]) -> Message:
    # The recorded tool calls have no id, which plays no part here.
    content = data.get("content")
    if isinstance(content, list):
        data = {**data, "content": [{"id": "1", **block} for block in content]}
    return from_json(Message, data)


@pytest.mark.parametrize("row", table("estimate-tokens"), ids=lambda row: row["message"]["role"])
def test_every_golden_estimate_is_met(row: dict[str, Any]) -> None:
    assert estimate_message_tokens(read_message(row["message"])) == row["result"]


@pytest.mark.parametrize(
    ("message", "tokens"),
    [
        (UserMessage(""), 0),
        (UserMessage("1234567"), 2),
        (UserMessage("12345678"), 3),
        (UserMessage("\U0001f648" * 7), 2),  # code points, not UTF-16 units (TE1)
        (UserMessage([TextContent("1234567"), TextContent("1")]), 3),
        (UserMessage([TextContent("1234"), ImageContent("AAAA", "image/png")]), 1373),
        (ToolResultMessage("1", "t", [ImageContent("A" * 9999, "image/png")]), 1372),
        (AssistantMessage([ThinkingContent("hmm"), TextContent("yes"), ToolCall("1", "t", {"a": "é"})]), 5),
        (SystemMessage("1234567"), 2),
        (SystemMessage([TextContent("123"), TextContent("456")]), 2),
        (SystemMessage("Base.", sections={"a": "<a>1</a>", "gone": None, "empty": "", "b": "<b>1</b>"}), 8),
        (SystemMessage("", sections={"a": "<a>2</a>"}), 3),
        (SystemMessage("", tools_added=[TOOL]), 18),
        (SystemMessage("", tools_removed=[ToolReference("u")]), 4),
        (SystemMessage("1", tools_added=[], tools_removed=[]), 1),
    ],
)
def test_a_message_counts_te1_te2(message: Message, tokens: int) -> None:
    assert estimate_message_tokens(message) == tokens


# ── conversations ────────────────────────────────────────────────────────────────────────────────────────────


def answer(at: int, tokens: int, *, stop: StopReason = "stop", total: bool = True) -> AssistantMessage:
    used = Usage(total_tokens=tokens) if total else Usage(input=tokens - 3, output=1, cache_read=1, cache_write=1)
    return AssistantMessage([TextContent("x" * 70)], usage=used, stop_reason=stop, timestamp=at)


def user(at: int, characters: int = 35) -> UserMessage:
    return UserMessage("x" * characters, timestamp=at)


def estimate(usage: int, trailing: int, index: int | None) -> ContextEstimate:
    return ContextEstimate(
        tokens=usage + trailing, usage_tokens=usage, trailing_tokens=trailing, last_usage_index=index
    )


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        pytest.param([], estimate(0, 0, None), id="nothing"),
        pytest.param([user(1), user(2)], estimate(0, 20, None), id="nobody has counted"),
        pytest.param([user(1), answer(2, 500), user(3)], estimate(500, 10, 1), id="the provider has counted"),
        pytest.param([user(1), answer(2, 500, total=False)], estimate(500, 0, 1), id="no total: the sum of the four"),
        pytest.param([answer(1, 500), user(2), answer(3, 900)], estimate(900, 0, 2), id="the last count is taken"),
        pytest.param([answer(1, 500), user(2), answer(3, 0)], estimate(500, 30, 0), id="an answer without a count"),
        pytest.param([user(1), answer(2, 500, stop="error")], estimate(0, 30, None), id="a failed answer"),
        pytest.param([user(1), answer(2, 500, stop="aborted")], estimate(0, 30, None), id="an aborted answer"),
        pytest.param([user(9), answer(2, 500), user(10)], estimate(0, 40, None), id="a summary was put in before it"),
        pytest.param([user(2), answer(2, 500)], estimate(500, 0, 1), id="the same moment is no younger"),
        pytest.param(
            [user(9), answer(2, 500), answer(9, 70)], estimate(70, 0, 2), id="a later answer has seen the summary"
        ),
    ],
)
def test_a_conversation_counts_te3(messages: list[Message], expected: ContextEstimate) -> None:
    assert estimate_context_tokens(messages) == expected
    assert estimate_context_tokens(Context(messages=messages)) == expected


def test_the_system_prompt_and_the_tools_count_as_the_message_that_they_are_folded_into_x1() -> None:
    context = Context(messages=[user(1)], system_prompt="x" * 36, tools=[TOOL])
    folded = [SystemMessage("x" * 36, tools_added=[TOOL], timestamp=0), user(1)]
    assert estimate_context_tokens(context) == estimate_context_tokens(folded) == estimate(0, 11 + 18 + 10, None)


def test_the_system_prompt_is_part_of_what_the_provider_has_counted() -> None:
    context = Context(messages=[user(1), answer(2, 500), user(3)], system_prompt="x" * 3500)
    assert estimate_context_tokens(context) == estimate(500, 10, 1)


# ── the room for an answer ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("window", "used", "need", "result"),
    [
        (200_000, 0, 64_000, 64_000),
        (200_000, 100_000, 64_000, 64_000),
        (200_000, 171_429, 64_000, 24_475),
        (200_000, 197_143, 64_000, 1),
        (32_768, 1000, 8192, 8192),
        (32_768, 28_572, 8192, 100),
        (10_000, 4000, 8000, 1904),
        (0, 123, 5, 5),
        (0, 123, 0, 1),
        (-1, 123, 5, 5),
        (200_000, 900_000, 5, 1),
    ],
)
def test_an_answer_is_cut_to_the_window_t7(window: int, used: int, need: int, result: int) -> None:
    assert fit_window(window, used, need) == result


@given(st.integers(1, 2_000_000), st.integers(0, 3_000_000), st.integers(1, 1_000_000))
@settings(deadline=None)
def test_an_answer_that_is_cut_leaves_a_margin_t7(window: int, used: int, need: int) -> None:
    fitted = fit_window(window, used, need)
    assert 1 <= fitted <= need
    assert fitted == 1 or used + fitted + 4096 <= window
    if used + need + max(4096, 0.15 * used + 1) <= window:
        assert fitted == need


def test_the_callers_limit_comes_before_the_models_t7() -> None:
    model = Model(id="m", api="a", provider="p", context_window=200_000, max_tokens=32_000)
    assert fit_max_tokens(model, Context(messages=[user(1)])) == 32_000
    assert fit_max_tokens(model, [user(1)], 321) == 321
    assert fit_max_tokens(model, [answer(1, 171_429)], 64_000) == 24_475


def test_every_golden_limit_is_met_on_the_apis_that_send_it_as_it_is() -> None:
    """Prompts, tools, images, sections, histories: the windows of Mistral's goldens show every token of them."""
    fields = {"mistral-conversations": "max_tokens", "openai-completions": "max_completion_tokens"}
    seen = 0
    for api, field in fields.items():
        for golden in goldens(api):
            options = golden.get("options") or {}
            requests = golden["expected"].get("requests") or []
            if golden["mode"] != "streamSimple" or not requests or field in options.get("samplingParams", {}):
                continue
            sent = requests[0]["body"].get(field)
            if sent is None:
                continue
            model, context = from_json(Model, golden["model"]), from_json(Context, golden["context"])
            assert fit_max_tokens(model, context, options.get("maxTokens")) == sent, golden["name"]
            seen += 1
    assert seen > 250
