"""Which steps are missing: contracts, coverage and standings in, a list out; nothing is read, asked or written here."""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Protocol
from urllib.parse import quote

import msgspec

from assay.contract.model import Contract
from assay.errors import UsageError
from assay.windows import Duration, Spans, Window, cell_of, joined, without


@dataclass(frozen=True)
class Member:
    """One symbol (or other shard) of a universe and the days it is expected to have data for."""

    shard: str
    valid_from: date
    valid_to: date | None


class Covered(Protocol):
    """What the plan must know of a shard: its days in ordinals, and sums over its batches.

    `settled` are never asked again; `open` are younger: (start, end, the day last asked). `batches` counts those that
    were asked as today's contract asks.
    """

    @property
    def settled(self) -> Spans: ...
    @property
    def open(self) -> tuple[tuple[int, int, int], ...]: ...
    @property
    def batches(self) -> int: ...
    @property
    def bytes(self) -> int: ...


@dataclass(frozen=True)
class Looked:
    """What a dataset's files held when they were landed last, and hold now: names to hashes; why nobody can look."""

    landed: Mapping[str, str]
    there: Mapping[str, str]
    error: str = ""

    @property
    def changed(self) -> str:
        """What differs, in a line; nothing if the same is there.

        >>> Looked({"a.csv": "1", "b.csv": "2"}, {"b.csv": "3", "c.csv": "1"}).changed
        'a.csv is gone, b.csv changed, c.csv is new'
        """
        if self.error:
            return self.error
        said = []
        for name in sorted(self.landed.keys() | self.there.keys()):
            before, after = self.landed.get(name), self.there.get(name)
            if before != after:
                what = "is gone" if after is None else "is new" if before is None else "changed"
                said.append(f"{name} {what}")
        more = [f"and {len(said) - 5} more"] if len(said) > 5 else []
        return ", ".join([*said[:5], *more])


@dataclass(frozen=True)
class Standing:
    """Where a dataset stands.

    Attributes:
        log: position of the newest entry of its log that a refine takes something from, 0 if there is none.
        silver: position its silver was folded to.
        contract: sha256 of the contract in force in its log.
        refine: that contract's refine fingerprint.
        gates: gate fingerprints of the contracts by which batches were judged since the last `everything`.
    """

    log: int = 0
    silver: int = 0
    contract: str = ""
    refine: str = ""
    gates: Collection[str] = ()


@dataclass(frozen=True)
class Gold:
    """What the newest release was made of, and what is there now.

    Attributes:
        dbt: the dbt project's hash now.
        released_dbt: as it was then.
        released: dataset to the position of the log it read and the sha256 of its contract; None without a release.
    """

    dbt: str = ""
    released_dbt: str = ""
    released: Mapping[str, tuple[int, str]] | None = None


class Land(msgspec.Struct, frozen=True, tag="land", tag_field="step", omit_defaults=True):
    """Ask a source for one shard.

    Attributes:
        contract: sha256 of the contract it was planned by; who holds another refuses.
        window: what the batch will claim; none where the source goes on from a cursor.
        days: what the source is asked for; none where it is asked for the whole.
        bytes: a guess of what will come.
    """

    dataset: str
    contract: str
    shard: str
    window: Window | None = None
    days: Window | None = None
    why: str = ""
    bytes: int | None = None

    @property
    def id(self) -> str:
        """The same for whoever plans it, without blanks in the shard."""
        return " ".join(
            ["land", self.dataset, quote(self.shard, safe="^$.-_=/:@+"), *([str(self.window)] if self.window else [])]
        )

    def __str__(self) -> str:
        return self.id


class Refine(msgspec.Struct, frozen=True, tag="refine", tag_field="step", omit_defaults=True):
    """Judge and fold what a dataset's log holds after its silver; `everything`: the whole log, by a new contract."""

    dataset: str
    contract: str
    why: str = ""
    everything: bool = False

    @property
    def id(self) -> str:
        """The same for whoever plans it."""
        return f"refine {self.dataset}{' everything' if self.everything else ''}"

    def __str__(self) -> str:
        return self.id


class Build(msgspec.Struct, frozen=True, tag="build", tag_field="step", omit_defaults=True):
    """Compute gold and release it; `contract` covers all contracts and the dbt project: see `promised`."""

    contract: str
    why: str = ""

    @property
    def id(self) -> str:
        """There is one gold."""
        return "build"

    def __str__(self) -> str:
        return self.id


Step = Land | Refine | Build
_steps: msgspec.json.Decoder[Step] = msgspec.json.Decoder(Step)


def to_json(step: Step) -> bytes:
    """A step as a worker is handed it."""
    return msgspec.json.encode(step)


def from_json(data: bytes | str) -> Step:
    """The step of such bytes; UsageError where they are none."""
    try:
        return _steps.decode(data)
    except msgspec.MsgspecError as error:
        raise UsageError(f"this is not a step: {error}") from error


def promised(contracts: Iterable[Contract], dbt: str) -> str:
    """What a build is planned by: changes with any of the contracts and with the dbt project."""
    said = "\n".join([*sorted(f"{c.dataset} {c.sha256}" for c in contracts), dbt])
    return hashlib.sha256(said.encode()).hexdigest()


def missing(
    contracts: Mapping[str, Contract],
    coverage: Mapping[str, Mapping[str, Covered]],
    standing: Mapping[str, Standing],
    universes: Mapping[str, Sequence[Member]],
    now: datetime,
    *,
    span: Window | None = None,
    regate: bool = False,
    gold: Gold | None = None,
    looked: Mapping[str, Looked] | None = None,
    land: bool = True,
    paused: Collection[str] = (),
) -> list[Step]:
    """The missing steps in the order they must run; applying them leaves an empty plan.

    `coverage` is per dataset and shard. `span` limits what is landed to those days; `regate` judges all batches again
    where the gate changed. Without `gold`, none is built. Files that were `looked` at and changed are landed at once.
    Without `land`, it is what silver and gold lack of what is landed; of `paused` datasets it is that alone.
    """
    steps: list[Step] = []
    for dataset, contract in contracts.items() if land else ():
        if dataset in paused:
            continue
        steps += _land(contract, coverage.get(dataset, {}), universes, now.date(), span, (looked or {}).get(dataset))
    landing = {step.dataset for step in steps if isinstance(step, Land)}
    changed = []
    for dataset, contract in contracts.items():
        step = _refine(contract, standing.get(dataset, Standing()), landing=dataset in landing, regate=regate)
        if step:
            steps.append(step)
            changed.append(dataset)
    if gold and (why := _build(contracts, standing, gold, changed)):
        steps.append(Build(promised(contracts.values(), gold.dbt), why))
    return steps


@dataclass(frozen=True)
class _Ageing:
    """A contract's durations and today, as ordinals of days.

    Attributes:
        slide, slot: days of up to that age are asked again if they were asked before the slot that began then.
    """

    today: int
    settle: int
    reask: int
    slide: int
    slot: int

    def gaps(self, wanted: Spans, settled: Spans, young: tuple[tuple[int, int, int], ...]) -> Spans:
        """The days of `wanted` to ask for; two gaps no wider apart than `settle` are one ask, not two.

        A day is asked once a day until it is `reask` days old, once a slot until it is `slide` days old, and then unless
        it was `settle` days old when last asked.
        """
        have = list(settled)
        for start, end, asked in young:
            horizon = self.reask if asked >= self.slot else self.slide
            past = end if asked >= self.today else min(end, asked - self.settle, self.today - horizon)
            if start < past:
                have.append((start, past))
        covered = joined(have)
        out: list[tuple[int, int]] = []
        for whole in wanted:
            first = len(out)
            for start, end in without((whole,), covered):
                if len(out) > first and start - out[-1][1] <= self.settle:
                    out[-1] = (out[-1][0], end)
                else:
                    out.append((start, end))
        return tuple(out)


def expected(
    contracts: Sequence[Contract], universes: Mapping[str, Sequence[Member]], span: Window, today: date
) -> None:
    """UsageError if days of `span` are still to come, or none of them is in the history of any of these datasets."""
    if span.end > today + timedelta(days=1):
        raise UsageError(f"{span} ends in the future; today is {today}, in UTC")
    windowed = [one for one in contracts if one.window]
    spans: list[tuple[date, date]] = []
    for one in windowed:
        members = universes[one.universe] if one.universe else [Member("all", date.min, None)]
        spans += [(max(one.start or date.min, m.valid_from), m.valid_to or date.max) for m in members]
    if windowed and not spans:
        raise UsageError(f"the universe {windowed[0].universe} of {windowed[0].dataset} names no symbol yet")
    if windowed and not any(start < span.end and span.start < end for start, end in spans):
        said = ", ".join(one.dataset for one in windowed)
        last = max(end for _, end in spans)
        ends = f" and end {last}" if last < date.max else ""
        raise UsageError(f"{said}: no day of {span} is in its history; its days begin {min(s for s, _ in spans)}{ends}")


def _land(
    contract: Contract,
    covers: Mapping[str, Covered],
    universes: Mapping[str, Sequence[Member]],
    today: date,
    span: Window | None,
    looked: Looked | None,
) -> list[Step]:
    if getattr(contract, "cursor", None):
        return []
    members: Sequence[Member] = universes[contract.universe] if contract.universe else [Member("all", date.min, None)]
    shards: dict[str, list[Member]] = {}
    for member in members:  # a symbol may be listed twice
        shards.setdefault(member.shard, []).append(member)
    settle, reask = _days(contract.settle), _days(getattr(contract, "reask", None) or contract.settle)
    reask = max(settle, reask)
    slide, every = getattr(contract, "slide", None) or (reask, "P1D")
    slot = cell_of(today, Duration.parse(every)).start
    ageing = _Ageing(today.toordinal(), settle, reask, max(reask, slide), slot.toordinal())
    sha256, guess = contract.sha256, _guess(covers.values())
    known: dict[object, list[tuple[Window, Window | None]]] = {}
    changed = looked.changed if looked else ""
    out: list[Step] = []
    for shard, listed in shards.items():
        cover = covers.get(shard)
        wanted = _wanted(contract, listed, today)
        history = (cover.settled, cover.open) if cover else ((), ())
        if (wanted, *history) not in known:  # most shards have the same history: one computation for all of them
            known[wanted, *history] = _asks(contract, ageing, wanted, *history, span, bool(changed))
        why = "the contract asks the source differently now" if cover and not cover.batches else "not landed yet"
        if cover and cover.batches:
            why = changed or "new days, or days asked again"
        out += [Land(contract.dataset, sha256, shard, w, days, why, guess) for w, days in known[wanted, *history]]
    return out


def _asks(
    contract: Contract,
    ageing: _Ageing,
    wanted: Spans,
    settled: Spans,
    young: tuple[tuple[int, int, int], ...],
    span: Window | None,
    due: bool,
) -> list[tuple[Window, Window | None]]:
    """What a shard's batches will claim, and the days each asks for; of a whole that is `due`, whatever the slot."""
    step = contract.step
    if not contract.window:
        if contract.start and not wanted:
            return []
        cell = cell_of(date.fromordinal(ageing.today), step)
        if not due and not without((_ordinals(cell),), joined((*settled, *((a, b) for a, b, _ in young)))):
            return []
        whole = _window(wanted[0][0], wanted[-1][1]) if contract.start and wanted else None
        return [(cell, whole)]
    if span:
        start, end = _ordinals(span)
        wanted = without(wanted, ((0, start), (end, date.max.toordinal())))
    out: list[tuple[Window, Window | None]] = []
    for start, end in ageing.gaps(wanted, settled, young):
        gap = _window(start, end)
        out += [(part, part) for cell in gap.grid(step) if (part := cell.overlap(gap))]
    return out


def _wanted(contract: Contract, listed: Sequence[Member], today: date) -> Spans:
    """The days a shard is expected to have, up to yesterday."""
    spans = (
        (max(contract.start or date.min, one.valid_from), min(today, one.valid_to or date.max)) for one in listed
    )  # fmt: skip
    return joined((start.toordinal(), end.toordinal()) for start, end in spans if start < end)


def _guess(covers: Collection[Covered]) -> int | None:
    batches = sum(one.batches for one in covers)
    return sum(one.bytes for one in covers) // batches if batches else None


def _days(duration: str) -> int:
    return Duration.parse(duration).exact.days


def _ordinals(window: Window) -> tuple[int, int]:
    return window.start.toordinal(), window.end.toordinal()


def _window(start: int, end: int) -> Window:
    return Window(date.fromordinal(start), date.fromordinal(end))


def _refine(contract: Contract, standing: Standing, *, landing: bool, regate: bool) -> Refine | None:
    dataset, sha256 = contract.dataset, contract.sha256
    if standing.log and standing.refine not in {"", contract.refine_fingerprint}:
        return Refine(dataset, sha256, "the contract reads records differently now", everything=True)
    if standing.log and regate and any(gate != contract.gate_fingerprint for gate in standing.gates):
        return Refine(dataset, sha256, "--regate: the gate changed", everything=True)
    if standing.log and standing.contract not in {"", sha256}:
        return Refine(dataset, sha256, "the contract changed")
    if standing.log > standing.silver:
        some = standing.log - standing.silver
        return Refine(dataset, sha256, f"{some} entr{'y is' if some == 1 else 'ies are'} not judged yet")
    return Refine(dataset, sha256, "after landing") if landing else None


def _build(
    contracts: Mapping[str, Contract], standing: Mapping[str, Standing], gold: Gold, changed: Sequence[str]
) -> str:
    if gold.released is None:
        return "nothing is released yet"
    if changed:
        return f"silver changes: {', '.join(changed)}"
    if gold.dbt != gold.released_dbt:
        return "the dbt project changed"
    for dataset, contract in contracts.items():
        now = (standing.get(dataset, Standing()).silver, contract.sha256)
        if gold.released.get(dataset) != now:
            return f"{dataset} changed since the last release"
    return ""
