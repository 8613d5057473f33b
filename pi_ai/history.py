"""The conversation as an API may see it (core sections 9 and 10). Pure: new lists out, the input is never changed.

Two steps, in this order::

    messages = transcript(context)                          # prompt and tools become a leading system message
    messages = transform_messages(messages, model, ids)     # what this model can read, with every call answered

Between them, ``collapse`` is for APIs that take one system message only. Content that need not change is shared with
the input, not copied (images are large), so nobody downstream may change it in place.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from operator import is_

import attrs

from pi_ai.types import (
    AssistantContent,
    AssistantMessage,
    Context,
    ImageContent,
    Message,
    Model,
    SystemMessage,
    TextContent,
    ThinkingContent,
    Tool,
    ToolCall,
    ToolReference,
    ToolResultMessage,
    UserContent,
    UserMessage,
)

USER_IMAGE_OMITTED = "(image omitted: model does not support images)"
TOOL_IMAGE_OMITTED = "(tool image omitted: model does not support images)"
IMAGE_MOVED = "(image attached after the tool results)"
NO_RESULT = "No result provided"


# ── the system prompt and the tools (X1-X7) ──────────────────────────────────────────────────────────────────


def transcript(context: Context) -> list[Message]:
    """The messages of a context, led by one system message with its prompt and tools (X1).

    Without a prompt and without tools nothing is added. The added message has timestamp 0.
    """
    if not context.system_prompt and not context.tools:
        return list(context.messages)
    first = SystemMessage(context.system_prompt or "", tools_added=context.tools or None, timestamp=0)
    return [first, *context.messages]


def current_tools(messages: Iterable[Message]) -> list[Tool]:
    """The tools on offer after all system messages (X2). A tool that is defined again keeps its place."""
    tools: dict[str, Tool] = {}
    for message in messages:
        if isinstance(message, SystemMessage):
            for gone in message.tools_removed or ():
                tools.pop(gone.name, None)
            tools.update({tool.name: tool for tool in message.tools_added or ()})
    return list(tools.values())


def current_system(messages: Iterable[Message]) -> SystemMessage | None:
    """All system messages as one (X3): texts joined, sections patched by name, tools replayed. None: there is none."""
    found = [message for message in messages if isinstance(message, SystemMessage)]
    if not found:
        return None
    sections: dict[str, str | None] = {}
    for message in found:
        for name, value in (message.sections or {}).items():
            if value is None:
                sections.pop(name, None)
            else:
                sections[name] = value
    return SystemMessage(
        _paragraphs(text_of(message.content) for message in found),
        sections=sections or None,
        tools_added=current_tools(found) or None,
        timestamp=found[0].timestamp,
    )


def system_text(message: SystemMessage) -> str:
    """The prompt in a leading system message: its text, then its sections (X3)."""
    return _paragraphs([text_of(message.content), *(message.sections or {}).values()])


def system_update_text(message: SystemMessage) -> str:
    """The words of a later system message that stays where it is (X5)."""
    updates = [
        f'Removed system prompt section "{name}".'
        if value is None
        else f'Updated system prompt section "{name}":\n\n{value}'
        for name, value in (message.sections or {}).items()
    ]
    return _paragraphs([text_of(message.content), *updates])


def collapse(messages: Sequence[Message]) -> list[Message]:
    """The current system message first, and no other one: for models that take a single prompt (X4)."""
    system = current_system(messages)
    rest: list[Message] = [message for message in messages if not isinstance(message, SystemMessage)]
    return rest if system is None else [system, *rest]


def tool_changes(before: Sequence[Tool], after: Sequence[Tool]) -> tuple[list[Tool], list[ToolReference]]:
    """What leads from one set of tools to another, as ``tools_added`` and ``tools_removed`` (X6).

    A tool that changed is in both lists.
    """
    old, new = ({tool.name: _canonical(tool) for tool in tools} for tools in (before, after))
    added = [tool for tool in after if old.get(tool.name) != new[tool.name]]
    removed = [ToolReference(tool.name) for tool in before if old[tool.name] != new.get(tool.name)]
    return added, removed


def text_of(content: str | Sequence[UserContent]) -> str:
    """The text blocks of a message's content, joined by line ends; images are left out (X7)."""
    if isinstance(content, str):
        return content
    return "\n".join([block.text for block in content if isinstance(block, TextContent)])


def _paragraphs(parts: Iterable[str | None]) -> str:
    return "\n\n".join([part for part in parts if part])


def _canonical(tool: Tool) -> str:
    # As JSON text, because Python holds 1 and True for equal and a JSON Schema does not.
    return json.dumps([tool.description, tool.parameters, tool.constrained_sampling or None], sort_keys=True)


# ── messages for one model (TM1-TM12) ────────────────────────────────────────────────────────────────────────


@attrs.frozen
class IdRule:
    """Which tool-call ids an API takes.

    :ivar normalize: of an id and the message that it comes from, the id to send. Asked only about other models' calls.
    :ivar max_length: of an id that has to be told apart from another one of the same request: its end becomes
        ``joint`` and 8 hexadecimal digits.
    :ivar joint: a character that the API allows, or nothing.
    :ivar told_apart_by: of such an id, the beginning by which the API ties results to calls; default: all of it.
    """

    normalize: Callable[[str, AssistantMessage], str]
    max_length: int = 64
    joint: str = "_"
    told_apart_by: Callable[[str, AssistantMessage], str] = lambda id, source: id  # noqa: A006 - the field's name


KEEP_IDS = IdRule(lambda id, source: id)  # noqa: A006 - the field's name
"""For APIs that take any id, or send none."""


def transform_messages(messages: Sequence[Message], model: Model, ids: IdRule = KEEP_IDS) -> list[Message]:
    """The messages as ``model`` can take them over, whoever wrote them (TM1-TM11, reliability F83).

    - Images become placeholders where the model has no eyes.
    - Thoughts and signatures go to nobody but the model (provider, API and id) that made them.
    - Failed, aborted and unfinished answers are left out. An answer without ``api``, written by hand, counts as
      finished, whatever its ``stop_reason``.
    - Every tool call is answered directly after its message and exactly once: a missing result is made up, a result
      without a call or a second one is left out, what stands between a call and its result moves behind it.
    - Tool-call ids are not empty, differ within their message, and are such as ``ids`` demands; results follow.

    :returns: a new list; messages that need no change are the same objects.
    """
    replay = _Replay(model, ids)
    for message in messages:
        replay.add(message)
    replay.settle()
    return replay.messages


def loose_ends(messages: Iterable[Message]) -> tuple[int, int]:
    """What :func:`transform_messages` has to repair: calls without a result, and results without a call (F83)."""
    waiting: list[str] = []
    missing = surplus = 0
    for message in messages:
        match message:
            case ToolResultMessage(tool_call_id=id) if id in waiting:
                waiting.remove(id)
            case ToolResultMessage():
                surplus += 1
            case AssistantMessage():
                missing += len(waiting)
                waiting = [call.id for call in message.tool_calls] if _is_finished(message) else []
            case _:
                pass
    return missing + len(waiting), surplus


class _Replay:
    """A history on its way to a model: what was taken over, and the calls that wait for their results."""

    def __init__(self, model: Model, ids: IdRule) -> None:
        self.messages: list[Message] = []
        self._model = model
        self._sees_images = "image" in model.input
        self._ids = ids
        self._used_ids: set[str] = set()
        self._unanswered: list[_Call] = []
        self._held_back: list[Message] = []

    def add(self, message: Message) -> None:
        match message:
            case ToolResultMessage():
                self._answer(message)
            case SystemMessage():
                self._after_results(message)
            case UserMessage():
                self._after_results(self._user(message))
            case AssistantMessage():
                self.settle()
                if _is_finished(message):
                    self.messages.append(self._assistant(message))

    def settle(self) -> None:
        """The next answer or the end is here: make up the results that are still missing (TM8), in call order."""
        for call in self._unanswered:
            synthetic = ToolResultMessage(call.id, call.name, [TextContent(NO_RESULT)], is_error=True)
            self.messages.append(synthetic)
        self._unanswered.clear()
        self._release()

    def _after_results(self, message: Message) -> None:
        # No API takes anything between a call and its result (TM9). The result of a call may well come after the
        # user has spoken again, and a real one is worth more than a made-up one.
        (self._held_back if self._unanswered else self.messages).append(message)

    def _answer(self, message: ToolResultMessage) -> None:
        call = next((call for call in self._unanswered if call.original_id == message.tool_call_id), None)
        if call is None:  # its call was left out or has its result already (TM10)
            return
        self._unanswered.remove(call)
        changes: dict[str, object] = {}
        if call.id != message.tool_call_id:
            changes["tool_call_id"] = call.id
        if not self._sees_images and _has_images(message.content):
            changes["content"] = _without_images(message.content, TOOL_IMAGE_OMITTED)
        self.messages.append(attrs.evolve(message, **changes) if changes else message)
        if not self._unanswered:
            self._release()

    def _release(self) -> None:
        self.messages.extend(self._held_back)
        self._held_back.clear()

    def _user(self, message: UserMessage) -> UserMessage:
        if self._sees_images or isinstance(message.content, str) or not _has_images(message.content):
            return message
        return attrs.evolve(message, content=_without_images(message.content, USER_IMAGE_OMITTED))

    def _assistant(self, message: AssistantMessage) -> AssistantMessage:
        model = self._model
        own = (message.provider, message.api, message.model) == (model.provider, model.api, model.id)
        turn_ids: set[str] = set()
        content: list[AssistantContent] = []
        for block in message.content:
            match block:
                case ThinkingContent():
                    if own and (block.redacted or block.thinking_signature or block.thinking.strip()):
                        content.append(block)
                case TextContent():
                    content.append(block if own or block.text_signature is None else TextContent(block.text))
                case ToolCall():
                    call = self._call(block, message, own, turn_ids)
                    self._unanswered.append(_Call(block.id, call.id, call.name))
                    content.append(call)
        self._used_ids |= turn_ids
        same = len(content) == len(message.content) and all(map(is_, content, message.content))
        return message if same else attrs.evolve(message, content=content)

    def _call(self, call: ToolCall, source: AssistantMessage, own: bool, turn_ids: set[str]) -> ToolCall:
        wanted = call.id if own else self._ids.normalize(call.id, source)
        # A model's own ids must come back as they were, also when it gives the same ones in every turn; those of
        # other models are told apart within the whole request, because some APIs insist on it.
        part = wanted if own else self._ids.told_apart_by(wanted, source)
        new = self._distinct(part, call.id, [turn_ids] if own else [turn_ids, self._used_ids])
        turn_ids.add(new)
        new += wanted[len(part) :]
        if own or call.thought_signature is None:
            return call if new == call.id else attrs.evolve(call, id=new)
        return attrs.evolve(call, id=new, thought_signature=None)

    def _distinct(self, wanted: str, original: str, taken: Sequence[set[str]]) -> str:
        """An id that is not empty and not taken (TM6). The same history always gives the same ids."""
        new, salt = wanted, 0
        while not new or any(new in ids for ids in taken):
            from zlib import crc32  # ids are seldom too long

            digest = crc32(f"{original}:{salt}".encode("utf-8", "surrogatepass"))
            tail = f"{self._ids.joint}{digest:08x}"
            new, salt = wanted[: self._ids.max_length - len(tail)] + tail, salt + 1
        return new


@attrs.frozen(eq=False)
class _Call:
    original_id: str
    id: str
    name: str


def _is_finished(message: AssistantMessage) -> bool:
    """Whether an answer may be shown to a model again (TM7, TM11)."""
    if message.stop_reason in ("pending", "deferred"):
        return not message.api and bool(message.content)
    return message.stop_reason not in ("error", "aborted")


# ── images ───────────────────────────────────────────────────────────────────────────────────────────────────


def detach_error_images(message: ToolResultMessage) -> tuple[list[UserContent], list[UserContent]]:
    """For Claude, whose error results hold text only: the result's content, and what is to follow all results (TM12).

    :returns: the content as it is and an empty list, where the result is no error or has no images.
    """
    if not message.is_error or not _has_images(message.content):
        return message.content, []
    caption = f"Images from the error result of tool call {message.tool_call_id} ({message.tool_name}):"
    images = [block for block in message.content if isinstance(block, ImageContent)]
    return _without_images(message.content, IMAGE_MOVED), [TextContent(caption), *images]


def _has_images(content: Sequence[UserContent]) -> bool:
    return any(isinstance(block, ImageContent) for block in content)


def _without_images(content: Sequence[UserContent], placeholder: str) -> list[UserContent]:
    """Each run of images as one placeholder text (TM2)."""
    kept: list[UserContent] = []
    for block in content:
        if not isinstance(block, ImageContent):
            kept.append(block)
        elif not (kept and isinstance(kept[-1], TextContent) and kept[-1].text == placeholder):
            kept.append(TextContent(placeholder))
    return kept
