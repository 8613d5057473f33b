"""JSON objects that follow each other, whatever stands between them and however their bytes are cut (F15)."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_ai.errors import TooLarge
from pi_ai.wire.json_documents import JSONDocuments

QUICK = settings(max_examples=150, deadline=None)


def documents(*parts: bytes, limit: int = 1000) -> list[str]:
    decoder = JSONDocuments(limit)
    found = [event for part in parts for event in decoder.feed(part)]
    return [event.data for event in [*found, *decoder.close()]]


@pytest.mark.parametrize(
    "between",
    [
        "[%s,%s]",
        "[%s\n,\r\n%s\n]\n",
        "%s%s",
        "%s\n%s\n",
        "\ufeff[%s, %s]",
        '[1, "x{", %s, null, [%s]]',
        "data: %s\n\ndata: %s",
    ],
)
def test_F15_what_stands_between_objects_means_nothing(between: str) -> None:
    first, second = '{"a": "}\\"{"}', '{"b": [{"c": {}}, "é\\\\"]}'
    body = (between % (first, second)).encode()
    assert documents(body) == [first, second]
    assert documents(*(bytes([byte]) for byte in body)) == [first, second]
    for cut in range(len(body)):
        assert documents(body[:cut], body[cut:]) == [first, second]


def test_an_object_comes_as_soon_as_its_last_byte_is_there() -> None:
    decoder = JSONDocuments()
    assert decoder.feed(b'[{"a":{}') == []
    assert [event.data for event in decoder.feed(b'}\n,\r\n{"b"')] == ['{"a":{}}']
    assert [event.data for event in decoder.feed(b":1}")] == ['{"b":1}']
    assert decoder.close() == []


@pytest.mark.parametrize("cut", ['[{"a":1', '[{"a":"x', '[{"a":"x\\', "[{", "[", "", "[}", "]"])
def test_F20_an_object_without_its_end_is_dropped(cut: str) -> None:
    assert documents(cut.encode()) == []


def test_F12_bytes_that_are_no_utf_8_become_a_replacement() -> None:
    assert documents(b'{"a":"\xff"}') == ['{"a":"\ufffd"}']


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@QUICK
@given(
    st.lists(st.dictionaries(st.text(), json_values, max_size=4), max_size=5),
    st.booleans(),
    st.sampled_from([None, 2]),
    st.lists(st.integers(0, 400), max_size=20),
)
def test_an_array_comes_out_element_by_element(
    values: list[Any], ascii_only: bool, indent: int | None, ends: list[int]
) -> None:
    body = json.dumps(values, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "replace")
    edges = [0, *sorted(end for end in ends if end < len(body)), len(body)]
    parts = [body[start:end] for start, end in pairwise(edges)]
    found = documents(*parts, limit=100_000)
    assert [json.loads(text) for text in found] == json.loads(body)


def test_F13_an_object_over_the_limit_is_refused_after_those_before_it() -> None:
    decoder = JSONDocuments(10)
    assert [event.data for event in decoder.feed(b'[{"a":1},{"b":"' + b"x" * 20)] == ['{"a":1}']
    for more in (b"x", b'"}'):
        with pytest.raises(TooLarge, match="more than 10 bytes; if that is expected, raise max_event_bytes"):
            decoder.feed(more)
    for whole in (b'{"a":"xxxxxx"}', b'{"a":"xxxxxx'):
        with pytest.raises(TooLarge):
            JSONDocuments(10).feed(whole)
    assert documents(b'{"abc":12}', limit=10) == ['{"abc":12}']


def test_F13_an_object_may_have_32_mebibytes_where_nobody_says_more() -> None:
    whole = b'{"a":"%b"}' % bytes(32 * 1024 * 1024 - 8)
    assert len(JSONDocuments().feed(whole)) == 1
    with pytest.raises(TooLarge):
        JSONDocuments().feed(b'{"b":1,' + whole[1:])


def test_F14_a_large_object_costs_linear_time() -> None:
    def cost(size: int) -> float:
        body = b'{"data":"' + b'a\\"' * size + b'"}'
        began = time.process_time()
        assert len(documents(*(body[at : at + 4096] for at in range(0, len(body), 4096)), limit=10**8)) == 1
        return time.process_time() - began

    cost(10_000)
    small = min(cost(100_000) for _ in range(3))
    assert cost(800_000) < 20 * small
