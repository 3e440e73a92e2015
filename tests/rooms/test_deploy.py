"""What a lake wants of Prefect: read from its deploy.yaml, implied by its contracts, and made so on a real server."""

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from dateutil import rrule
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from assay.contract import odcs
from assay.contract.calendars import Calendar
from assay.contract.model import Contract, KnownAt
from assay.errors import ContractError, SettingsError
from assay.flows import described, schedules
from assay.flows.wanted import wanted
from assay.settings import Aws, Policy, Settings
from tests.forked import Said
from tests.kept import begun
from tests.prefects import PYTHON, Prefect, prefect

__all__ = ["prefect"]
ROOT = Path(__file__).parents[2]
MARKETS = odcs.read_all(ROOT / "lakes/markets/contracts")


# ------------------------------------------------------------------ deploy.yaml


def read(tmp_path: Path, text: str, env: str = "dev") -> described.Described:
    (tmp_path / "deploy.yaml").write_text(text)
    return described.read(tmp_path, env)


def test_without_a_file_there_is_what_there_always_is(tmp_path: Path):
    found = described.read(tmp_path, "dev")
    assert {name: one.concurrency_limit for name, one in found.pools.items()} == {
        "ingest": 4, "transform": 1, "stream": 2, "backfill": 1,
    }  # fmt: skip
    assert found.schedules == {"upkeep": "0 3 * * *", "refine": "PT1H", "build": "PT1H", "alerts": "PT15M"}


def test_an_environment_lies_over_the_rest_of_the_file(tmp_path: Path):
    text = """
pools: {ingest: {concurrency_limit: 2, queues: {slow: {priority: 9, concurrency_limit: 1}}}}
limits: {fmp: {limit: 5}}
schedules: {upkeep: null}
environments:
  prod:
    pools: {ingest: {concurrency_limit: 8}, crypto: {concurrency_limit: 3}}
    limits: {fmp: {limit: 50}}
    schedules: {upkeep: "30 4 * * 6"}
    jobs: {dbt-ecs-task: {cpu: 1024}}
"""
    dev, prod = read(tmp_path, text), read(tmp_path, text, "prod")
    assert (dev.pools["ingest"].concurrency_limit, prod.pools["ingest"].concurrency_limit) == (2, 8)
    assert dev.pools["ingest"].queues == prod.pools["ingest"].queues == {"slow": (9, 1)}
    assert "crypto" not in dev.pools
    assert prod.pools["crypto"].concurrency_limit == 3
    assert (dev.limits, prod.limits) == ({"fmp": 5}, {"fmp": 50})
    assert (dev.schedules["upkeep"], prod.schedules["upkeep"]) == ("", "30 4 * * 6")
    assert prod.jobs == {"dbt-ecs-task": {"cpu": 1024}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pols: {}", "deploy.yaml:1: pols means nothing; did you mean pools"),
        ("\npools:\n  ingest:\n    limt: 3", "deploy.yaml:4: pools.ingest.limt means nothing; did you mean concurrency_limit"),
        ("pools: {ingest: {concurrency_limit: 0}}", "deploy.yaml:1: pools.ingest.concurrency_limit: 0 is no whole number from 1"),
        ("pools: {ingest: {concurrency_limit: yes}}", "True is no whole number"),
        ("pools: {In gest: {}}", "In gest is no name"),
        ("pools: [ingest]", "pools expects names, each with what it is"),
        ("limits: {fmp: {}}", "fmp lacks its limit"),
        ("limits: {fmp: 5}", "limits.fmp expects a mapping of limit"),
        ("schedules: {upkeep: daily}", 'daily is neither cron, such as "0 3 * * *", nor a duration'),
        ('schedules: {upkeep: "0 25 * * *"}', "0 25 * * * is neither cron"),
        ('schedules: {upkeep: "0 3 * *"}', "is neither cron"),
        ('schedules: {upkeep: "5-1 3 * * *"}', "is neither cron"),
        ("variables: {a: {b: 2024-01-01}}", "variables.a holds what JSON does not know, such as a day; put it in quotes"),
        ("jobs: {dbt-ecs-task: {day: 2024-01-01}}", "jobs.dbt-ecs-task holds what JSON does not know"),
        ("schedules: {upkeep: P1M}", "P1M is shorter than a minute, or of months"),
        ("schedules: {upkep: P1D}", "schedules.upkep means nothing; did you mean upkeep"),
        ("environments:\n  prod:\n    pool: {}", "deploy.yaml:3: environments.prod.pool means nothing; did you mean pools"),
        ("variables: {a: null}", "variables.a is a text, a number, a list or a mapping"),
        ("pools: {", "deploy.yaml:1: not YAML"),
        ("just a text", "deploy.yaml expects a mapping of pools"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, text: str, said: str):
    with pytest.raises(ContractError) as raised:
        read(tmp_path, text)
    assert said in "\n".join(raised.value.args)


@pytest.mark.parametrize("cron", ["* * * * *", "*/15 3 * * *", "0 3,15 1-7 */2 1-5", "59 23 31 12 7"])
def test_cron_is_taken_as_it_is_written(tmp_path: Path, cron: str):
    assert read(tmp_path, f'schedules: {{upkeep: "{cron}"}}').schedules["upkeep"] == cron


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path):
    with pytest.raises(ContractError) as raised:
        read(tmp_path, "pols: {}\nlimits: {fmp: {}}\nschedules: {upkeep: daily}\n")
    assert [line.split(": ")[0] for line in raised.value.args] == ["deploy.yaml:1", "deploy.yaml:2", "deploy.yaml:3"]


def test_a_lakes_check_says_it_too_beside_what_else_is_wrong(markets: Path, assay: Callable[..., Said]):
    (markets / "deploy.yaml").write_text("pols: {}\n")
    said = assay("--lake", markets, "check")
    assert "deploy.yaml:1: pols means nothing" in said.err
    contract = markets / "contracts/splits.yaml"
    contract.write_text(contract.read_text().replace("property: every", "property: evry"))
    said = assay("--lake", markets, "check")
    assert "evry" in said.err
    assert "deploy.yaml:1: pols means nothing" in said.err


# ------------------------------------------------------------------ schedules


def fired(said: dict, start: date, end: date) -> list[datetime]:
    """When a rule fires from one day up to another, in UTC."""
    zone = ZoneInfo(said["timezone"])
    found = rrule.rrulestr(said["rrule"])
    naive = found.between(datetime.combine(start, time()), datetime.combine(end, time()), inc=True)
    return sorted(one.replace(tzinfo=zone).astimezone(UTC) for one in naive)


def promise(calendar: Calendar | None, known: KnownAt | None) -> Contract:
    return replace(MARKETS["price_eod"], calendar=calendar, known_at=known)


XNYS = MARKETS["price_eod"].calendar
assert XNYS


def test_a_session_is_asked_for_once_its_day_is_over():
    said = schedules.of(MARKETS["price_eod"])
    found = fired(said, date(2026, 11, 23), date(2026, 12, 1))
    # Thanksgiving has no session; the half day after it is a day like others, as it is over by then.
    assert [str(one)[:16] for one in found] == [
        "2026-11-24 00:05", "2026-11-25 00:05", "2026-11-26 00:05", "2026-11-28 00:05",
    ]  # fmt: skip


@examples(max_examples=30, deadline=None)
@given(
    zone=st.sampled_from(["America/New_York", "Asia/Tokyo", "Europe/London", "UTC", "Pacific/Auckland"]),
    closes=st.times(min_value=time(9), max_value=time(20)).map(lambda one: one.strftime("%H:%M")),
    lag=st.sampled_from(["PT0S", "PT2H", "PT20H", "P1D", "P2DT6H", "P6D"]),
    known=st.booleans(),
    weekdays=st.booleans(),
)
def test_no_session_is_forgotten_and_none_is_asked_for_before_it_can_be_known(zone, closes, lag, known, weekdays):
    """The due moment of a session: when its day is over in UTC and it can be known, early after a half day; and 5 minutes."""
    calendar = Calendar(
        "X", date(2024, 1, 1), date(2026, 1, 1), closed=(date(2025, 4, 18), date(2025, 12, 25)),
        early=((date(2025, 7, 3), "08:00"), (date(2025, 11, 28), "08:30")), closes="20:30", zone=zone,
    ) if weekdays else None  # fmt: skip
    at = KnownAt("date", closes, zone, lag) if known else None
    contract = promise(calendar, at)
    said = schedules.of(contract)
    found = fired(said, date(2025, 3, 1), date(2025, 12, 31))
    day, due = date(2025, 3, 12), []
    while day < date(2025, 12, 15):
        if calendar is None or calendar.session(day):
            due.append((day, schedules._due(contract, day)))
        day += timedelta(1)
    for day, (can, midnight) in due:
        moment = max(can, midnight)
        after = [one for one in found if one >= moment]
        # Clocks change and half days shift by hours: never early, and never later than the hours between them.
        assert after, day
        assert after[0] - moment <= timedelta(hours=14), (day, moment, after[0])
        if said["timezone"] != "UTC" or known is False:
            assert after[0] - moment <= timedelta(hours=1, minutes=6), (day, moment, after[0])
    # As many as there are sessions: none on days without.
    inside = [one for one in found if due[0][1][1] <= one - timedelta(minutes=1) <= due[-1][1][1]]
    assert abs(len(inside) - len(due)) <= 10


def test_what_is_landed_whole_is_asked_for_at_the_beginning_of_each_slot():
    week = schedules.of(MARKETS["splits"])
    assert week == {"interval": 604800.0, "anchor_date": "1970-01-05T00:05:00+00:00", "timezone": "UTC"}
    quarter = schedules.of(replace(MARKETS["splits"], every="P3M"))
    assert [str(one)[:16] for one in fired(quarter, date(2026, 1, 1), date(2026, 12, 31))] == [
        "2026-01-01 00:05", "2026-04-01 00:05", "2026-07-01 00:05", "2026-10-01 00:05",
    ]  # fmt: skip


def test_what_is_wanted_holds_a_deployment_for_each_dataset_and_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ASSAY_SECRET_FMP_API_KEY", "very-secret")
    settings = Settings(tmp_path, "markets", "dev", tmp_path / "data/dev")
    found = wanted(settings, MARKETS, described.read(tmp_path, "dev"))
    assert "alerts/lake" not in found["deployment"]
    told = wanted(replace(settings, alerts=(Policy("ops", ("late",)),)), MARKETS, described.read(tmp_path, "dev"))
    assert told["deployment"].keys() - found["deployment"].keys() == {"alerts/lake"}
    assert told["automation"].keys() - found["automation"].keys() == {"alert-of-a-closed-gate"}
    lands = {name for name in found["deployment"] if name.startswith("land/")}
    assert lands == {f"land/{name}" for name in MARKETS}
    assert set(found["pool"]) == {"ingest", "transform", "stream", "backfill"}
    assert "local-file-system/bronze-storage" in found["block"]
    assert "dbt-ecs-task" in found["variable"]
    assert "very-secret" not in json.dumps(found)
    for one in found["deployment"].values():
        place = {"ASSAY_LAKE": str(tmp_path.resolve()), "ASSAY_ENV": "dev", "ASSAY_TARGET": "local"}
        assert one["job_variables"]["env"] == place


def test_on_aws_pools_run_tasks_by_a_registered_definition_and_hold_no_key(tmp_path: Path):
    where = Aws("ca-central-1", "123456789012", "lake", "markets")
    settings = Settings(tmp_path, "markets", "prod", tmp_path / "data/prod", aws=where)
    said = described.read(tmp_path, "prod")
    with pytest.raises(SettingsError, match=r"aws\.cluster of assay\.toml is missing: flows on AWS run as tasks"):
        wanted(settings, MARKETS, said, "aws")
    ready = replace(where, cluster="lake", task_definition="assay:7", subnets=("subnet-1",), security_groups=("sg-1",))
    found = wanted(replace(settings, aws=ready), MARKETS, said, "aws")
    laptop = wanted(settings, MARKETS, said)
    for kind in ("variable", "limit", "pool", "queue", "deployment", "automation"):
        assert found[kind].keys() == laptop[kind].keys()  # the same names
    assert found["block"] == {
        "s3-bucket/bronze-storage": {"bucket_name": "lake", "bucket_folder": "markets/prod/bronze"}
    }
    for pool in found["pool"].values():
        job = pool["base_job_template"]["job_configuration"]
        assert (pool["type"], job["cluster"], "task_definition" in job) == ("ecs", "lake", False)
        assert pool["base_job_template"]["variables"]["properties"]["task_definition_arn"]["default"] == "assay:7"
        network = job["task_run_request"]["networkConfiguration"]["awsvpcConfiguration"]
        assert network == {"subnets": ["subnet-1"], "securityGroups": ["sg-1"], "assignPublicIp": "DISABLED"}
    for one in found["deployment"].values():
        assert one["job_variables"]["env"] == {"ASSAY_ENV": "prod", "ASSAY_METRICS": "emf", "ASSAY_TARGET": "aws"}
    assert "aws_access_key" not in json.dumps(found)


# ------------------------------------------------------------------ on a server


def assay(prefect: Prefect, lake: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PYTHON.parent / "assay", "--lake", lake, *words], env=prefect.environment, capture_output=True, text=True, timeout=120, check=False
    )  # fmt: skip


@pytest.mark.slow
def test_a_deploy_is_idempotent_finds_what_a_hand_changed_and_removes_only_what_it_made(
    tmp_path: Path, prefect: Prefect
):
    lake = begun(tmp_path / "markets", "markets")
    theirs = prefect.ask("variables/", name="theirs", value="mine")
    dry = assay(prefect, lake, "deploy", "--dry-run")
    assert dry.returncode == 1, dry.stderr
    assert "add deployment land/price_eod" in dry.stdout
    assert prefect.ask("deployments/count") == 0  # a dry run makes nothing

    assert assay(prefect, lake, "deploy").returncode == 0
    again = assay(prefect, lake, "--json", "deploy", "--dry-run")
    assert (again.returncode, json.loads(again.stdout)) == (0, [])

    # By hand: a limit, a paused deployment, a schedule switched off, an automation gone, a variable changed.
    listed = prefect.ask("deployments/filter", deployments={"name": {"any_": ["price_eod", "gold"]}})
    by = {one["name"]: one for one in listed}
    hand = f"""
from prefect.client.orchestration import get_client
from prefect.client.schemas import actions
with get_client(sync_client=True) as c:
    c.update_work_pool("transform", actions.WorkPoolUpdate(concurrency_limit=7))
    c.pause_deployment("{by["price_eod"]["id"]}")
    c.update_deployment_schedule("{by["gold"]["id"]}", "{by["gold"]["schedules"][0]["id"]}", active=False)
    c.update_deployment("{by["price_eod"]["id"]}", actions.DeploymentUpdate(job_variables={{"env": {{"ASSAY_ENV": "dev", "X": "1"}}}}))
    c.delete_automation(c.read_automations_by_name("mark-the-dead")[0].id)
    c.update_variable(actions.VariableUpdate(name="dbt-ecs-task", value="x"))
"""
    subprocess.run([PYTHON, "-c", hand], env=prefect.environment, check=True, timeout=60)
    drift = assay(prefect, lake, "deploy", "--dry-run")
    assert drift.returncode == 1
    for line in (
        "change pool transform\n         concurrency_limit: 7 -> 1\n",
        "change deployment land/price_eod\n         paused: true -> false\n         job_variables: ",
        "change deployment build/gold\n         schedules: ",
        "add automation mark-the-dead\n",
        'change variable dbt-ecs-task\n         value: "x" -> ',
        "1 to add, 4 to change, 0 to remove",
    ):
        assert line in drift.stdout, drift.stdout
    assert assay(prefect, lake, "deploy").returncode == 0
    assert assay(prefect, lake, "deploy", "--dry-run").returncode == 0

    # A dataset that is gone takes its deployment with it; another lake is refused before anything changes.
    (lake / "contracts/symbol_list.yaml").rename(tmp_path / "away.yaml")
    assert "remove deployment land/symbol_list\n" in assay(prefect, lake, "deploy", "--dry-run").stdout
    (tmp_path / "away.yaml").rename(lake / "contracts/symbol_list.yaml")
    other = assay(prefect, begun(tmp_path / "shop", "csv"), "deploy")
    assert other.returncode == 2
    assert "variable dbt-ecs-task is there already and is not ours: another lake or environment made it" in other.stderr
    assert assay(prefect, lake, "deploy", "--dry-run").returncode == 0

    gone = assay(prefect, lake, "deploy", "--destroy")
    assert gone.returncode == 0, gone.stderr
    for kind in ("deployments", "work_pools", "automations", "block_documents"):
        assert prefect.ask(f"{kind}/filter") == [], kind
    assert [one["name"] for one in prefect.ask("variables/filter")] == ["theirs"]
    assert theirs["value"] == "mine"


@contextmanager
def answering(code: int) -> Iterator[int]:
    """The port of a server that answers everything with this status."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.mark.slow
def test_a_server_that_is_not_there_or_is_of_others_is_named_with_who_must_act(tmp_path: Path, prefect: Prefect):
    lake = begun(tmp_path / "shop", "csv")
    nobody = {"PREFECT_API_URL": "http://127.0.0.1:9/api"}
    found = assay(Prefect("", prefect.environment | nobody), lake, "deploy")
    assert found.returncode == 2
    assert "the Prefect server does not answer (ConnectError); PREFECT_API_URL must name one that runs" in found.stderr
    none = {name: value for name, value in prefect.environment.items() if name != "PREFECT_API_URL"}
    found = assay(Prefect("", none), lake, "deploy")
    assert found.returncode == 2
    assert "no Prefect server is known: start one by `assay up`, or set PREFECT_API_URL" in found.stderr
    for code, who in {
        401: (2, "the Prefect server refused: 401; PREFECT_API_AUTH_STRING must be its own"),
        503: (1, "the Prefect server answers 503; its log says why: deploy again when it is well"),
    }.items():
        with answering(code) as port:
            told = {"PREFECT_API_URL": f"http://127.0.0.1:{port}/api", "PREFECT_CLIENT_MAX_RETRIES": "0"}
            found = assay(Prefect("", prefect.environment | told), lake, "deploy")
        assert found.returncode == who[0], found.stderr
        assert who[1] in found.stderr
    (lake / "deploy.yaml").write_text("pools:\n  ingest: {limt: 3}\n")
    found = assay(prefect, lake, "deploy")
    assert found.returncode == 2
    assert "deploy.yaml:2: pools.ingest.limt means nothing" in found.stderr
    assert prefect.ask("deployments/count") == 0
