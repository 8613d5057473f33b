"""Models that a provider finds at run time: ``refresh_models``, and the lists that are kept for next time (R85-R88).

A function given as ``refresh_models`` gets a :class:`RefreshContext` and returns the provider's models, or None to
leave them as they are. It is called twice in a refresh: without the network first, to bring back what was kept.
"""

from __future__ import annotations

import inspect
import json
import os
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import anyio
import attrs

from pi_ai.auth.base import Auth
from pi_ai.auth.config_values import literal, render
from pi_ai.errors import failure
from pi_ai.headers import merge_headers
from pi_ai.providers.base import Provider
from pi_ai.providers.collection import Providers
from pi_ai.providers.config import ProviderModelConfig
from pi_ai.providers.models_json import read_models
from pi_ai.serialization import to_json
from pi_ai.text import decode_json
from pi_ai.types import HttpClient, JSONObject, Model, StreamOptions, Timeouts, now_ms

if TYPE_CHECKING:
    from pi_ai.transport import Connections

STORE_NAME = "models-store.json"

FoundModels: TypeAlias = Sequence[ProviderModelConfig | Model | Mapping[str, Any]]


@attrs.frozen(kw_only=True)
class StoredModels:
    """A list that was kept.

    :ivar updated_at: when, ms since the epoch.
    """

    models: tuple[ProviderModelConfig, ...]
    updated_at: int


@attrs.define(kw_only=True, eq=False)
class RefreshContext:
    """What a ``refresh_models`` function is given (R86). Cancelling the refresh cancels the function.

    :ivar provider: its id.
    :ivar credential: what authenticates requests, None: nothing does, or the network is not allowed.
    :ivar stored: the list that was kept, None: there is none.
    :ivar allow_network: False: only what is at hand may be used.
    :ivar force: the caller wants a fresh list, however new the old one is.
    :ivar base_url: where the provider is.
    :ivar published: what has been published. ``persist``: whether that is to be kept.
    """

    provider: str
    credential: Auth | None
    stored: StoredModels | None
    allow_network: bool
    force: bool
    base_url: str
    _refresh: Refresh = attrs.field(alias="refresh", repr=False)
    published: tuple[ProviderModelConfig, ...] | None = attrs.field(default=None, init=False)
    persist: bool = attrs.field(default=False, init=False)

    def publish(self, models: FoundModels | None = None, *, persist: bool = False) -> bool:
        """Make models known now, before the function returns.

        :param models: None: only say that those that will be returned are to be kept.
        :param persist: keep the models for next time (R88).
        :returns: False: a newer refresh has taken over, and nobody wants these.
        :raises ProviderConfigError: something is wrong with them (R20).
        """
        if not self._refresh.is_current(self.provider):
            return False
        self.persist |= persist
        if models is not None:
            found = tuple(ProviderModelConfig.of(model) for model in models)
            self._refresh.replace_models(self.provider, found)
            self.published = found
        return True

    async def get_json(self, path: str) -> Any:
        """Ask the provider: ``await context.get_json("/models")``, with its key and headers.

        :param path: below ``base_url``.
        :raises PiAIError: there is no answer, or no JSON in it.
        """
        return await self._refresh.get_json(self.provider, self.credential, path)


@attrs.frozen(kw_only=True)
class RefreshResult:
    """What became of a refresh.

    :ivar aborted: a newer refresh or registration took over, for one provider at least.
    :ivar errors: provider id → why its models could not be had; it keeps those that it had.
    """

    aborted: bool = False
    errors: Mapping[str, Exception] = attrs.field(factory=dict[str, Exception])


# ── a refresh ────────────────────────────────────────────────────────────────────────────────────────────────


@attrs.frozen(kw_only=True)
class Access:
    """How a refresh gets at the servers of providers: whether it may, with what, and the JSON at a path."""

    is_configured: Callable[[str], bool]
    authenticate: Callable[[Provider], Awaitable[Auth | None]]
    get_json: Callable[[Provider, Auth | None, str], Awaitable[Any]]


class Refresh:
    """One refresh of some providers; supersedes older ones of the same providers.

    :param names: their ids; None: all that find their models at run time.
    """

    def __init__(self, providers: Providers, names: Iterable[str] | None, access: Access, *, force: bool) -> None:
        self._providers = providers
        self._access = access
        self._force = force
        self._store = providers.models_path and providers.models_path.with_name(STORE_NAME)
        names = providers.ids() if names is None else [names] if isinstance(names, str) else names
        found = [providers.find(name) for name in names]
        self._runs = {each.id: providers.begin_run(each.id) for each in found if each.refresh_models is not None}
        self._errors: dict[str, Exception] = {}

    async def run(self, *, allow_network: bool) -> RefreshResult:
        """All providers at the same time: first with what is at hand, then over the network (R87)."""
        for network in (False, True) if allow_network else (False,):
            async with anyio.create_task_group() as tasks:
                for name in self._runs:
                    tasks.start_soon(self._guarded, name, network)
        aborted = not all(self.is_current(name) for name in self._runs)
        return RefreshResult(aborted=aborted, errors=self._errors)

    async def _guarded(self, name: str, network: bool) -> None:
        try:
            await self._find_models(self._providers.find(name), network)
        except Exception as error:  # noqa: BLE001 - told, not raised (R85)
            if self.is_current(name):
                self._errors[name] = error
        else:
            self._errors.pop(name, None)  # what could not be had without the network

    async def _find_models(self, provider: Provider, network: bool) -> None:
        name, function = provider.id, provider.refresh_models
        if function is None or not self.is_current(name) or (network and not self._access.is_configured(name)):
            return
        context = RefreshContext(
            provider=name,
            credential=await self._access.authenticate(provider) if network else None,
            stored=await anyio.to_thread.run_sync(stored_models, self._store, name),
            allow_network=network,
            force=self._force,
            base_url=render(provider.base_url, f'base URL for provider "{name}"'),
            refresh=self,
        )
        found = function(context)
        if inspect.isawaitable(found):
            found = await found
        if found is not None:
            context.publish(found)
        if self._store and context.persist and context.published is not None:
            await anyio.to_thread.run_sync(store_models, self._store, name, context.published)

    def is_current(self, name: str) -> bool:
        """Whether no newer refresh of the provider has begun, and no registration has changed it."""
        return self._providers.is_current(name, self._runs[name])

    def replace_models(self, name: str, models: Sequence[ProviderModelConfig]) -> None:
        """Put models in the place of the registered ones. What came over the network is never a config value (D19)."""
        self._providers.replace_models(name, tuple(_without_values(model) for model in models))

    async def get_json(self, name: str, auth: Auth | None, path: str) -> Any:
        """The JSON at a path of the provider."""
        return await self._access.get_json(self._providers.find(name), auth, path)


def _without_values(model: ProviderModelConfig) -> ProviderModelConfig:
    headers = model.headers or {}
    return attrs.evolve(
        model,
        base_url=model.base_url and literal(model.base_url),
        headers={name: None if value is None else literal(value) for name, value in headers.items()} or None,
    )


async def get_json(
    provider: Provider,
    auth: Auth | None,
    path: str,
    *,
    connections: Connections,
    timeouts: Timeouts,
    client: HttpClient | None,
    proxy: str | None,
    allow_insecure: bool = False,
) -> Any:
    """The JSON that a provider answers to a GET, with its key as a bearer token and its headers.

    :param path: below its ``base_url``.
    :raises PiAIError: there is no answer, or no JSON in it.
    """
    from pi_ai.clocks import Clocks
    from pi_ai.failures import http_failure
    from pi_ai.transport import MAX_ERROR_BYTES, HttpRequest

    probe = Model(id="", api="", provider=provider.id, base_url=provider.base_url)
    model, options = await provider.resolve(probe, StreamOptions(), auth)
    key = options.api_key
    headers = merge_headers(
        {"Accept": "application/json", "Authorization": f"Bearer {key}" if key else None}, options.headers
    )
    url = model.base_url.rstrip("/") + path
    request = HttpRequest(url=url, headers=headers, body=b"", method="GET", allow_insecure=allow_insecure)
    exchange = await connections.open(request, Clocks(timeouts), client=client, proxy=proxy)
    about: dict[str, Any] = {"provider": provider.id, "api": "", "model": ""}
    try:
        if exchange.status != 200:
            body, secrets = await exchange.read_up_to(MAX_ERROR_BYTES), [key] if key else []
            raise http_failure(exchange.status, exchange.headers, body, **about, secrets=secrets)
        body = await exchange.read_all(options.max_body_bytes)
        exchange.complete = True
        return decode_json(body)
    except ValueError as error:
        text = f"{request.url} answers with something that is no JSON: {error}"
        raise failure("protocol", f"{text}; check the base URL", text=text, **about) from error
    finally:
        await exchange.aclose()


# ── what is kept ─────────────────────────────────────────────────────────────────────────────────────────────


def stored_models(store: Path | None, provider: str) -> StoredModels | None:
    """The list that was kept for a provider; what cannot be read was not kept."""
    entry = _read_store(store).get(provider) if store else None
    if not isinstance(entry, dict):
        return None
    given = cast("JSONObject", entry)
    models, updated_at = read_models(given.get("models")), given.get("updatedAt")
    return (
        None
        if models is None
        else StoredModels(models=models, updated_at=updated_at if isinstance(updated_at, int) else 0)
    )


_writing = threading.Lock()


def store_models(store: Path, provider: str, models: Sequence[ProviderModelConfig]) -> None:
    """Keep a list; the rest of the file stays as it is. Blocks.

    :raises OSError: it cannot be written.
    """
    import tempfile  # 5 ms, so on first use

    with _writing:
        content = {**_read_store(store), provider: {"models": to_json(models), "updatedAt": now_ms()}}
        store.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=store.parent, prefix=store.name)
        try:
            with open(handle, "w", encoding="utf-8") as file:
                json.dump(content, file, ensure_ascii=False, indent=2)
            os.replace(name, store)
        except BaseException:
            with suppress(OSError):
                os.unlink(name)
            raise


def _read_store(store: Path) -> JSONObject:
    try:
        content = decode_json(store.read_bytes())
    except (OSError, ValueError):
        return {}
    return cast("JSONObject", content) if isinstance(content, dict) else {}


# ── servers that list their models ───────────────────────────────────────────────────────────────────────────

_WINDOW = ("max_model_len", "context_length", "context_window", "max_context_length", "n_ctx", "n_ctx_train")
_LIMIT = ("max_completion_tokens", "max_output_tokens")
"""What servers call the size of a model's window and of its longest answer; the first that is there counts."""


async def discover_openai_models(context: RefreshContext) -> list[ProviderModelConfig] | None:
    """The models of a server with ``GET {base_url}/models``: Ollama, vLLM, llama.cpp, LM Studio, and most gateways::

        pi.register_provider(
            "ollama", base_url="http://localhost:11434/v1", api="openai-completions", api_key="ollama",
            models=[], refresh_models=discover_openai_models,
        )
        await pi.refresh()

    The list is kept, so that the models are there at the next start, before the network is. Models that cannot chat
    are left out, as far as their names tell.

    :raises PiAIError: the server cannot be asked.
    """
    if not context.allow_network:
        return list(context.stored.models) if context.stored else None
    answer = await context.get_json("/models")
    entries: Any = cast("JSONObject", answer).get("data") if isinstance(answer, dict) else answer
    found = [cast("JSONObject", entry) for entry in cast("list[Any]", entries or []) if isinstance(entry, dict)]
    context.publish(persist=True)
    return [_discovered(entry) for entry in found if isinstance(entry.get("id"), str) and "embed" not in entry["id"]]


def _discovered(entry: JSONObject) -> ProviderModelConfig:
    facts = {**entry, **_part(entry, "meta"), **_part(entry, "top_provider")}
    window = _first_count(facts, _WINDOW) or 128_000
    name: object = entry.get("name")
    return ProviderModelConfig(
        entry["id"],
        name=name if isinstance(name, str) and name else None,
        context_window=window,
        max_tokens=min(_first_count(facts, _LIMIT) or 16_384, window),
        input=("text", "image")
        if "image" in (_part(entry, "architecture").get("input_modalities") or ())
        else ("text",),
        reasoning="reasoning" in (entry.get("supported_parameters") or ()),
    )


def _part(entry: JSONObject, key: str) -> JSONObject:
    part = entry.get(key)
    return cast("JSONObject", part) if isinstance(part, dict) else {}


def _first_count(facts: JSONObject, keys: Sequence[str]) -> int | None:
    return next((value for key in keys if isinstance(value := facts.get(key), int) and value > 0), None)
