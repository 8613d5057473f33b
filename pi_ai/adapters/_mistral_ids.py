"""Tool-call ids as Mistral takes them: exactly 9 letters and digits (mistral-conversations.md, Messages and Stream)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from itertools import count

from pi_ai.history import IdRule
from pi_ai.text import short_hash
from pi_ai.types import AssistantMessage

LENGTH = 9
"""Characters of an id."""

_OTHERS = re.compile("[^A-Za-z0-9]")


def history_ids() -> IdRule:
    """The rule for one request: the same id always becomes the same one, and different ones stay different."""
    sent: dict[str, str] = {}

    def normalize(call_id: str, _: AssistantMessage) -> str:
        if call_id not in sent:
            sent[call_id] = _free(_candidates(call_id), sent.values())
        return sent[call_id]

    return IdRule(normalize, max_length=LENGTH, joint="")


def answer_id(told: str | None, taken: Collection[str]) -> str:
    """The id of a call in an answer: the server's own, where it gives one that is not taken.

    One that we make has to suit Mistral already, because a model gets its own ids back as they are.
    """
    if told and told not in taken:
        return told
    return _free(_candidates(told or f"toolcall{len(taken)}"), taken)


def _candidates(call_id: str) -> Iterator[str]:
    """The id itself without what Mistral refuses, if it has the right length; then one hash after the other."""
    plain = _OTHERS.sub("", call_id)
    if len(plain) == LENGTH:
        yield plain
    seed = plain or call_id
    for n in count(len(plain) == LENGTH):
        yield short_hash(f"{seed}:{n}" if n else seed)[:LENGTH].ljust(LENGTH, "0")


def _free(candidates: Iterator[str], taken: Collection[str]) -> str:
    return next(candidate for candidate in candidates if candidate not in taken)
