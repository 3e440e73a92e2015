"""The fold in plain Python, for the slow engine: one act and one row at a time, by the words of the rules."""

import calendar
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from ulid import ULID

from assay.contract.model import Contract
from assay.ports import Act, Folded, Layout, N, Observed, Parquet, Relation, Scope
from assay.sqltypes import SqlType
from assay.windows import Duration

Key = tuple[Any, ...]
Row = dict[str, Any]
_CAST = {
    "integer": int, "number": Decimal, "date": date.fromisoformat, "timestamp": datetime.fromisoformat,
    "boolean": "true".__eq__, "string": str, "json": str,
}  # fmt: skip
_KINDS = {
    "VARCHAR": pa.string(), "BIGINT": pa.int64(), "INTEGER": pa.int32(), "BOOLEAN": pa.bool_(), "DATE": pa.date32(),
    "TIMESTAMPTZ": pa.timestamp("us", "UTC"),
}  # fmt: skip


@dataclass(frozen=True)
class Said:
    """A line as the fold takes it: `u` a good row, `d` a deletion, `q` one in quarantine, `h` a mere key."""

    op: str
    key: Key
    seq: int
    values: Row


@dataclass
class SlowFold:
    """What silver holds of some keys, act after act.

    Attributes:
        now: the current row by key; `_file` is where it lies, None if it is new.
        last: the newest former row by key.
        former: the rows that went to past.
        seen, absences: per key the greatest origin that had it; (origin, scope) of withdrawals that took place.
        pending: by origin, whether its withdrawals are held.
    """

    contract: Contract
    now: dict[Key, Row]
    last: dict[Key, Row]
    former: list[Row] = field(default_factory=list)
    seen: dict[Key, int] = field(default_factory=dict)
    absences: list[tuple[int, Scope]] = field(default_factory=list)
    pending: dict[int, bool] = field(default_factory=dict)

    @classmethod
    def of(cls, contract: Contract, current: Relation, past: Relation) -> "SlowFold":
        """What two relations hold."""
        former = sorted(read(past), key=lambda row: (row["_position"], row["_n"], row["_seq"]))
        return cls(
            contract, {key(contract, row): row for row in read(current)}, {key(contract, row): row for row in former}
        )

    def act(self, act: Act, rows: Sequence[Said], observed: Observed) -> Folded:
        """Take one act in; what came of it."""
        done: Counter[str] = Counter()
        scope = None if act.scope is None else typed(self.contract, act.scope)
        there = [k for k in self.now if scope is not None and inside(self.contract, k, scope)]
        rows = [Said("h", one.key, one.seq, {}) for one in rows] if act.absent else rows
        if act.origin != act.place:
            for k, origin in observed.newest(list({*(one.key for one in rows if one.op != "h"), *there})).items():
                self.see(k, origin)
        has = {one.key for one in rows}
        gone = [k for k in there if k not in has and not self.newer(k, act.origin)]
        for one in sorted(rows, key=lambda one: one.seq):
            if one.op == "q":
                self.see(one.key, act.origin)
            elif one.op != "h":
                what = self.put(one, act, anew=bool(gone)) if one.op == "u" else self.delete(one.key, act)
                done.update([what, "accepted"] if what == "changed" else [what])
        if scope is None or (act.absent and self.pending.get(act.origin) is False):
            return Folded(done)
        self.pending[act.origin] = pending = act.blocked or (
            len(gone) >= act.least and len(gone) * 100 > act.limit * len(there)
        )
        if not pending:
            for k in gone:
                self.close(k, act.captured_at, act.captured_at)
                self.see(k, act.origin)
            self.absences.append((act.origin, scope))
            done["withdrawn"] += len(gone)
        return Folded(done, pending)

    def put(self, one: Said, act: Act, *, anew: bool) -> str:
        """Let a good row in, or say why not; `anew`: its answer lacks something that was there."""
        now, late = self.now.get(one.key), self.newer(one.key, act.origin)
        last = now or self.last.get(one.key)
        if sequence := self.contract.sequence:
            late = last is not None and one.values[sequence] <= last[sequence]
        self.see(one.key, act.origin)
        if now and now["_hash"] == one.values["_hash"]:
            return "unchanged"
        if late:
            return "superseded"
        at, known_at = act.captured_at, one.values["known_at"]
        vendor = at if known_at is None else min(known_at, at)
        before = last and last["known_at"]
        later = last is None or (known_at is not None and before is not None and known_at > before)
        later = later and not (anew and last is None)
        known_from = max([vendor if later else at, *([last.get("known_to") or last["known_from"]] if last else [])])
        if now:
            self.close(one.key, known_from, at)
        self.now[one.key] = one.values | {
            "known_from": known_from, "known_basis": "vendor" if known_at is not None and known_from == vendor else "captured",
            "backfilled": known_at is not None and settled(known_at, self.contract.settle, at), "captured_at": at,
            "_position": act.place // N, "_n": act.place % N, "_seq": one.seq, "_file": None,
        }  # fmt: skip
        return "changed" if now else "accepted"

    def delete(self, k: Key, act: Act) -> str:
        """Withdraw one key by hand, unless it was seen since."""
        if self.newer(k, act.origin):
            return "superseded"
        there = k in self.now
        self.close(k, act.captured_at, act.captured_at)
        self.see(k, act.origin)
        return "withdrawn" if there else "unchanged"

    def close(self, k: Key, known_to: datetime, recorded_to: datetime) -> None:
        """What was current went to past."""
        if row := self.now.pop(k, None):
            self.last[k] = row | {"known_to": known_to, "recorded_to": recorded_to}
            self.former.append(self.last[k])

    def see(self, k: Key, origin: int) -> None:
        """A key was said, or found absent."""
        self.seen[k] = max(self.seen.get(k, -1), origin)

    def newer(self, k: Key, origin: int) -> bool:
        """Whether something was said of a key that counts more."""
        return self.seen.get(k, -1) > origin or any(
            o > origin and inside(self.contract, k, s) for o, s in self.absences
        )

    def leaving(self) -> list[str]:
        """The files of current that hold rows which went to past."""
        return sorted({row["_file"] for row in self.former if row["_file"]})

    def rows(self, what: str) -> list[Row]:
        """Those to write to `current`, the rest of the leaving files among them, or to `past`."""
        leaving = {None, *self.leaving()}
        return self.former if what == "past" else [row for row in self.now.values() if row["_file"] in leaving]


def key(contract: Contract, row: Mapping[str, Any]) -> Key:
    """A row's key."""
    return tuple(row[c] for c in contract.key)


def typed(contract: Contract, scope: Scope) -> Scope:
    """A scope whose ends may be texts, with the values they spell."""
    kinds = {c: contract.column(c).kind for c in scope}
    return {c: tuple(_CAST[kinds[c]](v) if isinstance(v, str) else v for v in ends) for c, ends in scope.items()}  # type: ignore[misc,operator]


def inside(contract: Contract, k: Key, scope: Scope) -> bool:
    """Whether a key lies within a scope."""
    named = dict(zip(contract.key, k, strict=True))
    return all(low <= named[c] <= high for c, (low, high) in scope.items())


def settled(known_at: datetime, settle: str, at: datetime) -> bool:
    """Whether a moment is later than `settle` after another: months on the calendar first, then the rest."""
    lag = Duration.parse(settle)
    month = known_at.year * 12 + known_at.month - 1 + lag.months
    try:
        year, month = month // 12, month % 12 + 1
        day = min(known_at.day, calendar.monthrange(year, month)[1])
        return at > known_at.replace(year=year, month=month, day=day) + timedelta(0, lag.exact.total_seconds())
    except (OverflowError, ValueError, calendar.IllegalMonthError):
        return False


def read(relation: Relation) -> list[Row]:
    """The rows of a relation's files, each with its `_file`: columns by field id, those that a file lacks are None."""
    out = []
    for url in relation.files:
        table = pq.read_table(pa.BufferReader(Path(url.removeprefix("file://")).read_bytes()))
        there = {int((f.metadata or {})[b"PARQUET:field_id"]): table.column(f.name).to_pylist() for f in table.schema}
        columns = [there.get(i, [None] * table.num_rows) for i, _, _ in relation.columns]
        names = [name for _, name, _ in relation.columns]
        out += [dict(zip(names, values, strict=True)) | {"_file": url} for values in zip(*columns, strict=True)]
    return out


def write(layout: Layout, rows: Sequence[Row], scratch: Path) -> list[Parquet]:
    """Rows as parquet files of a layout, one a partition."""
    fields = [pa.field(name, kind(k), metadata={"PARQUET:field_id": str(i)}) for i, name, k in layout.columns]
    cut: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        cut.setdefault(partition(layout.partition, row), []).append(row)
    scratch.mkdir(parents=True, exist_ok=True)
    out = []
    for value, some in cut.items():
        path = scratch / f"{ULID()}.parquet"
        pq.write_table(pa.Table.from_pylist(some, pa.schema(fields)), path, compression="zstd")
        out.append(Parquet(path, len(some), path.stat().st_size, value))
    return out


def kind(spelt: str) -> pa.DataType:
    """A type as DuckDB spells it, as arrow has it."""
    found = SqlType.parse(spelt)
    return pa.decimal128(found.precision, found.scale) if found.decimal else _KINDS[found.name]


def partition(by: tuple[str, str] | None, row: Row) -> tuple[Any, ...]:
    """The value of a row's partition, as Iceberg has it: years and months since 1970, or the column's own."""
    if by is None:
        return ()
    value, how = row[by[0]], by[1]
    if how == "value" or value is None:
        return (value,)
    years = value.year - 1970
    return (years if how == "year" else years * 12 + value.month - 1,)
