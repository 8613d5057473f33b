"""Markdown on a terminal, while it streams (extra ``cli``: rich).

A finished block is printed once and stays; only the last one, which still grows, is drawn again and again. So a long
answer scrolls as any other output, and costs no more than its longest block.
"""

from __future__ import annotations

import re
import time
from typing import Any

from pi_ai.cli.terminal import TextOutput, escaped
from pi_ai.events import DoneEvent, ErrorEvent, StreamEvent, TextDeltaEvent, ThinkingDeltaEvent

_REDRAW_S = 1 / 15
"""Pause between two drawings of a block."""

_FENCE = re.compile(r"^ {0,3}(```+|~~~+)", re.MULTILINE)
_GAP = re.compile(r"\n[ \t]*\n+(?=[^\s\-*+>\d])")
"""A blank line after which something new begins: no further paragraph or item of a list or a quotation."""


def end_of_block(text: str) -> int:
    """Where the first finished block of a Markdown text ends, its blank lines included; 0: it may go on."""
    for gap in _GAP.finditer(text):
        if len(_FENCE.findall(text, 0, gap.start())) % 2 == 0:
            return gap.end()
    return 0


class MarkdownOutput:
    """Shows an answer; :meth:`close` it, whatever happens.

    :raises ImportError: rich is not installed.
    """

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._thoughts = TextOutput()
        self._text = ""
        self._console: Any = Console(highlight=False)
        self._new_live = lambda: Live(console=self._console, auto_refresh=False, transient=True)
        self._live: Any = None
        self._drawn_at = 0.0
        self._is_first = True

    def show(self, event: StreamEvent) -> None:
        """Write what an event brings."""
        match event:
            case ThinkingDeltaEvent():
                self.close()
                self._thoughts.show(event)
                self._is_first = False
            case TextDeltaEvent(delta=text):
                self._thoughts.end()
                self._text += text
                while end := end_of_block(self._text):
                    block, self._text = self._text[:end], self._text[end:]
                    self._print(block)
                self._draw()
            case DoneEvent() | ErrorEvent():
                self._thoughts.end()
                self.close()
            case _:
                pass

    def close(self) -> None:
        """Print what has come, and give the terminal back."""
        text, self._text = self._text, ""
        self._print(text)

    def _print(self, block: str) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        if block.strip():
            if not self._is_first:
                self._console.print()
            self._is_first = False
            self._console.print(_rendered(block))

    def _draw(self) -> None:
        now = time.monotonic()
        if not self._text.strip() or now - self._drawn_at < _REDRAW_S:
            return
        if self._live is None:
            self._live = self._new_live()
            self._live.start()
        self._live.update(_rendered(self._text), refresh=True)
        self._drawn_at = now


def _rendered(text: str) -> Any:
    """Markdown whose links show where they lead (X20)."""
    from rich.markdown import Markdown

    return Markdown(escaped(text), hyperlinks=False)
