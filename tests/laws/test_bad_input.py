"""Every logical type × every class of bad input: a row exactly, or quarantine with a reason; nothing lost, nothing wrong."""

from dataclasses import replace
from pathlib import Path

import pytest
from isal import igzip

from assay.contract import odcs
from assay.contract.model import Contract
from assay.engines.duckdb import DuckDBEngine
from assay.ports import Limits, Lines
from tests.laws import oracle
from tests.making import EVERY_TYPE, record

_UPTO, _, _AFTER = EVERY_TYPE.partition("    quality:\n")
CONTRACT = _UPTO + "customProperties:" + _AFTER.partition("customProperties:")[2]
"""Every type, and no rule."""


TOKENS = {
    "missing": None,
    "null": "null",
    "empty": '""',
    "blank": '" "',
    "word": '"abc"',
    "true": "true",
    "quoted true": '"true"',
    "False": '"False"',
    "zero": "0",
    "minus zero": "-0.0",
    "whole": "5",
    "whole as decimal": "5.0",
    "whole as text": '"5"',
    "decimal": "1.5",
    "decimal as text": '"1.5"',
    "decimal as text, zeros": '"1.50000000000"',
    "too many decimals": "1.23456789012",
    "too many decimals as text": '"1.23456789012"',
    "half": "1.0000005",
    "exponent": "12e2",
    "small exponent": "1e-7",
    "huge exponent": "1e400",
    "overflow": "9223372036854775808",
    "least": "-9223372036854775808",
    "20 digits": "99999999999999999999",
    "25 digits": "1234567890123456789012345",
    "25 digits, decimals": "1.234567890123456789012345",
    "19 digits, decimals": "1234567890123.456789",
    "19 digits as text": '"1234567890123.456789"',
    "underscore": '"1_000"',
    "hex": '"0x10"',
    "plus": '"+5"',
    "arabic digits": '"\u0661\u0662"',
    "NaN": "NaN",
    "Infinity": "Infinity",
    "-Infinity": "-Infinity",
    "NaN as text": '"NaN"',
    "date": '"2024-02-29"',
    "bad date": '"2023-02-29"',
    "month 13": '"2024-13-01"',
    "short date": '"2024-2-9"',
    "slashes": '"2024/02/29"',
    "year 10000": '"10000-01-01"',
    "year 0": '"0000-01-01"',
    "date as number": "20240229",
    "infinity": '"infinity"',
    "epoch": '"epoch"',
    "time": '"2024-02-29 10:00:00"',
    "time with zone": '"2024-02-29T10:00:00.123456+02:00"',
    "time without seconds": '"2024-02-29T10:00"',
    "hour 24": '"2024-02-29T24:00:00Z"',
    "time, year 10000": '"10000-01-01T00:00:00Z"',
    "object": '{"a":1}',
    "array": "[1,2]",
    "escape": '"\\u00e9\\n"',
    "nul": '"a\\u0000b"',
    "lone surrogate": '"\\ud800"',
    "separators": '"a\\u001eb\\u001f"',
    "1 MiB": '"' + "x" * 2**20 + '"',
}
COLUMNS = ["id", "whole", "amount", "flag", "day", "at", "note", "maybe"]
WHOLE_RECORDS = {
    "a number": b"42",
    "a text": b'"x"',
    "an array": b"[1]",
    "null": b"null",
    "no field": b"{}",
    "truncated": b'{"id":"a","whole":',
    "bad encoding": record(id='"b"').replace(b'"b"', b'"b\xff"'),
    "binary": bytes(b for b in range(1, 256) if b not in b"\x01\r\n"),
    "a key twice": record(id='"k"').replace(b'"whole":7', b'"whole":8,"whole":9'),
    "a control character": record(id='"\x01"'),
    "nested deeply": record(note="[" * 500 + "]" * 500),
}


@pytest.mark.parametrize("column", COLUMNS)
def test_every_class_of_bad_input(tmp_path: Path, column: str) -> None:
    cases = {
        f"{column}/{name}": record(**{"id": f'"{i}"', column: token}) for i, (name, token) in enumerate(TOKENS.items())
    }
    _same_as_the_oracle(tmp_path, odcs.parse(CONTRACT), cases)


def test_whole_records(tmp_path: Path) -> None:
    _same_as_the_oracle(tmp_path, odcs.parse(CONTRACT), WHOLE_RECORDS | {"good": record()})


@pytest.mark.parametrize("column", ["whole", "amount", "maybe"])
def test_every_class_of_bad_input_where_excess_is_rounded(tmp_path: Path, column: str) -> None:
    made = odcs.parse(CONTRACT)
    rounded = replace(made, columns=tuple(replace(c, excess="round") if c.name == column else c for c in made.columns))
    more = {
        "exponent as text": '"12e2"',
        "blanks as text": '" 5 "',
        "point alone": '"5."',
        "no": '"5 x"',
        "tie": "0.0000005",
    }
    tokens = {name: token for name, token in (TOKENS | more).items() if "digits, decimals" not in name}
    cases = {name: record(**{"id": f'"{i}"', column: token}) for i, (name, token) in enumerate(tokens.items())}
    _same_as_the_oracle(tmp_path, rounded, cases)


def _same_as_the_oracle(root: Path, contract: Contract, cases: dict[str, bytes]) -> None:
    names = list(cases)
    lines = [b'{"_seq":%d,"_n":3,"_record":%s}' % (seq, one) for seq, one in enumerate(cases.values())]
    data = b"".join(line + b"\n" for line in lines)
    (root / "part.ndjson.gz").write_bytes(igzip.compress(data, 1))
    engine = DuckDBEngine(Limits(scratch=root / "scratch"))
    with engine.group(contract, [Lines(str(root / "part.ndjson.gz"), len(lines), len(data), {3: 1_000_003})]) as group:
        counted = group.judged()[1_000_003]
        bad = {names[one.seq]: (set(one.reasons), one.line) for one in group.rejected([1_000_003])}
    assert counted.rows == len(cases) == counted.good + counted.duplicate + counted.quarantined
    rows = dict(zip(names, engine.rows(contract, lines), strict=True))
    for name, line in zip(names, lines, strict=True):
        row, reasons = oracle.judge(contract, line)
        assert bad.get(name) == ((reasons, line) if row is None else None), name
        if row is not None:
            row |= {"known_at": oracle.known_at(contract, row), "_hash": oracle.digest(contract, row)}
        assert rows[name] == row, name


def test_a_line_over_the_readers_limit_is_quarantined_whole(tmp_path: Path) -> None:
    lines = [
        b'{"_seq":%d,"_n":0,"_record":%s}' % (i, record(note='"' + "y" * n + '"')) for i, n in enumerate((1, 5 * 2**20))
    ]
    (tmp_path / "part").write_bytes(igzip.compress(b"\n".join([*lines, b""]), 1))
    part = Lines(str(tmp_path / "part"), 2, sum(map(len, lines)) + 2, {0: 1_000_000})
    with DuckDBEngine(Limits(scratch=tmp_path)).group(odcs.parse(CONTRACT), [part]) as group:
        assert group.judged()[1_000_000].good == 1
        assert [(one.seq, one.reasons, one.line) for one in group.rejected([1_000_000])] == [
            (1, ("line:too_long",), lines[1])
        ]


def test_no_column_name_meets_one_of_ours(tmp_path: Path) -> None:
    renamed = CONTRACT.replace("name: note,", "name: filename,").replace(
        'name: maybe, logicalType: number, physicalType: "decimal(38,10)"', "name: t_id, logicalType: string"
    )
    found = DuckDBEngine(Limits(scratch=tmp_path)).rows(
        odcs.parse(renamed), [b'{"_seq":0,"_n":0,"_record":%s}' % record(filename='"mine"', t_id='"its"')]
    )
    assert [(one["id"], one["filename"], one["t_id"]) for one in found if one] == [("a", "mine", "its")]
