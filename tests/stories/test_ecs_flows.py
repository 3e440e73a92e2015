"""A landing on AWS as Prefect runs it: a server, its ECS worker, and a flow run that is a task of ECS. Emulated by cloudsim."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from assay.settings import CLOUDSIM
from assay.targets.aws import provision
from tests import clouds
from tests.cloudsim.test_ecs import TRUST
from tests.kept import begun
from tests.prefects import PYTHON, Prefect, prefect
from tests.rooms.test_ecs import Fleet

__all__ = ["prefect"]

pytestmark = pytest.mark.slow


def test_a_flow_run_is_a_task_by_the_definition_that_is_registered(tmp_path: Path, prefect: Prefect) -> None:
    image, root = tmp_path / "image", begun(tmp_path / "shop", "csv")
    (image / "bin").mkdir(parents=True)
    (image / "bin" / "prefect").write_text(f'#!/bin/sh\nexec {PYTHON} -m prefect "$@"\n')
    (image / "bin" / "prefect").chmod(0o755)
    with clouds.cloud(tmp_path / "c", "--image", f"assay:1={image}", "--task-events", "tasks") as cloud:
        cloud.client("ecs").create_cluster(clusterName="lake")
        cloud.client("logs").create_log_group(logGroupName="/tasks")
        for role in ("execution", "task"):
            cloud.client("iam").create_role(RoleName=role, AssumeRolePolicyDocument=json.dumps(TRUST))
        fleet = Fleet(cloud)
        definition = fleet.register(root)
        provision.make(fleet.settings(root, definition), {})
        mine = prefect.environment | {CLOUDSIM: str(cloud.directory / "endpoints.json")}

        def assay(*words: str) -> subprocess.CompletedProcess[str]:
            said = [PYTHON, "-m", "assay.cli", "--lake", root, "--target", "aws", *words]
            return subprocess.run(said, env=mine, capture_output=True, text=True, timeout=120, check=False)

        dry = assay("deploy", "--dry-run")
        assert (dry.returncode, "add block s3-bucket/bronze-storage" in dry.stdout) == (1, True), dry.stderr
        done = assay("deploy")
        assert done.returncode == 0, done.stderr
        assert assay("deploy", "--dry-run").returncode == 0
        (pool,) = prefect.ask("work_pools/filter", work_pools={"name": {"any_": ["ingest"]}})
        assert pool["type"] == "ecs"
        for one in prefect.ask("block_documents/filter", include_secrets=True):
            assert not {"aws_access_key_id", "aws_secret_access_key"} & {k for k, v in _leaves(one["data"]) if v}
        (deployment,) = prefect.ask("deployments/filter", deployments={"name": {"any_": ["trades"]}})
        flow_run = prefect.ask(f"deployments/{deployment['id']}/create_flow_run")

        # The worker's clients are made without an address: they find the doubles by the environment, as the SDK does.
        password = {
            "PREFECT_API_AUTH_STRING": "me:password"
        }  # the worker knows one, and the task is not told it in the open
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": cloud.region}
        there = {f"AWS_ENDPOINT_URL_{name.upper()}": cloud.endpoints[name] for name in ("ecs", "logs", "sqs")}
        queue = {"PREFECT_INTEGRATIONS_AWS_ECS_OBSERVER_SQS_QUEUE_NAME": "tasks", "PREFECT_WORKER_QUERY_SECONDS": "1"}
        told = {name: value for name, value in prefect.environment.items() if not name.startswith("AWS_")}
        with (tmp_path / "worker.log").open("wb") as log:
            worker = subprocess.Popen(
                [PYTHON, "-m", "prefect", "worker", "start", "--pool", "ingest", "--work-queue", "live"],
                env=told | password | keys | there | queue, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            until = time.monotonic() + 150
            while (found := prefect.ask("flow_runs/filter", flow_runs={"id": {"any_": [flow_run["id"]]}})[0])[
                "state_type"
            ] not in ("COMPLETED", "FAILED", "CRASHED"):
                assert time.monotonic() < until, (tmp_path / "worker.log").read_text()[-4000:]
                assert worker.poll() is None, (tmp_path / "worker.log").read_text()[-4000:]
                time.sleep(1)
        finally:
            worker.terminate()
            worker.wait(60)
        ecs = cloud.client("ecs")
        arns = ecs.list_tasks(cluster="lake", desiredStatus="STOPPED")["taskArns"]
        arns += ecs.list_tasks(cluster="lake", desiredStatus="RUNNING")["taskArns"]
        (task,) = ecs.describe_tasks(cluster="lake", tasks=arns, include=["TAGS"])["tasks"]
        lines = _lines(cloud, task)
        assert found["state_type"] == "COMPLETED", (lines, (tmp_path / "worker.log").read_text()[-3000:])
        assert task["taskDefinitionArn"] == definition
        assert {"key": "prefect.io/flow-run-id", "value": flow_run["id"]} in task["tags"]
        assert found["infrastructure_pid"].endswith(task["taskArn"])
        told_env = {one["name"] for one in task["overrides"]["containerOverrides"][0]["environment"]}
        assert {"PREFECT_API_URL", "ASSAY_TARGET", "ASSAY_ENV"} <= told_env
        assert "PREFECT_API_AUTH_STRING" not in told_env
        families = ecs.list_task_definitions()["taskDefinitionArns"]
        assert families == [definition]  # the worker registered none
        steps = json.loads(assay("--json", "plan").stdout)["steps"]
        assert len(steps) == 2
        assert not [one for one in steps if one["step"].startswith("land")]  # nothing is to be landed any more
        kept = cloud.client("s3").list_objects_v2(Bucket="lake", Prefix="my_lake/dev/bronze/trades/")
        assert kept["KeyCount"] > 0
        assert assay("deploy", "--destroy").returncode == 0


def _leaves(found: Any) -> list[tuple[str, Any]]:
    if not isinstance(found, dict):
        return []
    return [*found.items(), *(leaf for one in found.values() for leaf in _leaves(one))]


def _lines(cloud: clouds.Cloud, task: dict[str, Any]) -> list[str]:
    stream = f"t/assay/{task['taskArn'].rpartition('/')[2]}"
    said = cloud.client("logs").get_log_events(logGroupName="/tasks", logStreamName=stream, startFromHead=True)
    return [one["message"] for one in said["events"]]
