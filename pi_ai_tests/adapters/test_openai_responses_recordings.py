"""Answers of the Responses API as real servers sent them, and as OpenAI's own SDK reads them."""

from __future__ import annotations

import json
import warnings
from typing import Any

import httpx
import pytest

from pi_ai.adapters.azure_openai_responses import AzureOpenAIResponses
from pi_ai.adapters.openai_responses import OpenAIResponses
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

API = "openai-responses"
ADAPTER = OpenAIResponses()
ENDINGS = ("response.completed", "response.incomplete")


def server(meta: dict[str, Any]) -> Model:
    return Model(id="gpt-test", api=API, provider=meta["provider"], base_url="https://x.example/v1")


def said(found: Read) -> dict[str, Any]:
    """What was read, in the words of a recording's ``expect``."""
    message, usage = found.message, found.message.usage
    return {
        "id": message.response_id,
        "model": message.response_model,
        "text": message.text,
        "thinking": message.thinking,
        "tool_calls": [{"id": call.id, "name": call.name, "arguments": arguments(call)} for call in message.tool_calls],
        "finish_reason": message.raw_stop_reason,
        "input_tokens": usage.input + usage.cache_read + usage.cache_write,
        "output_tokens": usage.output,
        "total_tokens": usage.total_tokens,
        "refused": "refusal" in [note.type for note in message.diagnostics or ()],
        "complete": found.error is None,
    }


def expected(meta: dict[str, Any]) -> dict[str, Any]:
    expect = meta["expect"]
    usage = expect.get("usage") or {}
    reason = (expect.get("incomplete_details") or {}).get("reason")
    return {
        **{key: expect.get(key) for key in ("id", "model", "complete")},
        **{key: usage.get(key) or 0 for key in ("input_tokens", "output_tokens", "total_tokens")},
        "text": expect["text"] or expect.get("refusal", ""),
        "thinking": expect.get("thinking", ""),
        "tool_calls": [
            {
                "id": f"{call['call_id']}|{call['id']}",
                "name": call["name"],
                "arguments": {"input": call["input"]} if call.get("custom") else call["arguments"],
            }
            for call in expect["tool_calls"]
        ],
        "finish_reason": f"{expect['finish_reason']}.{reason}" if reason else expect["finish_reason"],
        "refused": bool(expect.get("refusal")),
    }


@recorded(API)
def test_a_recorded_answer_says_what_it_says(meta: dict[str, Any], body: bytes) -> None:
    found = read(ADAPTER, server(meta), [body])
    check_said(said(found), expected(meta), meta)
    assert [note.type for note in found.message.diagnostics or ()] in ([], ["empty"], ["refusal"])


@recorded(API)
def test_a_recorded_answer_reads_the_same_however_its_bytes_are_cut(meta: dict[str, Any], body: bytes) -> None:
    check_any_cuts(ADAPTER, server(meta), meta, body, said)


@recorded(API)
def test_a_recorded_answer_that_is_cut_off_is_never_a_finished_one(meta: dict[str, Any], body: bytes) -> None:
    end = max(body.rfind(ending.encode()) for ending in ENDINGS)
    near_the_end = [end - 20, end + 5, end + 60, body.rfind(b"\n", 0, -2), len(body) - 1]
    check_cut_off(ADAPTER, server(meta), meta, body, said, finished=finished, near_the_end=near_the_end)


def finished(body: bytes) -> bool:
    """Whether the whole lines of a body hold the end of a response; by hand, not by our decoder."""
    for line in body.replace(b"\r\n", b"\n").split(b"\n")[:-1]:
        data = line.removeprefix(b"data:").strip()
        if line.startswith(b"data:") and data.startswith(b"{"):
            kind = json.loads(data).get("type")
            if kind in ("error", "response.failed"):
                return False
            if kind in ENDINGS:
                return True
    return False


@recorded(API)
def test_the_parser_also_takes_the_events_of_httpx_sse(meta: dict[str, Any], body: bytes) -> None:
    check_httpx_sse(ADAPTER, server(meta), body)


@recorded(API)
def test_azures_adapter_reads_the_same(meta: dict[str, Any], body: bytes) -> None:
    assert said(read(AzureOpenAIResponses(), server(meta), [body])) == said(read(ADAPTER, server(meta), [body]))


@recorded(API)
def test_thoughts_can_be_sent_back_as_they_came(meta: dict[str, Any], body: bytes) -> None:
    """Section 3.3: each signature is the JSON of the item that the server ended, with what it encrypted."""
    found = read(ADAPTER, server(meta), [body])
    lines = [line[5:] for line in body.decode().splitlines() if line.startswith("data: {")]
    events = [json.loads(line) for line in lines]
    ended = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    last = [event["response"].get("output") or [] for event in events if event["type"] in ENDINGS]
    encrypted = {item["id"]: item.get("encrypted_content") for output in last for item in output if "id" in item}
    wanted = [item for item in ended if item["type"] == "reasoning"]
    for item in wanted:
        if not item.get("encrypted_content") and encrypted.get(item["id"]):
            item["encrypted_content"] = encrypted[item["id"]]
    thoughts = [block for block in found.message.content if isinstance(block, ThinkingContent)]
    assert [json.loads(block.thinking_signature or "null") for block in thoughts][: len(wanted)] == wanted


@recorded(API)
def test_the_official_sdk_reads_the_same(meta: dict[str, Any], body: bytes) -> None:
    """Development only: skipped where OpenAI's package is not installed, or fails on the recording itself."""
    ours = read(ADAPTER, server(meta), [body]).message.content
    theirs = [content for item in read_by_sdk(body) if (content := content_of(item)) is not None]
    assert [
        (block.id, block.name, arguments(block))
        if isinstance(block, ToolCall)
        else (block.text if isinstance(block, TextContent) else block.thinking)
        for block in ours
    ] == theirs


def content_of(item: Any) -> Any:
    """What an item of the SDK says, None for those that are no content of ours."""
    match item.type:
        case "reasoning":
            return "\n\n".join([part.text for part in item.summary or item.content or ()])
        case "message":
            return "".join([part.refusal if part.type == "refusal" else part.text for part in item.content])
        case "function_call":
            return f"{item.call_id}|{item.id}", item.name, parsed(item.arguments or "{}")
        case "custom_tool_call":
            return f"{item.call_id}|{item.id}", item.name, {"input": item.input}
        case _:
            return None


def parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def read_by_sdk(body: bytes) -> list[Any]:
    """The items that the SDK has accumulated."""
    openai = pytest.importorskip("openai", reason="OpenAI's own SDK is not installed")
    state_of = pytest.importorskip("openai.lib.streaming.responses._responses").ResponseStreamState
    headers = {"content-type": "text/event-stream"}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, headers=headers, content=body))
    with (
        httpx.Client(transport=transport) as http_client,
        openai.OpenAI(api_key="k", http_client=http_client) as client,
    ):
        state = state_of(input_tools=openai.omit, text_format=openai.omit)
        try:
            with warnings.catch_warnings(action="ignore"):
                for event in client.responses.create(model="x", input="x", stream=True):
                    state.handle_event(event)
        except Exception as error:
            pytest.skip(f"the SDK fails on it: {type(error).__name__}: {str(error)[:80]}")
        items = {**state._output_items, **state._completed_output}
        for index, item in state._output_items.items():
            whole = state._completed_output.get(index)
            if whole is not None and item.type == "function_call":
                assert whole.arguments.startswith(item.arguments)
    return [items[index] for index in sorted(items)]
