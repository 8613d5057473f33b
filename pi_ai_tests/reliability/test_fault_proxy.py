"""A proxy that delays, slices, merges, cuts, resets and corrupts (T9): every wire, every ending."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import anyio
import attrs
import pytest

from pi_ai import AssistantMessage, Model, Registry, StreamEvent, Timeouts
from pi_ai.errors import ErrorKind
from pi_ai.retries import RetryPolicy
from pi_ai.testing import Delivery, Sandbox, Turn
from pi_ai_tests.reliability.proxy import Fault, FaultProxy
from pi_ai_tests.reliability.rigs import (
    CONTEXT,
    TURN,
    Held,
    both_loops,
    check_ending,
    collect,
    every_api_in_turn,
    nothing_more_than,
    said,
    until,
)

pytestmark = pytest.mark.anyio

LOST: set[ErrorKind] = {"disconnected", "truncated", "protocol"}
"""What an answer that was cut off may fail with; ``protocol``: cut off inside of its HTTP head or framing."""
SOON = Timeouts(first_event_ms=250, idle_ms=250, completion_grace_ms=250)


@pytest.fixture(autouse=True)
def every_attempt_is_made_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RetryPolicy, "_wait", lambda policy, state: 0.0)


@attrs.define
class Line:
    """A client, a server, and a proxy between them that has no faults yet.

    :ivar whole: what the server says. ``size``: of its answer, in bytes, head and framing included.
    """

    api: str
    box: Sandbox
    proxy: FaultProxy
    pi: Registry
    whole: AssistantMessage
    size: int

    @property
    def model(self) -> Model:
        return self.box.model(self.api, base_url=self.proxy.through(self.box.base_url(self.api)))

    async def call(self, *faults: Fault, **options: object) -> AssistantMessage:
        """One call whose connections have these faults, in turn; it ends as streams do, and releases everything."""
        first = len(self.proxy.passed)
        self.proxy.faults = lambda number: faults[number - first] if number - first < len(faults) else Fault()
        seen: list[StreamEvent] = []
        # Without a registry that keeps connections, each attempt has one of its own.
        events = self.pi.stream(self.model, CONTEXT, **{"max_retries": 0, **options})  # pyright: ignore[reportArgumentType]
        with anyio.fail_after(60):
            await collect(events, seen)
        check_ending(seen, events.message)
        await until(lambda: self.proxy.open == 0)
        return events.message


@asynccontextmanager
async def line(api: str) -> AsyncIterator[Line]:
    async with Sandbox(default=lambda request: TURN) as box, FaultProxy(box.url) as proxy:
        made = Line(api, box, proxy, Registry(), AssistantMessage(), 0)
        made.whole = await made.call()
        before = Held.now()
        made.size = proxy.passed[0]
        assert made.whole.stop_reason == "toolUse"
        yield made
        await until(lambda: box.open_connections == 0)
        await nothing_more_than(before)


def check_beginning(message: AssistantMessage, whole: AssistantMessage) -> None:
    """What was kept is a beginning of the whole, and no call that did not end can be run."""
    assert whole.text.startswith(message.text)
    assert whole.thinking.startswith(message.thinking)
    for call in message.tool_calls:
        assert call.arguments in ({}, *(one.arguments for one in whole.tool_calls))
        assert call.arguments or call.arguments_error


@every_api_in_turn
async def test_an_answer_that_is_cut_off_at_any_place_is_kept_and_released_F18_F19_F20_F22_F23_F24(api: str) -> None:
    """Closed and reset, at places that are spread over head, framing and content."""
    async with line(api) as there:
        kinds: set[str] = set()
        step = max(1, there.size // 16)
        for number, at in enumerate(range(0, there.size, step)):
            message = await there.call(Fault(at, "reset" if number % 2 else "close"))
            check_beginning(message, there.whole)
            if message.stop_reason == "error":
                assert message.error_info is not None
                assert message.error_info.kind in LOST, at
                kinds.add(message.error_info.kind)
            else:
                assert said(message) == said(there.whole), at
        assert "disconnected" in kinds


@every_api_in_turn
async def test_an_answer_reads_the_same_however_it_is_sliced_merged_and_delayed_F2_F3_F10(api: str) -> None:
    async with line(api) as there:
        for fault in (
            Fault(slices=[1]),
            Fault(merge=1_000_000),
            Fault(merge=100, slices=[7, 400]),
            Fault(slices=[200], pause_s=0.001),
        ):
            message = await there.call(fault)
            assert (message.stop_reason, said(message)) == ("toolUse", said(there.whole)), fault


@every_api_in_turn
async def test_what_breaks_before_content_is_sent_again_and_what_breaks_after_it_never_is_F22_F48_F52(api: str) -> None:
    """The first two connections break by chance, the third one is left alone. No text comes twice."""
    async with line(api) as there:
        random = Random(api)
        for _ in range(5):
            faults = [Fault.by_chance(random, there.size) for _ in range(2)]
            asked = len(there.box.requests)
            message = await there.call(*faults, max_retries=2, retry_unknown_delivery=True)
            check_beginning(message, there.whole)
            if message.stop_reason == "toolUse":
                assert said(message) == said(there.whole), faults
            else:
                assert message.error_info is not None
                assert message.error_info.kind in LOST
                assert message.content or message.error_info.kind == "protocol", faults
            assert len(there.box.requests) - asked == 1 + len(message.attempts or ())


@every_api_in_turn
async def test_a_bit_that_flips_anywhere_never_ends_in_anything_but_an_ending_F11_F16_F76(api: str) -> None:
    async with line(api) as there:
        random = Random(api)
        for _ in range(12):
            message = await there.call(Fault(random.randrange(there.size), "flip"), timeouts=SOON)
            assert message.error_info is None or message.error_info.kind != "internal"


@every_api_in_turn
async def test_a_line_that_goes_dead_is_left_after_the_limit_F37_F41(api: str) -> None:
    async with line(api) as there:
        message = await there.call(Fault(there.size // 2, "stall"), timeouts=SOON)
        assert message.error_info is not None
        assert message.error_info.kind == "timeout_idle"
        check_beginning(message, there.whole)


@both_loops
async def test_back_pressure_goes_through_to_the_server_F43() -> None:
    """Who does not read is not sent to: the server has not got rid of an answer that is larger than all buffers."""
    async with Sandbox(Turn("x" * 40_000_000, piece_size=4000)) as box, FaultProxy(box.url) as proxy:
        model = box.model(base_url=proxy.through(box.base_url()))
        async with Registry() as pi, pi.stream(model, CONTEXT) as events:
            async for event in events:
                if event.type == "text_delta":
                    break
            passed = -1
            while passed != proxy.passed[0]:
                passed = proxy.passed[0]
                await anyio.sleep(0.2)
            assert box.requests[0].ended == "open"
            assert len(events.message.text) < 1_000_000
        await until(lambda: box.open_connections == 0)


@both_loops
@pytest.mark.parametrize("delivery", [Delivery(), Delivery(events_per_write=1000)])
async def test_a_proxy_that_holds_everything_back_only_makes_it_late_F10(delivery: Delivery) -> None:
    async with Sandbox(TURN, delivery=delivery) as box, FaultProxy(box.url, [Fault(merge=10**6)]) as proxy:
        model = box.model(base_url=proxy.through(box.base_url()))
        message = await Registry().complete(model, CONTEXT)
        assert message.stop_reason == "toolUse"
