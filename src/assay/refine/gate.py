"""The gate: one batch's counts against one contract, nothing else, to a verdict."""

from assay.contract.model import Contract, Rule
from assay.ports import Counted


def closed(contract: Contract, found: Counted) -> tuple[str, ...]:
    """Why the batch must be held: one sentence a limit broken, none if it passes.

    A percentage speaks only from its `min_rows` on. A batch of two rows or more without a good one is held whatever
    the limits; a single bad row goes to quarantine and holds nothing.
    """
    why = []
    gate = contract.gate
    if found.rows >= 2 and not found.good and not found.duplicate:
        why.append(f"none of its {found.rows} rows is good")
    if found.rows >= gate.min_rows and 100 * found.quarantined > gate.at_most * found.rows:
        why.append(f"{found.quarantined} of {found.rows} rows are bad: more than {gate.at_most:g} percent")
    if gate.rows_at_least is not None and found.rows < gate.rows_at_least:
        why.append(f"it has {found.rows} rows: fewer than {gate.rows_at_least}")
    if gate.rows_at_most is not None and found.rows > gate.rows_at_most:
        why.append(f"it has {found.rows} rows: more than {gate.rows_at_most}")
    for rule in contract.rules:
        broken = found.reasons.get(rule.name, 0) + found.warnings.get(rule.name, 0)
        if (
            rule.at_most is not None
            and found.rows >= rule.min_rows
            and _exceeds(rule, rule.at_most, broken, found.rows)
        ):
            most = f"{'not below' if rule.below else 'more than'} {rule.at_most:g} {rule.unit}"
            why.append(f"{broken} of {found.rows} rows break {rule.name}: {most}")
    return tuple(why)


def _exceeds(rule: Rule, at_most: float, broken: int, rows: int) -> bool:
    """Whether so many broken rows of a batch are more than the rule lets pass; a batch without rows breaks nothing."""
    share, most = (broken, at_most) if rule.unit == "rows" else (100 * broken, at_most * rows)
    return broken > 0 and (share >= most if rule.below else share > most)
