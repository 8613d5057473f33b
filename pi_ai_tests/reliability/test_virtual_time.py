"""The clocks and waits of every wire, to the millisecond, without waiting (T6)."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from pi_ai import AssistantMessage, Registry, Timeouts
from pi_ai.testing import Delivery, Failure, Sandbox, Turn
from pi_ai.testing.wires import WIRES
from pi_ai_tests.reliability.rigs import CONTEXT, TURN, every_api
from pi_ai_tests.reliability.virtual import in_memory, virtual_time

pytestmark = [pytest.mark.anyio, virtual_time]

SILENT_HEAD = Delivery(head_delay_s=math.inf)
SILENT_AFTER = Delivery(stop_after=2, then="stall")
ONLY_PINGS = Delivery(stop_after=2, then="stall", keep_alive_s=20)


@asynccontextmanager
async def there(api: str, *answers: Any, delivery: Delivery | None = None) -> AsyncIterator[Any]:
    """A function that makes a call, and tells how many seconds it took."""
    async with Sandbox(*answers, delivery=delivery) as box:
        with in_memory(box):
            async with Registry() as pi:

                async def call(**options: Any) -> tuple[AssistantMessage, float]:
                    began = anyio.current_time()
                    message = await pi.complete(box.model(api), CONTEXT, **{"max_retries": 0, **options})
                    return message, anyio.current_time() - began

                call.box = box  # type: ignore[attr-defined]
                yield call


def kind(message: AssistantMessage) -> str:
    return message.error_info.kind if message.error_info else message.stop_reason


@every_api
@pytest.mark.parametrize(
    ("delivery", "expected", "seconds"),
    [
        (SILENT_HEAD, "timeout_first", 120),
        (SILENT_AFTER, "timeout_idle", 60),
    ],
    ids=["no head", "silence after content"],
)
async def test_silence_ends_at_its_limit_exactly_F37_F41(
    api: str, delivery: Delivery, expected: str, seconds: float
) -> None:
    async with there(api, TURN, delivery=delivery) as call:
        message, took = await call()
    assert kind(message) == expected
    assert took == pytest.approx(seconds, abs=0.001)


@pytest.mark.parametrize("api", [api for api, wire in WIRES.items() if wire.keep_alive])
async def test_keep_alives_alone_end_at_the_limit_of_progress_F38(api: str) -> None:
    async with there(api, TURN, delivery=ONLY_PINGS) as call:
        message, took = await call()
    assert kind(message) == "timeout_progress"
    assert took == pytest.approx(600, abs=0.001)


@every_api
async def test_a_slow_answer_is_not_cut_however_long_it_takes_F39(api: str) -> None:
    """A piece every 50 seconds, for a quarter of an hour; the limit of silence is 60."""
    async with there(api, Turn("one " * 20), delivery=Delivery(tokens_per_second=1 / 50)) as call:
        message, took = await call()
    assert (kind(message), message.text) == ("stop", "one " * 20)
    assert took >= 19 * 50


@every_api
async def test_the_wish_of_a_server_is_waited_for_exactly_F45_F46_F47(api: str) -> None:
    busy = Failure(429, headers={"retry-after": "37"})
    async with there(api, busy, busy, TURN) as call:
        message, took = await call(max_retries=2)
        assert kind(message) == "toolUse"
        assert took == pytest.approx(2 * 37, abs=0.001)
        assert [attempt.delay_s for attempt in message.attempts] == [37, 37]
        call.box.script(Failure(429, headers={"retry-after": "61"}))
        message, took = await call(max_retries=2)
        assert kind(message) == "rate_limited"
        assert took == pytest.approx(0, abs=0.001)


@every_api
async def test_the_total_counts_attempts_and_waits_F51(api: str) -> None:
    busy = Failure(503, headers={"retry-after": "50"})
    async with there(api, busy, busy, busy) as call:
        message, took = await call(max_retries=5, timeouts=Timeouts(total_ms=75_000))
    assert kind(message) == "timeout_total"
    assert took == pytest.approx(75, abs=0.001)


@every_api
async def test_who_reads_slowly_trips_no_clock_F43(api: str) -> None:
    async with Sandbox(TURN) as box:
        with in_memory(box):
            async with Registry() as pi, pi.stream(box.model(api), CONTEXT) as events:
                async for _ in events:
                    await anyio.sleep(3600)
            assert kind(events.message) == "toolUse"


async def test_the_clock_of_the_wall_may_jump_F44(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a night of sleep, or when somebody sets it."""
    api = "openai-completions"
    now = time.time()
    jumps = iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: now + 86_400 * (-1) ** next(jumps))
    async with there(api, Turn("one " * 5), TURN, delivery=Delivery(tokens_per_second=1 / 50)) as call:
        message, _ = await call()
        assert kind(message) == "stop"
        call.box._delivery = SILENT_AFTER
        message, took = await call()
    assert kind(message) == "timeout_idle"
    assert took == pytest.approx(60, abs=0.001)
