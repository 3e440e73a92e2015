"""Law 2, 4 and 5 with two machines: clocks an hour apart, one of them stopped for longer than any lease."""

import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import msgspec
import pytest

from assay.lake import bronze
from assay.ports import Files
from assay.run import Lake, prove
from assay.run import lake as lakes
from tests import forked
from tests.laws.fold import log
from tests.laws.fold.oracle import Oracle, Version
from tests.laws.test_silver import PROMISE
from tests.making import Made

SETTINGS = '[lake]\nname = "two"\n[source.files]\nbase_url = "file:files"\norigin = "synthetic"\n'
AHEAD = "3600"  # seconds; a lease is ten minutes
RULES = log.Rules()


def rows(lake: Path, *found: tuple[str, int, int]) -> None:
    """What the source has: sym, day, v."""
    lines = [f"{sym},{day},{v},0,,\n" for sym, day, v in found]
    (lake / "files/rows.csv").write_text("sym,day,v,s,known,note\n" + "".join(lines))


@pytest.fixture(scope="module", autouse=True)
def day() -> Iterator[None]:
    """The same on both machines."""
    with forked.noon():
        yield


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    root = tmp_path / "lake"
    (root / "contracts").mkdir(parents=True)
    (root / "files").mkdir()
    (root / "assay.toml").write_text(SETTINGS)
    text = (
        PROMISE.replace("LIMIT", str(RULES.limit))
        .replace("AT_MOST", "100")
        .replace("WITHDRAWN", "100")
        .replace("LEAST", "1")
    )
    text = text.replace("{property: source, value: fmp}", "{property: source, value: files}")
    (root / "contracts/rows.yaml").write_text(text.replace("{path: rows}", "{path: rows.csv}"))
    rows(root, ("A", 0, 1), ("A", 1, 1), ("B", 0, 1))
    return root


class Machine:
    """A command that waits at an effect until it is let go."""

    def __init__(self, lake: Path, *args: str, at: str, offset: str = "0") -> None:
        self.go = lake.parent / f"go-{time.monotonic_ns()}"
        self.process = forked.assay(
            lake, "--quiet", *args, ASSAY_PAUSE=f"{at}:{self.go}", ASSAY_CLOCK_OFFSET=forked.after_noon(float(offset))
        )
        while not list(lake.parent.glob(f"{self.go.name}.*.waiting")):
            if self.process.poll() is not None:
                with self.process:
                    raise AssertionError(self.process.said())
            time.sleep(0.01)

    def wakes(self) -> forked.Said:
        """Let it go; what it says in the end."""
        self.go.touch()
        return self.process.said()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.__exit__()


def does(lake: Path, *args: str, offset: str = "0") -> forked.Said:
    """A command on one of the machines."""
    with forked.assay(lake, "--quiet", *args, ASSAY_CLOCK_OFFSET=forked.after_noon(float(offset))) as one:
        return one.said()


def read(files: Files) -> tuple[list[log.Entry], dict[int, datetime]]:
    """The log as the oracle takes it, in its order alone; and the entries' times."""
    entries: list[log.Entry] = []
    times = {}
    for entry, _ in bronze.whole(files, "rows"):
        times[entry.position] = entry.captured_at
        if entry.kind == "contract":
            entries.append(log.Contract(entry.position, RULES, entry.everything))
            continue
        batches = []
        for batch in entry.batches:
            said = [msgspec.json.decode(line)["_record"] for line in bronze.lines(files, entry, batch.n)]
            assert batch.start
            assert batch.end
            batches.append(
                log.Batch(
                    batch.shard, (batch.start.toordinal(), batch.end.toordinal() - 1), batch.seen,
                    tuple(log.Row(r["sym"], int(r["day"]), int(r["v"])) for r in said),
                )
            )  # fmt: skip
        entries.append(log.Landed(entry.position, tuple(batches)))
    return entries, times


def proved(root: Path) -> Lake:
    """All proofs there are, and the oracle's rows with the log's times."""
    opened = lakes.open(root)
    t = opened.target
    entries, times = read(t.files)
    assert list(times.values()) == sorted(set(times.values()))
    right = Oracle(False, entries)

    def told(v: Version) -> tuple[Any, ...]:
        at, to = times[v.captured_at], None if v.recorded_to is None else times[v.recorded_to]
        return v.row.sym, v.row.day, v.row.v, *v.place, at, at, to, to

    made = Made(t.settings.data, t.files, t.catalog, t.ledger, t.engine, t.limits)
    columns = "sym, day, v, _position, _n, _seq, captured_at, known_from, known_to, recorded_to"
    found = made.rows(f"SELECT {columns} FROM ({made.select(opened.contract('rows'))})")
    assert Counter(found) == Counter(map(told, [*right.current.values(), *right.past]))
    prove.bronze_objects(opened)
    prove.silver_objects(opened)
    prove.counts(opened)
    prove.rebuild(opened, ["rows"])
    return opened


@pytest.mark.slow
@pytest.mark.parametrize("at", ["land.part", "land.entry"])
@pytest.mark.parametrize(("slow", "fast"), [("0", AHEAD), ("-3600", "0")])
def test_who_slept_while_it_landed_finds_its_windows_taken(lake: Path, at: str, slow: str, fast: str) -> None:
    assert does(lake, "refine", "rows", offset=slow).code == 0  # the contract is in the log
    with Machine(lake, "land", "rows", at=at, offset=slow) as sleeping:
        rows(lake, ("A", 0, 2), ("A", 1, 1))
        awake = does(lake, "apply", "rows", offset=fast)
        assert awake.code == 0, awake
        said = sleeping.wakes()
    assert (said.code, "LakeBusy" in said.err) == (75, True), said
    assert does(lake, "apply", "rows", offset=slow).code == 0
    with proved(lake) as opened:
        found = opened.status()["datasets"]["rows"]
        assert (found["batches"], found["void"], found["accepted"]) == (1, 0, 2)


def test_who_slept_while_it_refined_rolls_forward_and_goes_on(lake: Path) -> None:
    assert does(lake, "land", "rows", offset=AHEAD).code == 0
    with Machine(lake, "refine", "rows", at="refine.evidence") as sleeping:
        rows(lake, ("A", 0, 2), ("A", 1, 1), ("B", 0, 1), ("C", 0, 1))
        for args in (["land", "rows", "--again"], ["refine", "rows"]):
            said = does(lake, *args, offset=AHEAD)
            assert said.code == 0, said
        rows(lake, ("A", 0, 3), ("A", 1, 1))
        again = does(lake, "land", "rows", "--again", offset=AHEAD)
        assert again.code == 0, again
        said = sleeping.wakes()
    assert said.code == 0, said
    with proved(lake) as opened:
        found = opened.status()["datasets"]["rows"]
        assert (found["unjudged"], found["accepted"], found["unchanged"]) == (0, 6, 3)


def test_a_proof_that_slept_while_another_landed_and_refined_names_no_damage(lake: Path) -> None:
    assert does(lake, "apply", "rows").code == 0
    with Machine(lake, "verify", "counts", at="land.ledger") as sleeping:
        rows(lake, ("A", 0, 2), ("C", 0, 1))
        for args in (["land", "rows", "--again"], ["refine", "rows"]):
            assert does(lake, *args).code == 0
        said = sleeping.wakes()
    assert said.code == 0, said
    assert does(lake, "verify", "counts").code == 0


def test_a_clock_that_is_behind_orders_nothing_and_is_told(lake: Path) -> None:
    assert does(lake, "apply", "rows", offset=AHEAD).code == 0
    rows(lake, ("A", 0, 2), ("A", 1, 1))
    behind = does(lake, "land", "rows", "--again")
    assert behind.code == 0, behind
    assert does(lake, "refine", "rows").code == 0
    with proved(lake) as opened:
        clock = opened.status()["datasets"]["rows"]["clock"]
        assert "that clock is behind another lander's" in clock


@pytest.mark.slow
@pytest.mark.parametrize("at", ["refine.past", "refine.current", "tables.metadata"])
def test_two_refines_at_the_same_effect_fold_each_entry_once(lake: Path, at: str) -> None:
    assert does(lake, "apply", "rows").code == 0
    rows(lake, ("A", 0, 2), ("C", 1, 1))
    assert does(lake, "land", "rows", "--again").code == 0
    with Machine(lake, "refine", "rows", at=at) as sleeping:
        awake = does(lake, "refine", "rows", offset=AHEAD)
        assert awake.code == 0, awake
        said = sleeping.wakes()
    assert said.code == 0, said
    with proved(lake) as opened:
        assert opened.status()["datasets"]["rows"]["accepted"] == 5
