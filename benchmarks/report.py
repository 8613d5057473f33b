"""What a run found, as JSON, as Markdown, and in a few lines."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterable
from itertools import groupby
from typing import Self

import attrs
import cattrs

from benchmarks.sections import Figure


@attrs.frozen
class Metric:
    """How a metric is told.

    :ivar digits: behind the point.
    :ivar more: the more, the better.
    :ivar compared: a ratio to the baseline says something.
    """

    title: str
    unit: str
    digits: int = 1
    more: bool = False
    compared: bool = True

    def said(self, value: float) -> str:
        """A value with its unit."""
        return f"{value:,.{self.digits}f} {self.unit}".rstrip()


METRICS = {
    "cpu_us": Metric("CPU per event", "µs"),
    "events_per_second": Metric("events per second", "", 0, more=True),
    "first_call_ms": Metric("first call of a process", "ms"),
    "cold_ms": Metric("new client", "ms"),
    "pooled_ms": Metric("pooled connection", "ms", 2),
    "reading_ms": Metric("pooled, from the first byte", "ms", 2),
    "pace": Metric("pace kept", "", 2, more=True, compared=False),
    "late_p50_ms": Metric("late, p50", "ms"),
    "late_p99_ms": Metric("late, p99", "ms"),
    "core_share": Metric("of a core", "", 2),
    "kb_per_stream": Metric("memory per stream", "KB"),
    "calls_per_second": Metric("calls per second", "", 0, more=True),
    "cpu_us_per_call": Metric("CPU per call", "µs", 0),
    "connections": Metric("connections opened", "", 0, compared=False),
    "grown_kb": Metric("memory grown", "KB", 0, compared=False),
    "step_us": Metric("a step at the large size", "µs", 2),
    "growth": Metric("× the step at the small size", "", 2),
    "import_ms": Metric("time", "ms", 0),
    "modules": Metric("modules", "", 0, compared=False),
}
"""Metric → how it is told, in the order of the columns."""
TITLES = {
    "cpu": ("CPU per event", "One stream as fast as it goes, after one to warm up."),
    "first": (
        "Time to the first piece of text",
        "From the call to the first piece of text, less the server's share; and from the first byte of the answer.",
    ),
    "paced": (
        "Streams side by side",
        "50 events a second each. Late: against the most punctual event of the stream.",
    ),
    "calls": ("Short calls", "Answers of five words, ten at a time, by one client."),
    "growth": ("Growth", "What a step costs in something long, against what it costs in something short."),
    "import": ("Import", "In a fresh interpreter, beyond the interpreter's own start."),
}
"""Section → its heading, and how it was measured."""
HEADING = "## Last figures\n"


@attrs.define(kw_only=True)
class Report:
    """A run.

    :ivar machine: in words. ``missing``, ``failures``: who was left out, and why.
    """

    date: str
    machine: str
    versions: dict[str, str]
    missing: dict[str, str]
    failures: dict[str, str]
    figures: list[Figure] = attrs.field(factory=list[Figure])

    def dumps(self) -> str:
        """As JSON."""
        return json.dumps(attrs.asdict(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def loads(cls, text: str) -> Self:
        """From JSON."""
        return cattrs.Converter(forbid_extra_keys=True).structure(json.loads(text), cls)

    def of(self, section: str, metric: str) -> dict[str, list[Figure]]:
        """Case → the figures of a metric."""
        found = [one for one in self.figures if (one.section, one.metric) == (section, metric)]
        return {case: list(figures) for case, figures in groupby(found, key=lambda one: one.case)}


def machine() -> str:
    """The machine in words, and how busy it was."""
    load = f", load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{python}, {platform.system()}, {platform.machine()}, {os.cpu_count()} cores{load}"


def table(figures: Iterable[Figure]) -> str:
    """A Markdown table of one case: a contestant a row, a metric a column; the median, the spread and the ratio."""
    rows: dict[str, dict[str, Figure]] = {}
    for figure in figures:
        rows.setdefault(figure.contestant, {})[figure.metric] = figure
    metrics = [metric for metric in METRICS if any(metric in row for row in rows.values())]
    head = ["", *(METRICS[metric].title for metric in metrics)]
    lines = [head, ["---", *("--:" for _ in metrics)]]
    lines += [[name, *(_cell(row.get(metric)) for metric in metrics)] for name, row in rows.items()]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return ""
    metric = METRICS[figure.metric]
    text = metric.said(figure.median)
    if len(figure.values) > 1:
        text += f" ({min(figure.values):,.{metric.digits}f}–{max(figure.values):,.{metric.digits}f})"
    return text if figure.ratio is None or not metric.compared else f"{text} ×{figure.ratio:.2f}"


def _about(report: Report) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in sorted(report.versions.items()))
    lines = [f"{report.date}, {report.machine}. {versions}."]
    if report.missing:
        lines.append(f"Left out: {'; '.join(f'{name} ({why})' for name, why in report.missing.items())}.")
    lines += [f"Failed: {where}: {why}" for where, why in report.failures.items()]
    return "\n\n".join(lines)


def markdown(report: Report) -> str:
    """All figures."""
    parts = [_about(report)]
    for section, figures in groupby(report.figures, key=lambda one: one.section):
        title, how = TITLES[section]
        parts.append(f"### {title}\n\n{how}")
        for case, ones in groupby(figures, key=lambda one: one.case):
            told = list(ones)
            rounds = len(told[0].values)
            parts.append(f"**{case}** ({rounds} round{'s' * (rounds > 1)})\n\n{table(told)}")
    return "\n\n".join(parts) + "\n"


def summary(report: Report) -> str:
    """The ratios of ours to the bare loop, a line a case; and who was left out."""
    told: list[str] = []
    for figure in report.figures:
        if figure.contestant == "pi_ai" and figure.metric in ("cpu_us", "pooled_ms", "growth", "calls_per_second"):
            value = figure.median if figure.ratio is None else figure.ratio
            told.append(f"× {value:5.2f}  {METRICS[figure.metric].title}: {figure.case}")
    return "\n".join(["", _about(report), "", "pi_ai against the bare loop; growth against a small size:", *told])


def put_into(document: str, figures: str) -> str:
    """A document with the figures under its heading, in place of what stands there."""
    if HEADING not in document:
        raise SystemExit(f"There is no heading {HEADING.strip()!r} to put the figures under")
    before, _, after = document.partition(HEADING)
    rest = re.search(r"^## ", after, re.MULTILINE)
    return f"{before}{HEADING}\n{figures}" + (f"\n{after[rest.start() :]}" if rest else "")
