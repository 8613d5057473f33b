"""A replay server as a process of its own: the answers of providers, chunk by chunk, at full speed or at a pace.

The address says what is answered, ``/<wire>/<events>/<events per write>/<writes per second>/…`` (0: as fast as the
client takes them), whatever an SDK appends to it: that many deltas, in the shape in which the provider of that wire
sends them (``pi_ai.testing`` has the shapes, and compares them with recordings). Every write is one HTTP chunk, and one
send of its own.

``/-/stats`` tells and forgets how many connections were opened, how long each answer took from the end of the request
to the write of its head, which is no fault of the client's, and when that was, on the clock of all processes.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from multiprocessing.connection import Connection

from benchmarks.contestants import BEDROCK, EVERY_SSE
from benchmarks.open_files import raise_file_limit
from pi_ai.testing import Turn, wire_events

WIRES = (*EVERY_SSE, BEDROCK)
WORDS = ["The", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog", "and", "then", "sleeps"]


@cache
def _head(wire: str) -> bytes:
    media_type = "application/vnd.amazon.eventstream" if wire == BEDROCK else "text/event-stream"
    return f"HTTP/1.1 200 OK\r\ncontent-type: {media_type}\r\ntransfer-encoding: chunked\r\n\r\n".encode()


@cache
def _body(wire: str, events: int, per_write: int) -> list[bytes]:
    """The HTTP chunks of an answer, one a write."""
    text = " ".join([WORDS[number % len(WORDS)] for number in range(events)])
    pieces = wire_events(Turn(text), wire)
    groups = [b"".join(pieces[start : start + per_write]) for start in range(0, len(pieces), per_write)]
    return [b"%x\r\n%s\r\n" % (len(group), group) for group in groups] + [b"0\r\n\r\n"]


class _Server:
    def __init__(self) -> None:
        self._connections = 0
        self._served: list[float] = []
        self._answered: list[float] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                lengths = [line[15:] for line in head.lower().split("\r\n") if line.startswith("content-length:")]
                await reader.readexactly(int(lengths[0]) if lengths else 0)
                came = time.perf_counter()
                wire, events, *how = head.split(" ", 2)[1].split("/")[1:5]
                if wire == "-":
                    self._tell(writer)
                    continue
                per_write, per_second = map(int, how)
                body = _body(wire, int(events), per_write)
                writer.write(_head(wire))
                answered = time.perf_counter()
                self._served.append(answered - came)
                self._answered.append(answered)
                if per_second:
                    await _paced(writer, body, 1 / per_second)
                    continue
                for chunk in body:
                    writer.write(chunk)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _tell(self, writer: asyncio.StreamWriter) -> None:
        stats = json.dumps(
            {
                "connections": self._connections - 1,  # less this one
                "served": self._served,
                "answered": self._answered,
            }
        ).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(stats), stats))
        self._connections, self._served, self._answered = 0, [], []
        writer.close()


def _paced(writer: asyncio.StreamWriter, chunks: list[bytes], interval: float) -> asyncio.Future[None]:
    """Write by timer: a task that sleeps would cost the server twice as much, and 1,000 streams come from one core."""
    loop = asyncio.get_running_loop()
    done, left, begun = loop.create_future(), enumerate(chunks, 1), loop.time()

    def write() -> None:
        number, chunk = next(left, (0, b""))
        if not chunk or writer.transport.is_closing():
            done.set_result(None)
            return
        writer.write(chunk)
        loop.call_at(begun + number * interval, write)

    write()
    return done


def _run(pipe: Connection) -> None:
    async def main() -> None:
        server = await asyncio.start_server(_Server().serve, "127.0.0.1", 0, backlog=4096)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    raise_file_limit()
    asyncio.run(main())


@contextmanager
def replay_server() -> Iterator[str]:
    """The server's URL, for as long as the block runs."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(theirs,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()
