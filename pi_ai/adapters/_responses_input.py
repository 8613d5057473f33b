"""A conversation as the items of a Responses request (openai-responses.md sections 3, 4 and 9)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import assert_never, cast

from pi_ai.adapters._openai import only_adds_tools
from pi_ai.adapters._request import NO_OUTPUT
from pi_ai.adapters._responses_compat import Compat
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
from pi_ai.text import decode_json, encode_json, short_hash
from pi_ai.tools import Grammar, strict_parameters
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

PHASES = ("commentary", "final_answer")
"""What a text of the model may be: one between its calls, or the answer."""

MAX_ID = 64
"""Longest id of an item."""

TWO_PART_IDS = frozenset(["azure", "openai", "openai-codex", "opencode"])
"""Providers that are given the ids of other models' items, beside those of their calls."""

MORE_TOOLS = (
    "This is an incremental tools update. Previously declared tools remain available unless explicitly marked "
    "unavailable. A tool declared again here is available again, and its latest definition replaces the earlier one."
)
FEWER_TOOLS = "The following tools are no longer available. Do not call them:\n"


def input_and_tools(
    model: Model, compat: Compat, context: Context, constraints: Mapping[str, Grammar]
) -> tuple[list[JSONObject], list[JSONObject]]:
    """The items of the body's ``input``, and its ``tools``.

    :param constraints: the tools that are called with plain text, by name.
    """
    messages = transcript(context)
    if not compat.supports_mid_convo_system_messages:
        messages = collapse(messages)
    tools, as_found = current_tools(messages), False
    if compat.supports_additional_tools:
        tools = []
    elif compat.supports_tool_search and only_adds_tools(messages):
        tools, as_found = current_tools(messages[:1]), True
    conversion = _Conversion(model, compat, constraints, as_found=as_found)
    items = conversion.convert(transform_messages(messages, model, _ids(model)))
    return items, [conversion.tool(tool) for tool in tools]


def effort_update(effort: str) -> JSONObject:
    """An item that says how hard to think from here on."""
    return {"type": "configuration_update", "reasoning": {"effort": effort}}


def text_signature(item: JSONObject) -> str | None:
    """What a text has to keep of its item: the id, and the phase."""
    told, phase = item.get("id"), item.get("phase")
    if not isinstance(told, str) or not told:
        return None
    kept: JSONObject = {"v": 1, "id": told}
    if phase in PHASES:
        kept["phase"] = phase
    return encode_json(kept).decode()


def _read_text_signature(signature: str) -> tuple[str, str | None]:
    """The id and the phase in a signature; in old conversations it is the id itself."""
    match _json(signature):
        case {"v": 1, "id": str(told), **kept}:
            phase = kept.get("phase")
            return told, phase if phase in PHASES else None
        case _:
            return signature, None


def _reasoning_item(signature: str) -> JSONObject | None:
    """The item in the signature of a thought; None: the server could not use it, because it keeps nothing itself."""
    item = _json(signature)
    if item is None or item.get("type") != "reasoning" or not item.get("encrypted_content"):
        return None
    return item


def _json(signature: str) -> JSONObject | None:
    if not signature.startswith("{"):
        return None
    try:
        return cast("JSONObject", decode_json(signature))
    except ValueError:
        return None


def _ids(model: Model) -> IdRule:
    """Ids of other models' calls, as this provider takes them (section 3.5)."""

    def normalize(call_id: str, source: AssistantMessage) -> str:
        if "|" not in call_id or model.provider not in TWO_PART_IDS:
            return _plain(call_id)
        call, item = call_id.split("|", 1)
        foreign = (source.provider, source.api) != (model.provider, model.api)
        item = f"fc_{short_hash(item)}" if foreign else _plain(item)
        return f"{_plain(call)}|{item if item.startswith('fc_') else _plain(f'fc_{item}')}"

    def told_apart_by(call_id: str, source: AssistantMessage) -> str:
        # A server of this API may repeat the first part, and takes it back so.
        return call_id if source.api.endswith("responses") else call_id.partition("|")[0]

    return IdRule(normalize, max_length=MAX_ID, told_apart_by=told_apart_by)


def _plain(part: str) -> str:
    # ChatGPT's own servers refuse an underscore at the end.
    return re.sub(r"[^A-Za-z0-9_-]", "_", part)[:MAX_ID].rstrip("_")


class _Conversion:
    """One conversation on its way to the wire.

    :param as_found: tools that are added later appear as what a search has found.
    """

    def __init__(self, model: Model, compat: Compat, constraints: Mapping[str, Grammar], *, as_found: bool) -> None:
        self._model = model
        self._compat = compat
        self._constraints = constraints
        self._as_found = as_found
        self._role = "developer" if model.reasoning and compat.supports_developer_role else "system"
        self._out: list[JSONObject] = []
        self._number = 0  # of the message, without the prompt and without those that say nothing: ids are made of it
        self._declared = False
        self._gone: dict[str, None] = {}
        self._with_text: set[str] = set()  # ids of calls that were made with plain text

    def convert(self, messages: Sequence[Message]) -> list[JSONObject]:
        for index, message in enumerate(messages):
            before = len(self._out)
            match message:
                case SystemMessage():
                    self._system(message, leading=index == 0)
                    if index == 0:
                        continue
                    before = -1
                case UserMessage():
                    self._user(message)
                case AssistantMessage():
                    self._assistant(message)
                case ToolResultMessage():
                    self._result(message)
                case _:
                    assert_never(message)
            self._number += len(self._out) > before
        return self._out

    # ── the prompt and the tools ─────────────────────────────────────────────────────────────────────────────

    def tool(self, tool: Tool, **more: bool) -> JSONObject:
        """A tool (section 4)."""
        fields: JSONObject = {"name": tool.name, "description": tool.description, **more}
        if (constraint := self._constraints.get(tool.name)) is not None:
            rule = {"type": "grammar", "syntax": constraint.syntax, "definition": constraint.definition}
            return {"type": "custom", **fields, "format": rule}
        strict = strict_parameters(tool, supported=self._compat.supports_strict_mode)
        fields["parameters"] = tool.parameters if strict is None else strict
        if self._compat.supports_strict_mode:
            fields["strict"] = strict is not None
        return {"type": "function", **fields}

    def _system(self, message: SystemMessage, *, leading: bool) -> None:
        if self._compat.supports_additional_tools:
            self._declare(message)
        elif self._as_found and not leading:
            self._find(message.tools_added or [])
        self._say(system_text(message) if leading else system_update_text(message))

    def _declare(self, message: SystemMessage) -> None:
        """Say which tools have gone and which have come."""
        added = message.tools_added or []
        names = {tool.name for tool in added}
        gone = [tool.name for tool in message.tools_removed or () if tool.name not in names]
        if gone:
            self._say(FEWER_TOOLS + "\n".join([f"- {name}" for name in gone]))
        self._gone = {name: None for name in [*self._gone, *gone] if name not in names}
        if not added:
            return
        if self._declared:
            still = f"\nStill unavailable: {', '.join(self._gone)}." if self._gone else ""
            self._say(MORE_TOOLS + still)
        self._declared = True
        tools = [self.tool(tool) for tool in added]
        self._out.append({"type": "additional_tools", "role": "developer", "tools": tools})

    def _find(self, added: Sequence[Tool]) -> None:
        """Tools that come later, as if the model had searched for them: so what went before them stays cached."""
        if not added:
            return
        names = [tool.name for tool in added]
        told = short_hash(f"system:{self._number}:{','.join(names)}")
        about = {"call_id": f"pi_tool_load_{told}", "execution": "client", "status": "completed"}
        query = {"query": " ".join(names), "limit": len(names)}
        self._out.append({"type": "tool_search_call", **about, "arguments": query})
        tools = [self.tool(tool, defer_loading=True) for tool in added]
        self._out.append({"type": "tool_search_output", **about, "tools": tools})

    def _say(self, text: str) -> None:
        if text:
            self._out.append({"role": self._role, "content": text})

    # ── messages ─────────────────────────────────────────────────────────────────────────────────────────────

    def _user(self, message: UserMessage) -> None:
        content = [TextContent(message.content)] if isinstance(message.content, str) else message.content
        if content:
            self._out.append({"role": "user", "content": [_part(block) for block in content]})

    def _assistant(self, message: AssistantMessage) -> None:
        model = self._model
        relative = (message.provider, message.api) == (model.provider, model.api)
        own = relative and message.model == model.id
        # The server checks that an item which it knows follows the thought that it came with.
        paired = own or not relative
        items: list[JSONObject] = []
        texts = 0
        for block in message.content:
            match block:
                case ThinkingContent():
                    if block.thinking_signature:
                        item = _reasoning_item(block.thinking_signature)
                        if item is None:
                            paired = False
                        else:
                            items.append(item)
                case TextContent():
                    items.append(self._text(block, texts))
                    texts += 1
                case ToolCall():
                    items.append(self._call(block, own=own, paired=paired))
                case _:
                    assert_never(block)
        if items and own and self._compat.supports_mid_convo_effort and message.provider_thinking_level:
            self._out.append(effort_update(message.provider_thinking_level))
        self._out += items

    def _text(self, block: TextContent, index: int) -> JSONObject:
        told, phase = _read_text_signature(block.text_signature or "")
        if len(told) > MAX_ID:
            told = f"msg_{short_hash(told)}"
        item: JSONObject = {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": block.text, "annotations": []}],
            "status": "completed",
            "id": told or f"msg_pi_{self._number}{f'_{index}' if index else ''}",
        }
        if phase is not None:
            item["phase"] = phase
        return item

    def _call(self, call: ToolCall, *, own: bool, paired: bool) -> JSONObject:
        call_id, _, item_id = call.id.partition("|")
        constraint = self._constraints.get(call.name)
        text = call.arguments.get(constraint.argument) if constraint else None
        if isinstance(text, str):
            kind, prefix, given = "custom_tool_call", "ctc_", {"input": text}
            self._with_text.add(call.id)
        else:
            kind, prefix, given = "function_call", "fc_", {"arguments": encode_json(call.arguments).decode()}
            self._with_text.discard(call.id)
        item: JSONObject = {"type": kind}
        if paired and item_id.startswith(prefix):
            item["id"] = item_id
        item |= {"call_id": call_id, "name": call.name, **given}
        if own and call.namespace is not None:
            item["namespace"] = call.namespace
        return item

    def _result(self, message: ToolResultMessage) -> None:
        kind = "custom_tool_call_output" if message.tool_call_id in self._with_text else "function_call_output"
        call_id = message.tool_call_id.partition("|")[0]
        self._out.append({"type": kind, "call_id": call_id, "output": _output(message.content)})


def _output(content: Sequence[UserContent]) -> str | list[JSONObject]:
    """The output of a tool (section 3.4); images that the model cannot see have been replaced before."""
    text = text_of(content)
    images = [block for block in content if isinstance(block, ImageContent)]
    said = [TextContent(text)] if text.strip() else []
    if images:
        return [_part(block) for block in [*said, *images]]
    return text if said else NO_OUTPUT


def _part(block: UserContent) -> JSONObject:
    if isinstance(block, TextContent):
        return {"type": "input_text", "text": block.text}
    url = f"data:{block.mime_type};base64,{block.data}"
    return {"type": "input_image", "detail": "auto", "image_url": url}
