"""Which windows are asked together: what a backfill names, its days, and the plan's landings in chunks."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from math import ceil

from assay.contract.model import Contract
from assay.errors import UsageError
from assay.plan import Land
from assay.windows import Window

FEWEST, MOST = 50, 200
"""Windows of a chunk: a task run costs the server as much as some tens of windows cost here, and is what is retried."""


@dataclass(frozen=True)
class Chunk:
    """Windows of one dataset that are asked together, in one task run, and become one landing."""

    dataset: str
    steps: tuple[Land, ...]

    @property
    def span(self) -> Window | None:
        """From the first day of its windows to the last; None where they have none."""
        windows = [step.window for step in self.steps if step.window]
        return Window(min(w.start for w in windows), max(w.end for w in windows)) if windows else None

    def __str__(self) -> str:
        return f"{self.dataset} {self.span}" if self.span else self.dataset

    def still(self, missing: Iterable[Land]) -> list[Land]:
        """Of what is missing, the steps of this chunk: those that share a shard and days with one of its own."""
        mine: dict[str, list[Window | None]] = {}
        for step in self.steps:
            mine.setdefault(step.shard, []).append(step.window)
        return [
            one for one in missing
            if one.dataset == self.dataset
            and any(w is None or one.window is None or w.overlap(one.window) for w in mine.get(one.shard, ()))
        ]  # fmt: skip


def cut(steps: Iterable[Land], start: date, days: int) -> list[Chunk]:
    """Landings in chunks: those whose windows begin in the same `days` days, counted from `start`, are asked together.

    Fewer than FEWEST are joined with the next days', more than MOST are cut; a dataset's last chunk may be smaller.
    """
    by: dict[str, list[Land]] = {}
    for step in steps:
        by.setdefault(step.dataset, []).append(step)
    return [
        Chunk(dataset, tuple(part)) for dataset, mine in by.items() for part in _parts(mine, start, days)
    ]  # fmt: skip


def _parts(steps: Sequence[Land], start: date, days: int) -> Iterator[Sequence[Land]]:
    def begins(step: Land) -> date:
        return max(start, step.window.start) if step.window else start

    ordered = sorted(steps, key=lambda step: (begins(step), step.shard))
    waiting: list[Land] = []
    for _, some in groupby(ordered, lambda step: (begins(step) - start).days // days):
        waiting += some
        if len(waiting) >= FEWEST:
            yield from _even(waiting)
            waiting = []
    yield from _even(waiting)


def _even(steps: Sequence[Land]) -> Iterator[Sequence[Land]]:
    """Parts of at most MOST, alike in size."""
    number = ceil(len(steps) / MOST)
    for n in range(number):
        yield steps[n * len(steps) // number : (n + 1) * len(steps) // number]


def named(contracts: Mapping[str, Contract], source: str) -> list[str]:
    """The datasets that `source` names: one dataset, or all of a source (`fmp`, `source:fmp`); UsageError if there is none."""
    if source in contracts:
        return [source]
    found = [name for name, contract in contracts.items() if contract.source == source.removeprefix("source:")]
    if not found:
        sources = dict.fromkeys(contract.source for contract in contracts.values())
        raise UsageError(
            f"no dataset and no source {source!r}; this lake has {', '.join(contracts)}, of {', '.join(sources)}"
        )
    return found


def days(start: datetime, end: datetime, now: datetime) -> Window:
    """The days from `start` up to `end`, in UTC; of a day that `end` cuts, the whole. UsageError for none, or days to come."""
    start, end = _utc(start), _utc(end)
    if end <= start:
        raise UsageError(
            f"{start:%Y-%m-%d %H:%M}..{end:%Y-%m-%d %H:%M} holds no day: end_date must be after start_date"
        )
    if end > now:
        raise UsageError(f"end_date {end:%Y-%m-%d %H:%M} is in the future; now it is {now:%Y-%m-%d %H:%M} UTC")
    return Window(start.date(), (end + timedelta(days=1, microseconds=-1)).date())


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
