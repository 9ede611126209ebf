"""`miloco-edge serve`: answer over HTTP, in the dialects that hubs already speak."""

from __future__ import annotations

import urllib.parse
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from miloco_edge import registry
from miloco_edge.cli.ending import until_stopped
from miloco_edge.cli.extras import missing
from miloco_edge.cli.options import json_option, load_options
from miloco_edge.cli.output import Output
from miloco_edge.cli.sinks import sink_kinds
from miloco_edge.engine.child import ChildEngine
from miloco_edge.engine.engine import CONTEXT, MAX_CONTEXT, LoadOptions
from miloco_edge.engine.protocol import WindowEngine
from miloco_edge.engine.remote import RemoteEngine
from miloco_edge.engine.remote_http import is_remote
from miloco_edge.hosts import is_local
from miloco_edge.hub.secrets import remote_key
from miloco_edge.prompt import chat_facts


@click.command("serve")
@click.option("--model", metavar="REF", help="As infer's; an URL is an OpenAI-compatible server.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", type=click.IntRange(0, 65535), default=8001, show_default=True)
@click.option("--api-key", metavar="SECRET", help="Expect it as a bearer token. Better from the "
              "environment: MILOCO_EDGE_SERVE_API_KEY.")  # fmt: skip
@click.option("--keys", type=click.Path(path_type=Path), help="TOML file of keys with scopes.")
@click.option("--allow-host", "hosts", multiple=True, metavar="NAME",
              help="A further name by which this server may be called; repeatable.")  # fmt: skip
@click.option("--allow-remote-media", "origins", multiple=True, metavar="ORIGIN",
              help="Fetch media that requests name from there (https://ha.local:8123); "
              "repeatable. By default none is fetched.")  # fmt: skip
@click.option("--config", "config_path", type=click.Path(path_type=Path),
              help="Watch this home too, and tell its events at /v1/events.")  # fmt: skip
@click.option("--alias", "aliases", multiple=True, metavar="NAME",
              help="A further name of the model; repeatable.")  # fmt: skip
@click.option("--waiting", type=click.IntRange(min=0), default=16, show_default=True,
              help="Most requests that may wait.")  # fmt: skip
@click.option("--timeout", "seconds", type=click.FloatRange(min=1), default=600.0,
              show_default=True, help="Longest that a request may take.")  # fmt: skip
@click.option("--drain", "drain_s", type=click.FloatRange(min=0), default=30.0, show_default=True,
              help="Seconds that answers under way are given at the end.")  # fmt: skip
@click.option("--tls-cert", type=click.Path(path_type=Path), help="Certificate chain, PEM.")
@click.option("--tls-key", type=click.Path(path_type=Path), help="Its private key, PEM.")
@load_options
@json_option
def serve_command(
    output: Output,
    *,
    model: str | None,
    host: str,
    port: int,
    api_key: str | None,
    keys: Path | None,
    hosts: tuple[str, ...],
    origins: tuple[str, ...],
    config_path: Path | None,
    aliases: tuple[str, ...],
    waiting: int,
    seconds: float,
    drain_s: float,
    tls_cert: Path | None,
    tls_key: Path | None,
    load: LoadOptions,
) -> None:
    """Answer over HTTP: OpenAI, Ollama, llama-server and Miloco 0.1.

    It listens to this machine alone unless it is given a key. The model is in a process of its
    own, which may die and comes back.
    """
    access_module, app_module, fetch_module, run_module, settings = _server()
    access = access_module.Access(
        _keys(access_module, api_key, keys),
        frozenset(name.lower() for name in hosts),
    )
    if not access.keys and not is_local(host):
        raise click.UsageError(
            f"expected --api-key or --keys to listen at {host}, got neither: "
            "whoever reaches it could ask"
        )
    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key go together")
    try:
        fetcher = fetch_module.Fetcher(origins)
    except ValueError as error:
        raise click.UsageError(f"--allow-remote-media: {error}") from error
    engine, facts, hub = _engine(model, load, config_path)
    facts = replace(facts, aliases=(*facts.aliases, *aliases))
    limits = settings.Limits(waiting=waiting, seconds=seconds)
    app = app_module.create_app(
        engine, facts, access=access, limits=limits, fetcher=fetcher, hub=hub
    )

    def listening(address: str) -> None:
        if output.as_json:
            output.line({"listening": address, "model": facts.name})
        output.note(f"listening at {address}; loading {facts.name}")

    with until_stopped():
        run_module.run(
            app,
            host=host,
            port=port,
            limits=limits,
            drain_s=drain_s,
            certificate=tls_cert,
            key=tls_key,
            listening=listening,
            alive=(lambda: None) if hub is None else hub.status,
        )


def _server() -> tuple[Any, ...]:
    """The room of the server, which needs its extra."""
    try:
        from miloco_edge.serve import access, app, fetch, run, settings
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("miloco_edge"):
            raise
        raise missing("server", error.name) from error
    return access, app, fetch, run, settings


def _keys(access: Any, api_key: str | None, path: Path | None) -> tuple[Any, ...]:
    keys = () if path is None else access.read_keys(path)
    if api_key is not None:
        if len(api_key) < 8:
            raise click.UsageError("expected an --api-key of 8 or more characters")
        keys = (*keys, access.Key.of("api-key", api_key))
    return tuple(keys)


def _engine(
    model: str | None, load: LoadOptions, config_path: Path | None
) -> tuple[WindowEngine, Any, Any]:
    """The engine, what is known of its model, and the hub that watches with it."""
    if config_path is None:
        if model is not None and is_remote(model):
            return RemoteEngine(model, api_key=remote_key(model)), _facts_of_server(model), None
        return ChildEngine(model, **load), _facts(model, load), None
    from miloco_edge.hub import config
    from miloco_edge.hub.connect import engine_for
    from miloco_edge.hub.hub import Hub

    _refuse_load_options(load)
    home = config.read(config_path)
    if model is not None:
        home = replace(home, models=(model,))
    ref = home.models[0] if home.models else None
    if ref is not None and is_remote(ref):
        facts = _facts_of_server(ref)
    else:
        context = home.engine.context or CONTEXT
        facts = _facts(ref, {"context": context, "offline": load.get("offline", False)})
        facts = replace(facts, here=not any(map(is_remote, home.models)))
    kinds = sink_kinds(home)
    engine = engine_for(home)
    return engine, facts, Hub(home, engine, sinks=kinds)


def _refuse_load_options(load: LoadOptions) -> None:
    """Raise click.UsageError where a home is told how to run its model from beside its file."""
    context = click.get_current_context()
    for name in (each for each in load if each != "offline"):  # a home needs no network
        told = context.get_parameter_source(name)
        if told in (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT):
            option = "mode" if name == "economy" else name.replace("_", "-")
            raise click.UsageError(
                f"expected --{option} without --config, got both: "
                "[engine] in the home's file says how its model runs"
            )


def _facts(ref: str | None, load: LoadOptions) -> Any:
    """Raises what resolving raises: a model that is not there is said before a port is taken."""
    from miloco_edge.serve.settings import ModelFacts

    files = registry.resolve(ref, mmproj=load.get("mmproj"), offline=load.get("offline", False))
    header = registry.read_header(files.text)
    template = header.metadata.get("tokenizer.chat_template")
    text, mmproj = files.text.stat(), files.mmproj.stat()
    return ModelFacts(
        files.name,
        (files.text.stem,) if files.text.stem != files.name else (),
        min(load.get("context", MAX_CONTEXT), MAX_CONTEXT),
        files.file_type,
        text.st_size + mmproj.st_size,
        files.sha256 or "",
        int(text.st_mtime),
        chat_facts(str(template) if template else None).thinks,
        files.sampling,
    )


def _facts_of_server(url: str) -> Any:
    from miloco_edge.serve.settings import ModelFacts

    return ModelFacts(name=urllib.parse.urlsplit(url).hostname or "remote", here=False)
