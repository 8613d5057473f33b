"""Google's credentials: Application Default Credentials and files, through the package google-auth (extra ``vertex``).

google-auth finds the credentials, reads files, asks metadata servers and exchanges keys for tokens; it blocks, so it
works in a thread. Here is what it lacks: a token is kept for the whole process, fetched again shortly before it runs
out, and once for all who wait for it at the same time (reliability F87). Nothing is bound to an event loop.
"""

from __future__ import annotations

import math
import os
import threading
import time
import warnings
from collections.abc import Mapping
from datetime import UTC
from typing import Any

import anyio
import attrs
from anyio.lowlevel import RunVar

from pi_ai.auth.env import env_value
from pi_ai.errors import ErrorKind, PiAIError, failure
from pi_ai.failures import redact

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)

FILE = "GOOGLE_APPLICATION_CREDENTIALS"
"""The variable that names a file: the key of a service account, an authorised user, or an external account."""

AHEAD_S = 240.0
"""How long before its end a token is replaced."""

TIMEOUT_S = 20
"""Longest that one request for a token may take."""


@attrs.frozen(kw_only=True)
class GoogleAccess:
    """What a request needs.

    :ivar project: the credentials' own project, where they tell it.
    :ivar quota_project: who pays, if that is not the project that is asked.
    """

    token: str = attrs.field(repr=False)
    project: str | None = None
    quota_project: str | None = None


async def google_access(env: Mapping[str, str] | None = None) -> GoogleAccess:
    """A token for the credentials that the environment names; fetched only where none is at hand.

    :param env: variables that win over the process environment.
    :raises PiAIError: google-auth is not installed (kind ``config``); there are no credentials, or they are refused
        (``auth``); Google cannot be reached (``connect``).
    """
    return await _credentials(env).access()


def forget_google_token(token: str, env: Mapping[str, str] | None = None) -> None:
    """A token was refused: the next one will be a new one, of credentials that are read anew."""
    _credentials(env).forget(token)


_known: dict[str | None, _Credentials] = {}
"""By path of the file; None: the default credentials."""


def _credentials(env: Mapping[str, str] | None) -> _Credentials:
    path = env_value(FILE, env)
    return _known.setdefault(path, _Credentials(path))


@attrs.frozen(kw_only=True)
class _Held:
    """Access, and until when, in seconds since the epoch."""

    access: GoogleAccess
    until: float


class _Fetch:
    """A fetch that is under way, for those who wait for it in the same event loop."""

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.access: GoogleAccess | None = None
        self.error: PiAIError | None = None


_fetches: RunVar[dict[_Credentials, _Fetch]] = RunVar("pi_ai_google_fetches")


class _Credentials:
    """One set of credentials, for all threads and event loops of the process."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._lock = threading.Lock()  # around all that blocks
        self._loaded: Any = None  # google-auth's credentials
        self._project: str | None = None
        self._held: _Held | None = None

    async def access(self) -> GoogleAccess:
        """What is at hand, or something new."""
        fetches = _fetches.get(dict[_Credentials, _Fetch]())
        _fetches.set(fetches)
        while True:
            if access := self._at_hand(AHEAD_S):
                return access
            fetch = fetches.get(self)
            if fetch is None:
                return await self._lead(fetches)
            await fetch.done.wait()
            if fetch.error is not None:
                raise fetch.error.info.exception(fetch.error.text)
            if fetch.access is not None:
                return fetch.access
            # Who fetched was cancelled; now it is for us to go on.

    def forget(self, token: str) -> None:
        """Drop a token, unless there is another one by now."""
        if self._held is not None and self._held.access.token == token:
            self._held = self._loaded = None

    async def _lead(self, fetches: dict[_Credentials, _Fetch]) -> GoogleAccess:
        fetch = fetches[self] = _Fetch()
        try:
            fetch.access = await anyio.to_thread.run_sync(self._fetch, abandon_on_cancel=True)
            return fetch.access
        except PiAIError as error:
            fetch.error = error
            raise
        finally:
            del fetches[self]
            fetch.done.set()

    def _at_hand(self, ahead_s: float) -> GoogleAccess | None:
        held = self._held
        return held.access if held is not None and held.until - ahead_s > time.time() else None

    # ── in a thread ──────────────────────────────────────────────────────────────────────────────────────────

    def _fetch(self) -> GoogleAccess:
        with self._lock:
            if access := self._at_hand(AHEAD_S):  # another event loop was faster
                return access
            try:
                return self._refreshed()
            except PiAIError:
                if access := self._at_hand(0.0):  # it would only have been replaced ahead of time
                    return access
                self._loaded = None
                raise

    def _refreshed(self) -> GoogleAccess:
        try:
            from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, TransportError

            request = _Http()
        except ImportError as error:
            text = 'Google credentials need the package google-auth: pip install "pi_ai[vertex]"'
            raise failure("config", f"{text}, or pass api_key=…", text=text, phase="auth", cause=error) from error
        try:
            if self._loaded is None:
                self._loaded, self._project = self._load(request)
            loaded = self._loaded
            loaded.refresh(request)
        except DefaultCredentialsError as error:
            advice = f"run `gcloud auth application-default login`, or let {FILE} name a file"
            raise _failed("auth", "No Google credentials were found", error, advice) from error
        except TransportError as error:
            raise _failed("connect", "Google could not be reached for a token", error, retryable=True) from error
        except (GoogleAuthError, OSError, ValueError) as error:
            again = bool(getattr(error, "retryable", False))
            advice = "check that the account and its key are still good, or log in again"
            raise _failed("auth", "Google refused the credentials", error, advice, retryable=again) from error
        finally:
            request.session.close()
        access = GoogleAccess(
            token=loaded.token, project=self._project, quota_project=getattr(loaded, "quota_project_id", None)
        )
        until = loaded.expiry.replace(tzinfo=UTC).timestamp() if loaded.expiry else math.inf
        self._held = _Held(access=access, until=until)
        return access

    def _load(self, request: Any) -> tuple[Any, str | None]:
        import google.auth

        library: Any = google.auth
        if self._path is None:
            return library.default(scopes=SCOPES, request=request)
        with warnings.catch_warnings():
            # google-auth warns of files that strangers provide; the user has named this one.
            warnings.simplefilter("ignore", DeprecationWarning)
            path = os.path.expanduser(self._path)
            return library.load_credentials_from_file(path, scopes=SCOPES, request=request)


class _Http:
    """google-auth's HTTP client, but one that does not wait for two minutes."""

    def __init__(self) -> None:
        from google.auth.transport.requests import Request

        self._ask: Any = Request()
        self.session: Any = self._ask.session

    def __call__(self, *args: Any, timeout: int = TIMEOUT_S, **kwargs: Any) -> Any:
        return self._ask(*args, timeout=timeout, **kwargs)


def _failed(
    kind: ErrorKind, text: str, error: Exception, advice: str = "try again", *, retryable: bool = False
) -> PiAIError:
    said = redact(str(error))[:500]
    sentence = f"{text} ({said}); {advice}"
    return failure(kind, sentence, text=f"{text}: {said}", phase="auth", retryable=retryable, cause=error)
