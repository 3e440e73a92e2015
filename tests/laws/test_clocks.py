"""Law 5 and 8: the version view is a function of the observations, and both clocks read as the oracle reads them."""

from datetime import UTC, datetime, timedelta

import duckdb
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.lake import silver
from tests.laws import oracle
from tests.making import every_type

CONTRACT = every_type()
T0 = datetime(2024, 1, 1, tzinfo=UTC)
MOMENT = st.integers(0, 12).map(lambda n: T0 + timedelta(days=n))

OBSERVED = st.fixed_dictionaries(
    {
        "key": st.sampled_from(["a", "b"]),
        "hash": st.sampled_from(["x", "y"]),
        "op": st.sampled_from(["upsert", "upsert", "upsert", "delete"]),
        "known_at": st.none() | MOMENT,
        "captured_at": MOMENT,
        "batch": st.sampled_from(["p", "q", "r"]),
    }
)


def _select(con: duckdb.DuckDBPyConnection, rows: list[dict], recorded_as_of: datetime | None) -> str:
    con.execute("SET timezone = 'UTC'")
    con.execute(
        "CREATE TABLE o (id VARCHAR, known_at TIMESTAMPTZ, captured_at TIMESTAMPTZ, _op VARCHAR, _hash VARCHAR, _batch VARCHAR, _seq BIGINT)"
    )
    for row in rows:
        con.execute(
            "INSERT INTO o VALUES (?, ?, ?, ?, ?, ?, ?)",
            [row["key"], row["known_at"], row["captured_at"], row["op"], row["hash"], row["batch"], row["seq"]],
        )
    empty = ", ".join(f'CAST(NULL AS {c.type}) AS "{c.name}"' for c in CONTRACT.columns if c.name != "id")
    return silver.versions(CONTRACT, f"SELECT *, {empty} FROM o", recorded_as_of)


@settings(max_examples=300, deadline=None)
@given(st.lists(OBSERVED, max_size=9), st.none() | MOMENT, st.randoms(use_true_random=False))
def test_versions_are_the_oracles_in_any_order(rows: list[dict], recorded_as_of: datetime | None, random) -> None:
    rows = [row | {"seq": i} for i, row in enumerate(rows)]
    expected = oracle.versions(rows, recorded_as_of)
    shuffled = rows[:]
    random.shuffle(shuffled)
    with duckdb.connect() as con:
        select = _select(con, shuffled, recorded_as_of)
        got = con.execute(
            f"SELECT id, _seq, known_from, known_basis, known_to, recorded_to FROM ({select}) ORDER BY id, captured_at, _batch, _seq"
        ).fetchall()
    assert got == [
        (r["key"], r["seq"], r["known_from"], r["known_basis"], r["known_to"], r["recorded_to"]) for r in expected
    ]


@settings(max_examples=100, deadline=None)
@given(st.lists(OBSERVED, max_size=9), MOMENT)
def test_as_of_shows_at_most_one_version_a_key_and_none_from_the_future(rows: list[dict], moment: datetime) -> None:
    rows = [row | {"seq": i} for i, row in enumerate(rows)]
    expected = [
        (r["key"], r["seq"]) for r in oracle.versions(rows)
        if r["known_from"] <= moment and (r["known_to"] is None or r["known_to"] > moment) and r["op"] == "upsert"
    ]  # fmt: skip
    with duckdb.connect() as con:
        _select(con, rows, None)
        empty = ", ".join(f'CAST(NULL AS {c.type}) AS "{c.name}"' for c in CONTRACT.columns if c.name != "id")
        select = silver.current(CONTRACT, f"SELECT *, {empty} FROM o", as_of=moment)
        got = con.execute(f"SELECT id, _seq FROM ({select}) ORDER BY ALL").fetchall()
    assert got == sorted(expected)
    assert len({key for key, _ in got}) == len(got)
