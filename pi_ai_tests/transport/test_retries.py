"""Sending again: when, after how long, and how often."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import anyio
import attrs
import httpx
import httpx2
import pytest

from pi_ai import (
    Registry,
    complete,
)
from pi_ai.errors import PiAIError, failure
from pi_ai.retries import RetryBudget, RetryPolicy
from pi_ai.testing.server import Answer, Received, Server
from pi_ai_tests.reliability.virtual import virtual_time
from pi_ai_tests.rigs import CONTEXT, chunk, model
from pi_ai_tests.transport.rigs import FOREVER, WELL, Play, Plays, play

pytestmark = pytest.mark.anyio


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


@virtual_time
async def test_F47_the_wait_is_full_jitter_that_doubles_from_half_a_second_to_eight() -> None:
    policy = RetryPolicy(max_retries=7, random=lambda: 0.5)
    waits, error = await attempts_of(policy, *[OVERLOADED] * 8)
    assert waits == [0.25, 0.5, 1, 2, 4, 4, 4]
    assert error is OVERLOADED


@virtual_time
async def test_F45_jitter_only_adds_to_what_the_server_asks_for() -> None:
    asked = failure("rate_limited", "slow down", status=429, retryable=True, retry_after=0.3)
    assert (await attempts_of(RetryPolicy(random=lambda: 0.2), asked, asked))[0] == [0.3, 0.3]
    assert (await attempts_of(RetryPolicy(random=lambda: 0.9), asked, asked))[0] == [0.45, 0.9]


RETRIED = [408, 409, 425, 429, 500, 502, 503, 504, 529]


@virtual_time
@pytest.mark.parametrize("status", RETRIED)
async def test_F47_statuses_that_pass_with_time_are_sent_again(status: int) -> None:
    got = await play(Play(status=status), Play(status=status), WELL, max_retries=2)
    assert got.message.stop_reason == "stop"
    assert got.seconds <= 1.5
    assert [attempt.error.status for attempt in got.message.attempts or []] == [status] * 2


@virtual_time
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


@virtual_time
@pytest.mark.parametrize(("status", "wish", "requests"), [(501, "true", 2), (503, "false", 1), (429, "false", 1)])
async def test_R2_the_server_may_say_whether_to_try_again(status: int, wish: str, requests: int) -> None:
    got = await play(Play(status=status, headers={"x-should-retry": wish}), WELL, max_retries=1)
    assert len(got.plays.requests) == requests


GOOGLE = {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "slow down", "details": [
    {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.07s"}]}}  # fmt: skip


@virtual_time
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


@virtual_time
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


@virtual_time
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


@virtual_time
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


@virtual_time
async def test_F53_nothing_of_a_failed_attempt_is_left_in_the_message() -> None:
    broken = chunk(usage={"prompt_tokens": 99, "completion_tokens": 9}, id="first", model="other")
    got = await play(Play([broken]), WELL, max_retries=1)
    assert (got.message.usage.input, got.message.response_id, got.message.response_model) == (5, "c1", None)


@virtual_time
async def test_F52_the_error_of_the_last_attempt_counts_them_all() -> None:
    got = await play(Play(status=503, headers={"retry-after-ms": "1", "x-request-id": "r1"}), max_retries=2)
    assert (got.info.attempts, got.info.request_id) == (3, "r1")
    assert [attempt.error.attempts for attempt in got.message.attempts or []] == [1, 2]


@virtual_time
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


@virtual_time
async def test_a_registry_retries_a_tenth_of_its_requests_and_ten_in_a_burst() -> None:
    transport = Plays(Play(status=503))
    async with httpx.AsyncClient(transport=transport) as client, Registry(http_client=client) as pi:
        for _ in range(20):  # which must not cost anything
            await pi.complete(model(), CONTEXT, max_retries=0)
        transport.requests.clear()
        for _ in range(100):
            await pi.complete(model(), CONTEXT, max_retries=2)
    assert 18 <= len(transport.requests) - 100 <= 20


@virtual_time
async def test_budget_is_earned_by_requests_and_spent_by_retries() -> None:
    budget = RetryBudget()
    assert [budget.spend() for _ in range(11)] == [True] * 10 + [False]
    for _ in range(11):
        budget.earn()
    assert [budget.spend() for _ in range(2)] == [True, False]


@virtual_time
async def test_a_request_that_was_only_queued_is_no_answer() -> None:
    got = await play(Play([b"{}"], 202, {}), max_retries=2)
    assert (got.info.kind, got.info.status, len(got.plays.requests)) == ("protocol", 202, 1)
    assert "queued the request" in got.info.message


@virtual_time
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
