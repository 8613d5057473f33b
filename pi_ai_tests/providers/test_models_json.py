"""``models.json``: how it is read, what is wrong with it, and what it makes of providers (R89-R98)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_ai import Model, ModelCost, Registry, get_model
from pi_ai.providers.models_json import parse_models_json, read_models_json, strict_json
from pi_ai.types import CostTier, PromptCacheLifetime

URL = "https://llm.example/v1"
CHAT = "openai-completions"


@pytest.fixture
def registry(agent_dir):
    """A registry that has read a file with this text, or these providers."""

    def make(content):
        text = content if isinstance(content, (str, bytes)) else json.dumps({"providers": content})
        file = agent_dir / "models.json"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return Registry()

    return make


def ids(pi, provider):
    return [model.id for model in pi.get_models(provider)]


# ── the file ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_file_is_in_the_folder_that_is_shared_with_pi(registry, monkeypatch, tmp_path):
    assert registry({"x": {"baseUrl": URL}}).get_provider("x")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("PI_CODING_AGENT_DIR", "~/agent")
    assert Registry().get_provider("x")
    monkeypatch.delenv("PI_CODING_AGENT_DIR")
    assert not Registry().get_provider("x")
    (tmp_path / ".pi").mkdir()
    (tmp_path / "agent").rename(tmp_path / ".pi" / "agent")
    assert Registry().get_provider("x")


def test_another_file_can_be_given_or_none(registry, tmp_path):
    registry({"x": {"baseUrl": URL}})
    assert not Registry(models_path=None).get_provider("x")
    other = tmp_path / "other.json"
    other.write_text('{"providers": {"y": {"baseUrl": "https://y.example"}}}')
    pi = Registry(models_path=other)
    assert pi.get_provider("y")
    assert not pi.get_provider("x")


@pytest.mark.parametrize(
    "text",
    [
        '\ufeff{"providers": {"x": {"baseUrl": "%s"}}}',
        '{// c\n"providers":{"x":{"baseUrl":"%s",},},}',
        '{"$schema": "…", "providers": {"x": {"baseUrl": "%s"}} // at the end\n}',
        '// first\n{"providers": {"x": {"models": [], // none, yet\n "baseUrl": "%s"\n,\n// last\n}}}',
        '{"providers": {"x": {"baseUrl": "%s", "name": "a // b, ]"}}}',
        r'{"providers": {"x": {"baseUrl": "%s", "name": "a\"// b,}"}}}',
        '{"providers": {"x": {"baseUrl": "%s", "compat": {"a": [1, 2,],},}}}',
    ],
)
def test_R89_comments_trailing_commas_and_a_byte_order_mark_are_allowed(registry, text):
    pi = registry(text % URL)
    assert pi.get_error() is None
    assert pi.get_provider("x").base_url == URL


def test_R89_a_missing_file_is_empty():
    pi = Registry()
    assert pi.get_error() is None
    assert pi.get_providers() == Registry(models_path=None).get_providers()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text('ab"\\/,]}[{ \n', max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('ab"//,}', max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=200)
@given(JSON, st.booleans())
def test_R89_what_is_strict_already_stays_as_it_is(data, pretty):
    text = json.dumps(data, indent=1 if pretty else None)
    assert strict_json(text) == text
    lenient = text.replace("\n", " // comment, ]}\n") if pretty else text
    assert json.loads(strict_json(lenient)) == data


@settings(deadline=None, max_examples=200)
@given(JSON)
def test_R91_no_json_makes_the_reader_raise(data):
    for content in (data, {"providers": data}, {"providers": {"x": data}}, {"providers": {"x": {"models": data}}}):
        found = parse_models_json(content, Path("models.json"))
        assert found.errors or isinstance(content, dict)


# ── what is wrong ────────────────────────────────────────────────────────────────────────────────────────────


def test_R91_a_file_that_cannot_be_read_or_parsed_is_told_and_nothing_of_it_applies(registry, agent_dir):
    file = agent_dir / "models.json"
    for text, beginning in [
        ("{", "Failed to parse models.json: "),
        ('{"providers": {"x": {"baseUrl": NaN}}}', "Failed to parse models.json: "),
        ("[" * 100_000, "Failed to parse models.json: "),
        (b"\xff\xfe", "Failed to load models.json: "),
    ]:
        pi = registry(text)
        assert pi.get_error().startswith(beginning)
        assert pi.get_error().endswith(f"\n\nFile: {file}")
        assert pi.get_models("openai")
    file.unlink()
    file.mkdir()
    assert Registry().get_error().startswith("Failed to load models.json: ")


def test_R91_the_place_of_a_syntax_error_is_the_right_one(registry):
    pi = registry('{ // a comment, and here\n  "providers": {:}\n}')
    assert "line 2 column 17" in pi.get_error()


SCHEMA = {
    "providers: is required": {},
    "root: must be an object": [],
    "providers: must be an object": {"providers": []},
    "providers.x: must be an object": {"providers": {"x": 1}},
    "providers.x.baseUrl: must be a non-empty string": {"providers": {"x": {"baseUrl": ""}}},
    "providers.x.authHeader: must be a boolean": {"providers": {"x": {"authHeader": 1}}},
    "providers.x.headers: must be an object of strings": {"providers": {"x": {"headers": {"A": 1}}}},
    "providers.x.compat: must be an object": {"providers": {"x": {"compat": True}}},
    'providers.x.oauth: must be the string "radius"': {"providers": {"x": {"oauth": "other", "baseUrl": URL}}},
    "providers.x.models: must be an array": {"providers": {"x": {"models": {"id": "m"}}}},
    "providers.x.models.0.id: is required": {"providers": {"x": {"models": [{}]}}},
    "providers.x.models.1: must be an object": {"providers": {"x": {"models": [{"id": "m"}, "n"]}}},
    "providers.x.models.0.contextWindow: must be a number above 0": {
        "providers": {"x": {"models": [{"id": "m", "contextWindow": 0}]}}
    },
    "providers.x.models.0.maxTokens: must be a number above 0": {
        "providers": {"x": {"models": [{"id": "m", "maxTokens": True}]}}
    },
    'providers.x.models.0.input: must be an array of "text" and "image"': {
        "providers": {"x": {"models": [{"id": "m", "input": ["text", "smell"]}]}}
    },
    "providers.x.models.0.cost.cacheRead: is required": {
        "providers": {"x": {"models": [{"id": "m", "cost": {"input": 1, "output": 1, "cacheWrite": 1}}]}}
    },
    "providers.x.modelOverrides.m.cost.input: must be a number": {
        "providers": {"x": {"modelOverrides": {"m": {"cost": {"input": "free"}}}}}
    },
    "providers.x.modelOverrides: must be an object": {"providers": {"x": {"modelOverrides": []}}},
    "providers.x.models.0.samplingParamsByThinkingLevel.high: must be an object": {
        "providers": {"x": {"models": [{"id": "m", "samplingParamsByThinkingLevel": {"high": 1}}]}}
    },
    "providers.x.modelOverrides.m.name: must be a non-empty string": {
        "providers": {"x": {"modelOverrides": {"m": {"name": None}}}}
    },
}


@pytest.mark.parametrize("problem", SCHEMA)
def test_R90_a_field_of_the_wrong_type_is_told_with_its_place(registry, agent_dir, problem):
    pi = registry(json.dumps(SCHEMA[problem]))
    assert pi.get_error() == f"Invalid models.json schema:\n  - {problem}\n\nFile: {agent_dir / 'models.json'}"
    assert pi.get_provider("x") is None
    assert pi.get_models("openai")


def test_R90_unknown_fields_are_ignored(registry):
    pi = registry(
        {"x": {"baseUrl": URL, "api": CHAT, "foo": 1, "models": [{"id": "m", "bar": 2, "cost": COST | {"baz": 3}}]}}
    )
    assert pi.get_error() is None
    assert ids(pi, "x") == ["m"]


COST = {"input": 1, "output": 2, "cacheRead": 0.1, "cacheWrite": 1.25}


def test_R90_every_field_of_a_model_arrives(registry):
    pi = registry(
        {
            "x": {
                "baseUrl": URL,
                "models": [
                    {
                        "id": "m",
                        "name": "M",
                        "api": "anthropic-messages",
                        "baseUrl": "https://own.example",
                        "reasoning": True,
                        "input": ["text", "image"],
                        "cost": {**COST, "tiers": [{"inputTokensAbove": 200_000, **COST}]},
                        "contextWindow": 1000.0,
                        "maxTokens": 10,
                        "compat": {"supportsStore": False},
                        "thinkingLevelMap": {"high": "h", "low": None},
                        "samplingParams": {"top_k": 1},
                        "samplingParamsByThinkingLevel": {"high": {"top_k": 2}},
                        "promptCache": {"short": 300, "long": 3600},
                        "inputLimits": {"images": {"maxPerMessage": 1}},
                    }
                ],
            }
        }
    )
    assert pi.get_error() is None
    prices = {"input": 1, "output": 2, "cache_read": 0.1, "cache_write": 1.25}
    assert pi.get_model("x", "m") == Model(
        id="m",
        name="M",
        api="anthropic-messages",
        provider="x",
        base_url="https://own.example",
        reasoning=True,
        input=["text", "image"],
        cost=ModelCost(**prices, tiers=[CostTier(input_tokens_above=200_000, **prices)]),
        context_window=1000,
        max_tokens=10,
        compat={"supportsStore": False},
        thinking_level_map={"high": "h", "low": None},
        sampling_params={"top_k": 1},
        sampling_params_by_thinking_level={"high": {"top_k": 2}},
        prompt_cache=PromptCacheLifetime(short=300, long=3600),
        input_limits={"images": {"maxPerMessage": 1}},
    )


def test_R92_one_bad_entry_does_not_take_the_others_with_it(registry, agent_dir):
    pi = registry({"bad": {"baseUrl": 1}, "good": {"baseUrl": URL}, "worse": {"models": [{"id": ""}]}})
    assert pi.get_error() == (
        "Invalid models.json schema:\n"
        "  - providers.bad.baseUrl: must be a non-empty string\n"
        "  - providers.worse.models.0.id: must be a non-empty string\n\n"
        f"File: {agent_dir / 'models.json'}"
    )
    assert pi.get_provider("good")
    assert not pi.get_provider("bad")


def test_R93_an_entry_must_say_something(registry):
    nothing = [{}, {"models": []}, {"modelOverrides": {}}, {"name": "X"}, {"api": CHAT}, {"foo": 1}]
    for entry in nothing:
        pi = registry({"x": entry, "y": {"baseUrl": URL}})
        assert pi.get_error() == (
            'Provider "x": Provider x: must specify "baseUrl", "headers", "compat", "modelOverrides", or "models".'
        )
        assert pi.get_provider("x") is None
        assert pi.get_provider("y")


@pytest.mark.parametrize(
    "entry",
    [
        {"baseUrl": URL},
        {"headers": {"X": "1"}},
        {"compat": {"a": 1}},
        {"modelOverrides": {"gpt-5": {}}},
        {"models": [{"id": "m"}]},
        {"apiKey": "k"},
        {"authHeader": True},
        {"oauth": "radius", "baseUrl": URL},
    ],
)
def test_R93_any_of_these_is_something(registry, entry):
    pi = registry({"openai": entry})
    assert pi.get_error() is None
    assert pi.get_model("openai", "gpt-5")


def test_R94_a_login_needs_a_base_url(registry):
    pi = registry({"x": {"oauth": "radius"}})
    assert pi.get_error() == 'Provider "x": Provider x: "baseUrl" is required when "oauth" is set.'


def test_R95_a_custom_model_needs_an_api_and_a_base_url_from_somewhere(registry):
    pi = registry({"x": {"baseUrl": URL, "models": [{"id": "m"}]}, "y": {"api": CHAT, "models": [{"id": "m"}]}})
    assert pi.get_error() == (
        'Provider "x": Provider x, model m: no "api" specified. Set at provider or model level.\n\n'
        'Provider "y": Provider y: "baseUrl" is required when defining custom models.'
    )
    assert pi.get_provider("x") is pi.get_provider("y") is None


def test_R95_a_custom_model_of_a_built_in_provider_needs_neither_nor_a_key(registry):
    pi = registry({"openai": {"models": [{"id": "new-one"}]}})
    assert pi.get_error() is None
    first = Registry(models_path=None).get_models("openai")[0]
    new = pi.get_model("openai", "new-one")
    assert (new.api, new.base_url) == (first.api, first.base_url)
    assert ids(pi, "openai")[-1] == "new-one"


def test_R95_models_without_a_key_are_there_and_not_available(registry):
    pi = registry({"x": {"baseUrl": URL, "api": CHAT, "models": [{"id": "m"}]}})
    assert pi.get_model("x", "m") == Model(id="m", api=CHAT, provider="x", base_url=URL)
    assert not pi.has_configured_auth("x")
    assert pi.get_model("x", "m") not in pi.get_available()


def test_R12_what_is_wrong_with_one_provider_leaves_its_base_as_it_was(registry):
    pi = registry({"typesafe": {"models": [{"id": "m"}]}, "openai": {"models": [{"id": "m"}]}})
    assert pi.get_error() == (
        'Provider "typesafe": Provider typesafe, model m: no "api" specified. Set at provider or model level.'
    )
    assert ids(pi, "typesafe") == []
    assert pi.get_provider("typesafe").name == "TypeSafe"
    assert "m" in ids(pi, "openai")


def test_R91_several_errors_are_joined_by_a_blank_line(registry):
    error = registry({"x": {"baseUrl": 1}, "y": {}, "z": {"models": [{"id": "m"}]}}).get_error()
    schema, file, y, z = error.split("\n\n")
    assert schema.startswith("Invalid models.json schema:")
    assert file.startswith("File: ")
    assert y.startswith('Provider "y": ')
    assert z.startswith('Provider "z": ')


# ── what it does ─────────────────────────────────────────────────────────────────────────────────────────────


def test_R96_a_base_url_applies_to_all_models_and_compat_is_merged(registry):
    pi = registry({"groq": {"baseUrl": URL, "compat": {"supportsStore": True, "maxTokensField": "max_tokens"}}})
    plain = Registry(models_path=None).get_models("groq")
    for before, model in zip(plain, pi.get_models("groq"), strict=True):
        assert model.base_url == URL
        assert model.compat == {**(before.compat or {}), "supportsStore": True, "maxTokensField": "max_tokens"}
        model.base_url, model.compat = before.base_url, before.compat
        assert model == before


def test_R96_a_custom_model_takes_the_place_of_one_of_its_id_completely(registry):
    before = get_model("openai", "gpt-5")
    pi = registry({"openai": {"models": [{"id": "gpt-5"}]}})
    model = pi.get_model("openai", "gpt-5")
    assert model == Model(id="gpt-5", api=before.api, provider="openai", base_url=before.base_url)
    assert ids(pi, "openai") == ids(Registry(models_path=None), "openai")


def test_R96_entries_that_are_none_for_chat_are_left_out(registry):
    pi = registry({"openai": {"models": [{"id": "painter", "type": "image"}]}})
    assert "painter" not in ids(pi, "openai")
    assert "painter" in pi.get_error()


OVERRIDES = {
    "name": ({"name": "New"}, {"name": "New"}),
    "numbers": ({"contextWindow": 5, "maxTokens": 4}, {"context_window": 5, "max_tokens": 4}),
    "flags": ({"reasoning": False, "input": ["text"]}, {"reasoning": False, "input": ["text"]}),
    "prices": ({"cost": {"output": 99}}, {"cost": ModelCost(input=1, output=99, cache_read=3, cache_write=4)}),
    "tiers": (
        {"cost": {"tiers": [{"inputTokensAbove": 7, **COST}]}},
        {
            "cost": ModelCost(
                input=1,
                output=2,
                cache_read=3,
                cache_write=4,
                tiers=[CostTier(input_tokens_above=7, input=1, output=2, cache_read=0.1, cache_write=1.25)],
            )
        },
    ),
    "levels": ({"thinkingLevelMap": {"high": "H"}}, {"thinking_level_map": {"low": "l", "high": "H"}}),
    "cache": ({"promptCache": {"long": 9}}, {"prompt_cache": PromptCacheLifetime(short=1, long=9)}),
    "sampling": ({"samplingParams": {"b": 3}}, {"sampling_params": {"a": 1, "b": 3}}),
    "sampling by level": (
        {"samplingParamsByThinkingLevel": {"high": {"b": 3}, "low": {"c": 4}}},
        {"sampling_params_by_thinking_level": {"high": {"a": 1, "b": 3}, "low": {"c": 4}}},
    ),
    "limits": (
        {"inputLimits": {"images": {"resize": {"maxWidth": 5}}}},
        {"input_limits": {"images": {"maxPerMessage": 1, "resize": {"maxWidth": 5, "maxHeight": 2}}}},
    ),
    "compat": (
        {"compat": {"supportsStore": True, "openRouterRouting": {"only": ["b"]}}},
        {"compat": {"supportsStore": True, "openRouterRouting": {"order": ["a"], "only": ["b"]}}},
    ),
    "nothing": ({}, {}),
}


@pytest.mark.parametrize("case", OVERRIDES)
def test_R97_an_override_changes_what_it_names(registry, case):
    override, changes = OVERRIDES[case]
    entry = {
        "id": "m",
        "reasoning": True,
        "input": ["text", "image"],
        "cost": {"input": 1, "output": 2, "cacheRead": 3, "cacheWrite": 4},
        "thinkingLevelMap": {"low": "l", "high": "h"},
        "promptCache": {"short": 1, "long": 2},
        "samplingParams": {"a": 1, "b": 2},
        "samplingParamsByThinkingLevel": {"high": {"a": 1, "b": 2}},
        "inputLimits": {"images": {"maxPerMessage": 1, "resize": {"maxWidth": 1, "maxHeight": 2}}},
        "compat": {"supportsStore": False, "openRouterRouting": {"order": ["a"]}},
    }
    provider = {"baseUrl": URL, "api": CHAT, "models": [entry]}
    before = registry({"x": provider}).get_model("x", "m")
    pi = registry({"x": {**provider, "modelOverrides": {"m": override, "unknown": {"name": "Nobody"}}}})
    assert pi.get_error() is None
    after = pi.get_model("x", "m")
    for field, value in changes.items():
        assert getattr(after, field) == value
        setattr(after, field, getattr(before, field))
    assert after == before


def test_R97_an_override_of_a_built_in_model_leaves_the_others_alone(registry):
    pi = registry({"openai": {"modelOverrides": {"gpt-5": {"name": "Five", "promptCache": {"short": 1}}}}})
    plain = Registry(models_path=None)
    assert pi.get_model("openai", "gpt-5").name == "Five"
    assert pi.get_model("openai", "gpt-5").prompt_cache.short == 1
    assert [m for m in pi.get_models("openai") if m.id != "gpt-5"] == [
        m for m in plain.get_models("openai") if m.id != "gpt-5"
    ]


@pytest.mark.anyio
async def test_R98_the_file_is_read_again_on_refresh_and_never_otherwise(registry, agent_dir):
    pi = registry({"x": {"baseUrl": URL}})
    before = pi.get_provider("x")
    registry({"y": {"baseUrl": URL}})
    assert pi.get_provider("x") is before
    assert pi.get_provider("y") is None
    await pi.refresh()
    assert pi.get_provider("x") is None
    assert pi.get_provider("y").base_url == URL
    (agent_dir / "models.json").write_text("{")
    await pi.refresh()
    assert pi.get_error().startswith("Failed to parse")
    assert pi.get_provider("y") is None


def test_R98_a_read_is_one_immutable_snapshot(registry, agent_dir):
    registry({"x": {"baseUrl": URL}})
    found = read_models_json(agent_dir / "models.json")
    with pytest.raises(AttributeError):
        found.errors = ()
    with pytest.raises(AttributeError):
        found.entries["x"].config.base_url = "other"


def test_what_is_returned_is_the_callers_own(registry):
    pi = registry(
        {"x": {"baseUrl": URL, "api": CHAT, "models": [{"id": "m", "cost": COST, "compat": {"a": {"b": 1}}}]}}
    )
    model = pi.get_model("x", "m")
    model.compat["a"]["b"] = 2
    model.cost.input = 99
    model.input.append("image")
    again = pi.get_model("x", "m")
    assert (again.compat, again.cost.input, again.input) == ({"a": {"b": 1}}, 1, ["text"])
