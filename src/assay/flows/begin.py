"""`python -m assay.flows.begin`: what `assay up` does once its server answers: deploy, and wake what is due already."""

import logging
import os
import sys
from pathlib import Path

from prefect.client.orchestration import get_client

from assay import tether
from assay.clock import now
from assay.errors import AssayError
from assay.flows import deploy
from assay.plan import Build, Land, Refine
from assay.run import Lake
from assay.run import lake as lakes

log = logging.getLogger(__name__)


def wake(lake: Lake) -> list[str]:
    """Start the deployments of what the plan misses now, which nobody scheduled while all was off; their names."""
    steps = lake.plan()
    due = [f"land/{name}" for name in dict.fromkeys(step.dataset for step in steps if isinstance(step, Land))]
    landing = {name.partition("/")[2] for name in due}
    if any(isinstance(step, Refine) and step.dataset not in landing for step in steps):
        due.append("refine/landed")
    elif steps and not due and any(isinstance(step, Build) for step in steps):
        due.append("build/gold")
    with get_client(sync_client=True) as client:
        for name in due:
            client.create_flow_run_from_deployment(
                client.read_deployment_by_name(name).id, idempotency_key=f"woken {name} {now():%Y-%m-%d %H}"
            )
    return due


def main() -> int:
    """Deploy and wake; the exit code of what failed, after saying it."""
    tether.follow()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    try:
        with lakes.open(Path(os.environ["ASSAY_LAKE"]), os.environ["ASSAY_ENV"]) as lake:
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
