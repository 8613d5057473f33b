"""Tools that run: one call (``run_tool_call``), or model and tools in turns until there is an answer (``run_tools``).

A run is driven by the task that awaits it, as a stream is (streams.py): each turn is an ``EventStream``, and the task
group in which its tools run opens and closes within one await. Between two awaits nothing of a run is running. However
it ends, every call in the conversation has a result.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, ClassVar, Literal, Self, TypeAlias, TypeGuard, Unpack, cast

import anyio
import attrs
from anyio import CancelScope

from pi_ai.events import DoneEvent, ErrorEvent, StreamEvent
from pi_ai.functions import FunctionTool, tool
from pi_ai.history import current_tools, transcript
from pi_ai.pricing import sum_usage
from pi_ai.registry import Registry, checked_options, current
from pi_ai.shapes import plain
from pi_ai.streams import CLOSE_TIMEOUT_S, EventStream, StreamBusyError
from pi_ai.tools import ToolValidationError
from pi_ai.types import (
    NOT_DATA,
    AssistantMessage,
    Context,
    ImageContent,
    Model,
    RequestOptions,
    StreamKeywords,
    TextContent,
    Timeouts,
    Tool,
    ToolCall,
    ToolResultMessage,
    Usage,
    UserContent,
)

# ── one call ─────────────────────────────────────────────────────────────────────────────────────────────────


async def run_tool_call(
    tools: Iterable[Tool], call: ToolCall, *, fatal: tuple[type[Exception], ...] = ()
) -> ToolResultMessage:
    """Run a call that a model has asked for: check its arguments, run the function, and make a message of the result.

    A text is sent as it is, content (text, images, or a list with some) too, everything else as JSON. A
    :class:`ToolResultMessage` says more: whether it is an error, ``details`` for the application, ``usage``. What goes
    wrong is a result as well, an error that the model can read. Functions that are not async run in a thread.

    :param fatal: exceptions of the tool that are raised instead.
    """
    return (await _outcome(tools, call, fatal))[0]


async def _outcome(
    tools: Iterable[Tool], call: ToolCall, fatal: tuple[type[Exception], ...]
) -> tuple[ToolResultMessage, Exception | None]:
    """The result of a call, and what it failed of."""
    from anyio import to_thread

    begun = anyio.current_time()
    try:
        bound, is_async = _bound(tools, call)
        # In a tuple: from a thread, trio takes no coroutine, which a function that is not async may well return.
        (value,) = (bound(),) if is_async else await to_thread.run_sync(lambda: (bound(),))
        if isinstance(value, Awaitable):
            value = await cast("Awaitable[object]", value)
        result, error = as_result(call, value), None
    except ToolValidationError as invalid:
        result, error = ToolResultMessage(call.id, call.name, str(invalid), is_error=True), invalid
    except Exception as failed:
        if isinstance(failed, fatal):
            raise
        words = f"{type(failed).__name__}: {failed}".removesuffix(": ")
        result, error = ToolResultMessage(call.id, call.name, words, is_error=True), failed
    if result.duration_ms is None:
        result.duration_ms = round((anyio.current_time() - begun) * 1000)
    return result, error


def _bound(tools: Iterable[Tool], call: ToolCall) -> tuple[Callable[[], Any], bool]:
    for each in tools:
        if each.name == call.name:
            if not isinstance(each, FunctionTool):
                raise ToolValidationError(f'Tool "{call.name}" cannot be run here')
            return each.bind(call), each.is_async
    raise ToolValidationError(f'Tool "{call.name}" not found')


def as_result(call: ToolCall, value: object) -> ToolResultMessage:
    """What a tool has returned, as a message.

    :raises TypeError: it is no text, no content, and nothing that has a JSON form.
    """
    match value:
        case ToolResultMessage():
            return attrs.evolve(value, tool_call_id=call.id, tool_name=call.name)
        case str():
            content: list[UserContent] = [TextContent(value)]
        case TextContent() | ImageContent():
            content = [value]
        case _ if _has_content(value):
            # A tool's own mixture; anything else in it is said as JSON.
            parts = [as_result(call, item).content for item in value]
            content = [block for part in parts for block in part]
        case _:
            content = [TextContent(json.dumps(plain(value), ensure_ascii=False))]
    return ToolResultMessage(call.id, call.name, content)


def _has_content(value: object) -> TypeGuard[Sequence[object]]:
    """Whether a list is content, and not data."""
    if not isinstance(value, (list, tuple)):
        return False
    return any(isinstance(item, (TextContent, ImageContent)) for item in cast("Sequence[object]", value))


# ── a run ────────────────────────────────────────────────────────────────────────────────────────────────────

RunReason: TypeAlias = Literal["stop", "length", "deferred", "error", "aborted", "turns", "seconds", "usd", "tokens"]
"""Why a run ended: as the model's last answer did, or by the limit of that name."""


@attrs.define
class ToolResultEvent:
    """A tool has run; the result stands in the conversation.

    :ivar error: what it failed of, with its traceback; the model reads the text only.
    """

    type: ClassVar[Literal["tool_result"]] = "tool_result"
    call: ToolCall
    result: ToolResultMessage
    error: Exception | None = attrs.field(default=None, metadata=NOT_DATA)


@attrs.define
class RunEndEvent:
    """The run is over. The last event.

    :ivar message: the model's last answer. ``usage``: tokens and cost of all turns.
    """

    type: ClassVar[Literal["run_end"]] = "run_end"
    reason: RunReason
    message: AssistantMessage
    usage: Usage


RunEvent: TypeAlias = StreamEvent | ToolResultEvent | RunEndEvent
"""The events of every turn, each turn from ``start`` to ``done`` or ``error``; then those of its tools."""


def _above_zero(instance: object, attribute: attrs.Attribute[Any], value: float | None) -> None:
    if value is not None and not value > 0:
        raise ValueError(f"RunLimits.{attribute.name} must be above 0, or None for no limit; not {value!r}")


@attrs.frozen(kw_only=True)
class RunLimits:
    """When a run begins no further turn. The tools that were called have run by then, so that it can be gone on with.

    What is to end at once, in the middle of an answer or a tool, is a cancel scope's or a ``budget()``'s business.

    :ivar turns: answers of the model (50).
    :ivar seconds: since the run began; an answer that is still coming then ends with an error, tools may finish.
    :ivar usd: cost of all answers. ``tokens``: of prompts, cached ones too, and answers.
    """

    turns: int | None = attrs.field(default=50, validator=_above_zero)
    seconds: float | None = attrs.field(default=None, validator=_above_zero)
    usd: float | None = attrs.field(default=None, validator=_above_zero)
    tokens: int | None = attrs.field(default=None, validator=_above_zero)


def run_tools(
    model: Model,
    context: Context,
    tools: Sequence[Tool | Callable[..., Any]] | None = None,
    options: RequestOptions | None = None,
    *,
    limits: RunLimits | None = None,
    parallel: int | None = None,
    fatal: tuple[type[Exception], ...] = (),
    registry: Registry | None = None,
    **keywords: Unpack[StreamKeywords],
) -> ToolRun:
    """Let a model work with tools until it has its answer::

        async with run_tools(model, context, [get_weather]) as run:
            async for event in run:
                match event:
                    case TextDeltaEvent(delta=text):
                        print(text, end="")
                    case ToolResultEvent(call=call, result=result):
                        print(call.name, result.content)
        print(run.reason, run.usage.cost.total)

    Answers and results are added to ``context.messages``. What you add there meanwhile goes along with the next turn.

    :param tools: functions, or what :func:`pi_ai.tool` makes of them; default: those of the context.
    :param options: for every turn, and ``keywords``; see :func:`pi_ai.stream`. A ``tool_choice`` that forces a call
        holds for the first turn only.
    :param parallel: how many calls of a turn run at the same time; 1: one after the other, in order; None: all.
    :param fatal: exceptions of tools that end the run and are raised. All others become results for the model.
    :param registry: where the answers are streamed from; default: the current one.
    :raises TypeError: a wrong type, an unknown option, or a tool that has no function.
    """
    pi = registry or current()
    checked = checked_options(model, context, options, keywords)
    own = None if tools is None else [_runnable(each) for each in tools]
    for each in context.tools or () if own is None else ():
        _runnable(each)
    if parallel is not None and parallel < 1:
        raise ValueError(f"run_tools(parallel=…) must be 1 or more, or None for all, not {parallel!r}")
    return ToolRun(pi, model, context, own, checked, limits or RunLimits(), parallel, fatal)


def _runnable(given: Tool | Callable[..., Any]) -> Tool:
    if isinstance(given, FunctionTool):
        return cast("Tool", given)
    if isinstance(given, Tool):
        raise TypeError(
            f'the tool "{given.name}" has no function that could run; make it with @tool, or run it yourself'
        )
    return tool(given)


class ToolRun(AsyncIterator[RunEvent]):
    """A model and its tools at work; made by :func:`run_tools`.

    Iterate it, or ``await result()``. Leaving, aborting and cancelling are as for :class:`EventStream`; tools that run
    are cancelled then, and what they had not finished is told in the conversation.

    :ivar context: the conversation, which grows.
    :ivar reason: why it ended, None: it has not.
    :ivar turns: how many answers have begun.
    """

    def __init__(
        self,
        registry: Registry,
        model: Model,
        context: Context,
        tools: list[Tool] | None,
        options: RequestOptions,
        limits: RunLimits,
        parallel: int | None,
        fatal: tuple[type[Exception], ...],
    ) -> None:
        self.context = context
        self.reason: RunReason | None = None
        self.turns = 0
        self._registry = registry
        self._model = model
        self._tools = tools
        self._options = options
        self._limits = limits
        self._parallel = parallel
        self._fatal = fatal
        self._message = AssistantMessage(api=model.api, provider=model.provider, model=model.id)
        self._usage = Usage()
        self._events: deque[RunEvent] = deque()
        self._stream: EventStream | None = None
        self._calls: list[ToolCall] = []  # those of the last answer that have no result yet
        self._started: set[int] = set()
        self._begun = 0.0
        self._scope: CancelScope | None = None  # around the tools
        self._iterating = self._aborted = self._closed = False
        self._left: anyio.Event | None = None

    @property
    def message(self) -> AssistantMessage:
        """The model's last answer, as far as it has come."""
        return self._message if self._stream is None else self._stream.message

    @property
    def usage(self) -> Usage:
        """Tokens and cost of all turns so far, and of tools that told theirs."""
        return self._usage if self._stream is None else sum_usage(self._usage, self._stream.message.usage)

    @property
    def done(self) -> bool:
        """Whether the run has ended. Events may still wait to be read."""
        return self.reason is not None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> RunEvent:
        """The next event.

        :raises StreamBusyError: another task is iterating.
        """
        if self._iterating:
            raise StreamBusyError
        self._iterating = True
        try:
            while not self._events:
                if self.reason is not None or self._closed:
                    raise StopAsyncIteration
                await self._advance()
            return self._events.popleft()
        except StopAsyncIteration:
            raise
        except BaseException as error:
            # Cancelled, or a fatal error of a tool: nothing more is delivered (S6).
            self._end("error" if isinstance(error, Exception) else "aborted")
            self._closed = True
            self._events.clear()
            raise
        finally:
            self._iterating = False
            if self._left is not None:
                self._left.set()
                self._left = None

    async def result(self) -> AssistantMessage:
        """Drive the run to its end; the model's last answer. Events that are not read yet are dropped.

        Does not raise for a failed answer (``message.raise_for_error()`` does).

        :raises StreamBusyError: another task is iterating.
        """
        async for _ in self:
            pass
        return self.message

    def abort(self) -> None:
        """End the run: the answer that comes or the tools that run, with reason ``"aborted"`` (S7).

        Synchronous and idempotent; callable from any task of the event loop. After the end it has no effect.
        """
        self._aborted = True
        if self._stream is not None:
            self._stream.abort()
        elif self._scope is not None:
            self._scope.cancel()

    async def aclose(self) -> None:
        """Abort, release what is held, wait for both; then there is nothing more to read (S9).

        Idempotent, callable from any task, and bounded. A task that is waiting for an event still gets the last ones.
        """
        awaited = self._iterating
        if self.reason is None:
            with CancelScope(shield=True, deadline=anyio.current_time() + 2 * CLOSE_TIMEOUT_S):
                self.abort()
                while self._iterating:
                    self._left = self._left or anyio.Event()
                    await self._left.wait()
                if self._stream is not None:
                    await self._stream.aclose()
            self._end("aborted")
        if not awaited:
            self._closed = True
            self._events.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        state = self.reason or "running"
        return f"<ToolRun {self._model.provider}/{self._model.id} {state} after {self.turns} turns>"

    # ── turns ────────────────────────────────────────────────────────────────────────────────────────────────

    async def _advance(self) -> None:
        """Let the next events come: those of the answer, else those of its tools."""
        if self._stream is None:
            if self._calls and not self._aborted:
                await self._run_calls()
                return
            reason = "aborted" if self._aborted else self._limit()
            if reason is not None:
                self._end(reason)
                return
            self._stream = self._ask()
        event = await anext(self._stream)
        self._events.append(event)
        if isinstance(event, (DoneEvent, ErrorEvent)):
            self._answered(event.message)

    def _limit(self) -> RunReason | None:
        """The limit that is reached, None: a turn may begin."""
        if self.turns == 0:
            self._begun = anyio.current_time()
            return None
        usage = self._usage
        spent: list[tuple[RunReason, float]] = [
            ("turns", self.turns),
            ("seconds", anyio.current_time() - self._begun),
            ("usd", usage.cost.total),
            ("tokens", usage.input + usage.output + usage.cache_read + usage.cache_write),
        ]
        for name, amount in spent:
            limit = getattr(self._limits, name)
            if limit is not None and amount >= limit:
                return name
        return None

    def _offer(self) -> Context:
        """The conversation with the tools of this run."""
        return self.context if self._tools is None else attrs.evolve(self.context, tools=self._tools)

    def _ask(self) -> EventStream:
        options: Any = self._options
        changes: dict[str, Any] = {}
        if self.turns and getattr(options, "tool_choice", None) not in (None, "auto", "none"):
            changes["tool_choice"] = None  # once forced is enough: else it would never end
        if self._limits.seconds is not None:
            left = (self._begun + self._limits.seconds - anyio.current_time()) * 1000
            own = self._options.clocks.or_else(self._model.timeouts).total_ms
            total = min(left, own) if isinstance(own, int) else left
            changes["timeouts"] = Timeouts(total_ms=max(1, int(total))).or_else(self._options.timeouts)
        self.turns += 1
        return self._registry.stream(self._model, self._offer(), attrs.evolve(options, **changes))

    def _answered(self, message: AssistantMessage) -> None:
        """An answer is complete, or has failed."""
        self._stream = None
        self._message = message
        self._usage = sum_usage(self._usage, message.usage)
        self.context.messages.append(message)
        failed = message.stop_reason in ("error", "aborted")
        self._calls = [] if failed else message.tool_calls
        self._started = set()
        if message.stop_reason != "toolUse" or not self._calls:
            self._end(self._reason(message))

    def _reason(self, message: AssistantMessage) -> RunReason:
        info, seconds = message.error_info, self._limits.seconds
        if info is not None and info.kind == "timeout_total" and seconds is not None:
            # Shorter than that was the call's own clock.
            return "seconds" if anyio.current_time() - self._begun >= seconds - 0.01 else "error"
        return "stop" if message.stop_reason in ("pending", "toolUse") else message.stop_reason

    def _end(self, reason: RunReason) -> None:
        """The one place where a run ends: the conversation is made whole, and the last event told."""
        if self.reason is not None:
            return
        if self._stream is not None:
            stream, self._stream = self._stream, None
            self._message = stream.message
            self._usage = sum_usage(self._usage, self._message.usage)
            self.context.messages.append(self._message)
        elif self.turns == 0:
            self._message.stop_reason, self._message.error_message = "aborted", "The run was aborted before it began"
        self._answer({})
        self.reason = reason
        self._events.append(RunEndEvent(reason, self._message, self._usage))

    # ── tools ────────────────────────────────────────────────────────────────────────────────────────────────

    async def _run_calls(self) -> None:
        """Run the calls of the last answer, and answer all of them, whatever happens."""
        tools = current_tools(transcript(self._offer()))
        outcomes: dict[int, tuple[ToolResultMessage, Exception | None]] = {}
        fatal: list[Exception] = []
        calls = iter(enumerate(self._calls))

        async def work(scope: CancelScope) -> None:
            for number, call in calls:
                self._started.add(number)
                try:
                    outcomes[number] = await _outcome(tools, call, self._fatal)
                except self._fatal as error:
                    words = f"{type(error).__name__}: {error}".removesuffix(": ")
                    outcomes[number] = ToolResultMessage(call.id, call.name, words, is_error=True), error
                    fatal.append(error)
                    scope.cancel()
                    return

        try:
            with CancelScope() as self._scope:
                async with anyio.create_task_group() as tasks:
                    for _ in range(min(self._parallel or len(self._calls), len(self._calls))):
                        tasks.start_soon(work, tasks.cancel_scope)
        finally:
            self._scope = None
            self._answer(outcomes)
        if fatal:
            raise fatal[0]

    def _answer(self, outcomes: dict[int, tuple[ToolResultMessage, Exception | None]]) -> None:
        """Give every call of the last answer its result, in the calls' order and right behind them."""
        results: list[ToolResultMessage] = []
        for number, call in enumerate(self._calls):
            result, error = outcomes.get(number) or (self._unfinished(number, call), None)
            if result.usage is not None:
                self._usage = sum_usage(self._usage, result.usage)
            results.append(result)
            self._events.append(ToolResultEvent(call, result, error))
        messages = self.context.messages
        places = [place for place, message in enumerate(messages) if message is self._message]
        place = places[-1] + 1 if places else len(messages)  # gone, where somebody has shortened the conversation
        messages[place:place] = results
        self._calls = []

    def _unfinished(self, number: int, call: ToolCall) -> ToolResultMessage:
        words = "The call was interrupted; it may have done some of its work" if number in self._started else _NOT_RUN
        return ToolResultMessage(call.id, call.name, words, is_error=True)


_NOT_RUN = "The call was not run"
