"""`assay up`: Prefect's server, workers, API and console as one process tree; what dies is started again, and nothing outlives it."""

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import re
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from assay import targets, tether
from assay.clock import now
from assay.errors import AssayError, LakeBusy, SettingsError, UsageError
from assay.lake import keys
from assay.lake.files import clear_errors
from assay.settings import Settings
from assay.spoken import printable

NAME = "assay up"
"""Whose the API key is that its password is."""
USER = "assay"
"""Whom the password belongs to: the same for Prefect's pages and for ours."""
READY = 300.0
"""Seconds that a first start may take: Prefect makes its database then."""
LOOK, MISSED = 10.0, 6
"""Seconds between two looks at a server's health; so often in a row it may not answer before it is started again."""
BACK_OFF, LONGEST, STEADY = 0.5, 30.0, 60.0
"""Seconds before a part is started again: the first time, at most; and how long it must have run to begin anew."""
STOPS = {"workers": 150.0}
"""Seconds that a part has to stop: flow runs put what they asked for; others have 15."""


_NOISE = re.compile(r"nanobind: | - (leaked |\.\.\. skipped)|See https://nanobind")
"""What DuckDB's binding says of itself when a process with threads ends."""


@dataclass(frozen=True)
class Part:
    """A process of the tree, and the address that tells whether it is well; without one, it is while it runs."""

    name: str
    command: tuple[str, ...]
    health: str = ""


@dataclass(frozen=True)
class Up:
    """What runs where.

    Attributes:
        data: where the lake's data of this environment lies; all state of Prefect is in it.
        database: the URL of Prefect's database; its own SQLite file if there is none.
        pools: the work pools that have a worker.
        target: where the lake runs; Prefect and these processes are on this machine all the same.
    """

    settings: Settings
    port: int = 8320
    prefect_port: int = 4200
    database: str = ""
    pools: Sequence[str] = ()
    target: str = "local"

    @property
    def data(self) -> Path:
        return self.settings.data

    @property
    def prefect(self) -> str:
        """The address of Prefect's pages."""
        return f"http://127.0.0.1:{self.prefect_port}"

    @property
    def console(self) -> str:
        """The address of the console."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def password_file(self) -> Path:
        """Where the password lies, readable by its owner alone."""
        return self.data / "up" / "password"

    def environment(self, password: str) -> dict[str, str]:
        """What every process is told: of the caller's own settings of Prefect none, or it might ask another server."""
        url = f"{self.prefect}/api"
        mine = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        said = {
            "DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_SERVER_UI_V2_ENABLED": "false",
            "PREFECT_HOME": str(self.data / "prefect"), "PREFECT_PROFILES_PATH": str(self.data / "prefect/profiles.toml"),
            "PREFECT_API_URL": url, "PREFECT_SERVER_UI_API_URL": url, "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
            "PREFECT_API_AUTH_STRING": f"{USER}:{password}", "PREFECT_SERVER_API_AUTH_STRING": f"{USER}:{password}",
            "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500", "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
            "PREFECT_WORKER_QUERY_SECONDS": "5", "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
            "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
            "ASSAY_LAKE": str(self.settings.root.resolve()), "ASSAY_ENV": self.settings.env, "ASSAY_TARGET": self.target, "ASSAY_DATA": str(self.data),
            tether.VARIABLE: str(self.data / "up" / "lock"), "PYTHONUNBUFFERED": "1",
        }  # fmt: skip
        if self.database:
            said["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = self.database
        return mine | said

    def parts(self) -> dict[str, Part]:
        """The processes that stay."""
        lake = ("--lake", str(self.settings.root.resolve()), "--env", self.settings.env, "--target", self.target)
        return {
            "prefect": Part("prefect", (sys.executable, "-m", "assay.flows.server", str(self.prefect_port)), f"{self.prefect}/api/health"),
            "serve": Part("serve", (sys.executable, "-m", "assay.cli", *lake, "serve", "--keys", "--port", str(self.port)), f"{self.console}/v1/health"),
            "workers": Part("workers", (sys.executable, "-m", "assay.flows.workers", *self.pools)),
        }  # fmt: skip


def database(url: str) -> str:
    """A database's URL as Prefect takes it. UsageError for another kind than PostgreSQL, and for a password in it."""
    said = urlsplit(url)
    if said.scheme not in ("postgresql", "postgres", "postgresql+asyncpg"):
        raise UsageError(
            "--database takes postgresql://user@host:port/name; without it Prefect keeps an SQLite file in the lake"
        )
    if said.password is not None or "password" in parse_qs(said.query):
        raise UsageError(
            "--database with a password is seen by everybody in the list of processes; put it into ~/.pgpass or PGPASSWORD"
        )
    return said._replace(scheme="postgresql+asyncpg").geturl()


# ------------------------------------------------------------------ what there must be


@contextlib.contextmanager
def alone(data: Path) -> Iterator[None]:
    """Hold the lock that all processes of the tree are tethered to; LakeBusy if another tree holds it."""
    path = data / "up" / "lock"
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.parent.mkdir(exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        until = time.monotonic() + 5  # the tethered of one that was killed are still ending
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    pid = os.pread(descriptor, 32, 0).decode() or "another process"
                    raise LakeBusy(
                        f"`assay up` runs already for this environment, or its processes are still ending: process {pid}"
                    ) from None
                time.sleep(0.1)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def free(port: int, option: str) -> None:
    """SettingsError, which names who has it, if a port is taken."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
        except OSError as error:
            why = (
                f"is taken by {_owner(port)}"
                if error.errno == errno.EADDRINUSE
                else f"cannot be used ({error.strerror})"
            )
            raise SettingsError(f"port {port} {why}; {option} chooses another") from None


def _owner(port: int) -> str:
    """The process that listens on a port, where the system tells: Linux does, of one's own processes."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(str(one.readlink()) in inodes for one in (process / "fd").iterdir()):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
                return f"process {process.name} ({printable(command)[:200]})"
    return "another process"


def password(up: Up) -> str:
    """The password in the tree's file of mode 0600: an API key of the lake's, made anew where there is none that is good."""
    path = up.password_file
    with contextlib.closing(targets.open(up.target, up.settings)) as target:
        try:
            found = path.read_text().strip()
        except FileNotFoundError:
            found = ""
        if found and not path.stat().st_mode & 0o077 and keys.holder(found.encode(), keys.active(target.files, {})):
            return found
        for one in keys.listed(target.files):  # whoever may have the former password has none then
            if one.key.name == NAME and one.state(now()) == "active":
                keys.revoke(target.files, one.id, who=NAME)
        _, made = keys.create(target.files, NAME, who=NAME)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(made + "\n")
    return made


def known(settings: Settings) -> None:
    """Tell this process where the Prefect server of the lake's `assay up` is, unless PREFECT_API_URL names one.

    UsageError if nothing is up.
    """
    if os.environ.get("PREFECT_API_URL"):
        return
    place = settings.data / "up"
    try:
        os.environ["PREFECT_API_URL"] = f"{json.loads((place / 'address').read_text())['prefect']}/api"
        os.environ["PREFECT_API_AUTH_STRING"] = f"{USER}:{(place / 'password').read_text().strip()}"
    except (OSError, ValueError, KeyError):
        raise UsageError("no Prefect server is known: start one by `assay up`, or set PREFECT_API_URL") from None
    os.environ |= {
        "PREFECT_HOME": str(settings.data / "prefect"),
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        "DO_NOT_TRACK": "1",
    }


# ------------------------------------------------------------------ the tree


def run(up: Up, say: Callable[[str], None], watched: Callable[[], bool] | None = None, *, once: bool = False) -> None:
    """Start everything, say where it is, and keep it up until SIGTERM or SIGINT. An error if it does not come up.

    `watched` is called again and again until it is true; with `once` everything stops then.
    """
    where = up.data / "up" / "address"
    with contextlib.ExitStack() as held:
        with clear_errors(up.data):
            held.enter_context(alone(up.data))
            for port, option in ((up.prefect_port, "--prefect-port"), (up.port, "--port")):
                free(port, option)
            (up.data / "prefect").mkdir(exist_ok=True, mode=0o700)
            secret = password(up)
            held.callback(where.unlink, missing_ok=True)
            where.write_text(json.dumps({"prefect": up.prefect, "console": up.console}))
        asyncio.run(_Tree(up, secret, say).run(watched, once=once))


@dataclass
class _Tree:
    up: Up
    secret: str
    say: Callable[[str], None]
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    _stops: dict[str, asyncio.Event] = field(default_factory=dict)
    _keeping: dict[str, "asyncio.Task[None]"] = field(default_factory=dict)
    _reading: set["asyncio.Task[None]"] = field(default_factory=set)

    async def run(self, watched: Callable[[], bool] | None, *, once: bool) -> None:
        loop, started = asyncio.get_running_loop(), time.monotonic()
        for one in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(one, self.stop.set)
        try:
            self.start("prefect")
            begin = (sys.executable, "-m", "assay.flows.begin", str(READY))  # waits for the server
            deployed = asyncio.create_task(self.once("deploy", begin))
            answers = asyncio.create_task(self.well("prefect"))
            await asyncio.wait({deployed, answers}, return_when=asyncio.FIRST_COMPLETED)
            if not answers.cancel():
                answers.exception()  # of a server that never answers, who deploys tells
            self.start("serve")  # a third that imports at once would make all of them later
            await deployed
            self.start("workers")
            await self.well("serve")
            if not self.stop.is_set():
                self.say(f"ready after {time.monotonic() - started:.1f} s")
                self.say(f"console: {self.up.console} · Prefect: {self.up.prefect}")
                self.say(f"both ask for user {USER} and the password in {self.up.password_file}")
            while watched and not self.stop.is_set():
                if await asyncio.to_thread(watched):
                    if once:
                        self.stop.set()
                    break
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.stop.wait(), 1)
            await self.stop.wait()
        finally:
            for name in ("workers", "serve", "prefect"):  # flow runs end while there is a server to tell
                await self.end(name)
            self.say("stopped")

    def start(self, name: str) -> None:
        if not self.stop.is_set():
            self._stops[name] = asyncio.Event()
            self._keeping[name] = asyncio.create_task(self.keep(self.up.parts()[name], self._stops[name]))

    async def end(self, name: str) -> None:
        if name in self._keeping:
            self._stops[name].set()
            await self._keeping.pop(name)

    async def keep(self, part: Part, stop: asyncio.Event) -> None:
        """Run a part until it is to stop; start it again, later each time, when it ended or does not answer."""
        delay = BACK_OFF
        while not stop.is_set():
            began = time.monotonic()
            process = await self.spawn(part.name, part.command)
            ended = asyncio.create_task(process.wait())
            told = asyncio.create_task(stop.wait())
            looked = asyncio.create_task(self.unwell(part))
            await asyncio.wait({ended, told, looked}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                why = "does not answer" if looked.done() else ""
                await _ended(process, STOPS.get(part.name, 15.0))
            else:
                why = f"ended ({_code(process.returncode)})"
            for task in (ended, told, looked):
                task.cancel()
            if stop.is_set():
                return
            delay = BACK_OFF if time.monotonic() - began > STEADY else min(2 * delay, LONGEST)
            self.say(f"{part.name} {why}; it is started again in {delay:.0f} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), delay)

    async def spawn(self, name: str, command: Sequence[str]) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *command, env=self.up.environment(self.secret), stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT, process_group=0, preexec_fn=_signals, limit=1 << 20,
        )  # fmt: skip
        assert process.stdout  # noqa: S101 - it is a pipe
        task = asyncio.create_task(self.read(name, process.stdout))
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)
        return process

    async def read(self, name: str, stream: asyncio.StreamReader) -> None:
        """Say a part's lines, each with its name before it."""
        while True:
            try:
                line = await stream.readline()
            except ValueError:  # longer than a line may be; what came of it is thrown away
                continue
            if not line:
                return
            text = line.decode("utf-8", "replace").rstrip().replace(self.secret, "***")
            if not _NOISE.match(text):
                self.say(f"{name:>7} | {printable(text)}")

    async def once(self, name: str, command: Sequence[str]) -> None:
        """Run a command to its end; an error if it fails."""
        if self.stop.is_set():
            return
        process = await self.spawn(name, command)
        ended, told = asyncio.create_task(process.wait()), asyncio.create_task(self.stop.wait())
        await asyncio.wait({ended, told}, return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        if not ended.done():
            await _ended(process, 15.0)
        elif process.returncode:
            error = AssayError(f"{name} failed ({_code(process.returncode)}); its lines above say why")
            if process.returncode > 0:
                error.exit_code = process.returncode  # as it would have ended by itself
            raise error

    async def well(self, name: str) -> None:
        """Wait until a part answers."""
        until = time.monotonic() + READY
        url = self.up.parts()[name].health
        while not self.stop.is_set() and not await asyncio.to_thread(_answers, url, self.secret):
            if time.monotonic() > until:
                raise AssayError(f"{name} does not answer after {READY:.0f} s; its lines above say why")
            await asyncio.sleep(0.1)

    async def unwell(self, part: Part) -> None:
        """Return when a part that answered once has not done so MISSED times in a row."""
        answered, missed = False, 0
        while missed < MISSED or not part.health:
            await asyncio.sleep(LOOK)
            if part.health:
                well = await asyncio.to_thread(_answers, part.health, self.secret)
                answered, missed = answered or well, 0 if well or not answered else missed + 1


def _answers(url: str, secret: str) -> bool:
    """Whether a server of the tree answers, whatever it says."""
    headers = {"Authorization": "Basic " + b64encode(f"{USER}:{secret}".encode()).decode()}
    asked = urllib.request.Request(url, headers=headers)  # noqa: S310 - our own loopback address
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=5):
            return True
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False


async def _ended(process: asyncio.subprocess.Process, patience: float) -> None:
    """Stop a process; the whole group of one that does not."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), patience)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _signals() -> None:
    """A child hears signals, though a shell's background job blocks them here."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_DFL)


def _code(code: int | None) -> str:
    return f"signal {-code}" if code and code < 0 else f"exit code {code}"
