"""What servers of the chat completions API do differently, as data (openai-completions.md sections 3 and 4).

``Compat.of(model)`` gives every flag a value: what the model's ``compat`` says, else what is known about the vendor,
else what OpenAI itself does. A server on this machine or in a private network gets the safe profile: only what every
server understands.

To support another vendor add a row to ``_VENDORS``; to support another difference add a flag to :class:`Compat`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import attrs

from pi_ai.adapters._compat import Vendor, told_flags, vendor_flags
from pi_ai.types import JSONObject, Model
from pi_ai.urls import host_of, is_local

ThinkingFormat: TypeAlias = Literal[
    "openai",
    "openrouter",
    "deepseek",
    "zai",
    "qwen",
    "qwen-chat-template",
    "chat-template",
    "baseten",
    "together",
    "string-thinking",
    "ant-ling",
]
MaxTokensField: TypeAlias = Literal["max_completion_tokens", "max_tokens"]
BudgetField: TypeAlias = Literal["thinking_token_budget", "thinking_budget", "thinking_budget_tokens"]
AffinityFormat: TypeAlias = Literal["openai", "openai-nosession", "openrouter", "xai"]
CacheKeyMode: TypeAlias = Literal["auto", "enabled", "disabled"]


@attrs.frozen(kw_only=True)
class Compat:
    """The switches of one model at one server; the defaults are OpenAI's. ``Model.compat`` names them either way.

    :ivar supports_store: knows ``store``.
    :ivar supports_developer_role: takes the prompt of reasoning models in the role ``developer``.
    :ivar supports_reasoning_effort: knows ``reasoning_effort``.
    :ivar supports_usage_in_streaming: knows ``stream_options``.
    :ivar supports_finish_reason: False: an answer without a finish reason is a whole one; the reason is inferred.
    :ivar completion_proof: ``"eof"``: the end of the bytes is the end of the answer (reliability section 2).
    :ivar max_tokens_field: name of the limit.
    :ivar requires_tool_result_name: tool results carry the tool's ``name``.
    :ivar requires_assistant_after_tool_result: no user message directly after a tool result.
    :ivar requires_non_null_assistant_content: messages of the assistant without text have ``""``, not null.
    :ivar requires_tools_with_tool_history: ``tools: []`` when there are none but the history has calls.
    :ivar requires_thinking_as_text: thoughts are replayed as plain text.
    :ivar requires_reasoning_content_on_assistant_messages: replayed answers always have ``reasoning_content``.
    :ivar replay_reasoning_field: where thoughts are replayed, whatever field they came in; None: in that field.
    :ivar tool_call_id_length: longest id of a call that the server takes; None: any.
    :ivar thinking_format: how thinking is asked for, see ``_openai_thinking.py``.
    :ivar chat_template_kwargs: of format ``chat-template``; ``chat_template_args`` of format ``baseten``.
    :ivar thinking_token_budget_field: where the server takes a limit of thinking; default: nowhere.
    :ivar supports_thinking_token_budget: short for that field being ``thinking_token_budget``.
    :ivar open_router_routing: sent as ``provider``. ``vercel_gateway_routing``: its ``only`` and ``order`` are sent.
    :ivar zai_tool_stream: send ``tool_stream``, so that arguments come in pieces.
    :ivar supports_strict_mode: knows ``strict`` in tools.
    :ivar supports_openai_grammar_tools: knows custom tools with a grammar.
    :ivar supports_mid_convo_system_messages: later system messages may stay where they are.
    :ivar supports_mid_convo_tool_additions: system messages may carry ``tools``.
    :ivar cache_control_format: ``"anthropic"``: wants cache marks on parts of the prompt.
    :ivar send_session_affinity_headers: wants the session's id in headers, ``session_affinity_format`` says which.
    :ivar prompt_cache_key_mode: whether ``prompt_cache_key`` is sent; ``auto``: where it is known to be understood.
    :ivar supports_long_cache_retention: knows ``prompt_cache_retention``; None: only where that is certain.
    :ivar api_key_header: where the key goes; Cloudflare's gateway keeps ``Authorization`` for the server behind it.
    :ivar vllm_priority: sent as ``priority``.
    :ivar reports_reasoning_apart: ``completion_tokens`` never include those of thoughts, whatever the total says.
    :ivar parse_think_tags: the text begins with thoughts in ``<think>`` tags.
    """

    supports_store: bool = True
    supports_developer_role: bool = True
    supports_reasoning_effort: bool = True
    supports_usage_in_streaming: bool = True
    supports_finish_reason: bool = True
    completion_proof: Literal["eof"] | None = None
    max_tokens_field: MaxTokensField = "max_completion_tokens"
    requires_tool_result_name: bool = False
    requires_assistant_after_tool_result: bool = False
    requires_non_null_assistant_content: bool = False
    requires_tools_with_tool_history: bool = False
    requires_thinking_as_text: bool = False
    requires_reasoning_content_on_assistant_messages: bool = False
    replay_reasoning_field: str | None = None
    tool_call_id_length: int | None = None
    thinking_format: ThinkingFormat = "openai"
    chat_template_kwargs: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    chat_template_args: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    thinking_token_budget_field: BudgetField | None = None
    supports_thinking_token_budget: bool = False
    open_router_routing: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    vercel_gateway_routing: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    zai_tool_stream: bool = False
    supports_strict_mode: bool = False
    supports_openai_grammar_tools: bool = False
    supports_mid_convo_system_messages: bool = False
    supports_mid_convo_tool_additions: bool = False
    cache_control_format: Literal["anthropic"] | None = None
    send_session_affinity_headers: bool = False
    session_affinity_format: AffinityFormat = "openai"
    prompt_cache_key_mode: CacheKeyMode = "auto"
    supports_long_cache_retention: bool = False
    api_key_header: str = "Authorization"
    vllm_priority: float | None = None
    reports_reasoning_apart: bool = False
    parse_think_tags: bool = False

    @classmethod
    def of(cls, model: Model) -> Compat:
        """All flags of a model. A flag that is None counts as not set; flags nobody knows are ignored.

        :raises PiAIError: kind ``config``: a flag has a value that it cannot have.
        """
        told = told_flags(cls, model)
        flags = {**detected(model), **told}
        if flags.get("cache_control_format") == "anthropic" and "supports_long_cache_retention" not in told:
            # The marks have their own long lifetime; elsewhere strict servers refuse the fields of a long retention
            # that they do not know, so it is for the model to say so (section 7.2, better than the reference).
            flags["supports_long_cache_retention"] = True
        return cls(**flags)


# ── vendors ──────────────────────────────────────────────────────────────────────────────────────────────────

# What almost every server but OpenAI's lacks, and what the small ones call the limit.
_PLAIN: JSONObject = {"supports_store": False, "supports_developer_role": False}
_MAX_TOKENS: JSONObject = {"max_tokens_field": "max_tokens"}
_NO_EFFORT: JSONObject = {"supports_reasoning_effort": False}

SAFE: JSONObject = {
    **_PLAIN,
    **_MAX_TOKENS,
    "supports_long_cache_retention": False,
    "supports_strict_mode": False,
}
"""Only what every server understands: for servers on one's own machine or network (section 4.3)."""

# Rows name only what differs from OpenAI. Where several match, the first one that names a flag wins, so their order
# is the precedence of thinking formats (section 4.2).
_VENDORS = (
    Vendor(
        name="deepseek",
        providers=("deepseek",),
        hosts=("deepseek.com",),
        flags={
            **_PLAIN,
            **_MAX_TOKENS,
            "thinking_format": "deepseek",
            "requires_reasoning_content_on_assistant_messages": True,
        },
    ),
    Vendor(
        name="zai",
        providers=("zai", "zai-coding-cn"),
        hosts=("api.z.ai", "open.bigmodel.cn"),
        flags={**_PLAIN, **_MAX_TOKENS, **_NO_EFFORT, "thinking_format": "zai"},
    ),
    Vendor(
        name="together",
        providers=("together",),
        hosts=("api.together.ai", "api.together.xyz"),
        flags={**_PLAIN, **_MAX_TOKENS, **_NO_EFFORT, "thinking_format": "together"},
    ),
    Vendor(
        name="ant-ling",
        providers=("ant-ling",),
        hosts=("api.ant-ling.com",),
        flags={**_PLAIN, **_MAX_TOKENS, **_NO_EFFORT, "thinking_format": "ant-ling"},
    ),
    Vendor(
        name="openrouter",
        providers=("openrouter",),
        hosts=("openrouter.ai",),
        flags={
            "thinking_format": "openrouter",
            "send_session_affinity_headers": True,
            "session_affinity_format": "openrouter",
        },
    ),
    Vendor(
        name="openrouter-others",
        providers=("openrouter",),
        hosts=("openrouter.ai",),
        other_ids=("anthropic/", "openai/"),
        flags={"supports_developer_role": False},
    ),
    Vendor(
        name="openrouter-claude",
        providers=("openrouter",),
        ids=("anthropic/",),
        flags={"cache_control_format": "anthropic"},
    ),
    Vendor(
        name="vercel",
        hosts=("ai-gateway.vercel.sh",),
        flags={**_PLAIN, "thinking_format": "openrouter", "reports_reasoning_apart": True},
    ),
    Vendor(
        name="moonshot",
        providers=("moonshotai", "moonshotai-cn"),
        hosts=("api.moonshot.",),
        flags={**_PLAIN, **_MAX_TOKENS, **_NO_EFFORT},
    ),
    Vendor(
        name="cloudflare-workers",
        providers=("cloudflare-workers-ai",),
        hosts=("api.cloudflare.com",),
        flags=_PLAIN,
    ),
    Vendor(
        name="cloudflare-gateway",
        providers=("cloudflare-ai-gateway",),
        hosts=("gateway.ai.cloudflare.com",),
        flags={**_PLAIN, **_MAX_TOKENS, **_NO_EFFORT, "api_key_header": "cf-aig-authorization"},
    ),
    Vendor(
        name="nvidia",
        providers=("nvidia",),
        hosts=("integrate.api.nvidia.com",),
        flags={**_PLAIN, **_MAX_TOKENS, **_NO_EFFORT},
    ),
    Vendor(name="cerebras", providers=("cerebras",), hosts=("cerebras.ai",), flags=_PLAIN),
    Vendor(
        name="xai",
        providers=("xai",),
        hosts=("api.x.ai",),
        flags={**_PLAIN, **_NO_EFFORT, "send_session_affinity_headers": True, "session_affinity_format": "xai"},
    ),
    Vendor(name="chutes", hosts=("chutes.ai",), flags={**_PLAIN, **_MAX_TOKENS}),
    Vendor(name="opencode", providers=("opencode",), hosts=("opencode.ai",), flags=_PLAIN),
    Vendor(name="opencode-go", providers=("opencode-go",), flags={"replay_reasoning_field": "reasoning_content"}),
    # From here on: hosts that the reference knows only through its catalogue (section 4.3).
    Vendor(
        name="fireworks",
        hosts=("api.fireworks.ai",),
        flags={**_PLAIN, "send_session_affinity_headers": True},
    ),
    Vendor(name="qwen", hosts=("aliyuncs.com",), flags={**_PLAIN, "thinking_format": "qwen"}),
    Vendor(name="kimi", hosts=("api.kimi.com",), flags={**_PLAIN, **_MAX_TOKENS}),
    Vendor(name="minimax", hosts=("api.minimax.io", "api.minimaxi.com"), flags={**_PLAIN, **_NO_EFFORT}),
    Vendor(name="huggingface", hosts=("router.huggingface.co",), flags={"supports_developer_role": False}),
    Vendor(name="ollama-cloud", hosts=("ollama.com",), flags=SAFE),
    Vendor(name="openai", providers=("openai",), flags={"tool_call_id_length": 40}),
    Vendor(name="openai-host", hosts=("api.openai.com",), flags={"supports_long_cache_retention": True}),
)


def detected(model: Model) -> JSONObject:
    """What is known about the model's server without being told (section 4)."""
    safe = SAFE if is_local(host_of(model.base_url)) else {}
    return {**safe, **vendor_flags(model, _VENDORS)}


# ── ready-made profiles ──────────────────────────────────────────────────────────────────────────────────────

_TEMPLATE: JSONObject = {
    **SAFE,
    **_NO_EFFORT,
    "thinking_format": "chat-template",
    "chat_template_kwargs": {"enable_thinking": {"$var": "thinking.enabled"}},
}

PROFILES: dict[str, JSONObject] = {
    "safe": SAFE,
    "ollama": {**SAFE, "supports_reasoning_effort": True},
    "vllm": {**_TEMPLATE, "thinking_token_budget_field": "thinking_token_budget"},
    "sglang": {**_TEMPLATE, "thinking_token_budget_field": "thinking_budget"},
    "llama_cpp": {
        **SAFE,
        **_NO_EFFORT,
        "thinking_format": "qwen-chat-template",
        "thinking_token_budget_field": "thinking_budget_tokens",
    },
    "lm_studio": {**SAFE, "supports_reasoning_effort": True},
    "litellm": {**SAFE, "supports_reasoning_effort": True},
    **{
        vendor.name: vendor.flags
        for vendor in _VENDORS
        if vendor.name in ("deepseek", "zai", "qwen", "moonshot", "together", "nvidia", "openrouter", "xai", "cerebras")
    },
}
"""For ``Model(compat=PROFILES["vllm"])``: servers that cannot be told by their address, and vendors behind proxies."""


REFUSED_FIELDS = {
    "max_completion_tokens": '"maxTokensField": "max_tokens"',
    "prompt_cache_retention": '"supportsLongCacheRetention": false',
    "prompt_cache_key": '"promptCacheKeyMode": "disabled"',
    "reasoning_effort": '"supportsReasoningEffort": false',
    "stream_options": '"supportsUsageInStreaming": false',
    "developer": '"supportsDeveloperRole": false',
    "strict": '"supportsStrictMode": false',
    "store": '"supportsStore": false',
}
"""Fields and roles that other servers may refuse, and the flag that leaves each out."""
