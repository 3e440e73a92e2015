"""A gold row computed again, by its models over the silver rows it declares and nothing else."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import sqlglot
from sqlglot import exp

from assay.lake import duck
from assay.lake.duck import ident, text
from assay.lake.release import Gold, Input, Model
from assay.ports import Limits


def input_rows(one: Input, gold: Gold, row: Mapping[str, Any]) -> str:
    """The SELECT of an input's rows for one gold row: `row.<column>` is its value as a typed literal."""
    tree = sqlglot.parse_one(one.where, read="duckdb")

    def put(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Column) and node.table.lower() == "row":
            value = row[node.name]
            literal = exp.null() if value is None else exp.Literal.string(str(value))
            return exp.cast(literal, exp.DataType.build(gold.column(node.name).type, dialect="duckdb"))
        return node

    zone, _, name = one.table.partition(".")
    return f"SELECT * FROM {ident(zone)}.{ident(name)} WHERE {tree.transform(put).sql(dialect='duckdb')}"


def ancestors(models: Sequence[Model], relation: str) -> tuple[list[Model], list[str]]:
    """The steps a relation is computed by, in order, itself last; and the names of the silver views they read."""
    by_name = {m.relation: m for m in models}
    steps: list[Model] = []
    read: list[str] = []

    def visit(name: str) -> None:
        zone, _, view = name.partition(".")
        if zone == "silver" and view not in read:
            read.append(view)
        model = by_name.get(name)
        if model is None or model in steps:
            return
        for one in sqlglot.parse_one(model.sql, read="duckdb").find_all(exp.Table) if model.kind != "seed" else ():
            if one.db:
                visit(f"{one.db}.{one.name}")
        steps.append(model)

    visit(relation)
    return steps, read


def given(
    con: duckdb.DuckDBPyConnection,
    models: Sequence[Model],
    gold: Gold,
    row: Mapping[str, Any],
    limit: int | None = None,
) -> dict[str, pa.Table]:
    """Per silver view that the models of a gold table read, the rows one of its rows declares; at most `limit` of each.

    `con` has the views of silver and the tables of gold, as `assay.lake.release.connect` gives them.
    """
    selects: dict[str, str] = {}
    for one in gold.inputs:
        name = one.table.partition(".")[2]
        select = input_rows(one, gold, row)
        selects[name] = f"{selects[name]} UNION {select}" if name in selects else select
    _, read = ancestors(models, f"gold.{gold.name}")
    out = {}
    for name in read:
        select = (
            f"SELECT * FROM ({selects[name]})" if name in selects else f"SELECT * FROM silver.{ident(name)} LIMIT 0"
        )
        out[name] = con.sql(f"{select} LIMIT {limit}" if limit and name in selects else select).to_arrow_table()
    return out


def recompute(
    seeds: Path,
    models: Sequence[Model],
    gold: Gold,
    row: Mapping[str, Any],
    inputs: Mapping[str, pa.Table],
    limits: Limits,
) -> dict[str, Any] | None:
    """A gold row as the models give it over these silver rows alone, in a database of its own; None if they give none.

    `seeds` is a DuckDB file with the relations of the seeds; it is only read.
    """
    own = duck.open(replace(limits, threads=1))
    try:
        own.execute(f"ATTACH {text(str(seeds))} AS _seeds (READ_ONLY)")
        own.execute("CREATE SCHEMA silver")
        for name, rows in inputs.items():
            own.register("_rows", rows)
            own.execute(f"CREATE TABLE silver.{ident(name)} AS SELECT * FROM _rows")
        for model in ancestors(models, f"gold.{gold.name}")[0]:
            zone, _, name = model.relation.partition(".")
            relation = f"{ident(zone)}.{ident(name)}"
            own.execute(f"CREATE SCHEMA IF NOT EXISTS {ident(zone)}")
            own.execute(
                f"CREATE TABLE {relation} AS {f'SELECT * FROM _seeds.{relation}' if model.kind == 'seed' else model.sql}"
            )
        where = " AND ".join(f"{ident(k)} = ?" for k in gold.key)
        names = [c.name for c in gold.columns]
        found = own.execute(
            f"SELECT {', '.join(map(ident, names))} FROM gold.{ident(gold.name)} WHERE {where}",
            [row[k] for k in gold.key],
        ).fetchall()
    finally:
        own.close()
    return dict(zip(names, found[0], strict=True)) if found else None


def same(one: Any, other: Any) -> bool:
    """Whether a computed value is the stored one: floats within 1e-9 of each other, everything else exactly.

    Sums of fewer rows, or by more threads, are added up in another order. NaN is itself.
    """
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9) or (math.isnan(one) and math.isnan(other))
    return bool(one == other)
