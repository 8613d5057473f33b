"""Proof keys, states, and what people paste (auth A80, A83)."""

from __future__ import annotations

import hmac
import secrets
from base64 import urlsafe_b64encode
from hashlib import sha256
from urllib.parse import parse_qsl, urlsplit

import attrs

from pi_ai.auth.credentials import Secret
from pi_ai.errors import failure


@attrs.frozen
class Pkce:
    """A proof key (RFC 7636): the challenge goes first, the verifier comes after.

    :ivar verifier: 43 characters. ``challenge``: of method ``S256``.
    """

    verifier: str = attrs.field(repr=False)
    challenge: str
    method: str = "S256"

    @property
    def secret(self) -> Secret:
        """The verifier, as it is kept."""
        return Secret(self.verifier)


def generate_pkce() -> Pkce:
    """A new proof key."""
    verifier = _encoded(secrets.token_bytes(32))
    return Pkce(verifier, _encoded(sha256(verifier.encode()).digest()))


def generate_state() -> str:
    """A new state: 32 random bytes, 43 characters (X12)."""
    return _encoded(secrets.token_bytes(32))


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def is_same(given: str, expected: str) -> bool:
    """Whether two texts are equal, in constant time (X32)."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode("utf-8", "replace"))


def parse_authorization_input(text: str) -> tuple[str | None, str | None]:
    """Code and state in what was pasted: a URL, ``code#state``, a query string, or the code itself (A83)."""
    text = text.strip()
    if "://" in text:
        return _query(_parts(text))
    if "#" in text:
        code, _, state = text.partition("#")
        return code or None, state or None
    if "code=" in text:
        return _query(text.removeprefix("?"))
    return text or None, None


def _parts(url: str) -> str:
    try:
        return urlsplit(url).query
    except ValueError:
        return ""


def _query(query: str) -> tuple[str | None, str | None]:
    values = dict(reversed(parse_qsl(query)))  # the first one of a name
    return values.get("code"), values.get("state")


def pasted_code(text: str, state: str | None) -> str:
    """The code in what was pasted.

    :param state: what a state in it has to be.
    :raises PiAIError: kind ``oauth``: it is another one, or there is no code.
    """
    code, found = parse_authorization_input(text)
    if found is not None and state is not None and not is_same(found, state):
        raise failure("oauth", "OAuth state mismatch", phase="auth")
    if not code:
        raise failure("oauth", "Missing authorization code", phase="auth")
    return code
