"""Answers that are values: over every wire, partial while they come, and asked for again where they do not fit."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from enum import Enum
from typing import Any, Literal, TypedDict, get_args

import anyio
import attrs
import pytest

from pi_ai import (
    Aborted,
    Context,
    ModelCost,
    Registry,
    ServerError,
    StreamBusyError,
    StreamOptions,
    StructuredOutputError,
    ToolCall,
    TypedStream,
    UserMessage,
    complete_as,
    get_api,
    stream_as,
)
from pi_ai.testing import Delivery, Failure, Sandbox, Turn
from pi_ai.types import KnownApi

pytestmark = pytest.mark.anyio
WIRE = "anthropic-messages"
CONTEXT = Context([UserMessage("How do I make pancakes?", timestamp=1)])


class Course(Enum):
    STARTER = "starter"
    DESSERT = "dessert"


@attrs.frozen
class Ingredient:
    name: str
    grams: float


@attrs.frozen
class Recipe:
    """How to cook a dish."""

    title: str
    course: Course
    ingredients: list[Ingredient]
    steps: tuple[str, ...] = ()
    minutes: int = attrs.field(default=20)

    @minutes.validator
    def _is_quick(self, attribute: Any, value: int) -> None:
        if value > 100:
            raise ValueError("minutes must be at most 100")


GIVEN = {
    "title": "Pancakes",
    "course": "dessert",
    "ingredients": [{"name": "flour", "grams": "200"}],
    "steps": ["Mix.", "Bake."],
    "minutes": None,
}
RECIPE = Recipe("Pancakes", Course.DESSERT, [Ingredient("flour", 200.0)], ("Mix.", "Bake."))


@pytest.fixture
async def box() -> AsyncIterator[Sandbox]:
    async with Sandbox(strict=True) as box:
        yield box


def answer(arguments: dict[str, Any], **fields: Any) -> Turn:
    return Turn([ToolCall("call_1", "answer", arguments)], **fields)


async def partials(stream: TypedStream[Any]) -> list[Any]:
    with anyio.fail_after(30):
        return [partial async for partial in stream]


@pytest.mark.parametrize("api", get_args(KnownApi))
async def test_an_answer_is_a_value_over_every_wire(pi: Registry, box: Sandbox, api: str) -> None:
    box.script(answer(GIVEN, piece_size=5))
    async with stream_as(box.model(api), CONTEXT, Recipe, registry=pi) as stream:
        seen = await partials(stream)
        assert await stream.result() == RECIPE
        assert await stream.result() == RECIPE
    assert stream.done
    assert stream.message.stop_reason == "toolUse"
    assert seen[-1] == GIVEN
    if len(seen) > 1:  # some wires send the arguments whole
        assert len(seen) > 10
        titles = [partial.get("title", "") for partial in seen]
        assert titles == sorted(titles, key=len)
        assert seen[0] != GIVEN
    assert len(CONTEXT.messages) == 1
    assert CONTEXT.tools is None


@dataclasses.dataclass
class Point:
    x: float
    y: float = 0.0


class Film(TypedDict):
    title: str


@pytest.mark.parametrize(
    ("kind", "arguments", "value"),
    [
        (Point, {"x": 1}, Point(1.0)),
        (Film, {"title": "Up"}, {"title": "Up"}),
        (dict[str, int], {"a": 1}, {"a": 1}),
        (list[Point], {"value": [{"x": 1}, {"x": 2}]}, [Point(1.0), Point(2.0)]),
        (int, {"value": "42"}, 42),
        (bool, {"value": False}, False),
        (Literal["yes", "no"], {"value": "yes"}, "yes"),
        (Point | Film, {"value": {"title": "Up"}}, {"title": "Up"}),
        (int | None, {"value": None}, None),
    ],
)
async def test_an_answer_may_be_of_any_type(
    pi: Registry, box: Sandbox, kind: Any, arguments: dict[str, Any], value: Any
) -> None:
    box.script(answer(arguments))
    assert await complete_as(box.model(WIRE), CONTEXT, kind, registry=pi) == value


async def test_the_provider_is_told_to_call_and_to_hold_to_the_schema(pi: Registry, box: Sandbox) -> None:
    box.script(*[answer({"x": 1})] * 4)
    model = box.model(WIRE, compat={"supportsStrictTools": True})
    await complete_as(model, CONTEXT, Point, registry=pi)
    (offered,) = box.requests[0].body["tools"]
    assert box.requests[0].body["tool_choice"] == {"type": "tool", "name": "answer"}
    assert offered["strict"] is True
    assert offered["input_schema"]["required"] == ["x", "y"]

    await complete_as(model, CONTEXT, Point, reasoning="high", registry=pi)
    assert "tool_choice" not in box.requests[1].body  # Claude refuses it while it thinks
    await complete_as(model, CONTEXT, Point, StreamOptions(tool_choice="auto"), registry=pi)
    assert box.requests[2].body["tool_choice"] == {"type": "auto"}
    await complete_as(model, CONTEXT, Point, get_api(WIRE).options_type(), registry=pi)
    assert box.requests[3].body["tool_choice"] == {"type": "tool", "name": "answer"}


@pytest.mark.parametrize(
    "text", ['{"x": 1, "y": 2}', 'Here it is:\n```json\n{"x": 1, "y": 2}\n```\nFine?', '```\n{"x": 1, "y": "2"}```']
)
async def test_json_in_the_text_is_an_answer_too(pi: Registry, box: Sandbox, text: str) -> None:
    box.script(Turn(text), Turn("[1, 2]"))
    assert await complete_as(box.model(WIRE), CONTEXT, Point, registry=pi) == Point(1.0, 2.0)
    assert await complete_as(box.model(WIRE), CONTEXT, list[int], registry=pi) == [1, 2]


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (answer({**GIVEN, "course": "soup"}), 'course: expected one of ["starter","dessert"]'),
        (answer({**GIVEN, "minutes": 101}), 'Invalid arguments for tool "answer": Recipe: minutes must be at most 100'),
        (Turn("Mix and bake."), 'Give your answer by calling the tool "answer", not as text.'),
        (Turn("[]"), 'Give your answer by calling the tool "answer" with an object.'),
        (Turn([ToolCall("1", "bake", {}), ToolCall("2", "mix", {})]), 'calling the tool "answer"'),
    ],
)
async def test_an_answer_that_does_not_fit_is_asked_for_again(
    pi: Registry, box: Sandbox, wrong: Turn, complaint: str
) -> None:
    box.script(wrong, answer(GIVEN))
    model = box.model("openai-completions", cost=ModelCost(input=1, output=1))
    stream = stream_as(model, CONTEXT, Recipe, registry=pi)
    assert await stream.result() == RECIPE
    told = box.requests[1].body["messages"]
    calls = len([block for block in wrong.content if isinstance(block, ToolCall)])
    assert len(told) == 2 + max(1, calls)
    assert all(complaint in message["content"] for message in told[2:])
    assert stream.usage.output > stream.message.usage.output
    assert stream.usage.cost.total > stream.message.usage.cost.total
    assert len(CONTEXT.messages) == 1


async def test_retries_are_bounded_and_the_error_has_the_models_words(pi: Registry, box: Sandbox) -> None:
    box.script(*[Turn("Mix and bake.")] * 3)
    with pytest.raises(StructuredOutputError) as raised:
        await complete_as(box.model(WIRE), CONTEXT, Recipe, retries=2, registry=pi)
    assert len(box.requests) == 3
    assert raised.value.text == raised.value.message.text == "Mix and bake."
    assert str(raised.value).startswith("the answer is no Recipe: Give your answer by calling")
    assert str(raised.value).endswith("The model said:\nMix and bake.")

    box.script(answer({"title": 5}))
    with pytest.raises(StructuredOutputError, match="course: missing") as raised:
        await complete_as(box.model(WIRE), CONTEXT, Recipe, retries=0, registry=pi)
    assert raised.value.text == "{'title': 5}"


async def test_of_several_answers_the_first_one_is_it_in_the_parts_too(pi: Registry, box: Sandbox) -> None:
    other = {**GIVEN, "title": "Waffles"}
    box.script(Turn([ToolCall("1", "answer", GIVEN), ToolCall("2", "answer", other)]))
    async with stream_as(box.model(WIRE), CONTEXT, Recipe, registry=pi) as answer:
        titles = [partial.get("title") async for partial in answer]
        assert (await answer.result()).title == "Pancakes"
    assert titles[-1] == "Pancakes"
    assert all("Pancakes".startswith(title or "") for title in titles)


async def test_an_answer_that_was_cut_off_is_not_asked_for_again(pi: Registry, box: Sandbox) -> None:
    box.script(answer({"title": "Pan"}, stop_reason="length"))
    with pytest.raises(StructuredOutputError, match="it was cut off; raise max_tokens"):
        await complete_as(box.model(WIRE), CONTEXT, Recipe, retries=5, registry=pi)
    assert len(box.requests) == 1


async def test_a_request_that_fails_raises_its_kind(pi: Registry, box: Sandbox) -> None:
    box.script(Failure(500), Failure(500))
    stream = stream_as(box.model(WIRE), CONTEXT, Recipe, registry=pi, max_retries=0)
    assert await partials(stream) == []
    assert stream.done
    with pytest.raises(ServerError):
        await stream.result()
    with pytest.raises(ServerError):
        await complete_as(box.model(WIRE), CONTEXT, Recipe, registry=pi, max_retries=0)


async def test_without_a_registry_the_current_one_is_used(box: Sandbox) -> None:
    box.script(answer({"x": 1}), answer({"x": 2}))
    async with Registry():
        assert await complete_as(box.model(WIRE), CONTEXT, Point) == Point(1.0)
        assert await stream_as(box.model(WIRE), CONTEXT, Point).result() == Point(2.0)
    assert box.connections == 1


async def test_classes_inside_of_functions_are_found(pi: Registry, box: Sandbox) -> None:
    @attrs.define
    class Inner:
        number: int

    @attrs.define
    class Outer:
        inner: Inner

    box.script(*[answer({"inner": {"number": 1}})] * 2)
    assert await complete_as(box.model(WIRE), CONTEXT, Outer, registry=pi) == Outer(Inner(1))
    assert await stream_as(box.model(WIRE), CONTEXT, Outer, registry=pi).result() == Outer(Inner(1))


# ── the streaming contract ───────────────────────────────────────────────────────────────────────────────────

STALLED = Delivery(stop_after=3, then="stall")


async def test_nothing_happens_before_the_first_await_S2(pi: Registry, box: Sandbox) -> None:
    stream = stream_as(box.model(WIRE), CONTEXT, Recipe, registry=pi)
    async with stream:
        assert not stream.done
    assert stream.done
    assert box.requests == []
    with pytest.raises(Aborted):
        await stream.result()


async def test_leaving_early_closes_it_S9(pi: Registry, box: Sandbox) -> None:
    box.script(answer(GIVEN), delivery=STALLED)
    async with stream_as(box.model(WIRE), CONTEXT, Recipe, registry=pi) as stream:
        async for partial in stream:
            assert partial == {"title": "Pancakes"} or partial.keys() <= {"title", "course"}
            break
    assert stream.message.stop_reason == "aborted"
    assert await box.requests[0].ending() == "client left"
    assert await partials(stream) == []


async def test_abort_ends_it_S7(pi: Registry, box: Sandbox) -> None:
    box.script(answer(GIVEN), delivery=STALLED)
    stream = stream_as(box.model(WIRE), CONTEXT, Recipe, registry=pi)
    with anyio.fail_after(30):
        async for _ in stream:
            stream.abort()
        with pytest.raises(Aborted):
            await stream.result()
    assert await box.requests[0].ending() == "client left"


async def test_cancellation_goes_through_S6(pi: Registry, box: Sandbox) -> None:
    box.script(answer(GIVEN), delivery=STALLED)
    stream = stream_as(box.model(WIRE), CONTEXT, Recipe, registry=pi)
    with anyio.CancelScope() as scope:
        async for _ in stream:
            scope.cancel()
    assert scope.cancelled_caught
    assert stream.done
    with pytest.raises(Aborted):
        await stream.result()


async def test_one_reader_at_a_time_S12(pi: Registry, box: Sandbox) -> None:
    box.script(answer(GIVEN), delivery=Delivery(first_token_delay_s=float("inf")))
    stream = stream_as(box.model(WIRE), CONTEXT, Recipe, registry=pi)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partials, stream)
        await box.received()
        with pytest.raises(StreamBusyError):
            await stream.result()
        await stream.aclose()


async def test_wrong_arguments_are_told_at_once(box: Sandbox) -> None:
    model = box.model(WIRE)
    with pytest.raises(TypeError, match="the answer: complex has no JSON Schema"):
        stream_as(model, CONTEXT, complex)
    with pytest.raises(TypeError, match="'temprature' is no option"):
        stream_as(model, CONTEXT, Recipe, temprature=1)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="context must be a Context"):
        await complete_as(model, "Hello", Recipe)  # type: ignore[call-overload]
