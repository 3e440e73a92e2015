"""Breaks the code on purpose, one rule at a time: the test that guards it must go red.

A room's mutants lie in a TOML file beside this one. A `[[mutant]]` has a name, a file, the old text that stands in it
once, the new one, and the test, as pytest names it; `options`, at the top of the file, go to pytest.
"""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = {path.stem: tomllib.loads(path.read_text()) for path in sorted(Path(__file__).parent.glob("*.toml"))}
MUTANTS = [
    pytest.param(one, room.get("options", []), id=f"{name}: {one['name']}")
    for name, room in ROOMS.items()
    for one in room["mutant"]
]


def copy(to: Path) -> Path:
    """The house without its history."""
    skip = shutil.ignore_patterns("__pycache__", ".hypothesis")
    for part in ("src", "tests", "lakes"):
        shutil.copytree(ROOT / part, to / part, ignore=skip)
    shutil.copy(ROOT / "pyproject.toml", to)
    return to


def run(where: Path, options: list[str], *tests: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", *options, *tests],
        cwd=where,
        env={**os.environ, "PYTHONPATH": f"{where / 'src'}:{where}", "QUICK": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("room", ROOMS.values(), ids=ROOMS)
def test_unbroken_code_is_green(tmp_path: Path, room: dict[str, Any]) -> None:
    done = run(copy(tmp_path), room.get("options", []), *sorted({one["test"] for one in room["mutant"]}))
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("mutant", "options"), MUTANTS)
def test_a_mutant_turns_its_test_red(tmp_path: Path, mutant: dict[str, str], options: list[str]) -> None:
    path = copy(tmp_path) / mutant["file"]
    text = path.read_text()
    assert text.count(mutant["old"]) == 1, "the mutant is not of this code any more"
    path.write_text(text.replace(mutant["old"], mutant["new"]))
    done = run(tmp_path, options, mutant["test"])
    assert done.returncode == 1, done.stdout
    assert "1 failed" in done.stdout or "FAILED" in done.stdout
