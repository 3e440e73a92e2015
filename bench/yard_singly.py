"""The backfill bench's flow with a task run a window: it fetches and writes as the bare pool does, eight at once.

yard_singly.py BASE OUT SYMBOLS FROM DAYS, in Prefect's environment; SERVER is the server's process.
"""

import json
import os
import sys
from datetime import date, timedelta
from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ThreadPoolTaskRunner

import rounds
from backfill import asked, bare, written
from up import cpu

base, out, symbols, start, number = sys.argv[1:]
fetch = bare(base)


@task(cache_policy=NO_CACHE, persist_result=False)
def land(n: int, window: tuple[str, date]) -> None:
    written(Path(out), n, [fetch(asked(window))])


@flow(task_runner=ThreadPoolTaskRunner(max_workers=8))
def singly(windows: list[tuple[str, date]]) -> None:
    for future in [land.submit(n, one) for n, one in enumerate(windows)]:
        future.result()


if __name__ == "__main__":
    server, begun = cpu([int(os.environ["SERVER"])]), rounds.begin()
    Path(out).mkdir()
    days = [date.fromisoformat(start) + timedelta(days=n) for n in range(int(number))]
    singly([(one, day) for day in days for one in symbols.split(",")])
    print(json.dumps({"cpu": rounds.begin() - begun, "began": server}))
