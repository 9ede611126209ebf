"""GET /openapi.json: the routes that take bodies, as their own models describe them."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from miloco_edge.serve.answering import Serving
from miloco_edge.serve.chat_request import ChatRequest
from miloco_edge.serve.decide import DecideRequest
from miloco_edge.serve.ollama import Named, OllamaChat, OllamaGenerate

_BODIES: dict[str, type[BaseModel]] = {
    "/v1/chat/completions": ChatRequest,
    "/v1/decide": DecideRequest,
    "/api/chat": OllamaChat,
    "/api/generate": OllamaGenerate,
    "/api/show": Named,
    "/api/pull": Named,
}
_READS = {
    "/health": "Whether a question would be answered now",
    "/v1/models": "The model",
    "/props": "As llama-server describes itself",
    "/api/version": "The version of Ollama's API",
    "/api/tags": "The model, as Ollama lists it",
    "/api/ps": "The model while it is loaded",
    "/models": "The model, as Miloco 0.1 lists it",
    "/cuda_info": "Memory of the first GPU",
    "/metrics": "Figures for Prometheus",
}
_REFUSALS = {
    "400": "The request makes no sense",
    "401": "A key is expected",
    "403": "Not with this key, or not from there",
    "404": "No such model",
    "408": "The body came too slowly",
    "413": "More than the server takes",
    "429": "Too many wait; see Retry-After",
    "500": "A fault of the server",
    "503": "Loading, down or shutting down; see Retry-After",
    "504": "No time was left to answer",
}


async def openapi(_: Request, __: Serving) -> Response:
    """The description of this server."""
    return JSONResponse(description())


def description() -> dict[str, Any]:
    """An OpenAPI 3.1 document."""
    kinds = sorted(set(_BODIES.values()), key=lambda kind: kind.__name__)
    _, definitions = models_json_schema(
        [(kind, "validation") for kind in kinds], ref_template="#/components/schemas/{model}"
    )
    paths: dict[str, Any] = {path: {"get": _operation(words)} for path, words in _READS.items()}
    for path, kind in _BODIES.items():
        operation = _operation((kind.__doc__ or path).partition("\n")[0])
        schema = {"$ref": f"#/components/schemas/{kind.__name__}"}
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
        paths[path] = {"post": operation}
    return {
        "openapi": "3.1.0",
        "info": {"title": "miloco-edge", "version": version("miloco-edge")},
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "schemas": definitions.get("$defs", {}),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(words: str) -> dict[str, Any]:
    responses = {"200": {"description": "Done"}}
    responses |= {status: {"description": why} for status, why in _REFUSALS.items()}
    return {"summary": words, "responses": responses}
