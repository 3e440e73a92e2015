"""Glue's catalog: an acknowledged commit is never lost, which moto's own lets happen."""

import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from threading import Barrier
from typing import Any

import boto3
import pyarrow as pa
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import CommitFailedException

from tests import clouds
from tests.clouds import Cloud

pytestmark = pytest.mark.slow

NAMES = (f"g{n}" for n in count())
WRITERS, APPENDS = 4, 3
CROWD, ROUNDS = 12, 40
ALONE = """
import socket, sys
from assay_cloudsim import glue
sys.setswitchinterval(1e-6)  # threads meet in every few bytecodes
with socket.socket() as bound:
    bound.bind(("127.0.0.1", 0)); bound.listen()
    print(bound.getsockname()[1], flush=True)
    glue.serve(bound.detach(), mended=sys.argv[1] == "mended")
"""


@contextmanager
def alone(how: str) -> Iterator[Any]:
    """Glue without the rest."""
    _, environment = clouds.command()
    with subprocess.Popen(
        [clouds.PYTHON, "-c", ALONE, how], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            glue = boto3.client(
                "glue",
                endpoint_url=f"http://127.0.0.1:{process.stdout.readline().strip()}",
                region_name="ca-central-1",
                aws_access_key_id="test",
                aws_secret_access_key="test",
                config=Config(retries={"max_attempts": 0}, max_pool_connections=CROWD),
            )
            glue.create_database(DatabaseInput={"Name": "d"})
            yield glue
        finally:
            process.kill()


@pytest.fixture
def database(cloud: Cloud) -> str:
    name = next(NAMES)
    cloud.client("glue").create_database(DatabaseInput={"Name": name})
    return name


def code(call: Callable[[], Any]) -> str:
    """The error's name, or nothing."""
    try:
        call()
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""


def stale(glue: Any, database: str) -> str:
    """What Glue says to the second of two that saw the same version."""
    glue.create_table(DatabaseName=database, TableInput={"Name": "t"})
    seen = glue.get_table(DatabaseName=database, Name="t")["Table"]["VersionId"]
    update = {"DatabaseName": database, "TableInput": {"Name": "t"}, "VersionId": seen}
    assert code(lambda: glue.update_table(**update)) == ""
    return code(lambda: glue.update_table(**update))


def test_the_second_of_two_is_refused(cloud: Cloud, database: str) -> None:
    assert stale(cloud.client("glue"), database) == "ConcurrentModificationException"


def test_moto_alone_takes_both() -> None:
    """Should this fail, a newer moto has learnt it, and glue.py may shrink."""
    with alone("as it is") as glue:
        assert stale(glue, "d") == ""


def test_one_of_many_wins_each_time() -> None:
    barrier = Barrier(CROWD)

    def together(call: Callable[[], Any]) -> str:
        barrier.wait()
        return code(call)

    with alone("mended") as glue, ThreadPoolExecutor(CROWD) as pool:
        for n in range(ROUNDS):
            table = {"DatabaseName": "d", "TableInput": {"Name": f"t{n}"}}
            answers = [*pool.map(together, [partial(glue.create_table, **table)] * CROWD)]
            assert sorted(answers) == ["", *["AlreadyExistsException"] * (CROWD - 1)]
            seen = glue.get_table(DatabaseName="d", Name=f"t{n}")["Table"]["VersionId"]
            answers = [*pool.map(together, [partial(glue.update_table, **table, VersionId=seen)] * CROWD)]
            assert sorted(answers) == ["", *["ConcurrentModificationException"] * (CROWD - 1)]


@pytest.fixture
def catalogs(cloud: Cloud, tmp_path: Path) -> Iterator[Callable[[], Catalog]]:
    def load() -> Catalog:
        return load_catalog(
            "glue",
            type="glue",
            warehouse=tmp_path.as_uri(),
            **{
                "glue.endpoint": cloud.endpoints["glue"],
                "glue.region": cloud.region,
                "glue.access-key-id": "test",
                "glue.secret-access-key": "test",
            },
        )

    return load


def test_no_acknowledged_iceberg_commit_is_lost(database: str, catalogs: Callable[[], Catalog]) -> None:
    schema = pa.schema([("n", pa.int64())])
    table = catalogs().create_table(f"{database}.t", schema)

    def write(writer: int) -> tuple[list[int], int]:
        acknowledged, refused = [], 0
        for n in range(writer * APPENDS, (writer + 1) * APPENDS):
            while n not in acknowledged:
                try:
                    catalogs().load_table(f"{database}.t").append(pa.table({"n": [n]}, schema))
                    acknowledged.append(n)
                except CommitFailedException:
                    refused += 1
        return acknowledged, refused

    with ThreadPoolExecutor(WRITERS) as pool:
        done = [*pool.map(write, range(WRITERS))]
    assert sorted(n for acknowledged, _ in done for n in acknowledged) == [*range(WRITERS * APPENDS)]
    table.refresh()
    assert sorted(table.scan().to_arrow()["n"].to_pylist()) == [*range(WRITERS * APPENDS)]


def test_what_moto_only_plays_is_refused(cloud: Cloud) -> None:
    glue = cloud.client("glue")
    assert code(lambda: glue.start_job_run(JobName="x")) == "UnsupportedOperationException"
    at_glue = boto3.client(
        "dynamodb",
        endpoint_url=cloud.endpoints["glue"],
        region_name=cloud.region,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    assert code(at_glue.list_tables) == "UnsupportedOperationException"
