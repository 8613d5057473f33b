"""What the requests of all APIs have in common: where they go, the key, and settings from the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import attrs

from pi_ai.auth.base import holds_key
from pi_ai.auth.env import way_to_a_key
from pi_ai.errors import PiAIError, failure
from pi_ai.headers import layer_headers
from pi_ai.transport import CREDENTIAL_HEADERS
from pi_ai.types import CacheRetention, JSONObject, Model, RequestOptions, StreamOptions
from pi_ai.urls import host_of, is_loopback

OptionsT = TypeVar("OptionsT", bound=RequestOptions)

KEY_HEADERS = frozenset({"authorization", "cf-aig-authorization"})
"""Headers that stand for a key when the caller gives them."""

SEE_IMAGE = "(see attached image)"
"""What stands in a tool result for its only content, an image."""
NO_OUTPUT = "(no tool output)"
"""What stands in a tool result that says nothing, where the API refuses an empty one."""

_PLACEHOLDER = re.compile(r"\{([A-Z][A-Z0-9_]*)\}")
_CONTROL = re.compile(r"[\x00-\x20\x7f]")


def lowered(options_type: type[OptionsT], options: StreamOptions, **own: Any) -> OptionsT:
    """Portable options as an API's own: what all APIs share is copied (O1).

    :param own: the API's own options, and what replaces shared ones.
    """
    shared = {field.name: getattr(options, field.name) for field in attrs.fields(RequestOptions)}
    return options_type(**{**shared, **own})


def environment(name: str, env: Mapping[str, str] | None) -> str | None:
    """A setting: from the call's own ``env``, then from the process; empty is unset (core section 17)."""
    return (env or {}).get(name) or os.environ.get(name) or None


def cache_retention(options: RequestOptions) -> CacheRetention:
    """How long the prompt shall be cached: the option, else ``PI_CACHE_RETENTION=long``, else ``short``."""
    if options.cache_retention is not None:
        return options.cache_retention
    return "long" if environment("PI_CACHE_RETENTION", options.env) == "long" else "short"


def session_id(options: RequestOptions) -> str | None:
    """The session, unless nothing of it shall be kept."""
    return options.session_id if cache_retention(options) != "none" else None


def cache_mark(retention: CacheRetention, *, supports_long: bool) -> JSONObject:
    """Claude's ``cache_control``, which ends a cached prefix; not for retention ``none``."""
    return {"type": "ephemeral", "ttl": "1h"} if retention == "long" and supports_long else {"type": "ephemeral"}


def endpoint(model: Model, path: str, env: Mapping[str, str] | None) -> str:
    """The URL of a request: the model's base URL, its ``{PLACEHOLDERS}`` filled from the environment, and a path.

    :raises PiAIError: kind ``config``: a placeholder has no value, or the base URL is none (X7).
    """

    def fill(found: re.Match[str]) -> str:
        value = environment(found[1], env)
        if value is None:
            raise _wrong_url(model, f"needs {found[1]}: set that environment variable, or pass env={{{found[1]!r}: …}}")
        return quote(value, safe="")

    url = _PLACEHOLDER.sub(fill, model.base_url)
    _check_url(model, url)
    return url.rstrip("/") + path


def _check_url(model: Model, url: str) -> None:
    if not url:
        raise _wrong_url(model, "is empty: give the model or its provider one")
    if not url.lower().startswith(("http://", "https://")) or not host_of(url):
        raise _wrong_url(model, "must be http://… or https://… with a host")
    if "@" in urlsplit(url).netloc:
        raise _wrong_url(model, "must not hold a user or a password: use api_key or headers")
    if _CONTROL.search(url):
        raise _wrong_url(model, "must not hold blanks or control characters")


def _wrong_url(model: Model, reason: str) -> PiAIError:
    message = f"The base URL of model {model.provider}/{model.id} {reason}"
    return failure("config", message, provider=model.provider, api=model.api, model=model.id)


def credential(model: Model, options: RequestOptions, key_headers: Collection[str] = KEY_HEADERS) -> str | None:
    """The key; None when the caller brings a header of its own, or when a server on this machine needs none.

    :param key_headers: those that stand for a key, in lower case.
    :raises PiAIError: kind ``auth``: there is no key (E13).
    """
    if options.api_key:
        return options.api_key
    if holds_key(layer_headers(model.headers, options.headers), key_headers) or is_loopback(host_of(model.base_url)):
        return None
    text = f"No API key for provider: {model.provider}"
    hint = f"{text}. {way_to_a_key(model.provider)}"
    raise failure("auth", hint, text=text, provider=model.provider, api=model.api, model=model.id, phase="auth")


def bearer(model: Model, options: RequestOptions, header: str = "Authorization") -> dict[str, str | None]:
    """The header with the key as a bearer token, where one is needed.

    :raises PiAIError: as :func:`credential`.
    """
    key = credential(model, options)
    return {header: f"Bearer {key}"} if key else {}


def secrets_of(model: Model, options: RequestOptions) -> list[str]:
    """What of a request must not be quoted, should its provider repeat it: the key, and credentials in headers (X1)."""
    given = layer_headers(model.headers, options.headers)
    values = [value for name, value in given.items() if value and name.lower() in CREDENTIAL_HEADERS]
    tokens = [value.partition(" ")[2] for value in values]  # after "Bearer"
    return [secret for secret in (options.api_key, *values, *tokens) if secret]
