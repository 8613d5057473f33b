"""Testing kit: a server that speaks the wires of real providers, for tests of whatever talks to an LLM.

Start with :class:`Sandbox`; the pytest plug-in's fixture ``sandbox`` is one.
"""

from __future__ import annotations

from pi_ai.testing.delivery import Delivery
from pi_ai.testing.sandbox import Sandbox, SandboxRequest, sandbox_model
from pi_ai.testing.turns import Failure, Page, RawToolCall, Turn
from pi_ai.testing.wires import wire_events

__all__ = [
    "Delivery",
    "Failure",
    "Page",
    "RawToolCall",
    "Sandbox",
    "SandboxRequest",
    "Turn",
    "sandbox_model",
    "wire_events",
]
