"""What can be registered, in which forms, and what is refused (R1-R6, R20-R22)."""

from __future__ import annotations

import attrs
import pytest

from pi_ai import (
    Model,
    ModelCost,
    OAuthConfig,
    ProviderConfig,
    ProviderConfigError,
    ProviderModelConfig,
    Registry,
    get_model,
)
from pi_ai.providers.config import ProviderKeywords
from pi_ai_tests import test_readme


async def stream_simple(model, context, options):
    yield


URL = "https://llm.example/v1"
CHAT = "openai-completions"
WHOLE = {"base_url": URL, "api": CHAT}


@pytest.fixture
def pi():
    return Registry()


# ── forms ────────────────────────────────────────────────────────────────────────────────────────────────────


FORMS = {
    "object": lambda pi: pi.register_provider(
        "x",
        ProviderConfig(
            **WHOLE,
            auth_header=True,
            models=[ProviderModelConfig("m", context_window=9, cost=ModelCost(cache_read=1.0))],
        ),
    ),
    "snake_case": lambda pi: pi.register_provider(
        "x",
        {**WHOLE, "auth_header": True, "models": [{"id": "m", "context_window": 9, "cost": {"cache_read": 1.0}}]},
    ),
    "camelCase": lambda pi: pi.register_provider(
        "x",
        {
            "baseUrl": URL,
            "api": CHAT,
            "authHeader": True,
            "models": [{"id": "m", "contextWindow": 9, "cost": {"cacheRead": 1.0}}],
        },
    ),
    "keywords": lambda pi: pi.register_provider(
        "x", **WHOLE, auth_header=True, models=[{"id": "m", "context_window": 9, "cost": {"cacheRead": 1.0}}]
    ),
    "both": lambda pi: pi.register_provider(
        "x",
        {"baseUrl": "https://other.example", "models": [{"id": "m", "contextWindow": 9, "cost": {"cacheRead": 1.0}}]},
        **WHOLE,
        auth_header=True,
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_R2_every_form_of_a_config_says_the_same(pi, form):
    FORMS[form](pi)
    assert pi.get_models("x") == [
        Model(id="m", api=CHAT, provider="x", base_url=URL, context_window=9, cost=ModelCost(cache_read=1.0))
    ]


def test_R2_both_spellings_of_a_field_are_a_mistake(pi):
    with pytest.raises(TypeError, match=r"has both 'base_url' and 'baseUrl'"):
        pi.register_provider("x", {"base_url": URL, "baseUrl": URL})
    with pytest.raises(TypeError, match="the same field"):
        pi.register_provider("x", **WHOLE, models=[{"id": "m", "maxTokens": 1, "max_tokens": 1}])


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"baseURL": URL}, r"a provider has no field 'baseURL'; did you mean 'base(Url|_url)'\?"),
        ({"models": [{"id": "m", "contextwindow": 1}]}, r"a model has no field 'contextwindow'; did you mean"),
        ({"models": [{"id": "m", "cost": {"in": 1}}]}, "a model's cost has no field 'in'"),
        ({"oauth": {"label": "x"}}, "oauth has no field 'label'"),
        ({3: URL}, "a provider has no field 3"),
    ],
)
def test_R2_an_unknown_key_is_a_mistake_that_is_named(pi, config, words):
    with pytest.raises(TypeError, match=words):
        pi.register_provider("x", config)
    assert pi.get_provider("x") is None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"base_url": 5}, "base_url of a provider must be a str, not int"),
        ({"auth_header": "yes"}, "auth_header of a provider must be a bool, not str"),
        ({"stream_simple": "f"}, "stream_simple of a provider must be a function, not str"),
        ({"compat": []}, "compat of a provider must be a mapping, not list"),
        ({"headers": ["a"]}, "headers must be a mapping of names to texts, not list"),
        ({"headers": {"X": 1}}, "header 'X' must be a str, or None to remove it, not int"),
        ({"models": {"id": "m"}}, "models must be a list of models, not dict"),
        ({"models": ["m"]}, "a model must be a ProviderModelConfig or a mapping, not str"),
        ({"models": [{"id": 7}]}, "id"),
        ({"models": [{"id": "m", "max_tokens": "many"}]}, "max_tokens"),
        ({"models": [{"id": "m", "name": 7}]}, "name"),
        ({"oauth": "radius"}, "oauth must be a OAuthConfig or a mapping, not str"),
    ],
)
def test_R2_a_value_of_the_wrong_kind_is_a_type_error_and_changes_nothing(pi, fields, words):
    with pytest.raises(TypeError, match=words):
        pi.register_provider("x", {**WHOLE, **fields})
    assert pi.get_provider("x") is None


def test_the_id_of_a_provider_must_be_text(pi):
    with pytest.raises(TypeError, match="the id of a provider must be a str, not int"):
        pi.register_provider(7, **WHOLE)


def test_R1_serialized_models_have_camel_case_keys(pi):
    from pi_ai import to_json

    pi.register_provider("x", **WHOLE, models=[{"id": "m", "context_window": 9, "thinking_level_map": {"high": "h"}}])
    data = to_json(pi.get_model("x", "m"))
    assert data["contextWindow"] == 9
    assert data["thinkingLevelMap"] == {"high": "h"}


PIS_NAMES = {
    "name": "X",
    "baseUrl": URL,
    "apiKey": "k",
    "api": "my-api",
    "streamSimple": stream_simple,
    "headers": {"X-A": "1"},
    "authHeader": True,
    "compat": {"supportsStore": False},
    "refreshModels": stream_simple,
    "models": [
        {
            "type": "chat",
            "id": "m",
            "name": "M",
            "api": CHAT,
            "baseUrl": "https://own.example",
            "reasoning": True,
            "thinkingLevelMap": {"high": "max"},
            "input": ["text", "image"],
            "cost": {"input": 1, "output": 2, "cacheRead": 3, "cacheWrite": 4},
            "contextWindow": 9,
            "maxTokens": 8,
            "samplingParams": {"top_k": 1},
            "headers": {"X-M": "2"},
            "compat": {"supportsStore": True},
        }
    ],
    "oauth": {
        "name": "L",
        "login": print,
        "refreshToken": print,
        "getApiKey": print,
        "modifyModels": print,
        "isSubscription": True,
    },
}
"""Every field that a provider has in pi, as pi spells it."""


def test_R1_R2_every_name_of_pi_is_understood():
    config = ProviderConfig.of(PIS_NAMES)
    assert (config.name, config.base_url, config.api_key, config.api) == ("X", URL, "k", "my-api")
    assert config.stream_simple is config.refresh_models is stream_simple
    assert (config.headers, config.auth_header) == ({"X-A": "1"}, True)
    assert config.compat == {"supportsStore": False}
    assert config.oauth == OAuthConfig(
        name="L", login=print, refresh_token=print, get_api_key=print, modify_models=print, is_subscription=True
    )
    assert list(config.models) == [
        ProviderModelConfig(
            "m",
            type="chat",
            name="M",
            api=CHAT,
            base_url="https://own.example",
            reasoning=True,
            thinking_level_map={"high": "max"},
            input=["text", "image"],
            cost=ModelCost(input=1, output=2, cache_read=3, cache_write=4),
            context_window=9,
            max_tokens=8,
            sampling_params={"top_k": 1},
            headers={"X-M": "2"},
            compat={"supportsStore": True},
        )
    ]


def test_R3_what_is_inside_of_compat_and_sampling_params_is_data(pi):
    pi.register_provider(
        "x",
        **WHOLE,
        models=[
            {
                "id": "m",
                "compat": {"supports_developer_role": False, "chatTemplateKwargs": {"my_own": 1, "myOwn": 2}},
                "sampling_params": {"top_k": 5, "topK": 6},
            }
        ],
    )
    model = pi.get_model("x", "m")
    assert model.compat == {"supportsDeveloperRole": False, "chatTemplateKwargs": {"my_own": 1, "myOwn": 2}}
    assert model.sampling_params == {"top_k": 5, "topK": 6}


def test_R5_what_is_not_given_has_a_default(pi):
    pi.register_provider("x", **WHOLE, models=[{"id": "m"}])
    model = pi.get_model("x", "m")
    assert (model.name, model.reasoning, model.input, model.cost) == ("m", False, ["text"], ModelCost())
    assert (model.context_window, model.max_tokens) == (128_000, 16_384)


def test_R5_the_table_of_a_models_fields_in_the_readme_tells_the_truth():
    table = [(test_readme.words(names), default) for names, default in test_readme.rows("field of a model")]
    fields = {field.name: field for field in attrs.fields(ProviderModelConfig)}
    assert {name for names, _ in table for name in names} <= fields.keys()
    defaults = {names[0]: default for names, default in table}
    assert defaults["context_window"] == f"{fields['context_window'].default:,} and {fields['max_tokens'].default:,}"


def test_R6_a_model_that_is_none_for_chat_is_left_out_and_that_is_told(pi):
    pi.register_provider("x", **WHOLE, models=[{"id": "m", "type": "chat"}, {"id": "painter", "type": "image"}])
    assert [model.id for model in pi.get_models("x")] == ["m"]
    assert pi.get_error() == ('Provider "x": model "painter" is left out: the operation "image" is not supported')
    pi.unregister_provider("x")
    assert pi.get_error() is None


def test_a_model_of_another_provider_can_be_given_as_it_is(pi):
    known = get_model("anthropic", "claude-sonnet-4-5")
    pi.register_provider("proxy", base_url=URL, models=[known])
    model = pi.get_model("proxy", known.id)
    assert model.base_url == known.base_url  # its own address wins over the provider's (R34)
    assert attrs.evolve(model, provider="anthropic") == known


def test_secrets_do_not_show_in_a_repr():
    config = ProviderConfig(api_key="secret-1", headers={"X-Key": "secret-2"})
    model = ProviderModelConfig("m", headers={"X-Key": "secret-3"})
    assert "secret" not in f"{config!r}{model!r}"
    assert "X-Key" in repr(config)


def test_the_keywords_of_register_provider_are_the_fields_of_its_config():
    assert list(ProviderKeywords.__annotations__) == [field.name for field in attrs.fields(ProviderConfig)]


# ── what is refused ──────────────────────────────────────────────────────────────────────────────────────────


def login(**fields):
    return OAuthConfig(**{"name": "Corp", "login": print, "refresh_token": print, "get_api_key": print, **fields})


REFUSED = {
    "R20a empty": ("", {}, "Provider id must not be empty."),
    "R20a blank": ("  ", {}, "Provider id must not be empty."),
    "R20b": ("x", {"stream_simple": stream_simple}, 'Provider x: "api" is required when registering stream_simple.'),
    "R20c": ("x", {**WHOLE, "models": [{"name": "m"}]}, 'Provider x: model missing "id"'),
    "R20c empty": ("x", {**WHOLE, "models": [{"id": ""}]}, 'Provider x: model missing "id"'),
    "R20d": (
        "x",
        {"base_url": URL, "models": [{"id": "m"}]},
        'Provider x, model m: no "api" specified. Set it at model level or provider level.',
    ),
    "R20e": (
        "x",
        {"api": CHAT, "models": [{"id": "m"}]},
        'Provider x: "base_url" is required when defining custom models.',
    ),
    "R20f window": (
        "x",
        {**WHOLE, "models": [{"id": "m", "context_window": 0}]},
        "Provider x, model m: invalid context_window",
    ),
    "R20f tokens": (
        "x",
        {**WHOLE, "models": [{"id": "m", "maxTokens": -1}]},
        "Provider x, model m: invalid max_tokens",
    ),
    "R20g": ("x", {**WHOLE, "models": [{"id": "m"}, {"id": "m"}]}, 'Provider x: duplicate model id "m"'),
    **{
        f"R20h {field}": (
            "x",
            {"oauth": login(**{field: None if field != "name" else ""})},
            "Provider x: oauth requires name, login, refresh_token and get_api_key",
        )
        for field in ("name", "login", "refresh_token", "get_api_key")
    },
}


@pytest.mark.parametrize("case", REFUSED)
def test_R20_a_registration_that_cannot_be_is_refused_with_its_reason(pi, case):
    name, config, message = REFUSED[case]
    before = pi.get_providers()
    with pytest.raises(ProviderConfigError) as caught:
        pi.register_provider(name, config)
    assert str(caught.value) == message
    assert isinstance(caught.value, ValueError)
    assert pi.get_providers() == before
    assert pi.get_error() is None


def test_R20_the_first_reason_in_the_order_of_the_table_is_told(pi):
    broken = {
        "stream_simple": stream_simple,
        "oauth": login(name=""),
        "models": [{"id": "a", "context_window": 0}, {"id": "a"}, {"id": ""}],
    }
    repairs = [
        ("must not be empty", "", {}),
        ('"api" is required', "x", {"api": CHAT}),
        ('missing "id"', "x", {"models": [{"id": "a", "context_window": 0}, {"id": "a"}]}),
        ('"base_url" is required', "x", {"base_url": URL}),
        ("invalid context_window", "x", {"models": [{"id": "a"}, {"id": "a"}]}),
        ("duplicate model id", "x", {"models": [{"id": "a"}]}),
        ("oauth requires", "x", {"oauth": login()}),
    ]
    for words, name, repair in repairs:
        with pytest.raises(ProviderConfigError, match=words):
            pi.register_provider(name, broken)
        broken |= repair
    pi.register_provider("x", broken)


ACCEPTED = {
    "R21 nothing at all": {},
    "R21 models without a key": {**WHOLE, "models": [{"id": "m"}]},
    "R21 a base URL for an unknown id": {"base_url": URL},
    "R21 headers for an unknown id": {"headers": {"X-A": "1"}},
    "R21 no models yet": {"models": []},
    "R21 a login only": {"oauth": login()},
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_R21_what_is_no_error(pi, case):
    pi.register_provider("x", ACCEPTED[case])
    assert pi.get_provider("x") is not None
    assert not pi.has_configured_auth("x")
    assert len(pi.get_models("x")) == len(ACCEPTED[case].get("models", ()))


def test_R21_the_display_name_comes_from_the_config_the_file_the_base_the_login_or_the_id(pi, agent_dir):
    assert pi.get_provider("anthropic").name == "Anthropic"
    pi.register_provider("x", oauth=login(name="Corp Login"))
    assert pi.get_provider("x").name == "Corp Login"
    pi.register_provider("y")
    assert pi.get_provider("y").name == "y"
    (agent_dir / "models.json").write_text('{"providers": {"anthropic": {"name": "File", "headers": {}}}}')
    pi = Registry()
    assert pi.get_provider("anthropic").name == "File"
    pi.register_provider("anthropic", oauth=login(name="Corp Login"))
    assert pi.get_provider("anthropic").name == "File"
    pi.register_provider("anthropic", name="Code")
    assert pi.get_provider("anthropic").name == "Code"


@pytest.mark.parametrize("case", REFUSED)
def test_R22_a_refused_registration_leaves_the_previous_one_as_it_was(pi, case):
    name, config, _ = REFUSED[case]
    pi.register_provider("x", **WHOLE, api_key="k", name="X", models=[{"id": "old"}])
    if "R20b" in case or "R20d" in case or "R20e" in case:  # the previous registration has what they lack (R41)
        pi.register_provider(name, config)
        return
    before = pi.get_provider("x"), pi.get_models("x")
    with pytest.raises(ProviderConfigError):
        pi.register_provider(name, config)
    assert (pi.get_provider("x"), pi.get_models("x")) == before
    assert pi.get_provider_auth_status("x").source == "configured_key"


def test_R4_errors_of_code_are_in_the_spelling_of_code(pi):
    with pytest.raises(ProviderConfigError, match='"base_url"'):
        pi.register_provider("x", {"api": CHAT, "models": [{"id": "m"}]})
