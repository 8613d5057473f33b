"""What Gemini answers: the framings that its stream may have, and what its chunks mean (google.md sections 7 to 9)."""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import Mapping
from typing import Any

from httpx_sse import ServerSentEvent

from pi_ai.adapters._answer import AnswerParser, as_list, as_object, as_text, as_tokens
from pi_ai.adapters._google_arguments import StreamedArguments
from pi_ai.adapters._google_compat import Compat
from pi_ai.builder import MessageBuilder, TextBlock, ThinkingBlock, ToolCallBlock
from pi_ai.errors import ErrorKind, PiAIError, ProtocolError
from pi_ai.events import DoneReason, StreamEvent
from pi_ai.failures import error_in
from pi_ai.text import decode_json
from pi_ai.types import Diagnostic, JSONObject, Model, Usage
from pi_ai.wire.json_documents import JSONDocuments
from pi_ai.wire.sse import SSEDecoder

# ── framing ──────────────────────────────────────────────────────────────────────────────────────────────────

_BLANK = b" \t\r\n\xef\xbb\xbf"
"""What may stand in front of a body: white space, and a byte order mark."""


class GoogleDecoder(SSEDecoder):
    """Server-sent events; or a JSON array, as servers answer that do not know ``alt=sse`` (F15); or events, and behind
    them an error as plain JSON: no line of an event stream begins with a brace.
    """

    __slots__ = ("_documents", "_looked")

    def __init__(self, max_event_bytes: int) -> None:
        super().__init__(max_event_bytes)
        self._documents: JSONDocuments | None = None
        self._looked = False  # at how the body begins

    def _read(self, data: bytes) -> list[ServerSentEvent]:
        if self._documents is not None:
            return self._documents.feed(data)
        at = -1
        if not self._looked:
            head = data.lstrip(_BLANK)
            self._looked = bool(head)
            if head.startswith((b"[", b"{")):
                at = len(data) - len(head)
        elif data.startswith(b"{") and not self._line:
            at = 0
        if at < 0:
            at = data.find(b"\n{") + 1 or -1
        if at < 0:
            return super()._read(data)
        events = [*super()._read(data[:at]), *super().close()]
        self._at_rest = False  # all that follows is read here
        self._documents = JSONDocuments(self._limit)
        return [*events, *self._documents.feed(data[at:])]

    def close(self) -> list[ServerSentEvent]:
        """The body has ended: return the event that only lacks its blank line."""
        return super().close() if self._documents is None else self._documents.close()


# ── meaning ──────────────────────────────────────────────────────────────────────────────────────────────────

_STOP_REASONS: Mapping[str, DoneReason] = {"STOP": "stop", "MAX_TOKENS": "length"}
"""Finish reason → stop reason. All others are failures (section 9)."""

_NUMBERED = ("FINISH_REASON_UNSPECIFIED", "STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "OTHER")
"""Finish reasons by number: some servers send their enums so. Higher numbers differ from API to API."""

_FILTERED = frozenset(
    [
        *("SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"),
        *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION"),
    ]
)
_PASSING = frozenset({"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "OTHER"})
"""The model went astray: it may not, the next time."""

_SOURCES = ("groundingMetadata", "citationMetadata", "urlContextMetadata")
"""Fields of a candidate that tell what its text rests on."""

FOREIGN = "google_server_content"
"""Type of the diagnostic that holds what is no content of ours, as it came: ``parts`` (images, code that ran on the
server), and lists of ``groundingMetadata``, ``citationMetadata`` and ``urlContextMetadata``."""

_ID_CHARACTERS = string.ascii_lowercase + string.digits


class GoogleParser(AnswerParser):
    """Chunks to events. A block is written until a part of another kind comes, so blocks may take turns.

    :param label: the API's name in error texts.
    """

    def __init__(self, model: Model, compat: Compat, builder: MessageBuilder, label: str) -> None:
        super().__init__(model, builder)
        self._compat = compat
        self._label = label
        self._known: Any = self  # the model of the last chunk, once the id is known, too
        self._block: TextBlock | ThinkingBlock | None = None  # the one that is being written
        self._plain: TextBlock | None = None  # the same, if it is a text
        self._call: ToolCallBlock | None = None  # whose arguments come in pieces
        self._arguments = StreamedArguments()
        self._counts: JSONObject = {}
        self._finish: str | None = None
        self._why = ""
        self._waiting: list[JSONObject] = []
        self._foreign: dict[str, list[Any]] = {}

    def decode(self, event: ServerSentEvent) -> JSONObject | None:
        """The chunk in an event."""
        data = event.data
        try:
            return self._json(event.event, data) if data else None
        except ProtocolError:
            if data.startswith("[DONE]"):  # Google sends none, some proxies do
                return None
            chunks = _several(data)
            if not chunks:
                raise
            self._waiting = chunks[1:]
            return chunks[0]

    def feed(self, payload: JSONObject) -> list[StreamEvent]:
        """What a chunk means; also takes a whole answer that was not streamed."""
        usage: Any = payload.get("usageMetadata")
        if usage.__class__ is dict:
            if not self._counts:
                self._builder.defer_usage(self._usage)
            self._counts |= usage
        if payload.get("modelVersion") != self._known:
            self._name(payload)
        candidates = payload.get("candidates")
        candidate: Any = candidates[0] if candidates.__class__ is list and candidates else None
        if candidate.__class__ is not dict:
            self._look_closer(payload)
            return self._next([])
        if len(candidate) > 1 + ("index" in candidate):
            self._note_sources(candidate)
        content = candidate.get("content")
        parts: Any = content.get("parts") if content.__class__ is dict else None
        if self._plain and "finishReason" not in candidate and parts.__class__ is list and len(parts) == 1:
            part = parts[0]
            if part.__class__ is dict and len(part) == 1 and not self._waiting:
                # What nearly every chunk is, done in few steps.
                text = part.get("text")
                if text.__class__ is str:
                    return [self._plain.delta(text)] if text else []
        events: list[StreamEvent] = []
        for part in as_list(parts):
            self._part(as_object(part), events)
        if finish := candidate.get("finishReason"):
            self._finished(finish, candidate, events)
        if "error" in payload:
            self._look_closer(payload)
        return self._next(events)

    def close(self) -> list[StreamEvent]:
        """End the answer."""
        builder, finish = self._builder, self._finish
        if finish is None:
            self._assume_completion(
                "finishReason",
                declared=self._compat.completion_proof == "eof",
                flag='"completionProof": "eof"',
                text=f"{self._label} stream ended without a finish reason",
            )
        elif finish not in _STOP_REASONS:
            raise self._bad_end(finish)
        reason = _STOP_REASONS[finish] if finish else "stop"
        if reason == "stop" and self._message.tool_calls:
            reason = "toolUse"
        events: list[StreamEvent] = [] if self._started else [builder.start()]
        if not self._message.content:
            builder.note("empty")
        return events + builder.finish(reason)

    def _next(self, events: list[StreamEvent]) -> list[StreamEvent]:
        """The events, and those of chunks that came in the same event."""
        events = self._begun(events)
        while self._waiting:
            events += self.feed(self._waiting.pop(0))
        return events

    # ── parts ────────────────────────────────────────────────────────────────────────────────────────────────

    def _part(self, part: JSONObject, events: list[StreamEvent]) -> None:
        text, signature = part.get("text"), as_text(part.get("thoughtSignature"))
        if isinstance(text, str) or (signature and part.keys() <= {"thoughtSignature", "thought"}):
            self._say(text or "", signature, events, thought=part.get("thought") is True)
        elif call := part.get("functionCall"):
            self._call_part(as_object(call), signature, events)
        elif "functionCall" in part:
            self._end_call(events)
        elif part:
            self._foreign_details("parts").append(part)

    def _say(self, text: str, signature: str | None, events: list[StreamEvent], *, thought: bool) -> None:
        """Write on; another kind begins another block, and so does another signature: it is for what follows it."""
        block = self._block
        if not isinstance(block, ThinkingBlock if thought else TextBlock) or (
            signature and _signature(block) not in (None, signature)
        ):
            self._end_block(events)
            block = self._block = self._builder.add_thinking() if thought else self._builder.add_text()
            self._plain = block if isinstance(block, TextBlock) else None
            events.append(block.start())
        assert block is not None
        if signature:
            _sign(block, signature)
        if text:
            events.append(block.delta(text))

    def _end_block(self, events: list[StreamEvent]) -> None:
        if self._block is not None:
            events.append(self._block.end())
            self._block = self._plain = None

    def _call_part(self, call: JSONObject, signature: str | None, events: list[StreamEvent]) -> None:
        """A call, at once or in pieces: then the first one has the name, and the last one no ``willContinue``."""
        name, goes_on = as_text(call.get("name")), bool(call.get("willContinue"))
        if self._call is None or name:
            if self._call is not None:
                events.append(self._call.end())  # without its last piece it is cut off, and not to be run (F19)
            self._end_block(events)
            self._call = self._builder.add_tool_call(self._call_id(call, name or ""), name or "")
            self._call.content.thought_signature = signature
            events.append(self._call.start())
            if goes_on or "partialArgs" in call:
                self._arguments = StreamedArguments()
                events.append(self._call.delta(self._arguments.begin()))
            else:
                args = call.get("args")
                events.append(self._call.delta(_dumps({} if args is None else args)))
                events.append(self._call.end())
                self._call = None
                return
        if text := "".join(map(self._arguments.add, as_list(call.get("partialArgs")))):
            events.append(self._call.delta(text))
        if not goes_on:
            self._end_call(events)

    def _end_call(self, events: list[StreamEvent]) -> None:
        if self._call is not None:
            events += self._call.complete(self._arguments.complete())
            events.append(self._call.end())
            self._call = None

    def _call_id(self, call: JSONObject, name: str) -> str:
        """The server's id, unless there is none or another call of this message has it: then one of ours."""
        told = as_text(call.get("id"))
        if told and told not in {other.id for other in self._message.tool_calls}:
            return told
        return f"{name}_{''.join([secrets.choice(_ID_CHARACTERS) for _ in range(8)])}"

    def _foreign_details(self, key: str) -> list[Any]:
        if not self._foreign:
            self._message.add_diagnostic(Diagnostic(type=FOREIGN, details=self._foreign))
        return self._foreign.setdefault(key, [])

    # ── what else a chunk tells ──────────────────────────────────────────────────────────────────────────────

    def _name(self, payload: JSONObject) -> None:
        """The first id, and the first model that is not the one that was asked for."""
        message, version = self._message, payload.get("modelVersion")
        if message.response_id is None:
            message.response_id = as_text(payload.get("responseId"))
        if message.response_model is None and version != self._model.id:
            message.response_model = as_text(version)
        if message.response_id is not None:
            self._known = version

    def _note_sources(self, candidate: JSONObject) -> None:
        for key in _SOURCES:
            found = candidate.get(key)
            if found and found not in self._foreign.get(key, ())[-1:]:  # some servers repeat it with every chunk
                self._foreign_details(key).append(found)

    def _usage(self) -> Usage:
        """The tokens, by the last count of each kind: later chunks may leave some out (section 8)."""
        counts = self._counts
        thoughts, cached = as_tokens(counts.get("thoughtsTokenCount")), as_tokens(counts.get("cachedContentTokenCount"))
        prompt = as_tokens(counts.get("promptTokenCount")) + as_tokens(counts.get("toolUsePromptTokenCount"))
        usage = Usage(
            input=max(0, prompt - cached),
            output=as_tokens(counts.get("candidatesTokenCount")) + thoughts,
            cache_read=cached,
            reasoning=thoughts,
        )
        usage.total_tokens = as_tokens(counts.get("totalTokenCount")) or usage.input + usage.output + usage.cache_read
        return usage

    def _finished(self, finish: object, candidate: JSONObject, events: list[StreamEvent]) -> None:
        """Old servers send a finish reason with every chunk; the last one counts."""
        if isinstance(finish, int):
            finish = _NUMBERED[finish] if 0 <= finish < len(_NUMBERED) else str(finish)
        if not isinstance(finish, str):
            return
        self.proven = True
        self._finish = self._message.raw_stop_reason = finish
        self._why = as_text(candidate.get("finishMessage")) or ""
        if finish not in _STOP_REASONS:
            self._end_block(events)  # what the model said is whole as far as it goes

    # ── failures ─────────────────────────────────────────────────────────────────────────────────────────────

    def _look_closer(self, payload: JSONObject) -> None:
        """A chunk without an answer: an error, or a prompt that was blocked."""
        if words := error_in(payload):
            raise self._told(words)
        feedback = as_object(payload.get("promptFeedback"))
        if reason := feedback.get("blockReason"):
            self.proven = True
            why = as_text(feedback.get("blockReasonMessage"))
            text = f"Prompt blocked: {reason}" + (f": {why}" if why else "")
            sentence = f"{self._model.provider} blocked the prompt ({reason}); change what is asked"
            raise self._failure("content_filter", sentence, text=text, phase="end", provider_code=str(reason))

    def _bad_end(self, finish: str) -> PiAIError:
        astray = finish in _PASSING
        kind: ErrorKind = "content_filter" if finish in _FILTERED else "server" if astray else "protocol"
        text = f"Provider stopped with: {finish}" + (f" ({self._why})" if self._why else "")
        sentence = (
            f"The provider ended the answer for the reason {finish[:100]!r}, which is no ending that can be used."
        )
        return self._failure(kind, sentence, text=text, phase="end", provider_code=finish, retryable=astray)


def _several(data: str) -> list[JSONObject]:
    """The chunks in an event, where a proxy has put more than one into it (F15)."""
    try:
        chunks = [decode_json(found.data) for found in JSONDocuments().feed(data.encode())]
    except ValueError:
        return []
    return chunks if len(chunks) > 1 else []


def _signature(block: TextBlock | ThinkingBlock) -> str | None:
    return block.content.text_signature if isinstance(block, TextBlock) else block.content.thinking_signature


def _sign(block: TextBlock | ThinkingBlock, signature: str) -> None:
    if isinstance(block, TextBlock):
        block.content.text_signature = signature
    else:
        block.content.thinking_signature = signature


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
