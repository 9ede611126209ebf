"""What is sent to `POST /v1/decide` of miloco-edge and what comes back. Knows no Home Assistant."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any


def request(frames: Sequence[bytes], rules: Sequence[str], *, fps: float) -> dict[str, Any]:
    """The body of a request: JPEG pictures of one camera, in order, as one video."""
    return {
        "rules": list(rules),
        "frames": [base64.b64encode(frame).decode() for frame in frames],
        "fps": fps,
        "layout": "video",
        "deadline_s": 25,
    }


async def decide(
    session: Any, url: str, api_key: str | None, body: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """Decisions by rule. `session` is an aiohttp.ClientSession; raises as it does."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    async with session.post(
        f"{url.rstrip('/')}/v1/decide", json=body, headers=headers, timeout=30
    ) as response:
        response.raise_for_status()
        document = await response.json()
    return {decision["rule"]: decision for decision in document["decisions"]}
