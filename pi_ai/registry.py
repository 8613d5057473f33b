"""The registry: providers, credentials, connections. Its ``stream()`` is the whole journey on one screen."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self, Unpack

import attrs

from pi_ai.adapters import get_api
from pi_ai.auth.env import AUTHENTICATED, get_env_api_key
from pi_ai.builder import MessageBuilder
from pi_ai.providers.base import Provider
from pi_ai.providers.catalogue import get_model, get_models, get_providers
from pi_ai.providers.local import LocalProvider
from pi_ai.streams import EventSource, EventStream
from pi_ai.types import (
    DEFAULT_TIMEOUTS,
    AssistantMessage,
    Context,
    HttpClient,
    Model,
    RequestOptions,
    StreamKeywords,
    StreamOptions,
    Timeouts,
)

_current: ContextVar[Registry | None] = ContextVar("pi_ai_registry", default=None)


class Registry:
    """Providers, and the connections to them.

    ``async with Registry() as pi:`` keeps connections open between calls, and makes the module-level functions use it
    in that context (D7). Without it, and in the default registry, each stream has a connection of its own.

    :param max_connections: most connections at the same time; a request waits for a free one. None: no limit.
    :param timeouts: clocks for all calls; a model's and a call's own win.
    :param http_client: an ``httpx.AsyncClient`` (or ``httpx2``) for all calls; never closed by pi_ai.
    :param proxy: URL of a proxy for all calls, ``""`` for none. Default: the environment's.
    """

    def __init__(
        self,
        *,
        max_connections: int | None = None,
        timeouts: Timeouts | None = None,
        http_client: HttpClient | None = None,
        proxy: str | None = None,
    ) -> None:
        self._max_connections = max_connections
        self._timeouts = (timeouts or Timeouts()).or_else(DEFAULT_TIMEOUTS)
        self._http_client = http_client
        self._proxy = proxy
        self._providers: dict[str, Provider] = {"local": LocalProvider()}
        self._connections: Any = None
        self._outer: list[Registry | None] = []

    async def __aenter__(self) -> Self:
        from pi_ai.transport import Connections, RetryBudget

        if not self._outer:
            self._connections = Connections(max_connections=self._max_connections, budget=RetryBudget())
        self._outer.append(_current.get())
        _current.set(self)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        _current.set(self._outer.pop())
        if not self._outer:
            connections, self._connections = self._connections, None
            await connections.aclose()

    # ── models ───────────────────────────────────────────────────────────────────────────────────────────────

    def get_model(self, provider: str, id: str) -> Model:  # noqa: A002 - pi's name
        """A model by provider and id.

        :raises LookupError: there is none; the message names the closest ones.
        """
        own = self._providers.get(provider)
        return own.get_model(id) if own is not None else get_model(provider, id)

    def get_models(self, provider: str | None = None) -> list[Model]:
        """All models, or those of one provider."""
        own = [model for name, entry in self._providers.items() if provider in (None, name) for model in entry.models()]
        return own if provider in self._providers else [*get_models(provider), *own]

    def get_providers(self) -> list[str]:
        """The ids of all providers."""
        return [*get_providers(), *self._providers]

    # ── calls ────────────────────────────────────────────────────────────────────────────────────────────────

    def stream(
        self,
        model: Model,
        context: Context,
        options: RequestOptions | None = None,
        **keywords: Unpack[StreamKeywords],
    ) -> EventStream:
        """Stream an answer; see :func:`pi_ai.stream`."""
        checked = checked_options(model, context, options, keywords)
        builder = MessageBuilder(model)

        async def source() -> EventSource:
            return await self._open(context, checked, builder)

        return EventStream(source, partial=builder, model=model)

    async def complete(
        self,
        model: Model,
        context: Context,
        options: RequestOptions | None = None,
        *,
        raise_on_error: bool = False,
        **keywords: Unpack[StreamKeywords],
    ) -> AssistantMessage:
        """Stream an answer and return it whole; see :func:`pi_ai.complete`."""
        stream = self.stream(model, context, options, **keywords)
        async for _ in stream:
            pass
        return stream.message.raise_for_error() if raise_on_error else stream.message

    stream_simple = stream
    complete_simple = complete

    async def _open(self, context: Context, options: RequestOptions, builder: MessageBuilder) -> EventSource:
        """The journey of a request: its API, its endpoint and key, its options in the API's words, its source."""
        from pi_ai.adapters.base import Call
        from pi_ai.transport import Connections, RetryPolicy

        model = builder.model
        adapter = get_api(model.api)
        provider = self._providers.get(model.provider)
        if provider is not None:
            model, options = await provider.resolve(model, options)
        elif options.api_key is None:
            key = get_env_api_key(model.provider, options.env)
            options = attrs.evolve(options, api_key=None if key == AUTHENTICATED else key)
        if isinstance(options, StreamOptions):
            options = adapter.lower(model, context, options)
        options = attrs.evolve(
            options,
            http_client=options.http_client or self._http_client,
            proxy=self._proxy if options.proxy is None else options.proxy,
        )
        connections = self._connections or Connections(max_idle=0)
        call = Call(
            model=model,
            context=context,
            options=options,
            timeouts=options.clocks.or_else(model.timeouts).or_else(self._timeouts),
            connections=connections,
            retry=RetryPolicy(
                max_retries=options.max_retries,
                max_delay_s=options.max_retry_delay_ms / 1000 or math.inf,
                unknown_delivery=options.retry_unknown_delivery,
                budget=connections.budget,
            ),
            builder=builder,
        )
        return adapter.events(call)


_default = Registry()


def current() -> Registry:
    """The registry that is open in this context, else the default one."""
    return _current.get() or _default


def checked_options(model: object, context: object, options: object, keywords: Mapping[str, Any]) -> RequestOptions:
    """The options of a call, once its Python types are right (D1, D11).

    :raises TypeError: a wrong type, or a keyword that is no option; the message names the way out.
    """
    _expect("model", model, Model, 'get_model("provider", "id") gives one')
    _expect("context", context, Context, 'Context(messages=[UserMessage("…")]) makes one')
    if options is None:
        options = StreamOptions()
    _expect("options", options, RequestOptions, "StreamOptions(…), or an API's own options class")
    assert isinstance(options, RequestOptions)
    assert isinstance(model, Model)
    if type(options) is RequestOptions:
        shared = {field.name: getattr(options, field.name) for field in attrs.fields(RequestOptions)}
        options = StreamOptions(**shared)
    if not isinstance(options, StreamOptions):
        expected = get_api(model.api).options_type
        _expect("options", options, expected, f"StreamOptions works with every API, {expected.__name__} with this one")
    known = [field.alias or field.name for field in attrs.fields(type(options))]
    for name in keywords:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1, cutoff=0.5)
            hint = f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
            raise TypeError(f"{name!r} is no option of {type(options).__name__}{hint}")
    return attrs.evolve(options, **keywords) if keywords else options


def _expect(name: str, value: object, cls: type, hint: str) -> None:
    if not isinstance(value, cls):
        raise TypeError(f"{name} must be a {cls.__name__}, not {type(value).__name__}; {hint}")
