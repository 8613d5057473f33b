"""Clients of the caller's: httpx's and httpx2's."""

from __future__ import annotations

import gzip
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import Any

import anyio
import httpx
import httpx2
import pytest

from pi_ai import (
    complete,
    stream,
)
from pi_ai.testing.server import Server
from pi_ai_tests.rigs import CONTEXT, END, SSE, chunk, model
from pi_ai_tests.transport.rigs import collected, first_delta, until, well

pytestmark = pytest.mark.anyio


libraries = pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])


def reply(library: Any, answer: Any) -> Callable[..., Awaitable[Any]]:
    """A transport's handler that answers with a response, or raises."""

    async def handle(request: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return handle


@libraries
@pytest.mark.parametrize(
    ("name", "kind", "phase", "text", "retryable"),
    [
        ("ConnectTimeout", "timeout_connect", "connect", "Request timed out: connect", True),
        ("PoolTimeout", "timeout_connect", "connect", "Request timed out: pool", True),
        ("ReadTimeout", "timeout_idle", "headers", "Request timed out: read", True),
        ("WriteTimeout", "timeout_first", "send", "Request timed out: write", True),
        ("ConnectError", "connect", "connect", "Connection error: words", True),
        ("ProxyError", "connect", "connect", "Connection error: words", True),
        ("ReadError", "disconnected", "headers", "Connection error: words", True),
        ("WriteError", "disconnected", "send", "Connection error: words", True),
        ("UnsupportedProtocol", "config", "connect", "Connection error: words", False),
        ("LocalProtocolError", "config", "send", "Connection error: words", False),
        ("RemoteProtocolError", "protocol", "headers", "Invalid answer: words", False),
        ("DecodingError", "protocol", "headers", "Invalid answer: words", False),
    ],
)
async def test_ET2_the_exceptions_of_both_clients_become_the_same_failures(
    library: Any, name: str, kind: str, phase: str, text: str, retryable: bool
) -> None:
    error = getattr(library, name)("words")
    async with library.AsyncClient(transport=library.MockTransport(reply(library, error))) as client:
        message = await complete(model(), CONTEXT, http_client=client, max_retries=0)
    assert message.error_info is not None
    info = message.error_info
    assert (info.kind, info.phase, message.error_message, info.retryable) == (kind, phase, text, retryable)
    assert info.cause is error


@libraries
async def test_a_refused_connection_tells_the_systems_own_words(library: Any) -> None:
    async with library.AsyncClient() as client:
        theirs = await complete(model(), CONTEXT, http_client=client, max_retries=0)
    ours = await complete(model(), CONTEXT, max_retries=0)
    for message in (theirs, ours):
        assert message.error_info is not None
        assert (message.error_info.kind, message.error_info.phase) == ("connect", "connect")
        assert (message.error_message or "").startswith("Connection error: ")


def chained(*errors: Exception, by: str) -> Exception:
    for error, inner in pairwise(errors):
        setattr(error, by, inner)
    return errors[0]


def with_number(error: OSError, number: int) -> OSError:
    error.errno = number
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (chained(httpx.ReadError("outer"), ValueError("inner"), by="__cause__"), "inner"),
        (chained(httpx.ReadError("outer"), ValueError("inner"), by="__context__"), "inner"),
        (chained(httpx.ReadError("outer"), KeyError(), by="__cause__"), "KeyError"),
        (chained(httpx.ReadError("0"), *(ValueError(f"{n}") for n in range(1, 9)), by="__cause__"), "5"),
        (chained(httpx.ReadError(""), OSError(111, "refused"), by="__cause__"), "[Errno 111] refused"),
        (chained(httpx.ReadError(""), with_number(OSError("refused"), 111), by="__cause__"), "refused (errno 111)"),
    ],
    ids=["cause", "context", "without words", "a long chain", "a number in the words", "a number besides"],
)
async def test_a_failure_tells_the_words_of_its_innermost_cause(error: Exception, words: str) -> None:
    async with httpx.AsyncClient(transport=httpx.MockTransport(reply(httpx, error))) as client:
        message = await complete(model(), CONTEXT, http_client=client, max_retries=0)
    assert message.error_message == f"Connection error: {words}"
    assert message.error_info is not None
    assert message.error_info.message.endswith(f"({words})")


@pytest.mark.parametrize("client", [None, httpx, httpx2], ids=["ours", "httpx", "httpx2"])
async def test_X2_a_failed_request_keeps_no_frame_that_it_came_through_and_changes_nobody_elses(client: Any) -> None:
    async with AsyncExitStack() as stack:
        theirs = None if client is None else await stack.enter_async_context(client.AsyncClient())
        try:
            raise KeyError("handled already")
        except KeyError as error:
            handled = error
            message = await complete(model(), CONTEXT, http_client=theirs, max_retries=0)
    assert handled.__traceback__ is not None
    assert message.error_info is not None
    assert message.error_info.kind == "connect"
    link, links = message.error_info.cause, 0
    while link is not None and link is not handled:
        assert link.__traceback__ is None
        link, links = link.__cause__ or link.__context__, links + 1
    assert links >= 2


@libraries
async def test_a_mock_transport_works(library: Any) -> None:
    whole = library.Response(200, headers=SSE, content=chunk("a") + END)
    async with library.AsyncClient(transport=library.MockTransport(reply(library, whole))) as client:
        message = await complete(model(), CONTEXT, http_client=client)
    assert (message.stop_reason, message.text) == ("stop", "a")


@libraries
async def test_a_compressed_answer_that_a_client_has_read_already_is_not_decompressed_again(library: Any) -> None:
    packed = gzip.compress(chunk("a") + END)
    whole = library.Response(200, headers={**SSE, "content-encoding": "gzip"}, content=packed)
    async with library.AsyncClient(transport=library.MockTransport(reply(library, whole))) as client:
        message = await complete(model(), CONTEXT, http_client=client)
    assert (message.stop_reason, message.text) == ("stop", "a")


@libraries
async def test_a_clients_own_headers_do_not_replace_ours(library: Any) -> None:
    headers = {"Authorization": "Bearer wrong", "CONTENT-TYPE": "text/plain", "user-agent": "mine", "x-mine": "1"}
    async with Server(well) as server, library.AsyncClient(headers=headers) as client:
        message = await complete(model(server.url), CONTEXT, http_client=client, api_key="right")
        assert message.text == "a"
        got = server.requests[0].headers
    assert (got["authorization"], got["content-type"], got["x-mine"]) == ("Bearer right", "application/json", "1")
    assert got["user-agent"].startswith("pi-ai")


@libraries
async def test_a_client_is_left_whole_by_every_ending(library: Any) -> None:
    limits = library.Limits(max_connections=1)
    async with Server(well) as server, library.AsyncClient(limits=limits) as client:
        for ending in ("done", "abort", "cancel", "aclose", "done"):
            events = stream(model(f"{server.url}/{'stall' if ending != 'done' else ''}"), CONTEXT, http_client=client)
            await first_delta(events)
            if ending == "abort":
                events.abort()
            elif ending == "cancel":
                with anyio.move_on_after(0):
                    await collected(events)
            elif ending == "aclose":
                await events.aclose()
            with anyio.fail_after(2):
                await events.result()
        await until(lambda: server.open <= 1)
