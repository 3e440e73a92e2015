"""Numbers and sums as people read them."""

from collections.abc import Mapping

TERMS = ("accepted", "unchanged", "superseded", "duplicate", "quarantined", "held")
ALWAYS = ("accepted", "quarantined", "held")


def some(number: int, one: str) -> str:
    """A number with its noun: 1 step, 2 steps, 2 batches."""
    return f"{number} {one}" if number == 1 else f"{number} {one}{'es' if one.endswith('ch') else 's'}"


def terms(counts: Mapping[str, int], rows: int) -> str:
    """The account in a line: what there is none of is left out, but for the terms people look for."""
    said = " + ".join(f"{counts[t]} {t}" for t in TERMS if counts[t] or t in ALWAYS)
    withdrawn = f"; {counts['withdrawn']} withdrawn" if counts.get("withdrawn") else ""
    return f"{rows} captured = {said}{withdrawn}"
