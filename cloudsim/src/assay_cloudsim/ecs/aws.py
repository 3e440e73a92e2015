"""The other services of this cloud, as ECS and its tasks reach them."""

import threading
from typing import Any

import botocore.session
from botocore.config import Config

from assay_cloudsim.variables import variables


class Aws:
    """Clients of the services, and what a task's process is told of them."""

    def __init__(self, account: str, region: str, endpoints: dict[str, str]) -> None:
        self.account = account
        self.region = region
        self._endpoints = endpoints
        self._lock = threading.Lock()
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        """The client of a service; threads may share it."""
        with self._lock:  # a session is for one thread at a time
            if service not in self._clients:
                self._clients[service] = botocore.session.get_session().create_client(
                    service,
                    region_name=self.region,
                    endpoint_url=self._endpoints[service],
                    aws_access_key_id="test",
                    aws_secret_access_key="test",
                    config=Config(max_pool_connections=50, retries={"total_max_attempts": 3, "mode": "standard"}),
                )
            return self._clients[service]

    def arn(self, service: str, rest: str) -> str:
        """An ARN of this account and region."""
        return f"arn:aws:{service}:{self.region}:{self.account}:{rest}"

    def environment(self) -> dict[str, str]:
        """The variables by which a program finds this cloud in place of AWS."""
        return variables(self._endpoints) | {
            "AWS_DEFAULT_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE",
            "AWS_REGION": self.region,
        }
