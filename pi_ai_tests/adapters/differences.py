"""Where pi_ai differs on purpose: from pi-ai (``DIFFERENCES``), and from what a recording says (``RECORDINGS``).

An entry names the places that differ (what lies in them is not compared) and the rule that wants it so. Tests fail
when something differs that is not listed, and when something listed does not differ.
"""

from __future__ import annotations

from typing import TypeAlias

Difference: TypeAlias = tuple[tuple[str, ...], str]

_LONG_CACHE = (
    ("body.prompt_cache_key", "body.prompt_cache_retention"),
    "openai-completions.md 7.2 [+]: a long retention is opt-in at hosts that are not known to take it",
)
_NO_ACCOUNT = (
    ("refused",),
    "openai-compatible-servers.md section 1 [+]: an unfilled {PLACEHOLDER} of the base URL fails before the request",
)
_CANNOT_STOP = "openai-completions.md section 5, note [+]: a model that cannot stop thinking is not told to"
_EMPTY_DELTA = (("events",), "core E10: no empty deltas")
_HELD_BACK = (("events",), "architecture D10: start is held back until there is content")

DIFFERENCES: dict[str, dict[str, Difference]] = {
    "openai-completions": {
        # requests
        "aborted-with-call-and-result": (("body.messages",), "core TM10: a result whose call is left out is left out"),
        "catalog-azure-deepseek-v4-pro": (
            ("refused",),
            "reliability X28: a model without a base URL is refused; pi-ai sends the provider's key to api.openai.com",
        ),
        "catalog-cloudflare-ai-gateway-workers-ai-cf-google-gemma-4-26b-a4b-it": _NO_ACCOUNT,
        "catalog-cloudflare-ai-gateway-workers-ai-cf-ibm-granite-granite-4.0-h-micro": _NO_ACCOUNT,
        "catalog-cloudflare-workers-ai--cf-google-gemma-4-26b-a4b-it": _NO_ACCOUNT,
        "catalog-cloudflare-workers-ai--cf-ibm-granite-granite-4.0-h-micro": _NO_ACCOUNT,
        "format-qwen-chat-template-mapped-off": (("body.chat_template_kwargs",), _CANNOT_STOP),
        "format-qwen-mapped-off": (("body.enable_thinking",), _CANNOT_STOP),
        "format-together-mapped-off": (("body.reasoning",), _CANNOT_STOP),
        "handoff-odd-tool-ids": (
            ("body.messages[1].tool_calls[1].id", "body.messages[3].tool_call_id"),
            "reliability F81, core TM6: a call without an id gets one",
        ),
        "provider-cloudflare-ai-gateway": (
            ("headers.authorization", "headers.cf-aig-authorization"),
            "openai-compatible-servers.md section 2, Cloudflare: Authorization is for the server behind the gateway",
        ),
        "surrogates-everywhere": (("body.messages[2].reasoning_content",), "core S2: every string is cleaned"),
        "url-bigmodel": _LONG_CACHE,
        "url-cerebras": _LONG_CACHE,
        "url-chutes": _LONG_CACHE,
        "url-deepseek": _LONG_CACHE,
        "url-groq": _LONG_CACHE,
        "url-local": _LONG_CACHE,
        # answers
        "abort-midstream": (("events",), "core E6: an open block is not ended before an error"),
        "finish-missing": (("events",), "core E6, reliability F18: a cut-off block is not ended"),
        "out-no-content": (("message.diagnostics",), "reliability F29: an empty answer is marked"),
        "out-reasoning-details-encrypted": (
            ("events", "message.content[0].thinking"),
            "openai-completions.md 9.5 [+]: thoughts that come only in details are shown",
        ),
        "out-refusal-field": (
            ("events", "message.content", "message.diagnostics"),
            "openai-completions.md 9.3 [+], reliability F34: a refusal is text, and is marked",
        ),
        "out-tool-empty-arguments": _EMPTY_DELTA,
        "out-tool-parallel-interleaved": _EMPTY_DELTA,
        "wire-empty-body": _HELD_BACK,
        "wire-json-body-not-stream": (
            ("events", "message"),
            "openai-completions.md 9.1 [+]: an answer that was not streamed is read",
        ),
        "wire-only-done": _HELD_BACK,
    },
}
"""By API and name of the golden: places (``refused``, ``url``, ``headers``, ``body``, ``events``, ``message``)."""

_NO_FINISH_REASON = (("complete",), "reliability section 2: [DONE] without a finish_reason is no proof of completion")
_NO_FINISH_REASON_AND_CALLS = (
    ("complete", "tool_calls"),
    "reliability section 2 and F19: without a finish_reason nothing proves that the calls are whole, so none is run",
)
_ONLY_DETAILS = (("thinking",), "openai-completions.md 9.5 [+]: thoughts that come only in details are shown")
_REFUSAL = (("text",), "openai-completions.md 9.3 [+]: a refusal is text; the recording lists it apart")
_APART = (("completion_tokens",), "openai-completions.md section 10 [+]: thoughts are counted beside the completion")

RECORDINGS: dict[str, dict[str, Difference]] = {
    "openai-completions": {
        "minimax--minimax-m2.1--cjk-or-emoji-cache-read--9b81f1.sse": _ONLY_DETAILS,
        "minimax--minimax-m2.1--text-tool-delta-reasoning-details--ff32e6.sse": _ONLY_DETAILS,
        "minimax--minimax-m2.5--cache-read-delta-reasoning-details--fac875.sse": _ONLY_DETAILS,
        "openai--gpt-4o-2024-08-06--delta-refusal-refusal-or-filter--ac818a.sse": _REFUSAL,
        "openai-compatible--kimi-k2--delta-tool-name-repeated-finish-null--2efb30.sse": _NO_FINISH_REASON_AND_CALLS,
        "openai-compatible--kimi-k2--finish-null-tool-no-args--72d88d.sse": _NO_FINISH_REASON_AND_CALLS,
        "openrouter--gemini-2.5-flash-lite--delta-tool-index-reused-delta-after-finish--7a5494.sse": (
            ("complete", "finish_reason", "tool_calls", "prompt_tokens", "completion_tokens"),
            "openai-completions.md 12.2: an error in the stream ends it, and its calls are not to be run (F19)",
        ),
        "openrouter--gpt-4o--delta-refusal-refusal-or-filter--d8d350.sse": _REFUSAL,
        "openrouter--minimax-m2-free--error-in-stream-max-tokens--baafd4.sse": (
            ("complete",),
            "openai-completions.md 12.2: an error in the stream ends it",
        ),
        "openrouter--qwen3-coder--finish-null--4c7ecb.sse": _NO_FINISH_REASON,
        "snowflake--claude-sonnet-4-6--logprobs-finish-null--c3a805.sse": _NO_FINISH_REASON,
        "vercel-gateway--gemini-2.5-flash--text--3fc0db.sse": _APART,
        "vercel-gateway--gemini-3-pro-preview--delta-reasoning-delta-reasoning-details--258c4d.sse": _APART,
        "vercel-gateway--gemini-3-pro-preview--delta-reasoning-delta-reasoning-details--424185.sse": _APART,
        "vercel-gateway--gemini-3-pro-preview--delta-reasoning-details--a03466.sse": _APART,
        "xai--grok-3-mini--long-300-delta-reasoning-content--fe9c8b.sse": _APART,
        "xai--grok-3-mini-high--long-300-delta-reasoning-content--95548e.sse": _APART,
        "xai--grok-4-fast-reasoning--parallel-tool-calls-cache-read--8b6433.sse": _APART,
        "xai--grok-code-fast-1--delta-reasoning-content-cache-read--7dfe46.sse": _APART,
        "xai--grok-code-fast-1--parallel-tool-calls-delta-reasoning-content--225343.sse": _APART,
    },
}
"""By API and file name of the recording: places of its ``expect``."""
