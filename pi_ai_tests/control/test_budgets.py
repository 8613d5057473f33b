"""Budgets: many streams, one purse."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from pi_ai import Context, Model, Registry, UserMessage
from pi_ai.budgets import budget
from pi_ai.testing import Delivery, Failure, Sandbox, Turn
from pi_ai.types import ModelCost, Usage

pytestmark = pytest.mark.anyio
APIS = ["openai-completions", "anthropic-messages", "bedrock-converse-stream"]
CONTEXT = Context([UserMessage("x" * 350)])  # about a hundred tokens
PRICES = ModelCost(input=1_000_000, output=2_000_000, cache_read=0, cache_write=0)  # a prompt token is a dollar


def priced(box: Sandbox, api: str = "openai-completions") -> Model:
    return box.model(api, cost=PRICES)


@pytest.mark.parametrize("api", APIS)
async def test_what_the_provider_counted_replaces_the_estimate(box: Sandbox, api: str) -> None:
    box.script(Turn("Hello.", usage=Usage(input=30, output=5)))
    async with Registry() as pi:
        with budget(usd=1000, tokens=1000) as spent:
            message = await pi.complete(priced(box, api), CONTEXT)
    assert message.stop_reason == "stop"
    assert spent.tokens == message.usage.total_tokens == 35
    assert spent.usd == pytest.approx(message.usage.cost.total) == pytest.approx(40)
    assert (spent.remaining_usd, spent.remaining_tokens) == (pytest.approx(960), 965)
    assert not spent.exhausted


@pytest.mark.parametrize("api", APIS)
async def test_a_stream_ends_in_mid_answer_when_the_money_is_spent_and_keeps_what_came(box: Sandbox, api: str) -> None:
    box.script(Turn("word " * 1000))
    async with Registry() as pi:
        with budget(usd=180) as spent:
            message = await pi.complete(priced(box, api), CONTEXT)
    assert message.stop_reason == "error"
    assert message.error_info is not None
    assert (message.error_info.kind, message.error_info.retryable) == ("quota", False)
    assert "The budget is spent" in (message.error_message or "")
    assert message.text.startswith("word word")
    assert spent.exhausted
    assert spent.remaining_usd == 0
    assert await box.requests[0].ending() == "client left"


async def test_after_the_end_no_request_is_made(box: Sandbox) -> None:
    box.script(Turn("Hello.", usage=Usage(input=500, output=5)))
    async with Registry() as pi:
        with budget(tokens=300) as spent:
            assert (await pi.complete(priced(box), CONTEXT)).stop_reason == "stop"
            second = await pi.complete(priced(box), CONTEXT)
        after = await pi.complete(priced(box), CONTEXT)
    assert spent.tokens == 505
    assert second.error_info is not None
    assert second.error_info.kind == "quota"
    assert after.stop_reason == "stop"
    assert len(box.requests) == 2


async def test_a_prompt_that_alone_is_too_dear_is_not_sent(box: Sandbox) -> None:
    async with Registry() as pi:
        with budget(usd=50) as spent:
            message = await pi.complete(priced(box), CONTEXT)
    assert message.error_info is not None
    assert (message.error_info.kind, message.error_info.attempts) == ("quota", 0)
    assert not box.requests
    assert spent.usd == 0


async def test_many_streams_draw_on_one_budget_as_they_run(box: Sandbox) -> None:
    """Twenty answers would cost 20 × (101 + 2 × 286) dollars; all of them together end at about 4,000."""
    box.script(*[Turn("word " * 200)] * 20)
    ended: list[Any] = []

    async def one(pi: Registry) -> None:
        ended.append(await pi.complete(priced(box), CONTEXT))

    async with Registry() as pi:
        with budget(usd=4000) as spent:
            async with anyio.create_task_group() as tasks:
                for _ in range(20):
                    tasks.start_soon(one, pi)
    assert {message.stop_reason for message in ended} == {"error"}
    assert {message.error_info.kind for message in ended} == {"quota"}
    assert 4000 <= spent.usd < 4400


async def test_an_inner_budget_draws_on_the_outer_one(box: Sandbox) -> None:
    box.script(Turn("Hello.", usage=Usage(input=500, output=5)))
    async with Registry() as pi:
        with budget(tokens=400) as outer, budget(tokens=10_000) as inner:
            await pi.complete(priced(box), CONTEXT)
            assert inner.exhausted
            refused = await pi.complete(priced(box), CONTEXT)
    assert (inner.tokens, outer.tokens) == (505, 505)
    assert refused.error_info is not None
    assert "505 of 400 tokens" in refused.error_info.message


async def test_requests_without_an_answer_cost_nothing(box: Sandbox) -> None:
    box.script(Failure(400))
    async with Registry() as pi:
        with budget(usd=500, tokens=500) as spent:
            assert (await pi.complete(priced(box), CONTEXT)).stop_reason == "error"
            with pytest.raises(TypeError):
                pi.stream(priced(box), "not a context")  # type: ignore[arg-type]
    assert (spent.usd, spent.tokens) == (0, 0)


async def test_what_was_told_before_an_abort_stays_spent(box: Sandbox) -> None:
    box.script(Turn("word " * 100), delivery=Delivery(stop_after=20, then="stall"))
    async with Registry() as pi:
        with budget(usd=10_000) as spent:
            events = pi.stream(priced(box), CONTEXT)
            async for event in events:
                if event.type == "text_delta" and len(event.partial.text) >= 70:
                    events.abort()
    assert events.message.stop_reason == "aborted"
    assert spent.usd > 120


async def test_a_custom_provider_that_streams_from_an_api_is_charged_once(box: Sandbox) -> None:
    async with Registry() as pi:
        box.script(*[Turn("Hello.", usage=Usage(input=30, output=5))] * 2)

        async def answer(model: Model, context: Context, options: Any) -> Any:
            return pi.stream_api(box.model("anthropic-messages"), context, options)

        pi.register_provider(
            "mine", api="mine", stream_simple=answer, base_url="http://localhost", api_key="k", models=[{"id": "m"}]
        )
        with budget(tokens=1000) as spent:
            message = await pi.complete(pi.get_model("mine", "m"), CONTEXT)
        with budget(tokens=1000) as direct:
            await pi.stream_api(box.model("anthropic-messages"), CONTEXT, api_key="k").result()
    assert message.stop_reason == "stop"
    assert (spent.tokens, direct.tokens) == (35, 35)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({}, "needs usd= or tokens="),
        ({"usd": 0}, "usd=…"),
        ({"tokens": -1}, "tokens=…"),
        ({"usd": float("nan")}, "usd"),
    ],
)
def test_a_limit_that_is_none_is_told(limits: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words), budget(**limits):
        raise AssertionError
