"""The wires that a sandbox speaks, one file each."""

from __future__ import annotations

from pi_ai.errors import failure
from pi_ai.testing.turns import Turn
from pi_ai.testing.wires.anthropic_messages import AnthropicMessages
from pi_ai.testing.wires.base import Asked, Wire
from pi_ai.testing.wires.bedrock_converse_stream import BedrockConverseStream
from pi_ai.testing.wires.google import GoogleGenerativeAI, GoogleVertex
from pi_ai.testing.wires.mistral_conversations import MistralConversations
from pi_ai.testing.wires.openai_completions import OpenAICompletions
from pi_ai.testing.wires.openai_responses import AzureOpenAIResponses, OpenAIResponses

WIRES: dict[str, Wire] = {
    wire.api: wire
    for wire in (
        OpenAICompletions(),
        AnthropicMessages(),
        OpenAIResponses(),
        AzureOpenAIResponses(),
        GoogleGenerativeAI(),
        GoogleVertex(),
        BedrockConverseStream(),
        MistralConversations(),
    )
}
"""API → renderer. A new wire is one file, and its name here."""


def get_wire(api: str) -> Wire:
    """The renderer of an API.

    :raises ConfigError: the sandbox does not speak it.
    """
    if api not in WIRES:
        raise failure("config", f"The sandbox does not speak {api!r}. Known: {', '.join(WIRES)}", api=api)
    return WIRES[api]


def wire_events(turn: Turn, api: str = "openai-completions", *, model: str = "sandbox") -> list[bytes]:
    """The stream of a turn without a server, one item a wire event: for parsers, and to know where to cut.

    :raises ConfigError: the sandbox does not speak the API.
    """
    asked = Asked(number=1, model=model, body={"stream_options": {"include_usage": True}})
    return [event.data for event in get_wire(api).render(turn, asked).events]
