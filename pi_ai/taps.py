"""What stands between a stream and its source and sees the events pass: budgets and telemetry.

Several may, each around the next. A custom provider that streams from an API inside of its own stream is seen once,
from outside.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Self, TypeAlias, cast

import attrs

from pi_ai.events import StreamEvent
from pi_ai.types import AssistantMessage, Context, Model, RequestOptions

Events: TypeAlias = AsyncIterable[StreamEvent | Sequence[StreamEvent]]
Opener: TypeAlias = Callable[[], Awaitable[Events]]


@attrs.frozen
class Asked:
    """A call, as somebody who watches it sees it.

    :ivar message: the answer, until an event brings its own.
    """

    model: Model
    context: Context
    options: RequestOptions
    message: AssistantMessage


class Tap:
    """A source of events around another one. Passes on its ``abort`` and ``waits`` (``streams.WaitingSource``)."""

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self._source: Any = None

    def asked(self) -> None:
        """The request is about to be made. What this raises ends the stream; then there is no ``ended``."""

    def reading(self) -> None:
        """The next events are about to be read; what this raises ends the stream."""

    def passed(self, events: Sequence[StreamEvent]) -> None:
        """These, one or more, are on their way to the reader."""

    def ended(self, error: BaseException | None = None) -> None:
        """The stream ends; called once, whatever ended it.

        :param error: what kept the source from opening; nothing has passed then.
        """

    async def open(self) -> Self:
        """Have the source opened; what an :class:`EventStream` is given."""
        self.asked()
        try:
            with _inside():
                self._source = aiter(await self._opener())
        except BaseException as error:
            self.ended(error)
            raise
        return self

    def __aiter__(self) -> AsyncIterator[StreamEvent | Sequence[StreamEvent]]:
        return self

    async def __anext__(self) -> StreamEvent | Sequence[StreamEvent]:
        self.reading()
        with _inside():
            batch: StreamEvent | Sequence[StreamEvent] = await anext(self._source)
        events = cast("Sequence[StreamEvent]", batch if isinstance(batch, (list, tuple)) else (batch,))
        if events:
            self.passed(events)
        return batch

    async def aclose(self) -> None:
        """Close the source; what it raises is the stream's to ignore."""
        try:
            if hasattr(self._source, "aclose"):
                await self._source.aclose()
        finally:
            self.ended()

    def __getattr__(self, name: str) -> Any:
        if name in ("abort", "waits"):
            return getattr(self._source, name)
        raise AttributeError(name)


makers: list[Callable[[Opener, Asked], Tap | None]] = []
"""Who is asked for a tap on every call, innermost first."""


def tapped(opener: Opener, asked: Asked) -> Opener:
    """The opener of a stream's source, with everybody's tap on it."""
    if not _nested.get():
        for make in makers:
            tap = make(opener, asked)
            if tap is not None:
                opener = tap.open
    return opener


_nested: ContextVar[bool] = ContextVar("pi_ai_nested", default=False)


@contextmanager
def _inside() -> Generator[None]:
    previous = _nested.set(True)
    try:
        yield
    finally:
        _nested.reset(previous)
