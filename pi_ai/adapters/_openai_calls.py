"""Tool calls that come in pieces, told apart however the server numbers them (openai-completions.md section 9.6)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import cast

from pi_ai.adapters._answer import as_object, as_text, call_id
from pi_ai.adapters._openai import PlainInput, arguments_json
from pi_ai.builder import MessageBuilder, ToolCallBlock
from pi_ai.events import StreamEvent
from pi_ai.types import JSONObject


class ToolCalls:
    """The calls of one answer.

    :param arguments: of tools that are called with plain text: their names, and the argument that holds it.
    :param new_id: the id to use, of the one that the server gives (or None) and those that are taken.
    """

    def __init__(
        self,
        builder: MessageBuilder,
        arguments: Mapping[str, str],
        new_id: Callable[[str | None, Collection[str]], str] = call_id,
    ) -> None:
        self._builder = builder
        self._arguments = arguments
        self._id = new_id
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
        events += [call.block.delta(call.plain.end()) for call in self._calls if call.plain is not None]

    def _take(self, delta: JSONObject, events: list[StreamEvent]) -> None:
        custom = as_object(delta.get("custom"))
        function = custom or as_object(delta.get("function"))
        index, told, name = delta.get("index"), as_text(delta.get("id")), as_text(function.get("name"))
        call = self._find(index, told, name)
        if call is None:
            plain = PlainInput(self._arguments.get(name or "", "input")) if custom else None
            call = _Call(self._builder.add_tool_call(self._new_id(told), name or ""), told, plain)
            self._calls.append(call)
            events.append(call.block.start())
        if isinstance(index, int):
            self._by_index[index] = call
        content = call.block.content
        if told and call.told is None:
            content.id, call.told = self._new_id(told), told
        if name and not content.name:
            content.name = name
        given = as_text(custom.get("input"))
        text = call.plain.piece(given) if given and call.plain else arguments_json(function.get("arguments"))
        if text:
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
        return self._id(told, {call.block.content.id for call in self._calls})


class _Call:
    """One call.

    :ivar told: the id that the server gave it, None until it does: then its id is made up.
    :ivar plain: of a call that is made with plain text: what makes JSON of it.
    """

    __slots__ = ("block", "plain", "told")

    def __init__(self, block: ToolCallBlock, told: str | None, plain: PlainInput | None) -> None:
        self.block = block
        self.told = told
        self.plain = plain
