"""``reasoning_details``: thoughts in pieces, some signed or encrypted, that servers want back as they sent them.

They arrive as a list of objects in any number of deltas (openai-completions.md section 9.5), are kept as the JSON
text of the whole list in the thought's signature, and go back from there (section 6.3 rule 5).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeGuard, cast

from pi_ai.types import JSONObject, ThinkingContent, ToolCall

_PAYLOAD = {"reasoning.text": "text", "reasoning.summary": "summary", "reasoning.encrypted": "data"}
_OPTIONAL: dict[str, type | tuple[type, ...]] = {
    "signature": str,
    "id": str,
    "format": str,
    "index": (int, float),
}


def is_detail(value: object) -> TypeGuard[JSONObject]:
    """Whether something is a detail as it can be sent back."""
    if not isinstance(value, dict):
        return False
    detail = cast("JSONObject", value)
    kind = detail.get("type")
    payload = _PAYLOAD.get(kind) if isinstance(kind, str) else None
    if payload is None:
        return False
    # OpenRouter sends the signature of a thought by itself, after its text.
    only_signature = kind == "reasoning.text" and payload not in detail and bool(detail.get("signature"))
    return (only_signature or isinstance(detail.get(payload), str)) and (
        all(detail.get(name) is None or isinstance(detail[name], kind) for name, kind in _OPTIONAL.items())
    )


class ReasoningDetails:
    """The details of one thought while they come."""

    def __init__(self) -> None:
        self._details: list[JSONObject] = []
        self._texts: list[list[str]] = []

    def add(self, detail: JSONObject) -> str:
        """Append a valid detail, or merge it into the last one of its kind; returns its readable text."""
        kind = detail["type"]
        text = detail.get(_PAYLOAD[kind], "")
        if self._details and kind != "reasoning.encrypted" and self._details[-1]["type"] == kind:
            last = self._details[-1]
            for name in _OPTIONAL:
                if last.get(name) in (None, "") and detail.get(name) is not None:
                    last[name] = detail[name]
            self._texts[-1].append(text)
        else:
            self._details.append(dict(detail))
            self._texts.append([text])
        return "" if kind == "reasoning.encrypted" else text

    def signature(self) -> str:
        """All of them as JSON text."""
        for detail, texts in zip(self._details, self._texts, strict=True):
            texts[:] = ["".join(texts)]
            detail[_PAYLOAD[detail["type"]]] = texts[0]
        return json.dumps(self._details, ensure_ascii=False, separators=(",", ":"))


def replayed_details(thoughts: Sequence[ThinkingContent], calls: Sequence[ToolCall]) -> list[JSONObject]:
    """The details to send back: those in a thought's signature; of old conversations, those kept with the calls."""
    for thought in thoughts:
        details = _json(thought.thinking_signature)
        if isinstance(details, list) and details and all(map(is_detail, cast("list[object]", details))):
            return cast("list[JSONObject]", details)
    kept = [_json(call.thought_signature) for call in calls]
    return [detail for detail in kept if _is_encrypted(detail)]


def _is_encrypted(detail: object) -> TypeGuard[JSONObject]:
    return is_detail(detail) and detail["type"] == "reasoning.encrypted" and bool(detail.get("id") and detail["data"])


def _json(text: str | None) -> Any:
    if not text or text[0] not in "[{":
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
