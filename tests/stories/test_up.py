"""`assay up` as its user meets it: the whole of it in one process tree, its doors, its faults, and that nothing outlives it."""

import base64
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import assay_sandbox
from assay.lake import runs
from assay.run import Lake, prove
from assay.run import lake as lakes
from assay_sandbox.faults import Fault
from tests.kept import begun
from tests.prefects import answered

ROOT = Path(__file__).parents[2]
ASSAY = ROOT / ".venvs/prefect/bin/assay"
MARK = "ASSAY_TEST_TREE"


def ports(number: int) -> list[int]:
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    found = [one.getsockname()[1] for one in taken]
    for one in taken:
        one.close()
    return found


class Tree:
    """`assay up` of a lake, and what can be asked of it."""

    def __init__(self, root: Path, *more: str) -> None:
        self.root, self.lines = root, []
        self.port, self.prefect = ports(2)
        self.process = subprocess.Popen(
            [ASSAY, "--lake", root, "up", "--port", str(self.port), "--prefect-port", str(self.prefect), *more],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | {MARK: str(root)},
        )  # fmt: skip
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    @property
    def said(self) -> str:
        return "\n".join(self.lines)

    @property
    def password(self) -> str:
        return (self.root / "data/dev/up/password").read_text().strip()

    def until(self, found: Callable[[], Any], what: str, seconds: float = 120) -> Any:
        deadline = time.monotonic() + seconds
        while True:
            try:
                if answer := found():
                    return answer
            except OSError:
                pass
            assert self.process.poll() is None, f"{what}: it ended\n{self.said[-6000:]}"
            assert time.monotonic() < deadline, f"{what}\n{self.said[-6000:]}"
            time.sleep(0.3)

    def ready(self) -> "Tree":
        self.until(lambda: "ready after" in self.said, "ready", 180)
        return self

    def status(self, port: int, path: str, *, password: str | None = "", **headers: str) -> int:
        """The status of an answer; with the tree's own password unless told."""
        try:
            with self.opened(port, path, password=password, **headers) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    def opened(
        self,
        port: int,
        path: str,
        body: Any = None,
        *,
        method: str | None = None,
        password: str | None = "",
        **headers: str,
    ) -> Any:
        return urllib.request.urlopen(self._asked(port, path, body, method, password, **headers), timeout=30)

    def _asked(
        self, port: int, path: str, body: Any, method: str | None, password: str | None, **headers: str
    ) -> urllib.request.Request:
        if password is not None:
            said = base64.b64encode(f"assay:{password or self.password}".encode()).decode()
            headers = {"Authorization": f"Basic {said}", **headers}
        data = None if body is None else json.dumps(body).encode()
        return urllib.request.Request(
            f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json", **headers}, method=method
        )

    def ask(self, path: str, method: str | None = None, **body: Any) -> Any:
        """What Prefect answers."""
        asked = self._asked(self.prefect, f"/api{path}", body if method != "GET" else None, method, "")
        text = answered(asked)
        return json.loads(text) if text else None

    def release(self) -> int:
        with self.opened(self.port, "/v1/health") as answer:
            return json.load(answer)["release"] or 0

    def runs(self, *states: str) -> list[dict[str, Any]]:
        kind = {"state": {"type": {"any_": list(states)}}} if states else {}
        return self.ask("/flow_runs/filter", flow_runs=kind, limit=200, sort="START_TIME_DESC")

    def was(self, name: str, message: str) -> bool:
        """Whether a run of that name was in a state with that message."""
        ids = [one["id"] for one in self.runs() if one["name"] == name]
        return any(
            state["message"] == message
            for one in ids
            for state in self.ask(f"/flow_run_states/?flow_run_id={one}", "GET")
        )

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command of the same lake, from outside."""
        return subprocess.run(
            [ASSAY, "--lake", self.root, *words], capture_output=True, text=True, timeout=120, check=False
        )

    def processes(self) -> dict[int, str]:
        """Whatever the tree started and runs still: by its environment, which children of children have too."""
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if f"{MARK}={self.root}".encode() in (process / "environ").read_bytes().split(b"\0"):
                    found[int(process.name)] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
        return {pid: command for pid, command in found.items() if command}

    def of(self, what: str) -> list[int]:
        return [pid for pid, command in self.processes().items() if what in command]

    def flow(self, name: str) -> int:
        """The process of a flow run that goes on, by its name; 0 if there is none."""
        ids = [f"PREFECT__FLOW_RUN_ID={one['id']}".encode() for one in self.runs("RUNNING") if one["name"] == name]
        for pid in self.of("prefect.engine"):
            try:
                if any(one in (Path("/proc") / str(pid) / "environ").read_bytes().split(b"\0") for one in ids):
                    return pid
            except OSError:
                continue
        return 0

    def gone(self) -> None:
        """All processes end, soon."""
        deadline = time.monotonic() + 60
        while self.processes():
            assert time.monotonic() < deadline, self.processes()
            time.sleep(0.1)


@contextmanager
def tree(root: Path, *more: str) -> Iterator[Tree]:
    one = Tree(root, *more)
    try:
        yield one
    finally:
        for pid in one.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        one.process.wait(30)
        one.reader.join(30)
        assert one.process.stdout
        one.process.stdout.close()


@pytest.mark.slow
def test_the_whole_comes_up_behind_a_password_releases_and_tells_what_a_hand_changed(tmp_path: Path):
    root = begun(tmp_path / "shop", "csv")
    (root / "deploy.yaml").write_text('schedules: {upkeep: "* * * * *"}\n')
    with tree(root) as up:
        up.ready()
        assert "woke land/trades" in up.said
        up.until(lambda: up.release() == 1, "a release")  # landed, and the events woke refine and build
        assert {one["name"].split()[0] for one in up.runs("COMPLETED")} >= {"land", "refine", "build"}

        with up.opened(up.port, "/") as page:
            assert "Release 1 was made" in page.read().decode()
        with up.opened(up.port, "/runs") as page:
            assert "apply <bdi>trades</bdi>" in page.read().decode()

        # Every port asks for the password, and answers to its own name alone.
        assert (root / "data/dev/up/password").stat().st_mode & 0o777 == 0o600
        assert (root / "data/dev").stat().st_mode & 0o077 == 0
        assert up.status(up.port, "/v1/gold", password=None) == 401
        assert up.status(up.port, "/v1/gold", Host="evil.example") == 421
        assert up.status(up.port, "/v1/gold", Origin="http://evil.example") == 403
        for path in ("/", "/api/flow_runs/count", "/api/admin/version", "/docs"):
            assert up.status(up.prefect, path, password=None) == 401, path
            assert up.status(up.prefect, path, password="wrong-one") == 401, path
            assert up.status(up.prefect, path, Host="evil.example") == 403, path
            assert up.status(up.prefect, path, Origin="http://evil.example") == 403, path
        with up.opened(up.prefect, "/") as answer:
            assert f"connect-src 'self' ws://127.0.0.1:{up.prefect}" in answer.headers["content-security-policy"]
        assert up.password not in up.said
        assert not any(up.password in command for command in up.processes().values())

        # The dry run is the drift report, and a deploy mends it.
        nothing = up.command("deploy", "--dry-run")
        assert (nothing.returncode, nothing.stdout) == (0, "Prefect holds what this lake wants\n"), nothing.stderr
        up.ask("/work_pools/ingest", "PATCH", concurrency_limit=9)
        drift = up.command("deploy", "--dry-run")
        assert drift.returncode == 1, drift.stderr
        assert "change pool ingest\n         concurrency_limit: 9 -> 4\n" in drift.stdout
        assert up.command("deploy").stdout.endswith("0 added, 1 changed, 0 removed\n")
        assert up.command("deploy", "--dry-run").returncode == 0

        def scheduled() -> bool:
            return any(one["auto_scheduled"] and one["name"] == "upkeep" for one in up.runs("COMPLETED"))

        up.until(scheduled, "the schedule fires")

        # A second tree is refused, and a taken port is named with who has it.
        second = up.command("up", "--port", str(ports(1)[0]), "--prefect-port", str(ports(1)[0]))
        assert second.returncode == 75
        assert (
            f"`assay up` runs already for this environment, or its processes are still ending: process {up.process.pid}"
            in second.stderr
        )
        other = subprocess.run(
            [ASSAY, "--lake", begun(tmp_path / "other", "csv"), "up", "--port", str(up.port)], capture_output=True, text=True, timeout=60, check=False
        )  # fmt: skip
        assert other.returncode == 2
        assert re.search(rf"port {up.port} is taken by process \d+ \(.*assay\.cli .* serve", other.stderr)

        up.process.terminate()
        assert up.process.wait(60) == 0, up.said[-3000:]
        up.gone()
        assert up.lines[-1] == "stopped"

    with tree(root) as up:  # again, on what is there
        up.ready()
        assert "0 changes of what Prefect holds" in up.said
        up.process.kill()
        up.gone()


CLOSES = """select symbol, count(*) as sessions from {{ source('silver', 'price_eod') }} group by symbol
"""
CLOSES_YML = """version: 2
models:
  - name: mart_sessions
    description: How many sessions there are of a symbol.
    config: {meta: {assay: {key: [symbol], inputs: [{table: silver.price_eod, where: symbol = row.symbol}]}}}
    data_tests: [{unique_key: {arguments: {columns: [symbol]}}}]
    columns:
      - {name: symbol, description: ticker, data_type: varchar, data_tests: [not_null], config: {meta: {assay: {classification: public}}}}
      - {name: sessions, description: sessions with a price, data_type: bigint, data_tests: [not_null], config: {meta: {assay: {unit: sessions, classification: public}}}}
"""
PRICES = "historical-price-eod/non-split-adjusted"


class Asked:
    """A lake of prices by two months, splits, and one gold table; and its vendor, who is asked some 25 times a second."""

    def __init__(self, tmp_path: Path) -> None:
        self.root = begun(tmp_path / "markets", "markets")
        self.sandbox = assay_sandbox.Sandbox(limit=(100_000, 60.0))
        for name in ("dividends", "price_eod_adjusted", "symbol_list"):
            (self.root / f"contracts/{name}.yaml").unlink()
        contract = self.root / "contracts/price_eod.yaml"
        contract.write_text(contract.read_text().replace("value: P10Y", "value: P2M"))
        shutil.rmtree(self.root / "dbt")
        shutil.copytree(ROOT / "lakes/csv/dbt", self.root / "dbt", ignore=shutil.ignore_patterns("mart_*"))
        (self.root / "dbt/models/gold/mart_sessions.sql").write_text(CLOSES)
        (self.root / "dbt/models/gold/mart_sessions.yml").write_text(CLOSES_YML)
        (self.root / "deploy.yaml").write_text("schedules: {refine: null, build: null, upkeep: null}\n")

    def at(self, url: str) -> None:
        """The lake asks the sandbox at that address."""
        path = self.root / "assay.toml"
        text = path.read_text().replace("http://127.0.0.1:8321/stable", url)
        path.write_text(text.replace("requests = 3000", "requests = 1500"))

    def prices(self) -> int:
        """How many answers of prices were given."""
        return sum("non-split" in one.path and one.fault is None for one in self.sandbox.log)


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Asked]:
    one = Asked(tmp_path)
    with one.sandbox.running() as url:
        one.at(url)
        yield one


def whole(up: Tree, lake: Lake, *left: str) -> bool:
    """Whether all is landed, refined and released, and no run goes on or has failed but those that are left to a person."""
    on = [one for one in up.runs("RUNNING", "PENDING", "CANCELLING", "CRASHED", "FAILED") if one["id"] not in left]
    return bool(up.release()) and not on and not up.of("prefect.engine") and lake.plan() == []


def holds(up: Tree, lake: Lake) -> None:
    """The laws hold, and the tree ends when it is told to."""
    status = lake.status()["datasets"]["price_eod"]
    assert (status["failing"], status["unjudged"]) == ([], 0)
    assert not [one for one in runs.listed(lake.target.ledger) if one["state"] in ("running", "dead")]
    prove.counts(lake)
    prove.bronze_objects(lake)
    up.process.terminate()
    assert up.process.wait(60) == 0
    up.gone()


@pytest.mark.slow
def test_told_to_stop_while_it_lands_it_puts_what_it_asked_for_and_waits_for_no_vendor_that_hangs(asked: Asked):
    with tree(asked.root) as up:
        up.ready()
        up.until(lambda: asked.prices() > 30, "landing began")
        asked.sandbox.faults.add(Fault("latency", path=PRICES, symbol="IBM", times=None, params={"seconds": 3600}))
        up.until(lambda: any(one.fault for one in asked.sandbox.log), "the vendor hangs")
        time.sleep(2)
        up.process.terminate()
        assert up.process.wait(100) == 0, up.said[-4000:]
        up.gone()
    stopped = asked.prices()
    assert 30 < stopped < 290
    with lakes.open(asked.root) as lake:
        assert lake.status()["datasets"]["price_eod"]["batches"] == stopped
        assert not [one for one in runs.listed(lake.target.ledger) if one["state"] in ("running", "dead")]


@pytest.mark.slow
def test_whatever_is_killed_the_backfill_ends_and_nothing_stays_running(asked: Asked):
    with lakes.open(asked.root) as lake, tree(asked.root) as up:
        up.ready()

        def landing() -> int:
            """The process that lands prices, once it lands some."""
            before = asked.prices()
            up.until(lambda: asked.prices() > before + 20, "prices are landed")
            return int(up.until(lambda: up.flow("land price_eod"), "the process that lands prices"))

        flow = landing()
        os.kill(up.of("assay.flows.workers")[0], signal.SIGKILL)
        assert landing() == flow, "a flow goes on without its worker"
        os.kill(flow, signal.SIGKILL)  # nobody sees it end
        up.until(lambda: up.was("land price_eod", "its process is gone"), "the run is given back")
        os.kill(landing(), signal.SIGKILL)
        up.until(lambda: up.was("land price_eod", "it crashed"), "the run that crashed is given back")
        os.kill(up.of("assay.flows.server")[0], signal.SIGKILL)
        up.until(lambda: "prefect ended (signal 9); it is started again" in up.said, "Prefect is started again")
        up.until(lambda: whole(up, lake), "all is done", 240)
        holds(up, lake)


@contextmanager
def small(place: Path, size: str) -> Iterator[None]:
    """A disk of that size at a place; skips where this process may not mount one."""
    place.mkdir(exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", place],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"only who may mount a disk can fill one: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def fill(path: Path) -> None:
    """A file that takes all that its disk has left."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 20))


@pytest.mark.slow
def test_a_vendor_that_hangs_and_a_disk_that_fills_are_told_and_once_over_all_is_done_by_itself(asked: Asked):
    settings = asked.root / "assay.toml"
    settings.write_text(settings.read_text() + "\n[source.fmp.options]\ntimeout = 2\nattempts = 1\n")
    ballast = asked.root / "data/ballast"
    asked.sandbox.faults.add(Fault("latency", path=PRICES, nth=20, times=None, params={"seconds": 3600}))
    with small(asked.root / "data", "300m"), lakes.open(asked.root) as lake:
        fill(ballast)
        refused = subprocess.run(
            [ASSAY, "--lake", asked.root, "up"], capture_output=True, text=True, timeout=60, check=False
        )
        assert (refused.returncode, "free some and run it again" in refused.stderr) == (2, True), refused
        ballast.unlink()
        with tree(asked.root) as up:
            up.ready()
            backfill = up.ask("/deployments/name/backfill-ingestion/backfill", "GET")["id"]
            wrong = {"source": "nobody", "start_date": "2001-01-01", "end_date": "2002-01-01"}
            mistake = up.ask(f"/deployments/{backfill}/create_flow_run", parameters=wrong)["id"]

            def failing() -> Any:
                return [one for one in lake.status()["datasets"]["price_eod"]["failing"] if one["error"]]

            told = up.until(failing, "the vendor's silence is told")
            assert "SourceBusy: 127.0.0.1 did not answer completely: " in told[0]["error"], told
            up.until(lambda: lake.status()["datasets"]["splits"]["batches"], "others land meanwhile")

            up.until(lambda: up.runs("FAILED"), "the mistake is told")
            fill(ballast)
            asked.sandbox.faults.clear()
            up.until(lambda: "no room left below" in up.said or "the disk is full" in up.said, "the full disk is told")
            time.sleep(10)
            ballast.unlink()
            up.until(lambda: whole(up, lake, mistake), "all is done", 240)
            assert [one["run_count"] for one in up.runs("FAILED")] == [1], (
                "what a person must mend is not started again"
            )
            holds(up, lake)


class Database:
    """A PostgreSQL of its own, of a user who is not root, on the loopback address with a password."""

    def __init__(self, place: Path, bin_: Path, user: str | None) -> None:
        self.place, self.bin, self.user = place, bin_, user
        self.password = "canary-5b1d77-password"
        (self.port,) = ports(1)
        (place / "password").write_text(self.password)
        if user:
            shutil.chown(place / "password", user)
        self.run("initdb", "-U", "assay", "-A", "scram-sha-256", "--pwfile", place / "password", "--no-sync")
        self.start()

    @property
    def url(self) -> str:
        return f"postgresql://assay@127.0.0.1:{self.port}/postgres"

    def run(self, command: str, *words: object) -> None:
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
        group = {"user": self.user, "group": self.user, "extra_groups": []} if self.user else {}
        subprocess.run(
            [self.bin / command, "-D", self.place / "data", *words],
            env=environment,
            cwd="/",
            check=True,
            stdout=subprocess.DEVNULL,
            **group,
        )

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        self.run("pg_ctl", "-w", "-l", self.place / "log", "-o", options, "start")

    def stop(self) -> None:
        self.run("pg_ctl", "-m", "immediate", "stop")


@pytest.fixture
def database() -> Iterator[Database]:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda one: int(one.parent.name))
    if not found:
        pytest.skip("no PostgreSQL below /usr/lib/postgresql: scripts/extras installs it on a Debian")
    user = "postgres" if os.geteuid() == 0 else None  # which initdb refuses
    with tempfile.TemporaryDirectory() as place:
        if user:
            shutil.chown(place, user)
        one = Database(Path(place), found[-1], user)
        yield one
        one.stop()


@pytest.mark.slow
def test_on_postgresql_a_database_that_stops_while_a_flow_lands_costs_nothing(
    asked: Asked, database: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PGPASSWORD", database.password)
    with lakes.open(asked.root) as lake, tree(asked.root, "--database", database.url) as up:
        up.ready()
        up.until(lambda: asked.prices() > 180, "most is landed")
        database.stop()
        time.sleep(15)
        database.start()
        up.until(lambda: whole(up, lake), "all is done", 240)
        assert not list((asked.root / "data/dev/prefect").glob("*.db")), "nothing is kept in SQLite"
        for text in (up.said, (database.place / "log").read_text(), *up.processes().values()):
            assert database.password not in text
        holds(up, lake)
