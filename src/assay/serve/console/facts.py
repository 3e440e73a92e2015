"""What the lake's facts say about a dataset: freshness, the terms of conservation, what is held and why."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from assay.contract.model import Contract
from assay.lake import silver
from assay.lake.duck import ident
from assay.lake.evidence import Evidence, Verdict
from assay.ports import Ledger
from assay.serve.newest import Place, Reading
from assay.serve.query import token


@dataclass
class Batch:
    """One manifest and where it stands: waiting, passed, held or superseded, and `why` it is held.

    `reasons` count its rejected rows, `warnings` its judged ones, those judged again by a replay once more.
    """

    id: str
    name: str
    shard: str
    start: str
    end: str
    generation: int
    rows: int
    bytes: int
    origin: str
    captured_at: datetime
    state: str = "waiting"
    accepted: int = 0
    duplicate: int = 0
    quarantined: int = 0
    held: int = 0
    why: tuple[str, ...] = ()
    reasons: Counter[str] = field(default_factory=Counter)
    warnings: Counter[str] = field(default_factory=Counter)


@dataclass
class Account:
    """A dataset's batches, newest first, and their sums: captured = accepted + duplicate + quarantined + held."""

    dataset: str
    title: str
    batches: list[Batch]
    newest_day: str | None = None

    def sum(self, term: str) -> int:
        """The sum of a term over judged batches: `captured` of their rows, `waiting` of rows not judged yet.

        `superseded` is the part of `held` that something newer stands in for.
        """
        if term == "superseded":
            return sum(b.held for b in self.superseded)
        if term == "waiting":
            return sum(b.rows for b in self.batches if b.state == "waiting")
        judged = [b for b in self.batches if b.state != "waiting"]
        return sum(b.rows if term == "captured" else getattr(b, term) for b in judged)

    @property
    def captured_at(self) -> datetime | None:
        """When the newest batch was captured."""
        return max((b.captured_at for b in self.batches), default=None)

    @property
    def origins(self) -> tuple[str, ...]:
        """Whose records these are."""
        return tuple(sorted({b.origin for b in self.batches}))

    @property
    def held(self) -> list[Batch]:
        """The batches whose gate is closed, and whose rows nothing newer stands in for."""
        return [b for b in self.batches if b.state == "held"]

    @property
    def superseded(self) -> list[Batch]:
        """The held batches that something newer stands in for."""
        return [b for b in self.batches if b.state == "superseded"]

    @property
    def broken(self) -> dict[str, tuple[int, int, int]]:
        """Per reason or warning: rows in quarantine, rows of held batches, and rows warned of; the most first."""
        counted = (
            _summed(b.reasons for b in self.batches if b.state == "passed"),
            _summed(b.reasons for b in self.held),
            _summed(b.warnings for b in self.batches if b.state in ("passed", "held")),
        )
        names = sorted({name for one in counted for name in one}, key=lambda n: (-sum(c[n] for c in counted), n))
        return {n: (counted[0][n], counted[1][n], counted[2][n]) for n in names}

    @property
    def state(self) -> tuple[str, str]:
        """A word and its colour."""
        if not self.batches:
            return "empty", "quiet"
        if self.sum("captured") != sum(self.sum(term) for term in ("accepted", "duplicate", "quarantined", "held")):
            return "does not add up", "bad"
        if self.held:
            return f"{len(self.held)} held", "bad"
        if waiting := sum(b.state == "waiting" for b in self.batches):
            return f"{waiting} waiting", "warn"
        return ("quarantine", "warn") if self.sum("quarantined") else ("whole", "good")


def account(ledger: Ledger, contract: Contract) -> Account:
    """A dataset's account from the ledger's manifests and evidence."""
    batches = {}
    for fact in ledger.facts("manifest", contract.dataset):
        body = fact.body
        batches[fact.id] = Batch(
            fact.id, body["name"], str(body.get("shard", "")), str(body.get("start", "")), str(body.get("end", "")),
            int(body.get("generation", 1)), int(body.get("rows", 0)), int(body.get("bytes", 0)), body["origin"], fact.at,
        )  # fmt: skip
    found = Account(contract.dataset, contract.title, [])
    for evidence in _evidence(ledger, contract.dataset):
        for verdict in evidence.verdicts:
            if verdict.batch in batches:
                _judge(batches[verdict.batch], verdict, again=evidence.kind == "replay")
    _supersede(list(batches.values()), windowed=contract.window is not None)
    found.batches = sorted(batches.values(), key=lambda b: (b.captured_at, b.id), reverse=True)
    return found


def _evidence(ledger: Ledger, dataset: str) -> Sequence[Evidence]:
    bodies: list[Any] = sorted((f.body for f in ledger.facts("evidence", dataset)), key=lambda b: b["sequence"])
    return [msgspec.convert(body["evidence"], Evidence) for body in bodies]


def _judge(batch: Batch, verdict: Verdict, *, again: bool) -> None:
    # a replay judges only what was in quarantine: what it accepts comes on top
    batch.accepted = verdict.accepted + (batch.accepted if again else 0)
    batch.duplicate = verdict.duplicate + (batch.duplicate if again else 0)
    batch.quarantined, batch.held, batch.state, batch.why = (
        verdict.quarantined,
        verdict.held,
        verdict.state,
        verdict.why,
    )
    batch.reasons = Counter(verdict.reasons)
    batch.warnings = Counter(verdict.warnings) + (batch.warnings if again else Counter())


def _supersede(batches: Sequence[Batch], *, windowed: bool) -> None:
    """Find the held batches whose shard was captured again later, for all of their days or as a whole, and passed."""
    for one in batches:
        later = (b for b in batches if b.state == "passed" and b.shard == one.shard and b.captured_at > one.captured_at)
        if one.state == "held" and any(not windowed or (b.start <= one.start and one.end <= b.end) for b in later):
            one.state = "superseded"


def _summed(counts: Iterable[Counter[str]]) -> Counter[str]:
    return sum(counts, Counter())


def day_column(contract: Contract) -> str | None:
    """The column whose newest value says how far the data reaches."""
    names = (
        [contract.known_at.column]
        if contract.known_at
        else [k for k in contract.key if contract.column(k).kind in ("date", "timestamp")]
    )
    return names[0] if names else None


def newest_day(place: Place, reading: Reading, dataset: str) -> str | None:
    """The newest day in a dataset's observed rows, at the release's snapshot; kept with the release."""
    contract = reading.contracts.get(dataset)
    if contract is None or (column := day_column(contract)) is None:
        return None
    if dataset not in reading.days:
        snapshot = next(s.snapshot for s in reading.release.silver if s.dataset == dataset)
        observed = silver.observed(place.catalog.load_table(silver.name(dataset)), snapshot)
        with reading.cursor() as con:
            (newest,) = con.execute(f"SELECT CAST(max({ident(column)}) AS DATE) FROM ({observed})").fetchall()[0]
        reading.days[dataset] = token(newest) or None
    return reading.days[dataset]


def accounts(place: Place, reading: Reading | None) -> list[Account]:
    """Every dataset's account, in the order of their names: those promised when the server started, and those released."""
    contracts = {**place.contracts, **(reading.contracts if reading else {})}
    out = []
    for dataset in sorted(contracts):
        found = account(place.ledger, contracts[dataset])
        found.newest_day = newest_day(place, reading, dataset) if reading else None
        out.append(found)
    return out
