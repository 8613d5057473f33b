"""The pool: which connection is used next, which are kept, and how many."""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import sys
import textwrap
import threading
from functools import partial
from random import Random

import anyio
import anyio.abc
import attrs
import pytest

from pi_ai import PiAIError, Registry, Timeouts, complete, transport
from pi_ai.clocks import Clocks
from pi_ai.testing.server import Answer, Received, Server
from pi_ai.transport import Connections, HttpRequest
from pi_ai.types import DEFAULT_TIMEOUTS
from pi_ai_tests.rigs import CONTEXT, END, SSE, chunk, model
from pi_ai_tests.transport.rigs import first_delta, until, well

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("http")]


async def test_the_connection_that_was_used_last_is_used_next() -> None:
    async with Server(well) as server, Registry() as pi:
        held = [pi.stream(model(server.url), CONTEXT) for _ in range(3)]
        for events in held:
            await first_delta(events)
        for events in held:
            await events.result()
        await pi.complete(model(server.url), CONTEXT)
        await pi.complete(model(server.url), CONTEXT)
        assert [request.connection for request in server.requests] == [1, 2, 3, 3, 3]


async def test_without_a_registry_every_stream_has_a_connection_of_its_own() -> None:
    async with Server(well) as server:
        for _ in range(3):
            await complete(model(server.url), CONTEXT)
            await until(lambda: server.open == 0)
        assert server.connections == 3


async def test_leaving_a_registry_closes_its_connections_and_it_works_on_without_keeping_any() -> None:
    async with Server(well) as server:
        async with Registry() as pi:
            async with pi:
                await pi.complete(model(server.url), CONTEXT)
            await pi.complete(model(server.url), CONTEXT)
            assert (server.connections, server.open) == (1, 1)
            late = pi.stream(model(server.url), CONTEXT)
            await first_delta(late)
        assert (await late.result()).stop_reason == "stop"
        assert (await pi.complete(model(server.url), CONTEXT)).text == "a"
        await until(lambda: server.open == 0)


async def test_idle_connections_are_limited_in_number_and_age(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_IDLE", 2)
    async with Server(well) as server, Registry() as pi:
        held = [pi.stream(model(server.url), CONTEXT) for _ in range(4)]
        for events in held:
            await first_delta(events)
        for events in held:
            await events.result()
        await until(lambda: server.open == 2)
        monkeypatch.setattr(transport, "MAX_IDLE_AGE_S", -1)
        await pi.complete(model(server.url), CONTEXT)
        assert server.requests[-1].connection == 5
        await until(lambda: server.open == 1)


async def test_a_connection_that_the_server_closes_after_its_answer_is_not_kept() -> None:
    async def handler(request: Received, answer: Answer) -> None:
        await answer.head(200, {**SSE, "connection": "close"})
        await answer.send(chunk("a") + END)
        await answer.end()
        await answer.close()

    async with Server(handler) as server, Registry() as pi:
        for _ in range(3):
            assert (await pi.complete(model(server.url), CONTEXT, max_retries=0)).text == "a"
        assert server.connections == 3


async def test_F25_bytes_after_the_end_are_ignored_and_the_connection_is_closed() -> None:
    async def handler(request: Received, answer: Answer) -> None:
        await answer.head(200, SSE)
        await answer.send(chunk("a") + END + chunk("never"))
        while len(server.requests) == 1:
            await answer.send(b": more\n\n")
            await anyio.sleep(0.01)
        await answer.end()

    async with Server(handler) as server, Registry() as pi:
        for _ in range(2):
            assert (await pi.complete(model(server.url), CONTEXT)).text == "a"
        assert [request.connection for request in server.requests] == [1, 2]
        assert server.requests[0].ended == "client left"


async def test_F25_a_body_that_ends_soon_after_the_answer_keeps_its_connection() -> None:
    async def handler(request: Received, answer: Answer) -> None:
        await answer.head(200, SSE)
        await answer.send(chunk("a") + END)
        await anyio.sleep(0.03)
        await answer.send(b": late\n\n")
        await answer.end()

    async with Server(handler) as server, Registry() as pi:
        for _ in range(2):
            assert (await pi.complete(model(server.url), CONTEXT)).text == "a"
        assert server.connections == 1


@pytest.mark.parametrize("meanwhile", ["known", "raced"])
async def test_F49_an_idle_connection_that_the_server_closed_costs_no_attempt(meanwhile: str) -> None:
    """``known``: its end has arrived before it is used again; ``raced``: it ends on the request's arrival."""

    async def handler(request: Received, answer: Answer) -> None:
        if len(server.requests) == 2 and meanwhile == "raced":
            await answer.close()
            return
        await well(request, answer)
        if len(server.requests) == 1 and meanwhile == "known":
            await answer.close()

    async with Server(handler) as server, Registry() as pi:
        await pi.complete(model(server.url), CONTEXT)
        if meanwhile == "known":
            await until(lambda: server.open == 0)
        message = await pi.complete(model(server.url), CONTEXT, max_retries=0)
        assert (message.text, message.attempts) == ("a", None)
        assert server.connections == 2
        assert len(server.requests) == (2 if meanwhile == "known" else 3)


async def test_F49_the_second_try_is_one_and_on_a_fresh_connection() -> None:
    async def handler(request: Received, answer: Answer) -> None:
        await (well(request, answer) if len(server.requests) <= 3 else answer.close())

    async with Server(handler) as server, Registry() as pi:
        held = [pi.stream(model(server.url), CONTEXT) for _ in range(3)]
        for events in held:
            await first_delta(events)
        for events in held:
            await events.result()
        message = await pi.complete(model(server.url), CONTEXT)
        assert [request.connection for request in server.requests] == [1, 2, 3, 3, 4]
    assert message.error_info is not None
    assert (message.error_info.kind, message.error_info.attempts) == ("disconnected", 1)


async def test_R6_the_connection_is_free_before_the_wait_for_the_next_attempt() -> None:
    async def handler(request: Received, answer: Answer) -> None:
        if len(server.requests) == 1:
            await answer.whole(503, {"retry-after-ms": "30"}, b"busy")
        else:
            await well(request, answer)

    async with Server(handler) as server, Registry(max_connections=1) as pi:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pi.complete, model(f"{server.url}/first"), CONTEXT)
            await until(lambda: bool(server.requests) and server.requests[0].ended == "served")
            await pi.complete(model(f"{server.url}/second"), CONTEXT)
        assert [request.path.split("/")[1] for request in server.requests] == ["first", "second", "first"]
        assert server.connections == 1


async def test_F42_a_full_pool_says_so_and_names_its_limit() -> None:
    async with Server(well) as server, Registry(max_connections=2) as pi:
        held = [pi.stream(model(f"{server.url}/stall"), CONTEXT) for _ in range(2)]
        for events in held:
            await first_delta(events)
        message = await pi.complete(model(server.url), CONTEXT, max_retries=0, timeouts=Timeouts(connect_ms=20))
        assert message.error_message == "Request timed out: no free connection (limit 2)"
        assert message.error_info is not None
        assert (message.error_info.kind, message.error_info.phase) == ("timeout_connect", "connect")
        assert "raise max_connections" in message.error_info.message
        assert len(server.requests) == 2
        for events in held:
            await events.aclose()
        assert (await pi.complete(model(server.url), CONTEXT)).text == "a"


async def test_requests_above_the_limit_wait_for_their_turn_and_reuse_what_is_free() -> None:
    async with Server(well) as server, Registry(max_connections=3) as pi:
        async with anyio.create_task_group() as tasks:
            for _ in range(30):
                tasks.start_soon(pi.complete, model(server.url), CONTEXT)
        assert (len(server.requests), server.connections) == (30, 3)


async def test_idle_connections_to_another_server_count_and_give_way() -> None:
    async with Server(well) as one, Server(well) as other, Registry(max_connections=1) as pi:
        await pi.complete(model(one.url), CONTEXT)
        assert one.open == 1
        await pi.complete(model(other.url), CONTEXT)
        await until(lambda: one.open == 0)
        assert other.open == 1


async def test_idle_connections_to_other_servers_stay_within_the_limit() -> None:
    async with Server(well) as one, Server(well) as other, Registry(max_connections=2) as pi:
        for server in (one, other, one, other):
            await pi.complete(model(server.url), CONTEXT)
        assert (one.connections, other.connections) == (1, 1)


async def test_the_connection_that_was_idle_for_longest_gives_way() -> None:
    async with Server(well) as one, Server(well) as two, Server(well) as three, Registry(max_connections=2) as pi:
        for server in (one, two, three):
            await pi.complete(model(server.url), CONTEXT)
        await until(lambda: one.open == 0)
        assert (two.open, three.open) == (1, 1)


async def test_the_age_of_each_idle_connection_counts() -> None:
    async with Server(well) as one, Server(well) as other, Registry() as pi:
        for server in (one, other):
            await pi.complete(model(server.url), CONTEXT)
        idle = pi._connections._pool()._idle
        connection, since = idle[0]
        idle[0] = connection, since - 61
        await pi.complete(model(other.url), CONTEXT)
        await until(lambda: one.open == 0)
        assert (other.open, other.connections) == (1, 1)


@pytest.mark.parametrize("state", ["quiet", "readable", "at its end", "closed", "none"])
def test_F25_a_socket_is_readable_if_a_read_of_it_would_not_wait(state: str) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        if state == "readable":
            theirs.send(b"x")
        elif state == "at its end":
            theirs.close()
        elif state == "closed":
            ours.close()
        readable = transport._is_readable(None if state == "none" else ours)
    assert readable == (state not in ("quiet", "none"))


async def test_F60_a_cancel_storm_leaves_a_small_pool_whole() -> None:
    async with Server(well) as server, Registry(max_connections=4) as pi:
        before = {task.id for task in anyio.get_running_tasks()}
        scopes: list[anyio.CancelScope] = []

        async def request(number: int) -> None:
            with anyio.CancelScope() as scope:
                scopes.append(scope)
                await pi.complete(model(f"{server.url}/{'stall' if number % 3 else ''}"), CONTEXT)

        async def storm() -> None:
            random = Random(60)
            await until(lambda: len(scopes) == 300)
            while scopes:
                for _ in range(random.randrange(5)):
                    await anyio.lowlevel.checkpoint()
                scopes.pop(random.randrange(len(scopes))).cancel()

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                for number in range(300):
                    tasks.start_soon(request, number)
                tasks.start_soon(storm)
        with anyio.fail_after(1):
            assert (await pi.complete(model(server.url), CONTEXT)).text == "a"
        await until(lambda: server.open <= 1, within=1)
        assert server.connections <= 310
    assert {task.id for task in anyio.get_running_tasks()} <= before


def test_F64_one_registry_in_one_event_loop_after_the_other() -> None:
    pi = Registry(max_connections=2)

    async def once() -> int:
        async with Server(well) as server, pi:
            for _ in range(2):
                assert (await pi.complete(model(server.url), CONTEXT)).text == "a"
            return server.connections

    for backend in ("asyncio", "trio", "asyncio"):
        assert anyio.run(once, backend=backend) == 1
    gc.collect()


def test_F64_a_loop_that_ended_with_idle_connections_is_forgotten() -> None:
    """A registry that was entered elsewhere keeps nothing in this loop, so there is nothing to leave behind."""
    pi = Registry()

    async def main() -> None:
        async with pi:
            await anyio.to_thread.run_sync(partial(anyio.run, worker, backend="asyncio"))
            await anyio.to_thread.run_sync(partial(anyio.run, worker, backend="trio"))

    async def worker() -> None:
        async with Server(well) as server:
            for _ in range(2):
                assert (await pi.complete(model(server.url), CONTEXT)).text == "a"
            await until(lambda: server.open == 0)

    anyio.run(main)
    gc.collect()


@pytest.mark.parametrize("backends", [("asyncio", "asyncio"), ("trio", "trio"), ("asyncio", "trio")])
def test_F65_one_registry_in_two_threads_with_a_loop_each(backends: tuple[str, str]) -> None:
    pi = Registry(max_connections=1)
    both = threading.Barrier(2)
    connections: list[int] = []

    async def work() -> None:
        async with Server(well) as server, pi:
            await anyio.to_thread.run_sync(both.wait)
            for _ in range(10):
                assert (await pi.complete(model(server.url), CONTEXT)).text == "a"
            await anyio.to_thread.run_sync(both.wait)
        connections.append(server.connections)

    threads = [threading.Thread(target=partial(anyio.run, work, backend=backend)) for backend in backends]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert connections == [1, 1]
    gc.collect()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_F66_a_forked_child_leaves_the_parents_connections_alone() -> None:
    program = """
        import anyio, asyncio, os
        from pi_ai import Registry
        from pi_ai.testing.server import Server
        from pi_ai_tests.rigs import CONTEXT, model
        from pi_ai_tests.transport.rigs import well

        pi = Registry()

        async def ask(url):
            async with pi:
                return (await pi.complete(model(url), CONTEXT, max_retries=0)).text

        async def main():
            async with Server(well) as server, pi:
                await pi.complete(model(server.url), CONTEXT)
                child = os.fork()
                if child == 0:
                    try:
                        os._exit(0 if asyncio.run(ask(server.url)) == "a" else 1)
                    finally:
                        os._exit(2)
                status = await anyio.to_thread.run_sync(os.waitpid, child, 0)
                await pi.complete(model(server.url), CONTEXT)
                print(status[1], [request.connection for request in server.requests])

        anyio.run(main)
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.stdout.strip(), done.stderr) == ("0 [1, 2, 1]", "")


# ── requests that are not sent ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("url", ["http://host:port/v1", "http://\N{SNOWMAN}\N{ZERO WIDTH SPACE}/", "http://a\nb/"])
async def test_an_address_that_is_none_is_told_before_anything_is_sent(url: str) -> None:
    request = HttpRequest(url=url, headers={}, body=b"{}")
    async with Connections() as connections:
        with pytest.raises(PiAIError) as failed:
            await connections.open(request, Clocks(DEFAULT_TIMEOUTS))
    assert (failed.value.info.kind, failed.value.info.phase) == ("config", "connect")


async def test_a_credential_goes_to_another_machine_over_https_unless_it_is_allowed_X6() -> None:
    request = HttpRequest(url="http://host.example/v1", headers={"Authorization": "Bearer k"}, body=b"{}")
    async with Connections() as connections:
        with pytest.raises(PiAIError) as refused:
            await connections.open(request, Clocks(DEFAULT_TIMEOUTS))
    assert "allow_insecure=True" in refused.value.info.message
    attrs.evolve(request, allow_insecure=True).check_secrecy()
    attrs.evolve(request, url="https://host.example/v1").check_secrecy()


def test_what_is_no_credential_goes_anywhere_X6() -> None:
    headers = {"X-Trace": "1", "Authorization": "", "Content-Type": "application/json"}
    HttpRequest(url="http://host.example/v1", headers=headers, body=b"{}").check_secrecy()


async def test_the_head_of_a_request_goes_out_with_its_body() -> None:
    pieces: list[bytes] = []

    async def handle(client: anyio.abc.SocketStream) -> None:
        async with client:
            pieces.append(await client.receive())
            await client.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with anyio.create_task_group() as tasks, Connections() as connections:
        tasks.start_soon(listener.serve, handle)
        for method, body in (("POST", b'{"a": 1}'), ("POST", b""), ("GET", b"")):
            request = HttpRequest(url=f"http://127.0.0.1:{port}/", headers={}, body=body, method=method)
            exchange = await connections.open(request, Clocks(DEFAULT_TIMEOUTS))
            await exchange.aclose()
            head, _, sent = pieces[-1].partition(b"\r\n\r\n")
            assert head.startswith(method.encode())
            assert sent == body
        tasks.cancel_scope.cancel()
    await listener.aclose()
