"""Answers as real servers sent them: what holds for every API's parser."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable
from typing import Any

import httpx
import httpx_sse
import pytest

from pi_ai.adapters.base import Adapter
from pi_ai.builder import MessageBuilder
from pi_ai.errors import PiAIError
from pi_ai.types import Context, Model, ToolCall
from pi_ai_tests.adapters.differences import RECORDINGS
from pi_ai_tests.adapters.golden import check, differing
from pi_ai_tests.adapters.reading import Read, pieces, read
from pi_ai_tests.data import NO_WIRE, recordings

Said = Callable[[Read], dict[str, Any]]


def recorded(api: str) -> pytest.MarkDecorator:
    """Parametrises a test with the recordings of an API: ``meta`` and ``body``."""
    found = [pytest.param(meta, body, id=meta["file"].rsplit(".", 1)[0]) for meta, body in recordings(api)]
    missing = pytest.param(None, None, marks=pytest.mark.skip(reason=NO_WIRE))
    return pytest.mark.parametrize(("meta", "body"), found or [missing])


def arguments(call: ToolCall) -> Any:
    """The arguments of a call, or their text where it is no JSON, as recordings have them."""
    raw = re.search(r"\n\nReceived arguments:\n(.*)", call.arguments_error or "", re.DOTALL)
    return raw[1] if raw else call.arguments


def check_said(found: dict[str, Any], expected: dict[str, Any], meta: dict[str, Any]) -> None:
    """What was read is what the recording says, but for what ``differences.py`` explains."""
    places = {place.removeprefix("."): how for place, how in differing("", found, expected)}
    check(places, RECORDINGS[meta["api"]].get(meta["file"]), meta["file"])


def check_any_cuts(adapter: Adapter[Any], model: Model, meta: dict[str, Any], body: bytes, said: Said) -> None:
    """However its bytes are cut into pieces, an answer reads the same."""
    whole = read(adapter, model, [body])
    by_chance = random.Random(meta["sha256"])
    cuts: list[Iterable[int]] = [sorted(by_chance.choices(range(len(body)), k=50))]
    if "network_chunk_ends" in meta:
        cuts.append(meta["network_chunk_ends"])
    if len(body) < 40_000:
        cuts.append(range(len(body)))  # one byte at a time
    for ends in cuts:
        cut = read(adapter, model, pieces(body, ends))
        assert cut.events[:-1] == whole.events[:-1]
        assert said(cut) == said(whole)
        assert str(cut.error) == str(whole.error)


def check_cut_off(
    adapter: Adapter[Any],
    model: Model,
    meta: dict[str, Any],
    body: bytes,
    said: Said,
    *,
    finished: Callable[[bytes], bool],
    near_the_end: Iterable[int],
) -> list[Read]:
    """An answer that is cut off is never a finished one, and what it says is a beginning of the whole.

    :param finished: whether the whole lines of a body hold the wire's proof of completion; not by our decoder.
    :param near_the_end: places to cut at, beside some by chance.
    :returns: what was read where the proof had not come.
    """
    unproven: list[Read] = []
    whole = said(read(adapter, model, [body]))
    by_chance = random.Random(meta["sha256"])
    for end in [*by_chance.choices(range(len(body)), k=12), *(cut for cut in near_the_end if cut > 0)]:
        cut = read(adapter, model, [body[:end]])
        assert cut.proven == finished(body[:end])
        assert cut.proven or cut.error is not None
        assert whole["text"].startswith(cut.message.text)
        assert whole["thinking"].startswith(cut.message.thinking)
        if not cut.proven:
            unproven.append(cut)
            ended = {event.content_index for event in cut.events if event.type == "toolcall_end"}
            open_calls = [
                block
                for index, block in enumerate(cut.message.content)
                if isinstance(block, ToolCall) and index not in ended
            ]
            assert all(block.arguments_error and not block.arguments for block in open_calls)
    return unproven


def check_httpx_sse(adapter: Adapter[Any], model: Model, body: bytes) -> None:
    """D8: custom providers may read with ``aconnect_sse`` and feed our parsers."""
    response = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=body)
    builder = MessageBuilder(model)
    parser = adapter.parser(model, adapter.options_type(), builder, Context())
    ending = None
    try:
        for event in httpx_sse.EventSource(response).iter_sse():
            payload = parser.decode(event)
            if payload is not None:
                parser.feed(payload)
            if parser.ended:
                break
        parser.close()
    except PiAIError as error:
        ending = error
        builder.interrupt()
    whole = read(adapter, model, [body])
    assert str(ending) == str(whole.error)
    assert builder.message.text == whole.message.text
    assert builder.message.tool_calls == whole.message.tool_calls
