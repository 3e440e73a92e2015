"""Securities with any prices and events, and what their daily figures are, in plain Python."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, localcontext
from functools import cache
from itertools import accumulate, cycle, islice
from typing import Any

from hypothesis import strategies as st

Event = tuple[int, Decimal, Decimal, bool]
"""The day, new shares for old ones, and whether it stands or was withdrawn; a dividend has its amount and 1."""


@dataclass(frozen=True)
class Security:
    """A close a session, which is some days after the one before, and events whose days may be no session."""

    gaps: tuple[int, ...]
    closes: tuple[Decimal, ...]
    splits: tuple[Event, ...] = ()
    dividends: tuple[Event, ...] = ()

    @property
    def days(self) -> list[int]:
        """The sessions as numbers of days."""
        return list(accumulate(self.gaps))

    def times(self, factor: Decimal) -> "Security":
        """The same in another unit."""
        paid = tuple((day, amount * factor, one, stands) for day, amount, one, stands in self.dividends)
        return replace(self, closes=tuple(c * factor for c in self.closes), dividends=paid)

    @property
    def size(self) -> tuple[int, int]:
        """How much there is to read."""
        return len(self.closes), len(str(self))

    def smaller(self) -> Iterator["Security"]:
        """The same with less in it."""
        for size in {1, len(self.closes) // 2, len(self.closes) - 1} - {0, len(self.closes)}:
            yield replace(self, gaps=self.gaps[:size], closes=self.closes[:size])
            yield replace(self, gaps=self.gaps[-size:], closes=self.closes[-size:])
        for name in ("splits", "dividends"):
            told = getattr(self, name)
            for i in range(len(told)):
                yield replace(self, **{name: told[:i] + told[i + 1 :]})


SHARES = [(1, 1), (2, 1), (3, 2), (1, 25), (1, 1000), (7, 1), (1000, 1), (10**6, 999_999)]
VALUES = [Decimal(n) for n in ("0", "-3", "-0.01", "1e-9", "0.0001", "5", "70", "100000", "1e12")]


ONE = Decimal(1)
# Strategies are made once: what hypothesis checks of each new one costs more than all that is drawn.
PLACES = st.integers(0, 99)  # hundredths of a history, and a little more
PERCENTS = st.integers(-9, 9) | st.sampled_from([0, -50, -90, 100, 900])


def _traded(
    size: int, gaps: list[int], moves: list[int], first: int,
    splits: list[tuple[int, tuple[int, int], bool, bool]], paid: list[tuple[int, int, bool]],
) -> Security:  # fmt: skip
    gaps, moves = list(islice(cycle(gaps), size)), list(islice(cycle(moves), size))
    span = sum(gaps) + 5
    events = [(place * span // 100 - 2, *shares, stands) for place, shares, stands, _ in splits]
    events += [one for one, (*_, twice) in zip(events, splits, strict=True) if twice]
    same = {mills: on for mills, (on, *_) in enumerate(events * 20)}  # many a dividend comes with a split
    close, closes, day = Decimal(first), [], 0
    for gap, percent in zip(gaps, moves, strict=True):
        last, day = day, day + gap
        for on, new, old, stands in events:
            if stands and last < on <= day and closes:
                close = close * old / new
        change = -abs(percent) if close > 10**6 or (percent < 0 and close > 1) else abs(percent)
        close = min(max(close * (100 + change) / 100, Decimal("0.000001")), Decimal(10**9))
        closes.append(round(close, 8))
    return Security(
        tuple(gaps), tuple(closes),
        tuple((on, Decimal(new), Decimal(old), stands) for on, new, old, stands in events),
        tuple((same.get(mills, place * span // 100 - 2), Decimal(mills) / 1000, ONE, stands) for place, mills, stands in paid),
    )  # fmt: skip


STANDS = st.sampled_from([True, True, True, False])
TRADED = st.builds(
    _traded, st.integers(1, 110), st.lists(st.sampled_from([1, 1, 1, 1, 3, 4]), min_size=1, max_size=9),
    st.lists(PERCENTS, min_size=1, max_size=30), st.integers(1, 500),
    st.lists(st.tuples(PLACES, st.sampled_from(SHARES), STANDS, STANDS.map(lambda one: not one)), max_size=8),
    st.lists(st.tuples(PLACES, st.integers(1, 99), STANDS), max_size=6),
)  # fmt: skip
"""Closes that move by percents and follow the splits, of any total ratio; several events on a day; days without a session."""


def _any(
    size: int, closes: list[Decimal], splits: list[tuple[int, Decimal, Decimal]], paid: list[tuple[int, Decimal]]
) -> Security:
    return Security(
        (1,) * size, tuple(islice(cycle(closes), size)),
        tuple((place * (size + 2) // 100, new, old, True) for place, new, old in splits),
        tuple((place * (size + 2) // 100, amount, ONE, True) for place, amount in paid),
    )  # fmt: skip


COMMON = st.sampled_from([Decimal(n) for n in ("1", "7", "1e9", "1e-6", "1e11")])
RARE = COMMON | st.sampled_from([Decimal(0), Decimal(-2)])
ODDLY = st.builds(
    _any, st.integers(1, 70), st.lists(st.sampled_from(VALUES), min_size=1, max_size=60),
    st.lists(st.tuples(PLACES, COMMON, COMMON), max_size=9) | st.lists(st.tuples(PLACES, RARE, RARE), max_size=3),
    st.lists(st.tuples(PLACES, st.sampled_from(VALUES)), max_size=4),
)  # fmt: skip
"""Prices and events that no market has: nothing, less than nothing, enormous and tiny ones."""

SMALL, LARGE = Decimal("0.0001"), Decimal(70)


def _odd(closes: Sequence[Decimal], *splits: tuple[int, int, int]) -> Security:
    return Security(
        (1,) * len(closes), tuple(closes), tuple((day, Decimal(new), Decimal(old), True) for day, new, old in splits)
    )


ODD = [
    _odd([Decimal("1e-9"), Decimal(10) ** 15, Decimal(0), Decimal(-3), Decimal(-5), Decimal(5)], *[(1, 1, 10**9)] * 9),
    _odd([SMALL] * 30 + [Decimal(30)] * 30),
    _odd([SMALL, LARGE] * 30),
    _odd([SMALL] * 20 + [Decimal(100000)] * 30, (20, 10**7, 1)),
    _odd([ONE] * 40, (5, 10**8, 1), (9, 1, 10**7), (9, 1, 10**6)),
    _odd([Decimal(10) ** -(n // 3) for n in range(54)]),
    _odd([ONE] * 60, *[(day, 10**11, 1) for day in range(40)]),
    _odd([ONE] * 30, (3, 0, 1), (4, 1, 0)),
]

Range = tuple[float, float] | None
"""Between which numbers a figure is; None where it is null."""


@cache
def figures(one: Security) -> list[dict[str, list[Range]]]:
    """Of each session what each figure may be: more than one answer where its ratio is at the edge of what is told."""
    out: list[dict[str, list[Range]]] = []
    days, returns, told, held, summed = one.days, [], [], [], []
    shares, index, peak, defined = Decimal(1), 1.0, 1.0, [True]
    for i, (day, close) in enumerate(zip(days, one.closes, strict=True)):
        mine = [
            [e for e in some if e[3] and (e[0] == day or (i and days[i - 1] < e[0] < day))]
            for some in (one.splits, one.dividends)
        ]
        with localcontext(prec=60):
            ratio = _product(mine[0])
            paid = sum((e[1] for e in mine[1]), Decimal(0))
            before = one.closes[i - 1] if i else Decimal(0)
            gross = (close + paid) * ratio / before if i and ratio and before > 0 else None
            shares = shares * ratio if shares and ratio else None
            held.append(close * shares / one.closes[0] if shares and one.closes[0] else None)
            summed.append(_within(held[-1], 1e-16, 1e10))
        told.append(_within(gross, 1e-12, 1e4))
        returns.append(None if gross is None else float(gross) - 1)
        if i:
            defined = _all([defined, told[-1]])
        if True in defined and gross is not None:
            index *= float(gross)
            peak = max(peak, index)
        row = {
            "split_factor": _told(ratio and float(ratio), _within(ratio, 1e-12, 1e4), 1e-12),
            "return_1d": _told(returns[-1], told[-1], 1.1e-12),
            "total_return_index": _told(index, _all([defined, _within(index, 1e-8, 1e15)]), 1e-12, 1e-11),
            "drawdown": _told(index / peak - 1, defined, 2e-12),
        }
        for size in (20, 50):
            last = held[-size:]
            mean = None if i + 1 < size or None in last or not shares else sum(last) / size / shares * one.closes[0]
            all_of = _all([*summed[-size:], _within(mean, 1e-9, 1e15)])
            row[f"sma_{size}"] = _told(mean and float(mean), all_of, 1e-9, 1e-9)
        out.append(row)
    for i, row in enumerate(out):
        last = [] if i < 20 else range(i - 19, i + 1)
        value = None
        if last and None not in (some := [returns[j] for j in last]):
            mean = math.fsum(some) / 20
            value = math.sqrt(math.fsum((x - mean) ** 2 for x in some) / 19 * 252)
        row["volatility_20"] = _told(value, _all([told[j] for j in last]) if last else [False], 1e-10, 1e-10)
    return out


def _product(splits: Sequence[Event]) -> Decimal | None:
    """New shares for an old one; None where a split says no number of them."""
    if any(new <= 0 or old <= 0 for _, new, old, _ in splits):
        return None
    return math.prod((new for _, new, _, _ in splits), start=Decimal(1)) / math.prod(
        (old for _, _, old, _ in splits), start=Decimal(1)
    )


def _within(value: Decimal | float | None, low: float, high: float) -> list[bool]:
    """Whether it is from `low` to below `high`; both where it is so near that rounding decides."""
    if value is None or value <= 0:
        return [False]
    x = float(value)
    return [True, False] if min(abs(x / low - 1), abs(x / high - 1)) < 1e-9 else [low <= x < high]


def _all(answers: Sequence[Sequence[bool]]) -> list[bool]:
    """Whether all hold, where some may be either."""
    return [False] if [False] in answers else [True, False] if any(len(one) > 1 for one in answers) else [True]


def _told(value: float | None, defined: Sequence[bool], absolute: float, relative: float = 1e-14) -> list[Range]:
    """The answers there may be: the value, none, or both."""
    return [
        (value - absolute - abs(value) * relative, value + absolute + abs(value) * relative)
        if one and value is not None
        else None
        for one in sorted(set(defined))
    ]


def wrong(one: Security, rows: Sequence[dict[str, Any]]) -> str:
    """The first figure of a security that is not what it must be; nothing if all are."""
    if len(rows) != len(one.closes):
        return f"{len(rows)} rows of {len(one.closes)} sessions"
    for i, (row, expected) in enumerate(zip(rows, figures(one), strict=True)):
        for name, answers in expected.items():
            found = row[name]
            if not any(
                found is None if a is None else found is not None and a[0] <= float(found) <= a[1] for a in answers
            ):
                return f"session {i}: {name} is {found}, not {answers}"
    return ""
