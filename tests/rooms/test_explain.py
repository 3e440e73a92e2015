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

from assay.contract import odcs
from assay.contract.model import Contract
from assay.errors import LakeDamaged, UsageError
from assay.lake import bronze, evidence
from assay.lake.release import Release
from assay.run.explain import explain
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
    return odcs.parse(text)


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
