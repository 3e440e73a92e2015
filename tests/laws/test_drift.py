"""Drift: what a log's shapes say is what the records themselves say, field by field, read slowly."""

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from assay import clock
from assay.lake import bronze, drift
from assay.lake.drift import MANY, PAIRS, Look
from assay.lake.landing import SMALL
from assay.ports import Fact
from assay.targets.sqlite import SqliteLedger
from tests import making

Record = dict[str, Any]
READS = (("a",), ("o", "x"))
KINDS = {
    str: "string",
    int: "number",
    float: "number",
    bool: "boolean",
    dict: "object",
    list: "array",
    type(None): "null",
}

one_value = st.sampled_from([1, 2.5, 10**30, "t", "", True, None, [1], {"y": 1}])
a_record = st.fixed_dictionaries(
    {},
    optional={
        "a": one_value, "b": one_value, "c.d": one_value,
        "o": st.one_of(st.just({}), st.just({"x": 1}), st.just({"x": "t", "z": None}), st.just(7)),
    },
)  # fmt: skip
a_landing = st.tuples(st.lists(a_record, min_size=1, max_size=4), st.sampled_from([1, 1, 40]))


def flat(record: Record) -> Record:
    """A record's fields as contracts write them, and those of the one object that a column is read from."""
    out = {name.replace(".", "\\."): value for name, value in record.items()}
    if isinstance(record.get("o"), dict):
        out |= {f"o.{name}": value for name, value in record["o"].items()}
    return out


def slow(landings: Sequence[Sequence[Record]]) -> dict[str, Any]:
    """What is known of each field after all landings: since when, how often, and since when it is lacking."""
    out: dict[str, Any] = {}
    flats = [[flat(one) for one in records] for records in landings]
    for name in {name for records in flats for one in records for name in one}:
        kinds: dict[str, tuple[int, int, int]] = {}
        always, lacking, before = True, None, 0
        for position, records in enumerate(flats, 1):
            having = [one for one in records if name in one]
            for one in having:
                since, rows, _ = kinds.get(KINDS[type(one[name])], (position, 0, 0))
                kinds[KINDS[type(one[name])]] = since, rows + 1, position
            missing = len(records) - len(having)
            if kinds and min(since for since, _, _ in kinds.values()) == position:
                always = position == 1 and not missing
            elif kinds:
                some_of_many = missing and always and before >= MANY
                all_of_them = not having and (always or lacking or len(records) >= MANY)
                if some_of_many or all_of_them:
                    lacking = (lacking[0], lacking[1] + missing, position) if lacking else (position, missing, position)
                else:
                    always = always and not missing
                    lacking = None if having else lacking
            before += len(records)
        out[name] = kinds, lacking
    return out


@given(st.lists(a_landing, min_size=1, max_size=5))
def test_a_fold_of_shapes_says_what_the_records_say(drawn: list[tuple[list[Record], int]]) -> None:
    folded(drawn)


@pytest.mark.slow
def test_a_fold_of_many_records_in_many_histories_says_what_they_say() -> None:
    seen = [0, 0, 0]

    @settings(max_examples=300, phases=[Phase.generate])
    @given(st.lists(a_landing, min_size=2, max_size=6))
    def each(drawn: list[tuple[list[Record], int]]) -> None:
        lacking = sum(one["lacks"] is not None for one in folded(drawn).values())
        seen[:] = [seen[0] + 1, seen[1] + sum(len(records) * times for records, times in drawn), seen[2] + lacking]

    each()
    assert seen[0] >= 200
    assert seen[1] >= 10_000
    assert seen[2] >= 20


def folded(drawn: list[tuple[list[Record], int]]) -> dict[str, Any]:
    """What is known of each field after these landings, which is what `slow` says."""
    known: dict[str, Any] | None = None
    for position, (records, times) in enumerate(drawn, 1):
        whole = Look(READS)
        for _ in range(times):
            page = Look(READS)
            page.add([json.dumps(one).encode() for one in records])
            whole.join(page)
        shape = whole.shape()
        assert shape
        known = drift.fold(known, shape, "capture", position, "2024-01-01")
    assert known
    told = {
        name: (
            {kind: (k["since"], k["rows"], k["last"]) for kind, k in one["kinds"].items()},
            (one["lacks"]["since"], one["lacks"]["rows"], one["lacks"]["last"]) if one["lacks"] else None,
        )
        for name, one in known["fields"].items()
    }
    assert told == slow([records * times for records, times in drawn])
    fields: dict[str, Any] = known["fields"]
    return fields


def test_numbers_that_python_does_not_take_and_what_is_no_object_hinder_nothing() -> None:
    look = Look(READS)
    look.add([b'{"a":1e999,"o":{"x":-1e999}}', b"[1]", b'{"a":', b'{"a":"t"}', b'{"o":"\xff"}'])
    shape = look.shape()
    assert shape
    assert (shape.rows, sorted((one.field, one.kind, one.rows, one.example) for one in shape.fields)) == (
        3,
        [
            ("a", "number", 1, "1e999"), ("a", "string", 1, '"t"'), ("o", "object", 1, '{"x":-1e999}'),
            ("o", "string", 1, '""'), ("o.x", "number", 1, "-1e999"),
        ],
    )  # fmt: skip


def test_more_fields_than_are_told_leave_those_that_columns_read_and_fit_a_ledger(tmp_path: Path) -> None:
    record: Record = {"\x01" * 60 + str(n): "\\" * 100 for n in range(5 * PAIRS)} | {"n" * 9000: 1, "a": 1}
    known: dict[str, Any] | None = None
    for position in (1, 2):
        look = Look(READS)
        look.add([json.dumps(record | {f"new{position}": 1}).encode()])
        shape = look.shape()
        assert shape
        assert (len(shape.fields), shape.cut) == (PAIRS, True)
        assert shape.fields[0].field == "a"
        known = drift.fold(known, shape, "capture", position, "2024-01-01")
    assert known
    with closing(SqliteLedger(tmp_path / "ledger.db")) as ledger:
        ledger.record([Fact("shape", "things", "now", clock.now(), known, 2)])
        found = drift.of(ledger, replace(making.every_type(), columns=()), {})
    assert found == []  # who cannot know whether a field is new does not say so


def test_a_log_of_drift_is_told_and_a_ledger_made_anew_tells_the_same(tmp_path: Path) -> None:
    lake, line = making.make(tmp_path), making.record
    contract = making.every_type()
    lake.land(contract, [line(unread="1")], day=1)
    assert drift.of(lake.ledger, contract, {}) == []
    lake.land(contract, [line(unread="1"), line(unread="2", fresh='"\u202e"', whole='"7"', note=None)], day=2)
    lake.land(contract, [line(unread="1", amount=None), line(fresh="2", amount=None)], day=3)
    found = drift.of(lake.ledger, contract, {})
    assert [(one.what, one.field, one.since, one.rows, one.last) for one in found] == [
        ("kind", "whole", 3, 1, 3), ("unknown", "fresh", 3, 2, 4), ("vanished", "amount", 4, 2, 4),
    ]  # fmt: skip
    assert all(one.told.isprintable() for one in found)
    with closing(SqliteLedger(tmp_path / "anew.db")) as anew:
        bronze.adopt(lake.files, anew, contract.dataset)
        assert drift.of(anew, contract, {}) == found
        assert anew.newest("shape", "things", "now") == lake.ledger.newest("shape", "things", "now")
    fresh = "{name: fresh, logicalType: string, classification: public}\n      - {name: note,"
    reads = making.every_type(("{name: note,", fresh))
    lake.land(reads, [line()], day=4)
    assert drift.of(lake.ledger, reads, {}) == []
    lake.land(reads, [line(whole="null", fresh="true")], day=5)
    assert [(one.what, one.field) for one in drift.of(lake.ledger, reads, {})] == [("kind", "fresh")]
    lake.close()


def test_small_and_large_answers_are_counted_once_in_their_order(tmp_path: Path) -> None:
    lake, line, large = making.make(tmp_path), making.record, "x" * SMALL
    batches = [[line(whole=str(n), note=f'"{large}"' if n % 3 == 2 else None)] for n in range(8)]
    lake.land_all(making.every_type(), [(f"s{n}", 1, records) for n, records in enumerate(batches)])
    known = lake.ledger.newest("shape", "things", "now")
    assert known
    fields = known.body["fields"]
    assert (fields["whole"]["rows"], fields["whole"]["kinds"]["number"]["example"], fields["note"]["rows"]) == (
        8,
        "0",
        2,
    )
    lake.close()


@pytest.mark.parametrize("at", [0, 15, 16, 80])
def test_large_answers_are_sampled(at: int) -> None:
    look = Look()
    look.add(drift.sampled([b'{"a":1,"n":2}' if n == at else b'{"a":1}' for n in range(200)]))
    shape = look.shape()
    assert shape
    assert (shape.rows, {one.field: one.rows for one in shape.fields}) == (19, {"a": 19, "n": 1})
