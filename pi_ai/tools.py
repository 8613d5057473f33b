"""Tools: what constrained sampling may be asked for, and whether a call's arguments are what the tool takes.

Constrained sampling (core section 19): a schema in the strict subset that providers can enforce
(:func:`strict_schema`, :func:`strict_parameters`), or a grammar (:func:`grammar`).

Arguments (core section 13): what a tool does not take is coerced, and nothing else (V6), because models write
``"42"`` for 42 and ``null`` for nothing. What still fails then is told in words made for the model (V3).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast
from urllib.parse import unquote

import attrs

from pi_ai.errors import failure
from pi_ai.types import JSONObject, Tool, ToolCall

if TYPE_CHECKING:
    from jsonschema_rs import Validator

# ── constrained sampling ─────────────────────────────────────────────────────────────────────────────────────

Limits: TypeAlias = Mapping[str, tuple[object, ...]]
"""What a provider's strict mode refuses beyond the common subset: keyword → the values that it takes, ``()``: none."""

_NOT_STRICT = frozenset(
    [
        *("$ref", "$defs", "definitions", "allOf", "oneOf", "not", "if", "then", "else", "contains", "prefixItems"),
        *("patternProperties", "propertyNames", "dependentSchemas", "dependencies", "unevaluatedProperties"),
    ]
)
_CONTAINERS = ("object", "array")


class NotStrict(ValueError):
    """A schema cannot be expressed in the strict subset; ``str()`` of it completes "…, but {reason}."."""


def strictness(tool: Tool) -> Literal["none", "prefer", "require"]:
    """Whether a tool asks that the provider hold its arguments to the schema.

    :raises PiAIError: ``constrained_sampling`` has none of the known forms (kind ``bad_request``).
    """
    match tool.constrained_sampling:
        case None | False | {"type": "grammar"}:
            return "none"
        case {"type": "json_schema", "strict": "prefer" | "require" as strict}:
            return strict
        case other:
            forms = '{"type": "json_schema", "strict": "prefer" or "require"} or {"type": "grammar", "variants": {…}}'
            text = f'Tool "{tool.name}": constrained_sampling must be False, {forms}, not {_compact(other)}'
            raise failure("bad_request", text)


def strict_parameters(tool: Tool, *, supported: bool, limits: Limits | None = None) -> JSONObject | None:
    """The strict schema to send for a tool; None: send it as an ordinary one (CS2).

    :param supported: whether the model has strict tools at all.
    :raises PiAIError: the tool requires strict sampling and cannot have it (kind ``bad_request``).
    """
    wish = strictness(tool)
    if wish == "none":
        return None
    try:
        if not supported:
            raise NotStrict("strict tools are unsupported")
        return strict_schema(tool.parameters, limits)
    except NotStrict as reason:
        if wish == "prefer":
            return None
        text = f'Tool "{tool.name}" requires JSON-schema constrained sampling, but {reason}.'
        raise failure("bad_request", text) from None


def strict_schema(schema: JSONObject, limits: Limits | None = None) -> JSONObject:
    """A copy of an object schema in which nothing is optional and nothing may be added (CS1).

    What was optional accepts null instead; :func:`validate_tool_arguments` drops such nulls again (CS4).

    :raises NotStrict: something in the schema has no strict form.
    """
    if schema.get("type") != "object":
        raise NotStrict("the root schema is not an object")
    # An empty object at the root is a tool without arguments; anywhere else it means "anything", and closed it
    # would mean "nothing".
    return _strict({"properties": {}, **schema}, limits or {})


def _strict(schema: Any, limits: Limits) -> JSONObject:
    node = _object(schema)
    if node is None:
        raise NotStrict("boolean schemas are unsupported")
    for keyword, value in node.items():
        if keyword in _NOT_STRICT or value not in limits.get(keyword, (value,)):
            raise NotStrict(f"{keyword} schemas are unsupported")
    if node.get("additionalProperties", False) is not False:
        raise NotStrict("additionalProperties other than false are unsupported")
    types, branches = node.get("type"), _array(node.get("anyOf"))
    if any(container in _array(types) for container in _CONTAINERS) or any(map(_is_container, branches)):
        raise NotStrict("unions with objects or arrays are unsupported")
    if isinstance(node.get("items"), list):
        raise NotStrict("tuple items are unsupported")

    strict: JSONObject = _copy(node)
    if branches:
        strict["anyOf"] = [_strict(branch, limits) for branch in branches]
    if "items" in node:
        strict["items"] = _strict(node["items"], limits)
    if types == "object":
        properties = _object(node.get("properties"))
        if properties is None:
            raise NotStrict("objects without properties are unsupported")
        required = _array(node.get("required"))
        for name in required:
            if name not in properties:
                raise NotStrict(f"required names the unknown property {_compact(name)}")
        members = {name: _strict(member, limits) for name, member in properties.items()}
        strict["properties"] = {
            name: member if name in required or _accepts_null(member) else {"anyOf": [member, {"type": "null"}]}
            for name, member in members.items()
        }
        strict["required"] = list(members)
        strict["additionalProperties"] = False
    elif "properties" in node:
        raise NotStrict('properties without type "object" are unsupported')
    return strict


def _is_container(schema: Any) -> bool:
    node = _object(schema) or {}
    return node.get("type") in _CONTAINERS or "properties" in node or "items" in node


def _accepts_null(schema: JSONObject) -> bool:
    types = schema.get("type", "null")
    return (
        (types == "null" or "null" in _array(types))
        and None in schema.get("enum", (None,))
        and schema.get("const") is None
        and ("anyOf" not in schema or any(map(_accepts_null, schema["anyOf"])))
    )


@attrs.frozen(kw_only=True)
class Grammar:
    """A grammar that the provider holds a tool's input to.

    :ivar argument: the tool's one argument, which holds the input.
    """

    syntax: Literal["lark", "regex"]
    definition: str
    argument: str


_SYNTAXES: tuple[tuple[str, Literal["lark", "regex"]], ...] = (("openai_lark", "lark"), ("openai_regex", "regex"))


def grammar(tool: Tool) -> Grammar | None:
    """The grammar that a tool asks for, in OpenAI's notation, Lark before regex; None: it asks for none.

    :raises PiAIError: the tool takes anything else than one required string (kind ``bad_request``).
    """
    sampling = tool.constrained_sampling or {}
    variants = _object(sampling.get("variants")) or {}
    if sampling.get("type") == "grammar":
        for key, syntax in _SYNTAXES:
            if isinstance(definition := variants.get(key), str):
                return Grammar(syntax=syntax, definition=definition, argument=_only_argument(tool))
    return None


def _only_argument(tool: Tool) -> str:
    schema = tool.parameters
    match list((_object(schema.get("properties")) or {}).items()):
        case [(name, {"type": "string"})] if schema.get("type") == "object" and schema.get("required") == [name]:
            return name
        case _:
            pass
    text = f'Tool "{tool.name}" asks for grammar sampling: its parameters must be an object with exactly one property, '
    raise failure("bad_request", text + "a required string, which takes the input")


# ── the arguments of a call ──────────────────────────────────────────────────────────────────────────────────


class ToolValidationError(ValueError):
    """A call that cannot be run. The text is for the model: send it back as an error result."""


def validate_tool_call(tools: Iterable[Tool], call: ToolCall) -> JSONObject:
    """:func:`validate_tool_arguments` with the tool of that name.

    :raises ToolValidationError: there is none, or it does not take these arguments.
    """
    for tool in tools:
        if tool.name == call.name:
            return validate_tool_arguments(tool, call)
    raise ToolValidationError(f'Tool "{call.name}" not found')


def validate_tool_arguments(tool: Tool, call: ToolCall) -> JSONObject:
    """The arguments to run a tool with: checked against its schema, and coerced where that makes them valid.

    Coercion (core section 13): text to numbers and booleans and back, JSON in strings, single values to arrays; null
    for an optional property drops the property. Valid arguments come back as they are, but for integers written
    ``5.0``, which become ``int``. Defaults are not filled in. Keywords beyond those of V4 are ignored, references
    out of the schema lead nowhere: nothing is ever fetched.

    :return: a new object; the transcript's is left alone.
    :raises ToolValidationError: the arguments cannot be made valid, or were broken already (``arguments_error``).
    :raises ValueError: ``tool.parameters`` has a keyword that makes no sense, such as a broken ``pattern``.
    """
    if call.arguments_error is not None:
        raise ToolValidationError(f'Invalid arguments for tool "{tool.name}": {call.arguments_error}')
    check = _Check(tool.parameters)
    try:
        arguments = _Coercion(check).coerce(tool.parameters, _copy(call.arguments))
        if not isinstance(arguments, dict):
            raise _BrokenSchema("the root must be an object")
        issues = dict.fromkeys(map(str, check.issues(tool.parameters, arguments)))
    except RecursionError:
        raise ToolValidationError(f'Invalid arguments for tool "{tool.name}": they are nested too deeply') from None
    except _BrokenSchema as error:
        raise ValueError(f'The parameters of tool "{tool.name}" are not a JSON Schema: {error}') from None
    if not issues:
        return cast("JSONObject", arguments)
    lines = "\n".join(f"  - {issue}" for issue in issues)
    received = json.dumps(call.arguments, ensure_ascii=False, indent=2)
    raise ToolValidationError(f'Validation failed for tool "{tool.name}":\n{lines}\n\nReceived arguments:\n{received}')


# ── validation ───────────────────────────────────────────────────────────────────────────────────────────────

_WORDS = {
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "minProperties": "at least {} properties",
    "maxProperties": "at most {} properties",
    "minimum": ">= {}",
    "maximum": "<= {}",
    "exclusiveMinimum": "> {}",
    "exclusiveMaximum": "< {}",
    "multipleOf": "a multiple of {}",
    "pattern": "to match {}",
    "format": "format {}",
    "uniqueItems": "unique items",
}
"""The keywords that jsonschema-rs decides, and what they expect (V3)."""


@attrs.frozen
class _Issue:
    """One thing that is wrong: ``path: expected … or …, got …``, or ``path: note``."""

    path: tuple[str | int, ...] = ()
    note: str = ""
    expected: tuple[str, ...] = ()
    got: str = ""

    def under(self, key: str | int) -> _Issue:
        """The same, seen from the container."""
        return attrs.evolve(self, path=(key, *self.path))

    def __str__(self) -> str:
        place = ".".join(map(str, self.path)) or "root"
        wish = f"expected {' or '.join(self.expected)}" if self.expected else ""
        got = f", got {self.got}" if self.got else ""
        return f"{place}: {self.note}{wish}{got}"


def check_references(tools: Iterable[Tool]) -> None:
    """Look for definitions that are nothing but each other (F84); providers refuse them, each in words of its own.

    :raises ConfigError: a ``$ref`` leads from definition to definition, and back.
    """
    for tool in tools:
        check = _Check(tool.parameters)
        for name in ("$defs", "definitions"):
            for part in _object(tool.parameters.get(name)) or {}:
                start = reference = f"#/{name}/{part}"
                seen: set[str] = set()
                while isinstance(reference, str) and reference not in seen:
                    seen.add(reference)
                    reference = (_object(check.target(reference)) or {}).get("$ref")
                if reference is not None:
                    text = f"Tool {tool.name!r}: the schema {start} is defined by itself"
                    raise failure("config", f"{text}: its $ref leads back to it. Say what it is made of.", phase="send")


class _Check:
    """What is wrong with a value.

    Everything that leads from schema to schema is ours, because tools' schemas and models' arguments come from
    outside: a reference is never fetched, and every pair of schema and value is looked at once, where validators
    take exponential time (and memory, for the errors) on nested unions.
    """

    def __init__(self, root: JSONObject) -> None:
        self._root = root
        self._known: dict[tuple[int, int, frozenset[int]], tuple[Any, Any, list[_Issue]]] = {}

    def issues(self, schema: Any, value: Any, within: frozenset[int] = frozenset()) -> list[_Issue]:
        """What is wrong with ``value``, by path from it; empty if it is valid.

        :param within: the schemas that are being applied to this very value; a schema may refer to itself.
        """
        if schema is False:
            return [_Issue(note="not allowed")]
        node = _object(schema)
        if node is None or id(node) in within:
            return []
        key = id(node), id(value), within
        if key not in self._known:
            # Both are kept, so that their ids are not given to others.
            self._known[key] = node, value, list(self._issues(node, value, within | {id(node)}))
        return self._known[key][2]

    def target(self, reference: str) -> JSONObject | bool | None:
        """The schema at a JSON pointer into the tool's own (``#/$defs/Item``), None if there is none."""
        start, *parts = unquote(reference).split("/")
        node: Any = self._root if start == "#" else None
        for part in parts:
            part = part.replace("~1", "/").replace("~0", "~")
            if isinstance(node, list):
                node = dict(enumerate(cast("list[Any]", node))).get(int(part) if part.isdecimal() else -1)
            else:
                node = (_object(node) or {}).get(part)
        return cast("JSONObject | bool", node) if isinstance(node, (dict, bool)) else None

    def _issues(self, node: JSONObject, value: Any, within: frozenset[int]) -> Iterator[_Issue]:
        if isinstance(reference := node.get("$ref"), str):
            target = self.target(reference)
            if target is None:
                yield _Issue(note=f"unresolved reference {reference}")
            yield from self.issues(target, value, within)
        kinds = _kinds(node)
        if kinds and not any(_fits(kind, value) for kind in kinds):
            yield _Issue(expected=kinds, got=_type(value))
        if "enum" in node and not any(_same(value, option) for option in _array(node["enum"])):
            yield _Issue(expected=(f"one of {_compact(node['enum'])}",))
        if "const" in node and not _same(value, node["const"]):
            yield _Issue(expected=(_compact(node["const"]),))
        yield from self._assertions(node, value)
        for part in _array(node.get("allOf")):
            yield from self.issues(part, value, within)
        for keyword in ("anyOf", "oneOf"):
            if keyword in node:
                branches = [self.issues(branch, value, within) for branch in _array(node[keyword])]
                matching = branches.count([])
                if matching == 0:
                    yield from _closest(branches)
                elif matching > 1 and keyword == "oneOf":
                    yield _Issue(note=f"matches {matching} alternatives instead of exactly one")
        if "not" in node and not self.issues(node["not"], value, within):
            yield _Issue(note=f"must not match {_compact(node['not'])}")
        if isinstance(value, dict):
            yield from self._members(node, cast("JSONObject", value))
        elif isinstance(value, list):
            for index, (schema, item) in enumerate(_with_schemas(node, _array(value))):
                yield from [issue.under(index) for issue in self.issues(schema, item)]

    def _members(self, node: JSONObject, value: JSONObject) -> Iterator[_Issue]:
        for name in _array(node.get("required")):
            if name not in value:
                yield _Issue((name,), "missing")
        for name, member in value.items():
            schemas = _member_schemas(node, name) or [node.get("additionalProperties")]
            if schemas == [False] and name not in (node.get("properties") or ()):
                yield _Issue((name,), "unknown field")
                continue
            for schema in schemas:
                yield from [issue.under(name) for issue in self.issues(schema, member)]

    def _assertions(self, node: JSONObject, value: Any) -> Iterator[_Issue]:
        for keyword, words in _WORDS.items():
            if keyword in node and not _decide(keyword, node[keyword], value):
                yield _Issue(expected=(words.format(node[keyword]),))


class _BrokenSchema(ValueError):
    """A keyword makes no sense."""


def _decide(keyword: str, wish: Any, value: Any) -> bool:
    return _validator(json.dumps({keyword: wish})).is_valid(_copy(value, _encodable))


@lru_cache(maxsize=1024)
def _validator(schema: str) -> Validator:
    from jsonschema_rs import Draft202012Validator

    try:
        return Draft202012Validator(schema, validate_formats=True)
    except ValueError as error:
        raise _BrokenSchema(f"{schema}: {getattr(error, 'message', error)}") from None


def _closest(branches: list[list[_Issue]]) -> Iterable[_Issue]:
    """What to say of a union: all that would do at the place where every branch fails, else the nearest branch."""
    right_kind = [branch for branch in branches if not any(issue.got and not issue.path for issue in branch)]
    for group in (branches, right_kind):
        for place in [issue.path for issue in group[0]] if group else ():
            wishes = [issue for branch in group for issue in branch if issue.path == place and issue.expected]
            if all(any(issue in wishes for issue in branch) for branch in group):
                expected = dict.fromkeys(word for issue in wishes for word in issue.expected)
                got = next((issue.got for issue in wishes if issue.got), "")
                return [_Issue(place, expected=tuple(expected), got=got)]
    return min(right_kind or branches, key=len, default=[_Issue(note="not allowed")])


def _kinds(node: JSONObject) -> tuple[str, ...]:
    if "type" not in node:
        return ()
    types = node["type"]
    kinds = tuple(_array(types) or [types])
    for kind in kinds:
        if kind not in _NAMES.values():
            raise _BrokenSchema(f"unknown type {_compact(kind)}")
    return kinds


def _fits(kind: str, value: Any) -> bool:
    own = _type(value)
    if kind == "integer":
        return own == "integer" or (own == "number" and value.is_integer())
    return own == kind or (own == "integer" and kind == "number")


def _member_schemas(node: JSONObject, name: str) -> list[Any]:
    """What ``properties`` and ``patternProperties`` say of a property."""
    properties = _object(node.get("properties")) or {}
    patterns = _object(node.get("patternProperties")) or {}
    named = [properties[name]] if name in properties else []
    return named + [schema for pattern, schema in patterns.items() if _decide("pattern", pattern, name)]


def _with_schemas(node: JSONObject, items: list[Any]) -> Iterator[tuple[Any, Any]]:
    """The items of an array, each with its schema; tuples in the newest spelling and in the older one."""
    rest = node.get("items")
    first = _array(node.get("prefixItems"))
    if isinstance(rest, list):
        first, rest = _array(rest), node.get("additionalItems")
    for index, item in enumerate(items):
        yield (first[index] if index < len(first) else rest), item


# ── coercion ─────────────────────────────────────────────────────────────────────────────────────────────────


class _Coercion:
    """Makes of a value what a schema takes, where there is only one thing that can have been meant.

    Nothing is changed in place, and what is valid stays as it is, so that a union can try its branches.
    """

    def __init__(self, check: _Check) -> None:
        self._check = check
        self._known: dict[tuple[int, int, frozenset[int]], tuple[Any, Any, Any]] = {}

    def coerce(self, schema: Any, value: Any, within: frozenset[int] = frozenset()) -> Any:
        """``value`` as ``schema`` takes it, or as it is. ``within``: see :meth:`_Check.issues`."""
        node = _object(schema)
        if node is None or id(node) in within:
            return value
        key = id(node), id(value), within
        if key not in self._known:
            self._known[key] = node, value, self._coerce(node, value, within | {id(node)})
        return self._known[key][2]

    def _coerce(self, node: JSONObject, value: Any, within: frozenset[int]) -> Any:
        original = value
        if isinstance(reference := node.get("$ref"), str):
            value = self.coerce(self._check.target(reference), value, within)
        for part in _array(node.get("allOf")):
            value = self.coerce(part, value, within)
        if "enum" in node or "const" in node:
            value = _to_option(_array(node.get("enum")) or [node.get("const")], value)
        kinds = _kinds(node)
        if len(kinds) == 1:
            value = _convert(kinds[0], value)
        elif kinds:
            value = self._first([{**node, "type": kind} for kind in kinds], value, within)
        for union in ("anyOf", "oneOf"):
            if union in node:
                value = self._first(_array(node[union]), value, within)
        if isinstance(value, dict):
            return self._members(node, cast("JSONObject", value))
        if isinstance(value, list):
            items = _array(value)
            # A single value that was made an array is still being looked at: it must not become one again.
            wrapped = len(items) == 1 and items[0] is original
            schemas = _with_schemas(node, items)
            return [self.coerce(schema, item, within if wrapped else frozenset()) for schema, item in schemas]
        return value

    def _first(self, branches: Sequence[Any], value: Any, within: frozenset[int]) -> Any:
        for branch in branches:
            if not self._check.issues(branch, value):
                return self.coerce(branch, value, within)
        for branch in branches:
            candidate = self.coerce(branch, value, within)
            if not self._check.issues(branch, candidate):
                return candidate
        return value

    def _members(self, node: JSONObject, value: JSONObject) -> JSONObject:
        properties = _object(node.get("properties")) or {}
        required = _array(node.get("required"))
        result: JSONObject = {}
        for name, member in value.items():
            optional = name in properties and name not in required
            if member is None and optional and self._check.issues(properties[name], None):
                continue
            for schema in _member_schemas(node, name) or [node.get("additionalProperties")]:
                member = self.coerce(schema, member)
            result[name] = member
        return result


def _convert(kind: str, value: Any) -> Any:
    """A value as another JSON type, or as it is; an integer always as ``int``."""
    if kind not in _CONVERSIONS or (_fits(kind, value) and kind != "integer"):
        return value
    return _CONVERSIONS[kind](value)


_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
_EXACT = 2**53
"""Up to here every integer is a float, too."""


def _to_number(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str) and (match := _NUMBER.fullmatch(value)):
        number = float(value)
        if not math.isfinite(number):
            return value
        if match[1].isdecimal() and not match[2]:
            return int(value)  # not by way of a float, which has fewer digits
        return int(number) if number.is_integer() and abs(number) <= _EXACT else number
    return value


def _to_integer(value: Any) -> Any:
    number = _to_number(value)
    if isinstance(number, float):
        return int(number) if number.is_integer() else value
    return number


_BOOLEANS: Mapping[Any, bool] = {"true": True, "1": True, 1: True, "false": False, "0": False, 0: False}


def _to_boolean(value: Any) -> Any:
    key = value.strip().lower() if isinstance(value, str) else value
    return _BOOLEANS.get(key, value) if isinstance(key, (str, int, float)) else value


def _to_string(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (bool, int, float)) else value


def _to_null(value: Any) -> Any:
    return None if value in ("", "null") or (isinstance(value, (bool, int, float)) and value == 0) else value


def _to_array(value: Any) -> Any:
    parsed = _parsed(value, list)
    return [value] if parsed is None and value is not None else parsed


def _to_object(value: Any) -> Any:
    parsed = _parsed(value, dict)
    return value if parsed is None else parsed


_CONVERSIONS: Mapping[str, Callable[[Any], Any]] = {
    "number": _to_number,
    "integer": _to_integer,
    "boolean": _to_boolean,
    "string": _to_string,
    "null": _to_null,
    "array": _to_array,
    "object": _to_object,
}


def _to_option(options: Sequence[Any], value: Any) -> Any:
    for candidate in (value, *(_convert(_type(option), value) for option in options)):
        if any(_same(candidate, option) for option in options):
            return candidate
    return value


def _parsed(value: Any, kind: type) -> Any:
    """The container that a string holds as JSON, else None."""
    if not isinstance(value, str):
        return None
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, kind) else None


# ── JSON values ──────────────────────────────────────────────────────────────────────────────────────────────

_NAMES: Mapping[type, str] = {
    type(None): "null",
    str: "string",
    float: "number",
    bool: "boolean",
    int: "integer",
    list: "array",
    dict: "object",
}


def _type(value: object) -> str:
    own = type(value)
    # Schemas hold members of enumerations, too, which are instances of str or int.
    return _NAMES.get(own) or next((name for kind, name in _NAMES.items() if isinstance(value, kind)), own.__name__)


def _same(a: Any, b: Any) -> bool:
    """JSON equality: to Python, True is 1."""
    if isinstance(a, dict) and isinstance(b, dict):
        a, b = cast("JSONObject", a), cast("JSONObject", b)
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        a, b = _array(a), _array(b)
        return len(a) == len(b) and all(map(_same, a, b))
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def _object(value: Any) -> JSONObject | None:
    return cast("JSONObject", value) if isinstance(value, dict) else None


def _array(value: Any) -> list[Any]:
    """``value`` if it is an array, else an empty one."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def _copy(value: Any, text: Callable[[str], str] = str) -> Any:
    """A deep copy, with every text and name as ``text`` gives it."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, dict):
        return {text(key): _copy(item, text) for key, item in cast("JSONObject", value).items()}
    return [_copy(item, text) for item in _array(value)] if isinstance(value, list) else value


def _encodable(text: str) -> str:
    """The text, a lone surrogate as a question mark: to a validator in another language it is no text."""
    return text.encode(errors="replace").decode()


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=repr)
