"""What a sandbox answers, in words of no wire: an answer of the model, a failure, or a document that is neither.

How it is sent, and broken, is another matter: see ``delivery.py``. How each API says it: see ``wires/``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Literal, Self, TypeAlias

import attrs

from pi_ai.types import AssistantMessage, TextContent, ThinkingContent, ToolCall, Usage


@attrs.frozen
class RawToolCall:
    """A tool call whose arguments are exactly this text, JSON or not."""

    id: str
    name: str
    arguments: str


Block: TypeAlias = TextContent | ThinkingContent | ToolCall | RawToolCall
_BLOCKS = (TextContent, ThinkingContent, ToolCall, RawToolCall)
_CALLS = (ToolCall, RawToolCall)

ScriptedReason: TypeAlias = Literal["stop", "length", "toolUse"]
_REASONS: tuple[ScriptedReason, ...] = ("stop", "length", "toolUse")


def _as_blocks(content: str | Block | Iterable[str | Block]) -> tuple[Block, ...]:
    parts = [content] if isinstance(content, (str, *_BLOCKS)) else content
    return tuple(TextContent(part) if isinstance(part, str) else part for part in parts)


def _check_blocks(turn: object, attribute: object, blocks: tuple[object, ...]) -> None:
    for number, block in enumerate(blocks):
        if not isinstance(block, _BLOCKS):
            names = ", ".join(kind.__name__ for kind in _BLOCKS)
            raise TypeError(f"Turn.content[{number}] must be a str or one of {names}, not {type(block).__name__}")


def _phrase(failure: Failure) -> str:
    return "Overloaded" if failure.status == 529 else HTTPStatus(failure.status).phrase


@attrs.frozen
class Failure:
    """What a provider says when it cannot answer, or cannot go on. In a script it is the answer itself: an HTTP error
    with a body of the provider's shape. As ``Turn.failure`` it is an error event in the stream.

    :ivar status: HTTP status; inside of a stream it only chooses the words.
    :ivar message: for people; default: the status in words.
    :ivar type: the provider's class of errors; default: the one that it uses for the status.
    :ivar code: the provider's code, where its errors have one; default: the one that it uses for the status.
    :ivar headers: such as ``{"retry-after": "2"}``.
    """

    status: int = attrs.field(validator=[attrs.validators.ge(400), attrs.validators.lt(600)])
    message: str = attrs.field(default=attrs.Factory(_phrase, takes_self=True))
    type: str | None = attrs.field(default=None, kw_only=True)
    code: str | None = attrs.field(default=None, kw_only=True)
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str], kw_only=True)


@attrs.frozen
class Page:
    """Any other document: the page of a proxy, an answer of another server, nothing at all.

    :ivar body: text is sent as UTF-8.
    """

    body: str | bytes
    content_type: str = "text/html; charset=utf-8"
    status: int = attrs.field(default=200, kw_only=True)
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str], kw_only=True)


def _reason(turn: Turn) -> ScriptedReason:
    return "toolUse" if any(isinstance(block, _CALLS) for block in turn.content) else "stop"


@attrs.frozen
class Turn:
    """One answer of the model::

        Turn("It is sunny.")
        Turn([ThinkingContent("Hm.", "signature"), "Let me look.", ToolCall("call_1", "weather", {"city": "Oslo"})])
        Turn("It is", failure=Failure(529))  # an error event in the middle

    A wire that cannot say something comes as near to it as it can: chat completions, for one, have one text and one
    thought an answer.

    :ivar content: a text, a block, or a list of both.
    :ivar stop_reason: default: ``toolUse`` if there are calls, else ``stop``.
    :ivar raw_stop_reason: the wire's own word, sent instead of the one for ``stop_reason``.
    :ivar usage: default: an estimate; a piece of content is a token.
    :ivar failure: reported in the stream, after the last piece of content, or after ``failure_after`` wire events.
    :ivar response_id: default: one that the request's number gives. ``response_model``: default: the one asked for.
    :ivar piece_size: characters of each piece in which content is streamed; default: words.
    """

    content: tuple[Block, ...] = attrs.field(default=(), converter=_as_blocks, validator=_check_blocks)
    stop_reason: ScriptedReason = attrs.field(
        default=attrs.Factory(_reason, takes_self=True), kw_only=True, validator=attrs.validators.in_(_REASONS)
    )
    raw_stop_reason: str | None = attrs.field(default=None, kw_only=True)
    usage: Usage | None = attrs.field(default=None, kw_only=True)
    failure: Failure | None = attrs.field(default=None, kw_only=True)
    failure_after: int | None = attrs.field(default=None, kw_only=True)
    response_id: str | None = attrs.field(default=None, kw_only=True)
    response_model: str | None = attrs.field(default=None, kw_only=True)
    piece_size: int | None = attrs.field(
        default=None, kw_only=True, validator=attrs.validators.optional(attrs.validators.ge(1))
    )

    @classmethod
    def from_message(cls, message: AssistantMessage) -> Self:
        """The turn that gave a message, to play it again. A failed one fails again after the content that it has,
        by an error that the provider tells.

        :raises ValueError: the message has no ending to play: it is pending or was aborted.
        """
        return cls(
            [_scripted(block) for block in message.content],
            usage=message.usage,
            response_id=message.response_id,
            response_model=message.response_model,
            **_ending(message),
        )

    def pieces(self, text: str) -> list[str]:
        """A text of this turn as it is streamed: words with the blanks before them, or ``piece_size`` characters."""
        size = self.piece_size
        if size is None:
            return _WORDS.findall(text)
        return [text[at : at + size] for at in range(0, len(text), size)]


_WORDS = re.compile(r"\s*\S{1,12}|\s+")


def _scripted(block: TextContent | ThinkingContent | ToolCall) -> Block:
    if isinstance(block, ToolCall) and block.arguments_error is not None:
        return RawToolCall(block.id, block.name, block.arguments_error.partition("Received arguments:\n")[2])
    return block


def _ending(message: AssistantMessage) -> dict[str, Any]:
    reason, info = message.stop_reason, message.error_info
    if reason in _REASONS:
        return {"stop_reason": reason}
    if reason != "error":
        raise ValueError(f"A message that is {reason!r} has no ending to play; make a turn of its content: Turn(…)")
    if message.raw_stop_reason:
        return {"raw_stop_reason": message.raw_stop_reason}
    status, code = (info.status, info.provider_code) if info else (None, None)
    words = (message.error_message or "").removeprefix(f"{code}: ")
    return {"failure": Failure(status or 500, words, code=code)}


Reply: TypeAlias = Turn | Failure | Page
"""What may answer a request."""
_REPLIES = (Turn, Failure, Page)


def as_reply(value: object) -> Reply:
    """What a script's entry means; a text is a turn.

    :raises TypeError: it is nothing that can be answered.
    """
    if isinstance(value, str):
        return Turn(value)
    if isinstance(value, _REPLIES):
        return value
    kinds = ", ".join(kind.__name__ for kind in _REPLIES)
    raise TypeError(f"A request is answered with a str, {kinds}, or a function of it, not {type(value).__name__}")
