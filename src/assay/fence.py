"""Runs a function in a process of its own, which ends at its deadline and within its memory, whatever it does."""

import atexit
import importlib
import io
import json
import os
import pickle
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, NamedTuple, NoReturn, cast

from assay import errors
from assay.errors import AssayError, SettingsError, UsageError

ROOM = 150 * 2**20
"""What Python and the engine's own needs may take beside the memory that is given."""
PIECE, WHOLE = 8 * 2**20, 10 * 10**9
"""The most that one value may be, and all of them."""
GROWN = 50 * 2**20
"""How much larger than at its start a fork may be when another question is put to it."""
PATIENCE = 0.25
"""Seconds after the deadline in which the kernel has ended it, or else we do."""
_SPENT, _WATCH = 75, 0.05
_PLAIN = {
    ("datetime", "date"), ("datetime", "datetime"), ("datetime", "time"), ("datetime", "timedelta"), ("datetime", "timezone"),
    ("decimal", "Decimal"), ("pytz", "_UTC"), ("uuid", "UUID"),
}  # fmt: skip


class Late(Exception):
    """The deadline passed."""


class Spent(Exception):
    """It needs more memory than it is given, or says more than a disk should hold."""


class Crashed(Exception):
    """It ended by itself; the text says how."""


class Said:
    """What the function yielded, kept in a file: read as often as it is asked for, one value in memory at a time."""

    def __init__(self, kept: IO[bytes]) -> None:
        self._kept = kept

    def __iter__(self) -> Iterator[Any]:
        at = 0
        while size := self._size(at):
            yield _Plain(io.BytesIO(self._kept.read(size))).load()
            at += 8 + size

    def last(self) -> Any:
        """The last value."""
        at = 0
        while self._size(following := at + 8 + self._size(at)):
            at = following
        return _Plain(io.BytesIO(self._kept.read(self._size(at)))).load()

    def _size(self, at: int) -> int:
        """The bytes of the value at a place, which are read next; 0 at the end."""
        self._kept.seek(at)
        return int.from_bytes(self._kept.read(8))


@contextmanager
def asked(module: str, function: str, *args: Any, timeout: float, memory: int, work: Path) -> Iterator[Said]:
    """What the generator `module.function(*args)` yields, which are plain values; it has ended when the block begins.

    An AssayError of it is raised here. Late, if it takes longer than `timeout` seconds, the start of its process
    included; it is killed then. Spent, if it needs ROOM more than `memory`. Whoever waits for it may be killed: it
    ends with him.

    Args:
        module: imported once in a process that forks itself for each question; not here.
        function: its generator.
        args: what can be pickled.
        timeout: seconds.
        memory: bytes.
        work: a directory for its files; they are the caller's to remove.
    """
    until = time.monotonic() + timeout
    (work / "question").write_bytes(pickle.dumps((module, function, args, until, memory)))
    with TemporaryFile(dir=work) as kept:
        waiting = _taken(module)
        try:
            error, code = _heard(waiting, work, cast("IO[bytes]", kept), until + PATIENCE)
        except BaseException:
            waiting.kill()
            raise
        _give_back(module, waiting)
        if error:
            raise error
        if code == -signal.SIGALRM:
            raise Late
        if code in (_SPENT, -signal.SIGKILL):
            raise Spent
        if code:
            raise Crashed(signal.Signals(-code).name if code < 0 else f"exit {code}")
        yield Said(cast("IO[bytes]", kept))


# ------------------------------------------------------------------ outside


class _Waiting(NamedTuple):
    """A process that imported a module and forks itself for each question. It says values on `said`, the rest on `told`."""

    process: subprocess.Popen[bytes]
    said: int
    told: int

    def kill(self) -> None:
        """End it and what runs in it."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        with suppress(BrokenPipeError):
            self.process.communicate()
        os.close(self.told)


_waiting: dict[tuple[int, str], _Waiting] = {}  # by the process that started it: a fork has none of its parent's


def _taken(module: str) -> _Waiting:
    found = _waiting.pop((os.getpid(), module), None)
    if found and found.process.poll() is not None:  # somebody ended it while it waited
        found.kill()
        found = None
    return found or _start(module)


def _give_back(module: str, one: _Waiting) -> None:
    if _waiting.setdefault((os.getpid(), module), one) is not one:
        one.kill()


def _start(module: str) -> _Waiting:
    told, telling = os.pipe()
    environment = {
        "PATH": os.environ.get("PATH", ""), "HOME": "/", "TZ": "UTC", "LANG": "C.UTF-8",
        "PYTHONPATH": os.pathsep.join(one or str(Path.cwd()) for one in sys.path),
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        # What is freed is given back: else what threads keep for later counts against the bound.
        "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072",
    }  # fmt: skip
    program = "import sys; from assay import fence; fence.wait(sys.argv[1], int(sys.argv[2]))"
    pipe = subprocess.PIPE
    try:
        # A group of its own: Ctrl-C reaches us alone, and one signal reaches it with its forks.
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", program, module, str(telling)], env=environment, stdin=pipe, stdout=pipe,
            stderr=subprocess.DEVNULL, pass_fds=(telling,), process_group=0,
        )  # fmt: skip
    except OSError as error:
        os.close(told)
        raise SettingsError(f"{sys.executable} cannot be started: {error.strerror}") from error
    finally:
        os.close(telling)
    return _Waiting(process, cast("IO[bytes]", process.stdout).fileno(), told)


def _heard(one: _Waiting, work: Path, kept: IO[bytes], until: float) -> tuple[AssayError | None, int]:
    """Ask, keep all that is said, and give the error and the exit code at the end."""
    with suppress(BrokenPipeError):  # its end is told below
        os.write(cast("IO[bytes]", one.process.stdin).fileno(), os.fsencode(work))
    error: AssayError | None = None
    told, open_ = b"", [one.said, one.told]
    while True:
        ready, _, _ = select.select(open_, [], [], max(0.0, until - time.monotonic()))
        if not ready:
            raise Late
        if one.said in ready:  # first, so that all is kept when the end is told
            if piece := os.read(one.said, 2**18):
                _keep(kept, piece, work)
            else:
                open_.remove(one.said)
            continue
        if not (more := os.read(one.told, 2**16)):
            raise Crashed("the process that waits for questions was ended")
        *lines, told = (told + more).split(b"\n")
        for line in lines:
            what = json.loads(line)
            if "exit" in what and what["of"] == str(work):
                return error, what["exit"]
            if "exit" in what:  # of a fork that ended after its answer
                continue
            if "failed" in what:
                raise Crashed(what["failed"])
            error = _error(what["error"], what["lines"])


def _keep(kept: IO[bytes], piece: bytes, work: Path) -> None:
    if kept.tell() + len(piece) > WHOLE:
        raise Spent
    try:
        kept.write(piece)
    except OSError as error:
        raise SettingsError(f"no room left below {work.parent}: {error.strerror}; free some and ask again") from error


def _error(name: str, lines: list[str]) -> AssayError:
    kind = getattr(errors, name, None)
    return kind(*lines) if isinstance(kind, type) and issubclass(kind, AssayError) else AssayError(*lines)


class _Plain(pickle.Unpickler):
    """What a query may have said: values, and nothing that could act here."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _PLAIN:
            raise pickle.UnpicklingError(f"{module}.{name} is no plain value")
        return super().find_class(module, name)


@atexit.register
def end() -> None:
    """End the processes that wait for this one's next questions."""
    for key in [key for key in _waiting if key[0] == os.getpid()]:
        _waiting.pop(key).kill()


# ------------------------------------------------------------------ inside


def wait(module: str, telling: int) -> NoReturn:
    """Import a module, then have the questions of standard input answered by a fork, until that ends.

    A fork answers as long as it ends well and does not grow; then another takes its place.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    saying = os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 1)  # a library that prints says nothing of ours
    importlib.import_module(module)
    asking, question = os.dup(0), b""
    os.dup2(nothing, 0)
    while True:
        line, its = socket.socketpair()
        if not (pid := os.fork()):
            line.close()
            os.close(asking)
            _answer(module, saying, telling, its)
        its.close()
        while line not in (ready := select.select([asking, line], [], [])[0]):
            if not ready or not (question := os.read(asking, select.PIPE_BUF)):  # who asked is gone
                os.kill(pid, signal.SIGKILL)
                os._exit(0)
            with suppress(BrokenPipeError):
                line.sendall(question)
        line.close()
        _tell(telling, of=question.decode(), exit=os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _answer(module: str, saying: int, telling: int, line: socket.socket) -> NoReturn:
    try:
        # What costs each process once is paid before it is asked.
        getattr(sys.modules[module], "prepare", lambda: None)()
        begun, bound = _peak(), _Bound()
        threading.Thread(target=_watch, args=(line, bound), daemon=True).start()
        while question := line.recv(select.PIPE_BUF):
            _run(Path(os.fsdecode(question)), saying, telling, bound)
            if _peak() > begun + GROWN:
                break  # its end is the answer's, so that nothing is asked of it any more
            _tell(telling, of=question.decode(), exit=0)
    except MemoryError:
        os._exit(_SPENT)
    os._exit(0)


class _Bound:
    """How much may be resident."""

    bytes = sys.maxsize


def _run(work: Path, saying: int, telling: int, bound: _Bound) -> None:
    module, function, args, until, memory = pickle.loads((work / "question").read_bytes())  # noqa: S301 - we wrote it
    # The kernel ends it, whatever it is busy with then.
    signal.setitimer(signal.ITIMER_REAL, max(0.001, until - time.monotonic()))
    bound.bytes = _peak() + memory + ROOM
    _limit(memory)
    os.chdir(work)
    try:
        for value in getattr(sys.modules[module], function)(*args):
            _say(saying, value)
    except AssayError as error:
        _tell(telling, error=type(error).__name__, lines=list(map(str, error.args)))
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - it is raised where it was asked
        # Its text may hold what a cell says.
        last = traceback.extract_tb(error.__traceback__)[-1]
        _tell(telling, failed=f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}")
    signal.setitimer(signal.ITIMER_REAL, 0)
    os.chdir("/")


def _limit(memory: int) -> None:
    """No memory beyond the bound, no file larger than WHOLE, and no image of it where it crashes."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (WHOLE, WHOLE))
    if sys.platform == "linux":  # elsewhere the system does not hold it to that, and `_watch` does
        taken = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_DATA, (taken + memory + ROOM, resource.RLIM_INFINITY))


def _watch(line: socket.socket, bound: _Bound) -> None:
    """End with the process that waits, and when memory is spent."""
    over = select.poll()
    over.register(line, 0)  # its end alone
    while not over.poll(_WATCH * 1000):
        if _peak() > bound.bytes:
            os._exit(_SPENT)
    os._exit(1)


def _peak() -> int:
    """The most that was resident so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _say(saying: int, value: Any) -> None:
    data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    if len(data) > PIECE and isinstance(value, list) and len(value) > 1:
        for half in (value[: len(value) // 2], value[len(value) // 2 :]):
            _say(saying, half)
        return
    if len(data) > PIECE:
        raise UsageError(f"one row of the answer is larger than {PIECE // 2**20} MB; ask for less of it")
    left = memoryview(len(data).to_bytes(8) + data)
    while left:
        left = left[os.write(saying, left) :]


def _tell(telling: int, **what: Any) -> None:
    os.write(telling, json.dumps(what).encode() + b"\n")
