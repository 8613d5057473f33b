"""What a provider is to the registry: its models, and how a request to one of them gets endpoint, key and headers.

The built-in ones, those made of layers, the embedded local model and those that people write themselves are all this
one thing. Whoever needs more than a :class:`ProviderConfig` can say writes a subclass and registers an instance::

    class Pool(Provider):
        id = "pool"

        def models(self):
            return [Model(id="any", api="openai-completions", provider="pool")]

        async def resolve(self, model, options, auth=None):
            return attrs.evolve(model, base_url=least_busy()), options

    pi.register_provider(Pool())
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import attrs

from pi_ai.adapters.custom import Api
from pi_ai.adapters.hooks import call_hook
from pi_ai.auth.base import Auth, AuthStatus
from pi_ai.auth.config_values import Env, render
from pi_ai.auth.oauth.config import OAuthConfig
from pi_ai.headers import layer_headers
from pi_ai.providers.catalogue import UnknownModel, closest
from pi_ai.types import JSONObject, Model, RequestOptions, ResponseInfo

OptionsT = TypeVar("OptionsT", bound=RequestOptions)


class Provider:
    """A provider. Everything but ``id`` and ``models`` has a default.

    :ivar id: what models call it. ``name``: what people call it; default: the id.
    :ivar base_url: where it is, for whoever looks for models there; each model says itself where it is served.
    :ivar oauth: its login. ``takes_api_key``: whether an API key can be stored for it (R81).
    :ivar refresh_models: finds its models at run time (R85).
    """

    id: str = ""
    name: str = ""
    base_url: str = ""
    oauth: OAuthConfig | None = None
    takes_api_key: bool = True
    refresh_models: Callable[..., Any] | None = None

    def __init__(self, id: str | None = None) -> None:  # noqa: A002 - pi's name
        if id is not None:
            self.id = id
        self.name = self.name or self.id

    def models(self) -> Sequence[Model]:
        """Its models, as they are now; objects of the caller's own."""
        return []

    def modified_models(self, modify: Callable[[list[Model]], Sequence[Model]]) -> Sequence[Model]:
        """Its models as a login changes them (R84)."""
        return modify(list(self.models()))

    def get_model(self, id: str) -> Model:  # noqa: A002 - pi's name
        """One of them.

        :raises UnknownModel: there is none; the message names the closest ids.
        """
        models = self.models()
        for model in models:
            if model.id == id:
                return model
        raise UnknownModel(self.id, id, closest(id, [model.id for model in models]))

    def auth_status(self, env: Env = None) -> AuthStatus:
        """Whether :meth:`authenticate` will find something. Cheap: no network, no command, no token refreshed (R101).

        :param env: variables that win over those of the process.
        """
        return AuthStatus(configured=False)

    async def authenticate(self, env: Env = None) -> Auth | None:
        """What authenticates requests where neither the caller nor a stored credential says anything.

        :returns: None: nothing does.
        :raises PiAIError: it is configured, but cannot be had; becomes the stream's error event.
        """
        return None

    async def resolve(self, model: Model, options: OptionsT, auth: Auth | None = None) -> tuple[Model, OptionsT]:
        """Model and options with endpoint, key and headers in place, at the time of a request.

        :param auth: what authenticates it, None: nothing.
        :raises PiAIError: the provider cannot be used; becomes the stream's error event.
        """
        auth = auth or Auth()
        env = {**auth.env, **(options.env or {})}
        base_url = auth.base_url or render(model.base_url, f'base URL for provider "{model.provider}"', env)
        return attrs.evolve(model, base_url=base_url), attrs.evolve(
            options,
            api_key=auth.api_key or options.api_key,
            headers=layer_headers(auth.headers, options.headers) or None,
            env=env or None,
        )

    def api(self, api: str) -> Api | None:
        """Its own implementation of an API; None: everybody's (R64)."""
        return None


# ── for stream functions ─────────────────────────────────────────────────────────────────────────────────────


async def payload_to_send(options: RequestOptions, payload: JSONObject, model: Model) -> JSONObject:
    """What ``on_payload`` makes of a payload (R69): call it before sending, and send what it gives.

    :raises PiAIError: the hook raised.
    """
    changed = await call_hook("on_payload", options.on_payload, payload, model)
    return payload if changed is None else changed


async def response_arrived(options: RequestOptions, status: int, headers: Mapping[str, str], model: Model) -> None:
    """Tell ``on_response`` (R69): call it after the head of the answer, before its body.

    :raises PiAIError: the hook raised.
    """
    info = ResponseInfo(status=status, headers={name.lower(): value for name, value in headers.items()})
    await call_hook("on_response", options.on_response, info, model)


async def provider_event_arrived(options: RequestOptions, event: JSONObject, model: Model) -> None:
    """Tell ``on_provider_stream_event`` (R69): call it for each parsed event of the provider.

    :raises PiAIError: the hook raised.
    """
    await call_hook("on_provider_stream_event", options.on_provider_stream_event, event, model)
