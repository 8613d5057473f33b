"""What both of OpenAI's APIs have: cache keys, sampling parameters, tools, and fields that other servers refuse."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping

from pi_ai.adapters._request import session_id
from pi_ai.tools import Grammar, grammar
from pi_ai.types import JSONObject, Message, Model, ReasoningLevel, RequestOptions, SystemMessage, Tool

MAX_CACHE_KEY = 64
"""Characters of ``prompt_cache_key``."""


def cache_key(options: RequestOptions) -> str | None:
    """The session, as long as a cache key may be; None where there is none or nothing of it shall be kept."""
    session = session_id(options)
    return session[:MAX_CACHE_KEY] if session else None


def sampling(model: Model, level: ReasoningLevel | None, options: RequestOptions) -> JSONObject:
    """Sampling parameters: the model's, those of the level, the caller's; later ones win by key (O2)."""
    by_level = model.sampling_params_by_thinking_level or {}
    return {**(model.sampling_params or {}), **by_level.get(level or "off", {}), **(options.sampling_params or {})}


def grammars(tools: Iterable[Tool], *, supported: bool) -> dict[str, Grammar]:
    """The tools that are called with plain text in a grammar, by name; none where the server cannot do that."""
    if not supported:
        return {}
    return {tool.name: found for tool in tools if (found := grammar(tool)) is not None}


def refused_field_hint(sent: Container[str], flags: Mapping[str, str], error_text: str) -> str | None:
    """For a request that was refused as bad (400, 422): the compat flag to set, where the server names a field.

    :param sent: the fields and roles that were sent. ``flags``: by field, the flag that leaves it out, as JSON.
    :param error_text: the server's words.
    """
    for field, flag in flags.items():
        if field in sent and (f'"{field}"' in error_text or f"'{field}'" in error_text or f"`{field}`" in error_text):
            return f"if this server does not know {field!r}, give the model compat={{{flag}}}"
    return None


def only_adds_tools(messages: Iterable[Message]) -> bool:
    """Whether later system messages only add new tools, so that the first ones can stay as they are."""
    names: set[str] = set()
    for message in messages:
        if isinstance(message, SystemMessage):
            added = {tool.name for tool in message.tools_added or ()}
            if message.tools_removed or names & added:
                return False
            names |= added
    return True


class PlainInput:
    """The plain text that a tool is called with, as JSON: an object with one argument.

    :param argument: its name.
    """

    __slots__ = ("_argument", "_opened")

    def __init__(self, argument: str) -> None:
        self._argument = argument
        self._opened = False

    def piece(self, text: str) -> str:
        """The next piece of the text, as the next piece of the JSON."""
        head = "" if self._opened else f'{{"{_escaped(self._argument)}":"'
        self._opened = True
        return head + _escaped(text)

    def end(self) -> str:
        """What is missing of the JSON."""
        return self.piece("") + '"}'


def arguments_json(arguments: object) -> str:
    """The JSON text of arguments; some servers send an object instead of it."""
    if isinstance(arguments, str):
        return arguments
    return json.dumps(arguments, ensure_ascii=False, separators=(",", ":")) if arguments else ""


def _escaped(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]
