"""What a dataset promises: columns, key, rules, gate, clocks, and where its records come from."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from assay.contract.calendars import DAYS_END, Calendar, instant
from assay.windows import Duration

Kind = Literal["string", "integer", "number", "boolean", "date", "timestamp", "json"]
CURRENCY = re.compile(r"[A-Z]{3}")
_AMOUNT = re.compile(r"\d{1,15}(\.\d+)?([eE][+-]?\d{1,2})?")
NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
RESERVED = (
    "known_at",
    "captured_at",
    "known_from",
    "known_to",
    "recorded_to",
    "known_basis",
    "backfilled",
    "row",
)


@dataclass(frozen=True)
class Column:
    """One column of silver.

    Attributes:
        name: in silver and everywhere after it.
        origins: where in a record its value is: paths of fields, of which the first that is there counts.
        kind: ODCS logical type; `number` is a decimal(precision, scale), `timestamp` is UTC microseconds, `json` (an
            object or an array) the canonical text of whatever value stands there.
        required: a row without it is quarantined.
        excess: what happens to decimals beyond the scale: `refuse` quarantines the row, `round` rounds half away
            from zero (for numbers a vendor computes in binary, whose last digits mean nothing).
        zone: the time zone of texts without one (timestamps only).
        ordinal: read from no record: it counts the different records of a batch that share the rest of the key.
        format: how a text says a day or time, such as `dd.MM.yyyy`; '' for ours, of ISO 8601.
        decimal, group: what stands in a number's text before the decimals, and between groups of three digits, if anything.
        nulls: the texts that mean null, as an empty one does.
        trim: blanks around a text are no part of it.
    """

    name: str
    origins: tuple[tuple[str, ...], ...]
    kind: Kind
    required: bool = False
    precision: int = 18
    scale: int = 6
    excess: Literal["refuse", "round"] = "refuse"
    zone: str = "UTC"
    description: str = ""
    classification: str = "internal"
    unit: str = ""
    ordinal: bool = False
    format: str = ""
    decimal: str = "."
    group: str = ""
    nulls: tuple[str, ...] = ()
    trim: bool = False

    @property
    def type(self) -> str:
        """The SQL type, as DuckDB, Spark and Trino spell it alike."""
        if self.kind == "number":
            return f"DECIMAL({self.precision},{self.scale})"
        names = {"string": "VARCHAR", "json": "VARCHAR", "integer": "BIGINT", "boolean": "BOOLEAN", "date": "DATE"}
        return names.get(self.kind, "TIMESTAMPTZ")

    @property
    def fields(self) -> tuple[str, ...]:
        """The record's own fields in which its paths begin, each once."""
        return tuple(dict.fromkeys(path[0] for path in self.origins))

    @property
    def spelling(self) -> tuple[bool, tuple[str, ...], str, str, str]:
        """How its texts are spelt, as `assay.contract.tree.Spelling` has it."""
        return self.trim, self.nulls, self.format, self.decimal, self.group


OUR_SPELLING = Column("", (), "string").spelling


@dataclass(frozen=True)
class Rule:
    """A boolean expression over a row's columns; a row where it is false breaks the rule.

    `error` quarantines the row, `warning` only counts it. A batch of at least `min_rows` rows in which more
    than `at_most` (percent, or `unit` rows) break the rule is held; with `below`, as many hold it too. A rule that names
    `day`, a column, is no expression to compute: it is that the contract's calendar has no other days.
    """

    name: str
    expression: str
    severity: Literal["error", "warning"] = "error"
    at_most: float | None = None
    min_rows: int = 100
    description: str = ""
    unit: Literal["percent", "rows"] = "percent"
    below: bool = False
    day: str = ""


@dataclass(frozen=True)
class Unique:
    """Columns whose values no two rows of different keys share; the rows of a batch that do have the reason `name`."""

    name: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Promise:
    """What ODCS calls a property of a service level: `lag` is the longest time since the newest landing.

    Where the contract has a calendar, it is the longest time from a session's end to a landing after it.
    """

    property: str
    lag: str


@dataclass(frozen=True)
class Late:
    """A promise of time that is broken: in a sentence, and since when."""

    promise: Promise
    told: str
    since: datetime


@dataclass(frozen=True)
class Gate:
    """What holds a batch, in percent.

    Attributes:
        at_most: the share of a batch's rows that may be quarantined; beyond it the whole batch is held.
        min_rows: the rows a batch needs before that share speaks.
        withdrawn_at_most: the share of the keys in its scope that a complete batch may withdraw; beyond it the
            withdrawals are held, and its rows go in. A batch without a row withdraws nothing by itself.
        withdrawn_min_rows: the withdrawals that it takes before that share speaks.
        rows_at_least, rows_at_most: how many rows a batch has, where it is the whole table.
    """

    at_most: float = 5.0
    min_rows: int = 100
    withdrawn_at_most: float = 20.0
    withdrawn_min_rows: int = 1
    rows_at_least: int | None = None
    rows_at_most: int | None = None


@dataclass(frozen=True)
class KnownAt:
    """When the public could know a row: `column`'s day at `time` in `zone`, `lag` later. Without a time it is the day's end."""

    column: str
    time: str = "24:00"
    zone: str = "UTC"
    lag: str = "PT0S"


@dataclass(frozen=True)
class Contract:
    """One dataset's promise, as read from its YAML; `text` is that YAML, byte for byte, and behind it its calendar.

    Attributes:
        window: history in pieces of this length; exactly one of `window`, `every` and `cursor` is there.
        every: the whole again, once in each slot of this length.
        cursor: the record's field by which a source is asked for what came since.
        settle: how long a source may still change a day; what is captured later is `backfilled`.
        reask: how long a day is asked again each day; at least `settle`.
        slide: (days, every): so many days back are asked again once in each slot of `every` too; none if nobody says so.
        complete: an answer says all there is for its scope: a key it lacks is withdrawn.
        mutability: `append`, rows never change; `restating`, they may; `snapshot`, each answer is the whole.
        days: the name of the calendar whose days the key's day is one of; '' without one.
        calendar: what the lake's file of that name says. Whoever judges by a contract has one that is whole.
        promises: how fresh the dataset is said to be.
        engine: which engine refines (duckdb, spark, auto), and of auto above how many bytes of new lines it is Spark. Rows are
            the same by either, so no fingerprint has it.
        shown: what else the contract says, for people: the key's path and its text.
    """

    dataset: str
    version: str
    title: str
    description: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    rules: tuple[Rule, ...]
    gate: Gate
    source: str
    options: Mapping[str, Any]
    text: str
    path: Path | None = None
    universe: str | None = None
    start: date | None = None
    window: str | None = None
    every: str | None = None
    cursor: str | None = None
    settle: str = "P3D"
    reask: str = "P3D"
    slide: tuple[int, str] | None = None
    complete: bool = False
    known_at: KnownAt | None = None
    sequence: str | None = None
    partition: tuple[str, str] | None = None
    unique: tuple[Unique, ...] = ()
    mutability: Literal["append", "restating", "snapshot"] | None = None
    days: str = ""
    calendar: Calendar | None = None
    promises: tuple[Promise, ...] = ()
    engine: tuple[str, int] = ("duckdb", 0)
    shown: tuple[tuple[str, str], ...] = ()

    def late(self, landed: datetime | None, at: datetime) -> list[Late]:
        """The promises of time that are broken at a moment; `landed` is the newest landing.

        With a calendar time counts from the end of the first session after it: nothing is late on days without one.
        """
        if landed is None or not self.promises:
            return []
        out: list[Late] = []
        age = f"the newest landing is {_told(at - landed)} old"
        over = self._ended_since(landed, at) if self.days else None
        for one in self.promises:
            lag = Duration.parse(one.lag).exact
            if not self.days and at - landed > lag:
                out.append(Late(one, f"{one.property}: at most {one.lag} was promised, and {age}", landed + lag))
            elif over and at - over[1] > lag:
                ended = f"that of {over[0]} ended {over[1]:%Y-%m-%dT%H:%MZ}"
                said = (
                    f"{one.property}: at most {one.lag} after a session of {self.days} was promised, {ended}, and {age}"
                )
                out.append(Late(one, said, over[1] + lag))
        return out

    def session_end(self, day: date) -> datetime | None:
        """When the session of a day is over; None where the calendar says that it has none.

        By the calendar's hour, which is earlier on a half day; without one by `known_at`'s, and else at the day's end in UTC.
        """
        calendar, known = self.calendar, self.known_at
        if day.isoweekday() > 5 or (calendar and calendar.session(day) is False):
            return None
        if calendar and calendar.closes:
            return instant(day, calendar.close(day), calendar.zone)
        if known and self.column(known.column).kind == "date":
            return instant(day, known.time, known.zone)
        return instant(day, DAYS_END, "UTC")

    def _ended_since(self, landed: datetime, at: datetime) -> tuple[date, datetime] | None:
        """The first session that ended after a landing, and before a moment: its day and its end."""
        day = landed.date() - timedelta(days=2)  # a session's end may lie a day and a zone behind its day
        while day <= at.date() + timedelta(days=1):
            ended = self.session_end(day)
            if ended and landed < ended < at:
                return day, ended
            day += timedelta(days=1)
        return None

    def where(self, *words: str) -> str:
        """The contract's file and the first line that has all of these words, for complaints; without a file, its dataset."""
        lines = enumerate(self.text.splitlines(), 1)
        line = next((n for n, text in lines if all(word in text for word in words)), 1)
        return f"{self.path.name}:{line}" if self.path else self.dataset

    def column(self, name: str) -> Column:
        """The column of that name."""
        return next(one for one in self.columns if one.name == name)

    @cached_property
    def rest(self) -> tuple[str, ...]:
        """The key without the column that counts the records of a batch, which a record by itself does not say."""
        return tuple(name for name in self.key if not self.column(name).ordinal)

    @property
    def shard_columns(self) -> tuple[Column, ...]:
        """The texts of the key that are read from the source's `shard_field`, or `shard_param`."""
        said = self.options.get("shard_field") or self.options.get("shard_param")
        return tuple(c for c in self.columns if c.name in self.key and c.kind == "string" and (said,) in c.origins)

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """The record's own fields that any column reads, each once."""
        return tuple(dict.fromkeys(field for column in self.columns for field in column.fields))

    @property
    def price(self) -> tuple[Decimal, str] | None:
        """What a call to the source costs, and in which currency; None where the contract does not say it so."""
        said = dict(self.shown)
        amount, currency = said.get("price.priceAmount", ""), said.get("price.priceCurrency", "")
        if said.get("price.priceUnit") != "call" or not _AMOUNT.fullmatch(amount) or not CURRENCY.fullmatch(currency):
            return None
        return Decimal(amount), currency

    @property
    def early(self) -> tuple[tuple[date, str], ...]:
        """The days on which a row is known earlier than at `known_at`'s time, and when: half days of the calendar."""
        known = self.known_at
        if known is None or self.calendar is None or known.time == "24:00" or self.column(known.column).kind != "date":
            return ()
        return tuple((day, closes) for day, closes in self.calendar.early if closes < known.time)

    @cached_property
    def step(self) -> Duration:
        """How time is cut: a window's length, or how often the whole is asked again."""
        return Duration.parse(self.window or self.every or "P1D")

    @cached_property
    def sha256(self) -> str:
        """The hash under which this text is stored in the lake."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @cached_property
    def capture_fingerprint(self) -> str:
        """Changes when what is asked of the source changes: what was landed before must be fetched again."""
        return _fingerprint([self.source, self.options, self.window, self.every, self.cursor, self.complete])

    @cached_property
    def refine_fingerprint(self) -> str:
        """Changes when the same records give other rows: silver is rebuilt."""
        columns = [
            [
                c.name,
                c.origins,
                c.kind,
                c.required,
                c.type,
                c.excess,
                c.zone if c.kind == "timestamp" else "",
                c.ordinal,
                *([c.spelling] if c.spelling != OUR_SPELLING else []),
            ]
            for c in self.columns
        ]
        known = self.known_at and [
            self.known_at.column,
            self.known_at.time,
            self.known_at.zone,
            self.known_at.lag,
        ]
        early = [self.early] if self.early else []
        return _fingerprint(
            [columns, self.key, known, self.sequence, self.partition, self.complete, self.settle, *early]
        )

    @cached_property
    def gate_fingerprint(self) -> str:
        """Changes when rows or batches are judged otherwise: it applies to what is landed from now on."""
        rules = [
            [
                r.name,
                r.expression,
                r.severity,
                r.at_most,
                r.min_rows,
                *([r.unit, r.below] if r.at_most is not None else []),
            ]
            for r in self.rules
        ]
        gate = self.gate
        unique = [[u.name, u.columns] for u in self.unique]
        days = [self.calendar.start, self.calendar.end, self.calendar.closed] if self.calendar else []
        return _fingerprint([rules, unique, *(getattr(gate, f.name) for f in fields(gate)), *days])


def _told(age: timedelta) -> str:
    hours = int(age.total_seconds()) // 3600
    return f"{hours // 24} d {hours % 24} h" if hours >= 24 else f"{hours} h {int(age.total_seconds()) // 60 % 60} min"


def _fingerprint(parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]
