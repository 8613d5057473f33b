"""Testing kit, for tests of whatever talks to an LLM.

Three ways to answer without a provider, the nearest to your code first::

    Faux       a provider with a script: no bytes, no wire; for what is done with answers
    Cassette   a provider's real bytes, recorded once; for what a model really said
    Sandbox    a server that speaks the wires of all APIs, and breaks as it is told; for programs, and for faults

The pytest plug-in has a fixture for each: ``faux``, ``cassette``, ``sandbox``.
"""

from __future__ import annotations

from pi_ai.testing.cassettes import Cassette, Playback
from pi_ai.testing.delivery import Delivery
from pi_ai.testing.faux import (
    Faux,
    FauxCall,
    faux_assistant_message,
    faux_text,
    faux_thinking,
    faux_tool_call,
)
from pi_ai.testing.sandbox import Sandbox, SandboxRequest, sandbox_model
from pi_ai.testing.turns import Failure, Page, RawToolCall, Turn
from pi_ai.testing.wires import wire_events

__all__ = [
    "Cassette",
    "Delivery",
    "Failure",
    "Faux",
    "FauxCall",
    "Page",
    "Playback",
    "RawToolCall",
    "Sandbox",
    "SandboxRequest",
    "Turn",
    "faux_assistant_message",
    "faux_text",
    "faux_thinking",
    "faux_tool_call",
    "sandbox_model",
    "wire_events",
]
