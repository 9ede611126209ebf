"""`miloco-edge infer`: a clip, pictures or a camera window, and questions about it."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from miloco_edge import Budget, Clip, Engine, Sampling, Scene
from miloco_edge.cli.answers import print_answers, print_decisions
from miloco_edge.cli.options import (
    SECONDS,
    answer_options,
    json_option,
    load_options,
    model_option,
)
from miloco_edge.cli.output import Output
from miloco_edge.engine.clock import Clock
from miloco_edge.engine.decide import Decided
from miloco_edge.engine.engine import LoadOptions
from miloco_edge.engine.planner import Intent, both
from miloco_edge.engine.scene import ANSWER_TOKENS
from miloco_edge.prompt.chat import DESCRIBE, Language
from miloco_edge.types import Answer, Degraded, Layout, Usage
from miloco_edge.video import draw_sheet


@dataclass(frozen=True)
class Media:
    """What to look at, as the options said."""

    video: Path | None
    images: tuple[Path, ...]
    camera: str | None
    seconds: float
    fps: float
    frames: int | None
    start: float | None
    end: float | None
    layout: Layout | None

    def validate(self) -> None:
        """Exactly one of the three kinds, and only options that go with it."""
        given = sum((self.video is not None, bool(self.images), self.camera is not None))
        if given != 1:
            raise click.UsageError(
                f"expected one of --video, --image or --camera, got {given or 'none'}"
            )
        context = click.get_current_context()
        for option, kind, value in (
            ("frames", "video", self.video), ("start", "video", self.video),
            ("end", "video", self.video), ("seconds", "camera", self.camera),
        ):  # fmt: skip
            is_typed = context.get_parameter_source(option) is ParameterSource.COMMANDLINE
            if value is None and is_typed:
                raise click.UsageError(f"--{option} needs a --{kind}")

    def read(self) -> Clip:
        """Decode it."""
        if self.images:
            clip = Clip.from_images(self.images)
        elif self.camera is not None:
            clip = Clip.from_camera(self.camera, seconds=self.seconds, fps=self.fps)
        elif self.video is not None and self.video.is_dir():
            clip = Clip.from_folder(
                self.video, fps=self.fps, frames=self.frames, start=self.start, end=self.end
            )
        else:
            assert self.video is not None
            clip = Clip.from_file(
                self.video, fps=self.fps, frames=self.frames, start=self.start, end=self.end
            )
        return clip if self.layout is None else replace(clip, layout=self.layout)


@click.command("infer")
@click.option("--video", type=click.Path(path_type=Path), help="A clip, or a folder of pictures.")
@click.option(
    "--image",
    "images",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A picture; repeat it for several.",
)
@click.option("--camera", metavar="SOURCE", help="RTSP or HTTP address, or number of a USB camera.")
@click.option(
    "--seconds",
    type=SECONDS,
    default=3.0,
    show_default=True,
    help="How long to watch the camera.",
)
@click.option("--ask", "questions", multiple=True, metavar="TEXT", help="A question; repeatable.")
@click.option(
    "--rule",
    "rules",
    multiple=True,
    metavar="TEXT",
    help='A statement to say yes, no or unknown to ("Someone is reading"); repeatable.',
)
@model_option
@answer_options(
    deadline="Return within so many seconds of the model being loaded.", max_tokens=ANSWER_TOKENS
)
@click.option("--start", type=click.FloatRange(min=0), metavar="S", help="Begin here in the clip.")
@click.option("--end", type=click.FloatRange(min=0), metavar="S", help="End here in the clip.")
@click.option(
    "--top-logprobs",
    type=click.IntRange(min=0),
    default=0,
    help="Report so many candidates for each token of the answer.",
)
@click.option(
    "--annotate",
    "annotate_path",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="OUT.png",
    help="Draw the sampled frames with the answer's boxes and points.",
)
@load_options
@json_option
def infer_command(
    output: Output,
    *,
    questions: tuple[str, ...],
    rules: tuple[str, ...],
    model: str | None,
    think: bool,
    think_tokens: int,
    max_tokens: int,
    deadline: float | None,
    visual_tokens: int,
    smart_home: bool,
    language: Language,
    temperature: float | None,
    top_p: float | None,
    seed: int | None,
    top_logprobs: int,
    annotate_path: Path | None,
    load: LoadOptions,
    **media_options: Any,
) -> None:
    """Ask a clip, pictures or a camera window questions.

    Without --ask and --rule it describes what it sees in one sentence.
    """
    media = Media(**media_options)
    media.validate()
    if annotate_path is not None and not annotate_path.parent.is_dir():  # said now, not after all
        raise click.UsageError(f"--annotate: expected a folder {annotate_path.parent}, found none")
    began = time.perf_counter()
    # A file is read before the model is loaded, so that a bad one fails at once.
    clip = media.read() if media.camera is None else None
    decode_s = time.perf_counter() - began
    with Engine.load(model, **load) as engine:
        if deadline is not None:
            engine.rates()  # measured before the clock starts, as a part of loading
        load_s = time.perf_counter() - began - decode_s
        clock = Clock(Budget(seconds=deadline))
        if clip is None:
            watched = time.perf_counter()
            clip = media.read()
            decode_s = time.perf_counter() - watched
        asked = questions or (() if rules else (DESCRIBE[language],))
        budget = Budget(
            visual_tokens=visual_tokens,
            seconds=clock.left().seconds,
            answer_tokens=max_tokens,
            thinking_tokens=think_tokens,
        )
        with engine.look(
            clip,
            budget=budget,
            smart_home=smart_home,
            language=language,
            intent=Intent(asked, rules, think),
        ) as scene:
            decided = None
            if rules:
                left = clock.left()
                live = media.camera is not None
                decided = scene.start_decide(rules, budget=left, live=live).result()
                if not output.as_json:
                    print_decisions(decided.decisions, output)
            answers: list[Answer] = []
            if asked:
                answers = print_answers(
                    scene,
                    asked,
                    output,
                    budget=replace(budget, visual_tokens=None, seconds=clock.left().seconds),
                    think=think,
                    sampling=_sampling(scene.sampling, temperature, top_p, seed),
                    top_logprobs=top_logprobs,
                )
            document = _document(engine, clip, scene, answers, decided, load_s, decode_s, began)
            if annotate_path is not None:
                _annotate(annotate_path, clip, scene, answers)
                output.note(f"drew {annotate_path}")
    timings = document["timings"]
    if output.verbosity > 0 and timings["predicted_s"] is not None:
        stages = (timings[stage] or 0.0 for stage in ("vision_s", "prefill_s", "generate_s"))
        took_s = sum(stages, timings["video_s"] - decode_s)
        output.note(f"note: predicted {timings['predicted_s']:.2f} s, took {took_s:.2f} s")
    if output.as_json:
        output.data(document)
    elif (degraded := document["degraded"]) is not None:
        why = " for the deadline" if degraded["reason"] == "deadline" else ""
        asked_for = _shown(degraded["asked"])
        output.note(f"note: {_shown(degraded['used'])} instead of {asked_for}{why}")


def _sampling(
    base: Sampling, temperature: float | None, top_p: float | None, seed: int | None
) -> Sampling:
    return replace(
        base,
        temperature=base.temperature if temperature is None else temperature,
        top_p=base.top_p if top_p is None else top_p,
        seed=seed,
    )


def _document(
    engine: Engine,
    clip: Clip,
    scene: Scene,
    answers: list[Answer],
    decided: Decided | None,
    load_s: float,
    decode_s: float,
    began: float,
) -> dict[str, Any]:
    """What --json prints."""
    files, fitted = engine.files, scene.clip
    assert fitted is not None
    usages = [answer.usage for answer in answers] + ([decided.usage] if decided else [])
    deciding_s = (decided.timings.total_s if decided else None) or 0.0
    timings = replace(
        scene.timings,
        load_s=load_s,
        video_s=decode_s + (scene.timings.video_s or 0.0),
        prefill_s=(scene.timings.prefill_s or 0.0) + deciding_s + _sum(answers, "prefill_s"),
        first_token_s=answers[0].timings.first_token_s if answers else None,
        generate_s=_sum(answers, "generate_s"),
        total_s=time.perf_counter() - began,
        predicted_s=_predicted_s(scene, answers, decided),
    )
    return {
        "model": {
            "name": files.name,
            "path": str(files.text),
            "mmproj": str(files.mmproj),
            "file_type": files.file_type,
            "sha256": files.sha256,
        },
        "video": {
            "source": clip.source,
            "frames": len(fitted.frames),
            "times_s": list(fitted.times_s),
            "size": list(fitted.size),
            "temporal_patches": fitted.temporal_patches,
            "visual_tokens": fitted.visual_tokens,
            "layout": fitted.layout,
            "savings": None if scene.savings is None else asdict(scene.savings),
        },
        "answers": [_answer(answer) for answer in answers],
        "decisions": [asdict(decision) for decision in decided or ()],
        "usage": asdict(_totals(scene, usages)),
        "timings": asdict(timings),
        "degraded": _degraded(fitted.degraded, answers),
    }


def _predicted_s(scene: Scene, answers: list[Answer], decided: Decided | None) -> float | None:
    """What was thought that looking, deciding and answering would take; answers side by side."""
    predicted_s = scene.timings.predicted_s
    if decided is not None:
        predicted_s = both(predicted_s, decided.timings.predicted_s)
    for answer in sorted(answers, key=lambda answer: answer.usage.completion_tokens)[-1:]:
        predicted_s = both(predicted_s, answer.timings.predicted_s)
    return predicted_s


def _degraded(look: Degraded | None, answers: list[Answer]) -> dict[str, Any] | None:
    """What the look and the answers did without, as one."""
    given_up = [each for each in (look, *(answer.degraded for answer in answers)) if each]
    if not given_up:
        return None
    reasons = {each.reason for each in given_up}
    return {
        "reason": "deadline" if "deadline" in reasons else given_up[0].reason,
        "asked": {name: value for each in given_up for name, value in each.asked.items()},
        "used": {name: value for each in given_up for name, value in each.used.items()},
    }


def _shown(cost: dict[str, Any]) -> str:
    """What was asked for or used, in words."""
    parts = []
    if "frames" in cost:
        parts.append(
            "{frames} frames of {width}x{height} ({visual_tokens} visual tokens)".format(**cost)
        )
    if "thinking_tokens" in cost:
        parts.append(f"{cost['thinking_tokens']} tokens of thinking")
    if "answer_tokens" in cost:
        parts.append(f"{cost['answer_tokens']} tokens of answer")
    return ", ".join(parts)


def _answer(answer: Answer) -> dict[str, Any]:
    document = asdict(answer)
    document["answer"] = document.pop("text")
    return document


def _totals(scene: Scene, usages: list[Usage]) -> Usage:
    """Tokens of the run: every prompt counted, the scene's visual tokens once."""
    counted = {
        field.name: sum(getattr(usage, field.name) for usage in usages) for field in fields(Usage)
    }
    return Usage(**{**counted, "visual_tokens": scene.usage.visual_tokens})


def _sum(answers: list[Answer], stage: str) -> float:
    return float(sum(getattr(answer.timings, stage) or 0.0 for answer in answers))


def _annotate(path: Path, clip: Clip, scene: Scene, answers: list[Answer]) -> None:
    """Draw the frames that the model saw, with what the answers point at in each."""
    assert scene.clip is not None
    shown = set(scene.clip.times_s)
    frames = tuple(frame for frame in clip.frames if frame.time_s in shown)
    boxes = [box for answer in answers for box in answer.boxes]
    points = [point for answer in answers for point in answer.points]
    draw_sheet(replace(clip, frames=frames), boxes, points).save(path, "PNG")
