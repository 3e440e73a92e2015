"""What a contract's YAML may say, in ODCS 3.1 and in words of ours; all complaints at once, each with file, line and remedy."""

import copy
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import yaml
from open_data_contract_standard.model import (
    OpenDataContractStandard,
    SchemaObject,
    SchemaProperty,
)
from pydantic import ValidationError

from assay.contract import keys, spelling
from assay.contract.lines import Lines, Noted, Properties, near
from assay.contract.model import (
    CURRENCY,
    NAME,
    RESERVED,
    Column,
    Contract,
    Gate,
    Kind,
    KnownAt,
    Promise,
)
from assay.contract.rules import Judged
from assay.errors import ContractError, UsageError
from assay.settings import size
from assay.sqltypes import SqlType
from assay.windows import Duration, cell_of

_OURS = {
    "source", "options", "universe", "start", "window", "every", "cursor", "settle", "reask", "complete", "knownAt",
    "sequence", "partitioning", "gate", "mutability", "currency", "calendar",
    "engine",
}  # fmt: skip
_COLUMN_OURS = {"from", "unit", "zone", "excess", "ordinal", *spelling.WORDS}
_KINDS: dict[str, Kind] = {
    "string": "string", "integer": "integer", "number": "number", "boolean": "boolean", "date": "date",
    "timestamp": "timestamp", "object": "json", "array": "json",
}  # fmt: skip
_CLASSES = ("public", "internal", "confidential", "restricted")
_MUTABILITY = ("append", "restating", "snapshot")
_PROMISES = {"latency": "latency", "ly": "latency", "freshness": "latency", "frequency": "frequency", "fy": "frequency"}
_UNITS = {"d": "P{}D", "day": "P{}D", "days": "P{}D", "h": "PT{}H", "hour": "PT{}H", "hours": "PT{}H", "m": "PT{}M", "min": "PT{}M",
          "minute": "PT{}M", "minutes": "PT{}M", "s": "PT{}S", "second": "PT{}S", "seconds": "PT{}S"}  # fmt: skip
_CARRIED = ("name", "version", "schema[].description", "schema[].properties[].description")
"""Keys that are shown as the contract's title, its version and descriptions."""
_LEAVES = ("value", "examples", "arguments", "implementation")
"""Keys whose values are their own, whatever they look like."""
# libyaml's parser where PyYAML was built with it: the same nodes, several times faster
_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


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
    lines = Lines(name, node)
    shown = tuple(_keys(raw, "", (), lines))
    found: list[Contract] = []
    if odcs := _typed({key: value for key, value in raw.items() if keys.meaning(str(key))}, lines):
        with lines.each():
            found.append(_contract(odcs, raw, lines, text))
    lines.done()
    return replace(found[0], shown=shown)


def _typed(raw: dict[str, Any], lines: Lines) -> OpenDataContractStandard | None:
    """What the standard's own model reads; what is of another type is noted and left out of it."""
    for _ in range(20):
        try:
            return OpenDataContractStandard.model_validate(raw)
        except ValidationError as error:
            found = error.errors()
        raw = copy.deepcopy(raw)
        for one in found:
            at = [part for part in one["loc"] if part not in ("Team", "list[TeamMember]")]
            at = ["schema" if part == "schema_" else part for part in at]
            lines.note(at, f"{'.'.join(map(str, at))}: {one['msg']}", last=True)
            _leave_out(raw, at)
    return None


def _leave_out(raw: Any, at: Sequence[Any]) -> None:
    """Take away what stands at a path, or as deep as there is something."""
    first, rest = at[0], at[1:]
    below = raw[first] if isinstance(raw, list) else raw.get(first)
    if rest and isinstance(below, dict | list):
        _leave_out(below, rest)
    else:
        raw[first] = {} if isinstance(raw, list) else None


def _twice(node: yaml.Node, name: str, above: tuple[yaml.Node, ...], budget: Iterator[int]) -> None:
    """Refuse what YAML lets pass: a key twice, anchors that hold themselves or multiply without end, and days that are none."""
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
    elif node.tag == "tag:yaml.org,2002:timestamp":
        try:
            yaml.safe_load(node.value)
        except ValueError:
            raise ContractError(
                f"{name}:{node.start_mark.line + 1}: not YAML: {node.value} is no day that ever was; quote it if it is a text"
            ) from None


def _keys(raw: dict[Any, Any], above: str, path: tuple[str | int, ...], lines: Lines) -> Iterator[tuple[str, str]]:
    """Note every key that is none of ODCS or is refused here; give what is shown, each by its path."""
    for key, value in raw.items():
        name, at = f"{above}.{key}" if above else str(key), (*path, key)
        found = keys.meaning(name)
        if found is None:
            known = near(str(key), keys.names(above))
            lines.note(at, f"{key} is not a key of ODCS here; did you mean one of {known}?", key=True)
        elif found.fate == "refused":
            lines.note(at, f"{key} is refused: {found.said}", key=True)
        elif isinstance(value, dict) and key not in _LEAVES:
            yield from _keys(value, name, at, lines)
        elif isinstance(value, list) and key not in _LEAVES and any(isinstance(one, dict) for one in value):
            for index, one in enumerate(value):
                if isinstance(one, dict):
                    yield from _keys(one, f"{name}[]", (*at, index), lines)
        elif found.fate == "shown" and value is not None and name not in _CARRIED:
            yield _spoken(at), _plain(value)


def _spoken(path: Iterable[str | int]) -> str:
    """A path as people write it: `team.members[0].name`."""
    return "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in path).removeprefix(".")


def _plain(value: object) -> str:
    """A value as text: a list of texts with commas, what is nested as JSON."""
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ", ".join(value)
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def _contract(odcs: OpenDataContractStandard, raw: dict[str, Any], lines: Lines, text: str) -> Contract:
    for key in ("apiVersion", "kind", "id", "version", "status", "schema"):
        if not raw.get(key):
            lines.note((), f"{key} is missing; ODCS 3.1 requires it")
    if raw.get("apiVersion") and not str(raw["apiVersion"]).startswith("v3.1"):
        lines.note(("apiVersion",), f"apiVersion {raw['apiVersion']}: this reads v3.1.0")
    if raw.get("kind") and raw["kind"] != "DataContract":
        lines.note(("kind",), f"kind {raw['kind']}: this reads kind: DataContract")
    dataset = str(raw.get("id"))
    if not NAME.fullmatch(dataset):
        if raw.get("id"):
            lines.note(("id",), f"id {dataset!r} must match {NAME.pattern}: it becomes a table and a path")
        dataset = ""
    ours = Properties(odcs.customProperties, _OURS, (), lines)
    time: tuple[date | None, str | None, str | None, str | None] = (None, None, None, None)
    with lines.each():
        time = _time(ours)
    start, window, every, cursor = time
    table, columns, primary = SchemaObject(), tuple[Column, ...](), tuple[str, ...]()
    with lines.each():
        table, columns, primary = _table(odcs, dataset, lines)
    judged = Judged(lines, columns, whole=bool(every and start is None and "universe" not in ours))
    with lines.each():
        judged.read(table)
    options, gate = ours.get("options", {}), Gate()
    if not isinstance(options, dict):
        ours.note("options", "options: expects a mapping")
    with lines.each():
        gate = replace(_gate(ours), rows_at_least=judged.rows[0], rows_at_most=judged.rows[1])
    settle, reask, slide = "P3D", "P3D", None
    with lines.each():
        settle, reask, slide = _settle(ours)
    sequence = known_at = partition = universe = mutability = None
    source, complete, days = "", False, ""
    with lines.each():
        if "source" not in ours:
            ours.fail("source", "customProperty source is missing")
        source = _source(ours)
    with lines.each():
        sequence = _sequence(ours, columns, lines)
    with lines.each():
        _ordinal(ours, columns, primary, sequence)
    with lines.each():
        complete = _complete(ours, sequence, cursor)
    with lines.each():
        known_at = _known_at(ours, columns, lines)
    with lines.each():
        partition = _partition(ours, columns, primary, lines)
    with lines.each():
        universe = ours.words("universe", None, NAME, "it becomes a file's name")
    with lines.each():
        mutability = _mutability(ours, every, complete=complete)
    with lines.each():
        columns = _in_currency(ours, columns, lines)
    with lines.each():
        days = judged.calendar(ours, primary)
    if sequence and judged.unique:
        ours.note(
            "sequence",
            f"sequence: a batch tells a key's states in order, so {judged.unique[0].name} cannot be told of it; keep one",
        )
    purpose = odcs.description.purpose if odcs.description else None
    return Contract(
        dataset=dataset,
        version=str(raw.get("version")),
        title=odcs.name or dataset,
        description=str(table.description or purpose or ""),
        columns=columns,
        key=primary,
        rules=tuple(judged.rules),
        gate=gate,
        source=source,
        options=dict(options or {}) if isinstance(options, dict) else {},
        text=text,
        universe=universe,
        start=start,
        window=window,
        every=every,
        cursor=cursor,
        settle=settle,
        reask=reask,
        slide=slide,
        complete=complete,
        known_at=known_at,
        sequence=sequence,
        partition=partition,
        unique=tuple(judged.unique),
        mutability=mutability,
        days=days,
        promises=tuple(_promises(odcs, dataset, lines)),
        engine=_engine(ours),
    )


def _gate(ours: Properties) -> Gate:
    gate = ours.mapping("gate", {"quarantinedAtMost", "withdrawnAtMost", "withdrawnMinRows", "unit", "minRows"})
    if gate.get("unit", "percent") != "percent":
        ours.note("gate", "gate: unit must be percent")
    return Gate(
        at_most=ours.share("gate", gate.get("quarantinedAtMost", 5)),
        min_rows=ours.count("gate", gate.get("minRows", 100)),
        withdrawn_at_most=ours.share("gate", gate.get("withdrawnAtMost", 20)),
        withdrawn_min_rows=ours.count("gate", gate.get("withdrawnMinRows", 1)),
    )


def _engine(ours: Properties) -> tuple[str, int]:
    """Which engine refines, and above how many bytes of lines it is Spark."""
    said = ours.get("engine", "duckdb")
    if said in ("duckdb", "spark"):
        return str(said), 0
    rule = ours.mapping("engine", {"name", "sparkAbove"}) if isinstance(said, dict) else {}
    told = str(rule.get("sparkAbove", ""))
    above = size(told) if re.fullmatch(r"[0-9]{1,9}([.][0-9]{1,3})? ?[KMGT]i?B", told) else 0
    if rule.get("name") != "auto" or above <= 0:
        ours.note("engine", f"engine: {said} is none; say duckdb, spark, or {{name: auto, sparkAbove: 5GB}}")
    return "auto", above


def _mutability(ours: Properties, every: str | None, *, complete: bool) -> Any:
    found = ours.get("mutability")
    if "mutability" in ours and found not in _MUTABILITY:
        ours.fail("mutability", f"mutability: {found!r} is none of {', '.join(_MUTABILITY)}")
    if found == "append" and complete:
        ours.note("mutability", "mutability: append says that rows stay, complete that they may go; keep one")
    if found == "snapshot" and not (every and complete):
        ours.note("mutability", "mutability: a snapshot is the whole, again and again; say every and complete: true")
    return found


def _in_currency(ours: Properties, columns: tuple[Column, ...], lines: Lines) -> tuple[Column, ...]:
    """The columns, those whose unit is the contract's currency in it."""
    found = ours.get("currency")
    if "currency" in ours and not CURRENCY.fullmatch(str(found)):
        ours.fail("currency", f"currency: {found} is no code of ISO 4217 such as USD")
    using = [one for one in columns if one.unit == "currency"]
    if found and not using:
        ours.fail("currency", "currency: no column has the unit currency, so it says nothing; say unit: currency there")
    if using and not found:
        lines.fail(
            ("schema", 0, "properties", columns.index(using[0])),
            f"{using[0].name}: unit: currency is that of the contract, which says none",
        )
    return tuple(replace(one, unit=str(found)) if one.unit == "currency" else one for one in columns)


def _promises(odcs: OpenDataContractStandard, dataset: str, lines: Lines) -> Iterator[Promise]:
    """The promises of time that can be told; others are shown."""
    for index, one in enumerate(odcs.slaProperties or []):
        at = ("slaProperties", index)
        name = str(one.property).lower()
        if one.property is None or one.value is None:
            lines.note(at, "a promise says property and value")
        elif name in ("retention", "re"):
            lines.note(at, "retention is refused: nothing of bronze and silver is deleted by its age; leave it out")
        elif name in _PROMISES:
            if one.element not in (None, dataset):
                lines.note(
                    (*at, "element"),
                    f"element: {one.element}: what is measured is when {dataset} was last captured; say {dataset} or leave it out",
                )
            unit = _UNITS.get(str(one.unit).lower())
            if not isinstance(one.value, int) or isinstance(one.value, bool) or not 0 < one.value < 100_000 or not unit:
                lines.note(
                    at,
                    f"{one.property}: {one.value} {one.unit or ''} is no time; say a whole number and the unit d, h, m or s",
                )
            else:
                yield Promise(str(one.property), unit.format(one.value))


def _table(
    odcs: OpenDataContractStandard, dataset: str, lines: Lines
) -> tuple[SchemaObject, tuple[Column, ...], tuple[str, ...]]:
    if not odcs.schema_:
        raise Noted  # said already: it is missing, or no list of tables
    if len(odcs.schema_) != 1:
        lines.note(("schema",), "one contract promises one table: give exactly one schema object")
    table = odcs.schema_[0]
    if dataset and table.name != dataset:
        lines.note(("schema", 0), f"schema name {table.name!r} must be the id {dataset!r}")
    for key, only in (("logicalType", "object"), ("physicalType", "table")):
        if (found := getattr(table, key)) not in (None, only):
            lines.note(("schema", 0, key), f"{key} {found}: silver has tables; say {only}, or leave it out")
    columns: list[Column] = []
    for index, one in enumerate(table.properties or []):
        with lines.each():
            columns.append(_column(one, index, lines))
    if not table.properties:
        lines.fail(("schema", 0), "a table without properties promises nothing")
    names = [str(p.name) for p in table.properties]
    for index, name in enumerate(names):
        if names.index(name) != index:
            lines.note(("schema", 0, "properties", index), f"column {name} stands here twice; keep one")
    return table, tuple({c.name: c for c in columns}.values()), _key(table.properties, lines)


def _key(properties: Sequence[SchemaProperty], lines: Lines) -> tuple[str, ...]:
    """The columns of the key, in the order of their positions."""
    found: list[tuple[int, str]] = []
    for index, one in enumerate(properties):
        at, position = ("schema", 0, "properties", index), one.primaryKeyPosition
        if not one.primaryKey:
            if position not in (None, -1):
                lines.note(at, f"{one.name}: primaryKeyPosition says nothing without primaryKey: true")
            continue
        if not one.required:
            lines.note(at, f"{one.name} is in the key, so it must be required: true")
        if position is not None and position < 1 and position != -1:
            lines.note(at, f"{one.name}: primaryKeyPosition {position}: positions begin with 1")
        found.append((position if position and position > 0 else 0, str(one.name)))
    for index, one in enumerate(properties):
        told = [position for position, _ in found]
        if one.primaryKey and len(found) > 1 and told.count(one.primaryKeyPosition or 0) != 1 and set(told) != {0}:
            lines.note(
                ("schema", 0, "properties", index),
                f"{one.name}: each column of the key has a primaryKeyPosition of its own, or none has one",
            )
    if not found:
        lines.note(("schema", 0, "properties"), "no column has primaryKey: true; a version needs a key to belong to")
    return tuple(name for _, name in sorted(found, key=lambda one: one[0]))


def _source(ours: Properties) -> str:
    name = ours.get("source")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][\w]*(\.[A-Za-z_][\w]*)*", name):
        ours.fail("source", f"source: {name} is not a name; say a built-in one such as fmp, or a dotted path of yours")
    return name


def _time(ours: Properties) -> tuple[date | None, str | None, str | None, str | None]:
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


def _settle(ours: Properties) -> tuple[str, str, tuple[int, str] | None]:
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


def _slide(ours: Properties, settle: str) -> tuple[int, str]:
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


def _sequence(ours: Properties, columns: tuple[Column, ...], lines: Lines) -> str | None:
    if ours.get("sequence") is None:
        return None
    found = next((c for c in columns if c.name == ours.get("sequence")), None)
    if found is None or (found.kind == "json" and found.name not in lines.unsure):
        ours.fail("sequence", "sequence: must be a column of the contract, and no object or array")
    if not found.required:
        ours.fail("sequence", f"sequence: {found.name} must be required: a row without one has no place in the order")
    return found.name


def _ordinal(ours: Properties, columns: tuple[Column, ...], key: tuple[str, ...], sequence: str | None) -> None:
    """Refuse an ordinal that could not count: two of them, beside a sequence, or with nothing else in the key."""
    found = [c.name for c in columns if c.ordinal]
    if len(found) > 1:
        ours.fail("", f"{' and '.join(found)} are both ordinal; one counts what shares the rest of the key")
    if found and sequence:
        ours.fail(
            "sequence", f"sequence: it orders the states of one key, {found[0]} tells them apart; keep one of the two"
        )
    if found and key == tuple(found):
        ours.fail("", f"{found[0]} is the whole key; an ordinal counts what shares the rest of it")


def _complete(ours: Properties, sequence: str | None, cursor: str | None) -> bool:
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


def _known_at(ours: Properties, columns: tuple[Column, ...], lines: Lines) -> KnownAt | None:
    known = ours.mapping("knownAt", {"column", "time", "zone", "lag"})
    if not known:
        return None
    found = next((c for c in columns if c.name == known.get("column")), None)
    if found is None or (found.kind not in ("date", "timestamp") and found.name not in lines.unsure):
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


def _partition(
    ours: Properties, columns: tuple[Column, ...], key: tuple[str, ...], lines: Lines
) -> tuple[str, str] | None:
    part = ours.mapping("partitioning", {"column", "by"})
    if not part:
        return None
    found = next((c for c in columns if c.name == part.get("column")), None)
    if found is None or part.get("by") not in ("year", "month", "value"):
        ours.fail("partitioning", "partitioning: column must be of the contract, by one of year, month, value")
    if found.name in lines.unsure:
        return None
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


def _column(prop: SchemaProperty, index: int, lines: Lines) -> Column:
    at = ("schema", 0, "properties", index)
    name = str(prop.name)
    if not NAME.fullmatch(name) or name in RESERVED:
        lines.note(at, f"column name {name!r} must match {NAME.pattern} and not be one of {', '.join(RESERVED)}")
    ours = Properties(prop.customProperties, _COLUMN_OURS, at, lines)
    kind = _KINDS.get(str(prop.logicalType))
    if kind is None:
        lines.note(at, f"{name}: logicalType {prop.logicalType!r} is none of {', '.join(_KINDS)}")
        lines.unsure.add(name)
    if kind == "json" and prop.primaryKey:
        lines.note(at, f"{name}: an object or array is no key; its fields can be columns by `from: {name}.field`")
    precision, scale = 18, 6
    if kind == "number":
        found = _decimal(str(prop.physicalType))
        if not found:
            wanted = "decimal(precision, scale), precision at most 38"
            lines.note(at, f"{name}: physicalType must say {wanted}; doubles are not stored")
            lines.unsure.add(name)
        else:
            precision, scale = found.precision, found.scale
    if ours.get("excess", "refuse") not in ("refuse", "round"):
        lines.note(at, f"{name}: excess is refuse (the default) or round")
    ordinal = ours.get("ordinal", False)
    if not isinstance(ordinal, bool):
        lines.note(at, f"{name}: ordinal: {ordinal!r} is neither true nor false")
    if ordinal and (kind != "integer" or not prop.primaryKey or "from" in ours):
        lines.note(at, f"{name}: an ordinal is an integer of the key that is read from nowhere: no `from`")
    origins: tuple[tuple[str, ...], ...] = ((name,),)
    try:
        origins = () if ordinal else _origins(ours.get("from", name))
    except ValueError as error:
        lines.note(at, f"{name}: from {error}")
    if prop.classification not in _CLASSES:
        lines.note(
            at, f"{name}: classification is missing or unknown; say {', '.join(_CLASSES[:-1])} or {_CLASSES[-1]}"
        )
    column = Column(
        name=name,
        origins=origins,
        kind=kind or "string",
        required=bool(prop.required),
        precision=precision,
        scale=scale,
        excess="round" if ours.get("excess") == "round" else "refuse",
        zone=_zone(prop, ours, at, lines),
        description=str(prop.description or ""),
        classification=str(prop.classification),
        unit=str(ours.get("unit", "")),
        ordinal=ordinal,
        **(spelling.words(name, kind, ours, ordinal=bool(ordinal)) if kind else {}),
    )
    if kind and kind != "number" and prop.physicalType and _spelt(prop.physicalType) not in _STORED[column.type]:
        lines.note(at, f"{name}: physicalType {prop.physicalType}: silver has a {column.type}; say so, or leave it out")
    return column


_STORED = {
    "VARCHAR": ("VARCHAR", "TEXT", "STRING"), "BIGINT": ("BIGINT", "INT64", "LONG"), "BOOLEAN": ("BOOLEAN", "BOOL"), "DATE": ("DATE",),
    "TIMESTAMPTZ": ("TIMESTAMPTZ",),
}  # fmt: skip


def _spelt(kind: str) -> str:
    try:
        return str(SqlType.parse(kind))
    except ValueError:
        return kind


def _zone(prop: SchemaProperty, ours: Properties, at: tuple[str | int, ...], lines: Lines) -> str:
    """The zone of a column's texts without one, said in our word or in ODCS's."""
    options = prop.logicalTypeOptions if prop.logicalType == "timestamp" else None
    theirs = (options or {}).get("defaultTimezone")
    if theirs is not None and "zone" in ours and str(ours.get("zone")) != str(theirs):
        lines.note(at, f"{prop.name}: defaultTimezone {theirs} and zone {ours.get('zone')} are two; keep one")
    zone = str(ours.get("zone", theirs or "UTC"))
    if _is_zone(zone):
        return zone
    lines.note(at, f"{prop.name}: no time zone is called {zone}; say one such as America/New_York")
    return "UTC"


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
