"""The request of the Responses API at Azure: pi-ai's own (goldens), and what the spec says of it (section 10)."""

from __future__ import annotations

from typing import Any

import pytest

from pi_ai.adapters.azure_openai_responses import AzureOpenAIResponses, AzureOpenAIResponsesOptions
from pi_ai.errors import AuthError, ConfigError, PiAIError
from pi_ai.types import AssistantMessage, Context, Model, StreamOptions, Tool, ToolCall, UserMessage
from pi_ai_tests.adapters.differences import DIFFERENCES
from pi_ai_tests.adapters.golden import cases, check, of_parts, request_differences, sent_body

API = "azure-openai-responses"
ADAPTER = AzureOpenAIResponses()
HELLO = Context([UserMessage("Hello")])
VARIABLES = ("BASE_URL", "RESOURCE_NAME", "API_VERSION", "DEPLOYMENT_NAME_MAP", "API_KEY")


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(f"AZURE_OPENAI_{name}", raising=False)


def model(**fields: Any) -> Model:
    return Model(**{"id": "gpt-x", "api": API, "provider": "azure", **fields})


def request(model: Model, context: Context = HELLO, **options: Any) -> Any:
    return ADAPTER.build_request(model, context, AzureOpenAIResponsesOptions(**{"api_key": "key", **options}))


def url(base_url: str | None, **options: Any) -> str:
    return request(model(), azure_base_url=base_url, **options).url


@pytest.mark.parametrize("golden", cases(API))
def test_the_request_is_the_one_that_pi_ai_sends(golden: dict[str, Any]) -> None:
    known = of_parts(DIFFERENCES[API].get(golden["name"]), "refused", "url", "headers", "body")
    check(request_differences(ADAPTER, golden), known, golden["name"])


# ── where it goes (A1, A2) ───────────────────────────────────────────────────────────────────────────────────


def test_A1_the_resource_tells_the_endpoint() -> None:
    built = request(model(), env={"AZURE_OPENAI_RESOURCE_NAME": "x"})
    assert built.url == "https://x.openai.azure.com/openai/v1/responses?api-version=v1"
    assert built.headers["api-key"] == "key"
    assert "Authorization" not in built.headers


@pytest.mark.parametrize(
    ("base", "path"),
    [
        ("https://x.openai.azure.com", "https://x.openai.azure.com/openai/v1/responses"),
        ("https://x.openai.azure.com/", "https://x.openai.azure.com/openai/v1/responses"),
        (" https://x.openai.azure.com/openai/ ", "https://x.openai.azure.com/openai/v1/responses"),
        ("https://x.openai.azure.com/openai/v1?a=b", "https://x.openai.azure.com/openai/v1/responses"),
        (
            "https://x.openai.azure.com/openai/v1/responses?api-version=z",
            "https://x.openai.azure.com/openai/v1/responses",
        ),
        ("https://x.cognitiveservices.azure.com/openai", "https://x.cognitiveservices.azure.com/openai/v1/responses"),
        ("https://x.services.ai.azure.com", "https://x.services.ai.azure.com/openai/v1/responses"),
        ("https://x.openai.azure.com/other", "https://x.openai.azure.com/other/responses"),
        ("https://proxy.example/openai", "https://proxy.example/openai/responses"),
        ("https://x.openai.azure.com.evil.example", "https://x.openai.azure.com.evil.example/responses"),
        ("http://127.0.0.1:8080/v1/", "http://127.0.0.1:8080/v1/responses"),
    ],
)
def test_A2_azures_own_hosts_have_the_path_of_the_api_and_others_keep_theirs(base: str, path: str) -> None:
    assert url(base) == f"{path}?api-version=v1"


def test_a_query_of_ones_own_stays_behind_the_path() -> None:
    assert url("https://proxy.example/v1?tenant=a") == "https://proxy.example/v1/responses?tenant=a&api-version=v1"


def test_options_go_before_the_environment_and_that_before_the_model() -> None:
    env = {"AZURE_OPENAI_BASE_URL": "https://env.example", "AZURE_OPENAI_API_VERSION": "2025 1"}
    own = model(base_url="https://model.example")
    assert request(own).url.startswith("https://model.example/")
    assert request(own, azure_resource_name="r").url.startswith("https://r.openai.azure.com/")
    assert request(own, env=env, azure_resource_name="r").url == "https://env.example/responses?api-version=2025%201"
    found = request(own, env=env, azure_base_url="https://option.example", azure_api_version="preview").url
    assert found == "https://option.example/responses?api-version=preview"


def test_settings_may_stand_in_the_process_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_RESOURCE_NAME", "here")
    assert request(model()).url.startswith("https://here.openai.azure.com/")
    assert request(model(), env={"AZURE_OPENAI_RESOURCE_NAME": "there"}).url.startswith("https://there.")


def test_without_an_endpoint_the_error_names_the_settings() -> None:
    with pytest.raises(ConfigError, match="AZURE_OPENAI_BASE_URL or AZURE_OPENAI_RESOURCE_NAME"):
        request(model())


@pytest.mark.parametrize("base", ["not a url", "x.openai.azure.com", "https://", "ftp://x.example"])
def test_an_endpoint_that_is_none_is_refused(base: str) -> None:
    with pytest.raises(ConfigError):
        url(base)


def test_an_endpoint_with_a_password_is_refused_unquoted_X7() -> None:
    with pytest.raises(PiAIError) as caught:
        url("https://user:secret@x.openai.azure.com")
    assert caught.value.info.kind == "config"
    assert "secret" not in str(caught.value)


# ── who asks, and for what (A3) ──────────────────────────────────────────────────────────────────────────────


def test_a_key_is_needed_unless_a_token_is_given() -> None:
    with pytest.raises(AuthError, match="No API key for provider: azure"):
        request(model(base_url="https://x.example"), api_key=None)
    for header in ("Authorization", "API-Key"):
        headers = request(model(base_url="https://x.example"), api_key=None, headers={header: "own"}).headers
        assert headers[header] == "own"


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "gpt-x"),
        ({"env": {"AZURE_OPENAI_DEPLOYMENT_NAME_MAP": "gpt-x=dep, bad"}}, "dep"),
        ({"env": {"AZURE_OPENAI_DEPLOYMENT_NAME_MAP": "bad,,=,gpt-x"}}, "gpt-x"),
        ({"env": {"AZURE_OPENAI_DEPLOYMENT_NAME_MAP": "a=b, gpt-x = c=d "}}, "c=d"),
        ({"env": {"AZURE_OPENAI_DEPLOYMENT_NAME_MAP": "gpt-x=dep"}, "azure_deployment_name": "own"}, "own"),
    ],
)
def test_A3_the_body_names_the_deployment(options: Any, name: str) -> None:
    assert sent_body(request(model(base_url="https://x.example"), **options))["model"] == name


def test_the_body_has_nothing_that_azure_does_not_know() -> None:
    thinker = model(base_url="https://x.example", reasoning=True, compat={"supportsLongCacheRetention": True})
    tools = [Tool("f", "F.", {"type": "object", "properties": {}})]
    built = request(thinker, Context([], tools=tools), session_id="s", cache_retention="long", max_tokens=1)
    body = sent_body(built)
    assert body["tools"][0]["strict"] is False
    assert (body["prompt_cache_key"], body["max_output_tokens"]) == ("s", 16)
    assert not {"service_tier", "prompt_cache_retention", "prompt_cache_options"} & body.keys()
    assert "session-id" not in built.headers
    assert "prompt_cache_key" not in sent_body(request(thinker, session_id="s", cache_retention="none"))


def test_ids_of_openais_items_are_carried_over() -> None:
    call = AssistantMessage(
        [ToolCall("c|fc_1", "f", {})], api="openai-responses", provider="openai", stop_reason="stop"
    )
    items = request(model(base_url="https://x.example"), Context([call])).body["input"]
    assert items[0]["id"].startswith("fc_")
    assert items[0]["call_id"] == "c"


def test_portable_options_are_lowered_without_azures_own() -> None:
    lowered = ADAPTER.lower(model(reasoning=True), HELLO, StreamOptions(reasoning="high", api_key="k"))
    assert (lowered.reasoning_effort, lowered.api_key, lowered.azure_base_url) == ("high", "k", None)
