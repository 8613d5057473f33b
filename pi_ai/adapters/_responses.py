"""What all APIs of the Responses family have in common: options, body, answer.

The conversation is made in ``_responses_input.py``, the items of the answer are written in ``_responses_output.py``,
and who differs how is data in ``_responses_compat.py``. Rules: openai-responses.md.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, TypeVar

import attrs
from httpx_sse import ServerSentEvent

from pi_ai.adapters._answer import AnswerParser, as_list, as_object, as_text, as_tokens
from pi_ai.adapters._openai import cache_key, grammars, refused_field_hint, sampling
from pi_ai.adapters._request import lowered
from pi_ai.adapters._responses_compat import REFUSED_FIELDS, Compat
from pi_ai.adapters._responses_input import effort_update, input_and_tools
from pi_ai.adapters._responses_output import (
    ChangedInput,
    Name,
    OpenCall,
    OpenItem,
    OpenItems,
    OpenText,
    OpenTextCall,
    OpenThought,
    names_of,
)
from pi_ai.adapters.base import Adapter
from pi_ai.builder import MessageBuilder
from pi_ai.errors import PiAIError
from pi_ai.events import DoneReason, StreamEvent
from pi_ai.failures import ProviderWords, error_in, provider_words, stream_failure
from pi_ai.history import current_tools, transcript
from pi_ai.pricing import apply_provider_cost
from pi_ai.reasoning import clamp_level, effort
from pi_ai.text import decode_json, encode_json
from pi_ai.tokens import fit_max_tokens
from pi_ai.tools import Grammar
from pi_ai.types import (
    Context,
    Cost,
    JSONObject,
    Model,
    ReasoningLevel,
    RequestOptions,
    StreamOptions,
    ThinkingContent,
    ToolCall,
    ToolChoice,
    Usage,
)
from pi_ai.wire.sse import SSEDecoder

# ── options ──────────────────────────────────────────────────────────────────────────────────────────────────


@attrs.frozen(kw_only=True)
class ResponsesOptions(RequestOptions):
    """Options of these APIs.

    :ivar tool_choice: ``"auto"``, ``"none"``, ``"any"`` (on the wire ``required``), one tool by name, or the wire's own
        object.
    :ivar reasoning_effort: how hard to think; None: thinking is off.
    :ivar reasoning_summary: how much of the thoughts to show; given alone, the model thinks with effort ``medium``.
    """

    tool_choice: ToolChoice | Literal["required"] | JSONObject | None = None
    reasoning_effort: ReasoningLevel | None = None
    reasoning_summary: Literal["auto", "concise", "detailed"] | None = None


ResponsesOptionsT = TypeVar("ResponsesOptionsT", bound=ResponsesOptions)

# ── request ──────────────────────────────────────────────────────────────────────────────────────────────────

PATH = "/responses"

MIN_OUTPUT_TOKENS = 16
"""The API refuses a smaller limit."""

BASE_EFFORT = "medium"
"""Effort of a conversation in which each answer has its own: the request's must never change."""

_ENCRYPTED = "reasoning.encrypted_content"


def response_body(
    model: Model, compat: Compat, context: Context, options: ResponsesOptions, own: JSONObject
) -> JSONObject:
    """The body, its fields in the order of section 2; where sampling parameters name a field, they win.

    :param own: fields of the API's own, and what replaces shared ones; None: there is none.
    """
    constraints = _constraints(compat, context)
    items, tools = input_and_tools(model, compat, context, constraints)
    effort = _managed_effort(model, compat, options)
    if effort is not None:
        items.append(effort_update(effort))
    limit = options.max_tokens or 0
    body: JSONObject = {
        "model": model.id,
        "input": items,
        "stream": True,
        "store": False,
        "prompt_cache_key": None if compat.prompt_cache_key_mode == "disabled" else cache_key(options),
        "max_output_tokens": max(MIN_OUTPUT_TOKENS, limit) if limit > 0 and compat.supports_max_output_tokens else None,
        "temperature": options.temperature,
        "tools": tools or None,
        "tool_choice": _tool_choice(options.tool_choice, constraints),
        **_reasoning(model, compat, options),
        **own,
    }
    told = {name: value for name, value in body.items() if value is not None}
    return told | sampling(model, options.reasoning_effort, options)


def _constraints(compat: Compat, context: Context) -> dict[str, Grammar]:
    """The tools that are called with plain text, by name."""
    return grammars(current_tools(transcript(context)), supported=compat.supports_openai_grammar_tools)


def _tool_choice(choice: Any, constraints: Mapping[str, Grammar]) -> Any:
    match choice:
        case "any":
            return "required"
        case {"type": "tool", "name": name}:
            return {"type": "custom" if name in constraints else "function", "name": name}
        case _:
            return choice


def _reasoning(model: Model, compat: Compat, options: ResponsesOptions) -> JSONObject:
    """How hard to think; and the thoughts in a form that can be sent back, because the server keeps nothing."""
    if not model.reasoning:
        return {}
    word = _effort(model, options)
    if word is not None:
        effort = BASE_EFFORT if compat.supports_mid_convo_effort else word
        asked = {"effort": effort, "summary": options.reasoning_summary or "auto"}
    else:
        off = (model.thinking_level_map or {}).get("off", "none")
        asked = {"effort": off} if off is not None and compat.supports_no_effort else None
    # Also while thinking is off: a model that cannot stop thinks all the same, and its thoughts are needed, too.
    return {"reasoning": asked, "include": [_ENCRYPTED]}


def _effort(model: Model, options: ResponsesOptions) -> str | None:
    level = options.reasoning_effort or ("medium" if options.reasoning_summary else None)
    return None if level is None or not model.reasoning else effort(model, level)


def _managed_effort(model: Model, compat: Compat, options: ResponsesOptions) -> str | None:
    """The effort of this answer, where each has its own."""
    return _effort(model, options) if compat.supports_mid_convo_effort else None


# ── answer ───────────────────────────────────────────────────────────────────────────────────────────────────

_ITEMS: Mapping[object, type[OpenItem]] = {cls.type: cls for cls in (OpenText, OpenThought, OpenCall, OpenTextCall)}
"""Items that are content of ours, by type."""

_PIECES: Mapping[str, tuple[type[OpenItem], str | None]] = {
    "response.output_text.delta": (OpenText, None),
    "response.refusal.delta": (OpenText, None),
    "response.reasoning_summary_text.delta": (OpenThought, "summary_index"),
    "response.reasoning_text.delta": (OpenThought, "content_index"),
    "response.function_call_arguments.delta": (OpenCall, None),
    "response.custom_tool_call_input.delta": (OpenTextCall, None),
}
"""Events that hold a piece of an item: its kind, and what tells the item's parts, where that matters."""

_QUIET = re.compile(
    r"keepalive|response\.(in_progress|queued|(content|reasoning|reasoning_summary)_part\.\w+"
    r"|(output_text|refusal|reasoning_text|reasoning_summary_text)\.(done|annotation\.added)"
    r"|audio\.\w+|audio\.transcript\.\w+|\w+_call(_\w+)?\.\w+|mcp_list_tools\.\w+)"
)
"""Events that say nothing new, or are about tools that the server runs itself."""

_SERVERS_OWN = re.compile(r"\w+_call(_output)?|mcp_\w+|tool_search_output|program(_output)?|compaction")
"""Items of tools that the server runs itself, and of what else is its own affair."""

_LIMITS = ("max_output_tokens",)
"""Reasons for which a response is incomplete that are good endings."""


class ResponsesParser(AnswerParser):
    """Events to events. The wire's items are ours, one by one: they may interleave, and each ends by itself.

    :param arguments: of tools that are called with plain text: their names, and the argument that holds it.
    :param tier: the service tier that was asked for.
    """

    def __init__(
        self, model: Model, compat: Compat, builder: MessageBuilder, arguments: Mapping[str, str], tier: str | None
    ) -> None:
        super().__init__(model, builder)
        self._compat = compat
        self._arguments = arguments
        self._tier = tier
        self._items = OpenItems()
        self._response: JSONObject | None = None  # as it is at the end
        # What the last event was a piece of, where the next one of the same need only be appended.
        self._kind: object = self
        self._place: object = None
        self._parts: str | None = None
        self._part: object = None
        self._append: Any = None
        self._ignored = 0

    def decode(self, event: ServerSentEvent) -> JSONObject | None:
        """The JSON of an event. After the last event of the response everything is ignored."""
        data = event.data
        if self.ended or not data:
            return None
        if data.startswith("[DONE]"):
            self.ended = True
            return None
        return self._json(event.event, data)

    def feed(self, payload: JSONObject) -> list[StreamEvent]:
        """What an event means; also takes a whole response that was not streamed."""
        kind, place = payload.get("type"), payload.get("output_index")
        if place is None:
            place = payload.get("item_id")
        if kind == self._kind and place == self._place:
            # What nearly every event is, done in few steps.
            text = payload.get("delta")
            if text.__class__ is str and (self._parts is None or payload.get(self._parts) == self._part):
                return [self._append(text)] if text else []
        self._kind = self
        events: list[StreamEvent] = []
        match kind:
            case str() if kind in _PIECES:
                cls, parts = _PIECES[kind]
                item = self._piece(cls, payload, events)
                if item is not None and item.plain:
                    self._kind, self._place, self._append = kind, place, item.block.delta
                    self._parts, self._part = parts, payload.get(parts or "")
            case "response.output_item.added":
                self._begin(payload, as_object(payload.get("item")), events)
            case "response.output_item.done":
                self._end(payload, as_object(payload.get("item")), events)
            case "response.function_call_arguments.done":
                self._complete(OpenCall, payload, events)
            case "response.custom_tool_call_input.done":
                self._complete(OpenTextCall, payload, events)
            case "response.reasoning_summary_part.done" | "response.reasoning_part.done":
                self._end_part(payload)
            case "response.created":
                self._name(as_object(payload.get("response")))
            case "response.completed" | "response.done":
                self._finish(as_object(payload.get("response")), events)
            case "response.incomplete":
                self._finish({"status": "incomplete", **as_object(payload.get("response"))}, events)
            case "response.failed":
                raise self._failed({"status": "failed", **as_object(payload.get("response"))})
            case str() if kind != "error":
                self._ignored += not _QUIET.fullmatch(kind)
            case _ if isinstance(payload.get("output"), list):
                self._finish(payload, events)
            case _ if kind == "error" or error_in(payload):
                raise self._told(provider_words(payload))
            case _:
                self._ignored += 1
        return self._begun(events)

    def close(self) -> list[StreamEvent]:
        """End the answer (section 7.4)."""
        if self._response is None:
            self._assume_completion(
                "response.completed",
                declared=self._compat.completion_proof == "eof",
                flag='"completionProof": "eof"',
                text="OpenAI Responses stream ended before a terminal response event",
            )
        builder = self._builder
        reason = self._reason(self._response or {})
        unfinished = [item for item in self._items if isinstance(item, OpenCall) and not item.usable]
        if unfinished and reason == "stop":
            raise self._unfinished(unfinished[0].block.content)
        events: list[StreamEvent] = [] if self._started else [builder.start()]
        for item in self._items:
            item.close(events, complete=item not in unfinished)
        if not self._message.content:
            builder.note("empty")
        if self._ignored:
            builder.note("ignored", events=self._ignored)
        events += builder.finish("toolUse" if reason == "stop" and self._message.tool_calls else reason)
        return events

    # ── items ────────────────────────────────────────────────────────────────────────────────────────────────

    def _piece(self, cls: type[OpenItem], payload: JSONObject, events: list[StreamEvent]) -> OpenItem | None:
        text = payload.get("delta")
        if not isinstance(text, str) or not text:
            return None
        item = self._item(cls, payload, {}, events)
        if item is not None:
            item.piece(text, payload, events)
        return item

    def _begin(self, payload: JSONObject, said: JSONObject, events: list[StreamEvent]) -> None:
        cls = self._class(said)
        if cls is not None:
            names = names_of(cls, payload, said)
            known = self._items.find(cls, names)
            if known is not None and names and known.names == names:
                self._ignored += 1
            else:
                self._add(cls, names, said, events)

    def _complete(self, cls: type[OpenCall], payload: JSONObject, events: list[StreamEvent]) -> None:
        item = self._item(cls, payload, {}, events)
        if isinstance(item, OpenCall):
            with self._unchanged():
                item.complete(payload, events)

    def _end_part(self, payload: JSONObject) -> None:
        item = self._items.find(OpenThought, names_of(OpenThought, payload, {}))
        if isinstance(item, OpenThought):
            item.end_part()

    def _end(self, payload: JSONObject, said: JSONObject, events: list[StreamEvent]) -> None:
        cls = self._class(said)
        item = self._item(cls, payload, said, events) if cls is not None else None
        if item is not None:
            with self._unchanged():
                item.end(said, events)
            self._items.remove(item)

    def _item(
        self, cls: type[OpenItem], payload: JSONObject, said: JSONObject, events: list[StreamEvent]
    ) -> OpenItem | None:
        """The item that an event is about; begun, if its beginning was lost (F17). None: it has ended before."""
        names = names_of(cls, payload, said)
        item = self._items.find(cls, names)
        if item is None and self._items.has_ended(names):
            self._ignored += 1
            return None
        return item or self._add(cls, names, {"id": payload.get("item_id"), **said}, events)

    def _add(self, cls: type[OpenItem], names: list[Name], said: JSONObject, events: list[StreamEvent]) -> OpenItem:
        item = cls(self._builder, self._arguments)
        self._items.add(item, names)
        item.begin(said, events)
        return item

    def _class(self, said: JSONObject) -> type[OpenItem] | None:
        """The class for an item, None where it is no content of ours."""
        kind = said.get("type")
        cls = _ITEMS.get(kind) if isinstance(kind, str) else None
        if cls is None and not (isinstance(kind, str) and _SERVERS_OWN.fullmatch(kind)):
            self._ignored += 1
        return cls

    @contextmanager
    def _unchanged(self) -> Generator[None]:
        try:
            yield
        except ChangedInput as error:
            sentence = "The server changed what a tool is called with after it had said that this was all of it."
            raise self._failure("protocol", sentence, text=str(error), phase="stream") from None

    # ── the response ─────────────────────────────────────────────────────────────────────────────────────────

    def _name(self, response: JSONObject) -> None:
        message, name = self._message, as_text(response.get("model"))
        message.response_id = as_text(response.get("id")) or message.response_id
        if name is not None:
            message.response_model = name if name != self._model.id else None

    def _finish(self, response: JSONObject, events: list[StreamEvent]) -> None:
        """The response is over. Of one that was not streamed, the items are here."""
        output = [as_object(item) for item in as_list(response.get("output"))]
        if not self._message.content:
            for place, said in enumerate(output):
                self._end({"output_index": place}, said, events)
        self._back_fill(output)
        self._sum_up(response)
        self._response = response
        self.ended = self.proven = True

    def _sum_up(self, response: JSONObject) -> None:
        """What a response says about itself when it is over."""
        self._name(response)
        status, why = as_text(response.get("status")), _why_incomplete(response)
        self._message.raw_stop_reason = f"{status}.{why}" if status == "incomplete" and why else status
        raw = as_object(response.get("usage"))
        self._builder.set_usage(_usage(raw) if raw else self._message.usage)
        usage = self._message.usage
        tier = as_text(response.get("service_tier")) or self._tier or ""
        _multiply(usage.cost, self._compat.service_tier_prices.get(tier, 1.0))
        apply_provider_cost(self._model, usage, raw)

    def _back_fill(self, output: Iterable[JSONObject]) -> None:
        """Azure tells only here what its thoughts are encrypted to."""
        late = {as_text(item.get("id")): as_text(item.get("encrypted_content")) for item in output}
        for block in self._message.content:
            if isinstance(block, ThinkingContent) and block.thinking_signature:
                item: JSONObject = decode_json(block.thinking_signature)
                content = late.get(as_text(item.get("id")))
                if content is not None and not item.get("encrypted_content"):
                    item["encrypted_content"] = content
                    block.thinking_signature = encode_json(item).decode()

    def _reason(self, response: JSONObject) -> DoneReason:
        """Why the response has ended (section 7.4).

        :raises PiAIError: the reason is a failure.
        """
        status, why = response.get("status"), _why_incomplete(response)
        match status:
            case None | "completed" | "in_progress" | "queued":
                return "stop"
            case "incomplete" if why in _LIMITS:
                return "length"
            case "incomplete":
                told = f": {why}" if why else " without a provider reason"
                raise self._told(_words(why), f"Response incomplete{told}")
            case "failed" | "cancelled":
                words = error_in({"response": response}) or _words(status)
                raise self._told(words, words.text if words.said else "An unknown error occurred")
            case _:
                text = f"Unknown response status: {status}"
                raise self._failure("protocol", f"{text}. Whether the answer is whole cannot be told.", text=text)

    # ── failures ─────────────────────────────────────────────────────────────────────────────────────────────

    def _failed(self, response: JSONObject) -> PiAIError:
        """The failure that the provider reports; what it has cost is kept (section 8)."""
        self._sum_up(response)
        words, why = error_in({"response": response}), _why_incomplete(response)
        if words is None:
            text = f"incomplete: {why}" if why else "Unknown error (no error details in response)"
            return self._told(_words(why), text)
        if words.code and words.said:
            return self._told(words)
        return self._told(words, f"{words.code or 'unknown'}: {words.said or 'no message'}")

    def _told(self, words: ProviderWords, text: str | None = None) -> PiAIError:
        model = self._model
        if text is None and not words.code and not words.said:
            text = encode_json(decode_json(words.body)).decode() if words.body else None
        return stream_failure(words, provider=model.provider, api=model.api, model=model.id, text=text)

    def _unfinished(self, call: ToolCall) -> PiAIError:
        text = f"OpenAI Responses stream completed with an unfinished tool call: {call.name} ({call.id})"
        return self._failure("protocol", f"{text}. Its arguments may be cut off.", text=text, phase="end")


def _words(name: str | None) -> ProviderWords:
    """The words of a provider that only names its reason."""
    return ProviderWords(code=name, names=(name,) if name else ())


def _why_incomplete(response: JSONObject) -> str | None:
    return as_text(as_object(response.get("incomplete_details")).get("reason"))


def _usage(raw: JSONObject) -> Usage:
    """Tokens as the API counts them (section 7.2): its input includes what was cached, ours does not (U1)."""
    read, written = as_object(raw.get("input_tokens_details")), as_object(raw.get("output_tokens_details"))
    cache_read, cache_write = as_tokens(read.get("cached_tokens")), as_tokens(read.get("cache_write_tokens"))
    output = as_tokens(raw.get("output_tokens"))
    usage = Usage(
        input=max(0, as_tokens(raw.get("input_tokens")) - cache_read - cache_write),
        output=output,
        cache_read=cache_read,
        cache_write=cache_write,
        reasoning=min(as_tokens(written.get("reasoning_tokens")), output),
    )
    total = usage.input + usage.output + usage.cache_read + usage.cache_write
    usage.total_tokens = as_tokens(raw.get("total_tokens")) or total
    return usage


def _multiply(cost: Cost, factor: float) -> None:
    cost.input *= factor
    cost.output *= factor
    cost.cache_read *= factor
    cost.cache_write *= factor
    cost.total = cost.input + cost.output + cost.cache_read + cost.cache_write


# ── adapter ──────────────────────────────────────────────────────────────────────────────────────────────────


class Responses(Adapter[ResponsesOptionsT]):
    """An API of the family. A subclass makes the request.

    :cvar defaults: compat flags that are not what OpenAI does.
    """

    defaults: ClassVar[JSONObject] = {}

    def compat(self, model: Model) -> Compat:
        """The switches of a model.

        :raises PiAIError: kind ``config``: a flag has a value that it cannot have.
        """
        return Compat.of(model, **self.defaults)

    def tier(self, options: ResponsesOptionsT) -> str | None:
        """The service tier that is asked for."""
        return None

    def lower(self, model: Model, context: Context, options: StreamOptions) -> ResponsesOptionsT:
        """The level that the model has, and as long an answer as fits (section 1)."""
        level = clamp_level(model, options.reasoning) if options.reasoning else "off"
        return lowered(
            self.options_type,
            options,
            max_tokens=fit_max_tokens(model, context, options.max_tokens),
            tool_choice=options.tool_choice,
            reasoning_effort=None if level == "off" else level,
        )

    def decoder(self, options: ResponsesOptionsT) -> SSEDecoder:
        """Server-sent events."""
        return SSEDecoder(options.max_event_bytes)

    def parser(
        self, model: Model, options: ResponsesOptionsT, builder: MessageBuilder, context: Context
    ) -> ResponsesParser:
        """A parser of events.

        :param context: the conversation, for the arguments of tools that are called with plain text.
        """
        compat = self.compat(model)
        builder.message.provider_thinking_level = _managed_effort(model, compat, options)
        arguments = {name: constraint.argument for name, constraint in _constraints(compat, context).items()}
        return ResponsesParser(model, compat, builder, arguments, self.tier(options))

    def hint(self, body: JSONObject, error_text: str) -> str | None:
        """The compat flag to set, where the server names a field that it does not know."""
        sent = {*body, "strict", *(item.get("role") for item in body["input"])}
        return refused_field_hint(sent, REFUSED_FIELDS, error_text)
