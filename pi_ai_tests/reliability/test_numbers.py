"""The table of ``README.md`` says what the tests say."""

from __future__ import annotations

import re

from pi_ai_tests import numbers


def test_the_table_is_up_to_date() -> None:
    assert numbers.README.read_text(encoding="utf-8") == numbers.page(), "run `python -m pi_ai_tests.numbers`"


def test_every_number_in_a_name_is_one_of_the_contract() -> None:
    assert numbers.proofs().keys() <= numbers.known().keys()


def test_every_test_that_is_named_exists() -> None:
    assert numbers.ALSO.keys() <= numbers.tests()


def test_the_methods_are_where_the_table_says() -> None:
    places = {place for where in numbers.METHODS.values() for place in re.findall(r"`([\w./*]+(?:\.\w+|/))`", where)}
    assert places
    for place in places - {"pyproject.toml", ".ci/run"}:
        assert [*numbers.TESTS.glob(place), *numbers.TESTS.parent.glob(place)], place


def test_what_does_not_apply_has_no_test_that_proves_it() -> None:
    assert not numbers.DOES_NOT_APPLY.keys() & numbers.proofs().keys()


def test_there_are_as_many_numbers_as_in_the_contract() -> None:
    assert (len(numbers.FAULTS), len(numbers.PROMISES)) == (102, 34)
