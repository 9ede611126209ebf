"""What a figure was measured on: goes into every file of benchmarks/results."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any


def describe_host() -> dict[str, Any]:
    """CPU, memory, system and versions, as JSON values. Sizes in bytes."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {
            name: version(name)
            for name in ("miloco-edge", "llama-cpp-python", "numpy", "opencv-python", "pillow")
        },
        "llama_cpp": _llama_cpp(),
    }


def _cpu() -> dict[str, Any]:
    fields: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    flags = fields.get("flags", fields.get("Features", "")).split()
    telling = ("avx2", "avx512", "avx_vnni", "amx", "f16c", "asimd", "i8mm", "bf16", "sve")
    return {
        "model": fields.get("model name", platform.machine()),
        "flags": sorted(f for f in flags if f.startswith(telling)),
    }


def _llama_cpp() -> str:
    from miloco_edge.llama import system_info

    return system_info()
