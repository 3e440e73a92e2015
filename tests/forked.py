"""Runs a function in a process of its own that has everything imported already: a fork of the test's."""

import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Self

import pytest

from assay import clock

_TO_NOON = 12 * 3600 - (time.time() % 86400)


@dataclass
class Said:
    """What a process gave back."""

    code: int
    out: str
    err: str


def hindered(*args: str) -> list[str]:
    """A program of Python's that modes hinder also as root, whose leave to pass over them is taken away (capabilities(7))."""
    drop = "import ctypes, os, sys; drop = getattr(ctypes.CDLL(None), 'prctl', None)\n"
    drop += "if os.getuid() == 0: assert [drop(24, one, 0, 0, 0) for one in (1, 2)] == [0, 0]\n"
    drop += "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    return [sys.executable, "-c", drop, *args]


@contextmanager
def noon() -> Iterator[None]:
    """It is noon, here and in forks: else a day may begin between two commands, and what is missing is another thing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASSAY_CLOCK_OFFSET", after_noon(0))
        clock._last = datetime.min.replace(tzinfo=UTC)
        yield
    clock._last = datetime.min.replace(tzinfo=UTC)


def after_noon(seconds: float) -> str:
    """The offset of a clock that is ahead of `noon`, or behind."""
    return str(_TO_NOON + seconds)


class Forked:
    """A process that runs; `said` waits for its end. As a block, it is ended with the block."""

    def __init__(self, act: Callable[[], object], user: int | None = None, **environment: str) -> None:
        self._files: list[IO[bytes]] = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115 - closed with the block
        self._code: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            _child(act, user, environment, [f.fileno() for f in self._files])

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def heard(self) -> str:
        """What it said to standard error so far."""
        return os.pread(self._files[1].fileno(), 2**20, 0).decode()

    def said(self, timeout: float = 300) -> Said:
        """Wait for its end; what it said, and its exit code."""
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                self.kill()
                break
            time.sleep(0.005)
        texts = []
        for file in self._files:
            file.seek(0)
            texts.append(file.read().decode())
        return Said(self._code if self._code is not None else -1, *texts)

    def kill(self) -> None:
        """End it, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
            _, status = os.waitpid(self.pid, 0)
            self._code = os.waitstatus_to_exitcode(status)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for file in self._files:
            file.close()


def _child(act: Callable[[], object], user: int | None, environment: dict[str, str], files: list[int]) -> None:
    code = 1
    try:
        for number, file in enumerate(files, 1):
            os.dup2(file, number)
        sys.stdout, sys.stderr = (os.fdopen(n, "w", buffering=1, closefd=False) for n in (1, 2))
        os.environ.update(environment)
        clock._last = datetime.min.replace(tzinfo=UTC)  # a process that is new, perhaps on a machine that is behind
        if user is not None:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
        act()
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:  # noqa: BLE001 - it is told, and the test sees the code
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def assay(root: Path, *args: str, user: int | None = None, **environment: str) -> Forked:
    """A command of the command line, running."""
    from assay import cli

    return Forked(lambda: cli.main(["--lake", str(root), *args]), user, **environment)
