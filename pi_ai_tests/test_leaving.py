"""Leaving a stream early, on every wire: part F of the reliability contract."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import textwrap
from typing import Any

import anyio
import pytest

from pi_ai import EventStream, Registry, TextDeltaEvent
from pi_ai.testing.server import Server
from pi_ai_tests.faults import CHAT, STALL, Script, Wire, both_decoders, calling, every_wire, serving, until, well
from pi_ai_tests.reliability.rigs import check_ending

pytestmark = pytest.mark.anyio


def hanging(wire: Wire) -> Script:
    return Script((wire.letters("a").open, STALL))


async def first_delta(events: EventStream) -> None:
    with anyio.fail_after(5):
        async for event in events:
            if isinstance(event, TextDeltaEvent):
                return


@both_decoders
@every_wire
async def test_F55_F57_an_exception_in_a_plain_loop_releases_the_connection_and_comes_out(wire: Wire) -> None:
    async def fails(pi: Registry, server: Server) -> None:
        async for event in calling(wire, pi, server):
            if isinstance(event, TextDeltaEvent):
                raise KeyError("mine")

    async with serving(wire, hanging(wire)) as server, Registry(max_connections=1) as pi:
        for _ in range(3):
            with pytest.raises(KeyError, match="mine"):
                await fails(pi, server)
            gc.collect()
            await until(lambda: server.open == 0)


@both_decoders
@every_wire
async def test_F56_async_with_has_released_before_it_is_left(wire: Wire) -> None:
    async with serving(wire, hanging(wire)) as server, Registry(max_connections=1) as pi:
        for _ in range(3):
            async with calling(wire, pi, server, timeouts=None) as events:
                await first_delta(events)
            assert events.done
            assert pi._connections._pool()._slots.borrowed_tokens == 0
            await until(lambda: server.open == 0)


@both_decoders
@every_wire
async def test_F58_a_task_group_that_fails_takes_its_streams_along(wire: Wire) -> None:
    streams: list[EventStream] = []

    async def read(pi: Registry, server: Server) -> None:
        streams.append(calling(wire, pi, server))
        async for _ in streams[-1]:
            pass

    async with serving(wire, hanging(wire)) as server, Registry() as pi:
        with pytest.raises(ExceptionGroup) as caught:
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(read, pi, server)
                await until(lambda: sum(bool(events.message.text) for events in streams) == 3)
                raise KeyError("mine")
        assert [type(error) for error in caught.value.exceptions] == [KeyError]
        assert [(events.message.stop_reason, events.message.text) for events in streams] == [("aborted", "a")] * 3
        await until(lambda: server.open == 0)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_F58_task_cancel_passes_through_untouched(loop: str) -> None:
    async def main() -> None:
        async with serving(CHAT, hanging(CHAT)) as server, Registry() as pi:
            events = calling(CHAT, pi, server)
            task = asyncio.create_task(events.result())
            await until(lambda: bool(events.message.text))
            task.cancel("why")
            with pytest.raises(asyncio.CancelledError):
                await task
            assert task.cancelled()
            assert (events.message.stop_reason, events.message.text) == ("aborted", "a")
            await until(lambda: server.open == 0)

    anyio.run(main, backend_options={"use_uvloop": loop == "uvloop"})


@both_decoders
@every_wire
async def test_F59_abort_while_the_reader_waits_leaves_a_pool_of_one_free(wire: Wire) -> None:
    async with serving(wire, hanging(wire), well(wire)) as server, Registry(max_connections=1) as pi:
        events = calling(wire, pi, server)
        async with anyio.create_task_group() as tasks:

            async def abort() -> None:
                await until(lambda: bool(events.message.text))
                events.abort()

            tasks.start_soon(abort)
            got = [event async for event in events]
        check_ending(got, events.message)
        assert got[-1].message.error_message == "Request was aborted"  # type: ignore[union-attr]
        with anyio.fail_after(10):
            assert (await calling(wire, pi, server).result()).text == "ab"


@every_wire
async def test_F62_a_stream_in_a_reference_cycle_is_released_when_it_is_collected(wire: Wire) -> None:
    class Holder:
        events: EventStream
        me: Any

    async with serving(wire, hanging(wire)) as server, Registry() as pi:
        holder = Holder()
        holder.events, holder.me = calling(wire, pi, server), holder
        await first_delta(holder.events)
        del holder
        gc.collect()
        await until(lambda: server.open == 0)


@every_wire
async def test_F62_a_stream_that_another_thread_drops_is_released_in_its_own_loop(wire: Wire) -> None:
    async with serving(wire, hanging(wire)) as server, Registry() as pi:
        held = [calling(wire, pi, server)]
        await first_delta(held[0])
        await anyio.to_thread.run_sync(held.clear)
        gc.collect()
        await until(lambda: server.open == 0)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("held", [True, False], ids=["held", "dropped"])
def test_F68_a_program_that_ends_with_an_open_stream_ends_quietly(backend: str, held: bool) -> None:
    program = f"""
        import anyio
        from pi_ai import stream, TextDeltaEvent
        from pi_ai.testing.server import Server
        from pi_ai_tests.rigs import CONTEXT, SSE, chunk, model

        async def hang(request, answer):
            await answer.head(200, SSE)
            await answer.send(chunk("a"))
            await answer.stall()

        async def main():
            global events
            async with Server(hang) as server:
                events = stream(model(server.url), CONTEXT)
                async for event in events:
                    if isinstance(event, TextDeltaEvent):
                        break
                {"" if held else "del events"}
            print("left")

        anyio.run(main, backend="{backend}")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "left", "")
