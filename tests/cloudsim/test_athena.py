"""Our Athena by its wire protocol: boto3 and PyAthena as they are, on tables in Glue and S3."""

import gzip
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal
from io import BytesIO
from itertools import count
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import ClientError
from pyathena import connect
from pyathena.error import DatabaseError, OperationalError
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.types import LongType

from tests import athenas
from tests.athenas import RESULTS, Athena, flat
from tests.clouds import Cloud

pytestmark = pytest.mark.slow

NUMBERS = count(1)
LONG = "SELECT count(*) FROM UNNEST(sequence(1, 200000)) AS t(a) CROSS JOIN UNNEST(sequence(1, 200000)) AS u(b) WHERE a * b % 7 = 3"


@pytest.fixture(scope="module")
def athena(cloud: Cloud) -> Athena:
    return athenas.athena(cloud, "tables")


@pytest.fixture
def place() -> str:
    """A name that no other test has; its data is below s3://athena-tests/NAME/."""
    return f"t{next(NUMBERS)}"


@pytest.fixture
def iceberg(cloud: Cloud) -> Iterator[Catalog]:
    """PyIceberg on the same tables, which knows nothing of Athena."""
    with load_catalog("glue", **_properties(cloud)) as catalog:
        yield catalog


def _properties(cloud: Cloud) -> dict[str, str]:
    keys = {"access-key-id": "test", "secret-access-key": "test", "region": cloud.region}
    own = {f"{s}.{k}": v for s in ("glue", "s3") for k, v in keys.items()}
    return {"type": "glue", "glue.endpoint": cloud.endpoints["glue"], "s3.endpoint": cloud.endpoints["s3"], **own}


def made(athena: Athena, name: str, select: str, **properties: str) -> dict[str, Any]:
    """An Iceberg table of a query's rows."""
    given = {"table_type": "'ICEBERG'", "is_external": "false", "location": f"'s3://athena-tests/{name}/'"} | properties
    return athena.ran(f"CREATE TABLE {name} WITH ({', '.join(f'{k} = {v}' for k, v in given.items())}) AS {select}")


def test_a_query_is_told_and_its_rows_come_page_by_page_and_as_csv(athena: Athena) -> None:
    client = athena.client()
    sql = "SELECT x, IF(x % 2 = 0, 'even \"x\"') AS t, CAST(x AS decimal(9, 2)) AS d FROM UNNEST(sequence(1, 2500)) AS u(x) ORDER BY x"
    token = "a-token-of-at-least-thirty-two-characters"
    query = athena.start(sql, ClientRequestToken=token)
    assert athena.start(sql, ClientRequestToken=token) == query
    with pytest.raises(ClientError, match="Idempotent parameters do not match"):
        athena.start("SELECT 1", ClientRequestToken=token)
    found = athena.ended(query)
    assert (found["StatementType"], found["Query"], found["WorkGroup"]) == ("DML", sql, "primary")
    assert found["ResultConfiguration"]["OutputLocation"] == f"{RESULTS}{query}.csv"
    pages = [p["ResultSet"] for p in client.get_paginator("get_query_results").paginate(QueryExecutionId=query)]
    assert [len(p["Rows"]) for p in pages] == [1000, 1000, 501]
    assert [c["VarCharValue"] for c in pages[0]["Rows"][0]["Data"]] == ["x", "t", "d"]
    assert pages[0]["Rows"][1]["Data"] == [{"VarCharValue": "1"}, {}, {"VarCharValue": "1.00"}]
    assert [(c["Name"], c["Type"], c["Precision"], c["Scale"]) for c in pages[2]["ResultSetMetadata"]["ColumnInfo"]] == [
        ("x", "bigint", 19, 0), ("t", "varchar", 2147483647, 0), ("d", "decimal", 9, 2),
    ]  # fmt: skip
    text = athena.text(f"{RESULTS}{query}.csv").splitlines()
    assert text[:3] == ['"x","t","d"', '"1",,"1.00"', '"2","even ""x""","2.00"']
    assert len(text) == 2501
    told = client.batch_get_query_execution(QueryExecutionIds=[query, "nobody"])
    assert (
        [q["QueryExecutionId"] for q in told["QueryExecutions"]],
        told["UnprocessedQueryExecutionIds"][0]["QueryExecutionId"],
    ) == ([query], "nobody")
    assert query in client.list_query_executions(MaxResults=50)["QueryExecutionIds"]
    assert (
        client.get_query_runtime_statistics(QueryExecutionId=query)["QueryRuntimeStatistics"]["Rows"]["OutputRows"]
        == 2500
    )
    with pytest.raises(ClientError, match="was not found"):
        client.get_query_execution(QueryExecutionId="00000000-0000-0000-0000-000000000000")
    failed = athena.start("SELECT 1 / 0")
    error = athena.ended(failed)["Status"]["AthenaError"]
    assert (error["ErrorCategory"], error["Retryable"], error["ErrorMessage"]) == (
        2,
        False,
        "DIVISION_BY_ZERO: Division by zero",
    )
    with pytest.raises(ClientError, match="FAILED") as refused:
        client.get_query_results(QueryExecutionId=failed)
    assert refused.value.response["AthenaErrorCode"] == "INVALID_QUERY_EXECUTION_STATE"


def test_parameters_are_values_and_no_sql(athena: Athena) -> None:
    sql = "SELECT ? AS a, '?' AS b, ? AS c, ? AS d -- ?"
    rows = athena.all(sql, ExecutionParameters=["1 + 1", "it's x", "DATE '2020-01-01'"])
    assert rows == [["2", "?", "it's x", "2020-01-01"]]
    hostile = ["'); DROP TABLE x; --", "1) FROM t WHERE (1", "t.x", "(SELECT 1 FROM secret)"]
    assert flat(athena.all("SELECT ?, ?, ?, ?", ExecutionParameters=hostile)) == hostile
    said = athena.fails("SELECT ?", ExecutionParameters=["1", "2"])
    assert said == "INVALID_PARAMETER_USAGE: Incorrect number of parameters: expected 1 but found 2"


def test_what_is_not_emulated_is_refused(athena: Athena) -> None:
    client = athena.client()
    for call in (
        lambda: client.create_named_query(Name="n", Database="d", QueryString="SELECT 1"),
        lambda: client.start_session(WorkGroup="primary", EngineConfiguration={"MaxConcurrentDpus": 2}),
        lambda: client.create_data_catalog(Name="x", Type="LAMBDA"),
        lambda: client.get_data_catalog(Name="other"),
        lambda: athena.start("SELECT 1", ResultReuseConfiguration={"ResultReuseByAgeConfiguration": {"Enabled": True}}),
        lambda: athena.start(
            "SELECT 1",
            ResultConfiguration={"EncryptionConfiguration": {"EncryptionOption": "SSE_S3"}, "OutputLocation": RESULTS},
        ),
        lambda: client.create_work_group(
            Name="x", Configuration={"CustomerContentEncryptionConfiguration": {"KmsKey": "k"}}
        ),
        lambda: athena.start("SELECT 1", QueryExecutionContext={"Catalog": "s3tablescatalog/x"}),
    ):
        with pytest.raises(ClientError, match=r"not emulated|was not found") as refused:
            call()
        assert refused.value.response["Error"]["Code"] == "InvalidRequestException"
    with pytest.raises(ClientError, match="No output location provided"):
        athena.start("SELECT 1", ResultConfiguration={})
    with pytest.raises(ClientError, match="not a valid S3 path"):
        athena.start("SELECT 1", ResultConfiguration={"OutputLocation": "/tmp/x"})
    with pytest.raises(ClientError, match=r"WorkGroup is not found\."):
        athena.start("SELECT 1", WorkGroup="nobody")
    for sql in ("VACUUM x", "EXPLAIN ANALYZE SELECT 1", "OPTIMIZE x REWRITE DATA USING BIN_PACK WHERE a = 1"):
        assert athena.fails(sql).startswith("NOT_SUPPORTED: "), sql


def test_work_groups_say_where_results_go_and_how_much_is_scanned(athena: Athena, place: str) -> None:
    client = athena.client()
    noise = pa.table({"wide": pa.array([os.urandom(1100) for _ in range(10_000)]), "narrow": pa.array(range(10_000))})
    kept = BytesIO()
    pq.write_table(noise, kept, compression="none", use_dictionary=False)
    athena.put(f"{place}/one.parquet", kept.getvalue())
    athena.ran(
        f"CREATE EXTERNAL TABLE {place} (wide binary, narrow bigint) STORED AS PARQUET LOCATION 's3://athena-tests/{place}/'"
    )
    configuration = {"EnforceWorkGroupConfiguration": True, "BytesScannedCutoffPerQuery": 10_000_000,
                     "ResultConfiguration": {"OutputLocation": f"s3://athena-tests/of-{place}/"}}  # fmt: skip
    client.create_work_group(Name=place, Configuration=configuration)
    with pytest.raises(ClientError, match="already created"):
        client.create_work_group(Name=place)
    stopped = athena.ended(athena.start(f"SELECT max(wide) FROM {place}", WorkGroup=place))
    assert (stopped["Status"]["State"], stopped["Status"]["StateChangeReason"]) == (
        "CANCELLED",
        "Bytes scanned limit was exceeded",
    )
    found = athena.ran(f"SELECT max(narrow) FROM {place}", WorkGroup=place)
    assert found["ResultConfiguration"]["OutputLocation"].startswith(
        f"s3://athena-tests/of-{place}/"
    )  # not the client's
    assert 0 < found["Statistics"]["DataScannedInBytes"] < 1_000_000
    client.update_work_group(
        WorkGroup=place,
        ConfigurationUpdates={"RemoveBytesScannedCutoffPerQuery": True, "EnforceWorkGroupConfiguration": False},
    )
    found = athena.ran(f"SELECT max(wide) FROM {place}", WorkGroup=place)
    assert found["ResultConfiguration"]["OutputLocation"].startswith(RESULTS)
    assert found["Statistics"]["DataScannedInBytes"] > 10_000_000
    assert (
        client.get_work_group(WorkGroup=place)["WorkGroup"]["Configuration"]["EnforceWorkGroupConfiguration"] is False
    )
    assert {"primary", place} <= {g["Name"] for g in client.list_work_groups()["WorkGroups"]}
    client.update_work_group(WorkGroup=place, State="DISABLED")
    with pytest.raises(ClientError, match="disabled"):
        athena.start("SELECT 1", WorkGroup=place)
    client.delete_work_group(WorkGroup=place)
    with pytest.raises(ClientError, match="not found"):
        client.get_work_group(WorkGroup=place)


def test_a_stopped_query_ends_and_frees_its_place(athena: Athena) -> None:
    client = athena.client()
    queries = [athena.start(LONG) for _ in range(6)]  # more than run at once
    until = time.monotonic() + 60
    while client.get_query_execution(QueryExecutionId=queries[0])["QueryExecution"]["Status"]["State"] != "RUNNING":
        assert time.monotonic() < until
    time.sleep(0.5)
    begun = time.monotonic()
    for query in queries:
        client.stop_query_execution(QueryExecutionId=query)
    for query in queries:
        status = athena.ended(query)["Status"]
        assert (status["State"], status["StateChangeReason"]) == ("CANCELLED", "Query was cancelled by user")
    assert athena.all("SELECT 1") == [["1"]]
    assert time.monotonic() - begun < 20, "the interrupted queries went on"


def test_iceberg_tables_are_written_read_and_travelled_in_time(athena: Athena, place: str, iceberg: Catalog) -> None:
    created = made(athena, place, "SELECT 1 AS id, 'a' AS name, TIMESTAMP '2020-01-01 10:00:00.123456' AS ts, DECIMAL '1.50' AS amount",
                   partitioning="ARRAY['day(ts)', 'bucket(4, id)']")  # fmt: skip
    assert created["ResultConfiguration"]["OutputLocation"] == f"{RESULTS}tables/{created['QueryExecutionId']}"
    table = iceberg.load_table(("tables", place))
    assert (table.metadata.format_version, [str(f.transform) for f in table.spec().fields]) == (2, ["day", "bucket[4]"])
    assert [str(f.field_type) for f in table.schema().fields] == ["int", "string", "timestamp", "decimal(3, 2)"]
    inserted = athena.ran(f"INSERT INTO {place} (id, name) VALUES (2, 'b'), (3, 'c')")
    assert athena.client().get_query_results(QueryExecutionId=inserted["QueryExecutionId"])["UpdateCount"] == 2
    before = iceberg.load_table(("tables", place)).current_snapshot()
    assert before is not None
    time.sleep(0.01)
    between = datetime.now().astimezone().isoformat(sep=" ", timespec="milliseconds")
    time.sleep(0.01)
    assert athena.all(f"SELECT * FROM {place} ORDER BY id") == [
        ["1", "a", "2020-01-01 10:00:00.123456", "1.50"], ["2", "b", None, None], ["3", "c", None, None],
    ]  # fmt: skip
    merged = athena.ran(f"""MERGE INTO {place} AS t USING (SELECT 2 AS id, 'B' AS name UNION ALL SELECT 3, 'gone' UNION ALL SELECT 9, 'new') AS s
        ON t.id = s.id WHEN MATCHED AND s.name = 'gone' THEN DELETE WHEN MATCHED THEN UPDATE SET name = s.name
        WHEN NOT MATCHED THEN INSERT (id, name, amount) VALUES (s.id, s.name, s.id / DECIMAL '2.00')""")
    assert athena.client().get_query_results(QueryExecutionId=merged["QueryExecutionId"])["UpdateCount"] == 3
    athena.ran(f"UPDATE {place} SET name = upper(name) || '!' WHERE id = 1")
    athena.ran(f"DELETE FROM {place} WHERE id = 2 AND name = 'B'")
    now = [["1", "A!", "1.50"], ["9", "new", "4.50"]]
    assert athena.all(f"SELECT id, name, amount FROM {place} ORDER BY id") == now
    assert sorted(iceberg.load_table(("tables", place)).scan().to_arrow()["id"].to_pylist()) == [1, 9]
    assert [
        s.summary.operation.value for s in iceberg.load_table(("tables", place)).metadata.snapshots if s.summary
    ] == ["append"] * 2 + ["overwrite"] * 3
    old = [["1"], ["2"], ["3"]]
    assert athena.all(f"SELECT id FROM {place} FOR VERSION AS OF {before.snapshot_id} ORDER BY id") == old
    assert athena.all(f"SELECT id FROM {place} FOR TIMESTAMP AS OF TIMESTAMP '{between}' AS x ORDER BY x.id") == old
    assert athena.fails(f"SELECT * FROM {place} FOR TIMESTAMP AS OF TIMESTAMP '2001-01-01 00:00:00 UTC'").startswith(
        "INVALID_ARGUMENTS: line 1:15: No version history"
    )
    assert athena.fails(f"SELECT * FROM {place} FOR VERSION AS OF 1").endswith("Iceberg snapshot ID does not exists: 1")
    assert athena.all(f'SELECT count(*), count(DISTINCT snapshot_id) FROM "{place}$snapshots"') == [["5", "5"]]
    assert athena.all(f'SELECT operation FROM "{place}$snapshots" ORDER BY committed_at LIMIT 1') == [["append"]]
    assert athena.all(f'SELECT count(*) FROM "{place}$history" WHERE is_current_ancestor') == [["5"]]
    files = flat(athena.all(f'SELECT DISTINCT "$path" FROM {place} ORDER BY 1'))
    assert files == flat(athena.all(f'SELECT file_path FROM "{place}$files" ORDER BY 1'))
    assert athena.all(f'SELECT sum(record_count) FROM "{place}$partitions"') == [["2"]]
    athena.ran(f"OPTIMIZE {place} REWRITE DATA USING BIN_PACK")
    assert athena.all(f"SELECT id, name, amount FROM {place} ORDER BY id") == now
    twice = f"MERGE INTO {place} AS t USING (VALUES 1, 1) AS s(i) ON t.id = s.i WHEN MATCHED THEN DELETE"
    assert athena.fails(twice).startswith("MERGE_TARGET_ROW_MULTIPLE_MATCHES: ")
    athena.ran(f"DELETE FROM {place}")
    assert athena.all(f"SELECT count(*) FROM {place}") == [["0"]]


def test_iceberg_tables_change_their_shape_and_their_name(athena: Athena, place: str, iceberg: Catalog) -> None:
    athena.ran(f"""CREATE TABLE tables.{place} (id int, tags array<string>, at timestamp) PARTITIONED BY (bucket(2, id), month(at))
        LOCATION 's3://athena-tests/{place}/' TBLPROPERTIES ('table_type' = 'ICEBERG', 'format' = 'parquet')""")
    athena.ran(f"INSERT INTO {place} VALUES (1, ARRAY['x', 'y'], TIMESTAMP '2020-01-01 00:00:00')")
    athena.ran(f"ALTER TABLE `tables`.`{place}` ADD COLUMNS (more double, name string)")
    athena.ran(f"INSERT INTO {place} SELECT 2, NULL, NULL, 1.5, 'b'")
    athena.ran(f"ALTER TABLE {place} CHANGE COLUMN id number bigint")
    assert athena.fails(f"ALTER TABLE {place} DROP COLUMN at") == "NOT_SUPPORTED: Cannot drop partition field: at"
    athena.ran(f"ALTER TABLE {place} DROP COLUMN more")
    assert athena.fails(f"SELECT more FROM {place}").startswith("COLUMN_NOT_FOUND: line 1:8:")
    assert athena.all(f"SELECT number, tags, name FROM {place} ORDER BY number") == [
        ["1", "[x, y]", None],
        ["2", None, "b"],
    ]
    athena.ran(f"ALTER TABLE {place} SET TBLPROPERTIES ('vacuum_min_snapshots_to_keep' = '3')")
    assert ["vacuum_min_snapshots_to_keep", "3"] in athena.all(f"SHOW TBLPROPERTIES {place}")
    lines = flat(athena.all(f"SHOW CREATE TABLE {place}"))
    assert lines[:2] == [f"CREATE TABLE tables.{place} (", "  number bigint, "]
    assert any("bucket(2, number)" in str(line) for line in lines)
    assert [str(x).split("\t")[0].strip() for x in flat(athena.all(f"DESCRIBE {place}"))] == [
        "number",
        "tags",
        "at",
        "name",
    ]
    athena.ran(f"ALTER TABLE `tables`.`{place}` RENAME TO `tables`.`{place}_b`")
    assert (
        athena.fails(f"SELECT 1 FROM {place}")
        == f"TABLE_NOT_FOUND: line 1:15: Table 'awsdatacatalog.tables.{place}' does not exist"
    )
    assert iceberg.load_table(("tables", f"{place}_b")).scan().count() == 2
    assert athena.all(f"SELECT count(*) FROM awsdatacatalog.tables.{place}_b") == [["2"]]
    athena.ran(f"DROP TABLE {place}_b")
    assert athena.keys(f"{place}/") == []
    for kind in ("tinyint", "smallint", "char(3)"):
        said = athena.fails(
            f"CREATE TABLE {place}_c (a {kind}) LOCATION 's3://athena-tests/{place}_c/' TBLPROPERTIES ('table_type' = 'ICEBERG')"
        )
        assert said.startswith("NOT_SUPPORTED: Type not supported for Iceberg"), said
    of = f"CREATE TABLE {place}_c WITH (table_type = 'ICEBERG', location = 's3://athena-tests/{place}_c/', is_external = false) AS SELECT"
    assert 'Use "timestamp(6)" instead.' in athena.fails(f"{of} CAST(now() AS timestamp) AS a")
    assert athena.fails(f"{of} 1").startswith("MISSING_COLUMN_NAME: ")
    assert athena.fails(f"{of} 1 AS a, 2 AS a").startswith("DUPLICATE_COLUMN_NAME: ")


def test_files_that_others_wrote_are_read_as_the_table_is_now(athena: Athena, place: str, iceberg: Catalog) -> None:
    """Renamed and added columns by their ids; and a file that knows no ids, by PyIceberg's own mapping."""
    rows = pa.table({"a": pa.array([1, 2], pa.int64()), "b": ["x", "y"]})
    table = iceberg.create_table(
        ("tables", place), rows.schema, location=f"s3://athena-tests/{place}", properties={"format-version": "2"}
    )
    table.append(rows)
    with table.update_schema() as change:
        change.rename_column("b", "name")
    with table.update_schema() as change:
        change.add_column("b", LongType())
    table.append(pa.table({"a": [3], "name": ["z"], "b": [30]}))
    wanted = [["1", "x", None], ["2", "y", None], ["3", "z", "30"]]
    assert athena.all(f"SELECT a, name, b FROM {place} ORDER BY a") == wanted
    buffer = BytesIO()
    pq.write_table(
        pa.table({"a": pa.array([4], pa.int64()), "name": ["by name"], "b": pa.array([40], pa.int64())}), buffer
    )
    athena.put(f"{place}/data/foreign.parquet", buffer.getvalue())
    iceberg.load_table(("tables", place)).add_files([f"s3://athena-tests/{place}/data/foreign.parquet"])
    assert athena.all(f"SELECT a, name, b FROM {place} ORDER BY a") == [*wanted, ["4", "by name", "40"]]
    zoned = pa.table({"at": pa.array([datetime(2020, 1, 1, 12, tzinfo=UTC)], pa.timestamp("us", "UTC"))})
    iceberg.create_table(("tables", f"{place}z"), zoned.schema, location=f"s3://athena-tests/{place}z").append(zoned)
    assert athena.all(f"SELECT at, CAST(at AS timestamp(6)) FROM {place}z") == [
        ["2020-01-01 12:00:00.000000 UTC", "2020-01-01 12:00:00.000000"]
    ]
    iceberg.create_table(
        ("tables", f"{place}one"),
        rows.schema,
        location=f"s3://athena-tests/{place}one",
        properties={"format-version": "1"},
    )
    assert "format version 2 only" in athena.fails(f"SELECT * FROM {place}one")


def test_who_loses_the_race_for_a_table_is_told(athena: Athena, place: str) -> None:
    made(athena, place, "SELECT 0 AS v")
    done = lost = 0
    for _ in range(4):
        if lost:
            break
        queries = [athena.start(f"UPDATE {place} SET v = v + 1") for _ in range(4)]
        for query in queries:
            status = athena.ended(query)["Status"]
            if status["State"] == "SUCCEEDED":
                done += 1
            else:
                lost += 1
                assert status["StateChangeReason"].startswith("ICEBERG_COMMIT_ERROR: "), status
                assert status["AthenaError"]["Retryable"] is True
    assert (lost > 0, athena.all(f"SELECT v FROM {place}")) == (True, [[str(done)]])
    # An append begins anew up to four times, each time because another one came first.
    with ThreadPoolExecutor(5) as clients:
        assert all(clients.map(lambda n: athena.ran(f"INSERT INTO {place} VALUES {n}"), range(100, 105)))
    assert athena.all(f"SELECT count(*) FROM {place} WHERE v >= 100") == [["5"]]


def test_hive_tables_of_parquet_json_and_csv_with_partitions(athena: Athena, place: str) -> None:
    created = athena.ran(f"CREATE TABLE {place} WITH (format = 'PARQUET', external_location = 's3://athena-tests/{place}/', partitioned_by = ARRAY['k']) AS SELECT 1 AS a, DATE '2020-01-01' AS d, 'x' AS k UNION ALL SELECT 2, NULL, 'y'")  # fmt: skip
    manifest = created["Statistics"]["DataManifestLocation"]  # by which awswrangler finds the rows of a CTAS
    assert manifest == f"{RESULTS}tables/{created['QueryExecutionId']}-manifest.csv"
    assert sorted(p.removeprefix("s3://athena-tests/") for p in athena.text(manifest).splitlines()) == athena.keys(
        f"{place}/"
    )
    inserted = athena.ran(f"INSERT INTO {place} VALUES (3, DATE '2020-01-03', 'z')")
    assert inserted["Statistics"]["DataManifestLocation"] == f"{RESULTS}{inserted['QueryExecutionId']}-manifest.csv"
    assert athena.all(f"SELECT * FROM {place} ORDER BY a") == [
        ["1", "2020-01-01", "x"],
        ["2", None, "y"],
        ["3", "2020-01-03", "z"],
    ]
    assert flat(athena.all(f"SHOW PARTITIONS {place}")) == ["k=x", "k=y", "k=z"]
    assert athena.fails(f"INSERT INTO {place} VALUES ('a', NULL, 'q')") == (
        "TYPE_MISMATCH: line 1:1: Insert query has mismatched column types: Table: [integer, date, varchar], Query: [varchar, unknown, varchar]"
    )
    assert athena.fails(f"DELETE FROM {place}").endswith(
        "Modifying Hive table rows is only supported for transactional tables"
    )
    assert athena.fails(f"ALTER TABLE {place} RENAME TO {place}x").endswith("Table cannot be renamed")
    again = f"CREATE TABLE {place}b WITH (external_location = 's3://athena-tests/{place}/') AS SELECT 1 AS a"
    assert athena.fails(again).startswith("HIVE_PATH_ALREADY_EXISTS: ")
    athena.put(
        f"{place}j/day=2020-01-01/a.json.gz",
        gzip.compress(b'{"id": 1, "who": {"name": "a", "n": [1, 2]}}\n{"id": 2}\n'),
    )
    athena.put(f"{place}j/day=2020-01-02/b.json", b'{"id": 3, "who": null, "extra": 1}\n')
    athena.ran(f"""CREATE EXTERNAL TABLE {place}j (id bigint, who struct<name:string,n:array<int>>) PARTITIONED BY (day date)
        ROW FORMAT SERDE 'org.openx.data.jsonserde.JsonSerDe' LOCATION 's3://athena-tests/{place}j/'""")
    assert athena.all(f"SELECT count(*) FROM {place}j") == [["0"]]
    assert len(athena.all(f"MSCK REPAIR TABLE {place}j")) == 2
    assert athena.all(f"SELECT id, who, who.name, day FROM {place}j ORDER BY id") == [
        ["1", "{name=a, n=[1, 2]}", "a", "2020-01-01"], ["2", None, None, "2020-01-01"], ["3", None, None, "2020-01-02"],
    ]  # fmt: skip
    assert athena.all(f"SELECT id FROM {place}j WHERE day > DATE '2020-01-01'") == [["3"]]
    athena.put(f"{place}c/a.csv", b'id,text\n1,"a, ""b"""\n2,\n')
    athena.ran(f"""CREATE EXTERNAL TABLE {place}c (id string, text string) ROW FORMAT SERDE 'org.apache.hadoop.hive.serde2.OpenCSVSerde'
        LOCATION 's3://athena-tests/{place}c/' TBLPROPERTIES ('skip.header.line.count' = '1')""")
    assert athena.all(f"SELECT id, text FROM {place}c ORDER BY id")[0] == ["1", 'a, "b"']
    athena.ran(f"UNLOAD (SELECT 1 AS a UNION ALL SELECT 2) TO 's3://athena-tests/{place}u/' WITH (format = 'PARQUET')")
    (key,) = athena.keys(f"{place}u/")
    body = athena.client("s3").get_object(Bucket="athena-tests", Key=key)["Body"].read()
    assert sorted(pq.read_table(BytesIO(body))["a"].to_pylist()) == [1, 2]


def test_views_databases_and_what_is_shown_of_them(athena: Athena, place: str) -> None:
    client = athena.client()
    athena.ran(f"CREATE SCHEMA {place}")
    assert "already exists" in athena.fails(f"CREATE DATABASE {place}")
    other = athenas.Athena(athena.cloud, place)
    made(other, "base", "SELECT 1 AS id, 'a' AS name", location=f"'s3://athena-tests/{place}/'")
    other.ran("CREATE VIEW v AS SELECT id + 1 AS next, upper(name) AS name FROM base")
    assert athena.all(f"SELECT * FROM {place}.v") == [["2", "A"]]  # its names are of the database it was made in
    assert other.fails("CREATE VIEW v AS SELECT 1 AS a").startswith("TABLE_ALREADY_EXISTS: ")
    other.ran("CREATE OR REPLACE VIEW v AS SELECT id FROM base")
    assert other.all("SELECT * FROM v") == [["1"]]
    assert other.all(
        "SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = '" + place + "' ORDER BY 1"
    ) == [["base", "BASE TABLE"], ["v", "VIEW"]]
    assert other.all(f"SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = '{place}' AND table_name = 'base' ORDER BY ordinal_position") == [["id", "integer"], ["name", "varchar"]]  # fmt: skip
    assert [place] in other.all("SELECT schema_name FROM information_schema.schemata")
    assert (flat(other.all("SHOW TABLES")), flat(other.all(f"SHOW TABLES IN {place} 'b*'"))) == (
        ["base", "v"],
        ["base"],
    )
    assert (flat(other.all("SHOW COLUMNS IN base")), [place] in other.all("SHOW DATABASES")) == (["id", "name"], True)
    assert (
        client.get_table_metadata(CatalogName="AwsDataCatalog", DatabaseName=place, TableName="base")["TableMetadata"][
            "Columns"
        ][0]["Type"]
        == "int"
    )
    assert [
        t["Name"]
        for t in client.list_table_metadata(CatalogName="AwsDataCatalog", DatabaseName=place)["TableMetadataList"]
    ] == ["base", "v"]
    assert place in [d["Name"] for d in client.list_databases(CatalogName="AwsDataCatalog")["DatabaseList"]]
    assert client.get_database(CatalogName="AwsDataCatalog", DatabaseName=place)["Database"]["Name"] == place
    assert client.list_data_catalogs()["DataCatalogsSummary"][0]["CatalogName"] == "AwsDataCatalog"
    with pytest.raises(ClientError, match="MetadataException"):
        client.get_table_metadata(CatalogName="AwsDataCatalog", DatabaseName=place, TableName="nobody")
    assert "is not empty" in athena.fails(f"DROP DATABASE {place}")
    assert "Query Plan" in str(other.all("EXPLAIN SELECT * FROM base"))
    assert other.fails("SELECT * FROM nobody.x") == "SCHEMA_NOT_FOUND: line 1:15: Schema 'nobody' does not exist"
    other.ran("DROP VIEW v")
    athena.ran(f"DROP DATABASE {place} CASCADE")
    assert athena.keys(f"{place}/") == []


def test_pyathena_as_it_is(athena: Athena, place: str) -> None:
    where = {"region_name": athena.cloud.region, "aws_access_key_id": "test", "aws_secret_access_key": "test"}
    with connect(
        s3_staging_dir=RESULTS,
        endpoint_url=athena.cloud.endpoints["athena"],
        schema_name="tables",
        poll_interval=0.05,
        **where,
    ) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT 1 AS i, BIGINT '2' AS b, 1.5 AS d, DECIMAL '1.50' AS m, 'x' AS t, DATE '2020-01-02' AS day, TIMESTAMP '2020-01-02 03:04:05.678' AS ts, true AS yes, NULL AS n, X'00ff' AS raw")  # fmt: skip
        assert cursor.fetchall() == [
            (
                1,
                2,
                1.5,
                Decimal("1.50"),
                "x",
                date(2020, 1, 2),
                datetime.fromisoformat("2020-01-02T03:04:05.678"),
                True,
                None,
                b"\x00\xff",
            )
        ]
        assert [(d[0], d[1]) for d in cursor.description or []][:4] == [
            ("i", "integer"),
            ("b", "bigint"),
            ("d", "double"),
            ("m", "decimal"),
        ]
        cursor.execute("SELECT ? + 1, ?", ["41", "'it''s'"], paramstyle="qmark")
        assert cursor.fetchone() == (42, "it's")
        made(athena, place, "SELECT x FROM UNNEST(sequence(1, 2000)) AS t(x)")
        cursor.execute(f"SELECT x FROM {place} ORDER BY x")
        assert [r[0] for r in cursor] == list(range(1, 2001))
        cursor.execute(f"INSERT INTO {place} VALUES 1, 2")
        assert cursor.rowcount == 2
        with pytest.raises(OperationalError, match="COLUMN_NOT_FOUND: line 1:8"):
            cursor.execute(f"SELECT nope FROM {place}")
        with pytest.raises(DatabaseError, match="mismatched input"):
            cursor.execute("SELECT 1 FROM")
        stopper = threading.Timer(1.5, cursor.cancel)
        stopper.start()
        with pytest.raises(OperationalError, match="cancelled"):
            cursor.execute(LONG)
        stopper.join()
