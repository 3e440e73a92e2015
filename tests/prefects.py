"""A Prefect server of the tests' own, one for all tests of a process, and flows that run on it."""

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PYTHON = ROOT / ".venvs/prefect/bin/python"


@dataclass(frozen=True)
class Prefect:
    """A server that runs, and what every process of its flows is told."""

    url: str
    environment: dict[str, str]

    def ask(self, path: str, **body: Any) -> Any:
        """What its REST interface answers."""
        asked = urllib.request.Request(
            f"{self.url}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        return json.loads(answered(asked))

    def flow(self, lake: Path, call: str, **environment: str) -> subprocess.Popen[str]:
        """A process that calls a flow."""
        code = "from datetime import datetime\nfrom assay.flows.steps import *\nfrom assay.flows.backfill import *\n"
        told = self.environment | {"ASSAY_LAKE": str(lake)} | environment
        return subprocess.Popen(
            [PYTHON, "-c", code + call], cwd=self.environment["PREFECT_HOME"], env=told, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def ran(self, lake: Path, call: str, **environment: str) -> tuple[str, dict[str, Any]]:
        """What a flow said until its end, and its flow run, of which no task run is left behind in the server's queue."""
        process = self.flow(lake, call, **environment)
        said, _ = process.communicate(timeout=300)
        (found,) = self.ask("flow_runs/filter", sort="START_TIME_DESC", limit=1)
        deadline = time.monotonic() + 60
        while any(t["state_type"] in ("RUNNING", "PENDING") for t in self.tasks(found)) and time.monotonic() < deadline:
            time.sleep(0.2)
        return said, found

    def tasks(self, flow_run: dict[str, Any]) -> list[dict[str, Any]]:
        """The task runs of a flow run."""
        return self.ask("task_runs/filter", flow_runs={"id": {"any_": [flow_run["id"]]}}, limit=200)

    def reported(self, flow_run: dict[str, Any]) -> tuple[float, list[dict[str, str]]]:
        """The progress and the table that a flow run reported last."""
        found = self.ask("artifacts/filter", artifacts={"flow_run_id": {"any_": [flow_run["id"]]}})
        by = {
            one["type"]: one["data"] for one in found if one["type"]
        }  # without one: where Prefect keeps a flow's error
        return float(by["progress"]), json.loads(by["table"])


@pytest.fixture(scope="session")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    assert PYTHON.exists(), "scripts/extras makes the environment .venvs/prefect"
    home = tmp_path_factory.mktemp("prefect")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    environment = os.environ | {
        "PREFECT_HOME": str(home), "PREFECT_API_URL": url, "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        "PREFECT_SERVER_UI_ENABLED": "false", "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
        "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500", "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false",
        "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false", "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
    }  # fmt: skip
    with (home / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [PYTHON, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app", "--port", str(port)],
            env=environment, cwd=home, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 180
        while not _healthy(url):
            assert server.poll() is None, (home / "server.log").read_text()[-4000:]
            assert time.monotonic() < deadline, (home / "server.log").read_text()[-4000:]
            time.sleep(0.2)
        yield Prefect(url, environment)
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def answered(asked: urllib.request.Request) -> bytes:
    """The answer; a server whose database is locked says 503 and changed nothing, and is asked again, as Prefect's client does."""
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(asked, timeout=60) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            if error.code != 503 or time.monotonic() > deadline:
                raise
        time.sleep(1)


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False
