"""Many prompts at once: so many at a time, with a progress bar, and resumable.

    pip install rich
    python examples/batch.py prompts.txt answers.jsonl

One prompt a line; one line of JSON an answer, as soon as it is there. Interrupted, or killed, it goes on where it was:
a line that was not written whole is written again. Failures are not written, so that the next run tries them again.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

import anyio
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from pi_ai import Context, Model, Registry, UserMessage
from pi_ai.testing import Sandbox

AT_A_TIME = 50


def answered(path: Path) -> set[int]:
    """The numbers of the prompts that have their answer; what a crash left of a line is cut off."""
    found, whole = set[int](), 0
    if path.exists():
        for line in path.read_bytes().splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            found.add(json.loads(line)["prompt"])
            whole += len(line)
        os.truncate(path, whole)
    return found


async def run(pi: Registry, model: Model, prompts: Path, path: Path) -> int:
    """Answer all prompts that have no answer yet; how many failed."""
    done, failed = answered(path), 0
    lines = await anyio.Path(prompts).read_text()
    todo = [(number, text) for number, text in enumerate(lines.splitlines()) if number not in done]
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with path.open("ab", 0) as file, Progress(*columns, disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task("Prompts", total=len(done) + len(todo), completed=len(done))
        waiting = iter(todo)

        async def work() -> None:
            nonlocal failed
            for number, text in waiting:  # all workers take from the same iterator
                message = await pi.complete(model, Context([UserMessage(text)]), max_retries=5)
                if message.stop_reason in ("stop", "length"):
                    line = {"prompt": number, "answer": message.text, "usd": message.usage.cost.total}
                    file.write(json.dumps(line).encode() + b"\n")
                else:
                    failed += 1
                progress.advance(bar)

        async with anyio.create_task_group() as tasks:
            for _ in range(AT_A_TIME):
                tasks.start_soon(work)
    return failed


def demonstration(folder: str) -> tuple[Path, Path]:
    """A hundred prompts, and what a run that was killed has left of the answers."""
    prompts, answers = Path(folder, "prompts.txt"), Path(folder, "answers.jsonl")
    prompts.write_text("".join(f"What is {n} + {n}?\n" for n in range(100)))
    answers.write_text(
        "".join(f'{{"prompt": {n}, "answer": "", "usd": 0}}\n' for n in range(30)) + '{"prompt": 30, "ans'
    )
    return prompts, answers


async def main(prompts: Path | None = None, answers: Path | None = None) -> None:
    async with Sandbox() as box, Registry(max_connections=AT_A_TIME) as pi:
        name = os.environ.get("PI_AI_MODEL", "")
        model = pi.get_model(name) if name else box.model()  # the sandbox repeats what it is told
        with tempfile.TemporaryDirectory() as folder:
            if prompts is None or answers is None:
                prompts, answers = demonstration(folder)
            failed = await run(pi, model, prompts, answers)
            print(len(answered(answers)), "answers,", failed, "failed")  # → 100 answers, 0 failed
        print(len(box.requests), "requests to the sandbox")  # → 70 requests to the sandbox


if __name__ == "__main__":
    anyio.run(main, *map(Path, sys.argv[1:3]))
