"""Text and JSON hygiene: what leaves is valid UTF-8 and valid JSON, what comes is read strictly (core section 11).

Python strings can hold UTF-16 surrogates as single code points; JSON from JavaScript brings them, and encoding them
raises. They are kept while a message is streaming (the other half may be in the next delta) and cleaned on the way out.
"""

from __future__ import annotations

import json
import math
import re
from array import array
from collections.abc import Iterable
from functools import cache
from sys import getrecursionlimit
from types import NoneType
from typing import Any, cast

from pi_ai.types import AssistantContent, ImageContent, TextContent

MAX_DEPTH = 200
"""Deepest nesting that is read. jiter's own limit, kept for what it does not read itself."""

_SURROGATE = re.compile("[\ud800-\udfff]")


# ── text ─────────────────────────────────────────────────────────────────────────────────────────────────────


def sanitize_surrogates(text: str) -> str:
    """Join surrogate pairs to the character that they mean and remove lone surrogates (S1); other text is untouched."""
    if text.isascii() or not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")


def content_text(content: str | Iterable[TextContent | ImageContent | AssistantContent]) -> str:
    """The text of a message's content: its text blocks joined with LF, everything else left out (X7)."""
    if isinstance(content, str):
        return content
    return "\n".join(block.text for block in content if isinstance(block, TextContent))


def short_hash(text: str) -> str:
    """At most 14 characters ``[a-z0-9]`` that stand for ``text``: the same ones as in pi. Not for secrets."""
    a, b = 0xDEADBEEF, 0x41C6CE57
    for unit in array("H", text.encode("utf-16", "surrogatepass"))[1:]:  # native order, after the byte order mark
        a = (a ^ unit) * 0x9E3779B1 & 0xFFFFFFFF
        b = (b ^ unit) * 0x5F356495 & 0xFFFFFFFF
    a = _stir(a, 16, 0x85EBCA6B) ^ _stir(b, 13, 0xC2B2AE35)
    b = _stir(b, 16, 0x85EBCA6B) ^ _stir(a, 13, 0xC2B2AE35)
    return _base36(b) + _base36(a)


def _stir(state: int, shift: int, factor: int) -> int:
    return (state ^ state >> shift) * factor & 0xFFFFFFFF


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return digits or "0"


# ── writing JSON ─────────────────────────────────────────────────────────────────────────────────────────────

_dumps = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def sanitized(value: Any) -> Any:
    """:func:`sanitize_surrogates` for every string in JSON data, keys included (S2).

    Returns ``value`` itself where nothing has to change, and never changes it.
    """
    if isinstance(value, str):
        return sanitize_surrogates(value)
    if isinstance(value, dict):
        fields = cast("dict[Any, Any]", value)
        pairs = [(sanitized(key), sanitized(item)) for key, item in fields.items()]
        same = all(
            key is old_key and item is old for (key, item), (old_key, old) in zip(pairs, fields.items(), strict=True)
        )
        return fields if same else dict(pairs)
    if isinstance(value, (list, tuple)):
        old_items = cast("list[Any]", value)
        items = [sanitized(item) for item in old_items]
        return old_items if all(item is old for item, old in zip(items, old_items, strict=True)) else items
    return value


def encode_json(value: Any) -> bytes:
    """JSON data as it is sent: compact, UTF-8, without surrogates (S2, S3).

    :raises TypeError: something in it is no JSON. ``ValueError``: a number is not finite, or the nesting has no end.
        Both name the place.
    """
    try:
        try:
            return _dumps(value).encode()
        except UnicodeEncodeError:
            return _dumps(sanitized(value)).encode()
    except (TypeError, ValueError, RecursionError) as error:
        reason = str(error)
    raise _unfit(value) or ValueError(f"$ cannot be written as JSON: {reason}")


def _unfit(value: Any) -> Exception | None:
    """The first thing that JSON cannot hold, in the order in which the encoder meets it."""
    todo: list[tuple[str, int, Any]] = [("$", 0, value)]
    while todo:
        path, depth, item = todo.pop()
        if depth > getrecursionlimit():
            return ValueError(f"{path[:80]}… is nested too deeply, or holds itself")
        if isinstance(item, dict):
            fields = cast("dict[Any, Any]", item)
            for key in fields:
                if not isinstance(key, (str, int, float, NoneType)):
                    return TypeError(f"the keys of {path} must be str, not {type(key).__name__}")
            todo += reversed([(f"{path}.{key}", depth + 1, child) for key, child in fields.items()])
        elif isinstance(item, (list, tuple)):
            items = cast("list[Any]", item)
            todo += reversed([(f"{path}[{index}]", depth + 1, child) for index, child in enumerate(items)])
        elif isinstance(item, float) and not math.isfinite(item):
            return ValueError(f"{path} must be a finite number, not {item}")
        elif not isinstance(item, (str, int, float, NoneType)):
            kinds = "dict, list, str, int, float, bool or None"
            return TypeError(f"{path} must be JSON data ({kinds}), not {type(item).__name__}")
    return None


# ── reading JSON ─────────────────────────────────────────────────────────────────────────────────────────────

# A number is too large for a float only with three digits of exponent, or with 200 before its point. Both show in an
# outline of the text: digits as 0, E as e, + left out, all else blank. (A regex on the text costs ten times more.)
_OUTLINE = bytes(48 if byte in b"0123456789" else 101 if byte in b"eE" else 32 for byte in range(256))
_large_exponent = re.compile(b"0e000").search
_MANY_DIGITS = b"0" * 200

_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_ESCAPE = re.compile(r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})|[\\\x00-\x1f]')


@cache
def _jiter() -> Any:
    from jiter import from_json  # 3 ms, so on first use

    return from_json


def decode_json(data: str | bytes) -> Any:
    """Read JSON strictly (S4, F12, F73): no ``NaN``, no number too large for a float, bounded nesting, exact integers.

    Bytes that are no UTF-8 become U+FFFD; lone surrogates, escaped or not, stay in the text.

    :raises ValueError: it is not JSON; the message says what and where.
    """
    try:
        raw = data.encode() if isinstance(data, str) else data
        value = _jiter()(raw, allow_inf_nan=False)
        outline = raw.translate(_OUTLINE, b"+")
        suspect = _large_exponent(outline) or (len(raw) > 200 and _MANY_DIGITS in outline)
        return _checked(value) if suspect else value
    except ValueError:
        # What jiter refuses is judged again by json: it takes lone surrogates, and its messages are better known.
        pass
    text = data if isinstance(data, str) else data.decode("utf-8", "replace")
    try:
        return _checked(json.loads(text))
    except RecursionError:
        raise _too_deep() from None


def _checked(value: Any) -> Any:
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below += cast("dict[str, Any]", item).values()
            elif isinstance(item, list):
                below += cast("list[Any]", item)
            elif isinstance(item, float) and not math.isfinite(item):
                raise ValueError("JSON holds NaN, Infinity, or a number too large for a float")
        if not below:
            return value
        level = below
    raise _too_deep()


def _too_deep() -> ValueError:
    return ValueError(f"JSON is nested deeper than {MAX_DEPTH} levels")


def parse_json_with_repair(text: str) -> Any:
    """:func:`decode_json`, and once more with :func:`repair_json` where that fails (S5).

    :raises ValueError: of the first try.
    """
    try:
        return decode_json(text)
    except ValueError as error:
        reason = error
    repaired = repair_json(text)
    if repaired != text:
        try:
            return decode_json(repaired)
        except ValueError:
            pass
    raise reason


def repair_json(text: str) -> str:
    """Escape control characters in string literals, and double backslashes that escape nothing (S5)."""
    return _STRING.sub(lambda literal: _ESCAPE.sub(_escaped, literal[0]), text)


def _escaped(match: re.Match[str]) -> str:
    found = match[0]
    if len(found) > 1:
        return found
    return r"\\" if found == "\\" else f"\\u{ord(found):04x}"
