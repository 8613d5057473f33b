"""Writes frames of an AWS event stream, by hand and not by the code that reads them."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any
from zlib import crc32

Header = tuple[str, int, Any]
"""Name, number of its type, value."""

_NUMBERS = {2: ">b", 3: ">h", 4: ">i", 5: ">q", 8: ">q"}


def header(name: str, kind: int, value: Any = None) -> bytes:
    """One header; of the kinds 6 and 7 the value is bytes."""
    head = bytes([len(name.encode())]) + name.encode() + bytes([kind])
    if kind in _NUMBERS:
        return head + struct.pack(_NUMBERS[kind], value)
    if kind in (6, 7):
        return head + struct.pack(">H", len(value)) + value
    return head + (value or b"")


def framed(headers: bytes, payload: bytes = b"", *, prelude: bytes | None = None) -> bytes:
    """A frame around headers that are bytes already.

    :param prelude: the two lengths, where they shall not be the right ones.
    """
    start = prelude or struct.pack(">II", len(headers) + len(payload) + 16, len(headers))
    body = start + struct.pack(">I", crc32(start)) + headers + payload
    return body + struct.pack(">I", crc32(body))


def frame(headers: Mapping[str, str] | Sequence[Header], payload: bytes = b"") -> bytes:
    """A frame; a mapping means headers of text."""
    if isinstance(headers, Mapping):
        headers = [(name, 7, value.encode()) for name, value in headers.items()]
    return framed(b"".join(header(*each) for each in headers), payload)


def event(name: str, payload: Any) -> bytes:
    """An event: its name and its JSON, or the bytes in the place of that."""
    data = payload if isinstance(payload, bytes) else json.dumps(payload, ensure_ascii=False).encode()
    kinds = {":event-type": name, ":content-type": "application/json", ":message-type": "event"}
    return frame(kinds, data)


def exception(name: str, payload: Any) -> bytes:
    """An exception that the service models."""
    data = payload if isinstance(payload, bytes) else json.dumps(payload, ensure_ascii=False).encode()
    kinds = {":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}
    return frame(kinds, data)


def error(code: str, message: str) -> bytes:
    """An error that it does not model."""
    return frame({":error-code": code, ":error-message": message, ":message-type": "error"})
