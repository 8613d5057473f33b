"""The pytest plug-in of pi_ai: fixtures ``sandbox``, ``faux`` and ``cassette``, and a switch that forbids the network.

It stands beside the package because pytest imports it at the start of every run, whatever is tested: importing anything
of ``pi_ai`` there would cost 0.1 s, load anyio before pytest could rewrite the assertions of anyio's own plug-in, which
warns, and what measures coverage would find the package loaded already.

Whether a test may reach other machines: the markers ``pi_ai_network`` and ``pi_ai_no_network`` say it, else the option
or the ini file. A test that records its cassette may. Processes that a test starts are not looked after.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pi_ai.testing import Cassette, Faux, Sandbox


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--pi-ai-record`` and ``--pi-ai-no-network``; the ini file's ``pi_ai_no_network`` is the latter."""
    group = parser.getgroup("pi_ai")
    group.addoption(
        "--pi-ai-record",
        choices=["none", "once", "all"],
        default=os.environ.get("PI_AI_RECORD", "none"),
        help="record cassettes: those that lack (once), or all of them anew (all); needs keys and the network",
    )
    group.addoption(
        "--pi-ai-no-network", action="store_true", help="connections to other machines raise an error that names them"
    )
    parser.addini("pi_ai_no_network", "as --pi-ai-no-network", type="bool", default=False)


@pytest.fixture
def sandbox() -> Generator[Sandbox]:
    """A ``pi_ai.testing.Sandbox`` that runs in a thread: for sync tests, and for async ones on any event loop."""
    from pi_ai.testing import Sandbox

    with Sandbox().in_thread() as box:
        yield box


@pytest.fixture
def faux() -> Generator[Faux]:
    """A ``pi_ai.testing.Faux``: the provider ``faux``, which answers what the test scripts."""
    from pi_ai.testing import Faux

    with Faux() as provider:
        yield provider


@pytest.fixture
def cassette(request: pytest.FixtureRequest) -> Generator[Cassette]:
    """A ``pi_ai.testing.Cassette`` in ``cassettes/<module>/<test>.jsonl`` beside the test, one for all event loops."""
    from pi_ai.testing import Cassette

    name = re.sub(r"\b(?:asyncio(?:\+uvloop)?|uvloop|trio)\b-?", "", request.node.name).replace("[]", "")
    name = re.sub(r"[^\w.-]+", "_", name).strip("_")
    path = request.path.parent / "cassettes" / request.path.stem / f"{name}.jsonl"
    mode: Any = {"once": "once", "all": "record"}.get(str(request.config.getoption("--pi-ai-record")), "replay")
    tape = Cassette(path, mode=mode)
    failed = request.session.testsfailed
    yield tape
    if request.session.testsfailed == failed:  # else a wrong key's refusal would be played ever after
        tape.save()


class NetworkForbidden(RuntimeError):
    """A test wanted to reach another machine."""

    def __init__(self, host: object) -> None:
        super().__init__(
            f"A test wanted to connect to {host!r}, and the network is forbidden (--pi-ai-no-network). "
            "Use the fixtures sandbox, faux or cassette (record it: --pi-ai-record=once), or mark the test "
            "pi_ai_network."
        )


_guards = pytest.MonkeyPatch()
_guarded = False
_forbidden = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    """Forbid the network from the start, if that is wanted, so that importing the tests does not reach it either."""
    config.addinivalue_line("markers", "pi_ai_network: the test may reach other machines")
    config.addinivalue_line("markers", "pi_ai_no_network: connections of the test to other machines raise an error")
    forbidden = bool(config.getoption("--pi-ai-no-network") or config.getini("pi_ai_no_network"))
    config.stash[_forbidden] = forbidden
    _guard(forbidden)


def pytest_unconfigure() -> None:
    """The network is there again."""
    _guard(False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Forbid or allow the network to one test and its fixtures."""
    forbidden = item.config.stash[_forbidden]
    records = _records(item)
    marker = item.get_closest_marker("pi_ai_no_network"), item.get_closest_marker("pi_ai_network")
    _guard(marker[0] is not None or (forbidden and marker[1] is None and not records))
    try:
        return (yield)
    finally:
        _guard(forbidden)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say in the report of a test that failed where its cassette is: nowhere."""
    report = yield
    if report.failed and _records(item):
        report.sections.append(("cassette", "The test failed, so that nothing was recorded."))
    return report


def _records(item: pytest.Item) -> bool:
    return item.config.getoption("--pi-ai-record") != "none" and "cassette" in getattr(item, "fixturenames", ())


def _guard(forbidden: bool) -> None:
    """Guard sockets, and above them what uvloop does without Python's; or do so no longer."""
    global _guarded  # noqa: PLW0603 - what is guarded is the process
    if forbidden == _guarded:
        return
    _guarded = forbidden
    if not forbidden:
        _guards.undo()
        return
    import anyio

    def guarded(connect: Callable[..., Any]) -> Callable[..., Any]:
        def connecting(self: socket.socket, address: Any) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_here(address[0]):
                raise NetworkForbidden(address[0])
            return connect(self, address)

        return connecting

    getaddrinfo, connect_tcp = socket.getaddrinfo, anyio.connect_tcp

    def resolving(host: Any, *args: Any, **keywords: Any) -> Any:
        if host is not None and not _is_here(host):
            raise NetworkForbidden(host)
        return getaddrinfo(host, *args, **keywords)

    async def connecting(remote_host: Any, *args: Any, **keywords: Any) -> Any:
        if not _is_here(remote_host):
            raise NetworkForbidden(remote_host)
        return await connect_tcp(remote_host, *args, **keywords)

    _guards.setattr(socket.socket, "connect", guarded(socket.socket.connect))
    _guards.setattr(socket.socket, "connect_ex", guarded(socket.socket.connect_ex))
    _guards.setattr(socket, "getaddrinfo", resolving)
    _guards.setattr(anyio, "connect_tcp", connecting)
    try:
        from uvloop import Loop
    except ImportError:
        return
    create_connection = Loop.create_connection

    async def creating(self: Any, factory: Any, host: Any = None, *args: Any, **keywords: Any) -> Any:
        if host is not None and not _is_here(host):
            raise NetworkForbidden(host)
        return await create_connection(self, factory, host, *args, **keywords)

    _guards.setattr(Loop, "create_connection", creating)


def _is_here(host: object) -> bool:
    name = host.decode() if isinstance(host, bytes) else str(host)
    if name in ("", "localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
        return address.is_loopback or address.is_unspecified  # the latter to listen on
    except ValueError:
        return False
