"""The project's models run on another platform; the build's DuckDB file holds what they gave, beside silver and the seeds, as if they had run there."""

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import yaml

from assay.build import dbt, shape
from assay.errors import AssayError, BuildFailed, ContractError
from assay.lake import duck
from assay.lake.duck import ident
from assay.ports import Limits, Platform
from assay.sqltypes import SqlType

PLACE = "_assay_platform"
"""The directory of the project as the platform's dbt runs it, below the build's own."""
_NAMER = re.compile(r"(\{%[-+]?\s*macro\s+)generate_schema_name\b")
_COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)
_THEIRS = "schema_name_of_the_lake"
_MACRO = """{{% macro generate_schema_name(custom_schema_name, node) -%}}
  {prefix}{{{{ {theirs}(custom_schema_name, node) | trim }}}}
{{%- endmacro %}}
"""
# A contract's types are DuckDB's, and are compared where the rows are fetched.
_UNCHECKED = "{% macro get_assert_columns_equivalent(sql) %}{% endmacro %}\n"
_WHOLE = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT"}


def run(work: Path, platform: Platform, limits: Limits) -> tuple[Path, str | None]:
    """Build the project that lies prepared in `work`: where dbt left its results, and what it printed if it failed.

    First in DuckDB without rows, so that seeds, contracts and unit tests are seen to there and the SQL is known that
    explains a row; then on the platform, where its data tests run. ContractError names gold models that cannot run there.
    """
    threads = ("--threads", str(limits.threads))
    there = _copied(work, platform)
    if (failed := dbt.run(work, "build", "--empty", "--exclude-resource-type", "test", *threads)) is not None:
        return work, failed
    if wrong := list(_unfit(json.loads((work / "target" / "manifest.json").read_bytes()))):
        raise ContractError(*wrong)
    failed = dbt.run(there, "build", "--exclude-resource-type", "unit_test", *threads, environment=platform.environment)
    return there, failed if failed is not None else dbt.run(work, "compile", *threads)


def _unfit(manifest: Mapping[str, Any]) -> Iterator[str]:
    """Models whose rows could not be fetched, or explained by their SQL."""
    for node in manifest["nodes"].values():
        if node["resource_type"] != "model":
            continue
        where = f"{node['original_file_path']}: {node['name']}"
        if node["schema"] == "gold" and node["config"]["materialized"] != "table":
            yield f"{where}: is a {node['config']['materialized']}; gold that another platform computes is tables, say `materialized: table`"
        if shape.asking(node, manifest["macros"]):
            yield f"{where}: asks the database while dbt compiles it, which another platform answers otherwise; write it as a join"


def _copied(work: Path, platform: Platform) -> Path:
    """The prepared project once more, with the platform's profile and the names of its schemas there."""
    there, left = work / PLACE, {PLACE, "target", "logs", "spill"}

    def ours(folder: str, names: list[str]) -> list[str]:
        return [one for one in names if one in left or one.startswith("lake.duckdb")] if Path(folder) == work else []

    shutil.copytree(work, there, ignore=ours)
    project = yaml.safe_load((there / "dbt_project.yml").read_text(encoding="utf-8"))
    for kind in ("models", "seeds"):
        project[kind] = {**(project.get(kind) or {}), "+table_type": "iceberg"}
    _write(there / "dbt_project.yml", project)
    profile = {"target": "platform", "outputs": {"platform": dict(platform.profile)}}
    _write(there / "profiles.yml", {project["profile"]: profile})
    sources = there / "models" / "_assay_sources.yml"
    told = json.loads(sources.read_text(encoding="utf-8"))
    told["sources"][0]["schema"] = f"{platform.prefix}silver"
    _write(sources, told)
    theirs = "default__generate_schema_name"
    macros = project.get("macro-paths") or ["macros"]
    for path in (path for folder in macros for path in (there / folder).rglob("*.sql")):
        text = _COMMENT.sub("", path.read_text(encoding="utf-8"))
        if _NAMER.search(text):
            path.write_text(_NAMER.sub(rf"\g<1>{_THEIRS}", text), encoding="utf-8")
            theirs = _THEIRS
    own = there / macros[0]
    own.mkdir(parents=True, exist_ok=True)
    made = _MACRO.format(prefix=platform.prefix, theirs=theirs) + _UNCHECKED
    (own / "_assay_platform.sql").write_text(made, encoding="utf-8")
    return there


def fetch(work: Path, tables: Sequence[str], platform: Platform, limits: Limits) -> None:
    """Put the rows of these tables of gold into the build's DuckDB file, where they are and have no row yet.

    BuildFailed where a column is of another type there than its contract says, or a seed has other rows than here.
    """
    manifest = json.loads((work / "target" / "manifest.json").read_bytes())
    with duck.open(limits, work / "lake.duckdb") as con:
        for node in manifest["nodes"].values():
            if node["resource_type"] == "seed":
                _same(con, node["schema"], node["alias"], node["original_file_path"], platform)
        for name in tables:
            relation = f"gold.{ident(name)}"
            kinds = {column: kind for column, kind, *_ in con.execute(f"DESCRIBE {relation}").fetchall()}
            rows = platform.rows("gold", name)
            for column, given in _kinds(con, rows.schema).items():
                if column in kinds and not _holds(kinds[column], given):
                    raise BuildFailed(
                        f"gold.{name}: {column} is {given} on the platform that computed it, and {kinds[column]} by its contract; cast it in the model"
                    )
            _put(con, f"INSERT INTO {relation} SELECT {_cast(kinds)} FROM _rows", rows)


def _same(con: duckdb.DuckDBPyConnection, schema: str, name: str, file: str, platform: Platform) -> None:
    """BuildFailed if a seed's rows on the platform are not those that the release will keep: each reads CSV its own way."""
    relation = f"{ident(schema)}.{ident(name)}"
    kinds = {column: kind for column, kind, *_ in con.execute(f"DESCRIBE {relation}").fetchall()}
    _put(con, f"CREATE TEMP TABLE _seed AS SELECT {_cast(kinds)} FROM _rows", platform.rows(schema, name))
    for one, other, where in (("_seed", relation, "on the platform"), (relation, "_seed", "here")):
        if found := con.execute(f"SELECT * FROM {one} EXCEPT ALL SELECT * FROM {other} LIMIT 1").fetchall():
            raise BuildFailed(
                f"{file}: a row is read {where} alone, for example {found[0]}; write it so that any reader of CSV reads it alike: no line break, backslash or word null in a text"
            )
    con.execute("DROP TABLE _seed")


def _put(con: duckdb.DuckDBPyConnection, sql: str, rows: pa.RecordBatchReader) -> None:
    """Run a statement that reads `_rows`; what failed while they were read is told as it was."""
    failed: list[AssayError] = []

    def read() -> Iterator[pa.RecordBatch]:
        try:
            yield from rows
        except AssayError as error:
            failed.append(error)
            raise

    con.register("_rows", pa.RecordBatchReader.from_batches(rows.schema, read()))
    try:
        con.execute(sql)
    except duckdb.Error:
        if failed:
            raise failed[0] from None
        raise
    finally:
        con.unregister("_rows")


def _kinds(con: duckdb.DuckDBPyConnection, schema: pa.Schema) -> dict[str, str]:
    """DuckDB's types of Arrow's columns."""
    con.register("_none", schema.empty_table())
    try:
        return {column: kind for column, kind, *_ in con.execute("DESCRIBE SELECT * FROM _none").fetchall()}
    finally:
        con.unregister("_none")


def _holds(kind: str, given: str) -> bool:
    """Whether each value of a type is one of the other, or refused: nothing is rounded on the way."""
    ours, theirs = SqlType.parse(kind), SqlType.parse(given)
    if ours.zoned:
        return theirs.timed
    if ours.decimal:
        return theirs.decimal and theirs.scale == ours.scale
    return ours == theirs or {ours.name, theirs.name} <= _WHOLE


def _cast(kinds: Mapping[str, str]) -> str:
    return ", ".join(f"CAST({ident(column)} AS {kind}) AS {ident(column)}" for column, kind in kinds.items())


def _write(path: Path, body: Mapping[str, Any]) -> None:
    path.write_text(yaml.safe_dump(body, sort_keys=False), encoding="utf-8")
