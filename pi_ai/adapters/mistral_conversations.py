"""The API ``mistral-conversations``: ``POST {base_url}/v1/chat/completions``, answered by a stream of chunks.

Mistral's relative of ``openai-completions``; what both have is shared. It differs in the conversation
(``_mistral_messages.py``), in the ids of calls (``_mistral_ids.py``), and in answers that are lists of parts.
Rules: mistral-conversations.md; where that is silent, openai-completions.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs

from pi_ai.adapters._answer import as_list, as_object, as_tokens
from pi_ai.adapters._chunks import ChunkParser, thought_text
from pi_ai.adapters._compat import told_flags
from pi_ai.adapters._mistral_ids import answer_id
from pi_ai.adapters._mistral_messages import messages_and_tools
from pi_ai.adapters._openai import sampling
from pi_ai.adapters._openai_calls import ToolCalls
from pi_ai.adapters._openai_messages import function_tool
from pi_ai.adapters._request import bearer, endpoint, lowered, session_id
from pi_ai.adapters.base import Adapter, Request
from pi_ai.builder import MessageBuilder, TextBlock, ThinkingBlock
from pi_ai.errors import ErrorKind, PiAIError
from pi_ai.events import DoneReason, StreamEvent
from pi_ai.headers import layer_headers
from pi_ai.reasoning import clamp_level
from pi_ai.tokens import fit_max_tokens
from pi_ai.tools import strict_parameters
from pi_ai.types import (
    Context,
    JSONObject,
    Model,
    RequestOptions,
    StreamOptions,
    ThinkingLevel,
    Tool,
    ToolChoice,
    Usage,
)
from pi_ai.wire.sse import SSEDecoder

# ── options ──────────────────────────────────────────────────────────────────────────────────────────────────


@attrs.frozen(kw_only=True)
class MistralConversationsOptions(RequestOptions):
    """Options of this API.

    :ivar tool_choice: ``"auto"``, ``"none"``, ``"any"``, ``"required"``, one tool by name, or the wire's own object.
    :ivar reasoning_effort: how hard to think, in the model's own word for it.
    :ivar prompt_mode: ``"reasoning"``: how models that know no effort are made to think.
    """

    tool_choice: ToolChoice | Literal["required"] | JSONObject | None = None
    reasoning_effort: str | None = None
    prompt_mode: Literal["reasoning"] | None = None


# ── request ──────────────────────────────────────────────────────────────────────────────────────────────────

_VERSION = "/v1"


@attrs.frozen(kw_only=True)
class Compat:
    """The switches of one model; ``Model.compat`` names them in either spelling.

    :ivar supports_mid_convo_system_messages: takes system messages between others.
    """

    supports_mid_convo_system_messages: bool = False


def _url(model: Model, options: MistralConversationsOptions) -> str:
    base = endpoint(model, "", options.env)
    return base.removesuffix(_VERSION) + f"{_VERSION}/chat/completions"


def _headers(model: Model, options: MistralConversationsOptions) -> dict[str, str | None]:
    """All headers but the client's identity, from low to high."""
    session = session_id(options)
    return layer_headers(
        {"Accept": "text/event-stream", "Content-Type": "application/json", **bearer(model, options)},
        {"x-affinity": session} if session else None,
        model.headers,
        options.headers,
    )


def _body(model: Model, context: Context, options: MistralConversationsOptions) -> JSONObject:
    """The body; where sampling parameters name a field, they win."""
    compat = Compat(**told_flags(Compat, model))
    messages, tools = messages_and_tools(model, context, system_in_place=compat.supports_mid_convo_system_messages)
    body: JSONObject = {"model": model.id, "messages": messages, "stream": True}
    if tools:
        body["tools"] = [_tool(tool) for tool in tools]
    if options.tool_choice is not None:
        body["tool_choice"] = _tool_choice(options.tool_choice)
    if options.temperature is not None:
        body["temperature"] = options.temperature
    if options.max_tokens and options.max_tokens > 0:
        body["max_tokens"] = options.max_tokens
    if options.reasoning_effort is not None:
        body["reasoning_effort"] = options.reasoning_effort
    if options.prompt_mode is not None:
        body["prompt_mode"] = options.prompt_mode
    if session := session_id(options):
        body["prompt_cache_key"] = session
    return {**body, **(model.sampling_params or {}), **(options.sampling_params or {})}


def _tool(tool: Tool) -> JSONObject:
    strict = strict_parameters(tool, supported=True)
    return function_tool(tool, strict=False) if strict is None else function_tool(tool, parameters=strict, strict=True)


def _tool_choice(choice: Any) -> Any:
    match choice:
        case {"type": "tool", "name": name}:
            return {"type": "function", "function": {"name": name}}
        case _:
            return choice


def _thinking(model: Model, level: ThinkingLevel) -> JSONObject:
    """The options that make a model think, or not: by effort where it has words for levels, else by a prompt."""
    if not model.reasoning:
        return {}
    words, off = model.thinking_level_map, level == "off"
    if words is not None:
        return {"reasoning_effort": words.get(level) or (None if off else "high")}
    return {"prompt_mode": None if off else "reasoning"}


# ── answer ───────────────────────────────────────────────────────────────────────────────────────────────────

_STOP_REASONS: Mapping[str, DoneReason] = {
    "stop": "stop",
    "length": "length",
    "model_length": "length",
    "tool_calls": "toolUse",
}
"""Finish reason in lower case → stop reason. All others are failures."""

_FAILURES: Mapping[str, tuple[ErrorKind, bool]] = {
    "content_filter": ("content_filter", False),
    "error": ("server", True),
}
"""Finish reasons that are known failures: the kind, and whether trying again may help."""


class MistralConversationsParser(ChunkParser):
    """Chunks to events: text and thought take turns, each turn a block of its own; calls end when the answer does."""

    stop_reasons = _STOP_REASONS

    def __init__(self, model: Model, builder: MessageBuilder) -> None:
        super().__init__(model, builder)
        self._block: TextBlock | ThinkingBlock | None = None
        self._calls = ToolCalls(builder, {}, answer_id)

    def close(self) -> list[StreamEvent]:
        """End the answer."""
        builder, finish = self._builder, self._finish
        if finish is None:
            raise self._cut_off("finish_reason", "Mistral stream ended without a finish reason")
        if self._failed:
            raise self._bad_end(finish)
        reason = _STOP_REASONS[finish.lower()]
        if reason == "stop" and self._calls.any:
            reason = "toolUse"
        events: list[StreamEvent] = [] if self._started else [builder.start()]
        self._leave(events)
        if not self._message.content:
            builder.note("empty")
        if self._ignored:
            builder.note("ignored", **self._ignored)
        events += builder.finish(reason)
        return events

    # ── one delta ────────────────────────────────────────────────────────────────────────────────────────────

    def _delta(self, delta: JSONObject) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        content = delta.get("content")
        for part in [content] if isinstance(content, str) else as_list(content):
            self._part(part, events)
        if calls := as_list(delta.get("tool_calls")):
            self._leave(events)
            self._calls.feed([_with_true_id(as_object(call)) for call in calls], events)
        return events

    def _part(self, part: Any, events: list[StreamEvent]) -> None:
        match part:
            case str(text) | {"type": "text", "text": str(text)}:
                self._say(text, events)
            case {"type": "thinking", "thinking": thinking}:
                self._think(thought_text(thinking), events)
            case _:
                self._ignored["content_parts"] += 1

    def _say(self, text: str, events: list[StreamEvent]) -> None:
        if not text:  # GLM says nothing between two pieces of a thought: that does not part them
            return
        block = self._plain
        if block is None:
            self._leave(events)
            block = self._block = self._plain = self._builder.add_text()
            events.append(block.start())
        events.append(block.delta(text))

    def _think(self, text: str, events: list[StreamEvent]) -> None:
        if not text:
            return
        block = self._block
        if not isinstance(block, ThinkingBlock):
            self._leave(events)
            block = self._block = self._builder.add_thinking()
            events.append(block.start())
        events.append(block.delta(text))

    def _leave(self, events: list[StreamEvent]) -> None:
        """End the text or the thought: something else begins."""
        if self._block is not None:
            events.append(self._block.end())
        self._block = self._plain = None

    # ── what else a chunk tells ──────────────────────────────────────────────────────────────────────────────

    def _break_off(self) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        self._leave(events)
        return events

    def _count(self, usage: object) -> None:
        self._builder.set_usage(_usage(as_object(usage)))

    # ── failures ─────────────────────────────────────────────────────────────────────────────────────────────

    def _bad_end(self, finish: str) -> PiAIError:
        kind, retryable = _FAILURES.get(finish.lower(), ("protocol", False))
        text = f"Provider stopped with: {finish}"
        if kind == "server":
            text += " (server error)"  # words that tell everybody to try again
        sentence = (
            f"The provider ended the answer for the reason {finish[:100]!r}, which is no ending that can be used."
        )
        return self._failure(kind, sentence, text=text, phase="end", provider_code=finish, retryable=retryable)


def _with_true_id(call: JSONObject) -> JSONObject:
    """A piece of a call; ``"null"`` is no id, though some servers write it."""
    return {**call, "id": None} if call.get("id") == "null" else call


def _usage(raw: JSONObject) -> Usage:
    """Tokens as Mistral counts them: its prompt includes what was cached, ours does not (U1)."""
    prompt, completion = as_tokens(raw.get("prompt_tokens")), as_tokens(raw.get("completion_tokens"))
    counts = (
        as_object(raw.get("prompt_tokens_details")).get("cached_tokens"),
        as_object(raw.get("prompt_token_details")).get("cached_tokens"),
        raw.get("num_cached_tokens"),
    )
    cached = min(as_tokens(next((count for count in counts if count is not None), 0)), prompt)
    return Usage(
        input=prompt - cached,
        output=completion,
        cache_read=cached,
        total_tokens=as_tokens(raw.get("total_tokens")) or prompt + completion,
    )


# ── adapter ──────────────────────────────────────────────────────────────────────────────────────────────────


class MistralConversations(Adapter[MistralConversationsOptions]):
    """Mistral's chat completions."""

    api = "mistral-conversations"
    label = "Mistral Conversations"
    options_type = MistralConversationsOptions

    def lower(self, model: Model, context: Context, options: StreamOptions) -> MistralConversationsOptions:
        """The level that the model has, in its own words, and as long an answer as fits."""
        level = clamp_level(model, options.reasoning) if options.reasoning else "off"
        return lowered(
            MistralConversationsOptions,
            options,
            max_tokens=fit_max_tokens(model, context, options.max_tokens),
            sampling_params=sampling(model, None if level == "off" else level, options),
            tool_choice=options.tool_choice,
            **_thinking(model, level),
        )

    def build_request(self, model: Model, context: Context, options: MistralConversationsOptions) -> Request:
        """The request.

        :raises PiAIError: no key (``auth``); a tool requires what cannot be had (``bad_request``); a wrong compat flag,
            header or base URL (``config``).
        """
        return Request(url=_url(model, options), headers=_headers(model, options), body=_body(model, context, options))

    def decoder(self, options: MistralConversationsOptions) -> SSEDecoder:
        """Server-sent events."""
        return SSEDecoder(options.max_event_bytes)

    def parser(
        self, model: Model, options: MistralConversationsOptions, builder: MessageBuilder, context: Context
    ) -> MistralConversationsParser:
        """A parser of chunks; the conversation does not matter."""
        return MistralConversationsParser(model, builder)
