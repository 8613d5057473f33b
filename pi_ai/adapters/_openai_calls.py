"""Tool calls that come in pieces, told apart however the server numbers them (openai-completions.md section 9.6)."""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import Mapping
from itertools import count
from typing import cast

from pi_ai.builder import MessageBuilder, ToolCallBlock
from pi_ai.events import StreamEvent
from pi_ai.types import JSONObject

_ID_CHARACTERS = string.ascii_lowercase + string.digits


class ToolCalls:
    """The calls of one answer.

    :param arguments: of tools that are called with plain text: their names, and the argument that holds it.
    """

    def __init__(self, builder: MessageBuilder, arguments: Mapping[str, str]) -> None:
        self._builder = builder
        self._arguments = arguments
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}

    @property
    def any(self) -> bool:
        """Whether there are any."""
        return bool(self._calls)

    def feed(self, deltas: object, events: list[StreamEvent]) -> None:
        """Take the calls of a delta, and append the events that they cause."""
        if isinstance(deltas, list):
            for delta in cast("list[object]", deltas):
                if isinstance(delta, dict):
                    self._take(cast("JSONObject", delta), events)

    def complete(self, events: list[StreamEvent]) -> None:
        """The answer is whole: so is the text that calls were made with, and its JSON can be closed."""
        events += [call.block.delta(call.json_of("") + '"}') for call in self._calls if call.argument is not None]

    def _take(self, delta: JSONObject, events: list[StreamEvent]) -> None:
        custom = _mapping(delta.get("custom"))
        function = custom or _mapping(delta.get("function"))
        index, told, name = delta.get("index"), _text(delta.get("id")), _text(function.get("name"))
        call = self._find(index, told, name)
        if call is None:
            argument = self._arguments.get(name or "", "input") if custom else None
            call = _Call(self._builder.add_tool_call(self._new_id(told), name or ""), told, argument)
            self._calls.append(call)
            events.append(call.block.start())
        if isinstance(index, int):
            self._by_index[index] = call
        content = call.block.content
        if told and call.told is None:
            content.id, call.told = self._new_id(told), told
        if name and not content.name:
            content.name = name
        if text := call.json_of(_text(custom.get("input"))) if custom else _json(function.get("arguments")):
            events.append(call.block.delta(text))

    def _find(self, index: object, told: str | None, name: str | None) -> _Call | None:
        """The call that a delta goes on with; None: it begins a new one.

        By index, then by id, then the last one. But some servers give all calls the number 0, and some none at all.
        """
        same_id = next((call for call in reversed(self._calls) if call.told == told), None) if told else None
        if isinstance(index, int):
            call = self._by_index.get(index)
            if call is None:
                return None if name else same_id
            if told is None or call.told is None or told == call.told:
                return call
            return same_id or (None if name else call)
        if told:
            return same_id
        last = self._calls[-1] if self._calls else None
        return None if last is not None and name and last.block.content.name else last

    def _new_id(self, told: str | None) -> str:
        """The server's id, made unique; if it gives none, one of ours: results are told apart by it (F81)."""
        if not told:
            return "call_" + "".join([secrets.choice(_ID_CHARACTERS) for _ in range(12)])
        taken = {call.block.content.id for call in self._calls}
        return next(new for n in count(1) if (new := told if n == 1 else f"{told}_{n}") not in taken)


class _Call:
    """One call.

    :ivar told: the id that the server gave it, None until it does: then its id is made up.
    :ivar argument: of a call with plain text: the argument that holds it.
    """

    __slots__ = ("_opened", "argument", "block", "told")

    def __init__(self, block: ToolCallBlock, told: str | None, argument: str | None) -> None:
        self.block = block
        self.told = told
        self.argument = argument
        self._opened = False

    def json_of(self, text: str | None) -> str:
        """A piece of plain text as a piece of the arguments' JSON."""
        if text is None:
            return ""
        head = "" if self._opened else f'{{"{_escaped(self.argument or "")}":"'
        self._opened = True
        return head + _escaped(text)


def _json(arguments: object) -> str:
    """Some servers send arguments as an object instead of its JSON text."""
    if isinstance(arguments, str):
        return arguments
    return json.dumps(arguments, ensure_ascii=False, separators=(",", ":")) if arguments else ""


def _escaped(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _mapping(value: object) -> JSONObject:
    return cast("JSONObject", value) if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
