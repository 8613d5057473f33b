"""A conversation as the messages API takes it (anthropic-messages.md sections 3.1, 3.2, 3.7 and 3.8)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import assert_never

import attrs

from pi_ai.adapters._anthropic_compat import Compat
from pi_ai.adapters._claude import IDS
from pi_ai.adapters._request import NO_OUTPUT, SEE_IMAGE
from pi_ai.history import (
    collapse,
    current_tools,
    detach_error_images,
    system_text,
    system_update_text,
    text_of,
    transcript,
    transform_messages,
)
from pi_ai.text import sanitize_surrogates
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
    UserContent,
    UserMessage,
)


@attrs.frozen
class Conversation:
    """What a request is made of.

    :ivar tools: what its ``tools`` must offer.
    :ivar tools_in_place: later changes of them stand in system messages.
    """

    system: str
    messages: list[JSONObject]
    tools: list[Tool]
    tools_in_place: bool


def conversation(
    model: Model, compat: Compat, context: Context, tool: Callable[[Tool], JSONObject], *, with_efforts: bool
) -> Conversation:
    """A conversation, in the API's shapes.

    :param tool: a tool in the API's shape.
    :param with_efforts: tell before each answer of this model how hard it thought.
    """
    messages = transcript(context)
    if not compat.supports_mid_convo_system_messages:
        messages = collapse(messages)
    first = messages[0] if messages and isinstance(messages[0], SystemMessage) else None
    rest = messages if first is None else messages[1:]
    in_place = (
        compat.supports_mid_convo_system_messages
        and compat.supports_mid_convo_tool_changes
        and bool(first and first.tools_added)
    )
    conversion = _Conversion(model, compat, tool if in_place else None, with_efforts=with_efforts)
    return Conversation(
        system=_spoken(system_text(first)) if first else "",
        messages=conversion.convert(transform_messages(rest, model, IDS)),
        tools=current_tools(messages[:1] if in_place else messages),
        tools_in_place=in_place,
    )


def effort_mark(effort: str) -> JSONObject:
    """A message that says how hard to think from here on."""
    return {"role": "system", "content": [], "output_config": {"effort": effort}}


def mark_for_cache(messages: Sequence[JSONObject], mark: JSONObject) -> None:
    """Mark where the cached prefix may end: behind the last message, unless that is an answer (section 3.6)."""
    last = messages[-1] if messages else None
    if last is None or last["role"] == "assistant" or not last["content"]:
        return
    blocks: list[JSONObject] = last["content"]
    if isinstance(blocks, str):
        blocks = last["content"] = [{"type": "text", "text": blocks}]
    blocks[-1]["cache_control"] = mark


def lacks_thought(messages: Sequence[JSONObject]) -> bool:
    """Whether a turn of calls and results goes on that no thought began: it cannot go on within a budget of thought.

    So it is where another model made the calls, or this one while it was not thinking.
    """
    turn: list[JSONObject] = []
    for message in reversed(messages):
        if message["role"] == "user" and not _has_results(message):
            break
        turn.append(message)
    said = [message for message in turn if message["role"] != "system"]
    kinds = {block["type"] for message in said if message["role"] == "assistant" for block in message["content"]}
    return bool(said) and _has_results(said[0]) and not kinds & {"thinking", "redacted_thinking"}


def _has_results(message: JSONObject) -> bool:
    content = message["content"]
    return message["role"] == "user" and not isinstance(content, str) and content[0]["type"] == "tool_result"


class _Conversion:
    """One conversation on its way to the wire.

    :param tool: a tool in the API's shape, where tools change in place.
    """

    def __init__(
        self, model: Model, compat: Compat, tool: Callable[[Tool], JSONObject] | None, *, with_efforts: bool
    ) -> None:
        self._own = (model.provider, model.api, model.id)
        self._compat = compat
        self._tool = tool
        self._with_efforts = with_efforts
        self._out: list[JSONObject] = []
        self._updates: list[JSONObject] = []
        self._results: list[JSONObject] = []
        self._images: list[JSONObject] = []

    def convert(self, messages: Sequence[Message]) -> list[JSONObject]:
        for message in messages:
            if not isinstance(message, ToolResultMessage):
                self._close_results()
            match message:
                case SystemMessage():
                    self._update(message)
                case UserMessage():
                    self._user(message)
                case AssistantMessage():
                    self._assistant(message)
                case ToolResultMessage():
                    self._result(message)
                case _:
                    assert_never(message)
        self._close_results()
        self._place_updates()
        return self._out

    def _update(self, message: SystemMessage) -> None:
        """A later system message, held back: it may not stand between calls and their results (AN15)."""
        content: list[JSONObject] = []
        if text := _spoken(system_update_text(message)):
            content.append({"type": "text", "text": text})
        if self._tool is not None:
            added = message.tools_added or []
            names = {tool.name for tool in added}
            for gone in message.tools_removed or ():
                if gone.name not in names:
                    reference = {"type": "tool_reference", "name": gone.name}
                    content.append({"type": "tool_removal", "tool": reference})
            for tool in added:
                definition = {"type": "tool_definition", "definition": self._tool(tool)}
                content.append({"type": "tool_addition", "tool": definition})
        if content:
            self._updates.append({"role": "system", "content": content})

    def _place_updates(self) -> None:
        self._out += self._updates
        self._updates = []

    def _user(self, message: UserMessage) -> None:
        content = _spoken(message.content) if isinstance(message.content, str) else _blocks(message.content)
        if content:
            self._out.append({"role": "user", "content": content})

    def _assistant(self, message: AssistantMessage) -> None:
        blocks = [block for part in message.content if (block := self._block(part)) is not None]
        if not blocks:
            return
        self._place_updates()
        effort = message.provider_thinking_level
        if self._with_efforts and effort and (message.provider, message.api, message.model) == self._own:
            self._out.append(effort_mark(effort))
        self._out.append({"role": "assistant", "content": blocks})

    def _block(self, part: TextContent | ThinkingContent | ToolCall) -> JSONObject | None:
        """A block of an answer, None for one that says nothing (AN11)."""
        match part:
            case TextContent():
                text = _spoken(part.text)
                return {"type": "text", "text": text} if text else None
            case ThinkingContent():
                return self._thought(part)
            case ToolCall():
                return {"type": "tool_use", "id": part.id, "name": part.name, "input": part.arguments}
            case _:
                assert_never(part)

    def _thought(self, part: ThinkingContent) -> JSONObject | None:
        signature = part.thinking_signature
        if part.redacted:
            return {"type": "redacted_thinking", "data": signature} if signature else None
        if signature and signature.strip():
            return {"type": "thinking", "thinking": part.thinking, "signature": signature}
        text = _spoken(part.thinking)
        if text and self._compat.allow_empty_signature:
            return {"type": "thinking", "thinking": text, "signature": ""}
        # Without tags around it: the API refuses unsigned thoughts, and models imitate tags.
        return {"type": "text", "text": text} if text else None

    def _result(self, message: ToolResultMessage) -> None:
        """All results of a turn are one message (AN12); images of errors follow them, which take text only (AN14)."""
        content, detached = detach_error_images(message)
        self._results.append(
            {
                "type": "tool_result",
                "tool_use_id": message.tool_call_id,
                "content": _result_content(content, is_error=message.is_error),
                "is_error": message.is_error,
            }
        )
        self._images += _blocks(detached)

    def _close_results(self) -> None:
        if self._results:
            self._out.append({"role": "user", "content": [*self._results, *self._images]})
            self._results, self._images = [], []


def _spoken(text: str) -> str:
    """The text as it can be sent, nothing where that is blank: the API refuses blank texts."""
    clean = sanitize_surrogates(text)
    return clean if clean.strip() else ""


def _blocks(content: Sequence[UserContent]) -> list[JSONObject]:
    return [_block(part) for part in content if isinstance(part, ImageContent) or _spoken(part.text)]


def _block(part: UserContent) -> JSONObject:
    if isinstance(part, TextContent):
        return {"type": "text", "text": _spoken(part.text)}
    return {"type": "image", "source": {"type": "base64", "media_type": part.mime_type, "data": part.data}}


def _result_content(content: Sequence[UserContent], *, is_error: bool) -> str | list[JSONObject]:
    """The content of a result (AN13)."""
    if not any(isinstance(part, ImageContent) for part in content):
        text = text_of(content)
        return NO_OUTPUT if is_error and not _spoken(text) else text
    blocks = _blocks(content)
    if all(block["type"] == "image" for block in blocks):
        blocks.insert(0, {"type": "text", "text": SEE_IMAGE})
    return blocks
