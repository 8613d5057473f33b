"""Reading from people and writing to them: what the commands share.

Text from outside is never trusted: where a terminal would obey its control characters, they are escaped (reliability
X20). What blocks runs in a daemon thread, which neither holds up the event loop nor outlives the process.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import NoReturn, TypeVar

import anyio
from anyio import from_thread
from anyio.lowlevel import current_token

from pi_ai.events import DoneEvent, ErrorEvent, StreamEvent, TextDeltaEvent, ThinkingDeltaEvent
from pi_ai.types import AssistantMessage

T = TypeVar("T")

OK, FAILED, WRONG, INTERRUPTED, READER_LEFT = 0, 1, 2, 130, 141
"""Exit statuses, see :mod:`pi_ai.cli`."""

DIM, NOT_DIM = "\x1b[2m", "\x1b[22m"

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]|\r(?!\n)")


def escaped(text: str) -> str:
    r"""Control characters as ``\u001b``, which is what they are inside of JSON, too."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def say(text: str) -> None:
    """One line on standard error."""
    with suppress(OSError, AttributeError):  # where there is none, or nobody reads it
        sys.stderr.write(escaped(" ".join(text.split())) + "\n")
        sys.stderr.flush()


def fail(sentence: str) -> int:
    """Say why a command has failed.

    :returns: its exit status.
    """
    say(f"pi-ai: {sentence}")
    return FAILED


def put(text: str) -> None:
    """Write on standard output, at once."""
    print(text, end="", flush=True)


def reconfigure(stream: object, **settings: str | None) -> None:
    """Set how a standard stream encodes, unless it is None or something that has no encoding."""
    change = getattr(stream, "reconfigure", None)
    if change is not None:
        change(**settings)


def discard_output() -> None:
    """Standard output cannot be written; the interpreter would try again at its end, and complain."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def is_terminal(stream: object) -> bool:
    """Whether a standard stream is a terminal; None is none."""
    isatty = getattr(stream, "isatty", None)
    return isatty is not None and isatty()


def has_styles() -> bool:
    """Whether standard output is a terminal that may be sent escape sequences."""
    return is_terminal(sys.stdout) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class TextOutput:
    """The text of an answer as it arrives. On a terminal also the thoughts, dimmed."""

    def __init__(self) -> None:
        self._terminal = is_terminal(sys.stdout)
        dims = has_styles()
        self._before = {"thinking": DIM} if dims else {}
        self._after = {"thinking": NOT_DIM} if dims else {}
        self._kind = ""
        self._at_line_start = True

    def show(self, event: StreamEvent) -> None:
        """Write what an event brings."""
        match event:
            case TextDeltaEvent(delta=text):
                self._write("text", text)
            case ThinkingDeltaEvent(delta=text) if self._terminal:
                self._write("thinking", text)
            case DoneEvent() | ErrorEvent():
                self.end()
            case _:
                pass

    def end(self) -> None:
        """End the line, and the style. What follows begins anew."""
        put(self._after.get(self._kind, "") + ("" if self._at_line_start else "\n"))
        self._kind, self._at_line_start = "", True

    def _write(self, kind: str, text: str) -> None:
        if kind != self._kind:
            gap = "" if not self._kind else "\n" if self._at_line_start else "\n\n"
            put(self._after.get(self._kind, "") + gap + self._before.get(kind, ""))
            self._kind = kind
        put(escaped(text) if self._terminal else text)
        self._at_line_start = text.endswith("\n")


def dollars(amount: float) -> str:
    """A cost in as many digits as it needs, six at most."""
    digits = f"{amount:.6f}".rstrip("0").rstrip(".")
    return f"${digits}"


def summary(message: AssistantMessage) -> str:
    """An answer's figures in one line."""
    usage = message.usage
    prompt = usage.input + usage.cache_read + usage.cache_write
    cached = f" ({usage.cache_read} cached)" if usage.cache_read else ""
    told = f"{prompt} tokens in{cached}, {usage.output} out, {dollars(usage.cost.total)}"
    ending = {"length": ", cut off at the token limit", "aborted": ", aborted", "error": ", failed"}
    return (
        f"{message.provider}/{message.model}: {told if usage.total_tokens else 'tokens unknown'}, "
        f"{(message.duration_ms or 0) / 1000:.1f} s{ending.get(message.stop_reason, '')}"
    )


async def in_daemon_thread(work: Callable[[], T]) -> T:
    """Run something that blocks and that nothing can stop. Cancelled, it is left behind.

    anyio's own worker threads are waited for at the end of the process, for as long as a resolver or a keyboard takes.
    """
    token = current_token()
    done = anyio.Event()
    outcome: list[Callable[[], T]] = []

    def run() -> None:
        try:
            value = work()
            outcome.append(lambda: value)
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            outcome.append(partial(_raise, error))
        with suppress(RuntimeError):  # the event loop has ended
            from_thread.run_sync(done.set, token=token)

    threading.Thread(target=run, daemon=True).start()
    await done.wait()
    return outcome[0]()


def _raise(error: BaseException) -> NoReturn:
    raise error
