"""What ODCS says of values is judged by every engine alike: options, metrics, uniqueness, a calendar."""

import json
import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from assay.contract import odcs
from assay.contract.model import Contract
from assay.engines.duckdb import DuckDBEngine, bind
from assay.errors import ContractError
from assay.ports import Engine, Limits, N
from assay.refine.gate import closed
from tests.every.engines import ENGINES, engine_of, line, part
from tests.laws.slow_engine import SlowEngine
from tests.making import EVERY_TYPE, every_type, record

# of a column: what its contract says, a token that keeps it, one that does not, and the reason
EXAMPLES = int(os.environ.get("EXAMPLES", "60"))
OPTIONS = {
    "minLength": ("note", "{minLength: 2}", '"é😀"', '"é"', "note:minLength"),
    "maxLength": ("note", "{maxLength: 2}", '"é😀"', '"abc"', "note:maxLength"),
    "pattern": ("note", "{pattern: '^[A-Z]{2}-\\d+$'}", '"AB-7"', '"AB-7\\n"', "note:pattern"),
    "a pattern that is anywhere": ("note", "{pattern: b}", '"abc"', '"ac"', "note:pattern"),
    "a pattern of any letter": ("note", "{pattern: '^.$'}", '"é"', '"\\n"', "note:pattern"),
    "uuid": ("note", "{format: uuid}", '"123e4567-e89b-12d3-a456-426614174000"', '"123e4567"', "note:format"),
    "email": ("note", "{format: email}", '"a.b@example.org"', '"a.b@"', "note:format"),
    "hostname": ("note", "{format: hostname}", '"example.org"', '"-example.org"', "note:format"),
    "ipv4": ("note", "{format: ipv4}", '"192.168.0.1"', '"192.168.0.256"', "note:format"),
    "uri": ("note", "{format: uri}", '"https://example.org/a?b=c#d"', '"no uri"', "note:format"),
    "minimum": ("whole", "{minimum: 7}", "7", "6", "whole:minimum"),
    "exclusiveMinimum": ("whole", "{exclusiveMinimum: 7}", "8", "7", "whole:exclusiveMinimum"),
    "maximum": ("whole", "{maximum: 7}", "7", "8", "whole:maximum"),
    "exclusiveMaximum": ("whole", "{exclusiveMaximum: 7}", "6", "7", "whole:exclusiveMaximum"),
    "multipleOf": ("whole", "{multipleOf: 5}", "-10", "-9", "whole:multipleOf"),
    "i8": ("whole", "{format: i8}", "-128", "128", "whole:format"),
    "u16": ("whole", "{format: u16}", "65535", "-1", "whole:format"),
    "a decimal's minimum": ("maybe", "{minimum: 0.1}", '"0.1"', '"0.0999999999"', "maybe:minimum"),
    "a large decimal's maximum": ("maybe", "{maximum: 9007199254740993.0000000001}", '"9007199254740993.0000000001"', '"9007199254740993.0000000002"', "maybe:maximum"),
    "a decimal's multiple": ("maybe", "{multipleOf: 0.1}", '"12345678901234567890.3"', '"12345678901234567890.35"', "maybe:multipleOf"),
    "a day": ("day", "{minimum: '2024-02-29'}", '"2024-02-29"', '"2024-02-28"', "day:minimum"),
    "a day without quotes": ("day", "{exclusiveMaximum: 2024-03-01}", '"2024-02-29"', '"2024-03-01"', "day:exclusiveMaximum"),
    "a moment": ("at", "{maximum: '2024-02-29T10:00:00Z'}", '"2024-02-29T11:00:00+01:00"', '"2024-02-29T10:00:00.000001Z"', "at:maximum"),
    "a local moment": ("at", "{minimum: '2024-02-29T10:00:00', defaultTimezone: Europe/Berlin}", '"2024-02-29T10:00:00"', '"2024-02-29T09:59:59"', "at:minimum"),
}  # fmt: skip
METRICS = {
    "nullValues": ("note", "{metric: nullValues, mustBe: 0}", '"a"', "null", "note:nullValues"),
    "missingValues": ("note", "{metric: missingValues, mustBe: 0, arguments: {missingValues: ['', N/A]}}", '"a"', '"N/A"', "note:missingValues"),
    "missing, empty": ("note", "{metric: missingValues, mustBe: 0, arguments: {missingValues: ['', N/A]}}", '"a"', '""', "note:missingValues"),
    "missing, but null": ("note", "{metric: missingValues, mustBe: 0, arguments: {missingValues: [N/A]}}", "null", '"N/A"', "note:missingValues"),
    "validValues": ("whole", "{metric: invalidValues, mustBe: 0, arguments: {validValues: [7, 9]}}", "9", "8", "whole:invalidValues"),
    "a pattern": ("note", "{metric: invalidValues, mustBe: 0, arguments: {pattern: '^a'}}", "null", '"b"', "note:invalidValues"),
    "by name": ("note", "{name: there, metric: nullValues, mustBe: 0}", '"a"', "null", "there"),
    "a rule below a column": ("note", "{name: short, type: custom, engine: assay, implementation: length(note) < 2}", '"a"', '"ab"', "short"),
}  # fmt: skip


def _promised(name: str, more: str) -> Contract:
    return every_type((f"name: {name},", f"name: {name}, {more},"))


def _judged(engine: Engine, contract: Contract, path: Path, tokens: list[dict[str, str]]) -> list[tuple[str, ...]]:
    """The reasons of each record."""
    lines = [line(n, 0, record(id=f'"{n}"', **one).decode()) for n, one in enumerate(tokens)]
    with engine.group(contract, [part(path, lines, {0: N})]) as group:
        found = {one.seq: tuple(sorted(one.reasons)) for one in group.rejected([N])}
        assert group.judged()[N].keyless == 0
    return [found.get(n, ()) for n in range(len(tokens))]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", [*OPTIONS, *METRICS])
def test_a_row_that_breaks_what_is_said_of_its_values_has_the_reason(engine: str, name: str, tmp_path: Path) -> None:
    column, said, kept, broken, reason = (OPTIONS | METRICS)[name]
    key = "logicalTypeOptions: " if name in OPTIONS else "quality: ["
    contract = _promised(column, f"{key}{said}{']' if name in METRICS else ''}")
    bind(contract)
    tokens = [{column: kept}, {column: broken}]
    assert _judged(engine_of(engine, tmp_path / "s"), contract, tmp_path / "p", tokens) == [(), (reason,)]


@pytest.mark.parametrize("engine", ENGINES)
def test_an_option_of_a_key_leaves_the_key_readable(engine: str, tmp_path: Path) -> None:
    contract = _promised("id", "logicalTypeOptions: {maxLength: 1}")
    lines = [line(0, 0, record(id='"ab"').decode())]
    with engine_of(engine, tmp_path / "s").group(contract, [part(tmp_path / "p", lines, {0: N})]) as group:
        assert (group.judged()[N].reasons, group.judged()[N].keyless) == ({"id:maxLength": 1}, 0)


@pytest.mark.parametrize("engine", ENGINES)
def test_rows_of_a_batch_that_share_what_one_may_have_are_bad_and_no_others(engine: str, tmp_path: Path) -> None:
    contract = every_type(
        ("name: note,", "name: note, unique: true,"),
        (
            "    quality:",
            "    quality:\n      - {name: pair, metric: duplicateValues, mustBe: 0, arguments: {properties: [whole, flag]}}",
        ),
    )
    rows = [
        ("0", '"a"', "1"), ("1", '"a"', "2"), ("2", '"b"', "3"), ("3", '"c"', "3"), ("4", "null", "4"), ("5", "null", "5"),
        ("6", '"d"', "6"), ("6", '"d"', "6"), ("7", '"e"', "2000000"), ("8", '"e"', "8"),
    ]  # fmt: skip
    lines = [
        line(n, 0, record(id=f'"{i}"', note=note, whole=whole).decode()) for n, (i, note, whole) in enumerate(rows)
    ]
    lines.append(line(0, 1, record(id='"9"', note='"a"', whole="1").decode()))
    with engine_of(engine, tmp_path / "s").group(contract, [part(tmp_path / "p", lines, {0: N, 1: N + 1})]) as group:
        judged = group.judged()
        found = {one.seq: one.reasons for one in group.rejected([N])}
        assert all(one.line == lines[one.seq] for one in group.rejected([N]))
    assert found == {
        0: ("note:unique",), 1: ("note:unique",), 2: ("pair",), 3: ("pair",), 8: ("whole_is_small",),
    }  # fmt: skip
    assert (judged[N].good, judged[N].duplicate, judged[N].quarantined, judged[N].keyless) == (4, 1, 5, 0)
    assert judged[N + 1].good == 1


@pytest.mark.parametrize("engine", ENGINES)
def test_a_calendar_has_no_saturdays(engine: str, tmp_path: Path) -> None:
    contract = every_type(
        (
            "name: day, logicalType: date, required: true,",
            "name: day, logicalType: date, required: true, primaryKey: true, primaryKeyPosition: 2,",
        ),
        ("  - {property: gate", "  - {property: calendar, value: weekdays}\n  - {property: gate"),
    )
    days = [{"day": f'"2024-03-{day:02}"'} for day in range(1, 8)]
    found = _judged(engine_of(engine, tmp_path / "s"), contract, tmp_path / "p", days)
    assert found == [(), ("day:calendar",), ("day:calendar",), (), (), (), ()]


# any pattern, any text, any option

PIECES = st.sampled_from([
    "a", "b", "é", ".", r"\d", r"\w", r"\D", r"\W", "[a-c]", "[^a]", r"[\d_]", r"\.", r"\$", "^", "$", r"\b", "(a|b)", "(?:a.)", "|", "a*", "b+", "[ab]?", "a{2}", "b{1,2}", ".*?",
])  # fmt: skip
LETTERS = st.text(st.sampled_from("ab1é_.$ \n\t\v٣😀"), max_size=6)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(PIECES, min_size=1, max_size=5).map("".join), st.lists(LETTERS, min_size=1, max_size=20))
def test_a_pattern_is_read_alike(tmp_path: Path, pattern: str, texts: list[str]) -> None:
    contract = _promised("note", f"logicalTypeOptions: {{pattern: {json.dumps(pattern)}}}")
    tokens = [{"note": json.dumps(text)} for text in texts]
    fast, slow = DuckDBEngine(Limits(scratch=tmp_path / "s")), SlowEngine()
    assert _judged(fast, contract, tmp_path / "p", tokens) == _judged(slow, contract, tmp_path / "p", tokens)


# any promises of any columns, any batches


@dataclass(frozen=True)
class Promise:
    """What is said of a column, its reason, and of which values it is broken; `most` of a batch where that only counts."""

    column: str
    said: str
    name: str
    broken: Callable[[Any], bool]
    most: tuple[float, bool, str] | None = None


VALUES: dict[str, list[tuple[str, Any]]] = {
    "note": [("null", None), ('""', None), ('"a"', "a"), ('"ab"', "ab"), ('"N/A"', "N/A"), ('"AB-7"', "AB-7"), ('"é😀"', "é😀"), ('"a b c"', "a b c"), ('"b1"', "b1")],
    "whole": [("null", None), *((str(n), n) for n in range(-6, 7)), ('"5"', 5)],
    "maybe": [("null", None), *((f'"{n}"', Decimal(n)) for n in ("-1", "0", "0.05", "0.0500000001", "0.1", "0.15", "1", "2.5"))],
    "day": [(f'"2024-{day}"', f"2024-{day}") for day in ("02-27", "02-28", "02-29", "03-01", "03-02")],
}  # fmt: skip
"""Tokens of each column, and the values that they are."""
BOUNDS = {
    "whole": range(-6, 7),
    "maybe": [Decimal(n) for n in ("-1", "0", "0.05", "0.1", "1", "2.5")],
    "day": [v for _, v in VALUES["day"]],
}
PATTERNS = {
    "^[A-Z]{2}-[0-9]$": lambda v: v == "AB-7",
    "b": lambda v: "b" in v,
    "^a": lambda v: v.startswith("a"),
    "^.{1,2}$": lambda v: len(v) <= 2,
}


@st.composite
def promises(draw: st.DrawFn) -> list[Promise]:
    """Each of some kinds at most once."""
    found: list[Promise] = []

    def option(column: str, name: str, bound: object, broken: Callable[[Any], bool]) -> None:
        found.append(
            Promise(
                column,
                f"{name}: {json.dumps(str(bound)) if isinstance(bound, str) else bound}",
                f"{column}:{name}",
                lambda v: v is not None and broken(v),
            )
        )

    for column, bounds in BOUNDS.items():
        low, high = sorted(draw(st.lists(st.sampled_from(list(bounds)), min_size=2, max_size=2, unique=True)))
        match draw(st.integers(0, 11)):
            case 0 | 1:
                option(column, "minimum", low, lambda v, low=low: v < low)
            case 2:
                option(column, "exclusiveMinimum", low, lambda v, low=low: v <= low)
        match draw(st.integers(0, 11)):
            case 0 | 1:
                option(column, "maximum", high, lambda v, high=high: v > high)
            case 2:
                option(column, "exclusiveMaximum", high, lambda v, high=high: v >= high)
        if column != "day" and draw(st.integers(0, 7)) == 0:
            step = 2 if column == "whole" else Decimal("0.05")
            option(column, "multipleOf", step, lambda v, step=step: v % step != 0)
    shortest = draw(st.integers(0, 3))
    if draw(st.integers(0, 4)) == 0:
        option("note", "minLength", shortest, lambda v: len(v) < shortest)
    if draw(st.integers(0, 4)) == 0:
        longest = draw(st.integers(shortest, 4))
        option("note", "maxLength", longest, lambda v: len(v) > longest)
    if draw(st.integers(0, 4)) == 0:
        pattern = draw(st.sampled_from(sorted(PATTERNS)))
        option("note", "pattern", pattern, lambda v: not PATTERNS[pattern](v))
    for column in ("note", "whole", "maybe"):
        kind = draw(st.sampled_from(["", "", "", "nullValues", "missingValues", "invalidValues"]))
        some = [v for _, v in VALUES[column] if v is not None and draw(st.booleans())][:6] or [VALUES[column][2][1]]
        listed = f"[{', '.join(json.dumps(v, ensure_ascii=False) if isinstance(v, str) else str(v) for v in some)}]"
        arguments, broken = {
            "nullValues": ("", lambda v: v is None),
            "missingValues": (f", arguments: {{missingValues: {listed}}}", lambda v, some=some: v in some),
            "invalidValues": (f", arguments: {{validValues: {listed}}}", lambda v, some=some: v is not None and v not in some),
        }.get(kind, ("", None))  # fmt: skip
        most = draw(
            st.none() | st.tuples(st.sampled_from([1, 50]), st.booleans(), st.sampled_from(["rows", "percent"]))
        )
        bound = (
            "mustBe: 0"
            if most is None
            else f"mustBe{'LessThan' if most[1] else 'LessOrEqualTo'}: {most[0]}, unit: {most[2]}"
        )
        if broken:
            found.append(Promise(column, f"metric: {kind}, {bound}{arguments}", f"{column}:{kind}", broken, most))
    return found


@dataclass(frozen=True)
class Whole:
    """What is promised of a row and of a batch: its values, which columns have none twice, and when it is held."""

    values: list[Promise]
    unique: tuple[str, ...]
    required: bool
    rows: tuple[int, int]
    at_most: int
    min_rows: int

    def contract(self) -> Contract:
        """As its YAML says it."""
        said = []
        for column in VALUES:
            mine = [one for one in self.values if one.column == column]
            options = ", ".join(one.said for one in mine if not one.said.startswith("metric"))
            more = [f"logicalTypeOptions: {{{options}}}"] if options else []
            more += [f"quality: [{', '.join('{' + one.said + '}' for one in mine if one.said.startswith('metric'))}]"]
            more += ["required: true"] if column == "note" and self.required else []
            more += ["unique: true"] if self.unique == (column,) else []
            said.append(
                (
                    f"name: {column},",
                    f"name: {column}, {', '.join(one for one in more if one != 'quality: []')}".rstrip(", ") + ",",
                )
            )
        table = [f"{{metric: rowCount, mustBeBetween: [{self.rows[0]}, {self.rows[1]}]}}"]
        if len(self.unique) > 1:
            table.append(
                f"{{name: pair, metric: duplicateValues, mustBe: 0, arguments: {{properties: [{', '.join(self.unique)}]}}}}"
            )
        said.append(("    quality:", "    quality:" + "".join(f"\n      - {one}" for one in table)))
        gate = f"quarantinedAtMost: {self.at_most}, unit: percent, minRows: {self.min_rows}"
        said.append(("quarantinedAtMost: 50, unit: percent, minRows: 20", gate))
        return every_type(*said)

    def reasons(self, rows: list[tuple[int, dict[str, Any]]]) -> tuple[list[set[str] | None], bool]:
        """Of each row of a batch its reasons, None of a duplicate; and whether the batch is held."""
        found: list[set[str] | None] = []
        for _, row in rows:
            bad = {one.name for one in self.values if one.most is None and one.broken(row[one.column])}
            bad |= {f"{c}:required" for c in ("whole", *(["note"] if self.required else [])) if row[c] is None}
            found.append(bad)
        same = defaultdict(list)
        for n, (key, _) in enumerate(rows):
            if not found[n]:
                same[key].append(n)
        for some in same.values():
            differs = any(rows[n][1] != rows[some[0]][1] for n in some)
            for n in some if differs else some[1:]:
                found[n] = {"key:conflict"} if differs else None
        same = defaultdict(list)
        for n, (_, row) in enumerate(rows):
            told = [row[c] for c in self.unique]
            if found[n] == set() and told and None not in told:
                same[tuple(told)].append(n)
        for some in same.values():
            for n in some if len(some) > 1 else ():
                found[n] = {"pair" if len(self.unique) > 1 else f"{self.unique[0]}:unique"}
        size, bad = len(rows), sum(bool(one) for one in found)
        held = size >= 2 and bad == size
        held |= size >= self.min_rows and 100 * bad > self.at_most * size
        held |= not self.rows[0] < size < self.rows[1]
        for one in self.values:
            broken = sum(one.broken(row[one.column]) for _, row in rows) if one.most else 0
            if one.most and broken:
                most, below, unit = one.most
                share = broken if unit == "rows" else 100 * broken / size
                held |= share >= most if below else share > most
        return found, held


WHOLE = st.builds(
    Whole, promises(), st.sampled_from([(), (), ("note",), ("maybe",), ("note", "whole"), ("whole", "day")]), st.booleans(),
    st.sampled_from([(0, 1000), (0, 1000), (0, 1000), (1, 60)]), st.sampled_from([10, 50, 80, 100, 100]), st.sampled_from([0, 20, 56]),
)  # fmt: skip


def batch(any_: Random) -> list[tuple[int, dict[str, tuple[str, Any]]]]:
    """A key and a token and value of each column; some batches are small, some of few different values, some repeat keys."""
    few = {name: any_.sample(told, any_.choice([1, 2, len(told)])) for name, told in VALUES.items()}
    rows = []
    for n in range(any_.choice([1, 2, 50, 55, 60, 60, 60, 60])):
        again = rows and any_.random() < 0.05
        row = rows[-1][1] if again and any_.random() < 0.5 else {name: any_.choice(told) for name, told in few.items()}
        rows.append((rows[-1][0] if again else n, row))
    return rows


@pytest.mark.parametrize("contracts", [6, pytest.param(60, marks=pytest.mark.slow)])
def test_any_promises_are_kept_as_they_read(tmp_path: Path, contracts: int) -> None:
    """Slow, more than 200 batches and 10,000 rows: which rows are in quarantine and why, and which batches are held."""
    seen = [0, 0, 0, 0]

    @settings(max_examples=contracts, deadline=None, suppress_health_check=list(HealthCheck), phases=(Phase.generate,))
    @given(WHOLE, st.integers(0, 2**64))
    def kept(whole: Whole, seed: int) -> None:
        any_ = Random(seed)
        contract, batches = whole.contract(), [batch(any_) for _ in range(6)]
        lines, places = [], [(n + 1) * N for n in range(len(batches))]
        for n, rows in enumerate(batches):
            for key, row in rows:
                tokens = {name: token for name, (token, _) in row.items()}
                lines.append(line(len(lines), n, record(id=f'"{key}"', **tokens).decode()))
        given = [part(tmp_path / "p", lines, dict(enumerate(places)))]
        found = []
        for engine in (DuckDBEngine(Limits(scratch=tmp_path / "s")), SlowEngine()):
            with engine.group(contract, given) as group:
                found.append((group.judged(), {one.seq: set(one.reasons) for one in group.rejected(places)}))
        assert found[0] == found[1]
        judged, rejected = found[0]
        seq = 0
        for place, rows in zip(places, batches, strict=True):
            reasons, held = whole.reasons([(key, {name: v for name, (_, v) in row.items()}) for key, row in rows])
            assert [rejected.get(seq + n, set()) for n in range(len(rows))] == [one or set() for one in reasons]
            assert judged[place].duplicate == reasons.count(None)
            assert bool(closed(contract, judged[place])) == held, closed(contract, judged[place])
            seq += len(rows)
            seen[:] = [seen[0] + 1, seen[1] + len(rows), seen[2] + held, seen[3] + sum(map(bool, reasons))]

    kept()
    assert contracts < 60 or (seen[0] >= 200 and seen[1] >= 10_000), seen
    assert 0.1 < seen[2] / seen[0] < 0.9, f"{seen[2]} of {seen[0]} batches are held"
    assert 0.1 < seen[3] / seen[1] < 0.9, f"{seen[3]} of {seen[1]} rows are bad"


@pytest.mark.parametrize("pattern", [r"\s", "(?=a)", r"(a)\1", "(?P<x>a)", "a++", "[[:alpha:]]", "a{1,2", "x{", "(?i)a", r"\p{L}", "[a--b]", "*a", "(", "", r"\Z"])  # fmt: skip
def test_a_pattern_that_engines_read_in_several_ways_is_refused(pattern: str) -> None:
    with pytest.raises(ContractError, match=r"^contract:16: note: pattern: "):
        _promised("note", f"logicalTypeOptions: {{pattern: {json.dumps(pattern)}}}")


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.sampled_from(["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"]),
    st.sampled_from(["whole", "maybe"]),
    st.decimals(-(10**15), 10**15, places=10) | st.decimals(-5, 5, places=1),
    st.lists(st.decimals(-(10**15), 10**15, places=10) | st.decimals(-5, 5, places=1), min_size=1, max_size=9),
)  # fmt: skip
def test_a_bound_is_kept_alike_and_exactly(tmp_path: Path, option: str, column: str, bound, numbers) -> None:
    bound = abs(bound) or 1 if option == "multipleOf" else bound
    bound, *numbers = [int(n) for n in (bound, *numbers)] if column == "whole" else (bound, *numbers)
    bound = bound or 1 if option == "multipleOf" else bound
    contract = replace(
        _promised(
            column,
            f"logicalTypeOptions: {{{option}: {bound:f}}}"
            if column == "maybe"
            else f"logicalTypeOptions: {{{option}: {bound}}}",
        ),
        rules=(),
    )
    contract = replace(
        contract,
        rules=_promised(
            column,
            f"logicalTypeOptions: {{{option}: {bound:f}}}"
            if column == "maybe"
            else f"logicalTypeOptions: {{{option}: {bound}}}",
        ).rules[-1:],
    )
    tokens = [{column: json.dumps(format(n, "f") if column == "maybe" else str(n))} for n in [*numbers, bound]]
    fast, slow = DuckDBEngine(Limits(scratch=tmp_path / "s")), SlowEngine()
    found = _judged(fast, contract, tmp_path / "p", tokens)
    assert found == _judged(slow, contract, tmp_path / "p", tokens)
    assert bool(found[-1]) == option.startswith("exclusive")


# what is refused, and batches that are held

REFUSED = {
    "an option of another type": ("note", "logicalTypeOptions: {minimum: 1}", "minimum says nothing of a column of this type"),
    "an option of an object": ("flag", "logicalTypeOptions: {minLength: 1}", "minLength says nothing"),
    "a length that is none": ("note", "logicalTypeOptions: {minLength: -1}", "-1 is no length"),
    "lengths that exclude all": ("note", "logicalTypeOptions: {minLength: 3, maxLength: 2}", "minLength 3 is above maxLength 2"),
    "bounds that exclude all": ("whole", "logicalTypeOptions: {minimum: 3, exclusiveMaximum: 3}", "leaves nothing below"),
    "a bound of more decimals": ("amount", "logicalTypeOptions: {minimum: 0.0000001}", "has more decimals than amount, which has 6"),
    "a bound of more digits": ("amount", "logicalTypeOptions: {maximum: 1000000000000}", "more than amount can hold"),
    "a bound that is no whole number": ("whole", "logicalTypeOptions: {maximum: 1.5}", "has more decimals than whole"),
    "a bound that is a word": ("whole", "logicalTypeOptions: {maximum: many}", "many is no number"),
    "a bound in another base": ("whole", "logicalTypeOptions: {maximum: 0x10}", "0x10 is no number"),
    "a multiple of nothing": ("whole", "logicalTypeOptions: {multipleOf: 0}", "is not above 0"),
    "a day that is none": ("day", "logicalTypeOptions: {minimum: '2024-02-30'}", "is no day as YYYY-MM-DD"),
    "another format of days": ("day", "logicalTypeOptions: {format: dd.MM.yyyy}", "is not how this date is read, yyyy-MM-dd"),
    "a format of texts": ("note", "logicalTypeOptions: {format: password}", "password is not judged here"),
    "a format of too many bits": ("whole", "logicalTypeOptions: {format: u64}", "no format of a column of 64 bits"),
    "a double's format": ("amount", "logicalTypeOptions: {format: f64}", "format says nothing of a column of this type"),
    "two zones": ("at", "logicalTypeOptions: {defaultTimezone: Asia/Tokyo}, customProperties: [{property: zone, value: UTC}]", "are two; keep one"),
    "a metric of no kind": ("note", "quality: [{metric: freshness, mustBe: 0}]", "metric freshness is none of"),
    "a metric with two bounds": ("note", "quality: [{metric: nullValues, mustBe: 0, mustBeLessThan: 5}]", "has one bound"),
    "a metric without a bound": ("note", "quality: [{metric: nullValues}]", "has one bound"),
    "a metric that asks for more": ("note", "quality: [{metric: nullValues, mustBeGreaterThan: 5}]", "held for too much"),
    "an argument of another metric": ("note", "quality: [{metric: nullValues, mustBe: 0, arguments: {validValues: [a]}}]", "nullValues has no argument validValues"),
    "no valid values": ("note", "quality: [{metric: invalidValues, mustBe: 0}]", "needs the arguments"),
    "a valid value of another type": ("note", "quality: [{metric: invalidValues, mustBe: 0, arguments: {validValues: [7]}}]", "7 is no text; quote it"),
    "duplicates below a share": ("note", "quality: [{metric: duplicateValues, mustBeLessThan: 5, unit: percent}]", "how often other batches have a value"),
    "a query": ("note", "quality: [{type: sql, query: select 1, mustBe: 0}]", "a query"),
    "another engine": ("note", "quality: [{type: custom, engine: soda, implementation: x}]", "engine: assay"),
    "a unique object": ("note", "unique: true, x", "x is not a key of ODCS"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_kept_is_refused(name: str) -> None:
    column, more, words = REFUSED[name]
    with pytest.raises(ContractError) as caught:
        _promised(column, more)
    assert any(words in one and one.startswith("contract:") for one in str(caught.value).splitlines()), caught.value


def test_numbers_of_rows_are_of_batches_that_are_the_whole() -> None:
    bound = "quality: [{metric: nullValues, mustBeLessThan: 2}]"
    contract = _promised("note", bound)
    rule = contract.rules[-1]
    assert (rule.name, rule.severity, rule.at_most, rule.unit, rule.below) == (
        "note:nullValues",
        "warning",
        2,
        "rows",
        True,
    )
    window = "{property: window, value: P1Y}\n  - {property: start, value: 2020-01-01}"
    for whole in (bound, "quality: [{metric: rowCount, mustBe: 2}]"):
        text = EVERY_TYPE.replace("{property: every, value: P1D}", window)
        text = text.replace("name: note,", f"name: note, {whole},")
        with pytest.raises(ContractError, match=r"percent|whole table"):
            odcs.parse(text)


@pytest.mark.parametrize(
    ("more", "nulls", "held"),
    [
        ("{metric: nullValues, mustBeLessOrEqualTo: 50, unit: percent}", 2, False),
        ("{metric: nullValues, mustBeLessThan: 50, unit: percent}", 2, True),
        ("{metric: nullValues, mustBeLessOrEqualTo: 2}", 2, False),
        ("{metric: nullValues, mustBeLessThan: 2, unit: rows}", 2, True),
        ("{metric: nullValues, mustBeLessThan: 2, unit: rows, customProperties: [{property: minRows, value: 5}]}", 2, False),
    ],
)  # fmt: skip
def test_a_batch_with_more_than_was_said_is_held(tmp_path: Path, more: str, nulls: int, held: bool) -> None:
    contract = _promised("note", f"quality: [{more}]")
    lines = [line(n, 0, record(id=f'"{n}"', note="null" if n < nulls else '"a"').decode()) for n in range(4)]
    with DuckDBEngine(Limits(scratch=tmp_path / "s")).group(contract, [part(tmp_path / "p", lines, {0: N})]) as group:
        judged = group.judged()[N]
    assert (judged.good, judged.warnings) == (4, {"note:nullValues": nulls})
    assert bool(closed(contract, judged)) == held


@pytest.mark.parametrize(
    ("said", "passing"),
    [
        ("mustBe: 3", [3]), ("mustBeLessThan: 3", [1, 2]), ("mustBeLessOrEqualTo: 3", [1, 2, 3]), ("mustBeGreaterThan: 3", [4, 5]),
        ("mustBeGreaterOrEqualTo: 3", [3, 4, 5]), ("mustBeBetween: [2, 5]", [3, 4]),
    ],
)  # fmt: skip
def test_a_batch_of_another_number_of_rows_is_held(tmp_path: Path, said: str, passing: list[int]) -> None:
    contract = every_type(("    quality:", f"    quality:\n      - {{metric: rowCount, {said}}}"))
    for rows in range(1, 6):
        lines = [line(n, 0, record(id=f'"{n}"').decode()) for n in range(rows)]
        with SlowEngine().group(contract, [part(tmp_path / "p", lines, {0: N})]) as group:
            assert (not closed(contract, group.judged()[N])) == (rows in passing)
