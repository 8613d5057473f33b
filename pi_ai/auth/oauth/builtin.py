"""Which providers have a login without further ado: those that are open to any application (auth section 6, D14).

The other vendors' flows are classes that take the client id of your own application::

    from pi_ai.oauth import XaiFlow

    registry.register_provider("xai", {"oauth": XaiFlow(client_id="…").config()})
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from pi_ai.auth.oauth.config import OAuthConfig

IDS = ("openai", "openrouter", "radius")


def _openai() -> OAuthConfig:
    from pi_ai.auth.oauth.openai import OpenAIFlow

    return OpenAIFlow().config()


def _openrouter() -> OAuthConfig:
    from pi_ai.auth.oauth.openrouter import OpenRouterFlow

    return OpenRouterFlow().config()


def _radius() -> OAuthConfig:
    from pi_ai.auth.oauth.radius import RadiusFlow

    return RadiusFlow().config()


_FLOWS: dict[str, Callable[[], OAuthConfig]] = dict(zip(IDS, (_openai, _openrouter, _radius), strict=True))


@cache
def builtin_login(provider_id: str) -> OAuthConfig | None:
    """The login of a provider of the catalogue; None: it has none that any application may use."""
    make = _FLOWS.get(provider_id)
    return make() if make is not None else None
