"""Rules of Claude that hold on every wire it is served on."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pi_ai.history import IdRule
from pi_ai.tools import Limits
from pi_ai.types import Model, ReasoningLevel

IDS = IdRule(lambda call_id, _: re.sub(r"[^A-Za-z0-9_-]", "_", call_id)[:64], max_length=64)
"""Tool-call ids that it takes (AN22)."""

STRICT_LIMITS: Limits = {
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"), ()),
    **dict.fromkeys(("maxItems", "uniqueItems", "minContains", "maxContains", "minProperties", "maxProperties"), ()),
    "minItems": (0, 1),
    "format": ("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"),
}
"""What its strict tools do not take (AN19)."""

_TOO_STRICT = (
    "The compiled grammar is too large",
    "Too many strict tools (",
    "Schemas contains too many parameters with union types (",
    "Schemas contains too many optional parameters (",
)

_EFFORTS: Mapping[ReasoningLevel, str] = {"minimal": "low", "low": "low", "medium": "medium"}


def is_too_strict(error_text: str) -> bool:
    """Whether a refusal says that the tools are more than can be made strict (CS3)."""
    return any(words in error_text for words in _TOO_STRICT)


def effort_of(model: Model, level: ReasoningLevel) -> str:
    """The effort for a level where a model thinks adaptively: its own word, else the nearest that all have."""
    return (model.thinking_level_map or {}).get(level) or _EFFORTS.get(level, "high")
