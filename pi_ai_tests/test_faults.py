"""The fault matrix over real sockets, for every wire: parts A, B, C and F of the reliability contract.

A wire is a small class that says the same things in the words of one API; one more entry in ``WIRES`` runs all
of it over another API. Numbers are those of the contract.
"""

from __future__ import annotations

import asyncio
import gc
import json
import re
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import attrs
import pytest

from pi_ai import (
    AssistantMessage,
    Context,
    DoneEvent,
    ErrorEvent,
    EventStream,
    Registry,
    StreamEvent,
    TextDeltaEvent,
    UserMessage,
)
from pi_ai.errors import ErrorInfo, PiAIError
from pi_ai.retries import RetryPolicy
from pi_ai.testing.server import Answer, Received, Server
from pi_ai_tests.rigs import CONTEXT, SSE, model

pytestmark = pytest.mark.anyio


# ── wires ────────────────────────────────────────────────────────────────────────────────────────────────────


class Wire:
    """What a test says, in the words of one API.

    :cvar end: the last marker, which may be missing; empty where there is none.
    :cvar proof_ends: the proof is the last event.
    :cvar ping: a sign of life without meaning.
    :cvar pieces: the arguments of a call come in pieces.
    """

    api: str
    end: bytes = b""
    ping: bytes = b": ping\n\n"
    proof_ends = False
    pieces = True

    def text(self, *deltas: str) -> bytes:
        """An answer that begins with these deltas; the block stays open."""
        raise NotImplementedError

    def more(self, delta: str) -> bytes:
        """One more delta of it."""
        raise NotImplementedError

    def call(self, *pieces: str) -> bytes:
        """An answer that begins with a call of ``get_weather`` whose arguments come in pieces."""
        raise NotImplementedError

    def proof(self, reason: str = "stop") -> bytes:
        """The block ends, and the proof of completion; ``reason``: ``stop``, ``length`` or ``toolUse``."""
        raise NotImplementedError

    def begun(self) -> bytes:
        """What comes before content."""
        raise NotImplementedError

    def strange(self) -> bytes:
        """An event of a kind that nobody knows, and what is known with fields that nobody knows."""
        raise NotImplementedError

    def junk(self, data: bytes) -> bytes:
        """An event with other data than JSON."""
        raise NotImplementedError

    def disorder(self) -> bytes:
        """A whole call out of order: pieces before the beginning, the end twice."""
        raise NotImplementedError

    def error(self, kind: str, message: str) -> Any:
        """The JSON of an error, as a body or an event; ``kind``: ``overloaded``, ``server`` or ``overflow``."""
        raise NotImplementedError

    def error_event(self, kind: str, message: str) -> bytes:
        raise NotImplementedError

    def whole(self, text: str) -> Any:
        """The JSON of an answer that is not streamed."""
        raise NotImplementedError


def event(data: Any, name: str = "") -> bytes:
    text = json.dumps(data, ensure_ascii=False)
    return f"event: {name}\ndata: {text}\n\n".encode() if name else f"data: {text}\n\n".encode()


class Completions(Wire):
    """``openai-completions``."""

    api = "openai-completions"
    end = b"data: [DONE]\n\n"
    reasons = {"stop": "stop", "length": "length", "toolUse": "tool_calls"}  # noqa: RUF012
    kinds = {  # noqa: RUF012
        "overloaded": ("overloaded_error", None),
        "server": ("server_error", 500),
        "overflow": ("invalid_request_error", "context_length_exceeded"),
    }

    def chunk(self, delta: Any, finish: str | None = None) -> bytes:
        return event({"id": "c1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

    def text(self, *deltas: str) -> bytes:
        return b"".join(map(self.more, deltas))

    def more(self, delta: str) -> bytes:
        return self.chunk({"content": delta})

    def piece(self, arguments: str, **more: Any) -> bytes:
        return self.chunk({"tool_calls": [{"index": 0, "function": {"arguments": arguments, **more}}]})

    def call(self, *pieces: str) -> bytes:
        function = {"name": "get_weather", "arguments": ""}
        begin = self.chunk({"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": function}]})
        return begin + b"".join(map(self.piece, pieces))

    def proof(self, reason: str = "stop") -> bytes:
        usage = {"id": "c1", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 3}}
        return self.chunk({}, self.reasons[reason]) + event(usage)

    def begun(self) -> bytes:
        return self.chunk({"role": "assistant", "content": ""})

    def strange(self) -> bytes:
        odd = {"index": 0, "delta": {"hologram": {"x": 1}}, "finish_reason": None, "weather": []}
        return event({"object": "never.heard", "choices": [odd]}) + event({"type": "news", "data": 1}, "news")

    def junk(self, data: bytes) -> bytes:
        return b"data: " + data + b"\n\n"

    def disorder(self) -> bytes:
        late = {"index": 0, "id": "call_1", "function": {"name": "get_weather", "arguments": '"Paris"}'}}
        done = self.chunk({}, "tool_calls")
        return self.piece('{"city": ') + self.chunk({"tool_calls": [late]}) + done + done

    def error(self, kind: str, message: str) -> Any:
        type_, code = self.kinds[kind]
        return {"error": {"message": message, "type": type_, "code": code}}

    def error_event(self, kind: str, message: str) -> bytes:
        return event(self.error(kind, message))

    def whole(self, text: str) -> Any:
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return {"id": "c1", "choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 3}}


class Messages(Wire):
    """``anthropic-messages``."""

    api = "anthropic-messages"
    end = b'event: message_stop\ndata: {"type": "message_stop"}\n\n'
    ping = b'event: ping\ndata: {"type": "ping"}\n\n'
    reasons = {"stop": "end_turn", "length": "max_tokens", "toolUse": "tool_use"}  # noqa: RUF012
    kinds = {  # noqa: RUF012
        "overloaded": "overloaded_error",
        "server": "api_error",
        "overflow": "invalid_request_error",
    }

    def named(self, type: str, **fields: Any) -> bytes:  # noqa: A002
        return event({"type": type, **fields}, type)

    def begun(self) -> bytes:
        usage = {"input_tokens": 5, "output_tokens": 1}
        message = {"id": "m1", "type": "message", "role": "assistant", "content": [], "model": "test-model"}
        return self.named("message_start", message={**message, "stop_reason": None, "usage": usage})

    def block(self, block: Any) -> bytes:
        return self.begun() + self.named("content_block_start", index=0, content_block=block)

    def delta(self, **delta: Any) -> bytes:
        return self.named("content_block_delta", index=0, delta=delta)

    def text(self, *deltas: str) -> bytes:
        return self.block({"type": "text", "text": ""}) + b"".join(map(self.more, deltas))

    def more(self, delta: str) -> bytes:
        return self.delta(type="text_delta", text=delta)

    def piece(self, arguments: str) -> bytes:
        return self.delta(type="input_json_delta", partial_json=arguments)

    def call(self, *pieces: str) -> bytes:
        begin = self.block({"type": "tool_use", "id": "call_1", "name": "get_weather", "input": {}})
        return begin + b"".join(map(self.piece, pieces))

    def proof(self, reason: str = "stop") -> bytes:
        stop = self.named("content_block_stop", index=0)
        return stop + self.ended(reason)

    def ended(self, reason: str) -> bytes:
        delta = {"stop_reason": self.reasons[reason], "stop_sequence": None}
        return self.named("message_delta", delta=delta, usage={"output_tokens": 3})

    def strange(self) -> bytes:
        return self.named("news", data=1) + self.delta(type="hologram_delta", x=1)

    def junk(self, data: bytes) -> bytes:
        return b"event: content_block_delta\ndata: " + data + b"\n\n"

    def disorder(self) -> bytes:
        stop = self.named("content_block_stop", index=0)
        return self.call('{"city": "Paris"}') + stop + stop + self.ended("toolUse")

    def error(self, kind: str, message: str) -> Any:
        return {"type": "error", "error": {"type": self.kinds[kind], "message": message}}

    def error_event(self, kind: str, message: str) -> bytes:
        return event(self.error(kind, message), "error")

    def whole(self, text: str) -> Any:
        usage = {"input_tokens": 5, "output_tokens": 3}
        content = [{"type": "text", "text": text}]
        return {"id": "m1", "type": "message", "role": "assistant", "content": content, "stop_reason": "end_turn",
                "usage": usage}  # fmt: skip


class Responses(Wire):
    """``openai-responses``."""

    api = "openai-responses"
    proof_ends = True
    kinds = {"overloaded": "server_is_overloaded", "server": "server_error", "overflow": "context_length_exceeded"}  # noqa: RUF012
    item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress", "content": []}  # noqa: RUF012
    function = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "get_weather", "arguments": ""}  # noqa: RUF012

    def __init__(self) -> None:
        self.said = ""
        self.open: Any = None

    def typed(self, kind: str, **fields: Any) -> bytes:
        return event({"type": f"response.{kind}", **fields}, f"response.{kind}")

    def response(self, status: str, **fields: Any) -> Any:
        return {"id": "resp_1", "object": "response", "status": status, "model": "test-model", "output": [], **fields}

    def begun(self) -> bytes:
        self.said, self.open = "", None
        return self.typed("created", response=self.response("in_progress"))

    def text(self, *deltas: str) -> bytes:
        begin = self.begun() + self.typed("output_item.added", output_index=0, item=self.item)
        part = {"type": "output_text", "text": "", "annotations": []}
        begin += self.typed("content_part.added", output_index=0, content_index=0, item_id="msg_1", part=part)
        self.open = self.item
        return begin + b"".join(map(self.more, deltas))

    def more(self, delta: str) -> bytes:
        self.said += delta
        return self.typed("output_text.delta", output_index=0, content_index=0, item_id="msg_1", delta=delta)

    def call(self, *pieces: str) -> bytes:
        begin = self.begun() + self.typed("output_item.added", output_index=0, item=self.function)
        self.open = self.function
        return begin + b"".join(map(self.piece, pieces))

    def piece(self, arguments: str) -> bytes:
        self.said += arguments
        return self.typed("function_call_arguments.delta", output_index=0, item_id="fc_1", delta=arguments)

    def done(self) -> Any:
        if self.open is self.function:
            return {**self.function, "arguments": self.said, "status": "completed"}
        content = [{"type": "output_text", "text": self.said, "annotations": []}]
        return {**self.item, "content": content, "status": "completed"}

    def proof(self, reason: str = "stop") -> bytes:
        item = self.done() if self.open and reason != "length" else None
        usage = {"input_tokens": 5, "output_tokens": 3, "total_tokens": 8}
        more: Any = {"incomplete_details": {"reason": "max_output_tokens"}} if reason == "length" else {}
        status = "incomplete" if reason == "length" else "completed"
        ended = self.response(status, output=[item] if item else [], usage=usage, **more)
        stop = self.typed("output_item.done", output_index=0, item=item) if item else b""
        return stop + self.typed(status, response=ended)

    def strange(self) -> bytes:
        return self.typed("hologram.delta", delta="x") + event({"type": "news", "data": 1}, "news")

    def junk(self, data: bytes) -> bytes:
        return b"event: response.output_text.delta\ndata: " + data + b"\n\n"

    def disorder(self) -> bytes:
        call = self.call('{"city": "Paris"}')
        item = self.typed("output_item.done", output_index=0, item=self.done())
        return call + item + item + self.typed("output_text.delta", output_index=9, delta="x") + self.proof()

    def error(self, kind: str, message: str) -> Any:
        return {"error": {"message": message, "type": "invalid_request_error", "code": self.kinds[kind]}}

    def error_event(self, kind: str, message: str) -> bytes:
        error = {"code": self.kinds[kind], "message": message}
        return self.typed("failed", response=self.response("failed", error=error))

    def whole(self, text: str) -> Any:
        self.said, self.open = text, self.item
        usage = {"input_tokens": 5, "output_tokens": 3, "total_tokens": 8}
        return self.response("completed", output=[self.done()], usage=usage)


class Gemini(Wire):
    """``google-generative-ai``."""

    api = "google-generative-ai"
    pieces = False
    reasons = {"stop": "STOP", "length": "MAX_TOKENS", "toolUse": "STOP"}  # noqa: RUF012
    kinds = {"overloaded": (503, "UNAVAILABLE"), "server": (500, "INTERNAL"), "overflow": (400, "INVALID_ARGUMENT")}  # noqa: RUF012

    def candidate(self, *parts: Any, **fields: Any) -> Any:
        content = {"content": {"role": "model", "parts": list(parts)}} if parts else {}
        return {"candidates": [{"index": 0, **content, **fields}], "responseId": "g1"}

    def begun(self) -> bytes:
        return event({"responseId": "g1", "modelVersion": "test-model"})

    def text(self, *deltas: str) -> bytes:
        return b"".join(map(self.more, deltas))

    def more(self, delta: str) -> bytes:
        return event(self.candidate({"text": delta}))

    def usage(self) -> Any:
        return {"usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 3, "totalTokenCount": 8}}

    def proof(self, reason: str = "stop") -> bytes:
        return event({**self.candidate(finishReason=self.reasons[reason]), **self.usage()})

    def strange(self) -> bytes:
        return event({**self.candidate({"hologram": {"x": 1}}), "weather": []})

    def junk(self, data: bytes) -> bytes:
        return b"data: " + data + b"\n\n"

    def error(self, kind: str, message: str) -> Any:
        code, status = self.kinds[kind]
        return {"error": {"code": code, "message": message, "status": status}}

    def error_event(self, kind: str, message: str) -> bytes:
        return event(self.error(kind, message))

    def whole(self, text: str) -> Any:
        return {**self.candidate({"text": text}, finishReason="STOP"), **self.usage()}


WIRES = {wire.api: wire for wire in (Completions(), Messages(), Responses(), Gemini())}
CHAT = WIRES["openai-completions"]


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest) -> Wire:
    return WIRES[request.param]


@pytest.fixture(params=[api for api, wire in WIRES.items() if wire.pieces])
def piecewise(request: pytest.FixtureRequest) -> Wire:
    return WIRES[request.param]


@pytest.fixture(autouse=True)
def no_time_is_lost_between_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RetryPolicy, "_wait", lambda policy, state: 0.0)


# ── calls ────────────────────────────────────────────────────────────────────────────────────────────────────

CLOSE, RESET, STALL, END = "close", "reset", "stall", "end"


@attrs.frozen
class Script:
    """An answer, step by step: bytes are one chunk each, a word is how it ends (default: the body ends)."""

    steps: tuple[Any, ...]
    status: int = 200
    headers: dict[str, str] = SSE

    async def play(self, answer: Answer) -> None:
        await answer.head(self.status, self.headers)
        for step in self.steps:
            if isinstance(step, bytes):
                await answer.send(step)
            else:
                await anyio.sleep(0.01)  # what was sent shall arrive before it
                await getattr(answer, step)()
                return
        await answer.end()


@attrs.define
class Got:
    """What came of a call."""

    events: list[StreamEvent]
    requests: list[Received]
    connections: int

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


@asynccontextmanager
async def serving(*scripts: Script) -> AsyncIterator[Server]:
    """A server that plays the n-th script to the n-th request, the last one for ever."""

    async def handler(request: Received, answer: Answer) -> None:
        await scripts[min(len(server.requests), len(scripts)) - 1].play(answer)

    async with Server(handler) as server:
        yield server


def calling(wire: Wire, pi: Registry, server: Server, **options: Any) -> EventStream:
    return pi.stream(model(server.url, api=wire.api), CONTEXT, **{"max_retries": 0, "api_key": "k" * 20, **options})


async def called(wire: Wire, *script: Any, again: Script | None = None, **options: Any) -> Got:
    """Make a call that is answered by a script; its events keep the grammar, its connection is released."""
    first = script[0] if isinstance(script[0], Script) else Script(script)
    async with serving(first, *([again] if again else [])) as server:
        async with Registry() as pi:
            with anyio.fail_after(10):
                events = [event async for event in calling(wire, pi, server, **options)]
        await until(lambda: server.open == 0)
    check_grammar(events)
    return Got(events, server.requests, server.connections)


def well(wire: Wire) -> Script:
    return Script((wire.text("a", "b"), wire.proof(), wire.end))


async def until(condition: Any, within: float = 5) -> None:
    with anyio.fail_after(within):
        while not condition():
            await anyio.sleep(0.002)


def check_grammar(events: list[StreamEvent]) -> None:
    """``start``, blocks that begin, go on and end, and exactly one terminal event (T18)."""
    assert isinstance(events[-1], (DoneEvent, ErrorEvent))
    assert [event.type for event in events].count("start") == (1 if len(events) > 1 else len(events) - 1)
    state: dict[int, str] = {}
    for event in events[1:-1]:
        kind, _, what = event.type.rpartition("_")
        index = event.content_index  # type: ignore[union-attr]
        if what == "start":
            assert index == len(state)
            state[index] = kind
        else:
            assert state[index] == kind
            state[index] = "" if what == "end" else kind
    assert isinstance(events[-1], ErrorEvent) or not any(state.values())


WHOLE = "start text_start text_delta text_delta text_end done"


# ── A. reading ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_F1_only_line_feeds_and_carriage_returns_end_a_line(wire: Wire) -> None:
    text = "a\u2028b\u2029c\u0085d"
    got = await called(wire, wire.text(text), wire.proof(), wire.end)
    assert got.message.text == text


async def test_F2_one_byte_a_packet(wire: Wire) -> None:
    data = wire.text("größer — 你好 🙂") + wire.proof() + wire.end
    got = await called(wire, *[data[at : at + 1] for at in range(len(data))])
    assert got.message.text == "größer — 你好 🙂"


@pytest.mark.parametrize("line_end", [b"\r\n", b"\r", b"mixed"])
@pytest.mark.parametrize("size", [1, 7, 4096])
async def test_F3_every_line_end_in_every_cut(wire: Wire, line_end: bytes, size: int) -> None:
    lines = (wire.text("a", "b") + wire.proof() + wire.end).split(b"\n")
    ends = [b"\r\n", b"\n", b"\r"] if line_end == b"mixed" else [line_end]
    # A CR before an LF would be one end, not two.
    data = b"".join(line + ends[number // 2 % len(ends)] for number, line in enumerate(lines[:-1]))
    got = await called(wire, *[data[at : at + size] for at in range(0, len(data), size)])
    assert got.types == WHOLE


async def test_F3_a_cr_at_the_end_of_a_packet_holds_nothing_back(wire: Wire) -> None:
    data = wire.text("a").replace(b"\n", b"\r")
    async with serving(Script((data, STALL))) as server, Registry() as pi, calling(wire, pi, server) as events:
        with anyio.fail_after(2):
            async for event in events:
                if isinstance(event, TextDeltaEvent):
                    break


async def test_F4_a_byte_order_mark_is_dropped(wire: Wire) -> None:
    data = b"\xef\xbb\xbf" + wire.text("a", "b")
    assert (await called(wire, data, wire.proof(), wire.end)).types == WHOLE
    assert (await called(wire, data[:2], data[2:], wire.proof(), wire.end)).types == WHOLE


async def test_F5_F6_comments_pings_blank_lines_and_blocks_without_data_mean_nothing(wire: Wire) -> None:
    noise = b":\n\n: keep-alive\n\n\n\n\nretry: 100\n\nid: 7\n\nevent: message\n\nevent: ping\nid: 8\n\n" + wire.ping
    got = await called(wire, noise, wire.text("a"), noise, wire.more("b"), noise, wire.proof(), noise, wire.end)
    assert got.types == WHOLE
    assert got.message.diagnostics is None


async def test_F7_data_without_a_blank_and_over_several_lines(wire: Wire) -> None:
    data = wire.text("a", "b") + wire.proof() + wire.end
    tight = data.replace(b"data: ", b"data:").replace(b"event: ", b"event:")
    assert (await called(wire, tight)).types == WHOLE
    broken = re.sub(rb'data: \{"(\w+)": ', rb'data: {\ndata: "\1":\ndata: ', data)
    assert broken.count(b"data: ") > 2 * data.count(b"data: ")
    assert (await called(wire, broken)).types == WHOLE


async def test_F8_what_nobody_knows_is_ignored(wire: Wire) -> None:
    odd = wire.strange()
    got = await called(wire, wire.text("a"), odd, wire.more("b"), odd, wire.proof(), wire.end)
    assert got.types == WHOLE


async def test_F10_an_answer_that_comes_in_one_piece_at_the_end_is_only_late(wire: Wire) -> None:
    got = await called(wire, wire.text("a", "b") + wire.proof() + wire.end)
    assert got.types == WHOLE


@pytest.mark.parametrize("junk", [b"{oops", b"\x1b[31m\x07" + b"x" * 1000, b'{"a": NaN}', b'{"a": 1} oops'])
async def test_F11_an_event_that_is_not_json_ends_the_answer_and_is_quoted_in_short(wire: Wire, junk: bytes) -> None:
    got = await called(wire, wire.text("a"), wire.junk(junk), wire.more("b"))
    assert got.types == "start text_start text_delta error"
    assert (got.info.kind, got.info.retryable, got.message.text) == ("protocol", False, "a")
    assert len(got.info.message) < 600
    assert not re.search(r"[\x00-\x1f]", got.info.message)


async def test_F12_bytes_that_are_no_utf_8_become_replacement_characters(wire: Wire) -> None:
    data = wire.text("a?b").replace(b"?", b"\xff\xc3")
    assert (await called(wire, data, wire.proof(), wire.end)).message.text == "a\ufffd\ufffdb"


async def test_F12_a_lone_surrogate_does_no_harm(wire: Wire) -> None:
    data = wire.text("a?b").replace(b"?", rb"\ud83d")
    first = await called(wire, data, wire.proof(), wire.end)
    assert first.message.stop_reason == "stop"
    context = Context([*CONTEXT.messages, first.message, UserMessage("And?")])
    async with serving(well(wire)) as server, Registry() as pi:
        await pi.complete(model(server.url, api=wire.api), context, api_key="k")
        assert '"ab"' in json.dumps(server.requests[0].json)


async def test_F13_an_event_over_the_limit_ends_the_answer(wire: Wire) -> None:
    got = await called(wire, wire.text("a"), b"data: " + b"x" * 3000, b"x" * 3000, STALL, max_event_bytes=5000)
    assert got.types == "start text_start text_delta error"
    assert (got.info.kind, got.message.text) == ("too_large", "a")


async def test_F14_a_large_event_is_delivered(piecewise: Wire) -> None:
    arguments = json.dumps({"image": "x" * 4_000_000})
    data = piecewise.call(arguments)
    pieces = [data[at : at + 500_000] for at in range(0, len(data), 500_000)]
    got = await called(piecewise, *pieces, piecewise.proof("toolUse"), piecewise.end)
    assert got.message.tool_calls[0].arguments == json.loads(arguments)


async def test_F17_a_call_out_of_order_keeps_the_grammar(piecewise: Wire) -> None:
    got = await called(piecewise, piecewise.disorder(), piecewise.end)
    assert got.message.stop_reason == "toolUse"
    assert got.types.count("toolcall_end") == 1
    call = got.message.tool_calls[0]
    assert call.id.startswith("call_1")
    assert (call.name, call.arguments, call.arguments_error) == ("get_weather", {"city": "Paris"}, None)


# ── B. how the answer ends ───────────────────────────────────────────────────────────────────────────────────

CUT = [
    pytest.param(END, "truncated", id="F18 end"),
    pytest.param(CLOSE, "disconnected", id="F22 inside a chunked body"),
    pytest.param(RESET, "disconnected", id="F23 reset"),
]


@pytest.mark.parametrize(("cut", "kind"), CUT)
async def test_F18_F22_F23_an_answer_that_breaks_off_is_an_error_and_keeps_its_text(
    wire: Wire, cut: str, kind: str
) -> None:
    got = await called(wire, wire.text("a", "b"), cut)
    assert got.types == "start text_start text_delta text_delta error"
    assert (got.message.stop_reason, got.message.text) == ("error", "ab")
    assert (got.info.kind, got.info.phase) == (kind, "end" if cut == END else "stream")
    assert got.info.retryable
    assert got.info.bytes_seen == len(wire.text("a", "b"))
    assert got.info.events_seen == wire.text("a", "b").count(b"\n\n")
    with pytest.raises(PiAIError):
        got.message.raise_for_error()


@pytest.mark.parametrize(("cut", "kind"), CUT)
async def test_F19_a_call_that_breaks_off_has_no_end_and_can_never_be_run(piecewise: Wire, cut: str, kind: str) -> None:
    got = await called(piecewise, piecewise.call('{"city": "Par'), cut)
    assert got.types == "start toolcall_start toolcall_delta error"
    assert got.info.kind == kind
    call = got.message.tool_calls[0]
    assert (call.name, call.arguments) == ("get_weather", {})
    assert '{"city": "Par' in (call.arguments_error or "")


async def test_F20_half_a_line_is_never_read(wire: Wire) -> None:
    for half in (wire.more("never")[:-2], (wire.proof() + wire.end)[:20]):
        got = await called(wire, wire.text("a"), half)
        assert (got.info.kind, got.message.text) == ("truncated", "a")


async def test_F21_an_answer_that_only_lacks_its_last_marker_is_whole(wire: Wire) -> None:
    got = await called(wire, wire.text("a", "b"), wire.proof())
    assert got.types == WHOLE
    assert (got.message.usage.input, got.message.usage.output) == (5, 3)


@pytest.mark.parametrize("cut", [CLOSE, RESET])
async def test_F24_what_breaks_after_the_proof_does_not_matter(wire: Wire, cut: str) -> None:
    got = await called(wire, wire.text("a", "b"), wire.proof(), cut)
    assert got.types == WHOLE
    assert ("late_failure" in [note.type for note in got.message.diagnostics or []]) != wire.proof_ends


async def test_F25_what_comes_after_the_end_is_ignored(wire: Wire) -> None:
    if not (wire.end or wire.proof_ends):
        pytest.skip("nothing but the end of its bytes ends this wire")
    got = await called(wire, wire.text("a", "b"), wire.proof() + wire.end + wire.more("c"), wire.junk(b"oops"), RESET)
    assert got.types == WHOLE


HTML = b"<!doctype html>\n<html><head><title>\n Sign in to Wi-Fi </title></head><body>no</body></html>"


@pytest.mark.parametrize("content_type", ["text/html; charset=utf-8", "text/event-stream", "text/plain", ""])
async def test_F26_a_web_page_is_told_by_its_title(wire: Wire, content_type: str) -> None:
    headers = {"content-type": content_type} if content_type else {}
    got = await called(wire, Script((HTML,), headers=headers), max_retries=2)
    assert (got.info.kind, got.types, len(got.requests)) == ("protocol", "error", 1)
    told = content_type.partition(";")[0] or "no content type"
    assert got.message.error_message == f"Expected an event stream, got {told}: Sign in to Wi-Fi"


TYPES = ["application/json", "text/event-stream", ""]


@pytest.mark.parametrize("content_type", TYPES)
async def test_F27_an_error_in_a_200_is_the_error_that_it_says(wire: Wire, content_type: str) -> None:
    body = json.dumps(wire.error("overloaded", "Too busy")).encode()
    headers = {"content-type": content_type, "retry-after-ms": "1", "x-request-id": "r7"}
    got = await called(wire, Script((body[:9], body[9:]), headers=headers))
    assert (got.info.kind, got.info.request_id, got.types) == ("overloaded", "r7", "error")
    assert "Too busy" in (got.message.error_message or "")


@pytest.mark.parametrize("content_type", TYPES)
async def test_F27_an_answer_that_was_not_streamed_becomes_the_usual_events(wire: Wire, content_type: str) -> None:
    seen: list[Any] = []
    body = b"\n \n" + json.dumps(wire.whole("ab"), indent=1).encode()
    script = Script((body[:2], body[2:30], body[30:]), headers={"content-type": content_type})
    got = await called(wire, script, on_provider_stream_event=lambda payload, model: seen.append(payload))
    assert got.types == "start text_start text_delta text_end done"
    assert (got.message.text, got.message.usage.output) == ("ab", 3)
    assert seen == [wire.whole("ab")]


async def test_F27_a_stream_that_calls_itself_json_is_read_as_the_stream_that_it_is(wire: Wire) -> None:
    for content_type in ("application/json", "text/plain", "text/html", ""):
        script = attrs.evolve(well(wire), headers={"content-type": content_type})
        assert (await called(wire, script)).types == WHOLE


@pytest.mark.parametrize("nothing", [[], [b"\n\n"], [b": ping\n\n"]], ids=["no byte", "blank", "a comment"])
async def test_F28_an_answer_of_nothing_is_truncated_and_is_asked_for_again(wire: Wire, nothing: list[bytes]) -> None:
    got = await called(wire, Script(tuple(nothing)))
    assert (got.info.kind, got.info.phase, got.info.retryable, got.types) == ("truncated", "end", True, "error")
    again = await called(wire, Script(tuple(nothing)), again=well(wire), max_retries=1)
    assert again.types == WHOLE


async def test_F28_an_end_marker_alone_proves_nothing(wire: Wire) -> None:
    got = await called(wire, wire.begun() + wire.end)
    assert (got.info.kind, got.types) == ("truncated", "error")


async def test_F29_a_finish_without_content_is_done_and_says_so(wire: Wire) -> None:
    proof = wire.begun() + wire.proof()
    got = await called(wire, proof, wire.end)
    assert got.types == "start done"
    assert (got.message.content, got.message.stop_reason) == ([], "stop")
    assert "empty" in [diagnostic.type for diagnostic in got.message.diagnostics or []]


async def test_a_length_limit_is_told_and_leaves_a_cut_call_open(piecewise: Wire) -> None:
    got = await called(piecewise, piecewise.call('{"city": "Par'), piecewise.proof("length"), piecewise.end)
    assert got.message.stop_reason == "length"
    assert got.message.tool_calls[0].arguments_error is not None


# ── C. errors that the provider tells ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "content_type", "body", "kind"),
    [
        (400, "application/json", b'{"error": {"message": "wrong field"}}', "bad_request"),
        (401, "text/plain", b"who are you", "auth"),
        (404, "text/html", b"<html><title>Not here</title></html>", "not_found"),
        (429, "application/json", b'{"error": {"message": "slow down"}}', "rate_limited"),
        (500, "application/json", b"", "server"),
        (529, "application/json", b'{"error": {"type": "overloaded_error", "message": "busy"}}', "overloaded"),
    ],
)
async def test_F30_an_http_error_has_its_kind_its_words_and_its_id(
    wire: Wire, status: int, content_type: str, body: bytes, kind: str
) -> None:
    headers = {"content-type": content_type, "x-request-id": "r7"}
    got = await called(wire, Script((body,), status, headers))
    assert (got.info.kind, got.info.status, got.info.request_id, got.info.phase) == (kind, status, "r7", "headers")
    words = body.decode() or "status code (no body)"
    assert words in (got.message.error_message or "")
    assert (got.message.error_message or "").startswith(str(status))


async def test_F31_an_error_after_content_has_the_class_of_its_http_form(wire: Wire) -> None:
    got = await called(wire, wire.text("a"), wire.error_event("overloaded", "Overloaded"), STALL, max_retries=2)
    assert got.types == "start text_start text_delta error"
    assert (got.info.kind, got.info.phase, got.message.text) == ("overloaded", "stream", "a")
    http = await called(wire, Script((json.dumps(wire.error("overloaded", "Overloaded")).encode(),), 529, {}))
    assert type(http.info.exception()) is type(got.info.exception())
    assert len(got.requests) == 1


async def test_F31_text_and_error_in_one_packet_are_both_seen(wire: Wire) -> None:
    got = await called(wire, wire.text("a", "b") + wire.error_event("server", "It broke"))
    assert got.types == "start text_start text_delta text_delta error"
    assert got.info.kind == "server"
    assert "It broke" in (got.message.error_message or "")


async def test_F32_an_error_as_the_first_event_is_before_the_commit_point(wire: Wire) -> None:
    first = Script((wire.begun(), wire.error_event("overloaded", "Overloaded")))
    got = await called(wire, first, again=well(wire), max_retries=1)
    assert (got.types, len(got.requests)) == (WHOLE, 2)
    assert [attempt.error.kind for attempt in got.message.attempts or []] == ["overloaded"]
    final = Script((wire.error_event("overflow", "prompt is too long: 9 tokens > 5 maximum"),))
    assert len((await called(wire, final, max_retries=2)).requests) == 1


@pytest.mark.parametrize("where", ["http", "stream"])
async def test_F33_a_prompt_that_is_too_long_is_told_with_its_sizes(wire: Wire, where: str) -> None:
    words = "prompt is too long: 201000 tokens > 200000 maximum"
    body = json.dumps(wire.error("overflow", words)).encode()
    script = Script((body,), 400, {}) if where == "http" else Script((wire.error_event("overflow", words),))
    got = await called(wire, script, max_retries=2)
    assert (got.info.kind, got.info.limit, got.info.used) == ("context_overflow", 200_000, 201_000)
    assert len(got.requests) == 1


async def test_F34_a_filtered_answer_keeps_what_came_and_is_not_asked_for_again() -> None:
    chat = Completions()
    got = await called(chat, chat.text("a"), chat.chunk({}, "content_filter"), chat.end, max_retries=2)
    assert got.types == "start text_start text_delta text_end error"
    assert (got.info.kind, got.info.retryable, got.message.text) == ("content_filter", False, "a")
    alone = await called(chat, chat.chunk({}, "content_filter") + chat.end, max_retries=2)
    assert (alone.info.kind, alone.types, len(alone.requests)) == ("content_filter", "error", 1)


async def test_F34_a_refusal_in_words_is_an_answer_that_says_so() -> None:
    chat = Completions()
    got = await called(chat, chat.chunk({"refusal": "I cannot."}), chat.proof(), chat.end)
    assert (got.message.stop_reason, got.message.text) == ("stop", "I cannot.")
    assert "refusal" in [diagnostic.type for diagnostic in got.message.diagnostics or []]


async def test_F35_a_used_up_quota_is_not_asked_for_again_and_keeps_the_link(wire: Wire) -> None:
    words = "You exceeded your current quota, see https://example.com/billing"
    body = json.dumps({"error": {"message": words, "type": "insufficient_quota"}}).encode()
    got = await called(wire, Script((body,), 429, {"retry-after": "1"}), max_retries=2)
    assert (got.info.kind, got.info.retryable, len(got.requests)) == ("quota", False, 1)
    assert "https://example.com/billing" in got.info.message


@pytest.mark.parametrize(("status", "kind"), [(404, "not_found"), (403, "permission")])
async def test_F36_an_unknown_model_and_a_missing_right_have_their_kinds(wire: Wire, status: int, kind: str) -> None:
    got = await called(wire, Script((b'{"error": {"message": "no"}}',), status, {}), max_retries=2)
    assert (got.info.kind, len(got.requests)) == (kind, 1)
    assert "test-model" in got.info.message


# ── F. leaving early ─────────────────────────────────────────────────────────────────────────────────────────


def hanging(wire: Wire) -> Script:
    return Script((wire.text("a"), STALL))


async def first_delta(events: EventStream) -> None:
    with anyio.fail_after(5):
        async for event in events:
            if isinstance(event, TextDeltaEvent):
                return


async def test_F55_F57_an_exception_in_a_plain_loop_releases_the_connection_and_comes_out(wire: Wire) -> None:
    async def fails(pi: Registry, server: Server) -> None:
        async for event in calling(wire, pi, server):
            if isinstance(event, TextDeltaEvent):
                raise KeyError("mine")

    async with serving(hanging(wire)) as server, Registry(max_connections=1) as pi:
        for _ in range(3):
            with pytest.raises(KeyError, match="mine"):
                await fails(pi, server)
            gc.collect()
            await until(lambda: server.open == 0, within=1)


async def test_F56_async_with_has_released_before_it_is_left(wire: Wire) -> None:
    async with serving(hanging(wire)) as server, Registry(max_connections=1) as pi:
        for _ in range(3):
            async with calling(wire, pi, server, timeouts=None) as events:
                await first_delta(events)
            assert events.done
            assert pi._connections._pool()._slots.borrowed_tokens == 0
            await until(lambda: server.open == 0, within=1)


async def test_F58_a_task_group_that_fails_takes_its_streams_along(wire: Wire) -> None:
    streams: list[EventStream] = []

    async def read(pi: Registry, server: Server) -> None:
        streams.append(calling(wire, pi, server))
        async for _ in streams[-1]:
            pass

    async with serving(hanging(wire)) as server, Registry() as pi:
        with pytest.raises(ExceptionGroup) as caught:
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(read, pi, server)
                await until(lambda: sum(bool(events.message.text) for events in streams) == 3)
                raise KeyError("mine")
        assert [type(error) for error in caught.value.exceptions] == [KeyError]
        assert [(events.message.stop_reason, events.message.text) for events in streams] == [("aborted", "a")] * 3
        await until(lambda: server.open == 0, within=1)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_F58_task_cancel_passes_through_untouched(loop: str) -> None:
    async def main() -> None:
        async with serving(hanging(CHAT)) as server, Registry() as pi:
            events = calling(CHAT, pi, server)
            task = asyncio.create_task(events.result())
            await until(lambda: bool(events.message.text))
            task.cancel("why")
            with pytest.raises(asyncio.CancelledError):
                await task
            assert task.cancelled()
            assert (events.message.stop_reason, events.message.text) == ("aborted", "a")
            await until(lambda: server.open == 0, within=1)

    anyio.run(main, backend_options={"use_uvloop": loop == "uvloop"})


async def test_F59_abort_while_the_reader_waits_leaves_a_pool_of_one_free(wire: Wire) -> None:
    async with serving(hanging(wire), well(wire)) as server, Registry(max_connections=1) as pi:
        events = calling(wire, pi, server)
        async with anyio.create_task_group() as tasks:

            async def abort() -> None:
                await until(lambda: bool(events.message.text))
                events.abort()

            tasks.start_soon(abort)
            got = [event async for event in events]
        check_grammar(got)
        assert got[-1].message.error_message == "Request was aborted"  # type: ignore[union-attr]
        with anyio.fail_after(1):
            assert (await calling(wire, pi, server).result()).text == "ab"


async def test_F62_a_stream_in_a_reference_cycle_is_released_when_it_is_collected(wire: Wire) -> None:
    class Holder:
        events: EventStream
        me: Any

    async with serving(hanging(wire)) as server, Registry() as pi:
        holder = Holder()
        holder.events, holder.me = calling(wire, pi, server), holder
        await first_delta(holder.events)
        del holder
        gc.collect()
        await until(lambda: server.open == 0, within=1)


async def test_F62_a_stream_that_another_thread_drops_is_released_in_its_own_loop(wire: Wire) -> None:
    async with serving(hanging(wire)) as server, Registry() as pi:
        held = [calling(wire, pi, server)]
        await first_delta(held[0])
        await anyio.to_thread.run_sync(held.clear)
        gc.collect()
        await until(lambda: server.open == 0, within=1)


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
