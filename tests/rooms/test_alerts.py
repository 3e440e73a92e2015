"""Alerts: policies of assay.toml over what `status` says; a webhook is told once when one begins, and once when it is over."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from assay import clock, tell
from assay.errors import SettingsError, WebhookFailed
from assay.ports import Fact
from assay.run import alerts, loop
from assay.run import lake as lakes
from assay.settings import WHEN, Policy
from tests.forked import Forked, Said
from tests.kept import begun

TRADES = "files/trades.csv"
AT = datetime(2024, 7, 5, 12, tzinfo=UTC)
PATH = "/services/T0SECRET/canary?token=T0KEN"


@dataclass
class Hook:
    """A webhook on this machine: what it was told, and how it answers."""

    url: str = ""
    status: int = 204
    wait: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    told: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)


@contextmanager
def listening() -> Iterator[Hook]:
    hook = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            hook.paths.append(self.path)
            hook.told.append(json.loads(body) | {"type": self.headers["Content-Type"]})
            time.sleep(hook.wait)
            with suppress(OSError):
                self.send_response(hook.status)
                for name, value in hook.headers.items():
                    self.send_header(name, value)
                self.end_headers()

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    hook.url = f"http://127.0.0.1:{server.server_port}{PATH}"
    try:
        yield hook
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def hook() -> Iterator[Hook]:
    with listening() as one:
        yield one


@pytest.fixture(autouse=True)
def _clock() -> Iterator[None]:
    """The only clock never runs backwards within a process: what a test put forward, the next one has not."""
    clock._last = datetime.min.replace(tzinfo=UTC)
    yield
    clock._last = datetime.min.replace(tzinfo=UTC)


@pytest.fixture
def lake(tmp_path: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lake of trades that promises to be a second old at most, landed and refined, with one policy."""
    root = begun(tmp_path / "lake", "csv")
    path = root / "contracts/trades.yaml"
    text = path.read_text()
    assert "\ncustomProperties:\n- property: source" in text
    path.write_text(
        text.replace(
            "\ncustomProperties:\n- property: source",
            "\nslaProperties: [{property: latency, value: 1, unit: s}]\ncustomProperties:\n- property: source",
        )
    )
    policy(root, 'when = ["late"]\nwebhook = "DESK_HOOK"')
    monkeypatch.setenv("ASSAY_SECRET_DESK_HOOK", f"{hook.url}\n")  # as a shell's `cat` leaves it
    with lakes.open(root) as opened:
        assert not opened.apply(opened.plan(["trades"])).errors
    return root


def policy(root: Path, said: str, name: str = "desk") -> None:
    path = root / "assay.toml"
    path.write_text(f"{path.read_text().partition('[alert')[0]}[alert.{name}]\n{said}\n")


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """The clock is so far ahead from now on."""
    monkeypatch.setenv("ASSAY_CLOCK_OFFSET", str(seconds))


def sent(root: Path) -> alerts.Alerts:
    with lakes.open(root) as opened:
        return opened.alerts(send=True)


def again(root: Path) -> None:
    """Land the file anew, so that it is not late for a second."""
    with lakes.open(root) as opened:
        assert not opened.apply(opened.landings("trades", again=True)).errors


# ------------------------------------------------------------------ what fires


def dataset(**said: Any) -> dict[str, Any]:
    quiet: dict[str, Any] = {
        "late": [], "late_since": None, "held_batches": {}, "pending_batches": {}, "failing": [], "shrank": None,
        "holes": None, "drift": [], "clock": None,
    }  # fmt: skip
    assert not said.keys() - quiet.keys()
    return quiet | said


def status(**datasets: dict[str, Any]) -> dict[str, Any]:
    return {"datasets": datasets, "failing": [], "ending": []}


def step(state: str, error: str = "", hours: float = 1, name: str = "land a IBM", attempt: int = 1) -> dict[str, Any]:
    at = (AT - timedelta(hours=hours)).isoformat()
    return {"step": name, "state": state, "at": at, "error": error, "attempt": attempt, "told": f"{state} {name}: {error}"}  # fmt: skip


ONE: dict[str, dict[str, Any]] = {
    "late": {"late": ["latency: …"], "late_since": "2024-07-03T18:00:00+00:00"},
    "held": {"held_batches": {"3.0": {"told": "held 3.0: …", "at": "2024-07-03T18:00:00+00:00"}}},
    "pending": {"pending_batches": {"3.0": {"told": "withdrawals of 3.0 …", "at": "2024-07-03T18:00:00+00:00"}}},
    "failing": {"failing": [step("failed", "SourceBusy: no")]},
    "shrank": {"shrank": {"told": "the list shrank: …", "batch": "3.0", "at": "2024-07-03T18:00:00+00:00"}},
    "holes": {"holes": {"told": "holes: …", "shards": {"IBM": ["2024-07-01"]}, "sessions": 1}},
    "drift": {"drift": [{"told": "drift: …", "what": "unknown", "field": "x", "since": 3, "at": "2024-07-03T18:00:00+00:00"}]},
    "clock": {"clock": "entry 3 was put …"},
}  # fmt: skip


def test_each_word_fires_by_its_own_part_of_status_and_by_no_other() -> None:
    every = Policy("all", WHEN)
    assert alerts.firing([every], status(a=dataset()), AT) == []
    assert {*ONE, "ending"} == set(WHEN) == {*alerts.OF_DATASETS, "ending"}
    for word, part in ONE.items():
        [found] = alerts.firing([every], status(a=dataset(), b=dataset(**part)), AT)
        assert (found.policy, found.when, found.dataset) == ("all", word, "b")
        assert found.told
        others = Policy("others", tuple(one for one in WHEN if one != word))
        assert alerts.firing([others], status(b=dataset(**part)), AT) == []
    [found] = alerts.firing([every], status(a=dataset()) | {"ending": ["calendars/XNYS.csv says nothing of …"]}, AT)
    assert (found.when, found.dataset, found.data["dataset"]) == ("ending", "", None)
    [found] = alerts.firing([every], status(a=dataset()) | {"failing": [step("failed", name="build")]}, AT)
    assert (found.when, found.dataset) == ("failing", "")


def test_a_policy_about_datasets_is_about_no_others_and_not_about_the_lake() -> None:
    found = status(**{name: dataset(**ONE["late"]) for name in "abc"}) | {"ending": ["…"], "failing": [step("failed")]}
    said = alerts.firing([Policy("two", WHEN, ("c", "a")), Policy("all", ("late",))], found, AT)
    assert [(one.policy, one.dataset) for one in said] == [
        ("two", "a"), ("two", "c"), ("all", "a"), ("all", "b"), ("all", "c"),
    ]  # fmt: skip


def cause(**said: Any) -> str:
    [found] = alerts.firing([Policy("all", WHEN)], status(a=dataset(**said)), AT)
    return found.cause


def test_a_cause_is_the_same_until_there_is_news() -> None:
    late = ONE["late"]
    assert cause(**late) == cause(**late | {"late": ["latency: … older by now"]})
    assert cause(**late) != cause(**late | {"late_since": "2024-07-04T18:00:00+00:00"})
    batch = ONE["held"]["held_batches"]["3.0"]
    assert cause(held_batches={"3.0": batch, "4.0": batch}) == cause(held_batches={"4.0": batch, "3.0": batch})
    assert cause(held_batches={"3.0": batch}) != cause(held_batches={"4.0": batch})
    busy = step("failed", "SourceBusy: 127.0.0.1 answers 500")
    more = [step("failed", "SourceBusy: asks us to wait", name="land a AAPL", attempt=7), busy]
    assert cause(failing=[busy]) == cause(failing=more)
    assert cause(failing=[busy]) != cause(failing=[step("failed", "KeyRefused: no")])


def test_a_step_that_may_be_on_its_way_is_no_failure_and_one_of_yesterday_is() -> None:
    on = Policy("all", ("failing",))
    assert alerts.firing([on], status(a=dataset(failing=[step("started", hours=23)])), AT) == []
    assert alerts.firing([on], status(a=dataset(failing=[step("started", hours=25)])), AT) != []


def test_a_step_that_failed_and_is_tried_again_fires_until_it_is_done(lake: Path) -> None:
    policy(lake, 'when = ["failing"]')
    with lakes.open(lake) as opened:
        ledger = opened.target.ledger
        fired = []
        for state, error in (("failed", "SourceBusy: it was"), ("started", ""), ("done", "")):
            loop.mark(ledger, "trades", "refine", state, "01A", error)
            fired.append([one.cause for one in opened.alerts().firing])
        loop.mark(ledger, "trades", "refine", "started", "01B")
        assert opened.alerts().firing == []
    assert len(fired[0]) == 1
    assert fired == [fired[0], fired[0], []]


def test_many_sentences_are_cut_and_none_begins_a_line_of_its_own() -> None:
    batches = {f"{n}.0": {"told": f"held {n}.0: \x1b[31m\nx", "at": None} for n in range(100)}
    [found] = alerts.firing([Policy("all", ("held",))], status(a=dataset(held_batches=batches)), AT)
    lines = found.told.split("\n")
    assert len(lines) == 2 * alerts.LINES + 1
    assert lines[-1] == "… and 80 more: `assay status`"
    assert all(line.isprintable() for line in lines)
    assert found.since is None


def test_what_an_alert_tells_are_sentences_of_status(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy(lake, f"when = {json.dumps(WHEN)}")
    path = lake / TRADES
    path.write_text(re.sub(r",(\d+(\.\d+)?)\n", ",-1\n", path.read_text()))
    with lakes.open(lake) as opened:
        opened.apply(opened.landings("trades", again=True))
        opened.apply(opened.plan(["trades"]))
    path.write_text("quantity\nx\n")
    with lakes.open(lake) as opened:
        assert opened.apply(opened.landings("trades", again=True)).errors
        later(monkeypatch, 3)
        found = opened.status()
        lines = [line.strip() for line in tell.status(found)]
        said = {one["when"]: one["told"].split("\n") for one in found["alerts"]}
        assert said.keys() >= {"late", "held", "failing"}, lines
        for word, told in said.items():
            for line in told:
                assert any(one.endswith(line) for one in lines), (word, line, lines)
        assert f"alert desk: trades late since {found['datasets']['trades']['late_since'][:19]}Z" in lines


# ------------------------------------------------------------------ policies as code


@pytest.mark.parametrize(
    ("said", "line", "words"),
    [
        ('when = ["late"]\nwebhok = "HOOK"', 3, r"alert\.desk\.webhok means nothing; there are datasets, webhook, when"),
        ('webhook = "HOOK"', 1, r"alert\.desk\.when is missing; there are late, held"),
        ('\nwhen = ["late", "latte"]', 3, r"alert\.desk\.when: 'latte' means nothing; there are late, held"),
        ('when = "late"', 2, r"alert\.desk\.when must be a list"),
        ("when = []", 2, r"alert\.desk\.when must be a list"),
        ('when = ["late"]\ndatasets = []', 3, r"alert\.desk\.datasets must be a list"),
        ('when = ["late"]\ndatasets = ["trade"]', 0, r"no dataset 'trade'; this lake has trades"),
        ('when = ["late"]\nwebhook = "https://hooks.test/T0SECRET"', 3, r"webhook is an address, which is a secret: put"),
        ('when = ["late"]\nwebhook = ["https://hooks.test/T0SECRET"]', 3, r"webhook is an address, which is a secret: put"),
        ('when = ["late"]\nwebhook = "../desk"', 3, r"webhook is an address"),
        ('when = ["late"]\nwebhook = ""', 3, r"webhook is no name of a secret"),
        ('when = ["late"]\nwebhook = "a b"', 3, r"webhook is no name of a secret"),
    ],
)  # fmt: skip
def test_a_policy_that_means_nothing_is_refused_with_its_line(
    tmp_path: Path, assay: Callable[..., Said], said: str, line: int, words: str
) -> None:
    root = begun(tmp_path / "lake", "csv")
    before = len((root / "assay.toml").read_text().splitlines())
    policy(root, said)
    for command in ("alerts", "check"):
        found = assay("--lake", root, command)
        assert found.code == 2, found
        assert re.search(words, found.err), found.err
        assert not line or f"assay.toml:{before + line}: " in found.err, found.err
        assert "T0SECRET" not in found.err


def test_names_of_policies_and_tables_that_are_none(tmp_path: Path, assay: Callable[..., Said]) -> None:
    root = begun(tmp_path / "lake", "csv")
    policy(root, 'when = ["late"]', name='"a/b"')
    assert "alert.a/b: a name has letters" in assay("--lake", root, "alerts").err
    path = root / "assay.toml"
    path.write_text(f"alert = 3\n{path.read_text().partition('[alert')[0]}")
    assert "alert must be tables [alert.NAME]" in assay("--lake", root, "alerts").err


def test_a_lake_without_policies_says_so(tmp_path: Path, assay: Callable[..., Said]) -> None:
    root = begun(tmp_path / "lake", "csv")
    said = assay("--lake", root, "alerts", "--send")
    assert (said.code, said.out) == (0, "assay.toml has no [alert.NAME], so nothing fires\n")


# ------------------------------------------------------------------ who is told


def test_an_alert_is_told_once_when_it_begins_and_once_when_it_is_over(
    lake: Path, hook: Hook, assay: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    later(monkeypatch, 3)
    said = assay("--lake", lake, "alerts")
    assert (said.code, hook.told) == (7, [])
    assert said.err == "AlertFiring: 1 alert fires\n"
    assert re.match(
        r"desk: trades late since \d{4}-\d\d-\d\dT[\d:]{8}Z\n  latency: at most PT1S was promised", said.out
    )
    for _ in range(3):
        said = assay("--lake", lake, "alerts", "--send")
        assert said.code == 7
    [told] = hook.told
    found = json.loads(assay("--lake", lake, "--json", "alerts").out)["firing"][0]
    assert told == {
        "version": 1, "lake": "my-lake", "env": "dev", "alert": "desk", "when": "late", "dataset": "trades", "state": "firing",
        "since": found["since"], "told": told["told"], "dedup_key": told["dedup_key"], "type": "application/json",
    }  # fmt: skip
    assert re.fullmatch(r"[0-9a-f]{32}", told["dedup_key"])
    assert hook.paths == [PATH]
    again(lake)
    policy(lake, 'when = ["late"]\nwebhook = "DESK_HOOK"')
    path = lake / "contracts/trades.yaml"
    path.write_text(path.read_text().replace("value: 1, unit: s", "value: 300, unit: d"))
    for n in range(3):
        said = assay("--lake", lake, "alerts", "--send")
        assert (said.code, "told: desk trades late resolved" in said.out) == (0, n == 0), said
    over = hook.told[1:]
    assert over == [told | {"state": "resolved"}]


def test_another_cause_is_told_again(lake: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    later(monkeypatch, 3)
    sent(lake)
    again(lake)
    later(monkeypatch, 9)
    found = sent(lake)
    assert [one["state"] for one in hook.told] == ["firing", "firing"]
    assert hook.told[0]["since"] < hook.told[1]["since"]
    assert hook.told[0]["dedup_key"] == hook.told[1]["dedup_key"]
    assert [dict(one) for one in found.sent] == [{k: v for k, v in hook.told[1].items() if k != "type"}]


def test_a_step_that_fails_again_has_failed_since_it_was_told_first(
    lake: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy(lake, 'when = ["failing"]\nwebhook = "DESK_HOOK"')
    (lake / TRADES).rename(lake / "aside.csv")
    told = []
    for n in range(3):
        later(monkeypatch, 60 * n)
        with lakes.open(lake) as opened:
            assert opened.apply(opened.landings("trades", again=True)).errors
        told.append([one.since for one in sent(lake).firing])
    assert told[1:] == told[:-1]
    assert [datetime.fromisoformat(one["since"]) for one in hook.told] == told[0]


def without_address(*texts: str) -> None:
    for text in texts:
        for secret in ("T0SECRET", "T0KEN", "127.0.0.1", "http://1", "services"):
            assert secret not in text, text


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"status": 500}, "webhook DESK_HOOK answers 500"),
        ({"status": 404}, "webhook DESK_HOOK answers 404"),
        ({"status": 307, "headers": {"Location": "/elsewhere/T0SECRET"}}, "answers 307, a redirect, which is not followed"),
        ({"wait": 1.5}, "gave no answer within 0.5 s: TimeoutError"),
        ({"url": "http://127.0.0.1:1/T0SECRET"}, "gave no answer within 0.5 s: Connection refused"),
        ({"url": "http://no.such.host.invalid/T0SECRET"}, "gave no answer within 0.5 s"),
        ({"url": "ftp://127.0.0.1/T0SECRET"}, "the secret DESK_HOOK holds no address of a webhook"),
        ({"url": "T0SECRET"}, "the secret DESK_HOOK holds no address of a webhook"),
        ({"url": "http://[T0SECRET"}, "the secret DESK_HOOK holds no address of a webhook"),
        ({"url": ""}, "secret DESK_HOOK is missing"),
    ],
)  # fmt: skip
def test_a_webhook_that_fails_is_told_by_the_next_call_and_no_text_has_its_address(
    lake: Path, hook: Hook, how: dict[str, Any], words: str, assay: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts, "PATIENCE", 0.5)
    right = hook.url
    for name, value in how.items():
        setattr(hook, name, value)
    monkeypatch.setenv("ASSAY_SECRET_DESK_HOOK", hook.url)
    later(monkeypatch, 3)
    for _ in range(2):
        said = assay("--lake", lake, "alerts", "--send")
        assert said.code == 7, said
        assert words in said.err, said.err
        without_address(said.out, said.err.replace(str(lake), ""))
    without_address(*(path.read_bytes().decode("latin1") for path in (lake / "data").rglob("ledger.db*")))
    assert "/elsewhere/T0SECRET" not in hook.paths
    asked = len(hook.told)
    monkeypatch.setenv("ASSAY_SECRET_DESK_HOOK", right)
    hook.status, hook.wait, hook.headers = 200, 0, {}
    assert assay("--lake", lake, "alerts", "--send").code == 7
    assert [one["state"] for one in hook.told[asked:]] == ["firing"]
    sent(lake)
    assert len(hook.told) == asked + 1


def test_what_begins_and_ends_while_the_webhook_is_down_is_told_as_over(
    lake: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook.status = 503
    later(monkeypatch, 3)
    assert [type(one) for one in sent(lake).errors] == [WebhookFailed]
    path = lake / "contracts/trades.yaml"
    path.write_text(path.read_text().replace("value: 1, unit: s", "value: 300, unit: d"))
    found = sent(lake)
    assert (found.firing, found.error, len(found.errors)) == ([], None, 1)
    hook.status = 200
    sent(lake)
    sent(lake)
    assert [one["state"] for one in hook.told] == ["firing", "resolved", "resolved"]
    assert hook.told[0]["since"] == hook.told[2]["since"]


def test_of_a_webhook_that_is_down_no_alert_waits_for_another_and_others_are_told(
    lake: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GONE_HOOK", "http://127.0.0.1:1/")
    path = lake / "assay.toml"
    policies = "".join(f'[alert.gone{n}]\nwhen = ["late"]\nwebhook = "GONE_HOOK"\n' for n in range(3))
    path.write_text(path.read_text().replace("[alert.desk]", f"{policies}[alert.desk]"))
    later(monkeypatch, 3)
    found = sent(lake)
    assert [str(one).partition(":")[0] for one in found.errors] == ["alert gone0"]
    assert [one["alert"] for one in hook.told] == ["desk"]
    monkeypatch.setenv("GONE_HOOK", hook.url)
    sent(lake)
    assert [one["alert"] for one in hook.told] == ["desk", "gone0", "gone1", "gone2"]
    assert len({one["dedup_key"] for one in hook.told}) == 4


def test_a_policy_that_is_gone_tells_nothing_and_begins_anew_when_it_is_back(
    lake: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    later(monkeypatch, 3)
    sent(lake)
    policy(lake, 'when = ["late"]', name="other")
    assert [one.policy for one in sent(lake).firing] == ["other"]
    policy(lake, 'when = ["held"]\nwebhook = "DESK_HOOK"')
    sent(lake)
    assert len(hook.told) == 1
    policy(lake, 'when = ["late"]\nwebhook = "DESK_HOOK"')
    sent(lake)
    policy(lake, 'when = ["held"]\nwebhook = "DESK_HOOK"')
    sent(lake)
    assert [one["state"] for one in hook.told] == ["firing", "firing", "resolved"]


def test_two_processes_at_once_tell_once(lake: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    later(monkeypatch, 3)
    hook.wait = 0.3
    crowd = [Forked(lambda: sent(lake)) for _ in range(4)]
    for one in crowd:
        with one:
            said = one.said()
            assert said.code == 0, said.err
    assert len(hook.told) == 1


def test_threads_that_meet_at_the_same_fact_tell_once(lake: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reads the ledger before any of them writes: the fact's version decides."""
    later(monkeypatch, 3)
    with lakes.open(lake) as opened:
        found = opened.status()
        at = datetime.now(UTC)
        meet = threading.Barrier(4)

        class Meeting:
            """The lake's ledger, at which all meet between reading an alert and claiming it."""

            def __init__(self) -> None:
                self.met = False

            def __getattr__(self, name: str) -> Any:
                return getattr(opened.target.ledger, name)

            def record(self, facts: Any) -> list[Fact]:
                if not self.met:
                    self.met = True
                    meet.wait(20)
                return opened.target.ledger.record(facts)

        def act() -> None:
            import dataclasses

            target = dataclasses.replace(opened.target, open_ledger=Meeting)  # type: ignore[arg-type]
            alerts.run(target, found, at, send=True)

        crowd = [threading.Thread(target=act) for _ in range(4)]
        for one in crowd:
            one.start()
        for one in crowd:
            one.join()
    assert len(hook.told) == 1


@pytest.mark.parametrize(("when", "asked"), [("before", 0), ("after", 1)])
def test_who_is_killed_while_he_tells_leaves_it_to_a_call_a_minute_later(
    lake: Path, hook: Hook, when: str, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    later(monkeypatch, 3)
    with Forked(lambda: sent(lake), ASSAY_CRASH=f"alert.tell:{when}") as one:
        assert one.said().code == 137
    assert len(hook.told) == asked
    sent(lake)
    assert len(hook.told) == asked
    later(monkeypatch, 3 + alerts.CLAIM.total_seconds())
    sent(lake)
    sent(lake)
    assert [one["state"] for one in hook.told] == ["firing"] * (asked + 1)
    assert len({one["dedup_key"] for one in hook.told}) == 1


def test_a_lost_ledger_tells_again_with_the_same_key(lake: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    later(monkeypatch, 3)
    sent(lake)
    for path in (lake / "data/dev").glob("ledger.db*"):
        path.unlink()
    sent(lake)
    assert len({json.dumps(one, sort_keys=True) for one in hook.told}) == 1
    assert len(hook.told) == 2


def test_the_console_shows_what_is_late_and_what_fires(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later(monkeypatch, 3)
    with lakes.open(lake) as opened, opened.serving("127.0.0.1", 0) as url:
        page = httpx.get(url, timeout=60).text
    found = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", page.partition('<h2 id="late">')[2].partition("</section>")[0]))
    assert "alert desk: trades late since" in found
    assert "late trades: latency: at most PT1S was promised" in found
    assert '<span class="state warn">late</span></td>' in page


def test_without_alerts_and_lateness_the_console_says_nothing_of_them(tmp_path: Path) -> None:
    root = begun(tmp_path / "lake", "csv")
    with lakes.open(root) as opened, opened.serving("127.0.0.1", 0) as url:
        assert 'id="late"' not in httpx.get(url, timeout=60).text


def test_a_secret_of_bytes_is_no_address(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ASSAY_SECRET_DESK_HOOK")
    (lake / "secrets").mkdir(exist_ok=True)
    (lake / "secrets/DESK_HOOK").write_bytes(b"\xff\xfe")
    (lake / "secrets/DESK_HOOK").chmod(0o600)
    later(monkeypatch, 3)
    [error] = sent(lake).errors
    assert isinstance(error, SettingsError)
    assert "DESK_HOOK cannot be read (UnicodeDecodeError)" in str(error)


def test_it_can_be_called_where_an_event_loop_runs(lake: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    later(monkeypatch, 3)

    async def flow() -> Mapping[str, Any]:
        return sent(lake).sent[0]

    assert asyncio.run(flow())["state"] == "firing"
    assert len(hook.told) == 1
