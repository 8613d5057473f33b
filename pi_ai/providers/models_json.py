"""``models.json``: providers and models that a user has written down, for pi and for us (R89-R98).

The file is read leniently: comments and trailing commas are allowed, fields that nobody knows are ignored. What is
wrong with it is told as text, never raised, and one bad entry does not take the others with it. It is never written.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias, cast

import attrs

from pi_ai.providers.config import ProviderConfig, ProviderModelConfig
from pi_ai.providers.layers import FileEntry
from pi_ai.text import decode_json
from pi_ai.types import JSONObject

NAME = "models.json"


@attrs.frozen(kw_only=True)
class ModelsFile:
    """What was read, once; immutable.

    :ivar entries: provider id → what is said of it, in the order of the file.
    :ivar errors: what could not be used, one text each.
    """

    entries: Mapping[str, FileEntry] = attrs.field(factory=dict[str, FileEntry])
    errors: tuple[str, ...] = ()


def read_models_json(path: Path) -> ModelsFile:
    """Read the file; one that does not exist is empty (R89)."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return ModelsFile()
    except (OSError, UnicodeDecodeError) as error:
        return _unusable(f"Failed to load {NAME}: {error}", path)
    try:
        data = decode_json(strict_json(text))
    except ValueError as error:
        return _unusable(f"Failed to parse {NAME}: {error}", path)
    return parse_models_json(data, path)


def parse_models_json(data: object, path: Path) -> ModelsFile:
    """What the file says, from its JSON.

    :param path: where it stands, for errors.
    """
    problems: list[str] = []
    providers: JSONObject = _root(data, "", problems).get("providers") or {}
    errors: list[str] = []
    entries: dict[str, FileEntry] = {}
    for provider, given in providers.items():
        wrong: list[str] = []
        read = _provider(given, f"providers.{provider}", wrong)
        if wrong:
            problems += wrong
        elif (error := _meaningless(provider, given)) is not None:
            errors.append(f'Provider "{provider}": {error}')
        else:
            entries[provider] = _entry(read)
    if problems:
        lines = "\n".join(f"  - {problem}" for problem in problems)
        errors.insert(0, f"Invalid {NAME} schema:\n{lines}\n\nFile: {path}")
    return ModelsFile(entries=entries, errors=tuple(errors))


def read_models(data: object) -> tuple[ProviderModelConfig, ...] | None:
    """A list of models with the fields that models have in the file; None: it is none."""
    problems: list[str] = []
    models = _models(data, "models", problems)
    return None if problems else tuple(ProviderModelConfig.of(model) for model in models)


def _unusable(reason: str, path: Path) -> ModelsFile:
    return ModelsFile(errors=(f"{reason}\n\nFile: {path}",))


# ── the text ─────────────────────────────────────────────────────────────────────────────────────────────────

_STRING = r'"(?:[^"\\]|\\.)*"?'
_COMMENT = re.compile(rf"{_STRING}|//[^\n]*", re.DOTALL)
_TRAILING_COMMA = re.compile(rf"{_STRING}|,(?=\s*[\]}}])", re.DOTALL)


def strict_json(text: str) -> str:
    """JSON without comments and trailing commas; blanks in their place, so that errors tell the right place."""
    for pattern in (_COMMENT, _TRAILING_COMMA):
        text = pattern.sub(_blank, text)
    return text


def _blank(found: re.Match[str]) -> str:
    return found[0] if found[0].startswith('"') else " " * len(found[0])


# ── the fields ───────────────────────────────────────────────────────────────────────────────────────────────

_Kind: TypeAlias = Callable[[Any, str, list[str]], Any]
"""Takes a value, its place, and a list for what is wrong; gives the value without unknown fields."""


def _is(words: str, test: Callable[[Any], bool], convert: Callable[[Any], Any] | None = None) -> _Kind:
    def read(value: Any, place: str, problems: list[str]) -> Any:
        if test(value):
            return convert(value) if convert else value
        problems.append(f"{place or 'root'}: must be {words}")
        return None

    return read


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_text = _is("a non-empty string", lambda value: isinstance(value, str) and value != "")
_flag = _is("a boolean", lambda value: isinstance(value, bool))
_object = _is("an object", lambda value: isinstance(value, dict))
_number = _is("a number", _is_number)
_count = _is("a number above 0", lambda value: _is_number(value) and value > 0, math.ceil)
_seconds = _is("a number", _is_number, round)
_headers = _is(
    "an object of strings",
    lambda value: isinstance(value, dict) and all(isinstance(text, str) for text in cast("JSONObject", value).values()),
)
_input = _is(
    'an array of "text" and "image"',
    lambda value: isinstance(value, list) and all(kind in ("text", "image") for kind in cast("list[Any]", value)),
)


def _fields(kinds: Mapping[str, _Kind], *, required: Iterable[str] = ()) -> _Kind:
    """An object with these fields; others are left out."""

    def read(value: Any, place: str, problems: list[str]) -> JSONObject:
        if not isinstance(value, dict):
            problems.append(f"{place or 'root'}: must be an object")
            return {}
        given = cast("JSONObject", value)
        inside = f"{place}." if place else ""
        problems += [f"{inside}{key}: is required" for key in required if key not in given]
        return {key: kind(given[key], inside + key, problems) for key, kind in kinds.items() if key in given}

    return read


def _list_of(kind: _Kind) -> _Kind:
    def read(value: Any, place: str, problems: list[str]) -> list[Any]:
        if not isinstance(value, list):
            problems.append(f"{place}: must be an array")
            return []
        items = cast("list[Any]", value)
        return [kind(item, f"{place}.{index}", problems) for index, item in enumerate(items)]

    return read


def _map_of(kind: _Kind) -> _Kind:
    def read(value: Any, place: str, problems: list[str]) -> JSONObject:
        if not isinstance(value, dict):
            problems.append(f"{place}: must be an object")
            return {}
        items = cast("JSONObject", value).items()
        return {key: kind(item, f"{place}.{key}", problems) for key, item in items}

    return read


_PRICES: dict[str, _Kind] = dict.fromkeys(("input", "output", "cacheRead", "cacheWrite"), _number)
_TIER: dict[str, _Kind] = {"inputTokensAbove": _count, **_PRICES}
_COST: dict[str, _Kind] = {**_PRICES, "tiers": _list_of(_fields(_TIER, required=_TIER))}

_OVERRIDE: dict[str, _Kind] = {
    "name": _text,
    "reasoning": _flag,
    "input": _input,
    "cost": _fields(_COST),
    "contextWindow": _count,
    "maxTokens": _count,
    "headers": _headers,
    "compat": _object,
    "thinkingLevelMap": _object,
    "samplingParams": _object,
    "samplingParamsByThinkingLevel": _map_of(_object),
    "promptCache": _fields({"short": _seconds, "long": _seconds}),
    "inputLimits": _object,
}
_MODEL: dict[str, _Kind] = {
    **_OVERRIDE,
    "id": _text,
    "api": _text,
    "baseUrl": _text,
    "type": _text,
    "cost": _fields(_COST, required=_PRICES),
}
_models = _list_of(_fields(_MODEL, required=("id",)))
_PROVIDER: dict[str, _Kind] = {
    "name": _text,
    "baseUrl": _text,
    "apiKey": _text,
    "api": _text,
    "headers": _headers,
    "compat": _object,
    "authHeader": _flag,
    "oauth": _is('the string "radius"', lambda value: value == "radius"),
    "models": _models,
    "modelOverrides": _map_of(_fields(_OVERRIDE)),
}
_provider = _fields(_PROVIDER)
_root = _fields({"providers": _object}, required=("providers",))


def _meaningless(provider: str, given: JSONObject) -> str | None:
    """What is wrong with an entry whose fields are all right (R93, R94)."""
    present = {key for key in given if key not in ("models", "modelOverrides") or given[key]}
    if not present & _PROVIDER.keys() - {"name", "api"}:
        return f'Provider {provider}: must specify "baseUrl", "headers", "compat", "modelOverrides", or "models".'
    if "oauth" in present and "baseUrl" not in present:
        return f'Provider {provider}: "baseUrl" is required when "oauth" is set.'
    return None


def _entry(read: JSONObject) -> FileEntry:
    overrides, oauth = read.pop("modelOverrides", {}), read.pop("oauth", None)
    return FileEntry(config=ProviderConfig.of(read), overrides=overrides, oauth=oauth)
