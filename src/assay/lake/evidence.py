"""Evidence: what one refine saw, decided and wrote, per batch; kept as an object before anything is visible."""

import hashlib
from datetime import datetime

import msgspec

from assay.contract import odcs
from assay.contract.model import Contract
from assay.errors import LakeDamaged
from assay.lake.files import Files


class Verdict(msgspec.Struct, frozen=True):
    """One batch's account: captured = accepted + duplicate + quarantined + held, each counted from its own output.

    `captured` is what this refine took in: the whole batch, or in a replay the rows that were in quarantine.
    `state` is passed or held; `why` says which limit closed the gate. `reasons` and `warnings` count rows.
    `quarantine` names the object with the rejected lines, if there are any.
    """

    batch: str
    manifest: str
    state: str
    captured: int
    accepted: int
    duplicate: int
    quarantined: int
    held: int
    reasons: dict[str, int]
    warnings: dict[str, int]
    why: tuple[str, ...] = ()
    quarantine: str | None = None


class Evidence(msgspec.Struct, frozen=True):
    """What one refine did: `kind` is refine, replay or rebuild; `contract_sha256` pins the contract it used."""

    id: str
    kind: str
    dataset: str
    run: str
    at: datetime
    contract_sha256: str
    refine_fingerprint: str
    gate_fingerprint: str
    parent_snapshot: int | None
    verdicts: tuple[Verdict, ...]

    @property
    def name(self) -> str:
        """Where it lies."""
        return f"evidence/{self.dataset}/{self.id}.json"


def encode(evidence: Evidence) -> bytes:
    """The object's bytes; their sha256 stands in the commit."""
    return msgspec.json.format(msgspec.json.encode(evidence), indent=1)


def read(files: Files, dataset: str, evidence_id: str, sha256: str | None = None) -> Evidence:
    """One evidence object; LakeDamaged if it is not the one the commit named."""
    name = f"evidence/{dataset}/{evidence_id}.json"
    data = files.read(name)
    if sha256 and hashlib.sha256(data).hexdigest() != sha256:
        raise LakeDamaged(f"{name} is not the evidence its commit named; restore it from a copy")
    try:
        return msgspec.json.decode(data, type=Evidence)
    except msgspec.DecodeError as error:
        raise LakeDamaged(f"{name} is not evidence any more ({error}); restore it from a copy") from error


def pin(files: Files, contract: Contract) -> str:
    """Store the contract's text under its hash, once; return the hash."""
    name = f"contracts/{contract.sha256}.yaml"
    if not files.exists(name):
        files.put_new(name, contract.text.encode(), "refine.contract")
    return contract.sha256


def pinned(files: Files, sha256: str) -> Contract:
    """The contract stored under a hash."""
    name = f"contracts/{sha256}.yaml"
    text = files.read(name).decode()
    if hashlib.sha256(text.encode()).hexdigest() != sha256:
        raise LakeDamaged(f"{name} was altered; restore it from a copy")
    return odcs.parse(text, name)
