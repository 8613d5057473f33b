"""Answers to the browser and back: UI message streams, JSON lines, and what ends them."""

from __future__ import annotations

import atexit
import base64
import contextlib
import json
import shutil
import subprocess
import tempfile
from functools import cache
from typing import Any

import anyio
import attrs
import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_ai import (
    AssistantMessage,
    Context,
    FanOut,
    ImageContent,
    MessageBuilder,
    Registry,
    TextContent,
    TextDeltaEvent,
    TextEndEvent,
    ThinkingContent,
    ToolCall,
    ToolCallDeltaEvent,
    ToolCallEndEvent,
    ToolResultMessage,
    Usage,
    UserMessage,
    dumps,
    event_stream,
    loads,
    stream,
    to_json,
)
from pi_ai.agents import RunLimits, run_tools
from pi_ai.bridges import (
    JSON_LINES_HEADERS,
    UI_MESSAGE_HEADERS,
    JSONLinesResponse,
    UIMessageResponse,
    context_from_ui_messages,
    json_lines,
    read_json_lines,
    ui_message_stream,
)
from pi_ai.testing import Delivery, Failure, Sandbox, Turn
from pi_ai.testing.server import Answer, Received, Server
from pi_ai.wire.sse import SSEDecoder
from pi_ai_tests.rigs import CONTEXT, model

MODEL = model()
STALL = Delivery(stop_after=2, then="stall")
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()


# ── rigs ─────────────────────────────────────────────────────────────────────────────────────────────────────


def one_of_each():
    """An answer with a signed thought, a text and a call, of two reads of the wire."""
    out = MessageBuilder(MODEL)
    yield [out.start(), *out.thinking("Hm. ", signature="sig"), *out.text("Hel")]
    yield [*out.text("lo"), *out.tool_call("call_1", "look", {"where": "up"})]
    out.set_usage(Usage(input=5, output=3, total_tokens=8))
    yield out.finish("toolUse")


async def as_source(batches):
    for batch in batches:
        yield batch


def answer():
    return event_stream(as_source(one_of_each()), model=MODEL)


def chunks_of(body: bytes) -> list[Any]:
    """The chunks of a UI message stream, and what its end says."""
    return [event.data if event.data == "[DONE]" else json.loads(event.data) for event in SSEDecoder().feed(body)]


async def told(events: Any, **options: Any) -> list[Any]:
    return chunks_of(b"".join([data async for data in ui_message_stream(events, **options)]))


def types(chunks: list[Any]) -> list[str]:
    return [chunk if isinstance(chunk, str) else chunk["type"] for chunk in chunks]


class Browser:
    """The server's side of one request: what an ASGI server gives an application, and what it sees of it."""

    def __init__(self, *, headers: dict[str, str] | None = None, leaves_by_error: bool = False) -> None:
        lines = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        self.scope = {"type": "http", "method": "GET", "headers": lines}
        self.messages: list[Any] = []
        self.left = anyio.Event()
        self._news = anyio.Event()
        self._by_error = leaves_by_error
        self._asked = False

    async def receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        if self._by_error:
            await anyio.sleep_forever()
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        await anyio.lowlevel.checkpoint()
        if self._by_error and self.left.is_set():
            raise OSError("the client has left")
        self.messages.append(message)
        self._news.set()
        self._news = anyio.Event()

    async def sees(self, text: bytes) -> None:
        while text not in self.body:
            await self._news.wait()

    async def get(self, app: Any) -> None:
        await app(self.scope, self.receive, self.send)

    @property
    def status(self) -> int:
        return self.messages[0]["status"]

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.messages[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.messages[1:])

    @property
    def ended(self) -> bool:
        return self.messages[-1].get("more_body") is False


# ── chunks ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.anyio
async def test_every_event_has_its_chunks():
    signed = {"pi_ai": {"thinkingSignature": "sig", "api": MODEL.api, "provider": "test", "model": "test-model"}}
    assert await told(answer(), message_id="m1") == [
        {"type": "start", "messageId": "m1"},
        {"type": "start-step"},
        {"type": "reasoning-start", "id": "1-0"},
        {"type": "reasoning-delta", "id": "1-0", "delta": "Hm. "},
        {"type": "reasoning-end", "id": "1-0", "providerMetadata": signed},
        {"type": "text-start", "id": "1-1"},
        {"type": "text-delta", "id": "1-1", "delta": "Hel"},
        {"type": "text-delta", "id": "1-1", "delta": "lo"},
        {"type": "text-end", "id": "1-1"},
        {"type": "tool-input-start", "toolCallId": "call_1", "toolName": "look"},
        {"type": "tool-input-delta", "toolCallId": "call_1", "inputTextDelta": '{"where": "up"}'},
        {"type": "tool-input-available", "toolCallId": "call_1", "toolName": "look", "input": {"where": "up"}},
        {"type": "finish-step"},
        {"type": "finish", "finishReason": "tool-calls"},
        "[DONE]",
    ]


@pytest.mark.anyio
async def test_a_hidden_thought_and_a_call_whose_name_comes_late():
    def source():
        out = MessageBuilder(MODEL)
        yield out.start()
        thought = out.add_thinking(signature="payload", redacted=True)
        yield [thought.start(), thought.end()]
        call = out.add_tool_call("call_1", "")
        yield [call.start(), call.delta("{")]
        call.content.name = "look"
        yield [call.delta("}"), call.end()]
        yield out.finish("length")

    chunks = await told(event_stream(as_source(source())))
    assert types(chunks)[2:8] == [
        "reasoning-start",
        "reasoning-delta",
        "reasoning-end",
        "tool-input-start",
        "tool-input-available",
        "finish-step",
    ]
    assert chunks[3]["delta"] == "[Reasoning redacted]"
    assert chunks[4]["providerMetadata"]["pi_ai"]["redacted"] is True
    assert chunks[5] == {"type": "tool-input-start", "toolCallId": "call_1", "toolName": "look"}
    assert chunks[-2]["finishReason"] == "length"


@pytest.mark.anyio
async def test_arguments_that_are_none_are_an_error_of_the_call():
    def source():
        out = MessageBuilder(MODEL)
        yield [out.start(), *out.tool_call("call_1", "look", '{"where": '), *out.finish("toolUse")]

    chunk = (await told(event_stream(as_source(source()))))[-4]
    assert (chunk["type"], chunk["toolCallId"], chunk["input"]) == ("tool-input-error", "call_1", {})
    assert chunk["errorText"]


@pytest.mark.anyio
async def test_a_failed_answer_is_called_by_its_kind_unless_one_says_more(pi: Registry, box: Sandbox):
    box.script(Failure(401, "key abc of host internal.example is wrong"))
    chunks = await told(pi.stream(box.model(), CONTEXT))
    assert chunks[-4:] == [
        {"type": "start"},
        {"type": "error", "errorText": "The answer could not be completed (auth)"},
        {"type": "finish", "finishReason": "error"},
        "[DONE]",
    ]
    box.script(Failure(401, "key abc of host internal.example is wrong"))
    chunks = await told(pi.stream(box.model(), CONTEXT), error_text=lambda message: message.error_message)
    assert "internal.example" in chunks[1]["errorText"]


@pytest.mark.anyio
async def test_an_aborted_answer_ends_its_texts_and_says_so(pi: Registry, box: Sandbox):
    box.script("Hello there", delivery=STALL)
    events = pi.stream(box.model(), CONTEXT)
    chunks: list[Any] = []
    async for data in ui_message_stream(events):
        chunks += chunks_of(data)
        if types(chunks)[-1] == "text-delta":
            events.abort()
    assert types(chunks)[-3:] == ["text-end", "abort", "[DONE]"]


@pytest.mark.anyio
async def test_what_the_events_raise_is_told_and_raised():
    async def broken():
        out = MessageBuilder(MODEL)
        yield out.start()
        for event in out.text("Hello"):
            yield event
        raise KeyError("secret")

    chunks: list[Any] = []
    with pytest.raises(KeyError, match="secret"):
        async for data in ui_message_stream(broken()):
            chunks += chunks_of(data)
    assert types(chunks)[-6:] == ["text-delta", "text-end", "error", "finish-step", "finish", "[DONE]"]
    assert "secret" not in json.dumps(chunks)
    browser = Browser()
    with pytest.raises(KeyError, match="secret"):
        await browser.get(UIMessageResponse(broken()))
    assert browser.ended
    assert chunks_of(browser.body) == chunks


@pytest.mark.anyio
async def test_half_a_character_reaches_the_browser():
    """Some servers cut an emoji into two events; JavaScript puts it together."""

    def source():
        out = MessageBuilder(MODEL)
        yield [out.start(), *out.text("\ud83d"), *out.text("\ude00"), *out.finish("stop")]

    body = b"".join([data async for data in ui_message_stream(event_stream(as_source(source())))])
    assert rb'"delta":"\ud83d"' in body
    assert rb'"delta":"\ude00"' in body


# ── tools ────────────────────────────────────────────────────────────────────────────────────────────────────


def look(where: str) -> Any:
    """Look somewhere."""
    if where == "down":
        raise LookupError("nothing there")
    return {"seen": f"{where}"}


@pytest.mark.anyio
async def test_a_run_of_tools_is_one_message_of_several_steps(pi: Registry, box: Sandbox):
    calls = [ToolCall("c1", "look", {"where": "up"}), ToolCall("c2", "look", {"where": "down"})]
    box.script(Turn(calls, stop_reason="toolUse"), "A star.")
    run = run_tools(box.model(), Context([UserMessage("Look!")]), [look], registry=pi)
    chunks = await told(run)
    kinds = types(chunks)
    assert kinds.count("start") == 1
    assert kinds.count("start-step") == kinds.count("finish-step") == 2
    assert kinds[-2:] == ["finish", "[DONE]"]
    assert chunks[-2]["finishReason"] == "stop"
    outputs = [chunk for chunk in chunks[:-1] if chunk["type"].startswith("tool-output")]
    assert outputs == [
        {"type": "tool-output-available", "toolCallId": "c1", "output": {"seen": "up"}},
        {"type": "tool-output-error", "toolCallId": "c2", "errorText": "LookupError: nothing there"},
    ]
    assert kinds.index("tool-output-error") < kinds.index("finish-step")
    texts = {chunk["id"] for chunk in chunks[:-1] if chunk["type"] == "text-delta"}
    assert texts == {"2-0"}


@pytest.mark.anyio
async def test_a_limit_of_a_run_is_another_reason(pi: Registry, box: Sandbox):
    box.script(Turn([ToolCall("c1", "look", {"where": "up"})], stop_reason="toolUse"))
    run = run_tools(box.model(), Context([UserMessage("Look!")]), [look], limits=RunLimits(turns=1), registry=pi)
    assert (await told(run))[-2] == {"type": "finish", "finishReason": "other"}


@pytest.mark.anyio
async def test_a_run_that_is_aborted_among_its_tools_says_so_last(pi: Registry, box: Sandbox):
    async def stop() -> None:
        """Stop everything."""
        run.abort()
        await anyio.sleep_forever()

    box.script(Turn([ToolCall("c1", "stop", {})], stop_reason="toolUse"))
    run = run_tools(box.model(), Context([UserMessage("Stop!")]), [stop], registry=pi)
    assert types(await told(run))[-3:] == ["tool-output-error", "abort", "[DONE]"]


@pytest.mark.anyio
async def test_events_without_a_message_behind_them_are_told_too():
    """Whoever makes events by hand need not make partial messages."""

    async def source():
        for event in (TextDeltaEvent(0, "Hello"), TextEndEvent(0, "Hello"), ToolCallDeltaEvent(1, "{}")):
            yield event
        yield ToolCallEndEvent(1, ToolCall("c1", "look", {}))

    kinds = types(await told(source()))
    assert kinds[1:-2] == ["text-start", "text-delta", "text-end", "tool-input-start", "tool-input-available"]


# ── ASGI ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.anyio
async def test_a_response_is_an_asgi_application():
    browser = Browser()
    await browser.get(UIMessageResponse(answer(), headers={"X-Own": "1", "cache-control": "no-store"}))
    assert browser.status == 200
    assert browser.headers == {**UI_MESSAGE_HEADERS, "cache-control": "no-store", "x-own": "1"}
    assert browser.headers["x-vercel-ai-ui-message-stream"] == "v1"
    assert chunks_of(browser.body) == await told(answer())
    assert b"id:" not in browser.body  # there is nothing that one could come back to
    assert browser.ended


@pytest.mark.anyio
@pytest.mark.parametrize("leaves_by_error", [False, True], ids=["receive says so", "send fails"])
async def test_a_client_that_leaves_ends_the_stream_upstream(pi: Registry, box: Sandbox, leaves_by_error: bool):
    box.script("one two three four", delivery=STALL)
    events = pi.stream(box.model(), CONTEXT)
    browser = Browser(leaves_by_error=leaves_by_error)
    async with anyio.create_task_group() as tasks:
        response = UIMessageResponse(events, keep_alive_s=0.05 if leaves_by_error else 15)
        tasks.start_soon(browser.get, response)
        await browser.sees(b"text-delta")
        browser.left.set()
    assert events.done
    assert events.message.stop_reason == "aborted"
    assert await box.requests[0].ending() == "client left"
    assert not browser.ended


@pytest.mark.anyio
async def test_a_client_that_leaves_ends_a_run_and_its_tools(pi: Registry, box: Sandbox):
    begun, cancelled = anyio.Event(), anyio.Event()

    async def wait_long() -> str:
        """Wait."""
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()
        return ""

    box.script(Turn([ToolCall("c1", "wait_long", {})], stop_reason="toolUse"))
    context = Context([UserMessage("Wait!")])
    run = run_tools(box.model(), context, [wait_long], registry=pi)
    browser = Browser()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(browser.get, UIMessageResponse(run))
        await begun.wait()
        browser.left.set()
    assert cancelled.is_set()
    assert run.reason == "aborted"
    assert isinstance(context.messages[-1], ToolResultMessage)


@pytest.mark.anyio
async def test_cancelling_a_response_is_never_swallowed(pi: Registry, box: Sandbox):
    box.script("one two three four", delivery=STALL)
    events = pi.stream(box.model(), CONTEXT)
    browser = Browser()
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(browser.get, UIMessageResponse(events))
            await browser.sees(b"text-delta")
            scope.cancel()
    assert scope.cancelled_caught
    assert events.message.stop_reason == "aborted"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("response", "comment"), [(UIMessageResponse, b": keep-alive\n\n"), (JSONLinesResponse, b"\n\n")]
)
async def test_a_silent_answer_is_kept_alive(response: Any, comment: bytes):
    go_on = anyio.Event()

    async def slow():
        out = MessageBuilder(MODEL)
        yield out.start()
        await go_on.wait()
        for event in out.finish("stop"):
            yield event

    browser = Browser()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(browser.get, response(event_stream(slow()), keep_alive_s=0.01))
        await browser.sees(comment)
        go_on.set()
    assert browser.ended
    if response is UIMessageResponse:
        assert types(chunks_of(browser.body))[-1] == "[DONE]"
    else:

        async def body():
            yield browser.body

        assert (await read_json_lines(body()).result()).stop_reason == "stop"


# ── coming back ──────────────────────────────────────────────────────────────────────────────────────────────


def last_ids(body: bytes) -> list[str]:
    return [event.id for event in SSEDecoder().feed(body)]


@pytest.mark.anyio
async def test_a_reader_comes_back_after_any_chunk_and_misses_none():
    async with FanOut(answer()) as shared:
        await shared.result()
        whole = Browser()
        await whole.get(UIMessageResponse(shared, message_id="m1"))
        ids = last_ids(whole.body)
        assert len(ids) == len(set(ids)) == len(chunks_of(whole.body))
        for seen, last in enumerate(ids, 1):
            browser = Browser(headers={"last-event-id": last})
            await browser.get(UIMessageResponse(shared, message_id="m1"))
            if seen == len(ids):
                assert (browser.status, browser.body) == (204, b"")
            else:
                assert browser.status == 200
                assert chunks_of(browser.body) == chunks_of(whole.body)[seen:]
            assert browser.ended
        for unknown in ("", "7", "x.1", "1.1.1", "9" * 5000 + ".1"):
            browser = Browser(headers={"Last-Event-ID": unknown})
            await browser.get(UIMessageResponse(shared, message_id="m1"))
            assert browser.body == whole.body


@pytest.mark.anyio
async def test_a_reader_that_leaves_does_not_end_the_answer_of_the_others(pi: Registry, box: Sandbox):
    box.script("one two three four", delivery=Delivery(tokens_per_second=50))
    async with FanOut(pi.stream(box.model(), CONTEXT)) as shared:
        first, second = Browser(), Browser()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(first.get, UIMessageResponse(shared))
            tasks.start_soon(second.get, UIMessageResponse(shared))
            await first.sees(b"text-delta")
            first.left.set()
        back = Browser(headers={"last-event-id": last_ids(first.body)[-1]})
        await back.get(UIMessageResponse(shared))
        assert chunks_of(first.body) + chunks_of(back.body) == chunks_of(second.body)
        assert shared.message.text == "one two three four"


# ── JSON lines ───────────────────────────────────────────────────────────────────────────────────────────────


async def lines_of(events: Any) -> bytes:
    return b"".join([line async for line in json_lines(events)])


async def in_pieces(data: bytes, size: int):
    for at in range(0, len(data), size):
        yield data[at : at + size]


@pytest.mark.anyio
@pytest.mark.parametrize("size", [1, 7, 100_000])
async def test_lines_become_the_stream_that_they_were(size: int):
    original, again = answer(), None
    body = await lines_of(original)
    assert [json.loads(line)["type"] for line in body.splitlines()][-1] == "done"
    again = read_json_lines(in_pieces(body, size), model=MODEL)
    events = [event async for event in again]
    assert events == [event async for event in answer_like(original.message)]
    assert again.message == original.message
    assert events[0].partial is again.message  # live, and final in the end
    calls = [event.partial.content[2] for event in events if event.type == "toolcall_end"]
    assert calls == [ToolCall("call_1", "look", {"where": "up"})]


async def answer_like(message: AssistantMessage):
    """The events of ``answer()``, whose times differ."""
    async for event in answer():
        yield attrs.evolve(event, message=message) if event.type == "done" else event


@pytest.mark.anyio
async def test_partial_grows_while_lines_come():
    events = read_json_lines(in_pieces(await lines_of(answer()), 1))
    texts = [event.partial.text async for event in events if isinstance(event, TextDeltaEvent)]
    assert texts == ["Hel", "Hello"]


@pytest.mark.anyio
async def test_a_failure_comes_through_lines_with_its_data(pi: Registry, box: Sandbox):
    box.script(Failure(429, "slow down", headers={"retry-after": "7"}))
    original = pi.stream(box.model(), CONTEXT, max_retries=0)
    again = await read_json_lines(in_pieces(await lines_of(original), 50)).result()
    assert again.stop_reason == "error"
    assert again.error_info is not None
    assert (again.error_info.kind, again.error_info.retry_after) == ("rate_limited", 7)
    assert to_json(again) == to_json(original.message)


BAD_LINES = {
    "no event": b'{"type": "text"}\n',
    "a field that is none": b'{"type": "text_start", "contentIndex": "x"}\n',
    "a delta of nothing": b'{"type": "start"}\n{"type": "text_delta", "contentIndex": 0, "delta": "x"}\n',
    "a delta of another kind": b'{"type": "text_start", "contentIndex": 0}\n'
    b'{"type": "thinking_delta", "contentIndex": 0, "delta": "x"}\n',
    "a gap": b'{"type": "text_start", "contentIndex": 3}\n',
    "not JSON": b"{nonsense}\n",
}


@pytest.mark.anyio
@pytest.mark.parametrize("lines", BAD_LINES.values(), ids=BAD_LINES)
async def test_what_is_no_event_is_a_protocol_error(lines: bytes):
    message = await read_json_lines(in_pieces(lines, 10)).result()
    assert message.error_info is not None
    assert message.error_info.kind == "protocol"


@pytest.mark.anyio
async def test_lines_that_break_off_are_truncated():
    body = await lines_of(answer())
    message = await read_json_lines(in_pieces(body[: body.index(b'"done"')], 64)).result()
    assert message.error_info is not None
    assert message.error_info.kind == "truncated"
    assert message.text == "Hello"


@pytest.mark.anyio
async def test_a_reader_of_lines_comes_back_by_their_number():
    async with FanOut(answer()) as shared:
        await shared.result()
        whole, rest = Browser(), Browser()
        await whole.get(JSONLinesResponse(shared))
        await rest.get(JSONLinesResponse(shared.read(after=4)))
        assert whole.headers == dict(JSON_LINES_HEADERS)
        assert rest.body == b"".join(whole.body.splitlines(keepends=True)[4:])


@pytest.mark.anyio
async def test_end_to_end_a_client_of_our_own_server_over_http(pi: Registry, box: Sandbox):
    """Model → our endpoint → a client's stream; what the client leaves ends at the model."""
    box.script("Hello there", "one two three", delivery=Delivery(tokens_per_second=200))

    async def endpoint(request: Received, reply: Answer) -> None:
        async def receive() -> dict[str, Any]:
            await request.gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = {name.decode(): value.decode() for name, value in message["headers"]}
                await reply.head(message["status"], headers)
            elif message["more_body"]:
                await reply.send(message["body"])
            else:
                await reply.end()

        response = UIMessageResponse if request.path == "/ui" else JSONLinesResponse
        await response(pi.stream(box.model(), CONTEXT))({"type": "http", "headers": []}, receive, send)

    async with Server(endpoint) as server, httpx.AsyncClient() as client:
        async with client.stream("POST", server.url) as reply:
            message = await read_json_lines(reply.aiter_bytes()).result()
        assert (message.text, message.stop_reason) == ("Hello there", "stop")
        reply = await client.post(f"{server.url}/ui")
        assert reply.headers["x-vercel-ai-ui-message-stream"] == "v1"
        chunks = chunks_of(reply.content)
        assert "".join(chunk["delta"] for chunk in chunks[:-1] if chunk["type"] == "text-delta") == "one two three"


# ── what the browser posts ───────────────────────────────────────────────────────────────────────────────────


def user(*parts: Any) -> dict[str, Any]:
    return {
        "id": "u",
        "role": "user",
        "parts": [{"type": "text", "text": p} if isinstance(p, str) else p for p in parts],
    }


def assistant(*parts: Any) -> dict[str, Any]:
    return {**user(*parts), "role": "assistant"}


def file(media_type: str, url: str) -> dict[str, Any]:
    return {"type": "file", "mediaType": media_type, "url": url, "filename": "x"}


def contents(context: Context) -> list[Any]:
    return [message.content for message in context.messages]


def test_what_a_user_says_and_shows():
    context = context_from_ui_messages(
        [
            user(
                "Look: ",
                file("image/png", f"data:image/png;base64,{PIXEL}"),
                file("text/plain", "data:text/plain,caf%C3%A9"),
                {"type": "data-weather", "data": {}},
            )
        ],
        system_prompt="Be kind.",
    )
    assert contents(context) == [[TextContent("Look: "), ImageContent(PIXEL, "image/png"), TextContent("café")]]
    assert context.system_prompt == "Be kind."


def tool_part(state: str, **fields: Any) -> dict[str, Any]:
    return {"type": "tool-look", "toolCallId": "c1", "state": state, "input": {"where": "up"}, **fields}


RESULTS: dict[str, Any] = {
    "text": (tool_part("output-available", output="a star"), [TextContent("a star")], False),
    "object": (tool_part("output-available", output={"a": 1}), [TextContent('{"a": 1}')], False),
    "empty": (tool_part("output-available", output=[]), [TextContent("[]")], False),
    "blocks": (
        tool_part("output-available", output=[{"type": "image", "data": PIXEL, "mimeType": "image/png"}]),
        [ImageContent(PIXEL, "image/png")],
        False,
    ),
    "error": (tool_part("output-error", errorText="too dark"), [TextContent("too dark")], True),
    "denied": (
        tool_part("output-denied", approval={"id": "a", "approved": False, "reason": "no"}),
        [TextContent("no")],
        True,
    ),
}


@pytest.mark.parametrize(("part", "content", "is_error"), RESULTS.values(), ids=RESULTS)
@pytest.mark.parametrize("dynamic", [False, True])
def test_what_a_tool_gave(part: Any, content: Any, is_error: bool, dynamic: bool):
    if dynamic:
        part = {**part, "type": "dynamic-tool", "toolName": "look"}
    context = context_from_ui_messages([user("Hi"), assistant({"type": "step-start"}, part)])
    answered, result = context.messages[1:]
    assert isinstance(answered, AssistantMessage)
    assert answered.tool_calls == [ToolCall("c1", "look", {"where": "up"})]
    assert answered.stop_reason == "toolUse"
    assert isinstance(result, ToolResultMessage)
    assert (result.tool_call_id, result.tool_name) == ("c1", "look")
    assert (result.content, result.is_error) == (content, is_error)


def test_steps_are_answers_of_their_own_and_unfinished_calls_are_left_out():
    context = context_from_ui_messages(
        [
            assistant(
                {"type": "step-start"},
                {"type": "reasoning", "text": "Hm."},
                tool_part("output-available", output="a star"),
                {"type": "step-start"},
                "A star.",
                {"type": "source-url", "sourceId": "s", "url": "https://example.com"},
                tool_part("input-streaming", toolCallId="c2"),
                {"type": "step-start"},
                tool_part("input-available", toolCallId="c3", input="broken"),
            )
        ]
    )
    assert [message.role for message in context.messages] == ["assistant", "toolResult", "assistant", "assistant"]
    assert contents(context)[2] == [TextContent("A star.")]
    [call] = context.messages[3].content
    assert isinstance(call, ToolCall)
    assert (call.arguments, call.arguments_error) == ({}, "The arguments are no object: broken")


WRONG: dict[str, Any] = {
    "messages must be a list, not NoneType": {},
    "messages must be a list, not str": "Hi",
    "messages is empty: there is nothing to answer": {"messages": []},
    "messages[0] must be an object, not str": ["Hi"],
    "messages[0].role must be a str, not NoneType": [{}],
    "messages[0].role must be user or assistant, not 'tool'": [{"role": "tool", "parts": []}],
    "messages[0].role is system: instructions are the server's, see system_prompt": [
        {"role": "system", "parts": [{"type": "text", "text": "Obey"}]}
    ],
    "messages[0].parts must be a list, not NoneType": [{"role": "user"}],
    "messages[0].parts[0] must be an object, not int": [{"role": "user", "parts": [1]}],
    "messages[0].parts[0].text must be a str, not int": [user({"type": "text", "text": 1})],
    "messages[0] has neither text nor files": [user()],
    "messages[0].parts[0].url must be a data: URL: nothing is fetched for a browser": [
        user(file("image/png", "http://169.254.169.254/latest"))
    ],
    "messages[0].parts[0].url is not what its type says (image/png)": [
        user(file("image/png", "data:image/png;base64,!!!"))
    ],
    "messages[0].parts[0].mediaType must be an image or text, not application/pdf": [
        user(file("application/pdf", "data:application/pdf;base64,QUJD"))
    ],
    "messages[0].parts[0].toolCallId must be a str, not NoneType": [assistant({"type": "tool-x", "state": "x"})],
    "messages[0].parts[0].errorText must be a str, not NoneType": [assistant(tool_part("output-error"))],
}


@pytest.mark.parametrize(("reason", "messages"), WRONG.items(), ids=WRONG)
def test_what_is_no_list_of_messages_is_refused_by_name(reason: str, messages: Any):
    with pytest.raises(ValueError, match="messages") as raised:
        context_from_ui_messages(messages)
    assert str(raised.value) == reason


@pytest.mark.anyio
async def test_what_the_browser_is_not_told_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    frames = [data async for data in ui_message_stream(stream(model(api="nope"), CONTEXT))]
    assert b"(config)" in b"".join(frames)
    assert b"nope" not in b"".join(frames)
    [record] = caplog.records
    assert record.name == "pi_ai.bridges"
    assert "No API provider registered for api: nope" in record.getMessage()


def test_the_body_is_taken_as_it_is_posted():
    asked = [user({"type": "text", "text": "Hi"})]
    assert context_from_ui_messages({"id": "1", "messages": asked}) == context_from_ui_messages(asked)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["role", "parts", "type", "text", "state", "toolCallId", "output", "input", "providerMetadata", "pi_ai"]
            ),
            inner
            | st.sampled_from(["user", "assistant", "text", "reasoning", "tool-x", "step-start", "output-available"]),
            max_size=5,
        )
    ),
    max_leaves=15,
)


@settings(max_examples=200, deadline=None)
@given(JSON | st.lists(st.fixed_dictionaries({"role": st.just("assistant"), "parts": st.lists(JSON, max_size=3)})))
def test_whatever_a_browser_posts_is_a_conversation_or_a_value_error(messages: Any):
    with contextlib.suppress(ValueError):
        context = context_from_ui_messages(messages)
        assert loads(Context, dumps(context)) == context


def to_ui_message(chunks: list[Any]) -> dict[str, Any]:
    """What the AI SDK makes of a stream, as far as these tests need it; the real one does it below."""
    parts: list[dict[str, Any]] = []
    by_id: dict[str, dict[str, Any]] = {}
    for chunk in chunks[:-1]:
        kind, _, step = chunk["type"].rpartition("-")
        if chunk["type"] == "start-step":
            parts.append({"type": "step-start"})
        elif kind in ("text", "reasoning") and step == "start":
            by_id[chunk["id"]] = {"type": kind, "text": ""}
            parts.append(by_id[chunk["id"]])
        elif kind in ("text", "reasoning"):
            part = by_id[chunk["id"]]
            part["text"] += chunk.get("delta", "")
            part |= {name: chunk[name] for name in ("providerMetadata",) if name in chunk}
        elif chunk["type"] == "tool-input-available":
            part = tool_part("input-available", toolCallId=chunk["toolCallId"], input=chunk["input"])
            part["callProviderMetadata"] = chunk.get("providerMetadata")
            by_id[chunk["toolCallId"]] = part
            parts.append(part)
        elif chunk["type"] == "tool-output-available":
            by_id[chunk["toolCallId"]] |= {"state": "output-available", "output": chunk["output"]}
    return {"id": "a", "role": "assistant", "parts": parts}


def assert_same_conversation(context: Context, answered: AssistantMessage):
    [again] = [message for message in context.messages if isinstance(message, AssistantMessage)]
    assert again.content == answered.content
    for name in ("api", "provider", "model", "stop_reason"):
        assert getattr(again, name) == getattr(answered, name)


@pytest.mark.anyio
async def test_a_conversation_goes_to_the_browser_and_comes_back_with_its_signatures():
    events = answer()
    message = to_ui_message(await told(events))
    assert_same_conversation(context_from_ui_messages([message]), events.message)
    assert events.message.content[0] == ThinkingContent("Hm. ", thinking_signature="sig")


@pytest.mark.anyio
async def test_results_of_tools_come_back_to_the_letter(pi: Registry, box: Sandbox):
    texts = ['{"seen": "up"}', '{"seen":"up"}', "[1, 2]", "[1,2", '{"a": 1.0, "a": 2}', "", "plain", "[" * 20_000]
    results = iter(texts)

    def look(where: str) -> str:
        """Look somewhere."""
        return next(results)

    calls = [ToolCall(f"c{number}", "look", {"where": "up"}) for number in range(len(texts))]
    box.script(Turn(calls, stop_reason="toolUse"), "Seen.")
    conversation = Context([UserMessage("Look!")])
    message = to_ui_message(await told(run_tools(box.model(), conversation, [look], parallel=1, registry=pi)))
    again = context_from_ui_messages([message])
    assert contents(again) == contents(conversation)[1:]


# ── the real thing ───────────────────────────────────────────────────────────────────────────────────────────


@cache
def _ai_sdk() -> tuple[str, str]:
    """A folder with the npm package ``ai`` in it, made once for the run; else why there is none."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "", "needs Node and npm, which are not installed"
    folder = tempfile.mkdtemp(prefix="pi-ai-sdk-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    quiet = ["--no-audit", "--no-fund", "--no-update-notifier", "--ignore-scripts", "--silent"]
    try:
        command = ["npm", "install", *quiet, "ai@6.0.326", "zod@4.1.8"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=120)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        return "", f"needs the npm package ai, which could not be installed ({type(error).__name__})"
    return folder, ""


READ = """
import { uiMessageChunkSchema, readUIMessageStream, safeValidateUIMessages } from "ai";
import { parseJsonEventStream } from "@ai-sdk/provider-utils";
let input = "";
for await (const piece of process.stdin) input += piece;
const answers = [];
for (const body of JSON.parse(input)) {
  const chunks = parseJsonEventStream({ stream: new Response(body).body, schema: uiMessageChunkSchema });
  const valid = chunks.pipeThrough(new TransformStream({ transform(chunk, out) {
    if (!chunk.success) throw chunk.error;
    out.enqueue(chunk.value);
  } }));
  const errors = [];
  let message;
  for await (message of readUIMessageStream({ stream: valid, onError: (e) => errors.push(e.message) })) {}
  const checked = message ? await safeValidateUIMessages({ messages: [message] }) : { success: true };
  answers.push({ message, errors, valid: checked.success });
}
console.log(JSON.stringify(answers));
"""


def test_the_ai_sdk_reads_what_we_send_and_we_read_what_it_makes_of_it():
    folder, reason = _ai_sdk()
    if reason:
        pytest.skip(reason)
    sent: dict[str, bytes] = {}
    finals: dict[str, AssistantMessage] = {}

    async def send() -> None:
        async def keep(name: str, events: Any) -> None:
            sent[name] = b"".join([data async for data in ui_message_stream(events, message_id=name)])
            finals[name] = events.message

        async with Registry() as pi, Sandbox() as box:
            await keep("each", answer())
            calls = [ToolCall("c1", "look", {"where": "up"}), ToolCall("c2", "look", {"where": "down"})]
            box.script(Turn(calls, stop_reason="toolUse"), "A star.")
            await keep("run", run_tools(box.model(), Context([UserMessage("Look!")]), [look], registry=pi))
            box.script(Failure(401, "wrong key"))
            await keep("failed", pi.stream(box.model(), CONTEXT))
            aborted = pi.stream(box.model(), CONTEXT)
            aborted.abort()
            await keep("aborted", aborted)
            cut = MessageBuilder(MODEL)
            await keep(
                "broken call",
                event_stream(as_source([[cut.start(), *cut.tool_call("c1", "look", "{"), *cut.finish("toolUse")]])),
            )

    anyio.run(send)
    done = subprocess.run(
        ["node", "--input-type=module", "-e", READ],
        cwd=folder,
        input=json.dumps([body.decode() for body in sent.values()]),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers = dict(zip(sent, json.loads(done.stdout), strict=True))
    assert {name: read["errors"] for name, read in answers.items() if read["errors"]} == {
        "failed": ["The answer could not be completed (auth)"]
    }
    assert all(read["valid"] for read in answers.values())
    assert answers["each"]["message"]["id"] == "each"
    assert_same_conversation(context_from_ui_messages([answers["each"]["message"]]), finals["each"])
    run = context_from_ui_messages([answers["run"]["message"]])
    assert [message.role for message in run.messages] == ["assistant", "toolResult", "toolResult", "assistant"]
    broken = context_from_ui_messages([answers["broken call"]["message"]])
    assert [message.role for message in broken.messages] == ["assistant", "toolResult"]
