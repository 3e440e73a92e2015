"""One lake's directory, kept in several states; each test begins with one of them, at the same path."""

import atexit
import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

from assay.run import lake as lakes

ROOT = Path(__file__).resolve().parents[1]
GIVEN = "CHECKED_LAKES"
"""The variable that names a folder of lakes that were checked already, for tests of code that is broken on purpose."""


def begun(root: Path, name: str) -> Path:
    """A new lake like `lakes/NAME` at `root`, where somebody has checked it: dbt's reading of its project is kept."""
    lakes.init(root, ROOT / "lakes" / name)
    shutil.copytree(_checked(name) / "data", root / "data")
    return root


def given(*names: str) -> dict[str, str]:
    """The environment by which tests of a copy begin with lakes that are checked here."""
    for name in names:
        _checked(name)
    return {GIVEN: str(_together())}


@cache
def _together() -> Path:
    """A directory of all processes that run these tests together; the last of them takes it away."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    root = Path(tempfile.gettempdir()) / f"assay-checked-{run}" if run else Path(tempfile.mkdtemp())
    root.mkdir(exist_ok=True)
    used = (root / "used.lock").open("w")
    fcntl.flock(used, fcntl.LOCK_SH)

    def end() -> None:
        with suppress(BlockingIOError):
            fcntl.flock(used, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(root, ignore_errors=True)

    atexit.register(end)
    return root


@cache
def _checked(name: str) -> Path:
    if (lake := Path(os.environ.get(GIVEN, os.devnull)) / name).exists():
        return lake
    root = _together()
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (lake := root / name).exists():
            shutil.rmtree(root / "new" / name, ignore_errors=True)
            new = lakes.init(root / "new" / name, ROOT / "lakes" / name)
            lakes.check(new)
            new.rename(lake)
    return lake


class Kept:
    """A lake that is moved is LakeDamaged, so its states are copied away and back instead."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def keep(self, state: str) -> None:
        """Remember the directory as it is."""
        shutil.copytree(self.root, self.root.with_name(f"{self.root.name}-{state}"))

    def begin(self, state: str) -> Path:
        """Make the directory what it was."""
        shutil.rmtree(self.root)
        shutil.copytree(self.root.with_name(f"{self.root.name}-{state}"), self.root)
        return self.root
