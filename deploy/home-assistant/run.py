"""Start miloco-edge as an app of Home Assistant: its options and broker become environment."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

SUPERVISOR = "http://supervisor"
SERVE = ["miloco-edge", "serve", "--host", "0.0.0.0", "--config", "/config/home.toml"]


def environment(options: dict[str, Any], broker: dict[str, Any] | None) -> dict[str, str]:
    """What the options and the broker's login are called for `miloco-edge serve`."""
    found = {"MILOCO_EDGE_SERVE_API_KEY": options.get("api_key") or ""}
    if broker is not None:
        found["MILOCO_EDGE_SINK_MQTT_USER"] = broker.get("username") or ""
        found["MILOCO_EDGE_SINK_MQTT_PASSWORD"] = broker.get("password") or ""
    return {name: value for name, value in found.items() if value}


def pull(options: dict[str, Any]) -> list[str]:
    """The command that fetches the model that is asked for."""
    licence = ["--accept-license"] if options.get("accept_license") else []
    return ["miloco-edge", "pull", options["pull"], *licence]


def have(options: dict[str, Any]) -> int:
    """Have the model that is asked for; where it is there, the network need not be."""
    command = pull(options)
    if subprocess.call([*command, "--offline"], stderr=subprocess.DEVNULL) == 0:
        return 0
    return subprocess.call(command)


def broker(supervisor: str, token: str) -> dict[str, Any] | None:
    """Home Assistant's own broker, as its Supervisor tells it; None where there is none."""
    request = Request(f"{supervisor}/services/mqtt", headers={"Authorization": f"Bearer {token}"})
    try:
        with urlopen(request, timeout=10) as reply:
            found: dict[str, Any] = json.load(reply)["data"]
    except HTTPError as error:
        sys.stderr.write(f"Home Assistant names no broker ({error.code})\n")
        return None
    return found


def main() -> None:
    """Fetch the model that is asked for, once; then become the server."""
    options = json.loads(Path("/data/options.json").read_text(encoding="utf-8"))
    if options.get("pull") and (code := have(options)) != 0:
        sys.exit(code)
    os.environ |= environment(options, broker(SUPERVISOR, os.environ["SUPERVISOR_TOKEN"]))
    os.execvp(SERVE[0], SERVE)


if __name__ == "__main__":
    main()
