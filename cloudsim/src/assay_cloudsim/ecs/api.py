"""ECS's operations on clusters, task definitions and tasks."""

import json
import re
import threading
import time
import uuid
from typing import Any

from assay_cloudsim.ecs.aws import Aws
from assay_cloudsim.ecs.definitions import Definitions, size
from assay_cloudsim.ecs.running import Fargate, Task, describe
from assay_cloudsim.ecs.wire import Operation, Refused, client_error, invalid, refuse_beyond

_KEPT = 3600  # seconds that a stopped task can still be described, as on AWS
_FULL = "Capacity is unavailable at this time. Please try again later or in a different availability zone"
_RUN = {
    *(
        "cluster",
        "taskDefinition",
        "count",
        "launchType",
        "capacityProviderStrategy",
        "networkConfiguration",
        "overrides",
    ),
    *("startedBy", "tags", "clientToken", "group", "platformVersion", "propagateTags", "enableECSManagedTags"),
}
_OVERRIDE = {"containerOverrides", "cpu", "memory", "taskRoleArn", "executionRoleArn"}
_CONTAINER_OVERRIDE = {"name", "command", "environment", "cpu", "memory", "memoryReservation"}

Answer = dict[str, Any]


class Bucket:
    """A token bucket: Fargate starts 100 tasks at once and 20 a second after that,
    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/throttling.html.
    """

    def __init__(self, burst: float = 100, rate: float = 20) -> None:
        self._burst, self._rate = burst, rate
        self._left, self._at = burst, time.monotonic()

    def take(self, count: int) -> bool:
        """Whether there were that many; the caller holds a lock."""
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < count:
            return False
        self._left -= count
        return True


class Api:
    """All that is known of clusters, definitions and tasks."""

    def __init__(self, aws: Aws, fargate: Fargate, *, capacity: int, throttle: bool) -> None:
        self._aws = aws
        self._fargate = fargate
        self._capacity = capacity
        self._bucket = Bucket() if throttle else None
        self._lock: threading.RLock = fargate.lock
        self._clusters: dict[str, dict[str, Any]] = {}
        self._definitions = Definitions(aws)
        self._tasks: dict[str, Task] = {}
        self._tokens: dict[tuple[str, str], tuple[str, Answer]] = {}
        self._tags: dict[str, dict[str, str]] = {}

    def operations(self) -> dict[str, Operation]:
        """By name; each is done alone."""
        known = (
            *(self.create_cluster, self.describe_clusters, self.list_clusters),
            *(self.register_task_definition, self.describe_task_definition, self.deregister_task_definition),
            *(self.list_task_definitions, self.run_task, self.describe_tasks, self.list_tasks, self.stop_task),
            *(self.tag_resource, self.untag_resource, self.list_tags_for_resource),
        )
        return {"".join(word.title() for word in one.__name__.split("_")): self._alone(one) for one in known}

    def _alone(self, operation: Operation) -> Operation:
        def done(given: dict[str, Any]) -> Answer:
            with self._lock:
                return operation(given)

        return done

    # clusters

    def create_cluster(self, given: dict[str, Any]) -> Answer:
        refuse_beyond({"clusterName", "tags", "capacityProviders", "settings"}, given, "CreateCluster")
        name = given.get("clusterName", "default")
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,255}", name):
            raise invalid("Cluster name should be 1 to 255 letters, digits, hyphens and underscores.")
        if other := set(given.get("capacityProviders", [])) - {"FARGATE", "FARGATE_SPOT"}:
            raise invalid(f"The specified capacity provider {sorted(other)[0]!r} was not found.")
        if name not in self._clusters:
            arn = self._aws.arn("ecs", f"cluster/{name}")
            self._clusters[name] = {
                "clusterArn": arn,
                "clusterName": name,
                "capacityProviders": given.get("capacityProviders", []),
                "settings": given.get("settings", []),
            }
            self._tags[arn] = _tags(given.get("tags", []))
        return {"cluster": self._cluster_said(name, tags=True)}

    def describe_clusters(self, given: dict[str, Any]) -> Answer:
        refuse_beyond({"clusters", "include"}, given, "DescribeClusters")
        found, failures = [], []
        for named in given.get("clusters") or ["default"]:
            name = named.rpartition("/")[2]
            if name in self._clusters:
                found.append(self._cluster_said(name, tags="TAGS" in given.get("include", [])))
            else:
                failures.append({"arn": self._aws.arn("ecs", f"cluster/{name}"), "reason": "MISSING"})
        return {"clusters": found, "failures": failures}

    def list_clusters(self, given: dict[str, Any]) -> Answer:
        return _page([one["clusterArn"] for one in self._clusters.values()], given, "clusterArns")

    def _cluster_said(self, name: str, *, tags: bool) -> dict[str, Any]:
        cluster = self._clusters[name]
        states = [
            one.said["lastStatus"] for one in self._tasks.values() if one.said["clusterArn"] == cluster["clusterArn"]
        ]
        said = cluster | {
            "status": "ACTIVE",
            "registeredContainerInstancesCount": 0,
            "runningTasksCount": states.count("RUNNING"),
            "pendingTasksCount": states.count("PENDING") + states.count("PROVISIONING"),
            "activeServicesCount": 0,
            "statistics": [],
        }
        return said | ({"tags": _listed(self._tags[cluster["clusterArn"]])} if tags else {})

    def _cluster(self, given: dict[str, Any]) -> str:
        """The ARN of the one that is meant."""
        named = given.get("cluster", "default")
        cluster = self._clusters.get(named.rpartition("/")[2])
        if cluster is None or (named.startswith("arn:") and named != cluster["clusterArn"]):
            raise Refused("ClusterNotFoundException", "Cluster not found.")
        return str(cluster["clusterArn"])

    # task definitions

    def register_task_definition(self, given: dict[str, Any]) -> Answer:
        tags = _tags(given.get("tags", []))
        done = self._definitions.register(given)
        self._tags[done["taskDefinitionArn"]] = tags
        return {"taskDefinition": done, "tags": _listed(tags)}

    def describe_task_definition(self, given: dict[str, Any]) -> Answer:
        found = self._definitions.find(given["taskDefinition"])
        if found is None:
            raise client_error("Unable to describe task definition.")
        tags = {"tags": _listed(self._tags[found["taskDefinitionArn"]])} if "TAGS" in given.get("include", []) else {}
        return {"taskDefinition": found, **tags}

    def deregister_task_definition(self, given: dict[str, Any]) -> Answer:
        return {"taskDefinition": self._definitions.deregister(given["taskDefinition"])}

    def list_task_definitions(self, given: dict[str, Any]) -> Answer:
        found = self._definitions.listed(
            given.get("familyPrefix", ""), given.get("status", "ACTIVE"), newest_first=given.get("sort") == "DESC"
        )
        return _page(found, given, "taskDefinitionArns")

    # tasks

    def run_task(self, given: dict[str, Any]) -> Answer:
        refuse_beyond(_RUN, given, "RunTask")
        cluster = self._cluster(given)
        token = given.get("clientToken")
        asked = json.dumps(given, sort_keys=True)
        if token and (cluster, token) in self._tokens:
            before, answer = self._tokens[cluster, token]
            if before != asked:
                arns = [one["taskArn"] for one in answer["tasks"]]
                raise Refused("ConflictException", "The client token was used with other parameters.", resourceIds=arns)
            tasks = [self._tasks[one["taskArn"]] for one in answer["tasks"] if one["taskArn"] in self._tasks]
            return {"tasks": [describe(one, tags=True) for one in tasks], "failures": answer["failures"]}
        definition = self._definitions.find(given["taskDefinition"])
        if definition is None:
            raise client_error("TaskDefinition not found.")
        if definition["status"] != "ACTIVE":
            raise client_error("TaskDefinition is inactive")
        launch = self._launch(given, cluster)
        network = given.get("networkConfiguration", {}).get("awsvpcConfiguration")
        if network is None:
            raise invalid("Network Configuration must be provided when networkMode 'awsvpc' is specified.")
        if not network["subnets"]:
            raise invalid("subnets can not be empty.")
        overrides = _overrides(given.get("overrides", {}), definition)
        cpu, memory = size(overrides.get("cpu") or definition["cpu"], overrides.get("memory") or definition["memory"])
        count = given.get("count", 1)
        if not 1 <= count <= 10:
            raise invalid("count must be between 1 and 10.")
        if len(given.get("startedBy", "")) > 128:
            raise invalid("startedBy must be at most 128 characters long.")
        tags = self._run_tags(given, definition, cluster)
        if self._bucket and not self._bucket.take(count):
            raise Refused("ThrottlingException", "Rate exceeded")
        self._forget()
        running = sum(one.said["lastStatus"] != "STOPPED" for one in self._tasks.values())
        started = min(count, max(0, self._capacity - running))
        shared = {
            **launch,
            "clusterArn": cluster,
            "taskDefinitionArn": definition["taskDefinitionArn"],
            "overrides": overrides,
            "cpu": cpu,
            "memory": memory,
            "group": given.get("group") or f"family:{definition['family']}",
            "startedBy": given.get("startedBy", ""),
            "platformVersion": "1.4.0",
            "platformFamily": "Linux",
            "availabilityZone": f"{self._aws.region}a",
            "enableExecuteCommand": False,
            "attachments": [],
        }
        tasks = [self._start(shared, definition, tags) for _ in range(started)]
        answer = {
            "tasks": [describe(one, tags=True) for one in tasks],
            "failures": [{"reason": _FULL}] * (count - started),
        }
        if token:
            self._tokens[cluster, token] = asked, answer
        return answer

    def _launch(self, given: dict[str, Any], cluster: str) -> dict[str, str]:
        strategy = given.get("capacityProviderStrategy", [])
        if strategy and given.get("launchType"):
            raise invalid(
                "Specifying both a launch type and capacity provider strategy is not supported. Remove one and try again."
            )
        if strategy:
            of_cluster = self._clusters[cluster.rpartition("/")[2]]["capacityProviders"]
            if {one["capacityProvider"] for one in strategy} - set(of_cluster):
                raise invalid(
                    "The specified capacity provider strategy cannot contain a capacity provider that is not associated "
                    "with the cluster. Associate the capacity provider with the cluster and try again."
                )
            return {"launchType": "FARGATE", "capacityProviderName": strategy[0]["capacityProvider"]}
        if given.get("launchType") != "FARGATE":
            raise invalid("No Container Instances were found in your cluster.")
        return {"launchType": "FARGATE"}

    def _run_tags(self, given: dict[str, Any], definition: dict[str, Any], cluster: str) -> dict[str, str]:
        tags: dict[str, str] = {}
        if given.get("propagateTags") == "TASK_DEFINITION":
            tags |= self._tags[definition["taskDefinitionArn"]]
        elif given.get("propagateTags") not in {None, "NONE"}:
            raise invalid("propagateTags of RunTask is TASK_DEFINITION or NONE.")
        if given.get("enableECSManagedTags"):
            tags["aws:ecs:clusterName"] = cluster.rpartition("/")[2]
        return tags | _tags(given.get("tags", []))

    def _start(self, shared: dict[str, Any], definition: dict[str, Any], tags: dict[str, str]) -> Task:
        name = shared["clusterArn"].rpartition("/")[2]
        task_id = uuid.uuid4().hex
        arn = self._aws.arn("ecs", f"task/{name}/{task_id}")
        given = definition["containerDefinitions"][0]
        container = {
            "containerArn": self._aws.arn("ecs", f"container/{name}/{task_id}/{uuid.uuid4()}"),
            "taskArn": arn,
            "name": given["name"],
            "image": given["image"],
            "lastStatus": "PENDING",
            "networkInterfaces": [],
            "cpu": str(given["cpu"]),
        }
        said = shared | {
            "taskArn": arn,
            "containers": [container],
            "createdAt": time.time(),
            "desiredStatus": "RUNNING",
            "lastStatus": "PROVISIONING",
            "version": 1,
        }
        task = self._tasks[arn] = Task(said, definition, dict(tags))
        self._fargate.start(task)
        return task

    def describe_tasks(self, given: dict[str, Any]) -> Answer:
        cluster = self._cluster(given)
        if not 1 <= len(given["tasks"]) <= 100:
            raise invalid("Tasks can not be empty." if not given["tasks"] else "Tasks cannot be more than 100.")
        self._forget()
        found, failures = [], []
        for named in given["tasks"]:
            task = self._task(cluster, named)
            if task:
                found.append(describe(task, tags="TAGS" in given.get("include", [])))
            else:
                failures.append({"arn": self._task_arn(cluster, named), "reason": "MISSING"})
        return {"tasks": found, "failures": failures}

    def list_tasks(self, given: dict[str, Any]) -> Answer:
        known = {"cluster", "family", "startedBy", "desiredStatus", "launchType", "maxResults", "nextToken"}
        refuse_beyond(known, given, "ListTasks")
        cluster = self._cluster(given)
        self._forget()
        found = [
            arn
            for arn, one in self._tasks.items()
            if one.said["clusterArn"] == cluster
            and one.said["desiredStatus"] == given.get("desiredStatus", "RUNNING")
            and given.get("family") in {None, one.definition["family"]}
            and given.get("startedBy") in {None, one.said["startedBy"]}
            and given.get("launchType") in {None, one.said["launchType"]}
        ]
        return _page(found, given, "taskArns")

    def stop_task(self, given: dict[str, Any]) -> Answer:
        task = self._task(self._cluster(given), given["task"])
        if task is None:
            raise invalid("The referenced task was not found.")
        self._fargate.stop(task, given.get("reason") or "Task stopped by user")
        return {"task": describe(task)}

    def _task(self, cluster: str, named: str) -> Task | None:
        return self._tasks.get(self._task_arn(cluster, named))

    def _task_arn(self, cluster: str, named: str) -> str:
        return named if named.startswith("arn:") else self._aws.arn("ecs", f"task/{cluster.rpartition('/')[2]}/{named}")

    def _forget(self) -> None:
        old = time.time() - _KEPT
        for arn in [arn for arn, one in self._tasks.items() if one.said.get("stoppedAt", old) < old]:
            del self._tasks[arn]

    # tags

    def tag_resource(self, given: dict[str, Any]) -> Answer:
        tags = self._tagged(given) | _tags(given["tags"])
        if len(tags) > 50:
            raise invalid("A resource has at most 50 tags.")
        self._tagged(given).update(tags)
        return {}

    def untag_resource(self, given: dict[str, Any]) -> Answer:
        for key in given["tagKeys"]:
            self._tagged(given).pop(key, None)
        return {}

    def list_tags_for_resource(self, given: dict[str, Any]) -> Answer:
        return {"tags": _listed(self._tagged(given))}

    def _tagged(self, given: dict[str, Any]) -> dict[str, str]:
        arn = given["resourceArn"]
        if arn in self._tasks:
            return self._tasks[arn].tags
        if arn not in self._tags:
            raise invalid("The specified resource was not found.")
        return self._tags[arn]


def _overrides(given: dict[str, Any], definition: dict[str, Any]) -> dict[str, Any]:
    if len(json.dumps(given)) > 8192:
        raise invalid("Container Overrides length must be at most 8192")
    for name, value in given.items():
        if name not in _OVERRIDE and value:
            raise invalid(f"assay-cloudsim does not do overrides.{name}: nothing would come of it")
    named = definition["containerDefinitions"][0]["name"]
    containers = given.get("containerOverrides", [])
    for one in containers:
        if one.get("name") != named:
            raise invalid(f"Override for container named {one.get('name')} is not a container in the TaskDefinition.")
        for name, value in one.items():
            if name not in _CONTAINER_OVERRIDE and value:
                raise invalid(f"assay-cloudsim does not do containerOverrides.{name}: nothing would come of it")
    if len(containers) > 1:
        raise invalid(f"There is more than one override for the container {named}.")
    return given | {"containerOverrides": containers}


def _tags(given: list[dict[str, str]]) -> dict[str, str]:
    tags = {one.get("key", ""): one.get("value", "") for one in given}
    if len(tags) != len(given) or not all(tags) or len(tags) > 50:
        raise invalid("Tags are at most 50, and each key comes once.")
    for key, value in tags.items():
        if len(key) > 128 or len(value) > 256 or key.lower().startswith("aws:"):
            raise invalid(f"The tag {key[:128]!r} cannot be: 128 characters of key, 256 of value, no key with aws:.")
    return tags


def _listed(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in tags.items()]


def _page(found: list[str], given: dict[str, Any], name: str) -> Answer:
    most = given.get("maxResults", 100)
    if not 1 <= most <= 100:
        raise invalid("maxResults must be between 1 and 100.")
    start = given.get("nextToken", "0")
    if not start.isdigit():
        raise invalid("Invalid token: the nextToken of an answer is what to give.")
    at = int(start)
    more = {"nextToken": str(at + most)} if at + most < len(found) else {}
    return {name: found[at : at + most], **more}
