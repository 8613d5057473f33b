r"""Config values: keys, headers and URLs that are written down as ``$NAME`` or ``!command`` (R53-R58).

A value that begins with ``!`` is a shell command whose output is meant. Any other is a template::

    $NAME  ${NAME}    the environment variable
    $$  $!            a literal $, a literal !
    anything else     itself

Values are resolved when a request is made, never earlier, so that nothing secret is kept and rotating keys work.
"""

from __future__ import annotations

import os
import re
import signal
import warnings
from collections.abc import Mapping
from contextlib import suppress
from typing import TypeAlias

import anyio
import attrs
from anyio.abc import Process

from pi_ai.errors import PiAIError, failure

COMMAND_TIMEOUT_S = 10.0
MAX_OUTPUT_BYTES = 1024 * 1024

Env: TypeAlias = Mapping[str, str] | None

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_DOLLAR = re.compile(rf"\$(?:([$!])|\{{({_NAME})\}}|({_NAME}))")
_OLD_FORM = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+")

_outputs: dict[str, str] = {}
_warned: set[tuple[str, bool]] = set()


class PiAiDeprecationWarning(FutureWarning):
    """Something still works, but will not for ever; the message names the new form."""


def clear_config_value_cache() -> None:
    """Forget the outputs of commands that were kept (R57)."""
    _outputs.clear()


def variable(name: str, env: Env) -> str | None:
    """An environment variable: of ``env``, else of the process; None: unset, empty or blank (R54)."""
    for value in ((env or {}).get(name), os.environ.get(name)):
        if value and value.strip():
            return value
    return None


def variables(value: str) -> list[str]:
    """The names that a value reads, in their order; none for a command."""
    if value.startswith("!"):
        return []
    return list(dict.fromkeys(found[2] or found[3] for found in _DOLLAR.finditer(value) if not found[1]))


def literal(text: str) -> str:
    """The value that means ``text`` itself, whatever is in it."""
    escaped = text.replace("$", "$$")
    return f"${escaped}" if escaped.startswith("!") else escaped


def render(template: str, what: str, env: Env = None) -> str:
    """A template with its variables filled in.

    :param what: whose value it is, for the error.
    :raises PiAIError: kind ``config``: a variable is missing (R55).
    """
    missing = [name for name in variables(template) if variable(name, env) is None]
    if missing:
        plural = "s" if len(missing) > 1 else ""
        raise _unresolved(what, f"environment variable{plural}: {', '.join(missing)}", "set it where the program runs")
    return _DOLLAR.sub(lambda found: found[1] or variable(found[2] or found[3], env) or "", template)


@attrs.frozen(kw_only=True)
class ConfigValues:
    """How the values of one source are read.

    :ivar allow_commands: False: a ``!command`` is never run (D19).
    :ivar old_names: a bare upper-case name of an environment variable stands for it, with a warning (R58).
    """

    allow_commands: bool = True
    old_names: bool = False

    async def resolve(self, value: str, what: str, env: Env = None, *, keep: bool = False) -> str:
        """What a value stands for, now.

        :param what: whose value it is, for errors: ``API key for provider "x"``.
        :param env: variables that win over those of the process.
        :param keep: keep the output of a command that succeeds, for the life of the process.
        :raises PiAIError: kind ``config``: a variable is missing, or the command gave nothing (R55).
        """
        if not value.startswith("!"):
            return render(self._modern(value, what, env), what, env)
        command = value[1:]
        if not self.allow_commands:
            raise _unresolved(what, f"shell command: {command}", "commands are turned off (allow_commands=False)")
        output = _outputs.get(command) or await _run(command)
        if not output:
            way_out = f"it must print the value within {COMMAND_TIMEOUT_S:g} s and end with status 0"
            raise _unresolved(what, f"shell command: {command}", way_out)
        if keep:
            _outputs[command] = output
        return output

    def is_available(self, value: str, env: Env = None) -> bool:
        """Whether a value can be resolved, as far as can be told without running a command (R101)."""
        if value.startswith("!"):
            return self.allow_commands
        return all(variable(name, env) is not None for name in self.variables(value, env))

    def variables(self, value: str, env: Env = None) -> list[str]:
        """The names of the environment variables that a value is made of."""
        return [value] if self._is_old_name(value, env) else variables(value)

    def _is_old_name(self, value: str, env: Env) -> bool:
        """Whether ``MY_API_KEY`` means ``$MY_API_KEY`` (R58)."""
        return self.old_names and bool(_OLD_FORM.fullmatch(value)) and variable(value, env) is not None

    def _modern(self, value: str, what: str, env: Env) -> str:
        """``$MY_API_KEY`` for ``MY_API_KEY``, where that is what is meant; said once."""
        if not self.old_names or not _OLD_FORM.fullmatch(value):
            return value
        is_name = self._is_old_name(value, env)
        if (value, is_name) not in _warned:
            _warned.add((value, is_name))
            if is_name:
                advice = f'The {what} is read from the environment variable that it names; write "${value}"'
            else:  # it may be a key
                advice = f"The {what} is taken as it is, although it looks like the name of an environment variable"
                advice += '; if it is one, set that variable, and write "$" in front of the name'
            warnings.warn(advice, PiAiDeprecationWarning, stacklevel=2)
        return f"${value}" if is_name else value


def _unresolved(what: str, source: str, way_out: str) -> PiAIError:
    text = f"Failed to resolve {what} from {source}"
    return failure("config", f"{text}; {way_out}", text=text, phase="auth")


# ── commands ─────────────────────────────────────────────────────────────────────────────────────────────────


async def _run(command: str) -> str | None:
    """A shell command's output, trimmed; None: it failed, took too long, or said too much (R56).

    Whatever ends the waiting ends the command, and with it the processes that it has started.
    """
    started: list[Process] = []

    async def start() -> None:
        import subprocess  # most programs run no command

        with anyio.CancelScope(shield=True), suppress(OSError):
            process = await anyio.open_process(
                command if os.name == "nt" else ["sh", "-c", command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            started.append(process)

    output, status = bytearray(), None
    try:
        # In a task of its own: who is cancelled while it starts would end the shell, and not what that has started.
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(start)
        if not started:
            return None
        with anyio.move_on_after(COMMAND_TIMEOUT_S):
            process = started[0]
            assert process.stdout is not None
            async for data in process.stdout:
                output += data
                if len(output) > MAX_OUTPUT_BYTES:
                    break
            else:
                status = await process.wait()
    finally:
        for process in started:
            if status is None:
                _kill(process.pid)
            with anyio.CancelScope(shield=True):
                await process.aclose()
    return output.decode("utf-8", "replace").strip() if status == 0 else None


def _kill(pid: int) -> None:
    """End a process and those that it has started."""
    if os.name == "nt":
        import subprocess

        subprocess.run(["taskkill", "/f", "/t", "/pid", str(pid)], check=False, capture_output=True)  # noqa: S603, S607 - part of Windows
    else:
        with suppress(ProcessLookupError, PermissionError):  # it has ended
            os.killpg(pid, signal.SIGKILL)
