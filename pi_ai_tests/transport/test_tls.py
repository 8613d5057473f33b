"""TLS: one context, certificates, connections that break, tunnels."""

from __future__ import annotations

import ssl
from typing import Any

import anyio
import httpx
import pytest

from pi_ai import (
    Registry,
    complete,
    transport,
)
from pi_ai.testing.server import Answer, Received, Server
from pi_ai_tests.rigs import CONTEXT, SSE, chunk, model
from pi_ai_tests.transport.rigs import HTTPS, Proxy, certificates, until, well

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("http")]


async def test_one_tls_context_is_made_for_the_process_and_none_for_http(monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0
    create = httpx.create_ssl_context

    def counting(*args: Any, **kwargs: Any) -> Any:
        nonlocal made
        made += 1
        return create(*args, **kwargs)

    monkeypatch.setattr(httpx, "create_ssl_context", counting)
    transport._tls.cache_clear()
    async with Server(well) as server, Proxy() as proxy:
        await complete(model(server.url), CONTEXT)
        await complete(model(server.url), CONTEXT, proxy=proxy.url)
        assert made == 0
        for _ in range(3):
            await complete(model("https://127.0.0.1:9", headers=HTTPS), CONTEXT, max_retries=0)
        assert made == 1


async def test_https_works_and_keeps_its_connection(tls: ssl.SSLContext) -> None:
    async with Server(well, tls=tls) as server:
        async with Registry() as pi:
            for _ in range(3):
                assert (await pi.complete(model(server.url), CONTEXT)).text == "a"
            assert server.connections == 1
        await until(lambda: server.open == 0)


async def test_X5_a_certificate_that_nobody_vouches_for_is_refused() -> None:
    async with Server(well, tls=certificates()[0]) as server, Registry() as pi:
        message = await pi.complete(model(server.url), CONTEXT, max_retries=0)
        await until(lambda: server.open == 0)
        assert server.requests == []
    assert message.error_info is not None
    assert (message.error_info.kind, message.error_info.phase) == ("connect", "connect")
    assert "certificate verify failed" in (message.error_message or "")


@pytest.mark.parametrize("cut", ["close", "reset"])
async def test_F22_F23_a_tls_connection_that_breaks_is_a_lost_one(tls: ssl.SSLContext, cut: str) -> None:
    async def handler(request: Received, answer: Answer) -> None:
        await answer.head(200, SSE)
        await answer.send(chunk("a"))
        await anyio.sleep(0.01)
        await getattr(answer, cut)()

    async with Server(handler, tls=tls) as server, Registry() as pi:
        message = await pi.complete(model(server.url), CONTEXT)
        assert message.error_info is not None
        assert (message.error_info.kind, message.text, len(server.requests)) == ("disconnected", "a", 1)


async def test_a_tunnel_through_a_proxy_is_kept_like_any_connection(tls: ssl.SSLContext) -> None:
    tunnels: list[bytes] = []

    async def tunnel(client: Any) -> None:
        tunnels.append(await client.receive())
        port = int(server.url.rpartition(":")[2])
        async with client, await anyio.connect_tcp("127.0.0.1", port) as upstream:
            await client.send(b"HTTP/1.1 200 Connected\r\n\r\n")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(pipe, client, upstream, tasks.cancel_scope)
                tasks.start_soon(pipe, upstream, client, tasks.cancel_scope)

    async def pipe(source: Any, sink: Any, scope: anyio.CancelScope) -> None:
        try:
            async for data in source:
                await sink.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass
        scope.cancel()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    proxy = f"http://user:pass@127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
    async with Server(well, tls=tls) as server, listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, tunnel)
        async with Registry(proxy=proxy) as pi:
            for _ in range(2):
                assert (await pi.complete(model("https://a.test/v1", headers=HTTPS), CONTEXT)).text == "a"
        await until(lambda: server.open == 0)
        tasks.cancel_scope.cancel()
    assert len(tunnels) == 1
    assert b"Basic dXNlcjpwYXNz" in tunnels[0]
    assert b"Bearer" not in tunnels[0]
    assert [request.headers["host"] for request in server.requests] == ["a.test"] * 2
    assert "proxy-authorization" not in server.requests[0].headers
