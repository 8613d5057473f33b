"""The streaming contract: how ``async for event in stream(...)`` keeps its promises on asyncio and trio.

The task that awaits the stream drives it: there is no background task, no task group, and no cancel scope that stays
open between two awaits (S3). One ``pump`` takes one batch of events from the source, which is one read of the wire,
and puts it into a memory channel; its events leave one by one. The channel separates who drives from who consumes:
``result()`` in one task may drive while another iterates (S11); what the reader drives itself it is handed at once.

How a stream ends (S4-S9)::

    the source yields done or error   → that event, then the end
    the source raises                 → an error event: failures are data (S5)
    abort()                           → an error event with reason "aborted" (S7)
    the caller is cancelled           → message "aborted", the exception passes (S6)

Every way closes the source first, shielded and bounded, so that the connection is free when the last event arrives.
"""

from __future__ import annotations

import inspect
import math
import sys
import time
import traceback
import warnings
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextvars import Context, copy_context
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias, cast, get_args, overload

import anyio
import attrs
from anyio import BusyResourceError, CancelScope
from anyio.lowlevel import EventLoopToken, checkpoint, checkpoint_if_cancelled, current_token
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from pi_ai.errors import ErrorInfo, PiAIError, failure
from pi_ai.events import DoneEvent, ErrorEvent, PartialSource, StartEvent, StreamEvent, TerminalEvent, UpdateEvent
from pi_ai.pricing import calculate_cost
from pi_ai.types import AssistantMessage, Diagnostic, DiagnosticError, Model, now_ms

EventSource: TypeAlias = AsyncIterable[StreamEvent | Sequence[StreamEvent]]
"""What an :class:`EventStream` reads: events, or lists of events such as one chunk of the wire gives."""
SourceOpener: TypeAlias = Callable[[], Awaitable[EventSource]]
"""Makes the source at the first await; what it raises ends the stream like any failure of the source."""

ABORTED = "Request was aborted"
CLOSE_TIMEOUT_S = 1.0
"""Longest that closing a source may take (reliability F58)."""
RUN_LENGTH = 16
"""Most events handed out without a checkpoint (D5)."""

_Batch: TypeAlias = Sequence[StreamEvent]
_UPDATES = frozenset(cast("tuple[type, ...]", get_args(UpdateEvent)))


class WaitingSource(Protocol):
    """A source that ends its own waits on demand, and counts them.

    A cancel scope around every read costs as much as reading; such a source needs one only where it really waits.
    """

    waits: int

    def abort(self) -> None:
        """Make the read that waits now, and all further ones, raise."""
        ...


class StreamBusyError(BusyResourceError, RuntimeError):
    """A second reader iterates a stream that is being iterated (S12). The first one is not harmed."""

    def __init__(self) -> None:
        super().__init__("iterating over")


class EventStream(AsyncIterator[StreamEvent]):
    """The events of one answer.

    Iterate it, or ``await result()``; both drive it, nothing else does. ``async with`` closes it on the way out and
    is the form to use when the loop may be left early. Cancelling any await of the stream ends the stream (S6).
    Streams belong to one event loop but may be started, read and closed in different tasks of it (S13).

    Made by ``stream()``, :func:`event_stream` and :func:`open_event_channel`.
    """

    _channel: tuple[MemoryObjectSendStream[_Batch], MemoryObjectReceiveStream[_Batch]] | None = None
    _source: AsyncIterator[StreamEvent | Sequence[StreamEvent]] | None = None
    _opener: SourceOpener | None = None
    _finished = True

    def __init__(
        self,
        source: EventSource | SourceOpener,
        *,
        partial: AssistantMessage | PartialSource,
        model: Model | None = None,
    ) -> None:
        """Wrap a source; nothing of it runs before the first await (S1, S2).

        :param partial: the message that the events are about, until an event brings its own.
        :param model: whose prices give the cost where the source set none.
        """
        if callable(source):
            self._opener = source
        else:
            self._source = aiter(source)
        self._partial = partial
        self._model = model
        self._finished = False
        self._aborted = False
        self._opened = False
        self._iterating = False
        self._closed = False
        self._sent = 0  # batches in the channel
        self._batch: _Batch = ()  # the one being read, and how far
        self._next = 0
        self._run = 0
        self._terminal: TerminalEvent | None = None
        self._driving = self._hand_over = False
        self._scope: CancelScope | None = None
        self._waiting: WaitingSource | None = None
        self._waits = 0
        self._turn_over: anyio.Event | None = None
        self._when_left: weakref.finalize[..., Any] | None = None
        self._born = time.monotonic()
        self._born_ms = min(now_ms(), self.message.timestamp)
        self._made_at = _caller() if sys.flags.dev_mode else None

    # ── what a reader sees ───────────────────────────────────────────────────────────────────────────────────

    @property
    def message(self) -> AssistantMessage:
        """The message as far as it has come; final once ``done`` (S21)."""
        partial = self._partial
        return partial if isinstance(partial, AssistantMessage) else partial.message

    @property
    def done(self) -> bool:
        """Whether ``message`` is final. Events may still wait to be read."""
        return self._finished

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StreamEvent:
        """The next event; a checkpoint at every read of the wire and at least every 16 events (S15, D5).

        :raises StreamBusyError: another task is iterating.
        """
        if self._next < len(self._batch) and self._run < RUN_LENGTH and not self._iterating:
            self._run += 1
            self._next += 1
            return self._batch[self._next - 1]
        if self._iterating:
            raise StreamBusyError
        if self._closed:
            raise StopAsyncIteration
        self._iterating = True
        try:
            if self._run >= RUN_LENGTH:
                await self._checkpoint()
            while self._next >= len(self._batch):
                if self._sent:
                    self._receive()
                elif self._finished:
                    raise StopAsyncIteration
                else:
                    await (self._pump() if self._driving else self._drive(hand_over=True))
        except StopAsyncIteration:
            raise
        except BaseException:
            # Nothing more is delivered to a task that was cancelled (S6).
            self._closed, self._iterating = True, False
            self._drop()
            raise
        finally:
            self._iterating = False
        self._run += 1
        self._next += 1
        return self._batch[self._next - 1]

    async def result(self) -> AssistantMessage:
        """Drive the stream to its end, if nobody else does, and return the final message.

        Never raises for a failure of the request (``message.raise_for_error()`` does). May be awaited any number of
        times, in any task, also while another one iterates; the events it causes stay for the iterator (S11).
        """
        while not self._finished:
            await self._pump()
        return self.message

    def abort(self) -> None:
        """End the stream with stop reason ``"aborted"``: the reader gets an ``error`` event, then the end (S7).

        Synchronous and idempotent; callable from any task of the event loop, from other threads through
        ``anyio.from_thread.run_sync``. Before the first await no request is made; after the end it has no effect.
        """
        self._aborted = True
        if self._driving and self._terminal is None:
            if self._scope is not None:
                self._scope.cancel()
            elif self._waiting is not None:
                self._waiting.abort()

    async def aclose(self) -> None:
        """Abort, release the connection, wait for both; then there is nothing more to read (S9).

        Idempotent, callable from any task, shielded from cancellation and bounded. A task that is waiting for an
        event gets the ``error`` event.
        """
        if not self._finished:
            with CancelScope(shield=True, deadline=anyio.current_time() + 2 * CLOSE_TIMEOUT_S):
                self.abort()
                while not self._finished:
                    await self._pump()
        self._closed = not self._iterating
        self._drop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        message = self.message
        return f"<EventStream {message.provider}/{message.model} {message.stop_reason}>"

    # ── driving ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _pump(self) -> None:
        """Let one batch arrive: read it, or wait until the task that is reading has one."""
        if not self._driving:
            await self._drive()
            return
        if self._turn_over is None:
            self._turn_over = anyio.Event()
        try:
            await self._turn_over.wait()
        except BaseException:
            # A deadline around any await of the stream is a deadline on the stream (S6).
            self.abort()
            raise

    async def _drive(self, *, hand_over: bool = False) -> None:
        """Read one batch in this task.

        :param hand_over: this task is the reader: what it read itself need not go through the channel.
        """
        self._driving, self._hand_over = True, hand_over
        try:
            if self._terminal is not None:
                await self._finish(self._terminal)
            elif self._aborted:
                await self._end_aborted()
            elif self._waiting is not None:
                assert self._source is not None
                self._accept(await self._source.__anext__())
                if self._waits != self._waiting.waits:
                    self._waits, self._run = self._waiting.waits, 0  # a wait for the network is a checkpoint
            else:
                with CancelScope() as self._scope:
                    self._accept(await self._guarded_read())
                if self._scope.cancelled_caught:
                    await self._end_aborted()
        except StopAsyncIteration:
            text = "Stream ended without a final message"
            await self._finish(self._failed(text, failure("truncated", text, phase="end")))
        except Exception as error:  # noqa: BLE001 - S5: failures of the source are data
            if self._aborted:
                await self._end_aborted()
            else:
                await self._finish(self._failed(str(error) or type(error).__name__, error))
        except BaseException:
            if not self._finished:
                await self._finish(self._failed(ABORTED, reason="aborted"))
            raise
        finally:
            self._driving = self._hand_over = False
            self._scope = None
            if self._turn_over is not None:
                self._turn_over.set()
                self._turn_over = None

    async def _guarded_read(self) -> StreamEvent | Sequence[StreamEvent]:
        """One batch, opening the source first; under the scope that ``abort()`` cancels."""
        if self._source is None:
            assert self._opener is not None
            self._source = aiter(await self._opener())
        if self._when_left is None:
            self._open_channel()
            # This holds the source: in a reference cycle its generators and sockets would be finalised with the stream.
            self._when_left = weakref.finalize(self, _run_later, current_token(), self._source)
            self._when_left.atexit = False
        batch = await anext(self._source)
        if getattr(self._source, "abort", None) is not None:
            self._waiting = cast("WaitingSource", self._source)
        return batch

    def _accept(self, batch: StreamEvent | Sequence[StreamEvent]) -> None:
        """Put a batch into the channel. A terminal event waits until the source is closed."""
        if not isinstance(batch, (list, tuple)):
            batch = (cast("StreamEvent", batch),)
        events = cast("_Batch", batch)
        count = 0
        for event in events:
            if type(event) not in _UPDATES:
                break
            count += 1
        if count:
            # `partial` would bring the message up to date, which only a reader pays for.
            self._partial = cast("UpdateEvent", events[count - 1])._partial  # pyright: ignore[reportPrivateUsage]
            self._send(events[:count])
        if count < len(events):
            last = events[count]  # whatever a source says after its end is dropped (core E2)
            if not isinstance(last, (DoneEvent, ErrorEvent)):
                raise TypeError(f"the source of a stream must yield events, not {type(last).__name__}")
            self._terminal = last
            last.message.stop_reason = "pending"  # until it is delivered (S21)

    def _send(self, batch: _Batch) -> None:
        if not self._opened:
            self._opened = True
            if not isinstance(batch[0], (StartEvent, ErrorEvent)):
                batch = (StartEvent(partial=self._partial), *batch)  # core E1
        if self._hand_over and not self._sent:
            self._batch, self._next = batch, 0  # the reader drives, and is through with what it had
            return
        assert self._channel is not None
        self._channel[0].send_nowait(batch)
        self._sent += 1

    def _receive(self) -> None:
        assert self._channel is not None
        self._batch, self._next = self._channel[1].receive_nowait(), 0
        self._sent -= 1

    def _drop(self) -> None:
        """Forget what nobody will read; a task that is just waiting for an event still gets the last one (S9)."""
        while self._sent:
            self._receive()
        self._next = len(self._batch)
        if self._iterating and self._batch and self._batch[-1] is self._terminal:
            self._next -= 1

    async def _checkpoint(self) -> None:
        self._run = 0
        try:
            await checkpoint()
        except BaseException:
            self.abort()
            if not self._driving and not self._finished:
                await self._drive()
            raise

    # ── ending ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _finish(self, terminal: TerminalEvent) -> None:
        """Close the source, then let the terminal event out. The one place where a stream ends."""
        source, self._source = self._source, None
        if self._when_left is not None:
            self._when_left.detach()
        if source is not None:
            await _close(source)
        message = terminal.message
        message.stop_reason = terminal.reason
        if isinstance(terminal, ErrorEvent) and not message.error_message:
            message.error_message = "An unknown error occurred"
        usage = message.usage
        if self._model is not None and usage.cost.total == 0 and (usage.input or usage.output or usage.total_tokens):
            calculate_cost(self._model, usage)  # S21, for sources that set none
        if message.duration_ms is None and message.timestamp >= self._born_ms:
            message.duration_ms = round((time.monotonic() - self._born) * 1000)
        if self._channel is None:
            self._open_channel()
        self._partial = message
        self._send((terminal,))
        self._terminal, self._finished = terminal, True

    async def _end_aborted(self) -> None:
        try:
            await checkpoint_if_cancelled()  # an outer cancellation at the same moment wins (S8)
        finally:
            await self._finish(self._failed(ABORTED, reason="aborted"))

    def _failed(self, text: str, error: Exception | None = None, reason: Any = "error") -> TerminalEvent:
        """The terminal event of a failure: what came is kept, what is unfinished is marked so (core E14)."""
        if self._terminal is not None:
            return self._terminal  # the end was known already; only its delivery was cut
        partial = self._partial
        message = partial if isinstance(partial, AssistantMessage) else partial.interrupt()
        message.stop_reason, message.error_message = reason, text
        if error is not None:
            message.error_info = _info(error, message)
            if not isinstance(error, PiAIError):
                message.add_diagnostic(_diagnostic(error))
        return ErrorEvent(reason, message)

    def _open_channel(self) -> None:
        self._channel = channel = anyio.create_memory_object_stream[_Batch](math.inf)
        _when_gone(self, channel[0].close, channel[1].close)

    def __del__(self) -> None:
        """Left by ``break``, without ``async with``; the connection is released soon all the same (D20, F55)."""
        if self._finished or self._when_left is None:
            return
        message = self.message
        message.stop_reason, message.error_message = "aborted", ABORTED
        if self._made_at is not None:
            # Not source=self: whoever records the warning would keep the stream, and its connection, alive.
            warnings.warn(
                f"a stream made at {self._made_at} was dropped before its end; use `async with stream(...) as s:`",
                ResourceWarning,
                stacklevel=2,
            )


async def _close(source: Any) -> None:
    """Close an async iterator within the bound, whatever happens around and inside of it."""
    aclose: Callable[[], Awaitable[None]] | None = getattr(source, "aclose", None)
    if aclose is None:
        return
    with CancelScope(shield=True, deadline=anyio.current_time() + CLOSE_TIMEOUT_S):
        try:
            await aclose()
        except Exception:  # noqa: BLE001, S110 - what a source says while it is closed has no reader any more
            pass


def _when_gone(owner: object, *close: Callable[[], None]) -> None:
    """Close channel ends when their owner is gone, at the latest at the end of the program.

    Not by the owner's ``__del__``: in a reference cycle the ends might be finalised first, and complain.
    """
    for function in close:
        weakref.finalize(owner, function)


_tasks: set[object] = set()


def _run_later(token: EventLoopToken, source: Any) -> None:
    """Have the event loop close a source whose stream is gone: a finaliser has no task that could wait for it."""
    _spawn(token, lambda: _close(source))


def _spawn(
    token: EventLoopToken, function: Callable[[], Coroutine[Any, Any, None]], context: Context | None = None
) -> None:
    """Have the event loop run a function that no task waits for: in a task on asyncio, in a system task on trio.

    The only place that speaks to the event loops themselves: anyio has no tasks without an owner. Whoever spawns one
    sees to it that it ends.
    """
    loop: Any = token.native_token

    def spawn() -> None:
        if hasattr(loop, "create_task"):
            task = loop.create_task(function(), context=context)
            _tasks.add(task)  # the loop itself holds tasks weakly
            task.add_done_callback(_tasks.discard)
        else:
            sys.modules["trio"].lowlevel.spawn_system_task(function, context=context)

    try:
        schedule = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon
        schedule(spawn)
    except RuntimeError:
        pass  # the loop has ended, and its connections with it


def _info(error: Exception, message: AssistantMessage) -> ErrorInfo:
    if isinstance(error, PiAIError):
        info = error.info
        cause = info.cause or error.__cause__
    else:
        place = f"Provider {message.provider}" if message.provider else "The source of the stream"
        info = ErrorInfo(kind="internal", message=f"{place} raised {type(error).__name__}: {error}")
        # Without this module's own frame, which would keep the stream alive.
        cause = error.with_traceback(error.__traceback__.tb_next if error.__traceback__ else None)
    return attrs.evolve(
        info,
        provider=info.provider or message.provider or None,
        api=info.api or message.api or None,
        model=info.model or message.model or None,
        cause=cause,
    )


def _diagnostic(error: Exception) -> Diagnostic:
    stack = "".join(traceback.format_exception(error, limit=-8))
    return Diagnostic(
        type="internal_error", error=DiagnosticError(name=type(error).__name__, message=str(error), stack=stack)
    )


def _caller() -> str:
    """File and line outside of this package, for the warning in development mode."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").startswith("pi_ai."):
        frame = frame.f_back
    return "an unknown place" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


# ── streams of one's own ─────────────────────────────────────────────────────────────────────────────────────


def event_stream(source: EventSource, *, model: Model | None = None) -> EventStream:
    """Any async iterable of events as an :class:`EventStream`, under the whole contract (S24).

    The normal form of a custom stream is an async generator::

        async def answer(model):
            out = MessageBuilder(model)
            yield out.start()
            yield out.text("Hello")
            yield out.finish("stop")

    Rules for its author: no ``yield`` inside a task group, cancel scope or timeout; let cancellation pass
    (``except Exception``, never bare); raise for failures. Returning without ``finish`` is an error.

    :param source: yields events, or lists of events.
    :param model: names the message until the first event brings one, and prices its usage.
    """
    return EventStream(source, partial=_pending(model), model=model)


def _pending(model: Model | None) -> AssistantMessage:
    if model is None:
        return AssistantMessage()
    return AssistantMessage(api=model.api, provider=model.provider, model=model.id)


class _Channel:
    """The reading side of an event channel, as the source of a stream."""

    def __init__(self, receive: MemoryObjectReceiveStream[StreamEvent]) -> None:
        self._receive = receive

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StreamEvent:
        return await anext(self._receive)

    async def aclose(self) -> None:
        self._receive.close()


class EventSink:
    """The writing side of an event channel; see :func:`open_event_channel`.

    ``with sink:`` ends the stream on the way out; leaving without a terminal event is an ``error`` ending.
    """

    def __init__(self, send: MemoryObjectSendStream[StreamEvent]) -> None:
        self._send = send
        self._ended = False

    def push(self, event: StreamEvent) -> None:
        """Append an event; never waits. After the end of the stream it is ignored (custom-providers R70).

        :raises anyio.BrokenResourceError: the reader has closed or aborted the stream: stop producing.
        """
        if self._ended:
            return
        self._send.send_nowait(event)
        self._ended = isinstance(event, (DoneEvent, ErrorEvent))

    def end(self, result: AssistantMessage | None = None) -> None:
        """No more events. Idempotent (R72).

        :param result: the final message, if no ``done`` or ``error`` was pushed. Without one, the stream ends with
            an error that keeps what came (R73).
        """
        if result is not None and not self._ended:
            if result.stop_reason in ("error", "aborted"):
                self.push(ErrorEvent(result.stop_reason, result))
            else:
                reason = "stop" if result.stop_reason == "pending" else result.stop_reason
                self.push(DoneEvent(reason, result))
        self._ended = True
        self._send.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def open_event_channel(model: Model) -> tuple[EventSink, EventStream]:
    """A pair (sink, stream) for events that some other task produces: a proxy, a test, a bridge from callbacks.

    The producing task belongs to the caller's own task group; the stream starts none (D15)::

        sink, events = open_event_channel(model)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(produce, sink)
            async for event in events: ...
    """
    return create_assistant_message_event_stream(model=model)


@overload
def create_assistant_message_event_stream(*, model: Model | None = None) -> tuple[EventSink, EventStream]: ...
@overload
def create_assistant_message_event_stream(
    producer: Callable[[EventSink], Awaitable[object]], *, model: Model | None = None
) -> EventStream: ...
def create_assistant_message_event_stream(
    producer: Callable[[EventSink], Awaitable[object]] | None = None, *, model: Model | None = None
) -> tuple[EventSink, EventStream] | EventStream:
    """The name for pushed streams that people coming from pi look for (R69a).

    Alone it is :func:`open_event_channel`: a pair, a sink to push to and a stream to return or read; the producer runs
    in a task of the caller's. Given the producer, it is the stream: pi's pattern "make the stream, start a background
    job, return the stream" then reads::

        def stream_simple(model, context, options):
            async def produce(sink):
                out = MessageBuilder(model)
                sink.push(out.start())
                ...

            return create_assistant_message_event_stream(produce, model=model)

    The producer runs from the first await of the stream on, in a task of the stream's own, and is cancelled with it.
    What it raises ends the stream with an error. An async generator of events needs no task at all: prefer it.

    :param model: names the message until the first event brings one, and prices its usage.
    """
    send, receive = anyio.create_memory_object_stream[StreamEvent](math.inf)
    sink = EventSink(send)
    source = _Channel(receive) if producer is None else _Produced(receive, sink, producer)
    events = event_stream(source, model=model)
    _when_gone(sink, send.close)
    _when_gone(events, receive.close)
    return (sink, events) if producer is None else events


class _Produced(_Channel):
    """The reading side of a channel whose producer runs in a task of the stream's own."""

    def __init__(
        self,
        receive: MemoryObjectReceiveStream[StreamEvent],
        sink: EventSink,
        producer: Callable[[EventSink], Awaitable[object]],
    ) -> None:
        super().__init__(receive)
        self._sink = sink
        self._producer = producer
        self._task: tuple[CancelScope, anyio.Event] | None = None
        self._error: Exception | None = None

    async def __anext__(self) -> StreamEvent:
        if self._task is None:
            self._task = CancelScope(), anyio.Event()
            _spawn(current_token(), self._run, copy_context())
        try:
            return await super().__anext__()
        except StopAsyncIteration:
            if self._error is not None:
                raise self._error from None
            raise

    async def _run(self) -> None:
        assert self._task is not None
        scope, ended = self._task
        try:
            with scope:
                await self._producer(self._sink)
        except anyio.BrokenResourceError:
            pass  # nobody reads any more
        except Exception as error:  # noqa: BLE001 - it is the stream's (R75)
            self._error = error
        finally:
            self._sink.end()
            ended.set()

    async def aclose(self) -> None:
        await super().aclose()
        if self._task is not None:
            scope, ended = self._task
            scope.cancel()
            await ended.wait()
