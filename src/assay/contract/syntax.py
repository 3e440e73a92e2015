"""What a contract's YAML may say, in ODCS 3.1 and in words of ours; every complaint names file, line and remedy."""

import re
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from typing import Any, NoReturn
from zoneinfo import ZoneInfo

import yaml
from open_data_contract_standard.model import (
    CustomProperty,
    DataQuality,
    OpenDataContractStandard,
    SchemaObject,
    SchemaProperty,
)
from pydantic import BaseModel, ValidationError

from assay import guard
from assay.contract.model import NAME, RESERVED, Column, Contract, Gate, Kind, KnownAt, Rule
from assay.errors import ContractError, UsageError
from assay.sqltypes import SqlType
from assay.windows import Duration, cell_of

_OURS = {
    "source", "options", "universe", "start", "window", "every", "cursor", "settle", "reask", "complete", "knownAt",
    "sequence", "partitioning", "gate",
}  # fmt: skip
_COLUMN_OURS = {"from", "unit", "zone", "excess", "ordinal"}
_RULE_OURS = {"minRows"}
_GONE = {
    "mutability": "mutability means nothing; how a source treats its past is said by settle and complete",
    "currency": "currency means nothing; a column says its unit",
    "calendar": "calendar means nothing; leave it out",
}
_KINDS: dict[str, Kind] = {
    "string": "string", "integer": "integer", "number": "number", "boolean": "boolean", "date": "date",
    "timestamp": "timestamp", "object": "json", "array": "json",
}  # fmt: skip
_CLASSES = ("public", "internal", "confidential", "restricted")
_PARTS: dict[type[BaseModel], dict[str, type[BaseModel]]] = {
    OpenDataContractStandard: {"schema": SchemaObject, "customProperties": CustomProperty},
    SchemaObject: {"properties": SchemaProperty, "quality": DataQuality, "customProperties": CustomProperty},
    SchemaProperty: {"quality": DataQuality, "customProperties": CustomProperty},
    DataQuality: {"customProperties": CustomProperty},
}
# libyaml's parser where PyYAML was built with it: the same nodes, several times faster
_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


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


def parse(text: str, name: str) -> Contract:
    """The contract in a YAML text; `name` is what complaints call it."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise ContractError(f"{name}:1: a contract is a mapping that begins with apiVersion and kind")
        _twice(node, name, (), iter(range(20_000)))
        raw = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ContractError(f"{name}:{line}: not YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ContractError(f"{name}:1: not YAML: {str(error).splitlines()[0]}") from None
    finally:
        loader.dispose()
    lines = _Lines(name, node)
    _known_keys(raw, OpenDataContractStandard, (), lines)
    try:
        odcs = OpenDataContractStandard.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        at = [part if part != "schema_" else "schema" for part in first["loc"]]
        lines.fail(at, f"{'.'.join(str(p) for p in at)}: {first['msg']}")
    return _contract(odcs, raw, lines, text)


def _twice(node: yaml.Node, name: str, above: tuple[yaml.Node, ...], budget: Iterator[int]) -> None:
    """Refuse what YAML lets pass: a key twice, anchors that hold themselves or multiply without end."""
    if len(above) > 100 or next(budget, None) is None:
        raise ContractError(f"{name}:{node.start_mark.line + 1}: not YAML: too deep or too large for a contract")
    if node in above:
        raise ContractError(f"{name}:{node.start_mark.line + 1}: not YAML: an anchor holds itself")
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ContractError(f"{name}:{key.start_mark.line + 1}: not YAML: a key is one word")
            if key.value in seen:
                raise ContractError(f"{name}:{key.start_mark.line + 1}: {key.value} stands here twice; keep one")
            seen.add(key.value)
            _twice(value, name, (*above, node), budget)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _twice(value, name, (*above, node), budget)


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


class _Properties:
    """The customProperties of one place, each known and there once, with the line to complain about."""

    def __init__(
        self, found: list[CustomProperty] | None, known: set[str], path: tuple[str | int, ...], lines: _Lines
    ) -> None:
        self._lines, self._path = lines, path
        self._at: dict[str, tuple[str | int, ...]] = {}
        self._values: dict[str, Any] = {}
        for index, one in enumerate(found or []):
            at, name = (*path, "customProperties", index), str(one.property)
            if name in _GONE and not path:
                lines.fail(at, _GONE[name])
            if name not in known:
                lines.fail(at, f"customProperty {name} means nothing here; did you mean {_near(name, known)}?")
            if name in self._values:
                lines.fail(at, f"customProperty {name} stands here twice; keep one")
            self._at[name], self._values[name] = at, one.value

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def get(self, name: str, default: Any = None) -> Any:
        return self._values.get(name, default)

    def fail(self, name: str, message: str) -> NoReturn:
        self._lines.fail(self._at.get(name, (*self._path, "customProperties")), message)

    def mapping(self, name: str, keys: set[str]) -> dict[str, Any]:
        value = self.get(name) or {}
        if not isinstance(value, dict) or value.keys() - keys:
            self.fail(name, f"{name}: expects a mapping of {', '.join(sorted(keys))}")
        return value

    def words(self, name: str, default: str | None, pattern: re.Pattern[str], why: str) -> str | None:
        if name not in self:
            return default
        value = self.get(name)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            self.fail(name, f"{name}: {value} is not a name that matches {pattern.pattern}; {why}")
        return value

    def count(self, name: str, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            self.fail(name, f"{value!r} is no count of rows; say a whole number such as 100")
        return value

    def share(self, name: str, value: Any) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 100:
            self.fail(name, f"{value!r} is no share in percent; say a number from 0 to 100")
        return float(value)

    def lag(self, name: str, value: Any) -> str:
        try:
            if Duration.parse(str(value)).months:
                self.fail(name, f"{name}: {value} is longer in some months than in others; say it in days or hours")
        except UsageError as error:
            self.fail(name, f"{name}: {error}")
        return str(value)


def _contract(odcs: OpenDataContractStandard, raw: dict[str, Any], lines: _Lines, text: str) -> Contract:
    for key in ("apiVersion", "kind", "id", "version", "status", "schema"):
        if not raw.get(key):
            lines.fail((), f"{key} is missing; ODCS 3.1 requires it")
    if not str(raw["apiVersion"]).startswith("v3.1"):
        lines.fail(("apiVersion",), f"apiVersion {raw['apiVersion']}: this reads v3.1.0")
    if raw["kind"] != "DataContract":
        lines.fail(("kind",), f"kind {raw['kind']}: this reads kind: DataContract")
    dataset = str(raw["id"])
    if not NAME.fullmatch(dataset):
        lines.fail(("id",), f"id {dataset!r} must match {NAME.pattern}: it becomes a table and a path")
    ours = _Properties(odcs.customProperties, _OURS, (), lines)
    table, columns, primary = _table(odcs, dataset, lines)
    names = [c.name for c in columns if not c.ordinal]
    rules = tuple(_rule(q, i, names, lines) for i, q in enumerate(table.quality or []))
    if twice := next((i for i, r in enumerate(rules) if r.name in {o.name for o in rules[:i]}), None):
        lines.fail(("schema", 0, "quality"), f"two rules are called {rules[twice].name}; a reason must name one rule")
    if "source" not in ours:
        ours.fail("source", "customProperty source is missing")
    if not isinstance(ours.get("options", {}), dict):
        ours.fail("options", "options: expects a mapping")
    gate = ours.mapping("gate", {"quarantinedAtMost", "withdrawnAtMost", "withdrawnMinRows", "unit", "minRows"})
    if gate.get("unit", "percent") != "percent":
        ours.fail("gate", "gate: unit must be percent")
    start, window, every, cursor = _time(ours)
    settle, reask, slide = _settle(ours)
    sequence = _sequence(ours, columns)
    _ordinal(ours, columns, primary, sequence)
    purpose = odcs.description.purpose if odcs.description else None
    return Contract(
        dataset=dataset,
        version=str(raw["version"]),
        title=odcs.name or dataset,
        description=str(table.description or purpose or ""),
        columns=columns,
        key=primary,
        rules=rules,
        gate=Gate(
            at_most=ours.share("gate", gate.get("quarantinedAtMost", 5)),
            min_rows=ours.count("gate", gate.get("minRows", 100)),
            withdrawn_at_most=ours.share("gate", gate.get("withdrawnAtMost", 20)),
            withdrawn_min_rows=ours.count("gate", gate.get("withdrawnMinRows", 1)),
        ),
        source=_source(ours),
        options=dict(ours.get("options") or {}),
        text=text,
        universe=ours.words("universe", None, NAME, "it becomes a file's name"),
        start=start,
        window=window,
        every=every,
        cursor=cursor,
        settle=settle,
        reask=reask,
        slide=slide,
        complete=_complete(ours, sequence, cursor),
        known_at=_known_at(ours, columns),
        sequence=sequence,
        partition=_partition(ours, columns, primary),
    )


def _table(
    odcs: OpenDataContractStandard, dataset: str, lines: _Lines
) -> tuple[SchemaObject, tuple[Column, ...], tuple[str, ...]]:
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
    key = tuple(name for _, name in sorted(keys))
    if not key:
        lines.fail(("schema", 0, "properties"), "no column has primaryKey: true; a version needs a key to belong to")
    for index, column in enumerate(columns):
        if column.name in key and not column.required:
            lines.fail(("schema", 0, "properties", index), f"{column.name} is in the key, so it must be required: true")
    return table, columns, key


def _source(ours: _Properties) -> str:
    name = ours.get("source")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][\w]*(\.[A-Za-z_][\w]*)*", name):
        ours.fail("source", f"source: {name} is not a name; say a built-in one such as fmp, or a dotted path of yours")
    return name


def _time(ours: _Properties) -> tuple[date | None, str | None, str | None, str | None]:
    """`start`, `window`, `every` and `cursor`: how the source's history is cut."""
    if sum(prop in ours for prop in ("window", "every", "cursor")) != 1:
        ours.fail(
            "",
            "give one of window (history in pieces), every (the whole, again and again) and cursor (what came since)",
        )
    for prop in ("window", "every"):
        if prop in ours:
            try:
                cell_of(date(2024, 1, 1), Duration.parse(str(ours.get(prop))))
            except UsageError as error:
                ours.fail(prop, f"{prop}: {error}")
    cursor = ours.get("cursor")
    if "cursor" in ours and (not isinstance(cursor, str) or not cursor):
        ours.fail("cursor", f"cursor: {cursor} is no text; say the record's field that tells how far an answer came")
    start = ours.get("start")
    if "start" in ours and (not isinstance(start, date) or hasattr(start, "hour")):
        ours.fail("start", f"start: {start!r} is not a day as YYYY-MM-DD")
    if "window" in ours and start is None:
        ours.fail("", "window needs start: the first day wanted, as YYYY-MM-DD")
    window, every = (str(ours.get(prop)) if prop in ours else None for prop in ("window", "every"))
    return start, window, every, cursor


def _settle(ours: _Properties) -> tuple[str, str, tuple[int, str] | None]:
    """`settle`; `reask`, which is as long where nobody says it; and how far back it slides, where it is `{days, every}`."""
    settle = ours.lag("settle", ours.get("settle", "P3D"))
    if isinstance(ours.get("reask"), dict):
        return settle, settle, _slide(ours, settle)
    reask = ours.lag("reask", ours.get("reask", settle))
    if _exact(reask) < _exact(settle):
        ours.fail(
            "reask", f"reask: {reask} is shorter than settle, {settle}: a day that may change must be asked again"
        )
    return settle, reask, None


def _slide(ours: _Properties, settle: str) -> tuple[int, str]:
    said = ours.mapping("reask", {"days", "every"})
    if said.keys() != {"days", "every"}:
        ours.fail("reask", "reask: say both days and every, as {days: 60, every: P7D}, or a length alone, as P10D")
    days, every = said["days"], str(said["every"])
    if not isinstance(days, int) or isinstance(days, bool) or not 0 < days <= 36_500:
        ours.fail("reask", f"reask: {days!r} is no number of days; say a whole number such as 60")
    try:
        cell_of(date(2024, 1, 1), Duration.parse(every))
    except UsageError as error:
        ours.fail("reask", f"reask: every: {error}")
    if timedelta(days) <= _exact(settle):
        ours.fail("reask", f"reask: {days} days are not longer than settle, {settle}: those are asked every day")
    if "window" not in ours:
        ours.fail("reask", "reask: days and every are of a history in pieces: it needs window")
    return days, every


def _exact(lag: str) -> timedelta:
    return Duration.parse(lag).exact


def _sequence(ours: _Properties, columns: tuple[Column, ...]) -> str | None:
    if ours.get("sequence") is None:
        return None
    found = next((c for c in columns if c.name == ours.get("sequence")), None)
    if found is None or found.kind == "json":
        ours.fail("sequence", "sequence: must be a column of the contract, and no object or array")
    if not found.required:
        ours.fail("sequence", f"sequence: {found.name} must be required: a row without one has no place in the order")
    return found.name


def _ordinal(ours: _Properties, columns: tuple[Column, ...], key: tuple[str, ...], sequence: str | None) -> None:
    """Refuse an ordinal that could not count: two of them, beside a sequence, or with nothing else in the key."""
    found = [c.name for c in columns if c.ordinal]
    if len(found) > 1:
        ours.fail("", f"{' and '.join(found)} are both ordinal; one counts what shares the rest of the key")
    if found and sequence:
        ours.fail(
            "sequence", f"sequence: it orders the states of one key, {found[0]} tells them apart; keep one of the two"
        )
    if found and len(key) == 1:
        ours.fail("", f"{found[0]} is the whole key; an ordinal counts what shares the rest of it")


def _complete(ours: _Properties, sequence: str | None, cursor: str | None) -> bool:
    """Whether what an answer lacks is withdrawn; what else the contract says must allow it."""
    complete = ours.get("complete", False)
    if not isinstance(complete, bool):
        ours.fail("complete", f"complete: {complete!r} is neither true nor false")
    if complete and sequence:
        ours.fail(
            "complete",
            "complete: with a sequence, the sequence alone decides; what is absent has none. Keep one of the two",
        )
    if complete and cursor:
        ours.fail("complete", "complete: what came since a cursor is not all there is; keep one of the two")
    return complete


def _known_at(ours: _Properties, columns: tuple[Column, ...]) -> KnownAt | None:
    known = ours.mapping("knownAt", {"column", "time", "zone", "lag"})
    if not known:
        return None
    found = next((c for c in columns if c.name == known.get("column")), None)
    if found is None or found.kind not in ("date", "timestamp"):
        ours.fail("knownAt", "knownAt: column must be a date or timestamp column of the contract")
    zone, at = str(known.get("zone", "UTC")), known.get("time", "24:00")
    if not _is_zone(zone):
        ours.fail("knownAt", f"knownAt: zone or lag cannot be read: no time zone is called {zone}")
    if not isinstance(at, str) or not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?|24:00", at):
        ours.fail("knownAt", f'knownAt: {at} is not a time such as "16:00"; quote it')
    return KnownAt(found.name, at, zone, ours.lag("knownAt", known.get("lag", "PT0S")))


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True


def _partition(ours: _Properties, columns: tuple[Column, ...], key: tuple[str, ...]) -> tuple[str, str] | None:
    part = ours.mapping("partitioning", {"column", "by"})
    if not part:
        return None
    found = next((c for c in columns if c.name == part.get("column")), None)
    if found is None or part.get("by") not in ("year", "month", "value"):
        ours.fail("partitioning", "partitioning: column must be of the contract, by one of year, month, value")
    if part["by"] == "value" and found.kind != "string":
        ours.fail("partitioning", f"partitioning: only a string is partitioned by value; {found.name} is none")
    if part["by"] != "value" and found.kind not in ("date", "timestamp"):
        ours.fail("partitioning", f"partitioning: {found.name} has no {part['by']}; only days and times have")
    if found.name not in key:
        ours.fail(
            "partitioning",
            f"partitioning: {found.name} is not in the key, so a key's versions could lie in several partitions; "
            f"partition by one of {', '.join(key)}, or leave it out",
        )
    return found.name, str(part["by"])


def _column(prop: SchemaProperty, index: int, lines: _Lines) -> Column:
    at = ("schema", 0, "properties", index)
    name = str(prop.name)
    if not NAME.fullmatch(name) or name in RESERVED:
        lines.fail(at, f"column name {name!r} must match {NAME.pattern} and not be one of {', '.join(RESERVED)}")
    ours = _Properties(prop.customProperties, _COLUMN_OURS, at, lines)
    kind = _KINDS.get(str(prop.logicalType))
    if kind is None:
        lines.fail(at, f"{name}: logicalType {prop.logicalType!r} is none of {', '.join(_KINDS)}")
    if kind == "json" and prop.primaryKey:
        lines.fail(at, f"{name}: an object or array is no key; its fields can be columns by `from: {name}.field`")
    precision, scale = 18, 6
    if kind == "number":
        found = _decimal(str(prop.physicalType))
        if not found:
            wanted = "decimal(precision, scale), precision at most 38"
            lines.fail(at, f"{name}: physicalType must say {wanted}; doubles are not stored")
        precision, scale = found.precision, found.scale
    if ours.get("excess", "refuse") not in ("refuse", "round"):
        lines.fail(at, f"{name}: excess is refuse (the default) or round")
    ordinal = ours.get("ordinal", False)
    if not isinstance(ordinal, bool):
        lines.fail(at, f"{name}: ordinal: {ordinal!r} is neither true nor false")
    if ordinal and (kind != "integer" or not prop.primaryKey or "from" in ours):
        lines.fail(at, f"{name}: an ordinal is an integer of the key that is read from nowhere: no `from`")
    try:
        origins = () if ordinal else _origins(ours.get("from", name))
    except ValueError as error:
        lines.fail(at, f"{name}: from {error}")
    zone = str(ours.get("zone", "UTC"))
    if not _is_zone(zone):
        lines.fail(at, f"{name}: no time zone is called {zone}; say one such as America/New_York")
    if prop.classification not in _CLASSES:
        lines.fail(
            at, f"{name}: classification is missing or unknown; say {', '.join(_CLASSES[:-1])} or {_CLASSES[-1]}"
        )
    return Column(
        name=name,
        origins=origins,
        kind=kind,
        required=bool(prop.required),
        precision=precision,
        scale=scale,
        excess="round" if ours.get("excess") == "round" else "refuse",
        zone=zone,
        description=str(prop.description or ""),
        classification=str(prop.classification),
        unit=str(ours.get("unit", "")),
        ordinal=ordinal,
    )


def _decimal(text: str) -> SqlType | None:
    try:
        found = SqlType.parse(text)
    except ValueError:
        return None
    return found if found.decimal else None


def _origins(value: object) -> tuple[tuple[str, ...], ...]:
    """The paths of `address.city`, or of a list of such; ValueError says what is none."""
    if value == []:
        raise ValueError("[] names nothing; say the record's field")
    out = tuple(_path(one) for one in (value if isinstance(value, list) else [value]))
    if twice := next((i for i, one in enumerate(out) if one in out[:i]), None):
        raise ValueError(f"{value[twice] if isinstance(value, list) else value} stands there twice; keep one")
    return out


def _path(text: object) -> tuple[str, ...]:
    r"""The fields of a path: a dot goes one field down, `\.` is a dot of the name, `\\` a backslash of it."""
    if not isinstance(text, str) or not text:
        raise ValueError(f"{text} is no text; say the record's field")
    parts = [""]
    letters = iter(text)
    for letter in letters:
        if letter == ".":
            parts.append("")
            continue
        taken = next(letters, "end") if letter == "\\" else letter
        if letter == "\\" and taken not in (".", "\\"):
            raise ValueError(rf"{text} has a backslash before neither dot nor backslash; the name's own is written \\")
        parts[-1] += taken
    if "" in parts:
        raise ValueError(rf"{text} has an empty part beside a dot; a dot of the field's own name is written \.")
    return tuple(parts)


def _rule(quality: DataQuality, index: int, names: list[str], lines: _Lines) -> Rule:
    at = ("schema", 0, "quality", index)
    ours = _Properties(quality.customProperties, _RULE_OURS, at, lines)
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
    if at_most is not None and not 0 <= at_most <= 100:
        lines.fail(at, f"mustBeLessOrEqualTo: {at_most} is no share in percent; say a number from 0 to 100")
    return Rule(
        name=str(quality.name),
        expression=str(quality.implementation),
        description=str(quality.description or ""),
        severity="warning" if quality.severity == "warning" else "error",
        at_most=None if at_most is None else float(at_most),
        min_rows=ours.count("minRows", ours.get("minRows", 100)),
    )
