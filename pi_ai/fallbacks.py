"""Several models for one answer: the next where one fails (``fallback``), or where one is slow (``hedge``).

Both are one race. An attempt is *committed* with its first content, a delta: that attempt is the answer, the others
are aborted, and no other model is tried after it, because its beginning has been shown. Until then nothing is.
What the others have used is on the answer's bill (``usage.wasted``), what went wrong with them in ``attempts``.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Collection, Sequence
from typing import TypeAlias, Unpack, get_args

import anyio
import attrs

from pi_ai.errors import ErrorInfo, ErrorKind
from pi_ai.events import (
    DoneEvent,
    ErrorEvent,
    StartEvent,
    StreamEvent,
    TextEndEvent,
    TextStartEvent,
    ThinkingEndEvent,
    ThinkingStartEvent,
    ToolCallStartEvent,
)
from pi_ai.pricing import sum_usage
from pi_ai.registry import Registry, current
from pi_ai.streams import EventStream, event_stream
from pi_ai.types import AssistantMessage, Attempt, Context, Cost, Model, RequestOptions, StreamKeywords, Usage

Candidate: TypeAlias = Model | tuple[Model, RequestOptions]
"""A model, or a model with options of its own."""

FALLS_BACK: frozenset[ErrorKind] = frozenset(get_args(ErrorKind)) - {
    "aborted",
    "bad_request",  # the request is wrong, whoever reads it
    "content_filter",  # a refusal is an answer
    "internal",  # a bug is not hidden
}
"""Kinds of failure after which another model is asked."""

_EMPTY = (StartEvent, TextStartEvent, TextEndEvent, ThinkingStartEvent, ThinkingEndEvent, ToolCallStartEvent)
"""What may come without any content."""


def fallback(
    candidates: Sequence[Candidate],
    context: Context,
    options: RequestOptions | None = None,
    *,
    on: Collection[ErrorKind] = FALLS_BACK,
    registry: Registry | None = None,
    **keywords: Unpack[StreamKeywords],
) -> EventStream:
    """Ask the first model; where it fails before its answer has begun, the next one::

        models = [get_model("anthropic", "claude-sonnet-4-5"), get_model("openai", "gpt-5.2")]
        async for event in fallback(models, context, reasoning="high"): ...

    Each is retried first as the options say. If all fail, the stream ends with the last one's error. An answer that
    breaks off later is not begun anew.

    :param candidates: in the order of preference; ``(model, options)`` where one needs options of its own.
    :param on: the kinds of failure after which the next one is asked.
    :param registry: where they stream from; default: the current one.
    :raises ValueError: there are no candidates.
    """
    return _first_answer(candidates, context, options, math.inf, on, registry, keywords)


def hedge(
    candidates: Sequence[Candidate],
    context: Context,
    options: RequestOptions | None = None,
    *,
    after: float,
    on: Collection[ErrorKind] = FALLS_BACK,
    registry: Registry | None = None,
    **keywords: Unpack[StreamKeywords],
) -> EventStream:
    """Ask the first model; where it has not begun to answer in time, the next one, too. Who begins first, answers::

        async for event in hedge([model, model], context, after=2.0): ...  # the same one twice is fine

    The others are aborted at once, and their connections are free again before the first event arrives.

    :param after: seconds to wait before each further candidate; one that fails is not waited for.

    The rest is as for :func:`fallback`. What providers bill for aborted requests is on the bill as far as they told it.
    """
    if not after >= 0:
        raise ValueError(f"hedge(after=…) is a number of seconds, 0 or more, not {after!r}")
    return _first_answer(candidates, context, options, after, on, registry, keywords)


def _first_answer(
    candidates: Sequence[Candidate],
    context: Context,
    options: RequestOptions | None,
    after: float,
    on: Collection[ErrorKind],
    registry: Registry | None,
    keywords: StreamKeywords,
) -> EventStream:
    if not candidates:
        raise ValueError("there are no candidates: give at least one model")
    pi = registry or current()
    asked = [each if isinstance(each, tuple) else (each, options) for each in candidates]
    # Wrong arguments are told at once, as stream() does; nothing is sent before the first await (S1).
    attempts = [_Attempt(pi.stream(model, context, own, **keywords)) for model, own in asked]
    return event_stream(_FirstAnswer(attempts, after, frozenset(on)), model=asked[0][0])


@attrs.define(eq=False)
class _Attempt:
    stream: EventStream
    events: list[StreamEvent] = attrs.field(factory=list[StreamEvent])
    asked: bool = False

    async def begin(self) -> None:
        """Ask, and read until it is clear what comes of it: content, or the end."""
        self.asked = True
        async for event in self.stream:
            self.events.append(event)
            if not isinstance(event, _EMPTY):
                return

    @property
    def failure(self) -> ErrorInfo | None:
        last = self.events[-1] if self.events else None
        if not isinstance(last, ErrorEvent):
            return None
        message = last.message
        return message.error_info or ErrorInfo(kind="internal", message=message.error_message or "")


class _FirstAnswer:
    """The events of the first attempt that commits (``streams.WaitingSource`` from then on)."""

    waits = 0

    def __init__(self, attempts: list[_Attempt], after: float, on: frozenset[ErrorKind]) -> None:
        self._attempts = attempts
        self._after = after
        self._on = on
        self._chosen: _Attempt | None = None
        self._billed = False

    def __aiter__(self) -> AsyncIterator[StreamEvent | Sequence[StreamEvent]]:
        return self

    async def __anext__(self) -> StreamEvent | Sequence[StreamEvent]:
        if self._chosen is None:
            self._chosen = await self._race()
            events = self._chosen.events
        else:
            events = [await anext(self._chosen.stream)]
        if isinstance(events[-1], (DoneEvent, ErrorEvent)):
            self._bill(events[-1].message)
        return events

    def abort(self) -> None:
        if self._chosen is not None:
            self._chosen.stream.abort()

    async def aclose(self) -> None:
        for attempt in self._attempts:
            if attempt.asked:
                await attempt.stream.aclose()
        if self._chosen is not None:
            self._bill(self._chosen.stream.message)

    async def _race(self) -> _Attempt:
        chosen: list[_Attempt] = []

        async def run(attempt: _Attempt, over: anyio.Event) -> None:
            try:
                await attempt.begin()
                if not chosen and not self._goes_on(attempt):
                    chosen.append(attempt)
                    tasks.cancel_scope.cancel()
            finally:
                over.set()
                if attempt not in chosen:
                    await attempt.stream.aclose()

        async with anyio.create_task_group() as tasks:
            for attempt in self._attempts:
                over = anyio.Event()
                tasks.start_soon(run, attempt, over)
                with anyio.move_on_after(self._after):
                    await over.wait()
        return chosen[0] if chosen else self._attempts[-1]

    def _goes_on(self, attempt: _Attempt) -> bool:
        """Whether others may still answer."""
        return attempt.failure is not None and attempt.failure.kind in self._on

    def _bill(self, message: AssistantMessage) -> None:
        """Put on the answer's bill what the others used, and tell why they failed."""
        if self._billed:
            return
        self._billed = True
        usage = message.usage
        failed: list[Attempt] = []
        for attempt in self._attempts:
            if attempt is self._chosen or not attempt.asked:
                continue
            other = attempt.stream.message
            failed += other.attempts or []
            if attempt.failure is not None:
                failed.append(Attempt(error=attempt.failure, delay_s=0.0))
            for used in _parts(other.usage):
                usage.wasted = used if usage.wasted is None else sum_usage(usage.wasted, used)
                usage.cost.total += used.cost.total
        if failed:
            message.attempts = [*failed, *(message.attempts or [])]


def _parts(usage: Usage) -> list[Usage]:
    """What an attempt used, and what was wasted on the way to it, whose price the first one's includes."""
    wasted = [] if usage.wasted is None else [attrs.evolve(usage.wasted, cost=Cost())]
    return [each for each in (attrs.evolve(usage, wasted=None), *wasted) if each.total_tokens or each.cost.total]
