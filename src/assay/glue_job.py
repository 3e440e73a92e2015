"""What a Glue job runs: `assay refine --engine spark` for each dataset it names; where it goes on is said by evidence, not bookmarks.

It imports nothing of AWS Glue's own. Arguments that Glue adds (`--JOB_NAME`, `--TempDir`, `--enable-metrics` …) are not ours.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from assay import cli


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Refine, and exit as the command line does; the first dataset that fails hinders none after it, and its code is the job's."""
    parser = argparse.ArgumentParser(prog="assay.glue_job", allow_abbrev=False)
    parser.add_argument("--lake", required=True, help="the lake's directory")
    parser.add_argument("--target", help="where its data is, as `assay --target`")
    parser.add_argument("--dataset", required=True, action="append", help="what is refined; may be said again")
    parser.add_argument("--engine", default="spark", choices=("duckdb", "spark"))
    parser.add_argument("--env", default="dev", help="which environment of it")
    said, _ = parser.parse_known_args(args)
    target = ["--target", said.target] if said.target else []
    code = 0
    for dataset in said.dataset:
        try:
            cli.main(["--lake", said.lake, "--env", said.env, *target, "refine", dataset, "--engine", said.engine])
        except SystemExit as ended:
            code = code or int(ended.code or 0)
    sys.exit(code)


if __name__ == "__main__":
    main()
