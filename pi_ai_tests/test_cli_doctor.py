"""``pi-ai doctor``: what it finds in files, in the environment and at real endpoints on this machine."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import subprocess
import sys
import time
from contextlib import ExitStack
from email.utils import formatdate

import pytest
from anyio.from_thread import start_blocking_portal

from pi_ai.cli import findings, main
from pi_ai.testing.server import Server

CANARY = "CANARY-7d1f"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An agent folder of our own, and an environment that knows no key and no proxy."""
    for name in list(os.environ):
        if re.search(r"_(KEY|TOKEN|PROFILE|PROXY)$|^AWS_|^GOOGLE_", name, re.IGNORECASE):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PI_CODING_AGENT_DIR", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    return tmp_path


@pytest.fixture
def serve():
    """Starts servers: ``serve(status, headers)`` gives the base URL."""
    with start_blocking_portal() as portal, ExitStack() as stack:

        def start(status=200, headers=None, *, stalls=False, tls=None):
            async def handler(_, answer):
                if stalls:
                    await answer.stall()
                await answer.whole(status, {"date": formatdate(usegmt=True), **(headers or {})}, b"{}")

            server = stack.enter_context(portal.wrap_async_context_manager(Server(handler, tls=tls)))
            started.append(server)
            return server.url

        started = start.servers = []
        yield start


def provide(place, **urls):
    """A ``models.json`` with a provider for each URL."""
    providers = {
        name: {"baseUrl": url, "api": "openai-completions", "apiKey": CANARY, "models": [{"id": "m"}]}
        for name, url in urls.items()
    }
    (place / "models.json").write_text(json.dumps({"providers": providers}))
    (place / "models.json").chmod(0o600)


@pytest.fixture
def found(capsys):
    """A function that runs the command, and gives its exit status and its findings by check and subject."""

    def run(*arguments):
        status = main(["doctor", "--json", *arguments])
        out = capsys.readouterr().out
        assert CANARY not in out
        result = json.loads(out)
        assert result["ok"] == (status == 0)
        return status, {(each["check"], each["subject"]): each for each in result["findings"]}

    return run


def only(all_findings, check):
    (finding,) = [each for (name, _), each in all_findings.items() if name == check]
    return finding


# ── what is installed and configured ─────────────────────────────────────────────────────────────────────────


def test_versions_and_extras(place, found):
    _, all_findings = found("--offline")
    assert {subject for check, subject in all_findings if check == "version"} >= {"pi_ai", "Python", "httpx", "anyio"}
    extras = {subject for check, subject in all_findings if check == "extra"}
    assert extras == {"bedrock", "cli", "local", "otel", "speed", "vertex"}


def test_the_extras_are_those_of_the_package():
    from importlib.metadata import requires

    declared = {}
    for line in requires("pi_ai") or ():
        if extra := re.search(r"extra == ['\"](\w+)['\"]", line):
            declared.setdefault(extra[1], []).append(re.match(r"[\w.-]+", line)[0])
    for name, extra in findings._EXTRAS.items():
        if name in declared:  # an installation that is not older than the code
            assert extra.package in declared[name]


def test_an_extra_that_is_missing_is_a_problem_for_whoever_needs_it(place, found, monkeypatch):
    monkeypatch.setitem(findings._EXTRAS, "bedrock", findings._Extra("no-such-package", "Bedrock", "amazon-bedrock"))
    status, all_findings = found("--offline")
    assert all_findings["extra", "bedrock"]["status"] == "note"
    monkeypatch.setenv("AWS_PROFILE", "mine")
    status, all_findings = found("--offline")
    assert (status, all_findings["extra", "bedrock"]["status"]) == (1, "problem")
    assert all_findings["extra", "bedrock"]["wayOut"] == 'pip install "pi_ai[bedrock]"'


def test_where_a_key_comes_from_is_told_and_not_the_key(place, found, monkeypatch):
    monkeypatch.setenv("GROQ_API_KEY", CANARY)
    provide(place, mine="http://127.0.0.1:9/v1")
    (place / "auth.json").write_text(json.dumps({"xai": {"type": "api_key", "key": CANARY}}))
    (place / "auth.json").chmod(0o600)
    status, all_findings = found("--offline")
    assert status == 0
    assert all_findings["provider", "groq"]["message"] == "is configured by the environment: GROQ_API_KEY"
    assert all_findings["provider", "groq"]["data"] == {"source": "environment", "label": "GROQ_API_KEY"}
    assert all_findings["provider", "xai"]["message"] == "is configured by what is stored: api_key"
    assert "configur" in all_findings["provider", "mine"]["message"]
    assert not [check for check, _ in all_findings if check in ("endpoint", "clock")]


def test_a_provider_that_is_asked_for_and_not_configured_is_a_problem_with_a_way_out(place, found):
    status, all_findings = found("--provider", "groq", "--offline")
    assert status == 1
    assert "GROQ_API_KEY" in all_findings["provider", "groq"]["wayOut"]
    assert "pi-ai login groq" in all_findings["provider", "groq"]["wayOut"]


def test_nothing_configured_is_told_with_what_answers_then(place, found, monkeypatch):
    monkeypatch.setattr(findings.local, "is_available", lambda: True)
    status, all_findings = found()
    assert (status, only(all_findings, "provider")["status"]) == (0, "warning")
    monkeypatch.setattr(findings.local, "is_available", lambda: False)
    status, all_findings = found()
    assert (status, only(all_findings, "provider")["status"]) == (1, "problem")
    assert "pi-ai login" in only(all_findings, "provider")["wayOut"]


@pytest.mark.parametrize(("available", "status"), [(True, 0), (False, 1)])
def test_the_local_model_is_installed_or_not(place, found, monkeypatch, available, status):
    monkeypatch.setattr(findings.local, "is_available", lambda: available)
    assert found("--provider", "local")[0] == status


def test_an_unknown_provider_is_one_sentence(place, capsys):
    assert main(["doctor", "--provider", "nope"]) == 1
    assert capsys.readouterr().err.startswith("pi-ai: Unknown provider: nope")


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell")
def test_a_command_is_run_for_one_provider_only_and_never_offline(place, found):
    provide(place, mine="http://127.0.0.1:9/v1")
    file = place / "models.json"
    file.write_text(file.read_text().replace(CANARY, f"!touch {place}/ran; exit 1"))
    found("--offline", "--provider", "mine")
    found()
    assert not (place / "ran").exists()
    status, all_findings = found("--provider", "mine")
    assert (place / "ran").exists()
    assert (status, all_findings["provider", "mine"]["status"]) == (1, "problem")
    assert "which fails" in all_findings["provider", "mine"]["message"]


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.skipif(os.name == "nt", reason="permissions mean nothing there")
def test_files_that_others_can_read_or_change_are_problems_a12(place, found):
    (place / "auth.json").write_text("{}")
    (place / "auth.json").chmod(0o644)
    provide(place, mine="http://127.0.0.1:9/v1")
    (place / "models.json").chmod(0o666)
    status, all_findings = found("--offline")
    assert status == 1
    assert all_findings["file", str(place / "auth.json")]["wayOut"] == f"chmod 600 {place}/auth.json"
    assert all_findings["file", str(place / "models.json")]["wayOut"] == f"chmod go-w {place}/models.json"
    (place / "auth.json").chmod(0o600)
    (place / "models.json").chmod(0o644)
    assert found("--offline")[0] == 0


def test_an_auth_file_that_is_no_json_is_a_problem(place, found, tmp_path):
    file = tmp_path / "other.json"
    file.write_text(f'{{"groq": {CANARY}')
    file.chmod(0o600)
    status, all_findings = found("--offline", "--auth-file", str(file))
    assert status == 1
    assert "cannot be read" in all_findings["file", str(file)]["message"]


def test_credentials_that_are_malformed_or_belong_to_nobody_are_told(place, capsys):
    (place / "auth.json").write_text(
        json.dumps({"groq": {"type": "oauth"}, "gone": {"type": "api_key", "key": CANARY}})
    )
    (place / "auth.json").chmod(0o600)
    assert main(["doctor", "--offline"]) == 1
    out = capsys.readouterr().out
    assert "the credential of groq lacks members" in out
    assert "→ pi-ai login groq" in out
    assert "holds a credential for gone, which is no provider here" in out
    assert CANARY not in out


def test_what_is_wrong_with_models_json_is_told(place, found):
    (place / "models.json").write_text('{"providers": {"mine": {"baseUrl": 7}}}')
    status, all_findings = found("--offline")
    assert status == 1
    assert "baseUrl" in all_findings["file", str(place / "models.json")]["message"]


# ── the network ──────────────────────────────────────────────────────────────────────────────────────────────


def test_an_endpoint_that_answers_is_reachable_whatever_it_says_and_gets_no_key(place, found, serve):
    provide(place, mine=f"{serve(404)}/v1", other=f"{serve(200)}/v1")
    status, all_findings = found()
    assert status == 0
    mine, other = serve.servers
    finding = all_findings["endpoint", f"{mine.url} (mine)"]
    assert re.fullmatch(r"answers with 404 \(DNS \d+ ms, TCP \d+ ms, HTTP \d+ ms\)", finding["message"])
    assert finding["data"]["status"] == 404
    assert finding["data"]["dnsMs"] >= 0
    assert only(all_findings, "clock")["status"] == "ok"
    for server in (mine, other):
        (request,) = server.requests
        assert request.path == "/v1"
        assert CANARY not in str(request.headers)


def test_providers_at_one_place_are_asked_for_once(place, found, serve):
    url = serve()
    provide(place, a=f"{url}/v1", b=f"{url}/v2")
    _, all_findings = found()
    assert only(all_findings, "endpoint")["data"]["providers"] == ["a", "b"]
    assert len(serve.servers[0].requests) == 1


def test_a_server_that_fails_is_a_problem(place, found, serve):
    provide(place, mine=serve(503))
    status, all_findings = found("--provider", "mine")
    assert (status, only(all_findings, "endpoint")["status"]) == (1, "problem")
    assert only(all_findings, "endpoint")["wayOut"]


def test_nobody_listens(place, found):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        provide(place, mine=url)
        status, all_findings = found()
    assert status == 1
    assert only(all_findings, "endpoint")["message"].startswith("TCP failed: ")
    assert "firewalls" in only(all_findings, "endpoint")["wayOut"]


def test_a_name_that_does_not_exist(place, found):
    provide(place, mine="http://no-such-host.invalid/v1", long=f"http://{'a' * 70}.invalid/")
    status, all_findings = found()
    assert status == 1
    messages = [each["message"] for (check, _), each in all_findings.items() if check == "endpoint"]
    assert len(messages) == 2
    assert all(message.startswith("DNS failed: ") for message in messages)


def test_an_endpoint_that_says_nothing_is_given_up_and_does_not_hold_up_the_others(place, found, serve, monkeypatch):
    monkeypatch.setattr(findings, "LIMIT_S", 1.0)
    provide(place, mute=serve(stalls=True), fine=serve())
    status, all_findings = found()
    mute, fine = serve.servers
    assert status == 1
    assert all_findings["endpoint", f"{mute.url} (mute)"]["message"] == "HTTP has not ended after 1 s"
    assert all_findings["endpoint", f"{fine.url} (fine)"]["status"] == "ok"


def test_a_resolver_that_hangs_holds_up_neither_the_answer_nor_the_end_of_the_process(place):
    provide(place, mine="http://slow.example/v1")
    script = (
        "import socket, sys, time\n"
        "from pi_ai.cli import findings, main\n"
        "findings.LIMIT_S = 0.2\n"
        "socket.getaddrinfo = lambda *_, **__: time.sleep(600)\n"
        "sys.exit(main(['doctor']))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60)
    assert done.returncode == 1
    assert "DNS has not ended after 0.2 s" in done.stdout.decode()


def test_what_is_no_url_or_depends_on_more_than_the_url_is_not_asked(place, found, monkeypatch):
    monkeypatch.setenv("CLOUDFLARE_API_KEY", CANARY)
    monkeypatch.setattr(findings, "_ask", lambda *_: pytest.fail("asked"))
    provide(place, mine="http://user:CANARY-7d1f@host:port/v1", unset="$PI_AI_T_NOT_SET/v1")
    _, all_findings = found("--provider", "mine")
    assert (
        only(all_findings, "endpoint")["message"] == "the base URL http://…@host:port must be http(s)://host[:port]/…"
    )
    _, all_findings = found("--provider", "unset")
    assert "PI_AI_T_NOT_SET" in only(all_findings, "endpoint")["message"]
    _, all_findings = found("--provider", "azure")
    assert not [check for check, _ in all_findings if check == "endpoint"]


def test_a_certificate_that_nobody_knows_is_about_tls(place, found, serve):
    trustme = pytest.importorskip("trustme")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    provide(place, mine=serve(tls=context))
    status, all_findings = found()
    assert status == 1
    assert only(all_findings, "endpoint")["message"].startswith("TLS failed: ")
    assert "SSL_CERT_FILE" in only(all_findings, "endpoint")["wayOut"]


def test_what_is_no_http_is_told(place, found):
    with start_blocking_portal() as portal:

        async def talk(_, answer):
            await answer.raw(b"220 mail.example ESMTP\r\n")
            await answer.close()

        with portal.wrap_async_context_manager(Server(talk)) as server:
            provide(place, mine=server.url)
            status, all_findings = found()
    assert status == 1
    assert only(all_findings, "endpoint")["message"].startswith("HTTP failed: ")


def test_a_proxy_in_effect_is_told_without_its_password_and_used(place, found, serve, monkeypatch):
    proxy = serve(407)
    monkeypatch.setenv("HTTP_PROXY", proxy.replace("://", "://me:CANARY-7d1f@"))
    monkeypatch.setenv("NO_PROXY", "intern.example")
    provide(place, mine="http://somewhere.example/v1")
    status, all_findings = found()
    assert status == 1
    assert all_findings["proxy", "HTTP_PROXY"]["message"] == f"is {proxy.replace('://', '://…@')}"
    assert all_findings["proxy", "NO_PROXY"]["message"] == "is intern.example"
    assert (
        f"answers with 407 through the proxy {proxy.replace('://', '://…@')}"
        in only(all_findings, "endpoint")["message"]
    )


@pytest.mark.parametrize(("off_s", "words"), [(-3600, "ahead of the servers'"), (3600, "behind the servers'")])
def test_a_clock_that_is_off_is_a_problem(place, found, serve, off_s, words):
    provide(place, mine=serve(headers={"date": formatdate(time.time() + off_s, usegmt=True)}))
    status, all_findings = found()
    assert (status, only(all_findings, "clock")["status"]) == (1, "problem")
    assert words in only(all_findings, "clock")["message"]
    assert "NTP" in only(all_findings, "clock")["wayOut"]
    assert abs(only(all_findings, "clock")["data"]["skewS"] + off_s) < 60


def test_one_server_whose_clock_is_wrong_says_nothing_against_ours(place, found, serve):
    urls = {
        "a": serve(),
        "b": serve(),
        "c": serve(headers={"date": formatdate(0, usegmt=True)}),
        "d": serve(headers={"date": "?"}),
    }
    provide(place, **urls)
    status, all_findings = found()
    assert (status, only(all_findings, "clock")["status"]) == (0, "ok")
    assert only(all_findings, "clock")["data"]["servers"] == 3


def test_for_people_it_is_a_line_a_finding_and_a_way_out_below(place, capsys):
    assert main(["doctor", "--offline", "--provider", "groq"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2] == "problem  provider groq: is not configured"
    assert lines[-1].startswith("         → Set GROQ_API_KEY")
