"""One exchange by itself: what is read of a body, and that it is released once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from pi_ai import PiAIError
from pi_ai.transport import Exchange

pytestmark = pytest.mark.anyio


class Opened:
    """An exchange whose body is given, and what became of it."""

    def __init__(self, *pieces: Any) -> None:
        self.closed = 0
        self.released: list[bool] = []
        self.exchange = Exchange(200, {}, self._body(pieces), read=None, close=self._close, release=self._release)

    async def _body(self, pieces: tuple[Any, ...]) -> AsyncIterator[bytes]:
        for piece in pieces:
            if isinstance(piece, bytes):
                yield piece
            else:
                await piece()

    async def _close(self) -> None:
        self.closed += 1

    async def _release(self, intact: bool) -> None:
        self.released.append(intact)


async def test_the_end_of_a_body_is_empty_bytes_as_often_as_it_is_read() -> None:
    exchange = Opened(b"a").exchange
    assert [await exchange.read() for _ in range(3)] == [b"a", b"", b""]
    assert (exchange.at_end, exchange.bytes_seen) == (True, 1)


async def test_a_body_of_the_limit_is_read_and_a_longer_one_is_too_large() -> None:
    assert await Opened(b"ab", b"cd").exchange.read_all(4) == b"abcd"
    with pytest.raises(PiAIError, match="larger than 3 bytes") as failed:
        await Opened(b"ab", b"cd").exchange.read_all(3)
    assert (failed.value.info.kind, failed.value.info.phase) == ("too_large", "stream")


async def test_what_is_asked_for_is_not_waited_for_once_it_has_come() -> None:
    opened = Opened(b"ab", b"cd", anyio.sleep_forever)
    with anyio.fail_after(2):
        assert await opened.exchange.read_up_to(4) == b"abcd"
        await opened.exchange.aclose()
    assert await Opened(b"ab", b"cd").exchange.read_up_to(3) == b"abc"


async def test_what_was_looked_at_is_read_again() -> None:
    exchange = Opened(b" ", b"\n", b"{", b"}").exchange
    assert await exchange.peek() == b" \n{"
    assert [await exchange.read() for _ in range(3)] == [b" \n{", b"}", b""]
    assert await Opened(b" ").exchange.peek() == b" "


@pytest.mark.parametrize("read", [True, False], ids=["read to its end", "left"])
async def test_an_exchange_is_released_once_and_intact_only_at_the_end_of_its_body(read: bool) -> None:
    opened = Opened(b"a", b"b")
    await opened.exchange.read_up_to(9 if read else 1)
    for _ in range(2):
        await opened.exchange.aclose()
    assert (opened.closed, opened.released) == (1, [read])


async def test_what_follows_an_answer_that_is_complete_is_read_for_a_moment_and_no_longer() -> None:
    soon = Opened(b"a", anyio.lowlevel.checkpoint, b"b")
    never = Opened(b"a", anyio.sleep_forever)
    for opened in (soon, never):
        await opened.exchange.read()
        opened.exchange.complete = True
        with anyio.fail_after(0.8):
            await opened.exchange.aclose()
    assert (soon.released, never.released) == ([True], [False])
