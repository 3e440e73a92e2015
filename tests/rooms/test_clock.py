"""One clock: it never stands still, and nothing else of the package tells the time."""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from assay import clock
from assay.errors import SettingsError

SOURCES = Path(__file__).resolve().parents[2] / "src/assay"
TELLS = re.compile(r"\b(datetime|date)\.(now|utcnow|today)\(|\btime\.(time|time_ns|localtime|gmtime)\(")


def test_no_moment_comes_twice_whichever_thread_asks() -> None:
    with ThreadPoolExecutor(4) as pool:
        each = list(pool.map(lambda _: [clock.now() for _ in range(500)], range(4)))
    assert all(own == sorted(own) for own in each)
    assert len({moment for own in each for moment in own}) == 2_000


def test_a_clock_that_is_set_back_stands_but_for_a_microsecond(monkeypatch: pytest.MonkeyPatch) -> None:
    before = clock.now()
    monkeypatch.setenv("ASSAY_CLOCK_OFFSET", "-3600")
    assert clock.now() - before == timedelta(microseconds=1)


def test_only_the_clock_tells_the_time() -> None:
    found = {path.relative_to(SOURCES).as_posix() for path in SOURCES.rglob("*.py") if TELLS.search(path.read_text())}
    assert found == {"clock.py"}


def test_a_machines_clock_may_be_moved() -> None:
    ask = "from assay import clock; print(clock.now().isoformat())"
    told = subprocess.run(
        [sys.executable, "-c", ask], env=os.environ | {"ASSAY_CLOCK_OFFSET": "-3600"}, capture_output=True, text=True, check=True
    )  # fmt: skip
    assert datetime.now(UTC) - datetime.fromisoformat(told.stdout.strip()) >= timedelta(hours=1)


def test_an_offset_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_CLOCK_OFFSET", "an hour")
    with pytest.raises(SettingsError, match="number of seconds"):
        clock.now()
