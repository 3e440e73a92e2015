"""Runs dbt in processes of its own: one imports it, which takes longer than most builds, and each run is a fork of that."""

import atexit
import errno
import fcntl
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from assay.errors import SettingsError

# Its standard input is a pipe that its owner holds: it ends when that does, however that died. Whoever asks connects to
# its socket and is served by a fork, which runs dbt in a fork of its own and says how that ended. So no run knows of
# another, and each ends with the owner, with whoever asked and with who serves it; dbt itself reads an empty input.
# What dbt imports and computes only when it runs, and is the same for any project, is there before the first fork.
_PROGRAM = """
import contextlib, gc, json, os, select, shutil, signal, socket, sys, threading
ends = signal.SIGTERM, signal.SIGHUP  # they may be told to a whole group: this ends once its owner has
for one in (*ends, signal.SIGINT, signal.SIGCHLD):  # nobody waits for who serves
    signal.signal(one, signal.SIG_IGN)
from dbt.cli.main import cli
with contextlib.suppress(ImportError, AttributeError):
    import dbt.adapters.duckdb.impl, dbt.task.build
    from dbt.adapters.duckdb.credentials import DuckDBCredentials
    from dbt.contracts.project import Configuration, PackageConfig, ProfileConfig, Project, ProjectFlags
    from dbt.contracts.selection import SelectorFile
    for one in Configuration, DuckDBCredentials, PackageConfig, ProfileConfig, Project, ProjectFlags, SelectorFile:
        one.json_schema()
gc.freeze()  # a fork that ends looks through nothing of this
listening = socket.socket(fileno=int(sys.argv[1]))
while 0 not in select.select([0, listening], [], [])[0]:
    asked = listening.accept()[0]
    if os.fork():
        asked.close()
        continue
    for one in (*ends, signal.SIGCHLD):
        signal.signal(one, signal.SIG_DFL)
    listening.close()
    line = asked.makefile("rb").readline()
    if not line:
        os._exit(0)
    token, work, args, environment = json.loads(line)
    mine, parents = os.pipe()
    if pid := os.fork():
        os.close(mine)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with contextlib.suppress(OSError):
            asked.sendall(f"\\n{token} {code}\\n".encode())
        os._exit(0)
    os.close(parents)
    held = os.dup(0)
    for number, one in enumerate((os.open(os.devnull, os.O_RDONLY), asked.fileno(), asked.fileno())):
        os.dup2(one, number)
    threading.Thread(target=lambda: select.select([held, mine, asked], [], []) and os._exit(1), daemon=True).start()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update({"HOME": work, "TMPDIR": work, **environment})
    os.chdir(work)
    sys.exit(cli(args))
shutil.rmtree(sys.argv[2], ignore_errors=True)
"""
SHARED = "ASSAY_DBT"
"""The variable that names the folder of a process of this user's that runs dbt for others too."""
LONGEST = 100
"""Bytes of a socket's name: 107 on Linux (unix(7)), 103 on macOS."""
PATIENCE = 10
"""Seconds that a run has to end once it is told to."""
_FLAGS = ("--quiet", "--no-use-colors", "--no-version-check")
_NOISE = re.compile(
    r"nanobind: |.*resource_tracker: There appear|  warnings\.warn\('resource_tracker| - leaked (instance|type|function) | - \.\.\. skipped remainder|See https://nanobind\."
)
# The file's own lines, which its author has; rules; and that there is an error, which whoever reads this knows.
_QUOTED = re.compile(
    r"\s*(\d+ +\|.*|-{5,}|Raw Error:|Encountered an error:|LINE \d+: .*|\^|compiled code at .*|> (in macro|called by) .*|)\s*$"
)
_TRACE, _TIME, _COLOUR = (
    re.compile(r"^Traceback \(most recent call last\):$", re.MULTILINE),
    re.compile(r"^(\d\d:){2}\d\d +", re.MULTILINE),
    re.compile(r"\x1b\[[\d;]*m"),
)
_WHOLE_YAML = re.compile(r" @ [\w ]+: \{.*\}(?= - at path)")
_LINE = re.compile(r"\n +line (\d+)\n.*$", re.MULTILINE)
_PACKAGES = ' This can happen when calling a macro that does not exist. Check for typos and/or install package dependencies with "dbt deps".'
_OF_NODE = re.compile(r"(\w+ Error )*in (?P<kind>[a-z ]+) (?P<name>\S+) \((?P<file>.+?)\) ")
_OF_MODEL = re.compile(r"(\w+ Error )*(?P<kind>[A-Z][a-z ]+) '\w+\.\w+\.(?P<name>\S+)' \((?P<file>.+?)\) ")
_TEST = re.compile(r"'test_(\w+)' is undefined\.?")
_PLACES = ("--profiles-dir", ".", "--project-dir", ".")


class _Dbt(NamedTuple):
    """A process that runs dbt for whoever connects to its socket."""

    owner: int
    process: subprocess.Popen[bytes]
    folder: Path


def sentence(printed: str) -> str:
    """What dbt says is wrong, as one line that begins with the file.

    Without the YAML and SQL that it quotes, where in dbt it happened, and what a lake cannot follow (`dbt deps`).
    """
    said = _TRACE.split(_TIME.sub("", _COLOUR.sub("", printed)))[0]
    jinja = _LINE.search(said)
    kept = (line.strip() for line in _LINE.sub("", said).splitlines() if not _QUOTED.match(line))
    told = _WHOLE_YAML.sub("", " ".join(kept)).replace(_PACKAGES, "")
    if found := _OF_NODE.match(told):
        told = (
            f"{found['file']}{f':{jinja[1]}' if jinja else ''}: {found['kind']} {found['name']}: {told[found.end() :]}"
        )
    elif found := _OF_MODEL.match(told):
        told = f"{found['file']}: {found['kind'].lower()} {found['name']} {told[found.end() :]}"
    return _TEST.sub(r"there is no test \1", told)


_own: _Dbt | None = None  # a fork asks that of its parent
_looking = threading.Lock()
os.register_at_fork(before=_looking.acquire, after_in_parent=_looking.release, after_in_child=_looking.release)


def ready() -> None:
    """Have a process for the next run, which imports dbt while this one does something else."""
    with suppress(SettingsError):  # the run will say it
        _asked()[0].close()


@contextmanager
def shared() -> Iterator[None]:
    """While the block runs, whatever this process starts with the same Python has its dbt run by one process."""
    one = _start()
    before = os.environ.get(SHARED)
    os.environ[SHARED] = str(one.folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ[SHARED]
        else:
            os.environ[SHARED] = before
        _end(one)


def run(work: Path, command: str, *options: str, environment: Mapping[str, str] | None = None) -> str | None:
    """Run a dbt command on the project in `work`, with variables beside its own; None if it went well, else what it printed.

    Runs at once are apart from each other. SettingsError if no process can be started.
    """
    token, said = secrets.token_hex(8), list[str]()
    args = [*_FLAGS, command, *_PLACES, *options]
    asked, log = _asked()
    with asked:
        try:
            with suppress(BrokenPipeError, ConnectionResetError):  # its end is told below
                asked.sendall(json.dumps([token, str(work), args, dict(environment or {})]).encode() + b"\n")
                for line in asked.makefile(encoding="utf-8", errors="replace"):
                    if line.startswith(token):
                        return _without_noise(said) if line.split()[1] != "0" else None
                    said.append(line)
        except BaseException:
            _leave(asked)
            raise
    with suppress(FileNotFoundError):
        said += log.read_text(errors="replace").splitlines(keepends=True)
    return _without_noise([*said, "the process that runs dbt has ended"])


def _leave(asked: socket.socket) -> None:
    """Let go of a run; it has ended when this returns, unless it takes too long."""
    with suppress(OSError):
        asked.shutdown(socket.SHUT_WR)
        asked.settimeout(PATIENCE)
        while asked.recv(65_536):
            pass


def _without_noise(lines: Iterable[str]) -> str:
    """What dbt said, but for what a library of its says of itself when a process ends, and nobody can act on."""
    return "".join(line for line in lines if not _NOISE.match(line)).strip()


def _asked() -> tuple[socket.socket, Path]:
    """A connection to a process that runs dbt, started if there is none, and where that says what is wrong with it."""
    global _own  # noqa: PLW0603 - one for this process and its forks
    with suppress(KeyError, OSError):  # it is of another Python or user, or has ended
        return _connected(Path(os.environ[SHARED]))
    with _looking:
        if _own:
            # Its parent was another user, or it has ended.
            with suppress(PermissionError, FileNotFoundError, ConnectionRefusedError):
                return _connected(_own.folder)
            end()
        _own = _start()
        try:
            return _connected(_own.folder)
        except OSError as error:
            raise _no_process(error) from error


def _socket(folder: Path) -> Path:
    """Where a process of this Python listens: another has another dbt."""
    return folder / sha256(sys.prefix.encode()).hexdigest()[:12]


def _connected(folder: Path) -> tuple[socket.socket, Path]:
    """PermissionError if it is not this user's alone: who listens there is told what dbt may know."""
    found = folder.stat()
    if (found.st_uid, found.st_mode & 0o077) != (os.geteuid(), 0):
        raise PermissionError(errno.EACCES, "it is another user's", str(folder))
    one = socket.socket(socket.AF_UNIX)
    try:
        one.connect(str(_socket(folder)))
    except OSError:
        one.close()
        raise
    return one, folder / "log"


def _folder() -> Path:
    """A folder that is this user's alone, in which a socket may have a name: that has about a hundred letters."""
    one = Path(tempfile.mkdtemp(prefix="assay-dbt-"))
    if len(os.fsencode(_socket(one))) > LONGEST:
        one.rmdir()
        one = Path(tempfile.mkdtemp(prefix="assay-dbt-", dir="/tmp"))
    return one


def _start() -> _Dbt:
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": "/",
        "TZ": "UTC",
        "LANG": "C.UTF-8",
        "DO_NOT_TRACK": "1",
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    }
    folder = None
    try:
        folder = _folder()
        with socket.socket(socket.AF_UNIX) as listening, (folder / "log").open("wb") as log:
            listening.bind(str(_socket(folder)))
            listening.listen(64)
            given = fcntl.fcntl(listening, fcntl.F_DUPFD_CLOEXEC, 3)  # where no stream of the process is laid over it
            try:
                # Not `-m`: Python would warn that the module is imported already. `-P` keeps the project off the import path.
                process = subprocess.Popen(
                    [sys.executable, "-P", "-c", _PROGRAM, str(given), str(folder)], env=environment, pass_fds=[given],
                    stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT,
                )  # fmt: skip
            finally:
                os.close(given)
    except OSError as error:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
        raise _no_process(error) from error
    return _Dbt(os.getpid(), process, folder)


def _no_process(error: OSError) -> SettingsError:
    return SettingsError(
        f"{sys.executable} cannot be started for dbt, which has a folder in TMPDIR: {error.strerror or error}"
    )


def _end(one: _Dbt) -> None:
    one.process.kill()
    one.process.communicate()
    shutil.rmtree(one.folder, ignore_errors=True)


@atexit.register
def end() -> None:
    """End the process that runs dbt for this one, if one does; what runs in it ends too."""
    global _own  # noqa: PLW0603 - see above
    if _own and _own.owner == os.getpid():
        _end(_own)
    _own = None
