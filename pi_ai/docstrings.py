"""What a docstring says of a thing, and of its parameters or attributes; in Google's, NumPy's and Sphinx's style."""

from __future__ import annotations

import inspect
import re

import attrs

_MEMBERS = frozenset(
    ["args", "arguments", "params", "parameters", "other parameters", "keyword args", "keyword arguments", "attributes"]
)
_OTHERS = frozenset(
    ["returns", "return", "yields", "raises", "warns", "example", "examples", "see also", "references", "todo"]
)
"""Sections for people, not for models."""

_FIELD = re.compile(r":(?P<kind>\w+)(?:\s+(?P<what>[^:]*))?:\s*(?P<text>.*)")
_FIELDS_OF_MEMBERS = frozenset(
    ["param", "parameter", "arg", "argument", "key", "keyword", "ivar", "var", "cvar", "attribute"]
)
_GOOGLE_ENTRY = re.compile(r"\*{0,2}(?P<names>\w+)\s*(?:\(.*?\))?\s*:\s*(?P<text>.*)")
_NUMPY_ENTRY = re.compile(r"(?P<names>\*{0,2}\w+(?:\s*,\s*\*{0,2}\w+)*)\s*(?::(?P<text>.*))?")


@attrs.frozen
class Docstring:
    """:ivar text: what stands before and between the sections. ``members``: what is said of each parameter."""

    text: str
    members: dict[str, str]


def read_docstring(docstring: str | None) -> Docstring:
    """Take a docstring apart. None, and whatever has no sections, is all text."""
    reader = _Reader(inspect.cleandoc(docstring or "").splitlines())
    reader.read()
    members = {name: " ".join(lines).strip() for name, lines in reader.members.items()}
    return Docstring("\n".join(reader.text).strip(), {name: text for name, text in members.items() if text})


class _Reader:
    def __init__(self, lines: list[str]) -> None:
        self.text: list[str] = []
        self.members: dict[str, list[str]] = {}
        self._lines = lines
        self._at = 0

    def read(self) -> None:
        while self._at < len(self._lines):
            line = self._lines[self._at]
            title = line.strip().rstrip(":").lower()
            known = title in _MEMBERS or title in _OTHERS
            self._at += 1
            if known and self._next().startswith("---") and not self._next().strip("- "):
                self._at += 1
                self._section(_NUMPY_ENTRY if title in _MEMBERS else None, numpy=True)
            elif known and line == line.strip() and line.endswith(":"):
                self._section(_GOOGLE_ENTRY if title in _MEMBERS else None, numpy=False)
            elif field := _FIELD.fullmatch(line):
                self._field(field)
            else:
                self.text.append(line)

    def _next(self) -> str:
        return self._lines[self._at] if self._at < len(self._lines) else ""

    def _field(self, field: re.Match[str]) -> None:
        """``:param str name: text``, and the indented lines after it."""
        lines = [field["text"]]
        while self._next()[:1].isspace():
            lines.append(self._next().strip())
            self._at += 1
        what = (field["what"] or "").split()
        if field["kind"] in _FIELDS_OF_MEMBERS and what:
            self.members[what[-1].lstrip("*")] = lines

    def _section(self, entry: re.Pattern[str] | None, *, numpy: bool) -> None:
        """The members that a section lists (Google indents them, NumPy what is said of them); None: skip it."""
        margin: int | None = 0 if numpy else None
        lines: list[str] = []
        while self._at < len(self._lines):
            line = self._next()
            indent = len(line) - len(line.lstrip())
            if line.strip():
                if numpy and self._lines[self._at + 1 : self._at + 2] and self._lines[self._at + 1].startswith("---"):
                    return
                if not numpy and indent == 0:
                    return
                margin = indent if margin is None else margin
                found = entry.fullmatch(line.strip()) if entry and indent <= margin else None
                if found is None:
                    lines.append(line.strip())
                else:
                    lines = [] if numpy else [found["text"]]  # what follows NumPy's colon is a type
                    for name in found["names"].split(","):
                        self.members[name.strip().lstrip("*")] = lines
            self._at += 1
