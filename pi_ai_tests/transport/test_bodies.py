"""Bodies: of errors, compressed, too large, and what is no HTTP."""

from __future__ import annotations

import gc
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import anyio
import httpx
import httpx2
import pytest

from pi_ai import (
    AssistantMessage,
    Registry,
    complete,
)
from pi_ai.testing.server import Answer, Received, Server
from pi_ai_tests.reliability.virtual import virtual_time
from pi_ai_tests.rigs import CONTEXT, END, SSE, chunk, model
from pi_ai_tests.transport.rigs import FOREVER, Play, first_delta, play, until

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("http")]


async def test_F30_an_endless_error_body_is_read_to_a_mebibyte_and_its_connection_closed() -> None:
    sent = 0

    async def endless(request: Received, answer: Answer) -> None:
        nonlocal sent
        await answer.head(400, {"content-type": "text/plain"})
        while True:
            await answer.send(b"no " * 20_000)
            sent += 60_000

    async with Server(endless) as server, Registry() as pi:
        message = await pi.complete(model(server.url), CONTEXT)
        await until(lambda: server.open == 0)
    assert (message.error_message or "").startswith("400: no no no")
    assert len(message.error_message or "") < 4100
    assert sent < 8_000_000  # what the kernel's buffers hold on top


@pytest.mark.parametrize("breaks", ["close", "reset"])
async def test_F30_what_came_of_an_error_body_before_it_broke_is_told(breaks: str) -> None:
    async def handler(request: Received, answer: Answer) -> None:
        await answer.head(400, {"content-type": "text/plain"}, length=1000)
        await answer.send(b"your request is wrong")
        await anyio.sleep(0.02)
        await getattr(answer, breaks)()

    async with Server(handler) as server:
        message = await complete(model(server.url), CONTEXT)
    assert message.error_message == "400: your request is wrong"


@virtual_time
async def test_F30_an_error_body_that_stalls_is_waited_for_like_a_first_event() -> None:
    got = await play(Play([b"so far", FOREVER], 400, {}))
    assert (got.message.error_message, got.seconds) == ("400: so far", pytest.approx(120))


def compressor(encoding: str) -> Callable[[bytes], bytes]:
    """Compresses piece by piece, each flushed."""
    packer = zlib.compressobj(wbits={"gzip": 31, "x-gzip": 31, "deflate": 15}[encoding])
    return lambda data: packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate"])
@pytest.mark.parametrize("library", [None, httpx, httpx2], ids=["own", "httpx", "httpx2"])
async def test_F9_events_arrive_as_they_are_flushed_from_a_compressed_body(encoding: str, library: Any) -> None:
    got = anyio.Event()

    async def handler(request: Received, answer: Answer) -> None:
        pack = compressor(encoding)
        await answer.head(200, {**SSE, "content-encoding": encoding})
        await answer.send(pack(chunk("a")))
        await got.wait()
        await answer.send(pack(END))
        await answer.end()

    async with Server(handler) as server, Registry() as pi:
        client = library and library.AsyncClient()
        events = pi.stream(model(server.url), CONTEXT, http_client=client)
        await first_delta(events)
        got.set()
        assert (await events.result()).stop_reason == "stop"
        if client is not None:
            await client.aclose()
        assert server.requests[0].headers["accept-encoding"] == "identity"


async def test_F9_one_byte_a_packet_and_a_compressed_error() -> None:
    packed = compressor("gzip")(b'{"error": {"message": "no such thing"}}')

    async def handler(request: Received, answer: Answer) -> None:
        await answer.head(400, {"content-type": "application/json", "content-encoding": "gzip"})
        for byte in packed:
            await answer.send(bytes([byte]))
        await answer.end()

    async with Server(handler) as server:
        message = await complete(model(server.url), CONTEXT)
    assert message.error_message == '400: {"error": {"message": "no such thing"}}'


@pytest.mark.parametrize(
    ("encoding", "body", "words"),
    [
        ("gzip", b"not gzip", "is broken"),
        ("gzip", compressor("gzip")(chunk("a")) + b"\xff" * 100, "is broken"),
        ("br", b"\x0b\x02\x80", "('br') was not asked for"),
        ("gzip, gzip", b"", "was not asked for"),
    ],
)
async def test_F9_compression_that_cannot_be_undone_is_a_protocol_error(encoding: str, body: bytes, words: str) -> None:
    async def handler(request: Received, answer: Answer) -> None:
        await answer.head(200, {**SSE, "content-encoding": encoding})
        await answer.send(body)
        await answer.end()

    async with Server(handler) as server, Registry() as pi:
        message = await pi.complete(model(server.url), CONTEXT)
        await until(lambda: server.open == 0)
        gc.collect()
    assert message.error_info is not None
    assert (message.error_info.kind, len(server.requests)) == ("protocol", 1)
    assert words in message.error_info.message


async def test_F70_a_compressed_bomb_is_unpacked_in_steps_and_only_as_far_as_the_limit() -> None:
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join([packer.compress(bytes(1_000_000)) for _ in range(150)]) + packer.flush()
    assert len(bomb) < 200_000

    async def handler(request: Received, answer: Answer) -> None:
        headers = {"content-type": "application/json", "content-encoding": "gzip"}
        await answer.whole(400 if len(server.requests) == 1 else 200, headers, bomb)

    async with Server(handler) as server:
        tracemalloc.start()
        try:
            error = await complete(model(server.url), CONTEXT)
            whole = await complete(model(server.url), CONTEXT, max_body_bytes=2_000_000)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert (error.error_info or error).kind == "bad_request"
    assert (whole.error_info or whole).kind == "too_large"
    assert peak < 75_000_000


@virtual_time
@pytest.mark.parametrize(
    ("played", "options", "words"),
    [
        (Play([chunk("a"), chunk("b" * 1000)]), {"max_event_bytes": 500}, "max_event_bytes"),
        (Play([chunk("a"), b"data: " + b"x" * 400, b"x" * 400]), {"max_event_bytes": 500}, "max_event_bytes"),
        (Play([chunk("a")] * 100), {"max_output_bytes": 1000}, "max_output_bytes=1000"),
        (Play([b'{"a": "', b"x" * 1000], headers={"content-type": "application/json"}), {"max_body_bytes": 500},
         "max_body_bytes"),
    ],
    ids=["F13 event", "F13 line", "F71", "F70"],
)  # fmt: skip
async def test_F13_F70_F71_what_is_too_large_ends_the_answer(played: Play, options: Any, words: str) -> None:
    got = await play(played, **options)
    assert (got.info.kind, got.info.retryable) == ("too_large", False)
    assert words in got.info.message
    assert got.message.text.replace("a", "") == ""


async def raw_answer(data: bytes, **options: Any) -> AssistantMessage:
    """The message that this answer gives, written to the socket as it is."""

    async def handler(request: Received, answer: Answer) -> None:
        await answer.raw(data)
        await answer.close()

    async with Server(handler) as server:
        message = await complete(model(server.url), CONTEXT, max_retries=0, **options)
        await until(lambda: server.open == 0)
        return message


OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"\x15\x03\x03\x00\x02\x02\x16",
        OK + b"".join(b"x-%d: %s\r\n" % (n, b"v" * 100) for n in range(3000)) + b"\r\n" + END,
        OK + b"x: " + b"v" * 200_000 + b"\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\nnonsense\r\n",
        OK + b"content-length: many\r\n\r\n",
    ],
    ids=["other protocol", "TLS alert", "F76 3000 headers", "F76 huge header", "chunk", "length"],
)
@pytest.mark.parametrize("library", [None, httpx, httpx2], ids=["own", "httpx", "httpx2"])
async def test_F76_what_is_no_http_is_a_protocol_error(answer: bytes, library: Any) -> None:
    client = library and library.AsyncClient()
    message = await raw_answer(answer, http_client=client)
    if client is not None:
        await client.aclose()
    assert message.error_info is not None
    assert (message.error_info.kind, message.error_info.retryable) == ("protocol", False)


async def test_many_small_headers_and_http_1_0_are_fine() -> None:
    headers = b"".join(b"x-%d: v\r\n" % n for n in range(1000))
    assert (await raw_answer(OK + headers + b"\r\n" + END)).stop_reason == "stop"
    assert (await raw_answer(OK.replace(b"1.1", b"1.0") + b"\r\n" + END)).stop_reason == "stop"


@virtual_time
async def test_a_transport_that_yields_nothing_between_its_pieces_has_not_ended() -> None:
    assert (await play(Play([b"", chunk("a"), b"", b"", END]))).message.text == "a"
