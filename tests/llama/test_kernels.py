"""Multiplying by weights of each type: right results, and rates that are numbers.

How fast a type is depends on the machine and on what else it does, so no test asks for that.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from miloco_edge.errors import EngineError
from miloco_edge.llama import kernels, offload
from quantize import codec
from quantize.codec import Type
from quantize.devices import CANDIDATES

random = np.random.default_rng(7)
WEIGHTS = random.standard_normal((64, 512), dtype=np.float32)
INPUTS = random.standard_normal((9, 512), dtype=np.float32)


def decoded(type: Type) -> np.ndarray:
    """The weights as they are after quantizing, by the pipeline's codec."""
    out = np.empty(WEIGHTS.nbytes, np.uint8)
    raw = codec.encode(WEIGHTS.reshape(-1), type, 512, out)
    return codec.decode(raw, type, np.empty(WEIGHTS.size, np.float32)).reshape(WEIGHTS.shape)


@pytest.mark.parametrize("repack", [False, True])
@pytest.mark.parametrize("type", CANDIDATES)
def test_products_are_those_of_the_decoded_weights(type: Type, repack: bool) -> None:
    expected = INPUTS @ decoded(type).T
    product = kernels.multiply(type.name, WEIGHTS, INPUTS, repack=repack)
    assert product.shape == (9, 64)
    error = np.linalg.norm(product - expected) / np.linalg.norm(expected)
    assert error < 0.02  # kernels round the inputs to eight bits
    one = kernels.multiply(type.name, WEIGHTS, INPUTS[:1], repack=repack)
    assert np.linalg.norm(one - expected[:1]) / np.linalg.norm(expected[:1]) < 0.02


@pytest.mark.parametrize("repack", [False, True])
def test_every_candidate_has_positive_rates(
    repack: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, value in (
        ("COLUMNS", 512), ("PREFILL_ROWS", 128), ("DECODE_ROWS", 128), ("_SECONDS", 0.0),
    ):  # fmt: skip
        monkeypatch.setattr(kernels, name, value)
    speeds = kernels.kernel_speeds([type.name for type in CANDIDATES], repack=repack)
    assert list(speeds) == [type.name for type in CANDIDATES]
    for speed in speeds.values():
        assert 0 < speed.prefill < math.inf
        assert 0 < speed.decode < math.inf
    assert capfd.readouterr() == ("", "")


def test_what_ggml_does_not_know_is_refused() -> None:
    with pytest.raises(EngineError, match="expected a type that ggml knows, got Q9_9"):
        kernels.kernel_speeds(["Q9_9"], repack=False)
    with pytest.raises(ValueError, match="expected a multiple of 256, got 96"):
        kernels.multiply("Q4_K", WEIGHTS[:, :96], INPUTS[:, :96], repack=False)


def test_a_failed_computation_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels._ggml(), "ggml_backend_graph_compute", lambda *_: 1)
    with pytest.raises(EngineError, match="got status 1"):
        kernels.multiply("Q4_0", WEIGHTS, INPUTS, repack=False)


def test_without_a_gpu_there_is_no_gpu_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offload.llama_cpp, "llama_supports_gpu_offload", lambda: False)
    assert offload.gpu_backend() is None
    assert offload.free_gpu_bytes() == 0
