"""The project's models run in a platform; its own DuckDB file holds what they gave, beside silver and the seeds, as if they had run there."""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from assay.build import dbt
from assay.lake import duck
from assay.lake.duck import ident
from assay.ports import Limits, Platform

PLACE = "platform"
"""The directory of the project as the platform's dbt runs it, below the build's own."""
_NAMER = re.compile(r"(\{%-?\s*macro\s+)generate_schema_name\b")
_THEIRS = "schema_name_of_the_lake"
_MACRO = """{{% macro generate_schema_name(custom_schema_name, node) -%}}
  {prefix}{{{{ {theirs}(custom_schema_name, node) | trim }}}}
{{%- endmacro %}}
"""
# A contract's types are DuckDB's, and were compared when the models ran there without rows.
_UNCHECKED = "{% macro get_assert_columns_equivalent(sql) %}{% endmacro %}\n"


def run(work: Path, platform: Platform, limits: Limits) -> tuple[Path, str | None]:
    """Build the project that lies prepared in `work`: where dbt left its results, and what it printed if it failed.

    First in DuckDB without rows, so that seeds, contracts and unit tests are seen to there and the SQL is known that
    explains a row; then in the platform, where its data tests run.
    """
    threads = ("--threads", str(limits.threads))
    there = _copied(work, platform)
    if (failed := dbt.run(work, "build", "--empty", "--exclude-resource-type", "test", *threads)) is not None:
        return work, failed
    failed = dbt.run(there, "build", "--exclude-resource-type", "unit_test", *threads, environment=platform.environment)
    return there, failed if failed is not None else dbt.run(work, "compile", *threads)


def _copied(work: Path, platform: Platform) -> Path:
    """The prepared project once more, with the platform's profile and the names of its schemas there."""
    there = work / PLACE
    left = shutil.ignore_patterns(PLACE, "target", "logs", "lake.duckdb*", "spill")
    shutil.copytree(work, there, ignore=left)
    project = yaml.safe_load((there / "dbt_project.yml").read_text(encoding="utf-8"))
    for kind in ("models", "seeds", "snapshots"):
        project[kind] = {**(project.get(kind) or {}), "+table_type": "iceberg"}
    _write(there / "dbt_project.yml", project)
    profile = {"target": PLACE, "outputs": {PLACE: dict(platform.profile)}}
    _write(there / "profiles.yml", {project["profile"]: profile})
    sources = there / "models" / "_assay_sources.yml"
    told = json.loads(sources.read_text(encoding="utf-8"))
    told["sources"][0]["schema"] = f"{platform.prefix}silver"
    _write(sources, told)
    theirs = "default__generate_schema_name"
    for folder in project.get("macro-paths", ["macros"]):
        for path in (there / folder).rglob("*.sql"):
            text = path.read_text(encoding="utf-8")
            renamed = _NAMER.sub(rf"\g<1>{_THEIRS}", text)
            if renamed != text:
                path.write_text(renamed, encoding="utf-8")
                theirs = _THEIRS
    own = there / project.get("macro-paths", ["macros"])[0]
    own.mkdir(exist_ok=True)
    made = _MACRO.format(prefix=platform.prefix, theirs=theirs) + _UNCHECKED
    (own / "_assay_platform.sql").write_text(made, encoding="utf-8")
    return there


def fetch(database: Path, tables: Sequence[str], platform: Platform, limits: Limits) -> None:
    """Put the rows of these tables of gold into the build's DuckDB file, where they are and have no row yet."""
    with duck.open(limits, database) as con:
        for name in tables:
            relation = f"gold.{ident(name)}"
            kinds = {column: kind for column, kind, *_ in con.execute(f"DESCRIBE {relation}").fetchall()}
            con.register("_rows", platform.rows("gold", name))
            chosen = ", ".join(f"CAST({ident(column)} AS {kind})" for column, kind in kinds.items())
            con.execute(f"INSERT INTO {relation} SELECT {chosen} FROM _rows")
            con.unregister("_rows")


def _write(path: Path, body: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(body, indent=1), encoding="utf-8")
