"""What servers of the messages API do differently, as data (anthropic-messages.md section 4).

``Compat.of(model)`` gives every flag a value: what the model's ``compat`` says, else what is known about the vendor,
else what Anthropic itself does; but ``eager_input_streaming``, a field that strict proxies refuse, is only sent where
it is known to be understood (AN18).

To support another vendor add a row to ``_VENDORS``; to support another difference add a flag to :class:`Compat`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import attrs

from pi_ai.adapters._compat import Vendor, told_flags, vendor_flags
from pi_ai.types import Model

AffinityFormat: TypeAlias = Literal["openrouter"]


@attrs.frozen(kw_only=True)
class Compat:
    """The switches of one model at one server; ``Model.compat`` names them in either spelling.

    :ivar supports_eager_tool_input_streaming: knows ``eager_input_streaming`` in tools. False: a beta is asked for
        instead, so that arguments come in pieces.
    :ivar supports_strict_tools: knows ``strict`` in tools.
    :ivar supports_cache_control_on_tools: takes a cache mark on the last tool.
    :ivar supports_long_cache_retention: knows the time to live ``1h`` of cache marks.
    :ivar supports_temperature: takes ``temperature`` at all.
    :ivar force_adaptive_thinking: thinks as hard as ``effort`` says, instead of within a budget.
    :ivar allow_empty_signature: takes thoughts back that nobody signed.
    :ivar send_session_affinity_headers: wants the session's id in a header, ``session_affinity_format`` says which.
    :ivar api_key_header: where the key goes; in any other header than ``x-api-key`` as a bearer token.
    :ivar allowed_fallback_models: who may answer instead, as objects with the id in ``model``.
    :ivar supports_mid_convo_system_messages: later system messages may stay where they are.
    :ivar supports_mid_convo_tool_changes: and may add and remove tools there.
    :ivar supports_mid_convo_effort: and tell each answer's effort.
    :ivar supports_message_threads: continues a conversation that it remembers.
    :ivar completion_proof: ``"eof"``: the end of the bytes is the end of the answer (reliability section 2).
    """

    supports_eager_tool_input_streaming: bool = False
    supports_strict_tools: bool = False
    supports_cache_control_on_tools: bool = True
    supports_long_cache_retention: bool = True
    supports_temperature: bool = True
    force_adaptive_thinking: bool = False
    allow_empty_signature: bool = False
    send_session_affinity_headers: bool = False
    session_affinity_format: AffinityFormat | None = None
    api_key_header: str = "x-api-key"
    allowed_fallback_models: list[Mapping[str, Any]] = attrs.field(factory=list[Mapping[str, Any]])
    supports_mid_convo_system_messages: bool = False
    supports_mid_convo_tool_changes: bool = False
    supports_mid_convo_effort: bool = False
    supports_message_threads: bool = False
    completion_proof: Literal["eof"] | None = None

    @classmethod
    def of(cls, model: Model) -> Compat:
        """All flags of a model.

        :raises PiAIError: kind ``config``: a flag has a value that it cannot have.
        """
        return cls(**{**vendor_flags(model, _VENDORS), **told_flags(cls, model)})


# Whom the reference's catalogue sends the field to.
_EAGER = {"supports_eager_tool_input_streaming": True}

# Rows name only what differs from the defaults. Where several match, the first one that names a flag wins.
_VENDORS = (
    Vendor(name="anthropic", hosts=("api.anthropic.com",), flags={**_EAGER, "supports_message_threads": True}),
    Vendor(
        name="openrouter",
        providers=("openrouter",),
        hosts=("openrouter.ai",),
        flags={**_EAGER, "send_session_affinity_headers": True, "session_affinity_format": "openrouter"},
    ),
    Vendor(
        name="github-copilot",
        providers=("github-copilot",),
        hosts=("githubcopilot.com",),
        flags={**_EAGER, "api_key_header": "Authorization"},
    ),
    Vendor(
        name="fireworks",
        providers=("fireworks",),
        hosts=("api.fireworks.ai",),
        flags={
            "allow_empty_signature": True,
            "send_session_affinity_headers": True,
            "supports_cache_control_on_tools": False,
            "supports_long_cache_retention": False,
        },
    ),
    Vendor(name="vercel", hosts=("ai-gateway.vercel.sh",), flags={**_EAGER, "allow_empty_signature": True}),
    Vendor(name="cloudflare", hosts=("gateway.ai.cloudflare.com",), flags=_EAGER),
    Vendor(name="minimax", hosts=("api.minimax.io", "api.minimaxi.com"), flags=_EAGER),
    Vendor(name="opencode", hosts=("opencode.ai",), flags=_EAGER),
)
