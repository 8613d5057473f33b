"""AWS: whose request it is, and the signature that proves it (bedrock-converse-stream.md section 2).

The credential chain (profiles, SSO, web identity, containers, instance metadata) and Signature Version 4 are
botocore's: we read no instance metadata ourselves (X31). It comes with the extra ``bedrock`` and is imported in this
module only, on first use. Three rules:

* What may wait for a disk or for the network runs in a worker thread, which a cancelled caller leaves behind (BR7).
* Credentials are kept as long as they are good, and looked for once for all who wait for them (F87).
* botocore logs what it signs and what it is answered, secrets included. So its signer is asked for its parts, which
  log nothing, and the chain is kept quiet while we walk along it (X1).
"""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from importlib import import_module
from threading import Lock
from types import SimpleNamespace
from typing import Any, TypeAlias, TypeVar

import attrs
from anyio import CapacityLimiter
from anyio.lowlevel import RunVar
from anyio.to_thread import run_sync

from pi_ai.errors import ErrorKind, PiAIError, failure
from pi_ai.failures import redact

T = TypeVar("T")
Env: TypeAlias = Mapping[str, str]

MAX_THREADS = 8
"""Most threads of one event loop that look for credentials at the same time."""
MAX_CHAINS = 32
"""Most settings whose credentials are kept."""
FRESH_S = 16 * 60.0
"""Seconds of life in which credentials need no look: a minute before botocore begins to refresh them."""
STS_REGION = "us-east-1"
"""Where temporary keys are asked for, when no region is known."""


@attrs.frozen
class Credentials:
    """A key pair.

    :ivar token: of temporary keys.
    """

    access_key: str
    secret_key: str = attrs.field(repr=False)
    token: str | None = attrs.field(default=None, repr=False)


def credentials_in(env: Env | None) -> Credentials | None:
    """The keys in the environment: those of the call's own ``env``, else those of the process, never a mixture."""
    for source in (env or {}, os.environ):
        access_key, secret_key = source.get("AWS_ACCESS_KEY_ID"), source.get("AWS_SECRET_ACCESS_KEY")
        if access_key and secret_key:
            return Credentials(access_key, secret_key, source.get("AWS_SESSION_TOKEN") or None)
    return None


# ── the signature ────────────────────────────────────────────────────────────────────────────────────────────


async def signed_headers(
    credentials: Credentials,
    *,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    service: str,
    region: str,
    now: datetime | None = None,
) -> dict[str, str]:
    """The headers that sign a request (BR9): its date, the session token where there is one, and the signature.

    :param headers: those to sign, as they will be sent; the host is the URL's.
    :param now: default: the clock's time.
    :raises PiAIError: kind ``config``: botocore is not installed.
    """
    aws = await _in_thread(_botocore) if _botocore.cache_info().currsize == 0 else _botocore()  # 0.2 s to import
    date = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
    told = {"X-Amz-Date": date}
    if credentials.token:
        told["X-Amz-Security-Token"] = credentials.token
    request = aws.Request(method=method, url=url, headers={**headers, **told}, data=body)
    request.context["timestamp"] = date
    signer = aws.Signer(credentials, service, region)
    signature = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    names = signer.signed_headers(signer.headers_to_sign(request))
    scope = f"Credential={signer.scope(request)}, SignedHeaders={names}"
    return {**told, "Authorization": f"AWS4-HMAC-SHA256 {scope}, Signature={signature}"}


# ── the chain ────────────────────────────────────────────────────────────────────────────────────────────────


class Chain:
    """One way to credentials, and those that were found on it. For any event loop and any thread.

    :param profile: use this profile's credentials and no others; None: use whatever there is.
    :param env: variables that win over those of the process.
    """

    def __init__(self, profile: str | None, env: Env) -> None:
        self._profile = profile
        self._env = env
        self._lock = Lock()
        self._session: Any = None
        self._found: Any = None  # botocore's credentials, which refresh themselves

    async def credentials(self) -> Credentials:
        """Credentials that are good now. A caller that is cancelled leaves what it waited for to the next one.

        :raises PiAIError: kind ``auth``: there are none, or they cannot be had; ``connect``: whoever hands them out was
            not reached; ``config``: the settings are wrong, or botocore is not installed.
        """
        found = self._found
        return await _in_thread(self._get) if found is None or _needs_refresh(found) else _frozen(found)

    async def region(self) -> str | None:
        """The region of the profile, None where nothing tells one: that is no failure, whatever the reason is."""
        try:
            session = self._session or await _in_thread(self._load)
        except PiAIError:
            return None  # if it matters, the search for credentials will say so
        return session.get_scoped_config().get("region")

    def renew(self) -> None:
        """The credentials were refused as expired: forget them, so that others are looked for."""
        self._session = self._found = None

    # ── in a worker thread ───────────────────────────────────────────────────────────────────────────────────

    def _get(self) -> Credentials:
        session = self._load()
        with self._lock, _explained(self._profile):
            found = self._found
            if found is None:
                found = self._found = session.get_credentials()
        if found is None:
            self._session = None  # which would not look at its files again
            raise _none_found()
        with _explained(self._profile):
            return _frozen(found)

    def _load(self) -> Any:
        with self._lock, _explained(self._profile):
            if self._session is None:
                self._session = _session(self._profile, self._env)
            return self._session


_chains: OrderedDict[bytes, Chain] = OrderedDict()
_threads: RunVar[CapacityLimiter] = RunVar("pi_ai_aws_threads")


def chain(profile: str | None, env: Env | None) -> Chain:
    """The chain of some settings: the same one for the same settings, so that credentials are looked for once.

    :param profile: as of :class:`Chain`. ``env``: of it what is AWS's counts, unless it is empty.
    """
    own = {name: value for name, value in (env or {}).items() if name.startswith("AWS_") and value}
    settings = {**{name: value for name, value in os.environ.items() if name.startswith("AWS_")}, **own}
    # Not the settings themselves: some are secret, and the table lives as long as the process (X2).
    key = sha256(repr((profile, sorted(own), sorted(settings.items()))).encode("utf-8", "surrogatepass")).digest()
    found = _chains.pop(key, None) or Chain(profile, own)
    _chains[key] = found
    if len(_chains) > MAX_CHAINS:
        _chains.popitem(last=False)
    return found


async def _in_thread(work: Callable[[], T]) -> T:
    try:
        limiter = _threads.get()
    except LookupError:
        limiter = CapacityLimiter(MAX_THREADS)
        _threads.set(limiter)
    return await run_sync(work, abandon_on_cancel=True, limiter=limiter)


# ── botocore ─────────────────────────────────────────────────────────────────────────────────────────────────


@cache
def _botocore() -> Any:
    """What is used of it.

    :raises PiAIError: kind ``config``: it is not installed.
    """
    try:
        used = SimpleNamespace(
            Request=import_module("botocore.awsrequest").AWSRequest,
            Session=import_module("botocore.session").Session,
            Signer=import_module("botocore.auth").SigV4Auth,
            credentials=import_module("botocore.credentials"),
        )
    except ImportError as error:
        text = 'AWS credentials need an optional package: pip install "pi_ai[bedrock]"'
        sentence = f"{text}. A bearer token (AWS_BEARER_TOKEN_BEDROCK, or api_key=…) works without it"
        raise failure("config", sentence, text=text, phase="auth") from error
    for name in _TALKATIVE:
        logging.getLogger(f"botocore.{name}").addFilter(lambda record: not _quiet.get())
    return used


_TALKATIVE = ("auth", "credentials", "endpoint", "hooks", "httpsession", "parsers", "tokens", "utils")
"""Its loggers that may be told secrets."""
_quiet: ContextVar[bool] = ContextVar("pi_ai_aws_quiet", default=False)
"""Whether it shall not log now: only what it does for us, for an application may well use it, too."""


def _session(profile: str | None, env: Env) -> Any:
    """A session of botocore's that also knows the variables of ``env``.

    It reads the process's by itself; its own way to be told others is not to read them but to be given their values.
    """
    aws = _botocore()
    session = aws.Session(profile=profile)
    for name, (_, variables, _, converted) in session.session_var_map.items():
        told = [variables] if isinstance(variables, str) else variables or ()
        value = next((env[variable] for variable in told if variable in env), None)
        if value is not None and name != "profile":
            session.set_config_variable(name, converted(value) if converted else value)
    if session.get_config_variable("region") is None:  # it knows AWS_DEFAULT_REGION only
        region = env.get("AWS_REGION") or os.environ.get("AWS_REGION") or STS_REGION
        session.set_config_variable("region", region)
    if profile is None and (providers := _providers(session, env)):
        resolver = session.get_component("credential_provider")
        together = aws.credentials.CredentialResolver([*providers, *resolver.providers])
        session.register_component("credential_provider", together)
    return session


_WEB_IDENTITY = {
    "web_identity_token_file": "AWS_WEB_IDENTITY_TOKEN_FILE",
    "role_arn": "AWS_ROLE_ARN",
    "role_session_name": "AWS_ROLE_SESSION_NAME",
}
_CONTAINER = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI")


def _providers(session: Any, env: Env) -> list[Any]:
    """Those links of the chain that read variables by themselves, for the variables of ``env``."""
    credentials = _botocore().credentials
    merged = {**os.environ, **env}
    providers: list[Any] = []
    if _WEB_IDENTITY["web_identity_token_file"] in env:
        role = {field: merged[name] for field, name in _WEB_IDENTITY.items() if name in merged}
        web_identity = credentials.AssumeRoleWithWebIdentityProvider(
            load_config=lambda: {"profiles": {"env": role}},
            client_creator=session.create_client,
            profile_name="env",
            disable_env_vars=True,
        )
        providers.append(web_identity)
    if any(name in env for name in _CONTAINER):
        providers.append(credentials.ContainerProvider(environ=merged))
    return providers


def _needs_refresh(found: Any) -> bool:
    needed = getattr(found, "refresh_needed", None)  # static credentials have none
    return needed is not None and needed(FRESH_S)


def _frozen(found: Any) -> Credentials:
    keys = found.get_frozen_credentials()
    return Credentials(keys.access_key, keys.secret_key, keys.token)


# By name, not by class: the library is loaded late. Of a class the most special one counts.
_KINDS: dict[str, tuple[ErrorKind, bool]] = {
    "HTTPClientError": ("connect", True),
    "ConnectionError": ("connect", True),
    "ConfigParseError": ("config", False),
    "InvalidConfigError": ("config", False),
    "ProfileNotFound": ("config", False),
    "MissingDependencyException": ("config", False),
}
_ADVICE: dict[ErrorKind, str] = {
    "auth": "log in again (aws sso login), or check the profile and the AWS_… variables",
    "config": "correct the profile or the AWS_… variables",
    "connect": "check the network, and try again",
}


@contextmanager
def _explained(profile: str | None) -> Generator[None]:
    """What botocore raises as ours, and none of its logs; what it knows of a cause is in its message."""
    token = _quiet.set(True)
    try:
        yield
    except PiAIError:
        raise
    except Exception as error:
        names = [cls.__name__ for cls in type(error).__mro__]
        kind, retryable = next((_KINDS[name] for name in names if name in _KINDS), ("auth", False))
        whose = f" of profile {profile!r}" if profile else ""
        text = f"AWS credentials{whose} could not be had: {redact(str(error) or names[0])}"
        raise failure(kind, f"{text}; {_ADVICE[kind]}", text=text, phase="auth", retryable=retryable) from error
    finally:
        _quiet.reset(token)


def _none_found() -> PiAIError:
    text = "No AWS credentials found"
    ways = (
        "set AWS_BEARER_TOKEN_BEDROCK, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; or log in with"
        " `aws sso login`"
    )
    return failure("auth", f"{text}: {ways}", text=f"{text}: {ways}", phase="auth")
