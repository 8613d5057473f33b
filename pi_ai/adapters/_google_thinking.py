"""How hard Gemini shall think: a level, or a budget of tokens, whichever the model takes (google.md section 6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, cast

import attrs

from pi_ai.adapters._google_compat import Compat
from pi_ai.errors import failure
from pi_ai.reasoning import clamp_level, effort, supported_levels
from pi_ai.types import JSONObject, Model, ReasoningLevel, ThinkingLevel

GoogleThinkingLevel: TypeAlias = Literal["MINIMAL", "LOW", "MEDIUM", "HIGH"]
_WORDS: tuple[str, ...] = ("MINIMAL", "LOW", "MEDIUM", "HIGH")

DYNAMIC = -1
"""The budget with which the model decides itself."""


@attrs.frozen(kw_only=True)
class GoogleThinking:
    """How to think.

    :ivar enabled: False: not at all, or as little as the model can.
    :ivar level: of models that take a level.
    :ivar budget_tokens: of models that take a budget: most tokens to think; -1: the model decides.
    """

    enabled: bool
    level: GoogleThinkingLevel | None = None
    budget_tokens: int | None = None


@attrs.frozen
class _Family:
    """Budgets of one family of models.

    :ivar levels: tokens by level.
    :ivar least: of what can be asked for. ``off``: what comes closest to no thought.
    """

    name: str
    levels: Mapping[str, int]
    least: int
    off: int = 0

    def clamped(self, budget: int) -> int:
        """The nearest budget that the family takes."""
        if budget in (DYNAMIC, self.off):
            return budget
        return min(max(budget, self.least), self.levels["high"])


# The first whose name is in a model's id; the highest level has the most that the family takes.
_FAMILIES = (
    _Family("2.5-pro", {"minimal": 128, "low": 2048, "medium": 8192, "high": 32_768}, least=128, off=128),
    _Family("2.5-flash-lite", {"minimal": 512, "low": 2048, "medium": 8192, "high": 24_576}, least=512),
    _Family("2.5-flash", {"minimal": 128, "low": 2048, "medium": 8192, "high": 24_576}, least=0),
)


def asked_thinking(
    model: Model, compat: Compat, reasoning: ReasoningLevel | None, budgets: Mapping[ReasoningLevel, int] | None
) -> GoogleThinking:
    """The portable level in the words of the model (6.2).

    :param budgets: the caller's own budgets by level, in tokens.
    :raises PiAIError: kind ``config``: the model's map names a level that Google does not have.
    """
    level = clamp_level(model, reasoning) if reasoning else "off"
    if level == "off":
        return GoogleThinking(enabled=False)
    if compat.thinking_control == "level":
        return GoogleThinking(enabled=True, level=_word(model, level))
    return GoogleThinking(enabled=True, budget_tokens=_budget(model, level, budgets))


def thinking_config(model: Model, compat: Compat, thinking: GoogleThinking | None) -> JSONObject | None:
    """The field ``thinkingConfig``; None: there is none, so the model thinks as it does by itself.

    :raises PiAIError: as :func:`asked_thinking`.
    """
    if thinking is None or not model.reasoning:
        return None
    if not thinking.enabled:
        return _off(model, compat)
    config: JSONObject = {"includeThoughts": True}
    if thinking.level is not None:
        config["thinkingLevel"] = thinking.level
    elif thinking.budget_tokens is not None:
        config["thinkingBudget"] = thinking.budget_tokens
    return config


def _off(model: Model, compat: Compat) -> JSONObject:
    """As little thought as the model can (6.3)."""
    if compat.thinking_control == "level":
        levels = supported_levels(model)
        if levels and levels[0] != "off":
            return {"thinkingLevel": _word(model, levels[0])}
        return {"thinkingBudget": 0}
    family = _family(model)
    return {"thinkingBudget": family.off if family else 0}


def _word(model: Model, level: ThinkingLevel) -> GoogleThinkingLevel:
    word = effort(model, level)
    if word.upper() not in _WORDS:
        text = f"Unsupported Google thinking level mapping for {model.provider}/{model.id}: {level} -> {word}"
        sentence = f"{text}; thinking_level_map may name {', '.join(_WORDS)}"
        raise failure("config", sentence, text=text, provider=model.provider, api=model.api, model=model.id)
    return cast("GoogleThinkingLevel", word.upper())


def _budget(model: Model, level: ThinkingLevel, budgets: Mapping[Any, int] | None) -> int:
    """The caller's budget as far as the model takes it, else the family's; levels above ``high`` are as ``high``."""
    family = _family(model)
    for wanted in (level, "high") if level in ("xhigh", "max") else (level,):
        if budgets and wanted in budgets:
            return family.clamped(budgets[wanted]) if family else budgets[wanted]
    return family.levels.get(level, family.levels["high"]) if family else DYNAMIC


def _family(model: Model) -> _Family | None:
    return next((family for family in _FAMILIES if family.name in model.id), None)
