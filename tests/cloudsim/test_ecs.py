"""ECS on processes: through boto3, what runs is a program, and what refuses says what AWS says."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests import clouds
from tests.clouds import Cloud
from tests.cloudsim.test_up import family, wait_gone

pytestmark = pytest.mark.slow

NETWORK = {"awsvpcConfiguration": {"subnets": ["subnet-1"]}}
CAPACITY = 12
ROLE = "arn:aws:iam::123456789012:role/{}"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}


class Ecs:
    """A cluster, with what its tasks need."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.client = cloud.client("ecs")
        self.client.create_cluster(clusterName="lake", capacityProviders=["FARGATE"])
        self.logs = cloud.client("logs")
        self.logs.create_log_group(logGroupName="/lake")
        for role in ("execution", "task"):
            cloud.client("iam").create_role(RoleName=role, AssumeRolePolicyDocument=json.dumps(TRUST))
        nobodys = json.dumps(TRUST).replace("ecs-tasks", "lambda")
        cloud.client("iam").create_role(RoleName="nobodys", AssumeRolePolicyDocument=nobodys)
        self.families = 0

    def definition(self, **changed: Any) -> dict[str, Any]:
        """What RegisterTaskDefinition takes; `changed` is the container's, or the task's if it is of the task."""
        self.families += 1
        container = {
            "name": "main",
            "image": "lake:1",
            "logConfiguration": {
                "logDriver": "awslogs",
                "options": {
                    "awslogs-group": "/lake",
                    "awslogs-region": self.cloud.region,
                    "awslogs-stream-prefix": "t",
                },
            },
        }
        task = {
            "family": f"f{self.families}",
            "requiresCompatibilities": ["FARGATE"],
            "networkMode": "awsvpc",
            "cpu": "256",
            "memory": "512",
            "executionRoleArn": ROLE.format("execution"),
        }
        for name, value in changed.items():
            of_task = name in {*task, "taskRoleArn", "tags", "volumes"}
            (task if of_task else container)[name] = value
        return {**task, "containerDefinitions": [container]}

    def register(self, *command: str, **changed: Any) -> str:
        given = self.definition(command=[*command], **changed)
        return str(self.client.register_task_definition(**given)["taskDefinition"]["taskDefinitionArn"])

    def run(self, definition: str, **changed: Any) -> dict[str, Any]:
        """What RunTask answers."""
        given = {"cluster": "lake", "launchType": "FARGATE", "networkConfiguration": NETWORK, **changed}
        answer: dict[str, Any] = self.client.run_task(taskDefinition=definition, **given)
        return answer

    def start(self, definition: str, **changed: Any) -> str:
        answer = self.run(definition, **changed)
        assert answer["failures"] == []
        return str(answer["tasks"][0]["taskArn"])

    def said(self, arn: str, *, include: tuple[str, ...] = ()) -> dict[str, Any]:
        (task,) = self.client.describe_tasks(cluster="lake", tasks=[arn], include=[*include])["tasks"]
        return dict(task)

    def until(self, arn: str, status: str) -> dict[str, Any]:
        end = time.monotonic() + 30
        while (task := self.said(arn))["lastStatus"] != status:
            assert time.monotonic() < end, task
            assert task["lastStatus"] != "STOPPED", task
            time.sleep(0.05)
        return task

    def done(self, *command: str, **changed: Any) -> tuple[dict[str, Any], list[str]]:
        """A task of a new definition from its start to its end, and what it printed."""
        run = {name: changed.pop(name) for name in [*changed] if name in {"overrides", "tags", "startedBy"}}
        task = self.until(self.start(self.register(*command, **changed), **run), "STOPPED")
        return task, self.lines(task)

    def lines(self, task: dict[str, Any]) -> list[str]:
        stream = f"t/main/{task['taskArn'].rpartition('/')[2]}"
        try:
            events = self.logs.get_log_events(logGroupName="/lake", logStreamName=stream, startFromHead=True)["events"]
        except self.logs.exceptions.ResourceNotFoundException:
            return []
        return [event["message"] for event in events]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """A cloud with one image, whose `bin` holds this Python."""
    image = tmp_path_factory.mktemp("image")
    (image / "bin").mkdir()
    (image / "bin" / "python").symlink_to(sys.executable)
    (image / "here.txt").write_text("the image's own")
    directory = tmp_path_factory.mktemp("ecs") / "c"
    options = ("--image", f"lake:1={image}", "--capacity", CAPACITY, "--task-events", "tasks")
    with clouds.cloud(directory, *options) as one:
        yield one


@pytest.fixture(scope="module")
def ecs(started: Cloud) -> Ecs:
    return Ecs(started)


def refused(call: Callable[[], Any]) -> tuple[str, str]:
    with pytest.raises(ClientError) as error:
        call()
    return error.value.response["Error"]["Code"], error.value.response["Error"]["Message"]


LOOK = "import json, os; print(json.dumps(dict(os.environ))); print(os.getcwd()); print(open('here.txt').read())"


def test_a_command_runs_in_an_environment_that_holds_nothing_of_ours(ecs: Ecs, started: Cloud) -> None:
    secrets = started.client("secretsmanager")
    whole = secrets.create_secret(Name="whole", SecretString="one text")["ARN"]
    parts = secrets.create_secret(Name="parts", SecretString='{"key": "k-1", "n": 2}')["ARN"]
    started.client("ssm").put_parameter(Name="/lake/plain", Value="of ssm", Type="SecureString")
    task, lines = ecs.done(
        *("python", "-c", LOOK),
        environment=[{"name": "A", "value": "defined"}, {"name": "B", "value": "defined"}],
        secrets=[
            {"name": "WHOLE", "valueFrom": whole},
            {"name": "KEY", "valueFrom": f"{parts}:key::"},
            {"name": "N", "valueFrom": f"{parts}:n:AWSCURRENT:"},
            {"name": "PLAIN", "valueFrom": "/lake/plain"},
        ],
        overrides={"containerOverrides": [{"name": "main", "environment": [{"name": "B", "value": "overridden"}]}]},
    )
    assert (task["stopCode"], task["stoppedReason"]) == (
        "EssentialContainerExited",
        "Essential container in task exited",
    )
    (container,) = task["containers"]
    assert (container["exitCode"], container["lastStatus"], container.get("reason")) == (0, "STOPPED", None)
    environment = json.loads(lines[0])
    assert lines[1:] == [environment["PATH"].partition("/bin:")[0], "the image's own"]
    told = {name: environment[name] for name in ("A", "B", "WHOLE", "KEY", "N", "PLAIN", "AWS_REGION")}
    assert told == {
        "A": "defined",
        "B": "overridden",
        "WHOLE": "one text",
        "KEY": "k-1",
        "N": "2",
        "PLAIN": "of ssm",
        "AWS_REGION": started.region,
    }
    assert environment["AWS_ENDPOINT_URL_SECRETS_MANAGER"] == started.endpoints["secretsmanager"]
    assert not Path(environment["HOME"]).exists()  # the task's own disk is gone with it
    assert "AWS_CONTAINER_CREDENTIALS_FULL_URI" not in environment  # no role, no rights
    allowed = {
        "HOME",
        "LANG",
        "PATH",
        "TMPDIR",
        "ECS_CONTAINER_METADATA_URI_V4",
        "A",
        "B",
        "WHOLE",
        "KEY",
        "N",
        "PLAIN",
    }
    assert {name for name in environment if not name.startswith("AWS_")} - {"LC_CTYPE"} == allowed
    assert task["createdAt"] <= task["startedAt"] <= task["stoppedAt"]


def test_endpoints_are_named_as_the_sdk_looks_for_them(ecs: Ecs, started: Cloud) -> None:
    import botocore.session

    _, lines = ecs.done("python", "-c", LOOK)
    environment = json.loads(lines[0])
    session = botocore.session.get_session()
    for service, url in started.endpoints.items():
        named = session.get_service_model(service).service_id.replace(" ", "_").upper()
        assert environment[f"AWS_ENDPOINT_URL_{named}"] == url


SELF = """
import boto3, json, os, urllib.request
print(boto3.client("sts").get_caller_identity()["Arn"])
get = lambda path: json.load(urllib.request.urlopen(os.environ["ECS_CONTAINER_METADATA_URI_V4"] + path))
print(get("")["Labels"]["com.amazonaws.ecs.task-arn"], get("/task")["Family"], get("/task")["LaunchType"])
boto3.client("s3").put_object(Bucket="written", Key="by-task", Body=b"1")
"""


def test_a_task_has_its_role_and_knows_itself(ecs: Ecs, started: Cloud) -> None:
    s3 = started.client("s3")
    s3.create_bucket(Bucket="written", CreateBucketConfiguration={"LocationConstraint": started.region})
    task, lines = ecs.done("python", "-c", SELF, taskRoleArn=ROLE.format("task"))
    assert task["containers"][0]["exitCode"] == 0, lines
    name = task["taskArn"].rpartition("/")[2]
    assert lines[0] == f"arn:aws:sts::123456789012:assumed-role/task/{name}"
    assert lines[1].startswith(f"{task['taskArn']} f")
    assert lines[1].endswith(" FARGATE")
    assert s3.get_object(Bucket="written", Key="by-task")["Body"].read() == b"1"


def test_an_exit_code_and_a_signal_are_told_apart(ecs: Ecs) -> None:
    definition = ecs.register("python", "-c", "import os, sys; os.kill(os.getpid(), 9)")
    exits = [{"name": "main", "command": ["bin/python", "-c", "print('so'); raise SystemExit(3)"]}]
    three = ecs.start(definition, overrides={"containerOverrides": exits})
    killed = ecs.start(definition)
    task = ecs.until(three, "STOPPED")
    assert (task["containers"][0]["exitCode"], ecs.lines(task)) == (3, ["so"])
    (container,) = ecs.until(killed, "STOPPED")["containers"]
    assert (container["exitCode"], container.get("reason")) == (137, None)


LEAVE = """
import subprocess, sys
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid)
"""


def test_a_container_leaves_nobody_behind(ecs: Ecs) -> None:
    task, lines = ecs.done("python", "-c", LEAVE)
    assert task["containers"][0]["exitCode"] == 0
    assert wait_gone({int(lines[0])}) == set()


def test_a_group_that_goes_does_not_stop_the_container(ecs: Ecs) -> None:
    group = ecs.definition()["containerDefinitions"][0]["logConfiguration"]
    group["options"] |= {"awslogs-group": "/goes", "awslogs-create-group": "true"}
    much = "for n in range(5):\n    print('x' * 100_000, flush=True)\n    __import__('time').sleep(0.4)"
    arn = ecs.start(ecs.register("python", "-c", much, logConfiguration=group))
    ecs.until(arn, "RUNNING")
    ecs.logs.delete_log_group(logGroupName="/goes")
    assert ecs.until(arn, "STOPPED")["containers"][0]["exitCode"] == 0


def test_more_memory_than_the_task_has_ends_it(ecs: Ecs) -> None:
    eat = "import time\nheld = []\nwhile True:\n    held.append(bytearray(b'x') * (16 << 20)); time.sleep(0.01)"
    task, _ = ecs.done("python", "-c", eat)
    (container,) = task["containers"]
    assert (container["exitCode"], container["reason"]) == (
        137,
        "OutOfMemoryError: Container killed due to memory usage",
    )
    assert task["stopCode"] == "EssentialContainerExited"


def test_what_cannot_start_says_why(ecs: Ecs) -> None:
    role = ROLE.format("none-such")
    missing = f"arn:aws:secretsmanager:{ecs.cloud.region}:123456789012:secret:none-AbCdEf"
    keyless = ecs.cloud.client("secretsmanager").create_secret(Name="keyless", SecretString="{}")["ARN"]
    group = ecs.definition()["containerDefinitions"][0]["logConfiguration"]
    group["options"]["awslogs-group"] = "/none"
    cases: list[tuple[dict[str, Any], str]] = [
        (
            {"image": "other:1"},
            "CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref other:1",
        ),
        ({"command": ["none-such"]}, 'exec: "none-such": executable file not found in $PATH'),
        ({"command": []}, "CannotCreateContainerError: Error response from daemon: no command specified"),
        ({"logConfiguration": group}, "failed to create Cloudwatch log stream: ResourceNotFoundException"),
        (
            {"secrets": [{"name": "S", "valueFrom": missing}]},
            f"failed to fetch secret {missing} from secrets manager: ResourceNotFound",
        ),
        (
            {"secrets": [{"name": "S", "valueFrom": f"{keyless}:k::"}]},
            "retrieved secret from Secrets Manager did not contain json key k",
        ),
        ({"secrets": [{"name": "S", "valueFrom": "none"}]}, "invalid ssm parameters: none"),
        ({"taskRoleArn": ROLE.format("nobodys")}, f"ECS was unable to assume the role '{ROLE.format('nobodys')}'"),
        ({"taskRoleArn": role}, f"ECS was unable to assume the role '{role}' that was provided for this task."),
    ]
    for changed, why in cases:
        given = ecs.definition(**({"command": ["python", "-c", ""]} | changed))
        definition = ecs.client.register_task_definition(**given)["taskDefinition"]["taskDefinitionArn"]
        task = ecs.until(ecs.start(definition), "STOPPED")
        assert why in task["stoppedReason"]
        assert task["stopCode"] == "TaskFailedToStart"
        assert "exitCode" not in task["containers"][0]
        assert "startedAt" not in task


POLITE = """
import signal, sys, time
def stop(*_):
    print("bye", flush=True); sys.exit(5)
signal.signal(signal.SIGTERM, stop)
print("up", flush=True)
time.sleep(60)
"""
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(60)
"""


def first_line(ecs: Ecs, arn: str) -> str:
    end = time.monotonic() + 20
    while not (lines := ecs.lines({"taskArn": arn})):
        assert time.monotonic() < end
        time.sleep(0.05)
    return lines[0]


def test_stop_is_sigterm_and_later_sigkill_for_all_of_it(ecs: Ecs) -> None:
    polite = ecs.start(ecs.register("python", "-c", POLITE))
    stubborn = ecs.start(ecs.register("python", "-c", STUBBORN, stopTimeout=2))
    assert first_line(ecs, polite) == "up"  # lines come while it runs
    left = int(first_line(ecs, stubborn))
    for arn in (polite, stubborn):
        stopped = ecs.client.stop_task(cluster="lake", task=arn, reason="enough")["task"]
        assert (stopped["desiredStatus"], stopped["stopCode"]) == ("STOPPED", "UserInitiated")
    task = ecs.until(polite, "STOPPED")
    assert (task["stopCode"], task["stoppedReason"], task["containers"][0]["exitCode"]) == (
        "UserInitiated",
        "enough",
        5,
    )
    assert ecs.lines(task) == ["up", "bye"]
    task = ecs.until(stubborn, "STOPPED")
    assert task["containers"][0]["exitCode"] == 137
    assert 2 <= (task["stoppedAt"] - task["stoppingAt"]).total_seconds() < 6
    assert wait_gone({left}) == set()


def test_beyond_capacity_it_is_a_failure_that_passes(ecs: Ecs, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    wait = f"import pathlib, time\nwhile not pathlib.Path({str(gate)!r}).exists():\n    time.sleep(0.05)"
    definition = ecs.register("python", "-c", wait)
    first = ecs.run(definition, count=10)
    second = ecs.run(definition, count=10, startedBy="second")
    assert (len(first["tasks"]), first["failures"]) == (10, [])
    assert len(second["tasks"]) == CAPACITY - 10
    full = "Capacity is unavailable at this time. Please try again later or in a different availability zone"
    assert [one["reason"] for one in second["failures"]] == [full] * (20 - CAPACITY)
    by_second = ecs.client.list_tasks(cluster="lake", startedBy="second")["taskArns"]
    assert by_second == [one["taskArn"] for one in second["tasks"]]
    seen = ecs.client.list_tasks(cluster="lake", family=definition.rpartition("/")[2].partition(":")[0], maxResults=7)
    assert len(seen["taskArns"]) == 7
    rest = ecs.client.list_tasks(
        cluster="lake", family=definition.rpartition("/")[2].partition(":")[0], nextToken=seen["nextToken"]
    )
    assert len(rest["taskArns"]) == CAPACITY - 7
    gate.touch()
    arns = [one["taskArn"] for one in first["tasks"] + second["tasks"]]
    ecs.client.get_waiter("tasks_stopped").wait(
        cluster="lake", tasks=arns, WaiterConfig={"Delay": 1, "MaxAttempts": 30}
    )
    assert {t["containers"][0]["exitCode"] for t in ecs.client.describe_tasks(cluster="lake", tasks=arns)["tasks"]} == {
        0
    }
    assert ecs.start(definition)


def test_a_token_starts_once(ecs: Ecs) -> None:
    definition = ecs.register("python", "-c", "")
    one = ecs.run(definition, clientToken="t-1", count=2)
    again = ecs.run(definition, clientToken="t-1", count=2)
    assert [t["taskArn"] for t in again["tasks"]] == [t["taskArn"] for t in one["tasks"]]
    code, _ = refused(lambda: ecs.run(definition, clientToken="t-1", count=1))
    assert code == "ConflictException"


def test_tags_come_from_both(ecs: Ecs) -> None:
    definition = ecs.register("python", "-c", "", tags=[{"key": "lake", "value": "a"}, {"key": "k", "value": "d"}])
    arn = ecs.start(definition, propagateTags="TASK_DEFINITION", tags=[{"key": "k", "value": "r"}])
    ecs.client.tag_resource(resourceArn=arn, tags=[{"key": "later", "value": "1"}])
    ecs.client.untag_resource(resourceArn=arn, tagKeys=["lake"])
    assert ecs.said(arn, include=("TAGS",))["tags"] == [{"key": "k", "value": "r"}, {"key": "later", "value": "1"}]
    assert "tags" not in ecs.said(arn)
    assert ecs.client.list_tags_for_resource(resourceArn=definition)["tags"][0] == {"key": "lake", "value": "a"}


def test_revisions(ecs: Ecs) -> None:
    given = ecs.definition(command=["python"])
    arns = [ecs.client.register_task_definition(**given)["taskDefinition"]["taskDefinitionArn"] for _ in range(3)]
    family = given["family"]
    assert [arn.rpartition(":")[2] for arn in arns] == ["1", "2", "3"]
    ecs.client.deregister_task_definition(taskDefinition=f"{family}:3")
    described = ecs.client.describe_task_definition(taskDefinition=family)["taskDefinition"]
    assert (described["revision"], described["cpu"], described["status"]) == (2, "256", "ACTIVE")
    assert ecs.client.list_task_definitions(familyPrefix=family, sort="DESC")["taskDefinitionArns"] == arns[1::-1]
    assert ecs.client.list_task_definitions(familyPrefix=family, status="INACTIVE")["taskDefinitionArns"] == arns[2:]
    assert refused(lambda: ecs.run(arns[2])) == ("ClientException", "TaskDefinition is inactive")


def test_what_aws_refuses_is_refused(ecs: Ecs) -> None:
    def register(**changed: Any) -> tuple[str, str]:
        return refused(lambda: ecs.client.register_task_definition(**ecs.definition(**changed)))

    definition = ecs.register("python")
    of_main = {"name": "main", "environment": [{"name": "X", "value": "x" * 8192}]}
    cases: list[tuple[tuple[str, str], str, str]] = [
        (
            register(cpu="256", memory="4096"),
            "ClientException",
            "No Fargate configuration exists for given values: 256 CPU, 4096",
        ),
        (register(cpu="2 vCPU", memory="3GB"), "ClientException", "values: 2048 CPU, 3072 memory"),
        (register(image=""), "ClientException", "Container.image should not be null or empty."),
        (register(networkMode="bridge"), "ClientException", "Fargate only supports network mode"),
        (
            register(volumes=[{"name": "v"}]),
            "ClientException",
            "assay-cloudsim does not do RegisterTaskDefinition.volumes",
        ),
        (
            register(dependsOn=[{"containerName": "x", "condition": "START"}]),
            "ClientException",
            "containerDefinitions.dependsOn",
        ),
        (register(executionRoleArn=""), "ClientException", "to have execution role ARN to support log driver awslogs"),
        (refused(lambda: ecs.run("none")), "ClientException", "TaskDefinition not found."),
        (refused(lambda: ecs.run(definition, cluster="none")), "ClusterNotFoundException", "Cluster not found."),
        (refused(lambda: ecs.run(definition, count=11)), "InvalidParameterException", "count"),
        (
            refused(lambda: ecs.run(definition, networkConfiguration={})),
            "InvalidParameterException",
            "Network Configuration must be provided",
        ),
        (
            refused(lambda: ecs.run(definition, launchType="EC2")),
            "InvalidParameterException",
            "No Container Instances were found",
        ),
        (
            refused(lambda: ecs.run(definition, enableExecuteCommand=True)),
            "ClientException",
            "RunTask.enableExecuteCommand",
        ),
        (
            refused(lambda: ecs.run(definition, overrides={"containerOverrides": [{"name": "x"}]})),
            "InvalidParameterException",
            "Override for container named x is not a container in the TaskDefinition.",
        ),
        (
            refused(lambda: ecs.run(definition, overrides={"containerOverrides": [of_main]})),
            "InvalidParameterException",
            "Container Overrides length must be at most 8192",
        ),
        (
            refused(lambda: ecs.run(definition, overrides={"cpu": "300"})),
            "ClientException",
            "values: 300 CPU, 512 memory",
        ),
        (
            refused(lambda: ecs.client.stop_task(cluster="lake", task="x")),
            "InvalidParameterException",
            "The referenced task was not found.",
        ),
        (
            refused(lambda: ecs.client.describe_tasks(cluster="lake", tasks=["x"] * 101)),
            "InvalidParameterException",
            "100",
        ),
        (refused(ecs.client.list_services), "UnsupportedOperationException", "ListServices"),
    ]
    for (code, said), wanted, words in cases:
        assert (code, words in said) == (wanted, True), said
    (failure,) = ecs.client.describe_tasks(cluster="lake", tasks=["x"])["failures"]
    assert (failure["reason"], failure["arn"].rpartition(":")[2]) == ("MISSING", "task/lake/x")
    by_provider = {"launchType": None, "capacityProviderStrategy": [{"capacityProvider": "FARGATE"}]}
    given = {name: value for name, value in by_provider.items() if value}
    answer = ecs.client.run_task(taskDefinition=definition, cluster="lake", networkConfiguration=NETWORK, **given)
    assert answer["tasks"][0]["capacityProviderName"] == "FARGATE"


def test_a_queue_hears_each_state(ecs: Ecs, started: Cloud) -> None:
    arn = ecs.until(ecs.start(ecs.register("python", "-c", "raise SystemExit(4)")), "STOPPED")["taskArn"]
    sqs = started.client("sqs")
    url = sqs.get_queue_url(QueueName="tasks")["QueueUrl"]
    heard: list[dict[str, Any]] = []
    end = time.monotonic() + 20
    while not (heard and heard[-1]["detail"]["lastStatus"] == "STOPPED"):
        assert time.monotonic() < end
        for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1).get("Messages", []):
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            event = json.loads(message["Body"])
            heard += [event] * (event["resources"] == [arn])
    heard.sort(key=lambda event: event["detail"]["version"])
    assert [event["detail"]["lastStatus"] for event in heard] == ["PROVISIONING", "PENDING", "RUNNING", "STOPPED"]
    last = heard[-1]
    assert (last["source"], last["detail-type"], last["account"]) == (
        "aws.ecs",
        "ECS Task State Change",
        started.account,
    )
    assert last["detail"]["containers"][0]["exitCode"] == 4
    assert last["detail"]["stoppedAt"].endswith("Z")


WRITE = """
import boto3
from botocore.exceptions import ClientError
s3 = boto3.client("s3")
for key in ("raw/a", "other/a"):
    try:
        s3.put_object(Bucket="bronze", Key=key, Body=b"1")
        print(key, "written")
    except ClientError as error:
        print(key, error.response["Error"]["Code"])
"""


def test_a_task_may_do_what_its_role_may(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    with clouds.cloud(tmp_path / "c", "--image", f"lake:1={tmp_path}", "--auth") as one:
        ecs = Ecs(one)
        one.client("s3").create_bucket(Bucket="bronze", CreateBucketConfiguration={"LocationConstraint": one.region})
        allowed = {"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::bronze/raw/*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
        one.client("iam").put_role_policy(RoleName="task", PolicyName="raw", PolicyDocument=policy)
        _, lines = ecs.done("python", "-c", WRITE, taskRoleArn=ROLE.format("task"))
        assert lines == ["raw/a written", "other/a AccessDenied"]


def test_tasks_end_with_the_cloud(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    with clouds.cloud(tmp_path / "c", "--image", f"lake:1={tmp_path}", "--throttle") as one:
        ecs = Ecs(one)
        arn = ecs.start(ecs.register("python", "-c", STUBBORN))
        left = int(first_line(ecs, arn))
        all_of_it = family(one.process.pid)
        assert left in all_of_it
        definition = ecs.register("none-such")
        codes: list[str] = []
        for _ in range(
            100
        ):  # each takes 10 of the bucket's 100 and is quicker than the half second that brings 10 back
            try:
                ecs.run(definition, count=10)
            except ClientError as error:
                codes.append(error.response["Error"]["Code"])
                break
        assert codes == ["ThrottlingException"]
        os.kill(one.process.pid, signal.SIGKILL)
        one.process.wait(20)
        assert wait_gone(all_of_it) == set()
