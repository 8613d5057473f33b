"""Sending again: whether, when, and how often (D10, reliability section 4). The only importer of tenacity."""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio
import attrs

from pi_ai.errors import ErrorInfo, PiAIError

T = TypeVar("T")


class RetryBudget:
    """Keeps an outage from tripling the load: a client may retry 10 % of its requests, ten in a burst (section 4.3)."""

    def __init__(self) -> None:
        self._tokens = 10.0

    def earn(self) -> None:
        """A request was made."""
        self._tokens = min(10.0, self._tokens + 0.1)

    def spend(self) -> bool:
        """Whether one more retry may be made now."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """When a failed attempt is made again, and after how long (D10, reliability section 4).

    :ivar max_delay_s: longest wait that a server may ask for; infinite: no cap.
    :ivar unknown_delivery: also send again what was sent whole and got no byte of an answer.
    :ivar random: in [0, 1); given by tests.
    """

    max_retries: int = 2
    max_delay_s: float = 60.0
    unknown_delivery: bool = False
    budget: RetryBudget | None = None
    random: Callable[[], float] = random.random

    async def run(
        self,
        attempt: Callable[[], Awaitable[T]],
        failed: Callable[[PiAIError, float], None],
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> T:
        """Make attempts until one succeeds or none may follow.

        :param failed: told of each failed attempt that is followed by another: its error, and the wait in seconds.
        :param sleep: waits that long; what it raises ends the call.
        :raises PiAIError: of the last attempt; above ``max_delay_s`` with the server's wish in its text (core R4).
        """
        import tenacity  # 20 ms, so on first use

        if self.budget is not None:
            self.budget.earn()
        engine = tenacity.AsyncRetrying(
            sleep=sleep,
            wait=self._wait,
            retry=self._may_follow,
            before_sleep=lambda state: failed(*_outcome(state)),
        )

        async def once() -> T:  # tenacity awaits only what it recognises as a coroutine function
            return await attempt()

        try:
            return await engine(once)
        except PiAIError as error:
            raise self._explained(error) from error.__cause__

    def _wait(self, state: Any) -> float:
        """At least what the server asked for; else full jitter from 0.5 s to 8 s."""
        error = state.outcome.exception()
        jitter = self.random() * min(8.0, 0.5 * 2 ** (state.attempt_number - 1))
        return max(jitter, error.info.retry_after or 0.0)

    def _may_follow(self, state: Any) -> bool:
        error = state.outcome.exception()
        if state.attempt_number > self.max_retries or not isinstance(error, PiAIError) or not error.info.retryable:
            return False
        info = error.info
        if _unknown_delivery(info) and not self.unknown_delivery:
            return False
        if (info.retry_after or 0.0) > self.max_delay_s:
            return False
        return self.budget is None or self.budget.spend()

    def _explained(self, error: PiAIError) -> PiAIError:
        wish = error.info.retry_after
        if wish is None or wish <= self.max_delay_s or not error.info.retryable:
            return error
        seconds, cap = math.ceil(wish), math.ceil(self.max_delay_s)
        text = f"Server requested {seconds}s retry delay (max: {cap}s). {error.text}"
        return error.info.exception(text)


def _outcome(state: Any) -> tuple[PiAIError, float]:
    return state.outcome.exception(), state.next_action.sleep


def _unknown_delivery(info: ErrorInfo) -> bool:
    """Sent whole, and not one byte came back: it may have run, and been billed (section 4.2)."""
    return info.status is None and info.phase == "headers"
