"""A conversation as chat completions messages (openai-completions.md section 6)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, assert_never

from pi_ai.adapters._openai import only_adds_tools
from pi_ai.adapters._openai_compat import Compat
from pi_ai.adapters._openai_details import replayed_details
from pi_ai.adapters._request import NO_OUTPUT, SEE_IMAGE
from pi_ai.history import (
    IdRule,
    collapse,
    current_tools,
    system_text,
    system_update_text,
    text_of,
    transcript,
    transform_messages,
)
from pi_ai.text import encode_json, short_hash
from pi_ai.types import (
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

REASONING_FIELDS = ("reasoning_content", "reasoning", "reasoning_text")
"""Where servers put the text of a thought; which one it was is kept as the thought's signature."""

BRIDGE = "I have processed the tool results."
IMAGES_FOLLOW = "Attached image(s) from tool result:"

MAX_ID = 40
"""Longest tool-call id that is made from one of another API."""


def messages_and_tools(
    model: Model, compat: Compat, context: Context, inputs: Mapping[str, str]
) -> tuple[list[JSONObject], list[Tool]]:
    """The messages of the body, and the tools that its ``tools`` must offer.

    :param inputs: tools that are called with plain text: their names, and the property that holds it.
    """
    messages = transcript(context)
    if not compat.supports_mid_convo_system_messages:
        messages = collapse(messages)
    tools = current_tools(messages)
    in_place = compat.supports_mid_convo_tool_additions and only_adds_tools(messages)
    if in_place:
        tools = current_tools(messages[:1])
    messages = transform_messages(messages, model, _ids(compat))
    return _Conversion(model, compat, inputs, tools_in_place=in_place).convert(messages), tools


def has_tool_history(messages: Sequence[JSONObject]) -> bool:
    """Whether converted messages hold a call or a result."""
    return any(message["role"] == "tool" or "tool_calls" in message for message in messages)


def _ids(compat: Compat) -> IdRule:
    """Ids of other models' calls: those of the Responses API have two parts and are long (section 6.8)."""

    def normalize(call_id: str, _: AssistantMessage) -> str:
        if "|" not in call_id:
            return call_id[: compat.tool_call_id_length]
        call, item = (re.sub(r"[^A-Za-z0-9_-]", "_", part) for part in call_id.split("|", 1))
        joined = f"{call}_{item}"
        if len(joined) <= MAX_ID:
            return joined
        digest = short_hash(call_id)[:8]
        return f"{call[: MAX_ID - 1 - len(digest)]}_{digest}"

    return IdRule(normalize, max_length=MAX_ID)


class _Conversion:
    """One conversation on its way to the wire."""

    def __init__(self, model: Model, compat: Compat, inputs: Mapping[str, str], *, tools_in_place: bool) -> None:
        self._model = model
        self._compat = compat
        self._inputs = inputs
        self._tools_in_place = tools_in_place
        self._system_role = "developer" if model.reasoning and compat.supports_developer_role else "system"
        self._out: list[JSONObject] = []
        self._images: list[ImageContent] = []

    def convert(self, messages: Sequence[Message]) -> list[JSONObject]:
        for index, message in enumerate(messages):
            if not isinstance(message, ToolResultMessage):
                self._attach_images()
            match message:
                case SystemMessage():
                    self._system(message, leading=index == 0)
                case UserMessage():
                    self._user(message)
                case AssistantMessage():
                    self._assistant(message)
                case ToolResultMessage():
                    self._result(message)
                case _:
                    assert_never(message)
        self._attach_images()
        return self._out

    def _system(self, message: SystemMessage, *, leading: bool) -> None:
        text = system_text(message) if leading else system_update_text(message)
        if text:
            self._out.append({"role": self._system_role, "content": text})
        if self._tools_in_place and not leading and message.tools_added:
            tools = [function_tool(tool) for tool in message.tools_added]
            self._out.append({"role": "system", "tools": tools})

    def _user(self, message: UserMessage) -> None:
        if isinstance(message.content, str):
            self._say(message.content)
            return
        parts = [part(block) for block in message.content if not (isinstance(block, TextContent) and not block.text)]
        if parts:
            self._say(parts)

    def _say(self, content: str | list[JSONObject]) -> None:
        if self._compat.requires_assistant_after_tool_result and self._out and self._out[-1]["role"] == "tool":
            self._out.append({"role": "assistant", "content": BRIDGE})
        self._out.append({"role": "user", "content": content})

    def _result(self, message: ToolResultMessage) -> None:
        images = [block for block in message.content if isinstance(block, ImageContent)]
        text = text_of(message.content)
        if not text.strip():
            text = SEE_IMAGE if images else NO_OUTPUT
        result = {"role": "tool", "content": text, "tool_call_id": message.tool_call_id}
        if self._compat.requires_tool_result_name:
            result["name"] = message.tool_name
        self._out.append(result)
        self._images += images

    def _attach_images(self) -> None:
        """Results hold text only, so their images follow the whole run of them in a message of the user."""
        if self._images:
            self._say([part(TextContent(IMAGES_FOLLOW)), *map(part, self._images)])
            self._images = []

    def _assistant(self, message: AssistantMessage) -> None:
        compat = self._compat
        # One string, never a list of parts: some models imitate the structure of their own earlier answers.
        text = "".join([b.text for b in message.content if isinstance(b, TextContent) and b.text.strip()])
        thoughts = [b for b in message.content if isinstance(b, ThinkingContent)]
        thought = [b.thinking for b in thoughts if b.thinking.strip()]
        calls = message.tool_calls
        if thought and compat.requires_thinking_as_text:
            text = "\n\n".join([*thought, text] if text else thought)
        empty = compat.requires_assistant_after_tool_result or compat.requires_non_null_assistant_content
        out: JSONObject = {"role": "assistant", "content": text or ("" if empty else None)}
        if details := replayed_details(thoughts, calls):
            out["reasoning_details"] = details
        elif thought and not compat.requires_thinking_as_text:
            field = next(b.thinking_signature for b in thoughts if b.thinking.strip())
            if field in REASONING_FIELDS:
                out[compat.replay_reasoning_field or field] = "\n".join(thought)
        if calls:
            out["tool_calls"] = [self._call(call) for call in calls]
        if compat.requires_reasoning_content_on_assistant_messages and self._model.reasoning:
            out.setdefault("reasoning_content", "")
        if text or calls:
            self._out.append(out)

    def _call(self, call: ToolCall) -> JSONObject:
        text = call.arguments.get(self._inputs[call.name]) if call.name in self._inputs else None
        if isinstance(text, str):
            return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": text}}
        arguments = encode_json(call.arguments).decode()
        return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def part(block: TextContent | ImageContent) -> JSONObject:
    """A content part."""
    if isinstance(block, TextContent):
        return {"type": "text", "text": block.text}
    return {"type": "image_url", "image_url": {"url": f"data:{block.mime_type};base64,{block.data}"}}


def function_tool(tool: Tool, **more: Any) -> JSONObject:
    """A tool that is called with JSON."""
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters, **more}
    return {"type": "function", "function": function}
