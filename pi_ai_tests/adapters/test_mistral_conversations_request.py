"""The request of Mistral's API: pi-ai's own (goldens), and the rows of the spec's table."""

from __future__ import annotations

import re
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_ai.adapters._mistral_ids import answer_id, history_ids
from pi_ai.adapters.mistral_conversations import MistralConversations, MistralConversationsOptions
from pi_ai.errors import AuthError, BadRequest, ConfigError
from pi_ai.types import (
    AssistantMessage,
    Context,
    ImageContent,
    Message,
    Model,
    StreamOptions,
    SystemMessage,
    TextContent,
    ThinkingContent,
    Tool,
    ToolCall,
    ToolResultMessage,
    UserMessage,
)
from pi_ai_tests.adapters.differences import DIFFERENCES
from pi_ai_tests.adapters.golden import cases, check, of_parts, request_differences, sent_body

API = "mistral-conversations"
ADAPTER = MistralConversations()
HELLO = Context([UserMessage("Hello")])
IMAGE = ImageContent("aW1n", "image/png")
IMAGE_PART = {"type": "image_url", "image_url": "data:image/png;base64,aW1n"}
WEATHER = Tool("get_weather", "Get the weather.", {"type": "object", "properties": {"city": {"type": "string"}}})
ID = "D681PevKs"


def model(**fields: Any) -> Model:
    own = {"id": "mistral-test", "api": API, "provider": "mistral", "base_url": "https://api.mistral.ai"}
    return Model(**{**own, "input": ["text", "image"], **fields})


def request(model: Model, context: Context = HELLO, **options: Any) -> Any:
    return ADAPTER.build_request(model, context, MistralConversationsOptions(**{"api_key": "key", **options}))


def body(model: Model, context: Context = HELLO, **options: Any) -> dict[str, Any]:
    return sent_body(request(model, context, **options))


def lowered(model: Model, **options: Any) -> dict[str, Any]:
    """The body for portable options."""
    return sent_body(
        ADAPTER.build_request(model, HELLO, ADAPTER.lower(model, HELLO, StreamOptions(api_key="key", **options)))
    )


def messages(*history: Message, **fields: Any) -> list[dict[str, Any]]:
    return body(model(**fields), Context(list(history)))["messages"]


def answer(*content: Any, **fields: Any) -> AssistantMessage:
    """An answer of ``model()`` itself."""
    own = {"api": API, "provider": "mistral", "model": "mistral-test", "stop_reason": "stop"}
    return AssistantMessage(list(content), **{**own, **fields})


def foreign(*ids: str) -> AssistantMessage:
    """An answer of another model, with calls of these ids."""
    calls = [ToolCall(call_id, "f", {}) for call_id in ids]
    return answer(*calls, api="anthropic-messages", provider="anthropic", model="claude")


def result(*content: Any, call_id: str = ID, failed: bool = False) -> ToolResultMessage:
    return ToolResultMessage(call_id, "f", list(content), is_error=failed)


def sent_ids(*history: Message) -> list[str]:
    return [call["id"] for message in messages(*history) for call in message.get("tool_calls", ())]


# ── what pi-ai sends ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("golden", cases(API))
def test_the_request_is_the_one_that_pi_ai_sends(golden: dict[str, Any]) -> None:
    known = of_parts(DIFFERENCES[API].get(golden["name"]), "refused", "url", "headers", "body")
    check(request_differences(ADAPTER, golden), known, golden["name"])


# ── where to, and who asks ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("https://api.mistral.ai", "https://api.mistral.ai/v1/chat/completions"),
        ("https://api.mistral.ai/v1/", "https://api.mistral.ai/v1/chat/completions"),
        ("https://x.example/proxy/", "https://x.example/proxy/v1/chat/completions"),
        ("https://x.example/proxy/v1", "https://x.example/proxy/v1/chat/completions"),
    ],
)
def test_the_version_is_in_the_url_once(base: str, url: str) -> None:
    assert request(model(base_url=base)).url == url


def test_a_key_is_needed() -> None:
    with pytest.raises(AuthError, match="No API key for provider: mistral"):
        request(model(), api_key=None)
    assert request(model()).headers["Authorization"] == "Bearer key"


def test_a_session_is_the_cache_key_uncut_and_a_header() -> None:
    session = "s" * 100
    sent = request(model(), session_id=session)
    assert sent.body["prompt_cache_key"] == sent.headers["x-affinity"] == session
    assert "prompt_cache_retention" not in request(model(), session_id=session, cache_retention="long").body


@pytest.mark.parametrize("options", [{"session_id": "s", "cache_retention": "none"}, {}])
def test_9_without_a_session_or_with_retention_none_nothing_is_kept(options: dict[str, Any]) -> None:
    sent = request(model(), **options)
    assert "prompt_cache_key" not in sent.body
    assert "x-affinity" not in sent.headers


def test_an_affinity_that_is_given_stands() -> None:
    def affinity(**options: Any) -> list[str]:
        headers = request(model(headers=options.pop("own", None)), session_id="s", **options).headers
        return [value for name, value in headers.items() if name.lower() == "x-affinity"]

    assert affinity(own={"X-Affinity": "model"}) == ["model"]
    assert affinity(headers={"X-AFFINITY": "caller"}) == ["caller"]
    assert affinity(own={"x-affinity": "model"}, headers={"x-affinity": "caller"}) == ["caller"]


# ── the body ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_fields_of_openai_are_sent() -> None:
    assert body(model(), max_tokens=5) == {
        "model": "mistral-test",
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": True,
        "max_tokens": 5,
    }


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        *((word, word) for word in ("auto", "none", "any", "required")),
        ({"type": "tool", "name": "f"}, {"type": "function", "function": {"name": "f"}}),
        ({"type": "function", "function": {"name": "f"}}, {"type": "function", "function": {"name": "f"}}),
    ],
)
def test_the_choice_of_a_tool(choice: Any, sent: Any) -> None:
    assert body(model(), Context([], tools=[WEATHER]), tool_choice=choice)["tool_choice"] == sent


def test_every_tool_tells_whether_it_is_strict() -> None:
    def sent(*tools: Tool) -> list[dict[str, Any]]:
        return [tool["function"] for tool in body(model(), Context([], tools=list(tools)))["tools"]]

    strict = attrs.evolve(WEATHER, name="f", constrained_sampling={"type": "json_schema", "strict": "prefer"})
    found = sent(WEATHER, strict)
    assert [tool["strict"] for tool in found] == [False, True]
    assert found[1]["parameters"]["additionalProperties"] is False
    loose = attrs.evolve(strict, parameters={"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}})
    assert sent(loose)[0]["strict"] is False
    with pytest.raises(BadRequest):
        sent(attrs.evolve(loose, constrained_sampling={"type": "json_schema", "strict": "require"}))


WORDS = {"off": "none", "minimal": None, "low": None, "medium": None, "high": "high", "xhigh": None}


@pytest.mark.parametrize(
    ("fields", "level", "sent"),
    [
        ({"reasoning": True, "thinking_level_map": WORDS}, None, {"reasoning_effort": "none"}),
        ({"reasoning": True, "thinking_level_map": WORDS}, "low", {"reasoning_effort": "high"}),
        ({"reasoning": True, "thinking_level_map": {"low": "little"}}, "low", {"reasoning_effort": "little"}),
        ({"reasoning": True, "thinking_level_map": {"low": "little"}}, "medium", {"reasoning_effort": "high"}),
        ({"reasoning": True, "thinking_level_map": {"low": "little"}}, None, {}),
        ({"reasoning": True, "thinking_level_map": {"off": None}}, None, {}),
        ({"reasoning": True, "thinking_level_map": {}}, "high", {"reasoning_effort": "high"}),
        ({"reasoning": True}, "high", {"prompt_mode": "reasoning"}),
        ({"reasoning": True}, None, {}),
        ({"thinking_level_map": WORDS}, "high", {}),
        ({}, "high", {}),
    ],
)
def test_4_how_a_model_is_made_to_think(fields: dict[str, Any], level: Any, sent: dict[str, Any]) -> None:
    found = lowered(model(**fields), reasoning=level)
    assert {name: found[name] for name in ("reasoning_effort", "prompt_mode") if name in found} == sent


def test_sampling_parameters_of_the_model_its_level_and_the_caller_win_in_this_order() -> None:
    fields: dict[str, Any] = {
        "reasoning": True,
        "sampling_params": {"temperature": 0.1, "top_p": 0.1, "seed": 1},
        "sampling_params_by_thinking_level": {"high": {"top_p": 0.2, "seed": 2}, "off": {"min_p": 0.3}},
    }
    found = lowered(model(**fields), reasoning="high", temperature=1, sampling_params={"seed": 3})
    assert (found["temperature"], found["top_p"], found["seed"], found.get("min_p")) == (0.1, 0.2, 3, None)
    assert lowered(model(**fields))["min_p"] == 0.3
    assert body(model(**fields), sampling_params={"seed": 3})["seed"] == 3


# ── messages ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_1_an_answer_of_the_same_model_is_a_list_with_its_thoughts() -> None:
    said = answer(ThinkingContent("Hm."), TextContent("Ok"), ToolCall(ID, "f", {"a": 1}), ThinkingContent("So."))
    assert messages(UserMessage("Go"), said, result(TextContent("1")))[1] == {
        "role": "assistant",
        "prefix": False,
        "content": [
            {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
            {"type": "text", "text": "Ok"},
            {"type": "thinking", "thinking": [{"type": "text", "text": "So."}]},
        ],
        "tool_calls": [{"id": ID, "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}, "index": 0}],
    }


def test_an_answer_that_says_nothing_is_left_out() -> None:
    assert messages(UserMessage("a"), answer(TextContent(" "), ThinkingContent("\n")), UserMessage("b")) == [
        {"role": "user", "content": "a"},
        {"role": "user", "content": "b"},
    ]


def test_an_image_is_a_string() -> None:
    (said,) = messages(UserMessage([TextContent("See"), IMAGE]))
    assert said["content"] == [{"type": "text", "text": "See"}, IMAGE_PART]


def test_a_model_without_eyes_reads_what_was_left_out() -> None:
    (said,) = messages(UserMessage([IMAGE]), input=["text"])
    assert said["content"] == [{"type": "text", "text": "(image omitted: model does not support images)"}]


@pytest.mark.parametrize(
    ("content", "failed", "eyes", "text", "images"),
    [
        ([TextContent(" a "), TextContent("b\n")], False, True, "a \nb", 0),
        ([TextContent("Look"), IMAGE, IMAGE], True, True, "[tool error] Look", 2),
        ([IMAGE], False, True, "(see attached image)", 1),
        ([TextContent(" "), IMAGE], True, True, "[tool error] (see attached image)", 1),
        ([], False, True, "(no tool output)", 0),
        ([TextContent("\n")], True, True, "[tool error] (no tool output)", 0),
        ([IMAGE], False, False, "(tool image omitted: model does not support images)", 0),
        ([TextContent("Look"), IMAGE], False, False, "Look\n(tool image omitted: model does not support images)", 0),
    ],
)
def test_3_a_result_is_its_text_and_then_its_images(
    content: list[Any], failed: bool, eyes: bool, text: str, images: int
) -> None:
    found = messages(
        answer(ToolCall(ID, "f", {})), result(*content, failed=failed), input=["text", "image"] if eyes else ["text"]
    )
    assert found[-1] == {
        "role": "tool",
        "tool_call_id": ID,
        "name": "f",
        "content": [{"type": "text", "text": text}, *[IMAGE_PART] * images],
    }


def test_system_messages_are_one_unless_the_model_takes_more() -> None:
    history = [SystemMessage("Base."), UserMessage("a"), SystemMessage("New."), UserMessage("b")]
    one = messages(*history)
    assert [message["role"] for message in one] == ["system", "user", "user"]
    assert one[0]["content"] == "Base.\n\nNew."
    several = messages(*history, compat={"supportsMidConvoSystemMessages": True})
    assert [message["content"] for message in several] == ["Base.", "a", "New.", "b"]
    assert several[2]["role"] == "system"


def test_a_wrong_flag_is_told() -> None:
    with pytest.raises(ConfigError):
        request(model(compat={"supportsMidConvoSystemMessages": "yes"}))


# ── ids of calls ─────────────────────────────────────────────────────────────────────────────────────────────


def test_2_foreign_ids_become_nine_letters_and_digits() -> None:
    ids = ["toolu_01ABCDEFGH", "call_1", "AbCdEf123", "AbCdEf-123", "AbCdEf+123", "", "|||", "call_abc|fc_def"]
    found = sent_ids(foreign(*ids))
    assert all(re.fullmatch("[A-Za-z0-9]{9}", call_id) for call_id in found)
    assert len(set(found)) == len(ids)
    assert found[2] == "AbCdEf123"
    assert found == sent_ids(foreign(*ids))


def test_2_a_result_has_the_id_of_its_call() -> None:
    found = messages(foreign("call_1"), result(TextContent("1"), call_id="call_1"))
    assert found[1]["tool_call_id"] == found[0]["tool_calls"][0]["id"]


def test_the_models_own_ids_come_back_as_they_are() -> None:
    assert sent_ids(answer(ToolCall("any-id-at-all", "f", {}))) == ["any-id-at-all"]


@given(st.lists(st.text(max_size=12), unique=True, max_size=20))
@settings(deadline=None, max_examples=60)
def test_any_ids_become_different_ones_of_nine_letters_and_digits(ids: list[str]) -> None:
    rule = history_ids()
    found = [rule.normalize(call_id, AssistantMessage([])) for call_id in ids]
    assert all(re.fullmatch("[A-Za-z0-9]{9}", call_id) for call_id in found)
    assert len(set(found)) == len(ids)
    assert [rule.normalize(call_id, AssistantMessage([])) for call_id in ids] == found


@given(st.lists(st.none() | st.sampled_from(["abcdefghi", "toolcall1", "x", ""]), max_size=8))
@settings(deadline=None, max_examples=60)
def test_the_ids_of_one_answer_differ(told: list[str | None]) -> None:
    taken: list[str] = []
    for call_id in told:
        taken.append(answer_id(call_id, taken))
    assert len(set(taken)) == len(taken)
    assert all(len(call_id) == 9 and call_id.isalnum() for call_id in taken if call_id != "x")
