"""Half-open days and durations."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta

from assay.errors import UsageError

_DURATION = re.compile(r"P(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?")


@dataclass(frozen=True)
class Duration:
    """An ISO 8601 duration: calendar months and exact time are kept apart."""

    months: int = 0
    exact: timedelta = timedelta()

    @classmethod
    def parse(cls, text: str) -> "Duration":
        """Read `P10Y`, `P7D`, `PT15M`.

        >>> Duration.parse("P1Y2DT3H")
        Duration(months=12, exact=datetime.timedelta(days=2, seconds=10800))
        """
        found = _DURATION.fullmatch(text)
        if not found or not any(found.groups()):
            raise UsageError(f"{text!r} is not an ISO 8601 duration such as P10Y, P7D or PT15M")
        if any(len(part or "") > 5 for part in found.groups()):
            raise UsageError(f"{text!r} is longer than any history; say something such as P10Y, P7D or PT15M")
        y, mo, w, d, h, mi, s = (int(part or 0) for part in found.groups())
        if y > 1000:
            raise UsageError(f"{text!r} is longer than any history; say something such as P10Y, P7D or PT15M")
        return cls(12 * y + mo, timedelta(weeks=w, days=d, hours=h, minutes=mi, seconds=s))


@dataclass(frozen=True, order=True)
class Window:
    """Days from `start` up to, but without, `end`.

    >>> str(Window(date(2024, 1, 2), date(2024, 1, 3)))
    '2024-01-02..2024-01-03'
    """

    start: date
    end: date

    def __post_init__(self) -> None:
        if self.end <= self.start:
            raise UsageError(f"window {self.start}..{self.end} holds no day")

    def __str__(self) -> str:
        return f"{self.start}..{self.end}"

    @classmethod
    def parse(cls, text: str) -> "Window":
        """Read `2024-01-02..2024-02-01` (the end is not part of it)."""
        try:
            start, end = (date.fromisoformat(part) for part in text.split(".."))
        except ValueError as error:
            raise UsageError(f"{text!r} is not a window such as 2024-01-02..2024-02-01") from error
        return cls(start, end)

    def overlap(self, other: "Window") -> "Window | None":
        """The days both hold, if any."""
        start, end = max(self.start, other.start), min(self.end, other.end)
        return Window(start, end) if start < end else None

    def grid(self, step: Duration) -> Iterator["Window"]:
        """The cells that hold this window, cut by `step` on a grid that never moves.

        Months count from year 1, days from 1970-01-05 (a Monday); so two windows that share a day name its
        cell alike, whatever their starts.
        """
        cell = cell_of(self.start, step)
        while cell.start < self.end:
            yield cell
            cell = cell_of(cell.end, step)


def cell_of(day: date, step: Duration) -> Window:
    """The cell of the fixed grid that holds `day`.

    >>> str(cell_of(date(2013, 3, 1), Duration.parse("P10Y")))
    '2010-01-01..2020-01-01'
    """
    if step.months and not step.exact:
        index = (day.year * 12 + day.month - 1) // step.months * step.months
        start = date(index // 12, index % 12 + 1, 1) if index >= 12 else date(1, 1, 1)
        following = index + step.months
        return Window(start, date(following // 12, following % 12 + 1, 1))
    if step.exact and not step.months and step.exact == timedelta(days=step.exact.days):
        origin = date(1970, 1, 5)
        start = origin + timedelta(days=(day - origin).days // step.exact.days * step.exact.days)
        return Window(start, start + timedelta(days=step.exact.days))
    raise UsageError("a window is cut in whole months or in whole days, not both: P1Y, P3M, P7D")


Spans = tuple[tuple[int, int], ...]
"""Days as ordinals, from a start up to, but without, an end: in order, none touching the next."""


def joined(spans: Iterable[tuple[int, int]]) -> Spans:
    """Days that any of these holds.

    >>> joined([(5, 9), (1, 3), (3, 4)])
    ((1, 4), (5, 9))
    """
    out: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((start, end))
    return tuple(out)


def without(whole: Spans, less: Spans) -> Spans:
    """The days of `whole` that `less` does not hold.

    >>> without(((1, 9),), ((2, 3), (8, 12)))
    ((1, 2), (3, 8))
    """
    out: list[tuple[int, int]] = []
    for start, end in whole:
        at = start
        for a, b in less:
            if b <= at:
                continue
            if a >= end:
                break
            if a > at:
                out.append((at, a))
            at = b
        if at < end:
            out.append((at, end))
    return tuple(out)
