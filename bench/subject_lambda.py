"""Our side of the bench `lambda`: a lake of one gold table in the doubles of AWS, and the function's own handler."""

import os
import sys
import tempfile
from pathlib import Path

import rounds

BEGUN = rounds.begin()


def prepare(root: Path) -> None:
    """A release of one table and a key, in the doubles that ASSAY_CLOUDSIM names; TOLD says where."""
    import duckdb
    import orjson

    import lambda_events
    from assay import clock, settings, targets
    from assay.lake import keys, release
    from assay.lake.duck import text
    from assay.lake.release import Column, Gold, Release
    from assay.targets.aws import of, provision

    name, key = "prices", ("security_id", "date")
    read = settings.read(root / "lake")
    provision.make(read, {})
    with_ = targets.open("aws", read)
    files, serving = with_.files, f"serving/{name}-1.duckdb"
    scratch = files.scratch()
    with duckdb.connect() as con:
        con.execute(f"ATTACH {text(str(scratch))} AS serving (STORAGE_VERSION 'v1.0.0')")
        con.execute(f"CREATE TABLE serving.{name} AS {lambda_events.ROWS}")
        columns = tuple(Column(n, k) for n, k, *_ in con.execute(f"DESCRIBE serving.{name}").fetchall())
        con.execute("DETACH serving")
    sha256 = release.file_sha256(scratch)
    rows = lambda_events.SECURITIES * lambda_events.DAYS
    files.put_new(serving, scratch, "release.serving")
    gold = Gold(name, 1, rows, serving, columns, key, {}, (), serving_sha256=sha256)
    release.publish(files, Release(1, "bench", None, clock.now(), "bench", "", (gold,), (), (), ""))
    _, shown = keys.create(files, "bench", who="bench")
    aws = of(read)
    told = {
        "region": aws.region, "endpoint": aws.endpoints["s3"], "bucket": aws.bucket, "key": f"{aws.prefix}/dev/{serving}",
        "headers": {"authorization": f"Bearer {shown}"},
    }  # fmt: skip
    (root / "told.json").write_bytes(orjson.dumps(told))
    with_.close()
    print("{}")


def run(told: str, kind: str, seed: str, count: str, work: str) -> None:
    """Answer events as the function does, its /tmp being an empty directory."""
    Path(work).mkdir(parents=True, exist_ok=True)
    tempfile.tempdir = work
    import orjson

    import lambda_events

    headers = orjson.loads(Path(told).read_bytes())["headers"]

    def make() -> "lambda_events.Callable[..., lambda_events.Event]":
        from assay import aws_lambda

        return aws_lambda.handler

    lambda_events.measure(make, lambda_events.events(kind, int(seed), int(count), headers), BEGUN)


if __name__ == "__main__":
    os.environ.pop("AWS_PROFILE", None)
    if sys.argv[1] == "prepare":
        prepare(Path(sys.argv[2]))
    else:
        run(*sys.argv[2:7])
