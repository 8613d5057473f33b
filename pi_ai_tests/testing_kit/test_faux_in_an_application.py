"""The scripted provider in the place of a real one, in code that knows nothing of it."""

from __future__ import annotations

import pytest

from pi_ai import Context, RateLimited, Registry, ToolResultMessage, UserMessage, complete, get_model, get_models
from pi_ai.errors import ErrorInfo
from pi_ai.testing import Faux, faux_assistant_message, faux_tool_call

pytestmark = pytest.mark.anyio
ID = "openai/gpt-oss-120b"


async def agent(context: Context) -> str:
    """Somebody's application: it goes on until there is no call of a tool."""
    while (message := await complete(get_model("groq", ID), context)).stop_reason == "toolUse":
        context.messages.append(message)
        context.messages += [ToolResultMessage(call.id, call.name, "Sunny.") for call in message.tool_calls]
    return message.text


async def test_it_answers_for_a_model_that_there_is() -> None:
    before = get_models("groq")
    with Faux([faux_tool_call("weather", {})], "It is sunny.", provider="groq", models=[{"id": ID}]) as faux:
        assert await agent(Context([UserMessage("Weather?")])) == "It is sunny."
    assert get_models("groq") == before
    # Each call has the conversation as it was then, although the application appends to the one it has.
    assert [len(call.context.messages) for call in faux.calls] == [1, 3]


async def test_it_is_an_async_block_as_well() -> None:
    async with Faux("Hello.") as faux:
        assert (await complete(faux.model(), Context([UserMessage("Hi")]))).text == "Hello."


async def test_it_leaves_the_registry_that_it_entered() -> None:
    """Whichever is open when its block ends."""
    async with Registry() as outer:
        faux = Faux("Hello.")
        with faux:
            async with Registry() as inner:
                assert "faux" not in inner.get_providers()
                assert (await outer.complete(faux.model(), Context([UserMessage("Hi")]))).text == "Hello."
                faux.__exit__(None, None, None)
                assert "faux" not in outer.get_providers()
            faux.__enter__()
        assert "faux" not in outer.get_providers()


async def test_a_failure_is_of_the_kind_that_its_words_mean() -> None:
    info = ErrorInfo(kind="rate_limited", message="Wait.", retry_after=3.0, retryable=True)
    told = faux_assistant_message("Half", error_message="Slow down.", error_info=info)
    plain = faux_assistant_message("", error_message="Something broke.")
    with Faux(told, plain) as faux:
        message = await complete(faux.model(), Context([UserMessage("Hi")]))
        with pytest.raises(RateLimited):
            message.raise_for_error()
        assert (message.text, message.error_message) == ("Half", "Slow down.")
        assert message.error_info is not None
        assert message.error_info.retry_after == 3.0
        other = await complete(faux.model(), Context([UserMessage("Hi")]))
    assert other.error_info is not None
    assert (other.error_info.kind, other.error_message) == ("server", "Something broke.")
