"""``pi-ai models``: which models are listed, and how."""

from __future__ import annotations

import json

import pytest

from pi_ai import Model, cli, from_json, get_model
from pi_ai.auth.env import find_env_keys
from pi_ai.providers.catalogue import get_models, get_providers


@pytest.fixture
def models(monkeypatch, capsys):
    """Runs the command in a process that has used no registry yet, and in which no key is set."""
    monkeypatch.setattr("pi_ai.registry._default", None)
    for provider in get_providers():
        for name in find_env_keys(provider) or ():
            monkeypatch.delenv(name)

    def run(*arguments):
        status = cli.main(["models", *arguments])
        return status, *capsys.readouterr()

    return run


def test_all_models_are_listed_one_a_line(models):
    status, out, err = models()
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert [line.split()[0] for line in lines if not line.startswith("local/")] == [
        f"{model.provider}/{model.id}" for model in get_models()
    ]
    assert any(line.startswith("local/smollm2-135m ") for line in lines)


def test_a_line_tells_window_prices_and_abilities(models):
    _, out, _ = models("--provider", "anthropic", "--search", "sonnet-4-5-")
    assert out == "anthropic/claude-sonnet-4-5-20250929    200,000 tokens  $3 in, $15 out  thinking, images\n"


def test_models_are_searched_by_provider_id_and_name_in_any_case(models):
    for words in ("CLAUDE-SONNET-4-5", "anthropic/claude-sonnet", "Claude Sonnet 4.5"):
        _, out, _ = models("--provider", "anthropic", "--search", words)
        assert "anthropic/claude-sonnet-4-5 " in out
    assert models("--search", "no such model")[:2] == (0, "")


def test_json_is_one_model_a_line(models):
    _, out, _ = models("--provider", "anthropic", "--json")
    found = [from_json(Model, json.loads(line)) for line in out.splitlines()]
    assert found == get_models("anthropic")


def test_only_models_that_can_be_used_are_available(models, monkeypatch):
    monkeypatch.setattr("pi_ai.providers.local.is_available", lambda: False)
    assert models("--available")[:2] == (0, "")
    monkeypatch.setenv("GROQ_API_KEY", "k")
    _, out, _ = models("--available", "--json")
    assert {json.loads(line)["provider"] for line in out.splitlines()} == {"groq"}
    assert models("--available", "--provider", "anthropic") == (0, "", "No model fits; configured are: groq.\n")


def test_an_unknown_provider_is_an_error_that_names_the_closest(models):
    status, out, err = models("--provider", "antropic")
    assert (status, out) == (1, "")
    assert err.startswith("pi-ai: the catalogue has no provider 'antropic'; closest: anthropic")


def test_the_users_own_models_are_listed_and_what_is_wrong_with_his_file_is_told(models, agent_dir):
    (agent_dir / "models.json").write_text(
        json.dumps(
            {
                "providers": {
                    "mine": {"baseUrl": "https://x.example", "api": "a", "models": [{"id": "m\u001b[31m"}]},
                    "bad": {"baseUrl": 5},
                }
            }
        )
    )
    status, out, err = models("--provider", "mine")
    assert status == 0
    assert out.startswith("mine/m\\u001b[31m ")
    assert "providers.bad.baseUrl: must be a non-empty string" in err


def test_the_model_that_is_asked_may_be_the_users_own(monkeypatch, agent_dir):
    monkeypatch.setattr("pi_ai.registry._default", None)
    (agent_dir / "models.json").write_text(
        '{"providers": {"mine": {"baseUrl": "https://x.example", "api": "a", "models": [{"id": "m"}]}}}'
    )
    assert get_model("anthropic", "claude-sonnet-4-5")
    from pi_ai import calls

    assert calls.get_model("mine", "m").base_url == "https://x.example"
