"""One suite for the fold of every engine: batches in, equal tables and counts out, on DuckDB and in slow Python."""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import count, product
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from assay.contract.model import Column, Contract, Rule
from assay.engines.duckdb.fold import CLOCKS, ENDS
from assay.errors import ContractError
from assay.lake import duck
from assay.ports import Act, Counted, Engine, Folded, Layout, Lines, N, Relation
from tests.every.engines import COLUMNS, ENGINES, NAMES, contract, engine_of, good, line, part
from tests.making import reader

FIRST, LEAP = date(2024, 3, 1), date(2024, 2, 29)
AT = datetime(2024, 3, 1, 12, tzinfo=UTC)
Key = tuple[Any, ...]
EXAMPLES = int(os.environ.get("EXAMPLES", "15"))
NTH = Column("nth", (), "integer", required=True, ordinal=True)
PHASES = set(Phase) - {Phase.shrink} if os.environ.get("QUICK") else set(Phase)


class Nobody:
    """Nothing was said before, and nobody asks."""

    def newest(self, _: Sequence[Key]) -> Mapping[Key, int]:
        raise AssertionError("no act is of an earlier origin")


class Said:
    """What was said before, by key."""

    def __init__(self, told: Mapping[Key, int]) -> None:
        self.told = told

    def newest(self, keys: Sequence[Key]) -> Mapping[Key, int]:
        return {key: self.told[key] for key in keys if key in self.told}


class Tables:
    """Two tables of parquet files that an engine folds groups onto, and what the last group said."""

    def __init__(
        self, engine: Engine, root: Path, promised: Contract, partition: tuple[str, str] | None = None
    ) -> None:
        self.engine, self.root, self.contract = engine, root, promised
        self.number = count()
        self.files: dict[str, list[str]] = {"current": [], "past": []}
        kinds = {c.name: c.type for c in promised.columns} | CLOCKS
        ids = {name: 100 - i for i, name in enumerate([*kinds, *ENDS])}
        self.layouts = {
            what: Layout(tuple((ids[n], n, k) for n, k in told.items()), partition)
            for what, told in (("current", kinds), ("past", kinds | ENDS))
        }
        root.mkdir(parents=True)

    def relation(self, what: str) -> Relation:
        return Relation(self.layouts[what].columns, tuple(self.files[what]))

    def fold(self, lines: Sequence[Lines], acts: Sequence[Act], observed: Any = None) -> dict[int, Folded]:
        """What came of each act; terms that count nothing are left out."""
        with self.engine.group(self.contract, lines) as group:
            self.judged = group.judged()
            places = [act.place for act in acts]
            self.bounds, self.boxes = group.bounds(places), group.boxes(places, self.layouts["current"].partition)
            came = group.fold(acts, self.relation("current"), self.relation("past"), observed or Nobody())
            self.leaving = list(group.leaving())
            whole = Relation(self.layouts["current"].columns, tuple(self.leaving)) if self.leaving else None
            for what in ("past", "current"):
                made = group.write(what, self.layouts[what], whole, self.root / str(next(self.number)))
                self.written = made if what == "current" else []
                gone = self.leaving if what == "current" else []
                self.files[what] = [
                    *(one for one in self.files[what] if one not in gone),
                    *(str(one.path) for one in made),
                ]
        return {p: replace(f, counts={w: n for w, n in f.counts.items() if n}) for p, f in came.items()}

    def rows(self, what: str, columns: str = "*") -> list[Key]:
        select = f"SELECT {columns} FROM ({duck.relation(self.relation(what))}) ORDER BY ALL"
        return reader().execute(select).fetchall()


Made = Callable[..., Tables]


@pytest.fixture(params=ENGINES)
def tables(request: pytest.FixtureRequest, tmp_path: Path) -> Made:
    def make(promised: Contract | None = None, partition: tuple[str, str] | None = None) -> Tables:
        return Tables(engine_of(request.param, tmp_path / "scratch"), tmp_path / "t", promised or contract(), partition)

    return make


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., Lines]:
    """A part whose n-th argument holds the records of batch n, at a position."""

    def put(position: int, *batches: Sequence[str], op: str = "") -> Lines:
        lines = [line(seq, n, record, op) for n, records in enumerate(batches) for seq, record in enumerate(records)]
        return part(tmp_path / f"{position}.gz", lines, {n: position * N + n for n in range(len(batches))})

    return put


def act(position: int, n: int = 0, *, day: int = 0, **more: Any) -> Act:
    place = position * N + n
    return Act(place, AT + timedelta(days=day), more.pop("origin", place), **more)


def row(key: str = "a", day: date = LEAP, **fields: str) -> str:
    return good(id=f'"{key}"', day=f'"{day}"', **fields)


ALL: dict[str, Any] = {}


def test_new_rows_are_written_with_their_clocks_and_nothing_goes_to_past(tables: Made, put: Any) -> None:
    t = tables()
    assert t.fold([put(3, [row(amount="1.5"), row("b", at='"2024-01-01T00:00:00Z"')])], [act(3)]) == {
        3 * N: Folded({"accepted": 2})
    }
    assert (t.leaving, t.files["past"]) == ([], [])
    promised = datetime(2024, 2, 29, 7, 30, tzinfo=UTC)  # 01:30 in New York, and an hour
    found = t.rows(
        "current", "id, amount, known_at, known_from, known_basis, backfilled, captured_at, _position, _n, _seq"
    )
    assert [one[2:] for one in found] == [(promised, promised, "vendor", False, AT, 3, 0, i) for i in range(2)]
    assert [str(one[1]) for one in found] == ["1.500000", "None"]


def test_another_state_closes_the_one_before_it_and_the_rest_of_its_file_is_written_again(
    tables: Made, put: Any
) -> None:
    t = tables()
    t.fold([put(1, [row(), row("b"), row("c")])], [act(1)])
    first = t.files["current"]
    came = t.fold([put(2, [row(whole="1"), row("b")], [row("d")])], [act(2, day=9), act(2, 1, day=9)])
    assert came == {2 * N: Folded({"accepted": 1, "changed": 1, "unchanged": 1}), 2 * N + 1: Folded({"accepted": 1})}
    assert t.leaving == first
    assert not set(first) & set(t.files["current"])
    later = AT + timedelta(days=9)
    assert t.rows("past", "id, whole, known_to, recorded_to, _position") == [("a", None, later, later, 1)]
    assert t.rows("current", "id, whole, known_basis, _position") == [
        ("a", 1, "captured", 2), ("b", None, "vendor", 1), ("c", None, "vendor", 1), ("d", None, "vendor", 2)
    ]  # fmt: skip


def test_what_a_group_says_of_one_key_in_turn_is_a_story(tables: Made, put: Any) -> None:
    t = tables()
    batches = [[row(whole=str(n % 3))] for n in range(4)]
    came = t.fold([put(1, *batches)], [act(1, n, day=n) for n in range(4) if n != 1])
    assert [one.counts for one in came.values()] == [{"accepted": 1}] + [{"accepted": 1, "changed": 1}] * 2
    assert t.rows("past", "whole, _n") == [(0, 0), (2, 2)]
    assert t.rows("current", "whole, _n") == [(0, 3)]


def test_what_is_older_than_what_was_said_since_goes_nowhere(tables: Made, put: Any) -> None:
    t = tables()
    t.fold([put(4, [row()])], [act(4)])
    late = act(9, origin=2 * N)
    told = Said({("a", LEAP): 4 * N, ("b", LEAP): 1 * N})
    assert t.fold([put(9, [row(whole="1"), row("b"), row("c")])], [late], told) == {
        9 * N: Folded({"superseded": 1, "accepted": 2})
    }
    assert t.rows("current", "id, _position") == [("a", 4), ("b", 9), ("c", 9)]


def test_a_sequence_alone_decides_about_rows(tables: Made, put: Any) -> None:
    numbered = tuple(replace(c, required=True) if c.name == "whole" else c for c in COLUMNS)
    t = tables(contract(columns=numbered, sequence="whole"))
    assert t.fold([put(1, [row(whole="5"), row(whole="7"), row(whole="6")])], [act(1)])[N].counts == {
        "accepted": 2, "changed": 1, "superseded": 1
    }  # fmt: skip
    assert t.fold([put(2, [row(whole="6"), row(whole="7")])], [act(2)])[2 * N].counts == {
        "superseded": 1,
        "unchanged": 1,
    }
    assert t.fold([put(3, [row(whole="7", flag="true")])], [act(3)])[3 * N].counts == {"superseded": 1}
    assert (t.rows("current", "whole"), t.rows("past", "whole")) == ([(7,)], [(5,)])


@pytest.mark.parametrize("ends", [("2024-02-29", "2024-02-29"), (LEAP, LEAP)], ids=["texts", "values"])
def test_a_complete_batch_withdraws_what_it_lacks_of_its_scope(tables: Made, put: Any, ends: Any) -> None:
    t = tables()
    t.fold([put(1, [row(), row("b"), row("c"), row("d"), row("e", FIRST)])], [act(1)])
    said = [row("b"), row("c", flag="7"), row("f")]  # c is in quarantine: it is there
    assert t.fold([put(2, said)], [act(2, scope={"day": ends})]) == {
        2 * N: Folded({"unchanged": 1, "accepted": 1, "withdrawn": 2})
    }
    assert t.rows("past", "id, known_to, recorded_to") == [(one, AT, AT) for one in "ad"]
    assert [one for (one,) in t.rows("current", "id")] == ["b", "c", "e", "f"]
    assert t.fold([put(3, [row()])], [act(3, day=1)]) == {3 * N: Folded({"accepted": 1})}
    assert t.rows("current", "id, known_from")[0] == ("a", AT + timedelta(days=1))


@pytest.mark.parametrize("how", [{"limit": 49}, {"blocked": True}])
def test_withdrawals_that_are_held_take_place_when_a_decision_says_so(tables: Made, put: Any, how: Any) -> None:
    t = tables()
    t.fold([put(1, [row(), row("b")])], [act(1)])
    said = put(2, [row("b"), row("c")])
    assert t.fold([said], [act(2, scope=ALL, **how)]) == {2 * N: Folded({"accepted": 1, "unchanged": 1}, pending=True)}
    again = Lines(said.url, said.rows, said.bytes, {0: 5 * N})
    acts = [act(5, origin=2 * N, scope=ALL, absent=True)]
    assert t.fold([again], acts, Said({})) == {5 * N: Folded({"withdrawn": 1})}
    assert [one for (one,) in t.rows("current", "id")] == ["b", "c"]


def test_half_of_a_scope_is_no_more_than_fifty_percent(tables: Made, put: Any) -> None:
    t = tables()
    t.fold([put(1, [row(), row("b")])], [act(1)])
    assert t.fold([put(2, [row("b")])], [act(2, scope=ALL, limit=50)])[2 * N] == Folded(
        {"unchanged": 1, "withdrawn": 1}
    )


def test_a_withdrawal_or_two_may_go_whatever_their_share(tables: Made, put: Any) -> None:
    t = tables()
    t.fold([put(1, [row(), row("b"), row("c")])], [act(1)])
    said = put(2, [row("d")])
    assert t.fold([said], [act(2, scope=ALL, limit=20, least=3)])[2 * N] == Folded({"accepted": 1}, pending=True)
    assert t.fold([put(3, [row("b")])], [act(3, scope=ALL, limit=20, least=4)])[3 * N] == Folded(
        {"unchanged": 1, "withdrawn": 3}
    )


def test_a_deletion_withdraws_its_key_unless_it_was_seen_since(tables: Made, put: Any) -> None:
    t = tables()
    t.fold([put(1, [row(), row("b")])], [act(1)])
    deletions = [[row(whole='"no number"')], [row("b")], [row("z")]]
    acts = [act(2, n, origin=N + N - 1) for n in range(3)]
    came = t.fold([put(2, *deletions, op="delete")], acts, Said({("b", LEAP): 2 * N}))
    assert [one.counts for one in came.values()] == [{"withdrawn": 1}, {"superseded": 1}, {"unchanged": 1}]
    assert t.judged[2 * N] == Counted(rows=1, good=1)
    assert (t.rows("past", "id, known_to"), t.rows("current", "id")) == ([("a", AT)], [("b",)])


def test_bounds_and_boxes_are_of_the_rows_whose_key_is_readable(tables: Made, put: Any) -> None:
    t = tables(partition=("day", "month"))
    first = [row("b"), row("b"), row("a", FIRST, whole='"x"'), good(id="5"), "7"]
    t.fold([put(1, first, [], [row("z")])], [act(1), act(1, 1)])
    assert t.bounds == {N: {"id": ("a", "b"), "day": (LEAP, FIRST)}}
    assert t.boxes == [{"id": ("b", "b"), "day": (LEAP, LEAP)}, {"id": ("a", "a"), "day": (FIRST, FIRST)}]


@pytest.mark.parametrize(
    ("partition", "values"),
    [
        (None, [()]), (("day", "month"), [(649,), (650,)]), (("day", "year"), [(53,), (54,)]), (("id", "value"), [("=",), ("NULL",), ("a",)]),
    ],
)  # fmt: skip
def test_files_are_cut_by_partition_and_their_columns_known_by_field_ids(
    tables: Made, put: Any, partition: Any, values: Any
) -> None:
    t = tables(partition=partition)
    days = (date(2024, 2, 1), LEAP, FIRST) if partition != ("day", "year") else (date(2023, 12, 31), LEAP, FIRST)
    t.fold([put(1, [row(k, day) for k, day in zip(["a", "=", "NULL"], days, strict=True)])], [act(1)])
    assert sorted(one.partition for one in t.written) == values
    assert sum(one.rows for one in t.written) == 3
    for one in t.written:
        assert one.path.stat().st_size == one.bytes
        ids = {f.name: int(f.metadata[b"PARQUET:field_id"]) for f in pq.read_schema(one.path)}
        assert ids == {name: i for i, name, _ in t.layouts["current"].columns}


def test_where_keys_were_seen_last(tables: Made, put: Any) -> None:
    t = tables()
    lines = [put(1, [row(), good(id="5")], [row(), row("b", whole='"x"')]), put(2, [row("c"), row("c", whole="1")])]
    with t.engine.group(t.contract, lines) as group:
        group.judged()
        keys = [(one, LEAP) for one in "abcz"]
        assert group.seen(keys) == {keys[0]: N + 1, keys[1]: N + 1, keys[2]: 2 * N}
        assert group.seen([]) == {}


def test_rules_that_are_broken_and_those_that_only_warn(tables: Made, put: Any) -> None:
    rules = (
        Rule("small", "whole < 10 OR flag"), Rule("named", "city IN ('x', 'y')"), Rule("near", "abs(amount - 5) <= 2", "warning"),
        Rule("spelt", "NOT (length(id) BETWEEN 2 AND 3)", "warning"),
    )  # fmt: skip
    t = tables(contract(rules=rules))
    told = [
        row(whole="10"), row("b", whole="11", flag="true"), row("cc", whole="12", flag="false", amount="7.000001"),
        row("d", a='{"city":"z"}'),
    ]  # fmt: skip
    t.fold([put(1, told)], [act(1)])
    assert t.judged[N].reasons == {"small": 1, "named": 1}
    assert t.judged[N].warnings == {"near": 1, "spelt": 1}
    deleted = put(2, [row("b", whole="10", amount="9")], op="delete")
    assert t.fold([deleted], [act(2)])[2 * N] == Folded({"withdrawn": 1})
    assert t.judged[2 * N] == Counted(rows=1, good=1), "of a deletion its key alone is read"


def test_what_is_refused_is_null_to_a_rule(tables: Made, put: Any) -> None:
    """Beside the reason stands a value in the engine: a number that was rounded, a moment out of range, a name that was said twice."""
    rules = (
        Rule("small", "whole < 2"), Rule("some", "coalesce(amount, 1) > 0"), Rule("early", "year(at) > 9000"), Rule("there", "whole IS NOT NULL"),
        Rule("warned", "amount > 0", "warning"),
    )  # fmt: skip
    t = tables(contract(rules=rules))
    told = [
        row(whole="1.6"), row("b", whole="1", amount="0.0000004"), row("c", whole="0", at='"0001-01-01T00:00:00+01:00"'),
        row("d", whole="2", amount="0", share="7"), row("e").replace("{", '{"whole":1,"whole":3,', 1),
    ]  # fmt: skip
    t.fold([put(1, told)], [act(1)])
    assert t.judged[N].reasons == {
        "whole:scale": 1, "whole:twice": 1, "there": 2, "amount:scale": 1, "at:range": 1, "share:range": 1, "small": 1, "some": 1
    }  # fmt: skip
    assert t.judged[N].warnings == {"warned": 1}


EXPRESSIONS = [
    "whole + 1 > 2", "whole - amount < 0", "whole * amount = 3", "whole / amount > 0.6", "whole / (whole - 2) > 1", "whole % 2 = 1", "-whole < -1",
    "abs(-amount) >= 2", "whole BETWEEN 1 AND 2", "NOT whole BETWEEN 2 AND 3", "whole IN (1, 3)", "whole IN (1, NULL)", "id NOT IN ('a', 'b')",
    "amount IS NULL", "amount IS NOT NULL", "flag", "NOT flag", "flag OR whole = 2", "flag AND whole = 2", "coalesce(amount, 0) = 0",
    "nullif(whole, 2) = 1", "length(id) = 1", "upper(id) = 'A'", "lower(id) <> 'b'", "trim(id) = 'c'", "trim(id, 'a') = ''",
    "CASE WHEN whole > 2 THEN flag WHEN amount > 1 THEN true ELSE false END", "CASE whole WHEN 1 THEN true END", "regexp_matches(id, '^[ab]')",
    "round(amount) <> 2", "round(amount, 1) = 1.5", "greatest(whole, amount) = 2", "least(whole, 2) = 1", "year(day) = 2024", "month(day) > 2",
    "day > CAST('2024-02-29' AS DATE)", "CAST(amount AS BIGINT) = 1", "CAST(whole AS VARCHAR) = '1'", "CAST(amount AS DOUBLE) = 1.5",
    "CAST(amount AS DECIMAL(9, 1)) > 1.6", "CAST(flag AS VARCHAR) = 'true'",
]  # fmt: skip


def test_every_expression_of_a_rule_is_judged_alike(tmp_path: Path) -> None:
    """Rows of all combinations, nulls among them; each rule breaks for the same ones."""
    promised = contract(rules=tuple(Rule(f"r{n}", one) for n, one in enumerate(EXPRESSIONS)))
    options = product(
        ["a", "b", "  c "],
        [LEAP, date(2023, 1, 31)],
        ["1", "2", "3", "null"],
        ["1.5", "2.45", "null"],
        ["true", "false", "null"],
    )
    records = [row(k, day, whole=w, amount=a, flag=f) for k, day, w, a, f in options]
    lines = [part(tmp_path / "p.gz", [line(seq, 0, record) for seq, record in enumerate(records)], {0: N})]
    found = []
    for name in NAMES:
        with engine_of(name, tmp_path / "scratch").group(promised, lines) as group:
            group.judged()
            found.append({one.seq: sorted(one.reasons) for one in group.rejected([N])})
    for seq, record in enumerate(records):
        fast, slow = (set(one.get(seq, ())) for one in found)
        assert fast == slow, (record, [EXPRESSIONS[int(r[1:])] for r in fast ^ slow if r.startswith("r")])
    broken = {reason for reasons in found[0].values() for reason in reasons}
    never = {"whole IN (1, NULL)", "CASE whole WHEN 1 THEN true END"}  # true or null
    assert {EXPRESSIONS[int(one[1:])] for one in broken if one.startswith("r")} == set(EXPRESSIONS) - never


def test_a_rule_that_divides_by_nothing_is_the_contracts_fault_and_no_damage(tmp_path: Path) -> None:
    promised = contract(rules=(Rule("odd", "5 % whole = 1"),))
    lines = [part(tmp_path / "p.gz", [line(0, 0, row(whole="0"))], {0: N})]
    with pytest.raises(ContractError, match="a rule of the contract cannot be computed"):
        engine_of("duckdb", tmp_path / "scratch").group(promised, lines).__enter__()


@pytest.mark.parametrize("limit", [100.0, 0.0], ids=["withdrawn", "held and withdrawn by decision"])
def test_what_moved_to_another_key_is_known_once_at_any_moment(tables: Made, put: Any, limit: float) -> None:
    made = tables()
    made.fold([put(1, [row(day=LEAP), row("b", day=LEAP)])], [act(1, scope=ALL)])
    made.fold([put(2, [row(day=date(2024, 2, 27)), row("b", day=LEAP)])], [act(2, day=30, scope=ALL, limit=limit)])
    if not limit:
        again = part(
            Path(made.root / "3.gz"),
            [line(0, 0, row(day=date(2024, 2, 27))), line(1, 0, row("b", day=LEAP))],
            {0: 3 * N},
        )
        made.fold([again], [act(3, day=30, origin=2 * N, scope=ALL, absent=True)], Said({}))
    spans = made.rows("current", "id, known_from, NULL") + made.rows("past", "id, known_from, known_to")
    told = sorted(since_until[1:] for since_until in spans if since_until[0] == "a")
    assert [until for _, until in told] == [told[1][0], None]
    assert made.rows("current", "known_basis, backfilled")[0] == ("captured", True)


def test_records_of_one_key_are_counted_where_a_column_does_so(tables: Made, put: Any) -> None:
    """Equal records are one; one in quarantine has a number of its own, so that it withdraws nobody."""
    made = tables(contract(NTH, key=("id", "day", NTH.name)))
    first = [row(amount="1"), row(amount="2"), row(amount="1"), row(amount='"x"'), row("b"), row(amount="3")]
    came = made.fold([put(1, first)], [act(1, scope=ALL)])
    assert came == {N: Folded({"accepted": 4})}
    assert made.judged[N] == Counted(6, 4, 1, 1, 0, {"amount:type": 1}, {})
    assert made.rows("current", "id, nth, amount") == [("a", 1, 1), ("a", 2, 2), ("a", 4, 3), ("b", 1, None)]
    assert made.bounds[N]["nth"] == (1, 4)
    later = [row(amount="2"), row(amount="1"), row(amount="4"), row("b")]
    assert made.fold([put(2, later)], [act(2, day=1, scope=ALL)])[2 * N].counts == {
        "accepted": 3,
        "changed": 2,
        "unchanged": 1,
        "withdrawn": 1,
    }
    assert made.rows("current", "id, nth, amount") == [("a", 1, 2), ("a", 2, 1), ("a", 3, 4), ("b", 1, None)]


# any batches at all


KEYS = st.sampled_from(["a", "a", "a", "b", "NULL"])
DAYS = st.sampled_from([LEAP, LEAP, FIRST, date(2023, 12, 31)])
RECORDS = st.builds(
    lambda key, day, whole, more, bad: good(id="1") if bad == 0 else row(key, day, whole=whole, amount=more, flag="7" if bad == 1 else "true"),
    KEYS, DAYS, st.sampled_from("1123"), st.sampled_from(["1", "1", "1.0", "2"]), st.integers(0, 12),
)  # fmt: skip
SCOPES = st.one_of(
    st.just({}),
    KEYS.map(lambda key: {"id": (key, key)}),
    st.tuples(DAYS, DAYS).map(lambda ends: {"day": (str(min(ends)), max(ends))}),
    st.tuples(KEYS, DAYS).map(lambda both: {"id": (both[0], both[0]), "day": (str(both[1]), str(both[1]))}),
)


@st.composite
def groups(draw: st.DrawFn, *, complete: bool) -> list[list[tuple[Act, str, list[str]]]]:
    """Groups of acts, each with the operation of its lines and their records."""
    place, at, out = N, AT, []
    for _ in range(draw(st.integers(1, 4))):
        group: list[tuple[Act, str, list[str]]] = []
        for _ in range(draw(st.integers(1, 4))):
            before, place = place, draw(st.sampled_from([place + 1, (place // N + 1) * N]))
            at += timedelta(days=draw(st.integers(0, 40)) if place // N > before // N else 0)
            made = Act(
                place, at,
                draw(st.sampled_from([place, place, place, max(0, place - 2), N // 2])),
                draw(st.none() | SCOPES) if complete else None, draw(st.sampled_from([100.0, 50.0, 0.0])),
                draw(st.sampled_from([1, 1, 2])), draw(st.integers(0, 6)) == 0,
            )  # fmt: skip
            if made.scope is not None and made.origin != place and draw(st.booleans()):
                made = replace(made, absent=True)
            op = "delete" if made.scope is None and not draw(st.integers(0, 5)) else ""
            group.append((made, op, draw(st.lists(RECORDS, max_size=1 if op else 5))))
        out.append(group)
    return out


@pytest.mark.slow
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=PHASES,
)
@given(
    st.booleans().flatmap(lambda complete: st.tuples(st.just(complete), groups(complete=complete))),
    st.sampled_from([None, ("day", "month"), ("day", "year"), ("id", "value")]),
    st.dictionaries(st.tuples(KEYS, DAYS), st.integers(0, N)),
    st.sampled_from(["P3D", "P1M", "PT0S"]),
    st.booleans(),
)
def test_any_batches_are_folded_alike(
    tmp_path_factory: Any, made: Any, partition: Any, told: Any, settle: str, counted: bool
) -> None:
    complete, drawn = made
    root = tmp_path_factory.mktemp("fold")
    numbered = tuple(replace(c, required=True) if c.name == "whole" else c for c in COLUMNS)
    changes: dict[str, Any] = {"sequence": None if complete else "whole", "columns": numbered}
    if counted:
        changes = {"columns": (*numbered, NTH), "key": ("id", "day", NTH.name)}
        told = {(*key, nth): origin for key, origin in told.items() for nth in (1, 2)}
    promised = contract(settle=settle, **changes)
    both = [Tables(engine_of(name, root / "scratch"), root / name, promised, partition) for name in NAMES]
    for number, group in enumerate(drawn):
        lines = [
            part(
                root / f"{number}-{i}.gz", [line(s, 0, record, op) for s, record in enumerate(records)], {0: one.place}
            )
            for i, (one, op, records) in enumerate(group)
        ]
        acts = [one for one, _, _ in group]
        fast, slow = (t.fold(lines, acts, Said(told)) for t in both)
        assert fast == slow
        for said in ("judged", "bounds", "boxes"):
            assert getattr(both[0], said) == getattr(both[1], said)
        for what in ("current", "past"):
            assert Counter(both[0].rows(what)) == Counter(both[1].rows(what))
