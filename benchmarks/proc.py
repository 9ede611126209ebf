"""What a process holds and has spent, as Linux tells it (proc(5))."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

PID = int | Literal["self"]


def held(pid: PID = "self") -> dict[str, int]:
    """Resident memory (mapped files included), threads and open descriptors.

    Nothing for a process that has ended and that nobody has waited for yet.
    """
    status = _status(pid)
    if "VmRSS" not in status:
        return {}
    return {
        "resident_bytes": int(status["VmRSS"].split()[0]) * 1024,
        "threads": int(status["Threads"]),
        "descriptors": len(list(Path(f"/proc/{pid}/fd").iterdir())),
    }


def peak_resident_bytes(pid: PID = "self") -> int:
    """The most resident memory since it began. Raises OSError for a process that is gone."""
    status = _status(pid)
    if "VmHWM" not in status:
        raise ProcessLookupError(f"expected a living process, got {pid}")
    return int(status["VmHWM"].split()[0]) * 1024


def cpu_s(pid: PID = "self") -> float:
    """CPU seconds of all its threads so far, without those of its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _status(pid: PID) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)
