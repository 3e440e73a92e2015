"""Holes: sessions of the calendar, within what is landed and settled of a shard, that silver has no row of.

Days are bits of one number: the calendar's first day is the highest, its last one the lowest.
"""

import base64
import hashlib
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import msgspec
from isal import igzip

from assay.contract.calendars import Calendar
from assay.contract.model import Contract
from assay.errors import LakeDamaged
from assay.lake.account import Held
from assay.lake.coverage import CHUNKS, Cover, chunk_of
from assay.ports import Fact, Ledger
from assay.spoken import printable, some
from assay.windows import Duration, Spans

KEPT = 10_000
"""How many holes are kept one by one; the others are counted."""


@dataclass(frozen=True)
class Days:
    """Of one shard: the days that silver has a row of, and those that a row in quarantine is of."""

    present: int = 0
    rejected: int = 0


@dataclass(frozen=True)
class Found:
    """The sessions without a row, by shard: all are counted, and the first are there one by one."""

    calendar: str
    sessions: int = 0
    lacking: int = 0
    shards: Mapping[str, tuple[date, ...]] = field(default_factory=dict)

    @property
    def told(self) -> str:
        """How many, of how many shards, and an example."""
        shard, days = next(iter(self.shards.items()))
        more = ", …" if len(days) > 3 else ""
        of = "" if shard == "all" else f"{printable(shard)} "
        who = f", which {some(self.lacking, 'shard')} lack{'s' if self.lacking == 1 else ''}" if shard != "all" else ""
        return f"holes: {some(self.sessions, 'session')} of {self.calendar} without a row{who}, such as {of}{', '.join(map(str, days[:3]))}{more}"

    @property
    def data(self) -> dict[str, Any]:
        """As JSON has it."""
        days = {shard: [day.isoformat() for day in some] for shard, some in self.shards.items()}
        return {"calendar": self.calendar, "sessions": self.sessions, "lacking": self.lacking, "shards": days}

    def beyond(self, before: "Found | None") -> "Found":
        """Those that were not there before."""
        if before is None or before.calendar != self.calendar:
            return self
        had = {shard: set(days) for shard, days in before.shards.items()}
        new = {shard: tuple(d for d in days if d not in had.get(shard, ())) for shard, days in self.shards.items()}
        new = {shard: days for shard, days in new.items() if days}
        return Found(self.calendar, sum(map(len, new.values())), len(new), new)


def columns(contract: Contract) -> tuple[str, str] | None:
    """The columns of silver that hold the day and the shard ('' where there is but one); None if holes cannot be told.

    They are told of what has a calendar of the lake, and where the key has the shard's text.
    """
    day = next((rule.day for rule in contract.rules if rule.day), "")
    if not day or contract.calendar is None:
        return None
    if not contract.universe:
        return day, ""
    found = contract.shard_columns
    return (day, found[0].name) if len(found) == 1 else None


# ------------------------------------------------------------------ days as bits


def bit(calendar: Calendar, ordinal: int) -> int:
    """How far above the lowest bit a day stands."""
    return calendar.end.toordinal() - 1 - ordinal


def mask(calendar: Calendar, spans: Spans) -> int:
    """The days of spans, as far as the calendar speaks of them."""
    out = 0
    first, last = calendar.start.toordinal(), calendar.end.toordinal()
    for start, end in spans:
        a, b = max(start, first), min(end, last)
        if a < b:
            out |= (1 << (bit(calendar, a) + 1)) - (1 << (bit(calendar, b - 1)))
    return out


def days_of(calendar: Calendar, bits: int) -> tuple[date, ...]:
    """The days of a number, in their order."""
    out = []
    last = calendar.end - timedelta(1)
    while bits:
        low = bits & -bits
        out.append(last - timedelta(low.bit_length() - 1))
        bits ^= low
    return tuple(reversed(out))


def missing(calendar: Calendar, days: Days, settled: int) -> int:
    """The sessions between a shard's first and its last, of settled days, that no row and no rejected row is of."""
    there = days.present & calendar.number
    if not there:
        return 0
    between = (1 << there.bit_length()) - (there & -there)
    return calendar.number & between & settled & ~there & ~days.rejected


# ------------------------------------------------------------------ what is settled


def settled(contract: Contract, calendar: Calendar, cover: Cover | None, held: Iterable[Held]) -> int:
    """The days of one shard that are landed for good, without those of batches that are held."""
    if cover is None:
        return 0
    mine = list(held)
    if contract.window:
        out = mask(calendar, cover.settled)
        for one in mine:
            span = (date.fromisoformat(one.start).toordinal(), date.fromisoformat(one.end).toordinal())
            out &= ~mask(calendar, (span,))
        return out
    if mine:  # of the whole, and nothing of it is readable
        return 0
    young = Duration.parse(contract.settle).exact.days
    return mask(calendar, ((1, cover.days.asked - young),))


def found(contract: Contract, days: Mapping[str, Days], covers: Mapping[str, Cover], held: Collection[Held]) -> Found:
    """All holes of a dataset."""
    calendar = contract.calendar
    assert calendar  # noqa: S101 - `columns` was asked
    count = lacking = kept = 0
    shards: dict[str, tuple[date, ...]] = {}
    for shard in sorted(days):
        within = settled(contract, calendar, covers.get(shard), (one for one in held if one.shard == shard))
        lacks = missing(calendar, days[shard], within)
        if lacks:
            count, lacking = count + lacks.bit_count(), lacking + 1
            if kept < KEPT:
                shards[shard] = days_of(calendar, lacks)[: KEPT - kept]
                kept += len(shards[shard])
    return Found(calendar.name, count, lacking, shards)


# ------------------------------------------------------------------ as facts


def key(contract: Contract) -> str:
    """What holes are kept by: another calendar, or other columns, have others."""
    said = "\n".join((*(columns(contract) or ()), contract.calendar.text if contract.calendar else ""))
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def number(ledger: Ledger, contract: Contract) -> int:
    """The number of the evidence that the ledger's holes are of; 0 if there are none by this contract."""
    fact = ledger.newest("holes", contract.dataset, key(contract))
    return fact.version if fact else 0


def of(ledger: Ledger, contract: Contract) -> Found | None:
    """What the ledger has of a dataset's holes; None where there are none."""
    fact = ledger.newest("holes", contract.dataset, key(contract)) if columns(contract) else None
    if fact is None or not fact.body["sessions"]:
        return None
    body = fact.body
    shards = {shard: tuple(map(date.fromisoformat, days)) for shard, days in body["shards"].items()}
    return Found(body["calendar"], body["sessions"], body["lacking"], shards)


def kept(ledger: Ledger, contract: Contract) -> dict[str, Days]:
    """The days of each shard as the ledger has them."""
    out: dict[str, Days] = {}
    mine = key(contract)
    for chunk in range(CHUNKS):
        if fact := ledger.newest("days", contract.dataset, f"{mine}/{chunk:02}"):
            try:
                told = msgspec.json.decode(igzip.decompress(base64.b64decode(fact.body["shards"])))
                out |= {shard: Days(*(int(bits, 16) for bits in both)) for shard, both in told.items()}
            except (ValueError, TypeError, LookupError, OSError, EOFError, zlib.error) as error:
                raise LakeDamaged(
                    f"the ledger's days {contract.dataset} {fact.id} cannot be read ({error}); move the ledger away: it is an index "
                    "and is rebuilt from the lake"
                ) from error
    return out


def facts(contract: Contract, days: Mapping[str, Days], told: Found, at: datetime, evidence: int) -> Iterator[Fact]:
    """The days and the holes of a dataset as they are after one evidence."""
    mine = key(contract)
    parts: list[dict[str, tuple[str, str]]] = [{} for _ in range(CHUNKS)]
    for shard, one in sorted(days.items()):
        parts[chunk_of(shard)][shard] = (f"{one.present:x}", f"{one.rejected:x}")
    for chunk, part in enumerate(parts):
        text = base64.b64encode(igzip.compress(msgspec.json.encode(part), 1, mtime=0)).decode()
        yield Fact("days", contract.dataset, f"{mine}/{chunk:02}", at, {"shards": text}, evidence)
    yield Fact("holes", contract.dataset, mine, at, told.data, evidence)
