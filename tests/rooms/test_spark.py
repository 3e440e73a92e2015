"""Which engine refines: what a contract and a command say, what check refuses, and a job as Glue runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from assay.contract import odcs
from assay.engines import spark
from assay.errors import ContractError
from assay.run import lake as lakes
from assay.run import loop
from tests import sparks
from tests.laws.lakes import new_lake
from tests.making import EVERY_TYPE, every_type, record

ROOT = Path(__file__).parents[2]


def promised(said: str) -> str:
    return EVERY_TYPE + f"  - {{property: engine, value: {said}}}\n"


@pytest.mark.parametrize(
    ("said", "engine"),
    [("duckdb", ("duckdb", 0)), ("spark", ("spark", 0)), ("{name: auto, sparkAbove: 5GB}", ("auto", 5 * 10**9)), ("{name: auto, sparkAbove: 1.5 MiB}", ("auto", 1572864))],
)  # fmt: skip
def test_a_contract_says_its_engine_and_no_fingerprint_has_it(said: str, engine: tuple[str, int]) -> None:
    contract = odcs.parse(promised(said))
    assert contract.engine == engine
    plain = every_type()
    assert plain.engine == ("duckdb", 0)
    for one in ("refine_fingerprint", "gate_fingerprint", "capture_fingerprint"):
        assert getattr(contract, one) == getattr(plain, one)


@pytest.mark.parametrize("said", ["trino", "auto", "{name: auto}", "{name: auto, sparkAbove: 0GB}", "{name: spark, sparkAbove: 5GB}", "{name: auto, sparkAbove: many}", "[spark]"])  # fmt: skip
def test_an_engine_that_is_none_is_refused(said: str) -> None:
    with pytest.raises(ContractError, match=r"contract:\d+: engine: "):
        odcs.parse(promised(said))


def test_a_rule_that_spark_would_judge_otherwise_is_refused_where_spark_may_judge_it(tmp_path: Path) -> None:
    text = promised("{name: auto, sparkAbove: 5GB}").replace('"whole < 1000000"', '"CAST(note AS BIGINT) < 5"')
    with pytest.raises(ContractError, match=r"whole_is_small: the Spark engine cannot judge .*in different ways"):
        spark.bind(odcs.parse(text))
    new_lake(tmp_path, text=text)[0].close()
    settings, contracts, _ = lakes.promises(tmp_path)
    for name, wrong in ((("duckdb", 0), 0), (("spark", 0), 1)):
        found: list[Exception] = []
        object.__setattr__(contracts["things"], "engine", name)
        lakes.judged(tmp_path, settings, contracts, found, gold=False)
        assert len(found) == wrong, found


def test_auto_is_spark_where_more_is_new_than_was_said(tmp_path: Path) -> None:
    lake, made = new_lake(tmp_path, text=promised("{name: auto, sparkAbove: 1KB}"))
    contract = lake.contract("things")
    made.land(contract, [record(id=f'"{n}"') for n in range(30)], day=1)
    assert loop._engine(lake, "things", everything=False) == "spark"
    lake.refine("things", engine="duckdb")
    assert loop._engine(lake, "things", everything=False) == "duckdb"
    made.land(contract, [record(id='"z"')], day=2)
    assert loop._engine(lake, "things", everything=False) == "duckdb"
    assert loop._engine(lake, "things", everything=True) == "spark"
    lake.close()


WITHOUT = """
import sys
sys.modules["pyspark"] = None  # as where it is not installed
from assay.engines import spark
from assay.errors import SettingsError
try:
    spark.opened()
except SettingsError as error:
    print(error)
"""


def test_without_pyspark_it_is_said_what_to_install() -> None:
    said = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True).stdout
    assert "install assay[spark], and Java 17" in said


@pytest.mark.slow
@sparks.WITH_SPARK
def test_a_job_as_glue_starts_it_refines_by_evidence_and_ends_with_the_commands_code(tmp_path: Path) -> None:
    lake, made = new_lake(tmp_path)
    contract = lake.contract("things")
    made.land(
        contract,
        [record(), record(), record(id='"b"', at='"2024-02-29T09:00:00Z"'), record(id='"c"', whole="null"), b"42"],
        day=1,
    )
    made.land(contract, [record(whole="8"), record(id='"d"')], day=2)
    lake.close()
    where = sparks.there()
    assert where
    python = where.parents[2] / "bin/python"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PYTHONPATH": str(ROOT / "src"), "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": str(python)}  # fmt: skip
    glue = [
        "--JOB_NAME",
        "refine",
        "--JOB_RUN_ID",
        "jr_1",
        "--TempDir",
        "s3://none/",
        "--enable-metrics",
        "--job-bookmark-option",
        "job-bookmark-disable",
    ]
    command = [python, "-m", "assay.glue_job", *glue, "--lake", tmp_path, "--dataset", "nothing", "--dataset", "things"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 2, done.stderr  # of the dataset that is not there; the other is refined all the same
    assert "no dataset 'nothing'" in done.stderr
    assert "7 captured = 3 new + 1 changed" in done.stdout, (done.stdout, done.stderr)
    again, _ = new_lake_again(tmp_path)
    assert again.refine("things").told == "nothing new"
    again.close()


def new_lake_again(root: Path):
    from tests.laws.lakes import opened
    from tests.making import make

    settings, _, _ = lakes.promises(root)
    return opened(root, make(settings.data))
