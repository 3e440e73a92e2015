"""A stranger reads `/openapi.json`, asks all it permits and much that it does not, and holds every answer against it."""

import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from assay.contract import odcs
from assay.run.explain import explain
from tests.rooms import serving_lake
from tests.rooms.serving_lake import Table

ROOT = Path(__file__).parents[2]
SCHEMATHESIS = ROOT / ".venvs/schemathesis/bin/schemathesis"
SLOW = 10  # seconds that an answer may take on a loaded machine

# Few columns, of every kind: each of them is six parameters, and each parameter some dozens of requests.
PRICES = """apiVersion: v3.1.0
kind: DataContract
id: price_eod
name: Prices
version: 1.0.0
status: active
schema:
  - name: price_eod
    properties:
      - {name: symbol, logicalType: string, required: true, primaryKey: true, primaryKeyPosition: 1, classification: public}
      - {name: date, logicalType: date, required: true, primaryKey: true, primaryKeyPosition: 2, classification: public}
      - name: close
        logicalType: number
        physicalType: decimal(18,6)
        required: true
        classification: public
        customProperties: [{property: from, value: adjClose}]
    quality:
      - {name: positive, type: custom, engine: assay, implementation: "close > 0"}
customProperties:
  - {property: source, value: fmp}
  - {property: options, value: {path: prices}}
  - {property: every, value: P1D}
  - {property: gate, value: {quarantinedAtMost: 50, unit: percent, minRows: 20}}
"""
GOLD = Table(
    "fct_price",
    """SELECT symbol, date, close, close::DOUBLE / 3 AS third, close > 100 AS high, year(date)::INTEGER AS year, known_from
    FROM silver.price_eod""",
    ("symbol", "date"),
    (("known_from", "known_from"),),
)


@pytest.mark.slow
def test_every_answer_is_as_the_description_says(tmp_path):
    assert SCHEMATHESIS.exists(), "scripts/extras makes the environment .venvs/schemathesis"
    lake = serving_lake.empty(tmp_path)
    lake.contracts = {"price_eod": odcs.parse(PRICES)}
    records = [serving_lake.price("AAA", *one) for one in serving_lake.days(0)]
    lake.land("price_eod", "AAA", records)
    lake.land("price_eod", "AAA", [serving_lake.price("AAA", records_day(), -1.0, 1), *records[1:30]])
    lake.refine()
    lake.release(1, [GOLD])

    def why(*asked):
        return explain(SimpleNamespace(target=lake.local), *asked)

    with serving_lake.serving(lake, why) as url:
        told = subprocess.run(
            [
                SCHEMATHESIS, "run", f"{url}/openapi.json", "--phases", "examples,coverage,fuzzing,stateful", "--checks", "all",
                "--max-response-time", str(SLOW), "--max-examples", "5", "--seed", "7", "--continue-on-failure",
                "--generation-database", "none", "--no-color",
                # its parameters are silver's again, six for each of its columns
                "--exclude-path", "/v1/silver/price_eod_versions",
            ],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
    lake.close()
    assert told.returncode == 0, told.stdout + told.stderr
    for phase in ("Coverage", "Fuzzing", "Stateful"):
        assert re.search(rf"✅ +{phase}\b", told.stdout), told.stdout
    asked = re.search(r"(\d+) generated, (\d+) passed", told.stdout)
    assert asked, told.stdout
    assert int(asked[1]) == int(asked[2]) > 500


def records_day():
    """The first session, whose newer record is rejected."""
    return serving_lake.days(0)[0][0]
