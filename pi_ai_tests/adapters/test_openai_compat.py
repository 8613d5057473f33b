"""What servers of the chat completions API do differently: flags, detection, and ways to ask for thought."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from pi_ai.adapters._openai_compat import PROFILES, Compat
from pi_ai.adapters.openai_completions import OpenAICompletions, OpenAICompletionsOptions
from pi_ai.errors import ConfigError
from pi_ai.types import Context, Model, UserMessage
from pi_ai_tests.adapters.golden import sent_body

API = "openai-completions"
OPENAI = "https://api.openai.com/v1"
LOCAL = "http://localhost:11434/v1"


def model(**fields: Any) -> Model:
    return Model(**{"id": "gpt-test", "api": API, "provider": "openai", "base_url": OPENAI, **fields})


def deepseek(**fields: Any) -> Model:
    return model(provider="deepseek", base_url="https://api.deepseek.com", reasoning=True, **fields)


def body(model: Model, context: Context | None = None, **options: Any) -> dict[str, Any]:
    given = OpenAICompletionsOptions(**{"api_key": "sk-test", **options})
    return sent_body(OpenAICompletions().build_request(model, context or Context([UserMessage("Hello")]), given))


# ── thinking (section 5, R7-R10) ─────────────────────────────────────────────────────────────────────────────

MAPS: dict[str, dict[Any, Any] | None] = {
    "plain": None,
    "cannot-stop": {"medium": "M", "off": None},
    "off-none": {"off": "none"},
}
MARKED = {"enable_thinking": True, "preserve_thinking": True}
FORMATS: list[tuple[str, dict[str, tuple[dict[str, Any], dict[str, Any]]]]] = [
    (
        "openai",
        {
            "plain": ({}, {"reasoning_effort": "medium"}),
            "cannot-stop": ({}, {"reasoning_effort": "M"}),
            "off-none": ({"reasoning_effort": "none"}, {"reasoning_effort": "medium"}),
        },
    ),
    (
        "openrouter",
        {
            "plain": ({"reasoning": {"effort": "none"}}, {"reasoning": {"effort": "medium"}}),
            "cannot-stop": ({}, {"reasoning": {"effort": "M"}}),
            "off-none": ({"reasoning": {"effort": "none"}}, {"reasoning": {"effort": "medium"}}),
        },
    ),
    (
        "deepseek",
        {
            "plain": (
                {"thinking": {"type": "disabled"}},
                {"thinking": {"type": "enabled"}, "reasoning_effort": "medium"},
            ),
            "cannot-stop": ({}, {"thinking": {"type": "enabled"}, "reasoning_effort": "M"}),
            "off-none": (
                {"thinking": {"type": "disabled"}},
                {"thinking": {"type": "enabled"}, "reasoning_effort": "medium"},
            ),
        },
    ),
    (
        "zai",
        {
            "plain": (
                {"thinking": {"type": "disabled"}},
                {"thinking": {"type": "enabled", "clear_thinking": False}, "reasoning_effort": "medium"},
            ),
            "cannot-stop": (
                {},
                {"thinking": {"type": "enabled", "clear_thinking": False}, "reasoning_effort": "M"},
            ),
            "off-none": (
                {"thinking": {"type": "disabled"}},
                {"thinking": {"type": "enabled", "clear_thinking": False}, "reasoning_effort": "medium"},
            ),
        },
    ),
    (
        "qwen",
        {
            "plain": ({"enable_thinking": False}, {"enable_thinking": True, "reasoning_effort": "medium"}),
            "cannot-stop": ({}, {"enable_thinking": True, "reasoning_effort": "M"}),
            "off-none": ({"enable_thinking": False}, {"enable_thinking": True, "reasoning_effort": "medium"}),
        },
    ),
    (
        "qwen-chat-template",
        {
            "plain": (
                {"chat_template_kwargs": {**MARKED, "enable_thinking": False}},
                {"chat_template_kwargs": MARKED},
            ),
            "cannot-stop": ({}, {"chat_template_kwargs": MARKED}),
            "off-none": (
                {"chat_template_kwargs": {**MARKED, "enable_thinking": False}},
                {"chat_template_kwargs": MARKED},
            ),
        },
    ),
    (
        "chat-template",
        {
            "plain": (
                {"chat_template_kwargs": {"t": False}},
                {"chat_template_kwargs": {"t": True, "e": "medium", "b": 8192}},
            ),
            "cannot-stop": (
                {"chat_template_kwargs": {"t": False}},
                {"chat_template_kwargs": {"t": True, "e": "M", "b": 8192}},
            ),
            "off-none": (
                {"chat_template_kwargs": {"t": False, "e": "none"}},
                {"chat_template_kwargs": {"t": True, "e": "medium", "b": 8192}},
            ),
        },
    ),
    (
        "baseten",
        {
            "plain": (
                {"chat_template_args": {"t": False}},
                {"chat_template_args": {"t": True}, "reasoning_effort": "medium"},
            ),
            "cannot-stop": (
                {"chat_template_args": {"t": False}},
                {"chat_template_args": {"t": True}, "reasoning_effort": "M"},
            ),
            "off-none": (
                {"chat_template_args": {"t": False}, "reasoning_effort": "none"},
                {"chat_template_args": {"t": True}, "reasoning_effort": "medium"},
            ),
        },
    ),
    (
        "together",
        {
            "plain": (
                {"reasoning": {"enabled": False}},
                {"reasoning": {"enabled": True}, "reasoning_effort": "medium"},
            ),
            "cannot-stop": ({}, {"reasoning": {"enabled": True}, "reasoning_effort": "M"}),
            "off-none": (
                {"reasoning": {"enabled": False}},
                {"reasoning": {"enabled": True}, "reasoning_effort": "medium"},
            ),
        },
    ),
    (
        "string-thinking",
        {
            "plain": ({"thinking": "none"}, {"thinking": "medium"}),
            "cannot-stop": ({}, {"thinking": "M"}),
            "off-none": ({"thinking": "none"}, {"thinking": "medium"}),
        },
    ),
    (
        "ant-ling",
        {"plain": ({}, {}), "cannot-stop": ({}, {"reasoning": {"effort": "M"}}), "off-none": ({}, {})},
    ),
]
NOT_THINKING = {"model", "messages", "stream", "stream_options", "store"}
TEMPLATES = {
    "chat_template_kwargs": {
        "t": {"$var": "thinking.enabled"},
        "e": {"$var": "thinking.effort"},
        "b": {"$var": "thinking.budget"},
    },
    "chat_template_args": {"t": {"$var": "thinking.enabled"}},
}


def thinking_of(format_: str, level: Any, **fields: Any) -> dict[str, Any]:
    thinker = model(**{"reasoning": True, "compat": {"thinking_format": format_, **TEMPLATES}, **fields})
    return {key: value for key, value in body(thinker, reasoning_effort=level).items() if key not in NOT_THINKING}


@pytest.mark.parametrize("levels", MAPS)
@pytest.mark.parametrize(("format_", "expected"), FORMATS, ids=[name for name, _ in FORMATS])
def test_R7_each_format_asks_for_thought_in_its_way(format_: str, expected: dict[str, Any], levels: str) -> None:
    off, medium = expected[levels]
    assert thinking_of(format_, None, thinking_level_map=MAPS[levels]) == off
    assert thinking_of(format_, "medium", thinking_level_map=MAPS[levels]) == medium
    assert thinking_of(format_, "medium", thinking_level_map=MAPS[levels], reasoning=False) == {}


def test_R7_no_effort_is_sent_to_a_server_that_knows_none() -> None:
    for format_, left in {
        "openai": {},
        "deepseek": {"thinking": {"type": "enabled"}},
        "zai": {"thinking": {"type": "enabled", "clear_thinking": False}},
        "qwen": {"enable_thinking": True},
        "together": {"reasoning": {"enabled": True}},
        "openrouter": {"reasoning": {"effort": "medium"}},
    }.items():
        compat = {"thinking_format": format_, "supports_reasoning_effort": False}
        assert thinking_of(format_, "medium", compat=compat) == left


def test_R8_a_template_is_filled_in() -> None:
    values = {
        "a": 1,
        "e": {"$var": "thinking.enabled"},
        "f": {"$var": "thinking.effort", "omitWhenOff": True},
        "g": {"nested": True},
        "h": {"$var": "unknown"},
    }
    compat = {"thinkingFormat": "chat-template", "chatTemplateKwargs": values}
    off = thinking_of("", None, compat=compat, thinking_level_map={"off": "none"})
    assert off == {"chat_template_kwargs": {"a": 1, "e": False, "g": {"nested": True}}}
    assert thinking_of("", "low", compat=compat)["chat_template_kwargs"]["f"] == "low"
    assert thinking_of("", "low", compat={"thinkingFormat": "chat-template"}) == {}


@pytest.mark.parametrize(
    ("max_tokens", "budgets", "level", "budget"),
    [
        (4096, None, "high", 3072),  # R9
        (1000, None, "high", None),  # R10
        (None, None, "xhigh", 15_360),  # of the model's own limit
        (None, {"low": 99}, "low", 99),
        (4096, None, None, None),
    ],
)
def test_R9_R10_a_budget_leaves_room_for_the_answer(max_tokens: Any, budgets: Any, level: Any, budget: Any) -> None:
    thinker = model(reasoning=True, compat={"thinking_token_budget_field": "thinking_budget_tokens"})
    sent = body(thinker, max_tokens=max_tokens, thinking_budgets=budgets, reasoning_effort=level)
    assert sent.get("thinking_budget_tokens") == budget


# ── flags and vendors (sections 3 and 4) ─────────────────────────────────────────────────────────────────────


def test_a_flag_may_be_spelled_as_in_json_or_as_in_python() -> None:
    camel = Compat.of(model(compat={"maxTokensField": "max_tokens", "supportsOpenAIGrammarTools": True, "unknown": 1}))
    snake = Compat.of(model(compat={"max_tokens_field": "max_tokens", "supports_openai_grammar_tools": True}))
    assert camel == snake
    assert camel.supports_openai_grammar_tools


@pytest.mark.parametrize("compat", [{"supportsStore": "no"}, {"thinkingFormat": "loud"}, {"vllmPriority": "1"}])
def test_a_flag_with_an_impossible_value_is_named(compat: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(compat))):
        body(model(compat=compat))


def test_what_is_said_explicitly_wins_over_what_is_detected() -> None:
    told = deepseek(compat={"supportsStore": True, "thinkingFormat": "openai", "supportsDeveloperRole": None})
    flags = Compat.of(told)
    assert flags.supports_store
    assert flags.thinking_format == "openai"
    assert not flags.supports_developer_role


@pytest.mark.parametrize(
    ("base_url", "vendor"),
    [
        ("https://openrouter.ai/api/v1", True),
        ("https://eu.OpenRouter.ai/api/v1", True),
        ("https://proxy.example/openrouter.ai/v1", False),
        ("https://notopenrouter.ai/v1", False),
        ("https://openrouter.ai.evil.example/v1", False),
        ("https://[broken/v1", False),
    ],
)
def test_a_vendor_is_known_by_its_host_and_not_by_words_in_the_url(base_url: str, vendor: bool) -> None:
    assert (Compat.of(model(provider="mine", base_url=base_url)).thinking_format == "openrouter") is vendor


def test_a_vendors_prefix_of_hosts_is_known() -> None:
    assert Compat.of(model(provider="mine", base_url="https://api.moonshot.cn/v1")).max_tokens_field == "max_tokens"


def test_a_vendor_behind_a_local_proxy_is_still_that_vendor() -> None:
    flags = Compat.of(deepseek(id="x"))
    local = Compat.of(attrs.evolve(deepseek(id="x"), base_url=LOCAL))
    assert local == flags


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_can_be_given_to_a_model(name: str) -> None:
    assert Compat.of(model(compat=PROFILES[name]))


@pytest.mark.parametrize(
    ("compat", "base_url", "long"),
    [
        (None, OPENAI, True),
        (None, "https://api.cerebras.ai/v1", False),
        ({"supportsLongCacheRetention": True}, "https://api.cerebras.ai/v1", True),
        ({"cacheControlFormat": "anthropic"}, "https://x.example/v1", True),
        ({"supportsLongCacheRetention": False}, OPENAI, False),
    ],
)
def test_a_long_retention_is_asked_for_only_where_it_is_understood(compat: Any, base_url: str, long: bool) -> None:
    sent = body(model(provider="p", base_url=base_url, compat=compat), cache_retention="long", session_id="s")
    assert ("prompt_cache_retention" in sent) is long


def test_a_long_retention_can_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PI_CACHE_RETENTION", "long")
    assert "prompt_cache_retention" in body(model())
    assert "prompt_cache_retention" not in body(model(), env={"PI_CACHE_RETENTION": "short"})
    assert "prompt_cache_retention" not in body(model(), cache_retention="short")


@pytest.mark.parametrize(
    ("text", "flag"),
    [
        ("Unrecognized request argument: 'max_completion_tokens'", "maxTokensField"),
        ('unknown field "store"', "supportsStore"),
        ("role must be one of `system`, `developer`", "supportsDeveloperRole"),
        ("unknown field 'reasoning_effort'", None),  # was not sent
        ("bad", None),
    ],
)
def test_a_refused_field_names_the_flag_to_set(text: str, flag: str | None) -> None:
    sent = body(model(reasoning=True), Context([], system_prompt="x"), max_tokens=1)
    hint = OpenAICompletions().hint(sent, text)
    assert (flag in hint) if flag and hint else hint is flag
