"""Registering, overriding and unregistering while many streams run (R23, R52)."""

from __future__ import annotations

import anyio
import pytest

from pi_ai import Context, MessageBuilder, Registry, UserMessage
from pi_ai.testing import Delivery, Sandbox, Turn

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


async def test_R52_real_requests_go_on_while_their_provider_is_changed_and_removed():
    text = "a b c d e f g h i j"
    async with Sandbox(default=lambda _: (Turn(text), Delivery(tokens_per_second=50))) as box, Registry() as pi:
        done: list[str] = []

        async def ask():
            message = await pi.complete(pi.get_model("groq", "openai/gpt-oss-120b"), CONTEXT)
            done.append(message.text or message.error_message)

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                for number in range(STREAMS):
                    pi.register_provider(
                        "groq", base_url=box.base_url("openai-completions"), api_key="k", headers={"X-N": str(number)}
                    )
                    tasks.start_soon(ask)
                    await box.received(number + 1)
                    pi.unregister_provider("groq")
        assert done == [text] * STREAMS
        assert [request.headers["x-n"] for request in box.requests] == [str(number) for number in range(STREAMS)]
