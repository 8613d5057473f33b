"""A TCP proxy that breaks what passes through it, to the byte (reliability T9). It knows nothing of HTTP.

It stands between a client and a :class:`~pi_ai.testing.Sandbox`; what it does to the bytes on their way back is told
for each connection, or made up from a seed::

    async with Sandbox("Hello") as box, FaultProxy(box.url, [Fault(300, "reset")]) as proxy:
        message = await pi.complete(box.model(base_url=proxy.url + …), context)
"""

from __future__ import annotations

import math
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from random import Random
from types import TracebackType
from typing import Literal, Self, TypeAlias
from urllib.parse import urlsplit

import anyio
import attrs
from anyio.abc import SocketAttribute, SocketStream

Way: TypeAlias = Literal["close", "reset", "stall", "flip"]


@attrs.frozen
class Fault:
    """What happens to one connection, on its way back.

    :ivar at: bytes that pass unharmed. ``then``: what follows: the connection is closed, or reset, or nothing comes any
        more, or the next byte has its lowest bit flipped and all goes on. None: all passes.
    :ivar slices: sizes of the pieces that it is cut into, in turn; none: as it comes.
    :ivar merge: pieces are held back until they have this many bytes, or nothing has come for a while.
    :ivar pause_s: before every piece.
    """

    at: float = math.inf
    then: Way | None = None
    slices: Sequence[int] = ()
    merge: int = 0
    pause_s: float = 0.0

    @classmethod
    def by_chance(cls, random: Random, size: int, *, then: Sequence[Way | None] = ("close", "reset", None)) -> Self:
        """Any fault of an answer of that size."""
        slices = [random.choice([1, 2, 3, 7, 50, 400]) for _ in range(random.randrange(4))]
        pause_s = random.choice([0.0, 0.0, 0.0, 0.0005]) if len(slices) == 0 or min(slices) > 5 else 0.0
        return cls(
            random.randrange(size),
            random.choice(then),
            slices,
            merge=random.choice([0, 0, 100, 1000]),
            pause_s=pause_s,
        )


class FaultProxy:
    """Passes on what comes to a free port of this machine, for as long as its block runs.

    :param upstream: URL of the server. ``faults``: of the first connections, in turn; those after them are left alone.
        A function is asked for each one's.
    :ivar passed: bytes that went back, by connection. ``open``: connections that are open now.
    """

    def __init__(self, upstream: str, faults: Sequence[Fault] | Callable[[int], Fault] = ()) -> None:
        self.faults = faults
        self.passed: list[int] = []
        self.open = 0
        self.url = ""
        parts = urlsplit(upstream)
        assert parts.hostname
        assert parts.port
        self._upstream = parts.hostname, parts.port
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
            self.url = f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"
            await stack.enter_async_context(listener)
            tasks = await stack.enter_async_context(anyio.create_task_group())
            stack.callback(tasks.cancel_scope.cancel)
            tasks.start_soon(listener.serve, self._connection)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool | None:
        return await self._stack.__aexit__(exc_type, exc, tb)

    def through(self, url: str) -> str:
        """A URL of the upstream server, through this proxy."""
        return self.url + url.partition("//")[2].partition(":")[2].lstrip("0123456789")

    def _fault(self, number: int) -> Fault:
        if callable(self.faults):
            return self.faults(number)
        return self.faults[number] if number < len(self.faults) else Fault()

    async def _connection(self, client: SocketStream) -> None:
        number = len(self.passed)
        self.passed.append(0)
        self.open += 1
        try:
            async with client, await anyio.connect_tcp(*self._upstream) as server, anyio.create_task_group() as tasks:
                tasks.start_soon(_pass_on, client, server, tasks.cancel_scope)
                with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                    await self._back(number, self._fault(number), server, client)
                tasks.cancel_scope.cancel()
        except OSError:
            pass  # the server is gone
        finally:
            self.open -= 1

    async def _back(self, number: int, fault: Fault, server: SocketStream, client: SocketStream) -> None:
        turn = 0
        while data := await _received(server, fault.merge):
            while data:
                size = fault.slices[turn % len(fault.slices)] if fault.slices else len(data)
                turn += 1
                piece, data = data[:size], data[size:]
                if fault.pause_s:
                    await anyio.sleep(fault.pause_s)
                left = fault.at - self.passed[number]
                if fault.then is not None and len(piece) > left:
                    whole = piece[: int(left)]
                    self.passed[number] += len(whole)
                    if fault.then != "flip":
                        if whole:
                            await client.send(whole)
                        await _broken(fault.then, client)
                        return
                    piece = whole + bytes([piece[len(whole)] ^ 1]) + piece[len(whole) + 1 :]
                    fault = attrs.evolve(fault, at=math.inf, then=None)
                    self.passed[number] -= len(whole)
                await client.send(piece)
                self.passed[number] += len(piece)


async def _pass_on(source: SocketStream, sink: SocketStream, scope: anyio.CancelScope) -> None:
    try:
        async for data in source:
            await sink.send(data)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        pass
    scope.cancel()  # the client has left


async def _received(server: SocketStream, merge: int) -> bytes:
    """The next bytes, or more of them at once; none at the end."""
    data = b""
    try:
        data = await server.receive()
        while len(data) < merge:
            with anyio.move_on_after(0.002) as nothing_came:
                data += await server.receive()
            if nothing_came.cancelled_caught:
                break
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        pass
    return data


async def _broken(way: Way, client: SocketStream) -> None:
    if way == "stall":
        await anyio.sleep_forever()
    if way == "reset":
        raw: socket.socket = client.extra(SocketAttribute.raw_socket)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await anyio.aclose_forcefully(client)
