"""Google's credentials: fetched once for all who wait, kept, replaced ahead of time; and Vertex AI with them."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest

from pi_ai import Context, Model, Registry, UserMessage
from pi_ai.auth import google
from pi_ai.auth.google import GoogleAccess, forget_google_token, google_access
from pi_ai.errors import AuthError, ConfigError, ConnectFailed, PiAIError
from pi_ai.testing.server import Answer, Received, Server
from pi_ai_tests.google_account import NO_GOOGLE_AUTH, TOKEN, TokenServer, service_account, token

pytest.importorskip("google.auth", reason=NO_GOOGLE_AUTH)
pytestmark = pytest.mark.anyio

REFUSED = (400, {"error": "invalid_grant", "error_description": "Account is gone."})
HELLO = Context([UserMessage("Hello", timestamp=1)])


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials but those of the test; what was fetched before is not known."""
    for name in ("GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION", google.FILE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(google, "_known", {})


def env(path: str) -> dict[str, str]:
    return {google.FILE: path}


async def arrived(server: TokenServer) -> None:
    with anyio.fail_after(10):
        await anyio.to_thread.run_sync(server.arrived.wait, 10)


# ── one fetch for all ────────────────────────────────────────────────────────────────────────────────────────


async def test_A7_F87_fifty_who_wait_cause_one_fetch(tmp_path: Path) -> None:
    found: list[GoogleAccess] = []

    async def ask() -> None:
        found.append(await google_access(env(path)))

    with TokenServer() as server:
        path = server.account(tmp_path)
        server.open.clear()
        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(ask)
            await arrived(server)
            server.open.set()
        await ask()
    assert found == [GoogleAccess(token=TOKEN, project="own-project")] * 51
    assert len(server.asked) == 1
    assert server.asked[0]["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]


async def test_F87_who_fetches_may_be_cancelled_without_harm(tmp_path: Path) -> None:
    found: list[str] = []

    async def ask() -> None:
        found.append((await google_access(env(path))).token)

    async def ask_and_leave(scope: anyio.CancelScope) -> None:
        with scope:
            await ask()

    with TokenServer() as server:
        path = server.account(tmp_path)
        server.open.clear()
        async with anyio.create_task_group() as tasks:
            first = anyio.CancelScope()
            tasks.start_soon(ask_and_leave, first)
            await arrived(server)
            for _ in range(5):
                tasks.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            first.cancel()
            await anyio.wait_all_tasks_blocked()
            server.open.set()
    assert found == [TOKEN] * 5
    assert len(server.asked) == 1


async def test_a_failure_is_told_to_all_who_wait(tmp_path: Path) -> None:
    errors: list[PiAIError] = []

    async def ask() -> None:
        with pytest.raises(AuthError) as raised:
            await google_access(env(path))
        errors.append(raised.value)

    with TokenServer(REFUSED, (200, token())) as server:
        path = server.account(tmp_path)
        server.open.clear()
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(ask)
            await arrived(server)
            server.open.set()
        assert len({id(error) for error in errors}) == 5
        assert all(error.text.startswith("Google refused the credentials: ") for error in errors)
        assert not any("PRIVATE KEY" in str(error.info) + str(error) for error in errors)
        assert (await google_access(env(path))).token == TOKEN
    assert len(server.asked) == 2


def test_event_loops_in_several_threads_share_a_token(tmp_path: Path) -> None:
    found: list[str] = []

    def ask(backend: str) -> None:
        found.append(anyio.run(google_access, env(path), backend=backend).token)

    with TokenServer() as server:
        path = server.account(tmp_path)
        server.open.clear()
        threads = [threading.Thread(target=ask, args=(backend,)) for backend in ("asyncio", "trio", "asyncio")]
        for thread in threads:
            thread.start()
        server.arrived.wait(10)
        server.open.set()
        for thread in threads:
            thread.join()
    assert found == [TOKEN] * 3
    assert len(server.asked) == 1


# ── how long a token is kept ─────────────────────────────────────────────────────────────────────────────────


async def test_a_token_is_replaced_four_minutes_before_its_end(tmp_path: Path) -> None:
    with TokenServer((200, token("old", 230)), (200, token("new", 260))) as server:
        path = server.account(tmp_path)
        assert [(await google_access(env(path))).token for _ in range(3)] == ["old", "new", "new"]
    assert len(server.asked) == 2


async def test_a_token_that_still_holds_survives_a_failure_to_replace_it(tmp_path: Path) -> None:
    with TokenServer((200, token("old", 230)), REFUSED, (200, token("new"))) as server:
        path = server.account(tmp_path)
        assert [(await google_access(env(path))).token for _ in range(3)] == ["old", "old", "new"]
    assert len(server.asked) == 3


async def test_a_token_that_was_refused_is_replaced_once(tmp_path: Path) -> None:
    with TokenServer((200, token("first")), (200, token("second"))) as server:
        path = server.account(tmp_path)
        assert (await google_access(env(path))).token == "first"
        for _ in range(3):  # by all who were refused with it
            forget_google_token("first", env(path))
            assert (await google_access(env(path))).token == "second"
    assert len(server.asked) == 2


async def test_who_pays_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_QUOTA_PROJECT", "payer")
    with TokenServer() as server:
        access = await google_access(env(server.account(tmp_path)))
    assert access.quota_project == "payer"
    assert TOKEN not in repr(access)


# ── where the credentials are ────────────────────────────────────────────────────────────────────────────────


async def test_without_a_file_the_default_credentials_are_used(tmp_path: Path) -> None:
    folder = tmp_path / "gcloud"
    folder.mkdir()
    with TokenServer() as server:
        (folder / "application_default_credentials.json").write_text(Path(server.account(tmp_path)).read_text())
        assert await google_access() == GoogleAccess(token=TOKEN, project="own-project")
        assert await google_access({google.FILE: ""}) == await google_access()
    assert len(server.asked) == 1


async def test_the_path_may_begin_with_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with TokenServer() as server:
        server.account(tmp_path)
        assert (await google_access(env("~/account.json"))).token == TOKEN


async def test_without_credentials_the_ways_to_have_some_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("google.auth.compute_engine._metadata._NO_GCE_CHECK", "true")  # it is read at import
    with pytest.raises(AuthError, match="No Google credentials were found") as raised:
        await google_access()
    assert "run `gcloud auth application-default login`" in raised.value.info.message


@pytest.mark.parametrize("content", [None, "no json", "{}", '{"type": "service_account"}', '{"type": "odd"}'])
async def test_a_file_that_holds_no_credentials_is_told(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "account.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(AuthError, match=r"account\.json|Service account info"):
        await google_access(env(str(path)))


async def test_a_token_server_that_is_not_there_can_be_tried_again(tmp_path: Path) -> None:
    with TokenServer() as server:
        nobody = server.url
    with pytest.raises(ConnectFailed) as raised:
        await google_access(env(service_account(tmp_path, token_uri=nobody)))
    assert raised.value.info.retryable


async def test_F102_without_the_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.auth.exceptions", None)
    with pytest.raises(ConfigError, match=r'pip install "pi_ai\[vertex\]"'):
        await google_access(env(str(tmp_path / "any.json")))


# ── Vertex AI with them ──────────────────────────────────────────────────────────────────────────────────────

ANSWER = (
    b'data: {"candidates":[{"content":{"parts":[{"text":"Hi"}]},"finishReason":"STOP"}]}\r\n\r\n',
    {"content-type": "text/event-stream"},
)
UNAUTHENTICATED = b'{"error":{"code":401,"message":"Token is bad","status":"UNAUTHENTICATED"}}'


def vertex(**fields: Any) -> Model:
    return Model(
        id="gemini-x", api="google-vertex", provider="google-vertex", base_url="https://{location}-x.example", **fields
    )


class Replies(httpx.AsyncBaseTransport):
    """Answers with a status after the other, the last one for ever."""

    def __init__(self, *statuses: int, body: bytes = UNAUTHENTICATED) -> None:
        self.statuses = list(statuses)
        self.body = body
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if status == 200:
            return httpx.Response(200, content=ANSWER[0], headers=ANSWER[1])
        return httpx.Response(status, content=self.body, headers={"content-type": "application/json"})

    async def ask(self, path: str | None, model: Model | None = None, **options: Any) -> Any:
        given = {"GOOGLE_CLOUD_LOCATION": "eu", **(env(path) if path else {}), **options.pop("env", {})}
        async with httpx.AsyncClient(transport=self) as client, Registry(http_client=client) as pi:
            return await pi.complete(model or vertex(), HELLO, env=given, **{"max_retries": 0, **options})


async def test_a_request_goes_out_with_a_token_and_the_credentials_own_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_QUOTA_PROJECT", "payer")
    replies = Replies(200)
    with TokenServer() as server:
        message = await replies.ask(server.account(tmp_path))
    assert (message.text, message.stop_reason) == ("Hi", "stop")
    (request,) = replies.requests
    assert str(request.url).startswith(
        "https://aiplatform.eu.rep.googleapis.com/v1/projects/own-project/locations/eu/publishers/google/models/gemini-x:"
    )
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert request.headers["x-goog-user-project"] == "payer"


async def test_headers_of_the_caller_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_QUOTA_PROJECT", "payer")
    replies = Replies(200)
    with TokenServer() as server:
        await replies.ask(server.account(tmp_path), headers={"X-Goog-User-Project": "mine"})
    assert replies.requests[0].headers["x-goog-user-project"] == "mine"


async def test_F92_a_token_that_is_refused_is_replaced_and_tried_once_more(tmp_path: Path) -> None:
    replies = Replies(401, 200)
    with TokenServer((200, token("old")), (200, token("new"))) as server:
        message = await replies.ask(server.account(tmp_path))
    assert message.text == "Hi"
    assert [request.headers["authorization"] for request in replies.requests] == ["Bearer old", "Bearer new"]


async def test_F92_only_once(tmp_path: Path) -> None:
    replies = Replies(401)
    with TokenServer() as server:
        message = await replies.ask(server.account(tmp_path), max_retries=2)
    assert len(replies.requests) == len(server.asked) == 2
    assert (message.error_info.kind, message.error_info.attempts) == ("auth", 2)
    assert TOKEN not in str(message)


async def test_a_key_that_is_refused_is_not_tried_again() -> None:
    replies = Replies(401)
    message = await replies.ask(None, api_key="express-key", max_retries=2)
    assert len(replies.requests) == 1
    assert message.error_info.kind == "auth"
    assert "express-key" not in str(message)


async def test_credentials_without_a_project_need_one_that_is_told(tmp_path: Path) -> None:
    replies = Replies(200)
    with TokenServer() as server:
        path = server.account(tmp_path, project_id=None)
        message = await replies.ask(path)
        assert message.error_message.startswith("Vertex AI requires a project ID.")
        assert (message.error_info.kind, message.error_info.attempts) == ("config", 0)
        assert (await replies.ask(path, env={"GCLOUD_PROJECT": "p"})).text == "Hi"
    assert "/projects/p/" in str(replies.requests[0].url)


async def test_a_failure_to_get_a_token_is_a_failure_of_the_stream(tmp_path: Path) -> None:
    with TokenServer(REFUSED) as server:
        message = await Replies(200).ask(server.account(tmp_path), max_retries=2)
    assert (message.error_info.kind, message.error_info.phase, message.error_info.attempts) == ("auth", "auth", 0)
    assert len(server.asked) == 1


async def test_a_stream_can_be_aborted_while_its_token_is_fetched(tmp_path: Path) -> None:
    """A1."""
    with TokenServer() as server:
        server.open.clear()
        given = {"GOOGLE_CLOUD_LOCATION": "eu", **env(server.account(tmp_path))}
        async with Registry() as pi, anyio.create_task_group() as tasks:
            stream = pi.stream(vertex(), HELLO, env=given)
            tasks.start_soon(stream.result)
            await arrived(server)
            stream.abort()
            with anyio.fail_after(5):
                message = await stream.result()
    assert message.stop_reason == "aborted"


async def test_E2_a_wait_that_is_too_long_fails_at_once() -> None:
    """F45, F46: Google tells it in the body."""
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3600s"}]
    error = {"code": 429, "message": "Slow down", "status": "RESOURCE_EXHAUSTED", "details": details}
    replies = Replies(429, body=json.dumps({"error": error}).encode())
    message = await replies.ask(None, api_key="k", max_retries=2)
    assert len(replies.requests) == 1
    assert message.error_message.startswith("Server requested 3601s retry delay (max: 60s). 429: ")
    assert message.error_info.retry_after == 3601.0


@pytest.mark.parametrize("api", ["google-generative-ai", "google-vertex"])
async def test_F15_an_array_is_shown_while_it_comes(api: str) -> None:
    shown = anyio.Event()

    async def serve(request: Received, answer: Answer) -> None:
        await answer.head(200, {"content-type": "application/json; charset=UTF-8"})
        await answer.send(b'[{\n  "candidates": [{"content": {"parts": [{"text": "One"}]}}]\n}')
        await shown.wait()
        await answer.send(
            b'\n,\r\n{"candidates": [{"content": {"parts": [{"text": " two"}]}, "finishReason": 1}]}\n]\n'
        )
        await answer.end()

    async with Server(serve) as server, Registry() as pi:
        model = Model(id="gemini-x", api=api, provider="test", base_url=f"{server.url}/v1")
        with anyio.fail_after(5):
            async with pi.stream(model, HELLO, max_retries=0) as stream:
                async for event in stream:
                    if event.type == "text_delta":
                        shown.set()
        assert stream.message.text == "One two"
        assert server.requests[0].path.endswith("/models/gemini-x:streamGenerateContent?alt=sse")
        assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize(
    "body", [b'{"error": {"code": 400, "message": "no"}}', b'[{"error": {"code": 400, "message": "no"}}]']
)
async def test_F27_an_error_that_comes_as_an_answer_is_told(body: bytes) -> None:
    async def serve(request: Received, answer: Answer) -> None:
        await answer.whole(200, {"content-type": "application/json"}, body)

    async with Server(serve) as server, Registry() as pi:
        model = Model(id="gemini-x", api="google-generative-ai", provider="test", base_url=server.url)
        message = await pi.complete(model, HELLO, max_retries=0)
    assert message.error_message == "400: no"
