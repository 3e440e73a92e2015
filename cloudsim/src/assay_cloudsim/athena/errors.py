"""What goes wrong in a query, in Athena's words: https://docs.aws.amazon.com/athena/latest/ug/error-reference.html."""

import re
from dataclasses import dataclass, field
from typing import Any

import duckdb
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError, ValidationException
from sqlglot import exp

USER, SYSTEM = 2, 1
# ErrorType of AthenaError by the error's name; what the reference does not list is 1 (see "athena.md", Errors).
TYPES = {
    "COLUMN_NOT_FOUND": 1006,
    "TABLE_NOT_FOUND": 1301,
    "SCHEMA_NOT_FOUND": 1301,
    "SYNTAX_ERROR": 1003,
    "TYPE_MISMATCH": 1002,
    "FUNCTION_NOT_FOUND": 1006,
    "ICEBERG_COMMIT_ERROR": 233,
}


class Refused(Exception):
    """A request that makes no query: the answer is InvalidRequestException with `code` as its AthenaErrorCode."""

    def __init__(self, message: str, code: str = "INVALID_INPUT") -> None:
        super().__init__(message)
        self.code = code


class Stopped(Exception):
    """The query was stopped by its client, or by a limit: its state is CANCELLED, and this says why."""


@dataclass
class Failed(Exception):
    """A query that fails: `NAME: what`, or Hive's own sentence where `name` is empty."""

    name: str
    what: str
    at: tuple[int, int] | None = field(default=None)

    def __str__(self) -> str:
        where = f"line {self.at[0]}:{self.at[1]}: " if self.at else ""
        return f"{self.name}: {where}{self.what}" if self.name else self.what

    def athena_error(self) -> dict[str, Any]:
        """The AthenaError of GetQueryExecution."""
        category = SYSTEM if self.name == "GENERIC_INTERNAL_ERROR" else USER
        retryable = self.name == "ICEBERG_COMMIT_ERROR"
        return {
            "ErrorCategory": category,
            "ErrorType": TYPES.get(self.name, 1),
            "Retryable": retryable,
            "ErrorMessage": str(self),
        }


def position(node: exp.Expr) -> tuple[int, int] | None:
    """Where a node begins, from 1:1, as far as the parser kept it."""
    named = isinstance(node, exp.Table | exp.Column)
    parts = node.parts if isinstance(node, exp.Table | exp.Column) else node.walk()
    known = [n for n in parts if {"line", "start", "end", "col"} <= n.meta.keys()]
    if not known:
        return None
    first = min(known, key=lambda n: int(n.meta["start"])) if named else known[0]
    return first.meta["line"], max(1, first.meta["col"] - (first.meta["end"] - first.meta["start"]))


def of_column(name: str, tree: exp.Expr) -> Failed:
    """COLUMN_NOT_FOUND of the first column of this name that a statement holds."""
    last = name.rsplit(".", maxsplit=1)[-1].strip('"').lower()
    found = next((c for c in tree.find_all(exp.Column) if c.name.lower() == last), None)
    said = ".".join(p.name for p in found.parts) if found else name
    return Failed("COLUMN_NOT_FOUND", f"Column '{said}' cannot be resolved", position(found) if found else None)


_WORDS = (
    (r"Referenced column \"([^\"]+)\" (?:not found|was not found)", "COLUMN_NOT_FOUND", None),
    (r"(?:Table \"[^\"]+\" does not have a column named|Values list \"[^\"]+\" does not have a column named) \"([^\"]+)\"", "COLUMN_NOT_FOUND", None),
    (r"Ambiguous reference to column name \"([^\"]+)\"", "AMBIGUOUS_NAME", "Column '{0}' is ambiguous"),
    (r"Division by zero", "DIVISION_BY_ZERO", "Division by zero"),
    (r"Could not convert string '(.*?)' to '?(\w+)", "INVALID_CAST_ARGUMENT", "Cannot cast '{0}' to {1}"),
    (r"(?:date|timestamp|time) field value out of range: \"(.*?)\"", "INVALID_CAST_ARGUMENT", "Value cannot be cast to date or timestamp: {0}"),
    (r"invalid (date|timestamp) field format: \"(.*?)\"", "INVALID_CAST_ARGUMENT", "Value cannot be cast to {0}: {1}"),
    (r"Type (\w+) with value (\S+) can't be cast because the value is out of range for the destination type (\w+)", "NUMERIC_VALUE_OUT_OF_RANGE", "Out of range for {2}: {1}"),
    (r"Overflow in ([\w ]+?) of (\w+) \((.*?)\)", "NUMERIC_VALUE_OUT_OF_RANGE", "{1} {0} overflow: {2}"),
    (r"Could not cast value (\S+) to (DECIMAL\(\d+,\s*\d+\))", "INVALID_CAST_ARGUMENT", "Cannot cast '{0}' to {1}"),
    (r"Casting value \"(.*?)\" to type (\S+) failed", "INVALID_CAST_ARGUMENT", "Cannot cast '{0}' to {1}"),
    (r"column \"?([^\"]+?)\"? must appear in the GROUP BY clause", "EXPRESSION_NOT_AGGREGATE", "'{0}' must be an aggregate expression or appear in GROUP BY clause"),
    (r"More than one row returned by a subquery", "SUBQUERY_MULTIPLE_ROWS", "Scalar sub-query has returned multiple rows"),
    (r"Malformed JSON", "INVALID_FUNCTION_ARGUMENT", "Cannot convert value to JSON"),
    (r"No function matches the given name and argument types '(.*?)'", "TYPE_MISMATCH", "Unexpected parameters for function {0}"),
    (r"Cannot (?:compare|mix) values of type (\S+) and", "TYPE_MISMATCH", "Cannot apply operator to {0}"),
    (r"Cannot cast|Unimplemented type for cast|Cannot (?:compare|mix|combine)", "TYPE_MISMATCH", None),
)  # fmt: skip
_TYPES = {"INT32": "INT", "INT64": "BIGINT", "INT16": "SMALLINT", "INT8": "TINYINT", "BOOL": "BOOLEAN"}


def translated(error: BaseException, tree: exp.Expr | None) -> Failed | Stopped:
    """A library's error in Athena's words."""
    if isinstance(error, Failed | Stopped):
        return error
    if isinstance(error, duckdb.InterruptException):
        return Stopped("Query was cancelled by user")
    if isinstance(error, CommitFailedException | ValidationException):
        return Failed("ICEBERG_COMMIT_ERROR", f"Failed to commit Iceberg update to table: {error}")
    if isinstance(error, NoSuchTableError):
        return Failed("TABLE_NOT_FOUND", str(error))
    said = str(error).split("\n")[0]
    if not isinstance(error, duckdb.Error):
        return Failed("GENERIC_INTERNAL_ERROR", f"{type(error).__name__}: {said}")
    if told := re.search(r"string '~([A-Z_]{6,}): (.*)' to INT64", str(error), re.DOTALL):  # macros.fail
        return Failed(told[1], told[2])
    for pattern, name, words in _WORDS:
        if match := re.search(pattern, str(error), re.DOTALL):
            if name == "COLUMN_NOT_FOUND":
                return (
                    of_column(match[1], tree)
                    if tree is not None
                    else Failed(name, f"Column '{match[1]}' cannot be resolved")
                )
            groups = [_TYPES.get(g, g) for g in match.groups()]
            return Failed(name, words.format(*groups) if words else said)
    return Failed(
        "SYNTAX_ERROR" if isinstance(error, duckdb.ParserException | duckdb.BinderException) else "GENERIC_USER_ERROR",
        said,
    )
