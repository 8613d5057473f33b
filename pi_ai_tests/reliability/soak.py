"""Soak (reliability T12): many streams of every wire and with every ending, and what the process holds afterwards.

``python -m pi_ai_tests.reliability.soak [COUNT] [asyncio|uvloop|trio]`` runs 10,000 of them and prints what it holds
after each tenth; it fails where that grows. The suite runs a short one.
"""

from __future__ import annotations

import math
import resource
import sys
from collections import Counter

import anyio
import attrs

from pi_ai import EventStream, Registry, Timeouts
from pi_ai.testing import Delivery, Failure, RawToolCall, Sandbox, Turn
from pi_ai.testing.sandbox import Answered
from pi_ai_tests.reliability.rigs import APIS, CONTEXT, TURN, Held, until

ENDINGS = ("read", "result", "left", "aborted", "cancelled", "dropped")
ANSWERS: tuple[Answered, ...] = (
    TURN,
    (TURN, Delivery(gzip=True)),
    Failure(503, headers={"retry-after-ms": "1"}),
    (TURN, Delivery(stop_after=2, then="reset")),
    (TURN, Delivery(cut_at=10, then="close")),
    Turn("It is", failure=Failure(529)),
    (TURN, Delivery(stop_after=3, then="stall")),
    Turn(RawToolCall("call_1", "weather", '{"city":')),
    Failure(400),
    (TURN, Delivery(streamed=False)),
)
CLOCKS = Timeouts(first_event_ms=200, idle_ms=20)
"""Short, so that what stalls ends."""


async def soak(count: int, *, at_once: int = 16, rounds: int = 10, told: bool = False) -> list[Held]:
    """Run that many streams; what is held after each round, all streams being over.

    :param told: print it, too.
    """
    held: list[Held] = []
    reasons: Counter[str] = Counter()
    by_number = lambda request: ANSWERS[request.number % len(ANSWERS)]  # noqa: E731
    async with Sandbox(default=by_number) as box:
        for turn in range(rounds):
            async with Registry(max_connections=8) as pi, anyio.create_task_group() as tasks:
                numbers = iter(range(turn * count // rounds, (turn + 1) * count // rounds))

                async def work() -> None:
                    for number in numbers:  # noqa: B023 - of this round
                        reasons[await one(pi, box, number)] += 1

                for _ in range(at_once):
                    tasks.start_soon(work)
            box.requests.clear()
            box._server.requests.clear()
            await until(lambda: box.open_connections == 0)
            held.append(Held.now())
            if told:
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                print(f"{(turn + 1) * count // rounds} streams: {attrs.asdict(held[-1])}, peak {peak:.0f} MB")
    assert sum(reasons.values()) == count
    assert reasons.keys() == {"toolUse", "error", "aborted"}
    return held


async def one(pi: Registry, box: Sandbox, number: int) -> str:
    """One stream, and how it ended."""
    ending = ENDINGS[number // len(APIS) % len(ENDINGS)]
    events = pi.stream(box.model(APIS[number % len(APIS)]), CONTEXT, timeouts=CLOCKS, max_retries=number % 2)
    if ending == "result":
        await events.result()
    elif ending == "left":
        async with events:
            await _first_delta(events)
    elif ending == "aborted":
        await _first_delta(events)
        events.abort()
        await events.result()
    elif ending == "cancelled":
        with anyio.move_on_after(number % 5 / 1000):
            await events.result()
        await events.aclose()
    elif ending == "dropped":
        await _first_delta(events)
        return "aborted"
    else:
        async for _ in events:
            pass
    assert events.done
    return events.message.stop_reason


async def _first_delta(events: EventStream) -> None:
    async for event in events:
        if event.type.endswith("_delta"):
            return


def check_flat(held: list[Held], *, objects: int = 500) -> None:
    """Nothing grew after the first round, in which the caches fill.

    :param objects: how many more objects may be alive; a leak has some for each stream.
    """
    first = max(held[: math.ceil(len(held) / 4)], key=lambda one: one.objects)
    for later in held[1:]:
        assert not later.over(first), later.over(first)
    assert min(one.objects for one in held[len(held) // 2 :]) <= first.objects + objects, held


def main(count: int = 10_000, loop: str = "asyncio") -> None:
    options = {"use_uvloop": True} if loop == "uvloop" else {}
    backend = "trio" if loop == "trio" else "asyncio"

    async def run() -> None:
        check_flat(await soak(count, told=True))

    anyio.run(run, backend=backend, backend_options=options)


if __name__ == "__main__":
    main(*(int(word) if word.isdigit() else word for word in sys.argv[1:]))  # type: ignore[arg-type]
