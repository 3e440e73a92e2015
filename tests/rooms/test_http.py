"""What leaves goes to the declared vendor alone; what comes back is complete, bounded, and asked for again if not."""

import asyncio
import gzip
import json
import logging
import re
import socket
import threading
import traceback
import zlib
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import aiohttp
import pytest
from yarl import URL

from assay.errors import ContractError, SettingsError, SourceBusy, SourceError, SourceRefused, SourceSuspect
from assay.land import http
from assay.land.http import Answer, Throttled
from assay.land.source import SourceSettings
from assay_sandbox import Fault, Plan, Sandbox

CANARY = "canary-7f3a9c"
SPLITS = ("splits", {"symbol": "AAPL"})


class Turnstile:
    """A pace without waits that counts who passes and who was refused."""

    def __init__(self):
        self.passed, self.refused, self.answered, self.together = 0, [], [], 7

    async def acquire(self):
        self.passed += 1

    def took(self, seconds):
        self.answered.append(seconds)

    def on_429(self, retry_after=None):
        self.refused.append(retry_after)


@pytest.fixture(scope="module")
def served():
    sandbox = Sandbox({CANARY: Plan(requests=10**6)})
    with sandbox.running() as url:
        yield sandbox, url


@pytest.fixture
def sandbox(served):
    served[0].faults.clear()
    served[0].log.clear()
    return served[0]


def ask(url, path="splits", params=None, judge=http.plain, *, pace=None, private=True, **options):
    async def work():
        settings = SourceSettings(url, "sandbox", allow_private=private, options={"backoff": 0, **options})
        async with http.client(settings, {"apikey": CANARY}, pace or Turnstile()) as remote:
            return await remote.get(path, {} if params is None else params, judge)

    return asyncio.run(work())


@contextmanager
def answering(*answers):
    """A server of its own that gives (status, headers, body) in turn, the last for ever; yields URL and requests."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            status, headers, body = answers[min(len(asked), len(answers) - 1)]
            asked.append((self.path, dict(self.headers)))
            body = body(self) if callable(body) else body
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value(self) if callable(value) else value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/stable", asked
        finally:
            server.shutdown()
            thread.join()


# Answers


def test_an_answer_says_where_it_came_from_and_holds_the_inflated_body(sandbox, served):
    answer, body = ask(served[1], "dividends", {"symbol": "IBM", "limit": "2"})
    assert body == answer.body
    assert [row["date"] for row in json.loads(body)] == ["2013-02-06", "2012-11-07"]
    assert (answer.status, answer.url) == (200, f"{served[1]}/dividends")
    assert answer.params == {"symbol": "IBM", "limit": "2"}
    assert answer.at.tzinfo is UTC


def test_the_pace_hears_what_answers_take_and_says_how_many_ask(sandbox, served):
    pace = Turnstile()
    sandbox.faults.add(Fault("limit", params={"retry_after": 0}))
    ask(served[1], *SPLITS, pace=pace)
    assert len(pace.answered) == 2
    assert all(0 < seconds < 60 for seconds in pace.answered)
    assert http.Remote(None, URL("https://x/"), pace, (), {}).together == 7


def test_parameters_arrive_as_they_were_meant(sandbox, served):
    strange = {"symbol": "^A&B=C #+%é", "from": ""}
    answer, _ = ask(served[1], "splits", strange)
    assert sandbox.log[0].query == strange == answer.params


@pytest.mark.parametrize("encoding", ["gzip", "identity", None])
def test_bodies_are_inflated_if_need_be(encoding):
    plain = b"[" + b"1, " * 100_000 + b"1]"
    sent = gzip.compress(plain[:1000]) + gzip.compress(plain[1000:]) if encoding == "gzip" else plain
    headers = {"Content-Encoding": encoding} if encoding else {}
    with answering((200, headers, sent)) as (url, asked):
        assert ask(url)[1] == plain
    assert asked[0][1]["Accept-Encoding"] == "gzip"


@pytest.mark.parametrize(
    ("encoding", "sent", "error"),
    [
        ("gzip", gzip.compress(b"x" * 1000, mtime=0)[:-9], SourceBusy),
        ("gzip", b"no gzip at all", SourceBusy),
        ("gzip", gzip.compress(b"x" * 1000, mtime=0)[:-5] + b"\0" * 5, SourceBusy),
        ("br", b"\x0b\x02\x80x\x03", SourceSuspect),
        ("deflate", zlib.compress(b"x"), SourceSuspect),
    ],
)
def test_what_cannot_be_inflated_is_no_answer(encoding, sent, error):
    with answering((200, {"Content-Encoding": encoding}, sent)) as (url, asked), pytest.raises(error):
        ask(url, attempts=2)
    assert len(asked) == 2


# Asking again


@pytest.mark.parametrize(
    "fault",
    [
        Fault("reset"),
        Fault("cut"),
        Fault("html"),
        Fault("html", params={"status": 503}),
        Fault("limit", params={"retry_after": 0}),
        Fault("latency", params={"seconds": 30}),
        Fault("drip", params={"seconds": 30}),
    ],
    ids=lambda fault: fault.kind,
)
def test_what_passes_is_asked_for_again_and_what_stays_is_the_callers(sandbox, served, fault):
    quick = 0.3 if fault.kind in ("latency", "drip") else 30
    sandbox.faults.add(fault)
    pace = Turnstile()
    assert ask(served[1], *SPLITS, pace=pace, attempts=9, timeout=quick)[0].status == 200
    assert pace.passed == 2 or (quick < 1 and pace.passed > 2)  # a loaded machine may be late once more
    sandbox.faults.add(Fault(fault.kind, times=None, params=fault.params))
    pace = Turnstile()
    with pytest.raises(SourceBusy):
        ask(served[1], *SPLITS, pace=pace, attempts=3, timeout=quick)
    assert pace.passed == 3


def test_slow_is_not_broken(sandbox, served):
    sandbox.faults.add(Fault("drip", params={"seconds": 0.001, "pieces": 30}))
    assert len(json.loads(ask(served[1], "stock-list")[1])) == 10365
    assert len(sandbox.log) == 1


def test_nobody_there_is_busy():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        pace = Turnstile()
        with pytest.raises(SourceBusy, match=r"127\.0\.0\.1 did not answer"):  # bound, so nobody else takes it
            ask(f"http://127.0.0.1:{free.getsockname()[1]}", pace=pace, attempts=2)
    assert pace.passed == 2


def test_every_further_attempt_is_one_line_that_says_whom_why_and_when(sandbox, served, caplog):
    sandbox.faults.add(Fault("html"))
    sandbox.faults.add(Fault("limit", nth=2, params={"retry_after": 0.125}))
    sandbox.faults.add(Fault("cut", nth=3))
    host = served[1].removeprefix("http://")
    ask(served[1], "splits", {"symbol": "AAPL", "key": CANARY})
    told = [(one.name, one.levelname, one.getMessage()) for one in caplog.records]
    assert [one[:2] for one in told] == [("assay.land.http", "WARNING")] * 3
    assert told[0][2] == f"http://{host}/splits answers 502; asked again in 0 s, attempt 2 of 5"
    assert told[1][2].startswith(f"http://{host}/splits answers 429: ")
    assert told[1][2].endswith(" (asks us to wait 0.1 s); asked again in 0.1 s, attempt 3 of 5")
    assert told[2][2].startswith(f"{host}/splits: 127.0.0.1 did not answer completely: ")
    assert told[2][2].endswith("; asked again in 0 s, attempt 4 of 5")
    assert "AAPL" not in caplog.text
    assert CANARY not in caplog.text


def test_no_wait_is_longer_than_a_minute_unless_the_vendor_wishes(monkeypatch):
    remote = http.Remote(None, URL("https://x/"), Turnstile(), (), {"backoff": 1.5})
    waits = [remote._wait(SourceBusy("x"), number) for number in range(1, 2000)]
    assert all(1.5 * 2**n <= wait <= min(60, 1.5 * 2**n + 1.5) for n, wait in enumerate(waits[:5]))
    assert set(waits[6:]) == {60.0}
    assert len(set(waits[:5])) == 5  # all wait a little differently
    assert remote._wait(SourceBusy("x", retry_after=119.0), 1) == 119.0
    assert remote._wait(SourceBusy("x", retry_after=0), 9) == 0


def test_the_vendors_wish_is_the_wait(sandbox, served, caplog):
    pace = Turnstile()
    sandbox.faults.add(Fault("limit", params={"retry_after": 0.125}))
    sandbox.faults.add(Fault("limit", nth=2))
    ask(served[1], *SPLITS, pace=pace)
    assert re.findall("asked again in (.*), attempt", caplog.text) == ["0.1 s", "0 s"]
    assert pace.refused == [0.125, None]


def test_a_wish_beyond_patience_is_the_callers_and_does_not_stop_the_others_for_long(sandbox, served):
    pace = Turnstile()
    sandbox.faults.add(Fault("limit", params={"retry_after": 86400}))
    with pytest.raises(Throttled) as caught:
        ask(served[1], *SPLITS, pace=pace)
    assert caught.value.retry_after == 86400
    assert str(caught.value).endswith(" (asks us to wait 24 h)")
    assert (pace.passed, pace.refused) == (1, [http.PATIENCE])


def test_the_judge_decides_inside_the_loop(sandbox, served):
    said = iter([SourceSuspect("odd"), SourceBusy("no"), Throttled("fast"), None])

    def judge(answer):
        if (error := next(said)) is not None:
            raise error
        return answer.status

    pace = Turnstile()
    assert ask(served[1], *SPLITS, judge, pace=pace)[1] == 200
    assert (pace.passed, pace.refused) == (4, [None])


def test_a_refusal_is_final(sandbox, served):
    pace = Turnstile()
    with pytest.raises(SourceRefused, match="answers 404"):
        ask(served[1], "no-such-path", pace=pace)
    assert pace.passed == 1


@pytest.mark.parametrize(
    ("wish", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("Tue, 03 Mar 2026 12:00:30 GMT", 30.0),
        ("Tue, 03 Mar 2020 12:00:30 GMT", 0.0),
        ("", None),
        ("-3", None),
        ("soon", None),
        ("nan", None),
        ("9" * 400, None),
    ],
)
def test_a_wish_is_read_in_both_spellings(wish, seconds):
    at = datetime(2026, 3, 3, 12, tzinfo=UTC)
    assert Answer(429, {"Retry-After": wish}, b"", at, "", {}).retry_after == seconds


NOON = datetime(2026, 10, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({"Date": "Sat, 31 Oct 2026 10:00:30 GMT"}, NOON.replace(hour=10, second=30)),
        ({"Date": "Sat, 31 Oct 2026 10:00:30 GMT", "Age": "7200"}, NOON.replace(second=30)),
        ({"Date": "Sat, 31 Oct 2026 12:00:30 GMT", "Age": "7200"}, NOON.replace(second=30)),  # a proxy's own
        ({"Date": "Sat, 31 Oct 2026 10:00:30 GMT", "Age": "-5"}, NOON.replace(hour=10, second=30)),
        ({"Date": "Fri, 31 Dec 9999 23:00:00 GMT", "Age": "7200"}, None),
        ({"Date": "yesterday"}, None),
        ({}, None),
    ],
)
def test_the_time_of_a_cached_answer_is_not_taken_for_the_vendors_clock(headers, says):
    assert Answer(200, headers, b"", NOON, "", {}).date == says


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.125, "0.1 s"),
        (7, "7 s"),
        (90, "90 s"),
        (120, "2 min"),
        (5400, "90 min"),
        (7200, "2 h"),
        (86400, "24 h"),
        (86400 * 2, "2 days"),
        (999999999, "11574.1 days"),
    ],
)
def test_a_wait_is_told_in_words(seconds, words):
    assert http.spoken(seconds) == words


def test_an_excerpt_cannot_forge_a_line():
    answer = Answer(500, {}, b"a\r\n2026 INFO \x1b[2Jforged\xff\0" + b"x" * 1000, datetime.now(UTC), "", {})
    assert answer.excerpt.isprintable()
    assert answer.excerpt.startswith("a 2026 INFO [2Jforged")
    assert len(answer.excerpt) <= 300


# Where it may go


@pytest.mark.parametrize(
    ("url", "private"),
    [
        ("http://api.example.com/stable", False),
        ("ftp://api.example.com/stable", True),
        ("https://user:secret@api.example.com/stable", True),
        ("https://api.example.com/stable?apikey=secret", True),
        ("https://api.example.com/stable#secret", True),
        ("/stable", True),
        ("https://[::1/stable", True),
    ],
)
def test_addresses_that_are_no_base_are_refused_unasked(url, private):
    with pytest.raises(SettingsError) as caught:
        ask(url, private=private)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc",
        "../keys",
        "a/../../keys",
        "a//b",
        "a/",
        "http://evil.example",
        "a?b=c",
        "a#b",
        "a b",
        ".",
        "é",
        "a\n",
    ],
)
def test_paths_that_lead_elsewhere_are_refused_unasked(sandbox, served, path):
    with pytest.raises(ContractError):
        ask(served[1], path)
    assert sandbox.log == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433"])
def test_private_addresses_are_refused_before_anything_connects(host):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        with pytest.raises(SourceRefused, match=r"private address|no address"):
            ask(f"https://{host}:{listener.getsockname()[1]}", private=False)
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["::1", "127.0.0.1"], ["169.254.169.254", "10.0.0.1", "::1"]])
def test_a_public_name_that_leads_to_private_addresses_is_refused(addresses):
    class Rebound(aiohttp.abc.AbstractResolver):
        async def resolve(self, host, port=0, family=socket.AF_INET):  # noqa: ARG002
            kinds = [socket.AF_INET6 if ":" in one else socket.AF_INET for one in addresses]
            return [
                {"hostname": host, "host": one, "port": port, "family": kind, "proto": 0, "flags": 0}
                for one, kind in zip(addresses, kinds, strict=True)
            ]

        async def close(self):
            pass

    async def work(port):
        connector = aiohttp.TCPConnector(resolver=Rebound(), socket_factory=http._public_socket)
        async with aiohttp.ClientSession(connector=connector) as session:
            remote = http.Remote(session, URL(f"https://api.example.com:{port}"), Turnstile(), (), {"backoff": 0})
            await remote.get("splits", {}, http.plain)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        with pytest.raises(SourceRefused, match=r"api\.example\.com is at a private address"):
            asyncio.run(work(listener.getsockname()[1]))
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("127.0.0.1", False),
        ("0.0.0.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:169.254.169.254", False),
        ("::ffff:93.184.216.34", True),
        ("64:ff9b::a9fe:a9fe", False),
        ("2002:7f00:1::", False),
    ],
)
def test_which_addresses_are_public(address, public):
    assert http._is_public(address) is public


def test_redirects_are_followed_on_the_same_origin_three_times():
    here = (302, {"Location": "/stable/next"}, b"")
    with answering(here, (307, {"Location": "other"}, b""), (301, {"Location": "?page=2"}, b""), (200, {}, b"[]")) as (
        url,
        asked,
    ):
        pace = Turnstile()
        assert ask(url, pace=pace)[1] == b"[]"
        assert [path for path, _ in asked] == [
            "/stable/splits",
            "/stable/next",
            "/stable/other",
            "/stable/other?page=2",
        ]
        assert {headers["apikey"] for _, headers in asked} == {CANARY}
        assert pace.passed == 4
    with answering(here) as (url, asked), pytest.raises(SourceRefused, match="more than 3"):
        ask(url)
    assert len(asked) == 4


def test_redirects_elsewhere_are_refused_and_nothing_is_sent_there(sandbox, served):
    with answering((200, {}, b"[]")) as (other, asked):
        port, splits = other.split(":")[2].split("/")[0], f"{served[1]}/splits?symbol=AAPL"
        for location in (
            f"{other}/splits",
            f"//127.0.0.1:{port}/",
            splits.replace("http:", "https:"),
            splits.replace("127.0.0.1", "localhost"),
            splits.replace("127.0.0.1", "user@127.0.0.1"),
            "file:///etc/passwd",
            "http://169.254.169.254/latest/meta-data",
            "",
        ):
            sandbox.faults.add(Fault("redirect", params={"location": location}))
            with pytest.raises(SourceRefused, match="redirects to"):
                ask(served[1], *SPLITS)
    assert asked == []
    assert len(sandbox.log) == 8


# What it may cost


def test_a_bomb_is_dropped_as_it_unfolds_and_not_asked_for_again(sandbox, served):
    sandbox.faults.add(Fault("bomb", times=None, params={"megabytes": 8}))
    with pytest.raises(SourceSuspect, match="more than"):
        ask(served[1], *SPLITS)
    assert len(sandbox.log) == 1


def test_an_answer_may_not_be_larger_than_permitted(sandbox, served):
    for packed in (True, False):
        with answering(
            (
                200,
                {"Content-Encoding": "gzip"} if packed else {},
                gzip.compress(b"[%s]" % (b"12," * 99_999 + b"1")) if packed else b" " * 300_000,
            )
        ) as (url, asked):
            with pytest.raises(SourceSuspect, match="more than 100000 bytes"):
                ask(url, max_bytes=100_000)
            assert len(asked) == 1
            assert len(ask(url, max_bytes=300_100)[1]) >= 299_000


# Secrets


def everywhere(error, caplog):
    shown = [str(error), repr(error), *traceback.format_exception(error), *error.args, caplog.text]
    return "\n".join(map(str, shown))


def echo(handler):
    return json.dumps({"Error Message": f"no such key {handler.headers['apikey']}"}).encode()


@pytest.mark.parametrize("status", [200, 400, 401, 402, 403, 404, 429, 500, 502, 302])
def test_an_echoed_secret_is_found_nowhere(status, caplog):
    def judge(answer):
        raise SourceSuspect(f"{answer.url} {answer.excerpt} {answer.params}")

    location = {"Location": lambda handler: f"http://{handler.headers['apikey']}.example/{handler.headers['apikey']}"}
    caplog.set_level(logging.DEBUG)
    for judged in (http.plain, judge):
        with answering((status, location if status == 302 else {}, echo)) as (url, asked):
            if (status, judged) == (200, http.plain):
                continue
            with pytest.raises(SourceError) as caught:
                ask(url, "splits", {"symbol": "AAPL", "token": CANARY}, judged, attempts=2)
            assert CANARY not in everywhere(caught.value, caplog)
            assert asked[0][1]["apikey"] == CANARY


def test_a_word_of_a_header_and_a_key_among_the_parameters_are_secrets_too(caplog):
    def said(handler):
        return json.dumps([handler.headers["Authorization"].split()[1], CANARY]).encode()

    async def work(url, judge):
        settings = SourceSettings(url, "sandbox", allow_private=True, options={"backoff": 0, "attempts": 1})
        headers = {"Authorization": "Bearer other-7f3a9c"}
        async with http.client(settings, headers, Turnstile(), secrets=[CANARY]) as remote:
            return await remote.get("splits", {"apikey": CANARY, "symbol": "AAPL"}, judge)

    def judge(answer):
        raise SourceSuspect(f"{answer.url} {answer.excerpt} {answer.params}")

    caplog.set_level(logging.DEBUG)
    with answering((200, {}, said)) as (url, asked):
        answer, _ = asyncio.run(work(url, http.plain))
        assert answer.params == {"symbol": "AAPL"}
        with pytest.raises(SourceSuspect) as caught:
            asyncio.run(work(url, judge))
    assert len(asked) == 2
    for secret in (CANARY, "other-7f3a9c"):
        assert secret not in everywhere(caught.value, caplog)


@pytest.mark.parametrize("kind", ["reset", "cut", "latency", "html", "limit", "bomb", "garbage"])
def test_a_fault_reveals_no_secret(sandbox, served, kind, caplog):
    def judge(answer):
        raise SourceBusy(repr(answer))

    caplog.set_level(logging.DEBUG)
    params = {"seconds": 30, "megabytes": 8, "retry_after": 0}
    sandbox.faults.add(Fault(kind, times=None, params=params))
    with pytest.raises(SourceError) as caught:
        ask(served[1], "splits", {"symbol": "AAPL", "key": CANARY}, judge, attempts=2, timeout=0.3)
    assert CANARY not in everywhere(caught.value, caplog)


def test_no_secret_stays_in_an_answer(sandbox, served):
    answer, _ = ask(served[1], "splits", {"symbol": "AAPL", "again": CANARY})
    assert answer.params == {"symbol": "AAPL"}
    assert CANARY not in repr(answer)


def test_an_answer_that_is_no_http_reveals_no_secret(caplog):
    caplog.set_level(logging.DEBUG)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"what?\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(SourceBusy) as caught:
            ask(f"http://127.0.0.1:{listener.getsockname()[1]}", "splits", {"key": CANARY}, attempts=1)
        thread.join()
    assert CANARY not in everywhere(caught.value, caplog)
