"""The message under construction: blocks, deltas and usage in, typed events out.

Both the built-in adapters and people who write custom providers build their answer here. Text is a list of deltas
joined when somebody reads it, tool arguments are parsed when somebody reads them (D18, S22), so a delta costs the
same however long the message has become.

The short form, one block at a time::

    out = MessageBuilder(model)
    yield out.start()
    yield out.thinking("Hm. ")
    yield out.text("Hello")                       # ends the thinking block, opens a text block
    yield out.tool_call("call_1", "get_time", {"zone": "UTC"})
    yield out.finish("toolUse")

The long form, for wires on which blocks interleave: ``block = out.add_text()``, then ``block.start()``,
``block.delta(…)`` and ``block.end()`` each give one event.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

from pi_ai.events import (
    DoneEvent,
    DoneReason,
    ErrorEvent,
    StartEvent,
    StreamEvent,
    TextDeltaEvent,
    TextEndEvent,
    TextStartEvent,
    ThinkingDeltaEvent,
    ThinkingEndEvent,
    ThinkingStartEvent,
    ToolCallDeltaEvent,
    ToolCallEndEvent,
    ToolCallStartEvent,
)
from pi_ai.pricing import calculate_cost, sum_usage
from pi_ai.types import AssistantMessage, Diagnostic, JSONObject, Model, TextContent, ThinkingContent, ToolCall, Usage
from pi_ai.wire.partial_json import PartialArguments

REDACTED = "[Reasoning redacted]"
"""What stands for a thought that the provider hides (core E8)."""


class TextBlock:
    """A text block that is being written."""

    __slots__ = ("_builder", "_parts", "content", "index", "open")

    def __init__(self, builder: MessageBuilder, index: int) -> None:
        self._builder = builder
        self._parts: list[str] = []
        self.content = TextContent("")
        self.index = index
        self.open = True

    def start(self) -> TextStartEvent:
        """The event that opens the block."""
        return TextStartEvent(self.index, partial=self._builder)

    def delta(self, text: str) -> TextDeltaEvent:
        """Append ``text`` (not empty, core E10)."""
        self._parts.append(text)
        return TextDeltaEvent(self.index, text, partial=self._builder)

    def end(self) -> TextEndEvent:
        """Close the block."""
        self.open = False
        self.sync()
        return TextEndEvent(self.index, self.content.text, partial=self._builder)

    def sync(self) -> None:
        """Bring ``content`` up to date."""
        if self._parts:
            # The only reference while it grows, so CPython extends it in place instead of copying it.
            text, self.content.text = self.content.text, ""
            text += "".join(self._parts)
            self.content.text = text
            self._parts.clear()

    def interrupt(self) -> None:
        """The stream failed: keep what came."""
        self.sync()


class ThinkingBlock:
    """A thought that is being written. Set ``content.thinking_signature`` as it becomes known."""

    __slots__ = ("_builder", "_parts", "content", "index", "open")

    def __init__(self, builder: MessageBuilder, index: int, signature: str | None, redacted: bool) -> None:
        self._builder = builder
        self._parts: list[str] = []
        self.content = ThinkingContent(
            REDACTED if redacted else "", thinking_signature=signature, redacted=True if redacted else None
        )
        self.index = index
        self.open = True

    def start(self) -> ThinkingStartEvent:
        """The event that opens the block."""
        return ThinkingStartEvent(self.index, partial=self._builder)

    def delta(self, text: str) -> ThinkingDeltaEvent:
        """Append ``text`` (not empty, core E10)."""
        self._parts.append(text)
        return ThinkingDeltaEvent(self.index, text, partial=self._builder)

    def end(self) -> ThinkingEndEvent:
        """Close the block."""
        self.open = False
        self.sync()
        return ThinkingEndEvent(self.index, self.content.thinking, partial=self._builder)

    def sync(self) -> None:
        """Bring ``content`` up to date."""
        if self._parts:
            text, self.content.thinking = self.content.thinking, ""
            text += "".join(self._parts)
            self.content.thinking = text
            self._parts.clear()

    def interrupt(self) -> None:
        """The stream failed: keep what came."""
        self.sync()


class ToolCallBlock:
    """A tool call whose arguments arrive as pieces of JSON text. ``content.id`` and ``.name`` may come late."""

    __slots__ = ("_builder", "arguments", "content", "index", "open")

    def __init__(self, builder: MessageBuilder, index: int, id: str, name: str) -> None:  # noqa: A002 - the field's name
        self._builder = builder
        self.arguments = PartialArguments()
        self.content = ToolCall(id, name)
        self.index = index
        self.open = True

    def start(self) -> ToolCallStartEvent:
        """The event that opens the block."""
        return ToolCallStartEvent(self.index, partial=self._builder)

    def delta(self, text: str) -> ToolCallDeltaEvent:
        """Append ``text`` (not empty) to the arguments' JSON."""
        self.arguments.append(text)
        return ToolCallDeltaEvent(self.index, text, partial=self._builder)

    def complete(self, text: str) -> list[StreamEvent]:
        """The provider repeats the whole JSON at the end: the missing tail as a delta, or a silent replacement (J5)."""
        so_far = self.arguments.text
        if text.startswith(so_far):
            tail = text[len(so_far) :]
            return [self.delta(tail)] if tail else []
        self.arguments = PartialArguments()
        self.arguments.append(text)
        return []

    def end(self) -> ToolCallEndEvent:
        """Close the call: parse strictly, or mark it as not runnable (core J2)."""
        self.open = False
        self.content.arguments, self.content.arguments_error = self.arguments.finish()
        return ToolCallEndEvent(self.index, self.content, partial=self._builder)

    def sync(self) -> None:
        """Bring ``content`` up to date."""
        self.content.arguments = self.arguments.value

    def interrupt(self) -> None:
        """The stream failed: keep the raw text, and make sure that nobody runs the call (reliability F19)."""
        self.content.arguments, self.content.arguments_error = {}, self.arguments.interrupted()


Block: TypeAlias = TextBlock | ThinkingBlock | ToolCallBlock
BlockT = TypeVar("BlockT", TextBlock, ThinkingBlock, ToolCallBlock)


class MessageBuilder:
    """Builds one :class:`AssistantMessage` and the events about it.

    :param model: whose answer it is; its prices give the cost.
    :param timestamp: when the request was made, ms since the epoch (default: now).
    """

    def __init__(self, model: Model, *, timestamp: int | None = None) -> None:
        self.model = model
        self._blocks: list[Block] = []
        self._message = AssistantMessage(api=model.api, provider=model.provider, model=model.id)
        self._count: Callable[[], Usage] | None = None
        self._wasted: Usage | None = None  # of attempts that failed
        if timestamp is not None:
            self._message.timestamp = timestamp

    @property
    def message(self) -> AssistantMessage:
        """The live message, up to date: the same object every time (core E9)."""
        for block in self._blocks:
            if block.open:
                block.sync()
        self._settle_usage()
        return self._message

    # ── one block at a time ──────────────────────────────────────────────────────────────────────────────────

    def start(self) -> StartEvent:
        """The first event of a stream."""
        return StartEvent(partial=self)

    def text(self, delta: str) -> list[StreamEvent]:
        """Append to the text block being written; opens one, and ends what was being written before."""
        block, events = self._current(TextBlock)
        if block is None:
            block = self.add_text()
            events.append(block.start())
        if delta:
            events.append(block.delta(delta))
        return events

    def thinking(self, delta: str, *, signature: str | None = None) -> list[StreamEvent]:
        """Append to the thought being written; opens one, and ends what was being written before."""
        block, events = self._current(ThinkingBlock)
        if block is None:
            block = self.add_thinking()
            events.append(block.start())
        if signature is not None:
            block.content.thinking_signature = signature
        if delta:
            events.append(block.delta(delta))
        return events

    def tool_call(self, id: str, name: str, arguments: JSONObject | str) -> list[StreamEvent]:  # noqa: A002
        """A whole tool call at once.

        :param arguments: the arguments, or their JSON text.
        """
        text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False, allow_nan=False)
        events = self.close_blocks()
        block = self.add_tool_call(id, name)
        events.append(block.start())
        if text:
            events.append(block.delta(text))
        events.append(block.end())
        return events

    def finish(self, reason: DoneReason) -> list[StreamEvent]:
        """End the message: closes open blocks (core E6), then ``done``."""
        events = self.close_blocks()
        self._end_usage()
        self._message.stop_reason = reason
        events.append(DoneEvent(reason, self._message))
        return events

    def fail(self, text: str) -> ErrorEvent:
        """End the message with an error. Raising an exception in the source does the same."""
        message = self.interrupt()
        message.stop_reason, message.error_message = "error", text
        return ErrorEvent("error", message)

    def _current(self, kind: type[Any]) -> tuple[Any, list[StreamEvent]]:
        last = self._blocks[-1] if self._blocks else None
        if last is not None and last.open and isinstance(last, kind):
            return last, []
        return None, self.close_blocks()

    # ── blocks that interleave ───────────────────────────────────────────────────────────────────────────────

    def add_text(self) -> TextBlock:
        """Add an empty text block."""
        block = TextBlock(self, len(self._blocks))
        return self._add(block)

    def add_thinking(self, *, signature: str | None = None, redacted: bool = False) -> ThinkingBlock:
        """Add an empty thought, or the placeholder of a redacted one whose payload is ``signature``."""
        return self._add(ThinkingBlock(self, len(self._blocks), signature, redacted))

    def add_tool_call(self, id: str, name: str) -> ToolCallBlock:  # noqa: A002
        """Add a tool call without arguments."""
        return self._add(ToolCallBlock(self, len(self._blocks), id, name))

    def _add(self, block: BlockT) -> BlockT:
        self._blocks.append(block)
        self._message.content.append(block.content)
        return block

    def close_blocks(self) -> list[StreamEvent]:
        """End every block that is still open, in order."""
        return [block.end() for block in self._blocks if block.open]

    # ── the message's own fields ─────────────────────────────────────────────────────────────────────────────

    def set_usage(self, usage: Usage) -> None:
        """Replace the usage and compute its cost, so that every ending has both (S21)."""
        calculate_cost(self.model, usage)
        self._message.usage = usage

    def defer_usage(self, count: Callable[[], Usage]) -> None:
        """For providers that tell the usage with every chunk: it is counted whenever somebody reads it, and at the end.

        :param count: the usage so far; called as often as that.
        """
        self._count = count

    def _settle_usage(self) -> None:
        if self._count is not None:
            self.set_usage(self._count())

    def _end_usage(self) -> None:
        """The usage is final: what failed attempts used belongs to the bill (F53)."""
        self._settle_usage()
        self._count = None
        if self._wasted is not None:
            usage = self._message.usage
            usage.wasted, self._wasted = self._wasted, None
            usage.cost.total += usage.wasted.cost.total

    def note(self, type: str, **details: Any) -> None:  # noqa: A002
        """Add a diagnostic: something was repaired or ignored (core D2)."""
        self._message.add_diagnostic(Diagnostic(type=type, details=details or None))

    def reset(self) -> None:
        """Forget what a failed attempt left, before the next one; nothing of it has been shown (D10).

        What it used is kept, as far as it was told (F53).
        """
        self._settle_usage()
        message = self._message
        if message.usage.total_tokens or message.usage.cost.total:
            self._wasted = message.usage if self._wasted is None else sum_usage(self._wasted, message.usage)
        self._blocks.clear()
        message.content = []
        message.usage = Usage()
        self._count = None
        message.response_id = message.response_model = message.raw_stop_reason = None
        message.diagnostics = None

    def interrupt(self) -> AssistantMessage:
        """The stream failed or was left: make what is unfinished consistent and return the message (core E6)."""
        for block in self._blocks:
            if block.open:
                block.open = False
                block.interrupt()
        self._end_usage()
        return self._message
