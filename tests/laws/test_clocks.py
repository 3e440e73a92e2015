"""Law 8, through real tables: the lake reads at any moment what it had by then, and what the public could know by then."""

import shutil
import tempfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from assay.lake.moment import moment as moment_sql
from assay.refine import refine
from tests.laws import test_silver as rows
from tests.laws.fold import log
from tests.laws.fold.log import histories
from tests.laws.fold.oracle import Oracle, Version
from tests.laws.lakes import STORES, Where
from tests.making import Made, every_type, record

COLUMNS = "sym, day, v, s, known, note"


def told(v: Version) -> tuple[Any, ...]:
    return v.row.sym, v.row.day, v.row.v, v.row.s, rows.moment(v.row.known_at), v.row.note


def word(story: list[Version], as_of: int) -> Version | None:
    """A key's story in its order of telling, read up to a moment: the last word by then."""
    found = None
    for v in story:
        if v.known_from <= as_of:
            found = v
        if found is v and v.known_to is not None and v.known_to <= as_of:
            found = None
    return found


def right(oracle: Oracle, recorded: int | None, as_of: int | None) -> Counter[tuple[Any, ...]]:
    """What is read of a log whose entries after a moment nobody has put yet."""
    current: dict[log.Any, Version] = oracle.current
    past = oracle.past
    if recorded is not None:
        current, past = {}, []
        for at, now, former in oracle.history:
            if at <= recorded:
                current, past = now, former
    if as_of is None:
        return Counter(map(told, current.values()))
    stories: dict[Any, list[Version]] = {}
    for v in sorted([*past, *current.values()], key=lambda v: v.place):
        stories.setdefault(v.row.key, []).append(v)
    return Counter(told(v) for story in stories.values() if (v := word(story, as_of)))


def read(
    made: Made, promised: Any, moments: list[tuple[int | None, int | None]]
) -> dict[Any, Counter[tuple[Any, ...]]]:
    """What the lake reads at many moments, in one question."""
    selects = [
        f"SELECT {n} AS _i, {COLUMNS} FROM versions WHERE {moment_sql(rows.moment(as_of), rows.moment(recorded))}"
        for n, (recorded, as_of) in enumerate(moments)
    ]
    found = made.rows(f"WITH versions AS MATERIALIZED ({made.select(promised)}) " + " UNION ALL ".join(selects))
    out: dict[Any, Counter[tuple[Any, ...]]] = {m: Counter() for m in moments}
    for n, *row in found:
        out[moments[n]][tuple(row)] += 1
    return out


@pytest.mark.slow
@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(histories())
@pytest.mark.parametrize("where", STORES)
def test_every_moment_reads_as_the_oracle_reads_it(
    where: Where, history: tuple[bool, list[log.Entry], list[int]]
) -> None:
    sequence, entries, _ = history
    entries = rows.real(entries)
    # Moments between the entries: what an `everything` folds anew, it folds with every entry's own time.
    last = entries[-1].at
    moments: list[tuple[int | None, int | None]] = [(None, None)]
    moments += [(None, t) for t in range(-1, last + 2, 2)] + [(r, None) for r in range(-1, last + 2, 2)]
    moments += [(r, t) for r in range(0, last + 2, 3) for t in range(0, last + 2, 3)]
    directory = Path(tempfile.mkdtemp())
    made = where(directory / "lake")
    try:
        rows.put(made, entries, len(entries), sequence=sequence)
        refine("rows", files=made.files, catalog=made.catalog, ledger=made.ledger, engine=made.engine, run="run")
        promised = rows.contract(log.Rules(), sequence=sequence)
        oracle = Oracle(sequence, entries)
        for at, found in read(made, promised, moments).items():
            assert found == right(oracle, *at), at
    finally:
        made.close()
        shutil.rmtree(directory)


def test_a_moment_without_a_zone_is_refused_and_any_zone_is_the_same_moment(made: Made) -> None:
    from assay.errors import UsageError

    contract = every_type()
    made.land(contract, [record(at='"2024-02-29T10:00:00Z"')])
    made.refine(contract)
    with pytest.raises(UsageError, match="does not say its time zone"):
        made.current(contract, as_of=datetime(2024, 2, 29, 10))  # noqa: DTZ001 - that is what is refused
    early, exact = datetime(2024, 2, 29, 9, 59, tzinfo=UTC), datetime.fromisoformat("2024-02-29T12:00:00+02:00")
    assert made.current(contract, "id", as_of=early) == []
    assert made.current(contract, "id", as_of=exact) == [("a",)]
    assert made.current(contract, "id, backfilled, known_basis", recorded_as_of=exact) == []
    assert made.current(contract, "id, backfilled, known_basis") == [("a", True, "vendor")]
