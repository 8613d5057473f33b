"""Spans and metrics of all calls by OpenTelemetry, in the words of its conventions for generative AI (extra ``otel``).

    from pi_ai import telemetry

    telemetry.instrument()

From then on every stream is a span ``chat {model}`` under the span that was current when it was asked for, and counts
in the metrics ``gen_ai.client.*``. The span ends when the stream does, however it does. It is never the *current*
span: the reader's code runs between two events, and what it does is no part of the call. Neither prompts nor answers
are recorded, unless asked for; credentials never.

Beside the conventions' names there are four of ours: ``pi_ai.cost.usd`` and ``pi_ai.attempts`` (failed ones, each of
them an event ``pi_ai.attempt``) on spans, and the counter ``pi_ai.client.cost`` in US dollars.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pi_ai._version import __version__
from pi_ai.errors import ErrorInfo, PiAIError, failure
from pi_ai.events import DoneEvent, ErrorEvent, StartEvent, StreamEvent
from pi_ai.pricing import calculate_cost
from pi_ai.serialization import dumps
from pi_ai.taps import Asked, Opener, Tap, makers
from pi_ai.types import AssistantMessage, Model, StreamOptions

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, TracerProvider

PROVIDERS = {
    "amazon-bedrock": "aws.bedrock",
    "azure": "azure.ai.openai",
    "google": "gcp.gemini",
    "google-vertex": "gcp.vertex_ai",
    "mistral": "mistral_ai",
    "xai": "x_ai",
}
"""Names of the conventions where they differ from ours."""


def instrument(
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    record_content: bool = False,
) -> None:
    """Record all streams of this process that are asked for from now on. Calling it again replaces the settings.

    :param tracer_provider: default: OpenTelemetry's global one. ``meter_provider`` likewise.
    :param record_content: also record prompts, tools and answers, as JSON in ``gen_ai.input.messages``,
        ``gen_ai.output.messages``, ``gen_ai.system_instructions`` and ``gen_ai.tool.definitions``. They hold what your
        users wrote.
    :raises ConfigError: opentelemetry-api is not installed.
    """
    try:
        from opentelemetry import metrics, trace
    except ImportError as error:
        raise failure("config", 'Telemetry needs OpenTelemetry: pip install "pi_ai[otel]"') from error

    uninstrument()
    instruments = _Instruments(
        trace.get_tracer("pi_ai", __version__, tracer_provider),
        metrics.get_meter("pi_ai", __version__, meter_provider),
        record_content,
    )
    makers.append(instruments.tap)


def uninstrument() -> None:
    """Record no further streams; those that run are recorded to their end. Idempotent."""
    makers[:] = [make for make in makers if not isinstance(getattr(make, "__self__", None), _Instruments)]


class _Instruments:
    def __init__(self, tracer: Any, meter: Any, record_content: bool) -> None:
        self.tracer = tracer
        self.record_content = record_content
        self.duration = meter.create_histogram(
            "gen_ai.client.operation.duration", "s", "How long a call took, from the request to its last event"
        )
        self.first_chunk = meter.create_histogram(
            "gen_ai.client.operation.time_to_first_chunk", "s", "How long the first content took"
        )
        self.next_chunk = meter.create_histogram(
            "gen_ai.client.operation.time_per_output_chunk", "s", "How long each further chunk of content took"
        )
        self.tokens = meter.create_histogram("gen_ai.client.token.usage", "{token}", "How many tokens a call used")
        self.cost = meter.create_counter("pi_ai.client.cost", "{USD}", "What the calls cost")

    def tap(self, opener: Opener, asked: Asked) -> Tap:
        return _Observed(opener, asked, self)


class _Observed(Tap):
    """One stream's span and measurements."""

    def __init__(self, opener: Opener, asked: Asked, instruments: _Instruments) -> None:
        from opentelemetry import context

        super().__init__(opener)
        self._asked = asked
        self._with = instruments
        self._parent = context.get_current()
        self._span: Span | None = None
        self._began = 0.0
        self._last_chunk: float | None = None
        self._last: StreamEvent | None = None

    def asked(self) -> None:
        from opentelemetry.trace import SpanKind

        model = self._asked.model
        self._began = time.monotonic()
        self._span = self._with.tracer.start_span(
            f"chat {model.id}", self._parent, SpanKind.CLIENT, {**_whom(model), **self._requested()}
        )

    def passed(self, events: Sequence[StreamEvent]) -> None:
        self._last = events[-1]
        if isinstance(self._last, (StartEvent, DoneEvent, ErrorEvent)):
            return
        now, attributes = time.monotonic(), _whom(self._asked.model)
        if self._last_chunk is None:
            assert self._span is not None
            waited = now - self._began
            self._span.set_attribute("gen_ai.response.time_to_first_chunk", waited)
            self._with.first_chunk.record(waited, attributes)
        else:
            self._with.next_chunk.record(now - self._last_chunk, attributes)
        self._last_chunk = now

    def ended(self, error: BaseException | None = None) -> None:
        from opentelemetry.trace import StatusCode

        span, self._span = self._span, None
        if span is None:
            return
        message, reason, info = self._ending(error)
        attributes: dict[str, Any] = _whom(self._asked.model)
        span.set_attributes(_answered(message, reason))
        for attempt in message.attempts or []:
            span.add_event("pi_ai.attempt", {"error.type": attempt.error.kind, "pi_ai.delay": attempt.delay_s})
        if info is not None:
            attributes["error.type"] = info.kind
            span.set_attribute("error.type", info.kind)
            span.set_status(StatusCode.ERROR, info.message[:500])
        if self._with.record_content:
            span.set_attribute("gen_ai.output.messages", dumps([message]))
        self._measure(message, attributes)
        span.end()

    def _ending(self, error: BaseException | None) -> tuple[AssistantMessage, str, ErrorInfo | None]:
        """The message, why it ended, and the failure if it failed; an abort is none."""
        match self._last:
            case None:
                message, reason = self._asked.message, self._asked.message.stop_reason
            case DoneEvent() | ErrorEvent():
                message, reason = self._last.message, self._last.reason
            case _:
                message, reason = self._last.partial, self._last.partial.stop_reason
        if error is not None:
            reason = "error" if isinstance(error, Exception) else "aborted"
        if reason != "error":
            return message, reason, None
        if isinstance(error, PiAIError):
            return message, reason, error.info
        text = message.error_message or (type(error).__name__ if error else "")
        return message, reason, message.error_info or ErrorInfo(kind="internal", message=text)

    def _measure(self, message: AssistantMessage, attributes: dict[str, Any]) -> None:
        usage = message.usage
        self._with.duration.record(time.monotonic() - self._began, attributes)
        for kind, count in (("input", usage.input + usage.cache_read + usage.cache_write), ("output", usage.output)):
            if count:
                self._with.tokens.record(count, {**attributes, "gen_ai.token.type": kind})
        if not usage.cost.total and usage.total_tokens:
            calculate_cost(self._asked.model, usage)
        if usage.cost.total:
            self._with.cost.add(usage.cost.total, attributes)

    def _requested(self) -> dict[str, Any]:
        options, context = self._asked.options, self._asked.context
        found = {
            "gen_ai.request.stream": True,
            "gen_ai.request.max_tokens": options.max_tokens,
            "gen_ai.request.temperature": options.temperature,
            "gen_ai.conversation.id": options.session_id,
            "pi_ai.reasoning": options.reasoning if isinstance(options, StreamOptions) else None,
        }
        if self._with.record_content:
            found["gen_ai.input.messages"] = dumps(context.messages)
            found["gen_ai.system_instructions"] = context.system_prompt
            found["gen_ai.tool.definitions"] = dumps(context.tools) if context.tools else None
        return {name: value for name, value in found.items() if value is not None}


def _whom(model: Model) -> dict[str, Any]:
    """What every span and measurement says."""
    found: dict[str, Any] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": PROVIDERS.get(model.provider, model.provider),
        "gen_ai.request.model": model.id,
    }
    server = urlsplit(model.base_url or "")
    if server.hostname:
        found["server.address"] = server.hostname
        found["server.port"] = server.port or (80 if server.scheme == "http" else 443)
    return found


def _answered(message: AssistantMessage, reason: str) -> dict[str, Any]:
    usage = message.usage
    found: dict[str, Any] = {
        "gen_ai.response.id": message.response_id,
        "gen_ai.response.model": message.response_model or message.model,
        "gen_ai.response.finish_reasons": [reason],
        "gen_ai.usage.input_tokens": usage.input + usage.cache_read + usage.cache_write,
        "gen_ai.usage.output_tokens": usage.output,
        "gen_ai.usage.cache_read.input_tokens": usage.cache_read or None,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_write or None,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning,
        "pi_ai.cost.usd": usage.cost.total or None,
        "pi_ai.attempts": len(message.attempts) if message.attempts else None,
    }
    return {name: value for name, value in found.items() if value is not None}
