"""Who may import whom: the arrows of the house."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EVERYTHING = {
    "cli", "evaluate", "measure", "hub", "engine", "llama", "video", "prompt", "registry",
    "serve", "page",
}  # fmt: skip
ALLOWED = {
    "cli": EVERYTHING,
    "evaluate": {"engine", "video"},
    "measure": {"engine", "hub", "llama"},
    "hub": {"engine", "video"},
    "serve": {"engine", "hub", "video"},
    "page": {"engine", "hub", "video"},
    "engine": {"llama", "prompt", "video", "registry"},
    "llama": set(),
    "video": set(),
    "prompt": set(),
    "registry": set(),
}
LEAVES = {"errors", "hosts", "types"}
CTYPES_ROOMS = {"miloco_edge/llama", "quantize"}


def imports(path: Path) -> set[str]:
    """Absolute names of all modules that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return names


def modules(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found
    return found


@pytest.mark.parametrize("room", ALLOWED)
def test_rooms_import_along_the_arrows(room: str) -> None:
    for path in modules(f"miloco_edge/{room}"):
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == "quantize":
                assert room == "cli", f"{path.name} imports {name}"
            if (
                parts[0] == "miloco_edge"
                and len(parts) > 1
                and (
                    (ROOT / "miloco_edge" / parts[1]).is_dir()
                    or (ROOT / "miloco_edge" / f"{parts[1]}.py").is_file()
                )
            ):
                assert parts[1] in ALLOWED[room] | LEAVES | {room}, f"{path.name} imports {name}"


def test_every_room_has_its_arrows() -> None:
    rooms = {p.name for p in (ROOT / "miloco_edge").iterdir() if (p / "__init__.py").is_file()}
    assert rooms == set(ALLOWED)


def test_quantize_stands_alone_but_for_calibration() -> None:
    for path in modules("quantize"):
        ours = {n.split(".")[1] for n in imports(path) if n.startswith("miloco_edge.")}
        if path.name == "calibration.py":
            assert ours <= {"engine", "llama", "registry", "video"} | LEAVES
        else:
            assert not ours and "miloco_edge" not in imports(path), path
        if path.name in ("__init__.py", "pipeline.py"):
            assert "quantize.calibration" not in imports(path), "it loads llama.cpp"


def test_ctypes_stays_in_its_rooms() -> None:
    for folder in ("miloco_edge", "quantize"):
        for path in modules(folder):
            if "ctypes" in imports(path):
                where = path.relative_to(ROOT).as_posix()
                assert any(where.startswith(room) for room in CTYPES_ROOMS), where


def test_public_names_are_those_that_are_exported() -> None:
    import miloco_edge

    assert all(getattr(miloco_edge, name) is not None for name in miloco_edge.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        miloco_edge.Nothing  # noqa: B018
