"""Which flow runs of this machine have a process: each holds a lock, which the system lets go of when it ends, however it ends."""

import atexit
import fcntl
import os
import time
from pathlib import Path

from assay.errors import LakeBusy

PATIENCE = 5.0
"""Seconds that a process tries to hold its run: who looks whether it is held holds it for a moment."""
_held: list[int] = []


def _place(data: Path) -> Path:
    return data / "up" / "runs"


def hold(data: Path, run: str) -> None:
    """Say that this process is a flow run's, until it ends. LakeBusy if another process is that."""
    path, until = _place(data) / run, time.monotonic() + PATIENCE
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    while True:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_ino == path.stat().st_ino:  # else it was swept away just then
                break
        except (BlockingIOError, FileNotFoundError):
            if time.monotonic() > until:
                raise LakeBusy(f"flow run {run} has a process already; it is left to that") from None
            time.sleep(0.05)
        os.close(descriptor)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    _held.append(descriptor)
    atexit.register(path.unlink, missing_ok=True)


def alive(data: Path, run: str) -> bool:
    """Whether a process of this machine is that flow run's; the lock of one that is gone is swept away."""
    return _pid(_place(data) / run) is not None


def processes(data: Path) -> dict[str, int]:
    """The processes of all flow runs of this machine, by the run."""
    return {path.name: pid for path in _place(data).glob("*") if (pid := _pid(path))}


def _pid(path: Path) -> int | None:
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.pread(descriptor, 20, 0) or 0)
    else:
        path.unlink(missing_ok=True)
        return None
    finally:
        os.close(descriptor)
