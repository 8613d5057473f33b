"""Fuzzing from hypothesis (T10): the targets of ``pi_ai_tests/fuzz.py`` fed with what is nearly an answer."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_ai.testing.wires import WIRES
from pi_ai_tests.fuzz import TARGETS, corpus
from pi_ai_tests.test_surface import ROOT

ODD: list[Any] = [
    *(None, True, False, 0, -1, 1.5, 2**63, 10**400, "", "x", "\ud800", "1", [], {}, [None], [[]], [{}], {"": None}),
    *({"type": "text"}, {"text": {}}, {"index": "0"}, {"type": None}, {"error": "x"}, {"error": {"message": []}}),
]
"""What may stand where something else should: every kind of JSON, empty and not."""

READERS = [target for target in TARGETS if target not in WIRES]


@cache
def seeds(target: str) -> list[bytes]:
    return sorted(corpus(target))


def test_the_corpus_is_read_by_every_target_F11() -> None:
    for target, run in TARGETS.items():
        assert seeds(target)
        for data in seeds(target):
            run(data)


@pytest.mark.parametrize("target", TARGETS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_bytes_that_nobody_meant_do_no_harm_F11_F12_F13_F16_F77(target: str, data: st.DataObject) -> None:
    by_chance = data.draw(st.randoms(use_true_random=False))
    body = data.draw(st.sampled_from(seeds(target)))
    for _ in range(data.draw(st.integers(0, 4))):
        body = _damaged(body, by_chance)
    TARGETS[target](data.draw(st.sampled_from([b"\0", b"\1", b"\5"])) + body[1:])


def _damaged(body: bytes, by_chance: random.Random) -> bytes:
    start = by_chance.randrange(len(body) + 1)
    end = min(len(body), start + by_chance.choice([0, 1, 2, 30]))
    new = by_chance.choice(
        [b"", b"\n", b"\r", b"\0", b'"', b"{", b"\xff", b"\\u", b"\xe2\x80\xa8", body[start:end] * 2]
    )
    return body[:start] + new + body[end:]


@pytest.mark.parametrize("api", WIRES)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_answers_of_the_wrong_kinds_fail_as_ours_or_not_at_all_F8_F11_F17_F73(api: str, data: st.DataObject) -> None:
    """Fields that are missing or of another kind, events that are missing, doubled, or in another order."""
    by_chance = data.draw(st.randoms(use_true_random=False))
    lines = data.draw(st.sampled_from(seeds(api)))[1:].split(b"\n")
    for _ in range(data.draw(st.integers(1, 3))):
        lines = _bent(lines, by_chance)
    TARGETS[api](b"\0" + b"\n".join(lines))


def _bent(lines: list[bytes], by_chance: random.Random) -> list[bytes]:
    at = by_chance.randrange(len(lines))
    name, blank, text = lines[at].partition(b" ")
    way = by_chance.randrange(8)
    if way == 0:
        return [*lines[:at], *lines[at + 1 :]] or lines
    if way == 1:
        return [*lines[:at], lines[at], *lines[at:]]
    if way == 2:
        return by_chance.sample(lines, len(lines))
    try:
        payload = json.loads(text)
    except ValueError:
        return lines
    place = by_chance.choice(_places(payload, ()))
    return [*lines[:at], name + blank + json.dumps(_replaced(payload, place, by_chance)).encode(), *lines[at + 1 :]]


def _places(value: Any, path: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inner for place in _places(item, (*path, key)))]


def _replaced(value: Any, path: tuple[Any, ...], by_chance: random.Random) -> Any:
    """The value with something odd in one place, or nothing."""
    if not path:
        return by_chance.choice(ODD)
    key, *rest = path
    if isinstance(value, dict) and not rest and by_chance.random() < 0.2:
        return {name: item for name, item in value.items() if name != key}
    changed = dict(value) if isinstance(value, dict) else list(value)
    changed[key] = _replaced(value[key], tuple(rest), by_chance)
    return changed


@pytest.mark.parametrize("target", [*READERS, "openai-completions"])
def test_the_fuzzer_is_a_command_F11(target: str, tmp_path: Any) -> None:
    """An input that failed can be run again by hand; the fuzzer itself need not be installed."""
    (tmp_path / "input").write_bytes(seeds(target)[0])
    command = [sys.executable, "-m", "pi_ai_tests.fuzz", target, str(tmp_path / "input")]
    subprocess.run(command, check=True, cwd=ROOT)
