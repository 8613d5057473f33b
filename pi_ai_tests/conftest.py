"""Fixtures that every test may use."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import settings

from pi_ai import Registry, transport
from pi_ai.testing import Sandbox
from pi_ai.wire.chunked import ChunkedDecoder

# The same examples every time, so that what passed passes: PI_AI_RANDOM=1 looks for new ones.
settings.register_profile("fixed", derandomize=True)
if not os.environ.get("PI_AI_RANDOM"):
    settings.load_profile("fixed")

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On uvloop the fast decoder of ``http`` would prove nothing new."""
    items[:] = [item for item in items if not {"fast", "uvloop"} <= set(re.split(r"[][-]", item.name))]


@pytest.fixture(
    params=[
        "normal",
        pytest.param(
            "fast",
            marks=pytest.mark.skipif(
                importlib.util.find_spec("httptools") is None, reason="httptools is not installed (extra speed)"
            ),
        ),
    ]
)
def http(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A test with it runs over both decoders of chunked bodies: in Python, and in C (extra ``speed``)."""
    if request.param == "normal":
        monkeypatch.setattr(transport, "_chunked_decoder", lambda: ChunkedDecoder)
    else:
        assert transport._chunked_decoder() is not ChunkedDecoder
    return request.param


@pytest.fixture
async def pi() -> AsyncIterator[Registry]:
    """A registry of the test's own."""
    async with Registry() as registry:
        yield registry


@pytest.fixture
async def box() -> AsyncIterator[Sandbox]:
    """A sandbox in the test's own event loop."""
    async with Sandbox() as box:
        yield box


@pytest.fixture(autouse=True, scope="session")
def _no_files_of_the_developers_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The ``models.json`` and ``auth.json`` of whoever runs the tests must not change what they find."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PI_CODING_AGENT_DIR", os.fspath(tmp_path_factory.mktemp("agent")))
        yield
