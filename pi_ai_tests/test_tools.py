"""Core section 19 (CS1, CS2, CS4) and section 13 (V1-V6)."""

from __future__ import annotations

import copy
import enum
import json
import re
import subprocess
import sys
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pi_ai.errors import BadRequest
from pi_ai.serialization import from_json
from pi_ai.tools import (
    Grammar,
    NotStrict,
    ToolValidationError,
    grammar,
    strict_parameters,
    strict_schema,
    strictness,
    validate_tool_arguments,
    validate_tool_call,
)
from pi_ai.types import Context, JSONObject, Tool, ToolCall
from pi_ai_tests.data import goldens

STRING, INTEGER, NUMBER, BOOLEAN, NULL = ({"type": kind} for kind in ("string", "integer", "number", "boolean", "null"))
PREFER = {"type": "json_schema", "strict": "prefer"}
REQUIRE = {"type": "json_schema", "strict": "require"}


def obj(required: list[str] | None = None, /, **properties: Any) -> JSONObject:
    names = list(properties) if required is None else required
    return {"type": "object", "properties": properties, "required": names}


def array(items: Any) -> JSONObject:
    return {"type": "array", "items": items}


def nullable(schema: JSONObject) -> JSONObject:
    return {"anyOf": [schema, NULL]}


def tool(parameters: JSONObject, sampling: Any = None) -> Tool:
    return Tool("edit", "Edits.", parameters, sampling)


# ── strict schemas ───────────────────────────────────────────────────────────────────────────────────────────


def test_every_object_is_closed_and_all_of_it_is_required_cs1() -> None:
    schema = obj(["path"], path=STRING, edits=array(obj(["old"], old=STRING, new=STRING)))
    inner = obj(old=STRING, new=nullable(STRING)) | {"additionalProperties": False}
    assert strict_schema(schema) == obj(path=STRING, edits=nullable(array(inner))) | {"additionalProperties": False}


def test_the_callers_schema_is_left_alone_cs1() -> None:
    schema = obj(["a"], a={"type": "string", "default": {"x": []}}, b=obj(c=STRING), d={"enum": [1, None]})
    before = copy.deepcopy(schema)
    strict = strict_schema(schema)
    strict["properties"]["a"]["default"]["x"].append(1)
    strict["properties"]["d"]["enum"].append(1)
    assert schema == before


@pytest.mark.parametrize(
    "schema",
    [
        NULL,
        {"type": ["string", "null"]},
        nullable(STRING),
        {"anyOf": [STRING, {"anyOf": [INTEGER, NULL]}]},
        {"enum": ["a", None]},
        {"const": None},
        {"description": "anything"},
    ],
)
def test_an_optional_property_that_takes_null_already_stays_as_it_is_cs1(schema: JSONObject) -> None:
    assert strict_schema(obj([], a=schema))["properties"] == {"a": schema}


@pytest.mark.parametrize(
    "schema",
    [
        STRING,
        {"type": ["string", "integer"]},
        {"enum": ["a", "b"]},
        {"const": "a"},
        {"const": False},
        {"type": ["string", "null"], "enum": ["a"]},
        {"anyOf": [STRING, INTEGER]},
        array(STRING),
    ],
)
def test_an_optional_property_that_does_not_take_null_becomes_nullable_cs1(schema: JSONObject) -> None:
    assert strict_schema(obj([], a=schema))["properties"] == {"a": nullable(schema)}
    assert strict_schema(obj(a=schema))["properties"] == {"a": schema}


def test_an_optional_object_becomes_nullable_although_the_caller_may_not_write_such_unions_cs1() -> None:
    closed = obj(b=STRING) | {"additionalProperties": False}
    assert strict_schema(obj([], a=obj(b=STRING)))["properties"] == {"a": nullable(closed)}


def test_a_tool_without_arguments_has_a_strict_form() -> None:
    strict = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    assert strict_schema({"type": "object"}) == strict
    assert strict_schema(strict) == strict


KEYWORDS = [
    *("$ref", "$defs", "definitions", "allOf", "oneOf", "not", "if", "then", "else", "contains", "prefixItems"),
    *("patternProperties", "propertyNames", "dependentSchemas", "dependencies", "unevaluatedProperties"),
]


@pytest.mark.parametrize("keyword", KEYWORDS)
def test_keywords_without_a_strict_form_are_refused_anywhere_cs1(keyword: str) -> None:
    bad = {"type": "string", keyword: {}}
    for schema in (obj(a=bad), obj(a=array(bad)), obj(a={"anyOf": [STRING, bad]}), {**obj(a=STRING), keyword: {}}):
        with pytest.raises(NotStrict, match=r"^" + keyword.replace("$", r"\$") + " schemas are unsupported$"):
            strict_schema(schema)


def test_only_keywords_are_meant_not_properties_and_values_of_that_name_cs1() -> None:
    schema = obj(**dict.fromkeys(KEYWORDS, STRING), value={"enum": ["$ref"], "default": {"$ref": "#", "not": {}}})
    assert strict_schema(schema) == schema | {"additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (STRING, "the root schema is not an object"),
        ({}, "the root schema is not an object"),
        ({"type": ["object", "null"]}, "the root schema is not an object"),
        (obj(a=True), "boolean schemas are unsupported"),
        (obj(a=array(False)), "boolean schemas are unsupported"),
        (obj(a=array([STRING])), "tuple items are unsupported"),
        ({**obj(a=STRING), "additionalProperties": True}, "additionalProperties other than false are unsupported"),
        ({**obj(a=STRING), "additionalProperties": STRING}, "additionalProperties other than false are unsupported"),
        (obj(a={"properties": {}}), 'properties without type "object" are unsupported'),
        (obj(a=nullable(obj(b=STRING))), "unions with objects or arrays are unsupported"),
        (obj(a=nullable(array(STRING))), "unions with objects or arrays are unsupported"),
        (obj(a={"anyOf": [STRING, {"properties": {}}]}), "unions with objects or arrays are unsupported"),
        (obj(a={"type": ["array", "null"], "items": STRING}), "unions with objects or arrays are unsupported"),
        (obj(["b"], a=STRING), 'required names the unknown property "b"'),
        (obj(a={"type": "object"}), "objects without properties are unsupported"),
    ],
)
def test_what_has_no_strict_form_is_refused_with_the_reason_cs1(schema: JSONObject, reason: str) -> None:
    with pytest.raises(NotStrict) as caught:
        strict_schema(schema)
    assert str(caught.value) == reason


def test_a_provider_may_limit_further_keywords_to_some_values_cs1() -> None:
    limits = {"minimum": (), "minItems": (0, 1)}
    few = {**array(STRING), "minItems": 1}
    assert strict_schema(obj(a=few), limits)["properties"] == {"a": few}
    for schema, keyword in (({**INTEGER, "minimum": 1}, "minimum"), ({**few, "minItems": 2}, "minItems")):
        with pytest.raises(NotStrict, match=f"^{keyword} schemas are unsupported$"):
            strict_schema(obj(a=schema), limits)


# ── what a tool asks for ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("sampling", "wish"),
    [
        (None, "none"),
        (False, "none"),
        ({"type": "grammar", "variants": {}}, "none"),
        (PREFER, "prefer"),
        (REQUIRE, "require"),
    ],
)
def test_a_tool_says_whether_it_is_strict(sampling: Any, wish: str) -> None:
    assert strictness(tool(obj(), sampling)) == wish


@pytest.mark.parametrize("sampling", [True, {}, {"type": "json_schema"}, {**PREFER, "strict": True}, {"type": "xml"}])
def test_a_wish_of_unknown_form_is_an_error_that_names_the_tool_and_the_forms(sampling: Any) -> None:
    with pytest.raises(BadRequest, match=r'^Tool "edit": constrained_sampling must be False, .* not .+'):
        strictness(tool(obj(), sampling))


def test_a_wish_is_granted_where_it_can_be_cs2() -> None:
    strict = obj(a=STRING) | {"additionalProperties": False}
    assert strict_parameters(tool(obj(a=STRING), PREFER), supported=True) == strict
    assert strict_parameters(tool(obj(a=STRING), REQUIRE), supported=True) == strict
    assert strict_parameters(tool(obj(a=STRING)), supported=True) is None


def test_a_preference_gives_way_and_a_requirement_is_an_error_cs2() -> None:
    convertible, inconvertible = obj(a=STRING), obj(a={"oneOf": []})
    prefix = 'Tool "edit" requires JSON-schema constrained sampling, but '
    for schema, supported, limits, reason in (
        (convertible, False, None, "strict tools are unsupported."),
        (inconvertible, True, None, "oneOf schemas are unsupported."),
        (convertible, True, {"type": ("object",)}, "type schemas are unsupported."),
    ):
        assert strict_parameters(tool(schema, PREFER), supported=supported, limits=limits) is None
        with pytest.raises(BadRequest) as caught:
            strict_parameters(tool(schema, REQUIRE), supported=supported, limits=limits)
        assert str(caught.value) == prefix + reason


CLAUDE = {"minimum": (), "maximum": (), "minItems": (0, 1)}

STRICT_GOLDENS = [
    golden
    for api in (
        "anthropic-messages",
        "azure-openai-responses",
        "bedrock-converse-stream",
        "google-generative-ai",
        "mistral-conversations",
        "openai-completions",
        "openai-responses",
    )
    for golden in goldens(api)
    if "json_schema" in str(golden["context"].get("tools"))
]


def sent_tools(body: JSONObject) -> list[JSONObject]:
    """The declarations of a request as ``{"parameters", "strict"}``, whatever the API calls them."""
    declared = body.get("toolConfig", {}).get("tools") or body["tools"]
    declared = declared[0].get("functionDeclarations", declared)
    names = ("parameters", "parametersJsonSchema", "input_schema", "inputSchema")
    result: list[JSONObject] = []
    for item in declared:
        item = item.get("function") or item.get("toolSpec") or item
        schema = next(item[name] for name in names if name in item)
        result.append({"parameters": schema.get("json", schema), "strict": item.get("strict")})
    return result


@pytest.mark.parametrize("golden", STRICT_GOLDENS, ids=lambda golden: f"{golden['api']}-{golden['name']}")
def test_golden_requests_have_our_strict_schemas(golden: JSONObject) -> None:
    tools = from_json(Context, golden["context"]).tools or []
    api, limits = golden["api"], CLAUDE if golden["api"] == "anthropic-messages" else None
    compat = golden["model"].get("compat") or {}
    supported = (
        api in ("mistral-conversations", "azure-openai-responses")
        or golden["model"]["id"].startswith("gemini-3")
        or bool(compat.get("supportsStrictMode") or compat.get("supportsStrictTools"))
    )
    if not golden["expected"]["requests"]:
        with pytest.raises(BadRequest) as caught:
            [strict_parameters(item, supported=supported, limits=limits) for item in tools]
        assert str(caught.value) == golden["expected"]["message"]["errorMessage"]
        return
    for item, sent in zip(tools, sent_tools(golden["expected"]["requests"][0]["body"]), strict=True):
        strict = strict_parameters(item, supported=supported, limits=limits)
        assert sent["parameters"] == (item.parameters if strict is None else strict)
        if sent["strict"] is not None:
            assert sent["strict"] is (strict is not None)


# ── grammars ─────────────────────────────────────────────────────────────────────────────────────────────────


def grammar_tool(variants: Any, parameters: JSONObject | None = None) -> Tool:
    schema = obj(sql=STRING) if parameters is None else parameters
    return tool(schema, {"type": "grammar", "variants": variants})


def test_lark_comes_before_regex() -> None:
    lark = Grammar(syntax="lark", definition="start: /.+/", argument="sql")
    assert grammar(grammar_tool({"openai_regex": ".+", "openai_lark": "start: /.+/"})) == lark
    assert grammar(grammar_tool({"openai_regex": ".+"})) == Grammar(syntax="regex", definition=".+", argument="sql")


@pytest.mark.parametrize("item", [tool(obj()), tool(obj(), False), tool(obj(), PREFER), grammar_tool({"other": "x"})])
def test_a_tool_without_a_known_grammar_has_none(item: Tool) -> None:
    assert grammar(item) is None


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object"},
        obj(),
        obj(a=INTEGER),
        obj([], a=STRING),
        obj(["a"], a=STRING, b=STRING),
        obj(a=STRING, b=STRING),
        obj(a=True),
        {**obj(a=STRING), "type": "array"},
    ],
)
def test_a_grammar_needs_exactly_one_required_string(schema: JSONObject) -> None:
    with pytest.raises(BadRequest, match=r'^Tool "edit" asks for grammar sampling: .* a required string'):
        grammar(grammar_tool({"openai_regex": ".+"}, schema))


# ── the arguments of a call ──────────────────────────────────────────────────────────────────────────────────


def call(arguments: JSONObject, error: str | None = None) -> ToolCall:
    return ToolCall("call_1", "edit", arguments, arguments_error=error)


def validated(schema: Any, value: Any) -> Any:
    """``value`` as argument ``v``, which is required."""
    return validate_tool_arguments(tool(obj(v=schema)), call({"v": value}))["v"]


def issues(schema: Any, value: Any) -> list[str]:
    """What is wrong with ``value`` as argument ``v``: the lines of the error."""
    with pytest.raises(ToolValidationError) as caught:
        validated(schema, value)
    lines = str(caught.value).partition("\n\nReceived arguments:\n")[0].splitlines()
    assert lines[0] == 'Validation failed for tool "edit":'
    return [line.removeprefix("  - ") for line in lines[1:]]


def test_a_call_is_validated_by_the_tool_of_its_name() -> None:
    tools = [Tool("read", "Reads.", obj(path=STRING)), tool(obj(n=INTEGER))]
    assert validate_tool_call(tools, call({"n": "7"})) == {"n": 7}
    with pytest.raises(ToolValidationError, match=r'^Tool "edit" not found$'):
        validate_tool_call(tools[:1], call({}))


def test_broken_arguments_are_not_run_v1() -> None:
    with pytest.raises(ToolValidationError) as caught:
        validate_tool_arguments(tool(obj()), call({}, "Unexpected end\n\nReceived arguments:\n{"))
    expected = 'Invalid arguments for tool "edit": Unexpected end\n\nReceived arguments:\n{'
    assert str(caught.value) == expected


def test_an_error_tells_every_place_and_quotes_the_original_arguments_v2() -> None:
    schema = obj(path=STRING, edits=array(obj(oldText=STRING, line=INTEGER)), dry={"type": "boolean"})
    arguments = {"edits": [{"line": "3", "oldText": []}, {"line": "x"}], "dry": "yes", "ü": 1}
    with pytest.raises(ToolValidationError) as caught:
        validate_tool_arguments(tool(schema), call(arguments))
    head, _, quoted = str(caught.value).partition("\n\nReceived arguments:\n")
    assert head.splitlines()[0] == 'Validation failed for tool "edit":'
    assert set(head.splitlines()[1:]) == {
        "  - path: missing",
        "  - edits.0.oldText: expected string, got array",
        "  - edits.1.oldText: missing",
        "  - edits.1.line: expected integer, got string",
        "  - dry: expected boolean, got string",
    }
    assert quoted == json.dumps(arguments, indent=2, ensure_ascii=False)


def test_the_top_of_the_arguments_is_called_root_v2() -> None:
    with pytest.raises(ToolValidationError, match=r"(?m)^  - root: expected at least 1 properties$"):
        validate_tool_arguments(tool({"type": "object", "minProperties": 1}), call({}))


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        (STRING, None, ["v: expected string, got null"]),
        (STRING, [], ["v: expected string, got array"]),
        (STRING, {}, ["v: expected string, got object"]),
        (NUMBER, "x", ["v: expected number, got string"]),
        (array(STRING), None, ["v: expected array, got null"]),
        (array(obj()), True, ["v.0: expected object, got boolean"]),
        (NULL, 7, ["v: expected null, got integer"]),
        (NULL, 7.5, ["v: expected null, got number"]),
        ({"type": ["null", "integer"]}, "x", ["v: expected null or integer, got string"]),
        (obj(a=STRING), {}, ["v.a: missing"]),
        (
            {**obj(a=STRING), "additionalProperties": False},
            {"a": "", "b": 1, "c": 2},
            ["v.b: unknown field", "v.c: unknown field"],
        ),
        ({"type": "object", "additionalProperties": False}, {"b": 1}, ["v.b: unknown field"]),
        ({**obj(a=False), "additionalProperties": False}, {"a": ""}, ["v.a: not allowed"]),
        ({"enum": ["a", 1, None]}, "b", ['v: expected one of ["a",1,null]']),
        ({"const": {"a": 1}}, "b", ['v: expected {"a":1}']),
        ({"minLength": 3}, "ab", ["v: expected at least 3 characters"]),
        ({"maxLength": 1}, "ab", ["v: expected at most 1 characters"]),
        ({"minItems": 1}, [], ["v: expected at least 1 items"]),
        ({"maxItems": 1}, [1, 2], ["v: expected at most 1 items"]),
        ({"minProperties": 1}, {}, ["v: expected at least 1 properties"]),
        ({"maxProperties": 1}, {"a": 1, "b": 1}, ["v: expected at most 1 properties"]),
        ({"pattern": "^a$"}, "b", ["v: expected to match ^a$"]),
        ({"minimum": 3}, 2, ["v: expected >= 3"]),
        ({"maximum": 3.5}, 4, ["v: expected <= 3.5"]),
        ({"exclusiveMinimum": 3}, 3, ["v: expected > 3"]),
        ({"exclusiveMaximum": 3}, 3, ["v: expected < 3"]),
        ({"multipleOf": 3}, 4, ["v: expected a multiple of 3"]),
        ({"uniqueItems": True}, [1, 1], ["v: expected unique items"]),
        ({"format": "email"}, "x", ["v: expected format email"]),
        ({"$ref": "#/$defs/nope"}, 1, ["v: unresolved reference #/$defs/nope"]),
        ({"not": STRING}, "x", ['v: must not match {"type":"string"}']),
        (False, 1, ["v: not allowed"]),
        ({"oneOf": [INTEGER, NUMBER]}, 1, ["v: matches 2 alternatives instead of exactly one"]),
        ({"minLength": 3, "pattern": "^a"}, "b", ["v: expected at least 3 characters", "v: expected to match ^a"]),
    ],
)
def test_the_words_v3(schema: Any, value: Any, expected: list[str]) -> None:
    assert issues(schema, value) == expected


SHAPES = [
    {**obj(kind={"const": "circle"}, radius=NUMBER)},
    {**obj(kind={"const": "square"}, side=NUMBER)},
]


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        ({"anyOf": [STRING, INTEGER, NULL]}, [], ["v: expected string or integer or null, got array"]),
        ({"anyOf": [{"const": "a"}, {"const": "b"}]}, "c", ['v: expected "a" or "b"']),
        ({"anyOf": [{"const": "a"}, INTEGER]}, "c", ['v: expected "a" or integer, got string']),
        ({"anyOf": [obj(a=STRING), STRING]}, None, ["v: expected object or string, got null"]),
        ({"oneOf": SHAPES}, {"kind": "blob"}, ['v.kind: expected "circle" or "square"']),
        ({"oneOf": SHAPES}, {"kind": "square"}, ["v.side: missing"]),
        ({"anyOf": [NULL, *SHAPES]}, {"kind": "circle", "radius": "big"}, ["v.radius: expected number, got string"]),
        ({"anyOf": [NULL, *SHAPES]}, 5, ["v: expected null or object, got integer"]),
        ({"anyOf": [nullable(STRING), INTEGER]}, [], ["v: expected string or null or integer, got array"]),
    ],
)
def test_a_union_tells_all_that_would_do_or_what_its_nearest_branch_lacks(
    schema: Any, value: Any, expected: list[str]
) -> None:
    assert issues(schema, value) == expected


LIST = {"$defs": {"list": obj([], value=INTEGER, next={"$ref": "#/$defs/list"})}}


@pytest.mark.parametrize(
    ("schema", "value", "result"),
    [
        # number
        (NUMBER, "42", 42),
        (NUMBER, " 42 ", 42),
        (NUMBER, "4.5", 4.5),
        (NUMBER, "-.5", -0.5),
        (NUMBER, "1e3", 1000),
        (NUMBER, "1e300", 1e300),
        (NUMBER, "9" * 30, int("9" * 30)),
        (NUMBER, True, 1),
        # integer
        (INTEGER, "42", 42),
        (INTEGER, "1e3", 1000),
        (INTEGER, 5.0, 5),
        (INTEGER, "5.0", 5),
        (INTEGER, False, 0),
        # boolean
        *((BOOLEAN, value, True) for value in ("true", "TRUE", "1", 1)),
        *((BOOLEAN, value, False) for value in ("false", "False", "0", 0)),
        # string
        (STRING, 42, "42"),
        (STRING, 4.5, "4.5"),
        (STRING, True, "true"),
        # null
        *((NULL, value, None) for value in ("", 0, False, "null")),
        # array
        (array(STRING), "x", ["x"]),
        (array(STRING), 5, ["5"]),
        (array(obj(n=INTEGER)), {"n": "5"}, [{"n": 5}]),
        (array(STRING), "[oops", ["[oops"]),
        # JSON in a string
        (array(INTEGER), "[1,2]", [1, 2]),
        (array(STRING), "[1,2]", ["1", "2"]),
        (obj(n=INTEGER), '{"n":"5"}', {"n": 5}),
        (array(obj(n=INTEGER)), '{"n":5}', [{"n": 5}]),
        # enum and const
        ({"enum": [1, 2]}, "1", 1),
        ({"enum": ["1", "2"]}, 1, "1"),
        ({"const": True}, "true", True),
        ({"enum": ["a", {"b": 1}]}, '{"b":1}', {"b": 1}),
        ({"type": "integer", "enum": [10, 20]}, "20", 20),
        # unions
        ({"anyOf": [NUMBER, STRING]}, "42", "42"),
        ({"anyOf": [NUMBER, BOOLEAN]}, "42", 42),
        ({"oneOf": [BOOLEAN, NUMBER]}, "true", True),
        ({"type": ["integer", "null"]}, "5", 5),
        ({"type": ["integer", "null"]}, "", None),
        ({"type": ["string", "number"]}, "5", "5"),
        ({"anyOf": [obj(a=INTEGER, b=STRING), obj(a=INTEGER)]}, {"a": "5"}, {"a": 5}),
        ({"anyOf": [INTEGER, STRING]}, 5.0, 5),
        ({"anyOf": [array(INTEGER), NULL]}, "7", [7]),
        # the other places of a schema
        ({"allOf": [obj(a=INTEGER), obj(b=STRING)]}, {"a": "1", "b": 2}, {"a": 1, "b": "2"}),
        ({"type": "object", "additionalProperties": INTEGER}, {"x": "1"}, {"x": 1}),
        ({"type": "object", "patternProperties": {"^n": INTEGER}}, {"n": "1", "m": "1"}, {"n": 1, "m": "1"}),
        ({"type": "object", "patternProperties": {"^\\p{L}$": INTEGER}}, {"n": 1}, {"n": 1}),
        ({"prefixItems": [INTEGER], "items": STRING}, ["1", 2, 3], [1, "2", "3"]),
        ({"type": "array", "items": [INTEGER, STRING]}, ["1", 2], [1, "2"]),
        ({"$ref": "#/properties/n"}, "5", 5),
        ({"$ref": "#/$defs/a~1b%20c"}, "5", 5),
        ({"$ref": "#/definitions/tuple/prefixItems/0"}, "5", 5),
    ],
    ids=str,
)
def test_what_is_coerced(schema: Any, value: Any, result: Any) -> None:
    parameters = obj(["v"], v=schema, n=INTEGER) | {
        "$defs": {"a/b c": INTEGER},
        "definitions": {"tuple": {"prefixItems": [INTEGER]}},
    }
    coerced = validate_tool_arguments(tool(parameters), call({"v": value}))["v"]
    assert json.dumps(coerced) == json.dumps(result)  # 1, 1.0 and True are equal to Python


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        *((NUMBER, value) for value in ("abc", [], "", None, "nan", "1e999", "0x10", "1_000", "١", "9" * 5000)),
        *((INTEGER, value) for value in (4.7, "4.5", "", None, "1e-3")),
        *((BOOLEAN, value) for value in ("yes", 2, "", None, [])),
        *((STRING, value) for value in ([], {}, None)),
        *((NULL, value) for value in ("x", 1, True, [])),
        (array(INTEGER), "x"),
        (array(INTEGER), "[1,"),
        (obj(), "x"),
        (obj(), "[]"),
        (obj(), None),
        ({"enum": [1, 2]}, "3"),
        ({"enum": [1]}, "x"),
        ({"type": ["integer", "null"]}, "x"),
    ],
    ids=str,
)
def test_what_is_not_coerced(schema: Any, value: Any) -> None:
    assert issues(schema, value)


def test_null_for_an_optional_property_drops_it_where_null_is_not_a_value() -> None:
    schema = obj(
        ["must"],
        must=nullable(STRING),
        gone=STRING,
        kept=nullable(STRING),
        free={},
        deep=array(obj([], gone=INTEGER, kept={"type": ["integer", "null"]})),
    )
    arguments = dict.fromkeys(("must", "gone", "kept", "free")) | {
        "deep": [{"gone": None, "kept": None}],
        "other": None,
    }
    result = validate_tool_arguments(tool(schema), call(arguments))
    assert result == {"must": None, "kept": None, "free": None, "deep": [{"kept": None}], "other": None}


def test_defaults_are_not_filled_in_and_unknown_properties_pass_v4() -> None:
    schema = obj([], a={"type": "string", "default": "x"})
    assert validate_tool_arguments(tool(schema), call({"b": 1})) == {"b": 1}


def test_unknown_keywords_and_formats_are_ignored_v4() -> None:
    assert validated({"type": "string", "format": "color", "nullable": True, "x-order": 1}, "x") == "x"


def test_schemas_of_older_drafts_are_read() -> None:
    parameters = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": "https://example.com/tool",
        **obj(pair={"type": "array", "items": [STRING, INTEGER], "additionalItems": False}),
        "definitions": {"word": STRING},
    }
    assert validate_tool_arguments(tool(parameters), call({"pair": ["a", "1"]})) == {"pair": ["a", 1]}
    with pytest.raises(ToolValidationError, match=r"pair\.2: not allowed"):
        validate_tool_arguments(tool(parameters), call({"pair": ["a", 1, 2]}))


def test_a_schema_may_refer_to_itself_v4() -> None:
    parameters = {**obj(head={"$ref": "#/$defs/list"}), **LIST}
    chain = {"value": "1", "next": {"value": "2", "next": {"value": "x"}}}
    with pytest.raises(ToolValidationError) as caught:
        validate_tool_arguments(tool(parameters), call({"head": chain}))
    assert "  - head.next.next.value: expected integer, got string\n" in str(caught.value)
    chain["next"]["next"]["value"] = "3"
    assert validate_tool_arguments(tool(parameters), call({"head": chain})) == {
        "head": {"value": 1, "next": {"value": 2, "next": {"value": 3}}}
    }


@pytest.mark.parametrize(
    "reference",
    [
        "#/$defs/nope",
        "#/required/0",
        "#/required/9",
        "#/type",
        "#name",
        "other.json",
        "http://127.0.0.1:9/x.json",
    ],
)
def test_a_dangling_reference_rejects_only_what_is_in_its_place_v4(reference: str) -> None:
    """Nothing is ever fetched."""
    parameters = obj([], ok=INTEGER, bad={"$ref": reference})
    assert validate_tool_arguments(tool(parameters), call({"ok": "1"})) == {"ok": 1}
    with pytest.raises(ToolValidationError, match="bad: unresolved reference " + re.escape(reference)):
        validate_tool_arguments(tool(parameters), call({"bad": 1}))


def test_the_root_of_the_parameters_must_be_an_object() -> None:
    with pytest.raises(ValueError, match=r"are not a JSON Schema: the root must be an object$"):
        validate_tool_arguments(tool(array(obj())), call({}))
    with pytest.raises(ToolValidationError, match=r"root: expected string, got object"):
        validate_tool_arguments(tool(STRING), call({}))


def test_a_schema_may_hold_members_of_an_enumeration() -> None:
    class Colour(enum.StrEnum):
        RED = "red"

    assert validated({"enum": [Colour.RED]}, "red") == "red"
    assert issues({"enum": [Colour.RED]}, 5) == ['v: expected one of ["red"]']


def test_references_that_lead_round_in_circles_say_nothing() -> None:
    circle = {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}, "c": {"allOf": [{"$ref": "#/$defs/c"}, STRING]}}
    parameters = obj(v={"$ref": "#/$defs/a"}, w={"$ref": "#/$defs/c"}) | {"$defs": circle}
    assert validate_tool_arguments(tool(parameters), call({"v": [], "w": 5})) == {"v": [], "w": "5"}


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [{"$ref": "#/properties/v"}], "type": "array", "minItems": 2},
        {"anyOf": [array({"$ref": "#/properties/v"}), NUMBER]},
        {"type": ["array", "number"], "items": {"$ref": "#/properties/v"}},
        {"$ref": "#/properties/v", "type": "integer"},
    ],
)
def test_coercion_ends_where_a_schema_applies_itself_to_the_same_value(schema: Any) -> None:
    assert issues(schema, "x")


def test_coercion_of_nested_unions_takes_no_exponential_time() -> None:
    branches = [obj(kind={"const": kind}, next={"$ref": "#/$defs/node"}) for kind in "ab"]
    parameters = {**obj(v={"$ref": "#/$defs/node"}), "$defs": {"node": {"anyOf": [*branches, INTEGER]}}}
    value: Any = "x"
    for _ in range(40):
        value = {"kind": "b", "next": value}
    with pytest.raises(ToolValidationError):
        validate_tool_arguments(tool(parameters), call({"v": value}))


def test_arguments_nested_too_deeply_are_refused() -> None:
    value: Any = 1
    for _ in range(100_000):
        value = [value]
    with pytest.raises(ToolValidationError, match=r'^Invalid arguments for tool "edit": they are nested too deeply$'):
        validated({}, value)
    while isinstance(value, list):  # freed level by level, for the interpreter's sake
        value = value.pop()


def test_a_lone_surrogate_is_text_like_any_other() -> None:
    assert validated({"type": "string", "minLength": 2}, "\ud83dx") == "\ud83dx"
    assert issues({"minLength": 3}, "\ud83dx") == ["v: expected at least 3 characters"]
    assert issues({"uniqueItems": True}, ["\ud83d", "\ud83d"]) == ["v: expected unique items"]


def test_a_pattern_that_takes_for_ever_does_not_match() -> None:
    assert issues({"pattern": "^(a|aa)+$(?!c)"}, "a" * 60 + "!") == ["v: expected to match ^(a|aa)+$(?!c)"]


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "strng"}, 'unknown type "strng"'),
        ({"type": ["string", 5]}, "unknown type 5"),
        ({"pattern": "("}, '{"pattern": "("}: "(" is not a "regex"'),
        ({"minLength": "3"}, '{"minLength": "3"}: "3" is not of type "integer"'),
        ({"type": "object", "patternProperties": {"(": {}}}, '{"pattern": "("}: "(" is not a "regex"'),
    ],
)
def test_a_broken_schema_is_the_tools_fault_and_not_the_models(schema: Any, reason: str) -> None:
    with pytest.raises(ValueError) as caught:
        validated(schema, {"x": 1})
    assert str(caught.value) == f'The parameters of tool "edit" are not a JSON Schema: {reason}'
    assert not isinstance(caught.value, ToolValidationError)


# ── properties ───────────────────────────────────────────────────────────────────────────────────────────────

SCALARS: list[tuple[JSONObject, st.SearchStrategy[Any]]] = [
    (STRING, st.sampled_from(["", "1", "true", "null", "[1]", "{}", " x "])),
    (INTEGER, st.integers()),
    (NUMBER, st.integers() | st.floats(allow_nan=False, allow_infinity=False)),
    (BOOLEAN, st.booleans()),
    (NULL, st.none()),
    ({"enum": ["1", 1.5, False]}, st.sampled_from(["1", 1.5, False])),
    ({"type": ["string", "null"]}, st.none() | st.just("null")),
    ({}, st.none() | st.just("x")),
]
Case = tuple[JSONObject, Any]


def _extend(inner: st.SearchStrategy[Case]) -> st.SearchStrategy[Case]:
    def members(cases: dict[str, Case]) -> st.SearchStrategy[Case]:
        names = st.lists(st.sampled_from(sorted(cases)), unique=True) if cases else st.just([])
        schemas, values = ({name: case[i] for name, case in cases.items()} for i in (0, 1))
        return names.map(lambda required: (obj(required, **schemas), values))

    return st.one_of(
        inner.map(lambda case: (array(case[0]), [case[1]])),
        inner.map(lambda case: (array(case[0]), [])),
        st.tuples(inner, inner).map(lambda pair: ({"anyOf": [pair[0][0], pair[1][0]]}, pair[1][1])),
        st.tuples(inner, inner).map(lambda pair: ({"allOf": [{}, pair[0][0]]}, pair[0][1])),
        st.dictionaries(st.sampled_from("abc"), inner, max_size=3).flatmap(members),
    )


valid_cases = st.recursive(
    st.sampled_from(SCALARS).flatmap(lambda pair: pair[1].map(lambda value: (pair[0], value))), _extend, max_leaves=6
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "1", "true", "[]", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)


@given(valid_cases)
@settings(deadline=None, max_examples=60)
def test_valid_arguments_come_back_equal_and_as_new_objects_v6(case: Case) -> None:
    schema, value = case
    arguments = {"v": value}
    result = validate_tool_arguments(tool(obj(v=schema)), call(arguments))
    assert result == arguments
    assert result is not arguments
    if isinstance(value, (dict, list)):
        assert result["v"] is not value


def schemas(depth: int) -> st.SearchStrategy[Any]:
    """Schemas of all keywords of V4, sense or no sense; ``a`` and ``b`` are definitions."""
    if depth == 0:
        return st.sampled_from([True, False, {}, {"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}, STRING, INTEGER, NULL])
    inner = schemas(depth - 1)
    kinds = st.sampled_from(["string", "number", "integer", "boolean", "array", "object", "null"])
    count, number, names = st.integers(0, 2), st.sampled_from([-1, 0, 0.5, 1, 2]), st.sampled_from("abc")
    some = st.lists(inner, min_size=1, max_size=2)
    keywords: dict[str, st.SearchStrategy[Any]] = {
        "type": kinds | st.lists(kinds, min_size=1, max_size=3, unique=True),
        "enum": st.lists(json_values, min_size=1, max_size=3),
        "const": json_values,
        "properties": st.dictionaries(names, inner, max_size=2),
        "patternProperties": st.dictionaries(st.sampled_from(["a", "^[bc]$"]), inner, max_size=1),
        "required": st.lists(names, unique=True, max_size=2),
        "additionalProperties": inner,
        "items": inner,
        "prefixItems": some,
        **dict.fromkeys(("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"), count),
        **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), number),
        "multipleOf": st.sampled_from([1, 2, 0.5]),
        "uniqueItems": st.booleans(),
        "pattern": st.sampled_from(["1", "^x?$"]),
        **dict.fromkeys(("anyOf", "oneOf", "allOf"), some),
        "not": inner,
        "$ref": st.sampled_from(["#", "#/$defs/a", "#/$defs/b"]),
    }
    picked = st.lists(st.sampled_from(sorted(keywords)), max_size=3, unique=True)
    return picked.flatmap(lambda chosen: st.fixed_dictionaries({keyword: keywords[keyword] for keyword in chosen}))


@given(schemas(2), schemas(1), st.dictionaries(st.sampled_from("abc"), json_values, max_size=3))
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
def test_the_verdict_is_that_of_a_whole_validator(a: Any, b: Any, arguments: JSONObject) -> None:
    """What it accepts comes back as it is (V6), and what comes back is something that it accepts.

    References lead to schemas of members and items only: one that led back to the same value would have no meaning.
    """
    members = {"properties": {"a": a, "b": b}}
    schema = members | {"additionalProperties": b, "$defs": {"a": {"items": a}, "b": members}}
    oracle = jsonschema_rs.Draft202012Validator(schema)
    before = copy.deepcopy(arguments)
    try:
        result = validate_tool_arguments(tool(schema), call(arguments))
    except ToolValidationError:
        assert not oracle.is_valid(arguments)
    else:
        assert oracle.is_valid(result)
        assert not oracle.is_valid(arguments) or result == arguments
    assert arguments == before


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_arguments_of_a_strict_schema_fit_the_original_once_their_nulls_are_dropped_cs4(data: st.DataObject) -> None:
    picked = data.draw(st.dictionaries(st.sampled_from("abcd"), st.sampled_from(SCALARS), min_size=1))
    required = data.draw(st.lists(st.sampled_from(sorted(picked)), unique=True))
    schema = obj(required, **{name: scalar for name, (scalar, _) in picked.items()})
    strict = tool(strict_schema(schema))
    values = {
        name: data.draw(strategy if name in required else strategy | st.none())
        for name, (_, strategy) in picked.items()
    }
    assert validate_tool_arguments(strict, call(values)) == values
    result = validate_tool_arguments(tool(schema), call(values))
    assert result == {name: value for name, value in values.items() if name in result}
    assert all(values[name] is None for name in values.keys() - result.keys())


def test_the_validator_is_loaded_when_it_is_needed() -> None:
    code = "import sys, pi_ai.tools; sys.exit('jsonschema_rs' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
