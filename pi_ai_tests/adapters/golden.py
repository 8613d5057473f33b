"""Runs goldens against an adapter, and says in which parts the outcome differs from what pi-ai did.

A golden is one call (``goldens/README.md``). The parts, most important first: ``refused`` (whether a request is made
at all, and the error text if not), ``url``, ``headers``, ``body`` of the request; ``events`` and ``message`` of the
answer. Known differences, each with its reason, are in ``differences.py``.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import anyio
import attrs
import pytest

from pi_ai.adapters.base import Adapter, Request
from pi_ai.builder import MessageBuilder
from pi_ai.errors import PiAIError, failure
from pi_ai.events import ErrorEvent, StreamEvent
from pi_ai.failures import request_id
from pi_ai.headers import identity_headers, merge_headers
from pi_ai.serialization import from_json, to_json
from pi_ai.text import decode_json, encode_json
from pi_ai.transport import HttpRequest
from pi_ai.types import Context, Model, RequestOptions, StreamOptions
from pi_ai_tests.adapters.differences import EVERYWHERE
from pi_ai_tests.adapters.reading import pieces
from pi_ai_tests.data import goldens
from pi_ai_tests.google_account import service_account_file

LEFT_OUT = (
    *("user-agent", "content-length", "host", "connection", "accept-encoding"),
    "anthropic-dangerous-direct-browser-access",
    "x-amz-date",
)
"""Headers that goldens do not hold, and one that only browsers need."""

_SIGNATURE = re.compile(r"(AWS4-HMAC-SHA256 Credential=[^/]+/)[^/]+(/[^,]+).*")
"""A signature of AWS; goldens hold its scope without the date."""

_ACCOUNT = "$SERVICE_ACCOUNT_FILE"

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
    secret = {"api_key": given.get("apiKey"), "env": environment(given)}  # never read from JSON
    if golden["mode"] == "stream":
        return Call(model, context, attrs.evolve(from_json(adapter.options_type, given), **secret))
    portable = attrs.evolve(from_json(StreamOptions, given), **secret)
    return Call(model, context, adapter.lower(model, context, portable))


def environment(given: dict[str, Any]) -> dict[str, str] | None:
    """The ``env`` among given options; where it names a service account, there is one."""
    env = given.get("env")
    if not env or _ACCOUNT not in env.values():
        return env
    return {name: service_account_file() if value == _ACCOUNT else value for name, value in env.items()}


# ── the request ──────────────────────────────────────────────────────────────────────────────────────────────


def request_differences(adapter: Adapter[Any], golden: dict[str, Any], *, authorized: bool = False) -> dict[str, str]:
    """The places in which the first request differs, and how.

    :param authorized: compare what leaves, with its signature.
    """
    expected = golden["expected"]
    if (golden.get("control") or {}).get("abort") == "before":
        return {}
    try:
        call = call_of(adapter, golden)
        built = adapter.build_request(call.model, call.context, call.options)
    except PiAIError as error:
        told = expected.get("throws") or expected["message"].get("errorMessage")
        same = not expected.get("requests") and error.text == told
        return {} if same else {"refused": error.text}
    if not expected.get("requests"):
        return {"refused": "it was not"}
    wanted, merged = expected["requests"][0], (golden.get("control") or {}).get("mergePayload", {})
    if authorized:
        request = HttpRequest(url=built.url, headers=merge_headers(built.headers), body=encode_json(built.body))
        request = anyio.run(adapter.authorize, request, call.model, call.options)
        built = attrs.evolve(built, url=request.url, headers=dict(request.headers))
    found = {
        **dict(differing("url", normal_url(built.url), normal_url(wanted["url"]))),
        **dict(differing("headers", sent_headers(call, built), kept(wanted["headers"]))),
        **dict(differing("body", {**sent_body(built), **merged}, wanted["body"])),
    }
    return unlisted(golden, found)


def sent_headers(call: Call, built: Request) -> dict[str, str]:
    """The headers of a request as goldens write them."""
    identity = identity_headers(call.model, call.options.identity, call.options.session_id)
    return kept({name.lower(): value for name, value in merge_headers(identity, built.headers).items()})


def kept(headers: dict[str, str]) -> dict[str, str]:
    """The headers that are compared."""
    return {name: _SIGNATURE.sub(r"\1<date>\2", value) for name, value in headers.items() if name not in LEFT_OUT}


def sent_body(built: Request) -> Any:
    """The body as the server reads it."""
    return json.loads(encode_json(built.body))


def normal_url(url: str) -> str:
    """Host names are one whatever their case; ``beta=true`` is an SDK's."""
    parts = urlsplit(url)
    query = parts.query if parts.query != "beta=true" else ""
    return urlunsplit(parts._replace(netloc=parts.netloc.lower(), query=query))


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
    ours, theirs = (loosened(golden, pair) for pair in ([outcome.events, outcome.message], [events, wanted]))
    found = {**dict(differing("events", ours[0], theirs[0])), **dict(differing("message", ours[1], theirs[1]))}
    return unlisted(golden, found)


def loosened(golden: dict[str, Any], value: Any) -> Any:
    """JSON data without the words of a JSON parser, where the golden's are JavaScript's."""
    if "argumentsError" not in golden.get("loose", ()):
        return value
    if isinstance(value, list):
        return [loosened(golden, item) for item in value]
    if isinstance(value, dict):
        said = {key: loosened(golden, item) for key, item in value.items()}
        if "argumentsError" in said:
            said["argumentsError"] = said["argumentsError"].partition("Received arguments:")[2]
        return said
    return value


def replay(adapter: Adapter[Any], call: Call, response: dict[str, Any], *, abort: bool = False) -> Outcome:
    """Feed a response to the adapter's decoder and parser, and end as the driver does."""
    builder = MessageBuilder(call.model, timestamp=0)
    events: list[StreamEvent] = []
    headers = response.get("headers", {})
    adapter.answered(builder.message, headers)
    try:
        for batch in _batches(adapter, call, response, builder, abort=abort):
            events += batch
    except PiAIError as error:
        message = builder.interrupt()
        message.stop_reason = "aborted" if abort else "error"
        message.error_message = error.text
        if note := adapter.diagnose(attrs.evolve(error.info, request_id=request_id(headers))):
            message.add_diagnostic(note)
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


def unlisted(golden: dict[str, Any], found: dict[str, str]) -> dict[str, str]:
    """What differs in a golden without what differs in all of its API."""
    everywhere = EVERYWHERE.get(golden["api"], ((), ""))[0]
    return {place: how for place, how in found.items() if not any(_lies_in(place, outer) for outer in everywhere)}


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
