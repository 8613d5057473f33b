"""How an answer is sent, whatever it says: slowly, in odd pieces, broken off at any byte, or not at all.

Knows wire events as bytes, and nothing of any API.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Mapping
from typing import Literal, TypeAlias

import anyio
import attrs

from pi_ai.testing.server import Answer
from pi_ai.testing.wires.base import Rendered, WireEvent

Then: TypeAlias = Literal["end", "close", "reset", "stall"]
LineEnd: TypeAlias = Literal["\n", "\r\n", "\r"]

_no_less_than_0 = attrs.validators.ge(0.0)
_at_least_0 = attrs.validators.ge(0)
_at_least_1 = attrs.validators.ge(1)
_optional = attrs.validators.optional


@attrs.frozen(kw_only=True)
class Delivery:
    """How an answer is sent. Combine at will::

        Delivery(tokens_per_second=50, first_token_delay_s=0.3)     # like a model
        Delivery(stop_after=3, then="reset")                        # three pieces, then TCP RST
        Delivery(cut_at=1000, then="close")                         # 1000 bytes, then the connection is gone
        Delivery(first_token_delay_s=math.inf, keep_alive_s=0.1)    # keep-alives only, for ever
        Delivery(head_delay_s=math.inf)                             # accepted, never answered

    Times are on the event loop's clock; ``math.inf`` is for ever.

    :ivar head_delay_s: seconds before status and headers.
    :ivar first_token_delay_s: seconds from there to the first piece of content.
    :ivar tokens_per_second: pieces of content a second; default: as fast as the client reads.
    :ivar keep_alive_s: in every silence longer than this the wire's keep-alive is sent, again and again.
    :ivar stop_after: no more than this many pieces of content are sent.
    :ivar cut_at: no more than this many bytes of the body are sent, as they go over the wire.
    :ivar then: what follows, there or after everything: the body's proper ``end``, a ``close`` in the middle of a
        chunk, a ``reset``, or a ``stall``: nothing, until the client leaves.
    :ivar mark: False: without ``data: [DONE]``, ``message_stop``, or whatever is last on the wire.
    :ivar events_per_write: wire events that are sent as one chunk.
    :ivar bytes_per_write: largest chunk; 1: every byte is a write of its own.
    :ivar line_end: of event streams; default: the provider's.
    :ivar gzip: compress the body, flushed at each wire event.
    :ivar streamed: False: one JSON document, although a stream was asked for.
    :ivar headers: in addition to the answer's own, or instead of them, such as a wrong content type; None removes one.
    """

    head_delay_s: float = attrs.field(default=0.0, validator=_no_less_than_0)
    first_token_delay_s: float = attrs.field(default=0.0, validator=_no_less_than_0)
    tokens_per_second: float = attrs.field(default=math.inf, validator=attrs.validators.gt(0.0))
    keep_alive_s: float = attrs.field(default=math.inf, validator=attrs.validators.gt(0.0))
    stop_after: int | None = attrs.field(default=None, validator=_optional(_at_least_0))
    cut_at: int | None = attrs.field(default=None, validator=_optional(_at_least_0))
    then: Then = attrs.field(default="end", validator=attrs.validators.in_(("end", "close", "reset", "stall")))
    mark: bool = True
    events_per_write: int = attrs.field(default=1, validator=_at_least_1)
    bytes_per_write: int | None = attrs.field(default=None, validator=_optional(_at_least_1))
    line_end: LineEnd | None = attrs.field(
        default=None, validator=_optional(attrs.validators.in_(("\n", "\r\n", "\r")))
    )
    gzip: bool = False
    streamed: bool = True
    headers: Mapping[str, str | None] = attrs.field(factory=dict[str, "str | None"])


async def deliver(rendered: Rendered, delivery: Delivery, answer: Answer) -> None:
    """Send an answer."""
    await _wait(delivery.head_delay_s)
    headers = {**rendered.headers, **delivery.headers, **({"content-encoding": "gzip"} if delivery.gzip else {})}
    await answer.head(rendered.status, {name: value for name, value in headers.items() if value is not None})
    body = _Body(delivery, answer, rendered.keep_alive)
    await _send(_shaped(rendered, delivery), delivery, body)
    await body.flush()
    match delivery.then:
        case "end":
            await body.finish()
            await answer.end()
        case "close":
            await answer.raw(b"ff\r\n")  # a chunk that never comes
            await answer.close()
        case "reset":
            await answer.reset()
        case "stall":
            await body.silence(until=math.inf)


def _shaped(rendered: Rendered, delivery: Delivery) -> list[WireEvent]:
    events = [event for event in rendered.events if delivery.mark or event.part != "mark"]
    if delivery.line_end is None or not rendered.headers["content-type"].startswith("text/event-stream"):
        return events
    end = delivery.line_end.encode()
    return [WireEvent(re.sub(rb"\r\n|\n", end, event.data), event.part) for event in events]


async def _send(events: list[WireEvent], delivery: Delivery, body: _Body) -> None:
    """Send wire events at the wanted pace, until they end, or shall."""
    begun = anyio.current_time() + delivery.first_token_delay_s
    pieces = 0
    for event in events:
        if pieces == delivery.stop_after and (pieces or event.part == "piece"):
            return
        if event.part == "piece":
            await body.silence(until=begun + pieces / delivery.tokens_per_second)
            pieces += 1
        if not await body.add(event.data):
            return


async def _wait(seconds: float) -> None:
    if seconds == math.inf:
        await anyio.sleep_forever()
    elif seconds > 0:
        await anyio.sleep(seconds)


class _Body:
    """The body on its way: compressed, cut, and in writes of the wanted size."""

    def __init__(self, delivery: Delivery, answer: Answer, keep_alive: bytes) -> None:
        self._delivery = delivery
        self._answer = answer
        self._keep_alive = keep_alive
        self._gzip = zlib.compressobj(wbits=31) if delivery.gzip else None
        self._left: float = math.inf if delivery.cut_at is None else delivery.cut_at
        self._held: list[bytes] = []

    async def add(self, data: bytes) -> bool:
        """Take a wire event. False: the body is cut here."""
        if self._gzip is not None:
            data = self._gzip.compress(data) + self._gzip.flush(zlib.Z_SYNC_FLUSH)
        return await self._take(data)

    async def finish(self) -> None:
        """Everything was added."""
        if self._gzip is not None:
            await self._take(self._gzip.flush())
            await self.flush()

    async def flush(self) -> None:
        """Send what is held."""
        data = b"".join(self._held)
        self._held.clear()
        size = self._delivery.bytes_per_write or len(data)
        for at in range(0, len(data), size or 1):
            await self._answer.send(data[at : at + size])

    async def silence(self, *, until: float) -> None:
        """Wait until then, on the event loop's clock, keeping the connection alive."""
        while (left := until - anyio.current_time()) > 0:
            await _wait(min(left, self._delivery.keep_alive_s))
            if self._delivery.keep_alive_s < left:
                await self.add(self._keep_alive)
                await self.flush()

    async def _take(self, data: bytes) -> bool:
        if len(data) >= self._left:
            data = data[: int(self._left)]
        self._left -= len(data)
        self._held.append(data)
        if len(self._held) >= self._delivery.events_per_write:
            await self.flush()
        return self._left > 0
