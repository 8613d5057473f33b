"""Tasks that no caller's cancellation reaches, for what has to be finished or has to be served meanwhile.

A shield is not enough: asyncio's own ``task.cancel()`` goes through it. Whoever spawns a task waits for it, or leaves
it something that ends by itself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any

from anyio.lowlevel import current_token

_tasks: set[Any] = set()


def spawn(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Start a task in this event loop. ``work`` raises nothing."""
    loop: Any = current_token().native_token
    if hasattr(loop, "create_task"):
        task = loop.create_task(work())
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)
    else:
        sys.modules["trio"].lowlevel.spawn_system_task(work, context=copy_context())
