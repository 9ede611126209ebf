"""A device profile: how a model is best loaded on this machine, and the figures that say so.

One JSON file for each model and machine, in the folder MILOCO_EDGE_PROFILES, else in
~/.config/miloco-edge/profiles.
A profile of another CPU, build of llama.cpp, or file of weights is not found: its name is made of
them.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from miloco_edge.engine.rates import Figure, Rates
from miloco_edge.errors import ManifestError
from miloco_edge.llama import system_info
from miloco_edge.llama.offload import gpu_backend
from miloco_edge.registry.whole import write_whole

SCHEMA = 1


@dataclass(frozen=True)
class Machine:
    """What a profile is good for."""

    cpu: str
    cores: int
    """Physical ones that the process may use."""
    backend: str | None
    """Of the GPU; None where the CPU computes."""
    kernels: str
    """Of this build of llama.cpp."""
    text: str
    """The text model's file name."""
    text_bytes: int


@dataclass(frozen=True)
class Tried:
    """One value of a setting, measured."""

    value: Any
    seconds: tuple[float, ...]
    """Of each window."""


@dataclass(frozen=True)
class Choice:
    """A setting that was tried, and what was chosen."""

    setting: str
    tried: tuple[Tried, ...]
    """The first is what was held until then."""
    chosen: Any
    ratio: float
    """Median of the chosen value's seconds to the first one's."""
    why: str


@dataclass(frozen=True)
class Profile:
    """How to load a model here."""

    machine: Machine
    load: Mapping[str, Any]
    """Options of Engine.load; those that stayed at their default are left out."""
    choices: tuple[Choice, ...]
    figures: tuple[Figure, ...]
    """How long each stage took with the chosen settings, by its size."""
    rates: Rates | None
    """What fits the figures: deadlines are planned by it. None where nothing was measured."""
    time: str
    """RFC 3339, when it was measured."""
    mmproj: tuple[str, int] | None = None
    """The vision encoder that the figures are of, as `named` has it."""


def named(file: Path) -> tuple[str, int]:
    """A file's name and bytes, which tell it from the others that fit a model."""
    return file.name, file.stat().st_size


def this_machine(text: Path) -> Machine:
    """This machine with the text model in `text`."""
    return Machine(
        cpu_name(), physical_cores(), gpu_backend(), system_info(), text.name, text.stat().st_size
    )


def cpu_name() -> str:
    """The CPU as the kernel calls it, else its architecture."""
    info = Path("/proc/cpuinfo")
    text = info.read_text("utf-8", "replace") if info.is_file() else ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else platform.processor() or platform.machine()


def physical_cores() -> int:
    """Cores this process may use, without counting hyper-threads twice where Linux tells."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    if allowed is None:
        return os.cpu_count() or 1
    cores = set()
    for cpu in allowed:
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        cores.add(siblings.read_text() if siblings.is_file() else str(cpu))
    return len(cores)


def profiles_folder() -> Path:
    """Where profiles are kept."""
    named = os.environ.get("MILOCO_EDGE_PROFILES")
    return Path(named) if named else Path.home() / ".config" / "miloco-edge" / "profiles"


def profile_path(machine: Machine) -> Path:
    """The file of a machine's profile, whether or not it is there."""
    told = json.dumps(asdict(machine), sort_keys=True).encode()
    digest = hashlib.sha256(told).hexdigest()[:12]
    return profiles_folder() / f"{Path(machine.text).stem}-{digest}.json"


def write_profile(profile: Profile, path: Path) -> None:
    """Write it whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"schema": SCHEMA, **asdict(profile)}
    write_whole(path, json.dumps(document, ensure_ascii=False, indent=1) + "\n")


def read_profile(path: Path) -> Profile | None:
    """The profile in a file; None where there is no such file.

    Raises ManifestError where it is not a profile.
    """
    try:
        document = json.loads(path.read_bytes())
        if document["schema"] != SCHEMA:
            raise ValueError(f"schema {document['schema']}")
        return Profile(
            machine=Machine(**document["machine"]),
            load=dict(document["load"]),
            choices=tuple(_choice(choice) for choice in document["choices"]),
            figures=tuple(_figure(figure) for figure in document["figures"]),
            rates=None if document["rates"] is None else Rates.from_plain(document["rates"]),
            time=document["time"],
            mmproj=_named(document.get("mmproj")),
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ManifestError(
            path, None, f"expected a device profile, got {type(error).__name__}: {error}",
            hint=f"remove {path}, or make it again with `miloco-edge tune MODEL`",
        ) from error  # fmt: skip


def _figure(fields: Mapping[str, Any]) -> Figure:
    return Figure(**{**fields, "seconds": tuple(fields["seconds"])})


def _named(fields: Sequence[Any] | None) -> tuple[str, int] | None:
    if fields is None:
        return None
    name, size = fields
    return str(name), int(size)


def _choice(fields: Mapping[str, Any]) -> Choice:
    tried = tuple(Tried(each["value"], tuple(each["seconds"])) for each in fields["tried"])
    return Choice(**{**fields, "tried": tried})
