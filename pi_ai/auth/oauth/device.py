"""Waiting for somebody to enter a code elsewhere (RFC 8628; auth A84, reliability F94)."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeAlias, TypeVar, cast

import anyio
import attrs

from pi_ai.auth.oauth.config import settled
from pi_ai.errors import PiAIError, failure

T = TypeVar("T")

DEFAULT_INTERVAL_S = 5.0
SLOWER_S = 5.0
MAX_LOSSES = 3
"""How many polls in a row may get no answer."""


@attrs.frozen
class Pending:
    """Nobody has entered the code yet."""


@attrs.frozen
class SlowDown:
    """The server wants to be asked less often: every ``interval_seconds`` from now on; None: 5 s more."""

    interval_seconds: float | None = None


@attrs.frozen
class Complete(Generic[T]):
    """It is done."""

    value: T = attrs.field(repr=False)


@attrs.frozen
class Failed:
    """It will not be done."""

    message: str


Poll: TypeAlias = Pending | SlowDown | Complete[T] | Failed


async def poll_device_code(
    poll: Callable[[], Poll[T] | Awaitable[Poll[T]]],
    interval_seconds: float | None = None,
    expires_in_seconds: float | None = None,
    wait_before_first_poll: bool = False,
) -> T:
    """Ask until the code was entered.

    :param poll: asks once.
    :param interval_seconds: at least 1 s; default 5 s. ``expires_in_seconds``: default: for ever.
    :raises PiAIError: kind ``oauth``: it was refused, the time is over, or four polls in a row got no answer.
    """
    interval = max(1.0, DEFAULT_INTERVAL_S if interval_seconds is None else interval_seconds)
    ends_at = anyio.current_time() + (math.inf if expires_in_seconds is None else expires_in_seconds)
    slowed, losses, wait = False, 0, wait_before_first_poll
    while True:
        if wait:
            await anyio.sleep(max(0.0, min(interval, ends_at - anyio.current_time())))
        if anyio.current_time() >= ends_at:
            raise failure("oauth", _SLOWED if slowed else _TIMED_OUT, phase="auth")
        wait = True
        try:
            result: Any = await settled(poll())
            losses = 0
        except (PiAIError, OSError) as error:
            if isinstance(error, PiAIError) and not error.info.retryable:
                raise
            losses += 1
            if losses > MAX_LOSSES:
                raise
            continue
        if isinstance(result, Complete):
            return cast("Complete[T]", result).value
        if isinstance(result, Failed):
            raise failure("oauth", result.message, phase="auth")
        if isinstance(result, SlowDown):
            slowed, wanted = True, result.interval_seconds
            interval = max(1.0, wanted) if wanted and wanted > 0 else interval + SLOWER_S


_TIMED_OUT = "Device flow timed out"
_SLOWED = (
    f"{_TIMED_OUT} after one or more slow_down responses. The clock of a virtual machine that was suspended may be"
    " wrong; set it, and log in again."
)
