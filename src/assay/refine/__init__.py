"""Bronze to silver: the entries after the head's position judged, folded and committed, as often as there are any."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from assay.clock import now
from assay.contract.model import Contract
from assay.errors import LakeBusy, LakeDamaged
from assay.lake import account, bronze, evidence, retention, silver, tables
from assay.lake.account import Judgement
from assay.lake.bronze import Decision, Entry
from assay.lake.evidence import Absence, Change, Evidence, Verdict
from assay.lake.files import scratch_directory
from assay.ports import Act, Counted, Engine, Files, Folded, Group, Layout, Ledger, Lines, N, Rejected, Relation, Scope
from assay.refine import draft as drafts
from assay.refine.draft import Draft, Read
from assay.refine.gate import closed
from assay.refine.history import History, Timeline, by_hand
from assay.spoken import TERMS, changes, each

ATTEMPTS = 5
RHYTHM = 20
"""At every so many evidence objects the tables' snapshots are expired: 315 of them cost a commit 0.24 s."""
UNIT = 256 * 2**20
"""Bytes of lines that are folded at once; one entry is never cut."""


@dataclass(frozen=True)
class Refined:
    """What a refine did: the evidence that silver rests on since, oldest first; none if there was nothing to do."""

    evidence: tuple[Evidence, ...] = ()

    @property
    def verdicts(self) -> list[Verdict]:
        """What became of each batch, and of each act of a decision."""
        return [v for one in self.evidence for v in one.verdicts]

    @property
    def held(self) -> list[Verdict]:
        """The verdicts of batches whose gate is closed."""
        return [v for v in self.verdicts if v.state == "held"]

    @property
    def rows(self) -> int:
        """How many rows were judged."""
        return sum(v.rows for v in self.verdicts if v.state != "void")

    @property
    def counts(self) -> dict[str, int]:
        """The terms that sum to `rows`, and beside them `changed` (of the accepted), `withdrawn` and `pending` batches."""
        return {
            term: sum(int(getattr(v, term)) for v in self.verdicts)
            for term in (*TERMS, "changed", "withdrawn", "pending")
        }

    @property
    def told(self) -> str:
        """What it changed, in a line; of the whole log folded anew, what all of it comes to."""
        if not self.evidence:
            return "nothing new"
        anew = "the whole log anew: " if self.evidence[0].current.everything else ""
        return anew + changes(self.counts, self.rows)

    @property
    def warnings(self) -> dict[str, int]:
        """How many of the rows that went in break each rule that only warns."""
        return {rule: n for rule, n in account.sums(self.verdicts)[2].items() if n}

    @property
    def hollow(self) -> list[str]:
        """A sentence for each landing of several batches of which more than half have no row that went in.

        None of a log that was folded anew: it was told when it was judged.
        """
        if any(one.current.everything for one in self.evidence):
            return []
        landings: dict[int, list[Verdict]] = {}
        for v in self.verdicts:
            if v.of is None and v.origin == 0 and v.state != "void" and v.rows:
                landings.setdefault(v.position, []).append(v)
        out = []
        for position, batches in landings.items():
            bad = [v for v in batches if v.quarantined + v.held == v.rows]
            if len(batches) > 1 and 2 * len(bad) > len(batches):
                said = each(dict(sum((Counter(v.reasons) for v in bad), Counter[str]()).most_common(3)))
                dataset = self.evidence[0].dataset
                out.append(
                    f"{len(bad)} of {len(batches)} batches of landing {position} of {dataset} have no good row ({said}): did the "
                    f"source change? `assay quarantine list {dataset}` shows the rows"
                )
        return out

    @property
    def bad(self) -> int:
        """How many rows did not become silver: quarantined ones, and all of held batches."""
        return sum(v.quarantined + v.held for v in self.verdicts)


def refine(dataset: str, *, files: Files, catalog: Catalog, ledger: Ledger, engine: Engine, run: str) -> Refined:
    """Fold the log's entries that silver does not hold yet, in commits of about UNIT bytes of lines; idempotent.

    Batches are judged by the contract in force at their position in the log. LakeDamaged if bronze is not what its
    entries say, the log does not go on where silver ends, or counts do not add up; LakeBusy if others kept winning.
    """
    one = _Refiner(dataset, files, catalog, ledger, engine, run)
    done: list[Evidence] = []
    lost = 0
    while lost < ATTEMPTS:
        try:
            if not one.step(done.append):
                return Refined(tuple(done))
        except LakeBusy:
            lost += 1
    raise LakeBusy(f"{dataset}: {ATTEMPTS} times another process was faster; run it again")


def anew(
    dataset: str, pair: silver.Pair, upto: int, scratch: Path, *, files: Files, catalog: Catalog, ledger: Ledger,
    engine: Engine,
) -> Draft:  # fmt: skip
    """The log up to a position folded from nothing, in a scratch directory; nothing of the lake changes."""
    timeline = Timeline.read(files, ledger, dataset, upto)
    draft = _empty((tables.layout(pair.current), tables.layout(pair.past)), scratch)
    history = History(files, ledger, dataset, True, timeline)
    _Refiner(dataset, files, catalog, ledger, engine, "anew").fold(draft, history, timeline, (0, None, upto, None))
    return draft


@dataclass
class _Unit:
    """Entries that are judged by one contract and folded at once."""

    contract: tuple[int, Contract]
    entries: list[Entry] = field(default_factory=list)
    bytes: int = 0


@dataclass
class _Made:
    """What a draft's units said so far."""

    verdicts: list[Verdict] = field(default_factory=list)
    absences: list[Absence] = field(default_factory=list)
    contracts: dict[int, str] = field(default_factory=dict)
    rejected: list[Callable[[], Iterator[Rejected]]] = field(default_factory=list)


@dataclass(frozen=True)
class _Refiner:
    dataset: str
    files: Files
    catalog: Catalog
    ledger: Ledger
    engine: Engine
    run: str

    def step(self, decided: Callable[[Evidence], object]) -> bool:
        """One evidence more, put and committed, if silver does not hold the whole log; `decided` hears of it once it is put."""
        files, dataset = self.files, self.dataset
        tail = bronze.adopt(files, self.ledger, dataset)
        timeline = Timeline.read(files, self.ledger, dataset)
        if not timeline.contracts:
            return False
        pair = silver.ensure(files, self.catalog, self.ledger, timeline.contract(tail.position)[1])
        pair = silver.forward(files, self.catalog, dataset, pair)
        head = silver.head(pair.current)
        with evidence.awake(files, dataset, head):
            account.adopt(files, self.ledger, dataset, head)
        if head.position >= tail.position:
            _same(files, dataset, head)
            return False
        restart = timeline.restart(head.position)
        with scratch_directory(files) as scratch, evidence.awake(files, dataset, head):
            layouts = (tables.layout(pair.current), tables.layout(pair.past))
            if restart:
                draft = _empty(layouts, scratch)
                after, sha256, upto, room = 0, None, restart, None
            else:
                draft = Draft(_meeting(files, pair.current), _meeting(files, pair.past), layouts, scratch)
                after, sha256, upto, room = head.position, head.position_sha256, tail.position, UNIT
            history = History(files, self.ledger, dataset, bool(restart), timeline)
            made, at = self.fold(draft, history, timeline, (after, sha256, upto, room))
            found = self._put(draft, made, head, at, anew=bool(restart), after=after)
        decided(found)
        pair = silver.forward(files, self.catalog, dataset, pair)
        account.adopt(files, self.ledger, dataset, silver.head(pair.current))
        if found.number % RHYTHM == 0:
            retention.in_rhythm(files, self.catalog, dataset)
        return True

    def fold(
        self, draft: Draft, history: History, timeline: Timeline, span: tuple[int, str | None, int, int | None]
    ) -> tuple["_Made", tuple[int, str | None]]:
        """Fold the entries after a position (and its sha256) up to another into the draft; all of them, or about `room` bytes."""
        after, sha256, upto, room = span
        made = _Made()
        unit: _Unit | None = None
        used, at = 0, (after, sha256)
        for entry, entry_sha256 in bronze.since(self.files, self.dataset, after, sha256):
            size = sum(part.bytes for part in entry.parts)
            if entry.position > upto or (room and used and used + size > room):
                break
            at, used = (entry.position, entry_sha256), used + size
            if not bronze.folded(entry):  # it may stand before the first contract
                continue
            contract = timeline.contract(entry.position)
            if entry.kind == "landed":
                if unit and (unit.contract[0] != contract[0] or unit.bytes + size > UNIT):
                    self._landed(unit, draft, history, timeline, made)
                    unit = None
                unit = unit or _Unit(contract)
                unit.entries.append(entry)
                unit.bytes += size
            elif entry.kind == "decided":
                if unit:
                    self._landed(unit, draft, history, timeline, made)
                    unit = None
                for n, decision in enumerate(entry.decisions):
                    self._decided(entry, n, decision, contract, draft, history, timeline, made)
        if unit:
            self._landed(unit, draft, history, timeline, made)
        return made, at

    def _landed(self, unit: _Unit, draft: Draft, history: History, timeline: Timeline, made: _Made) -> None:
        batches: dict[int, tuple[Entry, bronze.Batch]] = {}
        lines: list[Lines] = []
        verdicts: list[Verdict] = []
        for entry in unit.entries:
            bronze.check(self.files, entry, lost=bronze.only_of(entry, timeline.lost) | timeline.gone)
            void = bronze.void(self.files, self.dataset, entry)
            wanted = {}
            for batch in entry.batches:
                place = entry.position * N + batch.n
                if batch.n in void or place in timeline.lost:
                    verdicts.append(_verdict(place, batch, "void", Counted()))
                else:
                    batches[place], wanted[batch.n] = (entry, batch), place
            lines += bronze.parts(self.files, entry, wanted)
        with self.engine.group(unit.contract[1], lines) as group:
            judged = group.judged()
            acts = []
            for place, (entry, batch) in batches.items():
                counted = judged.get(place, Counted())
                _whole(self.dataset, place, batch, counted)
                stood, erased = batch.erased.stood(counted), batch.erased.rows
                why = closed(unit.contract[1], stood)
                verdict = _verdict(place, batch, "held" if why else "passed", counted, why)
                verdicts.append(_less(verdict, rows=verdict.rows + erased, erased=erased))
                if not why:
                    acts.append(_act(place, entry, place, batch.scope, unit.contract[1], stood))
            folded = self._written(group, acts, draft, history, unit.contract[1])
            self._said(group, acts, verdicts, folded, unit.contract, draft, history, made)

    def _decided(
        self, entry: Entry, n: int, decision: Decision, contract: tuple[int, Contract], draft: Draft,
        history: History, timeline: Timeline, made: _Made,
    ) -> None:  # fmt: skip
        """Take one act of a decision in; what names no batch that it can change does nothing."""
        place = entry.position * N + n
        if decision.kind in ("upsert", "delete"):
            self._by_hand(entry, place, decision, contract, draft, history, made)
            return
        if decision.batch is None or decision.kind not in ("release", "rejudge", "withdraw"):
            return
        origin = decision.batch[0] * N + decision.batch[1]
        if origin >= place or origin in timeline.lost:
            return
        standing = history.about(origin)
        landed = bronze.read(self.files, self.dataset, decision.batch[0])
        batch = next((b for b in landed.batches if b.n == decision.batch[1]), None)
        if standing is None or batch is None or standing.state == "void":
            return
        if decision.kind == "withdraw":
            if standing.state != "passed" or not standing.pending or batch.scope is None:
                return
            judging = timeline.by_position(standing.judged_by)
        elif decision.kind == "release":
            if standing.state != "held":
                return
            judging = timeline.by_position(standing.judged_by)
        else:
            judging = contract
        self._again(entry, place, origin, batch, landed, decision.kind, standing, judging, draft, history, made)

    def _again(
        self, entry: Entry, place: int, origin: int, batch: bronze.Batch, landed: Entry, kind: str, standing: Judgement,
        contract: tuple[int, Contract], draft: Draft, history: History, made: _Made,
    ) -> None:  # fmt: skip
        bronze.check(self.files, landed, lost=bronze.only_of(landed, history.timeline.lost) | history.timeline.gone)
        lines = bronze.parts(self.files, landed, {batch.n: place})
        again = kind == "rejudge" and standing.state == "passed"
        bad = history.bad(origin) if again else {}
        only = {place: bad} if again else None
        was = "quarantined" if again else "held" if standing.state == "held" else ""
        with self.engine.group(contract[1], lines, only) as group:
            counted = group.judged().get(place, Counted())
            if kind != "withdraw" and not again:
                _whole(self.dataset, place, batch, counted)
            stood = batch.erased.stood(counted)
            why = closed(contract[1], stood) if kind == "rejudge" and standing.state == "held" else ()
            verdict = _verdict(place, batch, "held" if why else "passed", counted, why, of=origin, was=was)
            freed = dict(Counter(chain.from_iterable(bad.values())))
            verdict = _less(verdict, judged_by=contract[0], freed=freed)
            acts: list[Act] = []
            if why:  # it stays held where it is counted as such: here is nothing of it
                verdict = _less(verdict, rows=0, held=0)
            elif kind == "withdraw":
                acts = [Act(place, entry.captured_at, origin, batch.scope, blocked=stood.keyless > 0, absent=True)]
                verdict = _less(verdict, rows=0, duplicate=0, quarantined=0, reasons={}, warnings={})
            else:
                scope = None if again else batch.scope
                acts = [_act(place, entry, origin, scope, contract[1], stood)]
            folded = self._written(group, acts, draft, history, contract[1])
            self._said(
                group, acts, [verdict], folded, contract, draft, history, made, pending=standing.pending and again
            )

    def _by_hand(
        self, entry: Entry, place: int, decision: Decision, contract: tuple[int, Contract], draft: Draft,
        history: History, made: _Made,
    ) -> None:  # fmt: skip
        lines = [by_hand(decision, place, place, draft.scratch)]
        with self.engine.group(contract[1], lines) as group:
            counted = group.judged().get(place, Counted())
            origin = decision.seen * N + N - 1
            verdict = _less(_verdict(place, None, "passed", counted), origin=origin)
            acts = [Act(place, entry.captured_at, origin)]
            folded = self._written(group, acts, draft, history, contract[1])
            if decision.kind == "delete":
                kept = {w: n for w, n in folded[place].counts.items() if w == "withdrawn"} if place in folded else {}
                folded, verdict = {place: Folded(kept)}, _less(verdict, rows=counted.quarantined)
            self._said(group, acts, [verdict], folded, contract, draft, history, made)

    def _written(
        self, group: Group, acts: Sequence[Act], draft: Draft, history: History, contract: Contract
    ) -> Mapping[int, Folded]:
        """Fold the acts and write what they change into the draft."""
        if not acts:
            return {}
        places = [a.place for a in acts]
        boxes = [*group.boxes(places, contract.partition), *(a.scope for a in acts if a.scope is not None)]
        observed = history.observed(self.engine, [a for a in acts if a.origin != a.place])
        folded = group.fold(acts, draft.current(boxes), draft.past(boxes), observed)
        leaving = list(group.leaving())
        whole = draft.of(leaving)
        former = group.write("past", draft.layouts[1], whole, draft.scratch)
        fresh = group.write("current", draft.layouts[0], whole, draft.scratch)
        draft.take(fresh, former, leaving)
        return folded

    def _said(
        self, group: Group, acts: Sequence[Act], verdicts: Sequence[Verdict], folded: Mapping[int, Folded],
        contract: tuple[int, Contract], draft: Draft, history: History, made: _Made, *, pending: bool = False,
    ) -> None:  # fmt: skip
        """Keep what the units said: verdicts that add up, withdrawals that took place, rejected lines."""
        bounds = group.bounds([a.place for a in acts]) if acts else {}
        by = {a.place: a for a in acts}
        told, before = [], len(made.absences)
        for one in verdicts:
            place = one.position * N + one.n
            said = one
            if place in by:
                said = _with(one, folded.get(place, Folded({})), bounds.get(place), pending=pending)
                act = by[place]
                if act.scope is not None and not said.pending:
                    made.absences.append(Absence(act.origin, {c: (str(a), str(b)) for c, (a, b) in act.scope.items()}))
            _adds_up(self.dataset, said)
            told.append(said)
        spool = evidence.spool(
            group.rejected([p for p, a in by.items() if not a.absent]), draft.scratch / f"rejected-{len(made.rejected)}"
        )
        made.contracts[contract[0]] = contract[1].sha256
        made.verdicts += told
        made.rejected.append(spool)
        history.add(told, contract[0], made.absences[before:], spool)

    def _put(
        self, draft: Draft, made: _Made, head: evidence.Head, at: tuple[int, str | None], *, anew: bool, after: int
    ) -> Evidence:
        files, number = self.files, head.number + 1
        began = evidence.read(files, self.dataset, head.number, head.sha256)[0].began if head.number and not anew else 1
        quarantine = evidence.keep_rejected(
            files, self.dataset, number, (one for rows in made.rejected for one in rows())
        )
        pair = silver.load(self.catalog, self.dataset)
        if pair is None:
            raise LakeBusy(f"{self.dataset}: its tables went away meanwhile")
        stem = f"{number:09}-{self.run}"
        found = Evidence(
            number=number, parent=head.sha256, dataset=self.dataset, kind="refined", run=self.run, at=now(), after=after,
            position=at[0], position_sha256=at[1] or "", began=number if anew else began, contracts=tuple(sorted(made.contracts.items())),
            verdicts=tuple(made.verdicts), absences=tuple(made.absences), quarantine=quarantine,
            past=Change(tuple(tables.adopt(files, pair.past, list(draft.former.values()), stem)), (), anew),
            current=Change(
                tuple(tables.adopt(files, pair.current, list(draft.fresh.values()), stem)),
                _names(files, pair.current, draft.removed), anew,
            ),
        )  # fmt: skip
        if not files.put_new(evidence.name_of(self.dataset, number), evidence.encode(found), "refine.evidence"):
            raise LakeBusy(f"{self.dataset}: evidence {number} was put by another process first")
        return found


def _empty(layouts: tuple[Layout, Layout], scratch: Path) -> Draft:
    current, past = (drafts.of(Relation(one.columns)) for one in layouts)
    return Draft(current, past, layouts, scratch)


def _meeting(files: Files, table: Table) -> Read:
    """The files of a table that may hold keys within some boxes."""
    return lambda boxes: tables.relation(table, silver.snapshot_id(table), files, boxes)


def _names(files: Files, table: Table, urls: Sequence[str]) -> tuple[str, ...]:
    """The objects of a table that an engine reads by these URLs."""
    if not urls:
        return ()
    # Only of those that may be meant: on a store, asking for a URL may fetch the object.
    last = [url.rpartition("/")[2] for url in urls]
    there = (tables.name_of(table, one) for one in tables.data_files(table))
    named = {files.url(name): name for name in there if any(one.endswith(name.rpartition("/")[2]) for one in last)}
    if not named.keys() >= set(urls):
        raise LakeBusy(f"{'.'.join(table.name())}: another process replaced files that were read here; run it again")
    return tuple(named[url] for url in urls)


def _same(files: Files, dataset: str, head: evidence.Head) -> None:
    """LakeDamaged if the log's entry at the head's position is not the one that was folded."""
    if head.position:
        bronze.read(files, dataset, head.position, head.position_sha256)


def _act(place: int, entry: Entry, origin: int, scope: Scope | None, contract: Contract, counted: Counted) -> Act:
    """A batch that goes in. An answer without a row may be the vendor's fault: it withdraws nothing by itself."""
    gate = contract.gate
    limit, least = (gate.withdrawn_at_most, gate.withdrawn_min_rows) if counted.rows else (0.0, 1)
    return Act(place, entry.captured_at, origin, scope, limit, least, counted.keyless > 0)


def _verdict(
    place: int, batch: bronze.Batch | None, state: Any, counted: Counted, why: tuple[str, ...] = (), *,
    of: int | None = None, was: Any = "",
) -> Verdict:  # fmt: skip
    held = counted.rows if why else 0
    return Verdict(
        position=place // N, n=place % N, state=state, rows=batch.rows if batch and state == "void" else counted.rows,
        of=None if of is None else (of // N, of % N), was=was, origin=of or 0,
        shard=batch.shard if batch else "", start=batch.start.isoformat() if batch and batch.start else "",
        end=batch.end.isoformat() if batch and batch.end else "", duplicate=0 if why else counted.duplicate,
        quarantined=0 if why else counted.quarantined, held=held, keyless=counted.keyless,
        reasons=dict(counted.reasons), warnings=dict(counted.warnings), why=why,
    )  # fmt: skip


def _less(verdict: Verdict, **changes: Any) -> Verdict:
    return msgspec.structs.replace(verdict, **changes)


def _with(verdict: Verdict, folded: Folded, bounds: Any, *, pending: bool) -> Verdict:
    told = {c: (str(a), str(b)) for c, (a, b) in bounds.items()} if bounds else None
    return _less(verdict, **folded.counts, pending=folded.pending or pending, bounds=told)


def _whole(dataset: str, place: int, batch: bronze.Batch, counted: Counted) -> None:
    if counted.rows + batch.erased.rows != batch.rows:
        raise LakeDamaged(
            f"batch {place // N}.{place % N} of {dataset}: its entry says {batch.rows} rows, {batch.erased.rows} of them erased, "
            f"its parts hold {counted.rows}; "
            "nothing was published, `assay verify bronze` looks further"
        )


def _adds_up(dataset: str, v: Verdict) -> None:
    """LakeDamaged if a verdict's terms do not sum to its rows."""
    terms = sum(getattr(v, term) for term in TERMS)
    if v.state != "void" and terms != v.rows:
        raise LakeDamaged(
            f"batch {v.position}.{v.n} of {dataset}: {v.rows} rows captured, but {v.accepted} accepted + {v.unchanged} unchanged + "
            f"{v.superseded} superseded + {v.duplicate} duplicate + {v.quarantined} quarantined + {v.held} held + {v.erased} erased = {terms}; "
            "nothing was published, `assay verify bronze` looks further"
        )


__all__ = ["UNIT", "Refined", "anew", "refine"]
