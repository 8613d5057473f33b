"""Which test proves which number of the reliability contract: the table in ``README.md``, made from the tests' names.

``python -m pi_ai_tests.numbers`` writes it; a test holds it up to date. A test proves a number that stands in its name:
``test_a_reset_keeps_what_came_F23`` proves F23; so does one whose docstring says F23, or that ``ALSO`` names. A number
without a test needs a line in ``DOES_NOT_APPLY``; else it is ``open``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
README = TESTS / "README.md"

FAULTS: dict[int, str] = dict(
    enumerate(
        """
        U+2028, U+0085 and the like inside of a JSON string
        UTF-8 split over packets
        CRLF split over packets, CR alone, mixed line ends
        byte order mark
        comments, keep-alive lines, blank lines
        blocks without data
        data without a space, or over several lines
        unknown events, fields, blocks and finish reasons
        compressed body, flushed at each event
        a proxy that holds the whole answer back
        an event that is not JSON
        invalid UTF-8, lone surrogates
        an event over the limit
        16 MB in one event, in linear time
        two documents in one line, a stream that is an array
        binary frames that are broken, or none
        events out of order
        the bytes end in the middle of a text
        the bytes end inside of tool arguments
        the bytes end inside of a line
        whole, but the last marker is missing
        closed inside of a chunk
        reset in the middle
        proof seen, then the connection breaks
        bytes after the terminal event
        200 with a web page
        200 with a JSON error, or a whole answer
        200 with nothing
        a finish reason and no content
        HTTP errors with any body
        an error event after content
        an error event as the first event
        context too long
        content filter, refusal
        quota exhausted
        unknown model, missing permission
        silence after content
        keep-alives only
        long silent thought with pings
        everything but the terminal event
        accepted, never answered
        connecting hangs, the pool is full
        a slow reader
        the system's clock jumps
        Retry-After in every form
        asked to wait for longer than the limit
        statuses that pass with time
        a fault after the first content
        a reused connection that the server closed
        kinds that are sent once
        cancelled during the wait for the next attempt
        the retried request is the same, and told
        usage of failed attempts
        fallback to another model
        break without async with
        leaving async with early
        an exception in the loop body
        cancellation passes, the message stays
        abort from another task or thread
        a storm of cancellations
        cancelled at every checkpoint
        dropped, collected in another task
        two readers
        one client in two event loops, one after the other
        one client in two threads
        fork
        asyncio, uvloop and trio alike
        interpreter exit with open streams
        Ctrl-C
        compressed bombs
        an endless answer
        100 000 tiny deltas in linear time
        deeply nested JSON
        thousands of streams, flat memory
        descriptors
        huge heads
        partial arguments at every cut
        arguments that are not JSON
        empty arguments
        duplicate keys, NaN, large integers
        calls that interleave, ids that are missing or twice
        tool names that another provider refuses
        calls without results, results without calls
        schemas that a provider refuses
        no key
        two processes refresh one token
        fifty tasks refresh at once
        refreshed, and crashed before it was saved
        invalid_grant
        a store that is locked, read-only, full
        a store that is corrupt
        401 in the middle of a session
        the callback's port is taken, a wrong request comes
        device code: slower, expired, denied, lost
        a broken stored credential owns its provider
        the catalogue's renewal fails, or answers nonsense
        usage that is missing, partial, repeated, negative
        a model that the catalogue does not know
        a custom provider that raises, says nothing, or breaks the grammar
        a hook that raises
        a provider that is registered twice, or removed while streaming
        missing extras
        """.strip().splitlines(),
        1,
    )
)

PROMISES: dict[int, str] = dict(
    enumerate(
        """
        secrets are never shown
        tracebacks with locals show no secret
        Google's keys go into a header
        redirects are not followed
        TLS is verified
        keys over plain http to loopback only
        base URLs are checked
        headers and keys with control characters are refused
        proxies from the environment, given, or off
        the credential file: modes, temporary file, rename
        the store is changed under a lock
        PKCE, and a state of its own
        the callback server: loopback, one path, one host
        the callback page holds no token
        the browser opens https URLs of the provider
        shell commands as keys, bounded and never from outside
        $NAME reads that variable only
        answers are data, with limits
        no URL of a message is fetched
        what a model says is no path, header or format
        arguments are validated before a handler sees them
        telemetry carries no content
        fixtures are redacted
        serialised contexts and models hold no secret
        no phone home, nothing at import
        few dependencies, reproducible build
        plug-ins are loaded only when named
        a stored credential owns its provider
        error bodies are quoted in part, redacted
        hooks get redacted copies
        cloud credentials come from their own libraries
        constant-time comparison, random values from secrets
        the gateway
        a security policy, and a test for each of these
        """.strip().splitlines(),
        1,
    )
)

DOES_NOT_APPLY: dict[str, str] = {
    "X33": "there is no gateway",
}
"""Number → why there is nothing to prove."""

ALSO: dict[str, set[str]] = {
    "auth/test_aws.py::test_the_profile_of_the_process_is_found_by_the_chain": {"X31"},
    "auth/test_registry.py::test_what_is_stored_owns_its_provider_a41_a42_f95": {"X28"},
    "providers/test_config_values.py::test_D19_commands_can_be_turned_off": {"X16"},
    "providers/test_config_values.py::test_R53_a_template_is_scanned_from_left_to_right": {"X17"},
    "providers/test_config_values.py::test_R56_a_command_that_says_too_much_is_ended": {"X16"},
    "providers/test_config_values.py::test_R56_a_command_that_takes_too_long_is_ended_with_its_children": {"X16"},
    "providers/test_custom_streams.py::test_R67_something_that_is_no_event_is_an_error_event": {"F99"},
    "providers/test_custom_streams.py::test_R71_the_first_end_wins": {"F99"},
    "providers/test_dynamic.py::test_D19_a_list_from_the_network_can_name_neither_commands_nor_variables": {
        "X16",
        "X17",
    },
    "providers/test_dynamic.py::test_R85_a_failure_keeps_the_list_and_is_told_not_raised": {"F96"},
    "providers/test_extensions.py::test_R111_extensions_are_found_in_order_each_once_and_none_is_imported": {"X27"},
    "providers/test_extensions.py::test_R111_importing_the_package_loads_no_extension": {"X25", "X27"},
    "test_catalogue.py::test_an_unknown_model_is_a_lookup_error_that_names_the_closest_ids": {"F36"},
    "test_contract.py::test_s6_ctrl_c_comes_out_as_keyboard_interrupt": {"F69"},
    "test_contract.py::test_s7_abort_from_a_thread": {"F59"},
    "test_contract.py::test_s12_a_second_iterator_is_refused_and_the_first_goes_on": {"F63"},
    "test_history.py::test_TM6_the_tail_keeps_within_the_length_and_the_alphabet_of_the_api": {"F82"},
    "test_layers.py::test_a_foreign_library_has_one_seam": {"X26"},
    "test_serialization.py::test_options_write_no_secrets_and_no_hooks": {"X24"},
    "test_surface.py::test_importing_the_package_loads_no_heavy_library": {"X25"},
    "test_tools.py::test_keywords_without_a_strict_form_are_refused_anywhere_cs1": {"F84"},
    "test_tools.py::test_references_that_lead_round_in_circles_say_nothing": {"F84"},
}
"""Test → what it proves as well, where its name says something else."""

METHODS: dict[str, str] = {
    "T1 every async test on asyncio, uvloop and trio": "`conftest.py`, fixture `anyio_backend`",
    "T2 byte cuts": "`reliability/test_byte_cuts.py` over the goldens; `adapters/test_*_recordings.py` and "
    "`wire/` over recorded answers, where they are at hand",
    "T3 property tests of every wire": "`wire/`, `test_sandbox.py`",
    "T4 stateful property test of the stream": "`reliability/test_stream_states.py`",
    "T5 cancel at every checkpoint": "`reliability/test_cancellation.py`; over TLS in `transport/test_closing.py`",
    "T6 virtual time": "`reliability/virtual.py`, `reliability/test_virtual_time.py`, `transport/test_clocks.py`",
    "T7 memory transports": "`reliability/virtual.py`; `Plays` in `transport/rigs.py`",
    "T8 real sockets": "`pi_ai/testing/`, used by `test_faults.py`, `test_contract.py`, `test_sandbox.py`",
    "T9 fault proxy": "`reliability/proxy.py`, `reliability/test_fault_proxy.py`",
    "T10 fuzzing": "`fuzz.py` (`python -m pi_ai_tests.fuzz TARGET`), `reliability/test_fuzz.py`",
    "T11 growth as ratios": "`wire/` (events, frames, arguments); `benchmarks/` (`python -m benchmarks`)",
    "T12 soak": "`reliability/soak.py` (`python -m pi_ai_tests.reliability.soak`), `reliability/test_soak.py`",
    "T13 strict run": "`pyproject.toml`: warnings are errors",
    "T14 secret scan": "`reliability/test_secret_scan.py`; of logins in `auth/test_canary.py`",
    "T15 two processes": "`auth/test_lock.py`, `auth/test_store.py`",
    "T16 hostile callback client": "`auth/test_callback.py`",
    "T17 clean rooms": "`.ci/run` installs into a new environment; `test_readme.py`",
    "T18 grammar checker": "`check_grammar` in `adapters/reading.py`, used by every parser test and `reliability/`",
    "T19 differential": "`adapters/test_google_recordings.py` (google-genai), `wire/` (httpx-sse, botocore), goldens",
}
"""Method of the contract (section 7) → where it is."""

OTHER_NUMBERS = {"test_history.py": "X"}
"""File → the letter that stands for another document's numbers there."""

_NUMBER = re.compile(r"(?<![A-Za-z0-9])([FX])(\d+)(?:-[FX]?(\d+))?(?![A-Za-z0-9])", re.IGNORECASE)


def proofs() -> dict[str, list[str]]:
    """Number → the tests that prove it, as ``folder/file.py::test``."""
    found: dict[str, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        file = path.relative_to(TESTS).as_posix()
        for name, words in _tests(path):
            told = {number for number in _numbers(words) if number[0] != OTHER_NUMBERS.get(file)}
            for number in sorted(told | ALSO.get(f"{file}::{name}", set())):
                found.setdefault(number, []).append(f"{file}::{name}")
    return found


def tests() -> set[str]:
    """All tests, as ``folder/file.py::test``."""
    return {
        f"{path.relative_to(TESTS).as_posix()}::{name}" for path in TESTS.rglob("test_*.py") for name, _ in _tests(path)
    }


def _tests(path: Path) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_"):
            yield node.name, f"{node.name.replace('_', ' ')} {ast.get_docstring(node) or ''}"


def _numbers(words: str) -> Iterator[str]:
    for letter, first, last in _NUMBER.findall(words):
        yield from (f"{letter.upper()}{number}" for number in range(int(first), int(last or first) + 1))


def known() -> dict[str, str]:
    """Number → what it is about."""
    faults = {f"F{number}": text.strip() for number, text in FAULTS.items()}
    return {**faults, **{f"X{number}": text.strip() for number, text in PROMISES.items()}}


def undecided() -> list[str]:
    """The numbers that no test proves, and that have no reason for it."""
    found = proofs()
    return [number for number in known() if number not in found and number not in DOES_NOT_APPLY]


def page() -> str:
    """What stands in ``README.md``."""
    found, open_ones = proofs(), undecided()
    proven = sum(number in found for number in known())
    lines = [
        "# What the tests prove",
        "",
        "Made by `python -m pi_ai_tests.numbers` from the names of the tests; `reliability/test_numbers.py` holds it",
        "up to date. The numbers are those of the reliability contract: faults (F) and promises of security (X).",
        "",
        f"{proven} of {len(known())} numbers are proved, {len(DOES_NOT_APPLY)} do not apply, {len(open_ones)} are open"
        + (f": {', '.join(open_ones)}." if open_ones else "."),
        "",
        "## Methods",
        "",
        "| method | where |",
        "| --- | --- |",
        *(f"| {method} | {where} |" for method, where in METHODS.items()),
        "",
        "Mutants test the tests, by hand: `python -m pi_ai_tests.mutation streams --sample 60` makes one small change",
        "of a module at a time (`wire.sse`, `transport`, `builder` …) and names those that no test notices.",
        "",
        "## Numbers",
        "",
        "| no | about | proved by |",
        "| --- | --- | --- |",
        *(f"| {number} | {about} | {_where(number, found)} |" for number, about in known().items()),
        "",
    ]
    return "\n".join(lines)


def _where(number: str, found: dict[str, list[str]]) -> str:
    if number in DOES_NOT_APPLY:
        return f"does not apply: {DOES_NOT_APPLY[number]}"
    by_file: dict[str, list[str]] = {}
    for test in found.get(number, ()):
        file, _, name = test.partition("::")
        by_file.setdefault(file, []).append(f"`{name}`")
    return "<br>".join(f"{file}: {', '.join(names)}" for file, names in by_file.items()) or "**open**"


if __name__ == "__main__":
    README.write_text(page(), encoding="utf-8")
    print(f"open: {', '.join(undecided()) or 'none'}")
