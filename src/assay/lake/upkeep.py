"""What a lake's directory is rid of, so that it does not grow for ever."""

import os
import shutil
from datetime import timedelta
from pathlib import Path

from assay import clock


def sweep(scratch: Path | None, older: timedelta = timedelta(days=1)) -> int:
    """Remove what failed or killed processes left in the scratch directory, unless any of it was touched within `older`; how many.

    Age is the only guard for what another process has in the making: choose more than any step takes.
    """
    before = clock.now().timestamp() - older.total_seconds()
    removed = 0
    for one in scratch.glob("*") if scratch else ():
        # What queries spill is DuckDB's: it knows whose process has died.
        if one.name.startswith("duckdb_temp_"):
            continue
        try:
            if _touched(one) >= before:
                continue
            if one.is_dir() and not one.is_symlink():
                shutil.rmtree(one)
            else:
                one.unlink()
            removed += 1
        except FileNotFoundError:
            continue  # its owner took it away meanwhile
    return removed


def _touched(path: Path) -> float:
    """When anything at or below a path was changed last, without following links."""
    inside = (Path(where) / name for where, folders, names in os.walk(path) for name in (*folders, *names))
    return max(one.lstat().st_mtime for one in (path, *inside))
