"""The benchmark suite measures, tells and draws what it says; how fast anything is, is no matter of a test."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from xml.etree import ElementTree

import attrs
import pytest

from benchmarks.contestants import BARE, CONTESTANTS
from benchmarks.plots import page
from benchmarks.report import HEADING, METRICS, TITLES, Report, markdown, put_into, summary
from benchmarks.sections import FULL, QUICK, SECTIONS, TINY, Case, Figure, Runner
from benchmarks.server import WIRES, replay_server

NAMES = ("httpx + httpx-sse + json", "pi_ai")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with replay_server() as url:
        yield url


@pytest.fixture(scope="module")
def report(server: str) -> Report:
    """The first case of every section, as small as it gets."""
    runner = Runner(server, names=NAMES)
    runner.look()
    figures: list[Figure] = []
    for cases in SECTIONS.values():
        case = next(cases(attrs.evolve(TINY, rounds=2)))
        figures += runner.run(case)
    return Report(
        date="2026-01-02",
        machine="a machine",
        versions=runner.versions,
        missing={"litellm": "litellm <not> installed"},
        failures=runner.failures,
        figures=figures,
    )


def test_every_section_finds_all_it_is_asked_for(report: Report):
    assert report.failures == {}
    assert {"pi_ai", "httpx", "httpx-sse"} <= set(report.versions)
    assert list(dict.fromkeys(one.section for one in report.figures)) == list(SECTIONS) == list(TITLES)
    assert {one.metric for one in report.figures} == set(METRICS)
    for figure in report.figures:
        assert len(figure.values) == (1 if figure.section in ("paced", "calls") else 2)
        assert figure.metric in ("grown_kb", "kb_per_stream", "pooled_ms", "cold_ms") or figure.median >= 0
    against = [one for one in report.figures if one.section == "cpu"]
    assert [one.ratio for one in against if one.contestant != "pi_ai"] == [1.0, 1.0]
    assert all(
        one.ratios == pytest.approx([a / b for a, b in zip(one.values, bare.values, strict=True)])
        for bare, one in itertools.product(against, against)
        if one.metric == bare.metric and bare.contestant != "pi_ai"
    )
    assert all(one.median <= 1 for one in report.figures if one.metric == "pace")


def test_short_calls_reuse_their_connections(report: Report):
    found = report.of("calls", "connections")
    assert [one.contestant for figures in found.values() for one in figures] == [*NAMES]
    assert all(1 <= one.median <= 10 for figures in found.values() for one in figures)


@pytest.mark.parametrize("wire", WIRES)
def test_the_server_sends_as_many_pieces_of_text_as_it_is_asked_for(server: str, wire: str):
    runner = Runner(server, names=("pi_ai",))
    case = Case(
        section="cpu", name="", measure="stream", parameters={"events": 30, "per_write": 8}, rounds=1, wire=wire
    )
    assert [one.metric for one in runner.run(case)] == ["cpu_us", "events_per_second"]
    assert runner.failures == {}


def test_who_cannot_take_part_is_named(server: str):
    runner = Runner(server, {"pi_ai": "/no/such/python"}, names=("pi_ai", "httpx raw"))
    runner.look()
    assert list(runner.missing) == ["pi_ai"]
    assert "/no/such/python" in runner.missing["pi_ai"]
    [case, *_] = SECTIONS["growth"](TINY)
    assert runner.run(case) == []


def test_who_fails_is_left_out_and_named(server: str):
    runner = Runner(server, names=("pi_ai", "httpx raw"))
    parameters = {"events": 30, "per_write": -1}  # an answer of no event
    case = Case(section="cpu", name="nothing", measure="stream", parameters=parameters, rounds=2, wire=WIRES[0])
    assert {one.contestant for one in runner.run(case)} == {"httpx raw"}  # which knows nothing of events
    assert list(runner.failures) == ["cpu, nothing, pi_ai"]
    assert "The answer ended without any content" in runner.failures["cpu, nothing, pi_ai"]


@pytest.mark.parametrize("size", [FULL, QUICK])
@pytest.mark.parametrize("section", SECTIONS)
def test_every_case_has_somebody_of_ours_and_its_baseline(section: str, size: object):
    cases = list(SECTIONS[section](size))  # pyright: ignore[reportArgumentType] - parametrized
    assert len({case.name for case in cases}) == len(cases)
    for case in cases:
        names = [one.name for one in case.contestants()]
        assert "pi_ai" in names
        assert case.baseline is None or case.baseline in names
    assert set(BARE) == set(WIRES)
    assert all(set(one.wires) <= set(WIRES) for one in CONTESTANTS.values())


def test_figures_survive_json(report: Report):
    text = report.dumps()
    assert Report.loads(text) == report
    assert set(json.loads(text)) == {"date", "machine", "versions", "missing", "failures", "figures"}


def test_tables_are_whole(report: Report):
    text = markdown(report)
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1
        assert re.search(r"^\| pi_ai +\|", table, re.MULTILINE)
    assert "litellm (litellm <not> installed)" in text
    assert all(f"### {title}\n" in text for title, _ in TITLES.values())
    assert "CPU per event: chat completions, 1 event a write" in summary(report)


def test_figures_replace_those_in_a_document_and_nothing_else(report: Report):
    before = f"# Title\n\nWords.\n\n{HEADING}\nOld.\n\n### Old, too\n\n## After\n\nMore.\n"
    after = put_into(before, markdown(report))
    assert after.startswith(f"# Title\n\nWords.\n\n{HEADING}\n2026-01-02, a machine")
    assert after.endswith("\n## After\n\nMore.\n")
    assert "Old" not in after
    assert put_into(after, markdown(report)) == after
    with pytest.raises(SystemExit, match="no heading"):
        put_into("# Title\n", "")


def test_the_page_is_well_formed_and_needs_nothing_else(report: Report):
    text = page(report)
    tree = ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>\n"))
    assert len(list(tree.iter("svg"))) == 10
    assert not re.search(r"https?:|src=|@import|url\(", text)
    assert "prefers-color-scheme: dark" in text
    assert "litellm &lt;not&gt; installed" in text
    assert not re.search("nan|inf(?!o)", text)


def test_nothing_in_a_chart_overlaps_or_leaves_it(report: Report):
    tree = ElementTree.fromstring(page(report).removeprefix("<!DOCTYPE html>\n"))
    for svg in tree.iter("svg"):
        width, height = map(float, svg.attrib["viewBox"].split()[2:])
        names = [text for text in svg.iter("text") if text.get("text-anchor") == "end"]
        told = [text for text in svg.iter("text") if text.get("text-anchor") is None]
        bars = list(svg.iter("rect"))
        assert len(names) == len(told) == len(bars) > 0
        for name, bar, value in zip(names, bars, told, strict=True):
            left, right = float(bar.attrib["x"]), float(bar.attrib["x"]) + float(bar.attrib["width"])
            assert 6.5 * len(name.text or "") <= float(name.attrib["x"]) <= left
            assert right <= float(value.attrib["x"]) <= width - 6.5 * len(value.text or "")
        for one in (*names, *told):
            assert float(one.attrib["y"]) < height - 10
        ticks = [float(text.attrib["x"]) for text in svg.iter("text") if text.get("class") == "tick"]
        assert all(after - before > 15 for before, after in itertools.pairwise(ticks))


def test_the_program_measures_and_draws_again_what_it_measured(tmp_path):
    def run(*arguments: object) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks", *map(str, arguments)], capture_output=True, text=True, check=True
        )
        return done.stdout

    readme = tmp_path / "README.md"
    readme.write_text(f"{HEADING}\n")
    told = run(
        "import", "--tiny", "--contestant", "pi_ai", "--machine", "A big one", "--out", tmp_path / "a", "--into", readme
    )
    assert "| pi_ai | " in told
    assert re.search("A big one, .*Python.*### Import", readme.read_text(), re.DOTALL)
    run("--from", tmp_path / "a" / "figures.json", "--out", tmp_path / "b")
    for name in ("figures.json", "figures.md", "figures.html"):
        assert (tmp_path / "a" / name).read_text() == (tmp_path / "b" / name).read_text() != ""


@pytest.mark.parametrize("arguments", [("nosuch",), ("--python", "nobody=/x"), ("--quick", "--tiny")])
def test_what_the_program_does_not_know_is_an_error(arguments: tuple[str, ...]):
    done = subprocess.run([sys.executable, "-m", "benchmarks", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "error: " in done.stderr
