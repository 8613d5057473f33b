"""Chunks of chat completions, as OpenAI's and Mistral's APIs stream them (openai-completions.md 9.1, 9.2)."""

from __future__ import annotations

from typing import Any

from httpx_sse import ServerSentEvent

from pi_ai.adapters._answer import AnswerParser, as_list, as_object, as_text
from pi_ai.builder import MessageBuilder
from pi_ai.types import JSONObject, Model


class ChunkParser(AnswerParser):
    """Finds the chunk in an event, and whose answer it is."""

    def __init__(self, model: Model, builder: MessageBuilder) -> None:
        super().__init__(model, builder)
        self._known: Any = self  # the model of the last chunk, once the id is known, too

    def decode(self, event: ServerSentEvent) -> JSONObject | None:
        """The chunk in an event. After ``[DONE]`` everything is ignored."""
        data = event.data
        if self.ended or not data:
            return None
        if data.startswith("[DONE]"):
            self.ended = True
            return None
        return self._json(event.event, data)

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


def first_choice(choices: Any) -> JSONObject | None:
    """Choice 0: servers that send several choices mix them (section 9.2)."""
    if choices.__class__ is list:
        for choice in choices:
            if choice.__class__ is dict and not choice.get("index"):
                return choice
    return None


def thought_text(thinking: object) -> str:
    """The text of a part of Mistral's thought: a text, or a list of text parts."""
    return as_text(thinking) or "".join([as_text(as_object(part).get("text")) or "" for part in as_list(thinking)])
