"""`python -m assay_sandbox`: serve the sandbox until it is told to stop."""

import argparse
import os
from datetime import date
from pathlib import Path

from assay_sandbox.data import RECORDS
from assay_sandbox.faults import FaultPlan
from assay_sandbox.server import Plan, Sandbox


def main(arguments: list[str] | None = None) -> None:
    """Parse, print the base URL, serve."""
    parser = argparse.ArgumentParser(prog="python -m assay_sandbox", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--key", action="append", help="an API key that is accepted (sandbox-key)")
    parser.add_argument("--limit", default="750/60", help="requests/seconds permitted for each key (750/60)")
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    parser.add_argument("--fault-rate", type=float, default=0.0, help="share of requests that go wrong (0)")
    parser.add_argument("--records", type=Path, default=RECORDS, help="directory of the record files")
    parser.add_argument("--today", type=date.fromisoformat, help="the vendor's present day (last day of its prices)")
    parser.add_argument("--override", action="append", default=[], metavar="SYMBOL:DATE:FIELD=TOKEN")
    said = parser.parse_args(arguments)
    overrides: dict[tuple[str, str], dict[str, str]] = {}
    try:
        for text in said.override:
            (symbol, day, field), token = text.partition("=")[0].split(":"), text.partition("=")[2]
            overrides.setdefault((symbol, day), {})[field] = token
        requests, _, per = said.limit.partition("/")
        plan = Plan(requests=int(requests), per=float(per))
        sandbox = Sandbox(
            dict.fromkeys(said.key or ["sandbox-key"], plan),
            faults=FaultPlan.seeded(said.seed, said.fault_rate),
            overrides=overrides,
            records_dir=said.records,
            today=said.today,
        )
    except (ValueError, KeyError) as error:
        parser.error(str(error))
    try:
        sandbox.serve_forever(said.port)
    except OSError as error:
        parser.error(
            f"cannot listen on port {said.port} ({os.strerror(error.errno or 0)}); another --port, or 0 for a free one"
        )


if __name__ == "__main__":
    main()
