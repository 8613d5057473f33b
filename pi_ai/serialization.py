"""Objects to JSON and back, in pi's format: conversations saved by pi load here, and the reverse (D3, core N1-N3).

``to_json`` gives plain data with camelCase keys, without fields that are None, and without anything that is not data:
keys of options, hooks, live objects, the original exception behind an error, and ``partial`` of events (every event
would repeat the whole message). ``from_json`` ignores unknown keys, takes absent fields at their default, and names
the place of what it cannot read. Both share containers that are JSON already (``arguments``, ``parameters``, …).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from types import UnionType
from typing import Any, Literal, TypeGuard, TypeVar, Union, cast, get_args, get_origin, get_type_hints, overload

import attrs

from pi_ai.types import UNSET, Timeouts

T = TypeVar("T")
_Hook = Callable[[Any, Any], Any]

_KINDS: dict[type, str] = {
    type(None): "null",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    str: "a string",
    list: "an array",
    dict: "an object",
}
_SPECIAL_KEYS = {"supports_openai_grammar_tools": "supportsOpenAIGrammarTools"}


def to_json(value: Any) -> Any:
    """Plain JSON-ready data of a message, context, model, event, options or any other object of pi_ai.

    :raises TypeError: the value holds something that is no data of pi_ai.
    """
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    if _is_class(type(value)):
        return _object(value)
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in cast("list[Any]", value)]
    raise TypeError(f"to_json cannot write {_kind(value)}")


@overload
def from_json(cls: type[T], data: Any) -> T: ...
@overload
def from_json(cls: Any, data: Any) -> Any: ...
def from_json(cls: Any, data: Any) -> Any:
    """Read an object from JSON data.

    :param cls: a class of pi_ai (``Context``, ``Model``, ``StreamOptions``, …), a union such as ``Message`` or
        ``StreamEvent`` (told apart by ``role`` or ``type``), or ``list[…]`` of them.
    :raises ValueError: the data does not fit; the message names the field, its kind, and what was expected.
    """
    try:
        return _converter().structure(data, cls)
    except ValueError as error:
        inner = str(error)
        raise ValueError(f"{_name(cls)}{'' if inner.startswith(('[', '.')) else ' '}{inner}") from None


def dumps(value: Any, *, indent: int | None = None) -> str:
    """``to_json`` as text; compact unless ``indent`` is given."""
    separators = (",", ":") if indent is None else None
    return json.dumps(to_json(value), ensure_ascii=False, allow_nan=False, separators=separators, indent=indent)


@overload
def loads(cls: type[T], text: str | bytes) -> T: ...
@overload
def loads(cls: Any, text: str | bytes) -> Any: ...
def loads(cls: Any, text: str | bytes) -> Any:
    """``from_json`` of text.

    :raises ValueError: the text is not JSON, or does not fit ``cls``.
    """
    return from_json(cls, json.loads(text))


# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────


def camel(name: str) -> str:
    """The JSON key of an attribute: ``tool_call_id`` → ``toolCallId`` (core N2)."""
    if name in _SPECIAL_KEYS:
        return _SPECIAL_KEYS[name]
    head, *rest = name.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in rest)


@cache
def _layout(cls: type) -> tuple[dict[str, str], list[tuple[str, str, attrs.Attribute[Any]]]]:
    """Of an attrs class: its tag (``{"role": "user"}``), and its fields as (attribute, key, definition)."""
    tag = {key: getattr(cls, key) for key in ("role", "type") if isinstance(cls.__dict__.get(key), str)}
    fields = [(field.name, camel(field.alias or field.name), field) for field in attrs.fields(cls)]
    return tag, fields


def _object(value: Any) -> dict[str, Any]:
    tag, fields = _layout(cast("type", value.__class__))
    absent = UNSET if isinstance(value, Timeouts) else None
    written: dict[str, Any] = {**tag}
    for name, key, field in fields:
        if field.metadata.get("json", True) and (item := getattr(value, name)) is not absent:
            written[key] = _compat(item) if name == "compat" else to_json(item)
    return written


def _compat(flags: Mapping[str, Any]) -> dict[str, Any]:
    # Flags may be spelled either way in Python; files have pi's spelling (custom-providers R1, R3).
    return {camel(key): value for key, value in flags.items()}


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────


@cache
def _converter() -> Any:
    from cattrs import Converter  # 75 ms, so on first use

    converter = Converter(detailed_validation=False)
    for kind in (bool, int, float, str):
        converter.register_structure_hook(kind, _primitive)

    def hooks_for(predicate: Callable[[Any], bool], factory: Callable[[Any, Any], _Hook]) -> None:
        def make(cls: Any) -> _Hook:
            return factory(converter, cls)

        converter.register_structure_hook_factory(predicate, make)

    hooks_for(_is_class, _class_hook)
    hooks_for(_is_union, _union_hook)
    hooks_for(_is_list, _list_hook)
    hooks_for(_is_typed_mapping, _mapping_hook)
    converter.register_structure_hook_func(_is_json_object, _as_object)
    converter.register_structure_hook_func(_is_literal, _literal)
    return converter


def _is_class(cls: Any) -> bool:
    return attrs.has(cls)


def _is_literal(cls: Any) -> bool:
    return get_origin(cls) is Literal


def _is_list(cls: Any) -> bool:
    return get_origin(cls) is list


def _is_union(cls: Any) -> bool:
    return get_origin(cls) in (Union, UnionType)


def _is_json_object(cls: Any) -> bool:
    return get_origin(cls) in (dict, Mapping) and get_args(cls) == (str, Any)


def _is_typed_mapping(cls: Any) -> bool:
    return get_origin(cls) in (dict, Mapping) and not _is_json_object(cls)


def _class_hook(converter: Any, cls: Any) -> _Hook:
    hints = get_type_hints(cls)
    _, fields = _layout(cls)
    readers = [(field.alias or name, key, hints[name]) for name, key, field in fields]
    nullable = {key for _, key, hint in readers if hint is Any or (_is_union(hint) and type(None) in get_args(hint))}

    def read(data: Any, _: Any) -> Any:
        if isinstance(data, cls):
            return data
        given = _as_object(data)
        values: dict[str, Any] = {}
        for name, key, hint in readers:
            item = given.get(key, UNSET)
            # null stands for "absent" where None is no value of the field: content, lists, names (core N3).
            if item is UNSET or (item is None and key not in nullable):
                continue
            values[name] = item if hint is Any else _at(f".{key}", converter, item, hint)
        try:
            return cls(**values)
        except TypeError as error:
            missing = [key for name, key, _ in readers if name not in values and _required(cls, name)]
            raise ValueError(f"lacks {' and '.join(missing)}" if missing else str(error)) from None

    return read


def _required(cls: Any, alias: str) -> bool:
    return any(field.alias == alias and field.default is attrs.NOTHING for field in attrs.fields(cls))


def _union_hook(converter: Any, cls: Any) -> _Hook:
    members = get_args(cls)
    classes = [member for member in members if _is_class(member)]
    tagged = {word: member for member in classes for word in _layout(member)[0].values()}
    key = "role" if any("role" in _layout(member)[0] for member in classes) else "type"
    arrays = [member for member in members if _is_list(member)]
    objects = [member for member in members if _is_json_object(member) or _is_typed_mapping(member)]
    literals = [word for member in members if _is_literal(member) for word in get_args(member)]
    plain = {member for member in members if member in (bool, int, float, str)}
    expected = " or ".join(_words(member) for member in members)

    def read_object(data: dict[str, Any]) -> Any:
        if tagged and len(classes) > 1:
            word = data.get(key)
            if word not in tagged:
                raise ValueError(f'"{key}" must be one of {", ".join(tagged)}, not {word!r}')
            return converter.structure(data, tagged[word])
        chosen = [*classes, *objects]
        return converter.structure(data, chosen[0]) if chosen else data

    def read(data: Any, _: Any) -> Any:
        if data is None and type(None) in members:
            return None
        if isinstance(data, tuple(classes)):
            return data
        if _is_dict(data):
            return read_object(data)
        if _is_array(data) and arrays:
            return converter.structure(data, arrays[0])
        if any(data is word or (data == word and type(data) is type(word)) for word in literals):
            return data
        for kind in (bool, int, float, str):
            if kind in plain and _fits(data, kind):
                return data
        raise ValueError(f"must be {expected}, not {_kind(data)}")

    return read


def _mapping_hook(converter: Any, cls: Any) -> _Hook:
    _, value_type = get_args(cls)

    def read(data: Any, _: Any) -> dict[str, Any]:
        items = _as_object(data).items()
        return {key: _at(f"[{key!r}]", converter, item, value_type) for key, item in items}

    return read


def _list_hook(converter: Any, cls: Any) -> _Hook:
    (item_type,) = get_args(cls)

    def read(data: Any, _: Any) -> list[Any]:
        if not _is_array(data):
            raise ValueError(f"must be an array, not {_kind(data)}")
        return [_at(f"[{index}]", converter, item, item_type) for index, item in enumerate(data)]

    return read


def _at(place: str, converter: Any, data: Any, cls: Any) -> Any:
    """Read a part; an error tells its place, outermost first."""
    try:
        return converter.structure(data, cls)
    except (ValueError, TypeError) as error:
        inner = str(error)
        raise ValueError(f"{place}{'' if inner.startswith(('[', '.')) else ' '}{inner}") from None


def _as_object(data: Any, _: Any = None) -> dict[str, Any]:
    if not _is_dict(data):
        raise ValueError(f"must be an object, not {_kind(data)}")
    return data


def _is_dict(data: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(data, dict)


def _is_array(data: Any) -> TypeGuard[list[Any]]:
    return isinstance(data, list)


def _literal(data: Any, cls: Any) -> Any:
    if data not in get_args(cls):
        raise ValueError(f"must be one of {', '.join(map(str, get_args(cls)))}, not {data!r}")
    return data


def _primitive(data: Any, kind: type) -> Any:
    if not _fits(data, kind):
        raise ValueError(f"must be {_KINDS[kind]}, not {_kind(data)}")
    return int(data) if kind is int else data


def _fits(data: Any, kind: type) -> bool:
    if isinstance(data, bool) or kind is bool:
        return isinstance(data, bool) and kind is bool
    if kind is float:
        return isinstance(data, (int, float))
    # JavaScript has one kind of number: 5.0 is an integer there.
    return isinstance(data, kind) or (kind is int and isinstance(data, float) and data.is_integer())


def _words(cls: Any) -> str:
    """What a type admits, for an error message."""
    if _is_literal(cls):
        return " or ".join(repr(word) for word in get_args(cls))
    return _KINDS.get(get_origin(cls) or cls) or f"a {_name(cls)}"


def _name(cls: Any) -> str:
    return getattr(cls, "__name__", None) or " | ".join(_name(member) for member in get_args(cls)) or str(cls)


def _kind(value: Any) -> str:
    kind = cast("type", value.__class__)
    return _KINDS.get(kind, f"a {kind.__name__}")
