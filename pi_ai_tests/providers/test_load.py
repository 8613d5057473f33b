"""Registering, overriding and unregistering while many streams run (R23, R52)."""

from __future__ import annotations

import json

import anyio
import pytest

from pi_ai import Context, MessageBuilder, Model, Provider, Registry, UserMessage
from pi_ai.oauth import InMemoryCredentialStore
from pi_ai.testing.server import Server

pytestmark = pytest.mark.anyio
CONTEXT = Context([UserMessage("Hello", timestamp=1)])
STREAMS = 200


def speaks(version, begin, gate):
    """A stream function that tells its version, and waits in the middle until the gate opens."""

    async def stream_simple(model, context, options):
        out = MessageBuilder(model)
        yield out.start()
        yield out.text(f"{version} ")
        begin(version)
        await gate.wait()
        yield out.text(f"{model.base_url} {options.headers['X-V']} {options.api_key}")
        yield out.finish("stop")

    return stream_simple


async def test_R52_streams_that_have_begun_are_not_disturbed_and_the_next_request_sees_the_change():
    pi, gate, news = Registry(), anyio.Event(), anyio.Event()
    begun: list[str] = []
    texts: dict[int, str] = {}

    def begin(version):
        begun.append(version)
        news.set()

    def register(version):
        pi.register_provider(
            "x",
            base_url=f"https://{version}.example",
            api="my-api",
            api_key=f"key-{version}",
            headers={"X-V": version},
            stream_simple=speaks(version, begin, gate),
            models=[{"id": "m"}],
        )

    async def ask(number):
        message = await pi.complete(pi.get_model("x", "m"), CONTEXT)
        texts[number] = message.text or message.error_message

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            for number in range(STREAMS):
                if number % 10 == 0:
                    if number % 20 == 0:
                        pi.unregister_provider("x")
                        assert pi.find("x", "m") is None
                    register(f"v{number}")
                news = anyio.Event()
                tasks.start_soon(ask, number)
                await news.wait()
                assert begun[-1] == f"v{number // 10 * 10}"  # what was registered last serves at once
            pi.unregister_provider("x")
            assert len(begun) == STREAMS
            assert texts == {}
            gate.set()
    assert texts == {
        number: f"{version} https://{version}.example {version} key-{version}"
        for number in range(STREAMS)
        for version in [f"v{number // 10 * 10}"]
    }
    assert pi.get_provider("x") is None


def chunk(text, finish=None):
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return (
        b"data: " + json.dumps({"id": "1", "object": "chat.completion.chunk", "choices": [choice]}).encode() + b"\n\n"
    )


async def test_R52_real_streams_in_their_middle_go_on_whatever_becomes_of_their_provider():
    """All 200 have begun when their provider is changed in every way; each change is seen by the next request."""
    gate = anyio.Event()

    async def serve(request, answer):
        await answer.head(200, {"content-type": "text/event-stream"})
        await answer.send(chunk(f"{request.headers.get('x-n')} "))
        if request.headers.get("x-n"):
            await gate.wait()
        await answer.send(chunk(request.path, "stop") + b"data: [DONE]\n\n")
        await answer.end()

    class Whole(Provider):
        id = "groq"

        def models(self):
            return [Model(id="whole", api="openai-completions", provider="groq", base_url=f"{server.url}/object")]

    texts: dict[int, str] = {}
    async with Server(serve) as server, Registry(models_path=None, credentials=InMemoryCredentialStore()) as pi:
        begun = anyio.Semaphore(0)

        async def ask(number):
            model = pi.get_model("groq", "openai/gpt-oss-120b")
            async with pi.stream(model, CONTEXT) as events:
                async for event in events:
                    if event.type == "text_delta" and number not in texts:
                        texts[number] = ""
                        begun.release()
            texts[number] = events.message.text or events.message.error_message

        async def sees(model):
            message = await pi.complete(pi.get_model("groq", model), CONTEXT, api_key="k")
            return message.text or message.error_message

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                for number in range(STREAMS):
                    url = f"{server.url}/{number}"
                    pi.register_provider("groq", base_url=url, api_key="k", headers={"X-N": str(number)})
                    tasks.start_soon(ask, number)
                    await begun.acquire()
                    assert server.requests[-1].path.startswith(f"/{number}/")  # the change before is seen at once
                pi.register_provider("groq", base_url=f"{server.url}/override", headers={})
                assert await sees("openai/gpt-oss-120b") == "None /override/chat/completions"
                pi.register_provider("groq", models=[{"id": "mine"}])
                assert await sees("mine") == "None /override/chat/completions"
                pi.register_provider("groq", api="my-api", stream_simple=shouts, models=[{"id": "mine"}])
                assert await sees("mine") == "FUNCTION"
                pi.unregister_provider("groq")
                assert pi.get_model("groq", "openai/gpt-oss-120b").base_url == "https://api.groq.com/openai/v1"
                pi.register_provider(Whole())
                assert await sees("whole") == "None /object/chat/completions"
                pi.unregister_provider("groq")
                assert (await pi.refresh()).errors == {}
                assert texts == dict.fromkeys(range(STREAMS), "")
                gate.set()
    assert texts == {number: f"{number} /{number}/chat/completions" for number in range(STREAMS)}


async def shouts(model, context, options):
    out = MessageBuilder(model)
    yield out.start()
    yield out.text("FUNCTION")
    yield out.finish("stop")
