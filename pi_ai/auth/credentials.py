"""Secrets, and the credentials that hold them: for whoever asks for them, shown to nobody (auth A1-A5, X1, X2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any, Literal, NoReturn, Self, TypeAlias

import attrs

CredentialType: TypeAlias = Literal["api_key", "oauth"]

NEVER = 9007199254740991
"""``expires`` of what does not expire: the largest integer that JavaScript counts exactly."""


class Secret:
    """A text that only :meth:`reveal` gives. No ``repr``, ``format``, copy, pickle or comparison shows it (X1, X2)."""

    __slots__ = ("reveal",)

    def __init__(self, text: str) -> None:
        self.reveal = lambda: text

    def __repr__(self) -> str:
        return "Secret(…)"

    def __format__(self, _: str) -> str:
        return repr(self)

    def __bool__(self) -> bool:
        return bool(self.reveal())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        from hmac import compare_digest

        return compare_digest(self.reveal().encode(), other.reveal().encode())

    __hash__ = None  # pyright: ignore[reportAssignmentType] - a hash would tell equal secrets apart from others

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled; reveal() it where it is to be used")


class Credential(Mapping[str, Any]):
    """What is stored under a provider's id: a mapping with the members of the file, in pi's spelling.

    ``credential["access"]`` and ``dict(credential)`` give what is in it, its ``repr`` the names only. It cannot be
    changed: ``credential.replaced(access=…)`` is another one.
    """

    __slots__ = ("_members",)

    def __init__(self, members: Mapping[str, Any]) -> None:
        self._members = deepcopy(dict(members))

    @classmethod
    def api_key(cls, key: str, env: Mapping[str, str] | None = None) -> Credential:
        """A credential of type ``api_key``.

        :param key: a config value: ``$NAME`` and ``!command`` have their meaning; ``config_values.literal`` escapes.
        :param env: variables for this provider; they win over the process environment (A3).
        """
        return cls({"type": "api_key", "key": key, **({"env": dict(env)} if env else {})})

    def __getitem__(self, name: str) -> Any:
        return self._members[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __repr__(self) -> str:
        kind = self.type if self.type in ("api_key", "oauth") else "…"
        return f"<Credential {kind}: {', '.join(sorted(name for name in self if name != 'type'))}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Credential is not pickled; store it, or pass dict(credential)")

    def __deepcopy__(self, _: object) -> Self:
        return self  # it cannot be changed

    def replaced(self, **members: Any) -> Credential:
        """Another credential, with some members changed; None takes one away."""
        merged = {**self._members, **members}
        return Credential({name: value for name, value in merged.items() if value is not None})

    @property
    def type(self) -> str:
        """``api_key``, ``oauth``, or what another program calls its own."""
        return str(self._members.get("type", ""))

    @property
    def key(self) -> str | None:
        """The key of an ``api_key`` credential; None: it has none."""
        key = self._members.get("key")
        return key if isinstance(key, str) and key.strip() else None

    @property
    def env(self) -> Mapping[str, str]:
        """The variables of an ``api_key`` credential."""
        return self._members.get("env") or {}

    @property
    def access(self) -> str:
        """The access token of an ``oauth`` credential."""
        return self._members["access"]

    @property
    def refresh(self) -> str:
        """The refresh token of an ``oauth`` credential; ``""``: it has none."""
        return self._members["refresh"]

    @property
    def expires(self) -> int:
        """When the access token expires, in milliseconds since the epoch."""
        return self._members["expires"]

    @property
    def is_usable(self) -> bool:
        """Whether its members have the right types (A4). What is unknown here is nobody's mistake."""
        wanted = _MEMBERS.get(self.type, {})
        return all(is_right(self._members.get(name)) for name, is_right in wanted.items())


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_key(value: object) -> bool:
    return value is None or isinstance(value, str)


def _is_env(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and all(isinstance(text, str) for text in value.values()))  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType, reportUnknownArgumentType] - JSON


_MEMBERS: dict[str, dict[str, Any]] = {
    "api_key": {"key": _is_key, "env": _is_env},
    "oauth": {"access": _is_text, "refresh": _is_text, "expires": _is_number},
}


@attrs.frozen
class CredentialInfo:
    """That there is a credential, and of which type; nothing of it (A32)."""

    provider_id: str
    type: str
