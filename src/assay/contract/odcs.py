"""Reads a contract from ODCS 3.1 YAML; every complaint names file, line and remedy."""

from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Any, NoReturn

import yaml
from open_data_contract_standard.model import (
    CustomProperty,
    DataQuality,
    OpenDataContractStandard,
    SchemaObject,
    SchemaProperty,
)
from pydantic import BaseModel, ValidationError

from assay.contract import guard
from assay.contract.model import NAME, RESERVED, Column, Contract, Gate, Kind, KnownAt, Rule
from assay.errors import ContractError, UsageError
from assay.windows import Duration

_OURS = {"source", "options", "universe", "start", "window", "every", "settle", "mutability", "knownAt", "sequence", "partitioning", "gate", "currency", "calendar"}  # fmt: skip
_COLUMN_OURS = {"from", "unit", "zone", "excess"}
_RULE_OURS = {"minRows"}
_MUTABILITY = ("append", "restating", "calendar", "snapshot")
_PARTS: dict[type[BaseModel], dict[str, type[BaseModel]]] = {
    OpenDataContractStandard: {"schema": SchemaObject, "customProperties": CustomProperty},
    SchemaObject: {"properties": SchemaProperty, "quality": DataQuality, "customProperties": CustomProperty},
    SchemaProperty: {"quality": DataQuality, "customProperties": CustomProperty},
    DataQuality: {"customProperties": CustomProperty},
}


class _Lines:
    """Where things stand in a YAML text: a path of keys and indexes to a line."""

    def __init__(self, name: str, node: yaml.Node) -> None:
        self.name, self.node = name, node

    def fail(self, path: Iterable[str | int], message: str) -> NoReturn:
        node: yaml.Node = self.node
        for part in path:
            if isinstance(node, yaml.MappingNode):
                found = [(k, v) for k, v in node.value if k.value == str(part)]
                if not found:
                    break
                node = found[0][1] if not isinstance(found[0][1], yaml.ScalarNode) else found[0][0]
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
        raise ContractError(f"{self.name}:{node.start_mark.line + 1}: {message}")


def read(path: Path) -> Contract:
    """The contract in a file; ContractError with file, line and remedy if it cannot be one."""
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise ContractError(f"{path.name}:{line}: not UTF-8; save the file as UTF-8") from error
    except OSError as error:
        raise ContractError(f"{path}: cannot be read: {error.strerror}") from error
    return parse(text, path.name, path)


def read_all(directory: Path) -> dict[str, Contract]:
    """Every contract of a directory, by dataset; ContractError if two claim one dataset."""
    found: dict[str, Contract] = {}
    for path in sorted(directory.glob("*.yaml")):
        contract = read(path)
        if contract.dataset in found:
            raise ContractError(f"{path.name}:1: {contract.dataset} is also promised by {found[contract.dataset].path}")
        found[contract.dataset] = contract
    return found


def parse(text: str, name: str = "contract", path: Path | None = None) -> Contract:
    """The contract in a YAML text; `name` is what complaints call it."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        raw = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ContractError(f"{name}:{line}: not YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ContractError(f"{name}:1: not YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(node, yaml.MappingNode) or not isinstance(raw, dict):
        raise ContractError(f"{name}:1: a contract is a mapping that begins with apiVersion and kind")
    lines = _Lines(name, node)
    _twice(node, name)
    _known_keys(raw, OpenDataContractStandard, (), lines)
    try:
        odcs = OpenDataContractStandard.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        at = [part if part != "schema_" else "schema" for part in first["loc"]]
        lines.fail(at, f"{'.'.join(str(p) for p in at)}: {first['msg']}")
    return _contract(odcs, raw, lines, text, path)


def _twice(node: yaml.Node, name: str) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise ContractError(f"{name}:{key.start_mark.line + 1}: {key.value} stands here twice; keep one")
            seen.add(key.value)
            _twice(value, name)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _twice(value, name)


def _known_keys(raw: object, model: type[BaseModel], path: tuple[str | int, ...], lines: _Lines) -> None:
    if not isinstance(raw, dict):
        return
    names = {f.alias or n.rstrip("_") for n, f in model.model_fields.items()}
    for key, value in raw.items():
        if key not in names:
            lines.fail(
                (*path, key),
                f"{key} is not a key of ODCS here; did you mean one of {_near(str(key), names)}?",
            )
        part = _PARTS.get(model, {}).get(key)
        for index, item in enumerate(value if part and isinstance(value, list) else []):
            if part:
                _known_keys(item, part, (*path, key, index), lines)


def _near(key: str, names: Iterable[str]) -> str:
    import difflib

    return ", ".join(difflib.get_close_matches(key, list(names), 3, 0) or sorted(names)[:3])


def _ours(
    found: list[CustomProperty] | None, known: set[str], path: tuple[str | int, ...], lines: _Lines
) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for index, one in enumerate(found or []):
        at = (*path, "customProperties", index)
        if one.property not in known:
            lines.fail(
                at,
                f"customProperty {one.property} means nothing here; did you mean {_near(str(one.property), known)}?",
            )
        if one.property in out:
            lines.fail(at, f"customProperty {one.property} stands here twice; keep one")
        out[one.property] = one.value
    return out


def _contract(
    odcs: OpenDataContractStandard, raw: Mapping[str, Any], lines: _Lines, text: str, path: Path | None
) -> Contract:
    for key in ("apiVersion", "kind", "id", "version", "status", "schema"):
        if not raw.get(key):
            lines.fail((), f"{key} is missing; ODCS 3.1 requires it")
    if not str(raw["apiVersion"]).startswith("v3.1"):
        lines.fail(("apiVersion",), f"apiVersion {raw['apiVersion']}: this reads v3.1.0")
    dataset = str(raw["id"])
    if not NAME.fullmatch(dataset):
        lines.fail(("id",), f"id {dataset!r} must match {NAME.pattern}: it becomes a table and a path")
    ours = _ours(odcs.customProperties, _OURS, (), lines)
    if len(odcs.schema_ or []) != 1:
        lines.fail(("schema",), "one contract promises one table: give exactly one schema object")
    table = (odcs.schema_ or [])[0]
    if table.name != dataset:
        lines.fail(("schema", 0), f"schema name {table.name!r} must be the id {dataset!r}")
    columns = tuple(_column(p, i, lines) for i, p in enumerate(table.properties or []))
    if not columns:
        lines.fail(("schema", 0), "a table without properties promises nothing")
    names = [c.name for c in columns]
    for index, one in enumerate(names):
        if names.index(one) != index:
            lines.fail(("schema", 0, "properties", index), f"column {one} stands here twice; keep one")
    keys = [(p.primaryKeyPosition or 0, str(p.name)) for p in table.properties or [] if p.primaryKey]
    primary = tuple(name for _, name in sorted(keys))
    if not primary:
        lines.fail(("schema", 0, "properties"), "no column has primaryKey: true; a version needs a key to belong to")
    for index, column in enumerate(columns):
        if column.name in primary and not column.required:
            lines.fail(
                ("schema", 0, "properties", index),
                f"{column.name} is in the key, so it must be required: true",
            )
    rules = tuple(_rule(q, i, names, lines) for i, q in enumerate(table.quality or []))
    if len({r.name for r in rules}) < len(rules):
        lines.fail(("schema", 0, "quality"), "two rules have one name; a reason must name one rule")

    def bad(prop: str, message: str) -> NoReturn:
        at = next(i for i, p in enumerate(odcs.customProperties or []) if p.property == prop)
        lines.fail(("customProperties", at), f"{prop}: {message}")

    def one_of(prop: str, keys: set[str]) -> dict[str, Any]:
        value = ours.get(prop) or {}
        if not isinstance(value, dict) or value.keys() - keys:
            bad(prop, f"expects a mapping of {', '.join(sorted(keys))}")
        return value

    for prop in ("source", "mutability"):
        if prop not in ours:
            lines.fail(("customProperties",), f"customProperty {prop} is missing")
    if ours["mutability"] not in _MUTABILITY:
        bad("mutability", f"{ours['mutability']!r} is none of {', '.join(_MUTABILITY)}")
    if ("window" in ours) == ("every" in ours):
        lines.fail(
            ("customProperties",),
            "give either window (history in pieces) or every (the whole, again and again)",
        )
    for prop in ("window", "every", "settle"):
        if prop in ours:
            try:
                Duration.parse(str(ours[prop]))
            except UsageError as error:
                bad(prop, str(error))
    start = ours.get("start")
    if "window" in ours and not isinstance(start, date):
        lines.fail(("customProperties",), "window needs start: the first day wanted, as YYYY-MM-DD")
    known = one_of("knownAt", {"column", "time", "zone", "lag"})
    if known:
        if known.get("column") not in names or next(c for c in columns if c.name == known["column"]).kind not in (
            "date",
            "timestamp",
        ):
            bad("knownAt", "column must be a date or timestamp column of the contract")
        try:
            from zoneinfo import ZoneInfo

            ZoneInfo(str(known.get("zone", "UTC")))
            Duration.parse(str(known.get("lag", "PT0S")))
        except (KeyError, ValueError, UsageError) as error:
            bad("knownAt", f"zone or lag cannot be read: {error}")
    part = one_of("partitioning", {"column", "by"})
    if part and (part.get("column") not in names or part.get("by") not in ("year", "month", "value")):
        bad("partitioning", "column must be of the contract, by one of year, month, value")
    if ours.get("sequence") and ours["sequence"] not in names:
        bad("sequence", "must be a column of the contract")
    gate = one_of("gate", {"quarantinedAtMost", "unit", "minRows"})
    if gate.get("unit", "percent") != "percent":
        bad("gate", "unit must be percent")
    if not isinstance(ours.get("options", {}), dict):
        bad("options", "expects a mapping")
    purpose = odcs.description.purpose if odcs.description else None
    return Contract(
        dataset=dataset, version=str(raw["version"]), title=odcs.name or dataset, description=str(table.description or purpose or ""),
        columns=columns, key=primary, rules=rules, source=str(ours["source"]), options=dict(ours.get("options") or {}),
        gate=Gate(float(gate.get("quarantinedAtMost", 5)), int(gate.get("minRows", 100))),
        mutability=ours["mutability"], text=text, path=path, universe=ours.get("universe"), start=start,
        window=ours.get("window"), every=ours.get("every"), settle=str(ours.get("settle", "P3D")),
        known_at=KnownAt(str(known["column"]), str(known.get("time", "00:00")), str(known.get("zone", "UTC")), str(known.get("lag", "PT0S"))) if known else None,
        sequence=ours.get("sequence"), partition=(str(part["column"]), str(part["by"])) if part else None,
        extra={k: ours[k] for k in ("currency", "calendar") if k in ours},
    )  # fmt: skip


def _column(prop: SchemaProperty, index: int, lines: _Lines) -> Column:
    at = ("schema", 0, "properties", index)
    name = str(prop.name)
    if not NAME.fullmatch(name) or name in RESERVED:
        lines.fail(at, f"column name {name!r} must match {NAME.pattern} and not be one of {', '.join(RESERVED)}")
    ours = _ours(prop.customProperties, _COLUMN_OURS, at, lines)
    kinds: tuple[Kind, ...] = ("string", "integer", "number", "boolean", "date", "timestamp")
    kind = next((one for one in kinds if one == prop.logicalType), None)
    if kind is None:
        lines.fail(at, f"{name}: logicalType {prop.logicalType!r} is none of {', '.join(kinds)}; silver is flat")
    precision, scale = 18, 6
    if kind == "number":
        import re

        found = re.fullmatch(r"decimal\((\d+), ?(\d+)\)", str(prop.physicalType or ""))
        if not found or not 0 <= (scale := int(found[2])) <= (precision := int(found[1])) <= 38:
            lines.fail(
                at,
                f"{name}: physicalType must say decimal(precision, scale), precision at most 38; doubles are not stored",
            )
    if ours.get("excess", "refuse") not in ("refuse", "round"):
        lines.fail(at, f"{name}: excess is refuse (the default) or round")
    if not prop.classification:
        lines.fail(at, f"{name}: classification is missing; say public, internal, confidential or restricted")
    return Column(
        name=name, origin=str(ours.get("from", name)), kind=kind, required=bool(prop.required), precision=precision,
        scale=scale, zone=str(ours.get("zone", "UTC")),
        excess="round" if ours.get("excess") == "round" else "refuse", description=str(prop.description or ""),
        classification=str(prop.classification), unit=str(ours.get("unit", "")),
    )  # fmt: skip


def _rule(quality: DataQuality, index: int, names: list[str], lines: _Lines) -> Rule:
    at = ("schema", 0, "quality", index)
    ours = _ours(quality.customProperties, _RULE_OURS, at, lines)
    if quality.type != "custom" or quality.engine != "assay":
        lines.fail(at, "a rule is type: custom, engine: assay, implementation: a boolean expression")
    if not NAME.fullmatch(str(quality.name)):
        lines.fail(at, f"a rule needs a name that matches {NAME.pattern}; it becomes the reason in quarantine")
    try:
        guard.expression(str(quality.implementation), names)
    except UsageError as error:
        lines.fail((*at, "implementation"), str(error))
    if quality.severity not in (None, "error", "warning"):
        lines.fail(at, f"severity {quality.severity!r} is neither error nor warning")
    at_most = quality.mustBeLessOrEqualTo
    if at_most is not None and quality.unit != "percent":
        lines.fail(at, "mustBeLessOrEqualTo needs unit: percent")
    return Rule(
        name=str(quality.name), expression=str(quality.implementation), description=str(quality.description or ""),
        severity="warning" if quality.severity == "warning" else "error",
        at_most=None if at_most is None else float(at_most), min_rows=int(ours.get("minRows", 100)),
    )  # fmt: skip
