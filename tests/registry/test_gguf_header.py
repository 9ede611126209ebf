"""A header is read as if an enemy had written it: hostile files are refused, and cheaply."""

from __future__ import annotations

import ctypes
import struct
import time
import tracemalloc
from pathlib import Path

import gguf as gguf_py
import llama_cpp
import numpy as np
import pytest

from miloco_edge.errors import GGUFError
from miloco_edge.registry.ggml_types import FILE_TYPES, TENSOR_TYPES
from miloco_edge.registry.gguf_header import GGUFHeader, read_header
from tests.registry.gguf_bytes import (
    F32,
    Q4_0,
    flips,
    gguf,
    string,
    tensor_info,
    text_keys,
    text_tensors,
    value,
    write_pair,
)

GOLDEN = (
    b"GGUF\x03\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00"
    b"\x01\x00\x00\x00\x00\x00\x00\x00a\x04\x00\x00\x00\x07\x00\x00\x00"
    b"\x01\x00\x00\x00\x00\x00\x00\x00b\x09\x00\x00\x00\x08\x00\x00\x00"
    b"\x02\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00x\x00\x00\x00\x00\x00\x00\x00\x00"
    b"\x01\x00\x00\x00\x00\x00\x00\x00t\x01\x00\x00\x00\x20\x00\x00\x00\x00\x00\x00\x00"
    b"\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
)


def read(tmp_path: Path, content: bytes) -> GGUFHeader:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    return read_header(path)


def test_golden_bytes(tmp_path: Path) -> None:
    start = -(-len(GOLDEN) // 32) * 32
    header = read(tmp_path, GOLDEN + bytes(start - len(GOLDEN)) + bytes(18))
    assert header.metadata["a"] == 7
    assert list(header.metadata["b"]) == ["x", ""]
    assert dict(header.types) == {"a": "u32", "b": "[str]"}
    (tensor,) = header.tensors
    assert (tensor.name, tensor.shape, tensor.type) == ("t", (32,), "Q4_0")
    assert (tensor.offset, tensor.nbytes, header.data_offset) == (0, 18, start)
    assert (
        gguf([("a", "u32", 7), ("b", "[str]", ["x", ""])], [("t", (32,), Q4_0)])[: len(GOLDEN)]
        == GOLDEN
    )


def test_every_type_of_value(tmp_path: Path) -> None:
    scalars = {
        "u8": 255, "i8": -1, "u16": 65535, "i16": -2, "u32": 1 << 31, "i32": -3, "f32": 0.5,
        "bool": True, "u64": 1 << 63, "i64": -(1 << 60), "f64": 0.1, "str": "Ġ",
    }  # fmt: skip
    header = read(tmp_path, gguf([(kind, kind, content) for kind, content in scalars.items()]))
    assert dict(header.metadata) == scalars
    arrays = {f"[{kind}]": [content, content] for kind, content in scalars.items()}
    header = read(tmp_path, gguf([(kind, kind, content) for kind, content in arrays.items()]))
    for kind, content in arrays.items():
        assert header.types[kind] == kind
        assert list(header.metadata[kind]) == content


def test_reads_what_gguf_py_writes(tmp_path: Path) -> None:
    path = tmp_path / "theirs.gguf"
    writer = gguf_py.GGUFWriter(path, "qwen2vl")
    writer.add_file_type(15)
    writer.add_array("list", [1, 2, 3])
    writer.add_tensor("w", np.ones((4, 64), np.float16))
    writer.add_tensor("v", np.ones(3, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header = read_header(path)
    assert (header.architecture, header.file_type) == ("qwen2vl", "Q4_K_M")
    assert [(t.name, t.shape, t.type, t.offset) for t in header.tensors] == [
        ("w", (64, 4), "F16", 0), ("v", (3,), "F32", 512),
    ]  # fmt: skip
    assert header.parameters == 259
    assert header.bits_per_weight == pytest.approx(8 * (512 + 12) / 259)


def test_sizes_are_those_of_the_library() -> None:
    library = next((Path(llama_cpp.__file__).parent / "lib").glob("*ggml-base.*"))
    ggml = ctypes.CDLL(str(library))
    ggml.ggml_type_size.restype = ctypes.c_size_t
    ggml.ggml_blck_size.restype = ctypes.c_int64
    ggml.ggml_type_name.restype = ctypes.c_char_p
    for number, kind in TENSOR_TYPES.items():
        assert ggml.ggml_type_name(number).decode().upper() == kind.name
        assert (ggml.ggml_blck_size(number), ggml.ggml_type_size(number)) == (
            kind.block,
            kind.nbytes,
        )


def test_file_types_are_those_of_the_library() -> None:
    ours = {name: number for number, name in FILE_TYPES.items()}
    for name in ("Q4_0", "Q4_K_M", "Q4_K_S", "Q6_K", "IQ4_XS", "IQ4_NL", "Q3_K_M", "BF16", "Q8_0"):
        assert getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{name}") == ours[name]


def test_without_a_file_type_the_commonest_type_is_meant(tmp_path: Path) -> None:
    keys = [key for key in text_keys() if key[0] != "general.file_type"]
    assert read(tmp_path, gguf(keys, text_tensors())).file_type == "Q4_0"
    wrong = [("general.file_type", "[u32]", [2])]
    assert read(tmp_path, gguf(wrong, text_tensors())).file_type == "Q4_0"
    assert read(tmp_path, gguf([])).file_type == "unknown"


def head(tensors: int = 0, keys: int = 0, version: int = 3, magic: bytes = b"GGUF") -> bytes:
    return magic + struct.pack("<IQQ", version, tensors, keys)


def with_tensor(*entries: bytes, data: int = 4096) -> bytes:
    content = head(tensors=len(entries)) + b"".join(entries)
    return content + bytes(-len(content) % 32 + data)


def with_value(raw: bytes) -> bytes:
    return head(keys=1) + string("k") + raw + bytes(64)


ALIGN = string("general.alignment")

# Named after llama.cpp's tests/test-gguf.cpp, and then some.
ATTACKS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "expected a GGUF file"),
    "bad_magic": (head(magic=b"FUGU"), "expected a GGUF file"),
    "git_lfs_pointer": (b"version https://git-lfs.github.com/spec/v1\n", "expected a GGUF file"),
    "magic_alone": (b"GGUF", "end of the file"),
    "bad_version_0": (head(version=0), "version 2 or 3, got 0"),
    "bad_version_1": (head(version=1), "version 2 or 3, got 1"),
    "bad_version_future": (head(version=4), "version 2 or 3, got 4"),
    "big_endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    "bad_n_tensors": (head(tensors=1 << 63), "tensors, got"),
    "bad_n_kv": (head(keys=(1 << 64) - 1), "metadata keys, got"),
    "promised_keys_are_missing": (head(keys=4), "end of the file"),
    "kv_bad_key_size": (head(keys=1) + struct.pack("<Q", 1 << 62), "a key of at most"),
    "kv_long_key": (head(keys=1) + string(b"k" * 70000) + value("u32", 1), "a key of at most"),
    "kv_empty_key": (head(keys=1) + string("") + value("u32", 1), "got an empty one"),
    "kv_key_not_utf8": (head(keys=1) + string(b"\xff\xfe") + value("u32", 1), "UTF-8"),
    "kv_bad_type": (with_value(struct.pack("<I", 13)), "value type of 0 to 12"),
    "kv_duplicate_key": (head(keys=2) + (string("k") + value("u32", 1)) * 2, "'k' twice"),
    "kv_bool_of_2": (with_value(struct.pack("<IB", 7, 2)), "bool of 0 or 1"),
    "kv_string_past_the_end": (with_value(struct.pack("<IQ", 8, 1000)), "end of the file"),
    "kv_string_of_an_exabyte": (with_value(struct.pack("<IQ", 8, 1 << 60)), "at most"),
    "kv_string_not_utf8": (with_value(value("str", b"\xc3\x28")), "UTF-8"),
    "kv_nested_array": (with_value(struct.pack("<IIQ", 9, 9, 1)), "element type 9"),
    "kv_array_of_nothing_known": (with_value(struct.pack("<IIQ", 9, 99, 1)), "element type 99"),
    "kv_array_past_the_end": (with_value(struct.pack("<IIQ", 9, 4, 1 << 20)), "end of the file"),
    "kv_array_wraps_64_bits": (with_value(struct.pack("<IIQ", 9, 10, 1 << 61)), "end of the file"),
    "kv_array_of_endless_strings": (with_value(struct.pack("<IIQ", 9, 8, 1 << 40)), "strings"),
    "kv_string_in_array_past_the_end": (
        with_value(struct.pack("<IIQQ", 9, 8, 1, 1 << 63)), "end of the file",
    ),
    "kv_bad_align": (head(keys=1) + ALIGN + value("u32", 7), "power of two"),
    "kv_align_0": (head(keys=1) + ALIGN + value("u32", 0), "power of two"),
    "kv_align_huge": (head(keys=1) + ALIGN + value("u32", 1 << 31), "power of two"),
    "kv_align_below_what_ggml_maps": (head(keys=1) + ALIGN + value("u32", 8), "32 to 4096"),
    "kv_wrong_type_align": (head(keys=1) + ALIGN + value("u64", 32), "u64 32"),
    "tensors_bad_name_size": (with_tensor(tensor_info("n" * 64, (1,), F32, 0)), "name of at most"),
    "tensor_name_not_utf8": (with_tensor(tensor_info(b"\xff", (1,), F32, 0)), "UTF-8"),
    "bad_n_dims": (with_tensor(tensor_info("t", (1,) * 5, F32, 0)), "1 to 4 dimensions, got 5"),
    "endless_dims": (
        with_tensor(string("t") + struct.pack("<I", 0xFFFFFFFF)), "dimensions, got 4294967295",
    ),
    "no_dims": (with_tensor(tensor_info("t", (), F32, 0)), "dimensions, got 0"),
    "zero_dim": (with_tensor(tensor_info("t", (32, 0), F32, 0)), "positive dimensions"),
    "negative_dim": (with_tensor(tensor_info("t", ((1 << 64) - 1,), F32, 0)), "positive"),
    "ne_too_big": (with_tensor(tensor_info("t", (1 << 32, 1 << 32), F32, 0)), "file's"),
    "nbytes_wraps_64_bits": (
        with_tensor(tensor_info("t", (1 << 31, 1 << 31, 4), F32, 0)), "file's",
    ),
    "bad_type": (with_tensor(tensor_info("t", (32,), 43, 0)), "type that llama.cpp knows"),
    "removed_type": (with_tensor(tensor_info("t", (32,), 31, 0)), "type that llama.cpp knows"),
    "bad_shape": (with_tensor(tensor_info("t", (33,), Q4_0, 0)), "multiple of 32 for Q4_0"),
    "bad_offset": (with_tensor(tensor_info("t", (8,), F32, 32)), "expected offset 0, got 32"),
    "overlap": (
        with_tensor(tensor_info("a", (16,), F32, 0), tensor_info("b", (16,), F32, 32)),
        "expected offset 64, got 32",
    ),
    "unaligned": (
        with_tensor(tensor_info("a", (9,), F32, 0), tensor_info("b", (9,), F32, 36)),
        "expected offset 64, got 36",
    ),
    "out_of_order": (
        with_tensor(tensor_info("a", (16,), F32, 64), tensor_info("b", (16,), F32, 0)),
        "expected offset 0, got 64",
    ),
    "duplicate_name": (
        with_tensor(tensor_info("t", (8,), F32, 0), tensor_info("t", (8,), F32, 32)), "'t' twice",
    ),
    "data_not_enough_data": (
        with_tensor(tensor_info("t", (64,), F32, 0), data=255), "expected at least",
    ),
    "no_data": (head(tensors=1) + tensor_info("t", (8,), F32, 0), "expected at least"),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_is_refused(name: str, tmp_path: Path) -> None:
    content, message = ATTACKS[name]
    tracemalloc.start()
    began = time.perf_counter()
    with pytest.raises(GGUFError) as caught:
        read(tmp_path, content)
    seconds = time.perf_counter() - began
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert message in str(caught.value)
    assert caught.value.hint
    assert seconds < 1
    assert peak < 8 << 20


def test_a_header_without_end_is_refused(tmp_path: Path) -> None:
    """A sparse file: 4 GiB of zeros read as empty strings, in arrays that are each allowed."""
    path = tmp_path / "sparse.gguf"
    array = struct.pack("<IIQ", 9, 8, 1 << 19)
    with path.open("wb") as file:
        file.write(head(keys=4000))
        for i in range(3):
            file.write(string(f"k{i}") + array)
            file.seek(8 << 19, 1)
        file.truncate(4 << 30)
    began = time.perf_counter()
    with pytest.raises(GGUFError, match="strings in arrays"):
        read_header(path)
    assert time.perf_counter() - began < 5


def test_a_header_of_many_megabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sparse.gguf"
    with path.open("wb") as file:
        file.write(head(keys=1) + string("k") + struct.pack("<IIQ", 9, 0, 1 << 30))
        file.truncate(2 << 30)
    with pytest.raises(GGUFError, match="header of at most"):
        read_header(path)


@pytest.mark.parametrize("which", [0, 1], ids=["text", "mmproj"])
def test_flipped_bits_raise_nothing_else(which: int, tmp_path: Path) -> None:
    path = write_pair(tmp_path)[which]
    refused = 0
    for _ in flips(path, read_header(path).data_offset, count=1500, seed=20251):
        began = time.perf_counter()
        try:
            read_header(path)
        except GGUFError:
            refused += 1
        assert time.perf_counter() - began < 2
    assert 300 < refused < 1500
    read_header(path)


def test_cut_anywhere_is_refused(tmp_path: Path) -> None:
    content = gguf(text_keys(), text_tensors())
    path = tmp_path / "cut.gguf"
    last = len(content) - 33  # within the last tensor's padding the file is still whole
    for length in sorted({*range(0, 2000, 7), *range(2000, last, 997), last}):
        path.write_bytes(content[:length])
        with pytest.raises(GGUFError):
            read_header(path)


def test_a_vocabulary_of_the_real_size_is_read_in_time(tmp_path: Path) -> None:
    tokens = [f"token{i}" for i in range(151_936)]
    merges = [f"to ken{i}" for i in range(151_387)]
    path = tmp_path / "vocabulary.gguf"
    path.write_bytes(
        gguf(
            [
                ("tokenizer.ggml.tokens", "[str]", tokens),
                ("tokenizer.ggml.token_type", "[i32]", [1] * len(tokens)),
                ("tokenizer.ggml.merges", "[str]", merges),
            ]
        )
    )
    began = time.perf_counter()
    header = read_header(path)
    seconds = time.perf_counter() - began
    assert header.metadata["tokenizer.ggml.tokens"][151_935] == "token151935"
    assert seconds < 0.5


def test_a_missing_file_is_the_systems_own_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_header(tmp_path / "none.gguf")
