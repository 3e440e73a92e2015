"""A list that shrank: told for as long as the newest answer that counts has fewer rows than the one before it."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from assay.lake import account
from tests.making import Decision, every_type, make, record

WHOLE = every_type()
THEN = [*14 * [""], "refined", "taken out"]
HISTORIES = st.lists(st.tuples(st.integers(1, 60), st.sampled_from(THEN)), min_size=1, max_size=6)
"""How many rows each answer has, and what is done then."""


def shrank(answers: list[tuple[int, str]]) -> int:
    """How often it is told of these answers; whether it is right each time."""
    root, told, counted = Path(tempfile.mkdtemp()), 0, list[int]()
    made = make(root)
    try:
        for rows, then in answers:
            landed = made.land(WHOLE, [record(id=f'"{n}"') for n in range(rows)])
            counted.append(rows)
            if then == "refined":
                made.refine(WHOLE)
            if then == "taken out":
                made.decide(WHOLE, Decision("exclude", landed.at))
                counted.pop()
            found = account.shrank(made.files, made.ledger, WHOLE.dataset)
            expected = tuple(counted[:-3:-1]) if len(counted) > 1 and counted[-1] < counted[-2] else None
            assert (found and (found[0].rows, found[1].rows)) == expected
            told += expected is not None
    finally:
        made.close()
        shutil.rmtree(root)
    return told


def test_answers_that_were_taken_out_hide_no_list_that_shrank() -> None:
    assert shrank([(31, ""), (39, ""), (59, "taken out"), (21, ""), (27, "taken out"), (29, "taken out")]) == 3


@pytest.mark.parametrize("histories", [10, pytest.param(205, marks=pytest.mark.slow)])
def test_a_list_is_told_as_shrunk_where_the_newest_that_counts_is_shorter(histories: int) -> None:
    seen = [0, 0, 0]

    @settings(max_examples=histories, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(HISTORIES)
    def told(answers: list[tuple[int, str]]) -> None:
        seen[2] += shrank(answers)
        seen[:2] = [seen[0] + 1, seen[1] + sum(rows for rows, _ in answers)]

    told()
    assert seen[2]
    assert histories < 200 or (seen[0] >= 200 and seen[1] >= 10_000), seen
