"""Answers of Gemini and of Vertex AI as their servers sent them, as event streams and as JSON arrays."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Iterator
from typing import Any

import httpx
import httpx_sse
import pytest

from pi_ai.adapters import get_api
from pi_ai.builder import MessageBuilder
from pi_ai.errors import PiAIError
from pi_ai.types import Context, Model, TextContent, ThinkingContent, ToolCall
from pi_ai_tests.adapters.differences import RECORDINGS
from pi_ai_tests.adapters.golden import check, differing
from pi_ai_tests.adapters.reading import Read, pieces, read
from pi_ai_tests.data import NO_WIRE, recordings

APIS = ("google-generative-ai", "google-vertex")
RECORDED = [
    pytest.param(api, meta, body, id=meta["file"].rsplit(".", 1)[0]) for api in APIS for meta, body in recordings(api)
]
recorded = pytest.mark.parametrize(
    ("api", "meta", "body"), RECORDED or [pytest.param(None, None, None, marks=pytest.mark.skip(reason=NO_WIRE))]
)
streams = pytest.mark.parametrize(
    ("api", "meta", "body"),
    [case for case in RECORDED if not case.values[1]["expect"].get("json_array")]
    or [pytest.param(None, None, None, marks=pytest.mark.skip(reason=NO_WIRE))],
)
ENDINGS = ("STOP", "MAX_TOKENS")


def server(api: str) -> Model:
    return Model(id="gemini-test", api=api, provider="google", base_url="https://x.example/v1")


def heard(api: str, parts: list[bytes]) -> Read:
    return read(get_api(api), server(api), parts)


def said(found: Read) -> dict[str, Any]:
    """What was read, in the words of a recording's ``expect``."""
    message, usage = found.message, found.message.usage
    return {
        "id": message.response_id,
        "model": message.response_model,
        "text": message.text,
        "thinking": message.thinking,
        "tool_calls": [_call(call) for call in message.tool_calls],
        "signatures": sum(1 for block in message.content if signature(block)),
        "finish_reason": message.raw_stop_reason,
        "prompt_tokens": usage.input + usage.cache_read,
        "cached_tokens": usage.cache_read,
        "output_tokens": usage.output,
        "thought_tokens": usage.reasoning or 0,
        "total_tokens": usage.total_tokens,
        "complete": found.proven,
        "error": found.error and found.error.text,
    }


def signature(block: TextContent | ThinkingContent | ToolCall) -> str | None:
    match block:
        case TextContent():
            return block.text_signature
        case ThinkingContent():
            return block.thinking_signature
        case ToolCall():
            return block.thought_signature


def _call(call: ToolCall) -> dict[str, Any]:
    told = {"name": call.name, "arguments": call.arguments}
    return {**told, "thought_signature": call.thought_signature} if call.thought_signature else told


def expected(meta: dict[str, Any]) -> dict[str, Any]:
    expect = meta["expect"]
    usage = expect.get("usage") or {}
    finish = "STOP" if expect["finish_reason"] == 1 else expect["finish_reason"]
    prompt = usage.get("promptTokenCount", 0) + usage.get("toolUsePromptTokenCount", 0)
    output = usage.get("candidatesTokenCount", 0) + usage.get("thoughtsTokenCount", 0)
    calls = [
        {key: call[key] for key in ("name", "arguments", "thought_signature") if key in call}
        for call in expect["tool_calls"]
    ]
    return {
        **{key: expect.get(key) for key in ("id", "model", "text", "complete")},
        "thinking": expect.get("thinking", ""),
        "tool_calls": calls,
        "signatures": expect["thought_signatures"],
        "finish_reason": finish,
        "prompt_tokens": prompt,
        "cached_tokens": usage.get("cachedContentTokenCount", 0),
        "output_tokens": output,
        "thought_tokens": usage.get("thoughtsTokenCount", 0),
        "total_tokens": usage.get("totalTokenCount") or prompt + output,
        "error": _error(expect, finish),
    }


def _error(expect: dict[str, Any], finish: str) -> str | None:
    for error in expect.get("errors") or ():
        return f"{error['code']}: {error['message']}"
    return None if finish in ENDINGS else f"Provider stopped with: {finish}"


@recorded
def test_a_recorded_answer_says_what_it_says(api: str, meta: dict[str, Any], body: bytes) -> None:
    found = {place.removeprefix("."): how for place, how in differing("", said(heard(api, [body])), expected(meta))}
    check(found, RECORDINGS[api].get(meta["file"]), meta["file"])


@recorded
def test_a_recorded_answer_reads_the_same_however_its_bytes_are_cut(
    api: str, meta: dict[str, Any], body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F2, F3, F15."""
    monkeypatch.setattr("pi_ai.adapters._google_answer.secrets.choice", lambda characters: characters[0])
    whole = heard(api, [body])
    by_chance = random.Random(meta["sha256"])
    cuts: list[Any] = [sorted(by_chance.choices(range(len(body)), k=50))]
    if "network_chunk_ends" in meta:
        cuts.append(meta["network_chunk_ends"])
    if len(body) < 40_000:
        cuts.append(range(len(body)))  # one byte at a time
    for ends in cuts:
        cut = heard(api, pieces(body, ends))
        assert cut.events[:-1] == whole.events[:-1]
        assert said(cut) == said(whole)


@recorded
def test_a_recorded_answer_that_is_cut_off_is_never_a_finished_one(api: str, meta: dict[str, Any], body: bytes) -> None:
    """F18-F20, and the proof of completion (reliability section 2)."""
    whole = said(heard(api, [body]))
    by_chance = random.Random(meta["sha256"])
    finish = body.find(b'"finishReason"')
    near_the_end = [finish, finish + 20, body.find(b"\n", finish) + 1, len(body) - 1]
    for end in [*by_chance.choices(range(len(body)), k=12), *(cut for cut in near_the_end if cut > 0)]:
        cut = heard(api, [body[:end]])
        assert cut.proven == finished(body[:end])
        assert cut.proven or cut.error is not None
        assert whole["text"].startswith(cut.message.text)
        assert whole["thinking"].startswith(cut.message.thinking)
        if not cut.proven:
            ended = [event.tool_call for event in cut.events if event.type == "toolcall_end"]
            assert all(call.arguments_error or call in ended for call in cut.message.tool_calls)


def finished(body: bytes) -> bool:
    """Whether the whole chunks of a body hold a finish reason; by hand, not by our decoder."""
    return any(
        candidate.get("finishReason") or not candidate
        for chunk in _chunks(body.decode("utf-8", "replace"))
        for candidate in chunk.get("candidates", ())
    )


def _chunks(text: str) -> Iterator[dict[str, Any]]:
    if not text.startswith("["):
        lines = text.replace("\r\n", "\n").split("\n")[:-1]
        yield from (json.loads(line[5:]) for line in lines if line.startswith("data:"))
        return
    at = 1
    while True:
        try:
            chunk, at = json.JSONDecoder().raw_decode(text, at)
        except ValueError:
            return
        yield chunk
        at += len(text[at:]) - len(text[at:].lstrip(", \r\n"))


@streams
def test_the_parser_also_takes_the_events_of_httpx_sse(api: str, meta: dict[str, Any], body: bytes) -> None:
    """D8: custom providers may read with ``aconnect_sse`` and feed our parsers."""
    if meta["expect"].get("errors"):
        pytest.skip("its error stands outside of the events")
    response = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=body)
    adapter, builder = get_api(api), MessageBuilder(server(api))
    parser = adapter.parser(server(api), adapter.options_type(), builder, Context())
    ending = None
    try:
        for event in httpx_sse.EventSource(response).iter_sse():
            payload = parser.decode(event)
            if payload is not None:
                parser.feed(payload)
        parser.close()
    except PiAIError as error:
        ending = error
        builder.interrupt()
    whole = heard(api, [body])
    assert str(ending) == str(whole.error)
    assert builder.message.text == whole.message.text
    assert [call.arguments for call in builder.message.tool_calls] == [c.arguments for c in whole.message.tool_calls]


CALLS = {
    "b1415e": [("read_theme", {}), *(("read_screen", {"id": name}) for name in "ABC")],
    "4801a0": [("getWeather", {"location": "Boston"}), ("getWeather", {"location": "San Francisco"})],
    "c2a767": [("customDivide", {"denominator": 2, "numerator": 100})],
}


@pytest.mark.parametrize("file", [*CALLS, "404793"])
def test_arguments_that_come_in_pieces_are_put_together(file: str) -> None:
    """``partialArgs``: the deltas are the text of the arguments, as they grow."""
    found = [case.values for case in RECORDED if file in case.values[1]["file"]]
    if not found:
        pytest.skip(NO_WIRE)
    api, _, body = found[0]
    whole = heard(api, [body])
    calls = [(call.name, call.arguments) for call in whole.message.tool_calls]
    if file in CALLS:
        assert calls == CALLS[file]
    else:
        ((name, arguments),) = calls
        recipe = arguments["recipe"]
        assert (name, recipe["name"]) == ("cookRecipe", "Lasagna")
        assert [len(recipe[key]) for key in ("ingredients", "steps")] == [10, 10]
        assert recipe["ingredients"][9] == {"amount": "1/2 tsp", "name": "Pepper"}
        assert recipe["steps"][4] == "In a 9x13 baking dish, spread a thin layer of meat sauce."
    for index, block in enumerate(whole.message.content):
        deltas = [e.delta for e in whole.events if e.type == "toolcall_delta" and e.content_index == index]
        assert not deltas or json.loads("".join(deltas)) == block.arguments


@streams
def test_googles_own_sdk_reads_the_same(api: str, meta: dict[str, Any], body: bytes) -> None:
    """A differential test for developers: google-genai is no dependency, and does not read everything."""
    pytest.importorskip("google.genai", reason="google-genai is not installed; it is only compared with")
    if "streamed-tool-args" in meta["kinds"]:
        pytest.skip("google-genai does not put arguments together that come in pieces")
    with warnings.catch_warnings(action="ignore"):
        try:
            theirs = read_by_sdk(body)
        except Exception as error:
            pytest.skip(f"google-genai fails: {type(error).__name__}")
    ours = said(heard(api, [body]))
    ours["tool_calls"] = [{key: call[key] for key in ("name", "arguments")} for call in ours["tool_calls"]]
    assert {key: ours[key] for key in theirs} == theirs


def read_by_sdk(body: bytes) -> dict[str, Any]:
    """What google-genai makes of a body, in the words of :func:`said`."""
    from google import genai
    from google.genai import types

    response = {"headers": {"content-type": "text/event-stream"}, "content": body}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, **response))
    with httpx.Client(transport=transport) as http:
        client = genai.Client(api_key="k", http_options=types.HttpOptions(httpx_client=http))
        chunks = list(client.models.generate_content_stream(model="gemini-test", contents="x"))
    candidates = [chunk.candidates[0] for chunk in chunks if chunk.candidates]
    parts = [part for one in candidates if one.content for part in one.content.parts or ()]
    calls = [part.function_call for part in parts if part.function_call]
    return {
        "text": "".join(part.text for part in parts if part.text and not part.thought),
        "thinking": "".join(part.text for part in parts if part.text and part.thought),
        "tool_calls": [{"name": call.name, "arguments": call.args or {}} for call in calls],
        "finish_reason": [one.finish_reason.value for one in candidates if one.finish_reason][-1],
    }
