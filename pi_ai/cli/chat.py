"""``pi-ai chat``: a conversation in the terminal, or over pipes.

The conversation is a :class:`Context`, saved as the JSON that pi reads, after each answer. Ctrl-C stops an answer and
keeps what has come; a second one, with nothing typed between, leaves. Where nobody sits at a terminal, the first
one does.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from functools import reduce
from typing import NamedTuple, Protocol, get_args

import anyio
from anyio import CancelScope, to_thread
from anyio.abc import TaskStatus

from pi_ai.cli.keyboard import Keyboard
from pi_ai.cli.models import chosen_model, named_model, names_like, provider_and_id, request_arguments, served
from pi_ai.cli.terminal import (
    FAILED,
    INTERRUPTED,
    OK,
    TextOutput,
    dollars,
    fail,
    has_styles,
    reconfigure,
    say,
    summary,
)
from pi_ai.errors import PiAIError, failure
from pi_ai.events import StreamEvent
from pi_ai.pricing import sum_usage
from pi_ai.reasoning import clamp_level
from pi_ai.registry import Registry
from pi_ai.serialization import dumps, loads
from pi_ai.streams import EventStream
from pi_ai.tokens import estimate_context_tokens
from pi_ai.types import AssistantMessage, Context, Model, ReasoningLevel, ThinkingLevel, Usage, UserMessage


def chat_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``pi-ai chat``."""
    request_arguments(parser)
    parser.add_argument(
        "--resume",
        metavar="FILE",
        help="go on with the conversation in a file, and save it there after each answer; a new file begins one",
    )


def chat(args: argparse.Namespace) -> int:
    """Talk to a model.

    :raises PiAIError: there is no such model, or the file holds no conversation.
    """
    context = Context()
    if args.resume and _is_there(args.resume):
        context = read_conversation(args.resume)
    if args.system:
        context.system_prompt = args.system
    reconfigure(sys.stdout, errors="backslashreplace")
    with ExitStack() as models:
        model = models.enter_context(served(_model_of(args, context)))
        return anyio.run(_Chat(args, context, model, models).run)


def _model_of(args: argparse.Namespace, context: Context) -> Model:
    """The model that is named, else the one that has answered last, else the default."""
    answered = [message for message in context.messages if isinstance(message, AssistantMessage) and message.model]
    if args.model is None and answered:
        last = answered[-1]
        try:
            return named_model(last.provider, last.model)
        except PiAIError as error:
            say(f"{last.provider}/{last.model}, which has answered last, cannot be used: {error.info.message}.")
    return chosen_model(args)


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────


def read_conversation(file: str) -> Context:
    """Read a saved conversation.

    :raises PiAIError: kind ``config``: it cannot be read, or holds none.
    """
    try:
        with open(os.path.expanduser(file), "rb") as content:
            return loads(Context, content.read())
    except OSError as error:
        raise failure("config", f"{file} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise failure("config", f"{file} holds no conversation: {error}") from None


def _is_there(file: str) -> bool:
    return os.path.lexists(os.path.expanduser(file))


def write_conversation(file: str, context: Context) -> None:
    """Save a conversation for its owner's eyes only; after a crash there is the old file or the new one.

    :raises OSError: it cannot be written.
    """
    import tempfile  # 2 ms, and seldom needed

    path = os.path.realpath(os.path.expanduser(file))
    # A lone surrogate cannot be encoded; the escape that takes its place is JSON for the same.
    data = dumps(context, indent=2).encode("utf-8", "backslashreplace") + b"\n"
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=f".{os.path.basename(path)}.", suffix=".tmp")
    try:
        with open(handle, "wb") as content:
            content.write(data)
            content.flush()
            os.fsync(handle)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


# ── the conversation ─────────────────────────────────────────────────────────────────────────────────────────


class _Chat:
    """A conversation, and how it is going."""

    def __init__(self, args: argparse.Namespace, context: Context, model: Model, models: ExitStack) -> None:
        self.context = context
        self.model = model
        self.models = models
        self.file: str | None = args.resume
        self.reasoning: ReasoningLevel | None = args.reasoning
        self.is_over = False
        self._max_tokens: int | None = args.max_tokens
        self._allow_insecure: bool = args.allow_insecure
        self._keyboard = Keyboard(_completed)
        self._answer: EventStream | None = None
        self._was_interrupted = False
        self._has_left = False
        self._has_failed = False
        self._was_misunderstood = False
        self._pi = Registry()

    async def run(self) -> int:
        """Talk until somebody leaves; returns the exit status."""
        broken: OSError | None = None
        async with self._pi:
            with self._keyboard.edited():
                async with anyio.create_task_group() as tasks:
                    await tasks.start(self._watch_for_ctrl_c, tasks.cancel_scope)
                    try:
                        await self._talk()
                    except OSError as error:  # standard output; raised where no group wraps it
                        broken = error
                    tasks.cancel_scope.cancel()
        if broken is not None:
            raise broken
        if self._has_left:
            return INTERRUPTED
        unhappy = self._has_failed or self._was_misunderstood
        return FAILED if unhappy and not self._keyboard.is_person else OK

    async def _talk(self) -> None:
        if self._keyboard.is_person:
            resumed = f", {len(self.context.messages)} messages from {self.file}" if self.context.messages else ""
            say(f"{_name(self.model)}{resumed}; /help lists the commands, Ctrl-D leaves.")
        while not self.is_over:
            text = await self._keyboard.message()
            self._was_interrupted = False
            if text is None:
                return
            if text.startswith("/") and not text.startswith("//"):
                await self._run_command(text)
            elif text.strip():
                self.context.messages.append(UserMessage(text.removeprefix("/")))
                await self.ask()

    async def ask(self) -> None:
        """Stream the model's answer to the conversation as it stands, add it, and save."""
        answer = self._answer = self._pi.stream(
            self.model,
            self.context,
            reasoning=self.reasoning,
            max_tokens=self._max_tokens,
            allow_insecure=self._allow_insecure,
        )
        output = _output()
        try:
            async with answer:
                async for event in answer:
                    output.show(event)
        finally:
            self._answer = None
            output.close()
        message = answer.message
        self.context.messages.append(message)
        self._has_failed = message.stop_reason == "error"
        if self._has_failed:
            fail(f"{message.error_message}" if message.error_info is None else message.error_info.message)
            say("/retry asks once more.")
        if message.tool_calls:
            names = ", ".join(call.name for call in message.tool_calls)
            say(f"The model wants to call {names}; pi-ai chat runs no tools.")
        if message.content or message.usage.total_tokens:
            say(summary(message))
        if self.file is not None:
            await self.save(self.file)

    async def save(self, file: str) -> None:
        """Save the conversation, now and after each answer; what goes wrong is said."""
        try:
            await to_thread.run_sync(write_conversation, file, self.context)
            self.file = file
        except OSError as error:
            say(f"The conversation cannot be saved to {file}: {error.strerror}; /save FILE saves it elsewhere.")

    async def _watch_for_ctrl_c(self, everything: CancelScope, *, task_status: TaskStatus[None]) -> None:
        try:
            with anyio.open_signal_receiver(signal.SIGINT) as signals:
                task_status.started()
                async for _ in signals:
                    self._interrupt(everything)
        except NotImplementedError:  # Windows: there it ends the program
            task_status.started()

    def _interrupt(self, everything: CancelScope) -> None:
        if self._was_interrupted or not self._keyboard.is_person:
            self._has_left = True
            everything.cancel()
            return
        self._was_interrupted = True
        if self._answer is not None:
            self._answer.abort()
        else:
            self._keyboard.drop()
            say("Ctrl-C once more leaves.")

    async def _run_command(self, line: str) -> None:
        word, _, argument = line.partition(" ")
        command = _COMMANDS.get(word)
        if command is None:
            self._was_misunderstood = True
            say(f"There is no {word}; /help lists the commands, and //… says something that begins with a slash.")
            return
        try:
            await command.run(self, argument.strip())
        except PiAIError as error:
            self._was_misunderstood = True
            say(error.info.message)


def _name(model: Model) -> str:
    return f"{model.provider}/{model.id}"


class _Output(Protocol):
    def show(self, event: StreamEvent) -> None: ...
    def close(self) -> None: ...


class _Plain(TextOutput):
    """The text as it is."""

    def close(self) -> None:
        """Nothing is left to be done."""


def _output() -> _Output:
    if has_styles():
        with suppress(ImportError):
            from pi_ai.cli.markdown import MarkdownOutput

            return MarkdownOutput()
    return _Plain()


# ── commands ─────────────────────────────────────────────────────────────────────────────────────────────────


async def _model(chat: _Chat, argument: str) -> None:
    if argument:
        try:
            model = named_model(*provider_and_id(argument))
        except argparse.ArgumentTypeError as error:
            raise failure("config", f"The model {error}") from None
        chat.model = chat.models.enter_context(served(model))
    say(f"The model is {_name(chat.model)}.")


_LEVELS: tuple[ThinkingLevel, ...] = get_args(ThinkingLevel)


async def _thinking(chat: _Chat, argument: str) -> None:
    if argument and argument not in _LEVELS:
        raise failure("config", f"Thinking is one of {', '.join(_LEVELS)}, not {argument!r}")
    if argument:
        chat.reasoning = None if argument == "off" else argument
    level = chat.reasoning or "off"
    nearest = clamp_level(chat.model, level)
    near = "" if nearest == level else f"; for {_name(chat.model)} that means {nearest}"
    say(f"Thinking is {level}{near}.")


async def _system(chat: _Chat, argument: str) -> None:
    if argument:
        chat.context.system_prompt = None if argument == "-" else argument
    say(f"The system prompt is: {chat.context.system_prompt}" if chat.context.system_prompt else "No system prompt.")


async def _save(chat: _Chat, argument: str) -> None:
    file = argument or chat.file or time.strftime("chat-%Y%m%d-%H%M%S.json")
    if file != chat.file and _is_there(file):
        raise failure("config", f"{file} is there already; choose another name, or go on with it by /load {file}")
    await chat.save(file)
    if chat.file == file:
        say(f"Saved to {file}, as each further answer will be.")


async def _load(chat: _Chat, argument: str) -> None:
    if not argument:
        raise failure("config", "/load needs the name of a file")
    chat.context, chat.file = read_conversation(argument), argument
    say(f"{len(chat.context.messages)} messages from {argument}; the model is {_name(chat.model)}.")


async def _retry(chat: _Chat, argument: str) -> None:
    messages = chat.context.messages
    asked = max((index for index, message in enumerate(messages) if isinstance(message, UserMessage)), default=None)
    if asked is None:
        raise failure("config", "Nothing has been asked yet")
    del messages[asked + 1 :]
    await chat.ask()


async def _usage(chat: _Chat, argument: str) -> None:
    answers = [message for message in chat.context.messages if isinstance(message, AssistantMessage)]
    by_model: dict[str, list[Usage]] = {}
    for message in answers:
        by_model.setdefault(f"{message.provider}/{message.model}", []).append(message.usage)
    for name, usages in by_model.items():
        say(f"{name}: {_figures(usages)}")
    if len(by_model) > 1:
        say(f"together: {_figures([message.usage for message in answers])}")
    window = chat.model.context_window
    say(f"The conversation has about {estimate_context_tokens(chat.context).tokens:,} of {window:,} tokens.")


def _figures(usages: list[Usage]) -> str:
    total = reduce(sum_usage, usages)
    prompt = total.input + total.cache_read + total.cache_write
    plural = "" if len(usages) == 1 else "s"
    return (
        f"{len(usages)} answer{plural}, {prompt:,} tokens in ({total.cache_read:,} cached), {total.output:,} out, "
        f"{dollars(total.cost.total)}"
    )


async def _help(chat: _Chat, argument: str) -> None:
    for word, command in _COMMANDS.items():
        say(f"{word + ' ' + command.argument if command.argument else word}: {command.help}")
    say('A line that ends with \\ goes on with the next; """ begins and ends a text of many lines; a paste is one.')
    say("Ctrl-C stops an answer, a second one leaves; so does Ctrl-D.")


async def _exit(chat: _Chat, argument: str) -> None:
    chat.is_over = True


class _Command(NamedTuple):
    argument: str
    help: str
    run: Callable[[_Chat, str], Awaitable[None]]


_COMMANDS = {
    "/model": _Command("[PROVIDER/ID]", "show the model, or go on with another one", _model),
    "/thinking": _Command("[LEVEL]", f"show or set how hard it thinks: {', '.join(_LEVELS)}", _thinking),
    "/system": _Command("[TEXT]", "show or set the system prompt; - takes it away", _system),
    "/save": _Command("[FILE]", "save the conversation, from now on after each answer", _save),
    "/load": _Command("FILE", "go on with a saved conversation", _load),
    "/retry": _Command("", "ask for the last answer once more", _retry),
    "/usage": _Command("", "show tokens and cost", _usage),
    "/help": _Command("", "show this", _help),
    "/exit": _Command("", "leave", _exit),
}


def _completed(line: str) -> list[str]:
    """The lines that the beginning of a command may become."""
    word, space, argument = line.partition(" ")
    if not space:
        found = [name for name in _COMMANDS if line and name.startswith(line)]
        return [f"{name} " if _COMMANDS[name].argument else name for name in found]
    values = names_like(argument) if word == "/model" else _LEVELS if word == "/thinking" else ()
    return [f"{word} {value}" for value in values if value.startswith(argument)]
