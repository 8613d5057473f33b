"""Run the measurements: ``python -m benchmarks [--quick] [--json FILE] [section …]``.

Each contestant runs in a fresh process, interleaved round by round, so that a busy machine disturbs all alike; what is
reported is the median of the ratios within a round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.contestants import contestants
from benchmarks.server import WIRES, replay_server


def _fresh(*arguments: str) -> Any:
    """What a module of ours prints when it runs in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments], capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1]
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):8.2f}  ({min(values):.2f} to {max(values):.2f})"


def cpu_per_event(rounds: int, events: int) -> Iterator[dict[str, Any]]:
    """CPU (user and system) of one client per event, one stream as fast as it goes."""
    for wire in WIRES:
        bare, names = contestants(wire)
        for per_chunk in (1, 8):
            taken: dict[str, list[float]] = {name: [] for name in names}
            with replay_server() as url:
                for _ in range(rounds):
                    for name in names:
                        seen = _fresh("benchmarks.contestants", name, f"{url}/{wire}/{events}/{per_chunk}", wire)
                        taken[name].append(seen["cpu"] / events * 1e6)
            print(f"\nCPU per event, {wire}, {events} events, {per_chunk} a chunk")
            print(f"{'':32s}       µs  (min to max)     × L4")
            for name, values in taken.items():
                ratios = [mine / theirs for mine, theirs in zip(values, taken[bare], strict=True)]
                print(f"{name:32s} {_spread(values):26s} {statistics.median(ratios):6.2f}")
                yield {
                    "section": "cpu",
                    "wire": wire,
                    "events_per_chunk": per_chunk,
                    "contestant": name,
                    "us_per_event": statistics.median(values),
                    "ratio_to_l4": statistics.median(ratios),
                }


def growth(rounds: int, events: int) -> Iterator[dict[str, Any]]:
    """What a delta costs in a long answer, against a short one. 1.0: cost does not grow."""
    for what, small, large in (
        ("text deltas", "1000", "100000"),
        ("tool arguments, read at every delta", "10000", "1000000"),
        ("request: messages of history", "1000", "10000"),
    ):
        ratios, costs = [], []
        for _ in range(rounds):
            few, many = (_fresh("benchmarks.growth", what, size)["us"] for size in (small, large))
            costs.append(many)
            ratios.append(many / few)
        print(f"\nGrowth, {what}: {large} against {small}\n{'µs each at the large size':32s} {_spread(costs)}")
        print(f"{'× the cost at the small size':32s} {_spread(ratios)}")
        yield {"section": "growth", "what": what, "us": statistics.median(costs), "ratio": statistics.median(ratios)}


def import_time(rounds: int, events: int) -> Iterator[dict[str, Any]]:
    """``import pi_ai`` in a fresh interpreter, beyond the interpreter's own start."""
    seen = [_fresh("benchmarks.imports") for _ in range(max(rounds, 5))]
    values = [one["ms"] for one in seen]
    print(f"\nimport pi_ai\n{'ms':32s} {_spread(values)}\n{'modules':32s} {seen[0]['modules']:5d}")
    yield {"section": "import", "ms": statistics.median(values), "modules": seen[0]["modules"]}


SECTIONS: dict[str, Callable[[int, int], Iterator[dict[str, Any]]]] = {
    "cpu": cpu_per_event,
    "growth": growth,
    "import": import_time,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("section", nargs="*", choices=[*SECTIONS, []], help="default: all")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and events")
    parser.add_argument("--json", metavar="FILE", help="write the figures to a file, too")
    arguments = parser.parse_args()
    rounds, events = (3, 2000) if arguments.quick else (7, 10_000)
    figures = [figure for name in arguments.section or SECTIONS for figure in SECTIONS[name](rounds, events)]
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
