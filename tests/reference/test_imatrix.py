"""Our sums against transformers' own activations, and llama-quantize with our imatrix."""

from __future__ import annotations

import os
import subprocess
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.synthesize import TINY, synthesize
from miloco_edge import Clip, Engine
from miloco_edge.llama import ActivationSums, Observed
from quantize import quantize
from quantize.calibration import Showing, calibrate
from quantize.imatrix import read_imatrix, weights

pytestmark = pytest.mark.reference

QUESTION = "What is the person doing?"
OPENING = (
    "<|im_start|>system\nYou are MiMo, an AI assistant developed by Xiaomi.<|im_end|>\n"
    "<|im_start|>user\n<|vision_start|>"
)
TEXT_PARTS = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}  # fmt: skip
VISION_PARTS = {
    "attn.qkv": "attn_q attn_k attn_v", "attn.proj": "attn_out", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip


@dataclass(frozen=True)
class Both:
    """Mean squares by column of both sides, by modality and weight."""

    ours: Observed
    theirs: dict[tuple[str, str], NDArray[np.float64]]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    from tests.reference import transformers_oracle

    folder = tmp_path_factory.mktemp("imatrix")
    synthesize(folder / "tiny", TINY, seed=7)
    quantize(folder / "tiny", folder / "pair", recipe="bf16")
    y, x = np.mgrid[0:252, 0:448].astype(np.float32)
    pictures = [
        np.clip(127 + 120 * np.sin(np.stack([x, y, x + y], -1) * s + i), 0, 255).astype(np.uint8)
        for i, s in enumerate((0.01, 0.02, 0.03, 0.04))
    ]
    observer = ActivationSums()
    with Engine.load(folder / "pair", context=2048, observer=observer) as engine:
        engine.forget()
        observer.start()
        with engine.look(Clip.from_frames(pictures, fps=2.0)) as scene:
            scene.logits(QUESTION)
        ours = observer.take()
    checkpoint = transformers_oracle.load(folder / "tiny")
    seen = hook(checkpoint.model)
    media = "<|vision_start|><|video_pad|><|vision_end|>"
    transformers_oracle.theirs(checkpoint, QUESTION, media, {"video": [pictures]}, 2.0)
    visual = ours["visual", "blk.0.attn_q.weight"].rows
    prompt = checkpoint.tokenizer(OPENING, add_special_tokens=False).input_ids
    return Both(ours, their_means(seen, np.s_[len(prompt) : len(prompt) + visual]))


def hook(model: Any) -> dict[str, list[NDArray[np.float32]]]:
    """Record the input (rows, columns) of every linear layer by its name."""
    seen: dict[str, list[NDArray[np.float32]]] = defaultdict(list)

    def record(name: str) -> Any:
        def on_call(_: Any, inputs: tuple[Any, ...]) -> None:
            seen[name].append(inputs[0].detach().reshape(-1, inputs[0].shape[-1]).numpy())

        return on_call

    for name, module in model.named_modules():
        if type(module).__name__ == "Linear":
            module.register_forward_pre_hook(record(name))
    return seen


def their_means(
    seen: dict[str, list[NDArray[np.float32]]], visual: slice
) -> dict[tuple[str, str], NDArray[np.float64]]:
    """Mean squares by our names. The prompt is text, visual tokens in one stretch, text."""
    means: dict[tuple[str, str], NDArray[np.float64]] = {}

    def add(modality: str, name: str, rows: NDArray[np.float32]) -> None:
        means[modality, f"{name}.weight"] = (rows.astype(np.float64) ** 2).mean(axis=0)

    for name, calls in seen.items():
        rows = np.concatenate(calls) if "visual" in name.split(".") else calls[-1]
        parts = name.split(".")
        if "merger" in parts:
            add("visual", f"mm.{parts[-1]}", rows)
        elif "blocks" in parts:
            i = parts.index("blocks")
            for ours in VISION_PARTS[".".join(parts[i + 2 :])].split():
                add("visual", f"v.blk.{parts[i + 1]}.{ours}", rows)
        else:
            name = "output"
            if parts[-1] != "lm_head":
                i = parts.index("layers")
                name = f"blk.{parts[i + 1]}.{TEXT_PARTS['.'.join(parts[i + 2 :])]}"
            add("text", name, np.delete(rows, visual, axis=0))
            add("visual", name, rows[visual])
    return means


def test_sums_are_those_of_transformers(both: Both) -> None:
    """Every linear layer of both towers, text and visual rows apart."""
    only_theirs = both.theirs.keys() - both.ours.keys()
    assert {modality for modality, _ in only_theirs} == {"visual"}
    assert {name for _, name in only_theirs} == {
        f"{name}.weight" for name in ("blk.2.ffn_gate", "blk.2.ffn_up", "blk.2.ffn_down", "output")
    }
    assert not both.ours.keys() - both.theirs.keys()
    worst = 0.0
    for key, columns in both.ours.items():
        theirs = both.theirs[key]
        error = float(np.abs(columns.sums / columns.rows - theirs).max() / theirs.max())
        worst = max(worst, error)
        assert error < 0.01, key
    print(f"{len(both.ours)} weights: largest difference {worst:.5f} of a weight's largest column")


@pytest.fixture(scope="module")
def calibrated(pair: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    clips = tmp_path_factory.mktemp("clips")
    video = Path(__file__).parents[2] / "models" / "demo" / "ball.mp4"
    (clips / "ball.mp4").write_bytes(video.read_bytes())
    out = clips / "imatrix.gguf"
    calibrate(pair, out, clips=clips, showing=Showing(256, 8, 8), outputs=True, context=1024)
    return out


@pytest.mark.parametrize("kind", ["text", "mmproj"])
def test_llama_quantize_uses_it(pair: Path, calibrated: Path, tmp_path: Path, kind: str) -> None:
    """All weights change, and as much as the codec changes them with `weights`."""
    from quantize import codec

    tools = os.environ.get("MILOCO_EDGE_LLAMA_TOOLS")
    assert tools, "expected MILOCO_EDGE_LLAMA_TOOLS to name the folder of llama-quantize"
    source = next(p for p in pair.glob("*.gguf") if p.name.startswith("mmproj") == (kind != "text"))

    def llama_quantize(out: Path, *flags: object) -> dict[str, Any]:
        command = [Path(tools) / "llama-quantize", *flags, source, out, "q4_0", "1"]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return {tensor.name: tensor for tensor in gguf.GGUFReader(out).tensors}

    imatrix = read_imatrix(calibrated)
    before = llama_quantize(tmp_path / "without.gguf")
    after = llama_quantize(tmp_path / "with.gguf", "--imatrix", calibrated)
    original = {tensor.name: tensor for tensor in gguf.GGUFReader(source).tensors}
    known = imatrix.entries.keys() & after.keys()
    assert len(known) == (22 if kind == "text" else 30)
    for name in known:
        assert after[name].data.tobytes() != before[name].data.tobytes(), name
        type = codec.Type(after[name].tensor_type)
        values = gguf.dequantize(original[name].data, original[name].tensor_type)
        codec.prepare(type)
        ours = codec.encode(
            np.ascontiguousarray(values.reshape(-1), np.float32), type, values.shape[1],
            np.empty(after[name].n_bytes, np.uint8), weights(imatrix, name, values.shape[1]),
        )  # fmt: skip
        assert ours.tobytes() == after[name].data.tobytes(), name
    keys = gguf.GGUFReader(tmp_path / "with.gguf").fields
    assert keys["quantize.imatrix.dataset"].contents() == imatrix.datasets[0]
    assert keys["quantize.imatrix.entries_count"].contents() == len(imatrix.entries)


def test_our_files_equal_llama_quantizes_with_the_same_imatrix(
    checkpoint: Path, pair: Path, calibrated: Path, tmp_path: Path
) -> None:
    tools = os.environ.get("MILOCO_EDGE_LLAMA_TOOLS")
    assert tools, "expected MILOCO_EDGE_LLAMA_TOOLS to name the folder of llama-quantize"
    quantize(checkpoint, tmp_path, recipe="q4_k_m", mmproj_type="q4_k_m", imatrix=calibrated)
    mine = sorted(tmp_path.glob("*.gguf"))
    theirs = []
    for source in sorted(pair.glob("*.gguf")):
        theirs.append(tmp_path / f"theirs-{source.name}")
        command = [Path(tools) / "llama-quantize", "--imatrix", calibrated, source, theirs[-1]]
        subprocess.run([*map(str, command), "q4_k_m", "1"], capture_output=True, check=True)
    assert [p.read_bytes() for p in mine] == [p.read_bytes() for p in theirs]
