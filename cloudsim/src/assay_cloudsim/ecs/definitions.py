"""Task definitions: what Fargate takes and this machine can do, else the error that ECS has for it."""

import re
import time
from typing import Any

from assay_cloudsim.ecs.aws import Aws
from assay_cloudsim.ecs.wire import client_error, invalid, refuse_beyond

_GB = 1024
SIZES = {
    256: [512, _GB, 2 * _GB],
    512: [n * _GB for n in range(1, 5)],
    1024: [n * _GB for n in range(2, 9)],
    2048: [n * _GB for n in range(4, 17)],
    4096: [n * _GB for n in range(8, 31)],
    8192: [n * _GB for n in range(16, 61, 4)],
    16384: [n * _GB for n in range(32, 121, 8)],
}
"""Memory in MiB by CPU units: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-cpu-memory-error.html."""

_NO_EFFECT = {"runtimePlatform", "ephemeralStorage"}
_TASK = {
    *("family", "taskRoleArn", "executionRoleArn", "networkMode", "containerDefinitions", "requiresCompatibilities"),
    *("cpu", "memory", "tags", *_NO_EFFECT),
}
_CONTAINER = {
    *("name", "image", "cpu", "memory", "memoryReservation", "essential", "entryPoint", "command", "environment"),
    *("secrets", "stopTimeout", "logConfiguration", "portMappings", "readonlyRootFilesystem"),
}
_LOG_OPTIONS = {
    "awslogs-group",
    "awslogs-region",
    "awslogs-stream-prefix",
    "awslogs-create-group",
    "mode",
    "max-buffer-size",
}
_FAMILY = re.compile(r"[A-Za-z0-9_-]{1,255}")


def size(cpu: str | None, memory: str | None) -> tuple[str, str]:
    """CPU units and MiB, of which Fargate has a configuration."""
    for name, value in (("cpu", cpu), ("memory", memory)):
        if not value:
            raise client_error(f"Fargate requires that '{name}' be defined at the task level.")
    units, mebibytes = _units(cpu or "", "vcpu", "cpu"), _units(memory or "", "gb", "memory")
    if mebibytes not in SIZES.get(units, []):
        raise client_error(
            f"No Fargate configuration exists for given values: {units} CPU, {mebibytes} memory. "
            "See the Amazon ECS documentation for the valid values."
        )
    return str(units), str(mebibytes)


def _units(text: str, unit: str, name: str) -> int:
    found = re.fullmatch(rf"(\d+(?:\.\d+)?) ?({unit})?", text.strip().lower())
    if not found or (not found[2] and "." in found[1]):
        raise client_error(f"Invalid '{name}' setting for task.")
    return round(float(found[1]) * 1024) if found[2] else int(found[1])


class Definitions:
    """The families and their revisions; the caller holds the lock."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws
        self._families: dict[str, list[dict[str, Any]]] = {}

    def register(self, given: dict[str, Any]) -> dict[str, Any]:
        """A new revision of a family."""
        if not _FAMILY.fullmatch(given.get("family", "")):
            raise client_error("Family should be 1 to 255 letters, digits, hyphens and underscores.")
        refuse_beyond(_TASK, given, "RegisterTaskDefinition")
        if given.get("requiresCompatibilities") != ["FARGATE"]:
            raise client_error('assay-cloudsim runs on Fargate only: requiresCompatibilities must be ["FARGATE"]')
        if given.get("networkMode") != "awsvpc":
            raise client_error("Fargate only supports network mode ‘awsvpc’.")
        cpu, memory = size(given.get("cpu"), given.get("memory"))
        containers = given.get("containerDefinitions") or []
        if not containers:
            raise client_error("Container list cannot be empty.")
        if len(containers) > 1:
            raise client_error("assay-cloudsim runs one container in a task")
        _container(containers[0], given, self._aws.region)
        revisions = self._families.setdefault(given["family"], [])
        kept = {name: value for name, value in given.items() if name != "tags"}
        revisions.append(
            kept
            | {
                "taskDefinitionArn": self._aws.arn("ecs", f"task-definition/{given['family']}:{len(revisions) + 1}"),
                "revision": len(revisions) + 1,
                "status": "ACTIVE",
                "compatibilities": ["EC2", "FARGATE"],
                "containerDefinitions": [{"essential": True, "environment": [], "cpu": 0, **containers[0]}],
                "cpu": cpu,
                "memory": memory,
                "registeredAt": time.time(),
                "volumes": [],
                "placementConstraints": [],
            }
        )
        return revisions[-1]

    def find(self, named: str) -> dict[str, Any] | None:
        """By `family` (its newest active revision), `family:revision` or ARN."""
        family, _, revision = named.rpartition("/")[2].partition(":")
        revisions = self._families.get(family, [])
        if not revision:
            return next((one for one in reversed(revisions) if one["status"] == "ACTIVE"), None)
        found = revisions[int(revision) - 1] if revision.isdigit() and 0 < int(revision) <= len(revisions) else None
        return found if found and (not named.startswith("arn:") or found["taskDefinitionArn"] == named) else None

    def deregister(self, named: str) -> dict[str, Any]:
        """No task is run from it any more; those that run stay."""
        found = self.find(named)
        if ":" not in named.rpartition("/")[2]:
            raise invalid("Revision is missing in the task definition: family:revision or an ARN is needed.")
        if found is None:
            raise client_error("The specified task definition does not exist.")
        if found["status"] == "ACTIVE":
            found.update(status="INACTIVE", deregisteredAt=time.time())
        return found

    def listed(self, prefix: str, status: str, *, newest_first: bool) -> list[str]:
        """ARNs, of one family if named, by family and revision."""
        return [
            one["taskDefinitionArn"]
            for family in sorted(self._families)
            if not prefix or family == prefix
            for one in (reversed(self._families[family]) if newest_first else self._families[family])
            if one["status"] == status
        ]


def _container(given: dict[str, Any], task: dict[str, Any], region: str) -> None:
    refuse_beyond(_CONTAINER, given, "containerDefinitions")
    for name in ("name", "image"):
        if not given.get(name):
            raise client_error(f"Container.{name} should not be null or empty.")
    if given.get("essential") is False:
        raise client_error("A task definition must have at least one essential container.")
    if not 2 <= given.get("stopTimeout", 30) <= 120:
        raise client_error("stopTimeout must be between 2 and 120 seconds on Fargate.")
    if given.get("secrets") and not task.get("executionRoleArn"):
        raise client_error(
            "When you are specifying container secrets, you must also specify a value for 'executionRoleArn'."
        )
    logs = given.get("logConfiguration")
    if not logs:
        return
    if logs["logDriver"] != "awslogs" or logs.get("secretOptions"):
        raise client_error("assay-cloudsim knows the log driver awslogs, without secretOptions")
    options = logs.get("options") or {}
    if missing := {"awslogs-group", "awslogs-region", "awslogs-stream-prefix"} - set(options):
        raise client_error(f"Log driver awslogs requires options: {', '.join(sorted(missing))}.")
    if options["awslogs-region"] != region:
        raise client_error(f"assay-cloudsim is one region: awslogs-region must be {region}")
    refuse_beyond(_LOG_OPTIONS, options, "logConfiguration.options")
    if not task.get("executionRoleArn"):
        raise client_error("Fargate requires task definition to have execution role ARN to support log driver awslogs.")
