"""A contract that cannot be read or contradicts itself is refused with file, line and remedy; a good one is what it says."""

from datetime import date
from pathlib import Path

import pytest

from assay.contract import odcs
from assay.contract.model import Gate, KnownAt
from assay.errors import ContractError
from tests.making import EVERY_TYPE

EVERY = "{property: every, value: P1D}"
GATE = "{quarantinedAtMost: 50, unit: percent, minRows: 20}"
RULE = '"whole < 1000000"'
LAST = "- {property: gate"


def _more(text: str) -> tuple[str, str]:
    """One customProperty more, before the last."""
    return LAST, f"- {text}\n  {LAST}"


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
    "a nested type": ("logicalType: integer", "logicalType: object", "logicalType: object", "silver is flat"),
    "a double": ('"decimal(18,6)"', "double", "physicalType: double", "doubles are not stored"),
    "too many digits": ('"decimal(18,6)"', '"decimal(39,6)"', "decimal(39,6)", "precision at most 38"),
    "more decimals than digits": ('"decimal(18,6)"', '"decimal(6,18)"', "decimal(6,18)", "decimal(precision, scale)"),
    "no key": ("primaryKey: true, ", "", "{name: id", "no column has primaryKey: true"),
    "a key that may be null": ("required: true, primaryKey", "primaryKey", "{name: id", "it must be required: true"),
    "no classification": ("logicalType: string, classification: public", "logicalType: string", "name: note", "say public, internal"),
    "an unknown classification": ("string, classification: public", "string, classification: top", "name: note", "say public, internal"),
    "a word of ours misspelt": ("name: note,", "name: note, customProperties: [{property: form, value: x}],", "name: note", "did you mean from"),
    "an unknown excess": ("name: note,", "name: note, customProperties: [{property: excess, value: cut}],", "name: note", "refuse (the default) or round"),
    "a field without a name": ("name: note,", "name: note, customProperties: [{property: from}],", "name: note", "from None is no text"),
    "a zone that is none": ("name: at,", "name: at, customProperties: [{property: zone, value: Mars}],", "name: at", "such as America/New_York"),
    # rules
    "a rule that is no SQL": (RULE, '"whole <"', "whole_is_small", "not valid SQL at line 1, column 7"),
    "a rule over no column": (RULE, '"hole < 1"', "whole_is_small", "no column 'hole'"),
    "a rule that reads a file": (RULE, "\"read_csv('x') = 1\"", "whole_is_small", "is not allowed in a rule"),
    "a rule that is no truth": (RULE, '"whole + 1"', "whole_is_small", "neither true nor false"),
    "a rule of another engine": ("engine: assay", "engine: soda", "engine: soda", "a rule is type: custom, engine: assay"),
    "a rule without a good name": ("name: whole_is_small", "name: whole is small", "whole is small", "it becomes the reason in quarantine"),
    "a rule twice": ("name: amount_positive", "name: whole_is_small", 'implementation: "whole <', "a reason must name one rule"),
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
    "neither window nor every": (f"  - {EVERY}\n", "", "property: source", "give either window"),
    "window and every": (EVERY, f"{EVERY}\n  - {{property: window, value: P1Y}}", "property: source", "give either window"),
    "no duration": ("value: P1D", "value: daily", "value: daily", "such as P10Y, P7D or PT15M"),
    "months and days": ("value: P1D", "value: P1M1D", "value: P1M1D", "whole months or in whole days"),
    "no time at all": ("value: P1D", "value: P0D", "value: P0D", "whole months or in whole days"),
    "a window without a start": (EVERY, "{property: window, value: P1Y}", "property: source", "window needs start"),
    "a start that is no day": (*_more("{property: start, value: soon}"), "value: soon", "'soon' is not a day as YYYY-MM-DD"),
    "a month's settle": (*_more("{property: settle, value: P1M}"), "value: P1M", "say it in days or hours"),
    "no mutability": ("  - {property: mutability, value: calendar}\n", "", "property: source", "mutability is missing"),
    "an unknown mutability": ("value: calendar", "value: often", "value: often", "none of append, restating, calendar, snapshot"),
    "known at no column": ("{column: at}", "{column: never}", "{column: never}", "must be a date or timestamp column"),
    "known at a text": ("{column: at}", "{column: note}", "{column: note}", "must be a date or timestamp column"),
    "known in no zone": ("{column: at}", "{column: at, zone: Mars/Base}", "Mars/Base", "zone or lag cannot be read"),
    "known at no time": ("{column: at}", "{column: at, time: 16:00}", "time: 16:00", 'such as "16:00"; quote it'),
    "known a month later": ("{column: at}", "{column: at, lag: P1M}", "lag: P1M", "say it in days or hours"),
    "known with a stranger": ("{column: at}", "{column: at, delay: P1D}", "delay", "a mapping of column, lag, time, zone"),
    "partitioned by weeks": (*_more("{property: partitioning, value: {column: at, by: week}}"), "by: week", "year, month, value"),
    "a number's year": (*_more("{property: partitioning, value: {column: whole, by: year}}"), "by: year", "only days and times have"),
    "a sequence that is no column": (*_more("{property: sequence, value: number}"), "value: number", "must be a column"),
    "a universe that is a path": (*_more("{property: universe, value: ../../x}"), "../../x", "it becomes a file's name"),
    "a gate that counts rows": (GATE, "{quarantinedAtMost: 50, unit: rows}", "unit: rows", "unit must be percent"),
    "a gate without a number": (GATE, "{quarantinedAtMost: many}", "many", "'many' is no share in percent"),
    "a gate below nothing": (GATE, "{quarantinedAtMost: -1}", "-1", "-1 is no share in percent"),
    "a gate from few rows on": (GATE, "{minRows: few}", "few", "'few' is no count of rows"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_contract_that_contradicts_itself(name: str) -> None:
    old, new, at, words = BAD[name]
    assert old in EVERY_TYPE
    text = EVERY_TYPE.replace(old, new, 1)
    line = next(n for n, one in enumerate(text.splitlines(), 1) if at in one)
    with pytest.raises(ContractError) as caught:
        odcs.parse(text, "things.yaml")
    said = str(caught.value)
    assert said.startswith(f"things.yaml:{line}: "), said
    assert words in said, said
    assert "\n" not in said


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
        ("start: 2024-99-99\n", 1, "not YAML: month must be"),
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


def test_a_good_contract_is_what_it_says() -> None:
    text = EVERY_TYPE.replace(EVERY, "{property: window, value: P1Y}\n  - {property: start, value: 2020-01-01}")
    text = text.replace(*_more("{property: partitioning, value: {column: at, by: month}}"))
    found = odcs.parse(text)
    assert [(c.name, c.type, c.required) for c in found.columns] == [
        ("id", "VARCHAR", True), ("whole", "BIGINT", True), ("amount", "DECIMAL(18,6)", True), ("flag", "BOOLEAN", True),
        ("day", "DATE", True), ("at", "TIMESTAMPTZ", True), ("note", "VARCHAR", False), ("maybe", "DECIMAL(38,10)", False),
    ]  # fmt: skip
    assert (found.key, found.source, found.mutability, found.settle) == (("id",), "fmp", "calendar", "P3D")
    assert (found.window, found.every, found.start) == ("P1Y", None, date(2020, 1, 1))
    assert (found.gate, found.known_at, found.partition) == (Gate(50, 20), KnownAt("at"), ("at", "month"))
    assert [(r.name, r.severity) for r in found.rules] == [("whole_is_small", "error"), ("amount_positive", "warning")]


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("{path: things}", "{path: others}", {"capture"}),
        ("value: P1D", "value: P7D", {"capture"}),
        ("logicalType: date, required: true", "logicalType: date", {"refine"}),
        ("{column: at}", "{column: day}", {"refine"}),
        ("quarantinedAtMost: 50", "quarantinedAtMost: 5", {"gate"}),
        ("whole < 1000000", "whole < 2000000", {"gate"}),
        ("name: Things", "name: All things", {"serve"}),
        ("string, classification: public", "string, classification: restricted", {"serve"}),
        ("status: active", "status: draft", set()),
    ],
)
def test_a_change_moves_the_fingerprint_of_what_it_touches_alone(old: str, new: str, changed: set[str]) -> None:
    def fingerprints(text: str) -> dict[str, str]:
        found = odcs.parse(text)
        return {name: getattr(found, f"{name}_fingerprint") for name in ("capture", "refine", "gate", "serve")}

    assert old in EVERY_TYPE
    before, after = fingerprints(EVERY_TYPE), fingerprints(EVERY_TYPE.replace(old, new))
    assert {name for name in before if before[name] != after[name]} == changed
