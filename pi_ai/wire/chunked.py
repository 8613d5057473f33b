"""The chunked transfer coding (RFC 9112 section 7.1), sans-IO: what stands between the events of nearly every answer.

All the pieces of one read come out as one, so that what follows is paid once a read and not once a chunk. Bytes of the
body are never held back; what is held of the framing is bounded (reliability F76).
"""

from __future__ import annotations

import re

MAX_FRAMING_BYTES = 16 * 1024
"""Most that may come without a byte of the body: a chunk's size with its extensions, or trailers."""

_LINE_END = b"\r\n"
_TOKEN = rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+"
_EXTENSION = rb";+%b(?:=(?:%b|\"(?:[\t !#-\[\]-~]|\\[\t -~])*\"))?" % (_TOKEN, _TOKEN)
_SIZE = re.compile(rb"(0*[0-9A-Fa-f]{1,16})[ \t]*(?:%b)*\r\n" % _EXTENSION)
_SIZE_BEGUN = re.compile(rb"[0-9A-Fa-f]*|[0-9A-Fa-f]+[ \t]*(?:;[^\r\n]*)?\r?")
_TRAILERS = re.compile(rb"(?:(?!content-length:)%b:[\t -~\x80-\xff]*\r\n)*\r\n" % _TOKEN, re.IGNORECASE)


class ChunkedDecoder:
    """Decodes one body. Any split of the bytes gives the same body, then the same failure.

    :ivar ended: the body is whole, its trailers included.
    :ivar surplus: more has come than the body. Empty lines do not count.
    :ivar failure: why what has come is no chunked body. What stood before is part of it; what follows is not read.
    """

    __slots__ = ("_held", "_last", "_left", "_pieces", "ended", "failure", "surplus")

    def __init__(self) -> None:
        self.ended = False
        self.surplus = False
        self.failure: str | None = None
        self._pieces: list[bytes] = []  # of the body, in what is being read
        self._left = 0  # of the chunk that has begun, and of the line end behind it
        self._last = False  # the chunk that says so was seen; only trailers may follow
        self._held = b""  # framing that has not come whole

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes of the connection and return what they hold of the body."""
        if self.failure is None:
            try:
                self._read(data)
            except ValueError as error:
                self.failure = str(error)
        pieces = self._pieces
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        return body

    def _read(self, data: bytes) -> None:
        if self._held:
            data, self._held = self._held + data, b""
        at = self._go_on(data, 0) if self._left else 0
        while at < len(data) and not self._last:
            line = _SIZE.match(data, at)
            if line is None:
                rest = data[at:]
                self._hold(rest, _SIZE_BEGUN.fullmatch(rest) is not None, "illegal chunk header")
                return
            at = line.end()
            size = int(line[1], 16)
            if not size:
                self._last = True
            elif data.startswith(_LINE_END, at + size):
                self._pieces.append(data[at : at + size])
                at += size + 2
            else:
                self._left = size + 2
                at = self._go_on(data, at)
        if self._last:
            self._finish(data[at:])

    def _go_on(self, data: bytes, at: int) -> int:
        """Take what there is of the chunk that has begun; where it ends."""
        end = at + self._left
        if self._left > 2 and at < len(data):
            self._pieces.append(data[at : end - 2])
        came = data[max(at, end - 2) : end]
        if not _LINE_END[-self._left :].startswith(came):
            raise ValueError(f"malformed chunk footer: {came!r}")
        self._left = max(0, end - len(data))
        return end

    def _finish(self, data: bytes) -> None:
        if not self.ended:
            trailers = _TRAILERS.match(data)
            if trailers is None:
                whole = data.startswith(_LINE_END) or _LINE_END * 2 in data
                self._hold(data, not whole, "illegal trailers")
                return
            self.ended = True
            data = data[trailers.end() :]
        self.surplus = self.surplus or bool(data.strip(_LINE_END))

    def _hold(self, rest: bytes, may_go_on: bool, wrong: str) -> None:
        if not may_go_on or len(rest) > MAX_FRAMING_BYTES:
            raise ValueError(f"{wrong}: {rest[:40]!r}")
        self._held = rest
