"""A replay server as a process of its own: one answer, chunk by chunk, as fast as the client takes it.

Any request to ``/<wire>/<events>/<events per chunk>/…`` is answered with that many deltas, in the shape in which the
provider of that wire sends them (``pi_ai.testing`` has the shapes, and compares them with recordings).
"""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from multiprocessing.connection import Connection

from pi_ai.testing import Turn, wire_events

WORDS = ["The ", "quick ", "brown ", "fox ", "jumps ", "over ", "the ", "lazy ", "dog ", "and ", "then ", "sleeps "]
WIRES = (
    "openai-completions",
    "anthropic-messages",
    "openai-responses",
    "google-generative-ai",
    "bedrock-converse-stream",
)


@cache
def _body(wire: str, events: int, per_write: int) -> list[bytes]:
    """The HTTP chunks of an answer, one a write."""
    text = "".join([WORDS[number % len(WORDS)] for number in range(events)])
    pieces = wire_events(Turn(text), wire)
    groups = [b"".join(pieces[start : start + per_write]) for start in range(0, len(pieces), per_write)]
    return [b"%x\r\n%s\r\n" % (len(group), group) for group in groups] + [b"0\r\n\r\n"]


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = next(
                (int(line[15:]) for line in head.lower().split("\r\n") if line.startswith("content-length:")), 0
            )
            await reader.readexactly(length)
            wire, events, per_write = head.split(" ", 2)[1].split("/")[1:4]
            media_type = "application/vnd.amazon.eventstream" if wire.startswith("bedrock") else "text/event-stream"
            head = f"HTTP/1.1 200 OK\r\ncontent-type: {media_type}\r\ntransfer-encoding: chunked\r\n\r\n"
            writer.write(head.encode())
            for chunk in _body(wire, int(events), int(per_write)):
                writer.write(chunk)
                await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


def _run(pipe: Connection) -> None:
    async def main() -> None:
        server = await asyncio.start_server(_serve, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

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
