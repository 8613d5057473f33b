"""What a run measures: a table of sections, each a list of cases; and the runner, which takes turns.

A case is one measure with its parameters, and who takes part. In every round each contestant runs once, in a fresh
process, so that a busy machine disturbs all alike; what counts is the median of the ratios within a round.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from benchmarks.contestants import BARE, CHAT, CONTESTANTS, EVERY_SSE, GEMINI, MESSAGES, RESPONSES, Contestant
from benchmarks.server import WIRES

ROOT = Path(__file__).parents[1]
WIRE_NAMES = {
    CHAT: "chat completions",
    MESSAGES: "messages (Anthropic)",
    RESPONSES: "responses (OpenAI)",
    GEMINI: "generateContent (Google)",
    WIRES[-1]: "converse (Bedrock)",
}


@attrs.frozen(kw_only=True)
class Case:
    """One comparison.

    :ivar wire: whose contestants take part, and in whose shape the server answers; None: there is no server.
    :ivar only: the only contestants.
    :ivar baseline: the contestant by which the others are measured; None: there is none.
    """

    section: str
    name: str
    measure: str
    parameters: Mapping[str, Any]
    rounds: int
    wire: str | None = None
    only: tuple[str, ...] | None = None
    baseline: str | None = None

    def contestants(self) -> list[Contestant]:
        """Who takes part, in the order of the table."""
        return [
            contestant
            for contestant in CONTESTANTS.values()
            if (self.wire is None or self.wire in contestant.wires)
            and (self.only is None or contestant.name in self.only)
        ]


@attrs.frozen(kw_only=True)
class Figure:
    """What the rounds of a case showed of one contestant in one metric.

    :ivar values: one a round.
    :ivar ratios: to the baseline in the same round.
    """

    section: str
    case: str
    contestant: str
    metric: str
    values: list[float]
    ratios: list[float] = attrs.field(factory=list[float])

    @property
    def median(self) -> float:
        """The middle of the rounds."""
        return statistics.median(self.values)

    @property
    def ratio(self) -> float | None:
        """The middle of the ratios, if there is a baseline."""
        return statistics.median(self.ratios) if self.ratios else None


@attrs.frozen(kw_only=True)
class Size:
    """How much is measured."""

    rounds: int
    long_rounds: int  # of what takes long: streams at their pace, thousands of calls
    events: int
    calls: int
    short_calls: int
    streams: tuple[int, ...]
    seconds: float
    sizes: int  # what those of growth are divided by


FULL = Size(
    rounds=7, long_rounds=3, events=10_000, calls=200, short_calls=10_000, streams=(1, 200, 1000), seconds=10, sizes=1
)
QUICK = Size(rounds=3, long_rounds=1, events=2_000, calls=50, short_calls=300, streams=(100,), seconds=1, sizes=10)
TINY = Size(rounds=1, long_rounds=1, events=50, calls=5, short_calls=20, streams=(3,), seconds=0.2, sizes=100)


def _cpu(size: Size) -> Iterator[Case]:
    for wire in WIRES:
        for per_write in (1, 8):
            yield Case(
                section="cpu",
                name=f"{WIRE_NAMES[wire]}, {per_write} event{'s' * (per_write > 1)} a write",
                measure="stream",
                parameters={"events": size.events, "per_write": per_write},
                rounds=size.rounds,
                wire=wire,
                baseline=BARE[wire],
            )


def _first(size: Size) -> Iterator[Case]:
    for wire in EVERY_SSE:
        yield Case(
            section="first",
            name=WIRE_NAMES[wire],
            measure="first_event",
            parameters={"calls": size.calls},
            rounds=size.rounds,
            wire=wire,
            baseline=BARE[wire],
        )


def _paced(size: Size) -> Iterator[Case]:
    for wire in (CHAT, MESSAGES):
        for streams in size.streams:
            yield Case(
                section="paced",
                name=f"{WIRE_NAMES[wire]}, {streams:,} stream{'s' * (streams > 1)}",
                measure="paced",
                parameters={"streams": streams, "per_second": 50, "seconds": size.seconds},
                rounds=size.long_rounds,
                wire=wire,
                baseline=BARE[wire],
            )


def _calls(size: Size) -> Iterator[Case]:
    for wire in (CHAT, MESSAGES):
        yield Case(
            section="calls",
            name=WIRE_NAMES[wire],
            measure="short_calls",
            parameters={"calls": size.short_calls, "at_once": 10},
            rounds=size.long_rounds,
            wire=wire,
            baseline=BARE[wire],
        )


def _growth(size: Size) -> Iterator[Case]:
    for what, small, large in (
        ("text deltas of an answer", 1_000, 100_000),
        ("tool arguments read at every delta", 10_000, 1_000_000),
        ("messages of history in a request", 1_000, 10_000),
        ("tools in a request", 100, 1_000),
    ):
        small, large = small // size.sizes, large // size.sizes
        yield Case(
            section="growth",
            name=f"{what}: {large:,} against {small:,}",
            measure="growth",
            parameters={"what": what, "small": small, "large": large},
            rounds=size.rounds,
            only=("pi_ai",),
        )


def _imports(size: Size) -> Iterator[Case]:
    yield Case(
        section="import",
        name="import",
        measure="import_time",
        parameters={},
        rounds=size.rounds,
        only=("httpx raw", "pi_ai", *(name for name, one in CONTESTANTS.items() if one.kind == "other")),
        baseline="httpx raw",
    )


SECTIONS: dict[str, Callable[[Size], Iterator[Case]]] = {
    "cpu": _cpu,
    "first": _first,
    "paced": _paced,
    "calls": _calls,
    "growth": _growth,
    "import": _imports,
}


@attrs.define
class Runner:
    """Runs cases against a server.

    :ivar server: its URL.
    :ivar interpreters: contestant → the Python that has its packages, where it is not this one.
    :ivar versions: distribution → version, of whoever takes part.
    :ivar missing: contestant → what is not installed.
    :ivar failures: case and contestant → what it said last. It is left out from then on.
    """

    server: str
    interpreters: Mapping[str, str] = attrs.field(factory=dict[str, str])
    names: tuple[str, ...] = tuple(CONTESTANTS)
    versions: dict[str, str] = attrs.field(init=False, factory=dict[str, str])
    missing: dict[str, str] = attrs.field(init=False, factory=dict[str, str])
    failures: dict[str, str] = attrs.field(init=False, factory=dict[str, str])

    def look(self) -> None:
        """See who can take part."""
        for name in self.names:
            try:
                found: dict[str, str | None] = self._fresh(name, "versions", {})
            except (RuntimeError, OSError) as error:
                self.missing[name] = f"its Python cannot be run: {error}"
                continue
            if absent := [distribution for distribution, version in found.items() if version is None]:
                self.missing[name] = f"{', '.join(absent)} not installed"
            else:
                self.versions |= {key: version for key, version in found.items() if version is not None}

    def run(self, case: Case) -> list[Figure]:
        """The figures of a case."""
        names = [one.name for one in case.contestants() if one.name in self.names and one.name not in self.missing]
        parameters = {**case.parameters, **({"server": self.server, "wire": case.wire} if case.wire else {})}
        taken: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for _ in range(case.rounds):
            for name in list(taken):
                try:
                    taken[name].append(self._fresh(name, case.measure, parameters))
                except RuntimeError as error:
                    self.failures[f"{case.section}, {case.name}, {name}"] = str(error)
                    del taken[name]
        return list(_figures(case, taken))

    def _fresh(self, name: str, measure: str, parameters: Mapping[str, Any]) -> Any:
        """What a measure finds in a process of its own, whose packages go before ours."""
        program = f"import sys; sys.path.append({str(ROOT)!r}); from benchmarks.measures import main; main()"
        done = subprocess.run(
            [self.interpreters.get(name, sys.executable), "-P", "-c", program, name, measure, json.dumps(parameters)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"},  # else it asks the network at every start
        )
        if done.returncode:
            raise RuntimeError(next(reversed(done.stderr.strip().splitlines()), f"exit code {done.returncode}")[:300])
        return json.loads(done.stdout.splitlines()[-1])


def _figures(case: Case, taken: Mapping[str, list[dict[str, float]]]) -> Iterable[Figure]:
    theirs = taken.get(case.baseline or "", [])
    for name, rounds in taken.items():
        for metric in rounds[0]:
            values = [found[metric] for found in rounds]
            against = [found[metric] for found in theirs]
            ratios = [mine / other for mine, other in zip(values, against, strict=True) if other] if against else []
            yield Figure(
                section=case.section, case=case.name, contestant=name, metric=metric, values=values, ratios=ratios
            )
