"""Chunks of chat completions, as OpenAI's and Mistral's APIs stream them (openai-completions.md 9.1, 9.2)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar

from httpx_sse import ServerSentEvent

from pi_ai.adapters._answer import AnswerParser, as_list, as_object, as_text
from pi_ai.builder import MessageBuilder, TextBlock
from pi_ai.events import DoneReason, StreamEvent
from pi_ai.failures import error_in
from pi_ai.types import JSONObject, Model


class ChunkParser(AnswerParser, ABC):
    """Finds the chunk in an event, whose answer it is, and its delta; what that means is for the subclass to say.

    :cvar stop_reasons: finish reason in lower case → stop reason. All others are failures.
    """

    stop_reasons: ClassVar[Mapping[str, DoneReason]]

    def __init__(self, model: Model, builder: MessageBuilder) -> None:
        super().__init__(model, builder)
        self._known: Any = self  # the model of the last chunk, once the id is known, too
        self._plain: TextBlock | None = None  # the text being written, while nothing has to be looked for in it
        self._finish: str | None = None
        self._failed = False  # as the finish reason says
        self._ignored: Counter[str] = Counter()

    def decode(self, event: ServerSentEvent) -> JSONObject | None:
        """The chunk in an event. After ``[DONE]`` everything is ignored."""
        data = event.data
        if self.ended or not data:
            return None
        if data.startswith("[DONE]"):
            self.ended = True
            return None
        return self._json(event.event, data)

    def feed(self, payload: JSONObject) -> list[StreamEvent]:
        """What a chunk means; also takes a whole answer that was not streamed (section 9.2)."""
        usage = payload.get("usage")
        if usage:
            self._count(usage)
        if "error" in payload or "x_groq" in payload or "base_resp" in payload:
            self._look_closer(payload)
        if payload.get("model") != self._known:
            self._name(payload)

        choices: Any = payload.get("choices")
        for choice in choices if choices.__class__ is list else ():
            if choice.__class__ is dict and not choice.get("index"):
                break  # choice 0: servers that send several choices mix them
        else:
            self._look_closer(payload)
            if "choices" not in payload and not usage:
                self._ignored["events"] += 1
            return []
        if not usage and "usage" in choice:
            self._count(choice["usage"])
        delta: Any = choice.get("delta") or choice.get("message")
        finish = choice.get("finish_reason")
        if delta.__class__ is not dict or self._failed:
            events: list[StreamEvent] = []
        elif self._plain and not finish and len(delta) == 1 and (text := delta.get("content")).__class__ is str:
            # What nearly every chunk is, done in few steps.
            return [self._plain.delta(text)] if text else []
        else:
            events = self._delta(delta)
        if finish:
            events += self._finished(finish)
        return self._begun(events)

    @abstractmethod
    def _delta(self, delta: JSONObject) -> list[StreamEvent]:
        """What a delta, or a whole message, means."""

    @abstractmethod
    def _count(self, usage: object) -> None:
        """Set the usage; the last one that comes is the whole one."""

    @abstractmethod
    def _break_off(self) -> list[StreamEvent]:
        """The finish reason is a failure: end what is whole as far as it goes. A call may not be, and is not run."""

    def _finished(self, finish: object) -> list[StreamEvent]:
        if self._failed or not isinstance(finish, str):
            return []
        self.proven = True
        self._finish = self._message.raw_stop_reason = finish
        self._failed = finish.lower() not in self.stop_reasons
        return self._break_off() if self._failed else []

    def _look_closer(self, payload: JSONObject) -> None:
        """A chunk that may report an error."""
        words = error_in(payload)
        if words is not None:
            raise self._told(words)

    def _name(self, payload: JSONObject) -> None:
        """The first id, and the first model that is not the one that was asked for."""
        message = self._message
        if message.response_id is None:
            message.response_id = as_text(payload.get("id"))
        name = payload.get("model")
        if message.response_model is None and name != self._model.id:
            message.response_model = as_text(name)
        if message.response_id is not None:
            self._known = name


def thought_text(thinking: object) -> str:
    """The text of a part of Mistral's thought: a text, or a list of text parts."""
    return as_text(thinking) or "".join([as_text(as_object(part).get("text")) or "" for part in as_list(thinking)])
