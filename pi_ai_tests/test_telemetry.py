"""Telemetry: what is recorded of a stream, whatever ends it, and what is not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from pi_ai import Context, Model, Registry, ThinkingContent, UserMessage, telemetry
from pi_ai.testing import Delivery, Failure, Sandbox, Turn
from pi_ai.types import ModelCost, Usage

pytestmark = pytest.mark.anyio
APIS = ["anthropic-messages", "openai-completions", "openai-responses", "google-generative-ai"]
CONTEXT = Context([UserMessage("The password is sesame.")], system_prompt="Keep it.")
PRICES = ModelCost(input=1_000_000, output=1_000_000, cache_read=0, cache_write=0)


class Recorded:
    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meters = MeterProvider([self._reader])

    @property
    def spans(self) -> Any:
        return self._exporter.get_finished_spans()

    def metrics(self) -> dict[str, list[Any]]:
        data = self._reader.get_metrics_data()
        assert data is not None
        [resource] = data.resource_metrics
        [scope] = resource.scope_metrics
        return {metric.name: list(metric.data.data_points) for metric in scope.metrics}


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    recorded = Recorded()
    telemetry.instrument(tracer_provider=recorded.tracers, meter_provider=recorded.meters)
    yield recorded
    telemetry.uninstrument()
    recorded.tracers.shutdown()
    recorded.meters.shutdown()


@pytest.mark.parametrize("api", APIS)
async def test_an_answer_is_a_span_in_the_words_of_the_conventions(
    recorded: Recorded, pi: Registry, box: Sandbox, api: str
) -> None:
    box.script(Turn("open says me", usage=Usage(input=30, output=5)))
    message = await pi.complete(box.model(api, cost=PRICES), CONTEXT, max_tokens=2000, session_id="s-1")
    [span] = recorded.spans
    assert (span.name, span.kind, span.status.status_code) == (f"chat {api}", SpanKind.CLIENT, StatusCode.UNSET)
    found = dict(span.attributes)
    assert found.pop("gen_ai.response.time_to_first_chunk") > 0
    assert found == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "sandbox",
        "gen_ai.request.model": api,
        "gen_ai.request.max_tokens": 2000,
        "gen_ai.request.stream": True,
        "gen_ai.conversation.id": "s-1",
        "gen_ai.response.id": message.response_id,
        "gen_ai.response.model": api,
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 30,
        "gen_ai.usage.output_tokens": 5,
        "pi_ai.cost.usd": 35,
        "server.address": "127.0.0.1",
        "server.port": int(box.url.rpartition(":")[2]),
    } | ({"gen_ai.usage.reasoning.output_tokens": 0} if message.usage.reasoning == 0 else {})


async def test_it_is_measured(recorded: Recorded, pi: Registry, box: Sandbox) -> None:
    box.script(Turn("open says me", usage=Usage(input=30, output=5)))
    await pi.complete(box.model(cost=PRICES), CONTEXT)
    found = recorded.metrics()
    assert {point.attributes["gen_ai.token.type"]: point.sum for point in found["gen_ai.client.token.usage"]} == {
        "input": 30,
        "output": 5,
    }
    assert [point.value for point in found["pi_ai.client.cost"]] == [35]
    for name in "duration", "time_to_first_chunk", "time_per_output_chunk":
        [point] = found[f"gen_ai.client.operation.{name}"]
        assert point.sum > 0
        assert point.count == (1 if name != "time_per_output_chunk" else point.count)
        assert point.attributes["gen_ai.request.model"] == "openai-completions"


async def test_nothing_of_prompts_and_answers_is_recorded_unless_asked_for_X22(
    recorded: Recorded, pi: Registry, box: Sandbox
) -> None:
    box.script(*[Turn([ThinkingContent("Hm.", "signature"), "open says me"])] * 2)
    await pi.complete(box.model("anthropic-messages"), CONTEXT, api_key="canary-key")
    telemetry.instrument(tracer_provider=recorded.tracers, meter_provider=recorded.meters, record_content=True)
    await pi.complete(box.model("anthropic-messages"), CONTEXT, api_key="canary-key")
    silent, told = recorded.spans
    for word in "sesame", "Keep it", "open says", "Hm.":
        assert word not in silent.to_json()
        assert word in told.to_json()
    assert "canary-key" not in silent.to_json() + told.to_json()


async def test_a_failure_has_its_kind_and_its_attempts(recorded: Recorded, pi: Registry, box: Sandbox) -> None:
    box.script(Failure(503, headers={"retry-after": "0"}), Failure(401, "No such key"))
    await pi.complete(box.model(), CONTEXT)
    [span] = recorded.spans
    assert (span.attributes["error.type"], span.attributes["pi_ai.attempts"]) == ("auth", 1)
    assert span.status.status_code is StatusCode.ERROR
    assert "No such key" in span.status.description
    [event] = span.events
    assert (event.name, event.attributes["error.type"]) == ("pi_ai.attempt", "overloaded")
    [point] = recorded.metrics()["gen_ai.client.operation.duration"]
    assert point.attributes["error.type"] == "auth"


async def test_a_request_that_could_not_be_made_is_a_failed_span(recorded: Recorded, pi: Registry) -> None:
    await pi.complete(Model(id="m", api="no-such-api", provider="sandbox", base_url="http://localhost"), CONTEXT)
    [span] = recorded.spans
    assert (span.attributes["error.type"], span.status.status_code) == ("config", StatusCode.ERROR)


@pytest.mark.parametrize("how", ["abort", "aclose", "cancel", "drop"])
async def test_every_way_to_leave_ends_the_span_and_is_no_error(
    recorded: Recorded, pi: Registry, box: Sandbox, how: str
) -> None:
    box.script(Turn("one two three"), delivery=Delivery(stop_after=2, then="stall"))
    stream: Any = pi.stream(box.model(), CONTEXT)
    with anyio.CancelScope() as scope:
        async for event in stream:
            if event.type == "text_delta":
                if how == "abort":
                    stream.abort()
                elif how == "cancel":
                    scope.cancel()
                else:
                    break
    if how == "drop":
        del event, stream
    elif how == "aclose":
        await stream.aclose()
    with anyio.fail_after(20):
        await box.requests[0].ending()
        while not recorded.spans:
            await anyio.sleep(0.01)
    [span] = recorded.spans
    assert span.attributes["gen_ai.response.finish_reasons"] == ("aborted",)
    assert span.status.status_code is StatusCode.UNSET


async def test_its_parent_is_where_the_stream_was_asked_for_and_readers_are_not_inside(
    recorded: Recorded, pi: Registry, box: Sandbox
) -> None:
    tracer = recorded.tracers.get_tracer("mine")
    with tracer.start_as_current_span("outer") as outer:
        stream = pi.stream(box.model(), CONTEXT)
    async for _ in stream:
        assert trace.get_current_span() is trace.INVALID_SPAN
        with tracer.start_as_current_span("of the reader"):
            pass
    spans = {span.name: span for span in recorded.spans}
    assert spans["chat openai-completions"].parent.span_id == outer.get_span_context().span_id
    assert spans["of the reader"].parent is None


async def test_a_custom_provider_that_streams_from_an_api_is_one_span(
    recorded: Recorded, pi: Registry, box: Sandbox
) -> None:
    async def answer(model: Any, context: Any, options: Any) -> Any:
        return pi.stream_api(box.model(), context, options)

    pi.register_provider(
        "mine", api="mine", stream_simple=answer, base_url="http://localhost", api_key="k", models=[{"id": "m"}]
    )
    assert (await pi.complete(pi.get_model("mine", "m"), CONTEXT)).stop_reason == "stop"
    assert [span.name for span in recorded.spans] == ["chat m"]


async def test_after_uninstrument_nothing_is_recorded(recorded: Recorded, pi: Registry, box: Sandbox) -> None:
    telemetry.uninstrument()
    telemetry.uninstrument()
    await pi.complete(box.model(), CONTEXT)
    assert not recorded.spans


def test_without_the_package_the_error_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from pi_ai import telemetry, ConfigError\n"
        "try: telemetry.instrument()\n"
        "except ConfigError as error: print(error)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.strip() == 'Telemetry needs OpenTelemetry: pip install "pi_ai[otel]"'
