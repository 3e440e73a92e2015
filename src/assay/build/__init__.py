"""Silver to gold by dbt in a process of its own; what passes its tests becomes a release."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import duckdb
import msgspec
from pyiceberg.catalog import Catalog
from ulid import ULID

from assay import clock
from assay.build import compute, judge, publish
from assay.build.compute import SilverView
from assay.contract.model import Contract
from assay.crash import effect
from assay.errors import BuildFailed, LakeBusy, LakeDamaged, SettingsError, UsageError
from assay.lake import account, bronze, duck, evidence, release, silver, tables
from assay.lake.duck import ident
from assay.lake.evidence import DataFile
from assay.lake.files import clear_errors
from assay.lake.release import Column, Release, Rows, Silver
from assay.ports import Fact, Files, Ledger, Limits, Pinned, Platforms


def build(
    project: Path,
    contracts: Mapping[str, Contract],
    *,
    files: Files,
    catalog: Catalog,
    ledger: Ledger,
    run: str,
    limits: Limits,
    kept: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
    platforms: Platforms | None = None,
) -> Release:
    """Compute gold from silver as it stands now, test it, and release it as one.

    BuildFailed if a model or test fails, or a table holds what cannot be served or explained: nothing of gold changed
    then. LakeBusy if another run released meanwhile. A table whose rows are those of the parent release keeps its
    snapshot, and its serving file as long as that is what was written. `say` hears what dbt's tests warn of; `kept` is
    a directory for dbt's reading of the project. What `platforms` make runs the models, where there are some; judging
    and releasing is the same.
    """
    parent, parent_sha256 = None, None
    if number := release.newest(files):
        parent, parent_sha256 = release.stored(files, number)
    views, read = _silver(contracts, catalog, files, ledger, parent)
    number, release_id = number + 1, str(ULID())
    # What it reads is spared by upkeep from here on, until the number is taken.
    pinned = {s.dataset: (s.current.snapshot, s.past.snapshot) for s in read}
    intent = msgspec.json.encode({"number": number, "run": run, "silver": pinned})
    files.put_new(f"releases/_intents/{release_id}.json", intent, "release.intent")
    with _work(files, limits) as work, _awake(files, number):
        pins = _pins(contracts, catalog, read) if platforms else []
        try:
            with platforms.begin(release_id, pins) if platforms else nullcontext() as platform:
                built = compute.compute(
                    project, work, views, limits, served=parent.number if parent else None, kept=_read_before(kept), platform=platform
                )  # fmt: skip
        except BuildFailed:
            with suppress(BuildFailed):  # what a yml lacks says more than what dbt makes of that
                check(project, contracts, limits=limits, kept=kept)
            raise
        for warning in (*built.warnings, *_shared(contracts, built.database, limits)):
            say(f"warning: {warning}")
        judged = judge.judge(built, limits)
        gold, seeds, docs = publish.publish(
            built, judged, parent, release_id, files=files, catalog=catalog, limits=limits
        )
    made = Release(
        number=number, id=release_id, parent=parent.number if parent else None, at=clock.now(), run=run, dbt_hash=built.dbt_hash,
        gold=gold, seeds=seeds[0], seeds_sha256=seeds[1], tests=built.tests, models=built.models, silver=read,
        parent_sha256=parent_sha256, docs=docs[0], docs_sha256=docs[1],
    )  # fmt: skip
    release.publish(files, made)
    with effect("release.ledger"):
        ledger.record([Fact("release", "", f"{made.number:08}", made.at, {"id": made.id, "run": run})])
    return made


def _silver(
    contracts: Mapping[str, Contract], catalog: Catalog, files: Files, ledger: Ledger, parent: Release | None
) -> tuple[list[SilverView], tuple[Silver, ...]]:
    """The views dbt reads, and what a release says of the datasets behind them; LakeDamaged names one that is lost.

    Files that the last release did not read yet are compared with their hashes first.
    """
    views, read = [], []
    for dataset, contract in contracts.items():
        before = next((s for s in parent.silver if s.dataset == dataset), None) if parent else None
        one = silver_as_read(contract, catalog, files, ledger, before)
        read.append(one)
        current, past = (duck.relation(rows.relation(files)) for rows in (one.current, one.past))
        docs = {c.name: c.description for c in one.columns}
        views.append(SilverView(dataset, current, {n: d for n, d in docs.items() if n not in silver.ENDS}))
        whole = f"SELECT *, NULL::TIMESTAMPTZ AS known_to, NULL::TIMESTAMPTZ AS recorded_to FROM ({current})"
        chosen = ", ".join(map(ident, docs))
        views.append(
            SilverView(f"{dataset}_versions", f"SELECT {chosen} FROM ({whole} UNION ALL BY NAME {past})", docs)
        )
    return views, tuple(read)


def _pins(contracts: Mapping[str, Contract], catalog: Catalog, read: Sequence[Silver]) -> list[Pinned]:
    """The datasets as the build reads them, for who opens their tables by themselves."""
    out = []
    for one in read:
        pair = silver.load(catalog, one.dataset)
        if pair is None:
            raise LakeBusy(f"{silver.name(one.dataset)} went away while the build began; build again")
        if any(
            rows.snapshot is not None and table.snapshot_by_id(rows.snapshot) is None
            for table, rows in ((pair.current, one.current), (pair.past, one.past))
        ):
            raise LakeBusy(f"{silver.name(one.dataset)} was made anew while the build began; build again")
        current, past = (
            tables.pinned(table, rows.snapshot) for table, rows in ((pair.current, one.current), (pair.past, one.past))
        )
        kinds = {name: kind for name, (kind, _) in silver.columns(contracts[one.dataset], versions=True).items()}
        out.append(Pinned(one.dataset, current, past, kinds, silver.ENDS))
    return out


def _shared(contracts: Mapping[str, Contract], database: Path, limits: Limits) -> Iterator[str]:
    """What current rows share though their contract says that no two do: a batch sees no other, so it is found here."""
    if not any(contract.unique for contract in contracts.values()):
        return
    with duck.open(limits, database, read_only=True) as con:
        for contract in contracts.values():
            for one in contract.unique:
                columns = ", ".join(map(ident, one.columns))
                there = " AND ".join(f"{ident(name)} IS NOT NULL" for name in one.columns)
                [(values,)] = con.execute(
                    f"SELECT count(*) FROM (SELECT 1 FROM silver.{ident(contract.dataset)} WHERE {there} GROUP BY {columns} HAVING count(*) > 1)"
                ).fetchall()
                if values:
                    said = "1 value stands" if values == 1 else f"{values} values stand"
                    yield f"silver.{contract.dataset}: {one.name}: {said} in more than one current row"


def silver_as_read(contract: Contract, catalog: Catalog, files: Files, ledger: Ledger, before: Silver | None) -> Silver:
    """What a release says of a dataset as it stands now; `before` is what the last one said, its files are not read again.

    LakeDamaged names a file that is lost, altered, or named by no evidence.
    """
    dataset = contract.dataset
    # So that a column added since the last refine is there, as null, and what a crash left undone is done.
    pair = silver.forward(files, catalog, dataset, silver.ensure(files, catalog, ledger, contract))
    head = silver.head(pair.current)
    account.adopt(files, ledger, dataset, head)
    known = {f.name: f for f in (*before.current.files, *before.past.files)} if before else {}
    stored = _stored(files, dataset, head, before)
    rows = []
    for table, snapshot in zip((pair.current, pair.past), silver.pinned(pair.current), strict=True):
        there = []
        for name in sorted(
            tables.name_of(table, one) for one in (tables.data_files(table, snapshot) if snapshot else ())
        ):
            file = known.get(name) or stored.get(name)
            if file is None:
                raise LakeDamaged(
                    f"{name} is in {silver.name(dataset)}, but no evidence names it; `assay verify silver` says more"
                )
            if name not in known:
                silver.check(files, file)
            there.append(file)
        rows.append(Rows(snapshot, tables.layout(table).columns, tuple(there)))
    found = account.of(ledger, dataset)
    promised = {c.name: c for c in contract.columns}
    columns = tuple(
        Column(
            name, kind, doc, promised[name].unit if name in promised else "",
            promised[name].classification if name in promised else "internal",
        )
        for name, (kind, doc) in silver.columns(contract, versions=True).items()
    )  # fmt: skip
    return Silver(
        dataset=dataset, contract_sha256=bronze.pin(files, contract), evidence=head.number, evidence_sha256=head.sha256,
        position=head.position, current=rows[0], past=rows[1], columns=columns, key=contract.key, origins=found.origins,
        captured_at=found.captured_at, title=contract.title, description=contract.description, day=_day(contract),
    )  # fmt: skip


def _stored(files: Files, dataset: str, head: evidence.Head, before: Silver | None) -> dict[str, DataFile]:
    """The files that evidence names since the last release, by name; all of them where the chain begins anew."""
    if not head.number:
        return {}
    began = evidence.read(files, dataset, head.number, head.sha256)[0].began
    after = before.evidence if before and before.evidence >= began else began - 1
    sha256 = before.evidence_sha256 if before and after == before.evidence else None
    out: dict[str, DataFile] = {}
    for found, _ in evidence.since(files, dataset, after, sha256):
        out |= {f.name: f for f in (*found.current.add, *found.past.add)}
    return out


def _day(contract: Contract) -> str | None:
    """The column whose newest value says how far the data reaches."""
    if contract.known_at:
        return contract.known_at.column
    return next((k for k in contract.key if contract.column(k).kind in ("date", "timestamp")), None)


@contextmanager
def _awake(files: Files, number: int) -> Iterator[None]:
    """LakeBusy for what is gone because another build released meanwhile, and upkeep took away what this one had put."""
    try:
        yield
    except LakeDamaged as error:
        if release.newest(files) >= number:
            raise LakeBusy(f"release {number} was made by another run meanwhile; build again on top of it") from error
        raise


@contextmanager
def _work(files: Files, limits: Limits) -> Iterator[Path]:
    """A directory to compute in, gone afterwards; what DuckDB or the disk say there is told by who must act."""
    work = files.scratch()
    keep = False
    try:
        with clear_errors(work.parent):
            work.mkdir()
            yield work
    except duckdb.Error as error:
        if told := duck.meaning(error, limits, "this release"):
            raise told from error
        raise
    except BuildFailed as error:
        # What dbt left stays where its message says; the next step is a person's.
        keep = str(work) in str(error)
        raise
    finally:
        if not keep:
            shutil.rmtree(work, ignore_errors=True)


def check(project: Path, contracts: Mapping[str, Contract], *, limits: Limits, kept: Path | None = None) -> list[str]:
    """The gold tables the project declares, without running it; BuildFailed or ContractError says what is wrong.

    dbt is not started for what is in `kept` of the same project, contracts and limits.
    """
    views = []
    for contract in contracts.values():
        for versions in (False, True):
            name = f"{contract.dataset}_versions" if versions else contract.dataset
            kinds = silver.columns(contract, versions=versions)
            empty = ", ".join(f"CAST(NULL AS {kind}) AS {ident(column)}" for column, (kind, _) in kinds.items())
            views.append(SilverView(name, f"SELECT {empty} LIMIT 0", {n: doc for n, (_, doc) in kinds.items()}))
    return [gold.name for gold in compute.describe(project, views, limits, kept=_read_before(kept))]


def keep(
    project: Path,
    directory: Path,
    contracts: Mapping[str, Contract],
    *,
    files: Files,
    catalog: Catalog,
    ledger: Ledger,
    limits: Limits,
) -> None:
    """Write the project into an empty directory as a build would run it, over silver as it stands now.

    SettingsError if something is there already; UsageError if the directory is a part of the project.
    """
    if directory.resolve().is_relative_to(project.resolve()):
        raise UsageError(f"{directory} is a part of the lake's dbt project; choose a directory outside of it")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise SettingsError(f"{directory} is not an empty directory; choose a new one")
    views, _ = _silver(contracts, catalog, files, ledger, None)
    with clear_errors(directory.parent):
        directory.mkdir(parents=True, exist_ok=True)
        compute.prepare(project, directory, views, limits)


def _read_before(kept: Path | None) -> Path | None:
    """Where dbt's reading of the project is kept: apart from what others keep there, since the oldest of it goes."""
    return kept / "dbt" if kept else None


__all__ = ["build", "check", "keep", "silver_as_read"]
