"""Credentials in a registry: requests, logins, models, and one secret that is looked for everywhere.

A40-A42, A47, A48, A60; R80-R84, R100-R105; F85, F92, F95, X1, X2, T14.
"""

from __future__ import annotations

import gc
import io
import json
import logging
import traceback
from urllib.parse import parse_qsl, urlsplit

import anyio
import anyio.lowlevel
import attrs
import pytest

from pi_ai import Context, Registry, UserMessage, to_json
from pi_ai.auth.credentials import Credential
from pi_ai.auth.store import FileCredentialStore, InMemoryCredentialStore
from pi_ai.errors import PiAIError
from pi_ai.oauth import Auth, AuthorizationCodeFlow, DeviceCodeFlow, Secret
from pi_ai.testing.server import Server
from pi_ai_tests.auth.rigs import Flow, Person, form, oauth
from pi_ai_tests.rigs import END, SSE, chunk

pytestmark = pytest.mark.anyio
CONTEXT = Context([UserMessage("Hi")])
ANSWER = chunk("Hello") + END


def registry(entries=None, path=None, **config) -> Registry:
    """A registry with a provider ``corp`` that has one model."""
    pi = Registry(
        models_path=None,
        credentials=InMemoryCredentialStore(entries) if path is None else FileCredentialStore(path),
    )
    fields = {"base_url": "http://127.0.0.1:9", "api": "openai-completions", "models": [{"id": "m"}], **config}
    pi.register_provider("corp", fields)
    return pi


class Guarded:
    """A provider's server, which knows one key."""

    def __init__(self, good: str) -> None:
        self.good = good
        self.server = Server(self.handle)

    async def handle(self, request, answer):
        if request.headers.get("authorization") == f"Bearer {self.good}":
            await answer.whole(200, SSE, ANSWER)
        else:
            error = {"error": {"message": f"bad key {request.headers.get('authorization')}"}}
            await answer.whole(401, {"content-type": "application/json"}, json.dumps(error).encode())

    def keys(self):
        return [request.headers.get("authorization") for request in self.server.requests]


async def test_a_stored_login_authenticates_requests_and_is_refreshed_before_them_a43_a47():
    guarded, flow = Guarded("a1"), Flow()
    async with guarded.server:
        pi = registry({"corp": oauth(expires_in=0)}, base_url=guarded.server.url, oauth=flow.config())
        message = await pi.complete(pi.get_model("corp", "m"), CONTEXT)
        assert message.stop_reason == "stop", message.error_message
        assert pi.is_using_oauth(pi.get_model("corp", "m"))
    assert guarded.keys() == ["Bearer a1"]


async def test_what_a_login_derives_is_used_a47_r61():
    guarded = Guarded("k")
    async with guarded.server:
        use = Flow().config(request_auth=lambda login: Auth(api_key="k", base_url=guarded.server.url))
        pi = registry({"corp": oauth()}, oauth=use)
        assert (await pi.complete(pi.get_model("corp", "m"), CONTEXT)).stop_reason == "stop"


async def test_a_refused_login_is_refreshed_and_the_request_repeated_once_a48_f92():
    guarded, flow = Guarded("a1"), Flow()
    async with guarded.server:
        pi = registry({"corp": oauth()}, base_url=guarded.server.url, oauth=flow.config())
        events = [event.type async for event in pi.stream(pi.get_model("corp", "m"), CONTEXT)]
        assert events == ["start", "text_start", "text_delta", "text_end", "done"]
        assert guarded.keys() == ["Bearer a0", "Bearer a1"]
        guarded.good = "other"
        message = await pi.complete(pi.get_model("corp", "m"), CONTEXT)
    assert (message.stop_reason, message.error_info.kind, message.error_info.status) == ("error", "auth", 401)
    assert flow.refreshed == ["r0", "r1"]
    assert guarded.keys()[2:] == ["Bearer a1", "Bearer a2"]


async def test_a_refused_key_is_not_repeated_a48():
    guarded = Guarded("right")
    async with guarded.server:
        pi = registry({"corp": {"type": "api_key", "key": "wrong"}}, base_url=guarded.server.url)
        message = await pi.complete(pi.get_model("corp", "m"), CONTEXT)
    assert message.error_info.kind == "auth"
    assert len(guarded.keys()) == 1


async def test_what_is_stored_owns_its_provider_a41_a42_f95(monkeypatch):
    monkeypatch.setenv("GROQ_API_KEY", "from-env")
    pi = Registry(models_path=None, credentials=InMemoryCredentialStore({"groq": oauth()}))
    message = await pi.complete(pi.get_models("groq")[0], CONTEXT)
    assert message.error_message == "Provider is not configured: groq"
    assert message.error_info.kind == "auth"
    assert message.error_info.attempts == 0
    assert not pi.has_configured_auth("groq")
    assert pi.get_models("groq")[0] not in pi.get_available()


async def test_a_failed_refresh_ends_the_stream_and_asks_nobody_else_a46():
    flow = Flow()
    flow.error = RuntimeError("invalid_grant")
    pi = registry({"corp": oauth(expires_in=0)}, oauth=flow.config(), api_key="configured")
    message = await pi.complete(pi.get_model("corp", "m"), CONTEXT)
    assert message.error_message == "OAuth refresh failed for corp: invalid_grant"
    assert message.error_info.kind == "oauth"
    assert "pi-ai login corp" in message.error_info.message


async def test_keys_from_the_first_source_that_has_one_a40_r105(monkeypatch):
    monkeypatch.setenv("PI_AI_T_KEY", "configured")
    guarded = Guarded("")
    async with guarded.server:
        entries = {"corp": {"type": "api_key", "key": "stored"}}
        pi = registry(entries, base_url=guarded.server.url, api_key="$PI_AI_T_KEY")
        model = pi.get_model("corp", "m")
        pi.set_runtime_api_key("corp", "runtime")
        await pi.complete(model, CONTEXT, api_key="explicit")
        await pi.complete(model, CONTEXT)
        pi.remove_runtime_api_key("corp")
        await pi.complete(model, CONTEXT)
        await pi.logout("corp")
        await pi.complete(model, CONTEXT)
    assert guarded.keys() == ["Bearer explicit", "Bearer runtime", "Bearer stored", "Bearer configured"]


async def test_a_provider_with_a_login_and_no_key_takes_no_stored_key_but_an_explicit_one_r81_d13():
    guarded = Guarded("explicit")
    async with guarded.server:
        entries = {"corp": {"type": "api_key", "key": "stored"}}
        pi = registry(entries, base_url=guarded.server.url, oauth=Flow().config())
        model = pi.get_model("corp", "m")
        assert (await pi.complete(model, CONTEXT)).error_message == "Provider is not configured: corp"
        assert (await pi.complete(model, CONTEXT, api_key="explicit")).stop_reason == "stop"
        with pytest.raises(PiAIError, match="does not support api_key login"):
            await pi.login("corp", "api_key", Person("key"))


async def test_a_login_on_a_built_in_provider_replaces_its_flow_until_it_is_taken_back_r80():
    pi = Registry(models_path=None, credentials=InMemoryCredentialStore())
    built_in = pi.get_provider("openrouter").oauth
    pi.register_provider("openrouter", oauth=Flow().config())
    credential = await pi.login("openrouter", "oauth", Person())
    assert credential.access == "a1"
    assert pi.has_configured_auth("openrouter")
    pi.unregister_provider("openrouter")
    assert pi.get_provider("openrouter").oauth is built_in
    with pytest.raises(LookupError, match="no-such"):
        await pi.login("no-such", "oauth", Person())


async def test_a_gateway_of_models_json_has_the_login_it_asks_for_r94(tmp_path):
    path = tmp_path / "models.json"
    gateway = {"oauth": "radius", "baseUrl": "https://gate.example/v1", "name": "Gate"}
    path.write_text(json.dumps({"providers": {"gate": gateway}}))
    pi = Registry(models_path=path, credentials=InMemoryCredentialStore())
    assert pi.get_provider("gate").oauth.name == "Gate"
    assert pi.get_provider("radius").oauth.name == "Radius"


async def test_a_login_may_change_the_models_and_a_logout_undoes_it_r84():
    seen = []

    def modify(models, credential):
        seen.append((len(models), credential["access"]))
        return [attrs.evolve(model, name="changed") for model in models]

    pi = registry(oauth=Flow().config(modify_models=modify))
    assert pi.get_model("corp", "m").name == "m"
    await pi.login("corp", "oauth", Person())
    assert pi.get_model("corp", "m").name == "changed"
    assert [model.name for model in pi.get_models("corp")] == ["changed"]
    assert seen[0] == (1, "a1")
    await pi.logout("corp")
    assert pi.get_model("corp", "m").name == "m"

    def fails(models, credential):
        raise RuntimeError("no models")

    pi = registry({"corp": oauth()}, oauth=Flow().config(modify_models=fails))
    assert pi.get_model("corp", "m").name == "m"
    assert "modify_models failed: no models" in pi.get_error()


async def test_leaving_a_registry_waits_for_logins_that_are_being_refreshed_a51(tmp_path):
    path, flow = tmp_path / "auth.json", Flow()
    path.write_text(json.dumps({"corp": oauth(expires_in=0)}))
    path.chmod(0o600)
    flow.gate = anyio.Event()
    async with anyio.create_task_group() as tasks:
        async with registry(path=path, oauth=flow.config()) as pi:
            stream = pi.stream(pi.get_model("corp", "m"), CONTEXT)
            async with anyio.create_task_group() as callers:
                callers.start_soon(stream.result)
                await flow.begun.wait()
                callers.cancel_scope.cancel()
            tasks.start_soon(anyio.to_thread.run_sync, lambda: None)
            flow.gate.set()
        assert json.loads(path.read_text())["corp"]["refresh"] == "r1"


async def test_a_new_token_is_saved_before_a_request_uses_it_f88(tmp_path):
    path, flow, saved = tmp_path / "auth.json", Flow(), []
    path.write_text(json.dumps({"corp": oauth(expires_in=0)}))
    path.chmod(0o600)

    async def look(request, answer):
        saved.append(json.loads(path.read_text())["corp"]["access"])
        await answer.whole(200, SSE, ANSWER)

    async with Server(look) as server:
        pi = registry(path=path, base_url=server.url, oauth=flow.config())
        await pi.complete(pi.get_model("corp", "m"), CONTEXT)
    assert saved == ["a1"]


async def test_a_logout_forgets_what_is_stored_and_set_and_nothing_else_a62(monkeypatch):
    monkeypatch.setenv("GROQ_API_KEY", "from-env")
    pi = Registry(models_path=None, credentials=InMemoryCredentialStore({"groq": {"type": "api_key", "key": "k"}}))
    pi.set_runtime_api_key("groq", "runtime")
    await pi.logout("groq")
    await pi.logout("groq")
    await pi.logout("nobody")
    assert (await pi.get_auth("groq")).api_key == "from-env"
    assert pi.get_provider_auth_status("groq").label == "GROQ_API_KEY"


@pytest.mark.parametrize(
    ("provider", "variable"),
    [
        ("anthropic", "ANTHROPIC_API_KEY"),
        ("openai", "OPENAI_API_KEY"),
        ("openrouter", "OPENROUTER_API_KEY"),
        ("xai", "XAI_API_KEY"),
        ("kimi-coding", "KIMI_API_KEY"),
        ("meta", "META_API_KEY"),
        ("radius", "RADIUS_API_KEY"),
        ("github-copilot", "COPILOT_GITHUB_TOKEN"),
    ],
)
async def test_providers_with_a_login_work_with_a_key_from_the_environment_a91(monkeypatch, provider, variable):
    for other in ("GH_TOKEN", "GITHUB_TOKEN"):
        monkeypatch.setenv(other, "wrong")
    for name in ("ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_OAUTH_TOKEN", variable):
        monkeypatch.delenv(name, raising=False)
    pi = Registry(models_path=None, credentials=InMemoryCredentialStore())
    assert await pi.get_auth(provider) is None
    monkeypatch.setenv(variable, "key")
    assert (await pi.get_auth(provider)).api_key == "key"


async def test_openai_codex_has_a_login_only_a91():
    pi = Registry(
        models_path=None, credentials=InMemoryCredentialStore({"openai-codex": {"type": "api_key", "key": "k"}})
    )
    assert not pi.get_provider("openai-codex").takes_api_key
    assert await pi.get_auth("openai-codex") is None


async def test_an_error_says_what_its_cause_said_once_and_its_kind_is_of_this_list_a49():
    flow = Flow()
    flow.error = RuntimeError("the cause")
    pi = registry({"corp": oauth(expires_in=0)}, oauth=flow.config())
    with pytest.raises(PiAIError) as caught:
        await pi.get_auth("corp")
    assert str(caught.value).count("the cause") == caught.value.info.message.count("the cause") == 1
    assert caught.value.info.kind == "oauth"
    assert caught.value.__cause__ is flow.error


async def test_cancelled_at_any_await_a_login_or_a_refresh_leaves_nothing_behind_a50_a69(tmp_path):
    """Cancelled after so and so many steps of the event loop: no lock, no torn file, no question, no server."""
    path = tmp_path / "auth.json"
    path.write_text(json.dumps({"corp": oauth(expires_in=0)}))
    path.chmod(0o600)

    async def endpoint(request, answer):
        tokens = {"access_token": "a", "refresh_token": "r", "expires_in": 60}
        await answer.whole(200, {}, json.dumps(tokens).encode())

    async with Server(endpoint) as server:
        flow = AuthorizationCodeFlow(
            name="Corp", authorize_url="https://login.example/", token_url=server.url, client_id="mine"
        )
        for steps in (*range(25), 40, 80):
            pi, person = registry(path=path, oauth=flow.config()), Person()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(pi.login, "corp", "oauth", person)
                tasks.start_soon(pi.get_auth, "corp")
                for _ in range(steps):
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
            await pi.settle_credential_writes()
            with anyio.fail_after(5):  # what was in a worker thread when it was cancelled cleans up behind itself
                while (tmp_path / "auth.json.lock").exists():
                    await anyio.sleep(0.005)
            assert [name.name for name in tmp_path.iterdir()] == ["auth.json"]
            assert json.loads(path.read_text())["corp"]["type"] == "oauth"
            assert person.dismissed == len(person.prompts)
            for event in person.events:
                port = urlsplit(dict(parse_qsl(urlsplit(event.url).query))["redirect_uri"]).port
                with pytest.raises(OSError):
                    await anyio.connect_tcp("127.0.0.1", port)
        pi = registry(path=path, oauth=flow.config())
        assert (await pi.get_auth("corp")).api_key == "a"


# ── one secret, looked for everywhere ────────────────────────────────────────────────────────────────────────


class Canaries:
    """Collects whatever people and programs could see."""

    def __init__(self) -> None:
        self.log = io.StringIO()
        self.seen: list[str] = []

    def look(self, *things: object) -> None:
        for thing in things:
            self.seen += [repr(thing), str(thing)]
            if isinstance(thing, BaseException):
                self.trace(thing)

    def trace(self, error: BaseException) -> None:
        lines = traceback.TracebackException.from_exception(error, capture_locals=True).format()
        ours = [line for line in lines if "/pi_ai_tests/" not in line]
        self.seen += ours
        context = error.__context__
        if context is not None and context is not error.__cause__:
            self.trace(context)


@pytest.mark.parametrize("status", [200, 400, 401, 500, "reset"])
async def test_a_secret_shows_nowhere_but_where_it_is_sent_x1_x2_t14(tmp_path, status, caplog):
    """Refreshing over HTTP, using, failing, listing: with all loggers at debug and tracebacks with locals."""
    caplog.set_level(logging.DEBUG)
    canaries, path = Canaries(), tmp_path / "auth.json"
    secrets = [f"canary-{name}-7f3a" for name in ("refresh", "access", "newrefresh", "newaccess", "key", "client")]
    refresh, access, new_refresh, new_access, key, client = secrets
    path.write_text(json.dumps({"corp": oauth(access, refresh, 0), "keyed": {"type": "api_key", "key": key}}))
    path.chmod(0o600)
    tokens = {"access_token": new_access, "refresh_token": new_refresh, "expires_in": 3600}

    async def endpoint(request, answer):
        if status == "reset":
            await answer.reset()
        echoed = {"error": "invalid_grant", "error_description": f"token={form(request.body)['refresh_token']}"}
        await answer.whole(status, {}, json.dumps(tokens if status == 200 else echoed).encode())

    guarded = Guarded(new_access)
    async with Server(endpoint) as server, guarded.server:
        flow = DeviceCodeFlow(
            name="Corp", device_url="", token_url=server.url, client_id="mine", client_secret=Secret(client)
        )
        store = FileCredentialStore(path)
        pi = Registry(models_path=None, credentials=store)
        fields = {"base_url": guarded.server.url, "api": "openai-completions", "models": [{"id": "m"}]}
        pi.register_provider("corp", {**fields, "oauth": flow.config()})
        pi.register_provider("keyed", {**fields, "auth_header": True})
        for name in ("corp", "keyed"):
            model = pi.get_model(name, "m")
            stream = pi.stream(model, CONTEXT)
            async for event in stream:
                canaries.look(event)
            message = stream.message
            canaries.look(stream, message, message.error_info, to_json(message), pi.get_provider(name))
            if message.error_info is not None:
                canaries.look(message.error_info.exception())
                if message.error_info.cause is not None:
                    canaries.look(message.error_info.cause)
            try:
                canaries.look(await pi.get_auth(name))
            except PiAIError as error:
                canaries.look(error)
            canaries.look(pi.get_provider_auth_status(name), await store.list(), await store.read(name))
        canaries.look(store, pi, flow, flow.config(), Credential(oauth(access, refresh)))
        sent = [request.body for request in server.requests]
    gc.collect()
    assert any(refresh.encode() in body for body in sent) or status == "reset"
    shown = "\n".join([*canaries.seen, caplog.text, canaries.log.getvalue()])
    for secret in secrets:
        assert secret not in shown, [line for line in shown.splitlines() if secret in line][:3]
