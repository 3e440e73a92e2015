"""What is current of the keys of rejected rows: said before the row, so that it may be out of date, or said since."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from assay.contract.model import Contract
from assay.lake import account, bronze, duck, silver, tables
from assay.lake.duck import ident
from assay.ports import N
from assay.run import prove

if TYPE_CHECKING:
    from assay.run.lake import Lake

TOGETHER = 10_000


def marked(lake: "Lake", dataset: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rejected rows of one dataset, each with `current`: the batch of its key's current row, and whether that is `newer`.

    None where the key cannot be read, or has no current row.
    """
    judges = prove.judges(lake, dataset) if rows else {}
    decided = {int(fact.id) for fact in lake.target.ledger.since("decided", dataset)} if rows else set()
    out: list[dict[str, Any]] = []
    for start in range(0, len(rows), TOGETHER):
        some = rows[start : start + TOGETHER]
        places = [_place(row) for row in some]
        known: dict[int, tuple[Any, ...]] = {}
        for sha256 in sorted({judges[place][0] for place in places if place in judges}):
            mine = [n for n, place in enumerate(places) if place in judges and judges[place][0] == sha256]
            lines = [b"" if "line:encoding" in some[n]["reasons"] else some[n]["line"].encode() for n in mine]
            read = keys(lake, bronze.pinned(lake.target.files, sha256), lines)
            known |= {mine[n]: key for n, key in read.items()}
        there = _current(lake, dataset, known)
        # What a decision judged again, be it in vain, was said where its batch lies.
        said_at = {place: _said_at(lake, dataset, place, decided) for place in there.values()}
        for n, row in enumerate(some):
            said = None
            if n in there:
                said = {"batch": account.spoken(there[n]), "newer": said_at[there[n]] > judges[places[n]][1]}
            out.append(row | {"current": said})
    return out


def _said_at(lake: "Lake", dataset: str, place: int, decided: Collection[int]) -> int:
    """The place at which a current row was said, which is not where it acts if a decision let it in."""
    if place // N not in decided:
        return place
    batch = bronze.read(lake.target.files, dataset, place // N).decisions[place % N].batch
    return batch[0] * N + batch[1] if batch else place


def _place(row: Mapping[str, Any]) -> int:
    position, _, n = row["batch"].partition(".")
    return int(position) * N + int(n)


def short(contract: Contract, key: tuple[Any, ...]) -> tuple[Any, ...]:
    """A key without what a line by itself does not say of it."""
    return tuple(value for k, value in zip(contract.key, key, strict=True) if k in contract.rest)


def keys(lake: "Lake", contract: Contract, lines: Sequence[bytes]) -> dict[int, tuple[Any, ...]]:
    """The keys (`Contract.rest`) of those lines that have a readable one: each is read as if the key were all that is promised."""
    of_key = tuple(column for column in contract.columns if column.name in contract.key)
    alone = replace(contract, columns=of_key, rules=(), unique=(), known_at=None, sequence=None, partition=None)
    found = lake.target.engine.rows(alone, lines)
    return {n: tuple(one[k] for k in contract.rest) for n, one in enumerate(found) if one}


def _current(lake: "Lake", dataset: str, keys: Mapping[int, tuple[Any, ...]]) -> dict[int, int]:
    """The place of the current row of each key that has one."""
    pair = silver.load(lake.target.catalog, dataset)
    if pair is None or not keys:
        return {}
    key = lake.contract(dataset).rest
    box = {k: (min(one[i] for one in keys.values()), max(one[i] for one in keys.values())) for i, k in enumerate(key)}
    rows = tables.relation(pair.current, silver.snapshot_id(pair.current), lake.target.files, [box])
    kinds = {name: kind for _, name, kind in rows.columns}
    same = " AND ".join(f"_c.{ident(k)} = _k.{ident(k)}" for k in key)
    with prove.opened(lake) as con:
        con.execute(f"CREATE TABLE _keys (_row BIGINT, {', '.join(f'{ident(k)} {kinds[k]}' for k in key)})")
        con.executemany(f"INSERT INTO _keys VALUES (?{', ?' * len(key)})", [(n, *values) for n, values in keys.items()])
        return dict(
            con.execute(
                f"SELECT _row, max(_c._position * {N} + _c._n) FROM ({duck.relation(rows)}) _c JOIN _keys _k ON {same} GROUP BY _row"
            ).fetchall()
        )
