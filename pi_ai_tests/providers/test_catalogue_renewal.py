"""Renewing the catalogue from a list of models, and the ids that editors complete."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pi_ai.providers.catalog import __main__ as renewal
from pi_ai_tests.test_surface import ROOT

CATALOG = ROOT / "pi_ai" / "providers" / "catalog"
MODELS = renewal.read_models((CATALOG / "models.jsonl").read_text(encoding="utf-8"))
PROVIDERS = [json.loads(line) for line in (CATALOG / "providers.jsonl").read_bytes().splitlines()]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A catalogue to overwrite."""
    for name in ("models.jsonl", "providers.jsonl", "ids.py"):
        shutil.copy(CATALOG / name, tmp_path)
    monkeypatch.setattr(renewal, "FOLDER", tmp_path)
    return tmp_path


def files(folder):
    return {name: (folder / name).read_bytes() for name in ("models.jsonl", "providers.jsonl", "ids.py")}


FORMS = {
    "lines": lambda models: "\n".join(map(json.dumps, models)),
    "array": json.dumps,
    "object": lambda models: json.dumps({"models": models}, indent=1),
    "shuffled, with a constant key": lambda models: json.dumps([{**model, "type": "chat"} for model in models[::-1]]),
}


@pytest.mark.parametrize("form", FORMS)
def test_what_is_shipped_is_what_its_own_models_make(folder, tmp_path, capsys, form):
    before = files(folder)
    for name in before:
        (folder / name).write_bytes(before["providers.jsonl"] if name == "providers.jsonl" else b"")
    given = tmp_path / "given"
    given.write_text(FORMS[form](MODELS), encoding="utf-8")
    assert renewal.main([str(given)]) == 0
    assert files(folder) == before
    assert capsys.readouterr().out == f"{len(MODELS)} models of {len({m['provider'] for m in MODELS})} providers\n"


GOOD = {
    "provider": "openai",
    "id": "new",
    "name": "New",
    "api": "openai-responses",
    "baseUrl": "https://api.openai.com/v1",
    "reasoning": False,
    "input": ["text"],
    "cost": {"input": 1, "output": 2, "cacheRead": 0, "cacheWrite": 0},
    "contextWindow": 10,
    "maxTokens": 5,
}
WRONG = {
    "openai/new is there twice": [GOOD, GOOD],
    "nobody/new: providers.jsonl has no such provider": [{**GOOD, "provider": "nobody"}],
    "openai/new: contextWindow and maxTokens must be above 0": [{**GOOD, "maxTokens": 0}],
    "openai/new: prices must not be below 0": [{**GOOD, "cost": {**GOOD["cost"], "output": -1}}],
    "openai/new: baseUrl must be https": [{**GOOD, "baseUrl": "http://api.openai.com"}],
    "openai/new: Model.cost.input must be a number, not a string": [{**GOOD, "cost": {"input": "1"}}],
}


@pytest.mark.parametrize("problem", WRONG)
def test_what_is_wrong_with_a_list_is_told_and_nothing_is_written(folder, tmp_path, capsys, problem):
    before = files(folder)
    given = tmp_path / "given.json"
    given.write_text(json.dumps(WRONG[problem]))
    assert renewal.main([str(given)]) == 1
    assert capsys.readouterr().err == f"{problem}\n"
    assert files(folder) == before


def test_a_new_list_replaces_the_old_one_and_counts_anew(folder, tmp_path):
    given = tmp_path / "given.json"
    given.write_text(json.dumps([GOOD]))
    assert renewal.main([str(given)]) == 0
    providers = {
        record["id"]: record for record in map(json.loads, (folder / "providers.jsonl").read_bytes().splitlines())
    }
    assert (providers["openai"]["models"], providers["openai"]["apis"]) == (1, ["openai-responses"])
    assert (providers["groq"]["models"], providers["groq"]["apis"]) == (0, [])
    assert 'Literal["openai"], id: _Openai | str' in (folder / "ids.py").read_text()


def test_without_a_file_it_says_how_it_is_used(capsys):
    assert renewal.main([]) == 2
    assert "python -m pi_ai.providers.catalog MODELS" in capsys.readouterr().err


def test_it_runs_as_the_documentation_says(tmp_path):
    command = [sys.executable, "-m", "pi_ai.providers.catalog"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2


def test_the_ids_are_never_imported():
    code = "import sys, pi_ai; pi_ai.get_models(); print('pi_ai.providers.catalog.ids' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"


@pytest.mark.skipif(not importlib.util.find_spec("pyright"), reason="pyright is not installed")
def test_type_checkers_know_the_ids_and_take_any_other():
    file = Path(__file__).parents[1] / "typing" / "providers.py"
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout
