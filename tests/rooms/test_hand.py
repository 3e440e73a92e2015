"""Rows by hand: a current row is corrected or removed, token for token, and what is wrong with that is said before anything is put."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from assay.contract.model import Contract
from assay.engines.duckdb import DuckDBEngine
from assay.errors import LakeBusy, UsageError
from assay.lake import bronze
from assay.lake.bronze import Decision
from assay.run import hand, prove
from tests.making import Made, every_type, make, record

BY = {"who": "ada", "why": "the slip says so"}


@dataclass
class Lake:
    """A small lake as the commands see it."""

    target: Any
    contracts: dict[str, Contract] = field(default_factory=dict)

    def contract(self, dataset: str) -> Contract:
        return self.contracts[dataset]

    def land(self, *records: bytes) -> None:
        """Land an answer, and refine it."""
        self.target.land(self.contracts["things"], records)
        self.target.refine(self.contracts["things"])

    def correct(self, key: dict[str, str], **values: str | None) -> hand.ByHand:
        return hand.correct(self, "things", key, values, **BY)  # type: ignore[arg-type]

    def remove(self, key: dict[str, str]) -> hand.ByHand:
        return hand.remove(self, "things", key, **BY)  # type: ignore[arg-type]

    def newest(self) -> bronze.Entry:
        tail = bronze.adopt(self.target.files, self.target.ledger, "things")
        return bronze.read(self.target.files, "things", tail.position)

    def current(self, columns: str) -> list[tuple[Any, ...]]:
        return self.target.current(self.contracts["things"], columns)

    def proved(self) -> None:
        prove.counts(self)  # type: ignore[arg-type]
        prove.rebuild(self, ["things"])  # type: ignore[arg-type]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., Lake]]:
    made: list[Made] = []

    def call(*changes: tuple[str, str]) -> Lake:
        made.append(make(tmp_path / f"lake{len(made)}"))
        return Lake(made[-1], {"things": every_type(*changes)})

    yield call
    for one in made:
        one.close()


A = {"id": "a"}
WRITTEN: dict[str, tuple[dict[str, str | None], dict[str, str], dict[str, str]]] = {
    "a number keeps its token": ({"amount": "1.5000"}, {"amount": "1.5000"}, {"amount": "1.500000"}),
    "an exponent too": ({"amount": "15e-1"}, {"amount": "15e-1"}, {"amount": "1.500000"}),
    "more digits than a double has": (
        {"maybe": "12345678901234567890.0123456789"},
        {"maybe": "12345678901234567890.0123456789"},
        {"maybe": "12345678901234567890.0123456789"},
    ),
    "a truth": ({"flag": "false"}, {"flag": "false"}, {"flag": "false"}),
    "a day": ({"day": "2024-03-01"}, {"day": '"2024-03-01"'}, {"day": "2024-03-01"}),
    "a text is escaped": ({"note": 'two\n"lines"'}, {"note": '"two\\n\\"lines\\""'}, {"note": 'two\n"lines"'}),
    "two at once": ({"whole": "8", "flag": "false"}, {"whole": "8", "flag": "false"}, {"whole": "8", "flag": "false"}),
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """A lake with a row for each of these."""
    made = make(tmp_path_factory.mktemp("rows"))
    lake = Lake(made, {"things": every_type()})
    lake.land(*(with_more(what) for what in WRITTEN))
    yield lake
    lake.proved()
    made.close()


def with_more(what: str) -> bytes:
    """A record with a field that nobody reads, spelt in a way of its own."""
    return record(id=json.dumps(what), extra="[1.10, 2]", amount="1.250").replace(b'"whole":7', b'"whole" : 7')


@pytest.mark.parametrize("what", WRITTEN)
def test_what_is_said_by_hand_is_a_record_with_these_tokens_and_all_others_as_they_were(rows: Lake, what: str) -> None:
    values, tokens, shown = WRITTEN[what]
    seen = rows.newest().position
    done = rows.correct({"id": what}, **values)
    entry = rows.newest()
    [act] = entry.decisions
    assert (entry.who, entry.why, act.kind, act.seen, entry.format) == ("ada", "the slip says so", "upsert", seen, 1)
    before, after = (json.loads(text, parse_float=str, parse_int=str) for text in (with_more(what), act.record or ""))
    assert {k: v for k, v in after.items() if k not in tokens} == {k: v for k, v in before.items() if k not in tokens}
    for name, token in tokens.items():
        assert f'"{name}":{token}' in (act.record or "")
    assert {name: new for name, (_, new) in done.changed.items()} == shown
    assert (what, entry.position) in rows.current("id, _position")
    assert len(rows.current("id")) == len(WRITTEN)


def test_a_value_is_taken_away_and_another_corrected_again(begin: Callable[..., Lake]) -> None:
    lake = begin()
    lake.land(record(note='"x"'))
    assert lake.correct(A, note=None).told == "things id=a: note x → null"
    assert lake.correct(A, note="y", amount="2").told == "things id=a: note null → y, amount 1.250000 → 2.000000"
    assert [(str(a), n) for a, n in lake.current("amount, note")] == [("2.000000", "y")]
    assert lake.target.account(lake.contracts["things"]).sum("by_hand") == 2
    assert lake.target.account(lake.contracts["things"]).sum("waiting") == 0
    lake.proved()


REFUSED: dict[str, tuple[dict[str, str], dict[str, str | None], str]] = {
    "no such row": ({"id": "z"}, {"amount": "2"}, "silver.things has no row id=z"),
    "no such column": (A, {"price": "2"}, "things has no column 'price'; it has id, whole"),
    "the key": (A, {"id": "b"}, "id is of the key of things"),
    "another key": ({"flag": "true"}, {"amount": "2"}, "silver.things has the key id"),
    "a key that is no UTF-8": ({"id": "\udcff"}, {"amount": "2"}, "the value of id is no text in UTF-8"),
    "nothing": (A, {}, "nothing to correct"),
    "no number": (A, {"amount": "1,5"}, "amount=1,5 is no number"),
    "two numbers": (A, {"amount": "1 2"}, "amount=1 2 is no number"),
    "no day": (A, {"day": "2024-02-30"}, "refuses the row: day:type 1"),
    "too many decimals": (A, {"amount": "1.0000001"}, "refuses the row: amount:scale 1"),
    "a rule": (A, {"whole": "1000000"}, "refuses the row: whole_is_small 1"),
    "required": (A, {"amount": None}, "refuses the row: amount:required 1"),
    "nothing new": (A, {"amount": "1.2500", "note": "y"}, "amount is 1.250000 already"),
    "no UTF-8": (A, {"note": "\udcff"}, "the value of note is no text in UTF-8"),
}


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """A lake of one row, that nothing is put into."""
    made = make(tmp_path_factory.mktemp("still"))
    lake = Lake(made, {"things": every_type()})
    lake.land(record())
    yield lake
    made.close()


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_wrong_is_said_and_nothing_is_put(still: Lake, what: str) -> None:
    key, values, said = REFUSED[what]
    before = sorted(still.target.files.names(""))
    with pytest.raises(UsageError, match=said):
        still.correct(key, **values)
    assert sorted(still.target.files.names("")) == before


def test_what_silver_has_not_taken_in_is_to_be_refined_first(begin: Callable[..., Lake]) -> None:
    lake = begin()
    with pytest.raises(UsageError, match="nothing of things is refined yet"):
        lake.remove(A)
    lake.land(record())
    lake.target.land(lake.contracts["things"], [record(amount="3")])
    for act in (lambda: lake.correct(A, amount="2"), lambda: lake.remove(A)):
        with pytest.raises(UsageError, match="`assay apply things` first"):
            act()
    lake.target.refine(lake.contracts["things"])
    lake.contracts["things"] = every_type(("version: 1.0.0", "version: 1.0.1"))
    with pytest.raises(UsageError, match="behind its log or its contract"):
        lake.correct(A, amount="2")


def test_a_removed_row_is_current_no_more_until_its_source_says_it_again(begin: Callable[..., Lake]) -> None:
    lake = begin()
    lake.land(record(), record(id='"b"'))
    done = lake.remove(A)
    assert (done.told, done.refined.counts["withdrawn"]) == ("things id=a: removed", 1)
    assert lake.current("id") == [("b",)]
    with pytest.raises(UsageError, match="has no row id=a"):
        lake.remove(A)
    lake.proved()
    lake.land(record())
    assert lake.current("id, _position") == [("a", 4), ("b", 2)]
    lake.proved()


def test_what_the_source_says_after_a_correction_takes_its_place(begin: Callable[..., Lake]) -> None:
    lake = begin()
    lake.land(record())
    lake.correct(A, amount="2")
    lake.land(record())
    assert [(str(amount), at) for amount, at in lake.current("amount, _position")] == [("1.250000", 4)]
    assert len(lake.target.versions(lake.contracts["things"])) == 3
    lake.proved()


@dataclass(frozen=True)
class _Landing:
    """An engine beside which somebody lands the row, between what a person reads and what he decides."""

    engine: DuckDBEngine
    land: Callable[[], object]

    def group(self, *args: Any) -> Any:
        return self.engine.group(*args)

    def rows(self, contract: Contract, lines: Sequence[bytes]) -> Any:
        self.land()
        return self.engine.rows(contract, lines)


@pytest.mark.parametrize("what", ["landed", "decided"])
def test_what_its_author_had_not_seen_is_not_overwritten(begin: Callable[..., Lake], what: str) -> None:
    lake = begin()
    lake.land(record())
    made, contract = lake.target, lake.contracts["things"]
    acts = {"landed": lambda: made.land(contract, [record(amount="7")]), "decided": lambda: lake.correct(A, amount="7")}
    engine = _Landing(made.engine, acts[what])
    parts = ("files", "ledger", "catalog", "limits")
    behind = Lake(SimpleNamespace(engine=engine, **{name: getattr(made, name) for name in parts}), lake.contracts)
    with pytest.raises(LakeBusy, match="things has an entry 3 meanwhile, which may speak of this row: nothing was put"):
        behind.correct(A, amount="2")
    assert lake.newest().position == 3
    made.refine(contract)
    assert [str(amount) for (amount,) in lake.current("amount")] == ["7.000000"]
    lake.proved()


def test_a_pause_meanwhile_is_nothing_to_a_row(begin: Callable[..., Lake]) -> None:
    lake = begin()
    lake.land(record())
    made = lake.target
    bronze.decide(made.files, made.ledger, "things", [Decision("pause")], "bob", "why not")
    lake.correct(A, amount="2")
    assert (lake.newest().position, [str(amount) for (amount,) in lake.current("amount")]) == (4, ["2.000000"])


@pytest.mark.slow
def test_a_value_is_written_where_it_stands_in_the_record(begin: Callable[..., Lake]) -> None:
    place = "{name: note, logicalType: string, classification: public"
    lake = begin((place, f"{place}, customProperties: [{{property: from, value: [memo.text, note]}}]"))
    lake.land(record(memo='{"text":"deep","by":1.0}', note='"flat"'), record(id='"b"', note='"flat"'), record(id='"c"'))
    for key, note in (("a", "deeper"), ("b", "flatter"), ("c", "new")):
        lake.correct({"id": key}, note=note)
    assert lake.current("id, note") == [("a", "deeper"), ("b", "flatter"), ("c", "new")]
    files, written = lake.target.files, []
    for position in (3, 4, 5):
        [act] = bronze.read(files, "things", position).decisions
        written.append(act.record or "")
    assert '"memo":{"text":"deeper","by":1.0},"note":"flat"' in written[0]
    assert '"note":"flatter"' in written[1]
    assert '"memo":{"text":"new"}' in written[2]
    lake.correct(A, note=None)
    assert lake.current("id, note") == [("a", None), ("b", "flatter"), ("c", "new")]
    lake.proved()


def test_two_columns_of_one_place_are_said_together(begin: Callable[..., Lake]) -> None:
    place = "{name: note, logicalType: string, classification: public"
    lake = begin((place, f"{place}, customProperties: [{{property: from, value: day}}]"))
    lake.land(record())
    with pytest.raises(UsageError, match="note would become 2024-03-01 too"):
        lake.correct(A, day="2024-03-01")
    lake.correct(A, day="2024-03-01", note="2024-03-01")
    assert lake.current("note") == [("2024-03-01",)]


@pytest.mark.slow
def test_where_a_sequence_decides_it_is_said_too(begin: Callable[..., Lake]) -> None:
    lake = begin(
        (
            "  - {property: every, value: P1D}\n",
            "  - {property: every, value: P1D}\n  - {property: sequence, value: whole}\n",
        )
    )
    lake.land(record())
    for values in ({"amount": "2"}, {"amount": "2", "whole": "6"}):
        with pytest.raises(UsageError, match="by a later whole alone: set it too, to more than 7"):
            lake.correct(A, **values)
    lake.correct(A, amount="2", whole="8")
    lake.remove(A)
    assert lake.current("id") == []
    lake.proved()


@pytest.mark.slow
def test_of_records_that_an_answer_counts_the_first_alone_is_decided_about(begin: Callable[..., Lake]) -> None:
    nth = "      - {name: nth, logicalType: integer, required: true, primaryKey: true, primaryKeyPosition: 2, classification: public, customProperties: [{property: ordinal, value: true}]}\n"
    whole = "      - {name: whole,"
    lake = begin((whole, nth + whole))
    lake.land(record(), record(amount="3"))
    with pytest.raises(UsageError, match="nth counts the records of an answer"):
        lake.correct({"id": "a", "nth": "2"}, amount="4")
    lake.correct({"id": "a", "nth": "1"}, amount="4")
    assert [str(amount) for (amount,) in lake.current("amount")] == ["3.000000", "4.000000"]
    lake.proved()


@pytest.mark.slow
def test_a_row_that_a_decision_let_in_has_its_own_record(begin: Callable[..., Lake]) -> None:
    lake = begin()
    made = lake.target
    [landed] = made.land_all(lake.contracts["things"], [("all", 1, [record(whole="2000000"), record(id='"b"')])])
    made.refine(lake.contracts["things"])
    lake.contracts["things"] = every_type(("whole < 1000000", "whole < 3000000"))
    made.promise(lake.contracts["things"])
    made.decide(lake.contracts["things"], Decision("rejudge", batch=landed.at))
    lake.correct(A, amount="9")
    assert [str(amount) for (amount,) in lake.current("amount")] == ["1.250000", "9.000000"]
    lake.proved()


@pytest.mark.parametrize("given", [["price"], ["=5"], [""], ["a=1", "a=2"]])
def test_a_pair_is_a_column_and_its_value(given: list[str]) -> None:
    with pytest.raises(UsageError):
        hand.pairs(given, "the key")
    assert hand.pairs(["a=1=2", "b="], "the key") == {"a": "1=2", "b": ""}
