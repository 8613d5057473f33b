"""Every answer of the goldens, cut into two at any byte, into single bytes, and cut off (T2).

The longest answer of each wire is cut at every byte, the others at some. Recorded answers of real servers, where they
are at hand, are cut by ``adapters/test_*_recordings.py`` and ``wire/``.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from random import Random

import pytest

from pi_ai.adapters import get_api
from pi_ai.types import Model
from pi_ai_tests.adapters.reading import Read, read
from pi_ai_tests.fuzz import bodies
from pi_ai_tests.reliability.rigs import every_api


@pytest.fixture(autouse=True)
def ids_that_are_made_up_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secrets.choice", lambda characters: characters[0])


@cache
def streams(api: str) -> list[bytes]:
    """Bodies, the longest one first."""
    return sorted(filter(None, bodies(api)), key=len, reverse=True)


def cuts(api: str) -> Iterable[tuple[bytes, int]]:
    """A body, and where to cut it."""
    longest, *others = streams(api)
    yield from ((longest, at) for at in range(len(longest) + 1))
    by_chance = Random(api)
    yield from ((body, by_chance.randrange(len(body))) for body in others for _ in range(4))


def heard(api: str, parts: Iterable[bytes]) -> Read:
    return read(get_api(api), Model(id="m", api=api, provider="test", base_url="https://x.example/v1"), parts)


@cache
def whole(api: str, body: bytes) -> Read:
    return heard(api, [body])


def same(one: Read, other: Read) -> None:
    assert (one.types, one.deltas, one.proven) == (other.types, other.deltas, other.proven)
    assert str(one.error) == str(other.error)
    assert one.message.content == other.message.content
    assert one.message.usage == other.message.usage


@every_api
def test_an_answer_reads_the_same_wherever_it_is_cut_into_two_F2_F3(api: str) -> None:
    for body, at in cuts(api):
        same(heard(api, [body[:at], body[at:]]), whole(api, body))


@every_api
def test_an_answer_reads_the_same_byte_by_byte_F1_F2_F3_F4_F5_F6_F7(api: str) -> None:
    for body in streams(api):
        same(heard(api, [body[at : at + 1] for at in range(len(body))]), whole(api, body))


@every_api
def test_an_answer_that_is_cut_off_anywhere_is_a_beginning_and_no_whole_F18_F19_F20_F21(api: str) -> None:
    for body, at in cuts(api):
        cut, uncut = heard(api, [body[:at]]), whole(api, body)
        content = [kind for kind in cut.types if kind not in ("done", "error")]
        assert cut.deltas == uncut.deltas[: len(cut.deltas)]
        if not cut.proven:
            assert content == uncut.types[: len(content)]
            assert cut.error is not None, at
            told = uncut.error is not None and str(cut.error) == str(uncut.error)
            assert cut.error.info.kind == "truncated" or told, (at, cut.error)
            ended = [event.tool_call for event in cut.events if event.type == "toolcall_end"]
            assert all(call.arguments_error or call in ended for call in cut.message.tool_calls)
