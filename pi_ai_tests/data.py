"""Where the recorded cases are: goldens beside the tests, wire recordings outside of the repository."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

GOLDENS = Path(__file__).parent / "goldens"
WIRE = Path(os.environ.get("PI_AI_WIRE_CORPUS") or Path(__file__).parents[2] / "shared" / "wire")
NO_WIRE = f"the recorded provider streams are not at {WIRE} (set PI_AI_WIRE_CORPUS)"


@cache
def goldens(api: str) -> list[dict[str, Any]]:
    """All goldens of one API."""
    return _lines(GOLDENS / f"{api}.jsonl")


@cache
def table(name: str) -> list[dict[str, Any]]:
    """The rows of one golden table, such as ``calculate-cost``."""
    return _lines(GOLDENS / "tables" / f"{name}.jsonl")


@cache
def recordings(folder: str) -> list[tuple[dict[str, Any], bytes]]:
    """Meta and body of every recording under one folder of the wire corpus; empty where it is absent."""
    found: list[tuple[dict[str, Any], bytes]] = []
    for path in sorted((WIRE / folder).glob("*.meta.json")):
        body = next(p for p in path.parent.glob(path.name.removesuffix(".meta.json") + ".*") if p != path)
        found.append(({"file": body.name, **json.loads(path.read_bytes())}, body.read_bytes()))
    return found


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
