"""What is known of the models behind Converse, by their ids and names (bedrock-converse-stream.md 4, 4.2, 4.3, 4.5).

The id of somebody's own inference profile says nothing about its model, so that the display name counts as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Literal, TypeAlias

from pi_ai.adapters._claude import effort_of
from pi_ai.reasoning import MINIMUM_BUDGET
from pi_ai.types import JSONObject, Model, ReasoningLevel

ThinkingDisplay: TypeAlias = Literal["summarized", "omitted"]

_LATEST = r"(?:opus|sonnet|haiku|fable)-5|opus-4-[78]"
"""Claude models with an effort ``xhigh`` of their own, and with controls for thoughts that lost their context."""
_ADAPTIVE = rf"{_LATEST}|(?:opus|sonnet)-4-6"
"""Claude models that think as hard as an effort says, instead of within a budget."""
_CACHING = r"(?:opus|sonnet|haiku|fable)-5|-4(?:-|$)|claude-3-7-sonnet|claude-3-5-haiku"
_CACHING_LONG = r"(?:opus|sonnet|haiku|fable)-5|-4-[5-9](?!\d)"
"""Claude models that cache a prompt, and those that do so for an hour."""

_INTERLEAVED = "interleaved-thinking-2025-05-14"
_BINDING_CONTROLS = "thinking-binding-controls-2026-08-01"

_EFFORTS: Mapping[ReasoningLevel, str] = {"minimal": "low", "low": "low", "medium": "medium"}


def is_claude(model: Model) -> bool:
    """Whether a model is one of Anthropic's."""
    return bool(re.search("anthropic[./]claude", model.id.lower())) or "claude" in model.name.lower()


def is_adaptive(model: Model) -> bool:
    """Whether a model thinks as hard as an effort says, instead of within a budget."""
    return is_claude(model) and _matches(model, _ADAPTIVE)


def caches(model: Model, *, forced: bool) -> bool:
    """Whether a model takes cache points.

    :param forced: what to believe of a model that may be anything.
    """
    return _matches(model, _CACHING) if _matches(model, "claude") else forced


def caches_long(model: Model) -> bool:
    """Whether it takes cache points that live for an hour."""
    return _matches(model, "claude") and _matches(model, _CACHING_LONG)


def thinking_fields(
    model: Model,
    level: ReasoningLevel,
    *,
    budget: int,
    max_tokens: int,
    display: ThinkingDisplay,
    interleaved: bool,
    restricted: bool,
) -> JSONObject:
    """The fields, beside Converse's own, that tell a model how hard to think; none where it cannot be told.

    :param budget: tokens, for Claude models that have one; such as do not fit into ``max_tokens`` mean no thought (T6).
    :param interleaved: think between calls, too. ``restricted``: in GovCloud, which knows the older fields only.
    """
    if is_claude(model):
        shown: JSONObject = {} if restricted else {"display": display}
        latest = _matches(model, _LATEST)
        if _matches(model, _ADAPTIVE):
            effort = level if level == "xhigh" and latest else effort_of(model, level)
            fields: JSONObject = {"thinking": {"type": "adaptive", **shown}, "output_config": {"effort": effort}}
            if latest and not restricted:
                fields["thinking"]["block_binding"] = {"prefix_mismatch_behavior": "drop_block"}
                fields["anthropic_beta"] = [_BINDING_CONTROLS]
            return fields
        if not MINIMUM_BUDGET <= budget < max_tokens:
            return {}
        betas = {"anthropic_beta": [_INTERLEAVED]} if interleaved else {}
        return {"thinking": {"type": "enabled", "budget_tokens": budget, **shown}, **betas}
    if _matches(model, "gpt-oss"):
        return {"reasoning_effort": _EFFORTS.get(level, "high")}
    if _matches(model, "gpt-"):
        word = (model.thinking_level_map or {}).get(level)
        return {"reasoning": {"effort": word or ("low" if level == "minimal" else level)}}
    return {}


def _matches(model: Model, pattern: str) -> bool:
    return any(re.search(pattern, spelling) for spelling in _spellings(model.id, model.name))


@cache
def _spellings(model_id: str, name: str) -> tuple[str, ...]:
    """Id and name in lower case, and both again with hyphens for whatever separates words."""
    lower = (model_id.lower(), name.lower())
    return (*lower, *(re.sub(r"[\s_.:]+", "-", spelling) for spelling in lower))
