"""Time that jumps, and a network in memory (reliability T6, T7): hours of waiting in no time, exact on both loops.

The whole client is real, down to the pool and the HTTP engine; only the sockets below it are not, because a clock that
jumps whenever nothing is left to do would not wait for bytes that the operating system has in hand.
"""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest
import trio.testing
from anyio.abc import ByteStream
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from anyio.streams.stapled import StapledObjectStream

from pi_ai.testing import Sandbox


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits for a timer: it tells how long it should have."""

    waited = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            return super().select(None)
        self.waited += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer whenever there is nothing else to do."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.waited


virtual_time = pytest.mark.parametrize(
    "anyio_backend",
    [
        pytest.param(("asyncio", {"loop_factory": VirtualTimeLoop}), id="asyncio"),
        pytest.param(("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}), id="trio"),
    ],
    indirect=True,
)


class _Stream(ByteStream):
    """The client's end of a connection."""

    def __init__(self, send: MemoryObjectSendStream[bytes], receive: MemoryObjectReceiveStream[bytes]) -> None:
        self._send, self._receive = send, receive
        self._rest = b""

    async def receive(self, max_bytes: int = 65536) -> bytes:
        if not self._rest:
            self._rest = await self._receive.receive()
        data, self._rest = self._rest[:max_bytes], self._rest[max_bytes:]
        return data

    async def send(self, item: bytes) -> None:
        await self._send.send(item)

    async def send_eof(self) -> None:
        self._send.close()

    async def aclose(self) -> None:
        self._send.close()
        self._receive.close()


@contextmanager
def in_memory(box: Sandbox) -> Iterator[None]:
    """Whatever is connected to leads to this sandbox, and to no socket."""

    async def connect(host: str, port: int) -> ByteStream:
        to_server, at_server = anyio.create_memory_object_stream[bytes](math.inf)
        to_client, at_client = anyio.create_memory_object_stream[bytes](math.inf)
        assert box._server._tasks is not None
        box._server._tasks.start_soon(box._server._connection, StapledObjectStream(to_client, at_server))
        return _Stream(to_server, at_client)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anyio, "connect_tcp", connect)
        yield
