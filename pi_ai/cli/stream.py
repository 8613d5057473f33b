"""``pi-ai stream``: send a prompt, and print the answer as it arrives."""

from __future__ import annotations

import argparse
import re
import sys
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import anyio

from pi_ai.calls import stream
from pi_ai.cli.models import chosen_model, request_arguments, served
from pi_ai.cli.terminal import INTERRUPTED, OK, TextOutput, escaped, fail, reconfigure, say, summary
from pi_ai.errors import failure
from pi_ai.events import ErrorEvent, StreamEvent
from pi_ai.serialization import dumps
from pi_ai.streams import EventStream
from pi_ai.types import Context, ImageContent, Model, TextContent, UserMessage


def stream_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``pi-ai stream``."""
    add = parser.add_argument
    add("prompt", help="what to say to the model; - reads it from standard input")
    request_arguments(parser)
    add("--image", metavar="FILE", action="append", default=[], help="a PNG, JPEG, GIF or WebP to look at; repeatable")
    add("--json", action="store_true", help="print each event as one line of JSON")


def stream_answer(args: argparse.Namespace) -> int:
    """Stream an answer.

    :raises PiAIError: there is no such model, or an image cannot be used.
    """
    with served(chosen_model(args)) as model:
        return _ask(args, model)


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
    reconfigure(sys.stdout, encoding="utf-8" if args.json else None, errors="backslashreplace")
    show = _show_json if args.json else TextOutput().show
    status = OK
    try:
        anyio.run(_follow, answer, show)
    except KeyboardInterrupt:
        status = INTERRUPTED
        if answer.message.stop_reason == "aborted":  # else it has ended already, or never begun
            show(ErrorEvent("aborted", answer.message))
    message = answer.message
    if message.stop_reason == "error":
        status = fail(message.error_info.message if message.error_info else message.error_message or "")
    if not args.json and (message.content or message.usage.total_tokens):
        say(summary(message))
    return status


async def _follow(answer: EventStream, show: Callable[[StreamEvent], None]) -> None:
    async with answer:
        async for event in answer:
            show(event)


def _prompt(args: argparse.Namespace) -> str:
    prompt: str = args.prompt
    if prompt == "-":
        reconfigure(sys.stdin, errors="strict")
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


def _show_json(event: StreamEvent) -> None:
    print(escaped(dumps(event)), flush=True)
