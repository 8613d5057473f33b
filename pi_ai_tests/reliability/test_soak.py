"""A short soak (T12); ``python -m pi_ai_tests.reliability.soak`` is the long one."""

from __future__ import annotations

import gc

import pytest

from pi_ai_tests.reliability.rigs import APIS, both_loops
from pi_ai_tests.reliability.soak import ANSWERS, ENDINGS, check_flat, soak


@both_loops
@pytest.mark.anyio
async def test_streams_of_every_wire_and_ending_leave_nothing_behind_F62_F74_F75() -> None:
    count = len(APIS) * len(ENDINGS) * len(ANSWERS)
    check_flat(await soak(count, rounds=4))
    gc.collect()
