"""Why a number is that number: from a gold cell back to the record, the request that brought it and the rules it passed."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import duckdb
from pyiceberg.catalog import Catalog

from assay.contract import guard
from assay.contract.model import Contract
from assay.errors import LakeDamaged, UsageError
from assay.lake import bronze, evidence, recompute, release, silver
from assay.lake.duck import Limits
from assay.lake.files import Files
from assay.lake.release import Gold, Release
from assay.lake.tables import ident
from assay.ports import Ledger

LISTED = 20

# the row that a contract makes of each bronze line: its columns and known_at; None where it rejects the line
Reread = Callable[[Contract, Sequence[bytes]], Sequence[Mapping[str, Any] | None]]


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
    reread: Reread | None = None,
    limits: Limits = release.ASKED,
) -> dict[str, Any]:
    """The way back of one gold row, or of one cell of it, as JSON, within `limits`.

    The model's input rows are selected by its own declared predicates, the models are run again over those rows
    alone, and the value is compared: `recomputed.equal`. At most `listed` input rows are followed to bronze, the
    newest first; the rest is counted. `reread` refines their lines again: `record_refines_to_row`, null without it.
    UsageError if there is no such table, key or row; LakeDamaged if a part is not what was landed.
    """
    gold = found.table(table)
    if missing := [k for k in gold.key if k not in key] or [k for k in key if k not in gold.key]:
        raise UsageError(f"{gold.name} has the key {', '.join(gold.key)}; {missing[0]} is missing or not part of it")
    if column is not None:
        gold.column(column)
    con = release.connect(files, catalog, found, limits=limits)
    try:
        row = _row(con, gold, key)
        inputs = [recompute.input_rows(one, gold, row) for one in gold.inputs]
        given = recompute.given(con, found.models, gold, row)
        again = recompute.recompute(files.path(found.seeds), found.models, gold, row, given, limits)
        shown = column or next((c.name for c in gold.columns if c.name not in gold.key), gold.key[0])
        observations, counts = _observations(files, catalog, ledger, con, found, gold, inputs, listed, reread)
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
            "steps": [m.relation for m in recompute.ancestors(found.models, f"gold.{gold.name}")[0]],
        },
        "recomputed": {"value": render(again[shown]) if again else None, "equal": again is not None and all(recompute.same(again[c], row[c]) for c in compared)},
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
        return (value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value).isoformat() + "Z"
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


def _observations(
    files: Files,
    catalog: Catalog,
    ledger: Ledger,
    con: duckdb.DuckDBPyConnection,
    found: Release,
    gold: Gold,
    inputs: Sequence[str],
    listed: int,
    reread: Reread | None,
) -> tuple[list[dict[str, Any]], list[tuple[int, int]]]:
    """The newest input rows followed to bronze, a fair share of each input; and per input how many there are and are listed."""
    out: list[dict[str, Any]] = []
    read_as: list[tuple[bytes, Mapping[str, Any]]] = []
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
            found_at = bronze.line(files, manifest, row["_seq"])
            out.append(_observation(files, con, contract, manifest, by, row, found_at))
            read_as.append((found_at[2], row))
    if reread:
        _compare(files, reread, out, read_as)
    return out, counts


def _compare(
    files: Files,
    reread: Reread,
    observations: Sequence[dict[str, Any]],
    read_as: Sequence[tuple[bytes, Mapping[str, Any]]],
) -> None:
    """Say of each observation whether its line, refined again by the contract that judged it, gives its row."""
    for sha256 in {one["contract_sha256"] for one in observations}:
        mine = [n for n, one in enumerate(observations) if one["contract_sha256"] == sha256]
        for n, again in zip(mine, reread(evidence.pinned(files, sha256), [read_as[n][0] for n in mine]), strict=True):
            row = read_as[n][1]
            same = again is not None and all(recompute.same(value, row[name]) for name, value in again.items())
            observations[n]["record_refines_to_row"] = same


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
    found_at: tuple[bronze.Part, int, bytes],
) -> dict[str, Any]:
    seq = row["_seq"]
    part, number, line = found_at
    asked = next(a for a in manifest.requests if a.first_seq <= seq < a.first_seq + a.rows)
    return {
        "dataset": contract.dataset, "key": {k: render(row[k]) for k in contract.key},
        "values": {c.name: render(row[c.name]) for c in contract.columns},
        "known_from": render(row["known_from"]), "known_basis": row["known_basis"], "captured_at": render(row["captured_at"]),
        "backfilled": row["backfilled"], "batch": manifest.batch, "seq": seq, "file": part.path, "line": number,
        "record": _record(line), "record_refines_to_row": None, "origin": manifest.origin, "manifest": manifest.name,
        "request": {
            "url": asked.url, "params": dict(asked.params), "at": render(asked.at), "status": asked.status, "bytes": asked.bytes,
            "sha256": asked.sha256, "rows": asked.rows,
        },
        "contract_sha256": judged.contract_sha256, "evidence": judged.id,
        "rules": _rules(con, evidence.pinned(files, judged.contract_sha256), row),
    }  # fmt: skip


def _rules(con: duckdb.DuckDBPyConnection, contract: Contract, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rules of the contract that judged the row, computed over its values again: null where they say neither."""
    if not contract.rules:
        return []
    columns = [c for c in contract.columns if c.name in row]
    given = ", ".join(f"CAST(? AS {c.type}) AS {ident(c.name)}" for c in columns)
    tested = ", ".join(
        guard.expression(r.expression, [c.name for c in columns]).sql(dialect="duckdb") for r in contract.rules
    )
    found = con.execute(f"SELECT {tested} FROM (SELECT {given})", [row[c.name] for c in columns]).fetchall()[0]
    return [
        {"name": r.name, "description": r.description, "severity": r.severity, "passed": passed}
        for r, passed in zip(contract.rules, found, strict=True)
    ]


def _record(line: bytes) -> str:
    """The record's own tokens, without our envelope."""
    return line.split(b'"_record":', 1)[1][:-1].decode()
