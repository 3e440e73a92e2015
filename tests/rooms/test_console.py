"""The console's pages: sound HTML without script, the API's figures, and the state of the lake in words."""

import re
from collections.abc import Iterator
from datetime import date, timedelta
from html.parser import HTMLParser
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.serve.console import charts
from tests.rooms import serving_lake

VOID = {"meta", "link", "img", "br", "input", "hr", "wbr"}
PAGES = (
    "/",
    "/gold/fct_price",
    "/gold/fct_price?symbol=CCC",
    "/gold/mart_known",
    "/silver/price_eod",
    "/silver/splits",
    "/nowhere",
    "/gold/nope",
    "/silver/price_eod?x=1",
)
EXPLAIN = "/explain/fct_price?symbol=AAA&date=2024-01-02&column=close"
OBSERVATION = {
    "dataset": "price_eod", "key": {"symbol": "AAA", "date": "2024-01-02"}, "values": {"close": "99"}, "known_from": "2024-01-02T21:00:00Z",
    "known_basis": "vendor", "captured_at": "2024-05-01T10:00:00Z", "backfilled": True, "batch": "01B", "seq": 0,
    "file": "bronze/price_eod/dt=2024-05-01/run=01R/01B-part-00000-0123456789abcdef.ndjson.gz", "line": 1,
    "record": '{"symbol":"AAA","note":"</td><script>alert(1)</script>"}', "origin": "sandbox", "manifest": "bronze/price_eod/_manifests/AAA/g1.json",
    "contract_sha256": "c" * 64, "evidence": "01E", "rules": [{"name": "price_positive", "description": "above zero", "passed": True}],
    "request": {"url": "http://127.0.0.1:9/stable/prices", "params": {"symbol": "AAA"}, "at": "2024-05-01T10:00:00Z", "status": 200, "bytes": 1234, "sha256": "a" * 64, "rows": 120},
}  # fmt: skip
EXPLAINED = {
    "table": "gold.fct_price", "key": {"symbol": "AAA", "date": "2024-01-02"}, "column": "close", "value": "99", "unit": "USD", "type": "DECIMAL(18,6)",
    "column_description": "what close says", "release": 1, "snapshot": "1", "origin": ["sandbox"], "description": "Test table fct_price.",
    "row": {"symbol": "AAA", "date": "2024-01-02", "close": "99", "note": None}, "recomputed": {"value": "99", "equal": True},
    "model": {"relation": "gold.fct_price", "sql": "select '<i>'", "steps": ["stg.price", "gold.fct_price"]},
    "inputs": [{"table": "silver.price_eod", "where": "symbol = row.symbol and date < row.date", "rows": 1, "listed": 1}, {"table": "silver.splits", "where": "false", "rows": 0, "listed": 0}],
    "observations": [OBSERVATION], "not_listed": 0,
}  # fmt: skip


class Page(HTMLParser):
    """A page's elements, texts by element, and every way in which it is not sound."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[str, list[str]] = {}
        self.tables: list[list[list[str]]] = []
        self.faults: list[str] = []
        self.feed(text)
        self.close()
        if self.open:
            self.faults.append(f"left open: {self.open}")

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes nothing")

    def handle_data(self, data):
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)
        if any(one in self.open for one in ("td", "th")):
            self.tables[-1][-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    return serving_lake.build(tmp_path_factory.mktemp("console"))


def explained(table: str, key: dict[str, str], column: str | None) -> dict:
    row = EXPLAINED["row"] if table == "fct_price" else {"date": key["date"], "close": "99"}
    return {**EXPLAINED, "table": f"gold.{table}", "key": key, "column": column, "row": row}


@pytest.fixture(scope="module")
def http(lake) -> Iterator[httpx.Client]:
    with serving_lake.serving(lake, explained) as url, httpx.Client(base_url=url) as client:
        yield client


def plain(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", text))


@pytest.mark.parametrize("path", [*PAGES, EXPLAIN])
def test_a_page_is_sound_html_that_needs_no_script_and_no_eyes(http, path):
    answer = http.get(path)
    page = Page(answer.text)
    assert page.faults == []
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "style", "iframe", "object", "embed", "base"}
    for tag, attrs in page.tags:
        assert not [one for one in attrs if one.startswith("on") or one in ("style", "srcdoc", "formaction")], (
            tag,
            attrs,
        )
        for one in ("href", "src", "action"):
            assert not attrs.get(one, "").lower().startswith(("http:", "https:", "//", "javascript:", "data:")), attrs
    assert page.all("html")[0]["lang"] == "en"
    for tag in ("h1", "main", "header", "footer", "title"):
        assert (
            len(
                [
                    1
                    for t, a in page.tags
                    if t == tag and "price-title" not in a.get("id", "") and "bar-title" not in a.get("id", "")
                ]
            )
            == 1
        ), tag
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for tag, attrs in page.tags:
        for one in attrs.get("aria-labelledby", "").split():
            assert one in ids, (tag, one)
        if attrs.get("href", "").startswith("#"):
            assert attrs["href"][1:] in ids
        if attrs.get("role") == "region":
            assert attrs.get("tabindex") == "0"
            assert attrs.get("aria-label") or attrs.get("aria-labelledby")
    assert len(page.all("caption")) == len(page.all("table"))
    assert all("alt" in one for one in page.all("img"))
    assert all("scope" in one for one in page.all("th"))
    assert page.tags[[t for t, _ in page.tags].index("a")][1]["href"] == "#main"
    labels = {one["for"] for one in page.all("label")}
    assert {one["id"] for one in page.all("select")} == labels


@pytest.mark.parametrize("path", [*PAGES, EXPLAIN])
def test_every_page_says_release_time_and_whose_data_it_is(http, path):
    text = http.get(path).text
    top = plain(text[text.index('<p class="stamp">') : text.index("</header>")])
    assert "sandbox data" in top
    assert "Release 1" in top
    assert "UTC" in top


@pytest.mark.parametrize("path", [*PAGES, EXPLAIN])
def test_every_link_of_a_page_leads_somewhere(http, path):
    links = {one["href"] for one in Page(http.get(path).text).all("a") + Page(http.get(path).text).all("link")}
    assert len(links) > 5
    for link in links:
        if not link.startswith(("#", "/explain/")):
            assert http.get(link).status_code == 200, link
    for link in sorted(one for one in links if one.startswith("/explain/"))[:40]:
        assert http.get(link).status_code == 200, link


def cells(page: Page, columns: list[str]) -> list[dict[str, str]]:
    """The rows of the page's table whose header has these columns."""
    for table in page.tables:
        head = [re.split(r"(?=USD|shares)", one)[0].strip() for one in table[0]]
        if head == columns:
            return [dict(zip(columns, (one.strip() for one in row), strict=True)) for row in table[1:]]
    raise AssertionError([table[0] for table in page.tables])


@pytest.mark.parametrize(("zone", "table"), [("gold", "fct_price"), ("gold", "mart_known"), ("silver", "price_eod")])
def test_figures_are_the_apis_to_the_last_digit(http, zone, table):
    import json

    told = json.loads(http.get(f"/v1/{zone}/{table}?limit=50").text, parse_float=str, parse_int=str)["data"]
    shown = cells(Page(http.get(f"/{zone}/{table}").text), list(told[0]))
    assert len(shown) == 50
    for one, other in zip(shown, told, strict=True):
        wanted = {
            n: "null" if c is None else str(c).lower() if isinstance(c, bool) else re.sub(r"\s+", " ", c)
            for n, c in other.items()
        }
        assert {n: re.sub(r"\s+", " ", c) for n, c in one.items()} == wanted


def test_each_gold_cell_leads_to_its_own_explanation(http):
    page = Page(http.get("/gold/fct_price").text)
    links = [urlsplit(one["href"]) for one in page.all("a") if one["href"].startswith("/explain/")]
    told = http.get("/v1/gold/fct_price?limit=50").json()["data"]
    asked = [
        (parse_qs(link.query)["symbol"][0], parse_qs(link.query)["date"][0], parse_qs(link.query)["column"][0])
        for link in links
    ]
    assert asked == [(row["symbol"], row["date"], name) for row in told for name in row]


def test_the_overview_counts_what_became_of_every_row(http):
    page = Page(http.get("/").text)
    row = next(r for r in page.tables[0] if r[0].startswith("price_eod"))
    captured = 3 * serving_lake.SESSIONS + 2 + serving_lake.SESSIONS
    assert [one.strip() for one in row[4:10]] == [str(captured), "360", "1", "1", "120", "0"]
    assert captured == 360 + 1 + 1 + 120
    assert row[1].strip() == "1 held"
    assert row[2].strip() == str(serving_lake.days(0)[-1][0])
    empty = next(r for r in page.tables[0] if r[0].startswith("splits"))
    assert empty[1].strip() == "empty"
    text = plain(http.get("/").text)
    assert "3 tests passed" in text
    assert "120 of 120 rows are bad: more than 2 percent" in text
    assert "Nothing of it is readable" in text
    reasons = next(t for t in page.tables if t[0][:2] == ["Dataset", "Reason"])
    assert [one.strip() for one in reasons[1]] == ["price_eod", "price_positive", "121"]
    assert {r[0].strip() for r in page.tables[1][1:]} == {"fct_price", "mart_known"}


def test_a_batch_that_waits_for_its_verdict_is_shown(tmp_path):
    lake = serving_lake.build(tmp_path)
    window = serving_lake.Window(date(2030, 1, 1), date(2040, 1, 1))
    serving_lake.land(
        lake.local, lake.contracts["price_eod"], "EEE", window, [serving_lake.price("EEE", date(2030, 1, 2), 5.0, 7)]
    )
    with serving_lake.serving(lake) as url:
        text = plain(httpx.get(f"{url}/silver/price_eod").text)
        assert "waiting" in text
        assert "1 rows wait for their verdict" in text


def test_before_the_first_release_the_overview_stands(tmp_path):
    lake = serving_lake.empty(tmp_path)
    with serving_lake.serving(lake) as url:
        answer = httpx.get(f"{url}/")
        assert answer.status_code == 200
        assert Page(answer.text).faults == []
        assert "Nothing has been released yet" in plain(answer.text)
        refused = httpx.get(f"{url}/gold/fct_price")
        assert refused.status_code == 503
        assert "assay build" in plain(refused.text)


def test_the_silver_page_shows_promise_quality_and_files(http):
    text = http.get("/silver/price_eod").text
    page = Page(text)
    assert "482 captured = 360 accepted + 1 duplicate + 1 quarantined + 120 held" in plain(text)
    rules = next(t for t in page.tables if t[0][0] == "Rule")
    assert {r[0]: r[3].strip() for r in rules[1:]}["price_positive"] == "121"
    batches = next(t for t in page.tables if t[0][0] == "Shard")
    assert {(r[0].strip(), r[2].strip(), r[3].strip()) for r in batches[1:]} == {
        ("AAA", "passed", "120"),
        ("BRK.B", "passed", "120"),
        ("CCC", "passed", "122"),
        ("DDD", "held", "120"),
    }
    assert all("sandbox" in r[6] and r[7].startswith("bronze/price_eod/_manifests/") for r in batches[1:])
    schema = next(t for t in page.tables if t[0][0] == "Column")
    assert [r[0].removesuffix("key").strip() for r in schema[1:]] == list(
        http.get("/v1/silver/price_eod?limit=1").json()["data"][0]
    )


def test_the_chart_is_of_the_symbol_asked_for(http, lake):
    for symbol in serving_lake.SYMBOLS:
        text = http.get("/gold/fct_price", params={"symbol": symbol}).text
        ((low, high, n),) = lake.sql(
            "select min(close)::varchar, max(close)::varchar, count(*) from gold.fct_price where symbol = ?", symbol
        )
        said = re.search(r'<desc id="price-desc">(.*?)</desc>', text)[1]
        assert said.startswith(f"{n} days.")
        assert f"lowest {low} on" in said
        assert f"highest {high} on" in said
        assert f"<option selected>{symbol}</option>" in text
    assert "not two closes" in plain(http.get("/gold/fct_price", params={"symbol": "<script>"}).text)
    assert "<script>" not in http.get("/gold/fct_price", params={"symbol": "<script>"}).text
    assert "<svg" not in http.get("/silver/splits").text


def test_explain_shows_the_whole_way(http):
    text = http.get(EXPLAIN).text
    page = Page(text)
    words = plain(text)
    for said in (
        "equal Computed again just now",
        "99.000000",
        "stg.price",
        "silver.price_eod",
        "line 1",
        "status 200, 1,234 bytes, 120 rows",
        "price_positive",
        "backfilled",
        OBSERVATION["file"],
        "aaaa",
    ):
        assert said in words, said
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    boxes = [one for one in page.all("a") if "box" in one.get("class", "")]
    assert [one["class"] for one in boxes] == [
        "box gold",
        "box model",
        "box silver",
        "box silver",
        "box bronze",
        "box request",
    ]
    assert len(re.findall(r'class="arrow"', text)) == 5


def test_explain_says_when_the_number_came_out_differently(lake):
    odd = {**EXPLAINED, "recomputed": {"value": "98", "equal": False}}
    with serving_lake.serving(lake, lambda *_: odd) as url:
        assert "different Computed again just now" in plain(httpx.get(url + EXPLAIN).text)


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [("/nowhere", 404, "Nothing is served at /nowhere"), ("/gold/nope", 404, "it has fct_price, mart_known"), ("/gold/fct_price?limit=5", 400, "this page takes symbol"),
     ("/?a=1", 400, "this page takes no parameters"), ("/silver/splits?symbol=A&symbol=B", 400, "means nothing here"), ("/gold/mart_known?symbol=%00", 400, "symbol"),
     ("/explain/fct_price?symbol=AAA", 400, "date is missing"), ("/explain/fct_price?symbol=AAA&date=x", 400, "write 2024-01-05"), ("/explain/nope?a=b", 404, "no gold table"),
     ("/%3Cscript%3Ealert(1)%3C/script%3E", 404, "Nothing is served")],
)  # fmt: skip
def test_a_refusal_is_a_page_that_says_what_to_do(http, path, status, said):
    answer = http.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")
    assert said in plain(answer.text)
    assert "What to do" in answer.text
    assert "<script>" not in answer.text


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=3000), st.integers(1, 400))
def test_thinning_keeps_ends_and_extremes(values, columns):
    points = list(enumerate(values))
    kept = charts.thin(points, columns)
    assert len(kept) <= 4 * columns
    assert kept == sorted(set(kept))
    assert set(kept) <= set(points)
    assert {kept[0], kept[-1]} == {points[0], points[-1]}
    assert min(v for _, v in kept) == min(values)
    assert max(v for _, v in kept) == max(values)


@given(st.lists(st.decimals(0, 10**6, places=2), min_size=2, max_size=60), st.integers(1, 900))
def test_a_chart_stays_inside_its_frame(values, gap):
    series = [(date(2000, 1, 1) + timedelta(days=i * gap), float(v), str(v)) for i, v in enumerate(values)]
    drawn = charts.chart(series)
    points = [tuple(map(float, one.split())) for one in drawn.line[1:].split("L")]
    for x, y in points:
        assert charts.LEFT <= x <= charts.WIDTH - charts.RIGHT + 0.1
        assert charts.TOP - 0.1 <= y <= charts.HEIGHT - charts.BOTTOM + 0.1
    assert 2 <= len(drawn.upward) <= 8
    assert len({label for _, label in drawn.upward}) == len(drawn.upward)
    assert len(drawn.across) <= 12


def test_a_chart_needs_two_points():
    assert charts.chart([]) is None
    assert charts.chart([(date(2024, 1, 1), 1.0, "1")]) is None
