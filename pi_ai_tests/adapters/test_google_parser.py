"""The answers of both Google APIs: as pi-ai reads them (goldens), as servers and proxies send them, the spec's rows."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_ai.adapters import get_api
from pi_ai.adapters._google_answer import GoogleDecoder
from pi_ai.adapters._google_arguments import StreamedArguments
from pi_ai.builder import MessageBuilder
from pi_ai.errors import BadRequest, ContentFiltered, Overloaded, ProtocolError, ServerError, TooLarge, Truncated
from pi_ai.failures import http_failure
from pi_ai.types import Context, Model, ModelCost, TextContent, ThinkingContent, ToolCall
from pi_ai_tests.adapters.differences import DIFFERENCES
from pi_ai_tests.adapters.golden import answer_differences, cases, check, of_parts, streamed
from pi_ai_tests.adapters.reading import Read, check_grammar, pieces, read

GEMINI, VERTEX = "google-generative-ai", "google-vertex"
ADAPTER = get_api(GEMINI)


def model(api: str = GEMINI, **fields: Any) -> Model:
    return Model(
        **{"id": "gemini-test", "api": api, "provider": "google", "base_url": "https://x.example/v1beta", **fields}
    )


def chunk(*parts: Any, finish: Any = None, **fields: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "modelVersion": "gemini-test", "responseId": "r1", **fields}


def text(said: str, **fields: Any) -> dict[str, Any]:
    return {"text": said, **fields}


def thought(said: str, **fields: Any) -> dict[str, Any]:
    return {"text": said, "thought": True, **fields}


def call(name: str | None = None, **fields: Any) -> dict[str, Any]:
    signature = {"thoughtSignature": fields.pop("signature")} if "signature" in fields else {}
    return {"functionCall": {**({"name": name} if name else {}), **fields}, **signature}


STOP = chunk(finish="STOP")


def stream(*chunks: Any, **fields: Any) -> Read:
    """Read chunks: dicts are chunks, strings raw data."""
    data = [part if isinstance(part, str) else json.dumps(part, ensure_ascii=False) for part in chunks]
    return heard("".join(f"data: {line}\r\n\r\n" for line in data).encode(), **fields)


def heard(*parts: bytes, **fields: Any) -> Read:
    made = model(**fields)
    return read(get_api(made.api), made, parts, Context())


# ── as pi-ai reads it ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("golden", [case for case in (*cases(GEMINI), *cases(VERTEX)) if streamed(case.values[0])])
def test_the_answer_is_read_as_pi_ai_reads_it(golden: dict[str, Any]) -> None:
    known = of_parts(DIFFERENCES[golden["api"]].get(golden["name"]), "events", "message")
    check(answer_differences(get_api(golden["api"]), golden), known, golden["name"])


# ── content (S1-S5) ──────────────────────────────────────────────────────────────────────────────────────────


def test_S1_a_thought_then_a_text() -> None:
    found = stream(chunk(thought("Hm.")), chunk(text("Hel")), chunk(text("lo"), finish="STOP"))
    assert found.types == [
        *("start", "thinking_start", "thinking_delta", "thinking_end"),
        *("text_start", "text_delta", "text_delta", "text_end", "done"),
    ]
    assert found.message.content == [ThinkingContent("Hm."), TextContent("Hello")]
    assert (found.message.stop_reason, found.message.raw_stop_reason) == ("stop", "STOP")


def test_S2_thoughts_and_texts_may_take_turns() -> None:
    parts = [thought("a"), text("b"), thought("c"), text("d")]
    for found in stream(chunk(*parts, finish="STOP")), stream(*map(chunk, parts), STOP):
        assert [block.type for block in found.message.content] == ["thinking", "text", "thinking", "text"]
        assert [event.content_index for event in found.events if event.type.endswith("_end")] == [0, 1, 2, 3]
        assert found.deltas == ["a", "b", "c", "d"]


def test_only_thought_true_makes_a_thought() -> None:
    odd = [text("a", thought=False), text("b", thought="yes"), text("c", thoughtSignature="c2ln")]
    assert [block.type for block in stream(chunk(*odd), STOP).message.content] == ["text"]


def test_S3_a_call_without_id_and_arguments() -> None:
    found = stream(chunk(call("get_time")), STOP)
    assert found.types == ["start", "toolcall_start", "toolcall_delta", "toolcall_end", "done"]
    assert found.deltas == ["{}"]
    (made,) = found.message.tool_calls
    assert re.fullmatch("get_time_[a-z0-9]{8}", made.id)
    assert (made.arguments, found.message.stop_reason) == ({}, "toolUse")


def test_S4_two_calls_with_the_same_id_are_told_apart() -> None:
    found = stream(chunk(call("f", id="1"), call("f", id="1"), call("f", id="")), STOP)
    first, second, third = found.message.tool_calls
    assert first.id == "1"
    assert len({first.id, second.id, third.id}) == 3
    assert re.fullmatch("f_[a-z0-9]{8}", second.id)


def test_a_call_ends_what_was_being_written() -> None:
    found = stream(chunk(text("a"), call("f", id="1", args={"x": "ä", "y": [1, None]}), text("b")), STOP)
    assert found.types[1:] == [
        *("text_start", "text_delta", "text_end", "toolcall_start", "toolcall_delta", "toolcall_end"),
        *("text_start", "text_delta", "text_end", "done"),
    ]
    assert found.deltas == ["a", '{"x":"ä","y":[1,null]}', "b"]


@pytest.mark.parametrize("arguments", [[1], "x", 5, True])
def test_arguments_that_are_no_object_are_never_run(arguments: Any) -> None:
    """F78."""
    (made,) = stream(chunk(call("f", args=arguments)), STOP).message.tool_calls
    assert made.arguments == {}
    assert (made.arguments_error or "").startswith("Tool arguments must be a JSON object\n\nReceived arguments:\n")


def test_S5_an_empty_signed_part_keeps_its_signature() -> None:
    found = stream(chunk(text("Hi")), chunk(text("", thoughtSignature="QUJD"), finish="STOP"))
    assert found.message.content == [TextContent("Hi", "QUJD")]
    assert found.deltas == ["Hi"]
    alone = stream(chunk(call("f", id="1")), chunk(text("", thoughtSignature="QUJD"), finish="STOP"))
    assert alone.message.content[1] == TextContent("", "QUJD")
    assert alone.types[-3:] == ["text_start", "text_end", "done"]


def test_a_part_of_a_signature_alone_is_an_empty_text() -> None:
    found = stream(chunk(thought("Hm.")), chunk({"thoughtSignature": "QQ==", "thought": True}), STOP)
    assert found.message.content == [ThinkingContent("Hm.", "QQ==")]
    assert stream(chunk({"thoughtSignature": "QQ=="}), STOP).message.content == [TextContent("", "QQ==")]


def test_what_is_signed_apart_stays_apart() -> None:
    parts = [text("a", thoughtSignature="QQ=="), text("b"), text("c", thoughtSignature="QQ=="), text("d")]
    assert stream(*map(chunk, parts), STOP).message.content == [TextContent("abcd", "QQ==")]
    again = stream(*map(chunk, parts), chunk(text("e", thoughtSignature="Qg==")), STOP)
    assert again.message.content == [TextContent("abcd", "QQ=="), TextContent("e", "Qg==")]
    thoughts = stream(chunk(thought("a", thoughtSignature="QQ=="), thought("b", thoughtSignature="Qg==")), STOP)
    assert thoughts.message.content == [ThinkingContent("a", "QQ=="), ThinkingContent("b", "Qg==")]


def test_a_call_keeps_its_signature() -> None:
    (made,) = stream(chunk(call("f", id="1", args={}, signature="QQ==")), STOP).message.tool_calls
    assert made == ToolCall("1", "f", {}, thought_signature="QQ==")


def test_what_is_no_content_is_told_as_it_came() -> None:
    image = {"inlineData": {"mimeType": "image/png", "data": "aW1n"}}
    code = {"executableCode": {"language": "PYTHON", "code": "1"}, "thoughtSignature": "QQ=="}
    grounding = {"groundingChunks": [{"web": {"uri": "https://a.example", "title": "A"}}]}
    chunks = [chunk(text("a"), image, code, {}), chunk(text("b")), chunk(text("c")), chunk(finish="STOP")]
    chunks[1]["candidates"][0] |= {"groundingMetadata": {}, "citationMetadata": {"citations": [{"uri": "u"}]}}
    chunks[2]["candidates"][0]["groundingMetadata"] = chunks[3]["candidates"][0]["groundingMetadata"] = grounding
    found = stream(*chunks)
    assert found.message.content == [TextContent("abc")]
    assert [(note.type, note.details) for note in found.message.diagnostics or ()] == [
        (
            "google_server_content",
            {
                "parts": [image, code],
                "citationMetadata": [{"citations": [{"uri": "u"}]}],
                "groundingMetadata": [grounding],
            },
        )
    ]


def test_the_first_id_and_another_models_name_are_told() -> None:
    late = chunk(text("a"))
    del late["responseId"], late["modelVersion"]
    found = stream(late, {**chunk(text("b")), "modelVersion": "gemini-real"}, {**STOP, "responseId": "r2"})
    assert (found.message.response_id, found.message.response_model) == ("r1", "gemini-real")
    assert stream(STOP).message.response_model is None


@pytest.mark.parametrize(
    "odd",
    [
        "null",
        "5",
        '"x"',
        "{}",
        '{"candidates":null}',
        '{"candidates":[]}',
        '{"candidates":[null]}',
        '{"candidates":[{}]}',
        '{"candidates":[{"content":null}]}',
        '{"candidates":[{"content":{"parts":null}}]}',
        '{"candidates":[{"content":{"parts":[null,5,{"text":5},{"functionCall":null},{"functionCall":{}}]}}]}',
        '{"candidates":[{"content":[]}],"responseId":5,"modelVersion":[]}',
        '{"promptFeedback":{"safetyRatings":[]}}',
        '{"usageMetadata":{"promptTokenCount":"x","candidatesTokenCount":-1,"thoughtsTokenCount":null}}',
        "[DONE]",
    ],
)
def test_F8_odd_chunks_mean_nothing(odd: str) -> None:
    found = stream(odd, chunk(text("Hi")), odd, STOP)
    assert (found.message.text, found.message.stop_reason) == ("Hi", "stop")


# ── arguments in pieces ──────────────────────────────────────────────────────────────────────────────────────


def piece(path: str, value: Any, *, more: bool = False) -> dict[str, Any]:
    kind = {str: "stringValue", bool: "boolValue", type(None): "nullValue"}.get(type(value), "numberValue")
    return {"jsonPath": path, kind: value, **({"willContinue": True} if more else {})}


def going_on(*values: dict[str, Any], name: str | None = None, more: bool = True, **fields: Any) -> dict[str, Any]:
    streamed = {"partialArgs": list(values)} if values else {}
    return chunk(call(name, **streamed, **({"willContinue": True} if more else {}), **fields))


def test_arguments_in_pieces_are_shown_as_they_grow() -> None:
    found = stream(
        going_on(name="send", signature="QQ==", id="1"),
        going_on(piece("$.to[0].name", "An", more=True)),
        going_on(piece("$.to[0].name", 'n "é"', more=True)),
        going_on(piece("$.to[0].name", "")),
        going_on(),
        going_on(piece("$.to[1]", 5), piece("$['sub ject']", None)),
        going_on(more=False),
        chunk(text("x"), finish="STOP"),
    )
    deltas = ["{", '"to":[{"name":"An', 'n \\"é\\"', '"', '},5],"sub ject":null', "}"]
    assert found.deltas == [*deltas, "x"]
    arguments = {"to": [{"name": 'Ann "é"'}, 5], "sub ject": None}
    assert found.message.tool_calls == [ToolCall("1", "send", arguments, thought_signature="QQ==")]
    assert found.types[-5:] == ["toolcall_end", "text_start", "text_delta", "text_end", "done"]


@pytest.mark.parametrize("ending", [[STOP], [chunk(finish="MAX_TOKENS")], [chunk(text(""), finish="STOP")]])
@pytest.mark.parametrize("pieces", [[], [piece("$.a", 1)], [piece("$.a", "x", more=True)]])
def test_F19_a_call_whose_end_did_not_come_is_never_run(pieces: list[Any], ending: list[Any]) -> None:
    for after in ending, [going_on(name="g"), going_on(more=False), *ending]:
        made, *others = stream(going_on(*pieces, name="f"), *after).message.tool_calls
        assert made.arguments == {}
        assert "Received arguments:\n{" in (made.arguments_error or "")
        assert [(other.name, other.arguments, other.arguments_error) for other in others] in ([], [("g", {}, None)])


def test_J5_paths_that_go_back_replace_the_text_at_the_end() -> None:
    values = [piece("$.a.x", 1), piece("$.b", "s"), piece("$.a.y", True), piece("$.b", "t")]
    found = stream(going_on(*values, name="f", more=False), STOP)
    assert found.deltas == ["{", '"a":{"x":1},"b":"s"']
    assert found.message.tool_calls[0].arguments == {"a": {"x": 1, "y": True}, "b": "t"}


@pytest.mark.parametrize(
    "values",
    [
        [{"jsonPath": "$.a"}],
        [{"jsonPath": "$", "numberValue": 1}],
        [{"jsonPath": "$[0]", "numberValue": 1}],
        [{"jsonPath": "a.b", "numberValue": 1}],
        [{"jsonPath": "$..a", "numberValue": 1}],
        [{"jsonPath": "$.a[*]", "numberValue": 1}],
        [{"jsonPath": "$.a[999999]", "numberValue": 1}],
        [{"jsonPath": 5, "numberValue": 1}],
        [{"jsonPath": "$.a", "stringValue": {}}],
        [piece("$.a", 1), piece("$.a.b", 1)],
        [piece("$.a[0]", 1), piece("$.a.b", 1)],
        ["x"],
    ],
)
def test_pieces_that_make_no_object_are_never_run(values: list[Any]) -> None:
    (made,) = stream(going_on(*values, name="f", more=False), STOP).message.tool_calls
    assert made.arguments == {}
    assert (made.arguments_error or "").startswith("Tool arguments must be a JSON object")


names = st.text(st.characters(exclude_characters="'\"[].", exclude_categories=["Cs"]), min_size=1, max_size=4)
leaves = st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"]))
trees = st.dictionaries(
    names,
    st.recursive(
        leaves,
        lambda inner: st.lists(inner, min_size=1, max_size=3) | st.dictionaries(names, inner, min_size=1, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)


def told(value: Any, path: str = "$") -> list[dict[str, Any]]:
    """What Google would send for a value: strings in two pieces and an empty one."""
    if isinstance(value, dict):
        return [part for name, inner in value.items() for part in told(inner, f"{path}['{name}']")]
    if isinstance(value, list):
        return [part for at, inner in enumerate(value) for part in told(inner, f"{path}[{at}]")]
    if isinstance(value, str):
        half = len(value) // 2
        return [piece(path, value[:half], more=True), piece(path, value[half:], more=True), piece(path, "")]
    return [piece(path, value)]


@settings(max_examples=200, deadline=None)
@given(trees, st.randoms())
def test_any_arguments_come_out_whole_in_any_order(tree: dict[str, Any], by_chance: Any) -> None:
    arguments = StreamedArguments()
    so_far = arguments.begin() + "".join([arguments.add(part) for part in told(tree)])
    whole = arguments.complete()
    assert json.loads(whole) == tree
    assert whole.startswith(so_far)
    assert whole[len(so_far) :].strip("{}]") == ""

    groups = [told(value, f"$['{name}']") for name, value in tree.items()]
    by_chance.shuffle(groups)
    mixed = StreamedArguments()
    for group in groups:
        for part in group:
            mixed.add(part)
    assert json.loads(mixed.complete()) == tree


# ── usage (U1, U2) ───────────────────────────────────────────────────────────────────────────────────────────

COUNTS = {
    "promptTokenCount": 100,
    "cachedContentTokenCount": 40,
    "candidatesTokenCount": 10,
    "thoughtsTokenCount": 5,
    "toolUsePromptTokenCount": 7,
    "totalTokenCount": 122,
}


def test_U1_tokens() -> None:
    usage = stream({**STOP, "usageMetadata": COUNTS}).message.usage
    assert (usage.input, usage.cache_read, usage.output, usage.reasoning) == (67, 40, 15, 5)
    assert (usage.total_tokens, usage.cache_write) == (122, 0)


def test_U2_later_chunks_may_leave_counts_out() -> None:
    usage = stream(
        {**chunk(text("a")), "usageMetadata": COUNTS}, {**STOP, "usageMetadata": {"candidatesTokenCount": 20}}
    )
    assert (usage.message.usage.input, usage.message.usage.output) == (67, 25)
    without_total = {key: value for key, value in COUNTS.items() if key != "totalTokenCount"}
    assert stream({**STOP, "usageMetadata": without_total}).message.usage.total_tokens == 122


def test_more_from_the_cache_than_was_asked_is_nothing_new() -> None:
    odd = {"promptTokenCount": 1, "cachedContentTokenCount": 5}
    assert stream({**STOP, "usageMetadata": odd}).message.usage.input == 0


def test_S21_usage_and_cost_can_be_read_at_any_time() -> None:
    builder = MessageBuilder(model(cost=ModelCost(input=1.0, output=10.0)))
    parser = ADAPTER.parser(builder.model, ADAPTER.options_type(), builder, Context())
    parser.feed({**chunk(text("a")), "usageMetadata": {"promptTokenCount": 3}})
    assert (builder.message.usage.input, builder.message.usage.cost.input) == (3, 3e-6)
    parser.feed({**chunk(text("b")), "usageMetadata": {"candidatesTokenCount": 2}})
    assert builder.interrupt().usage.output == 2


# ── how it ends (S6-S10) ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "reason",
    ["SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY", "IMAGE_RECITATION"],
)
def test_S6_F34_a_filtered_answer_is_told_as_one(reason: str) -> None:
    ending = chunk(finish=reason)
    ending["candidates"][0]["finishMessage"] = "Because."
    found = stream(chunk(text("Hi")), ending)
    assert isinstance(found.error, ContentFiltered)
    assert found.error.text == f"Provider stopped with: {reason} (Because.)"
    assert not found.error.info.retryable
    assert found.types == ["start", "text_start", "text_delta", "text_end"]
    assert (found.message.text, found.message.raw_stop_reason) == ("Hi", reason)


@pytest.mark.parametrize(("reason", "again"), [("MALFORMED_FUNCTION_CALL", True), ("OTHER", True), ("NEW", False)])
def test_other_endings_are_failures_and_some_pass(reason: str, again: bool) -> None:
    found = stream(chunk(call("f", id="1")), chunk(finish=reason))
    assert isinstance(found.error, ServerError if again else ProtocolError)
    assert (found.error.text, found.error.info.retryable) == (f"Provider stopped with: {reason}", again)


@pytest.mark.parametrize(
    ("number", "raw", "reason"),
    [(1, "STOP", "stop"), (2, "MAX_TOKENS", "length"), (3, "SAFETY", None), (99, "99", None)],
)
def test_finish_reasons_may_be_numbers(number: int, raw: str, reason: str | None) -> None:
    found = stream(chunk(text("Hi"), finish=number))
    assert found.message.raw_stop_reason == raw
    assert found.proven
    if reason is None:
        assert str(found.error) == f"Provider stopped with: {raw}"
    else:
        assert found.message.stop_reason == reason


def test_the_last_finish_reason_counts() -> None:
    found = stream(chunk(text("a"), finish="STOP"), chunk(text("b"), finish="MAX_TOKENS"))
    assert (found.message.text, found.message.stop_reason) == ("ab", "length")


def test_S7_a_blocked_prompt_is_told() -> None:
    feedback = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 9}}
    found = stream(feedback)
    assert isinstance(found.error, ContentFiltered)
    assert (found.error.text, found.proven) == ("Prompt blocked: SAFETY", True)
    assert found.message.usage.input == 9
    feedback["promptFeedback"]["blockReasonMessage"] = "Why."  # type: ignore[index]
    assert str(stream(feedback).error) == "Prompt blocked: SAFETY: Why."


@pytest.mark.parametrize(("api", "label"), [(GEMINI, "Google"), (VERTEX, "Google Vertex")])
def test_S8_F18_an_answer_without_a_finish_reason_is_cut_off(api: str, label: str) -> None:
    found = stream(chunk(text("Hi")), api=api)
    assert isinstance(found.error, Truncated)
    assert found.error.text == f"{label} stream ended without a finish reason"
    assert found.error.info.retryable
    assert found.message.text == "Hi"
    assert isinstance(stream(api=api).error, Truncated)


def test_a_server_without_finish_reasons_can_be_declared() -> None:
    found = stream(chunk(text("Hi")), compat={"completionProof": "eof"})
    assert (found.message.stop_reason, found.message.completion) == ("stop", "assumed")
    assert stream(chunk(call("f")), compat={"completionProof": "eof"}).message.stop_reason == "toolUse"


ERROR = {"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}


@pytest.mark.parametrize("ending", [(), (STOP,)])
def test_S9_F31_an_error_in_the_stream_is_told(ending: tuple[Any, ...]) -> None:
    found = stream(chunk(text("Hi")), *ending, ERROR)
    assert isinstance(found.error, Overloaded)
    assert (found.error.text, found.error.info.status) == ("503: overloaded", 503)
    assert found.message.text == "Hi"
    assert str(stream({**ERROR, "candidates": []}).error) == "503: overloaded"
    assert str(stream({**chunk(text("x")), **ERROR}).error) == "503: overloaded"


def test_S10_a_call_that_met_the_limit() -> None:
    found = stream(chunk(call("f", id="1", args={}), finish="MAX_TOKENS"))
    assert found.message.stop_reason == "length"


def test_F29_an_empty_answer_is_marked() -> None:
    found = stream(STOP)
    assert found.types == ["start", "done"]
    assert [note.type for note in found.message.diagnostics or ()] == ["empty"]


# ── framing (F1-F7, F11, F15) ────────────────────────────────────────────────────────────────────────────────

CHUNKS = [chunk(text('a } " {')), chunk(text("\u2028é")), chunk(text("c"), finish="STOP")]
ARRAY = json.dumps(CHUNKS, indent=2).replace("\n},", "\n}\n,\r\n").encode()
EVENTS = b"".join(b"data: %s\r\n\r\n" % json.dumps(part, ensure_ascii=False).encode() for part in CHUNKS)


@pytest.mark.parametrize(
    "body",
    [
        EVENTS,
        EVENTS.replace(b"\r\n", b"\n"),
        EVENTS.replace(b"\r\n", b"\r"),
        b"\xef\xbb\xbf" + EVENTS,
        b"\n\n: hello\n\n" + EVENTS,
        EVENTS.replace(b"data: ", b"data:"),
        EVENTS + b"data: [DONE]\n\n",
        ARRAY,
        json.dumps(CHUNKS, separators=(",", ":")).encode(),
        b"\xef\xbb\xbf \r\n" + ARRAY,
        b"\n".join(json.dumps(part).encode() for part in CHUNKS),
        EVENTS.replace(b"\r\n\r\ndata: ", b""),  # several chunks in one event
        EVENTS.replace(b"\r\n\r\ndata: ", b"\r\ndata: "),
        EVENTS.replace(b"\r\n\r\ndata: ", b" , "),
    ],
)
def test_F15_the_answer_is_the_same_in_every_framing(body: bytes) -> None:
    for parts in [body], pieces(body, range(1, len(body))):
        found = heard(*parts)
        assert found.error is None
        assert found.deltas == ['a } " {', "\u2028é", "c"]


def test_F15_an_array_is_read_while_it_comes() -> None:
    decoder = GoogleDecoder(1000)
    assert decoder.feed(b"[") == []
    first, *rest = json.dumps(CHUNKS)[1:].encode().partition(b"}]}, ")  # somewhere inside
    assert [json.loads(event.data) for event in decoder.feed(b"".join([first, *rest]))] == CHUNKS


FIRST = EVENTS[: EVENTS.index(b"data", 5)]


@pytest.mark.parametrize(
    ("before", "wrap"), [(b"", "%s"), (b"", "[%s]"), (b"", "[%s\n]\n"), (FIRST, "%s"), (FIRST[:-2], "%s")]
)
def test_plain_json_behind_the_events_is_read(before: bytes, wrap: str) -> None:
    """As Vertex AI was recorded to break off."""
    body = before + (wrap % json.dumps(ERROR, indent=2)).encode()
    for parts in [body], pieces(body, range(1, len(body))), [before, body[len(before) :]]:
        found = heard(*parts)
        assert str(found.error) == "503: overloaded"
        assert found.deltas == (['a } " {'] if before else [])


def test_F15_several_chunks_in_one_event_go_on_with_a_text() -> None:
    several = "".join(json.dumps(part) for part in CHUNKS)
    assert stream(chunk(text("x")), several).deltas == ["x", 'a } " {', "\u2028é", "c"]


def test_F11_an_event_that_is_not_json_is_told() -> None:
    found = stream(chunk(text("Hi")), '{"oops": \x01', STOP)
    assert isinstance(found.error, ProtocolError)
    assert "\x01" not in found.error.info.message
    assert found.deltas == ["Hi"]
    assert isinstance(stream("{oops}{}").error, ProtocolError)


def test_F13_what_is_too_large_is_refused_in_every_framing() -> None:
    for body in b"data: " + b"x" * 200, b'[{"a":"' + b"x" * 200, b': hi\n{"a":"' + b"x" * 200:
        with pytest.raises(TooLarge):
            GoogleDecoder(100).feed(body)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["text", "thought"]), st.text(st.characters(exclude_categories=["Cs"]), max_size=8)),
        max_size=8,
    ),
    st.booleans(),
    st.lists(st.integers(0, 2000), max_size=12),
)
def test_any_answer_comes_out_in_order_however_it_is_framed(
    said: list[tuple[str, str]], array: bool, ends: list[int]
) -> None:
    chunks = [chunk({"text": part, **({"thought": True} if kind == "thought" else {})}) for kind, part in said]
    chunks.append(STOP)
    body = b"".join(b"data: %s\n\n" % json.dumps(part).encode() for part in chunks)
    body = json.dumps(chunks).encode() if array else body
    found = heard(*pieces(body, sorted(end for end in ends if end < len(body))))
    assert found.message.text == "".join(part for kind, part in said if kind == "text")
    assert found.message.thinking == "".join(part for kind, part in said if kind == "thought")
    runs = sum(1 for before, (kind, _) in pairwise([("", ""), *said]) if before[0] != kind)
    assert len(found.message.content) == runs
    check_grammar(found.events, ended=True)


# ── errors (E1-E3) ───────────────────────────────────────────────────────────────────────────────────────────


def refusal(status: int, body: Any) -> Any:
    about = {"provider": "google", "api": GEMINI, "model": "gemini-test"}
    return http_failure(status, {}, json.dumps(body).encode(), **about, now=0.0).info


RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "2s"}
PER_DAY = {
    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
    "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}],
}


@pytest.mark.parametrize("wrap", [lambda body: body, lambda body: [body]], ids=["plain", "in an array"])
def test_E1_E3_google_tells_in_the_body_how_long_to_wait(wrap: Any) -> None:
    body = {"error": {"code": 429, "message": "Slow down", "status": "RESOURCE_EXHAUSTED", "details": [RETRY]}}
    info = refusal(429, wrap(body))
    assert (info.kind, info.retryable, info.retry_after) == ("rate_limited", True, 3.0)
    for words, wait in ("Please retry in 850ms.", 2.0), ("reset after 10m15s", 616.0):
        assert refusal(429, wrap({"error": {"code": 429, "message": words}})).retry_after == wait


def test_a_quota_of_the_day_is_not_worth_waiting_for() -> None:
    body = {"error": {"code": 429, "message": "Quota", "status": "RESOURCE_EXHAUSTED", "details": [PER_DAY, RETRY]}}
    assert (refusal(429, body).kind, refusal(429, body).retryable) == ("quota", False)


def test_a_missing_signature_is_a_bad_request() -> None:
    body = {
        "error": {"code": 400, "message": "Function call is missing a thought_signature", "status": "INVALID_ARGUMENT"}
    }
    assert isinstance(refusal(400, body).exception(), BadRequest)
