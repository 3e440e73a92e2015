"""Names, texts and values as Spark's SQL has them."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

from assay.sqltypes import SqlType

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def told(columns: Sequence[tuple[str, str]]) -> list[str]:
    """Expressions of columns as they are to be collected: moments as microseconds, which no machine's zone changes."""
    return [
        f"unix_micros({ident(name)}) AS {ident(name)}" if SqlType.parse(kind).zoned else ident(name)
        for name, kind in columns
    ]


def value(kind: str, given: Any) -> Any:
    """A value that was collected by `told`, as Python has it."""
    return _EPOCH + timedelta(microseconds=given) if given is not None and SqlType.parse(kind).zoned else given


def typed(kind: str, given: Any) -> Any:
    """A value, or a text that spells one, as Python has it."""
    if not isinstance(given, str):
        return given
    name = SqlType.parse(kind).name
    if name == "TIMESTAMPTZ":
        moment = datetime.fromisoformat(given)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    reads: dict[str, Callable[[str], Any]] = {
        "DATE": date.fromisoformat, "BIGINT": int, "INTEGER": int, "DECIMAL": Decimal, "BOOLEAN": lambda v: v.lower() == "true",
    }  # fmt: skip
    return reads.get(name, str)(given)


def spelt(given: Any) -> str:
    """A value as a text that Spark casts back to it."""
    if isinstance(given, bool):
        return "true" if given else "false"
    if isinstance(given, datetime):
        moment = given if given.tzinfo else given.replace(tzinfo=UTC)
        return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%fZ").rjust(27, "0")
    if isinstance(given, date):
        return given.isoformat()
    return format(given, "f") if isinstance(given, Decimal) else str(given)


def type_of(kind: str) -> str:
    """A contract's type as Spark calls it."""
    found = SqlType.parse(kind)
    return {"VARCHAR": "STRING", "TIMESTAMPTZ": "TIMESTAMP", "INTEGER": "INT"}.get(found.name, str(found))


def ident(name: str) -> str:
    """A name as a quoted identifier."""
    return "`" + name.replace("`", "``") + "`"


def text(given: str) -> str:
    """A string as a quoted literal, in which a backslash is one."""
    return "'" + given.replace("\\", "\\\\").replace("'", "\\'") + "'"


def named(url: str) -> str:
    """A file's URL as every reader spells it: without scheme of a disk, `s3a` as `s3`, nothing escaped."""
    plain = unquote(url) if "://" in url or url.startswith("file:") else url
    plain = re.sub(r"^file:/{0,2}(?=/)", "", plain)
    return re.sub(r"^s3[an]://", "s3://", plain)
