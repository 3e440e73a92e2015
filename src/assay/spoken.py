"""Numbers and sums as people read them."""

from collections.abc import Mapping

TERMS = ("accepted", "unchanged", "superseded", "duplicate", "quarantined", "held", "erased")
ALWAYS = ("accepted", "quarantined", "held")


def some(number: int, one: str) -> str:
    """A number with its noun: 1 step, 2 steps, 2 batches."""
    return f"{number} {one}" if number == 1 else f"{number} {one}{'es' if one.endswith('ch') else 's'}"


def volume(size: float) -> str:
    """Bytes as people read them.

    >>> volume(1_500_000), volume(20_000_000_000)
    ('1.5 MB', '20.0 GB')
    """
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def changes(counts: Mapping[str, int], rows: int) -> str:
    """What a refine changed, in a line: `terms`, the accepted rows cut into new and changed ones.

    >>> changes({"accepted": 3, "changed": 1, "unchanged": 2, "quarantined": 1, "withdrawn": 1, "pending": 1}, 6)
    '6 captured = 2 new + 1 changed + 2 unchanged + 1 quarantined + 0 held; 1 withdrawn; withdrawals of 1 batch are held'
    """
    of = {"new": counts["accepted"] - counts["changed"], **counts}
    always = ("new", "changed", "unchanged", "quarantined", "held")
    said = " + ".join(f"{of.get(t, 0)} {t}" for t in ("new", "changed", *TERMS[1:]) if of.get(t) or t in always)
    pending = f"; withdrawals of {some(counts['pending'], 'batch')} are held" if counts.get("pending") else ""
    return f"{rows} captured = {said}; {counts['withdrawn']} withdrawn{pending}"


def each(counts: Mapping[str, int]) -> str:
    """Counts by name, in the order they have, such as those of reasons."""
    return ", ".join(f"{name} {n}" for name, n in counts.items())


def terms(counts: Mapping[str, int], rows: int) -> str:
    """The account in a line: what there is none of is left out, but for the terms people look for."""
    said = " + ".join(f"{counts[t]} {t}" for t in TERMS if counts[t] or t in ALWAYS)
    waiting = f" + {counts['waiting']} not judged yet" if counts.get("waiting") else ""
    withdrawn = f"; {counts['withdrawn']} withdrawn" if counts.get("withdrawn") else ""
    return f"{rows} captured = {said}{waiting}{withdrawn}"


def printable(text: str) -> str:
    """Text of others as a part of a line: what would break the line, steer a terminal or turn text around is shown as an escape."""
    return (
        text
        if text.isprintable()
        else "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    )


def is_text(text: str) -> bool:
    """Whether a text is one in UTF-8; an argument of a command may be any bytes.

    >>> is_text("é"), is_text("\\udcff")
    (True, False)
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
