"""Commands of assay as tasks of ECS, which cloudsim runs as processes: the lake is the laptop's, and each failure says who must act."""

import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import assay_sandbox
from assay import settings as lake_settings
from assay.errors import (
    AlertFiring,
    AssayError,
    BuildFailed,
    ContractError,
    GateClosed,
    LakeBusy,
    LakeDamaged,
    SettingsError,
    SourceError,
    UsageError,
    of_code,
)
from assay.ports import Job
from assay.run import lake as lakes
from assay.settings import CLOUDSIM, Settings
from assay.targets.aws import ecs, emf, provision
from assay.targets.aws.clients import Clients
from assay.targets.aws.ecs import EcsLauncher, hidden
from assay.windows import Window
from tests import clouds
from tests import emf as rules
from tests.clouds import Cloud
from tests.cloudsim.test_ecs import ROLE, TRUST
from tests.faulty import Faulty
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

    def lines(self, run: str) -> list[str]:
        """What the tasks of a run said."""
        logs, out = self.cloud.client("logs"), []
        for task in self.tasks(run):
            stream = f"t/{task['containers'][0]['name']}/{task['taskArn'].rpartition('/')[2]}"
            said = logs.get_log_events(logGroupName="/tasks", logStreamName=stream, startFromHead=True)
            out += [one["message"] for one in said["events"]]
        return out

    @staticmethod
    def metrics(*lines: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """What CloudWatch would take of these lines, dimensions and values together, each with its whole line."""
        found = [line for line in lines if emf.MARK in line]
        each = [(rules.metrics(line, time.time()), json.loads(line)) for line in found]
        return [({**dimensions, **values}, line) for (dimensions, values), line in each]


@contextmanager
def fleets(directory: Path, capacity: int) -> Iterator[Fleet]:
    """A cluster `lake` of doubles of its own, that runs so many tasks at once, and the image `assay:1` of this clone."""
    image = directory / "image"
    (image / "bin").mkdir(parents=True)
    (image / "bin" / "assay").write_text(f'#!/bin/sh\nexec {sys.executable} -m assay.cli "$@"\n')
    (image / "bin" / "assay").chmod(0o755)
    (image / "bin" / "python").symlink_to(sys.executable)
    with clouds.cloud(directory / "c", "--image", f"assay:1={image}", "--capacity", capacity) as one:
        one.client("ecs").create_cluster(clusterName="lake")
        one.client("logs").create_log_group(logGroupName="/tasks")
        for role in ("execution", "task"):
            one.client("iam").create_role(RoleName=role, AssumeRolePolicyDocument=json.dumps(TRUST))
        yield Fleet(one)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleets(tmp_path_factory.mktemp("fleet"), CAPACITY) as one:
        yield one


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
    runs: dict[str, str] = {}
    for words in (("land", "trades"), ("refine", "trades"), ("build",)):
        said = assay("--lake", root, "--target", "aws", "--json", "launch", *words)
        assert said.code == 0, said.err
        (task,) = fleet.tasks(json.loads(said.out)["run"])
        assert {"key": "assay:step", "value": words[0]} in task["tags"]
        assert task["taskDefinitionArn"] == definition
        runs[words[0]] = json.loads(said.out)["run"]
        assert not fleet.metrics(said.out + said.err)
    told = {
        values["step"]: (values, line) for task in runs.values() for values, line in fleet.metrics(*fleet.lines(task))
    }
    assert {step: line["launch"] for step, (_, line) in told.items()} == runs
    assert {"dataset": "trades", "windows": 1, "landed": 10, "failed": 0}.items() <= told["land"][0].items()
    assert {"rows": 10, "accepted": 10, "quarantined": 0, "held": 0}.items() <= told["refine"][0].items()
    assert told["build"][0]["tables"] == 1
    for values, line in told.values():
        assert values["calls"] == sum(line["calls_by"].values()) > 5
        assert values["seconds"] > 0
        assert len(line["run"]) == 26
    assert assay("--lake", here, "apply").code == 0
    for question in ("select * from gold.mart_position order by all", "select count(*) n from silver.trades"):
        there = assay("--lake", root, "--target", "aws", "--json", "sql", question)
        assert there.code == 0, there.err
        assert json.loads(there.out) == json.loads(assay("--lake", here, "--json", "sql", question).out)
    assert assay("--lake", root, "--target", "aws", "verify", "counts").code == 0
    assert not (root / "data/dev/bronze").exists()
    said = assay("--lake", here, "launch", "build")
    assert (said.code, "the target local runs commands where they are given" in said.err) == (2, True)


@slow
def test_each_failure_says_who_must_act_and_whether_it_helps_to_try_again(fleet: Fleet, tmp_path: Path) -> None:
    root = begun(tmp_path / "shop", "csv")
    definition = fleet.register(root)
    provision.make(fleet.settings(root, definition), {})
    missing = f"arn:aws:secretsmanager:{fleet.cloud.region}:{fleet.cloud.account}:secret:none-AbCdEf"
    (error,) = fleet.launcher(root, definition).run([run("land", "trade")])
    assert type(error) is UsageError  # as the command says it by name, though three classes have its code
    assert "trade" in str(error)
    assert "(task " in error.args[0]
    (error,) = fleet.launcher(root, definition).run([run("--json", "land", "trade")])
    assert (
        type(error) is SettingsError
    )  # nothing but the code is known: its first line says so, its last lines stand below
    assert (error.args[0].endswith("ended with exit code 2"), "trade" in "".join(error.args[1:])) == (True, True)

    code = "import os, sys, time\nprint('token=' + os.environ.get('TOKEN', 'abc'), flush=True)\n"
    python = {"entryPoint": ["python", "-c"]}
    arn = fleet.cloud.client("secretsmanager").create_secret(Name="t", SecretString="very-secret")["ARN"]
    eat = code + "held = []\nwhile True:\n    held.append(bytearray(b'x') * (16 << 20)); time.sleep(0.01)"
    cases: list[tuple[dict[str, Any], str, type[AssayError], str]] = [
        ({"image": "none:1"}, "", SettingsError, "the image of .* cannot be pulled .CannotPullContainerError.*it fails again"),
        ({"secrets": [{"name": "S", "valueFrom": missing}]}, "", SettingsError, "a secret of .* is missing or refused .*none-AbCdEf.*put it into Secrets Manager"),
        ({"entryPoint": ["none-such"]}, "", SettingsError, "could not begin .*none-such"),
        ({"taskRoleArn": ROLE.format("none-such")}, "", SettingsError, "assume the role"),
        ({**python, "cpu": "256", "memory": "512"}, eat, SettingsError, "OutOfMemoryError.*more memory than the 512 MiB"),
        (python, code + "os.kill(os.getpid(), 15)", LakeBusy, "exit code 143: it was ended by a signal; run it again"),
        ({**python, "secrets": [{"name": "TOKEN", "valueFrom": arn}]}, code + "sys.exit(75)", LakeBusy, "exit code 75"),
        (python, code + "sys.exit(6)", BuildFailed, "exit code 6"),
        (python, code + "print('ContractError: x.yaml:3: so', flush=True); sys.exit(2)", ContractError, "^x.yaml:3: so .task .* ended with exit code 2"),
    ]  # fmt: skip
    for changed, words, kind, why in cases:
        (error,) = fleet.launcher(root, fleet.register(root, **changed)).run([run(words)])
        assert type(error) is kind, (changed, error)
        assert re.search(why, error.args[0]), error
        assert "very-secret" not in str(error)
        if words:
            assert "token=***" in error.args, error

    sleep = fleet.register(root, entryPoint=["python", "-c"])
    found: list[AssayError | None] = []
    waits = threading.Thread(
        target=lambda: found.extend(
            fleet.launcher(root, sleep).run([run("import time; time.sleep(60)", of="slow", step="x")])
        )
    )
    waits.start()
    client = fleet.cloud.client("ecs")
    until = time.monotonic() + 20
    while not (seen := [one for one in fleet.tasks("slow") if one["lastStatus"] == "RUNNING"]):
        assert time.monotonic() < until
        time.sleep(0.1)
    client.stop_task(cluster="lake", task=seen[0]["taskArn"], reason="enough")
    waits.join(20)
    assert type(found[0]) is AssayError
    assert "was stopped by a person or a program (enough)" in found[0].args[0]

    for changed, why in (
        ({"cluster": "none"}, "there is no ECS cluster none: mend"),
        ({"task_definition": "none:3"}, "there is no active task definition none:3: register it"),
    ):
        launcher = fleet.launcher(root, definition, **changed)
        if "cluster" in changed:
            (error,) = launcher.run([run("plan")])
        else:
            with pytest.raises(SettingsError) as raised:
                launcher.run([run("plan")])
            error = raised.value
        assert why in str(error)
    with pytest.raises(UsageError, match="too long for a task"):
        fleet.launcher(root, definition).run([run("x" * 9000)])
    none = client.list_task_definitions(familyPrefix="assay1")["taskDefinitionArns"]
    assert none == [one for one in none if one.endswith(":1")]  # nobody registered another revision


@slow
def test_what_aws_may_answer_and_cloudsim_does_not(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = begun(tmp_path / "shop", "csv")
    definition = fleet.register(root, entryPoint=["python", "-c"])
    fleet.settings(root, definition)

    def described(**said: Any) -> str:
        arn = f"arn:aws:ecs:{fleet.cloud.region}:{fleet.cloud.account}:task/lake/{'0' * 32}"
        return json.dumps({"tasks": [{"taskArn": arn, "containers": [{"name": "assay"}], **said}], "failures": []})

    with Faulty(fleet.cloud.endpoints["ecs"]).running() as way:
        launcher = fleet.launcher(root, definition, endpoints={**fleet.cloud.endpoints, "ecs": way.url})
        started = described(lastStatus="PROVISIONING")

        def ended(**said: Any) -> AssayError | None:
            way.fails("RunTask", status=200, body=started)
            way.fails("DescribeTasks", status=200, body=described(lastStatus="STOPPED", **said))
            return launcher.run([run("pass")])[0]

        error = ended(stopCode="SpotInterruption", stoppedReason="Your Spot Task was interrupted.")
        assert type(error) is LakeBusy
        assert "was taken away by AWS (SpotInterruption); run it again" in error.args[0]
        assert "its lines could not be read from /tasks (ResourceNotFoundException)" in error.args
        error = ended(stopCode="TaskFailedToStart", stoppedReason="Timeout waiting for network interface provisioning.")
        assert (type(error), "ended before its command began" in str(error)) == (LakeBusy, True)

        # No room: by an error, by a failure, and by a task that stops for it; each is tried again, and it is done.
        words = "You've reached the limit on the number of vCPUs you can run concurrently"
        way.fails("RunTask", status=400, body=json.dumps({"__type": "ClientException", "message": words}))
        way.fails("RunTask", status=200, body=json.dumps({"tasks": [], "failures": [{"reason": "RESOURCE:ENI"}]}))
        way.fails("RunTask", status=200, body=started)
        way.fails(
            "DescribeTasks", status=200,
            body=described(lastStatus="STOPPED", stopCode="TaskFailedToStart", stoppedReason="Capacity is unavailable at this time"),
        )  # fmt: skip
        asked = way.asked["RunTask"]
        assert launcher.run([run("pass", of="again")]) == [None]
        assert way.asked["RunTask"] - asked == 4
        way.fails("RunTask", done=True)  # it is done, and the answer is lost
        assert launcher.run([run("pass", of="once")]) == [None]
        assert len(fleet.tasks("once")) == 1
        way.fails("DescribeTasks", status=500, times=20)  # whoever waits goes on
        assert launcher.run([run("pass")]) == [None]
        way.fails("RunTask", status=200, body=json.dumps({"tasks": [], "failures": [{"reason": "AGENT"}]}))
        assert "ECS did not start a task in cluster lake: AGENT" in str(launcher.run([run("pass")])[0])

        monkeypatch.setattr(ecs, "START", 0.0)
        way.fails("RunTask", status=200, body=started)
        way.fails("DescribeTasks", status=200, body=started)
        way.fails("StopTask", status=200, body="{}")
        error = launcher.run([run("pass")])[0]
        assert type(error) is LakeBusy
        assert "did not start within 0 s (PROVISIONING), and was stopped" in error.args[0]
        monkeypatch.setattr(ecs, "ROOM", 0.0)
        way.told.clear()
        way.fails(
            "RunTask", status=200, body=json.dumps({"tasks": [], "failures": [{"reason": "RESOURCE:ENI"}]}), times=9
        )
        assert "Fargate had no room in 0 s" in str(launcher.run([run("pass")])[0])


def test_tasks_start_at_the_rate_of_fargate_and_alike_ones_share_a_call() -> None:
    bucket, began = ecs.Bucket(), time.monotonic()
    for _ in range(3):
        bucket.take(10)
    assert 0.4 < time.monotonic() - began < 2
    requests: list[dict[str, Any]] = [{"a": 1}] * 12 + [{"a": 2}] + [{"a": 1}]
    assert ecs._alike(range(14), requests) == [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [10, 11, 13], [12]]


@slow
def test_twelve_tasks_at_once_land_into_one_log_and_lose_nothing(
    fleet: Fleet, tmp_path: Path, assay: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = begun(tmp_path / "markets", "markets")
    with assay_sandbox.Sandbox().running() as url:
        path = root / "assay.toml"
        path.write_text(path.read_text().replace("http://127.0.0.1:8321/stable", url))
        definition = fleet.register(root)
        provision.make(fleet.settings(root, definition), {"FMP_API_KEY": "sandbox-key"})
        monkeypatch.setenv(CLOUDSIM, str(fleet.cloud.directory / "endpoints.json"))
        shard = "AAPL"
        spans = [f"{year}-01-01..{year + 1}-01-01" for year in range(2001, 2013)]
        jobs = [run("land", "price_eod", "--shard", shard, "--span", span, of="twelve", step=span) for span in spans]
        assert fleet.launcher(root, definition).run(jobs) == [None] * 12
    tasks = fleet.tasks("twelve")
    assert len(tasks) == 12
    assert {tag["value"] for one in tasks for tag in one["tags"] if tag["key"] == "assay:step"} == set(spans)
    assert assay("--lake", root, "--target", "aws", "verify", "counts").code == 0
    with lakes.open(root, target="aws") as lake:
        left = [s for s in lake.landings("price_eod", span=Window.parse("2001-01-01..2013-01-01")) if s.shard == shard]
    assert left == []
