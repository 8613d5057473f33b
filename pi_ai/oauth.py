"""Everything for logins: stores for credentials, tools for flows, and the flows themselves.

A login with a browser, or with a code on another device, is data::

    from pi_ai.oauth import DeviceCodeFlow

    flow = DeviceCodeFlow(name="Corp", client_id="…", device_url="https://…", token_url="https://…")
    pi_ai.register_provider("corp", base_url="https://…", api="openai-completions", oauth=flow.config())

OpenRouter, OpenAI and Radius let every application log in, and have a login without further ado (OpenAI's needs the
id of an installation: ``OpenAIFlow(installation_id=…)``). Anthropic, ChatGPT, GitHub Copilot, xAI, Kimi and Meta issue
client ids to their own applications, and some of them refuse or forbid subscription tokens in any other. pi_ai ships
no such id and passes itself off as nobody else. If your application has an id of its own, its flow takes it::

    pi_ai.register_provider("xai", oauth=XaiFlow(client_id="…").config())

Without one, use an API key; all of these providers but ``openai-codex`` have them.
"""

from __future__ import annotations

from pi_ai.auth.base import Auth, AuthStatus
from pi_ai.auth.credentials import NEVER, Credential, CredentialInfo, Secret
from pi_ai.auth.oauth.anthropic import AnthropicFlow
from pi_ai.auth.oauth.callback import OAuthCallbackServer, Pasted, wait_for_callback_or_manual_input
from pi_ai.auth.oauth.config import OAuthConfig
from pi_ai.auth.oauth.device import Complete, Failed, Pending, SlowDown, poll_device_code
from pi_ai.auth.oauth.devices import KimiFlow, MetaFlow, XaiFlow
from pi_ai.auth.oauth.flows import AuthorizationCodeFlow, DeviceCodeFlow, Redirect
from pi_ai.auth.oauth.github_copilot import GitHubCopilotFlow
from pi_ai.auth.oauth.interaction import (
    AuthEvent,
    AuthInteraction,
    AuthPrompt,
    AuthUrl,
    DeviceCode,
    Info,
    LoginCancelled,
    OAuthLoginCallbacks,
    Progress,
    SelectOption,
)
from pi_ai.auth.oauth.openai import OpenAIFlow
from pi_ai.auth.oauth.openai_codex import OpenAICodexFlow
from pi_ai.auth.oauth.openrouter import OpenRouterFlow
from pi_ai.auth.oauth.pkce import Pkce, generate_pkce, generate_state, parse_authorization_input
from pi_ai.auth.oauth.radius import RadiusFlow
from pi_ai.auth.resolve import CredentialSynchronizationError
from pi_ai.auth.store import CredentialStore, FileCredentialStore, InMemoryCredentialStore, ReadOnlyCredentialStore

__all__ = [
    "NEVER",
    "AnthropicFlow",
    "Auth",
    "AuthEvent",
    "AuthInteraction",
    "AuthPrompt",
    "AuthStatus",
    "AuthUrl",
    "AuthorizationCodeFlow",
    "Complete",
    "Credential",
    "CredentialInfo",
    "CredentialStore",
    "CredentialSynchronizationError",
    "DeviceCode",
    "DeviceCodeFlow",
    "Failed",
    "FileCredentialStore",
    "GitHubCopilotFlow",
    "InMemoryCredentialStore",
    "Info",
    "KimiFlow",
    "LoginCancelled",
    "MetaFlow",
    "OAuthCallbackServer",
    "OAuthConfig",
    "OAuthLoginCallbacks",
    "OpenAICodexFlow",
    "OpenAIFlow",
    "OpenRouterFlow",
    "Pasted",
    "Pending",
    "Pkce",
    "Progress",
    "RadiusFlow",
    "ReadOnlyCredentialStore",
    "Redirect",
    "Secret",
    "SelectOption",
    "SlowDown",
    "XaiFlow",
    "generate_pkce",
    "generate_state",
    "parse_authorization_input",
    "poll_device_code",
    "wait_for_callback_or_manual_input",
]
