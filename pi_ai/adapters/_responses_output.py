"""The items of a Responses answer while they are written (openai-responses.md sections 7.1 and 7.3).

Each kind of item that is content of ours has a class: it begins with its block, takes pieces, and ends when the server
sends the whole item. What the whole item has beyond the pieces comes as one more delta. Where the two differ, the
pieces stand, because they have been shown (core E7); but for calls the whole item counts (J5).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import ClassVar, TypeAlias

from pi_ai.adapters._answer import as_list, as_object, as_text, call_id
from pi_ai.adapters._openai import PlainInput, arguments_json
from pi_ai.adapters._responses_input import text_signature
from pi_ai.builder import Block, MessageBuilder, TextBlock, ThinkingBlock, ToolCallBlock
from pi_ai.events import StreamEvent
from pi_ai.text import encode_json
from pi_ai.types import JSONObject

SEPARATOR = "\n\n"
"""Stands between the parts of a thought."""


class ChangedInput(Exception):
    """The server has said that an input was complete, and then tells another one."""


class OpenItem(ABC):
    """An item that is being written.

    :cvar type: of the items that it is for. ``plain``: pieces of one part need only be appended to the block.
    :ivar names: what events may call it.
    :param arguments: of tools that are called with plain text: their names, and the argument that holds it.
    """

    type: ClassVar[str]
    plain: ClassVar[bool] = True

    def __init__(self, builder: MessageBuilder, arguments: Mapping[str, str]) -> None:
        self.names: list[Name] = []
        self._arguments = arguments

    @property
    @abstractmethod
    def block(self) -> Block:
        """The block that it becomes."""

    def begin(self, item: JSONObject, events: list[StreamEvent]) -> None:
        """The item as it is when it begins."""
        events.append(self.block.start())

    def piece(self, text: str, payload: JSONObject, events: list[StreamEvent]) -> None:
        """A piece of its text, which is not empty."""
        events.append(self.block.delta(text))

    @abstractmethod
    def end(self, item: JSONObject, events: list[StreamEvent]) -> None:
        """The whole item."""

    def close(self, events: list[StreamEvent], *, complete: bool) -> None:
        """End the block.

        :param complete: nothing of the item is missing.
        """
        events.append(self.block.end())


class OpenText(OpenItem):
    """A message: what the model says, or that it refuses to."""

    type = "message"

    def __init__(self, builder: MessageBuilder, arguments: Mapping[str, str]) -> None:
        super().__init__(builder, arguments)
        self._builder = builder
        self._refused = False
        self._block = builder.add_text()

    @property
    def block(self) -> TextBlock:
        """The text."""
        return self._block

    def piece(self, text: str, payload: JSONObject, events: list[StreamEvent]) -> None:
        """A piece of what it says."""
        if payload.get("type") == "response.refusal.delta":
            self._refuse()
        events.append(self._block.delta(text))

    def end(self, item: JSONObject, events: list[StreamEvent]) -> None:
        """All that it says, and its id and phase for the signature."""
        parts = [as_object(part) for part in as_list(item.get("content"))]
        if any(part.get("type") == "refusal" for part in parts):
            self._refuse()
        whole = "".join([as_text(part.get("text")) or as_text(part.get("refusal")) or "" for part in parts])
        self._block.sync()
        if rest := _rest(self._block.content.text, whole):
            events.append(self._block.delta(rest))
        self._block.content.text_signature = text_signature(item)
        events.append(self._block.end())

    def _refuse(self) -> None:
        if not self._refused:
            self._refused = True
            self._builder.note("refusal")


class OpenThought(OpenItem):
    """Reasoning: a summary of it, or its own text, in parts. The signature is the whole item."""

    type = "reasoning"

    def __init__(self, builder: MessageBuilder, arguments: Mapping[str, str]) -> None:
        super().__init__(builder, arguments)
        self._block = builder.add_thinking()
        self._part: object = None  # the one that the last piece belongs to

    @property
    def block(self) -> ThinkingBlock:
        """The thought."""
        return self._block

    def piece(self, text: str, payload: JSONObject, events: list[StreamEvent]) -> None:
        """A piece of a part."""
        part = (payload.get("type"), payload.get("summary_index"), payload.get("content_index"))
        if self._part is not None and part != self._part:
            events.append(self._block.delta(SEPARATOR))
        self._part = part
        events.append(self._block.delta(text))

    def end_part(self) -> None:
        """A part has ended: that tells it from the next one where the server does not number them."""
        if self._part is not None:
            self._part = ()

    def end(self, item: JSONObject, events: list[StreamEvent]) -> None:
        """All parts, and what the server hides in the item."""
        self._block.sync()
        if rest := _rest(self._block.content.thinking, _parts(item, "summary") or _parts(item, "content")):
            events.append(self._block.delta(rest))
        self._block.content.thinking_signature = encode_json(item).decode()
        events.append(self._block.end())


class OpenCall(OpenItem):
    """A call that is made with JSON.

    :ivar told: the server has said that the arguments are complete.
    """

    type = "function_call"

    def __init__(self, builder: MessageBuilder, arguments: Mapping[str, str]) -> None:
        super().__init__(builder, arguments)
        self.told = False
        self._taken = {call.id for call in builder.message.tool_calls}
        self._identified = False
        self._block = builder.add_tool_call("", "")

    @property
    def block(self) -> ToolCallBlock:
        """The call."""
        return self._block

    def begin(self, item: JSONObject, events: list[StreamEvent]) -> None:
        """The call with its id and name; some servers send the arguments, too."""
        self._identify(item)
        if not self._block.content.id:
            self._block.content.id = call_id(None, self._taken)
        events.append(self._block.start())
        self._preload(item, events)

    def complete(self, payload: JSONObject, events: list[StreamEvent]) -> None:
        """The arguments are complete.

        :raises ChangedInput: they were already, and were others.
        """
        self._identify(payload)
        self._whole(payload, events)
        self.told = True

    def end(self, item: JSONObject, events: list[StreamEvent]) -> None:
        """The whole call.

        :raises ChangedInput: as :meth:`complete`.
        """
        self._identify(item)
        self._whole(item, events)
        self.close(events, complete=item.get("status") != "incomplete")

    def close(self, events: list[StreamEvent], *, complete: bool) -> None:
        """End the call. No arguments at all are arguments only if that is known to be all of them."""
        events.append(self._block.end())
        if not complete and not self._block.arguments.text.strip():
            self._block.content.arguments_error = self._block.arguments.interrupted()

    @property
    def usable(self) -> bool:
        """Whether the call can be run although its item has not ended."""
        return self.told and bool(self._block.content.name) and self._block.arguments.finish()[1] is None

    def _identify(self, item: JSONObject) -> None:
        """Take over name and id as they become known; the item's id is in ours, for the next request."""
        content = self._block.content
        content.name = content.name or as_text(item.get("name")) or ""
        content.namespace = as_text(item.get("namespace")) or content.namespace
        told, item_id = as_text(item.get("call_id")), as_text(item.get("id")) or as_text(item.get("item_id"))
        if (told or item_id) and not self._identified:
            self._identified = told is not None
            content.id = call_id("|".join(filter(None, (told, item_id))), self._taken)

    def _preload(self, item: JSONObject, events: list[StreamEvent]) -> None:
        self._whole(item, events)

    def _whole(self, item: JSONObject, events: list[StreamEvent]) -> None:
        if text := arguments_json(item.get("arguments")):
            events += self._block.complete(text)


class OpenTextCall(OpenCall):
    """A call that is made with plain text: it becomes the one argument of the tool."""

    type = "custom_tool_call"
    plain = False

    def __init__(self, builder: MessageBuilder, arguments: Mapping[str, str]) -> None:
        super().__init__(builder, arguments)
        self._input: PlainInput | None = None

    def piece(self, text: str, payload: JSONObject, events: list[StreamEvent]) -> None:
        """A piece of the text."""
        if self._input is None:
            self._input = PlainInput(self._argument)
        events.append(self._block.delta(self._input.piece(text)))

    @property
    def _argument(self) -> str:
        return self._arguments.get(self._block.content.name, "input")

    def _preload(self, item: JSONObject, events: list[StreamEvent]) -> None:
        if text := as_text(item.get("input")):
            self.piece(text, item, events)

    def _whole(self, item: JSONObject, events: list[StreamEvent]) -> None:
        text = item.get("input")
        if isinstance(text, str):
            given = PlainInput(self._argument)
            whole = given.piece(text) + given.end()
        elif self.told:
            return
        else:
            whole = self._block.arguments.text + (self._input or PlainInput(self._argument)).end()
        if self.told and whole != self._block.arguments.text:
            raise ChangedInput(f'grammar tool input for property "{self._argument}" changed after it was closed')
        events += self._block.complete(whole)


# ── which item an event is about ─────────────────────────────────────────────────────────────────────────────

Name: TypeAlias = tuple[type[OpenItem], int | str]
"""Of an item: its kind, and its place in the answer or its id."""


def names_of(cls: type[OpenItem], payload: JSONObject, item: JSONObject) -> list[Name]:
    """What an event calls the item of a kind that it is about: by place, by id, both, or not at all."""
    place, told = payload.get("output_index"), item.get("id") or payload.get("item_id")
    names: list[Name] = []
    if isinstance(place, int):
        names.append((cls, place))
    if isinstance(told, str) and told:
        names.append((cls, told))
    return names


class OpenItems:
    """The items that are being written, and what has been.

    The place tells an item: some servers give it another id in every event. Where there is none the id does, and where
    there is neither, it is the last item of its kind.
    """

    def __init__(self) -> None:
        self._open: dict[OpenItem, None] = {}
        self._named: dict[Name, OpenItem] = {}
        self._ended: set[Name] = set()

    def __iter__(self) -> Iterator[OpenItem]:
        """All that are open, in the order in which they began."""
        return iter(self._open)

    def find(self, cls: type[OpenItem], names: list[Name]) -> OpenItem | None:
        """The open item that is meant."""
        if names and ((found := self._named.get(names[0])) is not None or isinstance(names[0][1], int)):
            return found
        return next(
            (item for item in reversed(self._open) if item.__class__ is cls and not (names and item.names)), None
        )

    def has_ended(self, names: list[Name]) -> bool:
        """Whether the item that is meant has ended."""
        return bool(names) and names[-1] in self._ended

    def add(self, item: OpenItem, names: list[Name]) -> None:
        """A new item has begun."""
        item.names = names
        self._open[item] = None
        self._named.update(dict.fromkeys(names, item))
        self._ended.difference_update(names)

    def remove(self, item: OpenItem) -> None:
        """An item has ended."""
        del self._open[item]
        self._ended.update(item.names)
        for name in item.names:
            if self._named.get(name) is item:
                del self._named[name]


def _rest(streamed: str, whole: str) -> str:
    return whole[len(streamed) :] if whole.startswith(streamed) else ""


def _parts(item: JSONObject, field: str) -> str:
    return SEPARATOR.join([as_text(as_object(part).get("text")) or "" for part in as_list(item.get(field))])
