"""What a person types: messages of one line or more, from a terminal or from a pipe.

A line that ends with a backslash goes on with the next one; three double quotes begin a text of many lines, and end it.
"""

from __future__ import annotations

import codecs
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from pi_ai.cli.terminal import has_styles, in_daemon_thread, is_terminal, put

_QUOTES = '"""'
_FIRST, _NEXT = "> ", "… "
_READ_BYTES = 65_536
_NO_BRACKETED_PASTE = "\x1b[?2004l"


class Keyboard:
    """Standard input, message by message. Waiting for it never holds up the event loop.

    On a terminal lines are edited with readline where Python has it: history, search, completion.

    :param complete: gives the whole lines that a beginning may become.
    :ivar is_person: somebody sits there: input and output are a terminal.
    """

    def __init__(self, complete: Callable[[str], Sequence[str]]) -> None:
        self.is_person = is_terminal(sys.stdin) and is_terminal(sys.stdout)
        self._complete = complete
        self._lines: list[str] = []
        self._quoted = False
        self._unread = ""
        self._at_end = sys.stdin is None
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")

    async def message(self) -> str | None:
        """The next message; None: there are no more."""
        while True:
            line = await self._line(_NEXT if self._lines or self._quoted else _FIRST)
            if line is None:
                return self._taken() if self._lines else None
            if not (self._lines or self._quoted) and line.lstrip().startswith(_QUOTES):
                self._quoted, line = True, line.lstrip().removeprefix(_QUOTES)
            if not self._quoted:
                self._lines.append(line.removesuffix("\\"))
                if not line.endswith("\\"):
                    return self._taken()
                continue
            ends = line.rstrip().endswith(_QUOTES)
            self._lines.append(line.rstrip().removesuffix(_QUOTES) if ends else line)
            if ends:
                return self._taken()

    def drop(self) -> None:
        """Forget the lines of a message that has not ended."""
        self._taken()

    def _taken(self) -> str:
        text = "\n".join(self._lines)
        if self._quoted:
            text = text.strip("\n")
        self._lines, self._quoted = [], False
        return text

    async def _line(self, prompt: str) -> str | None:
        if not self.is_person:
            return await self._piped_line()
        try:
            return await in_daemon_thread(partial(input, prompt))
        except EOFError:
            sys.stdout.write("\n")
            return None

    async def _piped_line(self) -> str | None:
        # Not sys.stdin.readline: its lock, held by a thread that is left behind, would break the end of the process.
        while "\n" not in self._unread and not self._at_end:
            data = await in_daemon_thread(partial(_raw(sys.stdin).read, _READ_BYTES))
            self._at_end = not data
            self._unread += self._decoder.decode(data or b"", final=self._at_end)
        line, newline, self._unread = self._unread.partition("\n")
        return line.removesuffix("\r") if line or newline else None

    @contextmanager
    def edited(self) -> Generator[None]:
        """A terminal whose lines can be edited, and which afterwards is as it was before."""
        if not self.is_person:
            yield
            return
        try:
            import readline
            import termios
        except ImportError:
            yield
            return
        self._complete_by(readline)
        pastes = has_styles()
        if pastes:  # what is pasted is one message, however many lines it has
            readline.parse_and_bind("set enable-bracketed-paste on")
        before = termios.tcgetattr(sys.stdin)
        try:
            yield
        finally:  # a line may have been left in the middle
            with suppress(termios.error):  # the terminal may be gone
                termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
            if pastes:
                put(_NO_BRACKETED_PASTE)

    def _complete_by(self, readline: Any) -> None:
        found: list[str] = []

        def candidate(word: str, number: int) -> str | None:
            if number == 0:
                before = readline.get_line_buffer()[: readline.get_begidx()]
                found[:] = [line.removeprefix(before) for line in self._complete(before + word)]
            return found[number] if number < len(found) else None

        readline.set_completer_delims(" ")
        readline.set_completer(candidate)
        is_libedit = "libedit" in (readline.__doc__ or "")
        readline.parse_and_bind("bind ^I rl_complete" if is_libedit else "tab: complete")


def _raw(stream: Any) -> Any:
    return stream.buffer.raw
