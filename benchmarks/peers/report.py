"""What was measured as JSON and as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.peers.contest import Record
from benchmarks.peers.request import Reading
from miloco_edge.evaluate.judge import plain
from miloco_edge.measure.plots import draw_bars
from miloco_edge.measure.statistics import Estimate, ratio_of_medians, summarise

REFERENCE = "transformers"
Document = dict[str, Any]


def document(records: Sequence[Record], ours: Sequence[str], about: Mapping[str, Any]) -> Document:
    """All figures and all samples. `ours` are the names that the others are compared with."""
    by_name = {record.contestant.name: record for record in records}
    return {
        **about,
        "contestants": [_one(record, by_name, ours) for record in records],
        "missing": [r.contestant.name for r in records if not r.readings],
    }


def _one(record: Record, by_name: Mapping[str, Record], ours: Sequence[str]) -> Document:
    who = record.contestant
    found: Document = {"name": who.name, "layout": who.layout, "files": who.files}
    if not record.readings:
        reason = who.missing or record.failed or "it had no turn"
        return {**found, "not_measured": reason, "about": dict(record.about)}
    first = [reading.first_token_s for reading in record.readings]
    rates = [rate for reading in record.decode if (rate := reading.tokens_per_s) is not None]
    found |= {
        "failed_later": record.failed,
        "first_token_s": asdict(summarise(first)),
        "total_s": asdict(summarise([reading.total_s for reading in record.readings])),
        "prompt_tokens": _median_of(record.readings, "prompt_tokens"),
        "decode_tokens_per_s": asdict(summarise(rates)) if rates else None,
        "decode_depth": _median_of(record.decode, "prompt_tokens"),
        "peak_resident_bytes": max(record.peak_bytes),
        "first_token_times": {
            name: asdict(
                ratio_of_medians(
                    np.array([r.first_token_s for r in by_name[name].readings]), np.array(first)
                )
            )
            for name in ours
            if by_name[name].readings
        },
        "same_answer": _agreement(record, by_name.get(REFERENCE)),
        "about": dict(record.about),
        "samples": [asdict(reading) for reading in record.readings],
        "decode_samples": [asdict(reading) for reading in record.decode],
        "peak_samples_bytes": record.peak_bytes,
    }
    shares = [r.own["python_share"] for r in record.readings if "python_share" in r.own]
    if shares:
        found["python_share"] = asdict(summarise(shares))
    return found


def _median_of(readings: Sequence[Reading], name: str) -> float | None:
    values = [value for r in readings if (value := getattr(r, name)) is not None]
    return median(values) if values else None


def _agreement(record: Record, reference: Record | None) -> Document | None:
    """How often the words are those of transformers, of the requests that both answered."""
    if reference is None or reference is record or not reference.readings:
        return None
    pairs = list(zip(record.readings, reference.readings, strict=False))
    same = sum(plain(mine.answer) == plain(theirs.answer) for mine, theirs in pairs)
    return {"same": same, "of": len(pairs)}


def markdown(found: Mapping[str, Any]) -> str:
    """The table, and beneath it who is missing and why."""
    ours = found["ours"]
    head = [
        "runtime", "frames as", "files", "first token, s", *(f"times {name}" for name in ours),
        "in all, s", "prompt tokens", "decode, tokens/s", "peak memory, GB",
        "answers as transformers",
    ]  # fmt: skip
    measured = [c for c in found["contestants"] if "samples" in c]
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [" | ".join(_row(each, ours)) for each in measured]
    lines = [f"| {line} |" for line in lines]
    lines += ["", *_notes(found, measured)]
    return "\n".join(lines) + "\n"


def plot(found: Mapping[str, Any]) -> Image.Image:
    """Seconds to the first token, the quickest first."""
    bars = {
        each["name"]: Estimate(**each["first_token_s"]["p50"])
        for each in found["contestants"]
        if "samples" in each
    }
    ordered = sorted(bars.items(), key=lambda item: item[1].value)
    return draw_bars("Seconds to the first token of the answer, models loaded", dict(ordered))


def _row(each: Mapping[str, Any], ours: Sequence[str]) -> list[str]:
    agreed = each["same_answer"]
    return [
        each["name"],
        each["layout"],
        each["files"],
        _estimate(each["first_token_s"]["p50"]),
        *(_estimate(each["first_token_times"].get(name)) for name in ours),
        _estimate(each["total_s"]["p50"]),
        "–" if each["prompt_tokens"] is None else f"{each['prompt_tokens']:.0f}",
        _estimate(each["decode_tokens_per_s"] and each["decode_tokens_per_s"]["p50"]),
        f"{each['peak_resident_bytes'] / 1e9:.2f}",
        "–" if agreed is None else f"{agreed['same']} of {agreed['of']}",
    ]


def _estimate(value: Mapping[str, float] | None) -> str:
    if value is None:
        return "–"
    return f"{value['value']:.3g} ({value['low']:.3g} to {value['high']:.3g})"


def _notes(found: Mapping[str, Any], measured: Sequence[Mapping[str, Any]]) -> list[str]:
    host = found["host"]
    every = found["contestants"]
    out = [
        f"{host['cpu']['model']}, {host['cores']} cores, {found['threads']} threads, "
        f"{host['date'][:10]}. Medians with 95 % bootstrap intervals; "
        f"{found['rounds']} rounds of {found['requests']} questions, everybody in turn.",
        "",
    ]
    depth = next((e["decode_depth"] for e in measured if e["decode_depth"] is not None), None)
    if depth is not None:
        out.append(f"Decode: {found['tokens']} tokens after the same {depth:.0f} of text.")
    for each in measured:
        if "python_share" in each:
            share = each["python_share"]["p50"]["value"]
            held = each["peak_resident_bytes"] / (
                found["file_bytes"][each["files"]] + found["kv_bytes"]
            )
            out.append(
                f"{each['name']}: {share:.2%} of its time outside llama.cpp; peak memory "
                f"{held:.2f} times its files and KV cache."
            )
        if each["failed_later"]:
            out.append(f"{each['name']} failed after {len(each['samples'])} answers.")
    absent = [each for each in every if "not_measured" in each]
    out.append(f"Not measured: {len(absent)} of {len(every)}.")
    out += [f"- {each['name']}: {each['not_measured']}" for each in absent]
    return out
