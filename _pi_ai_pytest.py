"""The pytest plug-in of pi_ai: the fixture ``sandbox``.

It stands beside the package because pytest imports it at the start of every run, whatever is tested: importing anything
of ``pi_ai`` there would cost 0.1 s, load anyio before pytest could rewrite the assertions of anyio's own plug-in, which
warns, and what measures coverage would find the package loaded already.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pi_ai.testing import Sandbox


@pytest.fixture
def sandbox() -> Generator[Sandbox]:
    """A ``pi_ai.testing.Sandbox`` that runs in a thread: for sync tests, and for async ones on any event loop."""
    from pi_ai.testing import Sandbox

    with Sandbox().in_thread() as box:
        yield box
