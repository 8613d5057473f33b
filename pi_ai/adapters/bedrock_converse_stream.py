"""The API ``bedrock-converse-stream``: ``POST {endpoint}/model/{id}/converse-stream``, answered by binary frames.

Amazon Bedrock's one API for the models of many makers. What is known of these is data in ``_bedrock_models.py``; the
conversation is made in ``_bedrock_messages.py``; keys and signatures are the business of ``auth/aws.py``. Rules:
bedrock-converse-stream.md.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Literal
from urllib.parse import quote

import attrs
from jiter import from_json

from pi_ai.adapters._answer import AnswerParser, as_list, as_object, as_text, as_tokens, call_id
from pi_ai.adapters._bedrock_messages import Conversation, conversation
from pi_ai.adapters._bedrock_models import (
    ThinkingDisplay,
    caches,
    caches_long,
    is_adaptive,
    is_claude,
    thinking_fields,
)
from pi_ai.adapters._claude import STRICT_LIMITS, is_too_strict
from pi_ai.adapters._compat import told_flags
from pi_ai.adapters._request import cache_retention, endpoint, environment, lowered
from pi_ai.adapters.base import Adapter, Request
from pi_ai.adapters.sessions import Sessions
from pi_ai.auth.aws import Chain, Credentials, chain, credentials_in, signed_headers
from pi_ai.auth.env import AUTHENTICATED, find_env_keys
from pi_ai.builder import REDACTED, MessageBuilder, TextBlock, ThinkingBlock, ToolCallBlock
from pi_ai.errors import ErrorInfo, ErrorKind, PiAIError, failure
from pi_ai.events import DoneReason, StreamEvent
from pi_ai.failures import aws_words, provider_words
from pi_ai.headers import Headers, layer_headers
from pi_ai.reasoning import fit_thinking, thinking_budget
from pi_ai.text import decode_json, encode_json
from pi_ai.tokens import fit_max_tokens
from pi_ai.tools import strict_parameters, strictness
from pi_ai.transport import HttpRequest
from pi_ai.types import (
    NOT_DATA,
    AssistantMessage,
    Context,
    Diagnostic,
    DiagnosticError,
    JSONObject,
    Model,
    ReasoningLevel,
    RequestOptions,
    StreamOptions,
    Tool,
    ToolChoice,
    Usage,
)
from pi_ai.urls import host_of, is_loopback
from pi_ai.wire.aws_event_stream import EventStreamDecoder, Frame

# ── options ──────────────────────────────────────────────────────────────────────────────────────────────────


@attrs.frozen(kw_only=True)
class BedrockOptions(RequestOptions):
    """Options of this API.

    :ivar region: where to ask, such as ``eu-central-1``; an ARN in the model's id wins over it.
    :ivar profile: the AWS profile whose credentials to use.
    :ivar bearer_token: a Bedrock API key, as ``api_key`` is one, too. Never shown in a repr.
    :ivar tool_choice: ``"auto"``, ``"none"``, ``"any"``, one tool by name, or the wire's own object. While a model of
        Anthropic's thinks, it refuses to be forced to a tool.
    :ivar reasoning: how hard to think; None: not to be asked.
    :ivar thinking_budgets: tokens to think by level, for models with a budget.
    :ivar thinking_display: ``"omitted"``: thoughts come signed, but without text.
    :ivar interleaved_thinking: think between calls, too, within a budget.
    :ivar request_metadata: to find the request by in AWS's invocation logs.
    """

    region: str | None = None
    profile: str | None = None
    bearer_token: str | None = attrs.field(metadata=NOT_DATA, default=None, repr=False)
    tool_choice: ToolChoice | JSONObject | None = None
    reasoning: ReasoningLevel | None = None
    thinking_budgets: Mapping[ReasoningLevel, int] | None = None
    thinking_display: ThinkingDisplay = "summarized"
    interleaved_thinking: bool = True
    request_metadata: Mapping[str, str] | None = None


@attrs.frozen(kw_only=True)
class Compat:
    """The switches of one model; ``Model.compat`` names them in either spelling.

    :ivar supports_strict_mode: knows ``strict`` in tools.
    :ivar completion_proof: ``"eof"``: the end of the bytes is the end of the answer (reliability section 2).
    """

    supports_strict_mode: bool = False
    completion_proof: Literal["eof"] | None = None

    @classmethod
    def of(cls, model: Model) -> Compat:
        """All flags of a model.

        :raises PiAIError: kind ``config``: a flag has a value that it cannot have.
        """
        return cls(**told_flags(cls, model))


# ── where to ask, and who does ───────────────────────────────────────────────────────────────────────────────

DEFAULT_REGION = "us-east-1"
SERVICE = "bedrock"
"""What signatures are for; not the name of the host."""

_ARN = re.compile(r"arn:aws[a-z-]*:bedrock:([^:]+):")
_STANDARD = re.compile(r"bedrock-runtime(?P<fips>-fips)?\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")
_RESERVED = re.compile("authorization|host|x-amz-.*", re.IGNORECASE)
_UNSIGNED = {"user-agent", "connection", "accept-encoding", "content-length", "transfer-encoding", "expect"}
"""Headers that are not the caller's, and those that may change on the way (BR9, BR10)."""


@attrs.frozen(kw_only=True)
class Place:
    """Where requests go.

    :ivar base_url: the endpoint. ``region``: whose signatures it takes.
    :ivar profile_tells: so far nothing told the region, but the AWS profile may.
    """

    base_url: str
    region: str
    profile_tells: bool


def place_of(model: Model, options: BedrockOptions, profile_region: str | None = None) -> Place:
    """Where a model is (BR3, BR4). Of AWS's own endpoints the region decides: a catalogue names one for all of them.

    :param profile_region: the region of the AWS profile, once it is known.
    :raises PiAIError: kind ``config``: the region, or the base URL, is none.
    """
    env = options.env
    told = options.region or environment("AWS_REGION", env) or environment("AWS_DEFAULT_REGION", env)
    profile = _own_profile(options) or environment("AWS_PROFILE", env)
    arn, standard = _ARN.match(model.id), _STANDARD.fullmatch(host_of(model.base_url))
    kept = standard["region"] if standard and not told and not profile else None
    known = (arn[1] if arn else None) or told or kept
    region = known or profile_region or DEFAULT_REGION
    if not re.fullmatch("[a-z0-9-]+", region):
        text = f"{region!r} is no AWS region such as {DEFAULT_REGION!r}"
        raise failure("config", f"{text}: correct the option region, or AWS_REGION", text=text)
    if model.base_url and (not standard or kept == region):
        base_url = endpoint(model, "", env)
    else:
        fips = standard["fips"] if standard and standard["fips"] else ""
        suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        base_url = f"https://bedrock-runtime{fips}.{region}.{suffix}"
    return Place(base_url=base_url, region=region, profile_tells=bool(profile) and not known)


def _own_profile(options: BedrockOptions) -> str | None:
    """The profile that the call itself names; the one of the process is the chain's business."""
    return options.profile or (options.env or {}).get("AWS_PROFILE") or None


def _is_anonymous(options: BedrockOptions) -> bool:
    """Whether nobody is to be asked who it is: a proxy will tell."""
    return environment("AWS_BEDROCK_SKIP_AUTH", options.env) == "1"


def _bearer_token(options: BedrockOptions) -> str | None:
    """The token that makes keys and signatures unnecessary."""
    key = options.api_key if options.api_key != AUTHENTICATED else None
    return options.bearer_token or key or environment("AWS_BEARER_TOKEN_BEDROCK", options.env)


def _signer(model: Model, options: BedrockOptions) -> Credentials | Chain | None:
    """Whose keys sign: a profile's, those of the environment, or what AWS's chain finds (section 2).

    None: nobody's, as a server on this machine needs none, and none are set up.
    """
    if profile := _own_profile(options):
        return chain(profile, options.env)
    if found := credentials_in(options.env):
        return found
    if is_loopback(host_of(model.base_url)) and not find_env_keys("amazon-bedrock", options.env):
        return None
    return chain(None, options.env)


# ── request ──────────────────────────────────────────────────────────────────────────────────────────────────


@attrs.define
class _Session:
    """What is remembered of a session.

    :ivar plain_tools: tools that need not be strict were too many to be (CS3).
    """

    plain_tools: bool = False


_sessions = Sessions(_Session)


def _path(model: Model) -> str:
    return f"/model/{quote(model.id, safe='~')}/converse-stream"


def _headers(model: Model, options: BedrockOptions) -> dict[str, str | None]:
    """All headers but the client's identity and the signature, from low to high."""
    token = None if _is_anonymous(options) else _bearer_token(options)
    return layer_headers(
        {"Accept": "application/vnd.amazon.eventstream", "Content-Type": "application/json"},
        _allowed(model.headers),
        _allowed(options.headers),
        {"Authorization": f"Bearer {token}"} if token else None,
    )


def _allowed(headers: Headers | None) -> Headers:
    return {name: value for name, value in (headers or {}).items() if not _RESERVED.fullmatch(name)}


def _body(model: Model, context: Context, options: BedrockOptions, session: _Session) -> JSONObject:
    """The body (section 4)."""
    claude, said = is_claude(model), conversation(model, context)
    limit = options.max_tokens if options.max_tokens and options.max_tokens > 0 else None
    if limit is None and claude:
        limit = model.max_tokens
    thinking = _thinking(model, options, limit)
    if said.messages and said.messages[-1]["role"] == "user":
        said.messages[-1]["content"] += _cache_points(model, options)

    body: JSONObject = {"messages": said.messages}
    if said.system:
        body["system"] = [{"text": said.system}, *_cache_points(model, options)]
    inference: JSONObject = {} if limit is None else {"maxTokens": limit}
    if options.temperature is not None and not (claude and thinking):
        inference["temperature"] = options.temperature
    if inference:
        body["inferenceConfig"] = inference
    if tools := _tool_config(model, said, options, session):
        body["toolConfig"] = tools
    if thinking:
        body["additionalModelRequestFields"] = thinking
    if options.request_metadata:
        body["requestMetadata"] = dict(options.request_metadata)
    return body


def _thinking(model: Model, options: BedrockOptions, limit: int | None) -> JSONObject:
    """The model's own fields that say how hard to think (section 4.5)."""
    level = options.reasoning
    if level is None or not model.reasoning:
        return {}
    return thinking_fields(
        model,
        level,
        budget=thinking_budget(level, options.thinking_budgets),
        max_tokens=limit or 0,
        display=options.thinking_display,
        interleaved=options.interleaved_thinking,
        restricted=place_of(model, options).region.startswith("us-gov-")
        or model.id.startswith(("us-gov.", "arn:aws-us-gov:")),
    )


def _cache_points(model: Model, options: BedrockOptions) -> list[JSONObject]:
    """What ends a prefix that is to be cached; nothing where the model does not cache (sections 4.2, 4.3)."""
    retention = cache_retention(options)
    forced = environment("AWS_BEDROCK_FORCE_CACHE", options.env) == "1"
    if retention == "none" or not caches(model, forced=forced):
        return []
    long = {"ttl": "1h"} if retention == "long" and caches_long(model) else {}
    return [{"cachePoint": {"type": "default", **long}}]


def _tool_config(model: Model, said: Conversation, options: BedrockOptions, session: _Session) -> JSONObject:
    """The tools on offer (section 4.4). While the history holds calls, the API insists on some (BR24)."""
    none = options.tool_choice == "none"
    if (none or not said.tools) and not said.used:
        return {}
    if not said.tools:
        return {"tools": [_tool_spec(name, "Not available.", _NO_ARGUMENTS) for name in said.used]}
    supported = Compat.of(model).supports_strict_mode
    config: JSONObject = {"tools": [_tool(tool, model, session, supported=supported) for tool in said.tools]}
    if options.tool_choice is not None and not none:
        config["toolChoice"] = _tool_choice(options.tool_choice)
    return config


_NO_ARGUMENTS: JSONObject = {"type": "object", "properties": {}}


def _tool(tool: Tool, model: Model, session: _Session, *, supported: bool) -> JSONObject:
    limits = STRICT_LIMITS if is_claude(model) else None
    strict = strict_parameters(tool, supported=supported, limits=limits)
    if strict is None or (session.plain_tools and strictness(tool) == "prefer"):
        return _tool_spec(tool.name, tool.description, tool.parameters)
    return _tool_spec(tool.name, tool.description, strict, strict=True)


def _tool_spec(name: str, description: str, schema: JSONObject, **more: bool) -> JSONObject:
    described = {"description": description} if description.strip() else {}
    return {"toolSpec": {"name": name, **described, "inputSchema": {"json": schema}, **more}}


def _tool_choice(choice: Any) -> JSONObject:
    match choice:
        case str():
            return {choice: {}}
        case {"type": "tool", "name": name}:
            return {"tool": {"name": name}}
        case _:
            return choice


# ── answer ───────────────────────────────────────────────────────────────────────────────────────────────────

_STOP_REASONS: Mapping[str, DoneReason] = {
    **dict.fromkeys(("end_turn", "stop_sequence"), "stop"),
    **dict.fromkeys(("max_tokens", "model_context_window_exceeded"), "length"),
    "tool_use": "toolUse",
}
"""Stop reasons that are good endings (section 5)."""

_FAILURES: Mapping[str, tuple[ErrorKind, bool]] = {
    **dict.fromkeys(("guardrail_intervened", "content_filtered"), ("content_filter", False)),
    **dict.fromkeys(("malformed_model_output", "malformed_tool_use"), ("server", True)),
}
"""Stop reasons that are failures: the kind, and whether trying again may help. All others are unknown words."""


class BedrockConverseStreamParser(AnswerParser):
    """Frames to events. Blocks are told apart by the wire's index and by what they hold: text has no beginning there.

    :param compat: of the model.
    """

    def __init__(self, model: Model, compat: Compat, builder: MessageBuilder) -> None:
        super().__init__(model, builder)
        self._compat = compat
        self._texts: dict[Any, TextBlock] = {}
        self._thoughts: dict[Any, ThinkingBlock] = {}
        self._calls: dict[Any, ToolCallBlock] = {}
        self._payloads: dict[Any, _Payload] = {}  # of thoughts that the provider hides
        self._plain: TextBlock | None = None  # the text that is being written, and the wire's index of it
        self._plain_index: Any = None
        self._stop: str | None = None
        self._ignored: Counter[str] = Counter()

    def decode(self, event: Frame) -> JSONObject | None:
        """The event in a frame, as an object with its name and its content."""
        headers, data = event
        if headers.get(":message-type") != "event":
            return self._unusual(headers, data)
        name = str(headers.get(":event-type"))
        try:
            # The shortest way for what is plain JSON; what jiter refuses is judged again, and in better words.
            content = from_json(data or b"{}", allow_inf_nan=False)
        except ValueError:
            content = self._parse_again(name, data.decode("utf-8", "replace"))
        return {name: content}

    def _unusual(self, headers: Mapping[str, Any], data: bytes) -> None:
        """A frame that reports an error (BR15, BR34), or one of a kind that nobody knows."""
        match headers.get(":message-type"):
            case "exception":
                raise self._told(aws_words(str(headers.get(":exception-type")), _message_in(data)))
            case "error":
                raise self._told(aws_words(str(headers.get(":error-code")), str(headers.get(":error-message", ""))))
            case _:
                self._ignored["frames"] += 1

    def feed(self, payload: JSONObject) -> list[StreamEvent]:
        """What an event means; also takes a whole answer that was not streamed, and an error in its place."""
        content: Any = payload.get("contentBlockDelta")
        if content.__class__ is dict and self._plain and content.get("contentBlockIndex") == self._plain_index:
            delta: Any = content.get("delta")
            if delta.__class__ is dict and (text := delta.get("text")).__class__ is str:
                # What nearly every event is, done in few steps.
                return [self._plain.delta(text)] if text else []
        events: list[StreamEvent] = []
        if "output" in payload:
            for part in _as_events(payload):
                self._read(part, events)
        else:
            self._read(payload, events)
        return self._begun(events)

    def _read(self, payload: JSONObject, events: list[StreamEvent]) -> None:
        for name, content in payload.items():
            part = as_object(content)
            match name:
                case "contentBlockDelta":
                    self._delta(_index(part), as_object(part.get("delta")), events)
                case "contentBlockStart":
                    self._start(_index(part), as_object(part.get("start")), events)
                case "contentBlockStop":
                    self._end(_index(part), events)
                case "messageStart":
                    self._open(part)
                case "messageStop":
                    self._finish(part)
                case "metadata":
                    self._measure(part)
                case "message" | "Message" | "__type" | "error":
                    words = provider_words(payload)
                    raise self._told(
                        aws_words(kind, words.message) if (kind := as_text(payload.get("__type"))) else words
                    )
                case _ if name.endswith("Exception"):
                    raise self._told(aws_words(name, provider_words(content).message))
                case _:
                    self._ignored["events"] += 1

    def close(self) -> list[StreamEvent]:
        """End the answer."""
        builder, stop = self._builder, self._stop
        if stop is None:
            self._assume_completion(
                "stopReason",
                declared=self._compat.completion_proof == "eof",
                flag='"completionProof": "eof"',
                text="Bedrock stream ended without a stop reason",
            )
            stop = "tool_use" if self._message.tool_calls else "end_turn"
        if stop not in _STOP_REASONS:
            raise self._bad_end(stop)
        events: list[StreamEvent] = [] if self._started else [builder.start()]
        if not self._message.content:
            builder.note("empty")
        if self._ignored:
            builder.note("ignored", **self._ignored)
        events += builder.finish(_STOP_REASONS[stop])
        return events

    # ── blocks ───────────────────────────────────────────────────────────────────────────────────────────────

    def _start(self, index: int | None, start: JSONObject, events: list[StreamEvent]) -> None:
        tool = as_object(start.get("toolUse"))
        if tool and tool.get("type", "tool_use") == "tool_use":
            taken = {call.id for call in self._message.tool_calls}
            told = call_id(as_text(tool.get("toolUseId")), taken)
            block = self._calls[index] = self._builder.add_tool_call(told, as_text(tool.get("name")) or "")
            events.append(block.start())
        elif start:
            self._ignored["blocks"] += 1  # such as the calls that the service makes itself, and their results

    def _delta(self, index: int | None, delta: JSONObject, events: list[StreamEvent]) -> None:
        match delta:
            case {"text": str(text)}:
                self._say(index, text, events)
            case {"toolUse": {"input": str(piece)}} if index in self._calls:
                if piece:
                    events.append(self._calls[index].delta(piece))
            case {"reasoningContent": {"text": str(text)}}:
                block = self._thought(index, events)
                if text:
                    events.append(block.delta(text))
            case {"reasoningContent": {"signature": str(piece)}}:
                content = self._thought(index, events).content
                if not content.redacted:
                    content.thinking_signature = (content.thinking_signature or "") + piece
            case {"reasoningContent": {"redactedContent": str(piece)}}:
                self._hide(index, piece, events)
            case _:
                self._ignored["deltas"] += 1

    def _say(self, index: int | None, text: str, events: list[StreamEvent]) -> None:
        block = self._texts.get(index)
        if block is None:
            block = self._texts[index] = self._builder.add_text()
            events.append(block.start())
        self._plain, self._plain_index = block, index
        if text:
            events.append(block.delta(text))

    def _thought(self, index: int | None, events: list[StreamEvent]) -> ThinkingBlock:
        block = self._thoughts.get(index)
        if block is None:
            block = self._thoughts[index] = self._builder.add_thinking()
            events.append(block.start())
        return block

    def _hide(self, index: int | None, piece: str, events: list[StreamEvent]) -> None:
        """A piece of a thought that only the model can read: it goes back as one text, whole (section 5)."""
        block = self._thought(index, events)
        payload = self._payloads.get(index)
        if payload is None:
            payload = self._payloads[index] = _Payload()
            block.content.redacted = True
            events.append(block.delta(REDACTED))
        try:
            block.content.thinking_signature = payload.add(binascii.a2b_base64(piece, strict_mode=True))
        except ValueError as error:
            sentence = f"The server sent a hidden thought that is not base64 ({error})"
            raise self._failure("protocol", sentence, phase="stream") from error

    def _end(self, index: int | None, events: list[StreamEvent]) -> None:
        places: list[dict[Any, Any]] = [self._texts, self._thoughts, self._calls]
        blocks = [place.pop(index) for place in places if index in place]
        self._payloads.pop(index, None)
        if self._plain in blocks:
            self._plain = None
        events += [block.end() for block in sorted(blocks, key=lambda block: block.index)]

    # ── the message ──────────────────────────────────────────────────────────────────────────────────────────

    def _open(self, part: JSONObject) -> None:
        role = part.get("role", "assistant")
        if role != "assistant":
            text = f"Unexpected assistant message start but got {role} message start instead"
            raise self._failure("protocol", f"{text}; check the base URL", text=text, phase="stream")

    def _finish(self, part: JSONObject) -> None:
        if stop := as_text(part.get("stopReason")):
            self.proven = True
            self._stop = self._message.raw_stop_reason = stop

    def _measure(self, part: JSONObject) -> None:
        """The usage, which is the last event of an answer (BR27)."""
        if raw := as_object(part.get("usage")):
            self._builder.set_usage(_usage(raw, claude=is_claude(self._model)))
        self.ended = self.proven

    def _bad_end(self, stop: str) -> PiAIError:
        kind, retryable = _FAILURES.get(stop, ("protocol", False))
        text = f"Provider stopped with: {stop}"
        sentence = f"The provider ended the answer for the reason {stop[:100]!r}, which is no ending that can be used."
        return self._failure(kind, sentence, text=text, phase="end", provider_code=stop, retryable=retryable)


class _Payload:
    """Bytes that come in pieces, as base64 of all of them."""

    __slots__ = ("_encoded", "_rest")

    def __init__(self) -> None:
        self._encoded = ""
        self._rest = b""  # fewer than three bytes, whose base64 the next piece changes

    def add(self, piece: bytes) -> str:
        """Take the next piece and return the whole."""
        piece = self._rest + piece
        end = len(piece) - len(piece) % 3
        self._encoded += b64encode(piece[:end]).decode()
        self._rest = piece[end:]
        return self._encoded + b64encode(self._rest).decode()


def _message_in(data: bytes) -> str:
    """The message of an exception: in its JSON, else all that it has."""
    try:
        return provider_words(decode_json(data)).message
    except ValueError:
        return data.decode("utf-8", "replace").strip()


def _index(part: JSONObject) -> int | None:
    index = part.get("contentBlockIndex")
    return index if isinstance(index, int) else None


def _as_events(answer: JSONObject) -> Iterator[JSONObject]:
    """A whole answer as the events of a stream (F27)."""
    message = as_object(as_object(answer.get("output")).get("message"))
    yield {"messageStart": message}
    for index, block in enumerate(map(as_object, as_list(message.get("content")))):
        start, deltas = _as_deltas(block)
        if start:
            yield {"contentBlockStart": {"contentBlockIndex": index, "start": start}}
        for delta in deltas:
            yield {"contentBlockDelta": {"contentBlockIndex": index, "delta": delta}}
        yield {"contentBlockStop": {"contentBlockIndex": index}}
    yield {"messageStop": answer}
    yield {"metadata": answer}


def _as_deltas(block: JSONObject) -> tuple[JSONObject, list[JSONObject]]:
    """What begins a block in a stream, and what fills it."""
    match block:
        case {"toolUse": {"input": given, **tool}}:
            return {"toolUse": tool}, [{"toolUse": {"input": encode_json(given).decode()}}]
        case {"reasoningContent": {"reasoningText": {"text": text, **more}}}:
            parts = [{"text": text}, more]
            return {}, [{"reasoningContent": part} for part in parts if part]
        case _:
            return {}, [block]


def _usage(raw: JSONObject, *, claude: bool) -> Usage:
    """Tokens as the service counts them.

    Models that are not Anthropic's include in their input what was cached, which shows in the total (BR29).
    """
    long = [entry for entry in map(as_object, as_list(raw.get("cacheDetails"))) if entry.get("ttl") == "1h"]
    usage = Usage(
        input=as_tokens(raw.get("inputTokens")),
        output=as_tokens(raw.get("outputTokens")),
        cache_read=as_tokens(raw.get("cacheReadInputTokens")),
        cache_write=as_tokens(raw.get("cacheWriteInputTokens")),
        cache_write_1h=sum(as_tokens(entry.get("inputTokens")) for entry in long) if "cacheDetails" in raw else None,
        total_tokens=as_tokens(raw.get("totalTokens")),
    )
    cached = usage.cache_read + usage.cache_write
    if not claude and cached and usage.total_tokens == usage.input + usage.output:
        usage.input = max(0, usage.input - cached)
    usage.total_tokens = usage.total_tokens or usage.input + usage.output + cached
    return usage


# ── adapter ──────────────────────────────────────────────────────────────────────────────────────────────────


class BedrockConverseStream(Adapter[BedrockOptions]):
    """The Converse API of Amazon Bedrock."""

    api = "bedrock-converse-stream"
    label = "Bedrock"
    options_type = BedrockOptions

    def lower(self, model: Model, context: Context, options: StreamOptions) -> BedrockOptions:
        """As much thought as was asked for, and as long an answer as fits (section 4.5)."""
        level, budgets = options.reasoning, options.thinking_budgets
        limit, budget = fit_max_tokens(model, context, options.max_tokens), None
        if level and model.reasoning and is_claude(model) and not is_adaptive(model):
            limit, budget = fit_thinking(model, context, options.max_tokens, level, budgets)
        return lowered(
            BedrockOptions,
            options,
            max_tokens=limit,
            tool_choice=options.tool_choice,
            reasoning=None if budget == 0 else level,
            thinking_budgets={level: budget} if level and budget else budgets,
        )

    def build_request(self, model: Model, context: Context, options: BedrockOptions) -> Request:
        """The request (sections 1 and 4), still without a signature.

        :raises PiAIError: a tool requires what the model does not have, or an image is of a kind that it does not take
            (``bad_request``); a wrong region, compat flag, header or base URL (``config``).
        """
        return Request(
            url=place_of(model, options).base_url + _path(model),
            headers=_headers(model, options),
            body=_body(model, context, options, _sessions.of(options.session_id)),
        )

    async def authorize(self, request: HttpRequest, model: Model, options: BedrockOptions) -> HttpRequest:
        """The request at the endpoint of the profile's region, where that decides, and signed (BR9, BR12).

        :raises PiAIError: no credentials (``auth``), or no botocore to find them and to sign with (``config``).
        """
        place = place_of(model, options)
        if place.profile_tells:
            place = place_of(model, options, await chain(_own_profile(options), options.env).region())
            request = attrs.evolve(request, url=place.base_url + _path(model))
        if _is_anonymous(options) or _bearer_token(options):
            return request
        signer = _signer(model, options)
        if signer is None:
            return request
        told = {name: value for name, value in request.headers.items() if name.lower() not in _UNSIGNED}
        proof = await signed_headers(
            signer if isinstance(signer, Credentials) else await signer.credentials(),
            method=request.method,
            url=request.url,
            headers={name: value for name, value in told.items() if value.isascii()},
            body=request.body,
            service=SERVICE,
            region=place.region,
        )
        return attrs.evolve(request, headers={**request.headers, **proof})

    def instead(
        self, model: Model, context: Context, options: BedrockOptions, refused: Request, error: PiAIError
    ) -> Request | None:
        """Once more with fewer strict tools (CS3), or with credentials that have not expired (BR12)."""
        session, info = _sessions.of(options.session_id), error.info
        body, details = refused.body, None
        if info.status == 400 and is_too_strict(error.text):
            kind, details = "bedrock_strict_tools_fallback", {"reason": "strict_tool_limits_exceeded"}
            session.plain_tools = True
            body = _body(model, context, options, session)
            if body == refused.body:
                return None
        elif info.status == 403 and (info.provider_code or "").startswith("ExpiredToken"):
            kind, signer = "bedrock_credentials_renewed", _signer(model, options)
            if not isinstance(signer, Chain) or _bearer_token(options):
                return None
            signer.renew()
        else:
            return None
        if any(note.type == kind for note in refused.notes):
            return None
        note = Diagnostic(type=kind, error=DiagnosticError(message=_bare(error.text)), details=details)
        return attrs.evolve(refused, body=body, notes=(*refused.notes, note))

    def answered(self, message: AssistantMessage, headers: Mapping[str, str]) -> None:
        """The id of the answer stands in its head only."""
        message.response_id = as_text(headers.get("x-amzn-requestid"))

    def diagnose(self, info: ErrorInfo) -> Diagnostic:
        """A failure in pi's words (BR33)."""
        code = info.provider_code or ""
        details = {
            "status": info.status if info.phase == "headers" else None,
            "errorCode": code if code.endswith("Exception") else None,
            "requestId": info.request_id,
        }
        known = {key: value for key, value in details.items() if value is not None}
        return Diagnostic(type="bedrock_response_failure", details=known)

    def decoder(self, options: BedrockOptions) -> EventStreamDecoder:
        """AWS's binary frames."""
        return EventStreamDecoder(options.max_event_bytes)

    def parser(
        self, model: Model, options: BedrockOptions, builder: MessageBuilder, context: Context
    ) -> BedrockConverseStreamParser:
        """A parser of frames."""
        return BedrockConverseStreamParser(model, Compat.of(model), builder)


def _bare(text: str) -> str:
    """An error's text without the words for its kind."""
    return text.removeprefix("Validation error: ")
