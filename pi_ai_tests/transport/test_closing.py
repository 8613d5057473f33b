"""Closing: whatever ends a call, nothing of it is left."""

from __future__ import annotations

import gc
import os
import ssl

import anyio
import pytest

from pi_ai import (
    Registry,
    TextDeltaEvent,
)
from pi_ai.retries import RetryBudget, RetryPolicy
from pi_ai.testing.server import Answer, Received, Server
from pi_ai_tests.reliability.rigs import Stepped
from pi_ai_tests.rigs import CONTEXT, END, SSE, chunk, model
from pi_ai_tests.transport.rigs import first_delta, until, well

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("http")]


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("by", ["cancel", "abort"])
async def test_F61_a_call_that_is_stopped_at_any_of_its_waits_releases_everything(
    by: str, secure: bool, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RetryPolicy, "_wait", lambda policy, state: 0.001)
    monkeypatch.setattr(RetryBudget, "spend", lambda budget: True)
    seen: set[str] = set()

    async def handler(request: Received, answer: Answer) -> None:
        if "first" in request.path and request.path not in seen:
            seen.add(request.path)
            await answer.whole(503, {}, b"busy")
            return
        await answer.head(200, SSE)
        for text in "abc":
            await answer.send(chunk(text))
            await anyio.lowlevel.checkpoint()
        await answer.send(END)
        await answer.end()

    async with Server(handler, tls=tls if secure else None) as server, Registry(max_connections=1) as pi:
        at, waits = 0, 1
        while waits >= at:
            at += 1
            events = pi.stream(model(f"{server.url}/first{at}"), CONTEXT)
            with anyio.fail_after(5), anyio.CancelScope() as scope:
                call = Stepped(events.result(), at, scope.cancel if by == "cancel" else events.abort)
                await call
            waits = call.waits
            message = events.message
            assert events.done
            assert message.stop_reason == "stop" or message.error_message == "Request was aborted", at
            assert scope.cancelled_caught == (by == "cancel" and message.stop_reason == "aborted")
            del events, call
            # Free at once: a pool of one serves the next request, and nothing else is open.
            with anyio.fail_after(2):
                assert (await pi.complete(model(server.url), CONTEXT)).text == "abc", at
            await until(lambda: server.open == 1)
        assert message.stop_reason == "stop"
        assert at > 15
    gc.collect()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")
async def test_F75_no_descriptor_is_left_after_streams_that_end_in_every_way() -> None:
    async with Server(well) as server:
        before = None
        for turn in range(6):
            async with Registry(max_connections=8) as pi, anyio.create_task_group() as tasks:
                for number in range(24):
                    tasks.start_soon(one_ending, pi, server.url, number)
            gc.collect()
            await until(lambda: server.open == 0)
            before = before or descriptors()
            assert descriptors() <= before, turn


async def one_ending(pi: Registry, url: str, number: int) -> None:
    ending = number % 6
    events = pi.stream(model(f"{url}/{'stall' if ending else ''}"), CONTEXT)
    if ending == 0:
        await events.result()
    elif ending == 1:
        async with events:
            await first_delta(events)
    elif ending == 2:
        await first_delta(events)
        events.abort()
        await events.result()
    elif ending == 3:
        with anyio.move_on_after(0.01 * (number % 4)):
            await events.result()
    elif ending == 4:
        async for event in events:
            if isinstance(event, TextDeltaEvent):
                break
    else:
        await first_delta(events)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await events.aclose()
