"""What servers of the Responses API do differently, as data (openai-responses.md section 1).

``Compat.of(model)`` gives every flag a value: what the model's ``compat`` says, else what is known about the vendor,
else what OpenAI itself does. To support another difference add a flag, to know another vendor a row to ``_VENDORS``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import attrs

from pi_ai.adapters._compat import Vendor, told_flags, vendor_flags
from pi_ai.types import JSONObject, Model

AffinityFormat: TypeAlias = Literal["openai", "openai-nosession", "openrouter"]

TIER_PRICES: Mapping[str, float] = {"flex": 0.5, "priority": 2.0, "fast": 2.0}
"""What service tiers cost, in multiples of the list price; others cost the list price."""


@attrs.frozen(kw_only=True)
class Compat:
    """The switches of one model at one server; the defaults are OpenAI's. ``Model.compat`` names them either way.

    :ivar supports_developer_role: takes the prompt of reasoning models in the role ``developer``.
    :ivar supports_no_effort: reasoning models take an effort that means "do not think".
    :ivar completion_proof: ``"eof"``: the end of the bytes is the end of the answer (reliability section 2).
    :ivar supports_max_output_tokens: knows ``max_output_tokens``.
    :ivar supports_strict_mode: knows ``strict`` in tools.
    :ivar supports_openai_grammar_tools: knows custom tools with a grammar.
    :ivar supports_mid_convo_system_messages: later system messages may stay where they are.
    :ivar supports_additional_tools: tools are declared in the conversation, by items of their own.
    :ivar supports_tool_search: tools that are added later may appear as what a search has found.
    :ivar supports_mid_convo_effort: each answer may have an effort of its own, told by an item.
    :ivar prompt_cache_key_mode: whether ``prompt_cache_key`` is sent; ``disabled``: never.
    :ivar supports_long_cache_retention: knows ``prompt_cache_retention``; None: only where that is certain.
    :ivar supports_explicit_prompt_cache_mode: has ``prompt_cache_options`` instead of it.
    :ivar session_affinity_format: which headers tell the session.
    :ivar api_key_header: where the key goes; Cloudflare's gateway keeps ``Authorization`` for the server behind it.
    :ivar service_tier_prices: what service tiers cost, in multiples of the list price.
    """

    supports_developer_role: bool = True
    supports_no_effort: bool = True
    completion_proof: Literal["eof"] | None = None
    supports_max_output_tokens: bool = True
    supports_strict_mode: bool = False
    supports_openai_grammar_tools: bool = False
    supports_mid_convo_system_messages: bool = False
    supports_additional_tools: bool = False
    supports_tool_search: bool = False
    supports_mid_convo_effort: bool = False
    prompt_cache_key_mode: Literal["auto", "enabled", "disabled"] = "auto"
    supports_long_cache_retention: bool | None = None
    supports_explicit_prompt_cache_mode: bool = False
    session_affinity_format: AffinityFormat = "openai"
    api_key_header: str = "Authorization"
    service_tier_prices: Mapping[str, float] = TIER_PRICES

    @classmethod
    def of(cls, model: Model, **defaults: Any) -> Compat:
        """All flags of a model. A flag that is None counts as not set; flags nobody knows are ignored.

        :param defaults: what the API does differently by itself.
        :raises PiAIError: kind ``config``: a flag has a value that it cannot have.
        """
        return cls(
            **{**defaults, **vendor_flags(model, _VENDORS), **_MODELS.get(model.id, {}), **told_flags(cls, model)}
        )


_VENDORS = (
    Vendor(name="openai", hosts=("api.openai.com",), flags={"supports_long_cache_retention": True}),
    Vendor(
        name="openrouter",
        providers=("openrouter",),
        hosts=("openrouter.ai",),
        flags={"session_affinity_format": "openrouter"},
    ),
    Vendor(
        name="github-copilot",
        providers=("github-copilot",),
        hosts=("githubcopilot.com",),
        flags={"supports_no_effort": False},
    ),
    Vendor(
        name="cloudflare-gateway",
        providers=("cloudflare-ai-gateway",),
        hosts=("gateway.ai.cloudflare.com",),
        flags={"api_key_header": "cf-aig-authorization"},
    ),
)

_MODELS: Mapping[str, JSONObject] = {
    "gpt-5.5": {"service_tier_prices": {**TIER_PRICES, "priority": 2.5, "fast": 2.5}},
}
"""What is known about models, by id."""

REFUSED_FIELDS = {
    "max_output_tokens": '"supportsMaxOutputTokens": false',
    "prompt_cache_retention": '"supportsLongCacheRetention": false',
    "prompt_cache_key": '"promptCacheKeyMode": "disabled"',
    "developer": '"supportsDeveloperRole": false',
    "strict": '"supportsStrictMode": false',
}
"""Fields and roles that other servers may refuse, and the flag that leaves each out."""
