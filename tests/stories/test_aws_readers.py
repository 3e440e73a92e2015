"""Who knows nothing of assay reads its tables on AWS, row for row what the API gives: PyAthena, awswrangler, Spark with Iceberg. Emulated."""

import json
import os
import re
import subprocess
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from assay.run import lake as lakes
from assay.run import server
from assay.settings import CLOUDSIM
from assay.targets import aws
from tests import clouds
from tests.conftest import ROOT
from tests.stories.conftest import Ran

pytestmark = pytest.mark.slow
TABLES = (
    "silver.price_eod", "silver.dividends", "silver.splits", "silver.symbol_list",
    "gold.dim_security", "gold.fct_daily_price", "gold.mart_momentum_asof",
)  # fmt: skip
READERS, ICEBERG = ROOT / ".venvs/readers/bin/python", ROOT / ".venvs/iceberg/bin/python"

WRANGLER = """
import json, sys, pandas, awswrangler as wr
out = {}
for name, database, table, columns in json.loads(sys.argv[1]):
    words = f'SELECT {", ".join(columns)} FROM "{database}"."{table}"'
    # Its default: pandas with Decimal. With dtype_backend="pyarrow" a decimal is a float.
    plain = wr.athena.read_sql_query(words, database=database, ctas_approach=False, s3_output=sys.argv[2])
    whole = wr.athena.read_sql_table(table, database=database, ctas_approach=False, s3_output=sys.argv[2])
    out[name] = [plain.columns.tolist(), [[None if pandas.isna(v) else str(v) for v in row] for row in plain.astype(object).itertuples(index=False)], len(whole)]
print(json.dumps(out))
"""

SPARK = """
import json, os, sys
from importlib.resources import files
os.environ["PYSPARK_PYTHON"] = sys.executable
from pyspark.sql import SparkSession
P, told = "smfs.shaded.org.apache.iceberg", json.loads(sys.argv[2])
said = {
    "spark.jars": str(files("feature_store_pyspark") / "jars/sagemaker-feature-store-spark-sdk-3.5.jar"),
    "spark.master": "local[2]", "spark.ui.enabled": "false", "spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1",
    "spark.ui.showConsoleProgress": "false", "spark.log.level": "ERROR", "spark.sql.shuffle.partitions": "2", "spark.sql.session.timeZone": "UTC",
    "spark.driver.memory": "1g", "spark.sql.catalog.lake": P + ".spark.SparkCatalog", "spark.local.dir": told["scratch"], "spark.sql.warehouse.dir": told["scratch"],
    "spark.sql.catalog.lake.catalog-impl": P + ".aws.glue.GlueCatalog", "spark.sql.catalog.lake.io-impl": P + ".aws.s3.S3FileIO",
    "spark.sql.catalog.lake.warehouse": told["results"], "spark.sql.catalog.lake.client.region": told["region"],
    "spark.sql.catalog.lake.glue.endpoint": told["glue"], "spark.sql.catalog.lake.s3.endpoint": told["s3"],
    "spark.sql.catalog.lake.s3.path-style-access": "true",
}
builder = SparkSession.builder
for name, value in said.items():
    builder = builder.config(name, value)
spark, out = builder.getOrCreate(), {}
for name, database, table, columns in json.loads(sys.argv[1]):
    rows = spark.sql(f"SELECT {', '.join(f'CAST({c} AS STRING)' for c in columns)} FROM lake.{database}.{table}").collect()
    out[name] = [columns, [list(row) for row in rows], spark.table(f"lake.{database}.{table}").count()]
spark.stop()
print(json.dumps(out))
"""


def told(value: object) -> str | None:
    """A value's text: a number without zeros at its end, as the API writes it, and moments in UTC."""
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    text = (
        value.isoformat()
        if isinstance(value, datetime)
        else format(value, "f")
        if isinstance(value, Decimal)
        else str(value)
    )
    if re.fullmatch(r"-?\d+(\.\d+(E-?\d+)?|E-\d+)", text):
        return format(Decimal(text).normalize(), "f")
    if re.match(r"\d{4}-\d\d-\d\d[T ]", text):
        moment = datetime.fromisoformat(re.sub(" UTC$", "", text))
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    return {"True": "true", "False": "false"}.get(text, text)


def ordered(rows: list[list[Any]]) -> list[list[str | None]]:
    return sorted(([told(value) for value in row] for row in rows), key=json.dumps)


@dataclass(frozen=True)
class Served:
    """A released lake on AWS: each table's database, columns and rows, as the API gives them."""

    cloud: clouds.Cloud
    results: str
    databases: dict[str, str]
    columns: dict[str, list[str]]
    rows: dict[str, list[list[str | None]]]

    @property
    def asked(self) -> str:
        """What another program is told to read."""
        return json.dumps([[n, self.databases[n], n.partition(".")[2], self.columns[n]] for n in TABLES])

    def read_by(self, python: Path, code: str, *words: str) -> dict[str, Any]:
        """What a program of another environment read, which knows AWS by its variables alone."""
        addresses = {f"AWS_ENDPOINT_URL_{name.upper()}": url for name, url in self.cloud.endpoints.items()}
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
        region = {
            "AWS_REGION": self.cloud.region,
            "AWS_DEFAULT_REGION": self.cloud.region,
            "SPARK_LOCAL_IP": "127.0.0.1",
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COVERAGE_"))}
        done = subprocess.run(
            [python, "-c", code, self.asked, *words], env=kept | addresses | keys | region,
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return dict(json.loads(done.stdout.splitlines()[-1]))


def _pages(address: str) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    cursor = ""
    while True:
        with urllib.request.urlopen(f"{address}?limit=10000{cursor}", timeout=60) as answer:
            page = json.loads(answer.read(), parse_float=Decimal)
        out += page["data"]
        if not page["next"]:
            return out
        cursor = f"&cursor={page['next']}"


@pytest.fixture(scope="module")
def served(on_aws: tuple[Path, Ran]) -> Served:
    (root, _), cloud = on_aws, clouds.shared()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CLOUDSIM, str(cloud.directory / "endpoints.json"))
        with lakes.open(root, target="aws") as lake:
            made = lake.target.settings.aws
            assert made
            databases = {n: aws.database(made, "dev", n.partition(".")[0]) for n in TABLES}
            with server.serving(lake.application("127.0.0.1"), "127.0.0.1", 0) as api:
                found = {n: _pages(f"{api}/v1/{n.replace('.', '/')}") for n in TABLES}
        columns = {n: list(rows[0]) for n, rows in found.items()}
        return Served(
            cloud,
            f"s3://{made.bucket}/results/",
            databases,
            columns,
            {n: ordered([list(row.values()) for row in rows]) for n, rows in found.items()},
        )


def test_pyathena(served: Served) -> None:
    import pyathena

    where = {"region_name": served.cloud.region, "aws_access_key_id": "test", "aws_secret_access_key": "test"}
    for name in TABLES:
        with pyathena.connect(
            s3_staging_dir=served.results, schema_name=served.databases[name], endpoint_url=served.cloud.endpoints["athena"], poll_interval=0.05, **where
        ) as connection:  # fmt: skip
            cursor = connection.cursor()
            cursor.execute(f"SELECT {', '.join(served.columns[name])} FROM {name.partition('.')[2]}")
            assert ordered([list(row) for row in cursor.fetchall()]) == served.rows[name], name


def same(served: Served, found: dict[str, Any]) -> None:
    for name in TABLES:
        columns, rows, count = found[name]
        assert columns == served.columns[name]
        assert ordered(rows) == served.rows[name], name
        assert count == len(served.rows[name]), name


def test_awswrangler(served: Served) -> None:
    assert READERS.exists(), "scripts/extras makes the environment .venvs/readers"
    same(served, served.read_by(READERS, WRANGLER, served.results))


@pytest.mark.skipif(
    not ICEBERG.exists(), reason="scripts/extras iceberg makes the environment: Spark, and 361 MB of jars"
)
def test_spark_with_the_jar_of_iceberg(served: Served, tmp_path: Path) -> None:
    said = {
        **served.cloud.endpoints,
        "region": served.cloud.region,
        "results": served.results,
        "scratch": str(tmp_path),
    }
    same(served, served.read_by(ICEBERG, SPARK, json.dumps(said)))
