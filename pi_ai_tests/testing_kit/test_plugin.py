"""The pytest plug-in's ban of the network, in pytest runs of its own: the option, the ini file, the markers, and who
records. Its fixtures are in the other tests here.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FORBIDDEN = """
import asyncio, contextlib, socket
import anyio, httpx, pytest
from pi_ai import Context, Registry, UserMessage
from pi_ai.types import Model

@pytest.fixture(params=["asyncio", "trio", ("asyncio", {"use_uvloop": True})])
def anyio_backend(request):
    return request.param

@pytest.mark.anyio
async def test_pi_ai(anyio_backend):
    model = Model(id="m", api="openai-completions", provider="p", base_url="https://192.0.2.1")
    async with Registry() as pi:
        message = await pi.complete(model, Context([UserMessage("Hi")]), api_key="k")
    assert "wanted to connect to '192.0.2.1'" in message.error_info.message
    assert "--pi-ai-record=once" in message.error_info.message

@pytest.mark.anyio
async def test_httpx(anyio_backend):
    async with httpx.AsyncClient() as client:
        with pytest.raises(RuntimeError, match="example.com"):
            await client.get("http://example.com")

def test_a_socket():
    with socket.socket() as it, pytest.raises(RuntimeError, match="192.0.2.1"):
        it.connect(("192.0.2.1", 80))

@pytest.mark.anyio
async def test_this_machine_is_allowed(anyio_backend, sandbox):
    async with Registry() as pi:
        assert (await pi.complete(sandbox.model(), Context([UserMessage("Hi")]))).stop_reason == "stop"

def reach():  # without a packet: it is UDP
    with socket.socket(type=socket.SOCK_DGRAM) as it, contextlib.suppress(OSError):
        it.connect(("192.0.2.1", 80))

def resolve():
    socket.create_connection(("pi-ai.invalid", 80))

@pytest.mark.anyio
async def test_other_clients_of_the_loop(anyio_backend):
    with pytest.raises(RuntimeError, match="connect to 'pi-ai.invalid'"):
        if "trio" in str(anyio_backend):
            import trio
            await trio.open_tcp_stream("pi-ai.invalid", 80)
        else:
            await asyncio.open_connection("pi-ai.invalid", 80)

def test_a_name_is_told_and_not_an_address():
    with pytest.raises(RuntimeError, match="connect to 'pi-ai.invalid'"):
        resolve()

@pytest.mark.anyio
async def test_this_machine_may_serve_and_be_reached(anyio_backend):
    async with await anyio.create_tcp_listener(local_port=0) as listener:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        for host in ("127.0.0.1", "localhost"):
            await (await anyio.connect_tcp(host, port)).aclose()

@pytest.mark.pi_ai_network
def test_a_marked_one_may():
    reach()

def test_and_the_next_one_may_not_again():
    with pytest.raises(RuntimeError, match="pi_ai_network"):
        reach()
"""

SINGLE = """
import contextlib, socket, pytest

@pytest.mark.pi_ai_no_network
@pytest.mark.parametrize("marked", [True])
def test_marked(marked):
    with socket.socket() as it, pytest.raises(RuntimeError, match="192.0.2.1"):
        it.connect(("192.0.2.1", 80))

def test_not_marked():
    assert socket.socket.connect.__name__ == "connect"
    with socket.socket(type=socket.SOCK_DGRAM) as it, contextlib.suppress(OSError):  # without a packet
        it.connect(("192.0.2.1", 80))
"""

RECORDS = """
import contextlib, socket, pytest

def test_it_may(cassette):
    with socket.socket(type=socket.SOCK_DGRAM) as it, contextlib.suppress(OSError):  # without a packet
        it.connect(("192.0.2.1", 80))

def test_others_may_not():
    with socket.socket() as it, pytest.raises(RuntimeError):
        it.connect(("192.0.2.1", 80))
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=folder)


def passes(folder: Path, text: str, *arguments: str) -> None:
    (folder / "test_it.py").write_text(text)
    done = run(folder, *arguments, "--strict-markers", "-W", "error")
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_client_of_any_event_loop_gets_out(tmp_path: Path) -> None:
    passes(tmp_path, FORBIDDEN, "--pi-ai-no-network")


def test_a_single_test_can_be_shut_in(tmp_path: Path) -> None:
    passes(tmp_path, SINGLE)


def test_who_records_may_reach_the_provider_although_it_is_forbidden(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\npi_ai_no_network = true\n")
    passes(tmp_path, RECORDS, "--pi-ai-record=once")
