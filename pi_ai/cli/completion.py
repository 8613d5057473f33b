"""``pi-ai completion``: scripts for shells, which complete commands, options, providers and models.

A script knows nothing by itself: at each TAB it asks the program, by ``--line``, so that it never grows old. The answer
is one word a line; or the exit status :data:`A_FILE`, where a file is wanted, which shells know better.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import cast

from pi_ai.cli.models import names_like
from pi_ai.cli.terminal import OK, put
from pi_ai.registry import current

A_FILE = 3

_BASH = r"""
_pi_ai() {
    local line=${COMP_LINE:0:COMP_POINT} word
    COMPREPLY=()
    while IFS= read -r word; do
        COMPREPLY+=("$word")
    done < <("$1" completion bash --line="$line" 2>/dev/null || echo /)
    if [[ ${COMPREPLY[0]} == / ]]; then
        COMPREPLY=()
        compopt -o default
    elif [[ ${COMPREPLY[0]} == */ ]]; then
        compopt -o nospace
    fi
}
complete -F _pi_ai pi-ai
"""

_ZSH = r"""#compdef pi-ai
_pi_ai() {
    local -a found
    found=(${(f)"$($words[1] completion zsh --line="${(j: :)words[1,CURRENT]}" 2>/dev/null || echo /)"})
    if [[ $found[1] == / ]]; then
        _files
    else
        compadd -S '' -- ${(M)found:#*/}
        compadd -- ${found:#*/}
    fi
}
if [[ $funcstack[1] == _pi_ai ]]; then
    _pi_ai
else
    compdef _pi_ai pi-ai
fi
"""

_FISH = r"""
function __pi_ai_complete
    set -l words (commandline -opc)
    $words[1] completion fish --line=(commandline -cp | string collect) 2>/dev/null
    or __fish_complete_path (commandline -ct)
end
complete -c pi-ai -f -a '(__pi_ai_complete)'
"""

_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}

_WHERE = "\n".join(
    [
        "bash: echo 'eval \"$(pi-ai completion bash)\"' >> ~/.bashrc",
        "zsh:  echo 'eval \"$(pi-ai completion zsh)\"' >> ~/.zshrc, after compinit",
        "fish: pi-ai completion fish > ~/.config/fish/completions/pi-ai.fish",
    ]
)


def completion_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``pi-ai completion``."""
    parser.epilog = _WHERE
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("shell", choices=list(_SCRIPTS), help="for which shell")
    parser.add_argument("--line", help=argparse.SUPPRESS)


def complete(args: argparse.Namespace) -> int:
    """Print a script; or with ``--line`` what the last word of a command line may become."""
    if args.line is None:
        put(_SCRIPTS[args.shell].lstrip("\n"))
        return OK
    *before, word = _words(args.line)
    found = _candidates(args.parser, before[1:], word)
    if found is None:
        return A_FILE
    # bash divides words at : and =, and wants only what comes after the last one.
    known = max(word.rfind(":"), word.rfind("=")) + 1 if args.shell == "bash" else 0
    put("".join(f"{each[known:]}\n" for each in found))
    return OK


def _words(line: str) -> list[str]:
    """The words of a command line; the last one is where the cursor stands, and may be empty."""
    for ending in ("", "'", '"'):
        try:
            words = shlex.split(line + ending)
        except ValueError:  # a quotation has not ended
            continue
        return [*words, ""] if not ending and line[-1:].isspace() else words
    return ["", ""]


# ── what may come ────────────────────────────────────────────────────────────────────────────────────────────


def _providers(beginning: str) -> Sequence[str]:
    return current().get_providers()


_VALUES: dict[str, Callable[[str], Sequence[str]]] = {"model": names_like, "provider": _providers}
"""What arguments of a name may be, unless they have choices."""

_FILES = {"FILE", "PATH"}
"""What is written in the help for arguments that are files."""


def _candidates(parser: argparse.ArgumentParser, before: Iterable[str], word: str) -> list[str] | None:
    """What a word may become, after others; None: a file's name."""
    open_option: argparse.Action | None = None
    positionals = _positionals(parser)
    for each in before:
        if open_option is not None:
            open_option = None
        elif each.startswith("-") and each != "-":
            option = _options(parser).get(each)
            open_option = option if option is not None and option.nargs is None else None
        elif positionals:
            action = positionals.pop(0)
            chosen = _commands(action).get(each)
            if chosen is not None:
                parser, positionals = chosen, _positionals(chosen)
    if open_option is not None:
        return _values(open_option, word)
    if word.startswith("-"):
        name, equals, value = word.partition("=")
        if not equals:
            return [each for each in _options(parser) if each.startswith(word) and each.startswith("--")]
        option = _options(parser).get(name)
        found = _values(option, value) if option is not None else []
        return found and [f"{name}={each}" for each in found]
    return _values(positionals[0], word) if positionals else []


def _values(action: argparse.Action, beginning: str) -> list[str] | None:
    if action.metavar in _FILES:
        return None
    values = action.choices if action.choices is not None else _VALUES.get(action.dest, lambda _: ())(beginning)
    return [value for value in values if value.startswith(beginning)]


# The parts of a parser. argparse has no public way to ask for them.


def _options(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    found = parser._option_string_actions  # pyright: ignore[reportPrivateUsage]
    return {name: action for name, action in found.items() if action.help != argparse.SUPPRESS}


def _positionals(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if not action.option_strings]  # pyright: ignore[reportPrivateUsage]


def _commands(action: argparse.Action) -> dict[str, argparse.ArgumentParser]:
    choices: object = action.choices
    return cast("dict[str, argparse.ArgumentParser]", choices) if isinstance(choices, dict) else {}
