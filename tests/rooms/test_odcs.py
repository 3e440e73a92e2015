"""Every key of ODCS 3.1's JSON schema is enforced, shown or refused with file and line; none is ignored."""

import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import yaml

from assay.contract import keys, odcs
from assay.contract.model import Contract
from assay.errors import ContractError
from tests.making import EVERY_TYPE
from tests.odcs import every_key

KEYS = every_key()
BASE = yaml.safe_load(EVERY_TYPE)
COLUMN = {"minimum": 1, "maximum": 1, "exclusiveMinimum": 1, "exclusiveMaximum": 1, "multipleOf": 1, "timezone": 5, "defaultTimezone": 5, "physicalType": 2}  # fmt: skip
LATENCY = {"property": "latency", "value": 1, "unit": "d"}
OURS = {"name": "q", "type": "custom", "engine": "assay", "implementation": "whole < 9"}
ROWS = {"metric": "rowCount"}
Q = "schema[].quality[]"
COL = "schema[].properties[]"
# of every enforced key two values, in an item that says what else it takes: two contracts, or one of them is refused
ENFORCED: dict[str, tuple[Any, Any, Mapping[str, Any]]] = {
    "apiVersion": ("v3.1.0", "v2.2.2", {}),
    "kind": ("DataContract", "DataProduct", {}),
    "id": ("things", "others", {}),
    "slaProperties": ([], [LATENCY], {}),
    "slaProperties[].property": ("latency", "frequency", LATENCY),
    "slaProperties[].value": (1, 2, LATENCY),
    "slaProperties[].unit": ("d", "h", LATENCY),
    "slaProperties[].element": ("things", "things.at", LATENCY),
    "customProperties": (BASE["customProperties"], BASE["customProperties"][1:], {}),
    "customProperties[].property": ("source", "sorce", {"value": "fmp"}),
    "customProperties[].value": ("fmp", "files", {"property": "source"}),
    "schema": (BASE["schema"], BASE["schema"] * 2, {}),
    "schema[].name": ("things", "others", {}),
    "schema[].logicalType": ("object", "string", {}),
    "schema[].physicalType": ("table", "view", {}),
    "schema[].properties": (BASE["schema"][0]["properties"], BASE["schema"][0]["properties"][:7], {}),
    f"{COL}.name": ("note", "remark", {}),
    f"{COL}.logicalType": ("string", "integer", {}),
    f"{COL}.physicalType": ("decimal(18,6)", "decimal(18,7)", {}),
    f"{COL}.required": (False, True, {}),
    f"{COL}.unique": (False, True, {}),
    f"{COL}.primaryKey": (False, True, {"required": True}),
    f"{COL}.primaryKeyPosition": (-1, 2, {}),
    f"{COL}.classification": ("public", "internal", {}),
    f"{COL}.customProperties": ([], [{"property": "unit", "value": "USD"}], {}),
    f"{COL}.customProperties[].property": ("unit", "units", {"value": "USD"}),
    f"{COL}.customProperties[].value": ("USD", "EUR", {"property": "unit"}),
    f"{COL}.logicalTypeOptions": ({}, {"minLength": 1}, {}),
    f"{COL}.logicalTypeOptions.minLength": (1, 2, {}),
    f"{COL}.logicalTypeOptions.maxLength": (1, 2, {}),
    f"{COL}.logicalTypeOptions.pattern": ("^a$", "^b$", {}),
    f"{COL}.logicalTypeOptions.format": ("uuid", "email", {}),
    f"{COL}.logicalTypeOptions.minimum": (1, 2, {}),
    f"{COL}.logicalTypeOptions.maximum": (1, 2, {}),
    f"{COL}.logicalTypeOptions.exclusiveMinimum": (1, 2, {}),
    f"{COL}.logicalTypeOptions.exclusiveMaximum": (1, 2, {}),
    f"{COL}.logicalTypeOptions.multipleOf": (1, 2, {}),
    f"{COL}.logicalTypeOptions.timezone": (True, False, {}),
    f"{COL}.logicalTypeOptions.defaultTimezone": ("UTC", "Europe/Berlin", {}),
    Q[:-2]: ([], [OURS], {}),
    f"{Q}.name": ("q", "r", OURS),
    f"{Q}.type": ("custom", "sql", OURS),
    f"{Q}.engine": ("assay", "soda", OURS),
    f"{Q}.implementation": ("whole < 9", "whole < 8", OURS),
    f"{Q}.severity": ("error", "warning", OURS),
    f"{Q}.unit": ("percent", "rows", {**OURS, "mustBeLessOrEqualTo": 5}),
    f"{Q}.mustBeLessOrEqualTo": (4, 5, {**OURS, "unit": "percent"}),
    f"{Q}.mustBeLessThan": (4, 5, {**OURS, "unit": "percent"}),
    f"{Q}.mustBe": (4, 5, ROWS),
    f"{Q}.mustBeGreaterThan": (4, 5, ROWS),
    f"{Q}.mustBeGreaterOrEqualTo": (4, 5, ROWS),
    f"{Q}.mustBeBetween": ([4, 9], [5, 9], ROWS),
    f"{Q}.metric": ("rowCount", "freshness", {"mustBe": 5}),
    f"{Q}.arguments": ({"properties": ["note"]}, {"properties": ["whole"]}, {"name": "q", "metric": "duplicateValues", "mustBe": 0}),
    f"{Q}.customProperties": ([], [{"property": "minRows", "value": 7}], OURS),
    f"{Q}.customProperties[].property": ("minRows", "minrows", {"value": 7}),
    f"{Q}.customProperties[].value": (7, 8, {"property": "minRows"}),
}  # fmt: skip


def _same(path: str) -> str:
    return path.replace(f"{COL}.quality", "schema[].quality")


FATES = {
    fate: [path for path in KEYS if (keys.meaning(path) or ("",))[0] == fate]
    for fate in ("enforced", "shown", "refused")
}


def _with(path: str, value: object, item: Mapping[str, Any] | None = None) -> str:
    """The contract of every type as YAML in blocks, with a key put there; `item` is what the key's mapping says too."""
    out = copy.deepcopy(BASE)
    _put(out, path.split("."), value, item or {})
    return yaml.safe_dump(out, sort_keys=False, allow_unicode=True, width=1000)


def _put(node: dict[str, Any], parts: list[str], value: object, item: Mapping[str, Any]) -> None:
    name, rest = parts[0].removesuffix("[]"), parts[1:]
    if not rest:
        node |= {**item, name: value}
    elif name == parts[0]:
        _put(node.setdefault(name, {}), rest, value, item)
    else:
        items = node.setdefault(name, [])
        index = {"schema": 0, "properties": COLUMN.get(rest[-1], 6), "customProperties": 0}.get(name, len(items))
        if index >= len(items):  # what is deep inside a rule needs the rule around it
            items.append(dict(OURS) if name == "quality" and len(rest) > 1 else {})
        _put(items[index if index < len(items) else -1], rest, value, item)


def _read(text: str) -> Contract | str:
    """The contract without its text, or why there is none."""
    odcs.parse.cache_clear()
    try:
        return replace(odcs.parse(text, "things.yaml"), text="", shown=())
    except ContractError as error:
        return str(error)


def _sample(said: Mapping[str, Any]) -> object:
    """A value that the schema allows."""
    for one in said.get("oneOf", ()) or said.get("anyOf", ()):
        return _sample(one)
    if "enum" in said:
        return said["enum"][0]
    return {"string": "some text", "number": 1.5, "integer": 3, "boolean": True, "array": ["one"], "object": {}}[said.get("type", "string")]  # fmt: skip


def test_there_are_as_many_as_the_schema_has() -> None:
    assert len(KEYS) > 300
    assert sum(map(len, FATES.values())) == len(KEYS), [path for path in KEYS if keys.meaning(path) is None]
    assert [path for path in keys.KEYS if path not in KEYS] == []


@pytest.mark.parametrize("path", FATES["refused"])
def test_a_refused_key_is_refused_with_file_line_and_remedy(path: str) -> None:
    text = _with(
        path, _sample(KEYS[path]), {"property": "latency", "value": 1, "unit": "d"} if path.startswith("sla") else None
    )
    above = [".".join(path.split(".")[: n + 1]).removesuffix("[]") for n in range(path.count(".") + 1)]
    top = next(one for one in above if (found := keys.meaning(one)) and found.fate == "refused")
    key = top.rpartition(".")[2]
    said = [one for one in str(_read(text)).splitlines() if f": {key} is refused: " in one]
    assert len(said) == 1, _read(text)
    file, line, _ = said[0].split(":", 2)
    assert file == "things.yaml"
    assert text.splitlines()[int(line) - 1].strip(" -").startswith(f"{key}:")


def _beside(path: str) -> Mapping[str, Any]:
    """What must stand beside a key that is shown."""
    above = path.rpartition(".")[0]
    if above.endswith("quality[]"):
        return OURS
    beside = {
        "slaProperties[]": LATENCY,
        f"{COL}.customProperties[]": {"property": "unit", "value": "USD"},
        f"{Q}.customProperties[]": {"property": "minRows", "value": 7},
        f"{COL}.quality[].customProperties[]": {"property": "minRows", "value": 7},
    }
    return beside.get(above, {})


@pytest.mark.parametrize("path", [one for one in FATES["shown"] if not any(o.startswith((f"{one}.", f"{one}[")) for o in KEYS)])  # fmt: skip
def test_a_shown_key_is_shown_and_changes_nothing_else(path: str) -> None:
    value = _sample(KEYS[path])
    odcs.parse.cache_clear()
    found = odcs.parse(_with(path, value, _beside(path)), "things.yaml")
    text = value if isinstance(value, str) else "one" if isinstance(value, list) else json.dumps(value)
    told = [
        where for where, said in found.shown if said == text and where.rpartition(".")[2] == path.rpartition(".")[2]
    ]
    carried = (found.title, found.version, found.description, *(c.description for c in found.columns))
    assert told or "some text" in carried, found.shown
    there = odcs.parse(_with(path, "x" if path in ("version", "status") else None, _beside(path)))
    assert all(
        getattr(found, name) == getattr(there, name)
        for name in ("capture_fingerprint", "refine_fingerprint", "gate_fingerprint")
    )


def test_every_enforced_key_has_its_two_values() -> None:
    assert set(ENFORCED) == {_same(path) for path in FATES["enforced"]}


@pytest.mark.parametrize("path", FATES["enforced"])
def test_an_enforced_key_is_read(path: str) -> None:
    one, other, item = ENFORCED[_same(path)]
    if path.startswith(f"{COL}.quality") and item == ROWS:
        said = _read(_with(path, one, item))
        assert isinstance(said, str)
        assert "it is the table's, in rows" in said
        return
    if path.startswith(f"{COL}.quality") and path.endswith("arguments"):
        one, other, item = {"validValues": ["a"]}, {"validValues": ["b"]}, {"metric": "invalidValues", "mustBe": 0}
    first, second = _read(_with(path, one, item)), _read(_with(path, other, item))
    assert not isinstance(first, str) or path.endswith("metric"), first
    assert first != second


@pytest.mark.parametrize(
    "above", sorted({path.rpartition(".")[0] for path in KEYS if keys.meaning(path).fate != "refused"})
)  # type: ignore[union-attr]
def test_a_key_that_is_none_is_refused_wherever_it_stands(above: str) -> None:
    path = f"{above}.zzz" if above else "zzz"
    text = _with(path, "some text")
    line = next(n for n, one in enumerate(text.splitlines(), 1) if "zzz" in one)
    said = str(_read(text)).splitlines()
    assert [
        one
        for one in said
        if one.startswith(f"things.yaml:{line}: zzz is not a key of ODCS here; did you mean one of ")
    ], said
