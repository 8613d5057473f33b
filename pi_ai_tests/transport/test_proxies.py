"""Proxies: where they are named, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest

from pi_ai import (
    Registry,
)
from pi_ai.testing.server import Server
from pi_ai.transport import proxy_for
from pi_ai_tests.rigs import CONTEXT, model
from pi_ai_tests.transport.rigs import HTTPS, Proxy, until, well

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("http")]


@pytest.mark.parametrize("way", ["HTTP_PROXY", "ALL_PROXY", "http_proxy", "option", "registry", "without scheme"])
async def test_X9_a_proxy_is_taken_from_the_environment_or_given(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Server(well) as server, Proxy() as proxy:
        url = proxy.url.replace("http://", "http://user:pass@")
        options: dict[str, Any] = {}
        if way.upper().endswith("PROXY"):
            monkeypatch.setenv(way, url)
        elif way == "without scheme":
            options["proxy"] = url.removeprefix("http://")
        elif way == "option":
            options["proxy"] = url
        async with Registry(proxy=url if way == "registry" else None) as pi:
            for _ in range(2):
                assert (await pi.complete(model(server.url), CONTEXT, **options)).text == "a"
        assert [request.path for request in proxy.requests] == [f"{server.url}/chat/completions"] * 2
        assert proxy.requests[0].headers["proxy-authorization"] == "Basic dXNlcjpwYXNz"
        assert proxy.connections == 1
        assert "proxy-authorization" not in server.requests[0].headers


@pytest.mark.parametrize("way", ["NO_PROXY", "option", "registry"])
async def test_X9_a_proxy_is_turned_off(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    if way == "NO_PROXY":
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with Server(well) as server, Registry(proxy="" if way == "registry" else None) as pi:
        message = await pi.complete(model(server.url), CONTEXT, proxy="" if way == "option" else None)
    assert message.text == "a"


@pytest.mark.parametrize(
    ("url", "environment", "proxy"),
    [
        ("https://api.example/v1", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ("https://api.example/v1", {"HTTP_PROXY": "http://p:1"}, None),
        ("https://api.example/v1", {"ALL_PROXY": "p:1"}, "http://p:1"),
        ("https://api.example/v1", {"HTTPS_PROXY": "p:1", "NO_PROXY": "example"}, None),
        ("https://api.example:8443/v1", {"HTTPS_PROXY": "p:1", "NO_PROXY": "api.example:8443"}, None),
        ("https://api.example/v1", {"HTTPS_PROXY": "p:1", "NO_PROXY": "other.example"}, "http://p:1"),
        ("https://api.example/v1", {"HTTPS_PROXY": "p:1", "NO_PROXY": "*"}, None),
        ("http://[::1]:80/v1", {"HTTP_PROXY": "p:1"}, "http://p:1"),
        ("https://api.example/v1", {}, None),
    ],
)
def test_H5_the_usual_variables_say_which_proxy(
    url: str, environment: dict[str, str], proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(url) == proxy


async def test_a_proxy_that_refuses_the_tunnel_is_a_failed_connection() -> None:
    async with Proxy() as proxy, Registry() as pi:
        message = await pi.complete(model("https://a.test", headers=HTTPS), CONTEXT, proxy=proxy.url, max_retries=1)
        await until(lambda: proxy.open == 0)
        assert [request.path for request in proxy.requests] == ["a.test:443"] * 2
        assert all("authorization" not in request.headers for request in proxy.requests)
    assert message.error_info is not None
    assert (message.error_info.kind, message.error_info.phase) == ("connect", "connect")
    assert message.error_message == "Connection error: 403 Scripted"


async def test_a_proxy_that_does_not_open_its_tunnel_has_not_delivered_the_request() -> None:
    async with Proxy() as proxy, Registry() as pi:
        message = await pi.complete(
            model("https://stall.test", headers=HTTPS), CONTEXT, proxy=proxy.url, timeout_ms=50, max_retries=1
        )
        await until(lambda: proxy.open == 0)
        assert len(proxy.requests) == 2
    assert message.error_info is not None
    assert (message.error_info.kind, message.error_info.phase) == ("timeout_first", "connect")


@pytest.mark.parametrize("proxy", ["socks5://user:secret@p:1", "ftp://user:secret@p:1", "http://user:secret@"])
async def test_a_proxy_that_is_none_is_a_configuration_error_without_its_password(proxy: str) -> None:
    async with Registry(max_connections=1) as pi:
        for _ in range(2):
            message = await pi.complete(model(), CONTEXT, proxy=proxy)
            assert message.error_info is not None
            assert message.error_info.kind == "config"
            assert "secret" not in repr(message)
