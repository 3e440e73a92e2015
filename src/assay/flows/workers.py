"""`python -m assay.flows.workers POOL...`: Prefect's process workers for some pools, in one process; who died is started again."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import AwaitingRetry, Cancelled
from prefect.workers.process import ProcessWorker

from assay import tether
from assay.clock import now
from assay.flows.alive import alive
from assay.flows.here import STARTS as STARTED

LOOK = 10.0
"""Seconds between two looks for runs whose process is gone; at the second one they are started again."""
STARTS = timedelta(seconds=60)
"""So long a worker may take from taking a run to its process."""
DAY = timedelta(days=1)
GONE = "its process is gone"
_UNDER_WAY = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]

log = logging.getLogger(__name__)


async def main(pools: Sequence[str], data: Path) -> None:
    """Work until SIGTERM or SIGINT; flow runs under way get SIGTERM then, and put what they have asked for."""
    tasks = [
        asyncio.create_task(
            ProcessWorker(work_pool_name=pool, name=f"assay-{pool}", create_pool_if_not_found=False).start(printer=_said)
        )
        for pool in pools
    ]  # fmt: skip
    tasks.append(asyncio.create_task(_tend(data)))

    def stop() -> None:
        for task in tasks:
            task.cancel()

    for one in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(one, stop)
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    stop()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        if not task.cancelled() and (error := task.exception()):
            raise error


def _said(*words: object) -> None:
    log.info("%s", " ".join(map(str, words)))


async def _tend(data: Path) -> None:
    """Start again the runs that Prefect holds for alive and that no process of this machine is: it was killed, or the machine was."""
    gone: set[UUID] = set()
    async with get_client() as client:
        while True:
            with contextlib.suppress(httpx.HTTPError, OSError):
                gone = await _tended(client, data, gone)
            await asyncio.sleep(LOOK)


async def _tended(client: PrefectClient, data: Path, before: set[UUID]) -> set[UUID]:
    """The runs that have no process now; those that had none `before` either are started again, and those that crashed.

    An automation starts crashed ones again too, where it hears of them: a server that was killed meanwhile does not.
    """
    gone = set()
    for one in await _runs(client, _UNDER_WAY):
        if not alive(data, str(one.id)) and not _starting(one):
            gone.add(one.id)
            if one.id in before:
                cancelling = one.state is not None and one.state.type == StateType.CANCELLING
                await _set(client, one, Cancelled(message=GONE) if cancelling else AwaitingRetry(message=GONE))
    for one in await _runs(client, [StateType.CRASHED]):
        if _due(one):
            await _set(client, one, AwaitingRetry(message="it crashed"))
    return gone - before


async def _runs(client: PrefectClient, states: list[StateType]) -> list[FlowRun]:
    """The runs of deployments in these states that should have begun within a day."""
    found = await client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states)),
            expected_start_time=FlowRunFilterExpectedStartTime(after_=now() - DAY),
        ),
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


def _due(run: FlowRun) -> bool:
    """Whether a run that crashed is tried again: soon at first, later each time, by how long it has been tried already."""
    if run.state is None or run.run_count > STARTED:
        return False
    tried = run.state.timestamp - (run.expected_start_time or run.state.timestamp)
    return bool(now() - run.state.timestamp > max(timedelta(seconds=LOOK), tried / 4))


def _starting(run: FlowRun) -> bool:
    state = run.state
    return bool(state and state.type == StateType.PENDING and now() - state.timestamp < STARTS)


if __name__ == "__main__":
    tether.follow()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for noisy in ("httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    asyncio.run(main(sys.argv[1:], Path(os.environ["ASSAY_DATA"])))
