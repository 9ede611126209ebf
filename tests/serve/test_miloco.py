"""Miloco's two generations as they call an engine.

0.1 read in XiaoMi/xiaomi-miloco: miloco_server/utils/local_models.py at 5b0940fe (which routes,
what is read of them), miloco_server/proxy/llm_proxy.py at 15c74f69 (the chat call, its priority),
miloco_ai_engine/schema/models_schema.py at 0c51f091 (shapes). 2.0: backend/miloco/src/miloco/
perception/engine/omni/provider.py at 015c5dcb (MiMoAdapter), omni_client.py at 015c5dcb
(_build_messages, OmniCallMeta), probe.py at 0acb91f7.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from tests.serve.fake import FACTS, Fake, jpeg, picture, user

CLIP = Path(__file__).parents[1] / "video" / "data" / "variable.mp4"


def test_the_server_lists_loads_and_unloads(engine: Fake, client: TestClient) -> None:
    assert client.get("/").json()["status"] == "running"
    (model,) = client.get("/models").json()["data"]
    assert model["id"] == FACTS.name and model["loaded"] is True
    assert isinstance(model["estimate_vram_usage"], float) and model["permission"] is None
    assert client.get("/models/MiMo-VL-Miloco-7B:Q4_0").json()["id"] == FACTS.name
    for verb in ("unload", "load"):
        reply = client.post(f"/models/{verb}", params={"model_name": FACTS.name})
        assert reply.status_code == 200 and reply.content == b"null"
    assert engine.state == "unloaded"  # the fake's load does nothing
    unknown = client.post("/models/load", params={"model_name": "other"})
    assert unknown.status_code >= 400 and unknown.json()["code"] and unknown.json()["message"]
    info = client.get("/cuda_info").json()
    assert set(info) == {"total", "free"} and all(isinstance(v, float) for v in info.values())


def test_a_rule_of_0_1(engine: Fake, client: TestClient) -> None:
    condition = "Is someone reading"
    body = {
        "model": "MiMo-VL-Miloco-7B:Q4_0",
        "messages": [
            {"role": "system", "content": 'Answer with {"result": "yes"} or {"result": "no"}.'},
            user(
                "Image sequence is as follows:",
                *[picture(shade=i) for i in range(6)],
                f"Do the images meet the following condition: {condition}./no_think",
            ),
        ],
        "stream": False,
        "tools": None,
        "temperature": 0,
        "priority": 5,
    }
    engine.says = ('{"result": "yes"}',)
    found = client.post("/v1/chat/completions", json=body).json()
    assert found["choices"][0]["message"]["content"] == '{"result": "yes"}'
    asked = engine.asked[-1]
    assert asked["question"].endswith("./no_think") and asked["sampling"].temperature == 0
    clip = engine.clips[-1]
    assert clip is not None and len(clip.frames) == 6


def test_a_question_of_0_1_names_its_cameras(engine: Fake, client: TestClient) -> None:
    parts: list[Any] = []
    for camera in ("Hall", "Yard"):
        parts += [f"\nCamera: {camera}, Channel: 0, Image sequence: ", picture(), picture()]
    body = {
        "model": "m",
        "messages": [
            {"role": "user", "content": "Image sequences for each camera are as follows:"},
            user(*parts, "query: Who is there?。/no_think"),
        ],
    }
    assert client.post("/v1/chat/completions", json=body).status_code == 200
    question = engine.asked[-1]["question"]
    hall, yard = question.index("Hall"), question.index("Yard")
    assert hall < question.index("[pictures 1 to 2]") < yard < question.index("[pictures 3 to 4]")


def test_a_window_of_2_0(engine: Fake, client: TestClient) -> None:
    """A video, its rate beside it, and crops of what moved in it."""
    video = base64.b64encode(CLIP.read_bytes()).decode()
    part = {
        "type": "video_url",
        "video_url": {"url": f"data:video/mp4;base64,{video}"},
        "fps": 2,
        "media_resolution": "max",
    }
    body: dict[str, Any] = {
        "model": "mimo-v2.5",
        "messages": [
            {"role": "system", "content": "You watch a home."},
            user("What happens?", part),
        ],
        "max_tokens": 512,
        "temperature": 0.1,
        "top_p": 0.95,
        "stream": False,
        "thinking": {"type": "disabled"},
    }
    found = client.post("/v1/chat/completions", json=body).json()
    details = found["usage"]["prompt_tokens_details"]
    assert {name: details[name] for name in ("cached_tokens", "video_tokens", "audio_tokens")} == {
        "cached_tokens": 20, "video_tokens": 72, "audio_tokens": 0,
    }  # fmt: skip
    clip = engine.clips[-1]
    assert clip is not None and clip.layout == "video" and len(clip.frames) >= 4
    crop = {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{jpeg()}"}}
    body["messages"][1] = user("What happens?", part, crop)
    assert client.post("/v1/chat/completions", json=body).status_code == 200
    both = engine.clips[-1]
    assert both is not None and both.layout == "images"
    assert len(both.frames) == len(clip.frames) + 1


def test_the_probe_of_2_0(client: TestClient) -> None:
    models = client.get("/v1/models").json()
    assert [model["id"] for model in models["data"]] == [FACTS.name]
    body = {"model": "m", "messages": [{"role": "user", "content": "ping"}], "max_tokens": 1}
    reply = client.post("/v1/chat/completions", json=body)
    assert reply.status_code == 200 and isinstance(reply.json(), dict)
