"""A plain loop over steps: what is missing, doing it, and what came of each as a fact."""

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from ulid import ULID

from assay import plan as planning
from assay.clock import now
from assay.contract.model import Contract
from assay.errors import AssayError, ContractError, GateClosed, LakeBusy, SettingsError, UsageError
from assay.lake import account, bronze, coverage, drift, evidence, holes, project, release
from assay.lake.bronze import Decision
from assay.lake.project import project_hash
from assay.lake.release import Release
from assay.lake.runs import Run, tracked
from assay.plan import Build, Land, Refine, Standing, Step
from assay.ports import Fact, Ledger, Measured, N
from assay.spoken import TERMS, each, printable, some
from assay.windows import Window

if TYPE_CHECKING:
    from assay.land import Landed
    from assay.refine import Refined
    from assay.run.lake import Lake


FAILED = 1000
"""Windows of a shard that are kept as failed."""
FEW = 5
"""Shards of which each is looked up by itself, and not among all that failed."""
_MARKING = threading.Lock()  # a mark counts on from the one before it, and flows land in several threads


@dataclass(frozen=True)
class Applied:
    """What applying a plan did; `errors` are the steps that failed, the rest went on without them."""

    run: str
    landed: Sequence["Landed"]
    refined: Sequence["Refined"]
    release: Release | None
    errors: Sequence[AssayError]

    @property
    def held(self) -> int:
        """Batches whose gate is closed."""
        return sum(len(one.held) for one in self.refined)

    @property
    def rows(self) -> int:
        """Rows that were landed."""
        return sum(one.batch.rows for one in self.landed if one.batch)


@dataclass(frozen=True)
class Outcome:
    """What came of one step: its error, or what it did."""

    step: Step
    error: AssayError | None = None
    landed: "Landed | None" = None
    refined: "Refined | None" = None
    release: Release | None = None


# ------------------------------------------------------------------ what is missing


def missing(
    lake: "Lake", contracts: Mapping[str, Contract], at: datetime, *, span: Window | None = None, regate: bool = False,
    again: bool = False, gold: bool = True, land: bool = True,
) -> list[Step]:  # fmt: skip
    """The missing steps of these contracts; with `again`, all landings as if nothing had been landed; without `land`, none.

    The source of a paused dataset is not asked; what is landed of it goes on.
    """
    t = lake.target
    paused: set[str] = set()
    covered: dict[str, Mapping[str, coverage.Cover]] = {}
    standing: dict[str, Standing] = {}
    looked: dict[str, planning.Looked] = {}
    for dataset, contract in contracts.items():
        brought(lake, dataset)
        if account.paused(t.ledger, dataset):
            paused.add(dataset)
        elif land and not again:
            covered[dataset] = _covered(lake, contract)
            if found := _looked(lake, contract, covered[dataset].get("all")):
                looked[dataset] = found
        standing[dataset] = _standing(lake, contract, regate=regate)
    built = release.current(t.files, released(t.ledger)) if gold else None
    steps = planning.missing(
        contracts, covered, standing, lake.universes, at, span=span, regate=regate,
        gold=_gold(lake, built) if gold else None, looked=looked, land=land, paused=paused,
    )  # fmt: skip
    if span is None and land:
        _ended(t.ledger, contracts, steps, paused)
    return steps


def _covered(lake: "Lake", contract: Contract) -> Mapping[str, coverage.Cover]:
    """A dataset's coverage; who may only read the lake computes what the ledger lacks of it, and keeps nothing."""
    t = lake.target
    entries = partial(bronze.since, t.files, contract.dataset)
    try:
        return coverage.bring(entries, t.ledger, contract).covers
    except SettingsError:
        return coverage.bring(entries, t.ledger, contract, keep=False).covers


def _looked(lake: "Lake", contract: Contract, cover: coverage.Cover | None) -> planning.Looked | None:
    """What a dataset's files hold now, where they lie on this machine and were landed whole."""
    t = lake.target
    said = t.settings.sources.get(contract.source, {})
    if contract.window or not cover or not cover.batches or not str(said.get("base_url", "")).startswith("file:"):
        return None
    from assay.land import settings_of, there

    settings = settings_of(contract.source, t.settings.sources)
    return there.looked(contract, cover.last, settings=settings, root=lake.root, files=t.files, ledger=t.ledger)


def _ended(ledger: Ledger, datasets: Iterable[str], steps: Sequence[Step], paused: Iterable[str]) -> None:
    """Mark what did not end, or failed, and is done all the same, by whomever: nothing of it is missing."""
    left = {("land", dataset) for dataset in paused} | {
        ("build", "") if isinstance(s, Build) else ("land" if isinstance(s, Land) else "refine", s.dataset) for s in steps
    }  # fmt: skip
    for dataset in ("", *datasets):
        for fact in ledger.since("step", dataset):
            if fact.body["state"] != "done" and (fact.id, dataset) not in left:
                with suppress(SettingsError):  # who may only read plans all the same
                    mark(ledger, dataset, fact.id, "done", fact.body["run"])


def brought(lake: "Lake", dataset: str) -> None:
    """Bring the ledger up to a dataset's log and evidence, whatever a crash or a lost ledger left out of it."""
    t = lake.target
    bronze.adopt(t.files, t.ledger, dataset)
    if t.files.exists(evidence.name_of(dataset, account.of(t.ledger, dataset).evidence + 1)):
        from assay.lake import silver

        pair = silver.load(t.catalog, dataset)
        if pair is not None:
            account.adopt(t.files, t.ledger, dataset, silver.head(pair.current))
    contract = lake.contracts[dataset]
    if holes.columns(contract) and account.of(t.ledger, dataset).evidence > holes.number(t.ledger, contract):
        from assay.run import sessions

        with suppress(SettingsError):  # who may only read has what is kept
            sessions.bring(lake, contract)


def _standing(lake: "Lake", contract: Contract, *, regate: bool) -> Standing:
    """How far a dataset's silver is, and by which contract; ContractError where the checkout's would break its readers."""
    from assay.contract.changes import breaking, changes

    t = lake.target
    found = account.of(t.ledger, contract.dataset)
    force = t.ledger.newest("contract", contract.dataset)
    before = bronze.pinned(t.files, force.body["sha256"]) if force and force.body["sha256"] != contract.sha256 else None
    if before and (broken := breaking(changes(before, contract))):
        raise ContractError(
            f"{contract.dataset}: {broken[0].said}: readers would break; keep it, or promise a new id "
            f"(say {contract.dataset}_v2) beside the old one"
        )
    in_force = before or contract
    return Standing(
        log=found.landed.get("to_fold", found.landed.get("position", 0)), silver=found.position, contract=force.body["sha256"] if force else "",
        refine=in_force.refine_fingerprint if force else "", gates=_gates(lake, contract, found) if regate else (),
    )  # fmt: skip


def _gates(lake: "Lake", contract: Contract, found: account.Account) -> list[str]:
    """The gates that judged what silver holds; what is held makes today's one of another kind."""
    t = lake.target
    facts = list(t.ledger.since("contract", contract.dataset))
    anew = max((n for n, f in enumerate(facts) if f.body["everything"]), default=0)
    gates = [bronze.pinned(t.files, f.body["sha256"]).gate_fingerprint for f in facts[anew:]]
    return [*gates, *(["held"] if found.open else [])]


def _gold(lake: "Lake", built: Release | None) -> planning.Gold:
    """What the newest release was made of, and what it would be made of now."""
    return planning.Gold(
        released=None if built is None else {s.dataset: (s.position, s.contract_sha256) for s in built.silver},
        released_dbt=built.dbt_hash if built else "",
        dbt=project_hash(lake.project) if project.there(lake.project) else "",
    )


def released(ledger: Ledger) -> int:
    """The number of the newest release that the ledger knows, 0 before the first."""
    found = ledger.newest("release", "")
    return int(found.id) if found else 0


# ------------------------------------------------------------------ doing it


def do(
    lake: "Lake",
    steps: Sequence[Step],
    run: str,
    say: Callable[[str], None] = lambda _: None,
    tracked: Run | None = None,
) -> list[Outcome]:
    """Do steps, those of one kind together, and keep of each that it began, and that it is done or why it failed.

    Landings go by what is wished of the run that is `tracked`; once that is to cancel it, nothing more is done.

    UsageError, before anything is done, for a step that was planned by another contract than this checkout's, and for
    a landing of a dataset that was paused since.
    """
    for step in steps:
        if not isinstance(step, Build) and step.contract != lake.contract(step.dataset).sha256:
            raise UsageError(
                f"{step.id} was planned by another contract of {step.dataset} than the one here; plan again with this checkout"
            )
    for dataset in dict.fromkeys(s.dataset for s in steps if isinstance(s, Land)):
        asked(lake, dataset)
    out: list[Outcome] = []
    landings = [s for s in steps if isinstance(s, Land)]
    if landings:
        out += _land(lake, landings, run, say, tracked)
    if tracked and tracked.wish() == "cancel":
        return out
    for step in steps:
        if isinstance(step, Refine):
            out.append(_kept(lake, step, run, partial(_refined, lake, step, run, say)))
        elif isinstance(step, Build):
            out.append(_kept(lake, step, run, partial(_built, lake, step, run, say)))
    return out


def apply(
    lake: "Lake",
    steps: Sequence[Step],
    *,
    say: Callable[[str], None] = lambda _: None,
    what: Mapping[str, Any] | None = None,
    live: bool = True,
) -> Applied:
    """See `Lake.apply`."""
    run = str(ULID())
    landings = [step for step in steps if isinstance(step, Land)]
    if not landings:
        return _applied(lake, steps, run, say, None)
    sources = {lake.contract(step.dataset).source for step in landings}
    datasets = sorted({step.dataset for step in landings})
    said = {"command": "apply", "select": datasets, **(what or {}), "datasets": datasets}
    with tracked(Run(lake.target.ledger, run, said, sources, live=live, of=len(landings))) as one:
        return _applied(lake, steps, run, say, one)


def _applied(lake: "Lake", steps: Sequence[Step], run: str, say: Callable[[str], None], tracked: Run | None) -> Applied:
    from assay.lake import upkeep

    t = lake.target
    upkeep.sweep(t.limits.scratch)
    if not steps or not all(isinstance(s, Land) for s in steps):  # who only lands opens no table
        forward(lake, {s.dataset for s in steps if isinstance(s, Refine)}, run, say)
    builds = [s for s in steps if isinstance(s, Build)]
    if builds:
        from assay.build import dbt

        dbt.ready()
    outcomes = do(lake, [s for s in steps if not isinstance(s, Build)], run, say, tracked)
    errors = [o.error for o in outcomes if o.error and (o.landed is None or o.landed.asked)]
    if tracked and tracked.wish() == "cancel":
        errors.append(
            UsageError(f"run {run} was cancelled: what is landed stays, `assay runs retry {run}` asks for the rest")
        )
    refined = [o.refined for o in outcomes if o.refined]
    done = None
    if builds and errors:
        say("gold is not built: a step before it failed; what was served stays served")
    elif builds:
        (last,) = do(lake, builds, run, say)
        done = last.release
        errors += [last.error] if last.error else []
    elif any(one.evidence for one in refined):
        say("silver is newer than what is served now: `assay build` releases it")
    errors += closed(refined)
    try:
        if upkeep.due(t.ledger, lake.contracts, t.settings.upkeep, now()):
            found = upkeep.run(t, lake.contracts, dry=False, say=say)
            if any(found.values()):
                say("upkeep: " + ", ".join(f"{n} {what}" for what, n in found.items() if n))
    except LakeBusy as error:
        say(f"upkeep is left for the next time: {error}")
    except AssayError as error:
        errors.append(error)
    return Applied(run, [o.landed for o in outcomes if o.landed], refined, done, errors)


def closed(refined: Sequence["Refined"]) -> list[AssayError]:
    """What refines held, and landings of which most is bad, as errors."""
    errors: list[AssayError] = []
    if held := sum(len(one.held) for one in refined):
        verb = "is" if held == 1 else "are"
        errors.append(
            GateClosed(
                f"{some(held, 'batch')} {verb} held: `assay status` says why and what helps; nothing of that is readable"
            )
        )
    return [*errors, *(GateClosed(said) for one in refined for said in one.hollow)]


def forward(lake: "Lake", refined: Collection[str], run: str, say: Callable[[str], None]) -> None:
    """Give tables that end before what the ledger knows what the evidence says: the catalog was lost, or is an older copy."""
    from assay.lake import silver

    t = lake.target
    for dataset in lake.contracts:
        known = account.of(t.ledger, dataset).evidence
        if dataset not in refined and known:
            pair = silver.load(t.catalog, dataset)
            if pair is None or silver.head(pair.current).number < known:
                refine(lake, dataset, run)
                say(f"the tables of {dataset} were behind its evidence, and have it now")


def _land(
    lake: "Lake", steps: Sequence[Land], run: str, say: Callable[[str], None], tracked: Run | None
) -> list[Outcome]:
    from assay import land as landing

    t = lake.target
    by_source: dict[str, list[Land]] = {}
    for step in steps:
        by_source.setdefault(lake.contract(step.dataset).source, []).append(step)
    out: list[Outcome] = []

    def heard(one: "Landed") -> None:
        if tracked:
            tracked.through((one.dataset, one.shard, one.window), failed=one.error is not None)
        if one.error:  # at once: who looks how far it is sees why not
            _failures(t.ledger, [Outcome(by[one.dataset, one.shard, one.window], one.error, landed=one)], run)
        what = f"{one.batch.rows} rows" if one.batch else f"failed: {one.error}"
        say(f"landed {one.dataset} {one.shard} {one.window}: {what}")

    by = {(s.dataset, s.shard, s.window): s for s in steps}
    for source, mine in by_source.items():
        known = {dataset: _drift(lake, dataset) for dataset in dict.fromkeys(s.dataset for s in mine)}
        for dataset in known:
            mark(t.ledger, dataset, "land", "started", run)
        began = time.monotonic()
        try:
            wanted = [landing.Wanted(lake.contract(s.dataset), s.shard, s.window, s.days) for s in mine if s.window]
            found = landing.land(
                wanted, settings=landing.settings_of(source, t.settings.sources), files=t.files, ledger=t.ledger,
                secrets=t.secrets, run=run, done=heard, wish=tracked.wish if tracked else str, root=lake.root,
            )  # fmt: skip
        except BaseException as error:
            for dataset in dict.fromkeys(s.dataset for s in mine):
                mark(t.ledger, dataset, "land", "failed", run, _named(error))
                t.measure(Measured("land", dataset, run, time.monotonic() - began, 1))
            if not isinstance(error, AssayError):
                raise
            say(f"nothing of {source} was landed: {'; '.join(error.args)}")
            out += [Outcome(s, error) for s in mine[:1]]
            continue
        came = [Outcome(by[one.dataset, one.shard, one.window], one.error, landed=one) for one in found]
        _failures(t.ledger, [one for one in came if not one.error or (one.landed and not one.landed.asked)], run)
        for dataset in dict.fromkeys(s.dataset for s in mine):
            mark(t.ledger, dataset, "land", "done", run)
            ours = [one for one in found if one.dataset == dataset]
            batches = [one.batch for one in ours if one.batch]
            figures = {"windows": len(batches), "landed": sum(one.rows for one in batches)}
            t.measure(
                Measured("land", dataset, run, time.monotonic() - began, len([1 for one in ours if one.error]), figures)
            )
        out += came
        for dataset, before in known.items():
            for which, told in _drift(lake, dataset).items():
                if which not in before:
                    say(f"{dataset}: {told}")
        if unasked := [one.error for one in found if not one.asked]:
            say(f"{len(unasked)} more of {source} were {unasked[0]}")
    return out


def _drift(lake: "Lake", dataset: str) -> dict[tuple[str, int, str], str]:
    """The drift of a dataset's records, in a line each, by what and since when it is."""
    found = drift.of(lake.target.ledger, lake.contract(dataset), {})
    return {(one.said, one.since, one.what): one.told for one in found}


def _refined(lake: "Lake", step: Refine, run: str, say: Callable[[str], None]) -> dict[str, Any]:
    contract, ledger = lake.contract(step.dataset), lake.target.ledger
    before = holes.of(ledger, contract)
    done = refine(lake, step.dataset, run, everything=step.everything)
    say(f"refined {step.dataset}: {done.told}")
    if (found := holes.of(ledger, contract)) and (new := found.beyond(before)).sessions:
        say(f"  new {new.told}")
    if done.warnings:
        say(f"  warned of {each(done.warnings)}")
    if done.counts["pending"]:
        say("  `assay status` names them, and the decision that lets them go")
    if done.bad:
        say(f"  `assay quarantine list {step.dataset}` shows the rejected rows and why")
    return {"refined": done}


def _built(lake: "Lake", _: Build, run: str, say: Callable[[str], None]) -> dict[str, Any]:
    made = build(lake, run, say)
    say(release.told(made))
    return {"release": made}


def _kept(lake: "Lake", step: Step, run: str, act: Callable[[], dict[str, Any]]) -> Outcome:
    """Do a step, its beginning and its end kept as facts; an interrupt is one too."""
    ledger = lake.target.ledger
    dataset, kind = ("", "build") if isinstance(step, Build) else (step.dataset, "refine")
    mark(ledger, dataset, kind, "started", run)
    try:
        did = act()
    except BaseException as error:
        mark(ledger, dataset, kind, "failed", run, _named(error))
        if isinstance(error, AssayError):
            return Outcome(step, error)
        raise
    mark(ledger, dataset, kind, "done", run)
    return Outcome(step, **did)


def mark(ledger: Ledger, dataset: str, kind: str, state: str, run: str, error: str = "") -> None:
    """Keep where a kind of step (land, refine, build) stands: one fact a dataset and kind, its attempts counted."""
    with _MARKING:
        before = ledger.newest("step", dataset, kind)
        undone = before.body if before and before.body["state"] != "done" else {"attempt": 0, "error": ""}
        if state == "started":  # it failed, until it is done
            error = undone["error"]
        body = {"state": state, "attempt": undone["attempt"] + (state == "started"), "run": run, "error": error}
        ledger.record([Fact("step", dataset, kind, now(), body, (before.version if before else 0) + 1)])


def _named(error: BaseException) -> str:
    """An error as it is kept; what is no error of ours is a line."""
    return f"{type(error).__name__}: {error if isinstance(error, AssayError) else printable(str(error))}"


def _failures(ledger: Ledger, outcomes: Sequence[Outcome], run: str) -> None:
    """Keep of each shard which windows are not landed since they failed, with its attempts; done when all of them are."""
    by: dict[tuple[str, str], list[Outcome]] = {}
    for one in outcomes:
        if isinstance(one.step, Land):
            by.setdefault((one.step.dataset, one.step.shard), []).append(one)
    with _MARKING:
        known = {dataset: _failed(ledger, dataset, by) for dataset in {dataset for dataset, _ in by}}
        facts = [fact for at, some in by.items() if (fact := _failure(ledger, *at, some, run, known[at[0]]))]
        for start in range(0, len(facts), account.HUNDRED):
            ledger.record(facts[start : start + account.HUNDRED])


def _failed(ledger: Ledger, dataset: str, shards: Collection[tuple[str, str]]) -> Collection[str] | None:
    """The steps of a dataset that failed and are not done since, in one read; None where so few are asked for that each is read."""
    if sum(dataset == one for one, _ in shards) < FEW:
        return None
    return {fact.id for fact in ledger.since("failed", dataset) if fact.body["state"] != "done"}


def _failure(
    ledger: Ledger, dataset: str, shard: str, came: Sequence[Outcome], run: str, known: Collection[str] | None
) -> Fact | None:
    name = f"land {dataset} {quote(shard)}"
    if known is not None and name not in known and not any(one.error for one in came):
        return None
    before = ledger.newest("failed", dataset, name)
    was = before.body if before and before.body["state"] != "done" else None
    steps = [(one.step, one.error) for one in came if isinstance(one.step, Land)]
    new = [(str(step.window) if step.window else "", error) for step, error in steps if error]
    done = [step.window for step, error in steps if not error]
    old = [one for one in (was or {}).get("windows", ()) if not any(_meet(one, window) for window in done)]
    left = list(dict.fromkeys([*old, *(window for window, _ in new)]))
    if not left and was is None:
        return None
    body = {
        "state": "failed" if left else "done", "attempt": (was["attempt"] if was else 0) + bool(new or not left), "run": run,
        "error": _named(new[0][1]) if new else was["error"] if was and left else "", "windows": left[:FAILED],
    }  # fmt: skip
    return Fact("failed", dataset, name, now(), body, (before.version if before else 0) + 1)


def _meet(failed: str, landed: Window | None) -> bool:
    """Whether what was landed holds days of a window that failed, as it is kept; "" is the whole."""
    return not failed or landed is None or Window.parse(failed).overlap(landed) is not None


# ------------------------------------------------------------------ single steps


def refine(lake: "Lake", dataset: str, run: str, *, everything: bool = False, engine: str | None = None) -> "Refined":
    """Put the checkout's contract into the log where it is another, and fold what the log has and silver has not.

    `engine` says by which engine, whatever the contract says.
    """
    from assay.refine import refine as fold

    t = lake.target
    bronze.put_contract(t.files, t.ledger, lake.contract(dataset), everything=everything, run=run)
    name = engine or _engine(lake, dataset, everything=everything)
    with _measured(lake, "refine", dataset, run) as figures:
        done = fold(dataset, files=t.files, catalog=t.catalog, ledger=t.ledger, engine=t.engine_named(name), run=run)
        figures |= {"rows": done.rows, **{term: done.counts[term] for term in TERMS}}
    if holes.columns(lake.contract(dataset)):
        from assay.run import sessions

        sessions.bring(lake, lake.contract(dataset))
    return done


def _engine(lake: "Lake", dataset: str, *, everything: bool) -> str:
    """Which engine the contract wants for what is to be refined now."""
    name, above = lake.contract(dataset).engine
    if name != "auto":
        return name
    from assay.lake import silver

    t = lake.target
    pair = None if everything else silver.load(t.catalog, dataset)
    after = silver.head(pair.current) if pair else None
    position, sha256 = (after.position, after.position_sha256) if after else (0, None)
    new = sum(part.bytes for entry, _ in bronze.since(t.files, dataset, position, sha256) for part in entry.parts)
    return "spark" if new > above else "duckdb"


def replay(lake: "Lake", dataset: str, run: str) -> "Refined":
    """See `Lake.replay`."""
    from assay.run import prove

    places = [place for place, sha256 in prove.quarantined(lake, dataset) if sha256 != lake.contract(dataset).sha256]
    t = lake.target
    bronze.put_contract(t.files, t.ledger, lake.contract(dataset), run=run)
    if places:
        acts = [Decision("rejudge", batch=place) for place in places]
        bronze.decide(t.files, t.ledger, dataset, acts, who="assay quarantine replay", why="judged by today's contract")
    return refine(lake, dataset, run)


def decide(lake: "Lake", dataset: str, kind: Any, batches: Sequence[str], who: str, why: str) -> "Refined":
    """See `Lake.decide`."""
    t = lake.target
    lake.contract(dataset)
    acts: list[Decision] = []
    for one in batches:
        named = kind == "lost" and "/" in one
        acts += _lost(lake, dataset, one) if named else [Decision(kind, batch=place_of(one))]
    if kind == "lost":
        bronze.adopt(t.files, t.ledger, dataset)
        batches_lost, objects_lost = bronze.lost(t.files, t.ledger, dataset)
        if all(
            one.object in objects_lost if one.batch is None else one.batch[0] * N + one.batch[1] in batches_lost
            for one in acts
        ):
            raise UsageError(f"{', '.join(batches)}: declared lost already")
    bronze.decide(t.files, t.ledger, dataset, list(dict.fromkeys(acts)), who=who, why=why)
    return refine(lake, dataset, str(ULID()))


def pause(lake: "Lake", dataset: str, kind: Literal["pause", "retire", "resume"], who: str, why: str) -> None:
    """See `Lake.pause`."""
    t = lake.target
    lake.contract(dataset)
    bronze.adopt(t.files, t.ledger, dataset)
    before = account.paused(t.ledger, dataset)
    if before is None and kind == "resume":
        raise UsageError(f"{dataset} is neither paused nor retired")
    if before and (before.retired or kind == "pause") and kind != "resume":
        raise UsageError(f"{dataset} is {before.told}")
    bronze.decide(t.files, t.ledger, dataset, [Decision(kind)], who=who, why=why)


def asked(lake: "Lake", dataset: str) -> None:
    """UsageError if a decision in force says that the dataset's source is not asked."""
    if found := account.paused(lake.target.ledger, dataset):
        raise UsageError(f"{dataset} is {found.told}")


def _lost(lake: "Lake", dataset: str, name: str) -> list[Decision]:
    """What it is to declare an object of bronze lost: of a part, each batch with lines in it; of a kept answer, it alone."""
    for entry, _ in bronze.whole(lake.target.files, dataset):
        for number, part in enumerate(entry.parts):
            if part.name == name:
                mine = [b for b in entry.batches if any(piece[0] == number for piece in b.pieces)]
                return [Decision("lost", batch=(entry.position, b.n)) for b in mine]
        if name in (one.name for one in bronze.objects(entry)):
            return [Decision("lost", object=name)]
    raise UsageError(f"no entry of {dataset} names {name}; `assay verify bronze` says what is lost")


def place_of(text: str) -> tuple[int, int]:
    """`1260.17` as position and n; UsageError if it is none."""
    position, dot, n = text.partition(".")
    if not (dot and position.isdecimal() and n.isdecimal()):
        raise UsageError(f"{text!r} is no batch; `assay status` and the console show them as 1260.17")
    return int(position), int(n)


def build(lake: "Lake", run: str, say: Callable[[str], None]) -> Release:
    """See `Lake.build`."""
    from assay.build import build as build_gold

    t = lake.target
    with _measured(lake, "build", "", run) as figures:
        made = build_gold(
            lake.project, lake.contracts, files=t.files, catalog=t.catalog, ledger=t.ledger, run=run, limits=t.limits,
            kept=t.settings.data.parent / ".kept", say=say, platforms=t.platforms,
        )  # fmt: skip
        figures |= {"tables": len(made.gold), "rows": sum(one.rows for one in made.gold)}
    return made


@contextmanager
def _measured(lake: "Lake", step: str, dataset: str, run: str) -> Iterator[dict[str, int]]:
    """Tell the target what a step came to: the figures that the block gives, if it ends well."""
    began, failed = time.monotonic(), 1
    figures: dict[str, int] = {}
    try:
        yield figures
        failed = 0
    finally:
        lake.target.measure(Measured(step, dataset, run, time.monotonic() - began, failed, figures))
