"""The order of the modules (architecture section 3) and the one seam for each foreign library, read off the source.

Every import counts: those inside functions, those for the type checker, and ``import_module("…")`` with a name that
can be read.
"""

from __future__ import annotations

import ast
import graphlib
import sys
from functools import cache
from pathlib import Path

import pytest

from pi_ai_tests.test_surface import ROOT

SOURCE = ROOT / "pi_ai"

LAYERS: list[set[str]] = [
    {"_version", "types", "events", "errors"},
    {
        *{"text", "pricing", "wire", "builder", "history", "reasoning", "tools", "overflow"},
        *{
            "budgets",
            "docstrings",
            "failures",
            "functions",
            "headers",
            "serialization",
            "shapes",
            "taps",
            "telemetry",
            "tokens",
            "urls",
        },
    },
    {"streams", "clocks", "retries", "transport", "fan_out"},
    {"auth"},
    {"adapters"},
    {"providers"},
    {"registry"},
    {"agents", "calls", "fallbacks", "structured"},
    {"pi_ai", "oauth", "bridges"},  # the public surface: __init__.py; oauth.py for logins, bridges.py for browsers
    {"cli", "testing"},
    {"__main__"},
]
"""Lowest first. A module imports from its own layer, without a cycle, and from those below."""

PURE = LAYERS[0] | LAYERS[1]
"""They neither wait nor speak HTTP: no anyio, no httpx."""

SEAMS: dict[str, set[str]] = {
    "httpx": {"transport", "testing"},  # cassettes record with a client of their own
    "httpcore": {"transport"},
    "tenacity": {"retries"},
    "cattrs": {"serialization"},
    "jsonschema_rs": {"tools"},
    "httpx_sse": {"wire", "adapters"},  # its ServerSentEvent is our wire event (D8)
    "httptools": {"wire"},
    "jiter": {"text", "wire", "adapters"},
    "google": {"auth"},  # google-auth
    "opentelemetry": {"telemetry"},
    "xllamacpp": {"providers"},  # in a process of its own
    "botocore": {"auth"},
    "rich": {"cli"},
    "anyio": set.union(*LAYERS[2:]),
    "attrs": {part for layer in LAYERS for part in layer},
    # Both event loops are anyio's business. streams.py speaks to them through a token, and to trio by sys.modules.
    "asyncio": set(),
    "trio": set(),
    "sniffio": set(),
}
"""Foreign library → who may import it. Others may not be imported at all."""


@cache
def imports() -> dict[str, set[str]]:
    """Module → the modules that it imports, by full names."""
    return {_name(path): set(_imported(path)) for path in sorted(SOURCE.rglob("*.py"))}


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _imported(path: Path):
    for node in ast.walk(ast.parse(path.read_bytes())):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(level=0, module=str(module), names=names):
                for alias in names:
                    submodule = f"{module}.{alias.name}"
                    yield submodule if (ROOT / submodule.replace(".", "/")).with_suffix(".py").exists() else module
            case ast.ImportFrom():
                pytest.fail(f"{path}:{node.lineno}: relative import")
            case ast.Call(func=ast.Name("import_module" | "__import__") | ast.Attribute(attr="import_module")):
                if isinstance(node.args[0], ast.Constant):
                    yield node.args[0].value


def part_of(module: str) -> str:
    """The file or folder of the package that a module belongs to: ``pi_ai.wire.sse`` → ``wire``."""
    return module.split(".")[1] if "." in module else module


def is_ours(module: str) -> bool:
    return module.split(".")[0] == "pi_ai"


def test_every_module_has_a_place_in_the_order():
    parts = {part_of(module) for module in imports()}
    assert parts == set.union(*LAYERS)
    assert sum(map(len, LAYERS)) == len(parts)


def test_imports_go_down_only():
    height = {part: number for number, layer in enumerate(LAYERS) for part in layer}
    upwards = [
        f"{module} imports {imported}"
        for module, found in imports().items()
        for imported in found
        if is_ours(imported) and height[part_of(imported)] > height[part_of(module)]
    ]
    assert upwards == []


def test_no_module_imports_itself_around_corners():
    ours = {module: {name for name in found if is_ours(name)} - {module} for module, found in imports().items()}
    graphlib.TopologicalSorter(ours).prepare()  # raises CycleError, which names the cycle


def test_a_foreign_library_has_one_seam():
    used = {(module, name.split(".")[0]) for module, found in imports().items() for name in found if not is_ours(name)}
    strangers = [
        f"{module} imports {library}"
        for module, library in sorted(used)
        if part_of(module) not in SEAMS.get(library, set())
        and (library in SEAMS or library not in sys.stdlib_module_names)
    ]
    assert strangers == []


def test_pure_modules_neither_wait_nor_speak_http():
    assert not PURE & (SEAMS["anyio"] | SEAMS["httpx"] | SEAMS["httpcore"])


def test_a_leading_underscore_stays_within_its_folder():
    """``_name`` of another part of the package is nobody's business."""
    private = [
        f"{module} imports {imported}"
        for module, found in imports().items()
        for imported in found
        if is_ours(imported)
        and part_of(imported) != part_of(module)
        and any(part.startswith("_") for part in imported.split(".")[1:])
        and imported != "pi_ai._version"
    ]
    assert private == []


def test_the_table_names_what_is_there():
    """A library that nothing imports any more has no line in the table."""
    used = {imported.split(".")[0] for found in imports().values() for imported in found}
    assert {library for library, parts in SEAMS.items() if parts} <= used
