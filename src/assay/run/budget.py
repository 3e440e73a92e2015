"""What a plan's landings cost before they are asked, and what of them a source still permits today."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from decimal import Decimal
from math import ceil
from typing import TYPE_CHECKING, Any

from assay.clock import now
from assay.plan import Land, Step
from assay.ports import Fact, Ledger
from assay.spoken import some

if TYPE_CHECKING:
    from assay.run.lake import Lake

PAGE = 200


@dataclass(frozen=True)
class Share:
    """What a plan asks of one source.

    Attributes:
        calls: one a window at least; an answer of several pages is more.
        minutes: at the rate that the settings permit.
        calls_per_day: the source's quota by the settings, if it has one.
        today: calls of what was landed since midnight in UTC, by whomever; None without a quota.
    """

    calls: int
    minutes: float
    calls_per_day: int | None = None
    today: int | None = None

    @property
    def left(self) -> int | None:
        """Calls that are left today; None without a quota."""
        return None if self.calls_per_day is None else max(0, self.calls_per_day - (self.today or 0))

    @property
    def days(self) -> int:
        """Days of quota, today's among them."""
        if self.left is None or self.calls_per_day is None:
            return 1
        return 1 + max(0, ceil((self.calls - self.left) / self.calls_per_day))

    def told(self, source: str) -> str:
        """The quota in a line; nothing where there is none."""
        if self.calls_per_day is None:
            return ""
        return (
            f"{source} permits {some(self.calls_per_day, 'call')} a day, {self.today} are used today: "
            f"{some(self.calls, 'call')} at least take {some(self.days, 'day')}"
        )


def shares(lake: "Lake", steps: Sequence[Step]) -> dict[str, Share]:
    """What steps ask of each source; nothing but the ledger is read."""
    from assay.land import settings_of

    calls: dict[str, int] = {}
    for step in steps:
        if isinstance(step, Land):
            source = lake.contract(step.dataset).source
            calls[source] = calls.get(source, 0) + 1
    out = {}
    for source, number in calls.items():
        settings = settings_of(source, lake.target.settings.sources)
        quota = settings.calls_per_day
        today = None if quota is None else used(lake, source, now().date())
        out[source] = Share(number, number * settings.per / 60 / settings.requests, quota, today)
    return out


def cost(lake: "Lake", steps: Sequence[Step]) -> dict[str, Any]:
    """See `Lake.cost`."""
    by = shares(lake, steps)
    sizes = [step.bytes for step in steps if isinstance(step, Land)]
    money: dict[str, Decimal] = {}
    for step in steps:
        if isinstance(step, Land) and (price := lake.contract(step.dataset).price):
            money[price[1]] = money.get(price[1], Decimal(0)) + price[0]
    return {
        "calls": sum(one.calls for one in by.values()),
        "minutes": sum((one.minutes for one in by.values()), 0.0),
        "money": money,
        "bytes": None if None in sizes else sum(size or 0 for size in sizes),
        "sources": {name: asdict(one) | {"days": one.days, "told": one.told(name)} for name, one in by.items()},
    }


def within(lake: "Lake", steps: Sequence[Step], by: Mapping[str, Share]) -> list[Step]:
    """The steps without the landings that no quota has room for today: the first days of all shards come first."""
    left = {source: one.left for source, one in by.items()}
    out: list[Step] = []
    for step in sorted(steps, key=_begins):
        if isinstance(step, Land):
            source = lake.contract(step.dataset).source
            room = left[source]
            if room == 0:
                continue
            left[source] = None if room is None else room - 1
        out.append(step)
    return out


def _begins(step: Step) -> date:
    if not isinstance(step, Land):
        return date.max
    return step.window.start if step.window else date.min


def used(lake: "Lake", source: str, day: date) -> int:
    """Calls of the entries that were landed on a day, in the datasets of a source."""
    used = 0
    for dataset, contract in lake.contracts.items():
        if contract.source == source:
            used += sum(fact.body.get("calls", 0) for fact in _of_day(lake.target.ledger, dataset, day))
    return used


def _of_day(ledger: Ledger, dataset: str, day: date) -> list[Fact]:
    """A dataset's entries since a day's midnight, read from its newest on."""
    tail = ledger.newest("tail", dataset)
    end = tail.body["position"] if tail else 0
    out: list[Fact] = []
    while end > 0:
        begin = max(0, end - PAGE)
        some_ = [one for one in ledger.since("entry", dataset, f"{begin:09}") if int(one.id) <= end]
        mine = [one for one in some_ if one.at.date() >= day]
        out += mine
        if len(mine) < len(some_):
            break
        end = begin
    return out
