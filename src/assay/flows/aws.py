"""What a lake's Prefect server holds where its flows run as tasks of ECS: pools for Prefect's ECS worker, and where bronze lies."""

from typing import Any

from assay.errors import SettingsError
from assay.settings import Aws, Settings


def of(settings: Settings) -> Aws:
    """`[aws]`, with what tasks need; SettingsError where it is missing."""
    aws = settings.aws
    for key in ("cluster", "task_definition", "subnets"):
        if aws is None or not getattr(aws, key):
            raise SettingsError(f"aws.{key} of assay.toml is missing: flows on AWS run as tasks of ECS (docs/ecs.md)")
    assert aws  # noqa: S101 - looked at above
    return aws


def template(aws: Aws) -> dict[str, Any]:
    """The base job template of a pool: RunTask by a definition that is registered, and none is registered by the worker.

    The password of the server is the definition's to give, as a secret; a worker with `prefect_api_auth_string_secret_arn`
    leaves it out of what everybody who may describe tasks can read.
    """
    network: dict[str, Any] = {"subnets": list(aws.subnets), "assignPublicIp": "DISABLED"}
    if aws.security_groups:
        network["securityGroups"] = list(aws.security_groups)
    container = {"command": "{{ command }}", "environment": "{{ env }}"}
    texts = {"type": "object", "additionalProperties": {"type": "string"}}
    return {
        "job_configuration": {
            "name": "{{ name }}", "command": "{{ command }}", "env": "{{ env }}", "labels": "{{ labels }}", "cluster": aws.cluster,
            "prefect_api_auth_string_secret_arn": "of the task definition",
            "task_run_request": {
                "cluster": aws.cluster, "taskDefinition": "{{ task_definition_arn }}", "launchType": "FARGATE", "tags": "{{ labels }}",
                "networkConfiguration": {"awsvpcConfiguration": network},
                "overrides": {"containerOverrides": [container], "cpu": "{{ cpu }}", "memory": "{{ memory }}"},
            },
        },
        "variables": {
            "type": "object",
            "properties": {
                "name": {"type": "string"}, "command": {"type": "string"}, "cpu": {"type": "string"}, "memory": {"type": "string"},
                "env": texts, "labels": texts, "task_definition_arn": {"type": "string", "default": aws.task_definition},
            },
        },
    }  # fmt: skip


def block(aws: Aws, env: str) -> dict[str, Any]:
    """Where bronze lies; credentials are those of whoever opens it."""
    return {"bucket_name": aws.bucket, "bucket_folder": f"{aws.prefix}/{env}/bronze"}
