"""Run the measurements: ``python -m benchmarks [--quick] [--out DIRECTORY] [section …]``."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

import attrs

from benchmarks.contestants import CONTESTANTS
from benchmarks.plots import page
from benchmarks.report import Report, machine, markdown, put_into, summary, table
from benchmarks.sections import FULL, QUICK, SECTIONS, TINY, Runner
from benchmarks.server import replay_server


def _pair(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found or name not in CONTESTANTS:
        raise argparse.ArgumentTypeError(f"expected NAME=PATH with one of {', '.join(CONTESTANTS)}, not {text!r}")
    return name, value


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure pi_ai against others.")
    parser.add_argument("section", nargs="*", metavar="section", help=f"of {', '.join(SECTIONS)}; default: all")
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--quick", action="store_const", dest="size", const=QUICK, help="less of everything")
    extent.add_argument("--tiny", action="store_const", dest="size", const=TINY, help="only to see that it runs")
    parser.add_argument("--rounds", type=int, help="of every case")
    parser.add_argument("--contestant", action="append", choices=list(CONTESTANTS), help="only this one (repeatable)")
    parser.add_argument(
        "--python", type=_pair, action="append", default=[], metavar="NAME=PATH", help="run a contestant by this Python"
    )
    parser.add_argument("--machine", metavar="WORDS", help="what to say of the machine, beside what it says itself")
    parser.add_argument("--out", type=Path, metavar="DIRECTORY", help="write figures.json, figures.md and figures.html")
    parser.add_argument("--into", type=Path, metavar="README", help="put the tables under its heading 'Last figures'")
    parser.add_argument("--from", type=Path, dest="source", metavar="JSON", help="measure nothing: take these figures")
    parser.set_defaults(size=FULL)
    arguments = parser.parse_args()
    if unknown := set(arguments.section) - set(SECTIONS):
        parser.error(f"no such section: {', '.join(unknown)}; there are {', '.join(SECTIONS)}")

    report = Report.loads(arguments.source.read_text("utf-8")) if arguments.source else _measured(arguments)
    print(summary(report))
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        for name, text in (("json", report.dumps()), ("md", markdown(report)), ("html", page(report))):
            (arguments.out / f"figures.{name}").write_text(text, encoding="utf-8")
    if arguments.into:
        arguments.into.write_text(put_into(arguments.into.read_text("utf-8"), markdown(report)), encoding="utf-8")


def _measured(arguments: argparse.Namespace) -> Report:
    with replay_server() as server:
        runner = Runner(server, dict(arguments.python), tuple(arguments.contestant or CONTESTANTS))
        runner.look()
        report = Report(
            date=f"{datetime.now(UTC):%Y-%m-%d}",
            machine=", ".join(filter(None, (arguments.machine, machine()))),
            versions=runner.versions,
            missing=runner.missing,
            failures=runner.failures,
        )
        for section in arguments.section or SECTIONS:
            for case in SECTIONS[section](arguments.size):
                figures = runner.run(attrs.evolve(case, rounds=arguments.rounds or case.rounds))
                report.figures.extend(figures)
                print(f"\n{case.name}\n{table(figures)}", flush=True)
    return report


if __name__ == "__main__":
    sys.exit(main())
