"""A second engine, slow and in plain Python: it reads gz lines and judges them by the oracle's words."""

import gzip
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.contract.model import Contract
from assay.ports import CONFLICT, Counted, Lines, Rejected
from tests.laws import oracle

ENVELOPE = re.compile(rb'\{"_seq":(\d{1,18}),"_n":(\d{1,9}),')


@dataclass
class Line:
    """A line of a wanted batch and what it is."""

    place: int
    seq: int
    raw: bytes
    values: dict[str, Any]
    reasons: set[str]
    repeats: bool = False
    hash: str = ""
    known_at: Any = None


@dataclass
class SlowGroup:
    """See `assay.ports.Group`."""

    contract: Contract
    lines: list[Line]
    places: list[int]

    def judged(self) -> dict[int, Counted]:
        out = {}
        for place in self.places:
            mine = [one for one in self.lines if one.place == place]
            bad = [one for one in mine if one.reasons]
            out[place] = Counted(
                rows=len(mine),
                good=sum(not one.reasons and not one.repeats for one in mine),
                duplicate=sum(one.repeats for one in mine),
                quarantined=len(bad),
                keyless=sum(keyless(self.contract, one) for one in bad),
                reasons=Counter(reason for one in bad for reason in one.reasons),
            )
        return out

    def rejected(self, places: Collection[int]) -> Iterator[Rejected]:
        for one in sorted(self.lines, key=lambda one: (one.place, one.seq)):
            if one.reasons and one.place in places:
                yield Rejected(one.place, one.seq, tuple(sorted(one.reasons)), one.raw)


class SlowEngine:
    """See `assay.ports.Engine`."""

    @contextmanager
    def group(
        self, contract: Contract, lines: Sequence[Lines], only: Mapping[int, Collection[int]] | None = None
    ) -> Iterator[SlowGroup]:
        found = [judge(contract, place, seq, raw) for part in lines for place, seq, raw in of(part)]
        compare(contract, found)
        if only is not None:
            found = [one for one in found if one.place not in only or one.seq in only[one.place]]
        yield SlowGroup(contract, found, sorted({place for part in lines for place in part.batches.values()}))

    def rows(self, contract: Contract, lines: Sequence[bytes]) -> list[dict[str, Any] | None]:
        found = [judge(contract, 0, 0, line) for line in lines]
        return [None if o.reasons else o.values | {"known_at": o.known_at, "_hash": o.hash} for o in found]


def of(part: Lines) -> Iterator[tuple[int, int, bytes]]:
    for raw in gzip.decompress(Path(part.url).read_bytes()).split(b"\n"):
        envelope = ENVELOPE.match(raw)
        if envelope and int(envelope[2]) in part.batches:
            yield part.batches[int(envelope[2])], int(envelope[1]), raw


def judge(contract: Contract, place: int, seq: int, raw: bytes) -> Line:
    values, reasons = oracle.read(contract, raw)
    line = Line(place, seq, raw, values, reasons)
    if not reasons:
        line.hash, line.known_at = oracle.digest(contract, values), oracle.known_at(contract, values)
    return line


def compare(contract: Contract, lines: Sequence[Line]) -> None:
    """Of a batch's good rows of one identity all are conflicts, or all but the first are duplicates."""
    identity = (*contract.key, *([contract.sequence] if contract.sequence else []))
    same: dict[Any, list[Line]] = {}
    for one in sorted(lines, key=lambda one: one.seq):
        if not one.reasons:
            same.setdefault((one.place, *(one.values[c] for c in identity)), []).append(one)
    for group in same.values():
        if len({one.hash for one in group}) > 1:
            for one in group:
                one.reasons = {CONFLICT}
        else:
            for one in group[1:]:
                one.repeats = True


def keyless(contract: Contract, line: Line) -> bool:
    bad = {reason.split(":")[0] for reason in line.reasons} if line.values else set(contract.key)
    return line.reasons != {CONFLICT} and bool(bad & set(contract.key))
