"""Amazon ECS on Fargate, with processes of this machine in place of containers: the wire protocol is ECS's, the command really runs.

What AWS says is from the API's model in botocore and from
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html and its neighbours.
"""

import os
from pathlib import Path
from typing import Any

from assay_cloudsim.ecs import wire
from assay_cloudsim.ecs.api import Api
from assay_cloudsim.ecs.aws import Aws
from assay_cloudsim.ecs.running import Fargate


def serve(descriptor: int, port: int, options: dict[str, Any]) -> None:
    """Serve until SIGTERM; a task does not outlive it."""
    aws = Aws(options["account"], options["region"], options["endpoints"])
    directory = Path(os.environ["TASKS_DIR"])
    fargate = Fargate(aws, f"http://127.0.0.1:{port}", directory, options.get("images", {}), options.get("task_events"))
    api = Api(aws, fargate, capacity=options.get("capacity", 20), throttle=bool(options.get("throttle")))
    wire.serve(descriptor, api.operations(), fargate.look)
