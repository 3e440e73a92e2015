"""Law 3 to 5: batches are judged alone, any grouping of refines gives the same rows, and nothing goes in twice."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay.lake import bronze, evidence, landing, silver
from assay.lake.bronze import Decision
from assay.lake.evidence import Verdict
from assay.refine import Refined
from assay.run import prove
from tests.laws.lakes import STORES, Where
from tests.making import Landed, Made, every_type, record
from tests.rooms.test_upkeep import lake_of

CONTRACT = every_type(("minRows: 20", "minRows: 3"))
ROW = st.builds(
    lambda key, whole, bad: record(id=f'"{key}"', whole='"abc"' if bad else str(whole)),
    st.sampled_from("abc"), st.integers(0, 3), st.sampled_from([False, False, False, True]),
)  # fmt: skip


@pytest.fixture(params=STORES)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Made]:
    """An empty small lake on each store."""
    lake = request.param(tmp_path / "lake")
    yield lake
    lake.close()


def one(done: Refined) -> Verdict:
    """The only verdict of a refine."""
    [verdict] = done.verdicts
    return verdict


def lines(made: Made, landed: Landed) -> list[bytes]:
    """The lines of a batch as they lie in bronze."""
    return list(bronze.lines(made.files, landed.entry, landed.n))


def kept(made: Made, done: Refined) -> list[evidence.Rejected]:
    """What is in quarantine of a refine."""
    return list(evidence.rejected(made.files, done.evidence[0].quarantine))


@pytest.mark.slow
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.lists(ROW, min_size=0, max_size=5), min_size=1, max_size=4), st.data())
@pytest.mark.parametrize("where", STORES)
def test_grouping_changes_nothing(where: Where, contents: list[list[bytes]], data: st.DataObject) -> None:
    directory = Path(tempfile.mkdtemp())
    each, grouped = where(directory / "each"), where(directory / "grouped")
    try:
        for day, rows in enumerate(contents, 1):
            each.land(CONTRACT, rows, day=day)
            each.refine(CONTRACT)
        for name in each.files.names("bronze/"):  # the same log, to the byte
            grouped.files.put_new(name, each.files.read(name), "land.entry")
        grouped.files.put_new(f"contracts/{CONTRACT.sha256}.yaml", CONTRACT.text.encode(), "land.contract")
        unit = data.draw(st.sampled_from([1, 400, 2**28]))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("assay.refine.UNIT", unit)
            done = grouped.refine(CONTRACT)
        assert grouped.refine(CONTRACT).evidence == ()
        if unit == 2**28:
            assert len(done.evidence) == 1
        assert grouped.versions(CONTRACT) == each.versions(CONTRACT)
        assert grouped.account(CONTRACT).sums == each.account(CONTRACT).sums
        assert grouped.account(CONTRACT).reasons == each.account(CONTRACT).reasons
    finally:
        each.close()
        grouped.close()
        shutil.rmtree(directory)


def test_equal_rows_of_one_batch_are_in_once_and_said_again_they_are_unchanged(made: Made) -> None:
    rows = [record(), record(), record(id='"b"')]
    made.land(CONTRACT, rows)
    first = one(made.refine(CONTRACT))
    assert (first.accepted, first.duplicate, first.unchanged) == (2, 1, 0)
    before = made.versions(CONTRACT)
    assert made.refine(CONTRACT).evidence == ()
    made.land(CONTRACT, rows)
    again = one(made.refine(CONTRACT))
    assert (again.accepted, again.duplicate, again.unchanged) == (0, 1, 2)
    assert made.versions(CONTRACT) == before


def test_a_held_batch_does_not_hinder_its_siblings(made: Made) -> None:
    bad = made.land(CONTRACT, [record(whole="null")] * 4, day=1)
    good = made.land(CONTRACT, [record()], day=2)
    done = made.refine(CONTRACT)
    assert [(v.position, v.n) for v in done.held] == [bad.at]
    assert done.held[0].why == ("none of its 4 rows is good", "4 of 4 rows are bad: more than 50 percent")
    assert done.held[0].held == 4
    assert made.current(CONTRACT, "_position, _n") == [good.at]
    assert not list(made.files.names("quarantine/"))


def test_siblings_of_one_landing_are_judged_alone(made: Made) -> None:
    bad, good = made.land_all(CONTRACT, [("x", 1, [record(whole="null")] * 4), ("y", 1, [record()])])
    done = made.refine(CONTRACT)
    assert [(v.position, v.n, v.state) for v in done.verdicts] == [(*bad.at, "held"), (*good.at, "passed")]
    assert made.current(CONTRACT, "_position, _n") == [good.at]


@pytest.mark.parametrize("bad", [1, 2, 3])
def test_a_landing_of_which_most_is_bad_is_told(made: Made, bad: int) -> None:
    good, none = [record()], [record(whole="null")]
    made.land_all(CONTRACT, [(f"s{n}", n + 1, none if n < bad else good) for n in range(3)])
    made.land(CONTRACT, none, day=9)  # one batch alone is no landing of several
    done = made.refine(CONTRACT)
    said = (
        f"{bad} of 3 batches of landing 2 of things have no good row (whole:required {bad}): did the source change? "
        "`assay quarantine list things` shows the rows"
    )
    assert done.hollow == ([said] if bad > 1 else [])
    assert (done.held, made.refine(CONTRACT).hollow) == ([], [])
    made.promise(CONTRACT, everything=True)
    assert made.refine(CONTRACT).hollow == []


def test_empty_and_held_batches_of_a_landing_are_no_good_ones(made: Made) -> None:
    held, good = [record(whole="null")] * 2, [record()]
    made.land_all(CONTRACT, [("a", 1, held), ("b", 2, good), ("c", 3, []), ("d", 4, [])])
    assert made.refine(CONTRACT).hollow == []
    made.land_all(CONTRACT, [("a", 5, held), ("b", 6, held), ("c", 7, good)])
    assert made.refine(CONTRACT).hollow[0].startswith("2 of 3 batches of landing 3 of things")


def test_a_percentage_is_silent_below_its_min_rows(made: Made) -> None:
    made.land(CONTRACT, [record(whole="null"), record(id='"b"')])
    done = made.refine(CONTRACT)
    assert not done.held
    assert (one(done).quarantined, one(done).accepted) == (1, 1)


def test_two_rows_without_a_good_one_are_held_and_a_single_one_is_not(made: Made) -> None:
    made.land(CONTRACT, [record(whole="null"), record(whole="null", id='"b"')], day=1)
    made.land(CONTRACT, [record(whole="null", id='"c"')], day=2)
    two, single = made.refine(CONTRACT).verdicts
    assert (two.state, two.held, two.why) == ("held", 2, ("none of its 2 rows is good",))
    assert (single.state, single.quarantined) == ("passed", 1)


def test_everything_anew_lets_a_held_batch_in_by_the_new_gate(made: Made) -> None:
    bad = made.land(CONTRACT, [record(), *[record(whole="null", id=f'"{i}"') for i in range(4)]])
    assert made.refine(CONTRACT).held
    wider = every_type(("minRows: 20", "minRows: 3"), ("quarantinedAtMost: 50", "quarantinedAtMost: 90"))
    assert made.refine(wider).verdicts == []  # a gate judges forward from where it was put
    assert [h.place for h in made.account(CONTRACT).open] == [bad.place]
    done = made.refine(wider, everything=True)
    assert [sha256 for _, sha256 in done.evidence[0].contracts] == [wider.sha256]
    assert (one(done).accepted, one(done).quarantined) == (1, 4)
    assert done.evidence[0].began == done.evidence[0].number
    assert not made.account(CONTRACT).held


def test_a_decision_to_rejudge_lets_in_what_is_good_now_and_nothing_else(made: Made) -> None:
    strict = every_type(('"whole < 1000000"', '"whole < 5"'))
    landed = made.land(strict, [record(whole="1"), record(id='"b"', whole="9"), record(id='"c"', whole="null")])
    assert one(made.refine(strict)).quarantined == 2
    assert made.refine(CONTRACT).verdicts == []  # a rule judges forward from where it was put
    assert made.current(CONTRACT, "id, whole") == [("a", 1)]
    again = one(made.decide(CONTRACT, Decision("rejudge", batch=landed.at)))
    assert (again.of, again.was, again.rows, again.accepted, again.quarantined) == (landed.at, "quarantined", 2, 1, 1)
    assert again.freed == {"whole_is_small": 1, "whole:required": 1}
    assert made.account(CONTRACT).reasons == {"whole:required": 1}, "what was let in is in quarantine no more"
    assert made.current(CONTRACT, "id, whole") == [("a", 1), ("b", 9)]
    before = made.versions(CONTRACT)
    again = one(made.decide(CONTRACT, Decision("rejudge", batch=landed.at)))
    assert (again.rows, again.accepted, again.quarantined) == (1, 0, 1)
    assert made.versions(CONTRACT) == before
    found = made.account(CONTRACT)
    assert {t: found.sum(t) for t in ("captured", "accepted", "quarantined")} == {
        "captured": 3, "accepted": 2, "quarantined": 1,
    }  # fmt: skip
    assert found.reasons == {"whole:required": 1}


def test_rows_that_are_rejudged_again_and_again_are_counted_and_listed_once(made: Made) -> None:
    """By contracts that ask less and less: quarantine lists what is in none of silver, and counts say the same."""
    strict = every_type(('"whole < 1000000"', '"whole < 5"'))
    landed = made.land(strict, [record(whole="1"), record(id='"b"', whole="9"), record(id='"c"', whole="99")])
    made.refine(strict)
    wider = every_type(('"whole < 1000000"', '"whole < 50"'))
    warns = every_type(('"whole < 1000000", severity: error', '"whole < 50", severity: warning'))
    for contract, reasons, warnings in ((strict, 2, 0), (wider, 1, 0), (warns, 0, 1)):
        made.refine(contract)
        made.decide(contract, Decision("rejudge", batch=landed.at))
        found, lake = made.account(contract), lake_of(made, contract)
        assert found.reasons == ({"whole_is_small": reasons} if reasons else {})
        assert found.warnings == ({"whole_is_small": warnings} if warnings else {})
        assert len(list(prove.rejected(lake, "things"))) == reasons == found.sum("quarantined")
        prove.counts(lake)


def test_the_rows_of_a_batch_that_stays_held_are_listed_with_what_they_were_last_rejected_for(made: Made) -> None:
    rule = '{name: whole_is_small, type: custom, engine: assay, implementation: "whole < 1000000"'
    small, tiny = (every_type((rule, rule.replace("small", one).replace("1000000", "5"))) for one in ("small", "tiny"))
    held = made.land(small, [record(whole="8"), record(whole="9", id='"b"')])
    assert made.refine(small).held
    made.refine(tiny)
    assert made.decide(tiny, Decision("rejudge", batch=held.at)).held
    [standing] = made.account(tiny).open
    assert standing.reasons == {"whole_is_tiny": 2}
    listed = list(prove.rejected(lake_of(made, tiny), "things"))
    assert [(one["held"], one["reasons"]) for one in listed] == [(True, ["whole_is_tiny"])] * 2


def test_an_answer_without_a_row_withdraws_nothing_until_somebody_decides(made: Made) -> None:
    gate = ("minRows: 20", "minRows: 20, withdrawnAtMost: 100")
    promised = every_type(("value: P1D}", "value: P1D}\n  - {property: complete, value: true}"), gate)
    made.land(promised, [], day=1, scope={})
    assert not one(made.refine(promised)).pending, "there was nothing that it could have withdrawn"
    made.land(promised, [record(), record(id='"b"')], day=2, scope={})
    empty = made.land(promised, [], day=3, scope={})
    assert [(v.pending, v.withdrawn) for v in made.refine(promised).verdicts] == [(False, 0), (True, 0)]
    done = one(made.decide(promised, Decision("withdraw", batch=empty.at)))
    assert (done.pending, done.withdrawn) == (False, 2)
    assert made.current(promised) == []


def test_a_held_batch_is_released_and_takes_effect_at_the_decision(made: Made) -> None:
    held = made.land(CONTRACT, [record(), *[record(whole="null", id=f'"{i}"') for i in range(4)]], day=1)
    made.land(CONTRACT, [record(whole="9"), record(id='"b"')], day=2)
    made.refine(CONTRACT)
    done = one(made.decide(CONTRACT, Decision("release", batch=held.at)))
    # Its key was said anew since: what it says is superseded, and nothing of it goes in before that.
    assert (done.of, done.was, done.superseded, done.quarantined, done.accepted) == (held.at, "held", 1, 4, 0)
    assert made.current(CONTRACT, "id, whole") == [("a", 9), ("b", 7)]
    assert made.account(CONTRACT).sum("held") == 0
    again = made.decide(CONTRACT, Decision("release", batch=held.at))
    assert again.verdicts == []
    assert silver.head(silver.load(made.catalog, "things").current).position == again.evidence[0].position


def test_rows_of_one_batch_that_contradict_each_other_are_all_quarantined(made: Made) -> None:
    rows = [
        record(id='"a"', whole="1"),
        record(id='"b"'),
        record(id='"b"'),
        record(id='"a"', whole="2"),
        record(id='"a"', whole="1"),
    ]
    landed = made.land(CONTRACT, [*rows, record(id='"c"')])
    done = made.refine(CONTRACT)
    verdict = one(done)
    assert (verdict.rows, verdict.accepted, verdict.duplicate, verdict.quarantined) == (6, 2, 1, 3)
    assert verdict.reasons == {"key:conflict": 3}
    assert made.current(CONTRACT, "id") == [("b",), ("c",)]
    found = kept(made, done)
    assert [(r.seq, r.reasons) for r in found] == [(seq, ("key:conflict",)) for seq in (0, 3, 4)]
    assert [r.line for r in found] == [lines(made, landed)[seq] for seq in (0, 3, 4)]


def test_a_key_may_differ_from_batch_to_batch_and_where_a_sequence_tells_the_order(made: Made) -> None:
    for day in (1, 2):
        made.land(CONTRACT, [record(whole=str(day))], day=day)
    assert [v.accepted for v in made.refine(CONTRACT).verdicts] == [1, 1]
    assert made.current(CONTRACT, "whole") == [(2,)]


def test_where_a_sequence_tells_the_order_the_newest_counts_and_a_later_older_one_is_superseded(made: Made) -> None:
    ordered = every_type(
        ("{property: every, value: P1D}", "{property: every, value: P1D}\n  - {property: sequence, value: whole}")
    )
    made.land(ordered, [record(whole="8"), record(whole="9")], day=1)
    made.land(ordered, [record(whole="5")], day=2)
    first, late = made.refine(ordered).verdicts
    assert (first.quarantined, first.accepted + first.superseded) == (0, 2)
    assert (late.accepted, late.superseded) == (0, 1)
    assert made.current(ordered, "whole") == [(9,)]


def test_a_contradiction_is_found_across_the_parts_of_a_large_batch(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landing, "PART", 2_000)
    monkeypatch.setattr(landing, "LARGE", 1_000)
    rows = [record(id=f'"{i}"') for i in range(100)]
    landed = made.land(CONTRACT, [record(id='"x"', whole="1"), *rows, record(id='"7"'), record(id='"x"', whole="2")])
    assert len(landed.entry.parts) > 4
    done = made.refine(CONTRACT)
    verdict = one(done)
    assert (verdict.accepted, verdict.duplicate, verdict.quarantined) == (100, 1, 2)
    assert sorted(r.seq for r in kept(made, done)) == [0, 102]
    assert made.current(CONTRACT, "count(*)") == [(100,)]
