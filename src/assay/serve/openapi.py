"""The OpenAPI description of a release: one typed route per table."""

import sys
from typing import Any

from assay.lake.release import Column
from assay.serve.newest import Reading
from assay.serve.query import MOST, OPERATORS, USUAL, Table
from assay.sqltypes import SqlType

Schema = dict[str, Any]

_KINDS: dict[str, dict[str, Any]] = {
    "VARCHAR": {"type": "string"}, "BOOLEAN": {"type": "boolean"}, "DATE": {"type": "string", "format": "date"},
    "DOUBLE": {"type": "number", "format": "double"},
    "BIGINT": {"type": "integer", "format": "int64"}, "INTEGER": {"type": "integer", "format": "int32"},
}  # fmt: skip
# What a query may say, where that is less than what a row may hold.
_ASKED: dict[str, dict[str, Any]] = {
    "VARCHAR": {"type": "string", "pattern": "^[^\\u0000]*$"},
    "DOUBLE": {"type": "number", "format": "double", "minimum": -sys.float_info.max, "maximum": sys.float_info.max},
}
_STRING: Schema = {"type": "string"}
_STRINGS: Schema = {"type": "array", "items": _STRING}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_ORIGINS: Schema = {"type": "array", "items": {"enum": ["vendor", "sandbox", "synthetic"]}}
_MOMENT: Schema = {"anyOf": [{"type": "string", "format": "date"}, {"type": "string", "format": "date-time"}]}
_READ = "Reading as of a moment: 2024-01-05 (midnight UTC) or 2024-01-05T21:00:00Z."


def kind(column: Column) -> dict[str, Any]:
    """A column's JSON type; decimals are numbers with all their stored digits."""
    of = SqlType.parse(column.type)
    if of.decimal:
        return {"type": "number", "format": "decimal", "x-precision": of.precision, "x-scale": of.scale}
    if of.timed:
        return {"type": "string", "format": "date-time"}
    return dict(_KINDS.get(of.name, {"type": "string"}))


def asked(column: Column) -> Schema:
    """The values that a query may compare a column with; a decimal is digits, so that no client makes a double of it."""
    of = SqlType.parse(column.type)
    if of.decimal:
        whole, rest = of.precision - of.scale, rf"(\.[0-9]{{1,{of.scale}}})?" if of.scale else ""
        return {
            "type": "string",
            "format": "decimal",
            "pattern": f"^-?{f'[0-9]{{1,{whole}}}' if whole else '0'}{rest}$",
        }
    if of.timed:
        return {"type": "string", "format": "date-time"}
    return dict(_ASKED.get(of.name) or _KINDS.get(of.name) or _STRING)


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


def document(title: str, reading: Reading, *, keyed: bool = False) -> dict[str, Any]:
    """OpenAPI 3.1 of everything served from this release; `keyed`, what a key is and that it must be shown."""
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {"problem": _problem()}
    for table in reading.tables.values():
        schemas[f"{table.zone}_{table.name}"] = _row(table)
        paths[table.path] = {"get": _route(table)}
        if table.zone == "gold":
            paths[f"/v1/explain/{table.name}"] = {"get": _explain(table)}
        elif not table.whole:
            paths[f"/v1/explain/{table.full}"] = {"get": _explain(table)}
    lists = {
        "/v1/gold": ("The gold tables of the newest release", _told({"type": "array", "items": _SUMMARY})),
        "/v1/silver": ("The silver datasets the newest release read, each with all its versions beside it", _told({"type": "array", "items": _SUMMARY})),
        "/v1/releases/current": ("The newest release: number, time, origins, tables", _told(_RELEASE)),
        "/v1/health": ("Whether a release is served", _object(status={"enum": ["ok", "empty"]}, release={"type": ["integer", "null"]})),
    }  # fmt: skip
    for path, (text, schema) in lists.items():
        of_release = {} if path == "/v1/health" else {"304": _SAME}
        paths[path] = {
            "get": {
                "summary": text,
                "responses": {
                    "200": {"description": text, "content": {"application/json": {"schema": schema}}},
                    **of_release, **_refusals(),
                },
                **({"security": []} if keyed and path == "/v1/health" else {}),
            }
        }  # fmt: skip
    return {
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": str(reading.release.number),
            "description": f"Release {reading.release.number} of this lake; origin: {', '.join(reading.release.origins) or 'none'}.",
        },
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": schemas,
            "responses": _responses(),
            **({"securitySchemes": _SCHEMES} if keyed else {}),
        },
        **({"security": [{name: []} for name in _SCHEMES]} if keyed else {}),
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
    return {
        "type": "object", "description": table.description, "properties": properties, "additionalProperties": False,
        "x-key": list(table.key),
    }  # fmt: skip


def _object(**properties: Schema) -> Schema:
    """An object that has all of these, and nothing else."""
    return {"type": "object", "required": list(properties), "properties": properties, "additionalProperties": False}


def _nullable(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _told(data: Schema) -> Schema:
    return _object(data=data, release={"type": "integer"}, origin=_ORIGINS)


_SUMMARY = _object(
    name=_STRING, href=_STRING, title=_STRING, description=_STRING, rows=_COUNT, key=_STRINGS,
    clocks={"type": "object", "additionalProperties": _STRING}, origin=_ORIGINS,
    columns={"type": "array", "items": _object(name=_STRING, type=_STRING, unit=_STRING, description=_STRING, classification=_STRING)},
)  # fmt: skip
_RELEASE = _object(
    number={"type": "integer"}, at={"type": "string", "format": "date-time"}, origins=_ORIGINS,
    gold={"type": "object", "additionalProperties": _object(
        rows=_COUNT, snapshot=_STRING, key=_STRINGS, clocks={"type": "object", "additionalProperties": _STRING},
    )},
    silver={"type": "object", "additionalProperties": _object(rows=_COUNT, snapshot={"type": ["string", "null"]}, origins=_ORIGINS)},
)  # fmt: skip
_TEXT: Schema = {"type": ["string", "null"]}
_ANY: Schema = {"type": ["object", "null"]}
_RECORD = {
    "type": "object", "required": ["dataset", "key", "values", "file", "line", "record", "record_refines_to_row", "newer", "rules"],
    "properties": {
        "dataset": _STRING, "key": {"type": "object"}, "values": {"type": "object"}, "file": _STRING, "line": _COUNT, "record": _STRING,
        "record_refines_to_row": {"type": ["boolean", "null"]}, "newer": _ANY, "request": _ANY, "decision": _ANY,
        "rules": {"type": "array", "items": {"type": "object"}},
    },
}  # fmt: skip
_WAY = _object(
    table=_STRING, key={"type": "object"}, column=_STRING, value=_TEXT, unit=_STRING, type=_STRING, column_description=_STRING,
    release={"type": "integer"}, snapshot=_STRING, origin=_ORIGINS, description=_STRING,
    row={"type": "object", "additionalProperties": _TEXT}, gone=_ANY, model=_nullable(_object(relation=_STRING, sql=_STRING, steps=_STRINGS)),
    recomputed=_object(value=_TEXT, equal={"type": "boolean"}),
    inputs={"type": "array", "items": _object(table=_STRING, where=_STRING, rows=_COUNT, listed=_COUNT)},
    records={"type": "array", "items": _RECORD}, not_listed=_COUNT,
)  # fmt: skip
_SAME = {"description": "what you hold is still right"}


def _query(name: str, schema: dict[str, Any], text: str, *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": required, "description": text, "schema": schema}


def _route(table: Table) -> dict[str, Any]:
    parameters = []
    for column in table.columns.values():
        for operator, sign in OPERATORS.items():
            name = column.name if operator == "eq" else f"{column.name}.{operator}"
            parameters.append(
                _query(name, asked(column), f"rows where {column.name} {sign} the value: {_text(column)}")
            )
    parameters += [
        {
            **_query(
                "select",
                {"type": "array", "items": {"enum": list(table.columns)}, "minItems": 1, "uniqueItems": True},
                "columns wanted, separated by commas; all by default",
            ),
            "style": "form",
            "explode": False,
        },
        _query("limit", {"type": "integer", "minimum": 1, "maximum": MOST, "default": USUAL}, "rows of a page"),
        _query(
            "cursor",
            {"type": "string", "minLength": 1},
            "`next` of the page before; bound to the query and the release",
        ),
        _query("format", {"type": "string", "enum": ["json", "csv"], "default": "json"}, "or by Accept"),
    ]
    if table.answers("known_from"):
        parameters.append(_query("as_of", _MOMENT, f"{_READ} Rows as the public could know them then."))
    if table.answers("captured_at"):
        parameters.append(_query("recorded_as_of", _MOMENT, f"{_READ} Rows as the lake held them then."))
    envelope = _object(
        data={"type": "array", "items": {"$ref": f"#/components/schemas/{table.zone}_{table.name}"}},
        next={"type": ["string", "null"], "description": "cursor of the next page; null on the last"},
        release={"type": "integer"}, origin=_ORIGINS, newer=_newer(table),
    )  # fmt: skip
    told = {
        name: {"schema": _STRING} for name in ("ETag", "Link", "X-Assay-Release", "X-Assay-Origin", "X-Assay-Newer")
    }
    return {
        "summary": table.title or table.name, "description": table.description, "operationId": f"{table.zone}_{table.name}",
        "tags": [table.zone], "parameters": parameters,
        "responses": {
            "200": {"description": f"rows in the order of {', '.join(table.key)}", "headers": told,
                    "content": {"application/json": {"schema": envelope}, "text/csv": {"schema": _STRING}},
                    "links": _links(table)},
            "304": _SAME,
            **_refusals("404", "410"),
        },
    }  # fmt: skip


def _explain(table: Table) -> dict[str, Any]:
    keys = [_query(k, asked(table.columns[k]), _text(table.columns[k]), required=True) for k in table.key]
    column = _query("column", {"enum": list(table.columns)}, "the value to explain; the whole row without it")
    return {
        "summary": f"Where a value of {table.full} comes from", "operationId": f"explain_{table.zone}_{table.name}", "tags": ["explain"],
        "parameters": [*keys, column],
        "responses": {
            "200": {"description": "model, silver rows, bronze lines, requests; gone: what took a silver key away; newer of a record: where a later one lies that was rejected", "content": {"application/json": {"schema": _WAY}}},
            **_refusals("404"),
        },
    }  # fmt: skip


def _newer(table: Table) -> Schema:
    """Where a later record lies that was rejected: of silver's rows each, of gold's how many of its input tables' rows."""
    if table.zone == "gold":
        told = _object(table=_STRING, rows=_COUNT)
        text = "input tables with rows whose later record lies in quarantine or in a held batch, and how many; an explanation says of a value whether it rests on one"
    else:
        told = _object(
            key={"type": "object"},
            batch=_STRING,
            held={"type": "boolean"},
            captured_at={"type": "string", "format": "date-time"},
            reasons=_STRINGS,
        )
        text = "the rows of this page whose later record lies in quarantine or in a held batch: it is newer than what is served"
    return {"type": ["array", "null"], "items": told, "description": f"{text}; null where that is not known"}


def _links(table: Table) -> dict[str, Any]:
    """Where an answer leads: to its next page, and from its first row to where that comes from."""
    links = {"next": {"operationId": f"{table.zone}_{table.name}", "parameters": {"cursor": "$response.body#/next"}}}
    if not table.whole:
        links["why"] = {
            "operationId": f"explain_{table.zone}_{table.name}",
            "parameters": {k: f"$response.body#/data/0/{k}" for k in table.key},
        }
    return links


_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "an API key"},
    "basic": {"type": "http", "scheme": "basic", "description": "any user, and an API key as the password"},
}
# What any route may answer, beside what is its own.
_USUAL = ("400", "401", "403", "414", "421", "431", "500", "503")


def _refusals(*more: str) -> dict[str, Any]:
    return {one: {"$ref": f"#/components/responses/{one}"} for one in sorted((*_USUAL, *more))}


def _responses() -> dict[str, Any]:
    texts = {
        "400": "a parameter is wrong, or the address is not percent-encoded; detail says which",
        "401": "where keys are demanded: no key, or none that is good", "403": "asked from another web origin, or a table that the key does not read",
        "404": "there is no such thing: no such row, or no page of this cursor and query",
        "410": "the cursor is of an older release: restart paging", "414": "the address is too long: shorten the query",
        "421": "this server does not answer to that Host name", "500": "the server failed, or what is stored is damaged: the lake's owner must act",
        "503": "nothing released yet, too slow, or too many explanations at once",
    }  # fmt: skip
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/problem"}}}
    found: dict[str, Any] = {one: {"description": text, "content": content} for one, text in texts.items()}
    found["401"]["headers"] = {"WWW-Authenticate": {"schema": _STRING, "description": "how a key is shown"}}
    found["503"]["headers"] = {"Retry-After": {"schema": _COUNT, "description": "seconds, where waiting helps"}}
    found["431"] = {"description": "the headers are larger than 64 KB", "content": {"text/plain": {"schema": _STRING}}}
    return found


def _problem() -> dict[str, Any]:
    texts = ("type", "title", "detail")
    return {
        "description": "RFC 9457; `who` must act: caller, operator or nobody",
        **_object(
            **dict.fromkeys(texts, _STRING), status={"type": "integer"}, who={"enum": ["caller", "operator", "nobody"]}
        ),
    }
