"""`miloco-edge demo`: a page to try the model on clips, pictures and the webcam."""

from __future__ import annotations

import importlib.util
import os
import tempfile
import threading

import click

from miloco_edge import Engine
from miloco_edge.cli.ending import until_stopped
from miloco_edge.cli.extras import missing
from miloco_edge.cli.options import json_option, load_options, model_option
from miloco_edge.cli.output import Output
from miloco_edge.engine.engine import LoadOptions
from miloco_edge.hosts import is_local


@click.command("demo")
@model_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=7860,
    show_default=True,
    help="0 is any that is free.",
)
@click.option(
    "--camera",
    "cameras",
    multiple=True,
    metavar="SOURCE",
    help="A camera that visitors may look through; repeatable.",
)
@load_options
@json_option
def demo_command(
    output: Output,
    *,
    model: str | None,
    host: str,
    port: int,
    cameras: tuple[str, ...],
    load: LoadOptions,
) -> None:
    """Open the demo page until Ctrl-C.

    It is for this machine alone unless --host says otherwise; then everybody who reaches it may
    use it. What visitors upload is deleted when it ends.
    """
    if importlib.util.find_spec("gradio") is None:
        raise missing("demo", "gradio")
    if not is_local(host):
        output.note(f"note: everybody who reaches {host} may use the page and its cameras")
    with (
        until_stopped(),
        tempfile.TemporaryDirectory(prefix="miloco-edge-demo-") as uploads,
        Engine.load(model, **load) as engine,
    ):
        # Gradio reads its settings from the environment, some of them as it is imported.
        os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": uploads}
        from miloco_edge.page.app import Page
        from miloco_edge.page.launch import serve

        page = Page(engine, cameras)
        try:
            address = serve(page.blocks, host, port)
            if output.as_json:
                output.line({"url": address})
            else:
                output.text(f"the page is at {address} (Ctrl-C ends it)")
            threading.Event().wait()
        finally:
            page.close()
