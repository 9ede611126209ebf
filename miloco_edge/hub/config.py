"""A home from home.toml, strictly.

    home = read(Path("home.toml"))
    home, changes = reload(home)      # after it was edited

An unknown key, a wrong value and a name that nothing has are `ConfigError`s with their line.
"""

from __future__ import annotations

import os
import re
import tomllib
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from miloco_edge.engine.economy import Closer, Economy
from miloco_edge.engine.remote_http import is_remote
from miloco_edge.errors import ConfigError, NotFoundError
from miloco_edge.hub import secrets, toml_lines
from miloco_edge.hub.gate import GateSettings
from miloco_edge.hub.rules import Rule
from miloco_edge.hub.schedule import Schedule
from miloco_edge.hub.secrets import Secret
from miloco_edge.hub.settings import (
    CameraSettings,
    EngineSettings,
    Home,
    JournalSettings,
    LinesSink,
    MqttSink,
    Sink,
    WebhookSink,
)
from miloco_edge.hub.strict import Table, read_as
from miloco_edge.video.address import Address, host_and_port
from miloco_edge.video.mask import Polygon

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(B|KiB|MiB|GiB)?")
_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def read(path: Path, environ: Mapping[str, str] = os.environ) -> Home:
    """Read a home. Nothing is opened or connected to but `path` and secret files.

    Raises `NotFoundError` where there is no such file, `ConfigError` for all that is wrong in it.
    """
    top = _parsed(path)
    known = {"model", "time_zone", "camera", "rule", "sink", "gate", "journal", "engine"}
    top.refuse_others(known)
    cameras = {name: _camera(name, t, environ) for name, t in top.tables("camera").items()}
    journal = top.table("journal").read(JournalSettings, readers={"max_bytes": _bytes})
    return Home(
        path,
        _models(top),
        _time_zone(top),
        cameras,
        {name: _rule(name, table, cameras) for name, table in top.tables("rule").items()},
        {name: _sink(name, t, path, environ) for name, t in top.tables("sink").items()},
        top.table("gate").read(GateSettings),
        replace(journal, path=path.parent / journal.path),
        _engine(top.table("engine")),
    )


def _engine(table: Table) -> EngineSettings:
    economy = table.table("economy")
    if "mode" in table.values and economy.values:
        raise table.error("economy", "expected it or mode, got both")
    closer = economy.table("closer")
    twice = closer.read(Closer) if closer.values else None
    made = economy.read(Economy, given={"closer": twice}, others={"closer"})
    return table.read(
        EngineSettings,
        given={"economy": made if economy.values else None},
        readers={"resident_bytes": _bytes},
        others={"economy"},
    )


@dataclass(frozen=True)
class Changes:
    """What differs between two readings of a home."""

    cameras: frozenset[str] = frozenset()
    """Ids of cameras that came, went or changed."""
    rules: frozenset[str] = frozenset()
    sinks: frozenset[str] = frozenset()
    others: frozenset[str] = frozenset()
    """Names of the other fields of `Home` that changed."""

    RESTART = frozenset(("models", "engine", "journal"))

    @property
    def restart(self) -> frozenset[str]:
        """What cannot be taken over while the hub runs."""
        return self.others & self.RESTART

    def __bool__(self) -> bool:
        return bool(self.cameras or self.rules or self.sinks or self.others)


def compare(old: Home, new: Home) -> Changes:
    """What an edit changed."""
    by_name = {"cameras", "rules", "sinks"}
    return Changes(
        _differing(old.cameras, new.cameras),
        _differing(old.rules, new.rules),
        _differing(old.sinks, new.sinks),
        frozenset(
            f.name
            for f in fields(Home)
            if f.name not in by_name and getattr(old, f.name) != getattr(new, f.name)
        ),
    )


def reload(old: Home, environ: Mapping[str, str] = os.environ) -> tuple[Home, Changes]:
    """Read a home again while the hub runs.

    Raises as `read` does, and `ConfigError` where something changed that only a restart takes over;
    the old home then stays in force.
    """
    new = read(old.path, environ)
    changes = compare(old, new)
    if changes.restart:
        raise ConfigError(
            old.path,
            None,
            None,
            "expected changes of cameras, rules, sinks and the gate while the hub runs, got others "
            f"of {', '.join(sorted(changes.restart))}",
            hint="start the hub anew, or take these changes back",
        )
    return new, changes


def _parsed(path: Path) -> Table:
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise NotFoundError(
            f"expected a home's configuration at {path}, found no file",
            hint="docs/rules.md shows one to begin with",
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(path, None, None, "expected text in UTF-8, got other bytes") from error
    except tomllib.TOMLDecodeError as error:
        message, _, place = str(error).rpartition(" (at ")
        line = re.search(r"line (\d+)", place)
        raise ConfigError(
            path,
            int(line[1]) if line else len(text.splitlines()) or 1,
            None,
            f"expected TOML, got: {message or error}",
        ) from error
    return Table(path, toml_lines.key_lines(text), values)


def _models(top: Table) -> tuple[str, ...]:
    value = top.values.get("model", [])
    try:
        models: tuple[str, ...] = read_as(
            tuple[str, ...], [value] if isinstance(value, str) else value
        )
        for ref in models:
            if is_remote(ref):
                host_and_port(ref)
        return models
    except ValueError as error:
        raise top.error("model", f"{error} (one reference, or a list of them)") from None


def _time_zone(top: Table) -> zoneinfo.ZoneInfo | None:
    name = top.values.get("time_zone")
    if name is None:
        return None
    try:
        return zoneinfo.ZoneInfo(read_as(str, name))
    except (ValueError, zoneinfo.ZoneInfoNotFoundError, OSError):
        raise top.error(
            "time_zone", f'expected a time zone such as "Europe/Berlin", got {name!r}'
        ) from None


def _camera(name: str, table: Table, environ: Mapping[str, str]) -> CameraSettings:
    _id(name, table)
    secret = f"camera.{name}"
    source = _secret(f"{secret}.source", environ, table)
    text = table.values.get("source") if source is None else source.reveal()
    if text is None:
        raise table.error(
            None, "expected source, got none", hint=f"or set {secrets.variable(f'{secret}.source')}"
        )
    if isinstance(text, str) and text.strip() and (table.path.parent / text).exists():
        text = str(table.path.parent / text)  # as every other path in it, seen from home.toml
    try:
        address = Address.parse(text if isinstance(text, int) else read_as(str, text))
    except (ValueError, NotFoundError) as error:
        raise table.error("source", str(error), hint=getattr(error, "hint", None)) from None
    if address.has_password and source is None:
        raise table.error(
            "source",
            f"expected an address without a password, got {address}",
            hint=f"take the login out of the address and put the password into "
            f"{secrets.variable(f'{secret}.password')} or a secret file {secret}.password, "
            f"the user into {secret}.user",
        )
    password = _secret(f"{secret}.password", environ, table)
    user = _secret(f"{secret}.user", environ, table)
    if (user or password) and address.kind in ("rtsp", "http"):
        of_url = address.login or ("", "")
        address = address.with_login(
            user.reveal() if user else of_url[0], password.reveal() if password else of_url[1]
        )
    return table.read(
        CameraSettings,
        given={"id": name, "source": address},
        readers={
            "masks": _masks,
            "zones": _zones,
        },
        others={"source"},
    )


def _rule(name: str, table: Table, cameras: Mapping[str, CameraSettings]) -> Rule:
    _id(name, table)
    rule = table.read(
        Rule,
        given={"id": name},
        readers={"schedule": _schedule, "text": _sentence},
    )
    if not cameras:
        raise table.error(None, "expected at least one camera in the file, got none")
    rule = rule if "cameras" in table.values else replace(rule, cameras=tuple(cameras))
    for camera in rule.cameras:
        if camera not in cameras:
            raise table.error("cameras", f"expected cameras of {', '.join(cameras)}, got {camera}")
        if rule.zone is not None and rule.zone not in cameras[camera].zones:
            raise table.error(
                "zone",
                f"expected a zone of camera {camera}, which has "
                f"{', '.join(cameras[camera].zones) or 'none'}, got {rule.zone}",
            )
    if not rule.cameras:
        raise table.error("cameras", "expected at least one camera, got none")
    return rule


def _sink(name: str, table: Table, path: Path, environ: Mapping[str, str]) -> Sink:
    _id(name, table)
    kind = table.values.get("kind", name)
    secret = f"sink.{name}"
    user = _secret(f"{secret}.user", environ, table)
    password = _secret(f"{secret}.password", environ, table)
    settings = replace(table, values={k: v for k, v in table.values.items() if k != "kind"})
    match kind:
        case "mqtt":
            given = {"name": name, "user": user, "password": password}
            mqtt = settings.read(MqttSink, given=given)
            files = {n: getattr(mqtt, n) for n in ("ca", "certificate", "key")}
            return replace(mqtt, **{n: path.parent / file for n, file in files.items() if file})
        case "lines":
            lines = settings.read(LinesSink, given={"name": name})
            return replace(lines, path=path.parent / lines.path)
        case "webhook":
            given = {"name": name, "token": _secret(f"{secret}.token", environ, table)}
            return settings.read(WebhookSink, given=given, readers={"url": _url})
    raise table.error(
        "kind" if "kind" in table.values else None,
        f"expected a sink of kind mqtt, lines or webhook, got {kind!r}",
        hint=f'name the table [sink.mqtt], or say kind = "mqtt" in [sink.{name}]',
    )


def _id(name: str, table: Table) -> None:
    if not _ID.fullmatch(name):
        raise table.error(
            None, f"expected a name of letters, digits, _ and -, 64 at most, got {name!r}"
        )


def _secret(name: str, environ: Mapping[str, str], table: Table) -> Secret | None:
    try:
        return secrets.find(name, environ)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "other bytes than text"
        raise table.error(None, f"expected to read the secret {name}, got: {reason}") from error


_Points = tuple[tuple[float, float], ...]


def _masks(value: Any) -> tuple[Polygon, ...]:
    return tuple(Polygon(points) for points in read_as(tuple[_Points, ...], value))


def _zones(value: Any) -> dict[str, Polygon]:
    if not isinstance(value, dict):
        raise ValueError(f"expected names with polygons, got {value!r}")
    return {name: Polygon(read_as(_Points, points)) for name, points in value.items()}


def _schedule(value: Any) -> Schedule:
    spans = [value] if isinstance(value, str) else read_as(tuple[str, ...], value)
    return Schedule.parse(*spans)


def _sentence(value: Any) -> str:
    text: str = read_as(str, value).strip()
    if not text or len(text) > 500:
        raise ValueError(f"expected a sentence of at most 500 characters, got {len(text)}")
    return text


def _url(value: Any) -> Address:
    text = read_as(str, value)
    host_and_port(text)
    address = Address("http", text)
    if address.login is not None:
        raise ValueError(f"expected a URL without a login, got {address}")
    return address


def _bytes(value: Any) -> int:
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is not None:
        return int(float(match[1]) * _UNITS[match[2] or "B"])
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError(f'expected a size such as "256MiB", got {value!r}')


def _differing(old: Mapping[str, object], new: Mapping[str, object]) -> frozenset[str]:
    return frozenset(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
