"""Streaming implementations of one's own: who is asked, what it is given, what becomes of its events (R60-R79)."""

from __future__ import annotations

import anyio
import attrs
import pytest

import pi_ai
from pi_ai import (
    AssistantMessage,
    Context,
    DoneEvent,
    ErrorEvent,
    MessageBuilder,
    Model,
    ModelCost,
    Provider,
    Registry,
    StartEvent,
    StreamBusyError,
    StreamOptions,
    TextContent,
    TextDeltaEvent,
    TextStartEvent,
    ToolCall,
    ToolCallDeltaEvent,
    ToolCallEndEvent,
    ToolCallStartEvent,
    Usage,
    UserMessage,
    create_assistant_message_event_stream,
    event_stream,
    get_api,
    open_event_channel,
    stream_api,
)
from pi_ai.adapters.custom import CustomApi
from pi_ai.providers.base import payload_to_send, provider_event_arrived, response_arrived
from pi_ai.testing import Sandbox, Turn

pytestmark = pytest.mark.anyio
CHAT = "openai-completions"
CONTEXT = Context([UserMessage("Hello", timestamp=1)])
MODEL = Model(id="m", api="my-api", provider="x", base_url="https://x.example", cost=ModelCost(input=1.0, output=10.0))
WHOLE = {"base_url": "https://x.example", "api": "my-api", "api_key": "k", "models": [MODEL]}


async def hello(model, context, options):
    out = MessageBuilder(model)
    yield out.start()
    yield out.text("Hello")
    out.set_usage(Usage(input=2, output=3, total_tokens=5))
    yield out.finish("stop")


def registry(stream_simple=hello, **fields):
    pi = Registry()
    pi.register_provider("x", **{**WHOLE, "stream_simple": stream_simple, **fields})
    return pi


async def played(stream_simple, **options):
    """The events and the final message of a request to a registered stream function."""
    pi = registry(stream_simple)
    events = pi.stream(pi.get_model("x", "m"), CONTEXT, **options)
    return [event.type async for event in events], events.message


# ── who is asked ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_R60_a_stream_function_serves_its_own_provider_and_its_own_api():
    pi = registry(models=[MODEL, {"id": "other", "api": CHAT}])
    pi.register_provider("y", **{**WHOLE, "models": [{"id": "m"}]})
    assert (await pi.complete(pi.get_model("x", "m"), CONTEXT)).text == "Hello"
    message = await pi.complete(pi.get_model("y", "m"), CONTEXT)
    assert message.error_message == "No API provider registered for api: my-api"
    assert pi.get_provider("x").api(CHAT) is None
    assert pi.get_provider("x").api("my-api") is not None


async def test_R60_a_built_in_api_can_be_served_by_a_provider_in_its_own_way():
    pi = Registry()
    pi.register_provider("groq", api=CHAT, stream_simple=hello)
    assert (await pi.complete(pi.get_model("groq", "openai/gpt-oss-120b"), CONTEXT)).text == "Hello"
    own = get_api(CHAT).options_type(api_key="k")
    assert (await pi.complete(pi.get_model("groq", "openai/gpt-oss-120b"), CONTEXT, own)).text == "Hello"
    pi.unregister_provider("groq")
    assert pi.get_provider("groq").api(CHAT) is None


def says(text):
    async def function(model, context, options):
        out = MessageBuilder(model)
        yield out.start()
        yield out.text(text)
        yield out.finish("stop")

    return function


async def test_R64_the_provider_then_its_base_then_everybodys_api_is_asked():
    class Base(Provider):
        id = "x"

        def models(self):
            return [MODEL]

        def api(self, api):
            return CustomApi(says("base"), "base") if api == "my-api" else None

    pi = Registry()
    pi.register_api("my-api", says("everybody's"))
    assert (await pi.complete(MODEL, CONTEXT)).text == "everybody's"
    pi.register_provider(Base())
    assert (await pi.complete(MODEL, CONTEXT)).text == "base"
    pi.register_provider("x", **WHOLE, stream_simple=says("registered"))
    assert (await pi.complete(MODEL, CONTEXT)).text == "registered"
    pi.unregister_provider("x")
    assert (await pi.complete(MODEL, CONTEXT)).text == "everybody's"


async def test_an_api_is_registered_by_a_decorator_and_taken_back_by_its_source():
    pi = Registry()

    @pi.register_api("my-api", source_id="extension")
    async def my_api(model, context, options):
        async for event in hello(model, context, options):
            yield event

    assert (await pi.complete(MODEL, CONTEXT)).text == "Hello"
    pi.register_api("my-api", says("newer"), source_id="other")
    assert (await pi.complete(MODEL, CONTEXT)).text == "newer"
    pi.unregister_apis("other")
    assert (await pi.complete(MODEL, CONTEXT)).text == "Hello"
    pi.unregister_apis("extension")
    assert (await pi.complete(MODEL, CONTEXT)).stop_reason == "error"
    pi.register_api(CHAT, says("instead of the built-in one"))
    assert (await pi.complete(attrs.evolve(MODEL, api=CHAT), CONTEXT)).text == "instead of the built-in one"


async def test_R65_an_api_is_registered_at_module_level(monkeypatch):
    monkeypatch.setattr("pi_ai.registry._default", None)
    pi_ai.register_api("my-api", hello, source_id="test")
    assert (await pi_ai.complete(MODEL, CONTEXT)).text == "Hello"
    async with Registry():  # begins with what there is
        assert (await pi_ai.complete(MODEL, CONTEXT)).text == "Hello"
        pi_ai.unregister_apis("test")
        assert (await pi_ai.complete(MODEL, CONTEXT)).stop_reason == "error"
    assert (await pi_ai.complete(MODEL, CONTEXT)).text == "Hello"
    pi_ai.unregister_apis("test")

    @pi_ai.register_api("my-api")
    async def again(model, context, options):
        yield MessageBuilder(model).finish("stop")

    assert (await pi_ai.complete(MODEL, CONTEXT)).stop_reason == "stop"


# ── its form ─────────────────────────────────────────────────────────────────────────────────────────────────


def returns_a_stream(model, context, options):
    return event_stream(hello(model, context, options), model=model)


async def returns_a_stream_later(model, context, options):
    await anyio.sleep(0)
    return event_stream(hello(model, context, options), model=model)


class Iterable:
    def __init__(self, events):
        self._events = events

    def __aiter__(self):
        return self._events


FORMS = {
    "async generator": hello,
    "sync function": returns_a_stream,
    "async function": returns_a_stream_later,
    "async iterable": lambda *arguments: Iterable(hello(*arguments)),
    "object that is called": type("Callable", (), {"__call__": staticmethod(hello)})(),
}


@pytest.mark.parametrize("form", FORMS)
async def test_R67_every_form_of_a_stream_function_gives_the_same_stream(form):
    types, message = await played(FORMS[form])
    assert types == ["start", "text_start", "text_delta", "text_end", "done"]
    assert (message.text, message.stop_reason, message.usage.cost.total) == ("Hello", "stop", 32e-6)
    assert (message.api, message.provider, message.model) == ("my-api", "x", "m")


def raises(model, context, options):
    raise KeyError("before")


async def raises_later(model, context, options):
    raise ValueError("before")


@pytest.mark.parametrize(("function", "text"), [(raises, "'before'"), (raises_later, "before")])
async def test_R67_what_it_raises_before_it_returns_is_an_error_event(function, text):
    types, message = await played(function)
    assert types == ["error"]
    assert (message.error_message, message.stop_reason, message.content) == (text, "error", [])
    assert message.error_info.kind == "internal"


@pytest.mark.parametrize(("value", "kind"), [(None, "NoneType"), ([], "list"), ("text", "str")])
async def test_R67_what_is_no_stream_is_an_error_event(value, kind):
    types, message = await played(lambda *_: value)
    assert types == ["error"]
    assert message.error_message == f"stream_simple of provider x returned {kind}, expected an event stream"


async def test_R67_something_that_is_no_event_is_an_error_event():
    async def wrong(model, context, options):
        yield MessageBuilder(model).start()
        yield {"type": "text_delta"}

    types, message = await played(wrong)
    assert types == ["start", "error"]
    assert "must yield events, not dict" in message.error_message


async def test_R67_a_call_that_is_aborted_before_it_began_never_asks_the_function():
    asked = []
    pi = registry(lambda *arguments: asked.append(arguments))
    events = pi.stream(MODEL, CONTEXT)
    events.abort()
    assert [(event.type, event.reason) async for event in events] == [("error", "aborted")]
    assert asked == []


async def test_R67_a_stream_of_another_model_may_be_returned():
    async with Sandbox(Turn("From behind.")) as box, Registry() as pi:

        async def stream_simple(model, context, options):
            return pi_ai.stream(box.model(CHAT), context, api_key="k", max_tokens=options.max_tokens)

        pi.register_provider("x", **WHOLE, stream_simple=stream_simple)
        message = await pi.complete(pi.get_model("x", "m"), CONTEXT, max_tokens=7)
        assert message.text == "From behind."
        assert 7 in box.requests[0].body.values()


# ── what it is given ─────────────────────────────────────────────────────────────────────────────────────────


async def test_R68_it_gets_options_with_key_headers_and_environment_and_a_model_with_its_endpoint(monkeypatch):
    monkeypatch.setenv("MY_HOST", "host.example")
    monkeypatch.setenv("MY_KEY", "key")
    given = []

    async def sees(model, context, options):
        given.append((model, context, options))
        yield MessageBuilder(model).finish("stop")

    pi = registry(
        sees,
        base_url="https://$MY_HOST/v1",
        api_key="$MY_KEY",
        auth_header=True,
        headers={"X-P": "prov", "X-Q": "prov", "X-T": "$MY_KEY"},
        models=[{"id": "m", "headers": {"X-M": "model"}}],
    )
    hooks = {"on_payload": print, "on_response": print, "on_provider_stream_event": print}
    asked = attrs.evolve(pi.get_model("x", "m"), headers={"X-C": "catalogue"})
    await pi.complete(asked, CONTEXT, headers={"X-Q": None}, env={"A": "1"}, reasoning="high", session_id="s", **hooks)
    model, context, options = given[0]
    assert model.base_url == "https://host.example/v1"
    assert model.headers is None  # they are in the options now
    assert context is CONTEXT
    assert isinstance(options, StreamOptions)
    assert options.headers == {
        "X-C": "catalogue",
        "X-P": "prov",
        "X-T": "key",
        "Authorization": "Bearer key",
        "X-M": "model",
    }
    assert (options.api_key, options.env, options.reasoning, options.session_id) == ("key", {"A": "1"}, "high", "s")
    assert options.on_payload is options.on_response is options.on_provider_stream_event is print


async def test_R68_transform_headers_has_been_asked_already():
    given = []

    async def sees(model, context, options):
        given.append(options)
        yield MessageBuilder(model).finish("stop")

    pi = registry(sees, headers={"X-P": "prov"})
    await pi.complete(MODEL, CONTEXT, transform_headers=lambda headers: {**headers, "X-New": "1", "X-P": None})
    assert (given[0].headers, given[0].transform_headers) == ({"X-New": "1"}, None)


async def test_R69_helpers_call_the_hooks_sync_or_async():
    seen = []

    async def on_payload(payload, model):
        return {**payload, "changed": True}

    def on_response(response, model):
        seen.append((response.status, response.headers))

    async def on_provider_stream_event(event, model):
        seen.append(event)

    async def hooked(model, context, options):
        out = MessageBuilder(model)
        payload = await payload_to_send(options, {"a": 1}, model)
        await response_arrived(options, 200, {"X-Id": "7"}, model)
        await provider_event_arrived(options, {"event": 1}, model)
        yield out.start()
        yield out.text(str(payload))
        yield out.finish("stop")

    pi = registry(hooked)
    hooks = {
        "on_payload": on_payload,
        "on_response": on_response,
        "on_provider_stream_event": on_provider_stream_event,
    }
    message = await pi.complete(MODEL, CONTEXT, **hooks)
    assert message.text == "{'a': 1, 'changed': True}"
    assert seen == [(200, {"x-id": "7"}), {"event": 1}]
    assert (await pi.complete(MODEL, CONTEXT)).text == "{'a': 1}"
    assert (await pi.complete(MODEL, CONTEXT, on_payload=lambda *_: None)).text == "{'a': 1}"
    message = await pi.complete(MODEL, CONTEXT, on_payload=lambda *_: 1 / 0)
    assert "The hook on_payload raised ZeroDivisionError" in message.error_info.message


async def test_a_stream_function_may_change_a_request_and_leave_the_rest_to_the_api():
    async with Sandbox(Turn("Hello.")) as box, Registry() as pi:

        def stream_simple(model, context, options):
            return stream_api(
                attrs.evolve(model, base_url=box.base_url(CHAT)), context, options, api_key="of the gateway"
            )

        pi.register_provider("groq", api=CHAT, stream_simple=stream_simple, headers={"X-P": "prov"})
        model = pi.get_model("groq", "openai/gpt-oss-120b")
        message = await pi.complete(model, CONTEXT, reasoning="high", max_tokens=9)
        assert message.text == "Hello."
        request = box.requests[0]
        assert (request.headers["authorization"], request.headers["x-p"]) == ("Bearer of the gateway", "prov")
        assert request.body["reasoning_effort"] == "high"


# ── what becomes of its events ───────────────────────────────────────────────────────────────────────────────


def message_of(text="partial", reason="stop"):
    return AssistantMessage([TextContent(text)], api="my-api", provider="x", model="m", stop_reason=reason)


async def test_R71_the_first_end_wins():
    sink, events = open_event_channel(MODEL)
    first, second = message_of("first"), message_of("second")
    sink.push(DoneEvent("stop", first))
    sink.end(second)
    assert await events.result() is first
    assert await events.result() is first
    assert [event.type async for event in events][-1] == "done"


PRODUCERS = {
    "R70 start, done, text_delta, error": (
        lambda sink: (
            sink.push(StartEvent(partial=message_of())),
            sink.push(DoneEvent("stop", message_of())),
            sink.push(TextDeltaEvent(0, "late", partial=message_of("late"))),
            sink.push(ErrorEvent("error", message_of("late"))),
        ),
        ["start", "done"],
        ("stop", "partial", None),
    ),
    "R73 start, end()": (
        lambda sink: (sink.push(StartEvent(partial=message_of())), sink.end()),
        ["start", "error"],
        ("error", "partial", "Stream ended without a final message"),
    ),
    "R72 end(m)": (
        lambda sink: (sink.end(message_of()), sink.end(), sink.end(message_of("other"))),
        ["start", "done"],  # core E2: exactly one terminal event
        ("stop", "partial", None),
    ),
    "R71 error(e)": (
        lambda sink: sink.push(ErrorEvent("error", attrs.evolve(message_of(reason="error"), error_message="broken"))),
        ["error"],
        ("error", "partial", "broken"),
    ),
    "R71 end(m) of a failed message": (
        lambda sink: sink.end(attrs.evolve(message_of(reason="error"), error_message="broken")),
        ["error"],
        ("error", "partial", "broken"),
    ),
}


@pytest.mark.parametrize("case", PRODUCERS)
async def test_R70_R71_R72_R73_R74_what_a_pushing_producer_does_and_what_its_consumer_sees(case):
    produce, types, ending = PRODUCERS[case]
    sink, events = open_event_channel(MODEL)
    produce(sink)  # R74: what is pushed before anyone iterates is kept
    assert [event.type async for event in events] == types
    message = await events.result()
    assert (message.stop_reason, message.text, message.error_message) == ending
    assert [event async for event in events] == []


async def test_R74_a_second_reader_is_refused_at_once():
    sink, events = open_event_channel(MODEL)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anext, events)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(StreamBusyError) as caught:
            await anext(events)
        assert isinstance(caught.value, RuntimeError)
        sink.end()
    await events.aclose()


async def test_R75_what_came_before_a_failure_is_kept():
    async def breaks(model, context, options):
        out = MessageBuilder(model)
        yield out.start()
        yield out.text("paid for")
        raise OSError("the line is dead")

    types, message = await played(breaks)
    assert types == ["start", "text_start", "text_delta", "error"]
    assert (message.text, message.error_message) == ("paid for", "the line is dead")


def call_events(partial, *, end=False):
    """Events of a tool call on a message that the author keeps himself."""
    yield StartEvent(partial=partial)
    partial.content.append(ToolCall("c1", "rm", {}))
    yield ToolCallStartEvent(0, partial=partial)
    partial.content[0].arguments = {"path": "/"}
    yield ToolCallDeltaEvent(0, '{"path": "/', partial=partial)
    if end:
        yield ToolCallEndEvent(0, partial.content[0], partial=partial)


@pytest.mark.parametrize("ending", ["raises", "ends", "error event", "aborted", "closed"])
async def test_R75_a_call_that_broke_off_is_never_presented_as_one_that_can_be_run(ending):
    async def breaks(model, context, options):
        partial = AssistantMessage()
        for event in call_events(partial):
            yield event
        if ending == "raises":
            raise OSError("dead")
        if ending == "error event":
            yield ErrorEvent("error", attrs.evolve(partial, error_message="dead"))
        if ending in ("aborted", "closed"):
            await anyio.sleep_forever()

    pi = registry(breaks)
    async with pi.stream(MODEL, CONTEXT) as events:
        async for event in events:
            if ending == "aborted" and event.type == "toolcall_delta":
                events.abort()
            if ending == "closed" and event.type == "toolcall_delta":
                break
    (call,) = events.message.tool_calls
    assert events.message.stop_reason in ("error", "aborted")
    assert call.arguments == {}
    assert "broke off" in call.arguments_error


async def test_R75_a_call_that_is_complete_stays_as_it_is():
    async def breaks(model, context, options):
        for event in call_events(AssistantMessage(), end=True):
            yield event
        raise OSError("dead")

    _, message = await played(breaks)
    assert (message.tool_calls[0].arguments, message.tool_calls[0].arguments_error) == ({"path": "/"}, None)


async def test_R76_leaving_early_or_being_cancelled_ends_the_function():
    ended = []

    async def waits(model, context, options):
        out = MessageBuilder(model)
        try:
            yield out.start()
            yield out.text("a")
            scope.cancel()
            await anyio.sleep_forever()
        finally:
            ended.append(out.message.text)

    pi = registry(waits)
    async with pi.stream(MODEL, CONTEXT) as events:
        async for event in events:
            if event.type == "text_delta":
                break
    assert ended == ["a"]
    events = pi.stream(MODEL, CONTEXT)
    with anyio.fail_after(5), anyio.CancelScope() as scope:
        await events.result()
    assert scope.cancelled_caught
    assert (ended, events.message.stop_reason) == (["a", "a"], "aborted")


@pytest.mark.parametrize("push", [False, True], ids=["generator", "push"])
async def test_R76_when_the_reader_is_cancelled_it_gets_no_event_and_others_get_the_aborted_message(push):
    reading = anyio.Event()

    async def waits(model, context, options):
        out = MessageBuilder(model)
        yield out.start()
        yield out.text("a")
        reading.set()
        await anyio.sleep_forever()

    def pushes(model, context, options):
        async def produce(sink):
            async for event in waits(model, context, options):
                for each in event if isinstance(event, list) else [event]:
                    sink.push(each)

        return create_assistant_message_event_stream(produce, model=model)

    events, seen, others = registry(pushes if push else waits).stream(MODEL, CONTEXT), [], []

    async def read_in(scope):
        with scope:
            async for event in events:
                seen.append(event.type)  # noqa: PERF401 - what came before the cancellation is kept

    async def wait_for_the_message():
        others.append(await events.result())

    scope = anyio.CancelScope()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read_in, scope)
            await reading.wait()
            tasks.start_soon(wait_for_the_message)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
    assert scope.cancelled_caught
    assert seen == ["start", "text_start", "text_delta"]
    assert [(message.stop_reason, message.text) for message in others] == [("aborted", "a")]


async def test_R77_the_events_of_an_answer_come_in_their_order_with_index_and_partial():
    async def answers(model, context, options):
        out = MessageBuilder(model)
        yield out.start()
        yield out.thinking("Hm.")
        yield out.text("Hello")
        yield out.tool_call("c1", "f", {"a": 1})
        yield out.finish("toolUse")

    pi = registry(answers)
    seen = []
    async for event in pi.stream(MODEL, CONTEXT):
        index = getattr(event, "content_index", None)
        seen.append((event.type, index))
        if index is not None:
            assert len(event.partial.content) > index
    assert seen == [
        ("start", None),
        *[(f"thinking_{step}", 0) for step in ("start", "delta", "end")],
        *[(f"text_{step}", 1) for step in ("start", "delta", "end")],
        *[(f"toolcall_{step}", 2) for step in ("start", "delta", "end")],
        ("done", None),
    ]


async def test_R78_arguments_that_are_no_json_are_never_run():
    async def calls(model, context, options):
        out = MessageBuilder(model)
        yield out.start()
        yield out.tool_call("c1", "rm", '{"path": "/')
        yield out.finish("toolUse")

    _, message = await played(calls)
    assert message.stop_reason == "toolUse"
    assert message.tool_calls[0].arguments == {}
    assert message.tool_calls[0].arguments_error


async def test_R79_the_duration_is_set_at_the_end():
    _, message = await played(hello)
    assert 0 <= message.duration_ms < 5000

    async def sets_it(model, context, options):
        message = attrs.evolve(message_of(), duration_ms=7)
        yield DoneEvent("stop", message)

    _, message = await played(sets_it)
    assert message.duration_ms == 7


async def test_what_stands_behind_the_last_event_runs_and_a_generator_may_pass_on_anothers_events():
    log = []

    async def wraps(model, context, options):
        async for event in hello(model, context, options):
            yield event
        log.append("behind")

    types, _ = await played(wraps)
    assert (types[-1], log) == ("done", ["behind"])


async def test_what_hangs_behind_the_last_event_holds_nobody_up_for_long(monkeypatch):
    monkeypatch.setattr("pi_ai.streams.CLOSE_TIMEOUT_S", 0.05)

    async def hangs(model, context, options):
        async for event in hello(model, context, options):
            yield event
        await anyio.sleep_forever()

    with anyio.fail_after(5):
        types, _ = await played(hangs)
    assert types[-1] == "done"


# ── pushed by a producer ─────────────────────────────────────────────────────────────────────────────────────


def pushing(*steps, log=None):
    """A producer that pushes texts, waits, raises, or ends, step by step."""

    def stream_simple(model, context, options):
        async def produce(sink):
            out = MessageBuilder(model)
            try:
                sink.push(out.start())
                for step in steps:
                    await anyio.sleep(0)
                    if step == "wait":
                        await anyio.sleep_forever()
                    elif step == "done":
                        for event in out.finish("stop"):
                            sink.push(event)
                    elif step == "end":
                        sink.end()
                    elif isinstance(step, Exception):
                        raise step
                    else:
                        for event in out.text(step):
                            sink.push(event)
            finally:
                if log is not None:
                    log.append(out.message.text)

        return create_assistant_message_event_stream(produce, model=model)

    return stream_simple


async def test_R69a_a_producer_runs_inside_of_its_stream():
    log = []
    types, message = await played(pushing("Hel", "lo", "done", log=log))
    assert types == ["start", "text_start", "text_delta", "text_delta", "text_end", "done"]
    assert (message.text, log) == ("Hello", ["Hello"])


async def test_R69a_nothing_runs_before_the_first_await_and_result_alone_is_enough():
    log = []
    events = pushing("Hello", "done", log=log)(MODEL, CONTEXT, StreamOptions())
    await anyio.wait_all_tasks_blocked()
    assert log == []
    assert (await events.result()).text == "Hello"


async def test_R69a_a_stream_that_is_never_awaited_runs_nothing():
    log = []
    pushing("Hello", log=log)(MODEL, CONTEXT, StreamOptions())
    await anyio.wait_all_tasks_blocked()
    assert log == []


@pytest.mark.parametrize(
    ("step", "text"), [(ValueError("no more"), "no more"), ("end", "Stream ended without a final message")]
)
async def test_R69a_a_producer_that_raises_or_ends_too_early_is_an_error_that_keeps_what_came(step, text):
    log = []
    types, message = await played(pushing("Hel", step, log=log))
    assert types == ["start", "text_start", "text_delta", "error"]
    assert (message.text, message.error_message, log) == ("Hel", text, ["Hel"])


async def test_R69a_a_producer_is_cancelled_with_its_stream():
    log = []
    pi = registry(pushing("Hel", "wait", log=log))
    for leave in ("close", "abort", "cancel"):
        events = pi.stream(MODEL, CONTEXT)
        with anyio.move_on_after(5) as scope:
            async with events:
                async for event in events:
                    if event.type == "text_delta":
                        if leave == "close":
                            break
                        if leave == "abort":
                            events.abort()
                        if leave == "cancel":
                            scope.cancel()
        assert events.message.stop_reason == "aborted"
    assert log == ["Hel"] * 3


async def test_R69a_without_a_producer_it_is_the_pair_of_sink_and_stream():
    sink, events = create_assistant_message_event_stream()
    message = message_of()
    sink.push(StartEvent(partial=message))
    sink.push(TextStartEvent(0, partial=message))
    sink.push(DoneEvent("stop", message))
    assert [event.type async for event in events] == ["start", "text_start", "done"]
    assert events.message is message


async def test_R69a_a_producer_is_in_the_registry_that_is_open():
    async with Registry() as pi:

        def stream_simple(model, context, options):
            async def produce(sink):
                sink.end(await pi_ai.complete(attrs.evolve(MODEL, provider="y"), context))

            return create_assistant_message_event_stream(produce, model=model)

        pi.register_provider("x", **WHOLE, stream_simple=stream_simple)
        pi.register_provider("y", **WHOLE, stream_simple=hello)
        assert (await pi.complete(MODEL, CONTEXT)).text == "Hello"
