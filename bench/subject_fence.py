"""Our side of the bench `fence`: one free question again and again, through the fence or in this process."""

import argparse
import statistics
import time
from pathlib import Path

import rounds
from assay.run import lake as lakes
from assay.serve import sql
from assay.serve.fenced import asked

QUERY = "select cost from gold.mart_position where symbol = 'AAPL'"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["within", "without"])
    parser.add_argument("lake", type=Path)
    parser.add_argument("--questions", type=int, default=40)
    told = parser.parse_args()
    begun, took, answer = rounds.begin(), [], []
    with lakes.open(told.lake) as lake:
        t, found = lake.target, lake.released()
        for _ in range(told.questions + 5):
            at = time.perf_counter()
            if told.kind == "within":
                with asked(t.files, found, t.limits, QUERY) as result:
                    answer = [str(row) for row in result.rows]
            else:
                said = sql.answer(t.files, found, t.limits, QUERY, 1000)
                answer = [str(row) for rows in said if isinstance(rows, list) for row in rows]
            took.append(1000 * (time.perf_counter() - at))
    rounds.report(begun, ms=statistics.median(took[5:]), answer=answer)


if __name__ == "__main__":
    main()
