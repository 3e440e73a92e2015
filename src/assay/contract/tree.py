"""One contract as a small tree of named operators: what a token, a value, a reason, a clock and a hash is, in no engine's language.

Each engine holds one table, operator to its own SQL; `tests/laws/oracle.py` says the same in slow Python. Canonical
texts, from which `_hash` is made, are defined in docs/formats.md.
"""

from dataclasses import dataclass
from datetime import date

from sqlglot import exp, parse_one

from assay.contract.calendars import Calendar
from assay.contract.model import OUR_SPELLING, Column, Contract, Rule, Unique
from assay.windows import Duration


@dataclass(frozen=True)
class Token:
    """The JSON text at the first of these paths where there is one; null is none, nor is a path through what is no object."""

    paths: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Spelling:
    """A token as our way of spelling has it, of a text that is spelt another way; a token that is no text stays as it is.

    In this order: `trim` takes the blanks around the text away; one of `nulls` is none; a day or time is read by `format`, a
    number with the separators. A text that is not of the format, or no number with them, becomes one that is no value.
    """

    trim: bool
    nulls: tuple[str, ...]
    format: str
    decimal: str
    group: str

    @property
    def numeric(self) -> bool:
        """Whether numbers are spelt another way."""
        return (self.decimal, self.group) != (".", "")


@dataclass(frozen=True)
class TextOf:
    """A JSON text, unescaped; an empty one is missing."""


@dataclass(frozen=True)
class BooleanOf:
    """`true` or `false`, bare or as a text."""


@dataclass(frozen=True)
class IntegerOf:
    """A whole number of 64 bits, as a number or as a text of digits; `excess` as in NumberOf."""

    excess: str


@dataclass(frozen=True)
class NumberOf:
    """A decimal: exactly what the token says, of any length and with any exponent, bare or as a text.

    With `excess` `round` it is rounded half away from zero at its scale. Refused: `type` what is no number, `range` what
    has too many digits before the point, `scale` decimals other than 0 that would be lost.
    """

    precision: int
    scale: int
    excess: str


@dataclass(frozen=True)
class DayOf:
    """A date as YYYY-MM-DD."""


@dataclass(frozen=True)
class InstantOf:
    """A time as YYYY-MM-DD[T ]HH:MM[:SS[.ffffff]][Z|+HH:MM]; without an offset it is local in `zone`.

    A local time that never was is refused as `gap`, one that came twice as `ambiguous`, one whose year in UTC is not
    1 to 9999 as `range`.
    """

    zone: str


@dataclass(frozen=True)
class JsonOf:
    """The token itself, spelt as it came, without whitespace between tokens. A record with NaN or Infinity has none."""


Value = TextOf | BooleanOf | IntegerOf | NumberOf | DayOf | InstantOf | JsonOf


@dataclass(frozen=True)
class Refused:
    """Why a token does not become the value: `<column>:<reason>`, null where it does.

    `twice`: an object on the way to the token has two fields of the name that is read. `required`: there is none.
    A text of the `key` is also refused as `control` if it holds a control character (NUL, a line break), and as `blank` if
    it holds nothing but blanks. With `formatted`, a day that is of its format and never was is `range`.
    """

    column: str
    value: Value
    required: bool
    key: bool
    formatted: bool = False


@dataclass(frozen=True)
class At:
    """A column's own instant."""

    column: str


@dataclass(frozen=True)
class DayAt:
    """The instant of a column's day at a local time of a zone; 24:00 is its end, the first instant of the next day.

    If that time came twice on the day, its first; if it never was, later by as much as the clocks went forward. What
    would lie beyond the years 1 to 9999 in UTC is their first or last instant. Days that are `early` have a time of their own.
    """

    column: str
    time: str
    zone: str
    early: tuple[tuple[date, str], ...] = ()


@dataclass(frozen=True)
class Later:
    """An instant, so many seconds later."""

    instant: At | DayAt
    seconds: int


@dataclass(frozen=True)
class Digest:
    """The md5, in hexadecimal, of the columns' canonical texts, chr(31) between them, chr(30) for null.

    `required` columns are null in no row whose hash anybody reads.
    """

    columns: tuple[tuple[str, Value], ...]
    required: frozenset[str]


@dataclass(frozen=True)
class Holds:
    """A rule of the contract: a boolean expression over its columns, which null does not break."""

    name: str
    expression: exp.Expr


@dataclass(frozen=True)
class Session:
    """A rule of the contract: the column's day is a session of the calendar, or the calendar does not speak of it."""

    name: str
    column: str
    calendar: Calendar


Operator = Value | Spelling | Refused | At | DayAt | Later | Digest | Holds | Session


@dataclass(frozen=True)
class Field:
    """One column: its token, what the token becomes, and why it may not; `spelling`, where texts are not spelt our way."""

    name: str
    token: Token
    value: Value
    refused: Refused
    spelling: Spelling | None = None


@dataclass(frozen=True)
class Tree:
    """What a contract makes of a record.

    `identity` are the columns that tell rows of one batch apart: the key, and the sequence if there is one. `ordinal` is
    the column of the key that counts the different records of a batch that share its `rest`; no field is read for it.
    `identity` are the columns that tell rows of one batch apart: the key, and the sequence if there is one. Of the good rows
    of a batch, no two may have equal values, none of them null, in the columns of a `unique`.
    """

    fields: tuple[Field, ...]
    key: tuple[str, ...]
    identity: tuple[str, ...]
    rules: tuple[Holds | Session, ...]
    warnings: tuple[Holds | Session, ...]
    known_at: At | DayAt | Later | None
    hash: Digest
    rest: tuple[str, ...]
    ordinal: str = ""
    unique: tuple[Unique, ...] = ()

    @property
    def operators(self) -> tuple[Operator, ...]:
        """Every operator of this contract, beside the tokens, which an engine takes out of a line in one go."""
        fields = tuple(one for f in self.fields for one in (f.value, f.refused))
        clock = () if self.known_at is None else (self.known_at,)
        inner = (self.known_at.instant,) if isinstance(self.known_at, Later) else ()
        spellings = tuple(f.spelling for f in self.fields if f.spelling)
        return (*fields, *spellings, *clock, *inner, self.hash, *self.rules, *self.warnings)


def tree(contract: Contract) -> Tree:
    """The contract's tree. Its rules are taken as they are: `assay check` has asked the guard about them."""
    fields = tuple(
        Field(
            c.name,
            Token(paths_of(c)),
            _value(c),
            Refused(c.name, _value(c), c.required, c.name in contract.key, bool(c.format)),
            None if c.spelling == OUR_SPELLING else Spelling(*c.spelling),
        )
        for c in contract.columns
        if not c.ordinal
    )
    rules = [(r.severity, _rule(r, contract)) for r in contract.rules]
    return Tree(
        fields=fields,
        key=contract.key,
        # With a sequence, a batch may tell several states of a key in order; without, it tells one.
        identity=(*contract.key, *([contract.sequence] if contract.sequence else [])),
        rules=tuple(rule for severity, rule in rules if severity == "error"),
        warnings=tuple(rule for severity, rule in rules if severity == "warning"),
        known_at=_known_at(contract),
        hash=Digest(
            tuple((f.name, f.value) for f in fields), frozenset(c.name for c in contract.columns if c.required)
        ),
        rest=contract.rest,
        ordinal=next((c.name for c in contract.columns if c.ordinal), ""),
        unique=contract.unique,
    )


def _rule(rule: Rule, contract: Contract) -> Holds | Session:
    if not rule.day:
        return Holds(rule.name, parse_one(rule.expression, read="duckdb"))
    assert contract.calendar  # noqa: S101 - `odcs` gives no contract that names a calendar without it
    return Session(rule.name, rule.day, contract.calendar)


def paths_of(column: Column) -> tuple[tuple[str, ...], ...]:
    """Where in a record a column's value may stand, in the order of trying."""
    return column.origins


def _value(column: Column) -> Value:
    values: dict[str, Value] = {
        "string": TextOf(),
        "boolean": BooleanOf(),
        "integer": IntegerOf(column.excess),
        "number": NumberOf(column.precision, column.scale, column.excess),
        "date": DayOf(),
        "timestamp": InstantOf(column.zone),
        "json": JsonOf(),
    }
    return values[column.kind]


def _known_at(contract: Contract) -> At | DayAt | Later | None:
    known = contract.known_at
    if known is None:
        return None
    instant: At | DayAt = At(known.column)
    if contract.column(known.column).kind == "date":
        instant = DayAt(known.column, known.time, known.zone, contract.early)
    lag = int(Duration.parse(known.lag).exact.total_seconds())
    return Later(instant, lag) if lag else instant
