"""What authenticates a request, and what is known of that without making one (auth section 3)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal, TypeAlias

import attrs

from pi_ai.auth.credentials import Credential

KEY_HEADERS = frozenset({"api-key", "authorization", "cf-aig-authorization", "x-api-key", "x-goog-api-key"})
"""Headers that stand for a key, in lower case."""

AuthSource: TypeAlias = Literal["runtime", "stored", "configured_command", "environment", "configured_key", "fallback"]


def _names(mapping: Mapping[str, object]) -> str:
    return f"<{', '.join(mapping)}>"


@attrs.frozen(kw_only=True)
class Auth:
    """What authenticates a request, and what follows from it. Without a key: something that is none does.

    :ivar headers: that it needs, below all that are configured (R59, level 3).
    :ivar base_url: where it leads to; wins over the model's (R61).
    :ivar env: variables that belong to it (A3).
    :ivar login: the credential of a login that it was made of; None: there was none.
    :ivar is_new: that login was refreshed just now.
    """

    api_key: str | None = attrs.field(default=None, repr=False)
    headers: Mapping[str, str | None] = attrs.field(factory=dict[str, "str | None"], repr=_names)
    base_url: str | None = None
    env: Mapping[str, str] = attrs.field(factory=dict[str, str], repr=_names)
    login: Credential | None = None
    is_new: bool = False

    def yielding(self, given: Mapping[str, str | None]) -> Auth:
        """What is left of it for a request that brings a key in a header of its own: no other one beside it."""
        if not holds_key(given):
            return self
        return attrs.evolve(
            self, headers={name: v for name, v in self.headers.items() if name.lower() not in KEY_HEADERS}
        )


def holds_key(headers: Mapping[str, str | None], names: Collection[str] = KEY_HEADERS) -> bool:
    """Whether one of the headers stands for a key. ``names``: those that may, in lower case."""
    return any(name.lower() in names and value and value.strip() for name, value in headers.items())


@attrs.frozen(kw_only=True)
class AuthStatus:
    """Whether a provider can be used, and how it is known, without anything secret (R103).

    :ivar label: for people: names of variables, and the like.
    """

    configured: bool
    source: AuthSource | None = None
    label: str | None = None
