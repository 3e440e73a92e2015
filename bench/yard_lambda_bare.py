"""Yardstick of the Lambda function: the least that answers the same events, Mangum and FastAPI over the same file from S3.

No keys, hashes, releases, cursors, ETags or checks of a query: it fetches one file by boto3, opens it, and answers its rows.

    python bench/yard_lambda_bare.py TOLD KIND SEED COUNT WORK
"""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import boto3
import duckdb
import orjson
from botocore.config import Config
from fastapi import FastAPI, Query, Response
from mangum import Mangum

import lambda_events
import rounds

POINT = "select * from prices where security_id = ? and date = cast(? as date)"
PAGE = "select * from prices where security_id = ? and date >= cast(? as date) order by security_id, date limit 100"


def make(told: dict[str, Any], work: Path) -> Mangum:
    s3 = boto3.client(
        "s3", region_name=told["region"], endpoint_url=told["endpoint"], aws_access_key_id="test",
        aws_secret_access_key="test", config=Config(s3={"addressing_style": "path"}),
    )  # fmt: skip
    work.mkdir(parents=True, exist_ok=True)
    path = work / "prices.duckdb"
    path.write_bytes(s3.get_object(Bucket=told["bucket"], Key=told["key"])["Body"].read())
    con = duckdb.connect(str(path), read_only=True, config={"threads": 1})
    app = FastAPI(openapi_url=None)

    @app.get("/v1/gold/prices")
    async def prices(
        security_id: str, date: str = "", since: Annotated[str, Query(alias="date.gte")] = "", limit: int = 100
    ) -> Response:
        done = con.execute(PAGE if since else POINT, [security_id, since or date])
        names = [column[0] for column in done.description]
        found = [dict(zip(names, row, strict=True)) for row in done.fetchall()]
        return Response(orjson.dumps({"data": found[:limit]}), media_type="application/json")

    return Mangum(app, lifespan="off")


def main() -> None:
    told, kind, seed, count, work = sys.argv[1:6]
    begun = rounds.begin()
    with suppress(KeyError):
        del os.environ["AWS_PROFILE"]
    events = lambda_events.events(kind, int(seed), int(count), {})
    lambda_events.measure(lambda: make(orjson.loads(Path(told).read_bytes()), Path(work)), events, begun)


if __name__ == "__main__":
    main()
