"""What the parsers of all APIs have in common: the JSON of an event, values of any shape, and how an answer fails."""

from __future__ import annotations

import secrets
import string
from collections.abc import Collection
from itertools import count
from typing import Any, cast

from jiter import from_json

from pi_ai.builder import MessageBuilder
from pi_ai.errors import ErrorKind, PiAIError, failure
from pi_ai.events import StreamEvent
from pi_ai.failures import ProviderWords, provider_words, stream_failure
from pi_ai.text import parse_json_with_repair
from pi_ai.types import JSONObject, Model

_ID_CHARACTERS = string.ascii_lowercase + string.digits


class AnswerParser:
    """The state that every parser has; see :class:`~pi_ai.adapters.base.Parser` for its flags."""

    def __init__(self, model: Model, builder: MessageBuilder) -> None:
        self.ended = False
        self.proven = False
        self._model = model
        self._builder = builder
        self._message = builder.message
        self._started = False

    def _json(self, name: str, data: str) -> JSONObject | None:
        """The JSON object in an event's data, None where it is something else.

        :param name: of the event; ``error`` is one, whatever its data is.
        """
        try:
            # The shortest way for what is plain JSON; what jiter refuses is judged again, and in better words.
            value = from_json(data.encode(), allow_inf_nan=False)
        except ValueError:
            value = self._parse_again(name, data)
        if name == "error":
            raise self._told(provider_words(value))
        return value if value.__class__ is dict else None

    def _parse_again(self, name: str, data: str) -> Any:
        try:
            return parse_json_with_repair(data)
        except ValueError as error:
            if name == "error":
                return data
            raise self._failure(
                "protocol",
                f"The server sent an event that is not JSON ({error}): {data[:200]!r}",
                text=self._unreadable(name, data, error),
                phase="stream",
            ) from error

    def _unreadable(self, name: str, data: str, error: ValueError) -> str:
        """The error text for an event that is not JSON."""
        return "Could not parse provider stream event"

    def _begun(self, events: list[StreamEvent]) -> list[StreamEvent]:
        """The events, with ``start`` in front of the first ones (D10)."""
        if events and not self._started:
            self._started = True
            events.insert(0, self._builder.start())
        return events

    def _told(self, words: ProviderWords) -> PiAIError:
        """The failure that the provider reports."""
        model = self._model
        return stream_failure(words, provider=model.provider, api=model.api, model=model.id)

    def _failure(self, kind: ErrorKind, sentence: str, **fields: Any) -> PiAIError:
        model = self._model
        return failure(kind, sentence, provider=model.provider, api=model.api, model=model.id, **fields)

    def _assume_completion(self, reason: str, *, declared: bool, flag: str, text: str) -> None:
        """No stop reason came: go on only where that is declared to be normal (reliability section 2).

        :param reason: the wire's name for it. ``flag``: the compat flag that declares it, as JSON. ``text``: the error.
        """
        if not declared:
            raise self._cut_off(reason, text, f". If this server never sends one, give the model compat={{{flag}}}")
        if not self.ended:
            self._message.completion = "assumed"

    def _cut_off(self, reason: str, text: str, advice: str = "") -> PiAIError:
        """The failure of an answer whose end never came.

        :param reason: the wire's name for what did not come. ``text``: the error. ``advice``: follows the sentence.
        """
        what = "before it was complete" if self._message.content else "without any content"
        sentence = f"The answer ended {what}: no {reason} came{advice}"
        return self._failure("truncated", sentence, text=text, phase="end")


# ── values ───────────────────────────────────────────────────────────────────────────────────────────────────

MAX_TOKENS = 2**53
"""More tokens than this are no count."""


def as_object(value: object) -> JSONObject:
    """A JSON object, or an empty one for anything else."""
    return cast("JSONObject", value) if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    """A JSON array, or an empty one for anything else."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def as_text(value: object) -> str | None:
    """A text that is not empty, None for anything else."""
    return value if isinstance(value, str) and value else None


def as_tokens(value: object) -> int:
    """A number of tokens, 0 for anything else (F97)."""
    return int(value) if isinstance(value, (int, float)) and 0 < value < MAX_TOKENS else 0


def call_id(told: str | None, taken: Collection[str]) -> str:
    """The server's id of a call, made unique; if it gives none, one of ours: results are told apart by it (F81)."""
    if not told:
        return "call_" + "".join([secrets.choice(_ID_CHARACTERS) for _ in range(12)])
    return next(new for n in count(1) if (new := told if n == 1 else f"{told}_{n}") not in taken)
