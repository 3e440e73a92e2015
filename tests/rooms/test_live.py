"""The tests for a real account are code that works: run here on the doubles, where nothing of AWS is asked. Emulated."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from assay import settings
from assay.settings import CLOUDSIM
from assay.targets.aws import objects, provision
from tests import clouds
from tests.conftest import ROOT
from tests.kept import begun


def live(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "tests/live", *words], env=kept | more, cwd=ROOT,
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


@pytest.mark.slow
def test_they_run_only_when_they_are_asked_for_and_told_where(tmp_path: Path) -> None:
    for marked in ((), ("-m", "not slow"), ("-m", "slow")):
        said = live(*marked, "--basetemp", str(tmp_path / "p"))
        assert (said.returncode, "1 deselected" in said.stdout) == (5, True), said.stdout
    said = live("-m", "live", "--basetemp", str(tmp_path / "p"))
    assert said.returncode == 1
    assert "ASSAY_LIVE_LAKE is missing: it names a lake's directory" in said.stdout
    said = live("-m", "live", "--basetemp", str(tmp_path / "p"), ASSAY_LIVE_LAKE=str(tmp_path))
    assert "is no lake: it has no assay.toml" in said.stdout


@pytest.mark.slow
def test_they_pass_on_the_doubles_and_leave_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud, root = clouds.shared(), begun(tmp_path / "mine", "csv")
    named = {CLOUDSIM: str(cloud.directory / "endpoints.json"), "ASSAY_LIVE_LAKE": str(root)}
    monkeypatch.setenv(CLOUDSIM, named[CLOUDSIM])
    path = root / "assay.toml"
    said = path.read_text().partition("[aws]")[0]
    path.write_text(
        f'{said}[aws]\nregion = "{cloud.region}"\naccount = "{cloud.account}"\nbucket = "live-tests"\nprefix = "livetest"\n'
    )
    made = settings.read(root, "live")
    assert made.aws
    provision.make(made, {"FMP_API_KEY": "sandbox-key"})
    s3 = cloud.client("s3")
    s3.put_object(Bucket="live-tests", Key="of others", Body=b"x")
    found = live("-m", "live", "--basetemp", str(tmp_path / "p"), **named)
    assert found.returncode == 0, found.stdout[-3000:]
    assert [one["Key"] for one in s3.list_objects_v2(Bucket="live-tests")["Contents"]] == ["of others"]
    s3.put_object(Bucket="live-tests", Key=f"{objects(made.aws, 'live')}x", Body=b"x")
    found = live("-m", "live", "--basetemp", str(tmp_path / "p"), **named)
    assert found.returncode == 1
    assert "is in use: {'objects': 1, 'tables': 0, 'items': 0}; these tests write only where nothing is" in found.stdout
    assert s3.get_object(Bucket="live-tests", Key=f"{objects(made.aws, 'live')}x")["Body"].read() == b"x"
