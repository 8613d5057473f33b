"""Flows from data, the built-in ones, and what they say to people (A66-A70, A85, A90, D-8, D14, X4, X12)."""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64encode
from hashlib import sha256
from urllib.parse import parse_qsl, urlsplit

import anyio
import attrs
import pytest

from pi_ai import oauth as public
from pi_ai.auth.base import Auth
from pi_ai.auth.credentials import NEVER, Credential
from pi_ai.auth.oauth import github_copilot, http, openai_codex
from pi_ai.auth.oauth.builtin import IDS, builtin_login
from pi_ai.auth.oauth.interaction import AuthPrompt, LoginCancelled, OAuthLoginCallbacks, SelectOption, web_url
from pi_ai.errors import OAuthError, PiAIError
from pi_ai.oauth import (
    AnthropicFlow,
    AuthorizationCodeFlow,
    AuthUrl,
    DeviceCode,
    DeviceCodeFlow,
    GitHubCopilotFlow,
    KimiFlow,
    MetaFlow,
    OpenAICodexFlow,
    OpenAIFlow,
    OpenRouterFlow,
    Progress,
    RadiusFlow,
    Redirect,
    XaiFlow,
)
from pi_ai.testing.server import Server
from pi_ai_tests.auth.rigs import CANARY, Person, form

pytestmark = pytest.mark.anyio
ID = "2f1f6b1e-7a0e-4a55-9d6e-2f5f3ad0c0de"


class Endpoint:
    """A scripted authorisation server: answers by path, in order, the last one for ever."""

    def __init__(self, **answers) -> None:
        self.answers = {path: list(script) for path, script in answers.items()}
        self.server = Server(self.handle)

    async def handle(self, request, answer):
        script = self.answers[request.path.strip("/").split("/")[-1].split("?")[0]]
        status, body = script.pop(0) if len(script) > 1 else script[0]
        await answer.whole(status, {"content-type": "application/json"}, json.dumps(body).encode())

    @property
    def url(self):
        return self.server.url

    def sent(self, path):
        return [form(request.body) for request in self.server.requests if request.path.endswith(path)]


TOKENS = {"access_token": CANARY + "-a", "refresh_token": CANARY + "-r", "expires_in": 3600}


async def browse(person: Person, **changes) -> dict[str, str]:
    """Do what a browser does that logs in at once; the parameters of the page that was opened."""
    await person.seen.wait()
    shown = next(event for event in person.events if isinstance(event, AuthUrl))
    page = dict(parse_qsl(urlsplit(shown.url).query))
    redirect = urlsplit(page.get("redirect_uri") or page["callback_url"])
    query = {"code": CANARY + "-c", "state": page.get("state", ""), **changes}
    target = redirect.path + "?" + "&".join(f"{name}={value}" for name, value in query.items())
    async with await anyio.connect_tcp("127.0.0.1", redirect.port) as stream:
        await stream.send(f"GET {target} HTTP/1.1\r\nHost: {redirect.netloc}\r\n\r\n".encode())
        while True:
            try:
                await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return page


async def logged_in(flow, person=None, **changes):
    """A login through a browser: the credential, and what the page was asked with."""
    person, pages, made = person or Person(), [], []

    async def browser():
        pages.append(await browse(person, **changes))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(browser)
        made.append(await flow.login(OAuthLoginCallbacks(person)))
    return made[0], pages[0]


@pytest.fixture
def instant(monkeypatch):
    """No waiting between polls."""
    from pi_ai.auth.oauth import device

    waits = []

    class Clock:
        current_time = staticmethod(lambda: 0.0)

        @staticmethod
        async def sleep(seconds):
            waits.append(seconds)
            await anyio.sleep(0)

    monkeypatch.setattr(device, "anyio", Clock)
    return waits


# ── with a browser ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("encoding", ["form", "json"])
async def test_a_login_with_a_browser_a85_x12(encoding):
    endpoint = Endpoint(token=[(200, {**TOKENS, "scope": "s"})])
    async with endpoint.server:
        flow = AuthorizationCodeFlow(
            name="Example",
            authorize_url="https://login.example/authorize?fixed=1",
            token_url=f"{endpoint.url}/token",
            client_id="mine",
            scopes=("a", "b"),
            encoding=encoding,
            extra=lambda data: {"scope": data["scope"]},
        )
        credential, page = await logged_in(flow)
        body = endpoint.server.requests[0].body
        sent = form(body) if encoding == "form" else json.loads(body)
        refreshed = await flow.refresh(credential)
    assert (page["fixed"], page["client_id"], page["response_type"], page["scope"]) == ("1", "mine", "code", "a b")
    assert page["code_challenge_method"] == "S256"
    digest = sha256(sent["code_verifier"].encode()).digest()
    assert page["code_challenge"] == urlsafe_b64encode(digest).decode().rstrip("=")
    assert page["state"] != sent["code_verifier"]
    assert len(page["state"]) == 43
    assert (sent["grant_type"], sent["code"], sent["redirect_uri"]) == (
        "authorization_code",
        CANARY + "-c",
        page["redirect_uri"],
    )
    assert dict(credential) | {"expires": 0} == {
        "type": "oauth",
        "access": CANARY + "-a",
        "refresh": CANARY + "-r",
        "expires": 0,
        "scope": "s",
    }
    assert abs(credential.expires / 1000 - time.time() - 3540) < 30
    assert refreshed.access == credential.access


async def test_a_taken_port_leads_to_pasting_to_another_port_or_to_an_error_f93():
    endpoint = Endpoint(token=[(200, TOKENS)])
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    from anyio.abc import SocketAttribute

    port = listener.extra(SocketAttribute.local_port)
    async with endpoint.server, listener:
        flow = AuthorizationCodeFlow(
            name="Example",
            authorize_url="https://login.example/authorize",
            token_url=f"{endpoint.url}/token",
            client_id="mine",
            redirect=Redirect(port=port),
        )
        person = Person(f"http://127.0.0.1:{port}/callback?code=pasted")
        await flow.login(OAuthLoginCallbacks(person))
        assert endpoint.sent("token")[0]["code"] == "pasted"
        person = Person(f"http://127.0.0.1:{port}/callback?code=pasted&state=wrong")
        with pytest.raises(OAuthError, match="state mismatch"):
            await flow.login(OAuthLoginCallbacks(person))
        _, page = await logged_in(attrs.evolve(flow, redirect=Redirect(port=port, fallback="port")))
        assert urlsplit(page["redirect_uri"]).port != port
        with pytest.raises(OAuthError, match="finish the other login first"):
            await attrs.evolve(flow, redirect=Redirect(port=port, fallback=None)).login(OAuthLoginCallbacks(Person()))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            (400, {"error": "invalid_grant", "error_description": f"spent Bearer {CANARY}"}),
            r"^Example token refresh failed \(HTTP 400\): invalid_grant: spent Bearer \[redacted\]$",
        ),
        ((500, "no object"), r"^Example token refresh failed \(HTTP 500\)$"),
        ((302, {}), r"failed \(HTTP 302\)"),
        ((200, {"refresh_token": CANARY}), "the answer has no access_token"),
        ((200, {"access_token": 5}), "the answer has no access_token"),
        ((200, {"access_token": "a", "refresh_token": 5}), "refresh_token must be a str"),
    ],
)
async def test_what_a_token_endpoint_refuses_is_said_without_secrets_a85_d8_x4(answer, message):
    endpoint = Endpoint(token=[answer])
    async with endpoint.server:
        flow = DeviceCodeFlow(name="Example", device_url="", token_url=f"{endpoint.url}/token", client_id="mine")
        with pytest.raises(OAuthError, match=message) as caught:
            await flow.refresh(Credential({"type": "oauth", "access": "", "refresh": CANARY, "expires": 0}))
    assert CANARY not in f"{caught.value} {caught.value.info!r}"
    assert caught.value.__cause__ is None


async def test_tokens_are_sent_to_https_or_to_this_machine_only_x6():
    flow = DeviceCodeFlow(name="Example", device_url="", token_url="http://login.example/token", client_id="mine")
    with pytest.raises(OAuthError, match="must be https"):
        await flow.refresh(Credential({"type": "oauth", "access": "", "refresh": CANARY, "expires": 0}))


async def test_what_no_answer_comes_to_is_an_error_that_may_be_tried_again(monkeypatch):
    monkeypatch.setattr(http, "REQUEST_TIMEOUT_S", 0.05)

    async def silent(request, answer):
        await answer.stall()

    async with Server(silent) as server:
        with pytest.raises(PiAIError, match="Example failed: Request timed out") as caught:
            await http.request("POST", server.url, "Example", form={"secret": CANARY})
    assert caught.value.info.retryable
    assert caught.value.__context__ is None


async def test_a_refresh_that_omits_the_refresh_token_keeps_it_and_what_was_stored_beside_it_a85():
    endpoint = Endpoint(token=[(200, {"access_token": "new"})])
    async with endpoint.server:
        flow = DeviceCodeFlow(name="Example", device_url="", token_url=f"{endpoint.url}/token", client_id="mine")
        before = Credential({"type": "oauth", "access": "a", "refresh": "r", "expires": 0, "accountId": "x"})
        after = await flow.refresh(before)
    assert (after.access, after.refresh, after["accountId"]) == ("new", "r", "x")
    assert abs(after.expires / 1000 - time.time() - 3540) < 30
    assert endpoint.sent("token") == [{"grant_type": "refresh_token", "client_id": "mine", "refresh_token": "r"}]


# ── with another device ──────────────────────────────────────────────────────────────────────────────────────

DEVICE = {"device_code": "d", "user_code": "U-1", "verification_uri": "https://v.example", "interval": "1"}


async def test_a_login_with_a_device_code_a85_f94(instant):
    pending, slow = (400, {"error": "authorization_pending"}), (400, {"error": "slow_down"})
    endpoint = Endpoint(device=[(200, DEVICE)], token=[pending, slow, (503, {}), (200, TOKENS)])
    person = Person()
    async with endpoint.server:
        flow = DeviceCodeFlow(
            name="Example",
            device_url=f"{endpoint.url}/device",
            token_url=f"{endpoint.url}/token",
            client_id="mine",
            scopes=("a",),
        )
        credential = await flow.login(OAuthLoginCallbacks(person))
    assert credential.access == CANARY + "-a"
    assert instant == [1, 1, 6, 6]
    assert person.events == [DeviceCode(user_code="U-1", verification_uri="https://v.example/", interval_seconds=1)]
    assert endpoint.sent("device") == [{"client_id": "mine", "scope": "a"}]
    assert endpoint.sent("token")[0] == {
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
        "client_id": "mine",
        "device_code": "d",
    }


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("access_denied", "Example login was denied"),
        ("authorization_denied", "Example login was denied"),
        ("expired_token", "not confirmed in time"),
        ("strange", r"HTTP 400\): strange"),
    ],
)
async def test_a_refused_device_login_says_why_f94(instant, error, message):
    endpoint = Endpoint(device=[(200, DEVICE)], token=[(400, {"error": error})])
    async with endpoint.server:
        url = endpoint.url
        flow = DeviceCodeFlow(name="Example", device_url=f"{url}/device", token_url=f"{url}/token", client_id="mine")
        with pytest.raises(OAuthError, match=message):
            await flow.login(OAuthLoginCallbacks(Person()))


# ── the built-in ones ────────────────────────────────────────────────────────────────────────────────────────


def test_only_logins_that_are_open_to_everybody_come_without_further_ado_a90_d14():
    assert {name for name in IDS if builtin_login(name)} == {"openai", "openrouter", "radius"}
    assert builtin_login("anthropic") is None
    for flow in (AnthropicFlow, OpenAICodexFlow, GitHubCopilotFlow, XaiFlow, KimiFlow, MetaFlow):
        with pytest.raises(TypeError, match="client_id"):
            flow()
        assert flow(client_id="mine").config().is_subscription
    assert not OpenRouterFlow().config().is_subscription


def test_the_public_module_has_everything_a_flow_author_needs():
    assert public.__all__ == sorted(public.__all__, key=lambda name: (not name.isupper(), name[0].islower(), name))
    assert all(hasattr(public, name) for name in public.__all__)


async def test_openrouter_a90():
    endpoint = Endpoint(keys=[(200, {"key": CANARY})])
    async with endpoint.server:
        flow = OpenRouterFlow(token_url=f"{endpoint.url}/keys")
        credential, page = await logged_in(flow)
        sent = endpoint.server.requests[0].json
    assert page.keys() == {"callback_url", "code_challenge", "code_challenge_method"}
    assert urlsplit(page["callback_url"]).path.startswith("/oauth/callback/")
    assert sent.keys() == {"code", "code_verifier", "code_challenge_method"}
    assert dict(credential) == {"type": "oauth", "access": CANARY, "refresh": "", "expires": NEVER}
    assert await flow.refresh(credential) is credential


async def test_openai_registers_the_application_while_its_user_logs_in_a90():
    with pytest.raises(OAuthError, match="installation id"):
        await OpenAIFlow().login(OAuthLoginCallbacks(Person()))
    granted = "openid chatgpt.tokens.use.direct"
    endpoint = Endpoint(token=[(200, {**TOKENS, "id_token": "i", "scope": granted}), (200, {**TOKENS, "scope": "x"})])
    async with endpoint.server:
        redirect = Redirect(path="/auth/callback")
        flow = OpenAIFlow(installation_id=ID.upper(), token_url=f"{endpoint.url}/token", redirect=redirect)
        credential, page = await logged_in(flow, client_id="issued")
        await flow.refresh(credential)
        with pytest.raises(OAuthError, match="no client_id"):
            await logged_in_failing(flow)
    assert page["ext_agent_host_id"] == f"urn:uuid:{ID}"
    assert page["client_id"] == "dynamic_agent_client"
    assert page["resource"] == "https://api.openai.com/v1"
    assert len(page["nonce"]) == 43
    assert credential["clientId"] == "issued"
    assert "chatgpt.tokens.use.direct" in credential["scopes"]
    exchange, refresh = endpoint.sent("token")
    assert exchange["client_id"] == refresh["client_id"] == "issued"
    with pytest.raises(OAuthError, match="connect again"):
        await flow.refresh(Credential({"type": "oauth", "access": "a", "refresh": "r", "expires": 0}))


async def logged_in_failing(flow, **changes):
    """A login that fails after the browser has come back."""
    person = Person()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(browse_quietly, person, changes)
        error = None
        try:
            await flow.login(OAuthLoginCallbacks(person))
        except OAuthError as caught:
            error = caught
    assert error is not None
    raise error


async def browse_quietly(person, changes):
    await browse(person, **changes)


@pytest.mark.parametrize("how", ["browser", "device-code"])
async def test_radius_at_any_gateway_a90(instant, how):
    endpoint = Endpoint(
        oauth=[(200, {"authorizationEndpoint": "https://login.example/authorize"})],
        device=[(200, DEVICE)],
        token=[(200, {**TOKENS, "scope": "gateway"})],
    )
    async with endpoint.server:
        flow = RadiusFlow(base_url=f"{endpoint.url}/v1/")
        if how == "browser":
            credential, page = await logged_in(flow, Person("browser"))
            assert (page["client_id"], page["handoff"], page["scope"]) == (
                "pi-gateway",
                "url",
                "gateway offline_access",
            )
        else:
            credential = await flow.login(OAuthLoginCallbacks(Person("device-code")))
            assert instant == []  # asked at once
        refreshed = await flow.refresh(credential)
    assert credential["scope"] == refreshed["scope"] == "gateway"
    assert {urlsplit(request.path).path for request in endpoint.server.requests} <= {
        "/v1/oauth",
        "/v1/oauth/device",
        "/v1/oauth/token",
    }
    with pytest.raises(LoginCancelled):
        await flow.login(OAuthLoginCallbacks(Person(None)))


@pytest.mark.parametrize("how", ["browser", "copy_code"])
async def test_anthropic_with_a_client_id_of_ones_own_a90_x12(how):
    endpoint = Endpoint(token=[(200, TOKENS)])
    async with endpoint.server:
        flow = AnthropicFlow(client_id="mine", token_url=f"{endpoint.url}/token", redirect=Redirect(name="localhost"))
        if how == "browser":
            credential, page = await logged_in(flow, Person("browser"))
        else:
            person = Person("copy_code")

            async def answer(prompt, ask=person.prompt):
                if prompt.kind != "manual_code":
                    return await ask(prompt)
                page = dict(parse_qsl(urlsplit(person.events[0].url).query))
                return f"code#{page['state']}"

            person.prompt = answer
            credential = await flow.login(OAuthLoginCallbacks(person))
            page = dict(parse_qsl(urlsplit(person.events[0].url).query))
            assert page["redirect_uri"] == "https://platform.claude.com/oauth/code/callback"
        sent = endpoint.server.requests[0].json
        await flow.refresh(credential)
    assert page["code"] == "true"
    assert page["client_id"] == sent["client_id"] == "mine"
    assert sent["state"] == page["state"] != sent["code_verifier"]
    assert endpoint.server.requests[1].json.keys() == {"grant_type", "client_id", "refresh_token"}


def token_of(account):
    claims = {"https://api.openai.com/auth": {"chatgpt_account_id": account}}
    payload = urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"h.{payload}.s"


@pytest.mark.parametrize("how", ["browser", "device_code"])
async def test_openai_codex_with_a_client_id_of_ones_own_a90(instant, monkeypatch, how):
    endpoint = Endpoint(
        usercode=[(200, {"device_auth_id": "d", "user_code": "U", "interval": "2"})],
        token=[(403, {}), (404, {}), (200, {"authorization_code": "c", "code_verifier": "v"})],
        exchange=[(200, {**TOKENS, "access_token": token_of("acc")})],
    )
    async with endpoint.server:
        monkeypatch.setattr(openai_codex, "_DEVICE", endpoint.url)
        url, redirect = f"{endpoint.url}/exchange", Redirect(path="/auth/callback", name="localhost")
        flow = OpenAICodexFlow(client_id="mine", token_url=url, redirect=redirect, originator="my-app")
        if how == "browser":
            credential, page = await logged_in(flow, Person("browser"))
            assert (page["originator"], page["client_id"]) == ("my-app", "mine")
        else:
            credential = await flow.login(OAuthLoginCallbacks(Person("device_code")))
            assert instant == [2, 2]
            assert endpoint.sent("exchange")[0]["redirect_uri"] == "https://auth.openai.com/deviceauth/callback"
    assert credential["accountId"] == "acc"
    endpoint.answers["exchange"] = [(200, {**TOKENS, "access_token": "no.token"})]
    async with Server(endpoint.handle) as server:
        with pytest.raises(OAuthError, match="names no account"):
            await attrs.evolve(flow, token_url=f"{server.url}/exchange").refresh(credential)


async def test_github_copilot_with_a_client_id_of_ones_own_a90(monkeypatch, instant):
    asked = []
    models = [
        {"id": "a", "model_picker_enabled": True},
        {"id": "b", "model_picker_enabled": True, "policy": {"state": "disabled"}},
        {"id": "c", "model_picker_enabled": False},
        {"id": "d", "model_picker_enabled": True, "capabilities": {"supports": {"tool_calls": False}}},
        {"id": "e", "model_picker_enabled": True, "policy": {"state": "unconfigured"}},
        "broken",
    ]
    token = "tid=1;proxy-ep=proxy.business.githubcopilot.com;x=1"

    async def scripted(method, url, what, **more):
        asked.append((method, url))
        answers = {
            "/device/code": DEVICE,
            "/access_token": {"access_token": "gh"},
            "/token": {"token": token, "expires_at": 2_000_000_000},
            "/models": {"data": models},
            "/policy": {},
        }
        return http.Answer(status=200, data=next(body for path, body in answers.items() if url.endswith(path)))

    monkeypatch.setattr(github_copilot, "request", scripted)
    monkeypatch.setattr("pi_ai.auth.oauth.flows.request", scripted)
    flow = GitHubCopilotFlow(client_id="mine")
    with anyio.fail_after(10):
        credential = await flow.login(OAuthLoginCallbacks(Person("https://corp.ghe.com/x")))
    assert dict(credential) == {
        "type": "oauth",
        "access": token,
        "refresh": "gh",
        "expires": (2_000_000_000 - 300) * 1000,
        "enterpriseUrl": "corp.ghe.com",
        "availableModelIds": ["a", "e"],
    }
    assert asked[0] == ("POST", "https://corp.ghe.com/login/device/code")
    assert ("GET", "https://api.corp.ghe.com/copilot_internal/v2/token") in asked
    assert asked[-1] == ("POST", "https://api.business.githubcopilot.com/models/e/policy")
    use = flow.config().request_auth
    assert use(credential) == Auth(api_key=token, base_url="https://api.business.githubcopilot.com")
    assert use(credential.replaced(access="t")).base_url == "https://copilot-api.corp.ghe.com"
    individual = credential.replaced(access="t", enterpriseUrl=None)
    assert use(individual).base_url == "https://api.individual.githubcopilot.com"
    kept = flow.config().modify_models([type("M", (), {"id": name})() for name in "abe"], credential)
    assert [model.id for model in kept] == ["a", "e"]
    with pytest.raises(OAuthError, match="must be a host"):
        await flow.login(OAuthLoginCallbacks(Person("no host!")))


async def test_kimi_sends_a_header_and_refreshes_again_where_the_server_is_out_of_order_a90(monkeypatch):
    from pi_ai.auth.oauth import devices

    waits = []

    async def sleep(seconds):
        waits.append(seconds)

    monkeypatch.setattr(devices, "anyio", type("Clock", (), {"sleep": staticmethod(sleep)}))
    endpoint = Endpoint(token=[(500, {}), (429, {}), (200, TOKENS), (401, {})])
    async with endpoint.server:
        monkeypatch.setenv("KIMI_CODE_OAUTH_HOST", endpoint.url + "/")
        flow = KimiFlow(client_id="mine")
        assert flow.token_url == f"{endpoint.url}/api/oauth/token"
        credential = await flow.refresh(Credential({"type": "oauth", "access": "a", "refresh": "r", "expires": 0}))
        assert waits == [1, 2]
        with pytest.raises(OAuthError):
            await flow.refresh(credential)
    assert flow.config().request_auth(credential).headers == {"Authorization": f"Bearer {CANARY}-a"}
    assert flow.config().request_auth(credential).api_key is None


async def test_meta_makes_a_key_for_a_day_with_the_identity_token_a90(instant):
    endpoint = Endpoint(
        device=[(200, DEVICE)], token=[(200, {"id_token": "identity"})], key=[(200, {"key": CANARY}), (403, {})]
    )
    async with endpoint.server:
        url = endpoint.url
        flow = MetaFlow(client_id="m", device_url=f"{url}/device", token_url=f"{url}/token", key_url=f"{url}/key")
        credential = await flow.login(OAuthLoginCallbacks(Person()))
        with pytest.raises(OAuthError, match="sign in again"):
            await flow.refresh(credential)
        request = endpoint.server.requests[-1]
    assert (credential.access, credential.refresh) == (CANARY, "identity")
    assert request.headers["authorization"] == "Bearer identity"
    assert request.headers["x-api-version"] == "1.0.0"
    assert request.body == b"{}"


async def test_xai_wants_a_page_that_is_https_and_takes_the_complete_one_a90(instant):
    page = {**DEVICE, "verification_uri_complete": "https://v.example/U-1"}
    plain = {**DEVICE, "verification_uri": "http://v.example"}
    endpoint = Endpoint(device=[(200, page), (200, plain)], token=[(200, TOKENS)])
    async with endpoint.server:
        flow = XaiFlow(client_id="m", device_url=f"{endpoint.url}/device", token_url=f"{endpoint.url}/token")
        person = Person()
        await flow.login(OAuthLoginCallbacks(person))
        assert person.events[0].verification_uri == "https://v.example/U-1"
        with pytest.raises(OAuthError, match="must be https"):
            await flow.login(OAuthLoginCallbacks(Person()))


# ── people ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_callbacks_of_a_flow_over_a_user_interface_a66_a67_a70():
    person = Person("", " ", "answer", "", "b", None, "code")
    callbacks = OAuthLoginCallbacks(person)
    callbacks.on_auth({"url": "HTTPS://X.example/a", "instructions": "Do"})
    callbacks.on_auth(url="https://x.example/")
    callbacks.on_auth(AuthUrl(url="https://x.example/b"))
    callbacks.on_device_code({"userCode": "U", "verificationUri": "https://v.example", "intervalSeconds": 5})
    callbacks.on_device_code(user_code="U", verification_uri="https://v.example", open_browser_on_confirm=False)
    callbacks.on_progress("…")
    assert [type(event) for event in person.events] == [AuthUrl] * 3 + [DeviceCode] * 2 + [Progress]
    assert person.events[0] == AuthUrl(url="https://x.example/a", instructions="Do")
    assert person.events[3].interval_seconds == 5
    assert not person.events[4].open_browser_on_confirm
    assert await callbacks.on_prompt({"message": "m", "placeholder": "p"}) == "answer"
    assert await callbacks.on_prompt(message="m", allow_empty=True, secret=True) == ""
    assert await callbacks.on_select({"message": "m", "options": [{"id": "a", "label": "A"}, {"id": "b"}]}) == "b"
    assert await callbacks.on_select(message="m", options=[]) is None
    assert await callbacks.on_manual_code_input() == "code"
    assert person.prompts[0] == AuthPrompt("text", "m", "p")
    assert person.prompts[3].kind == "secret"
    assert person.prompts[4].options == (SelectOption("a", "A"), SelectOption("b"))


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "file:///etc/passwd",
        "https://user@x.example/",
        "https://",
        "https://x.example/\n",
        "https://x .example",
        "https://x.example\\@evil",
        "http://[::1",
        "",
    ],
)
def test_only_urls_for_a_browser_are_shown_a68(url):
    if url == "https://x.example/\n":
        assert web_url(url) == "https://x.example/"
        return
    with pytest.raises(OAuthError, match="must be http or https"):
        web_url(url)


def test_a_user_interface_that_fails_does_not_end_the_login_a67(caplog):
    class Broken(Person):
        def notify(self, event):
            raise RuntimeError(CANARY)

    OAuthLoginCallbacks(Broken()).on_progress("…")
    assert "RuntimeError" in caplog.text
    assert CANARY not in caplog.text
