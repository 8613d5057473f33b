"""The figures as one page that needs nothing else: a bar a contestant, named at its left and told at its right.

Ratios are bars to the left (less) or the right (more) of the bare loop, by powers of two; everything else begins at
zero. The thin line in a bar is the spread of the rounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

import attrs

from benchmarks.contestants import CONTESTANTS
from benchmarks.report import METRICS, TITLES, Report
from benchmarks.sections import Figure

_LABELS, _PLOT, _VALUES, _ROW = 176, 250, 104, 24
_STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --quiet: #667079; --line: #d4d9de; --page: #fcfcfb;
        --ours: #1668c7; --limit: #98a2ab; --other: #d98a3a; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaec; --quiet: #9aa4ad; --line: #3a4047; --page: #16181b;
          --ours: #62a8f5; --limit: #77818a; --other: #cf8b47; } }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 1160px; background: var(--page); color: var(--ink);
       font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .5rem; } h2 { font-size: 1.3rem; margin: 3rem 0 .2rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .6rem; } h4 { font-size: .95rem; margin: 0; }
figure p { margin: 0 0 .4rem; color: var(--quiet); font-size: .9rem; } p { margin: .2rem 0 .6rem; max-width: 46rem; }
.quiet { color: var(--quiet); font-size: .85rem; overflow-wrap: anywhere; } b.ours { color: var(--ours); }
b.limit { color: var(--limit); } b.other { color: var(--other); }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 500px), 1fr)); gap: 1.8rem 2.5rem; }
figure { margin: 0; } svg { width: 100%; max-width: 560px; height: auto; display: block; }
text { font: 13px system-ui, sans-serif; fill: var(--ink); } text.tick { font-size: 11px; fill: var(--quiet); }
text.ours { font-weight: 600; } rect.ours { fill: var(--ours); } rect.limit { fill: var(--limit); }
rect.other { fill: var(--other); } line { stroke: var(--line); } line.one { stroke: var(--quiet); }
line.spread { stroke: var(--ink); stroke-width: 1.5; }
"""


@attrs.frozen
class _Row:
    name: str
    value: float
    low: float
    high: float
    told: str
    kind: str


@attrs.frozen(kw_only=True)
class _Chart:
    """One metric of a section, a chart a case.

    :ivar message: what the charts say, given our figure.
    :ivar ratio: bars are ratios to the bare loop.
    :ivar wanted: which cases are drawn.
    :ivar also: a metric that is told beside the value.
    :ivar by_case: one chart, a case a row.
    """

    section: str
    metric: str
    message: Callable[[Figure], str]
    ratio: bool = False
    wanted: Callable[[str], bool] = lambda case: True
    also: str | None = None
    by_case: bool = False


def _times(figure: Figure) -> str:
    return "" if figure.ratio is None else f"pi_ai costs {figure.ratio:.2f} × the bare loop"


def _many(case: str) -> bool:
    return not case.endswith(" 1 stream")


_CHARTS = (
    _Chart(
        section="cpu",
        metric="cpu_us",
        message=_times,
        ratio=True,
        wanted=lambda case: case.endswith("1 event a write"),
    ),
    _Chart(
        section="cpu",
        metric="events_per_second",
        message=lambda one: f"pi_ai reads {one.median:,.0f} events a second",
        wanted=lambda case: case.endswith("8 events a write"),
    ),
    _Chart(
        section="first",
        metric="pooled_ms",
        message=lambda one: f"pi_ai adds {one.median:.2f} ms on a pooled connection",
    ),
    _Chart(section="first", metric="cold_ms", message=lambda one: f"pi_ai adds {one.median:.1f} ms with a new client"),
    _Chart(
        section="paced",
        metric="late_p99_ms",
        message=lambda one: f"1 in 100 events comes {one.median:.1f} ms late",
        wanted=_many,
        also="pace",
    ),
    _Chart(
        section="paced",
        metric="core_share",
        message=lambda one: f"pi_ai takes {one.median:.0%} of a core",
        wanted=_many,
    ),
    _Chart(
        section="paced",
        metric="kb_per_stream",
        message=lambda one: f"a stream of pi_ai holds {one.median:.0f} KB",
        wanted=_many,
    ),
    _Chart(
        section="calls",
        metric="calls_per_second",
        message=lambda one: f"pi_ai makes {one.median:,.0f} calls a second",
        also="connections",
    ),
    _Chart(section="calls", metric="grown_kb", message=lambda one: f"pi_ai grows by {one.median:,.0f} KB"),
    _Chart(
        section="growth",
        metric="growth",
        message=lambda one: "1: a step costs the same in something long as in something short",
        by_case=True,
    ),
    _Chart(
        section="import",
        metric="import_ms",
        message=lambda one: f"import pi_ai takes {one.median:.0f} ms",
        also="modules",
    ),
)


def page(report: Report) -> str:
    """The page, as HTML."""
    parts: list[str] = []
    for section, (title, how) in TITLES.items():
        drawn = [chart for chart in _CHARTS if chart.section == section and report.of(section, chart.metric)]
        if drawn:
            parts.append(f"<section><h2>{escape(title)}</h2><p>{escape(how)}</p>")
            parts += [_group(chart, report) for chart in drawn]
            parts.append("</section>")
    versions = ", ".join(f"{name} {version}" for name, version in sorted(report.versions.items()))
    left_out = "".join(f"<br/>Left out: {escape(name)} ({escape(why)})." for name, why in report.missing.items())
    left_out += "".join(f"<br/>Failed: {escape(where)}: {escape(why)}" for where, why in report.failures.items())
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/><title>pi_ai: benchmarks</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<style>{_STYLE}</style></head><body><h1>What streaming costs</h1>"
        '<p><b class="ours">pi_ai</b> on its event loops, <b class="other">other packages</b>, and '
        '<b class="limit">bare code</b> that does less: a socket, httpx, and the loop that one would write by hand '
        "(httpx, httpx-sse and json), which the others are measured by. pi_ai without a word more is on asyncio.</p>"
        f'<p class="quiet">{escape(report.date)}, {escape(report.machine)}. Bars are the medians of the '
        f"rounds, thin lines their spread. {escape(versions)}.{left_out}</p>{''.join(parts)}</body></html>\n"
    )


def _group(chart: _Chart, report: Report) -> str:
    """The charts of a metric, under what they show."""
    shown, beside = report.of(chart.section, chart.metric), report.of(chart.section, chart.also or "")
    if chart.by_case:
        rows = [_row(chart, one, case) for case, (one, *_) in shown.items()]
        drawn = [_figure(chart, "", rows, next(iter(shown.values())))]
    else:
        drawn = []
        for case, figures in shown.items():
            also = {one.contestant: one for one in beside.get(case, [])}
            rows = [_row(chart, one, one.contestant, also.get(one.contestant)) for one in figures]
            if chart.wanted(case):
                drawn.append(_figure(chart, case, rows, figures))
    if not drawn:
        return ""
    what = METRICS[chart.metric].title + (" × the bare loop" if chart.ratio else "")
    also = f" (and {METRICS[chart.also].title})" if chart.also else ""
    better = "more is better" if METRICS[chart.metric].more else "less is better"
    better += "; the scale is in powers of two" if chart.ratio else ""
    heading = f"<h3>{escape(what[0].upper() + what[1:] + also)}: {better}</h3>"
    return f'{heading}<div class="charts">{"".join(drawn)}</div>'


def _row(chart: _Chart, figure: Figure, name: str, also: Figure | None = None) -> _Row:
    values = figure.ratios if chart.ratio and figure.ratios else figure.values
    value = figure.ratio if chart.ratio and figure.ratio is not None else figure.median
    told = f"{value:.2f} ×" if chart.ratio else METRICS[figure.metric].said(value)
    if also is not None:
        told += f" · {METRICS[also.metric].said(also.median)}"
    return _Row(name, value, min(values), max(values), told, CONTESTANTS[figure.contestant].kind)


def _figure(chart: _Chart, case: str, rows: list[_Row], figures: list[Figure]) -> str:
    ours = next((one for one in figures if one.contestant == "pi_ai"), None)
    message = chart.message(ours) if ours else ""
    rows = rows if chart.by_case else sorted(rows, key=lambda row: row.value, reverse=METRICS[chart.metric].more)
    heading = "".join(f"<{tag}>{escape(text)}</{tag}>" for tag, text in (("h4", case), ("p", message)) if text)
    return f"<figure>{heading}{_bars(rows, f'{case}: {message}', by_powers=chart.ratio)}</figure>"


def _bars(rows: Sequence[_Row], title: str, *, by_powers: bool) -> str:
    """The drawing: names, bars, values, each in a column of its own, so that nothing overlaps."""
    labels = max(_LABELS, 7 * max(len(row.name) for row in rows))
    at, ticks = _scale(rows, by_powers=by_powers)
    begin = at(1.0 if by_powers else 0.0)
    height = _ROW * len(rows) + 22
    width = labels + _PLOT + 12 + max(_VALUES, 7 * max(len(row.told) for row in rows))
    drawn: list[str] = []
    for tick in ticks:
        x = labels + at(tick)
        kind = "one" if by_powers and tick == 1 else "grid"
        drawn.append(f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height - 18}"/>')
        drawn.append(f'<text class="tick" x="{x:.1f}" y="{height - 4}" text-anchor="middle">{tick:,.6g}</text>')
    for number, row in enumerate(rows):
        y = number * _ROW
        left, right = sorted((begin, at(row.value)))
        drawn.append(
            f'<text class="{row.kind}" x="{labels - 10}" y="{y + 16}" text-anchor="end">{escape(row.name)}</text>'
        )
        drawn.append(
            f'<rect class="{row.kind}" x="{labels + left:.1f}" y="{y + 4}" width="{max(right - left, 1):.1f}" '
            f'height="{_ROW - 8}"><title>{escape(f"{row.name}: {row.told}")}</title></rect>'
        )
        if row.high > row.low:
            x1, x2, middle = labels + at(row.low), labels + at(row.high), y + _ROW / 2
            drawn.append(f'<line class="spread" x1="{x1:.1f}" x2="{x2:.1f}" y1="{middle}" y2="{middle}"/>')
        drawn.append(f'<text class="{row.kind}" x="{labels + _PLOT + 12}" y="{y + 16}">{escape(row.told)}</text>')
    return (
        f'<svg viewBox="0 0 {width} {height}" style="max-width: {width}px" role="img" '
        f'aria-label="{escape(title)}">{"".join(drawn)}</svg>'
    )


def _scale(rows: Sequence[_Row], *, by_powers: bool) -> tuple[Callable[[float], float], list[float]]:
    """Where a value stands in the plot, and the values of its grid."""
    if by_powers:
        seen = [value for row in rows for value in (row.low, row.high) if value > 0]
        first = math.floor(math.log2(min([*seen, 0.5])))
        last = math.ceil(math.log2(max([*seen, 2.0])))
        step = math.ceil((last - first) / 7)
        ticks = [2.0**power for power in range(first, last + 1) if power % step == 0]
        return lambda value: _PLOT * (math.log2(max(value, 2.0**first)) - first) / (last - first), ticks
    low, high = min(0.0, *(row.low for row in rows)), max(0.0, *(row.high for row in rows))
    high = high if high > low else low + 1
    unit = 10 ** math.floor(math.log10(high - low))
    step = next(unit * part for part in (0.2, 0.25, 0.5, 1, 2, 2.5, 5) if (high - low) / (unit * part) <= 4.5)
    ticks = [step * count for count in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return lambda value: _PLOT * (value - low) / (high - low), ticks
