"""Which credential a request gets (auth A40-A49), who is logged in, and logging in and out (A60-A64).

The first source that applies decides; what fails there is an error, never a reason to try the next one, so that a
broken login does not silently become another account (F95).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Literal, Protocol, TypeAlias

import attrs
from anyio import CancelScope

from pi_ai.auth.base import Auth, AuthStatus
from pi_ai.auth.credentials import Credential
from pi_ai.auth.env import AUTHENTICATED, find_env_keys, get_env_api_key, get_env_bearer_token
from pi_ai.auth.lock import Queue
from pi_ai.auth.oauth.config import OAuthConfig, returned_credential, settled
from pi_ai.auth.oauth.http import HttpSettings
from pi_ai.auth.oauth.interaction import AuthInteraction, AuthPrompt, OAuthLoginCallbacks
from pi_ai.auth.refresh import IsGood, Refresher
from pi_ai.auth.store import CredentialStore, invalid_credential
from pi_ai.errors import PiAIError, failure
from pi_ai.failures import redact

MARGIN_S = 5 * 60.0
"""A login that lives no longer than this is refreshed before it is used (A43)."""

LoginKind: TypeAlias = Literal["oauth", "api_key"]

ASKED: Mapping[str, Mapping[str, str]] = {
    "cloudflare-workers-ai": {"CLOUDFLARE_ACCOUNT_ID": "Cloudflare account id"},
    "cloudflare-ai-gateway": {
        "CLOUDFLARE_ACCOUNT_ID": "Cloudflare account id",
        "CLOUDFLARE_GATEWAY_ID": "Cloudflare gateway id",
    },
}
"""What else a login with an API key asks for: provider → variable → what it is (A61)."""


class Authenticated(Protocol):
    """What authentication needs to know of a provider."""

    @property
    def id(self) -> str:
        """What models call it."""
        ...

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    @property
    def oauth(self) -> OAuthConfig | None:
        """Its login."""
        ...

    @property
    def takes_api_key(self) -> bool:
        """Whether an API key can be stored for it (R81)."""
        ...

    def auth_status(self, env: Mapping[str, str] | None = None) -> AuthStatus:
        """Whether :meth:`authenticate` will find something, without the network and without running anything."""
        ...

    async def authenticate(self, env: Mapping[str, str] | None = None) -> Auth | None:
        """What authenticates requests where neither the caller nor a stored credential says anything."""
        ...


class CredentialSynchronizationError(PiAIError):
    """The credential **is** stored or removed, but this process could not adapt to it (A64). Do not log in again.

    :ivar provider_id: whose. ``operation``: ``login`` or ``logout``. ``credential``: what is stored now.
    """

    def __init__(self, provider_id: str, operation: str, credential: Credential | None, reason: Exception) -> None:
        message = f"The {operation} of {provider_id} is saved, but could not be applied here: {reason}"
        error = failure("internal", f"{message}. Do not repeat it; start the program again.", cause=reason)
        super().__init__(error.info, message)
        self.provider_id, self.operation, self.credential = provider_id, operation, credential
        self.__cause__ = reason


class Authenticator:
    """Finds, refreshes, stores and removes credentials.

    :param store: where they are kept.
    :param changed: told of each change that a login, a refresh or a logout has made (R84).
    :param http: how logins and refreshes are sent.
    :param now: seconds since the epoch.
    """

    def __init__(
        self,
        store: CredentialStore,
        *,
        changed: Callable[[str, Credential | None], None] = lambda _, __: None,
        http: HttpSettings | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self._http = http or HttpSettings()
        self._changed = changed
        self._now = now
        self._runtime: dict[str, str] = {}
        self._refresher = Refresher(store)
        self._seen: dict[str, Credential | None] = {}
        self._logins: dict[str, Queue] = {}

    def set_runtime_api_key(self, provider_id: str, key: str) -> None:
        """Use a key for a provider in this process, over what is stored (A35)."""
        self._runtime[provider_id] = key

    def remove_runtime_api_key(self, provider_id: str) -> None:
        """Forget it again."""
        self._runtime.pop(provider_id, None)

    # ── for a request ────────────────────────────────────────────────────────────────────────────────────────

    async def resolve(
        self,
        provider: Authenticated,
        *,
        api_key: str | None = None,
        env: Mapping[str, str] | None = None,
        min_validity_s: float = 0.0,
    ) -> Auth | None:
        """What a request to a provider is authenticated with (A40). None: it is not configured.

        :param api_key: of the request itself. ``env``: variables of the request.
        :param min_validity_s: how long a login has to last from now on.
        :raises PiAIError: kind ``auth``, ``oauth`` or ``config``: the source that decides does not work.
        """
        key = api_key or self._runtime.get(provider.id)
        if key:
            return Auth(api_key=key)
        credential = await self._refresher.read(provider.id)
        self._seen[provider.id] = credential
        if credential is None:
            return await provider.authenticate(env)
        if not credential.is_usable:
            raise invalid_credential(provider.id)
        if credential.type == "oauth" and provider.oauth is not None:
            return await self._logged_in(provider, provider.oauth, credential, min_validity_s)
        if credential.type != "api_key" or not provider.takes_api_key:
            return None
        if credential.key is not None:
            return Auth(api_key=credential.key, env=credential.env)
        found = _ambient(provider.id, {**credential.env, **(env or {})})
        return found and attrs.evolve(found, env=credential.env)

    async def renewed(self, provider: Authenticated, refused: Auth) -> Auth | None:
        """What to try again with, after a provider has answered 401 (A48, F92).

        :param refused: what the request had. Of many that were refused, one refreshes.
        :returns: None: there is nothing to be done about it.
        :raises PiAIError: kind ``oauth``: the login cannot be refreshed.
        """
        login, oauth = refused.login, provider.oauth
        if login is None or oauth is None or refused.is_new:
            return None

        def is_another(found: Credential) -> bool:
            return found.access != login.access and self._left_s(found) > 0

        return await self._refreshed(provider, oauth, is_another, 0.0)

    async def _logged_in(
        self, provider: Authenticated, oauth: OAuthConfig, login: Credential, min_validity_s: float
    ) -> Auth | None:
        margin = max(MARGIN_S, min_validity_s)

        def lasts(found: Credential) -> bool:
            return self._left_s(found) > margin

        if lasts(login):
            return await _derived(provider.id, oauth, login)
        return await self._refreshed(provider, oauth, lasts, min_validity_s)

    async def _refreshed(
        self, provider: Authenticated, oauth: OAuthConfig, is_good: IsGood, min_validity_s: float
    ) -> Auth | None:
        with self._http.used():
            login, is_new = await self._refresher.fresh(provider.id, oauth, is_good)
        if login is None:
            return None
        if min_validity_s and self._left_s(login) < min_validity_s:
            text = f"OAuth refresh returned a token that expires too soon for {provider.id}"
            raise failure("oauth", f"{text}; ask for less than {min_validity_s:g} s.", text=text, phase="auth")
        if is_new:
            self._changed(provider.id, login)
        return attrs.evolve(await _derived(provider.id, oauth, login), is_new=is_new)

    def _left_s(self, login: Credential) -> float:
        return login.expires / 1000 - self._now()

    # ── without a request ────────────────────────────────────────────────────────────────────────────────────

    def stored(self, provider_id: str) -> Credential | None:
        """What is stored for a provider, as far as that can be told at once; nothing in it is resolved."""
        peek: Callable[[str], Credential | None] = getattr(self.store, "peek", self._seen.get)
        return self._refresher.newest(provider_id, peek(provider_id))

    def status(self, provider: Authenticated, env: Mapping[str, str] | None = None) -> AuthStatus:
        """Whether a provider can be used. Refreshes nothing, runs nothing, asks nobody (R101)."""
        if self._runtime.get(provider.id):
            return AuthStatus(configured=True, source="runtime")
        stored = self.stored(provider.id)
        if stored is None:
            return provider.auth_status(env)
        if stored.type == "api_key" and provider.takes_api_key and stored.key is None:
            names = find_env_keys(provider.id, {**stored.env, **(env or {})})
            return AuthStatus(configured=bool(names), source="environment", label=", ".join(names or ()) or None)
        usable = {"oauth": provider.oauth is not None, "api_key": provider.takes_api_key}.get(stored.type, False)
        return AuthStatus(configured=usable, source="stored", label=stored.type)

    async def settle(self) -> None:
        """Wait until refreshed logins are saved (A51)."""
        await self._refresher.settle()

    # ── logging in and out ───────────────────────────────────────────────────────────────────────────────────

    async def login(self, provider: Authenticated, kind: LoginKind, interaction: AuthInteraction) -> Credential:
        """Log in, and store the credential in the place of what was stored (A60, A61).

        :raises PiAIError: the provider has no such login, or the login failed; nothing was stored.
        :raises LoginCancelled: the user has cancelled it.
        :raises CredentialSynchronizationError: it is stored, but could not be applied.
        """
        if (provider.oauth is None) if kind == "oauth" else not provider.takes_api_key:
            raise failure("auth", f"{provider.name} does not support {kind} login", phase="auth")
        queue = self._logins.setdefault(provider.id, Queue())
        ticket = await queue.enter()
        try:
            with self._http.used():
                ask = _oauth_login if kind == "oauth" else _api_key_login
                credential = await ask(provider, interaction)

            async def replace(_: Credential | None) -> Credential:
                return credential

            with CancelScope(shield=True):  # what the vendor has given out is not thrown away
                await self.store.modify(provider.id, replace)
            self._synchronize(provider.id, "login", credential)
        finally:
            queue.leave(ticket)
        return credential

    async def logout(self, provider_id: str) -> None:
        """Remove what is stored for a provider, and its runtime key (A62). What is not there is no error.

        :raises PiAIError: the store cannot be written.
        """
        queue = self._logins.setdefault(provider_id, Queue())
        ticket = await queue.enter()
        try:
            self.remove_runtime_api_key(provider_id)
            await self.store.delete(provider_id)
            self._synchronize(provider_id, "logout", None)
        finally:
            queue.leave(ticket)

    def _synchronize(self, provider_id: str, operation: str, credential: Credential | None) -> None:
        self._seen[provider_id] = credential
        try:
            self._changed(provider_id, credential)
        except Exception as error:
            raise CredentialSynchronizationError(provider_id, operation, credential, error) from error


async def _oauth_login(provider: Authenticated, interaction: AuthInteraction) -> Credential:
    assert provider.oauth is not None
    assert provider.oauth.login is not None
    result = await settled(provider.oauth.login(OAuthLoginCallbacks(interaction)))
    return returned_credential(result, f"login of {provider.id}")


async def _api_key_login(provider: Authenticated, interaction: AuthInteraction) -> Credential:
    async def ask(kind: Literal["secret", "text"], what: str) -> str:
        answer = (await interaction.prompt(AuthPrompt(kind, f"Enter {what}"))).strip()
        if not answer:
            raise ValueError(f"{what} must not be empty")
        return answer

    key = await ask("secret", f"{provider.name} API key")
    env = {name: await ask("text", what) for name, what in ASKED.get(provider.id, {}).items()}
    return Credential.api_key(key, env)


# ── sources ──────────────────────────────────────────────────────────────────────────────────────────────────


async def _derived(provider_id: str, oauth: OAuthConfig, login: Credential) -> Auth:
    """A login as a request uses it (A47, R82)."""
    try:
        if oauth.request_auth is not None:
            return attrs.evolve(oauth.request_auth(login), login=login)
        assert oauth.get_api_key is not None
        return Auth(api_key=await settled(oauth.get_api_key(login)), login=login)
    except Exception as error:  # noqa: BLE001 - a flow of somebody's
        reason, cause = redact(str(error) or type(error).__name__, (login.access, login.refresh)), error
    text = f"OAuth auth derivation failed for {provider_id}: {reason}"
    raise failure("oauth", f"{text}; log in again: pi-ai login {provider_id}", text=text, phase="auth", cause=cause)


def _ambient(provider_id: str, env: Mapping[str, str]) -> Auth | None:
    """What the environment has: a bearer token (A92), else a key, else a cloud's credentials, which are no key."""
    token = get_env_bearer_token(provider_id, env)
    if token is not None:
        return Auth(headers={"Authorization": f"Bearer {token}"})
    key = get_env_api_key(provider_id, env)
    return Auth(api_key=None if key == AUTHENTICATED else key) if key else None
