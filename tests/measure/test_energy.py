"""Readers of power sensors, on lines as those programs print them: none of them was run by us."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from miloco_edge.measure.energy import (
    Rapl,
    Sampled,
    find_meter,
    integrate,
    nvidia_smi_watts,
    powermetrics_watts,
    tegrastats_watts,
)

# Orin Nano, JetPack 6; and an AGX Xavier, JetPack 4 (developer forums of NVIDIA).
ORIN = (
    "11-21-2026 10:12:01 RAM 3411/7620MB (lfb 4x2MB) SWAP 0/3810MB (cached 0MB) CPU "
    "[12%@1510,9%@1510,8%@1510,10%@1510,0%@729,0%@729] EMC_FREQ 5%@2133 GR3D_FREQ 61%@[624] "
    "cpu@48.2C soc2@47.4C soc0@47.1C gpu@48.6C tj@48.6C soc1@47.6C VDD_IN 7245mW/6890mW "
    "VDD_CPU_GPU_CV 2305mW/2103mW VDD_SOC 1902mW/1850mW"
)
NANO = "RAM 2035/3964MB (lfb 30x4MB) IRAM 0/252kB CPU [9%@1479] POM_5V_IN 3117/3117 POM_5V_GPU 0/0"
AGX = "RAM 5/31927MB CPU [1%@1190] VDD_GPU_SOC 2396mW/2396mW VDD_CPU_CV 399mW/399mW VIN_SYS_5V0 2420mW/2420mW"  # noqa: E501


@pytest.mark.parametrize(("line", "watts"), [(ORIN, 7.245), (NANO, 3.117), (AGX, 5.215)])
def test_tegrastats(line: str, watts: float) -> None:
    assert tegrastats_watts(line) == pytest.approx(watts)


def test_tegrastats_without_power() -> None:
    assert tegrastats_watts("RAM 2035/3964MB (lfb 30x4MB) CPU [9%@1479]") is None


def test_nvidia_smi() -> None:
    assert nvidia_smi_watts("71.35\n") == 71.35
    assert nvidia_smi_watts("[N/A]\n") is None


def test_powermetrics() -> None:
    assert powermetrics_watts("Combined Power (CPU + GPU + ANE): 4312 mW\n") == 4.312
    assert powermetrics_watts("CPU Power: 3010 mW\n") is None


def test_power_is_integrated_by_trapezoids_over_the_whole_time() -> None:
    assert integrate([(0.0, 10.0), (1.0, 20.0), (3.0, 20.0)], 3.0) == pytest.approx(55.0)
    assert integrate([(0.5, 8.0), (1.5, 8.0)], 4.0) == pytest.approx(32.0)
    assert integrate([(0.0, 10.0)], 1.0) is None


def _packages(folder: Path, *counts: int) -> None:
    for i, count in enumerate(counts):
        zone = folder / f"intel-rapl:{i}"
        zone.mkdir(exist_ok=True)
        (zone / "max_energy_range_uj").write_text("999999\n")
        (zone / "energy_uj").write_text(f"{count}\n")
        part = folder / f"intel-rapl:{i}:0"  # a part of the package: not counted twice
        part.mkdir(exist_ok=True)
        (part / "max_energy_range_uj").write_text("999999\n")
        (part / "energy_uj").write_text("123\n")


def test_rapl_adds_packages_and_goes_round(tmp_path: Path) -> None:
    _packages(tmp_path, 900_000, 100)
    meter = Rapl(tmp_path)
    meter.start()
    _packages(tmp_path, 50_000, 600)
    energy = meter.stop()
    assert energy is not None
    assert energy.joules == pytest.approx((150_000 + 500) / 1e6)


def test_no_sensor_is_said_and_nothing_guessed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    meter, why = find_meter(tmp_path)
    assert meter is None
    assert "found none" in why


def test_a_program_that_prints_power() -> None:
    script = "import time\nwhile True: print('5.0', flush=True); time.sleep(0.01)"
    meter = Sampled("test", [sys.executable, "-c", script], nvidia_smi_watts)
    meter.start()
    time.sleep(0.3)
    energy = meter.stop()
    meter.close()
    meter.close()
    assert energy is not None
    assert energy.joules / energy.seconds == pytest.approx(5.0)


def test_a_program_that_ends_without_a_word() -> None:
    with pytest.raises(OSError, match="to print the power, got nothing"):
        Sampled("test", [sys.executable, "-c", ""], nvidia_smi_watts)
