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
_NO_DISGUISE = (
    ("headers.anthropic-beta", "headers.x-app", "body.system", "body.tools", "body.messages", "events", "message"),
    "anthropic-messages.md AN5, architecture D14: a subscription's token goes out under our own name",
)
_READABLE = (("message.errorMessage",), "core ET3: a readable line in the place of the raw JSON")
_FALLBACK = (("message.diagnostics",), "core ET1: a colon behind the status")
_TURNS = (("body.messages",), "bedrock-converse-stream.md BR20 [better]: user and assistant take turns")
_STUBS = (("body.toolConfig",), "bedrock-converse-stream.md BR24 [better]: calls in the history want tools on offer")
_TURNS_AND_STUBS = (("body.messages", "body.toolConfig"), f"{_TURNS[1]}; BR24 [better]: and calls want tools on offer")
_ATTEMPTS = (("requests",), "bedrock-converse-stream.md BR12 [better]: max_retries counts; AWS's SDK tries three times")
_BILLED = (("message.usage",), "openai-responses.md section 8 [+]: what a failed response has cost is kept")
_NOTHING_BUT_BILLED = (("events", *_BILLED[0]), f"{_HELD_BACK[1]}; {_BILLED[1]}")
_CODE = (("message.errorMessage",), "openai-responses.md section 8 [+]: an error is told with its code")
_SEPARATOR = (("events",), "openai-responses.md 7.1 [+]: a separator stands between parts, none behind the last")

_NOT_ENDED = (("events",), "core E6, reliability F18: a cut-off block is not ended")
_IMAGES_FOLLOW = (("body.contents",), "google.md 4.4 [+]: images follow the run of results")
_LEAST_THOUGHT = (("body.generationConfig.thinkingConfig",), "google.md 6.3 [+]: 2.5 Pro cannot stop thinking")
_SAMPLING = (
    ("body.generationConfig.topK", "body.generationConfig.topP", "body.generationConfig.minP"),
    "google.md section 3 [+]: sampling parameters are sent",
)
_UNKNOWN_END = (
    ("events", "message.usage", "message.errorMessage"),
    f"google.md section 9 [+]: an unknown reason is told as the others are, with what it has cost; {_EMPTY_DELTA[1]}",
)
_SIGNED_APART = (
    ("events", "message.content"),
    f"google.md section 7 [+]: what is signed apart stays apart; {_EMPTY_DELTA[1]}",
)
_BLOCKED = (
    ("events", "message.errorMessage"),
    f"google.md section 7 [+]: a blocked prompt is told; {_HELD_BACK[1]}",
)

DIFFERENCES: dict[str, dict[str, Difference]] = {
    "anthropic-messages": {
        # requests
        "catalog-cloudflare-ai-gateway-claude-fable-5": _NO_ACCOUNT,
        "catalog-cloudflare-ai-gateway-claude-haiku-4-5": _NO_ACCOUNT,
        "catalog-cloudflare-ai-gateway-claude-haiku-5-5": _NO_ACCOUNT,
        "handoff-odd-tool-ids": (
            ("body.messages[1].content[1].id", "body.messages[2].content[1].tool_use_id"),
            "reliability F81, core TM6: a call without an id gets one",
        ),
        "oauth-token": (_NO_DISGUISE[0][:5], _NO_DISGUISE[1]),
        "result-without-call": (("body.messages",), "core TM10: a result that answers no call is left out"),
        # answers
        "error-event-first": (("events", "message.errorMessage"), f"{_HELD_BACK[1]}; {_READABLE[1]}"),
        "error-event-midstream": _READABLE,
        "oauth-tool-name-mapped-back": ((*_NO_DISGUISE[0][:4], *_NO_DISGUISE[0][5:]), _NO_DISGUISE[1]),
        "out-block-never-stopped": (("events",), "core E6: every block is ended before done"),
        "out-delta-for-unknown-index": (
            ("events", "message.content", "message.diagnostics"),
            "reliability F17: a block whose start was lost is opened, and counted",
        ),
        "out-no-content": (("message.diagnostics",), "reliability F29: an empty answer is marked"),
        "out-tool-many-deltas": _EMPTY_DELTA,
        "out-tool-truncated": (
            ("events", "message.content[0]"),
            "core E6 and J2: every block is ended before done, and cut-off arguments are none",
        ),
        "stop-brand_new_reason": (("message.usage",), "anthropic-messages.md 5.2: usage is kept"),
        "stop-model_context_window_exceeded": (
            ("events", "message.usage", "message.stopReason", "message.errorMessage"),
            "anthropic-messages.md 5.2 [better]: a full window is an ending like a reached limit",
        ),
        "strict-limit-fallback": _FALLBACK,
        "thread-field-rejected": _FALLBACK,
        "thread-not-found-resend": _FALLBACK,
        "thread-unsupported-resend": _FALLBACK,
        "wire-bad-json-event": _HELD_BACK,
        "wire-crlf-split": (("events", "message"), "anthropic-messages.md AN26 [better]: CR and LF may be parted"),
        "wire-empty-body": _HELD_BACK,
        "wire-events-after-stop": (
            ("events", "message.content"),
            "anthropic-messages.md AN33 [better]: nothing is read after message_stop",
        ),
        "wire-truncated-after-start": _HELD_BACK,
    },
    "azure-openai-responses": {
        # requests
        "handoff-odd-tool-ids": (
            ("body.input[2].call_id", "body.input[4].call_id"),
            "reliability F81, core TM6: a call without an id gets one",
        ),
        # answers
        "failed-event": _NOTHING_BUT_BILLED,
        "out-reasoning-and-tool": _SEPARATOR,
        "wire-empty-body": _HELD_BACK,
    },
    "bedrock-converse-stream": {
        # requests
        "aborted-assistant": _TURNS,
        "aborted-with-call-and-result": (
            ("body.messages",),
            f"{_TURNS[1]}; core TM10: a result whose call is left out is left out",
        ),
        "catalog-amazon-bedrock-amazon.nova-lite-v1-0": _TURNS,
        "catalog-amazon-bedrock-anthropic.claude-fable-5": _TURNS,
        "catalog-amazon-bedrock-mistral.devstral-2-123b": _TURNS,
        "consecutive-users": _TURNS,
        "empty-assistant-content": _TURNS,
        "empty-keys-dropped": _STUBS,
        "empty-tool-result": _STUBS,
        "error-assistant": _TURNS,
        "handoff-google-signatures": _STUBS,
        "handoff-odd-tool-ids": (
            (
                "body.messages[1].content[1].toolUse.toolUseId",
                "body.messages[2].content[1].toolResult.toolUseId",
                "body.toolConfig",
            ),
            f"reliability F81, core TM6: a call without an id gets one; {_STUBS[1]}",
        ),
        "handoff-responses-ids": _TURNS,
        "midconvo-sections": _TURNS,
        "nova-error-result-image": _STUBS,
        "orphan-call-at-end": _STUBS,
        "orphan-one-of-two": _TURNS_AND_STUBS,
        "orphan-then-assistant": _STUBS,
        "parallel-tool-calls": _TURNS,
        "same-model-signatures": _STUBS,
        "thinking-empty-signed": (
            ("body.messages[1].content",),
            "bedrock-converse-stream.md BR18 [better]: a signed thought without text is kept",
        ),
        "thinking-only-foreign": _TURNS,
        "tool-call-and-result-no-tools": _STUBS,
        "tool-call-nested-arguments": _STUBS,
        "tool-image-only-to-text-only-model": _STUBS,
        "tool-image-to-text-only-model": _STUBS,
        "tool-result-error": _STUBS,
        "tool-result-error-with-image": _STUBS,
        "tool-result-image": _STUBS,
        "tool-result-image-only": _STUBS,
        "tool-result-then-user": _TURNS,
        "whitespace-only-assistant": _TURNS,
        "whitespace-user-string": _TURNS,
        # answers
        "error-frame": (
            ("events", "message.errorMessage"),
            f"{_HELD_BACK[1]}; bedrock-converse-stream.md BR30: an error's name is told",
        ),
        "exception-first-validation": (
            ("message.diagnostics[0].details.requestId",),
            "bedrock-converse-stream.md BR33: the id of the request is told, whichever frame it was",
        ),
        "exception-unheardof": (
            ("message.errorMessage", "message.diagnostics[0].details.errorCode"),
            "bedrock-converse-stream.md BR30: name and message, in the place of raw JSON",
        ),
        "http-429-throttlingexception": _ATTEMPTS,
        "http-500-internalserverexception": _ATTEMPTS,
        "http-503-serviceunavailableexception": _ATTEMPTS,
        "out-no-message-start": (("events",), "bedrock-converse-stream.md BR26 [better]: start comes first"),
        "out-tool-never-stopped": (
            ("events", "message.content[0]"),
            "core E6 and J2: every block is ended before done, and cut-off arguments are none",
        ),
        "retry-429-then-ok": (("requests", "events", "message"), _ATTEMPTS[1]),
        "wire-bad-json-payload": _HELD_BACK,
    },
    "google-generative-ai": {
        # requests
        "aborted-with-call-and-result": (("body.contents",), "core TM10: a result whose call is left out is left out"),
        "gemini-2.5-pro-off": _LEAST_THOUGHT,
        "parallel-tool-results-images": _IMAGES_FOLLOW,
        "result-without-call": (("body.contents",), "core TM10: a result that answers no call is left out"),
        "sampling-params": _SAMPLING,
        # answers
        "error-in-stream": (
            ("events", "message.errorMessage"),
            f"google.md section 10 [+]: an error in the stream is told; {_NOT_ENDED[1]}",
        ),
        "finish-blocklist": _EMPTY_DELTA,
        "finish-brand_new": _UNKNOWN_END,
        "finish-finish_reason_unspecified": _EMPTY_DELTA,
        "finish-language": _EMPTY_DELTA,
        "finish-malformed_function_call": _EMPTY_DELTA,
        "finish-max_tokens": _EMPTY_DELTA,
        "finish-missing": _NOT_ENDED,
        "finish-no_image": _EMPTY_DELTA,
        "finish-other": _EMPTY_DELTA,
        "finish-prohibited_content": _EMPTY_DELTA,
        "finish-too_many_tool_calls": _EMPTY_DELTA,
        "finish-unexpected_tool_call": _EMPTY_DELTA,
        "out-no-candidates": _BLOCKED,
        "out-no-parts": (("message.diagnostics",), "reliability F29: an empty answer is marked"),
        "out-signature-only-empty-text": _EMPTY_DELTA,
        "out-thought-signature-text": _SIGNED_APART,
        "out-tool-between-texts": _EMPTY_DELTA,
        "out-tool-no-args": _EMPTY_DELTA,
        "out-tool-no-name": _EMPTY_DELTA,
        "out-tool-one": _EMPTY_DELTA,
        "out-tool-signature": _EMPTY_DELTA,
        "wire-comments": _EMPTY_DELTA,
        "wire-crlf-split": _EMPTY_DELTA,
        "wire-empty-body": _HELD_BACK,
        "wire-truncated": _NOT_ENDED,
    },
    "google-vertex": {
        # requests
        "gemini-2.5-flash-lite-minimal": (
            ("body.generationConfig.thinkingConfig",),
            "google.md 6.2: the least that Flash Lite takes is 512",
        ),
        "gemini-2.5-pro-off": _LEAST_THOUGHT,
        "parallel-tool-results-images": _IMAGES_FOLLOW,
        "payload-hook": (("body.hooked",), "google.md section 3 [+]: hooks see and change the body itself"),
        "sampling-params": _SAMPLING,
        "text-plain-stream": (("body.generationConfig",), "google.md section 3: an empty generationConfig is left out"),
        # answers
        "finish-brand_new": _UNKNOWN_END,
        "finish-max_tokens": _EMPTY_DELTA,
        "finish-safety": _EMPTY_DELTA,
        "out-thought-signature-text": _SIGNED_APART,
        "out-tool-one": _EMPTY_DELTA,
        "out-tool-signature": _EMPTY_DELTA,
        "wire-empty-body": _HELD_BACK,
    },
    "mistral-conversations": {
        # requests
        "aborted-with-call-and-result": (("body.messages",), "core TM10: a result whose call is left out is left out"),
        "result-without-call": (("body.messages",), "core TM10: a result that answers no call is left out"),
        "sampling-params": (
            ("body.min_p", "body.top_k", "body.top_p"),
            "mistral-conversations.md, Request [+]: sampling parameters are sent",
        ),
        # answers
        "error-object-in-stream": (
            ("message.errorMessage",),
            "mistral-conversations.md, Stream [+]: an error in the stream is told in its own words",
        ),
        "finish-missing": _NOT_ENDED,
        "retry-option-ignored": (("requests",), "mistral-conversations.md, Request [+]: max_retries counts"),
        "wire-no-final-blank-line": (("events", "message"), "reliability F20: half a line is never parsed"),
        "wire-truncated": _NOT_ENDED,
    },
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
    "openai-responses": {
        # requests
        "catalog-cloudflare-ai-gateway-gpt-4.1": _NO_ACCOUNT,
        "catalog-cloudflare-ai-gateway-gpt-5": _NO_ACCOUNT,
        "result-without-call": (("body.input",), "core TM10: a result that answers no call is left out"),
        # answers
        "error-event-midstream": _CODE,
        "error-event-no-event-line": _CODE,
        "failed-event": _NOTHING_BUT_BILLED,
        "out-done-text-differs-from-deltas": (
            ("events", "message.content"),
            "openai-responses.md 7.3 [+], core E7: what has been shown stands",
        ),
        "out-item-done-without-added": (("events",), "openai-responses.md 7.3 [+], core E7: all text comes in deltas"),
        "out-no-content": (("message.diagnostics",), "reliability F29: an empty answer is marked"),
        "out-reasoning-and-tool": _SEPARATOR,
        "out-tool-custom-changed": (("message.content",), "reliability F19: a call that failed is not to be run"),
        "stop-failed": _BILLED,
        "stop-failed-empty": _BILLED,
        "stop-failed-incomplete-details": _BILLED,
        "stop-unknown": (("message.errorMessage",), "openai-responses.md 7.4 [+]: it is told what is not known"),
        "wire-empty-body": _HELD_BACK,
        "wire-pings": (("message.diagnostics",), "reliability F8: events of an unknown kind are counted"),
    },
}
"""By API and name of the golden: places (``refused``, ``url``, ``headers``, ``body``, ``events``, ``message``)."""

_INCLUDE = (("body.include",), "openai-responses.md section 2 [+]: thoughts come encrypted, also while thinking is off")

_OTHER_MODEL = (("message.responseModel",), "google.md section 7 [+]: the model that answered is told")

EVERYWHERE: dict[str, Difference] = {
    "azure-openai-responses": _INCLUDE,
    "bedrock-converse-stream": (
        ("headers.accept", "message.responseId"),
        "bedrock-converse-stream.md BR1: what is accepted is told; section 5 [better]: the id stands in a header",
    ),
    "google-generative-ai": _OTHER_MODEL,
    "google-vertex": _OTHER_MODEL,
    "mistral-conversations": (("message.responseModel",), "core section 2: the model that answered is told"),
    "openai-responses": _INCLUDE,
}
"""By API: places that may differ in all of its goldens."""

_NO_FINISH_REASON = (("complete",), "reliability section 2: [DONE] without a finish_reason is no proof of completion")
_NO_FINISH_REASON_AND_CALLS = (
    ("complete", "tool_calls"),
    "reliability section 2 and F19: without a finish_reason nothing proves that the calls are whole, so none is run",
)
_ONLY_DETAILS = (("thinking",), "openai-completions.md 9.5 [+]: thoughts that come only in details are shown")
_REFUSAL = (("text",), "openai-completions.md 9.3 [+]: a refusal is text; the recording lists it apart")
_APART = (("completion_tokens",), "openai-completions.md section 10 [+]: thoughts are counted beside the completion")
_REFUSED = (("complete",), "anthropic-messages.md 5.2: a refusal is an error, however properly it ends")
_PARTS = (("thinking",), "openai-responses.md 7.1 [+]: the parts of a thought are told apart")

_IN_PIECES = (("tool_calls",), "google.md section 7: the recording lists the pieces of calls, not the calls")

_TITAN = "amazon-bedrock--amazon.titan-text-express-v1"
_INTERVENED = (("complete",), "bedrock-converse-stream.md section 5: a guardrail's intervention is an error")

RECORDINGS: dict[str, dict[str, Difference]] = {
    "anthropic-messages": {
        "anthropic--claude-fable-5--refusal-or-filter--4e0ec9.sse": _REFUSED,
        "anthropic--claude-fable-5--refusal-or-filter-block-web-search-tool-result--d7673f.sse": _REFUSED,
    },
    "google-generative-ai": {
        "google--gemini-3-flash-preview--server-tools-thinking-signature--011c67.sse": (
            ("signatures",),
            "google.md section 7: code that ran on the server is no block; its signature stands in the diagnostic",
        ),
        "google--gemini-3-flash-preview--streamed-tool-args-parallel-tool-calls--b1415e.sse": _IN_PIECES,
        "google--gemini-3.1-pro-preview--streamed-tool-args-parallel-tool-calls--4801a0.sse": _IN_PIECES,
    },
    "google-vertex": {
        "google-vertex--gemini-3-pro-preview--streamed-tool-args-tool-no-args--c2a767.sse": _IN_PIECES,
        "google-vertex--gemini-3.1-pro-preview--streamed-tool-args-parallel-tool-calls--404793.sse": _IN_PIECES,
    },
    "bedrock-converse-stream": {
        f"{_TITAN}--finish-guardrail-intervened-guardrail-trace--5ede3e.eventstream": _INTERVENED,
        f"{_TITAN}--finish-guardrail-intervened-guardrail-trace--eb4415.eventstream": _INTERVENED,
    },
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
    "openai-responses": {
        "openai--gpt-5-2025-08-07--long-300-thinking--ec9d4f.sse": _PARTS,
        "openai--gpt-5-nano-2025-08-07--error-in-stream-status-failed--ce62fa.sse": (
            ("complete", "finish_reason"),
            "openai-responses.md section 8: an error in the stream ends it",
        ),
        "openai--gpt-5.3-codex--final-text-differs-cache-read--5ac4f6.sse": (
            ("text",),
            "openai-responses.md 7.3 [+]: what the whole item has beyond the deltas is one more of them",
        ),
        "openai--o4-mini-2025-04-16--thinking-reasoning-encrypted--43a7c9.sse": _PARTS,
    },
}
"""By API and file name of the recording: places of its ``expect``."""
