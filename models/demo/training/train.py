"""Train the demo model; goes on where it stopped.

    python -m models.demo.training.train RUN [--run 1] [--vision N] [--supervised N] [--wordings N]

RUN receives tokenizer.json, log.jsonl, checkpoint.pt, and one checkpoint folder in Hugging Face
layout after each stage. Batch n of run r is made of the same seeds whenever it is made, so a
training that was interrupted ends with the same weights, up to the order of sums.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from models.demo.training.architecture import load_tokenizer, new_model
from models.demo.training.batches import stream
from models.demo.training.export import write_checkpoint
from models.demo.training.network import Teacher, quicken, see, speak
from models.demo.training.schedule import (
    FIRST_SEED,
    GAZE,
    LOCATED,
    SEEDS_PER_RUN,
    SEEING,
    STAGES,
    Plan,
    optimisers,
    set_rate,
)
from models.demo.training.validation import Validation
from models.demo.training.vocabulary import learn

LOG_EVERY, VALIDATE_EVERY, SAVE_EVERY = 20, 100, 50
# In bfloat16 the fused RMS norm is not there for float32 weights; the other one is right too.
warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight")


def train(folder: Path, run: int, plan: Plan) -> None:
    """Train through all stages, from the start or from the last checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "tokenizer.json").exists():
        learn(folder)
    tokenizer = load_tokenizer(folder)
    torch.manual_seed(run)
    model, teacher = quicken(new_model(tokenizer)), Teacher()
    optimizers = optimisers(model, teacher)
    state = _load(folder, model, teacher, optimizers)
    validation = Validation(tokenizer)
    for stage in STAGES[STAGES.index(state["stage"]) :]:
        start = state["step"] if stage == state["stage"] else 0
        first_seed = run * SEEDS_PER_RUN + FIRST_SEED[stage]
        batches = stream(tokenizer, stage, first_seed, plan.questions, start)
        seconds, began = state["seconds"], time.monotonic()
        sums: dict[str, float] = {}
        for step in range(start, plan.steps(stage)):
            batch = next(batches)
            set_rate(optimizers, plan.rate(stage, step))
            with torch.autocast("cpu", torch.bfloat16):
                with torch.set_grad_enabled(stage in SEEING):
                    visual = see(model, batch)
                lesson, right = teacher(visual, batch)
                loss, seen = plan.lesson(stage, step) * lesson, {"lesson": lesson, "state": right}
                if stage != "vision":
                    said = speak(model, batch, visual, plan.emphasis(stage, step)).loss()
                    gaze, located = teacher.look(model, batch)
                    seen |= {"said": said, "gaze": gaze, "located": located}
                    loss = loss + said + GAZE * (gaze + LOCATED * located)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            for name, value in seen.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach()) / LOG_EVERY
            done = step + 1
            state = {"stage": stage, "step": done, "seconds": seconds + time.monotonic() - began}
            if done % LOG_EVERY == 0:
                _log(folder, state, {name: round(value, 4) for name, value in sums.items()})
                sums = {}
            if done % VALIDATE_EVERY == 0 or done == plan.steps(stage):
                scores = validation.score(model, teacher, talk=stage != "vision")
                _log(folder, state, {"validation": scores})
            if done % SAVE_EVERY == 0 or done == plan.steps(stage):
                _save(folder, state, model, teacher, optimizers)
        write_checkpoint(model, folder, folder / stage)


def _log(folder: Path, state: dict[str, Any], values: dict[str, Any]) -> None:
    line = json.dumps(state | {"seconds": round(state["seconds"], 1)} | values)
    with (folder / "log.jsonl").open("a") as file:
        file.write(line + "\n")
    print(line, flush=True)


def _load(
    folder: Path, model: Any, teacher: Teacher, optimizers: list[torch.optim.Optimizer]
) -> dict[str, Any]:
    path, log = folder / "checkpoint.pt", folder / "log.jsonl"
    if not path.exists():
        log.unlink(missing_ok=True)
        return {"stage": "vision", "step": 0, "seconds": 0.0}
    saved = torch.load(path, weights_only=True)
    model.load_state_dict(saved["model"])
    teacher.load_state_dict(saved["teacher"])
    for optimizer, state in zip(optimizers, saved["optimizers"], strict=True):
        optimizer.load_state_dict(state)
    state = {name: saved[name] for name in ("stage", "step", "seconds")}
    kept = [line for line in log.read_text().splitlines() if not _is_later(json.loads(line), state)]
    log.write_text("".join(f"{line}\n" for line in kept))  # what follows will be done again
    return state


def _is_later(line: dict[str, Any], state: dict[str, Any]) -> bool:
    at, saved = ((STAGES.index(one["stage"]), one["step"]) for one in (line, state))
    return at > saved


def _save(
    folder: Path,
    state: dict[str, Any],
    model: Any,
    teacher: Teacher,
    optimizers: list[torch.optim.Optimizer],
) -> None:
    whole = state | {
        "model": model.state_dict(),
        "teacher": teacher.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
    }
    torch.save(whole, folder / "checkpoint.tmp")
    (folder / "checkpoint.tmp").replace(folder / "checkpoint.pt")


def main() -> None:
    """The command."""
    plan = Plan()
    parser = argparse.ArgumentParser(description="Train the demo model on drawn scenes.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--run", type=int, default=0, help="decides weights and scenes")
    parser.add_argument("--vision", type=int, default=plan.vision, help="steps")
    parser.add_argument("--supervised", type=int, default=plan.supervised, help="steps")
    parser.add_argument("--wordings", type=int, default=plan.wordings, help="steps")
    args = parser.parse_args()
    train(args.folder, args.run, Plan(args.vision, args.supervised, args.wordings))


if __name__ == "__main__":
    main()
