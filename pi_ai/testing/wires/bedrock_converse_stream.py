"""The wire of ``bedrock-converse-stream``: AWS's binary frames, ``messageStop`` and then the counts last.

A frame is its length and that of its headers, a checksum of these two numbers, the headers, the payload, and a checksum
of all that. The service has no keep-alive, and pads each payload by a field ``p``.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from urllib.parse import unquote
from zlib import crc32

from pi_ai.testing.turns import Block, Failure, RawToolCall, Reply, Turn
from pi_ai.testing.wires.base import (
    Asked,
    Part,
    Rendered,
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

_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "toolUse": "tool_use"}
_EXCEPTIONS = {
    400: "ValidationException",
    401: "UnrecognizedClientException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    424: "ModelErrorException",
    429: "ThrottlingException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
    529: "ServiceUnavailableException",
}
_PADDING = "abcdefghijklmnop"
_LATENCY = {"latencyMs": 100}


class BedrockConverseStream(Wire):
    """Converse."""

    api = "bedrock-converse-stream"
    base = ""
    path = re.compile(r"^/model/(?P<model>[^/?]+)/(?P<method>converse|converse-stream)(?:\?|$)")
    media_type = "application/vnd.amazon.eventstream"
    keep_alive = b""
    request_id_header = "x-amzn-requestid"

    def read(self, found: re.Match[str], body: JSONObject, number: int) -> Asked:
        """What a request asks; the URL says of which model, and whether as a stream."""
        tools = mappings(mapping(body.get("toolConfig")).get("tools"))
        return read_messages(
            body,
            number,
            [mapping(tool.get("toolSpec")).get("name") for tool in tools],
            model=unquote(found["model"]),
            streamed=found["method"] == "converse-stream",
        )

    def render(self, reply: Reply, asked: Asked, *, streamed: bool = True) -> Rendered:
        """A reply as it goes over the wire: the id of an answer, and what kind of error it is, stand in the head."""
        rendered = super().render(reply, asked, streamed=streamed)
        match reply:
            case Failure():
                rendered.headers.setdefault("x-amzn-errortype", _exception(reply))
            case Turn(response_id=str(told)):
                rendered.headers[self.request_id_header] = told
            case _:
                pass
        return rendered

    def events(self, turn: Turn, asked: Asked) -> Iterator[WireEvent]:
        """The role, the blocks, how it ended, and the counts."""
        yield _event("messageStart", {"role": "assistant"})
        for index, block in enumerate(turn.content):
            at = {"contentBlockIndex": index}
            if isinstance(block, (ToolCall, RawToolCall)):
                yield _event("contentBlockStart", {**at, "start": {"toolUse": _head(block)}}, "piece")
            for delta in _deltas(turn, block):
                yield _event("contentBlockDelta", {**at, "delta": delta}, "piece")
            yield _event("contentBlockStop", at)
        yield _event("messageStop", {"stopReason": _stop_reason(turn)}, "ending")
        yield _event("metadata", {"metrics": _LATENCY, "usage": _usage(turn, asked)}, "mark")

    def whole(self, turn: Turn, asked: Asked) -> JSONObject:
        """An answer of ``converse``."""
        return {
            "metrics": _LATENCY,
            "output": {"message": {"content": [_whole(block) for block in turn.content], "role": "assistant"}},
            "stopReason": _stop_reason(turn),
            "usage": _usage(turn, asked),
        }

    def failure(self, failure: Failure, asked: Asked) -> JSONObject:
        """A message; what kind of error it is stands in a header."""
        return {"message": failure.message}

    def failure_event(self, failure: Failure, asked: Asked, after: int) -> WireEvent:
        """The same in a frame of its own kind."""
        name = _exception(failure)
        headers = {":exception-type": name[:1].lower() + name[1:], ":message-type": "exception"}
        return WireEvent(_frame(headers, self.failure(failure, asked)))


def _exception(failure: Failure) -> str:
    return failure.type or failure.code or word_for(_EXCEPTIONS, failure.status)


# ── frames ───────────────────────────────────────────────────────────────────────────────────────────────────

_TEXT = 7
"""The type of a header whose value is a text."""


def _event(name: str, payload: JSONObject, part: Part = "frame") -> WireEvent:
    return WireEvent(_frame({":event-type": name, ":message-type": "event"}, {**payload, "p": _PADDING}), part)


def _frame(headers: Mapping[str, str], payload: JSONObject) -> bytes:
    head = b"".join(_header(name, value) for name, value in {":content-type": "application/json", **headers}.items())
    data = dumped(payload)
    prelude = struct.pack(">II", 12 + len(head) + len(data) + 4, len(head))
    frame = prelude + struct.pack(">I", crc32(prelude)) + head + data
    return frame + struct.pack(">I", crc32(frame))


def _header(name: str, value: str) -> bytes:
    key, text = name.encode(), value.encode()
    return struct.pack(">B", len(key)) + key + struct.pack(">BH", _TEXT, len(text)) + text


# ── blocks ───────────────────────────────────────────────────────────────────────────────────────────────────


def _stop_reason(turn: Turn) -> str:
    return turn.raw_stop_reason or _STOP_REASONS[turn.stop_reason]


def _head(call: ToolCall | RawToolCall) -> JSONObject:
    return {"name": call.name, "toolUseId": call.id}


def _deltas(turn: Turn, block: Block) -> Iterator[JSONObject]:
    """What fills a block."""
    match block:
        case TextContent(text=text):
            yield from ({"text": piece} for piece in turn.pieces(text))
        case ThinkingContent(redacted=True, thinking_signature=data):
            yield {"reasoningContent": {"redactedContent": data or ""}}
        case ThinkingContent(thinking=thinking, thinking_signature=signature):
            yield from ({"reasoningContent": {"text": piece}} for piece in turn.pieces(thinking))
            if signature:
                yield {"reasoningContent": {"signature": signature}}
        case ToolCall() | RawToolCall():
            yield from ({"toolUse": {"input": piece}} for piece in turn.pieces(arguments_of(block)))


def _whole(block: Block) -> JSONObject:
    match block:
        case TextContent(text=text):
            return {"text": text}
        case ThinkingContent(redacted=True, thinking_signature=data):
            return {"reasoningContent": {"redactedContent": data or ""}}
        case ThinkingContent(thinking=thinking, thinking_signature=signature):
            sealed = {"signature": signature} if signature else {}
            return {"reasoningContent": {"reasoningText": {"text": thinking, **sealed}}}
        case ToolCall(arguments=given):
            return {"toolUse": {**_head(block), "input": given}}
        case RawToolCall():
            return {"toolUse": {**_head(block), "input": {}}}


def _usage(turn: Turn, asked: Asked) -> JSONObject:
    usage = usage_of(turn, asked)
    counts: JSONObject = {
        "inputTokens": usage.input,
        "outputTokens": usage.output,
        "cacheReadInputTokens": usage.cache_read,
        "cacheWriteInputTokens": usage.cache_write,
        "totalTokens": usage.input + usage.output + usage.cache_read + usage.cache_write,
    }
    if usage.cache_write_1h is not None:
        counts["cacheDetails"] = [{"inputTokens": usage.cache_write_1h, "ttl": "1h"}]
    return counts
