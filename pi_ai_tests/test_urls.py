"""Which server a URL means."""

from __future__ import annotations

import pytest

from pi_ai.urls import host_of, is_host, is_local, is_loopback


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://API.OpenAI.com/v1", "api.openai.com"),
        ("http://localhost:11434", "localhost"),
        ("http://[::1]:80/v1", "::1"),
        ("https://user:password@x.example", "x.example"),
        ("", ""),
        ("no url", ""),
        ("http://[::1", ""),
    ],
)
def test_the_host_of_a_url_is_in_lower_case_and_empty_where_there_is_none(url: str, host: str) -> None:
    assert host_of(url) == host


@pytest.mark.parametrize(
    ("host", "names", "same"),
    [
        ("x.ai", ("x.ai",), True),
        ("api.x.ai", ("y.ai", "x.ai"), True),
        ("notx.ai", ("x.ai",), False),
        ("x.ai.example", ("x.ai",), False),
        ("api.moonshot.cn", ("api.moonshot.",), True),
        ("my.api.moonshot.cn", ("api.moonshot.",), False),
        ("", ("x.ai",), False),
        ("x.ai", (), False),
    ],
)
def test_a_host_is_a_name_or_below_it(host: str, names: tuple[str, ...], same: bool) -> None:
    assert is_host(host, names) is same


@pytest.mark.parametrize(
    ("host", "loopback", "local"),
    [
        ("localhost", True, True),
        ("app.localhost", True, True),
        ("127.0.0.1", True, True),
        ("127.9.9.9", True, True),
        ("::1", True, True),
        ("10.1.2.3", False, True),
        ("192.168.0.9", False, True),
        ("172.16.0.1", False, True),
        ("169.254.1.1", False, True),
        ("fe80::1", False, True),
        ("fd00::1", False, True),
        ("printer.local", False, True),
        ("host.docker.internal", False, True),
        ("8.8.8.8", False, False),
        ("2001:4860:4860::8888", False, False),
        ("localhost.example", False, False),
        ("ollama.example", False, False),
        ("", False, False),
    ],
)
def test_a_host_is_this_machine_or_of_the_private_network(host: str, loopback: bool, local: bool) -> None:
    assert (is_loopback(host), is_local(host)) == (loopback, local)
