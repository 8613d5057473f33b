"""The APIs that pi_ai speaks, one file each; loaded when first used."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pi_ai.errors import failure

if TYPE_CHECKING:
    from pi_ai.adapters.base import Adapter

_ADAPTERS: dict[str, tuple[str, str]] = {
    "anthropic-messages": ("anthropic_messages", "AnthropicMessages"),
    "azure-openai-responses": ("azure_openai_responses", "AzureOpenAIResponses"),
    "bedrock-converse-stream": ("bedrock_converse_stream", "BedrockConverseStream"),
    "google-generative-ai": ("google_generative_ai", "GoogleGenerativeAI"),
    "google-vertex": ("google_vertex", "GoogleVertex"),
    "mistral-conversations": ("mistral_conversations", "MistralConversations"),
    "openai-completions": ("openai_completions", "OpenAICompletions"),
    "openai-responses": ("openai_responses", "OpenAIResponses"),
}
"""API → module and class. A new API is one line here and one name in ``types.KnownApi``."""


@cache
def get_api(api: str) -> Adapter[Any]:
    """The adapter of an API; ``get_api(name).options_type`` is the class of its own options.

    :raises ConfigError: pi_ai does not speak it.
    """
    if api not in _ADAPTERS:
        text = f"No API provider registered for api: {api}"
        raise failure("config", f"{text}. Known: {', '.join(_ADAPTERS)}", text=text)
    module, name = _ADAPTERS[api]
    return getattr(import_module(f"pi_ai.adapters.{module}"), name)()
