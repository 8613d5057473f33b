"""The clocks of a call: how long it may wait for what (reliability section 3 D)."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Literal, TypeAlias, TypeVar, cast

import anyio
from anyio import CancelScope

from pi_ai.errors import ErrorKind, Phase, PiAIError, failure
from pi_ai.types import CLOCKS, UNSET, Timeouts

T = TypeVar("T")

_Clock: TypeAlias = Literal["first_event", "idle", "progress", "completion_grace", "total"]


class Clocks:
    """The clocks of one call.

    They count only while a read waits, so that a slow consumer never trips one (F43), on the event loop's monotonic
    clock, so that a test's clock drives them. Three run at a time: ``total``; a slow one, which counts all waiting
    since the last meaningful event; and ``idle``, once there was an event, which counts the present read only.

    :ivar waits: how often the network was waited for; each time is a checkpoint.
    :ivar waited_s: how long, in this attempt.
    """

    def __init__(self, timeouts: Timeouts) -> None:
        limits = ((name.removesuffix("_ms"), getattr(timeouts, name)) for name in CLOCKS)
        self.limits: dict[str, float] = {
            name: math.inf if value is None or value is UNSET else value / 1000 for name, value in limits
        }
        self.connect_s = self.limits["connect"]
        self._total_s = self.limits["total"]
        self._idle_s = math.inf
        self._scope: CancelScope | None = None
        self._aborted = False
        self.waits = 0
        self.waited_s = 0.0
        self._run("first_event")

    def _run(self, slow: _Clock) -> None:
        self._slow: _Clock = slow
        self._slow_s = self.limits[slow]
        self._waited = 0.0

    def restart(self) -> None:
        """A new attempt: everything but ``total`` begins anew."""
        self._idle_s = math.inf
        self.waited_s = 0.0
        self._run("first_event")

    def progressed(self) -> None:
        """A meaningful event came."""
        self._waited = 0.0
        if self._slow != "progress":
            self._idle_s = self.limits["idle"]
            self._run("progress")

    def content_ended(self) -> None:
        """The last block of content has ended; only the proof of completion, or the end of the body, is missing."""
        if self._slow != "completion_grace":
            self._idle_s = math.inf
            self._run("completion_grace")

    async def wait(self, read: Callable[[], Awaitable[T]], *, phase: Phase) -> T:
        """Await one read of the network within the clocks that run.

        :raises PiAIError: the nearest of them ran out, or ``abort()`` was called (kind ``aborted``).
        """
        if self._aborted:
            raise failure("aborted", "The request was aborted.", phase=phase)
        self.waits += 1
        began = anyio.current_time()
        left, clock = self._total_s, cast("_Clock", "total")
        if self._slow_s - self._waited < left:
            left, clock = self._slow_s - self._waited, self._slow
        if self._idle_s < left:
            left, clock = self._idle_s, "idle"
        if left <= 0:  # on asyncio, cancelling a read that never has to wait comes too late
            raise self._ran_out(clock, phase)
        try:
            with CancelScope(deadline=began + left) as self._scope:
                return await read()
        finally:
            self._scope = None
            waited = anyio.current_time() - began
            self._waited += waited
            self.waited_s += waited
            self._total_s -= waited
        raise (
            failure("aborted", "The request was aborted.", phase=phase)
            if self._aborted
            else self._ran_out(clock, phase)
        )

    async def pause(self, waiting: Callable[[], Awaitable[T]]) -> T:
        """Await what the server has no part in, a free connection or the next attempt: only ``total`` counts.

        :raises PiAIError: as ``wait`` does.
        """
        self._slow_s = self._idle_s = math.inf
        try:
            return await self.wait(waiting, phase="connect")
        finally:
            self.restart()

    def abort(self) -> None:
        """End the read that waits now, and refuse all further ones."""
        self._aborted = True
        if self._scope is not None:
            self._scope.cancel()

    def _ran_out(self, clock: _Clock, phase: Phase) -> PiAIError:
        limit = f"{self.limits[clock]:g} s"
        kind, happened = _RAN_OUT[clock]
        advice = f"set timeouts=Timeouts({clock}_ms=…) to wait longer"
        return failure(
            kind,
            f"{happened} within {limit}; {advice}.",
            text=f"Request timed out: {happened[0].lower()}{happened[1:]} within {limit}",
            phase=phase,
        )


_RAN_OUT: dict[_Clock, tuple[ErrorKind, str]] = {
    "first_event": ("timeout_first", "No event of the answer came"),
    "idle": ("timeout_idle", "Not one byte came"),
    "progress": ("timeout_progress", "Nothing but keep-alives came"),
    "completion_grace": ("truncated", "The content was whole, but its proof of completion did not come"),
    "total": ("timeout_total", "The request did not end"),
}
