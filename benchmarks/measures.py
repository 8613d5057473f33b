"""What is measured, inside the fresh process of one contestant: ``main()`` prints what one measure found, as JSON.

Everything that a measure needs is imported inside it: imports are a measure themselves. CPU is user and system time of
this process alone; the server is another one.
"""

from __future__ import annotations

import importlib.metadata
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from benchmarks.contestants import CONTESTANTS, Contestant, Read

Found = dict[str, float]


def _url(server: str, wire: str, events: int, per_write: int = 1, per_second: int = 0) -> str:
    return f"{server}/{wire}/{events}/{per_write}/{per_second}"


def _running(contestant: Contestant, function: Callable[[], Awaitable[Found]]) -> Found:
    import anyio

    return anyio.run(function, backend=contestant.backend, backend_options=contestant.backend_options)


def _stats(server: str) -> dict[str, Any]:
    from urllib.request import urlopen

    with urlopen(f"{server}/-/stats") as response:
        return json.load(response)


def _resident_kb() -> float:
    """Memory that this process holds; where the system does not say, the most that it ever held."""
    status = Path("/proc/self/status")
    if status.exists():
        return float(status.read_text().partition("VmRSS:")[2].split()[0])
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)


class _Counted:
    """Calls of ``seen``, and whether they are as many as were sent."""

    def __init__(self, contestant: Contestant) -> None:
        self._name = contestant.name if contestant.counts else None
        self.count = 0

    def __call__(self) -> None:
        self.count += 1

    def check(self, sent: int) -> None:
        if self._name is not None and self.count != sent:
            raise SystemExit(f"{self._name} saw {self.count} of {sent} pieces of text")


def stream(contestant: Contestant, server: str, wire: str, events: int, per_write: int) -> Found:
    """One stream as fast as it goes, after one to warm up."""

    async def run() -> Found:
        async with contestant.open(_url(server, wire, events, per_write), wire) as read:
            await read(_Counted(contestant))
            seen = _Counted(contestant)
            cpu, began = time.process_time(), time.perf_counter()
            await read(seen)
            cpu, took = time.process_time() - cpu, time.perf_counter() - began
            seen.check(events)
            return {"cpu_us": cpu / events * 1e6, "events_per_second": events / took}

    return _running(contestant, run)


def first_event(contestant: Contestant, server: str, wire: str, calls: int) -> Found:
    """From the call to its first piece of text, less what the server took to write it: of the process's first call, of
    the first calls of new clients, and of calls over a pooled connection. Of the last also from the moment when the
    server had written the head of its answer: what reading alone takes.
    """

    async def run() -> Found:
        texts: list[float] = []

        async def first(read: Read, began: float) -> float:
            times: list[float] = []
            await read(lambda: times.append(time.perf_counter()))
            texts.append(times[0])
            return (times[0] - began) * 1000

        url = _url(server, wire, 5)
        cold: list[float] = []
        _stats(server)
        for _ in range(1 + max(3, calls // 10)):
            began = time.perf_counter()
            async with contestant.open(url, wire) as read:
                cold.append(await first(read, began))
        async with contestant.open(url, wire) as read:
            pooled = [await first(read, time.perf_counter()) for _ in range(1 + calls)]
        stats = _stats(server)
        theirs = statistics.median(stats["served"]) * 1000
        reading = [(text - head) * 1000 for text, head in zip(texts, stats["answered"], strict=True)]
        return {
            "first_call_ms": cold[0] - theirs,
            "cold_ms": statistics.median(cold[1:]) - theirs,
            "pooled_ms": statistics.median(pooled[1:]) - theirs,
            "reading_ms": statistics.median(reading[-calls:]),
        }

    return _running(contestant, run)


def paced(contestant: Contestant, server: str, wire: str, streams: int, per_second: int, seconds: float) -> Found:
    """Streams side by side at the pace of a model. Late is against the most punctual event of the stream."""
    from benchmarks.open_files import raise_file_limit

    events, held = int(per_second * seconds), 0.0
    late: list[float] = []
    paces: list[float] = []

    async def one(read: Read) -> None:
        times: list[float] = []
        await read(lambda: times.append(time.perf_counter()))
        begun = min(at - number / per_second for number, at in enumerate(times))
        late.extend((at - begun - number / per_second) * 1000 for number, at in enumerate(times))
        paces.append(min(1.0, (len(times) - 1) / per_second / (times[-1] - times[0])))

    async def run() -> Found:
        nonlocal held
        import anyio

        async def look() -> None:
            nonlocal held
            await anyio.sleep(seconds * 0.8)
            held = _resident_kb()

        async with contestant.open(_url(server, wire, 5), wire) as read:
            await read(lambda: None)
        async with contestant.open(_url(server, wire, events, 1, per_second), wire) as read:
            before, cpu, began = _resident_kb(), time.process_time(), time.perf_counter()
            async with anyio.create_task_group() as group:
                group.start_soon(look)
                for _ in range(streams):
                    group.start_soon(one, read)
            cpu, took = time.process_time() - cpu, time.perf_counter() - began
        quantiles = statistics.quantiles(late, n=100, method="inclusive")
        return {
            "pace": statistics.mean(paces),
            "late_p50_ms": quantiles[49],
            "late_p99_ms": quantiles[98],
            "core_share": cpu / took,
            "cpu_us": cpu / streams / events * 1e6,
            "kb_per_stream": (held - before) / streams,
        }

    raise_file_limit()
    return _running(contestant, run)


def short_calls(contestant: Contestant, server: str, wire: str, calls: int, at_once: int) -> Found:
    """Many answers of five words by one client, some at once; what they leave in memory."""

    async def run() -> Found:
        import anyio

        left = 0

        async def some(read: Read) -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await read(lambda: None)

        async def many(read: Read, count: int) -> None:
            nonlocal left
            left = count
            async with anyio.create_task_group() as group:
                for _ in range(at_once):
                    group.start_soon(some, read)

        _stats(server)
        async with contestant.open(_url(server, wire, 5), wire) as read:
            await many(read, max(calls // 10, at_once))
            before, cpu, began = _resident_kb(), time.process_time(), time.perf_counter()
            await many(read, calls)
            cpu, took, after = time.process_time() - cpu, time.perf_counter() - began, _resident_kb()
        return {
            "calls_per_second": calls / took,
            "cpu_us_per_call": cpu / calls * 1e6,
            "connections": _stats(server)["connections"],
            "grown_kb": after - before,
        }

    return _running(contestant, run)


def import_time(contestant: Contestant) -> Found:
    """The import in a fresh interpreter, beyond the interpreter's own start."""
    program = (
        "import sys, time; modules, began = len(sys.modules), time.perf_counter()\n"
        f"{contestant.imports}\n"
        "print(time.perf_counter() - began, len(sys.modules) - modules)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    took, modules = done.stdout.split()
    return {"import_ms": float(took) * 1000, "modules": float(modules)}


def growth(contestant: Contestant, what: str, small: int, large: int) -> Found:
    """What one step costs at a large size, and how often what it costs at a small one."""
    from benchmarks.growth import STEPS

    step, sizes = STEPS[what], (small, large)
    runs = [min(taken / steps for taken, steps in (step(size) for _ in range(5))) * 1e6 for size in sizes]
    return {"step_us": runs[1], "growth": runs[1] / runs[0]}


def versions(contestant: Contestant) -> dict[str, str | None]:
    """Version of every distribution that the contestant needs; None: not installed."""
    found: dict[str, str | None] = {}
    for name in contestant.needs:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


MEASURES: dict[str, Callable[..., Any]] = {
    "stream": stream,
    "first_event": first_event,
    "paced": paced,
    "short_calls": short_calls,
    "import_time": import_time,
    "growth": growth,
    "versions": versions,
}


def main() -> None:
    """What a measure (second argument) of a contestant (first) finds with the parameters (third, JSON)."""
    name, measure, parameters = sys.argv[1:]
    print(json.dumps(MEASURES[measure](CONTESTANTS[name], **json.loads(parameters))))
