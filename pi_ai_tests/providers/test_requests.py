"""Where a request goes, with which key and which headers: seen by a server (R31, R54-R63, R100-R105)."""

from __future__ import annotations

import json
import os

import attrs
import pytest

import pi_ai
from pi_ai import (
    Auth,
    AuthStatus,
    Context,
    Model,
    OAuthConfig,
    PiAiDeprecationWarning,
    Provider,
    Registry,
    UserMessage,
    complete,
    get_api,
    stream,
)
from pi_ai.oauth import InMemoryCredentialStore
from pi_ai.testing import Failure, Sandbox, Turn

pytestmark = pytest.mark.anyio
CHAT = "openai-completions"
CONTEXT = Context([UserMessage("Hello", timestamp=1)])
needs_sh = pytest.mark.skipif(os.name == "nt", reason="the commands are for sh")


@pytest.fixture
async def box():
    async with Sandbox() as box:
        yield box


@pytest.fixture
def whole(box):
    """What a provider of one model needs."""
    return {"base_url": box.base_url(CHAT), "api": CHAT, "models": [{"id": "m"}]}


async def sent(pi, box, provider="x", name="m", **options):
    """The headers of a request to a model."""
    message = await pi.complete(pi.get_model(provider, name), CONTEXT, max_retries=0, **options)
    assert message.stop_reason == "stop", message.error_message
    return box.requests[-1].headers


async def refused(pi, provider="x", name="m", **options):
    """The text of the error that a request to a model ends with; nothing is sent, nothing is raised."""
    events = [event async for event in pi.stream(pi.get_model(provider, name), CONTEXT, **options)]
    assert [event.type for event in events] == ["error"]
    message = events[0].error
    assert (message.content, message.provider, message.model) == ([], provider, name)
    assert (message.error_info.provider, message.error_info.attempts) == (provider, 0)
    return message.error_message


# ── headers ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_R59_headers_of_provider_model_and_request_are_layered_whatever_their_case(box, whole):
    pi = Registry()
    whole["models"] = [{"id": "m", "headers": {"X-M": "model", "X-BOTH": "model"}}]
    pi.register_provider("x", **whole, api_key="k", headers={"X-P": "prov", "x-both": "prov"})
    seen = await sent(pi, box, headers={"X-both": "req"})
    assert (seen["x-p"], seen["x-m"], seen["x-both"]) == ("prov", "model", "req")
    assert (await sent(pi, box))["x-both"] == "model"


async def test_R59_the_winner_is_sent_in_its_own_spelling(whole):
    raw = []

    async def sees(headers):
        raw.append(headers)
        return headers

    pi = Registry()
    pi.register_provider("x", **whole, api_key="k", headers={"x-both": "prov"})
    await pi.complete(pi.get_model("x", "m"), CONTEXT, headers={"X-bOTH": "req"}, transform_headers=sees)
    assert {name: value for name, value in raw[0].items() if name.lower() == "x-both"} == {"X-bOTH": "req"}


async def test_R59_none_removes_a_header_at_any_level(box, whole):
    pi = Registry()
    whole["models"] = [{"id": "m", "headers": {"X-Q": None}}]
    pi.register_provider(
        "x", **whole, api_key="k", headers={"X-P": "prov", "X-Q": "prov", "User-Agent": None, "Authorization": None}
    )
    seen = await sent(pi, box, headers={"X-P": None})
    assert not {"x-p", "x-q", "user-agent", "authorization"} & seen.keys()


async def test_R59_every_level_wins_over_those_below_it(box, agent_dir, monkeypatch):
    """Levels 2 to 9, the catalogue's headers at the bottom; each has one header less than the level below."""
    (agent_dir / "models.json").write_text(
        json.dumps(
            {
                "providers": {
                    "x": {
                        "headers": {f"L{n}": "file provider" for n in range(3, 10)},
                        "models": [{"id": "m", "headers": {f"L{n}": "file model" for n in range(7, 10)}}],
                        "modelOverrides": {"m": {"headers": {f"L{n}": "override" for n in range(6, 10)}}},
                        "baseUrl": box.base_url(CHAT),
                        "api": CHAT,
                    }
                }
            }
        )
    )

    class Base(Provider):
        id = "x"

        async def authenticate(self, env=None):
            return Auth(api_key="k", headers={f"L{n}": "auth" for n in range(2, 10)})

    pi = Registry()
    pi.register_provider(Base())
    pi._providers._builtin["x"] = pi._providers._objects.pop("x")  # a config on top of it would drop it (R42)
    pi.register_provider(
        "x",
        headers={f"L{n}": "code provider" for n in range(4, 10)} | {"Authorization": "lost"},
        auth_header=True,
        models=[
            {
                "id": "m",
                "base_url": box.base_url(CHAT),
                "headers": {"L8": "code model", "L9": "code model"},
                "api": CHAT,
            }
        ],
    )
    model = attrs.evolve(pi.get_model("x", "m"), headers={f"L{n}": "catalogue" for n in range(1, 10)})
    await pi.complete(model, CONTEXT, headers={"L9": "call"})
    seen = box.requests[-1].headers
    assert [seen.get(f"l{n}") for n in range(1, 10)] == [
        "catalogue",
        "auth",
        "file provider",
        "code provider",
        "code provider",
        "override",
        "file model",
        "code model",
        "call",
    ]
    assert seen["authorization"] == "Bearer k"


async def test_R59_configuration_wins_over_the_headers_of_the_catalogue(box):
    pi = Registry()
    known = next(model for model in pi.get_models("github-copilot") if model.headers and model.api == CHAT)
    name, value = next(iter(known.headers.items()))
    pi.register_provider("github-copilot", base_url=box.base_url(CHAT), api_key="k", headers={name.upper(): "mine"})
    assert (await sent(pi, box, "github-copilot", known.id))[name.lower()] == "mine"
    pi.register_provider("github-copilot", headers={"X-Other": "1"})
    assert (await sent(pi, box, "github-copilot", known.id))[name.lower()] == value


@pytest.mark.parametrize("is_async", [False, True])
async def test_R59_transform_headers_has_the_last_word(box, whole, is_async):
    def change(headers):
        assert headers["X-P"] == "prov"
        assert headers["Authorization"] == "Bearer k"
        return {**headers, "X-New": "1", "X-P": None, "Authorization": "mine"}

    async def change_later(headers):
        return change(headers)

    pi = Registry()
    pi.register_provider("x", **whole, api_key="k", headers={"X-P": "prov"})
    seen = await sent(pi, box, transform_headers=change_later if is_async else change)
    assert (seen["x-new"], seen["authorization"], "x-p" in seen) == ("1", "mine", False)


async def test_R59_what_transform_headers_raises_ends_the_stream(box, whole):
    def change(headers):
        raise KeyError("no such header")

    pi = Registry()
    pi.register_provider("x", **whole, api_key="k")
    message = await pi.complete(pi.get_model("x", "m"), CONTEXT, transform_headers=change)
    assert message.error_info.kind == "internal"
    assert "transform_headers" in message.error_info.message
    assert box.requests == []


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\0b"])
async def test_R59_a_value_that_would_break_out_of_its_header_is_refused(box, whole, monkeypatch, value):
    pi = Registry()
    if "\0" not in value:
        monkeypatch.setenv("EVIL", value)
        pi.register_provider("x", **whole, api_key="k", headers={"X-P": "$EVIL"})
        assert "Header 'X-P' cannot be sent" in await refused(pi)
        pi.unregister_provider("x")
    pi.register_provider("x", **whole, api_key="k", headers={"X-P": value})
    assert "Header 'X-P' cannot be sent" in await refused(pi)
    pi.unregister_provider("x")
    pi.register_provider("x", **whole, api_key="k", headers={"X\nP": "a"})
    assert "cannot be sent" in await refused(pi)
    assert box.requests == []


async def test_R31_R55_the_values_of_headers_are_resolved_at_each_request(box, whole, monkeypatch):
    pi = Registry()
    pi.register_provider("x", **whole, api_key="k", headers={"X-A": "$ROTATING"})
    for value in ("one", "two"):
        monkeypatch.setenv("ROTATING", value)
        assert (await sent(pi, box))["x-a"] == value
    monkeypatch.delenv("ROTATING")
    assert await refused(pi) == 'Failed to resolve provider "x" header "X-A" from environment variable: ROTATING'
    assert (await sent(pi, box, headers={"x-a": "given"}))["x-a"] == "given"  # what is replaced is not resolved
    assert (await sent(pi, box, env={"ROTATING": "own"}))["x-a"] == "own"


async def test_R55_the_error_names_the_model_whose_header_it_is(whole):
    pi = Registry()
    whole["models"] = [{"id": "m", "headers": {"X-M": "$NOPE_1 $NOPE_2"}}]
    pi.register_provider("x", **whole, api_key="k")
    assert await refused(pi) == 'Failed to resolve model "x/m" header "X-M" from environment variables: NOPE_1, NOPE_2'


# ── auth_header ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_R59a_auth_header_sends_the_key_that_the_request_really_uses(box):
    pi = Registry()
    pi.register_provider(
        "x",
        base_url=box.base_url("anthropic-messages"),
        api="anthropic-messages",
        api_key="KEY",
        auth_header=True,
        headers={"Authorization": "custom"},
        models=[{"id": "m"}, {"id": "n", "headers": {"authorization": "of the model"}}],
    )
    assert (await sent(pi, box))["authorization"] == "Bearer KEY"
    assert (await sent(pi, box, api_key="explicit"))["authorization"] == "Bearer explicit"
    assert (await sent(pi, box, headers={"Authorization": "of the call"}))["authorization"] == "of the call"
    assert (await sent(pi, box, name="n"))["authorization"] == "of the model"
    pi.set_runtime_api_key("x", "runtime")
    assert (await sent(pi, box))["authorization"] == "Bearer runtime"


async def test_R59a_a_key_with_a_dollar_is_sent_as_it_is(box, whole):
    pi = Registry()
    pi.register_provider("x", **whole, api_key="$$HOME", auth_header=True)
    assert (await sent(pi, box))["authorization"] == "Bearer $HOME"


async def test_R59a_the_registered_value_wins_over_the_files(box, whole, agent_dir):
    (agent_dir / "models.json").write_text(
        json.dumps({"providers": {"x": {"authHeader": True, "apiKey": "k", "headers": {"authorization": "custom"}}}})
    )
    pi = Registry()
    pi.register_provider("x", **whole)
    assert (await sent(pi, box))["authorization"] == "Bearer k"
    pi.register_provider("x", auth_header=False)
    assert (await sent(pi, box))["authorization"] == "custom"


async def test_R59b_auth_header_without_a_key_is_an_error(whole, monkeypatch):
    pi = Registry()
    pi.register_provider("x", **whole, auth_header=True)
    assert await refused(pi) == "Provider is not configured: x"
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "token")
    pi.register_provider("anthropic", **whole, auth_header=True)
    assert await refused(pi, "anthropic") == "auth_header requires a resolved API key"


# ── base URL ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_R61_an_endpoint_that_the_credential_leads_to_wins(box):
    class Regional(Provider):
        id = "x"

        def models(self):
            return [Model(id="m", api=CHAT, provider="x", base_url="http://127.0.0.1:9/nobody")]

        async def authenticate(self, env=None):
            return Auth(api_key="k", base_url=box.base_url(CHAT), env={"REGION": "eu"})

    pi = Registry()
    pi.register_provider(Regional())
    assert (await sent(pi, box))["authorization"] == "Bearer k"


async def test_R62_a_base_url_may_name_variables(box, whole, monkeypatch):
    pi = Registry()
    whole["base_url"] = box.url + "/$API_NAME/v1"
    pi.register_provider("x", **whole, api_key="k")
    assert await refused(pi) == 'Failed to resolve base URL for provider "x" from environment variable: API_NAME'
    monkeypatch.setenv("API_NAME", CHAT)
    await sent(pi, box)
    pi.register_provider("x", base_url=box.url + "/${API_NAME}/v1")
    await sent(pi, box, env={"API_NAME": CHAT})
    model = attrs.evolve(pi.get_model("x", "m"), provider="nobody")
    assert (await pi.complete(model, CONTEXT, api_key="k")).stop_reason == "stop"


async def test_R62_a_command_or_an_escape_in_a_base_url_is_text(whole):
    pi = Registry()
    whole["base_url"] = "!echo http://127.0.0.1:9"
    pi.register_provider("x", **whole, api_key="k")
    assert "must be http://" in await refused(pi)
    seen = []

    class Sees(Provider):
        id = "y"

        def api(self, api):
            return pi_ai.adapters.custom.CustomApi(lambda model, *_: seen.append(model.base_url), "it")

    pi.register_provider(Sees())
    await pi.complete(Model(id="m", api="a", provider="y", base_url="https://h/$$x"), CONTEXT)
    assert seen == ["https://h/$x"]


async def test_R63_a_slash_at_the_end_of_a_base_url_is_not_doubled(box, whole):
    pi = Registry()
    whole["base_url"] += "/"
    pi.register_provider("x", **whole, api_key="k")
    await sent(pi, box)
    assert box.requests[-1].path == f"/{CHAT}/v1/chat/completions"


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_R105_the_first_key_that_applies_is_used(box, agent_dir, monkeypatch):
    monkeypatch.setenv("GROQ_API_KEY", "of the environment")
    url = box.base_url(CHAT)
    entry = {"baseUrl": url, "apiKey": "of the file"}

    async def used(pi, **options):
        return (await sent(pi, box, "groq", "openai/gpt-oss-120b", **options))["authorization"]

    pi = Registry(models_path=None)
    pi.register_provider("groq", base_url=url)
    assert await used(pi) == "Bearer of the environment"
    (agent_dir / "models.json").write_text(json.dumps({"providers": {"groq": entry}}))
    pi = Registry()
    assert await used(pi) == "Bearer of the file"
    pi.register_provider("groq", api_key="of code")
    assert await used(pi) == "Bearer of code"
    pi.set_runtime_api_key("groq", "runtime")
    assert await used(pi) == "Bearer runtime"
    assert await used(pi, api_key="explicit") == "Bearer explicit"
    pi.remove_runtime_api_key("groq")
    pi.unregister_provider("groq")
    assert await used(pi) == "Bearer of the file"


async def test_R105_a_configured_key_that_cannot_be_resolved_is_not_papered_over(whole, monkeypatch):
    monkeypatch.setenv("GROQ_API_KEY", "of the environment")
    pi = Registry()
    pi.register_provider("groq", **whole, api_key="$NOPE")
    assert await refused(pi, "groq") == 'Failed to resolve API key for provider "groq" from environment variable: NOPE'
    assert pi.get_provider_auth_status("groq") == AuthStatus(configured=False)


@needs_sh
async def test_R57_a_command_runs_at_every_request(box, whole, tmp_path):
    pi = Registry()
    pi.register_provider("x", **whole, api_key=f"!echo x >> {tmp_path}/runs; wc -l < {tmp_path}/runs")
    assert pi.has_configured_auth("x")
    assert not (tmp_path / "runs").exists()
    assert [(await sent(pi, box))["authorization"] for _ in range(2)] == ["Bearer 1", "Bearer 2"]


async def test_R58_a_bare_name_is_a_variable_in_code_and_text_in_a_file(box, whole, agent_dir, monkeypatch):
    monkeypatch.setenv("MY_LLM_KEY", "secret")
    pi = Registry()
    pi.register_provider("x", **whole, api_key="MY_LLM_KEY", headers={"X-T": "MY_LLM_KEY"})
    assert pi.get_provider_auth_status("x") == AuthStatus(configured=True, source="environment", label="MY_LLM_KEY")
    with pytest.warns(PiAiDeprecationWarning):
        seen = await sent(pi, box)
    assert (seen["authorization"], seen["x-t"]) == ("Bearer secret", "secret")
    pi = Registry(legacy_env_names=False)
    pi.register_provider("x", **whole, api_key="MY_LLM_KEY")
    assert (await sent(pi, box))["authorization"] == "Bearer MY_LLM_KEY"
    (agent_dir / "models.json").write_text(json.dumps({"providers": {"x": {"apiKey": "MY_LLM_KEY"}}}))
    pi = Registry()
    pi.register_provider("x", **whole)
    assert (await sent(pi, box))["authorization"] == "Bearer MY_LLM_KEY"


async def test_D19_commands_can_be_turned_off_for_a_registry(whole):
    pi = Registry(allow_commands=False)
    pi.register_provider("x", **whole, api_key="!echo key")
    assert not pi.has_configured_auth("x")
    assert await refused(pi) == 'Failed to resolve API key for provider "x" from shell command: echo key'


async def test_a_model_of_nobodys_provider_works_with_what_the_call_gives(box):
    model = box.model(CHAT, provider="nobody")
    message = await Registry().complete(model, CONTEXT, api_key="k")
    assert message.stop_reason == "stop"
    assert box.requests[-1].headers["authorization"] == "Bearer k"


async def test_secrets_are_not_in_what_a_provider_says_about_them(box, whole):
    box.script(Failure(401, "the key very-secret is wrong"))
    pi = Registry()
    pi.register_provider("x", **whole, api_key="very-secret")
    message = await pi.complete(pi.get_model("x", "m"), CONTEXT)
    assert message.error_info.kind == "auth"
    assert "very-secret" not in f"{message!r}"


PIS_PAGE = {
    "apiKey": "MY_API_KEY",
    "api": "anthropic-messages",
    "models": [
        {
            "id": "claude-sonnet-4-20250514",
            "name": "Claude 4 Sonnet (proxy)",
            "reasoning": False,
            "input": ["text", "image"],
            "cost": {"input": 3, "output": 15, "cacheRead": 0.3, "cacheWrite": 3.75},
            "contextWindow": 200000,
            "maxTokens": 16384,
        }
    ],
}


async def test_an_example_of_pis_page_typed_over_works_as_it_is(box, monkeypatch):
    monkeypatch.setenv("MY_API_KEY", "secret")
    pi = Registry()
    pi.register_provider("my-proxy", {"baseUrl": box.base_url("anthropic-messages"), **PIS_PAGE})
    with pytest.warns(PiAiDeprecationWarning, match=r'write "\$MY_API_KEY"'):
        seen = await sent(pi, box, "my-proxy", "claude-sonnet-4-20250514")
    assert seen["x-api-key"] == "secret"
    model = pi.get_model("my-proxy", "claude-sonnet-4-20250514")
    assert (model.name, model.cost.cache_write, model.max_tokens) == ("Claude 4 Sonnet (proxy)", 3.75, 16384)


async def test_the_page_of_the_latest_pi_typed_over_works_too(box, monkeypatch):
    monkeypatch.setenv("GATEWAY_API_KEY", "gate")
    monkeypatch.setenv("ACME_API_KEY", "acme")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "own")
    pi = Registry()
    before = pi.get_models("anthropic")
    gateway = {"baseUrl": box.base_url("anthropic-messages"), "headers": {"X-Gateway-Key": "$GATEWAY_API_KEY"}}
    pi.register_provider("anthropic", gateway)
    seen = await sent(pi, box, "anthropic", "claude-sonnet-4-5")
    assert (seen["x-gateway-key"], seen["x-api-key"]) == ("gate", "own")
    assert [model.id for model in pi.get_models("anthropic")] == [model.id for model in before]

    acme = {
        "name": "Acme AI",
        "baseUrl": box.base_url(CHAT),
        "apiKey": "$ACME_API_KEY",
        "api": "openai-completions",
        "models": [
            {
                "type": "chat",
                "id": "acme-chat",
                "name": "Acme Chat",
                "reasoning": False,
                "input": ["text"],
                "cost": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0},
                "contextWindow": 128000,
                "maxTokens": 8192,
            }
        ],
    }
    pi.register_provider("acme", acme)
    assert (await sent(pi, box, "acme", "acme-chat"))["authorization"] == "Bearer acme"
    pi.unregister_provider("anthropic")
    assert pi.get_models("anthropic") == before


# ── logins ───────────────────────────────────────────────────────────────────────────────────────────────────


class Person:
    """Who logs in; is asked nothing."""

    def notify(self, event):
        pass

    async def prompt(self, prompt):
        raise AssertionError(prompt.message)


LONG_AGO, LATER = 1_000_000_000_000, 4_000_000_000_000


@pytest.mark.parametrize("form", ["sync", "async"])
async def test_R80_R82_R83_a_login_its_refresh_and_its_key_may_be_sync_or_async(box, whole, form):
    asked = []

    def login(callbacks):
        return {"access": "first", "refresh": "r1", "expires": LONG_AGO}

    def refresh_token(credential):
        asked.append(credential["refresh"])
        return {"access": "second", "expires": LATER}  # without a new refresh token the old one stays

    def get_api_key(credential):
        asked.append(credential["access"])
        return f"key of {credential['access']}"

    def of_that_form(function):
        async def later(argument):
            return function(argument)

        return function if form == "sync" else later

    functions = {"login": login, "refresh_token": refresh_token, "get_api_key": get_api_key}
    pi = Registry(credentials=InMemoryCredentialStore())
    oauth = {"name": "Corp", "id": "ignored", **{name: of_that_form(each) for name, each in functions.items()}}
    pi.register_provider("x", **whole, oauth=oauth)
    assert pi.get_provider("x").name == "Corp"
    assert (await pi.login("x", "oauth", Person())).type == "oauth"
    assert [(await sent(pi, box))["authorization"] for _ in range(2)] == ["Bearer key of second"] * 2
    assert asked == ["r1", "second", "second"]
    assert (await pi.credentials.read("x")).refresh == "r1"


async def test_R102_models_that_an_account_may_not_use_are_not_available(whole):
    login = OAuthConfig(
        name="L",
        login=print,
        refresh_token=print,
        get_api_key=lambda _: "k",
        modify_models=lambda models, credential: [model for model in models if model.id in credential["models"]],
    )
    whole["models"] = [{"id": "basic"}, {"id": "premium"}]
    store = InMemoryCredentialStore(
        {"x": {"type": "oauth", "access": "a", "refresh": "r", "expires": LATER, "models": ["basic"]}}
    )
    pi = Registry(credentials=store)
    pi.register_provider("x", **whole, oauth=login)
    assert [model.id for model in pi.get_available() if model.provider == "x"] == ["basic"]
    await pi.logout("x")
    assert not [model for model in pi.get_available() if model.provider == "x"]
    assert [model.id for model in pi.get_models("x")] == ["basic", "premium"]


# ── availability ─────────────────────────────────────────────────────────────────────────────────────────────

STATUSES = {
    "nothing": ({}, None, AuthStatus(configured=False)),
    "a literal": ({"api_key": "k"}, None, AuthStatus(configured=True, source="configured_key")),
    "a command": ({"api_key": "!false"}, None, AuthStatus(configured=True, source="configured_command")),
    "a variable": (
        {"api_key": "$A_KEY-${B_KEY}"},
        {"A_KEY": "1", "B_KEY": "2"},
        AuthStatus(configured=True, source="environment", label="A_KEY, B_KEY"),
    ),
    "a variable that is missing": ({"api_key": "$A_KEY-${B_KEY}"}, {"A_KEY": "1"}, AuthStatus(configured=False)),
    "a variable that is empty": ({"api_key": "$A_KEY"}, {"A_KEY": ""}, AuthStatus(configured=False)),
}


@pytest.mark.parametrize("case", STATUSES)
async def test_R101_R103_whether_a_provider_is_configured_and_how_that_is_known(monkeypatch, case):
    fields, env, status = STATUSES[case]
    for name, value in (env or {}).items():
        monkeypatch.setenv(name, value)
    pi = Registry()
    pi.register_provider("x", base_url="http://127.0.0.1:9", api=CHAT, models=[{"id": "m"}], **fields)
    assert pi.get_provider_auth_status("x") == status
    assert pi.has_configured_auth("x") == status.configured
    assert (pi.get_model("x", "m") in pi.get_available()) == status.configured
    pi.set_runtime_api_key("x", "k")
    assert pi.get_provider_auth_status("x") == AuthStatus(configured=True, source="runtime")


async def test_R101_R103_a_built_in_provider_is_configured_by_its_environment(monkeypatch):
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    for name in ("ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_OAUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    pi = Registry()
    assert not pi.has_configured_auth("anthropic")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    assert pi.get_provider_auth_status("anthropic") == AuthStatus(
        configured=True, source="environment", label="ANTHROPIC_API_KEY"
    )
    pi.register_provider("anthropic", headers={"X": "1"})
    assert pi.get_provider_auth_status("anthropic").label == "ANTHROPIC_API_KEY"
    assert pi.get_model("anthropic", "claude-sonnet-4-5") in pi.get_available()
    monkeypatch.setenv("AWS_PROFILE", "work")
    assert pi.get_provider_auth_status("amazon-bedrock").label == "AWS_PROFILE"


async def test_a_provider_that_does_not_exist_is_not_configured():
    assert Registry().get_provider_auth_status("nobody") == AuthStatus(configured=False)


async def test_a_bearer_token_in_the_environment_is_sent_below_what_is_configured(box, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "token")
    pi = Registry()
    pi.register_provider("anthropic", base_url=box.base_url("anthropic-messages"))
    seen = await sent(pi, box, "anthropic", "claude-sonnet-4-5")
    assert seen["authorization"] == "Bearer token"
    assert "x-api-key" not in seen
    pi.register_provider("anthropic", headers={"authorization": "mine"})
    assert (await sent(pi, box, "anthropic", "claude-sonnet-4-5"))["authorization"] == "mine"


# ── dispatch ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_R66_nothing_is_raised_for_what_is_wrong_with_a_provider():
    pi = Registry()
    for model in (
        Model(id="m", api="no-such-api", provider="x", base_url="http://127.0.0.1:9"),
        Model(id="m", api=CHAT, provider="openai", base_url="$NOPE/v1"),
        Model(id="m", api=CHAT, provider="x", base_url="http://127.0.0.1:9"),
    ):
        message = await pi.complete(model, CONTEXT, max_retries=0)
        assert message.stop_reason == "error"
        assert message.content == []


async def test_R64_an_api_that_nobody_serves_is_an_error(box):
    pi = Registry()
    model = attrs.evolve(box.model(CHAT), api="no-such-api")
    for options in (None, get_api(CHAT).options_type(api_key="k")):
        message = await pi.complete(model, CONTEXT, options)
        assert message.error_message == "No API provider registered for api: no-such-api"
        assert message.error_info.kind == "config"


async def test_R65_the_module_level_functions_reach_the_same_providers(box, whole):
    async with Registry() as pi:
        pi.register_provider("x", **whole, api_key="k")
        message = await complete(pi_ai.get_model("x", "m"), CONTEXT)
        assert message.stop_reason == "stop"
        assert box.requests[-1].headers["authorization"] == "Bearer k"
        assert (await stream(pi.get_model("x", "m"), CONTEXT).result()).stop_reason == "stop"


async def test_R100_a_scripted_answer_comes_through_a_registered_provider(box, whole):
    box.script(Turn("Hello there."))
    pi = Registry()
    pi.register_provider("x", **whole, api_key="k", name="X")
    message = await pi.complete(pi.get_model("x", "m"), CONTEXT)
    assert (message.text, message.provider, message.model) == ("Hello there.", "x", "m")
