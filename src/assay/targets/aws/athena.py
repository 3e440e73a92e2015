"""Athena computes gold: a build has databases of its own there, over silver as it is pinned, which end with it."""

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from pyiceberg.exceptions import TableAlreadyExistsError
from ulid import ULID

from assay import clock
from assay.errors import AssayError, BuildFailed, LakeBusy, SettingsError
from assay.ports import Files, Pinned, Platform
from assay.sqltypes import SqlType
from assay.targets.aws import database, objects
from assay.targets.aws.clients import Clients, errors, meaning
from assay.targets.aws.glue import LakeCatalog

if TYPE_CHECKING:
    import pyarrow as pa

CATALOG = "awsdatacatalog"
LEFT = timedelta(days=7)
"""After so long a build that did not end is dead: its databases and objects are taken away."""
_SYSTEM = 1  # AthenaError's category: https://docs.aws.amazon.com/athena/latest/APIReference/API_AthenaError.html
_BUILDS = "build/"
_DENIED = re.compile(r"access ?denied|not authorized|insufficient .*permission", re.IGNORECASE)
_OF_BOTO = re.compile(r"An error occurred \((\w+)\) when calling the (\w+) operation")
_OURS = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "HOME")
"""Variables beside AWS's own by which boto3 finds its way, in capitals or not."""
_OF_A_PERSON = ("AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE")
_WAIT = (0.1, 2.0)  # seconds between looks, at first and at most


class AthenaQuery:
    """Statements of Athena in the lake's work group, with their results below a prefix of the lake's objects."""

    def __init__(self, clients: Clients, results: str) -> None:
        self._clients, self._results = clients, results

    def run(self, sql: str) -> str:
        """Run a statement to its end; its id. A statement whose asker is stopped is stopped too.

        BuildFailed says what Athena says of the SQL, or that it read more than the work group allows; LakeBusy, that Athena
        itself failed; SettingsError, who must allow it.
        """
        athena, group = self._clients("athena"), self._clients.aws.workgroup
        with errors("athena", f"work group {group}"):
            asked = athena.start_query_execution(
                QueryString=sql,
                WorkGroup=group,
                ClientRequestToken=str(ULID()) * 2,
                ResultConfiguration={"OutputLocation": self._results},
            )
            query, wait = str(asked["QueryExecutionId"]), _WAIT[0]
            try:
                while (found := self._execution(query))["Status"]["State"] in ("QUEUED", "RUNNING"):
                    time.sleep(wait)
                    wait = min(wait * 1.5, _WAIT[1])
            except BaseException:
                with suppress(Exception):
                    athena.stop_query_execution(QueryExecutionId=query)
                raise
        if found["Status"]["State"] == "SUCCEEDED":
            return query
        raise failed(found["Status"], group)

    def _execution(self, query: str) -> dict[str, Any]:
        answer = self._clients("athena").get_query_execution(QueryExecutionId=query)
        return dict(answer["QueryExecution"])

    def rows(self, sql: str, most: int) -> tuple[list[str], list[list[str | None]]]:
        """The names and the first `most` rows of a query, as texts; `most` is below 1,000."""
        query = self.run(sql)
        with errors("athena", f"work group {self._clients.aws.workgroup}"):
            found = self._clients("athena").get_query_results(QueryExecutionId=query, MaxResults=most + 1)["ResultSet"]
        names = [one["Name"] for one in found["ResultSetMetadata"]["ColumnInfo"]]
        return names, [[one.get("VarCharValue") for one in row["Data"]] for row in found["Rows"][1:]]


def failed(status: Mapping[str, Any], group: str) -> AssayError:
    """A statement that did not succeed, as an error of who must act."""
    said = " ".join(str(status.get("StateChangeReason") or "it gave no reason").split())
    if "Bytes scanned limit" in said:
        return BuildFailed(
            f"Athena stopped a statement that read more than the work group {group} allows ({said}); who owns the work group may allow more, or the model has to read less"
        )
    if status["State"] == "CANCELLED":
        return LakeBusy(f"somebody cancelled a statement of Athena's work group {group} ({said}); run it again")
    if _DENIED.search(said):
        return SettingsError(
            f"Athena may not read or write what a statement of work group {group} names ({said}); whoever grants this process's role its policies must allow it"
        )
    if status.get("AthenaError", {}).get("ErrorCategory") == _SYSTEM:
        return LakeBusy(f"Athena failed ({said}); run it again")
    return BuildFailed(f"Athena refuses a statement: {said}")


class Athena:
    """See `assay.ports.Platform`: dbt-athena's way to a lake's work group."""

    def __init__(self, clients: Clients, env: str, files: Files, base: str) -> None:
        self._clients, self._env, self._files, self._base = clients, env, files, base
        if not clients.aws.workgroup:
            raise SettingsError("gold is computed by Athena in [aws] workgroup of assay.toml, which is missing")

    @contextmanager
    def begin(self, build: str, silver: Sequence[Pinned]) -> Iterator[Platform]:
        """See `Platforms.begin`. What builds of former days left is taken away too."""
        with suppress(AssayError):  # a later build will
            self._sweep(lambda one: clock.now() - ULID.from_str(one).datetime > LEFT)
        one = _Build(self._clients, self._env, self._files, self._base, build)
        try:
            one.show(silver)
            yield one
        finally:
            with suppress(AssayError):  # what it leaves goes like a dead build's, and hides no other error
                self._sweep(lambda other: other == build)

    def _sweep(self, dead: Any) -> None:
        """Take away the databases and objects of builds, their ids told by `dead`; of Glue only what names a table goes."""
        aws, glue = self._clients.aws, self._clients("glue")
        begins = database(aws, self._env, "build_")
        with errors("glue", f"the databases {begins}*"):
            pages = glue.get_paginator("get_databases").paginate()
            names = [one["Name"] for page in pages for one in page["DatabaseList"] if one["Name"].startswith(begins)]
            for name in names:
                build = name.removeprefix(begins)[:26].upper()
                if _is_build(build) and dead(build):
                    with suppress(glue.exceptions.EntityNotFoundException):  # another build takes it away too
                        tables = glue.get_paginator("get_tables").paginate(DatabaseName=name)
                        for table in [one["Name"] for page in tables for one in page["TableList"]]:
                            with suppress(glue.exceptions.EntityNotFoundException):
                                glue.delete_table(DatabaseName=name, Name=table)
                        glue.delete_database(Name=name)
        for name in list(self._files.names(_BUILDS)):
            build = name.split("/")[1]
            if _is_build(build) and dead(build):
                self._files.delete(name)


def _is_build(text: str) -> bool:
    try:
        ULID.from_str(text)
    except ValueError:
        return False
    return len(text) == 26


class _Build:
    """See `assay.ports.Platform`."""

    def __init__(self, clients: Clients, env: str, files: Files, base: str, build: str) -> None:
        self._clients, self._files, self._base, self._build = clients, files, base, build
        self.prefix = database(clients.aws, env, f"build_{build.lower()}__")
        where = f"s3://{clients.aws.bucket}/{objects(clients.aws, env)}{_BUILDS}{build}/"
        self._where, self._query = where, AthenaQuery(clients, f"{where}results/")
        self._catalog = LakeCatalog(clients, self.prefix, files, base)
        self._silver = database(clients.aws, env, "silver")

    def show(self, silver: Sequence[Pinned]) -> None:
        """Silver's tables with the metadata they are pinned by, under names of the build's own, and a view of each.

        Times of day are told as timestamps of UTC there: views and CTAS of Athena know no time zone
        (https://docs.aws.amazon.com/athena/latest/ug/querying-iceberg-supported-data-types.html).
        """
        glue = self._clients("glue")
        # Of this name it can only be there by an answer that was lost.
        with errors("glue", f"{self.prefix}silver"), suppress(glue.exceptions.AlreadyExistsException):
            glue.create_database(DatabaseInput={"Name": f"{self.prefix}silver"})
        for one in silver:
            for part, metadata in (("current", one.current), ("past", one.past)):
                name = f"{_BUILDS}{self._build}/silver/{one.dataset}__{part}.metadata.json"
                self._files.put_new(name, metadata, "tables.metadata")
                with errors("glue", f"{self.prefix}silver"), suppress(TableAlreadyExistsError):
                    self._catalog.register_table(f"silver.{one.dataset}__{part}", self._base + name)
            current, past = (f'"{self.prefix}silver"."{one.dataset}__{part}"' for part in ("current", "past"))
            now = [name for name in one.columns if name not in one.ends]
            self._query.run(
                f'CREATE OR REPLACE VIEW "{self.prefix}silver"."{one.dataset}" AS SELECT {", ".join(_shown(one, n) for n in now)} FROM {current}'
            )
            self._query.run(
                f'CREATE OR REPLACE VIEW "{self.prefix}silver"."{one.dataset}_versions" AS {versions(one, current, past)}'
            )
            self._versions_for_all(one)

    def _versions_for_all(self, one: Pinned) -> None:
        """The view `<dataset>_versions` beside silver's tables, for readers of Athena; made when its columns are others."""
        name = f"{one.dataset}_versions"
        glue = self._clients("glue")
        with errors("glue", f"{self._silver}.{name}"):
            try:
                found = glue.get_table(DatabaseName=self._silver, Name=name)["Table"]
            except glue.exceptions.EntityNotFoundException:
                found = {}
        if [column["Name"] for column in found.get("StorageDescriptor", {}).get("Columns", ())] != list(one.columns):
            current, past = (f'"{self._silver}"."{one.dataset}{part}"' for part in ("", "_past"))
            self._query.run(f'CREATE OR REPLACE VIEW "{self._silver}"."{name}" AS {versions(one, current, past)}')

    @property
    def profile(self) -> Mapping[str, Any]:
        """What dbt-athena is told of where to work."""
        aws = self._clients.aws
        return {
            "type": "athena", "region_name": aws.region, "database": CATALOG, "schema": "gold", "work_group": aws.workgroup,
            "s3_staging_dir": f"{self._where}results/", "s3_data_dir": f"{self._where}tables", "s3_data_naming": "schema_table_unique",
            "num_retries": 3, "poll_interval": 0.1 if aws.emulated else 1.0,
        }  # fmt: skip

    @property
    def environment(self) -> Mapping[str, str]:
        """What boto3 finds in dbt's process: this one's role, and the doubles' addresses where they stand for AWS."""
        aws = self._clients.aws
        found = {name: value for name, value in os.environ.items() if name.startswith("AWS_") or name.upper() in _OURS}
        found |= {"AWS_REGION": aws.region, "AWS_DEFAULT_REGION": aws.region}
        found |= {f"AWS_ENDPOINT_URL_{name.upper()}": url for name, url in aws.endpoints.items()}
        if self._clients.emulated:
            found = {name: value for name, value in found.items() if name not in _OF_A_PERSON}
        return found | self._clients.emulated

    def meaning(self, said: str) -> AssayError | None:
        """See `Platform.meaning`."""
        if found := _OF_BOTO.search(said):
            error = ClientError({"Error": {"Code": found[1]}}, found[2])
            return meaning(error, "aws", "what dbt works on")
        if "Could not connect to the endpoint" in said or "Connect timeout on endpoint" in said:
            return LakeBusy("AWS does not answer dbt; run it again")
        return None

    def rows(self, schema: str, name: str) -> "pa.RecordBatchReader":
        """A relation's rows as they lie."""
        return self._catalog.load_table(f"{schema}.{name}").scan().to_arrow_batch_reader()

    def some(self, sql: str, most: int) -> tuple[list[str], list[list[str | None]]]:
        """See `AthenaQuery.rows`."""
        return self._query.rows(sql, most)


def versions(one: Pinned, current: str, past: str) -> str:
    """The query of current and former rows, which two tables hold."""
    now = [
        "CAST(NULL AS timestamp(6)) AS " + f'"{name}"' if name in one.ends else _shown(one, name)
        for name in one.columns
    ]
    then = [_shown(one, name) for name in one.columns]
    return f"SELECT {', '.join(now)} FROM {current} UNION ALL SELECT {', '.join(then)} FROM {past}"


def _shown(one: Pinned, name: str) -> str:
    quoted = f'"{name}"'
    if not SqlType.parse(one.columns[name]).zoned:
        return quoted
    return f"CAST({quoted} AT TIME ZONE 'UTC' AS timestamp(6)) AS {quoted}"
