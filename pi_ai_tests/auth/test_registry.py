"""Credentials in a registry: requests, logins, models, and one secret that is looked for everywhere.

A40-A42, A47, A48, A60; R80-R84, R100-R105; F85, F92, F95, X1, X2, T14.
"""

from __future__ import annotations

import json
import re
from urllib.parse import parse_qsl, urlsplit

import anyio
import anyio.lowlevel
import attrs
import pytest

from pi_ai import Context, Registry, UserMessage, dumps
from pi_ai.auth.store import FileCredentialStore, InMemoryCredentialStore
from pi_ai.errors import PiAIError
from pi_ai.oauth import Auth, AuthorizationCodeFlow
from pi_ai.testing.server import Server
from pi_ai_tests.auth.rigs import Flow, Person, oauth
from pi_ai_tests.rigs import END, SSE, chunk

pytestmark = pytest.mark.anyio
CONTEXT = Context([UserMessage("Hi")])
ANSWER = chunk("Hello") + END
ANTHROPIC_VARIABLES = ("ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_OAUTH_TOKEN", "ANTHROPIC_API_KEY")


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
    assert message.error_info.attempts == 2
    assert [(attempt.error.status, attempt.error.attempts) for attempt in message.attempts] == [(401, 1)]


async def test_a_refusal_that_was_answered_by_a_refresh_is_told_f52_f92():
    guarded, flow = Guarded("a1"), Flow()
    async with guarded.server:
        pi = registry({"corp": oauth()}, base_url=guarded.server.url, oauth=flow.config())
        message = await pi.complete(pi.get_model("corp", "m"), CONTEXT)
    assert message.stop_reason == "stop"
    assert [(attempt.error.status, attempt.delay_s) for attempt in message.attempts] == [(401, 0.0)]


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


@pytest.mark.parametrize(
    ("provider", "ways"),
    [
        ("groq", "Set GROQ_API_KEY, pass api_key=…, or run: pi-ai login groq"),
        ("anthropic", "Set ANTHROPIC_AUTH_TOKEN or ANTHROPIC_OAUTH_TOKEN or ANTHROPIC_API_KEY, pass api_key=…"),
        ("google", "Set GEMINI_API_KEY, pass api_key=…, or run: pi-ai login google"),
        ("mistral", "Set MISTRAL_API_KEY, pass"),
        ("corp", "Pass api_key=…, or run: pi-ai login corp"),
        ("headed", "Pass api_key=…, or run: pi-ai login headed"),
    ],
)
async def test_who_has_no_key_is_told_the_variables_and_the_login_f85(monkeypatch, provider, ways):
    for name in ("GROQ_API_KEY", "GEMINI_API_KEY", "MISTRAL_API_KEY", *ANTHROPIC_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    pi = registry(base_url="https://corp.example")
    fields = {"base_url": "https://corp.example", "api": "openai-completions", "models": [{"id": "m"}]}
    pi.register_provider("headed", {**fields, "auth_header": True})
    message = await pi.complete(pi.get_models(provider)[0], CONTEXT)
    error = message.error_info
    assert (error.kind, error.phase, error.attempts) == ("auth", "auth", 0)
    assert ways in error.message
    assert message.error_message in (f"No API key for provider: {provider}", f"Provider is not configured: {provider}")


async def test_every_built_in_provider_with_a_key_says_which_variables_hold_it_f85(monkeypatch):
    from pi_ai.auth.env import find_env_keys, way_to_a_key

    pi = Registry(models_path=None, credentials=InMemoryCredentialStore())
    for provider in pi.get_providers():
        said = way_to_a_key(provider)
        names = re.findall(r"\b[A-Z][A-Z_]+\b", said)
        assert said.endswith(f"or run: pi-ai login {provider}")
        for name in names:
            assert find_env_keys(provider, {name: "set"}), name


@pytest.mark.parametrize("own", ["x-api-key", "X-Api-Key", "authorization", "cf-aig-authorization"])
async def test_a_key_in_a_header_of_the_request_keeps_the_environments_token_away_a92(monkeypatch, own):
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "from-the-environment")
    guarded = Guarded("")
    async with guarded.server:
        pi = Registry(models_path=None, credentials=InMemoryCredentialStore())
        model = attrs.evolve(pi.get_models("anthropic")[0], base_url=guarded.server.url)
        await pi.complete(model, CONTEXT, headers={own: "mine"})
        await pi.complete(attrs.evolve(model, headers={own: "mine"}), CONTEXT)
        await pi.complete(model, CONTEXT, headers={"x-other": "mine"})
    mine, models, other = guarded.server.requests
    for request in (mine, models):
        assert request.headers[own.lower()] == "mine"
        assert "from-the-environment" not in str(dict(request.headers))
    assert other.headers["authorization"] == "Bearer from-the-environment"


@pytest.mark.parametrize("how", ["environment", "header", "model's header"])
async def test_a_token_that_is_no_key_is_not_repeated_either_x1_x29(monkeypatch, how):
    """The server's refusal quotes the Authorization header."""
    token = "opaque-1f2e3d4c5b6a"
    for name in ANTHROPIC_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    guarded = Guarded("")
    async with guarded.server:
        pi = Registry(models_path=None, credentials=InMemoryCredentialStore())
        model = attrs.evolve(pi.get_models("anthropic")[0], base_url=guarded.server.url)
        headers = {"Authorization": f"Token {token}"}
        if how == "environment":
            monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", token)
        elif how == "model's header":
            model = attrs.evolve(model, headers=headers)
        message = await pi.complete(model, CONTEXT, headers=headers if how == "header" else None)
    assert token in guarded.keys()[0]
    assert message.error_info.status == 401
    assert token not in dumps(message) + repr(message) + repr(message.error_info) + str(message.error_info.exception())
    assert "redacted" in message.error_message


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


async def test_the_overrides_of_the_file_have_the_last_word_over_a_login_r84(tmp_path):
    path = tmp_path / "models.json"
    override = {"modelOverrides": {"m": {"name": "mine", "contextWindow": 7}}}
    path.write_text(json.dumps({"providers": {"corp": override}}))
    seen = []

    def modify(models, credential):
        seen.extend(model.name for model in models)
        return [attrs.evolve(model, name="theirs", max_tokens=5) for model in models]

    store = InMemoryCredentialStore({"corp": oauth()})
    pi = Registry(models_path=path, credentials=store)
    pi.register_provider(
        "corp",
        base_url="https://c.example",
        api="openai-completions",
        models=[{"id": "m"}],
        oauth=Flow().config(modify_models=modify),
    )
    model = pi.get_model("corp", "m")
    assert (model.name, model.context_window, model.max_tokens) == ("mine", 7, 5)
    assert seen[0] == "m"


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
            assert [name.name for name in tmp_path.iterdir()] == ["auth.json"]
            assert json.loads(path.read_text())["corp"]["type"] == "oauth"
            assert person.dismissed == len(person.prompts)
            for event in person.events:
                port = urlsplit(dict(parse_qsl(urlsplit(event.url).query))["redirect_uri"]).port
                with pytest.raises(OSError):
                    await anyio.connect_tcp("127.0.0.1", port)
        pi = registry(path=path, oauth=flow.config())
        assert (await pi.get_auth("corp")).api_key == "a"
