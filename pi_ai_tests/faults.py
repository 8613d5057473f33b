"""What the tests of faults share: every wire in pieces that can be cut, mixed and broken, and calls over real sockets.

The bytes are those of the sandbox's renderers. ``wire.say(…)`` gives an answer in four parts, ``begin``, ``pieces``,
``proof`` and ``mark``; a :class:`Script` plays any of them, byte for byte, and ends as it is told.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import anyio
import attrs
import pytest

from pi_ai import AssistantMessage, DoneEvent, ErrorEvent, EventStream, Model, Registry, StreamEvent
from pi_ai.errors import ErrorInfo
from pi_ai.testing import Failure, Turn
from pi_ai.testing.server import Answer, Received, Server
from pi_ai.testing.turns import Block, RawToolCall
from pi_ai.testing.wires import WIRES as RENDERERS
from pi_ai.testing.wires.base import Asked
from pi_ai_tests.adapters.reading import check_grammar
from pi_ai_tests.rigs import CONTEXT, model

ASKED = Asked(number=1, model="test-model", body={"stream_options": {"include_usage": True}})
WHOLE = "start text_start text_delta text_delta text_end done"
"""What ``wire.letters("ab")`` gives."""


# ── wires ────────────────────────────────────────────────────────────────────────────────────────────────────


@attrs.frozen
class Said:
    """An answer in parts.

    :ivar begin: what comes before content. ``pieces``: content, each piece with what follows it.
    :ivar proof: the reason of the ending, and all but ``mark``, which only says that nothing follows.
    :ivar open_events: wire events as far as the last piece.
    """

    begin: bytes
    pieces: tuple[bytes, ...]
    proof: bytes
    mark: bytes
    open_events: int

    @property
    def open(self) -> bytes:
        """As far as the last piece of content; its block stays open."""
        return self.begin + b"".join(self.pieces)

    @property
    def whole(self) -> bytes:
        return self.open + self.proof + self.mark


class Wire:
    """An API as its provider speaks it.

    :ivar sse: server-sent events; else binary frames.
    :ivar marked: what is last on the wire is no part of the proof. ``ends``: its last event ends the answer; else only
        the end of the body does.
    :ivar piecewise: the arguments of a call come in pieces.
    """

    def __init__(self, api: str) -> None:
        self.api = api
        self.renderer = RENDERERS[api]
        self.sse = self.renderer.media_type.startswith("text/event-stream")
        self.marked = not api.startswith("google-") and not api.endswith("openai-responses")
        self.ends = not api.startswith("google-")
        self.piecewise = not api.startswith("google-")
        self.headers = {"content-type": self.renderer.media_type}

    def say(self, *content: str | Block, piece_size: int | None = None, **turn: Any) -> Said:
        """A turn in parts."""
        events = self.renderer.render(Turn(content, piece_size=piece_size, **turn), ASKED).events
        parts = [event.part for event in events]
        content_at = [at for at, part in enumerate(parts) if part == "piece"]
        ending_at = next(at for at, part in enumerate(parts) if part in ("ending", "mark"))
        first, last = (content_at[0], content_at[-1] + 1) if content_at else (ending_at, ending_at)
        marks = len(events) - 1 if self.marked else len(events)
        edges = [*content_at, last]
        data = [event.data for event in events]
        return Said(
            begin=b"".join(data[:first]),
            pieces=tuple(b"".join(data[start:end]) for start, end in pairwise(edges)),
            proof=b"".join(data[last:marks]),
            mark=b"".join(data[marks:]),
            open_events=last,
        )

    def letters(self, text: str) -> Said:
        """A text, one letter a delta."""
        return self.say(text, piece_size=1)

    def call(self, arguments: str) -> Said:
        """A call of ``get_weather`` whose arguments are this text, in pieces of nine characters."""
        return self.say(RawToolCall("call_1", "get_weather", arguments), piece_size=9)

    def error(self, failure: Failure) -> bytes:
        """What the provider says of a failure: a body, or what stands in an event."""
        return json.dumps(self.renderer.failure(failure, ASKED)).encode()

    def error_event(self, failure: Failure) -> bytes:
        return self.renderer.failure_event(failure, ASKED, 0).data

    def refusal(self, failure: Failure) -> Script:
        """The failure as an HTTP error."""
        rendered = self.renderer.render(failure, ASKED)
        return Script(tuple(event.data for event in rendered.events), rendered.status, rendered.headers)

    def event(self, data: bytes) -> bytes:
        """An event like those with content, with other data than these."""
        name, _, _ = self.letters("a").pieces[0].partition(b"data:")
        return name + b"data: " + data + b"\n\n"


WIRES = {api: Wire(api) for api in RENDERERS}
CHAT, CLAUDE = WIRES["openai-completions"], WIRES["anthropic-messages"]


def over(chosen: Callable[[Wire], bool] = lambda _: True) -> Any:
    """Runs a test over the wires of which something is true; by default over all."""
    wires = [pytest.param(wire, id=wire.api) for wire in WIRES.values() if chosen(wire)]
    return pytest.mark.parametrize("wire", wires)


every_wire = over()
event_streams = over(lambda wire: wire.sse)
in_pieces = over(lambda wire: wire.piecewise)
both_decoders = pytest.mark.usefixtures("http")
"""Runs a test over both decoders of chunked bodies: for what is about the bytes and the end of a body."""


# ── answers ──────────────────────────────────────────────────────────────────────────────────────────────────

CLOSE, RESET, STALL, END = "close", "reset", "stall", "end"


@attrs.frozen
class Script:
    """An answer, step by step: bytes are one chunk each, a word is how it ends (default: the body ends).

    :ivar headers: default: those of the wire.
    """

    steps: tuple[bytes | str, ...]
    status: int = 200
    headers: Mapping[str, str] | None = None

    async def play(self, answer: Answer, wire: Wire) -> None:
        await answer.head(self.status, wire.headers if self.headers is None else self.headers)
        for step in self.steps:
            if isinstance(step, bytes):
                await answer.send(step)
            else:
                await anyio.sleep(0.01)  # what was sent shall arrive before it
                await getattr(answer, step)()
                return
        await answer.end()


def well(wire: Wire) -> Script:
    return Script((wire.letters("ab").whole,))


# ── calls ────────────────────────────────────────────────────────────────────────────────────────────────────


@attrs.define
class Got:
    """What came of a call."""

    events: list[StreamEvent]
    requests: list[Received]

    @property
    def types(self) -> str:
        return " ".join(event.type for event in self.events)

    @property
    def message(self) -> AssistantMessage:
        last = self.events[-1]
        assert isinstance(last, (DoneEvent, ErrorEvent))
        return last.message

    @property
    def info(self) -> ErrorInfo:
        assert self.message.error_info is not None, self.message
        return self.message.error_info

    def note(self, kind: str) -> Any:
        """The details of a diagnostic; None: there is none of that type."""
        notes = [note for note in self.message.diagnostics or [] if note.type == kind]
        return (notes[0].details or {}) if notes else None


@asynccontextmanager
async def serving(wire: Wire, *scripts: Script) -> AsyncIterator[Server]:
    """A server that plays the n-th script to the n-th request, the last one for ever."""

    async def handler(request: Received, answer: Answer) -> None:
        await scripts[min(len(server.requests), len(scripts)) - 1].play(answer, wire)

    async with Server(handler) as server:
        yield server


def model_at(wire: Wire, server: Server, **fields: Any) -> Model:
    return model(f"{server.url}/{wire.api}{wire.renderer.base}", api=wire.api, **fields)


def calling(wire: Wire, pi: Registry, server: Server, **options: Any) -> EventStream:
    return pi.stream(model_at(wire, server), CONTEXT, **{"max_retries": 0, "api_key": "k" * 20, **options})


async def called(wire: Wire, *script: Any, again: Script | None = None, **options: Any) -> Got:
    """Make a call that is answered by a script; its events keep the grammar, its connection is released."""
    first = script[0] if isinstance(script[0], Script) else Script(script)
    async with serving(wire, first, *([again] if again else [])) as server:
        async with Registry() as pi:
            with anyio.fail_after(20):
                events = [event async for event in calling(wire, pi, server, **options)]
        await until(lambda: server.open == 0)
    last = events[-1]
    check_grammar([event for event in events if event.type != "error"], ended=isinstance(last, DoneEvent))
    assert isinstance(last, (DoneEvent, ErrorEvent))  # the terminal rule
    return Got(events, server.requests)


async def until(condition: Callable[[], bool], within: float = 5) -> None:
    with anyio.fail_after(within):
        while not condition():
            await anyio.sleep(0.002)
