"""The commands of ``pi-ai`` for logins and keys: ``list``, ``login``, ``logout``, ``auth`` (auth A100-A105).

Secrets are written to standard output by ``auth print-…`` and nowhere else. Questions and progress go to standard
error, so that an output that goes to a file holds the answer only.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import threading
import time
import webbrowser
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import anyio
from anyio import to_thread

from pi_ai.auth.base import Auth, AuthStatus
from pi_ai.auth.oauth.interaction import (
    AuthEvent,
    AuthPrompt,
    AuthUrl,
    DeviceCode,
    Info,
    LoginCancelled,
    Progress,
    SelectOption,
)
from pi_ai.auth.resolve import LoginKind
from pi_ai.auth.store import FileCredentialStore
from pi_ai.cli.terminal import escaped, say
from pi_ai.errors import PiAIError, failure
from pi_ai.providers.base import Provider
from pi_ai.registry import Registry

T = TypeVar("T")

READY, NOT_READY, INVALID = 0, 1, 2
MIN_EXPIRY_S = 30 * 60.0
"""How long a printed bearer token lasts at least, unless told otherwise."""

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _registry(args: argparse.Namespace) -> Registry:
    """A registry with what extensions have registered, over the file that was named."""
    return Registry(credentials=FileCredentialStore(args.auth_file))


def _run(work: Callable[[Registry], Awaitable[T]], registry: Registry) -> T:
    """Run a coroutine; nothing that it has begun to save is lost at its end (A51)."""

    async def within() -> T:
        try:
            return await work(registry)
        finally:
            with anyio.CancelScope(shield=True):
                await registry.settle_credential_writes()

    return anyio.run(within)


def _kinds(provider: Provider) -> list[LoginKind]:
    kinds: list[LoginKind] = ["oauth"] if provider.oauth is not None else []
    return [*kinds, "api_key"] if provider.takes_api_key else kinds


def auth_file_argument(parser: argparse.ArgumentParser) -> None:
    """The argument of commands that look at what is stored."""
    parser.add_argument("--auth-file", metavar="PATH", help="default: auth.json in the folder that is shared with pi")


def _provider(registry: Registry, reference: str) -> Provider:
    """A provider by its id or its name, in any case (A65).

    :raises PiAIError: there is none.
    """
    found = registry.get_provider(reference)
    if found is not None:
        return found
    for provider in map(registry.get_provider, registry.get_providers()):
        if provider is not None and reference.lower() in (provider.id.lower(), provider.name.lower()):
            return provider
    raise failure("config", f"Unknown provider: {reference}; pi-ai list shows those that there are")


# ── pi-ai list ───────────────────────────────────────────────────────────────────────────────────────────────


def list_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``pi-ai list``."""
    auth_file_argument(parser)


def list_logins(args: argparse.Namespace) -> int:
    """Show who can log in, and who is (A100)."""
    registry = _registry(args)
    for provider, kinds in _with_login(registry):
        status = _words(registry.get_provider_auth_status(provider.id))
        print(escaped(f"{provider.id + ' ':<20}{provider.name}  {', '.join(kinds)}  {status}"))
    if problem := registry.get_error():
        say(problem)
    return READY


def _with_login(registry: Registry) -> list[tuple[Provider, list[LoginKind]]]:
    providers = (registry.get_provider(name) for name in registry.get_providers())
    return [(provider, kinds) for provider in providers if provider is not None and (kinds := _kinds(provider))]


def _words(status: AuthStatus) -> str:
    if not status.configured:
        return "not configured"
    return f"env: {status.label}" if status.source == "environment" and status.label else "configured"


# ── pi-ai login, pi-ai logout ────────────────────────────────────────────────────────────────────────────────


def login_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``pi-ai login``."""
    parser.add_argument("provider", nargs="?", help="id or name of a provider; default: choose from a list")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--api-key", action="store_true", help="store an API key instead of signing in")
    how.add_argument("--no-browser", action="store_true", help="sign in without a browser on this machine")
    auth_file_argument(parser)


def login(args: argparse.Namespace) -> int:
    """Log in (A101).

    :raises PiAIError: it failed, or was cancelled.
    """
    if not (sys.stdin and sys.stdin.isatty()):
        raise failure(
            "config", "login needs a terminal to ask questions on; or set the provider's environment variable"
        )
    registry = _registry(args)
    person = Terminal(browser=not args.no_browser)

    async def work(registry: Registry) -> Provider:
        provider = await _chosen(registry, args.provider, person)
        kind = await _chosen_kind(provider, "api_key" if args.api_key else "oauth" if args.no_browser else None, person)
        try:
            await registry.login(provider.id, kind, person)
        except LoginCancelled:
            raise
        except Exception as error:  # noqa: BLE001 - a login may be anybody's
            reason = error.info.message if isinstance(error, PiAIError) else str(error) or type(error).__name__
            raise failure("auth", f"Failed to log in to {provider.name or provider.id}: {reason}") from None
        return provider

    try:
        _run(work, registry)
    except LoginCancelled:
        raise failure("aborted", "Login cancelled.") from None
    print(escaped(f"Credentials saved to {FileCredentialStore(args.auth_file).path}"))
    return READY


async def _chosen(registry: Registry, reference: str | None, person: Terminal) -> Provider:
    if reference is not None:
        return _provider(registry, reference)
    options = [SelectOption(provider.id, provider.name or provider.id) for provider, _ in _with_login(registry)]
    return _provider(registry, await person.choose("Log in to which provider?", options))


async def _chosen_kind(provider: Provider, wanted: LoginKind | None, person: Terminal) -> LoginKind:
    kinds: list[LoginKind] = [wanted] if wanted else _kinds(provider)
    if not kinds:
        raise failure("auth", f"{provider.name or provider.id} has no login")
    if len(kinds) == 1:
        return kinds[0]
    assert provider.oauth is not None
    answer = await person.choose(
        "How?", [SelectOption("oauth", provider.oauth.name), SelectOption("api_key", "With an API key")]
    )
    return "oauth" if answer == "oauth" else "api_key"


def logout_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``pi-ai logout``."""
    parser.add_argument("provider", help="id or name of a provider")
    auth_file_argument(parser)


def logout(args: argparse.Namespace) -> int:
    """Forget what is stored (A102).

    :raises PiAIError: the file cannot be read or written.
    """
    store = FileCredentialStore(args.auth_file)

    async def work(registry: Registry) -> str:
        stored = {info.provider_id for info in await store.list()}
        name = args.provider if args.provider in stored else _provider(registry, args.provider).id
        await registry.logout(name)
        return f"Logged out of {name}." if name in stored else f"No credentials are stored for {name}."

    print(escaped(_run(work, Registry(credentials=store))))
    return READY


# ── pi-ai auth ───────────────────────────────────────────────────────────────────────────────────────────────


def auth_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``pi-ai auth``, which has commands of its own."""
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    check = commands.add_parser("check", help="tell whether a provider can be used")
    check.add_argument("--json", action="store_true", help="print one line of JSON")
    check.add_argument("--no-refresh", action="store_true", help="do not refresh a login")
    key = commands.add_parser("print-api-key", help="print the API key, and nothing else")
    token = commands.add_parser("print-bearer-token", help="print the token of a login, and nothing else")
    token.add_argument("--min-expiry", type=_duration, default=MIN_EXPIRY_S, metavar="TIME", help="default: 30m")
    for command, run in ((check, _check), (key, _print_api_key), (token, _print_bearer_token)):
        whose = command.add_mutually_exclusive_group(required=True)
        whose.add_argument("--provider", metavar="ID")
        whose.add_argument("--model", metavar="PROVIDER/ID")
        auth_file_argument(command)
        command.set_defaults(run_auth=run, usage_error=command.error)


def auth(args: argparse.Namespace) -> int:
    """Run one of the commands of ``auth``."""
    run: Callable[[argparse.Namespace], int] = args.run_auth
    return run(args)


def _duration(text: str) -> float:
    found = re.fullmatch(r"(\d{1,9})([smhd]?)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"must be a time such as 90s, 30m or 2h, not {text!r}")
    return float(found[1]) * _UNITS[found[2]]


def _reference(args: argparse.Namespace) -> str:
    return args.provider or args.model.partition("/")[0]


def _check(args: argparse.Namespace) -> int:
    """Tell whether a provider can be used (A103)."""
    registry = _registry(args)
    result: dict[str, str] = {"provider": _reference(args)}
    try:
        provider = _provider(registry, result["provider"])
    except PiAIError:
        return _told(args, "invalid", INVALID, result, "provider_not_found")
    result["provider"] = provider.id

    async def work(registry: Registry) -> Auth | AuthStatus | None:
        stored = {info.provider_id: info.type for info in await registry.credentials.list()}.get(provider.id)
        result["authType"] = "oauth" if stored == "oauth" else "api_key"
        if not args.no_refresh:
            return await registry.get_auth(provider.id)
        credential = await registry.credentials.read(provider.id)
        if credential is not None and credential.type == "oauth" and credential.expires / 1000 < time.time():
            raise failure("oauth", "expired")
        return registry.get_provider_auth_status(provider.id)

    try:
        found = _run(work, registry)
    except PiAIError as error:
        if error.info.kind == "auth":
            return _told(args, "invalid", INVALID, result, "invalid_state")
        return _told(args, "not_ready", NOT_READY, result, "credential_not_available")
    if found is None or (isinstance(found, AuthStatus) and not found.configured):
        del result["authType"]
        return _told(args, "not_ready", NOT_READY, result, "credentials_not_configured")
    return _told(args, "ready", READY, result)


def _told(args: argparse.Namespace, status: str, code: int, result: dict[str, str], reason: str | None = None) -> int:
    facts = {"status": status, **result, **({"reason": reason} if reason else {})}
    print(escaped(json.dumps(facts) if args.json else status))
    return code


def _print_api_key(args: argparse.Namespace) -> int:
    """Print a key (A104).

    :raises PiAIError: there is none, or there is a login.
    """
    found = _found(args, 0.0)
    if found.login is not None or found.api_key is None:
        raise failure("auth", f"{_reference(args)} uses no API key; try pi-ai auth print-bearer-token")
    print(found.api_key)
    return READY


def _print_bearer_token(args: argparse.Namespace) -> int:
    """Print a token that lasts for a while (A104).

    :raises PiAIError: there is none, or there is a key.
    """
    found = _found(args, args.min_expiry)
    if found.login is None:
        raise failure("auth", f"{_reference(args)} uses no login; try pi-ai auth print-api-key")
    print(found.login.access)
    return READY


def _found(args: argparse.Namespace, min_validity_s: float) -> Auth:
    registry = _registry(args)
    provider = _provider(registry, _reference(args))
    found = _run(lambda registry: registry.get_auth(provider.id, min_validity_s=min_validity_s), registry)
    if found is None:
        raise failure("auth", f"Provider is not configured: {provider.id}; pi-ai login {provider.id}")
    return found


# ── a terminal ───────────────────────────────────────────────────────────────────────────────────────────────


class Terminal:
    """Asks and tells on a terminal.

    :param browser: False: open none, and choose what needs none.
    """

    def __init__(self, *, browser: bool = True) -> None:
        self._browser = browser

    async def prompt(self, prompt: AuthPrompt) -> str:
        """See :class:`AuthInteraction`. The end of the input cancels the login."""
        if prompt.kind == "select":
            return await self.choose(prompt.message, prompt.options)
        hint = f" ({prompt.placeholder})" if prompt.placeholder else ""
        while True:
            answer = await self._ask(f"{prompt.message}{hint}: ", secret=prompt.kind == "secret")
            if answer.strip() or prompt.kind != "manual_code":
                return answer

    async def choose(self, message: str, options: Any) -> str:
        """Let choose one of some options by its number."""
        if not self._browser:
            options = [option for option in options if option.id != "browser"] or options
        if len(options) == 1:
            return options[0].id
        for number, option in enumerate(options, 1):
            description = f": {option.description}" if option.description else ""
            say(f"{number}. {option.label or option.id}{description}")
        while True:
            answer = (await self._ask(f"{message} [1-{len(options)}]: ")).strip()
            if answer.isascii() and answer.isdigit() and 1 <= int(answer) <= len(options):
                return options[int(answer) - 1].id

    def notify(self, event: AuthEvent) -> None:
        """See :class:`AuthInteraction`."""
        match event:
            case AuthUrl(url=url, instructions=instructions):
                say(f"Open this page to log in: {url}")
                if instructions:
                    say(instructions)
                self._open(url)
            case DeviceCode(user_code=code, verification_uri=url):
                say(f"Open {url} and enter the code {code}")
                self._open(url)
            case Progress(message=message):
                say(message)
            case Info(message=message, links=links):
                say(" ".join([message, *links]))

    def _open(self, url: str) -> None:
        """Open a browser that has a window; one in the terminal would take it away."""
        windows = os.name == "nt" or sys.platform == "darwin"
        windows = windows or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
        if self._browser and windows and url.startswith("https:"):
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()

    async def _ask(self, question: str, *, secret: bool = False) -> str:
        sys.stderr.write(escaped(question))
        sys.stderr.flush()
        try:
            with _without_echo() if secret else nullcontext():
                if os.name == "nt":  # where a terminal cannot be waited for
                    line = await to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
                else:
                    await anyio.wait_readable(sys.stdin.fileno())
                    line = sys.stdin.readline()
        finally:
            if secret:
                sys.stderr.write("\n")
        if not line:
            raise LoginCancelled
        return line.rstrip("\r\n")


@contextmanager
def _without_echo() -> Generator[None]:
    """What is typed is not shown."""
    try:
        import termios
    except ImportError:
        yield
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    silent = [*before]
    silent[3] &= ~termios.ECHO
    termios.tcsetattr(descriptor, termios.TCSADRAIN, silent)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
