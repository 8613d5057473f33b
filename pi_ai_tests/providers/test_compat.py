"""What servers do differently, as a registration says it, seen in real requests (R36; the examples of pi's page)."""

from __future__ import annotations

import pytest

from pi_ai import Context, Registry, SystemMessage, Tool, UserMessage
from pi_ai.testing import Sandbox

pytestmark = pytest.mark.anyio
CHAT = "openai-completions"
CONTEXT = Context([UserMessage("Hello", timestamp=1)], system_prompt="Be brief.")
OPENAI = {"supportsDeveloperRole": True, "supportsReasoningEffort": True, "maxTokensField": "max_completion_tokens"}
"""A server on this machine is not taken for OpenAI's; these switches say that it is."""


async def body(compat=None, *, provider=None, model=None, context=CONTEXT, **options):
    """The body of a request to a model with these switches, at the provider and at the model."""
    async with Sandbox() as box, Registry() as pi:
        pi.register_provider(
            "x",
            base_url=box.base_url(CHAT),
            api=CHAT,
            api_key="k",
            compat=provider,
            models=[{"id": "m", "reasoning": True, "compat": compat, **(model or {})}],
        )
        message = await pi.complete(pi.get_model("x", "m"), context, **options)
        assert message.stop_reason == "stop", message.error_message
        return box.requests[0].body


async def test_supportsDeveloperRole():
    assert (await body(OPENAI))["messages"][0]["role"] == "developer"
    assert (await body({**OPENAI, "supportsDeveloperRole": False}))["messages"][0]["role"] == "system"


async def test_supportsReasoningEffort():
    assert (await body(OPENAI, reasoning="high"))["reasoning_effort"] == "high"
    assert "reasoning_effort" not in await body({**OPENAI, "supportsReasoningEffort": False}, reasoning="high")


async def test_maxTokensField():
    assert (await body(OPENAI, max_tokens=9))["max_completion_tokens"] == 9
    assert (await body({"maxTokensField": "max_tokens"}, max_tokens=9))["max_tokens"] == 9


async def test_thinkingFormat_qwen():
    asked = await body({"thinkingFormat": "qwen"}, reasoning="high")
    assert asked["enable_thinking"] is True
    assert (await body({"thinkingFormat": "qwen"}))["enable_thinking"] is False


async def test_the_switches_of_the_provider_are_for_all_its_models_and_a_models_own_win():
    asked = await body({"maxTokensField": "max_tokens"}, provider=OPENAI, reasoning="high", max_tokens=9)
    assert (asked["messages"][0]["role"], asked["reasoning_effort"]) == ("developer", "high")
    assert "max_completion_tokens" not in asked


async def test_either_spelling_of_a_switch_will_do():
    snake = {"supports_developer_role": True, "max_tokens_field": "max_completion_tokens"}
    asked = await body({"supportsDeveloperRole": False}, provider=snake, max_tokens=9)
    assert asked["messages"][0]["role"] == "system"
    assert asked["max_completion_tokens"] == 9


async def test_objects_in_compat_reach_the_request_merged():
    provider = {"openRouterRouting": {"order": ["a"], "allow_fallbacks": False}}
    asked = await body({"open_router_routing": {"only": ["b"]}}, provider=provider)
    assert asked["provider"] == {"order": ["a"], "allow_fallbacks": False, "only": ["b"]}


async def test_thinking_level_map_says_what_a_level_is_called():
    levels = {"thinking_level_map": {"high": "deep", "minimal": None}}
    assert (await body(OPENAI, model=levels, reasoning="high"))["reasoning_effort"] == "deep"
    assert (await body(OPENAI, model=levels, reasoning="minimal"))["reasoning_effort"] == "low"  # the nearest there is


async def test_sampling_params_of_a_model_reach_the_request():
    assert (await body(model={"sampling_params": {"top_k": 5}}))["top_k"] == 5


async def test_a_switch_with_a_value_that_it_cannot_have_is_told_of():
    async with Sandbox() as box, Registry() as pi:
        pi.register_provider(
            "x",
            base_url=box.base_url(CHAT),
            api=CHAT,
            api_key="k",
            models=[{"id": "m", "compat": {"maxTokensField": "limit"}}],
        )
        message = await pi.complete(pi.get_model("x", "m"), CONTEXT)
        assert message.error_info.kind == "config"
        assert "compat of model x/m cannot be used" in message.error_info.message
        assert box.requests == []


async def test_models_of_one_provider_may_have_apis_and_addresses_of_their_own():
    async with Sandbox() as box, Registry() as pi:
        pi.register_provider(
            "x",
            base_url=box.base_url(CHAT),
            api=CHAT,
            api_key="k",
            models=[
                {"id": "chat"},
                {
                    "id": "claude",
                    "api": "anthropic-messages",
                    "base_url": box.base_url("anthropic-messages"),
                    "compat": {"supportsEagerToolInputStreaming": False},
                },
            ],
        )
        tools = [Tool("f", "does", {"type": "object", "properties": {}})]
        for name in ("chat", "claude"):
            message = await pi.complete(pi.get_model("x", name), Context(CONTEXT.messages, tools=tools))
            assert message.stop_reason == "stop", message.error_message
        assert [request.api for request in box.requests] == [CHAT, "anthropic-messages"]
        assert "eager_input_streaming" not in str(box.requests[1].body)


async def test_instructions_inside_of_the_conversation_keep_their_role():
    context = Context([SystemMessage("Be kind.", timestamp=1), *CONTEXT.messages])
    assert (await body(OPENAI, context=context))["messages"][0]["role"] == "developer"
