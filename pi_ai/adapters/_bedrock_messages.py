"""A conversation as Converse takes it (bedrock-converse-stream.md section 4.1)."""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from typing import assert_never, cast

import attrs

from pi_ai.adapters._bedrock_models import is_claude
from pi_ai.adapters._claude import IDS
from pi_ai.errors import failure
from pi_ai.history import (
    current_system,
    current_tools,
    detach_error_images,
    system_text,
    transcript,
    transform_messages,
)
from pi_ai.text import sanitize_surrogates
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
    UserContent,
    UserMessage,
)

EMPTY = "<empty>"
"""What stands where there is nothing: the service refuses blank texts and empty contents."""

_IMAGES = {"image/jpeg": "jpeg", "image/jpg": "jpeg", "image/png": "png", "image/gif": "gif", "image/webp": "webp"}


@attrs.frozen
class Conversation:
    """What a request is made of.

    :ivar tools: what is on offer. ``used``: the names of the tools in the history.
    """

    system: str
    messages: list[JSONObject]
    tools: list[Tool]
    used: list[str]


def conversation(model: Model, context: Context) -> Conversation:
    """A conversation, in the API's shapes.

    :raises PiAIError: kind ``bad_request``: an image of a kind that the API does not take.
    """
    messages = transcript(context)
    system = current_system(messages)
    conversion = _Conversion(model)
    for message in transform_messages(messages, model, IDS):
        conversion.add(message)
    return Conversation(
        system=_spoken(system_text(system)) if system else "",
        messages=conversion.settled(),
        tools=current_tools(messages),
        used=list(conversion.used),
    )


class _Conversion:
    """One conversation on its way to the wire: user and assistant take turns (BR20)."""

    def __init__(self, model: Model) -> None:
        self.used: dict[str, None] = {}
        self._claude = is_claude(model)
        self._out: list[JSONObject] = []
        self._images: list[JSONObject] = []

    def add(self, message: Message) -> None:
        if not isinstance(message, ToolResultMessage):
            self._attach_images()
        match message:
            case UserMessage():
                self._say("user", _user_blocks(message.content) or [{"text": EMPTY}])
            case AssistantMessage():
                if blocks := [block for part in message.content if (block := self._block(part))]:
                    self._say("assistant", blocks)
            case ToolResultMessage():
                self._result(message)
            case SystemMessage():  # the API has one prompt, apart from the messages (X4)
                pass
            case _:
                assert_never(message)

    def settled(self) -> list[JSONObject]:
        """The messages."""
        self._attach_images()
        if self._out and self._out[0]["role"] == "assistant":
            self._out.insert(0, {"role": "user", "content": [{"text": EMPTY}]})
        return self._out

    def _say(self, role: str, blocks: list[JSONObject]) -> None:
        if self._out and self._out[-1]["role"] == role:
            self._out[-1]["content"] += blocks
        else:
            self._out.append({"role": role, "content": blocks})

    def _result(self, message: ToolResultMessage) -> None:
        content, detached = detach_error_images(message) if self._claude else (message.content, [])
        result = {
            "toolUseId": message.tool_call_id,
            "content": _user_blocks(content) or [{"text": EMPTY}],
            "status": "error" if message.is_error else "success",
        }
        self.used[message.tool_name] = None
        self._say("user", [{"toolResult": result}])
        self._images += _user_blocks(detached)

    def _attach_images(self) -> None:
        """The images of errors follow the whole run of results (BR19)."""
        if self._images:
            self._say("user", self._images)
            self._images = []

    def _block(self, part: AssistantContent) -> JSONObject | None:
        """A block of an answer, None for one that says nothing (BR17)."""
        match part:
            case TextContent():
                text = _spoken(part.text)
                return {"text": text} if text else None
            case ThinkingContent():
                return self._thought(part)
            case ToolCall():
                self.used[part.name] = None
                use = {"toolUseId": part.id, "name": part.name, "input": _without_empty_keys(part.arguments)}
                return {"toolUse": use}
            case _:
                assert_never(part)

    def _thought(self, part: ThinkingContent) -> JSONObject | None:
        """A thought; what proves it is for Claude only, who takes none without (BR18)."""
        signature = part.thinking_signature
        if part.redacted:
            return _reasoning({"redactedContent": signature}) if signature and _is_base64(signature) else None
        text = _spoken(part.thinking)
        if self._claude and signature and signature.strip():
            return _reasoning({"reasoningText": {"text": part.thinking, "signature": signature}})
        if not text:
            return None
        return {"text": text} if self._claude else _reasoning({"reasoningText": {"text": text}})


def _reasoning(content: JSONObject) -> JSONObject:
    return {"reasoningContent": content}


def _spoken(text: str) -> str:
    """The text as it can be sent, nothing where that is blank."""
    clean = sanitize_surrogates(text)
    return clean if clean.strip() else ""


def _user_blocks(content: str | Sequence[UserContent]) -> list[JSONObject]:
    parts = [TextContent(content)] if isinstance(content, str) else content
    return [_user_block(part) for part in parts if isinstance(part, ImageContent) or _spoken(part.text)]


def _user_block(part: UserContent) -> JSONObject:
    if isinstance(part, TextContent):
        return {"text": _spoken(part.text)}
    if part.mime_type not in _IMAGES:
        text = f"Unknown image type: {part.mime_type}"
        raise failure("bad_request", f"{text}; the API takes {', '.join(_IMAGES)}", text=text)
    if not _is_base64(part.data):
        raise failure("bad_request", "ImageContent.data must be base64 (without a data: prefix), and is not")
    return {"image": {"format": _IMAGES[part.mime_type], "source": {"bytes": part.data}}}


def _is_base64(data: str) -> bool:
    try:
        return bool(binascii.a2b_base64(data, strict_mode=True))
    except ValueError:
        return False


def _without_empty_keys(value: object) -> object:
    """JSON without members of the name "", which the service refuses."""
    if isinstance(value, dict):
        return {key: _without_empty_keys(item) for key, item in cast("JSONObject", value).items() if key}
    if isinstance(value, list):
        return [_without_empty_keys(item) for item in cast("list[object]", value)]
    return value
