"""The registry: providers, credentials, connections. Its ``stream()`` is the whole journey on one screen."""

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, overload

import attrs
from anyio import CancelScope

from pi_ai.adapters import get_api
from pi_ai.adapters.custom import Api, CustomApi, StreamFunction
from pi_ai.auth.base import Auth, AuthStatus
from pi_ai.auth.config_values import ConfigValues
from pi_ai.auth.credentials import Credential
from pi_ai.auth.env import agent_dir
from pi_ai.builder import MessageBuilder
from pi_ai.errors import ConfigError, ErrorInfo, PiAIError, failure
from pi_ai.events import StreamEvent
from pi_ai.headers import layer_headers
from pi_ai.providers.base import Provider
from pi_ai.providers.catalogue import UnknownModel, closest, completing_ids, provider_and_id
from pi_ai.providers.collection import Providers, models_of
from pi_ai.providers.composed import Reading
from pi_ai.providers.config import ProviderConfig, ProviderKeywords
from pi_ai.providers.dynamic import Access, Refresh, RefreshResult, get_json
from pi_ai.providers.local import LocalProvider
from pi_ai.providers.models_json import NAME
from pi_ai.streams import EventSource, EventStream, SourceOpener
from pi_ai.taps import Asked, tapped
from pi_ai.types import (
    DEFAULT_TIMEOUTS,
    AssistantMessage,
    Attempt,
    Context,
    HttpClient,
    Model,
    RequestOptions,
    StreamKeywords,
    StreamOptions,
    Timeouts,
)

if TYPE_CHECKING:  # 15 ms that are not needed before there is a registry
    from pi_ai.auth.oauth.interaction import AuthInteraction
    from pi_ai.auth.resolve import LoginKind
    from pi_ai.auth.store import CredentialStore

StreamFunctionT = TypeVar("StreamFunctionT", bound=StreamFunction)

IN_AGENT_DIR = Path("~/.pi/agent") / NAME
"""Stands for ``models.json`` in the folder that is shared with pi, wherever that is."""

_entered: ContextVar[tuple[Registry, ...]] = ContextVar("pi_ai_registries", default=())
"""The registries that are open in a context, the innermost one last."""


class Registry:
    """Providers, and the connections to them.

    ``async with Registry() as pi:`` keeps connections open between calls, and makes the module-level functions use it
    in that context (D7). Without it, and in the default registry, each stream has a connection of its own.

    :param max_connections: most at the same time in one event loop; a request waits for a free one. None: no limit.
    :param timeouts: clocks for all calls; a model's and a call's own win.
    :param http_client: an ``httpx.AsyncClient`` (or ``httpx2``) for all calls; never closed by pi_ai.
    :param proxy: URL of a proxy for all calls, ``""`` for none. Default: the environment's.
    :param allow_insecure: whether keys may go over plain ``http`` to other machines (X6).
    :param models_path: the user's ``models.json``, None for none. Default: the one that is shared with pi.
    :param credentials: where logins and keys are stored. Default: pi's ``auth.json``.
    :param allow_commands: whether config values may be shell commands (D19).
    :param legacy_env_names: whether ``api_key="MY_KEY"`` means ``"$MY_KEY"`` in code, with a warning (R58).

    A registry begins with what is registered in the default one at the moment.
    """

    def __init__(
        self,
        *,
        max_connections: int | None = None,
        timeouts: Timeouts | None = None,
        http_client: HttpClient | None = None,
        proxy: str | None = None,
        allow_insecure: bool = False,
        models_path: str | os.PathLike[str] | None = IN_AGENT_DIR,
        credentials: CredentialStore | None = None,
        allow_commands: bool = True,
        legacy_env_names: bool = True,
    ) -> None:
        from pi_ai.auth.oauth.http import HttpSettings
        from pi_ai.auth.resolve import Authenticator
        from pi_ai.auth.store import FileCredentialStore

        self._max_connections = max_connections
        self._timeouts = (timeouts or Timeouts()).or_else(DEFAULT_TIMEOUTS)
        self._http_client = http_client
        self._proxy = proxy
        self._allow_insecure = allow_insecure
        self._connections: Any = None
        if models_path is IN_AGENT_DIR:
            models_path = agent_dir() / NAME
        self._providers = Providers(
            LocalProvider(),
            models_path=None if models_path is None else Path(models_path),
            reading=Reading(
                file=ConfigValues(allow_commands=allow_commands),
                code=ConfigValues(allow_commands=allow_commands, old_names=legacy_env_names),
            ),
            like=_default and _default._providers,
        )
        self._apis: list[_RegisteredApi] = list(_default._apis) if _default else []
        self._login_problems: dict[str, str] = {}
        self._credentials = Authenticator(
            credentials or FileCredentialStore(values=ConfigValues(allow_commands=allow_commands)),
            http=HttpSettings(client=http_client, proxy=proxy),
        )

    async def __aenter__(self) -> Self:
        from pi_ai.retries import RetryBudget
        from pi_ai.transport import Connections

        if self._connections is None:
            self._connections = Connections(max_connections=self._max_connections, budget=RetryBudget())
        await self._connections.__aenter__()
        _entered.set((*_entered.get(), self))
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        registries = list(_entered.get())
        if self in registries:  # not so where another task entered
            del registries[len(registries) - 1 - registries[::-1].index(self)]
            _entered.set(tuple(registries))
        try:
            with CancelScope(shield=True):  # ends within the time that a refresh may take
                await self.settle_credential_writes()
        finally:
            await self._connections.__aexit__(exc_type, exc, tb)

    # ── models ───────────────────────────────────────────────────────────────────────────────────────────────

    @completing_ids
    def get_model(self, provider: str, id: str | None = None) -> Model:  # noqa: A002 - pi's name
        """A model by provider and id, or by both in one: ``"groq/openai/gpt-oss-120b"``.

        :raises LookupError: there is none; the message names the closest ones.
        """
        provider, id = provider_and_id(provider, id)  # noqa: A001
        found = self._providers.find(provider)
        if self._modifies(found) is None:
            return found.get_model(id)
        models = {model.id: model for model in self._models(found)}
        if id not in models:
            raise UnknownModel(provider, id, closest(id, list(models)))
        return models[id]

    def find(self, provider: str, id: str) -> Model | None:  # noqa: A002
        """A model by provider and id; None: there is none."""
        try:
            return self.get_model(provider, id)
        except LookupError:
            return None

    def get_models(self, provider: str | None = None) -> list[Model]:
        """All models, or those of one provider. A provider whose models cannot be had adds none (R100).

        :raises LookupError: there is no such provider.
        """
        names = self.get_providers() if provider is None else [provider]
        return [model for name in names for model in self._models(self._providers.find(name))]

    get_all = get_models

    def get_available(self) -> list[Model]:
        """The models of all providers that are configured. Cheap, as :meth:`get_provider_auth_status`."""
        return [
            model for name in self.get_providers() if self.has_configured_auth(name) for model in self.get_models(name)
        ]

    def _modifies(self, provider: Provider) -> Callable[[Sequence[Model]], Sequence[Model]] | None:
        """What a login makes of the models of its provider; None: nothing (R84)."""
        modify = provider.oauth and provider.oauth.modify_models
        login = self._credentials.stored(provider.id) if modify else None
        return (
            (lambda models: modify(models, login)) if modify and login is not None and login.type == "oauth" else None
        )

    def _models(self, provider: Provider) -> Sequence[Model]:
        """The models of a provider, as a login has modified them; as they are, where that fails."""
        modify = self._modifies(provider)
        self._login_problems.pop(provider.id, None)
        if modify is not None:
            try:
                return list(provider.modified_models(modify))
            except Exception as error:  # noqa: BLE001 - a login may be anybody's
                self._login_problems[provider.id] = f'Provider "{provider.id}": modify_models failed: {error}'
        return models_of(provider)

    # ── providers ────────────────────────────────────────────────────────────────────────────────────────────

    def get_providers(self) -> list[str]:
        """The ids of all providers: the built-in ones first (R13)."""
        return self._providers.ids()

    def get_provider(self, name: str) -> Provider | None:
        """A provider as it is now; None: there is none."""
        return self._providers.get(name)

    @overload
    def register_provider(self, provider: Provider, /) -> None: ...
    @overload
    def register_provider(
        self, name: str, config: ProviderConfig | Mapping[str, Any] | None = None, /, **fields: Unpack[ProviderKeywords]
    ) -> None: ...
    def register_provider(
        self, name: str | Provider, config: ProviderConfig | Mapping[str, Any] | None = None, /, **fields: Any
    ) -> None:
        """Register a provider, or change one; see :func:`pi_ai.register_provider`."""
        if isinstance(name, Provider):
            if config is not None or fields:
                raise TypeError("a Provider is registered as it is; fields are for the id of a provider")
            self._providers.register_object(name)
        else:
            _expect("the id of a provider", name, str, 'register_provider("my-provider", base_url="…", …)')
            self._providers.register(name, ProviderConfig.of(config, **fields))

    def unregister_provider(self, name: str) -> None:
        """Take back all registrations of a provider; see :func:`pi_ai.unregister_provider`."""
        self._providers.unregister(name)

    def get_error(self) -> str | None:
        """What is wrong with ``models.json`` and with single providers, for people; None: nothing (R91)."""
        return "\n\n".join([*self._providers.errors(), *self._login_problems.values()]) or None

    async def refresh(
        self, providers: Iterable[str] | None = None, *, allow_network: bool = True, force: bool = False
    ) -> RefreshResult:
        """Read ``models.json`` again, and have providers find their models that do so at run time (R87, R98).

        Cancelled: lists that have been found stay.

        :param providers: ids; None: all.
        :param allow_network: False: only bring back the lists that were kept.
        :param force: ask for a fresh list, however new the old one is.
        :returns: what went wrong; nothing of that is raised.
        :raises LookupError: there is no such provider.
        """
        from pi_ai.transport import Connections

        self._providers.reload()
        access = Access(
            is_configured=self.has_configured_auth,
            authenticate=lambda provider: self._authenticate(provider, StreamOptions()),
            get_json=partial(
                get_json,
                connections=self._connections or Connections(),
                timeouts=self._timeouts,
                client=self._http_client,
                proxy=self._proxy,
                allow_insecure=self._allow_insecure,
            ),
        )
        return await Refresh(self._providers, providers, access, force=force).run(allow_network=allow_network)

    # ── credentials ──────────────────────────────────────────────────────────────────────────────────────────

    @property
    def credentials(self) -> CredentialStore:
        """Where logins and keys are stored."""
        return self._credentials.store

    def set_runtime_api_key(self, provider: str, key: str) -> None:
        """Use a key for a provider from now on, in this registry only: above all but a call's own (R105)."""
        self._credentials.set_runtime_api_key(provider, key)

    def remove_runtime_api_key(self, provider: str) -> None:
        """Forget it."""
        self._credentials.remove_runtime_api_key(provider)

    def has_configured_auth(self, provider: str) -> bool:
        """Whether requests to a provider will find a credential; see :meth:`get_provider_auth_status`."""
        return self.get_provider_auth_status(provider).configured

    def get_provider_auth_status(self, provider: str) -> AuthStatus:
        """Whether a provider is configured, and how that is known (R101, R103).

        Cheap: no network, no command is run, no login refreshed. A provider that does not exist is not configured.
        """
        return self._credentials.status(self._providers.get(provider) or Provider(provider))

    def is_using_oauth(self, model: Model) -> bool:
        """Whether requests to a model use a login (R104)."""
        status = self.get_provider_auth_status(model.provider)
        return status.source == "stored" and status.label == "oauth"

    async def login(self, provider: str, kind: LoginKind, interaction: AuthInteraction) -> Credential:
        """Log in to a provider, and store the credential in the place of what was stored (A60).

        :param kind: ``oauth``: the provider's login; ``api_key``: ask for a key.
        :param interaction: asks and tells the user.
        :raises LookupError: there is no such provider.
        :raises PiAIError: it has no such login, or the login failed; nothing was stored.
        :raises LoginCancelled: the user has cancelled it.
        """
        return await self._credentials.login(self._providers.find(provider), kind, interaction)

    async def logout(self, provider: str) -> None:
        """Forget what is stored for a provider, and its runtime key (A62). What is not there is no error.

        :raises PiAIError: the store cannot be written.
        """
        await self._credentials.logout(provider)

    async def get_auth(self, provider: str, *, min_validity_s: float = 0.0) -> Auth | None:
        """What a request to a provider would be authenticated with now; None: nothing.

        :param min_validity_s: how long a login has to last; it is refreshed if it does not.
        :raises LookupError: there is no such provider.
        :raises PiAIError: what is configured does not work.
        """
        return await self._credentials.resolve(self._providers.find(provider), min_validity_s=min_validity_s)

    async def settle_credential_writes(self) -> None:
        """Wait until refreshed logins are saved, of callers that were cancelled meanwhile (A51)."""
        await self._credentials.settle()

    async def _authenticate(self, provider: Provider, options: RequestOptions) -> Auth | None:
        """What authenticates a request (R105). A stored credential owns its provider: None only where there is none.

        :raises AuthError: what is stored is of no use to the provider (A41, A42).
        """
        auth = await self._credentials.resolve(provider, api_key=options.api_key, env=options.env)
        if auth is None and self._credentials.stored(provider.id) is not None:
            text = f"Provider is not configured: {provider.id}"
            way_out = f"what is stored for it is of no use to it; pi-ai logout {provider.id}, or log in again"
            raise failure("auth", f"{text}; {way_out}", text=text, provider=provider.id, phase="auth")
        return auth

    # ── APIs ─────────────────────────────────────────────────────────────────────────────────────────────────

    @overload
    def register_api(
        self, api: str, /, *, source_id: str | None = None
    ) -> Callable[[StreamFunctionT], StreamFunctionT]: ...
    @overload
    def register_api(
        self, api: str, function: StreamFunctionT, /, *, source_id: str | None = None
    ) -> StreamFunctionT: ...
    def register_api(self, api: str, function: StreamFunction | None = None, /, *, source_id: str | None = None) -> Any:
        """Register a stream function as an API; see :func:`pi_ai.register_api`."""
        if function is None:
            return partial(self.register_api, api, source_id=source_id)
        self._apis.append(_RegisteredApi(api, source_id, CustomApi(function, f'API "{api}"')))
        return function

    def unregister_apis(self, source_id: str) -> None:
        """Take back the APIs of a source; those that they replaced are there again."""
        self._apis = [entry for entry in self._apis if entry.source_id != source_id]

    def _get_api(self, name: str) -> Api:
        """The implementation of an API that was registered last, else the built-in one (R64).

        :raises ConfigError: there is none.
        """
        registered = [entry.api for entry in self._apis if entry.name == name]
        return registered[-1] if registered else get_api(name)

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

        return _streamed(source, builder, context, checked)

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

    def stream_api(
        self,
        model: Model,
        context: Context,
        options: RequestOptions | None = None,
        **keywords: Unpack[StreamKeywords],
    ) -> EventStream:
        """Stream from a model's API, whatever its provider says; see :func:`pi_ai.stream_api`."""
        checked = checked_options(model, context, options, keywords)
        builder = MessageBuilder(model)

        async def source() -> EventSource:
            return self._source(self._get_api(model.api), model, checked, context, builder)

        return _streamed(source, builder, context, checked)

    async def _open(self, context: Context, options: RequestOptions, builder: MessageBuilder) -> EventSource:
        """The journey of a request: who serves it, where and with which key and headers, in whose words."""
        model = builder.model
        provider = self._providers.get(model.provider) or Provider(model.provider)
        api = provider.api(model.api) or self._get_api(model.api)

        async def source(auth: Auth | None) -> EventSource:
            return self._source(api, *await provider.resolve(model, options, auth), context, builder)

        auth = await self._authenticate(provider, options)
        if auth is None or auth.login is None:
            return await source(auth and auth.yielding(layer_headers(model.headers, options.headers)))
        return _Renewing(await source(auth), partial(self._credentials.renewed, provider, auth), source, builder)

    def _source(
        self, api: Api, model: Model, options: RequestOptions, context: Context, builder: MessageBuilder
    ) -> EventSource:
        """The events of a call whose model and options are resolved."""
        from pi_ai.adapters.base import Call
        from pi_ai.retries import RetryPolicy
        from pi_ai.transport import Connections

        if isinstance(options, StreamOptions):
            options = api.lower(model, context, options)
        options = attrs.evolve(
            options,
            http_client=options.http_client or self._http_client,
            proxy=self._proxy if options.proxy is None else options.proxy,
            allow_insecure=self._allow_insecure or options.allow_insecure,
        )
        connections = self._connections or Connections()
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
            alike=partial(self._alike, model),
        )
        return api.events(call)

    def _alike(self, model: Model) -> list[str]:
        """Ids of its provider's models that a model's id looks like; none if the id is known (F36)."""
        with suppress(LookupError):
            known = [each.id for each in self.get_models(model.provider)]
            return [] if model.id in known else closest(model.id, known)
        return []


def _streamed(opener: SourceOpener, builder: MessageBuilder, context: Context, options: RequestOptions) -> EventStream:
    """The stream of a call, with everybody's tap on it."""
    model = builder.model
    tapped_opener = tapped(opener, Asked(model, context, options, builder.message))
    return EventStream(tapped_opener, partial=builder, model=model)


class _Renewing:
    """The events of a request that is made once more with a refreshed login, where the first one was answered 401
    before any event (A48, F92).

    :param renew: refreshes; None: there is nothing newer. ``again``: the events of another request.
    :param builder: of the message, which is told of the refusal (F52).
    """

    def __init__(
        self,
        first: EventSource,
        renew: Callable[[], Awaitable[Auth | None]],
        again: Callable[[Auth | None], Awaitable[EventSource]],
        builder: MessageBuilder,
    ) -> None:
        self._source = aiter(first)
        self._renew, self._again = renew, again
        self._message = builder.message
        self._begun = False

    def __aiter__(self) -> AsyncIterator[StreamEvent | Sequence[StreamEvent]]:
        return self

    async def __anext__(self) -> StreamEvent | Sequence[StreamEvent]:
        if self._begun:
            return await anext(self._source)
        try:
            event = await anext(self._source)
        except PiAIError as error:
            auth = await self._renew() if error.info.status == 401 else None
            if auth is None:
                raise
            await self.aclose()
            event = await self._repeated(auth, error.info)
        self._begun = True
        return event

    async def _repeated(self, auth: Auth, refusal: ErrorInfo) -> StreamEvent | Sequence[StreamEvent]:
        """The first event of the other request; its failure counts the requests before it, too."""
        self._message.attempts = [*(self._message.attempts or []), Attempt(error=refusal, delay_s=0.0)]
        try:
            self._source = aiter(await self._again(auth))
            return await anext(self._source)
        except PiAIError as error:
            info = attrs.evolve(error.info, attempts=error.info.attempts + refusal.attempts)
            raise info.exception(error.text) from error.__cause__

    async def aclose(self) -> None:
        close = getattr(self._source, "aclose", None)
        if close is not None:
            await close()


@attrs.frozen
class _RegisteredApi:
    name: str
    source_id: str | None
    api: Api


_default: Registry | None = None


def current() -> Registry:
    """The registry that is open in this context, else the default one, which is made when it is first needed."""
    global _default  # noqa: PLW0603 - there is one in a process (D7)
    registries = _entered.get()
    if registries:
        return registries[-1]
    if _default is None:
        _default = Registry()
    return _default


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
        with suppress(ConfigError):  # an API of somebody's own knows what it takes
            expected = get_api(model.api).options_type
            hint = f"StreamOptions works with every API, {expected.__name__} with this one"
            _expect("options", options, expected, hint)
    known = [field.alias or field.name for field in attrs.fields(type(options))]
    for name in keywords:
        if name not in known:
            from difflib import get_close_matches  # after a mistake only

            close = get_close_matches(name, known, 1, cutoff=0.5)
            hint = f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
            raise TypeError(f"{name!r} is no option of {type(options).__name__}{hint}")
    return attrs.evolve(options, **keywords) if keywords else options


def _expect(name: str, value: object, cls: type, hint: str) -> None:
    if not isinstance(value, cls):
        raise TypeError(f"{name} must be a {cls.__name__}, not {type(value).__name__}; {hint}")
