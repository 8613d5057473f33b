"""The built-in providers: models from the catalogue, keys from the environment, logins that are open to everybody."""

from __future__ import annotations

from collections.abc import Sequence

from pi_ai.auth.base import Auth, AuthStatus
from pi_ai.auth.config_values import Env
from pi_ai.auth.env import AUTHENTICATED, find_env_keys, get_env_api_key, get_env_bearer_token
from pi_ai.providers import catalogue
from pi_ai.providers.base import Provider
from pi_ai.types import Model


class BuiltinProvider(Provider):
    """A provider of the catalogue."""

    def __init__(self, id: str) -> None:  # noqa: A002 - pi's name
        from pi_ai.auth.oauth.builtin import builtin_login

        super().__init__(id)
        record = catalogue.provider_records()[id]
        self.name, self.base_url = record["name"], record.get("baseUrl", "")
        self.oauth = builtin_login(id)
        self.takes_api_key = bool(record["apiKeyEnv"]) or "oauth" not in record

    def models(self) -> Sequence[Model]:
        """Its models, sorted by id."""
        return catalogue.get_models(self.id)

    def get_model(self, id: str) -> Model:  # noqa: A002 - pi's name
        """One of them.

        :raises UnknownModel: there is none; the message names the closest ids.
        """
        return catalogue.get_model(self.id, id)

    def auth_status(self, env: Env = None) -> AuthStatus:
        """Whether a variable for a key is set, or all that a cloud's credentials need."""
        names = find_env_keys(self.id, env)
        if names is None:
            return AuthStatus(configured=False)
        return AuthStatus(configured=True, source="environment", label=", ".join(names))

    async def authenticate(self, env: Env = None) -> Auth | None:
        """The key in the environment. A cloud's own credentials are found by its API."""
        token = get_env_bearer_token(self.id, env)
        if token is not None:
            return Auth(headers={"Authorization": f"Bearer {token}"})
        key = get_env_api_key(self.id, env)
        if key is None:
            return None
        return Auth() if key == AUTHENTICATED else Auth(api_key=key)
