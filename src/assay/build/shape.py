"""What a gold model's SQL gives, column by column, found over silver without rows; and the yml that would describe it."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb

from assay.lake import duck
from assay.lake.duck import ident
from assay.lake.release import Gold, Model
from assay.ports import Limits

Shape = dict[str, str]
"""Columns in their order, with their types."""

# What asks the database while dbt writes the SQL: without rows it may come to other SQL.
_ASKING = re.compile(r"\b(run_query|statement|load_result)\b|\badapter\.(?!dispatch\b)")
_PLAIN = re.compile(r"[A-Za-z_]\w*(\([\d,]+\))?")
_MISREAD = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


def shapes(
    database: Path, models: Sequence[Model], manifest: Mapping[str, Any], limits: Limits
) -> dict[str, Shape | str]:
    """What each model's SQL gives, by its relation, or the database's complaint about it; `models` are ancestors first.

    `database` holds silver's views and the seeds. What cannot be known without rows is left out: a model that asks the
    database how to write its SQL, and whatever reads it.
    """
    nodes = {f"{n['schema']}.{n['alias']}": (k, n) for k, n in manifest["nodes"].items()}
    found: dict[str, Shape | str] = {}
    unknown: set[str] = set()
    with duck.open(limits, database) as db:
        there = {f"{s}.{t}" for s, t in db.execute("SELECT schema_name, table_name FROM duckdb_tables()").fetchall()}
        for model in models:
            key, node = nodes[model.relation]
            if model.kind == "seed":
                if model.relation not in there:
                    unknown.add(key)
                continue
            unclear = not model.sql or unknown & set(node["depends_on"]["nodes"]) or asking(node, manifest["macros"])
            said = None if unclear else _given(db, model)
            if not isinstance(said, dict):
                unknown.add(key)
            if said is not None:
                found[model.relation] = said
    return found


def _given(db: duckdb.DuckDBPyConnection, model: Model) -> Shape | str:
    relation = ".".join(map(ident, model.relation.split(".", 1)))
    try:
        db.execute(f"CREATE SCHEMA IF NOT EXISTS {ident(model.relation.partition('.')[0])}")
        db.execute(f"CREATE OR REPLACE VIEW {relation} AS {model.sql}")
        return {name: kind for name, kind, *_ in db.execute(f"DESCRIBE {relation}").fetchall()}
    except duckdb.Error as error:
        return " ".join(str(error).split("\n\n")[0].split())


def asking(node: Mapping[str, Any], macros: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the model, or a macro that it calls, asks the database while its SQL is written."""
    seen: set[str] = set()
    waiting = list(node["depends_on"].get("macros", ()))
    texts = [node.get("raw_code") or ""]
    while waiting:
        name = waiting.pop()
        if name not in seen and name in macros:
            seen.add(name)
            texts.append(macros[name]["macro_sql"])
            waiting += macros[name]["depends_on"]["macros"]
    return any(_ASKING.search(text) for text in texts)


def absent(model: Gold, shape: Shape) -> list[str]:
    """The columns that the yml names and the SQL does not give."""
    given = {name.lower() for name in shape}
    return [column.name for column in model.columns if column.name.lower() not in given]


def undescribed(model: Gold, shape: Shape) -> Shape:
    """The columns that the SQL gives and the yml does not name."""
    named = {column.name.lower() for column in model.columns}
    return {name: kind for name, kind in shape.items() if name.lower() not in named}


def skeleton(name: str, columns: Shape, read: Iterable[str]) -> str:
    """The yml of a gold model for its author to fill in: what is left empty, `assay check` names."""
    inputs = "".join(f"            - {{table: silver.{table}, where: ''}}\n" for table in read) or "            []\n"
    return (
        "version: 2\n"
        "models:\n"
        f"  - name: {name}\n"
        "    description: ''  # what a row is\n"
        "    config:\n"
        "      contract: {enforced: true}\n"
        "      meta:\n"
        "        assay:\n"
        "          key: []  # the columns that name a row\n"
        "          inputs:  # the silver rows that a row is computed from, such as symbol = row.symbol\n"
        f"{inputs}"
        "    columns:\n"
        f"{described(columns)}"
    )


def described(columns: Shape) -> str:
    """Columns as a yml lists them, without what only their author knows."""
    return "".join(
        f"      - name: {_spelt(name)}\n"
        f"{'' if _bare(name) else '        quote: true' + chr(10)}"
        f"        description: ''\n"
        f"        data_type: {_spelt(kind.lower())}\n"
        f"        config: {{meta: {{assay: {{classification: internal}}}}}}\n"
        for name, kind in columns.items()
    )


def _bare(name: str) -> bool:
    """Whether SQL takes the name as it stands."""
    return [kind for _, kind in duckdb.tokenize(name)] == [duckdb.token_type.identifier]


def _spelt(text: str) -> str:
    """Text as YAML cannot misread it."""
    return text if _PLAIN.fullmatch(text) and text.lower() not in _MISREAD else json.dumps(text)
