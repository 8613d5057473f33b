"""A streaming API of your own: a server that answers with one JSON object a line.

The function is an async generator of events, and that is all: aborting, cancelling, failures, cost and ``result()`` are
the stream's business. ``MessageBuilder`` makes the events.
"""

import json
from collections.abc import AsyncIterator

import anyio
import httpx

from pi_ai import Context, MessageBuilder, Model, Registry, StreamEvent, StreamOptions, Usage, UserMessage
from pi_ai.providers.base import payload_to_send, provider_event_arrived, response_arrived
from pi_ai.testing.server import Answer, Received, Server


async def stream_lines(
    model: Model, context: Context, options: StreamOptions
) -> AsyncIterator[StreamEvent | list[StreamEvent]]:
    out = MessageBuilder(model)
    question = context.messages[-1].content
    payload = await payload_to_send(options, {"model": model.id, "question": question}, model)
    headers = {**(options.headers or {}), "Authorization": f"Bearer {options.api_key}"}
    async with (
        httpx.AsyncClient() as client,
        client.stream("POST", f"{model.base_url}/ask", json=payload, headers=headers) as response,
    ):
        await response_arrived(options, response.status_code, response.headers, model)
        response.raise_for_status()
        yield out.start()
        async for line in response.aiter_lines():
            event = json.loads(line)
            await provider_event_arrived(options, event, model)
            match event:
                case {"thought": text}:
                    yield out.thinking(text)
                case {"text": text}:
                    yield out.text(text)
                case {"call": {"name": name, "arguments": arguments}}:
                    yield out.tool_call(f"call_{len(out.message.content)}", name, arguments)
                case {"tokens": [prompt, answer]}:
                    out.set_usage(Usage(input=prompt, output=answer, total_tokens=prompt + answer))
                case {"end": reason}:
                    yield out.finish("length" if reason == "too long" else "stop")
                case _:
                    raise ValueError(f"the server said {line!r}")


async def serve(request: Received, answer: Answer) -> None:
    """The server, for this example."""
    await answer.head(200, {"content-type": "application/x-ndjson"})
    for event in ({"thought": "Hm. "}, {"text": "You asked: "}, {"text": request.json["question"]}, {"tokens": [3, 5]}):
        await answer.send(json.dumps(event).encode() + b"\n")
    await answer.send(b'{"end": "said all"}\n')
    await answer.end()


async def main() -> None:
    async with Server(serve) as server, Registry() as pi:
        pi.register_provider(
            "lines",
            base_url=server.url,
            api_key="a key",
            api="json-lines",
            stream_simple=stream_lines,
            models=[{"id": "one", "cost": {"input": 1, "output": 10}}],
        )

        async with pi.stream(pi.get_model("lines", "one"), Context([UserMessage("Why?")])) as events:
            async for event in events:
                print(event.type, end=" ")
        print()  # → start thinking_start thinking_delta thinking_end text_start text_delta text_delta text_end done
        print(events.message.text)  # → You asked: Why?
        print(f"${events.message.usage.cost.total:.6f}")  # → $0.000053


if __name__ == "__main__":
    anyio.run(main)
