"""Where a rejected record and a current row have one key: which of the two was said later, for lists and for those who serve."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import duckdb

from assay import fence, targets
from assay.lake import account, bronze, duck, silver, tables
from assay.lake.duck import ident
from assay.lake.files import scratch_directory
from assay.lake.release import Release
from assay.ports import N
from assay.refine.history import History, Timeline
from assay.run import newer, prove
from assay.run.explain import render
from assay.serve.reader import Reader
from assay.settings import size

if TYPE_CHECKING:
    from assay.run.lake import Lake

TOGETHER, MOST, DEADLINE = 10_000, 50_000, 30.0
Key = tuple[Any, ...]


# ------------------------------------------------------------------ rows of a release


def asked(lake: "Lake", found: Release, dataset: str) -> list[dict[str, Any]]:
    """What `rows` says, by a process of its own: fence.Late if it takes longer than DEADLINE, fence.Spent if too much."""
    t = lake.target
    its = (t.name, t.settings, lake.contracts, lake.universes)
    with (
        scratch_directory(t.files) as work,
        fence.asked(
            "assay.run.marked", "told", its, found, dataset, timeout=DEADLINE, memory=2 * size(t.limits.memory),
            work=work,
        ) as said,
    ):  # fmt: skip
        return list(said)


def told(its: tuple[Any, ...], found: Release, dataset: str) -> Iterator[dict[str, Any]]:
    """What `rows` says of a lake that is opened for it."""
    name, settings, contracts, universes = its
    from assay.run.lake import Lake

    with Lake(targets.open(name, settings), contracts, universes) as lake:
        yield from rows(lake, found, dataset)


def rows(lake: "Lake", found: Release, dataset: str) -> list[dict[str, Any]]:
    """The current rows of a release's dataset whose newer record was rejected: `key` as texts, `place`, and that record.

    A row is named by its key and by the place that brought it. UsageError where more than MOST records are rejected.
    """
    t, read = lake.target, found.dataset(dataset)
    history = History.upto(t.files, t.ledger, read)
    rejected = newer.every(lake, history, MOST) if read.evidence else {}
    if not rejected:
        return []
    reader = Reader(t.files, found, t.limits)
    kinds = {name: column.type for name, column in reader.tables["silver", dataset].columns.items()}
    contract = history.timeline.by_position(history.timeline.contracts[-1][0])[1]
    short = list(rejected)
    with reader.connect() as con:
        there = _current(con, f"silver.{ident(dataset)}", read.key, contract.rest, kinds, dict(enumerate(short)))
    decided = _decided(lake, dataset)
    places, late = {}, {}
    for n, key, place in there:
        if rejected[short[n]][0] > _said_at(lake, dataset, place, decided):
            places[key], late[key] = place, rejected[short[n]]
    again = newer.repeated(lake, history, {key: origin for key, (origin, *_) in late.items()})
    return [
        {
            "key": {k: render(value) for k, value in zip(read.key, key, strict=True)}, "place": places[key],
            "batch": account.spoken(batch), "held": held,
            "captured_at": render(bronze.read(t.files, dataset, batch // N).captured_at), "reasons": list(reasons),
        }
        for key, (origin, batch, held, reasons) in sorted(late.items())
        if again.get(key, 0) <= origin
    ]  # fmt: skip


# ------------------------------------------------------------------ rejected rows


def listed(lake: "Lake", dataset: str, rejected: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rejected rows of one dataset, each with `current`: the batch that said what is current of its key, and whether that is `newer`.

    A batch that said it again counts. None where the key cannot be read, or has no current row.
    """
    judges = prove.judges(lake, dataset) if rejected else {}
    decided = _decided(lake, dataset) if rejected else set()
    out: list[dict[str, Any]] = []
    for start in range(0, len(rejected), TOGETHER):
        some = rejected[start : start + TOGETHER]
        places = [_place(row) for row in some]
        known: dict[int, Key] = {}
        for sha256 in sorted({judges[place][0] for place in places if place in judges}):
            mine = [n for n, place in enumerate(places) if place in judges and judges[place][0] == sha256]
            lines = [b"" if "line:encoding" in some[n]["reasons"] else some[n]["line"].encode() for n in mine]
            read = newer.keys(lake, bronze.pinned(lake.target.files, sha256), lines)
            known |= {mine[n]: key for n, key in read.items()}
        newest: dict[int, tuple[int, Key]] = {}
        for n, key, place in _now(lake, dataset, known):
            newest[n] = max(newest.get(n, (0, key)), (place, key))
        # What a decision judged again, be it in vain, was said where its batch lies.
        said = {n: _said_at(lake, dataset, place, decided) for n, (place, _) in newest.items()}
        older = {n: judges[places[n]][1] for n in newest if said[n] <= judges[places[n]][1]}
        since: dict[Key, int] = {}
        for n, place in older.items():
            since[newest[n][1]] = min(place, since.get(newest[n][1], place))
        history = _history(lake, dataset)
        late = newer.newer(lake, history, {newest[n][1]: said[n] for n in older})
        again = newer.repeated(lake, history, {key: place for key, place in since.items() if key not in late})
        for n, row in enumerate(some):
            current = None
            if n in newest:
                place, key = newest[n]
                repeated = again.get(key, 0) if n in older else 0
                place = repeated if n in older and repeated > older[n] else place
                current = {"batch": account.spoken(place), "newer": n not in older or repeated > older[n]}
            out.append(row | {"current": current})
    return out


def _history(lake: "Lake", dataset: str) -> History:
    t = lake.target
    return History(t.files, t.ledger, dataset, False, Timeline.read(t.files, t.ledger, dataset))


def _place(row: Mapping[str, Any]) -> int:
    position, _, n = row["batch"].partition(".")
    return int(position) * N + int(n)


def _now(lake: "Lake", dataset: str, keys: Mapping[int, Key]) -> list[tuple[int, Key, int]]:
    """The current rows of silver as it stands now that have one of these keys: its number, their whole key and place."""
    pair = silver.load(lake.target.catalog, dataset)
    if pair is None or not keys:
        return []
    contract = lake.contract(dataset)
    box = {
        k: (min(one[i] for one in keys.values()), max(one[i] for one in keys.values()))
        for i, k in enumerate(contract.rest)
    }
    found = tables.relation(pair.current, silver.snapshot_id(pair.current), lake.target.files, [box])
    kinds = {name: kind for _, name, kind in found.columns}
    with prove.opened(lake) as con:
        return _current(con, f"({duck.relation(found)})", contract.key, contract.rest, kinds, keys)


# ------------------------------------------------------------------ both


def _current(
    con: duckdb.DuckDBPyConnection, relation: str, key: Sequence[str], rest: Sequence[str], kinds: Mapping[str, str],
    keys: Mapping[int, Key],
) -> list[tuple[int, Key, int]]:  # fmt: skip
    """The rows of a relation that have one of these keys, which lack what counts the records of a batch."""
    given = ", ".join(f"unnest(CAST(? AS {kinds[k]}[])) AS {ident(k)}" for k in rest)
    same = " AND ".join(f"_c.{ident(k)} = _k.{ident(k)}" for k in rest)
    columns = ", ".join(f"_c.{ident(k)}" for k in key)
    values = [list(keys), *([one[i] for one in keys.values()] for i in range(len(rest)))]
    found = con.execute(
        f"SELECT _k._row, _c._position * {N} + _c._n, {columns} FROM {relation} _c "
        f"JOIN (SELECT unnest(CAST(? AS BIGINT[])) AS _row, {given}) _k ON {same}",
        values,
    ).fetchall()
    return [(n, tuple(whole), place) for n, place, *whole in found]


def _decided(lake: "Lake", dataset: str) -> set[int]:
    """The positions of the decisions about rows and batches."""
    return {int(fact.id) for fact in lake.target.ledger.since("decided", dataset)}


def _said_at(lake: "Lake", dataset: str, place: int, decided: set[int]) -> int:
    """The place at which a current row was said, which is not where it acts if a decision let it in, or a person wrote it."""
    if place // N not in decided:
        return place
    one = bronze.read(lake.target.files, dataset, place // N).decisions[place % N]
    return one.batch[0] * N + one.batch[1] if one.batch else one.seen * N + N - 1
