"""A key reads the datasets that it was granted and gold made of these alone: through every route there is, whatever is asked."""

import json
import re
from collections.abc import Iterator
from datetime import date
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest
from msgspec import structs
from starlette.routing import Route

from assay import clock
from assay.errors import UsageError
from assay.lake import keys
from assay.lake.account import failing
from assay.lake.release import Input, Model, Release
from assay.ports import Fact, Limits
from assay.run.explain import explain
from assay.serve import sql
from assay.serve.granted import narrowed, sources
from assay.serve.rest import app
from assay.windows import Window
from tests.rooms import serving_lake
from tests.rooms.serving_lake import Lake, Table, around, price

PRICES, SPLITS = Input("silver.price_eod", "symbol = row.symbol"), Input("silver.splits", "symbol = row.symbol")
BOTH = "SELECT p.symbol, p.date, p.close, s.numerator FROM silver.price_eod p JOIN silver.splits s USING (symbol)"
TABLES = (
    Table("fct_price", "SELECT symbol, date, close FROM silver.price_eod", ("symbol", "date"), inputs=(PRICES,)),
    Table("dim_split", "SELECT symbol, date, numerator FROM silver.splits", ("symbol", "date"), inputs=(SPLITS,)),
    Table("mart_both", BOTH, ("symbol", "date"), inputs=(PRICES, SPLITS)),
    # Its yml names one of its two inputs: what its SQL reads counts as well.
    Table("mart_untold", BOTH, ("symbol", "date"), inputs=(PRICES,)),
    # It says nothing of prices in its SQL's own words; its yml does.
    Table(
        "mart_told", "SELECT symbol, date, numerator FROM silver.splits", ("symbol", "date"), inputs=(PRICES, SPLITS)
    ),
)
READS = {
    "price_eod": {"gold": {"fct_price"}, "silver": {"price_eod", "price_eod_versions"}},
    "splits": {"gold": {"dim_split"}, "silver": {"splits", "splits_versions"}},
}
# What is found nowhere but in one of the two: values, names of shards, a rejected row, what a step failed with.
# Each is too long to stand by chance in a hash, a cursor or a time, which an answer has too.
CANARIES = {
    "price_eod": (
        "771.2345", "772.2345", "773.2345", "ONLYPRICES", "HELDPRICES", "123456790123", "price went wrong", "silver.price_eod", "/silver/price_eod", ">price_eod<",
        '"price_eod"', "fct_price",
    ),
    "splits": (
        "883746520137", "883846520138", "883946520139", "ONLYSPLITS", "HELDSPLITS", "split went wrong", "silver.splits", "/silver/splits", ">splits<", '"splits"', "dim_split",
    ),
}  # fmt: skip
EITHER = ("mart_both", "mart_untold", "mart_told", "gold went wrong")


def split(symbol: str, day: str, numerator: int) -> bytes:
    return json.dumps(
        {"symbol": symbol, "date": day, "numerator": numerator, "denominator": 1, "splitType": "stock-split"}
    ).encode()


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """Two datasets that share the symbol JQX; each has a row that changed, one that was rejected, and a step that failed."""
    made = serving_lake.empty(tmp_path_factory.mktemp("grants"))
    window = Window(date(2024, 1, 1), date(2024, 2, 1))
    day, next_day = date(2024, 1, 3), date(2024, 1, 4)
    for close in (771.2345, 772.2345):
        made.land(
            "price_eod",
            "ONLYPRICES",
            [price("ONLYPRICES", day, close, 123456790123), price("ONLYPRICES", next_day, 773.2345, 123456790123)],
            window,
        )
    made.land("price_eod", "JQX", [price("JQX", day, 771.2345, 123456790123)], window)
    made.land(
        "price_eod",
        "HELDPRICES",
        [price("HELDPRICES", day, 773.2345, 123456790123), price("HELDPRICES", next_day, -1, 123456790123)],
        window,
    )
    for numerator in (883746520137, 883846520138):
        made.land("splits", "ONLYSPLITS", [split("ONLYSPLITS", "2024-01-03", numerator)], window)
    made.land("splits", "JQX", [split("JQX", "2024-01-03", 883946520139)], window)
    made.land(
        "splits",
        "HELDSPLITS",
        [split("HELDSPLITS", "2024-01-03", 883946520139), split("HELDSPLITS", "2024-01-04", -1)],
        window,
    )
    made.land("price_eod", "JQX", [price("JQX", day, -1, 123456790123)], window)
    made.land("splits", "JQX", [split("JQX", "2024-01-03", -1)], window)
    made.refine("price_eod")
    made.refine("splits")
    for dataset, what in (("price_eod", "price"), ("splits", "split"), ("", "gold")):
        body = {"state": "failed", "error": f"{what} went wrong", "attempt": 1, "run": "x"}
        made.local.ledger.record([Fact("step", dataset, f"land {what}", clock.now(), body)])
        assert failing(made.local.ledger, dataset)
    made.release(1, TABLES)
    yield made
    made.close()


@pytest.fixture(scope="module")
def shown(lake: Lake) -> dict[str, str]:
    """Keys by the dataset that each reads; the one of "all" reads everything."""
    grants: dict[str, tuple[str, ...] | None] = {"price_eod": ("price_eod",), "splits": ("splits",), "all": None}
    return {name: keys.create(lake.local.files, name, who="a test", datasets=of)[1] for name, of in grants.items()}


@pytest.fixture(scope="module")
def url(lake: Lake, shown: dict[str, str]) -> Iterator[str]:
    def why(found: Release, table: str, key: dict[str, str], column: str | None) -> dict[str, Any]:
        return explain(around(lake), found, table, key, column)

    with serving_lake.serving(lake, why, keyed=True) as address:
        yield address


def routes(lake: Lake) -> list[str]:
    """The paths of the application's own route table."""
    t = lake.local
    made = app(t.files, t.ledger, lake.contracts, explain=None, title="", limits=t.limits, key=b"k" * 32, keyed=True)
    assert all(isinstance(one, Route) for one in made.router.routes)
    return [one.path for one in made.router.routes]  # type: ignore[attr-defined]


def questions(lake: Lake) -> list[str]:
    """Every route for every table there is, in each way that a table can be asked."""
    found = lake.reader()
    out = []
    for path in routes(lake):
        if "{name}" not in path:
            out.append(path)
            continue
        assert path.count("{") == 1, path
        for (zone, name), table in found.tables.items():
            at = path.replace("{name}", f"silver.{name}" if "/explain/" in path and zone == "silver" else name)
            if "/explain/" not in path:
                tail = "symbol=JQX" if "symbol" in table.columns else ""
                out += [at, f"{at}?{tail}"]
                if path.startswith("/v1/"):
                    out += [
                        f"{at}?{more}"
                        for more in ("format=csv", "as_of=2026-01-01", "recorded_as_of=2100-01-01", "nope=1")
                    ]
                continue
            for symbol in ("JQX", "ONLYPRICES", "ONLYSPLITS"):
                key = {"symbol": symbol, "date": "2024-01-03", "ordinal": "1"}
                out.append(f"{at}?{urlencode({k: key[k] for k in table.key if k in key})}")
    assert len(out) > 100
    return out


def with_key(url: str, key: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=120)


def said(path: str, answer: httpx.Response) -> str:
    """All of an answer; of a refusal, without what the question said itself."""
    text = f"{dict(answer.headers)} {answer.text}"
    asked = urlsplit(path)
    symbol = [value for name, value in parse_qsl(asked.query) if name == "symbol"]
    for part in (asked.path, *re.split(r"[/.]", asked.path), *symbol) if answer.status_code != 200 else ():
        text = text.replace(part, "") if part else text
    return text


@pytest.mark.parametrize(("granted", "hidden"), [("price_eod", "splits"), ("splits", "price_eod")])
def test_no_route_shows_anything_of_what_was_not_granted(
    lake: Lake, url: str, shown: dict[str, str], granted: str, hidden: str
) -> None:
    seen = ""
    with with_key(url, shown[granted]) as http:
        for path in questions(lake):
            answer = http.get(path)
            assert answer.status_code in (200, 400, 403, 404), (path, answer.text)
            text = said(path, answer)
            for canary in (*CANARIES[hidden], *EITHER):
                assert canary not in text, (path, canary, text)
            seen += text if answer.status_code == 200 else ""
        for canary in CANARIES[granted]:
            assert canary in seen, canary
        for zone, names in READS[granted].items():
            assert {one["name"] for one in http.get(f"/v1/{zone}").json()["data"]} == names
            for name in names:
                assert http.get(f"/v1/{zone}/{name}").json()["data"]
        for zone, names in READS[hidden].items():
            for name in names | ({"mart_both", "mart_untold", "mart_told"} if zone == "gold" else set()):
                for path in (f"/v1/{zone}/{name}", f"/{zone}/{name}"):
                    answer = http.get(path)
                    assert (answer.status_code, "key does not read" in answer.text) == (403, True), path
        assert http.get("/v1/gold/nope").status_code == 404
        assert http.get("/dbt").status_code == 403
        for name in (f"silver.{granted}", *READS[granted]["gold"]):
            key = "symbol=JQX&date=2024-01-03" + ("&ordinal=1" if name == "silver.splits" else "")
            assert http.get(f"/v1/explain/{name}?{key}").json()["recomputed"]["equal"]
            assert http.get(f"/explain/{name}?{key}").status_code == 200


@pytest.mark.slow
def test_a_key_without_datasets_reads_everything(lake: Lake, url: str, shown: dict[str, str]) -> None:
    seen = ""
    with with_key(url, shown["all"]) as http:
        for path in questions(lake):
            answer = http.get(path)
            assert answer.status_code in (200, 400, 404), (path, answer.text)
            seen += answer.text
        assert http.get("/dbt").status_code == 200
    for canary in (*CANARIES["price_eod"], *CANARIES["splits"], *EITHER):
        assert canary in seen, canary


def test_without_a_key_every_route_is_closed(lake: Lake, url: str) -> None:
    with httpx.Client(base_url=url, timeout=120) as http:
        for path in [*questions(lake), "/nowhere", "/v1/nope", "/v1/gold/", "//", "/v1/health/"]:
            for method in ("GET", "HEAD", "POST", "OPTIONS"):
                answer = http.request(method, path)
                if path == "/v1/health" and method in ("GET", "HEAD"):
                    assert answer.status_code == 200
                    assert method == "HEAD" or answer.json() == {"status": "ok", "release": None}
                    continue
                if path == "/v1/health":
                    assert answer.status_code == 405
                    continue
                assert answer.status_code == 401, path
                assert answer.headers["www-authenticate"] == 'Basic realm="assay"'
                text = f"{answer.headers} {answer.text}"
                assert not [
                    one for one in (*CANARIES["price_eod"], *CANARIES["splits"], *EITHER, "Test lake") if one in text
                ]


def test_a_cursor_and_a_kept_answer_are_of_one_grant(url: str, shown: dict[str, str]) -> None:
    """Who reads a page may be told more of it than another: no answer, cursor or 304 goes from one to the other."""
    with with_key(url, shown["all"]) as all_, with_key(url, shown["price_eod"]) as some:
        path = "/v1/gold/fct_price?limit=1"
        first, its = all_.get(path), some.get(path)
        assert first.headers["etag"] != its.headers["etag"]
        assert some.get(path, headers={"if-none-match": first.headers["etag"]}).status_code == 200
        assert some.get(path, headers={"if-none-match": its.headers["etag"]}).status_code == 304
        assert some.get(f"{path}&cursor={first.json()['next']}").status_code == 410
        assert some.get(f"{path}&cursor={its.json()['next']}").status_code == 200
        hidden = all_.get("/v1/silver/splits")
        for etag in (hidden.headers["etag"], "*"):
            assert some.get("/v1/silver/splits", headers={"if-none-match": etag}).status_code == 403


def test_the_reader_of_a_grant_makes_no_other_relation(lake: Lake) -> None:
    reader = lake.reader().granted(frozenset({"splits"}))
    assert set(reader.names) == {"gold.dim_split", "silver.splits", "silver.splits_versions"}
    with pytest.raises(UsageError, match=r"there are gold\.dim_split"):
        reader.relation("silver", "price_eod")
    with reader.connect(locked=True) as con:
        there = {
            f"{zone}.{name}"
            for zone, name in con.execute("SELECT table_schema, table_name FROM information_schema.tables").fetchall()
        }
        assert {one for one in there if one.startswith(("gold.", "silver."))} == set(reader.names)
    for text in ("SELECT * FROM silver.price_eod", "SELECT * FROM fct_price", "SELECT * FROM gold.mart_both"):
        with pytest.raises(UsageError):
            list(sql.answer(lake.local.files, reader.release, Limits(), text, 10))
    columns, *_ = sql.answer(lake.local.files, reader.release, Limits(), "SELECT * FROM dim_split", 10)
    assert columns == ("symbol", "date", "numerator")


@pytest.mark.parametrize(
    ("text", "of"),
    [
        ("select * from silver.splits", {"splits"}),
        ("select * from SILVER.Splits_Versions", {"splits"}),
        ("with a as (select * from silver.splits) select * from a, silver.price_eod", {"splits", "price_eod"}),
        ("select (select max(close) from silver.price_eod) from stg.step", {"splits", "price_eod"}),
        ("select * from stg.step", {"splits"}),
        ("select * from seeds.days", set()),
        ("select * from range(3), generate_series(1, 2), unnest([1])", set()),
        ("select 1", set()),
        ("select * from gold.it", set()),
        ("select * from stg.one", None),  # which reads stg.other, which reads it
        ("select * from read_csv('prices.csv')", None),
        ("select * from 'prices.parquet'", None),
        ("select * from query_table('silver.price_eod')", None),
        ("select * from query('select * from silver.price_eod')", None),
        ("select * from price_eod", None),
        ("select * from silver.nope", None),
        ("select * from main.prices", None),
        ("pivot silver.price_eod on symbol", None),
        ("select from where", None),
    ],
)
def test_what_a_table_is_computed_from(lake: Lake, text: str, of: set[str] | None) -> None:
    steps = (
        Model("stg.step", "model", "select * from silver.splits"), Model("seeds.days", "seed", ""),
        Model("stg.one", "model", "select * from stg.other"), Model("stg.other", "model", "select * from stg.one"),
        Model("gold.it", "model", text),
    )  # fmt: skip
    found = lake.reader().release
    gold = structs.replace(found.gold[0], name="it", inputs=())
    its = sources(structs.replace(found, models=steps, gold=(gold,)))["gold.it"]
    assert its == (None if of is None else frozenset(of))


def test_a_table_without_its_steps_is_nobodys_but_who_reads_all(lake: Lake) -> None:
    found = lake.reader().release
    bare = structs.replace(found, models=())
    assert sources(bare)["gold.fct_price"] is None
    every = frozenset({"price_eod", "splits"})
    assert narrowed(bare, every, sources(bare)).gold == ()
    assert (narrowed(bare, every, sources(bare)).docs, bool(bare.docs)) == ("", True)
    assert narrowed(bare, None, sources(bare)) == bare
    assert len(narrowed(found, every, sources(found)).gold) == len(TABLES)
