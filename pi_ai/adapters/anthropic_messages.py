"""The API ``anthropic-messages``: ``POST {base_url}/v1/messages``, answered by a stream of events.

Claude's own API, spoken by gateways and by other vendors as well. Who differs how is data in ``_anthropic_compat.py``;
the conversation is made in ``_anthropic_messages.py``, and continued on the server by ``_anthropic_threads.py``. Rules:
anthropic-messages.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Literal

import attrs
from httpx_sse import ServerSentEvent

from pi_ai.adapters._answer import AnswerParser, as_list, as_object, as_text, as_tokens, call_id
from pi_ai.adapters._anthropic_compat import Compat
from pi_ai.adapters._anthropic_content import ForeignBlock, ServerContent
from pi_ai.adapters._anthropic_messages import conversation, effort_mark, lacks_thought, mark_for_cache
from pi_ai.adapters._anthropic_threads import Session, in_thread, may_begin_anew, refused_thread, thread_of
from pi_ai.adapters._claude import STRICT_LIMITS, effort_of, is_too_strict
from pi_ai.adapters._request import (
    KEY_HEADERS,
    cache_mark,
    cache_retention,
    credential,
    endpoint,
    lowered,
    session_id,
)
from pi_ai.adapters.base import Adapter, Request
from pi_ai.adapters.sessions import Sessions
from pi_ai.builder import Block, MessageBuilder, TextBlock, ThinkingBlock, ToolCallBlock
from pi_ai.errors import ErrorKind, PiAIError
from pi_ai.events import DoneReason, StreamEvent
from pi_ai.failures import ProviderWords, error_in, stream_failure
from pi_ai.headers import copilot_headers, layer_headers
from pi_ai.history import current_tools, transcript
from pi_ai.pricing import apply_provider_cost
from pi_ai.reasoning import MINIMUM_BUDGET, fit_thinking
from pi_ai.text import encode_json
from pi_ai.tokens import fit_max_tokens
from pi_ai.tools import strict_parameters, strictness
from pi_ai.types import (
    AssistantMessage,
    Context,
    Diagnostic,
    DiagnosticError,
    JSONObject,
    Model,
    RequestOptions,
    StreamOptions,
    Tool,
    ToolChoice,
    Usage,
)
from pi_ai.wire.sse import SSEDecoder

# ── options ──────────────────────────────────────────────────────────────────────────────────────────────────


@attrs.frozen(kw_only=True)
class AnthropicOptions(RequestOptions):
    """Options of this API.

    :ivar tool_choice: ``"auto"``, ``"none"``, ``"any"``, one tool by name, or the wire's own object. While the model
        thinks, the API refuses to be forced to a tool.
    :ivar thinking_enabled: whether to think; None: as the model does by itself.
    :ivar thinking_budget_tokens: most tokens to think, at least 1024 and less than ``max_tokens``; otherwise the model
        does not think. Default: 1024.
    :ivar effort: how hard a model thinks that has no budget: ``low``, ``medium``, ``high``, ``xhigh`` or ``max``.
    :ivar thinking_display: ``"omitted"``: thoughts come signed, but without text.
    :ivar interleaved_thinking: think between calls, too, within a budget.
    """

    tool_choice: ToolChoice | JSONObject | None = None
    thinking_enabled: bool | None = None
    thinking_budget_tokens: int | None = None
    effort: str | None = None
    thinking_display: Literal["summarized", "omitted"] = "summarized"
    interleaved_thinking: bool = True


# ── request ──────────────────────────────────────────────────────────────────────────────────────────────────

PATH = "/v1/messages"
VERSION = "2023-06-01"
"""Of the API."""

OAUTH_TOKEN = "sk-ant-oat"  # noqa: S105 - what such tokens have in common
OAUTH_BETA = "oauth-2025-04-20"

BASE_EFFORT = "low"
"""Effort of a conversation in which each answer has its own: the request's must never change."""

_PLACEHOLDER: JSONObject = {
    "name": "__pi_deferred_placeholder__",
    "description": "Reserved placeholder. Never available. Never call this.",
    "input_schema": {"type": "object", "properties": {}, "required": []},
    "defer_loading": True,
}
"""Offered where tools change in place, so that the first change leaves the cached prefix as it was."""

_SCHEMA_KEYS = ("$defs", "definitions")
"""What a tool's schema may have at its root, beside its properties."""
_LEFT_OUT = ("$ref", "allOf", "anyOf", "oneOf", "not", "if", "dependentRequired", "dependentSchemas")
"""What the API refuses there, and a model would have had to heed."""


def _headers(
    model: Model, compat: Compat, context: Context, options: AnthropicOptions, betas: list[str]
) -> dict[str, str | None]:
    """All headers but the client's identity, from low to high (section 1)."""
    session = session_id(options)
    affinity = "x-session-id" if compat.session_affinity_format == "openrouter" else "x-session-affinity"
    headers = layer_headers(
        {
            "Accept": "application/json",
            "Content-Type": "application/json",
            "anthropic-version": VERSION,
            **_key(model, compat, options),
        },
        model.headers,
        copilot_headers(model, context.messages),
        {affinity: session} if session and compat.send_session_affinity_headers else None,
        options.headers,
    )
    return layer_headers(headers, _beta_header(headers, betas))


def _key(model: Model, compat: Compat, options: AnthropicOptions) -> dict[str, str | None]:
    """The header with the key (AN2)."""
    key = credential(model, options, KEY_HEADERS | {"x-api-key"})
    if key is None:
        return {}
    header = "Authorization" if OAUTH_TOKEN in key else compat.api_key_header
    return {header: key if header.lower() == "x-api-key" else f"Bearer {key}"}


def _beta_header(headers: Mapping[str, str | None], betas: list[str]) -> dict[str, str | None]:
    """The beta features: the caller's own list in the place of ours, but never without what a token needs (AN7)."""
    given = {name.lower(): value for name, value in headers.items()}
    if "anthropic-beta" in given:
        betas = [beta.strip() for beta in (given["anthropic-beta"] or "").split(",")]
    if OAUTH_TOKEN in (given.get("authorization") or ""):
        betas = [OAUTH_BETA, *betas]
    names = ",".join(dict.fromkeys(filter(None, betas)))
    return {"anthropic-beta": names or None} if names or "anthropic-beta" in given else {}


def _betas(compat: Compat, options: AnthropicOptions, body: JSONObject, *, threads: bool) -> list[str]:
    """The beta features that a body makes use of (section 2)."""
    tools = body.get("tools", [])
    budget = body.get("thinking", {}).get("type") == "enabled"
    features = {
        "fine-grained-tool-streaming-2025-05-14": tools and not compat.supports_eager_tool_input_streaming,
        "interleaved-thinking-2025-05-14": budget and options.interleaved_thinking,
        "server-side-fallback-2026-07-01": "fallbacks" in body,
        "mid-conversation-output-config-2026-07-01": compat.supports_mid_convo_effort,
        "thinking-binding-controls-2026-08-01": compat.supports_mid_convo_effort,
        "inline-tools-2026-09-15": _PLACEHOLDER in tools,
        "message-threads-2026-08-12": threads,
    }
    return [name for name, used in features.items() if used]


def _body(model: Model, compat: Compat, context: Context, options: AnthropicOptions, session: Session) -> JSONObject:
    """The body, its fields in the order of section 3, with the whole conversation."""
    retention = cache_retention(options)
    mark = cache_mark(retention, supports_long=compat.supports_long_cache_retention)
    marked: JSONObject = {} if retention == "none" else {"cache_control": mark}
    limit = options.max_tokens if options.max_tokens and options.max_tokens > 0 else model.max_tokens
    effort = _managed_effort(model, compat, options)
    in_shape = partial(_tool, compat=compat, plain=session.plain_tools)
    said = conversation(model, compat, context, in_shape, with_efforts=effort is not None)
    messages, tools = said.messages, [in_shape(tool) for tool in said.tools]
    thinking = _thinking(model, compat, options, limit, messages)

    if marked:
        mark_for_cache(messages, mark)
    if tools and marked and compat.supports_cache_control_on_tools:
        tools[-1] |= marked
    if said.tools_in_place:
        tools.append(_PLACEHOLDER)
    if effort is not None:
        messages.append(effort_mark(effort))

    body: JSONObject = {"model": model.id, "max_tokens": limit, "stream": True}
    if said.system:
        body["system"] = [{"type": "text", "text": said.system, **marked}]
    body["messages"] = messages
    if tools:
        body["tools"] = tools
        if options.tool_choice is not None:
            choice = options.tool_choice
            body["tool_choice"] = {"type": choice} if isinstance(choice, str) else choice
    body |= thinking
    thinks = thinking.get("thinking", {}).get("type", "disabled") != "disabled"
    if options.temperature is not None and compat.supports_temperature and not thinks:
        body["temperature"] = options.temperature
    if isinstance(user_id := (options.metadata or {}).get("user_id"), str):
        body["metadata"] = {"user_id": user_id}
    if others := [name for fallback in compat.allowed_fallback_models if (name := fallback.get("model"))]:
        body["fallbacks"] = [{"model": name} for name in others]
    return body


def _tool(tool: Tool, *, compat: Compat, plain: bool) -> JSONObject:
    """A tool (section 3.3); roots of schemas are cut down to what the API takes.

    :param plain: not strict unless it must be.
    """
    strict = strict_parameters(tool, supported=compat.supports_strict_tools, limits=STRICT_LIMITS)
    if plain and strictness(tool) == "prefer":
        strict = None
    fields: JSONObject = {"name": tool.name, "description": tool.description}
    if compat.supports_eager_tool_input_streaming:
        fields["eager_input_streaming"] = True
    if strict is not None:
        return {**fields, "strict": True, "input_schema": strict}
    schema = tool.parameters
    return {
        **fields,
        "input_schema": {
            "type": "object",
            "properties": schema.get("properties") or {},
            "required": schema.get("required") or [],
            **{key: schema[key] for key in _SCHEMA_KEYS if key in schema},
        },
    }


def _thinking(
    model: Model, compat: Compat, options: AnthropicOptions, limit: int, messages: list[JSONObject]
) -> JSONObject:
    """The fields that say whether and how hard to think (section 3.5)."""
    if not model.reasoning:
        return {}
    off: JSONObject = {"thinking": {"type": "disabled"}} if _can_stop(model) else {}
    if options.thinking_enabled is False and off:
        return off
    shown = {"display": options.thinking_display}
    if compat.supports_mid_convo_effort:
        binding = {"prefix_mismatch_behavior": "drop_block"}
        return {
            "thinking": {"type": "adaptive", **shown, "block_binding": binding},
            "output_config": {"effort": BASE_EFFORT},
        }
    if not options.thinking_enabled:
        return {}
    if compat.force_adaptive_thinking:
        effort = {"output_config": {"effort": options.effort}} if options.effort else {}
        return {"thinking": {"type": "adaptive", **shown}, **effort}
    budget = MINIMUM_BUDGET if options.thinking_budget_tokens is None else options.thinking_budget_tokens
    if not MINIMUM_BUDGET <= budget < limit or lacks_thought(messages):
        return off
    return {"thinking": {"type": "enabled", "budget_tokens": budget, **shown}}


def _managed_effort(model: Model, compat: Compat, options: AnthropicOptions) -> str | None:
    """The effort of this answer, where each has its own."""
    if not model.reasoning or not compat.supports_mid_convo_effort:
        return None
    return None if options.thinking_enabled is False and _can_stop(model) else options.effort or "high"


def _can_stop(model: Model) -> bool:
    return (model.thinking_level_map or {}).get("off", "") is not None


# ── request, in its thread ───────────────────────────────────────────────────────────────────────────────────


def _request(model: Model, context: Context, options: AnthropicOptions, session: Session) -> Request:
    compat = Compat.of(model)
    url = endpoint(model, PATH, options.env)
    body = _body(model, compat, context, options, session)
    threads = _takes_threads(compat, options, session)
    betas = _betas(compat, options, body, threads=threads)
    return Request(
        url=url,
        headers=_headers(model, compat, context, options, betas),
        body=in_thread([url, *betas], body, session.thread) if threads else body,
        notes=_left_out(current_tools(transcript(context))),
    )


def _left_out(tools: Iterable[Tool]) -> tuple[Diagnostic, ...]:
    """What is told of schemas that were cut down (AN17, F84)."""
    cut = {tool.name: [key for key in _LEFT_OUT if key in tool.parameters] for tool in tools}
    cut = {name: keys for name, keys in cut.items() if keys}
    return (Diagnostic(type="schema", details={"left_out": cut}),) if cut else ()


def _takes_threads(compat: Compat, options: AnthropicOptions, session: Session) -> bool:
    return compat.supports_message_threads and session.threads and session_id(options) is not None


def _remember(
    model: Model,
    compat: Compat,
    context: Context,
    options: AnthropicOptions,
    session: Session,
    answer: AssistantMessage,
) -> None:
    """Remember the thread that a conversation and its answer are now."""
    session.thread = None
    alone = _body(model, compat, Context([answer]), options, session)["messages"]
    if answer.response_id and any(message["role"] == "assistant" for message in alone):
        whole = attrs.evolve(context, messages=[*context.messages, answer])
        body = _body(model, compat, whole, options, session)
        betas = _betas(compat, options, body, threads=True)
        session.thread = thread_of([endpoint(model, PATH, options.env), *betas], body, answer.response_id)


# ── answer ───────────────────────────────────────────────────────────────────────────────────────────────────

_STOP_REASONS: Mapping[str, DoneReason] = {
    **dict.fromkeys(("end_turn", "stop_sequence", "pause_turn"), "stop"),
    **dict.fromkeys(("max_tokens", "model_context_window_exceeded"), "length"),
    "tool_use": "toolUse",
}
"""Stop reasons of the wire that are good endings (section 5.2)."""

_FAILURES: Mapping[str, tuple[ErrorKind, str]] = {
    "refusal": ("content_filter", "The model refused to complete the request"),
    "sensitive": ("content_filter", "Provider stopped with: sensitive"),
}
"""Stop reasons that are failures: the kind, and the text. All others are unknown words."""

_KINDS = frozenset(
    [
        *("message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta"),
        *("message_stop", "error", "message"),
    ]
)
"""Events that mean something, and a whole answer."""

_DELTAS: Mapping[str | None, tuple[type[Any], str]] = {
    "text_delta": (TextBlock, "text"),
    "thinking_delta": (ThinkingBlock, "thinking"),
    "input_json_delta": (ToolCallBlock, "partial_json"),
}
"""Deltas by type: what they are appended to, and the field that holds the piece."""

_COUNTS: Mapping[tuple[str, str], str] = {
    ("", "input_tokens"): "input",
    ("", "output_tokens"): "output",
    ("", "cache_read_input_tokens"): "cache_read",
    ("", "cache_creation_input_tokens"): "cache_write",
    ("cache_creation", "ephemeral_1h_input_tokens"): "cache_write_1h",
    ("output_tokens_details", "thinking_tokens"): "reasoning",
}
"""Counts of tokens, and the object in which each stands: fields of the usage."""


class AnthropicMessagesParser(AnswerParser):
    """Events to events. The wire's blocks are ours, except for those that are none of our content.

    :param answered: told of the message when it has ended well and whole.
    """

    def __init__(
        self,
        model: Model,
        compat: Compat,
        builder: MessageBuilder,
        answered: Callable[[AssistantMessage], None] | None = None,
    ) -> None:
        super().__init__(model, builder)
        self._compat = compat
        self._answered = answered
        self._opened = False
        self._blocks: dict[int | None, Block | ForeignBlock] = {}  # by the wire's index
        self._plain: TextBlock | None = None  # the text that is being written, and the wire's index of it
        self._plain_index: object = None
        self._inputs: dict[int, JSONObject] = {}  # inputs of calls that came with their start, by content index
        self._server = ServerContent(builder)
        self._transformations: list[JSONObject] = []
        self._stop: str | None = None
        self._stop_details: JSONObject = {}
        self._ignored = 0
        self._repaired = 0

    def decode(self, event: ServerSentEvent) -> JSONObject | None:
        """The JSON of an event that means something. After ``message_stop`` everything is ignored."""
        name, data = event.event, event.data
        if self.ended or not data:
            return None
        if name not in _KINDS:
            self._ignored += name != "ping"
            return None
        if name == "message":
            return self._unnamed(data)
        payload = self._json(name, data)
        if payload is not None and payload.get("type") != name:
            payload["type"] = name
        return payload

    def _unnamed(self, data: str) -> JSONObject | None:
        """Some servers do not name their events; their JSON does (AN25)."""
        payload = None if data.startswith("[DONE]") else self._json("message", data)
        if payload is None or as_text(payload.get("type")) in _KINDS or "error" in payload:
            return payload
        self._ignored += payload.get("type") != "ping"
        return None

    def feed(self, payload: JSONObject) -> list[StreamEvent]:
        """What an event means; also takes a whole answer that was not streamed."""
        kind = payload.get("type")
        if kind == "content_block_delta" and self._plain and payload.get("index") == self._plain_index:
            delta: Any = payload.get("delta")
            if delta.__class__ is dict and delta.get("type") == "text_delta":
                # What nearly every event is, done in few steps.
                text = delta.get("text")
                if text.__class__ is str:
                    return [self._plain.delta(text)] if text else []
        events: list[StreamEvent] = []
        match kind:
            case "content_block_delta":
                self._delta(_index(payload), as_object(payload.get("delta")), events)
            case "content_block_start":
                self._start(_index(payload), as_object(payload.get("content_block")), events)
            case "content_block_stop":
                self._end(_index(payload), events)
            case "message_start":
                self._open(as_object(payload.get("message")))
            case "message_delta":
                self._finish(payload, as_object(payload.get("delta")))
            case "message_stop":
                self.ended = True
            case "message":
                self._whole(payload, events)
            case _:
                if words := error_in(payload):
                    raise self._told(words)
        return self._begun(events)

    def close(self) -> list[StreamEvent]:
        """End the answer."""
        builder, stop = self._builder, self._stop
        for block in self._blocks.values():
            if isinstance(block, ForeignBlock):
                block.close()
        if stop is None:
            self._assume_completion(
                "stop_reason",
                declared=self._compat.completion_proof == "eof",
                flag='"completionProof": "eof"',
                text="Anthropic stream ended before message_stop"
                if self._opened and not self.ended
                else "Anthropic stream ended without a stop reason",
            )
            stop = "tool_use" if self._message.tool_calls else "end_turn"
        if stop not in _STOP_REASONS:
            raise self._bad_end(stop)
        events: list[StreamEvent] = [] if self._started else [builder.start()]
        for block in self._blocks.values():
            if isinstance(block, ToolCallBlock):
                self._complete(block, events)
        if not self._message.content:
            builder.note("empty")
        if self._ignored:
            builder.note("ignored", events=self._ignored)
        if self._repaired:
            builder.note("repaired", blocks=self._repaired)
        if self._transformations:
            builder.note("anthropic_input_transformations", transformations=self._transformations)
        reason = _STOP_REASONS[stop]
        events += builder.finish(reason)
        if self._answered is not None and reason != "length":
            self._answered(self._message)
        return events

    # ── blocks ───────────────────────────────────────────────────────────────────────────────────────────────

    def _start(self, index: int | None, content: JSONObject, events: list[StreamEvent]) -> None:
        builder = self._builder
        match content.get("type"):
            case "text":
                block = builder.add_text()
                self._plain, self._plain_index = block, index
                events.append(block.start())
                if text := as_text(content.get("text")):
                    events.append(block.delta(text))
                for citation in as_list(content.get("citations")):
                    self._server.cite(block.index, citation)
            case "thinking":
                block = builder.add_thinking(signature=as_text(content.get("signature")) or "")
                events.append(block.start())
                if text := as_text(content.get("thinking")):
                    events.append(block.delta(text))
            case "redacted_thinking":
                thought = builder.add_thinking(signature=as_text(content.get("data")), redacted=True)
                events += [thought.start(), thought.end()]
                block = ForeignBlock({})  # there is nothing to come that could be shown
            case "tool_use":
                taken = {call.id for call in self._message.tool_calls}
                told = call_id(as_text(content.get("id")), taken)
                block = builder.add_tool_call(told, as_text(content.get("name")) or "")
                if given := as_object(content.get("input")):
                    self._inputs[block.index] = given
                events.append(block.start())
            case "fallback" if self._message.content:
                text = "Anthropic performed an unsupported mid-output model fallback"
                sentence = "Another model took over in the middle of the answer, whose parts do not belong together."
                raise self._failure("protocol", sentence, text=text, phase="stream")
            case _:
                block = self._server.add(content)
        self._blocks[index] = block

    def _delta(self, index: int | None, delta: JSONObject, events: list[StreamEvent]) -> None:
        block = self._blocks.get(index)
        kind, field = _DELTAS.get(as_text(delta.get("type")), (None, ""))
        if block is None and kind in (TextBlock, ThinkingBlock):
            # Its start was lost; what it says need not be (F17).
            self._repaired += 1
            self._start(index, {"type": "text" if kind is TextBlock else "thinking"}, events)
            block = self._blocks[index]
        piece = delta.get(field)
        if isinstance(block, ForeignBlock):
            block.add(delta)
        elif block is not None and block.__class__ is kind and isinstance(piece, str):
            if piece:
                events.append(block.delta(piece))
        elif isinstance(block, ThinkingBlock) and delta.get("type") == "signature_delta":
            block.content.thinking_signature = f"{block.content.thinking_signature or ''}{delta.get('signature') or ''}"
        elif isinstance(block, TextBlock) and delta.get("type") == "citations_delta":
            self._server.cite(block.index, as_object(delta.get("citation")))
        else:
            self._ignored += 1

    def _end(self, index: int | None, events: list[StreamEvent]) -> None:
        block = self._blocks.pop(index, None)
        if block is None:
            self._ignored += 1
            return
        if isinstance(block, ToolCallBlock):
            self._complete(block, events)
        if block is self._plain:
            self._plain = None
        if isinstance(block, ForeignBlock):
            block.close()
        else:
            events.append(block.end())

    def _complete(self, call: ToolCallBlock, events: list[StreamEvent]) -> None:
        """Some servers send a call's input whole, with its start."""
        given = self._inputs.pop(call.index, None)
        if given and not call.arguments.text:
            events.append(call.delta(encode_json(given).decode()))

    # ── the message ──────────────────────────────────────────────────────────────────────────────────────────

    def _open(self, message: JSONObject) -> None:
        self._opened = True
        ours, name = self._message, as_text(message.get("model"))
        ours.response_id = as_text(message.get("id")) or ours.response_id
        ours.response_model = name if name != self._model.id else None
        ours.usage = Usage(cache_write_1h=0)
        self._count(as_object(message.get("usage")))
        self._note_transformations(message)

    def _finish(self, payload: JSONObject, delta: JSONObject) -> None:
        if usage := as_object(payload.get("usage")):
            self._count(usage)
        self._note_transformations(payload)
        if stop := as_text(delta.get("stop_reason")):
            self.proven = True
            self._stop = self._message.raw_stop_reason = stop
            self._stop_details = as_object(delta.get("stop_details"))

    def _whole(self, message: JSONObject, events: list[StreamEvent]) -> None:
        self._open(message)
        for index, content in enumerate(as_list(message.get("content"))):
            self._start(index, as_object(content), events)
            self._end(index, events)
        self._finish({}, message)
        self.ended = True

    def _count(self, raw: JSONObject) -> None:
        """Set the usage: counts replace earlier ones, field by field (AN31)."""
        usage = self._message.usage
        for (place, key), name in _COUNTS.items():
            count = (as_object(raw.get(place)) if place else raw).get(key)
            if isinstance(count, (int, float)):
                setattr(usage, name, as_tokens(count))
        usage.total_tokens = usage.input + usage.output + usage.cache_read + usage.cache_write
        self._builder.set_usage(usage)
        apply_provider_cost(self._model, usage, raw)

    def _note_transformations(self, place: JSONObject) -> None:
        """What the server did to the conversation before it read it (AN35)."""
        found = [as_object(item) for item in as_list(place.get("input_transformations"))]
        if found:
            keys = ("type", "path", "reason")
            self._transformations = [{key: item[key] for key in keys if key in item} for item in found]

    # ── failures ─────────────────────────────────────────────────────────────────────────────────────────────

    def _told(self, words: ProviderWords) -> PiAIError:
        model = self._model
        text = ": ".join(filter(None, (words.type or words.code, words.said))) or words.text
        if words.request_id:
            text += f" (request {words.request_id})"
        return stream_failure(words, provider=model.provider, api=model.api, model=model.id, text=text)

    def _unreadable(self, name: str, data: str, error: ValueError) -> str:
        return f"Could not parse Anthropic SSE event {name}: {error}; data={data[:500]}"

    def _bad_end(self, stop: str) -> PiAIError:
        kind, text = _FAILURES.get(stop, ("protocol", f"Unhandled stop reason: {stop}"))
        if stop == "refusal":
            text = as_text(self._stop_details.get("explanation")) or text
        sentence = f"The provider ended the answer for the reason {stop[:100]!r}: {text}"
        return self._failure(kind, sentence, text=text, phase="end", provider_code=stop)


def _index(payload: JSONObject) -> int | None:
    index = payload.get("index")
    return index if isinstance(index, int) else None


# ── adapter ──────────────────────────────────────────────────────────────────────────────────────────────────

_sessions = Sessions(Session)
"""What is remembered of sessions: nothing that a request needs, only what spares one that would be refused, or part of
one."""


class AnthropicMessages(Adapter[AnthropicOptions]):
    """The messages API of Anthropic and of everybody who speaks it."""

    api = "anthropic-messages"
    label = "Anthropic Messages"
    options_type = AnthropicOptions

    def lower(self, model: Model, context: Context, options: StreamOptions) -> AnthropicOptions:
        """As much thought as was asked for, by budget or by effort, and as long an answer as fits (section 3.5)."""
        compat, level = Compat.of(model), options.reasoning if model.reasoning else None
        budget, effort = 0, None
        if level is None or compat.force_adaptive_thinking or compat.supports_mid_convo_effort:
            limit = fit_max_tokens(model, context, options.max_tokens)
            effort = effort_of(model, level) if level else None
        else:
            limit, budget = fit_thinking(model, context, options.max_tokens, level, options.thinking_budgets)
        return lowered(
            AnthropicOptions,
            options,
            max_tokens=limit,
            tool_choice=options.tool_choice,
            thinking_enabled=bool(effort or budget),
            thinking_budget_tokens=budget or None,
            effort=effort,
        )

    def build_request(self, model: Model, context: Context, options: AnthropicOptions) -> Request:
        """The request (section 3), in the thread of its session if there is one.

        :raises PiAIError: no key (``auth``); a tool requires what the model does not have (``bad_request``); a wrong
            compat flag, header or base URL (``config``).
        """
        return _request(model, context, options, _sessions.of(options.session_id))

    def instead(
        self, model: Model, context: Context, options: AnthropicOptions, refused: Request, error: PiAIError
    ) -> Request | None:
        """Once more with fewer strict tools (CS3), or without the thread that the server does not go on with."""
        session, info = _sessions.of(options.session_id), error.info
        if info.status == 400 and is_too_strict(error.text):
            kind, reason = "anthropic_strict_tools_fallback", "strict_tool_limits_exceeded"
            session.plain_tools = True
        elif "thread" in refused.body and (found := refused_thread(info.status, error.text)):
            kind, reason = "anthropic_thread_fallback", found
            session.thread, session.threads = None, may_begin_anew(found)
        else:
            return None
        body = _request(model, context, options, session).body
        again = any(note.type == kind for note in refused.notes)
        if again or (kind == "anthropic_strict_tools_fallback" and body == refused.body):
            return None
        note = Diagnostic(type=kind, error=DiagnosticError(message=error.text), details={"reason": reason})
        return attrs.evolve(refused, body=body, notes=(*refused.notes, note))

    def decoder(self, options: AnthropicOptions) -> SSEDecoder:
        """Server-sent events."""
        return SSEDecoder(options.max_event_bytes)

    def parser(
        self, model: Model, options: AnthropicOptions, builder: MessageBuilder, context: Context
    ) -> AnthropicMessagesParser:
        """A parser of events.

        :param context: the conversation, which the answer may be the end of a thread of.
        """
        compat, session = Compat.of(model), _sessions.of(options.session_id)
        builder.message.provider_thinking_level = _managed_effort(model, compat, options)
        threads = _takes_threads(compat, options, session)
        answered = partial(_remember, model, compat, context, options, session) if threads else None
        return AnthropicMessagesParser(model, compat, builder, answered)
