"""The markets lake on the doubles of AWS, which several stories read."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import assay_sandbox
from assay.settings import CLOUDSIM
from tests import clouds
from tests.kept import begun

Ran = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def on_aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Ran]]:
    """The markets lake, landed, refined and released in the doubles; and what runs a command on it."""
    cloud, root = clouds.shared(), tmp_path_factory.mktemp("aws") / "markets"
    begun(root, "markets")
    with assay_sandbox.Sandbox().running() as url:
        path = root / "assay.toml"
        path.write_text(
            path.read_text().replace("http://127.0.0.1:8321/stable", url).replace("[aws]", '[aws]\nprefix = "story"')
        )
        environment = os.environ | {CLOUDSIM: str(cloud.directory / "endpoints.json")}

        def ran(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", "assay.cli", "--lake", str(root), "--target", "aws", *words]
            return subprocess.run(
                command, env=environment | more, capture_output=True, text=True, check=False, timeout=300
            )

        make = "import sys; from pathlib import Path; from assay.run import emulated; emulated.prepare(Path(sys.argv[1]), 'dev', {'FMP_API_KEY': 'sandbox-key'})"
        subprocess.run([sys.executable, "-c", make, str(root)], env=environment, check=True, timeout=60)
        done = ran("apply", ASSAY_SECRET_FMP_API_KEY="")
        assert done.returncode == 0, done.stderr
        yield root, ran
