"""Silver is the fold of its log: any history, any grouping gives the two tables, counts and readings of the oracle."""

import os
import shutil
import tempfile
from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from assay.engines.duckdb.fold import Fold
from assay.engines.rounds import rounds
from assay.lake import duck
from assay.ports import Act, N, Relation
from assay.windows import Duration
from tests.laws.fold.known import KNOWN
from tests.laws.fold.log import Decided, Entry, histories
from tests.laws.fold.oracle import Oracle, Version
from tests.laws.fold.planner import moment
from tests.laws.fold.silver import SHAPES, Nobody, Shape, Silver

EXAMPLES = int(os.environ.get("EXAMPLES", "25"))
PHASES = set(Phase) - {Phase.shrink} if os.environ.get("QUICK") else set(Phase)
CON = duckdb.connect(config={"threads": 1})
CON.execute("SET timezone = 'UTC'; SET preserve_insertion_order = false")


def told(shape: Shape, v: Version) -> tuple[Any, ...]:
    ends = () if v.known_to is None else (moment(v.known_to), moment(v.recorded_to))
    return (
        *shape.row(v.row), moment(v.row.known_at), moment(v.known_from), v.basis, v.backfilled, moment(v.captured_at),
        v.row.hash, *v.place, *ends,
    )  # fmt: skip


def read(silver: Silver, where: str, last: int) -> dict[tuple[int, int], list[Any]]:
    """Rows by the moments r (recorded) and t (known): the WHERE is a plain predicate over both tables."""
    current, past = (duck.relation(silver.relation(what)) for what in ("current", "past"))
    versions = f"({past} UNION ALL BY NAME SELECT *, NULL AS known_to, NULL AS recorded_to FROM ({current}))"
    moments = f"(SELECT TIMESTAMPTZ '2020-01-01 00:00:00+00' + i * INTERVAL 1 DAY AS _d, i AS _i FROM range(-1, {last + 2}) x(i))"
    names = ", ".join(f'_v."{c}"' for c in silver.columns)
    out: dict[tuple[int, int], list[Any]] = {}
    for r, t, *row in CON.execute(
        f"SELECT _r._i, _t._i, {names} FROM {versions} _v, {moments} _r, {moments} _t WHERE {where}"
    ).fetchall():
        out.setdefault((r, t), []).append(tuple(row))
    return {k: sorted(v, key=repr) for k, v in out.items()}


def brute(shape: Shape, state: Any, as_of: int) -> list[Any]:
    """Each key's story in its order of telling, read up to a moment: the last word by then."""
    _, current, past = state
    stories: dict[Any, list[Version]] = {}
    for v in sorted([*past, *current.values()], key=lambda v: v.place):
        stories.setdefault(v.row.key, []).append(v)
    out = []
    for story in stories.values():
        word = None
        for v in story:
            if v.known_from <= as_of:
                word = v
            if v.known_to is not None and v.known_to <= as_of and word is v:
                word = None
        if word:
            out.append(shape.row(word.row))
    return sorted(out, key=repr)


def same(silver: Silver, right: Oracle) -> None:
    """Both tables, and the terms of every act."""
    shape = silver.shape
    assert silver.rows("current") == Counter(told(shape, v) for v in right.current.values())
    assert silver.rows("past") == Counter(told(shape, v) for v in right.past)
    assert len(right.past) == sum(c.get("changed", 0) + c.get("withdrawn", 0) for c in right.counts.values())
    counted = {p: {k: n for k, n in c.items() if n} for p, c in silver.counts.items()}
    wanted = {p: {k: n for k, n in c.items() if n} for p, c in right.counts.items()}
    assert {p: c for p, c in counted.items() if c} == {p: c for p, c in wanted.items() if c}
    mine = {p: (a.state, a.pending) for p, a in silver.planner.accounts.items()}
    assert mine == {p: (a.state, a.pending) for p, a in right.accounts.items()}


def conserved(entries: list[Entry], silver: Silver, right: Oracle) -> None:
    """rows = accepted + unchanged + superseded + duplicate + quarantined + held, of each batch that is not void."""

    def rows(place: tuple[int, int]) -> int:
        return sum(n for what, n in silver.counts.get(place, {}).items() if what not in {"withdrawn", "changed"})

    for place, account in silver.planner.accounts.items():
        if account.state == "void":
            assert place not in silver.counts
            continue
        assert rows(place) == len(account.batch.rows)
        # A held batch that a decision let in is counted whole at the decision's place.
        decided = [
            (p, n)
            for p, e in enumerate(entries, 1)
            if isinstance(e, Decided)
            for n, a in enumerate(e.decisions)
            if a.batch == place
        ]
        if account.state == "passed" and silver.counts[place]["held"]:
            assert any(rows(one) == len(account.batch.rows) for one in decided)


def readings(entries: list[Entry], silver: Silver, right: Oracle) -> None:
    """as_of, recorded_as_of, both, at every moment."""
    shape, last = silver.shape, entries[-1].at
    known = read(silver, "known_from <= _t._d AND (known_to IS NULL OR known_to > _t._d)", last)
    recorded = read(silver, "captured_at <= _r._d AND (recorded_to IS NULL OR recorded_to > _r._d)", last)
    both = read(
        silver,
        "captured_at <= _r._d AND known_from <= _t._d AND (known_to IS NULL OR known_to > _t._d OR recorded_to > _r._d)",
        last,
    )
    for at in range(last + 2):
        then = [state for state in right.history if state[0] <= at][-1]
        assert recorded.get((at, 0), []) == sorted((shape.row(v.row) for v in then[1].values()), key=repr)
        assert known.get((0, at), []) == brute(shape, right.history[-1], at)
        for t in range(last + 2):
            assert both.get((at, t), []) == brute(shape, then, t)


@settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(histories(), st.sampled_from(SHAPES))
def test_any_history_any_grouping(history: Any, shape: Shape) -> None:
    holds(*history, shape)


@pytest.mark.parametrize("name", KNOWN)
def test_known_histories(name: str) -> None:
    holds(*KNOWN[name], SHAPES[list(KNOWN).index(name) % len(SHAPES)])


def holds(sequence: bool, entries: list[Entry], cuts: list[int], shape: Shape) -> None:
    """Refines the log up to each cut: tables, counts and readings are the oracle's."""
    root = Path(tempfile.mkdtemp())
    try:
        silver = Silver(CON, root, shape, sequence)
        for upto in cuts:
            silver.refine(entries, upto)
            right = Oracle(sequence, entries[:upto])
            same(silver, right)
        conserved(entries, silver, right)
        readings(entries, silver, right)
    finally:
        shutil.rmtree(root)


@pytest.mark.slow
def test_the_histories_were_worth_it() -> None:
    """What the generator draws reaches every term and every kind of decision often."""
    found: Counter[str] = Counter()

    @settings(
        max_examples=100, deadline=None, database=None, suppress_health_check=list(HealthCheck), phases={Phase.generate}
    )
    @given(histories())
    def look(history: Any) -> None:
        sequence, entries, cuts = history
        right = Oracle(sequence, entries)
        for counts in right.counts.values():
            found.update(counts)
        found.update(past=len(right.past), groups=len(cuts), entries=len(entries))
        for account in right.accounts.values():
            found.update({"void": account.state == "void", "pending": account.pending})
        for entry in entries:
            found.update(f"{one.kind}s" for one in (entry.decisions if isinstance(entry, Decided) else ()))

    look()
    wanted = [
        "accepted",
        "changed",
        "unchanged",
        "superseded",
        "duplicate",
        "quarantined",
        "held",
        "withdrawn",
        "pending",
        "void",
    ]
    for what in [*wanted, "past", "releases", "rejudges", "withdraws", "upserts", "deletes"]:
        assert found[what] > 5, (what, found)


@pytest.fixture
def listed() -> Fold:
    """A fold of names by a decimal id and a day."""
    CON.execute(
        "CREATE OR REPLACE TEMP TABLE staged (_place BIGINT, _seq BIGINT, _op VARCHAR, id DECIMAL(18,6), day DATE, name VARCHAR, known_at TIMESTAMPTZ, _hash VARCHAR)"
    )
    columns = {"id": "DECIMAL(18,6)", "day": "DATE", "name": "VARCHAR"}
    return Fold(CON, columns, ("id", "day"), None, Duration.parse("P3D"))


EMPTY = Relation(tuple((i, n, k) for i, (n, k) in enumerate({"id": "DECIMAL(18,6)", "day": "DATE"}.items(), 1)))
AT = datetime(2026, 1, 1, tzinfo=UTC)


def put(*rows: tuple[int, str, str, str]) -> None:
    for seq, (place, number, day, name) in enumerate(rows):
        CON.execute(
            f"INSERT INTO staged VALUES ({place}, {seq}, 'u', {number}, '{day}', '{name}', NULL, '{number}|{name}')"
        )


def test_a_relation_is_read_by_field_ids(tmp_path: Path) -> None:
    where = tmp_path / "name=hive"
    where.mkdir()
    CON.execute(
        f"COPY (SELECT 'x' AS was, 7::INTEGER AS filename) TO '{where}/a[1].parquet' (FORMAT parquet, FIELD_IDS {{was: 3, filename: 9}})"
    )
    columns = ((9, "filename", "BIGINT"), (4, "new", "DATE"), (3, "name", "VARCHAR"))
    found = CON.execute(duck.relation(Relation(columns, (f"{where}/a[1].parquet",)), filename="_file"))
    assert [c[0] for c in found.description] == ["filename", "new", "name", "_file"]
    assert found.fetchall() == [(7, None, "x", f"{where}/a[1].parquet")]
    none = CON.execute(duck.relation(Relation(columns), filename="_file"))
    assert [(c[0], str(c[1])) for c in none.description] == [
        ("filename", "BIGINT"), ("new", "DATE"), ("name", "VARCHAR"), ("_file", "VARCHAR")
    ]  # fmt: skip
    assert none.fetchall() == []


def test_boxes_are_one_a_partition(listed: Fold) -> None:
    put((1, "9.5", "2020-01-31", "a"), (1, "10", "2020-02-01", "b"), (2, "11", "2021-02-01", "c"))
    CON.execute("INSERT INTO staged VALUES (1, 9, 'h', 99, '2029-01-01', NULL, NULL, NULL)")
    nine, ten, eleven = (9.5, 9.5), (10, 10), (11, 11)
    january, february, later = ((d, d) for d in (date(2020, 1, 31), date(2020, 2, 1), date(2021, 2, 1)))
    months = listed.boxes(("day", "month"))
    assert months == [{"id": nine, "day": january}, {"id": ten, "day": february}, {"id": eleven, "day": later}]
    assert listed.boxes(("id", "value")) == months
    assert listed.boxes(("day", "year"), [1]) == [{"id": (9.5, 10), "day": (january[0], february[0])}]
    assert listed.boxes(None, [3]) == []


def test_scopes_that_share_nothing_are_one_round_and_are_compared_as_their_types(listed: Fold) -> None:
    def cut(*scopes: Any) -> list[int]:
        acts = [Act(N * i, AT, N * i, scope) for i, scope in enumerate(scopes, 1)]
        return [len(one) for one in rounds(acts, listed._typed(acts))]

    assert cut(*({"id": (str(i), str(i))} for i in range(500))) == [500]
    assert cut({"id": ("9", "9")}, {"id": ("9.0", "9.000000")}) == [1, 1]
    assert cut({"id": ("9", "11")}, {"id": ("10", "10")}) == [1, 1]
    assert cut({"id": ("10", "11")}, {"id": ("9", "9")}) == [2]
    assert cut({"id": ("9", "9")}, None, {"day": (date(2020, 1, 1), "2020-01-31")}, {"id": ("8", "8")}) == [2, 1, 1]
    assert cut(
        {"id": ("9", "9"), "day": ("2020-01-01", "2020-01-01")}, {"id": ("9", "9"), "day": ("2020-01-02", "2020-01-03")}
    ) == [2]
    assert cut({}, {}, {"id": ("1", "1")}) == [1, 1, 1]


def test_nothing_to_fold_gives_nothing_to_write(listed: Fold) -> None:
    assert listed.fold([], EMPTY, EMPTY, Nobody()) == {}
    assert (listed.leaving(), listed.select("current"), listed.select("past")) == ([], "", "")
