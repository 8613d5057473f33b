"""The chunked transfer coding: what is taken, what is refused, and that both decoders and h11 mean the same by it."""

from __future__ import annotations

import gc
import weakref
from itertools import pairwise

import h11
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pi_ai.wire.chunked import MAX_FRAMING_BYTES, ChunkedDecoder

DECODERS: dict[str, type[ChunkedDecoder]] = {"normal": ChunkedDecoder}
try:
    from pi_ai.wire.fast_chunked import FastChunkedDecoder
except ImportError:
    FAST = pytest.param("fast", marks=pytest.mark.skip(reason="httptools is not installed (extra speed)"))
else:
    FAST = pytest.param("fast")
    DECODERS["fast"] = FastChunkedDecoder


@pytest.fixture(params=["normal", FAST])
def decoder(request: pytest.FixtureRequest) -> ChunkedDecoder:
    return DECODERS[request.param]()


def outcome(decoder: ChunkedDecoder, pieces: list[bytes]) -> tuple[bytes, bool, bool]:
    """The body, whether it is whole, and whether more has come."""
    body = b"".join(map(decoder.feed, pieces))
    if decoder.failure is not None:
        why = decoder.failure
        assert decoder.feed(END) == b""
        assert (decoder.ended, decoder.failure) == (False, why)
    return body, decoder.ended, decoder.surplus


def by_h11(pieces: list[bytes]) -> tuple[bytes, bool, bool]:
    """The same, as h11 sees it."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("host", "h")]))
    connection.send(h11.EndOfMessage())
    body, ended = b"", False
    try:
        for piece in [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", *pieces]:
            if piece:
                connection.receive_data(piece)
            while (event := connection.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                if isinstance(event, h11.Data):
                    body += event.data
                ended = ended or isinstance(event, h11.EndOfMessage)
    except h11.RemoteProtocolError:
        pass
    return body, ended, bool(connection.trailing_data[0].strip(b"\r\n")) if ended else False


def cut(data: bytes, at: list[int]) -> list[bytes]:
    return [
        data[start:end] for start, end in pairwise([0, *sorted(where % (len(data) + 1) for where in at), len(data)])
    ]


def framed(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)


END = b"0\r\n\r\n"


@pytest.mark.parametrize(
    "data",
    [
        framed(b"hello") + END,
        b"5 \t\r\nhello\r\n" + END,
        b"0005\r\nhello\r\n000\r\n\r\n",
        b"%032d\r\nhello\r\n" % 5 + END,
        b'5;a=b;c="d\\" e";f\r\nhello\r\n0;g\r\n\r\n',
        framed(b"he", b"llo") + b"0\r\nX-Checksum: abc \xe9\r\nempty:\r\n\r\n",
        b"5;a=" + b"b" * 2_000 + b"\r\nhello\r\n" + END,
        framed(b"hello") + END + b"\r\n",
    ],
    ids=[
        "plain",
        "blanks",
        "zeros",
        "many zeros",
        "extensions",
        "trailers",
        "a long extension",
        "an empty line behind it",
    ],
)
def test_a_whole_body_is_taken_in_one_piece_or_byte_by_byte(decoder: ChunkedDecoder, data: bytes) -> None:
    assert outcome(decoder, [data]) == (b"hello", True, False)
    assert outcome(type(decoder)(), cut(data, list(range(len(data))))) == (b"hello", True, False)


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (b"nonsense\r\n", b""),
        (b"\r\n" + framed(b"hello") + END, b""),
        (b"-5\r\nhello\r\n", b""),
        (b"0x5\r\nhello\r\n", b""),
        (b"5_0\r\n" + b"x" * 80 + b"\r\n", b""),
        (b"5\nhello\n0\n\n", b""),
        (b"10000000000000000\r\nhello", b""),
        (b"5 5\r\nhello\r\n", b""),
        (b"5;a=\0\r\nhello\r\n", b""),
        (b"5\r\nhello5\r\nhello\r\n", b"hello"),
        (b"5\r\nhelloxx" + END, b"hello"),
        (b"5\r\nhello\n5\r\nhello\r\n", b"hello"),
        (b"5\r\nhello\r5\r\nhello\r\n", b"hello"),
        (framed(b"hello") + b"G\r\n", b"hello"),
        (framed(b"hello") + b"0\r\nno colon\r\n\r\n", b"hello"),
        (framed(b"hello") + b"0\r\n folded: x\r\n\r\n", b"hello"),
        (framed(b"hello") + b"0\r\ncontent-length: 5\r\n\r\n", b"hello"),
        (framed(b"hello") + b"0\r\na: \0\r\n\r\n", b"hello"),
    ],
)
def test_F76_what_is_no_chunk_is_refused_and_what_stood_before_it_is_kept(
    decoder: ChunkedDecoder, data: bytes, body: bytes
) -> None:
    assert outcome(decoder, [data]) == (body, False, False)
    assert decoder.failure is not None
    assert outcome(type(decoder)(), cut(data, list(range(len(data))))) == (body, False, False)
    assert not by_h11([data])[1] or b"content-length" in data


@pytest.mark.parametrize("end", range(1, len(framed(b"hello", b"you") + END)))
def test_F22_a_body_that_breaks_off_anywhere_is_not_whole(decoder: ChunkedDecoder, end: int) -> None:
    body, ended, _ = outcome(decoder, [(framed(b"hello", b"you") + END)[:end]])
    assert b"helloyou".startswith(body)
    assert not ended


@pytest.mark.parametrize("more", [b"HTTP/1.1 200 OK\r\n\r\n", b"0\r\n\r\n", b"\0"])
@pytest.mark.parametrize("later", [False, True], ids=["with it", "later"])
def test_F25_what_comes_behind_the_body_is_noticed(decoder: ChunkedDecoder, more: bytes, later: bool) -> None:
    whole = framed(b"hello") + END
    assert outcome(decoder, [whole, more] if later else [whole + more]) == (b"hello", True, True)


@pytest.mark.parametrize("endless", [b"5;" + b"a" * 100, b"0\r\n" + b"a: b\r\n" * 20, b"0\r\na: " + b"b" * 100])
def test_F76_framing_without_end_is_refused_and_not_kept(decoder: ChunkedDecoder, endless: bytes) -> None:
    more = b"a: b\r\n" * 17 if endless.endswith(b"\n") else endless[-100:]
    for _ in range(2 * MAX_FRAMING_BYTES // 100):
        decoder.feed(endless)
        endless = more
    assert decoder.failure is not None


def test_F76_the_framing_of_a_body_may_be_long_if_the_body_is(decoder: ChunkedDecoder) -> None:
    body = framed(b"x") * (MAX_FRAMING_BYTES // 4) + END
    assert outcome(decoder, cut(body, list(range(len(body))))) == (b"x" * (MAX_FRAMING_BYTES // 4), True, False)


def test_the_bytes_of_a_chunk_are_given_as_they_come(decoder: ChunkedDecoder) -> None:
    assert [decoder.feed(piece) for piece in (b"a\r\nabc", b"def", b"g", b"hij\r", b"\n", b"0\r\n\r\n")] == [
        b"abc", b"def", b"g", b"hij", b"", b"",
    ]  # fmt: skip
    assert decoder.ended


def test_a_decoder_goes_without_the_garbage_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        for made in DECODERS.values():

            class Watched(made):  # type: ignore[misc, valid-type]
                __slots__ = ("__weakref__",)

            watched = Watched()
            gone = weakref.ref(watched)
            watched.feed(framed(b"hello"))
            del watched
            assert gone() is None
    finally:
        gc.enable()


# ── properties ───────────────────────────────────────────────────────────────────────────────────────────────

quick = settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
CUTS = st.lists(st.integers(0, 1000), max_size=6)
SIZE_ENDS = st.sampled_from([b"\r\n", b" \r\n", b";a\r\n", b";a=b\r\n", b';a="b;"\r\n'])


@quick
@given(
    st.lists(st.tuples(st.binary(min_size=1, max_size=40), SIZE_ENDS, st.booleans()), max_size=6),
    st.sampled_from([b"", b"a: b\r\n", b"a:\r\nb: c d\r\n"]),
    CUTS,
)
def test_every_body_comes_out_as_it_went_in(chunks: list[tuple[bytes, bytes, bool]], trailers: bytes, at: list[int]):
    data = b"".join(
        (b"%X" if upper else b"%04x") % len(chunk) + line_end + chunk + b"\r\n" for chunk, line_end, upper in chunks
    )
    pieces = cut(data + b"0\r\n" + trailers + b"\r\n", at)
    expected = b"".join(chunk for chunk, _, _ in chunks), True, False
    assert by_h11(pieces) == expected
    for made in DECODERS.values():
        assert outcome(made(), pieces) == expected


FRAGMENTS = st.sampled_from(
    [
        *(b"0", b"1", b"5", b"a", b"F", b"10", b"ffffffffffffffff", b"G", b"\r\n", b"\r", b"\n", b" ", b"\t", b":"),
        *(b";", b";a", b";a=b", b'"', b"\\", b"=", b",", b"\0", b"\x80", b"\x7f", b"hello", b"a: b\r\n", END),
        *(framed(b"hello"), b"5\r\nhel", b"5;a=b\r\nhello\r\n", b"content-length: 5", b"HTTP/1.1 200 OK"),
    ]
)


@quick
@given(st.lists(FRAGMENTS | st.binary(max_size=3), max_size=14).map(b"".join), CUTS)
def test_of_any_bytes_both_decoders_make_the_same_and_accept_nothing_that_h11_refuses(data: bytes, at: list[int]):
    pieces = cut(data, at)
    got = {outcome(made(), how) for made in DECODERS.values() for how in (pieces, [data])}
    assert len(got) == 1
    (body, ended, surplus) = got.pop()
    if ended:
        assert by_h11(pieces) == (body, ended, surplus)
