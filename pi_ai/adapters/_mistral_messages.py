"""A conversation as Mistral's messages: answers and results are lists of parts (mistral-conversations.md, Messages)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import assert_never

from pi_ai.adapters._mistral_ids import history_ids
from pi_ai.adapters._openai_messages import part as openai_part
from pi_ai.adapters._request import NO_OUTPUT, SEE_IMAGE
from pi_ai.history import (
    collapse,
    current_tools,
    system_text,
    system_update_text,
    text_of,
    transcript,
    transform_messages,
)
from pi_ai.text import encode_json
from pi_ai.types import (
    AssistantContent,
    AssistantMessage,
    Context,
    ImageContent,
    JSONObject,
    Message,
    Model,
    SystemMessage,
    TextContent,
    ThinkingContent,
    Tool,
    ToolCall,
    ToolResultMessage,
    UserMessage,
)

FAILED = "[tool error] "
"""What begins the result of a call that failed: there is no field for it."""


def messages_and_tools(model: Model, context: Context, *, system_in_place: bool) -> tuple[list[JSONObject], list[Tool]]:
    """The messages of the body, and the tools on offer.

    :param system_in_place: system messages may stand anywhere; else there is one, at the beginning.
    """
    messages = transcript(context)
    if not system_in_place:
        messages = collapse(messages)
    return list(_converted(transform_messages(messages, model, history_ids()))), current_tools(messages)


def _converted(messages: Sequence[Message]) -> Iterator[JSONObject]:
    """The messages that say something."""
    for index, message in enumerate(messages):
        match message:
            case SystemMessage():
                text = system_update_text(message) if index else system_text(message)
                if text:
                    yield {"role": "system", "content": text}
            case UserMessage():
                content = message.content
                if isinstance(content, str) or content:
                    yield {"role": "user", "content": content if isinstance(content, str) else _parts(content)}
            case AssistantMessage():
                said = _said(message.content)
                if said or message.tool_calls:
                    yield _assistant(said, message.tool_calls)
            case ToolResultMessage():
                yield _result(message)
            case _:
                assert_never(message)


def _assistant(said: list[JSONObject], calls: Sequence[ToolCall]) -> JSONObject:
    message: JSONObject = {"role": "assistant", "prefix": False}
    if said:
        message["content"] = said
    if calls:
        message["tool_calls"] = [_call(call) for call in calls]
    return message


def _said(content: Iterable[AssistantContent]) -> list[JSONObject]:
    """Text and thoughts in their order; a thought needs no signature."""
    parts: list[JSONObject] = []
    for block in content:
        if isinstance(block, TextContent) and block.text.strip():
            parts.append(_part(block))
        elif isinstance(block, ThinkingContent) and block.thinking.strip():
            parts.append({"type": "thinking", "thinking": [{"type": "text", "text": block.thinking}]})
    return parts


def _call(call: ToolCall) -> JSONObject:
    function = {"name": call.name, "arguments": encode_json(call.arguments).decode()}
    return {"id": call.id, "type": "function", "function": function, "index": 0}


def _result(message: ToolResultMessage) -> JSONObject:
    """A result: its text, and then its images."""
    images = [block for block in message.content if isinstance(block, ImageContent)]
    text = text_of(message.content).strip() or (SEE_IMAGE if images else NO_OUTPUT)
    said = TextContent(FAILED + text if message.is_error else text)
    return {
        "role": "tool",
        "tool_call_id": message.tool_call_id,
        "name": message.tool_name,
        "content": _parts([said, *images]),
    }


def _parts(blocks: Iterable[TextContent | ImageContent]) -> list[JSONObject]:
    return [_part(block) for block in blocks]


def _part(block: TextContent | ImageContent) -> JSONObject:
    """A content part; where OpenAI has an object around an image's address, Mistral has the address."""
    part = openai_part(block)
    return part if isinstance(block, TextContent) else {**part, "image_url": part["image_url"]["url"]}
