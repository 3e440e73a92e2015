"""Why a number is that number: from a cell of gold or silver back to the record, the request that brought it and the rules it passed."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import duckdb
import msgspec

from assay import fence, guard, targets
from assay.contract.model import Contract
from assay.errors import UsageError
from assay.lake import account, bronze, evidence, recompute
from assay.lake.bronze import Asked, Entry, Part
from assay.lake.duck import ident
from assay.lake.files import scratch_directory
from assay.lake.recompute import same
from assay.lake.release import Column, Gold, Release, Silver
from assay.ports import N
from assay.refine.history import History, Timeline, hand_line
from assay.run import gone, newer
from assay.serve import query
from assay.serve.reader import Reader
from assay.settings import size
from assay.spoken import is_text
from assay.sqltypes import SqlType

if TYPE_CHECKING:
    from assay.run.lake import Lake

LISTED, DEADLINE = 20, 30.0
_NEWEST = "ORDER BY _position DESC, _n DESC, _seq DESC LIMIT 1"


def asked(
    lake: "Lake", found: Release, table: str, key: Mapping[str, str], column: str | None = None, *,
    listed: int = LISTED, timeout: float = DEADLINE,
) -> dict[str, Any]:  # fmt: skip
    """What `explain` says, by a process of its own: fence.Late if it takes longer than `timeout` seconds, else as there."""
    t = lake.target
    its = (t.name, t.settings, lake.contracts, lake.universes)
    with (
        scratch_directory(t.files) as work,
        fence.asked(
            "assay.run.explain", "told", its, found, table, dict(key), column, listed,
            # of the model's rows and of the release's, by a DuckDB each
            timeout=timeout, memory=2 * size(t.limits.memory), work=work,
        ) as said,
    ):  # fmt: skip
        whole, *records = said
    return {**whole, "records": records}


def told(
    its: tuple[Any, ...], found: Release, table: str, key: Mapping[str, str], column: str | None, listed: int
) -> Iterator[dict[str, Any]]:
    """What `explain` says of a lake that is opened for it; its records one by one, which may be large."""
    name, settings, contracts, universes = its
    from assay.run.lake import Lake

    with Lake(targets.open(name, settings), contracts, universes) as lake:
        whole = explain(lake, found, table, key, column, listed=listed)
        yield {**whole, "records": []}
        yield from whole["records"]


def explain(
    lake: "Lake", found: Release, table: str, key: Mapping[str, str], column: str | None = None, *, listed: int = LISTED
) -> dict[str, Any]:
    """The way back of one row of gold or silver, or of one cell of it, as JSON.

    Of gold, the model's input rows are selected by its own declared predicates, the models are run again over those rows
    alone, and the value is compared: `recomputed.equal`. At most `listed` input rows are followed to bronze, the
    newest first; the rest is counted. Their lines are refined again: `record_refines_to_row`. A row of silver is
    followed to its own line alone, and `recomputed` is what that line gives; of a key that is current no more it is the
    last version, and `gone` says since when and why. `newer` of a record says where a later one of its key lies in quarantine.
    UsageError if there is no such table, key or row; LakeDamaged if a part is not what was landed.
    """
    if table.startswith("silver."):
        return _of_silver(lake, found, table.removeprefix("silver."), key, column)
    gold = found.table(table)
    named(gold.name, gold.key, key)
    if column is not None:
        gold.column(column)
    t = lake.target
    con = Reader(t.files, found, t.limits).connect()
    try:
        row = find(con, f"gold.{ident(gold.name)}", gold.columns, gold.key, key)
        if row is None:
            raise no_row(gold.name, key)
        inputs = [recompute.input_rows(one, gold, row) for one in gold.inputs]
        given = recompute.given(con, found.models, gold, row)
        seeds = t.files.local(found.seeds, found.seeds_sha256)
        again = recompute.recompute(seeds, found.models, gold, row, given, t.limits)
        shown = column or next((c.name for c in gold.columns if c.name not in gold.key), gold.key[0])
        records, counts = _records(lake, con, found, gold, inputs, listed)
    finally:
        con.close()
    compared = [column] if column else [c.name for c in gold.columns]
    return {
        "table": f"gold.{gold.name}", "key": {k: render(row[k]) for k in gold.key}, "column": shown, "value": render(row[shown]),
        "unit": gold.column(shown).unit, "type": gold.column(shown).type, "column_description": gold.column(shown).description,
        "release": found.number, "snapshot": str(gold.snapshot), "origin": list(found.origins), "description": gold.description,
        "row": {c.name: render(row[c.name]) for c in gold.columns}, "gone": None,
        "model": {
            "relation": f"gold.{gold.name}", "sql": next(m.sql for m in found.models if m.relation == f"gold.{gold.name}"),
            "steps": [m.relation for m in recompute.ancestors(found.models, f"gold.{gold.name}")[0]],
        },
        "recomputed": {"value": render(again[shown]) if again else None, "equal": again is not None and all(same(again[c], row[c]) for c in compared)},
        "inputs": [{"table": i.table, "where": i.where, "rows": n, "listed": k} for i, (n, k) in zip(gold.inputs, counts, strict=True)],
        "records": records, "not_listed": sum(n - k for n, k in counts),
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


def _of_silver(
    lake: "Lake", found: Release, dataset: str, key: Mapping[str, str], column: str | None
) -> dict[str, Any]:
    """A current row of silver, or the last version of a key that is gone: its values, and what they came from."""
    one = found.dataset(dataset)
    named(f"silver.{dataset}", one.key, key)
    reader = Reader(lake.target.files, found, lake.target.limits)
    columns = reader.tables["silver", dataset].columns
    shown = column or next((name for name in columns if name not in one.key), one.key[0])
    if shown not in columns:
        raise UsageError(f"silver.{dataset} has no column {shown!r}; it has {', '.join(columns)}")
    with reader.connect() as con:
        row = find(con, f"silver.{ident(dataset)}", list(columns.values()), one.key, key)
        went = None
        if row is None:
            columns = reader.tables["silver", f"{dataset}_versions"].columns
            row = find(con, f"silver.{ident(f'{dataset}_versions')}", list(columns.values()), one.key, key, _NEWEST)
            if row is None:
                raise no_row(f"silver.{dataset}", key)
            went = gone.ended(lake, one, History.upto(lake.target.files, lake.target.ledger, one), row)
        [record] = _followed(lake, con, one, [row], went)
    about = columns[shown]
    return {
        "table": f"silver.{dataset}", "key": {k: render(row[k]) for k in one.key}, "column": shown, "value": render(row[shown]),
        "unit": about.unit, "type": about.type, "column_description": about.description,
        "release": found.number, "snapshot": str(one.current.snapshot), "origin": list(one.origins), "description": one.description,
        "row": {name: render(row[name]) for name in columns}, "gone": _gone(went, row) if went else None, "model": None,
        "recomputed": {"value": render(row[shown]) if record["record_refines_to_row"] else None, "equal": bool(record["record_refines_to_row"])},
        "inputs": [], "records": [record], "not_listed": 0,
    }  # fmt: skip


def _gone(one: gone.Ended, row: Mapping[str, Any]) -> dict[str, Any]:
    """Since when a key is not current any more, and what took it away, as JSON."""
    said_in = one.landed or one.entry
    asked = one.batch.requests if one.batch else ()
    return {
        "known_to": render(row["known_to"]), "recorded_to": render(row["recorded_to"]),
        "why": "absent" if one.batch else "deleted",
        "batch": account.spoken(said_in.position * N + one.batch.n if one.batch else one.place),
        "captured_at": render(said_in.captured_at), "entry": bronze.name_of(said_in.dataset, said_in.position),
        "scope": {k: list(ends) for k, ends in (one.batch.scope or {}).items()} if one.batch else None,
        "requests": [_request(said_in, request) for request in asked],
        "decision": {"kind": one.decision.kind, "who": one.entry.who, "why": one.entry.why} if one.decision else None,
    }  # fmt: skip


def _request(entry: Entry, asked: Asked) -> dict[str, Any]:
    return {
        "url": asked.url or entry.url, "params": dict(asked.params), "at": render(asked.at), "status": asked.status,
        "bytes": asked.bytes, "sha256": asked.sha256, "rows": asked.rows,
    }  # fmt: skip


def named(spoken: str, names: Sequence[str], key: Mapping[str, str]) -> None:
    """UsageError unless just the columns of the key are given."""
    if missing := [k for k in names if k not in key] or [k for k in key if k not in names]:
        raise UsageError(f"{spoken} has the key {', '.join(names)}; {missing[0]} is missing or not part of it")
    if strange := [name for name, text in key.items() if not is_text(text)]:
        raise UsageError(f"the value of {strange[0]} is no text in UTF-8")


def no_row(spoken: str, key: Mapping[str, str]) -> UsageError:
    return UsageError(f"{spoken} has no row {', '.join(f'{k}={v}' for k, v in key.items())}")


def find(
    con: duckdb.DuckDBPyConnection, relation: str, columns: Sequence[Column], names: Sequence[str], key: Mapping[str, str],
    order: str = "",
) -> dict[str, Any] | None:  # fmt: skip
    """The first row of a relation with this key; None if there is none."""
    types = {c.name: c.type for c in columns}
    for column in columns:
        if column.name in names:
            held(con, column, key[column.name])
    where = " AND ".join(f"{ident(k)} = TRY_CAST(? AS {types[k]})" for k in names)
    found = con.execute(
        f"SELECT {', '.join(map(ident, types))} FROM {relation} WHERE {where} {order}", [key[k] for k in names]
    ).fetchall()
    return dict(zip(types, found[0], strict=True)) if found else None


def held(con: duckdb.DuckDBPyConnection, column: Column, text: str) -> None:
    """UsageError for what is no value of the column: to have no such row is another thing, and to be rounded to one."""
    if not SqlType.parse(column.type).decimal:
        [(fits,)] = con.execute(f"SELECT TRY_CAST(? AS {column.type}) IS NOT NULL", [text]).fetchall()
        if fits:
            return
    try:
        query.value(column, text)
    except query.Problem as error:
        raise UsageError(error.detail) from None


def _records(
    lake: "Lake", con: duckdb.DuckDBPyConnection, found: Release, gold: Gold, inputs: Sequence[str], listed: int
) -> tuple[list[dict[str, Any]], list[tuple[int, int]]]:
    """The newest input rows followed to bronze, a fair share of each input; and per input how many there are and are listed."""
    counts: list[tuple[int, int]] = []
    rows: dict[str, list[dict[str, Any]]] = {}  # by dataset, so that what two inputs share is read once
    share = max(1, listed // max(1, len(inputs)))
    for one, select in zip(gold.inputs, inputs, strict=True):
        dataset = one.table.partition(".")[2].removesuffix("_versions")
        key = found.dataset(dataset).key
        number = con.execute(f"SELECT count(*) FROM ({select})").fetchall()[0][0]
        order = ", ".join(f"{ident(k)} DESC" for k in reversed(key))
        cursor = con.execute(f"SELECT * FROM ({select}) ORDER BY {order} LIMIT {share}")
        names = [d[0] for d in cursor.description or ()]
        taken = [dict(zip(names, r, strict=True)) for r in cursor.fetchall()]
        counts.append((number, len(taken)))
        rows.setdefault(dataset, []).extend(taken)
    return [one for of, taken in rows.items() for one in _followed(lake, con, found.dataset(of), taken)], counts


def _followed(
    lake: "Lake", con: duckdb.DuckDBPyConnection, read: Silver, rows: Sequence[Mapping[str, Any]],
    went: gone.Ended | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Rows of one dataset, as a release read it, with the lines they came from; each entry and each part is read once.

    `went` says of a single row, whose key is gone, what took it away.
    """
    t, dataset = lake.target, read.dataset
    history = History.upto(t.files, t.ledger, read)
    timeline = history.timeline
    entries: dict[int, Entry] = {}

    def entry_of(position: int) -> Entry:
        if position not in entries:
            entries[position] = bronze.read(t.files, dataset, position)
        return entries[position]

    decided: dict[int, int | None] = {}
    places: list[tuple[Entry, int, int]] = []  # the entry, batch and line that the row was first said in
    judges: list[int] = []  # the position of the contract that judged it
    said: dict[tuple[Any, ...], int] = {}  # where the last was said of each key; nothing of one that another replaced
    for row in rows:
        entry, n = entry_of(row["_position"]), row["_n"]
        judges.append(timeline.contract(row["_position"])[0])
        if entry.kind == "decided" and (batch := entry.decisions[n].batch):
            place = row["_position"] * N + n
            if place not in decided:
                decided[place] = history.judged_by(place)
            judges[-1] = decided[place] or judges[-1]
            entry, n = entry_of(batch[0]), batch[1]
        by_hand = entry.decisions[n].seen * N + N - 1 if entry.kind == "decided" else None
        if went or row.get("recorded_to") is None:
            said[tuple(row[k] for k in read.key)] = max(by_hand or entry.position * N + n, went.origin if went else 0)
        places.append((entry, n, row["_seq"]))
    took = _took(lake, dataset, history.span)
    lines: dict[tuple[int, int, int], tuple[Part | None, int, bytes]] = {}
    for entry in {id(e): e for e, _, _ in places}.values():
        wanted = {(n, seq) for e, n, seq in places if e is entry}
        if entry.kind == "decided":
            for n, seq in wanted:
                lines[entry.position, n, seq] = (None, n + 1, hand_line(entry.decisions[n], n))
        else:
            for (n, seq), at in bronze.lines_of(t.files, entry, wanted).items():
                lines[entry.position, n, seq] = at
    out = []
    for row, judge, (entry, n, seq) in zip(rows, judges, places, strict=True):
        contract = timeline.by_position(judge)[1]
        said_in = entry_of(row["_position"])
        out.append(_followed_one(con, dataset, contract, entry, said_in, n, row, lines[entry.position, n, seq], took))
    _compare(lake, timeline, judges, rows, [lines[e.position, n, s][2] for e, n, s in places], out)
    found = newer.newer(lake, history, said)
    for row, one in zip(rows, out, strict=True):
        if (later := found.get(tuple(row[k] for k in read.key))) and (went or row.get("recorded_to") is None):
            one["newer"] = {
                "batch": account.spoken(later.place), "held": later.held, "captured_at": render(later.captured_at),
                "reasons": list(later.reasons),
            }  # fmt: skip
    return out


def _compare(
    lake: "Lake",
    timeline: Timeline,
    judges: Sequence[int],
    rows: Sequence[Mapping[str, Any]],
    lines: Sequence[bytes],
    out: Sequence[dict[str, Any]],
) -> None:
    """Say of each record whether its line, refined again by the contract that judged it, gives its row."""
    for at in set(judges):
        mine = [n for n, judge in enumerate(judges) if judge == at]
        contract = timeline.by_position(at)[1]
        for n, again in zip(mine, lake.target.engine.rows(contract, [lines[n] for n in mine]), strict=True):
            row = rows[n]
            out[n]["record_refines_to_row"] = again is not None and all(
                same(value, row[name]) for name, value in again.items() if name in row
            )


def _followed_one(
    con: duckdb.DuckDBPyConnection, dataset: str, contract: Contract, entry: Entry, said_in: Entry, n: int,
    row: Mapping[str, Any], found_at: tuple[Part | None, int, bytes], took: Sequence[tuple[int, str]],
) -> dict[str, Any]:  # fmt: skip
    part, number, line = found_at
    seq = row["_seq"]
    told: dict[str, Any] = {
        "dataset": dataset, "key": {k: render(row[k]) for k in contract.key},
        "values": {c.name: render(row[c.name]) for c in contract.columns if c.name in row},
        "known_from": render(row["known_from"]), "known_basis": row["known_basis"], "captured_at": render(row["captured_at"]),
        "backfilled": row["backfilled"], "batch": account.spoken(row["_position"] * N + row["_n"]), "seq": seq, "tokens": _tokens(contract, _record(line)),
        "file": part.name if part else bronze.name_of(dataset, entry.position), "line": number,
        "record": _record(line), "record_refines_to_row": None, "newer": None, "origin": entry.origin or "decided",
        "entry": bronze.name_of(dataset, entry.position), "request": None, "decision": None,
        "contract_sha256": contract.sha256, "evidence": next((name for position, name in took if position >= row["_position"]), ""),
        "rules": _rules(con, contract, row),
    }  # fmt: skip
    if said_in.kind == "decided":
        told["decision"] = {
            "kind": said_in.decisions[row["_n"]].kind, "who": said_in.who, "why": said_in.why, "at": render(said_in.captured_at),
        }  # fmt: skip
    if entry.kind == "landed":
        first = 0
        for asked in bronze.batch_of(entry, n).requests:
            if first <= seq < first + asked.rows:
                told["request"] = _request(entry, asked)
            first += asked.rows
    return told


def _took(lake: "Lake", dataset: str, span: tuple[int, int] | None) -> list[tuple[int, str]]:
    """Up to which position each evidence of a span took the log in, and its name, in order."""
    if span is None:
        return []
    out = []
    for fact in lake.target.ledger.since("evidence", dataset, f"{span[0] - 1:09}"):
        if int(fact.id) > span[1]:
            break
        if fact.body["kind"] == "refined":
            out.append((fact.body["position"], evidence.name_of(dataset, int(fact.id))))
    return out


def _rules(con: duckdb.DuckDBPyConnection, contract: Contract, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rules of the contract that judged the row, computed over its values again: null where they say neither."""
    if not contract.rules:
        return []
    columns = [c for c in contract.columns if c.name in row]
    given = ", ".join(f"CAST(? AS {c.type}) AS {ident(c.name)}" for c in columns)
    tested = ", ".join(
        "NULL" if r.day else guard.expression(r.expression, [c.name for c in columns]).sql(dialect="duckdb")
        for r in contract.rules
    )
    found = con.execute(f"SELECT {tested} FROM (SELECT {given})", [row[c.name] for c in columns]).fetchall()[0]
    return [
        {
            "name": r.name, "description": r.description, "severity": r.severity,
            "passed": contract.calendar.session(row[r.day]) if r.day and contract.calendar else passed,
        }
        for r, passed in zip(contract.rules, found, strict=True)
    ]  # fmt: skip


def _tokens(contract: Contract, record: str) -> dict[str, str | None]:
    """Per column, the record's token that its value came from, spelt as it was received."""

    def at(path: Sequence[str]) -> str | None:
        token: Any = record.encode()
        for name in path:
            try:
                token = msgspec.json.decode(token, type=dict[str, msgspec.Raw]).get(name)
            except msgspec.DecodeError:  # no object there
                return None
            if token is None:
                return None
        return bytes(token).decode()

    found = {c.name: [at(path) for path in c.origins] for c in contract.columns if c.origins}
    return {name: next((t for t in tokens if t not in (None, "null")), tokens[0]) for name, tokens in found.items()}


def _record(line: bytes) -> str:
    """The record's own tokens, without our envelope."""
    return line.split(b'"_record":', 1)[1][:-1].decode()
