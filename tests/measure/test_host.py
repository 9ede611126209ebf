from __future__ import annotations

from pathlib import Path

import pytest

from miloco_edge.measure.host import (
    available_memory_bytes,
    cpu_flags,
    describe_host,
    find_gpus,
    physical_cores,
    thermal_state,
)


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_jetson(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3",
            "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
            "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd i8mm bf16\n",
            "proc/meminfo": "MemTotal:        7802880 kB\nMemAvailable:    6000000 kB\n",
        },
    )
    host = describe_host(tmp_path)
    assert (host.kind, host.name) == ("jetson", "NVIDIA Jetson Orin Nano Developer Kit")
    assert host.cpu_flags == ("asimd", "bf16", "i8mm")
    assert host.memory_bytes == 7802880 * 1024
    assert host.gpus == ("NVIDIA Tegra",)
    assert available_memory_bytes(tmp_path) == 6000000 * 1024


def test_a_pc_with_a_card(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "proc/cpuinfo": "model name\t: Intel(R) N100\nflags\t\t: fpu avx2 avx_vnni f16c\n",
            "sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n",
            "sys/bus/pci/devices/0000:01:00.0/class": "0x030000\n",
            "sys/bus/pci/devices/0000:01:00.0/device": "0x2684\n",
            "sys/bus/pci/devices/0000:00:1f.0/vendor": "0x8086\n",
            "sys/bus/pci/devices/0000:00:1f.0/class": "0x060100\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
            "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "3400000\n",
        },
    )
    host = describe_host(tmp_path)
    assert host.cpu == "Intel(R) N100"
    assert cpu_flags(tmp_path) == {"fpu", "avx2", "avx_vnni", "f16c"}
    assert find_gpus(tmp_path) == ("NVIDIA 0x2684",)
    assert (host.power_mode, host.max_frequency_hz) == ("powersave", 3_400_000_000)


def test_hyper_threads_are_one_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("miloco_edge.measure.host._allowed", lambda: range(4))
    for cpu in range(4):
        where = f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        write(tmp_path, {where: f"{cpu % 2},{cpu % 2 + 2}\n"})
    assert physical_cores(tmp_path) == 2


def test_heat_and_throttling(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "sys/class/thermal/thermal_zone0/type": "x86_pkg_temp\n",
            "sys/class/thermal/thermal_zone0/temp": "61000\n",
            "sys/class/thermal/thermal_zone1/type": "x86_pkg_temp\n",
            "sys/class/thermal/thermal_zone1/temp": "-1500\n",
            "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "3\n",
            "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": "4\n",
        },
    )
    thermal = thermal_state(tmp_path)
    assert thermal.celsius == {"x86_pkg_temp": 61.0, "x86_pkg_temp thermal_zone1": -1.5}
    assert thermal.throttled == 7


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    thermal = thermal_state(tmp_path)
    assert (thermal.celsius, thermal.throttled, thermal.frequency_hz) == ({}, None, None)
    assert find_gpus(tmp_path) == ()
    assert available_memory_bytes(tmp_path) is None


def test_this_machine() -> None:
    host = describe_host()
    assert 1 <= host.physical_cores <= host.logical_cores
    assert host.versions["llama-cpp-python"]
