"""Upkeep: what bounds a lake's files, snapshots, releases and leftovers, safe beside whoever reads or writes."""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ulid import ULID

from assay import clock
from assay.contract.model import Contract
from assay.crash import effect
from assay.errors import LakeBusy
from assay.lake import account, release
from assay.ports import Fact, Ledger
from assay.settings import Upkeep
from assay.windows import Duration

if TYPE_CHECKING:
    from assay.targets import Target

BACK = timedelta(days=7)
"""Parts that nothing names are looked for from so long before the last upkeep on."""


def due(ledger: Ledger, contracts: Mapping[str, Contract], policy: Upkeep, at: datetime) -> bool:
    """Whether upkeep should run: it is `every` since it last did, or a dataset was refined often since.

    A ledger that is new begins to count now. Nothing but the ledger is read.
    """
    last = ledger.newest("upkeep", "", "now")
    if last is None:
        _mark(ledger, {}, at, 0)
        last = Fact("upkeep", "", "now", at, {"evidence": {}})
    if at - last.at >= Duration.parse(policy.every).exact:
        return True
    before: Mapping[str, int] = last.body["evidence"]
    return any(account.of(ledger, d).evidence - before.get(d, 0) >= policy.compact_files for d in contracts)


def _mark(ledger: Ledger, evidence: Mapping[str, int], at: datetime, version: int) -> None:
    with effect("upkeep.ledger"):
        ledger.record([Fact("upkeep", "", "now", at, {"evidence": evidence}, version)])


def run(
    target: "Target",
    contracts: Mapping[str, Contract],
    *,
    dry: bool = True,
    say: Callable[[str], None] = lambda _: None,
    at: datetime | None = None,
) -> Mapping[str, int]:
    """Do what is due of everything, or if `dry` count it; `at` is the time that ages are counted from.

    Counted: silver's files `compacted` into others, Iceberg snapshots `expired`, `releases` removed, bronze parts `swept`,
    other objects `deleted`, and what was left in `scratch`. What another process keeps from being done is said, and left for
    the next time. LakeDamaged if something is not what was written.
    """
    at, policy = at or clock.now(), target.settings.upkeep
    last = target.ledger.newest("upkeep", "", "now")
    found: Counter[str] = Counter(dict.fromkeys(("compacted", "expired", "releases", "swept", "deleted", "scratch"), 0))
    _compact(target, contracts, policy, found, dry=dry, say=say)
    _past(target, policy, at, found, dry=dry, say=say)
    since = (last.at - BACK).date() if last and last.version else None
    _parts(target, contracts, at, since, found, dry=dry, say=say)
    if not dry:
        found["scratch"] = sweep(target.limits.scratch)
        numbers = {dataset: account.of(target.ledger, dataset).evidence for dataset in contracts}
        _mark(target.ledger, numbers, at, (last.version if last else 0) + 1)
    return dict(found)


def _compact(
    target: "Target", contracts: Mapping[str, Contract], policy: Upkeep, found: Counter[str], *, dry: bool,
    say: Callable[[str], None],
) -> None:  # fmt: skip
    from assay.lake import compaction, silver

    run_id = str(ULID())
    for dataset, contract in contracts.items():
        if dry:
            pair = silver.load(target.catalog, dataset)
            works = compaction.wanted(pair, policy.compact_files) if pair else []
            found["compacted"] += sum(len(work.names) for work in works)
            continue
        try:
            found["compacted"] += compaction.compact(
                contract, policy.compact_files, files=target.files, catalog=target.catalog, ledger=target.ledger,
                limits=target.limits, run=run_id,
            )  # fmt: skip
        except LakeBusy as error:
            say(str(error))


def _past(
    target: "Target", policy: Upkeep, at: datetime, found: Counter[str], *, dry: bool, say: Callable[[str], None]
) -> None:
    """Releases, snapshots, and what nothing names once they are gone."""
    from assay.lake import retention, tables, unnamed

    files, catalog = target.files, target.catalog
    kept = retention.kept(files, policy, at)
    found["releases"] += len(kept.going)
    if not dry:
        for number in kept.going:
            with effect("upkeep.release"):
                files.delete(release.name_of(number))
    of_past: dict[str, frozenset[int]] = {}
    for name in retention.names(catalog):
        table = tables.load(catalog, name)
        if table is None:
            continue
        going = retention.lapsed(table, kept.snapshots.get(name, frozenset()) | of_past.get(name, frozenset()), at)
        of_past[f"{name}_past"] = retention.former(table, going)
        found["expired"] += len(going)
        try:
            if going and not dry:
                retention.expire(table, going)
            one = unnamed.of_table(files, catalog, name, kept, going if dry else [])
            if one:
                number = len(one[1]) if dry else unnamed.take_away(files, catalog, *one, kept)
                found["deleted"] += number
        except LakeBusy as error:
            say(str(error))
    serving = list(unnamed.of_serving(files, kept))
    intents = list(unnamed.of_intents(files, kept, at))
    found["deleted"] += len(serving) + len(intents)
    if not dry:
        unnamed.delete(files, iter(serving))
        unnamed.delete(files, iter(intents))


def _parts(
    target: "Target", contracts: Mapping[str, Contract], at: datetime, since: Any, found: Counter[str], *, dry: bool,
    say: Callable[[str], None],
) -> None:  # fmt: skip
    from assay.lake import unnamed

    for dataset in contracts:
        one = unnamed.of_bronze(target.files, target.ledger, dataset, at, since)
        if dry:
            found["swept"] += len(one[1])
            continue
        try:
            found["swept"] += unnamed.sweep(target.files, target.ledger, dataset, one)
        except LakeBusy as error:
            say(str(error))


def sweep(scratch: Path | None, older: timedelta = timedelta(days=1)) -> int:
    """Remove what failed or killed processes left in the scratch directory, unless any of it was touched within `older`; how many.

    Age is the only guard for what another process has in the making: choose more than any step takes.
    """
    before = clock.now().timestamp() - older.total_seconds()
    removed = 0
    for one in scratch.glob("*") if scratch else ():
        # What queries spill is DuckDB's: it knows whose process has died.
        if one.name.startswith("duckdb_temp_"):
            continue
        try:
            if _touched(one) >= before:
                continue
            if one.is_dir() and not one.is_symlink():
                shutil.rmtree(one)
            else:
                one.unlink()
            removed += 1
        except FileNotFoundError:
            continue  # its owner took it away meanwhile
    return removed


def _touched(path: Path) -> float:
    """When anything at or below a path was changed last, without following links."""
    inside = (Path(where) / name for where, folders, names in os.walk(path) for name in (*folders, *names))
    return max(one.lstat().st_mtime for one in (path, *inside))
