"""``pi-ai chat``: real processes with a real terminal or with pipes, and a real loopback server."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from contextlib import contextmanager

import pytest

from pi_ai import Context, UserMessage, loads
from pi_ai.cli.chat import read_conversation, write_conversation
from pi_ai.cli.markdown import end_of_block
from pi_ai.errors import PiAIError
from pi_ai.testing import Sandbox, Turn
from pi_ai_tests.rigs import SSE, chunk
from pi_ai_tests.terminals import screen
from pi_ai_tests.test_cli import BARE, serve, stall, thought  # noqa: F401 - a fixture

POSIX = pytest.mark.skipif(os.name == "nt", reason="no pty, and SIGINT cannot be sent to one process")


@pytest.fixture
def box():
    """A sandbox that repeats what it is told, and keeps what it was asked."""
    with Sandbox().in_thread() as running:
        yield running


def command(base_url, *arguments):
    return [sys.executable, "-m", "pi_ai", "chat", "--model", "test/m", "--base-url", base_url, *arguments]


def environment(tmp_path, **env):
    return {
        **BARE,
        "HOME": str(tmp_path),
        "PI_CODING_AGENT_DIR": str(tmp_path / "agent"),
        "PYTHONPATH": os.getcwd(),
        **env,
    }


def piped(tmp_path, base_url, text, *arguments, **env):
    """A conversation over pipes."""
    return subprocess.run(
        command(base_url, *arguments),
        input=text.encode(),
        capture_output=True,
        cwd=tmp_path,
        env=environment(tmp_path, **env),
        timeout=60,
        check=False,
    )


@contextmanager
def talking(tmp_path, base_url, *arguments, **env):
    """A conversation in a terminal, at its first prompt."""
    env = environment(tmp_path, TERM="dumb", **env)
    with screen(command(base_url, *arguments), cwd=tmp_path, env=env) as person:
        person.until("/help lists the commands")
        person.until("> ")
        yield person


def contents(request):
    return [message["content"] for message in request.body["messages"]]


# ── pipes ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_without_a_terminal_each_line_is_a_message_and_standard_output_has_the_answers_only(tmp_path, box):
    box.script("Hello.", "Fine.")
    done = piped(tmp_path, box.base_url(), "Hi\n\nHow are you?")
    assert (done.returncode, done.stdout) == (0, b"Hello.\nFine.\n")
    assert contents(box.requests[1]) == ["Hi", "Hello.", "How are you?"]
    assert len(done.stderr.splitlines()) == 2  # the figures of two answers


def test_messages_of_more_than_one_line(tmp_path, box):
    text = 'one\\\ntwo\r\n"""\nthree\n\n/four\n"""\n"""five"""\n//six\n"""\nseven'
    assert piped(tmp_path, box.base_url(), text).returncode == 0
    asked = [contents(request)[-1] for request in box.requests]
    assert asked == ["one\ntwo", "three\n\n/four", "five", "/six", "seven"]


def test_what_is_no_utf8_is_replaced(tmp_path, box):
    done = subprocess.run(
        command(box.base_url()),
        input=b"\xef\xbb\xbfa\xffb\n",
        capture_output=True,
        env=environment(tmp_path),
        timeout=60,
    )
    assert done.returncode == 0
    assert contents(box.requests[0]) == ["a\ufffdb"]


def test_the_model_can_be_changed_in_mid_conversation(tmp_path, box):
    box.script("One.")
    done = piped(
        tmp_path, box.base_url(), "Hi\n/model sandbox/anthropic-messages\nYou?\n/model nope\n/model no/pe\n/model\n"
    )
    assert done.stdout.startswith(b"One.\nThis is the sandbox")
    said = done.stderr.decode().splitlines()
    assert "The model is sandbox/anthropic-messages." in said
    assert any("must be provider/id" in line for line in said)
    assert any("no provider 'no'" in line or "Unknown provider" in line for line in said)
    assert said[-1] == "The model is sandbox/anthropic-messages."


def test_thinking_system_usage_and_retry(tmp_path, box):
    text = "/system Be brief.\n/retry\nHi\n/thinking high\n/retry\n/system -\n/thinking silly\n/usage\n/thinking off\n"
    done = piped(tmp_path, box.base_url(), text)
    first, second = box.requests
    assert contents(first) == contents(second) == ["Be brief.", "Hi"]
    said = done.stderr.decode()
    for words in (
        "Nothing has been asked yet",
        "The system prompt is: Be brief.",
        "Thinking is high; for test/m that means off.",
        "Thinking is one of off, minimal",
        "No system prompt.",
        "test/m: 1 answer, ",
        "of 128,000 tokens.",
        "Thinking is off.",
    ):
        assert words in said
    assert done.returncode == 1  # there was something that it did not understand


def test_usage_adds_up_what_each_model_has_cost(tmp_path, box):
    done = piped(tmp_path, box.base_url(), "a\nb\n/model sandbox/openai-responses\nc\n/usage\n")
    said = done.stderr.decode()
    assert "test/m: 2 answers" in said
    assert "sandbox/openai-responses: 1 answer," in said
    assert "together: 3 answers" in said


def test_help_lists_every_command_and_an_unknown_one_is_said(tmp_path, box):
    done = piped(tmp_path, box.base_url(), "/help\n/nope\n/exit\nnever\n")
    said = done.stderr.decode()
    assert done.returncode == 1
    for word in ("/model", "/thinking", "/system", "/save", "/load", "/retry", "/usage", "/exit", '"""'):
        assert word in said
    assert "There is no /nope" in said
    assert box.requests == []


def test_an_answer_that_fails_is_said_kept_and_can_be_asked_for_again(tmp_path, box):
    from pi_ai.testing import Failure

    box.script(Failure(400, "no such thing"), "Better.")
    done = piped(tmp_path, box.base_url(), "Hi\n/retry\n/save c.json\n")
    assert (done.returncode, done.stdout) == (0, b"Better.\n")
    assert b"no such thing" in done.stderr
    assert b"/retry asks once more" in done.stderr
    assert [message.role for message in read_conversation(tmp_path / "c.json").messages] == ["user", "assistant"]


def test_a_last_answer_that_fails_is_exit_status_1(tmp_path, box):
    from pi_ai.testing import Failure

    box.script(Failure(400, "no such thing"))
    assert piped(tmp_path, box.base_url(), "Hi\n").returncode == 1


def test_without_any_key_it_says_what_it_talks_to(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "pi_ai", "chat"],
        input=b"/model\n",
        capture_output=True,
        env=environment(tmp_path),
        timeout=60,
    )
    first, last = done.stderr.decode().splitlines()
    assert first.startswith("No usable API key found")
    assert last.startswith("The model is ")


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_conversation_is_saved_after_each_answer_as_the_context_that_pi_reads(tmp_path, box):
    box.script("Hello.", "Fine.")
    file = tmp_path / "talk.json"
    done = piped(tmp_path, box.base_url(), "Hi\n", "--resume", str(file), "--system", "Be brief.")
    assert done.returncode == 0
    saved = json.loads(file.read_bytes())
    assert saved["systemPrompt"] == "Be brief."
    assert [message["role"] for message in saved["messages"]] == ["user", "assistant"]
    assert saved["messages"][1]["stopReason"] == "stop"
    piped(tmp_path, box.base_url(), "More\n", "--resume", str(file))
    assert contents(box.requests[1]) == ["Be brief.", "Hi", "Hello.", "More"]
    assert len(loads(Context, file.read_bytes()).messages) == 4
    assert os.listdir(tmp_path) == ["talk.json"] or set(os.listdir(tmp_path)) <= {"talk.json", "agent"}
    if os.name != "nt":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_resumed_conversation_goes_on_with_the_model_that_has_answered_last(tmp_path):
    arguments = [sys.executable, "-m", "pi_ai", "chat", "--resume", "c.json"]
    options = {"capture_output": True, "cwd": tmp_path, "env": environment(tmp_path), "timeout": 60}
    subprocess.run([*arguments, "--model", "sandbox/mistral-conversations"], input=b"Hi\n", **options)
    done = subprocess.run(arguments, input=b"/model\n", **options)
    assert done.stderr.decode().splitlines() == ["The model is sandbox/mistral-conversations."]
    content = (
        (tmp_path / "c.json").read_text().replace("mistral-conversations", "gone").replace('"sandbox"', '"vanished"')
    )
    (tmp_path / "c.json").write_text(content)
    done = subprocess.run([*arguments], input=b"/model\n", **options)
    assert done.stderr.decode().startswith("vanished/gone, which has answered last, cannot be used")


def test_save_and_load(tmp_path, box):
    (tmp_path / "mine.txt").write_text("precious")
    text = "Hi\n/save mine.txt\n/save a.json\n/load\n/load nothing.json\n/load mine.txt\nMore\n"
    text += "/load a.json\n/save b.json\n/save\n"
    said = piped(tmp_path, box.base_url(), text).stderr.decode()
    assert (tmp_path / "mine.txt").read_text() == "precious"
    for words in (
        "mine.txt is there already",
        "Saved to a.json",
        "/load needs the name of a file",
        "nothing.json cannot be read: No such file",
        "mine.txt holds no conversation",
        "4 messages from a.json",
        "Saved to b.json",
    ):
        assert words in said
    assert len(read_conversation(tmp_path / "a.json").messages) == 4  # what came after /save, too
    assert (tmp_path / "b.json").read_bytes() == (tmp_path / "a.json").read_bytes()


def test_save_without_a_name_makes_one(tmp_path, box):
    piped(tmp_path, box.base_url(), "Hi\n/save\n")
    (file,) = tmp_path.glob("chat-*.json")
    assert len(read_conversation(file).messages) == 2


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="no folder that refuses files, whoever asks")
def test_a_file_that_cannot_be_written_is_said_and_the_conversation_goes_on(tmp_path, box):
    done = piped(tmp_path, box.base_url(), "Hi\n/save /proc/no/c.json\nMore\n")
    assert done.returncode == 0
    assert b"cannot be saved to /proc/no/c.json" in done.stderr
    assert len(box.requests) == 2


def test_resuming_what_is_no_conversation_is_one_sentence_and_the_file_stays(tmp_path, box):
    (tmp_path / "c.json").write_text('{"messages": [{"role": "nobody"}]}')
    done = piped(tmp_path, box.base_url(), "Hi\n", "--resume", "c.json")
    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("pi-ai: c.json holds no conversation: ")
    assert "nobody" in (tmp_path / "c.json").read_text()


def test_a_saved_conversation_is_replaced_as_a_whole_through_links_and_lone_surrogates(tmp_path):
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    real.write_text("{}")
    link.symlink_to(real)
    context = Context([UserMessage("half \ud83d", timestamp=1)])
    write_conversation(str(link), context)
    assert link.is_symlink()
    assert read_conversation(str(real)) == context
    context.messages.append(object())  # by a mistake that nothing has noticed
    with pytest.raises(TypeError):
        write_conversation(str(real), context)
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(PiAIError, match="cannot be read"):
        read_conversation(str(tmp_path))


# ── a terminal ───────────────────────────────────────────────────────────────────────────────────────────────


@POSIX
def test_a_conversation_in_a_terminal_ends_with_ctrl_d(tmp_path, box):
    box.script("Hello.", "Fine.")
    with talking(tmp_path, box.base_url()) as person:
        person.type("Hi\n")
        person.until(r"Hello\.\r?\n")
        person.until(r"test/m: \d+ tokens in")
        person.until("> ")
        person.type("one\\\n")
        person.until("… ")
        person.type("two\n")
        person.until(r"Fine\.")
        person.until("> ")
        person.type("\x04")
        assert person.ends() == 0
    assert contents(box.requests[1]) == ["Hi", "Hello.", "one\ntwo"]


@POSIX
def test_ctrl_c_stops_the_answer_and_keeps_what_came_and_not_more(tmp_path, serve):  # noqa: F811
    server = serve(stall)
    with talking(tmp_path, f"{server.url}/v1", "--resume", "c.json") as person:
        person.type("Hi\n")
        person.until("Half an ans")
        person.type("\x03")
        person.until("aborted")
        person.until("> ")
        person.type("/usage\n")
        person.until("1 answer")
        person.until("> ")
        person.type("/exit\n")
        assert person.ends() == 0
    assert server.requests[0].ended == "client left"
    _, answer = read_conversation(tmp_path / "c.json").messages
    assert (answer.text, answer.stop_reason) == ("Half an ans", "aborted")


@POSIX
def test_a_second_ctrl_c_leaves(tmp_path, serve):  # noqa: F811
    with talking(tmp_path, f"{serve(stall).url}/v1") as person:
        person.type("Hi\n")
        person.until("Half an ans")
        person.type("\x03")
        person.until("aborted")
        person.until("> ")
        person.type("\x03")
        assert person.ends() == 130


@POSIX
def test_ctrl_c_at_the_prompt_drops_what_was_begun_and_warns_first(tmp_path, box):
    with talking(tmp_path, box.base_url()) as person:
        person.type('"""\n')
        person.until("… ")
        person.type("never mind\n")
        person.until("… ")
        person.type("\x03")
        person.until("Ctrl-C once more leaves")
        person.type("Hi\n")
        person.until("test/m: ")
        person.until("> ")
        person.type("\x03")
        person.until("Ctrl-C once more leaves")
        person.type("\x03")
        assert person.ends() == 130
    assert contents(box.requests[0]) == ["Hi"]


@POSIX
def test_what_is_pasted_is_one_message(tmp_path, box):
    with screen(command(box.base_url()), cwd=tmp_path, env=environment(tmp_path, TERM="xterm")) as person:
        person.until("> ")
        person.type("\x1b[200~one\ntwo\n\nthree\x1b[201~\n")
        person.until("test/m: ")
        person.until("> ")
        person.type("\x03")
        person.until("once more")
        person.type("\x03")
        assert person.ends() == 130
    assert contents(box.requests[0]) == ["one\ntwo\n\nthree"]
    assert person.said.rindex("\x1b[?2004l") > person.said.rindex("\x1b[?2004h")


@POSIX
def test_tab_completes_commands_models_and_levels(tmp_path, box):
    with talking(tmp_path, box.base_url()) as person:
        person.type("/thi\thi\t\n")
        person.until("Thinking is high")
        person.until("> ")
        person.type("/mo\tsandbox/mis\t\n")
        person.until("The model is sandbox/mistral-conversations")
        person.until("> ")
        person.type("\x04")
        person.ends()


@POSIX
def test_the_terminal_is_afterwards_as_it_was_before(tmp_path, box):
    script = f"trap : INT; stty -a > before; {' '.join(command(box.base_url()))}; echo $? > status; stty -a > after"
    with screen(["bash", "-c", script], cwd=tmp_path, env=environment(tmp_path, TERM="dumb")) as person:
        person.until("> ")
        person.type("\x03")
        person.until("once more")
        person.type("\x03")
        person.ends()
    assert (tmp_path / "status").read_text() == "130\n"
    assert (tmp_path / "after").read_text() == (tmp_path / "before").read_text()


@POSIX
def test_where_nobody_types_the_first_ctrl_c_leaves(tmp_path, serve):  # noqa: F811
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(
        command(f"{serve(stall).url}/v1"), env=environment(tmp_path), cwd=tmp_path, **options
    ) as process:
        process.stdin.write(b"Hi\n")
        process.stdin.flush()
        assert process.stdout.read(11) == b"Half an ans"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert b"Fatal" not in process.stderr.read()


@POSIX
def test_waiting_for_a_pipe_ends_with_ctrl_c(tmp_path, box):
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command(box.base_url()), env=environment(tmp_path), cwd=tmp_path, **options) as process:
        process.stdin.write(b"/model\n")
        process.stdin.flush()
        assert b"The model is" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr.read() == b""


def test_a_reader_that_leaves_ends_it_quietly(tmp_path, serve):  # noqa: F811
    async def talk(_, answer):
        await answer.head(200, SSE)
        while True:
            await answer.send(chunk("word\n"))

    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command(f"{serve(talk).url}/v1"), env=environment(tmp_path), **options) as process:
        process.stdin.write(b"Hi\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"word\n"
        process.stdout.close()
        assert process.wait(60) == 141
        assert process.stderr.read() == b""


# ── Markdown ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("one\n\ntwo", "two"),
        ("one\n\n", "one\n\n"),
        ("one\ntwo", "one\ntwo"),
        ("# one\n\n\ntwo\n\nthree", "three"),
        ("- one\n\n- two\n\n  more", "- one\n\n- two\n\n  more"),
        ("1. one\n\n2. two", "1. one\n\n2. two"),
        ("> one\n\n> two", "> one\n\n> two"),
        ("```\none\n\ntwo", "```\none\n\ntwo"),
        ("```\none\n\ntwo\n```\n\nthree", "three"),
        ("a\n\n~~~py\nx\n\ny", "~~~py\nx\n\ny"),
    ],
)
def test_a_block_of_markdown_is_finished_where_something_new_begins(text, rest):
    while end := end_of_block(text):
        text = text[end:]
    assert text == rest


@POSIX
def test_markdown_is_rendered_where_there_is_rich_and_nothing_of_the_model_is_obeyed_X20(tmp_path, serve):  # noqa: F811
    pytest.importorskip("rich")

    async def talk(_, answer):
        await answer.head(200, SSE)
        await answer.send(thought("Hm."))
        for piece in (
            "# Ti",
            "tle\n\n",
            "Some **bo",
            "ld** [link](https://x.example) \x1b]0;pwned\x07\n\n",
            "```\ncode\n```",
        ):
            await answer.send(chunk(piece))
        await answer.send(chunk(finish="stop") + b"data: [DONE]\n\n")
        await answer.end()

    with screen(
        command(f"{serve(talk).url}/v1"), cwd=tmp_path, env=environment(tmp_path, TERM="xterm", COLUMNS="100")
    ) as person:
        person.until("> ")
        person.type("Hi\n")
        person.until("test/m: ")
        person.until("> ")
        person.type("\x04")
        assert person.ends() == 0
    said = person.said
    assert "\x1b[2mHm." in said
    assert "Title" in said
    assert "**" not in said
    assert "https://x.example" in said
    assert "\\u001b]0;pwned\\u0007" in said
    assert "\x1b]" not in said
    assert "\x1b[?25h" in said[said.rindex("\x1b[?25l") :]  # the cursor is shown again


def test_a_model_that_wants_tools_is_told_of(tmp_path, box):
    from pi_ai import ToolCall

    box.script(Turn([ToolCall("c1", "look", {})]))
    assert b"wants to call look; pi-ai chat runs no tools" in piped(tmp_path, box.base_url(), "Hi\n").stderr
