"""What generations of Gemini do differently, as data (google.md 4.2, 4.3, 5, 6.1).

``Compat.of(model)`` gives every flag a value: what the model's ``compat`` says, else what its id tells about its
generation, and its API about the server: Vertex refuses fields that Gemini's own API asks for.
"""

from __future__ import annotations

import re
from typing import Literal

import attrs

from pi_ai.adapters._compat import told_flags
from pi_ai.types import JSONObject, Model

_LATEST = frozenset({"gemini-flash-latest", "gemini-flash-lite-latest", "gemini-pro-latest"})
_OTHERS = ("claude-", "gpt-oss-")
"""Beginnings of ids of other vendors' models that Google serves."""


@attrs.frozen(kw_only=True)
class Compat:
    """The switches of one model at one server; ``Model.compat`` names them in either spelling.

    :ivar thinking_control: how hard to think is told as a ``"level"`` or as a ``"budget"`` of tokens; the wrong one is
        refused.
    :ivar unsigned_tool_call_signature: a call of another model in the present turn gets the escape value where a
        signature has to be (``"sentinel"``), or nothing (``"omit"``); ``"auto"``: as the server wants it.
    :ivar supports_tool_call_ids: takes ids of calls and of results.
    :ivar supports_images_in_tool_results: takes images inside of a result; else they follow all results.
    :ivar supports_strict_tools: holds calls to their schemas.
    :ivar completion_proof: ``"eof"``: the end of the bytes is the end of the answer (reliability section 2).
    """

    thinking_control: Literal["level", "budget"] = "level"
    unsigned_tool_call_signature: Literal["auto", "sentinel", "omit"] = "omit"
    supports_tool_call_ids: bool = True
    supports_images_in_tool_results: bool = True
    supports_strict_tools: bool = True
    completion_proof: Literal["eof"] | None = None

    @classmethod
    def of(cls, model: Model) -> Compat:
        """All flags of a model.

        :raises PiAIError: kind ``config``: a flag has a value that it cannot have.
        """
        told = {name: value for name, value in told_flags(cls, model).items() if value != "auto"}
        return cls(**{**_detected(model), **told})


def _detected(model: Model) -> JSONObject:
    name, vertex = model.id.lower(), model.api == "google-vertex"
    generation = _generation(name)
    newer = generation is not None and generation >= 3
    by_level = newer or name in _LATEST or "gemma-4" in name or "gemma4" in name
    return {
        "thinking_control": "level" if by_level else "budget",
        "unsigned_tool_call_signature": "sentinel" if newer and not vertex else "omit",
        "supports_tool_call_ids": (newer or name.startswith(_OTHERS)) and not vertex,
        "supports_images_in_tool_results": newer or generation is None,
        "supports_strict_tools": newer,
    }


def _generation(name: str) -> int | None:
    """The first number of a Gemini's version; None: it has none, or is no Gemini."""
    found = re.search(r"gemini-(?:live-)?(\d+)", name)
    return int(found[1]) if found else None
