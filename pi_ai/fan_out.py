"""One stream, many readers: each sees every event, whenever it comes.

For an answer that several watch: a browser that reconnects, a log beside a user, a cache. The events are shared, not
copied; slow readers hold up neither the source nor each other, so what has come is kept for as long as somebody may
read it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from pi_ai.events import ErrorEvent
from pi_ai.streams import RUN_LENGTH
from pi_ai.types import AssistantMessage

EventT = TypeVar("EventT")
EventT_co = TypeVar("EventT_co", covariant=True)


class Answer(Protocol[EventT_co]):
    """What can be fanned out: an :class:`EventStream`, or a run of tools (``pi_ai.ToolRun``)."""

    @property
    def message(self) -> AssistantMessage:
        """The answer as far as it has come."""
        ...

    def abort(self) -> None:
        """End it."""
        ...

    def __aiter__(self) -> AsyncIterator[EventT_co]: ...


class FanOut(Generic[EventT]):
    """Reads a stream in a task of its own, for as long as its block runs, and gives its events to all who ask::

        async with FanOut(stream(model, context)) as answer:
            tasks.start_soon(log, answer)
            async for event in answer.read(): ...
            await answer.result()

    Leaving the block before the end aborts the stream. A reader may leave at any time: the others do not notice.
    Readers that are still waiting when the block ends get the last event, as everywhere: ``done`` or ``error``.
    """

    def __init__(self, stream: Answer[EventT]) -> None:
        """:param stream: nobody else may iterate it. It starts when the block is entered."""
        self._stream = stream
        self._events: list[EventT | ErrorEvent] = []
        self._news = anyio.Event()
        self._tasks: TaskGroup | None = None
        self._ended = False

    @property
    def message(self) -> AssistantMessage:
        """The answer as far as it has come; final once ``done``."""
        return self._stream.message

    @property
    def done(self) -> bool:
        """Whether the last event has come."""
        return self._ended

    def __len__(self) -> int:
        """How many events have come."""
        return len(self._events)

    def abort(self) -> None:
        """End the stream, for all its readers, with stop reason ``"aborted"`` (S7)."""
        self._stream.abort()

    def read(self, after: int = 0) -> AsyncIterator[EventT | ErrorEvent]:
        """All events, those that have come already first; any number of readers, also after the end.

        :param after: leave out so many from the beginning: a reader that comes back goes on where it was.
        """
        return _Reader(self, after)

    async def _event(self, number: int) -> EventT | ErrorEvent | None:
        """Wait for an event; None: the stream has ended before it."""
        while number >= len(self._events):
            if self._ended:
                return None
            await self._news.wait()
        return self._events[number]

    async def result(self) -> AssistantMessage:
        """Wait for the end; the final message."""
        while not self._ended:
            await self._news.wait()
        return self.message

    async def __aenter__(self) -> Self:
        if self._tasks is not None:
            raise RuntimeError("a FanOut runs once; make another one for another stream")
        self._tasks = await anyio.create_task_group().__aenter__()
        self._tasks.start_soon(self._drive)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool | None:
        assert self._tasks is not None
        self.abort()
        return await self._tasks.__aexit__(exc_type, exc, tb)

    async def _drive(self) -> None:
        complete = False
        try:
            async for event in self._stream:
                self._events.append(event)
                self._tell()
            complete = True
        finally:
            if not complete:
                self._events.append(ErrorEvent("aborted", self.message))  # the block was cancelled
            self._ended = True
            self._tell()

    def _tell(self) -> None:
        if self._news.statistics().tasks_waiting or self._ended:
            self._news.set()
            self._news = anyio.Event()


class _Reader(AsyncIterator[EventT | ErrorEvent]):
    """Not a generator: one that is left in the middle wants to be closed, a reader may just go."""

    def __init__(self, answer: FanOut[EventT], position: int) -> None:
        self._answer = answer
        self._position = position

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> EventT | ErrorEvent:
        if self._position % RUN_LENGTH == 0:
            await checkpoint()  # a reader that comes late finds everything there (D5)
        event = await self._answer._event(self._position)  # pyright: ignore[reportPrivateUsage] - one concept
        if event is None:
            raise StopAsyncIteration
        self._position += 1
        return event
