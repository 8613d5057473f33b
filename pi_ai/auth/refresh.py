"""Refreshing a login once, however many ask for it (auth A43-A46, A50-A52; reliability F86-F90).

Tasks of one event loop share one *flight*, a task of its own: it takes the store's lock, looks again, exchanges the
token if that is still needed, and saves the new one before the lock is free again, so that processes share it, too.
Whoever waits for it may leave at any time. A flight that nobody waits for stops as long as it waits for the lock; once
it has begun the exchange it goes on to the end, because the old refresh token may be worth nothing any more.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import TypeAlias

import anyio
import attrs
from anyio import CancelScope, to_thread
from anyio.lowlevel import current_token

from pi_ai.auth.credentials import Credential
from pi_ai.auth.lock import LockLost
from pi_ai.auth.oauth.config import OAuthConfig, returned_credential, settled
from pi_ai.auth.store import CredentialStore, invalid_credential
from pi_ai.auth.tasks import spawn
from pi_ai.errors import PiAIError, failure
from pi_ai.failures import redact

REFRESH_TIMEOUT_S = 15.0

_log = logging.getLogger("pi_ai.auth")

IsGood: TypeAlias = Callable[[Credential], bool]


@attrs.define(eq=False)
class _Flight:
    """One refresh for all tasks of an event loop that want it.

    :ivar loop: that event loop.
    :ivar begun: the exchange is on its way; from here on it is not given up.
    :ivar refreshed: ``outcome`` is new, and not something that was good already.
    """

    loop: object
    scope: CancelScope = attrs.field(factory=CancelScope)
    done: anyio.Event = attrs.field(factory=anyio.Event)
    waiting: int = 0
    begun: bool = False
    refreshed: bool = False
    outcome: Credential | None = None
    error: Exception | None = None


class Refresher:
    """Credentials of a store that are good for use."""

    def __init__(self, store: CredentialStore) -> None:
        self._store = store
        self._flights: dict[tuple[int, str], _Flight] = {}
        self._airborne: set[_Flight] = set()
        self._unsaved: dict[str, tuple[Credential, Credential]] = {}

    async def read(self, provider_id: str) -> Credential | None:
        """What is stored, with its key resolved, or a newer one that could not be saved."""
        return self.newest(provider_id, await self._store.read(provider_id))

    def newest(self, provider_id: str, stored: Credential | None) -> Credential | None:
        """What is stored, or a newer one that could not be saved (A52, F90)."""
        started, new = self._unsaved.get(provider_id, (None, None))
        if new is None or stored == started:
            return new or stored
        del self._unsaved[provider_id]  # somebody has changed it since
        return stored

    async def fresh(self, provider_id: str, oauth: OAuthConfig, is_good: IsGood) -> tuple[Credential | None, bool]:
        """A credential that is good, or newer than one that was not; and whether it was refreshed just now.

        :returns: None where there is no login any more.
        :raises PiAIError: kind ``oauth``: it cannot be refreshed; what is stored stays (A46).
        """
        loop = current_token().native_token
        key = id(loop), provider_id
        while True:
            flight = self._flights.get(key)
            if flight is None:
                flight = self._flights[key] = _Flight(loop)
                self._start(key, flight, oauth, is_good)
            flight.waiting += 1
            try:
                await flight.done.wait()
            finally:
                flight.waiting -= 1
                if not flight.waiting and not flight.begun and not flight.done.is_set():
                    self._flights.pop(key, None)
                    flight.scope.cancel()
            if flight.scope.cancel_called:
                continue  # everybody else had left it
            if flight.error is not None:
                raise _again(flight.error)
            if flight.outcome is None or flight.refreshed or is_good(flight.outcome):
                return flight.outcome, flight.refreshed

    async def settle(self) -> None:
        """Wait for the exchanges of this event loop that have begun, and for what nobody waits for any more (A51)."""
        loop = current_token().native_token
        for flight in self._airborne.copy():
            if flight.loop is loop and (flight.begun or not flight.waiting):
                await flight.done.wait()

    # ── a flight ─────────────────────────────────────────────────────────────────────────────────────────────

    def _start(self, key: tuple[int, str], flight: _Flight, oauth: OAuthConfig, is_good: IsGood) -> None:
        async def fly() -> None:
            try:
                with flight.scope:
                    await self._fly(key[1], flight, oauth, is_good)
            except Exception as error:  # noqa: BLE001 - raised by who waits
                flight.error = error
            except BaseException:
                flight.error = failure("oauth", f"The refresh of {key[1]} was torn down.", phase="auth")
                raise
            finally:
                if self._flights.get(key) is flight:
                    del self._flights[key]
                self._airborne.discard(flight)
                flight.done.set()

        self._airborne.add(flight)
        spawn(fly)

    async def _fly(self, provider_id: str, flight: _Flight, oauth: OAuthConfig, is_good: IsGood) -> None:
        started: Credential | None = None

        async def change(stored: Credential | None) -> Credential | None:
            nonlocal started
            current = self.newest(provider_id, stored)
            if current is None or current.type != "oauth":
                flight.outcome = None
                return None
            if not current.is_usable:
                raise invalid_credential(provider_id)
            flight.outcome = started = current
            if is_good(current):
                return current if current is not stored else None
            flight.begun = True
            flight.outcome = await _exchanged(provider_id, oauth, current)
            flight.refreshed = True
            return flight.outcome

        try:
            await self._store.modify(provider_id, change)
        except Exception as error:  # noqa: BLE001 - a store or a flow of somebody's
            if not flight.refreshed:
                flight.outcome = await self._rescue(provider_id, started, is_good, error)
                return
            assert started is not None
            assert flight.outcome is not None
            flight.outcome = await self._save_again(provider_id, started, flight.outcome, error)
        else:
            self._unsaved.pop(provider_id, None)

    async def _rescue(
        self, provider_id: str, started: Credential | None, is_good: IsGood, error: Exception
    ) -> Credential:
        """What another program has refreshed meanwhile; else what went wrong (A46, F89)."""
        if started is None:
            raise error
        try:
            found = await self._store.read(provider_id)
        except PiAIError:
            found = None
        if found is not None and found.type == "oauth" and found.access != started.access and is_good(found):
            return found
        raise error

    async def _save_again(
        self, provider_id: str, started: Credential, new: Credential, error: Exception
    ) -> Credential | None:
        """Try once more to save a token whose predecessor is spent, unless another one is stored by now (A52)."""

        async def change(stored: Credential | None) -> Credential | None:
            return new if stored is not None and stored.get("refresh") == started.refresh else None

        if isinstance(error, LockLost):
            try:
                return await self._store.modify(provider_id, change)
            except PiAIError as second:
                error = second
        self._unsaved[provider_id] = started, new
        _log.warning("The new login of %s is kept in memory only: %s", provider_id, error)
        return new


async def _exchanged(provider_id: str, oauth: OAuthConfig, credential: Credential) -> Credential:
    """Exchange a credential for a new one (A44, A45)."""
    exchange = oauth.refresh_token
    assert exchange is not None
    reason, cause = "", None
    try:
        with anyio.fail_after(REFRESH_TIMEOUT_S):
            if inspect.iscoroutinefunction(exchange):
                result = await exchange(credential)
            else:  # it may wait for the network
                result = await settled(await to_thread.run_sync(exchange, credential, abandon_on_cancel=True))
            return returned_credential(result, f"refresh of {provider_id}", credential)
    except TimeoutError as error:
        reason = str(error) or f"no answer within {REFRESH_TIMEOUT_S:g} s"
    except Exception as error:  # noqa: BLE001 - a flow of somebody's
        reason, cause = str(error) or type(error).__name__, error
    text = f"OAuth refresh failed for {provider_id}: {redact(reason, (credential.access, credential.refresh))}"
    way_out = f"try again, or log in again: pi-ai login {provider_id}"
    raise failure("oauth", f"{text.removesuffix('.')}; {way_out}", text=text, phase="auth", cause=cause)


def _again(error: Exception) -> Exception:
    """The error for one of several tasks: each raises its own."""
    return error.info.exception(error.text) if isinstance(error, PiAIError) else error
