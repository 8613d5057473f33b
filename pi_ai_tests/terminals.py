"""A program with a terminal for its input and output, and a person who waits for what it says before typing."""

from __future__ import annotations

import os
import re
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

PATIENCE_S = 60


class Screen:
    """What a program writes on its terminal, and the keys that it gets.

    :ivar said: all that was written, with the escape sequences.
    """

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
        self.process = process
        self._descriptor = descriptor
        self.said = ""
        self._seen = 0

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._descriptor, keys.encode())

    def until(self, pattern: str) -> re.Match[str]:
        """Wait for something new that was not waited for before."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := re.compile(pattern).search(self.said, self._seen)):
            ready, _, _ = select.select([self._descriptor], [], [], max(0.0, deadline - time.monotonic()))
            data = b""
            with suppress(OSError):  # EIO: the program has left its terminal
                data = os.read(self._descriptor, 65536) if ready else b""
            assert data, f"{pattern!r} did not come after {self.said!r}"
            self.said += data.decode(errors="replace")
        self._seen = found.end()
        return found

    def ends(self) -> int:
        """Wait until the program has ended; returns its exit status."""
        with suppress(OSError):
            while data := os.read(self._descriptor, 65536):
                self.said += data.decode(errors="replace")
        return self.process.wait(PATIENCE_S)


@contextmanager
def screen(command: list[str], **keywords: Any) -> Iterator[Screen]:
    """A program whose controlling terminal is one of ours, so that Ctrl-C reaches it as from a keyboard."""
    pty = pytest.importorskip("pty")
    fcntl, termios = pytest.importorskip("fcntl"), pytest.importorskip("termios")
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 200))

    def take() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, preexec_fn=take, **keywords
    )
    os.close(theirs)
    try:
        yield Screen(process, ours)
    finally:
        process.kill()
        process.wait(PATIENCE_S)
        os.close(ours)
