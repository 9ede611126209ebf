"""README's figures are those of the results that they come from."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
CARD_PATH = "models/demo/README.md"


def words(path: str) -> str:
    """A page on one line, however it is broken."""
    return " ".join((ROOT / path).read_text().split())


def result_of(name: str) -> Any:
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())


README = words("README.md")


def run_of(recipe: str) -> Callable[[Any], Any]:
    return lambda d: next(run for run in d["runs"] if run["recipe"] == recipe)


def median_of(stage: str) -> Callable[[Any], float]:
    return lambda d: d["six_frames_448x252"]["median"][stage]


def second_first_token(d: Any) -> float:
    samples = d["six_frames_448x252"]["samples"]
    return statistics.median(s["answers"][1]["timings"]["first_token_s"] for s in samples)


def peak(side: str) -> Callable[[Any], float]:
    return lambda d: max(pair[side]["peak_rss_bytes"] for pair in d["pairs"]) / 1e9


Figure = tuple[str, str, Callable[[Any], float], str]
BESIDE = "quantize-beside-reference"
FIGURES: list[Figure] = [
    (r"BF16 mmproj \| ([\d.]+) s,", "conversion-7b", lambda d: run_of("q4_0")(d)["seconds"], ".1f"),
    (
        r"at most (\d+) MB resident",
        "conversion-7b",
        lambda d: max(run["peak_rss_bytes"] for run in d["runs"]) / 1e6,
        ".0f",
    ),
    (r"in turns \| ([\d.]+) of their", f"{BESIDE}-q4_0", lambda d: d["ratio_median"], ".2f"),
    (r"largest process holds ([\d.]+) GB", f"{BESIDE}-q4_0", peak("theirs"), ".1f"),
    (r"Q4_K_M likewise \| ([\d.]+) of", f"{BESIDE}-q4_k_m", lambda d: d["ratio_median"], ".2f"),
    (r"encoder's end \| ([\d.]+) s", "answer-7b", median_of("vision_s"), ".1f"),
    (r"432 visual tokens \| ([\d.]+) s", "answer-7b", median_of("prefill_s"), ".1f"),
    (r"second question \| ([\d.]+) s", "answer-7b", second_first_token, ".1f"),
    (
        r"two answers \| (\d+) s",
        "picture-7b",
        lambda d: d["picture_4096_tokens"]["total_s"],
        ".0f",
    ),
    (
        r"film clip\) \| ([\d.]+) /",
        "answer-7b",
        lambda d: d["resident_loaded_bytes"] / 2**30,
        ".1f",
    ),
    (r" / ([\d.]+) GiB for", "answer-7b", lambda d: d["peak_resident_bytes"] / 2**30, ".1f"),
]


def demo(run: int, *keys: str) -> Callable[[Any], float]:
    def value(d: Any) -> float:
        scores = d["runs"][run]["scores"]
        for key in keys:
            scores = scores[key]
        return float(100 * scores["value"])

    return value


FIGURES += [
    (
        r"activities and five gestures \| ([\d.]+) %",
        "demo-model",
        demo(0, "answers", "macro_f1"),
        ".1f",
    ),
    (
        r"style that training never saw \| ([\d.]+) %",
        "demo-model",
        demo(2, "answers", "macro_f1"),
        ".1f",
    ),
    (r"happens, mIoU \| ([\d.]+) %", "demo-model", demo(0, "temporal", "miou"), ".1f"),
    (r"box inside \| ([\d.]+) %", "demo-model", demo(0, "point", "centre_accuracy"), ".1f"),
    (
        r"same answers in ([\d ]+) of 1 600 decisions",
        "rules-together-demo",
        lambda d: round(d["decisions"] * d["same_answer"]) * (d["decisions"] == 1600),
        "_",
    ),
    (r"moved by ([\d.]+) at most", "rules-together-demo", lambda d: d["p_yes_moved_most"], ".3f"),
]


@pytest.mark.parametrize(("pattern", "name", "value", "form"), FIGURES)
def test_figure(pattern: str, name: str, value: Callable[[Any], float], form: str) -> None:
    found = re.findall(pattern, README)
    assert len(found) == 1, f"expected one {pattern!r} in README.md"
    result = result_of(name)
    assert found[0] == format(value(result), form).replace("_", " ")


def test_what_serve_adds() -> None:
    ours = result_of("serve-overhead-7b")["servers"]["miloco-edge"]
    added, model, share = (
        ours[key]["p50"]["value"] for key in ("overhead_s", "model_s", "overhead_share")
    )
    said = f"`serve` added {1000 * added:.0f} ms to {model:.1f} s for six pictures and eight tokens"
    page = words("docs/performance.md")
    assert f"{said}, {100 * share:.2f} %." in page


def test_what_serve_adds_to_the_demo_model_beside_others() -> None:
    servers = result_of("serve-overhead-demo")["servers"]
    ours, theirs, example = (
        servers[name]
        for name in ("miloco-edge", "llama-server", "llama-cpp-python, example server")
    )
    added, other = (1000 * one["overhead_s"]["p50"]["value"] for one in (ours, theirs))
    last = [one["many_clients_s"]["p99"]["value"] for one in (ours, theirs, example)]
    page = words("docs/performance.md")
    assert f"take {ours['model_s']['p50']['value']:.2f} s, it added {added:.0f} ms" in page
    assert f"llama-server added {other:.0f} ms in the same turns" in page
    waits = "waited {:.1f} s, at llama-server {:.1f}, at the example server {:.1f}".format(*last)
    assert waits in page
    assert not any(one["refused"] for one in (ours, theirs, example))


def test_what_hostile_requests_cost() -> None:
    result = result_of("hostile-demo")
    before, parts = result["before"], result["parts"]
    page = words("docs/security.md")
    assert not any(part["unexpected"] for part in parts.values())
    assert max(part["slowest_s"] for part in parts.values()) < 10.1
    assert parts["silent"]["question"] == "503"
    answered = [part for name, part in parts.items() if name != "silent"]
    assert {part["question"] for part in answered} == {"200"}
    slowest = 1000 * max(part["question_s"] for part in answered)
    assert f"a question got its answer within {slowest:.0f} ms" in page
    *_, last = parts.values()
    for who in ("server", "others"):
        for kind in ("threads", "descriptors"):
            assert last["after"][who][kind] == before[who][kind]
    sizes = [
        each["server"]["resident_bytes"] / 1e6
        for each in (before, *(part["after"] for part in parts.values()))
    ]
    assert f"went from {sizes[0]:.0f} to {sizes[-1]:.0f} MB" in page
    assert f"{sizes[1] - sizes[0]:.0f} of them with the first media" in page


def test_every_result_says_where_it_was_measured() -> None:
    for path in (ROOT / "benchmarks" / "results").glob("*.json"):
        host = json.loads(path.read_text())["host"]
        assert host["date"] and host["cpu"]["model"] and host["versions"], path.name


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


def test_what_fitting_to_a_size_is_worth() -> None:
    pairs = result_of("fit-to-size-demo")["pairs"]
    page = words("docs/fit-to-a-size.md")
    better = 0
    for mixture, fitted in zip(pairs[::2], pairs[1::2], strict=True):
        assert (mixture["kind"], fitted["kind"]) == ("mixture", "fitted")
        assert fitted["bytes"] <= mixture["bytes"]
        kl, loss = (
            f"{100 * (fitted[key] / mixture[key] - 1):+.0f} %"
            for key in ("mean_kl", "expected_loss")
        )
        row = f"{mixture['recipe']} | {mixture['mean_kl']:.5f} | {fitted['mean_kl']:.5f}"
        assert f"| {row} | {kl} | {loss} |" in page
        better += fitted["mean_kl"] < 0.999 * mixture["mean_kl"]
    assert (better, len(pairs)) == (7, 18), "seven of nine"


def test_what_imatrices_are_worth() -> None:
    rows = result_of("imatrix-sources-demo")["rows"]
    page = words("docs/quantize.md")
    kl = {(row["recipe"], row["mmproj"], row["imatrix"]): row["mean_kl"] for row in rows}
    for recipe, mmproj in {(row["recipe"], row["mmproj"]) for row in rows}:
        cells = " | ".join(f"{kl[recipe, mmproj, by]:.5f}" for by in ("none", "text", "clips"))
        assert f"| {recipe} | {mmproj} | {cells} |" in page
    clips_win = {key[:2] for key in kl if kl[*key[:2], "clips"] < kl[*key[:2], "text"]}
    assert clips_win == {("q3_k_m", "bf16"), ("q3_k_m", "q3_k_m"), ("iq4_xs", "iq4_xs")}
    for best in ("q3_k_m", "q4_k_m"):
        assert min(kl[best, m, "none"] for m in ("bf16", best)) == min(
            value for (recipe, *_), value in kl.items() if recipe == best
        )


def test_what_leaving_out_costs() -> None:
    rows = {row["measure"]: row for row in result_of("economy-demo")["measures"]}
    page = words("docs/performance.md")
    table = (ROOT / "benchmarks" / "results" / "economy-demo.md").read_text()
    assert " ".join(table.split()) in page
    assert f"On the demo model ({rows['exact']['questions']} questions" in page
    f1 = {name: f"| {name} | {100 * row['macro_f1']:.1f} |" for name, row in rows.items()}
    assert all(row in table for row in f1.values())
    static, chance = (
        f"{-100 * rows[name]['f1_difference']:.1f}"
        for name in ("static_below 8", "static_below 8, by chance")
    )
    assert f"cost {static} points here, and what is left out by chance costs {chance}." in page
    assert rows["live"]["f1_difference"] > -0.005, "live mode moves F1 by half a point at most"
    streaming = rows["streaming"]
    assert streaming["f1_difference_95"][0] > -0.01
    assert f"show, at {streaming['time_ratio_p50']:.2f} of the time" in page


def test_what_many_rules_cost() -> None:
    result = result_of("decide-7b")
    page = words("docs/rules.md")
    ours = [
        tuple(s["vision_s"] + s["prefill_s"] + s[key] for key in ("one_rule_s", "all_rules_s"))
        for s in result["samples"]
    ]
    rows = [("miloco-edge", ours, result)]
    for name, shown in (
        ("llama-server, one by one", "llama-server, one request a rule, its prompt cache on"),
        ("llama-server, in slots", "llama-server, four slots"),
    ):
        found = result["servers"][name]
        spent = [(s["look_and_one_rule_s"], s["look_and_all_rules_s"]) for s in found["samples"]]
        rows.append((shown, spent, found))
    for shown, spent, found in rows:
        one, every = (f"{statistics.median(each):.1f} s" for each in zip(*spent, strict=True))
        memory = f"{found['peak_resident_bytes'] / 2**30:.1f} GiB"
        row = f"{shown} | {one} | {every} | {found['ratio_median']:.2f} times | {memory}"
        assert f"| {row} |" in page
    assert result["rules"] == 16 and len(result["samples"]) == 3
    assert f"rules of about {result['words_mean']:.0f} words" in page
    together = result_of("rules-together-demo")
    same = f"{round(together['decisions'] * together['same_answer']):_}".replace("_", " ")
    assert f"decides {same} of 1 600 the same" in page and together["decisions"] == 1600
    assert result["ratio_median"] < 1.8


def test_how_quick_peers_are() -> None:
    result = result_of("peers-7b")
    by_name = {each["name"]: each for each in result["contestants"]}
    page = words("docs/performance.md")

    def cells(name: str) -> tuple[str, str]:
        found = by_name[name]
        first = f"{found['first_token_s']['p50']['value']:.1f} s"
        return first, f"{found['peak_resident_bytes'] / 1e9:.2f} GB"

    ours, tuned = result["ours"]
    for name, shown in (
        (ours, "miloco-edge, the same files, frames as video"),
        (tuned, "miloco-edge, `edge-x86` files"),
    ):
        first, memory = cells(name)
        assert f"| {shown} | {first} | | {memory} |" in page
        held = result["file_bytes"]["tuned files" if name == tuned else "the same files"]
        assert by_name[name]["peak_resident_bytes"] < 1.2 * (held + result["kv_bytes"])
    for name in ("llama-mtmd-cli", "llama-server"):
        first, memory = cells(name)
        times = [by_name[name]["first_token_times"][who]["value"] for who in (ours, tuned)]
        said = "{:.2f} times as fast, with `edge-x86` {:.2f}".format(*times)
        assert f"| {name}, frames as pictures | {first} | {said} | {memory} |" in page
        assert times[0] > 1.85
    assert times[1] > 2.7
    in_readme = "{:.2f} times as fast with the same files, {:.2f} with `edge-x86`'s".format(*times)
    assert in_readme in README
    share = by_name[ours]["python_share"]["p50"]["value"]
    assert f"{100 * share:.2f} % of our time is spent outside llama.cpp" in page
    decode = [
        by_name[name]["decode_tokens_per_s"]["p50"]["value"] for name in (ours, "llama-mtmd-cli")
    ]
    assert "Decoding is not quicker: {:.1f} tokens a second, theirs {:.1f}".format(*decode) in page


def test_how_well_deadlines_are_kept() -> None:
    (half,) = result_of("deadlines-demo")["deadlines"]
    assert half["deadline_s"] == 0.5 and half["on_time"] == half["real"]
    page = words("docs/performance.md")
    assert f"was kept in {half['on_time']} of {half['windows']} windows, each with a" in page
    idle, busy = (half[of]["error"] for of in ("idle", "busy"))
    said = f"off by {100 * idle['p50']:.0f} % in the middle and {100 * idle['p95']:.0f} % at the"
    assert said in page
    assert f"and by {100 * busy['p95']:.0f} % beside the other process" in page


def test_what_the_hub_says_of_four_cameras() -> None:
    result = result_of("cameras-demo")
    scripted, still = result["scripted"], result["still"]
    page = words("docs/hub.md")
    scores = scripted["scores"].values()
    found, missed, twice, false, lost = (
        sum(score[key] for score in scores)
        for key in ("found", "missed", "twice", "false", "lost_to_gate")
    )
    assert scripted["seconds"] >= 1800 and scripted["rules"] == 24 and scripted["over_rtsp"]
    assert (missed, twice, lost) == (0, 0, 0)
    assert f"{found} of {found} beginnings were told, none twice, none lost" in page
    assert f"{false} more were told of what was not there" in page
    cuts = [(each["at_s"] + 1) % 30 for score in scores for each in score["false_ones"]]
    assert max(cuts) <= 1.1, "within a second of a cut"
    assert f"asked alone ({scripted['left_out']} were left out)" in page
    latency = scripted["latency_s"]["events"]
    at = [f"{latency[p]:.2f}" for p in ("p50", "p95", "p99")]
    assert "took {} s in the middle, {} at the 95th percentile and {} at".format(*at) in page
    growth = scripted["growth"]
    flat = ("hub_threads", "hub_descriptors", "engine_threads", "engine_descriptors")
    assert not any(growth[name]["grows"] for name in flat)
    hub, engine = growth["hub_resident_bytes"], growth["engine_resident_bytes"]
    assert not hub["grows"]
    mb = [f"{hub[key] / 1e6:.0f}" for key in ("first", "last")]
    rate, interval = (f"{hub[key] / 1e6:.1f}" for key in ("per_hour", "interval"))
    assert "memory ({} to {} MB) grew by {} MB an hour, give or take {}".format(
        *mb, rate, interval
    ) in page  # fmt: skip
    assert (
        f"the engine's ({engine['last'] / 1e6:.0f} MB) by {engine['per_hour'] / 1e6:.1f}." in page
    )
    assert still["share_of_engine"] < 0.02
    ungated = still["spent"]["ungated"]
    said = (
        f"cost the engine {100 * still['share_of_engine']:.1f} % of what",
        f"the gate's own {1000 * still['gate_s']:.1f} ms an answer it is "
        f"{100 * still['share_with_the_gates_own']:.1f} % here",
        f"a look takes {1000 * ungated['engine_s'] / ungated['windows']:.0f} ms",
    )
    assert all(each in page for each in said)


def test_how_quick_everybody_is_on_a_slice() -> None:
    result = result_of("peers-slice")
    page = words("docs/performance.md")
    assert not result["missing"]
    ours, tuned = result["ours"]
    shown = {ours: "miloco-edge, Q4_0 and BF16", tuned: "miloco-edge, `edge-x86`"}
    first, decode = {}, {}
    for each in result["contestants"]:
        name = each["name"]
        first[name] = each["first_token_s"]["p50"]["value"]
        decode[name] = each["decode_tokens_per_s"]["p50"]["value"]
        times, memory = each["first_token_times"][tuned]["value"], each["peak_resident_bytes"] / 1e9
        cells = f"{each['layout']} | {first[name]:.2f} s | {times:.2f} | {decode[name]:.1f}"
        assert f"| {shown.get(name, name)} | {cells} | {memory:.2f} GB |" in page
    theirs = "OpenVINO GenAI"
    times = [first[name] / first[theirs] for name in (tuned, ours)]
    assert "comes in {:.2f} of OpenVINO's time, with Q4_0 in {:.2f}".format(*times) in page
    assert times[0] < 1
    rates = [decode[name] / decode[theirs] for name in (tuned, ours)]
    said = "is {:.2f} times as fast as OpenVINO's with `edge-x86` and {:.2f} times with Q4_0"
    assert said.format(*rates) in page
    peaks = {each["name"]: each["peak_resident_bytes"] for each in result["contestants"]}
    held = {ours: "the same files", tuned: "tuned files"}
    most = max(
        peaks[name] / (result["file_bytes"][files] + result["kv_bytes"])
        for name, files in held.items()
    )
    assert f"up to {most:.2f} times files and KV cache" in page


def test_how_near_llama_bench_is() -> None:
    stages = result_of("beside-llama-bench-7b")["stages"]
    page = words("docs/performance.md")
    shares = {name: stage["share"] for name, stage in stages.items()}

    def said(name: str, of: str) -> str:
        return "{value:.2f} {of}({low:.2f} to {high:.2f})".format(of=of, **shares[name])

    assert "decode reached " + said("decode", "of llama-bench's rate at the same depth ") in page
    assert "prefill " + said("prefill", "") in page
    assert "the ViT " + said("vit", "of itself alone ") in page
    assert all(shares[name]["value"] >= stages[name]["wanted"] for name in shares)
