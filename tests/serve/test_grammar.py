from __future__ import annotations

import json
import re
from typing import Any

import pytest

from miloco_edge import Budget, Engine, Sampling
from miloco_edge.serve.grammar import calls_grammar, json_grammar
from miloco_edge.serve.refusal import Refusal

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        'quote"d \\ key': {"enum": ['say "hi"', "back\\slash", "line\nend", 3, None]},
        "level": {"type": "integer", "minimum": 0, "maximum": 2},
        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
        "tags": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
        "day": {"type": "string", "format": "date"},
        "note": {"type": ["string", "null"], "maxLength": 5},
    },
    "required": ["name", 'quote"d \\ key', "level", "confidence", "tags", "day"],
    "additionalProperties": False,
}
TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"const": "leaf"},
                "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]},
            },
            "required": ["value"],
        }
    },
}
OPTIONAL = {
    "allOf": [
        {"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "null"}}},
        {"properties": {"c": {"type": "null"}}, "required": ["c"]},
    ]
}


def generate(real: Engine, grammar: str, seed: int) -> str:
    """What a random model says under a grammar: anything that it allows."""
    with real.look() as scene:
        answer = scene.ask(
            "Say it.",
            sampling=Sampling(temperature=1.5, seed=seed, grammar=grammar),
            budget=Budget(answer_tokens=300),
        )
    assert answer.finish_reason == "stop", answer.text
    return answer.text


def length(text: str) -> int:
    """Characters; bytes that a random model puts together to no character count as one."""
    return len(re.sub("\ufffd+", "?", text))


@pytest.mark.parametrize("seed", range(2))
def test_what_is_said_meets_its_schema(model: Engine, seed: int) -> None:
    said: dict[str, Any] = json.loads(generate(model, json_grammar(PERSON), seed))
    properties = PERSON["properties"]
    assert set(PERSON["required"]) <= set(said) <= set(properties)
    assert length(said["name"]) <= 8
    assert said['quote"d \\ key'] in properties['quote"d \\ key']["enum"]
    assert said["level"] in (0, 1, 2)
    assert 0 <= said["confidence"] <= 1
    assert 1 <= len(said["tags"]) <= 3 and all(isinstance(tag, bool) for tag in said["tags"])
    assert len(said["day"]) == 10
    assert said.get("note") is None or length(said["note"]) <= 5


def test_a_schema_may_contain_itself(model: Engine) -> None:
    said = json.loads(generate(model, json_grammar(TREE), 1))
    while said is not None:
        assert said["value"] == "leaf"
        said = said.get("next")


def test_optional_properties_may_be_left_out_and_keep_their_order(model: Engine) -> None:
    grammar = json_grammar(OPTIONAL)
    seen = {tuple(json.loads(generate(model, grammar, seed))) for seed in range(3)}
    assert all("c" in keys and list(keys) == sorted(keys) for keys in seen)


@pytest.mark.parametrize("seed", range(3))
def test_an_integer_keeps_its_bounds(model: Engine, seed: int) -> None:
    schema = {"type": "integer", "minimum": -12, "exclusiveMaximum": 1001}
    assert -12 <= int(generate(model, json_grammar(schema), seed)) <= 1000


@pytest.mark.parametrize("least", [-1250, -99, -1, 0, 7, 10, 95, 999, 4321])
@pytest.mark.parametrize("wide", [0, 1, 9, 90, 905, 1000])
def test_bounds_of_integers_are_written_to_the_digit(least: int, wide: int) -> None:
    grammar = json_grammar({"type": "integer", "minimum": least, "maximum": least + wide})
    body = grammar.splitlines()[1].partition(" ::= ")[2]
    allowed = re.compile(body.replace('"', "").replace(" ", ""))
    for number in range(least - 120, least + wide + 120):
        assert bool(allowed.fullmatch(str(number))) == (least <= number <= least + wide)
    assert not allowed.fullmatch("-0") and not allowed.fullmatch("07")


def test_a_call_names_one_of_the_tools(model: Engine) -> None:
    schema = {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]}
    text = generate(model, calls_grammar([("lamp", schema), ("bell", None)]), 2)
    call = json.loads(text.removeprefix("<tool_call>\n").removesuffix("\n</tool_call>"))
    assert call["name"] in ("lamp", "bell")
    if call["name"] == "lamp":
        assert isinstance(call["arguments"]["on"], bool)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "https://example.com/schema"},
        {"$ref": "#"},
        {"$ref": "#/nothing"},
        {"anyOf": [{"$ref": "#"}, {"type": "string"}]},
        {"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}},
        {"type": "string", "minLength": 10**9},
        {"type": "thing"},
        {"enum": []},
        {"type": "object", "properties": {"a": False}},
        {"type": "object", "properties": {"a": {}}, "required": "a"},
        {"type": "array", "minItems": 3, "maxItems": 2},
        {"anyOf": [{"allOf": [{"allOf": [{}]}]}]},
        {"allOf": [{"properties": [1]}]},
        {"allOf": [{"required": 5}]},
        {"allOf": [{}], "properties": 5},
        {"type": "integer", "minimum": 3, "exclusiveMaximum": 3},
        {"type": "integer", "minimum": float("nan")},
    ],
)
def test_what_cannot_be_held_to_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as refused:
        json_grammar(schema)
    assert refused.value.status == 400


def test_a_bomb_is_refused_at_once() -> None:
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"items": deep, "type": "array"}
    with pytest.raises(Refusal):
        json_grammar(deep)
    wide = {"type": "array", "items": {"anyOf": [{"type": "string", "maxLength": 1000}] * 500}}
    with pytest.raises(Refusal):
        json_grammar(wide)
