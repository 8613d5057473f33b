"""Every rule of credentials and logins has a test that names it, and every item of the checklist has its tests."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

RULES = (
    *(*range(1, 6), *range(10, 17), *range(20, 29), *range(30, 36), *range(40, 53)),
    *(*range(60, 72), *range(80, 86), *range(90, 93), *range(100, 106)),
)
"""A1-A105: the numbers that there are."""

FAULTS = {
    **{f"F{number}": "auth" for number in (*range(85, 96),)},
    "F97": "adapters",  # counts of tokens that are none
}
"""Which folder of tests shows what happens at a fault of an account."""

SECURITY = {
    **dict.fromkeys(("X1", "X2", "X4", "X6", "X10", "X11", "X12", "X13", "X14", "X15"), "auth"),
    **dict.fromkeys(("X3", "X5", "X7", "X8", "X9"), ""),
}
"""The same for rules of security; ``""``: any folder."""

CHECKLIST: dict[str, tuple[str, ...]] = {
    "1: a real proper-lockfile, and the lock's faults": (
        "test_what_proper_lockfile_holds_we_do_not_take_a20_a21",
        "test_what_we_hold_proper_lockfile_does_not_take_a20",
        "test_our_heartbeat_keeps_a_reader_with_ten_seconds_of_staleness_away_a23",
        "test_proper_lockfile_takes_over_what_a_dead_process_of_ours_held_and_not_before_a21",
        "test_we_take_over_what_a_dead_proper_lockfile_held_and_not_before_a21",
        "test_a_stale_lock_is_taken_over_and_a_fresh_one_is_not_a21",
        "test_a_file_in_the_place_of_the_lock_is_reported_at_once_a22",
        "test_a_file_of_ours_is_read_by_node_as_it_was_meant_a11",
    ),
    "2: processes, an expired token, an endpoint that refuses a reused one": (
        "test_processes_with_one_expired_login_make_one_exchange_and_all_succeed_a44_f86_t15",
    ),
    "3: killed while holding, and at each step of a write": (
        "test_a_process_killed_in_an_exchange_holds_up_the_next_one_until_its_lock_is_stale_t15",
        "test_a_process_killed_at_any_step_of_a_write_leaves_a_whole_file_a14_t15_f91",
    ),
    "4: a link": ("test_a_link_stays_a_link_and_mode_and_lock_are_those_of_its_target_a14_a20",),
    "5: cancelled at every await": (
        "test_cancelled_at_any_await_a_login_or_a_refresh_leaves_nothing_behind_a50_a69",
        "test_a_refresh_that_everybody_leaves_while_it_begins_is_given_up_or_settled_a50_a51",
    ),
    "6: the tables of callbacks, pastes and polls": (
        "test_the_answers_to_requests_and_what_they_do_a81_x14",
        "test_the_provider_may_say_no_a81",
        "test_a_completion_that_fails_is_told_to_browser_and_flow_a81",
        "test_nobody_else_can_deliver_while_a_callback_is_completed_a81",
        "test_what_people_paste_is_understood_a83",
        "test_when_is_polled_a84",
        "test_the_last_wait_is_cut_to_what_is_left_a84",
    ),
    "7: the case table of section 3": (
        "test_of_a_stored_key_one_in_a_file_and_a_variable_the_stored_one_a40",
        "test_a_registered_key_is_above_the_files_and_a_runtime_key_above_all_a40_a35",
        "test_a_stored_key_whose_variable_is_not_set_leaves_it_to_the_providers_variable_a41",
        "test_a_stored_login_of_a_provider_without_one_is_not_configured_a41_a42",
        "test_a_login_with_four_minutes_left_is_refreshed_and_one_with_six_is_not_a43",
        "test_four_requests_with_an_expired_login_cause_one_refresh_a44",
        "test_a_refresh_that_raises_is_an_error_though_a_key_is_configured_a46",
        "test_a_caller_who_is_cancelled_in_a_refresh_leaves_the_new_token_in_the_file_a50",
        "test_a_login_that_cannot_say_its_key_is_an_error_a47",
        "test_a_file_that_is_broken_is_left_alone_by_requests_logins_and_logouts_a15",
    ),
    "hostile callbacks": ("test_a_thousand_hostile_requests_and_then_the_right_one_t16_x13",),
    "one secret, looked for everywhere": ("test_a_secret_shows_nowhere_but_where_it_is_sent_x1_x2_t14",),
}


@cache
def _known() -> dict[str, str]:
    """Name of a test → the folder it is in."""
    here = Path(__file__).parent
    return {
        node.name: path.parent.name
        for path in sorted(here.parent.rglob("test_*.py"))
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def named(rule: str, folder: str) -> list[str]:
    pattern = re.compile(rf"(?i)_{rule}(_|$)")
    return [name for name, where in _known().items() if folder in ("", where) and pattern.search(name)]


@pytest.mark.parametrize("number", RULES)
def test_each_rule_has_a_test(number):
    assert named(f"A{number}", "auth")


@pytest.mark.parametrize(("rule", "folder"), [*FAULTS.items(), *SECURITY.items()])
def test_each_promise_about_accounts_and_secrets_has_a_test(rule, folder):
    assert named(rule, folder)


@pytest.mark.parametrize("item", CHECKLIST)
def test_each_item_of_the_checklist_has_its_tests(item):
    assert [name for name in CHECKLIST[item] if _known().get(name) != "auth"] == []
