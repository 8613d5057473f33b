"""Core section 5: K1-K6."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_ai.pricing import apply_provider_cost, calculate_cost, provider_total
from pi_ai.serialization import from_json, to_json
from pi_ai.types import Cost, CostTier, Model, ModelCost, Usage
from pi_ai_tests.data import goldens, recordings, table

PRICES = ModelCost(
    input=3,
    output=15,
    cache_read=0.3,
    cache_write=3.75,
    tiers=[CostTier(input_tokens_above=200_000, input=6, output=22.5, cache_read=0.6, cache_write=7.5)],
)


def model(cost: ModelCost = PRICES, *, provider: str = "anthropic", base_url: str = "") -> Model:
    return Model(id="m", api="a", provider=provider, base_url=base_url, cost=cost)


def usage(fresh: int = 0, output: int = 0, read: int = 0, write: int = 0, long: int | None = None) -> Usage:
    return Usage(input=fresh, output=output, cache_read=read, cache_write=write, cache_write_1h=long)


@pytest.mark.parametrize("row", table("calculate-cost"), ids=lambda row: json.dumps(row["usage"])[:60])
def test_every_golden_cost_is_met(row: dict[str, Any]) -> None:
    used = from_json(Usage, row["usage"])
    cost = calculate_cost(model(from_json(ModelCost, row["cost"])), used)
    assert to_json(cost) == pytest.approx(row["result"], rel=1e-9)
    assert cost.total_from_provider is False


@pytest.mark.parametrize(
    ("used", "total"),
    [
        pytest.param(usage(1000, 500), 0.0105, id="base"),
        pytest.param(usage(100_000, 1000, 100_000), 0.345, id="a prompt of exactly the threshold: base"),
        pytest.param(usage(100_000, 1000, 100_000, 1), 0.6825075, id="one token more: the tier, for all of it"),
        pytest.param(usage(10, 100, 2000, 3000, 1000), 0.01563, id="long-lived cache writes cost twice the input"),
    ],
)
def test_the_table_of_the_rules(used: Usage, total: float) -> None:
    assert calculate_cost(model(), used).total == pytest.approx(total, rel=1e-9)


def test_more_long_lived_writes_than_writes_is_bad_data_and_costs_no_less_than_nothing_k3() -> None:
    cost = calculate_cost(model(), usage(10, 100, 2000, 1000, 3000))
    assert cost.cache_write == pytest.approx(0.006, rel=1e-9)
    assert calculate_cost(model(), usage(write=1000, long=-5)).cache_write == pytest.approx(0.00375, rel=1e-9)


def test_the_highest_tier_below_the_prompt_wins_in_any_order_k1() -> None:
    tiers = [CostTier(input_tokens_above=above, input=price) for above, price in ((500, 5), (100, 1), (900, 9))]
    assert calculate_cost(model(ModelCost(input=0.5, tiers=tiers)), usage(600)).input == pytest.approx(5 * 600 / 1e6)
    assert calculate_cost(model(ModelCost(input=0.5, tiers=tiers)), usage(100)).input == pytest.approx(0.5 * 100 / 1e6)


def test_the_cost_is_a_new_object_that_the_usage_holds() -> None:
    used = usage(1000, 500)
    before = used.cost
    cost = calculate_cost(model(), used)
    assert used.cost is cost
    assert before == Cost()


@given(st.builds(usage, *[st.integers(0, 10**7)] * 4, st.none() | st.integers(0, 10**8)))
@settings(deadline=None)
def test_no_part_is_negative_and_the_total_is_their_sum(used: Usage) -> None:
    cost = calculate_cost(model(), used)
    parts = [cost.input, cost.output, cost.cache_read, cost.cache_write]
    assert all(part >= 0 for part in parts)
    assert cost.total == pytest.approx(math.fsum(parts), rel=1e-9)


# ── the provider's own bill ──────────────────────────────────────────────────────────────────────────────────

FEE = {"cost": 0.01}
OWN_KEY = {**FEE, "is_byok": True}


@pytest.mark.parametrize(
    ("raw", "total"),
    [
        ({**FEE, "is_byok": False}, 0.01),
        ({"cost": 0, "is_byok": False}, 0),
        ({"cost": 0, "is_byok": False, "cost_details": {"upstream_inference_cost": 9}}, 0),
        ({**OWN_KEY, "cost_details": {"upstream_inference_cost": 0.2}}, 0.21),
        ({**OWN_KEY, "cost_details": {"upstream_inference_cost": 0}}, 0.01),
    ],
)
def test_a_whole_bill_is_read_k5(raw: dict[str, Any], total: float) -> None:
    assert provider_total(raw) == pytest.approx(total)


@pytest.mark.parametrize("whole", [{}, {"upstream_inference_cost": None}])
def test_upstream_parts_stand_in_for_a_missing_whole_k5(whole: dict[str, Any]) -> None:
    parts = {"upstream_inference_prompt_cost": 0.5, "upstream_inference_completions_cost": 1}
    assert provider_total({**OWN_KEY, "cost_details": whole | parts}) == pytest.approx(1.51)


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"is_byok": False},
        FEE,
        {**FEE, "is_byok": None},
        {**FEE, "is_byok": "false"},
        {**FEE, "is_byok": 0},
        *({"cost": cost, "is_byok": False} for cost in (None, "0.1", True, -1, math.nan, math.inf, 10**400)),
        OWN_KEY,
        {**OWN_KEY, "cost_details": "0.2"},
        {**OWN_KEY, "cost_details": {}},
        {**OWN_KEY, "cost_details": {"upstream_inference_cost": -1}},
        {**OWN_KEY, "cost_details": {"upstream_inference_cost": "1"}},
        {**OWN_KEY, "cost_details": {"upstream_inference_prompt_cost": 1}},
        {"cost": 1.7e308, "is_byok": True, "cost_details": {"upstream_inference_cost": 1.7e308}},
    ],
    ids=repr,
)
def test_anything_missing_or_invalid_is_no_bill_k5(raw: dict[str, Any]) -> None:
    assert provider_total(raw) is None


@pytest.mark.parametrize(
    ("provider", "base_url", "billed"),
    [
        ("openrouter", "https://proxy.example.com/v1", True),
        ("mine", "https://openrouter.ai/api/v1", True),
        ("mine", "https://eu.OpenRouter.ai/api/v1", True),
        ("mine", "https://notopenrouter.ai/api/v1", False),
        ("mine", "https://proxy.example.com/openrouter.ai/v1", False),
        ("openai", "", False),
    ],
)
def test_only_openrouter_bills_in_its_answers_k5(provider: str, base_url: str, billed: bool) -> None:
    asked = model(provider=provider, base_url=base_url)
    used = usage(1000, 500)
    calculate_cost(asked, used)
    apply_provider_cost(asked, used, {"cost": 0.25, "is_byok": False})
    assert used.cost.total == pytest.approx(0.25 if billed else 0.0105)
    assert used.cost.total_from_provider is billed
    assert used.cost.input == pytest.approx(0.003)  # the parts stay estimates


def test_without_a_bill_the_estimate_stays_k5() -> None:
    asked = model(provider="openrouter")
    used = usage(1000, 500)
    calculate_cost(asked, used)
    apply_provider_cost(asked, used, {"cost": 0.25})
    assert used.cost.total == pytest.approx(0.0105)
    assert used.cost.total_from_provider is False


@pytest.mark.parametrize(
    "golden",
    [case for api in ("anthropic-messages", "openai-completions") for case in goldens(api) if "is_byok" in str(case)],
    ids=lambda golden: golden["name"],
)
def test_golden_bills_are_met(golden: dict[str, Any]) -> None:
    expected = from_json(Usage, golden["expected"]["message"]["usage"])
    body = golden["responses"][0]["body"]
    raw = [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: {") and "is_byok" in line]
    asked = from_json(Model, golden["model"])
    used = from_json(Usage, to_json(expected))
    calculate_cost(asked, used)
    apply_provider_cost(asked, used, raw[-1]["usage"])
    assert to_json(used.cost) == pytest.approx(to_json(expected.cost), rel=1e-9)


def test_the_bills_on_real_wires_are_read() -> None:
    bills = [
        payload["usage"]
        for meta, body in recordings("openai-completions")
        if meta["file"].startswith("openrouter")
        for line in body.decode("utf-8", "replace").splitlines()
        if line.startswith("data: {")
        and isinstance((payload := json.loads(line[6:])).get("usage"), dict)
        and "is_byok" in payload["usage"]
    ]
    if not bills:
        pytest.skip("no recorded bill")
    assert all(provider_total(bill) == bill["cost"] for bill in bills if not bill["is_byok"])
