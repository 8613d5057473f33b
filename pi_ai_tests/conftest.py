"""Fixtures that every test may use."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from typing import Any

import pytest

BACKENDS: list[Any] = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    pytest.param(("trio", {}), id="trio"),
]
if importlib.util.find_spec("uvloop"):
    BACKENDS.insert(1, pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"))


@pytest.fixture(params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Every async test runs on asyncio, on asyncio with uvloop, and on trio."""
    return request.param


@pytest.fixture(autouse=True, scope="session")
def _no_files_of_the_developers_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The ``models.json`` and ``auth.json`` of whoever runs the tests must not change what they find."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PI_CODING_AGENT_DIR", os.fspath(tmp_path_factory.mktemp("agent")))
        yield
