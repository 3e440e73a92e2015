"""Explain over a small lake: what it shows of records, rules and evidence is what judged that very row."""

import dataclasses
import gzip
import re
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from msgspec.structs import replace
from pyarrow import parquet

from assay import tell
from assay.contract import calendars, odcs
from assay.contract.model import Contract
from assay.errors import LakeDamaged, UsageError
from assay.lake import bronze, evidence, release
from assay.lake.release import Release
from assay.run import marked, prove
from assay.run.explain import explain, render
from assay.targets.local import DiskFiles
from assay.windows import Window
from tests.making import Decision, Landed
from tests.rooms import serving_lake
from tests.rooms.serving_lake import Lake

WINDOW = Window(date(2024, 1, 1), date(2025, 1, 1))
DAYS = [date(2024, 1, day) for day in (2, 3, 4, 5)]
MORE_COLUMNS = """      - name: vwap
        description: volume-weighted price
        logicalType: number
        physicalType: decimal(18,6)
        classification: public
    quality:
      - {name: price_usual, description: few prices are so high, type: custom, engine: assay, implementation: "close < 150", severity: warning}
      - {name: vwap_bounded, description: a mean lies between, type: custom, engine: assay, implementation: "vwap <= high", severity: warning}
      - {name: high_bounded, description: too high to be true, type: custom, engine: assay, implementation: "high < 150"}
"""
PRICE_EOD = (
    (serving_lake.CONTRACTS / "price_eod.yaml").read_text()
    .replace("    quality:\n", MORE_COLUMNS, 1)
    .replace("quarantinedAtMost: 2", "quarantinedAtMost: 90")
)  # fmt: skip


def contract(*changes: tuple[str, str]) -> Contract:
    """The prices' contract with three rules more, texts of it replaced."""
    text = PRICE_EOD
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return odcs.parse(calendars.attached(text, serving_lake.NEW_YORK))


def price(day: date, close: float, volume: int = 7, more: str = "") -> bytes:
    return serving_lake.price("AAA", day, close, volume).removesuffix(b"}") + more.encode() + b"}"


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    made = serving_lake.empty(tmp_path)
    made.contracts["price_eod"] = contract()
    yield made
    made.close()


def refined(lake: Lake, again: Landed | None = None, kind: str = "rejudge") -> str:
    """Fold what was landed, or decide about a batch; the name of the evidence object."""
    t, promised = lake.local, lake.contracts["price_eod"]
    t.promise(promised)
    done = t.decide(promised, Decision(kind, batch=again.at)) if again else t.refine(promised)  # type: ignore[arg-type]
    return evidence.name_of("price_eod", done.evidence[-1].number)


def landed(lake: Lake, *records: bytes) -> Landed:
    return lake.land("price_eod", "AAA", list(records), WINDOW)


def explainer(lake: Lake) -> Callable[[Release, str, dict[str, str], str | None], dict[str, Any]]:
    return lambda found, table, key, column: explain(SimpleNamespace(target=lake.local), found, table, key, column)  # type: ignore[arg-type]


def why(lake: Lake, found: Release, day: date = DAYS[0], column: str | None = "close") -> dict[str, Any]:
    return explainer(lake)(found, "fct_price", {"symbol": "AAA", "date": str(day)}, column)


def page(lake: Lake, day: date = DAYS[0], column: str = "close") -> str:
    with serving_lake.serving(lake, explainer(lake)) as url, serving_lake.client(url) as http:
        answer = http.get("/explain/fct_price", params={"symbol": "AAA", "date": str(day), "column": column})
        assert answer.status_code == 200
        return answer.text


def articles(text: str) -> list[str]:
    """The words of each group of records on the page."""
    return [re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", one)) for one in re.findall(r"(?s)<article.*?</article>", text)]


def test_a_record_altered_in_bronze_is_not_shown_as_received(lake: Lake) -> None:
    batch = landed(lake, price(DAYS[0], 100.25), price(DAYS[1], 101.5))
    refined(lake)
    found = lake.release(1)
    assert '"adjClose":100.2500' in why(lake, found)["records"][1]["record"]
    name = batch.entry.parts[0].name
    part = lake.local.root / name
    altered = gzip.decompress(part.read_bytes()).replace(b'"adjClose":100.2500', b'"adjClose":999.9900')
    part.chmod(0o600)
    part.write_bytes(gzip.compress(altered))
    with pytest.raises(LakeDamaged, match=name):
        bronze.lines_of(lake.local.files, batch.entry, {(batch.n, 0)})
    with pytest.raises(LakeDamaged, match=name):
        why(lake, found)


@pytest.mark.slow
def test_a_record_refined_again_gives_its_silver_row_or_the_page_says_so(lake: Lake) -> None:
    landed(lake, price(DAYS[0], 100.25), price(DAYS[1], 101.5))
    refined(lake)
    found = lake.release(1)

    def told() -> dict[str, bool]:
        return {one["key"]["date"]: one["record_refines_to_row"] for one in why(lake, found)["records"]}

    assert told() == {str(DAYS[0]): True, str(DAYS[1]): True}
    assert [one.count("equal Each record gives its silver row") for one in articles(page(lake))] == [1]
    path = lake.local.root / found.dataset("price_eod").current.files[0].name
    rows = parquet.read_table(path)
    at = rows.schema.names.index("close")
    closes = [Decimal("999.99") if one == Decimal("101.5") else one for one in rows["close"].to_pylist()]
    path.chmod(0o600)
    parquet.write_table(rows.set_column(at, rows.schema.field(at), pa.array(closes, rows.schema.field(at).type)), path)
    assert told() == {str(DAYS[0]): True, str(DAYS[1]): False}
    assert sorted("different Read anew" in one for one in articles(page(lake))) == [False, True]


def test_a_rule_is_passed_broken_or_not_decided(lake: Lake) -> None:
    lake.contracts["price_eod"] = contract(("high < 150", "high < 1500"))
    landed(
        lake, price(DAYS[0], 100.0, more=',"vwap":99.5'), price(DAYS[1], 160.0, more=',"vwap":150.5'), price(DAYS[2], 100.0, 0)
    )  # fmt: skip
    refined(lake)
    found = lake.release(1)
    told = {
        one["key"]["date"]: {r["name"]: (r["severity"], r["passed"]) for r in one["rules"]}
        for one in why(lake, found)["records"]
    }
    some = ("price_usual", "vwap_bounded", "volume_traded", "high_bounded")
    assert {day: [rules[name] for name in some] for day, rules in told.items()} == {
        "2024-01-02": [("warning", True), ("warning", True), ("warning", True), ("error", True)],
        "2024-01-03": [("warning", False), ("warning", True), ("warning", True), ("error", True)],
        "2024-01-04": [("warning", True), ("warning", None), ("warning", False), ("error", True)],
    }
    shown = {re.search(r"2024-01-\d\d", one)[0]: one.partition(" Rules ")[2] for one in articles(page(lake))}
    assert "✓ passed price_usual" in shown["2024-01-02"]
    assert "✗ broken (warning) price_usual" in shown["2024-01-03"]
    assert "✓ passed vwap_bounded" in shown["2024-01-03"]
    assert "not decided vwap_bounded" in shown["2024-01-04"]
    assert "✗ broken (warning) volume_traded" in shown["2024-01-04"]
    assert "passed price_usual" not in shown["2024-01-03"]


@pytest.mark.slow
def test_each_record_is_shown_with_the_evidence_and_contract_that_let_it_in(lake: Lake) -> None:
    """Three rows of one file, let in by a refine and two replays with ever milder rules."""
    batch = landed(lake, price(DAYS[0], 100.0), price(DAYS[1], 200.0), price(DAYS[2], 300.0))
    first = refined(lake)
    lake.contracts["price_eod"] = milder = contract(("high < 150", "high < 250"))
    second = refined(lake, batch)
    lake.contracts["price_eod"] = mildest = contract(("high < 150", "high < 350"))
    third = refined(lake, batch)
    found = lake.release(1)
    wanted = {
        "2024-01-02": (first, contract().sha256),
        "2024-01-03": (second, milder.sha256),
        "2024-01-04": (third, mildest.sha256),
    }
    assert {
        one["key"]["date"]: (one["evidence"], one["contract_sha256"]) for one in why(lake, found)["records"]
    } == wanted
    shown = articles(page(lake))
    assert len(shown) == 3
    for day, (name, sha256) in wanted.items():
        (one,) = [text for text in shown if name in text]
        assert sha256 in one
        assert set(re.findall(r"2024-01-0\d(?= )", one)) == {day}


def test_a_row_that_a_release_let_in_is_shown_with_the_contract_that_held_it(lake: Lake) -> None:
    """Also after the rest of its batch was judged again by another."""
    lake.contracts["price_eod"] = strict = contract(
        ("quarantinedAtMost: 90, unit: percent, minRows: 100", "quarantinedAtMost: 2, unit: percent, minRows: 1")
    )
    batch = landed(lake, price(DAYS[0], 100.0), price(DAYS[1], 200.0))
    refined(lake)
    lake.contracts["price_eod"] = milder = contract(("high < 150", "high < 250"))
    refined(lake, batch, "release")
    refined(lake, batch)
    told = why(lake, lake.release(1))["records"]
    assert {one["key"]["date"]: one["contract_sha256"] for one in told} == {
        "2024-01-02": strict.sha256, "2024-01-03": milder.sha256,
    }  # fmt: skip
    assert all(one["record_refines_to_row"] for one in told)


@pytest.mark.slow
def test_a_release_explains_its_rows_also_when_silver_was_folded_anew_since(lake: Lake) -> None:
    batch = landed(lake, price(DAYS[0], 100.0), price(DAYS[1], 200.0))
    refined(lake)
    lake.contracts["price_eod"] = milder = contract(("high < 150", "high < 250"))
    refined(lake, batch)
    found = lake.release(1)
    before = why(lake, found)["records"]
    assert {one["contract_sha256"] for one in before} == {contract().sha256, milder.sha256}
    lake.local.refine(contract(("high < 150", "high < 350")), everything=True)
    assert why(lake, found)["records"] == before


def test_nan_is_equal_to_itself(lake: Lake) -> None:
    landed(lake, price(DAYS[0], 100.0, volume=7), price(DAYS[1], 100.0, volume=8))
    refined(lake)
    found = lake.release(1)
    told = why(lake, found, column="score")
    assert (told["value"], told["recomputed"]) == ("nan", {"value": "nan", "equal": True})
    assert why(lake, found, column=None)["recomputed"]["equal"] is True
    assert "equal Computed again" in re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", page(lake, column="score")))


def test_a_moment_is_written_as_the_api_writes_it(lake: Lake) -> None:
    landed(lake, price(DAYS[0], 100.0))
    refined(lake)
    found = lake.release(1)
    with serving_lake.serving(lake) as url, serving_lake.client(url) as http:
        told = http.get("/v1/gold/fct_price").json()["data"][0]["priced_at"]
    assert told == "2024-01-02T21:00:00.250000Z"
    assert why(lake, found)["row"]["priced_at"] == told


def test_a_row_of_silver_is_led_back_to_the_token_of_its_value(lake: Lake) -> None:
    batch = landed(lake, price(DAYS[0], 100.25), price(DAYS[1], 101.5))
    name = refined(lake)
    found, key = lake.release(1), {"symbol": "AAA", "date": str(DAYS[1])}
    told = explainer(lake)(found, "silver.price_eod", key, "close")
    [record] = told["records"]
    assert (told["table"], told["key"], told["value"], told["recomputed"]["equal"]) == (
        "silver.price_eod", key, "101.500000", True,
    )  # fmt: skip
    assert record["tokens"]["close"] == "101.5000"
    assert record["tokens"]["vwap"] is None
    assert f'"adjClose":{record["tokens"]["close"]}' in record["record"]
    assert (record["file"], record["line"]) == (batch.entry.parts[0].name, 2)
    assert record["entry"] == bronze.name_of("price_eod", batch.entry.position)
    assert record["evidence"] == name
    assert record["request"]["params"] == {"symbol": "AAA"}
    assert record["contract_sha256"] == lake.contracts["price_eod"].sha256
    for wrong, said in (
        ({"symbol": "AAA"}, "date is missing"), ({**key, "date": "2031-01-01"}, "has no row"), ({**key, "x": "1"}, "x is missing or not"),
        ({**key, "date": "2031-02-30"}, "date: the value is not a date; write 2024-01-05"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=said):
            explainer(lake)(found, "silver.price_eod", wrong, None)
    for table, column in (("silver.nope", None), ("silver.price_eod", "nope")):
        with pytest.raises(UsageError, match="nope"):
            explainer(lake)(found, table, key, column)


def test_what_two_inputs_share_is_read_once(lake: Lake) -> None:
    landed(lake, price(DAYS[0], 100.25), price(DAYS[1], 101.5))
    refined(lake)
    found = lake.release(1)
    [gold] = [one for one in found.gold if one.name == "fct_price"]
    twice = replace(found, gold=(replace(gold, inputs=gold.inputs * 2),))
    read: list[str] = []

    class Noted(DiskFiles):
        def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
            read.append(name)
            return super().read(name, start, end)

    lake.local = dataclasses.replace(lake.local, files=Noted(lake.local.files.root))
    told = why(lake, twice)
    assert len(told["records"]) == 4
    assert read
    bronze_objects = [name for name in read if name.startswith("bronze/")]
    assert len(bronze_objects) == len(set(bronze_objects)), bronze_objects


def silver(lake: Lake, found: Release, day: date = DAYS[0]) -> dict[str, Any]:
    return explainer(lake)(found, "silver.price_eod", {"symbol": "AAA", "date": str(day)}, "close")


def complete(lake: Lake, *records: bytes) -> Landed:
    """An answer that says all there is of the first days."""
    scope = {"symbol": ("AAA", "AAA"), "date": (str(DAYS[0]), str(DAYS[-1]))}
    return lake.local.land(lake.contracts["price_eod"], list(records), shard="AAA", scope=scope)


def withdrawing(at_most: int) -> Contract:
    return contract(("quarantinedAtMost: 90", f"withdrawnAtMost: {at_most}, quarantinedAtMost: 90"))


def test_a_row_that_is_gone_says_which_answer_lacked_it(lake: Lake) -> None:
    lake.contracts["price_eod"] = withdrawing(100)
    first = landed(lake, price(DAYS[0], 100.0), price(DAYS[1], 101.0))
    landed(lake, price(DAYS[1], 101.5))
    again = complete(lake, price(DAYS[0], 100.0), price(DAYS[1], 101.5))
    answer = complete(lake, price(DAYS[0], 100.0))
    complete(lake, price(DAYS[0], 100.0), price(DAYS[2], 102.0))
    refined(lake)
    told = silver(lake, lake.release(1), DAYS[1])
    went = told["gone"]
    assert (went["why"], went["batch"], went["decision"]) == ("absent", answer.spoken, None)
    assert went["batch"] != again.spoken != first.spoken
    assert went["captured_at"] == went["recorded_to"] == render(answer.entry.captured_at)
    assert went["entry"] == bronze.name_of("price_eod", answer.entry.position)
    assert went["scope"]["date"] == [str(DAYS[0]), str(DAYS[-1])]
    assert [one["url"] for one in went["requests"]] == ["http://127.0.0.1/things"]
    assert (told["value"], told["recomputed"]["equal"], told["row"]["recorded_to"]) == (
        "101.500000",
        True,
        went["recorded_to"],
    )
    assert told["records"][0]["tokens"]["close"] == "101.5000"
    said = "\n".join(tell.explanation(told))
    assert f"gone since {went['recorded_to']}: absent from {answer.spoken} of {went['captured_at']}" in said
    assert "127.0.0.1/things" in said
    here = silver(lake, lake.release(2))
    assert here["gone"] is None
    assert "gone" not in "\n".join(tell.explanation(here))
    with pytest.raises(UsageError, match="has no row"):
        silver(lake, lake.release(3), DAYS[3])


def test_of_two_answers_of_one_landing_the_one_that_lacks_the_row_is_named(lake: Lake) -> None:
    lake.contracts["price_eod"] = promised = withdrawing(100)
    landed(lake, price(DAYS[0], 100.0), price(DAYS[1], 101.0))
    scope = {"symbol": ("AAA", "AAA"), "date": (str(DAYS[0]), str(DAYS[-1]))}
    whole, lacking = [price(DAYS[0], 100.0), price(DAYS[1], 101.0)], [price(DAYS[0], 100.0)]
    two = lake.local.land_all(promised, [("AAA", 1, whole), ("AAA", 2, lacking)], scope=scope)
    refined(lake)
    assert silver(lake, lake.release(1), DAYS[1])["gone"]["batch"] == two[1].spoken


def test_a_row_that_a_person_took_away_says_who_and_why(lake: Lake) -> None:
    promised = lake.contracts["price_eod"]
    landed(lake, price(DAYS[0], 100.0), price(DAYS[1], 101.0))
    refined(lake)
    delete = [Decision("delete", record=price(day, 1.0).decode(), seen=2) for day in (DAYS[2], DAYS[1])]
    lake.local.decide(promised, *delete)
    told = silver(lake, lake.release(1), DAYS[1])
    went = told["gone"]
    assert (went["why"], went["scope"], went["requests"]) == ("deleted", None, [])
    assert went["decision"] == {"kind": "delete", "who": "a test", "why": "it wants to"}
    assert went["batch"].endswith(".1")
    assert "deleted by a test: it wants to" in "\n".join(tell.explanation(told))


def test_a_row_that_a_person_wrote_refines_from_the_record_of_its_decision(lake: Lake) -> None:
    promised = lake.contracts["price_eod"]
    landed(lake, price(DAYS[0], 100.0))
    refined(lake)
    lake.local.decide(promised, Decision("upsert", record=price(DAYS[0], 101.25).decode(), seen=2))
    told = silver(lake, lake.release(1))
    [one] = told["records"]
    assert (told["value"], told["recomputed"]["equal"], one["record_refines_to_row"]) == ("101.250000", True, True)
    assert (one["file"], one["line"], one["request"]) == ("bronze/price_eod/log/000000003.json.gz", 1, None)
    decided = {"kind": "upsert", "who": "a test", "why": "it wants to", "at": one["captured_at"]}
    assert one["decision"] == decided
    assert f"written by hand by a test at {one['captured_at']}: it wants to" in "\n".join(tell.explanation(told))


def test_a_row_that_a_decided_answer_lacked_says_both(lake: Lake) -> None:
    lake.contracts["price_eod"] = promised = withdrawing(10)
    landed(lake, price(DAYS[0], 100.0), price(DAYS[1], 101.0))
    answer = complete(lake, price(DAYS[0], 100.0))
    refined(lake)
    assert silver(lake, lake.release(1), DAYS[1])["gone"] is None
    lake.local.decide(promised, Decision("withdraw", batch=answer.at))
    told = silver(lake, lake.release(2), DAYS[1])
    went = told["gone"]
    assert (went["why"], went["batch"], went["decision"]["kind"]) == ("absent", answer.spoken, "withdraw")
    assert went["captured_at"] < went["recorded_to"]
    assert "by the decision of a test: withdraw, it wants to" in "\n".join(tell.explanation(told))


def newest(lake: Lake, number: int, day: date = DAYS[0]) -> Any:
    """What a row of silver and the gold row over it say of a later record, which is the same."""
    lake.refine()
    found = lake.release(number)
    [record] = silver(lake, found, day)["records"]
    [input_] = [one for one in why(lake, found, day)["records"] if one["key"]["date"] == str(day)]
    assert record["newer"] == input_["newer"]
    return record["newer"]


@pytest.mark.slow
def test_a_row_whose_newer_record_lies_in_quarantine_says_so_until_a_good_one_follows(lake: Lake) -> None:
    landed(lake, price(DAYS[0], 200.0), price(DAYS[1], 101.0))  # an older bad one says nothing
    landed(lake, price(DAYS[0], 100.0))
    assert newest(lake, 1) is None
    bad = landed(lake, price(DAYS[0], 300.0), price(DAYS[2], 100.0))
    told = {
        "batch": bad.spoken, "held": False, "captured_at": render(bad.entry.captured_at), "reasons": ["high_bounded"],
    }  # fmt: skip
    assert newest(lake, 2) == told
    assert newest(lake, 3, DAYS[1]) is None
    said = f"a newer record of this row lies in quarantine: {bad.spoken}, high_bounded, captured {told['captured_at']}"
    assert said in "\n".join(tell.explanation(silver(lake, lake.release(4))))
    assert [f"lies in quarantine: {bad.spoken} , high_bounded, captured" in one for one in articles(page(lake))].count(
        True
    ) == 1
    landed(lake, price(DAYS[0], 100.0), price(DAYS[3], 100.0))  # the same again: nothing is written
    assert newest(lake, 5) is None
    assert silver(lake, release.read(lake.local.files, 2))["records"][0]["newer"] == told


def test_a_record_judged_again_in_vain_is_no_newer_for_that(lake: Lake) -> None:
    bad = landed(lake, price(DAYS[0], 300.0), price(DAYS[1], 100.0))
    landed(lake, price(DAYS[0], 100.0))
    refined(lake)
    refined(lake, bad)
    assert newest(lake, 1) is None


@pytest.mark.slow
def test_a_record_that_was_judged_again_and_went_in_is_the_row(lake: Lake) -> None:
    landed(lake, price(DAYS[0], 100.0))
    bad = landed(lake, price(DAYS[0], 200.0), price(DAYS[1], 100.0))
    assert newest(lake, 1)["batch"] == bad.spoken
    lake.contracts["price_eod"] = contract(("high < 150", "high < 250"))
    refined(lake, bad)
    assert newest(lake, 2) is None


@pytest.mark.slow
def test_a_row_whose_newer_record_is_held_says_so_until_the_days_are_landed_again(lake: Lake) -> None:
    landed(lake, price(DAYS[0], 100.0), price(DAYS[1], 100.0))
    held = landed(lake, price(DAYS[0], 300.0), price(DAYS[2], 300.0))
    told = newest(lake, 1)
    assert (told["batch"], told["held"]) == (held.spoken, True)
    assert told["reasons"]
    assert newest(lake, 2, DAYS[1]) is None
    assert "lies in a held batch: " in "\n".join(tell.explanation(silver(lake, lake.release(3))))
    landed(lake, price(DAYS[3], 100.0))
    assert newest(lake, 4) is None


def test_only_quarantine_that_may_hold_the_key_is_read(lake: Lake) -> None:
    landed(lake, price(DAYS[0], 100.0), price(DAYS[1], 100.0))
    refined(lake)
    landed(lake, price(DAYS[2], 100.0), price(DAYS[3], 100.0))
    landed(lake, price(DAYS[2], 300.0), price(DAYS[3], 100.0))
    refined(lake)
    found = lake.release(1)
    for name in lake.local.files.names("quarantine/"):
        (lake.local.root / name).unlink()
    assert silver(lake, found)["records"][0]["newer"] is None
    with pytest.raises(LakeDamaged, match="quarantine/"):
        silver(lake, found, DAYS[2])


def current_of(lake: Lake, dataset: str = "price_eod") -> list[Any]:
    """What the list of rejected rows says is current of each."""
    around: Any = SimpleNamespace(target=lake.local, contract=lake.contracts.__getitem__)
    return [one["current"] for one in marked.listed(around, dataset, list(prove.rejected(around, dataset)))]


def test_a_rejected_row_that_was_judged_again_in_vain_is_mended_by_what_was_said_since(lake: Lake) -> None:
    bad = landed(lake, price(DAYS[0], 300.0), price(DAYS[1], 100.0))
    good = landed(lake, price(DAYS[0], 100.0))
    refined(lake)
    assert current_of(lake) == [{"batch": good.spoken, "newer": True}]
    refined(lake, bad)
    assert current_of(lake) == [{"batch": good.spoken, "newer": True}]


def test_a_rejected_row_whose_key_counts_records_is_marked_by_the_rest_of_it(lake: Lake) -> None:
    lake.contracts["dividends"] = promised = odcs.read(serving_lake.CONTRACTS / "dividends.yaml")
    assert [c.name for c in promised.columns if c.ordinal]
    dividend = '{"symbol":"AAA","date":"2024-01-02","dividend":%s,"adjDividend":%s,"declarationDate":"2023-12-01"}'
    first = lake.land("dividends", "AAA", [(dividend % ("0.5", "0.5")).encode()])
    lake.land("dividends", "AAA", [(dividend % (one, one)).encode() for one in ("0.6", '"x"')])
    lake.local.refine(promised)
    assert [one and one["newer"] for one in current_of(lake, "dividends")] == [False], first
