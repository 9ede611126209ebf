"""The figures of the demo model's card are those of its results."""

from __future__ import annotations

import json
import statistics

import pytest

from tests.figures.pages import ROOT, demo, result_of, words

CARD_PATH = "models/demo/README.md"
CARD = [
    ("yes or no, macro F1 over the ten categories", ("answers", "macro_f1")),
    ("yes or no, balanced accuracy", ("answers", "balanced_accuracy")),
    ("when, mIoU", ("temporal", "miou")),
    ("where, centre of the box inside", ("point", "centre_accuracy")),
    ("naming, exact", ("exact", "accuracy")),
]
_STYLE = 2
"""Of the demo model's runs, the one in the style that training never saw."""


@pytest.mark.parametrize(("row", "keys"), CARD)
def test_the_demo_models_card(row: str, keys: tuple[str, str]) -> None:
    result = result_of("demo-model")
    values = " | ".join(f"{demo(run, *keys)(result):.1f}" for run in (0, 1, 2))
    assert f"| {row} | {values} |" in words(CARD_PATH)


def test_what_the_card_says_of_p_yes() -> None:
    errors = [100 * run["scores"]["p_yes"]["ece"] for run in result_of("demo-model")["runs"][:3]]
    row = "`p_yes`, expected calibration error (as it is, without `eval calibrate`)"
    assert f"| {row} | {' | '.join(f'{each:.1f}' for each in errors)} |" in words(CARD_PATH)
    assert max(errors) < 5


def test_what_the_card_says_of_single_categories() -> None:
    runs = result_of("demo-model")["runs"]
    by_category = [run["scores"]["answers"]["categories"] for run in runs]
    lowest = [min((each["f1"]["value"], name) for name, each in of.items()) for of in by_category]
    card = words(CARD_PATH)
    assert f"No category is below {100 * min(lowest[:_STYLE])[0]:.1f} on the held-out seeds" in card
    style, name = lowest[_STYLE]
    assert f"{name.replace('_', ' ')} is {100 * style:.1f} in the held-out style" in card


def test_what_the_card_says_layout_and_budget_are_worth() -> None:
    result = result_of("layouts-demo")
    rows = {(row["factor"], row["value"]): row for row in result["rows"]}
    card = words(CARD_PATH)

    def of(factor: str, value: str, measure: str = "macro_f1") -> str:
        return f"{100 * rows[factor, value][measure]['value']:.1f}"

    f1 = [float(of(*key)) for key in rows if key[0] == "type"]
    assert f"are between F1 {min(f1)} and {max(f1)}" in card
    video, pairs, images = (of("layout", name, "miou") for name in ("video", "pairs", "images"))
    assert f"is {video} mIoU in transformers' video layout, {pairs} with" in card
    assert f"one time, and {images} with frames" in card
    boxes = (of("layout", name, "centre_accuracy") for name in ("images", "video"))
    assert "put {} % of the boxes right instead of {} %".format(*boxes) in card
    said = [f"{of('frames', n)} and {of('frames', n, 'miou')}" for n in ("4", "6", "8")]
    two = f"F1 {of('frames', '2')} and mIoU {of('frames', '2', 'miou')}"
    assert "two see {}, four {}, six {}, eight {}.".format(two, *said) in card
    shown = []
    for budget in ("1024", "96", "72"):
        key = ("visual tokens", budget)
        shown.append((f"{rows[key]['visual_tokens'] / 3:.0f}", of(*key), of(*key, "miou")))
    (a, f, m), (b, g, n), (c, h, o) = shown
    assert f"{a} visual tokens a pair (full size) reach F1 {f} and mIoU {m}, " in card
    assert f"{b} reach {g} and {n}, {c} reach {h} and {o}." in card


def test_what_the_card_says_of_transformers() -> None:
    result = result_of("agreement-demo")
    card = words(CARD_PATH)
    assert (
        f"in {100 * result['same_text']:.1f} % of the {result['items']:_}".replace("_", " ") in card
    )


def test_what_the_card_says_of_a_second_seed() -> None:
    log = ROOT / "models" / "demo" / "log"
    card = words(CARD_PATH)
    curves = []
    for folder in (log, log / "second-seed"):
        lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        curve = [line["validation"]["state"] for line in lines if "validation" in line][:6]
        shown = [f"{100 * value:.1f}" for value in curve]
        assert f"{', '.join(shown[:-1])} and {shown[-1]} %" in card
        curves.append(curve)
    apart = [100 * abs(one - other) for one, other in zip(*curves, strict=True)]
    assert f"{apart[-1]:.1f} points apart at last, up to {max(apart):.1f} on the way" in card
    assert apart[-1] < 2


def test_what_the_card_says_of_grpo() -> None:
    log = (ROOT / "models" / "demo" / "log" / "grpo.jsonl").read_text().splitlines()
    lines = [json.loads(line) for line in log]
    rewards = [line["reward"] for line in lines if "reward" in line]
    tens = [statistics.mean(part) for part in (rewards[:10], rewards[-10:])]
    card = words(CARD_PATH)
    assert f"{len(rewards)} steps of it" in card
    assert "the mean reward from {:.2f} to {:.2f}".format(*tens) in card

    def of(task: str) -> str:
        first, last = (100 * lines[i]["validation"][task] for i in (0, -1))
        return f"{first:.0f} to {last:.0f} %"

    assert f'(rules {of("rule")}, naming {of("name")}; "when" from {of("when")}' in card
    assert f"after a thought from {of('when/think')})" in card
