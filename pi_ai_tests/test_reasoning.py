"""Core section 7: T1-T6, T8."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_ai.reasoning import (
    LEVELS,
    cap_budget,
    clamp_level,
    effort,
    fit_budget,
    fit_thinking,
    supported_levels,
    thinking_budget,
)
from pi_ai.serialization import from_json
from pi_ai.tokens import fit_max_tokens
from pi_ai.types import Context, Model, ReasoningLevel, ThinkingLevel, UserMessage
from pi_ai_tests.data import goldens, table

LevelMap = dict[ThinkingLevel, str | None]
EMPTY = Context(messages=[UserMessage("")])


def model(words: LevelMap | None = None, *, reasoning: bool = True, window: int = 200_000, most: int = 64_000) -> Model:
    return Model(
        id="m",
        api="a",
        provider="p",
        reasoning=reasoning,
        thinking_level_map=words,
        context_window=window,
        max_tokens=most,
    )


@pytest.mark.parametrize("row", table("thinking-levels"), ids=lambda row: str(row["model"]))
def test_every_golden_level_is_met(row: dict[str, Any]) -> None:
    asked = model(row["model"].get("thinkingLevelMap"), reasoning=row["model"]["reasoning"])
    assert supported_levels(asked) == row["supported"]
    assert {level: clamp_level(asked, level) for level in LEVELS} == row["clamped"]


@pytest.mark.parametrize(
    ("asked", "supported", "clamped"),
    [
        (model(reasoning=False), "off", "off off off off off"),
        (model({}), "off minimal low medium high", "off minimal low high high"),
        (
            model({"off": None, "xhigh": "xhigh"}),
            "minimal low medium high xhigh",
            "minimal minimal low xhigh xhigh",
        ),
        (model({"minimal": None, "low": None, "max": "max"}), "off medium high max", "off medium medium max max"),
    ],
)
def test_the_table_of_levels_t1_t2(asked: Model, supported: str, clamped: str) -> None:
    assert supported_levels(asked) == supported.split()
    assert [clamp_level(asked, level) for level in ("off", "minimal", "low", "xhigh", "max")] == clamped.split()


def test_the_levels_above_high_need_an_entry_and_null_is_none_t1() -> None:
    assert supported_levels(model({"xhigh": None, "max": None})) == ["off", "minimal", "low", "medium", "high"]


def test_an_unknown_level_is_the_first_that_is_supported_t2() -> None:
    assert clamp_level(model(), "ludicrous") == "off"
    assert clamp_level(model({"off": None, "minimal": None}), "ludicrous") == "low"
    assert clamp_level(model(dict.fromkeys(LEVELS)), "ludicrous") == "off"


@given(st.dictionaries(st.sampled_from(LEVELS), st.none() | st.just("word")), st.sampled_from(LEVELS))
@settings(deadline=None)
def test_a_clamped_level_is_supported_and_none_is_nearer_t2(words: LevelMap, level: ThinkingLevel) -> None:
    asked = model(words)
    supported = supported_levels(asked)
    clamped = clamp_level(asked, level)
    if not supported:
        assert clamped == "off"
        return
    assert clamped in supported
    above = [known for known in supported if LEVELS.index(known) >= LEVELS.index(level)]
    assert clamped == (above[0] if above else supported[-1])


def test_the_providers_word_is_the_models_own_or_the_levels_name_t3() -> None:
    asked = model({"low": "little", "high": None, "medium": ""})
    assert [effort(asked, level) for level in ("low", "high", "medium", "max")] == ["little", "high", "", "max"]
    assert effort(model(), "minimal") == "minimal"


def test_the_default_budgets_t4() -> None:
    budgets = {level: thinking_budget(level) for level in get_args(ReasoningLevel)}
    assert budgets == {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 16384, "max": 16384}


def test_the_callers_budgets_win_by_level_and_the_highest_levels_use_that_of_high_t4() -> None:
    budgets: dict[ReasoningLevel, int] = {"medium": 3333, "high": 9999}
    assert [thinking_budget(level, budgets) for level in ("low", "medium", "high", "max")] == [2048, 3333, 9999, 9999]
    assert thinking_budget("max", {"high": 9999, "max": 50_000}) == 50_000
    assert thinking_budget("xhigh", {"max": 50_000}) == 16_384


@pytest.mark.parametrize(
    ("cap", "most", "level", "budgets", "result"),
    [
        (None, 64_000, "high", None, (64_000, 16_384)),
        (8000, 64_000, "high", None, (24_384, 16_384)),
        (8000, 64_000, "xhigh", None, (24_384, 16_384)),
        (8000, 64_000, "max", None, (24_384, 16_384)),
        (None, 8192, "high", None, (8192, 7168)),
        (1000, 4096, "medium", None, (4096, 3072)),
        (None, 1024, "low", None, (1024, 0)),
        (None, 500, "low", None, (500, 0)),
        (500, 64_000, "minimal", None, (1524, 1024)),
        (60_000, 64_000, "high", None, (64_000, 16_384)),
        (None, 64_000, "high", {"high": 100_000}, (64_000, 62_976)),
    ],
)
def test_the_budget_shares_the_limit_of_the_answer_t5(
    cap: int | None, most: int, level: ReasoningLevel, budgets: Any, result: tuple[int, int]
) -> None:
    assert fit_budget(model(most=most), cap, level, budgets) == result


def test_a_budget_leaves_room_for_the_answer_t8() -> None:
    assert cap_budget(16_384, 4096) == 3072  # openai-completions R9
    assert cap_budget(8192, 1000) == 0  # openai-completions R10
    assert cap_budget(1024, 64_000) == 1024


@pytest.mark.parametrize(
    ("asked", "cap", "level", "budgets", "result"),
    [
        pytest.param(model(), None, "high", None, (64_000, 16_384), id="enough room"),
        pytest.param(model(), 500, "high", None, (16_884, 15_860), id="the answer keeps its 1024"),
        pytest.param(model(window=20_000), None, "high", None, (15_904, 14_880), id="cut to the window"),
        pytest.param(model(most=1024), None, "high", None, (1024, 0), id="T6: no room to think"),
        pytest.param(model(window=6000), None, "low", None, (1904, 0), id="T6: no room in the window"),
        pytest.param(
            model(), 500, "minimal", {"minimal": 512}, (500, 0), id="T6: too little to be worth it, the limit is back"
        ),
        pytest.param(model(), 5000, "minimal", {"minimal": 1024}, (6024, 1024), id="T6: just enough"),
    ],
)
def test_thinking_fits_into_the_window_or_is_off_t8_t6(
    asked: Model, cap: int | None, level: ReasoningLevel, budgets: Any, result: tuple[int, int]
) -> None:
    assert fit_thinking(asked, EMPTY, cap, level, budgets) == result


@given(
    st.integers(0, 300_000),
    st.integers(1, 130_000),
    st.none() | st.integers(1, 130_000),
    st.sampled_from(get_args(ReasoningLevel)),
    st.none() | st.dictionaries(st.sampled_from(get_args(ReasoningLevel)), st.integers(0, 200_000)),
)
@settings(deadline=None)
def test_what_is_sent_is_never_refused_t6(
    window: int, most: int, cap: int | None, level: ReasoningLevel, budgets: Any
) -> None:
    """A budget is 0 or at least Claude's minimum, below the limit, and the limit is the model's at most."""
    asked = model(window=window, most=most)
    limit, budget = fit_thinking(asked, EMPTY, cap, level, budgets)
    assert 1 <= limit <= max(most, cap or 1)
    assert budget == 0 or 1024 <= budget <= limit - 1024
    if budget == 0:
        assert limit == fit_max_tokens(asked, EMPTY, cap)


def test_every_golden_budget_of_claude_is_met() -> None:
    seen = 0
    for golden in goldens("anthropic-messages"):
        requests = golden["expected"].get("requests") or []
        if golden["mode"] != "streamSimple" or not requests:
            continue
        body = requests[0]["body"]
        thinking = body.get("thinking") or {}
        if "budget_tokens" not in thinking:
            continue
        options = golden["options"]
        asked, context = from_json(Model, golden["model"]), from_json(Context, golden["context"])
        level = clamp_level(asked, options["reasoning"])
        assert level != "off"
        sent = (body["max_tokens"], thinking["budget_tokens"])
        assert fit_thinking(asked, context, options.get("maxTokens"), level, options.get("thinkingBudgets")) == sent
        seen += 1
    assert seen > 10
