"""The imatrix's bytes, and files that are not one."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from quantize.errors import ImatrixError, NotFoundError, RefusedError
from quantize.imatrix import (
    Entry,
    Imatrix,
    read_imatrix,
    weights,
    write_imatrix,
)


def imatrix(**changes: Any) -> Imatrix:
    entries = {
        "blk.0.ffn_up.weight": Entry(np.array([1, 2, 3], np.float32), 2),
        "blk.0.attn_q.weight": Entry(np.array([0.5, 0], np.float32), 4),
    }
    values: dict[str, Any] = {
        "entries": entries, "datasets": ("home",), "chunk_count": 7, "chunk_size": 512,
    }  # fmt: skip
    return Imatrix(**{**values, **changes})


def same(a: Imatrix, b: Imatrix) -> bool:
    return (a.datasets, a.chunk_count, a.chunk_size, a.entries.keys()) == (
        b.datasets, b.chunk_count, b.chunk_size, b.entries.keys(),
    ) and all(
        a.entries[name].count == entry.count and np.array_equal(a.entries[name].sums, entry.sums)
        for name, entry in b.entries.items()
    )  # fmt: skip


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def tensor(name: str, columns: int, offset: int) -> bytes:
    """One dimension: C's gguf writer drops trailing ones of [columns, 1]."""
    return string(name) + struct.pack("<IQIQ", 1, columns, 0, offset)


def test_the_bytes_are_those_of_the_format(tmp_path: Path) -> None:
    head = b"GGUF" + struct.pack("<IQQ", 3, 4, 4)
    head += string("general.type") + struct.pack("<I", 8) + string("imatrix")
    head += string("imatrix.datasets") + struct.pack("<IIQ", 9, 8, 1) + string("home")
    head += string("imatrix.chunk_count") + struct.pack("<II", 4, 7)
    head += string("imatrix.chunk_size") + struct.pack("<II", 4, 512)
    head += tensor("blk.0.attn_q.weight.in_sum2", 2, 0)
    head += tensor("blk.0.attn_q.weight.counts", 1, 32)
    head += tensor("blk.0.ffn_up.weight.in_sum2", 3, 64)
    head += tensor("blk.0.ffn_up.weight.counts", 1, 96)
    rows = [(0.5, 0.0), (4.0,), (1.0, 2.0, 3.0), (2.0,)]
    data = b"".join(struct.pack(f"<{len(r)}f", *r).ljust(32, b"\0") for r in rows)
    expected = head + bytes(-len(head) % 32) + data
    write_imatrix(tmp_path / "a.gguf", imatrix())
    assert (tmp_path / "a.gguf").read_bytes() == expected


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    write_imatrix(path, imatrix())
    assert same(read_imatrix(path), imatrix())
    write_imatrix(path, imatrix(datasets=("a", "家")))
    assert read_imatrix(path).datasets == ("a", "家")
    assert [p.name for p in tmp_path.iterdir()] == ["a.gguf"]


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.gguf"
    write_imatrix(path, imatrix())
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensors_to_file", full)
    with pytest.raises(OSError, match="No space"):
        write_imatrix(path, imatrix(chunk_count=9))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.gguf"]


def test_weights_are_llama_quantizes(tmp_path: Path) -> None:
    it = imatrix(entries={**imatrix().entries, "mm.0.weight": Entry(np.ones(2, np.float32) * 5, 0)})
    up = weights(it, "blk.0.ffn_up.weight", 3)
    assert up is not None and up.dtype == np.float32
    np.testing.assert_array_equal(up, np.array([1, 2, 3], np.float32) / np.float32(2))
    np.testing.assert_array_equal(weights(it, "mm.0.weight", 2), [1, 1])
    assert weights(it, "blk.9.ffn_up.weight", 3) is None
    with pytest.raises(ImatrixError, match=r"expected 4 importances of blk.0.ffn_up.weight, got 3"):
        weights(it, "blk.0.ffn_up.weight", 4)


def legacy(*entries: tuple[str, int, list[float]], tail: bytes = b"") -> bytes:
    data = struct.pack("<i", len(entries))
    for name, calls, sums in entries:
        data += struct.pack("<i", len(name)) + name.encode()
        data += struct.pack(f"<ii{len(sums)}f", calls, len(sums), *sums)
    return data + tail


def test_the_legacy_format(tmp_path: Path) -> None:
    path = tmp_path / "imatrix.dat"
    tail = struct.pack("<ii", 100, 8) + b"wiki.txt"
    path.write_bytes(legacy(("blk.0.ffn_up.weight", 100, [200, 50]), tail=tail))
    it = read_imatrix(path)
    assert (it.datasets, it.chunk_count) == (("wiki.txt",), 100)
    np.testing.assert_array_equal(weights(it, "blk.0.ffn_up.weight", 2), [2, 0.5])
    path.write_bytes(legacy(("blk.0.ffn_up.weight", 0, [200, 50])))
    np.testing.assert_array_equal(weights(read_imatrix(path), "blk.0.ffn_up.weight", 2), [200, 50])


def gguf_file(path: Path, kind: str, tensors: dict[str, Any], keys: bool = True) -> Path:
    writer = gguf.GGUFWriter(path, "none")
    writer.add_type(kind)
    if keys:
        writer.add_array("imatrix.datasets", ["home"])
        writer.add_uint32("imatrix.chunk_count", 1)
        writer.add_uint32("imatrix.chunk_size", 1)
    for name, values in tensors.items():
        writer.add_tensor(name, np.asarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


ONE = np.ones(1, np.float32)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"a.in_sum2": [np.nan, 1], "a.counts": [1]}, "finite and not negative, got nan in col"),
        ({"a.in_sum2": [1, np.inf], "a.counts": [1]}, "got inf in column 1"),
        ({"a.in_sum2": [-1, 1], "a.counts": [1]}, "got -1.0 in column 0"),
        ({"a.in_sum2": [1], "a.counts": [np.nan]}, "a.counts finite"),
        ({"a.in_sum2": [1], "a.counts": [0]}, "expected rows to have been counted, got 0"),
        ({"a.in_sum2": [1]}, "expected a.counts, got none"),
        ({"a.in_sum2": [1], "a.counts": [1, 2]}, "with one count, got float32 and 2"),
        ({"a": [1]}, "expected sums of activations, got none"),
    ],
)
def test_numbers_that_are_no_sums(tmp_path: Path, tensors: dict[str, Any], message: str) -> None:
    values = {name: np.asarray(v, np.float32) for name, v in tensors.items()}
    with pytest.raises(ImatrixError, match=message):
        read_imatrix(gguf_file(tmp_path / "a.gguf", "imatrix", values))


def test_files_that_are_no_imatrix(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    sums = {"a.in_sum2": ONE, "a.counts": ONE}
    with pytest.raises(NotFoundError):
        read_imatrix(path)
    with pytest.raises(ImatrixError, match=r"expected general\.type imatrix, got model"):
        read_imatrix(gguf_file(path, "model", sums))
    with pytest.raises(ImatrixError, match=r"expected imatrix\.datasets, got None"):
        read_imatrix(gguf_file(path, "imatrix", sums, keys=False))
    with pytest.raises(ImatrixError, match="float64"):
        read_imatrix(gguf_file(path, "imatrix", {"a.in_sum2": ONE.astype(float), "a.counts": ONE}))
    for data in (b"", b"GGUF", b"no imatrix at all", struct.pack("<i", -1)):
        path.write_bytes(data)
        with pytest.raises(RefusedError):
            read_imatrix(path)


@pytest.mark.parametrize("form", ["gguf", "legacy"])
def test_damaged_files_are_refused_or_read(tmp_path: Path, form: str) -> None:
    """Cut anywhere or with any byte changed: an imatrix, or our error."""
    path = tmp_path / "a"
    write_imatrix(path, imatrix())
    if form == "legacy":
        path.write_bytes(legacy(("blk.0.ffn_up.weight", 3, [1, 2]), ("output.weight", 3, [4])))
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [whole[:end] for end in range(0, len(whole), 7)]
    for position in range(len(whole)):
        data = bytearray(whole)
        data[position] ^= int(rng.integers(1, 256))
        damaged.append(bytes(data))
    refused = 0
    for data in damaged:
        path.write_bytes(data)
        try:
            read_imatrix(path)
        except RefusedError:
            refused += 1
    assert refused > len(whole) // 7
