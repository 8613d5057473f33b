"""Frames of an AWS event stream from bytes (bedrock-converse-stream.md section 3; reliability F2, F13-F16, F20)."""

from __future__ import annotations

import json
import random
import struct
import time
import tracemalloc
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_ai.errors import PiAIError, ProtocolError, TooLarge, Truncated
from pi_ai.wire.aws_event_stream import MAX_HEADER_BYTES, MAX_PAYLOAD_BYTES, EventStreamDecoder, Frame
from pi_ai_tests.data import NO_WIRE, WIRE, recordings
from pi_ai_tests.wire.frames import event, frame, framed

VECTORS = sorted((WIRE / "eventstream-vectors").glob("*.meta.json"))
HELLO = event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hi"}})
STOP = event("messageStop", {"stopReason": "end_turn"})


def decode(*pieces: bytes, limit: int = 1 << 25) -> list[Frame]:
    """All frames of a body that comes in these pieces."""
    decoder = EventStreamDecoder(limit)
    return [*(found for piece in pieces for found in decoder.feed(piece)), *decoder.close()]


def outcome(pieces: Iterable[bytes], limit: int = 1 << 25) -> tuple[list[Frame], str | None]:
    """The frames before a failure, and its words; these stay the same for ever."""
    decoder = EventStreamDecoder(limit)
    frames: list[Frame] = []
    words = None
    try:
        for piece in pieces:
            frames += decoder.feed(piece)
        frames += decoder.close()
    except PiAIError as error:
        words = told(error)
    if words is not None:
        assert refusal(decoder.close) == words
        assert words.startswith("truncated: ") or refusal(lambda: decoder.feed(STOP)) == words
    return frames, words


def refusal(use: Callable[[], object]) -> str:
    with pytest.raises(PiAIError) as caught:
        use()
    return told(caught.value)


def told(error: PiAIError) -> str:
    return f"{error.kind}: {error.info.message}"


def split(body: bytes, cuts: Iterable[int]) -> list[bytes]:
    ends = sorted({0, len(body), *(min(max(cut, 0), len(body)) for cut in cuts)})
    return [body[start:end] for start, end in pairwise(ends)]


def flipped(body: bytes, place: int) -> bytes:
    """The body with one bit changed."""
    at, bit = divmod(place % (len(body) * 8), 8)
    return body[:at] + bytes([body[at] ^ 1 << bit]) + body[at + 1 :]


# ── the format ───────────────────────────────────────────────────────────────────────────────────────────────


MESSAGE_STOP = (
    "0000007a00000051ca2c46650d3a6d6573736167652d747970650700056576656e740b3a6576656e742d7479706507000b6d6573736167"
    "6553746f700d3a636f6e74656e742d747970650700106170706c69636174696f6e2f6a736f6e7b2273746f70526561736f6e223a22656e"
    "645f7475726e227d3dc33bfa"
)
DELTA = (
    "0000009f00000057c37babff0d3a6d6573736167652d747970650700056576656e740b3a6576656e742d74797065070011636f6e74656e"
    "74426c6f636b44656c74610d3a636f6e74656e742d747970650700106170706c69636174696f6e2f6a736f6e7b22636f6e74656e74426c"
    "6f636b496e646578223a302c2264656c7461223a7b2274657874223a224869227d2c2270223a2261626364227dd829a039"
)
THROTTLED = (
    "0000008e00000061514180540d3a6d6573736167652d74797065070009657863657074696f6e0f3a657863657074696f6e2d7479706507"
    "00137468726f74746c696e67457863657074696f6e0d3a636f6e74656e742d747970650700106170706c69636174696f6e2f6a736f6e7b"
    "226d657373616765223a22546f6f206d616e7920746f6b656e73227d0b14bfe6"
)


@pytest.mark.parametrize(
    ("written", "kind", "name", "payload"),
    [
        (MESSAGE_STOP, "event", "messageStop", {"stopReason": "end_turn"}),
        (DELTA, "event", "contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hi"}, "p": "abcd"}),
        (THROTTLED, "exception", "throttlingException", {"message": "Too many tokens"}),
    ],
)
def test_a_frame_has_headers_and_a_payload(written: str, kind: str, name: str, payload: Any) -> None:
    [found] = decode(bytes.fromhex(written))
    assert found.headers == {":message-type": kind, f":{kind}-type": name, ":content-type": "application/json"}
    assert json.loads(found.payload) == payload


@pytest.mark.skipif(not VECTORS, reason=NO_WIRE)
@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.name.removesuffix(".meta.json"))
def test_the_vectors_of_aws_are_told_right_from_wrong(path: Any) -> None:
    expect = json.loads(path.read_bytes())["expect"]
    body = path.with_name(path.name.replace(".meta.json", ".eventstream")).read_bytes()
    if not expect["valid"]:
        with pytest.raises(ProtocolError):
            decode(body)
        return
    [found] = decode(body)
    written = {name: value.hex() if isinstance(value, bytes) else value for name, value in found.headers.items()}
    assert written == expect["headers"]
    assert found.payload.decode() == expect["payload"]


def test_every_type_of_header_is_understood() -> None:
    [found] = decode(
        frame(
            [
                ("yes", 0, None),
                ("no", 1, None),
                ("byte", 2, -128),
                ("short", 3, -32768),
                ("int", 4, -(2**31)),
                ("long", 5, 2**63 - 1),
                ("bytes", 6, b"\0\xff"),
                ("text", 7, "naïve 中文 🙈".encode()),
                ("time", 8, 1_767_225_600_000),
                ("uuid", 9, bytes(range(16))),
                ("", 7, b""),
            ],
            b"payload",
        )
    )
    assert found.headers == {
        "yes": True,
        "no": False,
        "byte": -128,
        "short": -32768,
        "int": -(2**31),
        "long": 2**63 - 1,
        "bytes": b"\0\xff",
        "text": "naïve 中文 🙈",
        "time": 1_767_225_600_000,
        "uuid": bytes(range(16)),
        "": "",
    }
    assert found.payload == b"payload"


def test_a_frame_may_be_empty() -> None:
    assert decode(framed(b"")) == [({}, b"")]
    assert decode() == []


def test_text_in_headers_that_is_no_utf8_is_readable_all_the_same_F12() -> None:
    [found] = decode(frame([(":error-message", 7, b"caf\xc3")]))
    assert found.headers == {":error-message": "caf\ufffd"}


# ── what is no frame ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\n', "64 61 74 61 3a 20 7b 22 63 68 6f 69 63 65 73 22"),
        (b"event: message_start\ndata: {}\n\n", "65 76 65 6e 74 3a 20 6d 65 73 73 61 67 65 5f 73"),
        (b"<!DOCTYPE html><html><title>Sign in</title>", "3c 21 44 4f 43 54 59 50 45 20 68 74 6d 6c 3e 3c"),
        (b'{"message":"The security token is invalid"}', "7b 22 6d 65 73 73 61 67 65 22 3a 22 54 68 65 20"),
        (b"\0" * 40, " ".join(["00"] * 16)),
    ],
    ids=["sse", "named sse", "html", "json", "zeros"],
)
def test_bytes_that_are_no_frames_are_shown_F16(body: bytes, shown: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(body)
    assert f"at byte 0, got {shown}: " in str(caught.value)
    assert str(caught.value).endswith("; check the base URL")
    assert (caught.value.info.kind, caught.value.info.phase, caught.value.info.retryable) == (
        "protocol",
        "stream",
        False,
    )


def test_a_few_bytes_that_are_no_frame_are_no_cut_off_frame_F16() -> None:
    with pytest.raises(ProtocolError, match="got 6f 6b: "):
        decode(b"ok")


def test_a_wrong_checksum_of_the_prelude_is_told_before_its_length_is_waited_for_BR13() -> None:
    decoder = EventStreamDecoder()
    broken = b"\x00\xff\xff\xff" + HELLO[4:16]
    assert decoder.feed(broken[:15]) == []
    with pytest.raises(ProtocolError, match="its prelude has the wrong checksum"):
        decoder.feed(broken[15:])


def test_frames_before_a_broken_one_are_kept_and_its_place_is_told_F16() -> None:
    body = HELLO + flipped(STOP, len(STOP) * 8 - 40)
    frames, words = outcome([body])
    assert frames == decode(HELLO)
    assert words is not None
    assert words.startswith(
        f"protocol: Expected a frame of an AWS event stream at byte {len(HELLO)}, got {STOP[:16].hex(' ')}"
    )
    assert words.endswith(": it has the wrong checksum")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (framed(b"", prelude=struct.pack(">II", 15, 0)), "its headers have 0 bytes, and all of it only 15"),
        (framed(b"", prelude=struct.pack(">II", 0, 0)), "its headers have 0 bytes, and all of it only 0"),
        (framed(b"", prelude=struct.pack(">II", 16, 1)), "its headers have 1 bytes, and all of it only 16"),
        (
            framed(b"", prelude=struct.pack(">II", MAX_HEADER_BYTES + 17, MAX_HEADER_BYTES + 1)),
            "its headers have 131073 bytes, at most 131072 may be",
        ),
        (
            framed(b"", prelude=struct.pack(">II", MAX_PAYLOAD_BYTES + 17, 0)),
            "it has 25165841 bytes, and at most 25165824 may be in its payload",
        ),
        (frame([("a", 0, None), ("a", 1, None)]), "its header 'a' comes twice"),
        (frame([("a", 10, None)]), "its header 'a' is of the unknown type 10"),
        (framed(b"\x05a"), "its last header is longer than its headers"),
        (framed(b"\x01a"), "its last header is longer than its headers"),
        (framed(b"\x01a\x07\x00"), "its last header is longer than its headers"),
        (framed(b"\x01a\x07\x00\x05bcd"), "its last header is longer than its headers"),
        (framed(b"\x01a\x05\x00\x00\x00"), "its last header is longer than its headers"),
        (framed(b"\x01a\x09" + b"\0" * 15), "its last header is longer than its headers"),
    ],
)
def test_headers_and_lengths_that_cannot_be_are_refused_BR13(body: bytes, reason: str) -> None:
    frames, words = outcome([HELLO + body])
    assert frames == decode(HELLO)
    assert words is not None
    assert words.endswith(f": {reason}")
    assert outcome(split(HELLO + body, range(400))) == (frames, words)


@pytest.mark.parametrize("size", [0, 1, 15, 16, 80])
def test_a_body_that_ends_inside_a_frame_was_cut_off_BR14_F20(size: int) -> None:
    if not size:
        assert decode(HELLO) == decode(HELLO, b"")
        return
    with pytest.raises(Truncated) as caught:
        decode(HELLO, STOP[:size])
    assert str(caught.value) == "Bedrock stream ended in the middle of an event"
    assert (caught.value.info.phase, caught.value.info.retryable) == ("end", True)
    assert f"has {size} bytes" in caught.value.info.message


# ── limits and growth ────────────────────────────────────────────────────────────────────────────────────────


def test_a_frame_over_the_limit_is_refused_at_its_prelude_F13() -> None:
    assert decode(HELLO, limit=len(HELLO)) == decode(HELLO)
    decoder = EventStreamDecoder(len(HELLO) - 1)
    assert decoder.feed(HELLO[:15]) == []
    with pytest.raises(TooLarge, match=f"more than {len(HELLO) - 1} bytes; if that is expected, raise max_event_bytes"):
        decoder.feed(HELLO[15:16])


def test_memory_stays_under_twice_the_limit_F13() -> None:
    limit = 1 << 22
    body = frame([], b"x" * (limit - 100))
    pieces = split(body, range(0, len(body), 1000))
    tracemalloc.start()
    try:
        decoder = EventStreamDecoder(limit)
        frames = [found for piece in pieces for found in decoder.feed(piece)]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [len(found.payload) for found in frames] == [limit - 100]
    assert peak < 2.1 * limit


def test_the_memory_of_headers_is_bounded() -> None:
    decoder = EventStreamDecoder()
    for number in range(500):
        [found] = decoder.feed(frame({"number": str(number)}))
        assert found.headers == {"number": str(number)}
    assert len(decoder._known) <= 64


def seconds_for(size: int, step: int) -> float:
    body = frame([], b"x" * size)
    pieces = split(body, range(0, len(body), step))
    start = time.process_time()
    assert [len(found.payload) for found in decode(*pieces)] == [size]
    return time.process_time() - start


@pytest.mark.parametrize("step", [50, 1000])
def test_time_grows_with_size_and_not_with_its_square_F14(step: int) -> None:
    # Sizes that the allocator treats alike, several times over so that a clock can tell them.
    small, large = (
        min(sum(seconds_for(size, step) for _ in range(8)) for _ in range(3)) for size in (1 << 16, 1 << 19)
    )
    assert large < 20 * small  # 8 times the size; quadratic would be 64


# ── any split, any bytes, and the other decoder ──────────────────────────────────────────────────────────────

names = st.text(st.sampled_from("ab:-é"), max_size=6)
header_values: st.SearchStrategy[tuple[int, Any]] = st.one_of(
    st.tuples(st.sampled_from([0, 1]), st.none()),
    st.tuples(st.just(2), st.integers(-(2**7), 2**7 - 1)),
    st.tuples(st.just(3), st.integers(-(2**15), 2**15 - 1)),
    st.tuples(st.just(4), st.integers(-(2**31), 2**31 - 1)),
    st.tuples(st.sampled_from([5, 8]), st.integers(-(2**63), 2**63 - 1)),
    st.tuples(st.just(6), st.binary(max_size=20)),
    st.tuples(st.just(7), st.text(max_size=10).map(str.encode)),
    st.tuples(st.just(9), st.binary(min_size=16, max_size=16)),
)
frames = st.builds(
    lambda headers, payload: frame([(name, *value) for name, value in headers.items()], payload),
    st.dictionaries(names, header_values, max_size=4),
    st.binary(max_size=60),
)
cuts = st.lists(st.integers(0, 400), max_size=8)


@settings(deadline=None, max_examples=200)
@given(st.lists(frames, max_size=5), cuts)
def test_any_split_gives_the_same_frames_F2(bodies: list[bytes], at: list[int]) -> None:
    body = b"".join(bodies)
    whole = decode(body)
    assert len(whole) == len(bodies)
    assert decode(*split(body, at)) == whole
    assert decode(*split(body, range(len(body)))) == whole


@settings(deadline=None, max_examples=200)
@given(st.lists(frames, min_size=1, max_size=4), st.integers(0), cuts, st.integers(20, 200))
def test_any_split_gives_the_same_failure(bodies: list[bytes], place: int, at: list[int], limit: int) -> None:
    body = flipped(b"".join(bodies), place)
    for chosen in (1 << 25, limit):
        found = outcome([body], chosen)
        assert outcome(split(body, at), chosen) == found
        assert outcome(split(body, range(len(body))), chosen) == found


@settings(deadline=None, max_examples=200)
@given(st.lists(frames, min_size=1, max_size=4), st.integers(0))
def test_a_flipped_bit_is_never_missed(bodies: list[bytes], place: int) -> None:
    body = b"".join(bodies)
    whole = decode(body)
    found, words = outcome([flipped(body, place)])
    assert words is not None
    assert found == whole[: len(found)]


@settings(deadline=None, max_examples=200)
@given(st.lists(frames, min_size=1, max_size=4), st.data())
def test_any_beginning_of_a_body_gives_a_beginning_of_its_frames(bodies: list[bytes], data: st.DataObject) -> None:
    body = b"".join(bodies)
    found, words = outcome([body[: data.draw(st.integers(0, len(body) - 1))]])
    assert found == decode(body)[: len(found)]
    assert words is None or words.startswith("truncated: ")


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=80), st.booleans(), cuts)
def test_whatever_bytes_come_nothing_but_our_own_errors_is_raised(data: bytes, as_headers: bool, at: list[int]) -> None:
    """T10. Bytes as headers are the ones behind a right prelude, which chance would never find."""
    body = framed(data, b"payload") if as_headers else data
    assert outcome(split(body, at)) == outcome([body])


def botocore_frames(pieces: Iterable[bytes]) -> list[tuple[dict[str, Any], bytes]]:
    eventstream = pytest.importorskip("botocore.eventstream", reason="botocore is not installed")
    buffer = eventstream.EventStreamBuffer()
    found: list[tuple[dict[str, Any], bytes]] = []
    for piece in pieces:
        buffer.add_data(piece)
        found += [(message.headers, message.payload) for message in buffer]
    return found


@settings(deadline=None, max_examples=150)
@given(st.lists(frames, max_size=5), cuts)
def test_botocore_decodes_the_same_frames(bodies: list[bytes], at: list[int]) -> None:
    pieces = split(b"".join(bodies), at)
    assert [tuple(found) for found in decode(*pieces)] == botocore_frames(pieces)


def test_recorded_streams_have_their_frames_however_they_are_cut() -> None:
    streams = recordings("bedrock-converse-stream")
    if not streams:
        pytest.skip(NO_WIRE)
    chance = random.Random(1)
    for meta, body in streams:
        found = decode(body)
        assert len(found) == meta["expect"]["events"], meta["file"]
        assert [tuple(each) for each in found] == botocore_frames([body]), meta["file"]
        for ends in (range(len(body)), [chance.randrange(len(body)) for _ in range(len(body) // 300)]):
            assert decode(*split(body, ends)) == found, meta["file"]


def test_headers_are_read_once_for_frames_of_a_kind() -> None:
    first, second = decode(HELLO + HELLO)
    assert first.headers is second.headers
