"""What every renderer is made of: a turn in, the provider's bytes out. Pure; knows no socket and no adapter.

A renderer says what the provider itself would say, with the fields that recorded answers of it have, and is not derived
from the code that reads it. A wire event is a complete unit of the wire (an SSE event, a binary frame). Adding a wire:
one file here, and one line in the table of ``__init__.py``.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias, cast

import attrs

from pi_ai.testing.turns import Block, Failure, Page, RawToolCall, Reply, Turn
from pi_ai.types import JSONObject, TextContent, ThinkingContent, ToolCall, Usage

CREATED = 1_767_225_600
"""When everything was answered, in seconds since the epoch: the same script gives the same bytes."""

Part: TypeAlias = Literal["frame", "piece", "ending", "mark"]
"""What a wire event is to its answer: a ``piece`` of content (a word, the head of a call, a signature), what tells the
``ending`` (stop reason, usage), the ``mark`` that nothing follows, or a ``frame`` around these."""


class WireEvent(NamedTuple):
    """One complete unit of the wire."""

    data: bytes
    part: Part = "frame"


@attrs.define(eq=False, kw_only=True)
class Asked:
    """What a request asks, in words of no wire.

    :ivar number: of the request, from 1.
    :ivar text: what the user said last. ``tools``: the names of what may be called.
    :ivar messages: the conversation, as the wire words it. ``body``: all of it.
    :ivar streamed: whether the answer shall be a stream.
    """

    number: int
    model: str = ""
    text: str = ""
    messages: list[JSONObject] = attrs.field(factory=list[JSONObject], repr=False)
    tools: list[str] = attrs.field(factory=list[str])
    streamed: bool = True
    body: JSONObject = attrs.field(factory=dict[str, Any], repr=False)


class Rendered(NamedTuple):
    """An answer as the wire has it."""

    status: int
    headers: dict[str, str]
    events: list[WireEvent]
    keep_alive: bytes = b""


class Wire(ABC):
    """One API, as its provider speaks it. Subclasses have no state.

    :cvar api: its id. ``base``: what a base URL has behind the server's address; ``path``: what follows the
        API's id in a URL, with the query.
    :cvar media_type: of streams. ``keep_alive``: what the provider sends while it has nothing to say, if anything.
    :cvar request_id_header: the header with the request's id.
    """

    api: ClassVar[str]
    base: ClassVar[str]
    path: ClassVar[re.Pattern[str]]
    media_type: ClassVar[str]
    keep_alive: ClassVar[bytes]
    request_id_header: ClassVar[str]

    @abstractmethod
    def read(self, found: re.Match[str], body: JSONObject, number: int) -> Asked:
        """What a request asks.

        :param found: what ``path`` found in its URL.
        """

    @abstractmethod
    def events(self, turn: Turn, asked: Asked) -> Iterator[WireEvent]:
        """A turn as a stream, without its failure."""

    @abstractmethod
    def whole(self, turn: Turn, asked: Asked) -> JSONObject:
        """A turn as one document, for who did not ask for a stream."""

    @abstractmethod
    def failure(self, failure: Failure, asked: Asked) -> JSONObject:
        """The body of an HTTP error."""

    @abstractmethod
    def failure_event(self, failure: Failure, asked: Asked, after: int) -> WireEvent:
        """The same inside of a stream.

        :param after: how many events have come before it.
        """

    def render(self, reply: Reply, asked: Asked, *, streamed: bool = True) -> Rendered:
        """A reply as it goes over the wire.

        :param streamed: False: a turn is one document.
        """
        known = {self.request_id_header: request_id(asked)}
        match reply:
            case Page(body=body):
                data = body.encode() if isinstance(body, str) else body
                headers = {"content-type": reply.content_type, **reply.headers}
                return Rendered(reply.status, headers, [WireEvent(data)], self.keep_alive)
            case Failure():
                headers = {"content-type": "application/json", **known, **reply.headers}
                return Rendered(reply.status, headers, [WireEvent(dumped(self.failure(reply, asked)))])
            case Turn(failure=Failure() as failure) if not streamed:
                return self.render(failure, asked)
            case Turn() if streamed:
                headers = {"content-type": self.media_type, **known}
                return Rendered(200, headers, self._stream(reply, asked), self.keep_alive)
            case Turn():
                document = dumped(self.whole(reply, asked))
                return Rendered(200, {"content-type": "application/json", **known}, [WireEvent(document)])

    def _stream(self, turn: Turn, asked: Asked) -> list[WireEvent]:
        events = list(self.events(turn, asked))
        if turn.failure is None:
            return events
        at = turn.failure_after
        if at is None:
            parts = [event.part for event in events]
            pieces = [number for number, part in enumerate(parts, 1) if part == "piece"]
            at = pieces[-1] if pieces else next(at for at, part in enumerate(parts) if part in ("ending", "mark"))
        return [*events[:at], self.failure_event(turn.failure, asked, at)]


# ── what wires share ─────────────────────────────────────────────────────────────────────────────────────────


def request_id(asked: Asked) -> str:
    """The provider's id of a request."""
    return f"req_sandbox{asked.number:08}"


def dumped(value: object) -> bytes:
    """JSON as providers write it: compact UTF-8; half a surrogate pair stays what it is, escaped.

    :raises ValueError: a number is not finite.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")


def arguments_of(call: ToolCall | RawToolCall) -> str:
    """The arguments of a call as JSON text."""
    return call.arguments if isinstance(call, RawToolCall) else dumped(call.arguments).decode()


def usage_of(turn: Turn, asked: Asked) -> Usage:
    """The usage of a turn; where it has none, about four characters of the conversation, or a piece, are a token."""
    if turn.usage is not None:
        return turn.usage
    prompt = -(-len(dumped(asked.messages)) // 4)
    answer = sum(len(turn.pieces(_text_of(block))) for block in turn.content)
    return Usage(input=prompt, output=answer, total_tokens=prompt + answer)


def _text_of(block: Block) -> str:
    match block:
        case TextContent(text=text) | ThinkingContent(thinking=text):
            return text
        case ToolCall() | RawToolCall():
            return arguments_of(block)


def mappings(value: object) -> list[JSONObject]:
    """The objects in what should be a list of them."""
    items = cast("list[object]", value) if isinstance(value, list) else []
    return [cast("JSONObject", item) for item in items if isinstance(item, dict)]


def mapping(value: object) -> JSONObject:
    """What should be an object."""
    return cast("JSONObject", value) if isinstance(value, dict) else {}


def read_messages(
    body: JSONObject,
    number: int,
    names: Iterable[object],
    *,
    messages: str = "messages",
    content: str = "content",
    **known: Any,
) -> Asked:
    """What a request asks, where its body has a list of messages.

    :param names: of the tools. ``messages``, ``content``: the fields that the wire has them in.
    :param known: what the body does not say; by default it has ``model`` and ``stream``.
    """
    told = mappings(body.get(messages))
    said: dict[str, Any] = {"model": str(body.get("model", "")), "streamed": body.get("stream") is True, **known}
    return Asked(
        number=number,
        text=_said_last(told, content),
        messages=told,
        tools=[name for name in names if isinstance(name, str)],
        body=body,
        **said,
    )


def _said_last(messages: list[JSONObject], field: str) -> str:
    """The text of the last message of the user that has any: a text, or a list of parts."""
    for message in reversed(messages):
        if message.get("role") == "user":
            content = message.get(field)
            parts = [content] if isinstance(content, str) else [part.get("text") for part in mappings(content)]
            if text := "\n".join([part for part in parts if isinstance(part, str)]):
                return text
    return ""


def word_for(table: Mapping[int, str], status: int) -> str:
    """The provider's word for a status; of 400 and of 500 for those that have none of their own."""
    return table.get(status) or table[400 if status < 500 else 500]
