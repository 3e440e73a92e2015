"""Gold computed by (our double of) Athena: the rows are DuckDB's, whatever fails changes nothing, and nothing of a build stays there."""

import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from ulid import ULID

from assay import clock
from assay.build import build
from assay.contract.model import Contract
from assay.errors import BuildFailed, ContractError, LakeBusy, SettingsError
from assay.lake import release
from assay.lake.release import Release
from assay.targets.aws import athena as targets_athena
from assay.targets.aws import database
from assay.targets.aws.athena import Athena, AthenaQuery, failed
from assay.targets.aws.clients import Clients
from assay.targets.aws.s3 import S3Files
from tests import clouds
from tests.making import Made, every_type, make_on_aws, record

pytestmark = pytest.mark.slow
COLUMNS = {
    "id": "varchar", "whole": "bigint", "amount": "decimal(18,6)", "flag": "boolean", "day": "date",
    "moment": "timestamp with time zone", "note": "varchar", "maybe": "decimal(38,10)", "half": "double",
    "former": "bigint", "captured_at": "timestamp with time zone", "word": "varchar",
}  # fmt: skip
MODEL = """{{ config(materialized='table') }}
select t.id, t.whole, t.amount, t.flag, t.day, t."at" as moment, t.note, t.maybe, cast(t.whole as double) / 2 as half,
  v.former, t.captured_at, e.word
from {{ source('silver', 'things') }} as t
left join (select id, count(known_to) as former from {{ source('silver', 'things_versions') }} group by id) as v on v.id = t.id
left join {{ ref('extra') }} as e on e.id = t.id"""
YML = """version: 2
models:
  - name: mart
    description: Things.
    config:
      contract: {enforced: true}
      meta: {assay: {key: [id], clocks: {captured_at: captured_at}, inputs: [
        {table: silver.things, where: id = row.id}, {table: silver.things_versions, where: id = row.id}]}}
    columns:
""" + "".join(
    f"      - {{name: {name}, description: d, data_type: '{kind}', config: {{meta: {{assay: {{classification: public}}}}}}}}\n"
    for name, kind in COLUMNS.items()
)
FILES = {
    "dbt_project.yml": "{name: tiny, profile: assay, flags: {send_anonymous_usage_stats: false}}",
    "seeds/extra.csv": "id,word\na,a'b\n",
    "models/mart.sql": MODEL,
    "models/mart.yml": YML,
    "models/unit.yml": """unit_tests: [{name: halves, model: mart, given: [
        {input: "source('silver', 'things')", rows: [{id: a, whole: 3}]}, {input: "source('silver', 'things_versions')", rows: []},
        {input: ref('extra'), rows: []}], expect: {rows: [{id: a, half: 1.5}]}}]""",
}


class Small:
    """A lake of one dataset in the doubles, with a dbt project of one table."""

    def __init__(self, root: Path) -> None:
        self.made: Made = make_on_aws(root / "lake")
        self.project, self.contract = root / "dbt", every_type()
        assert isinstance(self.made.files, S3Files)
        self.files: S3Files = self.made.files
        self.clients = Clients(replace(self.files.clients.aws, workgroup="primary"))
        self.platforms = Athena(self.clients, "dev", self.files, self.files.base)
        self.write()

    def write(self, **files: str) -> None:
        """The project, with files added or replaced."""
        for name, text in (FILES | files).items():
            path = self.project / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def build(self, *, here: bool = False) -> Release:
        """A release of gold as Athena computes it, or as DuckDB does `here`."""
        contracts: dict[str, Contract] = {"things": self.contract}
        return build(
            self.project, contracts, files=self.made.files, catalog=self.made.catalog, ledger=self.made.ledger, run="run",
            limits=self.made.limits, platforms=None if here else self.platforms,
        )  # fmt: skip

    def databases(self) -> set[str]:
        """The Glue databases of builds."""
        found = clouds.shared().client("glue").get_databases()["DatabaseList"]
        return {one["Name"] for one in found if one["Name"].startswith(database(self.clients.aws, "dev", "build_"))}

    def left(self) -> tuple[set[str], list[str]]:
        """What of builds is there yet."""
        return self.databases(), list(self.files.names("build/"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    one = Small(tmp_path_factory.mktemp("athena"))
    made, contract = one.made, one.contract
    made.land(
        contract,
        [
            record(note='"Ж \\" \' \\n end"', maybe='"-1234567890123456789012345678.0123456789"'),
            record(id='"b"', amount="0.000001", at='"1969-12-31T23:59:59.999999Z"', day='"0001-01-01"'),
            record(id='"c"', whole="-999999", flag="false", at='"9999-12-31T23:59:59.999999Z"'),
        ],
    )
    made.refine(contract)
    made.land(contract, [record(id='"b"', whole="8")], day=2)
    made.refine(contract)
    one.build(here=True)
    yield one
    made.close()


def test_gold_of_athena_is_that_of_duckdb_to_the_last_digit(small: Small) -> None:
    """Every type goes there and back; a release of equal rows keeps the snapshot, which only equal rows do."""
    here, _ = release.stored(small.files, release.newest(small.files))
    first = small.build()
    assert small.left() == (set(), [])
    assert (first.gold[0].rows, first.tests) == (3, 1)
    assert first.number > here.number
    assert (here.gold[0].content, here.gold[0].snapshot) == (first.gold[0].content, first.gold[0].snapshot)
    assert [c.type for c in here.gold[0].columns] == [c.type for c in first.gold[0].columns]
    assert here.models == first.models  # what explains a row is the same SQL
    assert (here.docs, here.docs_sha256) == (first.docs, first.docs_sha256)  # and so is what documents it


def test_versions_are_a_view_for_readers_of_athena(small: Small) -> None:
    small.build()
    names, rows = AthenaQuery(small.clients, f"{small.files.base}results/").rows(
        f'select id, whole, known_to is null as is_current from "{database(small.clients.aws, "dev", "silver")}".things_versions order by id, 3',
        10,
    )
    assert names == ["id", "whole", "is_current"]
    assert rows == [["a", "7", "true"], ["b", "7", "false"], ["b", "8", "true"], ["c", "-999999", "true"]]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        pytest.param(
            {"models/mart.sql": MODEL.replace("t.whole,", "cast(list_sum([t.whole]) as bigint) as whole,")},
            r"model mart \(models/mart.sql\).*list_sum",
            id="what only DuckDB knows",
        ),
        pytest.param(
            {"models/mart.sql": MODEL.replace("t.whole,", "cast(t.whole as varchar) as whole,")},
            "model mart .*contract",
            id="another type than its contract says",
        ),
        pytest.param(
            {"models/mart.sql": MODEL.replace("cast(t.whole as double) / 2 as half", "t.whole / 2 as half")},
            "mart: half is BIGINT on the platform that computed it, and DOUBLE by its contract",
            id="a division that Trino ends at whole numbers",
        ),
        pytest.param(
            {"seeds/extra.csv": "id,word\na,word\nb,Null\n"},
            r"seeds/extra.csv: a row is read .* alone",
            id="a seed that is read otherwise",
        ),
        pytest.param(
            {"models/mart.sql": MODEL.replace("'table'", "'view'")},
            "mart: is a view; .* say `materialized: table`",
            id="a view",
        ),
        pytest.param(
            {"models/mart.sql": MODEL + "{% set _ = run_query('select 1') %}"},
            "mart: asks the database",
            id="a model that asks",
        ),
        pytest.param(
            {"tests/platform/small.sql": "select id, whole from {{ ref('mart') }} where whole > 7"},
            r"test small .* for example id=b, whole=8",
            id="a test of its data, with a row",
        ),
        pytest.param(
            {"models/unit.yml": FILES["models/unit.yml"].replace("1.5", "1.25")}, "unit test halves", id="a unit test"
        ),
    ],
)
def test_what_fails_is_told_and_changes_nothing(small: Small, files: dict[str, str], said: str) -> None:
    before = release.newest(small.files)
    small.write(**files)
    try:
        with pytest.raises((BuildFailed, ContractError), match=f"(?s){said}"):
            small.build()
    finally:
        small.write()
        for name in files.keys() - FILES.keys():
            (small.project / name).unlink()
    assert release.newest(small.files) == before
    assert small.left() == (set(), [])


def test_what_dead_builds_left_is_taken_away_and_of_others_nothing(small: Small) -> None:
    glue = clouds.shared().client("glue")
    ids = {
        "dead": ULID.from_datetime(clock.now() - targets_athena.LEFT - timedelta(minutes=1)),
        "alive": ULID.from_datetime(clock.now() - timedelta(minutes=1)),
    }
    names = {word: database(small.clients.aws, "dev", f"build_{str(one).lower()}__gold") for word, one in ids.items()}
    for word, one in ids.items():
        glue.create_database(DatabaseInput={"Name": names[word]})
        glue.create_table(DatabaseName=names[word], TableInput={"Name": "mart"})
        small.files.put_new(f"build/{one}/tables/a", b"1", "tables.data")
    with small.platforms.begin(str(ULID()), []):
        assert len(small.databases()) == 2  # the one that is alive, and this one's own
    assert small.left() == ({names["alive"]}, [f"build/{ids['alive']}/tables/a"])
    small.platforms._sweep(lambda _: True)
    assert small.left() == (set(), [])


def test_a_statement_says_who_must_act(small: Small) -> None:
    query = AthenaQuery(small.clients, f"{small.files.base}results/")
    with pytest.raises(BuildFailed, match=r"Athena refuses a statement: .*nowhere"):
        query.run('select * from "nowhere"."nothing"')
    with pytest.raises(SettingsError, match=r"athena:StartQueryExecution on work group nobodys"):
        AthenaQuery(Clients(replace(small.clients.aws, workgroup="nobodys")), query._results).run("select 1")
    cap = {"State": "CANCELLED", "StateChangeReason": "Bytes scanned limit was exceeded"}
    assert isinstance(failed(cap, "primary"), BuildFailed)
    assert "who owns the work group" in str(failed(cap, "primary"))
    its_own = {"State": "FAILED", "StateChangeReason": "GENERIC_INTERNAL_ERROR", "AthenaError": {"ErrorCategory": 1}}
    assert isinstance(failed(its_own, "primary"), LakeBusy)
    with pytest.raises(SettingsError, match="workgroup"):
        Athena(Clients(replace(small.clients.aws, workgroup="")), "dev", small.files, small.files.base)


LONG = "select count(*) from unnest(sequence(1, 10000)) as a (i) cross join unnest(sequence(1, 10000)) as b (j) cross join unnest(sequence(1, 10000)) as c (k)"


def test_a_statement_that_somebody_cancels_is_run_again(small: Small) -> None:
    athena = clouds.shared().client("athena")
    query = AthenaQuery(small.clients, f"{small.files.base}results/")

    def cancel() -> None:
        while not (found := running(athena)):
            pass
        athena.stop_query_execution(QueryExecutionId=found[0])

    other = threading.Thread(target=cancel)
    other.start()
    with pytest.raises(LakeBusy, match="cancelled"):
        query.run(LONG)
    other.join()


def test_a_statement_ends_with_who_asked_it(small: Small) -> None:
    athena = clouds.shared().client("athena")

    def interrupt() -> None:
        while not running(athena):
            pass
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    other = threading.Thread(target=interrupt)
    other.start()
    with pytest.raises(KeyboardInterrupt):
        AthenaQuery(small.clients, f"{small.files.base}results/").run(LONG)
    other.join()
    until = clock.now() + timedelta(seconds=30)
    while running(athena):
        assert clock.now() < until


def running(athena: object) -> list[str]:
    """The statements that run."""
    ids = athena.list_query_executions()["QueryExecutionIds"]  # type: ignore[attr-defined]
    found = athena.batch_get_query_execution(QueryExecutionIds=ids[:50])["QueryExecutions"]  # type: ignore[attr-defined]
    return [one["QueryExecutionId"] for one in found if one["Status"]["State"] == "RUNNING" and one["Query"] == LONG]
