"""What a registration does to models, and how it is taken back (R10-R13, R21-R52)."""

from __future__ import annotations

import json
import socket
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pi_ai
from pi_ai import (
    Model,
    OAuthConfig,
    PiAiDeprecationWarning,
    Provider,
    ProviderConfig,
    ProviderConfigError,
    Registry,
    get_model,
)
from pi_ai.auth.store import InMemoryCredentialStore
from pi_ai.providers import catalogue
from pi_ai.providers.builtin import BuiltinProvider
from pi_ai.providers.layers import merged_compat

URL = "https://llm.example/v1"
OTHER = "https://other.example/v1"
CHAT = "openai-completions"
WHOLE = {"base_url": URL, "api": CHAT, "api_key": "k"}


@pytest.fixture
def pi():
    return Registry()


def ids(pi, provider):
    return [model.id for model in pi.get_models(provider)]


def everything(pi, names=None):
    """All that can be seen of providers."""
    return {
        name: (
            pi.get_provider(name).name,
            pi.get_provider(name).base_url,
            pi.get_models(name),
            pi.get_provider_auth_status(name),
            pi.get_provider(name).oauth,
            pi.get_provider(name).api("my-api"),
        )
        for name in names or pi.get_providers()
        if pi.get_provider(name) is not None
    }


# ── composing ────────────────────────────────────────────────────────────────────────────────────────────────


def test_R10_R23_a_registration_does_no_input_or_output(pi, monkeypatch):
    pi.get_models("openai")  # the catalogue is read when it is first needed

    def forbidden(*_, **__):
        raise AssertionError("input or output")

    monkeypatch.setattr(socket.socket, "connect", forbidden)
    monkeypatch.setattr(subprocess, "Popen", forbidden)
    with monkeypatch.context() as patched:
        patched.setattr("builtins.open", forbidden)
        pi.register_provider("openai", api_key="!echo key", headers={"X": "$NOPE"}, base_url="https://$NOPE/v1")
    assert pi.has_configured_auth("openai")
    assert pi.get_models("openai")[0].base_url == "https://$NOPE/v1"


def test_R11_a_provider_without_layers_is_the_base_itself(pi):
    base = pi.get_provider("anthropic")
    assert isinstance(base, BuiltinProvider)
    pi.register_provider("anthropic", base_url=URL)
    assert pi.get_provider("anthropic") is not base
    pi.unregister_provider("anthropic")
    assert pi.get_provider("anthropic") is base


@pytest.mark.anyio
async def test_R12_a_registration_that_no_longer_holds_is_told_and_gives_way_to_its_base(agent_dir):
    pi = file_of(agent_dir, x={"baseUrl": URL, "api": CHAT}, groq={"headers": {}})
    pi.register_provider("x", models=[{"id": "m"}])
    pi.register_provider("groq", models=[{"id": "m"}])
    assert pi.get_model("x", "m").base_url == URL
    file_of(agent_dir)
    await pi.refresh()
    assert pi.get_error() == ('Provider "x": Provider x, model m: no "api" specified. Set at provider or model level.')
    assert pi.get_provider("x") is None
    assert ids(pi, "groq") == ["m"]
    file_of(agent_dir, x={"baseUrl": URL, "api": CHAT})
    await pi.refresh()
    assert (pi.get_error(), ids(pi, "x")) == (None, ["m"])


@pytest.mark.anyio
async def test_R12_a_file_that_does_not_fit_is_left_out_and_the_registration_stays(agent_dir):
    pi = file_of(agent_dir, x={"models": [{"id": "of-file"}]})
    pi.register_provider("x", base_url=URL)
    assert 'no "api" specified' in pi.get_error()
    assert pi.get_provider("x").base_url == URL
    assert ids(pi, "x") == []


def test_R13_providers_are_listed_in_the_order_of_their_kinds(agent_dir):
    (agent_dir / "models.json").write_text(
        json.dumps({"providers": {"file": {"baseUrl": URL}, "groq": {"baseUrl": URL}}})
    )
    pi = Registry()
    pi.register_provider("code", base_url=URL)
    pi.register_provider("file", base_url=URL)
    pi.register_provider(Provider("object"))
    pi.register_provider("code", base_url=OTHER)
    built_in = catalogue.get_providers()
    assert pi.get_providers() == [*built_in, "local", "object", "file", "code"]


def test_R23_what_was_registered_is_visible_when_the_call_returns(pi):
    pi.register_provider("x", **WHOLE, models=[{"id": "m"}])
    assert pi.get_model("x", "m") in pi.get_models()
    assert pi.get_provider("x").name == "x"
    assert pi.has_configured_auth("x")
    assert pi.get_model("x", "m") in pi.get_available()


# ── overriding ───────────────────────────────────────────────────────────────────────────────────────────────


def test_R30_a_base_url_replaces_that_of_every_model_and_nothing_else(pi):
    before = pi.get_models("opencode")
    assert len({model.base_url for model in before}) > 1  # some have their own
    pi.register_provider("opencode", base_url=URL)
    after = pi.get_models("opencode")
    assert {model.base_url for model in after} == {URL}
    for old, new in zip(before, after, strict=True):
        new.base_url = old.base_url
    assert after == before


def test_R31_headers_alone_are_a_registration_and_never_show_in_models(pi):
    before = pi.get_models("openai")
    pi.register_provider("openai", headers={"X-Team": "secret"})
    assert pi.get_models("openai") == before


def test_R32_an_api_or_a_name_alone_changes_no_model(pi):
    before = pi.get_models("openai")
    pi.register_provider("openai", api="my-api", name="Mine")
    assert pi.get_models("openai") == before
    assert pi.get_provider("openai").name == "Mine"


# ── replacing ────────────────────────────────────────────────────────────────────────────────────────────────


def test_R33_models_replace_all_of_the_layers_below(pi):
    pi.register_provider("openai", models=[{"id": "zz"}])
    assert ids(pi, "openai") == ["zz"]


def test_R33_no_models_are_models_too(pi):
    before = pi.get_models("openai")
    pi.register_provider("openai", models=[])
    assert pi.get_models("openai") == []
    assert "openai" in pi.get_providers()
    pi.unregister_provider("openai")
    assert pi.get_models("openai") == before


INHERITED = {
    "the model of the same id": ({"id": "claude-sonnet-4"}, "anthropic-messages", "https://a.example"),
    "one of the api that it declares": (
        {"id": "new", "api": "openai-responses"},
        "openai-responses",
        "https://r.example",
    ),
    "the first of chat completions": ({"id": "new"}, CHAT, "https://c.example"),
    "an api that nobody has": ({"id": "new", "api": "my-api"}, "my-api", "https://c.example"),
    "its own": ({"id": "claude-sonnet-4", "api": CHAT, "base_url": URL}, CHAT, URL),
}


@pytest.mark.parametrize("case", INHERITED)
def test_R34_what_a_model_does_not_say_comes_from_the_model_below_that_is_most_like_it(pi, case):
    entry, api, base_url = INHERITED[case]

    class Mixed(Provider):
        id = "mixed"

        def models(self):
            return [
                Model(id="gpt", api="openai-responses", provider="mixed", base_url="https://r.example"),
                Model(id="chat", api=CHAT, provider="mixed", base_url="https://c.example"),
                Model(id="claude-sonnet-4", api="anthropic-messages", provider="mixed", base_url="https://a.example"),
            ]

    pi = Registry()
    pi._providers._builtin["mixed"] = Mixed()
    pi.register_provider("mixed", models=[entry])
    model = pi.get_model("mixed", entry["id"])
    assert (model.api, model.base_url) == (api, base_url)


def test_R34_the_first_model_stands_in_where_nobody_speaks_chat_completions(pi):
    first = pi.get_models("google")[0]
    pi.register_provider("google", models=[{"id": "new"}])
    model = pi.get_model("google", "new")
    assert (model.api, model.base_url) == (first.api, first.base_url)


def test_R34_the_providers_own_api_and_url_come_before_what_is_inherited(pi):
    pi.register_provider("openai", base_url=URL, api="my-api", models=[{"id": "gpt-5"}, {"id": "b", "base_url": OTHER}])
    assert [(model.api, model.base_url) for model in pi.get_models("openai")] == [("my-api", URL), ("my-api", OTHER)]


def test_R34_an_endpoint_that_comes_from_elsewhere_is_inherited_as_it_is(pi):
    """Azure's endpoint is always configured in the environment."""
    pi.register_provider("azure", models=[{"id": "my-deployment"}])
    assert pi.get_model("azure", "my-deployment").base_url == ""


def test_R35_the_provider_of_a_model_is_the_registered_one(pi):
    pi.register_provider("mine", models=pi.get_models("groq"))
    assert {model.provider for model in pi.get_models("mine")} == {"mine"}
    pi.register_provider("yours", **WHOLE, models=[{"id": "m", "provider": "whatever"}])
    assert pi.get_model("yours", "m").provider == "yours"


def test_R36_compat_is_merged_field_by_field(pi):
    pi.register_provider(
        "x",
        **WHOLE,
        compat={"supports_store": False, "maxTokensField": "max_tokens", "openRouterRouting": {"order": ["a"]}},
        models=[
            {"id": "m", "compat": {"supportsStore": True, "openRouterRouting": {"only": ["b"]}}},
            {"id": "n"},
        ],
    )
    assert pi.get_model("x", "m").compat == {
        "supportsStore": True,
        "maxTokensField": "max_tokens",
        "openRouterRouting": {"order": ["a"], "only": ["b"]},
    }
    assert pi.get_model("x", "n").compat["supportsStore"] is False


def test_R36_an_override_adds_to_the_compat_of_the_models_and_a_replacement_inherits_none(pi):
    before = pi.get_model("zai", "glm-4.7").compat
    assert before
    pi.register_provider("zai", compat={"supportsStore": True})
    assert pi.get_model("zai", "glm-4.7").compat == {**before, "supportsStore": True}
    pi.register_provider("zai", models=[{"id": "glm-4.7"}])
    assert pi.get_model("zai", "glm-4.7").compat == {"supportsStore": True}


@pytest.mark.parametrize("key", ["openRouterRouting", "vercelGatewayRouting", "chatTemplateKwargs", "chatTemplateArgs"])
def test_R36_objects_in_compat_are_merged_one_level_deep(key):
    merged = merged_compat({key: {"a": {"deep": 1}, "b": 1}}, {key: {"a": {"other": 2}}}, None, {"plain": {"x": 1}})
    assert merged == {key: {"a": {"other": 2}, "b": 1}, "plain": {"x": 1}}
    assert merged_compat({"plain": {"x": 1}}, {"plain": {"y": 2}}) == {"plain": {"y": 2}}
    assert merged_compat({key: {"a": 1}}, {key: None}) == {key: None}


def file_of(agent_dir, **providers):
    (agent_dir / "models.json").write_text(json.dumps({"providers": providers}))
    return Registry()


def test_R37_the_models_of_a_users_file_survive_a_registration(agent_dir):
    pi = file_of(agent_dir, x={"baseUrl": OTHER, "api": CHAT, "models": [{"id": "a", "name": "Mine"}, {"id": "c"}]})
    pi.register_provider("x", base_url=URL, api="my-api", models=[{"id": "a"}, {"id": "b"}])
    assert [(model.id, model.name, model.api, model.base_url) for model in pi.get_models("x")] == [
        ("a", "Mine", CHAT, OTHER),
        ("b", "b", "my-api", URL),
        ("c", "c", CHAT, OTHER),
    ]


def test_R37_a_file_may_add_a_model_to_a_provider_that_only_code_registers(agent_dir):
    pi = file_of(agent_dir, x={"models": [{"id": "mine"}]})
    assert 'no "api" specified' in pi.get_error()
    pi.register_provider("x", **WHOLE, models=[{"id": "a"}])
    assert pi.get_error() is None
    assert pi.get_model("x", "mine") == Model(id="mine", api=CHAT, provider="x", base_url=URL)


def test_R38_overrides_of_the_file_come_last(agent_dir):
    pi = file_of(agent_dir, x={"baseUrl": URL, "modelOverrides": {"a": {"name": "User's", "maxTokens": 5}}})
    pi.register_provider("x", **WHOLE, models=[{"id": "a", "name": "Code's", "max_tokens": 9}])
    assert (pi.get_model("x", "a").name, pi.get_model("x", "a").max_tokens) == ("User's", 5)


def test_R61_the_base_url_of_a_model_comes_from_the_highest_layer_that_has_one(agent_dir):
    pi = file_of(agent_dir, groq={"baseUrl": "https://file.example"})
    assert pi.get_models("groq")[0].base_url == "https://file.example"
    pi.register_provider("groq", models=[{"id": "a"}, {"id": "b", "base_url": "https://entry.example"}])
    assert [m.base_url for m in pi.get_models("groq")] == ["https://file.example", "https://entry.example"]
    pi.register_provider("groq", base_url=URL)
    assert [m.base_url for m in pi.get_models("groq")] == [URL, "https://entry.example"]


def test_an_old_map_of_efforts_in_compat_becomes_the_map_of_levels(pi):
    with pytest.warns(PiAiDeprecationWarning, match="reasoningEffortMap is now thinking_level_map"):
        pi.register_provider(
            "x", **WHOLE, models=[{"id": "m", "compat": {"reasoningEffortMap": {"high": "max"}, "supportsStore": True}}]
        )
    with pytest.warns(PiAiDeprecationWarning):
        model = pi.get_model("x", "m")
    assert (model.thinking_level_map, model.compat) == ({"high": "max"}, {"supportsStore": True})


def test_an_old_id_of_a_provider_is_another_name_for_it(pi):
    assert pi.get_model("azure-openai-responses", "gpt-5").provider == "azure"
    pi.register_provider("azure-openai-responses", base_url=URL)
    assert pi.get_models("azure")[0].base_url == URL
    pi.unregister_provider("azure-openai-responses")
    assert pi.get_models("azure")[0].base_url == ""


# ── again ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_R40_what_is_registered_again_is_merged(pi):
    pi.register_provider("x", headers={"X-A": "1"})
    pi.register_provider("x", base_url=URL, api=CHAT, models=[{"id": "m"}])
    pi.register_provider("x", api_key="k", base_url=None)
    config = pi._providers._registered["x"]
    assert config.headers == {"X-A": "1"}
    assert (config.base_url, config.api_key) == (URL, "k")
    assert ids(pi, "x") == ["m"]
    pi.register_provider("x", headers={"X-B": "2"}, auth_header=False)
    assert pi._providers._registered["x"].headers == {"X-B": "2"}


def test_R41_shape_is_judged_by_what_comes_in_and_completeness_by_the_whole(pi):
    async def stream_simple(model, context, options):
        yield

    pi.register_provider("x", base_url=URL, api=CHAT)
    pi.register_provider("x", models=[{"id": "m"}])
    pi.register_provider("x", stream_simple=stream_simple)
    assert ids(pi, "x") == ["m"]


def test_R42_a_whole_provider_takes_the_place_of_a_config_and_the_reverse(pi):
    class Mine(Provider):
        id = "x"

        def models(self):
            return [Model(id="of-object", api=CHAT, provider="x", base_url=URL)]

    pi.register_provider("x", **WHOLE, models=[{"id": "of-config"}])
    mine = Mine()
    pi.register_provider(mine)
    assert pi.get_provider("x") is mine
    assert ids(pi, "x") == ["of-object"]
    pi.register_provider("x", **WHOLE, models=[{"id": "again"}])
    assert ids(pi, "x") == ["again"]
    pi.unregister_provider("x")
    assert pi.get_provider("x") is None


def test_R42_a_whole_provider_takes_the_place_of_a_built_in_one(pi, agent_dir):
    class Mine(Provider):
        id = "anthropic"
        name = "Mine"

    before = everything(pi)
    pi.register_provider(Mine())
    assert ids(pi, "anthropic") == []
    (agent_dir / "models.json").write_text(json.dumps({"providers": {"anthropic": {"name": "File", "headers": {}}}}))
    layered = Registry()
    layered.register_provider(Mine())
    assert layered.get_provider("anthropic").name == "File"  # the layers are on top of it, as on any base
    pi.unregister_provider("anthropic")
    assert everything(pi) == before


def test_a_whole_provider_has_an_id_and_is_registered_as_it_is(pi):
    with pytest.raises(ProviderConfigError, match="Provider id must not be empty"):
        pi.register_provider(Provider())
    with pytest.raises(TypeError, match="registered as it is"):
        pi.register_provider(Provider("x"), base_url=URL)
    assert pi.get_provider("") is pi.get_provider("x") is None


def test_R43_to_start_over_is_to_unregister_first(pi):
    pi.register_provider("x", **WHOLE, headers={"X": "1"}, models=[{"id": "m"}])
    pi.unregister_provider("x")
    pi.register_provider("x", base_url=OTHER)
    assert pi._providers._registered["x"] == ProviderConfig(base_url=OTHER)


# ── back ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_R50_unregistering_restores_everything_exactly(agent_dir):
    async def stream_simple(model, context, options):
        yield

    pi = file_of(
        agent_dir,
        openai={"models": [{"id": "of-file"}], "modelOverrides": {"gpt-5": {"name": "Five"}}},
        x={"baseUrl": URL, "apiKey": "k"},
    )
    before, order = everything(pi), pi.get_providers()
    for name in ("openai", "x", "new"):
        login = OAuthConfig(name="L", login=print, refresh_token=print, get_api_key=print)
        pi.register_provider(
            name,
            **{**WHOLE, "api": "my-api"},
            name="N",
            stream_simple=stream_simple,
            headers={"X": "1"},
            auth_header=True,
            models=[{"id": "m"}],
            oauth=login,
        )
    assert everything(pi) != before
    others = {name: seen for name, seen in everything(pi).items() if name not in ("openai", "x", "new")}
    assert others == {name: seen for name, seen in before.items() if name not in ("openai", "x")}
    for name in ("openai", "x", "new"):
        pi.unregister_provider(name)
    assert everything(pi) == before
    assert pi.get_providers() == order


def test_R50_unregistering_what_was_never_registered_is_no_error(pi):
    before = everything(pi)
    for name in ("nobody", "openai", "local"):
        pi.unregister_provider(name)
    assert everything(pi) == before


def test_the_local_provider_can_be_overridden_and_restored_like_any_other(pi):
    before = pi.get_provider("local")
    pi.register_provider("local", base_url=URL, headers={"X": "1"})
    assert pi.get_model("local", "smollm2-135m").base_url == URL
    assert pi.get_model("local", "/some/file.gguf").base_url == URL  # what it knows without listing it
    with pytest.raises(LookupError, match="closest: smollm2-135m"):
        pi.get_model("local", "smollm")
    pi.unregister_provider("local")
    assert pi.get_provider("local") is before


@pytest.mark.anyio
async def test_R51_R104_unregistering_does_not_touch_what_is_stored():
    far = 4_000_000_000_000
    store = InMemoryCredentialStore({"x": {"type": "oauth", "access": "a", "refresh": "r", "expires": far}})
    pi = Registry(credentials=store)
    login = OAuthConfig(name="L", login=print, refresh_token=print, get_api_key=lambda login: login["access"])
    pi.register_provider("x", base_url=URL, api=CHAT, models=[{"id": "m"}], oauth=login)
    model = pi.get_model("x", "m")
    assert pi.is_using_oauth(model)
    assert model in pi.get_available()  # R102
    pi.unregister_provider("x")
    assert not pi.has_configured_auth("x")
    assert (await store.read("x"))["access"] == "a"
    pi.register_provider("x", base_url=URL, api=CHAT, models=[{"id": "m"}], oauth=login)
    assert pi.is_using_oauth(model)


def test_the_name_of_a_provider_is_its_id_where_it_has_none():
    assert Provider("x").name == "x"


# ── any sequence ─────────────────────────────────────────────────────────────────────────────────────────────

NAMES = ["groq", "local", "mine", "yours"]
FIELDS = {
    "base_url": [URL, OTHER],
    "api": [CHAT, "my-api"],
    "api_key": ["k", "$KEY"],
    "name": ["A", "B"],
    "headers": [{"X": "1"}, {"Y": "2"}],
    "compat": [{"supportsStore": True}, {"supports_store": False}],
    "models": [
        [],
        [{"id": "a"}],
        [{"id": "a", "base_url": OTHER}, {"id": "b", "api": CHAT}],
        [{"id": "bad", "max_tokens": 0}],
        [{"id": "twice"}, {"id": "twice"}],
    ],
}
CALLS = st.one_of(
    st.tuples(
        st.sampled_from(NAMES),
        st.fixed_dictionaries({}, optional={key: st.sampled_from(values) for key, values in FIELDS.items()}),
    ),
    st.tuples(st.sampled_from(NAMES), st.none()),
)
FILE = {
    "groq": {"modelOverrides": {"openai/gpt-oss-120b": {"name": "File"}}, "models": [{"id": "of-file"}]},
    "mine": {"baseUrl": "https://file.example", "api": CHAT, "models": [{"id": "a", "name": "File"}]},
    "yours": {"models": [{"id": "b"}]},
}


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=st.lists(CALLS, max_size=12), with_file=st.booleans())
def test_R10_R50_any_sequence_of_registrations_is_the_same_as_composing_from_scratch(agent_dir, calls, with_file):
    (agent_dir / "models.json").write_text(json.dumps({"providers": FILE if with_file else {}}))
    pi, kept = Registry(), {}
    for name, fields in calls:
        if fields is None:
            pi.unregister_provider(name)
            kept.pop(name, None)
            continue
        before = everything(pi, NAMES), pi.get_error()
        try:
            pi.register_provider(name, fields)
        except ProviderConfigError:
            assert (everything(pi, NAMES), pi.get_error()) == before  # R22
        else:
            kept[name] = {**kept.get(name, {}), **fields}
    scratch = Registry()
    for name, fields in kept.items():
        scratch.register_provider(name, fields)
    assert everything(pi, NAMES) == everything(scratch, NAMES)
    for name in NAMES:
        pi.unregister_provider(name)
    assert everything(pi, NAMES) == everything(Registry(), NAMES)


# ── doors ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def fresh_default(monkeypatch):
    """A process in which nobody has used the default registry yet."""
    monkeypatch.setattr("pi_ai.registry._default", None)


def test_what_is_registered_at_module_level_is_in_the_default_registry_and_in_those_that_come_after(fresh_default):
    earlier = Registry()
    pi_ai.register_provider("x", **WHOLE, models=[{"id": "m"}])
    assert pi_ai.get_model("x", "m").base_url == URL
    assert pi_ai.get_provider("x").name == "x"
    assert pi_ai.get_model("x", "m") in pi_ai.get_available()
    later = Registry()
    assert later.get_model("x", "m").base_url == URL
    assert earlier.find("x", "m") is None
    later.unregister_provider("x")
    assert pi_ai.get_model("x", "m")
    pi_ai.unregister_provider("x")
    assert pi_ai.get_provider("x") is None


@pytest.mark.anyio
async def test_R65_in_a_registry_that_is_open_the_module_level_functions_are_its_own(fresh_default):
    async with Registry() as pi:
        pi_ai.register_provider("x", **WHOLE, models=[{"id": "m"}])
        assert pi.get_model("x", "m")
    assert pi_ai.get_provider("x") is None


def test_the_default_registry_reads_nothing_before_it_is_used(fresh_default, agent_dir):
    (agent_dir / "models.json").write_text("{")
    assert pi_ai.registry._default is None
    assert pi_ai.get_model("openai", "gpt-5") == get_model("openai", "gpt-5")
    assert pi_ai.registry._default.get_error()


def test_R100_a_provider_whose_models_cannot_be_had_adds_none(pi):
    class Broken(Provider):
        id = "broken"

        def models(self):
            raise OSError("no list")

    pi.register_provider(Broken())
    assert pi.get_models("broken") == []
    assert len(pi.get_all()) == len(pi.get_models()) > 1000


def test_R100_models_are_found_or_not(pi):
    assert pi.find("openai", "gpt-5") == pi.get_model("openai", "gpt-5")
    assert pi.find("openai", "nope") is pi.find("nobody", "m") is None
    with pytest.raises(LookupError, match="closest: openai"):
        pi.get_model("openia", "gpt-5")
    with pytest.raises(LookupError):
        pi.get_models("nobody")
    pi.register_provider("corporate", **WHOLE, models=[{"id": "large"}])
    with pytest.raises(LookupError, match="provider 'corporate' has no model 'lage'; closest: large"):
        pi.get_model("corporate", "lage")
    with pytest.raises(LookupError, match="closest: corporate"):
        pi.get_model("corporat", "large")
