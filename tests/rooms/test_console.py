"""The console's pages: sound HTML without script, the API's figures, and the state of the lake in words."""

import re
import shlex
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from assay import cli, run
from assay.contract import odcs
from assay.lake import account, holes, release
from assay.run import loop
from assay.serve.console import charts
from tests import making
from tests.conftest import ROOT
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
RECORD = {
    "dataset": "price_eod", "key": {"symbol": "AAA", "date": "2024-01-02"}, "values": {"close": "99"}, "known_from": "2024-01-02T21:00:00Z",
    "known_basis": "vendor", "captured_at": "2024-05-01T10:00:00Z", "backfilled": True, "batch": "12.3", "seq": 0,
    "file": "bronze/price_eod/dt=2024-05-01/01L-0-0123456789abcdef.ndjson.gz", "line": 1,
    "record": '{"symbol":"AAA","note":"</td><script>alert(1)</script>"}', "origin": "sandbox", "entry": "bronze/price_eod/log/000000012.json.gz", "decision": None,
    "contract_sha256": "c" * 64, "evidence": "evidence/price_eod/000000007.json.gz", "record_refines_to_row": True, "newer": None,
    "rules": [{"name": "price_positive", "description": "above zero", "severity": "error", "passed": True}],
    "request": {"url": "http://127.0.0.1:9/stable/prices", "params": {"symbol": "AAA"}, "at": "2024-05-01T10:00:00Z", "status": 200, "bytes": 1234, "sha256": "a" * 64, "rows": 120},
}  # fmt: skip
EXPLAINED = {
    "table": "gold.fct_price", "key": {"symbol": "AAA", "date": "2024-01-02"}, "column": "close", "value": "99", "unit": "USD", "type": "DECIMAL(18,6)",
    "column_description": "what close says", "release": 1, "snapshot": "1", "origin": ["sandbox"], "description": "Test table fct_price.",
    "row": {"symbol": "AAA", "date": "2024-01-02", "close": "99", "note": None}, "recomputed": {"value": "99", "equal": True},
    "model": {"relation": "gold.fct_price", "sql": "select '<i>'", "steps": ["stg.price", "gold.fct_price"]},
    "inputs": [{"table": "silver.price_eod", "where": "symbol = row.symbol and date < row.date", "rows": 1, "listed": 1}, {"table": "silver.splits", "where": "false", "rows": 0, "listed": 0}],
    "records": [RECORD], "not_listed": 0,
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
    made = serving_lake.build(tmp_path_factory.mktemp("console"))
    yield made
    made.close()


def explained(_: release.Release, table: str, key: dict[str, str], column: str | None) -> dict:
    row = EXPLAINED["row"] if table == "fct_price" else {"date": key["date"], "close": "99"}
    return {**EXPLAINED, "table": f"gold.{table}", "key": key, "column": column, "row": row}


@pytest.fixture(scope="module")
def http(lake) -> Iterator[httpx.Client]:
    with serving_lake.serving(lake, explained) as url, serving_lake.client(url) as client:
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


def test_each_gold_row_and_cell_leads_to_its_own_explanation(http):
    """The first cell leads to the row, and is the one stop of the Tab key in it; the page it leads to has all figures."""
    page = Page(http.get("/gold/fct_price").text)
    links = [(urlsplit(one["href"]), one) for one in page.all("a") if one["href"].startswith("/explain/")]
    told = http.get("/v1/gold/fct_price?limit=50").json()["data"]
    asked = [tuple(parse_qs(link.query).get(n, [None])[0] for n in ("symbol", "date", "column")) for link, _ in links]
    assert asked == [(r["symbol"], r["date"], name if name != "symbol" else None) for r in told for name in r]
    assert [one.get("tabindex") for _, one in links] == [None if column is None else "-1" for _, _, column in asked]
    names = [one["aria-label"] for _, one in links if "tabindex" not in one]
    assert names == [f"{r['symbol']}, {r['date']}: why this row" for r in told]
    row = Page(http.get("/explain/fct_price?symbol=AAA&date=2024-01-02").text)
    assert {
        parse_qs(urlsplit(one["href"]).query)["column"][0] for one in row.all("a") if "column=" in one["href"]
    } == set(EXPLAINED["row"])
    assert [one.strip() for one in row.texts["h1"]] == ["Row"]


def test_the_key_of_a_row_is_its_header(http):
    for path, key in (("/gold/fct_price", 2), ("/silver/price_eod", 2), ("/gold/mart_known", 1)):
        body = re.search(r'(?s)<table class="cells">.*?<tbody>(.*?)</tbody>', http.get(path).text)[1]
        assert body.count('<th scope="row"') == key * 50


def test_the_overview_counts_what_became_of_every_row(http):
    page = Page(http.get("/").text)
    row = next(r for r in page.tables[0] if r[0].startswith("price_eod"))
    captured = 3 * serving_lake.SESSIONS + 2 + serving_lake.SESSIONS
    assert numbers(row) == {
        "captured": str(captured), "accepted": "360", "unchanged": "0", "superseded": "0", "duplicate": "1", "quarantined": "1",
        "held": "120", "erased": "0", "withdrawn": "0", "waiting": "0",
    }  # fmt: skip
    assert captured == 360 + 1 + 1 + 120
    assert row[1].strip() == "1 held"
    assert row[2].startswith(str(serving_lake.days(0)[-1][0]))
    empty = next(r for r in page.tables[0] if r[0].startswith("splits"))
    assert empty[1].strip() == "empty"
    text = plain(http.get("/").text)
    assert "3 tests passed" in text
    assert "120 of 120 rows are bad: more than 2 percent" in text
    assert "Nothing of it is readable" in text
    reasons = next(t for t in page.tables if t[0][:2] == ["Dataset", "Reason or warning"])
    assert [one.strip() for one in reasons[1]] == ["price_eod", "price_positive", "1", "120", "0"]
    assert {r[0].strip() for r in page.tables[1][1:]} == {"fct_price", "mart_known"}


def test_warnings_are_counted(tmp_path):
    lake = serving_lake.empty(tmp_path)
    days = ((date(2024, 1, 2), 0), (date(2024, 1, 3), 7))
    lake.land("price_eod", "AAA", [serving_lake.price("AAA", day, 5.0, volume) for day, volume in days])
    lake.refine()
    with serving_lake.serving(lake) as url, serving_lake.client(url) as http:
        page = Page(http.get("/").text)
        assert "No row was rejected" not in plain(http.get("/").text)
        reasons = next(t for t in page.tables if t[0][:2] == ["Dataset", "Reason or warning"])
        assert [one.strip() for one in reasons[1]] == ["price_eod", "volume_traded", "0", "0", "1"]
    lake.close()


@pytest.mark.slow
def test_the_command_named_for_a_held_batch_helps_and_the_alarm_ends(tmp_path, capfd):
    """What a reader of the page does: mend the file, run the commands it names, look again."""
    root = run.init(tmp_path / "lake", ROOT / "lakes/csv")
    trades = root / "files/trades.csv"
    good = "".join(f"T-{n:04},2024-01-03,AAPL,1,10.5\n" for n in range(30))
    trades.write_text("trade_id,date,symbol,quantity,price\n" + good.replace("10.5", "-1", 10))
    assert assay(root, "apply trades") == 4
    overview, _ = console(root)
    assert "Every gate is open" not in overview
    assert row_of(overview, "trades")[1].strip() == "1 held"
    assert "price_positive" in overview
    advice = re.search(r"If the source.*?</p>", overview)[0]
    land, apply, _ = (unescape(one) for one in re.findall(r"<code>assay (.*?)</code>", advice))
    trades.write_text("trade_id,date,symbol,quantity,price\n" + good)
    assert [assay(root, land), assay(root, apply)] == [0, 0]
    overview, silver = console(root)
    assert row_of(overview, "trades")[1].strip() == "whole"
    assert "Every gate is open" in overview
    assert "replaced" in overview
    found = numbers(row_of(overview, "trades"))
    assert (found["captured"], found["accepted"], found["held"]) == ("60", "30", "3030 replaced")
    assert "superseded" not in plain(overview[overview.index('id="held"') :])
    assert "No row was rejected" in overview
    batches = next(t for t in Page(silver).tables if t[0][0] == "Batch")
    assert [r[3].strip() for r in batches[1:]] == ["passed", "replaced"]
    capfd.readouterr()


def test_only_a_later_capture_of_all_its_days_stands_in_for_a_held_batch(tmp_path):
    lake = serving_lake.empty(tmp_path)
    bad, good = (
        [serving_lake.price("DDD", day, sign * close, 7) for day, close, _ in serving_lake.days(0)] for sign in (-1, 1)
    )
    whole, part = (serving_lake.Window(date(year, 1, 1), date(2030, 1, 1)) for year in (2020, 2021))
    held = lake.land("price_eod", "DDD", bad, whole)
    lake.refine()

    def stands(shard: str, window: serving_lake.Window) -> tuple[list[str], list[str]]:
        lake.land("price_eod", shard, good, window)
        lake.refine()
        found = account.of(lake.local.ledger, "price_eod")
        return [one.batch for one in found.open], [one.batch for one in found.replaced]

    assert stands("EEE", whole) == ([held.spoken], [])
    assert stands("DDD", part) == ([held.spoken], [])
    assert stands("DDD", whole) == ([], [held.spoken])
    lake.close()


COMPLETE = (
    (
        "  - {property: every, value: P1D}\n",
        "  - {property: every, value: P1D}\n  - {property: complete, value: true}\n",
    ),
    ("unit: percent, minRows: 20", "withdrawnAtMost: 50, unit: percent, minRows: 20"),
)


def things(*names: str, amount: str = "1.25") -> list[bytes]:
    return [making.record(id=f'"{name}"', amount=amount) for name in names]


@pytest.mark.slow
def test_withdrawals_that_are_held_are_shown_until_somebody_decides_or_a_newer_answer_does(tmp_path):
    made = making.make(tmp_path)
    contract = making.every_type(*COMPLETE)
    lake = serving_lake.Lake(made, {"things": contract})

    def say(*names: str, amount: str = "1.25") -> making.Landed:
        batch = made.land(contract, things(*names, amount=amount), scope={})
        made.refine(contract)
        return batch

    say("a", "b", "c", "d", "e", "f")
    with serving_lake.serving(lake) as url, serving_lake.client(url) as http:
        assert row_of(http.get("/").text, "things")[1].strip() == "whole"
        for end in ("decided", "newer"):
            pending = say("a", amount="2.5" if end == "decided" else "3.5")
            text = http.get("/").text
            assert row_of(text, "things")[1].strip() == "1 withdrawal held"
            assert numbers(row_of(text, "things"))["withdrawn"] == ("0" if end == "decided" else "5")
            assert f"assay decide withdraw things {pending.spoken} --why" in plain(text)
            if end == "decided":
                made.decide(contract, making.Decision("withdraw", batch=pending.at))
                assert numbers(row_of(http.get("/").text, "things"))["withdrawn"] == "5"
            else:
                say("a", "b", "c", "d", "e")
            assert "withdrawals held" not in http.get("/").text
            assert row_of(http.get("/").text, "things")[1].strip() == "whole"
            say("a", "b", "c", "d", "e", "f")
    found = made.account(contract)
    ends = made.rows(f"SELECT id, known_to FROM ({made.select(contract)})")
    assert found.former == sum(end is not None for _, end in ends)
    # what took another's place: every version that begins where one of its key ends
    replaced = f"""SELECT count(*) FROM ({made.select(contract)}) s SEMI JOIN ({made.select(contract)}) p
        ON p.id = s.id AND p.recorded_to = s.captured_at"""
    assert [(found.changed,)] == made.rows(replaced)
    assert found.changed > 0
    lake.close()


def test_what_fails_is_shown_with_its_error_until_it_is_done(tmp_path):
    lake = serving_lake.empty(tmp_path)
    ledger = lake.local.ledger
    with serving_lake.serving(lake) as url, serving_lake.client(url) as http:
        assert "No step failed" in plain(http.get("/").text)
        loop.mark(ledger, "price_eod", "refine", "started", "run")
        loop.mark(ledger, "price_eod", "refine", "failed", "run", "LakeBusy: <another> was faster")
        loop.mark(ledger, "", "build", "started", "run")
        text = http.get("/").text
        assert Page(text).faults == []
        assert row_of(text, "price_eod")[1].strip() == "failing"
        assert "LakeBusy: &lt;another&gt; was faster" in text
        words = plain(text)
        assert "failed price_eod refine" in words
        assert "not ended gold build" in words
        assert "it runs now, or it was killed" in words
        loop.mark(ledger, "price_eod", "refine", "done", "run")
        loop.mark(ledger, "", "build", "done", "run")
        assert "No step failed" in plain(http.get("/").text)
    lake.close()


def test_lost_silver_takes_no_page_but_its_own_figures(tmp_path):
    lake = serving_lake.build(tmp_path)
    found = release.current(lake.local.files)
    (lake.local.root / found.dataset("price_eod").current.files[0].name).unlink()
    with serving_lake.serving(lake) as url, serving_lake.client(url) as http:
        row = row_of(http.get("/").text, "price_eod")
        assert row[2].startswith("lost")
        assert http.get("/gold/fct_price").status_code == 200
        assert http.get("/silver/splits").status_code == 200
        assert http.get("/silver/price_eod").status_code == 500
    lake.close()


def test_the_newest_day_is_read_once_a_snapshot(tmp_path):
    lake = serving_lake.build(tmp_path)
    with serving_lake.serving(lake, every=0) as url, serving_lake.client(url) as http:
        before = row_of(http.get("/").text, "price_eod")[2]
        lake.release(2)
        file = lake.local.root / release.current(lake.local.files).dataset("price_eod").current.files[0].name
        away = file.rename(file.with_suffix(".away"))
        row = row_of(http.get("/").text, "price_eod")
        assert "Release 2" in http.get("/").text
        assert row[2][:10] == before[:10] == str(serving_lake.days(0)[-1][0])
        away.rename(file)
    lake.close()


def assay(root, words: str) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["--lake", str(root), "--quiet", *shlex.split(words)])
    return int(ended.value.code or 0)


def console(root) -> tuple[str, str]:
    """The overview, and the page of the silver table."""
    lake = run.open(root)
    try:
        with lake.serving("127.0.0.1", 0) as url, serving_lake.client(url) as http:
            return http.get("/").text, http.get("/silver/trades").text
    finally:
        lake.close()


def numbers(row: list[str]) -> dict[str, str]:
    """The figures of a dataset's row on the overview."""
    terms = (
        "captured",
        "accepted",
        "unchanged",
        "superseded",
        "duplicate",
        "quarantined",
        "held",
        "erased",
        "withdrawn",
        "waiting",
    )
    return dict(zip(terms, (one.strip() for one in row[3:13]), strict=True))


def row_of(text: str, dataset: str) -> list[str]:
    return next(r for r in Page(text).tables[0] if r[0].startswith(dataset))


def test_a_dataset_released_while_serving_is_on_the_overview_too(tmp_path):
    lake = serving_lake.empty(tmp_path)
    lake.release(1)
    with serving_lake.serving(lake, every=0) as url, serving_lake.client(url) as http:
        assert "dividends" not in http.get("/").text
        more = odcs.read(serving_lake.CONTRACTS / "dividends.yaml")
        serving_lake.Lake(lake.local, {**lake.contracts, "dividends": more}).release(2)
        links = [one["href"] for one in Page(http.get("/").text).all("a")]
        assert links.count("/silver/dividends") == 2  # in the navigation and in the table
    lake.close()


def test_a_batch_that_waits_for_its_verdict_is_shown(tmp_path):
    lake = serving_lake.build(tmp_path)
    window = serving_lake.Window(date(2030, 1, 1), date(2040, 1, 1))
    lake.land("price_eod", "EEE", [serving_lake.price("EEE", date(2030, 1, 2), 5.0, 7)], window)
    with serving_lake.serving(lake) as url, serving_lake.client(url) as http:
        text = plain(http.get("/silver/price_eod").text)
        assert "waiting" in text
        assert "1 row waits for its verdict" in text
        assert numbers(row_of(http.get("/").text, "price_eod"))["waiting"] == "1"
    lake.close()


def test_before_the_first_release_the_overview_stands(tmp_path):
    lake = serving_lake.empty(tmp_path)
    with serving_lake.serving(lake) as url, serving_lake.client(url) as http:
        answer = http.get("/")
        assert answer.status_code == 200
        assert Page(answer.text).faults == []
        assert "Nothing has been released yet" in plain(answer.text)
        refused = http.get("/gold/fct_price")
        assert refused.status_code == 503
        assert "assay build" in plain(refused.text)
    lake.close()


def test_the_silver_page_tells_of_sessions_without_a_row(http, lake):
    assert "without a row" not in http.get("/silver/price_eod").text
    promised, at = lake.contracts["price_eod"], datetime(2024, 1, 2, tzinfo=UTC)
    lacks = holes.Found("XNYS", 3, 2, {"<b>": (date(2024, 1, 4), date(2024, 1, 5)), "CCC": (date(2024, 1, 4),)})
    lake.local.ledger.record(holes.facts(promised, {}, lacks, at, 1))
    text = http.get("/silver/price_eod").text
    assert (
        "holes 3 sessions of XNYS without a row, which 2 shards lack, such as &lt;b&gt; 2024-01-04, 2024-01-05"
        in plain(text)
    )
    lake.local.ledger.record(holes.facts(promised, {}, holes.Found("XNYS"), at, 2))
    assert "without a row" not in http.get("/silver/price_eod").text


def test_the_silver_page_shows_promise_quality_and_files(http):
    text = http.get("/silver/price_eod").text
    page = Page(text)
    assert "482 captured = 360 accepted + 1 duplicate + 1 quarantined + 120 held" in plain(text)
    rules = next(t for t in page.tables if t[0][0] == "Rule")
    assert {r[0]: r[3].strip() for r in rules[1:]}["price_positive"] == "121"
    batches = next(t for t in page.tables if t[0][0] == "Batch")
    assert [(r[0].strip(), r[1].strip(), r[3].strip(), r[4].strip()) for r in batches[1:]] == [
        ("5.0", "DDD", "held", "120"),
        ("4.0", "CCC", "passed", "122"),
        ("3.0", "BRK.B", "passed", "120"),
        ("2.0", "AAA", "passed", "120"),
    ]
    assert [r[7] for r in batches[1:]] == [f"bronze/price_eod/log/{p:09}.json.gz" for p in (5, 4, 3, 2)]
    assert all("sandbox" in r[6] for r in batches[1:])
    schema = next(t for t in page.tables if t[0][0] == "Column")
    assert [re.sub("(key)?(clock)?$", "", r[0].strip()) for r in schema[1:]] == list(
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
        RECORD["file"],
        RECORD["entry"],
        RECORD["evidence"],
        "Batch12.3",
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


def test_what_a_person_wrote_or_let_in_says_who_and_why(lake):
    wrote = {
        **RECORD,
        "request": None,
        "origin": "decided",
        "decision": {"kind": "upsert", "who": "Ada <b>", "why": "a typo", "at": "2026-11-25T07:12:00Z"},
    }
    let_in = {**RECORD, "decision": {"kind": "release", "who": "Bob", "why": "looked", "at": "2026-11-25T07:12:00Z"}}
    told = {**EXPLAINED, "records": [wrote, let_in, RECORD]}
    with serving_lake.serving(lake, lambda *_: told) as url, serving_lake.client(url) as http:
        text = http.get(EXPLAIN).text
    assert Page(text).faults == []
    words = plain(text)
    assert "written by Ada &lt;b&gt; on 25 Nov 2026, 07:12 UTC: a typo" in words
    assert "let in by Bob on 25 Nov 2026, 07:12 UTC: looked" in words
    assert words.count("status 200, 1,234 bytes, 120 rows") == 2
    boxes = [one["class"] for one in Page(text).all("a") if "box" in one.get("class", "")]
    assert boxes.count("box request") == 2
    assert boxes.count("box decision") == 1


def test_explain_says_when_the_number_came_out_differently(lake):
    odd = {**EXPLAINED, "recomputed": {"value": "98", "equal": False}}
    with serving_lake.serving(lake, lambda *_: odd) as url, serving_lake.client(url) as http:
        assert "different Computed again just now" in plain(http.get(EXPLAIN).text)


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


NOTES = {0: "''", 1: "NULL", 2: "'to ' || chr(8238) || 'kcab'", 3: "' '", 4: "'<b>' || chr(7)"}
MANY = f"""
SELECT 'S' || lpad((n // 2)::VARCHAR, 5, '0') AS symbol, DATE '2024-01-01' + (n % 2)::INTEGER AS date, n::DOUBLE AS close,
  CASE n {" ".join(f"WHEN {n} THEN {note}" for n, note in NOTES.items())} ELSE 'x' END AS note
FROM range(12154) t(n)"""
FEW = "SELECT chr(8238) || n AS symbol, DATE '2024-01-01' AS date, 1.5::DOUBLE AS close FROM range(812) t(n)"


@pytest.fixture(scope="module")
def odd(tmp_path_factory) -> Iterator[httpx.Client]:
    """The pages of a lake whose gold has many rows, many symbols and strange texts."""
    lake = serving_lake.empty(tmp_path_factory.mktemp("odd"))
    odd_tables = (("fct_many", MANY), ("fct_few", FEW))
    lake.release(1, [serving_lake.Table(name, select, ("symbol", "date")) for name, select in odd_tables])
    with serving_lake.serving(lake, explained) as url, serving_lake.client(url) as http:
        yield http
    lake.close()


def test_links_to_the_data_say_how_much_of_it_they_give(odd):
    for path, rows, word in (
        ("/gold/fct_many", 10_000, "the first 10,000 of 12,154 rows"),
        ("/gold/fct_few", 812, "all 812 rows"),
        ("/gold/fct_many?symbol=S00003", 2, "all 2 rows"),
        ("/gold/fct_many?symbol=nobody", 0, "no rows"),
    ):
        text = odd.get(path).text
        (json, csv) = re.findall(r'<a href="([^"]*)">(?:JSON|CSV), ' + word + "</a>", text)
        assert len(odd.get(unescape(json)).json()["data"]) == rows
        assert len(odd.get(unescape(csv)).text.splitlines()) == rows + 1


@pytest.mark.slow
def test_every_row_is_reached_by_going_on(odd):
    for table, start in (("fct_few", ""), ("fct_many", "?symbol=S00001"), ("fct_many", "")):
        told = odd.get(f"/v1/gold/{table}?limit=10000{start.replace('?', '&')}").json()["data"]
        shown, path, pages = [], f"/gold/{table}{start}", 0
        while path and pages < 20:
            answer = odd.get(path)
            assert Page(answer.text).faults == []
            shown += [
                tuple(re.sub(r"^\\u202e", "\u202e", one) for one in (r["symbol"], r["date"]))
                for r in cells(Page(answer.text), list(told[0]))
            ]
            heading = re.search(r'<h2 id="rows">(.*?)</h2>', answer.text)[1]
            following = [one["href"] for one in Page(answer.text).all("a") if one.get("rel") == "next"]
            path, pages = (following or [""])[0], pages + 1
            assert bool(path) == (
                f"of {'12,154' if table == 'fct_many' else '812'} rows" in plain(heading) and len(shown) < len(told)
            )
        assert shown == [(r["symbol"], r["date"]) for r in told[: len(shown)]]
        assert len(shown) == min(len(told), 1000)


@pytest.mark.parametrize(
    ("query", "said"), [("after=S00001", "symbol, date"), ("after=S00001&after=x", "write 2024-01-05"), ("symbol=A&symbol=B", "means nothing")]
)  # fmt: skip
def test_where_to_go_on_is_a_whole_key(odd, query, said):
    answer = odd.get(f"/gold/fct_many?{query}")
    assert answer.status_code == 400
    assert said in plain(answer.text)


def test_where_there_are_too_many_symbols_to_list_one_can_be_typed(odd, http):
    text = odd.get("/gold/fct_many?symbol=S06000").text
    page = Page(text)
    (field,) = page.all("input")
    assert (field["name"], field["value"], field["list"]) == ("symbol", "S06000", "symbols")
    assert [one["for"] for one in page.all("label")] == [field["id"]]
    assert page.all("select") == []
    assert len(page.all("option")) == 500
    assert "Close of S06000" in plain(text)
    assert "<svg" in text
    assert Page(http.get("/gold/fct_price").text).all("input") == []


def test_an_empty_text_is_no_null_and_no_character_turns_others_around(odd):
    rows = cells(Page(odd.get("/gold/fct_many").text), ["symbol", "date", "close", "note"])
    assert [one["note"] for one in rows[:6]] == ['""', "null", "to \\u202ekcab", '" "', "<b>\\u0007", "x"]
    for path in (
        "/gold/fct_many",
        "/gold/fct_few",
        "/gold/fct_few?symbol=%E2%80%AE1",
        "/explain/fct_few?symbol=%E2%80%AE1&date=2024-01-01",
    ):
        text = odd.get(path).text
        assert Page(text).faults == []
        shown = re.sub(r'(value|href)="[^"]*"', "", text)
        assert "\u202e" not in shown, shown[shown.index("\u202e") - 80 :][:160]
    assert "<bdi>" in odd.get("/gold/fct_many").text
    assert (
        "<svg" in odd.get("/gold/fct_few", params={"symbol": "\u202e1"}).text
        or "not two closes" in odd.get("/gold/fct_few", params={"symbol": "\u202e1"}).text
    )


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


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@example([5000000000.0, 5000000000.000001])
@example([1e10, 1e10 + 2e-6])
@example([1e17, 1e17])
@example([1e17, 1e17 + 16])
@example([-1.7e308, 1.7e308])
@example([5e-324, 0.0])
@example([1e-9, 3e-9])
@example([0.0, 0.0])
@example([-1.0, -1.0])
@given(st.lists(FINITE, min_size=2, max_size=9))
def test_a_chart_of_any_numbers_has_a_few_true_ticks_around_them(values):
    drawn = charts.chart([(date(2000, 1, 1) + timedelta(days=i), v, repr(v)) for i, v in enumerate(values)])
    ticks = [Decimal(label.replace(",", "")) for _, label in drawn.upward]
    assert 2 <= len(ticks) <= 8
    assert all(one.is_finite() for one in ticks)
    assert all(low < high for low, high in pairwise(ticks))
    assert ticks[0] <= Decimal(min(values))
    assert ticks[-1] >= Decimal(max(values))
    steps = {(high - low) for low, high in pairwise(ticks)}
    assert len(steps) == 1, "a label is the tick itself, not rounded"
    places = [y for y, _ in drawn.upward]
    assert all(low > high for low, high in pairwise(places))
    points = [tuple(map(float, one.split())) for one in drawn.line[1:].split("L")]
    assert all(charts.TOP - 0.1 <= y <= charts.HEIGHT - charts.BOTTOM + 0.1 for _, y in points)
    assert all(drawn.left - 0.1 <= x <= charts.WIDTH - charts.RIGHT + 0.1 for x, _ in points)
    assert drawn.left >= 6 * max(len(label) for _, label in drawn.upward)


def test_a_chart_needs_two_points():
    assert charts.chart([]) is None
    assert charts.chart([(date(2024, 1, 1), 1.0, "1")]) is None
