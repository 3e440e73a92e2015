"""Law 4 and 5: any order and any grouping of refines gives the same views; the same batch twice changes nothing."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay.engines import duckdb as duckdb_engine
from assay.lake import bronze
from assay.refine import quarantined
from tests.making import Made, every_type, make, record

CONTRACT = every_type(("minRows: 20", "minRows: 3"))
ROW = st.builds(
    lambda key, whole, bad: record(id=f'"{key}"', whole='"abc"' if bad else str(whole)),
    st.sampled_from("abc"), st.integers(0, 3), st.sampled_from([False, False, False, True]),
)  # fmt: skip


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.lists(ROW, min_size=0, max_size=5), min_size=1, max_size=4), st.data())
def test_order_and_grouping_change_nothing_a_view_shows(contents: list[list[bytes]], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as directory:
        one = make(Path(directory) / "one")
        manifests = [one.land(CONTRACT, rows, day=day) for day, rows in enumerate(contents, 1)]
        for manifest in manifests:
            one.refine(CONTRACT, [manifest])
        other = make(Path(directory) / "other")
        shutil.copytree(one.files.path("bronze"), other.files.path("bronze"))
        late = data.draw(st.permutations(manifests))
        while late:
            size = data.draw(st.integers(1, len(late)))
            group, late = late[:size], late[size:]
            other.refine(CONTRACT, group)
            other.refine(CONTRACT, data.draw(st.permutations(manifests[: data.draw(st.integers(0, len(manifests)))])))
        other.refine(CONTRACT, manifests)
        assert other.versions(CONTRACT) == one.versions(CONTRACT)
        one.close()
        other.close()


def test_the_same_batch_twice_is_in_once(made: Made) -> None:
    manifest = made.land(CONTRACT, [record(), record(), record(id='"b"')])
    done = made.refine(CONTRACT, [manifest])
    assert done.evidence
    assert [(v.accepted, v.duplicate) for v in done.evidence.verdicts] == [(2, 1)]
    before = made.versions(CONTRACT)
    assert made.refine(CONTRACT, [manifest, manifest]).evidence is None
    assert made.versions(CONTRACT) == before


def test_a_held_batch_does_not_hinder_its_siblings(made: Made) -> None:
    bad = made.land(CONTRACT, [record(whole="null")] * 4, day=1)
    good = made.land(CONTRACT, [record()], day=2)
    done = made.refine(CONTRACT, [bad, good])
    assert [v.batch for v in done.held] == [bad.batch]
    assert done.held[0].why == ("4 of 4 rows are bad: more than 50 percent",)
    assert made.current(CONTRACT, '"_batch"') == [(good.batch,)]
    assert not list(made.files.names("quarantine"))


def test_a_percentage_is_silent_below_its_min_rows(made: Made) -> None:
    two = made.land(CONTRACT, [record(whole="null"), record(whole="null", id='"b"')])
    done = made.refine(CONTRACT, [two])
    assert not done.held
    assert done.evidence
    assert done.evidence.verdicts[0].quarantined == 2


def test_regate_lets_a_held_batch_in_and_pins_the_new_contract(made: Made) -> None:
    bad = made.land(CONTRACT, [record(), *[record(whole="null", id=f'"{i}"') for i in range(4)]])
    assert made.refine(CONTRACT, [bad]).held
    assert made.refine(CONTRACT, [bad]).evidence is None
    wider = every_type(("minRows: 20", "minRows: 3"), ("quarantinedAtMost: 50", "quarantinedAtMost: 90"))
    done = made.refine(wider, [bad], regate=True)
    assert done.evidence
    assert done.evidence.contract_sha256 == wider.sha256
    assert [(v.accepted, v.quarantined) for v in done.evidence.verdicts] == [(1, 4)]


def test_replay_appends_only_what_is_good_now(made: Made) -> None:
    strict = every_type(('"whole < 1000000"', '"whole < 5"'))
    manifest = made.land(strict, [record(whole="1"), record(id='"b"', whole="9"), record(id='"c"', whole="null")])
    made.refine(strict, [manifest])
    assert made.replay(strict, [manifest]).evidence is None
    done = made.replay(CONTRACT, [manifest])
    assert done.evidence
    assert [(v.captured, v.accepted, v.quarantined) for v in done.evidence.verdicts] == [(2, 1, 1)]
    assert made.current(CONTRACT, "id, whole") == [("a", 1), ("b", 9)]
    assert [bronze.line(made.files, manifest, 1)[1]] == [2]


def test_rows_of_one_batch_that_contradict_each_other_are_all_quarantined(made: Made) -> None:
    rows = [
        record(id='"a"', whole="1"),
        record(id='"b"'),
        record(id='"b"'),
        record(id='"a"', whole="2"),
        record(id='"a"', whole="1"),
    ]
    manifest = made.land(CONTRACT, [*rows, record(id='"c"')])
    done = made.refine(CONTRACT, [manifest])
    assert done.evidence
    verdict = done.evidence.verdicts[0]
    assert (verdict.captured, verdict.accepted, verdict.duplicate, verdict.quarantined) == (6, 2, 1, 3)
    assert verdict.reasons == {"key:conflict": 3}
    assert made.current(CONTRACT, "id") == [("b",), ("c",)]
    kept = list(quarantined(made.files, verdict))
    assert [(seq, why) for seq, why, _ in kept] == [(seq, ["key:conflict"]) for seq in (0, 3, 4)]
    assert [line for _, _, line in kept] == [bronze.line(made.files, manifest, seq)[2] for seq in (0, 3, 4)]


def test_a_key_may_differ_from_batch_to_batch_and_where_a_sequence_tells_the_order(made: Made) -> None:
    manifests = [made.land(CONTRACT, [record(whole=str(day))], day=day) for day in (1, 2)]
    assert [v.accepted for v in made.refine(CONTRACT, manifests).evidence.verdicts] == [1, 1]
    assert made.current(CONTRACT, "whole") == [(2,)]
    ordered = every_type(
        ("{property: every, value: P1D}", "{property: every, value: P1D}\n  - {property: sequence, value: whole}")
    )
    both = made.land(ordered, [record(whole="9"), record(whole="8")], day=3)
    assert [v.accepted for v in made.refine(ordered, [both]).evidence.verdicts] == [2]
    assert made.current(ordered, "whole") == [(9,)]


def test_a_contradiction_is_found_across_the_groups_of_a_large_batch(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bronze, "PART_BYTES", 2_000)
    monkeypatch.setattr(duckdb_engine, "GROUP_BYTES", 4_000)
    rows = [record(id=f'"{i}"') for i in range(100)]
    manifest = made.land(CONTRACT, [record(id='"x"', whole="1"), *rows, record(id='"7"'), record(id='"x"', whole="2")])
    assert len(manifest.parts) > 4
    verdict = made.refine(CONTRACT, [manifest]).evidence.verdicts[0]
    assert (verdict.accepted, verdict.duplicate, verdict.quarantined) == (100, 1, 2)
    assert [seq for seq, _, _ in quarantined(made.files, verdict)] == [0, 102]
    assert made.current(CONTRACT, "count(*)") == [(100,)]
