"""Tool arguments that come as values at paths, ``{"jsonPath": "$.to[0]", "stringValue": "Ann", "willContinue": true}``,
to JSON text as it grows (google.md section 7, ``partialArgs``).

A model writes its arguments from the first to the last, so the text only has to be continued. Where a path goes back
to what has been closed, nothing more is told until the call is complete (core J5).
"""

from __future__ import annotations

import json
import re
from typing import Any, TypeAlias, cast

import attrs

from pi_ai.types import JSONObject

_Step: TypeAlias = str | int
_Path: TypeAlias = tuple[_Step, ...]

_STEP = re.compile(
    r"""\.(?P<name>[^.\[\]]+) | \[(?P<index>[0-9]{1,5})\] | \[(?P<quote>['"])(?P<quoted>.*?)(?P=quote)\]""",
    re.VERBOSE | re.DOTALL,
)
_VALUES = ("stringValue", "numberValue", "boolValue", "nullValue")


@attrs.define(eq=False)
class _Value:
    """A value, and where it belongs; that of a string in pieces."""

    path: _Path
    pieces: list[Any]

    @property
    def value(self) -> Any:
        return "".join(self.pieces) if isinstance(self.pieces[0], str) else self.pieces[0]


@attrs.define(eq=False)
class _Container:
    """An object or array whose end has not been written.

    :ivar step: where it is in the one around it.
    :ivar names: of its members so far; of an array the indices.
    """

    step: _Step | None
    closer: str
    names: set[_Step] = attrs.field(factory=set[_Step])


class StreamedArguments:
    """The arguments of one call."""

    def __init__(self) -> None:
        self._told: list[Any] = []
        self._values: list[_Value] = []
        self._open = [_Container(None, "}")]
        self._in_string = False
        self._in_order = True
        self._readable = True

    def begin(self) -> str:
        """How the text begins; what is cut off is no JSON from then on."""
        return "{"

    def add(self, piece: Any) -> str:
        """Take an element of ``partialArgs``.

        :returns: how the text goes on.
        """
        self._told.append(piece)
        read = _read(piece)
        if read is None:
            self._readable = self._in_order = False
            return ""
        path, value, goes_on = read
        last = self._values[-1] if self._values else None
        if last and last.path == path and isinstance(value, str) and isinstance(last.pieces[0], str):
            last.pieces.append(value)
            if not self._in_string:
                self._in_order = False
            text = _dumps(value)[1:-1]
        else:
            self._values.append(_Value(path, [value]))
            text = self._end_of_string() + self._way_to(path) + _dumps(value)
            if isinstance(value, str):
                text = text[:-1]
                self._in_string = True
        if not goes_on:
            text += self._end_of_string()
        return text if self._in_order else ""

    def complete(self) -> str:
        """The whole text; where the values make no object, what came instead, which is no object either."""
        root = _Members()
        try:
            for value in self._values:
                root.put(value.path, value.value)
            return _dumps(root.as_json() if self._readable else self._told)
        except ValueError:
            return _dumps(self._told)

    def _end_of_string(self) -> str:
        ended, self._in_string = self._in_string, False
        return '"' if ended else ""

    def _way_to(self, path: _Path) -> str:
        """Close what does not lie on the path, and open what does."""
        text = ""
        kept = 1
        while kept < min(len(self._open), len(path)) and self._open[kept].step == path[kept - 1]:
            kept += 1
        while len(self._open) > kept:
            text += self._open.pop().closer
        for step, inner in zip(path[kept - 1 :], path[kept:], strict=False):
            opener, closer = "{}" if isinstance(inner, str) else "[]"
            text += self._name(step) + opener
            self._open.append(_Container(step, closer))
        return text + self._name(path[-1])

    def _name(self, step: _Step) -> str:
        """Begin a member of the innermost container."""
        container = self._open[-1]
        names = container.names
        is_next = step not in names if isinstance(step, str) else step == len(names)
        if not is_next or isinstance(step, str) != (container.closer == "}"):
            self._in_order = False
        text = "," if names else ""
        names.add(step)
        return f"{text}{_dumps(step)}:" if isinstance(step, str) else text


def _read(piece: Any) -> tuple[_Path, Any, bool] | None:
    """Path, value, and whether a string goes on; None: it cannot be understood."""
    if not isinstance(piece, dict):
        return None
    fields = cast("JSONObject", piece)
    path = _path(fields.get("jsonPath"))
    kind = next((kind for kind in _VALUES if kind in fields), None)
    if path is None or kind is None or isinstance(fields[kind], (dict, list)):
        return None
    if kind == "nullValue":
        return path, None, False
    value = fields[kind]
    return path, value, isinstance(value, str) and bool(fields.get("willContinue"))


def _path(text: object) -> _Path | None:
    """The steps of a JSONPath that leads to one place below the root object; None: it is another one."""
    if not isinstance(text, str) or not text.startswith("$"):
        return None
    steps: list[_Step] = []
    at = 1
    while at < len(text):
        step = _STEP.match(text, at)
        if step is None:
            return None
        steps.append(int(step["index"]) if step["index"] else step["name"] or step["quoted"] or "")
        at = step.end()
    return tuple(steps) if steps and isinstance(steps[0], str) else None


class _Members(dict[_Step, Any]):
    """Of an object by name, or of an array by index."""

    def put(self, path: _Path, value: Any) -> None:
        """Put a value into its place.

        :raises ValueError: something else is on the way.
        """
        place = self
        for step in path[:-1]:
            place = place.setdefault(step, _Members())
            if not isinstance(place, _Members):
                raise ValueError(f"{step!r} holds a value and members")
        place[path[-1]] = value

    def as_json(self) -> Any:
        """What it stands for.

        :raises ValueError: it is neither object nor array.
        """
        members = {step: value.as_json() if isinstance(value, _Members) else value for step, value in self.items()}
        indices = [step for step in members if isinstance(step, int)]
        if not indices:
            return members
        if len(indices) < len(members):
            raise ValueError("an array has no names")
        return [members.get(index) for index in range(max(indices) + 1)]


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
