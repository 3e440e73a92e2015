"""Figures of steps as lines that CloudWatch takes metrics from: its Embedded Metric Format."""

import json
import os
import sys
import threading
from collections import Counter
from contextlib import suppress

from assay.clock import now
from assay.errors import SettingsError
from assay.ports import Measured
from assay.settings import Aws
from assay.targets.aws.clients import Clients

METRICS = "ASSAY_METRICS"
"""The variable that asks for these lines: `emf`. Tasks have it; a person's terminal need not read JSON."""
NAMESPACE = "assay"
MARK = '{"_aws":'
"""What each line begins with."""


def asked() -> bool:
    """Whether this process is to write them; SettingsError for another word than `emf`."""
    said = os.environ.get(METRICS, "")
    if said not in ("", "emf"):
        raise SettingsError(f"{METRICS} is {said!r}; it may be emf, or nothing")
    return bool(said)


class Emf:
    """Writes a line for each step, whole, to standard output: a task's log.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html.
    """

    def __init__(self, clients: Clients, aws: Aws, env: str) -> None:
        self._clients, self._aws, self._env = clients, aws, env
        self._before: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, one: Measured) -> None:
        """Write what a step came to, and the calls of AWS that this process sent since the line before."""
        with self._lock:
            sent = Counter(self._clients.calls)
            new, self._before = sent - self._before, sent
            line = json.dumps(document(one, self._aws.prefix, self._env, new), separators=(",", ":"))
            with suppress(OSError, ValueError):  # nobody reads it any more: a step that is done is done
                sys.stdout.write(f"{line}\n")  # noqa: TID251 - JSON in ASCII, which steers no terminal, for a program to read
                sys.stdout.flush()  # noqa: TID251 - as above


def document(one: Measured, lake: str, env: str, calls: Counter[str]) -> dict[str, object]:
    """The JSON of a step's line; the run is no dimension: each would be a metric of its own, and be paid for."""
    dimensions = {"lake": lake, "env": env, "step": one.step} | ({"dataset": one.dataset} if one.dataset else {})
    figures = {"seconds": round(one.seconds, 3), "failed": one.failed, **one.figures, "calls": sum(calls.values())}
    metrics = [{"Name": name, "Unit": "Seconds" if name == "seconds" else "Count"} for name in figures]
    directive = {"Namespace": NAMESPACE, "Dimensions": [list(dimensions)], "Metrics": metrics}
    meta = {"Timestamp": int(now().timestamp() * 1000), "CloudWatchMetrics": [directive]}
    launched = {
        key: os.environ[name] for key, name in (("launch", "ASSAY_RUN"), ("for", "ASSAY_STEP")) if name in os.environ
    }
    return {"_aws": meta, **dimensions, "run": one.run, **launched, **figures, "calls_by": dict(calls)}
