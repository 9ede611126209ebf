"""The training's stages, and the optimisers that serve them all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

Stage = Literal["vision", "supervised", "wordings"]
STAGES: tuple[Stage, ...] = get_args(Stage)
Kind = Literal["word", "verdict", "side", "thought", "time"]
"""Of what is said: a yes or no, left or right of two, a thought, its seconds, and all else."""
KINDS: tuple[Kind, ...] = get_args(Kind)

CLIPS: dict[Stage, int] = {"vision": 40, "supervised": 16, "wordings": 16}
"""In a step: one frame pair of each in the first stage, then all frames."""
SEEING: frozenset[Stage] = frozenset({"vision", "supervised"})
"""In which the ViT learns; in the last it rests, and a step costs little more than half."""
SEEDS_PER_RUN = 100_000_000
FIRST_SEED: dict[Stage, int] = {
    "vision": 0,
    "supervised": SEEDS_PER_RUN // 2,
    "wordings": SEEDS_PER_RUN * 5 // 8,
}
"""Of a run's seeds; GRPO has the last quarter."""
WARM_UP = 60
"""Steps from rest to the full rate, at the start of each stage."""
RATES: dict[Stage, tuple[float, float, float]] = {
    "vision": (1.0, 0.25, 0.5),
    "supervised": (0.5, 0.0, 0.4),
    "wordings": (0.5, 0.0, 0.65),
}
"""Share of the full rate at first and at the end, and of the steps, those before it falls."""

GAZE = 0.2
"""Weight of looking at whom an answer is about, and of knowing where that is. Words alone do not
teach it: what is done in a scene can be told without knowing who does it."""
LOCATED = 5.0
"""How much more the second of the two counts."""

MATRIX_RATE = 3e-3
OTHER_RATE = 2e-3


@dataclass(frozen=True)
class Plan:
    """How long each stage is."""

    vision: int = 1300
    supervised: int = 1500
    wordings: int = 1960
    questions: int = 6
    """About each clip, after the vision stage."""

    def steps(self, stage: Stage) -> int:
        """Steps of a stage."""
        match stage:
            case "vision":
                return self.vision
            case "supervised":
                return self.supervised
            case "wordings":
                return self.wordings

    def rate(self, stage: Stage, step: int) -> float:
        """Share of the full learning rate at a step: a table top with a slope behind it."""
        top, floor, edge = RATES[stage]
        steps = self.steps(stage)
        along = max(0.0, (step - edge * steps) / ((1 - edge) * steps))
        return min(1.0, (step + 1) / WARM_UP) * (top + (floor - top) * along)

    def emphasis(self, stage: Stage, step: int) -> dict[Kind, float]:
        """How much more than other words some kinds count, once the words are known.

        A yes or no is two tokens among sentences and would be a twentieth of what is learnt; so
        would be the word that says whose the box is where two are seen.
        """
        if stage == "supervised" and step < self.supervised // 5:
            return {}
        if stage == "supervised":
            return {"verdict": 8.0, "side": 30.0, "thought": 2.0, "time": 2.0}
        return {"verdict": 8.0, "side": 10.0, "thought": 1.5, "time": 4.0}

    def lesson(self, stage: Stage, step: int) -> float:
        """Weight of the teacher's loss: whole at first, a fifth by half of the second stage."""
        if stage == "supervised":
            return max(0.2, 1.0 - 1.6 * step / self.supervised)
        return 1.0 if stage == "vision" else 0.2


def optimisers(model: nn.Module, teacher: nn.Module) -> list[torch.optim.Optimizer]:
    """Muon for the matrices within blocks (Jordan 2024), AdamW for all else."""
    matrices: list[Tensor] = []
    others: list[Tensor] = list(teacher.parameters())
    for name, weight in model.named_parameters():
        inner = weight.ndim == 2 and "embed" not in name and "lm_head" not in name
        (matrices if inner else others).append(weight)
    return [
        torch.optim.Muon(
            matrices, lr=MATRIX_RATE, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(others, lr=OTHER_RATE, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def set_rate(optimizers: Iterable[torch.optim.Optimizer], share: float) -> None:
    """Set each optimiser to a share of its full rate."""
    for optimizer, full in zip(optimizers, (MATRIX_RATE, OTHER_RATE), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = full * share
