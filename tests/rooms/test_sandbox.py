"""The sandbox serves real records as the vendor would, and fails as it is told to."""

import csv
import gzip
import hashlib
import http.client
import json
import re
import signal
import subprocess
import sys
import urllib.request
import zipfile
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal

import pytest

from assay.errors import UsageError
from assay.run import demo
from assay.run import lake as lakes
from assay_sandbox import Fault, FaultPlan, Plan, Sandbox, derive, wide
from assay_sandbox.__main__ import overridden
from assay_sandbox.data import ADJUSTED, LIGHT, RATES, RAW, RECORDS
from assay_sandbox.faults import KINDS, LIMIT
from assay_sandbox.server import INVALID_KEY, LEGACY, PREMIUM, RESTRICTED
from tests.conftest import ROOT

OTHERS = {
    "free": Plan(symbols=frozenset({"AAPL"}), restricted=frozenset({"splits"})),
    "expired": Plan(active=False),
    "three": Plan(requests=3),
    "quota": Plan(requests=0, limit_status=403),
    "short": Plan(history_years=1),
}


@pytest.fixture(scope="module")
def served():
    sandbox = Sandbox({"sandbox-key": Plan(requests=10**6), **OTHERS})
    with sandbox.running() as url:
        yield sandbox, url


@pytest.fixture
def sandbox(served):
    sandbox, _ = served
    sandbox.faults.clear()
    sandbox.log.clear()
    return sandbox


@pytest.fixture
def ask(served):
    _, url = served
    return lambda path, key="sandbox-key", **headers: get(url, path, {"apikey": key, **headers})


def get(url, path, headers, method="GET", body=None):
    base = url.removeprefix("http://").removesuffix("/stable")
    connection = http.client.HTTPConnection(base, timeout=60)
    try:
        connection.request(method, path if path.startswith("/") else f"/stable/{path}", body, headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def rows(name):
    stored = (RECORDS / name).read_bytes()
    text = (gzip.decompress(stored) if name.endswith(".gz") else stored).decode()
    return list(csv.DictReader(text.splitlines()))


def exact(body):
    return json.loads(body, parse_float=str, parse_int=str)


# Records


def test_every_record_file_is_the_one_whose_provenance_is_told():
    told = dict(re.findall(r"\| `([\w.]+)` \| `([0-9a-f]{64})` \|", (RECORDS / "PROVENANCE.md").read_text()))
    files = {file.name for file in RECORDS.iterdir()} - {"PROVENANCE.md"}
    assert files == {"prices.csv.gz", "splits.csv", "dividends.csv", "symbols.csv.gz", "treasury_rates.csv.gz"}
    assert {name: hashlib.sha256((RECORDS / name).read_bytes()).hexdigest() for name in files}.items() <= told.items()


def test_splits_and_dividends_follow_from_the_adjusted_close():
    prices = rows("prices.csv.gz")
    found = list(derive.actions(prices))
    splits = [[s, d, str(value), "1"] for kind, s, d, value in found if kind == "split"]
    dividends = [[s, d, str(value)] for kind, s, d, value in found if kind == "dividend"]
    assert splits == [list(row.values()) for row in rows("splits.csv")]
    assert dividends == [list(row.values()) for row in rows("dividends.csv")]
    assert [row[:2] for row in splits] == [["AAPL", "2000-06-21"], ["AAPL", "2005-02-28"], ["MSFT", "2003-02-18"]]
    assert len(dividends) == 92
    assert ["MSFT", "2004-11-15", "3.08"] in dividends  # its special dividend of $3 and the quarter's 8 cents


def test_the_derived_actions_explain_every_step_of_the_adjusted_close():
    actions = {(symbol, day): (kind, value) for kind, symbol, day, value in derive.actions(rows("prices.csv.gz"))}
    before = None
    for row in rows("prices.csv.gz"):
        if before and before["symbol"] == row["symbol"]:
            kind, value = actions.get((row["symbol"], row["date"]), ("none", Decimal(1)))
            close = Decimal(row["close"])
            factor = (close + value) / close if kind == "dividend" else value
            step = Decimal(row["adj_close"]) / close / (Decimal(before["adj_close"]) / Decimal(before["close"]))
            assert abs(step - factor) < Decimal("2e-5"), row
        before = row


def test_the_derivation_writes_the_shipped_files(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    renamed = [[row[name] for name in derive.PRICES[:-1]] + [row["adj_close"]] for row in rows("prices.csv.gz")]
    header = ["Ticker", "Date", "Open", "High", "Low", "Close", "Volume", "Adj Close"]
    derive.write(tmp_path / "stocks.csv.gz", header, renamed)
    listed = rows("symbols.csv.gz")
    columns = {"ticker": [r["symbol"] for r in listed], "name": [r["companyName"] for r in listed]}
    pq.write_table(pyarrow.table(columns), tmp_path / "companies.parquet")
    with (tmp_path / "curves.csv").open("w", newline="") as file:
        out = csv.writer(file)
        names = [
            "month1",
            "month3",
            "month6",
            "year1",
            "year2",
            "year3",
            "year5",
            "year7",
            "year10",
            "year20",
            "year30",
        ]
        out.writerow(["Time Period", *(f"{n.lstrip('monthyear')}{n.rstrip('0123456789')}" for n in names)])
        for row in rows("treasury_rates.csv.gz"):
            fractions = [str(Decimal(row[name]) / 100) if row[name] else "" for name in names]
            out.writerow([f"{row['date']} 00:00:00+00:00", *fractions])
    (tmp_path / "out").mkdir()
    command = [sys.executable, "-m", "assay_sandbox.derive", "stocks.csv.gz", "companies.parquet", "curves.csv", "out"]
    subprocess.run(command, cwd=tmp_path, check=True)
    for file in (tmp_path / "out").iterdir():
        opened = gzip.decompress if file.suffix == ".gz" else bytes
        assert opened(file.read_bytes()) == opened((RECORDS / file.name).read_bytes()), file.name
    assert len(list((tmp_path / "out").iterdir())) == 5


def test_the_rates_have_just_the_gaps_that_are_told():
    days = rows("treasury_rates.csv.gz")
    lacks = {name: [row["date"] for row in days if not row[name]] for name in derive.CURVE}
    assert {name: (len(found), found[0], found[-1]) for name, found in lacks.items() if found} == {
        "month1": (2899, "1990-01-02", "2001-07-30"),
        "month2": (6816, "1990-01-02", "2017-03-29"),
        "year20": (939, "1990-01-02", "1993-09-30"),
        "year30": (994, "2002-02-19", "2006-02-08"),
    }


# Answers


@pytest.mark.parametrize("symbol", ["AAPL", "IBM", "MSFT", "GOOG", "FB"])
def test_prices_keep_the_spelling_of_the_source(sandbox, ask, symbol):
    source = [row for row in rows("prices.csv.gz") if row["symbol"] == symbol][::-1]
    _, _, raw = ask(f"{RAW}?symbol={symbol}&from=2000-01-01")
    _, _, adjusted = ask(f"{ADJUSTED}?symbol={symbol}&from=2000-01-01")
    raw, adjusted = exact(raw), exact(adjusted)
    assert list(raw[0]) == list(adjusted[0]) == ["symbol", "date", "adjOpen", "adjHigh", "adjLow", "adjClose", "volume"]
    names = ("symbol", "date", "open", "high", "low", "close", "volume")
    assert [list(row.values()) for row in raw] == [[row[name] for name in names] for row in source]
    assert [row["adjClose"] for row in adjusted] == [row["adj_close"] for row in source]
    for row, own in zip(adjusted, source, strict=True):
        ratio = Decimal(own["adj_close"]) / Decimal(own["close"])
        assert abs(Decimal(row["adjOpen"]) - Decimal(own["open"]) * ratio) < Decimal("1e-9")
        ordered = [Decimal(row[name]) for name in ("adjLow", "adjClose", "adjHigh")]
        assert ordered == sorted(ordered) or Decimal(own["low"]) > Decimal(own["close"])


def test_from_and_to_are_inclusive_and_the_newest_comes_first(sandbox, ask):
    _, _, body = ask(f"{RAW}?symbol=AAPL&from=2013-02-26&to=2013-02-28")
    assert [row["date"] for row in json.loads(body)] == ["2013-02-28", "2013-02-27", "2013-02-26"]


def test_without_from_the_answer_reaches_five_years_back(sandbox, ask):
    days = [row["date"] for row in json.loads(ask(f"{RAW}?symbol=IBM")[2])]
    assert (days[-1], days[0]) == ("2008-03-03", "2013-03-01")


def test_a_plan_silently_leaves_older_history_out(sandbox, ask):
    days = [row["date"] for row in json.loads(ask(f"{RAW}?symbol=IBM&from=2000-01-01", key="short")[2])]
    assert days[-1] == "2012-03-01"


def test_the_present_day_ends_the_prices():
    with Sandbox(today=date(2005, 1, 5)).running() as url:
        body = get(url, f"{RAW}?symbol=IBM&from=2005-01-01", {"apikey": "sandbox-key"})[2]
    assert [row["date"] for row in json.loads(body)] == ["2005-01-05", "2005-01-04", "2005-01-03"]


def test_lists_are_served_whole_and_unknown_symbols_silently_empty(sandbox, ask):
    assert json.loads(ask("splits?symbol=AAPL")[2])[1] == {
        "symbol": "AAPL",
        "date": "2000-06-21",
        "numerator": 2,
        "denominator": 1,
        "splitType": None,
    }
    paid = exact(ask("dividends?symbol=MSFT&limit=2")[2])
    assert [(row["date"], row["dividend"], row["declarationDate"]) for row in paid] == [
        ("2013-02-19", "0.23", ""),
        ("2012-11-13", "0.23", ""),
    ]
    listed = json.loads(ask("stock-list")[2])
    assert len(listed) == 10365
    assert {"symbol": "AAPL", "companyName": "Apple Inc."} in listed
    for path in (RAW, ADJUSTED, "splits", "dividends"):
        assert ask(f"{path}?symbol=NOSUCH")[::2] == (200, b"[]")


def test_rates_are_of_no_symbol_and_of_the_days_asked_for(sandbox, ask):
    first, *_, last = exact(ask(f"{RATES}?from=2001-12-26&to=2001-12-28")[2])
    assert (first["date"], last["date"]) == ("2001-12-28", "2001-12-26")
    assert list(last) == ["date", *derive.CURVE]
    assert (last["month1"], last["month2"], last["year10"], last["year30"]) == ("1.77", None, "5.22", "5.52")
    assert ask(f"{RATES}?from=tomorrow")[0] == 400
    sandbox.records.override("", "2001-12-27", "year10", "6.66")
    assert exact(ask(f"{RATES}?from=2001-12-27&to=2001-12-27")[2])[0]["year10"] == "6.66"


def wheel(path):
    """A file like the one that users fetch, with other numbers."""
    tables = {
        wide.CLOSES: "Date,IBM,XOM,NEW\n2013-02-28,1.5,2.50,\n2013-03-04,1.25,2.625,0.264\n",
        wide.INDEX_CLOSES: "Date,SP500\n2013-02-28,1514.68\n2013-03-04,1525.2\n",
    }
    with zipfile.ZipFile(path, "w") as file:
        for name, text in tables.items():
            file.writestr(name, gzip.compress(text.encode()))
    return path


def test_a_fetched_file_widens_what_is_served_and_says_nothing_it_does_not_have(tmp_path):
    key = {"apikey": "sandbox-key"}
    with Sandbox(wheel=wheel(tmp_path / "a.whl")).running() as url:
        [new] = exact(get(url, f"{ADJUSTED}?symbol=NEW", key)[2])
        exxon = exact(get(url, f"{ADJUSTED}?symbol=XOM&from=2013-01-01&to=2013-03-01", key)[2])
        ibm = exact(get(url, f"{ADJUSTED}?symbol=IBM&from=2013-02-28", key)[2])
        index = exact(get(url, f"{LIGHT}?symbol=%5EGSPC", key)[2])
        assert get(url, f"{RAW}?symbol=XOM", key)[2] == get(url, f"{LIGHT}?symbol=XOM", key)[2] == b"[]"
    unsaid = dict.fromkeys(("adjOpen", "adjHigh", "adjLow"))
    assert new == {"symbol": "NEW", "date": "2013-03-04", **unsaid, "adjClose": "0.264", "volume": None}
    assert exxon == [{"symbol": "XOM", "date": "2013-02-28", **unsaid, "adjClose": "2.50", "volume": None}]
    assert [row["date"] for row in ibm] == ["2013-03-01", "2013-02-28"], "whom we know stays as we know them"
    assert [(row["symbol"], row["date"], row["price"], row["volume"]) for row in index] == [
        ("^GSPC", "2013-03-04", "1525.2", None),
        ("^GSPC", "2013-02-28", "1514.68", None),
    ]


def test_a_split_leaves_what_is_not_known_unknown(tmp_path):
    sandbox = Sandbox(wheel=wheel(tmp_path / "a.whl"))
    sandbox.records.split("XOM", "2013-03-04", 2, 1)
    found = [exact(text) for _, text in sandbox.records.rows(ADJUSTED, "XOM")]
    assert [(row["adjClose"], row["adjOpen"]) for row in found] == [("2.625", None), ("1.25", None)]


def test_another_file_than_the_one_described_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a.whl is not skfolio-1.12.2-py3-none-any.whl .*`pip download"):
        wide.checked(wheel(tmp_path / "a.whl"))
    with pytest.raises(ValueError, match=r"b.whl cannot be read \(No such file or directory\); get it by `pip"):
        wide.checked(tmp_path / "b.whl")
    locked = re.findall(r"skfolio==(\S+) \\\n +--hash=sha256:(\w+)", (ROOT / "requirements/wide.txt").read_text())
    assert locked == [(wide.NAME.split("-")[1], wide.SHA256)]
    assert wide.NAME in (ROOT / "scripts/demo").read_text()


def test_a_lake_that_was_made_otherwise_is_not_shown(tmp_path):
    for given, made, words in (
        (None, "wide", "made with --wide: say --wide WHEEL again"),
        (tmp_path, "markets", "made without --wide: choose another"),
    ):
        root = lakes.init(tmp_path / made, *demo.example_lakes(made))
        with pytest.raises(UsageError, match=words), demo.shown(root, "dev", "local", 0, 0, (), print, given):
            pytest.fail("shown")


def test_answers_look_like_the_vendors(sandbox, ask):
    status, headers, body = ask(f"{RAW}?symbol=AAPL&from=2013-03-01")
    assert status == 200
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    assert re.fullmatch(r'W/"[0-9a-f]+-[0-9a-f]{27}"', headers["ETag"])
    assert body.startswith(b'[\n  {\n    "symbol": "AAPL",\n    "date": "2013-03-01",\n    "adjOpen": 438.0,\n')
    _, headers, packed = ask("stock-list", **{"Accept-Encoding": "gzip"})
    assert headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed) == ask("stock-list")[2]


def test_the_key_may_stand_in_the_query_and_is_never_in_the_log(sandbox, served):
    assert get(served[1], "splits?symbol=AAPL&apikey=sandbox-key", {})[0] == 200
    log = get(served[1], "/_sandbox/log", {})[2]
    assert b"sandbox-key" not in log
    assert [(one["path"], one["query"], one["status"]) for one in json.loads(log)] == [
        ("splits", {"symbol": "AAPL"}, 200)
    ]


# Refusals


def message(text):
    return json.dumps({"Error Message": text}, indent=2).encode()


@pytest.mark.parametrize(
    ("path", "key", "status", "kind", "body"),
    [
        ("splits?symbol=AAPL", "nobody", 401, "application/json", message(INVALID_KEY)),
        ("splits?symbol=AAPL", "", 401, "application/json", message(INVALID_KEY)),
        ("splits?symbol=AAPL", "expired", 401, "application/json", message(INVALID_KEY)),
        ("splits?symbol=AAPL", "free", 402, "text/plain", RESTRICTED.encode()),
        ("dividends?symbol=IBM", "free", 402, "text/plain", PREMIUM.encode()),
        ("splits?symbol=AAPL", "quota", 403, "application/json", message(LIMIT)),
        ("/api/v3/historical-price-full/AAPL", "sandbox-key", 403, "application/json", message(LEGACY)),
        ("no-such-path", "sandbox-key", 404, "application/json", b"[]"),
        (RAW, "sandbox-key", 400, "application/json", None),
        (f"{RAW}?symbol=IBM&from=yesterday", "sandbox-key", 400, "application/json", None),
    ],
)
def test_every_refusal_has_the_vendors_words(sandbox, ask, path, key, status, kind, body):
    answered, headers, came = ask(path, key)
    assert (answered, headers.get_content_type()) == (status, kind)
    assert came == body or (body is None and b'"Error Message"' in came)


def test_each_key_has_its_own_sliding_window(sandbox, ask):
    assert [ask("splits?symbol=AAPL", "three")[0] for _ in range(5)] == [200, 200, 200, 429, 429]
    assert ask("splits?symbol=AAPL")[0] == 200


# Faults


def test_a_scripted_fault_hits_the_requests_it_names_and_no_other(sandbox, ask):
    sandbox.faults.add(Fault("html", path="spl*", symbol="AAPL", nth=2, times=2))
    assert [ask("splits?symbol=AAPL")[0] for _ in range(4)] == [200, 502, 502, 200]
    assert ask("splits?symbol=IBM")[0] == ask("dividends?symbol=AAPL")[0] == 200
    assert [one.fault for one in sandbox.log] == [None, "html", "html", None, None, None]


@pytest.mark.parametrize(
    ("kind", "params", "expected"),
    [
        ("limit", {}, (429, message(LIMIT))),
        ("limit", {"status": 403}, (403, message(LIMIT))),
        ("error", {"text": "No."}, (200, message("No."))),
        ("plain", {}, (200, PREMIUM.encode())),
        ("empty", {}, (200, b"")),
        ("garbage", {"body": b"\xff"}, (200, b"\xff")),
        ("redirect", {"location": "https://example.org/"}, (302, b"")),
        ("stranger", {"symbol": "ZZ"}, (200, b"[]")),
    ],
)
def test_faults_that_answer_something_else(sandbox, ask, kind, params, expected):
    sandbox.faults.add(Fault(kind, params=params))
    assert ask("splits?symbol=AAPL")[::2] == expected


def test_faults_that_answer_with_too_little_or_too_much(sandbox, ask):
    path = f"{RAW}?symbol=AAPL&from=2013-01-01&to=2013-02-28"
    whole = ask(path)[2]
    sandbox.faults.add(Fault("capped", params={"rows": 7}))
    assert json.loads(ask(path)[2]) == json.loads(whole)[:7]
    sandbox.faults.add(Fault("unfiltered"))
    assert len(json.loads(ask(path)[2])) == 3270
    sandbox.faults.add(Fault("truncated"))
    assert ask(path)[2] == whole[: len(whole) // 2]
    sandbox.faults.add(Fault("bomb", params={"megabytes": 3}))
    assert len(gzip.decompress(ask(path, **{"Accept-Encoding": "gzip"})[2])) == 3 << 20


@pytest.mark.parametrize("kind", ["latency", "drip"])
def test_faults_that_only_take_their_time(sandbox, ask, kind):
    whole = ask("dividends?symbol=IBM")[2]
    sandbox.faults.add(Fault(kind, params={"seconds": 0.001}))
    assert ask("dividends?symbol=IBM")[2] == whole
    assert sandbox.log[-1].fault == kind


@pytest.mark.parametrize(("kind", "error"), [("reset", ConnectionResetError), ("cut", http.client.IncompleteRead)])
def test_faults_that_break_the_connection(sandbox, ask, kind, error):
    sandbox.faults.add(Fault(kind))
    with pytest.raises((error, http.client.IncompleteRead)):
        ask("stock-list")
    assert ask("stock-list")[0] == 200


def test_a_retry_wish_is_sent_only_if_scripted(sandbox, ask):
    sandbox.faults.add(Fault("limit", params={"retry_after": 2}))
    sandbox.faults.add(Fault("limit", nth=2))
    assert [ask("splits?symbol=AAPL")[1]["Retry-After"] for _ in range(2)] == ["2", None]


def test_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match="no kind of fault"):
        Fault("gremlins")


def test_a_seed_fails_alike_however_requests_interleave():
    asked = [("splits", {"symbol": f"S{n % 50}"}) for n in range(2000)]

    def run(order):
        plan = FaultPlan.seeded(7, 0.2)
        drawn = {}
        for path, query in order:
            fault = plan.due(path, query)
            drawn.setdefault(query["symbol"], []).append(fault and fault.kind)
        return drawn

    one, other = run(asked), run(sorted(asked, key=lambda item: item[1]["symbol"]))
    assert one == other
    kinds = [kind for drawn in one.values() for kind in drawn if kind]
    assert 300 < len(kinds) < 500
    assert set(kinds) <= set(KINDS)
    assert len(set(kinds)) == 10
    assert one != {name: [None] * len(drawn) for name, drawn in one.items()}


def test_many_clients_at_once_are_all_served(sandbox, ask):
    with ThreadPoolExecutor(8) as pool:
        assert {status for status, _, _ in pool.map(lambda _: ask("splits?symbol=AAPL"), range(64))} == {200}
    assert len(sandbox.log) == 64


# Changed records


def test_an_override_replaces_one_token_and_nothing_else():
    day = f"{RAW}?symbol=AAPL&from=2013-02-28&to=2013-02-28"
    adjusted = f"{ADJUSTED}?symbol=AAPL&from=2013-02-28&to=2013-02-28"
    changed = Sandbox(
        overrides={
            ("AAPL", "2013-02-28"): {"close": "-1.50", "adjLow": "null", "volume": '"many"'},
            ("AAPL", "2013-02-27"): {"*": "17"},
            ("AAPL", ""): {"companyName": '"caf\udce9"'},
        }
    )
    with Sandbox().running() as url, changed.running() as other:
        key = {"apikey": "sandbox-key"}
        before, after = get(url, day, key)[2], get(other, day, key)[2]
        assert after == before.replace(b'441.4,\n    "adjClose": 441.4', b'441.4,\n    "adjClose": -1.50').replace(
            b"11518400", b'"many"'
        )
        before, after = exact(get(url, adjusted, key)[2]), exact(get(other, adjusted, key)[2])
        assert after == [{**before[0], "adjLow": None, "volume": "many"}]
        assert get(other, f"{RAW}?symbol=AAPL&from=2013-02-27&to=2013-02-27", key)[2] == b"[\n  17\n]"
        assert b'"companyName": "caf\xe9"' in get(other, "stock-list", key)[2]


@pytest.mark.parametrize(
    "where", [("AAPL", "2013-02-28", "colour"), ("AAPL", "1999-01-01", "close"), ("NOSUCH", "", "symbol")]
)
def test_an_override_of_nothing_is_refused(where):
    symbol, day, name = where
    with pytest.raises(ValueError, match="no record"):
        Sandbox(overrides={(symbol, day): {name: "1"}})


def test_a_split_rewrites_the_adjusted_past_and_leaves_the_raw_prices():
    sandbox = Sandbox()
    before = sandbox.records.rows(RAW, "IBM")
    old = [exact(text) for _, text in sandbox.records.rows(ADJUSTED, "IBM")]
    sandbox.records.split("IBM", "2010-05-03", 4, 1)
    assert sandbox.records.rows(RAW, "IBM") == before
    assert [json.loads(text)["date"] for _, text in sandbox.records.rows("splits", "IBM")] == ["2010-05-03"]
    for was, text in zip(old, (text for _, text in sandbox.records.rows(ADJUSTED, "IBM")), strict=True):
        now = exact(text)
        ratio = 4 if was["date"] < "2010-05-03" else 1
        for name in ("adjOpen", "adjHigh", "adjLow", "adjClose"):
            assert abs(Decimal(now[name]) * ratio - Decimal(was[name])) < Decimal("1e-14")
        assert now["volume"] == was["volume"]
    paid = {row["date"]: row for row in (exact(text) for _, text in sandbox.records.rows("dividends", "IBM"))}
    assert (paid["2010-02-08"]["adjDividend"], paid["2010-02-08"]["dividend"]) == ("0.1375", "0.55")
    assert paid["2010-05-06"]["adjDividend"] == "0.65"


# The control surface and the command


def test_the_control_surface_changes_what_is_served():
    with Sandbox().running() as url:

        def post(name, **said):
            return get(url, f"/_sandbox/{name}", {"Content-Type": "application/json"}, "POST", json.dumps(said))[0]

        key = {"apikey": "sandbox-key"}
        assert post("faults", kind="empty", path="splits") == 200
        assert get(url, "splits?symbol=IBM", key)[2] == b""
        assert post("faults", kind="html", times=None) == 200
        assert get(url, "/_sandbox/faults", {}, "DELETE")[0] == 200
        assert post("split", symbol="IBM", date="2010-05-03", numerator=2, denominator=1) == 200
        assert post("override", symbol="IBM", date="2010-05-03", field="numerator", token="3.0")
        assert exact(get(url, "splits?symbol=IBM", key)[2])[0]["numerator"] == "3.0"
        assert post("faults", kind="gremlins") == post("override", symbol="IBM") == post("faults", colour=1) == 400


def test_a_page_in_a_browser_cannot_reach_the_control_surface(sandbox, served):
    for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        assert get(served[1], "/_sandbox/faults", headers, "POST", '{"kind": "html"}')[0] == 403
        assert get(served[1], "/_sandbox/log", headers)[0] == 403
    assert get(served[1], "/stable/_sandbox/log", {"apikey": "sandbox-key"})[0] == 404


def command(*arguments):
    return [sys.executable, "-W", "error", "-m", "assay_sandbox", *arguments]


@pytest.mark.parametrize("ends", [signal.SIGTERM, signal.SIGINT])
def test_the_command_prints_its_address_serves_and_ends_cleanly(ends):
    override = "AAPL:2005-02-28:numerator=7"
    started = subprocess.Popen(
        command("--override", override), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        url = started.stdout.readline().strip()
        asked = urllib.request.Request(f"{url}/splits?symbol=AAPL", headers={"apikey": "sandbox-key"})
        with urllib.request.urlopen(asked, timeout=60) as answer:
            assert json.load(answer)[0]["numerator"] == 7
        assert started.stdout.readline() == "accepts the key sandbox-key (export FMP_API_KEY=sandbox-key)\n"
    finally:
        started.send_signal(ends)
        out, err = started.communicate(timeout=60)
    assert (started.returncode, out, err) == (0, "", "")


def test_the_command_tells_each_key_it_accepts():
    started = subprocess.Popen(command("--key", "one", "--key", "two"), stdout=subprocess.PIPE, text=True)
    with started:
        said = [started.stdout.readline() for _ in range(3)]
        started.send_signal(signal.SIGTERM)
    assert said[1:] == [f"accepts the key {key} (export FMP_API_KEY={key})\n" for key in ("one", "two")]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("AAPL=1", r"'AAPL=1' is not SYMBOL:DATE:FIELD=TOKEN, such as AAPL:2005-02-28:close=50$"),
        ("AAPL:2005-02-28:close", r"is not SYMBOL:DATE:FIELD=TOKEN"),
        ("AAPL:2005:02:close=1", r"is not SYMBOL:DATE:FIELD=TOKEN"),
        ("APPL:2005-02-28:close=1", r"no record of APPL: there are AAPL, FB, GOOG, IBM, MSFT$"),
        (
            "AAPL:28.2.2005:close=1",
            r"no record of AAPL on 28\.2\.2005: days are 2000-03-01 to 2013-03-01, as YYYY-MM-DD",
        ),
        ("AAPL:2005-02-27:close=1", r"no record of AAPL on 2005-02-27: .* the nearest is 2005-02-28$"),
        ("AAPL:1990-01-01:close=1", r"no record of AAPL on 1990-01-01: .* the nearest is 2000-03-01$"),
        (
            "AAPL:2005-02-28:colour=1",
            r"no record of AAPL on 2005-02-28 has a field colour: there are .*\bclose, .*numerator",
        ),
        ("AAPL::close=1", r"no record of AAPL on the stock list has a field close: there are companyName, symbol$"),
        ("NOSUCH::symbol=1", r"no record of NOSUCH on the stock list$"),
    ],
)
def test_an_override_of_nothing_says_what_is_wrong_and_what_there_is(served, wrong, words):
    def override():
        for (symbol, day), fields in overridden([wrong]).items():
            served[0].records.override(symbol, day, *next(iter(fields.items())))

    with pytest.raises(ValueError, match=words):
        override()


def test_overrides_are_read_token_for_token():
    read = overridden(["AAPL:2013-02-28:close=1=2", "AAPL:2013-02-28:volume=", "IBM::companyName=a:b"])
    assert read == {
        ("AAPL", "2013-02-28"): {"close": "1=2", "volume": ""},
        ("IBM", ""): {"companyName": "a:b"},
    }


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["--override", "AAPL=1"], "'AAPL=1' is not SYMBOL:DATE:FIELD=TOKEN"),
        (["--override", "AAPL:1990-01-01:close=1"], "no record of AAPL on 1990-01-01"),
        (["--limit", "many"], "--limit 'many' is not REQUESTS/SECONDS, such as 750/60"),
        (["--today", "now"], "--today"),
    ],
)
def test_the_command_refuses_what_it_does_not_understand_in_one_line(wrong, words):
    done = subprocess.run(command(*wrong), check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr.splitlines()[-1]


def test_help_names_the_key_and_the_form_of_an_override():
    done = subprocess.run(command("--help"), check=True, capture_output=True, text=True, timeout=60)
    assert "sandbox-key" in done.stdout
    assert "SYMBOL:DATE:FIELD=TOKEN" in done.stdout


def test_a_port_in_use_is_an_error_of_the_caller():
    with Sandbox().running() as url:
        port = url.split(":")[2].split("/")[0]
        with pytest.raises(OSError, match="address"), Sandbox(port=int(port)).running():
            pytest.fail("two servers on one port")
        done = subprocess.run(command("--port", port), check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"cannot listen on port {port}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_who_starts_it_gets_its_address_or_hears_why_not():
    with demo.vendor(command()) as hello:
        asked = urllib.request.Request(f"{hello}/splits?symbol=AAPL", headers={"apikey": "sandbox-key"})
        with urllib.request.urlopen(asked, timeout=60) as answer:
            assert answer.status == 200
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(asked, timeout=60)
    with pytest.raises(UsageError, match=r"^the sandbox did not start: 'AAPL=1' is not SYMBOL:DATE:FIELD=TOKEN"):
        demo.vendor(command("--override", "AAPL=1")).__enter__()
    with (
        Sandbox().running() as url,
        pytest.raises(UsageError, match=r"cannot listen on port \d+ \(Address .* in use\)"),
    ):
        demo.vendor(command("--port", url.split(":")[2].split("/")[0])).__enter__()
    with pytest.raises(UsageError, match=r"^the sandbox did not start: it ended with code 7$"):
        demo.vendor([sys.executable, "-c", "raise SystemExit(7)"]).__enter__()


def test_numbers_no_float_could_hold_are_served_as_the_file_spells_them(tmp_path):
    for file in RECORDS.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    spelt = [
        "118.5600",
        "0.1000000000000000055511",
        "1E+2",
        "130.310",
        "12345678901234567890",
        "4.18666280381100000001",
    ]
    derive.write(tmp_path / "prices.csv.gz", derive.PRICES, [["XX", "2001-02-03", *spelt]])
    with Sandbox(records_dir=tmp_path).running() as url:
        key = {"apikey": "sandbox-key"}
        [raw] = exact(get(url, f"{RAW}?symbol=XX", key)[2])
        [adjusted] = exact(get(url, f"{ADJUSTED}?symbol=XX", key)[2])
    assert list(raw.values()) == ["XX", "2001-02-03", *spelt[:5]]
    assert (adjusted["adjClose"], adjusted["volume"]) == (spelt[5], spelt[4])
