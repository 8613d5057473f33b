"""How the layers of a provider become one: built-in ← ``models.json`` ← registered ← ``modelOverrides`` (D12).

Pure functions of the layers, done again whenever one of them changes; none is ever edited, so that taking one away
restores what was there before (R10, R50). They look neither at credentials nor at the environment. Rules R30-R38,
R59, R95-R97.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple, cast

import attrs

from pi_ai.auth.config_values import PiAiDeprecationWarning
from pi_ai.providers.config import (
    Headers,
    Inherited,
    ProviderConfig,
    ProviderConfigError,
    ProviderModelConfig,
)
from pi_ai.serialization import camel
from pi_ai.types import CostTier, JSONObject, Model, ModelCost, PromptCacheLifetime

NOTHING = ProviderConfig()


@attrs.frozen(kw_only=True)
class FileEntry:
    """What ``models.json`` says about a provider.

    :ivar config: its fields, as if they had been registered; ``models`` are added, not put in the others' place.
    :ivar overrides: model id → an object of ``modelOverrides``, with the keys of the file.
    :ivar oauth: the name of a login that the file asks for.
    """

    config: ProviderConfig = NOTHING
    overrides: Mapping[str, JSONObject] = attrs.field(factory=dict[str, JSONObject])
    oauth: str | None = None


NO_ENTRY = FileEntry()


@attrs.frozen(kw_only=True)
class Layers:
    """What is known of a provider above its base.

    :ivar provider: its id. ``file``: the entry in ``models.json``. ``registered``: all registrations, merged.
    """

    provider: str
    file: FileEntry = NO_ENTRY
    registered: ProviderConfig = NOTHING

    @property
    def config(self) -> ProviderConfig:
        """Both layers as one, for what is the provider's and not its models'."""
        return self.file.config.over(self.registered)

    @property
    def replaces_models(self) -> bool:
        """Whether the models of the layers below are replaced, not overridden (R33)."""
        return self.registered.models is not None


# ── models ───────────────────────────────────────────────────────────────────────────────────────────────────


def composed_models(
    layers: Layers, base: Sequence[Model], modify: Callable[[list[Model]], Sequence[Model]] | None = None
) -> list[Model]:
    """The models of a provider.

    :param base: the models of its base; they are not changed.
    :param modify: what a login makes of them, before the file's overrides (R84).
    :raises ProviderConfigError: a model lacks an API or a base URL.
    """
    if layers.replaces_models:
        below = _with_file(layers, base, complete=False)
        registered = _made(layers.provider, layers.registered, below, layers.file.config)
        models = _with_file_models(layers, registered)
    else:
        models = [_overridden_by(layers.registered, model) for model in _with_file(layers, base)]
    if modify is not None:
        models = list(modify(models))
    return [_with_override(model, layers.file.overrides.get(model.id)) for model in models]


def inherited(model: ProviderModelConfig, config: ProviderConfig, layers: Layers, base: Sequence[Model]) -> Inherited:
    """The API and the base URL that a registered model gets from below, where it does not say them itself (R34)."""
    return _inherited(model, config, _with_file(layers, base, complete=False), layers.file.config)


def left_out(layers: Layers) -> Iterator[str]:
    """What is said of models that are none for chat (R6)."""
    for config in (layers.file.config, layers.registered):
        for model in config.models or ():
            if not _is_chat(model):
                yield f'model "{model.id}" is left out: the operation "{model.type}" is not supported'


def _with_file(layers: Layers, base: Sequence[Model], *, complete: bool = True) -> list[Model]:
    """The base and the file.

    :param complete: False: a model of the file that lacks something is left out; the layer above may have it.
    """
    models = [_overridden_by(layers.file.config, model) for model in base]
    return _with_file_models(layers, models, complete=complete)


def _with_file_models(layers: Layers, models: list[Model], *, complete: bool = True) -> list[Model]:
    """Models with those of the file: one of the same id takes the old one's place, completely (R37, R96)."""
    own = _made(layers.provider, layers.file.config, models, NOTHING, complete=complete)
    return list({model.id: model for model in (*models, *own)}.values())


def _overridden_by(config: ProviderConfig, model: Model) -> Model:
    """A model of the layer below, in a provider that says where it is now and what is different there (R30, R36)."""
    if config.compat:
        model = attrs.evolve(model, compat=merged_compat(model.compat, config.compat))
    return attrs.evolve(model, base_url=config.base_url) if config.base_url else model


def _made(
    provider: str, config: ProviderConfig, below: Sequence[Model], spare: ProviderConfig, *, complete: bool = True
) -> list[Model]:
    """The models that a config lists.

    :raises ProviderConfigError: one lacks an API or a base URL.
    """
    models: list[Model] = []
    for model in config.models or ():
        api, base_url = _inherited(model, config, below, spare)
        api, base_url = model.api or config.api or api, model.base_url or config.base_url or base_url
        if not _is_chat(model):
            continue
        if api and base_url is not None:
            models.append(_model(provider, config, model, api, base_url))
        elif complete:
            raise _incomplete(provider, model, api)
    return models


def _incomplete(provider: str, model: ProviderModelConfig, api: str | None) -> ProviderConfigError:
    """What is said of a model of the file; registrations have been checked before (R95)."""
    if not api:
        text = f'Provider {provider}, model {model.id}: no "api" specified. Set at provider or model level.'
        return ProviderConfigError(text)
    return ProviderConfigError(f'Provider {provider}: "baseUrl" is required when defining custom models.')


def _is_chat(model: ProviderModelConfig) -> bool:
    return model.type in (None, "chat")


def _inherited(
    model: ProviderModelConfig, config: ProviderConfig, below: Sequence[Model], spare: ProviderConfig
) -> Inherited:
    """From the model below that is most like it; from a provider without models, what it says itself.

    :param spare: the provider below.
    """
    if not below:
        return spare.api, spare.base_url
    api = model.api or config.api
    best = max(below, key=lambda other: (other.id == model.id, other.api == api, other.api == "openai-completions"))
    return best.api, best.base_url


def _model(provider: str, config: ProviderConfig, model: ProviderModelConfig, api: str, base_url: str) -> Model:
    compat = merged_compat(config.compat, model.compat) or {}
    # Where levels were mapped before they had a field of their own.
    efforts = compat.pop("reasoningEffortMap", None)
    if efforts is not None:
        advice = f"Model {provider}/{model.id}: compat.reasoningEffortMap is now thinking_level_map of the model"
        warnings.warn(advice, PiAiDeprecationWarning, stacklevel=2)
    return Model(
        id=model.id,
        api=api,
        provider=provider,
        base_url=base_url,
        name=model.name or model.id,
        reasoning=model.reasoning,
        input=list(model.input),
        cost=deepcopy(model.cost),
        context_window=model.context_window,
        max_tokens=model.max_tokens,
        thinking_level_map=_copy(model.thinking_level_map or efforts),
        sampling_params=_copy(model.sampling_params),
        sampling_params_by_thinking_level=_copy(model.sampling_params_by_thinking_level),
        compat=_copy(compat) or None,
        prompt_cache=deepcopy(model.prompt_cache),
        input_limits=_copy(model.input_limits),
        timeouts=model.timeouts,
    )


def _copy(value: Mapping[Any, Any] | None) -> dict[Any, Any] | None:
    return None if value is None else deepcopy(dict(value))


# ── compat ───────────────────────────────────────────────────────────────────────────────────────────────────

_NESTED = {"openRouterRouting", "vercelGatewayRouting", "chatTemplateKwargs", "chatTemplateArgs"}


def merged_compat(*layers: Mapping[str, Any] | None) -> JSONObject | None:
    """Compat flags in pi's spelling, later layers over earlier ones; objects in them are merged, too (R3, R36)."""
    merged: JSONObject = {}
    for layer in layers:
        for name, value in (layer or {}).items():
            key = camel(name)
            merged[key] = _merged(merged.get(key), value, 1) if key in _NESTED else value
    return merged or None


# ── overrides ────────────────────────────────────────────────────────────────────────────────────────────────

_DEPTHS = {
    **dict.fromkeys(("name", "reasoning", "input", "contextWindow", "maxTokens"), 0),
    **dict.fromkeys(("thinkingLevelMap", "samplingParams"), 1),
    "samplingParamsByThinkingLevel": 2,
    "inputLimits": 3,
}
"""How deep an override of a field is merged with what is there; 0: it replaces."""
_OBJECTS = {"cost": ModelCost, "promptCache": PromptCacheLifetime}

_attribute = {
    camel(field.name): field.name for cls in (Model, CostTier, *_OBJECTS.values()) for field in attrs.fields(cls)
}


def _with_override(model: Model, override: JSONObject | None) -> Model:
    """A model as ``modelOverrides`` wants it (R97)."""
    changes: dict[str, Any] = {}
    for key, value in (override or {}).items():
        name = _attribute.get(key, "")
        old = getattr(model, name, None)
        if key in _DEPTHS:
            changes[name] = _merged(old, deepcopy(value), _DEPTHS[key])
        elif key in _OBJECTS:
            changes[name] = attrs.evolve(old or _OBJECTS[key](), **_parts(value))
        elif key == "compat":
            changes[name] = merged_compat(model.compat, value)
    return attrs.evolve(model, **changes) if changes else model


def _parts(given: JSONObject) -> dict[str, Any]:
    """The fields of an object in a file, as the attributes of ours."""
    parts = {_attribute[key]: value for key, value in given.items()}
    if "tiers" in parts:
        parts["tiers"] = [CostTier(**_parts(tier)) for tier in parts["tiers"]]
    return parts


def _merged(old: Any, new: Any, depth: int) -> Any:
    if not depth or not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return new
    merged: JSONObject = dict(cast("Mapping[str, Any]", old))
    for key, value in cast("Mapping[str, Any]", new).items():
        merged[key] = _merged(merged.get(key), value, depth - 1)
    return merged


# ── headers ──────────────────────────────────────────────────────────────────────────────────────────────────


class HeaderLayer(NamedTuple):
    """Headers that one place configures.

    :ivar owner: whose they are, for errors. ``headers``: name → config value, None removes.
    :ivar from_file: they stand in ``models.json``.
    """

    owner: str
    headers: Headers
    from_file: bool


def provider_headers(layers: Layers) -> list[HeaderLayer]:
    """The headers of a provider, lowest first (R59, levels 4 and 5)."""
    owner = f'provider "{layers.provider}"'
    return [
        HeaderLayer(owner, layers.file.config.headers or {}, from_file=True),
        HeaderLayer(owner, layers.registered.headers or {}, from_file=False),
    ]


def model_headers(layers: Layers, model: str) -> list[HeaderLayer]:
    """The headers of a model, lowest first (R59, level 7)."""
    owner = f'model "{layers.provider}/{model}"'
    return [
        HeaderLayer(owner, layers.file.overrides.get(model, {}).get("headers") or {}, from_file=True),
        HeaderLayer(owner, _headers_of(layers.file.config, model), from_file=True),
        HeaderLayer(owner, _headers_of(layers.registered, model), from_file=False),
    ]


def _headers_of(config: ProviderConfig, model: str) -> Headers:
    found = [entry.headers for entry in config.models or () if entry.id == model and entry.headers]
    return found[0] if found else {}
