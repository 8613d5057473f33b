"""The README's chapter on testing: its application and its test are written down and run as printed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pi_ai.testing import Sandbox, Turn
from pi_ai_tests.test_surface import ROOT

CHAPTER = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Testing your application\n")[2]
CHAPTER = CHAPTER.partition("\n## ")[0]
PAGE = "cassettes/test_app/test_it_explains.jsonl"


def command(folder: Path, line: str, **env: str) -> subprocess.CompletedProcess[str]:
    words = line.partition("#")[0].split()[1:]
    assert words[0] == "python"
    rest = {name: value for name, value in os.environ.items() if name != "OPENROUTER_API_KEY"}
    return subprocess.run(
        [sys.executable, *words[1:], "-q", "-p", "no:cacheprovider"],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=folder,
        env={**rest, "PI_CODING_AGENT_DIR": str(folder / "agent"), **env},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for block in re.findall(r"^```py\n(.*?)^```", CHAPTER, re.MULTILINE | re.DOTALL):
        name = re.match(r"# (\w+\.py)\n", block)
        assert name is not None
        (tmp_path / name[1]).write_text(block)
    return tmp_path


def provider(folder: Path, box: Sandbox) -> None:
    """OpenRouter is the sandbox."""
    (folder / "agent").mkdir()
    there = {"providers": {"openrouter": {"baseUrl": box.base_url("openai-completions")}}}
    (folder / "agent" / "models.json").write_text(json.dumps(there))


def commands() -> list[str]:
    [text] = re.findall(r"^```console\n(.*?)^```", CHAPTER, re.MULTILINE | re.DOTALL)
    return text.splitlines()


def test_a_newcomer_records_with_a_key_and_plays_without(folder: Path) -> None:
    record, play = commands()
    with Sandbox().in_thread() as box:
        provider(folder, box)
        box.script(Turn("It exchanges no heat."))
        done = command(folder, record, OPENROUTER_API_KEY="canary-of-the-chapter")
        assert done.returncode == 0, done.stdout
        assert len(box.requests) == 1  # the other event loop plays already
    assert "canary" not in (folder / PAGE).read_text(encoding="utf-8")
    done = command(folder, play)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


def test_a_test_that_fails_writes_nothing(folder: Path) -> None:
    record, _ = commands()
    with Sandbox(default=Turn("?")).in_thread() as box:
        provider(folder, box)
        done = command(folder, record, OPENROUTER_API_KEY="canary-of-the-chapter")
    assert "2 failed" in done.stdout
    assert "nothing was recorded" in done.stdout
    assert not (folder / PAGE).exists()


def test_who_has_not_recorded_is_told_how(folder: Path) -> None:
    _, play = commands()
    done = command(folder, play)
    assert done.returncode == 1
    assert "There is no recording" in done.stdout
    assert "--pi-ai-record=once" in done.stdout
