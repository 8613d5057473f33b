"""What the tests of logins share: a provider, a login whose server is scripted, a user interface that is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import anyio
import attrs

from pi_ai.auth.base import Auth, AuthStatus
from pi_ai.auth.config_values import ConfigValues
from pi_ai.auth.oauth.config import OAuthConfig
from pi_ai.auth.oauth.interaction import AuthEvent, AuthPrompt, LoginCancelled

CANARY = "canary-7f3a-secret"


def ms(seconds_from_now: float) -> int:
    return int((time.time() + seconds_from_now) * 1000)


def oauth(access: str = "a0", refresh: str = "r0", expires_in: float = 3600, **more: Any) -> dict[str, Any]:
    return {"type": "oauth", "access": access, "refresh": refresh, "expires": ms(expires_in), **more}


@attrs.define
class Subject:
    """A provider, as far as authentication is concerned."""

    id: str = "x"
    name: str = "Example"
    oauth: OAuthConfig | None = None
    takes_api_key: bool = True
    configured: str | None = None
    ambient: str | None = None

    def auth_status(self, env: Mapping[str, str] | None = None) -> AuthStatus:
        if self.configured is not None:
            return AuthStatus(configured=True, source="configured_key")
        return AuthStatus(configured=self.ambient is not None, source="environment" if self.ambient else None)

    async def authenticate(self, env: Mapping[str, str] | None = None) -> Auth | None:
        key = self.configured or self.ambient
        return None if key is None else Auth(api_key=await ConfigValues().resolve(key, "API key", env))


class Flow:
    """A login that counts: tokens a1, a2, … and single-use refresh tokens r1, r2, …"""

    def __init__(self, expires_in: float = 3600) -> None:
        self.expires_in = expires_in
        self.refreshed: list[str] = []
        self.gate: anyio.Event | None = None
        self.begun = anyio.Event()
        self.error: Exception | None = None
        self.result: Any = None

    async def login(self, callbacks: Any) -> Any:
        return self.result or oauth("a1", "r1", self.expires_in)

    async def refresh(self, credential: Any) -> Any:
        self.refreshed.append(credential["refresh"])
        number = len(self.refreshed)
        self.begun.set()
        if self.gate is not None:
            await self.gate.wait()
        await anyio.sleep(0)
        if self.error is not None:
            raise self.error
        return self.result or oauth(f"a{number}", f"r{number}", self.expires_in)

    def config(self, **more: Any) -> OAuthConfig:
        return OAuthConfig(
            **{
                "name": "Example login",
                "login": self.login,
                "refresh_token": self.refresh,
                "get_api_key": lambda credential: credential["access"],
                **more,
            }
        )


class Person:
    """A user interface: answers in order, and what was shown."""

    def __init__(self, *answers: str | Exception | None) -> None:
        self.answers = list(answers)
        self.prompts: list[AuthPrompt] = []
        self.events: list[AuthEvent] = []
        self.seen = anyio.Event()
        self.dismissed = 0

    async def prompt(self, prompt: AuthPrompt) -> str:
        self.prompts.append(prompt)
        if not self.answers:
            try:
                await anyio.sleep_forever()
            finally:
                self.dismissed += 1
        answer = self.answers.pop(0)
        if answer is None:
            raise LoginCancelled
        if isinstance(answer, Exception):
            raise answer
        return answer

    def notify(self, event: AuthEvent) -> None:
        self.events.append(event)
        self.seen.set()


def form(body: bytes) -> dict[str, str]:
    return dict(parse_qsl(body.decode(), keep_blank_values=True))
