"""What a stream yields: typed events, one closed union (core section 3, S4).

``start``, then for each block of content one start, any number of deltas and one end, then exactly one of ``done``
and ``error``. Blocks may interleave; ``content_index`` tells which one an event belongs to. Match on the class, or
on the literal ``type``::

    match event:
        case TextDeltaEvent(delta=text):
            ...

``event.partial`` is the message as far as it has come: one live object for all events of a stream, brought up to
date when the property is read (S22). It becomes the final message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, TypeAlias

import attrs

from pi_ai.types import AssistantMessage, ToolCall

if TYPE_CHECKING:
    from attrs import frozen as _event
else:
    # Frozen for type checkers. At run time nothing guards an event: the guard would triple the price of making one,
    # and one is made for every piece of text.
    from attrs import define as _event


class PartialSource(Protocol):
    """Whoever builds the message that the events are about."""

    @property
    def message(self) -> AssistantMessage:
        """The live message, up to date."""
        ...

    def interrupt(self) -> AssistantMessage:
        """The stream failed or was left: mark what is unfinished, and return the message."""
        ...


@_event
class _Update:
    _partial: AssistantMessage | PartialSource = attrs.field(
        factory=AssistantMessage, alias="partial", eq=False, repr=False, kw_only=True, metadata={"json": False}
    )

    @property
    def partial(self) -> AssistantMessage:
        """The live message of the stream (core E9)."""
        source = self._partial
        return source if isinstance(source, AssistantMessage) else source.message


@_event
class StartEvent(_Update):
    """The answer has begun."""

    type: ClassVar[Literal["start"]] = "start"


@_event
class TextStartEvent(_Update):
    """A text block begins; its text comes as deltas."""

    type: ClassVar[Literal["text_start"]] = "text_start"
    content_index: int


@_event
class TextDeltaEvent(_Update):
    """More text."""

    type: ClassVar[Literal["text_delta"]] = "text_delta"
    content_index: int
    delta: str


@_event
class TextEndEvent(_Update):
    """A text block is complete; ``content`` is all of it."""

    type: ClassVar[Literal["text_end"]] = "text_end"
    content_index: int
    content: str


@_event
class ThinkingStartEvent(_Update):
    """The model begins to think."""

    type: ClassVar[Literal["thinking_start"]] = "thinking_start"
    content_index: int


@_event
class ThinkingDeltaEvent(_Update):
    """More of the thought."""

    type: ClassVar[Literal["thinking_delta"]] = "thinking_delta"
    content_index: int
    delta: str


@_event
class ThinkingEndEvent(_Update):
    """The thought is complete; ``content`` is all of it, or a placeholder for a redacted one."""

    type: ClassVar[Literal["thinking_end"]] = "thinking_end"
    content_index: int
    content: str


@_event
class ToolCallStartEvent(_Update):
    """A tool call begins; its arguments come as deltas of JSON text."""

    type: ClassVar[Literal["toolcall_start"]] = "toolcall_start"
    content_index: int


@_event
class ToolCallDeltaEvent(_Update):
    """More of the arguments' JSON text. What can be read of them so far is in ``partial``."""

    type: ClassVar[Literal["toolcall_delta"]] = "toolcall_delta"
    content_index: int
    delta: str


@_event
class ToolCallEndEvent(_Update):
    """A tool call is complete. Check ``tool_call.arguments_error`` before running it."""

    type: ClassVar[Literal["toolcall_end"]] = "toolcall_end"
    content_index: int
    tool_call: ToolCall


DoneReason: TypeAlias = Literal["stop", "length", "toolUse", "deferred"]


@_event
class DoneEvent:
    """The answer is complete. The last event."""

    type: ClassVar[Literal["done"]] = "done"
    reason: DoneReason
    message: AssistantMessage


@_event
class ErrorEvent:
    """The answer failed or was aborted; what came before is kept in ``error``. The last event."""

    type: ClassVar[Literal["error"]] = "error"
    reason: Literal["error", "aborted"]
    error: AssistantMessage

    @property
    def message(self) -> AssistantMessage:
        """The final message, under the name that it has in ``done``."""
        return self.error


UpdateEvent: TypeAlias = (
    StartEvent
    | TextStartEvent
    | TextDeltaEvent
    | TextEndEvent
    | ThinkingStartEvent
    | ThinkingDeltaEvent
    | ThinkingEndEvent
    | ToolCallStartEvent
    | ToolCallDeltaEvent
    | ToolCallEndEvent
)
TerminalEvent: TypeAlias = DoneEvent | ErrorEvent
StreamEvent: TypeAlias = UpdateEvent | TerminalEvent
