"""What an answer costs: list prices times tokens, or the provider's own bill (core section 5, K1-K6)."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlsplit

from pi_ai.types import Cost, CostTier, Model, ModelCost, Usage

PER_MILLION = 1_000_000
LONG_CACHE_FACTOR = 2
"""What a cache write with the long lifetime costs, in multiples of the *input* price (K3)."""


def calculate_cost(model: Model, usage: Usage) -> Cost:
    """Set ``usage.cost`` to what the tokens cost at the model's list prices, and return it.

    A tier counts when the whole prompt, cached tokens included, is larger than its threshold; the highest one wins
    and prices the whole request (K1).

    :return: a new :class:`Cost` in USD with ``total_from_provider=False``; never rounded.
    """
    rates = _rates(model.cost, usage.input + usage.cache_read + usage.cache_write)
    # Better than pi, which lets the short part go negative when a provider reports more than it wrote (K3).
    long = min(max(usage.cache_write_1h or 0, 0), usage.cache_write)
    cost = Cost(
        input=rates.input * usage.input / PER_MILLION,
        output=rates.output * usage.output / PER_MILLION,
        cache_read=rates.cache_read * usage.cache_read / PER_MILLION,
        cache_write=(rates.cache_write * (usage.cache_write - long) + LONG_CACHE_FACTOR * rates.input * long)
        / PER_MILLION,
        total_from_provider=False,
    )
    cost.total = cost.input + cost.output + cost.cache_read + cost.cache_write
    usage.cost = cost
    return cost


def sum_usage(a: Usage, b: Usage) -> Usage:
    """The tokens of two answers, wasted ones too, and what they cost, together; what neither has stays None."""
    counts: dict[str, Any] = {
        name: None if mine is None and theirs is None else (mine or 0) + (theirs or 0)
        for name in _COUNTS
        for mine, theirs in [(getattr(a, name), getattr(b, name))]
    }
    parts = {name: getattr(a.cost, name) + getattr(b.cost, name) for name in _AMOUNTS}
    billed = a.cost.total_from_provider if a.cost.total_from_provider == b.cost.total_from_provider else None
    wasted = sum_usage(a.wasted or Usage(), b.wasted or Usage()) if a.wasted or b.wasted else None
    return Usage(**counts, cost=Cost(**parts, total_from_provider=billed), wasted=wasted)


_COUNTS = ("input", "output", "cache_read", "cache_write", "cache_write_1h", "reasoning", "total_tokens")
_AMOUNTS = ("input", "output", "cache_read", "cache_write", "total")


def apply_provider_cost(model: Model, usage: Usage, raw: Mapping[str, Any]) -> None:
    """Replace ``usage.cost.total`` by the provider's own bill, if it sent a whole one (K5).

    Call it after :func:`calculate_cost`; the parts stay estimates. Only OpenRouter bills in its answers, so other
    models' usage is left alone: their ``cost`` would be a number of unknown meaning.

    :param raw: the provider's ``usage`` object.
    """
    total = provider_total(raw) if _bills_in_answers(model) else None
    if total is not None:
        usage.cost.total = total
        usage.cost.total_from_provider = True


def provider_total(raw: Mapping[str, Any]) -> float | None:
    """The bill in OpenRouter's ``usage`` object, in USD; None when a part is missing or makes no sense (K5).

    With the user's own key (``is_byok``), ``cost`` is only OpenRouter's fee and the upstream provider's price is
    in ``cost_details``.
    """
    fee = _usd(raw.get("cost"))
    match raw.get("is_byok"):
        case False:
            return fee
        case True:
            return _sum(fee, _upstream(raw.get("cost_details")))
        case _:
            return None


def _upstream(details: object) -> float | None:
    if not isinstance(details, Mapping):
        return None
    details = cast("Mapping[str, object]", details)
    whole = details.get("upstream_inference_cost")
    if whole is not None:
        return _usd(whole)
    prompt, completions = (details.get(f"upstream_inference_{part}_cost") for part in ("prompt", "completions"))
    return _sum(_usd(prompt), _usd(completions))


def _sum(*amounts: float | None) -> float | None:
    known = [amount for amount in amounts if amount is not None]
    return _usd(sum(known)) if len(known) == len(amounts) else None


def _usd(value: object) -> float | None:
    # Compared before it is converted: JSON integers may be larger than any float. NaN compares false.
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= sys.float_info.max:
        return float(value)
    return None


def _bills_in_answers(model: Model) -> bool:
    if model.provider == "openrouter":
        return True
    host = urlsplit(model.base_url).hostname or ""
    return host == "openrouter.ai" or host.endswith(".openrouter.ai")


def _rates(prices: ModelCost, prompt_tokens: int) -> ModelCost | CostTier:
    tiers = [tier for tier in prices.tiers or () if tier.input_tokens_above < prompt_tokens]
    return max(tiers, key=lambda tier: tier.input_tokens_above, default=prices)
