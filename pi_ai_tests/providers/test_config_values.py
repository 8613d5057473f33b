"""Config values: templates, commands, and the bare names of old (R53-R58)."""

from __future__ import annotations

import asyncio
import os
import time
import warnings
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_ai import ConfigError, PiAiDeprecationWarning, clear_config_value_cache
from pi_ai.auth import config_values
from pi_ai.auth.config_values import ConfigValues, literal, render, variables

pytestmark = pytest.mark.anyio
needs_sh = pytest.mark.skipif(os.name == "nt", reason="the commands are for sh")
WHAT = 'API key for provider "x"'
FILE = ConfigValues()
CODE = ConfigValues(old_names=True)

TEMPLATES = {
    "plain": "plain",
    "$FOO_K": "v1",
    "pre-${FOO_K}-post": "pre-v1-post",
    "$FOO_K$FOO_K": "v1v1",
    "$$FOO_K": "$FOO_K",
    "$!cmd": "!cmd",
    "a!b": "a!b",
    "${1x}": "${1x}",
    "${abc": "${abc",
    "${FOO_K": "${FOO_K",
    "abc$": "abc$",
    "$1abc": "$1abc",
    "${}": "${}",
    "${a b}": "${a b}",
    "$-": "$-",
    "$$$FOO_K": "$v1",
    "$$$$": "$$",
    "": "",
    "FOO_K": "FOO_K",
}


@pytest.mark.parametrize("value", TEMPLATES)
async def test_R53_a_template_is_scanned_from_left_to_right(monkeypatch, value):
    monkeypatch.setenv("FOO_K", "v1")
    assert await FILE.resolve(value, WHAT) == TEMPLATES[value]
    assert FILE.is_available(value)


def test_R53_the_longest_name_is_taken(monkeypatch):
    monkeypatch.setenv("FOO", "short")
    monkeypatch.setenv("FOO_2", "long")
    assert render("$FOO_2-$FOO.3", WHAT) == "long-short.3"
    assert variables("$FOO_2 ${FOO} $FOO_2 $$NOT ${no") == ["FOO_2", "FOO"]


async def test_R54_the_providers_own_environment_wins_and_empty_is_missing(monkeypatch):
    monkeypatch.setenv("FOO_K", "process")
    assert await FILE.resolve("$FOO_K", WHAT, {"FOO_K": "own"}) == "own"
    assert await FILE.resolve("$FOO_K", WHAT, {"FOO_K": ""}) == "process"
    monkeypatch.setenv("FOO_K", "")
    assert not FILE.is_available("$FOO_K")
    with pytest.raises(ConfigError):
        await FILE.resolve("$FOO_K", WHAT, {"FOO_K": " "})


UNRESOLVED = {
    "$FOO_E": "environment variable: FOO_E",
    "a $FOO_E ${FOO_F} $FOO_E": "environment variables: FOO_E, FOO_F",
    "!exit 3": "shell command: exit 3",
    "!true": "shell command: true",
}


@needs_sh
@pytest.mark.parametrize("value", UNRESOLVED)
async def test_R55_what_cannot_be_resolved_is_an_error_that_says_whose_and_why(monkeypatch, value):
    monkeypatch.setenv("FOO_E", "")
    with pytest.raises(ConfigError) as caught:
        await FILE.resolve(value, WHAT)
    assert str(caught.value) == f"Failed to resolve {WHAT} from {UNRESOLVED[value]}"
    assert caught.value.info.phase == "auth"


# ── commands ─────────────────────────────────────────────────────────────────────────────────────────────────


@needs_sh
async def test_R56_the_output_of_a_command_is_trimmed_at_both_ends_only():
    assert await FILE.resolve(r"!printf '  a b \n'", WHAT) == "a b"
    assert await FILE.resolve(r"!printf '\n a\n b\n\n'", WHAT) == "a\n b"


@needs_sh
async def test_R56_a_command_has_no_input_and_its_complaints_are_not_shown(capfd):
    assert await FILE.resolve("!cat; echo complaint >&2; echo done", WHAT) == "done"
    assert capfd.readouterr() == ("", "")


@needs_sh
async def test_R56_a_command_that_takes_too_long_is_ended_with_its_children(monkeypatch, tmp_path):
    monkeypatch.setattr(config_values, "COMMAND_TIMEOUT_S", 0.3)
    with pytest.raises(ConfigError):
        await FILE.resolve(f"!sleep 60 & echo $! > {tmp_path}/child; echo early; wait", WHAT)
    await is_gone(tmp_path / "child")


@needs_sh
async def test_R56_a_command_that_says_too_much_is_ended(monkeypatch):
    monkeypatch.setattr(config_values, "MAX_OUTPUT_BYTES", 1000)
    with anyio.fail_after(5), pytest.raises(ConfigError):
        await FILE.resolve("!yes", WHAT)
    assert len(await FILE.resolve("!printf '%1000s' x", WHAT)) == 1


@needs_sh
async def test_R56_a_command_runs_beside_the_event_loop_and_dies_with_its_children_when_it_is_cancelled(tmp_path):
    files = [tmp_path / str(number) for number in range(3)]
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for file in files:  # at the same time
                tasks.start_soon(FILE.resolve, f"!sleep 60 & echo $! > {file}; wait", WHAT)
            while not all(file.exists() and file.read_text().endswith("\n") for file in files):
                await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()
    for file in files:
        await is_gone(file)


@needs_sh
async def test_R56_a_command_dies_with_its_children_when_its_task_is_cancelled_by_asyncio(anyio_backend_name, tmp_path):
    """``asyncio.timeout`` and its like know nothing of scopes.

    Cancelled after so and so many steps of the event loop, each time when the shell has begun its child, if it runs.
    """
    if anyio_backend_name != "asyncio":
        pytest.skip("asyncio's own way to cancel")
    for steps in range(12):
        file = tmp_path / str(steps)
        task = asyncio.ensure_future(FILE.resolve(f"!sleep 60 & echo $! > {file}; wait", WHAT))
        for _ in range(steps):
            await anyio.lowlevel.checkpoint()
        for _ in range(20):
            if not (file.exists() and file.read_text().endswith("\n")):
                time.sleep(0.01)  # nothing else may run meanwhile
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await is_gone(file)


async def is_gone(file):
    """Wait until the process whose number is in a file has ended."""
    text = file.read_text() if file.exists() else ""  # on a busy machine it may not have begun
    pid = int(text) if text else None
    with anyio.fail_after(5):
        while pid is not None and is_alive(pid):
            await anyio.sleep(0.01)


def is_alive(pid):
    try:
        os.kill(pid, 0)
        status = Path(f"/proc/{pid}/stat")
        return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@needs_sh
async def test_R57_a_command_runs_at_every_request_unless_it_is_to_be_kept(tmp_path):
    command = f"!echo x >> {tmp_path}/runs; wc -l < {tmp_path}/runs"
    assert [await FILE.resolve(command, WHAT) for _ in range(3)] == ["1", "2", "3"]
    assert [await FILE.resolve(command, WHAT, keep=True) for _ in range(3)] == ["4", "4", "4"]
    clear_config_value_cache()
    assert await FILE.resolve(command, WHAT, keep=True) == "5"


@needs_sh
async def test_R57_a_failure_is_never_kept(tmp_path):
    command = f"!cat {tmp_path}/vault"
    with pytest.raises(ConfigError):
        await FILE.resolve(command, WHAT, keep=True)
    (tmp_path / "vault").write_text("open")
    assert await FILE.resolve(command, WHAT, keep=True) == "open"


async def test_D19_commands_can_be_turned_off(tmp_path):
    values = ConfigValues(allow_commands=False)
    assert not values.is_available("!echo key")
    with pytest.raises(ConfigError, match=f"Failed to resolve {WHAT} from shell command: touch") as caught:
        await values.resolve(f"!touch {tmp_path}/trace", WHAT)
    assert "allow_commands=False" in caught.value.info.message
    assert not (tmp_path / "trace").exists()


async def test_a_command_that_cannot_be_started_is_unresolved(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError):
        await FILE.resolve("!echo key", WHAT)


# ── bare names ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_R58_a_bare_name_in_a_file_is_literal(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    assert await FILE.resolve("OPENAI_API_KEY", WHAT) == "OPENAI_API_KEY"


async def test_R58_a_bare_name_in_code_is_the_variable_with_one_warning(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    with pytest.warns(PiAiDeprecationWarning, match=r'write "\$OPENAI_API_KEY"'):
        assert await CODE.resolve("OPENAI_API_KEY", WHAT) == "key"
    assert await CODE.resolve("OPENAI_API_KEY", WHAT) == "key"  # a warning would be an error
    assert CODE.variables("OPENAI_API_KEY") == ["OPENAI_API_KEY"]


async def test_R58_a_bare_name_of_nothing_is_literal_with_a_warning_that_does_not_quote_it(monkeypatch):
    monkeypatch.delenv("SECRET_VALUE_7", raising=False)
    with pytest.warns(PiAiDeprecationWarning, match="taken as it is") as caught:
        assert await CODE.resolve("SECRET_VALUE_7", WHAT) == "SECRET_VALUE_7"
    assert "SECRET_VALUE_7" not in str(caught[0].message)
    assert WHAT in str(caught[0].message)


@pytest.mark.parametrize("value", ["KEY", "my_api_key", "My_Key", "MY-API-KEY", "_MY_KEY", "MY_KEY_", "sk-1", "1_A"])
async def test_R58_no_other_form_is_taken_for_a_name(monkeypatch, value):
    monkeypatch.setenv(value, "of the environment")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert await CODE.resolve(value, WHAT) == value


# ── literals ─────────────────────────────────────────────────────────────────────────────────────────────────


@settings(deadline=None, max_examples=200)
@given(st.text(st.sampled_from("$!{}aA_1 ")))
def test_a_literal_means_the_text_itself(text):
    value = literal(text)
    assert not value.startswith("!")
    assert variables(value) == []
    assert render(value, WHAT) == text
