"""What the methods share: a call of every wire, what a process holds, and coroutines that are stopped at any wait."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping
from functools import partial
from typing import Any

import anyio
import attrs
import pytest

from pi_ai import AssistantMessage, Context, EventStream, StreamEvent, TextContent, ThinkingContent, ToolCall
from pi_ai.testing import Sandbox, Turn
from pi_ai.testing.wires import WIRES
from pi_ai.types import UserMessage
from pi_ai_tests.adapters.reading import check_grammar

APIS = tuple(WIRES)
CONTEXT = Context([UserMessage("What is the weather?", timestamp=1)])
TURN = Turn(
    [
        ThinkingContent("Let me think.", "c2ln"),
        "It is “sunny” in Zürich \N{SUN WITH FACE}",
        ToolCall("call_1", "weather", {"city": "Zürich", "days": [1, 2]}),
    ]
)
"""A thought, a text and a call, with characters of more than one byte."""

every_api = pytest.mark.parametrize("api", APIS)
_LOOPS: dict[str, Any] = {"asyncio": ("asyncio", {"use_uvloop": False}), "trio": ("trio", {})}
both_loops = pytest.mark.parametrize(
    "anyio_backend", [pytest.param(loop, id=name) for name, loop in _LOOPS.items()], indirect=True
)
"""For what takes long: uvloop is asyncio with another selector."""
every_api_in_turn = pytest.mark.parametrize(
    ("api", "anyio_backend"),
    [
        pytest.param(api, loop, id=f"{api}-{name}")
        for number, api in enumerate(APIS)
        for turn, (name, loop) in enumerate(_LOOPS.items())
        if number == 0 or number % 2 == turn
    ],
    indirect=["anyio_backend"],
)
"""For what takes longer: no wire knows which loop it runs on, so that each has one of them, and the first one both."""


class Stepped:
    """Awaits a coroutine, and does something when it waits for the n-th time: exact on every event loop.

    :ivar waits: how often it has waited.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any], at: int, then: Callable[[], None]) -> None:
        self.coroutine = coroutine
        self.at = at
        self.then = then
        self.waits = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        inner = self.coroutine.__await__()
        step: Callable[[], Any] = partial(next, inner)
        while True:
            try:
                wanted = step()
            except StopIteration as stop:
                return stop.value
            self.waits += 1
            if self.waits == self.at:
                self.then()
            try:
                value = yield wanted
                step = partial(inner.send, value)
            except BaseException as error:
                step = partial(inner.throw, error)


_POOLED = ("Trio thread", "AnyIO worker thread")
"""Names of the threads that the event loops keep for a while, for the next one that needs a thread."""


@attrs.frozen
class Held:
    """What a process holds: descriptors, tasks of this event loop, threads, and objects that the collector knows."""

    descriptors: int
    tasks: int
    threads: int
    objects: int

    @classmethod
    def now(cls) -> Held:
        gc.collect()
        return cls(
            len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0,
            len(anyio.get_running_tasks()),
            sum(not thread.name.startswith(_POOLED) for thread in threading.enumerate()),
            len(gc.get_objects()),
        )

    def over(self, other: Held) -> dict[str, int]:
        """What is held now and was not then, but for objects: whoever counts those has to allow for some."""
        grown = {name: value - getattr(other, name) for name, value in attrs.asdict(self).items() if name != "objects"}
        return {name: more for name, more in grown.items() if more > 0}


async def until(condition: Callable[[], bool], within_s: float = 30) -> None:
    """Wait until something is so."""
    with anyio.fail_after(within_s):
        while not condition():
            await anyio.sleep(0.002)


async def nothing_more_than(before: Held, within_s: float = 10) -> None:
    """Wait until the process holds no more than it did."""
    more: Mapping[str, int] = {"not counted yet": 1}
    with anyio.move_on_after(within_s):
        while more := Held.now().over(before):
            await anyio.sleep(0.01)
    assert not more, f"still held: {more}, {threading.enumerate()}"


async def served_at_once(pi: Any, box: Sandbox, api: str, within_s: float = 20) -> None:
    """The next request is served: the pool is whole."""
    box.script(Turn("At once."))
    with anyio.fail_after(within_s):
        message = await pi.complete(box.model(api), CONTEXT)
    assert message.text == "At once.", message.error_message


async def collect(events: EventStream, seen: list[StreamEvent]) -> None:
    async for event in events:
        seen.append(event)  # noqa: PERF401 - what came before a cancellation counts


def check_ending(seen: Iterable[StreamEvent], message: AssistantMessage) -> None:
    """The terminal rule: one terminal event, which is the last, and whose message is the stream's."""
    events = list(seen)
    assert events
    last = events[-1]
    assert last.type in ("done", "error")
    assert [event.type for event in events].count(last.type) == 1
    assert last.message is message
    assert message.stop_reason == last.reason
    assert (message.error_info is None) == (last.type == "done" or last.reason == "aborted")
    begun = [event for event in events if event.type != "error"]
    check_grammar(begun, ended=last.type == "done")


def said(message: AssistantMessage) -> list[Any]:
    """The content of a message, as it compares: without signatures and the ids that servers make up."""
    parts: list[Any] = []
    for block in message.content:
        match block:
            case TextContent():
                parts.append(("text", block.text))
            case ThinkingContent():
                parts.append(("thinking", block.thinking))
            case ToolCall():
                parts.append(("call", block.name, block.arguments))
    return parts
