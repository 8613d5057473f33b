"""The wire of ``mistral-conversations``: the chunks of chat completions, with thoughts as parts of the content.

Thoughts have no signature here, and none is hidden.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pi_ai.testing.turns import Block, Failure, RawToolCall, Turn
from pi_ai.testing.wires.base import CREATED, Asked, Part, WireEvent, arguments_of, dumped, usage_of, word_for
from pi_ai.testing.wires.openai_completions import OpenAICompletions, function_call
from pi_ai.types import JSONObject, TextContent, ThinkingContent, ToolCall

_FINISH_REASONS = {"stop": "stop", "length": "length", "toolUse": "tool_calls"}
_TYPES = {
    400: "invalid_request_invalid_args",
    404: "invalid_model",
    429: "rate_limited",
    500: "internal_server_error",
    503: "service_unavailable",
    529: "service_unavailable",
}


class MistralConversations(OpenAICompletions):
    """Mistral's chat completions."""

    api = "mistral-conversations"
    base = ""
    path = re.compile(r"^/v1/chat/completions(?:\?|$)")
    request_id_header = "mistral-correlation-id"

    def events(self, turn: Turn, asked: Asked) -> Iterator[WireEvent]:
        """Chunks: the role, the content, the finish reason with the usage."""
        common = _common(turn, asked, "chat.completion.chunk")

        def chunk(delta: JSONObject, part: Part, finish: str | None = None, **known: JSONObject) -> WireEvent:
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            return WireEvent(b"data: %s\n\n" % dumped({**common, "choices": [choice], **known}), part)

        yield chunk({"role": "assistant", "content": ""}, "frame")
        calls = 0
        for block in turn.content:
            for delta in _deltas(turn, block, calls):
                yield chunk(delta, "piece")
            calls += isinstance(block, (ToolCall, RawToolCall))
        yield chunk({"content": ""}, "ending", _finish_reason(turn), usage=_usage(turn, asked))
        yield WireEvent(b"data: [DONE]\n\n", "mark")

    def whole(self, turn: Turn, asked: Asked) -> JSONObject:
        """A completion."""
        message: JSONObject = {
            "role": "assistant",
            "content": [part for block in turn.content for part in _part(block)],
        }
        if calls := [function_call(block) for block in turn.content if isinstance(block, (ToolCall, RawToolCall))]:
            message["tool_calls"] = calls
        choice = {"index": 0, "message": message, "finish_reason": _finish_reason(turn)}
        return {**_common(turn, asked, "chat.completion"), "choices": [choice], "usage": _usage(turn, asked)}

    def failure(self, failure: Failure, asked: Asked) -> JSONObject:
        """An error object; the gateway in front, which looks at keys, has a shorter one."""
        if failure.status == 401:
            return {"detail": failure.message}
        return {
            "object": "error",
            "message": failure.message,
            "type": failure.type or failure.code or word_for(_TYPES, failure.status),
            "param": None,
            "code": failure.code,
            "raw_status_code": failure.status,
        }


def _common(turn: Turn, asked: Asked, kind: str) -> JSONObject:
    return {
        "id": turn.response_id or f"sandbox{asked.number:08}",
        "object": kind,
        "created": CREATED,
        "model": turn.response_model or asked.model,
    }


def _finish_reason(turn: Turn) -> str:
    return turn.raw_stop_reason or _FINISH_REASONS[turn.stop_reason]


def _deltas(turn: Turn, block: Block, index: int) -> Iterator[JSONObject]:
    """A block, piece by piece.

    :param index: of a call, among the calls.
    """
    match block:
        case TextContent(text=text):
            yield from ({"content": piece} for piece in turn.pieces(text))
        case ThinkingContent(thinking=text):
            pieces = [] if block.redacted else turn.pieces(text)
            yield from ({"content": [_thought(piece)]} for piece in pieces)
        case ToolCall() | RawToolCall():
            call = function_call(block)
            yield {"tool_calls": [{"index": index, **call, "function": {**call["function"], "arguments": ""}}]}
            for piece in turn.pieces(arguments_of(block)):
                yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def _part(block: Block) -> list[JSONObject]:
    """The part of the content that a block is; none for a call, and for what nobody may read."""
    match block:
        case TextContent(text=text):
            return [{"type": "text", "text": text}]
        case ThinkingContent(thinking=text):
            return [] if block.redacted else [_thought(text)]
        case ToolCall() | RawToolCall():
            return []


def _thought(text: str) -> JSONObject:
    return {"type": "thinking", "thinking": [{"type": "text", "text": text}]}


def _usage(turn: Turn, asked: Asked) -> JSONObject:
    usage = usage_of(turn, asked)
    prompt = usage.input + usage.cache_read + usage.cache_write
    counts: JSONObject = {
        "prompt_tokens": prompt,
        "total_tokens": prompt + usage.output,
        "completion_tokens": usage.output,
    }
    if usage.cache_read:
        counts["prompt_tokens_details"] = {"cached_tokens": usage.cache_read}
    return counts
