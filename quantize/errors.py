"""What can go wrong while a checkpoint becomes a GGUF pair, as one tree.

    QuantizeError                the pipeline could not finish (exit code 1)
    ├── NotFoundError            the checkpoint, a shard or an imatrix is not there (exit code 3)
    └── RefusedError             it is there and is not used (exit code 4)
        ├── CheckpointError      corrupt, incomplete, or of another architecture
        ├── ImatrixError         damaged, or of another model
        └── RecipeError          a recipe that names no type, or a type that cannot hold a tensor
            └── BudgetError      no choice of types is small enough

The package imports nothing of miloco_edge, so it has its own tree; the command line maps both.
"""

from __future__ import annotations

from pathlib import Path


class QuantizeError(Exception):
    """Base of every error that this package raises on purpose."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class NotFoundError(QuantizeError):
    """A file that the pipeline needs does not exist."""

    def __init__(self, path: Path, message: str, *, hint: str = "check the path") -> None:
        super().__init__(f"{path}: {message}", hint=hint)
        self.path = path


class RefusedError(QuantizeError):
    """The input exists and is not used."""


class CheckpointError(RefusedError):
    """The checkpoint is corrupt, incomplete, or not of the Qwen2.5-VL architecture."""

    hint_again = "download the checkpoint again; if it is as published, it cannot be used"

    def __init__(self, path: Path, message: str, *, hint: str = hint_again) -> None:
        super().__init__(f"{path}: {message}", hint=hint)
        self.path = path


class RecipeError(RefusedError):
    """The recipe is unknown, or asks for something that no type can give."""

    hint_form = "the form of a recipe file is described in docs/recipes.md"

    def __init__(self, recipe: str, message: str, *, hint: str = hint_form) -> None:
        super().__init__(f"recipe {recipe!r}: {message}", hint=hint)
        self.recipe = recipe


class BudgetError(RecipeError):
    """No choice of types is small enough."""

    def __init__(self, recipe: str, budget: int, smallest: int) -> None:
        super().__init__(
            recipe,
            f"expected a budget of at least {smallest} bytes ({smallest / 2**30:.3f} GiB), which "
            f"is the smallest possible pair, got {budget} ({budget / 2**30:.3f} GiB)",
            hint="give a larger --budget, or allow smaller types: another --device, or an "
            "--imatrix, without which some are not made",
        )
        self.budget = budget
        self.smallest = smallest


class ImatrixError(RefusedError):
    """An imatrix, or the sums that one is made of, that is damaged or of another model."""

    hint_again = "collect it again with `miloco-edge calibrate`"

    def __init__(self, path: Path, message: str, *, hint: str | None = hint_again) -> None:
        super().__init__(f"{path}: {message}", hint=hint)
        self.path = path
