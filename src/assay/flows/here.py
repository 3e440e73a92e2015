"""What a flow run has: its lake, its run id, its log, and reports that can never kill the work."""

import gc
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

from prefect import get_client, get_run_logger, runtime
from prefect.artifacts import create_progress_artifact, create_table_artifact, update_progress_artifact
from prefect.events import emit_event
from prefect.exceptions import MissingContextError
from ulid import ULID

from assay import settings, tether
from assay.flows import alive
from assay.lake import upkeep
from assay.lake.runs import Run
from assay.run import Lake
from assay.run import lake as lakes
from assay.spoken import printable

PAUSE = 2.0
"""Seconds between two reports of progress."""
LISTED = 500
"""Rows of a table that a run reports."""


@dataclass
class Here:
    """The lake of a flow run, the run's id in the ledger, the sources that refused their key; and whether the run is to stop.

    `tracked` is the run as the ledger knows it, while it lands.
    """

    lake: Lake
    run: str
    name: str
    refused: set[str] = field(default_factory=set)
    stopped: threading.Event = field(default_factory=threading.Event)
    tracked: Run | None = None
    _bar: Any = None
    _told: float = 0.0

    @property
    def cancelled(self) -> bool:
        """Whether somebody wishes its end: `assay runs cancel`."""
        return self.tracked is not None and self.tracked.wish() == "cancel"

    def progress(self, done: int, of: int) -> None:
        """Say how far the run is, now and then and at its end."""
        if done < of and time.monotonic() - self._told < PAUSE:
            return
        self._told, share = time.monotonic(), 100.0 * done / of if of else 100.0
        if self._bar is None:
            what = f"{self.name}, run {self.run}"
            self._bar = told(create_progress_artifact, progress=share, key=self._key("progress"), description=what)
        else:
            told(update_progress_artifact, artifact_id=self._bar, progress=share)

    def table(self, rows: Sequence[Mapping[str, Any]], description: str) -> None:
        """Say what came of the run."""
        shown = [{name: printable(str(value)) for name, value in row.items()} for row in rows[:LISTED]]
        said = f"{description}; run {self.run}"
        told(create_table_artifact, table=shown, key=self._key("outcome"), description=printable(said))

    def event(self, event: str, dataset: str, **payload: Any) -> None:
        """Say that something is so of a dataset, for whom Prefect wakes by it."""
        resource = {
            "prefect.resource.id": f"assay.dataset.{self.lake.target.settings.name}.{dataset}",
            "assay.lake": self.lake.target.settings.name, "assay.env": self.lake.target.settings.env,
        }  # fmt: skip
        told(emit_event, event=event, resource=resource, payload={"dataset": dataset, "run": self.run, **payload})

    def _key(self, what: str) -> str:
        return re.sub(r"[^a-z0-9]+", "-", f"{self.name}-{what}".lower()).strip("-")


def named() -> str:
    """A flow run's name: the flow's, and what it is of."""
    said = runtime.flow_run.parameters
    of = said.get("select") or [one for one in (said.get("source"), said.get("start_date")) if one]
    return " ".join([runtime.flow_run.flow_name or "", *map(str, of)]).strip()


_here: ContextVar[Here] = ContextVar("here")
here = _here.get


@contextmanager
def opened(name: str, *tags: str) -> Iterator[Here]:
    """Open the lake that ASSAY_LAKE, ASSAY_ENV and ASSAY_TARGET name, for the flow `name` and the tasks that it starts."""
    tether.follow()
    gc.set_threshold(10_000)  # as the command line does; with Prefect there is more to look through
    _outlive()
    root, env, target = lakes.place()
    if runtime.deployment.id:
        alive.hold(settings.read(root, env).data, str(runtime.flow_run.id))
    if name != "land":  # which makes a new environment, as `assay land` does
        lakes.exists(root, env)
    with lakes.open(root, env, target) as lake:
        upkeep.sweep(lake.target.limits.scratch)
        one = Here(lake, run_id(), name)
        token = _here.set(one)
        try:
            told(_tag, tags=[f"run:{one.run}", *tags])
            log().info("%s", f"run {one.run} of {name} on {printable(lake.target.settings.name)}, {env}, {target}")
            yield one
        finally:
            _here.reset(token)


def _outlive() -> None:
    """Go on where the worker dies, and with it whoever reads what is printed: rich ends its process then."""
    loggers = [logging.getLogger(), *map(logging.getLogger, list(logging.Logger.manager.loggerDict))]
    for console in [getattr(one, "console", None) for logger in loggers for one in logger.handlers]:
        if console is not None:
            console.on_broken_pipe = partial(setattr, console, "quiet", True)


def run_id() -> str:
    """The run's id: the flow run's 128 bits as a ULID, so that who is started again as the same run has its own leases."""
    return str(ULID.from_uuid(UUID(runtime.flow_run.id)) if runtime.flow_run.id else ULID())


def _tag(tags: Sequence[str]) -> None:
    with get_client(sync_client=True) as client:
        client.update_flow_run(UUID(runtime.flow_run.id), tags=[*runtime.flow_run.tags, *tags])


def told(report: Callable[..., Any], **said: Any) -> Any:
    """What Prefect answers to a report; None where there is no server, or it cannot be told: the work goes on."""
    if not runtime.flow_run.id:
        return None
    try:
        return report(**said)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is not the work
        log().debug("a report was dropped: %s", type(error).__name__)
        return None


def log(**fields: str) -> Any:
    """The log of the flow run or task run that this is called in; `fields` are on each of its records."""
    try:
        return get_run_logger(**fields)
    except MissingContextError:
        return logging.LoggerAdapter(logging.getLogger(__name__), fields)


def sayer(level: int, dataset: str = "", window: str = "") -> Callable[[str], None]:
    """What writes a line into the log, with run, dataset, window and attempt in the line and as its fields."""
    attempt = runtime.task_run.run_count or runtime.flow_run.run_count or 1
    fields = {"run": here().run, "dataset": dataset, "window": window, "attempt": str(attempt)}
    before = " ".join(f"{name} {value}" for name, value in fields.items() if value)
    logger = log(**fields)
    return lambda line: logger.log(level, "%s", printable(f"{before}: {line}"))
