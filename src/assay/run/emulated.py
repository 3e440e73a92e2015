"""The doubles of AWS as processes of `assay-cloudsim`, which this package finds and starts, and otherwise knows nothing of."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from assay import settings
from assay.errors import SettingsError, UsageError


def executable() -> str:
    """Where `assay-cloudsim` is; UsageError that says how to install it."""
    places = (Path(sys.executable).parent, *os.get_exec_path(), Path(".venvs/cloudsim/bin"))
    if found := shutil.which("assay-cloudsim", path=os.pathsep.join(map(str, places))):
        return found
    raise UsageError(
        "assay-cloudsim is not installed: run scripts/extras cloudsim in a clone of assay, "
        "or make an environment for it, pip install assay-cloudsim there, and put its bin on PATH"
    )


@contextmanager
def started(directory: Path) -> Iterator[None]:
    """Run the doubles while the block does; lakes opened with target `aws` find them. What is in them goes with them."""
    if settings.CLOUDSIM in os.environ:  # somebody runs them already
        yield
        return
    words = [executable(), "up", "--tethered", "--directory", str(directory)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            if not (process.stdout and process.stdout.readline()):
                raise SettingsError(
                    f"the doubles of AWS did not start (code {process.wait(30)}): what they said stands above"
                )
            os.environ[settings.CLOUDSIM] = str(directory.resolve() / "endpoints.json")
            yield
        finally:
            os.environ.pop(settings.CLOUDSIM, None)
            if process.stdin:
                process.stdin.close()
            process.wait(60)


def prepare(root: Path, env: str, secrets: Mapping[str, str]) -> None:
    """Make in the doubles what the lake needs to be there; see `targets.aws.provision`."""
    from assay.targets.aws import provision

    provision.make(settings.read(root, env), secrets)
