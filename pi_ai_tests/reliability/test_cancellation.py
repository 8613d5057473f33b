"""Cancelled at every wait (T5), and a thousand at once on a small pool (F60): nothing is lost, whatever the moment."""

from __future__ import annotations

import gc
from functools import partial
from random import Random

import anyio
import pytest

from pi_ai import Registry, StreamEvent
from pi_ai.retries import RetryBudget, RetryPolicy
from pi_ai.testing import Delivery, Failure, Sandbox, SandboxRequest, Turn
from pi_ai.testing.sandbox import Answered
from pi_ai_tests.adapters.reading import check_grammar
from pi_ai_tests.reliability.rigs import (
    APIS,
    CONTEXT,
    TURN,
    Held,
    Stepped,
    both_loops,
    check_ending,
    collect,
    nothing_more_than,
    said,
    served_at_once,
    until,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def every_attempt_is_made_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RetryPolicy, "_wait", lambda policy, state: 0.001)
    monkeypatch.setattr(RetryBudget, "spend", lambda budget: True)


@both_loops
@pytest.mark.parametrize(
    ("api", "by"),
    [*((api, "cancel") for api in APIS), *((api, "abort") for api in (APIS[0], "bedrock-converse-stream"))],
)
async def test_a_call_with_retries_that_is_stopped_at_any_of_its_waits_releases_everything_F51_F58_F59_F61(
    api: str, by: str
) -> None:
    """Two attempts fail, one before its head and one behind it; the third is read event by event."""
    async with Sandbox() as box, Registry(max_connections=1) as pi:
        await served_at_once(pi, box, api)
        before = Held.now()
        at, waits = 0, 1
        while waits >= at:
            at += 1
            box._script.clear()
            box.script(Failure(503))
            box.script(TURN, delivery=Delivery(cut_at=5, then="close"))
            box.script(TURN, delivery=Delivery(events_per_write=3))
            seen: list[StreamEvent] = []
            events = pi.stream(box.model(api), CONTEXT)
            with anyio.fail_after(30), anyio.CancelScope() as scope:
                call = Stepped(collect(events, seen), at, scope.cancel if by == "cancel" else events.abort)
                await call
            waits, message = call.waits, events.message
            assert events.done, at
            if scope.cancelled_caught:
                assert message.stop_reason == "aborted", at
                check_grammar(seen, ended=False)
                assert [event async for event in events] == []
            else:
                check_ending(seen, message)
                assert by == "abort" or message.stop_reason == "toolUse", at
            del events, call, seen
            box._script.clear()
            await served_at_once(pi, box, api)
            await until(lambda: box.open_connections == 1)
        assert message.stop_reason == "toolUse"
        assert said(message)[1:] == said_of(TURN)[1:]
        assert len(message.attempts or ()) == 2
        assert at > 15
        await nothing_more_than(before)
    gc.collect()


def said_of(turn: Turn) -> list[object]:
    thought, text, call = turn.content
    return [("thinking", thought.thinking), ("text", text.text), ("call", call.name, call.arguments)]


@both_loops
@pytest.mark.parametrize("count", [1000])
async def test_a_storm_of_cancellations_leaves_a_pool_of_four_whole_F58_F60_F74_F75(count: int) -> None:
    """A thousand requests over all wires, stopped at random moments in every way there is."""
    random = Random(60)

    def answered(request: SandboxRequest) -> Answered:
        if request.number % 7 == 0:
            return Failure(503)
        return TURN, Delivery(then="stall", stop_after=request.number % 5) if request.number % 3 else Delivery()

    async with Sandbox(default=answered) as box, Registry(max_connections=4) as pi:
        await served_at_once(pi, box, APIS[0])
        before = Held.now()
        waiting: list[anyio.CancelScope] = []
        ended = dict.fromkeys(("aborted", "error", "toolUse"), 0)

        async def request(number: int) -> None:
            events = pi.stream(box.model(APIS[number % len(APIS)]), CONTEXT)
            with anyio.CancelScope() as scope:
                waiting.append(scope)
                if number % 2:
                    await events.result()
                else:
                    await collect(events, [])
            assert events.done
            ended[events.message.stop_reason] += 1
            assert scope.cancelled_caught == (events.message.stop_reason == "aborted")

        async def storm() -> None:
            await until(lambda: len(waiting) == count)
            while waiting:
                for _ in range(random.randrange(4)):
                    await anyio.lowlevel.checkpoint()
                waiting.pop(random.randrange(len(waiting))).cancel()

        with anyio.fail_after(100):
            async with anyio.create_task_group() as tasks:
                for number in range(count):
                    tasks.start_soon(partial(request, number))
                tasks.start_soon(storm)
        for api in APIS:
            await served_at_once(pi, box, api)
        assert ended["aborted"] > count / 2
        await until(lambda: box.open_connections <= 4)
        waiting.clear()
        more = Held(before.descriptors + 2 * 4, before.tasks + 2 * 4, before.threads, 0)  # four idle connections
        await nothing_more_than(more)
    await until(lambda: box.open_connections == 0)
