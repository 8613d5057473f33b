"""Ways to read the same stream, each in a fresh process: ``python -m benchmarks.contestants NAME URL WIRE``.

Prints the CPU seconds (user and system) of one stream after a warm-up, and how many deltas it saw.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial

import anyio

Read = Callable[[], Awaitable[int]]


async def _httpx_raw(url: str, client: object) -> int:
    count = 0
    async with client.stream("POST", url, json={}, timeout=None) as response:
        async for _ in response.aiter_raw():
            count += 1
    return count


async def _httpx_sse_json(url: str, client: object) -> int:
    from httpx_sse import aconnect_sse

    count = 0
    async with aconnect_sse(client, "POST", url, json={}, timeout=None) as source:
        async for event in source.aiter_sse():
            if event.data != "[DONE]":
                json.loads(event.data)
                count += 1
    return count


async def _botocore_json(url: str, client: object) -> int:
    from botocore.eventstream import EventStreamBuffer

    count = 0
    async with client.stream("POST", url, json={}, timeout=None) as response:
        frames = EventStreamBuffer()
        async for data in response.aiter_raw():
            frames.add_data(data)
            for frame in frames:
                json.loads(frame.payload)
                count += 1
    return count


async def _bare(read: Callable[[str, object], Awaitable[int]], url: str, wire: str) -> None:
    import httpx

    async with httpx.AsyncClient() as client:
        await _measured(lambda: read(url, client))


async def _pi_ai(url: str, wire: str) -> None:
    from pi_ai import Context, Model, Registry, TextDeltaEvent, UserMessage

    model = Model(id="gpt-test", api=wire, provider="bench", base_url=url)
    context = Context([UserMessage("Go.")])

    async with Registry() as pi:

        async def read() -> int:
            count = 0
            async for event in pi.stream(model, context, api_key="bench"):
                if isinstance(event, TextDeltaEvent):
                    count += 1
            return count

        await _measured(read)


async def _measured(read: Read) -> None:
    await read()
    before = time.process_time()
    began = time.perf_counter()
    count = await read()
    print(json.dumps({"cpu": time.process_time() - before, "wall": time.perf_counter() - began, "count": count}))


CONTESTANTS = {
    "httpx raw (L1)": ("asyncio", {}, partial(_bare, _httpx_raw)),
    "httpx + httpx-sse + json (L4)": ("asyncio", {}, partial(_bare, _httpx_sse_json)),
    "httpx + botocore + json (L4)": ("asyncio", {}, partial(_bare, _botocore_json)),
    "pi_ai asyncio": ("asyncio", {}, _pi_ai),
    "pi_ai uvloop": ("asyncio", {"use_uvloop": True}, _pi_ai),
    "pi_ai trio": ("trio", {}, _pi_ai),
}


def contestants(wire: str) -> tuple[str, list[str]]:
    """Who can read a wire, and which of them is the bare loop (L4) that the others are measured by."""
    skipped, bare = ("httpx-sse", "botocore") if wire.startswith("bedrock") else ("botocore", "httpx-sse")
    names = [name for name in CONTESTANTS if skipped not in name]
    return next(name for name in names if bare in name), names


def main(name: str, url: str, wire: str) -> None:
    backend, options, run = CONTESTANTS[name]
    anyio.run(run, url, wire, backend=backend, backend_options=options)


if __name__ == "__main__":
    main(*sys.argv[1:])
