"""The image of the tasks, as far as it can be known where no image can be built: its file, what it copies, what that becomes."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def instructions() -> list[tuple[str, str]]:
    """Each instruction of the file with what stands behind it, in order."""
    lines = [one for one in (ROOT / "Containerfile").read_text().splitlines() if not one.startswith("#")]
    text = re.sub(r"\\\n", " ", "\n".join(lines))
    return [(word, rest) for word, _, rest in (one.partition(" ") for one in text.splitlines() if one.strip())]


def stages() -> list[list[tuple[str, str]]]:
    """The instructions of each stage, its FROM the first."""
    found: list[list[tuple[str, str]]] = []
    for word, rest in instructions():
        if word == "FROM":
            found.append([])
        found[-1].append((word, rest))
    return found


def copied() -> list[str]:
    """What is taken from this repository."""
    found = []
    for word, rest in instructions():
        if word == "COPY" and "--from=" not in rest:
            *sources, _ = shlex.split(rest)
            found += sources
    return found


def test_every_word_is_an_instruction_and_every_stage_one_that_is_there() -> None:
    assert {word for word, _ in instructions()} <= {
        "FROM",
        "WORKDIR",
        "COPY",
        "RUN",
        "ENV",
        "USER",
        "ENTRYPOINT",
        "CMD",
    }
    first, last = stages()
    assert first[0][1].partition(" AS ")[0] == last[0][1]
    name = first[0][1].partition(" AS ")[2]
    assert re.findall(r"--from=(\S+)", (ROOT / "Containerfile").read_text()) == [name]


def test_what_is_copied_is_in_the_repository_and_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    for one in copied():
        tracked = subprocess.run(["git", "ls-files", "--", one], cwd=ROOT, capture_output=True, text=True, check=True)
        assert tracked.stdout, one
        assert f"!{one}" in ignored
    assert sorted(one[1:] for one in ignored if one.startswith("!")) == sorted(copied())


def test_every_package_is_installed_by_hash_and_the_lock_has_them_all() -> None:
    installs = [rest for word, rest in instructions() if word == "RUN" and "pip install" in rest]
    lock, ours = installs
    assert "--require-hashes -r requirements/tasks.txt" in lock
    assert "--no-deps --no-build-isolation ." in ours
    text = (ROOT / "requirements/tasks.txt").read_text()
    pinned = {re.split(r"[\[=]", one)[0] for one in re.findall(r"^[a-z].*$", text, re.MULTILINE)}
    assert len(re.findall("--hash=sha256:", text)) >= len(pinned)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"], "boto3"]
    assert {re.split(r"[^a-z0-9-]", one)[0] for one in wanted} <= pinned


def test_what_runs_is_assay_as_nobody_special() -> None:
    last = dict(stages()[-1])
    assert int(last["USER"]) > 0
    order = [word for word, _ in stages()[-1]]
    assert order.index("USER") > max(n for n, word in enumerate(order) if word == "RUN")
    assert json.loads(last["ENTRYPOINT"]) == ["assay"]
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts["assay"] == "assay.cli:main"
    assert last["ENV"].startswith("PATH=/opt/assay/bin:")


@pytest.mark.slow
def test_what_is_copied_is_enough_to_build_assay(tmp_path: Path) -> None:
    there = tmp_path / "made"
    for one in copied():
        at = there / one
        at.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / one).is_dir():
            shutil.copytree(ROOT / one, at, ignore=shutil.ignore_patterns("__pycache__", "data", "target", "logs"))
        else:
            shutil.copy(ROOT / one, at)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path]  # as pip does
    subprocess.run(command, cwd=there, check=True, timeout=120, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    [wheel] = tmp_path.glob("assay-*.whl")
    with zipfile.ZipFile(wheel) as found:
        names = found.namelist()
        points = next(found.read(one).decode() for one in names if one.endswith("entry_points.txt"))
    assert "assay = assay.cli:main" in points
    assert {
        "assay/cli.py",
        "assay/targets/aws/s3.py",
        "assay/serve/console/app.css",
        "assay/lakes/csv/assay.toml",
    } <= set(names)
