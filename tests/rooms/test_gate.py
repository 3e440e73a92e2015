"""The gate: counts of one batch against one contract, and nothing else."""

import pytest

from assay.contract.model import Contract
from assay.ports import Counted
from assay.refine.gate import closed
from tests.making import every_type

SHARE = (
    "- {name: whole_is_small",
    "- {name: amount_below, type: custom, engine: assay, implementation: amount < 9, severity: warning, "
    "mustBeLessOrEqualTo: 10, unit: percent, customProperties: [{property: minRows, value: 20}]}\n"
    "      - {name: whole_is_small",
)


@pytest.fixture(scope="module")
def contract() -> Contract:
    """At most 50 percent in quarantine from 20 rows on; at most 10 percent that break the warning."""
    return every_type(SHARE)


def test_a_batch_of_two_or_more_without_a_good_row_is_held(contract: Contract) -> None:
    assert closed(contract, Counted(rows=2, quarantined=2)) == ("none of its 2 rows is good",)
    assert closed(contract, Counted(rows=1, quarantined=1)) == ()
    assert closed(contract, Counted(rows=2, good=1, quarantined=1)) == ()
    assert closed(contract, Counted()) == ()


def test_a_percentage_speaks_from_its_min_rows_on_and_beyond_its_limit(contract: Contract) -> None:
    assert closed(contract, Counted(rows=19, good=8, quarantined=11)) == ()
    assert closed(contract, Counted(rows=20, good=10, quarantined=10)) == ()
    assert closed(contract, Counted(rows=20, good=9, quarantined=11)) == (
        "11 of 20 rows are bad: more than 50 percent",
    )


def test_a_rule_has_a_limit_of_its_own_for_warnings_too(contract: Contract) -> None:
    assert closed(contract, Counted(rows=20, good=20, warnings={"amount_below": 2})) == ()
    assert closed(contract, Counted(rows=19, good=19, warnings={"amount_below": 9})) == ()
    assert closed(contract, Counted(rows=20, good=20, warnings={"amount_below": 3})) == (
        "3 of 20 rows break amount_below: more than 10 percent",
    )
