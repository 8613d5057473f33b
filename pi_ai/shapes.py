"""Python's types as JSON: a schema for the model, and the way from its JSON to the value.

Both come from one look at the annotation, so that they never differ. A loader takes what fits the schema, raises
``ValueError`` for what does not, and so chooses the member of a union: the first one that takes the value.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Mapping,
    MutableMapping,
    MutableSequence,
    Sequence,
)
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time, timedelta
from enum import Enum
from functools import cache
from pathlib import Path, PurePath
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NotRequired, Required, TypeAlias, Union, cast, get_args, get_origin

import attrs

from pi_ai.docstrings import read_docstring
from pi_ai.types import JSONObject

Loader: TypeAlias = Callable[[Any], Any]


@attrs.frozen
class Shape:
    """A type as JSON.

    :ivar load: makes the value from JSON.
    :raises ValueError: from ``load``, the JSON is none of this type.
    """

    schema: JSONObject
    load: Loader


class NoSchema(TypeError):
    """An annotation that has no JSON Schema; the text names its place and the way out."""


@attrs.frozen(kw_only=True)
class Member:
    """A parameter of a function, or a field of a class.

    :ivar name: in Python and in JSON. ``default``: ``attrs.NOTHING`` where there is none that can be told.
    """

    name: str
    annotation: Any
    required: bool
    default: Any = attrs.NOTHING
    description: str = ""


class Shapes:
    """Finds the shapes of the types of one schema.

    A class that contains itself stands in ``$defs``, any other one where it is used: strict modes, and some
    providers at all, take no references.

    :param names: what annotations may name, besides what their modules define.
    :param defaults: tell defaults. Strict modes have none: there, everything is required.
    """

    def __init__(self, names: Mapping[str, Any] | None = None, *, defaults: bool = True) -> None:
        self._names = dict(names or {})
        self._defaults = defaults
        self._open: dict[Any, str] = {}
        self._recursive: set[Any] = set()
        self._known: dict[Any, Shape] = {}
        self._definitions: JSONObject = {}

    def of(self, annotation: Any, place: str) -> Shape:
        """The shape of a type.

        :param place: where it is annotated, for errors.
        :raises NoSchema: it has none.
        """
        if leaf := _leaf(annotation):
            return leaf
        origin, arguments = get_origin(annotation), get_args(annotation)
        if origin is Annotated:
            return self._annotated(self.of(arguments[0], place), arguments[1:])
        if origin in (Required, NotRequired):
            return self.of(arguments[0], place)
        if origin in (Union, UnionType):
            return _union([self.of(each, place) for each in arguments])
        if origin is Literal:
            return _options(arguments, place)
        kind: Any = origin or annotation
        if kind in _ARRAYS:
            item = self.of(arguments[0], place) if arguments else ANYTHING
            return Shape({"type": "array", **_if_any("items", item.schema)}, _array_loader(_ARRAYS[kind], item.load))
        if kind is tuple:
            return self._tuple(arguments, place)
        if kind in _MAPPINGS:
            return self._mapping(arguments, place)
        for attribute in ("__supertype__", "__value__"):  # NewType, and `type Name = …` of Python 3.12
            if hidden := getattr(annotation, attribute, None):
                return self._named(annotation, annotation.__name__, lambda hidden=hidden: self.of(hidden, place))
        if isinstance(annotation, type) and issubclass(annotation, Enum):
            return _options(list(annotation), place)
        if is_record(annotation):
            return self._named(annotation, annotation.__name__, lambda: self.record(annotation))
        raise NoSchema(
            f"{place}: {_name_of(annotation)} has no JSON Schema; use str, int, float, bool, None, Literal, an Enum, "
            "list, tuple, set, dict, datetime, date, time, timedelta, UUID, Path, Decimal, an attrs class, a "
            "dataclass, a TypedDict, a NamedTuple, or a union of these"
        )

    def record(self, cls: Any) -> Shape:
        """The shape of an attrs class, a dataclass, a TypedDict or a NamedTuple, described by its docstring."""
        schema, load = self.object(members_of(cls, self._names), cls.__name__)

        def make(data: Any) -> Any:
            values = load(data)
            try:
                return cls(**values)
            except Exception as error:
                raise ValueError(f"{cls.__name__}: {error}") from error

        return Shape({**schema, **_if_any("description", docstring_of(cls))}, make)

    def object(self, members: Sequence[Member], owner: str) -> tuple[JSONObject, Callable[[Any], dict[str, Any]]]:
        """The schema of an object with these members, and what loads them."""
        properties: JSONObject = {}
        loaders: dict[str, Loader] = {}
        required = [member.name for member in members if member.required]
        nullable: set[str] = set()
        for member in members:
            annotation = member.annotation
            if not member.required and member.default is None:
                annotation = _without_none(annotation)  # to leave it out says the same
            shape = self.of(annotation, f"{owner}.{member.name}")
            if _takes(shape.load, None):
                nullable.add(member.name)
            loaders[member.name] = shape.load
            properties[member.name] = {**shape.schema, **_if_any("description", member.description)}
            if self._defaults and member.default is not attrs.NOTHING and member.default is not None:
                properties[member.name] |= _default(member.default)
        schema: JSONObject = {"type": "object", "properties": properties}
        if required:
            schema["required"] = required
        schema["additionalProperties"] = False

        def load(data: Any) -> dict[str, Any]:
            given = cast("JSONObject", _expect(data, dict, "an object"))
            if unknown := given.keys() - loaders.keys():
                raise ValueError(f"unknown field {min(unknown)}")
            if missing := [name for name in required if name not in given]:
                raise ValueError(f"{missing[0]} is missing")
            absent = {name for name, value in given.items() if value is None and name not in nullable} - set(required)
            return {name: loaders[name](value) for name, value in given.items() if name not in absent}

        return schema, load

    def complete(self, schema: JSONObject) -> JSONObject:
        """A schema with the definitions that it refers to; an object itself, never a reference."""
        if "$ref" in schema:
            schema = self._definitions[schema["$ref"].rpartition("/")[2]]
        return {**schema, **_if_any("$defs", self._definitions)}

    def _named(self, key: Any, name: str, build: Callable[[], Shape]) -> Shape:
        if key in self._known:
            return self._known[key]
        if key in self._open:
            self._recursive.add(key)
            known = self._known
            return Shape({"$ref": f"#/$defs/{self._open[key]}"}, lambda data: known.get(key, _UNKNOWN).load(data))
        taken = {*self._open.values(), *self._definitions}
        self._open[key] = next(each for each in (name, *(f"{name}{n}" for n in range(2, 1000))) if each not in taken)
        shape = build()
        name = self._open.pop(key)
        if key in self._recursive:
            self._definitions[name] = shape.schema
            shape = Shape({"$ref": f"#/$defs/{name}"}, shape.load)
        self._known[key] = shape
        return shape

    def _annotated(self, shape: Shape, notes: Iterable[Any]) -> Shape:
        """``Annotated``: a text describes, a dict is JSON Schema, objects with ``ge``, ``max_length``, … limit."""
        schema = dict(shape.schema)
        for note in notes:
            if isinstance(note, str):
                schema["description"] = note
            elif isinstance(note, dict):
                schema |= cast("JSONObject", note)
            else:
                for attribute, keyword in _CONSTRAINTS.items():
                    value = getattr(note, attribute, None)
                    if value is not None and not callable(value):
                        schema[keyword if isinstance(keyword, str) else keyword[_kind_of(schema)]] = plain(value)
        return Shape(schema, shape.load)

    def _tuple(self, arguments: tuple[Any, ...], place: str) -> Shape:
        if not arguments or arguments[1:] == (...,):
            item = self.of(arguments[0], place) if arguments else ANYTHING
            return Shape({"type": "array", **_if_any("items", item.schema)}, _array_loader(tuple, item.load))
        items = [self.of(each, place) for each in arguments if each != ()]
        count = len(items)

        def load(data: Any) -> Any:
            values = cast("list[Any]", _expect(data, list, "an array"))
            if len(values) != count:
                raise ValueError(f"expected {count} items, got {len(values)}")
            return tuple(item.load(value) for item, value in zip(items, values, strict=True))

        schemas = [item.schema for item in items]
        return Shape({"type": "array", "prefixItems": schemas, "minItems": count, "maxItems": count}, load)

    def _mapping(self, arguments: tuple[Any, ...], place: str) -> Shape:
        key, value = [self.of(each, place) for each in arguments] or [TEXT, ANYTHING]
        if _kind_of(key.schema) != "string":
            raise NoSchema(f"{place}: the keys of a JSON object are text; use dict[str, …]")

        def load(data: Any) -> Any:
            items = cast("JSONObject", _expect(data, dict, "an object")).items()
            return {key.load(name): value.load(item) for name, item in items}

        names = {} if key == TEXT else {"propertyNames": key.schema}
        return Shape({"type": "object", **_if_any("additionalProperties", value.schema), **names}, load)


# ── classes ──────────────────────────────────────────────────────────────────────────────────────────────────


def is_record(cls: Any) -> bool:
    """Whether a class has fields that are known: attrs, dataclass, TypedDict, NamedTuple."""
    return isinstance(cls, type) and any(
        [attrs.has(cls), dataclasses.is_dataclass(cls), typing.is_typeddict(cls), hasattr(cls, "_field_defaults")]
    )


def docstring_of(cls: Any) -> str:
    """What the docstring of a class says, without its fields; nothing, where nobody wrote it."""
    text = cls.__dict__.get("__doc__") or ""
    generated = text.startswith(f"{cls.__name__}(")  # by dataclass and NamedTuple
    return "" if generated else read_docstring(text).text


def members_of(cls: Any, names: Mapping[str, Any]) -> list[Member]:
    """The fields of a class.

    :raises NoSchema: an annotation cannot be resolved.
    """
    hints = hints_of(cls, names)
    told = read_docstring(cls.__doc__).members
    return [
        Member(
            name=name,
            annotation=hints[field],
            required=required,
            default=default,
            description=told.get(field, "") or told.get(name, "") or note or "",
        )
        for name, field, required, default, note in _fields(cls, hints)
    ]


def hints_of(owner: Any, names: Mapping[str, Any]) -> dict[str, Any]:
    """The annotations of a class or function, as types, whatever they are written as.

    :raises NoSchema: one cannot be resolved.
    """
    name = getattr(owner, "__qualname__", "")
    try:
        return typing.get_type_hints(owner, localns=dict(names) if "<locals>" in name else None, include_extras=True)
    except NameError as error:
        raise NoSchema(
            f"{name}: an annotation cannot be resolved: {error}; define it before, outside of functions"
        ) from None


def _fields(cls: Any, hints: Mapping[str, Any]) -> Iterable[tuple[str, str, bool, Any, str | None]]:
    """Of each field: its name in ``__init__``, its own name, whether it is required, its default, its description."""
    if attrs.has(cls):
        for field in attrs.fields(cls):
            if field.init:
                factory = isinstance(field.default, attrs.Factory)  # pyright: ignore[reportArgumentType] - it is a class
                default = attrs.NOTHING if factory else field.default
                required = field.default is attrs.NOTHING
                yield field.alias or field.name, field.name, required, default, field.metadata.get("description")
    elif dataclasses.is_dataclass(cls):
        for field in dataclasses.fields(cls):
            if field.init:
                default = attrs.NOTHING if field.default is dataclasses.MISSING else field.default
                required = default is attrs.NOTHING and field.default_factory is dataclasses.MISSING
                yield field.name, field.name, required, default, field.metadata.get("description")
    elif typing.is_typeddict(cls):
        for name, hint in hints.items():
            marks = {Required: True, NotRequired: False}  # __required_keys__ does not know them in annotations of text
            required = marks.get(get_origin(hint), name in cls.__required_keys__)
            yield name, name, required, attrs.NOTHING, None
    else:
        for name in cls._fields:
            default = cls._field_defaults.get(name, attrs.NOTHING)
            yield name, name, default is attrs.NOTHING, default, None


# ── kinds of JSON ────────────────────────────────────────────────────────────────────────────────────────────


def _expect(data: Any, kind: type | tuple[type, ...], words: str) -> Any:
    # To Python, True is 1.
    if not isinstance(data, kind) or (isinstance(data, bool) and kind is not bool):
        raise ValueError(f"expected {words}")
    return data


def _integer(data: Any) -> int:
    if isinstance(data, float) and data.is_integer():
        return int(data)
    return _expect(data, int, "an integer")


def _null(data: Any) -> None:
    if data is not None:
        raise ValueError("expected null")


def _text(data: Any) -> str:
    return _expect(data, str, "a text")


def _number(data: Any) -> float:
    return float(_expect(data, (int, float), "a number"))


def _parsed(parse: Callable[[str], Any]) -> Loader:
    return lambda data: parse(_text(data))


def _refuse(data: Any) -> Any:
    raise ValueError("the type is not complete yet")


_UNKNOWN = Shape({}, _refuse)
ANYTHING = Shape({}, lambda data: data)
TEXT = Shape({"type": "string"}, _text)
_CLOCK = r"^([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,6})?)?$"


@cache
def _leaves() -> dict[Any, Shape]:
    from decimal import Decimal
    from uuid import UUID

    return {
        Any: ANYTHING,
        object: ANYTHING,
        str: TEXT,
        int: Shape({"type": "integer"}, _integer),
        float: Shape({"type": "number"}, _number),
        bool: Shape({"type": "boolean"}, lambda data: _expect(data, bool, "true or false")),
        None: Shape({"type": "null"}, _null),
        NoneType: Shape({"type": "null"}, _null),
        datetime: Shape({"type": "string", "format": "date-time"}, _parsed(datetime.fromisoformat)),
        date: Shape({"type": "string", "format": "date"}, _parsed(date.fromisoformat)),
        time: Shape({"type": "string", "pattern": _CLOCK}, _parsed(time.fromisoformat)),  # the format asks for a zone
        timedelta: Shape(
            {"type": "number", "description": "in seconds"}, lambda data: timedelta(seconds=_number(data))
        ),
        UUID: Shape({"type": "string", "format": "uuid"}, _parsed(UUID)),
        Path: Shape({"type": "string"}, _parsed(Path)),
        PurePath: Shape({"type": "string"}, _parsed(PurePath)),
        Decimal: Shape({"type": "number"}, lambda data: Decimal(str(_expect(data, (int, float), "a number")))),
    }


_ARRAYS: dict[Any, Callable[[list[Any]], Any]] = {
    **dict.fromkeys((list, Sequence, MutableSequence, Collection, Iterable), list),
    **dict.fromkeys((set, AbstractSet), set),
    frozenset: frozenset,
}
_MAPPINGS = (dict, Mapping, MutableMapping)

_LENGTHS = {"string": "Length", "array": "Items", "object": "Properties"}
_CONSTRAINTS: dict[str, str | dict[str, str]] = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "multiple_of": "multipleOf",
    "min_length": {kind: f"min{word}" for kind, word in _LENGTHS.items()},
    "max_length": {kind: f"max{word}" for kind, word in _LENGTHS.items()},
    "pattern": "pattern",
    "description": "description",
    "documentation": "description",
}
"""Attribute of a note → keyword, by the type it is for: annotated-types, typing's Doc, pydantic's Field."""


def _kind_of(schema: JSONObject) -> str:
    """The type that a schema is about; of a union, that of the first member that is not null."""
    kinds: list[Any] = [schema.get("type"), *(branch.get("type") for branch in schema.get("anyOf", ()))]
    return next((kind for kind in kinds if kind not in (None, "null")), "string")


def _leaf(annotation: Any) -> Shape | None:
    try:
        return _leaves().get(annotation)
    except TypeError:  # Annotated[…, {}] has no hash
        return None


def _array_loader(make: Callable[[list[Any]], Any], item: Loader) -> Loader:
    return lambda data: make([item(each) for each in _expect(data, list, "an array")])


def _union(shapes: Sequence[Shape]) -> Shape:
    def load(data: Any) -> Any:
        reasons: list[str] = []
        for shape in shapes:
            try:
                return shape.load(data)
            except ValueError as error:
                reasons.append(str(error))
        raise ValueError(" or ".join(dict.fromkeys(reasons)))

    return Shape({"anyOf": [shape.schema for shape in shapes]}, load)


def _options(options: Sequence[Any], place: str) -> Shape:
    """One of these values."""
    values = [_json_of(option) for option in options]
    named = [_json_kind(value) for value in values]
    if "" in named:
        raise NoSchema(f"{place}: the values of a Literal must be text, numbers, booleans or None")
    by_kind = dict(zip(zip(named, values, strict=True), options, strict=True))  # to Python, True is 1
    kinds = list(dict.fromkeys(named))
    kind: JSONObject = {"type": kinds[0]} if len(kinds) == 1 else {}

    def load(data: Any) -> Any:
        try:
            return by_kind[_json_kind(data), data]
        except (KeyError, TypeError):
            raise ValueError(f"expected one of {', '.join(map(str, values))}") from None

    return Shape({**kind, "enum": values}, load)


_KINDS: dict[type, str] = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}


def _json_kind(value: Any) -> str:
    return _KINDS.get(cast("type", value.__class__), "")


def _json_of(option: Any) -> Any:
    """How JSON says a member of an enumeration: its value, or its name where that is no JSON."""
    if not isinstance(option, Enum):
        return option
    value = option.value
    return value if _json_kind(value) else option.name


def _without_none(annotation: Any) -> Any:
    arguments = [each for each in get_args(annotation) if each is not NoneType]
    if get_origin(annotation) in (Union, UnionType) and arguments:
        return Union[tuple(arguments)]  # noqa: UP007 - of a list, at run time
    return annotation


def _takes(load: Loader, value: Any) -> bool:
    try:
        load(value)
    except ValueError:
        return False
    return True


def _default(value: Any) -> JSONObject:
    try:
        return {"default": plain(value)}
    except TypeError:
        return {}


def _if_any(key: str, value: Any) -> JSONObject:
    return {key: value} if value else {}


def _name_of(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


# ── values ───────────────────────────────────────────────────────────────────────────────────────────────────


def plain(value: Any) -> Any:
    """A value as JSON, as a loader of its type would take it.

    :raises TypeError: it is none of the types that have a schema.
    """
    from decimal import Decimal
    from uuid import UUID

    match value:
        case Enum():
            return _json_of(value)
        case None | bool() | str() | int() | float():
            return value
        case date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case PurePath() | UUID():
            return str(value)
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case Mapping():
            items = cast("Mapping[Any, Any]", value).items()
            return {str(plain(key)): plain(item) for key, item in items}
        case _ if attrs.has(cls := cast("type", value.__class__)):
            fields = attrs.fields(cls)
            return {field.alias or field.name: plain(getattr(value, field.name)) for field in fields if field.init}
        case _ if dataclasses.is_dataclass(value):
            return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        case _ if hasattr(value, "_asdict"):
            return plain(value._asdict())
        case list() | tuple() | set() | frozenset():
            return [plain(item) for item in cast("Collection[Any]", value)]
        case _:
            raise TypeError(f"{type(value).__name__} is no JSON: use text, numbers, lists, dicts, attrs or dataclasses")
