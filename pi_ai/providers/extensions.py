"""Extensions: modules that register providers, found in folders, in installed packages, or named (R110-R116).

An extension has a function ``register``, sync or async, and is given a :class:`ProviderApi`::

    def register(pi):
        pi.register_provider("corp", base_url="https://llm.corp.example/v1", api_key="$CORP_KEY", …)

An application finds, loads and binds them; without it nothing is ever imported::

    extensions = Extensions(discover(project=Path.cwd()))
    result = await extensions.load()
    errors = result.errors + extensions.bind(registry)
"""

from __future__ import annotations

import importlib.util
import inspect
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Unpack, cast, overload

import attrs

from pi_ai.adapters.custom import StreamFunction
from pi_ai.auth.env import agent_dir
from pi_ai.providers.base import Provider
from pi_ai.providers.config import ProviderConfig, ProviderKeywords

ENTRY_POINTS = "pi_ai.extensions"
"""The group of entry points in which packages name their extensions."""


class _NoFactory(Exception):
    """A module has no function that registers."""


@attrs.frozen
class Source:
    """Where an extension comes from.

    :ivar path: the file, or ``module:name`` of an installed package.
    :ivar get: imports it, and gives the module, or the function itself.
    """

    path: str
    get: Callable[[], object] = attrs.field(repr=False)

    @classmethod
    def of(cls, source: Source | str | Path | Callable[[ProviderApi], object]) -> Source:
        """A source from what it may be given as: a file, or a function that registers."""
        if isinstance(source, Source):
            return source
        if isinstance(source, (str, Path)):
            path = Path(source).expanduser().resolve()
            return cls(str(path), lambda: _imported(path))
        name = getattr(source, "__qualname__", type(source).__qualname__)
        return cls(f"{source.__module__}:{name}", lambda: source)


# ── finding ──────────────────────────────────────────────────────────────────────────────────────────────────


def discover(
    *paths: str | Path, project: Path | None = None, trust_project: bool = False, installed: bool = True
) -> list[Source]:
    """Find extensions without importing any (R111).

    :param paths: files, or folders that are extensions.
    :param project: whose ``.pi/extensions/`` is looked into, if ``trust_project``: its code will run.
    :param installed: look for entry points in the group ``pi_ai.extensions``, too.
    :returns: those of the project, the agent folder's, the installed ones, ``paths``; each once.
    """
    found: list[Source] = []
    if project is not None and trust_project:
        found += _in_folder(project / ".pi" / "extensions")
    found += _in_folder(agent_dir() / "extensions")
    if installed:
        found += _installed()
    for path in paths:
        found += sources_of(path)
    first: dict[str, Source] = {}
    for source in found:
        first.setdefault(source.path, source)
    return list(first.values())


def _in_folder(folder: Path) -> Iterator[Source]:
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.suffix == ".py" or (path.is_dir() and (path / "__init__.py").is_file()) or _declared(path):
            yield from sources_of(path)


def sources_of(path: str | Path) -> Iterator[Source]:
    """The extensions at a path: a file, a package, or a folder whose ``pyproject.toml`` declares some."""
    path = Path(path).expanduser()
    if path.is_dir() and (declared := _declared(path)):
        yield from map(Source.of, declared)
    elif path.is_dir():
        yield Source.of(path / "__init__.py")
    else:
        yield Source.of(path)


def _declared(folder: Path) -> list[Path]:
    """The files that a folder's ``pyproject.toml`` declares: ``[tool.pi] extensions = ["./one.py"]``."""
    import tomllib

    try:
        with open(folder / "pyproject.toml", "rb") as file:
            names: object = tomllib.load(file)["tool"]["pi"]["extensions"]
    except (OSError, KeyError, TypeError, tomllib.TOMLDecodeError):
        return []
    if not isinstance(names, list):
        return []
    return [folder / name for name in cast("list[object]", names) if isinstance(name, str)]


def _installed() -> Iterator[Source]:
    from importlib.metadata import entry_points

    for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: entry.name):
        yield Source(entry.value, entry.load)


# ── loading ──────────────────────────────────────────────────────────────────────────────────────────────────

_numbers = itertools.count()


def _imported(path: Path) -> object:
    """A file as a module of a name that nobody else has; it may be imported again, as another module."""
    if path.suffix != ".py":
        raise ValueError(f"{path} is no Python file")
    package = [str(path.parent)] if path.name == "__init__.py" else None
    name = f"pi_ai_extension_{next(_numbers)}"
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=package)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _factory(source: Source) -> Callable[[ProviderApi], object]:
    """The function of an extension that registers (R110)."""
    found = source.get()
    for factory in (getattr(found, "register", None), getattr(found, "default", None), found):
        if callable(factory):
            return factory
    raise _NoFactory(f"Extension does not export a valid factory function: {source.path}")


class Registrations(Protocol):
    """What registrations are applied to: a :class:`Registry`."""

    def register_provider(self, name: Any, config: Any = None, /, **fields: Any) -> None:
        """Register a provider."""
        ...

    def unregister_provider(self, name: str) -> None:
        """Take it back."""
        ...

    def register_api(self, api: str, function: Any, /, *, source_id: str | None = None) -> Any:
        """Register an API."""
        ...

    def unregister_apis(self, source_id: str) -> None:
        """Take back the APIs of a source."""
        ...


@attrs.frozen
class _Wish:
    """A call that an extension has made."""

    path: str
    method: str
    arguments: tuple[Any, ...]
    fields: Mapping[str, Any] = attrs.field(factory=dict[str, Any])

    @property
    def provider(self) -> str:
        """The id of the provider that it is about."""
        about = self.arguments[0]
        return about.id if isinstance(about, Provider) else about

    def fulfil(self, registry: Registrations) -> None:
        getattr(registry, self.method)(*self.arguments, **self.fields)


@attrs.define
class _Gate:
    """Where the calls of an extension go, at the moment."""

    take: Callable[[_Wish], None]


class ProviderApi:
    """What an extension registers with.

    Until a registry is bound, what it says is kept and nothing raises; then it takes effect at once (R113, R115).

    :ivar path: the extension's own.
    """

    def __init__(self, path: str, gate: _Gate) -> None:
        self.path = path
        self._gate = gate

    @overload
    def register_provider(self, provider: Provider, /) -> None: ...
    @overload
    def register_provider(
        self, name: str, config: ProviderConfig | Mapping[str, Any] | None = None, /, **fields: Unpack[ProviderKeywords]
    ) -> None: ...
    def register_provider(self, name: Any, config: Any = None, /, **fields: Any) -> None:
        """Register a provider, or change one; see :func:`pi_ai.register_provider`.

        :raises RuntimeError: the extension has failed to load, or was loaded anew.
        """
        arguments = (name,) if isinstance(name, Provider) else (name, config)
        self._gate.take(_Wish(self.path, "register_provider", arguments, fields))

    def unregister_provider(self, name: str) -> None:
        """Take back all registrations of a provider."""
        self._gate.take(_Wish(self.path, "unregister_provider", (name,)))

    def register_api(self, api: str, function: StreamFunction | None = None, /) -> Any:
        """Register a stream function as an API, also as a decorator; see :func:`pi_ai.register_api`."""
        if function is None:
            return partial(self.register_api, api)
        self._gate.take(_Wish(self.path, "register_api", (api, function), {"source_id": self.path}))
        return function


def _refusing(text: str) -> Callable[[_Wish], None]:
    def refuse(_: _Wish) -> None:
        raise RuntimeError(text)

    return refuse


@attrs.frozen(kw_only=True)
class ExtensionError:
    """What went wrong in an extension.

    :ivar event: ``load``, or the call that failed: ``register_provider``, ``register_api``.
    """

    path: str
    error: str
    event: str = "load"


@attrs.frozen(kw_only=True)
class LoadResult:
    """What became of loading.

    :ivar loaded: the paths of those that are there. ``errors``: what went wrong with the others.
    """

    loaded: tuple[str, ...]
    errors: tuple[ExtensionError, ...]


class Extensions:
    """The extensions of an application.

    :param sources: what :func:`discover` found, files, or functions that take a :class:`ProviderApi`.
    """

    def __init__(self, sources: Iterable[Source | str | Path | Callable[[ProviderApi], object]]) -> None:
        self._sources = [Source.of(source) for source in sources]
        self._registry: Registrations | None = None
        self._queue: list[_Wish] = []
        self._fulfilled: list[_Wish] = []
        self._gates: dict[str, _Gate] = {}

    async def load(self) -> LoadResult:
        """Run all of them, one after the other. One that raises leaves no trace (R112).

        Cancelled: those that have been loaded stay.
        """
        loaded: list[str] = []
        errors: list[ExtensionError] = []
        for source in self._sources:
            try:
                wishes = await self._run(source)
            except Exception as error:  # noqa: BLE001 - an extension of somebody's
                text = str(error) or type(error).__name__
                if not isinstance(error, _NoFactory):
                    text = f"Failed to load extension: {text}"
                errors.append(ExtensionError(path=source.path, error=text))
            else:
                loaded.append(source.path)
                errors += self._take_all(wishes)
        return LoadResult(loaded=tuple(loaded), errors=tuple(errors))

    def bind(self, registry: Registrations) -> tuple[ExtensionError, ...]:
        """Apply to a registry what was kept, and from now on all that comes, before a model is looked up (R114).

        :returns: the registrations that failed; the others are in effect (R113).
        """
        self._registry = registry
        wishes, self._queue = self._queue, []
        return tuple(self._take_all(wishes))

    async def reload(self) -> LoadResult:
        """Take back all that they have registered, and run them again, as they are now (R116)."""
        for path, gate in self._gates.items():
            gate.take = _refusing(f'Extension "{path}" was loaded anew; this object is of its past.')
        self._gates, self._queue = {}, []
        fulfilled, self._fulfilled = self._fulfilled, []
        if self._registry is not None:
            for wish in fulfilled:
                if wish.method == "register_provider":
                    self._registry.unregister_provider(wish.provider)
                self._registry.unregister_apis(wish.path)
        return await self.load()

    async def _run(self, source: Source) -> list[_Wish]:
        """Run an extension, and give what it wants to have registered."""
        wishes: list[_Wish] = []
        gate = _Gate(wishes.append)
        try:
            result = _factory(source)(ProviderApi(source.path, gate))
            if inspect.isawaitable(result):
                await result
        except BaseException:
            gate.take = _refusing(f'Extension "{source.path}" failed to load and its API is no longer active.')
            raise
        gate.take = self._take
        self._gates[source.path] = gate
        return wishes

    def _take(self, wish: _Wish) -> None:
        if self._registry is not None:
            wish.fulfil(self._registry)
            self._fulfilled.append(wish)
        elif wish.method == "unregister_provider":
            about = wish.provider
            self._queue = [kept for kept in self._queue if (kept.method, kept.provider) != ("register_provider", about)]
        else:
            self._queue.append(wish)

    def _take_all(self, wishes: Iterable[_Wish]) -> Iterator[ExtensionError]:
        for wish in wishes:
            try:
                self._take(wish)
            except Exception as error:  # noqa: BLE001 - reported, so that the rest is applied (R113)
                yield ExtensionError(path=wish.path, event=wish.method, error=str(error) or type(error).__name__)
