"""Every rule of custom providers has a test that names it, and every row of its tables has one that shows it."""

from __future__ import annotations

import re
from functools import cache

import pytest

from pi_ai_tests import numbers

RULES = (
    *(*range(1, 7), *range(10, 14), *range(20, 24), *range(30, 39), *range(40, 44), *range(50, 59), 59, "59a", "59b"),
    *(*range(60, 70), "69a", *range(70, 99), *range(100, 106), *range(110, 117)),
)
"""R1-R116: the numbers that there are. R83 hands over no ``signal``, nor does R86: that is what cancelling is for."""

FOLDERS = ("providers", "auth")
"""Where they are shown; elsewhere R is a rule of something else."""

CASES: dict[str, dict[str, tuple[str, ...]]] = {
    "validation": {
        f"R20{letter}": (f"test_R20_a_registration_that_cannot_be_is_refused_with_its_reason[R20{letter}",)
        for letter in "abcdefgh"
    },
    "registrations": {
        "stream_simple without api": ("test_R20_a_registration_that_cannot_be_is_refused_with_its_reason[R20b",),
        "new, models, no base_url": ("test_R20_a_registration_that_cannot_be_is_refused_with_its_reason[R20e",),
        "new, whole, neither key nor login": ("test_R21_what_is_no_error[R21 models without a key",),
        "built-in, one model and a key": ("test_R33_models_replace_all_of_the_layers_below",),
        "built-in, models=[]": ("test_R33_no_models_are_models_too",),
        "unknown id, {}": ("test_R21_what_is_no_error[R21 nothing at all",),
        "headers, then base_url": ("test_R40_what_is_registered_again_is_merged",),
        "valid, then invalid": ("test_R22_a_refused_registration_leaves_the_previous_one_as_it_was",),
        "an entry with its own api and base_url": (
            "test_R34_what_a_model_does_not_say_comes_from_the_model_below_that_is_most_like_it[its own",
            "test_R34_the_providers_own_api_and_url_come_before_what_is_inherited",
            "test_models_of_one_provider_may_have_apis_and_addresses_of_their_own",
        ),
        "unregister what never was": ("test_R50_unregistering_what_was_never_registered_is_no_error",),
    },
    "config values": {
        "plain": ("test_R53_a_template_is_scanned_from_left_to_right[plain",),
        "$FOO_K": ("test_R53_a_template_is_scanned_from_left_to_right[$FOO_K",),
        "pre-${FOO_K}-post": ("test_R53_a_template_is_scanned_from_left_to_right[pre-${FOO_K}-post",),
        "$$FOO_K": ("test_R53_a_template_is_scanned_from_left_to_right[$$FOO_K",),
        "$!cmd": ("test_R53_a_template_is_scanned_from_left_to_right[$!cmd",),
        "literal": tuple(
            f"test_R53_a_template_is_scanned_from_left_to_right[{value}"
            for value in ("${1x}", "${abc", "abc$", "$1abc")
        ),
        "empty variable": ("test_R55_what_cannot_be_resolved_is_an_error_that_says_whose_and_why[$FOO_E",),
        "output": ("test_R56_the_output_of_a_command_is_trimmed_at_both_ends_only",),
        "no output": tuple(
            f"test_R55_what_cannot_be_resolved_is_an_error_that_says_whose_and_why[{value}"
            for value in ("!exit 3", "!true")
        ),
        "bare name in a file": ("test_R58_a_bare_name_in_a_file_is_literal",),
        "bare name in code": ("test_R58_a_bare_name_in_code_is_the_variable_with_one_warning",),
    },
    "headers": {
        "case": ("test_R59_headers_of_provider_model_and_request_are_layered_whatever_their_case",),
        "None": ("test_R59_none_removes_a_header_at_any_level",),
        "auth_header": ("test_R59a_auth_header_sends_the_key_that_the_request_really_uses",),
        "unset variable": ("test_R31_R55_the_values_of_headers_are_resolved_at_each_request",),
    },
    "event streams": {
        **{
            row: (f"test_R70_R71_R72_R73_R74_what_a_pushing_producer_does_and_what_its_consumer_sees[{case}",)
            for row, case in {
                "start, done, text_delta, error": "R70 start, done, text_delta, error",
                "start, end()": "R73 start, end()",
                "end(m)": "R72 end(m)",
                "error(e)": "R71 error(e)",
            }.items()
        },
        "done(a), end(b)": ("test_R71_the_first_end_wins",),
        "start, raises": (
            "test_R75_what_came_before_a_failure_is_kept",
            "test_R69a_a_producer_that_raises_or_ends_too_early_is_an_error_that_keeps_what_came",
        ),
        "aborted before start": ("test_R67_a_call_that_is_aborted_before_it_began_never_asks_the_function",),
        "host task cancelled": (
            "test_R76_when_the_reader_is_cancelled_it_gets_no_event_and_others_get_the_aborted_message",
        ),
    },
    "models.json": {
        "{": ("test_R91_a_file_that_cannot_be_read_or_parsed_is_told_and_nothing_of_it_applies",),
        "comment and commas": ("test_R89_comments_trailing_commas_and_a_byte_order_mark_are_allowed",),
        "{}": ("test_R90_a_field_of_the_wrong_type_is_told_with_its_place[providers: is required",),
        "{} beside a good one": ("test_R93_an_entry_must_say_something",),
        "unknown field": ("test_R90_unknown_fields_are_ignored",),
        "no key": ("test_R95_models_without_a_key_are_there_and_not_available",),
        "a new model of a built-in": ("test_R95_a_custom_model_of_a_built_in_provider_needs_neither_nor_a_key",),
        "contextWindow: 0": (
            "test_R90_a_field_of_the_wrong_type_is_told_with_its_place[providers.x.models.0.contextWindow",
        ),
        "authHeader alone": ("test_R93_any_of_these_is_something",),
    },
    "differences from pi": {
        "D-1": ("test_R20_a_registration_that_cannot_be_is_refused_with_its_reason[R20f window",),
        "D-2": ("test_R20_a_registration_that_cannot_be_is_refused_with_its_reason[R20g",),
        "D-3": ("test_R23_what_was_registered_is_visible_when_the_call_returns",),
        "D-4": ("test_R37_the_models_of_a_users_file_survive_a_registration",),
        "D-5": ("test_R57_a_failure_is_never_kept",),
        "D-6": ("test_R58_a_bare_name_is_a_variable_in_code_and_text_in_a_file",),
        "D-7": (
            "test_R59_configuration_wins_over_the_headers_of_the_catalogue",
            "test_R59_headers_of_provider_model_and_request_are_layered_whatever_their_case",
        ),
        "D-8": ("test_R62_a_base_url_may_name_variables",),
        "D-9": ("test_R65_the_module_level_functions_reach_the_same_providers",),
        "D-10": ("test_R70_R71_R72_R73_R74_what_a_pushing_producer_does_and_what_its_consumer_sees[R73",),
        "D-11": ("test_R74_a_second_reader_is_refused_at_once",),
        "D-12": ("test_R75_what_came_before_a_failure_is_kept",),
        "D-13": ("test_a_provider_with_a_login_and_no_key_takes_no_stored_key_but_an_explicit_one_r81_d13",),
        "D-14": ("test_what_a_refresh_returns_is_stored_but_for_type_and_a_missing_refresh_token_a45_r83_d14",),
        "D-15": ("test_a_login_may_change_the_models_and_a_logout_undoes_it_r84",),
        "D-16": ("test_R92_one_bad_entry_does_not_take_the_others_with_it",),
    },
    "old and latest": {
        "plain string": ("test_R58_a_bare_name_in_a_file_is_literal",),
        "key order": ("test_R105_the_first_key_that_applies_is_used",),
        "headers only": ("test_R31_headers_alone_are_a_registration_and_never_show_in_models",),
        "base_url of a model": ("test_R61_the_base_url_of_a_model_comes_from_the_highest_layer_that_has_one",),
        "resolved per request": ("test_R31_R55_the_values_of_headers_are_resolved_at_each_request",),
        "command cache": ("test_R57_a_command_runs_at_every_request_unless_it_is_to_be_kept",),
        "registered again": ("test_R40_what_is_registered_again_is_merged",),
        "invalid registration": ("test_R22_a_refused_registration_leaves_the_previous_one_as_it_was",),
        "scope of stream_simple": ("test_R60_a_stream_function_serves_its_own_provider_and_its_own_api",),
        "models without a key": ("test_R21_what_is_no_error[R21 models without a key",),
        "models: []": ("test_R33_no_models_are_models_too",),
        "unregister": ("test_R50_unregistering_restores_everything_exactly",),
        "when a token is refreshed": ("test_a_login_is_refreshed_five_minutes_before_its_end_a43",),
        "failed refresh": ("test_a_failed_refresh_ends_the_stream_and_asks_nobody_else_a46",),
        "reasoningEffortMap": ("test_an_old_map_of_efforts_in_compat_becomes_the_map_of_levels",),
        "azure-openai-responses": ("test_an_old_id_of_a_provider_is_another_name_for_it",),
        "models.json": (
            "test_R89_comments_trailing_commas_and_a_byte_order_mark_are_allowed",
            "test_R95_a_custom_model_of_a_built_in_provider_needs_neither_nor_a_key",
        ),
    },
}
"""Table → row → the tests of it; behind ``[`` the beginning of the case's id."""


known = cache(numbers.tests)


def found(name: str) -> list[str]:
    """The files that have a test of a name, and the case that it asks for."""
    test, _, case = name.partition("[")
    files = [path.partition("::")[0] for path in known() if path.endswith(f"::{test}")]
    return [file for file in files if not case or f'"{case}' in (numbers.TESTS / file).read_text(encoding="utf-8")]


def test_each_rule_has_a_test():
    names = [test.partition("::")[2] for test in known() if test.startswith(FOLDERS)]
    told = {word.lower() for name in names for word in re.findall(r"(?i)(?<=_)R\d+[ab]?(?=_|$)", name)}
    assert [f"R{number}" for number in RULES if f"r{number}" not in told] == []


@pytest.mark.parametrize("table", CASES)
def test_each_row_of_a_table_has_its_tests(table):
    missing = [(row, name) for row, names in CASES[table].items() for name in names if not found(name)]
    assert missing == []
