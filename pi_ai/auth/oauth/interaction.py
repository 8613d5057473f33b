"""How a login talks to people: prompts and events of a user interface, and pi's callbacks over it (auth A66-A70)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, cast
from urllib.parse import urlsplit, urlunsplit

import attrs

from pi_ai.errors import Aborted, ErrorInfo, failure
from pi_ai.serialization import camel

T = TypeVar("T")

_log = logging.getLogger("pi_ai.auth")


class LoginCancelled(Aborted):
    """The user has cancelled a login."""

    def __init__(self) -> None:
        super().__init__(ErrorInfo(kind="aborted", message="Login cancelled", phase="auth"))


# ── what a user interface gets ───────────────────────────────────────────────────────────────────────────────


@attrs.frozen
class SelectOption:
    """One choice of a ``select`` prompt; its ``id`` is the answer."""

    id: str
    label: str = ""
    description: str | None = None


@attrs.frozen
class AuthPrompt:
    """A question (A66).

    :ivar kind: ``text``, ``secret`` (not to be shown), ``manual_code`` (a code or URL from a browser) or ``select``.
    """

    kind: Literal["text", "secret", "manual_code", "select"]
    message: str
    placeholder: str | None = None
    options: Sequence[SelectOption] = ()


@attrs.frozen(kw_only=True)
class AuthUrl:
    """A page to open in a browser."""

    url: str
    instructions: str | None = None


@attrs.frozen(kw_only=True)
class DeviceCode:
    """A code to enter on a page, on any device."""

    user_code: str
    verification_uri: str
    interval_seconds: float | None = None
    expires_in_seconds: float | None = None
    open_browser_on_confirm: bool = True
    copy_code_on_confirm: bool = True


@attrs.frozen
class Progress:
    """What goes on."""

    message: str


@attrs.frozen
class Info:
    """Something to know, with links."""

    message: str
    links: Sequence[str] = ()


AuthEvent: TypeAlias = AuthUrl | DeviceCode | Progress | Info


class AuthInteraction(Protocol):
    """A user interface for logins."""

    async def prompt(self, prompt: AuthPrompt) -> str:
        """Ask; when cancelled, the question disappears.

        :raises LoginCancelled: the user does not want to answer.
        """
        ...

    def notify(self, event: AuthEvent) -> None:
        """Show something, without waiting."""
        ...


def notify(interaction: AuthInteraction, event: AuthEvent) -> None:
    """Show an event; a user interface that fails does not end the login (A67).

    :raises PiAIError: kind ``oauth``: its URL is none for a browser (A68).
    """
    if isinstance(event, AuthUrl):
        event = attrs.evolve(event, url=web_url(event.url))
    elif isinstance(event, DeviceCode):
        event = attrs.evolve(event, verification_uri=web_url(event.verification_uri))
    try:
        interaction.notify(event)
    except Exception as error:  # noqa: BLE001 - a user interface of somebody's
        _log.warning("The login's user interface failed: %s", type(error).__name__)


def web_url(url: str) -> str:
    """A URL in its normal form, if it is one that may be shown and opened (A68).

    :raises PiAIError: kind ``oauth``: it is not http or https, names a user, or holds control characters.
    """
    try:
        parts = urlsplit(url.strip())
        fine = parts.scheme in ("http", "https") and parts.hostname and parts.username is None
        if fine and url.strip().isprintable() and " " not in url.strip() and "\\" not in url:
            netloc = parts.netloc.lower()
            return urlunsplit((parts.scheme, netloc, parts.path or "/", parts.query, parts.fragment))
    except ValueError:
        pass
    raise failure("oauth", "The login gave a URL that is none for a browser; it must be http or https.", phase="auth")


# ── what a flow gets ─────────────────────────────────────────────────────────────────────────────────────────


@attrs.frozen(kw_only=True)
class _TextQuestion:
    message: str
    placeholder: str | None = None
    allow_empty: bool = False
    secret: bool = False


@attrs.frozen(kw_only=True)
class _Choice:
    message: str
    options: Sequence[Any] = ()


class OAuthLoginCallbacks:
    """What ``oauth.login(callbacks)`` gets (A70).

    Arguments are attrs objects, mappings in either spelling, or keywords.
    """

    def __init__(self, interaction: AuthInteraction) -> None:
        self.interaction = interaction

    def on_auth(self, info: object = None, **fields: Any) -> None:
        """Open a page: ``url``, ``instructions``."""
        notify(self.interaction, _read(AuthUrl, info, fields))

    def on_device_code(self, info: object = None, **fields: Any) -> None:
        """Show a code: ``user_code``, ``verification_uri`` and more, see :class:`DeviceCode`."""
        notify(self.interaction, _read(DeviceCode, info, fields))

    def on_progress(self, message: str) -> None:
        """Say what goes on."""
        notify(self.interaction, Progress(message))

    async def on_prompt(self, prompt: object = None, **fields: Any) -> str:
        """Ask for a text: ``message``, ``placeholder``, ``allow_empty``, ``secret``."""
        question = _read(_TextQuestion, prompt, fields)
        kind: Literal["secret", "text"] = "secret" if question.secret else "text"
        while True:
            answer = await self.interaction.prompt(AuthPrompt(kind, question.message, question.placeholder))
            if answer.strip() or question.allow_empty:
                return answer

    async def on_manual_code_input(self) -> str:
        """Ask for the code, or the URL, that the browser shows at the end."""
        message = "Paste the code, or the URL that the browser shows at the end"
        return await self.interaction.prompt(AuthPrompt("manual_code", message))

    async def on_select(self, prompt: object = None, **fields: Any) -> str | None:
        """Let choose: ``message``, ``options`` (``id``, ``label``); None: dismissed."""
        choice = _read(_Choice, prompt, fields)
        options = tuple(_read(SelectOption, option, {}) for option in choice.options)
        try:
            return await self.interaction.prompt(AuthPrompt("select", choice.message, options=options))
        except LoginCancelled:
            return None


def _read(cls: Callable[..., T], given: object, fields: Mapping[str, Any]) -> T:
    names = {key: field.name for field in attrs.fields(cast("Any", cls)) for key in (field.name, camel(field.name))}
    if isinstance(given, Mapping):
        found = dict(cast("Mapping[str, Any]", given))
    else:
        found = {name: getattr(given, name) for name in names if hasattr(given, name)}
    return cls(**{names[name]: value for name, value in {**found, **fields}.items() if name in names})
