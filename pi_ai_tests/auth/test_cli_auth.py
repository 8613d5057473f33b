"""``pi-ai list``, ``login``, ``logout`` and ``auth`` (A65, A100-A105): real processes, a real terminal."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from urllib.parse import parse_qsl, urlsplit

import pytest

from pi_ai.cli import main
from pi_ai_tests.auth.rigs import CANARY, ms, oauth

pty = pytest.importorskip("pty")

EXTENSION = """
from pi_ai.oauth import AuthorizationCodeFlow, OAuthConfig

class Flow(AuthorizationCodeFlow):
    async def exchange_code(self, code, pkce, redirect_uri, state, parameters):
        return {"access": "CANARY-" + code.reveal(), "refresh": "r", "expires": EXPIRES}

async def choose(callbacks):
    how = await callbacks.on_select(message="How?", options=[{"id": "browser"}, {"id": "device_code", "label": "Code"}])
    callbacks.on_device_code(user_code="U\\x1b[2J", verification_uri="https://v.example/")
    callbacks.on_progress(how)
    return {"access": how, "refresh": "r", "expires": EXPIRES}

async def refuses(callbacks):
    raise RuntimeError("no luck")

async def refresh(credential):
    return {**credential, "access": "refreshed", "expires": EXPIRES}

def config(login):
    return OAuthConfig(name="Login", login=login, refresh_token=refresh, get_api_key=lambda c: c["access"])

def register(pi):
    flow = Flow(name="Corp", authorize_url="https://login.example/a", token_url="https://x.example", client_id="mine")
    common = {"base_url": "https://x.example", "api": "openai-completions", "models": [{"id": "m"}]}
    pi.register_provider("corp", name="Corp Inc", oauth=config(flow.login), **common)
    pi.register_provider("either", oauth=config(choose), api_key="$PI_AI_T_EITHER", **common)
    pi.register_provider("refuses", oauth=config(refuses), **common)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An extension, an agent folder, and an environment that knows no key."""
    for name in list(os.environ):
        if re.search(r"_(KEY|TOKEN|PROFILE)$|^AWS_|^GOOGLE_|DISPLAY|BROWSER", name):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PI_CODING_AGENT_DIR", str(tmp_path / "agent"))
    extension = EXTENSION.replace("EXPIRES", str(ms(86400))).replace("CANARY", CANARY)
    (tmp_path / "extension.py").write_text(extension)
    return tmp_path


class Terminal:
    """A process whose standard input is a terminal."""

    def __init__(self, place, *arguments: str) -> None:
        self.ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "pi_ai", "-e", str(place / "extension.py"), *arguments]
        self.process = subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        os.close(theirs)
        self.said = ""

    def until(self, pattern: str) -> re.Match[str]:
        """Read standard error until something was said."""
        while not (found := re.search(pattern, self.said)):
            data = os.read(self.process.stderr.fileno(), 4096)
            assert data, f"{pattern} did not come after {self.said!r}"
            self.said += data.decode()
        return found

    def type(self, text: str) -> None:
        os.write(self.ours, text.encode())

    def end(self) -> tuple[int, str]:
        out, rest = self.process.communicate(timeout=30)
        self.said += rest.decode()
        os.close(self.ours)
        return self.process.returncode, out.decode()


def stored(place):
    return json.loads((place / "agent" / "auth.json").read_text())


def test_a_login_with_a_browser_ends_though_the_terminal_is_still_asked_a101_a82(place):
    terminal = Terminal(place, "login", "corp")
    url = terminal.until(r"(https://login\.example/a\S+)\s")[1]
    terminal.until("Paste")
    page = dict(parse_qsl(urlsplit(url).query))
    with urllib.request.urlopen(f"{page['redirect_uri']}?code=c&state={page['state']}", timeout=30) as answer:
        assert answer.status == 200
    status, out = terminal.end()
    assert (status, out) == (0, f"Credentials saved to {place / 'agent' / 'auth.json'}\n")
    assert stored(place)["corp"]["access"] == f"{CANARY}-c"
    assert CANARY not in terminal.said


def test_a_code_may_be_pasted_a101(place):
    terminal = Terminal(place, "login", "CORP INC", "--auth-file", str(place / "mine.json"))
    terminal.until("Paste")
    terminal.type("\n")
    terminal.until("Paste.*Paste")
    terminal.type("http://127.0.0.1:1/callback?code=pasted\n")
    assert terminal.end() == (0, f"Credentials saved to {place / 'mine.json'}\n")
    assert json.loads((place / "mine.json").read_text())["corp"]["access"] == f"{CANARY}-pasted"


def test_a_key_is_typed_unseen_a61_a101(place):
    terminal = Terminal(place, "login", "groq", "--api-key")
    terminal.until("Enter Groq API key: ")
    terminal.type(f" {CANARY} \n")
    status, _ = terminal.end()
    assert status == 0
    assert CANARY not in terminal.said
    assert stored(place) == {"groq": {"type": "api_key", "key": CANARY}}


def test_who_has_several_ways_is_asked_and_without_a_browser_one_is_left_a65_a101(place):
    terminal = Terminal(place, "login", "either")
    terminal.until(r"1\. Login\s+2\. With an API key\s+How\? \[1-2\]: ")
    terminal.type("3\n1\n")
    terminal.until(r"1\. browser\s+2\. Code\s+How\? \[1-2\]: ")
    terminal.type("2\n")
    assert terminal.end()[0] == 0
    assert "enter the code U\\u001b[2J" in terminal.said
    terminal = Terminal(place, "login", "either", "--no-browser")
    assert terminal.end()[0] == 0
    assert stored(place)["either"]["access"] == "device_code"


def test_without_a_provider_one_is_chosen_from_a_list_a65(place):
    terminal = Terminal(place, "login")
    number = terminal.until(r"(\d+)\. Corp Inc")[1]
    terminal.until("which provider")
    terminal.type(f"{number}\n")
    terminal.until("Paste")
    terminal.type("c\n")
    assert terminal.end()[0] == 0


def test_the_end_of_the_input_cancels_and_a_failure_says_why_a101(place):
    terminal = Terminal(place, "login", "corp")
    terminal.until("Paste")
    terminal.type("\x04")
    assert terminal.end() == (1, "")
    assert terminal.said.endswith("Login cancelled.\n")
    terminal = Terminal(place, "login", "refuses")
    assert terminal.end() == (1, "")
    assert "Failed to log in to Login: no luck" in terminal.said
    assert not (place / "agent" / "auth.json").exists()


def run(place, capsys, *arguments):
    """Status, output and errors of a command in this process, with the extension's providers and without a terminal."""
    process = subprocess.run(
        [sys.executable, "-m", "pi_ai", "-e", str(place / "extension.py"), *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    return process.returncode, process.stdout, process.stderr


def test_without_a_terminal_there_is_no_login_a101(place, capsys):
    status, out, said = run(place, capsys, "login", "corp")
    assert (status, out) == (1, "")
    assert "needs a terminal" in said
    assert run(place, capsys, "login", "corp", "--api-key", "--no-browser")[0] == 2


def given(place, entries):
    folder = place / "agent"
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / "auth.json").write_text(json.dumps(entries))
    (folder / "auth.json").chmod(0o600)


def test_the_list_says_who_can_log_in_and_who_is_a100(place, capsys, monkeypatch):
    given(place, {"corp": oauth(CANARY, CANARY)})
    monkeypatch.setenv("GROQ_API_KEY", CANARY)
    status, out, said = run(place, capsys, "list")
    lines = out.splitlines()
    assert status == 0
    assert "corp                Corp Inc  oauth  configured" in lines
    assert "groq                Groq  api_key  env: GROQ_API_KEY" in lines
    assert "openrouter          OpenRouter  oauth, api_key  not configured" in lines
    assert not any(line.startswith("local ") for line in lines)
    assert CANARY not in out + said


def test_logging_out_forgets_and_says_so_a102(place, capsys):
    given(place, {"corp": oauth(), "gone": {"type": "api_key", "key": "k"}})
    assert run(place, capsys, "logout", "Corp inc")[:2] == (0, "Logged out of corp.\n")
    assert run(place, capsys, "logout", "corp")[:2] == (0, "No credentials are stored for corp.\n")
    assert run(place, capsys, "logout", "gone")[:2] == (0, "Logged out of gone.\n")  # whose extension is gone
    status, out, said = run(place, capsys, "logout", "no-such\x1b[2J")
    assert (status, out) == (1, "")
    assert "Unknown provider: no-such\\u001b[2J" in said
    (place / "agent" / "auth.json").write_text("{bad")
    assert run(place, capsys, "logout", "corp")[0] == 1
    assert (place / "agent" / "auth.json").read_text() == "{bad"


@pytest.mark.parametrize(
    ("entries", "arguments", "status", "expected"),
    [
        ({"corp": oauth()}, ["--provider", "corp"], 0, {"status": "ready", "authType": "oauth"}),
        ({"corp": oauth()}, ["--model", "corp/m"], 0, {"status": "ready", "authType": "oauth"}),
        ({"corp": oauth(expires_in=0)}, ["--provider", "corp"], 0, {"status": "ready", "authType": "oauth"}),
        (
            {"corp": oauth(expires_in=0)},
            ["--provider", "corp", "--no-refresh"],
            1,
            {"status": "not_ready", "reason": "credential_not_available", "authType": "oauth"},
        ),
        ({}, ["--provider", "corp"], 1, {"status": "not_ready", "reason": "credentials_not_configured"}),
        (
            {},
            ["--provider", "groq", "--no-refresh"],
            1,
            {"status": "not_ready", "reason": "credentials_not_configured"},
        ),
        (
            {},
            ["--provider", "either"],
            1,
            {"status": "not_ready", "reason": "credential_not_available", "authType": "api_key"},
        ),
        ({}, ["--provider", "no-such"], 2, {"status": "invalid", "reason": "provider_not_found"}),
        (
            {"corp": {"type": "oauth"}},
            ["--provider", "corp"],
            2,
            {"status": "invalid", "reason": "invalid_state", "authType": "oauth"},
        ),
    ],
)
def test_auth_check_tells_whether_a_provider_can_be_used_a103(place, capsys, entries, arguments, status, expected):
    given(place, entries)
    code, out, _ = run(place, capsys, "auth", "check", *arguments, "--json")
    assert code == status
    told = json.loads(out)
    assert told.pop("provider") in ("corp", "groq", "either", "no-such")
    assert told == expected
    if expected["status"] == "ready":
        assert run(place, capsys, "auth", "check", *arguments)[:2] == (0, "ready\n")


def test_secrets_are_printed_alone_and_only_of_the_right_kind_a104(place, capsys):
    given(place, {"corp": oauth("token", "r", 3600), "groq": {"type": "api_key", "key": "key"}})
    assert run(place, capsys, "auth", "print-api-key", "--provider", "groq") == (0, "key\n", "")
    assert run(place, capsys, "auth", "print-bearer-token", "--provider", "corp") == (0, "token\n", "")
    hours = ("auth", "print-bearer-token", "--model", "corp/m", "--min-expiry", "2h")
    assert run(place, capsys, *hours) == (0, "refreshed\n", "")
    status, out, said = run(place, capsys, "auth", "print-api-key", "--provider", "corp")
    assert (status, out) == (1, "")
    assert "print-bearer-token" in said
    status, out, said = run(place, capsys, "auth", "print-bearer-token", "--provider", "groq")
    assert (status, out) == (1, "")
    assert "Provider is not configured: xai" in run(place, capsys, "auth", "print-api-key", "--provider", "xai")[2]
    assert run(place, capsys, "auth", "print-bearer-token", "--provider", "corp", "--min-expiry", "soon")[0] == 2


def test_an_unknown_command_is_a_usage_error_a105(capsys):
    with pytest.raises(SystemExit):
        main(["auth", "no-such"])
    assert "no-such" in capsys.readouterr().err


def test_a_browser_is_opened_for_https_pages_only_and_only_where_it_has_a_window_x15(monkeypatch, capsys):
    from pi_ai.cli import auth as cli_auth
    from pi_ai.oauth import AuthUrl

    opened = []
    monkeypatch.setattr(cli_auth.threading, "Thread", lambda target, args, daemon: opened.append(args[0]) or Idle())

    class Idle:
        def start(self):
            pass

    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    person = cli_auth.Terminal()
    if sys.platform == "linux":
        person.notify(AuthUrl(url="https://login.example/no-window"))
    monkeypatch.setenv("DISPLAY", ":0")
    person.notify(AuthUrl(url="http://login.example/plain"))
    person.notify(AuthUrl(url="https://login.example/"))
    cli_auth.Terminal(browser=False).notify(AuthUrl(url="https://login.example/unwanted"))
    assert opened == ["https://login.example/"]
    assert "https://login.example/unwanted" in capsys.readouterr().err
