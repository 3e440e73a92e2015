"""Commands of assay as Fargate tasks, by a task definition that is registered already: started, waited for, and why one failed."""

import os
import re
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any
from uuid import uuid4

from botocore import exceptions

from assay.errors import AssayError, LakeBusy, SettingsError, UsageError, of_code
from assay.ports import Job
from assay.spoken import printable
from assay.targets.aws.clients import Clients, code_of, errors
from assay.targets.aws.emf import MARK, METRICS

RATE = 20
"""Tasks a second that Fargate starts: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/throttling.html."""
TOGETHER, DESCRIBED, OVERRIDES = 10, 100, 8192
"""Tasks of one RunTask, tasks of one DescribeTasks, characters of a task's overrides."""
PAUSE, LONGEST = 1.0, 15.0  # seconds between two looks, growing
START = 600.0  # seconds that a task may take until its command runs
ROOM = 1800.0  # seconds that capacity is waited for
SETTLED = 60.0  # seconds after which DescribeTasks knows what RunTask started
LATE = 2.0  # seconds that the last lines of a log may come after the task's end
LINES = 20
_BEFORE = {"PROVISIONING", "PENDING", "ACTIVATING"}
_FULL = re.compile(r"(?i)capacity is unavailable|reached the limit|RESOURCE:|throttl|rate exceeded")
_HIDDEN = (
    (re.compile(r"(?i)((?:key|token|passw(?:or)?d|secret|authorization|signature|credential)[\w-]*[\"']?\s*[=:]\s*(?:(?:bearer|basic)\s+)?[\"']?)[^\s\"'&,;]+"), r"\1***"),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), "***"),
    (re.compile(r"(://[^/\s:@]*:)[^/\s@]+@"), r"\1***@"),
)  # fmt: skip


class Bucket:
    """Lets RATE tasks a second start, as many at once; threads share it."""

    def __init__(self) -> None:
        self._next = 0.0
        self._lock = threading.Lock()

    def take(self, count: int) -> None:
        """Wait until so many may start."""
        with self._lock:
            now = time.monotonic()
            self._next = max(self._next, now - 1.0) + count / RATE
            pause = self._next - now
        time.sleep(max(0.0, pause))


@dataclass
class _Waited:
    """What is known of the jobs, by their number: which wait for room, which task is whose, what came of those that ended."""

    waiting: list[int]
    tasks: dict[str, int] = field(default_factory=dict)
    began: dict[str, float] = field(default_factory=dict)
    found: dict[int, AssayError | None] = field(default_factory=dict)


class EcsLauncher:
    """See `assay.ports.Launcher`: a task for each job, in the cluster and by the definition that `[aws]` names.

    None is ever registered here: a definition is infrastructure's, and its revisions are few. A definition without an
    entry point runs `assay`; run and step are in the task's environment (ASSAY_RUN, ASSAY_STEP), its tags, and `startedBy`.
    """

    def __init__(self, clients: Clients, env: str) -> None:
        aws = clients.aws
        for key in ("cluster", "task_definition", "subnets"):
            if not getattr(aws, key):
                raise SettingsError(f"aws.{key} of assay.toml is missing: tasks of ECS need it (docs/ecs.md)")
        self._clients, self._aws, self._env, self._bucket = clients, aws, env, Bucket()

    def run(self, jobs: Sequence[Job]) -> list[AssayError | None]:
        container = self._container()
        requests = [self._request(job, container) for job in jobs]
        state = _Waited(list(range(len(jobs))))
        until, pause = time.monotonic() + ROOM, PAUSE
        try:
            while state.waiting or state.tasks:
                before = len(state.waiting), len(state.tasks)
                self._start(state, requests)
                if state.waiting and time.monotonic() > until:
                    self._give_up(
                        state,
                        LakeBusy(
                            f"Fargate had no room in {ROOM:.0f} s; run it again later, or ask AWS for a higher quota"
                        ),
                    )
                if state.tasks:
                    time.sleep(pause)
                    self._look(state, container)
                elif state.waiting:
                    time.sleep(pause)
                pause = PAUSE if (len(state.waiting), len(state.tasks)) != before else min(LONGEST, pause * 1.5)
        except BaseException:  # whoever waits is told to stop, and so are they
            for arn in state.tasks:
                with suppress(exceptions.ClientError, exceptions.BotoCoreError):
                    self._ecs.stop_task(cluster=self._aws.cluster, task=arn, reason="who waited for it was stopped")
            raise
        return [state.found[n] for n in range(len(jobs))]

    @property
    def _ecs(self) -> Any:
        return self._clients("ecs")

    # ------------------------------------------------------------------ starting

    def _container(self) -> Mapping[str, Any]:
        """The container of the definition that does the work."""
        named = self._aws.task_definition
        with errors("ecs", f"task definition {named}"):
            try:
                found = self._ecs.describe_task_definition(taskDefinition=named)["taskDefinition"]
            except exceptions.ClientError as error:
                if code_of(error) != "ClientException":
                    raise
                found = {}
        if not found or found.get("status") != "ACTIVE":
            raise SettingsError(
                f"there is no active task definition {named}: register it, or mend [aws] task_definition of assay.toml"
            )
        containers = found["containerDefinitions"]
        one = next((c for c in containers if c.get("essential", True)), containers[0])
        return {**one, "memory": one.get("memory") or found.get("memory")}

    def _request(self, job: Job, container: Mapping[str, Any]) -> dict[str, Any]:
        """What RunTask is asked for a job."""
        words = list(job.command) if container.get("entryPoint") else ["assay", *job.command]
        told = {
            "ASSAY_ENV": self._env,
            "ASSAY_TARGET": "aws",
            METRICS: "emf",
            "ASSAY_RUN": job.run,
            "ASSAY_STEP": job.step,
        }
        override = {
            "name": container["name"], "command": words,
            "environment": [{"name": name, "value": value} for name, value in told.items() if value],
        }  # fmt: skip
        if len(str(override)) > OVERRIDES - 200:  # of RunTask's JSON, which is a little longer than what is counted
            raise UsageError(
                f"a command of {len(job.command)} words is too long for a task: ECS takes {OVERRIDES} characters"
            )
        network: dict[str, Any] = {"subnets": list(self._aws.subnets), "assignPublicIp": "DISABLED"}
        if self._aws.security_groups:
            network["securityGroups"] = list(self._aws.security_groups)
        tags = {"assay:run": job.run, "assay:step": job.step, "assay:env": self._env}
        return {
            "cluster": self._aws.cluster, "taskDefinition": self._aws.task_definition, "launchType": "FARGATE",
            "networkConfiguration": {"awsvpcConfiguration": network}, "overrides": {"containerOverrides": [override]},
            "startedBy": re.sub(r"[^A-Za-z0-9/_-]", "-", job.run)[:128],
            "tags": [{"key": key, "value": re.sub(r"[^\w .:/=+@-]", "_", value)[:256]} for key, value in tags.items() if value],
        }  # fmt: skip

    def _start(self, state: _Waited, requests: Sequence[dict[str, Any]]) -> None:
        """Start who waits, as many as there is room for; jobs that are alike share a call."""
        for some in _alike(state.waiting, requests):
            self._bucket.take(len(some))
            try:
                arns, reasons = self._asked(requests[some[0]], len(some))
            except AssayError as error:  # it is the same for all: those that run are waited for
                self._give_up(state, error)
                return
            for n, arn in zip(some, arns, strict=False):
                state.waiting.remove(n)
                state.tasks[arn], state.began[arn] = n, time.monotonic()
            if stays := [one for one in reasons if not _FULL.search(one)]:
                self._give_up(
                    state,
                    SettingsError(f"ECS did not start a task in cluster {self._aws.cluster}: {printable(stays[0])}"),
                )
            if reasons:
                return

    def _asked(self, request: dict[str, Any], count: int) -> tuple[list[str], list[str]]:
        """The tasks that RunTask started, and why it did not start the others."""
        cluster = self._aws.cluster
        with errors("ecs", f"cluster {cluster}"):
            try:
                # An answer that is lost is asked for again by botocore, with the same token: nothing starts twice.
                said = self._ecs.run_task(**request, count=count, clientToken=uuid4().hex)
            except exceptions.ClientError as error:
                code, text = code_of(error), str(error.response.get("Error", {}).get("Message", ""))
                if _FULL.search(f"{code} {text}"):
                    return [], [f"throttled: {text}"] if not _FULL.search(text) else [text]
                if code == "ClusterNotFoundException":
                    raise SettingsError(
                        f"there is no ECS cluster {cluster}: mend [aws] cluster of assay.toml"
                    ) from error
                if code in ("ClientException", "InvalidParameterException"):
                    raise SettingsError(
                        f"ECS refuses to run {self._aws.task_definition}: {printable(text)}; mend [aws] of assay.toml, or the definition"
                    ) from error
                raise
        return [one["taskArn"] for one in said["tasks"]], [
            str(one.get("reason", "")) for one in said.get("failures", ())
        ]

    def _give_up(self, state: _Waited, error: AssayError) -> None:
        state.found |= dict.fromkeys(state.waiting, error)
        state.waiting.clear()

    # ------------------------------------------------------------------ waiting

    def _look(self, state: _Waited, container: Mapping[str, Any]) -> None:
        """Take those that ended out of `tasks`."""
        arns = list(state.tasks)
        for first in range(0, len(arns), DESCRIBED):
            try:
                with errors("ecs", f"cluster {self._aws.cluster}"):
                    said = self._ecs.describe_tasks(cluster=self._aws.cluster, tasks=arns[first : first + DESCRIBED])
            except LakeBusy:  # they run on, and it may answer at the next look
                continue
            for task in said["tasks"]:
                self._looked(state, task, container)
            for arn in [one.get("arn") for one in said.get("failures", ())]:
                if arn in state.tasks and time.monotonic() - state.began[arn] > SETTLED:
                    state.found[state.tasks.pop(arn)] = LakeBusy(
                        f"ECS does not know task {_id(arn)} any more, nor how it ended; run it again: what it committed stays"
                    )

    def _looked(self, state: _Waited, task: Mapping[str, Any], container: Mapping[str, Any]) -> None:
        arn, status = task["taskArn"], task["lastStatus"]
        if status == "STOPPED":
            n = state.tasks.pop(arn)
            if task.get("stopCode") == "TaskFailedToStart" and _FULL.search(task.get("stoppedReason", "")):
                state.waiting.append(n)
            else:
                state.found[n] = self._why(task, container)
        elif status in _BEFORE and time.monotonic() - state.began[arn] > START:
            with errors("ecs", f"task {_id(arn)}"):
                self._ecs.stop_task(
                    cluster=self._aws.cluster, task=arn, reason=f"it did not start within {START:.0f} s"
                )
            state.found[state.tasks.pop(arn)] = LakeBusy(
                f"task {_id(arn)} did not start within {START:.0f} s ({status}), and was stopped; run it again. If it stays so, who owns the network "
                "must give [aws] subnets a way to the image's registry, Secrets Manager and CloudWatch Logs"
            )

    # ------------------------------------------------------------------ why

    def _why(self, task: Mapping[str, Any], container: Mapping[str, Any]) -> AssayError | None:
        """Why a task failed, as an error of who must act; None if it did its work.

        Its words: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html.
        """
        own: Mapping[str, Any] = next((one for one in task["containers"] if one["name"] == container["name"]), {})
        code, stop = own.get("exitCode"), task.get("stopCode", "")
        said = printable(" ".join(filter(None, (task.get("stoppedReason", ""), own.get("reason", "")))))
        name = f"task {_id(task['taskArn'])}"
        if code == 0:
            return None
        if stop in ("SpotInterruption", "TerminationNotice"):
            return LakeBusy(
                f"{name} was taken away by AWS ({stop}); run it again: what it committed stays",
                *self._lines(task, container),
            )
        if stop == "UserInitiated":
            return AssayError(
                f"{name} was stopped by a person or a program ({said}): ask whoever did; run again, it goes on with what is missing",
                *self._lines(task, container),
            )
        if "OutOfMemory" in said or code == 137:
            return SettingsError(
                f"{name} was killed ({said or 'exit code 137'}): it needs more memory than the {container.get('memory')} MiB of {self._aws.task_definition}. "
                "Who owns the definition must give it more, or the lake's owner set [lake] memory lower; as it is, it fails again",
                *self._lines(task, container),
            )
        if code is None:
            return self._unstarted(name, said)
        return self._failed(name, code, self._lines(task, container))

    def _unstarted(self, name: str, said: str) -> AssayError:
        definition = self._aws.task_definition
        if "CannotPullContainer" in said:
            return SettingsError(
                f"{name}: the image of {definition} cannot be pulled ({said}); who owns the definition must mend image, registry's policy or network; as it is, it fails again"
            )
        if "ResourceInitializationError" in said and "secret" in said:
            return SettingsError(
                f"{name}: a secret of {definition} is missing or refused ({said}); who owns it must put it into Secrets Manager, or allow the execution role to read it"
            )
        if "assume the role" in said:
            return SettingsError(
                f"{name}: {said}; who owns the role of {definition} must let ecs-tasks.amazonaws.com assume it"
            )
        if re.search(
            r"CannotStartContainer|CannotCreateContainer|ResourceInitializationError|CannotInspectContainer", said
        ):
            return SettingsError(
                f"{name} could not begin ({said}); who owns {definition} must mend it; as it is, it fails again"
            )
        return LakeBusy(f"{name} ended before its command began ({said or 'AWS says no reason'}); run it again")

    def _failed(self, name: str, code: int, lines: Sequence[str]) -> AssayError:
        """As the command itself says it: its error stands in its last lines, by name."""
        told = f"{name} ended with exit code {code}"
        if code > 128:
            return LakeBusy(f"{told}: it was ended by a signal; run it again", *lines)
        for line in reversed(lines):
            kind = next((one for one in _kinds(AssayError) if line.startswith(f"{one.__name__}: ")), None)
            if kind and kind.exit_code == code:
                return kind(f"{line.partition(': ')[2]} ({told})", *(one for one in lines if one != line))
        return of_code(code)(told, *lines)

    def _lines(self, task: Mapping[str, Any], container: Mapping[str, Any]) -> list[str]:
        """The last lines that a task said, without what looks like a secret; why not, if they cannot be read."""
        log = container.get("logConfiguration", {})
        options = log.get("options", {})
        group = self._aws.log_group or options.get("awslogs-group", "")
        if log.get("logDriver") != "awslogs" or not options.get("awslogs-stream-prefix"):
            return [
                "its lines are not in CloudWatch Logs: the definition has no log driver awslogs with a stream prefix"
            ]
        stream = f"{options['awslogs-stream-prefix']}/{container['name']}/{_id(task['taskArn'])}"
        try:
            for again in (True, False):
                said = self._clients("logs").get_log_events(
                    logGroupName=group, logStreamName=stream, limit=LINES, startFromHead=False
                )
                if said["events"] or not again:
                    break
                time.sleep(LATE)
        except (exceptions.ClientError, exceptions.BotoCoreError) as error:
            return [
                f"its lines could not be read from {group} ({code_of(error) if isinstance(error, exceptions.ClientError) else type(error).__name__})"
            ]
        return [hidden(printable(one["message"])) for one in said["events"] if not one["message"].startswith(MARK)]


def hidden(line: str) -> str:
    """A line without this process's own secrets, and without what follows words such as `key=` or `token:`."""
    for name, value in os.environ.items():
        if name.startswith("ASSAY_SECRET_") and len(value) > 3:
            line = line.replace(value, "***")
    for pattern, instead in _HIDDEN:
        line = pattern.sub(instead, line)
    return line


def _alike(waiting: Iterable[int], requests: Sequence[dict[str, Any]]) -> list[list[int]]:
    """Jobs that wait, those that are alike together, TOGETHER at most."""
    ordered = sorted(waiting, key=lambda n: (str(requests[n]), n))
    groups = [list(some) for _, some in groupby(ordered, lambda n: str(requests[n]))]
    parts = [some[n : n + TOGETHER] for some in groups for n in range(0, len(some), TOGETHER)]
    return sorted(parts)


def _kinds(kind: type[AssayError]) -> list[type[AssayError]]:
    return [kind, *(one for below in kind.__subclasses__() for one in _kinds(below))]


def _id(arn: str) -> str:
    return arn.rpartition("/")[2]
