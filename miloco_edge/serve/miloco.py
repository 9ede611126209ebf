"""The routes of Miloco 0.1's engine, for its server (XiaoMi/xiaomi-miloco, v0.1).

The chat route is OpenAI's own. Of the faults of the original none is kept: what fails has a status
other than 200, an answer has its usage, and nothing is read from disk because a request names it.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from miloco_edge.serve.answering import Serving
from miloco_edge.serve.refusal import Refusal

_QUERY = (
    "nvidia-smi", "--query-gpu=memory.total,memory.free", "--format=csv,noheader,nounits",
)  # fmt: skip


async def root(_: Request, __: Serving) -> Response:
    """GET /: who is there."""
    return JSONResponse(
        {"message": "miloco-edge AI Engine Server", "version": "1.0.0", "status": "running"}
    )


async def descriptions(_: Request, serving: Serving) -> Response:
    """GET /models: the model, and whether it is in memory. Miloco's server polls it."""
    return JSONResponse({"object": "list", "data": [description(serving)]})


async def one_description(request: Request, serving: Serving) -> Response:
    """GET /models/NAME."""
    _check(request.path_params["name"], serving)
    return JSONResponse(description(serving))


async def load(request: Request, serving: Serving) -> Response:
    """POST /models/load?model_name=NAME."""
    _check(request.query_params.get("model_name"), serving)
    await asyncio.to_thread(serving.engine.load)
    return JSONResponse(None)


async def unload(request: Request, serving: Serving) -> Response:
    """POST /models/unload?model_name=NAME. Refused while it answers."""
    _check(request.query_params.get("model_name"), serving)
    if serving.turns.active or serving.hub is not None:
        raise Refusal(409, "in_use", "the model is in use")
    await asyncio.to_thread(serving.engine.unload)
    return JSONResponse(None)


async def cuda_info(_: Request, __: Serving) -> Response:
    """GET /cuda_info: gigabytes of the first GPU; zeros where nvidia-smi knows none."""
    return JSONResponse(await asyncio.to_thread(_gpu))


def description(serving: Serving) -> dict[str, Any]:
    """The model as Miloco's server lists it."""
    facts = serving.facts
    return {
        "id": facts.name,
        "object": "model",
        "created": facts.created,
        "owned_by": "miloco-edge",
        "permission": None,
        "root": None,
        "parent": None,
        "loaded": serving.state == "ready",
        "estimate_vram_usage": round(facts.size_bytes / 2**30, 2) if facts.size_bytes else -1.0,
    }


def _check(name: str | None, serving: Serving) -> None:
    if name not in (serving.facts.name, *serving.facts.aliases):
        raise Refusal(404, "model_not_found", "Model not found")


def _gpu() -> dict[str, float]:
    none = {"total": 0.0, "free": 0.0}
    if shutil.which(_QUERY[0]) is None:
        return none
    try:
        said = subprocess.run(_QUERY, capture_output=True, timeout=5, check=True, text=True)
        total, free = said.stdout.splitlines()[0].split(",")
        return {"total": round(float(total) / 1024, 2), "free": round(float(free) / 1024, 2)}
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return none
