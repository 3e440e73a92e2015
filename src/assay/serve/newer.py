"""Rows that are not the newest word: a later record of theirs was rejected. Asked once a release, then looked up by key."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assay.lake import account
from assay.lake.release import Silver
from assay.ports import N
from assay.serve.newest import Place, Reading
from assay.serve.query import Ask, Table, needed, token

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Newer:
    """Of a table: what each row's later record is, by its key and place; of gold, how many such rows its inputs have.

    `known` is False where it could not be told in time, or where too many records are rejected.
    """

    rows: Mapping[tuple[str, ...], tuple[int, Mapping[str, Any]]]
    inputs: tuple[Mapping[str, Any], ...] = ()
    known: bool = True

    def of_page(self, table: Table, ask: Ask, found: Sequence[Sequence[Any]]) -> list[Mapping[str, Any]] | None:
        """What an answer says: of silver the marks of its rows, of gold those of its inputs; None where it is not known."""
        if not self.known:
            return None
        if table.zone == "gold":
            return list(self.inputs)
        return [one for one in self.of_rows(table, ask, found) if one]

    def of_rows(self, table: Table, ask: Ask, found: Sequence[Sequence[Any]]) -> list[Mapping[str, Any] | None]:
        """The mark of each row of silver, None where it has none; none at all where no row of the table has one."""
        if not self.rows:
            return []
        need = needed(table, ask)
        key = [need.index(k) for k in _key(table)]
        place = (need.index("_position"), need.index("_n")) if {"_position", "_n"} <= set(need) else None
        out: list[Mapping[str, Any] | None] = []
        for row in found:
            at, mark = self.rows.get(tuple(token(row[i]) for i in key), (0, None))
            # Of a key's versions, and at a moment, only the current one has it.
            its = place is None or row[place[0]] * N + row[place[1]] == at
            out.append(mark if its else None)
        return out


def _key(table: Table) -> tuple[str, ...]:
    """A row's key without what tells its versions apart."""
    return table.key[:-3] if table.whole else table.key


NONE, UNKNOWN = Newer({}), Newer({}, known=False)


async def newer(place: Place, reading: Reading, table: Table) -> Newer:
    """What rows of a table have a later record that was rejected; asked once for each state of a dataset."""
    if table.zone == "silver":
        return await _of_silver(place, reading, table.name.removesuffix("_versions") if table.whole else table.name)
    return await _once(reading, table.full, lambda: _of_gold(place, reading, table.name))


async def _of_silver(place: Place, reading: Reading, dataset: str) -> Newer:
    one = reading.release.dataset(dataset)
    return await _once(reading, f"silver.{dataset}", lambda: _asked(place, reading, one))


async def _once(reading: Reading, name: str, ask: Callable[[], Coroutine[Any, Any, Newer]]) -> Newer:
    known = reading.newer.get(name)
    if known is None:
        known = reading.newer[name] = asyncio.ensure_future(ask())
    # Who goes away takes the answer from nobody else.
    found: Newer = known.result() if known.done() else await asyncio.shield(known)
    return found


async def _of_gold(place: Place, reading: Reading, name: str) -> Newer:
    read = {one.table.partition(".")[2].removesuffix("_versions") for one in reading.release.table(name).inputs}
    known = {name: await _of_silver(place, reading, name) for name in sorted(read)}
    if not all(one.known for one in known.values()):
        return UNKNOWN
    inputs = [{"table": f"silver.{name}", "rows": len(one.rows)} for name, one in known.items() if one.rows]
    return Newer({}, tuple(inputs)) if inputs else NONE


async def _asked(place: Place, reading: Reading, one: Silver) -> Newer:
    sums = account.of(place.ledger, one.dataset)
    if sums.evidence == one.evidence and not sums.sum("quarantined") and not sums.sum("held"):
        return NONE
    if place.newer is None:
        return UNKNOWN
    try:
        found = await place.newest.mark(place.newer, reading.release, one.dataset)
    except Exception as error:  # noqa: BLE001 - whatever it was, the rows are served
        _log.warning("which rows of silver.%s have a newer record in quarantine is not told: %r", one.dataset, error)
        return UNKNOWN
    marks = {}
    for told in found:
        mark = {name: value for name, value in told.items() if name != "place"}
        marks[tuple(told["key"][k] for k in one.key)] = (told["place"], mark)
    return Newer(marks) if marks else NONE
