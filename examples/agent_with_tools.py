"""An agent: the model calls Python functions until it has its answer.

A function's parameters and docstring are what the model reads of it. Calls of one turn run at the same time; what a
function raises is told to the model, which may try again.
"""

from typing import Literal

import anyio

from pi_ai import Context, Registry, RunLimits, TextDeltaEvent, ToolCall, UserMessage, run_tools, tool
from pi_ai.agents import RunEndEvent, ToolResultEvent
from pi_ai.testing import Sandbox, Turn

TEMPERATURES = {"Oslo": 4, "Rome": 21}


@tool
async def get_temperature(city: str, unit: Literal["C", "F"] = "C") -> str:
    """The temperature in a city, now.

    Args:
        city: its name, without the country
        unit: degrees Celsius or Fahrenheit
    """
    degrees = TEMPERATURES[city]  # a KeyError is told to the model
    return f"{degrees if unit == 'C' else degrees * 9 / 5 + 32:.0f} °{unit}"


async def main() -> None:
    async with Sandbox() as box, Registry() as pi:  # the sandbox plays the model: its answers are written here
        calls = [("1", {"city": "Oslo", "unit": "F"}), ("2", {"city": "Rome"}), ("3", {"city": "Atlantis"})]
        box.script(Turn([ToolCall(name, "get_temperature", arguments) for name, arguments in calls]))
        box.script("Rome is the warmest.")

        context = Context([UserMessage("Where is it warmest: Oslo, Rome or Atlantis?")])
        limits = RunLimits(turns=10, usd=0.50)
        async with run_tools(box.model(), context, [get_temperature], limits=limits, registry=pi) as run:
            async for event in run:
                match event:
                    case TextDeltaEvent(delta=text):
                        print(text, end="")
                    case ToolResultEvent(call=call, result=result):
                        print(call.arguments["city"], result.content[0].text)
                    case RunEndEvent(reason=reason):
                        print(f"\n{reason}, {len(context.messages)} messages")
        # → Oslo 39 °F
        # → Rome 21 °C
        # → Rome is the warmest.
        # → stop, 6 messages


if __name__ == "__main__":
    anyio.run(main)
