"""What a release keeps of dbt's manifest: what dbt's documentation page shows, field by field, and nothing of the machine."""

from collections.abc import Mapping
from typing import Any

import duckdb
import msgspec

from assay.lake.docs import Docs

# Named one by one: paths, the environment, ids of runs and users, and whatever else dbt will add, are not among them.
_METADATA = ("dbt_schema_version", "dbt_version", "project_name", "adapter_type")
_NODE = (
    "unique_id", "resource_type", "package_name", "name", "alias", "identifier", "label", "database", "schema", "version",
    "latest_version", "original_file_path", "fqn", "description", "docs", "meta", "tags", "access", "group", "language", "raw_code",
    "compiled_code", "compiled", "refs", "constraints", "test_metadata", "column_name", "model", "source_name",
    "source_description", "loader", "macro_sql", "arguments", "type", "maturity", "owner", "url",
)  # fmt: skip
_CONFIG = ("materialized", "contract")
_COLUMN = ("name", "description", "data_type", "meta", "tags", "constraints")
_KINDS = ("nodes", "sources", "exposures", "unit_tests", "macros")
_RARE = ("metrics", "semantic_models", "saved_queries", "functions")  # there where the project has any
_WHOLE = ("docs", "groups", "parent_map")


def docs(manifest: Mapping[str, Any], con: duckdb.DuckDBPyConnection) -> Docs:
    """The texts that dbt's page is made of: the same for the same project and columns. `con` is open on what dbt built."""
    kept = _kept(manifest)
    return Docs(_text(kept), _text(_catalog(kept, con)))


def _text(value: Mapping[str, Any]) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value, order="sorted"))


def _kept(manifest: Mapping[str, Any]) -> dict[str, Any]:
    dbts = {"dbt", f"dbt_{manifest['metadata']['adapter_type']}"}  # whose macros are no part of the project
    out: dict[str, Any] = {"metadata": _some(manifest["metadata"], _METADATA)}
    for kind in (*_KINDS, *(kind for kind in _RARE if manifest.get(kind))):
        there = manifest.get(kind) or {}
        out[kind] = {k: _node(one) for k, one in there.items() if kind != "macros" or one["package_name"] not in dbts}
    return out | {kind: manifest.get(kind) or {} for kind in _WHOLE}


def _node(node: Mapping[str, Any]) -> dict[str, Any]:
    columns = {name: _some(one, _COLUMN) for name, one in (node.get("columns") or {}).items()}
    needs = node.get("depends_on") or {}
    return _some(node, _NODE) | {
        "columns": columns,
        "config": _some(node.get("config") or {}, _CONFIG),
        "depends_on": {kind: list(needs.get(kind) or ()) for kind in ("nodes", "macros")},
    }


def _some(of: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: of[name] for name in names if name in of}


def _catalog(kept: Mapping[str, Any], con: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """What `dbt docs generate` asks the database for: the relations that there are, with their columns' types."""
    there: dict[tuple[str, str], dict[str, Any]] = {}
    for schema, table, column, at, kind in con.execute(
        "SELECT schema_name, table_name, column_name, column_index, data_type FROM duckdb_columns() WHERE NOT internal ORDER BY ALL"
    ).fetchall():
        there.setdefault((schema, table), {})[column] = {"name": column, "type": kind, "index": at}
    out: dict[str, Any] = {"nodes": {}, "sources": {}}
    for kind, found in out.items():
        for unique_id, node in kept[kind].items():
            relation = (node["schema"], node.get("identifier") or node.get("alias"))
            if node["resource_type"] in ("model", "seed", "source") and relation in there:
                about = {"type": node["config"].get("materialized", "view"), "schema": relation[0], "name": relation[1]}
                found[unique_id] = {
                    "unique_id": unique_id,
                    "metadata": about,
                    "columns": there[relation],
                    "stats": {},
                }
    return out
