"""Which steps are missing: contracts and facts in, a list out; nothing is read, asked or written here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from assay.contract.model import Contract
from assay.windows import Duration, Window, cell_of, missing


@dataclass(frozen=True)
class Member:
    """One symbol (or other shard) of a universe and the days it is expected to have data for."""

    shard: str
    valid_from: date
    valid_to: date | None


@dataclass(frozen=True)
class Batch:
    """What the plan must know of one manifest."""

    batch: str
    shard: str
    window: Window
    generation: int
    captured_at: datetime
    capture: str
    rows: int
    bytes: int
    calls: int


@dataclass(frozen=True)
class Judged:
    """What the plan must know of one batch's newest verdict."""

    state: str
    refine: str
    gate: str
    contract: str
    quarantined: int


@dataclass(frozen=True)
class Facts:
    """Everything that happened so far, per dataset, and what the newest release was made of.

    `astray` are gold tables whose newest snapshot no release names. `released` maps a dataset to the (snapshot, contract) the release read, `snapshots` to what is there now.
    """

    batches: Mapping[str, Sequence[Batch]] = field(default_factory=dict)
    judged: Mapping[str, Mapping[str, Judged]] = field(default_factory=dict)
    snapshots: Mapping[str, int | None] = field(default_factory=dict)
    released: Mapping[str, tuple[int | None, str]] | None = None
    released_dbt: str = ""
    dbt: str = ""
    astray: Sequence[str] = ()


@dataclass(frozen=True)
class Step:
    """One thing to do: land a shard's window, refine a dataset (how: refine, rebuild), or build gold.

    `window` is what the batch will claim, `days` what the source is asked for.
    """

    kind: str
    dataset: str = ""
    shard: str = ""
    window: Window | None = None
    days: Window | None = None
    how: str = ""
    why: str = ""
    bytes: int | None = None

    def __str__(self) -> str:
        what = " ".join(
            str(part)
            for part in (
                self.dataset,
                self.shard,
                self.window or "",
                self.how if self.how != "refine" else "",
            )
            if part
        )
        return f"{self.kind} {what}".strip()


def plan(
    contracts: Mapping[str, Contract],
    facts: Facts,
    universes: Mapping[str, Sequence[Member]],
    now: datetime,
    *,
    span: Window | None = None,
    regate: bool = False,
    gold: bool = True,
) -> list[Step]:
    """The missing steps in the order they must run; applying them leaves an empty plan.

    `span` limits what is landed to those days; `regate` judges held batches again by today's contract, and passed
    ones too where the gate changed.
    """
    steps: list[Step] = []
    for contract in contracts.values():
        steps += _land(contract, facts.batches.get(contract.dataset, ()), universes, now, span)
    changed = []
    for dataset, contract in contracts.items():
        step = _refine(contract, facts, landing=any(s.dataset == dataset for s in steps), regate=regate)
        if step:
            steps.append(step)
            changed.append(dataset)
    reason = _build(contracts, facts, changed)
    if gold and reason:
        steps.append(Step("build", why=reason))
    return steps


def _land(
    contract: Contract,
    batches: Sequence[Batch],
    universes: Mapping[str, Sequence[Member]],
    now: datetime,
    span: Window | None,
) -> list[Step]:
    members: Sequence[Member] = universes[contract.universe] if contract.universe else [Member("all", date.min, None)]
    valid = [b for b in batches if b.capture == contract.capture_fingerprint]
    seen = {b.shard for b in batches} - {b.shard for b in valid}
    sizes = [b.bytes for b in batches]
    guess = sum(sizes) // len(sizes) if sizes else None
    out: list[Step] = []
    windows: list[tuple[Window, Window | None]]
    for member in members:
        mine = [b for b in valid if b.shard == member.shard]
        if contract.window:
            wanted = _wanted(contract, member, now, span)
            covered = [w for b in mine for w in _covers(b, contract, now)]
            gaps = missing(wanted, covered) if wanted else []
            windows = [(w, w) for gap in gaps for cell in gap.grid(contract.step) if (w := cell.overlap(gap))]
        else:
            cell = cell_of(now.date(), contract.step)
            days = _wanted(contract, member, now, None) if contract.start else None
            asked = any(s.shard == member.shard for s in out)  # a symbol may be listed twice
            windows = [] if asked or any(b.window == cell for b in mine) else [(cell, days)]
        why = "the contract asks the source differently now" if member.shard in seen else "not landed yet"
        out += [
            Step("land", contract.dataset, member.shard, window, why=why, bytes=guess, days=days)
            for window, days in windows
        ]
    return out


def _wanted(contract: Contract, member: Member, now: datetime, span: Window | None) -> Window | None:
    start = max(contract.start or date.min, member.valid_from)
    end = min(now.date(), member.valid_to or date.max)
    if start >= end:
        return None
    whole = Window(start, end)
    return whole.overlap(span) if span else whole


def _covers(batch: Batch, contract: Contract, now: datetime) -> list[Window]:
    """The days a batch settles: those that were `settle` old when it was captured, and those that are not so old yet."""
    settle = timedelta(days=Duration.parse(contract.settle).exact.days)
    final = min(batch.window.end, batch.captured_at.date() - settle)
    fresh = max(batch.window.start, now.date() - settle)
    out = [Window(batch.window.start, final)] if final > batch.window.start else []
    return out + ([Window(fresh, batch.window.end)] if fresh < batch.window.end else [])


def _refine(contract: Contract, facts: Facts, *, landing: bool, regate: bool) -> Step | None:
    judged = facts.judged.get(contract.dataset, {})
    if any(j.refine != contract.refine_fingerprint for j in judged.values()):
        return Step("refine", contract.dataset, how="rebuild", why="the contract reads records differently now")
    if regate and any(j.gate != contract.gate_fingerprint for j in judged.values()):
        return Step("refine", contract.dataset, how="rebuild", why="--regate: the gate changed")
    new = sum(b.batch not in judged for b in facts.batches.get(contract.dataset, ()))
    if new or landing:
        return Step(
            "refine",
            contract.dataset,
            how="refine",
            why=f"{new} landed batches are not judged yet" if new else "after landing",
        )
    return None


def _build(contracts: Mapping[str, Contract], facts: Facts, changed: Sequence[str]) -> str:
    if facts.released is None:
        return "nothing is released yet"
    if changed:
        return f"silver changes: {', '.join(changed)}"
    if facts.dbt != facts.released_dbt:
        return "the dbt project changed"
    if facts.astray:
        return f"a build was stopped: {', '.join(facts.astray)} is ahead of the release"
    for dataset, contract in contracts.items():
        if facts.released.get(dataset) != (facts.snapshots.get(dataset), contract.sha256):
            return f"{dataset} changed since the last release"
    return ""
