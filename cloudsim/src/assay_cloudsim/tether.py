"""A process that ends with the one that started it: it reads a pipe which that one holds open for as long as it lives."""

import os
import signal
import threading
import time

PATIENCE = 3.0
"""Seconds that a process has to end by itself once the other is gone."""


def follow(patience: float = PATIENCE) -> None:
    """From now on, end by SIGTERM when stdin is closed, however that came; `patience` later by SIGKILL."""
    threading.Thread(target=_wait, args=(patience,), name="tether", daemon=True).start()


def _wait(patience: float) -> None:
    while os.read(0, 512):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(patience)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
