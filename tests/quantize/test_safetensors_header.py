from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from quantize.errors import CheckpointError, NotFoundError
from quantize.safetensors import MAX_HEADER, read_header

GOOD = {
    "b": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [8, 20]},
    "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
    "__metadata__": {"format": "pt"},
}


def write(path: Path, header: Any, data: bytes = bytes(20), length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def test_tensors_come_in_the_order_of_their_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "x.safetensors", GOOD)
    a, b = read_header(path)
    start = path.stat().st_size - 20
    assert (a.name, a.dtype, a.shape, a.offset, a.nbytes) == ("a", "F32", (2,), start, 8)
    assert (b.name, b.dtype, b.shape, b.offset, b.nbytes) == ("b", "BF16", (2, 3), start + 8, 12)


def changed(name: str, **values: Any) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(json.dumps(GOOD))
    header[name] |= values
    return header


@pytest.mark.parametrize(
    ("header", "says"),
    [
        (changed("b", data_offsets=[4, 16]), "overlaps"),
        (changed("b", data_offsets=[10, 22]), "hole"),
        (changed("b", data_offsets=[-4, 8]), "expected 12 bytes"),
        (changed("b", data_offsets=[8, 1 << 62]), "expected 12 bytes"),
        (changed("b", data_offsets=[8]), "data_offsets"),
        (changed("b", data_offsets=[8.0, 20.0]), "data_offsets"),
        (changed("b", shape=[2, 4]), "expected 16 bytes"),
        (changed("b", shape=[-2, -3]), "sizes above 0"),
        (changed("b", shape=[True, 6]), "sizes above 0"),
        (changed("b", shape=[1] * 9), "sizes above 0"),
        (changed("b", shape="2, 3"), "dtype, shape"),
        (changed("b", dtype="F7"), "known type"),
        (GOOD | {"b": 3}, "dtype, shape"),
        ([], "object was expected"),
        (b"{,", "JSON"),
        (b"\xff\xfe{}", "JSON"),
        (b"[" * 100_000, "JSON"),
        (json.dumps(GOOD).replace('"b"', '"a"').encode(), "twice"),
    ],
)
def test_a_header_that_does_not_describe_its_file_is_refused(
    tmp_path: Path, header: Any, says: str
) -> None:
    with pytest.raises(CheckpointError, match=says):
        read_header(write(tmp_path / "x.safetensors", header))


@pytest.mark.parametrize("length", [0, 1, MAX_HEADER + 1, 1 << 63])
def test_a_header_of_absurd_length_is_not_read(tmp_path: Path, length: int) -> None:
    with pytest.raises(CheckpointError, match="header of 2 to"):
        read_header(write(tmp_path / "x.safetensors", GOOD, length=length))


@pytest.mark.parametrize("size", [0, 5, 60, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, size: int) -> None:
    path = write(tmp_path / "x.safetensors", GOOD)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CheckpointError, match="expected"):
        read_header(path)


def test_bytes_after_the_last_tensor_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="bytes, got"):
        read_header(write(tmp_path / "x.safetensors", GOOD, data=bytes(21)))


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_header(tmp_path / "x.safetensors")
