"""Lakes of a few securities whose records were late, corrected, moved and withdrawn, and their momentum as it was known."""

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from itertools import accumulate, cycle, islice
from typing import Any

from hypothesis import strategies as st

Row = dict[str, Any]
Silver = Mapping[str, Sequence[Row]]
"""Per dataset the versions of its rows."""
YEARS = 4
"""That a lake has for itself: no session of another is within reach of its own."""
LOW, HIGH = 1e-12, 1e4
"""From which ratio on and below which one is told."""
MONEY = ("price_eod", "splits", "dividends")


@dataclass(frozen=True)
class Said:
    """What became of a record: said `late` hours late, `wrong` by a factor for some hours, or `gone` after some."""

    late: int = 0
    wrong: tuple[int, int] | None = None
    gone: int | None = None
    backfilled: bool = False


@dataclass(frozen=True)
class Listing:
    """A security: its sessions and closes, its events, and what became of some records."""

    first: int
    gaps: tuple[int, ...]
    closes: tuple[Decimal, ...]
    splits: tuple[tuple[int, int, int, Said], ...]
    dividends: tuple[tuple[int, int, Said], ...]
    told: tuple[tuple[int, Said], ...]
    renamed: int | None

    @property
    def days(self) -> list[int]:
        """The sessions as numbers of days."""
        return list(accumulate(self.gaps, initial=self.first))[:-1]


@dataclass(frozen=True)
class Lake:
    """Securities that are ranked among each other."""

    listings: tuple[Listing, ...]

    def smaller(self) -> Iterator["Lake"]:
        """The same with less in it."""
        for i, one in enumerate(self.listings):
            rest = (self.listings[:i], self.listings[i + 1 :])
            if len(self.listings) > 1:
                yield Lake(rest[0] + rest[1])
            size = len(one.closes)
            for less in {size // 2, size - 1} - {0, size}:
                yield Lake((*rest[0], replace(one, gaps=one.gaps[:less], closes=one.closes[:less]), *rest[1]))
            for name in ("splits", "dividends", "told"):
                some = getattr(one, name)
                for j in range(len(some)):
                    yield Lake((*rest[0], replace(one, **{name: some[:j] + some[j + 1 :]}), *rest[1]))
            if one.renamed is not None:
                yield Lake((*rest[0], replace(one, renamed=None), *rest[1]))

    @property
    def size(self) -> tuple[int, int]:
        """How much there is to read."""
        return sum(len(one.closes) for one in self.listings), len(str(self))

    def rows(self, number: int) -> dict[str, list[Row]]:
        """Its versions, in years of its own."""
        out: dict[str, list[Row]] = {name: [] for name in MONEY}
        for i, one in enumerate(self.listings):
            became = dict(one.told)
            for n, (day, close) in enumerate(zip(one.days, one.closes, strict=True)):
                row = _row(number, i, one, day)
                out["price_eod"] += versions(row, became.get(n % len(one.closes), Said()), 21, "close", close)
            for day, new, old, said in one.splits:
                row = _row(number, i, one, day) | {"denominator": Decimal(old)}
                out["splits"] += versions(row, said, 14, "numerator", Decimal(new))
            for day, cents, said in one.dividends:
                out["dividends"] += versions(_row(number, i, one, day), said, 14, "dividend", Decimal(cents) / 100)
        return out

    def changes(self, number: int) -> list[tuple[date, str, str]]:
        """Its symbols' changes."""
        return [
            (_day(number, one.renamed), symbol(number, i), symbol(number, i, "new"))
            for i, one in enumerate(self.listings) if one.renamed is not None
        ]  # fmt: skip


def _day(number: int, day: int) -> date:
    return date(1904 + YEARS * number, 1, 1) + timedelta(days=day)


def symbol(number: int, i: int, more: str = "") -> str:
    """The symbol of a lake's security, or its new one."""
    return f"L{number}.{i}{more}"


def _row(number: int, i: int, one: Listing, day: int) -> Row:
    new = one.renamed is not None and day >= one.renamed
    return {"date": _day(number, day), "symbol": symbol(number, i, "new" if new else ""), "security": (number, i)}


def versions(row: Row, said: Said, hour: int, name: str, value: Decimal) -> Iterator[Row]:
    """The versions of a record that could be known at an hour of its day."""
    day = row["date"]
    since = datetime(day.year, day.month, day.day, hour, tzinfo=UTC) + timedelta(hours=said.late)
    row = row | {"backfilled": said.backfilled}
    if said.wrong:
        hours, factor = said.wrong
        until = since + timedelta(hours=hours)
        yield row | {name: value * factor, "known_from": since, "known_to": until}
        since = until
    until = None if said.gone is None else since + timedelta(hours=said.gone)
    yield row | {name: value, "known_from": since, "known_to": until}


HOURS = st.sampled_from([1, 5, 30, 24 * 3, 24 * 40])
SAID = st.builds(
    Said,
    st.just(0) | HOURS,
    st.none() | st.tuples(HOURS, st.sampled_from([2, 3, 2, 0, -1])),
    st.none() | st.none() | HOURS,
    st.booleans(),
)


SHARES = st.sampled_from([1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 0])
PLACES = st.integers(0, 99)  # hundredths of a history, and a little more


def _listing(
    size: int, gaps: list[int], moves: list[int], first: int, close: int, splits: list[tuple[int, int, int, Said]],
    paid: list[tuple[int, int, Said]], told: list[tuple[int, bool, Said]], renamed: int | None,
) -> Listing:  # fmt: skip
    spans = tuple(islice(cycle(gaps), size))
    if sum(spans) > 900:
        spans = tuple(min(one, 70) for one in spans)
    closes = accumulate(
        islice(cycle(moves), size - 1),
        lambda close, percent: round(max(close, Decimal(1)) * (100 + percent) / 100, 6),
        initial=Decimal(close),
    )
    at = [first + place * (sum(spans) + 4) // 100 for place in range(100)]
    return Listing(
        first, spans, tuple(closes), tuple((at[place], *more) for place, *more in splits),
        tuple((at[place], *more) for place, *more in paid),
        tuple((size - 1 - place % 3 if late else place * size // 100, said) for place, late, said in told),
        None if renamed is None else at[renamed],
    )  # fmt: skip


def _listings(size: st.SearchStrategy[int], gaps: list[int], first: int) -> st.SearchStrategy[Listing]:
    return st.builds(
        _listing, size, st.lists(st.sampled_from(gaps), min_size=1, max_size=8),
        st.lists(st.integers(-3, 3) | st.integers(-20, 20), min_size=1, max_size=9), st.integers(0, first), st.integers(1, 90),
        st.lists(st.tuples(PLACES, SHARES, SHARES, SAID), max_size=3),
        st.lists(st.tuples(PLACES, st.integers(1, 99), SAID), max_size=3),
        st.lists(st.tuples(PLACES, st.booleans(), SAID), max_size=5), st.none() | st.none() | PLACES,
    )  # fmt: skip


def _lakes(one: st.SearchStrategy[Listing], fewest: int) -> st.SearchStrategy[Lake]:
    return st.builds(
        lambda some, twin: Lake((*some, *([replace(some[0], renamed=None)] if twin else []))),
        st.lists(one, min_size=fewest, max_size=3), st.booleans(),
    )  # fmt: skip


LONG = _lakes(_listings(st.integers(250, 285), [1, 1, 1, 1, 1, 1, 3, 2], 40), 2)
"""Two to four securities with a year and more of sessions; some are twins."""
SHORT = _lakes(_listings(st.integers(1, 12), [1, 1, 2, 10, 29, 70, 400], 100), 1)
"""A few sessions over some months."""


# --- what was known ---------------------------------------------------------------------------------------------


def next_month(month: date) -> date:
    return (month + timedelta(days=31)).replace(day=1)


def growths(sessions: Sequence[Row], splits: Iterable[Row], dividends: Iterable[Row]) -> list[float | None]:
    """What one unit held since the session before became, by its session; None for the first, and where it is no ratio."""
    days = [one["date"] for one in sessions]
    ratio, paid = [1.0] * len(days), [0.0] * len(days)
    for at, one in counted(days, splits):
        new, old = float(one["numerator"]), float(one["denominator"])
        ratio[at] *= new / old if new > 0 and old > 0 else 0.0
    for at, one in counted(days, dividends):
        paid[at] += float(one["dividend"])
    closes = [float(one["close"]) for one in sessions]
    found = [
        (closes[i] + paid[i]) * ratio[i] / closes[i - 1] if closes[i - 1] > 0 else 0.0 for i in range(1, len(days))
    ]
    return [None, *(one if LOW <= one < HIGH else None for one in found)]


def counted(days: Sequence[date], events: Iterable[Row]) -> Iterator[tuple[int, Row]]:
    """The events with the place of the session that each counts on: the first on or after its day."""
    for one in events:
        at = bisect_left(days, one["date"])
        if at < len(days) and (at or one["date"] == days[0]):
            yield at, one


def known(rows: Iterable[Row], when: datetime) -> list[Row]:
    return [r for r in rows if r["known_from"] <= when and (r["known_to"] is None or when < r["known_to"])]


def figures(rows: Silver, month: date, cutoff: datetime) -> Row | None:
    """One security's figures of a month from what was known at a moment; None without a session in that month."""
    oldest, end = month - timedelta(days=400), next_month(month)
    close = {r["date"]: r for r in known((r for r in rows["price_eod"] if oldest < r["date"] < end), cutoff)}
    if not close or max(close) < month:
        return None
    oldest = max(close) - timedelta(days=400)
    sessions = [close[day] for day in sorted(close) if day > oldest]
    splits, dividends = known(rows["splits"], cutoff), known(rows["dividends"], cutoff)
    # The oldest session's own growth is never asked for: 252 back is a base, not a return.
    growth = growths(sessions, splits, dividends)[-253:]
    days, unused = [one["date"] for one in sessions], max(0, len(sessions) - 253)
    went_in = [*sessions[unused:], *(e for at, e in counted(days, [*splits, *dividends]) if at >= unused)]

    def total(of: Sequence[float | None]) -> float | None:
        ratio = 0.0 if None in of else math.prod(one or 0.0 for one in of)
        return ratio - 1 if LOW <= ratio < HIGH else None

    return {
        "symbol": sessions[-1]["symbol"],
        "momentum_12_1": total(growth[-252:-21]) if len(growth) == 253 else None,
        "momentum_6_1": total(growth[-126:-21]) if len(growth) >= 127 else None,
        "sessions_used": len(growth),
        "backfilled": any(r["backfilled"] for r in went_in),
    }


def momentum(securities: Mapping[Any, Silver]) -> dict[tuple[Any, date], Row]:
    """Per security and its own last session of each month, only from what was known at its close."""
    out: dict[tuple[Any, date], Row] = {}

    @cache
    def at(security: Any, month: date, cutoff: datetime) -> Row | None:
        return figures(securities[security], month, cutoff)

    for security, rows in securities.items():
        months: dict[date, list[Row]] = defaultdict(list)
        for r in rows["price_eod"]:
            months[r["date"].replace(day=1)].append(r)
        for month, mine in months.items():
            end = max(r["date"] for r in mine)
            cutoff = min(r["known_from"] for r in mine if r["date"] == end)
            row = dict(at(security, month, cutoff) or {}) | {"known_from": cutoff, "rank": None}
            if row["momentum_12_1"] is not None:
                peers = [f["momentum_12_1"] for one in securities if (f := at(one, month, cutoff))]
                row["rank"] = 1 + sum(p is not None and p > row["momentum_12_1"] + 1e-11 for p in peers)
            out[security, end] = row
    return out


def of_securities(rows: Silver) -> dict[Any, dict[str, list[Row]]]:
    """The rows of a lake by their security."""
    out: dict[Any, dict[str, list[Row]]] = defaultdict(lambda: {name: [] for name in MONEY})
    for name in MONEY:
        for r in rows[name]:
            out[r["security"]][name].append(r)
    return out


def wrong(expected: Mapping[tuple[Any, date], Row], found: Mapping[tuple[Any, date], Row]) -> str:
    """The first row of a lake that is not what was known; nothing if all are."""
    if expected.keys() != found.keys():
        return f"rows of {sorted(found.keys() ^ expected.keys())} are too many or too few"
    for key, row in expected.items():
        for name, value in row.items():
            told = found[key][name]
            near = name.startswith("momentum") and None not in (told, value)
            if abs(float(told) - value) > 1e-11 * max(1, abs(value)) if near else told != value:
                return f"{key}: {name} is {told}, not {value}"
    return ""
