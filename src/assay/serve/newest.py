"""A release opened for reading: its tables, a pool of cursors, and the newest one whenever it changes."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import duckdb
from starlette.requests import Request

from assay import fence
from assay.contract.model import Contract
from assay.errors import AssayError, LakeDamaged, UsageError
from assay.lake import release
from assay.lake.release import Release
from assay.ports import Files, Ledger, Limits
from assay.serve.granted import Grant
from assay.serve.query import FIELDS, Problem, Table, digest, value
from assay.serve.reader import SPILL, Reader, damaged

_T = TypeVar("_T")
_log = logging.getLogger(__name__)
EVERY, DEADLINE, WORKERS, QUEUE = 1.0, 30.0, 4, 16


class Cursors:
    """Cursors of one connection, each used by one thread at a time; closed when a newer release took over and nobody reads it."""

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        self._con = con
        self._idle: list[duckdb.DuckDBPyConnection] = []
        self._users, self._over = 0, False

    @contextmanager
    def use(self) -> Iterator[None]:
        """Keep them for the length of a block. For the event loop's thread only."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            self._let_go()

    def end(self) -> None:
        """Close as soon as nobody uses them."""
        self._over = True
        self._let_go()

    def _let_go(self) -> None:
        if self._over and not self._users:
            for cursor in self._idle:
                cursor.close()
            self._idle.clear()
            self._con.close()

    @contextmanager
    def one(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor nobody else uses."""
        # list.pop and append are atomic; a shared cursor would answer "connection is busy"
        try:
            cursor = self._idle.pop()
        except IndexError:
            cursor = self._con.cursor()
        yield cursor
        self._idle.append(cursor)


class Reading:
    """One release opened: its tables, and cursors to read them by.

    `days` and `promised` keep what the console read of it: newest days by dataset and snapshot, contracts by hash;
    `newer`, by table, which of its rows have a later record that was rejected. `beyond` are tables that were not granted.
    """

    def __init__(self, files: Files, found: Release, limits: Limits, *, silver: bool = True) -> None:
        self.mark = f"{found.number}-{found.id}"
        self.reader = Reader(files, found, limits, silver=silver)
        con = self.reader.connect(locked=True, limits=replace(limits, threads=1, spill=SPILL))
        self.cursors = Cursors(con)
        self.days: dict[tuple[str, int | None], str | None] = {}
        self.promised: dict[str, Contract] = {}
        self.newer: dict[str, asyncio.Future[Any]] = {}
        self.beyond: Collection[tuple[str, str]] = frozenset()
        self._granted: dict[Grant, Reading] = {None: self}

    @property
    def release(self) -> Release:
        """The release, as far as it is read."""
        return self.reader.release

    @property
    def tables(self) -> dict[tuple[str, str], Table]:
        """Its tables, by zone and name."""
        return self.reader.tables

    def granted(self, grant: Grant) -> "Reading":
        """The same release as a caller of this grant reads it; the tables that it holds beside these are refused by name."""
        if grant not in self._granted:
            reader = self.reader.granted(grant)
            its = self._granted[grant] = copy(self)
            its.reader, its.beyond = reader, self.tables.keys() - reader.tables.keys()
            # What is said of a table may be less than others are told: neither bodies nor cursors are shared.
            its.mark = f"{self.mark}-{digest(' '.join(sorted(grant or ())))}"
        return self._granted[grant]

    def table(self, zone: str, name: str) -> Table:
        """A table of the release; Problem (404) lists those there are, or (403) says that it was not granted."""
        try:
            return self.tables[zone, name]
        except KeyError:
            there = ", ".join(n for z, n in self.tables if z == zone)
            if (zone, name) in self.beyond:
                raise Problem(
                    403,
                    f"your key does not read {zone}.{name}; of {zone} it reads {there or 'nothing'}; whoever made the key can make another",
                ) from None
            if zone == "silver" and not self.reader.silver:
                raise Problem(404, "gold alone is served here; `assay serve` serves silver too", "operator") from None
            raise Problem(
                404, f"release {self.release.number} has no {zone} table {name[:60]!r}; it has {there or 'none'}"
            ) from None

    def keep(self, before: "Reading") -> None:
        """Take over what was read of an earlier release and is the same in this one."""
        mine = {(s.dataset, s.current.snapshot): s.contract_sha256 for s in self.release.silver}
        self.days |= {of: day for of, day in before.days.items() if of in mine}
        same = {f"silver.{s.dataset}" for s in self.release.silver if s in before.release.silver}
        told = {of: one for of, one in before.newer.items() if of in same and one.done()}
        self.newer |= {of: one for of, one in told.items() if one.exception() is None and one.result().known}
        self.promised |= {sha256: one for sha256, one in before.promised.items() if sha256 in mine.values()}

    @contextmanager
    def use(self) -> Iterator["Reading"]:
        """Keep the release open for the length of a block. For the event loop's thread only."""
        with self.cursors.use():
            yield self


Explain = Callable[[Release, str, dict[str, str], str | None], dict[str, Any]]
Mark = Callable[[Release, str], list[dict[str, Any]]]
Alarm = Callable[[], list[dict[str, Any]]]


class Newest:
    """The newest release of a lake, looked for at most once a second; work runs in a few threads beside the event loop."""

    def __init__(
        self, files: Files, *, limits: Limits, every: float = EVERY, deadline: float = DEADLINE, keyed: bool = False,
        silver: bool = True,
    ) -> None:  # fmt: skip
        self._files, self._limits, self._keyed, self._silver = files, limits, keyed, silver
        self._every, self._deadline = every, deadline
        self._pool, self._explaining = ThreadPoolExecutor(WORKERS, "serve"), ThreadPoolExecutor(1, "explain")
        self._marking = ThreadPoolExecutor(1, "mark")
        self._explained = 0
        self._lock = asyncio.Lock()
        self._looked = -every
        self._reading: Reading | None = None

    async def reading(self, grant: Grant) -> Reading | None:
        """The newest release, opened, as far as it was granted; None before the first. Take `use()` before the next await."""
        now = time.monotonic()
        # while a newer one is being opened, others go on with the one before
        if now - self._looked >= self._every and not (self._reading and self._lock.locked()):
            async with self._lock:
                if now - self._looked >= self._every:
                    await self._look()
                    self._looked = time.monotonic()
        return self._reading and self._reading.granted(grant)

    async def _look(self) -> None:
        try:
            opened = await self.work(self._open)
        except Exception as error:  # whatever it was, it is tried again: what was lost may be put back
            if not self._reading:
                if isinstance(error, AssayError):
                    raise
                raise LakeDamaged(f"the newest release cannot be opened ({type(error).__name__})") from error
            _log.exception("the newest release cannot be read; release %d is served on", self._reading.release.number)
            return
        if opened:
            before, self._reading = self._reading, opened
            if before:
                opened.keep(before)
                before.cursors.end()

    def _open(self) -> Reading | None:
        known = self._reading.release.number if self._reading else 0
        # from a known release on, a look is one question: is there the next one?
        number = release.newest(self._files, known)
        if not number or number == known:
            return None
        opened = Reading(self._files, release.read(self._files, number), self._limits, silver=self._silver)
        if self._keyed:
            _ = opened.reader.sources  # worked out here once, and not on the event loop
        return opened

    async def work(self, job: Callable[..., _T], *args: Any) -> _T:
        """Run a job in one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, job, *args)

    async def ask(self, reading: Reading, job: Callable[..., _T], *args: Any) -> _T:
        """Run `job(cursor, *args)` in one of the threads; Problem (503) if it takes longer than the deadline."""
        running: list[duckdb.DuckDBPyConnection] = []
        loop = asyncio.get_running_loop()
        over = False

        def run() -> _T:
            if over:
                raise duckdb.InterruptException("its time was over before a thread was free")
            with reading.cursors.one() as cursor:
                running.append(cursor)
                try:
                    return job(cursor, *args)
                finally:
                    running.clear()

        def stop() -> None:
            nonlocal over
            over = True
            for cursor in running[:]:
                cursor.interrupt()
            timers.append(loop.call_later(1, stop))  # an interrupt before the query began is not heard

        timers = [loop.call_later(self._deadline, stop)]
        try:
            found = await loop.run_in_executor(self._pool, run)
        except duckdb.InterruptException:
            over = True
        except duckdb.Error as error:
            if lost := damaged(error):
                raise lost from error
            raise
        finally:
            timers[-1].cancel()
        # asked in any case: a query stopped while its rows stream ends without an error, as if there were no more
        if over:
            raise Problem(503, f"not answered within {self._deadline:g} s; narrow the query by the first key column")
        return found

    async def explain(self, job: Callable[..., _T], *args: Any) -> _T:
        """Run an explanation in a thread of its own, so that many of them keep no page waiting; Problem (503) beyond QUEUE."""
        if self._explained >= QUEUE:
            raise Problem(
                503,
                f"{QUEUE} explanations are waiting already; ask again in a few seconds",
                "nobody",
                **{"Retry-After": "5"},
            )
        self._explained += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._explaining, job, *args)
        finally:
            self._explained -= 1

    async def mark(self, job: Callable[..., _T], *args: Any) -> _T:
        """Run, in a thread of its own, what says which rows of a release have a later record."""
        return await asyncio.get_running_loop().run_in_executor(self._marking, job, *args)

    def close(self) -> None:
        """Close the release and end the threads."""
        if self._reading:
            self._reading.cursors.end()
        self._pool.shutdown(wait=True)
        self._explaining.shutdown(wait=True, cancel_futures=True)
        self._marking.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class Place:
    """What all routes of a server share."""

    files: Files
    ledger: Ledger
    contracts: Mapping[str, Contract]
    newest: Newest
    explain: Explain | None
    newer: Mark | None
    title: str
    keyed: bool = False
    alerts: Alarm | None = None
    pages: bool = True


def grant_of(request: Request) -> Grant:
    """What the door granted to whoever asks."""
    grant: Grant = request.scope["assay.grant"]
    return grant


async def opened(place: Place, request: Request) -> Reading:
    """The newest release, as far as whoever asks may read it; Problem (503) before the first."""
    reading = await place.newest.reading(grant_of(request))
    if reading is None:
        raise Problem(503, "nothing has been released yet; the lake's owner runs `assay build`", "operator")
    return reading


def explain_question(
    reading: Reading, request: Request, *, silver: bool = False
) -> tuple[Table, dict[str, str], str | None]:
    """Table, key and column of an explain request, checked: every key column once, and perhaps `column`.

    With `silver`, the table may also be `silver.<dataset>`.
    """
    name: str = request.path_params["name"]
    if silver and name.startswith("silver."):
        table = reading.table("silver", name.removeprefix("silver."))
    else:
        table = reading.table("gold", name.removeprefix("gold."))
    if table.whole:
        raise Problem(404, f"a version of a row has no explanation yet; ask for {name.removesuffix('_versions')}")
    given: dict[str, str] = {}
    try:
        pairs = parse_qsl(
            request.scope["query_string"].decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=FIELDS,
        )
    except ValueError:
        raise Problem(400, "the query string is not percent-encoded UTF-8") from None
    for name, text in pairs:
        if name in given or name not in (*table.key, "column"):
            raise Problem(400, f"explain takes {', '.join(table.key)} and perhaps column, each once; not {name[:60]!r}")
        given[name] = text
    column = given.pop("column", None) if "column" not in table.key else None
    if missing := [k for k in table.key if k not in given]:
        raise Problem(400, f"explain needs the whole key of {table.full}; {', '.join(missing)} is missing")
    if column is not None and column not in table.columns:
        raise Problem(400, f"column: {table.full} has no column {column[:60]!r}; it has {', '.join(table.columns)}")
    for k in table.key:
        value(table.columns[k], given[k])
    return table, given, column


async def way_back(
    place: Place, reading: Reading, table: Table, key: dict[str, str], column: str | None
) -> dict[str, Any]:
    """What `explain` says; Problem (404) if there is no such row or nothing explains here."""
    if place.explain is None:
        raise Problem(404, "this server does not explain values; run `assay explain` where the lake lies", "operator")
    try:
        return await place.newest.explain(
            place.explain, reading.release, table.full if table.zone == "silver" else table.name, key, column
        )
    except UsageError as error:
        raise Problem(404, str(error)) from None
    except (fence.Late, fence.Spent):
        raise Problem(
            503, "this value takes too long or too much to explain; `assay explain --timeout` has more time", "operator"
        ) from None
