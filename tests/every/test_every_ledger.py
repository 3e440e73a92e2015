"""What every ledger must do."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay.ports import Fact, Ledger
from assay.targets.local import SqliteLedger

AT = datetime(2024, 1, 1, tzinfo=UTC)
FACTS = st.builds(
    Fact, st.sampled_from(["manifest", "evidence"]), st.sampled_from("abcd"), st.sampled_from(["x", "y"]), st.just(AT),
    st.dictionaries(st.text(max_size=3), st.integers()),
)  # fmt: skip


@pytest.fixture(params=["local"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    found = {"local": lambda: SqliteLedger(tmp_path / "ledger.db")}[request.param]()
    yield found
    found.close()


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(batches=st.lists(st.lists(FACTS, max_size=4), max_size=5))
def test_the_first_of_a_name_stays_and_all_are_found_in_order(tmp_path_factory, batches: list[list[Fact]]) -> None:
    ledger = SqliteLedger(tmp_path_factory.mktemp("ledger") / "l.db")
    model: dict[tuple[str, str], Fact] = {}
    for batch in batches:
        ledger.record(batch)
        for fact in batch:
            model.setdefault((fact.kind, fact.id), fact)
    for kind in ("manifest", "evidence"):
        assert list(ledger.facts(kind)) == [f for (k, _), f in sorted(model.items()) if k == kind]
        for dataset in ("x", "y"):
            assert list(ledger.facts(kind, dataset)) == [
                f for (k, _), f in sorted(model.items()) if k == kind and f.dataset == dataset
            ]
        for name in "abcd":
            assert ledger.fact(kind, name) == model.get((kind, name))
    ledger.close()


def test_nothing_recorded_is_nothing_found(ledger: Ledger) -> None:
    ledger.record([])
    assert list(ledger.facts("manifest")) == []
    assert ledger.fact("manifest", "a") is None


def test_processes_record_at_once_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    SqliteLedger(path).close()
    code = (
        "import sys; from pathlib import Path; from datetime import datetime, UTC\n"
        "from assay.targets.local import SqliteLedger; from assay.ports import Fact\n"
        f"ledger = SqliteLedger(Path({str(path)!r}))\n"
        "for i in range(25): ledger.record([Fact('k', f'{sys.argv[1]}-{i}', 'd', datetime.now(UTC), {})])\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, str(n)]) for n in range(4)]
    assert [p.wait(300) for p in processes] == [0, 0, 0, 0]
    ledger = SqliteLedger(path)
    assert len(list(ledger.facts("k"))) == 100
    ledger.close()
