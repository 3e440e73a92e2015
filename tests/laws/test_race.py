"""Law 4: of two that refine at once one decides, and each batch is in once."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from assay import crash
from assay.errors import LakeBusy
from assay.ports import Engine, Fact, Group, Ledger
from assay.refine import Refined
from tests.making import Made, every_type, make, record


class Together:
    """Files of a lake whose first evidence is put by both at the same time."""

    def __init__(self, files: Any, barrier: Barrier) -> None:
        self.files, self.barrier, self.met = files, barrier, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.files, name)

    def put_new(self, name: str, data: bytes | Path, as_effect: str) -> bool:
        if as_effect == "refine.evidence" and not self.met:
            self.met = True
            self.barrier.wait(60)
        return self.files.put_new(name, data, as_effect)


def test_of_two_refines_at_once_one_decides_and_each_batch_is_in_once(tmp_path: Path) -> None:
    contract = every_type()
    first, second = make(tmp_path / "lake"), make(tmp_path / "lake")
    first.land(contract, [record(id=f'"{n}"') for n in range(5)])
    first.land(contract, [record(id=f'"{n}"', whole="8") for n in range(3)], day=2)
    barrier = Barrier(2)

    def refine(made: Made) -> Refined:
        return replace(made, files=Together(made.files, barrier)).refine(contract)

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(refine, [first, second]))
    assert sorted(len(one.evidence) for one in done) == [0, 1]
    assert len(first.versions(contract)) == 8
    assert first.account(contract).sum("accepted") == 8
    first.close()
    second.close()


class Overtaken:
    """An engine; when its first group is done, somebody else refines."""

    def __init__(self, engine: Engine, other: Callable[[], object]) -> None:
        self.engine, self.others = engine, [other]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    @contextmanager
    def group(self, *given: Any) -> Iterator[Group]:
        with self.engine.group(*given) as group:
            yield group
        if self.others:
            self.others.pop()()


def test_who_read_files_that_another_refine_replaced_begins_again(tmp_path: Path) -> None:
    contract = every_type()
    first, second = make(tmp_path / "lake"), make(tmp_path / "lake")
    first.land(contract, [record(id=f'"{n}"') for n in range(5)])
    first.refine(contract)
    first.land(contract, [record(id=f'"{n}"', whole="8") for n in range(3)], day=2)
    late = replace(first, engine=Overtaken(first.engine, lambda: second.refine(contract)))
    assert late.refine(contract).evidence == ()
    assert len(first.versions(contract)) == 8
    first.close()
    second.close()


class Busy:
    """A ledger that is busy once, when it is told of an account."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.busy = ledger, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ledger, name)

    def record(self, facts: Iterable[Fact]) -> list[Fact]:
        facts = list(facts)
        if not self.busy and any(one.kind == "account" for one in facts):
            self.busy = True
            raise LakeBusy("another program holds the ledger")
        return self.ledger.record(facts)


def test_what_was_decided_is_told_though_the_ledger_was_busy_then(tmp_path: Path) -> None:
    contract = every_type()
    made = make(tmp_path / "lake")
    made.land(contract, [record(whole='"x"')] * 30)
    done = replace(made, ledger=Busy(made.ledger)).refine(contract)
    assert [one.number for one in done.evidence] == [1]
    assert len(done.held) == 1
    assert made.account(contract).sum("held") == 30
    made.close()


def test_an_effect_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="no entry"), crash.effect("refine.nameless"):
        pass
