"""JSON schemas as grammars, so that an answer is always a sentence of its schema.

llama-cpp-python's converter (llama_grammar.json_schema_to_gbnf) was tried first: its strings may
hold raw line ends, which is not JSON, a quote in an enum ends its literal, and `maxLength` is
written out character by character. This one writes GBNF (llama.cpp, grammars/README.md) whose
every sentence is JSON, and refuses what it cannot hold the model to.

Held to: type, properties, required, items, prefixItems, enum, const, anyOf, oneOf, allOf of
objects, $ref into the same document, nullable, lengths, counts, bounds of integers, format of dates
and uuid. Not held to: pattern, multipleOf and bounds of other numbers (but for from 0 to 1, and
from 0 on).
Properties that a schema does not name are never written.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

from miloco_edge.serve.refusal import bad_request

Schema = dict[str, Any] | bool

_MOST_RULES = 2000
_MOST_CHARS = 100_000
_MOST_TIMES = 1000
"""llama.cpp writes repetitions out as rules and refuses too many."""
_MOST_TIMES_TOGETHER = 20_000
_DEEPEST = 40
_MOST_INTEGER = 10**15 - 1

_PRIMITIVES = {
    "ws": r'" "? | "\n" [ \t]{0,20}',
    "char": r'[^"\\\x00-\x1F\x7F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4})',
    "string": r'"\"" char{0,1000} "\""',
    "whole": '"0" | [1-9] [0-9]{0,14}',
    "integer": '"-"? whole',
    "number": '"-"? whole ("." [0-9]{1,12})? ([eE] [-+]? [0-9]{1,2})?',
    "positive": 'whole ("." [0-9]{1,12})?',
    "share": '"0" ("." [0-9]{1,6})? | "1" ("." "0"{1,6})?',
    "boolean": '"true" | "false"',
    "null": '"null"',
    "date": '[0-9]{4} "-" ("0" [1-9] | "1" [0-2]) "-" ("0" [1-9] | [12] [0-9] | "3" [01])',
    "time": '([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{1,6})? '
    '("Z" | [-+] [0-9]{2} ":" [0-9]{2})',
    "uuid": '[0-9a-f]{8} "-" [0-9a-f]{4} "-" [0-9a-f]{4} "-" [0-9a-f]{4} "-" [0-9a-f]{12}',
    "value": "object | array | string | number | boolean | null",
    "object": r'"{" ws (string ws ":" ws value (ws "," ws string ws ":" ws value)*)? ws "}"',
    "array": r'"[" ws (value (ws "," ws value)*)? ws "]"',
}
_FORMATS = {"date": "date", "time": "time", "date-time": 'date "T" time', "uuid": "uuid"}


def json_grammar(schema: Schema | None = None) -> str:
    """The grammar of a schema's JSON, or of any JSON object without one. Raises Refusal."""
    writer = _Writer(schema if isinstance(schema, dict) else {})
    return writer.grammar("object" if schema is None else writer.rule(schema))


def calls_grammar(tools: Sequence[tuple[str, dict[str, Any] | None]]) -> str:
    """The grammar of one call of one of the tools (name and parameters), as Qwen writes it."""
    writer = _Writer({})
    calls = []
    for name, parameters in tools:
        writer.root = parameters or {}
        arguments = writer.rule(parameters or {"type": "object"})
        opening = f'"{{\\"name\\": " {_literal(json.dumps(name))} ", \\"arguments\\": "'
        calls.append(f'{opening} {arguments} "}}"')
    call = writer.add(" | ".join(calls))
    return writer.grammar(f'"<tool_call>\\n" {call} "\\n</tool_call>"')


class _Writer:
    """Rules under way."""

    def __init__(self, root: dict[str, Any]) -> None:
        self.root = root
        self._rules: dict[str, str] = {}
        self._used: set[str] = set()
        self._refs: dict[tuple[int, str], str] = {}
        self._depth = 0
        self._times = 0

    def grammar(self, root: str) -> str:
        """All rules that are needed, root first."""
        aliases = {
            name: body.split(" | ")
            for name, body in self._rules.items()
            if re.fullmatch(r"\w+( \| \w+)*", body)
        }
        try:
            TopologicalSorter(aliases).prepare()
        except CycleError:  # llama.cpp takes no rule that begins with itself
            raise _unsupported("a $ref to itself") from None
        self._use("\n".join(["ws", root, *self._rules.values()]))
        lines = [f"root ::= {root}"]
        lines += [f"{name} ::= {body}" for name, body in self._rules.items()]
        lines += [f"{name} ::= {_PRIMITIVES[name]}" for name in _PRIMITIVES if name in self._used]
        grammar = "\n".join(lines)
        if len(grammar) > _MOST_CHARS:
            raise _too_much()
        return grammar

    def add(self, body: str) -> str:
        """A rule of its own for a body; its name."""
        if len(self._rules) >= _MOST_RULES:
            raise _too_much()
        name = f"r{len(self._rules)}"
        self._rules[name] = body
        return name

    def rule(self, schema: Schema) -> str:
        """The name of the rule for a schema."""
        if schema is True or schema == {}:
            return "value"
        if not isinstance(schema, dict):
            raise _unsupported("a schema that nothing meets")
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _too_much()
        try:
            name = self._of(schema)
            return self.add(f"{name} | null") if schema.get("nullable") is True else name
        finally:
            self._depth -= 1

    def _of(self, schema: dict[str, Any]) -> str:
        if "$ref" in schema:
            return self._ref(schema["$ref"])
        if "const" in schema:
            return self.add(_literal(_json(schema["const"])))
        if "enum" in schema:
            values = _list(schema["enum"], "enum")
            return self.add(" | ".join(_literal(_json(value)) for value in values))
        for union in ("anyOf", "oneOf"):
            if union in schema:
                return self.add(" | ".join(self.rule(s) for s in _list(schema[union], union)))
        if "allOf" in schema:
            return self.rule(self._merged(schema))
        kind = schema.get("type")
        if isinstance(kind, list):
            alternatives = _list(kind, "type")
            return self.add(" | ".join(self.rule({**schema, "type": one}) for one in alternatives))
        if kind is None:
            kind = _implied(schema)
        match kind:
            case "object":
                return self._object(schema)
            case "array":
                return self._array(schema)
            case "string":
                return self._string(schema)
            case "integer":
                return self._integer(schema)
            case "number":
                return self._number(schema)
            case "boolean" | "null" | "value":
                return str(kind)
        raise _unsupported("a type that JSON does not have")

    def _ref(self, ref: object) -> str:
        if not isinstance(ref, str) or not ref.startswith("#"):
            raise _unsupported("a $ref to another document")
        key = (id(self.root), ref)
        if key not in self._refs:
            # The name stands before the body is known: a schema may contain itself.
            name = self._refs[key] = self.add("value")
            self._rules[name] = self.rule(_pointed(self.root, ref))
        return self._refs[key]

    def _merged(self, schema: dict[str, Any]) -> dict[str, Any]:
        """allOf of objects as one object."""
        merged = {key: value for key, value in schema.items() if key != "allOf"}
        properties = dict(_properties(merged))
        required = list(_strings(merged.get("required", [])))
        for part in _list(schema["allOf"], "allOf"):
            if isinstance(part, dict) and isinstance(part.get("$ref"), str):
                part = _pointed(self.root, part["$ref"])
            if not isinstance(part, dict):
                raise _unsupported("allOf of something else than schemas")
            properties |= _properties(part)
            required += _strings(part.get("required", []))
            merged |= {k: v for k, v in part.items() if k not in ("properties", "required")}
        if properties:
            merged |= {"type": "object", "properties": properties, "required": required}
        if "allOf" in merged:
            raise _unsupported("allOf within allOf")
        return merged

    def _object(self, schema: dict[str, Any]) -> str:
        properties = _properties(schema)
        if not properties:
            more = schema.get("additionalProperties", True)
            if more is False:
                return self.add('"{" ws "}"')
            if more is True:
                return "object"
            pair = f'string ws ":" ws {self.rule(more)}'
            return self.add(f'"{{" ws ({pair} (ws "," ws {pair})*)? ws "}}"')
        required = set(_strings(schema.get("required", [])))
        if missing := required - set(properties):
            raise _unsupported(f"{len(missing)} required properties without a schema")
        # Pairs keep the schema's order. `more` is what may come after a pair, `first` before any.
        first = more = '""'
        for name, each in reversed(properties.items()):
            pair = self.add(f'{_literal(_json(name))} ws ":" ws {self.rule(each)}')
            if name in required:
                first, more = f"{pair} {more}", f'ws "," ws {pair} {more}'
            else:
                first, more = f"{pair} {more} | {first}", f'(ws "," ws {pair})? {more}'
            first, more = self.add(first), self.add(more)
        return self.add(f'"{{" ws {first} ws "}}"')

    def _array(self, schema: dict[str, Any]) -> str:
        if "prefixItems" in schema:
            items = [self.rule(item) for item in _list(schema["prefixItems"], "prefixItems")]
            return self.add('"[" ws ' + ' ws "," ws '.join(items) + ' ws "]"')
        least, most = _count(schema, "minItems", 0), _count(schema, "maxItems", None)
        item = self.rule(schema.get("items", True))
        if most == 0:
            return self.add('"[" ws "]"')
        after = _times(max(0, (least or 0) - 1), None if most is None else most - 1)
        some = f'{item} (ws "," ws {item}){after}'
        return self.add(f'"[" ws {some if least else f"({some})?"} ws "]"')

    def _string(self, schema: dict[str, Any]) -> str:
        if (form := _FORMATS.get(str(schema.get("format")))) is not None:
            return self.add(f'"\\"" {form} "\\""')
        least, most = _count(schema, "minLength", 0), _count(schema, "maxLength", None)
        if not least and most is None:
            return "string"
        most = _MOST_TIMES if most is None else most
        self._times += most
        if self._times > _MOST_TIMES_TOGETHER:
            raise _too_much()
        times = _times(least or 0, most)
        return self.add(f'"\\"" char{times} "\\""')

    def _integer(self, schema: dict[str, Any]) -> str:
        least, most = _bounds(schema)
        low = -_MOST_INTEGER if least is None else max(math.ceil(least), -_MOST_INTEGER)
        high = _MOST_INTEGER if most is None else min(math.floor(most), _MOST_INTEGER)
        above, below = _bounds(schema, "exclusiveMinimum", "exclusiveMaximum")
        low = low if above is None else max(low, math.floor(above) + 1)
        high = high if below is None else min(high, math.ceil(below) - 1)
        if low > high:
            raise _unsupported("a maximum below its minimum")
        if high == _MOST_INTEGER and low in (0, -high):
            return "whole" if low == 0 else "integer"
        negative = [f'"-" ({_wholes(max(1, -high), -low)})'] if low < 0 else []
        return self.add(" | ".join(negative + ([_wholes(max(0, low), high)] if high >= 0 else [])))

    def _number(self, schema: dict[str, Any]) -> str:
        least, most = _bounds(schema)
        if least == 0 and most == 1:
            return "share"
        return "positive" if least is not None and least >= 0 else "number"

    def _use(self, text: str) -> None:
        """Note which of the primitives a text names, outside of its literals and classes."""
        bare = re.sub(r'"(?:[^"\\]|\\.)*"|\[(?:[^\]\\]|\\.)*\]', "", text)
        for name in set(re.findall(r"[a-z]+", bare)) & set(_PRIMITIVES) - self._used:
            self._used.add(name)
            self._use(_PRIMITIVES[name])


def _literal(text: str) -> str:
    """A text as GBNF quotes it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t") + '"'


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _implied(schema: dict[str, Any]) -> str:
    if "properties" in schema or "additionalProperties" in schema:
        return "object"
    if "items" in schema or "prefixItems" in schema:
        return "array"
    return "value"


def _pointed(root: dict[str, Any], ref: str) -> Any:
    """What a JSON pointer (#/a/b) points to."""
    found: Any = root
    for step in filter(None, ref[1:].split("/")):
        step = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, dict) or step not in found:
            raise _unsupported("a $ref to nothing")
        found = found[step]
    return found


def _list(value: object, what: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise _unsupported(f"{what} that is not a list of one or more")
    return value


def _properties(schema: dict[str, Any]) -> dict[str, Any]:
    value = schema.get("properties") or {}
    if not isinstance(value, dict):
        raise _unsupported("properties that are not an object")
    return value


def _strings(value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise _unsupported("required that is not a list of names")
    return value


def _count(schema: dict[str, Any], key: str, default: int | None) -> int | None:
    value = schema.get(key, default)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise _unsupported(f"{key} that is not a number of things")
    if value is not None and value > _MOST_TIMES:
        if key.startswith("min"):
            raise _too_much()
        value = _MOST_TIMES
    return value


def _bounds(
    schema: dict[str, Any], least: str = "minimum", most: str = "maximum"
) -> tuple[float | None, float | None]:
    found = []
    for key in (least, most):
        value = schema.get(key)
        if value is not None and (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or (isinstance(value, float) and not math.isfinite(value))
        ):
            raise _unsupported(f"{key} that is not a number")
        found.append(value)
    return found[0], found[1]


def _wholes(least: int, most: int) -> str:
    """Numbers from 0 on between two, as alternatives by their count of digits."""
    ranges = []
    for digits in range(len(str(least)), len(str(most)) + 1):
        low, high = max(least, 10 ** (digits - 1) if digits > 1 else 0), min(most, 10**digits - 1)
        ranges.append(_digits(str(low), str(high)))
    return " | ".join(ranges)


def _digits(low: str, high: str) -> str:
    """Strings of digits, as long as both, between two."""
    rest = len(low) - 1
    if low == high:
        return f'"{low}"'
    if not rest:
        return f"[{low}-{high}]"
    first, last, nines = int(low[0]), int(high[0]), "9" * rest
    if first == last:
        return f'"{first}" ({_digits(low[1:], high[1:])})'
    ranges = []
    if int(low[1:]):
        ranges.append(f'"{first}" ({_digits(low[1:], nines)})')
        first += 1
    if high[1:] != nines:
        ranges.append(f'"{last}" ({_digits("0" * rest, high[1:])})')
        last -= 1
    if first <= last:
        ranges.append(f"[{first}-{last}] [0-9]{{{rest}}}")
    return " | ".join(ranges)


def _times(least: int, most: int | None) -> str:
    if most is not None and most < least:
        raise _unsupported("a maximum below its minimum")
    if most is None:
        return "*" if least == 0 else f"{{{least},}}"
    return f"{{{least},{most}}}"


def _unsupported(what: str) -> Exception:
    return bad_request("schema", f"expected a schema that can be held to, got {what}", "schema")


def _too_much() -> Exception:
    return bad_request("schema", "expected a smaller schema", "schema")
