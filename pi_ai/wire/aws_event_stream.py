"""Bytes of an ``application/vnd.amazon.eventstream`` body to frames, sans-IO (bedrock-converse-stream.md section 3).

A frame is a prelude (its length, the length of its headers, a checksum of both), headers, a payload, and a checksum of
all that. Four rules:

* A prelude is believed only if its checksum is right, so that nobody waits for a length that nobody meant (BR13).
* What is no frame is told at once, with its first bytes: often it is another server's answer (F16).
* What is held is bounded by ``max_event_bytes`` (F13), and by what AWS allows.
* A body ends between two frames; all else was cut off (BR14).
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from struct import error as StructError  # noqa: N812 - it names no class
from typing import NamedTuple, TypeAlias
from zlib import crc32

from pi_ai.errors import ErrorKind, PiAIError, failure

HeaderValue: TypeAlias = bool | int | str | bytes
"""Of a header. Timestamps are integer milliseconds since the Unix epoch, UUIDs are 16 bytes."""

MAX_HEADER_BYTES = 128 * 1024
MAX_PAYLOAD_BYTES = 24 * 1024 * 1024
"""Largest headers and largest payload of a frame, as AWS has it."""

_PRELUDE = 12
"""Bytes in front of the headers."""
_LEAST = 16
"""Bytes of the smallest frame: a prelude and the last checksum."""
_MAX_FIRST_BYTE = 1
"""A frame that AWS allows has less than 32 MiB, so that its length begins with a byte of 0 or 1."""
_MAX_KNOWN = 64

_prelude = Struct(">III").unpack_from
_checksum = Struct(">I").unpack_from
_length = Struct(">H").unpack_from
_FLAGS = {0: True, 1: False}
_FIXED = {2: Struct(">b"), 3: Struct(">h"), 4: Struct(">i"), 5: Struct(">q"), 8: Struct(">q"), 9: Struct("16s")}
_BYTES, _TEXT = 6, 7
"""Types of header values: without bytes, with a fixed number of them, and two with their own."""


class Frame(NamedTuple):
    """One message of the stream.

    :ivar headers: by name. Frames share them, so nobody may change them.
    """

    headers: Mapping[str, HeaderValue]
    payload: bytes


class EventStreamDecoder:
    """Decodes one body. Any split of the bytes gives the same frames, then the same failure.

    :param max_event_bytes: largest frame.
    """

    __slots__ = ("_broken", "_held", "_known", "_limit", "_read", "_wanted")

    def __init__(self, max_event_bytes: int = 32 * 1024 * 1024) -> None:
        self._limit = max_event_bytes
        self._held = bytearray()  # of the frame that is not whole yet
        self._wanted = _LEAST  # bytes of it without which nothing more can be said
        self._read = 0
        self._known: dict[bytes, Mapping[str, HeaderValue]] = {}  # frames of one kind have the same headers
        self._broken: _BrokenError | None = None

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next bytes of the body and return the frames that they complete.

        :raises PiAIError: kind ``protocol``: these are no frames, or damaged ones; ``too_large``: one is over the
            limit. Frames before it have been returned. Every later call raises it again.
        """
        if self._broken is not None:
            raise self._broken.failure()
        if self._held:
            self._held += data
            if len(self._held) < self._wanted:
                return []
            data = bytes(self._held)
            self._held.clear()
        frames: list[Frame] = []
        try:
            end = self._frames(data, frames)
        except _BrokenError as broken:
            self._broken = broken
            if not frames:
                raise broken.failure() from None
        else:
            self._read += end
            self._held += data[end:]
        return frames

    def close(self) -> list[Frame]:
        """The body has ended.

        :raises PiAIError: kind ``truncated``: in the middle of a frame; or as in :meth:`feed`.
        """
        held = self._held
        if self._broken is None and held and held[0] > _MAX_FIRST_BYTE:
            self._broken = self._no_frame(held, 0, "there is no length")
        if self._broken is not None:
            raise self._broken.failure()
        if held:
            raise failure(
                "truncated",
                f"The answer was cut off: its last event has {len(held)} bytes, and more should have come",
                text="Bedrock stream ended in the middle of an event",
                phase="end",
            )
        return []

    def _frames(self, data: bytes, frames: list[Frame]) -> int:
        """Append the frames that begin at the start of ``data``, and return where the one begins that is not whole."""
        start, end = 0, len(data)
        known = self._known
        self._wanted = _LEAST
        while end - start >= _LEAST:
            size, header_size, told = _prelude(data, start)
            checksum = crc32(data[start : start + 8])
            if checksum != told:
                raise self._no_frame(data, start, "its prelude has the wrong checksum")
            payload_size = size - header_size - _LEAST
            if header_size > MAX_HEADER_BYTES or size > self._limit or not 0 <= payload_size <= MAX_PAYLOAD_BYTES:
                raise self._wrong_size(data, start, size, header_size)
            last = start + size - 4
            if last > end - 4:
                self._wanted = size
                break
            if crc32(data[start + 8 : last], checksum) != _checksum(data, last)[0]:
                raise self._no_frame(data, start, "it has the wrong checksum")
            at = start + _PRELUDE
            raw = data[at : at + header_size]
            headers = known.get(raw)
            if headers is None:
                headers = self._headers(data, start, raw)
            frames.append(Frame(headers, data[at + header_size : last]))
            start = last + 4
        return start

    def _headers(self, data: bytes, start: int, raw: bytes) -> Mapping[str, HeaderValue]:
        try:
            headers = _headers(raw)
        except ValueError as reason:
            raise self._no_frame(data, start, str(reason)) from None
        if len(self._known) == _MAX_KNOWN:
            self._known.clear()
        self._known[raw] = headers
        return headers

    def _wrong_size(self, data: bytes, start: int, size: int, header_size: int) -> _BrokenError:
        if header_size > MAX_HEADER_BYTES:
            return self._no_frame(
                data, start, f"its headers have {header_size} bytes, at most {MAX_HEADER_BYTES} may be"
            )
        if header_size > size - _LEAST:
            return self._no_frame(data, start, f"its headers have {header_size} bytes, and all of it only {size}")
        if size > self._limit:
            advice = "if that is expected, raise max_event_bytes"
            return _BrokenError("too_large", f"The server sent an event of more than {self._limit} bytes; {advice}")
        return self._no_frame(
            data, start, f"it has {size} bytes, and at most {MAX_PAYLOAD_BYTES} may be in its payload"
        )

    def _no_frame(self, data: bytes | bytearray, start: int, reason: str) -> _BrokenError:
        shown = data[start : start + _LEAST].hex(" ")
        text = f"Expected a frame of an AWS event stream at byte {self._read + start}, got {shown}: {reason}"
        return _BrokenError("protocol", text if self._read + start else f"{text}; check the base URL")


class _BrokenError(Exception):
    """Why nothing more can be decoded."""

    def __init__(self, kind: ErrorKind, sentence: str) -> None:
        super().__init__(sentence)
        self._kind: ErrorKind = kind
        self._sentence = sentence

    def failure(self) -> PiAIError:
        return failure(self._kind, self._sentence, phase="stream")


def _headers(raw: bytes) -> dict[str, HeaderValue]:
    """The headers of a frame; text that is no UTF-8 holds U+FFFD (F12).

    :raises ValueError: they cannot be told apart, or one comes twice.
    """
    headers: dict[str, HeaderValue] = {}
    at = 0
    try:
        while at < len(raw):
            begin = at + 1
            at = begin + raw[at]
            name = raw[begin:at].decode("utf-8", "replace")
            kind = raw[at]
            at += 1
            value: HeaderValue
            if kind in _FLAGS:
                value = _FLAGS[kind]
            elif kind in _FIXED:
                (value,) = _FIXED[kind].unpack_from(raw, at)
                at += _FIXED[kind].size
            elif kind in (_BYTES, _TEXT):
                begin = at + 2
                at = begin + _length(raw, at)[0]
                value = raw[begin:at]
                if kind == _TEXT:
                    value = value.decode("utf-8", "replace")
            else:
                raise ValueError(f"its header {name!r} is of the unknown type {kind}")
            if name in headers:
                raise ValueError(f"its header {name!r} comes twice")
            headers[name] = value
    except (IndexError, StructError):
        at = len(raw) + 1
    if at > len(raw):
        raise ValueError("its last header is longer than its headers")
    return headers
