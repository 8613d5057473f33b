"""What every API adapter is made of, and the one loop that drives them.

An adapter turns a model, a context and options into one request (pure), and the bytes of the answer into typed
events (sans-IO). It never touches a socket: :class:`Answer` drives it through the transport. A file in this
folder reads top-down: options, request, parser, adapter. Adding an API: one file, and one line in
``adapters/__init__.py``.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar, cast

import anyio
import attrs

from pi_ai.adapters._request import secrets_of
from pi_ai.adapters.hooks import call_hook
from pi_ai.builder import MessageBuilder
from pi_ai.clocks import Clocks
from pi_ai.errors import ErrorInfo, PiAIError, failure
from pi_ai.events import StreamEvent, TextEndEvent, ThinkingEndEvent, ToolCallEndEvent
from pi_ai.failures import http_failure, redact, request_id
from pi_ai.headers import identity_headers, merge_headers
from pi_ai.history import current_tools, loose_ends, transcript
from pi_ai.retries import RetryPolicy
from pi_ai.text import decode_json, encode_json
from pi_ai.tools import check_references
from pi_ai.transport import MAX_ERROR_BYTES, Connections, Exchange, HttpRequest
from pi_ai.types import (
    AssistantMessage,
    Attempt,
    Context,
    Diagnostic,
    JSONObject,
    Model,
    RequestOptions,
    ResponseInfo,
    StreamOptions,
    Timeouts,
)

WireEventT = TypeVar("WireEventT")
WireEventTntra = TypeVar("WireEventTntra", contravariant=True)
OptionsT = TypeVar("OptionsT", bound=RequestOptions)
T = TypeVar("T")

_DOCUMENTS = {"application/json", "application/problem+json", "text/html"}
"""Media types that no event stream should have."""
_STREAM = re.compile(rb"(data|event|id|retry)?:|[\0\1]")
"""How server-sent events begin, and binary frames."""
_TITLE = re.compile(r"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)
_ENDS = (TextEndEvent, ThinkingEndEvent, ToolCallEndEvent)

BURST_EVENTS, BURST_AFTER_S, BURST_S = 8, 1.0, 0.05
"""An answer was buffered on its way (F10) if so many wire events, waited for so long, came within so short a time."""


@attrs.frozen(kw_only=True)
class Request:
    """One request to an API, before hooks, client identity and encoding.

    :ivar headers: all layers but the identity, merged; None removes a header of a lower layer.
    :ivar body: the payload, JSON-ready.
    :ivar notes: what the message is to tell about it: why it is not the one that was made first.
    """

    url: str
    headers: dict[str, str | None] = attrs.field(repr=False)
    body: JSONObject
    notes: tuple[Diagnostic, ...] = ()


class Decoder(Protocol[WireEventT]):
    """Bytes to wire events: one piece in, the events that it completes out; any split gives the same events."""

    def feed(self, data: bytes) -> list[WireEventT]:
        """Take the next bytes of the body."""
        ...

    def close(self) -> list[WireEventT]:
        """The body has ended: what is still complete."""
        ...


class Parser(Protocol[WireEventTntra]):
    """Wire events to typed events, through a :class:`MessageBuilder`.

    ``start`` is emitted in front of the first event of content, never alone: until then the request may be made
    again, and nobody must see two starts (D10).

    :ivar ended: the wire's own last event was seen; nothing more need be read. ``close()`` is called next.
    :ivar proven: the wire's proof of completion was seen: ``close()`` will succeed, however the body ends
        (reliability section 2).
    """

    ended: bool
    proven: bool

    def decode(self, event: WireEventTntra) -> JSONObject | None:
        """The provider's event as JSON, None for one without meaning (a ping, the end marker).

        :raises PiAIError: it is not JSON, or the provider reports an error outside of JSON.
        """
        ...

    def feed(self, payload: JSONObject) -> list[StreamEvent]:
        """What the provider's event means. Also takes a whole answer where a server did not stream (F27).

        :raises PiAIError: the provider reports an error, or broke the protocol.
        """
        ...

    def close(self) -> list[StreamEvent]:
        """The answer has ended: the last events, ``done`` included. Called once.

        :raises PiAIError: it is not complete (kind ``truncated``), or its stop reason is an error.
        """
        ...


@attrs.frozen(kw_only=True)
class Call:
    """One call with everything resolved: what an adapter is given.

    :ivar options: of the adapter's own ``options_type``, with the key in place.
    :ivar timeouts: without UNSET.
    :ivar builder: made with the stream, so that its message is the stream's from the first moment.
    :ivar alike: gives the ids of models that this one's looks like, should its provider not know it (F36).
    """

    model: Model
    context: Context
    options: Any
    timeouts: Timeouts
    connections: Connections
    retry: RetryPolicy
    builder: MessageBuilder
    alike: Callable[[], list[str]] = list


class Adapter(ABC, Generic[OptionsT]):
    """One API. Subclasses have no state of their own.

    :cvar api: its id, the value of ``Model.api``. ``label``: its name in error texts.
    :cvar options_type: the class of its own options.
    :cvar reads_arrays: the decoder also reads a stream that is one JSON array (F15).
    """

    api: ClassVar[str]
    label: ClassVar[str]
    options_type: type[OptionsT]
    reads_arrays: ClassVar[bool] = False

    @abstractmethod
    def lower(self, model: Model, context: Context, options: StreamOptions) -> OptionsT:
        """Portable options to this API's own (pi's ``streamSimple``). Pure."""

    @abstractmethod
    def build_request(self, model: Model, context: Context, options: OptionsT) -> Request:
        """The request for a conversation. Pure.

        :raises PiAIError: there is no key, or the conversation cannot be expressed.
        """

    @abstractmethod
    def decoder(self, options: OptionsT) -> Decoder[Any]:
        """A fresh decoder of the API's framing."""

    @abstractmethod
    def parser(self, model: Model, options: OptionsT, builder: MessageBuilder, context: Context) -> Parser[Any]:
        """A fresh parser that writes to ``builder``; ``context`` is what the request was made of."""

    def hint(self, body: JSONObject, error_text: str) -> str | None:
        """For a request that the provider refused as bad: what to change, where that can be told."""
        return None

    async def authorize(self, request: HttpRequest, model: Model, options: OptionsT) -> HttpRequest:
        """The request with what takes time or needs its bytes: a token that is fetched, a signature.

        Awaited for every attempt, so that neither is out of date.

        :raises PiAIError: there is no credential, or it cannot be had.
        """
        return request

    def may_renew(self, request: HttpRequest, model: Model, options: OptionsT) -> bool:
        """The server refused the credential of a request (401): whether ``authorize`` can get a newer one (F92)."""
        return False

    def instead(
        self, model: Model, context: Context, options: OptionsT, refused: Request, error: PiAIError
    ) -> Request | None:
        """For a request that failed before its answer began: another one to send at once in its place, with a note
        that says why. None: there is none.
        """
        return None

    def answered(self, message: AssistantMessage, headers: Mapping[str, str]) -> None:
        """An answer has begun: what its head tells about the message.

        :param headers: by lower-case name.
        """

    def diagnose(self, info: ErrorInfo) -> Diagnostic | None:
        """A note about an answer that failed, where pi has one beside the error itself."""
        return None

    def events(self, call: Call) -> Answer:
        """The source of a stream: one list of events a chunk of the wire."""
        return Answer(self, call)


class Answer:
    """The source of a stream: the events of one call.

    Requests are made until the first content event (the commit point, D10); what fails later is not made again.
    """

    def __init__(self, adapter: Adapter[Any], call: Call) -> None:
        self._attempts = _Attempts(adapter, call)
        self._reading: _Reading | None = None
        # A hook may wait for something else than the network; then the stream's own scope has to end it.
        self.abort = None if call.options.on_provider_stream_event else self._abort

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[list[StreamEvent]]:
        return self._first() if self._reading is None else self._reading.events()

    async def _first(self) -> list[StreamEvent]:
        self._reading, events = await self._attempts.first()
        return events

    @property
    def waits(self) -> int:
        """How often the network was waited for."""
        return 0 if self._reading is None else self._reading.clocks.waits

    def _abort(self) -> None:
        if self._reading is not None:
            self._reading.clocks.abort()

    async def aclose(self) -> None:
        """Release the connection."""
        if self._reading is not None:
            await self._reading.exchange.aclose()


class _Attempts:
    """The requests of one call, up to the commit point."""

    def __init__(self, adapter: Adapter[Any], call: Call) -> None:
        self.adapter = adapter
        self.call = call
        self.made = 0
        self.notes: tuple[Diagnostic, ...] = ()

    async def first(self) -> tuple[_Reading, list[StreamEvent]]:
        """The attempt that is used, and its first events."""
        call = self.call
        check_references(current_tools(transcript(call.context)))
        built = self.adapter.build_request(call.model, call.context, call.options)
        self.notes = _repairs(call.context)
        clocks = Clocks(call.timeouts)
        while True:
            try:
                return await self._with_retries(built, clocks)
            except PiAIError as error:
                other = self.adapter.instead(call.model, call.context, call.options, built, error)
                if other is None:
                    raise self._final(error) from error.__cause__
                built = other

    def _final(self, error: PiAIError) -> PiAIError:
        """The failure of a call none of whose requests was answered."""
        info = attrs.evolve(error.info, attempts=self.made)
        if info.kind == "not_found" and (known := self.call.alike()):
            info = attrs.evolve(info, message=f"{info.message}; the closest ids that are known: {', '.join(known)}")
        return info.exception(error.text)

    async def _with_retries(self, built: Request, clocks: Clocks) -> tuple[_Reading, list[StreamEvent]]:
        call = self.call
        body = await call_hook("on_payload", call.options.on_payload, built.body, call.model) or built.body
        if "stream" in built.body:
            body["stream"] = True  # whatever a hook did: this is how the answer is read
        identity = identity_headers(call.model, call.options.identity, call.options.session_id)
        headers = merge_headers(identity, built.headers)
        changed = await call_hook("transform_headers", call.options.transform_headers, headers)
        headers = headers if changed is None else merge_headers(changed)
        request = HttpRequest(
            url=built.url, headers=headers, body=encode_json(body), allow_insecure=call.options.allow_insecure
        )
        retry = call.retry
        if any(name.lower() == "idempotency-key" for name in headers):
            retry = attrs.evolve(retry, unknown_delivery=True)  # the server sees to it that nothing runs twice (F52)
        return await retry.run(
            lambda: self._attempt(request, body, clocks, built.notes),
            self._failed,
            sleep=lambda seconds: clocks.pause(partial(anyio.sleep, seconds)),
        )

    async def _attempt(
        self, request: HttpRequest, body: JSONObject, clocks: Clocks, notes: tuple[Diagnostic, ...]
    ) -> tuple[_Reading, list[StreamEvent]]:
        call, options = self.call, self.call.options
        call.builder.reset()
        for note in (*self.notes, *notes):
            call.builder.message.add_diagnostic(note)
        clocks.restart()
        exchange = await self._open(request, clocks)
        reading = _Reading(self.adapter, call, exchange, clocks, self.made)
        try:
            if exchange.status == 202 or not 200 <= exchange.status < 300:  # 202: queued, nothing to stream
                raise await self._refusal(exchange, body)
            self.adapter.answered(call.builder.message, exchange.headers)
            await call_hook(
                "on_response",
                options.on_response,
                ResponseInfo(status=exchange.status, headers=exchange.headers),
                call.model,
            )
            events: list[StreamEvent] = []
            while not events:
                events = await reading.events()
            reading.begun_s = clocks.waited_s
        except PiAIError as error:
            await exchange.aclose()
            raise reading.told(error) from error.__cause__
        except BaseException:
            await exchange.aclose()
            raise
        return reading, events

    async def _open(self, request: HttpRequest, clocks: Clocks, *, once_more: bool = True) -> Exchange:
        """Send the request, and send it once more where its credential was only out of date (F92)."""
        call, adapter, options = self.call, self.adapter, self.call.options
        authorized = await clocks.pause(lambda: adapter.authorize(request, call.model, options))
        self.made += 1
        exchange = await call.connections.open(authorized, clocks, client=options.http_client, proxy=options.proxy)
        if exchange.status == 401 and once_more and adapter.may_renew(authorized, call.model, options):
            await exchange.aclose()
            return await self._open(request, clocks, once_more=False)
        return exchange

    async def _refusal(self, exchange: Exchange, payload: JSONObject) -> PiAIError:
        """The failure that an HTTP status and its body tell (F30)."""
        model = self.call.model
        error = http_failure(
            exchange.status,
            exchange.headers,
            await exchange.read_up_to(MAX_ERROR_BYTES),
            provider=model.provider,
            api=model.api,
            model=model.id,
            secrets=secrets_of(model, self.call.options),
        )
        hint = self.adapter.hint(payload, error.text) if exchange.status in (400, 422) else None
        if hint is None:
            return error
        return attrs.evolve(error.info, message=f"{error.info.message}; {hint}").exception(error.text)

    def _failed(self, error: PiAIError, delay_s: float) -> None:
        message = self.call.builder.message
        info = attrs.evolve(error.info, attempts=self.made)
        message.attempts = [*(message.attempts or []), Attempt(error=info, delay_s=delay_s)]


def _repairs(context: Context) -> tuple[Diagnostic, ...]:
    """What has to be repaired in a conversation before it can be sent (F83)."""
    missing, surplus = loose_ends(context.messages)
    if not (missing or surplus):
        return ()
    return (Diagnostic(type="history", details={"results_made_up": missing, "results_left_out": surplus}),)


class _Reading:
    """The answer of one attempt: chunks of the wire in, lists of events out.

    :ivar begun_s: how long the network was waited for until the first content; None: it has not come yet.
    """

    def __init__(self, adapter: Adapter[Any], call: Call, exchange: Exchange, clocks: Clocks, attempt: int) -> None:
        self.exchange = exchange
        self.attempt = attempt
        self.finished = False
        self.events_seen = 0
        self.begun_s: float | None = None
        self.clocks = clocks
        self._model = call.model
        self._message = call.builder.message
        self._diagnose = adapter.diagnose
        self._secrets = secrets_of(call.model, call.options)
        self._limit = call.options.max_output_bytes
        self._max_body_bytes = call.options.max_body_bytes
        self._observe = call.options.on_provider_stream_event
        self._decoder = adapter.decoder(call.options)
        self._parser = adapter.parser(call.model, call.options, call.builder, call.context)
        self._failure: PiAIError | None = None
        self._looked = False
        self._reads_arrays = adapter.reads_arrays

    async def events(self) -> list[StreamEvent]:
        """Read once, and say what it means; possibly nothing.

        An error in the middle of a chunk is held back until the events before it have been taken.

        :raises StopAsyncIteration: the answer has ended.
        """
        if self._failure is not None:
            raise self._failure
        if self.finished:
            raise StopAsyncIteration
        parser, observe = self._parser, self._observe
        events: list[StreamEvent] = []
        meant = False
        try:
            if not self._looked:
                self._looked = True
                if await self._is_document():
                    return await self._document()
            try:
                data = await self.exchange.read()
                wire_events = self._decoder.feed(data) if data else self._decoder.close()
            except PiAIError as error:
                if not parser.proven or error.info.kind == "aborted":
                    raise
                self._is_late(error)
                data, wire_events = b"", ()
            if self._limit is not None and self.exchange.bytes_seen > self._limit:
                raise failure("too_large", f"The answer is larger than max_output_bytes={self._limit}.", phase="stream")
            for wire_event in wire_events:
                self.events_seen += 1
                try:
                    payload = parser.decode(wire_event)
                except PiAIError as error:
                    if error.info.kind != "protocol" or (data and not parser.proven):
                        raise
                    if not parser.proven:
                        raise _cut(error) from error
                    self._is_late(error)
                    data = b""
                    break
                if payload is not None:
                    if observe is not None:
                        await call_hook("on_provider_stream_event", observe, payload, self._model)
                    events += parser.feed(payload)
                    meant = True
                if parser.ended:
                    break
            if meant:
                self.clocks.progressed()
            if parser.ended or not data:
                events += self._end()
            elif parser.proven or (events and isinstance(events[-1], _ENDS)):
                self.clocks.content_ended()
        except PiAIError as error:
            self._failure = self.told(error)
            if not events:
                raise self._failure from error.__cause__
        return events

    def _end(self) -> list[StreamEvent]:
        self.finished = self.exchange.complete = True
        waited_s = self.clocks.waited_s
        begun_s = waited_s if self.begun_s is None else self.begun_s
        if (
            self.events_seen >= BURST_EVENTS
            and begun_s >= BURST_AFTER_S
            and waited_s - begun_s <= max(BURST_S, begun_s / 100)
        ):
            details = {"seconds": round(begun_s, 3), "events": self.events_seen}
            self._message.add_diagnostic(Diagnostic(type="buffered", details=details))
        return self._parser.close()

    def _is_late(self, error: PiAIError) -> None:
        """The answer was complete before this failed; how its body ended does not matter (F24)."""
        self._message.add_diagnostic(Diagnostic(type="late_failure", details={"kind": error.info.kind}))

    async def _is_document(self) -> bool:
        """Whether the body is no stream: how it begins tells more than its media type."""
        head = (await self.exchange.peek()).removeprefix(b"\xef\xbb\xbf").lstrip()
        if head.startswith((b"{", b"<")):
            return True
        if head.startswith(b"[") and self._reads_arrays:
            return False
        return bool(head) and _media_type(self.exchange) in _DOCUMENTS and not _STREAM.match(head)

    async def _document(self) -> list[StreamEvent]:
        """A server that did not stream: the answer, or an error, as one JSON document (F27), or a web page (F26)."""
        body = await self.exchange.read_all(self._max_body_bytes)
        try:
            found = decode_json(body)
        except ValueError:
            found = None
        payloads = cast("list[Any]", found if isinstance(found, list) else [found])
        events: list[StreamEvent] = []
        for payload in payloads:
            if not isinstance(payload, dict):
                raise self._no_stream(body)
            self.events_seen += 1
            payload = cast("JSONObject", payload)
            await call_hook("on_provider_stream_event", self._observe, payload, self._model)
            events += self._parser.feed(payload)
        return events + self._end()

    def _no_stream(self, body: bytes) -> PiAIError:
        media_type = _media_type(self.exchange) or "no content type"
        title = _TITLE.search(body.decode("utf-8", "replace"))
        text = f"Expected an event stream, got {media_type}: {_excerpt(title[1].strip() if title else body)}"
        return failure("protocol", f"{text}. Check the base URL.", text=text, phase="stream")

    def told(self, error: PiAIError) -> PiAIError:
        """An error with what this exchange knows: how far it came, and the provider's id for it."""
        if error is self._failure:
            return error  # it has been told
        info = error.info
        more = attrs.evolve(
            info,
            message=redact(info.message, self._secrets),
            phase=info.phase or "stream",
            request_id=info.request_id or request_id(self.exchange.headers),
            attempts=self.attempt,
            events_seen=self.events_seen,
            bytes_seen=self.exchange.bytes_seen,
        )
        note = self._diagnose(more)
        if note is not None and more.kind != "aborted":
            self._message.add_diagnostic(note)
        return more.exception(redact(error.text, self._secrets))


def _cut(error: PiAIError) -> PiAIError:
    """The body ended in the middle of an event, which therefore could not be read (F20)."""
    text = "Stream ended in the middle of an event"
    sentence = f"The answer was cut off in the middle of an event: {error.info.message}"
    return failure("truncated", sentence, text=text, phase="end")


def _media_type(exchange: Exchange) -> str:
    return exchange.headers.get("content-type", "").partition(";")[0].strip().lower()


def _excerpt(body: bytes | str) -> str:
    """At most 200 characters for an error message, control characters escaped (F11)."""
    text = body if isinstance(body, str) else body.decode("utf-8", "replace")
    return re.sub(r"[\x00-\x1f\x7f]", lambda found: repr(found[0])[1:-1], text[:200])
