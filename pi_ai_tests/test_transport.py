"""HTTP: clocks on a clock of our own, retries, limits, the pool, proxies, foreign clients, and closing."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import cache, partial
from random import Random
from typing import Any

import anyio
import attrs
import httpx
import httpx2
import pytest
import trio.testing

from pi_ai import (
    AssistantMessage,
    DoneEvent,
    Registry,
    StreamEvent,
    TextDeltaEvent,
    Timeouts,
    complete,
    stream,
    transport,
)
from pi_ai.clocks import Clocks
from pi_ai.errors import ErrorInfo, PiAIError, failure
from pi_ai.retries import RetryBudget, RetryPolicy
from pi_ai.testing.server import Answer, Received, Server
from pi_ai.transport import proxy_for
from pi_ai.types import DEFAULT_TIMEOUTS
from pi_ai_tests.rigs import CONTEXT, END, SSE, chunk, model

pytestmark = pytest.mark.anyio


# ── a clock of our own ───────────────────────────────────────────────────────────────────────────────────────


class FakeTimeLoop(asyncio.SelectorEventLoop):
    """Jumps to the next timer whenever there is nothing else to do."""

    now = 0.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        if not self._ready:
            self.now = min((timer.when() for timer in self._scheduled if not timer.cancelled()), default=self.now)
        super()._run_once()


virtual = pytest.mark.parametrize(
    "anyio_backend",
    [
        pytest.param(("asyncio", {"loop_factory": FakeTimeLoop}), id="asyncio"),
        pytest.param(("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}), id="trio"),
    ],
    indirect=True,
)


@attrs.frozen
class Play:
    """An answer without a network. Steps of the body: bytes, seconds of silence, or what it fails with."""

    steps: list[Any] = attrs.field(factory=list)
    status: int = 200
    headers: dict[str, str] = SSE
    before: float = 0.0


class Plays(httpx.AsyncBaseTransport):
    """Answers the n-th request with the n-th play, the last one for ever; an exception is raised."""

    def __init__(self, *plays: Play | Exception) -> None:
        self.plays = plays
        self.requests: list[httpx.Request] = []
        self.open = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        play = self.plays[min(len(self.requests), len(self.plays) - 1)]
        self.requests.append(request)
        if isinstance(play, Exception):
            raise play
        await anyio.sleep(play.before)
        self.open += 1
        return httpx.Response(play.status, headers=play.headers, stream=Body(play.steps, self))


class Body(httpx.AsyncByteStream):
    def __init__(self, steps: list[Any], transport: Plays) -> None:
        self.steps = steps
        self.transport = transport

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for step in self.steps:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, bytes):
                yield step
            else:
                await anyio.sleep(step)

    async def aclose(self) -> None:
        self.transport.open -= 1


FOREVER = 1e6
PINGS = [b": ping\n\n", 20] * 1000
WELL = Play([chunk("a"), END])


@attrs.frozen
class Outcome:
    """What became of a call, and how many seconds it took."""

    message: AssistantMessage
    seconds: float
    plays: Plays

    @property
    def info(self) -> ErrorInfo:
        assert self.message.error_info is not None, self.message
        return self.message.error_info


async def play(*plays: Play | Exception, pi: Registry | None = None, **options: Any) -> Outcome:
    """Make a call that is answered by these plays."""
    transport = Plays(*plays)
    began = anyio.current_time()
    async with httpx.AsyncClient(transport=transport) as client:
        made = (pi or Registry()).stream(model(), CONTEXT, **{"max_retries": 0, "http_client": client, **options})
        message = await made.result()
    assert transport.open == 0
    return Outcome(message, anyio.current_time() - began, transport)


async def collected(events: Any) -> list[StreamEvent]:
    with anyio.fail_after(10):
        return [event async for event in events]


async def first_delta(events: Any) -> None:
    with anyio.fail_after(10):
        async for event in events:
            if isinstance(event, TextDeltaEvent):
                return


async def until(condition: Callable[[], bool], within: float = 5) -> None:
    with anyio.fail_after(within):
        while not condition():
            await anyio.sleep(0.002)


@pytest.fixture(autouse=True)
def no_proxies_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@cache
def certificates() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's TLS context, and a client's that trusts it."""
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("127.0.0.1", "a.test").configure_cert(server)
    authority.configure_trust(client)
    return server, client


@pytest.fixture
def tls(monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The context of a server whose certificate is trusted in this test."""
    server, client = certificates()
    monkeypatch.setattr(transport, "_tls", lambda: client)
    return server


# ── clocks ───────────────────────────────────────────────────────────────────────────────────────────────────


@virtual
@pytest.mark.parametrize(
    ("played", "seconds", "kind", "phase", "words"),
    [
        (Play(before=FOREVER), 120, "timeout_first", "headers", "no event of the answer came within 120 s"),
        (Play([FOREVER]), 120, "timeout_first", "stream", "no event of the answer came within 120 s"),
        (Play(PINGS), 120, "timeout_first", "stream", "no event of the answer came within 120 s"),
        (Play([7, chunk("a"), FOREVER]), 67, "timeout_idle", "stream", "not one byte came within 60 s"),
        (Play([chunk("a"), *PINGS]), 600, "timeout_progress", "stream", "nothing but keep-alives came within 600 s"),
    ],
    ids=["no head", "no byte", "only pings", "F37 silence", "F38 pings for ever"],
)
async def test_F37_F38_F41_each_silence_has_its_clock_its_kind_and_its_text(
    played: Play, seconds: float, kind: str, phase: str, words: str
) -> None:
    got = await play(played)
    assert got.seconds == pytest.approx(seconds)
    assert (got.info.kind, got.info.phase) == (kind, phase)
    assert got.message.error_message == f"Request timed out: {words}"
    assert f"set timeouts=Timeouts({ {'timeout_first': 'first_event'}.get(kind, kind[8:]) }_ms=…)" in got.info.message
    assert got.message.text == ("a" if seconds != 120 else "")


@virtual
async def test_F40_content_that_is_whole_waits_for_its_proof_for_the_completion_grace_only() -> None:
    clocks = Clocks(DEFAULT_TIMEOUTS)
    clocks.progressed()
    clocks.content_ended()
    began = anyio.current_time()
    await clocks.wait(partial(anyio.sleep, 20), phase="stream")
    with pytest.raises(PiAIError, match="the content was whole, but its proof of completion did not come") as caught:
        await clocks.wait(anyio.sleep_forever, phase="stream")
    assert anyio.current_time() - began == pytest.approx(30)
    assert caught.value.info.kind == "truncated"


@virtual
async def test_F40_a_proven_answer_whose_body_does_not_end_is_done_after_the_grace() -> None:
    got = await play(Play([chunk("a", finish="stop"), FOREVER]))
    assert got.seconds == pytest.approx(30)
    assert (got.message.stop_reason, got.message.text) == ("stop", "a")


@virtual
async def test_total_ends_even_an_answer_that_goes_on_well() -> None:
    got = await play(Play([chunk("a"), 10] * 100), timeouts=Timeouts(total_ms=35_000))
    assert got.seconds == pytest.approx(35)
    assert (got.info.kind, got.info.retryable) == ("timeout_total", False)
    assert got.message.error_message == "Request timed out: the request did not end within 35 s"
    assert got.message.text == "aaaa"


@virtual
async def test_F51_total_ends_the_wait_for_the_next_attempt() -> None:
    refused = Play(status=503, headers={"retry-after": "40"})
    got = await play(Play(before=3, status=503, headers={"retry-after": "2"}), refused, WELL, max_retries=2,
                     timeouts=Timeouts(total_ms=15_000))  # fmt: skip
    assert got.seconds == pytest.approx(15)
    assert got.info.kind == "timeout_total"
    assert [attempt.error.status for attempt in got.message.attempts or []] == [503, 503]


@virtual
async def test_F39_a_long_silent_thought_with_pings_is_not_cut() -> None:
    got = await play(Play([chunk("a"), *PINGS[:58], chunk("b"), *PINGS[:58], END]))
    assert (got.message.text, got.seconds) == ("ab", pytest.approx(1160))


@virtual
async def test_F43_no_clock_runs_while_the_reader_is_slow() -> None:
    transport = Plays(Play([*[chunk("a")] * 5, END]))
    limits = Timeouts(first_event_ms=1000, idle_ms=1000, progress_ms=1000, total_ms=1000)
    async with httpx.AsyncClient(transport=transport) as client:
        events = stream(model(), CONTEXT, http_client=client, timeouts=limits)
        last: StreamEvent | None = None
        async for event in events:
            last = event
            await anyio.sleep(100)
    assert isinstance(last, DoneEvent)


@virtual
async def test_none_turns_a_clock_off() -> None:
    off = Timeouts(first_event_ms=None, idle_ms=None, progress_ms=None, completion_grace_ms=None)
    got = await play(Play([9000, chunk("a"), 9000, chunk(finish="stop"), 9000, b"data: [DONE]\n\n"]), timeouts=off)
    assert (got.message.stop_reason, got.seconds) == ("stop", pytest.approx(27000))


@virtual
@pytest.mark.parametrize(
    ("call", "of_model", "registry", "seconds"),
    [
        ({"timeouts": Timeouts(idle_ms=1000)}, 2, 3, 1),
        ({"timeout_ms": 1500}, 2, 3, 1.5),
        ({"timeouts": Timeouts(idle_ms=1000), "timeout_ms": 1500}, 2, 3, 1),
        ({}, 2, 3, 2),
        ({"timeouts": Timeouts(total_ms=100_000)}, 2, 3, 2),
        ({}, None, 3, 3),
        ({}, None, None, 60),
    ],
)
async def test_a_clock_is_set_by_the_call_then_the_model_then_the_registry_then_the_default(
    call: dict[str, Any], of_model: float | None, registry: float | None, seconds: float
) -> None:
    def idle(limit: float | None) -> Timeouts | None:
        return None if limit is None else Timeouts(idle_ms=int(limit * 1000))

    transport = Plays(Play([chunk("a"), FOREVER]))
    began = anyio.current_time()
    async with httpx.AsyncClient(transport=transport) as client:
        pi = Registry(timeouts=idle(registry), http_client=client)
        message = await pi.complete(model(timeouts=idle(of_model)), CONTEXT, **call)
    assert message.error_info is not None
    assert message.error_info.kind == "timeout_idle"
    assert anyio.current_time() - began == pytest.approx(seconds)


async def test_F42_a_tls_handshake_that_hangs_is_a_connect_timeout_and_leaves_no_socket() -> None:
    async with hanging_listener() as (address, connections):
        message = await complete(
            model(f"https://{address}", headers={"authorization": "Bearer x"}),
            CONTEXT,
            max_retries=0,
            timeouts=Timeouts(connect_ms=50),
        )
        assert message.error_info is not None
        assert (message.error_info.kind, message.error_info.phase) == ("timeout_connect", "connect")
        assert message.error_message == "Request timed out: connect"
        await until(lambda: connections == ["open", "closed"])


async def test_F61_a_tls_handshake_that_is_cancelled_leaves_no_socket() -> None:
    async with hanging_listener() as (address, connections):
        with anyio.move_on_after(0.05) as scope:
            await complete(model(f"https://{address}", headers={"authorization": "Bearer x"}), CONTEXT)
        assert scope.cancelled_caught
        await until(lambda: connections == ["open", "closed"])
        gc.collect()


def hanging_listener() -> Any:
    """Accepts connections and says nothing; gives its address, and what became of the connections."""
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def run() -> AsyncIterator[tuple[str, list[str]]]:
        connections: list[str] = []

        async def hang(connection: Any) -> None:
            connections.append("open")
            async with connection:
                try:
                    async for _ in connection:
                        pass
                except anyio.BrokenResourceError:
                    pass
            connections.append("closed")

        listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, hang)
            yield f"127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}", connections
            tasks.cancel_scope.cancel()

    return run()


@virtual
async def test_F42_a_client_of_the_callers_gets_the_connect_clock_and_no_other() -> None:
    got = await play(WELL)
    assert got.plays.requests[0].extensions["timeout"] == {"connect": 10, "read": None, "write": None, "pool": 10}


# ── sending again ────────────────────────────────────────────────────────────────────────────────────────────


async def attempts_of(policy: RetryPolicy, *errors: PiAIError) -> tuple[list[float], PiAIError | None]:
    """The waits between attempts that fail with these errors, and what came out."""
    waits: list[float] = []
    left = list(errors)

    async def attempt() -> None:
        if left:
            raise left.pop(0)

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    try:
        await policy.run(attempt, lambda error, wait: None, sleep)
    except PiAIError as error:
        return waits, error
    return waits, None


OVERLOADED = failure("overloaded", "busy", status=503, retryable=True)


@virtual
async def test_F47_the_wait_is_full_jitter_that_doubles_from_half_a_second_to_eight() -> None:
    policy = RetryPolicy(max_retries=7, random=lambda: 0.5)
    waits, error = await attempts_of(policy, *[OVERLOADED] * 8)
    assert waits == [0.25, 0.5, 1, 2, 4, 4, 4]
    assert error is OVERLOADED


@virtual
async def test_F45_jitter_only_adds_to_what_the_server_asks_for() -> None:
    asked = failure("rate_limited", "slow down", status=429, retryable=True, retry_after=0.3)
    assert (await attempts_of(RetryPolicy(random=lambda: 0.2), asked, asked))[0] == [0.3, 0.3]
    assert (await attempts_of(RetryPolicy(random=lambda: 0.9), asked, asked))[0] == [0.45, 0.9]


RETRIED = [408, 409, 425, 429, 500, 502, 503, 504, 529]


@virtual
@pytest.mark.parametrize("status", RETRIED)
async def test_F47_statuses_that_pass_with_time_are_sent_again(status: int) -> None:
    got = await play(Play(status=status), Play(status=status), WELL, max_retries=2)
    assert got.message.stop_reason == "stop"
    assert got.seconds <= 1.5
    assert [attempt.error.status for attempt in got.message.attempts or []] == [status] * 2


@virtual
@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (401, {"message": "bad key"}, "auth"),
        (403, {"message": "not allowed"}, "permission"),
        (404, {"message": "The model does not exist", "code": "model_not_found"}, "not_found"),
        (400, {"message": "bad"}, "bad_request"),
        (
            400,
            {"message": "maximum context length is 10 tokens", "code": "context_length_exceeded"},
            "context_overflow",
        ),
        (400, {"message": "filtered", "code": "content_filter"}, "content_filter"),
        (429, {"message": "You exceeded your current quota", "code": "insufficient_quota"}, "quota"),
    ],
)
async def test_F50_kinds_that_do_not_pass_with_time_are_sent_once(status: int, error: Any, kind: str) -> None:
    refused = Play([json.dumps({"error": error}).encode()], status, {"content-type": "application/json"})
    got = await play(refused, WELL, max_retries=2)
    assert (got.info.kind, len(got.plays.requests), got.info.attempts) == (kind, 1, 1)
    assert got.message.attempts is None


@virtual
@pytest.mark.parametrize(("status", "wish", "requests"), [(501, "true", 2), (503, "false", 1), (429, "false", 1)])
async def test_R2_the_server_may_say_whether_to_try_again(status: int, wish: str, requests: int) -> None:
    got = await play(Play(status=status, headers={"x-should-retry": wish}), WELL, max_retries=1)
    assert len(got.plays.requests) == requests


GOOGLE = {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "slow down", "details": [
    {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.07s"}]}}  # fmt: skip


@virtual
@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        (lambda: {"retry-after": "7"}, b"", 7),
        (lambda: {"retry-after": "0.75"}, b"", 0.75),
        (lambda: {"retry-after-ms": "1500", "retry-after": "9"}, b"", 1.5),
        (lambda: {"retry-after": format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)}, b"", 29.5),
        (dict, json.dumps(GOOGLE).encode(), 36),
    ],
    ids=["seconds", "fraction", "milliseconds", "date", "Google's RetryInfo"],
)
async def test_F45_the_servers_wish_is_obeyed_in_every_form(headers: Any, body: bytes, seconds: float) -> None:
    got = await play(Play([body], 429, headers()), WELL, max_retries=1)
    assert got.message.stop_reason == "stop"
    assert got.seconds == pytest.approx(seconds, abs=0.6 if seconds == 29.5 else 1e-6)
    assert (got.message.attempts or [])[0].delay_s == pytest.approx(got.seconds)


@virtual
@pytest.mark.parametrize(
    ("cap_ms", "asked", "requests", "words"),
    [
        (60_000, "61", 1, "Server requested 61s retry delay (max: 60s). 429"),
        (500, "0.6", 1, "Server requested 1s retry delay (max: 1s). 429"),
        (60_000, "60", 2, ""),
        (0, "3600", 2, ""),
    ],
)
async def test_F46_a_wish_above_the_cap_fails_at_once(cap_ms: int, asked: str, requests: int, words: str) -> None:
    got = await play(Play(status=429, headers={"retry-after": asked}), WELL, max_retries=1, max_retry_delay_ms=cap_ms)
    assert len(got.plays.requests) == requests
    assert (got.message.error_message or "").startswith(words)
    if words:
        assert (got.seconds, got.info.retry_after) == (0, float(asked))


def disconnects(**fields: Any) -> Exception:
    return httpx.ReadError("gone")


@virtual
@pytest.mark.parametrize(
    "broken",
    [
        Play([httpx.ReadError("reset")]),
        Play([b": ping\n\n", httpx.RemoteProtocolError("peer closed connection (incomplete chunked read)")]),
        Play([b": ping\n\n"]),
        Play([]),
        Play([b"data: [DONE]\n\n"]),
        Play([b'data: {"error": {"message": "Overloaded", "type": "overloaded_error"}}\n\n']),
        Play([b'{"error": {"message": "try later", "code": 503}}']),
        Play([FOREVER]),
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout("slow"),
    ],
    ids=["F23", "F22", "F18", "F28 nothing", "F28 DONE", "F32", "F32 as JSON", "F41 head only", "refused", "F42"],
)
async def test_what_fails_before_the_first_content_is_sent_again(broken: Play | Exception) -> None:
    got = await play(broken, broken, WELL, max_retries=2)
    assert (got.message.stop_reason, got.message.text) == ("stop", "a")
    assert len({request.content for request in got.plays.requests}) == 1  # F52
    attempts = got.message.attempts or []
    assert [attempt.error.attempts for attempt in attempts] == [1, 2]
    assert all(attempt.error.retryable and attempt.delay_s <= 1 for attempt in attempts)


@virtual
@pytest.mark.parametrize(
    "broken",
    [Play([chunk("a"), httpx.ReadError("reset")]), Play([chunk("a")]), Play([chunk("a"), FOREVER])],
    ids=["F23", "F18", "F37"],
)
async def test_F48_what_fails_after_the_first_content_is_never_sent_again(broken: Play) -> None:
    got = await play(broken, WELL, max_retries=2)
    assert (got.message.stop_reason, got.message.text) == ("error", "a")
    assert len(got.plays.requests) == 1
    assert got.info.retryable


@virtual
async def test_F53_nothing_of_a_failed_attempt_is_left_in_the_message() -> None:
    broken = chunk(usage={"prompt_tokens": 99, "completion_tokens": 9}, id="first", model="other")
    got = await play(Play([broken]), WELL, max_retries=1)
    assert (got.message.usage.input, got.message.response_id, got.message.response_model) == (5, "c1", None)


@virtual
async def test_F52_the_error_of_the_last_attempt_counts_them_all() -> None:
    got = await play(Play(status=503, headers={"retry-after-ms": "1", "x-request-id": "r1"}), max_retries=2)
    assert (got.info.attempts, got.info.request_id) == (3, "r1")
    assert [attempt.error.attempts for attempt in got.message.attempts or []] == [1, 2]


@virtual
@pytest.mark.parametrize("silent", [httpx.ReadError("reset"), Play(before=FOREVER)], ids=["lost", "F41 no answer"])
@pytest.mark.parametrize("allowed", [False, True])
async def test_F41_a_request_that_may_have_run_is_sent_again_only_when_allowed(silent: Any, allowed: bool) -> None:
    got = await play(silent, WELL, max_retries=1, retry_unknown_delivery=allowed)
    assert len(got.plays.requests) == 1 + allowed
    assert got.message.stop_reason == ("stop" if allowed else "error")
    if not allowed:
        assert (got.info.phase, got.info.retryable) == ("headers", True)


async def test_F41_a_server_that_takes_the_request_and_leaves_gets_it_once() -> None:
    async def leave(request: Received, answer: Answer) -> None:
        await answer.close()

    async with Server(leave) as server:
        message = await complete(model(server.url), CONTEXT)
        assert message.error_info is not None
        assert (message.error_info.kind, message.error_info.phase) == ("disconnected", "headers")
        assert len(server.requests) == 1


async def test_a_request_that_was_cut_off_on_its_way_out_is_sent_again() -> None:
    """The server resets the connection after the head: what it has cannot run."""
    tries = 0

    async def serve(connection: Any) -> None:
        nonlocal tries
        tries += 1
        await connection.receive(10)
        raw = connection.extra(anyio.abc.SocketAttribute.raw_socket)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await anyio.aclose_forcefully(connection)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        url = f"http://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
        message = await complete(model(url), attrs.evolve(CONTEXT, system_prompt="x" * 40_000_000), max_retries=1)
        tasks.cancel_scope.cancel()
    assert message.error_info is not None
    assert (message.error_info.kind, message.error_info.phase) == ("disconnected", "send")
    assert tries == 2


@virtual
async def test_a_registry_retries_a_tenth_of_its_requests_and_ten_in_a_burst() -> None:
    transport = Plays(Play(status=503))
    async with httpx.AsyncClient(transport=transport) as client, Registry(http_client=client) as pi:
        for _ in range(20):  # which must not cost anything
            await pi.complete(model(), CONTEXT, max_retries=0)
        transport.requests.clear()
        for _ in range(100):
            await pi.complete(model(), CONTEXT, max_retries=2)
    assert 18 <= len(transport.requests) - 100 <= 20


@virtual
async def test_budget_is_earned_by_requests_and_spent_by_retries() -> None:
    budget = RetryBudget()
    assert [budget.spend() for _ in range(11)] == [True] * 10 + [False]
    for _ in range(11):
        budget.earn()
    assert [budget.spend() for _ in range(2)] == [True, False]


@virtual
async def test_a_request_that_was_only_queued_is_no_answer() -> None:
    got = await play(Play([b"{}"], 202, {}), max_retries=2)
    assert (got.info.kind, got.info.status, len(got.plays.requests)) == ("protocol", 202, 1)
    assert "queued the request" in got.info.message


@virtual
async def test_a_204_is_an_empty_answer() -> None:
    assert (await play(Play([], 204, {}))).info.kind == "truncated"


@pytest.mark.parametrize("library", [None, httpx, httpx2], ids=["own", "httpx", "httpx2"])
async def test_X4_a_redirect_is_not_followed_and_its_host_is_named(library: Any) -> None:
    async def redirect(request: Received, answer: Answer) -> None:
        await answer.whole(307, {"location": "https://elsewhere.example/v1?key=secret"}, b"")

    async with Server(redirect) as server:
        client = library and library.AsyncClient(follow_redirects=True)
        message = await complete(model(server.url), CONTEXT, http_client=client, api_key="sk-secret")
        if client is not None:
            await client.aclose()
        assert len(server.requests) == 1
    assert message.error_info is not None
    assert (message.error_info.kind, message.error_info.status) == ("config", 307)
    assert "elsewhere.example" in message.error_info.message
    assert "secret" not in f"{message.error_message} {message.error_info.message}"


# ── bodies ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_F30_an_endless_error_body_is_read_to_a_mebibyte_and_its_connection_closed() -> None:
    sent = 0

    async def endless(request: Received, answer: Answer) -> None:
        nonlocal sent
        await answer.head(400, {"content-type": "text/plain"})
        while True:
            await answer.send(b"no " * 20_000)
            sent += 60_000

    async with Server(endless) as server, Registry() as pi:
        message = await pi.complete(model(server.url), CONTEXT)
        await until(lambda: server.open == 0)
    assert (message.error_message or "").startswith("400: no no no")
    assert len(message.error_message or "") < 4100
    assert sent < 8_000_000  # what the kernel's buffers hold on top


@pytest.mark.parametrize("breaks", ["close", "reset"])
async def test_F30_what_came_of_an_error_body_before_it_broke_is_told(breaks: str) -> None:
    async def handler(request: Received, answer: Answer) -> None:
        await answer.head(400, {"content-type": "text/plain"}, length=1000)
        await answer.send(b"your request is wrong")
        await anyio.sleep(0.02)
        await getattr(answer, breaks)()

    async with Server(handler) as server:
        message = await complete(model(server.url), CONTEXT)
    assert message.error_message == "400: your request is wrong"


@virtual
async def test_F30_an_error_body_that_stalls_is_waited_for_like_a_first_event() -> None:
    got = await play(Play([b"so far", FOREVER], 400, {}))
    assert (got.message.error_message, got.seconds) == ("400: so far", pytest.approx(120))


def compressor(encoding: str) -> Callable[[bytes], bytes]:
    """Compresses piece by piece, each flushed."""
    packer = zlib.compressobj(wbits={"gzip": 31, "x-gzip": 31, "deflate": 15}[encoding])
    return lambda data: packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate"])
@pytest.mark.parametrize("library", [None, httpx, httpx2], ids=["own", "httpx", "httpx2"])
async def test_F9_events_arrive_as_they_are_flushed_from_a_compressed_body(encoding: str, library: Any) -> None:
    got = anyio.Event()

    async def handler(request: Received, answer: Answer) -> None:
        pack = compressor(encoding)
        await answer.head(200, {**SSE, "content-encoding": encoding})
        await answer.send(pack(chunk("a")))
        await got.wait()
        await answer.send(pack(END))
        await answer.end()

    async with Server(handler) as server, Registry() as pi:
        client = library and library.AsyncClient()
        events = pi.stream(model(server.url), CONTEXT, http_client=client)
        await first_delta(events)
        got.set()
        assert (await events.result()).stop_reason == "stop"
        if client is not None:
            await client.aclose()
        assert server.requests[0].headers["accept-encoding"] == "identity"


async def test_F9_one_byte_a_packet_and_a_compressed_error() -> None:
    packed = compressor("gzip")(b'{"error": {"message": "no such thing"}}')

    async def handler(request: Received, answer: Answer) -> None:
        await answer.head(400, {"content-type": "application/json", "content-encoding": "gzip"})
        for byte in packed:
            await answer.send(bytes([byte]))
        await answer.end()

    async with Server(handler) as server:
        message = await complete(model(server.url), CONTEXT)
    assert message.error_message == '400: {"error": {"message": "no such thing"}}'


@pytest.mark.parametrize(
    ("encoding", "body", "words"),
    [
        ("gzip", b"not gzip", "is broken"),
        ("gzip", compressor("gzip")(chunk("a")) + b"\xff" * 100, "is broken"),
        ("br", b"\x0b\x02\x80", "('br') was not asked for"),
        ("gzip, gzip", b"", "was not asked for"),
    ],
)
async def test_F9_compression_that_cannot_be_undone_is_a_protocol_error(encoding: str, body: bytes, words: str) -> None:
    async def handler(request: Received, answer: Answer) -> None:
        await answer.head(200, {**SSE, "content-encoding": encoding})
        await answer.send(body)
        await answer.end()

    async with Server(handler) as server, Registry() as pi:
        message = await pi.complete(model(server.url), CONTEXT)
        await until(lambda: server.open == 0)
        gc.collect()
    assert message.error_info is not None
    assert (message.error_info.kind, len(server.requests)) == ("protocol", 1)
    assert words in message.error_info.message


async def test_F70_a_compressed_bomb_is_unpacked_in_steps_and_only_as_far_as_the_limit() -> None:
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join([packer.compress(bytes(1_000_000)) for _ in range(150)]) + packer.flush()
    assert len(bomb) < 200_000

    async def handler(request: Received, answer: Answer) -> None:
        headers = {"content-type": "application/json", "content-encoding": "gzip"}
        await answer.whole(400 if len(server.requests) == 1 else 200, headers, bomb)

    async with Server(handler) as server:
        tracemalloc.start()
        try:
            error = await complete(model(server.url), CONTEXT)
            whole = await complete(model(server.url), CONTEXT, max_body_bytes=2_000_000)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert (error.error_info or error).kind == "bad_request"
    assert (whole.error_info or whole).kind == "too_large"
    assert peak < 75_000_000


@virtual
@pytest.mark.parametrize(
    ("played", "options", "words"),
    [
        (Play([chunk("a"), chunk("b" * 1000)]), {"max_event_bytes": 500}, "max_event_bytes"),
        (Play([chunk("a"), b"data: " + b"x" * 400, b"x" * 400]), {"max_event_bytes": 500}, "max_event_bytes"),
        (Play([chunk("a")] * 100), {"max_output_bytes": 1000}, "max_output_bytes=1000"),
        (Play([b'{"a": "', b"x" * 1000], headers={"content-type": "application/json"}), {"max_body_bytes": 500},
         "max_body_bytes"),
    ],
    ids=["F13 event", "F13 line", "F71", "F70"],
)  # fmt: skip
async def test_F13_F70_F71_what_is_too_large_ends_the_answer(played: Play, options: Any, words: str) -> None:
    got = await play(played, **options)
    assert (got.info.kind, got.info.retryable) == ("too_large", False)
    assert words in got.info.message
    assert got.message.text.replace("a", "") == ""


async def raw_answer(data: bytes, **options: Any) -> AssistantMessage:
    """The message that this answer gives, written to the socket as it is."""

    async def handler(request: Received, answer: Answer) -> None:
        await answer.raw(data)
        await answer.close()

    async with Server(handler) as server:
        message = await complete(model(server.url), CONTEXT, max_retries=0, **options)
        await until(lambda: server.open == 0)
        return message


OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"\x15\x03\x03\x00\x02\x02\x16",
        OK + b"".join(b"x-%d: %s\r\n" % (n, b"v" * 100) for n in range(3000)) + b"\r\n" + END,
        OK + b"x: " + b"v" * 200_000 + b"\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\nnonsense\r\n",
        OK + b"content-length: many\r\n\r\n",
    ],
    ids=["other protocol", "TLS alert", "F76 3000 headers", "F76 huge header", "chunk", "length"],
)
@pytest.mark.parametrize("library", [None, httpx, httpx2], ids=["own", "httpx", "httpx2"])
async def test_F76_what_is_no_http_is_a_protocol_error(answer: bytes, library: Any) -> None:
    client = library and library.AsyncClient()
    message = await raw_answer(answer, http_client=client)
    if client is not None:
        await client.aclose()
    assert message.error_info is not None
    assert (message.error_info.kind, message.error_info.retryable) == ("protocol", False)


async def test_many_small_headers_and_http_1_0_are_fine() -> None:
    headers = b"".join(b"x-%d: v\r\n" % n for n in range(1000))
    assert (await raw_answer(OK + headers + b"\r\n" + END)).stop_reason == "stop"
    assert (await raw_answer(OK.replace(b"1.1", b"1.0") + b"\r\n" + END)).stop_reason == "stop"


@virtual
async def test_a_transport_that_yields_nothing_between_its_pieces_has_not_ended() -> None:
    assert (await play(Play([b"", chunk("a"), b"", b"", END]))).message.text == "a"


# ── the pool ─────────────────────────────────────────────────────────────────────────────────────────────────


async def well(request: Received, answer: Answer) -> None:
    """Answers well; ``stall`` in the path stalls after the first delta."""
    await answer.head(200, SSE)
    await answer.send(chunk("a"))
    if "stall" in request.path:
        await answer.stall()
    await answer.send(END)
    await answer.end()


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
        from pi_ai_tests.test_transport import well

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


# ── proxies ──────────────────────────────────────────────────────────────────────────────────────────────────


class Proxy(Server):
    """Forwards plain requests; a tunnel is refused, or leads to nowhere."""

    def __init__(self) -> None:
        super().__init__(self.forward)

    async def forward(self, request: Received, answer: Answer) -> None:
        if request.method == "CONNECT":
            if "stall" in request.path:
                await answer.stall()
            await answer.whole(403, {}, b"")
            return
        async with (
            httpx.AsyncClient(trust_env=False) as client,
            client.stream(request.method, request.path, content=request.body) as found,
        ):
            await answer.head(found.status_code, {"content-type": found.headers["content-type"]})
            async for data in found.aiter_raw():
                await answer.send(data)
            await answer.end()


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


HTTPS = {"authorization": "Bearer x"}


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


# ── clients of the caller's ──────────────────────────────────────────────────────────────────────────────────

libraries = pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])


def reply(library: Any, answer: Any) -> Callable[..., Awaitable[Any]]:
    """A transport's handler that answers with a response, or raises."""

    async def handle(request: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return handle


@libraries
@pytest.mark.parametrize(
    ("name", "kind", "phase", "text", "retryable"),
    [
        ("ConnectTimeout", "timeout_connect", "connect", "Request timed out: connect", True),
        ("PoolTimeout", "timeout_connect", "connect", "Request timed out: pool", True),
        ("ReadTimeout", "timeout_idle", "headers", "Request timed out: read", True),
        ("WriteTimeout", "timeout_first", "send", "Request timed out: write", True),
        ("ConnectError", "connect", "connect", "Connection error: words", True),
        ("ProxyError", "connect", "connect", "Connection error: words", True),
        ("ReadError", "disconnected", "headers", "Connection error: words", True),
        ("WriteError", "disconnected", "send", "Connection error: words", True),
        ("UnsupportedProtocol", "config", "connect", "Connection error: words", False),
        ("LocalProtocolError", "config", "send", "Connection error: words", False),
        ("RemoteProtocolError", "protocol", "headers", "Invalid answer: words", False),
        ("DecodingError", "protocol", "headers", "Invalid answer: words", False),
    ],
)
async def test_ET2_the_exceptions_of_both_clients_become_the_same_failures(
    library: Any, name: str, kind: str, phase: str, text: str, retryable: bool
) -> None:
    error = getattr(library, name)("words")
    async with library.AsyncClient(transport=library.MockTransport(reply(library, error))) as client:
        message = await complete(model(), CONTEXT, http_client=client, max_retries=0)
    assert message.error_info is not None
    info = message.error_info
    assert (info.kind, info.phase, message.error_message, info.retryable) == (kind, phase, text, retryable)
    assert info.cause is error


@libraries
async def test_a_refused_connection_tells_the_systems_own_words(library: Any) -> None:
    async with library.AsyncClient() as client:
        theirs = await complete(model(), CONTEXT, http_client=client, max_retries=0)
    ours = await complete(model(), CONTEXT, max_retries=0)
    for message in (theirs, ours):
        assert message.error_info is not None
        assert (message.error_info.kind, message.error_info.phase) == ("connect", "connect")
        assert (message.error_message or "").startswith("Connection error: ")


@libraries
async def test_a_mock_transport_works(library: Any) -> None:
    whole = library.Response(200, headers=SSE, content=chunk("a") + END)
    async with library.AsyncClient(transport=library.MockTransport(reply(library, whole))) as client:
        message = await complete(model(), CONTEXT, http_client=client)
    assert (message.stop_reason, message.text) == ("stop", "a")


@libraries
async def test_a_clients_own_headers_do_not_replace_ours(library: Any) -> None:
    headers = {"Authorization": "Bearer wrong", "CONTENT-TYPE": "text/plain", "user-agent": "mine", "x-mine": "1"}
    async with Server(well) as server, library.AsyncClient(headers=headers) as client:
        message = await complete(model(server.url), CONTEXT, http_client=client, api_key="right")
        assert message.text == "a"
        got = server.requests[0].headers
    assert (got["authorization"], got["content-type"], got["x-mine"]) == ("Bearer right", "application/json", "1")
    assert got["user-agent"].startswith("pi-ai")


@libraries
async def test_a_client_is_left_whole_by_every_ending(library: Any) -> None:
    limits = library.Limits(max_connections=1)
    async with Server(well) as server, library.AsyncClient(limits=limits) as client:
        for ending in ("done", "abort", "cancel", "aclose", "done"):
            events = stream(model(f"{server.url}/{'stall' if ending != 'done' else ''}"), CONTEXT, http_client=client)
            await first_delta(events)
            if ending == "abort":
                events.abort()
            elif ending == "cancel":
                with anyio.move_on_after(0):
                    await collected(events)
            elif ending == "aclose":
                await events.aclose()
            with anyio.fail_after(2):
                await events.result()
        await until(lambda: server.open <= 1)


# ── TLS ──────────────────────────────────────────────────────────────────────────────────────────────────────


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


# ── closing ──────────────────────────────────────────────────────────────────────────────────────────────────


class Stepped:
    """Awaits a coroutine, and does something when it waits for the n-th time: exact on every event loop."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], at: int, then: Callable[[], None]) -> None:
        self.coroutine = coroutine
        self.at = at
        self.then = then
        self.waits = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        inner = self.coroutine.__await__()
        step: Callable[[], Any] = partial(next, inner)
        while True:
            try:
                wanted = step()
            except StopIteration as stop:
                return stop.value
            self.waits += 1
            if self.waits == self.at:
                self.then()
            try:
                value = yield wanted
                step = partial(inner.send, value)
            except BaseException as error:
                step = partial(inner.throw, error)


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("by", ["cancel", "abort"])
async def test_F61_a_call_that_is_stopped_at_any_of_its_waits_releases_everything(
    by: str, secure: bool, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RetryPolicy, "_wait", lambda policy, state: 0.001)
    monkeypatch.setattr(RetryBudget, "spend", lambda budget: True)
    seen: set[str] = set()

    async def handler(request: Received, answer: Answer) -> None:
        if "first" in request.path and request.path not in seen:
            seen.add(request.path)
            await answer.whole(503, {}, b"busy")
            return
        await answer.head(200, SSE)
        for text in "abc":
            await answer.send(chunk(text))
            await anyio.lowlevel.checkpoint()
        await answer.send(END)
        await answer.end()

    async with Server(handler, tls=tls if secure else None) as server, Registry(max_connections=1) as pi:
        at, waits = 0, 1
        while waits >= at:
            at += 1
            events = pi.stream(model(f"{server.url}/first{at}"), CONTEXT)
            with anyio.fail_after(5), anyio.CancelScope() as scope:
                call = Stepped(events.result(), at, scope.cancel if by == "cancel" else events.abort)
                await call
            waits = call.waits
            message = events.message
            assert events.done
            assert message.stop_reason == "stop" or message.error_message == "Request was aborted", at
            assert scope.cancelled_caught == (by == "cancel" and message.stop_reason == "aborted")
            del events, call
            # Free at once: a pool of one serves the next request, and nothing else is open.
            with anyio.fail_after(2):
                assert (await pi.complete(model(server.url), CONTEXT)).text == "abc", at
            await until(lambda: server.open == 1)
        assert message.stop_reason == "stop"
        assert at > 15
    gc.collect()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")
async def test_F75_no_descriptor_is_left_after_streams_that_end_in_every_way() -> None:
    async with Server(well) as server:
        before = None
        for turn in range(6):
            async with Registry(max_connections=8) as pi, anyio.create_task_group() as tasks:
                for number in range(24):
                    tasks.start_soon(one_ending, pi, server.url, number)
            gc.collect()
            await until(lambda: server.open == 0)
            before = before or descriptors()
            assert descriptors() <= before, turn


async def one_ending(pi: Registry, url: str, number: int) -> None:
    ending = number % 6
    events = pi.stream(model(f"{url}/{'stall' if ending else ''}"), CONTEXT)
    if ending == 0:
        await events.result()
    elif ending == 1:
        async with events:
            await first_delta(events)
    elif ending == 2:
        await first_delta(events)
        events.abort()
        await events.result()
    elif ending == 3:
        with anyio.move_on_after(0.01 * (number % 4)):
            await events.result()
    elif ending == 4:
        async for event in events:
            if isinstance(event, TextDeltaEvent):
                break
    else:
        await first_delta(events)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await events.aclose()
