"""M-RoPE positions as transformers assigns them (modeling_qwen2_5_vl.py, get_rope_index).

Every token has a temporal, a row and a column position. A text token has the same value in all
three. A visual token keeps the temporal position of its patch, its row and its column, all counted
from where the media begin; the text after it goes on from the largest position used, plus one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def temporal_step(fps: float, tokens_per_second: float = 2.0) -> int:
    """Distance between the temporal positions of neighbouring temporal patches (frame pairs).

    2 at 2 fps and 4 at 1 fps, as transformers. It truncates the seconds of a pair to a whole
    number first, so from 2.01 fps on all its pairs would share one position; we round instead
    and never go below 1.
    """
    return max(1, round(2 / fps * tokens_per_second))


def grid_positions(base: int, grid: tuple[int, int, int], step: int = 1) -> NDArray[np.int32]:
    """Positions of a grid of visual tokens whose first is at `base`: (3, t * h * w) int32.

    The rows are temporal, row and column position; tokens run over t, then h, then w.
    """
    t, h, w = np.indices(grid, dtype=np.int32).reshape(3, -1)
    return np.stack([base + t * step, base + h, base + w]).astype(np.int32)


def patch_positions(
    base: int, index: int, size: tuple[int, int], step: int, shown: tuple[int, int] | None = None
) -> NDArray[np.int32]:
    """Positions of one temporal patch of a video that began at `base`: (3, h * w) int32.

    `index` counts temporal patches from the video's first, left out or not; `size` is (h, w) of the
    video. A patch that is shown smaller has (h, w) of its own, `shown`: each of its tokens lies in
    the middle of those whose place it takes.
    """
    t, row, column = grid_positions(0, (1, *(shown or size)))
    if shown is not None:
        row, column = (
            (2 * places + 1) * whole // (2 * part)
            for places, whole, part in zip((row, column), size, shown, strict=True)
        )
    return np.stack([base + t + index * step, base + row, base + column]).astype(np.int32)


def next_position(base: int, grid: tuple[int, int, int], step: int = 1) -> int:
    """Position of the first text token after a grid of visual tokens that began at `base`."""
    t, h, w = grid
    return base + max((t - 1) * step, h - 1, w - 1) + 1
