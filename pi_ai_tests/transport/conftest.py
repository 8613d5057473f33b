"""Fixtures of the tests of HTTP."""

from __future__ import annotations

import ssl

import pytest

from pi_ai import (
    transport,
)
from pi_ai_tests.transport.rigs import certificates


@pytest.fixture(autouse=True)
def no_proxies_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def tls(monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The context of a server whose certificate is trusted in this test."""
    server, client = certificates()
    monkeypatch.setattr(transport, "_tls", lambda: client)
    return server
