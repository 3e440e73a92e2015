"""A client of our Athena for tests: statements in, rows out, and the words of what failed."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.clouds import Cloud

ENDED = ("SUCCEEDED", "FAILED", "CANCELLED")
RESULTS = "s3://athena-tests/results/"


@dataclass(frozen=True)
class Athena:
    """One client, with a bucket `athena-tests` and a database of its own."""

    cloud: Cloud
    database: str

    def client(self, service: str = "athena") -> Any:
        return self.cloud.client(service)

    def start(self, sql: str, **more: Any) -> str:
        asked = {
            "QueryExecutionContext": {"Database": self.database},
            "ResultConfiguration": {"OutputLocation": RESULTS},
        }
        return self.client().start_query_execution(QueryString=sql, **asked | more)["QueryExecutionId"]

    def ended(self, query: str, seconds: float = 120) -> dict[str, Any]:
        """The execution, when it has ended."""
        client, until = self.client(), time.monotonic() + seconds
        while True:
            found = client.get_query_execution(QueryExecutionId=query)["QueryExecution"]
            if found["Status"]["State"] in ENDED:
                return found
            assert time.monotonic() < until, found
            time.sleep(0.03)

    def ran(self, sql: str, **more: Any) -> dict[str, Any]:
        """The execution of a statement that succeeds."""
        found = self.ended(self.start(sql, **more))
        assert found["Status"]["State"] == "SUCCEEDED", (sql, found["Status"])
        return found

    def all(self, sql: str, **more: Any) -> list[list[str | None]]:
        """The rows of a statement, without the header that a query's have."""
        found = self.ran(sql, **more)
        answer = self.client().get_query_results(QueryExecutionId=found["QueryExecutionId"])
        rows = [[c.get("VarCharValue") for c in row["Data"]] for row in answer["ResultSet"]["Rows"]]
        return rows[1:] if found["ResultConfiguration"]["OutputLocation"].endswith(".csv") else rows

    def fails(self, sql: str, **more: Any) -> str:
        """Why a statement failed."""
        found = self.ended(self.start(sql, **more))
        assert found["Status"]["State"] == "FAILED", (sql, found["Status"])
        assert found["Status"]["AthenaError"]["ErrorMessage"] == found["Status"]["StateChangeReason"]
        return found["Status"]["StateChangeReason"]

    def text(self, place: str) -> str:
        """An object's text."""
        bucket, _, key = place.removeprefix("s3://").partition("/")
        return self.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read().decode()

    def put(self, key: str, body: bytes) -> None:
        self.client("s3").put_object(Bucket="athena-tests", Key=key, Body=body)

    def keys(self, prefix: str) -> list[str]:
        found = self.client("s3").list_objects_v2(Bucket="athena-tests", Prefix=prefix)
        return [o["Key"] for o in found.get("Contents", [])]


def athena(cloud: Cloud, database: str) -> Athena:
    """A client whose database and bucket exist."""
    names = {b["Name"] for b in cloud.client("s3").list_buckets()["Buckets"]}
    if "athena-tests" not in names:
        cloud.client("s3").create_bucket(
            Bucket="athena-tests", CreateBucketConfiguration={"LocationConstraint": cloud.region}
        )
    made = Athena(cloud, database)
    made.ran(f"CREATE DATABASE IF NOT EXISTS `{database}`")
    return made


def flat(rows: Iterable[Iterable[str | None]]) -> list[str | None]:
    return [value for row in rows for value in row]
