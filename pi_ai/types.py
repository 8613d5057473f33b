"""What people build and read: messages and their content, tools, contexts, models, usage, options.

Attributes are snake_case; *values* (roles, block types, stop reasons) are pi's wire strings, and JSON keys are pi's
camelCase (``serialization.py``; core.md N1-N5). Objects compare by value. Content of a running stream is live: it
grows until the stream ends and is plain data afterwards (core E9).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import Enum
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, TypedDict, cast, get_args

import attrs

from pi_ai.errors import ErrorInfo

JSONObject: TypeAlias = dict[str, Any]
"""A JSON object. The one place where ``Any`` is part of the public surface."""

KnownApi: TypeAlias = Literal[
    "anthropic-messages",
    "azure-openai-responses",
    "bedrock-converse-stream",
    "google-generative-ai",
    "google-vertex",
    "mistral-conversations",
    "openai-completions",
    "openai-responses",
]
"""APIs that pi_ai speaks itself. ``Model.api`` is an open set: custom providers bring their own."""

StopReason: TypeAlias = Literal["pending", "stop", "length", "toolUse", "deferred", "error", "aborted"]
"""``pending`` while the message is streaming, never afterwards (D4)."""

ThinkingLevel: TypeAlias = Literal["off", "minimal", "low", "medium", "high", "xhigh", "max"]
ReasoningLevel: TypeAlias = Literal["minimal", "low", "medium", "high", "xhigh", "max"]
"""How hard the model should think; ``off`` is spelled ``None`` in options."""

CacheRetention: TypeAlias = Literal["none", "short", "long"]
InputKind: TypeAlias = Literal["text", "image"]


class ToolName(TypedDict):
    """Force one tool by name: ``{"type": "tool", "name": "…"}``."""

    type: Literal["tool"]
    name: str


ToolChoice: TypeAlias = Literal["auto", "none", "any"] | ToolName


def now_ms() -> int:
    """Wall-clock time as pi writes it: integer milliseconds since the Unix epoch (core N4)."""
    return time.time_ns() // 1_000_000


def _kind_of(value: object) -> str:
    return "None" if value is None else type(value).__name__


def _check(owner: object, field: str, value: object, expected: type | tuple[type, ...], words: str) -> None:
    # bool is an int to Python and never a number to JSON.
    if not isinstance(value, expected) or (isinstance(value, bool) and bool not in _as_tuple(expected)):
        raise TypeError(f"{type(owner).__name__}.{field} must be {words}, not {_kind_of(value)}")


def _as_tuple(expected: type | tuple[type, ...]) -> tuple[type, ...]:
    return expected if isinstance(expected, tuple) else (expected,)


def _is(expected: type | tuple[type, ...], words: str) -> Callable[[object, attrs.Attribute[Any], object], None]:
    """An attrs validator whose message names the field, what it takes, and the kind of what it got."""

    def validate(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        _check(instance, attribute.name, value, expected, words)

    return validate


_is_text = _is(str, "a str")
_is_optional_text = _is((str, type(None)), "a str or None")


def _sequence(value: object) -> Sequence[object] | None:
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return cast("Sequence[object]", value)
    return None


def _items_are(*classes: type, or_text: bool = False) -> Callable[[object, attrs.Attribute[Any], object], None]:
    names = " or ".join(cls.__name__ for cls in classes)
    words = f"a str or a list of {names}" if or_text else f"a list of {names}"

    def validate(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if or_text and isinstance(value, str):
            return
        field = f"{type(instance).__name__}.{attribute.name}"
        items = _sequence(value)
        if items is None:
            raise TypeError(f"{field} must be {words}, not {_kind_of(value)}")
        for index, item in enumerate(items):
            if not isinstance(item, classes):
                hint = "; read JSON with from_json()" if isinstance(item, Mapping) else ""
                raise TypeError(f"{field}[{index}] must be {names}, not {_kind_of(cast('object', item))}{hint}")

    return validate


# ── content ──────────────────────────────────────────────────────────────────────────────────────────────────


@attrs.define
class TextContent:
    """Text of a message.

    :ivar text_signature: opaque word of the provider about this block, sent back verbatim to the same model.
    """

    type: ClassVar[Literal["text"]] = "text"
    text: str = attrs.field(validator=_is_text)
    text_signature: str | None = None


@attrs.define
class ThinkingContent:
    """What the model thought.

    :ivar thinking_signature: opaque proof or payload of the provider, sent back verbatim to the same model.
    :ivar redacted: the provider hid the thought: ``thinking`` is a placeholder, the payload is in the signature.
    """

    type: ClassVar[Literal["thinking"]] = "thinking"
    thinking: str = attrs.field(validator=_is_text)
    thinking_signature: str | None = None
    redacted: bool | None = None


@attrs.define
class ImageContent:
    """An image.

    :ivar data: base64 without a ``data:`` prefix. ``mime_type``: such as ``image/png``.
    """

    type: ClassVar[Literal["image"]] = "image"
    data: str = attrs.field(validator=_is_text, repr=lambda data: f"<{len(data)} characters>")
    mime_type: str = attrs.field(validator=_is_text)


@attrs.define
class ToolCall:
    """A call the model wants made.

    :ivar arguments: the parsed arguments. While they stream: what can be read so far (core section 12).
    :ivar arguments_error: set when the finished text was no JSON object; ``arguments`` is then ``{}`` and the call
        must not be run. Holds the reason and the raw text.
    :ivar thought_signature: opaque word of the provider, sent back verbatim to the same model.
    """

    type: ClassVar[Literal["toolCall"]] = "toolCall"
    id: str = attrs.field(validator=_is_text)
    name: str = attrs.field(validator=_is_text)
    arguments: JSONObject = attrs.field(factory=dict, validator=_is(dict, "a dict"))
    thought_signature: str | None = None
    namespace: str | None = None
    arguments_error: str | None = None


UserContent: TypeAlias = TextContent | ImageContent
AssistantContent: TypeAlias = TextContent | ThinkingContent | ToolCall


def _as_blocks(content: str | list[UserContent]) -> list[UserContent]:
    return [TextContent(content)] if isinstance(content, str) else content


# ── usage ────────────────────────────────────────────────────────────────────────────────────────────────────


@attrs.define
class Cost:
    """What an answer cost, in USD.

    :ivar total_from_provider: ``total`` is the provider's own bill (core K5), not our estimate from list prices.
    """

    input: float = 0.0
    output: float = 0.0
    cache_read: float = 0.0
    cache_write: float = 0.0
    total: float = 0.0
    total_from_provider: bool | None = None


@attrs.define
class Usage:
    """Tokens of one answer (core U1, U2).

    The prompt's size is ``input + cache_read + cache_write``: ``input`` excludes cached tokens.

    :ivar cache_write_1h: the part of ``cache_write`` with the long lifetime.
    :ivar reasoning: the part of ``output`` that was thinking; None: the provider does not tell.
    :ivar wasted: tokens that attempts told which failed before this answer (reliability F53); not in the counts above,
        but in ``cost.total``. None: there are none.
    """

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int | None = None
    reasoning: int | None = None
    total_tokens: int = 0
    cost: Cost = attrs.field(factory=Cost)
    wasted: Usage | None = None


# ── messages ─────────────────────────────────────────────────────────────────────────────────────────────────


@attrs.define(kw_only=True)
class DiagnosticError:
    """The error inside a :class:`Diagnostic`."""

    message: str
    name: str | None = None
    stack: str | None = None
    code: str | int | None = None


@attrs.define(kw_only=True)
class Diagnostic:
    """Something that was repaired, ignored or noticed while a message came (core D2).

    :ivar details: any JSON.
    """

    type: str
    timestamp: int = attrs.field(factory=now_ms)
    error: DiagnosticError | None = None
    details: Any = None


@attrs.define(kw_only=True)
class Attempt:
    """A request that failed and was sent again (reliability F52).

    :ivar delay_s: seconds waited before the next attempt.
    """

    error: ErrorInfo
    delay_s: float


@attrs.define
class Tool:
    """A tool the model may call.

    :ivar parameters: JSON Schema of its arguments, an object schema as a plain dict.
    :ivar constrained_sampling: ``{"type": "json_schema", "strict": "prefer" | "require"}`` or
        ``{"type": "grammar", "variants": {…}}`` (core section 19); False or None: ordinary sampling.
    """

    name: str = attrs.field(validator=_is_text)
    description: str = attrs.field(validator=_is_text)
    parameters: JSONObject = attrs.field(validator=_is(dict, "a dict (a JSON Schema object)"))
    constrained_sampling: JSONObject | Literal[False] | None = None


@attrs.define
class ToolReference:
    """The name of a tool that is no longer offered."""

    name: str = attrs.field(validator=_is_text)


@attrs.define
class SystemMessage:
    """Instructions inside the list of messages (core X1-X5). Most callers set ``Context.system_prompt`` instead.

    :ivar sections: named parts of the prompt; a later message patches them by name, None deletes one.
    """

    role: ClassVar[Literal["system"]] = "system"
    content: str | list[TextContent] = attrs.field(default="", validator=_items_are(TextContent, or_text=True))
    sections: dict[str, str | None] | None = attrs.field(default=None, kw_only=True)
    tools_added: list[Tool] | None = attrs.field(default=None, kw_only=True)
    tools_removed: list[ToolReference] | None = attrs.field(default=None, kw_only=True)
    timestamp: int = attrs.field(factory=now_ms, kw_only=True)


@attrs.define
class UserMessage:
    """What the user says: ``UserMessage("Hello")``, or a list of text and images."""

    role: ClassVar[Literal["user"]] = "user"
    content: str | list[UserContent] = attrs.field(validator=_items_are(TextContent, ImageContent, or_text=True))
    timestamp: int = attrs.field(factory=now_ms, kw_only=True)


@attrs.define
class ToolResultMessage:
    """What a tool call gave.

    :ivar details: any JSON for the application; never sent to a model.
    """

    role: ClassVar[Literal["toolResult"]] = "toolResult"
    tool_call_id: str = attrs.field(validator=_is_text)
    tool_name: str = attrs.field(validator=_is_text)
    content: list[UserContent] = attrs.field(
        converter=_as_blocks,
        validator=_items_are(TextContent, ImageContent),
    )
    is_error: bool = attrs.field(default=False, kw_only=True)
    timestamp: int = attrs.field(factory=now_ms, kw_only=True)
    details: Any = attrs.field(default=None, kw_only=True)
    usage: Usage | None = attrs.field(default=None, kw_only=True)
    duration_ms: int | None = attrs.field(default=None, kw_only=True)
    nested_calls: Any = attrs.field(default=None, kw_only=True)

    @property
    def text(self) -> str:
        """All text blocks, one a line, as models read them."""
        return "\n".join([block.text for block in self.content if isinstance(block, TextContent)])


@attrs.define
class AssistantMessage:
    """What the model answered, finished or as far as it has come.

    :ivar model: the id that was asked for; ``response_model`` the one that answered, only where it differs.
    :ivar stop_reason: ``pending`` while streaming, then why it ended; ``raw_stop_reason`` in the provider's words.
    :ivar timestamp: when the request was made, ms since the epoch. ``duration_ms``: until the last event.
    :ivar error_message: text of the failure; ``error_info`` the same as data.
    :ivar attempts: the failed attempts before this answer, None where the first one was it.
    :ivar completion: ``"assumed"`` when the model's compat accepts the end of the bytes as the end of the answer.
    """

    role: ClassVar[Literal["assistant"]] = "assistant"
    content: list[AssistantContent] = attrs.field(
        factory=list, validator=_items_are(TextContent, ThinkingContent, ToolCall)
    )
    api: str = attrs.field(default="", kw_only=True)
    provider: str = attrs.field(default="", kw_only=True)
    model: str = attrs.field(default="", kw_only=True)
    usage: Usage = attrs.field(factory=Usage, kw_only=True)
    stop_reason: StopReason = attrs.field(default="pending", kw_only=True)
    timestamp: int = attrs.field(factory=now_ms, kw_only=True)
    error_message: str | None = attrs.field(default=None, kw_only=True)
    error_info: ErrorInfo | None = attrs.field(default=None, kw_only=True)
    response_id: str | None = attrs.field(default=None, kw_only=True)
    response_model: str | None = attrs.field(default=None, kw_only=True)
    raw_stop_reason: str | None = attrs.field(default=None, kw_only=True)
    provider_thinking_level: str | None = attrs.field(default=None, kw_only=True)
    thinking_level: ThinkingLevel | None = attrs.field(default=None, kw_only=True)
    diagnostics: list[Diagnostic] | None = attrs.field(default=None, kw_only=True)
    attempts: list[Attempt] | None = attrs.field(default=None, kw_only=True)
    duration_ms: int | None = attrs.field(default=None, kw_only=True)
    completion: Literal["assumed"] | None = attrs.field(default=None, kw_only=True)
    deferred: Any = attrs.field(default=None, kw_only=True)
    end_turn: bool | None = attrs.field(default=None, kw_only=True)

    @property
    def text(self) -> str:
        """All text blocks, joined."""
        return "".join([block.text for block in self.content if isinstance(block, TextContent)])

    @property
    def thinking(self) -> str:
        """All thinking that can be read, joined."""
        return "".join(
            [block.thinking for block in self.content if isinstance(block, ThinkingContent) and not block.redacted]
        )

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The tool calls, in order."""
        return [block for block in self.content if isinstance(block, ToolCall)]

    def raise_for_error(self) -> AssistantMessage:
        """Return the message itself, or raise what ended it.

        :raises PiAIError: the class of ``error_info.kind`` when ``stop_reason`` is ``"error"``, :class:`Aborted`
            when it is ``"aborted"``.
        """
        if self.stop_reason not in ("error", "aborted"):
            return self
        text = self.error_message or "An unknown error occurred"
        if self.error_info is not None:
            raise self.error_info.exception(text)
        kind = "aborted" if self.stop_reason == "aborted" else "internal"
        info = ErrorInfo(kind=kind, message=text, provider=self.provider, api=self.api, model=self.model)
        raise info.exception()

    def add_diagnostic(self, diagnostic: Diagnostic) -> None:
        """Append to ``diagnostics``, making the list if there is none (core D2)."""
        if self.diagnostics is None:
            self.diagnostics = []
        self.diagnostics.append(diagnostic)


Message: TypeAlias = SystemMessage | UserMessage | AssistantMessage | ToolResultMessage


@attrs.define
class Context:
    """A conversation to send: ``Context(messages=[UserMessage("Hello")])``."""

    messages: list[Message] = attrs.field(
        factory=list, validator=_items_are(SystemMessage, UserMessage, AssistantMessage, ToolResultMessage)
    )
    system_prompt: str | None = attrs.field(default=None, kw_only=True, validator=_is_optional_text)
    tools: list[Tool] | None = attrs.field(
        default=None, kw_only=True, validator=attrs.validators.optional(_items_are(Tool))
    )


# ── models ───────────────────────────────────────────────────────────────────────────────────────────────────


@attrs.define(kw_only=True)
class CostTier:
    """Prices of requests whose whole prompt is larger than ``input_tokens_above`` tokens."""

    input_tokens_above: int
    input: float = 0.0
    output: float = 0.0
    cache_read: float = 0.0
    cache_write: float = 0.0


@attrs.define(kw_only=True)
class ModelCost:
    """Prices in USD per million tokens."""

    input: float = 0.0
    output: float = 0.0
    cache_read: float = 0.0
    cache_write: float = 0.0
    tiers: list[CostTier] | None = None


@attrs.define(kw_only=True)
class PromptCacheLifetime:
    """How long a cached prompt lives, in seconds, by retention."""

    short: int | None = None
    long: int | None = None


_is_count = _is(int, "an int")


@attrs.define(kw_only=True)
class Model:
    """A model at an endpoint.

    :ivar api: which wire protocol it speaks (a key of ``get_api``); ``provider``: who serves it.
    :ivar base_url: the endpoint, without the path that the API appends.
    :ivar context_window: tokens of prompt and answer together; ``max_tokens``: most tokens of an answer.
    :ivar thinking_level_map: level → the provider's word for it; None: not supported (core section 7).
    :ivar compat: per-API switches for what this server does differently, in pi's camelCase or in snake_case.
    :ivar headers: sent with every request.
    :ivar timeouts: clocks of this model, see :class:`Timeouts`.
    """

    id: str = attrs.field(validator=_is_text)
    api: str = attrs.field(validator=_is_text)
    provider: str = attrs.field(validator=_is_text)
    base_url: str = attrs.field(default="", validator=_is_text)
    name: str = attrs.field(default=attrs.Factory(lambda self: self.id, takes_self=True), validator=_is_text)
    reasoning: bool = False
    input: list[InputKind] = attrs.field(factory=lambda: ["text"])
    cost: ModelCost = attrs.field(factory=ModelCost)
    context_window: int = attrs.field(default=128_000, validator=_is_count)
    max_tokens: int = attrs.field(default=16_384, validator=_is_count)
    thinking_level_map: dict[ThinkingLevel, str | None] | None = None
    sampling_params: JSONObject | None = None
    sampling_params_by_thinking_level: dict[ThinkingLevel, JSONObject] | None = None
    compat: Mapping[str, Any] | None = None
    headers: dict[str, str | None] | None = None
    prompt_cache: PromptCacheLifetime | None = None
    input_limits: JSONObject | None = None
    timeouts: Timeouts | None = None
    type: str | None = None


def models_are_equal(a: Model | None, b: Model | None) -> bool:
    """Whether two models are the same one: equal type, id and provider; False when either is None (core MD1)."""
    if a is None or b is None:
        return False
    return (a.type or "chat", a.id, a.provider) == (b.type or "chat", b.id, b.provider)


# ── options ──────────────────────────────────────────────────────────────────────────────────────────────────


class _Unset(Enum):
    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"


UNSET = _Unset.UNSET
Milliseconds: TypeAlias = int | _Unset | None


@attrs.frozen(kw_only=True)
class Timeouts:
    """The clocks of a request, in milliseconds; None turns one off (reliability section 3 D).

    A clock left ``UNSET`` is taken from the next source: the call, then the model, then the registry, then the
    default. They run only while pi_ai waits for the network: a slow reader never trips one.

    :ivar connect_ms: name, TCP, TLS, and a free slot of the pool (10 s).
    :ivar first_event_ms: from the request to the first event of the answer (120 s).
    :ivar idle_ms: silence without a single byte (60 s).
    :ivar progress_ms: bytes, but nothing except keep-alives (600 s).
    :ivar completion_grace_ms: from the end of the last content block to the wire's proof of completion (30 s).
    :ivar total_ms: the whole request with its retries (off).
    """

    connect_ms: Milliseconds = UNSET
    first_event_ms: Milliseconds = UNSET
    idle_ms: Milliseconds = UNSET
    progress_ms: Milliseconds = UNSET
    completion_grace_ms: Milliseconds = UNSET
    total_ms: Milliseconds = UNSET

    def or_else(self, other: Timeouts | None) -> Timeouts:
        """These clocks, with what is UNSET taken from ``other``."""
        if other is None:
            return self
        sources = ((name, other if getattr(self, name) is UNSET else self) for name in CLOCKS)
        return Timeouts(**{name: getattr(source, name) for name, source in sources})


CLOCKS = tuple(field.name for field in attrs.fields(Timeouts))
"""The names of the clocks."""


DEFAULT_TIMEOUTS = Timeouts(
    connect_ms=10_000,
    first_event_ms=120_000,
    idle_ms=60_000,
    progress_ms=600_000,
    completion_grace_ms=30_000,
    total_ms=None,
)


@attrs.frozen(kw_only=True)
class Attribution:
    """What an application may tell gateways about itself (core H3). Sent only when given."""

    name: str
    url: str
    categories: Sequence[str] = ()


@attrs.frozen(kw_only=True)
class Identity:
    """How a client names itself (core H2).

    :ivar user_agent: ``"detailed"`` (product, platform, Python), ``"short"`` (product only), or a text of your own.
    :ivar version: replaces the package's version in it.
    """

    user_agent: str = "detailed"
    version: str | None = None
    attribution: Attribution | None = None


def _without_cookies(headers: Mapping[str, str]) -> Mapping[str, str]:
    return {**headers, "set-cookie": "[redacted]"} if "set-cookie" in headers else headers


@attrs.frozen(kw_only=True)
class ResponseInfo:
    """What ``on_response`` gets: the answer's head.

    :ivar headers: by lower-case name. A cookie that the server sets is a credential, and not shown (X30).
    """

    status: int
    headers: Mapping[str, str] = attrs.field(converter=_without_cookies)


TransformHeaders: TypeAlias = Callable[[dict[str, str]], Awaitable[Mapping[str, str | None]] | Mapping[str, str | None]]
OnPayload: TypeAlias = Callable[[JSONObject, Model], Awaitable[JSONObject | None] | JSONObject | None]
OnResponse: TypeAlias = Callable[[ResponseInfo, Model], Awaitable[None] | None]
OnProviderStreamEvent: TypeAlias = Callable[[JSONObject, Model], Awaitable[None] | None]


class HttpClient(Protocol):
    """What ``http_client`` must offer: the interface of ``httpx.AsyncClient`` (``httpx2`` has it, too)."""

    @property
    def build_request(self) -> Callable[..., Any]:
        """``build_request(method, url, headers=…, content=…, timeout=…)`` makes a request object."""
        ...

    @property
    def send(self) -> Callable[..., Awaitable[Any]]:
        """``send(request, stream=True, follow_redirects=False)`` sends it."""
        ...


NOT_DATA = {"json": False}
"""Metadata of fields that serialisation leaves out: secrets, hooks, live objects."""


def _redacted(value: Mapping[str, object] | None) -> str:
    if value is None:
        return "None"
    return "{" + ", ".join(f"{name!r}: …" for name in value) + "}"


@attrs.frozen(kw_only=True)
class RequestOptions:
    """Options of every API (core section 6).

    :ivar api_key: wins over stored and environment credentials. Never shown in a repr.
    :ivar headers: extra headers; None removes a default of that name, in any case.
    :ivar env: looked up before the process environment; an empty string counts as unset.
    :ivar max_tokens: most tokens of the answer.
    :ivar temperature: sent only where the model takes it.
    :ivar sampling_params: merged last into OpenAI-style bodies; other APIs ignore them.
    :ivar cache_retention: default ``short``, or ``long`` when ``PI_CACHE_RETENTION=long``.
    :ivar session_id: for cache routing; ignored where unsupported and when retention is ``none``.
    :ivar metadata: providers pick what they know.
    :ivar timeout_ms: sets ``first_event_ms`` and ``idle_ms`` at once; ``timeouts`` sets each clock.
    :ivar max_retries: attempts after the first, before the first content event (D10; default 2).
    :ivar max_retry_delay_ms: longest wait that a server may ask for; above it the call fails at once; 0: no cap.
    :ivar retry_unknown_delivery: also send again a request that may have run already (it may be billed twice).
    :ivar max_event_bytes: largest wire event. ``max_body_bytes``: largest answer that is not streamed.
    :ivar max_output_bytes: largest streamed answer, None: no limit.
    :ivar http_client: an ``httpx.AsyncClient`` or ``httpx2.AsyncClient`` to send with; never closed by pi_ai.
    :ivar proxy: URL of a proxy; ``""`` for none. Default: ``HTTP(S)_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``.
    :ivar allow_insecure: send a key over plain ``http`` to other machines, too (reliability X6).
    :ivar transform_headers: sees the headers, all layers merged, and returns those to send; sync or async.
    :ivar on_payload: sees the body before it is sent, may return another; sync or async.
    :ivar on_response: called once with status and headers of the successful answer, before its body.
    :ivar on_provider_stream_event: sees every parsed event of the provider before it is mapped. Do not change it.
    :ivar identity: how the client names itself.
    """

    api_key: str | None = attrs.field(metadata=NOT_DATA, default=None, repr=False, validator=_is_optional_text)
    headers: Mapping[str, str | None] | None = attrs.field(default=None, repr=_redacted)
    env: Mapping[str, str] | None = attrs.field(metadata=NOT_DATA, default=None, repr=_redacted)
    max_tokens: int | None = attrs.field(default=None, validator=_is((int, type(None)), "an int or None"))
    temperature: float | None = None
    sampling_params: Mapping[str, Any] | None = None
    cache_retention: CacheRetention | None = None
    session_id: str | None = attrs.field(default=None, validator=_is_optional_text)
    metadata: Mapping[str, Any] | None = None
    timeout_ms: int | None = None
    timeouts: Timeouts | None = None
    max_retries: int = attrs.field(default=2, validator=_is_count)
    max_retry_delay_ms: int = attrs.field(default=60_000, validator=_is_count)
    retry_unknown_delivery: bool = False
    max_event_bytes: int = 32 * 1024 * 1024
    max_body_bytes: int = 64 * 1024 * 1024
    max_output_bytes: int | None = None
    http_client: HttpClient | None = attrs.field(metadata=NOT_DATA, default=None, repr=False)
    proxy: str | None = attrs.field(metadata=NOT_DATA, default=None, repr=False, validator=_is_optional_text)
    allow_insecure: bool = False
    transform_headers: TransformHeaders | None = attrs.field(metadata=NOT_DATA, default=None, repr=False)
    on_payload: OnPayload | None = attrs.field(metadata=NOT_DATA, default=None, repr=False)
    on_response: OnResponse | None = attrs.field(metadata=NOT_DATA, default=None, repr=False)
    on_provider_stream_event: OnProviderStreamEvent | None = attrs.field(metadata=NOT_DATA, default=None, repr=False)
    identity: Identity = attrs.field(factory=Identity)

    @property
    def clocks(self) -> Timeouts:
        """The clocks that this call sets itself: ``timeouts``, then ``timeout_ms``."""
        own = self.timeouts or Timeouts()
        if self.timeout_ms is None:
            return own
        return own.or_else(Timeouts(first_event_ms=self.timeout_ms, idle_ms=self.timeout_ms))


def _is_level(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None and value not in get_args(ReasoningLevel):
        levels = ", ".join(get_args(ReasoningLevel))
        raise ValueError(f"{type(instance).__name__}.{attribute.name} must be one of {levels} or None, not {value!r}")


@attrs.frozen(kw_only=True)
class StreamOptions(RequestOptions):
    """Portable options: the adapter of each API lowers them to its own (D1).

    :ivar reasoning: how hard to think; None: not at all. Clamped to what the model supports.
    :ivar thinking_budgets: tokens to think by level, for models with a budget.
    :ivar tool_choice: ``"auto"``, ``"none"``, ``"any"`` or one tool by name.
    """

    reasoning: ReasoningLevel | None = attrs.field(default=None, validator=_is_level)
    thinking_budgets: Mapping[ReasoningLevel, int] | None = None
    tool_choice: ToolChoice | None = None


class StreamKeywords(TypedDict, total=False):
    """The fields of :class:`StreamOptions` as keywords of ``stream()`` and ``complete()``; a test holds them equal."""

    api_key: str | None
    headers: Mapping[str, str | None] | None
    env: Mapping[str, str] | None
    max_tokens: int | None
    temperature: float | None
    sampling_params: Mapping[str, Any] | None
    cache_retention: CacheRetention | None
    session_id: str | None
    metadata: Mapping[str, Any] | None
    timeout_ms: int | None
    timeouts: Timeouts | None
    max_retries: int
    max_retry_delay_ms: int
    retry_unknown_delivery: bool
    max_event_bytes: int
    max_body_bytes: int
    max_output_bytes: int | None
    http_client: HttpClient | None
    proxy: str | None
    allow_insecure: bool
    transform_headers: TransformHeaders | None
    on_payload: OnPayload | None
    on_response: OnResponse | None
    on_provider_stream_event: OnProviderStreamEvent | None
    identity: Identity
    reasoning: ReasoningLevel | None
    thinking_budgets: Mapping[ReasoningLevel, int] | None
    tool_choice: ToolChoice | None
