"""What the suite of engines gives to each: a contract of many kinds of columns, lines, and parts that hold them."""

import json
from datetime import datetime
from pathlib import Path

import pytest
from isal import igzip

from assay.contract.model import Column, Contract, Gate, KnownAt
from assay.engines.duckdb import DuckDBEngine
from assay.ports import Engine, Limits, Lines
from tests import sparks
from tests.laws.slow_engine import SlowEngine

ENGINES = ["duckdb", "slow", pytest.param("spark", marks=sparks.NEEDED)]
NAMES = ["duckdb", "slow"]


def engine_of(name: str, scratch: Path) -> Engine:
    """An engine by its name."""
    if name == "spark":
        sparks.started()
        from assay.engines import spark

        return spark.opened()
    return DuckDBEngine(Limits("500MB", 2, scratch)) if name == "duckdb" else SlowEngine()


def column(name: str, kind: str, *paths: str, **more) -> Column:
    """A column that is read from paths such as `address.city`; without any, from the field of its name."""
    made = Column(name, "", kind, **more) if "origin" in Column.__dataclass_fields__ else Column(name, (), kind, **more)
    object.__setattr__(made, "origins", tuple(tuple(p.split(".")) for p in paths or (name,)))
    return made


COLUMNS = (
    column("id", "string", required=True),
    column("whole", "integer"),
    column("amount", "number", precision=18, scale=6),
    column("rough", "number", "rough", "a.rough", precision=9, scale=2, excess="round"),
    column("share", "number", precision=4, scale=4),
    column("flag", "boolean"),
    column("day", "date", required=True),
    column("at", "timestamp"),
    column("local", "timestamp", zone="America/New_York"),
    column("city", "string", "a.city", "a.b.town", "it's\"/~x"),
    column("a_note", "string", "a.note"),
)
KEY = ("id", "day")


def contract(*more: Column, **changes) -> Contract:
    """The contract of those columns, with some more and some of its values changed."""
    made = Contract.__new__(Contract)
    values = {
        "dataset": "things", "columns": COLUMNS + more, "key": KEY, "rules": (), "gate": Gate(), "sequence": None, "settle": "P3D",
        "known_at": KnownAt("day", "01:30", "America/New_York", "PT1H"), "partition": None,
    }  # fmt: skip
    for name, value in (values | changes).items():
        object.__setattr__(made, name, value)
    return made


def local(*parts: int) -> datetime:
    """A time without a zone."""
    return datetime(*parts)  # noqa: DTZ001 - no zone yet


def line(seq: int, n: int, record: str, op: str = "") -> bytes:
    """A bronze line."""
    said = b'"_op":"%s",' % op.encode() if op else b""
    return b'{"_seq":%d,"_n":%d,%s"_record":%s}' % (seq, n, said, record.encode())


def part(path: Path, lines: list[bytes], batches: dict[int, int]) -> Lines:
    """A part of bronze that holds lines, and the places of its batches."""
    data = b"".join(one + b"\n" for one in lines)
    path.write_bytes(igzip.compress(data, 1))
    return Lines(str(path), len(lines), len(data), batches)


def good(**fields: str) -> str:
    """A record that fits the contract, with some tokens of its own."""
    tokens = {"id": '"a"', "day": '"2024-02-29"'} | fields
    return "{" + ",".join(f"{json.dumps(name)}:{token}" for name, token in tokens.items()) + "}"
