"""A login as data and functions, and what its functions may return (auth A45, A47, A71, R80-R84)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, cast

import attrs

from pi_ai.auth.base import Auth
from pi_ai.auth.credentials import Credential
from pi_ai.errors import failure

SECONDS_BELOW = 10**11
"""A time below it is none in milliseconds, but very likely one in seconds (D-6)."""


@attrs.frozen(kw_only=True)
class OAuthConfig:
    """A login of a provider. The provider's name is its id (R80).

    :ivar name: what people see in a list of logins.
    :ivar login: ``login(callbacks) -> credentials``, a mapping with ``access``, ``refresh`` and ``expires`` (ms).
    :ivar refresh_token: ``refresh_token(credentials) -> credentials``, before they expire.
    :ivar get_api_key: ``get_api_key(credentials) -> str``, called for each request.
    :ivar modify_models: ``modify_models(models, credentials) -> models``, once somebody is logged in.
    :ivar request_auth: ``request_auth(credentials) -> Auth``, instead of ``get_api_key``, where a login says more
        than the key.
    :ivar is_subscription: requests are paid by a subscription, not by the token.

    The functions may be sync or async; ``modify_models`` and ``request_auth`` are sync.
    """

    name: str = ""
    login: Callable[..., Any] | None = None
    refresh_token: Callable[..., Any] | None = None
    get_api_key: Callable[..., Any] | None = None
    modify_models: Callable[..., Any] | None = None
    request_auth: Callable[[Credential], Auth] | None = None
    is_subscription: bool = False


async def settled(value: Any) -> Any:
    """What a function that may be async returned."""
    return await value if inspect.isawaitable(value) else value


def returned_credential(result: object, what: str, before: Credential | None = None) -> Credential:
    """The credential that a login or a refresh returned (A45, A71).

    :param result: a mapping, or an object with these attributes.
    :param what: which call returned it: ``login of x``.
    :param before: the credential that was refreshed; its ``refresh`` stays where none was returned (R83).
    :raises PiAIError: kind ``oauth``: members lack, or ``expires`` is no time in milliseconds.
    """
    members = _members(result)
    if before is not None and not members.get("refresh"):
        members["refresh"] = before.refresh
    members["expires"] = _milliseconds(members.get("expires"), what)
    credential = Credential({**members, "type": "oauth"})
    if not credential.is_usable or not credential.access:
        names = ", ".join(name for name in ("access", "refresh") if not isinstance(members.get(name), str))
        text = f"{what} returned incomplete credentials"
        raise failure("oauth", f"{text}: {names or 'access'} must be a str.", text=text, phase="auth")
    return credential


def _members(result: object) -> dict[str, Any]:
    if isinstance(result, Mapping):
        return dict(cast("Mapping[str, Any]", result))
    if attrs.has(type(result)):
        return attrs.asdict(cast("Any", result), recurse=False)
    return dict(getattr(result, "__dict__", {}))


def _milliseconds(value: object, what: str) -> int:
    from datetime import datetime

    if isinstance(value, datetime):
        return int(value.timestamp() * 1000)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or value != value:
        text = f"{what} returned incomplete credentials"
        kinds = "expires must be an int (milliseconds since 1970) or a datetime"
        raise failure("oauth", f"{text}: {kinds}, not {type(value).__name__}.", text=text, phase="auth")
    if abs(value) < SECONDS_BELOW:
        text = f"{what} returned an expires that looks like seconds; milliseconds are expected"
        raise failure("oauth", f"{text}. Multiply it by 1000.", text=text, phase="auth")
    return int(min(value, 2**63))
