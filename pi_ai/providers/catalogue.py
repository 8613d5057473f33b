"""The built-in models and providers: data in ``catalog/``, read when first asked for.

``catalog/models.jsonl`` holds one model a line, sorted by provider and id, and every line begins with these two. So a
model is found by searching the file's bytes for the beginning of its line, and only the lines that were asked for are
ever parsed. Every ``Model`` that is returned is a fresh object: change it freely.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import attrs

from pi_ai.types import CostTier, JSONObject, Model, ModelCost, PromptCacheLifetime

if TYPE_CHECKING:
    from pi_ai.providers.catalog.ids import GetModel

T = TypeVar("T")

_FOLDER = Path(__file__).with_name("catalog")


class UnknownProvider(LookupError):
    """The catalogue has no such provider.

    :ivar closest: at most three ids that look alike, best first.
    """

    def __init__(self, provider: str, closest: list[str]) -> None:
        super().__init__(provider, closest)
        self.provider, self.closest = provider, closest

    def __str__(self) -> str:
        hint = "; the sandbox is pi_ai.testing.Sandbox" if self.provider == "sandbox" else _closest_words(self.closest)
        return f"the catalogue has no provider {self.provider!r}{hint}"


class UnknownModel(LookupError):
    """The provider has no such model.

    :ivar closest: at most three of its model ids that look alike, best first.
    """

    def __init__(self, provider: str, id: str, closest: list[str]) -> None:  # noqa: A002 - pi's name
        super().__init__(provider, id, closest)
        self.provider, self.id, self.closest = provider, id, closest

    def __str__(self) -> str:
        return f"provider {self.provider!r} has no model {self.id!r}{_closest_words(self.closest)}"


def completing_ids(function: Callable[..., Model]) -> GetModel:
    """For editors: a look-up whose arguments are completed to the ids of the catalogue. Any other text is right, too.

    At run time it is the function itself, so that the ids cost nothing.
    """
    return cast("GetModel", function)


def provider_and_id(provider: str, id: str | None) -> tuple[str, str]:  # noqa: A002 - pi's name
    """The arguments of ``get_model``, of which the first one may be both: ``"groq/openai/gpt-oss-120b"``.

    :raises TypeError: there is no id.
    """
    if id is None:
        provider, _, id = provider.partition("/")  # noqa: A001 - ids hold slashes
        if not id:
            raise TypeError(f'get_model() needs an id, too: get_model("{provider}", "…") or get_model("{provider}/…")')
    return provider, id


@completing_ids
def get_model(provider: str, id: str | None = None) -> Model:  # noqa: A002 - pi's name
    """A built-in model: ``get_model("groq", "openai/gpt-oss-120b")``, or ``get_model("groq/openai/gpt-oss-120b")``.

    :raises UnknownProvider: the catalogue has no such provider.
    :raises UnknownModel: the provider has no such model; the message names the closest ids.
    """
    provider, id = provider_and_id(provider, id)  # noqa: A001
    model = find_model(provider, id)
    if model is None:
        raise UnknownModel(provider, id, closest(id, [data["id"] for data in _models_of(provider)]))
    return model


def find_model(provider: str, id: str) -> Model | None:  # noqa: A002 - pi's name
    """A built-in model, None if there is none."""
    lines = _lines()
    start = lines.find(_beginning(provider=provider, id=id))
    return None if start < 0 else _model(json.loads(lines[start : lines.index(b"\n", start + 1)]))


def get_models(provider: str | None = None) -> list[Model]:
    """All built-in models, or those of one provider; sorted by provider and id.

    :raises UnknownProvider: the catalogue has no such provider.
    """
    return [_model(data) for data in _models_of(provider)]


def get_providers() -> list[str]:
    """The ids of the built-in providers, sorted. Some have no models of their own."""
    return list(provider_records())


@cache
def provider_records() -> dict[str, JSONObject]:
    """What is known of each built-in provider, by id: ``catalog/README.md`` lists the keys. Not to be changed."""
    records = [json.loads(line) for line in (_FOLDER / "providers.jsonl").read_bytes().splitlines()]
    return {record["id"]: record for record in records}


def closest(word: str, words: list[str]) -> list[str]:
    """At most three of ``words`` that look like ``word``, best first; upper and lower case are the same."""
    by_lower_case = {each.lower(): each for each in words}
    from difflib import get_close_matches  # after a mistake only

    return [by_lower_case[found] for found in get_close_matches(word.lower(), by_lower_case, n=3, cutoff=0.4)]


@cache
def _lines() -> bytes:
    return b"\n" + (_FOLDER / "models.jsonl").read_bytes()


def _beginning(**keys: str) -> bytes:
    """How the lines with these first keys begin, with the end of the line before."""
    return b"\n" + json.dumps(keys, separators=(",", ":"))[:-1].encode() + b","


def _models_of(provider: str | None) -> list[JSONObject]:
    lines = _lines()
    if provider is not None:
        if provider not in provider_records():
            raise UnknownProvider(provider, closest(provider, get_providers()))
        beginning = _beginning(provider=provider)
        first, last = lines.find(beginning), lines.rfind(beginning)
        lines = b"" if first < 0 else lines[first : lines.index(b"\n", last + 1)]
    return [json.loads(line) for line in lines.split(b"\n") if line]


def _model(data: JSONObject) -> Model:
    """A line's JSON as a model; what is only of interest inside a gateway is left out."""
    cost = dict(data["cost"])
    if "tiers" in cost:
        cost["tiers"] = [_build(CostTier, tier) for tier in cost["tiers"]]
    fields = {**data, "cost": _build(ModelCost, cost)}
    if "promptCache" in data:
        fields["promptCache"] = _build(PromptCacheLifetime, data["promptCache"])
    return _build(Model, fields)


def _build(cls: type[T], data: JSONObject) -> T:
    return cls(**{name: data[key] for key, name in _attributes(cls).items() if key in data})


@cache
def _attributes(cls: type[Any]) -> dict[str, str]:
    """A class's attributes by their camelCase keys."""
    names = [field.name for field in attrs.fields(cls)]
    return {name[0] + name.title().replace("_", "")[1:]: name for name in names}


def _closest_words(found: list[str]) -> str:
    return f"; closest: {', '.join(found)}" if found else ""
