"""Renew the catalogue from a list of models: ``python -m pi_ai.providers.catalog MODELS``.

MODELS is a file with a JSON array of models, an object with such an array as ``models``, or one model a line, with the
keys that README.md lists. All is checked before anything is written: the data, what ``providers.jsonl`` counts of it,
and the ids for editors.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from pi_ai.serialization import from_json
from pi_ai.types import JSONObject, Model

FOLDER = Path(__file__).parent
MAX_LINE = 120


def main(arguments: Sequence[str]) -> int:
    """Renew the files in this folder.

    :returns: the exit status.
    """
    if len(arguments) != 1:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    models = read_models(Path(arguments[0]).read_text(encoding="utf-8"))
    providers = [json.loads(line) for line in (FOLDER / "providers.jsonl").read_bytes().splitlines()]
    found = list(problems(models, providers))
    if found:
        sys.stderr.write("".join(f"{problem}\n" for problem in found))
        return 1
    (FOLDER / "models.jsonl").write_bytes(lines(models))
    (FOLDER / "providers.jsonl").write_bytes(lines(counted(providers, models)))
    (FOLDER / "ids.py").write_text(ids_module(models), encoding="utf-8")
    sys.stdout.write(f"{len(models)} models of {len({model['provider'] for model in models})} providers\n")
    return 0


def read_models(text: str) -> list[JSONObject]:
    """The models in a file, sorted, each with its provider and id first."""
    try:
        data: Any = json.loads(text)
    except ValueError:
        data = [json.loads(line) for line in text.splitlines()]
    models: list[JSONObject] = []
    for model in cast("list[JSONObject]", data["models"] if isinstance(data, dict) else data):
        models.append({"provider": model["provider"], "id": model["id"], **model})
        models[-1].pop("type", None)
    return sorted(models, key=lambda model: (model["provider"], model["id"]))


def problems(models: Sequence[JSONObject], providers: Sequence[JSONObject]) -> Iterator[str]:
    """What is wrong with a list of models."""
    known = {provider["id"] for provider in providers}
    seen: set[tuple[str, str]] = set()
    for data in models:
        where = f"{data['provider']}/{data['id']}"
        if (data["provider"], data["id"]) in seen:
            yield f"{where} is there twice"
        seen.add((data["provider"], data["id"]))
        if data["provider"] not in known:
            yield f"{where}: providers.jsonl has no such provider"
        try:
            model = from_json(Model, data)
        except (TypeError, ValueError) as error:
            yield f"{where}: {error}"
            continue
        cost = model.cost
        if model.context_window <= 0 or model.max_tokens <= 0:
            yield f"{where}: contextWindow and maxTokens must be above 0"
        if min(cost.input, cost.output, cost.cache_read, cost.cache_write) < 0:
            yield f"{where}: prices must not be below 0"
        if model.base_url and not model.base_url.startswith("https://"):
            yield f"{where}: baseUrl must be https"


def counted(providers: Sequence[JSONObject], models: Sequence[JSONObject]) -> list[JSONObject]:
    """The providers with how many models they have, and of which APIs."""
    renewed: list[JSONObject] = []
    for provider in providers:
        own = [model for model in models if model["provider"] == provider["id"]]
        renewed.append({**provider, "apis": sorted({model["api"] for model in own}), "models": len(own)})
    return renewed


def lines(records: Sequence[JSONObject]) -> bytes:
    """JSON Lines: ASCII, compact."""
    return b"".join(json.dumps(record, separators=(",", ":")).encode() + b"\n" for record in records)


def ids_module(models: Sequence[JSONObject]) -> str:
    """The source of ``ids.py``."""
    ids: dict[str, list[str]] = {}
    for model in models:
        ids.setdefault(model["provider"], []).append(model["id"])
    return _MODULE.format(
        aliases="\n".join(_alias(provider, known) for provider, known in ids.items()),
        overloads="\n".join(_overload(provider) for provider in ids),
    )


def _name(provider: str) -> str:
    return "_" + "".join(part.capitalize() for part in provider.split("-"))


def _alias(provider: str, ids: Sequence[str]) -> str:
    members = "".join(f"    {json.dumps(name)},\n" for name in ids)
    return f"{_name(provider)}: TypeAlias = Literal[\n{members}]"


def _overload(provider: str) -> str:
    parameters = f"self, provider: Literal[{json.dumps(provider)}], id: {_name(provider)} | str"
    line = f"    def __call__({parameters}) -> Model: ..."
    if len(line) > MAX_LINE:
        line = f"    def __call__(\n        {parameters}\n    ) -> Model: ..."
    return f"    @overload\n{line}"


_MODULE = '''"""The ids of the catalogue, for editors to complete. Made by ``python -m pi_ai.providers.catalog``.

Never imported at run time.
"""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias, overload

from pi_ai.types import Model

{aliases}


class GetModel(Protocol):
    """A look-up of models by provider and id."""

{overloads}
    @overload
    def __call__(self, provider: str, id: str | None = None) -> Model: ...
'''


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
