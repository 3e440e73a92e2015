"""MiniStack in this process, on a socket that is bound already; `up.py` sets what its environment says."""

import asyncio

from hypercorn.asyncio import serve as hypercorn
from hypercorn.config import Config
from ministack.app import app


def serve(descriptor: int) -> None:
    """Serve until SIGTERM."""
    config = Config()
    config.bind = [f"fd://{descriptor}"]
    config.keep_alive_timeout = 75
    config.graceful_timeout = 0.2
    config.shutdown_timeout = 2
    config.loglevel = "WARNING"
    asyncio.run(hypercorn(app, config))
