"""The scripted provider (core section 21, rules F1-F7)."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from pi_ai import Context, Registry, ThinkingContent, UserMessage, complete, get_providers, stream
from pi_ai.testing import Faux, faux_assistant_message, faux_text, faux_thinking, faux_tool_call
from pi_ai.types import AssistantMessage, Usage
from pi_ai_tests.adapters.reading import check_grammar

pytestmark = pytest.mark.anyio
CONTEXT = Context([UserMessage("Hello?")])


async def read(faux: Faux, **options: Any) -> list[Any]:
    return [event async for event in stream(faux.model(), CONTEXT, **options)]


async def test_its_model_is_as_f1_says() -> None:
    with Faux() as faux:
        model = faux.model()
    assert (model.id, model.provider, model.context_window, model.max_tokens) == ("faux-1", "faux", 128_000, 16_384)
    assert (model.input, model.reasoning, model.cost.input) == (["text", "image"], False, 0)
    assert model.api != Faux().api


async def test_answers_come_in_order_and_the_calls_are_kept_f2() -> None:
    with Faux("One.", ["Two."]) as faux:
        assert faux.pending == 2
        assert [(await complete(faux.model(), CONTEXT)).text for _ in range(2)] == ["One.", "Two."]
        faux.script("Three.")
        assert (await complete(faux.model(), CONTEXT, temperature=0.5)).text == "Three."
        assert (faux.pending, faux.call_count) == (0, 3)
        assert faux.calls[2].context == CONTEXT
        assert faux.calls[2].options.temperature == 0.5


async def test_an_empty_script_is_an_error_that_says_so_f2() -> None:
    with Faux() as faux:
        message = await complete(faux.model(), CONTEXT)
    assert (message.stop_reason, message.error_message) == (
        "error",
        "No more faux responses queued. Give the Faux one for each call.",
    )


async def test_an_answer_may_be_a_function_of_the_call_f2() -> None:
    def sync(context: Context, options: Any, faux: Faux, model: Any) -> str:
        return f"{model.id} was called {faux.call_count} times, with {len(context.messages)} message"

    async def later(*_: Any) -> AssistantMessage:
        await anyio.sleep(0)
        return faux_assistant_message("Later.")

    def broken(*_: Any) -> str:
        raise LookupError("the test is wrong")

    with Faux(sync, later, broken) as faux:
        assert (await complete(faux.model(), CONTEXT)).text == "faux-1 was called 1 times, with 1 message"
        assert (await complete(faux.model(), CONTEXT)).text == "Later."
        assert "the test is wrong" in str((await complete(faux.model(), CONTEXT)).error_message)


async def test_blocks_stream_in_pieces_of_a_few_tokens_f3() -> None:
    call = faux_tool_call("weather", {"city": "Oslo", "days": list(range(30))})
    with Faux([faux_thinking("Hm. " * 20), faux_text("It is sunny. " * 20), call]) as faux:
        events = await read(faux)
    check_grammar(events, ended=True)
    message = events[-1].message
    assert message.stop_reason == "toolUse"
    assert message.content == [ThinkingContent("Hm. " * 20), faux_text("It is sunny. " * 20), call]
    sizes = [len(event.delta) for event in events if event.type == "text_delta"]
    assert set(sizes[:-1]) <= {12, 16, 20}
    assert len(set(sizes[:-1])) > 1


async def test_the_same_seed_gives_the_same_pieces_f7() -> None:
    async def sizes(seed: int) -> list[int]:
        with Faux("word " * 100, seed=seed) as faux:
            return [len(event.delta) for event in await read(faux) if event.type == "text_delta"]

    assert await sizes(1) == await sizes(1) != await sizes(2)


async def test_it_keeps_the_pace_f3() -> None:
    with Faux("x" * 400, tokens_per_second=1000) as faux:
        began = anyio.current_time()
        await complete(faux.model(), CONTEXT)
    assert anyio.current_time() - began >= 0.09


@pytest.mark.parametrize(
    ("answer", "reason", "words"),
    [
        (faux_assistant_message("Half", stop_reason="length"), "length", None),
        (faux_assistant_message("Half", error_message="broken"), "error", "broken"),
        (faux_assistant_message("Half", stop_reason="aborted", error_message="left"), "aborted", "left"),
        (faux_assistant_message("Half", stop_reason="pending"), "error", "Faux response ended without a stop reason"),
    ],
    ids=["length", "error", "aborted", "pending"],
)
async def test_it_ends_as_the_message_does_f3(answer: Any, reason: str, words: str | None) -> None:
    with Faux(answer) as faux:
        message = await complete(faux.model(), CONTEXT)
    assert (message.text, message.stop_reason, message.error_message) == ("Half", reason, words)


async def test_an_abort_keeps_what_came_f4() -> None:
    with Faux("word " * 1000) as faux:
        events = stream(faux.model(), CONTEXT)
        async for event in events:
            if event.type == "text_delta":
                events.abort()
    assert events.message.stop_reason == "aborted"
    assert 0 < len(events.message.text) < 5000


async def test_usage_is_estimated_and_a_session_finds_its_prefix_cached_f5() -> None:
    with Faux(*["Four and more"] * 4) as faux:
        alone = (await complete(faux.model(), CONTEXT)).usage
        first = (await complete(faux.model(), CONTEXT, session_id="s")).usage
        second = (await complete(faux.model(), CONTEXT, session_id="s")).usage
        uncached = (await complete(faux.model(), CONTEXT, session_id="s", cache_retention="none")).usage
    assert alone.input > 0
    assert (first.input, first.cache_write, first.cache_read) == (0, alone.input, 0)
    assert second.cache_read >= first.cache_write - 1
    assert second.cache_read + second.cache_write == alone.input
    assert (uncached.input, uncached.cache_read) == (alone.input, 0)
    for usage in alone, first, second:
        assert usage.total_tokens == usage.input + usage.output + usage.cache_read + usage.cache_write


async def test_a_messages_own_usage_is_kept_and_priced() -> None:
    answer = faux_assistant_message("Hi.", usage=Usage(input=10, output=2, total_tokens=12))
    with Faux(answer, models=[{"id": "dear", "cost": {"input": 1_000_000, "output": 0}}]) as faux:
        usage = (await complete(faux.model("dear"), CONTEXT)).usage
    assert (usage.input, usage.output, usage.cost.total) == (10, 2, 10)


async def test_it_leaves_no_trace() -> None:
    with Faux():
        assert "faux" in get_providers()
    assert "faux" not in get_providers()
    async with Registry() as pi:
        with Faux("Hi.", provider="other", registry=pi) as faux:
            assert (await pi.complete(faux.model(), CONTEXT)).text == "Hi."
        assert "other" not in pi.get_providers()


def test_the_helpers_make_what_their_names_say_f6() -> None:
    call = faux_tool_call("weather", {"city": "Oslo"}, "call_7")
    message = faux_assistant_message(["Look: ", call], model="m")
    assert (message.text, message.tool_calls, message.stop_reason, message.model) == ("Look: ", [call], "toolUse", "m")
    assert faux_tool_call("a", {}).id != faux_tool_call("a", {}).id


async def test_the_fixture_is_one(faux: Faux) -> None:
    faux.script("From the fixture.")
    assert (await complete(faux.model(), CONTEXT)).text == "From the fixture."
