"""How servers of the chat completions API are asked to think, or not to (openai-completions.md section 5).

One small function a format gives the fields of the body. To support another format add a function, its line in
``_FORMATS``, and its name to ``ThinkingFormat``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import attrs

from pi_ai.adapters._openai_compat import Compat, ThinkingFormat
from pi_ai.reasoning import cap_budget, thinking_budget
from pi_ai.types import JSONObject, Model, ReasoningLevel


def thinking_fields(
    model: Model,
    compat: Compat,
    level: ReasoningLevel | None,
    *,
    max_tokens: int | None = None,
    budgets: Mapping[ReasoningLevel, int] | None = None,
) -> JSONObject:
    """The fields of the body that say how hard to think; none for a model that does not reason.

    :param level: None: thinking is off.
    :param max_tokens: the limit that is being sent, which thoughts and answer share.
    :param budgets: the caller's budgets by level, in tokens.
    """
    if not model.reasoning:
        return {}
    limit = max_tokens or model.max_tokens
    budget = cap_budget(thinking_budget(level, budgets), limit) if level else 0
    words = model.thinking_level_map or {}
    asked = _Thinking(
        compat=compat,
        on=level is not None,
        named=words.get(level, level) if level else words.get("off"),
        listed=words.get(level) if level else None,
        level=level,
        budget=budget,
    )
    cannot_stop = level is None and "off" in words and words["off"] is None
    fields = {} if cannot_stop and compat.thinking_format in _SWITCHED else _FORMATS[compat.thinking_format](asked)
    field = compat.thinking_token_budget_field or (
        "thinking_token_budget" if compat.supports_thinking_token_budget else None
    )
    return {**fields, field: budget} if field and budget > 0 else fields


@attrs.frozen(kw_only=True)
class _Thinking:
    """What is asked for.

    :ivar named: the provider's word for the level, the level itself if the model has none, None if it rules the level
        out; while off: the word for ``off``, if there is one.
    :ivar listed: the provider's word for the level, only where the model has one.
    """

    compat: Compat
    on: bool
    level: ReasoningLevel | None
    named: str | None
    listed: str | None
    budget: int

    @property
    def word(self) -> str | None:
        """``named``, with a level that is ruled out but was asked for under its own name."""
        return self.named or self.level

    def effort(self, word: str | None) -> JSONObject:
        return {"reasoning_effort": word} if word and self.compat.supports_reasoning_effort else {}

    def template(self, values: Mapping[str, Any]) -> JSONObject:
        """The values of a chat template with its variables filled in (section 5.2)."""
        filled = {name: self._fill(value) for name, value in values.items()}
        return {name: value for name, value in filled.items() if value is not _OMIT}

    def _fill(self, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        variable = cast("Mapping[str, Any]", value)
        if "$var" not in variable:
            return variable
        if variable.get("omitWhenOff") and not self.on:
            return _OMIT
        match variable["$var"]:
            case "thinking.enabled":
                return self.on
            case "thinking.effort":
                return self.named or _OMIT
            case "thinking.budget":
                return self.budget or _OMIT
            case _:
                return _OMIT


_OMIT = object()


def _openai(asked: _Thinking) -> JSONObject:
    return asked.effort(asked.word)


def _openrouter(asked: _Thinking) -> JSONObject:
    return {"reasoning": {"effort": asked.word or "none"}}


def _deepseek(asked: _Thinking) -> JSONObject:
    if not asked.on:
        return {"thinking": {"type": "disabled"}}
    return {"thinking": {"type": "enabled"}, **asked.effort(asked.word)}


def _zai(asked: _Thinking) -> JSONObject:
    if not asked.on:
        return {"thinking": {"type": "disabled"}}
    return {"thinking": {"type": "enabled", "clear_thinking": False}, **asked.effort(asked.named)}


def _qwen(asked: _Thinking) -> JSONObject:
    return {"enable_thinking": asked.on, **(asked.effort(asked.word) if asked.on else {})}


def _qwen_chat_template(asked: _Thinking) -> JSONObject:
    return {"chat_template_kwargs": {"enable_thinking": asked.on, "preserve_thinking": True}}


def _chat_template(asked: _Thinking) -> JSONObject:
    values = asked.template(asked.compat.chat_template_kwargs)
    return {"chat_template_kwargs": values} if values else {}


def _baseten(asked: _Thinking) -> JSONObject:
    values = asked.template(asked.compat.chat_template_args)
    return {**({"chat_template_args": values} if values else {}), **asked.effort(asked.named)}


def _together(asked: _Thinking) -> JSONObject:
    return {"reasoning": {"enabled": asked.on}, **(asked.effort(asked.word) if asked.on else {})}


def _string_thinking(asked: _Thinking) -> JSONObject:
    return {"thinking": asked.word or "none"}


def _ant_ling(asked: _Thinking) -> JSONObject:
    return {"reasoning": {"effort": asked.listed}} if asked.listed else {}


_FORMATS: Mapping[ThinkingFormat, Callable[[_Thinking], JSONObject]] = {
    "openai": _openai,
    "openrouter": _openrouter,
    "deepseek": _deepseek,
    "zai": _zai,
    "qwen": _qwen,
    "qwen-chat-template": _qwen_chat_template,
    "chat-template": _chat_template,
    "baseten": _baseten,
    "together": _together,
    "string-thinking": _string_thinking,
    "ant-ling": _ant_ling,
}
_SWITCHED = frozenset(_FORMATS) - {"chat-template", "baseten"}
"""Formats that say nothing to a model that cannot switch thinking off; templates say what they are told to say."""
