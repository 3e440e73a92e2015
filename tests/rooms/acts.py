"""What a process behind the fence may be busy with; `tests/rooms/test_fence.py` has them run there."""

import ctypes
import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from assay.errors import LakeBusy


def values(*these: Any) -> Iterator[Any]:
    """What was given."""
    yield from these


def process() -> Iterator[Any]:
    """Which process this is."""
    yield os.getpid()


def fails() -> Iterator[Any]:
    """An error somebody must act on, after something was said."""
    yield 1
    raise LakeBusy("somebody else holds it")


def broken() -> Iterator[Any]:
    """A fault of ours, whose text quotes a cell."""
    yield {}["secret cell"]


def deaf() -> Iterator[Any]:
    """Hears no signal that a process can refuse, and never lets another thread of Python run."""
    for one in {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1}:
        signal.signal(one, signal.SIG_IGN)
    yield ctypes.PyDLL(None).sleep(600)


def torn() -> Iterator[Any]:
    """Is late in the middle of what it says."""
    while True:
        yield "x" * 2**20


def slow(seconds: float) -> Iterator[Any]:
    """Takes its time."""
    time.sleep(seconds)
    yield seconds


def killed(number: int) -> Iterator[Any]:
    """Ends by a signal."""
    os.kill(os.getpid(), number)
    time.sleep(600)
    yield


def leaves() -> Iterator[Any]:
    """Ends without a word."""
    os._exit(9)
    yield


def hungry(size: int) -> Iterator[Any]:
    """Takes memory and writes to it."""
    yield len(bytearray(b"x") * size)


def unbounded(size: int) -> Iterator[Any]:
    """Takes memory where the system would let it."""
    resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    held = []
    for _ in range(size // 2**20):
        held.append(bytearray(b"x") * 2**20)
        time.sleep(0.001)
    yield len(held)


def opens() -> Iterator[Any]:
    """How its files and its standard input look, and what it sees of the environment."""
    yield (
        str(Path.cwd()),
        os.read(0, 9),
        sorted({"HOME", "FMP_API_KEY", "AWS_PROFILE"} & {*os.environ}),
        os.environ["HOME"],
    )


def prints() -> Iterator[Any]:
    """Prints beside what it says."""
    os.write(1, b"printed")
    subprocess.run(["echo", "printed"], check=True)
    yield Decimal("1.50")


def path() -> Iterator[Any]:
    """A value that is no plain one."""
    yield Path("/")
