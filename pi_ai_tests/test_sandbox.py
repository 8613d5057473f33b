"""The sandbox (D16): what it says is what the providers say, and it breaks exactly as it is told.

Every wire is parametrised; the tests that read through an adapter run as soon as pi_ai speaks the API.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import subprocess
import sys
import threading
import tomllib
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple, get_args

import anyio
import attrs
import httpx
import pytest
import trio.testing
from anyio.abc import SocketStream
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pi_ai.testing
from pi_ai import (
    AssistantMessage,
    ConfigError,
    Context,
    Registry,
    TextContent,
    TextDeltaEvent,
    ThinkingContent,
    Timeouts,
    Tool,
    ToolCall,
    Usage,
    UserMessage,
    complete,
    complete_sync,
    stream,
)
from pi_ai.testing import (
    Delivery,
    Failure,
    Page,
    RawToolCall,
    Sandbox,
    SandboxRequest,
    Turn,
    sandbox_model,
    wire_events,
)
from pi_ai.testing.wires import WIRES
from pi_ai.types import KnownApi
from pi_ai.wire.aws_event_stream import EventStreamDecoder, Frame
from pi_ai_tests.data import NO_WIRE, WIRE, recordings

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[1]
APIS = [api for api in WIRES if api in get_args(KnownApi)]
"""Those that pi_ai speaks, too."""


class Said(NamedTuple):
    """How somebody else's client speaks a wire, and what a test has to know of its answers.

    :ivar path: where it asks for a stream. ``whole``: where it does not, if the path tells.
    :ivar proof: what in a stream proves that the answer is complete.
    :ivar vendor: whose recordings are the model. ``lacks``: counts that the wire does not have, and signatures.
    :ivar single: an answer has one text and one thought, or neighbours of one kind become one.
    """

    path: str
    proof: bytes
    vendor: str
    whole: str = ""
    lacks: Sequence[str] = ()
    single: bool = False
    messages: str = "messages"
    content: str = "content"


SAID = {
    "openai-completions": Said("/chat/completions", b'"finish_reason":"stop"', "openai", single=True),
    "anthropic-messages": Said("/v1/messages", b"event: message_stop", "anthropic"),
    "openai-responses": Said("/responses", b"event: response.completed", "openai", messages="input"),
    "azure-openai-responses": Said(
        "/responses?api-version=v1", b"event: response.completed", "openai", messages="input"
    ),
    "google-generative-ai": Said(
        "/models/m:streamGenerateContent?alt=sse",
        b'"finishReason"',
        "google",
        "/models/m:generateContent",
        lacks=["cache_write"],
        single=True,
        messages="contents",
        content="parts",
    ),
    "google-vertex": Said(
        "/v1/projects/p/locations/eu/publishers/google/models/m:streamGenerateContent?alt=sse",
        b'"finishReason"',
        "google-vertex",
        "/v1/publishers/google/models/m:generateContent",
        lacks=["cache_write"],
        single=True,
        messages="contents",
        content="parts",
    ),
    "mistral-conversations": Said(
        "/v1/chat/completions",
        b'"finish_reason":"stop"',
        "mistral",
        lacks=["cache_write", "reasoning", "signature"],
        single=True,
    ),
    "bedrock-converse-stream": Said(
        "/model/m/converse-stream", b"messageStop", "amazon-bedrock", "/model/m/converse", lacks=["reasoning"]
    ),
}
"""One line a wire."""
CONTEXT = Context([UserMessage("What is the weather?")])
CALL = ToolCall("call_1", "weather", {"city": "Oslo", "days": [1, 2]})
USAGE = Usage(100, 12, reasoning=5, total_tokens=112)
TURN = Turn(
    [ThinkingContent("Let me think about it.", "c2ln"), "Let me look it up.", CALL], usage=USAGE, response_id="r"
)
NO_CLOCKS = Timeouts(**dict.fromkeys((field.name for field in attrs.fields(Timeouts)), None))

every_wire = pytest.mark.parametrize("api", WIRES)
every_api = pytest.mark.parametrize("api", APIS)
every_text_wire = pytest.mark.parametrize(
    "api", [api for api, wire in WIRES.items() if "event-stream" in wire.media_type]
)


async def ask(box: Sandbox, api: str = "openai-completions", **options: Any) -> AssistantMessage:
    return await complete(box.model(api), CONTEXT, **{"max_retries": 0, **options})


async def post(box: Sandbox, api: str, **fields: Any) -> httpx.Response:
    """A request of somebody else's client."""
    said = SAID[api]
    path = said.whole if said.whole and fields.get("stream") is False else said.path
    body = {
        "model": "m",
        said.messages: [{"role": "user", said.content: [{"text": "Hi"}]}],
        "stream": True,
        "stream_options": {"include_usage": True},
        **fields,
    }
    async with httpx.AsyncClient(timeout=None) as client:
        return await client.post(box.base_url(api) + path, json=body, headers={"x-api-key": "sk-secret-of-mine"})


# ── what it says, read by the real adapters ──────────────────────────────────────────────────────────────────

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
NAMES = st.from_regex("[a-z][a-z0-9_]{0,20}", fullmatch=True)
NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(NAMES, SCALARS, max_size=3)
ARGUMENTS = st.dictionaries(NAMES, VALUES, max_size=3)
SIGNATURES = st.from_regex("[A-Za-z0-9+/]{1,40}={0,2}", fullmatch=True)
SEALED = st.binary(min_size=1, max_size=30).map(lambda data: b64encode(data).decode())
THOUGHTS = st.builds(ThinkingContent, TEXTS, st.none() | SIGNATURES) | st.builds(
    ThinkingContent, st.just("[Reasoning redacted]"), SEALED, st.just(True)
)
PLAIN_THOUGHTS = st.builds(ThinkingContent, TEXTS)
SAYINGS = st.builds(TextContent, TEXTS)
CALLS = st.lists(st.builds(ToolCall, NAMES, NAMES, ARGUMENTS), max_size=3, unique_by=attrgetter("id"))
COUNTS = st.integers(0, 10**6)


@st.composite
def cases(draw: Any) -> tuple[str, Turn]:
    """An API, and a turn that it can say: blocks in any order."""
    api = draw(st.sampled_from(APIS))
    most = 1 if SAID[api].single else 3
    thoughts = PLAIN_THOUGHTS if "signature" in SAID[api].lacks else THOUGHTS
    thoughts, texts = draw(st.lists(thoughts, max_size=most)), draw(st.lists(SAYINGS, max_size=most))
    output = draw(COUNTS)
    usage = st.builds(Usage, COUNTS, st.just(output), COUNTS, COUNTS, reasoning=st.integers(0, output))
    return api, Turn(
        draw(st.permutations([*thoughts, *texts, *draw(CALLS)])),
        **draw(st.fixed_dictionaries({}, optional={"stop_reason": st.just("length")})),
        usage=draw(st.none() | usage),
        response_id=draw(st.none() | NAMES),
        response_model=draw(st.none() | NAMES),
        piece_size=draw(st.none() | st.integers(1, 5)),
    )


def plain(content: Any, api: str = "") -> list[Any]:
    """Blocks as they compare on every wire: OpenAI's keep more than a thought's signature in it, and ids of items."""
    if api and "signature" in SAID[api].lacks:
        content = [ThinkingContent(part.thinking) if isinstance(part, ThinkingContent) else part for part in content]
    return [_plain(block) for block in content]


def _plain(block: Any) -> tuple[Any, ...]:
    match block:
        case TextContent(text=text):
            return ("text", text)
        case ThinkingContent(thinking=thinking, thinking_signature=signature, redacted=redacted):
            if signature and signature.startswith("["):
                (detail,) = json.loads(signature)
                redacted, signature = "data" in detail, detail.get("data") or detail["signature"]
            elif signature and signature.startswith("{"):
                signature = json.loads(signature).get("encrypted_content")
            return (
                "thinking",
                "" if redacted else thinking,
                None if signature == "reasoning_content" else signature or None,
            )
        case ToolCall(id=id, name=name, arguments=arguments):
            return ("call", id.partition("|")[0], name, arguments)
    raise AssertionError(block)


COUNTED = ("output", "cache_read", "cache_write", "reasoning")


def counted(usage: Usage, api: str) -> list[Any]:
    """The counts that a wire has; what it does not tell apart is input."""
    known = [name for name in COUNTED if name not in SAID[api].lacks]
    return [usage.input + (0 if "cache_write" in known else usage.cache_write), *(getattr(usage, n) for n in known)]


@given(cases())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_turn_comes_back_as_it_was_scripted(case):
    api, turn = case
    async with Sandbox(turn) as box:
        message = await ask(box, api)
    assert message.error_message is None
    assert plain(message.content) == plain(turn.content, api)
    assert message.stop_reason == turn.stop_reason
    assert message.response_model == (None if api == "bedrock-converse-stream" else turn.response_model)
    assert turn.response_id in (None, message.response_id)
    if turn.usage is not None:
        assert counted(message.usage, api) == counted(turn.usage, api)


@every_api
async def test_a_turn_comes_back_from_one_document_just_as_from_a_stream(api):
    async with Sandbox(TURN, TURN) as box:
        streamed = await ask(box, api)
        box.script(TURN, delivery=Delivery(streamed=False))
        box._script.popleft()
        whole = await ask(box, api)
    assert plain(whole.content) == plain(streamed.content) == plain(TURN.content, api)
    assert (whole.stop_reason, whole.usage.output) == (streamed.stop_reason, streamed.usage.output)


@every_api
async def test_a_message_can_be_played_again(api):
    async with Sandbox(TURN) as box:
        first = await ask(box, api)
        box.script(Turn.from_message(first))
        second = await ask(box, api)
    same = ("content", "stop_reason", "usage", "response_id", "response_model")
    assert [getattr(second, name) for name in same] == [getattr(first, name) for name in same]


@every_api
@pytest.mark.parametrize("status", [429, 500, 529])
async def test_a_failed_message_can_be_played_again(api, status):
    async with Sandbox(Turn("It is", failure=Failure(status))) as box:
        first = await ask(box, api)
        box.script(Turn.from_message(first))
        second = await ask(box, api)
    assert first.text == second.text == "It is"
    assert first.error_info.kind == second.error_info.kind


@every_api
async def test_a_call_with_broken_arguments_can_be_played_again(api):
    async with Sandbox(Turn(RawToolCall("call_1", "weather", '{"city": Oslo'))) as box:
        first = await ask(box, api)
        box.script(Turn.from_message(first))
        second = await ask(box, api)
    assert first.tool_calls[0].arguments == {}
    assert "Oslo" in first.tool_calls[0].arguments_error
    assert second.content == first.content


async def test_an_answer_that_was_filtered_can_be_played_again():
    async with Sandbox(Turn("It is", raw_stop_reason="content_filter")) as box:
        first = await ask(box)
        box.script(Turn.from_message(first))
        second = await ask(box)
    assert first.error_info.kind == second.error_info.kind == "content_filter"
    assert first.text == second.text == "It is"


@pytest.mark.parametrize("reason", ["pending", "aborted"])
def test_a_message_without_an_ending_cannot_be_played(reason):
    with pytest.raises(ValueError, match="make a turn of its content"):
        Turn.from_message(AssistantMessage([TextContent("Hi")], stop_reason=reason))


@every_api
async def test_pieces_are_deltas(api):
    async with Sandbox(Turn("It is sunny today"), Turn("sunny", piece_size=2)) as box:
        for expected in (["It", " is", " sunny", " today"], ["su", "nn", "y"]):
            deltas = [
                event.delta async for event in stream(box.model(api), CONTEXT) if isinstance(event, TextDeltaEvent)
            ]
            assert deltas == expected


@every_api
async def test_usage_is_estimated_where_a_turn_has_none(api):
    async with Sandbox(Turn("It is sunny today")) as box:
        message = await ask(box, api)
    assert message.usage.output == 4
    assert message.usage.input > 5


# ── what it says, compared with recorded answers ─────────────────────────────────────────────────────────────

RECORDED = {"azure-openai-responses": "openai-responses", "mistral-conversations": "openai-completions"}
"""APIs that have no recordings of their own."""
OTHERS = {".choices[].delta.reasoning_content", ".candidates[].content.parts[].functionCall.id"}
"""Fields that the provider itself does not have, or has only lately; other vendors do."""


def payloads(body: bytes) -> list[dict[str, Any]]:
    """The JSON of a stream's events, read line by line, or frame by frame."""
    if body.startswith(b"\0"):
        return [{"type": frame.headers[":event-type"], **json.loads(frame.payload)} for frame in frames(body)]
    lines = [line[5:].strip() for line in body.replace(b"\r\n", b"\n").split(b"\n") if line.startswith(b"data:")]
    return [json.loads(line) for line in lines if line.startswith(b"{")]


def frames(body: bytes) -> list[Frame]:
    decoder = EventStreamDecoder()
    return [*decoder.feed(body), *decoder.close()]


def shape(payload: dict[str, Any]) -> str:
    """What kind of event it is: its own type, and that of what it holds."""
    held = [payload.get(key) for key in ("delta", "content_block", "item", "part")]
    inner = next((value for value in held if isinstance(value, dict)), {})
    return f"{payload.get('type')} {inner.get('type') or list(inner)[:1]}"


def fields(value: Any, path: str = "") -> set[str]:
    """The names of all fields; what is in the arguments of a call is data."""
    if isinstance(value, list):
        return {field for item in value for field in fields(item, f"{path}[]")}
    if not isinstance(value, dict) or path.endswith(".args"):
        return set()
    return {f"{path}.{key}" for key in value}.union(*(fields(item, f"{path}.{key}") for key, item in value.items()))


@cache
def recorded(api: str) -> dict[str, list[set[str]]]:
    """Kind of event → the fields of each one that the provider itself was recorded to send."""
    found: dict[str, list[set[str]]] = {}
    for meta, body in recordings(RECORDED.get(api, api)):
        if meta["provider"] == SAID[api].vendor and meta["authenticity"] != "edited":
            for payload in payloads(body):
                found.setdefault(shape(payload), []).append(fields(payload))
    return found


@pytest.mark.skipif(not WIRE.is_dir(), reason=NO_WIRE)
@every_wire
def test_events_have_the_fields_that_the_provider_sends(api):
    """None that was never seen, and all that are always there."""
    turn = Turn([ThinkingContent("Hm."), ThinkingContent("…", "c2ln", True), "Hi", CALL], usage=Usage(reasoning=1))
    if api == "openai-completions":
        turn = Turn([ThinkingContent("Hm."), "Hi", CALL])
    for payload in payloads(b"".join(wire_events(turn, api))):
        others = recorded(api)[shape(payload)]
        assert fields(payload) - OTHERS <= set.union(*others), shape(payload)
        if not payload.keys() & {"choices", "candidates"}:  # of those every chunk is a kind of its own
            assert set.intersection(*others) <= fields(payload), shape(payload)


@pytest.mark.skipif(not WIRE.is_dir(), reason=NO_WIRE)
def test_signed_thoughts_have_the_details_that_openrouter_sends():
    details = Counter()
    for meta, body in recordings("openai-completions"):
        if meta["provider"] == "openrouter":
            details.update(_details(body))
    turn = Turn([ThinkingContent("Hm, well.", "c2ln"), "Hi"])
    assert set(_details(b"".join(wire_events(turn)))) <= set(details)


def _details(body: bytes) -> list[tuple[str, ...]]:
    choices = [choice for payload in payloads(body) for choice in payload.get("choices") or []]
    found = [detail for choice in choices for detail in choice["delta"].get("reasoning_details") or []]
    return [tuple(sorted(detail)) for detail in found if detail["type"] == "reasoning.text"]


@pytest.mark.skipif(not WIRE.is_dir(), reason=NO_WIRE)
def test_events_of_anthropic_come_in_the_order_in_which_it_sends_them():
    """There is a recorded stream with the same blocks; deltas and pings left out."""

    def order(body: bytes) -> list[str]:
        return [shape(payload) for payload in payloads(body) if payload["type"] not in ("content_block_delta", "ping")]

    streams = [order(body) for _, body in recordings("anthropic-messages")]
    turns = [["Hi"], ["Hi", CALL], ["Hi", CALL, CALL], [ThinkingContent("Hm.", "c2ln"), CALL]]
    for content in turns:
        assert order(b"".join(wire_events(Turn(content), "anthropic-messages"))) in streams


@pytest.mark.skipif(not WIRE.is_dir(), reason=NO_WIRE)
@every_wire
async def test_http_errors_have_the_fields_and_words_that_the_provider_sends(api):
    folder = f"errors/{RECORDED.get(api, api)}"
    told = [(meta, json.loads(body)) for meta, body in recordings(folder) if meta["provider"] == SAID[api].vendor]
    errors = [(meta, error) for meta, error in told if not DETAILED & fields(error)]
    assert errors
    seen = {meta["http_status"] for meta, _ in errors}
    async with Sandbox(*(Failure(status) for status in sorted(seen))) as box:
        for status in sorted(seen):
            answer = await post(box, api)
            same = [error for meta, error in errors if meta["http_status"] == status]
            assert answer.status_code == status
            assert fields(answer.json()) in [fields(error) for error in same]
            assert word(answer.json()) in [word(error) for error in same] or status == 429
            assert message_in(answer.json())


DETAILED = {".error.details", ".status"}
"""Fields that tell more of some errors."""


def word(error: dict[str, Any]) -> Any:
    """The provider's word for a kind of errors."""
    inner = error.get("error", error)
    return inner.get("type") or inner.get("status")


def message_in(error: dict[str, Any]) -> str:
    inner = error.get("error", error)
    return inner.get("message") or inner["detail"]


def test_frames_are_frames_to_amazons_own_parser():
    eventstream = pytest.importorskip("botocore.eventstream", reason="botocore is not installed")
    turn = Turn([ThinkingContent("Hm.", "c2ln"), "It is ☀", CALL], failure=Failure(429))
    body = b"".join(wire_events(turn, "bedrock-converse-stream"))
    buffer = eventstream.EventStreamBuffer()
    buffer.add_data(body)
    told = [(message.headers, message.payload) for message in buffer]
    assert told == [(frame.headers, frame.payload) for frame in frames(body)]
    assert told[-1][0][":exception-type"] == "throttlingException"


@every_api
async def test_any_key_will_do_and_comes_in_the_head(api):
    """Bedrock's is a bearer token, so that nothing is signed; Vertex's the one of its express mode."""
    async with Sandbox("Hello") as box:
        assert (await ask(box, api, api_key="any-key")).text == "Hello"
    assert [value for value in box.requests[0].headers.values() if value.endswith("any-key")]
    assert "any-key" not in box.requests[0].path


@every_wire
async def test_the_same_script_gives_the_same_bytes(api):
    async with Sandbox(TURN) as first, Sandbox(TURN) as second:
        answers = [await post(box, api) for box in (first, second)]
    assert answers[0].content == answers[1].content == b"".join(wire_events(TURN, api, model="m"))


@every_wire
async def test_who_asks_for_no_stream_gets_one_document(api):
    async with Sandbox(TURN) as box:
        answer = await post(box, api, stream=False)
    assert answer.headers["content-type"] == "application/json"
    assert CALL.name in answer.text
    assert answer.json().get("usage") or answer.json()["usageMetadata"]


async def test_usage_is_only_streamed_to_those_who_ask_for_it():
    async with Sandbox(TURN) as box:
        answer = await post(box, "openai-completions", stream_options=None)
    assert b"usage" not in answer.content


@every_wire
def test_half_of_a_surrogate_pair_is_sent_escaped(api):
    assert b'"a \\ud83d"' in b"".join(wire_events(Turn("a \ud83d", piece_size=9), api))


# ── failures ─────────────────────────────────────────────────────────────────────────────────────────────────


@every_api
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "bad_request"),
        (401, "auth"),
        (403, "permission"),
        (404, "not_found"),
        (429, "rate_limited"),
        (500, "server"),
        (503, "overloaded"),
        (529, "overloaded"),
    ],
)
async def test_a_failure_is_understood(api, status, kind):
    async with Sandbox(Failure(status, "Out of luck.")) as box:
        message = await ask(box, api)
    assert message.error_info.kind == kind
    assert message.error_info.status == status
    assert "Out of luck" in message.error_info.message
    assert message.error_info.request_id == "req_sandbox00000001"


@every_api
@pytest.mark.parametrize(("status", "kind"), [(429, "rate_limited"), (500, "server"), (529, "overloaded")])
async def test_a_failure_in_a_stream_comes_after_the_content_and_means_the_same(api, status, kind):
    async with Sandbox(Turn("It is", failure=Failure(status))) as box:
        message = await ask(box, api)
    assert message.text == "It is"
    assert (message.stop_reason, message.error_info.kind) == ("error", kind)


@every_api
async def test_a_failure_in_a_stream_can_be_its_first_event(api):
    async with Sandbox(Turn("It is", failure=Failure(529), failure_after=0), Turn("It is sunny")) as box:
        message = await ask(box, api, max_retries=1)
    assert message.text == "It is sunny"
    assert message.attempts[0].error.kind == "overloaded"


@every_wire
async def test_who_asks_for_no_stream_gets_an_http_error_instead(api):
    async with Sandbox(Turn("It is", failure=Failure(529))) as box:
        answer = await post(box, api, stream=False)
    assert (answer.status_code, message_in(answer.json())) == (529, "Overloaded")


@every_api
async def test_headers_of_a_failure_are_sent(api):
    async with Sandbox(Failure(429, headers={"retry-after": "0"}), "Hello") as box:
        message = await ask(box, api, max_retries=1)
    assert message.text == "Hello"
    assert message.attempts[0].error.retry_after == 0


@every_api
async def test_a_page_is_sent_as_it_is(api):
    async with Sandbox(Page("<title>Log in</title>"), Page("", "text/event-stream"), Page(b"no", status=502)) as box:
        wrong, empty, gateway = [await ask(box, api) for _ in range(3)]
    assert wrong.error_info.kind == "protocol"
    assert "Log in" in wrong.error_message
    assert empty.error_info.kind == "truncated"
    assert gateway.error_info.status == 502


# ── how it is sent ───────────────────────────────────────────────────────────────────────────────────────────

STORY = Turn("Once upon a time there was a wolf", usage=USAGE, response_id="r")


@every_api
@pytest.mark.parametrize(
    ("then", "kind", "ended"),
    [
        ("end", "truncated", "served"),
        ("close", "disconnected", "closed"),
        ("reset", "disconnected", "reset"),
        ("stall", "timeout_idle", "client left"),
    ],
)
async def test_an_answer_stops_after_so_many_pieces(api, then, kind, ended):
    async with Sandbox(STORY, delivery=Delivery(stop_after=3, then=then)) as box:
        message = await ask(box, api, timeouts=Timeouts(idle_ms=60))
        with anyio.fail_after(5):
            assert await box.requests[0].ending() == ended
    assert message.text == "Once upon a"
    assert message.error_info.kind == kind
    assert box.requests[0].ended == ended


@every_api
async def test_an_answer_is_cut_at_any_byte(api):
    """What comes is a beginning of the text, and never passes for the whole."""
    turn = Turn("It is ☀ today", usage=USAGE)
    body = b"".join(wire_events(turn, api, model=api))
    proof = body.index(SAID[api].proof)
    async with Registry(), Sandbox() as box:
        for cut in range(0, len(body), 23):
            box.script(turn, delivery=Delivery(cut_at=cut))
            message = await ask(box, api)
            assert turn.content[0].text.startswith(message.text)
            if cut <= proof:
                assert message.error_info.kind == "truncated"
        box.script(turn, delivery=Delivery(cut_at=len(body)))
        assert (await ask(box, api)).stop_reason == "stop"


@every_wire
async def test_a_cut_counts_the_bytes_of_the_body(api):
    body = b"".join(wire_events(STORY, api, model="m"))
    async with Sandbox() as box:
        for cut in (0, 1, 100, len(body), len(body) + 1):
            box.script(STORY, delivery=Delivery(cut_at=cut, events_per_write=3))
            assert (await post(box, api)).content == body[:cut]


@every_text_wire
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
async def test_lines_end_as_they_shall(api, line_end):
    async with Sandbox(STORY, delivery=Delivery(line_end=line_end)) as box:
        answer = await post(box, api)
    body = b"".join(wire_events(STORY, api, model="m")).replace(b"\r\n", b"\n")
    assert answer.content == body.replace(b"\n", line_end.encode())


@every_wire
async def test_the_mark_can_be_missing(api):
    events = wire_events(STORY, api, model="m")
    async with Sandbox(STORY, delivery=Delivery(mark=False)) as box:
        assert (await post(box, api)).content == b"".join(events[:-1])


@every_wire
async def test_gzip_is_flushed_at_each_event_and_whole_at_the_end(api):
    async with Sandbox(STORY, delivery=Delivery(gzip=True)) as box:
        chunks = await raw(box, api)
        events = wire_events(STORY, api, model="m")
        assert gzip.decompress(b"".join(chunks)) == b"".join(events)
        assert len(chunks) == len(events) + 1  # and gzip's own end
        box.script(STORY, delivery=Delivery(gzip=True))
        answer = await post(box, api)
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.content == b"".join(events)


@every_wire
@pytest.mark.parametrize(("events_per_write", "bytes_per_write"), [(1, None), (4, None), (1000, None), (1, 1), (3, 50)])
async def test_writes_have_the_size_that_they_shall_have(api, events_per_write, bytes_per_write):
    delivery = Delivery(events_per_write=events_per_write, bytes_per_write=bytes_per_write)
    events = wire_events(STORY, api, model="m")
    groups = [b"".join(events[at : at + events_per_write]) for at in range(0, len(events), events_per_write)]
    async with Sandbox(STORY, delivery=delivery) as box:
        chunks = await raw(box, api)
    size = bytes_per_write or 100_000
    assert chunks == [group[at : at + size] for group in groups for at in range(0, len(group), size)]


@asynccontextmanager
async def requested(box: Sandbox, api: str) -> AsyncIterator[SocketStream]:
    """A connection over which a request has been sent."""
    body = json.dumps({"model": "m", "stream": True, "stream_options": {"include_usage": True}}).encode()
    url = httpx.URL(box.base_url(api) + SAID[api].path)
    async with await anyio.connect_tcp(url.host, url.port) as connection:
        head = f"POST {url.raw_path.decode()} HTTP/1.1\r\nhost: {url.host}\r\ncontent-length: {len(body)}\r\n\r\n"
        await connection.send(head.encode() + body)
        yield connection


async def raw(box: Sandbox, api: str) -> list[bytes]:
    """The chunks of an answer, by the sizes that stand before them."""
    data = b""
    async with requested(box, api) as connection:
        while not data.endswith(b"\r\n0\r\n\r\n"):
            data += await connection.receive()
    rest, chunks = data.partition(b"\r\n\r\n")[2], []
    while True:
        size, _, rest = rest.partition(b"\r\n")
        if size == b"0":
            return chunks
        chunks.append(rest[: int(size, 16)])
        rest = rest[int(size, 16) + 2 :]


@every_wire
async def test_headers_can_be_replaced_and_removed(api):
    wrong = Delivery(headers={"content-type": "text/html", "x-mine": "1", WIRES[api].request_id_header: None})
    async with Sandbox(STORY, delivery=wrong) as box:
        answer = await post(box, api)
    assert answer.headers["content-type"] == "text/html"
    assert answer.headers["x-mine"] == "1"
    assert WIRES[api].request_id_header not in answer.headers


@every_api
async def test_headers_can_fail_to_come(api):
    async with Sandbox(STORY, delivery=Delivery(head_delay_s=math.inf)) as box:
        message = await ask(box, api, timeouts=Timeouts(first_event_ms=50))
        assert message.error_info.kind == "timeout_first"
        with anyio.fail_after(5):
            assert await box.requests[0].ending() == "client left"


@every_api
async def test_keep_alives_can_be_all_that_comes(api):
    """F38, and bytes come all the time."""
    delivery = Delivery(first_token_delay_s=math.inf, keep_alive_s=0.01)
    async with Sandbox(STORY, delivery=delivery) as box:
        message = await ask(box, api, timeouts=Timeouts(idle_ms=5000, first_event_ms=80, progress_ms=80))
    assert message.error_info.kind in ("timeout_first", "timeout_progress")


async def test_nothing_but_keep_alives_comes_from_the_first_byte_on():
    silent = (Page("", "text/event-stream"), Delivery(then="stall", keep_alive_s=0.01))
    async with Sandbox(lambda request: silent) as box:
        data = b""
        async with requested(box, "openai-completions") as connection:
            while data.count(b": keep-alive\n\n") < 3:
                data += await connection.receive()
        assert data.partition(b"\r\n\r\n")[2].startswith(b"e\r\n: keep-alive\n\n\r\ne\r\n: keep-alive\n\n\r\n")
        with anyio.fail_after(5):
            assert await box.requests[0].ending() == "client left"


def in_virtual_time(function: Any) -> Any:
    """Run with a clock that jumps over all waiting."""
    return anyio.run(
        function, backend="trio", backend_options={"clock": trio.testing.MockClock(autojump_threshold=0.05)}
    )


@every_api
def test_pieces_come_at_their_pace(api):
    async def main() -> None:
        delivery = Delivery(head_delay_s=5, first_token_delay_s=30, tokens_per_second=0.1)
        async with Sandbox(Turn("one two three"), delivery=delivery) as box:
            began, times = anyio.current_time(), []
            async for event in stream(box.model(api), CONTEXT, timeouts=NO_CLOCKS):
                times += [anyio.current_time() - began] if isinstance(event, TextDeltaEvent) else []
        assert times == pytest.approx([35, 45, 55], abs=2)

    in_virtual_time(main)


@every_text_wire
def test_keep_alives_fill_every_silence(api):
    async def main() -> None:
        delivery = Delivery(first_token_delay_s=10, tokens_per_second=0.2, keep_alive_s=3)
        turn = Turn("one two", usage=USAGE)
        async with Sandbox(turn, delivery=delivery) as box:
            answer = await post(box, api)
        events = wire_events(turn, api, model="m")
        alive = WIRES[api].keep_alive
        assert answer.content.count(alive) == 3 + 1 + events.count(alive)
        assert answer.content.replace(alive, b"") == b"".join(event for event in events if event != alive)

    in_virtual_time(main)


@pytest.mark.parametrize(
    "wrong",
    [
        {"then": "explode"},
        {"stop_after": -1},
        {"tokens_per_second": 0.0},
        {"events_per_write": 0},
        {"line_end": "x"},
        {"head_delay_s": -1.0},
    ],
)
def test_a_delivery_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Delivery(**wrong)


# ── scripts ──────────────────────────────────────────────────────────────────────────────────────────────────


@every_api
async def test_an_empty_script_repeats_what_was_said(api):
    async with Sandbox() as box:
        message = await ask(box, api)
    assert message.text == "This is the sandbox, which only repeats what it is told: What is the weather?"


@every_api
async def test_an_empty_script_is_an_error_where_it_is_strict(api):
    async with Sandbox("one", strict=True) as box:
        assert (await ask(box, api)).text == "one"
        message = await ask(box, api, max_retries=2)
    assert "script is empty, and request 2 came" in message.error_info.message
    assert len(box.requests) == 2


async def test_a_default_answers_what_the_script_does_not():
    async with Sandbox("one", default=lambda request: request.text.upper()) as box:
        assert [(await ask(box)).text for _ in range(3)] == ["one", "WHAT IS THE WEATHER?", "WHAT IS THE WEATHER?"]


@every_api
async def test_a_function_sees_the_request_and_may_choose_the_delivery(api):
    tool = Tool("weather", "Tells the weather", {"type": "object", "properties": {}})

    async def answer(request: SandboxRequest) -> Any:
        await anyio.sleep(0)
        assert request.model == api
        assert request.tools == ["weather"]
        assert request.text == "What is the weather?"
        return Turn(f"{len(request.messages)} message"), Delivery(stop_after=1)

    async with Sandbox(answer) as box:
        context = Context(CONTEXT.messages, tools=[tool])
        message = await complete(box.model(api), context, max_retries=0)
    assert message.text == "1"
    assert message.error_info.kind == "truncated"


@every_api
async def test_what_a_function_raises_is_told_and_leaves_the_block(api):
    def answer(request: SandboxRequest) -> Turn:
        raise AssertionError("there is no tool")

    with pytest.raises(AssertionError, match="there is no tool"):
        async with Sandbox(answer) as box:
            message = await ask(box, api, max_retries=2)
            assert "AssertionError: there is no tool" in message.error_message
            assert len(box.requests) == 1
            raise KeyError  # for what followed from it


async def test_a_turn_that_cannot_be_written_leaves_the_block():
    with pytest.raises(ValueError, match="not JSON compliant"):
        async with Sandbox(Turn(ToolCall("c", "f", {"x": math.nan}))) as box:
            await ask(box)


async def test_a_delivery_is_for_the_turns_that_it_was_given_with():
    async with Sandbox() as box:
        box.script("one two", "three four", delivery=Delivery(stop_after=1))
        box.script("five six")
        assert box.pending == 3
        assert [(await ask(box)).text for _ in range(3)] == ["one", "three", "five six"]
        assert box.pending == 0


@pytest.mark.parametrize("wrong", [None, 3, ["Hello"]])
def test_a_script_of_something_else_is_refused_at_once(wrong):
    with pytest.raises(TypeError, match="Turn, Failure, Page"):
        Sandbox(wrong)


def test_content_of_something_else_is_refused():
    with pytest.raises(TypeError, match=r"Turn.content\[1\] must be a str or one of .* not dict"):
        Turn(["Hi", {"text": "Hi"}])


# ── what comes ───────────────────────────────────────────────────────────────────────────────────────────────


@every_wire
async def test_a_request_is_recorded_and_shows_no_secret(api):
    async with Sandbox() as box:
        said = SAID[api]
        parts = [{"type": "text", "text": "Look"}, {"type": "image"}, {"type": "text", "text": "here"}]
        messages = [{"role": "user", said.content: parts}, {"role": "assistant", said.content: "Where?"}]
        await post(box, api, **{said.messages: messages}, stream=False)
    (request,) = box.requests
    assert (request.number, request.api, request.model, request.text) == (1, api, "m", "Look\nhere")
    assert request.path == f"/{api}{WIRES[api].base}{said.whole or said.path}"
    assert request.headers["x-api-key"] == "sk-secret-of-mine"
    assert request.body[said.messages] == request.messages == messages
    assert request.streamed is False
    assert "secret" not in repr(request)
    assert "x-api-key" in repr(request)


async def test_the_query_of_a_url_is_not_shown():
    async with Sandbox() as box, httpx.AsyncClient() as client:
        await client.post(f"{box.base_url()}/chat/completions?key=secret", json={"model": "m"})
    assert box.requests[0].path.endswith("?key=secret")
    assert "secret" not in repr(box.requests)


@every_wire
@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"[" * 10_000])
async def test_a_body_that_is_no_object_is_refused_in_the_words_of_the_wire(api, body):
    async with Sandbox() as box, httpx.AsyncClient() as client:
        answer = await client.post(box.base_url(api) + SAID[api].path, content=body)
    assert answer.status_code == 400
    assert message_in(answer.json()) == "The body is no JSON object"


@every_wire
@pytest.mark.parametrize(
    "fields",
    [{}, {"messages": 3, "tools": [1, {}]}, {"messages": [1, {"role": "user", "content": [None, {"text": 3}]}]}],
)
async def test_a_strange_body_is_read_as_far_as_it_goes(api, fields):
    said = SAID[api]
    text = json.dumps(fields).replace('"messages"', f'"{said.messages}"').replace('"content"', f'"{said.content}"')
    async with Sandbox() as box, httpx.AsyncClient() as client:
        assert (await client.post(box.base_url(api) + said.path, content=text)).status_code == 200
    assert (box.requests[0].text, box.requests[0].tools) == ("", [])


@pytest.mark.parametrize("path", ["/", "/v1/chat/completions", "/openai-completions/v1/models", "/nobody/v1/messages"])
async def test_a_path_that_no_wire_has_is_answered_with_the_right_ones(path):
    async with Sandbox("one") as box:
        async with httpx.AsyncClient() as client:
            answer = await client.get(box.url + path)
        assert box.pending == 1
    assert answer.status_code == 404
    assert "/openai-completions/v1, /anthropic-messages" in answer.json()["error"]["message"]
    assert box.requests[0].api == ""


async def test_requests_can_be_waited_for():
    async with Sandbox(default=STORY, delivery=Delivery(head_delay_s=math.inf)) as box:
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask, box)
                tasks.start_soon(ask, box)
                request = await box.received(2)
                assert (request.number, request.ended, box.open_connections) == (2, "open", 2)
                tasks.cancel_scope.cancel()
            assert await request.ending() == "client left"
    assert (box.connections, box.open_connections) == (2, 0)


async def test_waiting_for_a_request_ends_with_the_sandbox():
    async with anyio.create_task_group() as tasks:

        async def wait(task_status: Any) -> None:
            task_status.started()
            with pytest.raises(RuntimeError, match="closed after 0 requests, not 1"):
                await box.received()

        async with Sandbox() as box:
            await tasks.start(wait)


# ── where it runs ────────────────────────────────────────────────────────────────────────────────────────────


async def test_nothing_outlives_the_block_and_what_it_raises_comes_out_as_itself():
    answers: list[AssistantMessage] = []

    async def ask_and_keep() -> None:
        answers.append(await ask(box))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            with pytest.raises(KeyError):
                async with Sandbox(STORY, delivery=Delivery(stop_after=1, then="stall")) as box:
                    tasks.start_soon(ask_and_keep)
                    await box.received()
                    raise KeyError
    assert answers[0].stop_reason == "error"
    assert await box.requests[0].ending() == "open"
    with pytest.raises(RuntimeError, match="does not run"):
        box.model()


async def test_a_block_can_be_cancelled():
    with anyio.move_on_after(0) as scope:
        async with Sandbox(STORY, delivery=Delivery(then="stall")):
            await anyio.sleep_forever()
    assert scope.cancelled_caught


def test_a_sandbox_that_does_not_run_has_no_address():
    with pytest.raises(RuntimeError, match=r"with box.in_thread\(\)"):
        Sandbox().model()


def test_an_api_that_it_does_not_speak_is_refused_with_those_that_it_does():
    with Sandbox().in_thread() as box:
        for use in (box.model, box.base_url, lambda api: wire_events(TURN, api)):
            with pytest.raises(ConfigError, match=r"does not speak 'smoke-signals'. Known: openai-completions, "):
                use("smoke-signals")
    with pytest.raises(ConfigError), sandbox_model("smoke-signals"):
        pass


@every_api
def test_a_thread_serves_programs_without_an_event_loop(api):
    with Sandbox(TURN).in_thread() as box:
        message = complete_sync(box.model(api), CONTEXT)
        assert box.wait_received().wait_ending() == "served"
    assert plain(message.content) == plain(TURN.content, api)
    assert box.requests[0].wait_ending() == anyio.run(box.requests[0].ending) == "served"
    assert not [thread for thread in threading.enumerate() if "portal" in thread.name]


async def test_a_thread_serves_every_event_loop():
    with Sandbox(STORY, delivery=Delivery(stop_after=2, then="stall")).in_thread() as box:
        with anyio.fail_after(5):
            async with stream(box.model(), CONTEXT) as answer:
                async for event in answer:
                    if isinstance(event, TextDeltaEvent):
                        break
                assert (await box.received()).ended == "open"
            assert await box.requests[0].ending() == "client left"


def test_a_thread_waits_no_longer_than_it_shall():
    with Sandbox().in_thread() as box, pytest.raises(TimeoutError):
        box.wait_received(timeout_s=0.01)


async def test_waiting_like_a_thread_is_refused_in_an_event_loop():
    async with Sandbox() as box:
        with pytest.raises(RuntimeError, match="await what it does"):
            box.wait_received()


def test_what_a_function_raises_leaves_a_threads_block_too():
    with pytest.raises(ZeroDivisionError), Sandbox(lambda request: 1 // 0).in_thread() as box:
        complete_sync(box.model(), CONTEXT)


def test_a_thread_serves_another_process():
    program = """
import os, urllib.request
request = urllib.request.Request(os.environ["BASE_URL"] + "/chat/completions", b'{"model": "m", "messages": []}')
print(urllib.request.urlopen(request).read().decode())
"""
    with Sandbox("Hello").in_thread() as box:
        env = {**os.environ, "BASE_URL": box.base_url(), "no_proxy": "*"}
        done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["choices"][0]["message"]["content"] == "Hello"


@every_api
def test_a_model_of_its_own_sandbox_repeats_what_it_is_told(api):
    """What ``pi-ai stream --model sandbox/…`` uses."""
    with sandbox_model(api) as model:
        assert (model.provider, model.id) == ("sandbox", api)
        assert complete_sync(model, CONTEXT).text.endswith("What is the weather?")


def test_the_kit_has_what_it_names():
    for name in pi_ai.testing.__all__:
        assert getattr(pi_ai.testing, name).__doc__
    assert sorted(pi_ai.testing.__all__) == pi_ai.testing.__all__


# ── the pytest plug-in ───────────────────────────────────────────────────────────────────────────────────────

USERS_TESTS = """
import sys

loaded = {name for name in sys.modules if "pi_ai" in name}

import pytest
from pi_ai import Context, UserMessage, complete, complete_sync


def test_the_package_is_not_loaded_at_the_start():
    assert loaded == {"_pi_ai_pytest"}


def test_sync(sandbox):
    sandbox.script("Hello")
    assert complete_sync(sandbox.model(), Context([UserMessage("Hi")])).text == "Hello"


@pytest.mark.anyio
async def test_async(sandbox):
    assert "Hi" in (await complete(sandbox.model(), Context([UserMessage("Hi")]))).text
    assert await sandbox.requests[0].ending() == "served"


@pytest.fixture
def anyio_backend():
    return "asyncio"
"""
NO_TRIO = "import sys; sys.modules['trio'] = None; import pytest; sys.exit(pytest.main(sys.argv[1:]))"


def test_the_fixture_serves_sync_and_async_tests_and_needs_no_trio(tmp_path):
    (tmp_path / "test_user.py").write_text(USERS_TESTS)
    plugins = ["-p", "_pi_ai_pytest", "-p", "anyio", "-p", "no:cacheprovider"]
    command = [sys.executable, "-c", NO_TRIO, *plugins, "-q", "-W", "error", str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True)
    assert "3 passed" in done.stdout, done.stdout + done.stderr


def test_the_plug_in_is_registered():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"pi_ai": "_pi_ai_pytest"}
