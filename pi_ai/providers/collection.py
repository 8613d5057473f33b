"""All providers of a registry: the layers of each, and what they are together (R10-R13, R40-R52).

A change recomposes the one provider that it is about. Nothing here waits, and nothing is half done when it returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import attrs

from pi_ai.providers import catalogue
from pi_ai.providers.base import Provider
from pi_ai.providers.builtin import BuiltinProvider
from pi_ai.providers.composed import ComposedProvider, Reading
from pi_ai.providers.config import ProviderConfig, ProviderConfigError, ProviderModelConfig, check_registration
from pi_ai.providers.layers import NO_ENTRY, NOTHING, Layers, composed_models, inherited, left_out
from pi_ai.providers.models_json import ModelsFile, read_models_json
from pi_ai.types import Model

_OLD_IDS = {"azure-openai-responses": "azure"}
"""What built-in providers were called before."""


class Providers:
    """The providers of a registry, by id.

    :param own: built-in ones that are not of the catalogue.
    :param models_path: where ``models.json`` is; None: there is none.
    :param reading: how config values are read.
    :param like: begin with what is registered there.
    """

    def __init__(
        self, *own: Provider, models_path: Path | None, reading: Reading, like: Providers | None = None
    ) -> None:
        self.models_path = models_path
        self._reading = reading
        self._builtin = {provider.id: provider for provider in own}
        self._objects: dict[str, Provider] = dict(like._objects) if like else {}
        self._registered: dict[str, ProviderConfig] = dict(like._registered) if like else {}
        self._file = ModelsFile()
        self._composed: dict[str, Provider | None] = {}
        self._problems: dict[str, list[str]] = {}
        self._runs: dict[str, object] = {}
        self.reload()

    # ── looking up ───────────────────────────────────────────────────────────────────────────────────────────

    def ids(self) -> list[str]:
        """The ids of all providers, in the order of R13."""
        groups = (catalogue.get_providers(), self._builtin, self._objects, self._file.entries, self._registered)
        known = dict.fromkeys(name for group in groups for name in group)
        return [name for name in known if self.get(name) is not None]

    def get(self, name: str) -> Provider | None:
        """A provider, as it is at the moment; None: there is none."""
        name = _OLD_IDS.get(name, name)
        if name not in self._composed:
            self._compose(name)
        return self._composed[name]

    def find(self, name: str) -> Provider:
        """A provider.

        :raises UnknownProvider: there is none; the message names the closest ids.
        """
        provider = self.get(name)
        if provider is None:
            raise catalogue.UnknownProvider(name, catalogue.closest(name, self.ids()))
        return provider

    def errors(self) -> list[str]:
        """What is wrong with ``models.json``, and with single providers (R91, R12)."""
        problems = [f'Provider "{name}": {text}' for name, texts in self._problems.items() for text in texts]
        return [*self._file.errors, *problems]

    # ── changing ─────────────────────────────────────────────────────────────────────────────────────────────

    def register(self, name: str, given: ProviderConfig) -> None:
        """Register a config on top of what was registered (R40).

        :raises ProviderConfigError: it cannot be; nothing has changed (R22).
        :raises TypeError: a value is of the wrong kind; nothing has changed.
        """
        name = _OLD_IDS.get(name, name)
        merged = self._merged(name, given, self._ground(name))
        self._objects.pop(name, None)
        self._change(name, merged)

    def register_object(self, provider: Provider) -> None:
        """Register a provider as it is; it takes the place of the built-in one, and of a config (R42).

        :raises ProviderConfigError: it has no id.
        """
        check_registration(provider.id, NOTHING, NOTHING, lambda _: (None, None))
        self._objects[provider.id] = provider
        self._change(provider.id, None)

    def unregister(self, name: str) -> None:
        """Forget what was registered; what was there before is there again (R50). Unknown ids: nothing happens."""
        name = _OLD_IDS.get(name, name)
        self._objects.pop(name, None)
        self._change(name, None)

    def replace_models(self, name: str, models: tuple[ProviderModelConfig, ...]) -> None:
        """Put models that were found in the place of those that were registered (R85).

        :raises ProviderConfigError: they cannot be; nothing has changed.
        """
        self._registered[name] = self._merged(name, ProviderConfig(models=models), self._base(name))
        self._compose(name)

    def reload(self) -> None:
        """Read ``models.json`` again (R98)."""
        before = self._file.entries
        self._file = read_models_json(self.models_path) if self.models_path else ModelsFile()
        for name in {**before, **self._file.entries}:
            self._compose(name)

    def begin_run(self, name: str) -> object:
        """Begin to look for a provider's models; whoever did before is superseded (R87)."""
        self._runs[name] = run = object()
        return run

    def is_current(self, name: str, run: object) -> bool:
        """Whether neither a newer run nor a registration has superseded a run."""
        return self._runs.get(name) is run

    def _change(self, name: str, config: ProviderConfig | None) -> None:
        self._runs.pop(name, None)
        if config is None:
            self._registered.pop(name, None)
        else:
            self._registered[name] = config
        self._compose(name)

    def _merged(self, name: str, given: ProviderConfig, base: Provider | None) -> ProviderConfig:
        """What is registered together with what was, once it is sure that it can be."""
        merged = self._registered.get(name, NOTHING).over(given)
        layers, models = self._layers(name, merged), models_of(base)
        check_registration(name, given, merged, lambda model: inherited(model, merged, layers, models))
        with suppress(ProviderConfigError):  # of the file, which errors() tells
            composed_models(layers, models)
        return merged

    # ── composing ────────────────────────────────────────────────────────────────────────────────────────────

    def _base(self, name: str) -> Provider | None:
        """What lies below the layers."""
        return self._objects.get(name) or self._ground(name)

    def _ground(self, name: str) -> Provider | None:
        if name not in self._builtin and name in catalogue.provider_records():
            self._builtin[name] = BuiltinProvider(name)
        return self._builtin.get(name)

    def _layers(self, name: str, registered: ProviderConfig) -> Layers:
        return Layers(provider=name, file=self._file.entries.get(name, NO_ENTRY), registered=registered)

    def _compose(self, name: str) -> None:
        problems: list[str] = []
        layers = self._layers(name, self._registered.get(name, NOTHING))
        self._composed[name] = self._with_layers(self._base(name), layers, problems)
        self._problems[name] = problems

    def _with_layers(self, base: Provider | None, layers: Layers, problems: list[str]) -> Provider | None:
        """One provider of those layers that work together (R12); without layers the base is it (R11)."""
        if layers.file is NO_ENTRY and layers.registered is NOTHING:
            return base
        try:
            composed_models(layers, models_of(base))
        except ProviderConfigError as error:
            problems.append(str(error))
            if layers.file is NO_ENTRY:
                return base
            return self._with_layers(base, attrs.evolve(layers, file=NO_ENTRY), problems)
        problems += left_out(layers)
        return ComposedProvider(base, layers, self._reading)


def models_of(provider: Provider | None) -> Sequence[Model]:
    """A provider's models; none where they cannot be had: the others have theirs (R100)."""
    try:
        return provider.models() if provider else ()
    except Exception:  # noqa: BLE001 - a provider may be anybody's
        return ()
