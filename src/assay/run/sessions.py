"""Which days came and went with what silver took in: the ledger's holes, brought up to the newest evidence."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from assay.contract.calendars import Calendar
from assay.contract.model import Contract
from assay.lake import account, bronze, coverage, duck, evidence, holes, silver, tables
from assay.lake.duck import ident
from assay.lake.evidence import Change, Evidence
from assay.lake.holes import Days
from assay.ports import Ledger, Relation, in_hundreds
from assay.run import newer, prove

if TYPE_CHECKING:
    from assay.run.lake import Lake

TOGETHER = 10_000
"""Lines of the quarantine that are read at once."""


def bring(lake: "Lake", contract: Contract, ledger: Ledger | None = None) -> None:
    """Bring the holes of a dataset up to silver's head; what a refine wrote is read, and all of silver only where nothing is known."""
    dataset, files = contract.dataset, lake.target.files
    ledger = ledger or lake.target.ledger
    named, calendar = holes.columns(contract), contract.calendar
    pair = silver.load(lake.target.catalog, dataset) if named else None
    if named is None or calendar is None or pair is None:
        return
    head = silver.head(pair.current)
    known = holes.number(ledger, contract)
    if known == head.number:
        return
    newest, _ = evidence.read(files, dataset, head.number, head.sha256)
    after = known if known >= newest.began else newest.began - 1
    since = [one for one, _ in evidence.since(files, dataset, after, None) if one.number <= head.number]
    days = holes.kept(ledger, contract) if known >= newest.began else None
    change = silver.merged(one.current for one in since) if any(one.kind == "refined" for one in since) else Change()
    if days is None or not all(map(files.exists, change.remove)):
        there = _there(lake, tables.relation(pair.current, silver.snapshot_id(pair.current), files), contract)
        days = {shard: Days(bits, (days or {}).get(shard, Days()).rejected) for shard, bits in there.items()} | {
            shard: Days(0, one.rejected) for shard, one in (days or {}).items() if shard not in there
        }
    else:
        layout = tables.layout(pair.current).columns
        came, went = (
            _there(lake, Relation(layout, tuple(map(files.url, names))), contract)
            for names in ([one.name for one in change.add], change.remove)
        )
        went = {shard: gone for shard, bits in went.items() if (gone := bits & ~came.get(shard, 0))}
        if went:  # a day may have more rows than those that went
            first = min(holes.days_of(calendar, bits)[0] for bits in went.values())
            last = max(holes.days_of(calendar, bits)[-1] for bits in went.values())
            rows = tables.relation(pair.current, silver.snapshot_id(pair.current), files, [{named[0]: (first, last)}])
            still = _there(lake, rows, contract)
            went = {shard: bits & ~still.get(shard, 0) for shard, bits in went.items()}
        for shard in came.keys() | went.keys():
            had = days.get(shard, Days())
            days[shard] = Days((had.present | came.get(shard, 0)) & ~went.get(shard, 0), had.rejected)
    for shard, bits in _rejected(lake, contract, calendar, named, since).items():
        had = days.get(shard, Days())
        days[shard] = Days(had.present, had.rejected | bits)
    covers = coverage.bring(partial(bronze.since, files, dataset), ledger, contract, keep=False).covers
    found = holes.found(contract, days, covers, account.of(ledger, dataset).open)
    for some in in_hundreds(holes.facts(contract, days, found, newest.at, head.number)):
        ledger.record(some)


def _there(lake: "Lake", rows: Relation, contract: Contract) -> dict[str, int]:
    """Of each shard the days that some rows are of."""
    calendar, named = contract.calendar, holes.columns(contract)
    if not rows.files or calendar is None or named is None:
        return {}
    day, shard = ident(named[0]), ident(named[1]) if named[1] else "'all'"
    first, n = f"DATE '{calendar.start}'", (calendar.end - calendar.start).days
    query = f"""SELECT {shard}, CAST(bitstring_agg(CAST({day} - {first} AS INTEGER), 0, {n - 1}) AS BLOB)
        FROM ({duck.relation(rows)}) WHERE {day} >= {first} AND {day} < DATE '{calendar.end}' GROUP BY 1"""
    with prove.opened(lake) as con:
        return {name: int.from_bytes(bits, "big") for name, bits in con.execute(query).fetchall()}


def _rejected(
    lake: "Lake", contract: Contract, calendar: Calendar, named: tuple[str, str], since: Iterable[Evidence]
) -> dict[str, int]:
    """Of each shard the days of rows in quarantine whose key can be read."""
    out: dict[str, int] = {}
    at = [contract.rest.index(name) for name in named if name]

    def take(lines: Sequence[bytes]) -> None:
        for key in newer.keys(lake, contract, lines).values():
            day, shard = key[at[0]], key[at[1]] if named[1] else "all"
            if calendar.start <= day < calendar.end:
                out[shard] = out.get(shard, 0) | 1 << holes.bit(calendar, day.toordinal())

    for one in since:
        lines: list[bytes] = []
        for rejected in evidence.rejected(lake.target.files, one.quarantine):
            lines.append(rejected.line)
            if len(lines) == TOGETHER:
                take(lines)
                lines = []
        if lines:
            take(lines)
    return out
