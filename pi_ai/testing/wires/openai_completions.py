"""The wire of ``openai-completions``: chunks, then ``data: [DONE]``. Thoughts as other vendors send them."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator

import attrs

from pi_ai.testing.turns import Block, Failure, RawToolCall, Turn
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

_FINISH_REASONS = {"stop": "stop", "length": "length", "toolUse": "tool_calls"}
_TYPES = {400: "invalid_request_error", 429: "requests", 500: "server_error"}
_CODES = {
    401: "invalid_api_key",
    404: "model_not_found",
    429: "rate_limit_exceeded",
    503: "server_is_overloaded",
    529: "server_is_overloaded",
}
_THOUGHTS = ("reasoning_content", "reasoning", "reasoning_text")
"""Fields in which servers send thoughts. A thought's signature may be the name of one."""


class OpenAICompletions(Wire):
    """Chat completions."""

    api = "openai-completions"
    base = "/v1"
    path = re.compile(r"^/v1/chat/completions(?:\?|$)")
    media_type = "text/event-stream; charset=utf-8"
    keep_alive = b": keep-alive\n\n"
    request_id_header = "x-request-id"

    def read(self, found: re.Match[str], body: JSONObject, number: int) -> Asked:
        """What a request asks."""
        tools = [mapping(tool.get(str(tool.get("type")))) for tool in mappings(body.get("tools"))]
        return read_messages(body, number, [tool.get("name") for tool in tools])

    def events(self, turn: Turn, asked: Asked) -> Iterator[WireEvent]:
        """Chunks: the role, the content, the finish reason, and the usage if the request wants it."""
        common = _common(turn, asked, "chat.completion.chunk")
        counted = bool(mapping(asked.body.get("stream_options")).get("include_usage"))

        def chunk(choices: list[JSONObject], part: Part, usage: JSONObject | None = None) -> WireEvent:
            told = {"usage": usage} if counted else {}
            return WireEvent(b"data: %s\n\n" % dumped({**common, "choices": choices, **told}), part)

        def choice(delta: JSONObject, part: Part, finish: str | None = None) -> WireEvent:
            return chunk([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}], part)

        has_text = any(isinstance(block, TextContent) for block in turn.content)
        yield choice({"role": "assistant", "content": "" if has_text else None, "refusal": None}, "frame")
        for delta in _deltas(turn):
            yield choice(delta, "piece")
        yield choice({}, "ending", _finish_reason(turn))
        if counted:
            yield chunk([], "ending", _usage(turn, asked))
        yield WireEvent(b"data: [DONE]\n\n", "mark")

    def whole(self, turn: Turn, asked: Asked) -> JSONObject:
        """A completion."""
        unbroken = attrs.evolve(turn, piece_size=sys.maxsize)
        message: JSONObject = {"role": "assistant", "content": None, "refusal": None, "annotations": []}
        said: JSONObject = {}
        for delta in (delta for block in turn.content for delta in _said(unbroken, block)):
            said |= {field: said[field] + value if field in said else value for field, value in delta.items()}
        if calls := [function_call(block) for block in turn.content if isinstance(block, (ToolCall, RawToolCall))]:
            said["tool_calls"] = calls
        choice = {"index": 0, "message": {**message, **said}, "logprobs": None, "finish_reason": _finish_reason(turn)}
        return {**_common(turn, asked, "chat.completion"), "choices": [choice], "usage": _usage(turn, asked)}

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
        """The same object as a chunk."""
        return WireEvent(b"data: %s\n\n" % dumped(self.failure(failure, asked)))


def _common(turn: Turn, asked: Asked, kind: str) -> JSONObject:
    return {
        "id": turn.response_id or f"chatcmpl-sandbox{asked.number:08}",
        "object": kind,
        "created": CREATED,
        "model": turn.response_model or asked.model,
        "service_tier": "default",
        "system_fingerprint": None,
    }


def _finish_reason(turn: Turn) -> str:
    return turn.raw_stop_reason or _FINISH_REASONS[turn.stop_reason]


def _deltas(turn: Turn) -> Iterator[JSONObject]:
    """The content, piece by piece."""
    index = 0
    for block in turn.content:
        if isinstance(block, (ToolCall, RawToolCall)):
            yield from _called(turn, block, index)
            index += 1
        else:
            yield from _said(turn, block)


def _said(turn: Turn, block: Block) -> Iterator[JSONObject]:
    match block:
        case TextContent(text=text):
            yield from ({"content": piece} for piece in turn.pieces(text))
        case ThinkingContent():
            yield from _thought(turn, block)
        case ToolCall() | RawToolCall():
            pass


def _called(turn: Turn, block: ToolCall | RawToolCall, index: int) -> Iterator[JSONObject]:
    call = function_call(block)
    head = {**call, "function": {**call["function"], "arguments": ""}}
    yield {"tool_calls": [{"index": index, **head}]}
    for piece in turn.pieces(arguments_of(block)):
        yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def function_call(call: ToolCall | RawToolCall) -> JSONObject:
    """A call, whole."""
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments_of(call)}}


def _thought(turn: Turn, block: ThinkingContent) -> Iterator[JSONObject]:
    """A thought: in a plain field, or, if it is signed or redacted, with details as OpenRouter sends them."""
    text, signature = "" if block.redacted else block.thinking, block.thinking_signature
    if signature in _THOUGHTS or (signature is None and not block.redacted):
        yield from ({signature or _THOUGHTS[0]: piece} for piece in turn.pieces(text))
        return
    if block.redacted:
        details = [{"type": "reasoning.encrypted", "data": signature or "", **_ORIGIN}]
    else:
        details = _details(signature) or [{"type": "reasoning.text", "text": text, "signature": signature, **_ORIGIN}]
    if not any(_readable(detail) for detail in details):
        yield from ({"reasoning": piece} for piece in turn.pieces(text))
    for detail in details:
        yield from _detail(turn, detail)


_ORIGIN = {"format": "anthropic-claude-v1", "index": 0}


def _readable(detail: JSONObject) -> str | None:
    """The field of a detail that people can read."""
    return next((field for field in ("text", "summary") if isinstance(detail.get(field), str)), None)


def _detail(turn: Turn, detail: JSONObject) -> Iterator[JSONObject]:
    field = _readable(detail)
    if field is None:
        yield {"reasoning_details": [detail]}
        return
    plain = {name: value for name, value in detail.items() if name != "signature"}
    for piece in turn.pieces(detail[field]):
        yield {"reasoning": piece, "reasoning_details": [{**plain, field: piece}]}
    if detail.get("signature"):
        yield {"reasoning_details": [{**detail, field: ""}]}


def _details(signature: str | None) -> list[JSONObject]:
    """The details that a signature holds, where this wire gave it."""
    try:
        return mappings(json.loads(signature or ""))
    except ValueError:
        return []


def _usage(turn: Turn, asked: Asked) -> JSONObject:
    usage = usage_of(turn, asked)
    prompt = usage.input + usage.cache_read + usage.cache_write
    cached: JSONObject = {"cached_tokens": usage.cache_read, "audio_tokens": 0}
    if usage.cache_write:
        cached["cache_write_tokens"] = usage.cache_write
    return {
        "prompt_tokens": prompt,
        "completion_tokens": usage.output,
        "total_tokens": prompt + usage.output,
        "prompt_tokens_details": cached,
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning or 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
