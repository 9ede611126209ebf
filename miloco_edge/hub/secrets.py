"""Passwords and the like: from files and the environment, never from the configuration."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path


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


def variable(name: str) -> str:
    """The environment variable that holds a secret."""
    return "MILOCO_EDGE_" + re.sub(r"\W", "_", name).upper()
