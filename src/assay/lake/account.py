"""Where each batch of a dataset stands: one account, kept in the ledger as running sums and folded from the evidence."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from assay.contract.model import Contract, Late
from assay.crash import effect
from assay.errors import LakeDamaged
from assay.lake import bronze, evidence
from assay.lake.evidence import Evidence, Head, Verdict
from assay.ports import Fact, Files, Ledger, N
from assay.spoken import TERMS

HUNDRED = 100
LISTS = 4, 64
"""How many batches are looked at for the last two that count, and how many where those were taken out."""


@dataclass(frozen=True)
class Held:
    """A batch that a person may have to decide about: why, and what its rows are rejected for.

    Attributes:
        state: held (its gate is closed), pending (its rows are in, its withdrawals are held), or superseded (held, and
            its shard was landed again since, for all of its days or as a whole, and passed).
        at: since when it is known to be so.
    """

    place: int
    shard: str
    start: str
    end: str
    rows: int
    why: tuple[str, ...]
    reasons: Mapping[str, int]
    state: str = "held"
    at: datetime | None = None

    @property
    def superseded(self) -> bool:
        """Whether something newer stands in for its rows."""
        return self.state == "superseded"

    @property
    def batch(self) -> str:
        """How people see it: `1260.17`."""
        return spoken(self.place)


@dataclass(frozen=True)
class Paused:
    """A decision that a dataset's source is not asked, in force until it is resumed; `kind` is pause or retire."""

    dataset: str
    kind: str
    who: str
    why: str
    at: datetime

    @property
    def told(self) -> str:
        """It as a sentence."""
        said = "retired" if self.retired else "paused"
        return (
            f"{said} by {self.who} on {self.at.date()}: {self.why}; its source is not asked, until "
            f"`assay decide resume {self.dataset} --why …`"
        )

    @property
    def retired(self) -> bool:
        """Whether it is for good."""
        return self.kind == "retire"


@dataclass(frozen=True)
class Account:
    """A dataset's running sums: rows = accepted + unchanged + superseded + duplicate + quarantined + held.

    Attributes:
        landed: batches, rows, bytes and calls of the whole log, its `position`, `captured_at` and `origins`; how many
            batches were declared `lost`.
        sums: the terms above over what is judged, with `rows`, `batches`, `void` and `withdrawn` beside them, `by_hand`: how
            many of the rows a person wrote, and `pending`: how often withdrawals were held, decided ones too.
        reasons, warnings: rows in quarantine by reason, and rows warned of by rule.
        held: the batches whose gate is closed, also where something newer stands in for them.
        pending: the batches whose rows are in and whose withdrawals are held.
        former: how many versions are former ones: each was changed or withdrawn.
        paused: the decision that its source is not asked, if one is in force.
        evidence, position: how far silver has come.
    """

    dataset: str
    landed: Mapping[str, Any] = field(default_factory=dict)
    sums: Mapping[str, int] = field(default_factory=dict)
    reasons: Mapping[str, int] = field(default_factory=dict)
    warnings: Mapping[str, int] = field(default_factory=dict)
    held: tuple[Held, ...] = ()
    evidence: int = 0
    position: int = 0
    pending: tuple[Held, ...] = ()
    former: int = 0
    paused: "Paused | None" = None

    def sum(self, term: str) -> int:
        """A term's sum: one of `sums`, `captured` (their rows), or `waiting` (rows that are not judged yet)."""
        if term == "waiting":
            judged = self.sums.get("rows", 0) - self.sums.get("by_hand", 0) + self.sums.get("void_rows", 0)
            return int(self.landed.get("rows", 0)) - judged
        return self.sums.get("rows" if term == "captured" else term, 0)

    @property
    def waiting(self) -> int:
        """Batches that are not judged yet."""
        return int(self.landed.get("batches", 0)) - self.sums.get("batches", 0) - self.sums.get("void", 0)

    @property
    def open(self) -> list[Held]:
        """The held batches whose rows nothing newer stands in for."""
        return [one for one in self.held if one.state == "held"]

    @property
    def replaced(self) -> list[Held]:
        """The held batches whose rows something newer stands in for."""
        return [one for one in self.held if one.superseded]

    @property
    def refused(self) -> dict[str, int]:
        """Rows that a rule refuses, by its name: those in quarantine, of held batches, and those that it warns of."""
        counts = Counter(self.reasons)
        for reasons in (self.warnings, *(one.reasons for one in self.open)):
            counts.update(reasons)
        return dict(counts)

    @property
    def changed(self) -> int:
        """How many accepted rows took the place of another version; the other accepted rows were new, or back again."""
        return self.former - self.sums.get("withdrawn", 0)

    @property
    def captured_at(self) -> datetime | None:
        """The time of the newest landing."""
        at = self.landed.get("captured_at")
        return datetime.fromisoformat(at) if at else None

    @property
    def lost(self) -> int:
        """How many batches were declared lost: they are void, and their days are asked for again."""
        return int(self.landed.get("lost", 0))

    @property
    def origins(self) -> tuple[str, ...]:
        """Whose records these are."""
        return tuple(self.landed.get("origins", ()))


def spoken(place: int) -> str:
    """A place as people see it.

    >>> spoken(1260000017)
    '1260.17'
    """
    return f"{place // N}.{place % N}"


def paused(ledger: Ledger, dataset: str) -> Paused | None:
    """The decision that a dataset's source is not asked, as the ledger has it; None where it is asked."""
    found = ledger.newest("paused", dataset, "now")
    if found is None or found.body["kind"] == "resume":
        return None
    return Paused(dataset, found.body["kind"], found.body["who"], found.body["why"], found.at)


def of(ledger: Ledger, dataset: str) -> Account:
    """The account as the ledger has it; nothing else is read."""
    landed = ledger.newest("landed", dataset, "now")
    found = ledger.newest("account", dataset, "now")
    if found is None:
        return Account(dataset, landed.body if landed else {}, paused=paused(ledger, dataset))
    body = found.body
    held = [_held(f) for f in ledger.since("held", dataset) if _open(f, body)] if _any(body) else []
    return Account(
        dataset, landed.body if landed else {}, body["sums"], body["reasons"], body["warnings"],
        tuple(h for h in held if h.state != "pending"), found.version, body["position"],
        tuple(h for h in held if h.state == "pending"), body.get("former", 0), paused(ledger, dataset),
    )  # fmt: skip


def began(ledger: Ledger, dataset: str) -> int:
    """The number of the evidence from which on the account counts; 1 before the first."""
    found = ledger.newest("account", dataset, "now")
    return int(found.body["began"]) if found else 1


def adopt(files: Files, ledger: Ledger, dataset: str, head: Head) -> None:
    """Bring the ledger's account up to the evidence that silver's head names.

    LakeDamaged where the ledger knows more than silver: one of them was put back from an older copy.
    """
    known = ledger.newest("account", dataset, "now")
    number = known.version if known else 0
    if number == head.number:
        return
    if number > head.number:
        raise LakeDamaged(
            f"the ledger knows evidence {number} of {dataset}, its tables end at {head.number}: the catalog is of an older "
            "copy and its evidence is gone. Restore both from one copy, or move ledger.db away: it is made anew"
        )
    body = dict(known.body) if known else _nothing(1)
    sha256 = body.get("sha256")
    newest, _ = evidence.read(files, dataset, head.number, head.sha256)
    if newest.began > number + 1:
        number, sha256, body = newest.began - 1, None, _nothing(newest.began)
    for found, its_sha256 in evidence.since(files, dataset, number, sha256):
        if found.number > head.number:
            break
        body = _step(ledger, dataset, body, found, its_sha256)
        number = found.number
    if number != head.number:
        raise LakeDamaged(
            f"{evidence.name_of(dataset, number + 1)} is lost; restore it from a copy, or `assay refine {dataset} --rebuild`"
        )


def _nothing(number: int) -> dict[str, Any]:
    return {"sums": {}, "reasons": {}, "warnings": {}, "position": 0, "began": number, "sha256": None, "former": 0}


def _step(ledger: Ledger, dataset: str, before: Mapping[str, Any], found: Evidence, sha256: str) -> dict[str, Any]:
    """Record one evidence object: the account last, so that what a crash left out is done again."""
    body = _nothing(found.number) if found.began == found.number and found.number > 1 else dict(before)
    summed = Counter(body["sums"])
    reasons, warnings = Counter(body["reasons"]), Counter(body["warnings"])
    for v in found.verdicts:
        _add(summed, reasons, warnings, v)
    facts = [
        Fact(
            "evidence", dataset, f"{found.number:09}", found.at,
            {"sha256": sha256, "position": found.position, "kind": found.kind, "run": found.run},
        )
    ]  # fmt: skip
    facts += _held_facts(ledger, dataset, body, found)
    body |= {
        "sums": {k: n for k, n in summed.items() if n}, "reasons": {k: n for k, n in reasons.items() if n},
        "warnings": dict(warnings), "position": found.position, "sha256": sha256,
        "former": body.get("former", 0) + (sum(f.rows for f in found.past.add) if found.kind == "refined" else 0),
    }  # fmt: skip
    facts.append(Fact("account", dataset, "now", found.at, body, found.number))
    with effect("refine.ledger"):
        for start in range(0, len(facts), HUNDRED):
            ledger.record(facts[start : start + HUNDRED])
    return body


def sums(verdicts: Iterable[Verdict]) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """The running sums of verdicts in the order of their places: of the terms, of reasons, and of warnings."""
    out: tuple[Counter[str], Counter[str], Counter[str]] = (Counter(), Counter(), Counter())
    for v in verdicts:
        _add(*out, v)
    return out


def _add(sums: Counter[str], reasons: Counter[str], warnings: Counter[str], v: Verdict) -> None:
    if v.state == "void":
        sums.update(void=1, void_rows=v.rows)
        return
    if v.of is None and v.origin == 0:
        sums.update(batches=1)
    elif v.of is None:
        sums.update(by_hand=v.rows)
    if v.was:
        sums[v.was] -= v.rows
        sums["rows"] -= v.rows
    sums.update({"rows": v.rows, "withdrawn": v.withdrawn, "pending": int(v.pending)})
    sums.update({term: getattr(v, term) for term in TERMS})
    if v.state == "passed" and v.was != "quarantined":
        reasons.update(v.reasons)
        warnings.update(v.warnings)
    elif v.freed:
        reasons.subtract(v.freed)
        reasons.update(v.reasons)
        # What the rows were warned of before counts already; what was a reason before, and is a warning now, does not.
        warnings.update({rule: n for rule, n in v.warnings.items() if rule in v.freed})


def _held_facts(ledger: Ledger, dataset: str, body: Mapping[str, Any], found: Evidence) -> Iterator[Fact]:
    """The batches that this evidence holds, whose withdrawals it holds, that it lets in, or sees replaced."""
    states: dict[int, Fact] = {}
    if _any(body):
        states = {int(f.id): f for f in ledger.since("held", dataset) if _open(f, body)}
    changed: dict[int, dict[str, Any]] = {}
    opened = {place: dict(f.body) for place, f in states.items() if f.body["state"] != "superseded"}

    def becomes(place: int, state: str) -> None:
        changed[place] = {**opened.pop(place, {}), "state": state, "began": body["began"]}

    for v in found.verdicts:
        place = v.position * N + v.n
        about = v.of[0] * N + v.of[1] if v.of else place
        if v.state == "held" or v.pending:
            known = changed.get(about) or (states[about].body if about in states else {})
            replaced = known.get("state") == "superseded"
            changed[about] = {
                "state": "pending" if v.pending else "superseded" if replaced else "held", "shard": v.shard, "start": v.start,
                "end": v.end, "why": list(v.why), "reasons": v.reasons, "began": body["began"],
                "rows": 0 if v.pending else known.get("rows", v.held),
            }  # fmt: skip
            if v.pending or not replaced:
                opened[about] = changed[about]
        elif v.of and (v.was == "held" or opened.get(about, {}).get("state") == "pending"):
            becomes(about, "released")
        if v.state == "passed" and v.of is None:
            for other, one in list(opened.items()):
                if other < place and one["shard"] == v.shard and v.start <= one["start"] and one["end"] <= v.end:
                    if one["state"] == "held":
                        becomes(other, "superseded")
                    elif not v.pending:  # the newer answer has withdrawn what it lacks
                        becomes(other, "released")
    for place, one in changed.items():
        yield Fact("held", dataset, f"{place:016}", found.at, one, found.number)


def _any(body: Mapping[str, Any]) -> bool:
    """Whether a batch was ever held, or its withdrawals."""
    return bool(body["sums"].get("held") or body["sums"].get("pending"))


def _open(fact: Fact, body: Mapping[str, Any]) -> bool:
    return bool(fact.body["state"] != "released") and bool(fact.body["began"] == body["began"])


def _held(fact: Fact) -> Held:
    b = fact.body
    return Held(
        int(fact.id), b["shard"], b["start"], b["end"], b["rows"], tuple(b["why"]), b["reasons"], b["state"], fact.at
    )


@dataclass(frozen=True)
class Judgement:
    """The last one of a batch, after all that was decided about it.

    Attributes:
        judged_by: the position of the contract.
        judged_at: the place of the judgement, at which its rows lie in quarantine.
        pending: its withdrawals are held.
        quarantined: how many of its rows are in quarantine by now.
    """

    state: str
    judged_by: int
    judged_at: int
    pending: bool
    quarantined: int


def judge(last: dict[int, Judgement], verdicts: Iterable[Verdict], contracts: Sequence[int]) -> None:
    """Bring the last judgements, by place, up to the verdicts of one evidence, whose contracts lie at these positions."""
    for v in verdicts:
        place, about = v.position * N + v.n, v.of and v.of[0] * N + v.of[1]
        by = judged_by(v, contracts)
        if about is None:
            last[place] = Judgement(v.state, by, place, v.pending, v.quarantined)
        elif (was := last.get(about)) is None:
            continue
        elif v.state == "held":
            last[about] = replace(was, judged_by=by)
        elif v.was:
            last[about] = Judgement("passed", by, place, v.pending, v.quarantined)
        else:
            last[about] = replace(was, pending=v.pending)


def judged_by(v: Verdict, contracts: Sequence[int]) -> int:
    """The position of the contract by which a verdict was found, of those of its evidence, in order.

    Where the whole log was folded anew by a later one, that lies after the verdict.
    """
    return v.judged_by or max((p for p in contracts if p <= v.position), default=contracts[0] if contracts else 0)


def late(contract: Contract, found: Account, at: datetime) -> Sequence[Late]:
    """The promises of time that are broken at a moment; none of a dataset that is retired."""
    return () if found.paused and found.paused.retired else contract.late(found.captured_at, at)


def failing(ledger: Ledger, dataset: str, *, retired: bool = False) -> list[dict[str, Any]]:
    """What failed, or began and did not end, of a dataset's steps (of gold's, without one): with its error and attempts.

    Of one that is `retired` no landing: nobody asks its source any more.
    """
    steps = [f for kind in ("step", "failed") for f in ledger.since(kind, dataset) if f.body["state"] != "done"]
    steps = [f for f in steps if not (retired and f.id.split(" ")[0] == "land")]
    return [{"step": f.id, "at": f.at.isoformat(), **f.body, "told": _failing(f)} for f in steps]


def _failing(fact: Fact) -> str:
    """A step that failed, in a line; its error may have several."""
    body = fact.body
    return f"{body['state']} {fact.id} (attempt {body['attempt']}, {fact.at.isoformat()[:19]}): {body['error']}"


@dataclass(frozen=True)
class Line:
    """One batch, or act of a decision, as people look at it; `state` is waiting until it is judged."""

    place: int
    shard: str
    start: str
    end: str
    rows: int
    origin: str
    captured_at: datetime
    state: str
    verdict: Verdict | None
    entry: str

    @property
    def batch(self) -> str:
        """How people see it: `1260.17`."""
        return spoken(self.place)


def newest(files: Files, ledger: Ledger, dataset: str, limit: int) -> list[Line]:
    """The newest batches, at most `limit`, from the entries and evidence that speak of them alone."""
    landed = ledger.newest("landed", dataset, "now")
    position = int(landed.body["position"]) if landed else 0
    found = of(ledger, dataset)
    verdicts: dict[tuple[int, int], Verdict] = {}
    number, reached = found.evidence, found.position + 1
    out: list[Line] = []
    while position > 0 and len(out) < limit:
        entry = bronze.read(files, dataset, position)
        while number > 0 and entry.position < reached:
            one, _ = evidence.read(files, dataset, number)
            verdicts |= {(v.position, v.n): v for v in one.verdicts}
            number, reached = (number - 1, one.after + 1) if one.began < number else (0, 0)
        for batch in reversed(entry.batches):
            v = verdicts.get((entry.position, batch.n))
            out.append(
                Line(
                    entry.position * N + batch.n, batch.shard, _day(batch.start), _day(batch.end), batch.rows, entry.origin,
                    entry.captured_at, v.state if v else "waiting", v, bronze.name_of(dataset, entry.position),
                )
            )  # fmt: skip
        position -= 1
    return out[:limit]


def shrank(files: Files, ledger: Ledger, dataset: str) -> tuple[Line, Line] | None:
    """The newest whole list and the one before it, where it has fewer rows; for datasets that are landed whole, as one shard."""
    for limit in LISTS:
        found = newest(files, ledger, dataset, limit)
        read = [one for one in found if one.state != "void"][:2]
        if len(read) == 2 or len(found) < limit:
            break
    return (read[0], read[1]) if len(read) == 2 and read[0].rows < read[1].rows else None


def _day(day: Any) -> str:
    return day.isoformat() if day else ""
