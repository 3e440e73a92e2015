"""Commands of assay as tasks of ECS, which cloudsim runs as processes: the lake is the laptop's, and each failure says who must act."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from assay import settings as lake_settings
from assay.errors import (
    AlertFiring,
    AssayError,
    BuildFailed,
    GateClosed,
    LakeBusy,
    LakeDamaged,
    SettingsError,
    SourceError,
    of_code,
)
from assay.ports import Job
from assay.settings import CLOUDSIM, Settings
from assay.targets.aws import ecs, provision
from assay.targets.aws.clients import Clients
from assay.targets.aws.ecs import EcsLauncher, hidden
from tests import clouds
from tests.clouds import Cloud
from tests.cloudsim.test_ecs import ROLE, TRUST
from tests.forked import Said
from tests.kept import begun

slow = pytest.mark.slow
ROOT = Path(__file__).parents[2]
CAPACITY = 6


@pytest.mark.parametrize(
    ("code", "kind"),
    [(1, AssayError), (2, SettingsError), (3, SourceError), (4, GateClosed), (5, LakeDamaged), (6, BuildFailed), (7, AlertFiring), (75, LakeBusy), (99, AssayError)],
)  # fmt: skip
def test_an_exit_code_is_an_error_of_who_must_act(code: int, kind: type[AssayError]) -> None:
    assert of_code(code) is kind


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("GET https://x/y?apikey=abc123&limit=5", "GET https://x/y?apikey=***&limit=5"),
        ('{"token": "abc", "n": 1}', '{"token": "***", "n": 1}'),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("postgresql://me:pw@db/x", "postgresql://me:***@db/x"),
        ("AWS_SECRET_ACCESS_KEY=abc AKIAABCDEFGHIJKLMNOP", "AWS_SECRET_ACCESS_KEY=*** ***"),
        ("the key sandbox-key was refused", "the key *** was refused"),  # it is in this process's own environment
        ("SettingsError: secret x/dev/FMP_API_KEY is missing", "SettingsError: secret x/dev/FMP_API_KEY is missing"),
    ],
)
def test_what_is_quoted_of_a_log_has_no_secret(line: str, shown: str) -> None:
    assert hidden(line) == shown


def test_what_a_task_needs_is_said_in_assay_toml_and_checked(tmp_path: Path, assay: Callable[..., Said]) -> None:
    base = '[lake]\n[aws]\nregion = "ca-central-1"\naccount = "123456789012"\nbucket = "lake"\n'
    for line, why in (
        ('cluster = "a b"', "assay.toml:6: aws.cluster must be an ECS cluster's name"),
        ('task_definition = "x:y"', "aws.task_definition must be a task definition that is registered"),
        ("subnets = []", "aws.subnets must be a list of 1 to 16 subnets"),
        ('security_groups = ["x"]', "aws.security_groups must be a list of 1 to 5"),
        ('log_group = "a b"', "aws.log_group must be a log group"),
    ):
        (tmp_path / "assay.toml").write_text(base + line + "\n")
        said = assay("--lake", tmp_path, "check")
        assert (said.code, why in said.err) == (2, True), said.err
    arn = "arn:aws:ecs:ca-central-1:123456789012:task-definition/assay:7"
    (tmp_path / "assay.toml").write_text(f'{base}task_definition = "{arn}"\nsubnets = ["subnet-1"]\n')
    found = lake_settings.read(tmp_path).aws
    assert found
    assert (found.task_definition, found.subnets, found.cluster) == (arn, ("subnet-1",), "")
    with pytest.raises(SettingsError, match=r"aws\.cluster of assay.toml is missing: tasks of ECS need it"):
        EcsLauncher(Clients(found), "dev")


# ------------------------------------------------------------------ on cloudsim's ECS


@dataclass
class Fleet:
    """A cloud whose image `assay:1` has this clone's assay in it, and a cluster."""

    cloud: Cloud
    families: int = 0

    def register(self, lake: Path, **changed: Any) -> str:
        """A task definition of a lake's commands; `changed` is the container's, or the task's."""
        self.families += 1
        container = {
            "name": "assay", "image": "assay:1",
            "environment": [
                {"name": name, "value": str(value)}
                for name, value in {
                    "ASSAY_LAKE": lake, "PYTHONPATH": ROOT / "src", CLOUDSIM: self.cloud.directory / "endpoints.json",
                }.items()
            ],
            "logConfiguration": {
                "logDriver": "awslogs",
                "options": {"awslogs-group": "/tasks", "awslogs-region": self.cloud.region, "awslogs-stream-prefix": "t"},
            },
        }  # fmt: skip
        task: dict[str, Any] = {
            "family": f"assay{self.families}", "requiresCompatibilities": ["FARGATE"], "networkMode": "awsvpc",
            "cpu": "1024", "memory": "4096", "executionRoleArn": ROLE.format("execution"), "taskRoleArn": ROLE.format("task"),
        }  # fmt: skip
        for name, value in changed.items():
            (task if name in task else container)[name] = value
        told = self.cloud.client("ecs").register_task_definition(**task, containerDefinitions=[container])
        return str(told["taskDefinition"]["taskDefinitionArn"])

    def settings(self, root: Path, definition: str, **changed: Any) -> Settings:
        """Those of a lake in this cloud."""
        path = root / "assay.toml"
        said = re.sub(r"(?ms)^\[aws\].*?(?=^\[|\Z)", "", path.read_text())
        told = {
            "region": self.cloud.region, "account": self.cloud.account, "bucket": "lake", "cluster": "lake",
            "task_definition": definition, "subnets": ["subnet-1"], "security_groups": ["sg-1"],
        } | changed  # fmt: skip
        path.write_text(said + "\n[aws]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in told.items()))
        found = lake_settings.read(root)
        assert found.aws
        return replace(found, aws=replace(found.aws, endpoints=self.cloud.endpoints, emulated=True))

    def launcher(self, root: Path, definition: str, **changed: Any) -> EcsLauncher:
        aws = self.settings(root, definition).aws
        assert aws
        return EcsLauncher(Clients(replace(aws, **changed)), "dev")

    def tasks(self, run: str) -> list[dict[str, Any]]:
        """Those that were started by a run, as they are described."""
        client = self.cloud.client("ecs")
        arns = [
            arn
            for status in ("RUNNING", "STOPPED")
            for arn in client.list_tasks(cluster="lake", startedBy=run, desiredStatus=status)["taskArns"]
        ]
        return list(client.describe_tasks(cluster="lake", tasks=arns, include=["TAGS"])["tasks"]) if arns else []


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    image = tmp_path_factory.mktemp("image")
    (image / "bin").mkdir()
    (image / "bin" / "assay").write_text(f'#!/bin/sh\nexec {sys.executable} -m assay.cli "$@"\n')
    (image / "bin" / "assay").chmod(0o755)
    (image / "bin" / "python").symlink_to(sys.executable)
    options = ("--image", f"assay:1={image}", "--capacity", CAPACITY)
    with clouds.cloud(tmp_path_factory.mktemp("fleet") / "c", *options) as one:
        one.client("ecs").create_cluster(clusterName="lake")
        one.client("logs").create_log_group(logGroupName="/tasks")
        for role in ("execution", "task"):
            one.client("iam").create_role(RoleName=role, AssumeRolePolicyDocument=json.dumps(TRUST))
        yield Fleet(one)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ecs, "PAUSE", 0.2)


def run(*words: str, of: str = "r", step: str = "") -> Job:
    return Job(words, of, step)


@slow
def test_steps_as_tasks_make_the_lake_that_the_laptop_makes(
    fleet: Fleet, tmp_path: Path, assay: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, here = begun(tmp_path / "shop", "csv"), begun(tmp_path / "here", "csv")
    definition = fleet.register(root)
    provision.make(fleet.settings(root, definition), {})
    monkeypatch.setenv(CLOUDSIM, str(fleet.cloud.directory / "endpoints.json"))
    for words in (("land", "trades"), ("refine", "trades"), ("build",)):
        said = assay("--lake", root, "--target", "aws", "--json", "launch", *words)
        assert said.code == 0, said.err
        (task,) = fleet.tasks(json.loads(said.out)["run"])
        assert {"key": "assay:step", "value": words[0]} in task["tags"]
        assert task["taskDefinitionArn"] == definition
    assert assay("--lake", here, "apply").code == 0
    for question in ("select * from gold.mart_position order by all", "select count(*) n from silver.trades"):
        there = assay("--lake", root, "--target", "aws", "--json", "sql", question)
        assert there.code == 0, there.err
        assert json.loads(there.out) == json.loads(assay("--lake", here, "--json", "sql", question).out)
    assert assay("--lake", root, "--target", "aws", "verify", "counts").code == 0
    assert not (root / "data/dev/bronze").exists()
    said = assay("--lake", here, "launch", "build")
    assert (said.code, "the target local runs commands where they are given" in said.err) == (2, True)
