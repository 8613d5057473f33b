"""A chat in the terminal: Markdown as it streams, Ctrl-C stops the answer, Ctrl-D ends the chat.

    pip install rich
    PI_AI_MODEL=anthropic/claude-sonnet-4-5 python examples/terminal_chat.py

Without ``PI_AI_MODEL`` it is the sandbox, which repeats what it is told.
"""

import os
import signal
import sys

import anyio
from rich.console import Console
from rich.live import Live
from rich.markdown import Markdown

from pi_ai import Context, EventStream, Registry, TextDeltaEvent, UserMessage
from pi_ai.testing import Sandbox

console = Console(highlight=False)


async def read_line() -> str | None:
    """A line from the keyboard, without holding up the event loop; None at the end."""
    console.print("[bold green]>[/] ", end="")
    line = await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
    return line.strip() if line else None


async def show(answer: EventStream) -> None:
    async with answer, anyio.create_task_group() as tasks:
        tasks.start_soon(stop_on_ctrl_c, answer)
        with Live(console=console, refresh_per_second=15, vertical_overflow="visible") as live:
            text = ""
            async for event in answer:
                if isinstance(event, TextDeltaEvent):
                    text += event.delta
                    live.update(Markdown(text))
        tasks.cancel_scope.cancel()
    message = answer.message
    if message.error_message:
        console.print(f"[red]{message.error_message}")
    console.print(f"[dim]{message.usage.output} tokens, ${message.usage.cost.total:.4f}")


async def stop_on_ctrl_c(answer: EventStream) -> None:
    with anyio.open_signal_receiver(signal.SIGINT) as signals:
        async for _ in signals:
            answer.abort()


async def main() -> None:
    async with Sandbox() as box, Registry() as pi:
        name = os.environ.get("PI_AI_MODEL", "")
        model = pi.get_model(name) if name else box.model()
        context = Context()
        while (line := await read_line()) is not None:
            if line:
                context.messages.append(UserMessage(line))
                answer = pi.stream(model, context)
                await show(answer)
                context.messages.append(answer.message)


if __name__ == "__main__":
    anyio.run(main)
