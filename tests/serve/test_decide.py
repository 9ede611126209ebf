from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.serve.bundled import video
from tests.serve.fake import Fake, jpeg


def test_all_rules_on_one_look(engine: Fake, client: TestClient) -> None:
    body = {"frames": [jpeg()] * 4, "fps": 2, "rules": ["yes?", "The TV is on"], "deadline_s": 5}
    reply = client.post("/v1/decide", json=body)
    assert reply.status_code == 200, reply.text
    found = reply.json()
    assert [d["answer"] for d in found["decisions"]] == ["yes", "no"]
    assert set(found["decisions"][0]) == {
        "rule", "answer", "p_yes", "outside_mass", "path", "reason",
    }  # fmt: skip
    assert found["usage"]["visual_tokens"] == 72 and found["degraded"] is None
    (clip,) = engine.clips
    assert clip is not None and clip.layout == "video" and engine.asked[0]["budget"].seconds <= 5


@pytest.mark.parametrize("empty", [{"video": ""}, {"frames": []}, {"video": None}])
def test_media_that_are_left_empty_are_not_meant(
    engine: Fake, client: TestClient, empty: dict[str, Any]
) -> None:
    body = {"rules": ["yes?"], "images": [jpeg()], **empty}
    assert client.post("/v1/decide", json=body).status_code == 200


def test_a_video_may_say_its_rate_beside_it_as_in_a_chat(engine: Fake, client: TestClient) -> None:
    for said in (
        {"video": video("reading"), "fps": 1},
        {"video": {"url": video("reading"), "fps": 1}},
    ):
        assert client.post("/v1/decide", json={"rules": ["yes?"], **said}).status_code == 200
    one, other = engine.clips
    assert one is not None and other is not None and one.times_s == other.times_s


@pytest.mark.parametrize(
    "body",
    [
        {"rules": ["x"]},
        {"rules": [], "images": [jpeg()]},
        {"rules": [""], "images": [jpeg()]},
        {"rules": ["x"], "images": [jpeg()], "frames": [jpeg()]},
        {"rules": ["x"], "video": "/etc/passwd"},
        {"rules": ["x"], "images": ["AAAA"]},
        {"rules": ["x"], "frames": [f"data:video/jpeg;base64,{jpeg()},{jpeg()}"]},
        {"rules": ["x"], "images": [jpeg()], "deadline_s": -1},
    ],
)
def test_what_makes_no_sense_is_refused(client: TestClient, body: dict[str, Any]) -> None:
    assert client.post("/v1/decide", json=body).status_code == 400
