"""Bronze to silver: one expression tree per contract, one verdict per batch, one append."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from isal import igzip
from pyiceberg.catalog import Catalog
from ulid import ULID

from assay import clock
from assay.contract.model import Contract
from assay.crash import effect
from assay.errors import LakeBusy, LakeDamaged, UsageError
from assay.lake import bronze, evidence, silver
from assay.lake.bronze import Manifest
from assay.lake.evidence import Evidence, Verdict
from assay.lake.files import Files
from assay.lake.silver import State
from assay.ports import Engine, Input, Ledger, Rejected, Staged
from assay.refine.gate import closed
from assay.refine.sql import refinement

ATTEMPTS = 5


@dataclass(frozen=True)
class Refined:
    """What a refine did: the evidence that is in the table now, or None if there was nothing left to do."""

    evidence: Evidence | None

    @property
    def held(self) -> tuple[Verdict, ...]:
        """The verdicts of batches whose gate is closed."""
        return tuple(v for v in self.evidence.verdicts if v.state == "held") if self.evidence else ()

    @property
    def bad(self) -> int:
        """How many rows did not become silver: quarantined ones, and all of held batches."""
        return sum(v.quarantined + v.held for v in self.evidence.verdicts) if self.evidence else 0


def refine(
    contract: Contract,
    batches: Sequence[Manifest],
    *,
    files: Files,
    catalog: Catalog,
    ledger: Ledger,
    engine: Engine,
    run: str,
    regate: bool = False,
) -> Refined:
    """Judge the batches that are not in yet and append those that pass, in one commit; idempotent.

    With `regate`, batches held so far are judged again by this contract. LakeDamaged if bronze is not what its
    manifest says or the counts do not add up; LakeBusy if other processes kept winning.
    """

    def todo(known: Mapping[str, State]) -> list[Manifest]:
        return [m for m in batches if m.batch not in known or (regate and known[m.batch].verdict.state == "held")]

    return _until_committed("refine", contract, todo, files, catalog, ledger, engine, run)


def replay(
    contract: Contract,
    batches: Sequence[Manifest],
    *,
    files: Files,
    catalog: Catalog,
    ledger: Ledger,
    engine: Engine,
    run: str,
) -> Refined:
    """Judge the quarantined rows of passed batches again, by this contract; those that are good now are appended.

    UsageError if the contract reads records differently by now: then all rows must be read anew first.
    """

    def todo(known: Mapping[str, State]) -> list[Manifest]:
        some = [m for m in batches if m.batch in known and known[m.batch].verdict.quarantined]
        some = [m for m in some if known[m.batch].contract_sha256 != contract.sha256]
        if any(known[m.batch].refine_fingerprint != contract.refine_fingerprint for m in some):
            first = f"assay refine {contract.dataset} --rebuild"
            raise UsageError(f"{contract.dataset} is read differently now, so all of it comes first: {first}")
        return some

    return _until_committed("replay", contract, todo, files, catalog, ledger, engine, run)


def rebuild(
    contract: Contract,
    listed: Callable[[], Sequence[Manifest]],
    *,
    files: Files,
    catalog: Catalog,
    ledger: Ledger,
    engine: Engine,
    run: str,
) -> Refined:
    """Refine every batch anew by this contract and put the result in place of the table's files, in one commit.

    `listed` gives all batches; it is asked after the table was read, so that none that is in can be left out.
    """

    def todo(known: Mapping[str, State]) -> list[Manifest]:
        batches = list(listed())
        if lost := known.keys() - {m.batch for m in batches}:
            raise LakeDamaged(
                f"batch {min(lost)} of {contract.dataset} is in silver, but no manifest names it any more"
            )
        return batches

    return _until_committed("rebuild", contract, todo, files, catalog, ledger, engine, run)


def _until_committed(
    kind: str,
    contract: Contract,
    choose: Callable[[Mapping[str, State]], list[Manifest]],
    files: Files,
    catalog: Catalog,
    ledger: Ledger,
    engine: Engine,
    run: str,
) -> Refined:
    """Look at the table, choose what is to do, commit it on what was seen; where somebody was faster, look again."""
    for _ in range(ATTEMPTS):
        table = silver.ensure(catalog, contract)
        known = silver.states(silver.adopt(files, table, ledger, contract.dataset))
        todo = choose(known)
        if not todo:
            return Refined(None)
        only = None
        if kind == "replay":
            only = {m.batch: [seq for seq, _, _ in quarantined(files, known[m.batch].verdict)] for m in todo}
        try:
            done = _commit(kind, contract, todo, only, table, files, engine, run)
        except LakeBusy:
            continue
        with effect("refine.ledger"):
            silver.adopt(files, catalog.load_table(silver.name(contract.dataset)), ledger, contract.dataset)
        return Refined(done)
    raise LakeBusy(f"{contract.dataset}: {ATTEMPTS} times another refine committed first; run it again")


def _commit(
    kind: str,
    contract: Contract,
    todo: Sequence[Manifest],
    only: Mapping[str, Sequence[int]] | None,
    table: Any,
    files: Files,
    engine: Engine,
    run: str,
) -> Evidence:
    inputs = _inputs(files, todo)
    evidence_id = str(ULID())
    pin = evidence.pin(files, contract)
    with engine.stage(refinement(contract), inputs, table, evidence_id, only) as staged:
        counts, reasons = staged.counts(), staged.reasons()
        # A replay takes in bad rows only, so their share says nothing; the batch passed its gate as a whole.
        why = {m.batch: () if kind == "replay" else _why(contract, m, counts, reasons) for m in todo}
        passing = [m.batch for m in todo if not why[m.batch]]
        objects = _quarantine(contract, staged, passing, files, evidence_id)
        written, accepted = staged.written(passing)
        verdicts = tuple(_verdict(m, only, counts, reasons, why[m.batch], accepted, objects) for m in todo)
        found = Evidence(
            id=evidence_id, kind=kind, dataset=contract.dataset, run=run, at=clock.now(), contract_sha256=pin,
            refine_fingerprint=contract.refine_fingerprint, gate_fingerprint=contract.gate_fingerprint,
            parent_snapshot=silver.snapshot_id(table), verdicts=verdicts,
        )  # fmt: skip
        files.put_new(found.name, evidence.encode(found), "refine.evidence")
        silver.commit(table, written, found, replace=kind == "rebuild")
    return found


def _inputs(files: Files, batches: Sequence[Manifest]) -> list[Input]:
    for manifest in batches:
        bronze.check(files, manifest)
    return [Input(m.batch, str(files.path(p.path)), p.first_seq, p.rows, p.bytes) for m in batches for p in m.parts]


def rejected(
    contract: Contract, manifest: Manifest, *, files: Files, catalog: Catalog, engine: Engine
) -> list[Rejected]:
    """A batch's bad rows by this contract, read anew from bronze: those of a held batch lie in no quarantine."""
    table = silver.ensure(catalog, contract)
    with engine.stage(refinement(contract), _inputs(files, [manifest]), table, str(ULID())) as staged:
        staged.written([])
        return list(staged.rejected())


def _why(
    contract: Contract,
    manifest: Manifest,
    counts: Mapping[str, Mapping[str, int]],
    reasons: Mapping[str, tuple[Mapping[str, int], Mapping[str, int]]],
) -> tuple[str, ...]:
    return closed(
        contract, manifest.rows, _count(counts, manifest, "quarantined"), *reasons.get(manifest.batch, ({}, {}))
    )


def _captured(manifest: Manifest, only: Mapping[str, Sequence[int]] | None) -> int:
    return manifest.rows if only is None else len(only[manifest.batch])


def _count(counts: Mapping[str, Mapping[str, int]], manifest: Manifest, what: str) -> int:
    return counts.get(manifest.batch, {}).get(what, 0)


def _verdict(
    manifest: Manifest,
    only: Mapping[str, Sequence[int]] | None,
    counts: Mapping[str, Mapping[str, int]],
    reasons: Mapping[str, tuple[Mapping[str, int], Mapping[str, int]]],
    why: tuple[str, ...],
    accepted: Mapping[str, int],
    objects: Mapping[str, tuple[str, int]],
) -> Verdict:
    """The batch's account; LakeDamaged if its terms do not add up to what was captured."""
    batch = manifest.batch
    held = sum(counts.get(batch, {}).values()) if why else 0
    name, quarantined = objects.get(batch, (None, 0))
    duplicate = 0 if why else _count(counts, manifest, "duplicate")
    verdict = Verdict(
        batch=batch, manifest=manifest.name, state="held" if why else "passed", captured=_captured(manifest, only),
        accepted=accepted.get(batch, 0), duplicate=duplicate, quarantined=quarantined, held=held,
        reasons=dict(reasons.get(batch, ({}, {}))[0]), warnings=dict(reasons.get(batch, ({}, {}))[1]), why=why, quarantine=name,
    )  # fmt: skip
    if (got := verdict.accepted + verdict.duplicate + verdict.quarantined + verdict.held) != verdict.captured:
        raise LakeDamaged(
            f"batch {batch} of {manifest.dataset}: {verdict.captured} rows captured, but {verdict.accepted} accepted + {verdict.duplicate} "
            f"duplicate + {verdict.quarantined} quarantined + {verdict.held} held = {got}; nothing was published, `assay verify bronze` looks further"
        )
    return verdict


def _quarantine(
    contract: Contract, staged: Staged, passing: Sequence[str], files: Files, evidence_id: str
) -> dict[str, tuple[str, int]]:
    """Write each passing batch's rejected lines as one object: batch to (name, lines written)."""
    out: dict[str, tuple[str, int]] = {}
    fingerprint = hashlib.sha256(
        f"{contract.refine_fingerprint}{contract.gate_fingerprint}{evidence_id}".encode()
    ).hexdigest()[:16]
    wanted = set(passing)
    for batch, group in _by_batch(one for one in staged.rejected() if one.batch in wanted):
        lines = [_line(one) for one in group]
        name = f"quarantine/{contract.dataset}/{batch}-{fingerprint}.ndjson.gz"
        files.put_new(name, igzip.compress(b"".join(lines), 1), "refine.quarantine")
        out[batch] = (name, len(lines))
    return out


def _by_batch(found: Iterator[Rejected]) -> Iterator[tuple[str, list[Rejected]]]:
    groups: dict[str, list[Rejected]] = {}
    for one in found:
        groups.setdefault(one.batch, []).append(one)
    yield from sorted(groups.items())


def _line(one: Rejected) -> bytes:
    try:
        body = {"_seq": one.seq, "reasons": one.reasons, "line": one.line.decode()}
    except UnicodeDecodeError:
        body = {"_seq": one.seq, "reasons": one.reasons, "line_base64": one.line}
    return msgspec.json.encode(body) + b"\n"


def quarantined(files: Files, verdict: Verdict) -> Iterator[tuple[int, list[str], bytes]]:
    """A batch's rejected rows: number, reasons, and the line exactly as it lies in bronze."""
    if verdict.quarantine is None:
        return
    import base64

    for line in bronze.inflate(files, verdict.quarantine).splitlines():
        got = msgspec.json.decode(line)
        yield (
            got["_seq"],
            got["reasons"],
            got["line"].encode() if "line" in got else base64.b64decode(got["line_base64"]),
        )


__all__ = ["Refined", "State", "quarantined", "rebuild", "refine", "rejected", "replay"]
