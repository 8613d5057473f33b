"""Text and JSON hygiene (core section 11; reliability F12, F73, F80)."""

from __future__ import annotations

import copy
import json
import math
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_ai.text import (
    MAX_DEPTH,
    content_text,
    decode_json,
    encode_json,
    parse_json_with_repair,
    sanitize_surrogates,
    sanitized,
    short_hash,
)
from pi_ai.types import ImageContent, TextContent, ThinkingContent, ToolCall
from pi_ai_tests.data import table

HIGH, LOW = "\ud83d", "\ude48"

any_text = st.text(st.characters() | st.sampled_from([HIGH, LOW, "\udfff", "\ud800"]))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
dirty_values = st.recursive(
    st.integers() | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=12,
)
no_deadline = settings(deadline=None)


# ── surrogates ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("", ""),
        ("plain", "plain"),
        ("Hello 🙈", "Hello 🙈"),
        (f"{HIGH}{LOW}", "🙈"),
        (f"a{HIGH} b", "a b"),
        (f"x{LOW}y", "xy"),
        (f"{HIGH}{HIGH}{LOW}", "🙈"),
        (f"{LOW}{HIGH}", ""),
        (f"ends{HIGH}", "ends"),
        (f"{HIGH}🙈{LOW}", "🙈"),
        (f"\u4e2d{HIGH}\u6587", "中文"),
    ],
)
def test_pairs_become_their_character_and_lone_surrogates_go_S1(text: str, clean: str) -> None:
    assert sanitize_surrogates(text) == clean


@no_deadline
@given(any_text)
def test_sanitized_text_is_what_a_scan_by_hand_gives_and_can_be_encoded_S1(text: str) -> None:
    pairs = re.compile("([\ud800-\udbff])([\udc00-\udfff])")
    joined = pairs.sub(lambda m: chr(0x10000 + ((ord(m[1]) - 0xD800) << 10) + ord(m[2]) - 0xDC00), text)

    clean = sanitize_surrogates(text)

    assert clean == re.sub("[\ud800-\udfff]", "", joined)
    assert clean.encode().decode() == clean


@pytest.mark.parametrize("text", ["ascii", "naïve", "🙈", "x" * 1_000_000 + "é"])
def test_clean_text_is_returned_itself(text: str) -> None:
    assert sanitize_surrogates(text) is text


@pytest.mark.parametrize(
    "row", table("text-functions"), ids=lambda row: row["text"][:12].encode("ascii", "replace").decode()
)
def test_text_functions_agree_with_pi(row: dict[str, Any]) -> None:
    assert sanitize_surrogates(row["text"]) == sanitize_surrogates(row["sanitized"])
    assert short_hash(row["text"]) == row["shortHash"]


@pytest.mark.parametrize(
    ("value", "clean"),
    [
        ({"a": [f"x{HIGH}", {"b": f"{HIGH}{LOW}"}]}, {"a": ["x", {"b": "🙈"}]}),
        ({f"key{LOW}": 1}, {"key": 1}),
        ((f"{LOW}t",), ["t"]),
        ({"a": 1, f"a{LOW}": 1}, {"a": 1}),
    ],
)
def test_every_string_of_a_value_is_cleaned_keys_included_S2(value: Any, clean: Any) -> None:
    before = copy.deepcopy(value)

    assert sanitized(value) == clean
    assert value == before


@no_deadline
@given(json_values)
def test_a_clean_value_is_returned_itself_S2(value: Any) -> None:
    assert sanitized(value) is value


def test_clean_parts_of_a_value_are_shared() -> None:
    clean = {"big": ["x"]}
    assert sanitized([clean, LOW])[0] is clean


# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_json_is_compact_and_utf8_S3() -> None:
    assert encode_json({"a": [1, 2.5, None, True], "é": "中🙈\n"}) == '{"a":[1,2.5,null,true],"é":"中🙈\\n"}'.encode()


@no_deadline
@given(json_values)
def test_what_is_written_reads_back_S3_S4(value: Any) -> None:
    assert decode_json(encode_json(value)) == value


@no_deadline
@given(dirty_values)
def test_surrogates_anywhere_never_stop_a_payload_S2(value: Any) -> None:
    assert json.loads(encode_json(value)) == sanitized(value)


class Opaque:
    pass


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        ({"a": [1, {"b": math.nan}]}, ValueError, r"^\$\.a\[1\]\.b must be a finite number, not nan$"),
        ([-math.inf], ValueError, r"^\$\[0\] must be a finite number, not -inf$"),
        ({"a": {"b": Opaque()}}, TypeError, r"^\$\.a\.b must be JSON data \(dict, .*\), not Opaque$"),
        (b"bytes", TypeError, r"^\$ must be JSON data .*, not bytes$"),
        ({"a": {1, 2}}, TypeError, r"^\$\.a must be JSON data .*, not set$"),
        ({"a": {(1, 2): 3}}, TypeError, r"^the keys of \$\.a must be str, not tuple$"),
        ({"dirty": LOW, "a": math.inf}, ValueError, r"^\$\.a must be a finite number, not inf$"),
    ],
)
def test_what_is_no_json_is_named_with_its_place(value: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        encode_json(value)


def test_a_value_that_holds_itself_is_an_error_and_not_a_crash() -> None:
    loop: dict[str, Any] = {}
    loop["self"] = [loop]
    with pytest.raises(ValueError, match="or holds itself"):
        encode_json(loop)


def test_a_value_that_is_too_deep_to_be_cleaned_is_a_value_error() -> None:
    deep: Any = LOW
    for _ in range(990):
        deep = [deep]
    with pytest.raises(ValueError, match="cannot be written as JSON"):
        encode_json(deep)


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────

spaces = st.text(st.sampled_from(" \t\r\n"), max_size=2)


@no_deadline
@given(json_values, st.booleans(), spaces, spaces)
def test_json_is_read_as_the_standard_library_reads_it(value: Any, ascii_only: bool, before: str, after: str) -> None:
    text = before + json.dumps(value, ensure_ascii=ascii_only) + after

    assert repr(decode_json(text)) == repr(decode_json(text.encode())) == repr(json.loads(text))


@pytest.mark.parametrize(
    "text",
    [
        "NaN",
        "Infinity",
        "-Infinity",
        '{"a":NaN}',
        '{"a":[-Infinity]}',
        "1e309",
        "-1e309",
        "[1E+400]",
        "1e0309",
        '{"a":{"b":[1e999]}}',
        "2" * 309 + ".0",
        "9" * 250 + "e99",
        "0.00000000001e999",
        "1" + "0" * 400 + "e-1",
    ],
)
def test_numbers_that_are_not_finite_are_refused_S4(text: str) -> None:
    with pytest.raises(ValueError, match="NaN, Infinity, or a number too large"):
        decode_json(text)
    with pytest.raises(ValueError):
        decode_json(f'{{"escaped":"\\ud83d","number":{text}}}')


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.7976931348623157e308", 1.7976931348623157e308),
        ("1e-400", 0.0),
        ("1e00000000000000000001", 10.0),
        ('{"id":"1e400","n":9e99}', {"id": "1e400", "n": 9e99}),
        (f'["{"7" * 400}"]', ["7" * 400]),
        ("0.1e+2", 10.0),
    ],
)
def test_numbers_that_only_look_large_are_read_S4(text: str, value: Any) -> None:
    assert decode_json(text) == value


@pytest.mark.parametrize("number", [2**53 + 1, -(2**53) - 1, 2**63, -(2**64) - 1, 10**200, 10**4000])
def test_integers_are_exact_F80(number: int) -> None:
    assert decode_json(f'{{"n":{number}}}') == {"n": number}


def test_an_integer_beyond_pythons_own_limit_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="4300 digits"):
        decode_json("1" * 5000)


@no_deadline
@given(st.floats(allow_nan=False, allow_infinity=False) | st.decimals(allow_nan=False, allow_infinity=False).map(str))
def test_floats_are_read_to_the_last_bit(number: Any) -> None:
    text = str(number).replace("E+", "e")
    if "." in text or "e" in text.lower():
        expected = float(text)
        if math.isfinite(expected):
            assert decode_json(text) == expected


def test_the_last_of_two_equal_keys_wins_F80() -> None:
    assert decode_json('{"a":1,"a":2}') == {"a": 2}
    assert decode_json('{"a":"\\ud83d","a":2}') == {"a": 2}


def test_escaped_slashes_are_slashes_F80() -> None:
    assert decode_json(r'"https:\/\/x"') == "https://x"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r'"\ud83d"', HIGH),
        (r'{"a":"x\ud83d y"}', {"a": f"x{HIGH} y"}),
        (r'"\ude48"', LOW),
        (r'"\ud83d\ud83d\ude48"', f"{HIGH}🙈"),
        (r'"\ud83d\ude48"', "🙈"),
        (f'"{HIGH}"', HIGH),
    ],
)
def test_lone_surrogates_stay_in_the_text_F12(text: str, value: Any) -> None:
    assert decode_json(text) == value


def test_a_character_cut_in_two_by_the_sender_is_whole_again_when_sent_back_F12() -> None:
    first, second = decode_json(r'{"t":"\ud83d"}'), decode_json(r'{"t":"\ude48"}')
    assert encode_json(first["t"] + second["t"]) == '"🙈"'.encode()


def test_bytes_that_are_no_utf8_become_replacement_characters_F12() -> None:
    assert decode_json(b'{"a":"x\xff\xe4\xb8"}') == {"a": "x\ufffd\ufffd"}


@pytest.mark.parametrize("escape", ["", r'"\ud83d",'])
def test_nesting_has_one_limit_however_it_is_read_F73(escape: str) -> None:
    at_limit = f"[{escape}" + "[" * (MAX_DEPTH - 1) + "0" + "]" * MAX_DEPTH
    assert decode_json(at_limit)
    with pytest.raises(ValueError, match=f"nested deeper than {MAX_DEPTH} levels"):
        decode_json(f"[{at_limit}]")


@pytest.mark.parametrize("text", ["[" * 10_000, '{"a":' * 10_000, "[" * 100_000 + "]" * 100_000])
def test_ten_thousand_levels_are_a_value_error_F73(text: str) -> None:
    with pytest.raises(ValueError, match="nested deeper"):
        decode_json(text)


@no_deadline
@given(st.binary(max_size=40) | st.text(st.sampled_from('{}[]",:\\u0019eE+-.ntrfalse \ud83d\x00'), max_size=40))
def test_nothing_but_a_value_error_comes_out_of_reading(data: Any) -> None:
    try:
        value = decode_json(data)
    except ValueError:
        return
    text = data if isinstance(data, str) else data.decode("utf-8", "replace")
    assert repr(value) == repr(json.loads(text))


@pytest.mark.parametrize(
    "text", ["", " ", "{", "[1,]", "{'a':1}", '{"a":1} x', "01", "tru", '"a\nb"', "\ufeff{}", "undefined"]
)
def test_what_is_no_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        decode_json(text)


# ── repair ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"path":"A\\H","t":"a\tb"}', {"path": "A\\H", "t": "a\tb"}),
        ('{"p":"line\nbreak"}', {"p": "line\nbreak"}),
        ('{"p":"C:\\Users\\new"}', {"p": "C:\\Users\new"}),
        ('{"p":"\\u12"}', {"p": "\\u12"}),
        ('{"p":"\\uzzzz\x01"}', {"p": "\\uzzzz\x01"}),
        ('{"p":"a\\\\\\d"}', {"p": "a\\\\d"}),
        ('{"p":"\\\n"}', {"p": "\\\n"}),
        ('{"ke\ty":"\\ud83d\\q"}', {"ke\ty": f"{HIGH}\\q"}),
        ('{"a":1}', {"a": 1}),
    ],
)
def test_control_characters_and_idle_backslashes_are_repaired_S5(text: str, value: Any) -> None:
    assert parse_json_with_repair(text) == value


@pytest.mark.parametrize("text", ['{"a":"\\q"', '{"a":\x01}', "{'a':'\\q'}", '{"a":NaN,"b":"\\q"}', '"\\', "", "[1,]"])
def test_what_repair_cannot_help_raises_the_first_error_S5(text: str) -> None:
    with pytest.raises(ValueError) as direct:
        decode_json(text)
    with pytest.raises(ValueError) as repaired:
        parse_json_with_repair(text)
    assert str(repaired.value) == str(direct.value)


@no_deadline
@given(json_values)
def test_valid_json_is_never_repaired_to_something_else_S5(value: Any) -> None:
    assert parse_json_with_repair(json.dumps(value)) == value


@no_deadline
@given(st.text(st.sampled_from("ab\\nu019\x00\n\t\x1f/é"), max_size=20))
def test_any_string_body_can_be_repaired_S5(body: str) -> None:
    assert isinstance(parse_json_with_repair(f'"{body}."'), str)


# ── small ones ───────────────────────────────────────────────────────────────────────────────────────────────


@no_deadline
@given(any_text)
def test_hashes_are_short_and_plain(text: str) -> None:
    assert re.fullmatch("[a-z0-9]{2,14}", short_hash(text))


def test_text_of_content_is_its_text_blocks_line_by_line_X7() -> None:
    content = [
        TextContent("a"),
        ImageContent("aGk=", "image/png"),
        ThinkingContent("t"),
        ToolCall("1", "f"),
        TextContent("b"),
    ]
    assert content_text(content) == "a\nb"
    assert content_text([]) == ""
    assert content_text("as it is") == "as it is"
