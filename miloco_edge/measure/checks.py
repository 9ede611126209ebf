"""What works on this machine, from facts that others gathered: each finding with its fix."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from miloco_edge.measure.probe import Probed

Status = Literal["ok", "warning", "problem", "unknown"]

LEAST_PYTHON = (3, 11)
LEAST_AVCODEC = (62, 28, 102)
"""FFmpeg 8.1.2's: cameras are not to be trusted, and older ones have known holes."""
_LEAST_FREE_DISK = 1 << 30
_BUFFERS = 0.1
"""Of the weights, for compute buffers."""

# What llama.cpp calls a CPU feature that a build was compiled for (ggml-cpu), and Linux calls it.
FEATURES = {
    "SSE3": "pni", "SSSE3": "ssse3", "AVX": "avx", "AVX_VNNI": "avx_vnni", "AVX2": "avx2",
    "F16C": "f16c", "FMA": "fma", "BMI2": "bmi2", "AVX512": "avx512f",
    "AVX512_VBMI": "avx512vbmi", "AVX512_VNNI": "avx512_vnni", "AVX512_BF16": "avx512_bf16",
    "AMX_INT8": "amx_int8", "NEON": "asimd", "FP16_VA": "asimdhp", "DOTPROD": "asimddp",
    "MATMUL_INT8": "i8mm", "SVE": "sve", "SME": "sme",
}  # fmt: skip
# Those that make it much quicker, so that a build without them is worth doing again.
_WORTH = ("AVX2", "AVX_VNNI", "AVX512", "AVX512_VNNI", "AVX512_BF16", "DOTPROD", "MATMUL_INT8")
_BACKENDS = {"NVIDIA": "GGML_CUDA", "AMD": "GGML_HIP", "Apple": "GGML_METAL"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    status: Status
    found: str
    fix: str | None = None
    """The next thing to do, where there is one."""


def check_python(version: Sequence[int]) -> Finding:
    """Whether this Python is new enough."""
    said = ".".join(map(str, version[:3]))
    if tuple(version[:2]) < LEAST_PYTHON:
        least = ".".join(map(str, LEAST_PYTHON))
        return Finding(
            "python", "problem", f"expected {least} or newer, got {said}",
            f"install Python {least} and make the environment again",
        )  # fmt: skip
    return Finding("python", "ok", said)


def check_build(probed: Probed, cpu: Collection[str], version: str, wanted: str) -> list[Finding]:
    """Whether llama.cpp runs here, is the version that we are made for, and knows this CPU."""
    again = reinstall(wanted)
    name = "llama.cpp"
    if probed.illegal_instruction:
        return [
            Finding(
                name, "problem",
                "expected a build for this CPU, got an illegal instruction: it was compiled for a "
                "newer one",
                again,
            )
        ]  # fmt: skip
    if probed.said is None:
        return [Finding(name, "problem", f"it does not load: {probed.error}", again)]
    findings = [Finding(name, "ok", f"llama-cpp-python {version}")]
    if version != wanted:
        findings = [Finding(name, "warning", f"expected {wanted}, got {version}", again)]
    built = build_features(probed.said["kernels"])
    if not cpu:
        found = f"{', '.join(built) or 'none'}; this system does not list its CPU's features"
        return [*findings, Finding("kernels", "unknown", found)]
    missing = [feature for feature in built if FEATURES[feature] not in cpu]
    unused = [f for f in _WORTH if f not in built and FEATURES[f] in cpu]
    if missing:
        found = f"expected a CPU with {', '.join(missing)}, which the build uses"
        return [*findings, Finding("kernels", "problem", found, again)]
    if unused:
        found = f"this CPU has {', '.join(unused)}, which the build does not use: it is slower"
        return [*findings, Finding("kernels", "warning", found, again)]
    return [*findings, Finding("kernels", "ok", ", ".join(built) or "generic")]


def build_features(kernels: str) -> list[str]:
    """The CPU features that a build was compiled for, off llama.cpp's system info."""
    return [name for name in re.findall(r"(\w+) = 1", kernels) if name in FEATURES]


def reinstall(version: str, flag: str | None = None) -> str:
    """How to compile llama.cpp for this machine."""
    flags = f'CMAKE_ARGS="-D{flag}=on" ' if flag else ""
    return (
        f"{flags}pip install --force-reinstall --no-deps --no-cache-dir "
        f"--no-binary llama-cpp-python llama-cpp-python=={version}"
    )


def check_gpu(gpus: Sequence[str], backend: str | None, wanted: str) -> Finding:
    """Whether a GPU lies idle since the build cannot use it."""
    seen = ", ".join(gpus)
    if backend is not None:
        return Finding("gpu", "ok", f"{seen or 'one'} through {backend}")
    if not gpus:
        return Finding("gpu", "ok", "none; the CPU computes")
    maker = next((gpu.split()[0] for gpu in gpus if gpu.split()[0] in _BACKENDS), None)
    if maker is None:
        return Finding("gpu", "ok", f"{seen} is not used; the CPU computes")
    return Finding(
        "gpu", "warning", f"{seen} is there, and this build of llama.cpp computes on the CPU alone",
        reinstall(wanted, _BACKENDS[maker]),
    )  # fmt: skip


def check_memory(
    weight_bytes: int, kv_bytes: int, available_bytes: int | None, total_bytes: int | None
) -> Finding:
    """Whether a model's weights and its KV cache fit."""
    needed = int(weight_bytes * (1 + _BUFFERS)) + kv_bytes
    if available_bytes is None or total_bytes is None:
        return Finding("memory", "unknown", f"the model takes {size(needed)}")
    found = (
        f"the model takes {size(needed)} of {size(total_bytes)}, {size(available_bytes)} are free"
    )
    smaller = "quantize it smaller (`miloco-edge quantize --budget`), or lower --context"
    if needed > total_bytes:
        return Finding("memory", "problem", found, smaller)
    if needed > available_bytes:
        return Finding("memory", "warning", found, f"close other programs, or {smaller}")
    return Finding("memory", "ok", found)


def check_opencv(probed: Probed) -> Finding:
    """Whether OpenCV decodes video, with an FFmpeg without known holes."""
    name = "video"
    if probed.said is None:
        fix = "reinstall opencv-python"
        if any(each in (probed.error or "") for each in ("libGL", "libgthread", "libglib")):
            fix = "apt install libgl1 libglib2.0-0, or install opencv-python-headless instead"
        return Finding(name, "problem", f"OpenCV does not load: {probed.error}", fix)
    version, build = probed.said["version"], probed.said["build"]
    found = re.search(r"avcodec:\s+YES \((\d+)\.(\d+)\.(\d+)\)", build)
    fix = 'pip install --upgrade "opencv-python>=4.14.0.94,<5"'
    if found is None:
        said = f"OpenCV {version} was built without FFmpeg, so no film can be read"
        return Finding(name, "problem", said, fix)
    avcodec = tuple(map(int, found.groups()))
    said = f"OpenCV {version} with libavcodec {'.'.join(found.groups())}"
    if avcodec < LEAST_AVCODEC:
        least = ".".join(map(str, LEAST_AVCODEC))
        return Finding(name, "warning", f"{said}, expected {least} or newer", fix)
    return Finding(name, "ok", said)


def check_clock(now_s: float, installed_s: float, synchronized: bool | None) -> Finding:
    """Whether the time of day can be right: schedules and events are told by it."""
    fix = "turn time synchronization on: `timedatectl set-ntp true`"
    if now_s < installed_s - 86400:
        return Finding("clock", "problem", "it is set to before this program was installed", fix)
    if synchronized is None:
        return Finding("clock", "unknown", "this system does not say whether it is synchronized")
    if not synchronized:
        return Finding("clock", "warning", "it is not synchronized", fix)
    return Finding("clock", "ok", "synchronized")


def check_disk(where: str, free_bytes: int, move: str = "models elsewhere with HF_HOME") -> Finding:
    """Whether there is room for models, the journal and temporary files; `move` is a way out."""
    if free_bytes < _LEAST_FREE_DISK:
        return Finding(
            "disk", "warning", f"{size(free_bytes)} are free at {where}",
            f"free some space, or put {move}",
        )  # fmt: skip
    return Finding("disk", "ok", f"{size(free_bytes)} are free at {where}")


def size(nbytes: int) -> str:
    """A size for a person: in GiB, and in MiB where it is less than one."""
    return f"{nbytes / 2**30:.1f} GiB" if nbytes >= 1 << 30 else f"{nbytes / 2**20:.0f} MiB"
