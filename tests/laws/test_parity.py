"""Law 7: DuckDB, Spark and plain Python say the same of every expression, every token and every history."""

import json
import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from assay import guard
from assay.contract import odcs
from assay.contract.model import Contract
from assay.errors import ContractError
from assay.lake import duck
from assay.ports import Engine, Limits, Lines, N
from assay.sqltypes import SqlType
from tests import sparks
from tests.every import test_every_fold as folds
from tests.every.engines import COLUMNS, column, contract, engine_of, good, line, part
from tests.laws import rules as oracle

pytestmark = sparks.NEEDED
ROOT = Path(__file__).parents[2]
KINDS = {c.name: c.type for c in COLUMNS if c.name not in ("at", "local")} | {
    "moment": "TIMESTAMPTZ",
    "far": "DECIMAL(38,10)",
    "near": "DECIMAL(4,4)",
}

# (a) what a rule can say

NUMBERS = ["whole", "amount", "far", "near", "3", "-2", "0.5"]
EXPRESSIONS = [
    *folds.EXPRESSIONS,
    *(f"{a} {op} {b}" for a, b in (("whole", "amount"), ("amount", "far"), ("near", "rough"), ("whole", "3")) for op in ("+", "-", "=", "<", "<=", "<>", "/")),
    *(f"{a} * {b}" for a, b in (("whole", "near"), ("amount", "rough"), ("rough", "2"), ("near", "0.5"))),
    *(f"{a} % {b}" for a, b in (("whole", "7"), ("amount", "0.7"), ("far", "3"), ("near", "0.3"), ("whole", "-3"))),
    *(f"round({a}{n})" for a in ("amount", "far", "near", "whole") for n in ("", ", 1", ", 3")),
    *(f"abs({a})" for a in NUMBERS), *(f"-({a})" for a in NUMBERS),
    *(f"CAST({a} AS {t})" for a in ("amount", "near", "rough", "whole") for t in ("BIGINT", "DOUBLE", "DECIMAL(12,2)", "VARCHAR", "BOOLEAN")),
    "CAST(day AS VARCHAR)", "CAST(flag AS VARCHAR)", "CAST(moment AS DATE)", "CAST(moment AS VARCHAR)", "CAST(day AS TIMESTAMPTZ)", "CAST(flag AS BIGINT)",
    "CAST('2024-02-29T10:00:00+01:00' AS TIMESTAMPTZ) < moment", "CAST(whole / 2 AS BIGINT)", "CAST(amount / 4 AS BIGINT)",
    "greatest(whole, amount, 2)", "least(amount, far)", "greatest(id, city)", "coalesce(city, id, 'x')", "coalesce(amount, whole, 0.5)", "nullif(id, city)",
    "length(id)", "upper(city)", "lower(city)", "trim(city)", "trim(city, ' x')", "length(trim(city))", "ltrim(city)", "rtrim(city)",
    *(f"regexp_matches(city, '{p}')" for p in ("^a", "b$", "^.$", r"\d", r"\w+", r"^[^a-c]+$", r"\bx\b", r"a|\.", "[$^.]", r"^(?:ab?)+$", r"\W", r"\D{2}", "é")),
    "id < city", "id = city", "city IN ('a', 'é', NULL)", "city NOT IN ('a', 'b')", "id BETWEEN 'a' AND 'b'", "city IS NULL", "flag IS TRUE", "flag IS NOT FALSE",
    "year(day)", "month(day)", "isodow(day)", "year(moment)", "month(moment)", "isodow(moment)", "day < moment", "day = '2024-02-29'", "moment >= '2024-02-29T10:00:00Z'",
    "day BETWEEN '2024-01-01' AND '2024-12-31'", "whole > 2 AND flag", "whole > 2 OR flag", "NOT (whole > 2 AND NULL)", "CASE WHEN flag THEN whole ELSE amount END",
    "CASE city WHEN 'a' THEN 1 WHEN 'b' THEN 2.5 END", "if(flag, id, city)", "whole / 0", "(whole - whole) / 0", "whole / 3 > 0.3", "amount / near",
    "9223372036854775807 > whole", "whole = 2.0", "amount = 1.5e0", "whole > 1e0", "far * 2 > 10", "amount IN (1, 1.5, 2)",
]  # fmt: skip
TEXTS = [
    "",
    "a",
    "b",
    " a\u00a0",
    "ß",
    "ﬁ",
    "İstanbul",
    "ΑΣ",
    "é😀",
    "x",
    "a.b\n",
    "\u2028",
    "1٣",
    'it\'s \\ "q"',
    None,
]


def rows() -> list[dict[str, Any]]:
    """Nasty values of every column, each with several others."""
    any_ = Random(7)
    options: dict[str, Sequence[Any]] = {
        "id": ["a", "b", "é"], "whole": [0, 1, 2, 3, -7, 10**9, None], "amount": [Decimal(n) for n in ("0", "1.5", "2.45", "-0.5", "0.000001", "99999.345678")] + [None],
        "rough": [Decimal("0.01"), Decimal("-1234.89"), Decimal("2.50"), None], "share": [None], "near": [Decimal("0.5"), Decimal("-0.5"), Decimal("0.0001"), Decimal("0.9999"), None],
        "far": [Decimal("9007199254740993.0000000001"), Decimal("-0.0000000001"), Decimal(3), None], "flag": [True, False, None], "a_note": [None],
        "day": [date(2024, 2, 29), date(1969, 12, 28), date(1, 1, 1), date(9999, 12, 31)],
        "moment": [datetime(2024, 2, 29, 10, tzinfo=UTC), datetime(1969, 12, 31, 23, 59, 59, 500000, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC), None], "city": TEXTS,
    }  # fmt: skip
    out = [{name: any_.choice(values) for name, values in options.items()} for _ in range(150)]
    for name, values in options.items():
        for i, one in enumerate(values):
            out[i][name] = one
    scales = {name: SqlType.parse(kind).scale for name, kind in KINDS.items()}
    return [{n: round(v, scales[n]) if isinstance(v, Decimal) else v for n, v in row.items()} for row in out]


def alike(a: Any, b: Any) -> bool:
    """Whether two engines' values are one."""
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def test_every_expression_has_one_value_on_every_engine(tmp_path: Path) -> None:
    """No cell of DuckDB's and Spark's differs, nor of plain Python's where it speaks; those left out are named."""
    sparks.started()
    from assay.engines.spark import rules
    from assay.engines.spark import session as sessions
    from assay.engines.spark.words import told, value

    assert len(EXPRESSIONS) >= 120
    given_, trees, said = rows(), [], []
    for text in EXPRESSIONS:
        node = guard._parse(text)
        said.append(rules._said(node, KINDS))
        trees.append(node)
    names = list(KINDS)
    con = duck.open(Limits(scratch=tmp_path))
    con.execute(f"CREATE TABLE t (nr INTEGER, {', '.join(f'{n} {k}' for n, k in KINDS.items())})")
    for nr, row in enumerate(given_):
        con.execute(f"INSERT INTO t VALUES ({', '.join('?' * (len(names) + 1))})", [nr, *(row[n] for n in names)])
    fast = [con.execute(f"SELECT {node.sql(dialect='duckdb')} FROM t ORDER BY nr").fetchall() for node in trees]
    con.close()
    kinds = [("nr", "INTEGER"), *KINDS.items()]
    with sessions.session() as spark:
        table = sessions.table(spark, kinds, [(nr, *(row[n] for n in names)) for nr, row in enumerate(given_)])
        table = table.selectExpr(*(f"`{n}`" for n in ("nr", *names)))
        cells = table.selectExpr("nr", *(f"{one.sql} AS e{i}" for i, one in enumerate(said)))
        kind = [
            str(cells.schema[f"e{i}"].dataType.simpleString()).replace("timestamp", "TIMESTAMPTZ")
            for i in range(len(said))
        ]
        read = cells.selectExpr(*told([(f"e{i}", k if k == "TIMESTAMPTZ" else "VARCHAR") for i, k in enumerate(kind)]))
        found = read.collect()
        # The product compiles, these tests do not: a part at a time, so that none is too much to be compiled.
        spark.conf.set("spark.sql.codegen.factoryMode", "CODEGEN_ONLY")
        for first in range(0, len(said), 50):
            mine = [f"e{i}" for i in range(first, min(first + 50, len(said)))]
            compiled = table.selectExpr(*(f"{said[int(e[1:])].sql} AS {e}" for e in mine))
            compiled = compiled.selectExpr(
                *told([(e, kind[int(e[1:])]) for e in mine if kind[int(e[1:])] == "TIMESTAMPTZ"]),
                *(e for e in mine if kind[int(e[1:])] != "TIMESTAMPTZ"),
            )
            for nr, cells_ in enumerate(compiled.collect()):
                for e in mine:
                    assert alike(cells_[e], found[nr][e]), (
                        EXPRESSIONS[int(e[1:])],
                        given_[nr],
                        cells_[e],
                        found[nr][e],
                    )
    differ, asked = [], 0
    for i, text in enumerate(EXPRESSIONS):
        for nr, row in enumerate(given_):
            a, b = fast[i][nr][0], found[nr][i]
            b = value("TIMESTAMPTZ", b) if kind[i] == "TIMESTAMPTZ" else b
            if not alike(a, b):
                differ.append((text, row, a, b))
            try:
                plain = oracle.value(trees[i], row)
            except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError):
                continue
            asked += 1
            if (
                text not in OTHERWISE
                and "AS BOOLEAN" not in text
                and not (
                    plain == b
                    or (isinstance(plain, float) and isinstance(b, float) and math.isnan(plain) and math.isnan(b))
                )
            ):
                differ.append((text, "oracle", row, plain, b))
    assert not differ, (
        len(differ),
        {one[:2] if one[1] == "oracle" else one[0] for one in differ},
        sorted(differ, key=lambda one: one[1] == "oracle")[:6],
    )
    assert asked > 10_000


OTHERWISE = {
    "upper(city)", "lower(city)", "trim(city)", "length(trim(city))", "ltrim(city)", "rtrim(city)", "CAST(moment AS VARCHAR)", "CAST(near AS VARCHAR)",
    "CAST(amount / 4 AS BIGINT)", "CAST(whole / 2 AS BIGINT)", "day = '2024-02-29'",
    "whole / amount > 0.6", "whole / 3 > 0.3",
}  # fmt: skip
"""Where plain Python is another's word: of letters that are two in capitals, blanks, a half of a double, DuckDB's own spelling."""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("CAST(city AS BIGINT) > 1", "in different ways"), ("round(whole / 2, 2) = 1", "rounds a double"), ("CAST(whole / 3 AS VARCHAR) = ''", "in different ways"),
        ("city > 5", "compares"), ("flag = 1", "compares"), ("regexp_matches(city, '(?i)a')", "pattern"), ("far * far * far * far > 1", "more decimals"),
    ],
)  # fmt: skip
def test_what_spark_would_say_otherwise_is_refused(text: str, why: str) -> None:
    assert sparks.importable()
    from assay.engines.spark import rules

    with pytest.raises(ContractError, match=why):
        rules.sql(guard._parse(text), KINDS)


# (b) what a token can be

TOKENS = [
    "null", '""', '" "', '"\\u00a0"', "true", "false", '"true"', '"TRUE"', "0", "-0", "-0.0", "1", "1.0", "1.5", "-1.5", "0.005", "0.015", "1e3", "1E-7", "1e400", "1e-400", "5.", '"5."', '"+5"',
    '" 5"', '"5 "', '"٣"', '"1_000"', '"0x1F"', "9223372036854775807", "9223372036854775808", "-9223372036854775808", '"9223372036854775807.5"', "123456789012.1234567", "999999999999.9999999",
    "9999999.994", "9999999.995", "12345678901234567890.5", "0.99995", "0.9999", "1.0000", '"NaN"', "NaN", '"Infinity"', "[]", "[1 , 2.50]", "{}", '{"a": 1.10 }', '"a"', '"é😀"', '"\\ud83d\\ude00"',
    '"\\ud800"', '"q\\"\\\\n\\n"', '"\\u0000"', '"\u007f"', '"x\\ty"', '"2024-02-29"', '"2023-02-29"', '"2024-2-9"', '"2024"', '"0000-01-01"', '"0001-01-01"', '"9999-12-31"', '"2024-02-29\\n"', '"20240229"',
    '"2024-02-29T10:00"', '"2024-02-29 10:00:00"', '"2024-02-29T10:00:00.1"', '"2024-02-29T10:00:00.1234567"', '"2024-02-29T24:00"', '"2024-02-29T10:00Z"', '"2024-02-29T10:00:00+05:30"', '"2024-02-29T10:00:00-23:59"',
    '"2024-02-29T10"', '"2024-03-10T02:30:00"', '"2024-11-03T01:30:00"', '"2024-11-03T01:30:00-05:00"', '"0001-01-01T00:00:00+01:00"', '"9999-12-31T23:59:59-01:00"', '"1883-11-18T12:00:00"', '"T10:00"', '"epoch"', '"infinity"', '"2024-02-30T10:00:00"',
]  # fmt: skip
SPELT = (
    column("trimmed", "string", trim=True, nulls=("NA", "-")), column("german", "number", precision=18, scale=2, decimal=",", group="."),
    column("slashed", "date", format="M/d/yyyy", nulls=("n/a",)), column("timed", "timestamp", format="dd.MM.yyyy HH:mm:ss", zone="Europe/Berlin", trim=True),
    column("spaced", "integer", group=" ", trim=True),
)  # fmt: skip
SPELLINGS = ['"1.234,50"', '"1,5"', '"12.34"', '" 1 234 "', '"1\\u00a0234"', '"NA"', '" - "', '"n/a"', '"2/29/2024"', '"02/29/2024"', '"2/30/2024"', '"29.02.2024 10:00:00"', '" 31.03.2024 02:30:00"', '"27.10.2024 02:30:00"', '"a\\tb"', "7"]  # fmt: skip


def judged(engine: Engine, promised: Contract, lines: list[Lines], alone: list[bytes]) -> tuple[Any, ...]:
    """What an engine says of lines: together, of each rejected one, and of each by itself."""
    with engine.group(promised, lines) as group:
        found = group.judged()
        bad = [(one.place, one.seq, tuple(sorted(one.reasons)), one.line) for one in group.rejected(list(found))]
    return found, bad, engine.rows(promised, alone)


def test_every_operator_makes_one_value_of_every_token(tmp_path: Path) -> None:
    promised = contract(column("v", "json"), *SPELT, sequence="whole")
    plain = [c.name for c in COLUMNS if c.name not in ("city", "a_note")] + ["it's\"/~x", "v"]
    records = [good(**{name: token}) for name, token in product(plain, TOKENS)]
    records += [good(**{c.name: token}) for c, token in product(SPELT, [*SPELLINGS, *TOKENS[:12]])]
    records += [f'{{"id":{a},"day":"2024-02-29","a":{b}}}' for a, b in product(['"a"', '"b","id":"a"', "5"], ['{"city":"x","note":1}', '{"city":"x","city":"y"}', "5", "null", '{"b":{"town":"z"}}'])]  # fmt: skip
    # The oracle takes an offset of a day or more for none, and DuckDB's own calendar is asked of offsets by itself.
    lines = [line(n, n % 7, text.replace('"id":"a"', f'"id":"a{n}"')) for n, text in enumerate(records)]
    lines += [line(n, 0, record, op) for n, (record, op) in enumerate([("{}", "delete"), (good(), "delete"), (good(), "shard"), ("7", "window"), (good(), "erased")], 10**6)]  # fmt: skip
    given_ = [part(tmp_path / f"{i}.gz", lines[i::2], {n: N + n for n in range(6)}) for i in range(2)]
    engines = [engine_of(name, tmp_path / "s") for name in ("duckdb", "slow", "spark")]
    fast, slow, spark = (
        judged(one, promised, given_, lines[:-1])
        for one in engines  # the slow engine reads a tombstone that is asked for alone
    )
    for other in (fast, slow):
        for n, (a, b) in enumerate(zip(other[2], spark[2], strict=True)):
            assert a == b, (lines[n], a, b)
        assert other[0] == spark[0]
        assert [one for one in zip(other[1], spark[1], strict=True) if one[0] != one[1]] == []


def test_a_large_part_is_read_in_slices_that_leave_no_line_out(tmp_path: Path) -> None:
    """A part that says it is of 130 MB is read in five slices, one of no slices beside it whole; of seven lines none has two."""
    lines = [line(n, n % 2, good(id=f'"a{n // 3}"', whole=f"{n % 3}")) for n in range(7)]
    lines[4] = line(4, 0, "{}")
    small = part(tmp_path / "small.gz", [line(7, 0, good(id='"b"')), line(8, 1, "7")], {0: N, 1: N + 1})
    given_ = [replace(part(tmp_path / "large.gz", lines, {0: N, 1: N + 1}), bytes=130 << 20), small]
    fast, spark = (judged(engine_of(name, tmp_path / "s"), contract(), given_, lines) for name in ("duckdb", "spark"))
    assert fast == spark
    assert sum(one.rows for one in spark[0].values()) == 9
    assert sum(one.quarantined for one in spark[0].values()) > 2


def test_parts_go_to_python_one_at_a_time_and_the_rows_of_silver_many() -> None:
    """A batch a row made writing 300,000 rows take a minute."""
    sparks.started()
    from assay.engines.spark import session as sessions

    def sizes(batches: Any) -> Any:
        import pyarrow as pa

        for batch in batches:
            yield pa.RecordBatch.from_pydict({"rows": [batch.num_rows]})

    with sessions.session() as spark:
        of = spark.range(0, 100, 1, 1)
        with sessions.set_to(spark, *sessions.ONE_BY_ONE):
            singly = sessions.keep(sessions.map_in_arrow(of, sizes, "rows bigint"))
        many = sessions.keep(sessions.map_in_arrow(of, sizes, "rows bigint"))
        assert [row[0] for row in singly.collect()] == [1] * 100
        assert [row[0] for row in many.collect()] == [100]


# (c) whole datasets

DEMO = sorted((ROOT / "lakes/markets/contracts").glob("*.yaml"))


def token(any_: Random, kind: str) -> str:
    """A token that mostly fits a kind of column."""
    if any_.random() < 0.06:
        return any_.choice(TOKENS)
    return {
        "string": lambda: json.dumps(any_.choice(["AAPL", "MSFT", "BRK-B", "é", "a b", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"])), "json": lambda: any_.choice(["[]", '{"a":1.10}']),
        "integer": lambda: str(any_.randint(0, 10**9)), "number": lambda: f"{any_.uniform(0, 500):.{any_.randint(0, 4)}f}", "boolean": lambda: any_.choice(["true", "false"]),
        "date": lambda: f'"{date(2024, 1, 1) + timedelta(days=any_.randint(0, 60))}"', "timestamp": lambda: f'"2024-02-{any_.randint(1, 29):02}T10:00:00Z"',
    }[kind]()  # fmt: skip


def nested(promised: Contract, any_: Random) -> str:
    """A record of a contract's columns."""
    out: dict[str, Any] = {}
    for one in promised.columns:
        at = out
        if not one.ordinal:
            *way, last = one.origins[0]
            for name in way:
                at = at.setdefault(name, {})
            at[last] = token(any_, one.kind)
            if "low" in one.name.split("_") or "high" in one.name.split("_"):  # mostly as the demo's rules want them
                at[last] = {"low": "0.5", "high": "501"}[one.name.split("_")[-1]] if any_.random() < 0.9 else at[last]

    def text(of: Any) -> str:
        return of if isinstance(of, str) else "{" + ",".join(f"{json.dumps(k)}:{text(v)}" for k, v in of.items()) + "}"

    return text(out)


@pytest.mark.parametrize("path", DEMO, ids=lambda path: path.stem)
def test_the_demo_lakes_contracts_give_the_same_tables(path: Path, tmp_path: Path) -> None:
    promised = odcs.read(path)
    any_ = Random(path.stem)
    batches = [[nested(promised, any_) for _ in range(60)] for _ in range(3)]
    lines = [line(seq, n, record) for n, records in enumerate(batches) for seq, record in enumerate(records)]
    given_ = part(tmp_path / "p.gz", lines, {})
    acts = [folds.act(1, n, day=n, scope={} if promised.complete else None) for n in range(3)]
    made = []
    for name in ("duckdb", "slow", "spark"):
        t = folds.Tables(engine_of(name, tmp_path / "s"), tmp_path / name, promised, promised.partition)
        found: list[Any] = []
        for some in (acts[:1], acts[1:]):  # the second finds what the first wrote
            places = {n: N + n for n in range(3) if any(one.place == N + n for one in some)}
            found += [t.fold([replace(given_, batches=places)], some), t.judged, t.bounds, len(t.leaving)]
        made.append((found, Counter(t.rows("current")), Counter(t.rows("past"))))
    assert made[0] == made[2]
    assert made[1] == made[2]
    assert made[2][2]
    assert sum(made[2][1].values()) > 20


@settings(
    max_examples=int(os.environ.get("SPARK_EXAMPLES", "2")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate,),
    derandomize=True,
)
@given(folds.groups(complete=True), st.dictionaries(st.tuples(folds.KEYS, folds.DAYS), st.integers(0, N)))
def test_any_histories_are_folded_alike(tmp_path_factory: Any, drawn: Any, told: Any) -> None:
    root = tmp_path_factory.mktemp("parity")
    made = [
        folds.Tables(engine_of(name, root / "s"), root / name, contract(), ("day", "month"))
        for name in ("duckdb", "slow", "spark")
    ]
    for number, group in enumerate(drawn):
        lines = [
            part(
                root / f"{number}-{i}.gz", [line(s, 0, record, op) for s, record in enumerate(records)], {0: one.place}
            )
            for i, (one, op, records) in enumerate(group)
        ]
        came = [t.fold(lines, [one for one, _, _ in group], folds.Said(told)) for t in made]
        assert came[0] == came[2]
        assert came[1] == came[2]
        for said in ("judged", "bounds", "boxes"):
            assert getattr(made[0], said) == getattr(made[2], said)
        for what in ("current", "past"):
            assert Counter(made[0].rows(what)) == Counter(made[2].rows(what)) == Counter(made[1].rows(what))
