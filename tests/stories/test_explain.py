"""Every served number is led back: recomputed from its inputs alone, and its record token for token to the wire."""

import random
import time
from decimal import Decimal

import pytest

from assay.errors import UsageError
from assay.run import Lake, marked
from assay.run.explain import render
from tests.stories.proxy import Proxy, tokens

pytestmark = pytest.mark.slow  # the whole demo lake
TABLES = ["fct_daily_price", "mart_momentum_asof", "dim_security"]


@pytest.mark.parametrize("table", TABLES)
def test_every_column_of_seeded_rows_is_recomputed_to_the_same_value(built: tuple[Lake, Proxy], table: str) -> None:
    lake, _ = built
    gold = lake.released().table(table)
    rows = lake.read(f"gold.{table}").to_pylist()
    seen = set()
    for row in random.Random(7).sample(rows, 5):
        key = {k: str(row[k]) for k in gold.key}
        whole = lake.explain(table, key)
        assert whole["recomputed"]["equal"], key
        for column in gold.columns:
            assert whole["row"][column.name] == render(row[column.name])
            seen.add(column.name)
        assert sum(i["rows"] for i in whole["inputs"]) == len(whole["records"]) + whole["not_listed"]
    assert seen == {c.name for c in gold.columns}


def test_records_are_those_that_went_over_the_wire(built: tuple[Lake, Proxy]) -> None:
    lake, proxy = built
    wire = [tokens(body) for body in proxy.answers()]
    found = 0
    rows = lake.read("gold.fct_daily_price").to_pylist()
    for row in random.Random(3).sample(rows, 8):
        key = {"security_id": row["security_id"], "date": str(row["date"])}
        for one in lake.explain("fct_daily_price", key, "close")["records"]:
            record = tokens(one["record"].encode())
            assert any(record in body for body in wire)
            found += 1
    assert found > 8


def test_an_explanation_leads_to_the_request_and_the_rules(built: tuple[Lake, Proxy]) -> None:
    lake, _ = built
    security = next(r["security_id"] for r in lake.read("gold.fct_daily_price").to_pylist() if r["symbol"] == "AAPL")
    found = lake.explain("gold.fct_daily_price", {"security_id": security, "date": "2005-02-28"}, "return_1d")
    assert Decimal(found["value"]) == Decimal("0.008203168895")
    price = next(o for o in found["records"] if o["dataset"] == "price_eod")
    assert price["request"]["params"] == {"symbol": "AAPL", "from": "2000-03-01", "to": "2009-12-31"}
    assert price["request"]["status"] == 200
    assert "apikey" not in str(found)
    assert {r["name"] for r in price["rules"]} >= {"price_positive", "high_is_highest"}
    assert price["backfilled"] is True
    assert {one["record_refines_to_row"] for one in found["records"]} == {True}
    assert price["origin"] == "sandbox"
    split = next(o for o in found["records"] if o["dataset"] == "splits")
    assert split["values"]["numerator"] == "2.000000"


def test_a_price_before_the_renaming_belongs_to_the_company_of_today(built: tuple[Lake, Proxy]) -> None:
    lake, _ = built
    rows = lake.sql(
        "select distinct d.company_name, f.symbol from gold.fct_daily_price f join gold.dim_security d "
        "on f.security_id = d.security_id and f.date >= d.valid_from and (d.valid_to is null or f.date < d.valid_to) "
        "where f.symbol = 'FB'",
    ).rows
    assert len(rows) == 1
    assert rows[0][0].startswith("Meta Platforms")


@pytest.mark.parametrize(
    ("table", "key", "column", "says"),
    [
        ("nothing", {}, None, "this release has"),
        ("fct_daily_price", {"security_id": "x"}, None, "has the key security_id, date; date is missing"),
        ("fct_daily_price", {"security_id": "x", "date": "2005-02-28"}, None, "has no row"),
        (
            "fct_daily_price",
            {"security_id": "x", "date": "no day"},
            None,
            "date: the value is not a date; write 2024-01-05",
        ),
        ("fct_daily_price", {"security_id": "x", "date": "2005-02-28", "symbol": "A"}, None, "not part of it"),
        ("fct_daily_price", {"security_id": "x", "date": "2005-02-28"}, "nope", "has no column 'nope'"),
    ],
)
def test_wrong_questions_get_a_sentence(
    built: tuple[Lake, Proxy], table: str, key: dict[str, str], column: str | None, says: str
) -> None:
    lake, _ = built
    with pytest.raises(UsageError, match=says):
        lake.explain(table, key, column)


def test_an_explanation_ends_at_its_deadline(built: tuple[Lake, Proxy]) -> None:
    lake, _ = built
    ((security,),) = lake.sql("select security_id from gold.fct_daily_price where date = '2005-02-28' limit 1").rows
    key = {"security_id": security, "date": "2005-02-28"}
    begun = time.monotonic()
    with pytest.raises(UsageError, match=r"not explained within 0\.01 s"):
        lake.explain("fct_daily_price", key, timeout=0.01)
    assert time.monotonic() - begun < 1.01
    assert lake.explain("fct_daily_price", key)["recomputed"]["equal"]


def test_which_rows_are_not_the_newest_is_said_from_a_process_of_its_own(built: tuple[Lake, Proxy]) -> None:
    lake, _ = built
    found = lake.released()
    for one in found.silver:
        assert marked.asked(lake, found, one.dataset) == marked.rows(lake, found, one.dataset)
