"""Yardstick of land that makes the same promise: the bare loop, and nothing is said to be there that could be lost.

Each answer is checked to be a JSON list and hashed; files are synced; a list of the answers (file, bytes, records,
sha256) is written beside them, synced and renamed, so that it names whole files or is not there.

    python bench/yard_land_same.py BASE OUT --symbols SYM000,SYM001 --from 2024-02-05 --to 2026-10-31
"""

import hashlib
import json
import os
from pathlib import Path

import msgspec

import yard_land


def sync(path: Path) -> None:
    """The file or directory is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


class Files(yard_land.Files):
    """Gzip files and the list of the answers they hold."""

    def __init__(self, out: Path) -> None:
        super().__init__(out)
        self.told: list[dict[str, str | int]] = []

    def write(self, content: bytes) -> None:
        records = len(msgspec.json.decode(content, type=list[msgspec.Raw]))
        super().write(content)
        digest = hashlib.sha256(content).hexdigest()
        self.told.append(
            {"file": self.paths[-1].name, "bytes": len(content), "records": records, "sha256": digest},
        )

    def finish(self) -> None:
        self.close()
        made = self.out / "answers.tmp"
        made.write_text(json.dumps(self.told))
        for path in (*self.paths, made, self.out):
            sync(path)
        made.rename(self.out / "answers.json")
        sync(self.out)


if __name__ == "__main__":
    yard_land.main(Files)
