"""Lineage: every event is OpenLineage's by its own schemas, tells what the log, the evidence and the releases say, and guesses nothing."""

import json
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from referencing import Registry, Resource
from ulid import ULID

from assay.lake import bronze, evidence, release
from assay.lake.release import Model
from assay.run import Lake, columns, lineage
from assay.run import lake as lakes
from tests.forked import Said
from tests.kept import Kept, begun
from tests.stories.proxy import Proxy

SCHEMAS = {
    path.stem: json.loads(path.read_text())
    for path in (Path(__file__).parents[1] / "fixtures/openlineage").glob("*.json")
}
REGISTRY = Registry().with_resources((one["$id"], Resource.from_contents(one)) for one in SCHEMAS.values())
TRADES = "files/trades.csv"
Event = dict[str, Any]


def checked(schema: Mapping[str, Any], body: Any) -> None:
    jsonschema.Draft202012Validator(
        schema, registry=REGISTRY, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    ).validate(body)


def facets(event: Event) -> list[tuple[str, Any]]:
    """All facets of an event, by name."""
    there = [event["run"], event["job"], *event["inputs"], *event["outputs"]]
    kinds = ("facets", "inputFacets", "outputFacets")
    return [pair for one in there for kind in kinds for pair in one.get(kind, {}).items()]


def valid(events: Sequence[Event]) -> Sequence[Event]:
    """The events; each holds OpenLineage's schemas, and each run begins once and ends at most once, later."""
    by_file = {name.rpartition("/")[2]: (of, name) for of, name in lineage.FACETS.items()}
    assert by_file.keys() == SCHEMAS.keys() - {"OpenLineage"}
    began: dict[str, datetime] = {}
    ended: set[str] = set()
    for event in events:
        checked(SCHEMAS["OpenLineage"], event)
        uuid.UUID(event["run"]["runId"])
        at = datetime.fromisoformat(event["eventTime"])
        assert at.utcoffset() == timedelta()
        for name, facet in facets(event):
            file = lineage.FACETS[name].rpartition("/")[2]
            assert SCHEMAS[file]["properties"].keys() == {name}
            assert f"{SCHEMAS[file]['$id']}#/$defs/{file}" == facet["_schemaURL"]
            checked(SCHEMAS[file], {name: facet})
        run = event["run"]["runId"]
        if event["eventType"] == "START":
            assert run not in began
            began[run] = at
        else:
            assert run not in ended
            assert began[run] <= at
            ended.add(run)
    return events


def told(root: Path, since: str | None = None) -> Sequence[Event]:
    with lakes.open(root) as opened:
        return valid(list(opened.lineage(since)))


def short(events: Sequence[Event]) -> list[tuple[str, str]]:
    return [(one["job"]["name"], one["eventType"]) for one in events]


def of(events: Sequence[Event], job: str, kind: str = "COMPLETE") -> Event:
    [found] = [one for one in events if (one["job"]["name"], one["eventType"]) == (job, kind)]
    return found


@pytest.fixture(scope="module")
def kept() -> Iterator[Kept]:
    """A lake of trades with a first release; not below pytest's directory, see tests/rooms/test_cli.py."""
    with tempfile.TemporaryDirectory() as directory:
        one = Kept(Path(directory) / "lake")
        begun(one.root, "csv")
        with lakes.open(one.root) as opened:
            assert not opened.apply(opened.plan()).errors
        one.keep("released")
        yield one


@pytest.fixture
def lake(kept: Kept) -> Path:
    """That lake."""
    return kept.begin("released")


def facet(one: Mapping[str, Any], name: str, kind: str = "facets") -> Any:
    return {k: v for k, v in one[kind][name].items() if not k.startswith("_")}


def test_one_run_is_a_landing_a_refine_and_a_build(lake: Path) -> None:
    events = told(lake)
    assert short(events) == [
        (job, kind) for job in ("land.trades", "refine.trades", "build") for kind in ("START", "COMPLETE")
    ]
    with lakes.open(lake) as opened:
        made, t = opened.released(), opened.target
        run = ULID.from_str(made.run).to_uuid()
        entry, [fold] = bronze.read(t.files, "trades", 2), [evidence.read(t.files, "trades", 1)[0]]
        assert {one["run"]["facets"]["parent"]["run"]["runId"] for one in events} == {str(run)}
        assert len({one["run"]["runId"] for one in events}) == 3
        assert {one["run"]["runId"] for one in events} & {str(run)} == set()  # a run is of one job
    assert {one["job"]["namespace"] for one in events} == {"assay://my-lake/dev"}
    land, refine, build = (of(events, job) for job in ("land.trades", "refine.trades", "build"))
    assert [datetime.fromisoformat(one["eventTime"]) for one in (land, refine, build)] == [
        entry.captured_at, fold.at, datetime.fromisoformat(build["eventTime"]),
    ]  # fmt: skip
    assert datetime.fromisoformat(of(events, "land.trades", "START")["eventTime"]) == entry.batches[0].asked_at
    assert [(one["namespace"], one["name"]) for one in land["inputs"]] == [("assay://my-lake/dev", "files/trades.csv")]
    [log] = land["outputs"]
    assert (log["name"], facet(log, "version")) == ("bronze.trades", {"datasetVersion": "2"})
    assert facet(log, "outputStatistics", "outputFacets") == {"rowCount": 10, "size": entry.parts[0].stored, "fileCount": 1}  # fmt: skip
    assert [one["name"] for one in refine["outputs"]] == ["silver.trades", "silver.trades_past"]
    assert facet(refine["outputs"][0], "lifecycleStateChange") == {"lifecycleStateChange": "CREATE"}
    assert facet(refine["outputs"][0], "outputStatistics", "outputFacets")["rowCount"] == 10
    assert facet(refine["outputs"][0], "schema")["fields"][0] == {
        "name": "trade_id", "type": "VARCHAR", "description": "the broker's number of the trade",
    }  # fmt: skip
    [gold] = build["outputs"]
    assert (gold["name"], facet(gold, "version")) == ("gold.mart_position", {"datasetVersion": str(made.gold[0].snapshot)})  # fmt: skip
    read = facet(gold, "columnLineage")["fields"]
    assert read.keys() == {"symbol", "quantity", "cost", "last_traded_on"}  # a count is of no column
    assert read["cost"]["inputFields"] == [
        {"namespace": "assay://my-lake/dev", "name": "silver.trades", "field": field, "transformations": [{"type": "DIRECT", "subtype": "AGGREGATION"}]}
        for field in ("quantity", "price")
    ]  # fmt: skip
    assert read["symbol"]["inputFields"][0]["transformations"] == [{"type": "DIRECT", "subtype": "IDENTITY"}]


def test_what_one_step_reads_is_what_another_wrote_in_the_same_version(lake: Path) -> None:
    events = told(lake)
    wrote: set[tuple[str, str, str]] = set()
    for one in events:
        for read in one["inputs"] if one["eventType"] == "COMPLETE" and one["job"]["name"] != "land.trades" else ():
            assert (read["namespace"], read["name"], read["facets"]["version"]["datasetVersion"]) in wrote
        for out in one["outputs"] if one["eventType"] == "COMPLETE" else ():
            wrote.add((out["namespace"], out["name"], out["facets"]["version"]["datasetVersion"]))
            for field in out["facets"].get("columnLineage", {}).get("fields", {}).values():
                assert {source["name"] for source in field["inputFields"]} <= {one["name"] for one in one["inputs"]}


def test_rows_that_broke_rules_and_held_batches_are_assertions_that_failed(lake: Path) -> None:
    path = lake / TRADES
    path.write_text(path.read_text() + "X-1,2024-01-03,IBM,0,-1\nX-2,2024-01-03,IBM,x,1\n")
    with lakes.open(lake) as opened:
        opened.apply(opened.plan(["trades"]))
        [one] = list(opened.status()["datasets"].values())
    refine = [one for one in told(lake) if one["job"]["name"] == "refine.trades"][-1]
    said = facet(refine["inputs"][0], "dataQualityAssertions", "inputFacets")["assertions"]
    by = {one.get("name", one["assertion"]): one for one in said}
    assert facet(refine["inputs"][0], "dataQualityMetrics", "inputFacets")["rowCount"] == 12
    assert one["quarantined"] + one["held"] > 0
    assert by["conservation"]["success"]
    assert sum(v for k, v in by["conservation"]["params"].items() if k != "withdrawn") == 12
    assert by["price_positive"] | {"success": False, "actual": "1", "content": "price > 0"} == by["price_positive"]
    assert by["quantity:type"] | {"success": False, "actual": "1", "column": "quantity"} == by["quantity:type"]
    assert by["quantity_not_zero"]["actual"] == "1"
    assert by["gate"]["success"] is (not one["held_batches"])


def test_the_second_run_says_what_it_changed_and_no_more(lake: Path) -> None:
    path = lake / TRADES
    path.write_text(path.read_text() + "T-0099,2024-02-03,IBM,5,10\n")
    with lakes.open(lake) as opened:
        assert not opened.apply(opened.plan()).errors
        run = opened.released().run
    events = told(lake, run)
    assert short(events)[1::2] == [("land.trades", "COMPLETE"), ("refine.trades", "COMPLETE"), ("build", "COMPLETE")]
    assert told(lake)[6:] == events
    refine, build = of(events, "refine.trades"), of(events, "build")
    assert facet(refine["outputs"][0], "outputStatistics", "outputFacets")["rowCount"] == 1
    assert "lifecycleStateChange" not in refine["outputs"][0]["facets"]
    assert facet(build["outputs"][0], "lifecycleStateChange") == {"lifecycleStateChange": "OVERWRITE"}
    uid = str(ULID.from_str(run).to_uuid())
    assert told(lake, uid) == told(lake, run.lower()) == events
    last = datetime.fromisoformat(events[-1]["eventTime"])
    assert short(told(lake, last.isoformat())) == [("build", "START"), ("build", "COMPLETE")]
    assert told(lake, (last + timedelta(microseconds=1)).isoformat()) == []
    assert told(lake, "2000-01-01") == told(lake)


@pytest.mark.slow
def test_a_build_of_the_same_rows_writes_nothing_and_one_without_a_table_drops_it(lake: Path) -> None:
    for path in sorted((lake / "dbt").rglob("*")):
        if path.is_file() and "mart_position" in path.read_text():
            path.write_text(path.read_text().replace("mart_position", "mart_holding"))
    for path in sorted((lake / "dbt").rglob("mart_position.*")):
        path.rename(path.with_stem("mart_holding"))
    with lakes.open(lake) as opened:
        opened.build()
    with lakes.open(lake) as opened:
        opened.build()
        before, last = (release.read(opened.target.files, n).gold[0].snapshot for n in (2, 3))
        assert before == last
    builds = [one for one in told(lake) if one["job"]["name"] == "build" and one["eventType"] == "COMPLETE"]
    said = [
        {o["name"]: o["facets"].get("lifecycleStateChange", {}).get("lifecycleStateChange") for o in one["outputs"]}
        for one in builds
    ]
    assert said == [
        {"gold.mart_position": "CREATE"},
        {"gold.mart_holding": "CREATE", "gold.mart_position": "DROP"},
        {"gold.mart_holding": None},
    ]
    assert "outputFacets" not in builds[2]["outputs"][0]


@pytest.mark.slow
def test_steps_that_failed_say_so_as_far_as_the_ledger_knows(lake: Path) -> None:
    (lake / TRADES).rename(lake / "aside.csv")
    with lakes.open(lake) as opened:
        assert opened.apply(opened.plan(["trades"])).errors
    sql = lake / "dbt/models/gold/mart_position.sql"
    sql.write_text(sql.read_text().replace("symbol,", "'ALL' as symbol,", 1))
    with lakes.open(lake) as opened:
        assert opened.apply([one for one in opened.plan(land=False) if one.id.startswith("build")]).errors
    events = told(lake)[6:]
    assert short(events) == [
        ("land.trades", "START"), ("land.trades", "FAIL"), ("build", "START"), ("build", "FAIL"),
    ]  # fmt: skip
    land, build = events[1], events[3]
    assert facet(land["run"], "errorMessage")["message"].startswith("SourceSuspect: trades: no file of")
    assert [one["name"] for one in land["outputs"]] == ["bronze.trades"]
    assert facet(build["run"], "errorMessage")["message"].startswith("BuildFailed: gold was not built")
    (lake / "aside.csv").rename(lake / TRADES)
    with lakes.open(lake) as opened:
        opened.apply(opened.landings("trades", again=True))
    assert ("land.trades", "FAIL") not in short(told(lake))  # the ledger keeps the newest; nobody makes another up


def test_a_step_that_runs_began_and_has_not_ended(lake: Path) -> None:
    from assay.run import loop

    with lakes.open(lake) as opened:
        loop.mark(opened.target.ledger, "trades", "refine", "started", str(ULID()))
    assert short(told(lake))[6:] == [("refine.trades", "START")]


def test_a_run_whose_id_is_no_ulid_or_of_another_time_has_a_stable_uuid_and_begins_when_it_ended(lake: Path) -> None:
    from assay.run import loop

    old, odd = str(ULID.from_uuid(uuid.UUID(int=7))), "nightly"
    with lakes.open(lake) as opened:
        for run in (old, odd):
            loop.mark(
                opened.target.ledger, "trades", "refine" if run == odd else "land", "failed", run, "SourceBusy: no"
            )
    first, second = told(lake)[6:], told(lake)[6:]
    assert first == second
    assert len(first) == 4
    for began, ended in zip(first[::2], first[1::2], strict=True):
        assert began["eventTime"] == ended["eventTime"]
    assert first[0]["run"]["facets"]["parent"]["run"]["runId"] in (str(uuid.UUID(int=7)), str(uuid.uuid5(lineage.RUNS, odd)))  # fmt: skip


def test_a_lost_ledger_takes_no_event_but_failures_with_it(lake: Path) -> None:
    before = told(lake)
    for path in (lake / "data/dev").glob("ledger.db*"):
        path.unlink()
    assert told(lake) == before


@pytest.mark.parametrize(
    "since",
    ["", "yesterday", "2024-13-01", "01M8CN7NKDYEZH8F06KV3TQA5T", str(uuid.UUID(int=8)), "2024-01-01..2025-01-01"],
)
def test_what_is_neither_a_run_nor_a_time_is_refused(lake: Path, since: str, assay: Callable[..., Said], tmp_path: Path) -> None:  # fmt: skip
    said = assay("--lake", lake, "lineage", "--since", since, "--output", tmp_path / "out")
    assert said.code == 2, said
    assert "is no run that is known here, and no time" in said.err
    assert list(tmp_path.iterdir()) == []


def test_a_line_an_event_on_standard_output_or_in_a_file(
    lake: Path, assay: Callable[..., Said], tmp_path: Path
) -> None:
    said = assay("--lake", lake, "lineage")
    assert said.code == 0
    assert [json.loads(line) for line in said.out.splitlines()] == told(lake)
    out = tmp_path / "events.ndjson"
    out.write_text("as it was")
    assert assay("--lake", lake, "lineage", "--output", out).err == f"wrote 6 events to {out}\n"
    assert out.read_text() == said.out
    assert assay("--lake", lake, "lineage", "--output", tmp_path / "none/events").code == 1
    assert assay("--lake", lake, "lineage", "--output", tmp_path).code == 2


def test_an_empty_lake_has_no_lineage(tmp_path: Path, assay: Callable[..., Said]) -> None:
    root = begun(tmp_path / "lake", "csv")
    assert assay("--lake", root, "lineage").out == ""


@pytest.mark.slow
def test_the_demo_is_valid_and_each_column_of_gold_leads_to_silver(built: tuple[Lake, Proxy]) -> None:
    opened, proxy = built
    events = valid(list(opened.lineage()))
    assert Counter(kind for _, kind in short(events)) == {"START": 11, "COMPLETE": 11}
    land = of(events, "land.price_eod")
    assert [(one["namespace"], one["name"]) for one in land["inputs"]] == [
        (proxy.url.removesuffix("/stable"), "/stable/historical-price-eod/non-split-adjusted")
    ]
    build = of(events, "build")
    read = {one["name"]: one["facets"]["columnLineage"]["fields"] for one in build["outputs"]}
    for gold in opened.released().gold:
        assert {column.name for column in gold.columns} - read[f"gold.{gold.name}"].keys() <= {"sessions_used"}
    momentum = {
        (one["name"], one["field"]): {said["subtype"] for said in one["transformations"]}
        for one in read["gold.mart_momentum_asof"]["momentum_12_1"]["inputFields"]
    }
    for table in ("silver.price_eod", "silver.price_eod_past"):
        assert momentum[table, "close"] == {"AGGREGATION", "CONDITIONAL"}
    assert ("silver.dividends_past", "dividend") in momentum
    assert ("stg.symbol_changes", "old_symbol") in momentum
    names = {one["name"] for one in build["inputs"]}
    assert {table for table, _ in momentum} <= names


# ------------------------------------------------------------------ columns

STORED = {"silver.a": ["x", "y", "z"], "silver.b": ["x", "w"], "stg.seed": ["k", "v"]}
SQL = {
    "renamed": ("select x as out from silver.a", {"a.x": "IDENTITY"}),
    "in another case": ('select "X" as out from Silver.A', {"a.x": "IDENTITY"}),
    "computed": ("select x + y as out from silver.a", {"a.x": "TRANSFORMATION", "a.y": "TRANSFORMATION"}),
    "cast": ("select cast(x as varchar) as out from silver.a", {"a.x": "TRANSFORMATION"}),
    "summed": ("select sum(x * y) as out from silver.a group by z", {"a.x": "AGGREGATION", "a.y": "AGGREGATION"}),
    "a constant": ("select 1 as out from silver.a", {}),
    "counted": ("select count(*) as out from silver.a", {}),
    "through a CTE": ("with t as (select x as c from silver.a) select max(c) as out from t", {"a.x": "AGGREGATION"}),
    "a star": ("with t as (select * from silver.a) select x as out from t", {"a.x": "IDENTITY"}),
    "a star without some": ("select * exclude (y), y as out from silver.a", {"a.y": "IDENTITY"}),
    "joined": ("select a.x + w as out from silver.a join silver.b using (x)", {"a.x": "TRANSFORMATION", "b.w": "TRANSFORMATION"}),
    "using": ("select x as out from silver.a full join silver.b using (x)", {"a.x": "TRANSFORMATION", "b.x": "TRANSFORMATION"}),
    "an earlier alias": ("select x as c, c + 1 as out from silver.a", {"a.x": "TRANSFORMATION"}),
    "united by place": ("select x as out from silver.a union all select w from silver.b", {"a.x": "IDENTITY", "b.w": "IDENTITY"}),
    "united by name": ("select y, x as out from silver.a union all by name select w as out from silver.b", {"a.x": "IDENTITY", "b.w": "IDENTITY"}),
    "over a window": ("select sum(x) over (partition by y order by z) as out from silver.a", {"a.x": "AGGREGATION", "a.y": "WINDOW", "a.z": "WINDOW"}),
    "the row before": ("select lag(x) over (order by z) as out from silver.a", {"a.x": "TRANSFORMATION", "a.z": "WINDOW"}),
    "where another": ("select case when y > 0 then x else z end as out from silver.a", {"a.x": "TRANSFORMATION", "a.y": "CONDITIONAL", "a.z": "TRANSFORMATION"}),
    "filtered": ("select sum(x) filter (where y > 0) as out from silver.a", {"a.x": "AGGREGATION", "a.y": "FILTER"}),
    "chosen, then added": ("with t as (select case when y > 0 then x end as c from silver.a) select sum(c) as out from t", {"a.x": "AGGREGATION", "a.y": "CONDITIONAL"}),
    "a lambda": ("select list_transform([x], q -> q + y) as out from silver.a", {"a.x": "TRANSFORMATION", "a.y": "TRANSFORMATION"}),
    "a seed": ("select v as out from stg.seed", {"seed.v": "IDENTITY"}),
    "of itself": ("with recursive t as (select x as c, y as d from silver.a union all select t.d, b.w from t join silver.b on true) select c as out from t", {"a.x": "IDENTITY", "a.y": "IDENTITY", "b.w": "IDENTITY"}),
    "of itself, named": ("with recursive t(c, n) as (select x, 1 from silver.a union all select c, n + 1 from t where n < 3) select c as out from t", {"a.x": "IDENTITY"}),
}  # fmt: skip
UNCLEAR = {
    "a nested query": "select (select max(w) from silver.b) + x as out from silver.a",
    "a nested query of the same name": "select (select max(a.x) from silver.b as a) as out from silver.a",
    "a column of nothing known": "select q as out from silver.unknown",
    "a star of nothing known": "with t as (select * from silver.unknown) select x as out from t",
    "columns by pattern": "with t as (select columns('x|y') from silver.a union all select x, w from silver.b) select y as out from t",
    "elements of a list": "select u as out from silver.a, unnest([x, y]) as t(u)",
    "turned around": "with t as (pivot silver.a on y using sum(x)) select x as out from t",
    "no SQL": "select from where",
}


def resolved(sql: str) -> dict[str, str] | None:
    found = columns.origins([Model("stg.seed", "seed", ""), Model("gold.t", "model", sql)], STORED)["gold.t"].get("out")
    return None if found is None else {f"{r.partition('.')[2]}.{c}": "+".join(sorted(how)) for (r, c), how in found.items()}  # fmt: skip


@pytest.mark.parametrize("case", SQL)
def test_a_column_comes_from_those_that_its_sql_reads(case: str) -> None:
    sql, wanted = SQL[case]
    assert resolved(sql) == wanted


@pytest.mark.parametrize("case", UNCLEAR)
def test_what_is_not_clear_is_left_out(case: str) -> None:
    assert resolved(UNCLEAR[case]) is None


def test_models_are_put_together_and_what_rests_on_what_is_not_clear_is_not_clear() -> None:
    models = [
        Model("stg.first", "model", "select x as c, (select max(w) from silver.b) as d, y from silver.a"),
        Model("stg.second", "model", "select c + y as e, d as f from stg.first"),
        Model("gold.t", "model", "select sum(e) as g, min(f) as h from stg.second"),
    ]
    found = columns.origins(models, STORED)["gold.t"]
    assert found == {"g": {("silver.a", name): frozenset({"AGGREGATION"}) for name in "xy"}}


def test_times_are_utc_whatever_the_zone(lake: Path) -> None:
    assert told(lake, "2000-01-01T00:00+05:00") == told(lake)
    assert all(datetime.fromisoformat(one["eventTime"]).tzinfo == UTC for one in told(lake))
