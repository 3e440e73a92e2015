"""The steps as tasks, and a flow for each kind: land, refine, build, upkeep."""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from prefect import flow, tags, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import as_completed
from prefect.states import Cancelled
from prefect.task_runners import ThreadPoolTaskRunner

from assay.clock import now
from assay.errors import AssayError, KeyRefused, LakeBusy, SourceBusy, UsageError, together
from assay.flows.chunks import Chunk, cut
from assay.flows.here import here, named, opened, sayer
from assay.flows.wanted import GATE, LANDED, REFINED
from assay.lake.runs import Run, tracked
from assay.land.http import PATIENCE
from assay.plan import Build, Land, Refine, Step
from assay.run import loop
from assay.spoken import printable

AT_ONCE = 4
"""Chunks that are asked at once: all of them keep the one pace of their key, the next commits while others wait."""
DAYS = 30
WAITS = (5, 60, 660)
"""Seconds before an attempt after the first; the last is longer than the lease of one who was killed lasts."""
STOPS = 120.0
"""Seconds that chunks on their way have to end, where a run is stopped."""
SAID = 10
"""Failed windows of a chunk that the log names; the ledger has all, and a line costs the server as much as a window costs here."""
LISTED = 20
"""Lines of an error that a flow ends with; the run's table has all."""


def _again(_: Any, run: Any, state: Any) -> bool:
    """Wait, and say whether a task is tried again: a busy vendor twice, unless it wishes for longer, and a busy lake to the end."""
    error = state.result(raise_on_failure=False)
    if isinstance(error, SourceBusy):
        passes = run.run_count <= 2 and (error.retry_after or 0) <= PATIENCE
    else:
        passes = isinstance(error, LakeBusy)
    # It waits here: nothing ends Prefect's own sleep where the run is to stop.
    return passes and not here().stopped.wait(WAITS[run.run_count - 1])


_options: dict[str, Any] = {
    "cache_policy": NO_CACHE, "persist_result": False, "retries": len(WAITS), "retry_condition_fn": _again,
}  # fmt: skip


# ------------------------------------------------------------------ tasks


@task(name="ingest-data", task_run_name="{chunk}", **_options)
def ingest_data(chunk: Chunk) -> int:
    """Land what is missing of a chunk by now, in one landing; how many windows. The first error, if any, names the others."""
    one, days = here(), str(chunk.span or "")
    if one.stopped.is_set() or one.cancelled:
        raise UsageError("not asked: the run was stopped")
    contract = one.lake.contract(chunk.dataset)
    if contract.source in one.refused:
        raise KeyRefused(f"not asked: the key of {contract.source} was refused")
    found = loop.missing(one.lake, {chunk.dataset: contract}, now(), span=chunk.span, gold=False)
    steps = chunk.still(step for step in found if isinstance(step, Land))
    outcomes = loop.do(one.lake, steps, one.run, sayer(logging.DEBUG, chunk.dataset, days), one.tracked)
    failed = [(o.step, o.error) for o in outcomes if o.error]
    landed = sum(1 for o in outcomes if o.landed and o.landed.batch)
    sayer(logging.INFO, chunk.dataset, days)(f"{landed} of {len(steps)} windows landed")
    if not failed:
        if one.tracked:  # what others landed meanwhile, too
            for through in chunk.steps:
                one.tracked.through((through.dataset, through.shard, through.window))
        return len(steps)
    if any(isinstance(error, KeyRefused) for _, error in failed):
        one.refused.add(contract.source)
    warn = sayer(logging.WARNING, chunk.dataset, days)
    for step, error in failed[:SAID]:
        warn(f"{step}: {error}")
    raise _cause(failed, f"{len(steps) - landed} of {len(chunk.steps)} windows are not landed")


def _cause(failed: Sequence[tuple[Step, AssayError]], told: str) -> AssayError:
    """Why windows of a chunk failed, as the error that may pass, if there is one."""
    errors = [error for _, error in failed]
    first = next((one for one in errors if isinstance(one, SourceBusy | LakeBusy)), errors[0])
    by: dict[str, list[str]] = {}
    for step, error in failed:
        by.setdefault(f"{type(error).__name__}: {error}", []).append(getattr(step, "shard", ""))
    causes = [f"{', '.join(dict.fromkeys(shards))}: {why}" for why, shards in list(by.items())[:3]]
    more = [f"and {len(by) - 3} other causes"] if len(by) > 3 else []
    line = printable(f"{told}: {'; '.join([*causes, *more])}")
    if isinstance(first, SourceBusy):
        wishes = [one.retry_after for one in errors if isinstance(one, SourceBusy) and one.retry_after]
        return type(first)(line, retry_after=max(wishes, default=None))
    return type(first)(line)


@task(name="refine", task_run_name="refine {step.dataset}", **_options)
def refine_dataset(step: Refine) -> Any:
    """Fold what a dataset's log has and its silver has not; what the refine did."""
    (outcome,) = loop.do(here().lake, [step], here().run, sayer(logging.INFO, step.dataset))
    if outcome.error:
        raise outcome.error
    return outcome.refined


@task(name="build", task_run_name="build", **_options)
def build_gold(step: Build) -> int:
    """Compute gold and release it; the release's number."""
    one, say = here(), sayer(logging.INFO)
    loop.forward(one.lake, (), one.run, say)
    (outcome,) = loop.do(one.lake, [step], one.run, say)
    if outcome.error:
        raise outcome.error
    return loop.released(one.lake.target.ledger)


# ------------------------------------------------------------------ fan-out


def ingest(chunks: Sequence[Chunk], what: Mapping[str, Any], *, live: bool) -> list[AssayError]:
    """Ask all chunks, AT_ONCE at a time, and wait for all; the error of each that failed, named by it.

    `what` is by what it can be run again; a run that is not `live` lets those go first that are.
    """
    one, datasets = here(), sorted({chunk.dataset for chunk in chunks})
    if not chunks:
        one.progress(0, 0)
        return []
    run = Run(
        one.lake.target.ledger, one.run, {**what, "datasets": datasets}, {one.lake.contract(name).source for name in datasets},
        live=live, of=sum(len(chunk.steps) for chunk in chunks), stopped=one.stopped,
    )  # fmt: skip
    with tracked(run) as one.tracked:
        return _asked(chunks)


def _asked(chunks: Sequence[Chunk]) -> list[AssayError]:
    one = here()
    asked: dict[Any, Chunk] = {}
    errors: list[AssayError] = []
    done, of = 0, sum(len(chunk.steps) for chunk in chunks)
    try:
        for chunk in chunks:
            with tags(f"run:{one.run}", f"dataset:{chunk.dataset}", f"window:{chunk.span or 'all'}"):
                asked[ingest_data.submit(chunk)] = chunk
        one.progress(0, of)
        for future in as_completed(list(asked)):
            chunk = asked[future]
            errors += _errors(str(chunk), _result(future))
            done += len(chunk.steps)
            one.progress(done, of)
    except BaseException:  # stopped: what was asked is paid for, and is put before the lake is closed
        one.stopped.set()
        until = time.monotonic() + STOPS
        for future in asked:
            future.wait(timeout=max(0.0, until - time.monotonic()))
        raise
    return errors


def refined(steps: Sequence[Refine]) -> list[AssayError]:
    """Refine one dataset after the other, each with the whole memory; what failed, and what is held."""
    errors: list[AssayError] = []
    folded = []
    for step in steps:
        with tags(f"run:{here().run}", f"dataset:{step.dataset}"):
            result = _result(refine_dataset(step, return_state=True))
        if failed := _errors(str(step), result):
            errors += failed
            continue
        folded.append(result)
        if result.held:
            here().event(GATE, step.dataset, batches=len(result.held))
    return [*errors, *loop.closed(folded)]


def built(steps: Sequence[Build]) -> list[AssayError]:
    """Build and release gold, if it is a step; why not, if it failed."""
    errors: list[AssayError] = []
    for step in steps:
        with tags(f"run:{here().run}"):
            errors += _errors("build", _result(build_gold(step, return_state=True)))
    return errors


def _result(of: Any) -> Any:
    """What the task run of a future or a state gave: its result, or its error, raised by nobody."""
    try:
        return of.result(raise_on_failure=False)
    except Exception as error:  # noqa: BLE001 - Prefect lost the run, which is no reason to stop the others
        return error


def _errors(what: str, result: Any) -> list[AssayError]:
    """The error that a task ended with, named by `what`; none if it did its work."""
    if isinstance(result, AssayError):
        return [type(result)(*(f"{what}: {line}" for line in result.args))]
    if isinstance(result, BaseException):  # its text is not ours, and stands in the task run's log
        return [AssayError(f"{what}: {type(result).__name__}, see its task run")]
    return []


def end(errors: Sequence[AssayError], told: str) -> Any:
    """Report what came of the run, and end it: as the error of all that failed, if anything did, or as cancelled."""
    rows = [{"what": line, "error": type(one).__name__} for one in errors for line in one.args]
    here().table(rows or [{"what": told, "error": ""}], f"{told}; {len(rows)} errors")
    if here().cancelled:
        return Cancelled(message="what is landed stays; run again, it asks for the rest")
    if errors:
        shown = [*errors[:LISTED]]
        if len(errors) > LISTED:
            shown.append(AssayError(f"and {len(errors) - LISTED} more, in the run's table"))
        raise together(shown)
    return None


# ------------------------------------------------------------------ flows


@flow(name="land", flow_run_name=named, task_runner=ThreadPoolTaskRunner(max_workers=AT_ONCE))
def land(select: list[str] | None = None) -> Any:
    """Land what is missing of these datasets (`price_eod`, `source:fmp`), or of all."""
    with opened("land") as one:
        steps = [step for step in one.lake.plan(select or ()) if isinstance(step, Land)]
        first = min((step.window.start for step in steps if step.window), default=now().date())
        chunks = cut(steps, first, DAYS)
        errors = ingest(chunks, {"command": "apply", "select": select or []}, live=True)
        # By what is to be done, not by what was: who was killed before he said it, says it when he is started again.
        for step in one.lake.plan(select or (), land=False):
            if isinstance(step, Refine):
                one.event(LANDED, step.dataset)
        return end(errors, f"{len(steps)} windows in {len(chunks)} chunks")


@flow(name="refine", flow_run_name=named)
def refine(select: list[str] | None = None) -> None:
    """Refine what is landed and not folded yet of these datasets, or of all."""
    with opened("refine") as one:
        steps = [step for step in one.lake.plan(select or (), land=False) if isinstance(step, Refine)]
        errors = refined(steps)
        chosen = select or list(one.lake.contracts)
        if any(isinstance(step, Build) for step in one.lake.plan([f"{name}+" for name in chosen], land=False)):
            for dataset in select or [step.dataset for step in steps]:
                one.event(REFINED, dataset)
        one.progress(len(steps), len(steps))
        end(errors, f"{len(steps)} datasets to refine")


@flow(name="build", flow_run_name=named)
def build() -> None:
    """Build and release gold, if silver or the dbt project changed since the last release; not before what is to be refined."""
    with opened("build") as one:
        planned = one.lake.plan(land=False)
        ready = not any(isinstance(step, Refine) for step in planned)
        steps = [step for step in planned if isinstance(step, Build) and ready]
        errors = built(steps)
        one.progress(len(steps), len(steps))
        end(errors, f"release {loop.released(one.lake.target.ledger)}")


@flow(name="upkeep", flow_run_name=named)
def upkeep(dry: bool = False) -> None:
    """Compact, expire and remove what nothing names; what it would do is said first, and with `dry` that is all."""
    with opened("upkeep") as one:
        planned = one.lake.upkeep(dry=True)
        one.table(
            [{"what": what, "number": number} for what, number in planned.items()], f"would do: {_counted(planned)}"
        )
        done = planned if dry else one.lake.upkeep(dry=False, say=sayer(logging.INFO))
        one.progress(1, 1)
        if not dry:
            one.table([{"what": what, "number": number} for what, number in done.items()], f"done: {_counted(done)}")


def _counted(found: Mapping[str, Any]) -> str:
    return ", ".join(f"{number} {what}" for what, number in found.items() if number) or "nothing"


@flow(name="alerts", flow_run_name=named)
def alerts() -> None:
    """Tell the webhooks of the lake's policies what is late, held or failing, and what is over; see `assay alerts`."""
    with opened("alerts") as one:
        found = one.lake.alerts(send=True)
        one.progress(1, 1)
        rows = [each.data for each in found.firing]
        one.table(rows or [{"alert": "none"}], f"{len(rows)} fire, webhooks were told {len(found.sent)} times")
        if found.errors:
            raise together(found.errors)
