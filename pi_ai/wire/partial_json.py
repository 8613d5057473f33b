"""The arguments of a tool call while their JSON text is still coming (core section 12).

Two readers with two duties. **While it streams** a tolerant one shows what can be read so far: it never raises, takes
every piece of text once, and remembers where it stands (J1, J4). **When it is complete** a strict one decides: a valid
object, or no arguments and the reason why, so that a cut-off call can never run (J2, reliability F19, F78).
"""

from __future__ import annotations

import json
import re
from typing import Any, cast

from pi_ai.text import MAX_DEPTH, decode_json, parse_json_with_repair, repair_json, sanitize_surrogates
from pi_ai.types import JSONObject

_QUOTED_HEAD, _QUOTED_TAIL = 2000, 200
"""Characters of the text that an error quotes (J3)."""

_FREE, _SHARE = 16 * 1024, 64
"""A view is copied at once as long as that costs ``_FREE`` (in characters); larger ones when 1/``_SHARE`` is new."""

_ITEM = 8
"""What it costs to copy one member of a container, in characters."""


class PartialArguments:
    """Collects the JSON text of one call."""

    __slots__ = ("_pieces", "_seen", "_view")

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._seen = 0  # pieces that the view has taken
        self._view = _View()

    def append(self, text: str) -> None:
        """Take the next piece of the text."""
        self._pieces.append(text)

    @property
    def text(self) -> str:
        """All text so far, as it came."""
        return "".join(self._pieces)

    @property
    def value(self) -> JSONObject:
        """What can be read of the arguments so far; ``{}`` until an object appears (J1).

        A new dict whenever it changes; one that was returned never changes again. Reading it after every piece costs
        linear time in total: where a value has grown large, the view may lag behind by 1/64 of it (J4).
        """
        if len(self._pieces) > self._seen:
            self._view.feed("".join(self._pieces[self._seen :]))
            self._seen = len(self._pieces)
        return self._view.value

    def finish(self) -> tuple[JSONObject, str | None]:
        """The text is complete: the arguments, or ``{}`` and why there are none (J2). Blank text means no arguments."""
        text = sanitize_surrogates(self.text)
        if not text.strip():
            return {}, None
        try:
            value = parse_json_with_repair(text)
        except ValueError as error:
            return {}, self._refusal(str(error))
        if not isinstance(value, dict):
            return {}, self._refusal("Tool arguments must be a JSON object")
        return cast("JSONObject", value), None

    def interrupted(self) -> str:
        """The stream failed before the text was complete: what ``arguments_error`` says of such a call (F19)."""
        return self._refusal("The stream ended before the arguments were complete")

    def _refusal(self, reason: str) -> str:
        text = sanitize_surrogates(self.text)
        if (cut := len(text) - _QUOTED_HEAD - _QUOTED_TAIL) > 0:
            text = f"{text[:_QUOTED_HEAD]}\n[… {cut} characters left out …]\n{text[-_QUOTED_TAIL:]}"
        return f"{reason}\n\nReceived arguments:\n{text}"


# One token, after blanks and colons, which only separate. The last two groups begin what the next piece may go on with.
_TOKEN = re.compile(
    r"""[\s:]* (?P<comma>,?) [\s:,]*
    (?: "(?P<text>[^"\\]*+)"
      | (?P<scalar>[^\s:,"{}\[\]]++) (?=[\s:,"{}\[\]])
      | (?P<open>[{\[])
      | (?P<close>[}\]])
      | (?P<string>")
      | (?P<word>(?=.))
    )?""",
    re.VERBOSE | re.DOTALL,
)
_WORD = re.compile(r'[^\s:,"{}\[\]]*')
# As much of a string as can be understood: no escape that may go on, and no high surrogate before what follows it.
_STRING = re.compile(
    r"""[^"\\]*+
    (?: (?! \\ (?: u (?: [0-9a-fA-F]{0,3} | [dD][89abAB][0-9a-fA-F]{2} (?: \\ (?: u [0-9a-fA-F]{0,3} )? )? ) )? \Z)
        \\. [^"\\]*+ )*+""",
    re.VERBOSE | re.DOTALL,
)
_LITERALS = ("true", "false", "null")
_UNFINISHED_NUMBER = re.compile(r"(?<=[0-9])(?:\.|[eE][+-]?)\Z")
_STRINGS = json.JSONDecoder(strict=False)
_NOTHING: Any = object()


class _View:
    """A tolerant reader that goes on where it stopped.

    Containers wait on a stack while they are open and join their parent when they close: everything inside of one is
    final. The view is a copy of the open ones, with the string or word that is being written at its end. What makes no
    sense is left out where it stands: a value without a key, a key without a value, a word that is no JSON.
    """

    __slots__ = ("_keys", "_new", "_parts", "_rest", "_size", "_stack", "_writing", "value")

    def __init__(self) -> None:
        self.value: JSONObject = {}
        # At the bottom, what stands outside of the arguments, prose for instance: they are the first dict in it.
        self._stack: list[dict[str, Any] | list[Any]] = [[]]
        self._keys: list[str | None] = [None]  # beside _stack: the key whose value comes next
        self._writing = ""  # "string", "word" or nothing
        self._parts: list[str] = []  # the text of it, without escapes
        self._size = 0  # characters in _parts
        self._rest = ""  # what cannot be understood without the next piece
        self._new = 0  # characters that came since the last copy

    def feed(self, text: str) -> None:
        """Take the next piece, and bring ``value`` up to date if that is worth its cost."""
        self._new += len(text)
        self._read(text)
        cost = self._size + _ITEM * sum(map(len, self._stack))
        if self._stack and cost <= _FREE + _SHARE * self._new:
            self._show()

    def _read(self, text: str) -> None:
        text, self._rest = self._rest + text, ""
        if "\ud800" <= text[-1:] <= "\udbff":
            text, self._rest = text[:-1], text[-1]
        text = sanitize_surrogates(text)
        at = 0
        while self._stack and at < len(text):
            if self._writing == "string":
                at = self._read_string(text, at)
            elif self._writing == "word":
                at = self._read_word(text, at)
            else:
                at = self._read_token(text, at)

    def _read_token(self, text: str, at: int) -> int:
        token = _TOKEN.match(text, at)
        assert token  # every part may be empty
        kind = token.lastgroup
        if token["comma"]:
            self._keys[-1] = None
        if kind == "text":
            self._add(token["text"])
        elif kind == "scalar":
            self._add(_scalar(token["scalar"]))
        elif kind == "open":
            self._open({} if token["open"] == "{" else [])
        elif kind == "close":
            self._close()
        elif kind == "string" or kind == "word":
            self._writing = kind
        return token.end()

    def _read_string(self, text: str, at: int) -> int:
        run = _STRING.match(text, at)
        assert run  # it may be empty
        self._write(_unescaped(run[0]))
        at = run.end()
        if at == len(text):
            return at
        if text[at] == '"':
            self._add(self._written())
            return at + 1
        self._rest = text[at:] + self._rest
        return len(text)

    def _read_word(self, text: str, at: int) -> int:
        run = _WORD.match(text, at)
        assert run  # it may be empty
        self._write(run[0])
        if run.end() < len(text):
            self._add(_scalar(self._written()))
        return run.end()

    def _write(self, text: str) -> None:
        self._parts.append(text)
        self._size += len(text)

    def _written(self) -> str:
        text = "".join(self._parts)
        self._writing, self._parts, self._size = "", [], 0
        return text

    def _open(self, container: dict[str, Any] | list[Any]) -> None:
        if len(self._stack) > MAX_DEPTH:
            self._show()
            self._stack.clear()
        else:
            self._stack.append(container)
            self._keys.append(None)

    def _close(self) -> None:
        if len(self._stack) == 1:
            return
        container = self._stack.pop()
        self._keys.pop()
        self._add(container)
        if len(self._stack) == 1 and isinstance(container, dict):
            self.value = container
            self._stack.clear()

    def _add(self, value: Any) -> None:
        top, key = self._stack[-1], self._keys[-1]
        if isinstance(top, list):
            if value is not _NOTHING:
                top.append(value)
        elif key is not None:
            self._keys[-1] = None
            if value is not _NOTHING:
                top[key] = value
        elif isinstance(value, str):
            self._keys[-1] = value

    def _show(self) -> None:
        child = self._unfinished()
        for container, key in zip(reversed(self._stack), reversed(self._keys), strict=True):
            shown = container.copy()
            if child is not _NOTHING:
                if isinstance(shown, list):
                    shown.append(child)
                elif key is not None:
                    shown[key] = child
            child = shown
        found = [cast("JSONObject", item) for item in child if isinstance(item, dict)]
        self.value = found[0] if found else {}
        self._new = 0

    def _unfinished(self) -> Any:
        if not self._writing:
            return _NOTHING
        text = "".join(self._parts)
        self._parts = [text]
        if self._writing == "string":
            return text
        literal = next((literal for literal in _LITERALS if literal.startswith(text)), None)
        return _scalar(literal or _UNFINISHED_NUMBER.sub("", text))


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    try:
        return _STRINGS.decode(f'"{text}"')
    except ValueError:
        return _STRINGS.decode(repair_json(f'"{text}"'))


def _scalar(word: str) -> Any:
    try:
        return decode_json(word)
    except ValueError:
        return _NOTHING
