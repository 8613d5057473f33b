"""pi's lock: a directory beside the file, kept fresh by its modification time (auth A20-A28).

The protocol is that of the npm package ``proper-lockfile``, so that pi and we exclude each other. In front of it
stands one queue per file for all tasks, threads and event loops of this process (A26). Waiting can be cancelled; a
held lock is kept fresh by a thread, because an event loop may be blocked (A23).

The system calls of an attempt are made where the event loop runs: they take microseconds, and a cancelled caller can
never leave a directory behind that nobody knows of.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import stat
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio
import attrs
from anyio.lowlevel import checkpoint_if_cancelled, current_token

from pi_ai.errors import AuthError, ErrorInfo, failure

T = TypeVar("T")

STALE_S = 30.0
"""A lock that was not freshened for so long is a dead process's."""
HEARTBEAT_S = 3.0
"""How often a held lock is freshened; pi's own start-up takes it for dead after 10 s."""
WAIT_S = 30.0
"""Longest wait for another process."""
POLL_S = 0.05
"""How often one event loop looks whether another one has left the queue."""
SETTLE_S = 0.05
"""How long after taking over a dead process's lock it is looked at again: another process may have done the same."""
REFUSALS = 5
"""How often "permission denied" may mean that a deletion is pending (Windows)."""


class LockLost(AuthError):
    """Somebody took our lock while we held it: nothing may be written any more (A24)."""

    def __init__(self, path: str) -> None:
        message = f"The lock {path} was taken over while it was held; nothing was written. Try again."
        super().__init__(ErrorInfo(kind="auth", message=message, phase="auth"))


# ── in this process ──────────────────────────────────────────────────────────────────────────────────────────


@attrs.frozen(eq=False)
class _Ticket:
    loop: object
    called: anyio.Event


class Queue:
    """One at a time, first come, first served, among all tasks, threads and event loops of the process."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._tickets: deque[_Ticket] = deque()

    async def enter(self) -> _Ticket:
        """Wait for one's turn; the ticket ends it in :meth:`leave`. Whoever is cancelled by now gets none."""
        await checkpoint_if_cancelled()
        ticket = _Ticket(current_token().native_token, anyio.Event())
        with self._guard:
            self._tickets.append(ticket)
        try:
            while self._tickets[0] is not ticket:
                with anyio.move_on_after(POLL_S):
                    await ticket.called.wait()
        except BaseException:
            self.leave(ticket)
            raise
        return ticket

    def leave(self, ticket: _Ticket) -> None:
        """Give way to the next one."""
        with self._guard:
            self._tickets.remove(ticket)
            following = self._tickets[0] if self._tickets else None
        with contextlib.suppress(RuntimeError):  # no event loop runs: the coroutine was thrown away
            if following is not None and following.loop is current_token().native_token:
                following.called.set()


_queues: dict[str, Queue] = {}
_held: set[FileLock] = set()


def _queue(path: str) -> Queue:
    return _queues.setdefault(path, Queue())


def _forget() -> None:
    """In a forked child: what the parent holds is not ours."""
    _queues.clear()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


@atexit.register
def _release_all() -> None:
    for lock in list(_held):
        lock.release()


# ── between processes ────────────────────────────────────────────────────────────────────────────────────────


class FileLock:
    """The lock of a file, which has to exist: ``async with FileLock(path) as lock: lock.run(write)``.

    :param path: resolved path of the file; the lock is ``path + ".lock"`` (A20).
    """

    def __init__(self, path: str) -> None:
        self.path = path + ".lock"
        self._queue = _queue(path)
        self._guard = threading.Lock()
        self._stopped = threading.Event()
        self._lost = False
        self._mark: tuple[int, int] | None = None
        self._ticket: Any = None

    async def __aenter__(self) -> Self:
        """Take the lock.

        :raises PiAIError: kind ``auth``: another process has it for more than ``WAIT_S``, or something that is no
            directory is in its place.
        """
        self._ticket = await self._queue.enter()
        try:
            await self._take()
        except BaseException:
            self.release()
            self._queue.leave(self._ticket)
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.release()
        self._queue.leave(self._ticket)

    def check(self) -> None:
        """Make sure that the lock is still ours.

        :raises LockLost: it is not.
        """
        with self._guard:
            self._check()

    def run(self, work: Callable[[], T]) -> T:
        """Do what the lock is held for, in any thread; a release waits until it is done.

        :raises LockLost: the lock is not ours any more; nothing was done.
        """
        with self._guard:
            self._check()
            return work()

    def release(self) -> None:
        """Give the lock back, unless somebody has taken it (A25). Idempotent."""
        self._stopped.set()
        with self._guard:
            _held.discard(self)
            if self._mark is not None and not self._lost and self._is_ours():
                with contextlib.suppress(OSError):  # gone, or of a folder that is
                    os.rmdir(self.path)
            self._mark = None

    # ── taking ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _take(self) -> None:
        give_up_at = anyio.current_time() + WAIT_S
        delay, refusals = 0.01, 0
        while True:
            try:
                if await self._attempt():
                    self._keep_fresh()
                    return
            except PermissionError as error:
                refusals += 1
                if refusals >= REFUSALS:
                    raise self._cannot(f"{error.strerror}; make the folder writable") from None
            except OSError as error:
                raise self._cannot(str(error.strerror)) from None
            left = give_up_at - anyio.current_time()
            if left <= 0:
                text = f"auth.json is locked by another process ({self.path})"
                raise failure("auth", f"{text}; if none runs, delete that folder.", text=text, phase="auth")
            await anyio.sleep(min(left, delay * random.uniform(1, 2)))  # noqa: S311 - spreads waiters
            delay = min(1.0, delay * 2)

    async def _attempt(self) -> bool:
        """One attempt (A21), with a second look where a dead process's lock was taken over."""
        if self._make():
            return True
        if not self._clear_away():
            return False
        if not self._make():
            return False
        await anyio.sleep(SETTLE_S)
        if self._is_ours():
            return True
        self._mark = None
        return False

    def _make(self) -> bool:
        try:
            os.mkdir(self.path)
        except FileExistsError:
            return False
        self._touch()
        return True

    def _clear_away(self) -> bool:
        """Whether what stands in the way has gone, be it that it was stale."""
        try:
            found = os.lstat(self.path)
        except FileNotFoundError:
            return True
        if not stat.S_ISDIR(found.st_mode):
            raise self._cannot("something that is no folder is in its place; it can be deleted")
        if found.st_mtime >= time.time() - STALE_S:
            return False
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(self.path)
        return True

    def _cannot(self, why: str) -> Exception:
        return failure("auth", f"The lock {self.path} cannot be taken: {why}.", phase="auth")

    # ── holding ──────────────────────────────────────────────────────────────────────────────────────────────

    def _touch(self) -> None:
        os.utime(self.path)
        found = os.stat(self.path)
        self._mark = found.st_ino, found.st_mtime_ns

    def _is_ours(self) -> bool:
        try:
            found = os.stat(self.path)
        except OSError:
            return False
        return self._mark == (found.st_ino, found.st_mtime_ns)

    def _check(self) -> None:
        if self._lost or not self._is_ours():
            self._lost = True
            raise LockLost(self.path)

    def _keep_fresh(self) -> None:
        _held.add(self)
        threading.Thread(target=self._beat, name="pi_ai auth lock", daemon=True).start()

    def _beat(self) -> None:
        while not self._stopped.wait(HEARTBEAT_S):
            with self._guard:
                if self._mark is None:
                    return
                try:
                    self._check()
                    self._touch()
                except LockLost:
                    return
                except OSError:
                    continue  # the disk may come back; the next check tells
