"""Answers of the chat completions API as real servers sent them."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import httpx
import httpx_sse
import pytest

from pi_ai.adapters.openai_completions import OpenAICompletions, OpenAICompletionsOptions
from pi_ai.builder import MessageBuilder
from pi_ai.errors import PiAIError
from pi_ai.types import Context, Model
from pi_ai_tests.adapters.differences import RECORDINGS
from pi_ai_tests.adapters.golden import check, differing
from pi_ai_tests.adapters.reading import Read, pieces, read
from pi_ai_tests.data import NO_WIRE, recordings

API = "openai-completions"
ADAPTER = OpenAICompletions()
RECORDED = [pytest.param(meta, body, id=meta["file"].rsplit(".", 1)[0]) for meta, body in recordings(API)]
recorded = pytest.mark.parametrize(
    ("meta", "body"), RECORDED or [pytest.param(None, None, marks=pytest.mark.skip(reason=NO_WIRE))]
)
HOSTS = {"vercel-gateway": "https://ai-gateway.vercel.sh/v1"}


def server(meta: dict[str, Any]) -> Model:
    base_url = HOSTS.get(meta["provider"], "https://x.example/v1")
    return Model(id="gpt-test", api=API, provider=meta["provider"], base_url=base_url)


def said(found: Read) -> dict[str, Any]:
    """What was read, in the words of a recording's ``expect``."""
    message = found.message
    usage = message.usage
    calls = []
    for block in message.tool_calls:
        raw = re.search(r"\n\nReceived arguments:\n(.*)", block.arguments_error or "", re.DOTALL)
        calls.append({"id": block.id, "name": block.name, "arguments": raw[1] if raw else block.arguments})
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


@recorded
def test_a_recorded_answer_says_what_it_says(meta: dict[str, Any], body: bytes) -> None:
    found = {
        place.removeprefix("."): how
        for place, how in differing("", said(read(ADAPTER, server(meta), [body])), expected(meta))
    }
    check(found, RECORDINGS[API].get(meta["file"]), meta["file"])


@recorded
def test_a_recorded_answer_reads_the_same_however_its_bytes_are_cut(meta: dict[str, Any], body: bytes) -> None:
    whole = read(ADAPTER, server(meta), [body])
    by_chance = random.Random(meta["sha256"])
    cuts = [sorted(by_chance.choices(range(len(body)), k=50))]
    if "network_chunk_ends" in meta:
        cuts.append(meta["network_chunk_ends"])
    if len(body) < 40_000:
        cuts.append(range(len(body)))  # one byte at a time
    for ends in cuts:
        cut = read(ADAPTER, server(meta), pieces(body, ends))
        assert cut.events[:-1] == whole.events[:-1]
        assert said(cut) == said(whole)
        assert str(cut.error) == str(whole.error)


@recorded
def test_a_recorded_answer_that_is_cut_off_is_never_a_finished_one(meta: dict[str, Any], body: bytes) -> None:
    whole = said(read(ADAPTER, server(meta), [body]))
    by_chance = random.Random(meta["sha256"])
    finish = body.find(b'"finish_reason":"')
    near_the_end = [finish, finish + 20, body.find(b"\n", finish) + 1, body.rfind(b"[DONE]"), len(body) - 1]
    for end in [*by_chance.choices(range(len(body)), k=12), *(cut for cut in near_the_end if cut > 0)]:
        cut = read(ADAPTER, server(meta), [body[:end]])
        assert cut.proven == finished(body[:end])
        assert cut.proven or cut.error is not None
        assert whole["text"].startswith(cut.message.text)
        assert whole["thinking"].startswith(cut.message.thinking)
        if not cut.proven:
            assert "toolcall_end" not in cut.types
            assert all(block.arguments_error and not block.arguments for block in cut.message.tool_calls)


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


@recorded
def test_the_parser_also_takes_the_events_of_httpx_sse(meta: dict[str, Any], body: bytes) -> None:
    """D8: custom providers may read with ``aconnect_sse`` and feed our parsers."""
    response = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=body)
    builder = MessageBuilder(server(meta))
    parser = ADAPTER.parser(server(meta), OpenAICompletionsOptions(), builder, Context())
    ending = None
    try:
        for event in httpx_sse.EventSource(response).iter_sse():
            payload = parser.decode(event)
            if payload is not None:
                parser.feed(payload)
            if parser.ended:
                break
        parser.close()
    except PiAIError as error:
        ending = error
        builder.interrupt()
    whole = read(ADAPTER, server(meta), [body])
    assert str(ending) == str(whole.error)
    assert builder.message.text == whole.message.text
    assert builder.message.tool_calls == whole.message.tool_calls
