"""Objects to JSON and back, in pi's format."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_ai import (
    AssistantMessage,
    Context,
    DoneEvent,
    ErrorInfo,
    ImageContent,
    Message,
    MessageBuilder,
    Model,
    RateLimited,
    StreamEvent,
    StreamOptions,
    SystemMessage,
    TextContent,
    TextDeltaEvent,
    ThinkingContent,
    Timeouts,
    Tool,
    ToolCall,
    ToolResultMessage,
    Usage,
    UserMessage,
    dumps,
    from_json,
    loads,
    models_are_equal,
    to_json,
)
from pi_ai_tests.data import GOLDENS, goldens

APIS = sorted(path.stem for path in GOLDENS.glob("*.jsonl"))


@pytest.mark.parametrize("api", APIS)
def test_model_context_and_message_of_every_golden_survive_the_round_trip(api: str) -> None:
    for golden in goldens(api):
        parts: list[tuple[Any, Any]] = [(Model, golden["model"]), (Context, golden["context"])]
        if "message" in golden["expected"]:
            parts.append((AssistantMessage, golden["expected"]["message"]))
        for cls, data in parts:
            value = from_json(cls, data)
            assert to_json(value) == data, golden["name"]
            assert from_json(cls, to_json(value)) == value


@pytest.mark.parametrize("api", APIS)
def test_events_of_every_golden_survive_the_round_trip(api: str) -> None:
    for golden in goldens(api):
        for event in golden["expected"].get("events", []):
            message = {"message": "message", "done": "message", "error": "error"}.get(event["type"])
            data = {key: value for key, value in event.items() if key != "partialArguments"}
            if message:
                data[message] = golden["expected"]["message"]
            assert to_json(from_json(StreamEvent, data)) == data, golden["name"]


def test_fields_that_are_none_are_left_out_and_unknown_keys_are_ignored() -> None:
    assert to_json(TextContent("x")) == {"type": "text", "text": "x"}
    assert from_json(TextContent, {"type": "text", "text": "x", "later": [1]}) == TextContent("x")


def test_null_content_is_an_empty_list() -> None:
    assert from_json(AssistantMessage, {"role": "assistant", "content": None}).content == []


def test_the_union_of_messages_is_told_apart_by_role() -> None:
    messages = [
        SystemMessage("Be brief.", timestamp=1),
        UserMessage([TextContent("look"), ImageContent("AA==", "image/png")], timestamp=2),
        AssistantMessage([ThinkingContent("hm"), ToolCall("1", "f", {"a": 1})], timestamp=3),
        ToolResultMessage("1", "f", [TextContent("2")], timestamp=4, details={"any": None}),
    ]
    assert from_json(list[Message], to_json(messages)) == messages
    assert loads(Context, dumps(Context(messages))) == Context(messages)


def test_a_tool_result_takes_a_plain_text() -> None:
    assert ToolResultMessage("1", "f", "done", timestamp=1).content == [TextContent("done")]


def test_compat_flags_are_written_in_pis_spelling() -> None:
    model = Model(
        id="m", api="a", provider="p", compat={"supports_store": False, "supports_openai_grammar_tools": True}
    )
    assert to_json(model)["compat"] == {"supportsStore": False, "supportsOpenAIGrammarTools": True}


def test_a_clock_that_is_off_is_not_a_clock_that_is_unset() -> None:
    timeouts = Timeouts(idle_ms=None, total_ms=5)
    assert to_json(timeouts) == {"idleMs": None, "totalMs": 5}
    assert from_json(Timeouts, to_json(timeouts)) == timeouts


def test_options_write_no_secrets_and_no_hooks() -> None:
    options = StreamOptions(
        api_key="sk-canary", env={"K": "canary"}, proxy="http://u:canary@h", on_payload=lambda *_: None, reasoning="low"
    )
    assert "canary" not in dumps(options)
    assert "canary" not in repr(options)
    assert to_json(options)["reasoning"] == "low"
    assert from_json(StreamOptions, {"apiKey": "k", "reasoning": "low"}).api_key == "k"


def test_events_leave_out_the_partial_message_and_can_be_read_without() -> None:
    out = MessageBuilder(Model(id="m", api="a", provider="p"))
    delta = out.text("hi")[1]
    assert to_json(delta) == {"type": "text_delta", "contentIndex": 0, "delta": "hi"}
    assert from_json(StreamEvent, to_json(delta)) == TextDeltaEvent(0, "hi")
    done = out.finish("stop")[-1]
    assert isinstance(done, DoneEvent)
    assert from_json(StreamEvent, to_json(done)) == done


def test_an_error_is_kept_but_its_original_exception_is_not() -> None:
    info = ErrorInfo(kind="rate_limited", message="wait", retry_after=2.5, cause=ValueError("x"))
    message = AssistantMessage(stop_reason="error", error_message="429", error_info=info, timestamp=1)
    again = from_json(AssistantMessage, to_json(message))
    assert again == message
    assert again.error_info.cause is None
    with pytest.raises(RateLimited, match="429") as raised:
        again.raise_for_error()
    assert raised.value.info.retry_after == 2.5


@pytest.mark.parametrize(
    ("cls", "data", "words"),
    [
        (
            Context,
            {"messages": [{"role": "user", "content": 5}]},
            r"Context.messages\[0\].content must be a string or an array, not an integer",
        ),
        (
            Context,
            {"messages": [{"role": "usr"}]},
            r"Context.messages\[0\] \"role\" must be one of system, user, assistant, toolResult, not 'usr'",
        ),
        (Context, {"messages": [{"role": "user"}]}, r"Context.messages\[0\] lacks content"),
        (Context, [], "Context must be an object, not an array"),
        (Model, {"id": "x"}, "Model lacks api and provider"),
        (
            Model,
            {"id": "x", "api": "a", "provider": "p", "maxTokens": 1.5},
            "Model.maxTokens must be an integer, not a number",
        ),
        (
            Model,
            {"id": "x", "api": "a", "provider": "p", "reasoning": 1},
            "Model.reasoning must be a boolean, not an integer",
        ),
        (
            StreamOptions,
            {"reasoning": "extreme"},
            "StreamOptions.reasoning must be 'minimal' or .* or null, not a string",
        ),
        (Message, {"role": "assistant", "stopReason": "x"}, "stopReason must be one of pending"),
        (
            Model,
            {"id": "x", "api": "a", "provider": "p", "headers": {"a": 1}},
            r"Model.headers\['a'\] must be a string or null",
        ),
    ],
)
def test_what_cannot_be_read_is_named_with_its_place(cls: Any, data: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        from_json(cls, data)


def test_a_foreign_object_cannot_be_written() -> None:
    with pytest.raises(TypeError, match="to_json cannot write a set"):
        to_json({"x": {1}})


def test_models_are_equal_by_type_id_and_provider() -> None:
    model = Model(id="m", api="a", provider="p")
    assert models_are_equal(model, Model(id="m", api="b", provider="p", type="chat", name="other"))
    assert not models_are_equal(model, Model(id="m", api="a", provider="q"))
    assert not models_are_equal(model, None)


def test_contexts_models_and_messages_can_be_pickled() -> None:
    context = Context([UserMessage("hi"), AssistantMessage([TextContent("x")])], tools=[Tool("f", "d", {})])
    model = Model(id="m", api="a", provider="p")
    assert pickle.loads(pickle.dumps((context, model))) == (context, model)
    error = ErrorInfo(kind="quota", message="m").exception("t")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.info) == (type(error), "t", error.info)


text = st.text(max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
blocks = st.one_of(
    st.builds(TextContent, text, text_signature=st.none() | text),
    st.builds(ThinkingContent, text, thinking_signature=st.none() | text, redacted=st.none() | st.just(True)),
    st.builds(ToolCall, text, text, st.dictionaries(text, json_values, max_size=3)),
)
usages = st.builds(Usage, input=st.integers(0), output=st.integers(0), reasoning=st.none() | st.integers(0))


@settings(max_examples=80, deadline=None)
@given(st.lists(blocks, max_size=4), usages, st.sampled_from(["stop", "length", "toolUse", "error", "aborted"]))
def test_any_assistant_message_survives_the_round_trip(content: Any, usage: Usage, reason: Any) -> None:
    message = AssistantMessage(content, api="a", provider="p", model="m", usage=usage, stop_reason=reason)
    assert loads(AssistantMessage, dumps(message)) == message
