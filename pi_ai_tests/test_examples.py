"""Every example runs as it stands, without a key and without the network, and prints what it says."""

from __future__ import annotations

import re
import runpy

import anyio
import pytest

from pi_ai import cli
from pi_ai_tests.test_surface import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PROGRAMS = [path for path in EXAMPLES if "__main__" in path.read_text(encoding="utf-8")]


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    """A process that nobody has configured anything in."""
    monkeypatch.setenv("PI_CODING_AGENT_DIR", str(tmp_path))
    monkeypatch.setattr("pi_ai.registry._default", None)
    for name in ("TEAM_TOKEN", "MY_LLM_KEY"):
        monkeypatch.setenv(name, "")  # so that what an example sets is taken back


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_an_example_prints_what_it_says(path, anyio_backend, capsys):
    backend, options = anyio_backend
    main = runpy.run_path(str(path))["main"]
    anyio.run(main, backend=backend, backend_options=options)
    printed = capsys.readouterr().out.splitlines()
    promised = re.findall(r"# → (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert promised
    assert [line.rstrip() for line in printed if line.rstrip() in promised] == promised


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_says_what_it_is(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith('"""')
    assert len(text.splitlines()) <= 100


def test_the_extension_runs_on_the_command_line(capsys):
    assert cli.main(["-e", str(ROOT / "examples" / "extension.py"), "stream", "--model", "echo/parrot", "Hello"]) == 0
    assert capsys.readouterr().out == "Hello\n"
