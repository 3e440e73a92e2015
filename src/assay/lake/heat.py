"""Which days of each shard are landed, as a picture of a few cells: a map of heat."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from itertools import pairwise
from urllib.parse import unquote

from assay.contract.model import Contract
from assay.lake import bronze, coverage
from assay.ports import Files, Ledger
from assay.windows import Spans, Window, joined, without

COLUMNS, ROWS = 60, 100


@dataclass(frozen=True)
class Heat:
    """A dataset's days, cut into columns.

    Attributes:
        columns: the days of each.
        rows: of each shard its cells: percent of the days that are landed, or -1 where a window failed and was not landed since.
        more: shards that are not shown.
    """

    dataset: str
    columns: Sequence[Window]
    rows: Sequence[tuple[str, Sequence[int]]]
    more: int = 0


def of(files: Files, ledger: Ledger, contract: Contract, span: Window | None) -> Heat | None:
    """The days of a dataset, or those of `span`, that are landed; None for one that is landed whole, or not at all yet."""
    if not contract.window:
        return None
    covers = coverage.bring(partial(bronze.since, files, contract.dataset), ledger, contract, keep=False).covers
    days = {
        shard: joined([*cover.settled, *((a, b) for a, b, _ in cover.open)]) for shard, cover in covers.items()
    }  # fmt: skip
    failed: dict[str, Spans] = {}
    for fact in ledger.since("failed", contract.dataset):
        if fact.body["state"] == "failed":
            windows = [Window.parse(one) for one in fact.body["windows"] if one]
            shard = unquote(fact.id.split(" ")[2])
            failed[shard] = joined((one.start.toordinal(), one.end.toordinal()) for one in windows)
    known = [one for some in (*days.values(), *failed.values()) for one in some]
    if not known:
        return None
    start, end = min(a for a, _ in known), max(b for _, b in known)
    if span:
        start, end = span.start.toordinal(), span.end.toordinal()
    cells = _cut(start, end)
    shards = sorted({*days, *failed})
    rows = [(one, [_cell(days.get(one, ()), failed.get(one, ()), *cell) for cell in cells]) for one in shards[:ROWS]]
    columns = [Window(date.fromordinal(a), date.fromordinal(b)) for a, b in cells]
    return Heat(contract.dataset, columns, rows, len(shards) - len(rows))


def _cut(start: int, end: int) -> list[tuple[int, int]]:
    number = min(COLUMNS, end - start)
    edges = [start + (end - start) * n // number for n in range(number + 1)]
    return list(pairwise(edges))


def _cell(landed: Spans, failed: Spans, start: int, end: int) -> int:
    if any(a < end and start < b for a, b in failed):
        return -1
    missing = sum(b - a for a, b in without(((start, end),), landed))
    return 100 * (end - start - missing) // (end - start)
