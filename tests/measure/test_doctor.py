from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
from click.testing import CliRunner, Result

from miloco_edge.cli import doctor
from miloco_edge.cli.output import Output
from miloco_edge.hub.settings import MqttSink
from miloco_edge.measure.checks import (
    FEATURES,
    build_features,
    check_build,
    check_clock,
    check_disk,
    check_gpu,
    check_memory,
    check_opencv,
    check_python,
    size,
)
from miloco_edge.measure.probe import Probed, probe, read_failure

CLIP = Path(__file__).parents[2] / "models" / "demo" / "ball.mp4"
AVX2 = "CPU : SSE3 = 1 | AVX = 1 | AVX2 = 1 | F16C = 1 | FMA = 1 | REPACK = 1 | "
PC = {"pni", "avx", "avx2", "f16c", "fma"}
GIB = 1 << 30


def said(kernels: str) -> Probed:
    return Probed({"kernels": kernels, "gpu_backend": None, "free_gpu_bytes": 0})


def test_python() -> None:
    assert check_python((3, 11, 0)).status == "ok"
    old = check_python((3, 10, 9))
    assert (old.status, old.found) == ("problem", "expected 3.11 or newer, got 3.10.9")
    assert old.fix and "3.11" in old.fix


def test_a_build_for_this_cpu() -> None:
    version, kernels = check_build(said(AVX2), PC, "0.3.36", "0.3.36")
    assert version.status == kernels.status == "ok"
    assert kernels.found == "SSE3, AVX, AVX2, F16C, FMA"


def test_a_build_for_a_newer_cpu_is_told_before_it_crashes() -> None:
    _, kernels = check_build(said(AVX2), PC - {"avx2"}, "0.3.36", "0.3.36")
    assert kernels.status == "problem" and "AVX2" in kernels.found
    assert kernels.fix and "--no-binary llama-cpp-python" in kernels.fix


def test_a_build_that_crashed_already() -> None:
    (finding,) = check_build(read_failure(-signal.SIGILL, ""), PC, "0.3.36", "0.3.36")
    assert finding.status == "problem" and "illegal instruction" in finding.found


def test_a_build_for_an_older_cpu_is_slow() -> None:
    _, kernels = check_build(said(AVX2), PC | {"avx512f", "avx512_vnni"}, "0.3.36", "0.3.36")
    assert kernels.status == "warning" and "AVX512, AVX512_VNNI" in kernels.found


def test_another_version_and_a_system_that_lists_no_features() -> None:
    version, kernels = check_build(said(AVX2), (), "0.3.30", "0.3.36")
    assert version.status == "warning" and "0.3.36" in (version.fix or "")
    assert kernels.status == "unknown"


def test_a_build_that_does_not_load() -> None:
    failed = read_failure(1, "Traceback\nOSError: libgomp.so.1: cannot open shared object file\n")
    (finding,) = check_build(failed, PC, "0.3.36", "0.3.36")
    assert finding.status == "problem" and "libgomp.so.1" in finding.found
    assert read_failure(3, "").error == "exit code 3"


def test_this_build_uses_nothing_that_this_cpu_lacks() -> None:
    probed = probe("llama")
    assert probed.said is not None
    assert set(build_features(probed.said["kernels"])) <= set(FEATURES)


@pytest.mark.parametrize(
    ("gpus", "backend", "status", "fix"),
    [
        ((), None, "ok", None),
        (("NVIDIA 0x2684",), "cuda", "ok", None),
        (("NVIDIA 0x2684",), None, "warning", "GGML_CUDA"),
        (("Intel 0x46d1", "AMD 0x164e"), None, "warning", "GGML_HIP"),
        (("Intel 0x46d1",), None, "ok", None),
        (("Apple",), None, "warning", "GGML_METAL"),
    ],
)
def test_a_gpu_that_lies_idle(
    gpus: tuple[str, ...], backend: str | None, status: str, fix: str | None
) -> None:
    finding = check_gpu(gpus, backend, "0.3.36")
    assert finding.status == status
    assert finding.fix is None if fix is None else fix in (finding.fix or "")


@pytest.mark.parametrize(
    ("available", "total", "status"),
    [(8, 16, "ok"), (4, 16, "warning"), (2, 4, "problem"), (None, None, "unknown")],
)
def test_memory(available: int | None, total: int | None, status: str) -> None:
    finding = check_memory(
        5 * GIB, GIB, *(None if size is None else size * GIB for size in (available, total))
    )
    assert finding.status == status
    assert "6.5 GiB" in finding.found
    assert bool(finding.fix) == (status in ("warning", "problem"))


def build(avcodec: str) -> Probed:
    return Probed({"version": "4.14.0", "build": f"  FFMPEG: YES\n    avcodec:   {avcodec}\n"})


@pytest.mark.parametrize(
    ("probed", "status", "word"),
    [
        (build("YES (62.28.102)"), "ok", "62.28.102"),
        (build("YES (61.19.101)"), "warning", "expected 62.28.102"),
        (build("NO"), "problem", "without FFmpeg"),
        (read_failure(1, "ImportError: libGL.so.1: cannot open"), "problem", "libGL"),
    ],
)
def test_opencv(probed: Probed, status: str, word: str) -> None:
    finding = check_opencv(probed)
    assert finding.status == status and word in finding.found
    assert bool(finding.fix) == (status != "ok")


@pytest.mark.parametrize("name", ["libGL.so.1", "libgthread-2.0.so.0", "libglib-2.0.so.0"])
def test_a_bare_machine_is_told_what_opencv_misses(name: str) -> None:
    finding = check_opencv(read_failure(1, f"ImportError: {name}: cannot open"))
    assert finding.fix is not None and "apt install libgl1 libglib2.0-0" in finding.fix


def test_the_clock() -> None:
    assert check_clock(1e9, 2e9, True).status == "problem"
    assert check_clock(2e9, 1e9, True).status == "ok"
    assert check_clock(2e9, 1e9, False).fix
    assert check_clock(2e9, 1e9, None).status == "unknown"


def test_the_disk() -> None:
    assert check_disk("/", 2 * GIB).status == "ok"
    assert "HF_HOME" in (check_disk("/", GIB // 2).fix or "")
    assert "journal.path" in (check_disk("/", 0, move="it elsewhere (journal.path)").fix or "")


def test_a_time_service_that_hangs_or_cannot_be_run_is_one_that_does_not_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda name: name)
    for error in (subprocess.TimeoutExpired("timedatectl", 10), OSError("no")):
        monkeypatch.setattr(doctor.subprocess, "run", Mock(side_effect=error))
        assert doctor._synchronized() is None


def test_a_cameras_password_is_not_shown() -> None:
    (finding,) = doctor._home(None, ("nowhere://admin:pa55word@porch.local/1",))
    assert finding.status == "problem"
    assert "pa55word" not in repr(finding) and "porch.local" in finding.name


def test_sizes_are_told_in_a_unit_that_shows_them() -> None:
    assert (size(5 * GIB // 2), size(20 << 20)) == ("2.5 GiB", "20 MiB")


def test_a_home_is_counted_and_its_folder_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("home.toml").write_text(
        f'[camera.film]\nsource = "{CLIP}"\n[rule.a]\ntext = "A"\n[rule.b]\ntext = "B"\n'
    )
    home, _, disk = doctor._home(Path("home.toml"), ())
    assert home.found == "1 camera, 2 rules"
    assert disk.found.endswith(f"free at the journal, {tmp_path.resolve()}")


def run(*args: object) -> Result:
    command = ["--json", *map(str, args)]
    return CliRunner().invoke(doctor.doctor_command, command, obj=Output(), catch_exceptions=False)


def test_the_command(pair: Path, tmp_path: Path) -> None:
    """One run looks at the model, a film as a camera and a broker."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        home = tmp_path / "home.toml"
        home.write_text(
            f'[camera.film]\nsource = "{CLIP}"\n'
            '[rule.reading]\ntext = "Someone is reading"\ncameras = ["film"]\nkind = "state"\n'
            f'[sink.here]\nkind = "mqtt"\nhost = "127.0.0.1"\nport = {server.getsockname()[1]}\n'
        )
        result = run("--model", pair, "--verify", "--config", home, "--camera", tmp_path / "none")
    document = json.loads(result.stdout)
    found = {finding["name"]: finding for finding in document["findings"]}
    assert found["model"]["status"] == "ok" and "checksums are right" in found["model"]["found"]
    assert found["camera film"]["status"] == "ok" and "448x252" in found["camera film"]["found"]
    assert found[f"camera {tmp_path / 'none'}"]["status"] == "problem"
    assert found["broker here"]["status"] == "problem", "it takes connections and says nothing"
    assert (document["ok"], result.exit_code) == (False, 1)
    for name in ("python", "llama.cpp", "kernels", "gpu", "video", "memory", "clock", "disk"):
        assert name in found


def test_a_model_that_is_not_there_is_a_problem_if_it_was_named(tmp_path: Path) -> None:
    (finding,) = doctor._model(str(tmp_path / "none.gguf"), False, loads=False)
    assert finding.status == "problem" and finding.fix


def test_a_broker() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    refused = doctor._broker(MqttSink("house", port=port))
    assert refused.status == "problem" and "mosquitto" in (refused.fix or "")
    assert "sink.house.password" in (refused.fix or "")


def test_a_broker_without_the_extra_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "miloco_edge.serve.mqtt_client", None)
    missing = doctor._broker(MqttSink("house"))
    assert missing.status == "problem" and missing.fix == "pip install 'miloco-edge[mqtt]'"
