"""Passwords and the like: from files and the environment, never from the configuration."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from miloco_edge.errors import RefusedError
from miloco_edge.video.address import host_and_port


class Secret:
    """A text that is printed by nobody by mistake. `reveal()` gives it."""

    __slots__ = ("__text",)

    def __init__(self, text: str) -> None:
        self.__text = text

    def reveal(self) -> str:
        """The text. Show it to nobody."""
        return self.__text

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.__text == other.reveal()

    def __hash__(self) -> int:
        return hash(self.__text)


def find(name: str, environ: Mapping[str, str] = os.environ) -> Secret | None:
    """The secret of a name such as `camera.nursery.password`; None where there is none.

    It is the environment variable MILOCO_EDGE_CAMERA_NURSERY_PASSWORD, else the content of a file
    of that name (the last line break aside) in the first of these folders that has it:
    MILOCO_EDGE_SECRETS, systemd's CREDENTIALS_DIRECTORY, /run/secrets (Docker).

    Raises OSError where a file is there and cannot be read.
    """
    value = environ.get(variable(name))
    if value:
        return Secret(value)
    named = (environ.get("MILOCO_EDGE_SECRETS"), environ.get("CREDENTIALS_DIRECTORY"))
    for folder in (*named, "/run/secrets"):
        if folder and (file := Path(folder) / name).is_file():
            return Secret(file.read_text(encoding="utf-8").rstrip("\r\n"))
    return None


def remote_key(url: str, environ: Mapping[str, str] = os.environ) -> str | None:
    """The bearer token for a remote engine; None where there is none.

    Of http://big.local:8001/v1 it is the first that there is of the secrets
    `remote.big.local_8001.key`, `remote.big.local.key` and `remote.key`, the last of which goes to
    every remote engine. Raises OSError as `find` does, RefusedError for what is no such address.
    """
    try:
        host, port = host_and_port(url)
    except ValueError as error:
        raise RefusedError(str(error)) from None
    places = (f"{host}_{port}." if port else None, f"{host}.", "")
    for place in places:
        if place is not None and (key := find(f"remote.{place}key", environ)) is not None:
            return key.reveal()
    return None


def variable(name: str) -> str:
    """The environment variable that holds a secret."""
    return "MILOCO_EDGE_" + re.sub(r"\W", "_", name).upper()
