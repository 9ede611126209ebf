from __future__ import annotations

import numpy as np
import pytest

from miloco_edge.video.mask import Polygon, cover, view

WHITE = np.full((90, 160, 3), 255, np.uint8)
LEFT = Polygon(((0, 0), (0.25, 0), (0.25, 1), (0, 1)))
TRIANGLE = Polygon(((0.5, 0.0), (1.0, 1.0), (0.5, 1.0)))


def test_a_mask_covers_all_that_it_touches() -> None:
    covered = cover(WHITE, [LEFT])
    assert not covered[:, :40].any()
    assert covered[:, 42:].all()
    assert WHITE.all(), "the picture itself is left alone"


def test_a_mask_holds_at_every_resolution() -> None:
    for height, width in ((9, 16), (90, 160), (1080, 1920), (7, 5)):
        covered = cover(np.full((height, width, 3), 255, np.uint8), [TRIANGLE])
        share = (covered == 0).mean()
        assert 0.25 <= share < 0.25 + 3 * (1 / width + 1 / height)
    whole = Polygon(((0, 0), (1, 0), (1, 1), (0, 1)))
    assert not cover(WHITE, [whole]).any()


def test_several_masks_and_none() -> None:
    assert cover(WHITE, []) is WHITE
    both = cover(WHITE, [LEFT, TRIANGLE])
    assert np.array_equal(both, np.minimum(cover(WHITE, [LEFT]), cover(WHITE, [TRIANGLE])))


def test_a_zone_is_cut_out() -> None:
    seen = view(WHITE, LEFT)
    assert seen.shape == (90, 40, 3)
    assert seen.all()
    seen = view(WHITE, TRIANGLE)
    assert seen.shape[0] == 90
    assert abs(seen.shape[1] - 80) <= 1
    assert not seen[0, -1].any()
    assert seen[-1, 0].all()


def test_a_zone_at_the_very_edge_is_at_least_a_pixel() -> None:
    sliver = Polygon(((0.9999, 0), (1, 0), (1, 1)))
    assert view(WHITE, sliver).size >= 3


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (((0, 0), (1, 1)), "at least 3 points, got 2"),
        (((0, 0), (1, 1), (0, 1.1)), r"from 0 to 1, got \(0, 1.1\)"),
        (((0, 0), (0.5, 0.5), (1, 1)), "all on one line"),
        (((0, 0), (1, 0), (float("nan"), 1)), "from 0 to 1"),
    ],
)
def test_what_is_no_polygon(points: tuple[tuple[float, float], ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Polygon(points)
