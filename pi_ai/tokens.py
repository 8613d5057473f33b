"""How many tokens a conversation has, roughly, and how long an answer can still be (core sections 7 T7, and 8).

The estimate errs upwards (3.5 characters a token), and wherever the provider has counted already its count is taken.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import assert_never

import attrs

from pi_ai.serialization import dumps
from pi_ai.types import (
    AssistantMessage,
    Context,
    ImageContent,
    Message,
    Model,
    SystemMessage,
    TextContent,
    ThinkingContent,
    ToolCall,
    Usage,
)

CHARACTERS_PER_TOKEN = 3.5
IMAGE_CHARACTERS = 4800

SAFETY_TOKENS = 4096
"""Kept free of an answer, at least: the estimate may be too low."""

SAFETY_SHARE = 0.15
"""Kept free in long conversations: this share of the estimate."""

COMFORTABLE_ANSWER = 32_768
"""Below this the larger safety margin is not worth its price, and ``SAFETY_TOKENS`` have to do."""


@attrs.frozen(kw_only=True)
class ContextEstimate:
    """About how many tokens a conversation has.

    :ivar tokens: all of them: ``usage_tokens + trailing_tokens``.
    :ivar usage_tokens: what the provider counted, up to and with its answer at ``last_usage_index``; 0: nothing.
    :ivar trailing_tokens: estimate of what came after.
    :ivar last_usage_index: position of that answer in the list of messages, None if no count can be used.
    """

    tokens: int
    usage_tokens: int
    trailing_tokens: int
    last_usage_index: int | None


def estimate_message_tokens(message: Message) -> int:
    """About how many tokens one message has (TE1, TE2). Counts code points: 3.5 of them make a token."""
    if isinstance(message, SystemMessage):
        content = message.content
        text = content if isinstance(content, str) else "\n".join([block.text for block in content])
        prompt = "\n\n".join([part for part in (text, *(message.sections or {}).values()) if part])
        added, removed = (dumps(tools) if tools else "" for tools in (message.tools_added, message.tools_removed))
        return sum(_tokens(len(part)) for part in (prompt, added, removed))
    return _tokens(_characters(message.content))


def estimate_context_tokens(context: Context | Sequence[Message]) -> ContextEstimate:
    """About how many tokens a conversation has, its system prompt and tools included (TE3).

    An answer's usage is the count of everything before it, unless a message before it is younger: then something
    was put in later (the summary of a compaction), and the count is of another conversation.
    """
    messages = context.messages if isinstance(context, Context) else context
    counted = _last_count(messages)
    if counted is not None:
        index, used = counted
        trailing = sum(estimate_message_tokens(message) for message in messages[index + 1 :])
        return ContextEstimate(
            tokens=used + trailing, usage_tokens=used, trailing_tokens=trailing, last_usage_index=index
        )
    tokens = sum(estimate_message_tokens(message) for message in messages)
    if isinstance(context, Context):
        # What X1 folds into one leading system message.
        tokens += estimate_message_tokens(SystemMessage(context.system_prompt or "", tools_added=context.tools))
    return ContextEstimate(tokens=tokens, usage_tokens=0, trailing_tokens=tokens, last_usage_index=None)


def fit_max_tokens(model: Model, context: Context | Sequence[Message], max_tokens: int | None = None) -> int:
    """The longest answer that fits into what the conversation leaves of the model's window (T7).

    :param max_tokens: the caller's own limit, None: ``model.max_tokens``.
    :return: tokens, at least 1 unless the caller asked for less.
    """
    need = model.max_tokens if max_tokens is None else max_tokens
    return fit_window(model.context_window, estimate_context_tokens(context).tokens, need)


def fit_window(context_window: int, input_tokens: int, need: int) -> int:
    """``need`` tokens of answer, or as many as a window has left beside ``input_tokens`` and a margin (T7).

    :param context_window: tokens; 0 or less: unknown, so nothing is cut.
    """
    if context_window <= 0:
        return max(1, need)
    left = context_window - input_tokens
    room = left - max(SAFETY_TOKENS, math.ceil(SAFETY_SHARE * input_tokens))
    if room < COMFORTABLE_ANSWER:
        room = min(COMFORTABLE_ANSWER, left - SAFETY_TOKENS)
    return min(need, max(1, room))


def _last_count(messages: Sequence[Message]) -> tuple[int, int] | None:
    found: tuple[int, int] | None = None
    youngest = -math.inf
    for index, message in enumerate(messages):
        if (
            isinstance(message, AssistantMessage)
            and message.timestamp >= youngest
            and message.stop_reason not in ("error", "aborted")
            and (used := _used(message.usage)) > 0
        ):
            found = index, used
        youngest = max(youngest, message.timestamp)
    return found


def _used(usage: Usage) -> int:
    return usage.total_tokens or usage.input + usage.output + usage.cache_read + usage.cache_write


def _tokens(characters: int) -> int:
    return math.ceil(characters / CHARACTERS_PER_TOKEN)


def _characters(content: str | Sequence[TextContent | ImageContent | ThinkingContent | ToolCall]) -> int:
    if isinstance(content, str):
        return len(content)
    return sum(_block_characters(block) for block in content)


def _block_characters(block: TextContent | ImageContent | ThinkingContent | ToolCall) -> int:
    match block:
        case TextContent(text=text):
            return len(text)
        case ThinkingContent(thinking=thinking):
            return len(thinking)
        case ImageContent():
            return IMAGE_CHARACTERS
        case ToolCall(name=name, arguments=arguments):
            return len(name) + len(json.dumps(arguments, ensure_ascii=False, separators=(",", ":")))
        case _:
            assert_never(block)
