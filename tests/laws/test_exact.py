"""Law 11: a value is the record's token, exactly, or the row is in quarantine; a line that is no JSON is never a row."""

import json
from decimal import ROUND_HALF_UP, Context, Decimal
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from assay.engines.duckdb import DuckDBEngine
from assay.lake.landing import enveloped
from assay.ports import Engine, Limits, N
from tests import sparks
from tests.every.engines import ENGINES, NAMES, column, contract, engine_of, line, part
from tests.laws.slow_engine import SlowEngine

NUMBERS = (
    column("whole", "integer"),
    column("price", "number", precision=18, scale=6),
    column("wide", "number", precision=38, scale=10),
    column("share", "number", precision=4, scale=4),
    column("large", "number", precision=20, scale=0),
    column("rough", "number", precision=18, scale=6, excess="round"),
    column("rounded", "integer", excess="round"),
)
COLUMNS = (column("id", "string", required=True), *NUMBERS)
PROMISED = contract(columns=COLUMNS, key=tuple(c.name for c in COLUMNS), known_at=None)
"""Every number is in the key, so that an engine says what it read."""


def token(any_: Random) -> str:
    """A number of any length, with or without decimals and an exponent, as JSON or as a text."""
    few = str(any_.randint(0, 10 ** any_.choice([1, 3, 9])))
    digits = "".join(any_.choices("0123456789", k=any_.randint(1, any_.choice([3, 20, 45]))))
    whole = any_.choice([few, few, "0", digits.lstrip("0") or "0", "9" * 18, "9223372036854775807"])
    part = any_.choice(["", few, digits, "0" * any_.randint(0, 30) + "1"])
    power = any_.choice([40, 40, 10**12])
    power = f"{any_.choice('eE')}{any_.choice(['', '+', '-'])}{any_.randint(0, power)}"
    said = f"{any_.choice(['', '', '-'])}{whole}{'.' if part else ''}{part}{any_.choice(['', '', power])}"
    return any_.choice([said, json.dumps(said)])


AROUND = [
    "%s",
    "%s",
    "%s",
    '{"note":"1e-400 and 0.12345678901234567",%s',
    '%s,"more":[1.5,{"price":2}]}',
    '{ %s , "x" : 1 }',
]


def exactly(token: str, precision: int, scale: int, *, rough: bool) -> Decimal | str:
    """What Python's decimals make of a token: its value at the scale, or the reason against it."""
    context = Context(prec=200_000, Emax=10**17, Emin=-(10**17))
    said = Decimal(token.strip('"'))
    if said and said.adjusted() > 100:
        return "range"
    if said and said.adjusted() < -100:
        return Decimal(0) if rough else "scale"
    told = said.quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP, context)
    limit = Decimal(10) ** (precision - scale) if precision else Decimal(2) ** 63
    if abs(told) >= limit and not (not precision and told == -limit):
        return "range"
    return told if rough or told == said else "scale"


PHASES = (Phase.explicit, Phase.reuse, Phase.generate)


def history(seed: int, size: int) -> list[tuple[list[str], str, bool]]:
    """Records: a token for each number, what stands around them, whether one is told alone."""
    any_ = Random(seed)
    return [
        ([token(any_) for _ in NUMBERS], any_.choice(AROUND), any_.random() < 0.5) for _ in range(size)
    ]  # fmt: skip


# A seed and not the tokens: hypothesis would take four times as long to draw them as both engines to read them.
HISTORIES = st.builds(history, st.integers(0, 2**64), st.integers(50, 55))


def _read_alike(tmp_path: Path, told: list) -> None:
    """A line and batch each, judged by both engines and by Python's decimals."""
    lines = []
    for n, (tokens, around, alone) in enumerate(told):
        # Alone, the line holds a number for one column and a short one for the others: it shows nothing else to doubt.
        said = [one if not alone or at == n % len(NUMBERS) else "0" for at, one in enumerate(tokens)]
        fields = ",".join(f'"{c.name}":{token}' for c, token in zip(NUMBERS, said, strict=True))
        record = (around if around.startswith("{") else "{" + around) % f'"id":"a",{fields}'
        lines.append((line(0, n, record if record.endswith("}") else record + "}"), said))
    given = [part(tmp_path / "p", [one for one, _ in lines], {n: (n + 1) * N for n in range(len(lines))})]
    with (
        DuckDBEngine(Limits(scratch=tmp_path / "s")).group(PROMISED, given) as fast,
        SlowEngine().group(PROMISED, given) as slow,
    ):
        judged, places = fast.judged(), [(n + 1) * N for n in range(len(lines))]
        assert judged == slow.judged()
        boxes = fast.bounds(places)
        assert boxes == slow.bounds(places)
        alone = DuckDBEngine(Limits(scratch=tmp_path / "s")).rows(PROMISED, [one for one, _ in lines])
        assert alone == [
            None if one.reasons else one.values | {"known_at": one.known_at, "_hash": one.hash} for one in slow.lines
        ]
    for place, (_, said) in zip(places, lines, strict=True):
        for c, token in zip(NUMBERS, said, strict=True):
            precision, scale = (c.precision, c.scale) if c.kind == "number" else (0, 0)
            expected = exactly(token, precision, scale, rough=c.excess == "round")
            if isinstance(expected, str):
                assert f"{c.name}:{expected}" in judged[place].reasons, token
            elif place in boxes:
                assert boxes[place][c.name] == (expected, expected), token
            else:
                assert not any(reason.startswith(f"{c.name}:") for reason in judged[place].reasons), token


@pytest.mark.parametrize(("groups", "together"), [(8, 1), pytest.param(20, 10, marks=pytest.mark.slow)])
def test_any_number_is_exactly_its_value_or_quarantined_with_the_true_reason(
    tmp_path: Path, groups: int, together: int
) -> None:
    """Slow, 200 histories: ten are read at once, since an engine takes as long to begin as to read them."""

    @settings(max_examples=groups, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES)
    @given(st.lists(HISTORIES, min_size=together, max_size=together))
    def told(some: list) -> None:
        _read_alike(tmp_path, [one for history in some for one in history])

    told()


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    return engine_of(request.param, tmp_path / "scratch")


@pytest.fixture(params=NAMES)
def alone(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    """Asked of each case by itself, since a line may change how the others of its file are read; on Spark each is cut alone."""
    return engine_of(request.param, tmp_path / "scratch")


def read(engine: Engine, tmp_path: Path, *records: str) -> list[object]:
    """Of each record what its `wide`, or else its `id`, became; the reasons where it is in quarantine."""
    promised = contract(columns=(column("id", "string", required=True), column("wide", "number", precision=38, scale=19), column("flag", "boolean")),
                        key=("id",), known_at=None)  # fmt: skip
    lines = [line(0, n, record) for n, record in enumerate(records)]
    with engine.group(promised, [part(tmp_path / "p", lines, {n: (n + 1) * N for n in range(len(lines))})]) as group:
        judged = group.judged()
    rows = engine.rows(promised, lines)
    assert [row is None for row in rows] == [bool(judged[(n + 1) * N].reasons) for n in range(len(lines))]
    return [
        ";".join(sorted(judged[(n + 1) * N].reasons)) if row is None else row["id"] if row["wide"] is None else row["wide"]
        for n, row in enumerate(rows)
    ]  # fmt: skip


MORE = ["", ',"flag":true', ',"other":{"a":[1,2]}']
TOKENS = [
    ("1.0000000000000000001", Decimal("1.0000000000000000001")),
    ("1.00000000000000000001", "wide:scale"),
    ("0.9999999999999999999999999", "wide:scale"),
    ("1234567890.5", Decimal("1234567890.5")),
    ("1234567890123.1234567890123456789", Decimal("1234567890123.1234567890123456789")),
    ("9007199254740993.0", Decimal(9007199254740993)),
    ("12345678901234567890e-10", Decimal("1234567890.1234567890")),
    ("1e-19", Decimal("1e-19")),
    ("1e-20", "wide:scale"),
    ("1e-400", "wide:scale"),
    ("0e-400", Decimal(0)),
    ("-0.0", Decimal(0)),
    ("1.5e18", Decimal("1.5e18")),
    ("1e19", "wide:range"),
    ("1e400", "wide:range"),
    ("1" + "0" * 400, "wide:range"),
    ('"1.00000000000000000001"', "wide:scale"),
    ('"1' + "0" * 40 + '"', "wide:range"),
    ('"1.5E+3"', Decimal(1500)),
    ('"1e"', "wide:type"),
    ('"x"', "wide:type"),
    ("true", "wide:type"),
]


@pytest.mark.parametrize(("token", "value"), TOKENS)
@pytest.mark.parametrize("more", MORE)
def test_a_number_is_its_value(alone: Engine, tmp_path: Path, token: str, value: object, more: str) -> None:
    assert read(alone, tmp_path, f'{{"id":"a","wide":{token}{more}}}') == [value]


NO_JSON = [
    '{"id":"a"},"_op":"delete"',
    '{"id":"a"},"_record":{"id":"b"}',
    '{"id":"a"},"_seq":7',
    '{"id":"a"},"x":1',
    '{"id":"a"},"x":{}',
    '{"id":"a"}}',
    '{"id":"a"}},{"id":"b"}',
    '{"id":"a"}}{"id":"b"}',
    '5,"_op":"delete"',
    '{"id":"a","x":NaN}',
    '{"id":"a","wide":NaN}',
    '{"id":"a","x":[-Infinity]}',
    '{"id":"a","x":nan}',
    '{"id":"a","x":inf}',
    '{"id":"a",}',
    '{"id":"a", }',
    '{"id":"a","x":[1,]}',
    '{"id":"a","x":01}',
    '{"id":"a","x":"\t"}',
    '{"id":"a"/**/}',
    "{'id':'a'}",
    '\ufeff{"id":"a"}',
    '{"id":"\\ud800"}',
    "",
]


@pytest.mark.parametrize("record", NO_JSON)
def test_what_is_no_json_is_never_a_row_nor_closes_our_envelope(alone: Engine, tmp_path: Path, record: str) -> None:
    assert read(alone, tmp_path, record, '{"id":"good"}') == ["line:malformed", "good"]


TWICE = [
    ('{"id":"a","id":"b"}', "id:twice"),
    ('{"id":"a","\\u0069d":"b"}', "id:twice"),
    ('{"id":"a","wide":1,"wide":1}', "wide:twice"),
    ('{"id":"a","x":{"id":1},"id":"b"}', "id:twice"),
    ('{"id":"a","x":{"id":1},"y":[{"id":2}]}', "a"),
    ('{"id" : "a" , "id" : "a"}', "id:twice"),
]


@pytest.mark.parametrize(("record", "reason"), TWICE)
def test_a_name_twice_is_no_value_whoever_reads_it(alone: Engine, tmp_path: Path, record: str, reason: str) -> None:
    assert read(alone, tmp_path, record) == [reason]


def test_json_that_is_spelt_with_blanks_and_escapes_is_read(engine: Engine, tmp_path: Path) -> None:
    records = [
        '{ "id" : "a" , "wide" : 1.50 }',
        '{"\\u0069d":"a,}","wide":1}',
        json.dumps({"id": "NaN:inf", "x": ["a,]"]}),
    ]
    assert read(engine, tmp_path, *records) == [Decimal("1.5"), 1, "NaN:inf"]


KEYS = [
    ("a\\u0000b", "id:control"),
    ("\\n", "id:control"),
    ("a\\u001b[31m", "id:control"),
    ("a\x7f", "id:control"),
    ("a\u0085", "id:control"),
    ("   ", "id:blank"),
    ("\u00a0\\u2003", "id:blank"),
    (" a", " a"),
    ('\\u00e9 \\"', 'é "'),
    ("日本", "日本"),
]


@pytest.mark.parametrize(("text", "reason"), KEYS)
def test_a_key_has_something_to_see_and_nothing_else(alone: Engine, tmp_path: Path, text: str, reason: str) -> None:
    assert read(alone, tmp_path, f'{{"id":"{text}"}}') == [reason]


LOCAL = [
    ("America/New_York", "2024-11-03T01:30:00", "at:ambiguous"),
    ("America/New_York", "2024-11-03T01:00:00", "at:ambiguous"),
    ("America/New_York", "2024-11-03T00:59:59", ""),
    ("America/New_York", "2024-11-03T02:00:00", ""),
    ("America/New_York", "2024-11-03T01:30:00-04:00", ""),
    ("America/New_York", "2024-03-10T02:30:00", "at:gap"),
    ("Australia/Lord_Howe", "2024-04-07T01:45:00", "at:ambiguous"),
    ("Europe/London", "1971-10-31T02:30:00", "at:ambiguous"),
    ("UTC", "2024-11-03T01:30:00", ""),
]


@pytest.mark.parametrize(("zone", "time", "reason"), LOCAL)
def test_a_local_time_that_came_twice_or_never_is_no_instant(
    alone: Engine, tmp_path: Path, zone: str, time: str, reason: str
) -> None:
    promised = contract(
        columns=(column("id", "string", required=True), column("at", "timestamp", zone=zone)),
        key=("id",),
        known_at=None,
    )
    lines = [line(0, 0, f'{{"id":"a","at":"{time}"}}')]
    with alone.group(promised, [part(tmp_path / "p", lines, {0: N})]) as group:
        assert group.judged()[N].reasons == ({reason: 1} if reason else {})


@sparks.needed
def test_spark_reads_each_of_these_cases_so(tmp_path: Path) -> None:
    cases = [(f'{{"id":"a","wide":{token}{more}}}', value) for token, value in TOKENS for more in MORE]
    cases += [one for record in NO_JSON for one in ((record, "line:malformed"), ('{"id":"good"}', "good"))]
    cases += [*TWICE, *((f'{{"id":"{text}"}}', reason) for text, reason in KEYS)]
    found = read(engine_of("spark", tmp_path), tmp_path, *(record for record, _ in cases))
    assert [(record, value) for (record, _), value in zip(cases, found, strict=True)] == cases
    zones = list(dict.fromkeys(zone for zone, _, _ in LOCAL))
    at = [column(f"at{i}", "timestamp", zone=zone) for i, zone in enumerate(zones)]
    promised = contract(columns=(column("id", "string", required=True), *at), key=("id",), known_at=None)
    lines = [line(0, n, f'{{"id":"a","at{zones.index(zone)}":"{time}"}}') for n, (zone, time, _) in enumerate(LOCAL)]
    given = [part(tmp_path / "zones", lines, {n: (n + 1) * N for n in range(len(lines))})]
    with engine_of("spark", tmp_path).group(promised, given) as group:
        for n, (zone, _, reason) in enumerate(LOCAL):
            said = reason.replace("at:", f"at{zones.index(zone)}:")
            assert group.judged()[(n + 1) * N].reasons == ({said: 1} if said else {}), LOCAL[n]


def test_a_record_that_was_not_asked_for_is_quarantined_alone(engine: Engine, tmp_path: Path) -> None:
    records = [b'{"id":"a"}', b'{"id":"b"}', b'{"id":7}', b"5", b'{"id":"c"}']
    data = enveloped(records, 0, 10, {11: "shard", 12: "window", 13: "shard"})
    promised = contract(columns=(column("id", "string", required=True),), key=("id",), known_at=None)
    given = [part(tmp_path / "p", data.split(b"\n")[:-1], {0: N})]
    with engine.group(promised, given) as group:
        judged = group.judged()[N]
        found = {one.seq: set(one.reasons) for one in group.rejected([N])}
    assert found == {11: {"record:shard"}, 12: {"record:window", "id:type"}, 13: {"record:type"}}
    assert (judged.rows, judged.good, judged.keyless) == (5, 2, 2)
