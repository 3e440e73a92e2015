"""Law 4: of two that refine at once one decides, and each batch is in once."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from assay import crash
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


def test_an_effect_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="no entry"), crash.effect("refine.nameless"):
        pass
