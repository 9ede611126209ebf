"""llama-quantize's mixtures for MiMo-VL-7B's shapes.

Counts and sizes are those of llama_quant_compute_types, libllama's own selector;
tests/reference/test_mixtures.py asks it again.
"""

from __future__ import annotations

from collections import Counter

import pytest

from quantize.codec import Type
from quantize.names import Tensor
from quantize.recipes import Contents, choose_types, find_recipe
from quantize.recipes.mixtures import MIXTURES
from tests.quantize.mimo import nbytes, text_types, vision_types

GIB = 2**30
MORE_BITS = [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 31, 32, 33, 34, 35]

TEXT = {
    "q8_0": ({"Q8_0": 254}, 7.544),
    "q6_k": ({"Q6_K": 254}, 5.825),
    "q5_k_m": ({"Q5_K": 217, "Q6_K": 37}, 5.069),
    "q4_k_m": ({"Q4_K": 217, "Q6_K": 37}, 4.357),
    "q4_k_s": ({"Q4_K": 245, "Q5_K": 8, "Q6_K": 1}, 4.167),
    "q4_0": ({"Q4_0": 253, "Q6_K": 1}, 4.144),
    "q3_k_m": ({"Q3_K": 145, "Q4_K": 104, "Q5_K": 4, "Q6_K": 1}, 3.584),
    "iq4_nl": ({"IQ4_NL": 213, "Q5_K": 40, "Q6_K": 1}, 4.183),
    "iq4_xs": ({"IQ4_XS": 213, "Q5_K": 40, "Q6_K": 1}, 3.989),
}
WITH_IMATRIX = {
    "q4_0": ({"Q4_0": 249, "Q4_1": 4, "Q6_K": 1}, 4.155),
    "iq4_nl": ({"IQ4_NL": 217, "Q5_K": 36, "Q6_K": 1}, 4.162),
    "iq4_xs": ({"IQ4_XS": 217, "Q5_K": 36, "Q6_K": 1}, 3.962),
}
"""Where it makes a difference to the types."""

MMPROJ = {
    ("q8_0", 3456): ({"Q8_0": 226}, 0.682),
    ("q8_0", 3420): ({"Q8_0": 194, "F16": 32}, 0.800),
    ("q6_k", 3456): ({"Q6_K": 194, "Q8_0": 32}, 0.560),
    ("q5_k_m", 3456): ({"Q5_K": 178, "Q6_K": 16, "Q8_0": 32}, 0.497),
    ("q4_k_m", 3456): ({"Q4_K": 178, "Q6_K": 16, "Q8_0": 32}, 0.437),
    ("q4_k_m", 3420): ({"Q4_K": 178, "Q6_K": 16, "F16": 32}, 0.556),
    ("q4_k_s", 3456): ({"Q4_K": 190, "Q5_K": 4, "Q5_0": 32}, 0.382),
    ("q4_0", 3456): ({"Q4_0": 226}, 0.365),
    ("q3_k_m", 3456): ({"Q3_K": 162, "Q4_K": 30, "Q5_K": 2, "Q5_0": 32}, 0.321),
    ("iq4_nl", 3456): ({"IQ4_NL": 226}, 0.365),
    ("iq4_xs", 3456): ({"IQ4_XS": 194, "IQ4_NL": 32}, 0.349),
}


def count(types: list[tuple[Tensor, Type]]) -> dict[str, int]:
    return dict(Counter(type.name for _, type in types if type is not Type.F32))


def by_name(types: list[tuple[Tensor, Type]]) -> dict[str, str]:
    return {tensor.name: type.name for tensor, type in types}


@pytest.mark.parametrize("recipe", TEXT)
@pytest.mark.parametrize("has_imatrix", [False, True])
def test_the_text_file(recipe: str, has_imatrix: bool) -> None:
    types = text_types(recipe, has_imatrix=has_imatrix)
    expected, size = (WITH_IMATRIX if has_imatrix else TEXT).get(recipe, TEXT[recipe])
    assert count(types) == expected
    assert nbytes(types) / GIB == pytest.approx(size, abs=5e-4)
    assert by_name(types)["output.weight"] == ("Q8_0" if recipe == "q8_0" else "Q6_K")


@pytest.mark.parametrize(("recipe", "ffn"), MMPROJ)
def test_the_mmproj(recipe: str, ffn: int) -> None:
    types = vision_types(recipe, ffn)
    expected, size = MMPROJ[recipe, ffn]
    assert count(types) == expected
    assert nbytes(types) / GIB == pytest.approx(size, abs=5e-4)
    assert vision_types(recipe, ffn, has_imatrix=True) == types


def test_more_bits_go_to_the_ends_and_every_third_layer_between() -> None:
    types = by_name(text_types("q4_k_m"))
    for role in ("attn_v", "ffn_down"):
        assert [i for i in range(36) if types[f"blk.{i}.{role}.weight"] == "Q6_K"] == MORE_BITS


def test_in_an_mmproj_positions_are_not_layers() -> None:
    types = by_name(vision_types("q3_k_m"))
    finer = [i for i in range(32) if types[f"v.blk.{i}.attn_v.weight"] == "Q5_K"]
    assert finer == [0, 1]
    types = by_name(vision_types("q4_k_s"))
    finer = [i for i in range(32) if types[f"v.blk.{i}.attn_v.weight"] == "Q5_K"]
    assert finer == [0, 1, 10, 11]


@pytest.mark.parametrize("recipe", MIXTURES)
def test_an_embedding_that_doubles_as_the_output_gets_the_outputs_type(recipe: str) -> None:
    separate, tied = by_name(text_types(recipe)), by_name(text_types(recipe, tied=True))
    assert tied["token_embd.weight"] == separate["output.weight"]
    assert separate["token_embd.weight"] == MIXTURES[recipe].type.name


@pytest.mark.parametrize(
    ("recipe", "columns", "expected"),
    [
        ("q4_0", 512, Type.Q6_K), ("q4_0", 480, Type.Q8_0), ("q4_0", 420, Type.F16),
        ("q4_k_m", 480, Type.Q8_0), ("q8_0", 420, Type.F16),
    ],
)  # fmt: skip
def test_an_output_whose_rows_do_not_fit(recipe: str, columns: int, expected: Type) -> None:
    output = (Tensor("output.weight", (8, columns), "lm_head.weight", (8, columns)),)
    ((_, type),) = choose_types(find_recipe(recipe), Contents("text", output, 1, 1))
    assert type is expected
