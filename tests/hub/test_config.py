"""home.toml: what is read, and what is refused with its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from miloco_edge.errors import ConfigError, NotFoundError
from miloco_edge.hub import config, secrets, toml_lines
from miloco_edge.hub.config import read, reload
from miloco_edge.hub.rules import Rule
from miloco_edge.hub.schedule import Schedule
from miloco_edge.hub.secrets import Secret
from miloco_edge.hub.settings import Home, LinesSink, MqttSink, WebhookSink

HOME = """\
model = ["miloco-7b", "http://big.local:8001/v1"]
time_zone = "Europe/Berlin"

[camera.nursery]
source = "rtsp://nursery.local/stream1"      # password from secrets
interval_s = 2
masks = [
  [[0, 0], [0.3, 0], [0.3, 0.2]],
]
zones.cot = [[0.1, 0.1], [0.9, 0.1], [0.5, 0.9]]

[camera.hall]
source = 0

[rule.standing]
text = "The baby is standing in the cot"
cameras = ["nursery"]
zone = "cot"
schedule = ["mon-fri 20:00-07:00", "sat,sun 21:00-08:00"]
kind = "state"
agree = 2
of = 3
priority = 10
deadline_s = 5

[rule.anyone]
text = "Someone came in"
kind = "event"

[sink.mqtt]
host = "10.0.0.2"

[sink.log]
kind = "lines"
path = "events.jsonl"

[sink.alarm]
kind = "webhook"
url = "https://alarm.local/hook"

[gate]
heartbeat_s = 120

[journal]
max_bytes = "64MiB"

[engine]
threads = 4
resident_bytes = "6 GiB"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "home.toml"
    path.write_text(HOME)
    return path


def edited(path: Path, old: str, new: str) -> Path:
    assert old in HOME, old
    path.write_text(HOME.replace(old, new, 1))
    return path


def test_all_that_a_home_may_say(file: Path) -> None:
    home = read(file, {"MILOCO_EDGE_SINK_ALARM_TOKEN": "t0ken"})
    assert home.models == ("miloco-7b", "http://big.local:8001/v1")
    assert str(home.time_zone) == "Europe/Berlin"
    nursery = home.cameras["nursery"]
    assert (str(nursery.source), nursery.interval_s) == ("rtsp://nursery.local/stream1", 2.0)
    assert nursery.masks[0].points == ((0.0, 0.0), (0.3, 0.0), (0.3, 0.2))
    assert nursery.zones["cot"].points[2] == (0.5, 0.9)
    assert home.cameras["hall"].source.kind == "usb"
    assert home.rules["standing"] == Rule(
        "standing",
        "The baby is standing in the cot",
        ("nursery",),
        "cot",
        "state",
        2,
        3,
        schedule=Schedule.parse("mon-fri 20:00-07:00", "sat,sun 21:00-08:00"),
        priority=10,
        deadline_s=5.0,
    )
    assert home.rules["anyone"].cameras == ("nursery", "hall"), "without cameras: all"
    mqtt, log, alarm = (home.sinks[name] for name in ("mqtt", "log", "alarm"))
    assert isinstance(mqtt, MqttSink)
    assert (mqtt.host, mqtt.port, mqtt.user) == ("10.0.0.2", 1883, None)
    assert isinstance(log, LinesSink)
    assert log.path == file.parent / "events.jsonl"
    assert isinstance(alarm, WebhookSink)
    assert alarm.token == Secret("t0ken")
    assert "t0ken" not in repr(home)
    assert home.gate.heartbeat_s == 120.0
    assert home.journal.max_bytes == 64 << 20
    assert home.journal.path == file.parent / "journal.sqlite"
    assert (home.engine.threads, home.engine.resident_bytes) == (4, 6 << 30)


def test_an_empty_home_is_a_home(tmp_path: Path) -> None:
    path = tmp_path / "home.toml"
    path.write_text("")
    home = read(path)
    assert home == Home(path, journal=home.journal)
    assert (home.models, home.gate.heartbeat_s) == ((), 300.0)


@pytest.mark.parametrize(
    ("old", "new", "line", "field", "message"),
    [
        ("agree = 2", "agre = 2", 21, "rule.standing.agre", "expected one of agree, "),
        ("[journal]", "[jurnal]", 44, "jurnal", "expected one of camera, engine"),
        ("agree = 2", "agree = 4", 21, "rule.standing.agree", "from 1 to `of`, got 4 of 3"),
        ("agree = 2", "agree = true", 21, "rule.standing.agree", "a whole number, got True"),
        ("interval_s = 2", 'interval_s = "2"', 6, "camera.nursery.interval_s", "a number, got '2'"),
        ("interval_s = 2", "interval_s = 0", 6, "camera.nursery.interval_s", "more than 0, got 0"),
        ("interval_s = 2", "interval_s = nan", 6, "camera.nursery.interval_s", "more than 0"),
        ("[0.3, 0.2]]", "[0.3, 2]]", 7, "camera.nursery.masks", "from 0 to 1, got (0.3, 2)"),
        ("[[0, 0], [0.3, 0], ", "[[0, 0], ", 7, "camera.nursery.masks", "at least 3 points, got 2"),
        ("zones.cot = [[", "zones.cot = [[0.1, ", 10, "camera.nursery.zones", "a list of 2"),
        ('zone = "cot"', 'zone = "bed"', 18, "rule.standing.zone", "which has cot, got bed"),
        ('["nursery"]', '["attic"]', 17, "rule.standing.cameras", "of nursery, hall, got attic"),
        ('["nursery"]', '"nursery"', 17, "rule.standing.cameras", "expected a list"),
        ('["nursery"]', "[]", 17, "rule.standing.cameras", "at least one camera"),
        ("20:00-07:00", "8-9", 19, "rule.standing.schedule", "days and times such as"),
        ('kind = "state"', 'kind = "stat"', 20, "rule.standing.kind", "'state' or 'event'"),
        ('text = "Someone came in"\n', "", 26, "rule.anyone", "expected text, got none"),
        ('"Someone came in"', '" "', 27, "rule.anyone.text", "a sentence"),
        ('source = 0', 'source = "ftp://x"', 13, "camera.hall.source", "expected a camera"),
        ('source = 0', 'source = "no.mp4"', 13, "camera.hall.source", "no such file"),
        ('source = 0\n', "", 12, "camera.hall", "expected source, got none"),
        ("[camera.hall]", '[camera."the hall"]', 12, "camera.the hall", "expected a name of"),
        ('kind = "lines"', 'kind = "fax"', 34, "sink.log.kind", "or webhook, got 'fax'"),
        ('kind = "lines"\n', "", 33, "sink.log", "mqtt, lines or webhook, got 'log'"),
        ('"https://alarm.local/hook"', '"file:///etc"', 39, "sink.alarm.url", "expected http(s)://"),
        ("https://alarm.local/hook", "http://alarm:99999/", 39, "sink.alarm.url", "up to 65535"),
        ("http://big.local:8001/v1", "http://big.local:80000/v1", 1, "model", "up to 65535"),
        ('host = "10.0.0.2"', "port = 0", 31, "sink.mqtt.port", "from 1 to 65535, got 0"),
        ('"64MiB"', '"64 MB"', 45, "journal.max_bytes", "a size such as"),
        ("heartbeat_s = 120", "heartbeat_s = 0", 42, "gate.heartbeat_s", "more than 0"),
        ("Europe/Berlin", "Europa/Berlin", 2, "time_zone", "a time zone such as"),
        ('["miloco-7b", "http://big.local:8001/v1"]', "7", 1, "model", "expected a list, got 7"),
        ("priority = 10", "priority = = 10", 23, None, "expected TOML, got: Invalid value"),
        ("[rule.anyone]", "[rule.standing]", 26, None, "expected TOML, got"),
        ("[rule.anyone]", "[[sink.anyone]]", 26, "sink.anyone", "expected a table, got [{"),
        ('"events.jsonl"', '"~nobody-of-that-name/x"', 35, "sink.log.path", "a home folder for ~"),
        ("[gate]", "gate = 1", 41, "sink.alarm.gate", "expected one of"),
    ],
)  # fmt: skip
def test_what_is_refused_and_where(
    file: Path, old: str, new: str, line: int, field: str | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        read(edited(file, old, new), {})
    assert (caught.value.line, caught.value.field) == (line, field)
    assert str(caught.value).startswith(f"{file}, line {line}: ")


def test_a_near_miss_is_named(file: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(edited(file, "agree = 2", "agre = 2"))
    assert caught.value.hint == "did you mean agree?"


def test_no_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"home\.toml"):
        read(tmp_path / "home.toml")


def test_other_bytes_are_no_configuration(file: Path) -> None:
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="UTF-8"):
        read(file)


@pytest.mark.parametrize(
    "source",
    ["rtsp://admin:s3cret@cam/1", "rtsp://cam/1?password=s3cret", "http://cam/snap?token=s3cret"],
)
def test_a_password_in_the_file_is_refused_and_not_shown(file: Path, source: str) -> None:
    with pytest.raises(ConfigError, match="without a password") as caught:
        read(edited(file, "rtsp://nursery.local/stream1", source), {})
    assert "s3cret" not in f"{caught.value} {caught.value.hint}"
    assert "MILOCO_EDGE_CAMERA_NURSERY_PASSWORD" in str(caught.value.hint)


@pytest.mark.parametrize("key", ["password", "user", "token"])
def test_a_login_key_says_where_logins_go(file: Path, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(edited(file, "interval_s = 2", f'{key} = "s3cret"'), {})
    assert "secrets" in str(caught.value.hint)
    assert "s3cret" not in str(caught.value)


def test_a_login_comes_from_the_environment(file: Path) -> None:
    login = {
        "MILOCO_EDGE_CAMERA_NURSERY_USER": "admin",
        "MILOCO_EDGE_CAMERA_NURSERY_PASSWORD": "p@ss/w:rd",
    }
    home = read(file, login)
    source = home.cameras["nursery"].source
    assert source.secret() == "rtsp://admin:p%40ss%2Fw%3Ard@nursery.local/stream1"
    assert "p%40ss" not in repr(home)


def test_a_login_comes_from_a_file(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "camera.nursery.password").write_text("s3cret\n")
    edited(file, "rtsp://nursery", "rtsp://admin@nursery")
    for name in ("MILOCO_EDGE_SECRETS", "CREDENTIALS_DIRECTORY"):
        home = read(file, {name: str(folder)})
        assert home.cameras["nursery"].source.login == ("admin", "s3cret")


def test_a_whole_address_may_be_secret(file: Path) -> None:
    edited(file, "source = 0\n", "")
    home = read(file, {"MILOCO_EDGE_CAMERA_HALL_SOURCE": "rtsp://a:s3cret@hall/1?token=x"})
    assert home.cameras["hall"].source.secret() == "rtsp://a:s3cret@hall/1?token=x"


def test_the_environment_wins_over_files(tmp_path: Path) -> None:
    (tmp_path / "sink.mqtt.password").write_text("file")
    environ = {"MILOCO_EDGE_SECRETS": str(tmp_path), "MILOCO_EDGE_SINK_MQTT_PASSWORD": "variable"}
    assert secrets.find("sink.mqtt.password", environ) == Secret("variable")
    assert secrets.find("sink.mqtt.user", environ) is None


@pytest.mark.parametrize(
    ("old", "new", "cameras", "rules", "sinks", "others"),
    [
        ("interval_s = 2", "interval_s = 3", {"nursery"}, set(), set(), set()),
        ("agree = 2", "agree = 3", set(), {"standing"}, set(), set()),
        ("[rule.anyone]", "[rule.someone]", set(), {"anyone", "someone"}, set(), set()),
        ("10.0.0.2", "10.0.0.3", set(), set(), {"mqtt"}, set()),
        ("heartbeat_s = 120", "heartbeat_s = 60", set(), set(), set(), {"gate"}),
        ("# password from secrets", "", set(), set(), set(), set()),
    ],
)
def test_a_reload_says_what_changed(
    file: Path,
    old: str,
    new: str,
    cameras: set[str],
    rules: set[str],
    sinks: set[str],
    others: set[str],
) -> None:
    before = read(file, {})
    edited(file, old, new)
    after, changes = reload(before, {})
    assert changes == config.Changes(*map(frozenset, (cameras, rules, sinks, others)))
    assert bool(changes) == (after != before)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("threads = 4", "threads = 2", "engine"),
        ('"64MiB"', '"65MiB"', "journal"),
        ('"miloco-7b", ', "", "models"),
    ],
)
def test_what_only_a_restart_takes_over_is_refused(
    file: Path, old: str, new: str, named: str
) -> None:
    before = read(file, {})
    edited(file, old, new)
    with pytest.raises(ConfigError, match=f"got others of {named}"):
        reload(before, {})


def test_lines_of_every_kind_of_statement() -> None:
    text = (
        "# one\n"
        "a.b = 1\n"
        'text = """\n[not.a.table]\nkey = 1\n"""\n'
        "[t]\n"
        "list = [\n  1,\n  2, # two\n]\n"
        "inline = { x = 1, y = { z = 2 } }\n"
        '["quoted.name"]\n'
        "k = 1\n"
        "[[many]]\n"
        "k = 1\n"
        "[[many]]\n"
        "k = 2\n"
        "[many.inner]\n"
        "k = 3\n"
    )
    lines = toml_lines.key_lines(text)
    assert lines == {
        ("a",): 2, ("a", "b"): 2, ("text",): 3,
        ("t",): 7, ("t", "list"): 8,
        ("t", "inline"): 12, ("t", "inline", "x"): 12,
        ("t", "inline", "y"): 12, ("t", "inline", "y", "z"): 12,
        ("quoted.name",): 13, ("quoted.name", "k"): 14,
        ("many",): 15, ("many", 0): 15, ("many", 0, "k"): 16, ("many", 1): 17, ("many", 1, "k"): 18,
        ("many", 1, "inner"): 19, ("many", 1, "inner", "k"): 20,
    }  # fmt: skip
    assert toml_lines.line_of(lines, ("t", "absent")) == 7
    assert toml_lines.line_of(lines, ("absent",)) is None


def test_a_file_camera_is_seen_from_home_toml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "clip.mp4").touch()
    (home / "home.toml").write_text('[camera.hall]\nsource = "clip.mp4"\n')
    monkeypatch.chdir(tmp_path)
    source = read(home / "home.toml").cameras["hall"].source
    assert str(source) == str(home / "clip.mp4")
