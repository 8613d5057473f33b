"""Where a head ends and a chunked body begins, which is read past httpcore: byte for byte the same as with it."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise
from typing import Any

import anyio
import attrs
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pi_ai import AssistantMessage, Registry, TextDeltaEvent, transport
from pi_ai.clocks import Clocks
from pi_ai.testing.server import Answer, Received, Server
from pi_ai.types import DEFAULT_TIMEOUTS
from pi_ai.wire.chunked import ChunkedDecoder
from pi_ai_tests.rigs import CONTEXT, END, model
from pi_ai_tests.rigs import chunk as event
from pi_ai_tests.transport.rigs import until

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("http")]

TYPE = b"content-type: text/event-stream\r\n"
HEAD = b"HTTP/1.1 200 OK\r\n" + TYPE + b"transfer-encoding: chunked\r\n\r\n"


def framed(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)


LAST = b"0\r\n\r\n"
BODY = framed(event("a"), event("b"), END)


@asynccontextmanager
async def answering(*answers: bytes | list[bytes], leave: bool = False) -> AsyncIterator[Server]:
    """A server that writes the n-th answer to the n-th request, in these pieces, the last one for ever."""

    async def handler(request: Received, answer: Answer) -> None:
        said = answers[min(len(server.requests), len(answers)) - 1]
        for piece in said if isinstance(said, list) else [said]:
            await answer.raw(piece)
            await anyio.lowlevel.checkpoint()
        if leave:
            await answer.close()
        request.ended = "closed" if leave else "served"

    async with Server(handler) as server:
        yield server


async def ask(pi: Registry, server: Server, **options: Any) -> AssistantMessage:
    with anyio.fail_after(20):
        return await pi.complete(model(server.url), CONTEXT, max_retries=0, **options)


def kind(message: AssistantMessage) -> str | None:
    return message.error_info and message.error_info.kind


# ── heads ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_heads_and_chunks_in_pieces_of_any_size_are_the_same_answer(size: int) -> None:
    whole = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" + HEAD + BODY + LAST
    pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
    async with answering(pieces) as server, Registry() as pi:
        for _ in range(2):
            assert (await ask(pi, server)).text == "ab"
        assert server.connections == 1


@pytest.mark.parametrize(
    "before",
    [
        b"",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n",
    ],
    ids=["none", "100", "102 and 103"],
)
@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
async def test_interim_answers_are_passed_over_in_one_packet_with_the_body(before: bytes, line_end: bytes) -> None:
    head = (before + HEAD).replace(b"\r\n", line_end)
    async with answering(head + BODY + LAST) as server, Registry() as pi:
        for _ in range(2):
            assert (await ask(pi, server)).text == "ab"
        assert server.connections == 1


@pytest.mark.parametrize(
    ("head", "text", "failed"),
    [
        (b"HTTP/1.0 200 OK\r\ntransfer-encoding: Chunked\r\n", "ab", None),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n", "ab", None),
        (b"HTTP/1.1 200 OK\r\nx: folded\r\n line\r\ntransfer-encoding: chunked\r\n", "ab", None),
        (b"HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n", "", "truncated"),
        (b"HTTP/1.1 304 Not Modified\r\ntransfer-encoding: chunked\r\n", "", "config"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n", "", "protocol"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "", "protocol"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n", "", "protocol"),
        (b"HTTP/1.1 200 OK\r\n folded: first\r\n", "", "protocol"),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n", "", "protocol"),
        (b"HTTP/1.1 200 OK\r\nblank : before\r\n", "", "protocol"),
        (b"HTTP/1.1 20 OK\r\n", "", "protocol"),
        (b"HTTP/2 200 OK\r\n", "", "protocol"),
        (b"\r\nHTTP/1.1 200 OK\r\n", "", "protocol"),
    ],
)
async def test_F76_every_head_is_judged_as_httpx_does(head: bytes, text: str, failed: str | None) -> None:
    async with (
        answering(head + TYPE + b"\r\n" + BODY + LAST, leave=True) as server,
        Registry() as pi,
        httpx.AsyncClient() as client,
    ):
        ours = await ask(pi, server)
        theirs = await ask(pi, server, http_client=client)
    assert (ours.text, kind(ours)) == (theirs.text, kind(theirs))
    assert ours.text == text
    assert failed is None or kind(ours) == failed


async def test_an_early_answer_to_a_large_request_is_read() -> None:
    """It comes before the server has taken what is sent, and the connection with it."""
    refusal = b'{"error": {"message": "too much"}}'

    async def serve(connection: Any) -> None:
        await connection.receive(10)
        length = b"content-length: %d\r\nconnection: close\r\n" % len(refusal)
        await connection.send(b"HTTP/1.1 413 Too Large\r\n" + length + b"\r\n" + refusal)
        async with connection:
            async for _ in connection:
                pass

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        url = f"http://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
        context = attrs.evolve(CONTEXT, system_prompt="x" * 8_000_000)
        async with Registry() as pi:
            message = await pi.complete(model(url), context, max_retries=0)
        tasks.cancel_scope.cancel()
    assert message.error_info is not None
    assert (message.error_info.status, "too much" in (message.error_message or "")) == (413, True)


# ── chunks ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_comes_in_one_read_is_read_at_once_and_what_does_not_is_not_waited_for() -> None:
    go_on = anyio.Event()

    async def handler(request: Received, answer: Answer) -> None:
        await answer.raw(HEAD + framed(event("a"), event("b")) + framed(event("c"))[:-20])
        await go_on.wait()
        await answer.raw(framed(event("c"))[-20:] + framed(END) + LAST)
        request.ended = "served"

    async with Server(handler) as server, Registry() as pi:
        texts: list[str] = []
        async for one in pi.stream(model(server.url), CONTEXT):
            if isinstance(one, TextDeltaEvent):
                texts.append(one.delta)
                if len(texts) == 2:
                    go_on.set()
    assert texts == ["a", "b", "c"]


@pytest.mark.parametrize("trailers", [b"", b"x-checksum: 1\r\n"])
async def test_a_body_with_trailers_ends_and_its_connection_is_kept(trailers: bytes) -> None:
    async with answering(HEAD + BODY + b"0\r\n" + trailers + b"\r\n") as server, Registry() as pi:
        for _ in range(3):
            assert (await ask(pi, server)).text == "ab"
        assert server.connections == 1


@pytest.mark.parametrize("more", [HEAD + framed(event("stolen"), END) + LAST, b"junk", b"\0"])
async def test_F25_an_answer_that_nobody_asked_for_is_never_taken_for_the_next_one(more: bytes) -> None:
    async with answering(HEAD + BODY + LAST + more, HEAD + BODY + LAST) as server, Registry() as pi:
        for _ in range(3):
            assert (await ask(pi, server)).text == "ab"
        assert [request.connection for request in server.requests] == [1, 2, 2]


@pytest.mark.parametrize("broken", [b"nonsense\r\n", b"5\r\nhello!!", b"0\r\nno trailer\r\n\r\n"])
async def test_F76_what_stood_before_broken_chunks_is_kept_and_the_connection_is_not(broken: bytes) -> None:
    async with answering(HEAD + framed(event("a"), event("b")) + broken) as server, Registry() as pi:
        message = await ask(pi, server)
        await until(lambda: server.open == 0)
    assert message.error_info is not None
    assert (message.text, message.error_info.kind, message.error_info.retryable) == ("ab", "protocol", False)
    assert (message.error_message or "").startswith("Invalid answer: ")


async def test_F22_a_body_that_breaks_off_has_the_words_of_the_normal_one() -> None:
    async with (
        answering(HEAD + BODY[: -len(framed(END)) - 5], leave=True) as server,
        Registry() as pi,
        httpx.AsyncClient() as client,
    ):
        ours, theirs = await ask(pi, server), await ask(pi, server, http_client=client)
    assert (ours.text, kind(ours), ours.error_message) == (theirs.text, kind(theirs), theirs.error_message)
    assert kind(ours) == "disconnected"


async def test_an_empty_chunked_body_keeps_its_connection() -> None:
    async with answering(HEAD + LAST, HEAD + BODY + LAST) as server, Registry() as pi:
        assert kind(await ask(pi, server)) == "truncated"
        assert (await ask(pi, server)).text == "ab"
        assert server.connections == 1


# ── which decoder ────────────────────────────────────────────────────────────────────────────────────────────


def test_without_httptools_the_decoder_in_python_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "httptools", None)
    monkeypatch.delitem(sys.modules, "pi_ai.wire.fast_chunked", raising=False)
    try:
        transport._chunked_decoder.cache_clear()
        assert transport._chunked_decoder() is ChunkedDecoder
    finally:
        transport._chunked_decoder.cache_clear()


async def test_a_request_without_a_body_and_one_of_the_head_alone_are_answered() -> None:
    answer = HEAD.replace(b"text/event-stream", b"text/plain") + framed(b"well") + LAST
    async with answering(HEAD, answer) as server:
        async with transport.Connections() as connections:
            for method, body in (("HEAD", b""), ("GET", b"well")):
                clocks = Clocks(DEFAULT_TIMEOUTS)
                request = transport.HttpRequest(url=server.url, headers={}, body=b"", method=method)
                exchange = await connections.open(request, clocks)
                try:
                    assert await exchange.read_all(100) == body
                finally:
                    await exchange.aclose()
        assert server.connections == 1


# ── mangled answers ──────────────────────────────────────────────────────────────────────────────────────────

GOOD = HEAD + framed(event("a"), event("b") + event("c"), END) + LAST
CHANGES = st.tuples(
    st.integers(0, len(GOOD)),
    st.integers(0, 3),
    st.sampled_from(
        [b"", b"\r\n", b"\n", b"0", b"5", b"f", b";a", b";", b" ", b"\0", b":", b"0\r\n\r\n", b"\xff", b"x"]
    ),
)


def mangled(changes: list[tuple[int, int, bytes]]) -> bytes:
    data = GOOD
    for at, removed, put in changes:
        data = data[:at] + put + data[at + removed :]
    return data


async def outcomes(data: bytes, cuts: list[int]) -> list[tuple[str, bool, str]]:
    """What becomes of an answer: by this decoder, and by httpx; text, whether it is whole, and how it failed."""
    pieces = [data[a:b] for a, b in pairwise([0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)])]
    async with answering(pieces, leave=True) as server, Registry() as pi, httpx.AsyncClient() as client:
        made = [await ask(pi, server), await ask(pi, server, http_client=client)]
    # Whether bytes are refused at once or when no more come makes the one difference.
    kinds = [re.sub("protocol|disconnected", "broken", kind(message) or "") for message in made]
    return [(message.text, message.stop_reason == "stop", how) for message, how in zip(made, kinds, strict=True)]


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(CHANGES, max_size=3), st.lists(st.integers(0, 2000), max_size=4))
def test_F76_a_mangled_answer_cut_anywhere_has_the_outcome_that_httpx_gives(
    changes: list[tuple[int, int, bytes]], cuts: list[int]
) -> None:
    ours, theirs = anyio.run(partial(outcomes, mangled(changes), cuts))
    if ours[2] == "broken" != theirs[2]:
        # Extensions and trailers that are against the grammar are refused here, and read over there.
        assert theirs[0].startswith(ours[0])
    else:
        assert ours == theirs
