"""Bytes of JSON objects that follow each other to single objects, sans-IO (reliability F13-F15, F20).

What stands between them means nothing, the brackets and commas of an array included: a stream that is one JSON array
comes out element by element, each as soon as its last byte is there. An object without its end is dropped.
"""

from __future__ import annotations

import re

from httpx_sse import ServerSentEvent

from pi_ai.errors import PiAIError, failure

_MARK = re.compile(rb'[{}"]')
_TEXT = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_QUOTE, _OPEN = b'"{'


class JSONDocuments:
    """Splits one body. Any split of its bytes gives the same events, then the same failure.

    Whether an object is JSON is not judged here, only where it ends. Each is the ``data`` of an event, so that parsers
    need not know which framing it came in.

    :param max_event_bytes: largest object.
    """

    __slots__ = ("_after_backslash", "_depth", "_held", "_in_text", "_limit", "_over")

    def __init__(self, max_event_bytes: int = 32 * 1024 * 1024) -> None:
        self._limit = max_event_bytes
        self._held = bytearray()  # of the object that has not ended yet
        self._depth = 0
        self._in_text = False
        self._after_backslash = False
        self._over = False

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Take the next bytes of the body and return the objects that they complete.

        :raises PiAIError: kind ``too_large``; objects before it have been returned. Every later call raises it again.
        """
        if self._over:
            raise self._too_large()
        events: list[ServerSentEvent] = []
        begin = 0  # of the open object, as far as it lies in these bytes
        at = 1 if self._after_backslash and data else 0
        self._after_backslash = self._after_backslash and not data
        while at < len(data):
            if self._in_text:
                at = self._end_of_text(data, at)
                continue
            mark = _MARK.search(data, at)
            if mark is None:
                break
            at = mark.end()
            if data[at - 1] == _QUOTE:
                self._in_text = True
            elif data[at - 1] == _OPEN:
                begin = begin if self._depth else at - 1
                self._depth += 1
            elif self._depth:
                self._depth -= 1
                if not self._depth:
                    self._held += data[begin:at]
                    if len(self._held) > self._limit:
                        return self._stop(events)
                    events.append(ServerSentEvent(data=self._held.decode("utf-8", "replace")))
                    self._held.clear()
        if self._depth:
            self._held += data[begin:]
            if len(self._held) > self._limit:
                return self._stop(events)
        return events

    def close(self) -> list[ServerSentEvent]:
        """The body has ended; nothing of it is left that would be whole."""
        return []

    def _end_of_text(self, data: bytes, at: int) -> int:
        """Go on in a string, to behind its end or the end of the bytes."""
        found = _TEXT.match(data, at)
        assert found is not None
        end = found.end()
        if end < len(data):
            self._in_text = data[end] != _QUOTE
            self._after_backslash = self._in_text
            end += 1
        return end

    def _stop(self, events: list[ServerSentEvent]) -> list[ServerSentEvent]:
        self._over = True
        self._held.clear()
        if not events:
            raise self._too_large()
        return events

    def _too_large(self) -> PiAIError:
        return failure(
            "too_large",
            f"The server sent an object of more than {self._limit} bytes; if that is expected, raise max_event_bytes",
            phase="stream",
        )
