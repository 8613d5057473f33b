"""Budgets: streams end before the money runs out.

A budget is a scope; the calls made inside, in whatever task, draw on it. What a stream will cost is known only at its
end, so until then it counts by estimate: its prompt when it starts, its answer as it comes, both from the catalogue's
prices. The provider's count replaces the estimate with the last event.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from pi_ai.errors import failure
from pi_ai.events import (
    DoneEvent,
    ErrorEvent,
    StreamEvent,
    TextDeltaEvent,
    ThinkingDeltaEvent,
    ToolCallDeltaEvent,
)
from pi_ai.pricing import PER_MILLION, calculate_cost
from pi_ai.taps import Asked, Opener, Tap, makers
from pi_ai.tokens import CHARACTERS_PER_TOKEN, estimate_context_tokens
from pi_ai.types import Usage

_active: ContextVar[Budget | None] = ContextVar("pi_ai_budget", default=None)


@contextmanager
def budget(*, usd: float | None = None, tokens: int | None = None) -> Generator[Budget]:
    """Limit what the calls made inside may cost together::

        with budget(usd=0.50) as spent:
            async with anyio.create_task_group() as tasks:
                for question in questions:
                    tasks.start_soon(answer, question)
        print(spent.usd, spent.tokens)

    When it is spent, streams end with an error of kind ``quota`` that keeps what came, and further calls make no
    request. A budget inside of another draws on both. The tasks started inside belong to it, those that ran before do
    not. Streams may overshoot by one batch of events each, and by as much as the estimate is too low (S5: no exception
    leaves the scope).

    :param usd: US dollars. Models without prices cost nothing: give ``tokens`` for them.
    :param tokens: of prompts (cached ones too) and answers.
    :raises ValueError: neither is given, or one is not above zero.
    """
    if usd is None and tokens is None:
        raise ValueError("budget() needs usd= or tokens=: how much may be spent")
    for name, limit in (("usd", usd), ("tokens", tokens)):
        if limit is not None and not limit > 0:
            raise ValueError(f"budget({name}=…) must be above 0, not {limit!r}")
    spent = Budget(usd, tokens, _active.get())
    previous = _active.set(spent)
    try:
        yield spent
    finally:
        _active.reset(previous)


class Budget:
    """What has been spent of a budget, finished answers and running ones together.

    :ivar usd: US dollars so far. ``tokens``: tokens so far.
    :ivar usd_limit: the most that may be spent; ``tokens_limit`` likewise. None: no limit.
    """

    def __init__(self, usd: float | None, tokens: int | None, outer: Budget | None) -> None:
        self.usd_limit = usd
        self.tokens_limit = tokens
        self.usd = 0.0
        self.tokens = 0
        self._outer = outer

    @property
    def remaining_usd(self) -> float | None:
        """US dollars left, never below 0; None: no limit in dollars."""
        return None if self.usd_limit is None else max(0.0, self.usd_limit - self.usd)

    @property
    def remaining_tokens(self) -> int | None:
        """Tokens left, never below 0; None: no limit in tokens."""
        return None if self.tokens_limit is None else max(0, self.tokens_limit - self.tokens)

    @property
    def exhausted(self) -> bool:
        """Whether it is spent, or one around it is."""
        return self.without_room(0.0, 0) is not None

    def __repr__(self) -> str:
        parts: list[str] = []
        if self.usd_limit is not None:
            parts.append(f"${self.usd:.4f} of ${self.usd_limit:.4f}")
        if self.tokens_limit is not None:
            parts.append(f"{self.tokens} of {self.tokens_limit} tokens")
        return f"<Budget {', '.join(parts)}>"

    def without_room(self, usd: float, tokens: int) -> Budget | None:
        """The budget, this or one around it, that has no room for so much more; None: there is room."""
        scope: Budget | None = self
        while scope is not None:
            for limit, sum_ in ((scope.usd_limit, scope.usd + usd), (scope.tokens_limit, scope.tokens + tokens)):
                if limit is not None and sum_ >= limit:
                    return scope
            scope = scope._outer
        return None

    def draw(self, usd: float, tokens: int) -> None:
        """Spend so much, of this one and those around it; negative: give back."""
        scope: Budget | None = self
        while scope is not None:
            scope.usd += usd
            scope.tokens += tokens
            scope = scope._outer


class _Metered(Tap):
    """Charges a budget for a stream, and ends the stream when that is spent."""

    def __init__(self, opener: Opener, asked: Asked, scope: Budget) -> None:
        super().__init__(opener)
        self._scope = scope
        self._model = asked.model
        self._context = asked.context
        self._usd, self._tokens = 0.0, 0  # drawn so far
        self._prompt, self._prompt_usd, self._rate = 0, 0.0, 0.0
        self._characters = 0
        self._answered = False

    def asked(self) -> None:
        self._prompt = estimate_context_tokens(self._context).tokens
        cost = calculate_cost(self._model, Usage(input=self._prompt, output=PER_MILLION))
        self._prompt_usd, self._rate = cost.input, cost.output / PER_MILLION
        self._refuse_if_spent(self._prompt_usd, self._prompt)
        self._charge(self._prompt_usd, self._prompt)  # at once: calls that start together see each other

    def reading(self) -> None:
        if self._answered:
            self._refuse_if_spent(0.0, 0)

    def passed(self, events: Sequence[StreamEvent]) -> None:
        self._answered = True
        before = self._characters
        for event in events:
            if isinstance(event, (TextDeltaEvent, ThinkingDeltaEvent, ToolCallDeltaEvent)):
                self._characters += len(event.delta)
            elif isinstance(event, (DoneEvent, ErrorEvent)):
                self._settle(event.message.usage)
                return
        if self._characters != before:
            answer = self._characters / CHARACTERS_PER_TOKEN
            self._charge(self._prompt_usd + answer * self._rate, int(self._prompt + answer))

    def ended(self, error: BaseException | None = None) -> None:
        if not self._answered:
            self._charge(0.0, 0)  # a request without any answer is not billed

    def _settle(self, usage: Usage) -> None:
        """Charge what the provider counted; where it told nothing, the estimate stays."""
        counts = [each for each in (usage, usage.wasted) if each is not None]
        tokens = sum(
            each.total_tokens or each.input + each.output + each.cache_read + each.cache_write for each in counts
        )
        if not tokens and not usage.cost.total:
            return
        if not usage.cost.total:
            calculate_cost(self._model, usage)
        self._charge(usage.cost.total, tokens)

    def _charge(self, usd: float, tokens: int) -> None:
        """Have so much drawn for this stream, in all."""
        self._scope.draw(usd - self._usd, tokens - self._tokens)
        self._usd, self._tokens = usd, tokens

    def _refuse_if_spent(self, usd: float, tokens: int) -> None:
        spent = self._scope.without_room(usd, tokens)
        if spent is not None:
            model = self._model
            raise failure(
                "quota",
                f"The budget is spent: {spent!r}, what runs estimated. Give budget() more, or call outside of it.",
                provider=model.provider,
                api=model.api,
                model=model.id,
                phase="stream" if self._answered else "send",
            )


def _meter(opener: Opener, asked: Asked) -> Tap | None:
    scope = _active.get()
    return None if scope is None else _Metered(opener, asked, scope)


makers.append(_meter)
