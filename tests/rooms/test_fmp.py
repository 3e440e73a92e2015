"""FMP's answers become records token for token, and whatever is not the whole truth becomes an error."""

import asyncio
import json
import os
import re
from contextlib import contextmanager
from datetime import UTC, date, datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from assay.errors import ContractError, KeyRefused, SettingsError, SourceBusy, SourceRefused, SourceSuspect
from assay.land import source as sources
from assay.land.http import Answer, Throttled
from assay.land.source import Ask, SourceSettings
from assay.land.sources import fmp
from assay.windows import Window
from assay_sandbox import Fault, FaultPlan, Plan, Sandbox
from assay_sandbox.server import INVALID_KEY, LEGACY

RAW = {
    "path": "historical-price-eod/non-split-adjusted",
    "shard_param": "symbol",
    "date_field": "date",
    "from_to": True,
}
SPLITS = {"path": "splits", "shard_param": "symbol", "date_field": "date", "empty": "meaningful"}
WHOLE = Window(date(2000, 3, 1), date(2013, 3, 2))
TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[^\s"\[\]{},:]+|[\[\]{},:]', re.DOTALL)


class Keys(dict):
    """Secrets from a dictionary."""

    def get(self, name):
        return self[name]


@pytest.fixture(scope="module")
def served():
    plans = {
        "key": Plan(requests=10**6),
        "expired": Plan(active=False),
        "free": Plan(requests=10**6, symbols=frozenset({"AAPL"}), restricted=frozenset({"splits"})),
        "quota": Plan(requests=0, limit_status=403),
    }
    sandbox = Sandbox(plans)
    with sandbox.running() as url:
        yield sandbox, url


@pytest.fixture
def sandbox(served):
    served[0].faults.clear()
    served[0].log.clear()
    return served[0]


@pytest.fixture
def fetch(sandbox, served):
    def work(options, shard="AAPL", window=WHOLE, key="key", attempts=2):
        return pages(served[1], [Ask("prices", options, shard, window)], key, attempts)[0]

    return work


def pages(url, asks, key="key", attempts=2):
    """Each ask's one page, all asked at once."""
    settings = SourceSettings(
        url,
        "sandbox",
        allow_private=True,
        requests=10**6,
        per=0.01,
        options={"attempts": attempts, "backoff": 0, "timeout": 60},
    )
    source = sources.load("fmp")

    async def one(ask, remote):
        [page] = [page async for page in source.fetch(ask, remote)]
        return page

    async def work():
        async with source.connect(Keys(FMP_API_KEY=key), settings) as remote:
            return await asyncio.gather(*(one(ask, remote) for ask in asks))

    return asyncio.run(work())


def judged(body, status=200):
    return found(body, status).records


def found(body, status=200, *fields):
    return fmp.judge(Answer(status, {}, body, datetime.now(UTC), "http://x/stable/splits", {}), *fields)


# Records


def test_a_window_becomes_one_request_and_every_record_keeps_its_tokens(sandbox, fetch):
    page = fetch(RAW)
    assert len(page.records) == page.request.rows == 3270
    stored = [text.encode() for _, text in sandbox.records.rows(RAW["path"], "AAPL")]
    assert [TOKEN.findall(record) for record in page.records] == [TOKEN.findall(text) for text in stored]
    assert page.records[0] == (
        b'{"symbol":"AAPL","date":"2013-03-01","adjOpen":438.0,"adjHigh":438.1799,"adjLow":429.98,'
        b'"adjClose":430.47,"volume":19730300}'
    )
    body = b"[\n" + b",\n".join(stored) + b"\n]"
    assert (page.request.bytes, page.request.sha256) == (len(body), sources.sha256_of(page.records))
    assert page.request.span == ("2000-03-01", "2013-03-01")
    assert page.request.params == {"symbol": "AAPL", "from": "2000-03-01", "to": "2013-03-01"}
    assert page.request.url.endswith("/stable/historical-price-eod/non-split-adjusted")
    assert [(one.path, one.query) for one in sandbox.log] == [(RAW["path"], page.request.params)]


def test_datasets_without_a_window_or_a_shard(fetch):
    page = fetch(SPLITS, window=None)
    assert (page.request.params, page.request.span) == ({"symbol": "AAPL"}, ("2000-06-21", "2005-02-28"))
    page = fetch({**SPLITS, "path": "dividends", "params": {"limit": 3}}, "IBM", window=None)
    assert (page.request.params, page.request.rows) == ({"limit": "3", "symbol": "IBM"}, 3)
    page = fetch({"path": "stock-list"}, "all", window=None)
    assert (page.request.params, page.request.rows, page.request.span) == ({}, 10365, None)


spaces = st.sampled_from(["", " ", "\n  ", "\r\n\t"])
pieces = [*"aé€😀 ,:{}[]/", r"\"", r"\\", r"\/", r"\n", r"\u00e9", r"\ud83d\ude00", r"\ud83d", r"\uDEAD", r"\\ud83d"]
strings = st.lists(st.sampled_from(pieces), max_size=8).map(lambda drawn: '"' + "".join(drawn) + '"')
numbers = st.from_regex(r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?", fullmatch=True)
leaves = st.one_of(strings, numbers, st.sampled_from(["true", "false", "null"]))


def arrays(inner):
    items = st.lists(st.tuples(spaces, inner, spaces).map("".join), max_size=4)
    return st.tuples(items, spaces).map(lambda drawn: "[" + (",".join(drawn[0]) or drawn[1]) + "]")


def objects(inner):
    items = st.lists(st.tuples(spaces, strings, spaces, st.just(":"), spaces, inner, spaces).map("".join), max_size=4)
    return st.tuples(items, spaces).map(lambda drawn: "{" + (",".join(drawn[0]) or drawn[1]) + "}")


values = st.recursive(leaves, lambda inner: arrays(inner) | objects(inner), max_leaves=12)


@given(arrays(values))
@example('[ {"a" : 1.50, "b":1e5, "a":-0 , "d":"\\u00E9\\/"} ]')
@settings(max_examples=int(os.environ.get("EXAMPLES", "300")), deadline=None)
def test_no_token_changes_and_only_whitespace_goes(text):
    body = text.replace("€", "\udcff").encode("utf-8", "surrogateescape")  # and bytes that are no text
    records = judged(body)
    assert TOKEN.findall(b"[" + b",".join(records) + b"]") == TOKEN.findall(body)
    assert all(TOKEN.sub(b"", record) == b"" for record in records)
    assert len(records) == len(json.loads(body.decode("utf-8", "replace")))


flat = st.lists(
    st.lists(st.tuples(spaces, strings, spaces, st.just(":"), spaces, leaves, spaces).map("".join), max_size=4).map(
        lambda drawn: "{" + ",".join(drawn) + "}"
    ),
    max_size=5,
)
lists = arrays(values) | st.tuples(flat, spaces).map(lambda drawn: "[" + ("," + drawn[1]).join(drawn[0]) + "]")
fields = {"symbol": ['"AAPL"', '"x"', "17", '"}"', '"{"', r'"\\ud83d"'], "date": ['"2012-01-03"', "null", r'"\"},"']}
known = st.sampled_from(
    ["{" + f'"symbol":{a},"date":{b}' + "}" for a in fields["symbol"] for b in fields["date"]]
    + ["{}", '{"date":"2012-01-30"}', '{"symbol":"AAPL","symbol":"x"}', '{"x":{}}', '{"x":[]}', "17"]
)
rows_of = st.lists(known, max_size=6).map(lambda drawn: "[" + ", ".join(drawn) + "]")


@pytest.mark.slow
@given(lists | rows_of)
@example('[{"a":"}"},{"b":"},"}]')
@example('[{"a":"},{"},{}]')
@example('[{"a":"x\n},{y"}, 17]')
@example("[{},{}]")
@example("[]")
@settings(max_examples=600, deadline=None)
def test_the_short_way_gives_what_the_plain_way_gives(text):
    body = text.replace("€", "\udcff").encode("utf-8", "surrogateescape")
    short = fmp._flat(body, "date", "symbol")
    if short is None:
        return
    answer = Answer(200, {}, body, datetime.now(UTC), "http://x/stable/splits", {})
    records = fmp._records(answer)
    joined = b"[" + b",".join(records) + b"]"
    assert short == (records, joined, fmp._peek(joined, records, "date", "symbol"))


@pytest.mark.parametrize(
    ("body", "short"),
    [
        (b'[ {"a" : 1.50, "d":"\\u00E9"},\n {"a":"]}"} ]', True),
        (b'[{"a":"{"}]', False),
        (b'[{"a":"["}]', False),
        (b'[{"a":{}}]', False),
        (b'[{"date":17}]', False),
        (b"[{},1]", False),
        (b"[]", False),
        (b'[{"a":"\\ud83d"}]', False),
        (b'[{"a":1}', False),
    ],
)
def test_which_answers_take_the_short_way(body, short):
    assert (fmp._flat(body, "date", "symbol") is not None) == short


def test_broken_records_are_captured_byte_for_byte(sandbox, fetch):
    body = (
        b'[ {"symbol":"AAPL", "date":"2012-01-03", "note":"caf\xe9 \xff\xfe"}, "no object", null, 17, [],\n'
        b'{"symbol":"AAPL","date":"20\xff2-01-04"}, {"symbol":"AAPL","date":17,"date":null},'
        b'{"symbol":"AAPL","date":"2012-01-31","half":"\\ud83d"} ]'
    )
    sandbox.faults.add(Fault("garbage", params={"body": body}))
    page = fetch(RAW, window=Window(date(2012, 1, 1), date(2012, 2, 1)))
    assert page.records == [
        b'{"symbol":"AAPL","date":"2012-01-03","note":"caf\xe9 \xff\xfe"}',
        b'"no object"',
        b"null",
        b"17",
        b"[]",
        b'{"symbol":"AAPL","date":"20\xff2-01-04"}',
        b'{"symbol":"AAPL","date":17,"date":null}',
        b'{"symbol":"AAPL","date":"2012-01-31","half":"\\ud83d"}',
    ]
    assert page.request.span == ("2012-01-03", "2012-01-31")
    assert page.request.sha256 == sources.sha256_of(page.records)


def test_half_characters_beside_the_mask_are_given_up_rather_than_changed():
    assert judged(b'["\xff\xfe\xfd"]') == [b'"\xff\xfe\xfd"']
    with pytest.raises(SourceSuspect):
        judged(b'["\xff\xfe\xfd", "\\ud83d, not at the end"]')


@pytest.mark.parametrize("day", ["", "soon", "31/12/2012", "2012-99-99", "9999", "0000-00-00"])
def test_what_is_no_day_neither_extends_nor_shortens_the_span(sandbox, fetch, day):
    body = json.dumps([{"date": text} for text in ("2012-01-03", day, "2012-01-30")]).encode()
    sandbox.faults.add(Fault("garbage", params={"body": body}))
    page = fetch(RAW, window=Window(date(2012, 1, 1), date(2012, 2, 1)))
    assert page.request.span == ("2012-01-03", "2012-01-30")


# Refusals


@pytest.mark.parametrize(
    ("key", "path", "shard", "error", "words"),
    [
        ("nobody", "splits", "AAPL", KeyRefused, "FMP_API_KEY.*Invalid API KEY"),
        ("expired", "splits", "AAPL", KeyRefused, "FMP_API_KEY"),
        ("free", "splits", "AAPL", SourceRefused, "not entitled.*Restricted Endpoint"),
        ("free", "dividends", "IBM", SourceRefused, "not entitled.*'symbol'"),
        ("key", "no-such-path", "AAPL", SourceRefused, "answers 404"),
        ("key", "splits", "", SourceRefused, "answers 400.*symbol"),
    ],
)
def test_a_refusal_is_final_and_names_who_must_act(sandbox, fetch, key, path, shard, error, words):
    with pytest.raises(error, match=words):
        fetch({**SPLITS, "path": path}, shard, None, key)
    assert len(sandbox.log) == 1


def test_the_free_quota_is_a_limit_though_it_answers_403(sandbox, fetch):
    with pytest.raises(Throttled, match="Limit Reach"):
        fetch(SPLITS, key="quota", attempts=3)
    assert [one.status for one in sandbox.log] == [403] * 3


@pytest.mark.parametrize(
    ("fault", "error", "requests"),
    [
        (Fault("limit"), Throttled, 2),
        (Fault("limit", params={"status": 403}), Throttled, 2),
        (Fault("limit", params={"status": 200}), Throttled, 2),
        (Fault("error"), Throttled, 2),
        (Fault("error", params={"text": INVALID_KEY}), KeyRefused, 1),
        (Fault("error", params={"text": LEGACY, "status": 403}), SourceRefused, 1),
        (Fault("error", params={"text": "Account suspended", "status": 403}), KeyRefused, 1),
        (Fault("error", params={"text": "Bandwidth Limit Reach . Please upgrade", "status": 429}), KeyRefused, 1),
        (Fault("error", params={"text": "Something else"}), SourceRefused, 1),
        (Fault("plain"), SourceRefused, 1),
        (Fault("plain", params={"text": "Exclusive Endpoint : not yours"}), SourceRefused, 1),
        (Fault("plain", params={"text": "Service is starting"}), SourceSuspect, 2),
        (Fault("plain", params={"status": 408}), SourceRefused, 1),
        (Fault("plain", params={"status": 408, "text": "timeout"}), SourceBusy, 2),
        (Fault("plain", params={"status": 204, "text": ""}), SourceRefused, 1),
        (Fault("empty"), SourceSuspect, 2),
        (Fault("garbage"), SourceSuspect, 2),
        (Fault("garbage", params={"body": "<html>subscription</html>"}), SourceSuspect, 2),
        (Fault("garbage", params={"body": '{"historical": []}'}), SourceSuspect, 2),
        (Fault("garbage", params={"body": '{"Error Message": '}), SourceSuspect, 2),
        (Fault("garbage", params={"body": "[1, NaN]"}), SourceSuspect, 2),
        (Fault("garbage", params={"body": '["\\uZZZZ"]'}), SourceSuspect, 2),
        (Fault("garbage", params={"body": "[] []"}), SourceSuspect, 2),
        (Fault("garbage", params={"body": "17"}), SourceSuspect, 2),
        (Fault("truncated"), SourceBusy, 2),
        (Fault("cut"), SourceBusy, 2),
        (Fault("reset"), SourceBusy, 2),
        (Fault("html"), SourceBusy, 2),
    ],
    ids=lambda value: f"{value.kind}-{value.params}" if isinstance(value, Fault) else None,
)
def test_no_error_is_ever_data_whatever_its_status(sandbox, fetch, fault, error, requests):
    sandbox.faults.add(Fault(fault.kind, times=None, params=fault.params))
    with pytest.raises(error) as caught:
        fetch(RAW)
    assert caught.type is error
    assert len(sandbox.log) == requests


def test_what_passes_heals(sandbox, fetch):
    for nth, kind in enumerate(("truncated", "error", "empty", "garbage", "html", "cut", "reset", "limit")):
        sandbox.faults.add(Fault(kind, nth=nth + 1))
    assert len(fetch(RAW, attempts=9).records) == 3270
    assert len(sandbox.log) == 9


@pytest.mark.parametrize("opening", [b"[", b'[{"a":', b'[{"a":['])
def test_depth_is_capped(opening):
    closing = opening.translate(bytes.maketrans(b"[{", b"]}"), b'"a:')[::-1]
    levels = opening.count(b"[") + opening.count(b"{")
    fits, deep = 64 // levels, 64 // levels + 1
    assert len(judged(b"[" + opening * fits + b"1" + closing * fits + b"]")) == 1
    for number in (deep, 2000, 200_000):
        with pytest.raises(SourceSuspect, match="nested deeper than 64"):
            judged(b"[" + opening * number + b"1" + closing * number + b"]")


def test_brackets_in_strings_and_side_by_side_are_no_depth():
    assert len(judged(json.dumps([{"a": "[{" * 500}, {"b": [[]] * 500}]).encode())) == 2


# Silence


@contextmanager
def suspected(words):
    with pytest.raises(SourceSuspect, match=words):
        yield


def test_no_records_are_suspect_unless_they_mean_something(sandbox, fetch):
    with suspected("gave no records"):
        fetch(RAW, "NOSUCH")
    page = fetch(SPLITS, "GOOG", window=None)
    assert (page.records, page.request.rows, page.request.span) == ([], 0, None)
    assert len(sandbox.log) == 2


def test_a_capped_answer_is_suspect(sandbox, fetch):
    sandbox.faults.add(Fault("capped", params={"rows": 1000}))
    with suspected(r"asked for 2000-03-01\.\.2013-03-02, .* from 2009-\d\d-\d\d to 2013-03-01: a part is missing"):
        fetch(RAW)


@pytest.mark.parametrize(
    ("start", "end", "enough"),
    [
        ("2012-01-01", "2013-03-12", False),
        ("2012-01-01", "2013-03-11", True),
        ("2012-05-08", "2013-03-01", True),
        ("2012-05-07", "2013-03-01", False),
    ],
)
def test_records_may_begin_and_end_inside_the_window_by_the_slack(fetch, start, end, enough):
    symbol = "IBM" if start == "2012-01-01" else "FB"
    window = Window(date.fromisoformat(start), date.fromisoformat(end))
    if enough:
        assert fetch(RAW, symbol, window).records
    else:
        with suspected("a part is missing"):
            fetch(RAW, symbol, window)
        assert fetch({**RAW, "slack_days": 11}, symbol, window).records


def test_ignored_parameters_are_suspect(sandbox, fetch):
    sandbox.faults.add(Fault("unfiltered"))
    with suspected("beyond what was asked"):
        fetch(RAW, window=Window(date(2010, 1, 1), date(2011, 1, 1)))
    sandbox.faults.add(Fault("stranger", params={"symbol": "IBM"}))
    with suspected("records of 'IBM' instead"):
        fetch(RAW)


def test_one_day_or_one_stranger_too_much_is_enough(sandbox, fetch):
    window = Window(date(2012, 1, 1), date(2012, 2, 1))
    for row, words in (
        ({"date": "2012-02-01"}, "beyond"),
        ({"date": "2011-12-31"}, "beyond"),
        ({"symbol": "X"}, "'X' instead"),
    ):
        rows = [{"symbol": "AAPL", "date": "2012-01-03"}, {"symbol": "AAPL", "date": "2012-01-30", **row}, "odd"]
        sandbox.faults.add(Fault("garbage", params={"body": json.dumps(rows)}))
        with suspected(words):
            fetch(RAW, window=window)


def test_records_without_any_day_are_suspect(sandbox, fetch):
    sandbox.faults.add(Fault("garbage", params={"body": '[{"symbol":"AAPL"}]'}))
    with suspected("has a day"):
        fetch(RAW)


# Settings


@pytest.mark.parametrize(
    "options",
    [
        {},
        {**RAW, "colour": "red"},
        {**RAW, "empty": "maybe"},
        {**RAW, "path": 7},
        {**RAW, "date_field": None},
        {**RAW, "path": "../v3/quote"},
    ],
)
def test_wrong_options_are_the_contracts_fault_and_nothing_is_asked(sandbox, fetch, options):
    with pytest.raises(ContractError):
        fetch(options)
    assert sandbox.log == []


def test_from_to_needs_a_window(fetch):
    with pytest.raises(ContractError, match="window"):
        fetch(RAW, window=None)


@pytest.mark.parametrize("key", ["", "  ", "a\nb", "clé"])
def test_a_key_that_cannot_be_one_is_refused_without_being_shown(sandbox, fetch, key):
    with pytest.raises(SettingsError, match="FMP_API_KEY") as caught:
        fetch(SPLITS, key=key)
    assert not key.strip() or key not in str(caught.value)


def test_the_key_travels_in_the_header_and_nowhere_else(sandbox, fetch):
    page = fetch(SPLITS, key=" key\n")
    assert sandbox.log[0].query == page.request.params == {"symbol": "AAPL"}


# Everything at once


def test_a_seeded_storm_changes_nothing_but_the_number_of_requests():
    asks = [
        Ask("prices", RAW, symbol, Window(date(year, 1, 1), date(year + 1, 1, 1)))
        for symbol in ("AAPL", "IBM", "MSFT")
        for year in range(2001, 2013)
    ] + [Ask("splits", SPLITS, symbol, None) for symbol in ("AAPL", "IBM", "MSFT", "GOOG", "FB")]
    calm, storm = Sandbox(limit=(10**6, 60)), Sandbox(limit=(10**6, 60), faults=FaultPlan.seeded(11, 0.4))
    with calm.running() as url, storm.running() as other:
        expected = pages(url, asks, "sandbox-key")
        came = pages(other, asks, "sandbox-key", attempts=25)
    assert [(page.records, page.request.sha256) for page in came] == [
        (page.records, page.request.sha256) for page in expected
    ]
    assert len(calm.log) == len(asks) < len(storm.log)
    assert len({one.fault for one in storm.log}) > 5


def test_a_stranger_in_a_good_answer_is_marked_and_the_rest_is_taken(sandbox, fetch):
    window = Window(date(2012, 1, 1), date(2012, 2, 1))
    good = [{"symbol": "AAPL", "date": f"2012-01-{day:02}"} for day in range(2, 31)]
    strangers = {4: {"symbol": "X", "date": "2012-01-05"}, 11: {"symbol": "AAPL", "date": "2012-02-01"}, 17: {"symbol": "X", "date": "1999-01-01"}}  # fmt: skip
    rows: list = list(good)
    for at, one in strangers.items():
        rows.insert(at, one)
    rows.append("odd")
    sandbox.faults.add(Fault("garbage", params={"body": json.dumps(rows)}))
    page = fetch(RAW, window=window)
    assert page.strange == {4: "shard", 11: "window", 17: "shard"}
    assert page.request.span == ("2012-01-02", "2012-01-30")
    assert (len(page.records), page.request.rows) == (33, 33)
    for some, words in (
        (good[:10] + list(strangers.values()), "'X' instead"),
        ([*good[:11], strangers[4]], "a part is missing"),
    ):
        sandbox.faults.add(Fault("garbage", params={"body": json.dumps(some)}))
        with suspected(words):
            fetch(RAW, window=window)
