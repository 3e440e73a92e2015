"""What a plan's landings cost before they are asked, and what of them a source still permits today."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from decimal import Decimal
from math import ceil
from typing import TYPE_CHECKING, Any

from assay.clock import now
from assay.errors import UsageError
from assay.plan import Land, Step
from assay.ports import Fact, Ledger
from assay.settings import size
from assay.spoken import some, volume

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
        bytes: a guess, the mean of all that was landed for each; of what was never landed nobody knows, and it counts nothing.
        bytes_per_30_days: the source's quota by the settings, if it has one.
        lately: bytes of what was landed today and in the 29 days before, by whomever; None without a quota.
    """

    calls: int
    minutes: float
    calls_per_day: int | None = None
    today: int | None = None
    bytes: int = 0
    bytes_per_30_days: int | None = None
    lately: int | None = None

    @property
    def room(self) -> int | None:
        """Bytes that may come yet; None without a quota."""
        return None if self.bytes_per_30_days is None else max(0, self.bytes_per_30_days - (self.lately or 0))

    @property
    def beyond(self) -> bool:
        """Whether it is more than the quotas have left today."""
        return self.days > 1 or (self.room is not None and (not self.room or self.bytes > self.room))

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
        """The quotas in a line; nothing where there are none."""
        said = []
        if self.calls_per_day is not None:
            said.append(
                f"{source} permits {some(self.calls_per_day, 'call')} a day, {self.today} are used today: "
                f"{some(self.calls, 'call')} at least take {some(self.days, 'day')}"
            )
        if self.bytes_per_30_days is not None:
            came = f"{volume(self.lately or 0)} came"
            said.append(
                f"{source} permits {volume(self.bytes_per_30_days)} in 30 days, {came}: about {volume(self.bytes)} more are known to come"
            )
        return "; ".join(said)


def shares(lake: "Lake", steps: Sequence[Step]) -> dict[str, Share]:
    """What steps ask of each source; nothing but the ledger is read."""
    from assay.land import settings_of

    sizes: dict[str, list[int]] = {}
    for step in steps:
        if isinstance(step, Land):
            sizes.setdefault(lake.contract(step.dataset).source, []).append(step.bytes or 0)
    out = {}
    for source, found in sizes.items():
        settings = settings_of(source, lake.target.settings.sources)
        quota, most, today = settings.calls_per_day, settings.bytes_per_30_days, now().date()
        out[source] = Share(
            calls=len(found),
            minutes=len(found) * settings.per / 60 / settings.requests,
            calls_per_day=quota,
            today=None if quota is None else used(lake, source, today),
            bytes=sum(found),
            bytes_per_30_days=None if most is None else size(most),
            lately=None if most is None else used(lake, source, today - timedelta(days=29), "bytes"),
        )
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
        "sources": {
            name: asdict(one) | {"days": one.days, "beyond": one.beyond, "told": one.told(name)}
            for name, one in by.items()
        },
    }


def fits(lake: "Lake", steps: Sequence[Step], by: Mapping[str, Share]) -> None:
    """UsageError for a landing that is more than a whole quota: no day has room for it."""
    for step in steps:
        if isinstance(step, Land):
            source = lake.contract(step.dataset).source
            whole = by[source].bytes_per_30_days
            if whole is not None and (step.bytes or 0) > whole:
                raise UsageError(
                    f"{step.id} is about {volume(step.bytes or 0)}, and {source} permits {volume(whole)} in 30 days: raise "
                    "bytes_per_30_days, or say a shorter window in the contract"
                )


def within(lake: "Lake", steps: Sequence[Step], by: Mapping[str, Share]) -> list[Step]:
    """The steps without the landings that no quota has room for today: the first days of all shards come first."""
    left = {source: one.left for source, one in by.items()}
    rooms = {source: one.room for source, one in by.items()}
    out: list[Step] = []
    for step in sorted(steps, key=_begins):
        if isinstance(step, Land):
            source = lake.contract(step.dataset).source
            calls, room, needs = left[source], rooms[source], step.bytes or 0
            if calls == 0 or (room is not None and (not room or needs > room)):
                continue
            left[source] = None if calls is None else calls - 1
            rooms[source] = None if room is None else room - needs
        out.append(step)
    return out


def _begins(step: Step) -> date:
    if not isinstance(step, Land):
        return date.max
    return step.window.start if step.window else date.min


def used(lake: "Lake", source: str, since: date, what: str = "calls") -> int:
    """Calls, or bytes, of the entries that were landed since a day began, in the datasets of a source."""
    used = 0
    for dataset, contract in lake.contracts.items():
        if contract.source == source:
            used += sum(fact.body.get(what, 0) for fact in _since(lake.target.ledger, dataset, since))
    return used


def _since(ledger: Ledger, dataset: str, day: date) -> list[Fact]:
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
