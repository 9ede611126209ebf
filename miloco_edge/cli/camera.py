"""`miloco-edge camera probe`: what a camera sends, without a model."""

from __future__ import annotations

from pathlib import Path

import click
from PIL import Image

from miloco_edge.cli.options import json_option
from miloco_edge.cli.output import Output
from miloco_edge.hub import secrets
from miloco_edge.video.address import Address
from miloco_edge.video.probe import probe


@click.group()
def camera_command() -> None:
    """Look at cameras."""


@camera_command.command("probe")
@click.argument("source")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    help="How long to watch after the first frame.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="Longest wait for an answer, in seconds.",
)
@click.option("--user", help="User, if the address has none; the password comes from secrets.")
@click.option(
    "--save", type=click.Path(dir_okay=False, path_type=Path), help="Keep the last picture here."
)
@json_option
def probe_command(
    output: Output,
    source: str,
    seconds: float,
    timeout_s: float,
    user: str | None,
    save: Path | None,
) -> None:
    """Say what SOURCE sends: size, frame rate, codec, and how soon the first frame comes.

    SOURCE is an RTSP, RTMP or HTTP address, a USB camera's number or device, a video file or a
    folder that receives pictures. A password may come from MILOCO_EDGE_CAMERA_PASSWORD or a secret
    file camera.password. It is never printed.
    """
    address = Address.parse(source)
    password = secrets.find("camera.password")
    if (user or password) and address.kind in ("rtsp", "http"):
        own = address.login or ("", "")
        address = address.with_login(user or own[0], password.reveal() if password else own[1])
    found = probe(address, seconds=seconds, timeout_s=timeout_s)
    if save is not None:
        kind = Image.registered_extensions().get(save.suffix.lower(), "")
        Image.fromarray(found.picture).save(save, kind if kind in Image.SAVE else "PNG")
    if output.as_json:
        output.data(
            {
                "source": found.source,
                "size": list(found.size),
                "fps": found.fps,
                "codec": found.codec,
                "hardware": found.hardware,
                "first_frame_s": found.first_frame_s,
                "frames": found.frames,
                "seconds": found.seconds,
                "frozen": found.frozen,
                "saved": None if save is None else str(save),
            }
        )
        return
    width, height = found.size
    rows = [
        ("source", found.source),
        ("size", f"{width}x{height}"),
        ("rate", "-" if found.fps is None else f"{found.fps:.1f} frames a second"),
        ("codec", found.codec or "-"),
        ("decoded by", "hardware" if found.hardware else "software"),
        ("first frame", f"{found.first_frame_s:.2f} s"),
        ("frames", f"{found.frames} in {found.seconds:.1f} s"),
    ]
    output.table(("", ""), rows)
    if save is not None:
        output.note(f"saved {save}")
    if found.frozen:
        output.note("every frame shows the very same picture: is the camera frozen?")
