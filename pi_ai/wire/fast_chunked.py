"""The chunked transfer coding by a parser in C (extra ``speed``): the same, in a quarter of the time or less.

The only importer of httptools; importing this module fails where it is missing or too old.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

from httptools import HttpParserError, HttpResponseParser

from pi_ai.wire.chunked import MAX_FRAMING_BYTES, ChunkedDecoder

if not hasattr(HttpResponseParser, "set_dangerous_leniencies"):
    raise ImportError("httptools is older than 0.6.4")

_HEAD = b"HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
"""The parser reads whole answers. Behind such a head there is a chunked body, and behind that nothing."""


class FastChunkedDecoder(ChunkedDecoder):
    """See :class:`~pi_ai.wire.chunked.ChunkedDecoder`."""

    __slots__ = ("_ends", "_framing", "_parser")

    def __init__(self) -> None:
        super().__init__()
        self._framing = 0  # bytes since the last one of the body
        self._ends: list[None] = []
        # None of these knows this object: without a cycle it goes as soon as its answer does.
        self._parser = HttpResponseParser(
            SimpleNamespace(on_body=self._pieces.append, on_message_complete=partial(self._ends.append, None))
        )
        self._parser.set_dangerous_leniencies(lenient_spaces_after_chunk_size=True)
        self._parser.feed_data(_HEAD)

    def _read(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            if not self._ends:
                raise ValueError(str(error)) from error
            self.surplus = True
        if self._ends:
            self.ended = True
        elif self._pieces:
            self._framing = 0
        else:
            self._framing += len(data)
            if self._framing > MAX_FRAMING_BYTES:
                raise ValueError(f"no byte of the body in {self._framing}")
