"""A stream under any program of producers, readers, aborts, cancellations and closings (T4).

A program is a list of steps, made up by hypothesis. After each step everything that can run has run, so that the same
program does the same on every event loop, and a failure shrinks to a few steps. The rules are those of the contract.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import attrs
import pytest
from anyio.streams.memory import MemoryObjectReceiveStream
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_ai import MessageBuilder, StreamEvent, Timeouts, event_stream, open_event_channel
from pi_ai.clocks import Clocks
from pi_ai.streams import StreamBusyError
from pi_ai_tests.reliability.rigs import both_loops
from pi_ai_tests.rigs import model

pytestmark = [pytest.mark.anyio, both_loops]

STEPS = st.one_of(
    st.tuples(st.just("produce"), st.sampled_from([1, 1, 2, 40])),
    st.tuples(st.sampled_from(["read", "read", "result", "drain"]), st.just(0)),
    st.tuples(st.just("cancel"), st.integers(0, 3)),
    st.tuples(st.sampled_from(["finish", "fail", "stop", "abort", "aclose", "message"]), st.just(0)),
)
SOURCES = ["generator", "waiting", "channel"]

Batches = MemoryObjectReceiveStream[Any]


async def settled() -> None:
    """Everything that can run has run: nothing here waits for the world outside, or in more steps than this."""
    for _ in range(30):
        await anyio.lowlevel.checkpoint()


@attrs.define(eq=False)
class Source:
    """Where the events come from: the steps of a program say what it yields."""

    started: int = 0
    released: int = 0

    async def generate(self, batches: Batches) -> AsyncIterator[Any]:
        """An async generator; it makes its batches, or fails, when it is asked for them."""
        self.started += 1
        try:
            async for batch in batches:
                yield batch()
        finally:
            batches.close()
            self.released += 1


class Waiting:
    """A source that ends its own waits, as those of the adapters do."""

    def __init__(self, source: AsyncIterator[Any]) -> None:
        self._source = source
        self._clocks = Clocks(Timeouts())
        self.abort = self._clocks.abort

    @property
    def waits(self) -> int:
        return self._clocks.waits

    def __aiter__(self) -> Waiting:
        return self

    async def __anext__(self) -> Any:
        return await self._clocks.wait(lambda: anext(self._source), phase="stream")

    async def aclose(self) -> None:
        await self._source.aclose()  # type: ignore[attr-defined]


@attrs.define(eq=False)
class Task:
    """A task that waits for the stream."""

    kind: str
    scope: anyio.CancelScope = attrs.field(factory=anyio.CancelScope)
    over: bool = False


class Program:
    """Runs the steps, and checks the rules after each."""

    def __init__(self, kind: str, tasks: Any) -> None:
        self.tasks = tasks
        self.source = Source()
        self.builder = MessageBuilder(model())
        self.running: list[Task] = []
        self.produced = 0
        self.seen: list[StreamEvent] = []
        self.ended = self.closed = self.cut = False
        self.results: list[Any] = []
        self.final: Any = None
        if kind == "channel":
            self.sink, self.events = open_event_channel(model())
            self.send: Callable[[Any], None] = self._push
            self.close: Callable[[], None] = self.sink.end
            self.forget: Callable[[], None] = self.sink.end
        else:
            into, batches = anyio.create_memory_object_stream[Any](1000)
            made = self.source.generate(batches)
            self.events = event_stream(made if kind == "generator" else Waiting(made), model=model())
            self.send, self.close, self.forget = into.send_nowait, into.close, batches.close
        self.kind = kind

    def _push(self, batch: Callable[[], list[StreamEvent]]) -> None:
        for event in batch():
            self.sink.push(event)

    async def step(self, name: str, argument: int) -> None:
        await getattr(self, name)(*([argument] if name in ("produce", "cancel") else []))
        await settled()
        self.check()

    # ── steps ────────────────────────────────────────────────────────────────────────────────────────────────

    async def produce(self, count: int) -> None:
        first, self.produced = self.produced, self.produced + count
        self._give(lambda: [e for number in range(first, first + count) for e in self.builder.text(f"{number} ")])

    async def finish(self) -> None:
        self._give(lambda: self.builder.finish("stop"))
        self.ended = True

    async def fail(self) -> None:
        self._give(self._fail)
        self.ended = True

    def _fail(self) -> list[StreamEvent]:
        if self.kind == "channel":
            return [self.builder.fail("no more")]
        raise ValueError("no more")

    async def stop(self) -> None:
        """The source ends without a last event."""
        if not self.ended:
            self.ended = True
            self.close()

    def _give(self, batch: Callable[[], list[StreamEvent]]) -> None:
        if not self.ended:
            try:
                self.send(batch)
            except anyio.BrokenResourceError:
                self.ended = True  # nobody reads any more
                assert self.events.done

    async def read(self) -> None:
        busy = any(task.kind == "read" for task in self.running)
        if busy:
            with pytest.raises(StreamBusyError):
                await anext(self.events)
        else:
            self._start("read", self._read_one)

    async def drain(self) -> None:
        """Everything that is there, as fast as it goes."""
        if not any(task.kind == "read" for task in self.running):
            self._start("read", self._read_all)

    async def result(self) -> None:
        self._start("result", self._await_result)

    async def cancel(self, which: int) -> None:
        if self.running:
            task = self.running[which % len(self.running)]
            task.scope.cancel()
            await settled()
            assert task.over
            assert self.events.done  # S6
            self.cut = True

    async def abort(self) -> None:
        self.events.abort()

    async def aclose(self) -> None:
        await self.events.aclose()
        self.closed = True
        assert self.events.done

    async def message(self) -> None:
        assert self.events.message.text == "".join(
            f"{number} " for number in range(len(self.events.message.text.split()))
        )

    # ── tasks ────────────────────────────────────────────────────────────────────────────────────────────────

    def _start(self, kind: str, function: Callable[[], Awaitable[None]]) -> None:
        task = Task(kind)
        self.running.append(task)

        async def run() -> None:
            try:
                with task.scope:
                    await function()
            finally:
                task.over = True
                self.running.remove(task)

        self.tasks.start_soon(run)

    async def _read_one(self) -> None:
        try:
            self.seen.append(await anext(self.events))
        except StopAsyncIteration:
            assert self.events.done
            self.closed = True

    async def _read_all(self) -> None:
        async for event in self.events:
            self.seen.append(event)
        assert self.events.done
        self.closed = True

    async def _await_result(self) -> None:
        self.results.append(await self.events.result())

    # ── rules ────────────────────────────────────────────────────────────────────────────────────────────────

    def check(self) -> None:
        events, message = self.events, self.events.message
        if events.done or self.kind != "channel":  # who pushes has the message in hand, and may finish it first
            assert (message.stop_reason == "pending") is not events.done  # S21
        if events.done:
            self.final = self.final or message
            assert message is self.final
            assert not self.running  # nobody waits for what has ended
            assert self.source.released == self.source.started  # S17
        kinds = [event.type for event in self.seen]
        last = [kind for kind in kinds if kind in ("done", "error")]
        assert len(last) <= 1  # S4
        assert not last or kinds[-1] == last[0]
        assert not kinds or kinds[0] in ("start", "error", "done")
        assert kinds.count("start") <= 1
        deltas = [event.delta for event in self.seen if event.type == "text_delta"]
        assert deltas == [f"{number} " for number in range(len(deltas))]  # none is lost, none comes twice (S11)
        assert all(result is self.final for result in self.results)

    async def end(self) -> None:
        """Close the stream: then everything is over."""
        await self.events.aclose()
        await settled()
        assert not self.running
        assert [event async for event in self.events] == []  # S9
        self.check()
        self.close()
        self.forget()


@pytest.mark.parametrize("kind", SOURCES)
@given(st.lists(STEPS, max_size=12))
@settings(max_examples=100, deadline=None)
async def test_a_stream_keeps_its_rules_under_any_program_F43_F58_F59_F63(
    kind: str, steps: list[tuple[str, int]]
) -> None:
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            program = Program(kind, tasks)
            for step in steps:
                await program.step(*step)
            await program.end()
