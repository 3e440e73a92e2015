"""Source to bronze: ask, judge the answer, write it down once; what is asked together becomes one entry."""

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from assay import clock
from assay.contract.model import Column, Contract
from assay.errors import AssayError, ContractError, KeyRefused, LakeBusy, SettingsError, SourceSuspect, UsageError
from assay.lake import bronze, coverage
from assay.lake.bronze import Asked, Batch, Entry
from assay.lake.landing import Landing
from assay.land.pace import size
from assay.land.running import together, waited
from assay.land.source import Ask, Original, Page, Request, Source, SourceSettings, load
from assay.ports import Files, Ledger, Secrets
from assay.windows import Window

ASKS, BYTES, SECONDS = 2_000, 256 * 2**20, 60.0
"""A slice takes no further asks once it has so many, so many bytes of lines, or is so old."""
LEASE = timedelta(minutes=10)
AHEAD, MOST = 2.0, 64
"""Leases are taken ahead for the asks of so many seconds, which a process that is killed leaves taken, and for so many at most."""
AGED = 60.0
"""Seconds after which a lease that was taken ahead is looked at again."""
ASTRAY = timedelta(hours=2)
PAUSE = 0.5
"""Seconds between two looks whether a run may go on."""
STOPS = 30.0
"""Seconds that asks on their way have, once their run is to stop."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """One batch to land: the window it claims, and the days to ask for (None: the source takes no dates)."""

    contract: Contract
    shard: str
    window: Window
    days: Window | None


@dataclass(frozen=True)
class Landed:
    """What came of one shard's window: a batch and its entry's position, or the error that kept it out.

    Both are there where the entry is put and the ledger could not be told; the next look at the log tells it.
    `asked` is false for what was not begun any more: its error is that of another ask.
    """

    dataset: str
    shard: str
    window: Window
    position: int | None
    batch: Batch | None
    error: AssayError | None
    asked: bool = True


def settings_of(name: str, sources: Mapping[str, Mapping[str, Any]]) -> SourceSettings:
    """The `[source.NAME]` table as settings; SettingsError if there is none."""
    if name not in sources:
        raise SettingsError(
            f"assay.toml has no [source.{name}]; it says where {name} is reached and whose records it gives"
        )
    return SourceSettings(**sources[name])


def check(contract: Contract, root: Path | None = None) -> None:
    """ContractError, with the contract's file, if there is no such source or it does not know the contract's options.

    Or if an answer would be complete and nobody could say about what. `root` is the lake that may hold the source.
    """
    if contract.cursor:
        raise ContractError(f"{contract.where('cursor')}: cursor is read by no source yet; say window or every")
    try:
        source = load(contract.source, root)
        if source.check:
            source.check(contract.options)
        scope_of(contract, "all", Window.parse("2024-01-01..2024-01-02") if contract.window or contract.start else None)
    except ContractError as error:
        raise ContractError(f"{contract.where('property: options')}: {error}") from error


def scope_of(contract: Contract, shard: str, days: Window | None) -> dict[str, tuple[str, str]] | None:
    """What an answer is complete about: key column to lowest and highest value as texts; None unless it is `complete`.

    The shard, if the contract has a universe, on the key column that is read from `shard_field` or `shard_param`; the
    days, if any were asked for, on that which is read from `date_field`, or without such an option the only day of the
    key. ContractError where there is no such column: withdrawing what an answer lacks would be a guess.
    """
    if not getattr(contract, "complete", False):
        return None
    scope = {}
    keys = [column for column in contract.columns if column.name in contract.key]
    if contract.universe:
        what = "a text of the key that is read from the source's shard_field or shard_param"
        scope[_one(contract.shard_columns, what)] = (shard, shard)
    if days:
        said = contract.options.get("date_field")
        found = [column for column in keys if column.kind == "date" and (said is None or (said,) in column.origins)]
        last = days.end - timedelta(days=1)
        scope[_one(found, "one day of the key, read from the source's date_field")] = (
            days.start.isoformat(),
            last.isoformat(),
        )
    return scope


def _one(found: Sequence[Column], what: str) -> str:
    if len(found) != 1:
        raise ContractError(
            f"complete: what an answer is complete about needs {what}; here are {len(found)} such columns"
        )
    return found[0].name


def land(
    asks: Sequence[Wanted],
    *,
    settings: SourceSettings,
    files: Files,
    ledger: Ledger,
    secrets: Secrets,
    run: str,
    done: Callable[[Landed], None] = lambda _: None,
    wish: Callable[[], str] = str,
    root: Path | None = None,
) -> list[Landed]:
    """Land what is wanted from one source, in slices of one entry each; a refused key stops the rest.

    All contracts must name the same source. An ask that fails leaves nothing and does not hinder the others; what
    another run is landing is left to it (LakeBusy). An interrupt lets go of what is not complete, and puts the rest.
    `done` hears of each ask as its fate is known, and not of those that were not asked. `wish` is looked at before each
    ask: while it says `pause` or `yield` nothing is asked, and at `pause` what is complete is put; after `cancel`
    nothing more is, and after `stop` what is on its way has STOPS seconds more. `root` is the lake that may hold the source.
    """
    try:
        return waited(
            _Landings(asks, replace(settings, ledger=ledger), files, ledger, secrets, run, done, wish, root).run()
        )
    except (TypeError, ValueError) as error:  # what the asks raise is caught with them; this is `connect`
        kind = type(error).__name__
        raise SettingsError(
            f"[source.{asks[0].contract.source}] of assay.toml cannot be used ({kind}): see its options"
        ) from error


class _WrongClockError(SettingsError):
    """No answer can be landed by this clock."""


class Stopped(UsageError):
    """Whoever asked wants no more."""


@dataclass
class _Slice:
    """A landing in the making: asks that are on their way, and those that are complete, by their number."""

    landing: Landing
    contract: Contract
    fields: tuple[str, ...]
    begun: float = field(default_factory=time.monotonic)
    asked: int = 0
    running: int = 0
    complete: dict[int, Wanted] = field(default_factory=dict)

    def is_full(self) -> bool:
        return self.asked >= ASKS or self.landing.bytes >= BYTES or time.monotonic() - self.begun >= SECONDS


@dataclass
class _Landings:
    """One call of `land`: an open slice a dataset, and those that wait for their last asks.

    `ahead` are our leases of asks to come, and when they were claimed.
    """

    asks: Sequence[Wanted]
    settings: SourceSettings
    files: Files
    ledger: Ledger
    secrets: Secrets
    run_id: str
    done: Callable[[Landed], None]
    wish: Callable[[], str]
    root: Path | None
    out: list[Landed] = field(default_factory=list)
    refused: list[AssayError] = field(default_factory=list)
    unusable: dict[str, AssayError | None] = field(default_factory=dict)
    open: dict[str, _Slice] = field(default_factory=dict)
    closing: list[_Slice] = field(default_factory=list)
    ahead: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    async def run(self) -> list[Landed]:
        self.source: Source = load(self.asks[0].contract.source, self.root)
        self.waiting = deque(self.asks)
        self.left = Counter(one.contract.dataset for one in self.asks)
        try:
            async with self.source.connect(self.secrets, self.settings) as remote:
                with suppress(TimeoutError):
                    async with asyncio.timeout(None) as limit:
                        watch = asyncio.create_task(self._stop(limit))
                        try:
                            await together(self._turns(), lambda _: self._work(remote), lambda: size(remote))
                        finally:
                            watch.cancel()
        finally:  # also when it is interrupted: what is complete was paid for
            self._let_go_ahead()
            for slice_ in (*self.closing, *self.open.values()):
                self._commit(slice_)
        for one in self.waiting:
            self._not_asked(one)
        return self.out

    def _turns(self) -> Iterator[int]:
        """One an ask, which is taken when its turn has begun: several may begin before the first of them asks."""
        return takewhile(lambda _: not self.refused, range(len(self.asks)))

    def _not_asked(self, one: Wanted) -> None:
        first = self.refused[0]
        if isinstance(first, Stopped):
            why = str(first)
        else:
            why = "the key was refused" if isinstance(first, KeyRefused) else "this machine's clock is wrong"
        self._add(one, error=type(first)(f"not asked: {why}"), asked=False)

    def _add(self, one: Wanted, *, position: int | None = None, batch: Batch | None = None,
             error: AssayError | None = None, asked: bool = True) -> None:  # fmt: skip
        self.out.append(Landed(one.contract.dataset, one.shard, one.window, position, batch, error, asked))
        if asked:
            self.done(self.out[-1])

    async def _wait(self) -> None:
        """Wait while that is wished, or end all asks to come."""
        while not self.refused and (said := self.wish()):
            self._let_go_ahead()  # whoever is waited for may want the same
            if said == "cancel":
                self.refused.append(Stopped("the run was cancelled"))
            elif said == "pause":
                self.closing += self.open.values()
                self.open.clear()
                self._settle()
            await asyncio.sleep(PAUSE)

    async def _stop(self, limit: asyncio.Timeout) -> None:
        """End all asks to come once the run is to stop, and those that have no answer soon: a vendor may never give one."""
        said = ""
        while said != "stop":
            await asyncio.sleep(PAUSE)
            with suppress(AssayError):  # a ledger that is held for long
                said = self.wish()
        self.refused.append(Stopped("the run was stopped"))
        limit.reschedule(asyncio.get_running_loop().time() + STOPS)

    async def _work(self, remote: Any) -> None:
        await self._wait()
        one = self.waiting.popleft()
        self.left[one.contract.dataset] -= 1
        if self.refused:
            self._not_asked(one)
            return
        error: AssayError | None = None
        try:
            self._prepare(one.contract)
            if not self._is_ours(one, max(size(remote), self._soon())):
                raise LakeBusy(f"{one.contract.dataset} {one.shard!r} {one.window}: another run is landing it")  # noqa: TRY301
            try:
                complete = False
                await self._ask(one, remote)
                complete = True
            finally:
                if not complete:
                    self._let_go([_lease(one)])
        except asyncio.CancelledError:
            if self.refused:  # else it is interrupted, and nobody hears of it
                self._add(one, error=Stopped("no answer came before the run was stopped"))
            raise
        except (KeyRefused, _WrongClockError) as caught:
            error = caught
            self.refused.append(caught)
        except AssayError as caught:
            error = caught
        except Exception as caught:  # a source is its owner's code: what it raises is not ours to know
            log.debug("source %s failed", one.contract.source, exc_info=True)
            kind = type(caught).__name__
            error = SourceSuspect(f"{one.contract.source}: its code failed with {kind}; --debug shows where")
        if error:
            self._add(one, error=error)
        self._settle()

    def _prepare(self, contract: Contract) -> None:
        """Once a dataset: its options are known, and its contract is the one in force."""
        if contract.dataset not in self.unusable:
            try:
                check(contract, self.root)
                bronze.put_contract(self.files, self.ledger, contract, run=self.run_id)
                self.unusable[contract.dataset] = None
            except AssayError as error:
                self.unusable[contract.dataset] = error
        if unusable := self.unusable[contract.dataset]:
            raise unusable

    async def _ask(self, one: Wanted, remote: Any) -> None:
        contract, into = one.contract, self._slice(one.contract)
        into.running += 1
        into.asked += 1
        try:
            wanted = Ask(contract.dataset, contract.options, one.shard, one.days, into.fields)
            scope = scope_of(contract, one.shard, one.days)
            with into.landing.ask(one.shard, one.window, scope=scope) as ask:
                async with aclosing(self.source.fetch(wanted, remote)) as pages:  # type: ignore[type-var]
                    async for page in pages:
                        _agree(page.request)
                        ask.page(_asked(page.request), page.records, _raw(page), page.kind, page.strange)
            into.complete[ask.batch.n] = one
        finally:
            into.running -= 1

    def _slice(self, contract: Contract) -> _Slice:
        """The open slice of a dataset, which knows the log as it was just before its asks."""
        one = self.open.get(contract.dataset)
        if one and one.is_full():
            self.closing.append(self.open.pop(contract.dataset))
            one = None
        if one is None:
            seen = bronze.adopt(self.files, self.ledger, contract.dataset)
            landing = Landing(
                self.files, self.ledger, contract.dataset, seen, run=self.run_id, source=contract.source,
                code=self.source.code, origin=self.settings.origin, capture=contract.capture_fingerprint,
                contract=contract.sha256, reads=[path for column in contract.columns for path in column.origins],
            )  # fmt: skip
            fields = tuple(c.fields[0] for c in contract.columns if len(c.fields) == 1)
            one = self.open[contract.dataset] = _Slice(landing, contract, fields)
        return one

    def _settle(self) -> None:
        """Put the slices that are full, or whose dataset has nothing more to ask, as soon as their last ask has ended."""
        for dataset, one in list(self.open.items()):
            if one.is_full() or not self.left[dataset]:
                self.closing.append(self.open.pop(dataset))
        for one in [one for one in self.closing if not one.running]:
            self.closing.remove(one)
            self._commit(one)

    def _commit(self, one: _Slice) -> None:
        dataset = one.landing.dataset
        entry: Entry | None = None
        error: AssayError | None = None
        with one.landing:
            try:
                if wrong := next((e for e in self.refused if isinstance(e, _WrongClockError)), None):
                    raise wrong
                if one.complete and (put := one.landing.commit()):
                    entry = put[0]
                    bronze.adopt(self.files, self.ledger, dataset)
                    # Now, and not at the next plan: that would cost all that was landed since the last one.
                    coverage.bring(partial(bronze.since, self.files, dataset), self.ledger, one.contract)
            except AssayError as caught:
                error = caught
        batches = {batch.n: batch for batch in entry.batches} if entry else {}
        self._let_go(map(_lease, one.complete.values()))
        for n, wanted in sorted(one.complete.items()):
            if entry and n in batches:
                self._add(wanted, position=entry.position, batch=batches[n], error=error)
            else:
                void = (
                    f"{dataset} {wanted.shard!r} {wanted.window} was landed by another run meanwhile; that one counts"
                )
                self._add(wanted, error=error or LakeBusy(void))

    def _soon(self) -> int:
        """How many asks begin in the next seconds, at the speed so far."""
        begun = len(self.asks) - len(self.waiting)
        return min(MOST, int(AHEAD * begun / (1 + time.monotonic() - self.began)))

    def _is_ours(self, one: Wanted, number: int) -> bool:
        """Whether an ask's lease is ours; so many, its own and those of the next asks, are taken in one write."""
        name, moment = _lease(one), time.monotonic()
        if moment - self.ahead.pop(name, -AGED) < AGED:
            return True
        more = (other for other in map(_lease, islice(self.waiting, number - 1)) if other not in self.ahead)
        ours = self.ledger.claims([name, *more], self.run_id, clock.now() + LEASE)
        self.ahead.update(dict.fromkeys(ours - {name}, moment))
        return name in ours

    def _let_go_ahead(self) -> None:
        """Let go of the leases of asks that have not begun."""
        self._let_go(self.ahead)
        self.ahead.clear()

    def _let_go(self, leases: Iterable[str]) -> None:
        if names := list(leases):
            try:
                self.ledger.claims(names, self.run_id, clock.now())
            except AssayError:  # they end by themselves
                log.debug("%s leases were not let go of", len(names), exc_info=True)


def _lease(one: Wanted) -> str:
    return f"land {one.contract.dataset} {one.shard} {one.window}"


def _agree(request: Request) -> None:
    """The vendor's clock and ours: hours apart, no time that we write down would be true."""
    said = request.date
    if said is not None and abs(request.at - said) > ASTRAY:
        raise _WrongClockError(
            f"this machine's clock says {request.at:%Y-%m-%d %H:%M:%S} UTC, the answer's {said:%Y-%m-%d %H:%M:%S} UTC: set "
            "the clock; nothing was landed"
        )


def _asked(request: Request) -> Asked:
    return Asked(
        dict(request.params), request.at, request.bytes, request.sha256, request.rows, request.span, request.status,
        request.url,
    )  # fmt: skip


def _raw(page: Page) -> Any:
    return page.raw.chunks() if isinstance(page.raw, Original) else page.raw
