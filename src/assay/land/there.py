"""What a source has now that lies where it can be looked at, and what of it was landed last: nothing is landed here."""

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from assay.clock import now
from assay.contract.model import Contract
from assay.errors import AssayError, SettingsError
from assay.lake import bronze
from assay.land.source import Content, SourceSettings, There, load
from assay.plan import Looked
from assay.ports import Fact, Files, Ledger, in_hundreds


def looked(
    contract: Contract, last: int, *, settings: SourceSettings, root: Path, files: Files, ledger: Ledger
) -> Looked | None:
    """What the contract's files are now and were when they were landed, at an entry up to the position `last`.

    None where the source cannot look, or the landing did not keep what they held. A file that stands as it stood when
    it was read the last time is not read again.
    """
    before = _landed(files, contract.dataset, last)
    if before is None:
        return None
    try:
        source = load(contract.source, root)
        if source.there is None:
            return None
        return Looked(before, _now(source.there, contract, settings, ledger))
    except AssayError as error:  # landing says it again, and who must act
        return Looked(before, {}, str(error))


def _landed(files: Files, dataset: str, last: int) -> dict[str, str] | None:
    """The names and contents of the newest batch that counts; None where that does not say them."""
    for position in range(last, 0, -1):
        entry = bronze.read(files, dataset, position)
        void = bronze.void(files, dataset, entry)
        for batch in reversed(entry.batches):
            if batch.n not in void:
                kept = {asked.url or entry.url: asked.raw.content for asked in batch.requests if asked.raw}
                return kept if kept and all(kept.values()) else None
    return None


def _now(there: There, contract: Contract, settings: SourceSettings, ledger: Ledger) -> dict[str, str]:
    known = {f.id: f for f in ledger.since("file", contract.dataset)}
    seen = {f.body["name"]: Content(f.body["sha256"], tuple(f.body["state"])) for f in known.values()}
    found: Mapping[str, Content] = there(contract.options, settings, seen)
    new = {name: one for name, one in found.items() if one != seen.get(name)}
    facts = []
    for name, one in new.items():
        body = {"name": name, "sha256": one.sha256, "state": list(one.state)}
        number = hashlib.sha256(name.encode()).hexdigest()
        before = known.get(number)
        facts.append(Fact("file", contract.dataset, number, now(), body, before.version + 1 if before else 1))
    with suppress(SettingsError):  # who may only read the lake reads the files again
        for some in in_hundreds(facts):
            ledger.record(some)
    return {name: one.sha256 for name, one in found.items()}
