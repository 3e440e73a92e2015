"""The command line: `assay-cloudsim up`, and the parts that it starts as processes of their own."""

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from assay_cloudsim import tether, up


def main(argv: list[str] | None = None) -> None:
    """Run one command; exits with 0, 1 (one sentence on stderr says why) or 2 (wrong arguments)."""
    asked = _parser().parse_args(argv)
    if asked.command == "up":
        sys.exit(up.run(asked))
    _part(asked)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="assay-cloudsim", description="The AWS services that assay uses, on this machine. Emulated: never AWS."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="up")
    up.arguments(commands.add_parser("up", help="start all services and stay until Ctrl-C"))
    for name in up.PARTS:
        part = commands.add_parser(name)
        part.add_argument("--fd", type=int)
        part.add_argument("--port", type=int, required=True)
        part.add_argument("--options", type=Path, required=True)
    return parser


def _part(asked: argparse.Namespace) -> None:
    tether.follow()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the one that started this
    try:
        _serve(asked.command)(asked)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.getpgrp() == os.getpid():  # whom it started stays in its group, and does not outlive it
            with suppress(ProcessLookupError):
                os.killpg(0, signal.SIGTERM)


def _serve(part: str) -> Callable[[argparse.Namespace], None]:
    """What runs a part; only its own imports are paid for."""
    if part == "ministack":
        from assay_cloudsim import mini

        return lambda asked: mini.serve(asked.fd)
    if part == "glue":
        from assay_cloudsim import glue

        return lambda asked: glue.serve(asked.fd)
    if part == "ecs":
        from assay_cloudsim import ecs

        return lambda asked: ecs.serve(asked.fd, asked.port, up.read(asked.options))
    athena = importlib.import_module("assay_cloudsim.athena")
    return lambda asked: athena.serve(up.read(asked.options)["endpoints"], asked.port)


if __name__ == "__main__":
    main()
