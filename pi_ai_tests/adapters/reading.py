"""Reads bytes with an adapter's decoder and parser, without a socket, and checks that the events are in order."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import attrs

from pi_ai.adapters.base import Adapter
from pi_ai.builder import REDACTED, MessageBuilder
from pi_ai.errors import PiAIError
from pi_ai.events import StreamEvent
from pi_ai.types import AssistantMessage, Context, Model


@attrs.define
class Read:
    """What came of a body.

    :ivar error: how it ended, None: well.
    """

    events: list[StreamEvent]
    message: AssistantMessage
    error: PiAIError | None
    proven: bool

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.events]

    @property
    def deltas(self) -> list[str]:
        return [event.delta for event in self.events if event.type.endswith("_delta")]


def read(adapter: Adapter[Any], model: Model, parts: Iterable[bytes], context: Context | None = None) -> Read:
    """Feed pieces of a body to a fresh decoder and parser, as the driver does."""
    options = adapter.options_type()
    builder = MessageBuilder(model)
    decoder, parser = adapter.decoder(options), adapter.parser(model, options, builder, context or Context())
    events: list[StreamEvent] = []
    error = None
    try:
        for part in [*parts, None]:
            for wire_event in decoder.close() if part is None else decoder.feed(part):
                payload = parser.decode(wire_event)
                if payload is not None:
                    events += parser.feed(payload)
                if parser.ended:
                    break
            if parser.ended:
                break
        events += parser.close()
    except PiAIError as raised:
        error = raised
        builder.interrupt()
    check_grammar(events, ended=error is None)
    return Read(events, builder.message, error, parser.proven)


def pieces(body: bytes, ends: Iterable[int]) -> list[bytes]:
    """A body cut after each of ``ends``."""
    edges = [0, *ends, len(body)]
    return [body[start:end] for start, end in pairwise(edges)]


def check_grammar(events: Iterable[StreamEvent], *, ended: bool) -> None:
    """Fail unless the events are in order (core E1-E7), up to ``done`` if the stream has ``ended`` well."""
    opened: dict[int, list[str]] = {}
    closed: set[int] = set()
    seen = [event.type for event in events]
    assert not seen or seen[0] == "start"
    assert seen.count("start") <= 1
    for event in events:
        kind, _, step = event.type.partition("_")
        if step == "start":
            assert event.content_index == len(opened)
            opened[event.content_index] = [kind]
        elif step:
            assert opened[event.content_index][0] == kind
            assert event.content_index not in closed
            if step == "delta":
                assert event.delta
                opened[event.content_index].append(event.delta)
            else:
                closed.add(event.content_index)
                deltas = "".join(opened[event.content_index][1:])
                assert kind == "toolcall" or event.content == (deltas or (REDACTED if event.content else ""))  # E8
    assert ("done" in seen) is ended
    if ended:
        assert seen.index("done") == len(seen) - 1
        assert closed == opened.keys()
