"""Objects that nothing names: which they are, and their removal once nobody can name them any more."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from assay.crash import effect
from assay.errors import LakeBusy
from assay.lake import bronze, retention, silver, tables
from assay.lake.compaction import number_of
from assay.lake.evidence import Change
from assay.lake.retention import INTENTS, Kept
from assay.ports import Files, Ledger

MANY = 50
"""So many objects of a table's own metadata are worth a commit that makes them safe to delete."""
DAY = timedelta(days=1)


def of_table(
    files: Files, catalog: Catalog, name: str, kept: Kept, without: list[int]
) -> tuple[Table, list[str]] | None:
    """The table, and objects below it that neither it nor a kept release names, nor anybody may name any more.

    `without` are snapshots that expire. None if there are none, or too few to care.
    """
    table = tables.load(catalog, name)
    if table is None or table.current_snapshot() is None:
        return None
    named = tables.named(table, without) | kept.objects
    home = tables.home(table)
    taken = silver.head(table).number if name.startswith("silver.") else None
    found = []
    for one in files.names(home):
        if one in named:
            continue
        if not one.startswith(f"{home}data/") or _dead(files, one, taken, kept.newest):
            found.append(one)
    files_too = any(one.startswith(f"{home}data/") for one in found)
    return (table, found) if files_too or len(found) >= MANY else None


def _dead(files: Files, name: str, taken: int | None, newest: int) -> bool:
    """Whether a file's evidence, or its release, has a number that is somebody's by now."""
    if taken is not None:
        number = number_of(name)
        return number is not None and number <= taken
    return over(files, name.rpartition("/")[2][:26], newest)


def over(files: Files, release_id: str, newest: int) -> bool:
    """Whether a build has released, or cannot any more: its number is taken. What is no build's is left alone."""
    if retention.begun(release_id) is None:
        return False
    meant = retention.intent(files, release_id)
    return meant is None or meant.number <= newest


def take_away(files: Files, catalog: Catalog, table: Table, found: list[str], kept: Kept) -> int:
    """Delete what nothing names of a table; how many.

    The table's head is moved first: whoever wrote one of these and has not committed it cannot do so any more. LakeBusy
    if it moved by itself meanwhile.
    """
    snapshot = table.current_snapshot()
    said = snapshot.summary.additional_properties if snapshot and snapshot.summary else {}
    marks = {key: value for key, value in said.items() if key.startswith("assay.")}
    tables.commit(table, files, Change(), marks, as_effect="upkeep.move")
    now = tables.load(catalog, ".".join(table.name()))
    if now is None:
        raise LakeBusy(f"{'.'.join(table.name())} went away meanwhile")
    named = tables.named(now) | kept.objects
    return delete(files, (one for one in found if one not in named))


def of_serving(files: Files, kept: Kept) -> Iterator[str]:
    """Files that serve no release that is kept, nor one that may still be made."""
    for name in files.names("serving/"):
        if name not in kept.objects and over(
            files, name.removesuffix(".duckdb").removesuffix(".json.gz")[-26:], kept.newest
        ):
            yield name


def of_intents(files: Files, kept: Kept, at: datetime) -> Iterator[str]:
    """Intents older than a day whose number is taken; what their builds wrote is looked for by them, so they go last."""
    for release_id, meant in retention.intents(files).items():
        begun = retention.begun(release_id)
        if meant.number <= kept.newest and (begun is None or begun < at - DAY):
            yield f"{INTENTS}{release_id}.json"


def of_bronze(
    files: Files, ledger: Ledger, dataset: str, at: datetime, since: date | None
) -> tuple[bronze.Tail, list[str], list[str]]:
    """The tail of a log, parts that no entry up to it names, and those of them that a `swept` entry names already.

    Only parts of days from `since` on; of younger ones than a whole day it is known that their landing may be under way.
    """
    tail = bronze.adopt(files, ledger, dataset)
    prefix = f"bronze/{dataset}/dt="
    young = f"{prefix}{(at - DAY).date()}"
    found = [name for name in files.names(prefix, f"{prefix}{since}" if since else "") if name < young]
    if not found:
        return tail, [], []
    named: set[str] = set()
    swept: set[str] = set()
    for position in range(tail.position, 0, -1):
        entry = bronze.read(files, dataset, position)
        # An entry is never put before the day of its parts.
        if since and entry.captured_at.date() < since:
            break
        named.update(one.name for one in bronze.objects(entry))
        swept.update(entry.swept)
    left = [name for name in found if name not in named]
    return tail, left, [name for name in left if name in swept]


def sweep(files: Files, ledger: Ledger, dataset: str, found: tuple[bronze.Tail, list[str], list[str]]) -> int:
    """Put that these parts are to be deleted, where nobody has, and delete them; how many.

    LakeBusy if an entry names one meanwhile.
    """
    tail, left, swept = found
    if fresh := [name for name in left if name not in swept]:
        with effect("upkeep.sweep"):
            bronze.sweep(files, ledger, dataset, fresh, tail)
    return delete(files, iter(left))


def delete(files: Files, names: Iterator[str]) -> int:
    """Take objects away; how many."""
    number = 0
    for name in names:
        with effect("upkeep.delete"):
            files.delete(name)
        number += 1
    return number
