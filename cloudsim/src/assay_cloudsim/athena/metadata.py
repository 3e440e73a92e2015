"""The data catalog as Athena's API shows it: AwsDataCatalog, which is Glue's."""

from typing import Any

from assay_cloudsim.athena.catalog import Catalog
from assay_cloudsim.athena.errors import Refused


def _of_glue(asked: dict[str, Any]) -> None:
    name = asked.get("CatalogName") or asked.get("Name") or ""
    if name.lower() != "awsdatacatalog":
        raise Refused(f"Catalog {name} was not found: this double of Athena has AwsDataCatalog")


def _page(found: list[dict[str, Any]], asked: dict[str, Any], key: str) -> dict[str, Any]:
    at, size = int(asked.get("NextToken") or 0), asked.get("MaxResults", 50)
    return {key: found[at : at + size]} | ({"NextToken": str(at + size)} if len(found) > at + size else {})


class Metadata:
    """Reads Glue for Athena's own operations on catalogs, databases and tables."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def catalogs(self, asked: dict[str, Any]) -> dict[str, Any]:
        return _page([{"CatalogName": "AwsDataCatalog", "Type": "GLUE"}], asked, "DataCatalogsSummary")

    def catalog(self, asked: dict[str, Any]) -> dict[str, Any]:
        _of_glue(asked)
        return {"DataCatalog": {"Name": "AwsDataCatalog", "Type": "GLUE", "Parameters": {"catalog-id": "123456789012"}}}

    def databases(self, asked: dict[str, Any]) -> dict[str, Any]:
        _of_glue(asked)
        return _page([_database(d) for d in self._catalog.databases()], asked, "DatabaseList")

    def database(self, asked: dict[str, Any]) -> dict[str, Any]:
        _of_glue(asked)
        found = [d for d in self._catalog.databases() if d["Name"] == asked["DatabaseName"]]
        if not found:
            raise MissingMetadata(f"Database {asked['DatabaseName']} not found")
        return {"Database": _database(found[0])}

    def tables(self, asked: dict[str, Any]) -> dict[str, Any]:
        import re

        _of_glue(asked)
        self.database(asked)
        expression = asked.get("Expression") or ".*"
        tables = [
            _table(t)
            for t in self._catalog.tables(asked["DatabaseName"])
            if re.fullmatch(expression.replace("*", ".*").replace("..*", ".*"), t["Name"])
        ]
        return _page(tables, asked, "TableMetadataList")

    def table(self, asked: dict[str, Any]) -> dict[str, Any]:
        _of_glue(asked)
        found = self._catalog.table(asked["DatabaseName"], asked["TableName"])
        if found is None:
            raise MissingMetadata(f"EntityNotFoundException: Table {asked['TableName']} not found")
        return {"TableMetadata": _table(found)}


class MissingMetadata(Exception):
    """MetadataException: Glue has no such database or table."""


def _database(found: dict[str, Any]) -> dict[str, Any]:
    return {"Name": found["Name"], "Parameters": found.get("Parameters", {})} | (
        {"Description": found["Description"]} if found.get("Description") else {}
    )


def _table(found: dict[str, Any]) -> dict[str, Any]:
    storage = found.get("StorageDescriptor", {})
    columns = [{k: c[k] for k in ("Name", "Type", "Comment") if c.get(k)} for c in storage.get("Columns", [])]
    keys = [{k: c[k] for k in ("Name", "Type", "Comment") if c.get(k)} for c in found.get("PartitionKeys", [])]
    serde = {"serde.serialization.lib": storage.get("SerdeInfo", {}).get("SerializationLibrary", "")}
    parameters = {**found.get("Parameters", {}), "location": storage.get("Location", ""), "inputformat": storage.get("InputFormat", ""), "outputformat": storage.get("OutputFormat", ""), **serde}  # fmt: skip
    created = found["CreateTime"].timestamp()
    return {"Name": found["Name"], "CreateTime": created, "LastAccessTime": 0, "TableType": found.get("TableType", "EXTERNAL_TABLE"), "Columns": columns, "PartitionKeys": keys, "Parameters": parameters}  # fmt: skip
