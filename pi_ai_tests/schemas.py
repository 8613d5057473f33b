"""What requests of each API may look like, as JSON Schema, written from the specs; strict about messages.

Fields around the conversation are named, their values left to the tests of each API's requests. What a schema cannot
say (who answers whom, in which order) is ``test_handover.py``'s business.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
SPOKEN: Schema = {"type": "string", "pattern": r"\S"}
"""A text that an API refuses if it is blank."""
FLAG: Schema = {"type": "boolean"}
DATA: Schema = {"type": "object"}
BASE64: Schema = {"type": "string", "pattern": r"^[A-Za-z0-9+/]+={0,2}$"}
IMAGE_URL: Schema = {"type": "string", "pattern": r"^data:image/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/]+={0,2}$"}
IMAGE_TYPE: Schema = {"enum": ["image/png", "image/jpeg", "image/gif", "image/webp"]}
ID_64: Schema = {"type": "string", "pattern": r"^[A-Za-z0-9_-]{1,64}$"}


def record(required: Schema, **optional: Schema) -> Schema:
    """An object with these fields and no others."""
    fields = {**required, **optional}
    return {"type": "object", "properties": fields, "required": list(required), "additionalProperties": False}


def tagged(kind: str, required: Schema, **optional: Schema) -> Schema:
    """An object whose ``type`` tells its kind."""
    return record({"type": {"const": kind}, **required}, **optional)


def some(*kinds: Schema) -> Schema:
    """A list, not empty, of any of these."""
    return {"type": "array", "items": {"anyOf": list(kinds)}, "minItems": 1}


def body(required: Schema, *optional: str) -> Schema:
    """A request: what is checked, and the names of what else may be there."""
    return record(required, **{name: {} for name in optional})


# ── openai-completions ───────────────────────────────────────────────────────────────────────────────────────

_FUNCTION_CALL = tagged(
    "function",
    {"id": {**TEXT, "minLength": 1, "maxLength": 64}, "function": record({"name": SPOKEN, "arguments": TEXT})},
)
_TEXT_PART = tagged("text", {"text": TEXT})
_DETAILS = some(DATA)
_COMPLETIONS = body(
    {
        "model": SPOKEN,
        "stream": {"const": True},
        "messages": some(
            record({"role": {"enum": ["system", "developer"]}, "content": SPOKEN}),
            record(
                {
                    "role": {"const": "user"},
                    "content": {
                        "anyOf": [
                            TEXT,
                            some(_TEXT_PART, tagged("image_url", {"image_url": record({"url": IMAGE_URL})})),
                        ]
                    },
                }
            ),
            record(
                {"role": {"const": "assistant"}, "content": {"type": ["string", "null"]}},
                tool_calls=some(_FUNCTION_CALL),
                reasoning_details=_DETAILS,
                reasoning_content=TEXT,
            ),
            record({"role": {"const": "tool"}, "content": SPOKEN, "tool_call_id": {**TEXT, "maxLength": 64}}),
        ),
    },
    "max_tokens",
    "max_completion_tokens",
    "prompt_cache_key",
    "reasoning_effort",
    "store",
    "stream_options",
    "tools",
)

# ── mistral-conversations ────────────────────────────────────────────────────────────────────────────────────

_MISTRAL_ID: Schema = {"type": "string", "pattern": r"^[A-Za-z0-9]{9}$"}
_MISTRAL_PARTS = some(_TEXT_PART, tagged("image_url", {"image_url": IMAGE_URL}))
_MISTRAL = body(
    {
        "model": SPOKEN,
        "stream": {"const": True},
        "messages": some(
            record({"role": {"const": "system"}, "content": {}}),
            record({"role": {"const": "user"}, "content": {"anyOf": [TEXT, _MISTRAL_PARTS]}}),
            record(
                {"role": {"const": "assistant"}},
                content={
                    "anyOf": [
                        TEXT,
                        some(tagged("text", {"text": SPOKEN}), tagged("thinking", {"thinking": some(_TEXT_PART)})),
                    ]
                },
                tool_calls=some(
                    record(
                        {"id": _MISTRAL_ID, "function": record({"name": SPOKEN, "arguments": TEXT})},
                        type={"const": "function"},
                        index={"type": "integer"},
                    )
                ),
                prefix=FLAG,
            ),
            record(
                {
                    "role": {"const": "tool"},
                    "tool_call_id": _MISTRAL_ID,
                    "content": {"anyOf": [SPOKEN, _MISTRAL_PARTS]},
                },
                name=SPOKEN,
            ),
        ),
    },
    "max_tokens",
    "prompt_cache_key",
    "prompt_mode",
    "reasoning_effort",
    "tools",
)

# ── anthropic-messages ───────────────────────────────────────────────────────────────────────────────────────

_CACHED: Schema = {"cache_control": DATA}
_CLAUDE_TEXT = tagged("text", {"text": SPOKEN}, **_CACHED)
_CLAUDE_IMAGE = tagged(
    "image",
    {"source": record({"type": {"const": "base64"}, "media_type": IMAGE_TYPE, "data": BASE64})},
    **_CACHED,
)
_CLAUDE_RESULT = record(
    {"type": {"const": "tool_result"}, "tool_use_id": ID_64, "is_error": FLAG},
    content={"anyOf": [TEXT, some(_CLAUDE_TEXT, _CLAUDE_IMAGE)]},
    **_CACHED,
)
_CLAUDE_RESULT["if"] = {"properties": {"is_error": {"const": True}}}
_CLAUDE_RESULT["then"] = {"properties": {"content": {"anyOf": [SPOKEN, some(_CLAUDE_TEXT)]}}}
_MESSAGES = body(
    {
        "model": SPOKEN,
        "stream": {"const": True},
        "max_tokens": {"type": "integer", "minimum": 1},
        "messages": some(
            record(
                {
                    "role": {"const": "user"},
                    "content": {"anyOf": [SPOKEN, some(_CLAUDE_TEXT, _CLAUDE_IMAGE, _CLAUDE_RESULT)]},
                }
            ),
            record(
                {
                    "role": {"const": "assistant"},
                    "content": some(
                        _CLAUDE_TEXT,
                        tagged("thinking", {"thinking": TEXT, "signature": SPOKEN}),
                        tagged("redacted_thinking", {"data": SPOKEN}),
                        tagged("tool_use", {"id": ID_64, "name": SPOKEN, "input": DATA}),
                    ),
                }
            ),
        ),
    },
    "metadata",
    "output_config",
    "system",
    "thinking",
    "tools",
)

# ── bedrock-converse-stream ──────────────────────────────────────────────────────────────────────────────────

_CONVERSE_TEXT = record({"text": SPOKEN})
_CONVERSE_IMAGE = record(
    {"image": record({"format": {"enum": ["png", "jpeg", "gif", "webp"]}, "source": record({"bytes": BASE64})})}
)
_CACHE_POINT = record({"cachePoint": record({"type": {"const": "default"}}, ttl=TEXT)})
_CONVERSE_RESULT = record(
    {
        "toolResult": record(
            {
                "toolUseId": ID_64,
                "content": some(_CONVERSE_TEXT, _CONVERSE_IMAGE),
                "status": {"enum": ["success", "error"]},
            }
        )
    }
)
_CONVERSE = body(
    {
        "messages": some(
            record(
                {
                    "role": {"const": "user"},
                    "content": some(_CONVERSE_TEXT, _CONVERSE_IMAGE, _CONVERSE_RESULT, _CACHE_POINT),
                }
            ),
            record(
                {
                    "role": {"const": "assistant"},
                    "content": some(
                        _CONVERSE_TEXT,
                        record(
                            {
                                "reasoningContent": {
                                    "anyOf": [
                                        record({"reasoningText": record({"text": TEXT, "signature": SPOKEN})}),
                                        record({"redactedContent": BASE64}),
                                    ]
                                }
                            }
                        ),
                        record({"toolUse": record({"toolUseId": ID_64, "name": SPOKEN, "input": DATA})}),
                    ),
                }
            ),
        ),
    },
    "additionalModelRequestFields",
    "inferenceConfig",
    "system",
    "toolConfig",
)

# ── openai-responses, azure-openai-responses ─────────────────────────────────────────────────────────────────

_INPUT_PARTS = some(
    tagged("input_text", {"text": TEXT}), tagged("input_image", {"detail": {"const": "auto"}, "image_url": IMAGE_URL})
)
_RESPONSES = body(
    {
        "model": SPOKEN,
        "stream": {"const": True},
        "store": {"const": False},
        "input": some(
            record({"role": {"enum": ["system", "developer"]}, "content": SPOKEN}),
            record({"role": {"const": "user"}, "content": _INPUT_PARTS}),
            tagged(
                "message",
                {
                    "role": {"const": "assistant"},
                    "content": some(tagged("output_text", {"text": TEXT, "annotations": {"maxItems": 0}})),
                    "status": {"const": "completed"},
                    "id": {**TEXT, "pattern": r"^msg_[A-Za-z0-9_-]{1,60}$"},
                },
                phase=SPOKEN,
            ),
            tagged(
                "reasoning",
                {
                    "encrypted_content": SPOKEN,
                    "summary": {"type": "array", "items": tagged("summary_text", {"text": TEXT})},
                },
                id={**TEXT, "pattern": r"^rs_[A-Za-z0-9_-]{1,61}$"},
            ),
            tagged(
                "function_call",
                {"call_id": ID_64, "name": SPOKEN, "arguments": TEXT},
                id={**TEXT, "pattern": r"^fc_[A-Za-z0-9_-]{1,61}$"},
            ),
            tagged("function_call_output", {"call_id": ID_64, "output": {"anyOf": [SPOKEN, _INPUT_PARTS]}}),
        ),
    },
    "include",
    "max_output_tokens",
    "prompt_cache_key",
    "reasoning",
    "tools",
)

# ── google-generative-ai, google-vertex ──────────────────────────────────────────────────────────────────────

_INLINE = record({"inlineData": record({"mimeType": IMAGE_TYPE, "data": BASE64})})
_SIGNED: Schema = {"thoughtSignature": {"anyOf": [BASE64, {"const": "skip_thought_signature_validator"}]}}


def _gemini(ids: Schema, *, images_in_results: bool) -> Schema:
    """:param ids: the field with a call's id. ``images_in_results``: else they follow the results."""
    parts = {"parts": some(_INLINE)} if images_in_results else {}
    answer = {"type": "object", "minProperties": 1, "maxProperties": 1}
    answer["properties"] = {"output": TEXT, "error": TEXT}
    answer["additionalProperties"] = False
    return body(
        {
            "contents": some(
                record(
                    {
                        "role": {"const": "user"},
                        "parts": some(
                            record({"text": TEXT}),
                            _INLINE,
                            record({"functionResponse": record({"name": SPOKEN, "response": answer, **ids}, **parts)}),
                        ),
                    }
                ),
                record(
                    {
                        "role": {"const": "model"},
                        "parts": some(
                            record({"text": TEXT}, thought={"const": True}, **_SIGNED),
                            record({"functionCall": record({"name": SPOKEN, "args": DATA, **ids})}, **_SIGNED),
                        ),
                    }
                ),
            ),
        },
        "generationConfig",
        "systemInstruction",
        "toolConfig",
        "tools",
    )


REQUESTS: dict[str, Schema] = {
    "openai-completions": _COMPLETIONS,
    "anthropic-messages": _MESSAGES,
    "openai-responses": _RESPONSES,
    "azure-openai-responses": _RESPONSES,
    "google-generative-ai": _gemini({"id": ID_64}, images_in_results=True),
    "google-vertex": _gemini({}, images_in_results=False),
    "bedrock-converse-stream": _CONVERSE,
    "mistral-conversations": _MISTRAL,
}
"""API → schema of a request, for the models of ``test_handover.py``."""
