"""A contract that cannot be read or contradicts itself is refused with file, line and remedy; a good one is what it says."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import date, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay import land as landing
from assay.contract import calendars, odcs
from assay.contract.calendars import Calendar
from assay.contract.changes import breaking, changes
from assay.contract.model import Contract, Gate, Kind, KnownAt, Promise, Unique
from assay.engines.duckdb import DuckDBEngine
from assay.errors import ContractError
from assay.ports import Limits
from tests.conftest import ROOT
from tests.laws import oracle
from tests.laws.slow_engine import SlowEngine
from tests.making import EVERY_TYPE, Made, every_type, record

EVERY = "{property: every, value: P1D}"
GATE = "{quarantinedAtMost: 50, unit: percent, minRows: 20}"
RULE = '"whole < 1000000"'
LAST = "- {property: gate"


def _more(text: str) -> tuple[str, str]:
    """One customProperty more, before the last."""
    return LAST, f"- {text}\n  {LAST}"


ORDINAL = "customProperties: [{property: ordinal, value: true}],"
NTH = (
    "    quality:",
    f"      - {{name: nth, {ORDINAL} logicalType: integer, required: true, primaryKey: true, classification: public}}\n    quality:",
)
# what stands in the contract of every type, what takes its place, the text whose line is named, and words of the remedy
BAD = {
    # ODCS
    "an older standard": ("v3.1.0", "v2.2.0", "v2.2.0", "this reads v3.1.0"),
    "no version of the standard": ("apiVersion: v3.1.0\n", "", "kind:", "apiVersion is missing; ODCS 3.1 requires it"),
    "another kind": ("kind: DataContract", "kind: Contract", "kind:", "kind: DataContract"),
    "a key that is no key": ("status: active", "statsu: active", "statsu", "did you mean one of status"),
    "a key deep inside": ("name: note,", "name: note, clasification: public,", "name: note", "did you mean one of classification"),
    "a key twice": ("version: 1.0.0\n", "version: 1.0.0\nversion: 2.0.0\n", "version: 2.0.0", "stands here twice; keep one"),
    "a value of another type": ("id: things", "id: 7", "id: 7", "should be a valid string"),
    "a name that is a list": ("name: whole,", "name: [whole],", "name: [whole]", "should be a valid string"),
    "an id that is a path": ("id: things", "id: ../things", "id: ../things", "it becomes a table and a path"),
    "an id in capitals": ("id: things", "id: Things", "id: Things", "must match"),
    "two names of one table": ("- name: things", "- name: thing", "- name: thing", "must be the id 'things'"),
    # columns
    "a column twice": ("name: whole,", "name: id,", "{name: id, logicalType: integer", "column id stands here twice"),
    "a column name of ours": ("name: whole,", "name: known_at,", "name: known_at", "not be one of known_at"),
    "a type that is none": ("logicalType: integer", "logicalType: int", "logicalType: int", "none of string, integer, number"),
    "a type of ODCS that has no column": ("logicalType: integer", "logicalType: time", "logicalType: time", "none of string, integer, number"),
    "an object in the key": ("logicalType: string, required", "logicalType: object, required", "logicalType: object", "an object or array is no key"),
    "a double": ('"decimal(18,6)"', "double", "physicalType: double", "doubles are not stored"),
    "too many digits": ('"decimal(18,6)"', '"decimal(39,6)"', "decimal(39,6)", "precision at most 38"),
    "more decimals than digits": ('"decimal(18,6)"', '"decimal(6,18)"', "decimal(6,18)", "decimal(precision, scale)"),
    "no key": ("primaryKey: true, ", "", "{name: id", "no column has primaryKey: true"),
    "a key that may be null": ("required: true, primaryKey", "primaryKey", "{name: id", "it must be required: true"),
    "no classification": ("logicalType: string, classification: public", "logicalType: string", "name: note", "say public, internal"),
    "an unknown classification": ("string, classification: public", "string, classification: top", "name: note", "say public, internal"),
    "a word of ours misspelt": ("name: note,", "name: note, customProperties: [{property: form, value: x}],", "name: note", "did you mean format, from"),
    "an unknown excess": ("name: note,", "name: note, customProperties: [{property: excess, value: cut}],", "name: note", "refuse (the default) or round"),
    "a format of a text": ("name: note,", "name: note, customProperties: [{property: format, value: dd.MM.yyyy}],", "name: note", "format is of date, timestamp, not of this column"),
    "separators of a text": ("name: note,", "name: note, customProperties: [{property: decimalSeparator, value: ','}],", "name: note", "decimalSeparator is of number, integer"),
    "a format that is a number": ("name: at,", "name: at, customProperties: [{property: format, value: 2024}],", "name: at", "2024 is no text"),
    "a format without a year": ("name: at,", "name: at, customProperties: [{property: format, value: dd.MM HH:mm}],", "name: at", "has no year"),
    "a format without a time": ("name: at,", "name: at, customProperties: [{property: format, value: dd.MM.yyyy}],", "name: at", "has no hour and no minute; a timestamp needs one, such as dd.MM.yyyy HH:mm"),
    "a year of two digits": ("name: at,", "name: at, customProperties: [{property: format, value: dd.MM.yy HH:mm}],", "name: at", "has yy, which nothing reads; there are yyyy, MM"),
    "days as JDK does not mean them": ("name: at,", "name: at, customProperties: [{property: format, value: DD.MM.yyyy HH:mm}],", "name: at", "has DD, which nothing reads"),
    "a month twice": ("name: at,", "name: at, customProperties: [{property: format, value: MM.M.yyyy dd HH:mm}],", "name: at", "has the month twice"),
    "a fraction of nothing": ("name: at,", "name: at, customProperties: [{property: format, value: 'yyyy-MM-dd HH:mm.SSS'}],", "name: at", "without its second"),
    "a digit or two without an end": ("name: at,", "name: at, customProperties: [{property: format, value: yyyyMd HH:mm}],", "name: at", "a month of one digit or two needs a sign on either side"),
    "a digit or two beside a digit": ("name: at,", "name: at, customProperties: [{property: format, value: 'yyyy-MM-d0 HH:mm'}],", "name: at", "a day of one digit or two needs"),
    "a format that trim takes away": ("name: at,", "name: at, customProperties: [{property: format, value: ' yyyy-MM-dd HH:mm'}, {property: trim, value: true}],", "name: at", "which trim takes away"),
    "a decimal separator of two signs": ("name: maybe,", "name: maybe, customProperties: [{property: decimalSeparator, value: ', '}],", "name: maybe", "is neither"),
    "a group separator of digits": ("name: maybe,", "name: maybe, customProperties: [{property: groupSeparator, value: 0}],", "name: maybe", "0 is none of"),
    "equal separators": ("name: maybe,", "name: maybe, customProperties: [{property: decimalSeparator, value: ','}, {property: groupSeparator, value: ','}],", "name: maybe", "as decimalSeparator has it"),
    "a point for both": ("name: maybe,", "name: maybe, customProperties: [{property: groupSeparator, value: .}],", "name: maybe", "as decimalSeparator has it"),
    "nulls that are one text": ("name: note,", "name: note, customProperties: [{property: nulls, value: NA}],", "name: note", "NA is no list of texts"),
    "nulls that are numbers": ("name: note,", "name: note, customProperties: [{property: nulls, value: [NA, -999]}],", "name: note", "-999 is no text; quote it"),
    "nulls twice": ("name: note,", "name: note, customProperties: [{property: nulls, value: [NA, NA]}],", "name: note", "NA stands there twice"),
    "a null that is null": ("name: note,", "name: note, customProperties: [{property: nulls, value: ['']}],", "name: note", "an empty text is null in any case"),
    "a null nobody sees": ("name: note,", 'name: note, customProperties: [{property: nulls, value: ["a\\n"]}],', "name: note", "has a control character"),
    "a null that trim takes away": ("name: note,", "name: note, customProperties: [{property: nulls, value: [' NA']}, {property: trim, value: true}],", "name: note", "which trim takes away"),
    "a format of what is counted": (NTH[0], NTH[1].replace("value: true}", "value: true}, {property: trim, value: true}"), "name: nth", "an ordinal is read from nowhere and has no trim"),
    "a day that YAML cannot read": ("name: note,", "name: note, customProperties: [{property: nulls, value: [0000-00-00]}],", "name: note", "0000-00-00 is no day that ever was; quote it"),
    "a format in two words": ("name: day,", "name: day, logicalTypeOptions: {format: yyyy-MM-dd}, customProperties: [{property: format, value: dd.MM.yyyy}],", "name: day", "format: yyyy-MM-dd is not how this date is read, dd.MM.yyyy"),
    "a trim that is no truth": ("name: note,", "name: note, customProperties: [{property: trim, value: 1}],", "name: note", "1 is neither true nor false"),
    "a field without a name": ("name: note,", "name: note, customProperties: [{property: from}],", "name: note", "from None is no text"),
    "no field at all": ("name: note,", "name: note, customProperties: [{property: from, value: []}],", "name: note", "from [] names nothing"),
    "a field that is a number": ("name: note,", "name: note, customProperties: [{property: from, value: [a, 7]}],", "name: note", "from 7 is no text"),
    "a path without an end": ("name: note,", "name: note, customProperties: [{property: from, value: a.}],", "name: note", "an empty part"),
    "a path without a beginning": ("name: note,", "name: note, customProperties: [{property: from, value: .a}],", "name: note", "an empty part"),
    "a path with a gap": ("name: note,", "name: note, customProperties: [{property: from, value: [b, a..b]}],", "name: note", "a..b has an empty part"),
    "a backslash that says nothing": ("name: note,", r"name: note, customProperties: [{property: from, value: a\b}],", "name: note", "neither dot nor backslash"),
    "a backslash at the end": ("name: note,", "name: note, customProperties: [{property: from, value: 'a\\'}],", "name: note", "neither dot nor backslash"),
    "a path twice": ("name: note,", "name: note, customProperties: [{property: from, value: [a.b, c, a.b]}],", "name: note", "a.b stands there twice"),
    "a zone that is none": ("name: at,", "name: at, customProperties: [{property: zone, value: Mars}],", "name: at", "such as America/New_York"),
    # rules
    "a rule that is no SQL": (RULE, '"whole <"', "whole_is_small", "not valid SQL at line 1, column 7"),
    "a rule over no column": (RULE, '"hole < 1"', "whole_is_small", "no column 'hole'"),
    "a rule that reads a file": (RULE, "\"read_csv('x') = 1\"", "whole_is_small", "is not allowed in a rule"),
    "a rule that is no truth": (RULE, '"whole + 1"', "whole_is_small", "neither true nor false"),
    "a rule of another engine": ("engine: assay", "engine: soda", "engine: soda", "a rule is type: custom, engine: assay"),
    "a rule without a good name": ("name: whole_is_small", "name: whole is small", "whole is small", "it becomes the reason in quarantine"),
    "a rule twice": ("name: amount_positive", "name: whole_is_small", 'implementation: "amount >', "a reason must name one rule"),
    "an unknown severity": ("severity: error", "severity: fatal", "severity: fatal", "neither error nor warning"),
    "a limit without its unit": ("severity: error", "mustBeLessOrEqualTo: 5", "mustBeLessOrEqualTo", "needs unit: percent"),
    "a limit over all": ("severity: error", "mustBeLessOrEqualTo: 500, unit: percent", "mustBeLessOrEqualTo", "0 to 100"),
    "a limit from few rows on": (
        "severity: error", "mustBeLessOrEqualTo: 5, unit: percent, customProperties: [{property: minRows, value: few}]", "few",
        "'few' is no count of rows",
    ),
    # ours
    "a property that is none": ("property: source", "property: sorce", "property: sorce", "did you mean source"),
    "a property twice": (EVERY, f"{EVERY}\n  - {{property: every, value: P2D}}", "value: P2D", "stands here twice"),
    "no source": ("  - {property: source, value: fmp}\n", "", "property: options", "customProperty source is missing"),
    "a source without a name": ("value: fmp", "value: ", "property: source", "source: None is not a name"),
    "options that are a word": ("{path: things}", "things", "property: options", "expects a mapping"),
    "neither window nor every": (f"  - {EVERY}\n", "", "property: source", "give one of window"),
    "window and every": (EVERY, f"{EVERY}\n  - {{property: window, value: P1Y}}", "property: source", "give one of window"),
    "every and cursor": (EVERY, f"{EVERY}\n  - {{property: cursor, value: at}}", "property: source", "give one of window"),
    "a cursor without a name": (EVERY, "{property: cursor}", "property: cursor", "cursor: None is no text"),
    "asked again too rarely": (*_more("{property: reask, value: P2D}"), "value: P2D", "P2D is shorter than settle, P3D"),
    "asked again for months": (*_more("{property: reask, value: P1M}"), "value: P1M", "say it in days or hours"),
    "asked again in slots by a word": (*_more("{property: reask, value: {days: many, every: P7D}}"), "days: many", "'many' is no number of days"),
    "asked again in slots for ever": (*_more("{property: reask, value: {days: 99999999999, every: P7D}}"), "days: 99", "is no number of days"),
    "asked again in no slots": (*_more("{property: reask, value: {days: 60}}"), "days: 60", "say both days and every"),
    "asked again in slots of a key that is none": (*_more("{property: reask, value: {days: 60, evry: P7D}}"), "evry", "a mapping of days, every"),
    "asked again in slots that are none": (*_more("{property: reask, value: {days: 60, every: often}}"), "often", "is not an ISO 8601 duration"),
    "asked again in slots of hours": (*_more("{property: reask, value: {days: 60, every: PT9H}}"), "PT9H", "whole months or in whole days"),
    "asked again in slots for a moment": (*_more("{property: reask, value: {days: 3, every: P7D}}"), "days: 3", "not longer than settle, P3D"),
    "the whole asked again in slots": (EVERY, f"{EVERY}\n  - {{property: reask, value: {{days: 60, every: P7D}}}}", "days: 60", "it needs window"),
    "complete by a word": (*_more("{property: complete, value: often}"), "value: often", "'often' is neither true nor false"),
    "complete with a sequence": (*_more("{property: sequence, value: whole}\n  - {property: complete, value: true}"), "complete", "the sequence alone decides"),
    "complete with a cursor": (EVERY, "{property: cursor, value: at}\n  - {property: complete, value: true}", "complete", "is not all there is"),
    "no duration": ("value: P1D", "value: daily", "value: daily", "such as P10Y, P7D or PT15M"),
    "months and days": ("value: P1D", "value: P1M1D", "value: P1M1D", "whole months or in whole days"),
    "no time at all": ("value: P1D", "value: P0D", "value: P0D", "whole months or in whole days"),
    "a window without a start": (EVERY, "{property: window, value: P1Y}", "property: source", "window needs start"),
    "a start that is no day": (*_more("{property: start, value: soon}"), "value: soon", "'soon' is not a day as YYYY-MM-DD"),
    "a month's settle": (*_more("{property: settle, value: P1M}"), "value: P1M", "say it in days or hours"),
    "an unknown mutability": (*_more("{property: mutability, value: calendar}"), "mutability", "'calendar' is none of append, restating, snapshot"),
    "rows that stay and go": (*_more("{property: complete, value: true}\n  - {property: mutability, value: append}"), "mutability", "append says that rows stay"),
    "a snapshot that is not whole": (*_more("{property: mutability, value: snapshot}"), "mutability", "say every and complete: true"),
    "no currency": (*_more("{property: currency, value: dollars}"), "currency", "is no code of ISO 4217"),
    "a currency of nothing": (*_more("{property: currency, value: USD}"), "currency", "no column has the unit currency"),
    "a unit of no currency": ("name: maybe,", "name: maybe, customProperties: [{property: unit, value: currency}],", "name: maybe", "which says none"),
    "an exchange's calendar": (*_more("{property: calendar, value: XNYS}"), "property: calendar", "one column of the key must be a date"),
    "a calendar of no name": (*_more("{property: calendar, value: [XNYS]}"), "property: calendar", "say weekdays"),
    "a calendar that nobody can heed": (*_more("{property: calendar, value: {name: weekdays, severity: mild}}"), "property: calendar", "'mild' is neither error nor warning"),
    "a calendar with a hobby": (*_more("{property: calendar, value: {name: weekdays, hobby: none}}"), "property: calendar", "a mapping of name, severity"),
    "a calendar without a day": (*_more("{property: calendar, value: weekdays}"), "property: calendar", "one column of the key must be a date"),
    "known at no column": ("{column: at}", "{column: never}", "{column: never}", "must be a date or timestamp column"),
    "known at a text": ("{column: at}", "{column: note}", "{column: note}", "must be a date or timestamp column"),
    "known in no zone": ("{column: at}", "{column: at, zone: Mars/Base}", "Mars/Base", "zone or lag cannot be read"),
    "known at no time": ("{column: at}", "{column: at, time: 16:00}", "time: 16:00", 'such as "16:00"; quote it'),
    "known a month later": ("{column: at}", "{column: at, lag: P1M}", "lag: P1M", "say it in days or hours"),
    "known with a stranger": ("{column: at}", "{column: at, delay: P1D}", "delay", "a mapping of column, lag, time, zone"),
    "partitioned by weeks": (*_more("{property: partitioning, value: {column: at, by: week}}"), "by: week", "year, month, value"),
    "partitioned beside the key": (
        *_more("{property: partitioning, value: {column: at, by: month}}"), "by: month", "at is not in the key",
    ),
    "a number's year": (*_more("{property: partitioning, value: {column: whole, by: year}}"), "by: year", "only days and times have"),
    "a sequence that is no column": (*_more("{property: sequence, value: number}"), "value: number", "must be a column"),
    "a sequence that may be missing": (*_more("{property: sequence, value: maybe}"), "value: maybe", "maybe must be required"),
    "an ordinal beside the key": ("name: maybe,", f"name: maybe, {ORDINAL}", "name: maybe", "an integer of the key that is read from nowhere"),
    "an ordinal of a field": (NTH[0], NTH[1].replace("value: true}", "value: true}, {property: from, value: n}"), "name: nth", "no `from`"),
    "an ordinal by a word": (NTH[0], NTH[1].replace("value: true", "value: often"), "name: nth", "'often' is neither true nor false"),
    "a universe that is a path": (*_more("{property: universe, value: ../../x}"), "../../x", "it becomes a file's name"),
    "a gate that counts rows": (GATE, "{quarantinedAtMost: 50, unit: rows}", "unit: rows", "unit must be percent"),
    "a gate without a number": (GATE, "{quarantinedAtMost: many}", "many", "'many' is no share in percent"),
    "a gate below nothing": (GATE, "{quarantinedAtMost: -1}", "-1", "-1 is no share in percent"),
    "a gate that lets more than all go": (GATE, "{withdrawnAtMost: 101}", "101", "101 is no share in percent"),
    "a gate from few rows on": (GATE, "{minRows: few}", "few", "'few' is no count of rows"),
}  # fmt: skip


# faults of which something else follows that is wrong too
FOLLOW = dict.fromkeys(
    ("a key that is no key", "a name that is a list", "a column twice", "a column name of ours", "no key", "a property that is none"), 2
)  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_contract_that_contradicts_itself(name: str) -> None:
    old, new, at, words = BAD[name]
    assert old in EVERY_TYPE
    text = EVERY_TYPE.replace(old, new, 1)
    line = next(n for n, one in enumerate(text.splitlines(), 1) if at in one)
    with pytest.raises(ContractError) as caught:
        odcs.parse(text, "things.yaml")
    said = str(caught.value).splitlines()
    assert [one for one in said if one.startswith(f"things.yaml:{line}: ") and words in one], said
    assert len(said) == FOLLOW.get(name, 1), said


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "begins with apiVersion and kind"),
        ("- a\n", 1, "begins with apiVersion and kind"),
        ("apiVersion: v3.1.0\nkind: {\n", 3, "not YAML"),
        ("apiVersion: v3.1.0\n\tkind: x\n", 2, "not YAML"),
        ("apiVersion: v3.1.0\n---\nkind: x\n", 2, "not YAML"),
        ("apiVersion: v3.1.0\nstatus: !!python/object/apply:os.system [ls]\n", 2, "not YAML"),
        ("apiVersion: v3.1.0\nstatus: *nobody\n", 2, "not YAML"),
        ("start: 2024-99-99\n", 1, "not YAML: 2024-99-99 is no day that ever was; quote it"),
        ("id: x\x00\n", 1, "not YAML"),
        ("tags: " + "[" * 3000, 1, "not YAML"),
        ("tags: &a [*a]\n", 1, "an anchor holds itself"),
        (
            "a: &a [x, x, x, x, x, x, x, x, x]\n"
            + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)),
            1,
            "too large",
        ),
    ],
)
def test_a_text_that_is_no_contract(text: str, line: int, words: str) -> None:
    with pytest.raises(ContractError) as caught:
        odcs.parse(text, "x.yaml")
    assert str(caught.value).startswith(f"x.yaml:{line}: "), caught.value
    assert words in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"apiVersion: v3.1.0\nname: caf\xe9\n")
    with pytest.raises(ContractError, match=r"^latin\.yaml:2: not UTF-8"):
        odcs.read(path)
    with pytest.raises(ContractError, match=r"gone\.yaml: cannot be read: No such file"):
        odcs.read(tmp_path / "gone.yaml")


def test_two_files_cannot_promise_one_dataset(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(EVERY_TYPE)
    with pytest.raises(ContractError, match=r"^b\.yaml:1: things is also promised by .*a\.yaml"):
        odcs.read_all(tmp_path)


@pytest.mark.parametrize("ids", [("things", "things_past"), ("things_versions", "things")])
def test_the_lakes_own_names_are_no_datasets_beside_theirs(tmp_path: Path, ids: tuple[str, str]) -> None:
    for name, dataset in zip("ab", ids, strict=True):
        (tmp_path / f"{name}.yaml").write_text(
            EVERY_TYPE.replace("id: things", f"id: {dataset}").replace("- name: things", f"- name: {dataset}")
        )
    with pytest.raises(
        ContractError, match=r"^\w+\.yaml:1: \w+: of a dataset x, x_versions and x_past are the lake's own"
    ):
        odcs.read_all(tmp_path)


def test_a_good_contract_is_what_it_says() -> None:
    text = EVERY_TYPE.replace(EVERY, "{property: window, value: P1Y}\n  - {property: start, value: 2020-01-01}")
    text = text.replace(*_more("{property: partitioning, value: {column: id, by: value}}"))
    found = odcs.parse(text)
    assert [(c.name, c.type, c.required) for c in found.columns] == [
        ("id", "VARCHAR", True), ("whole", "BIGINT", True), ("amount", "DECIMAL(18,6)", True), ("flag", "BOOLEAN", True),
        ("day", "DATE", True), ("at", "TIMESTAMPTZ", True), ("note", "VARCHAR", False), ("maybe", "DECIMAL(38,10)", False),
    ]  # fmt: skip
    assert (found.key, found.source, found.settle, found.reask) == (("id",), "fmp", "P3D", "P3D")
    assert (found.window, found.every, found.cursor, found.start) == ("P1Y", None, None, date(2020, 1, 1))
    assert (found.gate, found.known_at, found.partition) == (Gate(50, 20, 20), KnownAt("at"), ("id", "value"))
    assert (found.complete, found.sequence) == (False, None)
    assert [(r.name, r.severity) for r in found.rules] == [("whole_is_small", "error"), ("amount_positive", "warning")]


def test_a_complete_contract_with_a_long_memory() -> None:
    text = EVERY_TYPE.replace(*_more("{property: complete, value: true}"))
    text = text.replace(*_more("{property: settle, value: P5D}")).replace(GATE, "{withdrawnAtMost: 2.5}")
    found = odcs.parse(text)
    assert (found.complete, found.settle, found.reask, found.gate) == (True, "P5D", "P5D", Gate(5, 100, 2.5))
    assert odcs.parse(text.replace(*_more("{property: reask, value: P60D}"))).reask == "P60D"
    assert odcs.parse(text.replace(*_more("{property: reask, value: PT120H}"))).reask == "PT120H"


def test_a_sliding_past_is_asked_again_in_slots() -> None:
    text = EVERY_TYPE.replace(EVERY, "{property: window, value: P1Y}\n  - {property: start, value: 2020-01-01}")
    found = odcs.parse(
        text.replace("{property: window", "{property: reask, value: {days: 60, every: P7D}}\n  - {property: window")
    )
    assert (found.settle, found.reask, found.slide) == ("P3D", "P3D", (60, "P7D"))
    assert odcs.parse(text).slide is None


def test_a_cursor_is_a_third_way_that_no_source_reads_yet() -> None:
    found = odcs.parse(EVERY_TYPE.replace(EVERY, "{property: cursor, value: at}"))
    assert (found.cursor, found.window, found.every) == ("at", None, None)
    with pytest.raises(ContractError, match=r"^things: cursor is read by no source yet; say window or every$"):
        landing.check(found)


@pytest.mark.parametrize(
    ("value", "origins", "fields"),
    [
        ("close", [("close",)], ("close",)),
        ("address.city", [("address", "city")], ("address",)),
        ("a.b.c.d", [("a", "b", "c", "d")], ("a",)),
        ("[price.close, close]", [("price", "close"), ("close",)], ("price", "close")),
        ("[price.close, price.last]", [("price", "close"), ("price", "last")], ("price",)),
        (r"Avg\. price", [("Avg. price",)], ("Avg. price",)),
        (r"a\.b.c\.", [("a.b", "c.")], ("a.b",)),
        (r"a\\.b", [("a\\", "b")], ("a\\",)),
        (r"'a\\\.b'", [("a\\.b",)], ("a\\.b",)),
        ("' a . b '", [(" a ", " b ")], (" a ",)),
    ],
)
def test_from_is_a_path_or_several(value: str, origins: list[tuple[str, ...]], fields: tuple[str, ...]) -> None:
    text = EVERY_TYPE.replace("name: note,", f"name: note, customProperties: [{{property: from, value: {value}}}],")
    found = odcs.parse(text)
    assert found.column("note").origins == tuple(origins)
    assert found.column("note").fields == fields
    assert found.column("whole").origins == (("whole",),)
    assert found.fields == ("id", "whole", "amount", "flag", "day", "at", *fields, "maybe")


def test_a_value_is_read_at_the_first_path_that_leads_to_one(made: Made) -> None:
    contract = every_type(
        (
            "name: note,",
            r"""name: note, customProperties: [{property: from, value: [price.cl\.ose, price, deep.er.0, 'a"b.*']}],""",
        )
    )
    records = {
        "first": '{"cl.ose": "first", "ose": "no"}', "second": '"second"', "null": '{"cl.ose": null}', "neither": "{}",
    }  # fmt: skip
    rows = [record(id=f'"{name}"', price=token) for name, token in records.items()]
    more = {
        '"deep"': '{"deep": {"er": {"0": "third"}}}',
        '"array"': '{"deep": {"er": ["no"]}}',
        '"last"': '{"a\\"b": {"*": "fourth", "x": "no"}}',
    }
    rows += [record(id=name)[:-1] + b"," + text.encode()[1:] for name, text in more.items()]
    made.land(contract, rows)
    made.refine(contract)
    found = dict(made.current(contract, "id, note"))
    assert found == {
        "first": "first", "second": "second", "deep": "third", "last": "fourth", "array": None,
    }  # fmt: skip
    assert {row["id"]: row["note"] for row in map(partial(_by_oracle, contract), rows) if row} == found


def _by_oracle(contract: Contract, record: bytes) -> dict[str, Any] | None:
    return oracle.judge(contract, b'{"_seq":1,"_n":0,"_record":' + record + b"}")[0]


def test_an_object_and_an_array_are_texts_in_silver() -> None:
    text = EVERY_TYPE.replace("name: note, logicalType: string", "name: note, logicalType: object")
    text = text.replace("name: flag, logicalType: boolean", "name: flag, logicalType: array")
    found = odcs.parse(text)
    assert [(c.kind, c.type, c.required) for c in map(found.column, ("note", "flag"))] == [
        ("json", "VARCHAR", False), ("json", "VARCHAR", True),
    ]  # fmt: skip
    with pytest.raises(ContractError, match="sequence: must be a column of the contract, and no object or array"):
        odcs.parse(text.replace(*_more("{property: sequence, value: note}")))


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("{path: things}", "{path: others}", {"capture"}),
        ("value: P1D", "value: P7D", {"capture"}),
        ("property: every, value: P1D", "property: cursor, value: at", {"capture"}),
        (*_more("{property: complete, value: true}"), {"capture", "refine"}),
        ("logicalType: date, required: true", "logicalType: date", {"refine"}),
        ("name: note,", "name: note, customProperties: [{property: from, value: no.te}],", {"refine"}),
        ("name: note,", "name: note, customProperties: [{property: from, value: [note, n]}],", {"refine"}),
        ("name: note, logicalType: string", "name: note, logicalType: object", {"refine"}),
        ("name: at,", "name: at, customProperties: [{property: zone, value: Europe/Berlin}],", {"refine"}),
        ("{column: at}", "{column: day}", {"refine"}),
        (*_more("{property: settle, value: P2D}"), {"refine"}),
        (*_more("{property: sequence, value: whole}"), {"refine"}),
        (*_more("{property: partitioning, value: {column: id, by: value}}"), {"refine"}),
        ("required: true, classification: public}\n      - {name: amount", "required: true, primaryKey: true, primaryKeyPosition: 2, classification: public}\n      - {name: amount", {"refine"}),
        ("quarantinedAtMost: 50", "quarantinedAtMost: 5", {"gate"}),
        ("quarantinedAtMost: 50", "quarantinedAtMost: 50, withdrawnAtMost: 1", {"gate"}),
        ("whole < 1000000", "whole < 2000000", {"gate"}),
        ("name: Things", "name: All things", set()),
        (*_more("{property: reask, value: P9D}"), set()),
        ("string, classification: public", "string, classification: restricted", set()),
        ("status: active", "status: draft", set()),
    ],
)  # fmt: skip
def test_a_change_moves_the_fingerprint_of_what_it_touches_alone(old: str, new: str, changed: set[str]) -> None:
    def fingerprints(text: str) -> dict[str, str]:
        found = odcs.parse(text)
        return {name: getattr(found, f"{name}_fingerprint") for name in ("capture", "refine", "gate")}

    assert old in EVERY_TYPE
    before, after = fingerprints(EVERY_TYPE), fingerprints(EVERY_TYPE.replace(old, new))
    assert {name for name in before if before[name] != after[name]} == changed


# ------------------------------------------------------------------ kept by hash


def test_a_text_is_checked_once_in_a_process() -> None:
    found = odcs.parse(EVERY_TYPE, "things.yaml")
    assert odcs.parse(EVERY_TYPE, "things.yaml") is found
    assert found.refine_fingerprint is found.refine_fingerprint


@pytest.mark.parametrize("path", sorted(ROOT.glob("lakes/*/contracts/*.yaml")), ids=lambda path: path.stem)
def test_a_kept_contract_is_the_parsed_one(path: Path, tmp_path: Path) -> None:
    parsed = odcs.read(path, tmp_path)
    [file] = tmp_path.iterdir()
    said, _ = calendars.parted(parsed.text, "")
    kept = odcs._taken(file, said)  # its calendar is read each time
    assert kept is not None
    assert (kept.path, parsed.path) == (None, path)
    _same(replace(kept, path=path, text=parsed.text, calendar=parsed.calendar), parsed)


@given(st.data())
def test_any_contract_is_kept_as_it_is_or_not_at_all(data: st.DataObject) -> None:
    value = data.draw(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
            max_leaves=8,
        )
    )
    contract = replace(odcs.parse(EVERY_TYPE), options={"value": value}, text="x")
    with TemporaryDirectory() as directory:
        odcs._keep(Path(directory) / "x.json", contract)
        found = odcs._taken(Path(directory) / "x.json", "x")
    if found:
        _same(found, contract)


def _same(kept: Contract, parsed: Contract) -> None:
    assert kept == parsed
    assert repr(kept) == repr(parsed)
    for name in ("sha256", "capture_fingerprint", "refine_fingerprint", "gate_fingerprint"):
        assert getattr(kept, name) == getattr(parsed, name)


def test_what_was_kept_is_taken_without_yaml_pydantic_and_sqlglot(tmp_path: Path) -> None:
    contracts, kept = ROOT / "lakes/markets/contracts", tmp_path / "kept"
    code = f"""
import sys
from pathlib import Path
from assay.contract import changes, model, odcs
found = odcs.read_all(Path({str(contracts)!r}), Path({str(kept)!r}))
print(sorted(found), sorted({{"yaml", "pydantic", "sqlglot", "open_data_contract_standard"}} & set(sys.modules)))
"""

    def said() -> str:
        return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout

    names = sorted(path.stem for path in contracts.glob("*.yaml"))
    assert said() == f"{names} ['open_data_contract_standard', 'pydantic', 'sqlglot', 'yaml']\n"
    assert said() == f"{names} []\n"


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda _: b"{}",
        lambda data: data[:-1],
        lambda data: data.replace(b"fmp", b"fmq"),
        lambda data: data.replace(b'"source":"fmp"', b'"source":"fmq"'),
        lambda data: b"\xff" + data,
        lambda data: data.replace(b'"sha256"', b'"sha"'),
    ],
)
def test_a_kept_contract_that_was_altered_is_ignored_and_kept_again(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    found = odcs.parse(EVERY_TYPE, "things.yaml", None, tmp_path)
    [file] = tmp_path.iterdir()
    good = file.read_bytes()
    file.write_bytes(damage(good))
    odcs.parse.cache_clear()
    assert odcs.parse(EVERY_TYPE, "things.yaml", None, tmp_path) == found
    assert file.read_bytes() == good
    assert list(tmp_path.iterdir()) == [file]


def test_one_text_is_not_taken_for_another(tmp_path: Path) -> None:
    other = EVERY_TYPE.replace("P1D", "P7D")
    for text in (EVERY_TYPE, other):
        odcs.parse(text, "things.yaml", None, tmp_path)
    of = {text: tmp_path / f"{odcs._id(text)}.json" for text in (EVERY_TYPE, other)}
    of[EVERY_TYPE].write_bytes(of[other].read_bytes())
    odcs.parse.cache_clear()
    assert odcs.parse(EVERY_TYPE, "things.yaml", None, tmp_path).every == "P1D"


def test_a_refused_contract_is_not_kept_and_no_place_is_no_error(tmp_path: Path) -> None:
    with pytest.raises(ContractError):
        odcs.parse(EVERY_TYPE.replace("P1D", "daily"), "things.yaml", None, tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    assert odcs.parse(EVERY_TYPE, "things.yaml", None, tmp_path / "file").dataset == "things"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("primaryKey: true, primaryKeyPosition: 1, ", ""), "nth is the whole key"),
        ((NTH[0], NTH[1].replace("nth", "mth")), "nth and mth are both ordinal"),
        (_more("{property: sequence, value: whole}"), "it orders the states of one key, nth tells them apart"),
        (("whole < 1000000", "nth < 3"), "nth"),
    ],
)  # fmt: skip
def test_an_ordinal_that_could_not_count_is_refused(more: tuple[str, str], said: str) -> None:
    counted = EVERY_TYPE.replace(*NTH)
    assert set(odcs.parse(counted).key) == {"id", "nth"}
    assert more[0] in counted
    with pytest.raises(ContractError, match=said):
        odcs.parse(counted.replace(*more))


def test_a_kept_contract_is_of_all_the_code_that_decides_about_a_text() -> None:
    code = "import sys, assay.contract.syntax; print(*(m for m in sys.modules if m.startswith('assay.')))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    decide = {name.removeprefix("assay.").replace(".", "/") + ".py" for name in loaded} - {
        "contract.py",
        "errors.py",
        "spoken.py",
    }
    assert set(odcs._DECIDES) == decide


# ------------------------------------------------------------------ changes

FLAG, DAY = (next(line for line in EVERY_TYPE.splitlines() if f"name: {name}," in line) for name in ("flag", "day"))
# what stands in the contract of every type, what takes its place, and what of the dataset that changes
CHANGES = {
    "a column more": ("    quality:", "      - {name: more, logicalType: date, classification: public}\n    quality:", [("added", "more")]),
    "a column less": ("      - {name: note, logicalType: string, classification: public}\n", "", [("removed", "note")]),
    "a column by another name": ("name: note,", "name: remark,", [("removed", "note"), ("added", "remark")]),
    "other decimals": ("decimal(18,6)", "decimal(18,8)", [("type", "amount")]),
    "another type": ("name: note, logicalType: string", "name: note, logicalType: date", [("type", "note")]),
    "a text that becomes an object": ("name: note, logicalType: string", "name: note, logicalType: object", [("type", "note")]),
    "a value less": ("logicalType: date, required: true", "logicalType: date", [("required", "day")]),
    "another field": ("name: note,", "name: note, customProperties: [{property: from, value: no.te}],", [("read", "note")]),
    "another zone": ("name: at,", "name: at, customProperties: [{property: zone, value: Asia/Tokyo}],", [("read", "at")]),
    "another format": ("name: at,", "name: at, customProperties: [{property: format, value: dd.MM.yyyy HH:mm}],", [("read", "at")]),
    "a decimal comma": ("name: maybe,", "name: maybe, customProperties: [{property: decimalSeparator, value: ','}],", [("read", "maybe")]),
    "thousands": ("name: maybe,", "name: maybe, customProperties: [{property: groupSeparator, value: ','}],", [("read", "maybe")]),
    "texts that mean null": ("name: note,", "name: note, customProperties: [{property: nulls, value: [NA]}],", [("read", "note")]),
    "trimmed": ("name: note,", "name: note, customProperties: [{property: trim, value: true}],", [("read", "note")]),
    "rounded": ("name: maybe,", "name: maybe, customProperties: [{property: excess, value: round}],", [("read", "maybe")]),
    "a unit": ("name: maybe,", "name: maybe, customProperties: [{property: unit, value: USD}],", [("described", "maybe")]),
    "classified": ("string, classification: public", "string, classification: restricted", [("described", "note")]),
    "described": ("name: note,", "name: note, description: a note,", [("described", "note")]),
    "another title": ("name: Things", "name: All things", [("described", "")]),
    "another version": ("version: 1.0.0", "version: 1.1.0", [("described", "")]),
    "another key": ("name: whole, logicalType: integer, required: true", "name: whole, logicalType: integer, required: true, primaryKey: true, primaryKeyPosition: 2", [("key", "")]),
    "counted": (*NTH, [("added", "nth"), ("key", "")]),
    "partitions": (*_more("{property: partitioning, value: {column: id, by: value}}"), [("partition", "")]),
    "known later": ("{column: at}", "{column: at, lag: P1D}", [("clocks", "")]),
    "settled sooner": (*_more("{property: settle, value: P1D}"), [("clocks", ""), ("source", "")]),
    "asked again longer": (*_more("{property: reask, value: P9D}"), [("source", "")]),
    "a sequence": (*_more("{property: sequence, value: whole}"), [("clocks", "")]),
    "complete": (*_more("{property: complete, value: true}"), [("clocks", "")]),
    "another rule": ("whole < 1000000", "whole < 1000001", [("rules", "")]),
    "a rule less": ('      - {name: amount_positive, type: custom, engine: assay, implementation: "amount > 0", severity: warning}\n', "", [("rules", "")]),
    "a rule by another name": ("name: amount_positive", "name: amount_is_positive", [("rules", ""), ("rules", "")]),
    "a limit": ("severity: error", "severity: error, mustBeLessOrEqualTo: 5, unit: percent", [("rules", "")]),
    "a rule described": ("severity: error", "severity: error, description: not large", [("described", ""), ("described", "")]),
    "a gate": ("quarantinedAtMost: 50", "quarantinedAtMost: 49.5", [("gate", "")]),
    "withdrawals": ("quarantinedAtMost: 50", "quarantinedAtMost: 50, withdrawnAtMost: 0", [("gate", "")]),
    "other options": ("{path: things}", "{path: things, from_to: true}", [("source", "")]),
    "options in other words": ("{path: things}", "{path: true}", [("source", "")]),
    "another slot": ("value: P1D", "value: P7D", [("source", "")]),
    "a cursor": ("property: every, value: P1D", "property: cursor, value: at", [("source", ""), ("source", "")]),
    "another source": ("value: fmp", "value: files", [("source", "")]),
    "another order": (f"{FLAG}\n{DAY}", f"{DAY}\n{FLAG}", [("order", "")]),
    "a status": ("status: active", "status: draft", [("described", "")]),
    "a team": ("status: active", "status: active\nteam: {name: us}", [("described", "")]),
    "a promise": ("status: active", "status: active\nslaProperties: [{property: latency, value: 1, unit: d}]", [("described", "")]),
    "unchanging": (*_more("{property: mutability, value: append}"), [("described", "")]),
    "a unique column": ("name: note,", "name: note, unique: true,", [("rules", "")]),
    "an option": ("name: note,", "name: note, logicalTypeOptions: {maxLength: 9},", [("rules", "")]),
    "a metric": ("name: note,", "name: note, quality: [{metric: nullValues, mustBe: 0}],", [("rules", "")]),
    "a number of rows": ("    quality:", "    quality:\n      - {metric: rowCount, mustBe: 7}", [("gate", ""), ("gate", "")]),
    "a comment": ("status: active", "status: active # now", []),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_named_and_said(name: str) -> None:
    old, new, expected = CHANGES[name]
    assert old in EVERY_TYPE
    found = changes(odcs.parse(EVERY_TYPE), odcs.parse(EVERY_TYPE.replace(old, new)))
    assert [(one.kind, one.column) for one in found] == expected
    assert all(one.said and "\n" not in one.said for one in found)
    assert [one.kind for one in breaking(found)] == [
        k for k, _ in expected if k in ("removed", "type", "key", "partition")
    ]


def test_true_is_another_option_than_one() -> None:
    true, one = (replace(odcs.parse(EVERY_TYPE), options={"path": value}) for value in (True, 1))
    assert [found.kind for found in changes(true, one)] == ["source"]


def test_two_datasets_are_not_compared() -> None:
    with pytest.raises(ValueError, match="things and others are two datasets"):
        changes(odcs.parse(EVERY_TYPE), odcs.parse(EVERY_TYPE.replace("things", "others")))


SIMPLE = {
    "str": st.text(max_size=5), "bool": st.booleans(), "int": st.integers(0, 38), "float": st.floats(0, 100),
    "float | None": st.none() | st.floats(0, 100), "str | None": st.none() | st.text(max_size=5), "date | None": st.none() | st.dates(),
    "tuple[str, ...]": st.lists(st.text(max_size=5), max_size=3).map(tuple),
    "tuple[str, int]": st.tuples(st.sampled_from(["duckdb", "spark", "auto"]), st.integers(0, 9)),
    "tuple[str, str] | None": st.none() | st.tuples(st.text(max_size=5), st.text(max_size=5)),
    "tuple[int, str] | None": st.none() | st.tuples(st.integers(1, 60), st.text(max_size=5)),
    "tuple[tuple[str, ...], ...]": st.lists(st.lists(st.text(max_size=5), min_size=1, max_size=2).map(tuple), min_size=1, max_size=2).map(tuple),
    "Mapping[str, Any]": st.dictionaries(st.text(max_size=5), st.booleans() | st.integers(0, 1) | st.text(max_size=5), max_size=2),
    "tuple[tuple[str, str], ...]": st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), max_size=2).map(tuple),
    "tuple[Unique, ...]": st.lists(st.builds(Unique, st.text(max_size=5), st.lists(st.text(max_size=5), max_size=2).map(tuple)), max_size=2).map(tuple),
    "tuple[Promise, ...]": st.lists(st.builds(Promise, st.text(max_size=5), st.text(max_size=5)), max_size=2).map(tuple),
    "int | None": st.none() | st.integers(0, 9), "'percent' | 'rows'": st.sampled_from(["percent", "rows"]),
    "Literal['append', 'restating', 'snapshot'] | None": st.sampled_from([None, "append", "restating", "snapshot"]),
    "assay.contract.calendars.Calendar | None": st.none() | st.builds(Calendar, st.just("mine"), st.dates(), st.dates()),
    "Kind": st.sampled_from(get_args(Kind)), "'error' | 'warning'": st.sampled_from(["error", "warning"]),
    "'refuse' | 'round'": st.sampled_from(["refuse", "round"]),
}  # fmt: skip


def _spelt(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "Kind" if kind == Kind else " | ".join(map(repr, get_args(kind)))
    return (
        kind.__name__
        if isinstance(kind, type) and not get_args(kind)
        else str(kind)
        .replace("typing.", "")
        .replace("assay.contract.model.", "")
        .replace("collections.abc.", "")
        .replace("datetime.", "")
    )


def _other(data: st.DataObject, record: Any, leave: set[str]) -> Any:
    """A record with one field changed."""
    hints = get_type_hints(type(record))
    name = data.draw(st.sampled_from(sorted(f.name for f in fields(record) if f.name not in leave)))
    return replace(record, **{name: data.draw(SIMPLE[_spelt(hints[name])])})


@given(st.data())
def test_every_difference_is_seen_and_none_where_there_is_none(data: st.DataObject) -> None:
    """Whatever single field of a contract is another: the fields come from the classes, so a new one is here at once."""
    old = odcs.parse(EVERY_TYPE)
    if data.draw(st.booleans()):
        old = replace(old, partition=("id", "value"), gate=Gate(1, 2, 3), settle="P1D")
    part = data.draw(st.sampled_from(["contract", "column", "rule", "gate", "known_at", "columns", "rules"]))
    if part == "contract":
        new = _other(data, old, {"dataset", "text", "path", "columns", "rules", "gate", "known_at"})
    elif part in ("gate", "known_at"):
        new = replace(
            old,
            **{
                part: data.draw(st.none())
                if part == "known_at" and data.draw(st.booleans())
                else _other(data, getattr(old, part), set())
            },
        )
    elif part in ("columns", "rules"):
        new = replace(
            old,
            **{part: tuple(data.draw(st.lists(st.sampled_from(getattr(old, part)), unique_by=lambda one: one.name)))},
        )
    else:
        whole = getattr(old, f"{part}s")
        at = data.draw(st.integers(0, len(whole) - 1))
        # digits mean something for numbers alone
        leave = {"precision", "scale"} if part == "column" and whole[at].kind != "number" else set()
        new = replace(old, **{f"{part}s": (*whole[:at], _other(data, whole[at], leave), *whole[at + 1 :])})
    assert changes(old, old) == changes(new, new) == ()
    assert bool(changes(old, new)) == (repr(old) != repr(new))
    assert bool(changes(new, old)) == (repr(old) != repr(new))
    assert {one.kind for one in breaking(changes(old, new))} <= {"removed", "type", "key", "partition"}


def test_a_day_without_an_hour_is_known_at_its_end(tmp_path: Path) -> None:
    """Never at its first minute: that would let a backtest look ahead."""
    at = "knownAt, value: {column: at}"
    days = {"": "2024-07-02T04:00", ', time: "24:00"': "2024-07-02T04:00", ', time: "00:00"': "2024-07-01T04:00"}
    for said, moment in days.items():
        text = EVERY_TYPE.replace(at, f"knownAt, value: {{column: day{said}, zone: America/New_York}}")
        line = b'{"_seq":0,"_n":0,"_record":%s}' % record(day='"2024-07-01"')
        for engine in (DuckDBEngine(Limits(scratch=tmp_path)), SlowEngine()):
            (row,) = engine.rows(odcs.parse(text), [line])
            assert row
            assert row["known_at"] == datetime.fromisoformat(f"{moment}:00+00:00")
    with pytest.raises(ContractError, match="24:30 is not a time"):
        odcs.parse(EVERY_TYPE.replace(at, 'knownAt, value: {column: day, time: "24:30"}'))


@pytest.mark.parametrize(
    "said",
    [
        "priceAmount: -0.1, priceCurrency: USD",
        "priceCurrency: USD",
        "priceAmount: 1, priceCurrency: coins",
        "priceAmount: .inf, priceCurrency: USD",
    ],
)
def test_a_price_of_calls_that_nobody_can_add_up_is_refused_in_a_file_and_read_where_it_is_kept(
    tmp_path: Path, said: str
) -> None:
    text = EVERY_TYPE.replace("status: active", f"status: active\nprice: {{{said}, priceUnit: call}}")
    path = tmp_path / "contracts" / "things.yaml"
    path.parent.mkdir()
    path.write_text(text)
    line = text.splitlines().index(f"price: {{{said}, priceUnit: call}}") + 1
    with pytest.raises(ContractError, match=rf"^things.yaml:{line}: price: that of a call is a priceAmount"):
        odcs.read(path)
    assert odcs.parse(text).price is None
    path.write_text(text.replace("unit: call", "unit: megabyte").replace("priceUnit: call", "priceUnit: megabyte"))
    assert odcs.read(path).price is None
