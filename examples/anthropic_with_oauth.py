"""A provider with everything of its own: a key or a login by OAuth with PKCE, two models, and a stream function that
speaks Anthropic's API from scratch. It is an extension, too: ``pi-ai -e examples/anthropic_with_oauth.py list``.

Retries before the first event, clocks, aborting, prices and ``result()`` are the stream's. If a server speaks the API
exactly, leave the function out: ``api="anthropic-messages"`` is enough.
"""

import json
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import urlencode

import anyio
import httpx
from httpx_sse import aconnect_sse

from pi_ai import (
    AssistantMessage,
    Context,
    ImageContent,
    Message,
    MessageBuilder,
    Model,
    OAuthConfig,
    Registry,
    StreamEvent,
    StreamOptions,
    TextContent,
    ThinkingContent,
    Tool,
    ToolCall,
    ToolResultMessage,
    Usage,
    UserMessage,
    transform_messages,
)
from pi_ai.oauth import (
    AuthEvent,
    AuthPrompt,
    AuthUrl,
    Credential,
    InMemoryCredentialStore,
    OAuthLoginCallbacks,
    generate_pkce,
    generate_state,
    parse_authorization_input,
)
from pi_ai.providers.base import payload_to_send, provider_event_arrived, response_arrived
from pi_ai.providers.extensions import ProviderApi
from pi_ai.testing import Sandbox, Turn
from pi_ai.testing.server import Answer, Received, Server

CLIENT_ID = "the id that the vendor has given to your application"

# ── the login ────────────────────────────────────────────────────────────────────────────────────────────────


def login_at(url: str) -> OAuthConfig:
    async def token(**fields: str) -> dict[str, Any]:
        async with httpx.AsyncClient() as client:
            answer = await client.post(f"{url}/oauth/token", json={"client_id": CLIENT_ID, **fields})
        data = answer.raise_for_status().json()
        expires = int((time.time() + data["expires_in"]) * 1000)
        return {"access": data["access_token"], "refresh": data["refresh_token"], "expires": expires}

    async def login(callbacks: OAuthLoginCallbacks) -> dict[str, Any]:
        pkce, state, redirect = generate_pkce(), generate_state(), f"{url}/oauth/code/callback"
        query = {
            "client_id": CLIENT_ID,
            "response_type": "code",
            "redirect_uri": redirect,
            "scope": "user:profile user:inference",
            "code_challenge": pkce.challenge,
            "code_challenge_method": "S256",
            "state": state,
        }
        callbacks.on_auth(url=f"{url}/oauth/authorize?{urlencode(query)}")
        code, its_state = parse_authorization_input(await callbacks.on_prompt(message="Paste the authorization code:"))
        if not code or its_state != state:
            raise ValueError("This is no code of this login.")
        return await token(
            grant_type="authorization_code",
            code=code,
            state=state,
            redirect_uri=redirect,
            code_verifier=pkce.verifier,
        )

    async def refresh(credentials: dict[str, str]) -> dict[str, Any]:
        return await token(grant_type="refresh_token", refresh_token=credentials["refresh"])

    return OAuthConfig(
        name="Custom Anthropic",
        login=login,
        refresh_token=refresh,
        get_api_key=lambda credentials: credentials["access"],
    )


# ── the request ──────────────────────────────────────────────────────────────────────────────────────────────


def block(content: TextContent | ImageContent | ThinkingContent | ToolCall) -> dict[str, Any]:
    match content:
        case TextContent(text=text):
            return {"type": "text", "text": text}
        case ImageContent(data=data, mime_type=mime_type):
            return {"type": "image", "source": {"type": "base64", "media_type": mime_type, "data": data}}
        case ThinkingContent(thinking=thought, thinking_signature=signature):
            if not signature:  # of another model
                return {"type": "text", "text": thought}
            return {"type": "thinking", "thinking": thought, "signature": signature}
        case ToolCall(id=id, name=name, arguments=arguments):
            return {"type": "tool_use", "id": id, "name": name, "input": arguments}


def blocks(content: str | Sequence[TextContent | ImageContent | ThinkingContent | ToolCall]) -> list[dict[str, Any]]:
    parts = [TextContent(content)] if isinstance(content, str) else content
    return [block(part) for part in parts if not isinstance(part, TextContent) or part.text.strip()]


def turns(messages: Sequence[Message]) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    for message in messages:
        match message:
            case AssistantMessage(content=content):
                role, said = "assistant", blocks(content)
            case ToolResultMessage(tool_call_id=id, content=content, is_error=failed):
                result = {"type": "tool_result", "tool_use_id": id, "content": blocks(content), "is_error": failed}
                role, said = "user", [result]
            case _:
                role, said = "user", blocks(message.content)
        if turns and turns[-1]["role"] == role:  # results stand together in one turn
            turns[-1]["content"] += said
        elif said:
            turns.append({"role": role, "content": said})
    if turns and turns[-1]["role"] == "user":
        turns[-1]["content"][-1]["cache_control"] = {"type": "ephemeral"}
    return turns


def tool(tool: Tool) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "input_schema": tool.parameters}


def payload(model: Model, context: Context, options: StreamOptions) -> dict[str, Any]:
    payload: dict[str, Any] = {
        "model": model.id,
        "messages": turns(transform_messages(context.messages, model)),
        "max_tokens": options.max_tokens or model.max_tokens // 3,
        "stream": True,
    }
    if context.system_prompt:
        system = {"type": "text", "text": context.system_prompt, "cache_control": {"type": "ephemeral"}}
        payload["system"] = [system]
    if context.tools:
        payload["tools"] = [tool(each) for each in context.tools]
    if options.reasoning and model.reasoning:
        budgets = {"minimal": 1024, "low": 4096, "medium": 10240, "high": 20480, **(options.thinking_budgets or {})}
        payload["thinking"] = {"type": "enabled", "budget_tokens": budgets.get(options.reasoning, 20480)}
    return payload


# ── the answer ───────────────────────────────────────────────────────────────────────────────────────────────

STOP_REASONS = {
    "end_turn": "stop",
    "pause_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "toolUse",
}


def usage(said: dict[str, Any], before: Usage) -> Usage:
    def count(name: str, old: int) -> int:
        return old if said.get(name) is None else said[name]

    usage = Usage(
        input=count("input_tokens", before.input),
        output=count("output_tokens", before.output),
        cache_read=count("cache_read_input_tokens", before.cache_read),
        cache_write=count("cache_creation_input_tokens", before.cache_write),
    )
    usage.total_tokens = usage.input + usage.output + usage.cache_read + usage.cache_write
    return usage


async def stream_anthropic(
    model: Model, context: Context, options: StreamOptions
) -> AsyncIterator[StreamEvent | list[StreamEvent]]:
    out = MessageBuilder(model)
    body = await payload_to_send(options, payload(model, context, options), model)
    key = options.api_key or ""
    proof = (
        {"x-api-key": key} if key.startswith("sk-ant-api") else {"authorization": f"Bearer {key}"}
    )  # else of a login
    headers = {"anthropic-version": "2023-06-01", **proof, **(options.headers or {})}
    stop, failed, open_blocks = None, None, {}
    async with (
        httpx.AsyncClient(timeout=60) as client,
        aconnect_sse(client, "POST", f"{model.base_url}/v1/messages", json=body, headers=headers) as source,
    ):
        await response_arrived(options, source.response.status_code, source.response.headers, model)
        source.response.raise_for_status()
        yield out.start()
        async for sse in source.aiter_sse():
            event = json.loads(sse.data)
            await provider_event_arrived(options, event, model)
            match event:
                case {"type": "message_start", "message": {"usage": said}}:
                    out.set_usage(usage(said, out.message.usage))
                case {"type": "content_block_start", "index": index, "content_block": {"type": kind, **start}}:
                    match kind:
                        case "text":
                            open_blocks[index] = out.add_text()
                        case "thinking":
                            open_blocks[index] = out.add_thinking()
                        case "tool_use":
                            open_blocks[index] = out.add_tool_call(start["id"], start["name"])
                        case _:
                            continue
                    yield open_blocks[index].start()
                case {"type": "content_block_delta", "index": index, "delta": delta} if index in open_blocks:
                    match delta:
                        case {"text": text} | {"thinking": text} | {"partial_json": text} if text:
                            yield open_blocks[index].delta(text)
                        case {"signature": signature}:
                            open_blocks[index].content.thinking_signature = signature
                case {"type": "content_block_stop", "index": index} if index in open_blocks:
                    yield open_blocks.pop(index).end()
                case {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": said}:
                    stop = STOP_REASONS.get(reason)
                    out.set_usage(usage(said, out.message.usage))
                case {"type": "error", "error": {"message": text}}:
                    failed = text
    if failed or stop is None:
        raise RuntimeError(failed or "The stream ended without a stop reason.")
    yield out.finish(stop)


# ── the provider ─────────────────────────────────────────────────────────────────────────────────────────────


CLAUDE = {"reasoning": True, "input": ["text", "image"], "context_window": 200_000, "max_tokens": 64_000}
OPUS_COST = {"input": 5, "output": 25, "cache_read": 0.5, "cache_write": 6.25}
SONNET_COST = {"input": 3, "output": 15, "cache_read": 0.3, "cache_write": 3.75}


def register(
    pi: ProviderApi | Registry, url: str = "https://api.anthropic.com", login: str = "https://login.example"
) -> None:
    pi.register_provider(
        "custom-anthropic",
        base_url=url,
        api_key="$CUSTOM_ANTHROPIC_API_KEY",
        api="custom-anthropic-api",
        models=[
            {"id": "claude-opus-4-5", "name": "Claude Opus 4.5 (Custom)", "cost": OPUS_COST, **CLAUDE},
            {"id": "claude-sonnet-4-5", "name": "Claude Sonnet 4.5 (Custom)", "cost": SONNET_COST, **CLAUDE},
        ],
        oauth=login_at(login),
        stream_simple=stream_anthropic,
    )


# ── and how it is used ───────────────────────────────────────────────────────────────────────────────────────


class Person:
    """Who logs in; ``pi-ai login custom-anthropic`` asks at the terminal."""

    def notify(self, event: AuthEvent) -> None:
        if isinstance(event, AuthUrl):
            self.page = event.url

    async def prompt(self, prompt: AuthPrompt) -> str:
        print(prompt.message)
        _, state = parse_authorization_input(self.page)
        return f"the-code#{state}"  # as the page shows it


async def serve_login(request: Received, answer: Answer) -> None:
    """The login's server, for this example."""
    token = {"access_token": f"token for {request.json['grant_type']}", "refresh_token": "r", "expires_in": 3600}
    await answer.whole(200, {"content-type": "application/json"}, json.dumps(token).encode())


async def expired(credential: Credential | None) -> Credential | None:
    return credential and credential.replaced(expires=0)


async def main() -> None:
    store = InMemoryCredentialStore()
    calls = Turn([ThinkingContent("Look.", "signature"), ToolCall("call_1", "weather", {"city": "Oslo"})])
    sunny = Turn("It is sunny.", usage=Usage(input=100, output=4, total_tokens=104))
    async with Server(serve_login) as server, Sandbox(calls, sunny) as box, Registry(credentials=store) as pi:
        register(pi, box.base_url("anthropic-messages"), server.url)
        await pi.login("custom-anthropic", "oauth", Person())  # → Paste the authorization code:

        model = pi.get_model("custom-anthropic", "claude-sonnet-4-5")
        weather = Tool(
            "weather", "The weather in a city", {"type": "object", "properties": {"city": {"type": "string"}}}
        )
        context = Context([UserMessage("What is the weather in Oslo?")], tools=[weather])
        async with pi.stream(model, context, reasoning="high") as events:
            print([event.type async for event in events if event.type.endswith("_end")])
        # → ['thinking_end', 'toolcall_end']

        await store.modify("custom-anthropic", expired)  # as an hour would have done
        context.messages += [events.message, ToolResultMessage("call_1", "weather", "Sun, 20 °C")]
        message = await pi.complete(model, context, reasoning="high")
        print(message.text, f"${message.usage.cost.total:.5f}")  # → It is sunny. $0.00036

        for request in box.requests:
            print(request.headers["authorization"])
        # → Bearer token for authorization_code
        # → Bearer token for refresh_token


if __name__ == "__main__":
    anyio.run(main)
