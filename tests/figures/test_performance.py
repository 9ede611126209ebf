"""The figures of docs/performance.md are those of the results that they come from."""

from __future__ import annotations

from tests.figures.pages import ROOT, result_of, words


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
    assert in_readme in words("README.md")
    share = by_name[ours]["python_share"]["p50"]["value"]
    assert f"{100 * share:.2f} % of our time is spent outside llama.cpp" in page
    decode = [
        by_name[name]["decode_tokens_per_s"]["p50"]["value"] for name in (ours, "llama-mtmd-cli")
    ]
    assert "Decoding is not quicker: {:.1f} tokens a second, theirs {:.1f}".format(*decode) in page


def test_how_well_deadlines_are_kept() -> None:
    (half,) = result_of("deadlines-demo")["deadlines"]
    page = words("docs/performance.md")
    kept = f"{half['on_time']} of {half['windows']} windows, {half['real']} of them with a real"
    assert half["deadline_s"] == 0.5 and f"half a second was kept in {kept} answer" in page
    idle, busy = (half[of]["error"] for of in ("idle", "busy"))
    said = f"off by {100 * idle['p50']:.1f} % in the middle and {100 * idle['p95']:.1f} % at the"
    assert said in page
    assert f"and by {100 * busy['p95']:.1f} % beside the other process" in page


def test_how_well_deadlines_are_kept_by_a_7b() -> None:
    page = words("docs/performance.md")
    with_less = {each["deadline_s"]: each for each in result_of("deadlines-7b")["deadlines"]}
    (shortest,) = result_of("deadlines-7b-6s")["deadlines"]
    for seconds, each in {**with_less, 6: shortest}.items():
        idle, busy = each["idle"], each["busy"]
        real = " | ".join(f"{half['real']} of {half['windows']}" for half in (idle, busy))
        seen = " / ".join(f"{half['visual_tokens']['p50']:.0f}" for half in (idle, busy))
        error = idle["error"]
        off = "none was whole"
        if error is not None:
            off = " / ".join(f"{100 * error[p]:.0f}" for p in ("p50", "p95")) + " %"
        on_time = f"{each['on_time']} of {each['windows']}"
        assert f"| {seconds:g} s | {on_time} | {real} | {seen} | {off} |" in page
        assert each["on_time"] >= 0.98 * each["windows"]
    before = with_less[6]
    over_s = max(window["seconds"] for window in before["samples"]) - 6
    told = "{on_time} of {windows} windows of 6 s were on time".format(**before)
    assert f"{told}, the others up to {1000 * over_s:.0f} ms late" in page
    assert "{real} of {windows} had a real answer when idle".format(**before["idle"]) in page
    q4_0 = {each["deadline_s"]: each for each in result_of("deadlines-7b-q4_0")["deadlines"]}
    on_time = [q4_0[seconds]["on_time"] for seconds in (6, 12, 24)]
    answered = [q4_0[seconds]["real"] for seconds in (12, 24)]
    assert "{}, {} and {} of 60 were on time, {} and {} with".format(*on_time, *answered) in page
    errors = [100 * q4_0[seconds]["idle"]["error"]["p95"] for seconds in (12, 24)]
    assert "off by {:.0f} and {:.0f} % at the 95th percentile there".format(*errors) in page
    (again,) = result_of("deadlines-7b-q4_0-12s")["deadlines"]
    off = f"{100 * again['idle']['error']['p95']:.0f} %"
    told = "{on_time} of {windows} were on time and predictions off by {off}, but {real} had"
    assert told.format(**again, off=off) in page


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


def test_what_windows_that_overlap_save() -> None:
    windows = result_of("overlap-7b")["windows"]
    page = words("docs/performance.md")
    reused, streamed, live = (
        windows[name]["ratio"]["value"] for name in ("reused", "streamed", "still, live")
    )
    fresh_s = windows["fresh"]["first_token_s"]["p50"]["value"]
    assert f"window's first token came after {fresh_s:.1f} s, with two known pairs" in page
    assert f"known pairs in {reused:.2f} of that (0.85" in page
    assert f"streamed in {streamed:.2f} (0.45), and" in page
    assert f"live mode took {live:.2f} of exact mode's time" in page
    assert "with `edge-x86` 2.89 |" in page and f"that is {2.89 / live:.1f} times as" in page
    assert windows["reused"]["other_first_tokens"] == 0
