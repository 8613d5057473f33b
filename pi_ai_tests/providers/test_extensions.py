"""Extensions: how they are found, loaded, bound and loaded anew (R110-R116), and the command line with them."""

from __future__ import annotations

import importlib.metadata
import sys
import textwrap

import anyio
import pytest

from pi_ai import Context, MessageBuilder, Model, Provider, ProviderConfigError, Registry, UserMessage, cli
from pi_ai.providers.extensions import ExtensionError, Extensions, discover

pytestmark = pytest.mark.anyio
WHOLE = {"base_url": "https://llm.example/v1", "api": "openai-completions", "api_key": "k"}
CODE = "def register(pi):\n    pi.register_provider({name!r}, base_url='https://llm.example', headers={{'X': '1'}})\n"


def write(path, name="x", code=CODE):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(code).format(name=name))
    return path


async def loaded(*sources, registry=None):
    """A registry, and what went wrong."""
    registry = registry or Registry()
    extensions = Extensions(sources)
    result = await extensions.load()
    return registry, [*result.errors, *extensions.bind(registry)]


# ── the function ─────────────────────────────────────────────────────────────────────────────────────────────


FUNCTIONS = {
    "register": "def register(pi): pi.register_provider('x')",
    "async register": "import anyio\nasync def register(pi):\n    await anyio.sleep(0)\n    pi.register_provider('x')",
    "default": "def default(pi): pi.register_provider('x')",
    "default that is an object": "class F:\n    def __call__(self, pi): pi.register_provider('x')\ndefault = F()",
}


@pytest.mark.parametrize("form", FUNCTIONS)
async def test_R110_the_function_of_a_module_is_called(tmp_path, form):
    pi, errors = await loaded(write(tmp_path / "extension.py", code=FUNCTIONS[form]))
    assert errors == []
    assert pi.get_provider("x")


async def test_R110_a_function_is_an_extension_too():
    async def register(pi):
        pi.register_provider("x", **WHOLE)

    pi, errors = await loaded(register)
    assert errors == []
    assert pi.get_provider("x")


async def test_R110_so_is_any_object_that_is_called():
    class Register:
        def __call__(self, pi):
            pi.register_provider("x", **WHOLE)

    pi, errors = await loaded(Register())
    assert errors == []
    assert pi.get_provider("x")


@pytest.mark.parametrize("code", ["", "register = 5", "def other(pi): pass"])
async def test_R110_a_module_without_one_is_an_error(tmp_path, code):
    path = write(tmp_path / "extension.py", code=code)
    _, errors = await loaded(path)
    assert errors == [
        ExtensionError(path=str(path), error=f"Extension does not export a valid factory function: {path}")
    ]


# ── finding ──────────────────────────────────────────────────────────────────────────────────────────────────


class EntryPoint:
    """An entry point of an installed package."""

    def __init__(self, name, value, load):
        self.name, self.value, self.load = name, value, load


@pytest.fixture
def installed(monkeypatch):
    """Packages that offer extensions."""

    def forbidden():
        raise AssertionError("imported")

    entries = [EntryPoint("b", "b_package:register", forbidden), EntryPoint("a", "a_package:register", forbidden)]
    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda group: entries if group == "pi_ai.extensions" else []
    )
    return entries


async def test_R111_extensions_are_found_in_order_each_once_and_none_is_imported(tmp_path, agent_dir, installed):
    code = "raise AssertionError('imported')"
    project, agent = tmp_path / "project", agent_dir / "extensions"
    write(project / ".pi" / "extensions" / "local.py", code=code)
    write(agent / "b.py", code=code)
    write(agent / "a.py", code=code)
    write(agent / "package" / "__init__.py", code=code)
    write(agent / "package" / "deeper" / "__init__.py", code=code)
    write(agent / "declared" / "one.py", code=code)
    write(agent / "declared" / "other.py", code=code)
    (agent / "declared" / "pyproject.toml").write_text('[tool.pi]\nextensions = ["./one.py"]\n')
    (agent / "empty").mkdir()
    (agent / "broken").mkdir()
    (agent / "broken" / "pyproject.toml").write_text("[tool.pi")
    (agent / "wrong").mkdir()
    (agent / "wrong" / "pyproject.toml").write_text('[tool.pi]\nextensions = "one.py"')
    (agent / "pi.ts").write_text("export default function (pi) {}")
    explicit = write(tmp_path / "explicit.py", code=code)
    found = [source.path for source in discover(explicit, agent / "a.py", project=project, trust_project=True)]
    assert found == [
        str(project / ".pi" / "extensions" / "local.py"),
        str(agent / "a.py"),
        str(agent / "b.py"),
        str(agent / "declared" / "one.py"),
        str(agent / "package" / "__init__.py"),
        "a_package:register",
        "b_package:register",
        str(explicit),
    ]
    assert [source.path for source in discover(project=project, installed=False)] == found[1:5]


async def test_R111_without_anything_to_find_nothing_is_found():
    assert discover(installed=False) == []


async def test_R111_a_project_is_only_looked_into_if_it_is_trusted(tmp_path):
    write(tmp_path / ".pi" / "extensions" / "x.py")
    assert discover(project=tmp_path, installed=False) == []
    assert len(discover(project=tmp_path, trust_project=True, installed=False)) == 1


async def test_R111_importing_the_package_loads_no_extension(tmp_path, agent_dir):
    write(agent_dir / "extensions" / "x.py", code="raise SystemExit('imported')")
    with anyio.fail_after(30):
        done = await anyio.run_process([sys.executable, "-c", "import pi_ai; pi_ai.get_models()"])
    assert done.returncode == 0


async def test_R111_an_installed_extension_is_a_module_or_a_function(monkeypatch):
    def register(pi):
        pi.register_provider("x", **WHOLE)

    holder = type(sys)("holder")
    holder.register = lambda pi: pi.register_provider("y", **WHOLE)
    entries = [EntryPoint("a", "a:register", lambda: register), EntryPoint("b", "b", lambda: holder)]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: entries)
    pi, errors = await loaded(*discover())
    assert errors == []
    assert pi.get_provider("x")
    assert pi.get_provider("y")


async def test_a_package_may_import_its_own_modules(tmp_path):
    write(tmp_path / "package" / "names.py", code="NAME = 'x'\n")
    init = write(
        tmp_path / "package" / "__init__.py",
        code="from .names import NAME\ndef register(pi): pi.register_provider(NAME)",
    )
    pi, errors = await loaded(*discover(tmp_path / "package", installed=False), init)
    assert errors == []
    assert pi.get_provider("x")


@pytest.mark.parametrize("name", ["extension.ts", "extension.js"])
async def test_extensions_of_pi_itself_are_never_loaded(tmp_path, name):
    path = tmp_path / name
    path.write_text("export default function (pi) {}")
    _, errors = await loaded(path)
    assert errors == [ExtensionError(path=str(path), error=f"Failed to load extension: {path} is no Python file")]


# ── loading ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_R112_an_extension_that_raises_leaves_no_trace_and_the_others_load(tmp_path):
    kept = []

    def breaks(pi):
        kept.append(pi)
        pi.register_provider("half", **WHOLE)
        raise RuntimeError("too bad")

    good = write(tmp_path / "good.py")
    syntax = write(tmp_path / "syntax.py", code="def register(pi:")
    missing = tmp_path / "missing.py"
    pi, errors = await loaded(breaks, syntax, missing, good)
    assert pi.get_provider("half") is None
    assert pi.get_provider("x")
    path = f"{__name__}:test_R112_an_extension_that_raises_leaves_no_trace_and_the_others_load.<locals>.breaks"
    assert errors[0] == ExtensionError(path=path, error="Failed to load extension: too bad")
    assert [error.path for error in errors[1:]] == [str(syntax), str(missing)]
    with pytest.raises(RuntimeError) as caught:
        kept[0].register_provider("late", **WHOLE)
    assert str(caught.value) == f'Extension "{path}" failed to load and its API is no longer active.'
    assert not [
        name for name in sys.modules if name.startswith("pi_ai_extension_") and "syntax" in repr(sys.modules[name])
    ]


async def test_R113_registrations_wait_for_a_registry_in_their_order():
    apis = []

    def register(pi):
        apis.append(pi)
        pi.register_provider("x", base_url="https://first.example")
        pi.register_provider("taken back", **WHOLE)
        pi.register_provider("x", base_url="https://second.example")

    extensions = Extensions([register])
    result = await extensions.load()
    assert (len(result.loaded), result.errors) == (1, ())
    apis[0].register_provider("x", headers={"X": "1"})  # between loading and binding
    apis[0].unregister_provider("taken back")
    pi = Registry()
    assert extensions.bind(pi) == ()
    assert pi.get_provider("x").base_url == "https://second.example"
    assert pi.get_provider("taken back") is None


async def test_R113_a_registration_that_fails_is_reported_and_the_rest_is_applied():
    def register(pi):
        pi.register_provider("bad", models=[{"id": "m"}])
        pi.register_provider("good", **WHOLE)
        pi.register_provider("worse", {"baseURL": "typo"})

    pi, errors = await loaded(register)
    assert [(error.event, error.error.partition(":")[0]) for error in errors] == [
        ("register_provider", "Provider bad, model m"),
        ("register_provider", "a provider has no field 'baseURL'; did you mean 'baseUrl'?"),
    ]
    assert errors[0].path.endswith("register")
    assert pi.get_provider("good")


async def test_R114_the_queue_is_applied_before_a_model_is_looked_up():
    pi, _ = await loaded(lambda pi: pi.register_provider("x", **WHOLE, models=[{"id": "default"}]))
    assert pi.get_model("x", "default")


async def test_R115_after_binding_calls_take_effect_at_once_and_raise():
    apis = []
    pi, _ = await loaded(apis.append)
    apis[0].register_provider("x", **WHOLE)
    assert pi.get_provider("x")
    with pytest.raises(ProviderConfigError):
        apis[0].register_provider("x", models=[{"id": ""}])
    apis[0].unregister_provider("x")
    assert pi.get_provider("x") is None


async def test_everything_that_can_be_registered_can_be_registered_by_an_extension():
    model = Model(id="m", api="my-api", provider="whole", base_url="https://x.example")

    class Whole(Provider):
        id = "whole"

        def models(self):
            return [model]

    def register(pi):
        pi.register_provider(Whole())

        @pi.register_api("my-api")
        async def my_api(model, context, options):
            out = MessageBuilder(model)
            yield out.start()
            yield out.text("Hello")
            yield out.finish("stop")

        pi.register_api("other-api", my_api)

    extensions = Extensions([register])
    await extensions.load()
    pi = Registry()
    assert extensions.bind(pi) == ()
    assert (await pi.complete(model, Context([UserMessage("Hi")]))).text == "Hello"
    extensions._sources.clear()
    await extensions.reload()
    assert pi.get_provider("whole") is None
    assert (await pi.complete(model, Context([UserMessage("Hi")]))).stop_reason == "error"


async def test_R116_loading_anew_replaces_what_was_registered(tmp_path):
    apis = []
    path = write(tmp_path / "extension.py", "old")
    extensions = Extensions([path, apis.append])
    pi = Registry()
    await extensions.load()
    extensions.bind(pi)
    apis[0].register_provider("by hand", **WHOLE)
    assert pi.get_provider("old")
    write(path, "newer")
    result = await extensions.reload()
    assert result.errors == ()
    assert pi.get_provider("newer")
    assert pi.get_provider("old") is pi.get_provider("by hand") is None
    with pytest.raises(RuntimeError, match="was loaded anew; this object is of its past"):
        apis[0].register_provider("late", **WHOLE)
    apis[1].register_provider("now", **WHOLE)
    assert pi.get_provider("now")


async def test_R116_loading_anew_restores_what_was_overridden(tmp_path):
    before = Registry().get_models("anthropic")
    path = write(tmp_path / "extension.py", "anthropic")
    extensions = Extensions([path])
    pi = Registry()
    await extensions.load()
    extensions.bind(pi)
    path.write_text("def register(pi): pass")
    assert pi.get_models("anthropic") != before or pi.get_provider("anthropic").base_url == "https://llm.example"
    await extensions.reload()
    assert pi.get_models("anthropic") == before
    assert pi.get_provider("anthropic").base_url == "https://api.anthropic.com"


async def test_R116_what_waits_for_a_registry_is_replaced_too(tmp_path):
    path = write(tmp_path / "extension.py", "old")
    extensions = Extensions([path])
    await extensions.load()
    write(path, "newer")
    await extensions.reload()
    pi = Registry()
    extensions.bind(pi)
    assert pi.get_provider("newer")
    assert pi.get_provider("old") is None


# ── the command line ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def pi_ai_command(monkeypatch, capsys):
    """Runs a command line in a process that has used no registry yet."""
    monkeypatch.setattr("pi_ai.registry._default", None)

    def run(*arguments):
        status = cli.main(arguments)
        out, err = capsys.readouterr()
        return status, out, err

    return run


ECHO = """
from pi_ai import MessageBuilder

async def echo(model, context, options):
    out = MessageBuilder(model)
    yield out.start()
    yield out.text(context.messages[-1].content)
    yield out.finish("stop")

def register(pi):
    pi.register_provider(
        "echo", base_url="https://x.example", api_key="k", api="echo", stream_simple=echo, models=[{{"id": "parrot"}}]
    )
"""


class TestCommandLine:
    """Sync: the command runs an event loop of its own."""

    anyio_backend = None

    def test_an_extension_is_loaded_for_one_command(self, pi_ai_command, tmp_path):
        path = write(tmp_path / "echo.py", code=ECHO)
        status, out, _ = pi_ai_command("-e", str(path), "stream", "--model", "echo/parrot", "Hello there")
        assert (status, out) == (0, "Hello there\n")

    def test_a_folder_that_declares_extensions_is_one_too(self, pi_ai_command, tmp_path):
        write(tmp_path / "folder" / "echo.py", code=ECHO)
        (tmp_path / "folder" / "pyproject.toml").write_text('[tool.pi]\nextensions = ["echo.py"]')
        status, out, _ = pi_ai_command("--extension", str(tmp_path / "folder"), "models", "--provider", "echo")
        assert status == 0
        assert out.startswith("echo/parrot ")

    @pytest.mark.parametrize(
        ("code", "words"),
        [
            ("raise OSError('no')", "Failed to load extension: no"),
            ("def register(pi): pi.register_provider('')", "empty"),
        ],
    )
    def test_what_is_wrong_with_an_extension_ends_the_command(self, pi_ai_command, tmp_path, code, words):
        path = write(tmp_path / "broken.py", code=code)
        status, out, err = pi_ai_command("-e", str(path), "models")
        assert (status, out) == (1, "")
        assert err.startswith(f"pi-ai: {path}: ")
        assert words in err
