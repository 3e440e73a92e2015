"""One lake's directory, kept in several states; each test begins with one of them, at the same path."""

import shutil
from pathlib import Path


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
