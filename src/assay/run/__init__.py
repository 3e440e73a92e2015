"""A lake opened, and a plain loop over the plan's list: what the command line, the demo and notebooks use."""

import csv
import errno
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from pyiceberg.exceptions import NoSuchTableError
from ulid import ULID

from assay import land as landing
from assay import plan as planning
from assay import refine as refining
from assay import settings as lake_settings
from assay import windows
from assay.contract import odcs
from assay.contract.model import Contract
from assay.errors import AssayError, ContractError, GateClosed, LakeDamaged, SettingsError, UsageError
from assay.lake import bronze, evidence, release, silver
from assay.lake.bronze import Manifest
from assay.lake.duck import Limits
from assay.lake.release import Release, told
from assay.lake.tables import REMEDY
from assay.plan import Batch, Facts, Judged, Member, Step
from assay.ports import Fact
from assay.serve.sql import Result
from assay.settings import Settings
from assay.targets.local import Local, open_lake
from assay.windows import Window


@dataclass(frozen=True)
class Lake:
    """An opened lake: its settings, contracts, universes, and everything the steps need."""

    target: Local
    contracts: Mapping[str, Contract]
    universes: Mapping[str, Sequence[Member]]

    @property
    def project(self) -> Path:
        """The lake's dbt project."""
        return self.target.settings.root / "dbt"

    def contract(self, dataset: str) -> Contract:
        """One contract; UsageError lists the datasets there are."""
        if dataset not in self.contracts:
            raise UsageError(f"no dataset {dataset!r}; this lake has {', '.join(self.contracts) or 'none'}")
        return self.contracts[dataset]

    def close(self) -> None:
        """Let go of the ledger and the catalog."""
        self.target.ledger.close()
        self.target.catalog.close()

    def read(
        self,
        name: str,
        *,
        columns: Sequence[str] | None = None,
        as_of: datetime | None = None,
        recorded_as_of: datetime | None = None,
    ) -> pa.Table:
        """A table of the current release as Arrow: `gold.fct_daily_price`, `silver.price_eod`, `silver.price_eod_versions`.

        `as_of` reads by what the public could know, `recorded_as_of` by what the lake had; a gold table without
        clock columns refuses them.
        """
        return read(self, name, columns=columns, as_of=as_of, recorded_as_of=recorded_as_of)


def open(path: str | Path, env: str = "dev") -> Lake:  # noqa: A001 - `assay.open` is the name people know from files
    """The lake in a directory, its contracts checked; what a crash left out of the ledger is put in."""
    settings, contracts, universes = promises(Path(path), env)
    lake = Lake(open_lake(settings), contracts, universes)
    for dataset in contracts:
        landing.adopt(lake.target.files, lake.target.ledger, dataset)
    return lake


def exists(root: Path, env: str) -> None:
    """UsageError if this environment has no data while others have: a name typed wrong shall not make a new one."""
    data = lake_settings.read(root, env).data
    others = sorted(one.name for one in data.parent.glob("*") if (one / "catalog.db").is_file())
    if others and env not in others:
        raise UsageError(
            f"there is no data of environment {env!r}; there is {', '.join(others)}, and `apply` makes a new one"
        )


def promises(root: Path, env: str = "dev") -> tuple[Settings, dict[str, Contract], dict[str, list[Member]]]:
    """A lake's settings, contracts and universes, read and checked; nothing of its data is touched or made."""
    settings = lake_settings.read(root, env)
    # A lake's own sources are found by dotted path below its directory; they are its owner's trusted code.
    if str(root.resolve()) not in sys.path:
        sys.path.append(str(root.resolve()))
    contracts = odcs.read_all(root / "contracts")
    if not contracts:
        raise SettingsError(f"{root / 'contracts'} holds no contract; a lake promises at least one dataset")
    universes = {c.universe: _universe(root, c.universe) for c in contracts.values() if c.universe}
    return settings, contracts, universes


def _universe(root: Path, name: str) -> list[Member]:
    path = root / f"universe_{name}.csv"
    try:
        rows = list(csv.DictReader(path.read_text().splitlines()))
        return [
            Member(
                row["symbol"],
                date.fromisoformat(row["valid_from"]),
                date.fromisoformat(row["valid_to"]) if row.get("valid_to") else None,
            )
            for row in rows
        ]
    except FileNotFoundError as error:
        raise SettingsError(
            f"{path} is missing: a contract asks for universe {name} (symbol,valid_from,valid_to)"
        ) from error
    except (KeyError, ValueError, TypeError) as error:
        raise SettingsError(f"{path}: expects symbol,valid_from,valid_to with dates as YYYY-MM-DD ({error})") from error


def facts(lake: Lake) -> Facts:
    """What happened so far, from the ledger and the tables' heads."""
    batches, judged, snapshots = {}, {}, {}
    for dataset in lake.contracts:
        batches[dataset] = [
            Batch(
                f.id, f.body["shard"], Window(date.fromisoformat(f.body["start"]), date.fromisoformat(f.body["end"])), f.body["generation"],
                f.at, f.body["capture"], f.body["rows"], f.body["bytes"], f.body["calls"],
            )
            for f in lake.target.ledger.facts("manifest", dataset)
        ]  # fmt: skip
        states = states_of(lake, dataset)
        judged[dataset] = {
            b: Judged(
                s.verdict.state,
                s.refine_fingerprint,
                s.gate_fingerprint,
                s.contract_sha256,
                s.verdict.quarantined,
            )
            for b, s in states.items()
        }
        snapshots[dataset] = silver.snapshot_id(silver.load(lake.target.catalog, dataset))
    newest = release.current(lake.target.files)
    return Facts(
        batches, judged, snapshots,
        {s.dataset: (s.snapshot, s.contract_sha256) for s in newest.silver} if newest else None,
        newest.dbt_hash if newest else "", dbt_hash(lake), _astray(lake, newest),
    )  # fmt: skip


def _astray(lake: Lake, newest: Release | None) -> tuple[str, ...]:
    """Gold tables whose newest snapshot no release names: a build was stopped between its commits and its release."""
    out = []
    for gold in newest.gold if newest else ():
        try:
            head = silver.snapshot_id(lake.target.catalog.load_table(f"gold.{gold.name}"))
        except NoSuchTableError as error:
            data = lake.target.settings.data
            raise LakeDamaged(f"the catalog lost gold.{gold.name}, which is released. {REMEDY.format(data)}") from error
        if head != gold.snapshot:
            out.append(gold.name)
    return tuple(out)


def dbt_hash(lake: Lake) -> str:
    """The hash of the lake's dbt project, or nothing if it has none."""
    from assay.build import project_hash

    return project_hash(lake.project) if lake.project.is_dir() else ""


def states_of(lake: Lake, dataset: str) -> dict[str, silver.State]:
    """Each judged batch of a dataset with its newest verdict."""
    table = silver.load(lake.target.catalog, dataset)
    return silver.states(silver.adopt(lake.target.files, table, lake.target.ledger, dataset)) if table else {}


def plan(
    lake: Lake,
    select: Sequence[str] = (),
    *,
    span: Window | None = None,
    regate: bool = False,
    now: datetime | None = None,
) -> list[Step]:
    """The missing steps. `select` names datasets; `price_eod+` also what is built from it, `source:fmp` a source's.

    ContractError where a contract breaks what its table's readers were promised: applying would refuse it too.
    """
    chosen, gold = _select(lake, select)
    for dataset, contract in chosen.items():
        if table := silver.load(lake.target.catalog, dataset):
            silver.compatible(table, contract)
    return planning.plan(
        chosen,
        facts(lake),
        lake.universes,
        now or windows.now(),
        span=span,
        regate=regate,
        gold=gold and lake.project.is_dir(),
    )


def _select(lake: Lake, select: Sequence[str]) -> tuple[dict[str, Contract], bool]:
    if not select:
        return dict(lake.contracts), True
    chosen: dict[str, Contract] = {}
    for word in select:
        if word.startswith("source:"):
            found = {d: c for d, c in lake.contracts.items() if c.source == word.removeprefix("source:")}
            if not found:
                raise UsageError(f"no dataset comes from {word!r}")
            chosen |= found
        else:
            name = word.removesuffix("+")
            chosen[name] = lake.contract(name)
    return chosen, any(word.endswith("+") for word in select)


@dataclass(frozen=True)
class Applied:
    """What applying a plan did; `errors` are the steps that failed, the rest went on without them."""

    run: str
    landed: Sequence[Manifest]
    refined: Sequence[refining.Refined]
    release: Release | None
    errors: Sequence[AssayError]

    @property
    def held(self) -> int:
        """Batches whose gate is closed."""
        return sum(len(one.held) for one in self.refined)


def apply(lake: Lake, steps: Sequence[Step], *, say: Callable[[str], None] = lambda _: None) -> Applied:
    """Run the steps in order. A failed step does not hinder the others; gold is built only if none failed."""
    from assay.lake.upkeep import sweep

    sweep(lake.target.files)
    run = str(ULID())
    landed, errors = _apply_landings(lake, [s for s in steps if s.kind == "land"], run, say)
    refined = []
    for step in (s for s in steps if s.kind == "refine"):
        try:
            refined.append(refine(lake, step.dataset, how=step.how, run=run))
            say(f"refined {step.dataset}: {account(refined[-1])}")
            if refined[-1].bad:
                say(f"  `assay quarantine list {step.dataset}` shows the rejected rows and why")
        except AssayError as error:
            errors.append(error)
            say(f"refining {step.dataset} failed: {error}")
    held = sum(len(one.held) for one in refined)
    done = None
    if any(s.kind == "build" for s in steps):
        if errors:
            say("gold is not built: a step before it failed; what was served stays served")
        else:
            try:
                done = build(lake, run=run, say=say)
                say(told(done))
            except AssayError as error:
                errors.append(error)
    elif any(one.evidence for one in refined):
        say("silver is newer than what is served now: `assay build` releases it")
    if held:
        errors = [
            *errors,
            GateClosed(
                f"{some(held, 'batch')} {'is' if held == 1 else 'are'} held: `assay status` says why and what helps; nothing of that is readable"
            ),
        ]
    return Applied(run, landed, refined, done, errors)


def _apply_landings(
    lake: Lake, steps: Sequence[Step], run: str, say: Callable[[str], None]
) -> tuple[list[Manifest], list[AssayError]]:
    landed: list[Manifest] = []
    errors: list[AssayError] = []
    by_source: dict[str, list[landing.Wanted]] = {}
    for step in steps:
        contract = lake.contract(step.dataset)
        if step.window:
            by_source.setdefault(contract.source, []).append(
                landing.Wanted(contract, step.shard, step.window, step.days)
            )

    def heard(one: landing.Landed) -> None:
        what = f"{one.manifest.rows} rows" if one.manifest else f"failed: {one.error}"
        say(f"landed {one.dataset} {one.shard} {one.window}: {what}")

    if not by_source:
        return landed, errors
    with lake.target.landing():
        for source, wanted in by_source.items():
            try:
                found = landing.land(
                    wanted, settings=landing.settings_of(source, lake.target.settings.sources), files=lake.target.files,
                    ledger=lake.target.ledger, secrets=lake.target.secrets, run=run, done=heard,
                )  # fmt: skip
            except AssayError as error:
                errors.append(error)
                say(f"nothing of {source} was landed: {error}")
                continue
            landed += [one.manifest for one in found if one.manifest]
            errors += [one.error for one in found if one.error and one.asked]
            if unasked := sum(not one.asked for one in found):
                say(f"{unasked} more of {source} were not asked: the key was refused")
    return landed, errors


def some(number: int, one: str) -> str:
    """A number with its noun: 1 step, 2 steps, 2 batches."""
    return f"{number} {one}" if number == 1 else f"{number} {one}{'es' if one.endswith('ch') else 's'}"


def account(done: refining.Refined) -> str:
    """A refine's counts in a line."""
    if not done.evidence:
        return "nothing new"
    total = {
        word: sum(getattr(v, word) for v in done.evidence.verdicts)
        for word in ("captured", "accepted", "duplicate", "quarantined", "held")
    }
    return f"{total['captured']} captured = " + " + ".join(
        f"{total[w]} {w}" for w in ("accepted", "duplicate", "quarantined", "held")
    )


def batches(lake: Lake, dataset: str) -> list[Manifest]:
    """A dataset's manifests in the order of their capture."""
    names = [f.body["name"] for f in lake.target.ledger.facts("manifest", dataset)]
    return sorted((bronze.read_manifest(lake.target.files, name) for name in names), key=lambda m: m.batch)


def _unjudged(lake: Lake, dataset: str) -> list[Manifest]:
    states = states_of(lake, dataset)
    names = [f.body["name"] for f in lake.target.ledger.facts("manifest", dataset) if f.id not in states]
    return [bronze.read_manifest(lake.target.files, name) for name in names]


def refine(lake: Lake, dataset: str, *, how: str = "refine", run: str = "") -> refining.Refined:
    """Refine a dataset's batches: those not judged yet, all anew (`rebuild`), or quarantined rows again (`replay`)."""
    contract = lake.contract(dataset)
    t = lake.target
    run = run or str(ULID())
    if how == "rebuild":
        return refining.rebuild(
            contract,
            lambda: batches(lake, dataset),
            files=t.files,
            catalog=t.catalog,
            ledger=t.ledger,
            engine=t.engine,
            run=run,
        )
    if how == "replay":
        return refining.replay(
            contract,
            batches(lake, dataset),
            files=t.files,
            catalog=t.catalog,
            ledger=t.ledger,
            engine=t.engine,
            run=run,
        )
    todo = _unjudged(lake, dataset)
    return refining.refine(
        contract,
        todo,
        files=t.files,
        catalog=t.catalog,
        ledger=t.ledger,
        engine=t.engine,
        run=run,
    )


def build(lake: Lake, *, run: str = "", say: Callable[[str], None] = lambda _: None) -> Release:
    """Compute gold by dbt and release it; BuildFailed leaves the old release served. `say` hears dbt's warnings."""
    from assay.build import build as build_gold

    t = lake.target
    return build_gold(
        lake.project, lake.contracts, files=t.files, catalog=t.catalog, ledger=t.ledger, run=run or str(ULID()),
        limits=t.limits, kept=_kept(t.settings), say=say,
    )  # fmt: skip


def _kept(settings: Settings) -> Path:
    """Where dbt's reading of the project is kept: beside the environments, and no name of one."""
    return settings.data.parent / ".kept"


def current(lake: Lake) -> Release:
    """The release that is served; UsageError before the first."""
    found = release.current(lake.target.files)
    if found is None:
        raise UsageError("nothing is released yet: `assay apply` makes the first release")
    return found


def read(
    lake: Lake,
    name: str,
    *,
    columns: Sequence[str] | None = None,
    as_of: datetime | None = None,
    recorded_as_of: datetime | None = None,
) -> pa.Table:
    """See `Lake.read`."""
    from assay.lake.tables import ident

    found = current(lake)
    t = lake.target
    zone, _, table = name.partition(".")
    con = release.connect(t.files, t.catalog, found, silver_views=zone == "silver", limits=t.limits)
    try:
        if zone == "silver":
            selects = release.silver_selects(t.files, t.catalog, found, as_of=as_of, recorded_as_of=recorded_as_of)
            if table not in selects:
                raise UsageError(f"no table {name!r}; silver has {', '.join(selects)}")
            if as_of and table.endswith("_versions"):
                raise UsageError(
                    f"{name} holds every version; read silver.{table.removesuffix('_versions')} with as_of"
                )
            source = selects[table]
        else:
            gold = found.table(name)
            source = f"SELECT * FROM gold.{ident(gold.name)}"
            if as_of or recorded_as_of:
                clock = gold.clocks.get("known_from")
                if not clock or recorded_as_of:
                    having = [g.name for g in found.gold if g.clocks.get("known_from")]
                    raise UsageError(
                        f"{gold.name} has no clock for that; as_of is answered by {', '.join(having) or 'no gold table'}"
                    )
                source += f" WHERE {ident(clock)} <= {silver.literal(as_of or windows.now())}"
        there = [d[0] for d in con.execute(f"SELECT * FROM ({source}) LIMIT 0").description or ()]
        if unknown := [c for c in columns or () if c not in there]:
            raise UsageError(f"{name} has no column {unknown[0]!r}; it has {', '.join(there)}")
        chosen = ", ".join(ident(c) for c in columns) if columns else "*"
        return con.sql(f"SELECT {chosen} FROM ({source})").to_arrow_table()
    except duckdb.Error as error:
        if lost := release.damaged(error):
            raise lost from error
        raise
    finally:
        con.close()


def init(path: Path, example: Path) -> Path:
    """A new lake's directory from an example; SettingsError if something is there already."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise SettingsError(f"{path} is not an empty directory; choose a new one")
    shutil.copytree(
        example,
        path,
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns("data", "target", "logs", "__pycache__"),
    )
    return path


def origin(lake: Lake, dataset: str) -> tuple[str, ...]:
    """Whose records a dataset holds: vendor, sandbox, synthetic."""
    return tuple(sorted({f.body["origin"] for f in lake.target.ledger.facts("manifest", dataset)}))


def landings(lake: Lake, dataset: str, *, again: bool = False) -> list[Step]:
    """The landing steps of one dataset that are missing, or with `again` all of them as new generations."""
    contract = lake.contract(dataset)
    known = Facts() if again else facts(lake)
    return [
        s
        for s in planning.plan({dataset: contract}, known, lake.universes, windows.now(), gold=False)
        if s.kind == "land"
    ]


def shards(lake: Lake, dataset: str) -> list[str]:
    """The shards of a dataset: its universe's symbols, or "all"."""
    contract = lake.contract(dataset)
    return [m.shard for m in lake.universes[contract.universe]] if contract.universe else ["all"]


def held_errors(done: refining.Refined) -> list[AssayError]:
    """The error a held batch is for whoever asked for the refine."""
    return [GateClosed(f"batch {v.batch} is held: {'; '.join(v.why)}; nothing of it is readable") for v in done.held]


def check(root: Path, env: str = "dev") -> dict[str, Any]:
    """Everything that can be known without data: sources load, settings name them, the dbt project parses."""
    from assay.build import check as check_gold
    from assay.engines.duckdb import bind
    from assay.refine.sql import refinement

    settings, contracts, _ = promises(root, env)
    for contract in contracts.values():
        try:
            bind(refinement(contract), {c.name: c.type for c in contract.columns})
        except ContractError as error:
            raise ContractError(f"{contract.path}: {error}") from error
        landing.check(contract)
        landing.settings_of(contract.source, settings.sources)
    gold = (
        check_gold(root / "dbt", contracts, kept=_kept(settings), limits=Limits(settings.memory, settings.threads))
        if (root / "dbt").is_dir()
        else []
    )
    return {"datasets": list(contracts), "gold": gold}


def cost(lake: Lake, steps: Sequence[Step]) -> dict[str, Any]:
    """Calls, minutes at the permitted rate and bytes of a plan's landings; bytes is None where nothing was landed yet."""
    minutes, calls, size = 0.0, 0, 0
    known = True
    for step in (s for s in steps if s.kind == "land"):
        source = landing.settings_of(lake.contract(step.dataset).source, lake.target.settings.sources)
        calls += 1
        minutes += source.per / 60 / source.requests
        known = known and step.bytes is not None
        size += step.bytes or 0
    return {"calls": calls, "minutes": minutes, "bytes": size if known else None}


def status(lake: Lake) -> dict[str, Any]:
    """Per dataset: batches, the terms of conservation, freshness, what is held and why; and the last release."""
    datasets: dict[str, Any] = {}
    for dataset in lake.contracts:
        found = list(lake.target.ledger.facts("manifest", dataset))
        states = states_of(lake, dataset)
        verdicts = [s.verdict for s in states.values()]
        held = {v.batch: v for v in verdicts if v.state == "held"}
        replaced = _replaced(lake.contract(dataset), found, states)
        datasets[dataset] = {
            "batches": len(found),
            "captured": sum(f.body["rows"] for f in found if f.id in states),
            "accepted": sum(s.accepted for s in states.values()),
            "duplicate": sum(s.duplicate for s in states.values()),
            "quarantined": sum(v.quarantined for v in verdicts),
            "held": sum(v.held for v in verdicts),
            "held_batches": {
                b: {"why": list(v.why), "reasons": v.reasons} for b, v in held.items() if b not in replaced
            },
            "superseded": sum(held[b].held for b in replaced),
            "unjudged": sum(f.id not in states for f in found),
            "captured_at": max((f.at.isoformat() for f in found), default=None),
            "origins": list(origin(lake, dataset)),
        }
    newest = release.current(lake.target.files)
    return {
        "lake": lake.target.settings.name,
        "datasets": datasets,
        "release": release.describe(newest) if newest else None,
    }


def _replaced(contract: Contract, found: Sequence[Fact], states: Mapping[str, silver.State]) -> set[str]:
    """The held batches whose shard was landed again later, for all of their days or as a whole, and passed."""
    out = set()
    for one in (f for f in found if f.id in states and states[f.id].verdict.state == "held"):
        later = (f for f in found if f.body["shard"] == one.body["shard"] and f.at > one.at and f.id in states)
        for f in (f for f in later if states[f.id].verdict.state == "passed"):
            if not contract.window or (f.body["start"] <= one.body["start"] and one.body["end"] <= f.body["end"]):
                out.add(one.id)
    return out


def quarantined(lake: Lake, dataset: str | None, limit: int) -> list[dict[str, Any]]:
    """Rejected rows with reasons and their bronze line, as text; of held batches (`held`) those that hold them."""
    out: list[dict[str, Any]] = []
    for one in [dataset] if dataset else list(lake.contracts):
        lake.contract(one)
        for batch, state in states_of(lake, one).items():
            held = state.verdict.state == "held"
            for seq, reasons, line in (
                _rejected(lake, state) if held else refining.quarantined(lake.target.files, state.verdict)
            ):
                if len(out) >= limit:
                    return out
                out.append(
                    {
                        "dataset": one, "batch": batch, "held": held, "seq": seq, "reasons": list(reasons),
                        "line": line.decode("utf-8", "backslashreplace"),
                    }
                )  # fmt: skip
    return out


def _rejected(lake: Lake, state: silver.State) -> Iterator[tuple[int, Sequence[str], bytes]]:
    t = lake.target
    manifest = bronze.read_manifest(t.files, state.verdict.manifest)
    contract = evidence.pinned(t.files, state.contract_sha256)
    found = refining.rejected(contract, manifest, files=t.files, catalog=t.catalog, engine=t.engine)
    return ((one.seq, one.reasons, one.line) for one in found)


def explain(
    lake: Lake, table: str, key: Mapping[str, str], column: str | None = None, *, listed: int = 20
) -> dict[str, Any]:
    """See `assay.serve.explain.explain`."""
    from assay.serve.explain import explain as explain_cell

    t = lake.target
    return explain_cell(
        t.files,
        t.catalog,
        t.ledger,
        current(lake),
        table,
        key,
        column,
        listed=listed,
        reread=_reread(lake),
        limits=t.limits,
    )


def _reread(lake: Lake) -> Callable[[Contract, Sequence[bytes]], Sequence[Mapping[str, Any] | None]]:
    """What makes rows of bronze lines again, to compare them with silver's."""
    from assay.refine.sql import refinement

    return lambda contract, lines: lake.target.engine.rows(refinement(contract), lines)


def sql(lake: Lake, query: str, *, limit: int = 1000, timeout: float = 30.0) -> Result:
    """One guarded read-only SELECT over the current release: its first `limit` rows. UsageError if it is refused."""
    from assay.serve.sql import run as run_sql

    found = current(lake)
    t = lake.target
    names = [f"gold.{g.name}" for g in found.gold]
    names += [f"silver.{n}" for s in found.silver for n in (s.dataset, f"{s.dataset}_versions")]
    con = release.connect(t.files, t.catalog, found, limits=t.limits, locked=True)
    try:
        return run_sql(con, query, names, limit=limit, timeout=timeout)
    finally:
        con.close()


def application(lake: Lake) -> Any:
    """The ASGI application of the lake: REST and console."""
    from functools import partial

    from assay.serve.api import app
    from assay.serve.explain import explain as explain_cell

    t = lake.target

    def why(found: Release, table: str, key: Mapping[str, str], column: str | None) -> dict[str, Any]:
        return explain_cell(
            t.files, t.catalog, t.ledger, found, table, key, column, reread=_reread(lake), limits=t.limits
        )

    return partial(
        app, t.files, t.catalog, t.ledger, lake.contracts, explain=why, title=t.settings.name, memory=t.settings.memory
    )()


def serve(lake: Lake, host: str, port: int, *, ready: Callable[[str], None] = lambda _: None) -> None:
    """Serve until interrupted; SettingsError if the port is taken."""
    import uvicorn

    with _bound(host, port) as listening:
        ready(_address(host, listening))
        uvicorn.Server(_config(lake)).run([listening])


@contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
        except OSError as error:
            why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            raise SettingsError(f"port {port} {why}; --port chooses another") from error
        yield listening


def _address(host: str, listening: socket.socket) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"


def _config(lake: Lake) -> Any:
    import uvicorn

    return uvicorn.Config(application(lake), log_level="warning", access_log=False, server_header=False)


@contextmanager
def serving(lake: Lake, host: str, port: int) -> Iterator[str]:
    """Serve while the block runs, from a thread; gives the address. SettingsError if the port is taken."""
    import threading

    import uvicorn

    with _bound(host, port) as listening:
        server = uvicorn.Server(_config(lake))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            yield _address(host, listening)
        finally:
            server.should_exit = True
            thread.join(10)
