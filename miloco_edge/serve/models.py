"""What the server says of itself: /v1/models and /props as llama-server, /health, /metrics."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from miloco_edge.serve.answering import Serving
from miloco_edge.serve.metrics import CONTENT_TYPE
from miloco_edge.serve.refusal import Refusal, loading

# The layout of miloco_edge.prompt, in the form in which clients look for `enable_thinking`.
_TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{{ message.content }}{% if message.role == "user" and not enable_thinking %} /no_think{% endif %}\
<|im_end|>
{% endfor -%}
<|im_start|>assistant
"""
_MARKER = "<__media__>"


async def models(_: Request, serving: Serving) -> Response:
    """GET /v1/models: the one model, as llama-server describes its own."""
    return JSONResponse({"object": "list", "data": [model_document(serving)]})


async def model(request: Request, serving: Serving) -> Response:
    """GET /v1/models/NAME."""
    facts = serving.facts
    if request.path_params["name"] not in (facts.name, *facts.aliases):
        raise Refusal(404, "model_not_found", "expected the name of the server's model")
    return JSONResponse(model_document(serving))


def model_document(serving: Serving) -> dict[str, Any]:
    """The model as /v1/models has it.

    `architecture` and `meta` are llama-server's, `max_model_len` is vLLM's.
    """
    facts = serving.facts
    loaded = serving.state == "ready"
    return {
        "id": facts.name,
        "aliases": list(facts.aliases),
        "object": "model",
        "created": facts.created,
        "owned_by": "miloco-edge",
        # Miloco 0.1's server expects these.
        "permission": None,
        "root": None,
        "parent": None,
        "max_model_len": facts.context,
        "architecture": {
            "input_modalities": ["text", "image", "video"],
            "output_modalities": ["text"],
        },
        "meta": {"n_ctx": facts.context, "size": facts.size_bytes, "ftype": facts.file_type},
        # Frigate takes --jinja for "knows tools".
        "status": {
            "value": "loaded" if loaded else serving.state,
            "args": ["--ctx-size", str(facts.context), "--jinja"],
        },
    }


async def props(_: Request, serving: Serving) -> Response:
    """GET /props: what llama-server's clients look up there."""
    facts = serving.facts
    return JSONResponse(
        {
            "default_generation_settings": {
                "n_ctx": facts.context,
                "params": {
                    "temperature": facts.sampling.temperature,
                    "top_p": facts.sampling.top_p,
                },
            },
            "total_slots": serving.engine.slots,
            "model_alias": facts.name,
            "modalities": {"vision": True, "audio": False, "video": True},
            "media_marker": _MARKER,
            "chat_template": _TEMPLATE if facts.thinks else "",
            "chat_template_caps": {
                "supports_tools": True,
                "supports_tool_calls": True,
                "supports_parallel_tool_calls": True,
                "supports_system_role": True,
            },
            "build_info": f"miloco-edge {version('miloco-edge')}",
            "is_sleeping": serving.state == "unloaded",
        }
    )


async def health(_: Request, serving: Serving) -> Response:
    """GET /health: 200 where a question would be answered, 503 where not. Needs no key."""
    match serving.state:
        case "loading":
            refusal = loading()
        case "down" | "closed":
            refusal = Refusal(503, "engine_down", "the engine is down", retry_after_s=5)
        case _:
            return JSONResponse({"status": "ok"})
    # llama-server's very document.
    return JSONResponse(
        {"error": {"code": 503, "message": refusal.message, "type": "unavailable_error"}},
        503,
        refusal.headers,
    )


async def metrics(_: Request, serving: Serving) -> Response:
    """GET /metrics, for Prometheus."""
    serving.metrics.waiting.set(serving.turns.waiting)
    serving.metrics.active.set(serving.turns.active)
    serving.metrics.up.set(serving.state in ("ready", "unloaded"))
    return Response(serving.metrics.text(), headers={"Content-Type": CONTENT_TYPE})
