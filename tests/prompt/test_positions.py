import numpy as np
import pytest

from miloco_edge.prompt.positions import grid_positions, next_position, temporal_step


@pytest.mark.parametrize(
    ("fps", "step"), [(2.0, 2), (1.0, 4), (4.0, 1), (2.02, 2), (30.0, 1), (0.5, 8), (1.9, 2)]
)
def test_temporal_step(fps: float, step: int) -> None:
    assert temporal_step(fps) == step


def test_three_pairs_of_a_1080p_clip() -> None:
    """The worked example of transformers' get_rope_index: 3 pairs of 36x20 tokens after 15."""
    positions = grid_positions(15, (3, 20, 36), step=2)
    assert positions.shape == (3, 3 * 20 * 36)
    assert positions.dtype == np.int32
    t, row, column = positions
    assert sorted(set(t.tolist())) == [15, 17, 19]
    assert (row.min(), row.max()) == (15, 34)
    assert (column.min(), column.max()) == (15, 50)
    assert (np.diff(t) >= 0).all(), "llama.cpp refuses decreasing positions"
    assert next_position(15, (3, 20, 36), step=2) == 51


def test_tokens_run_over_columns_first() -> None:
    positions = grid_positions(0, (1, 2, 3))
    assert positions.tolist() == [[0] * 6, [0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2]]


def test_a_long_clip_pushes_the_text_by_time() -> None:
    assert next_position(10, (100, 2, 2), step=2) == 10 + 198 + 1
