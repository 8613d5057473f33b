"""Credentials from environment variables (core section 17)."""

from __future__ import annotations

import pytest

from pi_ai.auth import env as module
from pi_ai.auth.env import AUTHENTICATED, env_value, find_env_keys, get_env_api_key, get_env_bearer_token
from pi_ai.providers.catalogue import get_providers, provider_records

# Core section 17, where the variable is more than the provider's name and API_KEY.
SECTION_17 = {
    "anthropic": "ANTHROPIC_OAUTH_TOKEN ANTHROPIC_API_KEY",
    "azure": "AZURE_OPENAI_API_KEY",
    "google": "GEMINI_API_KEY",
    "google-vertex": "GOOGLE_CLOUD_API_KEY",
    "github-copilot": "COPILOT_GITHUB_TOKEN",
    "moonshotai": "MOONSHOT_API_KEY",
    "moonshotai-cn": "MOONSHOT_API_KEY",
    "huggingface": "HF_TOKEN",
    "vercel-ai-gateway": "AI_GATEWAY_API_KEY",
    "opencode-go": "OPENCODE_API_KEY",
    "kimi-coding": "KIMI_API_KEY",
    "cloudflare-workers-ai": "CLOUDFLARE_API_KEY",
    "cloudflare-ai-gateway": "CLOUDFLARE_API_KEY",
    "qwen-token-plan-individual": "QWEN_TOKEN_PLAN_API_KEY",
    "qwen-token-plan-individual-cn": "QWEN_TOKEN_PLAN_CN_API_KEY",
}
WITHOUT_A_KEY = {"amazon-bedrock", "openai-codex"}


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch, tmp_path):
    for record in provider_records().values():
        for name in (*record["apiKeyEnv"], *record["credentialEnv"]):
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "no-gcloud"))


@pytest.mark.parametrize("provider", [name for name in get_providers() if name not in WITHOUT_A_KEY])
def test_the_variables_are_those_of_section_17(provider):
    usual = f"{provider.upper().replace('-', '_')}_API_KEY"
    names = SECTION_17.get(provider, usual).split()
    for name in reversed(names):
        assert get_env_api_key(provider, {name: "key"}) == "key"
    every = {name: f"value of {name}" for name in names}
    assert get_env_api_key(provider, every) == f"value of {names[0]}"
    assert find_env_keys(provider, every) == names


def test_the_variables_are_those_of_the_catalogue():
    ours = {
        provider: [*module._BEARER_TOKENS.get(provider, ()), *module._KEYS.get(provider, ())]
        for provider in get_providers()
    }
    assert ours == {provider: record["apiKeyEnv"] for provider, record in provider_records().items()}
    for provider, groups in module._AMBIENT.items():
        assert {name for group in groups for name in group} <= set(provider_records()[provider]["credentialEnv"])
    assert {*module._KEYS, *module._BEARER_TOKENS, *module._AMBIENT} <= set(get_providers())


def test_an_unknown_provider_has_no_key_ev1():
    assert get_env_api_key("nobody") is None
    assert get_env_bearer_token("nobody") is None
    assert find_env_keys("nobody") is None


def test_without_variables_there_is_no_key_ev1_ev2():
    for provider in get_providers():
        assert get_env_api_key(provider) is None
        assert find_env_keys(provider) is None


def test_the_requests_own_env_wins_over_the_process_environment(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "of the process")
    assert get_env_api_key("openai") == "of the process"
    assert get_env_api_key("openai", {"OPENAI_API_KEY": "of the request"}) == "of the request"
    assert get_env_api_key("openai", {"GROQ_API_KEY": "other"}) == "of the process"


@pytest.mark.parametrize("empty", ["", "  ", "\n"])
def test_an_empty_variable_is_unset(monkeypatch, empty):
    monkeypatch.setenv("ANTHROPIC_OAUTH_TOKEN", empty)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key")
    assert get_env_api_key("anthropic") == "key"
    assert get_env_api_key("anthropic", {"ANTHROPIC_API_KEY": empty}) == "key"
    assert find_env_keys("anthropic") == ["ANTHROPIC_API_KEY"]


def test_white_space_around_a_value_is_no_part_of_it():
    assert env_value("X", {"X": "key\r\n"}) == "key"


def test_anthropics_auth_token_is_a_bearer_token_and_no_key():
    env = {"ANTHROPIC_AUTH_TOKEN": "token"}
    assert get_env_api_key("anthropic", env) is None
    assert get_env_bearer_token("anthropic", env) == "token"
    assert find_env_keys("anthropic", env) == ["ANTHROPIC_AUTH_TOKEN"]
    both = {**env, "ANTHROPIC_API_KEY": "key"}
    assert get_env_api_key("anthropic", both) == "key"
    assert get_env_bearer_token("anthropic", both) == "token"
    assert find_env_keys("anthropic", both) == ["ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY"]


@pytest.mark.parametrize(
    "names",
    [
        ["AWS_BEARER_TOKEN_BEDROCK"],
        ["AWS_PROFILE"],
        ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
        ["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"],
        ["AWS_CONTAINER_CREDENTIALS_FULL_URI"],
        ["AWS_WEB_IDENTITY_TOKEN_FILE"],
    ],
)
def test_aws_credentials_are_told_by_a_marker_that_is_no_key_ev1(names):
    env = dict.fromkeys(names, "secret")
    assert get_env_api_key("amazon-bedrock", env) == AUTHENTICATED == "<authenticated>"
    assert find_env_keys("amazon-bedrock", env) == names


def test_half_a_pair_of_aws_keys_authenticates_nobody():
    assert get_env_api_key("amazon-bedrock", {"AWS_ACCESS_KEY_ID": "id"}) is None


@pytest.mark.parametrize("project", ["GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT"])
def test_vertex_is_authenticated_by_a_credential_file_a_project_and_a_location_ev1(tmp_path, project):
    file = tmp_path / "key.json"
    file.write_text("{}")
    env = {"GOOGLE_APPLICATION_CREDENTIALS": str(file), project: "p", "GOOGLE_CLOUD_LOCATION": "europe-west1"}
    assert get_env_api_key("google-vertex", env) == AUTHENTICATED
    assert find_env_keys("google-vertex", env) == ["GOOGLE_APPLICATION_CREDENTIALS", project, "GOOGLE_CLOUD_LOCATION"]
    for missing in env:
        assert get_env_api_key("google-vertex", {**env, missing: ""}) is None
    assert get_env_api_key("google-vertex", {**env, "GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "none")}) is None
    assert get_env_api_key("google-vertex", {**env, "GOOGLE_CLOUD_API_KEY": "key"}) == "key"


def test_vertex_finds_the_file_that_gcloud_writes(tmp_path):
    (tmp_path / "application_default_credentials.json").write_text("{}")
    env = {"CLOUDSDK_CONFIG": str(tmp_path), "GOOGLE_CLOUD_PROJECT": "p", "GOOGLE_CLOUD_LOCATION": "global"}
    assert get_env_api_key("google-vertex", env) == AUTHENTICATED
    assert find_env_keys("google-vertex", env) == ["GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION"]
