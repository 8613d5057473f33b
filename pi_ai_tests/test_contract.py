"""The streaming contract, a test a rule, for each kind of stream, on every event loop."""

from __future__ import annotations

import gc
import inspect
import json
import subprocess
import sys
import textwrap
import time
import traceback
import warnings
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import anyio
import attrs
import pytest
from anyio.lowlevel import checkpoint

from pi_ai import (
    AssistantMessage,
    Context,
    DoneEvent,
    ErrorEvent,
    EventStream,
    MessageBuilder,
    Registry,
    StartEvent,
    StreamBusyError,
    StreamEvent,
    StreamOptions,
    TextDeltaEvent,
    Usage,
    UserMessage,
    calculate_cost,
    complete,
    complete_sync,
    event_stream,
    open_event_channel,
    stream,
    streams,
)
from pi_ai.errors import failure
from pi_ai.testing.server import Answer, Received, Server
from pi_ai.types import Cost, ModelCost
from pi_ai_tests.rigs import CONTEXT, DONE, END, HANG, KINDS, SSE, chunk, model, rig

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("http")]
TEXT_EVENTS = ["start", "text_start", "text_delta", "text_delta", "text_end", "done"]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def types(events: list[StreamEvent]) -> list[str]:
    return [event.type for event in events]


async def collected(events: EventStream) -> list[StreamEvent]:
    with anyio.fail_after(10):
        return [event async for event in events]


async def read(events: EventStream, count: int) -> list[StreamEvent]:
    with anyio.fail_after(10):
        return [await anext(events) for _ in range(count)]


async def deltas(events: EventStream, count: int) -> None:
    """Read until so many deltas have come."""
    with anyio.fail_after(10):
        async for event in events:
            count -= isinstance(event, TextDeltaEvent)
            if not count:
                return


# ── before the first await ───────────────────────────────────────────────────────────────────────────────────


def test_s1_stream_is_an_ordinary_function_that_needs_no_event_loop() -> None:
    assert stream(model(), CONTEXT).message.stop_reason == "pending"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: stream("gpt", CONTEXT), "model must be a Model, not str; get_model"),  # type: ignore[arg-type]
        (lambda: stream(model(), [UserMessage("x")]), "context must be a Context, not list; Context"),  # type: ignore[arg-type]
        (lambda: stream(model(), CONTEXT, {"reasoning": "low"}), "options must be a RequestOptions, not dict"),  # type: ignore[arg-type]
        (lambda: stream(model(), CONTEXT, reasonning="low"), "did you mean 'reasoning'"),  # type: ignore[call-arg]
        (lambda: stream(model(), CONTEXT, StreamOptions(), max_token=1), "did you mean 'max_tokens'"),  # type: ignore[call-arg]
        (lambda: Context([{"role": "user"}]), r"Context.messages\[0\] must be .*, not dict; read JSON with from_json"),  # type: ignore[list-item]
    ],
)
def test_s1_only_wrong_types_and_unknown_options_raise_and_say_what_to_do(call: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        call()


async def test_s1_an_unknown_api_is_an_error_event() -> None:
    events = await collected(stream(model(api="nope"), CONTEXT))
    assert types(events) == ["error"]
    assert events[0].message.error_message == "No API provider registered for api: nope"
    assert events[0].message.error_info.kind == "config"


async def test_s2_a_stream_that_is_never_awaited_makes_no_request_and_no_warning(kind: str) -> None:
    async with rig(kind) as made:
        made.stream("a", DONE)
        gc.collect()
        await anyio.wait_all_tasks_blocked()
        assert kind == "channel" or made.started == 0


# ── while it runs ────────────────────────────────────────────────────────────────────────────────────────────


async def test_s3_between_two_awaits_no_task_and_no_scope_of_the_stream_is_open(kind: str) -> None:
    async with rig(kind) as made:
        events = made.stream("a", "b", DONE)
        await anyio.wait_all_tasks_blocked()
        tasks, deadline = _own_tasks(), anyio.current_effective_deadline()
        async for _ in events:
            assert anyio.current_effective_deadline() == deadline
            assert _own_tasks() <= tasks


def _own_tasks() -> set[str]:
    """Tasks by name, but for those of the server and the producer, which belong to the test."""
    names = {task.name or "" for task in anyio.get_running_tasks()}
    return {name for name in names if "Server" not in name and "_answer" not in name and "_produce" not in name}


async def test_s4_events_come_in_order_and_end_once(kind: str) -> None:
    async with rig(kind) as made:
        events = made.stream("a", "b", DONE)
        assert types(await collected(events)) == TEXT_EVENTS
        for _ in range(3):
            with pytest.raises(StopAsyncIteration):
                await anext(events)
        assert events.done
        assert events.message.text == "ab"


async def test_s4_what_comes_after_the_end_is_dropped_and_a_missing_start_is_made() -> None:
    async def source() -> AsyncIterator[Any]:
        out = MessageBuilder(model())
        yield [*out.text("x"), *out.finish("stop"), *out.text("y")]
        yield out.fail("z")

    assert types(await collected(event_stream(source()))) == ["start", "text_start", "text_delta", "text_end", "done"]


async def test_s5_a_failure_is_the_last_event_and_keeps_what_came(kind: str) -> None:
    async with rig(kind) as made:
        events = made.stream("a", ValueError("broken"))
        got = await collected(events)
        assert types(got) == ["start", "text_start", "text_delta", "error"]
        message = await events.result()
        assert got[-1] == ErrorEvent("error", message)
        assert (message.stop_reason, message.error_message, message.text) == ("error", "broken", "a")
        with pytest.raises(Exception, match="broken"):
            message.raise_for_error()


async def test_s5_a_refused_connection_is_an_error_event() -> None:
    events = await collected(stream(model(), CONTEXT, max_retries=0))
    assert types(events) == ["error"]
    assert events[0].message.error_info.kind == "connect"
    assert "Connection error" in events[0].message.error_message


async def test_s5_an_error_without_words_is_given_some() -> None:
    async def source() -> AsyncIterator[Any]:
        yield ErrorEvent("error", MessageBuilder(model()).interrupt())

    message = await event_stream(source()).result()
    assert (message.stop_reason, message.error_message) == ("error", "An unknown error occurred")


async def test_s5_a_source_that_yields_no_events_is_told_what_it_did() -> None:
    async def source() -> AsyncIterator[Any]:
        yield "text"

    message = await event_stream(source()).result()
    assert message.error_message == "the source of a stream must yield events, not str"
    assert (message.error_info.kind, message.error_info.provider) == ("internal", None)
    assert "test_contract" not in repr(message.error_info)
    [note] = message.diagnostics
    assert (note.type, note.error.name) == ("internal_error", "TypeError")
    assert "Traceback" in note.error.stack
    named = await event_stream(source(), model=model()).result()
    info = named.error_info
    assert (info.provider, info.api, info.model) == (model().provider, model().api, model().id)
    assert info.cause is not None
    assert [frame.name for frame in traceback.extract_tb(info.cause.__traceback__)] == ["_accept"]  # not the stream's

    async def told() -> AsyncIterator[Any]:
        raise failure("server", "broken", provider="p", api="a", model="m")
        yield

    info = (await event_stream(told(), model=model()).result()).error_info
    assert (info.kind, info.provider, info.api, info.model) == ("server", "p", "a", "m")


# ── stopping ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("script", [(HANG,), ("a", HANG)], ids=["before the first event", "in mid-answer"])
async def test_s6_a_deadline_passes_through_and_leaves_an_aborted_message(kind: str, script: tuple[Any, ...]) -> None:
    async with rig(kind) as made:
        events = made.stream(*script)
        with anyio.move_on_after(0.1) as scope:
            await collected(events)
        assert scope.cancelled_caught
        assert events.done
        assert (events.message.stop_reason, events.message.error_message) == ("aborted", "Request was aborted")
        assert events.message.text == ("a" if "a" in script else "")
        assert await collected(events) == []
        await made.has_released()


async def test_s6_cancelling_one_that_only_waits_its_turn_ends_the_stream(kind: str) -> None:
    async with rig(kind) as made:
        events = made.stream("a", HANG)
        got: list[StreamEvent] = []

        async def iterate() -> None:
            got.extend(await collected(events))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(iterate)
            await made.is_waiting()
            with anyio.move_on_after(0.05) as scope:
                await events.result()
            assert scope.cancelled_caught
        assert types(got)[-1] == "error"
        assert got[-1].reason == "aborted"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_s6_ctrl_c_comes_out_as_keyboard_interrupt(backend: str) -> None:
    program = f"""
        import anyio, os, signal, threading
        from pi_ai import MessageBuilder, Model, event_stream
        model = Model(id="m", api="a", provider="p")
        async def source():
            out = MessageBuilder(model)
            yield out.text("partial")
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
            await anyio.sleep_forever()
        async def main():
            global s
            s = event_stream(source())
            async for _ in s: pass
        try:
            anyio.run(main, backend="{backend}")
        except KeyboardInterrupt:
            print("interrupted", s.message.stop_reason, s.message.text)
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (done.stdout.strip(), done.stderr) == ("interrupted aborted partial", "")


async def test_s7_abort_from_a_sibling_gives_the_reader_an_error_event_and_the_end(kind: str) -> None:
    async with rig(kind) as made:
        events = made.stream("a", HANG)

        async def abort() -> None:
            await made.is_waiting()
            await made.until(lambda: events.message.text == "a")  # sent is not yet read
            events.abort()
            events.abort()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(abort)
            got = await collected(events)
        assert types(got) == ["start", "text_start", "text_delta", "error"]
        assert (got[-1].reason, got[-1].message.text) == ("aborted", "a")
        assert got[-1].message.error_message == "Request was aborted"
        await made.has_released()


async def test_s7_abort_in_the_loop_body_ends_the_loop(kind: str) -> None:
    async with rig(kind) as made:
        events = made.stream("a", HANG)
        got = []
        async for event in events:
            got.append(event)
            if isinstance(event, TextDeltaEvent):
                events.abort()
        assert types(got) == ["start", "text_start", "text_delta", "error"]
        await made.has_released()


async def test_s7_abort_before_the_first_await_makes_no_request(kind: str) -> None:
    async with rig(kind) as made:
        events = made.stream("a", DONE)
        events.abort()
        assert types(await collected(events)) == ["error"]
        assert kind == "channel" or made.started == 0


async def test_s7_abort_after_the_end_has_no_effect(kind: str) -> None:
    async with rig(kind) as made:
        events = made.stream("a", "b", DONE)
        await events.result()
        events.abort()
        assert types(await collected(events)) == TEXT_EVENTS
        assert events.message.stop_reason == "stop"


async def test_s7_abort_from_a_thread(kind: str) -> None:
    async with rig(kind) as made:
        events = made.stream("a", HANG)
        async with anyio.create_task_group() as tasks:

            async def abort() -> None:
                await made.is_waiting()
                await anyio.to_thread.run_sync(lambda: anyio.from_thread.run_sync(events.abort))

            tasks.start_soon(abort)
            assert types(await collected(events))[-1] == "error"


async def test_s8_an_outer_cancellation_wins_over_an_abort(kind: str) -> None:
    async with rig(kind) as made:
        events = made.stream("a", HANG)
        got: list[StreamEvent] = []
        async with anyio.create_task_group() as tasks:

            async def iterate() -> None:
                async for event in events:
                    got.append(event)  # noqa: PERF401

            tasks.start_soon(iterate)
            await made.is_waiting()
            events.abort()
            tasks.cancel_scope.cancel()
        assert "error" not in types(got)
        assert events.message.stop_reason == "aborted"


async def test_s8_a_task_that_is_cancelled_gets_no_event_of_a_stream_that_was_aborted_before() -> None:
    async def source() -> AsyncIterator[Any]:
        out = MessageBuilder(model())
        yield out.text("a")
        await anyio.sleep_forever()

    events = event_stream(source())
    await read(events, 3)
    returned = False
    with anyio.CancelScope() as scope:
        events.abort()
        scope.cancel()
        await anext(events)
        returned = True
    assert not returned
    assert (events.message.stop_reason, events.message.text) == ("aborted", "a")


async def test_s9_aclose_twice_and_unstarted(kind: str) -> None:
    async with rig(kind) as made:
        events = made.stream("a", DONE)
        await events.aclose()
        await events.aclose()
        assert await collected(events) == []
        assert events.message.stop_reason == "aborted"
        assert kind == "channel" or made.started == 0


async def test_s9_aclose_from_a_sibling_gives_the_reader_the_error_event(kind: str) -> None:
    async with rig(kind) as made:
        events = made.stream("a", HANG)
        got: list[StreamEvent] = []

        async def iterate() -> None:
            got.extend(await collected(events))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(iterate)
            await made.is_waiting()
            await made.until(lambda: events.message.text == "a")  # sent is not yet read
            with anyio.fail_after(2):
                await events.aclose()
            assert events.done
        assert types(got) == ["start", "text_start", "text_delta", "error"]
        await made.has_released()


async def test_s9_aclose_drops_what_nobody_read(kind: str) -> None:
    async with rig(kind) as made:
        events = made.stream(["a", "b", "c"], HANG)
        await read(events, 2)
        await events.aclose()
        assert await collected(events) == []
        await made.has_released()


async def test_s9_aclose_is_shielded_and_bounded_where_a_source_does_not_end() -> None:
    async def source() -> AsyncIterator[Any]:
        out = MessageBuilder(model())
        try:
            yield out.text("a")
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(1.5)

    events = event_stream(source())
    await anext(events)
    returned = False
    with anyio.CancelScope() as scope:
        scope.cancel()
        await events.aclose()
        returned = True
    assert returned
    assert events.message.stop_reason == "aborted"


async def test_s9_aclose_leaves_the_error_event_to_a_task_that_begins_to_wait_while_the_source_is_closed() -> None:
    closing, may_close = anyio.Event(), anyio.Event()

    async def source() -> AsyncIterator[Any]:
        out = MessageBuilder(model())
        try:
            yield out.text("a")
            await anyio.sleep_forever()
        finally:
            closing.set()
            with anyio.CancelScope(shield=True):
                await may_close.wait()

    events = event_stream(source())
    assert types(await read(events, 3)) == ["start", "text_start", "text_delta"]
    got: list[StreamEvent] = []

    async def iterate() -> None:
        got.extend(await collected(events))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(events.result)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(events.aclose)
        await closing.wait()
        tasks.start_soon(iterate)
        await anyio.wait_all_tasks_blocked()
        may_close.set()
    assert types(got) == ["error"]


class Source:
    """Gives its batches, ends, and is closed; with an error if it is given one."""

    def __init__(self, *batches: Any, error: BaseException | None = None) -> None:
        self._batches = list(batches)
        self._error = error
        self.closed = 0

    def __aiter__(self) -> Source:
        return self

    async def __anext__(self) -> Any:
        if not self._batches:
            raise StopAsyncIteration
        return self._batches.pop(0)

    async def aclose(self) -> None:
        self.closed += 1
        if self._error is not None:
            raise self._error


async def test_s9_a_source_is_closed_once() -> None:
    source = Source(MessageBuilder(model()).finish("stop"))
    events = event_stream(source)
    await events.result()
    await events.aclose()
    del events
    gc.collect()
    await anyio.wait_all_tasks_blocked()
    assert source.closed == 1


async def test_s9_an_answer_that_has_come_is_kept_whatever_happens_while_its_source_is_closed() -> None:
    class Stop(BaseException):
        pass

    out = MessageBuilder(model())
    events = event_stream(Source(out.text("a"), out.finish("length"), error=Stop()))
    with pytest.raises(Stop):
        await events.result()
    assert (events.done, events.message.stop_reason, events.message.text) == (True, "length", "a")
    swallowed = event_stream(Source(MessageBuilder(model()).finish("stop"), error=ValueError("late")))
    assert (await swallowed.result()).stop_reason == "stop"


async def test_s10_async_with_closes_and_lets_exceptions_out_as_themselves(kind: str) -> None:
    async with rig(kind) as made:
        with pytest.raises(KeyError, match="mine"):
            async with made.stream("a", HANG) as events:
                await deltas(events, 1)
                raise KeyError("mine")
        assert events.message.stop_reason == "aborted"
        await made.has_released()


# ── more than one task ───────────────────────────────────────────────────────────────────────────────────────


async def test_s11_result_while_another_task_iterates_loses_and_steals_nothing(kind: str) -> None:
    async with rig(kind) as made:
        events = made.stream("a", "b", DONE)
        results = []

        async def result() -> None:
            results.append(await events.result())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(result)
            tasks.start_soon(result)
            got = await collected(events)
        assert types(got) == TEXT_EVENTS
        assert results == [events.message] * 2
        assert results[0] is got[-1].message


async def test_s11_result_takes_over_when_the_iterator_stops_and_the_rest_can_still_be_read(kind: str) -> None:
    async with rig(kind) as made:
        events = made.stream("a", "b", DONE)
        first = await read(events, 3)
        message = await events.result()
        assert message.text == "ab"
        assert types(first + await collected(events)) == TEXT_EVENTS


async def test_s11_cancelling_one_waiter_ends_the_others(kind: str) -> None:
    async with rig(kind) as made:
        events = made.stream("a", HANG)
        results = []

        async def result() -> None:
            results.append((await events.result()).stop_reason)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(result)
            await made.is_waiting()
            tasks.start_soon(result)
            with anyio.move_on_after(0.05):
                await events.result()
        assert results == ["aborted", "aborted"]
        assert types(await collected(events))[-1] == "error"


async def test_s12_a_second_iterator_is_refused_and_the_first_goes_on(kind: str) -> None:
    async with rig(kind) as made:
        events = made.stream("a", HANG)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(collected, events)
            await made.is_waiting()
            with pytest.raises(StreamBusyError) as refused:
                await anext(events)
            assert isinstance(refused.value, (anyio.BusyResourceError, RuntimeError))
            events.abort()


async def test_s12_a_second_iterator_is_refused_while_the_first_lets_others_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, others_ran = MessageBuilder(model()), anyio.Event()
    events = event_stream(Source([event for _ in range(40) for event in out.text("a")]))
    monkeypatch.setattr(streams, "checkpoint", others_ran.wait)
    await read(events, 16)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read, events, 1)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(StreamBusyError):
            await anext(events)
        others_ran.set()


async def test_s13_started_read_and_closed_in_different_tasks(kind: str) -> None:
    async with rig(kind) as made:
        events = made.stream("a", "b", HANG)

        async def start() -> None:
            await read(events, 3)

        async def close() -> None:
            await events.aclose()

        for step in (start, close):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(step)
        await made.has_released()
        assert events.message.stop_reason == "aborted"


# ── leaving ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_s14_a_plain_break_releases_the_connection_without_a_warning(kind: str) -> None:
    async with rig(kind, max_connections=1) as made:
        for count in range(1, 4):
            async for event in made.stream("a", HANG):
                if isinstance(event, TextDeltaEvent):
                    break
            gc.collect()
            with anyio.fail_after(1):
                await made.has_released(count)


async def test_s14_a_stream_that_is_still_referenced_stays_open_until_it_is_closed(kind: str) -> None:
    async with rig(kind) as made:
        events = made.stream("a", HANG)
        await deltas(events, 1)
        if kind != "generator":
            await made.is_waiting()
        gc.collect()
        await anyio.wait_all_tasks_blocked()
        assert made.released == 0
        await events.aclose()
        await made.has_released()


async def test_s14_what_a_dropped_stream_said_is_marked_as_aborted() -> None:
    events = event_stream(Source(MessageBuilder(model()).text("a")))
    await read(events, 2)
    message = events.message
    assert message.stop_reason == "pending"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del events
        gc.collect()
    assert (message.stop_reason, message.error_message) == ("aborted", "Request was aborted")


async def test_s14_development_mode_warns_where_a_stream_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    in_development = SimpleNamespace(flags=SimpleNamespace(dev_mode=True), modules=sys.modules)
    monkeypatch.setattr(streams, "sys", in_development)
    line = inspect.currentframe().f_lineno + 1  # type: ignore[union-attr]
    events = event_stream(Source(MessageBuilder(model()).text("a")))
    await read(events, 2)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        del events
        gc.collect()
    [warning] = [warning for warning in told if warning.category is ResourceWarning]
    assert f"made at {__file__}:{line} was dropped before its end" in str(warning.message)
    assert warning.filename == __file__


def test_s14_a_stream_that_could_not_be_made_leaves_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    complaints: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    with pytest.raises(TypeError):
        event_stream(["no", "async", "iterator"])  # type: ignore[arg-type]
    gc.collect()
    assert complaints == []


async def test_s14_nothing_is_held_of_streams_that_were_dropped(kind: str) -> None:
    async with rig(kind) as made:
        await deltas(made.stream("a", HANG), 1)
        gc.collect()
        await made.has_released()
        with anyio.fail_after(1):
            while streams._tasks:
                await anyio.sleep(0.001)


def test_s14_development_mode_names_the_line_that_made_the_stream() -> None:
    program = """
        import anyio, gc
        from pi_ai import MessageBuilder, Model, event_stream
        model = Model(id="m", api="a", provider="p")
        async def source():
            out = MessageBuilder(model)
            yield out.text("partial")
            await anyio.sleep_forever()
        async def main():
            async for _ in event_stream(source()): break
            gc.collect()
            await anyio.sleep(0.01)
        anyio.run(main)
    """
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", textwrap.dedent(program)],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert "ResourceWarning: a stream made at <string>:10 was dropped before its end" in done.stderr


async def test_s15_cancellation_is_seen_at_least_every_16_buffered_events(kind: str) -> None:
    async with rig(kind) as made:
        events = made.stream([f"{n}," for n in range(1000)], DONE)
        await deltas(events, 500)  # they have all arrived
        seen = 0
        with anyio.move_on_after(0) as scope:
            async for _ in events:
                seen += 1
        assert scope.cancelled_caught
        assert seen <= 16


@pytest.mark.parametrize("ended", [False, True], ids=["going on", "ended"])
async def test_s15_a_cancelled_checkpoint_passes_and_ends_the_stream(ended: bool) -> None:
    async def source() -> AsyncIterator[Any]:
        out = MessageBuilder(model())
        yield [event for _ in range(50) for event in out.text("a")]
        if ended:
            yield out.finish("stop")

    events = event_stream(source())
    if ended:
        await events.result()
    returned = False
    with anyio.CancelScope() as scope:
        await read(events, 16)
        scope.cancel()
        await anext(events)
        returned = True
    assert not returned
    assert events.message.stop_reason == ("stop" if ended else "aborted")
    assert await collected(events) == []


async def test_s21_a_message_tells_how_long_it_took() -> None:
    async def source() -> AsyncIterator[Any]:
        out = MessageBuilder(model())
        await anyio.sleep(0.05)
        yield out.finish("stop")

    began = time.monotonic()
    message = await event_stream(source()).result()
    assert message.duration_ms is not None
    assert 49 <= message.duration_ms <= (time.monotonic() - began) * 1000 + 1


@pytest.mark.parametrize("told", [Usage(input=1_000_000), Usage(output=500_000), Usage(total_tokens=7)], ids=repr)
async def test_s21_usage_that_a_source_tells_without_a_price_gets_the_models(told: Usage) -> None:
    async def source() -> AsyncIterator[Any]:
        message = AssistantMessage(usage=attrs.evolve(told))
        yield StartEvent(partial=message)
        yield DoneEvent("stop", message)

    priced = attrs.evolve(model(), cost=ModelCost(input=2, output=4))
    expected = calculate_cost(priced, attrs.evolve(told)).total
    assert (await event_stream(source(), model=priced).result()).usage.cost.total == expected
    assert (await event_stream(source()).result()).usage.cost.total == 0


async def test_s21_a_price_that_a_source_tells_stays() -> None:
    async def source() -> AsyncIterator[Any]:
        yield DoneEvent("stop", AssistantMessage(usage=Usage(input=5, total_tokens=5, cost=Cost(input=3, total=3))))

    priced = attrs.evolve(model(), cost=ModelCost(input=2))
    assert (await event_stream(source(), model=priced).result()).usage.cost == Cost(input=3, total=3)


async def test_s24_a_sink_ends_with_a_message_that_says_how_it_ended() -> None:
    for reason, ending in (("pending", "done"), ("length", "done"), ("error", "error"), ("aborted", "error")):
        sink, events = open_event_channel(model())
        with sink as entered:
            assert entered is sink
            sink.end(AssistantMessage(stop_reason=reason))
            sink.end(AssistantMessage(stop_reason="error"))  # it has ended
            sink.push(StartEvent(partial=AssistantMessage()))
        got = await collected(events)
        assert types(got)[-1] == ending
        assert events.message.stop_reason == ("stop" if reason == "pending" else reason)


async def test_s15_other_tasks_run_while_a_chunk_of_many_events_is_read(kind: str) -> None:
    async with rig(kind) as made:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await checkpoint()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(other)
            await collected(made.stream([f"{n}," for n in range(1000)], DONE))
            tasks.cancel_scope.cancel()
        assert turns >= 1000 // 16


async def test_s16_nothing_is_read_beyond_the_chunk_that_is_consumed() -> None:
    async with rig("generator") as made:
        events = made.stream(*[str(n) for n in range(50)], DONE)
        await deltas(events, 3)
        await anyio.wait_all_tasks_blocked()
        assert events.message.text == "012"


async def test_s16_a_slow_reader_slows_the_sender_through_tcp() -> None:
    sent = 0

    async def handler(request: Received, answer: Answer) -> None:
        nonlocal sent
        await answer.head(200, SSE)
        for _ in range(2000):
            await answer.send(chunk("x" * 65_536))
            sent += 1

    async with Server(handler) as server, stream(model(server.url), CONTEXT) as events:
        await deltas(events, 1)
        with anyio.move_on_after(0.3):
            await anyio.sleep_forever()
        assert sent < 400  # what the kernel's buffers hold, not 131 MB
        assert len(events.message.text) <= 2 * 65_536


# ── connections ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("ending", ["done", "error", "abort", "cancel", "aclose", "break"])
async def test_s17_after_each_ending_a_pool_of_one_serves_the_next_request_at_once(ending: str) -> None:
    async with rig("adapter", max_connections=1) as made:
        script = {"done": ("a", DONE), "error": ("a", ValueError("x"))}.get(ending, ("a", HANG))
        events = made.stream(*script)
        if ending in ("done", "error"):
            await collected(events)
        elif ending == "cancel":
            with anyio.move_on_after(0.1):
                await collected(events)
        else:
            await deltas(events, 1)
            if ending == "abort":
                events.abort()
                await collected(events)
            elif ending == "aclose":
                await events.aclose()
            else:
                del events
                gc.collect()
        with anyio.fail_after(2):
            assert types(await collected(made.stream("b", DONE)))[-1] == "done"
        assert made.server is not None
        assert made.server.connections == (1 if ending == "done" else 2)


async def test_s18_leaving_early_unwinds_the_http_generators_without_a_warning() -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        async with rig("adapter") as made:
            async with made.stream("a", HANG) as events:
                await deltas(events, 1)
            await made.has_released()
            del events
            gc.collect()
            await anyio.wait_all_tasks_blocked()
    assert [str(warning.message) for warning in seen] == []


async def test_s19_the_wires_own_end_ends_the_message_though_the_socket_stays_open() -> None:
    async def handler(request: Received, answer: Answer) -> None:
        await answer.head(200, SSE)
        await answer.send(chunk("a") + END)
        await answer.stall()

    async with Server(handler) as server:
        with anyio.fail_after(2):
            assert types(await collected(stream(model(server.url), CONTEXT)))[-1] == "done"


async def test_s19_the_end_of_the_bytes_is_no_end_of_the_message() -> None:
    async def handler(request: Received, answer: Answer) -> None:
        await answer.head(200, SSE)
        await answer.send(chunk("a"))
        await answer.end()

    async with Server(handler) as server:
        message = await complete(model(server.url), CONTEXT)
    assert (message.stop_reason, message.text) == ("error", "a")
    assert message.error_info.kind == "truncated"
    assert message.error_info.phase == "end"


class Flaky:
    """Answers with these statuses first, then well."""

    def __init__(self, *statuses: int, headers: dict[str, str] | None = None) -> None:
        self.statuses = list(statuses)
        self.headers = headers or {}

    async def __call__(self, request: Received, answer: Answer) -> None:
        if self.statuses:
            body = json.dumps({"error": {"message": "try later"}}).encode()
            await answer.whole(self.statuses.pop(0), {"content-type": "application/json", **self.headers}, body)
            return
        await answer.head(200, SSE)
        await answer.send(chunk("a") + chunk("b") + END)
        await answer.end()


async def test_s20_503_twice_then_200_gives_one_answer_and_tells_the_attempts() -> None:
    async with Server(Flaky(503, 503, headers={"retry-after-ms": "1"})) as server:
        events = stream(model(server.url), CONTEXT)
        assert types(await collected(events)) == TEXT_EVENTS
    assert len(server.requests) == 3
    assert len({request.body for request in server.requests}) == 1
    assert events.message.attempts is not None
    assert [attempt.error.status for attempt in events.message.attempts] == [503, 503]


async def test_s20_abort_cuts_a_long_wait_short() -> None:
    async with Server(Flaky(503, headers={"retry-after": "30"})) as server:
        events = stream(model(server.url), CONTEXT)
        async with anyio.create_task_group() as tasks:

            async def abort() -> None:
                while not server.requests or server.requests[0].ended == "open":
                    await anyio.sleep(0.005)
                await anyio.sleep(0.05)
                events.abort()

            tasks.start_soon(abort)
            with anyio.fail_after(5):
                got = await collected(events)
        assert [event.type for event in got] == ["error"]
        assert (got[0].reason, got[0].message.error_message) == ("aborted", "Request was aborted")
        assert len(server.requests) == 1


async def test_s20_a_wait_above_the_cap_fails_at_once_and_names_both() -> None:
    async with Server(Flaky(429, headers={"retry-after": "120"})) as server:
        with anyio.fail_after(5):
            message = await complete(model(server.url), CONTEXT)
    assert message.error_message.startswith("Server requested 120s retry delay (max: 60s). 429: ")
    assert (message.error_info.kind, message.error_info.retry_after) == ("rate_limited", 120.0)
    assert len(server.requests) == 1


async def test_s20_a_failure_after_the_first_delta_is_not_retried() -> None:
    async with rig("adapter") as made:
        events = made.stream("a", ValueError("503 overloaded"))
        assert types(await collected(events))[-1] == "error"
        assert made.started == 1


# ── the message ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_s21_the_message_is_valid_at_any_time_and_has_its_cost_at_the_end(kind: str) -> None:
    async with rig(kind) as made:
        events = made.stream("a", "b", DONE)
        assert events.message.stop_reason == "pending"
        async for event in events:
            if not isinstance(event, DoneEvent):
                # The producer of a channel may be done before its events are read.
                assert events.message.stop_reason == "pending" or kind == "channel"
                assert event.partial is events.message
        message = events.message
        assert message.stop_reason == "stop"
        assert (message.usage.input, message.usage.output) == (5, 3)
        assert message.usage.cost.total == pytest.approx(5e-6 + 3e-5)
        assert message.duration_ms is not None


async def test_s21_an_aborted_answer_is_priced_by_the_usage_that_came() -> None:
    async def handler(request: Received, answer: Answer) -> None:
        await answer.head(200, SSE)
        await answer.send(chunk("a", usage={"prompt_tokens": 5, "completion_tokens": 1}))
        await answer.stall()

    async with Server(handler) as server, stream(model(server.url), CONTEXT) as events:
        await deltas(events, 1)
        events.abort()
        message = await events.result()
    assert message.stop_reason == "aborted"
    assert message.usage.cost.total == pytest.approx(5e-6 + 1e-5)


async def test_s22_events_share_one_live_message_that_is_brought_up_to_date_when_read(kind: str) -> None:
    async with rig(kind) as made:
        partials = []
        texts = []
        async for event in made.stream("a", "b", DONE):
            if isinstance(event, TextDeltaEvent):
                partials.append(event.partial)
                texts.append(event.partial.text)
        assert texts == ["a", "ab"] or kind != "generator"  # a producer may run ahead, and one read may bring both
        assert partials[0] is partials[1]
        assert partials[0].text == "ab"


def test_s23_two_event_loops_one_after_the_other_share_nothing() -> None:
    async def once() -> list[str]:
        async with Server(Flaky()) as server, Registry() as pi:
            pooled = await pi.complete(model(server.url), CONTEXT)
        async with Server(Flaky()) as server:
            single = await complete(model(server.url), CONTEXT)
        return [pooled.text, single.text]

    for backend in ("asyncio", "trio", "asyncio"):
        assert anyio.run(once, backend=backend) == ["ab", "ab"]


async def test_s23_a_client_that_was_passed_stays_open() -> None:
    import httpx
    import httpx2

    async with Server(Flaky()) as server:
        for library in (httpx, httpx2):
            async with library.AsyncClient() as client:
                for _ in range(2):
                    message = await complete(model(server.url), CONTEXT, http_client=client)
                    assert message.text == "ab"
                assert not client.is_closed
    assert server.connections == 2


async def test_s24_a_source_may_yield_one_event_or_a_list_and_needs_no_code_for_the_contract() -> None:
    async def source() -> AsyncIterator[Any]:
        out = MessageBuilder(model())
        yield out.start()
        yield out.text("a")
        yield (*out.text("b"), *out.finish("length"))

    events = await collected(event_stream(source(), model=model()))
    assert types(events) == TEXT_EVENTS
    assert events[-1].reason == "length"


async def test_s24_a_source_that_ends_without_saying_so_is_an_error(kind: str) -> None:
    async with rig(kind) as made:
        message = await made.stream("a").result()
        assert (message.stop_reason, message.text) == ("error", "a")
        assert message.error_info.kind == "truncated"


async def test_s24_a_sink_learns_that_its_reader_has_left() -> None:
    sink, events = open_event_channel(model())
    out = MessageBuilder(model())
    sink.push(out.start())
    await anext(events)
    await events.aclose()
    with pytest.raises(anyio.BrokenResourceError):
        sink.push(out.start())
    sink.end()


async def test_s24_leaving_a_sink_ends_its_stream() -> None:
    sink, events = open_event_channel(model())
    out = MessageBuilder(model())
    with sink:
        for event in (out.start(), *out.text("a")):
            sink.push(event)
    message = await events.result()
    assert (message.stop_reason, message.text, message.error_info.kind) == ("error", "a", "truncated")


async def test_s24_what_a_sink_pushes_after_its_end_is_ignored() -> None:
    sink, events = open_event_channel(model())
    out = MessageBuilder(model())
    with sink:
        sink.push(StartEvent(partial=out))
        for event in [*out.text("a"), *out.finish("stop"), *out.text("b")]:
            sink.push(event)
    sink.end()
    sink.push(StartEvent(partial=out))
    assert types(await collected(events)) == ["start", "text_start", "text_delta", "text_end", "done"]


def test_complete_sync_runs_a_loop_of_its_own() -> None:
    assert complete_sync(model(api="nope"), CONTEXT).stop_reason == "error"


async def test_complete_sync_refuses_to_run_inside_an_event_loop() -> None:
    with pytest.raises(RuntimeError):
        complete_sync(model(), CONTEXT)


async def test_complete_raises_on_demand() -> None:
    with pytest.raises(Exception, match="No API provider registered"):
        await complete(model(api="nope"), CONTEXT, raise_on_error=True)
