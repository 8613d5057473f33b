"""Answers of Converse as AWS sent them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

from pi_ai.adapters.bedrock_converse_stream import BedrockConverseStream
from pi_ai.types import Model, TextContent, ThinkingContent, ToolCall
from pi_ai_tests.adapters.reading import Read, read
from pi_ai_tests.adapters.recorded import arguments, check_any_cuts, check_cut_off, check_said, recorded

API = "bedrock-converse-stream"
ADAPTER = BedrockConverseStream()
COUNTS = ("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheWriteInputTokens", "totalTokens")


def server(meta: dict[str, Any]) -> Model:
    return Model(id=meta["model"], api=API, provider=meta["provider"])


def said(found: Read) -> dict[str, Any]:
    """What was read, in the words of a recording's ``expect``."""
    message = found.message
    usage = message.usage
    counts = (usage.input, usage.output, usage.cache_read, usage.cache_write, usage.total_tokens)
    return {
        "text": message.text,
        "thinking": message.thinking,
        "content": [shown(block) for block in message.content],
        "tool_calls": [{"id": c.id, "name": c.name, "arguments": arguments(c)} for c in message.tool_calls],
        "finish_reason": message.raw_stop_reason,
        "usage": dict(zip(COUNTS, counts, strict=True)),
        "complete": found.error is None,
    }


def shown(block: TextContent | ThinkingContent | ToolCall) -> dict[str, Any]:
    match block:
        case TextContent(text=text):
            return {"type": "text", "text": text}
        case ThinkingContent(redacted=True):
            assert base64.b64decode(block.thinking_signature or "", validate=True)
            return {"type": "thinking", "text": "", "signature": "", "redacted": 1}
        case ThinkingContent(thinking=text, thinking_signature=signature):
            return {"type": "thinking", "text": text, "signature": signature or ""}
        case ToolCall(name=name):
            return {"type": "tool_call", "name": name}


def expected(meta: dict[str, Any]) -> dict[str, Any]:
    """What is the client's business: not the calls that the service made itself, nor the citations."""
    expect = meta["expect"]
    ours = [block for block in expect["content"] if block["type"] in ("text", "thinking", "tool_call")]
    content = [{key: value for key, value in block.items() if key != "citations"} for block in ours]
    usage = expect.get("usage") or {}
    return {
        "text": expect["text"],
        "thinking": expect.get("thinking", ""),
        "content": [block for block in content if block != {"type": "text", "text": ""}],
        "tool_calls": expect["tool_calls"],
        "finish_reason": expect["finish_reason"],
        "usage": {name: usage.get(name, 0) for name in COUNTS},
        "complete": expect["complete"],
    }


@recorded(API)
def test_a_recorded_answer_says_what_it_says(meta: dict[str, Any], body: bytes) -> None:
    check_said(said(read(ADAPTER, server(meta), [body])), expected(meta), meta)


@recorded(API)
def test_a_recorded_answer_reads_the_same_however_its_bytes_are_cut(meta: dict[str, Any], body: bytes) -> None:
    check_any_cuts(ADAPTER, server(meta), meta, body, said)


@recorded(API)
def test_a_recorded_answer_that_is_cut_off_is_never_a_finished_one(meta: dict[str, Any], body: bytes) -> None:
    stop = body.rfind(b"messageStop")
    ends = [end for end, name, _ in frames(body) if name in ("messageStop", "metadata")]
    check_cut_off(
        ADAPTER, server(meta), meta, body, said, finished=finished, near_the_end=[stop, *ends, *(e - 1 for e in ends)]
    )


def finished(body: bytes) -> bool:
    """Whether the whole frames of a body hold a stop reason."""
    return any(name == "messageStop" and json.loads(payload)["stopReason"] for _, name, payload in frames(body))


def frames(body: bytes) -> Iterator[tuple[int, str, bytes]]:
    """The whole frames of a body: where they end, their event's name, their payload; by hand, not by our decoder."""
    at = 0
    while len(body) - at >= 16:
        size, headers = (int.from_bytes(body[at + place : at + place + 4]) for place in (0, 4))
        if at + size > len(body):
            return
        head = body[at + 12 : at + 12 + headers]
        name = head.partition(b":event-type\x07")[2]
        yield at + size, name[2 : 2 + int.from_bytes(name[:2])].decode(), body[at + 12 + headers : at + size - 4]
        at += size
