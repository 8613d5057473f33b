"""Reading an answer, and how it ends, on every wire over real sockets: parts A and B of the reliability contract."""

from __future__ import annotations

import json
import re
from typing import Any

import anyio
import attrs
import pytest

from pi_ai import Context, PiAIError, Registry, TextDeltaEvent, UserMessage
from pi_ai.adapters import base
from pi_ai.testing import Failure, Turn
from pi_ai.testing.server import Answer, Received, Server
from pi_ai.testing.turns import RawToolCall
from pi_ai_tests.faults import (
    ASKED,
    CHAT,
    CLOSE,
    END,
    RESET,
    STALL,
    WHOLE,
    Script,
    Wire,
    both_decoders,
    called,
    calling,
    event_streams,
    every_wire,
    in_pieces,
    model_at,
    over,
    serving,
    well,
)
from pi_ai_tests.rigs import CONTEXT

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def no_time_is_lost_between_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pi_ai.retries.RetryPolicy._wait", lambda policy, state: 0.0)


# ── A. reading ───────────────────────────────────────────────────────────────────────────────────────────────


@every_wire
async def test_F1_only_line_feeds_and_carriage_returns_end_a_line(wire: Wire) -> None:
    text = "a\u2028b\u2029c\u0085d"
    assert (await called(wire, wire.say(text).whole)).message.text == text


@both_decoders
@every_wire
async def test_F2_one_byte_a_packet(wire: Wire) -> None:
    data = wire.say("größer — 你好 🙂").whole
    got = await called(wire, *[data[at : at + 1] for at in range(len(data))])
    assert got.message.text == "größer — 你好 🙂"


@event_streams
@pytest.mark.parametrize("line_end", [b"\r\n", b"\r", b"mixed"])
@pytest.mark.parametrize("size", [7, 4096])
async def test_F3_every_line_end_in_every_cut(wire: Wire, line_end: bytes, size: int) -> None:
    lines = re.split(rb"\r\n|\n", wire.letters("ab").whole)
    ends = [b"\r\n", b"\n", b"\r"] if line_end == b"mixed" else [line_end]
    # A CR before an LF would be one end, not two.
    data = b"".join(line + ends[number // 2 % len(ends)] for number, line in enumerate(lines[:-1]))
    got = await called(wire, *[data[at : at + size] for at in range(0, len(data), size)])
    assert got.types == WHOLE


@event_streams
async def test_F3_a_cr_at_the_end_of_a_packet_holds_nothing_back(wire: Wire) -> None:
    data = re.sub(rb"\r\n|\n", b"\r", wire.letters("a").open)
    async with serving(wire, Script((data, STALL))) as server, Registry() as pi, calling(wire, pi, server) as events:
        with anyio.fail_after(10):
            async for event in events:
                if isinstance(event, TextDeltaEvent):
                    break


@event_streams
async def test_F4_a_byte_order_mark_is_dropped(wire: Wire) -> None:
    data = b"\xef\xbb\xbf" + wire.letters("ab").whole
    assert (await called(wire, data)).types == WHOLE
    assert (await called(wire, data[:2], data[2:])).types == WHOLE


@event_streams
async def test_F5_F6_comments_pings_blank_lines_and_blocks_without_data_mean_nothing(wire: Wire) -> None:
    ping = wire.renderer.keep_alive
    noise = b":\n\n: keep-alive\n\n\n\n\nretry: 100\n\nid: 7\n\nevent: message\n\nevent: ping\nid: 8\n\n" + ping
    said = wire.letters("ab")
    got = await called(
        wire, noise, said.begin, noise, said.pieces[0], noise, said.pieces[1], noise, said.proof, noise, said.mark
    )
    assert got.types == WHOLE
    assert got.message.diagnostics is None


@event_streams
async def test_F7_data_without_a_blank_and_over_several_lines(wire: Wire) -> None:
    data = wire.letters("ab").whole
    tight = data.replace(b"data: ", b"data:").replace(b"event: ", b"event:")
    assert (await called(wire, tight)).types == WHOLE
    broken = re.sub(rb'data: \{"(\w+)": ?', rb'data: {\ndata: "\1":\ndata: ', data)
    assert broken.count(b"data: ") >= data.count(b"data: ") + 4
    assert (await called(wire, broken)).types == WHOLE


@event_streams
async def test_F8_what_nobody_knows_is_ignored(wire: Wire) -> None:
    said = wire.letters("ab")
    news = b'event: news\ndata: {"type":"news","data":1}\n\n'
    odd = said.pieces[1].replace(b"data: {", b'data: {"weather":[{}],')
    assert odd != said.pieces[1]
    got = await called(wire, said.begin, said.pieces[0], news, odd, news, said.proof, said.mark)
    assert got.types == WHOLE


@over(lambda wire: wire.sse and not wire.api.startswith("google-"))
async def test_F8_what_is_ignored_is_counted(wire: Wire) -> None:
    said = wire.letters("ab")
    got = await called(wire, said.open, b'event: news\ndata: {"type":"news","data":1}\n\n' * 2, said.proof, said.mark)
    assert got.types == WHOLE
    assert got.note("ignored")["events"]


@every_wire
async def test_F10_an_answer_that_comes_in_one_piece_at_the_end_is_only_late(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await called(wire, wire.letters("ab").whole)).types == WHOLE
    monkeypatch.setattr(base, "BURST_AFTER_S", 0.02)
    monkeypatch.setattr(base, "BURST_S", 10.0)

    async def holds_back(request: Received, answer: Answer) -> None:
        await anyio.sleep(0.03)
        await Script((wire.letters("abcdefgh").whole,)).play(answer, wire)

    async with Server(holds_back) as server, Registry() as pi:
        message = await calling(wire, pi, server).result()
    assert message.text == "abcdefgh"
    assert [note.type for note in message.diagnostics or []] == ["buffered"]


async def test_F10_an_answer_that_streams_is_not_called_buffered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "BURST_AFTER_S", 0.0)
    monkeypatch.setattr(base, "BURST_S", -1.0)
    said = CHAT.letters("abcdefgh")

    async def streams(request: Received, answer: Answer) -> None:
        await answer.head(200, CHAT.headers)
        for piece in (said.begin, *said.pieces, said.proof, said.mark):
            await answer.send(piece)
            await anyio.sleep(0.002)
        await answer.end()

    async with Server(streams) as server, Registry() as pi:
        assert (await calling(CHAT, pi, server).result()).diagnostics is None


@event_streams
@pytest.mark.parametrize("junk", [b"{oops", b"\x1b[31m\x07" + b"x" * 1000, b'{"a": NaN}', b'{"a": 1} oops'])
async def test_F11_an_event_that_is_not_json_ends_the_answer_and_is_quoted_in_short(wire: Wire, junk: bytes) -> None:
    said = wire.letters("ab")
    got = await called(wire, said.begin, said.pieces[0], wire.event(junk), said.pieces[1])
    assert got.types == "start text_start text_delta error"
    assert (got.info.kind, got.info.retryable, got.message.text) == ("protocol", False, "a")
    assert len(got.info.message) < 600
    assert not re.search(r"[\x00-\x1f]", got.info.message)


@event_streams
async def test_F12_bytes_that_are_no_utf_8_become_replacement_characters(wire: Wire) -> None:
    data = wire.say("axxb").whole.replace(b"axxb", b"a\xff\xc3b")
    assert (await called(wire, data)).message.text == "a\ufffd\ufffdb"


@every_wire
async def test_F12_a_lone_surrogate_does_no_harm(wire: Wire) -> None:
    first = await called(wire, wire.say("a\ud83db").whole)
    assert first.message.stop_reason == "stop"
    context = Context([*CONTEXT.messages, first.message, UserMessage("And?")])
    async with serving(wire, well(wire)) as server, Registry() as pi:
        await pi.complete(model_at(wire, server), context, api_key="k")
        assert '"ab"' in json.dumps(server.requests[0].json)


@event_streams
async def test_F13_an_event_over_the_limit_ends_the_answer(wire: Wire) -> None:
    begin = wire.letters("a").open
    got = await called(wire, begin, b"data: " + b"x" * 3000, b"x" * 3000, STALL, max_event_bytes=5000)
    assert got.types == "start text_start text_delta error"
    assert (got.info.kind, got.message.text) == ("too_large", "a")


@over(lambda wire: wire.api in ("openai-completions", "anthropic-messages", "openai-responses"))
async def test_F14_a_large_event_is_delivered(wire: Wire) -> None:
    arguments = json.dumps({"image": "x" * 4_000_000})
    data = wire.say(_call(arguments), piece_size=8_000_000).whole
    got = await called(wire, *[data[at : at + 500_000] for at in range(0, len(data), 500_000)])
    assert got.message.tool_calls[0].arguments == json.loads(arguments)


@every_wire
async def test_F17_an_end_that_comes_twice_keeps_the_grammar(wire: Wire) -> None:
    said = wire.call('{"city": "Paris"}')
    got = await called(wire, said.open, said.proof, said.proof, said.mark, said.mark)
    assert got.message.stop_reason == "toolUse"
    assert got.types.count("toolcall_end") == 1
    call = got.message.tool_calls[0]
    assert (call.name, call.arguments, call.arguments_error) == ("get_weather", {"city": "Paris"}, None)


# ── B. how the answer ends ───────────────────────────────────────────────────────────────────────────────────

CUT = [
    pytest.param(END, "truncated", id="F18 end"),
    pytest.param(CLOSE, "disconnected", id="F22 inside a chunked body"),
    pytest.param(RESET, "disconnected", id="F23 reset"),
]


@both_decoders
@every_wire
@pytest.mark.parametrize(("cut", "kind"), CUT)
async def test_F18_F22_F23_an_answer_that_breaks_off_is_an_error_and_keeps_its_text(
    wire: Wire, cut: str, kind: str
) -> None:
    said = wire.letters("ab")
    got = await called(wire, said.open, cut)
    assert got.types == "start text_start text_delta text_delta error"
    assert (got.message.stop_reason, got.message.text) == ("error", "ab")
    assert (got.info.kind, got.info.phase) == (kind, "end" if cut == END else "stream")
    assert got.info.retryable
    assert (got.info.bytes_seen, got.info.events_seen) == (len(said.open), said.open_events)
    with pytest.raises(PiAIError):
        got.message.raise_for_error()


@in_pieces
@pytest.mark.parametrize(("cut", "kind"), CUT)
async def test_F19_a_call_that_breaks_off_has_no_end_and_can_never_be_run(wire: Wire, cut: str, kind: str) -> None:
    got = await called(wire, wire.call('{"city": "Par').open, cut)
    assert got.types == "start toolcall_start toolcall_delta toolcall_delta error"
    assert got.info.kind == kind
    call = got.message.tool_calls[0]
    assert (call.name, call.arguments) == ("get_weather", {})
    assert '{"city": "Par' in (call.arguments_error or "")


@both_decoders
@every_wire
async def test_F20_half_an_event_is_never_read(wire: Wire) -> None:
    said = wire.letters("ab")
    for half in (said.pieces[1].rstrip(b"\r\n") if wire.sse else said.pieces[1][:-1], (said.proof + said.mark)[:20]):
        got = await called(wire, said.begin, said.pieces[0], half)
        assert (got.info.kind, got.info.phase, got.message.text) == ("truncated", "end", "a")


@event_streams
async def test_F20_an_event_that_lacks_some_of_its_lines_is_cut_off_and_no_breach_of_the_protocol(wire: Wire) -> None:
    said = wire.letters("ab")
    got = await called(wire, said.open, b"data: {\n", max_retries=2)
    assert (got.info.kind, got.info.phase, got.message.text) == ("truncated", "end", "ab")
    whole = await called(wire, said.open, said.proof, b"data: {\n")
    assert whole.types == WHOLE


@every_wire
async def test_F21_an_answer_that_only_lacks_its_last_marker_is_whole(wire: Wire) -> None:
    said = wire.letters("ab")
    got = await called(wire, said.open, said.proof)
    assert got.types == WHOLE


@both_decoders
@every_wire
@pytest.mark.parametrize("cut", [CLOSE, RESET])
async def test_F24_what_breaks_after_the_proof_does_not_matter(wire: Wire, cut: str) -> None:
    said = wire.letters("ab")
    got = await called(wire, said.open, said.proof, cut)
    assert got.types == WHOLE
    assert (got.note("late_failure") is not None) == (wire.marked or not wire.ends)


@both_decoders
@over(lambda wire: wire.ends)
async def test_F25_what_comes_after_the_end_is_ignored(wire: Wire) -> None:
    said = wire.letters("ab")
    got = await called(wire, said.open, said.proof + said.mark + said.pieces[0], wire.event(b"oops"), RESET)
    assert got.types == WHOLE


@both_decoders
@every_wire
async def test_F25_a_server_that_says_more_than_its_answer_does_not_spoil_the_next_one(wire: Wire) -> None:
    async def says_more(request: Received, answer: Answer) -> None:
        await answer.head(200, wire.headers)
        data = wire.letters("ab").whole
        await answer.raw(b"%x\r\n%s\r\n0\r\n\r\nHTTP/1.1 500 Not asked for\r\n\r\n" % (len(data), data))

    async with Server(says_more) as server, Registry(max_connections=1) as pi:
        for _ in range(3):
            assert (await calling(wire, pi, server).result()).text == "ab"
        assert server.connections == 3


HTML = b"<!doctype html>\n<html><head><title>\n Sign in to Wi-Fi </title></head><body>no</body></html>"


@every_wire
@pytest.mark.parametrize("content_type", ["text/html; charset=utf-8", "text/event-stream", "text/plain", ""])
async def test_F26_a_web_page_is_told_by_its_title(wire: Wire, content_type: str) -> None:
    headers = {"content-type": content_type} if content_type else {}
    got = await called(wire, Script((HTML,), headers=headers), max_retries=2)
    assert (got.info.kind, got.types, len(got.requests)) == ("protocol", "error", 1)
    told = content_type.partition(";")[0] or "no content type"
    assert got.message.error_message == f"Expected an event stream, got {told}: Sign in to Wi-Fi"


TYPES = ["application/json", "text/event-stream", ""]


@event_streams
@pytest.mark.parametrize("content_type", TYPES)
async def test_F27_an_error_in_a_200_is_the_error_that_it_says(wire: Wire, content_type: str) -> None:
    body = wire.error(Failure(529, "Too busy"))
    told = json.loads(body).get("request_id")
    headers = {"content-type": content_type, "retry-after-ms": "1", "x-request-id": "r7"}
    got = await called(wire, Script((body[:9], body[9:]), headers=headers))
    assert (got.info.kind, got.info.request_id, got.types) == ("overloaded", told or "r7", "error")
    assert "Too busy" in (got.message.error_message or "")


@every_wire
@pytest.mark.parametrize("content_type", TYPES)
async def test_F27_an_answer_that_was_not_streamed_becomes_the_usual_events(wire: Wire, content_type: str) -> None:
    seen: list[Any] = []
    document = wire.renderer.whole(Turn("ab"), ASKED)
    body = b"\n \n" + json.dumps(document, indent=1).encode()
    script = Script((body[:2], body[2:30], body[30:]), headers={"content-type": content_type})
    got = await called(wire, script, on_provider_stream_event=lambda payload, model: seen.append(payload))
    assert got.types == "start text_start text_delta text_end done"
    assert (got.message.text, seen) == ("ab", [document])
    assert got.message.usage.output


@every_wire
async def test_F27_a_stream_that_calls_itself_json_is_read_as_the_stream_that_it_is(wire: Wire) -> None:
    for content_type in ("application/json", "text/plain", "text/html", ""):
        script = attrs.evolve(well(wire), headers={"content-type": content_type})
        assert (await called(wire, script)).types == WHOLE


@both_decoders
@event_streams
@pytest.mark.parametrize("nothing", [[], [b"\n\n"], [b": ping\n\n"]], ids=["no byte", "blank", "a comment"])
async def test_F28_an_answer_of_nothing_is_truncated_and_is_asked_for_again(wire: Wire, nothing: list[bytes]) -> None:
    got = await called(wire, Script(tuple(nothing)))
    assert (got.info.kind, got.info.phase, got.info.retryable, got.types) == ("truncated", "end", True, "error")
    again = await called(wire, Script(tuple(nothing)), again=well(wire), max_retries=1)
    assert again.types == WHOLE


@over(lambda wire: wire.marked)
async def test_F28_an_end_marker_alone_proves_nothing(wire: Wire) -> None:
    nothing = wire.say()
    got = await called(wire, nothing.begin + nothing.mark)
    assert (got.info.kind, got.types) == ("truncated", "error")


@every_wire
async def test_F29_a_finish_without_content_is_done_and_says_so(wire: Wire) -> None:
    got = await called(wire, wire.say().whole)
    assert got.types == "start done"
    assert (got.message.content, got.message.stop_reason) == ([], "stop")
    assert got.note("empty") is not None


@in_pieces
async def test_a_length_limit_is_told_and_leaves_a_cut_call_open(wire: Wire) -> None:
    cut = wire.say(_call('{"city": "Par'), piece_size=9, stop_reason="length")
    got = await called(wire, cut.whole)
    assert got.message.stop_reason == "length"
    assert got.message.tool_calls[0].arguments_error is not None


def _call(arguments: str) -> RawToolCall:
    return RawToolCall("call_1", "get_weather", arguments)
