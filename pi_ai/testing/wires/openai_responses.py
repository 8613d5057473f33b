"""The wire of ``openai-responses`` and ``azure-openai-responses``: numbered events; the last has the whole response."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from pi_ai.testing.turns import Failure, RawToolCall, Turn
from pi_ai.testing.wires.base import (
    CREATED,
    Asked,
    Part,
    Wire,
    WireEvent,
    arguments_of,
    dumped,
    mapping,
    mappings,
    read_messages,
    usage_of,
    word_for,
)
from pi_ai.types import JSONObject, TextContent, ThinkingContent, ToolCall

_STATUSES = {"stop": "completed", "toolUse": "completed", "length": "incomplete.max_output_tokens"}
"""The response's status, and what is behind a point: why it is incomplete."""
_TYPES = {400: "invalid_request_error", 429: "rate_limit_error", 500: "server_error"}
_CODES = {
    401: "invalid_api_key",
    404: "model_not_found",
    429: "rate_limit_exceeded",
    500: "server_error",
    503: "server_is_overloaded",
    529: "server_is_overloaded",
}


class OpenAIResponses(Wire):
    """Responses."""

    api = "openai-responses"
    base = "/v1"
    path = re.compile(r"^/v1/responses(?:\?|$)")
    media_type = "text/event-stream; charset=utf-8"
    keep_alive = b": keep-alive\n\n"
    request_id_header = "x-request-id"

    def read(self, found: re.Match[str], body: JSONObject, number: int) -> Asked:
        """What a request asks."""
        names = [tool.get("name") for tool in mappings(body.get("tools"))]
        return read_messages(body, number, names, messages="input")

    def events(self, turn: Turn, asked: Asked) -> Iterator[WireEvent]:
        """The response without its output, twice, the items one after the other, and the whole response."""
        for number, (payload, part) in enumerate(_payloads(turn, asked)):
            yield _event(payload, number, part)

    def whole(self, turn: Turn, asked: Asked) -> JSONObject:
        """A response."""
        return _finished(turn, asked)

    def failure(self, failure: Failure, asked: Asked) -> JSONObject:
        """An error object."""
        return {
            "error": {
                "message": failure.message,
                "type": failure.type or word_for(_TYPES, failure.status),
                "param": None,
                "code": failure.code or _CODES.get(failure.status),
            }
        }

    def failure_event(self, failure: Failure, asked: Asked, after: int) -> WireEvent:
        """The same object in an event."""
        return _event({"type": "error", **self.failure(failure, asked)}, after)


class AzureOpenAIResponses(OpenAIResponses):
    """The same in a resource at Azure."""

    api = "azure-openai-responses"
    base = "/openai/v1"
    path = re.compile(r"^/openai/v1/responses(?:\?|$)")
    request_id_header = "apim-request-id"


def _event(payload: JSONObject, number: int, part: Part = "frame") -> WireEvent:
    kind = payload["type"]
    data = dumped({"type": kind, "sequence_number": number, **payload})
    return WireEvent(b"event: %s\ndata: %s\n\n" % (kind.encode(), data), part)


# ── the response ─────────────────────────────────────────────────────────────────────────────────────────────


def _payloads(turn: Turn, asked: Asked) -> Iterator[tuple[JSONObject, Part]]:
    for kind in ("response.created", "response.in_progress"):
        yield {"type": kind, "response": _response(turn, asked, status="in_progress")}, "frame"
    for place in range(len(turn.content)):
        yield from _item_events(turn, _item(turn, asked, place), place)
    response = _finished(turn, asked)
    yield {"type": f"response.{response['status']}", "response": response}, "mark"


def _response(turn: Turn, asked: Asked, **known: Any) -> JSONObject:
    return {
        "id": turn.response_id or f"resp_sandbox{asked.number:08}",
        "object": "response",
        "created_at": CREATED,
        "status": None,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "model": turn.response_model or asked.model,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None,
        "service_tier": "default",
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None,
        "user": None,
        "metadata": {},
        **known,
    }


def _finished(turn: Turn, asked: Asked) -> JSONObject:
    status, _, why = (turn.raw_stop_reason or _STATUSES[turn.stop_reason]).partition(".")
    return _response(
        turn,
        asked,
        status=status,
        incomplete_details={"reason": why} if why else None,
        output=[_item(turn, asked, place).whole for place in range(len(turn.content))],
        usage=_usage(turn, asked),
    )


def _usage(turn: Turn, asked: Asked) -> JSONObject:
    usage = usage_of(turn, asked)
    prompt = usage.input + usage.cache_read + usage.cache_write
    cached: JSONObject = {"cached_tokens": usage.cache_read}
    if usage.cache_write:
        cached["cache_write_tokens"] = usage.cache_write
    return {
        "input_tokens": prompt,
        "input_tokens_details": cached,
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning or 0},
        "total_tokens": prompt + usage.output,
    }


# ── its items ────────────────────────────────────────────────────────────────────────────────────────────────


class _Item(NamedTuple):
    """An item, as it begins and as it ends."""

    empty: JSONObject
    whole: JSONObject


class _Kind(NamedTuple):
    """How an item of a kind is filled.

    :ivar field: its list of parts, or its text. ``place``: what numbers the parts; "": it is a text.
    :ivar part: prefix of the events around a part. ``text``: prefix of those of its text.
    :ivar more: of every piece, and of the whole text.
    """

    field: str
    place: str
    part: str
    text: str
    more: JSONObject


_KINDS = {
    "message": _Kind("content", "content_index", "response.content_part", "response.output_text", {"logprobs": []}),
    "reasoning": _Kind(
        "summary", "summary_index", "response.reasoning_summary_part", "response.reasoning_summary_text", {}
    ),
    "function_call": _Kind("arguments", "", "", "response.function_call_arguments", {}),
}


def _item(turn: Turn, asked: Asked, place: int) -> _Item:
    number = f"{turn.response_id or f'sandbox{asked.number:08}'}_{place}"
    block = turn.content[place]
    match block:
        case TextContent(text=text, text_signature=signature):
            told = _object(signature)
            head: JSONObject = {"id": told.get("id") or f"msg_{number}", "type": "message", "role": "assistant"}
            phase = {"phase": told["phase"]} if "phase" in told else {}
            parts: list[JSONObject] = [{"type": "output_text", "annotations": [], "logprobs": [], "text": text}]
            return _Item(
                {**head, **phase, "status": "in_progress", "content": []},
                {**head, **phase, "status": "completed", "content": parts},
            )
        case ThinkingContent(thinking=thinking, thinking_signature=signature):
            whole = _object(signature) or _thought("" if block.redacted else thinking, signature, f"rs_{number}")
            return _Item({"id": whole.get("id"), "type": "reasoning", "summary": []}, whole)
        case ToolCall() | RawToolCall():
            call, _, told = block.id.partition("|")
            head = {"id": told or f"fc_{number}", "type": "function_call", "call_id": call, "name": block.name}
            if isinstance(block, ToolCall) and block.namespace is not None:
                head["namespace"] = block.namespace
            return _Item(
                {**head, "status": "in_progress", "arguments": ""},
                {**head, "status": "completed", "arguments": arguments_of(block)},
            )


def _thought(text: str, signature: str | None, name: str) -> JSONObject:
    sealed = {"encrypted_content": signature} if signature else {}
    parts = [{"type": "summary_text", "text": text}] if text else []
    return {"id": name, "type": "reasoning", **sealed, "summary": parts}


def _object(signature: str | None) -> JSONObject:
    """What a signature holds, where this wire gave it."""
    try:
        return mapping(json.loads(signature or ""))
    except ValueError:
        return {}


def _item_events(turn: Turn, item: _Item, place: int) -> Iterator[tuple[JSONObject, Part]]:
    """An item as it begins, what fills it, and all of it."""
    kind = _KINDS[item.whole["type"]]
    known: JSONObject = {"item_id": item.whole.get("id"), "output_index": place}
    head: Part = "frame" if kind.place else "piece"  # a call's says something by itself
    yield {"type": "response.output_item.added", "output_index": place, "item": item.empty}, head
    if kind.place:
        for number, part in enumerate(mappings(item.whole.get(kind.field))):
            at = {**known, kind.place: number}
            yield {"type": f"{kind.part}.added", **at, "part": {**part, "text": ""}}, "frame"
            yield from _text_events(turn, kind, at, "text", str(part.get("text", "")))
            yield {"type": f"{kind.part}.done", **at, "part": part}, "frame"
    else:
        yield from _text_events(turn, kind, known, kind.field, item.whole[kind.field])
    seal: Part = "piece" if item.whole.get("encrypted_content") else "frame"
    yield {"type": "response.output_item.done", "output_index": place, "item": item.whole}, seal


def _text_events(
    turn: Turn, kind: _Kind, known: JSONObject, field: str, text: str
) -> Iterator[tuple[JSONObject, Part]]:
    for piece in turn.pieces(text):
        yield {"type": f"{kind.text}.delta", **known, "delta": piece, **kind.more}, "piece"
    yield {"type": f"{kind.text}.done", **known, field: text, **kind.more}, "frame"
