"""Answers to the browser, and back: the UI message stream of the AI SDK (v1), and JSON lines, for any ASGI application.

* Out: :class:`UIMessageResponse` and :class:`JSONLinesResponse` are ASGI applications that send a stream, a run of
  tools or a :class:`~pi_ai.FanOut`. When the client leaves, what they send ends at once, upstream too; a ``FanOut``
  goes on for its other readers. :func:`ui_message_stream` and :func:`json_lines` give the bytes alone, for frameworks
  that want an iterator of them.
* In: :func:`context_from_ui_messages` reads what the browser posts, :func:`read_json_lines` makes a stream of lines.

How an answer becomes chunks depends on its events alone, so that a reader who reconnects gets the same ones again and
goes on after the last that it has seen. The id of a chunk is the number of its event, and its own within that event.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import logging
import math
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Mapping, MutableMapping
from types import MappingProxyType
from typing import Any, Literal, Self, TypeAlias, TypeVar, cast
from urllib.parse import unquote_to_bytes

import anyio
import attrs
from anyio import CancelScope
from anyio.lowlevel import checkpoint

from pi_ai.agents import RunEndEvent, RunEvent, ToolResultEvent
from pi_ai.builder import Block, BlockT, MessageBuilder, TextBlock, ThinkingBlock, ToolCallBlock
from pi_ai.errors import failure
from pi_ai.events import (
    DoneEvent,
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
from pi_ai.fan_out import FanOut
from pi_ai.serialization import camel, from_json, loads, to_json
from pi_ai.streams import CLOSE_TIMEOUT_S, EventStream, event_stream
from pi_ai.types import (
    AssistantContent,
    AssistantMessage,
    Context,
    ImageContent,
    JSONObject,
    Message,
    Model,
    TextContent,
    ThinkingContent,
    Tool,
    ToolCall,
    ToolResultMessage,
    UserContent,
    UserMessage,
)
from pi_ai.wire.json_documents import JSONDocuments

__all__ = [
    "JSON_LINES_HEADERS",
    "UI_MESSAGE_HEADERS",
    "JSONLinesResponse",
    "UIMessageResponse",
    "context_from_ui_messages",
    "json_lines",
    "read_json_lines",
    "ui_message_stream",
]

T = TypeVar("T")
Events: TypeAlias = AsyncIterable[RunEvent] | AsyncIterable[StreamEvent]
"""A stream, a run of tools, a reader of a ``FanOut``, or whatever else yields their events."""
ErrorText: TypeAlias = Callable[[AssistantMessage], str | None]
"""What a failed answer is called in the browser; None: what it is called by default."""
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_UNBUFFERED = {"cache-control": "no-cache, no-transform", "x-accel-buffering": "no"}  # proxies hold nothing back
UI_MESSAGE_HEADERS: Mapping[str, str] = MappingProxyType(
    {"content-type": "text/event-stream", "x-vercel-ai-ui-message-stream": "v1", **_UNBUFFERED}
)
"""Headers of a UI message stream."""
JSON_LINES_HEADERS: Mapping[str, str] = MappingProxyType({"content-type": "application/x-ndjson", **_UNBUFFERED})
"""Headers of JSON lines."""

_log = logging.getLogger("pi_ai.bridges")
"""Says what a browser is not told."""
_DRAIN_S = 0.2
"""Longest wait for the end of the bytes after the last event."""
_OURS = "pi_ai"
"""Our part of ``providerMetadata``: what a provider wants to see again, and whose it is."""


def discreet(message: AssistantMessage) -> str:
    """The default text of a failed answer: its kind. Whole error messages name servers, variables and commands."""
    kind = message.error_info.kind if message.error_info is not None else "internal"
    return f"The answer could not be completed ({kind})"


# ── events to bytes ──────────────────────────────────────────────────────────────────────────────────────────


def ui_message_stream(
    events: Events, *, message_id: str | None = None, error_text: ErrorText = discreet
) -> AsyncGenerator[bytes, None]:
    """A stream or a run as the bytes of an AI SDK UI message stream, to be sent with :data:`UI_MESSAGE_HEADERS`.

    Closing it closes ``events``. What ``events`` raises is told to the browser as an error, then raised.

    :param message_id: id of the message in the browser; None: it makes one, or goes on with the assistant's last.
    :param error_text: what a failed answer is called; default: its kind and nothing else. For eyes that may see
        everything: ``lambda message: message.error_message``.
    """
    return _ui_frames(events, _Chunks(message_id, error_text), None)


def json_lines(events: Events) -> AsyncGenerator[bytes, None]:
    """A stream or a run as lines of JSON, one an event, to be sent with :data:`JSON_LINES_HEADERS`.

    They are what :func:`pi_ai.to_json` makes of the events: ``done`` and ``error`` hold the whole message, with all
    that is known of a failure. Closing it closes ``events``.
    """
    return _line_frames(events)


async def _ui_frames(events: Events, chunks: _Chunks, after: tuple[int, int] | None) -> AsyncGenerator[bytes, None]:
    """:param after: give each chunk an id, and leave out those up to this one; None: without ids."""
    number = 0
    try:
        try:
            async for event in events:
                number += 1
                frames = _sse(number, chunks.encode(event), after)
                if frames:
                    yield frames
        except Exception:
            yield _sse(number + 1, chunks.fail(), after)
            raise
        frames = _sse(number + 1, chunks.close(), after)
        if frames:
            yield frames
    finally:
        await _close(events)


def _sse(number: int, chunks: list[JSONObject | None], after: tuple[int, int] | None) -> bytes:
    frames: list[bytes] = []
    for place, chunk in enumerate(chunks, 1):
        data = b"data: %s\n\n" % (b"[DONE]" if chunk is None else _json(chunk))
        if after is None:
            frames.append(data)
        elif (number, place) > after:
            frames.append(b"id: %d.%d\n%s" % (number, place, data))
    return b"".join(frames)


async def _line_frames(events: Events) -> AsyncGenerator[bytes, None]:
    try:
        async for event in events:
            yield _json(to_json(event)) + b"\n"
    finally:
        await _close(events)


def _json(data: Any) -> bytes:
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:
        # Half a surrogate pair: as an escape it reaches JavaScript, which puts it together with the other half.
        return json.dumps(data, separators=(",", ":")).encode()


async def _close(events: object) -> None:
    aclose: Callable[[], Awaitable[None]] | None = getattr(events, "aclose", None)
    if aclose is not None:
        # A stream keeps to its own limit, which is twice this one.
        with CancelScope(shield=True, deadline=anyio.current_time() + 3 * CLOSE_TIMEOUT_S):
            await aclose()


# ── events to chunks ─────────────────────────────────────────────────────────────────────────────────────────

_FINISH = {"stop": "stop", "length": "length", "toolUse": "tool-calls"}
"""Our stop reasons in the AI SDK's words; ``other`` where it has none."""


@attrs.define
class _Part:
    """A block that is being told."""

    kind: Literal["text", "reasoning", "tool"]
    id: str
    told: bool = False  # text: a delta was sent; tool: its beginning was


class _Chunks:
    """The chunks of one UI message, sans-IO. None stands for the end of the stream."""

    def __init__(self, message_id: str | None, error_text: ErrorText) -> None:
        self._message_id = message_id
        self._error_text = error_text
        self._turn = 0
        self._begun = self._in_step = self._aborted = False
        self._finish = "other"
        self._parts: dict[int, _Part] = {}  # by content_index

    def encode(self, event: RunEvent) -> list[JSONObject | None]:
        """The chunks of the next event."""
        chunks = self._begin()
        match event:
            case StartEvent():
                chunks += self._end_step()
                self._turn += 1
                self._in_step = True
                chunks.append({"type": "start-step"})
            case TextStartEvent() | TextDeltaEvent() | TextEndEvent():
                self._text("text", event, chunks)
            case ThinkingStartEvent() | ThinkingDeltaEvent() | ThinkingEndEvent():
                self._text("reasoning", event, chunks)
            case ToolCallStartEvent(content_index=index):
                content = event.partial.content
                call = content[index] if index < len(content) else None
                part = self._parts[index] = _Part("tool", "")
                if isinstance(call, ToolCall) and call.id and call.name:
                    self._begin_call(part, call, chunks)
            case ToolCallDeltaEvent(content_index=index, delta=delta):
                part = self._parts.get(index)
                if part is not None and part.told:
                    chunks.append({"type": "tool-input-delta", "toolCallId": part.id, "inputTextDelta": delta})
            case ToolCallEndEvent(content_index=index, tool_call=call):
                self._end_call(self._parts.pop(index, None), call, event.partial, chunks)
            case ToolResultEvent(call=call, result=result):
                chunks.append(_output(call, result))
            case DoneEvent(reason=reason):
                self._end_texts(chunks)
                self._finish = _FINISH.get(reason, "other")
            case ErrorEvent(reason=reason, error=message):
                self._end_texts(chunks)
                if reason == "aborted":
                    self._abort(chunks)
                else:
                    self._fail(message, chunks)
            case RunEndEvent(reason=reason):
                if reason == "aborted":
                    self._abort(chunks)
                elif self._finish != "error":
                    self._finish = _FINISH.get(reason, "other")
        return chunks

    def close(self) -> list[JSONObject | None]:
        """The events have ended."""
        chunks = self._begin()
        if not self._aborted:
            chunks += self._end_step()
            chunks.append({"type": "finish", "finishReason": self._finish})
        return [*chunks, None]

    def fail(self) -> list[JSONObject | None]:
        """The events broke off with an exception."""
        chunks = self._begin()
        self._end_texts(chunks)
        self._fail(AssistantMessage(stop_reason="error"), chunks)
        return chunks + self.close()

    def _begin(self) -> list[JSONObject | None]:
        if self._begun:
            return []
        self._begun = True
        return [{"type": "start"} if self._message_id is None else {"type": "start", "messageId": self._message_id}]

    def _end_step(self) -> list[JSONObject | None]:
        """At the next turn, or at the end: the results of its tools belong to a step."""
        self._parts.clear()
        ended, self._in_step = self._in_step, False
        return [{"type": "finish-step"}] if ended else []

    def _abort(self, chunks: list[JSONObject | None]) -> None:
        if not self._aborted:
            self._aborted = True
            chunks.append({"type": "abort"})

    def _fail(self, message: AssistantMessage, chunks: list[JSONObject | None]) -> None:
        info = message.error_info
        _log.warning("An answer failed: %s", message.error_message if info is None else info.message)
        self._finish = "error"
        chunks.append({"type": "error", "errorText": self._error_text(message) or discreet(message)})

    def _text(
        self,
        kind: Literal["text", "reasoning"],
        event: TextStartEvent
        | TextDeltaEvent
        | TextEndEvent
        | ThinkingStartEvent
        | ThinkingDeltaEvent
        | ThinkingEndEvent,
        chunks: list[JSONObject | None],
    ) -> None:
        index = event.content_index
        part = self._parts.get(index)
        if part is None:
            part = self._parts[index] = _Part(kind, f"{self._turn}-{index}")
            chunks.append({"type": f"{kind}-start", "id": part.id})
        if isinstance(event, (TextStartEvent, ThinkingStartEvent)):
            return
        ends = isinstance(event, (TextEndEvent, ThinkingEndEvent))
        delta = event.content if ends else event.delta
        if delta and not (ends and part.told):  # what came without deltas, such as the placeholder of a hidden thought
            part.told = True
            chunks.append({"type": f"{kind}-delta", "id": part.id, "delta": delta})
        if ends:
            del self._parts[index]
            message = event.partial
            block = message.content[index] if index < len(message.content) else None
            chunks.append({"type": f"{kind}-end", "id": part.id, **_metadata(block, message)})

    def _end_texts(self, chunks: list[JSONObject | None]) -> None:
        """An answer that broke off: its texts are complete as they are. An unfinished call stays one."""
        chunks += [{"type": f"{part.kind}-end", "id": part.id} for part in self._parts.values() if part.kind != "tool"]
        self._parts.clear()

    def _begin_call(self, part: _Part, call: ToolCall, chunks: list[JSONObject | None]) -> None:
        part.id, part.told = call.id, True
        chunks.append({"type": "tool-input-start", "toolCallId": call.id, "toolName": call.name})

    def _end_call(
        self, part: _Part | None, call: ToolCall, message: AssistantMessage, chunks: list[JSONObject | None]
    ) -> None:
        if part is None or not part.told:  # its name came late
            self._begin_call(_Part("tool", ""), call, chunks)
        told = {"toolCallId": call.id, "toolName": call.name, "input": call.arguments, **_metadata(call, message)}
        if call.arguments_error is None:
            chunks.append({"type": "tool-input-available", **told})
        else:
            chunks.append({"type": "tool-input-error", **told, "errorText": call.arguments_error})


_SIGNATURES = {
    TextContent: ("text_signature",),
    ThinkingContent: ("thinking_signature", "redacted"),
    ToolCall: ("thought_signature", "namespace"),
}
_MAKER = ("api", "provider", "model")


def _metadata(block: AssistantContent | None, message: AssistantMessage) -> JSONObject:
    """``providerMetadata`` that lets the conversation go on where it was: the AI SDK posts it back unchanged."""
    if block is None:
        return {}
    fields = [(camel(name), getattr(block, name)) for name in _SIGNATURES[type(block)]]
    signed = {key: value for key, value in fields if value is not None}
    if not signed:
        return {}
    return {"providerMetadata": {_OURS: {**signed, **{name: getattr(message, name) for name in _MAKER}}}}


def _output(call: ToolCall, result: ToolResultMessage) -> JSONObject:
    text = "".join(block.text for block in result.content if isinstance(block, TextContent))
    if result.is_error:
        return {"type": "tool-output-error", "toolCallId": call.id, "errorText": text}
    plain = all(isinstance(block, TextContent) for block in result.content)
    output = _value(text) if plain else to_json(result.content)
    return {"type": "tool-output-available", "toolCallId": call.id, "output": output}


def _value(text: str) -> Any:
    """The object or list that a text is, if it can be told from its value to the letter; else the text."""
    if text[:1] in ("{", "["):
        try:
            value = json.loads(text)
            if _words(value) == text:
                return value
        except (ValueError, RecursionError):
            pass
    return text


def _words(value: Any) -> str:
    """A value as the text that the model reads, in the way in which results of tools are written."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, allow_nan=False)


# ── ASGI ─────────────────────────────────────────────────────────────────────────────────────────────────────


class _Response(ABC):
    """An answer over ASGI: it ends what it sends when the client leaves, and is never silent for long."""

    _headers: Mapping[str, str]
    _keep_alive: bytes

    def __init__(
        self,
        events: Events | FanOut[Any],
        *,
        headers: Mapping[str, str] | None = None,
        keep_alive_s: float | None = 15.0,
    ) -> None:
        self._events = events
        self._own_headers = headers or {}
        self._keep_alive_s = math.inf if keep_alive_s is None else keep_alive_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer. Returns when all is sent or the client has left; what was sent is closed by then.

        :raises Exception: what the events raised; the client has been told.
        """
        frames = await self._frames(scope)
        failed: Exception | None = None
        async with anyio.create_task_group() as tasks:
            body = _Body(send, tasks.cancel_scope)
            tasks.start_soon(_watch, receive, tasks.cancel_scope)
            try:
                await body.head(204 if frames is None else 200, {**self._headers, **self._own_headers})
                if frames is not None:
                    tasks.start_soon(body.keep_alive, self._keep_alive, self._keep_alive_s)
                    try:
                        async for data in frames:
                            await body.send(data)
                    except Exception as error:  # noqa: BLE001 - raised below, as itself and not in a group
                        failed = error
                await body.send(b"", more=False)
            finally:
                if frames is not None:
                    with CancelScope(shield=True):  # bounded by _close
                        await frames.aclose()
            tasks.cancel_scope.cancel()
        if failed is not None:
            raise failed

    @abstractmethod
    async def _frames(self, scope: Scope) -> AsyncGenerator[bytes, None] | None:
        """The bytes to send; None: there is nothing left that the client has not seen."""


class _Body:
    """What is sent, by two tasks in turn."""

    def __init__(self, send: Send, scope: CancelScope) -> None:
        self._send = send
        self._scope = scope
        self._lock = anyio.Lock()
        self._quiet = False

    async def head(self, status: int, headers: Mapping[str, str]) -> None:
        lines = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await self._tell({"type": "http.response.start", "status": status, "headers": lines})

    async def send(self, data: bytes, *, more: bool = True) -> None:
        self._quiet = False
        async with self._lock:
            await self._tell({"type": "http.response.body", "body": data, "more_body": more})

    async def keep_alive(self, data: bytes, interval_s: float) -> None:
        """Say something that means nothing whenever the answer has been silent for so long."""
        while True:
            self._quiet = True
            await anyio.sleep(interval_s)
            if self._quiet:
                await self.send(data)

    async def _tell(self, message: MutableMapping[str, Any]) -> None:
        try:
            await self._send(message)
        except OSError:  # how a server says that the client has left
            self._scope.cancel()


async def _watch(receive: Receive, scope: CancelScope) -> None:
    """End everything when the client leaves. What is left of the request's body does not matter."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


class UIMessageResponse(_Response):
    """An answer as an AI SDK UI message stream (``useChat`` in the browser): an ASGI application::

        async def chat(request):  # an endpoint of Starlette
            context = context_from_ui_messages((await request.json())["messages"])
            return UIMessageResponse(stream(model, context))

    Without a framework it is ``await UIMessageResponse(…)(scope, receive, send)``. When the client leaves, the stream
    is aborted and its connection released. Of a :class:`~pi_ai.FanOut` each response is one reader: that one may leave
    and come back. With the header ``Last-Event-ID`` it goes on after that chunk; status 204 says that nothing is left.
    """

    _headers = UI_MESSAGE_HEADERS
    _keep_alive = b": keep-alive\n\n"

    def __init__(
        self,
        events: Events | FanOut[Any],
        *,
        message_id: str | None = None,
        error_text: ErrorText = discreet,
        headers: Mapping[str, str] | None = None,
        keep_alive_s: float | None = 15.0,
    ) -> None:
        """:param message_id: and ``error_text``: see :func:`ui_message_stream`.

        :param headers: more headers, or other ones.
        :param keep_alive_s: seconds of silence until a comment is sent; None: never.
        """
        super().__init__(events, headers=headers, keep_alive_s=keep_alive_s)
        self._message_id = message_id
        self._error_text = error_text

    async def _frames(self, scope: Scope) -> AsyncGenerator[bytes, None] | None:
        chunks = _Chunks(self._message_id, self._error_text)
        if not isinstance(self._events, FanOut):
            return _ui_frames(self._events, chunks, None)
        after = _last_event_id(scope)
        frames = _ui_frames(self._events.read(), chunks, after)
        if after == (0, 0) or not self._events.done:
            return frames
        rest = b"".join([data async for data in frames])
        return _once(rest) if rest else None


class JSONLinesResponse(_Response):
    """An answer as lines of JSON (see :func:`json_lines`): an ASGI application, like :class:`UIMessageResponse`.

    An empty line keeps a silent connection alive. A reader that comes back is served by ``answer.read(after=n)`` of a
    :class:`~pi_ai.FanOut`, where ``n`` is the number of lines that it has read.
    """

    _headers = JSON_LINES_HEADERS
    _keep_alive = b"\n"

    async def _frames(self, scope: Scope) -> AsyncGenerator[bytes, None]:
        return _line_frames(self._events.read() if isinstance(self._events, FanOut) else self._events)


async def _once(data: bytes) -> AsyncGenerator[bytes, None]:
    yield data


def _last_event_id(scope: Scope) -> tuple[int, int]:
    headers: list[tuple[bytes, bytes]] = scope.get("headers", [])
    told = next((value for name, value in headers if name.lower() == b"last-event-id"), b"")
    numbers = re.fullmatch(rb"(\d{1,12})\.(\d{1,12})", told)
    return (0, 0) if numbers is None else (int(numbers[1]), int(numbers[2]))


# ── lines to events ──────────────────────────────────────────────────────────────────────────────────────────


def read_json_lines(source: AsyncIterable[bytes], *, model: Model | None = None) -> EventStream:
    """The bytes of JSON lines as the stream that they were: for a client whose answers come through a server of yours.

    What is no event ends the stream with an error of kind ``protocol``, an end before ``done`` with ``truncated``. Of a
    run of tools it is the first answer.

    :param source: any pieces of the body, such as ``response.aiter_bytes()`` of httpx.
    :param model: names the message until its end brings the names.
    """
    return event_stream(_Lines(source, model or Model(id="", api="", provider="", base_url="")), model=model)


class _Lines:
    """The events in the bytes of JSON lines, as the source of a stream."""

    def __init__(self, source: AsyncIterable[bytes], model: Model) -> None:
        self._source = aiter(source)
        self._documents = JSONDocuments()
        self._answer = _Rebuilt(model)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        while not events:
            for document in self._documents.feed(await anext(self._source)):
                try:
                    events.append(self._answer.take(loads(StreamEvent, document.data)))
                except ValueError as error:
                    raise failure("protocol", f"A line of JSON is no event: {error}", phase="stream") from error
        return events

    async def aclose(self) -> None:
        """Read to the end, which is near after ``done``, so that the connection can be used again; else break it off.

        From within: an HTTP client's iterators are nested, and unwind in order only where they wait (S18).
        """
        wait_s = _DRAIN_S if self._answer.done else 0
        with CancelScope(shield=True, deadline=anyio.current_time() + wait_s), contextlib.suppress(Exception):
            while True:
                await anext(self._source)
                await checkpoint()
        await _close(self._source)


class _Rebuilt:
    """A message made again from its events."""

    def __init__(self, model: Model) -> None:
        self._builder = MessageBuilder(model)
        self._blocks: dict[int, Block] = {}
        self.done = False

    def take(self, event: StreamEvent) -> StreamEvent:
        """The same event, about the message here."""
        builder = self._builder
        match event:
            case StartEvent():
                return builder.start()
            case TextStartEvent(content_index=index):
                return self._add(index, builder.add_text()).start()
            case ThinkingStartEvent(content_index=index):
                return self._add(index, builder.add_thinking()).start()
            case ToolCallStartEvent(content_index=index):
                return self._add(index, builder.add_tool_call("", "")).start()
            case TextDeltaEvent(content_index=index, delta=delta):
                return self._block(TextBlock, index).delta(delta)
            case ThinkingDeltaEvent(content_index=index, delta=delta):
                return self._block(ThinkingBlock, index).delta(delta)
            case ToolCallDeltaEvent(content_index=index, delta=delta):
                return self._block(ToolCallBlock, index).delta(delta)
            case TextEndEvent(content_index=index, content=content):
                block = self._block(TextBlock, index)
                block.end()
                block.content.text = content
                return TextEndEvent(index, content, partial=builder)
            case ThinkingEndEvent(content_index=index, content=content):
                block = self._block(ThinkingBlock, index)
                block.end()
                block.content.thinking = content
                return ThinkingEndEvent(index, content, partial=builder)
            case ToolCallEndEvent(content_index=index, tool_call=call):
                block = self._block(ToolCallBlock, index)
                block.open = False
                _assign(block.content, call)
                return ToolCallEndEvent(index, block.content, partial=builder)
            case DoneEvent(reason=reason, message=message):
                self.done = True
                return DoneEvent(reason, _assign(builder.message, message))
            case ErrorEvent(reason=reason, error=message):
                self.done = True
                return ErrorEvent(reason, _assign(builder.message, message))

    def _add(self, index: int, block: BlockT) -> BlockT:
        if block.index != index:
            raise ValueError(f"contentIndex is {index} where {block.index} would be next")
        self._blocks[index] = block
        return block

    def _block(self, kind: type[BlockT], index: int) -> BlockT:
        block = self._blocks.get(index)
        if not isinstance(block, kind) or not block.open:
            raise ValueError(f"contentIndex {index} is no such block that is open")
        return block


def _assign(here: T, there: T) -> T:
    """Make an object equal to another of its class; whoever has it sees it."""
    for field in attrs.fields(cast("Any", type(here))):
        setattr(here, field.name, getattr(there, field.name))
    return here


# ── UI messages to a conversation ────────────────────────────────────────────────────────────────────────────


def context_from_ui_messages(
    messages: Any, *, system_prompt: str | None = None, tools: list[Tool] | None = None
) -> Context:
    """The conversation that a browser posts, to be answered: the body of ``useChat``, or the ``messages`` in it.

    Texts, thoughts with their signatures, tool calls with their results, images and text files as ``data:`` URLs are
    taken; sources, data parts and calls that were never finished are not. A browser can write what it likes into all
    of it, also into what the model and the tools are said to have said.

    :param messages: JSON: a list of ``UIMessage``, or the body that has it as its ``messages``.
    :param system_prompt: yours, not the browser's: a message with role ``system`` is refused.
    :param tools: what the model may call.
    :raises ValueError: it is none, or empty; the text names the place. Answer with status 400.
    """
    if isinstance(messages, dict):
        messages = cast("JSONObject", messages).get("messages")
    if not _list(messages, "messages"):
        raise ValueError("messages is empty: there is nothing to answer")
    found: list[Message] = []
    for number, message in enumerate(_list(messages, "messages")):
        place = f"messages[{number}]"
        role = _member(message, "role", str, place)
        parts: list[tuple[str, JSONObject]] = []
        for index, part in enumerate(_list(_member(message, "parts", list, place), f"{place}.parts")):
            at = f"{place}.parts[{index}]"
            _member(part, "type", str, at)
            parts.append((at, part))
        if role == "user":
            content = [block for at, part in parts if (block := _said(at, part)) is not None]
            if not content:
                raise ValueError(f"{place} has neither text nor files")
            found.append(UserMessage(content))
        elif role == "assistant":
            found += _answers(parts)
        elif role == "system":
            raise ValueError(f"{place}.role is system: instructions are the server's, see system_prompt")
        else:
            raise ValueError(f"{place}.role must be user or assistant, not {role!r:.40}")
    return Context(found, system_prompt=system_prompt, tools=tools)


def _said(at: str, part: JSONObject) -> UserContent | None:
    if part["type"] == "text":
        return TextContent(_member(part, "text", str, at))
    return _file(at, part) if part["type"] == "file" else None


def _file(at: str, part: JSONObject) -> UserContent:
    media_type = _member(part, "mediaType", str, at).partition(";")[0].strip().lower()
    url = _member(part, "url", str, at)
    scheme, comma, data = url.partition(",")
    if not comma or not scheme.lower().startswith("data:"):
        raise ValueError(f"{at}.url must be a data: URL: nothing is fetched for a browser")
    try:
        raw = unquote_to_bytes(data)
        if scheme.lower().endswith(";base64"):
            raw = base64.b64decode(raw, validate=True)
        if media_type.startswith("image/"):
            return ImageContent(base64.b64encode(raw).decode(), media_type)
        if media_type.startswith("text/") or media_type == "application/json":
            return TextContent(raw.decode())
    except (binascii.Error, UnicodeDecodeError):
        raise ValueError(f"{at}.url is not what its type says ({media_type:.80})") from None
    raise ValueError(f"{at}.mediaType must be an image or text, not {media_type:.80}")


def _answers(parts: list[tuple[str, JSONObject]]) -> list[Message]:
    """The messages of an assistant's one: an answer a step, each followed by the results of its calls."""
    messages: list[Message] = []
    answer = AssistantMessage(stop_reason="stop")
    results: list[ToolResultMessage] = []

    def end_step() -> None:
        nonlocal answer, results
        if answer.content:
            messages.extend([answer, *results])
        answer, results = AssistantMessage(stop_reason="stop"), []

    for at, part in parts:
        kind: str = part["type"]
        if kind == "step-start":
            end_step()
        elif kind == "text":
            answer.content.append(TextContent(_member(part, "text", str, at), **_signed(TextContent, part, answer)))
        elif kind == "reasoning":
            thought = _member(part, "text", str, at)
            answer.content.append(ThinkingContent(thought, **_signed(ThinkingContent, part, answer)))
        elif kind == "dynamic-tool" or kind.startswith("tool-"):
            _called(at, part, answer, results)
    end_step()
    return messages


def _called(at: str, part: JSONObject, answer: AssistantMessage, results: list[ToolResultMessage]) -> None:
    state = part.get("state")
    if state == "input-streaming":
        return
    name = _member(part, "toolName", str, at) if part["type"] == "dynamic-tool" else part["type"].removeprefix("tool-")
    call = ToolCall(_member(part, "toolCallId", str, at), name, **_signed(ToolCall, part, answer))
    given = part.get("input") if part.get("input") is not None else part.get("rawInput")
    if isinstance(given, dict):
        call.arguments = cast("JSONObject", given)
    else:
        call.arguments_error = f"The arguments are no object: {_words(given):.1000}"
    answer.content.append(call)
    answer.stop_reason = "toolUse"
    if state == "output-available":
        results.append(ToolResultMessage(call.id, name, _content(part.get("output"))))
    elif state == "output-error":
        text = _member(part, "errorText", str, at)
        results.append(ToolResultMessage(call.id, name, [TextContent(text)], is_error=True))
    elif state == "output-denied":
        reason = _object(part.get("approval")).get("reason")
        text = reason if isinstance(reason, str) and reason else "The user has not allowed this call"
        results.append(ToolResultMessage(call.id, name, [TextContent(text)], is_error=True))


def _content(output: Any) -> list[UserContent]:
    """What a tool gave, as it was before it went to the browser; or what a tool in the browser gave."""
    if isinstance(output, list) and output:
        try:
            return from_json(list[UserContent], output)
        except ValueError:
            pass
    return [TextContent(_words(output))]


def _signed(block: type[AssistantContent], part: JSONObject, answer: AssistantMessage) -> dict[str, Any]:
    """The signatures of a block, which make its maker that of the message; they mean nothing to another one."""
    name = "callProviderMetadata" if block is ToolCall else "providerMetadata"
    told = _object(_object(part.get(name)).get(_OURS))
    maker = [told.get(name) for name in _MAKER]
    if not all(isinstance(name, str) for name in maker):
        return {}
    answer.api, answer.provider, answer.model = cast("list[str]", maker)
    signed: dict[str, Any] = {}
    for field in _SIGNATURES[block]:
        value = told.get(camel(field))
        if isinstance(value, bool if field == "redacted" else str):
            signed[field] = value
    return signed


def _object(value: Any) -> JSONObject:
    return cast("JSONObject", value) if isinstance(value, dict) else {}


def _list(value: Any, place: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{place} must be a list, not {type(value).__name__}")
    return cast("list[Any]", value)


def _member(data: Any, name: str, kind: type[T], place: str) -> T:
    if not isinstance(data, dict):
        raise ValueError(f"{place} must be an object, not {type(data).__name__}")
    value = cast("JSONObject", data).get(name)
    if not isinstance(value, kind):
        raise ValueError(f"{place}.{name} must be a {kind.__name__}, not {type(value).__name__}")
    return value
