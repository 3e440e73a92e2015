"""Whether what dbt made can be served and explained: every value, every key, and a row computed again."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
from msgspec import structs

from assay.build.compute import Built
from assay.errors import BuildFailed, LakeDamaged
from assay.lake import duck, recompute, tables
from assay.lake.duck import ident
from assay.lake.release import Column, Gold, Model
from assay.ports import Limits

SAMPLED = 200_000
# What Python, Iceberg and JSON can all say; beyond it, readers get an error, or another value.
_FIRST, _LAST = "0001-01-01", "9999-12-31"


@dataclass(frozen=True)
class Judged:
    """A table as its release will describe it, not yet published, and a hash of its columns and of all its rows."""

    gold: Gold
    content: str


def judge(built: Built, limits: Limits) -> list[Judged]:
    """The tables to release; BuildFailed, with a row for example, if one holds what cannot be served or explained."""
    with duck.open(limits, built.database, read_only=True) as con:
        judged = [_checked(con, one) for one in built.gold]
        for one in judged:
            _explained(con, built.database, built.models, one.gold, limits)
    return judged


def _checked(con: duckdb.DuckDBPyConnection, declared: Gold) -> Judged:
    """A table whose rows readers can get.

    BuildFailed, with a row for example, if it has a key that is null or there twice, or a value that readers cannot
    get: NaN, infinity, a year beyond 9999.
    """
    relation = f"gold.{ident(declared.name)}"
    kinds = {n: k for n, k, *_ in con.execute(f"DESCRIBE {relation}").fetchall()}
    # The model's contract is enforced, so its yml names every column of the relation.
    columns = tuple(structs.replace(c, type=kinds[c.name]) for c in declared.columns)
    keys = ", ".join(ident(k) for k in declared.key)
    spoken = ", ".join(f"CAST({ident(k)} AS VARCHAR)" for k in declared.key)

    def refuse(condition: str, what: str, remedy: str) -> None:
        if found := con.execute(f"SELECT {spoken} FROM {relation} WHERE {condition} LIMIT 1").fetchall():
            example = ", ".join(
                f"{k}={'NULL' if v is None else v}" for k, v in zip(declared.key, found[0], strict=True)
            )
            raise BuildFailed(
                f"gold.{declared.name}: {what}, for example where {example}; {remedy}; no release was made"
            )

    for column in columns:
        try:
            tables.iceberg_type(column.type)
        except LakeDamaged:
            raise BuildFailed(
                f"gold.{declared.name}: {column.name} is a {column.type}, which no table of a lake holds; cast it, a FLOAT to "
                f"DOUBLE for example; no release was made"
            ) from None
        if odd := _odd(column):
            refuse(
                odd[0],
                f"{column.name} is {odd[1]}, which no reader can get",
                f"turn it into null (nullif, case when isfinite({column.name}) …), or let a test refuse it",
            )
    for key in declared.key:
        refuse(
            f"{ident(key)} IS NULL",
            f"{key} is null and part of its key",
            "a page ends there: leave the row out, or name it",
        )
    refuse(
        f"true GROUP BY {keys} HAVING count(*) > 1",
        f"its key ({keys}) is there twice",
        "group by it, or name a longer key in meta.assay.key",
    )
    texts = " || chr(31) || ".join(f"coalesce(CAST({ident(c.name)} AS VARCHAR), chr(30))" for c in columns)
    found = con.execute(
        f"SELECT count(*), bit_xor(md5_number_lower(t)), bit_xor(md5_number_upper(t)) FROM (SELECT {texts} AS t FROM {relation})"
    ).fetchall()[0]
    shape = ",".join(f"{c.name} {c.type}" for c in columns)
    gold = structs.replace(declared, rows=found[0], columns=columns)
    return Judged(gold, hashlib.sha256(f"{shape}|{found}".encode()).hexdigest())


def _odd(column: Column) -> tuple[str, str] | None:
    """A condition for the values of a column that no reader can get, and what they are."""
    name = ident(column.name)
    if column.type == "DOUBLE":
        return f"NOT isfinite({name})", "NaN or infinite"
    if column.type in ("DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE"):
        last = f"DATE '{_LAST}'" if column.type == "DATE" else f"{column.type} '{_LAST} 23:59:59.999999'"
        return f"{name} < {column.type} '{_FIRST}' OR {name} > {last}", f"infinite or beyond {_FIRST} to {_LAST}"
    return None


def _explained(
    con: duckdb.DuckDBPyConnection,
    seeds: Path,
    models: Sequence[Model],
    gold: Gold,
    limits: Limits,
    sampled: int = SAMPLED,
) -> None:
    """Recompute one row, the last by its key, from the inputs it declares; BuildFailed if it comes out otherwise.

    A row of `sampled` input rows or more is taken at its word: it would cost what the model cost.
    """
    order = ", ".join(f"{ident(k)} DESC" for k in gold.key)
    names = [c.name for c in gold.columns]
    rows = con.execute(
        f"SELECT {', '.join(map(ident, names))} FROM gold.{ident(gold.name)} ORDER BY {order} LIMIT 1"
    ).fetchall()
    if not rows:
        return
    row = dict(zip(names, rows[0], strict=True))
    key = ", ".join(f"{k}={row[k]}" for k in gold.key)
    remedy = "mend meta.assay.inputs, or no number of this table can be explained; no release was made"
    try:
        inputs = recompute.given(con, models, gold, row, sampled)
        if any(one.num_rows >= sampled for one in inputs.values()):
            return
        again = recompute.recompute(seeds, models, gold, row, inputs, limits)
    except duckdb.Error as error:
        said = str(error).splitlines()[0]
        raise BuildFailed(
            f"gold.{gold.name}: {key} cannot be computed from its declared inputs ({said}); {remedy}"
        ) from error
    if again is None:
        raise BuildFailed(f"gold.{gold.name}: {key} does not come from its declared inputs at all; {remedy}")
    for name in names:
        if not recompute.same(row[name], again[name]):
            raise BuildFailed(
                f"gold.{gold.name}: {key} has {name} {row[name]}, its declared inputs alone give {again[name]}; {remedy}"
            )
