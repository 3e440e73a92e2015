"""The data catalog: databases and tables in Glue, objects in S3, Iceberg tables through PyIceberg."""

import base64
import json
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import boto3
from pyiceberg.catalog.glue import GlueCatalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table

from assay_cloudsim.athena.errors import Failed

KEYS: Any = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "ca-central-1"}
ICEBERG_PROPERTIES = ("metadata_location", "previous_metadata_location", "table_type")


def bucket_key(location: str) -> tuple[str, str]:
    """The bucket and the key or prefix of an s3:// address."""
    scheme, _, rest = location.partition("://")
    if scheme not in ("s3", "s3a", "s3n"):
        raise Failed("HIVE_METASTORE_ERROR", f"Not an S3 location: {location}")
    bucket, _, key = rest.partition("/")
    return bucket, key


def names_iceberg(table: Mapping[str, Any]) -> bool:
    """Whether Glue's entry is an Iceberg table."""
    return str(table.get("Parameters", {}).get("table_type", "")).upper() == "ICEBERG"


class Catalog:
    """Glue and S3 at their endpoints, and a local copy of each object that was read, by key and ETag."""

    def __init__(self, endpoints: Mapping[str, str], cache: Path) -> None:
        self.glue: Any = boto3.client("glue", endpoint_url=endpoints["glue"], **KEYS)
        self.s3: Any = boto3.client("s3", endpoint_url=endpoints["s3"], **KEYS)
        self._cache = cache
        self._iceberg = GlueCatalog(
            "glue",
            client=self.glue,
            **{
                "s3.endpoint": endpoints["s3"], "s3.access-key-id": "test", "s3.secret-access-key": "test",
                "s3.region": KEYS["region_name"],
            },
        )  # fmt: skip

    # -- Glue ---------------------------------------------------------------------------------------------------------
    def databases(self) -> list[dict[str, Any]]:
        return [d for page in self.glue.get_paginator("get_databases").paginate() for d in page["DatabaseList"]]

    def has_database(self, name: str) -> bool:
        try:
            self.glue.get_database(Name=name)
        except self.glue.exceptions.EntityNotFoundException:
            return False
        return True

    def tables(self, database: str) -> list[dict[str, Any]]:
        pages = self.glue.get_paginator("get_tables").paginate(DatabaseName=database)
        return [t for page in pages for t in page["TableList"]]

    def table(self, database: str, name: str) -> dict[str, Any] | None:
        """Glue's entry of a table."""
        try:
            found: dict[str, Any] = self.glue.get_table(DatabaseName=database, Name=name)["Table"]
        except self.glue.exceptions.EntityNotFoundException:
            return None
        return found

    def partitions(self, database: str, name: str) -> list[dict[str, Any]]:
        pages = self.glue.get_paginator("get_partitions").paginate(DatabaseName=database, TableName=name)
        return [p for page in pages for p in page["Partitions"]]

    def view(self, table: Mapping[str, Any]) -> tuple[str, str]:
        """The SQL of a view, and the database that its names are of: Athena keeps views as Presto did."""
        kept = table.get("ViewOriginalText", "")
        if not kept.startswith("/* Presto View: "):
            raise Failed("INVALID_VIEW", f"View '{table['DatabaseName']}.{table['Name']}' was not made by Athena")
        body: dict[str, Any] = json.loads(base64.b64decode(kept.removeprefix("/* Presto View: ").removesuffix(" */")))
        return str(body["originalSql"]), str(body.get("schema", table["DatabaseName"]))

    # -- Iceberg ------------------------------------------------------------------------------------------------------
    @property
    def iceberg(self) -> GlueCatalog:
        return self._iceberg

    def iceberg_table(self, database: str, name: str) -> Table:
        try:
            found = self._iceberg.load_table((database, name))
        except NoSuchTableError as error:
            raise Failed("TABLE_NOT_FOUND", f"Table 'awsdatacatalog.{database}.{name}' does not exist") from error
        if found.metadata.format_version != 2:
            raise Failed(
                "NOT_SUPPORTED",
                f"Athena reads Iceberg of format version 2 only, and {database}.{name} is of {found.metadata.format_version}",
            )
        return found

    # -- S3 -----------------------------------------------------------------------------------------------------------
    def objects(self, location: str) -> Iterator[dict[str, Any]]:
        """The objects below a location that Hive reads: none that begin with `_` or `.`, none that are empty."""
        bucket, prefix = bucket_key(location)
        prefix = f"{prefix.rstrip('/')}/" if prefix else ""
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for each in page.get("Contents", []):
                hidden = any(part[:1] in "_." for part in each["Key"][len(prefix) :].split("/") if part)
                if each["Size"] and not hidden:
                    yield {"Bucket": bucket, **each}

    def local(self, bucket: str, key: str, etag: str | None = None) -> Path:
        """The path of a local copy of an object."""
        etag = etag or self.s3.head_object(Bucket=bucket, Key=key)["ETag"]
        ending = "".join(Path(key).suffixes[-2:]) if len(Path(key).suffixes) < 3 else Path(key).suffix
        path = self._cache / f"{uuid.uuid5(uuid.NAMESPACE_URL, f'{bucket}/{key}/{etag}').hex}{ending}"
        if not path.exists():
            part = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
            self.s3.download_file(bucket, key, str(part))
            part.rename(path)
        return path

    def put(self, location: str, body: bytes, kind: str = "application/octet-stream") -> None:
        bucket, key = bucket_key(location)
        try:
            self.s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType=kind)
        except self.s3.exceptions.NoSuchBucket as error:
            raise Failed(
                "", f"Access denied when writing to location: {location}: the bucket does not exist"
            ) from error

    def delete_below(self, location: str) -> None:
        """Every object below a location."""
        bucket, prefix = bucket_key(location)
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix.rstrip('/')}/"):
            if found := [{"Key": o["Key"]} for o in page.get("Contents", [])]:
                self.s3.delete_objects(Bucket=bucket, Delete={"Objects": found})

    def values_of_path(self, key: str, names: list[str]) -> list[str | None]:
        """The values of a Hive partition's directories, `name=value`."""
        found = dict(p.split("=", 1) for p in key.split("/") if "=" in p)
        lower = {k.lower(): unquote(v) for k, v in found.items()}
        return [None if lower.get(n) == "__HIVE_DEFAULT_PARTITION__" else lower.get(n) for n in names]
