"""The API ``openai-responses``: ``POST {base_url}/responses``, answered by a stream of typed events.

OpenAI's second API. What it shares with its relatives is in ``_responses.py``. Rules: openai-responses.md.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from pi_ai.adapters._request import bearer, cache_retention, endpoint, session_id
from pi_ai.adapters._responses import PATH, Responses, ResponsesOptions, response_body
from pi_ai.adapters._responses_compat import AffinityFormat, Compat
from pi_ai.adapters.base import Request
from pi_ai.headers import copilot_headers, layer_headers
from pi_ai.types import Context, JSONObject, Model

# ── options ──────────────────────────────────────────────────────────────────────────────────────────────────


@attrs.frozen(kw_only=True)
class OpenAIResponsesOptions(ResponsesOptions):
    """Options of this API.

    :ivar service_tier: ``auto``, ``default``, ``flex``, ``priority``, … : how fast, and at what price.
    """

    service_tier: str | None = None


# ── request ──────────────────────────────────────────────────────────────────────────────────────────────────

_AFFINITY_HEADERS: Mapping[AffinityFormat, tuple[str, ...]] = {
    "openai": ("session-id", "x-client-request-id"),
    "openai-nosession": ("x-client-request-id",),
    "openrouter": ("x-session-id",),
}


def _headers(model: Model, compat: Compat, context: Context, options: OpenAIResponsesOptions) -> dict[str, str | None]:
    """All headers but the client's identity, from low to high (sections 5 and 6)."""
    session = session_id(options)
    return layer_headers(
        {
            "Accept": "application/json",
            "Content-Type": "application/json",
            **bearer(model, options, compat.api_key_header),
        },
        model.headers,
        copilot_headers(model, context.messages),
        dict.fromkeys(_AFFINITY_HEADERS[compat.session_affinity_format], session) if session else None,
        options.headers,
    )


def _body(model: Model, compat: Compat, context: Context, options: OpenAIResponsesOptions) -> JSONObject:
    own: JSONObject = {"service_tier": options.service_tier, **_cache(compat, options)}
    if _signed_in_with_chatgpt(model, options):
        own |= dict.fromkeys(("prompt_cache_retention", "prompt_cache_options", "max_output_tokens", "temperature"))
    return response_body(model, compat, context, options, own)


def _cache(compat: Compat, options: OpenAIResponsesOptions) -> JSONObject:
    """How long the cache shall live (section 6)."""
    retention, supports_long = cache_retention(options), compat.supports_long_cache_retention
    if compat.supports_explicit_prompt_cache_mode:
        if retention == "none":
            return {"prompt_cache_options": {"mode": "explicit"}}
        if retention == "long" and supports_long is not False:
            return {"prompt_cache_options": {"ttl": "30m"}}
        return {}
    return {"prompt_cache_retention": "24h"} if retention == "long" and supports_long else {}


def _signed_in_with_chatgpt(model: Model, options: OpenAIResponsesOptions) -> bool:
    """Whether the key is no API key but the token of a ChatGPT account, for which some fields are refused."""
    key = options.api_key
    return (
        model.provider == "openai"
        and model.base_url == "https://api.openai.com/v1"
        and key is not None
        and not key.startswith("sk-")
    )


# ── adapter ──────────────────────────────────────────────────────────────────────────────────────────────────


class OpenAIResponses(Responses[OpenAIResponsesOptions]):
    """The Responses API of OpenAI and of everybody who speaks it."""

    api = "openai-responses"
    label = "OpenAI Responses"
    options_type = OpenAIResponsesOptions

    def tier(self, options: OpenAIResponsesOptions) -> str | None:
        """The service tier that is asked for: it decides the price unless the server tells another one."""
        return options.service_tier

    def build_request(self, model: Model, context: Context, options: OpenAIResponsesOptions) -> Request:
        """The request (section 2).

        :raises PiAIError: no key (``auth``); a tool requires what the model does not have (``bad_request``); a wrong
            compat flag, header or base URL (``config``).
        """
        compat = self.compat(model)
        return Request(
            url=endpoint(model, PATH, options.env),
            headers=_headers(model, compat, context, options),
            body=_body(model, compat, context, options),
        )
