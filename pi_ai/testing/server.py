r"""A loopback HTTP/1.1 server that does to the byte what a test tells it, faults included.

A handler is an async function that gets a request and answers it step by step; the server records what came and how
every connection ended::

    async def handler(request, answer):
        await answer.head(200, {"content-type": "text/event-stream"})
        await answer.send(b"data: {}\n\n")
        await answer.reset()

    async with Server(handler) as server:
        ...  # server.url, server.requests
"""

from __future__ import annotations

import json
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

import anyio
import attrs
from anyio.abc import ByteStream, SocketAttribute, TaskGroup
from anyio.streams.tls import TLSListener

Ending: TypeAlias = Literal["open", "served", "client left", "closed", "reset"]
"""How the exchange of a request ended: ``served`` to its end, ``client left`` first, or we ``closed``/``reset``."""


@attrs.define(eq=False)
class Received:
    """A request as the server got it.

    :ivar headers: by lower-case name.
    :ivar connection: number of the connection that it came on; equal for requests that share one.
    :ivar gone: set when the client has left, or the answer has ended.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int
    ended: Ending = "open"
    gone: anyio.Event = attrs.field(factory=anyio.Event)

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Answer:
    """The answer to one request, written step by step."""

    def __init__(self, stream: ByteStream, request: Received) -> None:
        self._stream = stream
        self._request = request
        self._chunked = False
        self._begun = False

    async def head(
        self, status: int = 200, headers: Mapping[str, str] | None = None, *, length: int | None = None
    ) -> None:
        """Send status and headers; the body is chunked unless ``length`` is given."""
        self._chunked, self._begun = length is None, True
        framing = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
        lines = [
            f"HTTP/1.1 {status} Scripted",
            framing,
            *(f"{name}: {value}" for name, value in (headers or {}).items()),
        ]
        await self._stream.send("\r\n".join([*lines, "", ""]).encode("latin-1"))

    async def send(self, data: bytes) -> None:
        """Send a piece of the body: one chunk, one write."""
        if data:
            await self._stream.send(b"%x\r\n%s\r\n" % (len(data), data) if self._chunked else data)

    async def raw(self, data: bytes) -> None:
        """Send bytes as they are, outside of any framing."""
        self._begun = True
        await self._stream.send(data)

    async def end(self) -> None:
        """End the body; the connection stays open for the next request."""
        if self._chunked:
            await self._stream.send(b"0\r\n\r\n")
        self._request.ended = "served"

    async def whole(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Head, body and end at once."""
        await self.head(status, headers, length=len(body))
        if body:
            await self._stream.send(body)
        self._request.ended = "served"

    async def stall(self) -> None:
        """Say nothing more until the client leaves."""
        await anyio.sleep_forever()

    async def close(self) -> None:
        """Close the connection in mid-answer, without ending the body."""
        self._request.ended = "closed"
        await self._stream.aclose()

    async def reset(self) -> None:
        """Reset the connection (TCP RST)."""
        self._request.ended = "reset"
        raw: socket.socket = self._stream.extra(SocketAttribute.raw_socket)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await anyio.aclose_forcefully(self._stream)


Handler: TypeAlias = Callable[[Received, Answer], Awaitable[None]]


class Server:
    """Serves on a free port of 127.0.0.1 for as long as its ``async with`` block runs.

    :param tls: serve https with the certificate in this context.
    :ivar requests: what came, in order. ``connections``: how many connections were made.
    :ivar open: connections that are open now.
    """

    def __init__(self, handler: Handler, *, tls: ssl.SSLContext | None = None) -> None:
        self.handler = handler
        self.tls = tls
        self.requests: list[Received] = []
        self.connections = 0
        self.open = 0
        self.url = ""
        self._tasks: TaskGroup | None = None

    async def __aenter__(self) -> Self:
        plain = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
        listener = plain if self.tls is None else TLSListener(plain, self.tls, standard_compatible=False)
        scheme = "http" if self.tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{plain.extra(SocketAttribute.local_port)}"
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()

        async def serve() -> None:
            async with listener:
                await listener.serve(self._connection)

        self._tasks.start_soon(serve)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool | None:
        assert self._tasks is not None
        self._tasks.cancel_scope.cancel()
        return await self._tasks.__aexit__(exc_type, exc, tb)

    async def _connection(self, stream: ByteStream) -> None:
        self.connections += 1
        self.open += 1
        number = self.connections
        wire = _Wire(stream)
        try:
            async with stream:
                while (request := await wire.request(number)) is not None:
                    self.requests.append(request)
                    if not await self._answer(wire, request):
                        return
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            pass
        finally:
            self.open -= 1

    async def _answer(self, wire: _Wire, request: Received) -> bool:
        """Run the handler until it is done or the client leaves; True where the connection can be used again."""
        async with anyio.create_task_group() as tasks:

            async def watch() -> None:
                if await wire.left():
                    request.ended = "client left" if request.ended == "open" else request.ended
                    tasks.cancel_scope.cancel()

            tasks.start_soon(watch)
            try:
                await self.handler(request, Answer(wire.stream, request))
            except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
                request.ended = "client left" if request.ended == "open" else request.ended
            finally:
                request.gone.set()
            tasks.cancel_scope.cancel()
        return request.ended == "served"


class _Wire:
    """The reading side of a connection."""

    def __init__(self, stream: ByteStream) -> None:
        self.stream = stream
        self._buffer = bytearray()

    async def request(self, connection: int) -> Received | None:
        """The next request; None when the client has left."""
        head = await self._until(b"\r\n\r\n")
        if head is None:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ", 2)
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await self._exactly(int(headers.get("content-length", 0)))
        return None if body is None else Received(method, path, headers, body, connection)

    async def left(self) -> bool:
        """Wait until the client leaves. What it sends meanwhile is kept for the next request."""
        while await self._more():
            pass
        return True

    async def _until(self, mark: bytes) -> bytes | None:
        while (at := self._buffer.find(mark)) < 0:
            if not await self._more():
                return None
        head = bytes(self._buffer[:at])
        del self._buffer[: at + len(mark)]
        return head

    async def _exactly(self, count: int) -> bytes | None:
        while len(self._buffer) < count:
            if not await self._more():
                return None
        body = bytes(self._buffer[:count])
        del self._buffer[:count]
        return body

    async def _more(self) -> bool:
        try:
            self._buffer += await self.stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            return False
        return True
