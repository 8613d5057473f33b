"""Stream functions: APIs that people write themselves, under the same contract as the built-in ones (R60-R69, S24).

A stream function takes a model, a context and options, all resolved, and gives events. It is an async generator, or
returns anything that is iterated with ``async for``::

    async def answer(model, context, options):
        out = MessageBuilder(model)
        yield out.start()
        yield out.text("Hello")
        yield out.finish("stop")
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias

import attrs

from pi_ai.adapters.hooks import call_hook
from pi_ai.errors import failure
from pi_ai.events import DoneEvent, ErrorEvent, StreamEvent, ToolCallEndEvent, ToolCallStartEvent
from pi_ai.headers import merge_headers
from pi_ai.types import AssistantMessage, Context, Model, RequestOptions, StreamOptions, ToolCall

if TYPE_CHECKING:
    from pi_ai.adapters.base import Call

CustomEvents: TypeAlias = AsyncIterable[StreamEvent | Sequence[StreamEvent]]
StreamFunction: TypeAlias = Callable[[Model, Context, StreamOptions], CustomEvents | Awaitable[CustomEvents]]
"""An async generator function of events, or a function, sync or async, that returns a stream of them (R67)."""


class Api(Protocol):
    """What serves the requests of an API: an adapter, or a stream function."""

    @property
    def options_type(self) -> type[RequestOptions]:
        """The class of its own options."""
        ...

    def lower(self, model: Model, context: Context, options: StreamOptions) -> RequestOptions:
        """Portable options as its own."""
        ...

    def events(self, call: Call) -> CustomEvents:
        """The events of one call."""
        ...


@attrs.frozen
class CustomApi:
    """A stream function as an API.

    :ivar owner: what it is, for errors.
    """

    function: StreamFunction
    owner: str
    options_type: type[RequestOptions] = attrs.field(default=RequestOptions, init=False)

    def lower(self, model: Model, context: Context, options: StreamOptions) -> StreamOptions:
        """Portable options, as they are: the function knows what to do with them."""
        return options

    def events(self, call: Call) -> CustomEvents:
        """The events of one call; the function is called when the first one is asked for."""
        return _CustomAnswer(self, call)


class _CustomAnswer:
    """What a stream function gives, whatever its form."""

    def __init__(self, api: CustomApi, call: Call) -> None:
        self._api = api
        self._call = call
        self._events: AsyncIterator[StreamEvent | Sequence[StreamEvent]] | None = None
        self._message: AssistantMessage | None = None
        self._begun: set[int] = set()  # the tool calls that have no end yet
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StreamEvent | Sequence[StreamEvent]:
        if self._events is None:
            self._events = aiter(await self._open())
        batch = await anext(self._events)
        for event in batch if isinstance(batch, (list, tuple)) else (batch,):
            match event:
                case ToolCallStartEvent(content_index=index):
                    self._begun.add(index)
                    self._message = event.partial
                case ToolCallEndEvent(content_index=index):
                    self._begun.discard(index)
                case DoneEvent():
                    self._ended = True
                    self._begun.clear()
                case ErrorEvent(error=message):
                    self._ended = True
                    self._message = message
                case _:
                    pass
        return batch

    async def _open(self) -> CustomEvents:
        model, options = self._call.model, self._call.options
        headers = merge_headers(model.headers, options.headers)
        changed = await call_hook("transform_headers", options.transform_headers, headers)
        headers = headers if changed is None else merge_headers(changed)
        given: Any = self._api.function(
            attrs.evolve(model, headers=None),  # they are in the options now
            self._call.context,
            attrs.evolve(options, headers=headers, transform_headers=None),
        )
        if inspect.isawaitable(given):
            given = await given
        if not hasattr(given, "__aiter__"):
            text = f"{self._api.owner} returned {type(given).__name__}, expected an event stream"
            raise failure("internal", f"{text}: write it as an async generator of events", text=text)
        return given

    async def aclose(self) -> None:
        """Close what the function gave. Tool calls that broke off must not be run (R75)."""
        blocks = self._message.content if self._message else []
        for index, block in enumerate(blocks):
            if index in self._begun and isinstance(block, ToolCall) and block.arguments_error is None:
                block.arguments, block.arguments_error = {}, "The call broke off before its arguments were complete"
        close: Callable[[], Awaitable[None]] | None = getattr(self._events, "aclose", None)
        try:
            if self._ended and self._events is not None:
                await anext(self._events, None)  # a generator runs to its end, and those that it reads do, too
        finally:
            if close is not None:
                await close()
