"""The gold of the whole bench: one dbt model over daily prices, the same text on both sides."""

import json
from pathlib import Path

TABLE = "price_eod"
COLUMNS = {"symbol": "varchar", "date": "date", "days": "bigint", "close": "decimal(18,6)", "mean_20": "decimal(18,6)"}
SQL = f"""
with numbered as (
  select symbol, date, close, row_number() over (partition by symbol order by date desc) as back
  from {{{{ source('silver', '{TABLE}') }}}}
)
select
  symbol,
  max(date) as date,
  count(*) as days,
  cast(max(case when back = 1 then close end) as decimal(18, 6)) as close,
  cast(sum(case when back <= 20 then close end) / 20 as decimal(18, 6)) as mean_20
from numbered
group by symbol
"""
READ = f"select {', '.join(COLUMNS)} from gold.mart_price order by symbol"
SCHEMA = "{% macro generate_schema_name(name, node) %}{{ name or target.schema }}{% endmacro %}\n"


def write(root: Path, profile: str, *, source: bool) -> None:
    """The project, with its source of `silver` where nobody else writes it."""
    for folder in ("models", "macros"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    model = {
        "name": "mart_price",
        "description": "The newest price of each symbol, and the mean of its last 20.",
        "config": {
            "meta": {"assay": {"key": ["symbol"], "inputs": [{"table": f"silver.{TABLE}", "where": "symbol = row.symbol"}]}}
        },
        "columns": [
            {
                "name": name, "data_type": kind, "description": name,
                "data_tests": ["not_null", "unique"] if name == "symbol" else ["not_null"],
                "config": {"meta": {"assay": {"classification": "public"}}},
            }
            for name, kind in COLUMNS.items()
        ],
    }  # fmt: skip
    said = {"version": 2, "models": [model]}
    if source:
        said["sources"] = [{"name": "silver", "schema": "silver", "tables": [{"name": TABLE}]}]
    project = {
        "name": "whole",
        "version": "1.0",
        "profile": profile,
        "flags": {"send_anonymous_usage_stats": False},
        "models": {"whole": {"+materialized": "table", "+schema": "gold", "+contract": {"enforced": True}}},
    }
    # JSON is YAML.
    (root / "dbt_project.yml").write_text(json.dumps(project))
    (root / "models/mart_price.yml").write_text(json.dumps(said))
    (root / "models/mart_price.sql").write_text(SQL)
    (root / "macros/schema.sql").write_text(SCHEMA)
