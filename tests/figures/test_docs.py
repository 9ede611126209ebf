"""Figures of the other pages of docs/ are those of the results that they come from."""

from __future__ import annotations

import statistics

from tests.figures.pages import result_of, words


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
