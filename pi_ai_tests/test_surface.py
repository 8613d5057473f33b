"""The public surface: complete, sorted, documented, and quick to import."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import get_type_hints

import attrs
import pytest

import pi_ai
from pi_ai import StreamKeywords, StreamOptions, UserMessage, get_model, stream

ROOT = Path(__file__).parents[1]
PUBLIC = {name: getattr(pi_ai, name) for name in pi_ai.__all__}
OBJECTS = {name: value for name, value in PUBLIC.items() if inspect.isclass(value) or inspect.isfunction(value)}


def test_all_is_sorted_and_without_repetition():
    assert pi_ai.__all__ == sorted(set(pi_ai.__all__))


def test_all_is_what_the_package_imports():
    """Nothing is exported by accident, and nothing is forgotten."""
    tree = ast.parse(inspect.getsource(pi_ai))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module != "__future__"]
    assert {alias.name for node in imports for alias in node.names} == set(pi_ai.__all__)
    assert {name for name, value in vars(pi_ai).items() if name[0] != "_" and not isinstance(value, ModuleType)} <= {
        *pi_ai.__all__,
        "annotations",
    }


@pytest.mark.parametrize("name", OBJECTS)
def test_a_public_name_is_documented(name):
    value = OBJECTS[name]
    assert inspect.getdoc(value)
    if inspect.isclass(value):
        members = {key: member for key, member in vars(value).items() if not key.startswith("_")}
        methods = {key: member for key, member in members.items() if isinstance(member, property) or callable(member)}
        assert [key for key, member in methods.items() if not inspect.getdoc(member)] == []


def test_a_public_name_shows_as_the_packages_own():
    """Data classes keep their module: their annotations are looked up there."""
    for value in OBJECTS.values():
        assert value.__module__ == "pi_ai" or attrs.has(value)


def test_the_keywords_of_stream_are_the_fields_of_its_options():
    fields = {field.name: field.name for field in attrs.fields(StreamOptions)}
    hints = get_type_hints(StreamOptions)
    assert get_type_hints(StreamKeywords) == {name: hints[name] for name in fields}


def test_an_option_can_be_given_either_way():
    """D1: what the type checker allows is what runs."""
    values = {field.name: field.default for field in attrs.fields(StreamOptions)}
    values = {name: value.factory() if isinstance(value, attrs.Factory) else value for name, value in values.items()}
    stream(get_model("local", "smollm2-135m"), pi_ai.Context([UserMessage("Hi")]), **values)


def test_what_only_some_need_is_loaded_when_it_is_used():
    code = (
        "import sys, pi_ai; later = 'agents', 'budgets', 'fallbacks', 'fan_out', 'functions', 'shapes', 'structured'; "
        "found = lambda: [name for name in later if f'pi_ai.{name}' in sys.modules]; "
        "print(found(), {'tool', 'run_tools'} <= set(dir(pi_ai)), hasattr(pi_ai, 'no_such_name')); "
        "from pi_ai import tool; print(found(), tool.__module__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines() == ["[] True False", "['functions', 'shapes'] pi_ai"]


def test_importing_the_package_loads_no_heavy_library():
    heavy = {"httpx", "httpcore", "cattrs", "tenacity", "jiter", "jsonschema_rs", "ssl", "asyncio", "trio", "xllamacpp"}
    code = f"import sys, pi_ai; print(sorted(set(sys.modules) & {heavy!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(not importlib.util.find_spec("pyright"), reason="pyright is not installed")
@pytest.mark.parametrize("name", ["surface.py", "tools.py"])
def test_type_checkers_see_what_the_documentation_promises(name):
    """Files in ``typing`` are read, not run: what must be an error there is marked, and an idle mark is an error."""
    file = Path(__file__).with_name("typing") / name
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout
