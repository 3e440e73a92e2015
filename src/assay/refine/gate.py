"""The gate: one batch's counts against one contract, nothing else, to a verdict."""

from assay.contract.model import Contract
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
    for rule in contract.rules:
        broken = found.reasons.get(rule.name, 0) + found.warnings.get(rule.name, 0)
        if rule.at_most is not None and found.rows >= rule.min_rows and 100 * broken > rule.at_most * found.rows:
            why.append(f"{broken} of {found.rows} rows break {rule.name}: more than {rule.at_most:g} percent")
    return tuple(why)
