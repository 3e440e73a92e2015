"""Explain over a small lake: what it shows of records, rules and evidence is what judged that very row."""

import gzip
import re
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pyarrow as pa
import pytest
from pyarrow import parquet
from ulid import ULID

from assay import refine as refining
from assay.contract import odcs
from assay.contract.model import Contract
from assay.errors import LakeDamaged
from assay.lake import bronze, silver
from assay.lake.release import Release
from assay.serve.explain import explain
from assay.windows import Window
from tests.laws import oracle
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


def refined(lake: Lake, how: Callable[..., Any], *batches: bronze.Manifest) -> str:
    """Judge batches; the evidence's id."""
    t = lake.local
    done = how(
        lake.contracts["price_eod"], list(batches), files=t.files, catalog=t.catalog, ledger=t.ledger, engine=t.engine,
        run=str(ULID()),
    )  # fmt: skip
    return done.evidence.id


def landed(lake: Lake, *records: bytes) -> bronze.Manifest:
    return serving_lake.land(lake.local, lake.contracts["price_eod"], "AAA", WINDOW, list(records))


def released(lake: Lake) -> Release:
    """A release whose models can be run again."""
    duckdb.connect(lake.local.files.path("seeds.duckdb")).close()
    return msgspec.structs.replace(lake.release(1), seeds="seeds.duckdb")


def explainer(lake: Lake, found: Release) -> Callable[[Release, str, dict[str, str], str | None], dict[str, Any]]:
    """Explains by `found`, which says more than the release that is served: the models' SQL."""
    t = lake.local
    return lambda _, table, key, column: explain(t.files, t.catalog, t.ledger, found, table, key, column)


def why(lake: Lake, found: Release, day: date = DAYS[0], column: str | None = "close") -> dict[str, Any]:
    return explainer(lake, found)(found, "fct_price", {"symbol": "AAA", "date": str(day)}, column)


def page(lake: Lake, found: Release, day: date = DAYS[0], column: str = "close") -> str:
    with (
        serving_lake.serving(lake, explainer(lake, found)) as url,
        serving_lake.client(url) as http,
    ):
        answer = http.get("/explain/fct_price", params={"symbol": "AAA", "date": str(day), "column": column})
        assert answer.status_code == 200
        return answer.text


def articles(text: str) -> list[str]:
    """The words of each group of records on the page."""
    return [re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", one)) for one in re.findall(r"(?s)<article.*?</article>", text)]


def test_a_record_altered_in_bronze_is_not_shown_as_received(lake: Lake) -> None:
    manifest = landed(lake, price(DAYS[0], 100.25), price(DAYS[1], 101.5))
    refined(lake, refining.refine, manifest)
    found = released(lake)
    assert '"adjClose":100.2500' in why(lake, found)["observations"][1]["record"]
    part = lake.local.files.path(manifest.parts[0].path)
    altered = gzip.decompress(part.read_bytes()).replace(b'"adjClose":100.2500', b'"adjClose":999.9900')
    part.chmod(0o600)
    part.write_bytes(gzip.compress(altered))
    with pytest.raises(LakeDamaged, match=f"{manifest.parts[0].path} is not what batch {manifest.batch} wrote"):
        bronze.line(lake.local.files, manifest, 0)
    with pytest.raises(LakeDamaged, match=manifest.batch):
        why(lake, found)


def test_a_record_refined_again_gives_its_silver_row_or_the_page_says_so(lake: Lake) -> None:
    refined(lake, refining.refine, landed(lake, price(DAYS[0], 100.25), price(DAYS[1], 101.5)))
    found, t = released(lake), lake.local

    def told() -> dict[str, Any]:
        return explain(
            t.files, t.catalog, t.ledger, found, "fct_price", {"symbol": "AAA", "date": str(DAYS[0])}, "close",
            reread=lambda contract, lines: [oracle.judge(contract, line)[0] for line in lines],
        )  # fmt: skip

    def words() -> list[str]:
        with serving_lake.serving(lake, lambda *_: told()) as url, serving_lake.client(url) as http:
            page = http.get("/explain/fct_price", params={"symbol": "AAA", "date": str(DAYS[0]), "column": "close"})
            return articles(page.text)

    assert {one["key"]["date"]: one["record_refines_to_row"] for one in told()["observations"]} == {
        str(DAYS[0]): True,
        str(DAYS[1]): True,
    }
    assert [one.count("equal Each record gives its silver row") for one in words()] == [1]
    (task,) = t.catalog.load_table(silver.name("price_eod")).scan().plan_files()
    path = Path(task.file.file_path.removeprefix("file://"))
    rows = parquet.read_table(path)
    at = rows.schema.names.index("close")
    closes = [Decimal("999.99") if one == Decimal("101.5") else one for one in rows["close"].to_pylist()]
    parquet.write_table(rows.set_column(at, rows.schema.field(at), pa.array(closes, rows.schema.field(at).type)), path)
    assert {one["key"]["date"]: one["record_refines_to_row"] for one in told()["observations"]} == {
        str(DAYS[0]): True,
        str(DAYS[1]): False,
    }
    assert sorted("different Read anew" in one for one in words()) == [False, True]
    assert {one["record_refines_to_row"] for one in why(lake, found)["observations"]} == {None}
    assert "Refined again" not in page(lake, found)


def test_a_rule_is_passed_broken_or_not_decided(lake: Lake) -> None:
    manifest = landed(
        lake, price(DAYS[0], 100.0, more=',"vwap":99.5'), price(DAYS[1], 160.0, more=',"vwap":150.5'), price(DAYS[2], 100.0, 0)
    )  # fmt: skip
    lake.contracts["price_eod"] = contract(("high < 150", "high < 1500"))
    refined(lake, refining.refine, manifest)
    found = released(lake)
    told = {
        one["key"]["date"]: {r["name"]: (r["severity"], r["passed"]) for r in one["rules"]}
        for one in why(lake, found)["observations"]
    }
    some = ("price_usual", "vwap_bounded", "volume_traded", "high_bounded")
    assert {day: [rules[name] for name in some] for day, rules in told.items()} == {
        "2024-01-02": [("warning", True), ("warning", True), ("warning", True), ("error", True)],
        "2024-01-03": [("warning", False), ("warning", True), ("warning", True), ("error", True)],
        "2024-01-04": [("warning", True), ("warning", None), ("warning", False), ("error", True)],
    }
    shown = {re.search(r"2024-01-\d\d", one)[0]: one.partition(" Rules ")[2] for one in articles(page(lake, found))}
    assert "✓ passed price_usual" in shown["2024-01-02"]
    assert "✗ broken (warning) price_usual" in shown["2024-01-03"]
    assert "✓ passed vwap_bounded" in shown["2024-01-03"]
    assert "not decided vwap_bounded" in shown["2024-01-04"]
    assert "✗ broken (warning) volume_traded" in shown["2024-01-04"]
    assert "passed price_usual" not in shown["2024-01-03"]


def test_each_record_is_shown_with_the_evidence_and_contract_that_let_it_in(lake: Lake) -> None:
    """Three rows of one file, let in by a refine and two replays with ever milder rules."""
    manifest = landed(lake, price(DAYS[0], 100.0), price(DAYS[1], 200.0), price(DAYS[2], 300.0))
    first = refined(lake, refining.refine, manifest)
    lake.contracts["price_eod"] = milder = contract(("high < 150", "high < 250"))
    second = refined(lake, refining.replay, manifest)
    lake.contracts["price_eod"] = mildest = contract(("high < 150", "high < 350"))
    third = refined(lake, refining.replay, manifest)
    found = released(lake)
    wanted = {
        "2024-01-02": (first, contract().sha256),
        "2024-01-03": (second, milder.sha256),
        "2024-01-04": (third, mildest.sha256),
    }
    assert {
        one["key"]["date"]: (one["evidence"], one["contract_sha256"]) for one in why(lake, found)["observations"]
    } == wanted
    shown = articles(page(lake, found))
    assert len(shown) == 3
    for day, (evidence, sha256) in wanted.items():
        (one,) = [text for text in shown if evidence in text]
        assert sha256 in one
        assert set(re.findall(r"2024-01-0\d(?= )", one)) == {day}


def test_nan_is_equal_to_itself(lake: Lake) -> None:
    refined(lake, refining.refine, landed(lake, price(DAYS[0], 100.0, volume=7), price(DAYS[1], 100.0, volume=8)))
    found = released(lake)
    told = why(lake, found, column="score")
    assert (told["value"], told["recomputed"]) == ("nan", {"value": "nan", "equal": True})
    assert why(lake, found, column=None)["recomputed"]["equal"] is True
    assert "equal Computed again" in re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", page(lake, found, column="score")))


def test_a_moment_is_written_as_the_api_writes_it(lake: Lake) -> None:
    refined(lake, refining.refine, landed(lake, price(DAYS[0], 100.0)))
    found = released(lake)
    with serving_lake.serving(lake) as url, serving_lake.client(url) as http:
        told = http.get("/v1/gold/fct_price").json()["data"][0]["priced_at"]
    assert told == "2024-01-02T21:00:00.250000Z"
    assert why(lake, found)["row"]["priced_at"] == told
