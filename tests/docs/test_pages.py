"""Links lead somewhere, the command reference is what `--help` says, the site has every page."""

from __future__ import annotations

import ast
import json
import re
from html import unescape
from importlib import util
from pathlib import Path
from types import ModuleType

import click
import pytest
import yaml

from miloco_edge.cli.main import COMMANDS, cli
from miloco_edge.cli.reference import reference
from miloco_edge.hub import config
from miloco_edge.hub.settings import WebhookSink
from miloco_edge.serve.decide import DecideRequest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", *DOCS.rglob("*.md")])
EXAMPLES = DOCS / "examples"


def load(path: Path) -> ModuleType:
    """A Python file that belongs to no package."""
    spec = util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def anchors(page: Path) -> set[str]:
    """What headings can be linked to, as GitHub and mkdocs both name them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    words = (re.sub(r"[^\w\s-]", "", unescape(heading)).strip().lower() for heading in headings)
    return {re.sub(r"\s+", "-", word) for word in words}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    text = re.sub(r"`[^`\n]*`", "", text)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name} links to {target}"
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there), f"{page.name} links to {target}"


def test_the_command_reference_is_what_help_says() -> None:
    written = (DOCS / "cli.md").read_text(encoding="utf-8")
    assert written == reference(), "run: python -m miloco_edge.cli.reference > docs/cli.md"
    assert all(f"## miloco-edge {command}" in written for command in COMMANDS)


def named(page: Path) -> list[list[str]]:
    """The words after each `miloco-edge` that a page would have typed, and in `infer --json`."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
    inline = re.findall(r"`([^`\n]+)`", text)
    short = [f"miloco-edge {c}" for c in inline if c.partition(" -")[0] in COMMANDS and " -" in c]
    code = "\n".join([*blocks, *inline, *short]).replace("\\\n", " ")
    return [typed.split() for typed in re.findall(r"(?:^|\s|bin/)miloco-edge +([^#|;`)\n]+)", code)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_and_option_that_is_named_exists(page: Path) -> None:
    for words in named(page):
        if page.name == "cli.md":
            continue  # held to what --help says as a whole
        command: click.Command = cli
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            found = command.get_command(click.Context(command), words[0])
            if found is None:
                assert command is not cli, f"{page.name}: {words}"
                break  # `bench MODEL`: a group that is a command as well
            command, words = found, words[1:]
        known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
        options = {word.partition("=")[0] for word in words if re.match("--?[a-z]", word)}
        assert options <= {*known, "--help"}, f"{page.name}: {words}"


def test_every_page_is_in_the_sites_contents() -> None:
    site = yaml.safe_load((DOCS / "mkdocs.yml").read_text(encoding="utf-8"))
    listed: set[str] = set()

    def collect(entry: object) -> None:
        match entry:
            case str():
                listed.add(entry)
            case list():
                for each in entry:
                    collect(each)
            case dict():
                for each in entry.values():
                    collect(each)

    collect(site["nav"])
    assert listed == {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}


@pytest.mark.parametrize(
    ("page", "before", "after"),
    [
        ("recipes.md", "[edge](../quantize/recipes/edge)", "edge (`quantize/recipes/edge`)"),
        ("zh/README.md", "[docs](../index.md)", "[docs](../index.md)"),
        ("zh/README.md", "[R](../../README.md#measured)", "R (`README.md`)"),
        ("embed.md", "[flow](examples/node-red.json)", "flow (`docs/examples/node-red.json`)"),
        ("embed.md", "![p](../a.png) [x](api.md)", "![p](../a.png) [x](api.md)"),
    ],
)
def test_the_site_names_files_that_are_no_pages(page: str, before: str, after: str) -> None:
    class Page:
        class file:
            src_uri = page

    assert load(DOCS / "hooks.py").on_page_markdown(before, page=Page) == after


def test_nothing_on_the_site_comes_from_elsewhere() -> None:
    site = yaml.safe_load((DOCS / "mkdocs.yml").read_text(encoding="utf-8"))
    assert site["theme"]["font"] is False
    assert "extra_javascript" not in site and "extra_css" not in site
    svg = (DOCS / "architecture.svg").read_text(encoding="utf-8")
    assert re.findall(r'(?:href|src)="http', svg) == []


def test_the_home_assistant_example_sends_what_the_server_takes() -> None:
    folder = EXAMPLES / "home_assistant" / "custom_components" / "miloco_edge"
    body = load(folder / "client.py").request([b"\xff\xd8", b"\xff\xd8"], ["It rains"], fps=2.0)
    asked = DecideRequest.model_validate_json(json.dumps(body))
    assert asked.rules == ["It rains"] and asked.fps == 2.0 and len(asked.frames or ()) == 2
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["domain"] == folder.name and manifest["requirements"] == []
    for path in folder.glob("*.py"):
        ast.parse(path.read_text(encoding="utf-8"))
    assert (folder / "strings.json").read_text() == (folder / "translations/en.json").read_text()
    names = {path.stem for path in folder.glob("*.py")}
    assert names == {"__init__", "binary_sensor", "client", "config_flow"}


def test_the_node_red_example_is_a_whole_flow_that_the_server_takes() -> None:
    flow = json.loads((EXAMPLES / "node-red.json").read_text())
    nodes = {node["id"]: node for node in flow}
    wired = {target for node in flow for wires in node.get("wires", ()) for target in wires}
    assert wired <= set(nodes)
    body = re.search(r"msg\.payload = (\{.*?\});", nodes["me_body"]["func"])
    assert body is not None
    literal = re.sub(r"\" \+ msg\.payload\.toString\('base64'\)", 'AAAA"', body[1])
    asked = DecideRequest.model_validate_json(literal)
    assert asked.rules and asked.images and asked.deadline_s == 20
    assert nodes["me_decide"]["url"].endswith("/v1/decide")


def test_the_webhook_of_the_example_is_one_that_a_home_takes(tmp_path: Path) -> None:
    found = re.search(r"```toml\n(.*?)```", (DOCS / "embed.md").read_text(), re.DOTALL)
    assert found is not None
    (tmp_path / "home.toml").write_text(found[1])
    sinks = config.read(tmp_path / "home.toml", environ={}).sinks
    assert isinstance(sinks["home_assistant"], WebhookSink)
