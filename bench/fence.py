"""Measures a free point query through the fence against the same in our own process, both warm.

    scripts/bench fence [--rounds 5] [--questions 40] [--itself]

Last line: `fence ratio R`, the median over the rounds of the wall time within over that without.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import rounds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--itself", action="store_true", help="without the fence on both sides")
    parser.add_argument("--limit", type=float, help="exit 1 where the ratio is above")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-fence-") as root:
        lake = Path(root) / "lake"
        assay = [sys.executable, "-c", "from assay.cli import main; main()", "--quiet"]
        subprocess.run([*assay, "init", str(lake)], check=True, stdout=subprocess.DEVNULL)
        subprocess.run([*assay, "--lake", str(lake), "apply"], check=True, stdout=subprocess.DEVNULL)

        def side(kind: str) -> rounds.Figures:
            return rounds.run(rounds.HERE / "subject_fence.py", kind, lake, "--questions", asked.questions)

        found = rounds.interleave(
            {"within": lambda _: side("without" if asked.itself else "within"), "without": lambda _: side("without")},
            asked.rounds,
        )
    if {str(run["answer"]) for runs in found.values() for run in runs} != {str(found["within"][0]["answer"])}:
        raise SystemExit("the answers differ")
    print(f"a point query over one gold table, the median of {asked.questions} after five, wall time")
    for name, runs in found.items():
        print(rounds.line(f"  {name}", [run["ms"] for run in runs], "ms"))
    rounds.close("fence", rounds.ratios(found["within"], found["without"], "ms"), asked.limit)


if __name__ == "__main__":
    main()
