"""The wire of ``google-generative-ai`` and ``google-vertex``: chunks, each a response of its own; the last says why.

Calls come whole, and their arguments as an object; a text that is none comes as a JSON string.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import attrs

from pi_ai.testing.turns import Block, Failure, RawToolCall, Turn
from pi_ai.testing.wires.base import (
    Asked,
    Part,
    Wire,
    WireEvent,
    dumped,
    mappings,
    read_messages,
    usage_of,
    word_for,
)
from pi_ai.types import JSONObject, TextContent, ThinkingContent, ToolCall

_FINISH_REASONS = {"stop": "STOP", "toolUse": "STOP", "length": "MAX_TOKENS"}
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
    529: "UNAVAILABLE",
}
_METHOD = r"models/(?P<model>[^:?]+):(?P<method>generateContent|streamGenerateContent)(?:\?|$)"


class GoogleGenerativeAI(Wire):
    """Gemini's own API."""

    api = "google-generative-ai"
    base = "/v1beta"
    path = re.compile(rf"^/v1(?:beta)?/{_METHOD}")
    media_type = "text/event-stream"
    keep_alive = b": keep-alive\r\n\r\n"
    request_id_header = "x-goog-request-id"

    def read(self, found: re.Match[str], body: JSONObject, number: int) -> Asked:
        """What a request asks; the URL says of which model, and whether as a stream."""
        tools = [
            declared for tool in mappings(body.get("tools")) for declared in mappings(tool.get("functionDeclarations"))
        ]
        return read_messages(
            body,
            number,
            [tool.get("name") for tool in tools],
            messages="contents",
            content="parts",
            model=unquote(found["model"]),
            streamed=found["method"] == "streamGenerateContent",
        )

    def events(self, turn: Turn, asked: Asked) -> Iterator[WireEvent]:
        """Chunks with a part each, and one with the finish reason and the final counts."""
        counts = _usage(turn, asked)
        so_far = {"promptTokenCount": counts["promptTokenCount"], "totalTokenCount": counts["promptTokenCount"]}
        for part in (part for block in turn.content for part in _parts(turn, block)):
            yield _event(_chunk(turn, asked, {"parts": [part]}, so_far), "piece")
        yield _event(_chunk(turn, asked, {}, counts, finishReason=_finish_reason(turn)), "mark")

    def whole(self, turn: Turn, asked: Asked) -> JSONObject:
        """All parts in one chunk."""
        unbroken = attrs.evolve(turn, piece_size=sys.maxsize)
        parts = [part for block in turn.content for part in _parts(unbroken, block)]
        return _chunk(turn, asked, {"parts": parts}, _usage(turn, asked), finishReason=_finish_reason(turn))

    def failure(self, failure: Failure, asked: Asked) -> JSONObject:
        """An error object."""
        status = failure.type or failure.code or word_for(_STATUSES, failure.status)
        return {"error": {"code": failure.status, "message": failure.message, "status": status}}

    def failure_event(self, failure: Failure, asked: Asked, after: int) -> WireEvent:
        """The same object as a chunk."""
        return _event(self.failure(failure, asked))


class GoogleVertex(GoogleGenerativeAI):
    """The same on Vertex AI: with a project and a location, or, in express mode, without."""

    api = "google-vertex"
    base = ""
    path = re.compile(rf"^/v1(?:beta1)?/(?:projects/[^/]+/locations/[^/]+/)?publishers/[^/]+/{_METHOD}")


def _event(payload: JSONObject, part: Part = "frame") -> WireEvent:
    return WireEvent(b"data: %s\r\n\r\n" % dumped(payload), part)


def _chunk(turn: Turn, asked: Asked, content: JSONObject, usage: JSONObject, **known: Any) -> JSONObject:
    return {
        "candidates": [{"content": {**content, "role": "model"}, **known, "index": 0}],
        "usageMetadata": usage,
        "modelVersion": turn.response_model or asked.model,
        "responseId": turn.response_id or f"sandbox{asked.number:08}",
    }


def _finish_reason(turn: Turn) -> str:
    return turn.raw_stop_reason or _FINISH_REASONS[turn.stop_reason]


def _parts(turn: Turn, block: Block) -> Iterator[JSONObject]:
    """A block, piece by piece; a signature comes behind the text that it is for."""
    match block:
        case TextContent(text=text, text_signature=signature):
            yield from _said(turn, text, signature)
        case ThinkingContent(thinking=thinking, thinking_signature=signature):
            yield from _said(turn, "" if block.redacted else thinking, signature, thought=True)
        case ToolCall(arguments=given, thought_signature=signature):
            yield {"functionCall": {"name": block.name, "args": given, "id": block.id}, **_sealed(signature)}
        case RawToolCall(arguments=text):
            yield {"functionCall": {"name": block.name, "args": _value(text), "id": block.id}}


def _said(turn: Turn, text: str, signature: str | None, **kind: bool) -> Iterator[JSONObject]:
    yield from ({"text": piece, **kind} for piece in turn.pieces(text))
    if signature:
        yield {"text": "", **kind, **_sealed(signature)}


def _sealed(signature: str | None) -> JSONObject:
    return {"thoughtSignature": signature} if signature else {}


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _usage(turn: Turn, asked: Asked) -> JSONObject:
    usage = usage_of(turn, asked)
    prompt, thoughts = usage.input + usage.cache_read + usage.cache_write, usage.reasoning or 0
    counts: JSONObject = {
        "promptTokenCount": prompt,
        "candidatesTokenCount": usage.output - thoughts,
        "totalTokenCount": prompt + usage.output,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": prompt}],
    }
    if thoughts:
        counts["thoughtsTokenCount"] = thoughts
    if usage.cache_read:
        counts["cachedContentTokenCount"] = usage.cache_read
    return counts
