"""The built-in catalogue: the shipped data, and how models are found in it."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pi_ai
from pi_ai.providers import catalogue
from pi_ai.providers.catalogue import (
    UnknownModel,
    UnknownProvider,
    closest,
    find_model,
    get_model,
    get_models,
    get_providers,
    provider_records,
)
from pi_ai.serialization import from_json
from pi_ai.types import Model

CATALOG = Path(catalogue.__file__).with_name("catalog")
LINES = [json.loads(line) for line in (CATALOG / "models.jsonl").read_text(encoding="utf-8").splitlines()]
APIS = {
    "anthropic-messages",
    "azure-openai-responses",
    "bedrock-converse-stream",
    "google-generative-ai",
    "google-vertex",
    "mistral-conversations",
    "openai-codex-responses",
    "openai-completions",
    "openai-responses",
    "pi-messages",
}
LEVELS = {"off", "minimal", "low", "medium", "high", "xhigh", "max"}
ONLY_ON_RADIUS = {"lab", "enabled", "providers", "free"}


# ── the data ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_line_is_sorted_unique_and_begins_with_what_it_is_looked_up_by():
    raw = (CATALOG / "models.jsonl").read_bytes()
    keys = [(line["provider"], line["id"]) for line in LINES]
    assert len(keys) == 1643
    assert keys == sorted(set(keys))
    assert raw == b"".join(
        json.dumps({"provider": line["provider"], "id": line["id"], **line}, separators=(",", ":")).encode() + b"\n"
        for line in LINES
    )


def test_every_key_of_every_line_reaches_the_model_but_for_facts_of_the_radius_gateway():
    for line in LINES:
        assert line.keys() & ONLY_ON_RADIUS == set() or line["provider"] == "radius"
        known = catalogue._attributes(Model).keys()
        assert line.keys() - ONLY_ON_RADIUS <= known
        assert line["cost"].keys() <= catalogue._attributes(catalogue.ModelCost).keys()


def test_every_line_makes_the_model_that_from_json_makes_of_it():
    assert get_models() == [from_json(Model, line) for line in LINES]


def test_every_model_is_sound():
    for model in get_models():
        where = f"{model.provider}/{model.id}"
        assert model.api in APIS, where
        assert model.name, where
        assert model.id, where
        assert model.base_url == "" or model.base_url.startswith("https://"), where
        assert {"text"} <= set(model.input) <= {"text", "image"}, where
        assert model.max_tokens > 0, where
        assert model.context_window > 0, where
        assert set(model.thinking_level_map or {}) <= LEVELS, where
        thresholds = [tier.input_tokens_above for tier in model.cost.tiers or []]
        assert all(above > 0 for above in thresholds), where
        for prices in (model.cost, *(model.cost.tiers or [])):
            assert min(prices.input, prices.output, prices.cache_read, prices.cache_write) >= 0, where


def test_the_providers_file_agrees_with_the_models_file():
    records = provider_records()
    assert list(records) == sorted(records) == get_providers()
    assert set(records) >= {line["provider"] for line in LINES}
    for provider, record in records.items():
        own = [line for line in LINES if line["provider"] == provider]
        assert record["models"] == len(own)
        assert record["apis"] == sorted({line["api"] for line in own})


# ── looking up ───────────────────────────────────────────────────────────────────────────────────────────────


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(LINES))
def test_a_model_is_found_by_provider_and_id(line):
    model = get_model(line["provider"], line["id"])
    assert (model.provider, model.id, model.name) == (line["provider"], line["id"], line["name"])
    assert model.base_url == line["baseUrl"]


def test_nested_prices_and_lifetimes_are_objects():
    tiered = next(line for line in LINES if "tiers" in line["cost"])
    model = get_model(tiered["provider"], tiered["id"])
    assert model.cost.tiers[0].input_tokens_above == tiered["cost"]["tiers"][0]["inputTokensAbove"]
    cached = next(line for line in LINES if "promptCache" in line)
    model = get_model(cached["provider"], cached["id"])
    assert attrs.asdict(model.prompt_cache) == cached["promptCache"]


def test_every_look_up_gives_an_object_of_its_own():
    first = get_model("anthropic", "claude-sonnet-4-5")
    first.cost.input = 99
    first.input.append("smell")
    second = get_model("anthropic", "claude-sonnet-4-5")
    assert second.cost.input != 99
    assert "smell" not in second.input


def test_models_are_listed_by_provider():
    assert [model.id for model in get_models("openai")] == [
        line["id"] for line in LINES if line["provider"] == "openai"
    ]
    assert len(get_models()) == len(LINES)


def test_a_provider_that_begins_like_another_does_not_list_its_models():
    assert {model.provider for model in get_models("opencode")} == {"opencode"}
    assert {model.provider for model in get_models("zai")} == {"zai"}


def test_a_provider_may_have_no_models():
    assert get_models("typesafe") == []


def test_an_id_that_begins_like_another_is_not_that_one():
    assert find_model("anthropic", "claude-sonnet-4") is None
    assert find_model("anthropic", "claude-sonnet-4-5").id == "claude-sonnet-4-5"


@settings(deadline=None, max_examples=100)
@given(*[st.text(st.characters(exclude_categories=()))] * 2)
def test_no_text_breaks_the_search(provider, name):
    found = find_model(provider, name)
    assert found is None or (found.provider, found.id) == (provider, name)


@pytest.mark.parametrize("name", ['claude-sonnet-4-5","name":"Claude', "claude-sonnet-4-5\n", "", "*"])
def test_an_id_is_never_taken_for_syntax(name):
    assert find_model("anthropic", name) is None


def test_an_unknown_model_is_a_lookup_error_that_names_the_closest_ids():
    with pytest.raises(UnknownModel) as caught:
        get_model("anthropic", "claude-sonet-4-5")
    assert isinstance(caught.value, LookupError)
    assert caught.value.closest[0] == "claude-sonnet-4-5"
    assert 1 <= len(caught.value.closest) <= 3
    assert str(caught.value).startswith(
        "provider 'anthropic' has no model 'claude-sonet-4-5'; closest: claude-sonnet-4-5"
    )


def test_an_unknown_provider_is_a_lookup_error_that_names_the_closest_providers():
    for call in (lambda: get_model("antropic", "claude-sonnet-4-5"), lambda: get_models("antropic")):
        with pytest.raises(UnknownProvider) as caught:
            call()
        assert isinstance(caught.value, LookupError)
        assert str(caught.value).startswith("the catalogue has no provider 'antropic'; closest: anthropic")


def test_provider_and_id_may_be_one_name():
    assert get_model("groq/openai/gpt-oss-120b") == get_model("groq", "openai/gpt-oss-120b")
    assert pi_ai.get_model("groq/openai/gpt-oss-120b") == get_model("groq", "openai/gpt-oss-120b")
    for name in ("groq", "groq/"):
        with pytest.raises(TypeError, match=r'get_model\("groq/…"\)'):
            get_model(name)


def test_who_looks_for_the_sandbox_is_told_where_it_is():
    with pytest.raises(UnknownProvider, match=r"pi_ai\.testing\.Sandbox"):
        get_model("sandbox", "openai-completions")


def test_nothing_is_suggested_where_nothing_is_alike():
    with pytest.raises(UnknownModel) as caught:
        get_model("anthropic", "zzzzzzzz")
    assert str(caught.value) == "provider 'anthropic' has no model 'zzzzzzzz'"


def test_upper_and_lower_case_are_alike_to_suggestions():
    assert closest("GPT-5", ["o3", "gpt-5"]) == ["gpt-5"]


def test_the_errors_survive_pickling():
    for error in (UnknownModel("p", "i", ["a"]), UnknownProvider("p", [])):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again)) == (type(error), str(error))


# ── what it costs ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_catalogue_is_read_when_a_model_is_asked_for_and_needs_no_heavy_library():
    program = """
import sys, pathlib
read = []
sys.addaudithook(lambda name, args: name == "open" and str(args[0]).endswith(".jsonl") and read.append(args[0]))
from pi_ai.providers.catalogue import get_model
before = set(sys.modules)
assert read == [], read
get_model("anthropic", "claude-sonnet-4-5")
get_model("openai", "gpt-5")
assert [pathlib.Path(path).name for path in read] == ["models.jsonl"], read
assert not {"cattrs", "httpx", "jiter", "jsonschema_rs", "tenacity"} & (set(sys.modules) - before)
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[1])
