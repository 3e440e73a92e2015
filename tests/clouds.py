"""The doubles of AWS for a test: started from this clone's code in the environment that `scripts/extras cloudsim` makes."""

import functools
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from ulid import ULID

from assay.settings import Aws, Settings
from assay.targets.aws import database, objects, provision, table
from assay.targets.aws.clients import Clients
from assay.targets.aws.dynamodb import DynamoLedger
from assay.targets.aws.s3 import S3Files

ROOT = Path(__file__).resolve().parents[1]
PYTHON = ROOT / ".venvs" / "cloudsim" / "bin" / "python"
ENDING = 30  # seconds


@dataclass(frozen=True)
class Cloud:
    """Where the services are. `process` is the one that started them all."""

    account: str
    region: str
    endpoints: dict[str, str]
    directory: Path
    process: subprocess.Popen[bytes]

    def client(self, service: str, **settings: Any) -> Any:
        """boto3's client of a service of this cloud; it reads no environment, and asks once."""
        session = boto3.session.Session(
            aws_access_key_id="test",
            aws_secret_access_key="test",
            region_name=self.region,
        )
        config = Config(retries={"max_attempts": 0}, s3={"addressing_style": "path"}, **settings)
        return session.client(service, endpoint_url=self.endpoints[service], config=config)


def command(*options: object) -> tuple[list[str], dict[str, str]]:
    """What runs `assay-cloudsim`, and its environment."""
    if not PYTHON.exists():
        pytest.fail("the doubles of AWS are not installed: run scripts/extras cloudsim")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "COVERAGE_"))}
    environment = kept | {"PYTHONPATH": str(ROOT / "cloudsim" / "src"), "A_SECRET": "of the user"}
    return [str(PYTHON), "-m", "assay_cloudsim", *map(str, options)], environment


@contextmanager
def cloud(directory: Path, *options: object) -> Iterator[Cloud]:
    """The services, started with `up`'s `options`; they end when this does, or when this process dies."""
    words, environment = command("up", "--tethered", "--directory", directory, *options)
    process = subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin
    assert process.stdout
    try:
        line = process.stdout.readline()
        assert line, f"assay-cloudsim ended with {process.wait(ENDING)}"
        told = json.loads(line)
        yield Cloud(told["account"], told["region"], told["endpoints"], directory, process)
    finally:
        process.stdin.close()
        process.stdout.close()
        try:
            process.wait(ENDING)
        finally:
            process.kill()
            process.wait()


_started = ExitStack()


@functools.cache
def shared() -> Cloud:
    """The doubles that all tests of this process share, so each names what it makes by itself; they end with the process."""
    return _started.enter_context(cloud(Path(_started.enter_context(tempfile.TemporaryDirectory())) / "c"))


def settings(root: Path, name: str = "") -> Settings:
    """A lake of a name that no other test has, whose bucket, table and databases are made."""
    told = shared()
    prefix = name or f"t{str(ULID()).lower()}"
    aws = Aws(told.region, told.account, "lake", prefix, endpoints=told.endpoints, emulated=True)
    made = Settings(root, prefix, "dev", root / "data" / "dev", aws=aws)
    provision.make(made, {})
    return made


def files(root: Path) -> S3Files:
    """Objects of a prefix that no other test has."""
    made = settings(root)
    assert made.aws
    return S3Files(Clients(made.aws), made.aws.bucket, objects(made.aws, "dev"), root, made.aws.account)


def ledger(made: Settings) -> DynamoLedger:
    """One more user of a lake's ledger, with connections of its own."""
    assert made.aws
    return DynamoLedger(Clients(made.aws), table(made.aws, made.env))


__all__ = ["Cloud", "cloud", "command", "database", "files", "ledger", "settings", "shared"]
