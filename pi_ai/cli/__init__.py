"""The command ``pi-ai``. One function per command, and one line in the table ``_COMMANDS`` that names it.

A command returns its exit status, or raises :class:`PiAIError`; ``main`` turns what it raises into one sentence on
standard error::

    0    the answer is complete
    1    it failed, and the sentence says why
    2    the command line is wrong (argparse)
    130  Ctrl-C; what had come is printed
    141  whoever read standard output has left, as ``head`` does

Standard output carries the answer and nothing else. A module here holds a command or two; ``terminal`` is what they
share.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import anyio

from pi_ai._version import __version__
from pi_ai.cli import auth, chat, completion, doctor, models, stream
from pi_ai.cli.terminal import INTERRUPTED, READER_LEFT, WRONG, discard_output, fail
from pi_ai.errors import PiAIError, failure
from pi_ai.providers.extensions import Extensions, sources_of
from pi_ai.registry import current


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
        parser = _parser()
        args = parser.parse_args(argv)
        if not hasattr(args, "run"):
            parser.print_help(sys.stderr)
            return WRONG
        _load_extensions(args.extensions)
        run: Callable[[argparse.Namespace], int] = args.run
        return run(args)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        discard_output()
        return READER_LEFT
    except OSError as error:
        discard_output()
        return fail(str(error))
    except PiAIError as error:
        return fail(error.info.message)


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
    commands = parser.add_subparsers(metavar="COMMAND")
    for name, command in _COMMANDS.items():
        subparser = commands.add_parser(
            name, help=command.help, description=f"{command.help[0].upper()}{command.help[1:]}."
        )
        subparser.set_defaults(run=command.run, usage_error=subparser.error, parser=parser)
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


_COMMANDS = {
    "list": _Command("list who can be logged in to, and who is", auth.list_arguments, auth.list_logins),
    "login": _Command("log in, or store an API key", auth.login_arguments, auth.login),
    "logout": _Command("forget what is stored", auth.logout_arguments, auth.logout),
    "auth": _Command("look at keys and logins", auth.auth_arguments, auth.auth),
    "models": _Command("list the models that are known", models.models_arguments, models.models),
    "stream": _Command(
        "send a prompt, and print the answer as it arrives", stream.stream_arguments, stream.stream_answer
    ),
    "chat": _Command("talk to a model", chat.chat_arguments, chat.chat),
    "doctor": _Command("find out what is configured, and what is in the way", doctor.doctor_arguments, doctor.doctor),
    "completion": _Command(
        "print a script that completes commands in a shell", completion.completion_arguments, completion.complete
    ),
}
