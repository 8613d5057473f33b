"""Polling for a device code (A84, D-7, F94)."""

from __future__ import annotations

import anyio
import pytest

from pi_ai.auth.oauth import device as device_module
from pi_ai.auth.oauth.device import Complete, Failed, Pending, SlowDown, poll_device_code
from pi_ai.errors import ConnectFailed, OAuthError, failure

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock(monkeypatch):
    """Time passes where it is slept, and only there."""

    class Clock:
        now = 100.0
        current_time = staticmethod(lambda: Clock.now)

        @staticmethod
        async def sleep(seconds):
            assert seconds >= 0
            Clock.now += seconds

    monkeypatch.setattr(device_module, "anyio", Clock)
    return Clock


async def polled(clock, results, **options):
    """What came of it, and when it was asked."""
    times, results = [], list(results)

    def poll():
        times.append(round(clock.now - 100.0, 3))
        result = results.pop(0) if len(results) > 1 else results[0]
        if isinstance(result, Exception):
            raise result
        return result

    try:
        return await poll_device_code(poll, **options), times
    except Exception as error:
        return error, times


BLIP = failure("connect", "no network", retryable=True)


@pytest.mark.parametrize(
    ("results", "options", "times"),
    [
        ([Pending(), Complete(1)], {"interval_seconds": 1}, [0, 1]),
        ([Pending(), Complete(1)], {"interval_seconds": 1, "wait_before_first_poll": True}, [1, 2]),
        ([SlowDown(2), Complete(1)], {"interval_seconds": 1}, [0, 2]),
        ([SlowDown(), Complete(1)], {"interval_seconds": 1}, [0, 6]),
        ([SlowDown(0), Pending(), Complete(1)], {"interval_seconds": 1}, [0, 6, 12]),
        ([SlowDown(-1), Complete(1)], {"interval_seconds": 1}, [0, 6]),
        ([Pending(), Complete(1)], {}, [0, 5]),
        ([Pending(), Complete(1)], {"interval_seconds": 0}, [0, 1]),
        ([Pending(), Complete(1)], {"interval_seconds": 0.1}, [0, 1]),
        ([BLIP, BLIP, BLIP, Pending(), BLIP, Complete(1)], {"interval_seconds": 1}, [0, 1, 2, 3, 4, 5]),
    ],
)
async def test_when_is_polled_a84(clock, results, options, times):
    assert await polled(clock, results, **options) == (1, times)


async def test_the_last_wait_is_cut_to_what_is_left_a84(clock):
    error, times = await polled(clock, [Pending()], interval_seconds=1, expires_in_seconds=2)
    assert (str(error), times, clock.now) == ("Device flow timed out", [0, 1], 102)
    clock.now = 100.0
    error, times = await polled(clock, [SlowDown()], interval_seconds=1, expires_in_seconds=8)
    assert str(error).startswith("Device flow timed out after one or more slow_down responses. ")
    assert "clock" in str(error)
    assert (times, clock.now) == ([0, 6], 108)


async def test_a_refusal_ends_it_a84(clock):
    error, times = await polled(clock, [Pending(), Failed("was denied")], interval_seconds=1)
    assert isinstance(error, OAuthError)
    assert (str(error), times) == ("was denied", [0, 1])


async def test_four_losses_in_a_row_end_it_d7_f94(clock):
    error, times = await polled(clock, [BLIP], interval_seconds=1)
    assert isinstance(error, ConnectFailed)
    assert times == [0, 1, 2, 3]
    clock.now = 100.0
    error, times = await polled(clock, [failure("config", "no")], interval_seconds=1)
    assert (str(error), times) == ("no", [0])


async def test_polls_may_be_async_and_a_cancelled_task_is_cancelled_a84():
    async def poll():
        return Pending()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(poll_device_code, poll)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
