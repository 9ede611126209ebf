"""Energy from whatever sensor the machine has; none is estimated.

| sensor | what it counts | ours |
|---|---|---|
| RAPL (powercap) | the CPU package's own counter, not the wall | not run by us |
| nvidia-smi (NVML) | the GPU board | not run by us |
| tegrastats (INA3221) | a Jetson's input, VDD_IN | not run by us |
| powermetrics | Apple's CPU, GPU and ANE | not run by us |

"Not run by us" means that its reader is tested on recorded or documented samples alone.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Protocol

POWERCAP = Path("/sys/class/powercap")
_FIRST_SAMPLE_S = 5.0


@dataclass(frozen=True)
class Energy:
    """What a stretch of time took."""

    sensor: str
    joules: float
    seconds: float


class Meter(Protocol):
    """Something that counts energy."""

    @property
    def sensor(self) -> str:
        """What it reads, in the words of a report."""
        ...

    def start(self) -> None:
        """Begin from zero."""
        ...

    def stop(self) -> Energy | None:
        """What was used since `start`; None where the sensor said too little."""
        ...

    def close(self) -> None:
        """Leave the sensor; a second call does nothing."""
        ...


class Rapl:
    """Counters of CPU packages in microjoules, which begin again at a stated range.

    Documentation/power/powercap/powercap.rst of Linux. Readable by root alone on most systems.
    """

    sensor = "RAPL, CPU packages (not the wall)"

    def __init__(self, folder: Path = POWERCAP) -> None:
        """Raise OSError where no package can be read."""
        self._zones = [
            (zone / "energy_uj", int((zone / "max_energy_range_uj").read_text()))
            for zone in sorted(folder.glob("intel-rapl:*"))
            if zone.name.count(":") == 1  # packages, not their parts
        ]
        if not self._zones:
            raise FileNotFoundError(f"expected packages in {folder}, found none")
        self._counts = self._read()
        self._began = time.monotonic()

    def start(self) -> None:
        """Begin from zero."""
        self._counts, self._began = self._read(), time.monotonic()

    def stop(self) -> Energy | None:
        """What was used since; right as long as no counter went round twice."""
        seconds, counts = time.monotonic() - self._began, self._read()
        used = sum(
            (after - before) % (limit + 1)
            for (_, limit), before, after in zip(self._zones, self._counts, counts, strict=True)
        )
        return Energy(self.sensor, used / 1e6, seconds)

    def close(self) -> None:
        """There is nothing to leave."""

    def _read(self) -> list[int]:
        return [int(path.read_text()) for path, _ in self._zones]


class Sampled:
    """A program that prints the power again and again, integrated by trapezoids."""

    def __init__(
        self, sensor: str, command: Sequence[str], watts: Callable[[str], float | None]
    ) -> None:
        """Start the program. `watts` reads one line of it, None where it has no power in it.

        Raises OSError where it does not start or says nothing.
        """
        self.sensor = sensor
        self._points: list[tuple[float, float]] = []
        self._spoke = threading.Event()
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._reader = threading.Thread(target=self._listen, args=(watts,), daemon=True)
        self._reader.start()
        self._spoke.wait(_FIRST_SAMPLE_S)
        if not self._points:
            self.close()
            raise OSError(f"expected {command[0]} to print the power, got nothing")

    def start(self) -> None:
        """Begin from zero."""
        self._points.clear()
        self._began = time.monotonic()

    def stop(self) -> Energy | None:
        """What was used since, or None where fewer than two lines came meanwhile."""
        seconds = time.monotonic() - self._began
        joules = integrate(list(self._points), seconds)
        return None if joules is None else Energy(self.sensor, joules, seconds)

    def close(self) -> None:
        """End the program; a second call does nothing."""
        self._process.terminate()
        self._process.wait()
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _listen(self, watts: Callable[[str], float | None]) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            value = watts(line)
            if value is not None:
                self._points.append((time.monotonic(), value))
                self._spoke.set()
        self._spoke.set()  # it ended


def integrate(points: Sequence[tuple[float, float]], seconds: float) -> float | None:
    """Joules in `seconds` from (time, watts): their mean over the time that they span."""
    if len(points) < 2:
        return None
    area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(points))
    return area / (points[-1][0] - points[0][0]) * seconds


def tegrastats_watts(line: str) -> float | None:
    """The board's input power in a line of tegrastats: `VDD_IN 5060mW/5012mW`, now and mean.

    Older ones leave the unit out, AGX Xavier and TX2 call the rail otherwise.
    """
    found = re.search(r"\b(?:VDD_IN|POM_5V_IN|5V_IN) (\d+)(?:mW)?/\d+", line)
    if found is None:  # AGX boards measure by part
        rails = re.findall(r"\b(?:VDD_GPU_SOC|VDD_CPU_CV|VIN_SYS_5V0) (\d+)(?:mW)?/\d+", line)
        return sum(map(int, rails)) / 1000 if rails else None
    return int(found.group(1)) / 1000


def nvidia_smi_watts(line: str) -> float | None:
    """A line of `nvidia-smi --query-gpu=power.draw --format=csv,noheader,nounits`."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*", line)
    return float(found.group(1)) if found else None


def powermetrics_watts(line: str) -> float | None:
    """`Combined Power (CPU + GPU + ANE): 1234 mW` of powermetrics --samplers cpu_power."""
    found = re.match(r"Combined Power \(CPU \+ GPU \+ ANE\): (\d+) mW", line)
    return int(found.group(1)) / 1000 if found else None


def find_meter(folder: Path = POWERCAP) -> tuple[Meter | None, str]:
    """A meter that works here, and its sensor; else None, and why.

    The first is the one that sees most of the machine.
    """
    makes: list[Callable[[], Meter]] = [
        partial(Sampled, sensor, command, watts)
        for sensor, command, watts in _PROGRAMS
        if shutil.which(command[0])
    ]
    reasons = []
    makes.append(partial(Rapl, folder))
    for make in makes:
        try:
            meter = make()
        except (OSError, ValueError) as error:
            reasons.append(str(error))
        else:
            return meter, meter.sensor
    return None, "; ".join(reasons)


_PROGRAMS: tuple[tuple[str, tuple[str, ...], Callable[[str], float | None]], ...] = (
    ("tegrastats, VDD_IN", ("tegrastats", "--interval", "100"), tegrastats_watts),
    (
        "nvidia-smi, first GPU (not the wall)",
        ("nvidia-smi", "--id=0", "--query-gpu=power.draw", "--format=csv,noheader,nounits",
         "--loop-ms=100"),
        nvidia_smi_watts,
    ),
    (
        "powermetrics, CPU + GPU + ANE (not the wall)",
        ("powermetrics", "--samplers", "cpu_power", "--sample-rate", "200"),
        powermetrics_watts,
    ),
)  # fmt: skip
