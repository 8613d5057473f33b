"""The clocks of a call, on a clock of our own, and those of connecting."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import anyio
import httpx
import pytest

from pi_ai import (
    DoneEvent,
    Registry,
    StreamEvent,
    Timeouts,
    complete,
    stream,
)
from pi_ai.clocks import Clocks
from pi_ai.errors import PiAIError
from pi_ai.types import DEFAULT_TIMEOUTS
from pi_ai_tests.reliability.virtual import virtual_time
from pi_ai_tests.rigs import CONTEXT, END, chunk, model
from pi_ai_tests.transport.rigs import FOREVER, PINGS, WELL, Play, Plays, play, until

pytestmark = pytest.mark.anyio


@virtual_time
@pytest.mark.parametrize(
    ("played", "seconds", "kind", "phase", "words"),
    [
        (Play(before=FOREVER), 120, "timeout_first", "headers", "no event of the answer came within 120 s"),
        (Play([FOREVER]), 120, "timeout_first", "stream", "no event of the answer came within 120 s"),
        (Play(PINGS), 120, "timeout_first", "stream", "no event of the answer came within 120 s"),
        (Play([7, chunk("a"), FOREVER]), 67, "timeout_idle", "stream", "not one byte came within 60 s"),
        (Play([chunk("a"), *PINGS]), 600, "timeout_progress", "stream", "nothing but keep-alives came within 600 s"),
    ],
    ids=["no head", "no byte", "only pings", "F37 silence", "F38 pings for ever"],
)
async def test_F37_F38_F41_each_silence_has_its_clock_its_kind_and_its_text(
    played: Play, seconds: float, kind: str, phase: str, words: str
) -> None:
    got = await play(played)
    assert got.seconds == pytest.approx(seconds)
    assert (got.info.kind, got.info.phase) == (kind, phase)
    assert got.message.error_message == f"Request timed out: {words}"
    assert f"set timeouts=Timeouts({ {'timeout_first': 'first_event'}.get(kind, kind[8:]) }_ms=…)" in got.info.message
    assert got.message.text == ("a" if seconds != 120 else "")


@virtual_time
async def test_F40_content_that_is_whole_waits_for_its_proof_for_the_completion_grace_only() -> None:
    clocks = Clocks(DEFAULT_TIMEOUTS)
    clocks.progressed()
    clocks.content_ended()
    began = anyio.current_time()
    await clocks.wait(partial(anyio.sleep, 20), phase="stream")
    with pytest.raises(PiAIError, match="the content was whole, but its proof of completion did not come") as caught:
        await clocks.wait(anyio.sleep_forever, phase="stream")
    assert anyio.current_time() - began == pytest.approx(30)
    assert caught.value.info.kind == "truncated"


@virtual_time
async def test_F40_a_proven_answer_whose_body_does_not_end_is_done_after_the_grace() -> None:
    got = await play(Play([chunk("a", finish="stop"), FOREVER]))
    assert got.seconds == pytest.approx(30)
    assert (got.message.stop_reason, got.message.text) == ("stop", "a")


@virtual_time
async def test_total_ends_even_an_answer_that_goes_on_well() -> None:
    got = await play(Play([chunk("a"), 10] * 100), timeouts=Timeouts(total_ms=35_000))
    assert got.seconds == pytest.approx(35)
    assert (got.info.kind, got.info.retryable) == ("timeout_total", False)
    assert got.message.error_message == "Request timed out: the request did not end within 35 s"
    assert got.message.text == "aaaa"


@virtual_time
async def test_F51_total_ends_the_wait_for_the_next_attempt() -> None:
    refused = Play(status=503, headers={"retry-after": "40"})
    got = await play(Play(before=3, status=503, headers={"retry-after": "2"}), refused, WELL, max_retries=2,
                     timeouts=Timeouts(total_ms=15_000))  # fmt: skip
    assert got.seconds == pytest.approx(15)
    assert got.info.kind == "timeout_total"
    assert [attempt.error.status for attempt in got.message.attempts or []] == [503, 503]


@virtual_time
async def test_F39_a_long_silent_thought_with_pings_is_not_cut() -> None:
    got = await play(Play([chunk("a"), *PINGS[:58], chunk("b"), *PINGS[:58], END]))
    assert (got.message.text, got.seconds) == ("ab", pytest.approx(1160))


@virtual_time
async def test_F43_no_clock_runs_while_the_reader_is_slow() -> None:
    transport = Plays(Play([*[chunk("a")] * 5, END]))
    limits = Timeouts(first_event_ms=1000, idle_ms=1000, progress_ms=1000, total_ms=1000)
    async with httpx.AsyncClient(transport=transport) as client:
        events = stream(model(), CONTEXT, http_client=client, timeouts=limits)
        last: StreamEvent | None = None
        async for event in events:
            last = event
            await anyio.sleep(100)
    assert isinstance(last, DoneEvent)


@virtual_time
async def test_none_turns_a_clock_off() -> None:
    off = Timeouts(first_event_ms=None, idle_ms=None, progress_ms=None, completion_grace_ms=None)
    got = await play(Play([9000, chunk("a"), 9000, chunk(finish="stop"), 9000, b"data: [DONE]\n\n"]), timeouts=off)
    assert (got.message.stop_reason, got.seconds) == ("stop", pytest.approx(27000))


@virtual_time
@pytest.mark.parametrize(
    ("call", "of_model", "registry", "seconds"),
    [
        ({"timeouts": Timeouts(idle_ms=1000)}, 2, 3, 1),
        ({"timeout_ms": 1500}, 2, 3, 1.5),
        ({"timeouts": Timeouts(idle_ms=1000), "timeout_ms": 1500}, 2, 3, 1),
        ({}, 2, 3, 2),
        ({"timeouts": Timeouts(total_ms=100_000)}, 2, 3, 2),
        ({}, None, 3, 3),
        ({}, None, None, 60),
    ],
)
async def test_a_clock_is_set_by_the_call_then_the_model_then_the_registry_then_the_default(
    call: dict[str, Any], of_model: float | None, registry: float | None, seconds: float
) -> None:
    def idle(limit: float | None) -> Timeouts | None:
        return None if limit is None else Timeouts(idle_ms=int(limit * 1000))

    transport = Plays(Play([chunk("a"), FOREVER]))
    began = anyio.current_time()
    async with httpx.AsyncClient(transport=transport) as client:
        pi = Registry(timeouts=idle(registry), http_client=client)
        message = await pi.complete(model(timeouts=idle(of_model)), CONTEXT, **call)
    assert message.error_info is not None
    assert message.error_info.kind == "timeout_idle"
    assert anyio.current_time() - began == pytest.approx(seconds)


async def test_F42_a_tls_handshake_that_hangs_is_a_connect_timeout_and_leaves_no_socket() -> None:
    async with hanging_listener() as (address, connections):
        message = await complete(
            model(f"https://{address}", headers={"authorization": "Bearer x"}),
            CONTEXT,
            max_retries=0,
            timeouts=Timeouts(connect_ms=50),
        )
        assert message.error_info is not None
        assert (message.error_info.kind, message.error_info.phase) == ("timeout_connect", "connect")
        assert message.error_message == "Request timed out: connect"
        await until(lambda: connections == ["open", "closed"])


async def test_F61_a_tls_handshake_that_is_cancelled_leaves_no_socket() -> None:
    async with hanging_listener() as (address, connections):
        with anyio.move_on_after(0.05) as scope:
            await complete(model(f"https://{address}", headers={"authorization": "Bearer x"}), CONTEXT)
        assert scope.cancelled_caught
        await until(lambda: connections == ["open", "closed"])
        gc.collect()


def hanging_listener() -> Any:
    """Accepts connections and says nothing; gives its address, and what became of the connections."""
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def run() -> AsyncIterator[tuple[str, list[str]]]:
        connections: list[str] = []

        async def hang(connection: Any) -> None:
            connections.append("open")
            async with connection:
                try:
                    async for _ in connection:
                        pass
                except anyio.BrokenResourceError:
                    pass
            connections.append("closed")

        listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, hang)
            yield f"127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}", connections
            tasks.cancel_scope.cancel()

    return run()


@virtual_time
async def test_F42_a_client_of_the_callers_gets_the_connect_clock_and_no_other() -> None:
    got = await play(WELL)
    assert got.plays.requests[0].extensions["timeout"] == {"connect": 10, "read": None, "write": None, "pool": 10}
