"""A pair's types and errors as HTML: a row for each kind of weight, a column for each layer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from html import escape

from miloco_edge.page.manifest import Quantized, Weight
from miloco_edge.page.words import Language, word

# From the most bits to the fewest: light to dark, so that the order can be seen without colours.
_SHADES: dict[str, tuple[str, str]] = {
    "F32": ("#f8fafc", "#111"), "BF16": ("#e0f2fe", "#111"), "F16": ("#e0f2fe", "#111"),
    "Q8_0": ("#bae6fd", "#111"), "Q6_K": ("#a7f3d0", "#111"), "Q5_K": ("#86efac", "#111"),
    "Q5_1": ("#86efac", "#111"), "Q5_0": ("#86efac", "#111"), "Q4_K": ("#fcd34d", "#111"),
    "Q4_1": ("#fcd34d", "#111"), "Q4_0": ("#fbbf24", "#111"), "IQ4_NL": ("#fb923c", "#111"),
    "IQ4_XS": ("#f97316", "#111"), "Q3_K": ("#b91c1c", "#fff"), "IQ3_S": ("#9f1239", "#fff"),
    "IQ3_XXS": ("#831843", "#fff"), "Q2_K": ("#4c0519", "#fff"),
}  # fmt: skip
_PLAIN = ("#d1d5db", "#111")
_MOST_LAYERS = 128


def layers(quantized: Quantized, language: Language) -> str:
    """The files, both towers layer by layer, and the weights outside the layers."""
    towers: dict[str, dict[tuple[str, int], Weight]] = defaultdict(dict)
    others: list[Weight] = []
    for weight in quantized.weights:
        place = weight.place
        if not weight.matrix:
            continue
        if place is None or place[1] >= _MOST_LAYERS:
            others.append(weight)
        else:
            tower, layer, kind = place
            towers[tower][kind, layer] = weight
    tables = "".join(
        _tower(tower, towers[tower], language) for tower in ("text", "vision") if tower in towers
    )
    return (
        f'<div class="layers"><h3>{escape(quantized.recipe)}</h3>{_files(quantized, language)}'
        f"<p>{escape(word('error_note', language))}</p>{tables}{_others(others, language)}</div>"
    )


def _files(quantized: Quantized, language: Language) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{size / 2**20:.1f} MiB</td>'
        f"<td>{bpw:.2f}</td></tr>"
        for name, size, bpw in quantized.files
    )
    return (
        f'<table><thead><tr><th scope="col">{word("file", language)}</th>'
        f'<th scope="col">{word("size", language)}</th><th scope="col">bpw</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )


def _tower(tower: str, cells: Mapping[tuple[str, int], Weight], language: Language) -> str:
    numbers = sorted({layer for _, layer in cells})
    kinds = sorted({kind for kind, _ in cells})
    head = "".join(f'<th scope="col">{number}</th>' for number in numbers)
    rows = "".join(
        f'<tr><th scope="row">{escape(kind)}</th>'
        + "".join(_cell(cells.get((kind, number))) for number in numbers)
        + "</tr>"
        for kind in kinds
    )
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{tower}">'
        f"<table><caption>{tower}</caption><thead><tr>"
        f'<th scope="col">{word("layer", language)}</th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _cell(weight: Weight | None) -> str:
    if weight is None:
        return "<td></td>"
    return f'<td style="{_style(weight)}">{_type_and_error(weight)}</td>'


def _type_and_error(weight: Weight) -> str:
    error = "" if weight.nmse is None else f"<br>{weight.nmse * 1e6:.0f}"
    return f"{escape(weight.type)}{error}"


def _style(weight: Weight) -> str:
    background, ink = _SHADES.get(weight.type, _PLAIN)
    return f"background:{background};color:{ink}"


def _others(weights: Iterable[Weight], language: Language) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(weight.name)}</th>{_cell(weight)}</tr>' for weight in weights
    )
    return (
        f"<table><caption>{word('other_weights', language)}</caption><tbody>{rows}</tbody></table>"
    )
