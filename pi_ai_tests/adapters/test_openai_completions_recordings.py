"""Answers of the chat completions API as real servers sent them."""

from __future__ import annotations

import json
from typing import Any

from pi_ai.adapters.openai_completions import OpenAICompletions
from pi_ai.types import Model
from pi_ai_tests.adapters.reading import Read, read
from pi_ai_tests.adapters.recorded import (
    arguments,
    check_any_cuts,
    check_cut_off,
    check_httpx_sse,
    check_said,
    recorded,
)

API = "openai-completions"
ADAPTER = OpenAICompletions()
HOSTS = {"vercel-gateway": "https://ai-gateway.vercel.sh/v1"}


def server(meta: dict[str, Any]) -> Model:
    base_url = HOSTS.get(meta["provider"], "https://x.example/v1")
    return Model(id="gpt-test", api=API, provider=meta["provider"], base_url=base_url)


def said(found: Read) -> dict[str, Any]:
    """What was read, in the words of a recording's ``expect``."""
    message = found.message
    usage = message.usage
    calls = [{"id": call.id, "name": call.name, "arguments": arguments(call)} for call in message.tool_calls]
    return {
        "id": message.response_id,
        "model": message.response_model,
        "text": message.text,
        "thinking": message.thinking,
        "tool_calls": calls,
        "finish_reason": message.raw_stop_reason,
        "prompt_tokens": usage.input + usage.cache_read + usage.cache_write,
        "completion_tokens": usage.output,
        "complete": found.error is None,
    }


def expected(meta: dict[str, Any]) -> dict[str, Any]:
    expect = meta["expect"]
    usage = expect.get("usage") or {}
    return {
        **{key: expect.get(key) for key in ("id", "model", "text", "finish_reason", "complete")},
        "thinking": expect.get("thinking", ""),
        "tool_calls": expect["tool_calls"],
        "prompt_tokens": usage.get("prompt_tokens") or 0,
        "completion_tokens": usage.get("completion_tokens") or 0,
    }


@recorded(API)
def test_a_recorded_answer_says_what_it_says(meta: dict[str, Any], body: bytes) -> None:
    check_said(said(read(ADAPTER, server(meta), [body])), expected(meta), meta)


@recorded(API)
def test_a_recorded_answer_reads_the_same_however_its_bytes_are_cut(meta: dict[str, Any], body: bytes) -> None:
    check_any_cuts(ADAPTER, server(meta), meta, body, said)


@recorded(API)
def test_a_recorded_answer_that_is_cut_off_is_never_a_finished_one(meta: dict[str, Any], body: bytes) -> None:
    finish = body.find(b'"finish_reason":"')
    near_the_end = [finish, finish + 20, body.find(b"\n", finish) + 1, body.rfind(b"[DONE]"), len(body) - 1]
    unproven = check_cut_off(ADAPTER, server(meta), meta, body, said, finished=finished, near_the_end=near_the_end)
    assert not any("toolcall_end" in cut.types for cut in unproven)


def finished(body: bytes) -> bool:
    """Whether the whole lines of a body hold a finish reason of choice 0; by hand, not by our decoder."""
    for line in body.replace(b"\r\n", b"\n").split(b"\n")[:-1]:
        data = line.removeprefix(b"data:").strip()
        if line.startswith(b"data:") and data.startswith(b"{"):
            payload = json.loads(data)
            if payload.get("error"):
                return False
            for choice in payload.get("choices") or ():
                if not choice.get("index") and choice.get("finish_reason"):
                    return True
    return False


@recorded(API)
def test_the_parser_also_takes_the_events_of_httpx_sse(meta: dict[str, Any], body: bytes) -> None:
    # GPUStack's lines of `error: …` are no field of the standard.
    check_httpx_sse(ADAPTER, server(meta), body.replace(b"\nerror: ", b"\n: "))
