"""The wire of ``anthropic-messages``: named events, one block after the other, ``message_stop`` last."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pi_ai.testing.turns import Block, Failure, RawToolCall, Turn
from pi_ai.testing.wires.base import (
    Asked,
    Part,
    Wire,
    WireEvent,
    arguments_of,
    dumped,
    mappings,
    read_messages,
    request_id,
    usage_of,
    word_for,
)
from pi_ai.types import JSONObject, TextContent, ThinkingContent, ToolCall, Usage

_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "toolUse": "tool_use"}
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class AnthropicMessages(Wire):
    """Messages."""

    api = "anthropic-messages"
    base = ""
    path = re.compile(r"^/v1/messages(?:\?|$)")
    media_type = "text/event-stream; charset=utf-8"
    keep_alive = b'event: ping\ndata: {"type": "ping"}\n\n'
    request_id_header = "request-id"

    def read(self, found: re.Match[str], body: JSONObject, number: int) -> Asked:
        """What a request asks."""
        return read_messages(body, number, [tool.get("name") for tool in mappings(body.get("tools"))])

    def events(self, turn: Turn, asked: Asked) -> Iterator[WireEvent]:
        """The message without its content, a ping as soon as there is some, the blocks, and how it ended."""
        usage = usage_of(turn, asked)
        yield _event({"type": "message_start", "message": _message(turn, asked, [], None, _usage(usage))})
        for index, block in enumerate(turn.content):
            start = _empty(block)
            head = start["type"] in ("tool_use", "redacted_thinking")  # says something by itself
            part: Part = "piece" if head else "frame"
            yield _event({"type": "content_block_start", "index": index, "content_block": start}, part)
            if index == 0:
                yield WireEvent(self.keep_alive)
            for delta in _deltas(turn, block):
                yield _event({"type": "content_block_delta", "index": index, "delta": delta}, "piece")
            yield _event({"type": "content_block_stop", "index": index})
        delta = {"stop_reason": _stop_reason(turn), "stop_sequence": None, "stop_details": None}
        yield _event({"type": "message_delta", "delta": delta, "usage": _final(usage)}, "ending")
        yield _event({"type": "message_stop"}, "mark")

    def whole(self, turn: Turn, asked: Asked) -> JSONObject:
        """A message."""
        content = [_whole(block) for block in turn.content]
        usage = usage_of(turn, asked)
        return _message(turn, asked, content, _stop_reason(turn), {**_usage(usage), **_final(usage)})

    def failure(self, failure: Failure, asked: Asked) -> JSONObject:
        """An error object."""
        error = {"type": failure.type or word_for(_TYPES, failure.status), "message": failure.message}
        return {"type": "error", "error": error, "request_id": request_id(asked)}

    def failure_event(self, failure: Failure, asked: Asked, after: int) -> WireEvent:
        """The same object as an event."""
        return _event(self.failure(failure, asked))


def _event(payload: JSONObject, part: Part = "frame") -> WireEvent:
    return WireEvent(b"event: %s\ndata: %s\n\n" % (payload["type"].encode(), dumped(payload)), part)


def _message(
    turn: Turn, asked: Asked, content: list[JSONObject], stop_reason: str | None, usage: JSONObject
) -> JSONObject:
    return {
        "model": turn.response_model or asked.model,
        "id": turn.response_id or f"msg_sandbox{asked.number:08}",
        "type": "message",
        "role": "assistant",
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "stop_details": None,
        "usage": usage,
    }


def _stop_reason(turn: Turn) -> str:
    return turn.raw_stop_reason or _STOP_REASONS[turn.stop_reason]


def _whole(block: Block) -> JSONObject:
    match block:
        case TextContent(text=text):
            return {"type": "text", "text": text}
        case ThinkingContent(redacted=True, thinking_signature=data):
            return {"type": "redacted_thinking", "data": data or ""}
        case ThinkingContent(thinking=thinking, thinking_signature=signature):
            return {"type": "thinking", "thinking": thinking, "signature": signature or ""}
        case ToolCall(arguments=given):
            return _tool_use(block, given)
        case RawToolCall():
            return _tool_use(block, {})


def _tool_use(call: ToolCall | RawToolCall, given: JSONObject) -> JSONObject:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": given, "caller": {"type": "direct"}}


def _empty(block: Block) -> JSONObject:
    """A block as it begins."""
    nothing: JSONObject = {"text": "", "thinking": "", "signature": "", "input": {}}
    return {field: nothing.get(field, value) for field, value in _whole(block).items()}


def _deltas(turn: Turn, block: Block) -> Iterator[JSONObject]:
    """What fills an empty block."""
    match block:
        case TextContent(text=text):
            yield from ({"type": "text_delta", "text": piece} for piece in turn.pieces(text))
        case ThinkingContent(redacted=True):
            pass
        case ThinkingContent(thinking=thinking, thinking_signature=signature):
            yield from ({"type": "thinking_delta", "thinking": piece} for piece in turn.pieces(thinking))
            if signature:
                yield {"type": "signature_delta", "signature": signature}
        case ToolCall() | RawToolCall():
            text = arguments_of(block)
            pieces = ["", *turn.pieces("" if text == "{}" else text)]
            yield from ({"type": "input_json_delta", "partial_json": piece} for piece in pieces)


def _final(usage: Usage) -> JSONObject:
    """The counts that are known at the end."""
    counts: JSONObject = {
        "input_tokens": usage.input,
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cache_read,
        "output_tokens": usage.output,
    }
    if usage.reasoning is not None:
        counts["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
    return counts


def _usage(usage: Usage) -> JSONObject:
    """The counts that are known at the beginning."""
    long = usage.cache_write_1h or 0
    return {
        "input_tokens": usage.input,
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write - long,
            "ephemeral_1h_input_tokens": long,
        },
        "output_tokens": min(usage.output, 1),
        "service_tier": "standard",
        "inference_geo": "global",
    }
