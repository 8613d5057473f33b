"""Words for people on a terminal, which obeys control characters: those from outside are escaped (reliability X20)."""

from __future__ import annotations

import re
import sys
from contextlib import suppress

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]|\r(?!\n)")


def escaped(text: str) -> str:
    r"""Control characters as ``\u001b``, which is what they are inside of JSON, too."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def say(text: str) -> None:
    """One line on standard error."""
    with suppress(OSError, AttributeError):  # where there is none, or nobody reads it
        sys.stderr.write(escaped(" ".join(text.split())) + "\n")
        sys.stderr.flush()
