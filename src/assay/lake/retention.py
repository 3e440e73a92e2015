"""What is kept of the past: releases by number and age, and the snapshots that these, builds and readers may ask for."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import msgspec
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table
from ulid import ULID

from assay import clock
from assay.errors import LakeBusy, LakeDamaged
from assay.lake import release, silver, tables
from assay.lake.files import read_or_none
from assay.lake.formats import UNREADABLE
from assay.ports import Files
from assay.settings import Upkeep

AT_LEAST = 5
"""So many of a table's newest snapshots are spared, whatever names them."""
GRACE = timedelta(hours=1)
"""A snapshot is spared for so long after the next one came: who reads it as the head has not told anybody."""
FEW = 20
"""With so many snapshots a table is quick enough: the refine forgets none."""
INTENTS = "releases/_intents/"


class _Snapshot(msgspec.Struct):
    snapshot: int | None = None


class _Silver(msgspec.Struct):
    dataset: str
    current: _Snapshot
    past: _Snapshot


class _Gold(msgspec.Struct):
    name: str
    snapshot: int


class _Pins(msgspec.Struct):
    """Of a release: when it was made, and its snapshots. Decoding into it skips the rest, which is most."""

    at: datetime
    silver: tuple[_Silver, ...] = ()
    gold: tuple[_Gold, ...] = ()


class Intent(msgspec.Struct):
    """What a build means to release: the number, and per dataset the snapshots of current and past that it reads."""

    number: int
    run: str = ""
    silver: dict[str, tuple[int | None, int | None]] = {}


@dataclass(frozen=True)
class Kept:
    """What the past is asked for.

    Attributes:
        newest: the number of the newest release, 0 before the first.
        releases, going: the numbers that are kept, and those that are not, oldest first.
        snapshots: table name to the ids that kept releases and builds under way name.
        objects: serving files, seeds and parquet that kept releases name.
    """

    newest: int
    releases: tuple[int, ...]
    going: tuple[int, ...]
    snapshots: Mapping[str, frozenset[int]]
    objects: frozenset[str]


def kept(files: Files, policy: Upkeep | None, at: datetime) -> Kept:
    """What is kept by a policy; without one, all releases that are there, and their objects are not listed."""
    listed = release.numbers(files)
    newest = release.newest(files, listed[-1] if listed else 0)
    found: dict[int, _Pins] = {}
    oldest, until = newest, at
    # Downward, since a store may list a release later than it gives it. Two that follow each other: the newer one's
    # time is when the older one ceased to be current.
    for number in range(newest, 0, -1):
        old = policy and number <= newest - policy.keep_releases and until < at - timedelta(days=policy.keep_days)
        if old or not files.exists(release.name_of(number)):
            break
        found[number], oldest = _pins(files, number), number
        until = found[number].at
    going = {n for n in listed if n < oldest}
    for number in range(oldest - 1, 0, -1):
        if not files.exists(release.name_of(number)):
            break
        going.add(number)
    snapshots: dict[str, set[int]] = {}
    for name, snapshot in _named(files, found, newest):
        if snapshot is not None:
            snapshots.setdefault(name, set()).add(snapshot)
    objects: set[str] = set()
    for number in found if policy else ():
        one = release.read(files, number)
        objects |= {*one.objects, *one.parquet}
    return Kept(
        newest, tuple(sorted(found)), tuple(sorted(going)), {n: frozenset(ids) for n, ids in snapshots.items()},
        frozenset(objects),
    )  # fmt: skip


def _pins(files: Files, number: int) -> _Pins:
    try:
        return msgspec.json.decode(files.read(release.name_of(number)), type=_Pins)
    except UNREADABLE as error:
        raise LakeDamaged(
            f"{release.name_of(number)} is not a release any more ({error}); restore it from a copy"
        ) from error


def _named(files: Files, found: Mapping[int, _Pins], newest: int) -> Iterator[tuple[str, int | None]]:
    for one in found.values():
        for s in one.silver:
            yield silver.name(s.dataset), s.current.snapshot
            yield silver.name(s.dataset, past=True), s.past.snapshot
        for g in one.gold:
            yield f"gold.{g.name}", g.snapshot
    for intent in intents(files).values():
        if intent.number > newest:
            for dataset, (current, past) in intent.silver.items():
                yield silver.name(dataset), current
                yield silver.name(dataset, past=True), past


def intents(files: Files) -> dict[str, Intent]:
    """What builds meant to release, by the ids of their releases."""
    out = {}
    for name in files.names(INTENTS):
        found = intent(files, name.removeprefix(INTENTS).removesuffix(".json"))
        if found:
            out[name.removeprefix(INTENTS).removesuffix(".json")] = found
    return out


def intent(files: Files, release_id: str) -> Intent | None:
    """What the build of a release meant to do; None where that was taken away, since its number is somebody's."""
    name = f"{INTENTS}{release_id}.json"
    data = read_or_none(files, name)
    if data is None:
        return None
    try:
        return msgspec.json.decode(data, type=Intent)
    except UNREADABLE as error:
        raise LakeDamaged(f"{name} is no intent any more ({error}); take it away once no build is running") from error


def begun(release_id: str) -> datetime | None:
    """When a build began, by the id of its release; None if it is none."""
    try:
        return ULID.from_str(release_id).datetime
    except ValueError:
        return None


def lapsed(table: Table, keep: frozenset[int], at: datetime) -> list[int]:
    """The snapshots that nobody may ask for any more: neither named, nor of the newest, nor the head a while ago."""
    before = (at - GRACE).timestamp() * 1000
    young = {one.snapshot_id for one, after in pairwise(tables.snapshots(table)) if after.timestamp_ms > before}
    return tables.expirable(table, keep | young, AT_LEAST)


def former(current: Table, without: list[int]) -> frozenset[int]:
    """The snapshots of past that those of current belong to."""
    left = (one for one in current.metadata.snapshots if one.snapshot_id not in without)
    named = (one.summary.additional_properties.get("assay.past-snapshot") for one in left if one.summary)
    return frozenset(int(one) for one in named if one)


def expire(table: Table, going: list[int]) -> None:
    """Forget these snapshots; their objects stay, for `unnamed`. LakeBusy if the table moved meanwhile."""
    spared = {one.snapshot_id for one in table.metadata.snapshots}.difference(going)
    tables.expire(table, spared, AT_LEAST, as_effect="upkeep.expire")


def in_rhythm(files: Files, catalog: Catalog, dataset: str) -> None:
    """Forget what lapsed of a dataset's two tables: a commit costs what snapshots there are. Busy ones wait."""
    with suppress(LakeBusy):
        pair = silver.load(catalog, dataset)
        if pair is None or max(len(one.metadata.snapshots) for one in (pair.current, pair.past)) <= FEW:
            return
        at = clock.now()
        spared = kept(files, None, at).snapshots
        going = lapsed(pair.current, spared.get(silver.name(dataset), frozenset()), at)
        of_past = spared.get(silver.name(dataset, past=True), frozenset()) | former(pair.current, going)
        for table, lost in ((pair.current, going), (pair.past, lapsed(pair.past, of_past, at))):
            if lost:
                expire(table, lost)


def names(catalog: Catalog) -> list[str]:
    """The tables of a catalog, those of current before those of past."""
    found: list[Any] = [table for space in catalog.list_namespaces() for table in catalog.list_tables(space)]
    return sorted(".".join(one) for one in found)
