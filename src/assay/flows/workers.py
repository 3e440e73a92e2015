"""`python -m assay.flows.workers POOL...`: Prefect's process workers for some pools, in one process; who died is started again."""

import asyncio
import contextlib
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import AwaitingRetry, Cancelled
from prefect.workers.process import ProcessWorker

from assay import settings as lake_settings
from assay import tether
from assay.clock import now
from assay.errors import AssayError, LakeBusy, SourceBusy
from assay.flows.alive import alive, processes
from assay.flows.begin import wake
from assay.flows.wanted import tags
from assay.run import lake as lakes
from assay.settings import Settings

LOOK = 10.0
"""Seconds between two looks for runs whose process is gone; at the second one they are started again."""
WAKES = 60.0
"""Seconds between two looks for what nobody does."""
ENDS = 140.0
"""Seconds that flow runs have to end, where all is to stop."""
STARTED = 5
"""So often within a day a run that crashed is started again; then it is left to a person."""
STARTS = timedelta(seconds=60)
"""So long a worker may take from taking a run to its process."""
PAUSE, LONGEST = timedelta(seconds=30), timedelta(hours=1)
"""Before a run that failed is started again: the first time, at most."""
DAY = timedelta(days=1)
GONE = "its process is gone"
_UNDER_WAY = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
_ROOM, _LATER = "free some and", "asks us to wait"
"""What an error says where there is no room left on a disk; where a vendor named a time that is too long to wait for."""

log = logging.getLogger(__name__)


async def main(pools: Sequence[str], settings: Settings) -> None:
    """Work until SIGTERM or SIGINT; flow runs under way are told then, and have time to put what they asked for."""
    stopping = asyncio.Event()
    workers = [
        ProcessWorker(work_pool_name=pool, name=f"assay-{pool}", create_pool_if_not_found=False) for pool in pools
    ]
    for worker in workers:
        _until(worker, stopping)
    tasks = [asyncio.create_task(worker.start(printer=_said)) for worker in workers]
    tasks += [asyncio.create_task(_tend(settings)), asyncio.create_task(stopping.wait())]
    for one in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(one, stopping.set)
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    stopping.set()
    stopped = await _ended(settings.data)
    for task in tasks:  # a worker that is cancelled kills what it started: by now, what had not begun
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    with contextlib.suppress(Exception):  # else they are found to have crashed, by the next who looks
        async with get_client() as client:
            for run in await _runs(client, settings, [StateType.RUNNING, StateType.CRASHED]):
                if str(run.id) in stopped:
                    await _set(client, run, AwaitingRetry(message="it was told to stop"))
    for task in done:
        if not task.cancelled() and (error := task.exception()):
            raise error


def _until(worker: ProcessWorker, stopping: asyncio.Event) -> None:
    """Let a worker take no run any more once all is to stop."""
    take = worker.get_and_submit_flow_runs

    async def taken() -> list[FlowRun]:
        return [] if stopping.is_set() else await take()

    worker.get_and_submit_flow_runs = taken


async def _ended(data: Path) -> set[str]:
    """Tell the flow runs to stop, and wait for their end; which they were."""
    until, found = time.monotonic() + ENDS, processes(data)
    for pid in found.values():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    while processes(data) and time.monotonic() < until:  # noqa: ASYNC110 - what is waited for are other processes
        await asyncio.sleep(0.2)
    return set(found)


def _said(*words: object) -> None:
    log.info("%s", " ".join(map(str, words)))


async def _tend(settings: Settings) -> None:
    """Start again the runs that Prefect holds for alive and that no process of this machine is: it was killed, or the machine was.

    Now and then, start what the ledger says is to be done and nobody does: an event may be lost with the server.
    """
    gone: set[UUID] = set()
    over: set[UUID] = set()
    woken = time.monotonic()
    async with get_client() as client:
        while True:
            try:
                gone = await _tended(client, settings, gone, over)
                if time.monotonic() - woken > WAKES:
                    woken = time.monotonic()
                    busy = await _runs(client, settings, [*_UNDER_WAY, StateType.SCHEDULED])
                    if not any(one.work_pool_name == "transform" for one in busy):
                        for name in await asyncio.to_thread(_woken):
                            log.warning("%s was to be done, and nobody did: it is started", name)
            except Exception as error:  # noqa: BLE001 - a server that is away, a run that was deleted: it looks again
                log.info("looked in vain for runs that ended: %r", error)
            await asyncio.sleep(LOOK)


def _woken() -> list[str]:
    with lakes.open(*lakes.place()) as lake:
        return wake(lake, land=False)


async def _tended(client: PrefectClient, settings: Settings, before: set[UUID], over: set[UUID]) -> set[UUID]:
    """The runs that have no process now; those that had none `before` either are started again, and those that crashed or failed."""
    gone = set()
    for one in await _runs(client, settings, _UNDER_WAY):
        if not alive(settings.data, str(one.id)) and not _starting(one):
            gone.add(one.id)
            if one.id in before:
                cancelling = one.state is not None and one.state.type == StateType.CANCELLING
                await _set(client, one, Cancelled(message=GONE) if cancelling else AwaitingRetry(message=GONE))
    for one in await _runs(client, settings, [StateType.CRASHED]):
        if not alive(settings.data, str(one.id)) and await _due(client, one):
            await _set(client, one, AwaitingRetry(message="it crashed"))
    for one in await _runs(client, settings, [StateType.FAILED]):
        if one.id not in over and await _passes(client, one, over):
            await _set(client, one, AwaitingRetry(message="why it failed may have passed"))
    return gone - before


async def _runs(client: PrefectClient, settings: Settings, states: list[StateType]) -> list[FlowRun]:
    """The runs of this lake's deployments in these states that should have begun by now, the newest first."""
    found = await client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states)),
            tags=FlowRunFilterTags(all_=tags(settings)),
            expected_start_time=FlowRunFilterExpectedStartTime(before_=now()),
        ),
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        limit=200,
    )
    return [one for one in found if one.deployment_id]


async def _set(client: PrefectClient, run: FlowRun, state: State[Any]) -> None:
    await client.set_flow_run_state(run.id, state, force=True)
    log.warning(
        "flow run %s: %s; %s",
        run.name,
        state.message,
        "it is cancelled" if state.is_cancelled() else "it is started again",
    )


async def _due(client: PrefectClient, run: FlowRun) -> bool:
    """Whether a run that crashed is tried again: within a day of that, so often at most, and later each time."""
    if run.state is None or now() - run.state.timestamp > DAY:
        return False
    crashes = sum(
        1 for one in await client.read_flow_run_states(run.id) if one.is_crashed() and now() - one.timestamp < DAY
    )
    return crashes <= STARTED and bool(now() - run.state.timestamp > timedelta(seconds=LOOK * 2 ** (crashes - 1)))


async def _passes(client: PrefectClient, run: FlowRun, over: set[UUID]) -> bool:
    """Whether a run that failed is tried again: by what may have passed, later each time.

    One after which another run was to do the same is `over`.
    """
    said, ended = (run.state.message or "", run.state.timestamp) if run.state else ("", now())
    pause = min(LONGEST, PAUSE * 2 ** min(max(run.run_count - 1, 0), 10))
    passing, staying = _kinds()
    if not now() - DAY < ended < now() - pause or _LATER in said:
        return False
    named = set(re.findall(r"\w+", said))
    if not (named & passing or _ROOM in said) and (named & staying or run.run_count > STARTED):
        return False
    later = await client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            deployment_id=FlowRunFilterDeploymentId(any_=[run.deployment_id]),
            expected_start_time=FlowRunFilterExpectedStartTime(after_=run.expected_start_time, before_=now()),
        )
    )
    if any(one.id != run.id and one.parameters == run.parameters for one in later):
        over.add(run.id)
    return run.id not in over


@cache
def _kinds() -> tuple[set[str], set[str]]:
    """The names of our errors that pass by themselves, and of those that stay until somebody acts."""

    def below(kind: type[AssayError]) -> set[str]:
        return {kind.__name__, *(name for one in kind.__subclasses__() for name in below(one))}

    import assay.land.http  # which have kinds of their own

    passing = below(SourceBusy) | below(LakeBusy) | {assay.land.Stopped.__name__}
    return passing, below(AssayError) - passing - {AssayError.__name__}


def _starting(run: FlowRun) -> bool:
    state = run.state
    return bool(state and state.type == StateType.PENDING and now() - state.timestamp < STARTS)


if __name__ == "__main__":
    tether.follow()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for noisy in ("httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    asyncio.run(main(sys.argv[1:], lake_settings.read(*lakes.place()[:2])))
