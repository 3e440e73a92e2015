"""The OpenAPI description of a release: one typed route per table."""

from typing import Any

from assay.lake.release import Column
from assay.serve.newest import Reading
from assay.serve.query import MOST, OPERATORS, USUAL, Table
from assay.sqltypes import SqlType

_KINDS = {
    "VARCHAR": {"type": "string"}, "BOOLEAN": {"type": "boolean"}, "DATE": {"type": "string", "format": "date"},
    "DOUBLE": {"type": "number", "format": "double"}, "FLOAT": {"type": "number", "format": "float"},
    "BIGINT": {"type": "integer", "format": "int64"}, "INTEGER": {"type": "integer", "format": "int32"},
    "SMALLINT": {"type": "integer"}, "TINYINT": {"type": "integer"}, "HUGEINT": {"type": "integer"},
}  # fmt: skip
_READ = "Reading as of a moment: 2024-01-05 (midnight UTC) or 2024-01-05T21:00:00Z."


def kind(column: Column) -> dict[str, Any]:
    """A column's JSON type; decimals are numbers with all their stored digits."""
    of = SqlType.parse(column.type)
    if of.decimal:
        return {"type": "number", "format": "decimal", "x-precision": of.precision, "x-scale": of.scale}
    if of.timed:
        return {"type": "string", "format": "date-time"}
    return dict(_KINDS.get(of.name, {"type": "string"}))


def _text(column: Column) -> str:
    return f"{column.description or column.name}{f' ({column.unit})' if column.unit else ''}"


def summary(table: Table) -> dict[str, Any]:
    """A table in the list of its zone: where it is, what it holds, how it is keyed and clocked."""
    columns = [
        {
            "name": c.name,
            "type": c.type,
            "unit": c.unit,
            "description": c.description,
            "classification": c.classification,
        }
        for c in table.columns.values()
    ]
    return {
        "name": table.name, "href": table.path, "title": table.title, "description": table.description, "rows": table.rows,
        "key": table.key, "clocks": table.clocks, "origin": table.origins, "columns": columns,
    }  # fmt: skip


def document(title: str, reading: Reading) -> dict[str, Any]:
    """OpenAPI 3.1 of everything served from this release."""
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {"problem": _problem()}
    for table in reading.tables.values():
        schemas[f"{table.zone}_{table.name}"] = _row(table)
        paths[table.path] = {"get": _route(table)}
        if table.zone == "gold":
            paths[f"/v1/explain/{table.name}"] = {"get": _explain(table)}
        elif not table.whole:
            paths[f"/v1/explain/{table.full}"] = {"get": _explain(table)}
    for path, text in {
        "/v1/gold": "The gold tables of the newest release", "/v1/silver": "The silver datasets the newest release read, each with all its versions beside it",
        "/v1/releases/current": "The newest release: number, time, origins, tables", "/v1/health": "Whether a release is served",
    }.items():  # fmt: skip
        paths[path] = {
            "get": {
                "summary": text,
                "responses": {
                    "200": {"description": text, "content": {"application/json": {}}},
                    **_refusals("400", "421", *([] if path == "/v1/health" else ["503"])),
                },
            }
        }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": str(reading.release.number),
            "description": f"Release {reading.release.number} of this lake; origin: {', '.join(reading.release.origins) or 'none'}.",
        },
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": schemas},
    }


def _row(table: Table) -> dict[str, Any]:
    properties = {}
    for column in table.columns.values():
        one = kind(column)
        if column.name not in table.key:
            one["type"] = [one["type"], "null"]
        properties[column.name] = {**one, "description": _text(column), "x-classification": column.classification}
        if column.unit:
            properties[column.name]["x-unit"] = column.unit
    return {"type": "object", "description": table.description, "properties": properties, "x-key": list(table.key)}


def _query(name: str, schema: dict[str, Any], text: str, *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": required, "description": text, "schema": schema}


def _route(table: Table) -> dict[str, Any]:
    parameters = []
    for column in table.columns.values():
        for operator, sign in OPERATORS.items():
            name = column.name if operator == "eq" else f"{column.name}.{operator}"
            parameters.append(_query(name, kind(column), f"rows where {column.name} {sign} the value: {_text(column)}"))
    parameters += [
        _query("select", {"type": "string"}, "columns wanted, separated by commas; all by default"),
        _query("limit", {"type": "integer", "minimum": 1, "maximum": MOST, "default": USUAL}, "rows of a page"),
        _query("cursor", {"type": "string"}, "`next` of the page before; bound to the query and the release"),
        _query("format", {"type": "string", "enum": ["json", "csv"], "default": "json"}, "or by Accept"),
    ]
    if table.answers("known_from"):
        parameters.append(_query("as_of", {"type": "string"}, f"{_READ} Rows as the public could know them then."))
    if table.answers("captured_at"):
        parameters.append(_query("recorded_as_of", {"type": "string"}, f"{_READ} Rows as the lake held them then."))
    envelope = {
        "type": "object",
        "required": ["data", "next", "release", "origin"],
        "properties": {
            "data": {"type": "array", "items": {"$ref": f"#/components/schemas/{table.zone}_{table.name}"}},
            "next": {"type": ["string", "null"], "description": "cursor of the next page; null on the last"},
            "release": {"type": "integer"},
            "origin": {"type": "array", "items": {"enum": ["vendor", "sandbox", "synthetic"]}},
        },
    }
    told = {name: {"schema": {"type": "string"}} for name in ("ETag", "Link", "X-Assay-Release", "X-Assay-Origin")}
    return {
        "summary": table.title or table.name, "description": table.description, "operationId": f"{table.zone}_{table.name}",
        "tags": [table.zone], "parameters": parameters,
        "responses": {
            "200": {"description": f"rows in the order of {', '.join(table.key)}", "headers": told,
                    "content": {"application/json": {"schema": envelope}, "text/csv": {"schema": {"type": "string"}}}},
            "304": {"description": "what you hold is still right"},
            **_refusals("400", "404", "410", "414", "421", "503"),
        },
    }  # fmt: skip


def _explain(table: Table) -> dict[str, Any]:
    keys = [_query(k, kind(table.columns[k]), _text(table.columns[k]), required=True) for k in table.key]
    column = _query("column", {"enum": list(table.columns)}, "the value to explain; the whole row without it")
    return {
        "summary": f"Where a value of {table.full} comes from", "operationId": f"explain_{table.zone}_{table.name}", "tags": ["explain"],
        "parameters": [*keys, column],
        "responses": {
            "200": {"description": "model, silver rows, bronze lines, requests; gone: what took a silver key away; newer of a record: where a later one lies that was rejected", "content": {"application/json": {"schema": {"type": "object"}}}},
            **_refusals("400", "404", "414", "421", "503"),
        },
    }  # fmt: skip


def _refusals(*statuses: str) -> dict[str, Any]:
    texts = {
        "400": "a parameter is wrong; detail says which", "404": "there is no such thing",
        "410": "the cursor is of an older release: restart paging", "414": "the address is too long: shorten the query",
        "421": "this server does not answer to that Host name", "503": "nothing released yet, or too slow",
    }  # fmt: skip
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/problem"}}}
    return {one: {"description": texts[one], "content": content} for one in statuses}


def _problem() -> dict[str, Any]:
    texts = ("type", "title", "detail", "who")
    return {
        "type": "object",
        "description": "RFC 9457; `who` must act: caller, operator or nobody",
        "properties": {**{name: {"type": "string"} for name in texts}, "status": {"type": "integer"}},
    }
