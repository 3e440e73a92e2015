"""Measures the Lambda function against the least that answers the same events: CPU of a cold start, of a warm point and page.

    scripts/bench lambda [--rounds 5] [--count 1500] [--itself]

Both sides run in processes of their own with the event in their hands, over the same file in the doubles of AWS, which
`scripts/extras cloudsim` installs. Last line: `lambda ratio R`, the larger of warm point and page over the bare handler's.
"""

import argparse
import os
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import rounds

DOUBLES = rounds.HERE.parent / ".venvs" / "cloudsim" / "bin" / "python"
SETTINGS = '[lake]\nname = "bench"\n[aws]\nregion = "ca-central-1"\naccount = "123456789012"\nbucket = "bench"\n'


@contextmanager
def doubles(directory: Path) -> Iterator[None]:
    if not DOUBLES.exists():
        raise SystemExit("the doubles of AWS are not installed: run scripts/extras cloudsim")
    command = [DOUBLES, "-m", "assay_cloudsim", "up", "--tethered", "--directory", directory]
    environment = os.environ | {"PYTHONPATH": str(rounds.HERE.parent / "cloudsim" / "src")}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdin
        assert process.stdout
        try:
            if not process.stdout.readline():
                raise SystemExit("the doubles of AWS did not start")
            os.environ["ASSAY_CLOUDSIM"] = str(directory / "endpoints.json")
            yield
        finally:
            process.stdin.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=1500)
    parser.add_argument("--limit", type=float, help="exit 1 where the ratio is above")
    parser.add_argument("--itself", action="store_true", help="the bare handler on both sides")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-lambda-") as made:
        root = Path(made)
        (root / "lake").mkdir()
        (root / "lake" / "assay.toml").write_text(SETTINGS)
        os.environ |= {"LAMBDA_TASK_ROOT": made, "ASSAY_ENV": "dev", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769"}
        with doubles(root / "cloud"):
            rounds.run(rounds.subject("lambda"), "prepare", root)
            bare = [rounds.HERE / "yard_lambda_bare.py"]
            sides = {"ours": bare if asked.itself else [rounds.subject("lambda"), "run"], "bare handler": bare}
            ratio = {}
            for kind, count in (("cold", 1), ("point", asked.count), ("page", asked.count)):

                def once(number: int, script: list[Path | str], kind: str = kind, count: int = count) -> rounds.Figures:
                    with tempfile.TemporaryDirectory(dir=root) as work:
                        return rounds.run(*script, root / "told.json", kind, 1000 + number, count, Path(work) / "tmp")

                found = rounds.interleave(
                    {name: partial(once, script=script) for name, script in sides.items()}, asked.rounds
                )
                for number in range(asked.rounds):
                    if len({runs[number]["digest"] for runs in found.values()}) != 1:
                        raise SystemExit(f"{kind}, round {number}: the answers differ")
                key, unit = ("whole", "s") if kind == "cold" else ("warm_ms", "ms")
                print("one answer, whole process" if kind == "cold" else f"{kind}, {count} events, answers equal")
                for name, runs in found.items():
                    print(rounds.line(f"  {name}, CPU", [run[key] for run in runs], unit))
                over = rounds.ratios(found["ours"], found["bare handler"], key)
                print(rounds.line(f"  ours over bare handler, {kind}", over, ""))
                if kind != "cold":
                    ratio[kind] = over
    rounds.close("lambda", max(ratio.values(), key=statistics.median), asked.limit)


if __name__ == "__main__":
    main()
