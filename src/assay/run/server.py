"""Sockets and uvicorn: an application served at an address of this machine."""

import errno
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from assay.errors import SettingsError

PATIENCE = 10.0
"""Seconds that a request may take to arrive whole."""


def serve(application: Any, host: str, port: int, *, ready: Callable[[str], None] = lambda _: None) -> None:
    """Serve until interrupted; SettingsError if the port is taken."""
    import uvicorn

    with _bound(host, port) as listening:
        ready(_address(host, listening))
        uvicorn.Server(_config(application, PATIENCE)).run([listening])


@contextmanager
def serving(application: Any, host: str, port: int, patience: float = PATIENCE) -> Iterator[str]:
    """Serve while the block runs, from a thread; gives the address. SettingsError if the port is taken."""
    import threading

    import uvicorn

    with _bound(host, port) as listening:
        server = uvicorn.Server(_config(application, patience))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            yield _address(host, listening)
        finally:
            server.should_exit = True
            thread.join(10)


@contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
        except (socket.gaierror, UnicodeError, TypeError) as error:
            raise SettingsError(f"--host {host} is no name or address of this machine") from error
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise SettingsError(f"--host {host} is no address of this machine") from error
            why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            raise SettingsError(f"port {port} {why}; --port chooses another") from error
        yield listening


def _address(host: str, listening: socket.socket) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"


def _config(application: Any, patience: float) -> Any:
    import uvicorn

    from assay.run.wire import Wire

    http = type("Wire", (Wire,), {"patience": patience})
    # Its own handlers would print what a request says as it came.
    return uvicorn.Config(
        application, log_config=None, log_level="warning", access_log=False, server_header=False, http=http
    )
