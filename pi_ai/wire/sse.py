"""Bytes of a ``text/event-stream`` body to events, sans-IO (D8, reliability F1-F7, F13, F14, F20).

The format is the WHATWG standard's, on bytes: a line ends at LF, CR or CRLF and nowhere else, so text may hold U+2028
or U+0085; UTF-8 is decoded only when its line is whole, and bytes that are none become U+FFFD (F12). Four rules are
our own:

* Nothing is held back. A CR ends its line at once, whether or not an LF follows in the next piece (F3).
* The end of the body is a blank line: it completes an event whose lines are all whole. A line without its end is
  dropped, be it ``data: [DONE]``, because nobody can know that it was all (F20); the standard drops the event too.
* A line ``error: …`` is an event of that name: GPUStack reports failures so, and the standard would drop it.
* What is held is bounded. An event, or a line, over ``max_event_bytes`` is refused as ``too_large`` (F13).
"""

from __future__ import annotations

from httpx_sse import ServerSentEvent

from pi_ai.errors import PiAIError, failure

_BOM = b"\xef\xbb\xbf"
_CR, _COLON = b"\r:"


class _Event(ServerSentEvent):
    """The same event, whose fields are no properties: reading one costs no call."""

    __slots__ = ("data", "event", "id", "retry")

    def __init__(self, event: str, data: str, id: str, retry: int | None) -> None:  # noqa: A002 - the field's name
        self.event, self.data, self.id, self.retry = event, data, id, retry  # pyright: ignore[reportAttributeAccessIssue, reportIncompatibleMethodOverride] - there they are properties


class SSEDecoder:
    """Decodes one body. Any split of the bytes gives the same events, then the same failure.

    Blocks without data give no event; an empty ``data`` line is data, as in the standard. ``event`` is ``message``
    unless the server named it, ``id`` is the last one that it told, ``retry`` (ms) stands in the event whose block told
    it.

    :param max_event_bytes: largest event: the lines of its data, without their ends.
    """

    __slots__ = (
        "_after_cr",
        "_at_rest",
        "_begun",
        "_data",
        "_event",
        "_held",
        "_id",
        "_limit",
        "_line",
        "_over",
        "_retry",
    )

    def __init__(self, max_event_bytes: int = 32 * 1024 * 1024) -> None:
        self._limit = max_event_bytes
        self._line: bytearray = bytearray()  # the line that has not ended yet
        self._data: bytes | bytearray = b""  # of the event that has not ended yet
        self._held = 0  # bytes of the lines in _data
        self._event = ""
        self._id = ""
        self._retry: int | None = None
        self._begun = False  # past the place of a byte order mark
        self._after_cr = False
        self._at_rest = False  # between two events, and nothing that came matters to the next
        self._over = False

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Take the next bytes of the body and return the events that they complete.

        :raises PiAIError: kind ``too_large``; events before it have been returned. Every later call raises it again.
        """
        if _CR in data or (self._after_cr and data):
            data = self._with_lf_only(data)
        if self._at_rest and data.endswith(b"\n\n") and len(data) <= self._limit:
            if data.startswith(b"data: ") and data.find(b"\n") == len(data) - 2:  # one event, as most packets hold
                return [_Event("message", data[6:-2].decode("utf-8", "replace"), "", None)]
            events = _usual_events(data.decode("utf-8", "replace"))
            if events is not None:
                return events
        return self._read(data)

    def close(self) -> list[ServerSentEvent]:
        """The body has ended: return the event that only lacks its blank line.

        :raises PiAIError: kind ``too_large``, as in :meth:`feed`.
        """
        self._line.clear()
        return self._read(b"\n")

    def _with_lf_only(self, data: bytes) -> bytes:
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
        self._after_cr = data.endswith(b"\r")
        lines = data.splitlines()  # of bytes: at LF, CR and CRLF alone
        if data.endswith((b"\r", b"\n")):
            lines.append(b"")
        return b"\n".join(lines)

    def _read(self, data: bytes) -> list[ServerSentEvent]:
        if self._over:
            raise self._too_large()
        if not self._begun:
            data = bytes(self._line) + data
            self._line.clear()
            if data != _BOM and _BOM.startswith(data):
                self._line += data
                return []
            data = data.removeprefix(_BOM)
            self._begun = True
        events: list[ServerSentEvent] = []
        lines: list[bytes | bytearray] = [*data.split(b"\n")]
        rest = lines.pop()
        if lines and self._line:
            self._line += lines[0]
            lines[0] = self._line
            self._line = bytearray()
        for line in lines:
            if not line:
                if self._held:
                    text = self._data.decode("utf-8", "replace")
                    events.append(_Event(self._event or "message", text, self._id, self._retry))
                    self._data = b""
                    self._held = 0
                self._event = ""
                self._retry = None
                continue
            if self._held + len(line) > self._limit:
                self._over = True
                break
            field, _, value = line.partition(b": ")
            if _COLON in field:  # no space behind the first colon
                field, _, value = line.partition(b":")
            if field == b"error":
                self._event, field = "error", b"data"
            if field == b"data":
                if not self._held:
                    self._data = value
                else:
                    if isinstance(self._data, bytes):
                        self._data = bytearray(self._data)
                    self._data += b"\n"
                    self._data += value
                self._held += len(line)
            elif field == b"event":
                self._event = value.decode("utf-8", "replace")
            elif field == b"id":
                if b"\0" not in value:
                    self._id = value.decode("utf-8", "replace")
            elif field == b"retry" and value.isdigit() and len(value) < 16:  # int() refuses thousands of digits
                self._retry = int(value)
        if rest:
            self._line += rest
            self._over = self._over or self._held + len(self._line) > self._limit
        self._at_rest = not (rest or self._held or self._event or self._id or self._retry is not None or self._over)
        if self._over:
            self._line.clear()
            self._data = b""
            if not events:
                raise self._too_large()
        return events

    def _too_large(self) -> PiAIError:
        return failure(
            "too_large",
            f"The server sent an event of more than {self._limit} bytes; if that is expected, raise max_event_bytes",
            phase="stream",
        )


def _usual_events(text: str) -> list[ServerSentEvent] | None:
    """What nearly every packet is made of, in half the time: whole events of one line of data, with or without a name.

    None: there is something else in it.
    """
    events: list[ServerSentEvent] = []
    at = 0
    while at < len(text):
        name = "message"
        if text.startswith("event: ", at):
            end = text.find("\n", at)
            name = text[at + 7 : end] or name
            at = end + 1
        if not text.startswith("data: ", at):
            return None
        end = text.find("\n", at)
        if text[end + 1] != "\n":
            return None
        events.append(_Event(name, text[at + 6 : end], "", None))
        at = end + 2
    return events
