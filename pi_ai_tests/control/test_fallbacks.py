"""Fallback and hedging: which model answers, what is shown, who pays."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from pi_ai import Context, EventStream, Model, Registry, StreamOptions, UserMessage
from pi_ai.fallbacks import FALLS_BACK, fallback, hedge
from pi_ai.testing import Delivery, Failure, Sandbox, Turn
from pi_ai.types import ModelCost, Usage
from pi_ai_tests.adapters.reading import check_grammar

pytestmark = pytest.mark.anyio
CONTEXT = Context([UserMessage("Hello?")])
PRICES = ModelCost(input=1_000_000, output=0, cache_read=0, cache_write=0)
SILENT = Delivery(first_token_delay_s=float("inf"))
NEVER = 1e6


@pytest.fixture
async def boxes() -> AsyncIterator[tuple[Sandbox, Sandbox]]:
    async with Sandbox() as first, Sandbox() as second:
        yield first, second


def asked(boxes: tuple[Sandbox, Sandbox]) -> list[Model]:
    """A model behind each server, each of another API."""
    apis = "anthropic-messages", "openai-completions"
    return [box.model(api, id=api, cost=PRICES) for box, api in zip(boxes, apis, strict=True)]


async def read(events: EventStream) -> list[Any]:
    with anyio.fail_after(30):
        return [event async for event in events]


async def test_the_first_model_answers_where_nothing_fails(pi: Registry, boxes: Any) -> None:
    boxes[0].script(Turn("I am first."))
    events = await read(fallback(asked(boxes), CONTEXT, registry=pi))
    check_grammar(events, ended=True)
    message = events[-1].message
    assert (message.text, message.model, message.attempts) == ("I am first.", "anthropic-messages", None)
    assert message.usage.wasted is None
    assert not boxes[1].requests


@pytest.mark.parametrize("status", [401, 404, 429, 500, 529])
async def test_the_next_model_answers_where_one_fails(pi: Registry, boxes: Any, status: int) -> None:
    boxes[0].script(Failure(status, "No, not today"))
    boxes[1].script(Turn("I am second."))
    events = await read(fallback(asked(boxes), CONTEXT, registry=pi, max_retries=0))
    check_grammar(events, ended=True)
    message = events[-1].message
    assert (message.text, message.model) == ("I am second.", "openai-completions")
    [attempt] = message.attempts
    assert (attempt.error.status, attempt.error.model) == (status, "anthropic-messages")
    assert "No, not today" in attempt.error.message


async def test_a_failure_inside_of_the_answer_is_before_the_commit_as_long_as_nothing_is_shown_F54(
    pi: Registry, boxes: Any
) -> None:
    boxes[0].script(Turn((), failure=Failure(529), usage=Usage(input=7)))
    boxes[1].script(Turn("I am second.", usage=Usage(input=11, output=1)))
    events = await read(fallback(asked(boxes), CONTEXT, registry=pi, max_retries=0))
    check_grammar(events, ended=True)
    usage = events[-1].message.usage
    assert usage.wasted is not None
    assert (usage.input, usage.wasted.input) == (11, 7)
    assert usage.cost.total == pytest.approx(18)


async def test_an_answer_that_breaks_off_is_not_begun_anew_F54(pi: Registry, boxes: Any) -> None:
    boxes[0].script(Turn("I am first.", failure=Failure(529)))
    message = await fallback(asked(boxes), CONTEXT, registry=pi, max_retries=0).result()
    assert (message.text, message.stop_reason) == ("I am first.", "error")
    assert not boxes[1].requests


async def test_a_wrong_request_is_not_sent_elsewhere(pi: Registry, boxes: Any) -> None:
    boxes[0].script(Failure(400, "messages: at least one is required"))
    message = await fallback(asked(boxes), CONTEXT, registry=pi).result()
    assert message.error_info is not None
    assert (message.error_info.kind, message.attempts) == ("bad_request", None)
    assert not boxes[1].requests
    assert "bad_request" not in FALLS_BACK


async def test_which_failures_go_on_can_be_chosen(pi: Registry, boxes: Any) -> None:
    boxes[0].script(Failure(400))
    boxes[1].script(Turn("I am second."))
    message = await fallback(asked(boxes), CONTEXT, registry=pi, on={"bad_request"}).result()
    assert message.text == "I am second."
    boxes[0].script(Failure(500))
    message = await fallback(asked(boxes), CONTEXT, registry=pi, on={"bad_request"}, max_retries=0).result()
    assert message.model == "anthropic-messages"


async def test_if_all_fail_the_last_error_is_told_and_the_others_listed(pi: Registry, boxes: Any) -> None:
    boxes[0].script(Failure(500))
    boxes[1].script(Failure(429))
    events = await read(fallback(asked(boxes), CONTEXT, registry=pi, max_retries=0))
    [event] = events
    message = event.error
    assert message.error_info.kind == "rate_limited"
    assert [attempt.error.kind for attempt in message.attempts] == ["server"]


async def test_a_candidate_may_have_options_of_its_own(pi: Registry, boxes: Any) -> None:
    boxes[0].script(Failure(500))
    boxes[1].script(Turn("Hi."))
    first, second = asked(boxes)
    own = StreamOptions(max_tokens=17, max_retries=0)
    await fallback([first, (second, own)], CONTEXT, StreamOptions(max_retries=0, max_tokens=5), registry=pi).result()
    assert boxes[0].requests[0].body["max_tokens"] == 5
    assert 17 in boxes[1].requests[0].body.values()


async def test_the_slow_one_is_aborted_when_the_second_begins_first(pi: Registry, boxes: Any) -> None:
    boxes[0].script(Turn("I am first.", usage=Usage(input=7)), delivery=SILENT)
    boxes[1].script(Turn("I am second.", usage=Usage(input=11)))
    stream = hedge(asked(boxes), CONTEXT, after=0.1, registry=pi)
    with anyio.fail_after(30):
        assert (await anext(stream)).type == "start"
        # Its connection is free before the first event arrives.
        assert await boxes[0].requests[0].ending() == "client left"
        events = [event async for event in stream]
    message = events[-1].message
    assert (message.text, message.attempts) == ("I am second.", None)
    assert message.usage.input == 11


async def test_the_first_answers_alone_if_it_begins_in_time(pi: Registry, boxes: Any) -> None:
    boxes[0].script(Turn("I am first."))
    message = await hedge(asked(boxes), CONTEXT, after=NEVER, registry=pi).result()
    assert message.text == "I am first."
    assert not boxes[1].requests


async def test_a_failure_is_not_waited_for(pi: Registry, boxes: Any) -> None:
    boxes[0].script(Failure(500))
    boxes[1].script(Turn("I am second."))
    with anyio.fail_after(30):
        message = await hedge(asked(boxes), CONTEXT, after=NEVER, registry=pi, max_retries=0).result()
    assert message.text == "I am second."
    assert [attempt.error.kind for attempt in message.attempts or []] == ["server"]


async def test_one_that_fails_late_leaves_the_answer_to_the_other(pi: Registry, boxes: Any) -> None:
    boxes[0].script(Turn("I am first."), delivery=Delivery(first_token_delay_s=0.3))
    boxes[1].script(Failure(500))
    message = await hedge(asked(boxes), CONTEXT, after=0, registry=pi, max_retries=0).result()
    assert message.text == "I am first."
    assert [attempt.error.kind for attempt in message.attempts or []] == ["server"]


@pytest.mark.parametrize("how", ["abort", "aclose", "cancel"])
async def test_leaving_the_race_frees_all_connections(pi: Registry, boxes: Any, how: str) -> None:
    for box in boxes:
        box.script(Turn("Hello."), delivery=SILENT)
    stream = hedge(asked(boxes), CONTEXT, after=0, registry=pi)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream.result)
            for box in boxes:
                await box.received()
            if how == "cancel":
                tasks.cancel_scope.cancel()
            elif how == "abort":
                stream.abort()
            else:
                await stream.aclose()
        assert [await box.requests[0].ending() for box in boxes] == ["client left", "client left"]
    assert (stream.message.stop_reason, stream.done) == ("aborted", True)


async def test_an_abort_after_the_commit_ends_the_answer_and_keeps_it(pi: Registry, boxes: Any) -> None:
    boxes[0].script(Turn("one two three four"), delivery=Delivery(stop_after=2, then="stall"))
    stream = fallback(asked(boxes), CONTEXT, registry=pi)
    types = []
    with anyio.fail_after(30):
        async for event in stream:
            types.append(event.type)
            if event.type == "text_delta" and event.partial.text == "one two":
                stream.abort()
        assert await boxes[0].requests[0].ending() == "client left"
    assert types[-1] == "error"
    assert (stream.message.stop_reason, stream.message.text) == ("aborted", "one two")


async def test_nothing_happens_before_the_first_await_S1(pi: Registry, boxes: Any) -> None:
    stream = hedge(asked(boxes), CONTEXT, after=0, registry=pi)
    await anyio.lowlevel.checkpoint()
    await stream.aclose()
    assert not boxes[0].requests
    assert not boxes[1].requests


def test_no_candidates_and_no_delay_are_told() -> None:
    with pytest.raises(ValueError, match="no candidates"):
        fallback([], CONTEXT)
    with pytest.raises(ValueError, match="after"):
        hedge([], CONTEXT, after=-1)
