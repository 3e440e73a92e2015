"""A process behind the fence ends at its deadline and within its memory, and with whoever asked it."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import pytest

from assay import fence, settings
from assay.errors import LakeBusy, UsageError
from assay.serve import fenced
from tests.conftest import ROOT
from tests.rooms import serving_lake
from tests.rooms.bombs import BOMBS, TAME

MB = 2**20
LATE, ROOM = 1.0, 250 * MB  # what a question may take beside its own time and memory


def ask(work: Path, function: str, *args: Any, timeout: float = 60.0, memory: int = 100 * 10**6) -> list[Any]:
    """All that an act says behind the fence."""
    with fence.asked("tests.rooms.acts", function, *args, timeout=timeout, memory=memory, work=work) as said:
        return list(said)


def below(pid: int) -> Iterator[int]:
    """The processes that a process started, and theirs."""
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                if Path(f"/proc/{child}/comm").read_text() == "java\n":  # Spark's, of a test that ran before
                    continue
                yield child
                yield from below(child)


def figure(pid: int, name: str) -> int:
    """A size that /proc tells of a process, in bytes; 0 if it is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return 0


def gone(pid: int) -> bool:
    """Whether a process has ended, soon."""
    for _ in range(200):
        with suppress(OSError):
            if "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text():
                time.sleep(0.05)
                continue
        return True
    return False


@pytest.mark.parametrize(
    ("text", "size"), [("500MB", 500 * 10**6), ("1.5 GiB", 1536 * MB), ("2KB", 2000), ("1TiB", 2**40)]
)
def test_a_size_is_read_as_the_settings_write_it(text: str, size: int) -> None:
    assert settings.size(text) == size


def test_plain_values_come_as_they_are(tmp_path: Path) -> None:
    said = (
        None, True, 2**100, 1.5, "ü", b"\0", Decimal("1.50"), date(2024, 1, 2), datetime(2024, 1, 2, tzinfo=UTC),
        timedelta(days=3), ("a", [1, {"b": None}]),
    )  # fmt: skip
    assert ask(tmp_path, "values", *said) == list(said)
    with pytest.raises(UnpicklingError, match=r"pathlib\.\w+ is no plain value"):
        ask(tmp_path, "path")


def test_one_process_answers_until_it_ends_and_then_another_does(tmp_path: Path) -> None:
    one = ask(tmp_path, "process")
    assert ask(tmp_path, "process") == one
    assert one != [os.getpid()]
    with pytest.raises(fence.Crashed):
        ask(tmp_path, "leaves")
    assert ask(tmp_path, "process") != one


def test_one_that_grew_gives_its_place_to_another(tmp_path: Path) -> None:
    one = ask(tmp_path, "process")
    ask(tmp_path, "hungry", 90 * MB)
    for _ in range(3):  # and no question is lost
        assert ask(tmp_path, "process") != one


def test_it_has_nothing_of_ours(tmp_path: Path) -> None:
    assert ask(tmp_path, "opens") == [(str(tmp_path), b"", ["HOME"], "/")]
    assert ask(tmp_path, "prints") == [Decimal("1.50")]


def test_its_errors_say_who_must_act_and_its_faults_quote_nothing(tmp_path: Path) -> None:
    with pytest.raises(LakeBusy, match="somebody else holds it"):
        ask(tmp_path, "fails")
    with pytest.raises(fence.Crashed, match=r"KeyError at acts\.py:\d+$"):
        ask(tmp_path, "broken")
    with pytest.raises(fence.Crashed, match="SIGSEGV"):
        ask(tmp_path, "killed", signal.SIGSEGV)
    with pytest.raises(fence.Crashed, match="exit 9"):
        ask(tmp_path, "leaves")
    assert ask(tmp_path, "values", 1) == [1]


@pytest.mark.parametrize("act", ["deaf", "torn", "slow"])
def test_it_is_killed_at_its_deadline_whatever_it_does(tmp_path: Path, act: str) -> None:
    ask(tmp_path, "values")
    begun = time.monotonic()
    with pytest.raises(fence.Late):
        ask(tmp_path, act, *([600.0] if act == "slow" else []), timeout=1.0)
    assert 1.0 <= time.monotonic() - begun < 1.0 + LATE
    assert ask(tmp_path, "values", 1) == [1]


def test_a_process_that_is_stopped_is_late_too(tmp_path: Path) -> None:
    """The kernel's timer does not reach a stopped process; whoever waits kills it."""
    [pid] = ask(tmp_path, "process")
    begun = time.monotonic()
    with pytest.raises(fence.Late):
        ask(tmp_path, "killed", signal.SIGSTOP, timeout=1.0)
    assert time.monotonic() - begun < 1.0 + LATE
    assert gone(pid)


@pytest.mark.parametrize("act", ["hungry", "unbounded"])
def test_it_is_ended_when_its_memory_is_spent(tmp_path: Path, act: str) -> None:
    """By the system, or where that does not bound it, by itself."""
    with peaks() as held, pytest.raises(fence.Spent):
        ask(tmp_path, act, 900 * MB)
    assert max(held.values()) < 100e6 + ROOM
    assert ask(tmp_path, act, 90 * MB) in ([90 * MB], [90])


def test_lists_are_said_in_pieces_and_one_thing_has_a_bound(tmp_path: Path) -> None:
    rows = [(n, "x" * MB) for n in range(20)]
    said = ask(tmp_path, "values", rows, memory=200 * 10**6)
    assert [row for piece in said for row in piece] == rows
    assert len(said) > 1
    with pytest.raises(UsageError, match="one row of the answer is larger than 8 MB"):
        ask(tmp_path, "values", [("x" * 9 * MB,)], memory=200 * 10**6)


ASKS = """
import pathlib, sys
from assay import fence, settings
def ask(act):
    with fence.asked("tests.rooms.acts", act, timeout=60, memory=100 * 10**6, work=pathlib.Path(sys.argv[1])) as said:
        return list(said)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_ends_with_whoever_asked(tmp_path: Path, number: signal.Signals) -> None:
    program = ASKS + "ask('values'); print('asks', flush=True); ask('deaf')"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"asks\n"
        time.sleep(0.3)
        started = list(below(process.pid))
        assert len(started) == 2
        process.send_signal(number)
        process.wait(10)
    assert all(map(gone, started))


def test_what_waits_for_the_next_question_ends_with_us(tmp_path: Path) -> None:
    program = ASKS + "ask('values'); print(*[one.process.pid for one in fence._waiting.values()], *ask('process'))"
    out = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, capture_output=True, check=True, timeout=60
    )
    assert all(gone(int(pid)) for pid in out.stdout.split())


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[serving_lake.Lake]:
    made = serving_lake.build(tmp_path_factory.mktemp("fence"))
    yield made
    made.close()


@contextmanager
def peaks() -> Iterator[dict[int, int]]:
    """The most that each process below this one held in memory while the block runs."""
    found: dict[int, int] = {}
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.01):
            for pid in below(os.getpid()):
                found[pid] = max(found.get(pid, 0), figure(pid, "VmHWM"))

    looks = threading.Thread(target=look)
    looks.start()
    try:
        yield found
    finally:
        over.set()
        looks.join()


@pytest.fixture(scope="module")
def url(lake: serving_lake.Lake) -> Iterator[str]:
    with serving_lake.serving(lake) as url:
        yield url


@pytest.mark.slow
@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS)
def test_what_is_too_much_for_the_engine_ends_in_time_and_within_its_memory(
    lake: serving_lake.Lake, url: str, text: str
) -> None:
    """And the server of the same process answers others meanwhile."""
    t, found = lake.local, lake.reader().release
    limits = replace(t.limits, memory="300MB")

    def asked(text: str, timeout: float) -> None:
        with fenced.asked(t.files, found, limits, text, limit=10**7, timeout=timeout) as told:
            assert told.columns

    asked("select 1", 60)
    others: list[int] = []
    over = threading.Event()

    def look() -> None:
        with serving_lake.client(url) as client:
            while not others or not over.wait(0.05):
                others.append(client.get("/v1/gold/fct_price?limit=3").status_code)

    beside = threading.Thread(target=look)
    begun = time.monotonic()
    with peaks() as held:
        beside.start()
        with (
            pytest.raises(UsageError, match=r"stopped after 2 s|more than \[lake\] memory")
            if text not in TAME
            else nullcontext()
        ):
            asked(text, 2.0)
        took = time.monotonic() - begun
        over.set()
        beside.join()
    assert took < 2.0 + LATE
    assert max(held.values()) < 300e6 + ROOM
    assert set(others) == {200}
    assert not list(t.limits.scratch.iterdir()) if t.limits.scratch else True
