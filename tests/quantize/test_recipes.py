from __future__ import annotations

from pathlib import Path

import pytest

from quantize.codec import Type
from quantize.errors import NotFoundError, RecipeError
from quantize.names import Tensor
from quantize.recipes import (
    NAMES,
    Contents,
    choose_types,
    file_type,
    find_mmproj_recipe,
    find_recipe,
)
from tests.quantize.mimo import text_types, vision_types


def tensor(name: str, *shape: int) -> Tensor:
    return Tensor(name, shape, name, shape)


TEXT = (
    tensor("output.weight", 768, 256),
    tensor("output_norm.weight", 256),
    tensor("token_embd.weight", 768, 256),
    tensor("blk.0.attn_q.bias", 256),
    tensor("blk.0.attn_q.weight", 256, 256),
    tensor("blk.0.ffn_down.weight", 256, 480),
)
VISION = (
    tensor("mm.0.weight", 1024, 1024),
    tensor("v.blk.0.ffn_down.weight", 256, 420),
    tensor("v.blk.0.ln1.weight", 256),
    tensor("v.patch_embd.weight", 256, 3, 14, 14),
    tensor("v.patch_embd.weight.1", 256, 3, 14, 14),
)


def types(recipe: str, tensors: tuple[Tensor, ...], file: str) -> list[str]:
    contents = Contents("text" if file == "text" else "mmproj", tensors, 2, 1)
    return [type.name for _, type in choose_types(find_recipe(recipe), contents)]


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("bf16", ["BF16", "F32", "BF16", "F32", "BF16", "BF16"]),
        ("f16", ["F16", "F32", "F16", "F32", "F16", "F16"]),
        ("q8_0", ["Q8_0", "F32", "Q8_0", "F32", "Q8_0", "Q8_0"]),
        ("q4_0", ["Q6_K", "F32", "Q4_0", "F32", "Q4_0", "Q4_0"]),
    ],
)
def test_types_of_the_text_file(recipe: str, expected: list[str]) -> None:
    assert types(recipe, TEXT, "text") == expected


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("bf16", ["BF16", "BF16", "F32", "F32", "F32"]),
        ("f16", ["F16", "F16", "F32", "F16", "F16"]),
        ("q8_0", ["Q8_0", "F16", "F32", "F32", "F32"]),
        ("q4_0", ["Q4_0", "F16", "F32", "F32", "F32"]),
    ],
)
def test_types_of_the_mmproj(recipe: str, expected: list[str]) -> None:
    assert types(recipe, VISION, "mmproj") == expected


def test_an_unknown_recipe_is_refused_with_the_known_ones() -> None:
    with pytest.raises(RecipeError, match=r"bf16, f16, q8_0.*edge-x86") as raised:
        find_recipe("q3")
    assert raised.value.hint


def test_a_mixture_goes_with_a_bf16_mmproj_and_our_own_recipes_with_their_own() -> None:
    for name in NAMES:
        text = find_recipe(name)
        assert find_mmproj_recipe("q4_0", text).name == "q4_0"
        expected = name if name.startswith("edge-") else "bf16"
        assert find_mmproj_recipe(None, text).name == expected


EXAMPLE = """
[text]
default = "Q4_K"
[[text.rules]]
match = "blk.*.ffn_down.weight"
layers = "0-3, 35"
type = "Q6_K"
[[text.rules]]
match = "blk.*.ffn_down.weight"
type = "Q5_K"
[[text.rules]]
match = "blk.?.attn_v.weight"
type = "Q8_0"

[mmproj]
pad_ffn = 256
default = "Q5_K"
[[mmproj.rules]]
match = "mm.*"
type = "BF16"
"""


def write(folder: Path, text: str, name: str = "porch.toml") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_the_first_rule_of_a_file_that_matches_decides(tmp_path: Path) -> None:
    path = write(tmp_path, EXAMPLE)
    assert find_recipe(path).name == "porch"
    chosen = {tensor.name: type.name for tensor, type in text_types(path)}
    down = [chosen[f"blk.{i}.ffn_down.weight"] for i in range(36)]
    assert down == ["Q6_K"] * 4 + ["Q5_K"] * 31 + ["Q6_K"]
    assert [chosen[f"blk.{i}.attn_v.weight"] for i in (0, 9, 10, 35)] == [
        "Q8_0", "Q8_0", "Q4_K", "Q4_K",
    ]  # fmt: skip
    assert chosen["output.weight"] == chosen["token_embd.weight"] == "Q4_K"
    assert chosen["blk.0.attn_norm.weight"] == "F32"
    vision = {tensor.name: type.name for tensor, type in vision_types(path)}
    assert vision["mm.0.weight"] == vision["mm.2.weight"] == "BF16"
    assert vision["v.blk.7.ffn_down.weight"] == "Q5_K"


def test_a_file_may_start_from_a_mixture(tmp_path: Path) -> None:
    path = write(
        tmp_path, '[text]\nmixture = "q4_k_m"\n[[text.rules]]\nmatch="output.weight"\ntype="Q8_0"'
    )
    ours, theirs = text_types(path), text_types("q4_k_m")
    assert [pair for pair in ours if pair not in theirs] == [(ours[0][0], Type.Q8_0)]
    assert find_mmproj_recipe(None, find_recipe(path)).name == "bf16"


def test_the_file_type_is_that_of_most_weights(tmp_path: Path) -> None:
    path = write(tmp_path, EXAMPLE)
    assert file_type(find_recipe(path), text_types(path)) == 15
    assert file_type(find_recipe(path), vision_types(path)) == 17
    assert file_type(find_recipe("q4_k_s"), text_types("q4_k_s")) == 14


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[text", "expected TOML"),
        ("", "text: expected a table, got None"),
        ("[text]", "text: expected either `mixture` or `default`"),
        ('[text]\ndefault="Q4_K"\nmixture="q4_0"', "text: expected either"),
        ('[text]\ndefault="Q9_K"', "text: default: expected one of F32, .*, got 'Q9_K'"),
        ('[text]\nmixture="bf16"', "text: mixture: expected one of q8_0, .*, got 'bf16'"),
        ('[text]\ndefault="Q4_K"\npad_ffn=256', "text: expected no key 'pad_ffn'"),
        ('[text]\ndefault="Q4_K"\n[vision]', "expected no key 'vision'"),
        ('[text]\ndefault="Q4_K"\n[mmproj]\ndefault="Q8_0"\npad_ffn=100',
         "mmproj: pad_ffn: expected one of .*, got 100"),
        ('[text]\ndefault=4', "text: default: expected str, got 4"),
        ('[text]\ndefault="Q4_K"\nrules=3', "text: rules: expected list, got 3"),
        ('[text]\ndefault="Q4_K"\nrules=[3]', r"text.rules\[1\]: expected a table, got 3"),
        ('[text]\ndefault="Q4_K"\nrules=[{match="x"}]', r"text.rules\[1\]: type: expected str"),
        ('[text]\ndefault="Q4_K"\nrules=[{match="x",type="q4_k"}]',
         r"text.rules\[1\]: type: expected one of .*, got 'q4_k'"),
        ('[text]\ndefault="Q4_K"\nrules=[{match="x",type="Q4_K",layers="3-1"}]',
         r"text.rules\[1\]: layers: expected like \"0-3, 7\", got '3-1'"),
        ('[text]\ndefault="Q4_K"\nrules=[{match="x",type="Q4_K",layer=1}]',
         r"text.rules\[1\]: expected no key 'layer'"),
    ],
)  # fmt: skip
def test_a_file_that_says_nothing_sensible_is_refused_at_its_place(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        find_recipe(write(tmp_path, text))


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ('[{match="blk.*.ffn_dwn.weight",type="Q6_K"}]',
         r"text.rules\[1\]: expected 'blk.\*.ffn_dwn.weight' to match weights .*, got none"),
        ('[{match="blk.*.ffn_up.weight",type="Q6_K",layers="36-40"}]', "got none"),
        ('[{match="blk.*",type="Q6_K"},{match="*.ffn_up.weight",type="Q5_K"}]',
         r"text.rules\[2\]: .* got 36 that earlier rules take"),
        ('[{match="*norm*",type="Q6_K"}]', "got none"),
    ],
)  # fmt: skip
def test_a_rule_that_decides_nothing_is_refused(tmp_path: Path, rules: str, message: str) -> None:
    path = write(tmp_path, f'[text]\ndefault="Q4_K"\nrules={rules}')
    with pytest.raises(RecipeError, match=message):
        text_types(path)


def test_a_file_needs_a_name_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="name of its own, got q4_0"):
        find_recipe(write(tmp_path, EXAMPLE, "q4_0.toml"))
    with pytest.raises(RecipeError, match="letters, digits"):
        find_recipe(write(tmp_path, EXAMPLE, "my recipe.toml"))
    with pytest.raises(NotFoundError, match="expected a recipe here"):
        find_recipe(str(tmp_path / "none.toml"))


def test_a_file_about_the_text_alone_is_no_mmproj_type(tmp_path: Path) -> None:
    path = write(tmp_path, '[text]\ndefault="Q4_K"')
    with pytest.raises(RecipeError, match=r"section \[mmproj\]"):
        find_mmproj_recipe(path, find_recipe("q4_0"))
