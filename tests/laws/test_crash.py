"""Every named effect is stopped before and after; what follows finds a lake that is whole, and finishes the work."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import assay_sandbox
from assay import crash, run
from assay.run import verify
from tests.conftest import ROOT

DATASETS = ["price_eod", "splits"]
STEP = "import sys; from assay.cli import main; main(sys.argv[1:])"


@pytest.fixture(scope="module")
def vendor():
    with assay_sandbox.Sandbox().running() as url:
        yield url


def a_lake(root: Path, url: str) -> Path:
    shutil.copytree(ROOT / "lakes/markets", root)
    path = root / "assay.toml"
    path.write_text(path.read_text().replace("http://127.0.0.1:8321/stable", url))
    (root / "universe_us.csv").write_text("symbol,valid_from,valid_to\nFB,2012-05-18,2013-03-02\n")
    return root


def assay(root: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", STEP, "--lake", str(root), *args],
        env=os.environ | env, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


def finish(root: Path) -> dict[str, int]:
    """Apply what is missing in this process; the rows accepted, after every proof there is."""
    lake = run.open(root)
    try:
        done = run.apply(lake, run.plan(lake, DATASETS))
        assert not done.errors
        assert run.plan(lake, DATASETS) == []
        found = run.status(lake)["datasets"]
        assert verify.counts(lake)["captured"] == sum(d["captured"] for d in found.values())
        accepted = {name: found[name]["accepted"] for name in DATASETS}
        assert verify.rebuild(lake, DATASETS) == accepted
        return accepted
    finally:
        lake.close()


WITHOUT_GOLD = [e for e in crash.EFFECTS if e.startswith(("land.", "refine.")) and e != "refine.quarantine"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("effect", WITHOUT_GOLD)
def test_landing_and_refining_survive(tmp_path: Path, vendor: str, effect: str, when: str) -> None:
    root = a_lake(tmp_path / "lake", vendor)
    crashed = assay(root, "apply", *DATASETS, ASSAY_CRASH=f"{effect}:{when}")
    assert crashed.returncode == 137, crashed.stderr
    assert finish(root) == {"price_eod": 196, "splits": 0}


@pytest.mark.parametrize("when", ["before", "after"])
def test_quarantine_survives(tmp_path: Path, when: str) -> None:
    overrides = {("FB", "2012-06-01"): {"close": "-1"}}
    with assay_sandbox.Sandbox(overrides=overrides).running() as url:
        root = a_lake(tmp_path / "lake", url)
        assert assay(root, "apply", "price_eod", ASSAY_CRASH=f"refine.quarantine:{when}").returncode == 137
        assert assay(root, "apply", "price_eod").returncode == 0
    lake = run.open(root)
    one = run.status(lake)["datasets"]["price_eod"]
    assert (one["accepted"], one["quarantined"]) == (195, 1)
    assert verify.counts(lake)["captured"] == 196
    lake.close()


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("effect", [e for e in crash.EFFECTS if e.startswith("release.")])
def test_releasing_survives(tmp_path: Path, vendor: str, effect: str, when: str) -> None:
    root = a_lake(tmp_path / "lake", vendor)
    finish(root)
    crashed = assay(root, "build", ASSAY_CRASH=f"{effect}:{when}")
    assert crashed.returncode == 137, crashed.stderr
    lake = run.open(root)
    released = run.release.current(lake.target.files)
    assert (released is None) == (
        f"{effect}:{when}" not in ("release.object:after", "release.ledger:before", "release.ledger:after")
    )
    if released:
        assert lake.read("gold.fct_daily_price").num_rows == 196
    lake.close()
    lake = run.open(root)
    done = run.apply(lake, run.plan(lake))
    assert not done.errors
    assert lake.read("gold.fct_daily_price").num_rows == 196
    assert run.plan(lake) == []
    lake.close()


def test_an_effect_without_a_name_fails() -> None:
    with pytest.raises(ValueError, match="no entry"), crash.effect("refine.nameless"):
        pass
    named = {
        word
        for path in (ROOT / "src/assay").rglob("*.py")
        if path.name != "crash.py"
        for word in crash.EFFECTS
        if f'"{word}"' in path.read_text()
    }
    assert named == set(crash.EFFECTS)


def test_two_refines_paused_before_their_commit_leave_each_batch_in_once(tmp_path: Path, vendor: str) -> None:
    root = a_lake(tmp_path / "lake", vendor)
    assert assay(root, "land", "price_eod").returncode == 0
    lake = run.open(root)
    lake.target.files.path("x").parent.mkdir(exist_ok=True)
    go = tmp_path / "go"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", STEP, "--lake", str(root), "refine", "price_eod"],
            env=os.environ | {"ASSAY_PAUSE": f"refine.commit:{go}"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    try:
        while len(list(tmp_path.glob("go.*.waiting"))) < 2:
            assert all(p.poll() is None for p in processes), [
                p.communicate() for p in processes if p.poll() is not None
            ]
            time.sleep(0.01)  # the two need the machine more
        go.touch()
        outputs = [p.communicate(timeout=300) for p in processes]
    finally:
        for one in processes:
            with one:  # its pipes too: left open, they would fail another test
                one.kill()
    assert [p.returncode for p in processes] == [0, 0], outputs
    assert sorted(out.strip() for out, _ in outputs) == [
        "196 captured = 196 accepted + 0 duplicate + 0 quarantined + 0 held", "nothing new",
    ]  # fmt: skip
    assert run.status(lake)["datasets"]["price_eod"]["accepted"] == 196
    assert verify.counts(lake)["captured"] == 196
    lake.close()
