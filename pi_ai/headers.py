"""Request headers: layers over layers, and what they say about the client (core section 18).

Names are one whatever their case (H1, R59): a higher layer replaces a lower one's header, in its own spelling, and
None removes it. What cannot stand in a header is refused here, without quoting it: it may be a secret (X8).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TypeVar

from pi_ai._version import __version__
from pi_ai.errors import PiAIError, failure
from pi_ai.types import Attribution, Identity, ImageContent, Message, Model, ToolResultMessage, UserMessage
from pi_ai.urls import host_of, is_host

PRODUCT = "pi-ai-python"

Headers = Mapping[str, str | None]
ValueT = TypeVar("ValueT")

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FORBIDDEN = re.compile(r"[^\t\x20-\x7e\x80-\xff]")


class _Unshown(dict[str, ValueT]):
    """Headers whose repr has no values: it stands in logs, and in tracebacks that show locals (X1, X2)."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{name!r}: …" for name in self) + "}"


def layer_headers(*layers: Headers | None) -> dict[str, str | None]:
    """Headers from low to high; a removed one stays as None, so that lower layers can still be put below.

    :raises PiAIError: kind ``config``: a name or a value that no header can have.
    """
    merged: dict[str, tuple[str, str | None]] = {}
    for layer in layers:
        for name, value in (layer or {}).items():
            _check(name, value)
            merged[name.lower()] = name, value
    return _Unshown(merged.values())


def merge_headers(*layers: Headers | None) -> dict[str, str]:
    """The headers to send, from low to high layers.

    :raises PiAIError: as :func:`layer_headers`.
    """
    return _Unshown((name, value) for name, value in layer_headers(*layers).items() if value is not None)


def _check(name: str, value: object) -> None:
    if not _NAME.fullmatch(name):
        raise _refused(name[:60], "its name", "a header's name is letters, digits and hyphens")
    if value is None:
        return
    if not isinstance(value, str):
        raise _refused(name, "its value", f"it must be a str, or None to remove the header, not {type(value).__name__}")
    if found := _FORBIDDEN.search(value):
        character = f"U+{ord(found.group()):04X} at position {found.start()}"
        raise _refused(name, "its value", f"it holds {character}; a key that was read from a file may need .strip()")


def _refused(name: str, part: str, reason: str) -> PiAIError:
    return failure("config", f"Header {name!r} cannot be sent because of {part}: {reason}", phase="auth")


# ── who is asking ────────────────────────────────────────────────────────────────────────────────────────────


def identity_headers(model: Model, identity: Identity, session_id: str | None = None) -> dict[str, str | None]:
    """The lowest layer of every request: the user agent, and attribution where it was asked for (H2, H3)."""
    headers: dict[str, str | None] = {"User-Agent": user_agent(identity)}
    if (attribution := identity.attribution) is not None:
        host = host_of(model.base_url)
        for providers, domains, names in _ATTRIBUTION:
            if model.provider in providers or is_host(host, domains):
                headers |= {name: value for name, field in names.items() if (value := field(attribution, session_id))}
    return headers


def user_agent(identity: Identity) -> str:
    """The ``User-Agent`` of an identity: detailed, short, or the text that it gives (H2)."""
    match identity.user_agent:
        case "detailed":
            return f"{PRODUCT}/{identity.version or __version__} ({_platform()})"
        case "short":
            return PRODUCT
        case text:
            return text


@cache
def _platform() -> str:
    import platform

    return f"{platform.system().lower()}; python/{platform.python_version()}; {platform.machine()}"


def _name(attribution: Attribution, _: str | None) -> str:
    return attribution.name


def _capitalised(attribution: Attribution, _: str | None) -> str:
    return attribution.name[:1].upper() + attribution.name[1:]


def _url(attribution: Attribution, _: str | None) -> str:
    return attribution.url


def _categories(attribution: Attribution, _: str | None) -> str:
    return ",".join(attribution.categories)


def _session(_: Attribution, session_id: str | None) -> str | None:
    return session_id


_ATTRIBUTION = (
    (
        {"openrouter"},
        ("openrouter.ai",),
        {"HTTP-Referer": _url, "X-OpenRouter-Title": _name, "X-OpenRouter-Categories": _categories},
    ),
    ({"nvidia"}, ("integrate.api.nvidia.com",), {"X-BILLING-INVOKE-ORIGIN": _capitalised}),
    (
        {"opencode", "opencode-go"},
        ("opencode.ai",),
        {"x-opencode-client": _name, "x-opencode-session": _session},
    ),
)
"""Who takes attribution: provider ids, hosts, and which header tells what."""


def copilot_headers(model: Model, messages: Sequence[Message]) -> dict[str, str | None]:
    """What GitHub Copilot wants to know about a conversation; nothing for other providers (H4)."""
    if model.provider != "github-copilot" and not is_host(host_of(model.base_url), ("githubcopilot.com",)):
        return {}
    by_user = not messages or isinstance(messages[-1], UserMessage)
    headers: dict[str, str | None] = {
        "X-Initiator": "user" if by_user else "agent",
        "Openai-Intent": "conversation-edits",
    }
    if any(_has_image(message) for message in messages):
        headers["Copilot-Vision-Request"] = "true"
    return headers


def _has_image(message: Message) -> bool:
    return isinstance(message, (UserMessage, ToolResultMessage)) and any(
        isinstance(block, ImageContent) for block in message.content
    )
