"""The gate: one batch's counts against one contract, nothing else, to a verdict."""

from collections.abc import Mapping

from assay.contract.model import Contract


def closed(
    contract: Contract,
    captured: int,
    quarantined: int,
    reasons: Mapping[str, int],
    warnings: Mapping[str, int],
) -> tuple[str, ...]:
    """Why the batch must be held: one sentence a limit broken, none if it passes.

    A percentage speaks only from its `min_rows` on; below, bad rows go to quarantine and hold nothing.

    """
    why = []
    gate = contract.gate
    if captured >= gate.min_rows and 100 * quarantined > gate.at_most * captured:
        why.append(f"{quarantined} of {captured} rows are bad: more than {gate.at_most:g} percent")
    for rule in contract.rules:
        broken = reasons.get(rule.name, 0) + warnings.get(rule.name, 0)
        if rule.at_most is not None and captured >= rule.min_rows and 100 * broken > rule.at_most * captured:
            why.append(f"{broken} of {captured} rows break {rule.name}: more than {rule.at_most:g} percent")
    return tuple(why)
