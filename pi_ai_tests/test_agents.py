"""Tools that run: one call, and a model with tools in turns, over every wire and under the streaming contract."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from typing import Any, Literal, get_args

import anyio
import anyio.lowlevel
import attrs
import pytest
import trio.testing

from pi_ai import (
    Context,
    DoneEvent,
    ErrorEvent,
    FunctionTool,
    ImageContent,
    ModelCost,
    Registry,
    RunEndEvent,
    RunEvent,
    RunLimits,
    StreamBusyError,
    StreamEvent,
    SystemMessage,
    TextContent,
    TextDeltaEvent,
    Timeouts,
    Tool,
    ToolCall,
    ToolResultEvent,
    ToolResultMessage,
    ToolRun,
    Usage,
    UserMessage,
    budget,
    dumps,
    from_json,
    get_api,
    loads,
    run_tool_call,
    run_tools,
    to_json,
    tool,
)
from pi_ai.history import loose_ends
from pi_ai.testing import Delivery, Failure, Sandbox, Turn
from pi_ai.testing.turns import RawToolCall
from pi_ai.types import KnownApi
from pi_ai_tests.adapters.reading import check_grammar

pytestmark = pytest.mark.anyio
SILENT = Delivery(first_token_delay_s=float("inf"))
WIRE = "anthropic-messages"


@pytest.fixture
async def box() -> AsyncIterator[Sandbox]:
    async with Sandbox(strict=True) as box:
        yield box


def question() -> Context:
    return Context([UserMessage("What is the weather?", timestamp=1)])


def calls(*arguments: dict[str, Any] | str, name: str = "get_weather") -> Turn:
    """The model calls a tool with each of these, or the tool of each of these names."""
    pairs = [(name, each) if isinstance(each, dict) else (each, {}) for each in arguments]
    return Turn([ToolCall(f"call_{number}", *pair) for number, pair in enumerate(pairs, 1)])


@tool
async def get_weather(city: str, unit: Literal["C", "F"] = "C") -> str:
    """The weather now.

    Args:
        city: in English
    """
    return f"12 {unit} in {city}"


async def events_of(run: ToolRun, within: float = 30) -> list[Any]:
    with anyio.fail_after(within):
        return [event async for event in run]


def turns_of(events: list[Any]) -> list[list[StreamEvent]]:
    """The events of each turn; what a run adds stands between them, and one end at the end."""
    turns: list[list[Any]] = [[]]
    for event in events[:-1]:
        if isinstance(event, ToolResultEvent):
            continue
        turns[-1].append(event)
        if isinstance(event, (DoneEvent, ErrorEvent)):
            turns.append([])
    assert turns.pop() == []
    assert isinstance(events[-1], RunEndEvent)
    return turns


def results(context: Context) -> list[tuple[str, str, bool]]:
    found = [message for message in context.messages if isinstance(message, ToolResultMessage)]
    return [(each.tool_call_id, each.content[0].text, each.is_error) for each in found]  # type: ignore[union-attr]


class Gate:
    """A tool that waits until it is let go, and tells what became of it."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.cancelled: list[str] = []
        self.most = self._running = 0
        self._changed = anyio.Event()
        self._open = anyio.Event()

    async def __call__(self, city: str) -> str:
        self.started.append(city)
        self._running += 1
        self.most = max(self.most, self._running)
        self._changed.set()
        self._changed = anyio.Event()
        try:
            await self._open.wait()
        except BaseException:
            self.cancelled.append(city)
            raise
        finally:
            self._running -= 1
        return f"sunny in {city}"

    async def has_started(self, count: int) -> None:
        with anyio.fail_after(10):
            while len(self.started) < count:
                await self._changed.wait()

    def open(self) -> None:
        self._open.set()

    @property
    def tool(self) -> Any:
        return tool(self, name="get_weather")


# ── the loop ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("api", get_args(KnownApi))
async def test_a_model_works_with_tools_over_every_wire(pi: Registry, box: Sandbox, api: str) -> None:
    box.script(
        Turn(["Let me look.", ToolCall("call_1", "get_weather", {"city": "Oslo"})]),
        calls({"city": "Rome", "unit": "F"}, {"city": "Bern", "unit": "K"}),
        Turn("Cold and warm."),
    )
    context = question()
    usage = box.model(api, cost=ModelCost(input=1, output=1))
    run = run_tools(usage, context, [get_weather], registry=pi)
    assert not run.done
    events = await events_of(run)
    turns = turns_of(events)
    for turn in turns:
        check_grammar(turn, ended=True)
    assert [type(message).__name__ for message in context.messages] == [
        "UserMessage",
        "AssistantMessage",
        "ToolResultMessage",
        "AssistantMessage",
        "ToolResultMessage",
        "ToolResultMessage",
        "AssistantMessage",
    ]
    texts = [(text.partition("\n")[0], is_error) for _, text, is_error in results(context)]
    assert texts == [
        ("12 C in Oslo", False),
        ("12 F in Rome", False),
        ('Validation failed for tool "get_weather":', True),
    ]
    assert loose_ends(context.messages) == (0, 0)
    assert (run.reason, run.turns, run.message.text) == ("stop", 3, "Cold and warm.")
    answers = [turn[-1].message for turn in turns]
    assert context.messages[1::2][0] is answers[0]
    assert run.usage.output == sum(answer.usage.output for answer in answers) > 0
    assert run.usage.cost.total == pytest.approx(sum(answer.usage.cost.total for answer in answers))
    assert run.usage.cost.total > 0
    assert events[-1] == RunEndEvent("stop", run.message, run.usage)
    assert run.done
    assert [event.call.arguments["city"] for event in events if isinstance(event, ToolResultEvent)] == [
        "Oslo",
        "Rome",
        "Bern",
    ]
    assert [tool["name"] for request in box.requests for tool in _offered(request)] == ["get_weather"] * 3


def _offered(request: Any) -> list[dict[str, Any]]:
    """The tools of a request, in whichever wire."""
    found: list[dict[str, Any]] = []

    def look(value: Any) -> None:
        if isinstance(value, dict):
            if isinstance(value.get("name"), str) and "description" in value:
                found.append(value)
            for item in value.values():
                look(item)
        elif isinstance(value, list):
            for item in value:
                look(item)

    look({key: value for key, value in request.body.items() if key.lower().startswith("tool")})
    return found


async def test_its_events_are_written_and_read_as_json(pi: Registry, box: Sandbox) -> None:
    box.script(calls({"city": "Oslo"}), Turn("Cold."))
    events = await events_of(run_tools(box.model(WIRE), question(), [get_weather], registry=pi))
    for event in events:
        assert from_json(RunEvent, to_json(event)) == event
    assert to_json(events[-1])["reason"] == "stop"


async def test_without_a_registry_the_current_one_is_used(box: Sandbox) -> None:
    box.script(calls({"city": "Oslo"}), Turn("Cold."))
    assert (await run_tools(box.model(WIRE), question(), [get_weather]).result()).text == "Cold."
    async with Registry():
        box.script(calls({"city": "Oslo"}), Turn("Cold."))
        assert (await run_tools(box.model(WIRE), question(), [get_weather]).result()).text == "Cold."
    assert box.requests[-1].connection == box.requests[-2].connection


async def test_the_tools_may_stand_in_the_context_and_in_its_messages(pi: Registry, box: Sandbox) -> None:
    def get_time(zone: str) -> str:
        return "noon"

    context = Context([UserMessage("Hi")], tools=[get_weather])
    context.messages.append(SystemMessage("", tools_added=[tool(get_time), Tool("other", "", {"type": "object"})]))
    box.script(
        Turn([ToolCall("1", "get_time", {"zone": "UTC"}), ToolCall("2", "other", {}), ToolCall("3", "third", {})]),
        Turn("Noon."),
    )
    await run_tools(box.model(WIRE), context, registry=pi).result()
    assert results(context) == [
        ("1", "noon", False),
        ("2", 'Tool "other" cannot be run here', True),
        ("3", 'Tool "third" not found', True),
    ]
    assert context.tools == [get_weather]


async def test_a_conversation_goes_on_after_a_run_and_in_the_middle_of_one(pi: Registry, box: Sandbox) -> None:
    box.script(calls({"city": "Oslo"}), Turn("Cold."), Turn("Warm."))
    context = question()
    async for event in run_tools(box.model(WIRE), context, [get_weather], registry=pi):
        if isinstance(event, DoneEvent) and event.reason == "toolUse":
            context.messages.append(UserMessage("Hurry!"))
    kinds = [message.role for message in context.messages]
    assert kinds == ["user", "assistant", "toolResult", "user", "assistant"]
    context.messages.append(UserMessage("And in Rome?"))
    context = loads(Context, dumps(context))
    await run_tools(box.model(WIRE), context, [get_weather], registry=pi).result()
    assert [message.role for message in context.messages[5:]] == ["user", "assistant"]


async def test_who_shortens_the_conversation_meanwhile_gets_the_results_at_its_end(pi: Registry, box: Sandbox) -> None:
    box.script(calls({"city": "Oslo"}), Turn("Cold."))
    context = question()
    async for event in run_tools(box.model(WIRE), context, [get_weather], registry=pi):
        if isinstance(event, DoneEvent) and event.reason == "toolUse":
            del context.messages[:]
            context.messages.append(UserMessage("Short"))
    assert [message.role for message in context.messages] == ["user", "toolResult", "assistant"]


async def test_a_forced_call_is_forced_once(pi: Registry, box: Sandbox) -> None:
    box.script(calls({"city": "Oslo"}), Turn("Cold."), calls({"city": "Oslo"}), Turn("Cold."))
    choice: Any = {"type": "tool", "name": "get_weather"}
    await run_tools(box.model(WIRE), question(), [get_weather], tool_choice=choice, registry=pi).result()
    options = get_api(WIRE).options_type(tool_choice="any")
    await run_tools(box.model(WIRE), question(), [get_weather], options, registry=pi).result()
    asked = [request.body.get("tool_choice") for request in box.requests]
    assert asked == [choice, None, {"type": "any"}, None]


async def test_an_answer_that_was_cut_off_ends_the_run_and_its_calls_are_answered(pi: Registry, box: Sandbox) -> None:
    box.script(Turn([ToolCall("1", "get_weather", {"city": "Oslo"})], stop_reason="length"))
    context = question()
    run = run_tools(box.model(WIRE), context, [get_weather], registry=pi)
    events = await events_of(run)
    assert run.reason == "length"
    assert results(context) == [("1", "The call was not run", True)]
    assert [type(event) for event in events[-3:]] == [DoneEvent, ToolResultEvent, RunEndEvent]


async def test_arguments_that_are_no_json_are_never_run(pi: Registry, box: Sandbox) -> None:
    box.script(Turn([RawToolCall("1", "get_weather", '{"city": Oslo')]), Turn("Sorry."))
    context = question()
    await run_tools(box.model("openai-completions"), context, [get_weather], registry=pi).result()
    ((_, text, is_error),) = results(context)
    assert is_error
    assert text.startswith('Invalid arguments for tool "get_weather"')


async def test_a_failed_answer_ends_the_run_as_data_S5(pi: Registry, box: Sandbox) -> None:
    box.script(calls({"city": "Oslo"}), Failure(400, "No more"))
    context = question()
    run = run_tools(box.model(WIRE), context, [get_weather], registry=pi)
    events = await events_of(run)
    assert [event.type for event in events[-2:]] == ["error", "run_end"]
    assert (run.reason, run.turns) == ("error", 2)
    assert run.message.error_info is not None
    assert context.messages[-1] is run.message
    assert results(context) == [("call_1", "12 C in Oslo", False)]


# ── what tools do ────────────────────────────────────────────────────────────────────────────────────────────


@attrs.define
class Report:
    city: str
    degrees: float


PICTURE = ImageContent("iVBORw0KGgo=", "image/png")


@pytest.mark.parametrize(
    ("value", "content"),
    [
        ("text", [TextContent("text")]),
        ("", [TextContent("")]),
        (None, [TextContent("null")]),
        (5, [TextContent("5")]),
        ({"a": [1]}, [TextContent('{"a": [1]}')]),
        (["a", "b"], [TextContent('["a", "b"]')]),
        (Report("Zürich", 12.5), [TextContent('{"city": "Zürich", "degrees": 12.5}')]),
        ([Report("Oslo", 1.0)], [TextContent('[{"city": "Oslo", "degrees": 1.0}]')]),
        (PICTURE, [PICTURE]),
        (["Look:", PICTURE, Report("Oslo", 1.0)], None),
        (ToolResultMessage("?", "?", "broken", is_error=True, details={"code": 7}), [TextContent("broken")]),
    ],
)
async def test_a_result_may_be_text_content_data_or_a_message(value: Any, content: Any) -> None:
    def give() -> Any:
        return value

    result = await run_tool_call([tool(give)], ToolCall("call_1", "give", {}))
    assert (result.tool_call_id, result.tool_name) == ("call_1", "give")
    if content is None:
        content = [TextContent("Look:"), PICTURE, TextContent('{"city": "Oslo", "degrees": 1.0}')]
    assert result.content == content
    assert result.is_error == (isinstance(value, ToolResultMessage))
    assert result.details == getattr(value, "details", None)
    assert result.duration_ms is not None


async def test_a_result_without_a_json_form_is_an_error_that_says_so() -> None:
    def give() -> object:
        return object()

    result = await run_tool_call([tool(give)], ToolCall("call_1", "give", {}))
    assert result.is_error
    assert result.content == [
        TextContent("TypeError: object is no JSON: use text, numbers, lists, dicts, attrs or dataclasses")
    ]


async def test_a_function_that_is_not_async_runs_in_a_thread() -> None:
    threads: list[threading.Thread] = []

    def where() -> str:
        threads.append(threading.current_thread())
        return "there"

    async def here() -> str:
        threads.append(threading.current_thread())
        return "here"

    await run_tool_call([tool(where)], ToolCall("1", "where", {}))
    await run_tool_call([tool(here)], ToolCall("1", "here", {}))
    assert threads[0] is not threading.current_thread()
    assert threads[1] is threading.current_thread()
    later: Callable[[], Any] = lambda: here()  # noqa: E731 - not async itself, and returns what is
    result = await run_tool_call([tool(later, name="later")], ToolCall("1", "later", {}))
    assert result.content == [TextContent("here")]


async def test_what_a_tool_raises_is_told_to_the_model_and_to_the_program(pi: Registry, box: Sandbox) -> None:
    async def fail(how: str) -> str:
        raise KeyError(how) if how else ValueError

    box.script(Turn([ToolCall("1", "fail", {"how": "badly"}), ToolCall("2", "fail", {"how": ""})]), Turn("Sorry."))
    context = question()
    run = run_tools(box.model(WIRE), context, [fail], registry=pi)
    told = [event for event in await events_of(run) if isinstance(event, ToolResultEvent)]
    assert results(context) == [("1", "KeyError: 'badly'", True), ("2", "ValueError", True)]
    assert [type(event.error) for event in told] == [KeyError, ValueError]
    assert told[0].error.__traceback__ is not None
    assert to_json(told[0]) == {"type": "tool_result", "call": to_json(told[0].call), "result": to_json(told[0].result)}
    assert run.reason == "stop"


class Fatal(Exception):
    pass


async def test_an_exception_that_is_fatal_ends_the_run_and_comes_out_as_itself(pi: Registry, box: Sandbox) -> None:
    gate = Gate()

    async def fail() -> str:
        await gate.has_started(1)
        raise Fatal("enough")

    box.script(Turn([ToolCall("1", "get_weather", {"city": "Oslo"}), ToolCall("2", "fail", {})]))
    context = question()
    run = run_tools(box.model(WIRE), context, [gate.tool, fail], fatal=(Fatal,), registry=pi)
    with pytest.raises(Fatal, match="enough"):
        await events_of(run)
    assert gate.cancelled == ["Oslo"]
    assert results(context) == [
        ("1", "The call was interrupted; it may have done some of its work", True),
        ("2", "Fatal: enough", True),
    ]
    assert run.reason == "error"
    assert await events_of(run) == []
    with pytest.raises(Fatal):
        await run_tool_call([tool(fail)], ToolCall("2", "fail", {}), fatal=(Fatal,))


@pytest.mark.parametrize(("parallel", "most"), [(None, 4), (2, 2), (1, 1), (9, 4)])
async def test_calls_run_in_parallel_as_far_as_they_may(
    pi: Registry, box: Sandbox, parallel: int | None, most: int
) -> None:
    gate = Gate()
    cities = ["Oslo", "Rome", "Bern", "Cork"]
    box.script(calls(*[{"city": city} for city in cities]), Turn("Fine."))
    context = question()
    run = run_tools(box.model(WIRE), context, [gate.tool], parallel=parallel, registry=pi)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run.result)
        await gate.has_started(most)
        for _ in range(5):
            await anyio.wait_all_tasks_blocked()
        assert len(gate.started) == most
        gate.open()
    assert gate.most == most
    assert [text for _, text, _ in results(context)] == [f"sunny in {city}" for city in cities]
    if parallel == 1:
        assert gate.started == cities


# ── limits ───────────────────────────────────────────────────────────────────────────────────────────────────

HUNGRY = Usage(input=10, output=5, total_tokens=15)


@pytest.mark.parametrize(
    ("limits", "turns"),
    [
        (RunLimits(turns=2), 2),
        (RunLimits(tokens=30), 2),
        (RunLimits(tokens=31), 3),
        (RunLimits(usd=45.0), 3),
        (RunLimits(turns=3, tokens=1), 1),
    ],
)
async def test_a_limit_ends_the_run_before_the_next_turn(
    pi: Registry, box: Sandbox, limits: RunLimits, turns: int
) -> None:
    again = attrs.evolve(calls({"city": "Oslo"}), usage=HUNGRY)
    box.script(*[again] * 5)
    context = question()
    model = box.model(WIRE, cost=ModelCost(input=1_000_000, output=1_000_000))
    run = run_tools(model, context, [get_weather], limits=limits, registry=pi)
    events = await events_of(run)
    assert run.turns == turns == len(box.requests)
    reached = "tokens" if limits.tokens else "usd" if limits.usd else "turns"
    assert run.reason == events[-1].reason == reached
    assert len(results(context)) == turns
    assert loose_ends(context.messages) == (0, 0)
    run = run_tools(model, context, [get_weather], limits=RunLimits(turns=1), registry=pi)
    await run.result()
    assert run.reason == "turns"  # it goes on where it was


async def test_the_usage_of_tools_counts(pi: Registry, box: Sandbox) -> None:
    def ask_another() -> ToolResultMessage:
        return ToolResultMessage("", "", "It is.", usage=Usage(input=1000, wasted=Usage(output=3)))

    box.script(calls("ask_another"))
    limits = RunLimits(tokens=900)
    run = run_tools(box.model(WIRE), question(), [ask_another], limits=limits, registry=pi)
    await run.result()
    assert run.reason == "tokens"
    assert run.usage.wasted is not None
    assert run.usage.wasted.output == 3


def in_virtual_time(function: Any) -> None:
    clock = trio.testing.MockClock(autojump_threshold=0.05)
    anyio.run(function, backend="trio", backend_options={"clock": clock})


def test_time_ends_an_answer_that_is_still_coming() -> None:
    async def main() -> None:
        async with Sandbox() as box, Registry() as pi:
            box.script(calls({"city": "Oslo"}))
            box.script(Turn("Too late"), delivery=SILENT)
            context = question()
            run = run_tools(box.model(WIRE), context, [get_weather], limits=RunLimits(seconds=60), registry=pi)
            events = await events_of(run, within=61)
            assert (run.reason, run.turns) == ("seconds", 2)
            assert [event.type for event in events[-2:]] == ["error", "run_end"]
            assert run.message.error_info is not None
            assert run.message.error_info.kind == "timeout_total"
            assert results(context) == [("call_1", "12 C in Oslo", False)]

    in_virtual_time(main)


def test_time_lets_tools_finish() -> None:
    async def slow() -> str:
        await anyio.sleep(100)
        return "done"

    async def main() -> None:
        async with Sandbox() as box, Registry() as pi:
            box.script(calls("slow"))
            context = question()
            limits = RunLimits(seconds=60)
            run = run_tools(box.model(WIRE), context, [slow], limits=limits, registry=pi, timeout_ms=90_000)
            await run.result()
            assert (run.reason, run.turns) == ("seconds", 1)
            assert results(context) == [("call_1", "done", False)]

    in_virtual_time(main)


async def test_a_clock_of_the_calls_own_is_no_limit_of_the_run(pi: Registry, box: Sandbox) -> None:
    box.script(Turn("Too late"), delivery=SILENT)
    run = run_tools(
        box.model(WIRE),
        question(),
        [get_weather],
        limits=RunLimits(seconds=60),
        timeouts=Timeouts(total_ms=100),
        registry=pi,
        max_retries=0,
    )
    await run.result()
    assert run.reason == "error"


async def test_a_budget_around_it_ends_it_too(pi: Registry, box: Sandbox) -> None:
    box.script(*[attrs.evolve(calls({"city": "Oslo"}), usage=HUNGRY)] * 3)
    context = question()
    with budget(tokens=25):
        run = run_tools(box.model(WIRE), context, [get_weather], registry=pi)
        await run.result()
    assert run.reason == "error"
    assert run.message.error_info is not None
    assert run.message.error_info.kind == "quota"
    assert loose_ends(context.messages) == (0, 0)


# ── the streaming contract ───────────────────────────────────────────────────────────────────────────────────


async def test_nothing_happens_before_the_first_await_S2(pi: Registry, box: Sandbox) -> None:
    run = run_tools(box.model(WIRE), question(), [get_weather], registry=pi)
    assert repr(run).startswith("<ToolRun sandbox/anthropic-messages running")
    del run
    context = question()
    async with run_tools(box.model(WIRE), context, [get_weather], registry=pi) as run:
        pass
    assert box.requests == []
    assert len(context.messages) == 1
    assert (run.reason, run.message.stop_reason) == ("aborted", "aborted")
    assert await events_of(run) == []


async def test_aborted_before_the_first_await_makes_no_request_S7(pi: Registry, box: Sandbox) -> None:
    run = run_tools(box.model(WIRE), question(), [get_weather], registry=pi)
    run.abort()
    assert [event.type for event in await events_of(run)] == ["run_end"]
    assert run.reason == "aborted"
    assert box.requests == []


async def test_abort_ends_the_answer_that_is_coming_S7(pi: Registry, box: Sandbox) -> None:
    box.script(Turn("It is sunny"), delivery=Delivery(stop_after=1, then="stall"))
    context = question()
    run = run_tools(box.model(WIRE), context, [get_weather], registry=pi)
    events: list[Any] = []
    with anyio.fail_after(30):
        async for event in run:
            events.append(event)
            if isinstance(event, TextDeltaEvent):
                run.abort()
                run.abort()
    assert [event.type for event in events[-2:]] == ["error", "run_end"]
    assert events[-2].reason == run.reason == "aborted"
    assert context.messages[-1] is run.message
    assert await box.requests[0].ending() == "client left"


async def test_abort_in_the_middle_of_tools_cancels_them_and_every_call_has_a_result_S7(
    pi: Registry, box: Sandbox
) -> None:
    gate = Gate()
    box.script(calls({"city": "Oslo"}, {"city": "Rome"}, {"city": "Bern"}))
    context = question()
    run = run_tools(box.model(WIRE), context, [gate.tool], parallel=2, registry=pi)
    events: list[Any] = []

    async def read() -> None:
        events.extend(await events_of(run))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await gate.has_started(2)
        run.abort()
    assert sorted(gate.cancelled) == ["Oslo", "Rome"]
    interrupted = "The call was interrupted; it may have done some of its work"
    assert [text for _, text, _ in results(context)] == [interrupted, interrupted, "The call was not run"]
    assert [event.type for event in events[-4:]] == ["tool_result"] * 3 + ["run_end"]
    assert (run.reason, run.done) == ("aborted", True)
    assert loose_ends(context.messages) == (0, 0)


async def test_what_was_finished_stays_finished(pi: Registry, box: Sandbox) -> None:
    gate = Gate()

    async def quick() -> str:
        await gate.has_started(1)
        return "done"

    box.script(Turn([ToolCall("1", "get_weather", {"city": "Oslo"}), ToolCall("2", "quick", {})]))
    context = question()
    run = run_tools(box.model(WIRE), context, [gate.tool, quick], registry=pi)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run.result)
        await gate.has_started(1)
        for _ in range(5):
            await anyio.wait_all_tasks_blocked()
        run.abort()
    assert [text for _, text, _ in results(context)][1] == "done"


@pytest.mark.parametrize("where", ["answer", "tools"])
async def test_cancellation_goes_through_and_leaves_nothing_open_S6(pi: Registry, box: Sandbox, where: str) -> None:
    gate = Gate()
    if where == "answer":
        box.script(Turn("It is"), delivery=Delivery(stop_after=1, then="stall"))
    else:
        box.script(calls({"city": "Oslo"}))
    context = question()
    run = run_tools(box.model(WIRE), context, [gate.tool], registry=pi)
    seen: list[str] = []
    with anyio.CancelScope() as scope:

        async def cancel() -> None:
            if where == "tools":
                await gate.has_started(1)
                scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cancel)
            async for event in run:
                seen.append(event.type)
                if event.type == "text_delta":
                    scope.cancel()
    assert scope.cancelled_caught
    assert "run_end" not in seen
    assert run.reason == "aborted"
    assert gate.cancelled == (["Oslo"] if where == "tools" else [])
    assert loose_ends(context.messages) == (0, 0)
    assert await events_of(run) == []
    assert await box.requests[0].ending() == ("served" if where == "tools" else "client left")


async def test_leaving_early_closes_it_S9_S10(pi: Registry, box: Sandbox) -> None:
    box.script(calls({"city": "Oslo"}, {"city": "Rome"}))
    context = question()
    with pytest.raises(KeyError, match="mine"):
        async with run_tools(box.model(WIRE), context, [get_weather], registry=pi) as run:
            async for event in run:
                if isinstance(event, DoneEvent):
                    raise KeyError("mine")
    assert run.reason == "aborted"
    assert [text for _, text, _ in results(context)] == ["The call was not run"] * 2
    await run.aclose()
    assert await events_of(run) == []

    box.script(Turn("It is sunny"), delivery=Delivery(stop_after=1, then="stall"))
    async with run_tools(box.model(WIRE), context, [get_weather], registry=pi) as run:
        async for event in run:
            if isinstance(event, TextDeltaEvent):
                break
    assert (run.reason, run.message.stop_reason) == ("aborted", "aborted")
    assert context.messages[-1] is run.message
    assert await box.requests[-1].ending() == "client left"


@pytest.mark.parametrize("where", ["answer", "tools"])
async def test_another_task_may_close_it_S9(pi: Registry, box: Sandbox, where: str) -> None:
    gate = Gate()
    if where == "answer":
        box.script(Turn("It is"), delivery=SILENT)
    else:
        box.script(calls({"city": "Oslo"}))
    context = question()
    run = run_tools(box.model(WIRE), context, [gate.tool], registry=pi)
    seen: list[Any] = []

    async def read() -> None:
        seen.extend(await events_of(run))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await (gate.has_started(1) if where == "tools" else box.received())
        await run.aclose()
        assert run.reason == "aborted"
        assert loose_ends(context.messages) == (0, 0)
    assert gate.cancelled == (["Oslo"] if where == "tools" else [])
    assert [event.type for event in seen[-2:]] == ["tool_result" if where == "tools" else "error", "run_end"]


async def test_a_plain_break_releases_the_connection_too_D20(pi: Registry, box: Sandbox) -> None:
    box.script(Turn("It is sunny"), delivery=Delivery(stop_after=1, then="stall"))
    run = run_tools(box.model(WIRE), question(), [get_weather], registry=pi)
    async for event in run:
        if isinstance(event, TextDeltaEvent):
            break
    del run, event
    with anyio.fail_after(10):
        assert await box.requests[0].ending() == "client left"


@pytest.mark.parametrize("way", ["close", "abort"])
async def test_wherever_it_ends_the_conversation_is_whole_and_can_go_on(pi: Registry, box: Sandbox, way: str) -> None:
    script = [calls({"city": "Oslo"}, {"city": "Rome"}), calls({"city": "Bern"}), Turn("Fine.")]
    box.script(*script)
    whole = len(await events_of(run_tools(box.model(WIRE), question(), [get_weather], registry=pi)))
    for count in range(1, whole + 1):
        box.script(*script)
        context = question()
        async with run_tools(box.model(WIRE), context, [get_weather], registry=pi) as run:
            seen = 0
            async for _ in run:
                seen += 1
                if seen == count:
                    if way == "close":
                        break
                    run.abort()
        assert run.done
        assert loose_ends(context.messages) == (0, 0)
        box.script(*[Turn("Fine.")] * (1 - box.pending))
        while box.pending:
            assert (await run_tools(box.model(WIRE), context, [get_weather], registry=pi).result()).error_info is None
        assert loose_ends(context.messages) == (0, 0)


async def test_cancelled_at_any_moment_the_conversation_is_whole_S6(pi: Registry, box: Sandbox) -> None:
    async def slow(city: str) -> str:
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        return city

    for count in range(0, 120, 4):
        box.script(*[calls({"city": "Oslo"}, {"city": "Rome"}), Turn("Fine.")][: 2 - box.pending])
        context = question()
        run = run_tools(box.model(WIRE), context, [tool(slow, name="get_weather")], registry=pi)
        async with anyio.create_task_group() as tasks:

            async def cancel(count: int, scope: anyio.CancelScope) -> None:
                for _ in range(count):
                    await anyio.lowlevel.checkpoint()
                scope.cancel()

            tasks.start_soon(cancel, count, tasks.cancel_scope)
            await run.result()
            tasks.cancel_scope.cancel()
        assert run.reason in ("aborted", "stop", "error")
        assert loose_ends(context.messages) == (0, 0)


async def test_one_reader_at_a_time_S12(pi: Registry, box: Sandbox) -> None:
    gate = Gate()
    box.script(calls({"city": "Oslo"}), Turn("Fine."))
    run = run_tools(box.model(WIRE), question(), [gate.tool], registry=pi)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run.result)
        await gate.has_started(1)
        with pytest.raises(StreamBusyError):
            await anext(run)
        gate.open()
    assert (await run.result()).text == "Fine."


async def test_a_tool_sees_the_context_variables_of_its_caller(pi: Registry, box: Sandbox) -> None:
    user: ContextVar[str] = ContextVar("user", default="nobody")

    async def who() -> str:
        return user.get()

    def who_too() -> str:
        return user.get()

    user.set("Ann")
    box.script(calls("who", "who_too"), Turn("Ann."))
    context = question()
    await run_tools(box.model(WIRE), context, [who, who_too], registry=pi).result()
    assert [text for _, text, _ in results(context)] == ["Ann", "Ann"]


# ── wrong arguments ──────────────────────────────────────────────────────────────────────────────────────────


async def test_wrong_arguments_are_told_at_once(box: Sandbox) -> None:
    model, context = box.model(WIRE), question()
    known = Tool("known", "", {"type": "object"})
    with pytest.raises(TypeError, match='the tool "known" has no function that could run; make it with @tool'):
        run_tools(model, context, [known])
    with pytest.raises(TypeError, match='the tool "known" has no function'):
        run_tools(model, attrs.evolve(context, tools=[known]))
    with pytest.raises(TypeError, match="'temprature' is no option"):
        run_tools(model, context, [get_weather], temprature=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="model must be a Model"):
        run_tools("gpt", context)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="parallel=…\\) must be 1 or more"):
        run_tools(model, context, [get_weather], parallel=0)
    with pytest.raises(ValueError, match=r"RunLimits\.turns must be above 0"):
        RunLimits(turns=0)
    assert isinstance(get_weather, FunctionTool)
