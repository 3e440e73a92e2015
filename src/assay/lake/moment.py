"""Moments in SQL: what a version's two clocks say of a time, as plain predicates."""

from datetime import UTC, datetime

from assay.errors import UsageError


def literal(at: datetime) -> str:
    """A moment as a SQL literal in UTC; UsageError if it does not say its time zone."""
    if at.tzinfo is None:
        raise UsageError(
            f"{at} does not say its time zone, so two machines would read it differently; add one, say UTC"
        )
    return f"TIMESTAMPTZ '{at.astimezone(UTC).strftime('%Y-%m-%d %H:%M:%S.%f')}+00'"


def moment(as_of: datetime | None, recorded_as_of: datetime | None) -> str:
    """The condition that picks, of all versions, those that held at a moment.

    `as_of` is when the public could know them, `recorded_as_of` when the lake had them; with both, what the lake had
    by the second, as the public could know it by the first.
    """
    if as_of is None and recorded_as_of is None:
        return "recorded_to IS NULL"
    if as_of is None or recorded_as_of is None:
        since, until = ("known_from", "known_to") if as_of else ("captured_at", "recorded_to")
        at = literal(as_of or recorded_as_of)  # type: ignore[arg-type]  # one of them is there
        return f"{since} <= {at} AND ({until} IS NULL OR {until} > {at})"
    known, recorded = literal(as_of), literal(recorded_as_of)
    return (
        f"captured_at <= {recorded} AND known_from <= {known} "
        f"AND (known_to IS NULL OR known_to > {known} OR recorded_to > {recorded})"
    )
