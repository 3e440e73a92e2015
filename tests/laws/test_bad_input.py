"""Every logical type × every class of bad input: a row exactly, or quarantine with a reason; nothing lost, nothing wrong."""

import pytest

from assay import refine as refining
from assay.errors import SourceSuspect
from assay.lake import bronze
from assay.refine.sql import refinement
from tests.laws import oracle
from tests.making import Made, every_type, record

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
def test_every_class_of_bad_input(made: Made, column: str) -> None:
    contract = every_type(("quarantinedAtMost: 50", "quarantinedAtMost: 100"), ('"whole < 1000000"', '"1 = 1"'))
    cases = {
        f"{column}/{name}": record(**{"id": f'"{i}"', column: token}) for i, (name, token) in enumerate(TOKENS.items())
    }
    _same_as_the_oracle(made, contract, cases)


def test_whole_records(made: Made) -> None:
    contract = every_type(("quarantinedAtMost: 50", "quarantinedAtMost: 100"), ('"whole < 1000000"', '"1 = 1"'))
    _same_as_the_oracle(made, contract, WHOLE_RECORDS | {"good": record()})


def _same_as_the_oracle(made: Made, contract, cases: dict[str, bytes]) -> None:
    manifest = made.land(contract, list(cases.values()))
    done = made.refine(contract, [manifest])
    assert done.evidence
    verdict = done.evidence.verdicts[0]
    assert verdict.captured == len(cases) == verdict.accepted + verdict.duplicate + verdict.quarantined + verdict.held
    names = list(cases)
    columns = [c.name for c in contract.columns]
    observed = made.current(contract, ", ".join(f'"{c}"' for c in columns))
    got_rows = {row[0]: row for row in observed}
    got_bad = {}
    for seq, reasons, line in refining.quarantined(made.files, verdict):
        assert line == bronze.line(made.files, manifest, seq)[2], names[seq]
        got_bad[names[seq]] = set(reasons)
    for seq, name in enumerate(names):
        row, reasons = oracle.judge(contract, bronze.line(made.files, manifest, seq)[2])
        if row is None:
            assert got_bad.get(name) == reasons, name
        else:
            assert name not in got_bad, (name, got_bad[name])
            assert dict(zip(columns, got_rows[row["id"]], strict=True)) == row, name
    lines = [bronze.line(made.files, manifest, seq)[2] for seq in range(len(names))]
    for name, alone in zip(names, made.engine.rows(refinement(contract), lines), strict=True):
        assert (alone is None) == (name in got_bad), name
        assert alone is None or tuple(alone[c] for c in columns) == got_rows[alone["id"]], name


@pytest.mark.parametrize("broken", [b"\n", b"\r", b"\r\n"])
def test_a_raw_line_break_in_a_record_is_refused_before_anything_changed(made: Made, broken: bytes) -> None:
    contract = every_type()
    with pytest.raises(SourceSuspect, match="raw line break"):
        made.land(contract, [record(), record(note='"a' + broken.decode() + 'b"')])
    assert not list(bronze.manifests(made.files, contract.dataset))


def test_a_line_over_the_readers_limit_is_quarantined_whole(made: Made) -> None:
    contract = every_type(("quarantinedAtMost: 50", "quarantinedAtMost: 100"))
    manifest = made.land(contract, [record(), record(note='"' + "y" * 5 * 2**20 + '"')])
    done = made.refine(contract, [manifest])
    assert done.evidence
    [(seq, reasons, line)] = refining.quarantined(made.files, done.evidence.verdicts[0])
    assert (seq, reasons) == (1, ["line:too_long"])
    assert line == bronze.line(made.files, manifest, 1)[2]


def test_no_column_name_meets_one_of_ours(made: Made) -> None:
    contract = every_type(
        ("name: note,", "name: filename,"),
        ('name: maybe, logicalType: number, physicalType: "decimal(38,10)"', "name: t_id, logicalType: string"),
    )
    manifest = made.land(contract, [record(filename='"mine"', t_id='"its"')])
    made.refine(contract, [manifest])
    assert made.current(contract, "id, filename, t_id") == [("a", "mine", "its")]
