"""An extension: ``pi-ai -e examples/extension.py stream --model echo/parrot "Hello"``.

A package offers one under an entry point of the group ``pi_ai.extensions``. The function may be async, to ask a server
for its models before the program goes on.
"""

from collections.abc import AsyncIterator

from pi_ai import Context, MessageBuilder, Model, StreamEvent, StreamOptions
from pi_ai.providers.extensions import ProviderApi


async def echo(
    model: Model, context: Context, options: StreamOptions
) -> AsyncIterator[StreamEvent | list[StreamEvent]]:
    out = MessageBuilder(model)
    yield out.start()
    yield out.text(str(context.messages[-1].content))
    yield out.finish("stop")


def register(pi: ProviderApi) -> None:
    pi.register_provider(
        "echo",
        base_url="https://echo.invalid",
        api_key="none",
        api="echo",
        stream_simple=echo,
        models=[{"id": "parrot", "name": "Parrot"}],
    )
