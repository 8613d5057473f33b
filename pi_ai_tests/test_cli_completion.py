"""``pi-ai completion``: what it offers, and what real shells make of it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys

import pytest

from pi_ai.cli import main
from pi_ai.cli.completion import A_FILE
from pi_ai_tests.terminals import screen


@pytest.fixture
def offered(capsys):
    """A function that gives what the last word of a line may become."""

    def offer(line, shell="zsh"):
        status = main(["completion", shell, f"--line={line}"])
        found = capsys.readouterr().out.splitlines()
        return found if status == 0 else status

    return offer


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("pi-ai st", ["stream"]),
        ("pi-ai auth ch", ["check"]),
        ("pi-ai -e my.py mod", ["models"]),
        ("pi-ai stream --re", ["--reasoning"]),
        ("pi-ai stream --json --reasoning hi", ["high"]),
        ("pi-ai stream --reasoning=hi", ["--reasoning=high"]),
        ("pi-ai stream --model gro", ["groq/"]),
        ("pi-ai stream --model sandbox/anth", ["sandbox/anthropic-messages"]),
        ("pi-ai stream --model groq/openai/gpt-oss-1", ["groq/openai/gpt-oss-120b"]),
        ("pi-ai stream --model no-such/", []),
        ("pi-ai chat --model 'groq/openai/gpt-oss-1", ["groq/openai/gpt-oss-120b"]),
        ("pi-ai models --provider gro", ["groq"]),
        ("pi-ai login gro", ["groq"]),
        ("pi-ai auth check --json --provider gro", ["groq"]),
        ("pi-ai completion ", ["bash", "zsh", "fish"]),
        ("pi-ai stream a-prompt", []),
        ("pi-ai stream --no-such val", []),
        ("pi-ai no-such ", []),
    ],
)
def test_a_word_is_completed_by_what_may_come_there(offered, line, words):
    assert offered(line) == words


@pytest.mark.parametrize(
    "line", ["pi-ai -e ", "pi-ai stream Hi --image pic", "pi-ai chat --resume ", "pi-ai list --auth-file=a"]
)
def test_files_are_left_to_the_shell(offered, line):
    assert offered(line) == A_FILE


def test_every_command_and_every_provider_is_offered(offered):
    from pi_ai import get_providers
    from pi_ai.cli import _COMMANDS

    assert offered("pi-ai ") == list(_COMMANDS)
    assert offered("pi-ai models --provider ") == get_providers()


def test_bash_gets_only_what_comes_after_the_colon_or_the_equals_sign(offered):
    assert offered("pi-ai stream --model=groq/openai/gpt-oss-1", shell="bash") == ["groq/openai/gpt-oss-120b"]
    before = "pi-ai stream --model amazon-bedrock/amazon.nova-lite-v1:"
    assert "amazon-bedrock/amazon.nova-lite-v1:0" in offered(before)
    assert "0" in offered(before, shell="bash")


def test_the_line_is_not_offered_itself(offered):
    assert offered("pi-ai completion bash --") == ["--help"]


# ── real shells ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def shell_env(tmp_path):
    """An environment in which ``pi-ai`` is the one of this checkout, and the shell has no files of the user's own."""
    program = tmp_path / "bin" / "pi-ai"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m pi_ai "$@"\n')
    program.chmod(0o755)
    (tmp_path / "picture.png").write_bytes(b"")
    return {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "TERM": "dumb",
        "PYTHONPATH": os.getcwd(),
        "PI_CODING_AGENT_DIR": str(tmp_path / "agent"),
    }


def installed(shell):
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"{shell} is not installed")


BASH = ["bash", "--norc", "--noprofile", "-i"]
ZSH = ["zsh", "-f", "-i"]
SET_UP = {"bash": "bind 'set bell-style none'", "zsh": "unsetopt beep; autoload -Uz compinit; compinit -u -D"}


@pytest.mark.parametrize(
    "command",
    [pytest.param(BASH, marks=installed("bash"), id="bash"), pytest.param(ZSH, marks=installed("zsh"), id="zsh")],
)
def test_tab_completes_commands_options_models_and_files(shell_env, tmp_path, command):
    with screen(command, env=shell_env, cwd=tmp_path) as shell:
        shell.type(f"{SET_UP[command[0]]}\n")
        shell.type(f'eval "$(pi-ai completion {command[0]})"; echo se""t\n')
        shell.until(r"\bset\r?\n")
        shell.type("pi-ai str\t")
        shell.until("stream ")
        shell.type("--mod\t")
        shell.until("el ")
        shell.type("gro\t")
        shell.until("q/")
        shell.type("openai/gpt-oss-1\t")
        shell.until("20b ")
        shell.type("--image pict\t")
        shell.until("ure.png ")
        shell.type("--reasoning=hi\t")
        shell.until("gh ")


@installed("bash")
def test_bash_completes_ids_with_colons(shell_env, tmp_path):
    with screen(BASH, env=shell_env, cwd=tmp_path) as shell:
        shell.type('eval "$(pi-ai completion bash)"; echo se""t\n')
        shell.until(r"\bset\r?\n")
        shell.type("pi-ai stream --model amazon-bedrock/amazon.nova-lite-v1:\t")
        shell.until("lite-v1:0 ")


@installed("fish")
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("pi-ai str", ["stream"]),
        ("pi-ai stream --model groq/openai/gpt-oss-1", ["groq/openai/gpt-oss-120b"]),
        ("pi-ai stream --image pict", ["picture.png"]),
    ],
)
def test_fish_completes(shell_env, tmp_path, line, words):
    script = f"pi-ai completion fish | source; complete -C {shlex.quote(line)}"
    done = subprocess.run(
        ["fish", "--no-config", "-c", script], capture_output=True, env=shell_env, cwd=tmp_path, timeout=60, check=True
    )
    assert [found.split("\t")[0] for found in done.stdout.decode().splitlines()] == words


@installed("bash")
def test_the_scripts_are_sound(shell_env):
    for shell in ("bash", "zsh", "fish"):
        if shutil.which(shell):
            script = subprocess.run(
                ["pi-ai", "completion", shell], capture_output=True, env=shell_env, check=True
            ).stdout
            subprocess.run([shell, "-n"], input=script, env=shell_env, check=True)
