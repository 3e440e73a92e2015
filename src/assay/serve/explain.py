"""Why a number is that number: from a gold cell back to the record, the request that brought it and the rules it passed."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import duckdb
import sqlglot
from pyiceberg.catalog import Catalog
from sqlglot import exp

from assay.contract import guard
from assay.contract.model import Contract
from assay.errors import LakeDamaged, UsageError
from assay.lake import bronze, evidence, release, silver
from assay.lake.files import Files
from assay.lake.release import Gold, Release
from assay.lake.tables import ident, text
from assay.ports import Ledger

LISTED = 20


def explain(
    files: Files,
    catalog: Catalog,
    ledger: Ledger,
    found: Release,
    table: str,
    key: Mapping[str, str],
    column: str | None = None,
    *,
    listed: int = LISTED,
) -> dict[str, Any]:
    """The way back of one gold row, or of one cell of it, as JSON.

    The model's input rows are selected by its own declared predicates, the models are run again over those rows
    alone, and the value is compared: `recomputed.equal`. At most `listed` input rows are followed to bronze, the
    newest first; the rest is counted. UsageError if there is no such table, key or row.
    """
    gold = found.table(table)
    if missing := [k for k in gold.key if k not in key] or [k for k in key if k not in gold.key]:
        raise UsageError(f"{gold.name} has the key {', '.join(gold.key)}; {missing[0]} is missing or not part of it")
    if column is not None:
        gold.column(column)
    con = release.connect(files, catalog, found)
    try:
        row = _row(con, gold, key)
        inputs = [_select(one.table, one.where, gold, row) for one in gold.inputs]
        again = _recompute(
            files, con, found, gold, [(i.table, sql) for i, sql in zip(gold.inputs, inputs, strict=True)], row
        )
        shown = column or next((c.name for c in gold.columns if c.name not in gold.key), gold.key[0])
        observations, counts = _observations(files, catalog, ledger, con, found, gold, inputs, listed)
    finally:
        con.close()
    compared = [column] if column else [c.name for c in gold.columns]
    return {
        "table": f"gold.{gold.name}", "key": {k: render(row[k]) for k in gold.key}, "column": shown, "value": render(row[shown]),
        "unit": gold.column(shown).unit, "type": gold.column(shown).type, "column_description": gold.column(shown).description,
        "release": found.number, "snapshot": str(gold.snapshot), "origin": list(found.origins), "description": gold.description,
        "row": {c.name: render(row[c.name]) for c in gold.columns},
        "model": {
            "relation": f"gold.{gold.name}", "sql": next(m.sql for m in found.models if m.relation == f"gold.{gold.name}"),
            "steps": _ancestors(found, f"gold.{gold.name}"),
        },
        "recomputed": {"value": render(again[shown]) if again else None, "equal": again is not None and all(again[c] == row[c] for c in compared)},
        "inputs": [{"table": i.table, "where": i.where, "rows": n, "listed": k} for i, (n, k) in zip(gold.inputs, counts, strict=True)],
        "observations": observations, "not_listed": sum(n - k for n, k in counts),
    }  # fmt: skip


def render(value: Any) -> str | None:
    """A value as the API writes it: decimals with all their stored digits, ISO dates, UTC times with Z."""
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return f"{value:f}"
    return repr(value) if isinstance(value, float) else str(value)


def _row(con: duckdb.DuckDBPyConnection, gold: Gold, key: Mapping[str, str]) -> dict[str, Any]:
    where = " AND ".join(f"{ident(k)} = TRY_CAST(? AS {gold.column(k).type})" for k in gold.key)
    names = [c.name for c in gold.columns]
    rows = con.execute(
        f"SELECT {', '.join(map(ident, names))} FROM gold.{ident(gold.name)} WHERE {where}",
        [key[k] for k in gold.key],
    ).fetchall()
    if not rows:
        raise UsageError(f"{gold.name} has no row {', '.join(f'{k}={key[k]}' for k in gold.key)}")
    return dict(zip(names, rows[0], strict=True))


def _select(table: str, where: str, gold: Gold, row: Mapping[str, Any]) -> str:
    """The input's rows as a SELECT, `row.<column>` replaced by that row's value as a typed literal."""
    tree = sqlglot.parse_one(where, read="duckdb")

    def put(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Column) and node.table.lower() == "row":
            value = row[node.name]
            kind = gold.column(node.name).type
            literal = exp.null() if value is None else exp.Literal.string(str(value))
            return exp.cast(literal, exp.DataType.build(kind, dialect="duckdb"))
        return node

    zone, _, name = table.partition(".")
    return f"SELECT * FROM {ident(zone)}.{ident(name)} WHERE {tree.transform(put).sql(dialect='duckdb')}"


def _ancestors(found: Release, relation: str) -> list[str]:
    """The relations a model is computed from, in the order they must be made, itself last."""
    by_name = {m.relation: m for m in found.models}
    out: list[str] = []

    def visit(name: str) -> None:
        model = by_name.get(name)
        if model is None or name in out:
            return
        if model.kind != "seed":
            for one in sqlglot.parse_one(model.sql, read="duckdb").find_all(exp.Table):
                if one.db:
                    visit(f"{one.db}.{one.name}")
        out.append(name)

    visit(relation)
    return out


def _recompute(
    files: Files,
    con: duckdb.DuckDBPyConnection,
    found: Release,
    gold: Gold,
    inputs: Sequence[tuple[str, str]],
    row: Mapping[str, Any],
) -> dict[str, Any] | None:
    """The row as the models give it over its input rows alone, in a database of its own; None if they give none."""
    own = duckdb.connect(
        config={"autoinstall_known_extensions": False, "autoload_known_extensions": False, "threads": 1}
    )
    own.execute("SET timezone = 'UTC'; SET enable_progress_bar = false")
    try:
        own.execute(f"ATTACH {text(str(files.path(found.seeds)))} AS _seeds (READ_ONLY)")
        own.execute("CREATE SCHEMA silver")
        given: dict[str, str] = {}
        for table, sql in inputs:
            name = table.partition(".")[2]
            given[name] = f"{given[name]} UNION {sql}" if name in given else sql
        for one in found.silver:
            for name in (one.dataset, f"{one.dataset}_versions"):
                select = given.get(name) or f"SELECT * FROM silver.{ident(name)} LIMIT 0"
                rows = con.sql(select).to_arrow_table()  # noqa: F841 - DuckDB finds it by name
                own.execute(f"CREATE TABLE silver.{ident(name)} AS SELECT * FROM rows")
        models = {m.relation: m for m in found.models}
        for relation in _ancestors(found, f"gold.{gold.name}"):
            zone, _, name = relation.partition(".")
            own.execute(f"CREATE SCHEMA IF NOT EXISTS {ident(zone)}")
            body = (
                f"SELECT * FROM _seeds.{ident(zone)}.{ident(name)}"
                if models[relation].kind == "seed"
                else models[relation].sql
            )
            own.execute(f"CREATE TABLE {ident(zone)}.{ident(name)} AS {body}")
        where = " AND ".join(f"{ident(k)} = ?" for k in gold.key)
        names = [c.name for c in gold.columns]
        rows_found = own.execute(
            f"SELECT {', '.join(map(ident, names))} FROM gold.{ident(gold.name)} WHERE {where}",
            [row[k] for k in gold.key],
        ).fetchall()
    finally:
        own.close()
    return dict(zip(names, rows_found[0], strict=True)) if rows_found else None


def _observations(
    files: Files,
    catalog: Catalog,
    ledger: Ledger,
    con: duckdb.DuckDBPyConnection,
    found: Release,
    gold: Gold,
    inputs: Sequence[str],
    listed: int,
) -> tuple[list[dict[str, Any]], list[tuple[int, int]]]:
    """The newest input rows followed to bronze, a fair share of each input; and per input how many there are and are listed."""
    out: list[dict[str, Any]] = []
    counts: list[tuple[int, int]] = []
    share = max(1, listed // max(1, len(inputs)))
    for one, select in zip(gold.inputs, inputs, strict=True):
        dataset = one.table.partition(".")[2].removesuffix("_versions")
        read = next(s for s in found.silver if s.dataset == dataset)
        contract = evidence.pinned(files, read.contract_sha256)
        number = con.execute(f"SELECT count(*) FROM ({select})").fetchall()[0][0]
        order = ", ".join(f"{ident(k)} DESC" for k in reversed(contract.key))
        cursor = con.execute(f"SELECT * FROM ({select}) ORDER BY {order} LIMIT {share}")
        names = [d[0] for d in cursor.description or ()]
        rows = [dict(zip(names, r, strict=True)) for r in cursor.fetchall()]
        counts.append((number, len(rows)))
        judged = _verdicts(files, catalog, ledger, dataset, read.snapshot) if rows else {}
        for row in rows:
            fact = ledger.fact("manifest", row["_batch"])
            if fact is None or row["_batch"] not in judged:
                raise LakeDamaged(
                    f"no manifest or verdict names batch {row['_batch']} of {dataset}; see `assay verify counts`"
                )
            manifest = bronze.read_manifest(files, fact.body["name"])
            by = _judged(files, judged[row["_batch"]], row["_batch"], row["_seq"])
            out.append(_observation(files, con, contract, manifest, by, row))
    return out, counts


def _verdicts(
    files: Files, catalog: Catalog, ledger: Ledger, dataset: str, snapshot: int | None
) -> dict[str, list[evidence.Evidence]]:
    """Per batch, the evidence that judged it up to the release's snapshot, since it was last judged as a whole."""
    table = catalog.load_table(silver.name(dataset))
    out: dict[str, list[evidence.Evidence]] = {}
    for at, one in silver.adopt(files, table, ledger, dataset):
        for verdict in one.verdicts:
            if one.kind == "replay":
                out[verdict.batch].append(one)
            else:
                out[verdict.batch] = [one]
        if at == snapshot:
            break
    return out


def _judged(files: Files, judged: Sequence[evidence.Evidence], batch: str, seq: int) -> evidence.Evidence:
    """The evidence that let one row in: the first whose quarantine does not hold it."""
    for one in judged:
        verdict = next(v for v in one.verdicts if v.batch == batch)
        if verdict.quarantine is None or f'{{"_seq":{seq},'.encode() not in bronze.inflate(files, verdict.quarantine):
            return one
    raise LakeDamaged(f"row {seq} of batch {batch} is in silver and in quarantine; `assay verify counts` says more")


def _observation(
    files: Files,
    con: duckdb.DuckDBPyConnection,
    contract: Contract,
    manifest: bronze.Manifest,
    judged: evidence.Evidence,
    row: Mapping[str, Any],
) -> dict[str, Any]:
    seq = row["_seq"]
    part, number, line = bronze.line(files, manifest, seq)
    asked = next(a for a in manifest.requests if a.first_seq <= seq < a.first_seq + a.rows)
    return {
        "dataset": contract.dataset, "key": {k: render(row[k]) for k in contract.key},
        "values": {c.name: render(row[c.name]) for c in contract.columns},
        "known_from": render(row["known_from"]), "known_basis": row["known_basis"], "captured_at": render(row["captured_at"]),
        "backfilled": row["backfilled"], "batch": manifest.batch, "seq": seq, "file": part.path, "line": number,
        "record": _record(line), "origin": manifest.origin, "manifest": manifest.name,
        "request": {
            "url": asked.url, "params": dict(asked.params), "at": render(asked.at), "status": asked.status, "bytes": asked.bytes,
            "sha256": asked.sha256, "rows": asked.rows,
        },
        "contract_sha256": judged.contract_sha256, "evidence": judged.id,
        "rules": _rules(con, evidence.pinned(files, judged.contract_sha256), row),
    }  # fmt: skip


def _rules(con: duckdb.DuckDBPyConnection, contract: Contract, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rules of the contract that judged the row, computed over its values again."""
    if not contract.rules:
        return []
    columns = [c for c in contract.columns if c.name in row]
    given = ", ".join(f"CAST(? AS {c.type}) AS {ident(c.name)}" for c in columns)
    tested = ", ".join(
        guard.expression(r.expression, [c.name for c in columns]).sql(dialect="duckdb") for r in contract.rules
    )
    found = con.execute(f"SELECT {tested} FROM (SELECT {given})", [row[c.name] for c in columns]).fetchall()[0]
    return [
        {"name": r.name, "description": r.description, "passed": passed is not False}
        for r, passed in zip(contract.rules, found, strict=True)
    ]


def _record(line: bytes) -> str:
    """The record's own tokens, without our envelope."""
    return line.split(b'"_record":', 1)[1][:-1].decode()
