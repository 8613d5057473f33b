# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""What type checkers see of tools, runs and structured output. Checked by pyright, never run.

Every ``pyright: ignore`` here says that the line must be an error.
"""

from __future__ import annotations

from typing import Literal, assert_never, assert_type

import attrs

from pi_ai import (
    Context,
    DoneEvent,
    ErrorEvent,
    Model,
    RunEndEvent,
    RunEvent,
    StartEvent,
    TextDeltaEvent,
    TextEndEvent,
    TextStartEvent,
    ThinkingDeltaEvent,
    ThinkingEndEvent,
    ThinkingStartEvent,
    ToolCall,
    ToolCallDeltaEvent,
    ToolCallEndEvent,
    ToolCallStartEvent,
    ToolResultEvent,
    ToolResultMessage,
    TypedStream,
    complete_as,
    run_tool_call,
    run_tools,
    stream_as,
    tool,
)


@attrs.define
class Recipe:
    title: str


@tool
async def get_weather(city: str, unit: Literal["C", "F"] = "C") -> str:
    """A decorated function keeps its signature."""
    return f"{city} {unit}"


@tool(name="double", strict="prefer")
def twice(number: int) -> int:
    return 2 * number


async def functions() -> None:
    assert_type(await get_weather("Oslo", unit="F"), str)
    assert_type(twice(5), int)
    twice("5")  # pyright: ignore[reportArgumentType]
    await get_weather("Oslo", unit="K")  # pyright: ignore[reportArgumentType]
    Context(tools=[get_weather, twice])
    assert_type(await run_tool_call([twice], ToolCall("1", "double", {"number": 1})), ToolResultMessage)


def every_event(event: RunEvent) -> None:
    """A match may be exhaustive."""
    match event:
        case StartEvent() | TextStartEvent() | TextDeltaEvent() | TextEndEvent():
            pass
        case ThinkingStartEvent() | ThinkingDeltaEvent() | ThinkingEndEvent():
            pass
        case ToolCallStartEvent() | ToolCallDeltaEvent() | ToolCallEndEvent() | DoneEvent() | ErrorEvent():
            pass
        case ToolResultEvent(call=call, result=result):
            assert_type((call, result), tuple[ToolCall, ToolResultMessage])
        case RunEndEvent():
            pass
        case _:
            assert_never(event)


async def runs(model: Model, context: Context) -> None:
    async with run_tools(model, context, [get_weather, len], reasoning="high", parallel=2) as run:
        async for event in run:
            assert_type(event, RunEvent)
    run_tools(model, context, reasoning="hgih")  # pyright: ignore[reportArgumentType]


async def values(model: Model, context: Context) -> None:
    assert_type(await complete_as(model, context, Recipe), Recipe)
    assert_type(await complete_as(model, context, list[Recipe]), list[Recipe])
    assert_type(stream_as(model, context, Recipe, retries=3), TypedStream[Recipe])
    assert_type(await stream_as(model, context, Recipe).result(), Recipe)
