"""llama-quantize's mixtures, rule by rule (llama.cpp, src/llama-quant.cpp).

Where it counts the tensors that it has seen, this asks for a tensor's position among those of its
role: the same number. In an mmproj the order is that of the names, so that positions are not
layers, and the number of layers is 0, so that q4_k_m and q5_k_m give Q6_K to every ffn_down there.
llama-quantize aborts on an mmproj as IQ4_NL or IQ4_XS, where it asks for heads that the file does
not have; here the rule that asks does not apply.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from quantize.codec import Type, block_size
from quantize.names import Tensor
from quantize.recipes.recipe import BF16_MMPROJ, Contents, Recipe, role

Rule = Callable[[int, int, Contents], Type | None]
"""From a weight's position and how many there are to its type; None leaves the mixture's own."""


def _more_bits(i: int, n: int) -> bool:
    """use_more_bits: the first eighth, the last eighth, and every third between them."""
    return i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2


def _keep(i: int, n: int, contents: Contents) -> Type | None:
    return None


def _more_bits_q6_k(i: int, n: int, contents: Contents) -> Type | None:
    return Type.Q6_K if _more_bits(i, n) else None


def _iq4_attn_v(i: int, n: int, contents: Contents) -> Type | None:
    return Type.Q5_K if contents.queries_per_key >= 4 else None


def _iq4_ffn_down(i: int, n: int, contents: Contents) -> Type | None:
    return Type.Q5_K if i < n // 8 and not contents.has_imatrix else None


@dataclass(frozen=True)
class Mixture:
    """A type for most weights, and rules for those that matter more."""

    name: str
    file_type: int
    type: Type
    attn_v: Rule = _keep
    ffn_down: Rule = _keep
    attn_output: Type | None = None

    def __call__(self, contents: Contents) -> Mapping[str, Type]:
        """Return the type of every weight, by name."""
        return {tensor.name: self.choose(tensor, contents) for tensor in contents.weights}

    def choose(self, tensor: Tensor, contents: Contents) -> Type:
        """Return the type of one weight, before it is fitted to the tensor's rows."""
        i, chosen = contents.positions[tensor.name], None
        match role(tensor):
            case "output":
                chosen = self._output(tensor)
            case "token_embd" if "output" not in contents.roles:  # it doubles as the output
                chosen = self._output(tensor)
            case "attn_v":
                chosen = self.attn_v(i, contents.roles["attn_v"], contents)
            case "ffn_down":
                chosen = self.ffn_down(i, contents.layers, contents)
            case "attn_output":
                chosen = self.attn_output
        return self.type if chosen is None else chosen

    def _output(self, tensor: Tensor) -> Type:
        is_odd = tensor.columns % block_size(self.type) != 0
        return Type.Q8_0 if is_odd or self.type is Type.Q8_0 else Type.Q6_K


MIXTURES = {
    mixture.name: mixture
    for mixture in (
        Mixture("q8_0", 7, Type.Q8_0),
        Mixture("q6_k", 18, Type.Q6_K),
        Mixture("q5_k_m", 17, Type.Q5_K, attn_v=_more_bits_q6_k, ffn_down=_more_bits_q6_k),
        Mixture("q4_k_m", 15, Type.Q4_K, attn_v=_more_bits_q6_k, ffn_down=_more_bits_q6_k),
        Mixture(
            "q4_k_s", 14, Type.Q4_K,
            attn_v=lambda i, n, contents: Type.Q5_K if i < 4 else None,
            ffn_down=lambda i, n, contents: Type.Q5_K if i < n // 8 else None,
        ),
        Mixture(  # with importances, Q4_0 goes wrong in the first ffn_down
            "q4_0", 2, Type.Q4_0,
            ffn_down=lambda i, n, contents: (
                Type.Q4_1 if i < n // 8 and contents.has_imatrix else None
            ),
        ),
        Mixture(
            "q3_k_m", 12, Type.Q3_K,
            attn_v=lambda i, n, contents: Type.Q5_K if i < 2 else Type.Q4_K,
            ffn_down=lambda i, n, contents: Type.Q5_K if i < n // 16 else Type.Q4_K,
            attn_output=Type.Q4_K,
        ),
        Mixture("iq4_nl", 25, Type.IQ4_NL, attn_v=_iq4_attn_v, ffn_down=_iq4_ffn_down),
        Mixture("iq4_xs", 30, Type.IQ4_XS, attn_v=_iq4_attn_v, ffn_down=_iq4_ffn_down),
    )
}  # fmt: skip


def recipe_of(mixture: Mixture) -> Recipe:
    """Return a mixture as a recipe. Its mmproj is BF16 unless the user asks for another."""
    return Recipe(mixture.name, mixture, mixture, BF16_MMPROJ, mixture.file_type)


def uniform(name: str, file_type: int, type: Type, *, convolution: Type = Type.F32) -> Recipe:
    """Return the recipe of one type for all weights, as the converter's --outtype."""

    def choice(contents: Contents) -> Mapping[str, Type]:
        return dict.fromkeys((tensor.name for tensor in contents.weights), type)

    return Recipe(name, choice, choice, BF16_MMPROJ, file_type, convolution)
