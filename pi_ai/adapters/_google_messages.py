"""A conversation and its tools as Gemini takes them (google.md sections 4 and 5)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from pi_ai.adapters._google_compat import Compat
from pi_ai.adapters._request import SEE_IMAGE
from pi_ai.history import KEEP_IDS, IdRule, text_of, transform_messages
from pi_ai.tools import strict_parameters
from pi_ai.types import (
    AssistantMessage,
    ImageContent,
    JSONObject,
    Message,
    Model,
    TextContent,
    ThinkingContent,
    Tool,
    ToolCall,
    ToolResultMessage,
    UserMessage,
)

UNSIGNED = "skip_thought_signature_validator"
"""Google's own escape value, for a call that another model has made."""

IMAGES_FOLLOW = "Tool result image:"

MAX_ID = 64
"""Longest tool-call id that is made from one of another model."""

_SIGNATURE = re.compile(r"[A-Za-z0-9+/]+={0,2}")

_IDS = IdRule(lambda id, _: re.sub(r"[^A-Za-z0-9_-]", "_", id)[:MAX_ID], max_length=MAX_ID)  # noqa: A006 - its name


# ── messages ─────────────────────────────────────────────────────────────────────────────────────────────────


def contents(model: Model, compat: Compat, messages: Sequence[Message]) -> list[JSONObject]:
    """The messages of a transcript as ``contents``; system messages are left out."""
    replayed = transform_messages(messages, model, _IDS if compat.supports_tool_call_ids else KEEP_IDS)
    return _Conversion(compat).convert(replayed)


class _Conversion:
    """One conversation on its way to the wire."""

    def __init__(self, compat: Compat) -> None:
        self._compat = compat
        self._out: list[JSONObject] = []
        self._results: list[JSONObject] | None = None  # the parts of the open run of results
        self._images: list[list[JSONObject]] = []  # of results in that run, to follow it

    def convert(self, messages: Sequence[Message]) -> list[JSONObject]:
        asked = max((at for at, message in enumerate(messages) if isinstance(message, UserMessage)), default=-1)
        for at, message in enumerate(messages):
            match message:
                case ToolResultMessage():
                    self._result(message)
                case UserMessage(content=content):
                    blocks = [TextContent(content)] if isinstance(content, str) else content
                    self._say("user", [_part(block) for block in blocks])
                case AssistantMessage():
                    self._say("model", self._answer(message, in_turn=at > asked))
                case _:
                    pass
        self._attach_images()
        return self._out

    def _say(self, role: str, parts: list[JSONObject]) -> None:
        self._attach_images()
        if parts:
            self._results = None
            self._out.append({"role": role, "parts": parts})

    def _answer(self, message: AssistantMessage, *, in_turn: bool) -> list[JSONObject]:
        """The parts of an answer; each keeps the signature that it came with.

        :param in_turn: the user has not spoken since; then Google wants the first call to be signed (4.2).
        """
        parts: list[JSONObject] = []
        for block in message.content:
            match block:
                case TextContent(text=text, text_signature=signature):
                    signed = _signed(signature)
                    if text.strip() or signed:
                        parts.append({"text": text, **signed})
                case ThinkingContent(thinking=text, thinking_signature=signature):
                    signed = _signed(signature)
                    if text.strip() or signed:
                        parts.append({"thought": True, "text": text, **signed})
                case ToolCall(thought_signature=signature):
                    called = any("functionCall" in part for part in parts)
                    signed = _signed(signature)
                    if in_turn and not called and self._compat.unsigned_tool_call_signature == "sentinel":
                        signed = signed or {"thoughtSignature": UNSIGNED}
                    call = {"name": block.name, "args": block.arguments, **self._id(block.id)}
                    parts.append({"functionCall": call, **signed})
        return parts

    def _result(self, message: ToolResultMessage) -> None:
        images = [_part(block) for block in message.content if isinstance(block, ImageContent)]
        text = text_of(message.content)
        said = text if text.strip() else SEE_IMAGE if images else ""
        response: JSONObject = {
            "name": message.tool_name,
            "response": {"error" if message.is_error else "output": said},
            **self._id(message.tool_call_id),
        }
        if images and self._compat.supports_images_in_tool_results:
            response["parts"] = images
        elif images:
            self._images.append(images)
        if self._results is None:
            self._results = []
            self._out.append({"role": "user", "parts": self._results})
        self._results.append({"functionResponse": response})

    def _attach_images(self) -> None:
        """Images follow the whole run: between two results they would be the end of it (4.4, R12)."""
        for images in self._images:
            self._out.append({"role": "user", "parts": [{"text": IMAGES_FOLLOW}, *images]})
            self._results = None
        self._images.clear()

    def _id(self, call_id: str) -> JSONObject:
        return {"id": call_id} if self._compat.supports_tool_call_ids else {}


def _part(block: TextContent | ImageContent) -> JSONObject:
    if isinstance(block, TextContent):
        return {"text": block.text}
    return {"inlineData": {"mimeType": block.mime_type, "data": block.data}}


def _signed(signature: str | None) -> JSONObject:
    """The field with a signature; none where it is no base64: Google refuses what it has not signed with."""
    usable = signature and len(signature) % 4 == 0 and _SIGNATURE.fullmatch(signature)
    return {"thoughtSignature": signature} if usable else {}


# ── tools ────────────────────────────────────────────────────────────────────────────────────────────────────

_MODES: Mapping[Any, str] = {"none": "NONE", "any": "ANY", "required": "ANY"}

_LITERALS = frozenset({"default", "examples", "example", "enum", "const"})
"""Keywords whose value is data, and no schema."""
_NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
"""Keywords whose value has a schema by name."""


def tool_fields(tools: Sequence[Tool], choice: Any, compat: Compat) -> JSONObject:
    """The fields ``tools`` and ``toolConfig``; none without tools.

    :raises PiAIError: kind ``bad_request``: a tool requires strict sampling and cannot have it.
    """
    if not tools:
        return {}
    strict = [strict_parameters(tool, supported=compat.supports_strict_tools) for tool in tools]
    declarations = [
        {
            "name": tool.name,
            "description": tool.description,
            "parametersJsonSchema": as_enums(tool.parameters if schema is None else schema),
        }
        for tool, schema in zip(tools, strict, strict=True)
    ]
    fields: JSONObject = {"tools": [{"functionDeclarations": declarations}]}
    if config := _calling(choice, strict=any(schema is not None for schema in strict)):
        fields["toolConfig"] = {"functionCallingConfig": config}
    return fields


def _calling(choice: Any, *, strict: bool) -> JSONObject:
    match choice:
        case {"type": "tool", "name": name}:
            return {"mode": "ANY", "allowedFunctionNames": [name]}
        case str() if choice in _MODES:
            return {"mode": _MODES[choice]}
        case _ if strict:
            return {"mode": "VALIDATED"}
        case None:
            return {}
        case _:
            return {"mode": "AUTO"}


def as_enums(schema: Any) -> Any:
    """A schema with ``enum`` in place of ``const``, which Gemini ignores where it is a text or a number.

    Looks into schemas only: a property may be called ``const``, and a default may be any data.
    """
    if isinstance(schema, list):
        return [as_enums(item) for item in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    node = cast("JSONObject", schema)
    shown: JSONObject = {}
    for keyword, value in node.items():
        if keyword in _NAMED and isinstance(value, dict):
            shown[keyword] = {name: as_enums(inner) for name, inner in cast("JSONObject", value).items()}
        elif keyword in _LITERALS:
            shown[keyword] = value
        else:
            shown[keyword] = as_enums(value)
    value = node.get("const")
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        del shown["const"]
        shown.setdefault("enum", [value])
    return shown
