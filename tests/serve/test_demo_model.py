"""The demo model behind the routes: what clients ask about a bundled clip is answered rightly."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from miloco_edge.engine.local import LocalEngine
from tests.serve.bundled import picture_parts, pictures, video, video_part
from tests.serve.fake import served, user


@pytest.fixture(scope="module")
def demo() -> Iterator[TestClient]:
    engine = LocalEngine.of("demo", threads=2, context=2048)
    engine.load()
    with served(engine) as client:
        yield client
    engine.close()


@pytest.mark.parametrize("name, reading", [("reading", "yes"), ("thumbs-up", "no")])
def test_rules_are_decided_on_all_that_a_clip_may_be(
    demo: TestClient, name: str, reading: str
) -> None:
    rules = ["Someone is reading", "Someone is giving a thumbs up", "有人在看书"]
    thumbs_up = "no" if reading == "yes" else "yes"
    for media in ({"video": video(name)}, {"frames": pictures(name), "fps": 2}):
        reply = demo.post("/v1/decide", json={**media, "rules": rules})
        assert reply.status_code == 200, reply.text
        found = [each["answer"] for each in reply.json()["decisions"]]
        assert found == [reading, thumbs_up, reading]


@pytest.mark.parametrize("name, shown", [("reading", "reading"), ("thumbs-up", "thumbs up")])
def test_a_chat_says_what_a_clip_shows(demo: TestClient, name: str, shown: str) -> None:
    for media in ([video_part(name)], [picture_parts(name)[4]]):
        message = user("What is the person doing?", *media)
        body = {"model": "demo", "messages": [message], "temperature": 0, "max_tokens": 20}
        reply = demo.post("/v1/chat/completions", json=body)
        assert reply.status_code == 200, reply.text
        assert reply.json()["choices"][0]["message"]["content"] == shown
