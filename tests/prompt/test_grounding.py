import pytest

from miloco_edge.prompt.grounding import parse_grounding
from miloco_edge.types import Box, Point, Span


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ('```json\n[{"bbox_2d": [10, 20, 30, 40], "label": "hand"}]\n```', "hand"),
        ('The cup is at {"bbox": [10, 20, 30, 40], "name": "cup"}.', "cup"),
        ('[{"bbox_2d": [30, 40, 10, 20]}]', ""),
        ("It is at [10, 20, 30, 40].", ""),
    ],
)
def test_boxes(text: str, box: str) -> None:
    grounding = parse_grounding(text)
    assert grounding.boxes == (Box(box, (10.0, 20.0, 30.0, 40.0)),)
    assert not grounding.points and not grounding.spans


@pytest.mark.parametrize(
    "text", ['{"point_2d": [10, 20], "label": ""}', "(10, 20)", "[10.0, 20.0]."]
)
def test_points(text: str) -> None:
    assert parse_grounding(text).points == (Point("", (10.0, 20.0)),)


@pytest.mark.parametrize(
    "text",
    [
        "The event happens in the 2.0 - 4.5 seconds.",
        "from 2 to 4.5 s",
        "00:02 - 00:04.5",
        "2秒到4.5秒",
        '{"start_time": "00:02", "end_time": "00:04.50"}',
        '{"start": 2, "end": 4.5}',
        "4.5s - 2s",
    ],
)
def test_spans(text: str) -> None:
    assert parse_grounding(text).spans == (Span("", 2.0, 4.5),)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Yes",
        "There are 2 - 3 people.",
        "[1, 2, 3]",
        '{"bbox_2d": [1, 2, true, 4]}',
        '{"bbox_2d": "left"}',
        "[" * 5000,
        '{"result": "no"}',
        "(1, 2) and more",
        '{"bbox_2d": [1, 2, 3, ' + "9" * 400 + "]}",
        "[" + "9" * 5000 + "]",
        "[" + "9" * 400 + ", 1, 2, 3]",
        '{"bbox_2d": [1, 2, 3, 1e999]}',
        '{"start": NaN, "end": 2}',
        '{"start": "' + "9" * 400 + '", "end": 2}',
    ],
)
def test_nothing_is_found_where_nothing_is(text: str) -> None:
    grounding = parse_grounding(text)
    assert (grounding.boxes, grounding.points, grounding.spans) == ((), (), ())
