"""dbt-athena as it is on our Athena: seed, tables, merge, view, snapshot, tests and docs, built twice."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests import athenas
from tests.clouds import ROOT, Cloud

pytestmark = pytest.mark.slow

FILES = {
    "dbt_project.yml": "{name: tiny, version: '1.0', profile: tiny, models: {tiny: {+table_type: iceberg, +format: parquet}}}",
    "profiles.yml": """{tiny: {target: athena, outputs: {athena: {type: athena, s3_staging_dir: "s3://athena-tests/dbt-results/",
        s3_data_dir: "s3://athena-tests/dbt/", s3_data_naming: schema_table_unique, region_name: ca-central-1, schema: gold,
        database: awsdatacatalog, threads: 2, num_retries: 0, poll_interval: 0.1}}}}""",
    "seeds/country.csv": "id,name,population,since\n1,Canada,41000000,2020-01-01\n2,France,68000000,2021-06-30\n",
    "models/big.sql": "select id, name, population, cast(since as timestamp(6)) as since from {{ ref('country') }}",
    "models/grown.sql": """{{ config(materialized='incremental', incremental_strategy='merge', unique_key='id') }}
        select id, name, population + {{ var('more', 0) }} as population from {{ ref('big') }}
        {% if is_incremental() %} where id > 1 {% endif %}""",
    "models/shown.sql": "{{ config(materialized='view') }} select id, population / 1000000 as millions from {{ ref('grown') }}",
    "models/flat.sql": "{{ config(table_type='hive') }} select id, name from {{ ref('big') }}",
    "models/schema.yml": """{version: 2, models: [
        {name: big, config: {materialized: table}}, {name: flat, config: {materialized: table}},
        {name: grown, columns: [
            {name: id, data_tests: [unique, not_null, {relationships: {arguments: {to: "ref('big')", field: id}}}]},
            {name: name, data_tests: [{accepted_values: {arguments: {values: [Canada, France]}}}]}]}]}""",
    "snapshots/kept.sql": """{% snapshot kept %}
        {{ config(unique_key='id', strategy='check', check_cols=['population'], table_type='iceberg', target_schema='gold') }}
        select id, name, population from {{ ref('grown') }} {% endsnapshot %}""",
}


def test_dbt_builds_twice_and_tells_its_catalog(cloud: Cloud, tmp_path: Path) -> None:
    athena = athenas.athena(cloud, "gold")
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")} | {
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": cloud.region, "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        **{f"AWS_ENDPOINT_URL_{s.upper()}": cloud.endpoints[s] for s in ("athena", "glue", "s3")}, "AWS_ENDPOINT_URL": cloud.endpoints["s3"],
    }  # fmt: skip

    def dbt(*words: str) -> Any:
        command = [
            str(ROOT / ".venv/bin/dbt"),
            "--no-version-check",
            *words,
            "--profiles-dir",
            ".",
            "--project-dir",
            ".",
        ]
        ran = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert ran.returncode == 0, ran.stdout[-4000:]
        return (
            json.loads((tmp_path / "target/run_results.json").read_text())["results"] if words[0] == "build" else None
        )

    for more in (0, 5):
        results = dbt("build", "--vars", json.dumps({"more": more}))
        assert sorted(r["status"] for r in results) == ["pass"] * 4 + ["success"] * 6
    assert athena.all("SELECT id, population FROM grown ORDER BY id") == [["1", "41000000"], ["2", "68000005"]]
    assert athena.all("SELECT millions FROM shown ORDER BY id") == [["41"], ["68"]]
    kept = athena.all("SELECT id, population, dbt_valid_to IS NULL FROM kept ORDER BY 1, 2")
    assert kept == [["1", "41000000", "true"], ["2", "68000000", "false"], ["2", "68000005", "true"]]
    assert athena.all("SELECT since FROM big ORDER BY id")[0] == ["2020-01-01 00:00:00.000000"]
    assert not [t for (t,) in athena.all("SHOW TABLES IN gold") if t and t.endswith(("__ha", "__bkp", "__dbt_tmp"))]
    dbt("docs", "generate")
    catalog = json.loads((tmp_path / "target/catalog.json").read_text())["nodes"]
    assert {n.split(".")[-1] for n in catalog} == {"big", "country", "flat", "grown", "kept", "shown"}
