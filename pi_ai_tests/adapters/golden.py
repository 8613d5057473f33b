"""Runs goldens against an adapter, and says in which parts the outcome differs from what pi-ai did.

A golden is one call (``goldens/README.md``). The parts, most important first: ``refused`` (whether a request is made
at all, and the error text if not), ``url``, ``headers``, ``body`` of the request; ``events`` and ``message`` of the
answer. Known differences, each with its reason, are in ``differences.py``.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import attrs
import pytest

from pi_ai.adapters.base import Adapter, Request
from pi_ai.builder import MessageBuilder
from pi_ai.errors import PiAIError, failure
from pi_ai.events import ErrorEvent, StreamEvent
from pi_ai.headers import identity_headers, merge_headers
from pi_ai.serialization import from_json, to_json
from pi_ai.text import decode_json, encode_json
from pi_ai.types import Context, Model, RequestOptions, StreamOptions
from pi_ai_tests.adapters.reading import pieces
from pi_ai_tests.data import goldens

LEFT_OUT = ("user-agent", "content-length", "host", "connection", "accept-encoding")
"""Headers that goldens do not hold."""

EVENT_FIELDS = ("type", "contentIndex", "delta", "content", "toolCall", "reason")
"""What is compared of an event. ``partialArguments`` may lag behind, in pi as here."""

OURS = ("errorInfo", "attempts", "durationMs")
"""Fields of a message that pi does not have, or that goldens leave out."""


@attrs.frozen
class Call:
    """The call of a golden as objects."""

    model: Model
    context: Context
    options: RequestOptions


@attrs.frozen
class Outcome:
    """What came of an answer, as plain JSON."""

    events: list[dict[str, Any]]
    message: dict[str, Any]


def cases(api: str, prefix: str = "") -> list[Any]:
    """The goldens of an API as parameters of a test, those of one category only if ``prefix`` is given."""
    chosen = [golden for golden in goldens(api) if golden["category"].startswith(prefix)]
    return [pytest.param(golden, id=golden["name"]) for golden in chosen]


def streamed(golden: dict[str, Any]) -> bool:
    """Whether the last response is an answer (and no HTTP error, and not one that is never asked for)."""
    responses = golden["responses"]
    return bool(golden["expected"].get("requests") and responses and responses[-1].get("status", 200) < 400)


def call_of(adapter: Adapter[Any], golden: dict[str, Any]) -> Call:
    """The call as objects, its options lowered where the golden's are portable."""
    model, context = from_json(Model, golden["model"]), from_json(Context, golden["context"])
    given = golden["options"]
    secret = {"api_key": given.get("apiKey"), "env": given.get("env")}  # never read from JSON
    if golden["mode"] == "stream":
        return Call(model, context, attrs.evolve(from_json(adapter.options_type, given), **secret))
    portable = attrs.evolve(from_json(StreamOptions, given), **secret)
    return Call(model, context, adapter.lower(model, context, portable))


# ── the request ──────────────────────────────────────────────────────────────────────────────────────────────


def request_differences(adapter: Adapter[Any], golden: dict[str, Any]) -> dict[str, str]:
    """The places in which the first request differs, and how."""
    expected = golden["expected"]
    try:
        call = call_of(adapter, golden)
        built = adapter.build_request(call.model, call.context, call.options)
    except PiAIError as error:
        same = not expected.get("requests") and error.text == expected["message"].get("errorMessage")
        return {} if same else {"refused": error.text}
    if not expected.get("requests"):
        return {"refused": "it was not"}
    wanted = expected["requests"][0]
    return {
        **dict(differing("url", normal_url(built.url), normal_url(wanted["url"]))),
        **dict(differing("headers", sent_headers(call, built), wanted["headers"])),
        **dict(differing("body", sent_body(built), wanted["body"])),
    }


def sent_headers(call: Call, built: Request) -> dict[str, str]:
    """The headers of a request as goldens write them."""
    identity = identity_headers(call.model, call.options.identity, call.options.session_id)
    headers = {name.lower(): value for name, value in merge_headers(identity, built.headers).items()}
    return {name: value for name, value in headers.items() if name not in LEFT_OUT}


def sent_body(built: Request) -> Any:
    """The body as the server reads it."""
    return json.loads(encode_json(built.body))


def normal_url(url: str) -> str:
    """Host names are one whatever their case."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.lower()))


# ── the answer ───────────────────────────────────────────────────────────────────────────────────────────────


def answer_differences(adapter: Adapter[Any], golden: dict[str, Any]) -> dict[str, str]:
    """The places in which the answer differs, and how."""
    call = call_of(adapter, golden)
    abort = isinstance((golden.get("control") or {}).get("abort"), int)
    outcome = replay(adapter, call, golden["responses"][-1], abort=abort)
    expected = golden["expected"]
    wanted = dict(expected["message"])
    if "errorMessage" in golden.get("loose", ()):
        wanted["errorMessage"] = outcome.message.get("errorMessage")
    events = [{key: event[key] for key in EVENT_FIELDS if key in event} for event in expected["events"]]
    return {**dict(differing("events", outcome.events, events)), **dict(differing("message", outcome.message, wanted))}


def replay(adapter: Adapter[Any], call: Call, response: dict[str, Any], *, abort: bool = False) -> Outcome:
    """Feed a response to the adapter's decoder and parser, and end as the driver does."""
    builder = MessageBuilder(call.model, timestamp=0)
    events: list[StreamEvent] = []
    try:
        for batch in _batches(adapter, call, response, builder, abort=abort):
            events += batch
    except PiAIError as error:
        message = builder.interrupt()
        message.stop_reason = "aborted" if abort else "error"
        message.error_message = error.text
        events.append(ErrorEvent(message.stop_reason, message))
    message = to_json(builder.message)
    for diagnostic in message.get("diagnostics", ()):
        diagnostic["timestamp"] = 0
    return Outcome([_shown(event) for event in events], {k: v for k, v in message.items() if k not in OURS})


def _batches(
    adapter: Adapter[Any], call: Call, response: dict[str, Any], builder: MessageBuilder, *, abort: bool
) -> Iterator[list[StreamEvent]]:
    parser = adapter.parser(call.model, call.options, builder, call.context)
    body = base64.b64decode(response["bodyBase64"]) if "bodyBase64" in response else response.get("body", "").encode()
    if "json" in response.get("headers", {}).get("content-type", ""):
        yield parser.feed(decode_json(body))
        yield parser.close()
        return
    decoder = adapter.decoder(call.options)
    for piece in [*pieces(body, _cuts(response.get("chunkSizes", ()))), None]:
        wire_events = decoder.close() if piece is None else decoder.feed(piece)
        for wire_event in wire_events:
            payload = parser.decode(wire_event)
            if payload is not None:
                yield parser.feed(payload)
            if parser.ended:
                break
        if parser.ended:
            break
    if abort:
        raise failure("aborted", "Request was aborted")
    if response.get("end") == "drop" and not parser.proven:
        raise failure("disconnected", "The connection broke")
    yield parser.close()


def _cuts(sizes: Iterable[int]) -> list[int]:
    ends = [0]
    for size in sizes:
        ends.append(ends[-1] + size)
    return ends[1:]


def _shown(event: StreamEvent) -> dict[str, Any]:
    data = to_json(event)
    return {key: data[key] for key in EVENT_FIELDS if key in data}


# ── comparing ────────────────────────────────────────────────────────────────────────────────────────────────


def check(found: dict[str, str], known: tuple[tuple[str, ...], str] | None, name: str) -> None:
    """Fail unless all that differs is explained, and all that is explained differs.

    :param found: places that differ, and how.
    :param known: the entry of ``differences.py``: places (what lies in them is explained, too), and the reason.
    """
    explained = known[0] if known else ()
    news = [f"{place}: {how}" for place, how in found.items() if not any(_lies_in(place, outer) for outer in explained)]
    assert not news, f"{name} differs:\n" + "\n".join(news)
    stale = [outer for outer in explained if not any(_lies_in(place, outer) for place in found)]
    assert not stale, f"{name} does not differ any more in {', '.join(stale)}: take that out of differences.py"


def of_parts(known: tuple[tuple[str, ...], str] | None, *parts: str) -> tuple[tuple[str, ...], str] | None:
    """An entry without what it explains of other parts, which are for another test."""
    return known and (tuple(place for place in known[0] if any(_lies_in(place, part) for part in parts)), known[1])


def _lies_in(place: str, outer: str) -> bool:
    return place == outer or place.startswith((f"{outer}.", f"{outer}["))


def differing(place: str, ours: Any, theirs: Any) -> Iterator[tuple[str, str]]:
    """The places where two JSON values differ, and how. Floats are compared loosely (K6)."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in [*theirs, *(key for key in ours if key not in theirs)]:
            if key not in ours or key not in theirs:
                yield f"{place}.{key}", f"only ours, {ours[key]!r}" if key in ours else f"ours lacks {theirs[key]!r}"
            else:
                yield from differing(f"{place}.{key}", ours[key], theirs[key])
    elif isinstance(ours, list) and isinstance(theirs, list):
        for index, (our, their) in enumerate(zip(ours, theirs, strict=False)):
            yield from differing(f"{place}[{index}]", our, their)
        if len(ours) != len(theirs):
            yield place, f"{len(ours)} items, not {len(theirs)}"
    elif not _equal(ours, theirs):
        yield place, f"{ours!r}, not {theirs!r}"


def _equal(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, bool) or isinstance(theirs, bool):
        return ours is theirs
    if isinstance(ours, (int, float)) and isinstance(theirs, (int, float)):
        return math.isclose(ours, theirs, rel_tol=1e-9)
    return ours == theirs
