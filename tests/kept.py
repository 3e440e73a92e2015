"""One lake's directory, kept in several states; each test begins with one of them, at the same path."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from assay.run import lake as lakes

ROOT = Path(__file__).resolve().parents[1]


def begun(root: Path, name: str) -> Path:
    """A new lake like `lakes/NAME` at `root`, where somebody has checked it: dbt's reading of its project is kept."""
    lakes.init(root, ROOT / "lakes" / name)
    shutil.copytree(_checked(name) / "data", root / "data")
    return root


@cache
def _checked(name: str) -> Path:
    root = Path(tempfile.mkdtemp(prefix="assay-checked-"))
    atexit.register(shutil.rmtree, root)
    lakes.check(lakes.init(root / name, ROOT / "lakes" / name))
    return root / name


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
