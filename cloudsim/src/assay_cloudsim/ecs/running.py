"""Fargate on this machine: a task's container is a process in a session of its own, in an environment that holds nothing of ours."""

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from assay_cloudsim.ecs import container, logs, memory
from assay_cloudsim.ecs.aws import Aws

_LOOK = 0.25  # seconds between two looks at a container's memory
_GRACE = 30  # seconds between SIGTERM and SIGKILL, where the definition says nothing
_DRAIN = 2.0  # seconds for the last lines
_PATH = "/usr/local/bin:/usr/bin:/bin"
_OF_DESCRIPTION = (
    *("attachments", "availabilityZone", "clusterArn", "containers", "cpu", "createdAt", "desiredStatus", "group"),
    *("lastStatus", "launchType", "capacityProviderName", "memory", "overrides", "platformFamily", "platformVersion"),
    *(
        "pullStartedAt",
        "pullStoppedAt",
        "startedAt",
        "startedBy",
        "stopCode",
        "stoppedAt",
        "stoppedReason",
        "stoppingAt",
    ),
    *("executionStoppedAt", "taskArn", "taskDefinitionArn", "version", "enableExecuteCommand"),
)


class NotStarted(Exception):
    """Why a task stops before its container runs: what `stoppedReason` says."""


class Task:
    """One task: `said` is what DescribeTasks answers, `tags` too if asked for them."""

    def __init__(self, said: dict[str, Any], definition: dict[str, Any], tags: dict[str, str]) -> None:
        self.said = said
        self.definition = definition
        self.tags = tags
        self.id = said["taskArn"].rpartition("/")[2]
        self.secret = uuid.uuid4().hex  # of its metadata and credentials
        self.asked_to_stop = threading.Event()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def role(self) -> str | None:
        """Whose rights the container has."""
        return self.said["overrides"].get("taskRoleArn") or self.definition.get("taskRoleArn")

    @property
    def override(self) -> dict[str, Any]:
        """What the container is told otherwise for this task."""
        given: list[dict[str, Any]] = self.said["overrides"]["containerOverrides"]
        return given[0] if given else {}


class Fargate:
    """Runs tasks, each in a thread; `lock` is held wherever what a task says is read or changed."""

    def __init__(self, aws: Aws, url: str, directory: Path, images: dict[str, str], events: str | None) -> None:
        self._aws = aws
        self._url = url
        self._directory = directory
        self._images = images
        self.lock = threading.RLock()
        self._by_secret: dict[str, Task] = {}
        self._events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        if events:
            threading.Thread(target=self._tell, args=(events,), daemon=True).start()
        self._told = bool(events)

    def start(self, task: Task) -> None:
        """Let it run; returns at once."""
        with self.lock:
            self._by_secret[task.secret] = task
            self._event(task)
        threading.Thread(target=self._run, args=(task,), name=task.id, daemon=True).start()

    def stop(self, task: Task, reason: str) -> None:
        """SIGTERM now, SIGKILL after the definition's stopTimeout; returns at once."""
        with self.lock:
            if task.asked_to_stop.is_set() or task.said["lastStatus"] == "STOPPED":
                return
            self._say(
                task, desiredStatus="STOPPED", stopCode="UserInitiated", stoppedReason=reason, stoppingAt=time.time()
            )
            task.asked_to_stop.set()
            if task.process:
                task.process.terminate()
        threading.Thread(target=self._kill_later, args=(task,), daemon=True).start()

    def _kill_later(self, task: Task) -> None:
        time.sleep(task.definition["containerDefinitions"][0].get("stopTimeout", _GRACE))
        with self.lock:
            if task.process and task.process.poll() is None:
                os.killpg(task.process.pid, signal.SIGKILL)

    def _run(self, task: Task) -> None:
        try:
            code, reason = self._contain(task)
        except NotStarted as why:
            self._stopped(task, "TaskFailedToStart", str(why), {})
        except Exception as error:
            self._stopped(task, "TaskFailedToStart", f"assay-cloudsim failed: {type(error).__name__}: {error}", {})
            raise
        else:
            ended: dict[str, Any] = {} if code is None else {"exitCode": code}
            if reason:
                ended["reason"] = reason
            self._stopped(task, "EssentialContainerExited", "Essential container in task exited", ended)
        finally:
            shutil.rmtree(self._directory / task.id, ignore_errors=True)

    def _contain(self, task: Task) -> tuple[int | None, str]:
        """The exit code and the reason beside it; no code if the task was stopped before anything ran."""
        self._say(task, lastStatus="PENDING", pullStartedAt=time.time())
        given = task.definition["containerDefinitions"][0]
        if given["image"] not in self._images:
            raise NotStarted(
                "CannotPullContainerError: pull image manifest has been retried 1 time(s): "
                f"failed to resolve ref {given['image']}: {given['image']}: not found"
            )
        image = Path(self._images[given["image"]])
        self._say(task, pullStoppedAt=time.time())
        environment = self._environment(task, image)
        command = [*given.get("entryPoint", []), *(task.override.get("command") or given.get("command", []))]
        if not command:
            raise NotStarted("CannotCreateContainerError: Error response from daemon: no command specified")
        named = str(image / command[0]) if "/" in command[0] else command[0]
        found = shutil.which(named, path=environment["PATH"])
        if not found:
            raise NotStarted(
                "CannotStartContainerError: ResourceInitializationError: failed to create new container runtime task: "
                "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container "
                f'process: exec: "{command[0]}": executable file not found in $PATH: unknown'
            )
        stream = self._stream(task)
        return self._process(task, [found, *command[1:]], environment, image, stream)

    def _process(
        self, task: Task, command: list[str], environment: dict[str, str], image: Path, stream: logs.Stream | None
    ) -> tuple[int | None, str]:
        reading, writing = os.pipe()
        try:
            with self.lock:
                if task.asked_to_stop.is_set():
                    return None, ""
                first = [sys.executable, "-I", "-S", container.__file__]
                task.process = process = subprocess.Popen(
                    [*first, *command],
                    cwd=image,
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=writing,
                    stderr=writing,
                    start_new_session=True,
                )
                os.close(writing)
                writing = -1
                self._say(task, lastStatus="RUNNING", startedAt=time.time())
            reader = threading.Thread(target=logs.follow, args=(reading, stream), daemon=True)
            reader.start()
            killed = self._watch(task, process)
            with suppress(ProcessLookupError):  # what the command left behind
                os.killpg(process.pid, signal.SIGKILL)
            process.stdin.close()  # type: ignore[union-attr]
            reader.join(_DRAIN)
            if not reader.is_alive():
                os.close(reading)
            code = process.returncode
            why = "OutOfMemoryError: Container killed due to memory usage" if killed else ""
            return code if code >= 0 else 128 - code, why
        finally:
            if writing >= 0:
                os.close(reading)
                os.close(writing)

    def _watch(self, task: Task, process: subprocess.Popen[bytes]) -> bool:
        """Wait for its end; whether it was killed because it held more memory than the task has."""
        limit = int(task.said["memory"]) << 20
        hard = task.override.get("memory") or task.definition["containerDefinitions"][0].get("memory")
        limit = min(limit, hard << 20) if hard else limit
        while True:
            try:
                process.wait(_LOOK)
            except subprocess.TimeoutExpired:
                if not memory.surely_below(process.pid, limit) and memory.held(process.pid) > limit:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                    return True
            else:
                return False

    def _stream(self, task: Task) -> logs.Stream | None:
        given = task.definition["containerDefinitions"][0]
        if "logConfiguration" not in given:
            return None
        stream = logs.Stream(self._aws.client("logs"), given["logConfiguration"]["options"], given["name"], task.id)
        try:
            stream.open()
        except (ClientError, BotoCoreError) as error:
            raise NotStarted(
                "ResourceInitializationError: failed to validate logger args: create stream has been retried 1 times: "
                f"failed to create Cloudwatch log stream: {_said(error)} : exit status 1"
            ) from None
        return stream

    def _environment(self, task: Task, image: Path) -> dict[str, str]:
        given = task.definition["containerDefinitions"][0]
        own = self._directory / task.id
        for name in ("home", "tmp"):
            (own / name).mkdir(mode=0o700, parents=True)
        return {
            "HOME": str(own / "home"),
            "LANG": "C.UTF-8",
            "PATH": f"{image / 'bin'}:{_PATH}",
            "TMPDIR": str(own / "tmp"),
            **self._aws.environment(),
            "ECS_CONTAINER_METADATA_URI_V4": f"{self._url}/v4/{task.secret}",
            **self._credentials(task),
            **{one["name"]: one["value"] for one in given.get("environment", [])},
            **{one["name"]: self._secret(one["valueFrom"]) for one in given.get("secrets", [])},
            **{one["name"]: one["value"] for one in task.override.get("environment", [])},
        }

    def _credentials(self, task: Task) -> dict[str, str]:
        """Where the role's credentials are, which are tried once; without a role a container has none, as on AWS."""
        if not task.role:
            return {}
        try:
            role = self._aws.client("iam").get_role(RoleName=task.role.rpartition("/")[2])["Role"]
            trusted = role["Arn"] == task.role and _trusts_tasks(role["AssumeRolePolicyDocument"])
            if trusted:
                self._assumed(task)
        except (ClientError, BotoCoreError):
            trusted = False
        if not trusted:
            raise NotStarted(
                f"ECS was unable to assume the role '{task.role}' that was provided for this task. Please verify that the "
                "role being passed has the proper trust relationship and permissions and that your IAM user has "
                "permissions to pass this role."
            )
        return {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{self._url}/v2/credentials/{task.secret}"}

    def _assumed(self, task: Task) -> dict[str, Any]:
        got = self._aws.client("sts").assume_role(RoleArn=task.role, RoleSessionName=task.id)["Credentials"]
        return {
            "RoleArn": task.role,
            "AccessKeyId": got["AccessKeyId"],
            "SecretAccessKey": got["SecretAccessKey"],
            "Token": got["SessionToken"],
            "Expiration": got["Expiration"].astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }

    def _secret(self, named: str) -> str:
        """https://docs.aws.amazon.com/AmazonECS/latest/developerguide/secrets-envvar-secrets-manager.html, and -ssm-paramstore."""
        failed = "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: "
        if not named.startswith("arn:aws:secretsmanager:"):
            try:
                got = self._aws.client("ssm").get_parameter(
                    Name=named.partition(":parameter")[2] or named, WithDecryption=True
                )
            except (ClientError, BotoCoreError) as error:
                raise NotStarted(
                    f"{failed}unable to retrieve secrets from ssm: service call has been retried 1 time(s): "
                    f"invalid ssm parameters: {named}: {_said(error)}"
                ) from None
            return str(got["Parameter"]["Value"])
        failed += "unable to retrieve secret from asm: service call has been retried 1 time(s): "
        words = named.split(":")
        key, stage, version = (*words[7:], "", "", "")[:3]
        which = {"VersionStage": stage} if stage else {}
        which |= {"VersionId": version} if version else {}
        try:
            got = self._aws.client("secretsmanager").get_secret_value(SecretId=":".join(words[:7]), **which)
        except (ClientError, BotoCoreError) as error:
            raise NotStarted(f"{failed}failed to fetch secret {named} from secrets manager: {_said(error)}") from None
        text = str(got["SecretString"])
        if not key:
            return text
        try:
            value = json.loads(text)[key]
        except (ValueError, KeyError, TypeError):
            raise NotStarted(f"{failed}retrieved secret from Secrets Manager did not contain json key {key}") from None
        return value if isinstance(value, str) else json.dumps(value)

    def _say(self, task: Task, **changed: Any) -> None:
        with self.lock:
            before = task.said["lastStatus"], task.said["desiredStatus"]
            task.said.update(changed)
            if "lastStatus" in changed:
                task.said["containers"][0]["lastStatus"] = changed["lastStatus"]
            if (task.said["lastStatus"], task.said["desiredStatus"]) != before:
                task.said["version"] += 1
                self._event(task)

    def _stopped(self, task: Task, code: str, reason: str, ended: dict[str, Any]) -> None:
        with self.lock:
            now = time.time()
            if task.asked_to_stop.is_set():
                code, reason = task.said["stopCode"], task.said["stoppedReason"]
            task.said["containers"][0].update(ended)
            task.said.setdefault("stoppingAt", now)
            self._say(
                task,
                desiredStatus="STOPPED",
                lastStatus="STOPPED",
                stopCode=code,
                stoppedReason=reason,
                stoppedAt=now,
                executionStoppedAt=now,
            )
            self._by_secret.pop(task.secret, None)

    def look(self, path: str) -> dict[str, Any] | None:
        """What a task's container may ask: its credentials and the metadata of version 4."""
        words = path.strip("/").split("/")
        with self.lock:
            task = self._by_secret.get(words[-1]) or self._by_secret.get(words[1] if len(words) > 1 else "")
        if task is None:
            return None
        if words[:2] == ["v2", "credentials"] and len(words) == 3 and task.role:
            return self._assumed(task)
        if words[0] != "v4" or words[2:] not in ([], ["task"]):
            return None
        with self.lock:
            return _metadata(task, whole=words[2:] == ["task"])

    def _event(self, task: Task) -> None:
        """https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_task_events.html."""
        if not self._told:
            return
        detail = {
            name: _iso(value) if name.endswith("At") else value
            for name, value in describe(task).items()
            if name != "tags"
        }
        now = _iso(time.time())
        self._events.put(
            {
                "version": "0",
                "id": str(uuid.uuid4()),
                "detail-type": "ECS Task State Change",
                "source": "aws.ecs",
                "account": self._aws.account,
                "time": now[:19] + "Z",
                "region": self._aws.region,
                "resources": [task.said["taskArn"]],
                "detail": json.loads(json.dumps(detail | {"updatedAt": now})),
            }
        )

    def _tell(self, named: str) -> None:
        """Send the events to a queue, in order; the queue is made if it is a name."""
        client = self._aws.client("sqs")
        while True:
            event = self._events.get()
            try:
                url = named if named.startswith("http") else client.create_queue(QueueName=named)["QueueUrl"]
                client.send_message(QueueUrl=url, MessageBody=json.dumps(event))
            except (ClientError, BotoCoreError) as error:
                print(f"task events: {error}", flush=True)


def describe(task: Task, *, tags: bool = False) -> dict[str, Any]:
    """What DescribeTasks says of it; the caller holds the lock."""
    said = {name: task.said[name] for name in _OF_DESCRIPTION if name in task.said}
    said["containers"] = [dict(one) for one in said["containers"]]
    if tags:
        said["tags"] = [{"key": key, "value": value} for key, value in task.tags.items()]
    return said


def _metadata(task: Task, *, whole: bool) -> dict[str, Any]:
    """https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-metadata-endpoint-v4-fargate-response.html."""
    said, definition = task.said, task.definition
    limits = {"CPU": int(said["cpu"]) / 1024, "Memory": int(said["memory"])}
    own = {
        "DockerId": f"{task.id}-1",
        "Name": said["containers"][0]["name"],
        "DockerName": said["containers"][0]["name"],
        "Image": said["containers"][0]["image"],
        "Labels": {
            "com.amazonaws.ecs.cluster": said["clusterArn"],
            "com.amazonaws.ecs.container-name": said["containers"][0]["name"],
            "com.amazonaws.ecs.task-arn": said["taskArn"],
            "com.amazonaws.ecs.task-definition-family": definition["family"],
            "com.amazonaws.ecs.task-definition-version": str(definition["revision"]),
        },
        "DesiredStatus": said["desiredStatus"],
        "KnownStatus": said["lastStatus"],
        "Limits": {"CPU": definition["containerDefinitions"][0]["cpu"]},
        "CreatedAt": _iso(said["createdAt"]),
        "Type": "NORMAL",
        "ContainerARN": said["containers"][0]["containerArn"],
    }
    if "startedAt" in said:
        own["StartedAt"] = _iso(said["startedAt"])
    if not whole:
        return own
    return {
        "Cluster": said["clusterArn"],
        "TaskARN": said["taskArn"],
        "Family": definition["family"],
        "Revision": str(definition["revision"]),
        "DesiredStatus": said["desiredStatus"],
        "KnownStatus": said["lastStatus"],
        "Limits": limits,
        "AvailabilityZone": said["availabilityZone"],
        "LaunchType": "FARGATE",
        "Containers": [own],
    }


def _trusts_tasks(policy: dict[str, Any]) -> bool:
    """Whether a role's policy lets ECS assume it for a task."""
    return any(
        one["Effect"] == "Allow"
        and "sts:AssumeRole" in _several(one.get("Action"))
        and "ecs-tasks.amazonaws.com" in _several(one.get("Principal", {}).get("Service"))
        for one in _several(policy["Statement"])
    )


def _several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _said(error: Exception) -> str:
    if isinstance(error, ClientError):
        return f"{error.response['Error']['Code']}: {error.response['Error'].get('Message', '')}"
    return str(error)
