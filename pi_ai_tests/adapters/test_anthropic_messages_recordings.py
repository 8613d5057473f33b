"""Answers of the messages API as real servers sent them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pi_ai.adapters._anthropic_content import TYPE
from pi_ai.adapters.anthropic_messages import AnthropicMessages
from pi_ai.failures import http_failure
from pi_ai.types import Model, TextContent, ThinkingContent, ToolCall
from pi_ai_tests.adapters.reading import Read, read
from pi_ai_tests.adapters.recorded import (
    arguments,
    check_any_cuts,
    check_cut_off,
    check_httpx_sse,
    check_said,
    recorded,
)
from pi_ai_tests.data import recordings

API = "anthropic-messages"
ADAPTER = AnthropicMessages()
SERVER = Model(id="claude-test", api=API, provider="p", base_url="https://x.example")


def said(found: Read) -> dict[str, Any]:
    """What was read, in the words of a recording's ``expect``."""
    message = found.message
    server = server_content(found)
    cited = [citation["contentIndex"] for citation in server.get("citations", [])]
    return {
        "id": message.response_id,
        "model": message.response_model,
        "text": message.text,
        "thinking": message.thinking,
        "content": [shown(block, cited.count(index)) for index, block in enumerate(message.content)],
        "server": [shown_of_server(block) for block in server.get("blocks", [])],
        "finish_reason": message.raw_stop_reason,
        "usage": {
            "input_tokens": message.usage.input,
            "output_tokens": message.usage.output,
            "cache_read_input_tokens": message.usage.cache_read,
            "cache_creation_input_tokens": message.usage.cache_write,
        },
        "complete": found.error is None,
    }


def server_content(found: Read) -> dict[str, Any]:
    notes = [note.details for note in found.message.diagnostics or () if note.type == TYPE]
    assert len(notes) <= 1
    return notes[0] if notes else {}


def shown(block: TextContent | ThinkingContent | ToolCall, citations: int) -> dict[str, Any]:
    match block:
        case TextContent():
            return {"type": "text", "text": block.text, **({"citations": citations} if citations else {})}
        case ThinkingContent(redacted=True):
            return {"type": "redacted_thinking", "data": block.thinking_signature}
        case ThinkingContent():
            return {"type": "thinking", "thinking": block.thinking, "signature": block.thinking_signature}
        case ToolCall():
            return {"type": "tool_use", "id": block.id, "name": block.name, "arguments": arguments(block)}


def shown_of_server(block: dict[str, Any]) -> dict[str, Any]:
    names = {"type": "type", "id": "id", "name": "name", "input": "arguments", "tool_use_id": "tool_use_id"}
    if block["type"] == "compaction":
        names["content"] = "content"
    return {names[key]: value for key, value in block.items() if key in names}


def expected(meta: dict[str, Any]) -> dict[str, Any]:
    expect = meta["expect"]
    ours = ("text", "thinking", "redacted_thinking", "tool_use")
    counts = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    usages = [expect["usage"].get(place) or {} for place in ("message_delta", "message_start")]
    return {
        **{key: expect.get(key) for key in ("id", "model", "text", "finish_reason")},
        "thinking": expect.get("thinking", ""),
        "content": [block for block in expect["content"] if block["type"] in ours],
        "server": [block for block in expect["content"] if block["type"] not in ours],
        "usage": {
            count: next((usage[count] for usage in usages if usage.get(count) is not None), 0) for count in counts
        },
        "complete": expect["complete"],
    }


@recorded(API)
def test_a_recorded_answer_says_what_it_says(meta: dict[str, Any], body: bytes) -> None:
    """Also what ran on the server, every citation, every signature."""
    check_said(said(read(ADAPTER, SERVER, [body])), expected(meta), meta)


@recorded(API)
def test_a_recorded_answer_reads_the_same_however_its_bytes_are_cut(meta: dict[str, Any], body: bytes) -> None:
    check_any_cuts(ADAPTER, SERVER, meta, body, said)


@recorded(API)
def test_a_recorded_answer_that_is_cut_off_is_never_a_finished_one(meta: dict[str, Any], body: bytes) -> None:
    stop = body.rfind(b"event: message_delta")
    near_the_end = [stop, body.find(b"data", stop), body.find(b"\n\n", stop) + 1, body.rfind(b"message_stop")]
    check_cut_off(ADAPTER, SERVER, meta, body, said, finished=finished, near_the_end=near_the_end)


def finished(body: bytes) -> bool:
    """Whether the whole lines of a body hold a stop reason; by hand, not by our decoder."""
    for line in body.replace(b"\r\n", b"\n").split(b"\n")[:-1]:
        data = line.removeprefix(b"data:").strip()
        if line.startswith(b"data:") and data.startswith(b"{"):
            payload = json.loads(data)
            if payload["type"] == "message_delta" and payload["delta"].get("stop_reason"):
                return True
    return False


@recorded(API)
def test_the_parser_also_takes_the_events_of_httpx_sse(meta: dict[str, Any], body: bytes) -> None:
    check_httpx_sse(ADAPTER, SERVER, body)


ERRORS = {
    "anthropic--400--invalid-request-error--6bb1c7.json": ("bad_request", False),
    "anthropic--400--invalid-request-error--c644ba.json": ("bad_request", False),
    "anthropic--400--invalid-request-error--e154cd.json": ("context_overflow", False),
    "anthropic--401--authentication-error--8abc1d.json": ("auth", False),
    "anthropic--401--authentication-error--e6d17a.json": ("auth", False),
    "anthropic--404--not-found-error--c67064.json": ("not_found", False),
    "anthropic--429--rate-limit-error--82a10c.json": ("rate_limited", True),
    "anthropic--529--overloaded-error--0668a0.json": ("overloaded", True),
}


@pytest.mark.parametrize(
    ("meta", "body"), [pytest.param(*found, id=found[0]["file"]) for found in recordings(f"errors/{API}")]
)
def test_a_recorded_error_is_told_for_what_it_is(meta: dict[str, Any], body: bytes) -> None:
    error = http_failure(
        meta["http_status"], meta["response_headers"], body, provider="anthropic", api=API, model="claude-test"
    )
    assert (error.info.kind, error.info.retryable) == ERRORS[meta["file"]]
    assert meta["expect"]["message"] in error.text
    assert error.info.request_id == json.loads(body)["request_id"]
