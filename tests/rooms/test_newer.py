"""Rows that are not the newest word are marked through every door: REST, console, the list of rejected rows."""

import random
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from assay.errors import LakeDamaged
from assay.lake import bronze
from assay.run import marked, prove
from assay.run.explain import explain, render
from tests.making import Landed
from tests.rooms import serving_lake
from tests.rooms.serving_lake import Lake, around
from tests.rooms.test_explain import DAYS, WINDOW, contract, price

SILVER = "/v1/silver/price_eod"


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    made = serving_lake.empty(tmp_path)
    made.contracts["price_eod"] = contract()
    yield made
    made.close()


def landed(lake: Lake, *records: bytes) -> Landed:
    return lake.land("price_eod", "AAA", list(records), WINDOW)


def why(lake: Lake) -> Any:
    return lambda *asked: explain(around(lake), *asked)


def mark(batch: Landed, day: date, *reasons: str, held: bool = False) -> dict[str, Any]:
    return {
        "key": {"symbol": "AAA", "date": str(day)}, "batch": batch.spoken, "held": held,
        "captured_at": render(batch.entry.captured_at), "reasons": list(reasons),
    }  # fmt: skip


def test_a_page_says_which_of_its_rows_have_a_newer_record_that_was_rejected(lake: Lake) -> None:
    landed(lake, price(DAYS[0], 100.0), price(DAYS[1], 101.0), price(DAYS[2], 102.0))
    lake.refine()
    before = landed(lake, price(DAYS[0], 100.5), price(DAYS[3], 103.0)).entry.captured_at
    bad = landed(lake, price(DAYS[0], 300.0), price(DAYS[2], 300.0), price(DAYS[1], 101.0))
    landed(lake, price(DAYS[2], 102.0), price(DAYS[3], 103.0))  # the same again: its row is the newest word
    lake.refine()
    lake.release(1)
    told = mark(bad, DAYS[0], "high_bounded")
    with serving_lake.serving(lake) as url, serving_lake.client(url) as http:

        def newer(path: str = SILVER, **query: Any) -> Any:
            answer = http.get(path, params=query)
            assert answer.status_code == 200
            found = answer.json()["newer"]
            assert answer.headers["x-assay-newer"] == str(sum(one.get("rows", 1) for one in found))
            return found

        assert newer() == [told]
        assert newer(select="close", date=str(DAYS[0])) == [told]
        assert newer(date=str(DAYS[1])) == newer(**{"date.gt": str(DAYS[0])}) == []
        assert http.get(SILVER, params={"format": "csv"}).headers["x-assay-newer"] == "1"
        versions = f"{SILVER}_versions"
        assert newer(versions) == [told]
        assert len(http.get(versions, params={"date": str(DAYS[0])}).json()["data"]) == 2
        assert newer(versions, date=str(DAYS[0]), close="100") == []
        assert newer(recorded_as_of=render(before)) == newer(recorded_as_of="2200-01-01", select="close") == [told]
        early = render(bronze.read(lake.local.files, "price_eod", 2).captured_at)
        assert len(http.get(SILVER, params={"recorded_as_of": early}).json()["data"]) == 3
        assert newer(recorded_as_of=early) == []
        assert newer("/v1/gold/fct_price") == [{"table": "silver.price_eod", "rows": 1}]
        assert newer("/v1/silver/splits") == []


@pytest.mark.slow
def test_a_held_batch_marks_rows_until_its_days_are_landed_again(lake: Lake) -> None:
    landed(lake, price(DAYS[0], 100.0), price(DAYS[1], 100.0))
    held = landed(lake, price(DAYS[0], 300.0), price(DAYS[2], 300.0))
    lake.refine()
    [told] = marked.rows(around(lake), lake.release(1), "price_eod")
    assert (told["batch"], told["held"], told["key"]["date"]) == (held.spoken, True, str(DAYS[0]))
    landed(lake, price(DAYS[3], 100.0))
    lake.refine()
    assert marked.rows(around(lake), lake.release(2), "price_eod") == []


@pytest.mark.slow
def test_the_marks_of_a_table_are_those_of_its_explanations(lake: Lake) -> None:
    """The one is found by looking at all that was rejected, the other by asking for a row."""
    draw = random.Random(5)
    seen = set()
    for number in range(1, 5):
        for _ in range(3):
            records = [
                price(day, draw.choice((100.0, 100.0, 101.0, 300.0, 300.0)))
                for day in draw.sample(DAYS, draw.choice((1, 2, 3)))
            ]
            landed(lake, *records)
        lake.refine()
        found = lake.release(number)
        marks = {one["key"]["date"]: one for one in marked.rows(around(lake), found, "price_eod")}
        for (day,) in lake.sql("SELECT CAST(date AS VARCHAR) FROM silver.price_eod"):
            [record] = why(lake)(found, "silver.price_eod", {"symbol": "AAA", "date": day}, None)["records"]
            mine = {name: marks[day][name] for name in record["newer"] or {}} if day in marks else None
            assert mine == record["newer"], (number, day)
            seen.add(mine and mine["held"])
    assert {None, False} <= seen


def test_marks_are_asked_once_a_state_of_the_dataset_and_never_where_nothing_was_rejected(lake: Lake) -> None:
    landed(lake, price(DAYS[0], 100.0))
    lake.refine()
    lake.release(1)
    asked: list[int] = []

    def rows(found: Any, dataset: str) -> Any:
        asked.append(found.number)
        return marked.rows(around(lake), found, dataset)

    with serving_lake.serving(lake, newer=rows, every=0) as url, serving_lake.client(url) as http:
        assert http.get(SILVER).json()["newer"] == http.get("/v1/gold/fct_price").json()["newer"] == []
        assert asked == []
        landed(lake, price(DAYS[0], 300.0), price(DAYS[1], 100.0))
        lake.refine()
        lake.release(2)
        for path in (SILVER, "/v1/gold/fct_price", f"{SILVER}_versions", "/silver/price_eod"):
            assert http.get(path).status_code == 200
        lake.release(3)
        answer = http.get(SILVER)
        assert (answer.json()["release"], len(answer.json()["newer"])) == (3, 1)
        assert asked == [2]


@pytest.mark.slow
def test_rows_are_served_where_their_marks_cannot_be_told(lake: Lake) -> None:
    landed(lake, price(DAYS[0], 100.0), price(DAYS[1], 300.0))
    lake.refine()
    lake.release(1)

    def fails(*_: Any) -> Any:
        raise LakeDamaged("quarantine is lost")

    with serving_lake.serving(lake) as url, serving_lake.client(url) as http:
        known = http.get(SILVER).headers["etag"]
    with serving_lake.serving(lake, newer=fails) as url, serving_lake.client(url) as http:
        for path in (SILVER, "/v1/gold/fct_price"):
            answer = http.get(path)
            assert (answer.status_code, answer.json()["newer"], answer.headers["x-assay-newer"]) == (
                200,
                None,
                "unknown",
            )
            assert len(answer.json()["data"]) == 1
        assert http.get(SILVER, headers={"if-none-match": known}).status_code == 200
        assert "were rejected could not be told" in re.sub(r"\s+", " ", http.get("/silver/price_eod").text)


def test_a_marked_row_of_the_console_leads_to_the_record_that_was_rejected(lake: Lake) -> None:
    landed(lake, price(DAYS[0], 100.0), price(DAYS[1], 101.0))
    bad = landed(lake, price(DAYS[0], 300.0), price(DAYS[2], 100.0))
    lake.refine()
    lake.release(1)
    with serving_lake.serving(lake, why(lake)) as url, serving_lake.client(url) as http:
        for path in ("/silver/price_eod", "/silver/price_eod_versions"):
            text = http.get(path).text
            [link] = re.findall(r'<td class="mark"><a href="([^"]*)">not the newest</a></td>', text)
            assert text.count('<td class="mark">') == 3
            page = http.get(link.replace("&amp;", "&"))
            assert page.status_code == 200
            words = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page.text))
            assert f"lies in quarantine: {bad.spoken} , high_bounded, captured" in words
            assert "Its record, refined again just now, gives this row" in words
        gold = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", http.get("/gold/fct_price").text))
        assert "1 row of silver.price_eod, which this table reads, has a later record in quarantine" in gold
        assert 'class="mark"' not in http.get("/silver/splits").text
        column = http.get(f"/explain/silver.price_eod?symbol=AAA&date={DAYS[1]}&column=close")
        assert "<output>101" in column.text


def test_a_rejected_row_that_a_later_batch_repeated_is_mended_by_that(lake: Lake) -> None:
    good = landed(lake, price(DAYS[0], 100.0), price(DAYS[1], 101.0))
    landed(lake, price(DAYS[0], 300.0), price(DAYS[2], 100.0))
    landed(lake, price(DAYS[1], 300.0), price(DAYS[2], 100.0))
    # one day is said again, and well, the other is bad again
    again = landed(lake, price(DAYS[0], 100.0), price(DAYS[1], 300.0), price(DAYS[3], 100.0))
    lake.refine()
    told = marked.listed(around(lake), "price_eod", list(prove.rejected(around(lake), "price_eod")))
    assert [one["current"] for one in told] == [
        {"batch": again.spoken, "newer": True},
        {"batch": good.spoken, "newer": False},
        {"batch": good.spoken, "newer": False},
    ]
