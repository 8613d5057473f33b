"""One stream, many readers."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from pi_ai import Context, Registry, ToolCall, UserMessage, run_tools, tool
from pi_ai.fan_out import FanOut
from pi_ai.testing import Delivery, Sandbox, Turn

pytestmark = pytest.mark.anyio
CONTEXT = Context([UserMessage("one two three four five")])  # what the sandbox says again


async def test_all_see_all_events_whenever_they_come(pi: Registry, box: Sandbox) -> None:
    seen: dict[str, list[Any]] = {}

    async def reader(name: str, answer: FanOut) -> None:
        seen[name] = [event async for event in answer.read()]

    async with FanOut(pi.stream(box.model(), CONTEXT)) as answer, anyio.create_task_group() as tasks:
        tasks.start_soon(reader, "early", answer)
        tasks.start_soon(reader, "earlier", answer)
        message = await answer.result()
        tasks.start_soon(reader, "late", answer)
    await reader("after the block", answer)
    events = seen.pop("early")
    assert [event.type for event in events][-1] == "done"
    assert "".join(event.delta for event in events if event.type == "text_delta") == message.text
    assert len(answer) == len(events)
    for others in seen.values():
        assert all(mine is theirs for mine, theirs in zip(events, others, strict=True))
    assert answer.done
    assert len(box.requests) == 1


async def test_a_slow_reader_holds_up_neither_the_source_nor_others(pi: Registry, box: Sandbox) -> None:
    async with FanOut(pi.stream(box.model(), CONTEXT)) as answer:
        slow = answer.read()
        assert (await anext(slow)).type == "start"
        assert (await answer.result()).stop_reason == "stop"
        assert (await anext(slow)).type == "text_start"


async def test_a_reader_goes_on_where_it_was(pi: Registry, box: Sandbox) -> None:
    async with FanOut(pi.stream(box.model(), CONTEXT)) as answer:
        first: list[Any] = []
        async for event in answer.read():
            first.append(event)
            if len(first) == 4:
                break
        rest = [event async for event in answer.read(after=4)]
    whole = [event async for event in answer.read()]
    assert [*first, *rest] == whole


async def test_one_reader_may_be_cancelled_without_harm(pi: Registry, box: Sandbox) -> None:
    async with FanOut(pi.stream(box.model(), CONTEXT)) as answer:
        with anyio.CancelScope() as scope:
            async for _ in answer.read():
                scope.cancel()
        assert scope.cancelled_caught
        assert (await answer.result()).text.endswith("one two three four five")


@pytest.mark.parametrize("how", ["leave", "abort", "cancel", "raise"])
async def test_the_end_of_the_block_ends_the_stream_and_tells_its_readers(pi: Registry, box: Sandbox, how: str) -> None:
    box.script(Turn("one two three"), delivery=Delivery(stop_after=1, then="stall"))
    seen: list[str] = []

    async def reader(answer: FanOut) -> None:
        seen.extend([event.type async for event in answer.read()])

    async def watch() -> None:
        async with FanOut(pi.stream(box.model(), CONTEXT)) as answer:
            tasks.start_soon(reader, answer)
            async for event in answer.read():
                if event.type == "text_delta":
                    break
            if how == "abort":
                answer.abort()
                assert (await answer.result()).stop_reason == "aborted"
            elif how == "cancel":
                scope.cancel()
                await checkpoint()
            elif how == "raise":
                raise LookupError("mine")
        assert answer.message.stop_reason == "aborted"

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as scope:
                if how == "raise":
                    with pytest.RaisesGroup(LookupError):
                        await watch()
                else:
                    await watch()
        assert await box.requests[0].ending() == "client left"
    assert seen[-1] == "error"


async def test_it_runs_once(pi: Registry, box: Sandbox) -> None:
    fan = FanOut(pi.stream(box.model(), CONTEXT))
    async with fan:
        await fan.result()
    with pytest.raises(RuntimeError, match="runs once"):
        async with fan:
            raise AssertionError


async def test_a_run_of_tools_can_be_fanned_out_too(pi: Registry, box: Sandbox) -> None:
    @tool
    def look(where: str) -> str:
        """Look somewhere."""
        return f"Nothing is {where}."

    box.script(Turn([ToolCall("1", "look", {"where": "here"})]), Turn("I see."))
    context = Context([UserMessage("Look.")])
    async with FanOut(run_tools(box.model(), context, [look], registry=pi)) as answer:
        assert (await answer.result()).text == "I see."
    types = [event.type async for event in answer.read()]
    assert types.count("done") == 2
    assert types[-1] == "run_end"
    assert "tool_result" in types
    box.script(Turn([ToolCall("1", "look", {"where": "here"})]), delivery=Delivery(stop_after=0, then="stall"))
    async with FanOut(run_tools(box.model(), context, [look], registry=pi)) as answer:
        answer.abort()
    assert [event.type async for event in answer.read()][-1] in ("run_end", "error")
