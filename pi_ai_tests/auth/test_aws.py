"""Credentials of AWS and their signatures (bedrock-converse-stream.md section 2; BR7-BR9, BR12; F87, F102, X1, X31)."""

from __future__ import annotations

import json
import logging
import sys
import threading
from datetime import UTC, datetime, timedelta
from hashlib import sha1
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_ai.auth import aws
from pi_ai.auth.aws import Chain, Credentials, chain, credentials_in, signed_headers
from pi_ai.errors import AuthError, ConfigError, ConnectFailed, PiAIError
from pi_ai.testing.server import Answer, Received, Server
from pi_ai_tests.aws_account import NO_BOTOCORE, no_account, no_botocore, profile

pytest.importorskip("botocore", reason=NO_BOTOCORE)

KEYS = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
HOST = "https://bedrock-runtime.us-east-1.amazonaws.com"
SONNET = "us.anthropic.claude-sonnet-4-5-20250929-v1%3A0"
PROFILE_ARN = "arn%3Aaws%3Abedrock%3Aeu-west-1%3A123456789012%3Aapplication-inference-profile%2Fabc123"
SECRET, TOKEN = "s3cr3t-canary", "session-canary"


@pytest.fixture(autouse=True)
def nothing_set_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    no_account(monkeypatch, tmp_path)


REQUEST: dict[str, Any] = {
    "method": "POST",
    "url": f"{HOST}/model/{SONNET}/converse-stream",
    "headers": {"content-type": "application/json", "accept": "application/vnd.amazon.eventstream"},
    "body": b'{"messages":[{"role":"user","content":[{"text":"hi"}]}]}',
    "service": "bedrock",
    "region": "us-east-1",
    "now": NOW,
}


def signed(credentials: Credentials = KEYS, **more: Any) -> dict[str, str]:
    return anyio.run(lambda: signed_headers(credentials, **{**REQUEST, **more}))


# ── the signature ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("model_id", "token", "names", "signature"),
    [
        (
            SONNET,
            None,
            "accept;content-type;host;x-amz-date",
            "03cc08317bc55222ced669e1a3be9c0661195c8dc04d1026ea9323b6848c35f7",
        ),
        (
            PROFILE_ARN,
            "SESSION",
            "accept;content-type;host;x-amz-date;x-amz-security-token",
            "d18325e7c5f2c841ba8f196f318e3d6ca4f45add73af8f3778399e1cfce753d0",
        ),
    ],
)
def test_a_request_is_signed_as_aws_signs_it_BR9(model_id: str, token: str | None, names: str, signature: str) -> None:
    keys = Credentials(KEYS.access_key, KEYS.secret_key, token)
    found = signed(keys, url=f"{HOST}/model/{model_id}/converse-stream")
    assert found["Authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260102/us-east-1/bedrock/aws4_request, "
        f"SignedHeaders={names}, Signature={signature}"
    )
    assert found["X-Amz-Date"] == "20260102T030405Z"
    assert found.get("X-Amz-Security-Token") == token


@settings(deadline=None, max_examples=50)
@given(
    st.text(st.sampled_from("abc:/%.~é "), max_size=12),
    st.dictionaries(st.sampled_from(["X-A", "x-b", "Content-Type", "X-C"]), st.text("ab  c", max_size=6), max_size=3),
    st.binary(max_size=20),
    st.sampled_from([None, "token"]),
)
def test_the_signature_is_the_one_that_botocore_makes(
    path: str, headers: dict[str, str], body: bytes, token: str | None
) -> None:
    from urllib.parse import quote

    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest

    class At(SigV4Auth):
        """As botocore's clients use it, at another time."""

        def _set_necessary_date_headers(self, request: Any) -> None:
            request.context["timestamp"] = "20260102T030405Z"
            super()._set_necessary_date_headers(request)

    keys, url = Credentials("AKID", "secret", token), f"{HOST}/model/{quote(path, safe='~')}/converse-stream"
    request = AWSRequest("POST", url, headers=headers, data=body)
    At(keys, "bedrock", "eu-west-1").add_auth(request)
    found = signed(keys, url=url, headers=headers, body=body, region="eu-west-1")
    assert found["Authorization"] == request.headers["Authorization"]


def test_each_signature_has_the_time_at_which_it_was_made_BR12() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    found = signed(now=None)["X-Amz-Date"]
    assert before <= datetime.strptime(found, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) <= datetime.now(UTC)


# ── where credentials come from ──────────────────────────────────────────────────────────────────────────────


def test_the_keys_of_the_call_win_over_those_of_the_process_and_are_never_mixed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "process")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "p")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of the process")
    own = {"AWS_ACCESS_KEY_ID": "own", "AWS_SECRET_ACCESS_KEY": "o"}
    assert credentials_in(own) == Credentials("own", "o", None)
    assert credentials_in({"AWS_ACCESS_KEY_ID": "own"}) == Credentials("process", "p", "of the process")
    assert credentials_in({**own, "AWS_ACCESS_KEY_ID": ""}) == Credentials("process", "p", "of the process")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert credentials_in(None) is None


def test_secrets_do_not_show_X1() -> None:
    assert "canary" not in repr(Credentials("AKID", SECRET, TOKEN))


PROCESS = "import json; print(json.dumps(dict(Version=1, AccessKeyId='AKIDP', SecretAccessKey='p')))"
PROFILES = f"""
[profile work]
region = eu-central-1

[profile process]
credential_process = {sys.executable} -c "{PROCESS}"
"""


@pytest.mark.anyio
async def test_a_profile_has_keys_and_a_region(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(PROFILES)
    profile(tmp_path)
    work = chain("work", None)
    assert await work.region() == "eu-central-1"
    assert await work.credentials() == Credentials("AKIDW", "w", None)
    assert await chain("process", {}).credentials() == Credentials("AKIDP", "p", None)
    assert await chain("process", {}).region() is None


@pytest.mark.anyio
async def test_an_explicit_profile_wins_over_the_keys_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "process")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "p")
    profile(tmp_path)
    assert (await chain("work", None).credentials()).access_key == "AKIDW"
    assert (await chain(None, None).credentials()).access_key == "process"


@pytest.mark.anyio
async def test_files_may_be_named_by_the_call_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").write_text("[default]\naws_access_key_id=MINE\naws_secret_access_key=m\n")
    own = {"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "mine")}
    assert (await chain(None, own).credentials()).access_key == "MINE"
    with pytest.raises(AuthError):
        await chain(None, None).credentials()


@pytest.mark.anyio
async def test_the_profile_of_the_process_is_found_by_the_chain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text(PROFILES)
    monkeypatch.setenv("AWS_PROFILE", "process")
    assert (await chain(None, None).credentials()).access_key == "AKIDP"


def lease(expires_in: timedelta, number: int = 1) -> bytes:
    """What a container's endpoint says."""
    expiration = (datetime.now(UTC) + expires_in).strftime("%Y-%m-%dT%H:%M:%SZ")
    lease = {"AccessKeyId": f"AKID{number}", "SecretAccessKey": SECRET, "Token": TOKEN, "Expiration": expiration}
    return json.dumps(lease).encode()


def handing_out(expires_in: timedelta) -> Server:
    """Hands out the keys AKID1, AKID2, …"""

    async def handle(request: Received, answer: Answer) -> None:
        await answer.whole(200, {"content-type": "application/json"}, lease(expires_in, len(server.requests)))

    server = Server(handle)
    return server


@pytest.mark.anyio
@pytest.mark.parametrize("own", [True, False], ids=["of the call", "of the process"])
async def test_a_container_hands_out_keys_which_are_kept(own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async with handing_out(timedelta(hours=1)) as server:
        variables = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": server.url, "AWS_CONTAINER_AUTHORIZATION_TOKEN": "Basic x"}
        for name, value in variables.items():
            if not own:
                monkeypatch.setenv(name, value)
        env = variables if own else None
        expected = Credentials("AKID1", SECRET, TOKEN)
        for _ in range(3):
            assert await chain(None, env).credentials() == expected
        assert len(server.requests) == 1
        assert server.requests[0].headers["authorization"] == "Basic x"


@pytest.mark.anyio
async def test_keys_are_looked_for_once_for_all_who_wait_F87() -> None:
    async with handing_out(timedelta(hours=1)) as server:
        env = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": server.url}
        found: list[str] = []

        async def ask() -> None:
            found.append((await chain(None, env).credentials()).access_key)

        async with anyio.create_task_group() as tasks:
            for _ in range(30):
                tasks.start_soon(ask)
    assert found == ["AKID1"] * 30


@pytest.mark.anyio
async def test_keys_that_soon_expire_are_renewed() -> None:
    async with handing_out(timedelta(minutes=5)) as server:
        env = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": server.url}
        await chain(None, env).credentials()
        asked = len(server.requests)
        assert (await chain(None, env).credentials()).access_key != "AKID1"
        assert len(server.requests) > asked


@pytest.mark.anyio
async def test_refused_keys_are_looked_for_anew_BR12() -> None:
    async with handing_out(timedelta(hours=1)) as server:
        env = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": server.url}
        assert (await chain(None, env).credentials()).access_key == "AKID1"
        chain(None, env).renew()
        assert (await chain(None, env).credentials()).access_key == "AKID2"


def sts_answer(access_key: str) -> bytes:
    expiration = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"""<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
      <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{access_key}</AccessKeyId>
      <SecretAccessKey>{SECRET}</SecretAccessKey><SessionToken>{TOKEN}</SessionToken>
      <Expiration>{expiration}</Expiration></Credentials>
      <AssumedRoleUser><Arn>arn:aws:sts::1:assumed-role/r/s</Arn><AssumedRoleId>x:s</AssumedRoleId></AssumedRoleUser>
      </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>""".encode()


@pytest.mark.anyio
@pytest.mark.parametrize("own", [True, False], ids=["of the call", "of the process"])
async def test_a_web_identity_is_exchanged_for_keys_and_nobody_logs_them_X1(
    own: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    (tmp_path / "token").write_text("identity-canary")

    async def handle(request: Received, answer: Answer) -> None:
        await answer.whole(200, {"content-type": "text/xml"}, sts_answer("AKIDWEB"))

    async with Server(handle) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", server.url)
        variables = {
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"),
            "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/r",
        }
        for name, value in variables.items():
            if not own:
                monkeypatch.setenv(name, value)
        found = await chain(None, variables if own else None).credentials()
        assert found == Credentials("AKIDWEB", SECRET, TOKEN)
        assert b"WebIdentityToken=identity-canary" in server.requests[0].body
    assert TOKEN in (await signed_headers(found, **REQUEST)).values()
    assert "canary" not in caplog.text


@pytest.mark.anyio
async def test_single_sign_on_is_exchanged_for_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = "https://example.awsapps.com/start"
    (tmp_path / "config").write_text(
        f"[profile sso]\nsso_start_url={start}\nsso_region=eu-west-1\nsso_account_id=123456789012\nsso_role_name=Dev\n"
    )
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setattr("botocore.credentials.SSOProvider._SSO_TOKEN_CACHE_DIR", str(cache))
    expires = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    login = {"startUrl": start, "region": "eu-west-1", "accessToken": "sso-canary", "expiresAt": expires}
    (cache / f"{sha1(start.encode()).hexdigest()}.json").write_text(json.dumps(login))

    async def handle(request: Received, answer: Answer) -> None:
        expiration = int((datetime.now(UTC) + timedelta(hours=1)).timestamp() * 1000)
        keys = {"accessKeyId": "AKIDSSO", "secretAccessKey": SECRET, "sessionToken": TOKEN, "expiration": expiration}
        await answer.whole(200, {"content-type": "application/json"}, json.dumps({"roleCredentials": keys}).encode())

    async with Server(handle) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SSO", server.url)
        assert await chain("sso", None).credentials() == Credentials("AKIDSSO", SECRET, TOKEN)
        assert server.requests[0].headers["x-amz-sso_bearer_token"] == "sso-canary"


# ── when there are none ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.anyio
async def test_without_credentials_the_ways_to_have_some_are_told_BR8() -> None:
    with pytest.raises(AuthError, match="No AWS credentials found: set AWS_BEARER_TOKEN_BEDROCK, or ") as caught:
        await chain(None, None).credentials()
    assert (caught.value.info.phase, caught.value.info.retryable) == ("auth", False)


@pytest.mark.anyio
async def test_credentials_that_appear_later_are_found(tmp_path: Path) -> None:
    with pytest.raises(AuthError):
        await chain(None, None).credentials()
    profile(tmp_path, "default", key="LATER")
    assert (await chain(None, None).credentials()).access_key == "LATER"


@pytest.mark.anyio
async def test_a_profile_that_does_not_exist_is_named() -> None:
    with pytest.raises(
        ConfigError, match=r"AWS credentials of profile 'nobody' could not be had: .*\(nobody\)"
    ) as caught:
        await chain("nobody", None).credentials()
    assert "correct the profile" in caught.value.info.message
    assert await chain("nobody", None).region() is None


@pytest.mark.anyio
async def test_a_login_that_has_expired_is_told(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(
        "[profile sso]\nsso_start_url=https://x.example\nsso_region=eu-west-1\nsso_account_id=1\nsso_role_name=Dev\n"
    )
    with pytest.raises(AuthError, match="SSO") as caught:
        await chain("sso", None).credentials()
    assert "aws sso login" in caught.value.info.message


@pytest.mark.anyio
async def test_who_hands_out_credentials_may_be_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("a-token")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9")
    variables = {
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"),
        "AWS_ROLE_ARN": "arn:aws:iam::1:role/role-name",
    }
    with pytest.raises(ConnectFailed) as caught:
        await chain(None, variables).credentials()
    assert caught.value.info.retryable


@pytest.mark.anyio
async def test_without_botocore_the_extra_is_named_F102(monkeypatch: pytest.MonkeyPatch) -> None:
    no_botocore(monkeypatch)
    for use in (chain(None, None).credentials(), signed_headers(KEYS, **REQUEST)):
        with pytest.raises(ConfigError, match=r'pip install "pi_ai\[bedrock\]"') as caught:
            await use
        assert "AWS_BEARER_TOKEN_BEDROCK" in caught.value.info.message
    assert await chain("work", None).region() is None


# ── waiting ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.anyio
async def test_who_waits_can_leave_and_the_next_one_gets_what_came_BR7() -> None:
    asked, answer_now = anyio.Event(), anyio.Event()

    async def handle(request: Received, answer: Answer) -> None:
        asked.set()
        await answer_now.wait()
        await answer.whole(200, {"content-type": "application/json"}, lease(timedelta(hours=1)))

    async with Server(handle) as server:
        env = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": server.url}
        with anyio.fail_after(5), anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(chain(None, env).credentials)
                await asked.wait()
                scope.cancel()
        assert scope.cancelled_caught
        answer_now.set()
        with anyio.fail_after(5):
            assert (await chain(None, env).credentials()).access_key == "AKID1"
        assert len(server.requests) == 1


@pytest.mark.anyio
async def test_the_event_loop_goes_on_while_a_thread_looks_BR7() -> None:
    loop_thread = threading.get_ident()
    threads: list[int] = []

    class Slow:
        def get_credentials(self) -> Any:
            threads.append(threading.get_ident())
            return None

    found = Chain(None, {})
    found._session = Slow()
    with pytest.raises(AuthError):
        await found.credentials()
    assert threads
    assert loop_thread not in threads


def test_only_some_chains_are_kept() -> None:
    first = chain("first", None)
    assert chain("first", {"UNRELATED": "x", "AWS_REGION": ""}) is first
    assert chain("first", {"AWS_REGION": "x"}) is not first
    for number in range(aws.MAX_CHAINS):
        chain(f"profile-{number}", None)
    assert chain("first", None) is not first
    assert len(aws._chains) <= aws.MAX_CHAINS


def test_errors_are_ours_whatever_the_library_raises() -> None:
    with pytest.raises(PiAIError) as caught, aws._explained("p"):
        raise RuntimeError("key AKIAABCDEFGHIJKLMNOP is bad")
    assert (caught.value.info.kind, caught.value.info.phase) == ("auth", "auth")
    assert "AKIAABCDEFGHIJKLMNOP" not in str(caught.value)
