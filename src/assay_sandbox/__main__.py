"""`python -m assay_sandbox`: serve the sandbox until it is told to stop."""

import argparse
import os
from collections.abc import Iterable
from datetime import date
from pathlib import Path

from assay_sandbox import wide
from assay_sandbox.data import RECORDS
from assay_sandbox.faults import FaultPlan
from assay_sandbox.server import Plan, Sandbox


def overridden(texts: Iterable[str]) -> dict[tuple[str, str], dict[str, str]]:
    """Overrides as `Sandbox` takes them, from `SYMBOL:DATE:FIELD=TOKEN`; ValueError names the text that is none."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for text in texts:
        place, equals, token = text.partition("=")
        where = place.split(":")
        if len(where) != 3 or not equals:
            raise ValueError(f"{text!r} is not SYMBOL:DATE:FIELD=TOKEN, such as AAPL:2005-02-28:close=50")
        found.setdefault((where[0], where[1]), {})[where[2]] = token
    return found


def rate(text: str) -> Plan:
    """A plan of `REQUESTS/SECONDS`; ValueError if it is none."""
    requests, _, per = text.partition("/")
    try:
        return Plan(requests=int(requests), per=float(per))
    except ValueError:
        raise ValueError(f"--limit {text!r} is not REQUESTS/SECONDS, such as 750/60") from None


def main(arguments: list[str] | None = None) -> None:
    """Parse, print the base URL and the keys, serve."""
    parser = argparse.ArgumentParser(prog="python -m assay_sandbox", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--key", action="append", help="an API key that is accepted (sandbox-key); no secret")
    parser.add_argument("--limit", default="750/60", help="requests/seconds permitted for each key (750/60)")
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    parser.add_argument("--fault-rate", type=float, default=0.0, help="share of requests that go wrong (0)")
    parser.add_argument("--records", type=Path, default=RECORDS, help="directory of the record files")
    parser.add_argument("--wide", type=Path, metavar="WHEEL", help=f"serve the closes in {wide.NAME} too: {wide.FETCH}")
    parser.add_argument("--today", type=date.fromisoformat, help="the vendor's present day (last day of its prices)")
    parser.add_argument(
        "--override", action="append", default=[], metavar="SYMBOL:DATE:FIELD=TOKEN",
        help="a token to serve instead of a record's, such as AAPL:2005-02-28:close=50",
    )  # fmt: skip
    said = parser.parse_args(arguments)
    try:
        sandbox = Sandbox(
            dict.fromkeys(said.key or ["sandbox-key"], rate(said.limit)),
            faults=FaultPlan.seeded(said.seed, said.fault_rate),
            overrides=overridden(said.override),
            records_dir=said.records,
            today=said.today,
            wheel=wide.checked(said.wide) if said.wide else None,
        )
    except (ValueError, KeyError) as error:
        parser.error(str(error))
    try:
        sandbox.serve_forever(said.port)
    except OSError as error:
        parser.error(
            f"cannot listen on port {said.port} ({os.strerror(error.errno or 0)}); choose another, or 0 for a free one"
        )


if __name__ == "__main__":
    main()
