"""What a contract says of its values: rules of a row, options of a type, the library's metrics, what no two rows share."""

from typing import Any, Literal

from open_data_contract_standard.model import DataQuality, SchemaObject, SchemaProperty

from assay import guard
from assay.contract import calendars, keys, quality
from assay.contract.lines import Lines, Properties, Spelt
from assay.contract.model import NAME, Column, Rule, Unique
from assay.errors import UsageError

OURS = {"minRows"}
"""The customProperties of a rule."""
_OPERATORS = {name for name in keys.names("schema[].quality[]") if name.startswith(("mustBe", "mustNotBe"))}


class Judged:
    """What a contract says of values: rules of a row, what no two rows share, how many rows there are."""

    def __init__(self, lines: Lines, columns: tuple[Column, ...], *, whole: bool) -> None:
        self.lines, self.columns, self.whole = lines, columns, whole
        self.rules: list[Rule] = []
        self.unique: list[Unique] = []
        self.rows: tuple[int | None, int | None] = (None, None)

    def read(self, table: SchemaObject) -> None:
        """All of a table: its rules first, so that a reason stands before those of the columns."""
        for index, one in enumerate(table.quality or []):
            with self.lines.each():
                self._quality(one, None, ("schema", 0, "quality", index))
        properties = {str(p.name): (n, p) for n, p in enumerate(table.properties or [])}
        for column in self.columns:
            n, prop = properties[column.name]
            at = ("schema", 0, "properties", n)
            if column.ordinal:
                if prop.logicalTypeOptions or prop.unique or prop.quality:
                    self.lines.note(
                        at, f"{column.name}: an ordinal counts records, so nothing can be promised of its values"
                    )
                continue
            if column.name not in self.lines.unsure:
                self._options(prop, column, (*at, "logicalTypeOptions"))
            if prop.unique and [p.name for p in table.properties or [] if p.primaryKey] != [column.name]:
                self._share(f"{column.name}:unique", (column.name,), at)
            for index, one in enumerate(prop.quality or []):
                with self.lines.each():
                    self._quality(one, column, (*at, "quality", index))

    def calendar(self, ours: Properties, key: tuple[str, ...]) -> str:
        """The days that can have rows: the name of the lake's calendar, '' where none is needed to know them."""
        if "calendar" not in ours:
            return ""
        value = ours.get("calendar")
        whole = ours.mapping("calendar", {"name", "severity"}) if isinstance(value, dict) else {"name": value}
        said, severity = whole.get("name"), whole.get("severity", "error")
        if not isinstance(said, str) or not calendars.NAME.fullmatch(said):
            ours.fail(
                "calendar",
                f"calendar: {said} is no name; say weekdays, Monday to Friday, or XNYS for what calendars/XNYS.csv says",
            )
        if severity not in ("error", "warning"):
            ours.fail("calendar", f"calendar: severity {severity!r} is neither error nor warning")
        days = [one.name for one in self.columns if one.name in key and one.kind == "date"]
        if len(days) != 1:
            ours.fail("calendar", "calendar: one column of the key must be a date, whose days it says")
        if said == "weekdays":
            told = Rule(f"{days[0]}:calendar", f'isodow("{days[0]}") <= 5', severity, description="Monday to Friday")
        else:
            about = f"a session of {said}"
            told = Rule(f"{days[0]}:calendar", about, severity, description=about, day=days[0])
        self.rules.append(told)
        return said if told.day else ""

    def _options(self, prop: SchemaProperty, column: Column, at: tuple[str | int, ...]) -> None:
        found = prop.logicalTypeOptions or {}
        spelt = Spelt(self.lines, at)
        bad = False
        for name, value in found.items():
            refused = keys.meaning(f"schema[].properties[].logicalTypeOptions.{name}")
            if refused is None or refused.fate == "refused":
                continue  # said already
            try:
                if rule := quality.option(column, name, value, spelt((name,))):
                    self.rules.append(rule)
            except ValueError as error:
                bad = True
                self.lines.note((*at, name), f"{column.name}: {error}")
        if not bad and (said := quality.contradiction(found, column, spelt)):
            self.lines.note(at, f"{column.name}: {said}")

    def _quality(self, one: DataQuality, column: Column | None, at: tuple[str | int, ...]) -> None:
        kind = one.type or ("library" if one.metric else None)
        if kind == "text":
            return
        if kind == "custom":
            self._named(_rule(one, at, [c.name for c in self.columns if not c.ordinal], self.lines), at)
        elif kind == "library" and one.metric in quality.METRICS:
            try:
                self._metric(one, column, at)
            except ValueError as error:
                self.lines.fail(at, f"{one.metric}: {error}")
        elif kind == "library":
            self.lines.fail(at, f"metric {one.metric} is none of {', '.join(quality.METRICS)}")
        else:
            self.lines.fail(
                at,
                "a rule is type: library with a metric, or type: custom, engine: assay, implementation: a boolean expression; a query is refused",
            )

    def _metric(self, one: DataQuality, column: Column | None, at: tuple[str | int, ...]) -> None:
        """A metric of the library, kept batch by batch: only what then holds of the table too is taken."""
        metric, arguments = str(one.metric), one.arguments or {}
        ours = Properties(one.customProperties, OURS, at, self.lines)
        operators = {name: value for name in sorted(_OPERATORS) if (value := getattr(one, name)) is not None}
        if one.unit not in (None, "rows", "percent"):
            raise ValueError(f"unit {one.unit} is neither rows nor percent")
        if one.name is not None and not NAME.fullmatch(one.name):
            raise ValueError(f"a name matches {NAME.pattern}; it becomes the reason in quarantine")
        quality.known(metric, arguments)
        if metric == "rowCount":
            if column or not self.whole or one.unit == "percent":
                raise ValueError(
                    "it is the table's, in rows, and only where each batch is the whole table: every, without start and universe"
                )
            self.rows = quality.rows(operators)
            return
        most, below = quality.limit(operators)
        severity = self._severity(one, "error" if most == 0 else "warning")
        if metric == "duplicateValues":
            columns = self._shared(arguments, column)
            if most or severity == "warning":
                raise ValueError(
                    "a batch cannot tell how often other batches have a value; say mustBe: 0, or test it in gold"
                )
            self._share(one.name or f"{column.name if column else columns[0]}:{metric}", columns, at)
            return
        if column is None:
            raise ValueError("it is a column's; say it below the column")
        if most and one.unit != "percent" and not self.whole:
            raise ValueError("so many rows a batch may be more of the table; say unit: percent, or mustBe: 0")
        said = quality.breaks(metric, arguments, column, Spelt(self.lines, at))
        guard.expression(said, [column.name])
        self._named(
            Rule(
                one.name or f"{column.name}:{metric}", said, severity, most or None, ours.count("minRows", ours.get("minRows", 0)),
                str(one.description or ""), "percent" if one.unit == "percent" else "rows", below,
            ),
            at,
        )  # fmt: skip

    def _severity(self, one: DataQuality, default: Literal["error", "warning"]) -> Literal["error", "warning"]:
        if one.severity not in (None, "error", "warning"):
            raise ValueError(f"severity {one.severity!r} is neither error nor warning")
        return default if one.severity is None else "warning" if one.severity == "warning" else "error"

    def _shared(self, arguments: dict[str, Any], column: Column | None) -> tuple[str, ...]:
        """The columns of which no two rows have the same values."""
        found = [column.name] if column else arguments.get("properties")
        if column and arguments:
            raise ValueError("properties are said of a table; below a column it is the column's values")
        if not isinstance(found, list) or not found or len(set(map(str, found))) != len(found):
            raise ValueError("properties: say the columns whose values no two rows share, each once")
        known = {c.name: c for c in self.columns if not c.ordinal}
        if strange := next((name for name in found if name not in known), None):
            raise ValueError(f"properties: {strange} is no column; there are {', '.join(known)}")
        return tuple(found)

    def _share(self, name: str, columns: tuple[str, ...], at: tuple[str | int, ...]) -> None:
        if any(c.name in columns and c.kind == "json" for c in self.columns):
            self.lines.fail(
                at, f"{name}: an object or array is a text of one spelling among many; it cannot be told from another"
            )
        self._free(name, at)
        self.unique.append(Unique(name, columns))

    def _named(self, rule: Rule, at: tuple[str | int, ...]) -> None:
        self._free(rule.name, at)
        self.rules.append(rule)

    def _free(self, name: str, at: tuple[str | int, ...]) -> None:
        if name in {*(rule.name for rule in self.rules), *(one.name for one in self.unique)}:
            self.lines.fail(at, f"two rules are called {name}; a reason must name one rule")


def _rule(one: DataQuality, at: tuple[str | int, ...], names: list[str], lines: Lines) -> Rule:
    """A rule of ours: a boolean expression over a row."""
    ours = Properties(one.customProperties, OURS, at, lines)
    if one.type != "custom" or one.engine != "assay":
        lines.fail(at, "a rule is type: custom, engine: assay, implementation: a boolean expression")
    if not NAME.fullmatch(str(one.name)):
        lines.note(at, f"a rule needs a name that matches {NAME.pattern}; it becomes the reason in quarantine")
    if metric := one.metric or (one.arguments and "arguments"):
        lines.note(at, f"{metric} says nothing of an expression; it is for type: library")
    try:
        guard.expression(str(one.implementation), names)
    except UsageError as error:
        lines.note((*at, "implementation"), str(error))
    if one.severity not in (None, "error", "warning"):
        lines.note(at, f"severity {one.severity!r} is neither error nor warning")
    for name in sorted(_OPERATORS - {"mustBeLessOrEqualTo", "mustBeLessThan"}):
        if getattr(one, name) is not None:
            lines.note((*at, name), f"{name} says nothing of an expression; say mustBeLessOrEqualTo, in percent")
    below = one.mustBeLessThan is not None
    name, at_most = (
        ("mustBeLessThan", one.mustBeLessThan) if below else ("mustBeLessOrEqualTo", one.mustBeLessOrEqualTo)
    )
    if below and one.mustBeLessOrEqualTo is not None:
        lines.note(at, "mustBeLessThan and mustBeLessOrEqualTo are two limits; keep one")
    if at_most is not None and one.unit != "percent":
        lines.note(at, f"{name} needs unit: percent")
    if at_most is None and one.unit is not None:
        lines.note(at, f"unit {one.unit} says nothing without mustBeLessOrEqualTo")
    if at_most is not None and not 0 <= at_most <= 100:
        lines.note(at, f"{name}: {at_most} is no share in percent; say a number from 0 to 100")
    return Rule(
        name=str(one.name),
        expression=str(one.implementation),
        description=str(one.description or ""),
        severity="warning" if one.severity == "warning" else "error",
        at_most=None if at_most is None else float(at_most),
        min_rows=ours.count("minRows", ours.get("minRows", 100)),
        below=below,
    )
