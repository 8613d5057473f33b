"""The pytest plug-in, in pytest runs of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pi_ai.testing import Sandbox, Turn

TEST = """
import pytest
from pi_ai import Context, Registry, UserMessage
from pi_ai.types import Model

pytestmark = pytest.mark.anyio
MODEL = Model(id="m", api="openai-completions", provider="p", base_url={url!r})


async def test_weather(cassette):
    async with Registry(http_client=cassette) as pi:
        assert (await pi.complete(MODEL, Context([UserMessage("Weather?")]), api_key="canary-key")).text == "Sunny."
"""

OUTSIDE = """
import socket
import anyio, httpx, pytest
from pi_ai import Context, Registry, UserMessage
from pi_ai.types import Model

pytestmark = pytest.mark.anyio

{params}

async def test_pi_ai(anyio_backend):
    model = Model(id="m", api="openai-completions", provider="p", base_url="https://192.0.2.1")
    async with Registry() as pi:
        message = await pi.complete(model, Context([UserMessage("Hi")]), api_key="k")
    assert "wanted to connect to '192.0.2.1'" in message.error_info.message
    assert "--pi-ai-record=once" in message.error_info.message

async def test_httpx(anyio_backend):
    async with httpx.AsyncClient() as client:
        with pytest.raises(RuntimeError, match="example.com"):
            await client.get("http://example.com")

def test_a_socket():
    with socket.socket() as it, pytest.raises(RuntimeError, match="192.0.2.1"):
        it.connect(("192.0.2.1", 80))

async def test_this_machine_is_allowed(anyio_backend, sandbox):
    async with Registry() as pi:
        assert (await pi.complete(sandbox.model(), Context([UserMessage("Hi")]))).stop_reason == "stop"
"""
PARAMS = """
@pytest.fixture(params=["asyncio", "trio", ("asyncio", {"use_uvloop": True})])
def anyio_backend(request):
    return request.param
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=folder)


def test_a_cassette_is_recorded_once_and_then_played_by_every_event_loop(tmp_path: Path) -> None:
    with Sandbox().in_thread() as box:
        box.script(*[Turn("Sunny.")] * 3)
        (tmp_path / "test_it.py").write_text(TEST.format(url=box.base_url("openai-completions")))
        done = run(tmp_path)
        assert "There is no recording" in done.stdout
        done = run(tmp_path, "--pi-ai-record=once", "-k", "asyncio")
        assert done.returncode == 0, done.stdout
        assert len(box.requests) == 1
    path = tmp_path / "cassettes" / "test_it" / "test_weather.jsonl"
    assert "canary-key" not in path.read_text()
    done = run(tmp_path, "--pi-ai-no-network")
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


@pytest.mark.parametrize("how", ["option", "ini"])
def test_the_network_can_be_forbidden_for_all_event_loops(tmp_path: Path, how: str) -> None:
    (tmp_path / "test_it.py").write_text(OUTSIDE.replace("{params}", PARAMS))
    if how == "ini":
        (tmp_path / "pytest.ini").write_text("[pytest]\npi_ai_no_network = true\n")
    done = run(tmp_path, *(["--pi-ai-no-network"] if how == "option" else []))
    assert done.returncode == 0, done.stdout + done.stderr
