"""Mutation testing: what the tests would not notice, if the code did it.

A mutant is a module with one small change, such as ``<`` in place of ``<=``, or a call left out. Its tests run over it
once; they should fail. A mutant that survives shows a line that no test holds, or a change that means nothing::

    python -m pi_ai_tests.mutation streams --sample 60     # the same 60 every time; another --seed gives others
    python -m pi_ai_tests.mutation wire.sse                # all of them
    python -m pi_ai_tests.mutation wire.sse --only 17      # the output of the tests over one

No file is changed. The tests are collected once; a fork for each mutant gives the functions their changed code and runs
the tests until one fails, two at a time; those that killed others come first, then the quick ones. What is no
function's, such as the value of a constant, is changed as the module is imported, in a process of its own. Needs
``os.fork``.

Left as they are: words (docstrings, messages), annotations and the type arguments of ``cast``, decorators, ``assert``,
``__slots__``, ``__repr__``, the factors of a constant, and what stands under ``TYPE_CHECKING``.
"""

from __future__ import annotations

import argparse
import ast
import gc
import importlib
import inspect
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, NamedTuple, TypeAlias

import pytest

TESTS = Path(__file__).parent

TARGETS: dict[str, list[str]] = {
    "streams": [
        "test_contract.py",
        "providers/test_custom_streams.py",
        "test_leaving.py",
        "reliability/test_stream_states.py",
    ],
    "transport": ["transport"],
    "builder": [
        "test_builder.py",
        "adapters/test_anthropic_messages_parser.py",
        "adapters/test_openai_completions_parser.py",
        "adapters/test_google_parser.py",
        "test_contract.py",
    ],
    "wire.aws_event_stream": ["wire/test_aws_event_stream.py"],
    "wire.chunked": ["wire/test_chunked.py"],
    "wire.fast_chunked": ["wire/test_chunked.py", "transport/test_heads_and_chunks.py"],
    "wire.json_documents": ["wire/test_json_documents.py"],
    "wire.partial_json": ["wire/test_partial_json.py"],
    "wire.sse": ["wire/test_sse.py"],
}
"""Module of ``pi_ai`` → the tests that hold it."""

SELECTED = "not uvloop and not time_grows and not linear_time and not costs_the_same"
TEST_TIMEOUT_S = 10
"""Longest that one test may take over a mutant."""
MEMORY_BYTES = 2 << 30
"""Most that a process may take."""

# ── mutants ──────────────────────────────────────────────────────────────────────────────────────────────────


class Change(NamedTuple):
    """One change of a syntax tree, not yet made: ``owner.field`` (or ``owner.field[index]``) becomes ``new``."""

    owner: ast.AST
    field: str
    index: int | None
    new: ast.AST | None

    @property
    def old(self) -> Any:
        """What stands there."""
        value = getattr(self.owner, self.field)
        return value if self.index is None else value[self.index]

    def make(self) -> None:
        """Change the tree."""
        if self.new is not None:
            ast.copy_location(self.new, self.old)
        if self.index is None:
            setattr(self.owner, self.field, self.new)
        else:
            getattr(self.owner, self.field)[self.index] = self.new

    def __str__(self) -> str:
        old, new = (ast.unparse(node).split("\n")[0] if node else "" for node in (self.old, self.new))
        return f"{self.old.lineno}: {old} → {new}"


_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
_NAMES_LEFT = {"__slots__", "__repr__"}


def _expressions(node: ast.expr) -> Iterator[ast.expr]:
    """What an expression may become."""
    match node:
        case ast.Compare(left, [operator], comparators) if type(operator) in _COMPARISONS:
            yield ast.Compare(left, [_COMPARISONS[type(operator)]()], comparators)
        case ast.BoolOp(operator, values):
            yield ast.BoolOp(ast.And() if isinstance(operator, ast.Or) else ast.Or(), values)
        case ast.UnaryOp(ast.Not(), operand):
            yield operand
        case ast.BinOp(left, operator, right) if type(operator) in _OPERATORS:
            yield ast.BinOp(left, _OPERATORS[type(operator)](), right)
        case ast.Constant(bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(int() | float() as value):
            yield ast.Constant(value + 1)
            yield ast.Constant(value - 1)
        case _:
            pass


def _conditions(test: ast.expr) -> Iterator[ast.expr]:
    """What a condition may become besides: its opposite, where no other change makes that."""
    if not isinstance(test, (ast.Compare, ast.UnaryOp)):
        yield ast.UnaryOp(ast.Not(), test)


def _statements(node: ast.stmt) -> Iterator[ast.stmt]:
    """What a statement may become."""
    match node:
        case ast.Return(value) if value is not None and not (isinstance(value, ast.Constant) and value.value is None):
            yield ast.Return(ast.Constant(None))
        case ast.Return() | ast.Raise() | ast.Assign() | ast.AugAssign() | ast.AnnAssign(value=ast.expr()):
            yield ast.Pass()
        case ast.Expr(ast.Call() | ast.Await()):
            yield ast.Pass()
        case ast.Break():
            yield ast.Continue()
        case ast.Continue():
            yield ast.Break()
        case _:
            pass


def changes(tree: ast.AST) -> Iterator[Change]:
    """All changes of a module, in the order of its text."""
    for field, value in ast.iter_fields(tree):
        for index, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(node, ast.AST) and not _left_alone(tree, field, index, node):
                yield from (Change(tree, field, index, new) for new in _replacements(field, node, tree))
                yield from changes(node)


def _replacements(field: str, node: ast.AST, owner: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.stmt):
        if not isinstance(owner, ast.Module):
            yield from _statements(node)
    elif isinstance(node, ast.expr):
        yield from _expressions(node)
        if field in {"test", "ifs"}:
            yield from _conditions(node)


def _left_alone(owner: ast.AST, field: str, index: int | None, node: ast.AST) -> bool:
    match node:
        case ast.Assert() | ast.JoinedStr() | ast.Import() | ast.ImportFrom():
            return True
        case ast.If(ast.Name("TYPE_CHECKING")):
            return True
        case ast.FunctionDef(name=name) | ast.Assign([ast.Name(name)]) if name in _NAMES_LEFT:
            return True
        case ast.FunctionDef(decorator_list=[ast.Name("overload")]):
            return True
        case ast.Constant() if isinstance(owner, ast.BinOp):
            return isinstance(owner.left, (ast.Constant, ast.BinOp)) and isinstance(owner.right, ast.Constant)
        case _:
            called = owner.func.id if isinstance(owner, ast.Call) and isinstance(owner.func, ast.Name) else ""
            typed = called == "TypeVar" or (called == "cast" and field == "args" and index == 0)
            return typed or field in {"annotation", "returns", "decorator_list", "bases"}


# ── one mutant ───────────────────────────────────────────────────────────────────────────────────────────────


def mutated(source: bytes, number: int) -> ast.Module:
    """The module with its change of that number made."""
    tree = ast.parse(source)
    list(changes(tree))[number].make()
    return ast.fix_missing_locations(tree)


class _Loader(SourceFileLoader):
    """Loads a mutant in place of a module."""

    def __init__(self, name: str, path: str, number: int) -> None:
        super().__init__(name, path)
        self._number = number

    def get_code(self, fullname: str) -> Any:
        return compile(mutated(self.get_data(self.path), self._number), self.path, "exec")


class _Finder:
    """Has a :class:`_Loader` load one module."""

    def __init__(self, name: str, number: int) -> None:
        self._name = name
        self._number = number

    def find_spec(self, name: str, path: Sequence[str] | None, target: object = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path) if name == self._name else None
        if spec is not None and spec.origin is not None:
            spec.loader = _Loader(name, spec.origin, self._number)
        return spec


def _codes(code: CodeType) -> Iterator[tuple[tuple[str, int], CodeType]]:
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield (inner.co_qualname, inner.co_firstlineno), inner
            yield from _codes(inner)


def _functions(namespace: dict[str, Any], file: str) -> Iterator[FunctionType]:
    """The functions of a module and of its classes, which may say that they belong to the package."""
    for value in namespace.values():
        value = getattr(value, "fget", value)
        value = inspect.unwrap(getattr(value, "__func__", value))
        if isinstance(value, FunctionType):
            if value.__code__.co_filename == file:
                yield value
        elif isinstance(value, type) and value.__module__.partition(".")[0] == "pi_ai":
            yield from _functions(dict(vars(value)), file)


def change_in_place(name: str, number: int) -> bool:
    """Give the functions of an imported module the code of a mutant; whether it is in one of them."""
    module = importlib.import_module(name)
    assert module.__file__ is not None
    source = Path(module.__file__).read_bytes()
    old = dict(_codes(compile(source, module.__file__, "exec")))
    new = dict(_codes(compile(mutated(source, number), module.__file__, "exec")))
    found = False
    for function in _functions(vars(module), module.__file__):
        key = function.__code__.co_qualname, function.__code__.co_firstlineno
        if key in new and new[key] != old[key] and new[key].co_freevars == old[key].co_freevars:
            function.__code__ = new[key]
            found = True
    return found


# ── a run ────────────────────────────────────────────────────────────────────────────────────────────────────

Outcome: TypeAlias = str
"""``killed``, ``timeout`` or ``survived``."""
_ELSEWHERE = 99
"""Exit code of a fork whose mutant is in no function."""


def _pytest(target: str, plugins: Sequence[object] = ()) -> int:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background job ignores
    files = [os.fspath(TESTS / name) for name in TARGETS[target]]
    limits = [f"--timeout={TEST_TIMEOUT_S}", "-k", SELECTED, "-m", "not live"]
    style = "line" if plugins else "auto"  # nobody sees what the forks print, and making it takes long
    return int(pytest.main(["-x", "-q", "--no-header", f"--tb={style}", *limits, *files], plugins=plugins))


def _limit_memory() -> None:
    """Loops without end allocate without end."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


class Run:
    """Runs the collected tests over each mutant, in place of running them once."""

    def __init__(self, target: str, sample: int | None, seed: int, jobs: int) -> None:
        source = (TESTS.parent / "pi_ai" / f"{target.replace('.', '/')}.py").read_bytes()
        self.changes = list(changes(ast.parse(source)))
        numbers = range(len(self.changes))
        self.numbers = sorted(random.Random(seed).sample(numbers, min(sample or len(numbers), len(numbers))))
        self.outcomes: dict[int | None, Outcome] = {}
        self._target = target
        self._jobs = jobs
        self._running: dict[int, tuple[int | None, float, int]] = {}
        self._timeout = 600.0
        self._items: list[pytest.Item] = []
        """What may kill the next mutant soonest comes first."""
        self._words = ""
        """What a fork tells: the test that failed, or how long each took over the module as it is."""

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        gc.collect()
        gc.freeze()  # else every collection in a fork goes through, and copies, all that was imported
        begun = time.monotonic()
        self._items = list(session.items)
        self._start(session, None)
        self._wait(0)
        self._timeout = 30 + 6 * (time.monotonic() - begun)
        if self.outcomes.pop(None) == "survived":
            for number in random.Random(0).sample(self.numbers, len(self.numbers)):
                self._start(session, number)
                self._wait(self._jobs - 1)
        self._wait(0)
        return True

    def _start(self, session: pytest.Session, number: int | None) -> None:
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            code = 1
            try:
                os.setpgid(0, 0)
                _limit_memory()
                code = self._test(session, number)
            finally:
                os.write(writing, self._words.encode())
                os._exit(code)
        os.close(writing)
        self._running[pid] = number, time.monotonic() + self._timeout, reading

    def _test(self, session: pytest.Session, number: int | None) -> int:
        if number is not None:
            nothing = os.open(os.devnull, os.O_RDWR)
            for stream in (1, 2):
                os.dup2(nothing, stream)
            session.config.pluginmanager.unregister(name="terminalreporter")
            if not change_in_place(f"pi_ai.{self._target}", number):
                return _ELSEWHERE
        for item, following in zip(self._items, [*self._items[1:], None], strict=True):
            begun = time.monotonic()
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.testsfailed:
                if number is None:
                    print(f"\nfails over the module as it is: {item.nodeid}")
                self._words = item.nodeid
                return 1
            if number is None:
                self._words += f"{time.monotonic() - begun:.2f} "
        return 0

    def _wait(self, most: int) -> None:
        """Until no more than so many forks run."""
        while len(self._running) > most:
            time.sleep(0.02)
            for pid, (number, deadline, reading) in list(self._running.items()):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    code = os.waitstatus_to_exitcode(status)
                    outcome = self._anew(number) if code == _ELSEWHERE else "killed" if code else "survived"
                elif time.monotonic() > deadline:
                    os.killpg(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                    outcome = "timeout"
                else:
                    continue
                del self._running[pid]
                self.outcomes[number] = outcome
                if number is None and outcome == "survived":
                    durations = dict(zip(self._items, map(float, os.read(reading, 1 << 16).split()), strict=True))
                    self._items.sort(key=durations.__getitem__)
                elif outcome == "killed":
                    killer = os.read(reading, 1 << 16).decode()
                    self._items.sort(key=lambda item: item.nodeid != killer)
                os.close(reading)
                if number is not None and outcome == "survived":
                    print(f"  survived {number} at {self._target}:{self.changes[number]}", flush=True)

    def _anew(self, number: int | None) -> Outcome:
        command = [sys.executable, "-m", "pi_ai_tests.mutation", self._target, f"--only={number}"]
        try:
            done = subprocess.run(command, cwd=TESTS.parent, capture_output=True, timeout=self._timeout, check=False)
        except subprocess.TimeoutExpired:
            return "timeout"
        return "killed" if done.returncode else "survived"

    def row(self) -> str:
        """The table's row about it."""
        outcomes = list(self.outcomes.values())
        killed = len(outcomes) - outcomes.count("survived")
        return (
            f"| {self._target} | {len(self.changes)} mutants | {len(outcomes)} tested | {killed} killed, "
            f"{outcomes.count('timeout')} of them by the clock | {killed / len(outcomes):.1%} |"
        )


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m pi_ai_tests.mutation", description="Test the tests.")
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--sample", type=int, help="so many mutants (default: all)")
    parser.add_argument("--seed", type=int, default=1, help="which ones")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--only", type=int, help="show the tests over the mutant of this number")
    asked = parser.parse_args()
    if asked.only is not None:
        _limit_memory()
        sys.meta_path.insert(0, _Finder(f"pi_ai.{asked.target}", asked.only))
        return _pytest(asked.target)
    run = Run(asked.target, asked.sample, asked.seed, asked.jobs)
    _pytest(asked.target, [run])
    if not run.outcomes:
        print(f"The tests of {asked.target} fail over the module as it is")
        return 1
    print(run.row())
    return 0


if __name__ == "__main__":
    sys.exit(main())
