"""What adapters remember from call to call, by the caller's session id (core DI3).

It lives in the process and is bounded: of many sessions those are forgotten first that were used last the longest ago.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")

MAX_SESSIONS = 10_000
"""Most sessions that one adapter remembers."""

_all: list[Sessions[Any]] = []


class Sessions(Generic[T]):
    """What one adapter remembers.

    :param new: makes the memory of a session that nothing is remembered of.
    """

    def __init__(self, new: Callable[[], T]) -> None:
        self._new = new
        self._memories: OrderedDict[str, T] = OrderedDict()
        _all.append(self)

    def of(self, session_id: str | None) -> T:
        """The memory of a session, to be changed in place; without a session one that nobody will ask for again."""
        if not session_id:
            return self._new()
        memory = self._memories.pop(session_id, None) or self._new()
        self._memories[session_id] = memory
        if len(self._memories) > MAX_SESSIONS:
            self._memories.popitem(last=False)
        return memory

    def forget(self, session_id: str | None) -> None:
        """Forget one session, None: all of them."""
        if session_id is None:
            self._memories.clear()
        else:
            self._memories.pop(session_id, None)


def cleanup_session_resources(session_id: str | None = None) -> None:
    """Forget what is remembered of a session, as of its end; None: of all sessions."""
    for sessions in _all:
        sessions.forget(session_id)
