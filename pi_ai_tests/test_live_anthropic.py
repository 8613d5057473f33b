"""The messages API against the embedded local model: a server that was written by people who do not know us."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anyio
import attrs
import pytest

from pi_ai.adapters.anthropic_messages import AnthropicOptions
from pi_ai.events import StreamEvent
from pi_ai.providers.local import endpoint, local_model, stop_local_servers
from pi_ai.registry import Registry
from pi_ai.types import (
    AssistantMessage,
    Context,
    JSONObject,
    Model,
    TextContent,
    Tool,
    ToolCall,
    ToolResultMessage,
    UserMessage,
)
from pi_ai_tests.adapters.reading import check_grammar
from pi_ai_tests.test_local_server import TOOL_TEMPLATE, live

pytestmark = pytest.mark.anyio
SMALL = local_model(api="anthropic-messages", context_window=512)
# The server holds the model to the schema, so an enumeration bounds the call's length whatever the model would say.
CITY = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]}
WEATHER = Tool("get_weather", "The weather in a city.", CITY)
ASK = UserMessage("What is the weather in Paris?")
CALLING = AssistantMessage([TextContent("<tool_call>\n")])
"""The beginning of an answer that the model has to go on with."""


@pytest.fixture(scope="module", autouse=True)
def no_server_is_left_running() -> Iterator[None]:
    yield
    stop_local_servers()


async def ask(
    model: Model, context: Context, *, abort_after: int = 0, **options: Any
) -> tuple[list[StreamEvent], AssistantMessage]:
    """All events and the message of one answer."""
    events: list[StreamEvent] = []
    asked = AnthropicOptions(**{"max_tokens": 12, "temperature": 0, **options})
    async with Registry() as pi, pi.stream(model, context, asked) as answer:
        async for event in answer:
            events.append(event)
            if len(events) == abort_after:
                answer.abort()
    return events, answer.message


async def caller() -> tuple[Model, str]:
    """A model that can call tools, and the key to it."""
    found = await anyio.to_thread.run_sync(lambda: endpoint(SMALL, chat_template=TOOL_TEMPLATE))
    return attrs.evolve(SMALL, base_url=found.base_url), found.api_key


def until_the_call_is_whole(payload: JSONObject, _: Model) -> JSONObject:
    return {**payload, "stop_sequences": ["</tool_call>"]}


@live
async def test_text_and_its_usage() -> None:
    events, message = await ask(SMALL, Context([UserMessage("Count to fifty.")], system_prompt="You count."))
    check_grammar(events, ended=True)
    assert {event.type for event in events} == {"start", "text_start", "text_delta", "text_end", "done"}
    assert message.text
    assert (message.stop_reason, message.raw_stop_reason) in {("length", "max_tokens"), ("stop", "end_turn")}
    assert (message.response_id or "").startswith("chatcmpl-")
    assert message.response_model is None
    usage = message.usage
    assert 0 < usage.output <= 12
    assert usage.input + usage.cache_read > 10
    assert usage.total_tokens == usage.input + usage.cache_read + usage.output


@live
async def test_a_conversation_goes_on() -> None:
    context = Context([UserMessage("Hi")])
    _, first = await ask(SMALL, context)
    longer = attrs.evolve(context, messages=[*context.messages, first, UserMessage("And?")])
    _, second = await ask(SMALL, longer)
    usage = [message.usage.input + message.usage.cache_read for message in (first, second)]
    assert usage[0] < usage[1]


@live
async def test_an_abort_ends_the_answer_and_leaves_the_server_ready() -> None:
    context = Context([UserMessage("Count to a hundred.")])
    with anyio.fail_after(20):
        events, message = await ask(SMALL, context, abort_after=4, max_tokens=400)
        assert events[-1].type == "error"
        assert message.stop_reason == "aborted"
        assert message.text
        assert message.usage.input + message.usage.cache_read > 0
        _, after = await ask(SMALL, context, max_tokens=4)
    assert after.stop_reason == "length"


@live
async def test_a_prompt_that_is_too_long_says_how_long_F33() -> None:
    events, message = await ask(SMALL, Context([UserMessage("word " * 600)]))
    assert [event.type for event in events] == ["error"]
    info = message.error_info
    assert info is not None
    assert (info.kind, info.status, info.limit) == ("context_overflow", 400, 512)
    assert (info.used or 0) > 600


@live
async def test_a_tool_call_starts_without_an_input_and_comes_in_pieces() -> None:
    model, key = await caller()
    events, message = await ask(
        model,
        Context([ASK, CALLING], tools=[WEATHER]),
        api_key=key,
        tool_choice="any",
        max_tokens=100,
        on_payload=until_the_call_is_whole,
    )
    check_grammar(events, ended=True)
    (call,) = message.tool_calls
    assert call.name == "get_weather"
    assert call.id
    assert call.arguments.keys() == {"city"}
    assert sum(event.type == "toolcall_delta" for event in events) > 2
    assert (message.stop_reason, message.raw_stop_reason) == ("toolUse", "tool_use")


@live
async def test_calls_overlap_and_the_last_may_be_cut_off() -> None:
    """The second block starts before the first has stopped; both stop at the end, whole or not."""
    model, key = await caller()
    events, message = await ask(
        model, Context([ASK, CALLING], tools=[WEATHER]), api_key=key, tool_choice="any", max_tokens=60
    )
    check_grammar(events, ended=True)
    order = [(event.type, event.content_index) for event in events if event.type in ("toolcall_start", "toolcall_end")]
    assert len(message.tool_calls) > 1
    assert order.index(("toolcall_start", 1)) < order.index(("toolcall_end", 0))
    for call in message.tool_calls:
        assert call.arguments_error if not call.arguments else call.arguments.keys() <= {"city"}
    assert message.stop_reason in ("length", "toolUse")


@live
async def test_a_result_goes_back_to_the_model() -> None:
    model, key = await caller()
    call = AssistantMessage([ToolCall("call_1", "get_weather", {"city": "Paris"})])
    context = Context([ASK, call, ToolResultMessage("call_1", "get_weather", "Sunny.")], tools=[WEATHER])
    _, message = await ask(model, context, api_key=key)
    assert message.stop_reason in ("stop", "length")
    assert message.usage.output > 0
