"""One async streaming interface over every LLM API, on asyncio and trio.

    async for event in stream(model, context):
        ...

Start with :func:`stream` and :func:`get_model`; see the README for the rest.
"""

from __future__ import annotations

import importlib
import typing

from pi_ai._version import __version__
from pi_ai.adapters import get_api
from pi_ai.auth.base import Auth, AuthStatus
from pi_ai.auth.config_values import PiAiDeprecationWarning, clear_config_value_cache
from pi_ai.auth.oauth.config import OAuthConfig
from pi_ai.builder import MessageBuilder
from pi_ai.calls import (
    complete,
    complete_simple,
    complete_sync,
    get_available,
    get_model,
    get_models,
    get_provider,
    get_providers,
    register_api,
    register_provider,
    stream,
    stream_api,
    stream_simple,
    unregister_apis,
    unregister_provider,
)
from pi_ai.errors import (
    Aborted,
    AuthError,
    BadRequest,
    ConfigError,
    ConnectFailed,
    ConnectTimeout,
    ContentFiltered,
    ContextOverflow,
    Disconnected,
    ErrorInfo,
    ErrorKind,
    FirstEventTimeout,
    IdleTimeout,
    InternalError,
    NotFound,
    OAuthError,
    Overloaded,
    PermissionDenied,
    PiAIError,
    ProgressTimeout,
    ProtocolError,
    QuotaExhausted,
    RateLimited,
    RequestTimeout,
    ServerError,
    TooLarge,
    TotalTimeout,
    Truncated,
)
from pi_ai.events import (
    DoneEvent,
    ErrorEvent,
    StartEvent,
    StreamEvent,
    TextDeltaEvent,
    TextEndEvent,
    TextStartEvent,
    ThinkingDeltaEvent,
    ThinkingEndEvent,
    ThinkingStartEvent,
    ToolCallDeltaEvent,
    ToolCallEndEvent,
    ToolCallStartEvent,
)
from pi_ai.history import transform_messages
from pi_ai.overflow import is_context_overflow, is_recoverable_length, is_retryable_assistant_error
from pi_ai.pricing import calculate_cost
from pi_ai.providers.base import Provider
from pi_ai.providers.config import ProviderConfig, ProviderConfigError, ProviderModelConfig
from pi_ai.providers.dynamic import RefreshContext, RefreshResult, discover_openai_models
from pi_ai.reasoning import clamp_level, supported_levels
from pi_ai.registry import Registry
from pi_ai.serialization import dumps, from_json, loads, to_json
from pi_ai.streams import (
    EventSink,
    EventStream,
    StreamBusyError,
    create_assistant_message_event_stream,
    event_stream,
    open_event_channel,
)
from pi_ai.tokens import estimate_message_tokens
from pi_ai.tools import ToolValidationError, validate_tool_arguments, validate_tool_call
from pi_ai.types import (
    AssistantMessage,
    Attempt,
    Attribution,
    Context,
    Cost,
    CostTier,
    Diagnostic,
    Identity,
    ImageContent,
    Message,
    Model,
    ModelCost,
    RequestOptions,
    ResponseInfo,
    StopReason,
    StreamKeywords,
    StreamOptions,
    SystemMessage,
    TextContent,
    ThinkingContent,
    ThinkingLevel,
    Timeouts,
    Tool,
    ToolCall,
    ToolResultMessage,
    Usage,
    UserMessage,
    models_are_equal,
)

if typing.TYPE_CHECKING:
    from pi_ai.agents import (
        RunEndEvent,
        RunEvent,
        RunLimits,
        ToolResultEvent,
        ToolRun,
        run_tool_call,
        run_tools,
    )
    from pi_ai.budgets import Budget, budget
    from pi_ai.fallbacks import fallback, hedge
    from pi_ai.fan_out import FanOut
    from pi_ai.functions import FunctionTool, tool
    from pi_ai.structured import StructuredOutputError, TypedStream, complete_as, stream_as

__all__ = [
    "Aborted",
    "AssistantMessage",
    "Attempt",
    "Attribution",
    "Auth",
    "AuthError",
    "AuthStatus",
    "BadRequest",
    "Budget",
    "ConfigError",
    "ConnectFailed",
    "ConnectTimeout",
    "ContentFiltered",
    "Context",
    "ContextOverflow",
    "Cost",
    "CostTier",
    "Diagnostic",
    "Disconnected",
    "DoneEvent",
    "ErrorEvent",
    "ErrorInfo",
    "ErrorKind",
    "EventSink",
    "EventStream",
    "FanOut",
    "FirstEventTimeout",
    "FunctionTool",
    "Identity",
    "IdleTimeout",
    "ImageContent",
    "InternalError",
    "Message",
    "MessageBuilder",
    "Model",
    "ModelCost",
    "NotFound",
    "OAuthConfig",
    "OAuthError",
    "Overloaded",
    "PermissionDenied",
    "PiAIError",
    "PiAiDeprecationWarning",
    "ProgressTimeout",
    "ProtocolError",
    "Provider",
    "ProviderConfig",
    "ProviderConfigError",
    "ProviderModelConfig",
    "QuotaExhausted",
    "RateLimited",
    "RefreshContext",
    "RefreshResult",
    "Registry",
    "RequestOptions",
    "RequestTimeout",
    "ResponseInfo",
    "RunEndEvent",
    "RunEvent",
    "RunLimits",
    "ServerError",
    "StartEvent",
    "StopReason",
    "StreamBusyError",
    "StreamEvent",
    "StreamKeywords",
    "StreamOptions",
    "StructuredOutputError",
    "SystemMessage",
    "TextContent",
    "TextDeltaEvent",
    "TextEndEvent",
    "TextStartEvent",
    "ThinkingContent",
    "ThinkingDeltaEvent",
    "ThinkingEndEvent",
    "ThinkingLevel",
    "ThinkingStartEvent",
    "Timeouts",
    "TooLarge",
    "Tool",
    "ToolCall",
    "ToolCallDeltaEvent",
    "ToolCallEndEvent",
    "ToolCallStartEvent",
    "ToolResultEvent",
    "ToolResultMessage",
    "ToolRun",
    "ToolValidationError",
    "TotalTimeout",
    "Truncated",
    "TypedStream",
    "Usage",
    "UserMessage",
    "__version__",
    "budget",
    "calculate_cost",
    "clamp_level",
    "clear_config_value_cache",
    "complete",
    "complete_as",
    "complete_simple",
    "complete_sync",
    "create_assistant_message_event_stream",
    "discover_openai_models",
    "dumps",
    "estimate_message_tokens",
    "event_stream",
    "fallback",
    "from_json",
    "get_api",
    "get_available",
    "get_model",
    "get_models",
    "get_provider",
    "get_providers",
    "hedge",
    "is_context_overflow",
    "is_recoverable_length",
    "is_retryable_assistant_error",
    "loads",
    "models_are_equal",
    "open_event_channel",
    "register_api",
    "register_provider",
    "run_tool_call",
    "run_tools",
    "stream",
    "stream_api",
    "stream_as",
    "stream_simple",
    "supported_levels",
    "to_json",
    "tool",
    "transform_messages",
    "unregister_apis",
    "unregister_provider",
    "validate_tool_arguments",
    "validate_tool_call",
]


_LATER = {
    **dict.fromkeys(
        ("RunEndEvent", "RunEvent", "RunLimits", "ToolResultEvent", "ToolRun", "run_tool_call", "run_tools"),
        "pi_ai.agents",
    ),
    **dict.fromkeys(("Budget", "budget"), "pi_ai.budgets"),
    **dict.fromkeys(("fallback", "hedge"), "pi_ai.fallbacks"),
    **dict.fromkeys(("FanOut",), "pi_ai.fan_out"),
    **dict.fromkeys(("FunctionTool", "tool"), "pi_ai.functions"),
    **dict.fromkeys(("StructuredOutputError", "TypedStream", "complete_as", "stream_as"), "pi_ai.structured"),
}
"""Where names are that only some programs need: loaded when they are first used, at no cost to the others."""


def _shown(value: object) -> object:
    # Tracebacks and documentation show the public name, wherever a thing is defined. Data classes keep their module:
    # typing.get_type_hints() looks up their annotations there.
    if getattr(value, "__module__", "").startswith("pi_ai.") and not hasattr(value, "__attrs_attrs__"):
        value.__module__ = __name__
    return value


if not typing.TYPE_CHECKING:  # a type checker would believe in any name

    def __getattr__(name: str) -> object:
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = _shown(getattr(importlib.import_module(_LATER[name]), name))
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


for _name in __all__:
    if _name not in _LATER:
        _shown(globals()[_name])
