"""Which flow runs of this machine have a process: each holds a lock, which the system lets go of when it ends, however it ends."""

import fcntl
import os
from pathlib import Path

_held: list[int] = []


def _place(data: Path, run: str) -> Path:
    return data / "up" / "runs" / run


def hold(data: Path, run: str) -> None:
    """Say that this process is a flow run's, until it ends."""
    path = _place(data, run)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    _held.append(descriptor)


def alive(data: Path, run: str) -> bool:
    """Whether a process of this machine is that flow run's; the lock of one that is gone is swept away."""
    path = _place(data, run)
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        path.unlink(missing_ok=True)
        return False
    finally:
        os.close(descriptor)
