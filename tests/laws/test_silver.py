"""Law 5, through everything there is: real entries, engine, evidence and Iceberg tables give the oracle's rows."""

import hashlib
import os
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from isal import igzip

from assay.contract import odcs
from assay.contract.model import Contract
from assay.lake import bronze, silver
from assay.lake.bronze import Asked, Batch, Decision, Entry, Part
from assay.lake.landing import enveloped
from assay.ports import N
from assay.spoken import TERMS
from tests.laws.fold import log
from tests.laws.fold.log import histories
from tests.laws.fold.oracle import Oracle, Version
from tests.laws.slow_engine import SlowEngine
from tests.making import Made, make, make_on_store

EXAMPLES = int(os.environ.get("SILVER_EXAMPLES", "6"))
PHASES = set(Phase) - {Phase.shrink} if os.environ.get("QUICK") else set(Phase)
DAY0 = datetime(2020, 1, 1, tzinfo=UTC)
PROMISE = """apiVersion: v3.1.0
kind: DataContract
id: rows
name: Rows
version: 1.0.0
status: active
schema:
  - name: rows
    properties:
      - {name: sym, logicalType: string, required: true, primaryKey: true, primaryKeyPosition: 1, classification: public}
      - {name: day, logicalType: integer, required: true, primaryKey: true, primaryKeyPosition: 2, classification: public}
      - {name: v, logicalType: integer, required: true, classification: public}
      - {name: s, logicalType: integer, required: true, classification: public}
      - {name: known, logicalType: timestamp, classification: public}
      - {name: note, logicalType: string, classification: public}
    quality:
      - {name: small, type: custom, engine: assay, implementation: "v <= LIMIT", severity: error}
customProperties:
  - {property: source, value: fmp}
  - {property: options, value: {path: rows}}
  - {property: every, value: P1D}
  - {property: settle, value: P2D}
  - {property: knownAt, value: {column: known}}
  - {property: partitioning, value: {column: sym, by: value}}
  - {property: gate, value: {quarantinedAtMost: AT_MOST, unit: percent, minRows: 1, withdrawnAtMost: WITHDRAWN, withdrawnMinRows: LEAST}}
"""


@dataclass(frozen=True)
class Row(log.Row):
    """A row all of whose columns count for what it says."""

    @property
    def hash(self) -> str:
        return f"{self.sym}|{self.day}|{self.v}|{self.s}|{self.note}|{self.known_at}"


def contract(rules: log.Rules, *, sequence: bool) -> Contract:
    text = PROMISE.replace("LIMIT", str(rules.limit)).replace("AT_MOST", str(rules.at_most))
    text = text.replace("WITHDRAWN", str(rules.withdrawn_at_most)).replace("LEAST", str(rules.withdrawn_min))
    return odcs.parse(text + "  - {property: sequence, value: s}\n" if sequence else text)


def moment(at: int | None) -> datetime | None:
    return None if at is None else DAY0 + timedelta(days=at)


def line(row: log.Row) -> bytes:
    return msgspec.json.encode(
        {"sym": row.sym, "day": row.day, "v": row.v, "s": row.s, "known": moment(row.known_at), "note": row.note}
    )


def real(entries: list[log.Entry]) -> list[log.Entry]:
    """The history in rows whose every column counts; rows by hand are such as no contract here refuses."""

    def row(one: log.Row | None, v: int = 99) -> Row | None:
        return one and Row(one.sym, one.day, min(one.v, v), one.s, one.known_at, one.note)

    out: list[log.Entry] = []
    for entry in entries:
        if isinstance(entry, log.Landed):
            batches = (replace(b, rows=tuple(map(row, b.rows))) for b in entry.batches)
            out.append(replace(entry, batches=tuple(batches)))
        elif isinstance(entry, log.Decided):
            decisions = (replace(d, row=row(d.row, 2)) for d in entry.decisions)
            out.append(replace(entry, decisions=tuple(decisions)))
        else:
            out.append(entry)
    return out


def put(made: Made, entries: list[log.Entry], upto: int, *, sequence: bool) -> None:
    """Write the entries after the log's end, up to a position, with the times that the history gives them."""
    tail = bronze.adopt(made.files, made.ledger, "rows")
    before, force = tail.sha256, made.ledger.newest("contract", "rows")
    in_force = force.body["sha256"] if force else None
    for position, entry in enumerate(entries[tail.position : upto], tail.position + 1):
        common: dict[str, Any] = {
            "dataset": "rows", "position": position, "previous": before, "landing": f"landing-{position}",
            "captured_at": moment(entry.at),
        }  # fmt: skip
        if isinstance(entry, log.Contract):
            promised = contract(entry.rules, sequence=sequence)
            bronze.pin(made.files, promised)
            one = Entry(
                kind="contract", contract=promised.sha256, everything=entry.everything, replaces=in_force, **common
            )
            in_force = promised.sha256
        elif isinstance(entry, log.Decided):
            one = Entry(kind="decided", decisions=tuple(map(decision, entry.decisions)), who="t", why="t", **common)
        else:
            one = landed(made, entry, common)
        data = bronze.encode(one)
        assert made.files.put_new(bronze.name_of("rows", position), data, "land.entry")
        before = hashlib.sha256(data).hexdigest()
    bronze.adopt(made.files, made.ledger, "rows")


def decision(one: log.Decision) -> Decision:
    return Decision(one.kind, one.batch, line(one.row).decode() if one.row else None, one.seen)  # type: ignore[arg-type]


def landed(made: Made, entry: log.Landed, common: dict[str, Any]) -> Entry:
    lines, batches, at = b"", [], 0
    for n, one in enumerate(entry.batches):
        lines += enveloped([line(row) for row in one.rows], n, 0)
        scope = one.scope and {c: (str(low), str(high)) for c, (low, high) in one.scope.items()}
        days = [date(2020, 1, 1) + timedelta(days=d) for d in (one.window[0], one.window[1] + 1)]
        batches.append(
            Batch(
                n, one.shard, len(one.rows), common["captured_at"], one.seen,
                (Asked({}, common["captured_at"], 1, "0" * 64, len(one.rows)),), ((0, at, len(one.rows)),), *days,
                scope=None if one.scope is None else scope,
            )
        )  # fmt: skip
        at += len(one.rows)
    data = igzip.compress(lines, 1, mtime=0)
    sha256 = hashlib.sha256(data).hexdigest()
    name = f"bronze/rows/dt=2020-01-01/{common['landing']}-0-{sha256[:16]}.ndjson.gz"
    assert made.files.put_new(name, data, "land.part")
    parts = (Part(name, at, len(lines), len(data), sha256),)
    return Entry(kind="landed", run="r", origin="synthetic", parts=parts, batches=tuple(batches), **common)


def told(v: Version) -> tuple[Any, ...]:
    ends = (moment(v.known_to), moment(v.recorded_to))
    return (
        v.row.sym, v.row.day, v.row.v, v.row.s, moment(v.row.known_at), v.row.note, moment(v.row.known_at), moment(v.known_from),
        v.basis, v.backfilled, moment(v.captured_at), *v.place, *ends,
    )  # fmt: skip


def stored(made: Made, promised: Contract) -> Counter[tuple[Any, ...]]:
    return Counter(made.rows(f"SELECT * EXCLUDE (_hash) FROM ({made.select(promised)})"))


def same(made: Made, entries: list[log.Entry], *, sequence: bool) -> None:
    """Both tables, the verdict of every act, and the sums the ledger keeps."""
    right = Oracle(sequence, entries)
    promised = contract(log.Rules(), sequence=sequence)
    assert stored(made, promised) == Counter(map(told, [*right.current.values(), *right.past]))
    found = made.account(promised)
    states = {p: a.state for p, a in right.accounts.items()}
    assert found.sums.get("void", 0) == sum(s == "void" for s in states.values())
    assert {divmod(h.place, N) for h in found.held} == {p for p, s in states.items() if s == "held"}
    assert found.sum("rows") == sum(found.sum(t) for t in TERMS)
    assert found.sum("accepted") == len(right.current) + len(right.past)
    assert found.sum("withdrawn") == sum(c.get("withdrawn", 0) for c in right.counts.values())


def fold(made: Made, history: tuple[bool, list[log.Entry], list[int]]) -> None:
    from assay.refine import refine

    sequence, entries, cuts = history
    entries = real(entries)
    for upto in cuts:
        put(made, entries, upto, sequence=sequence)
        refine("rows", files=made.files, catalog=made.catalog, ledger=made.ledger, engine=made.engine, run="run")
        same(made, entries[:upto], sequence=sequence)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(histories())
@pytest.mark.parametrize("where", [make, pytest.param(make_on_store, marks=pytest.mark.slow)])
@pytest.mark.parametrize("slow", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["duckdb", "slow"])
def test_any_history_any_grouping(where: Any, slow: bool, history: Any) -> None:
    root = Path(tempfile.mkdtemp())
    made = where(root / "lake")
    made = replace(made, engine=SlowEngine()) if slow else made
    try:
        fold(made, history)
        assert silver.head(silver.load(made.catalog, "rows").current).position == len(history[1])
    finally:
        made.close()
        shutil.rmtree(root)
