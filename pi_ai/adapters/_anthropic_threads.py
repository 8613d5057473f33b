"""Threads: the server remembers a conversation, and only what is new is sent (anthropic-messages.md section 3.8).

A thread can be continued while everything that was sent so far stays as it was: one digest stands for all of it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import cast

import attrs

from pi_ai.types import JSONObject

_PREFIX = ("model", "system", "tools", "thinking", "output_config", "tool_choice", "fallbacks")
"""Fields of the body that a thread is bound to, beside its messages."""

_CODE = re.compile(r'"error_code"\s*:\s*"([a-z_]+)"')
_RENEW = {
    "thread_not_found",
    "thread_already_continued",
    "thread_continue_in_flight",
    "thread_fingerprint_mismatch",
}


@attrs.frozen
class Thread:
    """A conversation that the server remembers.

    :ivar last_id: of the message that it ends with. ``length``: messages of the wire.
    :ivar digest: of what it is bound to, and of these messages.
    """

    last_id: str
    length: int
    digest: bytes


@attrs.define
class Session:
    """What is remembered of a session.

    :ivar plain_tools: its tools are more than can be made strict (CS3).
    :ivar threads: the server has not refused them. ``thread``: the one to continue.
    """

    plain_tools: bool = False
    threads: bool = True
    thread: Thread | None = None


def thread_of(origin: Sequence[str], body: JSONObject, last_id: str) -> Thread | None:
    """The thread that a whole conversation became; None: it does not end with an answer.

    :param origin: endpoint and beta features. ``body``: of a request that would hold all of it.
    """
    messages = body["messages"]
    length = max((at for at, message in enumerate(messages, 1) if message["role"] == "assistant"), default=0)
    return Thread(last_id, length, _digest(origin, body, length)) if length else None


def in_thread(origin: Sequence[str], body: JSONObject, thread: Thread | None) -> JSONObject:
    """The body of a request that continues a thread, or else begins one."""
    messages = body["messages"]
    if (
        thread is None
        or not any(message["role"] == "user" for message in messages[thread.length :])
        or _digest(origin, body, thread.length) != thread.digest
    ):
        return {**body, "thread": {"type": "create"}}
    rest = {key: value for key, value in body.items() if key not in ("system", "tools")}
    more = messages[thread.length :]
    return {**rest, "messages": more, "thread": {"type": "continue", "previous_message_id": thread.last_id}}


def refused_thread(status: int | None, error_text: str) -> str | None:
    """Why a request was refused that could be sent without its thread; None: for another reason."""
    found = _CODE.search(error_text)
    if found is not None:
        return found[1] if found[1] in _RENEW or found[1] == "thread_unsupported_request" else None
    return "400" if status == 400 and "thread" in error_text.lower() else None


def may_begin_anew(reason: str) -> bool:
    """Whether another thread can be begun; else the server takes none."""
    return reason in _RENEW


def _digest(origin: Sequence[str], body: JSONObject, length: int) -> bytes:
    settings = {field: _unmarked(body.get(field)) for field in _PREFIX}
    messages = [{**message, "content": _unmarked(_as_blocks(message))} for message in body["messages"][:length]]
    text = json.dumps([*origin, settings, messages], sort_keys=True)
    return hashlib.sha256(text.encode()).digest()


def _unmarked(blocks: object) -> object:
    """Blocks or tools without cache marks: those move on with the conversation."""
    if not isinstance(blocks, list):
        return blocks
    return [
        {key: value for key, value in block.items() if key != "cache_control"}
        for block in cast("list[JSONObject]", blocks)
    ]


def _as_blocks(message: JSONObject) -> object:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content
