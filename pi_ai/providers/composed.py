"""A provider that is made of layers: what lies below it, ``models.json``, and what was registered."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from pi_ai.adapters.custom import Api, CustomApi
from pi_ai.auth.base import Auth, AuthStatus
from pi_ai.auth.config_values import ConfigValues, Env, literal
from pi_ai.auth.env import way_to_a_key
from pi_ai.auth.oauth.config import OAuthConfig
from pi_ai.errors import failure
from pi_ai.headers import layer_headers
from pi_ai.providers.base import OptionsT, Provider
from pi_ai.providers.config import Headers
from pi_ai.providers.layers import HeaderLayer, Layers, composed_models, model_headers, provider_headers
from pi_ai.types import Model

AUTH_HEADER_NEEDS_KEY = "auth_header requires a resolved API key"
NOT_CONFIGURED = AuthStatus(configured=False)


@attrs.frozen(kw_only=True)
class Reading:
    """How config values are read: those of ``models.json``, and those that code registers."""

    file: ConfigValues
    code: ConfigValues


class ComposedProvider(Provider):
    """Layers over a base. Immutable: a request keeps the one that it began with (R52).

    :param base: None: there is nothing below.
    """

    def __init__(self, base: Provider | None, layers: Layers, reading: Reading) -> None:
        super().__init__(layers.provider)
        self._base = base
        self._layers = layers
        self._reading = reading
        config = layers.config
        self.oauth = config.oauth or _login_of_file(layers) or (base.oauth if base else None)
        self.name = config.name or (base.name if base else "") or (self.oauth.name if self.oauth else "") or self.id
        has_key = config.api_key is not None or (base is not None and base.takes_api_key)
        self.takes_api_key = has_key or self.oauth is None
        self.base_url = config.base_url or (base.base_url if base else "")
        self.refresh_models = config.refresh_models or (base.refresh_models if base else None)

    # ── models ───────────────────────────────────────────────────────────────────────────────────────────────

    def models(self) -> Sequence[Model]:
        """The models of all layers.

        :raises ProviderConfigError: one of the file's lacks an API or a base URL.
        """
        return composed_models(self._layers, self._base.models() if self._base else ())

    def modified_models(self, modify: Callable[[list[Model]], Sequence[Model]]) -> Sequence[Model]:
        """The models of all layers, changed by a login before the overrides of the file, which have the last word."""
        return composed_models(self._layers, self._base.models() if self._base else (), modify)

    def get_model(self, id: str) -> Model:  # noqa: A002 - pi's name
        """One of them. Where nothing lists models, also one that the base knows without listing it.

        :raises UnknownModel: there is none; the message names the closest ids.
        """
        if self._base and not self._layers.file.config.models and not self._layers.replaces_models:
            return composed_models(self._layers, [self._base.get_model(id)])[0]
        return super().get_model(id)

    # ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _key(self) -> tuple[str, ConfigValues] | None:
        """The configured key, and how it is read."""
        if self._layers.registered.api_key is not None:
            return self._layers.registered.api_key, self._reading.code
        if self._layers.file.config.api_key is not None:
            return self._layers.file.config.api_key, self._reading.file
        return None

    def auth_status(self, env: Env = None) -> AuthStatus:
        """Whether there is a configured key, else what the base says."""
        if self._key is None:
            return self._base.auth_status(env) if self._base else NOT_CONFIGURED
        key, values = self._key
        if not values.is_available(key, env):
            return NOT_CONFIGURED
        if key.startswith("!"):
            return AuthStatus(configured=True, source="configured_command")
        names = values.variables(key, env)
        if names:
            return AuthStatus(configured=True, source="environment", label=", ".join(names))
        return AuthStatus(configured=True, source="configured_key")

    async def authenticate(self, env: Env = None) -> Auth | None:
        """The configured key, else what the base finds (R105)."""
        if self._key is None:
            return await self._base.authenticate(env) if self._base else None
        key, values = self._key
        return Auth(api_key=await values.resolve(key, f'API key for provider "{self.id}"', env))

    # ── requests ─────────────────────────────────────────────────────────────────────────────────────────────

    async def resolve(self, model: Model, options: OptionsT, auth: Auth | None = None) -> tuple[Model, OptionsT]:
        """What the base makes of it, and all configured headers (R59).

        :raises PiAIError: a header or the base URL cannot be resolved, or there is no key for ``auth_header``.
        """
        given = options.headers or {}
        below = self._base.resolve if self._base else super().resolve
        model, options = await below(model, attrs.evolve(options, headers=None), auth)
        configured = await self._headers(
            [
                *provider_headers(self._layers),
                *self._auth_header(options.api_key, auth),
                *model_headers(self._layers, model.id),
            ],
            given,
            options.env,
        )
        return model, attrs.evolve(options, headers=layer_headers(options.headers, configured, given))

    def _auth_header(self, key: str | None, auth: Auth | None) -> list[HeaderLayer]:
        """The key as a bearer token, where that is wanted (R59a, R59b)."""
        if not self._layers.config.auth_header:
            return []
        if not key:
            text = f"Provider is not configured: {self.id}" if auth is None else AUTH_HEADER_NEEDS_KEY
            raise failure("auth", f"{text}. {way_to_a_key(self.id)}", text=text, provider=self.id, phase="auth")
        return [HeaderLayer("", {"Authorization": literal(f"Bearer {key}")}, from_file=True)]

    async def _headers(self, layers: list[HeaderLayer], given: Headers, env: Env) -> Headers:
        """The values of headers, lowest layer first; only of those that are not replaced."""
        headers: dict[str, str | None] = {}
        taken = {name.lower() for name in given}
        for layer in reversed(layers):
            values = self._reading.file if layer.from_file else self._reading.code
            for name, value in layer.headers.items():
                if name.lower() not in taken:
                    what = f'{layer.owner} header "{name}"'
                    headers[name] = None if value is None else await values.resolve(value, what, env)
            taken |= {name.lower() for name in layer.headers}
        return headers

    def api(self, api: str) -> Api | None:
        """The registered stream function for its API, else what the base has (R60, R64)."""
        registered = self._layers.registered
        if registered.stream_simple is not None and api == registered.api:
            return CustomApi(registered.stream_simple, f"stream_simple of provider {self.id}")
        return self._base.api(api) if self._base else None


def _login_of_file(layers: Layers) -> OAuthConfig | None:
    """The login that ``models.json`` asks for: that of a gateway at its URL (R90, R94)."""
    config = layers.config
    if layers.file.oauth != "radius" or not config.base_url:
        return None
    from pi_ai.auth.oauth.radius import RadiusFlow  # 10 ms, and seldom needed

    return RadiusFlow(base_url=config.base_url, name=config.name or layers.provider).config()
