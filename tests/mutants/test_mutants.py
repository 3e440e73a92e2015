"""Breaks the code on purpose, one rule at a time: the test that guards it must go red.

A room's mutants lie in a TOML file beside this one. A `[[mutant]]` has a name, a file, the old text that stands in it
once, the new one, and the test, as pytest names it; `options`, at the top of the file, go to pytest.
"""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import sparks
from tests.kept import given

ROOT = Path(__file__).parents[2]
ROOMS = {
    path.stem: tomllib.loads(path.read_text())
    for path in sorted(Path(__file__).parent.glob("*.toml"))
    if path.stem != "spark" or sparks.there()
}
MUTANTS = [
    pytest.param(name, one, id=f"{name}: {one['name']}") for name, room in ROOMS.items() for one in room["mutant"]
]


HERE = "not s3 and not S3Machine and not dynamodb and not make_on_aws"
"""What a broken rule is tried on: this machine, without the doubles of AWS, and without Spark unless it is of Spark."""
FEW = dict.fromkeys(("EXAMPLES", "SILVER_EXAMPLES", "HOLES_EXAMPLES", "UPKEEP_EXAMPLES"), "1")
"""Unbroken code is green with any examples, which is seen beside these: here is seen that the copy lacks nothing."""


def copy(to: Path) -> Path:
    """The house without its history."""
    skip = shutil.ignore_patterns(
        ".hypothesis", "*.pyc.*"
    )  # what is compiled comes along: Python knows which file changed
    for part in ("src", "tests", "lakes"):
        shutil.copytree(ROOT / part, to / part, ignore=skip)
    shutil.copy(ROOT / "pyproject.toml", to)
    return to


# Imports what the house imports, and nothing of the house: each run is a fork of it, in a copy of its own.
WARM = """
import gc, json, os, sys
import aiohttp, boto3, duckdb, hypothesis, isal, msgspec, pyarrow.dataset, pyarrow.parquet, pyiceberg.catalog.sql, pytest
import sqlalchemy, sqlglot, sqlite3, yaml
gc.freeze()
for line in sys.stdin.buffer:
    where, environment, args = json.loads(line)
    if pid := os.fork():
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(f"\\n\\0{code}", flush=True)
        continue
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(where)
    os.environ.update({"PYTHONPATH": f"{where}/src:{where}", **environment})
    sys.path[:0] = [f"{where}/src", where]
    sys.exit(pytest.main(args))
"""


@pytest.fixture(scope="module")
def warm() -> Iterator[subprocess.Popen[str]]:
    apart = {name: said for name, said in os.environ.items() if name != "PYTEST_XDIST_TESTRUNUID"}
    with subprocess.Popen(
        [sys.executable, "-P", "-c", WARM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**apart, **given("csv", "markets"), "QUICK": "1"}, text=True,
    ) as process:  # fmt: skip
        yield process
        process.communicate()


def run(warm: subprocess.Popen[str], where: Path, room: str, *tests: str, **environment: str) -> tuple[int, str]:
    """The exit code and the words of pytest on these tests of a room there."""
    assert warm.stdin
    assert warm.stdout
    some = HERE if room == "spark" else f"{HERE} and not spark"
    args = ["-x", "-W", "ignore:Module already imported", "-k", some, *ROOMS[room].get("options", []), *tests]
    warm.stdin.write(json.dumps([str(where), environment, args]) + "\n")
    warm.stdin.flush()
    said = []
    for line in warm.stdout:
        if line.startswith("\0"):
            return int(line[1:]), "".join(said)
        said.append(line)
    raise AssertionError("".join(said))


# A Spark for each of its tests once more would be a minute, and they run unbroken beside these.
GREEN = [name for name in ROOMS if name != "spark"]


@pytest.mark.slow
@pytest.mark.parametrize("room", GREEN)
def test_unbroken_code_is_green(warm: subprocess.Popen[str], tmp_path: Path, room: str) -> None:
    code, said = run(warm, copy(tmp_path), room, *sorted({one["test"] for one in ROOMS[room]["mutant"]}), **FEW)
    assert code == 0, said


@pytest.mark.slow
@pytest.mark.parametrize(("room", "mutant"), MUTANTS)
def test_a_mutant_turns_its_test_red(
    warm: subprocess.Popen[str], tmp_path: Path, room: str, mutant: dict[str, str]
) -> None:
    path = copy(tmp_path) / mutant["file"]
    text = path.read_text()
    assert text.count(mutant["old"]) == 1, "the mutant is not of this code any more"
    path.write_text(text.replace(mutant["old"], mutant["new"]))
    code, said = run(warm, tmp_path, room, mutant["test"])
    assert code == 1, said
    assert "1 failed" in said or "FAILED" in said
