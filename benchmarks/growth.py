"""What this package does at a given size, without a network: its CPU seconds, and in how many steps."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from pi_ai import Context, MessageBuilder, Model, Tool, UserMessage, get_api
from pi_ai.types import AssistantMessage, TextContent

MODEL = Model(id="m", api="openai-completions", provider="bench", base_url="http://127.0.0.1/v1")


def _text_deltas(size: int) -> tuple[float, int]:
    """Deltas through decoder and parser, and the joined text at the end."""
    adapter = get_api(MODEL.api)
    options = adapter.options_type()
    context = Context([UserMessage("Go.")])
    chunk = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"word "},"finish_reason":null}]}\n\n'
    builder = MessageBuilder(MODEL)
    decoder, parser = adapter.decoder(options), adapter.parser(MODEL, options, builder, context)
    began = time.process_time()
    for _ in range(size):
        for event in decoder.feed(chunk):
            payload = parser.decode(event)
            if payload is not None:
                parser.feed(payload)
    assert len(builder.message.text) == 5 * size
    return time.process_time() - began, size


def _tool_arguments(size: int) -> tuple[float, int]:
    """Arguments of ``size`` bytes in pieces of ten, their value read at every piece."""
    text = json.dumps({"path": "a.py", "content": "line of code\n" * (size // 14)})
    pieces = [text[at : at + 10] for at in range(0, len(text), 10)]
    builder = MessageBuilder(MODEL)
    block = builder.add_tool_call("1", "write")
    began = time.process_time()
    for piece in pieces:
        event = block.delta(piece)
        assert event.partial.tool_calls[0].arguments is not None
    block.end()
    return time.process_time() - began, len(pieces)


def _history(size: int) -> tuple[float, int]:
    """A request from a conversation of that many messages."""
    messages = []
    for number in range(size // 2):
        messages.append(UserMessage(f"Question {number}?", timestamp=number))
        answer = AssistantMessage([TextContent(f"Answer {number}.")], stop_reason="stop", timestamp=number)
        messages.append(answer)
    adapter = get_api(MODEL.api)
    context = Context(messages)
    began = time.process_time()
    adapter.build_request(MODEL, context, adapter.options_type(api_key="x"))
    return time.process_time() - began, size


def _tools(size: int) -> tuple[float, int]:
    """A request with that many tools."""
    schema = {
        "type": "object",
        "properties": {"path": {"type": "string", "description": "Where."}, "limit": {"type": "integer", "minimum": 1}},
        "required": ["path"],
    }
    tools = [Tool(f"tool_{number}", "Reads a file.", schema) for number in range(size)]
    adapter = get_api(MODEL.api)
    context = Context([UserMessage("Go.", timestamp=0)], tools=tools)
    began = time.process_time()
    adapter.build_request(MODEL, context, adapter.options_type(api_key="x"))
    return time.process_time() - began, size


STEPS: dict[str, Callable[[int], tuple[float, int]]] = {
    "text deltas of an answer": _text_deltas,
    "tool arguments read at every delta": _tool_arguments,
    "messages of history in a request": _history,
    "tools in a request": _tools,
}
