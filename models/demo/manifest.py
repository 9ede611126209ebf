"""Writes drawn clips and questions about them as a manifest for `miloco-edge eval`.

python -m models.demo.manifest OUT --split test --count 1500
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from models.demo import truths
from models.demo.apng import write_apng
from models.demo.questions import Question, Skill, ask
from models.demo.scenes import CATEGORIES, SEEDS, Plan, Scene, plan, render, source_frames
from models.demo.scenes.seeds import Dice

HARD_SHARE = 0.6
"""Of the rules that do not hold, those that something was drawn to come near."""
PARTIAL_SHARE = 0.8
"""Of the events asked for, those that begin or end within the clip."""
PER_CLIP = 3
"""Most questions about one clip."""
EVAL_FPS = 2
"""What `eval` samples at by default: faster clips would lose frames."""


@dataclass(frozen=True)
class _Want:
    """A question that the manifest still lacks."""

    skill: Skill
    category: str
    yes: bool | None = None
    hard: bool = False
    """A rule that something was drawn to come near; an event shorter than its clip."""

    def fits(self, planned: Plan) -> bool:
        """Whether a clip can be asked it."""
        present = self.category in planned.categories
        if self.skill == "rule" and not self.yes:
            return not present and self.hard == truths.is_hard(planned, self.category)
        if self.skill == "name":
            return planned.categories == (() if self.category == "none" else (self.category,))
        if self.skill == "when" and self.hard:
            return any(
                event.category == self.category and event.end_s - event.start_s < planned.seconds
                for event in planned.events
            )
        return present


def write_manifest(out: Path, split: str, count: int) -> Path:
    """Write `count` questions about clips of a split; returns the manifest's path.

    Of ten questions six are rules, as many yes as no for each category, two when something
    happens, one where, one what. Clips are animated PNGs of all frames of their source, in
    OUT/clips; their group is the clip.
    """
    if split not in SEEDS:
        raise ValueError(f"split: expected one of {sorted(SEEDS)}, got {split!r}")
    (out / "clips").mkdir(parents=True, exist_ok=True)
    path = out / f"{split}.jsonl"
    left = list(_wants(count))
    lines: list[str] = []
    for seed in SEEDS[split]:
        if not left:
            break
        planned = plan(seed)
        wanted = [want for want in left if want.fits(planned)]
        if planned.fps != EVAL_FPS or not wanted:
            continue
        scene = render(seed)
        asked = list(_ask(scene, wanted))
        for want, question in asked:
            left.remove(want)
            lines.append(_line(len(lines), scene, question))
        if asked:
            write_apng(_media(out, scene), source_frames(planned), planned.source_fps)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _wants(count: int) -> Iterator[_Want]:
    """`count` questions, spread evenly over skills, categories and answers."""
    skills: tuple[Skill, ...] = ("rule", "rule", "when", "rule", "where", "rule", "rule", "name",
                                 "rule", "when")  # fmt: skip
    asked = dict.fromkeys(skills, 0)
    for i in range(count):
        skill = skills[i % len(skills)]
        turn = asked[skill]
        asked[skill] += 1
        if skill == "rule":
            category, yes = CATEGORIES[turn // 2 % 10], turn % 2 == 0
            hard = not yes and turn // 20 % 5 < HARD_SHARE * 5
            yield _Want(skill, category, yes, hard)
        elif skill == "name":
            yield _Want(skill, (*CATEGORIES, "none")[turn % 11])
        else:
            partial = skill == "when" and turn // 10 % 5 < PARTIAL_SHARE * 5
            yield _Want(skill, CATEGORIES[turn % 10], hard=partial)


def _ask(scene: Scene, wanted: list[_Want]) -> Iterator[tuple[_Want, Question]]:
    dice = Dice(scene.plan.seed, "manifest")
    skills: set[Skill] = set()
    for want in wanted:
        if want.skill in skills:
            continue
        question = ask(scene, dice, want.skill, category=want.category, yes=want.yes)
        if question is not None:
            skills.add(want.skill)
            yield want, question
        if len(skills) == PER_CLIP:
            break


def _line(number: int, scene: Scene, question: Question) -> str:
    """A line of CONTRACT.md's manifest. The id says what the fields have no place for."""
    marks: list[str] = [question.skill, question.language]
    marks += ["hard"] * question.hard + ["new"] * question.held_out
    return json.dumps(
        {
            "id": f"{scene.plan.split}-{number:05d}-{'-'.join(marks)}",
            "task": question.task,
            "media": _media(Path(), scene).as_posix(),
            "start": None,
            "end": None,
            "question": question.question,
            "options": None,
            "target": question.target,
            "category": question.category,
            "group": str(scene.plan.seed),
            "split": scene.plan.split,
        },
        ensure_ascii=False,
    )


def _media(out: Path, scene: Scene) -> Path:
    return out / "clips" / f"{scene.plan.seed}.png"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Write drawn clips and a manifest for eval.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--split", choices=sorted(SEEDS), default="test")
    parser.add_argument("--count", type=int, default=1500)
    args = parser.parse_args()
    print(write_manifest(args.out, args.split, args.count))


if __name__ == "__main__":
    main()
