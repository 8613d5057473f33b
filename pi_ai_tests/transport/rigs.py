"""What the tests of HTTP share: answers without a network, a server that answers well, a proxy, certificates."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from functools import cache
from typing import Any

import anyio
import attrs
import httpx
import pytest

from pi_ai import (
    AssistantMessage,
    Registry,
    StreamEvent,
    TextDeltaEvent,
)
from pi_ai.errors import ErrorInfo
from pi_ai.testing.server import Answer, Received, Server
from pi_ai_tests.rigs import CONTEXT, END, SSE, chunk, model


@attrs.frozen
class Play:
    """An answer without a network. Steps of the body: bytes, seconds of silence, or what it fails with."""

    steps: list[Any] = attrs.field(factory=list)
    status: int = 200
    headers: dict[str, str] = SSE
    before: float = 0.0


class Plays(httpx.AsyncBaseTransport):
    """Answers the n-th request with the n-th play, the last one for ever; an exception is raised."""

    def __init__(self, *plays: Play | Exception) -> None:
        self.plays = plays
        self.requests: list[httpx.Request] = []
        self.open = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        play = self.plays[min(len(self.requests), len(self.plays) - 1)]
        self.requests.append(request)
        if isinstance(play, Exception):
            raise play
        await anyio.sleep(play.before)
        self.open += 1
        return httpx.Response(play.status, headers=play.headers, stream=Body(play.steps, self))


class Body(httpx.AsyncByteStream):
    def __init__(self, steps: list[Any], transport: Plays) -> None:
        self.steps = steps
        self.transport = transport

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for step in self.steps:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, bytes):
                yield step
            else:
                await anyio.sleep(step)

    async def aclose(self) -> None:
        self.transport.open -= 1


FOREVER = 1e6
PINGS = [b": ping\n\n", 20] * 1000
WELL = Play([chunk("a"), END])


@attrs.frozen
class Outcome:
    """What became of a call, and how many seconds it took."""

    message: AssistantMessage
    seconds: float
    plays: Plays

    @property
    def info(self) -> ErrorInfo:
        assert self.message.error_info is not None, self.message
        return self.message.error_info


async def play(*plays: Play | Exception, pi: Registry | None = None, **options: Any) -> Outcome:
    """Make a call that is answered by these plays."""
    transport = Plays(*plays)
    began = anyio.current_time()
    async with httpx.AsyncClient(transport=transport) as client:
        made = (pi or Registry()).stream(model(), CONTEXT, **{"max_retries": 0, "http_client": client, **options})
        message = await made.result()
    assert transport.open == 0
    return Outcome(message, anyio.current_time() - began, transport)


async def collected(events: Any) -> list[StreamEvent]:
    with anyio.fail_after(10):
        return [event async for event in events]


async def first_delta(events: Any) -> None:
    with anyio.fail_after(10):
        async for event in events:
            if isinstance(event, TextDeltaEvent):
                return


async def until(condition: Callable[[], bool], within: float = 5) -> None:
    with anyio.fail_after(within):
        while not condition():
            await anyio.sleep(0.002)


@cache
def certificates() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's TLS context, and a client's that trusts it."""
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("127.0.0.1", "a.test").configure_cert(server)
    authority.configure_trust(client)
    return server, client


async def well(request: Received, answer: Answer) -> None:
    """Answers well; ``stall`` in the path stalls after the first delta."""
    await answer.head(200, SSE)
    await answer.send(chunk("a"))
    if "stall" in request.path:
        await answer.stall()
    await answer.send(END)
    await answer.end()


class Proxy(Server):
    """Forwards plain requests; a tunnel is refused, or leads to nowhere."""

    def __init__(self) -> None:
        super().__init__(self.forward)

    async def forward(self, request: Received, answer: Answer) -> None:
        if request.method == "CONNECT":
            if "stall" in request.path:
                await answer.stall()
            await answer.whole(403, {}, b"")
            return
        async with (
            httpx.AsyncClient(trust_env=False) as client,
            client.stream(request.method, request.path, content=request.body) as found,
        ):
            await answer.head(found.status_code, {"content-type": found.headers["content-type"]})
            async for data in found.aiter_raw():
                await answer.send(data)
            await answer.end()


HTTPS = {"authorization": "Bearer x"}
