"""What a figure was measured on: goes into every result."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

ROOT = Path("/")
_PACKAGES = ("miloco-edge", "llama-cpp-python", "numpy", "opencv-python", "pillow")
_TELLING = ("avx2", "avx512", "avx_vnni", "amx", "f16c", "asimd", "i8mm", "bf16", "sve")


@dataclass(frozen=True)
class Host:
    """The machine and its software. Sizes in bytes, frequencies in Hz; None where not told."""

    kind: str
    """x86, arm, jetson or apple."""
    name: str | None
    """The board or product."""
    cpu: str
    cpu_flags: tuple[str, ...]
    """Those that kernels are chosen by."""
    physical_cores: int
    """That this process may use."""
    logical_cores: int
    memory_bytes: int | None
    gpus: tuple[str, ...]
    power_mode: str | None
    """nvpmodel's mode, or the CPU frequency governor."""
    max_frequency_hz: int | None
    system: str
    python: str
    versions: dict[str, str]


@dataclass(frozen=True)
class Thermal:
    """How warm the machine is, and how often its CPU has been slowed down for it since it began."""

    celsius: dict[str, float]
    throttled: int | None
    frequency_hz: int | None
    """Of the first core, now."""


def describe_host(root: Path = ROOT) -> Host:
    """This machine. `root` is where its /proc and /sys are."""
    cpu, flags = _cpu(root)
    logical = len(_allowed())
    return Host(
        kind=_kind(root),
        name=_text(root / "proc/device-tree/model")
        or _text(root / "sys/class/dmi/id/product_name")
        or _said("sysctl", "-n", "hw.model"),
        cpu=cpu,
        cpu_flags=tuple(sorted(flag for flag in flags if flag.startswith(_TELLING))),
        physical_cores=physical_cores(root),
        logical_cores=logical,
        memory_bytes=_memory(root),
        gpus=find_gpus(root),
        power_mode=_power_mode(root),
        max_frequency_hz=_kilohertz(root, "cpuinfo_max_freq"),
        system=platform.platform(),
        python=platform.python_version(),
        versions={name: version(name) for name in _PACKAGES},
    )


def thermal_state(root: Path = ROOT) -> Thermal:
    """Temperatures, and the kernel's counts of thermal throttling, where it has them."""
    celsius: dict[str, float] = {}
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        name, value = _text(zone / "type"), _number(zone / "temp")
        if name is not None and value is not None:
            celsius[name if name not in celsius else f"{name} {zone.name}"] = value / 1000
    counts = [
        count
        for path in (root / "sys/devices/system/cpu").glob(
            "cpu[0-9]*/thermal_throttle/*_throttle_count"
        )
        if (count := _number(path)) is not None
    ]
    return Thermal(celsius, sum(counts) if counts else None, _kilohertz(root, "scaling_cur_freq"))


def cpu_flags(root: Path = ROOT) -> frozenset[str]:
    """The CPU's features in the kernel's words; empty where it does not list them (macOS)."""
    return frozenset(_cpu(root)[1])


def physical_cores(root: Path = ROOT) -> int:
    """Cores that this process may use, hyper-threads of one core counted once."""
    cores = {
        _text(root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") or str(cpu)
        for cpu in _allowed()
    }
    return len(cores)


def find_gpus(root: Path = ROOT) -> tuple[str, ...]:
    """GPUs that the system shows, whether or not this build can use them."""
    makers = {"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel"}
    found = []
    for device in sorted((root / "sys/bus/pci/devices").glob("*")):
        maker = makers.get(_text(device / "vendor") or "")
        if maker and (_text(device / "class") or "").startswith("0x03"):
            found.append(f"{maker} {_text(device / 'device') or ''}".strip())
    if _kind(root) == "jetson":
        found.append("NVIDIA Tegra")
    if _kind(root) == "apple":
        found.append("Apple")
    return tuple(found)


def available_memory_bytes(root: Path = ROOT) -> int | None:
    """Memory that can be had without swapping; None where the system does not say."""
    found = re.search(r"MemAvailable:\s+(\d+) kB", _text(root / "proc/meminfo") or "")
    return int(found.group(1)) * 1024 if found else None


def peak_resident_bytes() -> int | None:
    """The most resident memory of this process since it began, mapped files included."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


def _kind(root: Path) -> str:
    machine = platform.machine().lower()
    if (root / "etc/nv_tegra_release").is_file():
        return "jetson"
    if platform.system() == "Darwin" and machine == "arm64":
        return "apple"
    return "arm" if machine in {"aarch64", "arm64"} else "x86"


def _cpu(root: Path) -> tuple[str, list[str]]:
    fields: dict[str, str] = {}
    for line in (_text(root / "proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    name = fields.get("model name") or _said("sysctl", "-n", "machdep.cpu.brand_string")
    return name or platform.machine(), fields.get("flags", fields.get("Features", "")).split()


def _memory(root: Path) -> int | None:
    found = re.search(r"MemTotal:\s+(\d+) kB", _text(root / "proc/meminfo") or "")
    if found:
        return int(found.group(1)) * 1024
    said = _said("sysctl", "-n", "hw.memsize")
    return int(said) if said else None


def _power_mode(root: Path) -> str | None:
    if _kind(root) == "jetson":
        found = re.search(r"NV Power Mode: (\S+)", _said("nvpmodel", "-q") or "")
        return found.group(1) if found else None
    return _text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def _kilohertz(root: Path, name: str) -> int | None:
    value = _number(root / "sys/devices/system/cpu/cpu0/cpufreq" / name)
    return None if value is None else value * 1000


def _allowed() -> Sequence[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return range(os.cpu_count() or 1)


def _text(path: Path) -> str | None:
    """What a file of the kernel's says; None where it is not there or may not be read."""
    try:
        return path.read_text("utf-8", "replace").strip("\0\n ") or None
    except OSError:
        return None


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text and re.fullmatch(r"-?\d+", text) else None


def _said(*command: str) -> str | None:
    """What a program of the system's says; None where there is none such."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
