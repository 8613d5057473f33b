"""How hard a model may think, and how many tokens that takes (core section 7, T1-T8).

A level is asked for, clamped to what the model supports, and becomes either the provider's word for it
(:func:`effort`) or a number of tokens (:func:`thinking_budget`), which shares the answer's limit on some providers
(:func:`fit_budget`, :func:`fit_thinking`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

from pi_ai.tokens import fit_max_tokens
from pi_ai.types import Context, Message, Model, ReasoningLevel, ThinkingLevel

LEVELS: tuple[ThinkingLevel, ...] = get_args(ThinkingLevel)
"""All levels, in order."""

OPT_IN_LEVELS = frozenset({"xhigh", "max"})
"""Levels that a model has only if its ``thinking_level_map`` names them (T1)."""

DEFAULT_BUDGETS: Mapping[ReasoningLevel, int] = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16_384}
"""Tokens to think by level (T4); levels above ``high`` think as long as ``high``."""

ANSWER_TOKENS = 1024
"""What a budget leaves for the answer itself when both share one limit (T5, T8)."""

MINIMUM_BUDGET = 1024
"""The smallest budget that Claude takes (T6)."""

Budgets = Mapping[ReasoningLevel, int] | None


def supported_levels(model: Model) -> list[ThinkingLevel]:
    """The levels that the model knows, in order (T1): ``["off"]`` for one that does not think.

    Empty if the model's map takes every level away.
    """
    if not model.reasoning:
        return ["off"]
    words = model.thinking_level_map or {}
    return [level for level in LEVELS if (words[level] is not None if level in words else level not in OPT_IN_LEVELS)]


def clamp_level(model: Model, level: str) -> ThinkingLevel:
    """The level that comes nearest to ``level`` on this model: itself, else the next above, else below (T2).

    :return: a supported level; the first of them if ``level`` is no level at all; ``off`` if there are none.
    """
    supported = supported_levels(model)
    rank = next((rank for rank, known in enumerate(LEVELS) if known == level), 0)
    for near in (*LEVELS[rank:], *reversed(LEVELS[:rank])):
        if near in supported:
            return near
    return "off"


def effort(model: Model, level: ThinkingLevel) -> str:
    """The provider's word for a level: the model's own, else the level's name (T3)."""
    word = (model.thinking_level_map or {}).get(level)
    return level if word is None else word


def thinking_budget(level: ReasoningLevel, budgets: Budgets = None) -> int:
    """Tokens to think at a level: the caller's number, else the default (T4).

    :param budgets: the caller's numbers by level; levels above ``high`` without their own use that of ``high``.
    """
    table = {**DEFAULT_BUDGETS, **(budgets or {})}
    return table.get(level, table["high"])


def cap_budget(budget: int, max_tokens: int) -> int:
    """The budget, cut so that ``ANSWER_TOKENS`` of ``max_tokens`` are left; not below 0 (T8)."""
    return min(budget, max(0, max_tokens - ANSWER_TOKENS))


def fit_budget(model: Model, max_tokens: int | None, level: ReasoningLevel, budgets: Budgets = None) -> tuple[int, int]:
    """Limit and budget where thinking counts against the answer's limit (T5).

    :param max_tokens: what the caller allows for the answer alone, so the budget is added to it; None: all that the
        model can.
    :return: ``(max_tokens, budget)``, both in tokens.
    """
    budget = thinking_budget(level, budgets)
    limit = model.max_tokens if max_tokens is None else min(max_tokens + budget, model.max_tokens)
    return limit, budget if limit > budget else cap_budget(budget, limit)


def fit_thinking(
    model: Model,
    context: Context | Sequence[Message],
    max_tokens: int | None,
    level: ReasoningLevel,
    budgets: Budgets = None,
) -> tuple[int, int]:
    """:func:`fit_budget` in what the conversation leaves of the window (T8); for Claude, at home and elsewhere.

    A budget below the least that Claude takes switches thinking off (T6, better than pi, which raises it above the
    limit so that the request is refused), and the limit is then that of an answer without thought.

    :return: ``(max_tokens, budget)``, both in tokens; budget 0: do not think.
    """
    limit, budget = fit_budget(model, max_tokens, level, budgets)
    limit = fit_max_tokens(model, context, limit)
    budget = cap_budget(budget, limit)
    if budget < MINIMUM_BUDGET:
        return fit_max_tokens(model, context, max_tokens), 0
    return limit, budget
