"""Rows by hand: a person says that one current row is another, or that it is none, and what is wrong with that is said before."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from ulid import ULID

from assay.contract.model import Column, Contract
from assay.errors import LakeBusy, UsageError
from assay.lake import account, bronze, duck, silver, tables
from assay.lake.bronze import Decision
from assay.lake.files import scratch_directory
from assay.lake.release import Column as Shown
from assay.lake.silver import Pair
from assay.ports import N
from assay.refine.history import by_hand, hand_line
from assay.run import loop, prove
from assay.run.explain import find, named, no_row, render
from assay.spoken import each, is_text

if TYPE_CHECKING:
    from assay.refine import Refined
    from assay.run.lake import Lake

_TEXTS = ("string", "date", "timestamp")
_NOTHING = (b"", b"null")


@dataclass(frozen=True)
class ByHand:
    """What a decision about a row did: its key, per column what was and what is, and the refine that took it in."""

    dataset: str
    key: Mapping[str, str | None]
    changed: Mapping[str, tuple[str | None, str | None]]
    refined: "Refined"

    @property
    def told(self) -> str:
        """It as a line."""
        changed = ", ".join(f"{name} {_word(old)} → {_word(new)}" for name, (old, new) in self.changed.items())
        return f"{self.dataset} {', '.join(f'{k}={v}' for k, v in self.key.items())}: {changed or 'removed'}"


def _word(value: str | None) -> str:
    return "null" if value is None else value or '""'


def correct(
    lake: "Lake", dataset: str, key: Mapping[str, str], values: Mapping[str, str | None], who: str, why: str
) -> ByHand:
    """See `Lake.correct`."""
    contract = lake.contract(dataset)
    if not values:
        raise UsageError("nothing to correct: say what a column should be by --set column=value, or --null column")
    for name in values:
        if name not in (one.name for one in contract.columns):
            raise UsageError(f"{dataset} has no column {name!r}; it has {', '.join(c.name for c in contract.columns)}")
        if name in contract.key:
            raise UsageError(
                f"{name} is of the key of {dataset}: another key is another row; `decide remove` takes this one"
            )
    pair, seen = ready(lake, contract)
    row = _current(lake, contract, pair, key)
    record = _record(lake, dataset, row)
    for name, value in values.items():
        record = _set(record, contract.column(name), value)
    act = Decision("upsert", record=record.decode(), seen=seen)
    after = _judged(lake, contract, act, row, values)
    refined = _decided(lake, contract, act, who, why)
    changed = {name: (render(row[name]), render(after[name])) for name in values}
    return ByHand(dataset, {k: render(row[k]) for k in contract.key}, changed, refined)


def remove(lake: "Lake", dataset: str, key: Mapping[str, str], who: str, why: str) -> ByHand:
    """See `Lake.remove`."""
    contract = lake.contract(dataset)
    pair, seen = ready(lake, contract)
    row = _current(lake, contract, pair, key)
    act = Decision("delete", record=_record(lake, dataset, row).decode(), seen=seen)
    _refused(lake, contract, act)
    refined = _decided(lake, contract, act, who, why)
    return ByHand(dataset, {k: render(row[k]) for k in contract.key}, {}, refined)


# ------------------------------------------------------------------ what is there


def ready(lake: "Lake", contract: Contract) -> tuple[Pair, int]:
    """Silver's tables, and the position that they were folded to: what is decided about is what the log says by now."""
    t, dataset = lake.target, contract.dataset
    loop.brought(lake, dataset)
    pair, standing = silver.load(t.catalog, dataset), account.of(t.ledger, dataset)
    force = t.ledger.newest("contract", dataset)
    if pair is None or force is None:
        raise UsageError(f"nothing of {dataset} is refined yet, so there is no row to decide about")
    head = silver.head(pair.current)
    if force.body["sha256"] != contract.sha256 or head.position < standing.landed.get("to_fold", 0):
        raise UsageError(
            f"silver.{dataset} is behind its log or its contract: `assay apply {dataset}` first, so that you decide about "
            "what is current"
        )
    return pair, head.position


def _current(lake: "Lake", contract: Contract, pair: Pair, key: Mapping[str, str]) -> dict[str, Any]:
    row = _row(lake, contract, pair, key)
    if row is None:
        raise no_row(f"silver.{contract.dataset}", key)
    for name in contract.key:
        if contract.column(name).ordinal and row[name] != 1:
            raise UsageError(
                f"{name} counts the records of an answer, and a record by itself is the first of them: row {row[name]} of a key "
                "can only be mended at its source"
            )
    return row


def _row(lake: "Lake", contract: Contract, pair: Pair, key: Mapping[str, str]) -> dict[str, Any] | None:
    """The current row of a key, with what silver says of it; UsageError for what is no key."""
    named(f"silver.{contract.dataset}", contract.key, key)
    rows = tables.relation(pair.current, silver.pinned(pair.current)[0], lake.target.files)
    columns = [Shown(name, kind) for _, name, kind in rows.columns]
    with prove.opened(lake) as con:
        return find(con, f"({duck.relation(rows)})", columns, contract.key, key)


def _record(lake: "Lake", dataset: str, row: Mapping[str, Any]) -> bytes:
    """The record that a current row was made of, token for token."""
    files, n = lake.target.files, row["_n"]
    entry = bronze.read(files, dataset, row["_position"])
    if entry.kind == "decided":
        decision = entry.decisions[n]
        if decision.batch is None:
            return (decision.record or "{}").encode()
        entry, n = bronze.read(files, dataset, decision.batch[0]), decision.batch[1]
    line = bronze.line(files, entry, n, row["_seq"])[2]
    return line.split(b'"_record":', 1)[1][:-1]


# ------------------------------------------------------------------ the record as it should be


def _set(record: bytes, column: Column, value: str | None) -> bytes:
    """The record with a column's value, written where it stands there now; every other token stays."""
    there = [path for path in column.origins if _at(record, path) not in _NOTHING]
    if value is None:
        for path in there:
            record = _put(record, path, b"null")
        return record
    path = (there or column.origins)[0]
    return _put(record, path, _token(column, value, _at(record, path)))


def _at(record: bytes, path: Sequence[str]) -> bytes:
    """The token at a path; empty where there is none."""
    for name in path:
        try:
            record = bytes(msgspec.json.decode(record, type=dict[str, msgspec.Raw])[name])
        except (msgspec.DecodeError, KeyError):  # no object there, or no such field
            return b""
    return record


def _put(record: bytes, path: Sequence[str], token: bytes) -> bytes:
    """The record with another token at a path; what is no object on the way becomes one."""
    try:
        fields = {k: bytes(v) for k, v in msgspec.json.decode(record, type=dict[str, msgspec.Raw]).items()}
    except msgspec.DecodeError:
        fields = {}
    name, *rest = path
    fields[name] = _put(fields.get(name, b""), rest, token) if rest else token
    return b"{" + b",".join(msgspec.json.encode(k) + b":" + v for k, v in fields.items()) + b"}"


def _token(column: Column, value: str, there: bytes) -> bytes:
    """A value as a token: a text where the record has one, else exactly as it was typed."""
    if not is_text(value):
        raise UsageError(f"the value of {column.name} is no text in UTF-8")
    if not (there.startswith(b'"') or (column.kind in _TEXTS and there in _NOTHING)):
        try:
            token = bytes(msgspec.json.format(value.strip().encode(), indent=-1))
            msgspec.json.decode(token, type=msgspec.Raw)
        except (msgspec.DecodeError, RecursionError):
            if column.kind not in _TEXTS:
                raise UsageError(f"{column.name}={value} is no {column.kind}: write it as JSON does") from None
        else:
            return token
    return msgspec.json.encode(value)


# ------------------------------------------------------------------ whether it can be decided


def _judged(
    lake: "Lake", contract: Contract, act: Decision, row: Mapping[str, Any], values: Mapping[str, str | None]
) -> Mapping[str, Any]:
    """The row that a corrected record gives; UsageError where the contract refuses it, or it is not what was asked for."""
    _refused(lake, contract, act)
    [after] = lake.target.engine.rows(contract, [hand_line(act, 0)])
    if after is None:
        raise UsageError(f"the corrected record is no row of {contract.dataset}")
    columns = [one.name for one in contract.columns if one.name in after]
    differs = [name for name in columns if after[name] != row[name]]
    if same := [name for name in values if name not in differs]:
        raise UsageError(
            f"{same[0]} is {_word(render(row[same[0]]))} already, or its record says so at another place too"
        )
    if others := [name for name in differs if name not in values]:
        raise UsageError(
            f"{others[0]} would become {_word(render(after[others[0]]))} too, since both are read from one place; "
            f"say it as well: --set {others[0]}=…"
        )
    order = contract.sequence
    if order and row[order] is not None and not after[order] > row[order]:
        raise UsageError(
            f"a row of {contract.dataset} takes another's place by a later {order} alone: set it too, to more than "
            f"{render(row[order])}"
        )
    return after


def _refused(lake: "Lake", contract: Contract, act: Decision) -> None:
    """UsageError with the reasons for which the contract rejects the record of an act."""
    with (
        scratch_directory(lake.target.files) as scratch,
        lake.target.engine.group(contract, [by_hand(act, N, N, scratch)]) as group,
    ):
        counted = group.judged()[N]
    if counted.quarantined or counted.rows != 1:
        raise UsageError(
            f"the contract of {contract.dataset} refuses the row: {each(dict(counted.reasons)) or 'no row'}"
        )


def _decided(lake: "Lake", contract: Contract, act: Decision, who: str, why: str) -> "Refined":
    """Put the act, unless its author has not seen all that silver follows from; and fold it."""
    t = lake.target

    def hear(entry: bronze.Entry) -> None:
        if bronze.folded(entry):
            raise LakeBusy(
                f"{contract.dataset} has an entry {entry.position} meanwhile, which may speak of this row: nothing was put; look at "
                "the row again, and decide anew"
            )

    bronze.decide(t.files, t.ledger, contract.dataset, [act], who=who, why=why, hear=hear)
    return loop.refine(lake, contract.dataset, str(ULID()))


_PAIR = re.compile(r"([^=]+)=(.*)", re.DOTALL)


def pairs(given: Sequence[str], what: str) -> dict[str, str]:
    """`column=value` as a mapping; UsageError, which names `what` is given so, for anything else and for a column twice."""
    out: dict[str, str] = {}
    for one in given:
        found = _PAIR.fullmatch(one)
        if found is None:
            raise UsageError(f"{one!r}: give {what} as column=value, for example date=2005-02-28")
        if found[1] in out:
            raise UsageError(f"{found[1]} is given twice")
        out[found[1]] = found[2]
    return out
