"""A process that ends with the one that started it all: it waits for a lock which that one holds for as long as it lives."""

import fcntl
import os
import signal
import threading
import time

VARIABLE = "ASSAY_TETHER"
"""The environment names the lock's file; without it, nobody is followed."""
PATIENCE = 150.0
"""Seconds that a process has to end by itself once the other is gone."""


def follow() -> None:
    """From now on, end by SIGTERM when the process that holds the lock is gone, however it went; at the latest after PATIENCE."""
    path = os.environ.get(VARIABLE)
    if path:
        threading.Thread(target=_wait, args=(path,), name="tether", daemon=True).start()


def _wait(path: str) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    except OSError:  # its directory is gone: so is whoever made it
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    os._exit(128 + signal.SIGTERM)
