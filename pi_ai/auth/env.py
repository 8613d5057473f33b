"""Credentials from environment variables (core section 17).

A variable of the request's own ``env`` wins over the process environment, and an empty one counts as unset. Where
several are listed, the first one that is set wins.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

AUTHENTICATED = "<authenticated>"
"""Stands for credentials that are no key, such as a cloud's own chain. Never to be sent (EV1)."""

_KEYS: dict[str, tuple[str, ...]] = {
    "ant-ling": ("ANT_LING_API_KEY",),
    "anthropic": ("ANTHROPIC_OAUTH_TOKEN", "ANTHROPIC_API_KEY"),
    "azure": ("AZURE_OPENAI_API_KEY",),
    "baseten": ("BASETEN_API_KEY",),
    "cerebras": ("CEREBRAS_API_KEY",),
    "cloudflare-ai-gateway": ("CLOUDFLARE_API_KEY",),
    "cloudflare-workers-ai": ("CLOUDFLARE_API_KEY",),
    "deepseek": ("DEEPSEEK_API_KEY",),
    "fireworks": ("FIREWORKS_API_KEY",),
    "github-copilot": ("COPILOT_GITHUB_TOKEN",),
    "google": ("GEMINI_API_KEY",),
    "google-vertex": ("GOOGLE_CLOUD_API_KEY",),
    "groq": ("GROQ_API_KEY",),
    "huggingface": ("HF_TOKEN",),
    "kimi-coding": ("KIMI_API_KEY",),
    "meta": ("META_API_KEY",),
    "minimax": ("MINIMAX_API_KEY",),
    "minimax-cn": ("MINIMAX_CN_API_KEY",),
    "mistral": ("MISTRAL_API_KEY",),
    "moonshotai": ("MOONSHOT_API_KEY",),
    "moonshotai-cn": ("MOONSHOT_API_KEY",),
    "nvidia": ("NVIDIA_API_KEY",),
    "openai": ("OPENAI_API_KEY",),
    "opencode": ("OPENCODE_API_KEY",),
    "opencode-go": ("OPENCODE_API_KEY",),
    "openrouter": ("OPENROUTER_API_KEY",),
    "qwen-token-plan": ("QWEN_TOKEN_PLAN_API_KEY",),
    "qwen-token-plan-cn": ("QWEN_TOKEN_PLAN_CN_API_KEY",),
    "qwen-token-plan-individual": ("QWEN_TOKEN_PLAN_API_KEY",),
    "qwen-token-plan-individual-cn": ("QWEN_TOKEN_PLAN_CN_API_KEY",),
    "radius": ("RADIUS_API_KEY",),
    "together": ("TOGETHER_API_KEY",),
    "typesafe": ("TYPESAFE_API_KEY",),
    "vercel-ai-gateway": ("AI_GATEWAY_API_KEY",),
    "xai": ("XAI_API_KEY",),
    "xiaomi": ("XIAOMI_API_KEY",),
    "xiaomi-token-plan-ams": ("XIAOMI_TOKEN_PLAN_AMS_API_KEY",),
    "xiaomi-token-plan-cn": ("XIAOMI_TOKEN_PLAN_CN_API_KEY",),
    "xiaomi-token-plan-sgp": ("XIAOMI_TOKEN_PLAN_SGP_API_KEY",),
    "zai": ("ZAI_API_KEY",),
    "zai-coding-cn": ("ZAI_CODING_CN_API_KEY",),
}

_BEARER_TOKENS: dict[str, tuple[str, ...]] = {"anthropic": ("ANTHROPIC_AUTH_TOKEN",)}

_GOOGLE_FILE = "GOOGLE_APPLICATION_CREDENTIALS"

# Each tuple holds variables that authenticate together.
_AMBIENT: dict[str, tuple[tuple[str, ...], ...]] = {
    "amazon-bedrock": (
        ("AWS_BEARER_TOKEN_BEDROCK",),
        ("AWS_PROFILE",),
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI",),
        ("AWS_WEB_IDENTITY_TOKEN_FILE",),
    ),
    "google-vertex": (
        (_GOOGLE_FILE, "GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION"),
        (_GOOGLE_FILE, "GCLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION"),
    ),
}


def env_value(name: str, env: Mapping[str, str] | None = None) -> str | None:
    """A variable of ``env``, else of the process environment, without white space around it; None: unset or empty."""
    return ((env or {}).get(name) or "").strip() or os.environ.get(name, "").strip() or None


def agent_dir() -> Path:
    """The folder that is shared with pi: ``PI_CODING_AGENT_DIR``, else ``~/.pi/agent`` (A10)."""
    return Path(env_value("PI_CODING_AGENT_DIR") or "~/.pi/agent").expanduser()


def get_env_api_key(provider: str, env: Mapping[str, str] | None = None) -> str | None:
    """A provider's API key from the environment (EV1).

    :param env: variables that win over the process environment.
    :returns: the key; :data:`AUTHENTICATED` where there is none but a cloud's credentials are configured; None where
        there is nothing, or the provider is unknown.
    """
    key = _first(_KEYS.get(provider, ()), env)
    return AUTHENTICATED if key is None and _ambient_keys(provider, env) else key


def get_env_bearer_token(provider: str, env: Mapping[str, str] | None = None) -> str | None:
    """A token from the environment that is to be sent as ``Authorization: Bearer`` and wins over a key (auth A92)."""
    return _first(_BEARER_TOKENS.get(provider, ()), env)


def find_env_keys(provider: str, env: Mapping[str, str] | None = None) -> list[str] | None:
    """The names of the variables that authenticate a provider, best first; None if none does (EV2)."""
    names = [*_BEARER_TOKENS.get(provider, ()), *_KEYS.get(provider, ())]
    return [name for name in names if env_value(name, env)] or _ambient_keys(provider, env) or None


def way_to_a_key(provider: str) -> str:
    """What somebody can do who has no key for a provider: a sentence for an error (F85)."""
    names = [*_BEARER_TOKENS.get(provider, ()), *_KEYS.get(provider, ())]
    variable = f"Set {' or '.join(names)}, pass" if names else "Pass"
    return f"{variable} api_key=…, or run: pi-ai login {provider}"


def _first(names: tuple[str, ...], env: Mapping[str, str] | None) -> str | None:
    return next((value for name in names if (value := env_value(name, env))), None)


def _ambient_keys(provider: str, env: Mapping[str, str] | None) -> list[str]:
    """The names that are set in the first group of ambient variables that is complete."""
    for group in _AMBIENT.get(provider, ()):
        if all(_google_file(env) if name == _GOOGLE_FILE else env_value(name, env) for name in group):
            return [name for name in group if env_value(name, env)]
    return []


def _google_file(env: Mapping[str, str] | None) -> bool:
    """Whether Google's credential file exists: the one that is named, else the one that gcloud writes."""
    named = env_value(_GOOGLE_FILE, env)
    if named:
        return os.path.isfile(os.path.expanduser(named))
    roaming = env_value("APPDATA", env) if os.name == "nt" else None
    folder = env_value("CLOUDSDK_CONFIG", env) or (f"{roaming}/gcloud" if roaming else "~/.config/gcloud")
    return os.path.isfile(os.path.join(os.path.expanduser(folder), "application_default_credentials.json"))
