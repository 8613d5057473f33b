"""What a cassette writes: nothing secret on any wire, and all else as it came."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_ai import Context, UserMessage, failures
from pi_ai.testing import Cassette, Delivery, Failure, Playback, Sandbox, Turn, cassettes
from pi_ai.testing.cassettes import _spliced
from pi_ai.testing.wires import WIRES
from pi_ai.wire.aws_event_stream import EventStreamDecoder
from pi_ai_tests.rigs import END, SSE, chunk, model

KEY = "canary-key-of-the-test"
CONTEXT = Context([UserMessage("What is my key?")])
ASKED: dict[str, Any] = {"api_key": KEY, "env": {"AWS_REGION": "eu-west-1"}, "max_retries": 0}


def chunks(path: Path) -> list[tuple[float, bytes]]:
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [
        (line["ms"], base64.b64decode(line["base64"]) if "base64" in line else line["text"].encode())
        for line in lines
        if "ms" in line and "response" not in line
    ]


async def recorded(path: Path, api: str, turn: Turn, delivery: Delivery) -> None:
    async with Sandbox(turn, delivery=delivery) as box, Cassette(path, mode="record") as tape, tape.registry() as pi:
        await pi.complete(box.model(api), CONTEXT, **ASKED)


@pytest.mark.anyio
@pytest.mark.parametrize("api", sorted(WIRES))
async def test_a_key_that_the_answer_repeats_is_written_on_no_wire(tmp_path: Path, api: str) -> None:
    path = tmp_path / "c.jsonl"
    async with Sandbox(Turn(f"It is {KEY}, I think.", piece_size=1000)) as box:
        async with Cassette(path, mode="record") as tape, tape.registry() as pi:
            live = await pi.complete(box.model(api), CONTEXT, **ASKED)
            assert KEY in live.text
        assert KEY.encode() not in b"".join(piece for _, piece in chunks(path))
        async with Cassette(path).registry() as pi:
            played = await pi.complete(box.model(api), CONTEXT, **ASKED)
    assert (played.text, played.stop_reason) == ("It is [redacted], I think.", "stop")


@pytest.mark.anyio
async def test_frames_of_aws_have_their_checksums_anew(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    await recorded(
        path, "bedrock-converse-stream", Turn(f"It is {KEY}.", piece_size=1000), Delivery(bytes_per_write=50)
    )
    decoder = EventStreamDecoder()
    frames = [frame for _, piece in chunks(path) for frame in decoder.feed(piece)] + decoder.close()
    assert len(frames) > 3
    assert b"[redacted]" in b"".join(frame.payload for frame in frames)


@pytest.mark.anyio
async def test_the_other_chunks_are_written_as_they_came(tmp_path: Path) -> None:
    """A key that lies across two reads is taken out, and no other byte changes its place; half a character, too."""
    before, after = chunk("Z*rich: ").replace(b"*", "ü".encode()), chunk("And so on.") + END
    cut = before.index("ü".encode()) + 1
    told = chunk(KEY)
    middle = told.index(KEY.encode()) + 5
    came = [before[:cut], before[cut:], told[:middle], told[middle:], after]

    async def body() -> AsyncIterator[bytes]:
        for piece in came:
            yield piece

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers=SSE, content=body())

    path = tmp_path / "c.jsonl"
    client = partial(httpx.AsyncClient, transport=httpx.MockTransport(answer))
    async with Cassette(path, mode="record", client=client) as tape, tape.registry() as pi:
        await pi.complete(model(), CONTEXT, **ASKED)
    assert [piece for _, piece in chunks(path)] == [*came[:2], chunk("[redacted]")[:-1], b"\n", after]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("api", "failure"),
    [
        ("bedrock-converse-stream", Failure(400, "Slow", headers={"x-amzn-errortype": "ThrottlingException:http://x"})),
        ("openai-completions", Failure(503, "Full", headers={"x-should-retry": "false"})),
        ("openai-completions", Failure(429, "Slow", headers={"x-ratelimit-reset-after": "7"})),
        ("anthropic-messages", Failure(429, "Slow", headers={"retry-after": "3", "request-id": "req_7"})),
        ("mistral-conversations", Failure(500, "Oh", headers={"mistral-correlation-id": "id_7"})),
    ],
    ids=["aws", "should-retry", "reset-after", "retry-after", "correlation-id"],
)
async def test_a_failure_is_played_as_the_one_that_it_was(tmp_path: Path, api: str, failure: Failure) -> None:
    path = tmp_path / "c.jsonl"
    async with Sandbox(failure) as box:
        async with Cassette(path, mode="record") as tape, tape.registry() as pi:
            live = await pi.complete(box.model(api), CONTEXT, **ASKED)
        async with Cassette(path).registry() as pi:
            played = await pi.complete(box.model(api), CONTEXT, **ASKED)
    assert live.error_info is not None
    assert played.error_info == live.error_info


def test_what_tells_the_id_of_a_request_is_written() -> None:
    assert set(failures._REQUEST_IDS) <= cassettes._TOLD_OF_ANSWERS


@pytest.mark.anyio
@pytest.mark.parametrize("then", ["end", "close", "reset", "stall"])
async def test_it_breaks_after_a_chunk(tmp_path: Path, then: Any) -> None:
    path = tmp_path / "c.jsonl"
    async with Sandbox(Turn("one two three"), delivery=Delivery(tokens_per_second=50)) as box:
        async with Cassette(path, mode="record") as tape, tape.registry() as pi:
            await pi.complete(box.model(), CONTEXT, **ASKED)
        number = next(index for index, (_, piece) in enumerate(chunks(path)) if b"two" in piece)
        async with Cassette(path, playback=Playback(stop_after=number, then=then)).registry() as pi:
            message = await pi.complete(box.model(), CONTEXT, timeout_ms=200, **ASKED)
    assert message.error_info is not None
    kinds = {"end": "truncated", "close": "disconnected", "reset": "disconnected", "stall": "timeout_idle"}
    assert (message.error_info.kind, message.text.strip()) == (kinds[then], "one")


@settings(deadline=None, max_examples=200)
@given(st.lists(st.binary(max_size=6), max_size=8), st.data())
def test_changes_are_made_whatever_the_chunks_are(pieces: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(pieces)
    marks = sorted(data.draw(st.lists(st.integers(0, len(whole)), unique=True, max_size=6)))
    changes = [
        (start, stop, data.draw(st.binary(min_size=1, max_size=4)))
        for start, stop in zip(marks[::2], marks[1::2], strict=False)
    ]
    given_chunks = [(float(index), piece) for index, piece in enumerate(pieces)]
    made, joined = _spliced(given_chunks, changes, whole)
    expected, at = b"", 0
    for start, stop, new in changes:
        expected += whole[at:start] + new
        at = stop
    assert joined == expected + whole[at:] == b"".join(piece for _, piece in made)
    assert [when for when, _ in made] == sorted(when for when, _ in made)
    if not changes:
        assert made == [(when, piece) for when, piece in given_chunks if piece]
