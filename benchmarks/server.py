"""A replay server as a process of its own: one answer, chunk by chunk, as fast as the client takes it.

``GET /<wire>/<events>/<events per write>`` or any POST below it answers with that many deltas.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from multiprocessing.connection import Connection

TEXT = ["The", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog", "and", "then", "it", "sleeps", ""]


def _sse(payload: object, event: str | None = None) -> bytes:
    head = f"event: {event}\n" if event else ""
    return f"{head}data: {json.dumps(payload, separators=(',', ':'))}\n\n".encode()


def _openai_completions(events: int) -> Iterator[bytes]:
    """As OpenAI sends it: id, object, model and fingerprint on every chunk."""
    base = {
        "id": "chatcmpl-BRmVzJ6u3nE7Xf5gq0Yh2kLpTs9Ia",
        "object": "chat.completion.chunk",
        "created": 1746000000,
        "model": "gpt-test",
        "service_tier": "default",
        "system_fingerprint": "fp_a1b2c3d4e5",
    }
    for number in range(events):
        delta = {"content": " " + TEXT[number % len(TEXT)]}
        yield _sse(
            {**base, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}], "usage": None}
        )
    yield _sse(
        {**base, "choices": [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}], "usage": None}
    )
    usage = {"prompt_tokens": 12, "completion_tokens": events, "total_tokens": 12 + events}
    yield _sse({**base, "choices": [], "usage": usage})
    yield b"data: [DONE]\n\n"


def _anthropic_messages(events: int) -> Iterator[bytes]:
    """As Anthropic sends it: every event named, a ping after the first block has begun."""
    usage = {"input_tokens": 12, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 1}
    message = {
        "id": "msg_01XFDUDYJgAACzvnptvVoYEL",
        "type": "message",
        "role": "assistant",
        "model": "claude-test",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }
    yield _named("message_start", message=message)
    yield _named("content_block_start", index=0, content_block={"type": "text", "text": ""})
    yield _named("ping")
    for number in range(events):
        delta = {"type": "text_delta", "text": " " + TEXT[number % len(TEXT)]}
        yield _named("content_block_delta", index=0, delta=delta)
    yield _named("content_block_stop", index=0)
    delta = {"stop_reason": "end_turn", "stop_sequence": None}
    yield _named("message_delta", delta=delta, usage={"output_tokens": events})
    yield _named("message_stop")


def _named(kind: str, **fields: object) -> bytes:
    return _sse({"type": kind, **fields}, kind)


WIRES = {"openai-completions": _openai_completions, "anthropic-messages": _anthropic_messages}


@cache
def _body(wire: str, events: int, per_write: int) -> list[bytes]:
    """The HTTP chunks of an answer, one a write."""
    pieces = list(WIRES[wire](events))
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
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
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
