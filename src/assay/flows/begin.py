"""`python -m assay.flows.begin SECONDS`: what `assay up` does once its server answers: deploy, and wake what is due already."""

import logging
import signal
import sys
import time

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType

from assay import tether
from assay.clock import now
from assay.errors import AssayError
from assay.flows import deploy
from assay.plan import Build, Land, Refine, Step
from assay.run import Lake
from assay.run import lake as lakes

log = logging.getLogger(__name__)
_AHEAD = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]


def wake(lake: Lake, *, land: bool = True) -> list[str]:
    """Start the deployments of what the plan misses now, which nobody scheduled or no event woke; their names.

    One that runs or is due already is left to that. Without `land`, it is what silver and gold lack of what is landed, and did not fail when it was tried last.
    """
    steps = lake.plan(land=land)
    landing = list(dict.fromkeys(step.dataset for step in steps if isinstance(step, Land)))
    due = [f"land/{name}" for name in landing]
    refines = [step for step in steps if isinstance(step, Refine) and step.dataset not in landing]
    builds = [step for step in steps if isinstance(step, Build)]
    if any(land or not _failed(lake, step) for step in refines):
        due.append("refine/landed")
    elif not refines and not landing and any(land or not _failed(lake, step) for step in builds):
        due.append("build/gold")
    woken: list[str] = []
    with get_client(sync_client=True) as client:
        for name in due:
            deployment = client.read_deployment_by_name(name).id
            waiting = client.read_flow_runs(
                deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment])),
                flow_run_filter=FlowRunFilter(
                    state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_AHEAD)),
                    expected_start_time=FlowRunFilterExpectedStartTime(before_=now()),
                ),
                limit=1,
            )
            if not waiting:
                client.create_flow_run_from_deployment(deployment)
                woken.append(name)
    return woken


def _failed(lake: Lake, step: Step) -> bool:
    dataset, kind = ("", "build") if isinstance(step, Build) else (step.dataset, "refine")
    found = lake.target.ledger.newest("step", dataset, kind)
    return found is not None and found.body["state"] == "failed"


def _answered(seconds: float) -> None:
    """Wait for the server: what this imports is there by then. Who deploys says what is wrong if it does not come."""
    until = time.monotonic() + seconds
    with get_client(sync_client=True) as client:
        while client.api_healthcheck() is not None and time.monotonic() < until:
            time.sleep(0.1)


def main() -> int:
    """Deploy and wake; the exit code of what failed, after saying it."""
    tether.follow()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # and so let go of what is held
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    _answered(float(sys.argv[1]))
    try:
        with lakes.open(*lakes.place()) as lake:
            changes = deploy.deploy(lake)
            log.info("%d changes of what Prefect holds", len(changes))
            for name in wake(lake):
                log.info("woke %s", name)
    except AssayError as error:
        log.warning("%s", "\n".join(map(str, error.args)))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
