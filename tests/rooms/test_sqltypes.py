"""A SQL type is one value, however it is spelt."""

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.sqltypes import SqlType


@pytest.mark.parametrize(
    ("text", "said", "facts"),
    [
        ("DECIMAL(18,6)", "DECIMAL(18,6)", {"decimal"}),
        ("decimal(38, 10)", "DECIMAL(38,10)", {"decimal"}),
        ("Numeric( 1 , 0 )", "DECIMAL(1,0)", {"decimal"}),
        ("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ", {"timed", "zoned"}),
        ("timestamptz", "TIMESTAMPTZ", {"timed", "zoned"}),
        ("timestamp", "TIMESTAMP", {"timed"}),
        ("TIMESTAMP_NS", "TIMESTAMP_NS", {"timed"}),
        ("varchar", "VARCHAR", set()),
        ("TIMESTAMP[]", "TIMESTAMP[]", set()),
        ("DECIMAL(3,1)[]", "DECIMAL(3,1)[]", set()),
        ("STRUCT(A DECIMAL(3,1))", "STRUCT(A DECIMAL(3,1))", set()),
    ],
)
def test_a_type_is_read_and_written(text: str, said: str, facts: set[str]) -> None:
    found = SqlType.parse(text)
    assert str(found) == said
    assert SqlType.parse(said) == found
    assert {one for one in ("decimal", "timed", "zoned") if getattr(found, one)} == facts


@pytest.mark.parametrize(
    "text", ["DECIMAL", "NUMERIC", "DECIMAL(18)", "DECIMAL()", "DECIMAL(39,6)", "DECIMAL(6,18)", "DECIMAL(0,0)", "DECIMAL(١,١)"]
)  # fmt: skip
def test_a_decimal_that_cannot_be(text: str) -> None:
    with pytest.raises(ValueError, match="a decimal"):
        SqlType.parse(text)


@pytest.mark.slow
@given(st.integers(1, 38).flatmap(lambda p: st.tuples(st.just(p), st.integers(0, p))))
def test_a_decimal_says_what_duckdb_says(digits: tuple[int, int]) -> None:
    precision, scale = digits
    with duckdb.connect() as con:
        [(told,)] = con.execute(f"SELECT typeof(CAST(0 AS DECIMAL({precision},{scale})))").fetchall()
    assert SqlType.parse(told) == SqlType("DECIMAL", precision, scale)
    assert str(SqlType.parse(told)) == told


@pytest.mark.parametrize(
    "kind", ["TIMESTAMPTZ", "TIMESTAMP", "DATE", "BIGINT", "HUGEINT", "DOUBLE", "VARCHAR", "BOOLEAN"]
)
def test_a_type_is_the_one_duckdb_names(kind: str) -> None:
    with duckdb.connect() as con:
        [(told,)] = con.execute(f"SELECT typeof(CAST(NULL AS {kind}))").fetchall()
    assert str(SqlType.parse(told)) == kind
