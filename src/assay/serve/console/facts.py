"""What the lake's facts say about a dataset: freshness, the terms of conservation, what is held, pending and failing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb

from assay.clock import now
from assay.contract.model import Contract, Late
from assay.errors import LakeDamaged
from assay.lake import account, bronze
from assay.lake.account import Account
from assay.lake.duck import ident
from assay.lake.release import Silver
from assay.serve.granted import Grant
from assay.serve.newest import Place, Reading
from assay.serve.query import token
from assay.serve.reader import damaged
from assay.spoken import TERMS, some


@dataclass(frozen=True)
class Standing:
    """A dataset as its pages show it.

    `lost` says why its newest day cannot be read; `failing` are steps that failed, or began and did not end; `late` the
    promises of time that are broken.
    """

    account: Account
    title: str
    newest_day: str | None = None
    lost: str = ""
    failing: Sequence[Mapping[str, Any]] = field(default=())
    late: Sequence[Late] = field(default=())

    @property
    def dataset(self) -> str:
        """Its name."""
        return self.account.dataset

    @property
    def new(self) -> int:
        """Accepted rows whose key was not there before, or not any more."""
        return self.account.sum("accepted") - self.account.changed

    @property
    def replaced(self) -> int:
        """Rows that stay held and that something newer stands in for."""
        return sum(one.rows for one in self.account.replaced)

    @property
    def broken(self) -> dict[str, tuple[int, int, int]]:
        """Per reason or warning: rows in quarantine, rows of held batches, and rows warned of; the most first."""
        held: dict[str, int] = {}
        for one in self.account.open:
            for name, rows in one.reasons.items():
                held[name] = held.get(name, 0) + rows
        counted = (self.account.reasons, held, self.account.warnings)
        names = {name for one in counted for name in one}
        found = {name: tuple(one.get(name, 0) for one in counted) for name in names}
        order = sorted(found, key=lambda name: (-sum(found[name]), name))
        return {name: (found[name][0], found[name][1], found[name][2]) for name in order}

    @property
    def state(self) -> tuple[str, str]:
        """A word and its colour."""
        found = self.account
        if not found.landed.get("batches"):
            return ("failing", "bad") if self.failing else ("empty", "quiet")
        if found.sum("captured") != sum(found.sum(term) for term in TERMS):
            return "does not add up", "bad"
        if found.open:
            return f"{len(found.open):,} held", "bad"
        if self.failing:
            return "failing", "bad"
        if found.pending:
            return f"{some(len(found.pending), 'withdrawal')} held", "warn"
        if found.waiting:
            return f"{found.waiting:,} waiting", "warn"
        if found.paused:
            return ("retired" if found.paused.retired else "paused"), "quiet"
        if self.late:
            return "late", "warn"
        return ("quarantine", "warn") if found.sum("quarantined") else ("whole", "good")


def standing(place: Place, reading: Reading | None, dataset: str) -> Standing:
    """Where a dataset stands now: what the ledger says of it, and how far its released rows reach."""
    released = _released(reading, dataset)
    title = released.title if released else place.contracts[dataset].title
    found = account.of(place.ledger, dataset)
    retired = found.paused is not None and found.paused.retired
    failing = account.failing(place.ledger, dataset, retired=retired)
    contract = place.contracts.get(dataset)
    late = account.late(contract, found, now()) if contract else ()
    try:
        day = _newest_day(reading, released) if reading and released else None
    except LakeDamaged as error:
        return Standing(found, title, None, str(error), failing, late)
    return Standing(found, title, day, "", failing, late)


def standings(place: Place, reading: Reading | None, grant: Grant) -> list[Standing]:
    """Every dataset of a grant in the order of their names: those promised when the server started, and those released."""
    released = {one.dataset for one in reading.release.silver} if reading else set()
    there = {*place.contracts, *released}
    return [standing(place, reading, one) for one in sorted(there if grant is None else there & grant)]


def promise(place: Place, reading: Reading, one: Silver) -> Contract:
    """The contract by which the release read a dataset."""
    if one.contract_sha256 not in reading.promised:
        reading.promised[one.contract_sha256] = bronze.pinned(place.files, one.contract_sha256)
    return reading.promised[one.contract_sha256]


def _released(reading: Reading | None, dataset: str) -> Silver | None:
    return next((one for one in reading.release.silver if one.dataset == dataset), None) if reading else None


def _newest_day(reading: Reading, one: Silver) -> str | None:
    """The newest day of the rows that were current at the release; read once a snapshot."""
    if one.day is None:
        return None
    of = (one.dataset, one.current.snapshot)
    if of not in reading.days:
        sql = f"SELECT CAST(max({ident(one.day)}) AS DATE) FROM {reading.tables['silver', one.dataset].relation}"
        try:
            with reading.cursors.one() as con:
                (newest,) = con.execute(sql).fetchall()[0]
        except duckdb.Error as error:
            if lost := damaged(error):
                raise lost from error
            raise
        reading.days[of] = token(newest) or None
    return reading.days[of]
