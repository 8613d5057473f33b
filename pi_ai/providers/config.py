"""What people register: a provider, its models, a login. Data, and what must be true of it (R2-R6, R20, R40).

Objects, mappings with snake_case keys and mappings with pi's camelCase keys say the same. Code is read strictly: an
unknown key is a mistake, and a registration that is wrong in any way changes nothing. Rules: custom-providers.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypedDict, TypeVar, cast

import attrs

from pi_ai.adapters.custom import StreamFunction
from pi_ai.auth.oauth.config import OAuthConfig
from pi_ai.providers.catalogue import closest
from pi_ai.serialization import camel
from pi_ai.types import (
    CostTier,
    InputKind,
    JSONObject,
    Model,
    ModelCost,
    PromptCacheLifetime,
    ThinkingLevel,
    Timeouts,
)

T = TypeVar("T")

Headers: TypeAlias = Mapping[str, str | None]


class ProviderConfigError(ValueError):
    """A registration says something that cannot be (R20). Nothing of it has taken effect."""


# ── mappings ─────────────────────────────────────────────────────────────────────────────────────────────────


def _read(cls: type[T], given: object, words: str, *, ignored: tuple[str, ...] = ()) -> T:
    """An object of an attrs class from a mapping with either spelling of its fields; None is "not given"."""
    if not isinstance(given, Mapping):
        raise TypeError(f"{words} must be a {cls.__name__} or a mapping, not {type(given).__name__}")
    names = {key: field.name for field in attrs.fields(cast("Any", cls)) for key in (field.name, camel(field.name))}
    values: dict[str, Any] = {}
    spelled: dict[str, object] = {}
    for key, value in cast("Mapping[object, Any]", given).items():
        if key in ignored:
            continue
        name = names.get(key) if isinstance(key, str) else None
        if name is None:
            close = closest(str(key), list(names))
            raise TypeError(f"{words} has no field {key!r}" + (f"; did you mean {close[0]!r}?" if close else ""))
        if name in spelled:
            raise TypeError(f"{words} has both {spelled[name]!r} and {key!r}, which are the same field")
        spelled[name] = key
        if value is not None:
            values[name] = value
    return cls(**values)


def _as_tier(value: object) -> CostTier:
    return value if isinstance(value, CostTier) else _read(CostTier, value, "a tier of a model's cost")


def _as_cost(value: object) -> ModelCost:
    cost = value if isinstance(value, ModelCost) else _read(ModelCost, value, "a model's cost")
    return attrs.evolve(cost, tiers=[_as_tier(tier) for tier in cost.tiers]) if cost.tiers else cost


def _as_lifetime(value: object) -> PromptCacheLifetime | None:
    if value is None or isinstance(value, PromptCacheLifetime):
        return value
    return _read(PromptCacheLifetime, value, "a model's prompt_cache")


def _as_headers(value: object) -> Headers | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise TypeError(f"headers must be a mapping of names to texts, not {type(value).__name__}")
    for name, text in cast("Mapping[object, object]", value).items():
        if not isinstance(name, str) or not isinstance(text, (str, type(None))):
            raise TypeError(f"header {name!r} must be a str, or None to remove it, not {type(text).__name__}")
    return dict(cast("Headers", value))


def _names_only(headers: Headers | None) -> str:
    return "None" if headers is None else "{" + ", ".join(f"{name!r}: …" for name in headers) + "}"


# ── models ───────────────────────────────────────────────────────────────────────────────────────────────────

_is_text = attrs.validators.instance_of(str)
_is_count = attrs.validators.instance_of(int)


@attrs.frozen
class ProviderModelConfig:
    """A model of a registered provider: ``ProviderModelConfig("large", context_window=200_000)``.

    What is not given comes from the provider, or has the default of R5. See :class:`Model` for the fields.

    :ivar headers: sent with requests to this model; values are config values, None removes a header.
    :ivar compat: on top of the provider's own, in pi's camelCase or in snake_case.
    :ivar type: anything but ``"chat"`` keeps the model out of the catalogue (R6).
    """

    id: str = attrs.field(validator=_is_text)
    name: str | None = attrs.field(default=None, kw_only=True)
    api: str | None = attrs.field(default=None, kw_only=True)
    base_url: str | None = attrs.field(default=None, kw_only=True)
    reasoning: bool = attrs.field(default=False, kw_only=True)
    thinking_level_map: Mapping[ThinkingLevel, str | None] | None = attrs.field(default=None, kw_only=True)
    input: Sequence[InputKind] = attrs.field(default=("text",), kw_only=True)
    cost: ModelCost = attrs.field(factory=ModelCost, converter=_as_cost, kw_only=True)
    context_window: int = attrs.field(default=128_000, validator=_is_count, kw_only=True)
    max_tokens: int = attrs.field(default=16_384, validator=_is_count, kw_only=True)
    sampling_params: JSONObject | None = attrs.field(default=None, kw_only=True)
    sampling_params_by_thinking_level: Mapping[ThinkingLevel, JSONObject] | None = attrs.field(
        default=None, kw_only=True
    )
    headers: Headers | None = attrs.field(default=None, converter=_as_headers, repr=_names_only, kw_only=True)
    compat: Mapping[str, Any] | None = attrs.field(default=None, kw_only=True)
    prompt_cache: PromptCacheLifetime | None = attrs.field(default=None, converter=_as_lifetime, kw_only=True)
    input_limits: JSONObject | None = attrs.field(default=None, kw_only=True)
    timeouts: Timeouts | None = attrs.field(default=None, kw_only=True)
    type: str | None = attrs.field(default=None, kw_only=True)

    @classmethod
    def of(cls, model: ProviderModelConfig | Model | Mapping[str, Any]) -> ProviderModelConfig:
        """A model's config from any form: itself, a mapping, or a :class:`Model`, say of another provider.

        :raises TypeError: a key is unknown, or is given in both spellings.
        """
        if isinstance(model, ProviderModelConfig):
            return model
        if isinstance(model, Model):
            shared: dict[str, Any] = {field.name: getattr(model, field.name) for field in attrs.fields(cls)}
            shared["base_url"] = model.base_url or None
            return cls(**shared)
        given: Any = model
        if isinstance(given, Mapping):
            given = {"id": "", **cast("Mapping[str, Any]", given)}
        return _read(cls, given, "a model", ignored=("provider",))  # it is the one that is registered (R35)


def _as_models(models: Any) -> tuple[ProviderModelConfig, ...] | None:
    if models is None:
        return None
    if isinstance(models, (str, bytes, Mapping)) or not isinstance(models, Sequence):
        raise TypeError(f"models must be a list of models, not {type(cast('object', models)).__name__}")
    return tuple(ProviderModelConfig.of(model) for model in cast("Sequence[Any]", models))


# ── login ────────────────────────────────────────────────────────────────────────────────────────────────────


def _as_oauth(value: Any) -> OAuthConfig | None:
    if value is None or isinstance(value, OAuthConfig):
        return value
    return _read(OAuthConfig, value, "oauth", ignored=("id",))


# ── providers ────────────────────────────────────────────────────────────────────────────────────────────────


@attrs.frozen(kw_only=True)
class ProviderConfig:
    """What is registered under a provider's id; a field that is None is not given, and keeps what is there.

    :ivar name: display name.
    :ivar base_url: endpoint of all its models. ``$NAME`` in it is read from the environment at each request.
    :ivar api_key: a config value: ``$NAME``, text with ``${NAME}``, ``!command``, or the key itself.
    :ivar api: what the models speak, and what ``stream_simple`` implements.
    :ivar stream_simple: a streaming implementation of its own, for models whose ``api`` is this ``api`` (R60).
    :ivar headers: sent with every request; values are config values, None removes a header.
    :ivar auth_header: send the key as ``Authorization: Bearer …``, too.
    :ivar models: replace the provider's models; an empty list is given, too.
    :ivar compat: switches for all models, see :class:`Model`.
    :ivar refresh_models: ``refresh_models(context)`` finds the models at run time, see :class:`RefreshContext` (R85).
    :ivar oauth: a login.
    """

    name: str | None = None
    base_url: str | None = None
    api_key: str | None = attrs.field(default=None, repr=False)
    api: str | None = None
    stream_simple: StreamFunction | None = None
    headers: Headers | None = attrs.field(default=None, converter=_as_headers, repr=_names_only)
    auth_header: bool | None = None
    models: tuple[ProviderModelConfig, ...] | None = attrs.field(default=None, converter=_as_models)
    compat: Mapping[str, Any] | None = None
    refresh_models: Callable[..., Any] | None = None
    oauth: OAuthConfig | None = attrs.field(default=None, converter=_as_oauth)

    def __attrs_post_init__(self) -> None:
        for name, (kind, words) in _KINDS.items():
            value = getattr(self, name)
            if value is not None and not (callable(value) if kind is None else isinstance(value, kind)):
                raise TypeError(f"{name} of a provider must be {words}, not {type(value).__name__}")

    @classmethod
    def of(cls, config: ProviderConfig | Mapping[str, Any] | None, **fields: Any) -> ProviderConfig:
        """A config from any form, with further fields on top.

        :raises TypeError: a field is unknown, is given twice, or has a value of the wrong kind.
        """
        base = config if isinstance(config, ProviderConfig) else _read(cls, config or {}, "a provider")
        return base.over(_read(cls, fields, "a provider")) if fields else base

    def given(self) -> dict[str, Any]:
        """The fields that are given."""
        return {
            field.name: value
            for field in attrs.fields(ProviderConfig)
            if (value := getattr(self, field.name)) is not None
        }

    def over(self, new: ProviderConfig) -> ProviderConfig:
        """What another config gives replaces, the rest stays (R40)."""
        return attrs.evolve(self, **new.given())


class ProviderKeywords(TypedDict, total=False):
    """The fields of :class:`ProviderConfig` as keywords of ``register_provider()``; a test holds them equal."""

    name: str | None
    base_url: str | None
    api_key: str | None
    api: str | None
    stream_simple: StreamFunction | None
    headers: Headers | None
    auth_header: bool | None
    models: Sequence[ProviderModelConfig | Model | Mapping[str, Any]] | None
    compat: Mapping[str, Any] | None
    refresh_models: Callable[..., Any] | None
    oauth: OAuthConfig | Mapping[str, Any] | None


_KINDS: dict[str, tuple[Any, str]] = {
    **dict.fromkeys(("name", "base_url", "api_key", "api"), (str, "a str")),
    **dict.fromkeys(("stream_simple", "refresh_models"), (None, "a function")),
    "auth_header": (bool, "a bool"),
    "compat": (Mapping, "a mapping"),
}


# ── what must be true ────────────────────────────────────────────────────────────────────────────────────────

Inherited: TypeAlias = tuple[str | None, str | None]
"""The API and the base URL that a model gets from the layers below; None: there is nothing to inherit."""


def check_registration(
    name: str, given: ProviderConfig, merged: ProviderConfig, inherited: Callable[[ProviderModelConfig], Inherited]
) -> None:
    """Everything of R20, before anything changes (R22).

    :param given: what is registered now. ``merged``: on top of what was registered before (R41).
    :raises ProviderConfigError: the first thing that is wrong.
    """
    for problem in _problems(name, given, merged, inherited):
        raise ProviderConfigError(problem)


def _problems(
    name: str, given: ProviderConfig, merged: ProviderConfig, inherited: Callable[[ProviderModelConfig], Inherited]
) -> Iterator[str]:
    new, models, oauth = given.models or (), merged.models or (), given.oauth
    if not name.strip():
        yield "Provider id must not be empty."
    if merged.stream_simple is not None and not merged.api:
        yield f'Provider {name}: "api" is required when registering stream_simple.'
    for model in new:
        if not model.id:
            yield f'Provider {name}: model missing "id"'
    for model in models:
        if not (model.api or merged.api or inherited(model)[0]):
            yield f'Provider {name}, model {model.id}: no "api" specified. Set it at model level or provider level.'
    for model in models:
        if not (model.base_url or merged.base_url) and inherited(model)[1] is None:
            yield f'Provider {name}: "base_url" is required when defining custom models.'
    for model in new:
        for field, value in (("context_window", model.context_window), ("max_tokens", model.max_tokens)):
            if value <= 0:
                yield f"Provider {name}, model {model.id}: invalid {field}"
    for model, count in Counter(model.id for model in new).items():
        if count > 1:
            yield f'Provider {name}: duplicate model id "{model}"'
    if oauth is not None and not (oauth.name and oauth.login and oauth.refresh_token and oauth.get_api_key):
        yield f"Provider {name}: oauth requires name, login, refresh_token and get_api_key"
