"""Names every external effect, so that a test can stop the process just before or just after it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

EFFECTS = (
    "lake.format",
    "land.contract",
    "land.part",
    "land.entry",
    "land.ledger",
    "refine.schema",
    "refine.quarantine",
    "tables.data",
    "refine.evidence",
    "tables.metadata",
    "refine.past",
    "refine.current",
    "refine.ledger",
    "release.intent",
    "release.commit",
    "release.serving",
    "release.object",
    "release.ledger",
    "upkeep.compact",
    "upkeep.expire",
    "upkeep.release",
    "upkeep.move",
    "upkeep.sweep",
    "upkeep.delete",
    "upkeep.ledger",
    "erase.part",
    "erase.stage",
    "erase.ready",
    "erase.entry",
    "erase.delete",
    "erase.forget",
    "keys.create",
    "keys.revoke",
    "alert.tell",
    "upgrade.ledger",
)


@contextmanager
def effect(name: str) -> Iterator[None]:
    """Run the block as the effect `name`; with `ASSAY_CRASH=name:before` or `name:after` the process dies there.

    `ASSAY_PAUSE=name:PATH` waits before the effect until the file PATH exists, so two processes can be
    brought to the same point.
    """
    if name not in EFFECTS:
        raise ValueError(f"effect {name!r} has no entry in assay.crash.EFFECTS")
    _pause(name)
    _die(f"{name}:before")
    yield
    _die(f"{name}:after")


def _die(point: str) -> None:
    if os.environ.get("ASSAY_CRASH") == point:
        os.write(2, f"stopped at {point}\n".encode())
        os._exit(137)


def _pause(name: str) -> None:
    wanted, _, path = os.environ.get("ASSAY_PAUSE", "").partition(":")
    if wanted == name:
        import time
        from pathlib import Path

        Path(f"{path}.{os.getpid()}.waiting").touch()
        deadline = time.monotonic() + 120
        while not Path(path).exists() and time.monotonic() < deadline:
            time.sleep(0.01)
