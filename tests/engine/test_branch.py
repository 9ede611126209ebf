from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from miloco_edge.engine.branch import Branch, common, fitting, share


def branches(*texts: str) -> list[Branch]:
    return [Branch(i, np.frombuffer(t.encode(), np.uint8).astype(np.int32)) for i, t in
            enumerate(texts)]  # fmt: skip


def test_common_beginnings_are_spelled_once() -> None:
    runs, ends = share(branches("is he in", "is he out", "is it", "no"), 10, 100)
    spelled = [(bytes(run.tokens.tolist()).decode(), run.sequences, run.position) for run in runs]
    assert spelled == [
        ("is ", (0, 1, 2), 10),
        ("he ", (0, 1), 13),
        ("in", (0,), 16),
        ("out", (1,), 16),
        ("it", (2,), 13),
        ("no", (3,), 10),
    ]
    assert ends == [2, 3, 4, 5]


@pytest.mark.parametrize("longest", [1, 3, 100])
def test_runs_spell_every_branch_in_order(longest: int) -> None:
    dice = np.random.default_rng(0)
    members = [
        Branch(i, dice.integers(0, 2, dice.integers(1, 12)).astype(np.int32)) for i in range(40)
    ]
    members.append(Branch(40, members[0].tokens))  # the same again
    runs, ends = share(members, 5, longest)
    assert max(len(run.tokens) for run in runs) <= longest
    for branch, end in zip(members, ends, strict=True):
        mine = [run for run in runs if branch.sequence in run.sequences]
        np.testing.assert_array_equal(np.concatenate([r.tokens for r in mine]), branch.tokens)
        assert mine[-1] is runs[end]
        assert mine[0].position == 5
        for before, after in pairwise(mine):
            assert after.position == before.position + len(before.tokens)
            assert set(after.sequences) <= set(before.sequences)
    assert sum(len(r.tokens) for r in runs) < sum(len(b.tokens) for b in members)


def test_as_many_as_fit_counting_what_they_share_once() -> None:
    suffixes = [branch.tokens for branch in branches("abcd1", "abcd22", "abcd333", "x")]
    assert common(suffixes[:3]) == 4
    assert common(suffixes) == 0
    assert common(suffixes[:1]) == 5
    assert fitting(suffixes, 7) == 2  # abcd + 1 + 22
    assert fitting(suffixes, 10) == 3
    assert fitting(suffixes, 18) == 3
    assert fitting(suffixes, 19) == 4
    assert fitting(suffixes, 1) == 1
