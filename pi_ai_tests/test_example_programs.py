"""The larger examples, as the programs that they are: killed, resumed, interrupted, typed to."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pi_ai_tests.test_surface import ROOT

pytest.importorskip("rich", reason="rich is not installed")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="written for signals and terminals of POSIX")
ENVIRONMENT = {**os.environ, "PI_AI_MODEL": "", "TERM": "xterm", "NO_COLOR": "1"}


def program(name: str, *arguments: object) -> list[str]:
    return [sys.executable, str(ROOT / "examples" / name), *map(str, arguments)]


def until(true: Any, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_batch_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    prompts, answers = tmp_path / "prompts.txt", tmp_path / "answers.jsonl"
    prompts.write_text("".join(f"Question {number}\n" for number in range(1500)))
    command = program("batch.py", prompts, answers)
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE) as killed:
        until(lambda: answers.exists() and answers.read_bytes().count(b"\n") > 100)
        killed.kill()
    begun = answers.read_bytes().count(b"\n")
    assert 100 < begun < 1500
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True, timeout=60)
    lines = [json.loads(line) for line in answers.read_text().splitlines()]
    assert sorted(line["prompt"] for line in lines) == list(range(1500))
    assert all(line["answer"].endswith(f"Question {line['prompt']}") for line in lines)
    assert done.stdout.splitlines()[0] == "1500 answers, 0 failed"
    asked = int(done.stdout.splitlines()[1].split()[0])
    assert asked <= 1500 - begun + 50


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, command: list[str]) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            command, env=ENVIRONMENT, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        self.text = ""

    def types(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def shows(self, text: str) -> None:
        def shown() -> bool:
            if select.select([self._ours], [], [], 0)[0]:
                self.text += os.read(self._ours, 65536).decode(errors="replace")
            return text in self.text

        until(shown)

    def ends(self) -> int:
        code = self.process.wait(30)
        os.close(self._ours)
        return code


def test_the_terminal_chat_answers_and_ends_with_the_input() -> None:
    chat = Terminal(program("terminal_chat.py"))
    chat.shows(">")
    chat.types("Hello *there*\n")
    chat.shows("it is told: Hello \x1b[3mthere")  # Markdown
    chat.shows("tokens, $")
    chat.types("\x04")
    assert chat.ends() == 0
