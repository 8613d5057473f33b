"""The API ``openai-completions``: ``POST {base_url}/chat/completions``, answered by a stream of chunks.

OpenAI's first API, spoken by most other vendors and by local servers, each a little differently. The differences are
data: see ``_openai_compat.py`` for who differs how, ``_openai_thinking.py`` for the ways to ask for thought, and
``_openai_messages.py`` for the conversation. Rules: openai-completions.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

import attrs

from pi_ai.adapters._answer import as_list, as_object, as_text, as_tokens
from pi_ai.adapters._chunks import ChunkParser, thought_text
from pi_ai.adapters._openai import cache_key, grammars, refused_field_hint, sampling
from pi_ai.adapters._openai_calls import ToolCalls
from pi_ai.adapters._openai_compat import REFUSED_FIELDS, AffinityFormat, Compat
from pi_ai.adapters._openai_details import ReasoningDetails, is_detail
from pi_ai.adapters._openai_messages import REASONING_FIELDS, function_tool, has_tool_history, messages_and_tools
from pi_ai.adapters._openai_thinking import thinking_fields
from pi_ai.adapters._request import bearer, cache_mark, cache_retention, endpoint, lowered, session_id
from pi_ai.adapters._think_tags import ThinkTags
from pi_ai.adapters.base import Adapter, Request
from pi_ai.builder import MessageBuilder, TextBlock, ThinkingBlock
from pi_ai.errors import ErrorKind, PiAIError
from pi_ai.events import DoneReason, StreamEvent
from pi_ai.headers import copilot_headers, layer_headers
from pi_ai.history import current_tools, transcript
from pi_ai.pricing import apply_provider_cost
from pi_ai.reasoning import clamp_level
from pi_ai.tokens import fit_max_tokens
from pi_ai.tools import Grammar, strict_parameters
from pi_ai.types import (
    CacheRetention,
    Context,
    JSONObject,
    Model,
    ReasoningLevel,
    RequestOptions,
    StreamOptions,
    Tool,
    ToolChoice,
    Usage,
)
from pi_ai.urls import host_of
from pi_ai.wire.sse import SSEDecoder

# ── options ──────────────────────────────────────────────────────────────────────────────────────────────────


@attrs.frozen(kw_only=True)
class OpenAICompletionsOptions(RequestOptions):
    """Options of this API.

    :ivar tool_choice: ``"auto"``, ``"none"``, ``"any"`` (on the wire ``required``), one tool by name, or the wire's own
        object.
    :ivar reasoning_effort: how hard to think; None: thinking is off.
    :ivar thinking_budgets: tokens to think by level, for servers with such a limit.
    """

    tool_choice: ToolChoice | Literal["required"] | JSONObject | None = None
    reasoning_effort: ReasoningLevel | None = None
    thinking_budgets: Mapping[ReasoningLevel, int] | None = None


# ── request ──────────────────────────────────────────────────────────────────────────────────────────────────

_AFFINITY_HEADERS: Mapping[AffinityFormat, tuple[str, ...]] = {
    "openai": ("session_id", "x-client-request-id", "x-session-affinity"),
    "openai-nosession": ("x-client-request-id", "x-session-affinity"),
    "openrouter": ("x-session-id",),
    "xai": ("x-grok-conv-id",),
}


def _headers(
    model: Model, compat: Compat, context: Context, options: OpenAICompletionsOptions
) -> dict[str, str | None]:
    """All headers but the client's identity, from low to high (section 8)."""
    session = session_id(options)
    affinity = _AFFINITY_HEADERS[compat.session_affinity_format] if compat.send_session_affinity_headers else ()
    return layer_headers(
        {
            "Accept": "application/json",
            "Content-Type": "application/json",
            **bearer(model, options, compat.api_key_header),
        },
        model.headers,
        copilot_headers(model, context.messages),
        dict.fromkeys(affinity, session) if session else None,
        options.headers,
    )


def _body(model: Model, compat: Compat, context: Context, options: OpenAICompletionsOptions) -> JSONObject:
    """The body, its fields in the order of section 2; where sampling parameters name a field, they win."""
    retention = cache_retention(options)
    constraints = grammars(current_tools(transcript(context)), supported=compat.supports_openai_grammar_tools)
    messages, tools = messages_and_tools(
        model, compat, context, {name: found.argument for name, found in constraints.items()}
    )
    limit = options.max_tokens if options.max_tokens and options.max_tokens > 0 else None

    body: JSONObject = {
        "model": model.id,
        "messages": messages,
        "stream": True,
        **_cache(model, compat, options),
    }
    if compat.supports_usage_in_streaming:
        body["stream_options"] = {"include_usage": True}
    if compat.supports_store:
        body["store"] = False
    if limit is not None:
        body[compat.max_tokens_field] = limit
    if options.temperature is not None:
        body["temperature"] = options.temperature
    if tools:
        body["tools"] = [_tool(tool, constraints.get(tool.name), compat) for tool in tools]
        if compat.zai_tool_stream:
            body["tool_stream"] = True
    elif compat.requires_tools_with_tool_history and has_tool_history(messages):
        body["tools"] = []
    if options.tool_choice is not None:
        body["tool_choice"] = _tool_choice(options.tool_choice, constraints)
    if compat.vllm_priority is not None:
        body["priority"] = compat.vllm_priority
    body |= thinking_fields(model, compat, options.reasoning_effort, max_tokens=limit, budgets=options.thinking_budgets)
    if compat.open_router_routing:
        body["provider"] = dict(compat.open_router_routing)
    routing = compat.vercel_gateway_routing
    if gateway := {key: routing[key] for key in ("only", "order") if routing.get(key)}:
        body["providerOptions"] = {"gateway": gateway}
    if compat.cache_control_format == "anthropic" and retention != "none":
        _mark_for_cache(body, compat, retention)
    return body | sampling(model, options.reasoning_effort, options)


def _cache(model: Model, compat: Compat, options: OpenAICompletionsOptions) -> JSONObject:
    """The session's cache key, and a long life of the cache (section 7.2)."""
    long = cache_retention(options) == "long" and compat.supports_long_cache_retention
    known = long or host_of(model.base_url) == "api.openai.com"
    wanted = {"enabled": True, "disabled": False, "auto": known}[compat.prompt_cache_key_mode]
    key = cache_key(options)
    fields: JSONObject = {}
    if key and wanted:
        fields["prompt_cache_key"] = key
    if long:
        fields["prompt_cache_retention"] = "24h"
    return fields


def _mark_for_cache(body: JSONObject, compat: Compat, retention: CacheRetention) -> None:
    """Mark where the cached prefix may end: after the prompt, the tools, and the last text (section 7.1)."""
    marker = cache_mark(retention, supports_long=compat.supports_long_cache_retention)
    messages: list[JSONObject] = body["messages"]
    for message in messages:
        if message["role"] in ("system", "developer") and _mark_text(message, marker):
            break
    if body.get("tools"):
        body["tools"][-1]["cache_control"] = marker
    for message in reversed(messages):
        if message["role"] in ("user", "assistant", "tool") and _mark_text(message, marker):
            break


def _mark_text(message: JSONObject, marker: JSONObject) -> bool:
    """Mark the last text of a message; False when it has none."""
    content = message.get("content")
    if isinstance(content, str) and content:
        message["content"] = [{"type": "text", "text": content, "cache_control": marker}]
        return True
    parts = cast("list[JSONObject]", content) if isinstance(content, list) else []
    for part in reversed(parts):
        if part["type"] == "text":
            part["cache_control"] = marker
            return True
    return False


def _tool(tool: Tool, constraint: Grammar | None, compat: Compat) -> JSONObject:
    if constraint is not None:
        rule = {"syntax": constraint.syntax, "definition": constraint.definition}
        custom = {
            "name": tool.name,
            "description": tool.description,
            "format": {"type": "grammar", "grammar": rule},
        }
        return {"type": "custom", "custom": custom}
    strict = strict_parameters(tool, supported=compat.supports_strict_mode)
    if not compat.supports_strict_mode:
        return function_tool(tool)
    if strict is None:
        return function_tool(tool, strict=False)
    return function_tool(tool, parameters=strict, strict=True)


def _tool_choice(choice: Any, constraints: Mapping[str, Grammar]) -> Any:
    match choice:
        case "any":
            return "required"
        case {"type": "tool", "name": name}:
            kind = "custom" if name in constraints else "function"
            return {"type": kind, kind: {"name": name}}
        case _:
            return choice


# ── answer ───────────────────────────────────────────────────────────────────────────────────────────────────

_STOP_REASONS: Mapping[str, DoneReason] = {
    **dict.fromkeys(("stop", "end", "eos", "eos_token", "stop_sequence", "end_turn", "complete"), "stop"),
    **dict.fromkeys(("length", "max_tokens", "model_length"), "length"),
    **dict.fromkeys(("tool_calls", "function_call", "tool_use", "tool_call"), "toolUse"),
}
"""Finish reason in lower case → stop reason (section 11)."""

_FAILURES: Mapping[str, tuple[ErrorKind, bool]] = {
    "content_filter": ("content_filter", False),
    "sensitive": ("content_filter", False),
    "model_context_window_exceeded": ("context_overflow", False),
    "insufficient_system_resource": ("overloaded", True),
    "network_error": ("server", True),
    "error": ("server", True),
    "abort": ("server", True),
}
"""Finish reasons that are failures: the kind, and whether trying again may help. All others are unknown words."""


class OpenAICompletionsParser(ChunkParser):
    """Chunks to events: one thought, one text and any number of calls, in the order in which they begin (section 9).

    Blocks end when the answer does: some servers take turns between thought, text and calls.

    :param arguments: of tools that are called with plain text: their names, and the argument that holds it.
    """

    stop_reasons = _STOP_REASONS

    def __init__(
        self, model: Model, compat: Compat, builder: MessageBuilder, arguments: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(model, builder)
        self._compat = compat
        self._text: TextBlock | None = None
        self._thinking: ThinkingBlock | None = None
        self._tags = ThinkTags() if compat.parse_think_tags else None
        self._details: ReasoningDetails | None = None
        self._calls = ToolCalls(builder, arguments or {})
        self._refused = False

    def close(self) -> list[StreamEvent]:
        """End the answer (section 9.7)."""
        builder, finish = self._builder, self._finish
        self._seal()
        if self._failed:
            raise self._bad_end(finish or "")
        if finish is None:
            self._assume_completion(
                "finish_reason",
                declared=not self._compat.supports_finish_reason or self._compat.completion_proof == "eof",
                flag='"supportsFinishReason": false',
                text="Stream ended without finish_reason",
            )
        reason = _STOP_REASONS[finish.lower()] if finish else "stop"
        if reason == "stop" and self._calls.any:
            reason = "toolUse"  # some servers say "stop" after calls, too
        events: list[StreamEvent] = [] if self._started else [builder.start()]
        if self._tags:
            self._split(self._tags.close(), events)
        if reason != "length":  # an input that the limit cut off must not look whole
            self._calls.complete(events)
        if not self._message.content:
            builder.note("empty")
        if self._refused:
            builder.note("refusal")
        if self._ignored:
            builder.note("ignored", **self._ignored)
        events += builder.finish(reason)
        return events

    # ── one delta ────────────────────────────────────────────────────────────────────────────────────────────

    def _delta(self, delta: JSONObject) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        thought = delta.get("reasoning_content") or delta.get("reasoning") or delta.get("reasoning_text")
        if thought:
            thought = self._thought(delta, events)
        if details := delta.get("reasoning_details"):
            self._detail(details, events, silent=bool(thought))
        if content := delta.get("content"):
            self._content(content, events)
        if refusal := as_text(delta.get("refusal")):
            self._refused = True
            self._say(refusal, events)
        if calls := delta.get("tool_calls"):
            self._calls.feed(calls, events)
        elif call := delta.get("function_call"):
            self._calls.feed([{"index": 0, "function": call}], events)
        return events

    def _thought(self, delta: JSONObject, events: list[StreamEvent]) -> str:
        """The first field with text; some servers send two copies."""
        for field in REASONING_FIELDS:
            text = delta.get(field)
            if text and isinstance(text, str):
                self._think(text, field, events)
                return text
        return ""

    def _detail(self, details: Any, events: list[StreamEvent], *, silent: bool) -> None:
        valid = [detail for detail in as_list(details) if is_detail(detail)]
        if not valid:
            return
        if self._details is None:
            self._details = ReasoningDetails()
        text = "".join([self._details.add(detail) for detail in valid])
        self._think("" if silent else text, "", events)

    def _content(self, content: Any, events: list[StreamEvent]) -> None:
        if content.__class__ is not str:
            for part in as_list(content):
                self._part(part, events)
        elif self._tags is None:
            self._say(content, events)
        else:
            self._split(self._tags.feed(content), events)

    def _part(self, part: Any, events: list[StreamEvent]) -> None:
        """A part of content that is a list, as Mistral's models send it."""
        match part:
            case {"type": "text", "text": str(text)}:
                self._say(text, events)
            case {"type": "thinking", "thinking": thinking}:
                self._think(thought_text(thinking), None, events)
            case _:
                self._ignored["content_parts"] += 1

    def _split(self, pieces: tuple[str, str], events: list[StreamEvent]) -> None:
        thought, text = pieces
        if thought:
            self._think(thought, None, events)
        if text:
            self._say(text, events)

    def _say(self, text: str, events: list[StreamEvent]) -> None:
        block = self._text
        if block is None:
            block = self._text = self._builder.add_text()
            self._plain = block if self._tags is None else None
            events.append(block.start())
        if text:
            events.append(block.delta(text))

    def _think(self, text: str, signature: str | None, events: list[StreamEvent]) -> None:
        block = self._thinking
        if block is None:
            block = self._thinking = self._builder.add_thinking(signature=signature)
            events.append(block.start())
        if text:
            events.append(block.delta(text))

    # ── what else a chunk tells ──────────────────────────────────────────────────────────────────────────────

    def _break_off(self) -> list[StreamEvent]:
        self._seal()
        blocks = [block for block in (self._thinking, self._text) if block is not None]
        return [block.end() for block in sorted(blocks, key=lambda block: block.index)]

    def _seal(self) -> None:
        """Keep the details with the thought that they belong to."""
        if self._details is not None and self._thinking is not None:
            self._thinking.content.thinking_signature = self._details.signature()

    def _count(self, usage: object) -> None:
        if isinstance(usage, dict):
            raw = cast("JSONObject", usage)
            self._builder.set_usage(_usage(raw, apart=self._compat.reports_reasoning_apart))
            apply_provider_cost(self._model, self._message.usage, raw)

    def _look_closer(self, payload: JSONObject) -> None:
        self._seal()
        super()._look_closer(payload)
        self._count(as_object(payload.get("x_groq")).get("usage"))  # Groq's place for it

    # ── failures ─────────────────────────────────────────────────────────────────────────────────────────────

    def _bad_end(self, finish: str) -> PiAIError:
        kind, retryable = _FAILURES.get(finish.lower(), ("protocol", False))
        text = f"Provider finish_reason: {finish}"
        sentence = (
            f"The provider ended the answer for the reason {finish[:100]!r}, which is no ending that can be used."
        )
        return self._failure(kind, sentence, text=text, phase="end", provider_code=finish, retryable=retryable)


def _usage(raw: JSONObject, *, apart: bool) -> Usage:
    """Tokens as vendors count them (section 10): their prompt includes what was cached, ours does not (U1).

    :param apart: the completion is known not to include the thoughts. Otherwise the vendor's total tells. Counts of
        thoughts alone do not: they often are estimates of another tokeniser, and larger than the completion.
    """
    prompt, completion = as_tokens(raw.get("prompt_tokens")), as_tokens(raw.get("completion_tokens"))
    details = as_object(raw.get("prompt_tokens_details"))
    counts = (details.get("cached_tokens"), raw.get("prompt_cache_hit_tokens"), raw.get("cached_tokens"))
    cache_read = as_tokens(next((count for count in counts if count is not None), 0))
    cache_write = as_tokens(details.get("cache_write_tokens"))
    reasoning = as_tokens(as_object(raw.get("completion_tokens_details")).get("reasoning_tokens"))
    total = as_tokens(raw.get("total_tokens"))
    if apart or total == prompt + completion + reasoning or (not total and reasoning > completion):
        completion += reasoning
    usage = Usage(
        input=max(0, prompt - cache_read - cache_write),
        output=completion,
        cache_read=cache_read,
        cache_write=cache_write,
        reasoning=min(reasoning, completion),
    )
    # Not the vendor's number: they disagree on what it contains.
    usage.total_tokens = usage.input + usage.output + usage.cache_read + usage.cache_write
    return usage


# ── adapter ──────────────────────────────────────────────────────────────────────────────────────────────────


class OpenAICompletions(Adapter[OpenAICompletionsOptions]):
    """The chat completions API of OpenAI and of everybody who speaks it."""

    api = "openai-completions"
    label = "OpenAI Completions"
    options_type = OpenAICompletionsOptions

    def lower(self, model: Model, context: Context, options: StreamOptions) -> OpenAICompletionsOptions:
        """The level that the model has, and as long an answer as fits (section 1)."""
        level = clamp_level(model, options.reasoning) if options.reasoning else "off"
        return lowered(
            OpenAICompletionsOptions,
            options,
            max_tokens=fit_max_tokens(model, context, options.max_tokens),
            tool_choice=options.tool_choice,
            reasoning_effort=None if level == "off" else level,
            thinking_budgets=options.thinking_budgets,
        )

    def build_request(self, model: Model, context: Context, options: OpenAICompletionsOptions) -> Request:
        """The request (section 2).

        :raises PiAIError: no key (``auth``); a tool requires what the model does not have (``bad_request``); a wrong
            compat flag, header or base URL (``config``).
        """
        compat = Compat.of(model)
        return Request(
            url=endpoint(model, "/chat/completions", options.env),
            headers=_headers(model, compat, context, options),
            body=_body(model, compat, context, options),
        )

    def decoder(self, options: OpenAICompletionsOptions) -> SSEDecoder:
        """Server-sent events."""
        return SSEDecoder(options.max_event_bytes)

    def parser(
        self, model: Model, options: OpenAICompletionsOptions, builder: MessageBuilder, context: Context
    ) -> OpenAICompletionsParser:
        """A parser of chunks.

        :param context: the conversation, for the arguments of tools that are called with plain text.
        """
        compat = Compat.of(model)
        constraints = grammars(current_tools(transcript(context)), supported=compat.supports_openai_grammar_tools)
        arguments = {name: found.argument for name, found in constraints.items()}
        return OpenAICompletionsParser(model, compat, builder, arguments)

    def hint(self, body: JSONObject, error_text: str) -> str | None:
        """The compat flag to set, where the server names a field that it does not know (section 4.3)."""
        sent = {*body, "strict", *(message["role"] for message in body["messages"])}
        return refused_field_hint(sent, REFUSED_FIELDS, error_text)
