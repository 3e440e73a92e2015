"""Runs as the ledger knows them: what each asks, how far it is, and what a person wishes of it: pause, resume, cancel."""

import os
import socket
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from assay.clock import now
from assay.errors import AssayError, UsageError
from assay.ports import Fact, Ledger

BEAT = 5.0
"""Seconds between two facts of a run that goes on."""
DEAD = timedelta(seconds=60)
"""A run that has said nothing for so long is dead: its process was killed, or its machine is gone."""
LOOK = 1.0
"""Seconds that a run goes by the wish it read last."""
YIELDS = timedelta(minutes=10)
"""So long, at most, a backfill waits for one load that is served first."""
KEPT = timedelta(days=30)
"""Runs are listed for so long."""


@dataclass
class Run:
    """A run as its own process sees it.

    Attributes:
        what: `command`, `select` and perhaps `span`, by which it can be run again.
        of: how many windows it has to land; `done` and `failed` are those it is through with.
        sources: whom it asks; a run that is not `live` waits while another, that is, asks the same.
    """

    ledger: Ledger
    id: str
    what: Mapping[str, Any]
    sources: Collection[str] = ()
    live: bool = True
    of: int = 0
    done: set[Any] = field(default_factory=set)
    failed: set[Any] = field(default_factory=set)
    began: datetime = field(default_factory=now)
    state: str = "running"
    cancelled: bool = False
    stopped: threading.Event = field(default_factory=threading.Event)
    _version: int = 0
    _wish: str = ""
    _read: float = float("-inf")
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wish(self) -> str:
        """What it has to do now: `stop` with its process, `pause`, `cancel`, `yield` to a load that is served first, or "" to go on."""
        if self.stopped.is_set():
            return "stop"
        with self._lock:
            if self.cancelled:
                return "cancel"
            if time.monotonic() - self._read >= LOOK:
                self._read, self._wish = time.monotonic(), self._wished()
            return self._wish

    def _wished(self) -> str:
        found = self.ledger.newest("wish", "", self.id)
        said = str(found.body["wish"]) if found else ""
        if said in ("pause", "cancel"):
            return said
        if not self.live and any(_asks(self.ledger, one) for one in self.sources):
            return "yield"
        return ""

    def through(self, window: Any, *, failed: bool = False) -> None:
        """It is through with a window; one that failed before may be landed now."""
        with self._lock:
            self.failed.discard(window)
            (self.failed if failed else self.done).add(window)

    def keep(self, state: str = "") -> None:
        """Write down how far it is."""
        with self._lock:
            if state:
                self.state = state
            shown = "paused" if self.state == "running" and self._wish == "pause" else self.state
            self._version += 1
            at = now()
            body = {
                **self.what, "run": self.id, "state": shown, "of": self.of, "done": len(self.done), "failed": len(self.failed - self.done),
                "began": self.began.isoformat(), "beat": at.isoformat(), "by": f"{socket.gethostname()}:{os.getpid()}",
            }  # fmt: skip
            facts = [Fact("run", "", f"{self.began:%Y-%m-%dT%H:%M:%S.%f} {self.id}", at, body, self._version)]
            if self.live:
                until = at if self.state != "running" else at + DEAD
                said = {"run": self.id, "until": until.isoformat(), "began": self.began.isoformat()}
                facts += [Fact("live", "", one, at, said, _next(self.ledger, "live", one)) for one in self.sources]
            self.ledger.record(facts)


def _asks(ledger: Ledger, source: str) -> bool:
    """Whether a load that is served first asks this source now."""
    found = ledger.newest("live", "", source)
    if found is None:
        return False
    until, began = (datetime.fromisoformat(found.body[one]) for one in ("until", "began"))
    # A clock that was put back left moments that are to come: nobody waits for those.
    return now() < until <= now() + DEAD and timedelta() <= now() - began < YIELDS


def _next(ledger: Ledger, kind: str, name: str) -> int:
    found = ledger.newest(kind, "", name)
    return found.version + 1 if found else 0


@contextmanager
def tracked(run: Run) -> Iterator[Run]:
    """Write down how far a run is while the block runs, and how it ended."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT):
            try:
                run.keep()
            except AssayError:  # a ledger that is held for long: the next beat says it
                continue

    run.keep()
    beats = threading.Thread(target=beat, name="run", daemon=True)
    beats.start()
    state = "failed"
    try:
        yield run
        cancelled = run.wish() == "cancel"
        state = "cancelled" if cancelled else "done" if len(run.done) >= run.of else "failed"
        if found := run.ledger.newest("wish", "", run.id):  # it is heard; who was stopped hears it when he goes on
            run.ledger.record([Fact("wish", "", run.id, now(), {"wish": "", "who": ""}, found.version + 1)])
        if cancelled:
            run.cancelled = True
    finally:
        ended.set()
        beats.join()
        run.keep(state)


# ------------------------------------------------------------------ from outside


def listed(ledger: Ledger) -> list[dict[str, Any]]:
    """The runs of the last 30 days, newest first; of those that go on, whether they are dead."""
    at = now()
    found: dict[str, dict[str, Any]] = {}
    for fact in ledger.since("run", "", f"{at - KEPT:%Y-%m-%dT%H:%M:%S}"):
        one = {"command": "", "select": [], "span": None, "datasets": [], **fact.body}
        if one["state"] in ("running", "paused") and at - datetime.fromisoformat(one["beat"]) > DEAD:
            one["state"] = "dead"
        found[one["run"]] = one
    return sorted(found.values(), key=lambda one: str(one["began"]), reverse=True)


def named(ledger: Ledger, name: str | None) -> dict[str, Any]:
    """The run whose id begins so; without a name the newest that goes on, or the newest. UsageError if there is none, or several."""
    found = listed(ledger)
    if not found:
        raise UsageError("no run is known of the last 30 days; `assay backfill` and `assay apply` make one")
    if name is None:
        return next((one for one in found if one["state"] in ("running", "paused")), found[0])
    fits = [one for one in found if one["run"].startswith(name.upper())]
    if len(fits) != 1:
        raise UsageError(f"{len(fits) or 'no'} runs begin with {name!r}; `assay runs` lists them")
    return fits[0]


def wish(ledger: Ledger, run: Mapping[str, Any], said: str, who: str) -> None:
    """Say what is wished of a run: `pause`, `resume`, `cancel`. UsageError for one that has ended."""
    if run["state"] not in ("running", "paused"):
        raise UsageError(f"run {run['run']} is {run['state']}: `assay runs retry {run['run']}` asks for what it left")
    name = str(run["run"])
    ledger.record([Fact("wish", "", name, now(), {"wish": said, "who": who}, _next(ledger, "wish", name))])


def told(one: Mapping[str, Any]) -> str:
    """A run in a line."""
    what = " ".join([one["command"], *one["select"], one["span"] or ""]).strip()
    failed = f", {one['failed']} failed" if one["failed"] else ""
    return (
        f"{one['run']}  {one['began'][:19]}Z  {one['state']:<9}  {one['done']} of {one['of']} windows{failed}  {what}"
    )


def failing(ledger: Ledger, run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The shards whose landing failed last in this run, each with its windows and the cause."""
    found = []
    for dataset in run["datasets"]:
        for fact in ledger.since("failed", dataset):
            if fact.body["run"] == run["run"] and fact.body["state"] == "failed":
                found.append({"step": fact.id, "windows": list(fact.body["windows"]), "error": fact.body["error"]})
    return found
