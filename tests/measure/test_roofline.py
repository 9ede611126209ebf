from __future__ import annotations

import pytest

from miloco_edge.llama import VisionShape
from miloco_edge.measure import roofline
from miloco_edge.measure.facts import ModelFacts
from miloco_edge.measure.roofline import Machine, bandwidth, measure_machine, place, under_roof

FACTS = ModelFacts(
    text_bytes=500, mmproj_bytes=200, parameters=1200, text_type="Q4_0", vision_type="BF16",
    layers=2, width=8, layer_parameters=1000, token_bytes=400, kv_bytes=4,
    vision=VisionShape(layers=1, hidden=4, ffn=8),
)  # fmt: skip
MACHINE = Machine(threads=2, bandwidth=1000.0, text_flops=50_000.0, vision_flops=90_000.0)


def test_stages_under_the_roof() -> None:
    decode, prefill, vit = place(
        FACTS, MACHINE, token_s=1.0, prefill_s=10.0, vision_pair_s=2.0, visual_tokens=100,
        pair_tokens=50, depth=25,
    )  # fmt: skip
    # A token reads 400 bytes of weights and 25 * 4 of KV; it makes 2 * 1000 and 4 * 2 * 25 * 8.
    assert decode.intensity == (2000 + 1600) / 500
    assert decode.flops == 3600
    # At the memory's 1000 bytes a second 500 bytes take half a second, and it took one.
    assert decode.share == pytest.approx(0.5)
    assert prefill.flops == (2 * 1000 * 100 + 2 * 2 * 100**2 * 8) / 10
    assert prefill.roof == 50_000
    assert vit.flops == FACTS.vision.flops(50) / 2
    assert vit.roof == 90_000


def test_stages_that_were_not_measured_are_left_out() -> None:
    assert place(
        FACTS, MACHINE, token_s=None, prefill_s=None, vision_pair_s=None, visual_tokens=0,
        pair_tokens=0, depth=0,
    ) == []  # fmt: skip


def test_bandwidth_is_measured() -> None:
    assert bandwidth(2, nbytes=1 << 16) > 0


def test_the_machine_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Operations are two for each multiplication and addition, on all threads."""
    from miloco_edge.llama.kernels import KernelSpeed

    asked = []

    def speeds(types: list[str], *, repack: bool) -> dict[str, KernelSpeed]:
        asked.append((types, repack))
        return {type: KernelSpeed(3.0, 1.0) for type in types}

    monkeypatch.setattr(roofline, "kernel_speeds", speeds)
    monkeypatch.setattr(roofline, "bandwidth", lambda threads: 7.0 * threads)
    assert measure_machine(FACTS, 4, repack=True) == Machine(4, 28.0, 24e9, 24e9)
    assert asked == [(["Q4_0"], True), (["BF16"], False)]


def test_kernels_are_measured_as_the_weights_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile may have them repacked where the default would not, or the other way round."""
    asked = []

    def machine(facts: ModelFacts, threads: int, *, repack: bool) -> Machine:
        asked.append(repack)
        return MACHINE

    monkeypatch.setattr(roofline, "measure_machine", machine)
    document = {
        "model": {"file_type": "Q4_K_M"},
        "stages": {"warm": dict.fromkeys(("token_s", "prefill_s", "vision_pair_s"))},
        "samples": [{"visual_tokens": 0, "temporal_patches": 0, "prompt_tokens": 0}],
    }
    for repack in (True, False):
        under_roof({**document, "config": {"repack": repack}}, FACTS, 2)
    assert asked == [True, False]
