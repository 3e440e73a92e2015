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
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import AwaitingRetry, Cancelled
from prefect.workers.process import ProcessWorker

from assay import tether
from assay.clock import now
from assay.flows.alive import alive

LOOK = 10.0
"""Seconds between two looks for runs whose process is gone; at the second one they are started again."""
STARTS = timedelta(seconds=60)
"""So long a worker may take from taking a run to its process."""
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
    """The runs that have no process now; those that had none `before` either are started again."""
    state = FlowRunFilterState(type=FlowRunFilterStateType(any_=_UNDER_WAY))
    runs = await client.read_flow_runs(flow_run_filter=FlowRunFilter(state=state), limit=200)
    gone = {one.id for one in runs if one.deployment_id and not alive(data, str(one.id)) and not _starting(one)}
    for one in runs:
        if one.id in gone & before:
            cancelling = one.state is not None and one.state.type == StateType.CANCELLING
            told = "its process is gone"
            await client.set_flow_run_state(
                one.id, Cancelled(message=told) if cancelling else AwaitingRetry(message=f"{told}; it is started again"), force=True
            )  # fmt: skip
            log.warning("flow run %s: %s", one.name, told)
    return gone - before


def _starting(run: FlowRun) -> bool:
    state = run.state
    return bool(state and state.type == StateType.PENDING and now() - state.timestamp < STARTS)


if __name__ == "__main__":
    tether.follow()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for noisy in ("httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    asyncio.run(main(sys.argv[1:], Path(os.environ["ASSAY_DATA"])))
