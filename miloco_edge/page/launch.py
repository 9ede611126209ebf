"""The page on a port: for this machine alone unless told otherwise, its own files only."""

from __future__ import annotations

import socket
from pathlib import Path

import gradio as gr
from starlette.middleware import Middleware

from miloco_edge.errors import MilocoEdgeError
from miloco_edge.hosts import is_local
from miloco_edge.page.guard import Guard

_UPLOAD_BYTES = 512 << 20


def serve(blocks: gr.Blocks, host: str, port: int) -> str:
    """Serve a page in a thread; returns its address. Port 0 is any that is free.

    Raises MilocoEdgeError where the port is taken or the host is not this machine.
    """
    _, address, _ = blocks.launch(
        server_name=host,
        server_port=_free_port(host, port),
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        inbrowser=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        run_history=False,
        enable_monitoring=False,
        footer_links=[],
        max_file_size=_UPLOAD_BYTES,
        css_paths=Path(__file__).parent / "page.css",
        theme=_theme(),
        app_kwargs={"middleware": [Middleware(Guard, local=is_local(host))]},
    )
    return str(address)


def _theme() -> gr.themes.Base:
    """The machine's own fonts, and colours that can be read: 4.5 to 1 at the least."""
    theme = gr.themes.Default(
        primary_hue="blue",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
    return theme.set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_cancel_background_fill="#b91c1c",
        button_cancel_background_fill_hover="#991b1b",
        color_accent="*primary_700",
        block_info_text_color="*neutral_600",
        block_label_text_color="*neutral_700",
        block_title_text_color="*neutral_700",
        input_placeholder_color="*neutral_500",
        body_text_color_subdued="*neutral_600",
    )


def _free_port(host: str, port: int) -> int:
    """`port`, or any for 0, if nobody listens there; what Gradio says otherwise is of no help."""
    try:
        with socket.create_server((host, port)) as listener:
            return int(listener.getsockname()[1])
    except OSError as error:
        raise MilocoEdgeError(
            f"expected to listen at {host}:{port}, got: {error}",
            hint="--port 0 takes any port that is free",
        ) from error
