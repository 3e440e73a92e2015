"""REST through a real server: same rows as SQL, pages without gaps, and refusals that say who must act."""

import asyncio
import csv
import io
import json
import re
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import date, datetime
from decimal import Decimal
from urllib.parse import quote, urlencode, urlsplit

import httpx
import pytest
from fastapi.openapi.models import OpenAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay import fence
from assay.errors import UsageError
from assay.lake.release import Column, Release
from assay.serve.newest import Newest
from assay.serve.query import PARAMETERS, Problem, value
from assay.targets.local import LocalSecrets
from tests.rooms import serving_lake

FCT = "/v1/gold/fct_price"
# what an engine would say, and what cells would show
ENGINE = ("Error:", "LINE 1", "Binder", "Conversion", "Catalog", "duckdb", "SELECT", "CAST(", "quoted", "/data/")


def explain(_: Release, table: str, key: dict[str, str], column: str | None) -> dict:
    if key["symbol"] != "AAA":
        raise UsageError(f"{table} has no row {key}")
    return {"table": table, "key": key, "column": column, "value": "1"}


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    made = serving_lake.build(tmp_path_factory.mktemp("api"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def http(lake):
    with serving_lake.serving(lake, explain) as url, serving_lake.client(url) as client:
        yield client


def data(http, path, **query):
    answer = http.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def exact(text):
    """JSON with numbers kept as their tokens."""
    return json.loads(text, parse_float=str, parse_int=str)


# ------------------------------------------------------------------ rows


def test_a_row_is_what_the_serving_file_holds_digit_for_digit(http, lake):
    got = exact(http.get(FCT, params={"symbol": "AAA", "limit": 10_000}).text)["data"]
    sql = """SELECT symbol, date::VARCHAR, open::VARCHAR, close::VARCHAR, volume::VARCHAR, return_1d::VARCHAR,
      CASE WHEN isfinite(score) THEN score END, even, strftime(priced_at, '%Y-%m-%dT%H:%M:%S.%fZ'), note
      FROM gold.fct_price WHERE symbol = 'AAA' ORDER BY symbol, date"""
    rows = lake.sql(sql)
    assert len(rows) == serving_lake.SESSIONS
    for found, row in zip(got, rows, strict=True):
        shown = list(found.values())
        assert (float(shown[6]) if shown[6] else None) == row[6]
        assert [*shown[:6], *shown[7:]] == [*row[:6], *row[7:]]
    assert any(one["score"] is None for one in got)
    assert any("E" not in one["return_1d"] and len(one["return_1d"].split(".")[1]) == 12 for one in got)


def test_the_envelope_says_release_and_origin(http):
    body = http.get(FCT, params={"limit": 1}).json()
    assert body["release"] == 1
    assert body["origin"] == ["sandbox"]
    assert body["next"]
    answer = http.get(FCT, params={"limit": 1}, headers={"accept": "text/csv"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["x-assay-release"] == "1"
    assert answer.headers["x-assay-origin"] == "sandbox"


def test_csv_holds_the_same_cells_as_json(http):
    for path in (FCT, "/v1/gold/mart_known", "/v1/silver/price_eod"):
        rows = exact(http.get(path, params={"limit": 200}).text)["data"]
        lines = list(csv.reader(io.StringIO(http.get(path, params={"limit": 200, "format": "csv"}).text)))
        assert lines[0] == list(rows[0])
        shown = [
            [
                "" if c is None else {True: "true", False: "false"}.get(c, c) if isinstance(c, bool) else c
                for c in r.values()
            ]
            for r in rows
        ]
        assert lines[1:] == shown


def test_select_chooses_columns_in_the_order_asked(http):
    assert [list(one) for one in data(http, FCT, select="close,symbol", limit=3)] == [["close", "symbol"]] * 3
    assert http.get(FCT, params={"select": "close", "limit": 2, "format": "csv"}).text.splitlines()[0] == "close"


OPERATORS = {"": "=", ".eq": "=", ".ne": "<>", ".gt": ">", ".gte": ">=", ".lt": "<", ".lte": "<="}
VALUES = {
    "symbol": st.sampled_from(["AAA", "BRK.B", "CCC", "ZZZ", "b'\"; drop", "", "ü"]),
    "date": st.dates(date(2023, 12, 20), date(2024, 7, 1)),
    "close": st.decimals(90, 140, places=4),
    "return_1d": st.decimals(-1, 1, places=12),
    "volume": st.integers(900, 1600),
    "score": st.floats(20, 60),
    "even": st.booleans(),
    "priced_at": st.dates(date(2023, 12, 20), date(2024, 7, 1))
    .flatmap(lambda d: st.times().map(lambda t: datetime.combine(d, t)))
    .map(lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000)),
}
FILTERS = st.sampled_from(sorted(VALUES)).flatmap(
    lambda name: st.tuples(st.just(name), st.sampled_from(sorted(OPERATORS)), VALUES[name])
)


@pytest.mark.slow
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(FILTERS, max_size=3, unique_by=lambda one: one[:2]))
def test_a_filter_means_what_the_same_filter_means_in_sql(http, lake, filters):
    def text(value):
        return (
            str(value).lower()
            if isinstance(value, bool)
            else value.isoformat()
            if isinstance(value, (date, datetime))
            else str(value)
        )

    query = urlencode([*((f"{name}{operator}", text(value)) for name, operator, value in filters), ("limit", 10_000)])
    got = http.get(f"{FCT}?{query}")
    assert got.status_code == 200, got.text
    where = " AND ".join(f'"{name}" {OPERATORS[operator]} ?' for name, operator, _ in filters) or "true"
    wanted = lake.sql(
        f"SELECT symbol, date::VARCHAR FROM gold.fct_price WHERE {where} ORDER BY ALL",
        *[value for _, _, value in filters],
    )
    assert [(one["symbol"], one["date"]) for one in got.json()["data"]] == wanted


# ------------------------------------------------------------------ pages


@pytest.mark.parametrize(
    ("path", "limit"), [(FCT, 7), (FCT, 360), (FCT, 359), ("/v1/gold/mart_known", 11), ("/v1/silver/price_eod", 50)]
)
def test_paging_sees_each_row_once_and_in_order(http, path, limit):
    whole = data(http, path, limit=10_000)
    seen, url = [], f"{path}?limit={limit}"
    while url:
        answer = http.get(url)
        body = answer.json()
        seen += body["data"]
        assert len(body["data"]) <= limit
        url = answer.links["next"]["url"] if "next" in answer.links else None
        assert bool(url) == bool(body["next"])
    assert seen == whole


def test_paging_keeps_filters_and_leaves_the_keys_of_the_cursor_out_of_the_data(http):
    seen, cursor = [], {}
    while True:
        body = http.get(
            FCT, params={"select": "close", "symbol.ne": "AAA", "volume.lt": 1300, "limit": 9, **cursor}
        ).json()
        seen += body["data"]
        if not body["next"]:
            break
        cursor = {"cursor": body["next"]}
    assert seen == data(http, FCT, **{"select": "close", "symbol.ne": "AAA", "volume.lt": 1300, "limit": 10_000})


def test_a_cursor_of_another_query_or_from_elsewhere_is_refused(http):
    cursor = data_next(http, FCT, limit=5)
    for query in ({"limit": 6}, {"limit": 5, "symbol": "AAA"}, {"limit": 5, "select": "close"}):
        answer = http.get(FCT, params={**query, "cursor": cursor})
        assert answer.status_code == 404
        assert "another query" in answer.json()["detail"]
    flipped = cursor[:5] + ("A" if cursor[5] != "A" else "B") + cursor[6:]
    shifted = cursor[:-4] + ("AAAA" if not cursor.endswith("AAAA") else "BBBB")
    for forged in (flipped, shifted, cursor[:-1], cursor + "A", "x", "a" * 500, "", "é", "!!!!", "e30"):
        answer = http.get(FCT, params={"limit": 5, "cursor": forged})
        assert answer.status_code == (404 if forged else 400), forged
    assert http.get("/v1/gold/mart_known", params={"limit": 5, "cursor": cursor}).status_code == 404


def data_next(http, path, **query):
    return http.get(path, params=query).json()["next"]


def test_a_new_release_ends_paging_with_410_and_old_etags_no_longer_match(tmp_path):
    lake = serving_lake.build(tmp_path)
    with serving_lake.serving(lake, every=0) as url, serving_lake.client(url) as http:
        first = http.get(FCT, params={"limit": 5})
        cursor, etag = first.json()["next"], first.headers["etag"]
        assert http.get(FCT, params={"limit": 5}, headers={"if-none-match": etag}).status_code == 304
        serving_lake.correct(lake)
        lake.release(2)
        gone = http.get(FCT, params={"limit": 5, "cursor": cursor})
        assert gone.status_code == 410
        assert "restart paging" in gone.json()["detail"]
        again = http.get(FCT, params={"limit": 5}, headers={"if-none-match": etag})
        assert again.status_code == 200
        assert again.json()["release"] == 2
        assert http.get("/v1/releases/current").json()["data"]["number"] == 2
    lake.close()


# ------------------------------------------------------------------ clocks


def test_silver_is_read_as_the_lake_and_the_public_knew_it(tmp_path):
    lake = serving_lake.build(tmp_path)
    before = serving_lake.correct(lake)
    lake.release(2)
    day, close, _ = serving_lake.days(0)[5]
    with serving_lake.serving(lake) as where, serving_lake.client(where) as http:
        asked = {"symbol": "AAA", "date": str(day), "select": "close,known_basis"}
        (now,) = data(http, "/v1/silver/price_eod", **asked)
        (then,) = data(http, "/v1/silver/price_eod", **asked, recorded_as_of=before.isoformat().replace("+00:00", "Z"))
        (known,) = data(http, "/v1/silver/price_eod", **asked, as_of=before.isoformat().replace("+00:00", "Z"))
        assert (now["close"], then["close"], known["close"]) == (close + 7, close, close)
        assert now["known_basis"] == "captured"
        assert data(http, "/v1/silver/price_eod", **asked, as_of=str(day)) == []
        assert data(http, "/v1/silver/price_eod", **asked, recorded_as_of="2020-01-01") == []
        # paging under a moment is paging of that moment
        seen, url = [], "/v1/silver/price_eod?as_of=2024-02-01&limit=7&select=symbol,date"
        while url:
            answer = http.get(url)
            seen += answer.json()["data"]
            url = answer.links.get("next", {}).get("url")
        wanted = [
            r
            for r in data(http, "/v1/silver/price_eod", select="symbol,date", limit=10_000)
            if r["date"] < "2024-02-01"
        ]
        assert seen == wanted
    lake.close()


def test_every_version_is_a_table_and_has_no_moment_of_its_own(tmp_path):
    lake = serving_lake.build(tmp_path)
    before = serving_lake.correct(lake)
    lake.release(2)
    day, close, _ = serving_lake.days(0)[5]
    path = "/v1/silver/price_eod_versions"
    with serving_lake.serving(lake) as where, serving_lake.client(where) as http:
        asked = {"symbol": "AAA", "date": str(day), "select": "close,known_to,recorded_to"}
        first, second = data(http, path, **asked)
        assert (first["close"], second["close"]) == (close, close + 7)
        assert first["recorded_to"]
        assert (second["known_to"], second["recorded_to"]) == (None, None)
        then = data(http, path, **asked, recorded_as_of=before.isoformat().replace("+00:00", "Z"))
        assert [one["close"] for one in then] == [close]
        seen, url = [], f"{path}?limit=50&select=symbol,date,_position"
        while url:
            answer = http.get(url)
            seen += answer.json()["data"]
            url = answer.links.get("next", {}).get("url")
        assert seen == data(http, path, limit=10_000, select="symbol,date,_position")
        assert len(seen) == 3 * serving_lake.SESSIONS + 1
        refused = http.get(path, params={"as_of": "2024-01-10"})
        assert refused.status_code == 400
        said = "silver.price_eod_versions holds every version; read silver.price_eod with as_of"
        assert refused.json()["detail"] == said
        with pytest.raises(UsageError, match=re.escape(said)):
            lake.reader().relation("silver", "price_eod_versions", as_of=before)
        routes = http.get("/openapi.json").json()["paths"]
        names = {one["name"] for one in routes[path]["get"]["parameters"]}
        assert "recorded_as_of" in names
        assert "as_of" not in names
    lake.close()


def test_gold_is_read_as_of_by_its_clocks_or_says_who_can(http):
    rows = data(http, "/v1/gold/mart_known", as_of="2024-01-10T00:00:00Z", limit=1000)
    assert [one["date"] for one in rows] == [str(d) for d, _, _ in serving_lake.days(0) if d < date(2024, 1, 10)]
    assert data(http, "/v1/gold/mart_known", recorded_as_of="2020-01-01") == []
    refused = http.get(FCT, params={"as_of": "2024-01-10"})
    assert refused.status_code == 400
    assert "no clock columns" in refused.json()["detail"]
    assert "gold.mart_known" in refused.json()["detail"]
    refused = http.get(FCT, params={"recorded_as_of": "2024-01-10"})
    assert refused.status_code == 400
    assert "silver.price_eod" in refused.json()["detail"]
    assert "silver.price_eod_versions" not in http.get(FCT, params={"as_of": "2024-01-10"}).json()["detail"]


# ------------------------------------------------------------------ refusals


BAD = [
    "nope=1", "symbol.nope=AAA", "symbol.gt.lt=1", ".gt=1", "close.=1", "=1", "close=abc", "close=1;drop", "close=1e999", "close=NaN",
    "close=1.0000001", "close=1234567890123", "close='1'", "volume=1.5", "volume=99999999999999999999", "volume=١", "volume=1_0",
    "even=yes", "even=TRUE", "date=2024-13-01", "date=20240101", "date=2024-W01-1", "date=yesterday", "date=2024-01-01T00:00:00Z",
    "priced_at=2024-01-01 10:00", "priced_at=now", "score=inf", "score=nan", "score=0x10", "symbol=%00", "symbol=%ff", "symbol=%f0%28",
    "limit=0", "limit=-5", "limit=10001", "limit=1e3", "limit=", "limit=abc", "limit=99999999999999999999", "limit=1&limit=2",
    "select=", "select=*", "select=close,close", "select=nope", "select=close;drop table x", 'select="close"', "select=close,", "select=count(*)",
    "format=xml", "format=", "as_of=x", "recorded_as_of=2024-01-01", "cursor=", "x", "close.gt=", "order=close", "offset=1", "note.like=%25",
    "symbol[]=AAA", "select[]=close", "__proto__=1", "rowid=1", "1=1", "symbol=A%27%20or%201=1--&nope=1", "&".join(f"a{i}=1" for i in range(501)),
    "close=" + "9" * 50, "date.eq.eq=2024-01-01", "SYMBOL=AAA", "symbol =AAA", "_=1", "callback=alert",
]  # fmt: skip


@pytest.mark.parametrize("query", BAD)
def test_a_wrong_parameter_is_a_sentence_for_the_caller_never_engine_text(http, query):
    answer = http.get(f"{FCT}?{quote(query, safe='=&%.;:,()*')}")
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == 400
    assert body["who"] == "caller"
    assert len(body["detail"]) > 20
    assert not [one for one in ENGINE if one in answer.text]


def test_a_query_may_say_everything_that_the_description_lists_at_once(http):
    document = http.get("/openapi.json").json()
    values = {"date": "2024-01-02", "date-time": "2024-01-02T00:00:00Z", "boolean": "true", "string": "é" * 100}
    for path in (FCT, "/v1/silver/price_eod_versions"):
        query = {"limit": "100"}
        for one in document["paths"][path]["get"]["parameters"]:
            says = one["schema"]
            if one["name"] not in PARAMETERS:
                query[one["name"]] = (
                    "1" if "-?" in says.get("pattern", "") else values.get(says.get("format") or says["type"], "1")
                )
        assert len(query) > 50
        answer = http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        assert answer.json()["data"] == []
    assert data(http, FCT, **{"score.lt": "9" * 300, "limit": 1})
    assert data(http, FCT, **{"score.lt": "1e308", "score.gt": "-1.7976931348623157e308", "limit": 1})
    assert http.get(FCT, params={"score": "1e309"}).status_code == 400


def test_hostile_values_are_values(http):
    for text in ("' or 1=1 --", '"; drop table x', "a\nb", "%", "\\", "{}", "日本", "a" * 1000):
        assert data(http, FCT, symbol=text) == []


def test_unknown_tables_and_paths_say_what_there_is(http):
    for path in (
        "/v1/gold/nope",
        "/v1/silver/nope",
        "/v1/gold/..%2f..%2fetc",
        "/v1/gold/fct_price%00",
        "/v1/nope",
        "/v1",
        "/v1/gold/",
        "/v1/gold/a/b",
    ):
        answer = http.get(path)
        assert answer.status_code in (404, 307), path
        if answer.status_code == 404 and path.startswith("/v1/"):
            assert answer.headers["content-type"] == "application/problem+json"
    assert "fct_price, mart_known" in http.get("/v1/gold/nope").json()["detail"]
    assert http.get("/v1/gold?x=1").status_code == 400


def test_only_reading_and_only_from_here(http):
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        answer = http.request(method, FCT)
        assert answer.status_code == 405
        assert answer.headers["allow"] == "GET, HEAD"
    assert http.get(FCT, headers={"host": "evil.example"}).status_code == 421
    assert http.get(FCT, headers={"host": "127.0.0.1.evil.example"}).status_code == 421
    assert http.get("/", headers={"host": "evil.example:80"}).status_code == 421
    assert http.get(FCT, headers={"host": "localhost"}).status_code == 200
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1", "file://"):
        assert http.get(FCT, headers={"origin": origin}).status_code == 403
    assert http.get(FCT, headers={"origin": str(http.base_url).rstrip("/")}).status_code == 200
    assert http.get(f"{FCT}?symbol={'a' * 40_000}").status_code == 414


def test_every_answer_carries_the_security_headers(http):
    for path in (FCT, "/v1/nope", "/v1/health", "/", "/nowhere", "/openapi.json"):
        headers = http.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; style-src 'self'")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert "set-cookie" not in headers


def test_a_damaged_serving_file_is_not_told_to_the_caller(tmp_path):
    lake = serving_lake.build(tmp_path)
    made = lake.release(2)
    path = lake.local.root / made.gold[0].serving
    path.chmod(0o600)
    path.write_bytes(b"not a database")
    with serving_lake.serving(lake) as url, serving_lake.client(url) as http:
        answer = http.get(FCT)
        assert answer.status_code == 500
        assert answer.json()["who"] == "operator"
        assert str(tmp_path) not in answer.text
        assert not [one for one in ENGINE if one in answer.text]
        assert answer.headers["x-content-type-options"] == "nosniff"
    lake.close()


def test_a_release_that_could_not_be_opened_is_tried_again_and_never_called_none(tmp_path):
    lake = serving_lake.build(tmp_path)
    path = lake.local.root / lake.release(2).gold[0].serving
    away = path.rename(path.with_suffix(".away"))
    with serving_lake.serving(lake, every=0) as url, serving_lake.client(url) as http:
        for _ in range(2):
            assert [http.get(p).status_code for p in ("/v1/health", FCT, "/")] == [500, 500, 500]
            assert "nothing has been released" not in http.get(FCT).text + http.get("/").text
        away.rename(path)
        assert http.get("/v1/health").json() == {"status": "ok", "release": 2}
        lost = lake.local.root / lake.release(3).gold[0].serving
        away = lost.rename(lost.with_suffix(".away"))
        assert http.get("/v1/health").json() == {"status": "ok", "release": 2}
        away.rename(lost)
        assert http.get("/v1/health").json() == {"status": "ok", "release": 3}
    lake.close()


def test_what_waited_beyond_the_deadline_is_not_begun(lake):
    begun: list[int] = []
    ready = threading.Semaphore(0)

    async def ask() -> list[object]:
        newest = Newest(lake.local.files, limits=lake.local.limits, deadline=2.0)
        try:
            found = await newest.reading(None)
            free = threading.Event()

            def slow(_: object) -> None:
                begun.append(1)
                ready.release()
                free.wait(60)

            many = [asyncio.create_task(newest.ask(found, slow)) for _ in range(12)]
            for _ in range(4):
                assert await asyncio.to_thread(ready.acquire, timeout=60)
            await asyncio.sleep(2.5)
            free.set()
            return await asyncio.gather(*many, return_exceptions=True)
        finally:
            newest.close()

    answers = asyncio.run(ask())
    assert [type(one) for one in answers] == [Problem] * 12
    assert len(begun) == 4


def test_explanations_keep_no_page_waiting_and_do_not_pile_up(lake):
    free = threading.Event()

    def slow(*_: object) -> dict:
        assert free.wait(120)
        return {}

    key = {"symbol": "AAA", "date": str(serving_lake.days(0)[0][0])}
    with serving_lake.serving(lake, slow) as url, ThreadPoolExecutor(40) as pool, serving_lake.client(url) as http:
        try:
            many = [pool.submit(httpx.get, f"{url}/v1/explain/fct_price", params=key, timeout=120) for _ in range(40)]
            refused = [one.result() for _, one in zip(range(24), as_completed(many), strict=False)]
            assert {(one.status_code, one.headers["retry-after"]) for one in refused} == {(503, "5")}
            assert http.get(FCT, params={"limit": 1}).status_code == 200
        finally:
            free.set()
        codes = [one.result().status_code for one in many]
    assert codes.count(200) == 16
    assert codes.count(503) == 24


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("DECIMAL(18,6)", "1e30", "c: the value is beyond what the column can hold, 12 digits before the point"),
        ("DECIMAL(18,6)", "-" + "9" * 60, "c: the value is beyond what the column can hold, 12 digits before the point"),
        ("DECIMAL(18,6)", "999999999999.9999999", "c: the value has more decimals than the column, which has 6"),
        ("DECIMAL(18,6)", "ten", "c: the value is not a decimal(18,6); write digits with at most its decimals, such as 12.5"),
        ("BIGINT", "9223372036854775808", f"c: the value is beyond what the column can hold, {-(2**63)} to {2**63 - 1}"),
        ("BIGINT", "1" * 50, f"c: the value is beyond what the column can hold, {-(2**63)} to {2**63 - 1}"),
        ("BIGINT", "1.5", "c: the value is not a bigint; write a whole number, such as 12"),
        ("DOUBLE", "1e999", "c: the value is beyond what a double can hold"),
    ],
)  # fmt: skip
def test_a_number_that_a_column_cannot_hold_is_told_why(kind, text, said):
    with pytest.raises(Problem) as told:
        value(Column("c", kind, "", ""), text)
    assert (told.value.status, told.value.detail) == (400, said)


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_moment_outside_the_calendar_is_the_callers_error(http, at):
    assert http.get(FCT, params={"as_of": at}).status_code == 400


def test_a_question_that_can_have_no_answer_is_refused(http):
    for query in ("symbol=AAA&symbol=BBB", "cursor="):
        assert http.get(f"{FCT}?{query}").status_code == 400, query
    assert http.get(f"{FCT}?close.gt=1&close.gt=2&symbol.ne=AAA&symbol.ne=BBB").status_code == 200


def test_headers_are_read_as_http_says(http):
    def kind(accept: str) -> str:
        return http.get(FCT, params={"limit": 1}, headers={"accept": accept}).headers["content-type"].partition(";")[0]

    assert [kind(a) for a in ("TEXT/CSV", "text/csv;q=0", "application/json;q=0.1, text/csv", "*/*")] == [
        "text/csv", "application/json", "text/csv", "application/json",
    ]  # fmt: skip
    etag = http.get(FCT).headers["etag"]
    for condition in ([("if-none-match", "*")], [("if-none-match", etag), ("if-none-match", '"other"')]):
        assert http.get(FCT, headers=condition).status_code == 304
    assert http.get("/v1/gold", headers=[("if-none-match", "*")]).status_code == 304


def test_a_query_beyond_the_deadline_is_stopped(lake):
    with serving_lake.serving(lake, deadline=0.0) as url, serving_lake.client(url) as http:
        statuses = {http.get("/v1/silver/price_eod", params={"limit": n}).status_code for n in range(1, 30)}
        assert statuses == {503}
        assert http.get("/v1/health").status_code == 200


def test_before_the_first_release_it_says_what_to_do(tmp_path):
    lake = serving_lake.empty(tmp_path)
    with serving_lake.serving(lake, every=0) as url, serving_lake.client(url) as http:
        assert http.get("/v1/health").json() == {"status": "empty", "release": None}
        answer = http.get("/v1/gold")
        assert answer.status_code == 503
        assert "assay build" in answer.json()["detail"]
        lake.release(1)
        assert http.get("/v1/gold").status_code == 200
    lake.close()


# ------------------------------------------------------------------ caching, HEAD, lists


def test_an_etag_stands_for_release_question_and_format(http):
    first = http.get(FCT, params={"symbol": "AAA", "close.gt": "100.0"})
    etag = first.headers["etag"]
    assert etag.startswith('W/"')
    same = http.get(FCT, params={"close.gt": "100", "symbol": "AAA"})
    assert same.headers["etag"] == etag
    assert same.content == first.content
    held = http.get(FCT, params={"symbol": "AAA", "close.gt": "100"}, headers={"if-none-match": f'"x", {etag}'})
    assert held.status_code == 304
    assert held.content == b""
    assert held.headers["etag"] == etag
    others = [
        {"symbol": "AAA"},
        {"symbol": "AAA", "close.gt": "100", "format": "csv"},
        {"symbol": "AAA", "close.gte": "100"},
        {"symbol": "AAA", "close.gt": "100", "limit": 99},
    ]
    assert len({http.get(FCT, params=one).headers["etag"] for one in others} | {etag}) == 5
    assert first.headers["cache-control"] == "private, max-age=0, must-revalidate"
    assert first.headers["vary"] == "Accept"


def test_answers_are_the_same_with_and_without_the_cache(lake):
    with (
        serving_lake.serving(lake, cache=0) as url,
        serving_lake.client(url) as plain,
        serving_lake.serving(lake) as cached,
        serving_lake.client(cached) as http,
    ):
        for query in ({"limit": 3}, {"limit": 3, "format": "csv"}, {"symbol": "AAA", "limit": 5}):
            bodies = {client.get(FCT, params=query).content for client in (plain, http, http, plain)}
            assert len(bodies) == 1


def test_head_is_get_without_the_body(http):
    for path in (FCT, "/v1/gold", "/v1/health", "/openapi.json", "/"):
        head, get = http.head(path), http.get(path)
        assert head.status_code == get.status_code == 200
        assert head.content == b""
        assert head.headers["content-length"] == str(len(get.content))


def test_lists_name_every_table_with_types_units_and_keys(http):
    gold = {one["name"]: one for one in http.get("/v1/gold").json()["data"]}
    assert set(gold) == {"fct_price", "mart_known"}
    assert gold["fct_price"]["key"] == ["symbol", "date"]
    assert {c["name"]: c["unit"] for c in gold["fct_price"]["columns"]}["close"] == "USD"
    silver = {one["name"]: one for one in http.get("/v1/silver").json()["data"]}
    assert set(silver) == {"price_eod", "price_eod_versions", "splits", "splits_versions"}
    assert silver["price_eod"]["clocks"] == {"known_from": "known_from", "captured_at": "captured_at"}
    assert silver["price_eod_versions"]["key"] == ["symbol", "date", "_position", "_n", "_seq"]
    assert silver["price_eod"]["title"] == "End-of-day prices"
    assert {c["name"]: c["classification"] for c in silver["price_eod"]["columns"]}["close"] == "public"
    for one in (*gold.values(), *silver.values()):
        assert http.get(one["href"]).status_code == 200
    assert data(http, "/v1/silver/splits") == []


def test_openapi_describes_what_is_served(http):
    document = http.get("/openapi.json").json()
    OpenAPI.model_validate(document)
    assert document["openapi"] == "3.1.0"
    route = document["paths"][FCT]["get"]
    parameters = {one["name"]: one for one in route["parameters"]}
    assert {"close", "close.gt", "symbol.ne", "select", "limit", "cursor", "format"} <= parameters.keys()
    assert "as_of" not in parameters
    assert "as_of" in {one["name"] for one in document["paths"]["/v1/gold/mart_known"]["get"]["parameters"]}
    assert {"400", "404", "410", "414", "421", "503"} <= route["responses"].keys()
    row = document["components"]["schemas"]["gold_fct_price"]["properties"]
    assert row["close"] == {
        "type": ["number", "null"],
        "format": "decimal",
        "x-precision": 18,
        "x-scale": 6,
        "description": "what close says (USD)",
        "x-classification": "public",
        "x-unit": "USD",
    }
    got = data(http, FCT, limit=1)[0]
    assert list(got) == list(row)
    for path in document["paths"]:
        if not path.startswith("/v1/explain/"):
            assert http.get(path).status_code == 200, path
    for path in ("/docs", "/redoc"):
        assert http.get(path).status_code == 404


def test_explain_wants_the_whole_key_and_a_row(http):
    path = "/v1/explain/fct_price"
    good = {"symbol": "AAA", "date": "2024-01-02"}
    assert http.get(path, params={**good, "column": "close"}).json() == {
        "table": "fct_price",
        "key": good,
        "column": "close",
        "value": "1",
    }
    assert http.get(path, params={"symbol": "ZZZ", "date": "2024-01-02"}).status_code == 404
    for query in (
        {},
        {"symbol": "AAA"},
        {**good, "column": "nope"},
        {**good, "nope": "1"},
        {"symbol": "AAA", "date": "x"},
    ):
        answer = http.get(path, params=query)
        assert answer.status_code == 400, query
        assert answer.json()["who"] == "caller"
    assert http.get("/v1/explain/nope", params=good).status_code == 404
    assert http.get("/v1/explain/silver.price_eod", params=good).json()["table"] == "silver.price_eod"
    for name in ("silver.price_eod_versions", "silver.fct_price", "nope.fct_price"):
        assert http.get(f"/v1/explain/{name}", params=good).status_code == 404


@pytest.mark.parametrize("error", [fence.Late, fence.Spent])
def test_an_explanation_that_takes_too_much_is_told_so(lake, error):
    def never(*_: object) -> dict:
        raise error

    with serving_lake.serving(lake, never) as url, serving_lake.client(url) as http:
        for path in ("/v1/explain/fct_price", "/explain/fct_price"):
            answer = http.get(path, params={"symbol": "AAA", "date": "2024-01-02"})
            assert answer.status_code == 503
            assert "too long or too much to explain" in answer.text


def test_the_cursor_key_is_made_once_and_only_its_owner_reads_it(tmp_path):
    secrets = LocalSecrets(tmp_path)
    key = secrets.ensure("cursor")
    assert len(key) == 32
    assert LocalSecrets(tmp_path).ensure("cursor") == key
    assert (tmp_path / "secrets/cursor").stat().st_mode & 0o777 == 0o600
    assert [one.name for one in (tmp_path / "secrets").iterdir()] == ["cursor"]


def test_many_at_once_get_their_own_rows(http):
    from concurrent.futures import ThreadPoolExecutor

    wanted = {s: data(http, FCT, symbol=s, limit=50, select="symbol,close") for s in serving_lake.SYMBOLS}

    def ask(number):
        symbol = serving_lake.SYMBOLS[number % 3]
        # a select of its own each time, so that nothing comes out of the cache
        got = http.get(
            FCT, params={"symbol": symbol, "limit": 50, "select": "symbol,close", "volume.gt": -number}
        ).json()["data"]
        return got == wanted[symbol]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(120)))


@pytest.mark.parametrize("broken", ["%", "%4", "%zz", "%ff", "%c3%28", "a%"])
@pytest.mark.parametrize(
    "path", ["/v1/gold/{}", "/v1/gold/fct_price?symbol={}", "/gold/{}", "/{}", "/v1/explain/fct_price?{}=1"]
)
def test_an_address_that_is_not_percent_encoded_is_the_callers_error(http, path, broken):
    where = urlsplit(str(http.base_url))
    with socket.create_connection((where.hostname, where.port)) as raw:
        raw.sendall(f"GET {path.format(broken)} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = raw.makefile("rb").read()
    assert answer.split()[1] == b"400"
    assert b"percent-encoded" in answer


def test_garbage_on_the_wire_leaves_the_server_standing(http):
    where = urlsplit(str(http.base_url))
    for garbage in (
        b"GET /v1/gold HTTP/1.1\r\n\r\n",
        b"\0\1\2\r\n\r\n",
        b"GET " + b"/a" * 40_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
    ):
        with socket.create_connection((where.hostname, where.port)) as raw:
            raw.sendall(garbage)
            raw.shutdown(socket.SHUT_WR)
            answer = raw.recv(65_536)
        assert answer == b"" or answer.split()[1] in (b"400", b"414", b"421")
    assert http.get("/v1/health").status_code == 200


def test_decimals_survive_a_round_trip_through_a_filter(http):
    (one,) = exact(http.get(FCT, params={"symbol": "CCC", "limit": 1}).text)["data"]
    (again,) = exact(
        http.get(
            FCT, params={"symbol": "CCC", "close": one["close"], "return_1d": one["return_1d"], "date": one["date"]}
        ).text
    )["data"]
    assert again == one
    assert Decimal(one["close"]) != 0


@pytest.mark.parametrize("module", ["reader", "query", "sql", "rest", "newest"])
def test_serving_needs_neither_the_catalog_nor_what_writes(module):
    """Whoever serves starts fast and small: in a Lambda, there is nothing of Iceberg, Arrow or the contract's standard."""
    heavy = {"pyiceberg", "pyarrow", "sqlalchemy", "open_data_contract_standard", "dbt", "aiohttp", "pandas", "numpy"}
    if module != "rest":
        heavy |= {"pydantic", "fastapi"}
    code = f"import sys, assay.serve.{module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not heavy & set(loaded)
    assert "duckdb" in loaded
