"""What an answer holds beside text, thought and calls: tools that ran on the server, citations, and what is still to
be invented. None of it is content (anthropic-messages.md section 5.2); all of it is told, as it came, in a diagnostic.
"""

from __future__ import annotations

from typing import Any

from pi_ai.builder import MessageBuilder
from pi_ai.text import parse_json_with_repair
from pi_ai.types import Diagnostic, JSONObject

TYPE = "anthropic_server_content"
"""Of the diagnostic. Its details are ``blocks``, in the shapes of the wire, and ``citations``, each with the
``contentIndex`` of the text that it is about."""


class ServerContent:
    """What there is of it in one answer."""

    def __init__(self, builder: MessageBuilder) -> None:
        self._builder = builder
        self._details: dict[str, list[Any]] = {}

    def add(self, block: JSONObject) -> ForeignBlock:
        """A block."""
        return ForeignBlock(self._told("blocks", dict(block)))

    def cite(self, content_index: int, citation: JSONObject) -> None:
        """A citation in a text."""
        self._told("citations", {"contentIndex": content_index, "citation": citation})

    def _told(self, key: str, item: JSONObject) -> JSONObject:
        if not self._details:
            self._builder.message.add_diagnostic(Diagnostic(type=TYPE, details=self._details))
        self._details.setdefault(key, []).append(item)
        return item


class ForeignBlock:
    """One block while it comes. What deltas add to a text is appended, everything else replaces."""

    def __init__(self, block: JSONObject) -> None:
        self._block = block
        self._pieces: dict[str, list[str]] = {}

    def add(self, delta: JSONObject) -> None:
        """Take a delta of any kind."""
        for key, value in delta.items():
            if isinstance(value, str) and key != "type":
                self._pieces.setdefault(key, []).append(value)
            elif value is not None and key != "type":
                self._block[key] = value

    def close(self) -> None:
        """It has ended, or nothing more will come."""
        for key, pieces in self._pieces.items():
            text = "".join(pieces)
            if key == "partial_json":
                self._block["input"] = _parsed(text)
            else:
                before = self._block.get(key)
                self._block[key] = before + text if isinstance(before, str) else text
        self._pieces.clear()


def _parsed(text: str) -> Any:
    """The input of a tool; its text where that is cut off."""
    try:
        return parse_json_with_repair(text) if text else {}
    except ValueError:
        return text
